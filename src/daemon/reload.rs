//! A reload: files to a snapshot, beside the runtime, then one swap.
//!
//! Two causes. SIGHUP reads everything, the configuration file too, and refuses the whole when anything is wrong: somebody waits for the answer.
//! A changed file has the files read again under the configuration as it was last taken over; a part whose files are wrong stays as it was, is
//! told of (see `telling`), and is tried again when it changes and after a while. So does the configuration file itself, where it is watched:
//! while it is wrong, the others are read under the text in force. When nothing has changed, nothing is swapped.
//!
//! Never: two at a time; a configuration in force that `check` would refuse.

use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use super::aside::aside;
use super::build;
use super::retry::Retry;
use super::stamps::Stamps;
use super::stranded;
use super::telling::{Finding, News, Telling, Weight};
use super::watch::Orders;
use crate::config::{self, Before, CrlSource, FaultyPart, ListenerSettings, Mistake, Settings, Watching};
use crate::house::House;
use crate::snapshot::Snapshot;
use crate::sys::{Clock, Drain};
use crate::tls::{BalancerPins, CrlSetback, ListenerFault, RevocationMode, TakenPins};

/// After so long it is told that a reload is not done yet; again after each such time.
const SLOW: Duration = Duration::from_secs(60);
/// How often it is looked whether an old snapshot is held by nobody any more.
const LET_GO_LOOK: Duration = Duration::from_secs(1);

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
    /// A file has changed.
    Files,
    /// A file was wrong some time ago.
    Again,
}

/// What is in force, and how it is renewed.
#[derive(Debug)]
pub(super) struct Reloader {
    source: Source,
    settings: Arc<Settings>,
    telling: Telling,
    retry: Retry,
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
    found: Vec<Finding>,
    held_back: Vec<String>,
    /// What of it counts from the next start on.
    later: Vec<&'static str>,
}

/// Why nothing can be taken over: everything that was found, at least one that blocks.
struct Wrong(Vec<Finding>);

impl From<Vec<Mistake>> for Wrong {
    fn from(mistakes: Vec<Mistake>) -> Self {
        Self(mistakes.iter().map(Finding::from).collect())
    }
}

impl From<ListenerFault> for Wrong {
    fn from(fault: ListenerFault) -> Self {
        Self(vec![Finding { weight: Weight::Blocks, text: format!("the TLS settings can't be used: {fault}") }])
    }
}

/// What the log calls the configuration file among what stays as it was.
const CONFIGURATION: &str = "the configuration file";

impl Reloader {
    pub(super) fn new(source: Source, settings: Settings) -> Self {
        Self { source, settings: Arc::new(settings), telling: Telling::default(), retry: Retry::default() }
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
        match self.retry.wait() {
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
            // It panicked, or there was no thread, which is logged. Whatever changed still waits, but the same files would have it panic again.
            self.retry.was_wrong(cause);
            let paths = watched(&self.settings);
            let as_read = aside("reload", move || Stamps::of(&paths)).await.unwrap_or_default();
            return self.orders(as_read);
        };
        match result {
            Ok(renewed) => self.take_over(cause, *renewed, house),
            Err(wrong) => self.refuse(cause, &wrong, house),
        }
        self.orders(as_read)
    }

    fn orders(&self, as_read: Stamps) -> Orders {
        Orders { paths: watched(&self.settings).into(), as_read, poll: self.settings.reload.poll }
    }

    fn take_over(&mut self, cause: Cause, renewed: Renewed, house: &House) {
        let Renewed { text, settings, snapshot, changes, found, held_back, later } = renewed;
        if held_back.is_empty() {
            self.retry.is_right()
        } else {
            self.retry.was_wrong(cause)
        }
        let news = self.telling.hear(&found, house.now().mono);
        if news == News::RightAgain {
            tracing::info!("all files are right again, and taken over");
        }
        if news != News::Known || cause == Cause::Asked {
            found.iter().for_each(Finding::tell);
            if !held_back.is_empty() {
                tracing::error!(
                    parts = held_back.join(", "),
                    "files have changed and are wrong, or not yet whole; these parts stay as they were, and a restart would fail"
                );
            }
        }
        // Also when only remarks are new: else it would count as changed for ever, and no part could stay as it was.
        self.source.text = text;
        if cause != Cause::Asked && changes.is_empty() {
            tracing::debug!("files were touched; what is in them is the same");
            return;
        }
        for what in later {
            tracing::warn!("{what} with the next start; the rest is taken over now");
        }
        let generation = snapshot.generation;
        house.courier.configure(&settings.upstreams);
        let old_snapshot = house.swap(snapshot);
        if *old_snapshot.routes != *house.snapshot().routes {
            house.tasks.spawn(
                "mail without a route",
                stranded::tell(
                    house.queue.clone(),
                    Arc::clone(&house.snapshot().routes),
                    stranded::Moment::Reload,
                    house.now().wall,
                    house.tasks.drain(),
                ),
            );
        }
        let old_settings = std::mem::replace(&mut self.settings, Arc::new(settings));
        tell_setbacks(&old_settings, &self.settings);
        house.tasks.spawn("old snapshot", let_go(old_snapshot, old_settings, house.tasks.drain()));
        let changed =
            if changes.is_empty() { "nothing; files it names were read again".to_owned() } else { changes.join("; ") };
        tracing::info!(generation, changed, cause = cause.word(), "reloaded");
    }

    fn refuse(&mut self, cause: Cause, Wrong(found): &Wrong, house: &House) {
        match cause {
            // Who asked knows what to do, and asks again. What waited before goes on waiting.
            Cause::Asked => {}
            Cause::Files | Cause::Again => {
                self.retry.was_wrong(cause);
                if self.telling.hear(found, house.now().mono) == News::Known {
                    return;
                }
            }
        }
        found.iter().for_each(Finding::tell);
        let mistakes = found.iter().filter(|one| one.weight == Weight::Blocks).count();
        tracing::error!(mistakes, "the new configuration is wrong; the old one stays in force");
    }
}

/// Says where a CRL went back in time, by a backup say, or was put in another's place. It counts all the same: whoever keeps the files decides.
fn tell_setbacks(old: &Settings, new: &Settings) {
    for ca in new.trust.cas() {
        let Some(before) = old.trust.cas().iter().find(|before| before.name() == ca.name()) else { continue };
        for CrlSetback { issuer, scope, place, was, now } in ca.crl_setbacks(before) {
            let (ca_name, scope, was) = (ca.name(), scope.as_deref().unwrap_or("all"), was.rfc3339());
            match (now, ca.revocation()) {
                (Some((older, is)), _) => tracing::warn!(
                    ca = %ca_name, issuer, covers = scope, place = older, was, is = is.rfc3339(),
                    "a CRL is older than the one whose place it took: who was revoked in between is let in again; put the newest there"
                ),
                (None, RevocationMode::Require) => tracing::error!(
                    ca = %ca_name, issuer, covers = scope, place, was,
                    "a CRL is gone, and none stands for it: whom it covered is put off with 421 until there is one again"
                ),
                (None, RevocationMode::IfAvailable | RevocationMode::Off) => tracing::error!(
                    ca = %ca_name, issuer, covers = scope, place, was,
                    "a CRL is gone, and none stands for it: whoever was on it is let in again (revocation = \"if-available\")"
                ),
            }
        }
    }
}

/// Drops what was in force once nobody else holds it, beside the runtime: a roster of a million entries takes a second to be freed.
async fn let_go(snapshot: Arc<Snapshot>, settings: Arc<Settings>, mut drain: Drain) {
    while Arc::strong_count(&snapshot) > 1 && !drain.begun() {
        tokio::select! {
            () = tokio::time::sleep(LET_GO_LOOK) => {}
            () = drain.wait() => {}
        }
    }
    drop(tokio::task::spawn_blocking(move || drop((snapshot, settings))));
}

impl Cause {
    const fn word(self) -> &'static str {
        match self {
            Self::Asked => "SIGHUP",
            Self::Files => "changed files",
            Self::Again => "changed files",
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
    let under = |text: Arc<str>, faulty| renew_under(text, faulty, source, old, generation);
    let in_force = || under(Arc::clone(&source.text), FaultyPart::StaysAsItWas);
    match (cause, old.reload.watch) {
        (Cause::Asked, _) => under(config::read_text(&source.file)?.into(), FaultyPart::IsAMistake),
        (Cause::Files | Cause::Again, Watching::Files | Watching::Off) => in_force(),
        (Cause::Files | Cause::Again, Watching::All) => {
            let new = match config::read_text(&source.file) {
                Ok(text) if *text == *source.text => return in_force(),
                Ok(text) => under(text.into(), FaultyPart::IsAMistake),
                Err(mistakes) => Err(mistakes.into()),
            };
            new.or_else(|wrong| without_the_text(wrong, in_force()))
        }
    }
}

/// The text is wrong, so it waits; the files that are watched besides (a new CRL, say) must not wait with it.
fn without_the_text(wrong: Wrong, in_force: Result<Box<Renewed>, Wrong>) -> Result<Box<Renewed>, Wrong> {
    let Wrong(mut found) = wrong;
    let mut add = |more: Vec<Finding>| {
        let new: Vec<Finding> = more.into_iter().filter(|one| !found.contains(one)).collect();
        found.extend(new);
    };
    match in_force {
        Ok(mut renewed) => {
            add(std::mem::take(&mut renewed.found));
            renewed.found = found;
            renewed.held_back.insert(0, CONFIGURATION.to_owned());
            Ok(renewed)
        }
        Err(Wrong(more)) => {
            add(more);
            Err(Wrong(found))
        }
    }
}

fn renew_under(
    text: Arc<str>,
    faulty: FaultyPart,
    source: &Source,
    old: &Settings,
    generation: u64,
) -> Result<Box<Renewed>, Wrong> {
    let Source { file, environment, clock, .. } = source;
    let before = Before { settings: old, faulty };
    let loaded = config::reload_text(file, &text, environment, clock, Some(before))?;
    let mut settings = loaded.settings;
    let changes = config::differences(old, &settings);
    let later = keep_what_is_bound(old, &mut settings);
    let snapshot = build::snapshot(&settings, generation, clock)?;
    let found = loaded.warnings.iter().map(Finding::from).collect();
    Ok(Box::new(Renewed { text, settings, snapshot, changes, found, held_back: loaded.held_back, later }))
}

/// Sockets are bound at the start, and the data directory is ours until the end: what is changed of these counts from the next start on, and
/// keeps nothing else (a new CRL, say) from counting now. Says what is left for the next start.
fn keep_what_is_bound(old: &Settings, new: &mut Settings) -> Vec<&'static str> {
    let places = |settings: &Settings| -> Vec<_> {
        settings.listeners.iter().map(|listener| (listener.address, listener.mode)).collect()
    };
    let mut later = Vec::new();
    if places(old) != places(new) {
        later.push("the addresses and modes of the listeners change");
        new.listeners = old.listeners.iter().map(|bound| still_bound(bound, old, new)).collect();
    }
    if old.data_dir != new.data_dir {
        later.push("data_dir changes");
        new.data_dir.clone_from(&old.data_dir);
    }
    later
}

/// A listener that stays where it is, with what the new configuration says of it. One that is not in it any more stays as it was: CAs of names that it
/// did not take count there no more than pins that are others now, for neither configuration says so. A CA of a name that it took counts as it is now,
/// new roots and new people below it included: what is trusted is renewed under its name. A load balancer's word counts there no more: it was pinned for
/// that listener, and is taken away with it.
fn still_bound(bound: &ListenerSettings, old: &Settings, new: &Settings) -> ListenerSettings {
    let is_same = |listener: &&ListenerSettings| listener.address == bound.address && listener.mode == bound.mode;
    if let Some(listener) = new.listeners.iter().find(is_same) {
        return listener.clone();
    }
    let trusted = || old.trust.cas().iter().map(|ca| Arc::clone(ca.name())).collect();
    let same_pins = old.trust.pins() == new.trust.pins();
    ListenerSettings {
        client_cas: Some(bound.client_cas.clone().unwrap_or_else(trusted)),
        pins: if same_pins { bound.pins } else { TakenPins::None },
        vouchers: BalancerPins::default(),
        ..bound.clone()
    }
}
