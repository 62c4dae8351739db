//! Identities: whom the roster knows, and what never can apply.

use std::collections::{HashMap, HashSet};
use std::str::FromStr;
use std::sync::Arc;

use super::Checking;
use super::trust::{Cas, second_factor};
use crate::config::nearest::nearest;
use crate::config::units::size_text;
use crate::config::written::{Written, WrittenIdentity, WrittenMatch};
use crate::identity::pattern::{ListPurpose, PatternList};
use crate::identity::roster::{EntryState, MatchKeys, RosterEntry};
use crate::identity::{Digest256, Roster, Rule};
use crate::mail::Domain;
use crate::tls::Trust;

impl Checking<'_> {
    pub(super) fn roster(&mut self, written: &Written, cas: &Cas) -> Option<(Arc<Trust>, Arc<Roster>)> {
        let mut names = HashSet::new();
        let mut entries = Vec::new();
        for (index, entry) in written.identity.iter().enumerate() {
            let path = format!("identity[{index}]");
            let name = self.unique_name(&path, entry.name.as_ref(), &mut names);
            self.check_name(&path, name.as_deref(), cas);
            self.warn_of_larger_limits(&path, entry, written);
            entries.extend(self.entry(&path, entry, name.as_deref(), cas));
        }
        self.somebody_can_send(written, cas);
        self.warn_of_idle_cas(written);
        let rules = self.rules(written);
        match Roster::new(entries, cas.grants.clone()) {
            Err(mistakes) => {
                for mistake in mistakes {
                    let path = rules.get(&mistake.rule).cloned().unwrap_or_default();
                    // A name that is there twice has been told of with its own line.
                    if !mistake.sentence.contains("is taken by") {
                        let (key, sentence) = key_within(&path, &mistake.sentence);
                        self.findings.mistake(&key, sentence, ());
                    }
                }
                None
            }
            Ok(roster) => {
                self.warn_of_doubts(&roster, &rules);
                let trust = Trust::new(cas.good.clone(), roster.pins());
                Some((Arc::new(trust), Arc::new(roster)))
            }
        }
    }

    fn rules(&self, written: &Written) -> HashMap<Rule, String> {
        let lists = [("identity", written.identity.len()), ("client_ca", written.client_ca.len())];
        let paths = lists.into_iter().flat_map(|(list, count)| (0..count).map(move |index| format!("{list}[{index}]")));
        paths.map(|path| (self.rule(&path), path)).collect()
    }

    fn warn_of_doubts(&mut self, roster: &Roster, rules: &HashMap<Rule, String>) {
        for doubt in roster.lint() {
            let found = rules.iter().find_map(|(rule, path)| Some((path, doubt.strip_prefix(&format!("{rule}: "))?)));
            match found {
                Some((path, sentence)) => {
                    let (key, sentence) = key_within(path, sentence);
                    self.findings.warning(&key, sentence, ());
                }
                None => self.findings.warning("", doubt, ()),
            }
        }
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
    fn warn_of_larger_limits(&mut self, path: &str, entry: &WrittenIdentity, written: &Written) {
        let most = written.limits.message_size.0;
        if entry.limits.message_size.is_some_and(|size| size.0 > most) {
            let wrong = format!("never applies: limits.message_size of the server is {}", size_text(most));
            self.findings.warning(&format!("{path}.limits.message_size"), wrong, ());
        }
        let most = written.limits.recipients_per_transaction;
        if entry.limits.recipients_per_message.is_some_and(|number| number > most) {
            let wrong = format!("never applies: limits.recipients_per_transaction of the server is {most}");
            self.findings.warning(&format!("{path}.limits.recipients_per_message"), wrong, ());
        }
    }

    fn somebody_can_send(&mut self, written: &Written, cas: &Cas) {
        let nobody = written.client_ca.is_empty() && written.identity.is_empty();
        let spoiled = ["client_ca", "identity"].iter().any(|list| self.findings.origins().is_spoiled(list));
        if nobody && !spoiled {
            self.findings.mistake(
                "client_ca",
                "is missing: no certificate would be trusted",
                "write [[client_ca]] with name and certificates",
            );
        } else if written.identity.is_empty()
            && !cas.grants.is_empty()
            && cas.grants.iter().all(|ca| ca.send_as_email.is_none())
        {
            let remedy = "write send_as_email = true, or an [[identity]]";
            self.findings.warning("client_ca", "no certificate stands for anybody: nobody can send", remedy);
        }
    }

    /// A CA by which nobody is named.
    fn warn_of_idle_cas(&mut self, written: &Written) {
        let only = written.client_ca.len() == 1;
        for (index, ca) in written.client_ca.iter().enumerate() {
            let named = |entry: &WrittenIdentity| {
                let keys = entry.matches.as_ref();
                keys.is_some_and(|keys| keys.ca.as_ref().map_or(only, |name| Some(name) == ca.name.as_ref()))
            };
            if !ca.send_as_email && !written.identity.is_empty() && !written.identity.iter().any(named) {
                let wrong = "never applies: no [[identity]] names it, and send_as_email is not true";
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
            keys: keys?,
            pin_ignores_expiry: written.pin_ignores_expiry,
            state: if written.disabled { EntryState::Disabled } else { EntryState::Enabled },
            send_as,
            send_to,
            second_factor: second_factor(written.second_factor),
            limits,
            null_sender: written.null_sender.unwrap_or(true),
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

    fn match_keys(&mut self, path: &str, written: &WrittenMatch, cas: &Cas) -> Option<MatchKeys> {
        let ca = match &written.ca {
            Some(ca) if !cas.names.contains(ca) => {
                self.unknown_ca(&format!("{path}.ca"), ca, cas);
                return None;
            }
            ca => ca.as_deref().map(Arc::from),
        };
        if self.findings.origins().is_spoiled_within(path) {
            return None;
        }
        let email = written.email.as_ref().map(|text| self.address(&format!("{path}.email"), text));
        let dns = written.dns.as_ref().map(|text| self.dns_name(&format!("{path}.dns"), text));
        let fingerprint = written.fingerprint.as_ref().map(|text| self.digest(&format!("{path}.fingerprint"), text));
        let spki = written.spki.as_ref().map(|text| self.digest(&format!("{path}.spki"), text));
        let uri = written.uri.as_ref().map(|text| self.uri(&format!("{path}.uri"), text));
        Some(MatchKeys {
            ca,
            email: email.map_or(Some(None), |read| read.map(Some))?,
            dns: dns.map_or(Some(None), |read| read.map(Some))?,
            uri: uri.map_or(Some(None), |read| read.map(Some))?,
            fingerprint: fingerprint.map_or(Some(None), |read| read.map(Some))?,
            spki: spki.map_or(Some(None), |read| read.map(Some))?,
        })
    }

    fn unknown_ca(&mut self, key: &str, ca: &str, cas: &Cas) {
        let mut known: Vec<&str> = cas.names.iter().map(String::as_str).collect();
        known.sort_unstable();
        let remedy = match (nearest(ca, known.iter().copied()), known.is_empty()) {
            (Some(meant), _) => format!("did you mean {meant:?}?"),
            (None, true) => "write a [[client_ca]] of this name".to_owned(),
            (None, false) => format!("there are {}", crate::config::schema::quoted(&known)),
        };
        self.findings.mistake(key, format!("{ca:?}: there is no client_ca of this name"), remedy);
    }

    fn dns_name(&mut self, key: &str, text: &str) -> Option<String> {
        let name = Domain::parse(text).ok().map(|domain| domain.ascii().to_owned());
        if name.is_none() {
            self.findings.mistake(key, format!("{text:?}: not a DNS name"), "write one like \"backup.example.com\"");
        }
        name
    }

    fn uri(&mut self, key: &str, text: &str) -> Option<String> {
        let good = text.split_once(':').is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty())
            && text.bytes().all(|octet| octet.is_ascii_graphic());
        if !good {
            self.findings.mistake(
                key,
                format!("{text:?}: not a URI"),
                "write one like \"spiffe://example.com/billing\"",
            );
        }
        good.then(|| text.to_owned())
    }

    fn digest(&mut self, key: &str, text: &str) -> Option<Digest256> {
        match Digest256::from_str(text) {
            Ok(digest) => Some(digest),
            Err(_) => {
                let how = if key.ends_with("spki") {
                    "openssl x509 -in cert.pem -noout -pubkey | openssl pkey -pubin -outform DER | sha256sum"
                } else {
                    "openssl x509 -in cert.pem -noout -fingerprint -sha256"
                };
                let wrong = format!("{text:?}: not a SHA-256 (64 hexadecimal digits)");
                self.findings.mistake(key, wrong, format!("get it with: {how}"));
                None
            }
        }
    }
}

/// The roster speaks of an entry: `send_as is empty`. What it says of a key belongs to the key's line.
fn key_within<'s>(entry: &str, sentence: &'s str) -> (String, &'s str) {
    match sentence.split_once(' ') {
        Some((key @ ("match" | "send_as" | "send_to" | "send_as_email"), rest)) => (format!("{entry}.{key}"), rest),
        _ => (entry.to_owned(), sentence),
    }
}
