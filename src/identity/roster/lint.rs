//! What is wrong with a roster, and what is doubtful, before anybody connects. For `check`.
//!
//! A mistake makes the roster unusable; a doubt is a grant that can never apply, or a name that counts for nothing. Never: judges a
//! certificate.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::pattern::{AddressPattern, DomainSet, PatternEntry, PatternList};
use super::{CaGrant, EntryState, MatchKeys, Roster, RosterEntry, RosterMistake};
use crate::identity::Rule;
use crate::mail::LocalPartCase;

/// Every mistake.
pub(super) fn mistakes(entries: &[RosterEntry], cas: &[CaGrant]) -> Vec<RosterMistake> {
    let mut found = Vec::new();
    repeated(cas.iter().map(|ca| (&ca.ca, &ca.rule)), "client_ca", &mut found);
    repeated(entries.iter().map(|entry| (&entry.name, &entry.rule)), "identity", &mut found);
    for entry in entries {
        let sentences = entry_mistakes(entry, cas);
        found.extend(sentences.into_iter().map(|sentence| RosterMistake { rule: entry.rule.clone(), sentence }));
    }
    same_keys(entries, cas, &mut found);
    found
}

fn repeated<'a>(named: impl Iterator<Item = (&'a Arc<str>, &'a Rule)>, kind: &str, found: &mut Vec<RosterMistake>) {
    let mut seen: HashMap<&str, &Rule> = HashMap::new();
    for (name, rule) in named {
        if let Some(first) = seen.insert(name, rule) {
            let sentence = format!("the name {name:?} is taken by {first}; give each {kind} a name of its own");
            found.push(RosterMistake { rule: rule.clone(), sentence });
        }
    }
}

fn entry_mistakes(entry: &RosterEntry, cas: &[CaGrant]) -> Vec<String> {
    let mut found = Vec::new();
    let keys = &entry.keys;
    if entry.name.is_empty() || entry.name.chars().any(char::is_control) {
        found.push("its name is empty or holds control characters; give it a name for the log".to_owned());
    }
    if keys.names_nothing() {
        found.push(
            "match needs at least one of email, dns, uri, fingerprint, spki; a CA alone would make all of its certificates this one identity"
                .to_owned(),
        );
    }
    match &keys.ca {
        Some(ca) if !cas.iter().any(|known| known.ca == *ca) => {
            let known: Vec<&str> = cas.iter().map(|known| &*known.ca).collect();
            found.push(format!("match names the CA {ca:?}, which is not configured; there are: {}", known.join(", ")));
        }
        None if keys.asks_for_names() && keys.fingerprint.is_none() && keys.spki.is_none() && cas.len() != 1 => {
            found.push(
                "match needs `ca`: there is not exactly one client_ca, and any of them could issue a certificate with this name"
                    .to_owned(),
            );
        }
        Some(_) | None => {}
    }
    found
}

/// Two entries that ask for the very same tie at every certificate.
fn same_keys(entries: &[RosterEntry], cas: &[CaGrant], found: &mut Vec<RosterMistake>) {
    let mut seen: HashMap<String, &Rule> = HashMap::new();
    for entry in entries {
        if let Some(first) = seen.insert(comparable(&entry.keys, cas), &entry.rule) {
            let sentence = format!("matches the same certificates as {first}; leave one out or give it another key");
            found.push(RosterMistake { rule: entry.rule.clone(), sentence });
        }
    }
}

fn comparable(keys: &MatchKeys, cas: &[CaGrant]) -> String {
    let ca = cas.iter().find(|known| Some(&known.ca) == keys.ca.as_ref()).or(cas.first());
    let case = ca.map_or(LocalPartCase::Ignored, |ca| ca.local_part_case);
    let email = keys.email.as_ref().map(|email| email.canonical(case).to_string());
    let dns = keys.dns.as_ref().map(|dns| dns.to_ascii_lowercase());
    format!("{:?} {email:?} {dns:?} {:?} {:?} {:?}", keys.ca, keys.uri, keys.fingerprint, keys.spki)
}

/// Every doubt.
pub(super) fn doubts(roster: &Roster) -> Vec<String> {
    let mut found = Vec::new();
    for compiled in &roster.entries {
        let entry = &compiled.entry;
        let domains = compiled.tied_to.as_ref().and_then(|ca| roster.cas.get(ca)).and_then(|ca| ca.domains.as_deref());
        let mut say = |sentence: String| found.push(format!("{}: {sentence}", entry.rule));
        if entry.state == EntryState::Enabled {
            list_doubts("send_as", &entry.send_as, domains, &mut say);
            list_doubts("send_to", &entry.send_to, None, &mut say);
        }
        key_doubts(entry, &mut say);
    }
    let mut cas: Vec<_> = roster.cas.values().map(|ca| &ca.grant).collect();
    cas.sort_by(|one, other| one.ca.cmp(&other.ca));
    for ca in cas {
        let Some(email) = &ca.send_as_email else { continue };
        let mut say = |sentence: String| found.push(format!("{}: {sentence}", ca.rule));
        if ca.domains.as_ref().is_none_or(|domains| *domains == DomainSet::default()) {
            say("send_as_email grants nothing without domains; write those the CA may speak for, or domains = [\"*\"]"
                .into());
        }
        list_doubts("send_to", &email.send_to, None, &mut say);
    }
    found
}

fn key_doubts(entry: &RosterEntry, say: &mut impl FnMut(String)) {
    let keys = &entry.keys;
    if keys.ca.is_some() || keys.fingerprint.is_some() || keys.spki.is_none() {
        return;
    }
    if keys.asks_for_names() {
        say("beside spki, a name counts only when a CA vouches for it; without one this never matches. Add ca, or leave the name out".into());
    }
    if entry.send_as.entries().contains(&PatternEntry::Granted(AddressPattern::Certificate)) {
        say("@certificate grants nothing to a certificate that is known by its key (spki) alone; add ca or give its fingerprint".into());
    }
}

fn list_doubts(kind: &str, list: &PatternList, domains: Option<&DomainSet>, say: &mut impl FnMut(String)) {
    let granted = || list.entries().iter().filter_map(granted_pattern);
    if granted().next().is_none() {
        say(format!("{kind} is empty and grants nothing; everything must be written out: {kind} = [\"*\"]"));
    }
    for pattern in granted() {
        if domains.is_some_and(|domains| !domains.touches(pattern)) {
            say(format!("{kind} has {pattern}, which lies beyond the domains of its CA and is never granted"));
        }
        let covering = list.entries().iter().find(|entry| excludes(entry, pattern));
        if let Some(exclusion) = covering {
            say(format!("{kind} has {pattern}, which {exclusion} excludes"));
        }
    }
}

fn granted_pattern(entry: &PatternEntry) -> Option<&AddressPattern> {
    match entry {
        PatternEntry::Granted(pattern) => Some(pattern),
        PatternEntry::Excluded(_) => None,
    }
}

/// Whether an exclusion leaves nothing of a pattern: the same one, or an address that the exclusion names.
fn excludes(entry: &PatternEntry, pattern: &AddressPattern) -> bool {
    let PatternEntry::Excluded(exclusion) = entry else { return false };
    match (exclusion, pattern) {
        (AddressPattern::Address(one), AddressPattern::Address(other)) => {
            one.canonical(LocalPartCase::Exact) == other.canonical(LocalPartCase::Exact)
        }
        (AddressPattern::Host(host), AddressPattern::Address(address)) => host == address.host(),
        (AddressPattern::Host(host), AddressPattern::Tagged { host: other, .. }) => host == other,
        (one, other) => one == other,
    }
}
