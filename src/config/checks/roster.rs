//! Identities: whom the roster knows, and what never can apply.
//!
//! They come from the configuration's own tables, from files of the same tables, and from files of lines (`files`, `lines`); all go into one
//! [`RosterBuilder`]. What the roster finds wrong is told at the line of the key, in whichever file it stands.

mod files;
mod keys;
mod lines;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::Checking;
use super::trust::{Cas, dispatch, leeway, second_factor};
use crate::config::mistake::{Gravity, Place};
use crate::config::origin::Origins;
use crate::config::units::size_text;
use crate::config::written::{Written, WrittenBareLf, WrittenIdentity, WrittenMatch, WrittenServerLimits};
use crate::identity::pattern::{ListPurpose, PatternList};
use crate::identity::roster::{EntryState, RosterBuilder, RosterEntry, RosterMistake};
use crate::identity::{Roster, Rule};
use crate::tls::Trust;

/// What is known of the entries while they are gathered.
struct Gathering {
    builder: RosterBuilder,
    names: HashSet<String>,
    /// Where each table is written.
    spots: HashMap<Rule, Spot>,
    /// The places of the keys of other files than the configuration.
    files: Vec<Origins>,
    /// The CAs that entries name.
    named_cas: HashSet<Arc<str>>,
    /// Whether an entry names none.
    names_no_ca: bool,
    /// How many entries are written.
    entries: usize,
}

/// A table, by its path.
struct Spot {
    /// None: the configuration's own file.
    file: Option<usize>,
    path: String,
    /// Its name is another's, which has been told of.
    twice: bool,
}

impl Gathering {
    fn note_ca(&mut self, ca: Option<&Arc<str>>) {
        self.entries = self.entries.saturating_add(1);
        match ca {
            Some(ca) if self.named_cas.contains(ca) => {}
            Some(ca) => drop(self.named_cas.insert(Arc::clone(ca))),
            None => self.names_no_ca = true,
        }
    }
}

impl Checking<'_> {
    pub(super) fn roster(&mut self, written: &Written, cas: &Cas) -> Option<(Arc<Trust>, Arc<Roster>)> {
        let mut gathering = Gathering {
            builder: RosterBuilder::new(cas.grants.clone()),
            names: HashSet::new(),
            spots: HashMap::new(),
            files: Vec::new(),
            named_cas: HashSet::new(),
            names_no_ca: false,
            entries: 0,
        };
        for path in (0..written.client_ca.len()).map(|index| format!("client_ca[{index}]")) {
            gathering.spots.insert(self.rule(&path), Spot { file: None, path, twice: false });
        }
        self.gather(&written.identity, None, cas, &written.limits, &mut gathering);
        for (index, named) in written.identities.iter().enumerate() {
            self.identity_files(&format!("identities[{index}]"), named, cas, &written.limits, &mut gathering);
        }
        self.somebody_can_send(written, cas, &gathering);
        self.warn_of_idle_cas(written, &gathering);
        let Gathering { builder, spots, files, .. } = gathering;
        match builder.finish() {
            Err(mistakes) => {
                for mistake in mistakes {
                    self.tell_roster(Gravity::Mistake, mistake, &spots, &files);
                }
                None
            }
            Ok(roster) => {
                for doubt in roster.lint() {
                    self.tell_roster(Gravity::Warning, doubt, &spots, &files);
                }
                let trust = Trust::new(cas.good.clone(), roster.pins());
                Some((Arc::new(trust), Arc::new(roster)))
            }
        }
    }

    /// Takes the tables of one file: the configuration's own, or the one that `self.findings` is of.
    fn gather(
        &mut self,
        tables: &[WrittenIdentity],
        file: Option<usize>,
        cas: &Cas,
        server: &WrittenServerLimits,
        gathering: &mut Gathering,
    ) {
        for (index, entry) in tables.iter().enumerate() {
            let path = format!("identity[{index}]");
            let twice = entry.name.as_ref().is_some_and(|name| gathering.names.contains(name));
            let name = self.unique_name(&path, entry.name.as_ref(), &mut gathering.names);
            self.check_name(&path, name.as_deref(), cas);
            self.warn_of_larger_limits(&path, entry, server);
            let ca = entry.matches.as_ref().and_then(|keys| keys.ca.as_deref());
            gathering.note_ca(ca.map(Arc::from).as_ref());
            if let Some(entry) = self.entry(&path, entry, name.as_deref(), cas) {
                gathering.spots.insert(entry.rule.clone(), Spot { file, path, twice });
                gathering.builder.put(entry);
            }
        }
    }

    fn tell_roster(&mut self, gravity: Gravity, found: RosterMistake, spots: &HashMap<Rule, Spot>, files: &[Origins]) {
        let RosterMistake { rule, sentence } = found;
        let Some(spot) = spots.get(&rule) else {
            self.findings.tell(gravity, line_of(&rule), rule.name.to_string(), sentence, ());
            return;
        };
        if spot.twice && sentence.contains("is taken by") {
            return;
        }
        let (key, sentence) = key_within(&spot.path, &sentence);
        let origins = spot.file.and_then(|file| files.get(file)).unwrap_or(self.findings.origins());
        let (place, spoken) = (origins.place(&key), origins.spoken(&key));
        self.findings.tell(gravity, place, spoken, sentence.to_owned(), ());
    }

    /// Certificates that are named by themselves are called `ca:address`: nobody else may be.
    fn check_name(&mut self, path: &str, name: Option<&str>, cas: &Cas) {
        let Some((ca, _)) = name.and_then(|name| name.split_once(':')) else { return };
        if cas.names.contains(ca) {
            let wrong = format!(
                "begins with the name of a client_ca and a colon, as certificates of {ca:?} are called in the log"
            );
            self.findings.mistake(&format!("{path}.name"), wrong, "write another name");
        }
    }

    /// A limit over the server's own never applies.
    fn warn_of_larger_limits(&mut self, path: &str, entry: &WrittenIdentity, server: &WrittenServerLimits) {
        let most = server.message_size.0;
        if entry.limits.message_size.is_some_and(|size| size.0 > most) {
            let wrong = format!("never applies: limits.message_size of the server is {}", size_text(most));
            self.findings.warning(&format!("{path}.limits.message_size"), wrong, ());
        }
        let most = server.recipients_per_transaction;
        if entry.limits.recipients_per_message.is_some_and(|number| number > most) {
            let wrong = format!("never applies: limits.recipients_per_transaction of the server is {most}");
            self.findings.warning(&format!("{path}.limits.recipients_per_message"), wrong, ());
        }
    }

    fn somebody_can_send(&mut self, written: &Written, cas: &Cas, gathering: &Gathering) {
        let nobody = written.client_ca.is_empty() && gathering.entries == 0 && written.identities.is_empty();
        let spoiled = ["client_ca", "identity"].iter().any(|list| self.findings.origins().is_spoiled(list));
        if nobody && !spoiled {
            self.findings.mistake(
                "client_ca",
                "is missing: no certificate would be trusted",
                "write [[client_ca]] with name and certificates",
            );
        } else if gathering.entries == 0
            && !cas.grants.is_empty()
            && cas.grants.iter().all(|ca| ca.send_as_email.is_none())
        {
            let remedy = "write send_as_email = true, or an [[identity]]";
            self.findings.warning("client_ca", "no certificate stands for anybody: nobody can send", remedy);
        }
    }

    /// A CA by which nobody is named.
    fn warn_of_idle_cas(&mut self, written: &Written, gathering: &Gathering) {
        let only = written.client_ca.len() == 1;
        for (index, ca) in written.client_ca.iter().enumerate() {
            let named = ca.name.as_deref().is_some_and(|name| gathering.named_cas.contains(name))
                || (only && gathering.names_no_ca);
            if !ca.send_as_email && !ca.send_as_upn && gathering.entries > 0 && !named {
                let wrong =
                    "never applies: no [[identity]] names it, and neither send_as_email nor send_as_upn is true";
                self.findings.warning(&format!("client_ca[{index}]"), wrong, ());
            }
        }
    }

    fn entry(&mut self, path: &str, written: &WrittenIdentity, name: Option<&str>, cas: &Cas) -> Option<RosterEntry> {
        let keys = self.required(
            &format!("{path}.match"),
            written.matches.as_ref(),
            "write match = { ca = \"...\", email = \"...\" }",
        );
        let keys = keys.and_then(|keys| self.match_keys(&format!("{path}.match"), &keys, cas));
        let send_as = self.granted(&format!("{path}.send_as"), written.send_as.as_deref(), ListPurpose::SendAs);
        let send_to = self.granted(&format!("{path}.send_to"), written.send_to.as_deref(), ListPurpose::SendTo);
        let limits = self.identity_limits(&format!("{path}.limits"), written.limits);
        self.check_pin_ignores_expiry(path, written);
        Some(RosterEntry {
            name: name?.into(),
            second_factor: written.second_factor.map(second_factor),
            keys: keys?,
            pin_ignores_expiry: written.pin_ignores_expiry,
            state: if written.disabled { EntryState::Disabled } else { EntryState::Enabled },
            send_as,
            send_to,
            limits,
            dispatch: dispatch(written.hold),
            null_sender: written.null_sender.unwrap_or(true),
            leeway: leeway(written.resend, written.bare_lf == WrittenBareLf::Normalize, written.accept_vouched),
            rule: self.rule(path),
        })
    }

    /// Under a CA the certificate's end is the CA's word.
    fn check_pin_ignores_expiry(&mut self, path: &str, written: &WrittenIdentity) {
        let pinned = |keys: &WrittenMatch| keys.ca.is_none() && (keys.fingerprint.is_some() || keys.spki.is_some());
        if written.pin_ignores_expiry && !written.matches.as_ref().is_some_and(pinned) {
            self.findings.mistake(
                &format!("{path}.pin_ignores_expiry"),
                "only a pinned certificate may outlive its end",
                "match it by fingerprint or spki, without ca",
            );
        }
    }

    /// An unwritten list grants nothing; a list with a mistake stands for one in what follows, so that the mistake is told once.
    pub(super) fn granted(&mut self, key: &str, written: Option<&[String]>, purpose: ListPurpose) -> PatternList {
        let stand_in = || PatternList::read(["*"], purpose).unwrap_or_default();
        match written {
            None if self.findings.origins().is_spoiled(key) => stand_in(),
            None => PatternList::default(),
            Some(_) => self.patterns(key, written, purpose).unwrap_or_else(stand_in),
        }
    }
}

/// The roster speaks of an entry: `send_as is empty`. What it says of a key belongs to the key's line.
fn key_within<'s>(entry: &str, sentence: &'s str) -> (String, &'s str) {
    match sentence.split_once(' ') {
        Some((key @ ("match" | "send_as" | "send_to" | "send_as_email" | "send_as_upn"), rest)) => {
            (format!("{entry}.{key}"), rest)
        }
        _ => (entry.to_owned(), sentence),
    }
}

/// An entry of a line says itself where it is.
fn line_of(rule: &Rule) -> Place {
    let place = rule.place.as_deref().unwrap_or_default();
    match place.rsplit_once(':').and_then(|(file, line)| Some((file, line.parse().ok()?))) {
        Some((file, line)) => Place::Line { file: file.into(), line },
        None => Place::File { file: place.into() },
    }
}
