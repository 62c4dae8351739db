//! What is written, checked against itself and against the files it names; each check goes on after a mistake.

mod credentials;
mod queue;
mod roster;
mod server;
mod trust;
mod upstream;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::files::{self, Contents};
use super::mistake::Findings;
use super::settings::{Census, Settings};
use super::written::Written;
use crate::identity::Rule;
use crate::sys::{Clock, WallTime};

/// A certificate that ends within so many days is worth a warning.
const ENDING_SOON_DAYS: i64 = 14;

/// The findings so far, and what checks need to go on.
pub(super) struct Checking<'a> {
    pub(super) findings: Findings,
    file: &'a Path,
    clock: &'a Arc<dyn Clock>,
    now: WallTime,
    /// SHA-256 of each file read, by the key that names it: a reload tells by it what changed.
    digests: BTreeMap<String, String>,
    /// Each file and directory read, or looked for: a change in one is a reason to read anew.
    watched: BTreeSet<PathBuf>,
}

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Secrecy {
    Public,
    /// Not by everybody.
    Secret,
    /// By its owner alone.
    Private,
}

impl<'a> Checking<'a> {
    pub(super) fn new(findings: Findings, file: &'a Path, clock: &'a Arc<dyn Clock>) -> Self {
        Self {
            findings,
            file,
            clock,
            now: clock.now().wall,
            digests: BTreeMap::new(),
            watched: BTreeSet::from([file.to_owned()]),
        }
    }

    /// The checked values; `None` when there is a mistake.
    pub(super) fn settings(&mut self, written: &Written, told: BTreeMap<String, String>) -> Option<Settings> {
        let basics = self.basics(written);
        let listeners = self.listeners(written);
        let tls = self.tls(&written.tls, basics.as_ref().map(|basics| basics.hostname.as_str()));
        let cas = self.client_cas(&written.client_ca);
        let roster = self.roster(written, &cas);
        let credentials = self.credentials_file(written, roster.as_ref().map(|(_, roster)| &**roster));
        let upstreams = self.upstreams(&written.upstream, basics.as_ref().map(|basics| basics.hostname.as_str()));
        let schedule = self.schedule(&written.queue);
        let deadlines = self.deadlines(&written.deadlines);
        let limits = self.limits(written, basics.as_ref());
        let reports = self.reports(&written.reports, basics.as_ref());
        if self.findings.any_mistake() {
            return None;
        }
        let (basics, limits, (trust, roster)) = (basics?, limits?, roster?);
        let census = Census {
            listeners: listeners.len(),
            client_cas: written.client_ca.len(),
            identities: roster.len(),
            upstreams: upstreams.len(),
        };
        Some(Settings {
            file: self.file.to_owned(),
            hostname: basics.hostname.clone(),
            queue: queue::settings(&written.queue, &basics.data_dir),
            data_dir: basics.data_dir,
            shutdown_grace: written.shutdown_grace.0,
            listeners,
            tls: tls?,
            trust,
            roster,
            recheck: written.queue.recheck,
            credentials: Arc::new(credentials?),
            session: limits.session,
            header: limits.header,
            connections: limits.connections,
            deadlines,
            received: server::received(written.received),
            schedule: schedule?,
            upstreams,
            reports: reports?,
            log: server::log(written.log),
            census,
            watched: self.watched.iter().cloned().collect(),
            told: self.told_with_digests(told),
        })
    }

    /// A relative path is relative to the configuration file.
    fn resolve(&self, path: &str) -> PathBuf {
        self.file.parent().unwrap_or_else(|| Path::new("")).join(path)
    }

    /// What must be written; a value that was written wrongly has been told of already.
    fn required<T: Clone>(&mut self, key: &str, value: Option<&T>, remedy: &str) -> Option<T> {
        if value.is_none() && !self.findings.origins().is_spoiled(key) {
            self.findings.mistake(key, "is missing", remedy);
        }
        value.cloned()
    }

    /// Reads a file that a key names.
    fn read(&mut self, key: &str, written: &str, secrecy: Secrecy) -> Option<Contents> {
        let path = self.resolve(written);
        self.watched.insert(path.clone());
        match files::read(&path) {
            Err(wrong) => {
                self.findings.mistake(key, format!("{}: {wrong}", path.display()), ());
                None
            }
            Ok(contents) => {
                self.check_mode(key, &path, &contents, secrecy);
                self.digests.insert(format!("{key} {written}"), digest(&contents));
                Some(contents)
            }
        }
    }

    fn check_mode(&mut self, key: &str, path: &Path, contents: &Contents, secrecy: Secrecy) {
        let (shown, mode) = (path.display(), contents.mode_text());
        if secrecy == Secrecy::Private && contents.is_open_to_others() {
            self.findings.mistake(
                key,
                format!("{shown}: others than its owner may use it (mode {mode})"),
                format!("chmod 600 {shown}"),
            );
        } else if secrecy == Secrecy::Secret && contents.is_readable_by_others() {
            self.findings.mistake(
                key,
                format!("{shown}: everybody may read it (mode {mode})"),
                format!("chmod 640 {shown}"),
            );
        } else if contents.is_writable_by_everybody() {
            self.findings.mistake(
                key,
                format!("{shown}: everybody may write it (mode {mode})"),
                format!("chmod o-w {shown}"),
            );
        }
    }

    /// What a rule is called and where it is written.
    fn rule(&self, path: &str) -> Rule {
        let origins = self.findings.origins();
        Rule { name: origins.spoken(path).into(), place: Some(origins.place(path).to_string().into()) }
    }

    fn told_with_digests(&self, mut told: BTreeMap<String, String>) -> BTreeMap<String, String> {
        for (key, digest) in &self.digests {
            let (key, file) = key.split_once(' ').unwrap_or((key, ""));
            told.insert(format!("{}: content of {file}", self.findings.origins().spoken(key)), digest.clone());
        }
        told
    }
}

fn digest(contents: &Contents) -> String {
    Sha256::digest(contents.octets.as_slice()).iter().map(|octet| format!("{octet:02x}")).collect()
}
