//! What is wrong with a roster, and what is doubtful, before anybody connects. For `check`.
//!
//! A mistake makes the roster unusable; a doubt is a grant that can never apply, or a name that counts for nothing. Never: judges a
//! certificate; compares every entry with every other.

use std::collections::HashMap;

use super::super::pattern::{AddressPattern, DomainSet, PatternEntry, PatternList};
use super::builder::Mistakes;
use super::{CaGrant, Compiled, EntryState, MatchKeys, OwnNames, Roster, RosterMistake};
use crate::identity::key::Key;
use crate::identity::{Rule, SecondFactor};
use crate::mail::LocalPartCase;

pub(super) fn repeated_cas(cas: &[CaGrant], found: &mut Mistakes) {
    let mut seen: HashMap<&str, &Rule> = HashMap::new();
    for ca in cas {
        if let Some(first) = seen.insert(&ca.ca, &ca.rule) {
            let sentence = format!("the name {:?} is taken by {first}; give each client_ca a name of its own", ca.ca);
            found.add(|| ca.rule.clone(), sentence);
        }
    }
}

pub(super) fn entry_mistakes(name: &str, written: &MatchKeys, keys: &[Key], cas: &[CaGrant]) -> Vec<String> {
    let mut found = Vec::new();
    if name.is_empty() || name.chars().any(char::is_control) {
        found.push("its name is empty or holds control characters; give it a name for the log".to_owned());
    }
    if keys.is_empty() {
        found.push(
            "match needs at least one of email, upn, dns, uri, subject, issuer_serial, fingerprint, spki; a CA alone would make all of its \
             certificates this one identity"
                .to_owned(),
        );
    }
    match &written.ca {
        Some(ca) if !cas.iter().any(|known| known.ca == *ca) => {
            let known: Vec<&str> = cas.iter().map(|known| &*known.ca).collect();
            found.push(format!("match names the CA {ca:?}, which is not configured; there are: {}", known.join(", ")));
        }
        None if !keys.is_empty() && keys.iter().all(Key::is_name) && cas.len() != 1 => {
            found.push(
                "match needs `ca`: there is not exactly one client_ca, and any of them could issue a certificate with this name"
                    .to_owned(),
            );
        }
        Some(_) | None => {}
    }
    found
}

/// What a pinned entry has to say where a CA asks: by which way its certificate is trusted, its holder decides, who may show it with the CA's chain or alone.
pub(super) fn unsaid_factor(entry: &Compiled, cas: &[CaGrant]) -> Option<String> {
    if entry.terms.second_factor.is_some() || entry.terms.state == EntryState::Disabled {
        return None;
    }
    let asking = cas.iter().find(|ca| ca.second_factor != SecondFactor::None)?;
    Some(format!(
        "match is pinned without ca and says nothing of a second factor, which {} asks for; write second_factor (\"none\" where none is to be shown), or ca in match",
        asking.rule
    ))
}

/// Every doubt.
pub(super) fn doubts(roster: &Roster) -> Vec<RosterMistake> {
    let mut found = Mistakes::default();
    let mut judged = Judged::default();
    for entry in &roster.entries {
        let mut say = |sentence: String| found.add(|| entry.rule(), sentence);
        if entry.terms.state == EntryState::Enabled {
            let domains = entry.tied_to.and_then(|ca| roster.ca(ca)).and_then(|ca| ca.domains.as_deref());
            let case = roster.case_under(entry.tied_to);
            if judged.is_new(&entry.send_as, entry.tied_to) {
                list_doubts("send_as", &entry.send_as, domains, case, &mut say);
            }
            if judged.is_new(&entry.send_to, None) {
                list_doubts("send_to", &entry.send_to, None, case, &mut say);
            }
        }
        key_doubts(roster, entry, &mut say);
    }
    for ca in roster.cas.iter().map(|ca| &ca.grant) {
        let Some(own) = &ca.send_as_email else { continue };
        let mut say = |sentence: String| found.add(|| ca.rule.clone(), sentence);
        if ca.domains.as_ref().is_none_or(|domains| *domains == DomainSet::default()) {
            let key = if ca.own_names == OwnNames::Upns { "send_as_upn" } else { "send_as_email" };
            say(format!(
                "{key} grants nothing without domains; write those the CA may speak for, or domains = [\"*\"]"
            ));
        }
        list_doubts("send_to", &own.send_to, None, ca.local_part_case, &mut say);
    }
    found.into_told()
}

/// The lists judged last: lines of a file share theirs, and one sentence for all of them is enough.
#[derive(Default)]
struct Judged {
    last: Vec<(PatternList, Option<u16>)>,
}

/// How many lists are remembered as judged.
const JUDGED_MAX: usize = 16;

impl Judged {
    fn is_new(&mut self, list: &PatternList, ca: Option<u16>) -> bool {
        let known = self.last.iter().any(|(judged, under)| judged.same_as(list) && *under == ca);
        if !known {
            if self.last.len() >= JUDGED_MAX {
                self.last.remove(0);
            }
            self.last.push((list.clone(), ca));
        }
        !known
    }
}

fn key_doubts(roster: &Roster, entry: &Compiled, say: &mut impl FnMut(String)) {
    let by_key_alone = entry.named_ca.is_none()
        && !entry.has_fingerprint()
        && entry.keys.iter().any(|key| matches!(key, Key::Spki(_)));
    if by_key_alone && entry.asks_for_names() {
        say("beside spki, a name counts only when a CA vouches for it; without one this never matches. Add ca, or leave the name out".into());
    }
    if by_key_alone && entry.send_as.entries().contains(&PatternEntry::Granted(AddressPattern::Certificate)) {
        say("@certificate grants nothing to a certificate that is known by its key (spki) alone; add ca or give its fingerprint".into());
    }
    if entry.terms.state == EntryState::Disabled && entry.has_fingerprint() {
        say("a fingerprint shuts nobody out for certain: who holds a certificate can write another signature that is as good into it (ECDSA), and it has another fingerprint. Match it by issuer_serial or spki, or revoke it".into());
    }
    if entry.terms.state == EntryState::Enabled
        && entry.named_ca.is_some()
        && entry.has_fingerprint()
        && entry.terms.narrows(roster.second_factor(&entry.terms, entry.tied_to))
    {
        say("a fingerprint holds nobody for certain to what this rule asks (hold, limits, a second factor): who holds a certificate can write another signature that is as good into it (ECDSA), and is then judged by another rule or by the CA's own terms. Match it by issuer_serial or spki".into());
    }
    let trusted = entry.tied_to.and_then(|ca| roster.ca(ca)).and_then(|ca| ca.grant.trust_domain.as_deref());
    for key in &entry.keys {
        if let (Some(asked), Some(trusted)) = (key.trust_domain(), trusted)
            && asked != trusted
        {
            say(format!(
                "match never holds: its uri is of the trust domain {asked:?}, trust_domain of its CA is {trusted:?}"
            ));
        }
        if let Key::Subject(name) | Key::IssuerSerial(name, _) = key
            && name.looks_reversed()
        {
            say(format!(
                "match has the name {name}, which begins with its most general part; RFC 4514 writes the most special one first: CN=...,O=...,C=..."
            ));
        }
    }
    if let Some(wider) = covering(roster, entry) {
        say(format!(
            "match never applies: all that it matches {} matches, too, and neither is more certain; give it another key",
            wider.rule()
        ));
    }
}

/// Another entry with a wider wildcard in the place of one of this entry's: every certificate would be a tie.
fn covering<'r>(roster: &'r Roster, entry: &Compiled) -> Option<&'r Compiled> {
    let (ca, keys) = roster.normal(entry);
    keys.iter().enumerate().find_map(|(place, key)| {
        key.covering().into_iter().find_map(|wider| {
            let mut wider_keys = keys.clone();
            wider_keys.get_mut(place).map(|narrow| *narrow = wider)?;
            let first = wider_keys.first()?;
            let places: Vec<u32> = first.with_clue(|clue| roster.index.at(clue).collect());
            let mut found = places.into_iter().filter_map(|place| roster.entries.get(usize::try_from(place).ok()?));
            found.find(|other| roster.normal(other) == (ca, wider_keys.clone()))
        })
    })
}

fn list_doubts(
    kind: &str,
    list: &PatternList,
    domains: Option<&DomainSet>,
    case: LocalPartCase,
    say: &mut impl FnMut(String),
) {
    let granted = || list.entries().iter().filter_map(granted_pattern);
    if granted().next().is_none() {
        // The remedy for one must not be leave to send as everybody.
        let like = if kind == "send_as" { "robot@example.com" } else { "*" };
        say(format!("{kind} is empty and grants nothing; everything must be written out, like {kind} = [\"{like}\"]"));
        return;
    }
    let compiled = list.compile(case);
    for pattern in granted() {
        if domains.is_some_and(|domains| !domains.touches(pattern)) {
            say(format!("{kind} has {pattern}, which lies beyond the domains of its CA and is never granted"));
        }
        if let Some(exclusion) = compiled.excluding(pattern) {
            say(format!("{kind} has {pattern}, which !{exclusion} excludes"));
        } else if let Some(wider) = compiled.wider(pattern, case) {
            say(format!("{kind} has {pattern}, which says nothing beside {wider}; leave one of them out"));
        }
    }
}

fn granted_pattern(entry: &PatternEntry) -> Option<&AddressPattern> {
    match entry {
        PatternEntry::Granted(pattern) => Some(pattern),
        PatternEntry::Excluded(_) => None,
    }
}
