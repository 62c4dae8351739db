//! A reload: files to a snapshot, beside the runtime, then one swap.
//!
//! Two causes. SIGHUP reads everything, the configuration file too, and refuses the whole when anything is wrong: somebody waits for the answer.
//! A changed file has the files read again under the configuration as it was last taken over; a part whose files are wrong stays as it was, is
//! told of once, and is tried again when it changes and after a while. When nothing has changed, nothing is swapped.
//!
//! Never: two at a time; a configuration in force that `check` would refuse.

use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use super::aside::aside;
use super::build;
use super::stamps::Stamps;
use super::watch::Orders;
use crate::config::{self, Before, CrlSource, FaultyPart, ListenerSettings, Mistake, Settings, Watching};
use crate::house::House;
use crate::snapshot::Snapshot;
use crate::sys::Clock;
use crate::tls::ListenerFault;

/// After so long it is told that a reload is not done yet; again after each such time.
const SLOW: Duration = Duration::from_secs(60);
/// How long after files were found wrong they are tried again; each time twice as long, up to [`RETRY_MOST`].
const RETRY_FIRST: Duration = Duration::from_secs(3);
/// The longest pause between two tries.
const RETRY_MOST: Duration = Duration::from_secs(300);

/// Where the configuration comes from.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) file: PathBuf,
    /// As it was last taken over.
    pub(super) text: Arc<str>,
    pub(super) environment: Vec<(String, String)>,
    pub(super) clock: Arc<dyn Clock>,
}

/// Why files are read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// SIGHUP.
    Asked,
    /// A file has changed, or was wrong some time ago.
    Files,
}

/// What is in force, and how it is renewed.
#[derive(Debug)]
pub(super) struct Reloader {
    source: Source,
    settings: Arc<Settings>,
    /// The findings told last, not to be told again.
    told: Vec<Mistake>,
    /// Until the next try of what was wrong.
    retry: Option<Duration>,
    /// Files were wrong when they were last read, and that was told.
    wrong: bool,
}

/// What a thread made of the files.
struct Read {
    result: Result<Box<Renewed>, Wrong>,
    as_read: Stamps,
}

/// Everything that is to be in force now.
struct Renewed {
    text: Arc<str>,
    settings: Settings,
    snapshot: Snapshot,
    changes: Vec<String>,
    warnings: Vec<Mistake>,
    held_back: Vec<String>,
}

enum Wrong {
    Mistakes(Vec<Mistake>),
    Tls(ListenerFault),
}

impl Reloader {
    pub(super) fn new(source: Source, settings: Settings) -> Self {
        Self { source, settings: Arc::new(settings), told: Vec::new(), retry: None, wrong: false }
    }

    /// What is in force.
    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whose CRLs are to be fetched.
    pub(super) fn crl_sources(&self) -> Arc<[Arc<CrlSource>]> {
        self.settings.crl_sources.clone().into()
    }

    /// What is to be watched after the first reading, which began at `began`.
    pub(super) fn first_orders(&self, began: crate::sys::WallTime) -> Orders {
        let paths = watched(&self.settings);
        Orders {
            as_read: Stamps::default().once_read(&paths, began),
            paths: paths.into(),
            poll: self.settings.reload.poll,
        }
    }

    /// Comes when what was wrong is to be tried again; never when nothing was. Cancel-safe, but each call waits anew.
    pub(super) async fn due(&self) {
        match self.retry {
            Some(wait) => tokio::time::sleep(wait).await,
            None => std::future::pending().await,
        }
    }

    /// Reads the files and swaps the snapshot, or says what is wrong. Dropped half-way it has done nothing. Gives what is to be watched now.
    pub(super) async fn reload(&mut self, cause: Cause, house: &House) -> Orders {
        let (source, old) = (self.source.clone(), Arc::clone(&self.settings));
        let generation = house.snapshot().generation.saturating_add(1);
        let mut reading = pin!(aside("reload", move || read(cause, &source, &old, generation)));
        let read = loop {
            match tokio::time::timeout(SLOW, &mut reading).await {
                Ok(read) => break read,
                Err(_) => {
                    tracing::warn!("the files are still being read; what was read before stays in force meanwhile")
                }
            }
        };
        let Some(Read { result, as_read }) = read else {
            // It panicked, which is logged; the same files would have it panic again at once.
            return self.orders(Stamps::of(&watched(&self.settings)));
        };
        match result {
            Ok(renewed) => self.take_over(cause, *renewed, house),
            Err(wrong) => self.refuse(cause, &wrong),
        }
        self.orders(as_read)
    }

    fn orders(&self, as_read: Stamps) -> Orders {
        Orders { paths: watched(&self.settings).into(), as_read, poll: self.settings.reload.poll }
    }

    fn take_over(&mut self, cause: Cause, renewed: Renewed, house: &House) {
        let Renewed { text, settings, snapshot, changes, warnings, held_back } = renewed;
        self.try_again(!held_back.is_empty());
        if cause == Cause::Asked || self.told != warnings {
            for found in &warnings {
                match found.is_warning() {
                    true => tracing::warn!("{found}"),
                    false => tracing::error!("{found}"),
                }
            }
            if !held_back.is_empty() {
                tracing::error!(
                    parts = held_back.join(", "),
                    "files have changed and are wrong, or not yet whole; these parts stay as they were"
                );
            }
        }
        self.told = warnings;
        if std::mem::replace(&mut self.wrong, !held_back.is_empty()) && held_back.is_empty() {
            tracing::info!("the files that were wrong are good again");
        }
        // Also when only remarks are new: else it would count as changed for ever, and no part could stay as it was.
        self.source.text = text;
        if cause == Cause::Files && changes.is_empty() {
            tracing::debug!("files were touched; what is in them is the same");
            return;
        }
        let generation = snapshot.generation;
        house.courier.configure(&settings.upstreams);
        house.swap(snapshot);
        self.settings = Arc::new(settings);
        let changed =
            if changes.is_empty() { "nothing; files it names were read again".to_owned() } else { changes.join("; ") };
        tracing::info!(generation, changed, cause = cause.word(), "reloaded");
    }

    fn refuse(&mut self, cause: Cause, wrong: &Wrong) {
        // Who asked knows what to do, and asks again; a file may only have been half written.
        self.try_again(cause == Cause::Files);
        self.wrong = true;
        match wrong {
            Wrong::Mistakes(mistakes) => {
                if cause == Cause::Files && self.told == *mistakes {
                    return;
                }
                let (warnings, mistaken): (Vec<_>, Vec<_>) = mistakes.iter().partition(|found| found.is_warning());
                for warning in warnings {
                    tracing::warn!("{warning}");
                }
                for mistake in &mistaken {
                    tracing::error!("{mistake}");
                }
                let count = mistaken.len();
                tracing::error!(mistakes = count, "the new configuration is wrong; the old one stays in force");
                self.told.clone_from(mistakes);
            }
            Wrong::Tls(fault) => {
                tracing::error!(%fault, "the new TLS settings can't be used; the old configuration stays in force");
            }
        }
    }

    fn try_again(&mut self, again: bool) {
        let next = self.retry.map_or(RETRY_FIRST, |last| last.saturating_mul(2).min(RETRY_MOST));
        self.retry = again.then_some(next);
    }
}

impl Cause {
    const fn word(self) -> &'static str {
        match self {
            Self::Asked => "SIGHUP",
            Self::Files => "changed files",
        }
    }
}

/// What is to be watched by these settings.
fn watched(settings: &Settings) -> Vec<PathBuf> {
    match settings.reload.watch {
        Watching::Off => Vec::new(),
        Watching::Files => settings.watched.iter().filter(|path| **path != settings.file).cloned().collect(),
        Watching::All => settings.watched.clone(),
    }
}

/// The part that takes long: everything is read and checked, and a snapshot made of it.
fn read(cause: Cause, source: &Source, old: &Settings, generation: u64) -> Read {
    let began = source.clock.now().wall;
    let before = Stamps::of(&watched(old));
    let result = renew(cause, source, old, generation);
    let paths = watched(result.as_ref().map_or(old, |renewed| &renewed.settings));
    Read { result, as_read: before.once_read(&paths, began) }
}

fn renew(cause: Cause, source: &Source, old: &Settings, generation: u64) -> Result<Box<Renewed>, Wrong> {
    let Source { file, text, environment, clock } = source;
    let anew = cause == Cause::Asked || old.reload.watch == Watching::All;
    let text = if anew { config::read_text(file).map_err(Wrong::Mistakes)?.into() } else { Arc::clone(text) };
    let faulty = if anew && text != source.text || cause == Cause::Asked {
        FaultyPart::IsAMistake
    } else {
        FaultyPart::StaysAsItWas
    };
    let before = Before { settings: old, faulty };
    let loaded = config::reload_text(file, &text, environment, clock, Some(before)).map_err(Wrong::Mistakes)?;
    let mut settings = loaded.settings;
    let changes = config::differences(old, &settings);
    keep_what_is_bound(old, &mut settings);
    if cause == Cause::Files {
        keep_what_is_the_same(&changes, old, &mut settings);
    }
    let snapshot = build::snapshot(&settings, generation, clock).map_err(Wrong::Tls)?;
    let (warnings, held_back) = (loaded.warnings, loaded.held_back);
    Ok(Box::new(Renewed { text, settings, snapshot, changes, warnings, held_back }))
}

/// Sockets are bound at the start, and the data directory is ours until the end: what is changed of these counts from the next start on, and
/// keeps nothing else (a new CRL, say) from counting now.
fn keep_what_is_bound(old: &Settings, new: &mut Settings) {
    let places = |settings: &Settings| -> Vec<_> {
        settings.listeners.iter().map(|listener| (listener.address, listener.mode)).collect()
    };
    if places(old) != places(new) {
        tracing::warn!(
            "the addresses and modes of the listeners change with the next start; the rest is taken over now"
        );
        new.listeners = old.listeners.iter().map(|bound| still_bound(bound, &new.listeners)).collect();
    }
    if old.data_dir != new.data_dir {
        tracing::warn!("data_dir changes with the next start; the rest is taken over now");
        new.data_dir.clone_from(&old.data_dir);
    }
}

/// A listener that stays where it is, with what the new configuration says of it; what that does not name stays as it was.
fn still_bound(bound: &ListenerSettings, new: &[ListenerSettings]) -> ListenerSettings {
    let same = new.iter().find(|listener| listener.address == bound.address && listener.mode == bound.mode);
    same.unwrap_or(bound).clone()
}

/// Upstreams keep their health and their connections when nothing about them has changed. Who asks for a reload gets them anew, with the system's
/// CAs as they are now.
fn keep_what_is_the_same(changes: &[String], old: &Settings, new: &mut Settings) {
    let concerns = |change: &String| change.starts_with("upstream") || change.starts_with("hostname");
    if !changes.iter().any(concerns) {
        new.upstreams.clone_from(&old.upstreams);
    }
}
