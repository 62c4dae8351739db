//! What is written, checked against itself and against the files it names; each check goes on after a mistake.

mod chain;
mod credentials;
mod dns;
mod header;
mod queue;
mod reach;
mod roster;
mod route;
mod server;
mod fetched;
mod login;
mod trust;
mod upstream;
mod vouched;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use self::trust::Cas;
use super::before::{Before, FaultyPart};
use super::difference::is_content;
use super::files::{self, Contents};
use super::mistake::Findings;
use super::settings::{Census, CrlSource, MadeCas, Settings};
use super::written::Written;
use crate::identity::{Roster, Rule};
use crate::session::Onward;
use crate::sys::{Clock, WallTime};
use crate::tls::Trust;

/// The key of the files of identities.
const IDENTITIES: &str = "identities";

/// Whom the CAs vouch for, and who is known.
type Known = (Arc<Trust>, Arc<Roster>);

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
    /// What is in force, when this is a reload.
    before: Option<Before<'a>>,
    /// Whose CRLs are fetched.
    crl_sources: Vec<Arc<CrlSource>>,
    /// The CAs, and what each was made of.
    made: MadeCas,
    /// The paths of what stays as it was because of what is wrong with its files.
    held_back: Vec<String>,
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
    pub(super) fn new(
        findings: Findings,
        file: &'a Path,
        clock: &'a Arc<dyn Clock>,
        before: Option<Before<'a>>,
    ) -> Self {
        Self {
            findings,
            file,
            clock,
            now: clock.now().wall,
            digests: BTreeMap::new(),
            watched: BTreeSet::from([file.to_owned()]),
            before,
            crl_sources: Vec::new(),
            made: MadeCas::default(),
            held_back: Vec::new(),
        }
    }

    /// What `make` gives. Where its files are wrong, this is a reload of files alone, and there is an old value, that one stays: a part that
    /// is half written must not keep the others (a new CRL of another CA) from counting.
    fn or_as_before<T>(
        &mut self,
        path: &str,
        make: impl FnOnce(&mut Self) -> Option<T>,
        old: impl FnOnce(&Settings) -> Option<T>,
    ) -> Option<T> {
        let found = self.findings.count();
        let made = make(self);
        if !self.findings.any_mistake_since(found) {
            return made;
        }
        let before = self.before.filter(|before| before.faulty == FaultyPart::StaysAsItWas);
        let Some(old) = before.and_then(|before| old(before.settings)) else { return made };
        self.findings.demote_since(found);
        self.held_back.push(path.to_owned());
        Some(old)
    }

    /// Who is known, and by which CAs. Identities are written for the CAs of their time, so neither goes without the other: while the one stays
    /// as it was, so does a change of the other. A new root must not make entries of an old roster, nor an old one entries of a new roster.
    fn held_together(&mut self, written: &Written, cas: &mut Cas, known: Option<Known>) -> Option<Known> {
        let before =
            self.before.filter(|before| before.faulty == FaultyPart::StaysAsItWas).map(|before| before.settings);
        let (trust, roster) = known?;
        let Some(old) = before else { return Some((trust, roster)) };
        let paths = (0..written.client_ca.len()).map(|index| format!("client_ca[{index}]"));
        let (mut held, mut renewed) = (false, Vec::new());
        for path in paths.filter(|path| self.has_new_content(&format!("{path}.certificates"), old)) {
            if self.held_back.contains(&path) { held = true } else { renewed.push(path) }
        }
        if self.held_back.iter().any(|path| path == IDENTITIES) {
            for path in renewed {
                self.keep_ca(&path, written, old, cas);
            }
            return Some((Arc::new(Trust::new(cas.good.clone(), old.trust.pins().clone())), Arc::clone(&old.roster)));
        }
        if held && self.has_new_content(IDENTITIES, old) {
            self.held_back.push(IDENTITIES.to_owned());
            return Some((Arc::new(Trust::new(cas.good.clone(), old.trust.pins().clone())), Arc::clone(&old.roster)));
        }
        Some((trust, roster))
    }

    /// The CA at this path stays as it was, whole.
    fn keep_ca(&mut self, path: &str, written: &Written, old: &Settings, cas: &mut Cas) {
        let name = written.client_ca.iter().enumerate().find(|(index, _)| *path == format!("client_ca[{index}]"));
        let Some(name) = name.and_then(|(_, entry)| entry.name.as_deref()) else { return };
        let Some((recipe, ca)) = old.made.get(name) else { return };
        for one in cas.good.iter_mut().filter(|one| **one.name() == *name) {
            *one = Arc::clone(ca);
        }
        for source in self.crl_sources.iter_mut().filter(|source| **source.ca.name() == *name) {
            *source = Arc::new(CrlSource { ca: Arc::clone(ca), ..CrlSource::clone(source) });
        }
        self.made.insert(name.to_owned(), (recipe.clone(), Arc::clone(ca)));
        self.held_back.push(path.to_owned());
    }

    /// Whether the files of this key, or of its list, are others than those in force, or could not be read.
    fn has_new_content(&self, path: &str, old: &Settings) -> bool {
        let spoken = self.findings.origins().spoken(path);
        let begins = format!("{spoken}: content of ");
        let within = format!("{path}[");
        let now: BTreeMap<String, &String> = self
            .digests
            .iter()
            .filter(|(key, _)| key.starts_with(&within))
            .filter_map(|(key, digest)| Some((format!("{begins}{}", key.split_once(' ')?.1), digest)))
            .collect();
        let then = old.told.iter().filter(|(key, _)| key.starts_with(&begins));
        !then.eq(now.iter().map(|(key, digest)| (key, *digest)))
    }

    /// The checked values; `None` when there is a mistake.
    pub(super) fn settings(&mut self, written: &Written, told: BTreeMap<String, String>) -> Option<Settings> {
        let basics = self.basics(written);
        let listeners = self.listeners(written);
        let hostname = basics.as_ref().map(|basics| basics.hostname.as_str());
        let tls =
            self.or_as_before("tls", |checking| checking.tls(&written.tls, hostname), |old| Some(old.tls.clone()));
        let mut cas = self.client_cas(&written.client_ca, written.data_dir.as_deref());
        let roster = self.or_as_before(
            IDENTITIES,
            |checking| checking.roster(written, &cas),
            |old| {
                let trust = Trust::new(cas.good.clone(), old.trust.pins().clone());
                Some((Arc::new(trust), Arc::clone(&old.roster)))
            },
        );
        let roster = self.held_together(written, &mut cas, roster);
        self.warn_of_nobody_vouched(written, roster.as_ref().map(|(_, roster)| &**roster));
        let credentials = self.or_as_before(
            "credentials",
            |checking| checking.credentials_file(written, roster.as_ref().map(|(_, roster)| &**roster)).map(Arc::new),
            |old| Some(Arc::clone(&old.credentials)),
        );
        let name_servers = self.name_servers(&written.dns);
        let upstreams = self.or_as_before(
            "upstream",
            |checking| {
                let dane = checking.dane_by(&written.dns, &name_servers);
                Some(checking.upstreams(&written.upstream, hostname, &listeners, &name_servers, &dane))
            },
            |old| Some(old.upstreams.clone()),
        );
        let routes = self.routes(written, upstreams.as_deref(), roster.as_ref().map(|(_, roster)| &**roster));
        let schedule = self.schedule(&written.queue);
        let deadlines = self.deadlines(&written.deadlines);
        let limits = self.limits(written, basics.as_ref());
        let reports = self.reports(written, basics.as_ref());
        let reload = self.reload(written.reload);
        if self.findings.any_mistake() {
            return None;
        }
        let (basics, mut limits, (trust, roster), upstreams) = (basics?, limits?, roster?, upstreams?);
        let routes = routes?;
        if routes.upstreams().all(|upstream| upstream.security.proves_the_upstream()) {
            limits.session.promises.onward = Onward::Proved;
        }
        let census = Census {
            listeners: listeners.len(),
            client_cas: written.client_ca.len(),
            identities: roster.len(),
            upstreams: upstreams.len(),
            routes: written.route.len(),
        };
        Some(Settings {
            file: self.file.to_owned(),
            hostname: basics.hostname.clone(),
            queue: queue::settings(&written.queue, &upstreams, &basics.data_dir),
            data_dir: basics.data_dir,
            shutdown_grace: written.shutdown_grace.0,
            listeners,
            tls: tls?,
            trust,
            roster,
            recheck: written.queue.recheck,
            soft_bounce: written.queue.soft_bounce,
            credentials: credentials?,
            session: limits.session,
            header: limits.header,
            connections: limits.connections,
            deadlines,
            received: server::received(written.received),
            schedule: schedule?,
            upstreams,
            routes,
            reports: reports?,
            expiry_notices: written.notices.expiry,
            log: server::log(written.log),
            reload,
            watched: self.watched.iter().cloned().collect(),
            census,
            crl_sources: std::mem::take(&mut self.crl_sources),
            made: std::mem::take(&mut self.made),
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
        match files::read_named(&path) {
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

    /// What stays as it was because of its files, by the names that people use.
    pub(super) fn held_back(&self) -> Vec<String> {
        self.held_back.iter().map(|path| self.findings.origins().spoken(path)).collect()
    }

    fn told_with_digests(&self, mut told: BTreeMap<String, String>) -> BTreeMap<String, String> {
        let content = |key: &str, file: &str| format!("{}: content of {file}", self.findings.origins().spoken(key));
        for (key, digest) in &self.digests {
            let (key, file) = key.split_once(' ').unwrap_or((key, ""));
            told.insert(content(key, file), digest.clone());
        }
        // Of what stays as it was, the files in force are the old ones.
        let Some(before) = self.before else { return told };
        for part in self.held_back() {
            let belongs = |key: &String| key.starts_with(&part) && is_content(key);
            told.retain(|key, _| !belongs(key));
            let old = before.settings.told.iter().filter(|(key, _)| belongs(key));
            told.extend(old.map(|(key, digest)| (key.clone(), digest.clone())));
        }
        told
    }
}

fn digest(contents: &Contents) -> String {
    Sha256::digest(contents.octets.as_slice()).iter().map(|octet| format!("{octet:02x}")).collect()
}
