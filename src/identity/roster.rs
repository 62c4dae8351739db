//! The roster: which identity a verified certificate stands for.
//!
//! Two ways lead to an [`Identity`], and there is no third:
//! 1. An `[[identity]]` whose keys all match. It must be tied to a CA, or give the certificate's fingerprint or key: else any CA could mint the
//!    name it asks for. Of several the one with the more certain key wins: fingerprint, then key (SPKI), then more keys; a tie is refused.
//! 2. Without one, the CA's own grant (`send_as_email`): the certificate sends as its own e-mail names within the CA's `domains`.
//!
//! A matching `[[identity]]` replaces the CA's grant whole, a disabled one too. Whatever a grant says, the `domains` of the CA cap it.
//! Under a pin there is no CA, and only what is pinned itself is certain: with the whole certificate its names, with the key alone none of them,
//! for who holds the key can write any name around it.
//!
//! Names are looked up by hash, one table per kind. Pure; never verifies a chain.

mod lint;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use super::facts::{CertificateFacts, Digest256, NotACertificate};
use super::pattern::{AddressPatterns, DomainSet, PatternList};
use super::{Grant, Identity, Limits, Rule, SecondFactor};
use crate::mail::{Address, CanonicalAddress, LocalPartCase};
use crate::sys::WallTime;
use crate::tls::{Anchor, Pins, VerifiedChain};

/// What a certificate must have for an entry to match; all that are given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MatchKeys {
    /// The CA under which the chain must be verified.
    pub ca: Option<Arc<str>>,
    /// One of its rfc822Names.
    pub email: Option<Address>,
    /// One of its dNSNames, lower case.
    pub dns: Option<String>,
    /// One of its URIs, octet for octet.
    pub uri: Option<String>,
    /// SHA-256 of the certificate.
    pub fingerprint: Option<Digest256>,
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub spki: Option<Digest256>,
}

impl MatchKeys {
    fn names_nothing(&self) -> bool {
        self.count() == 0
    }

    /// How many keys besides the CA.
    fn count(&self) -> usize {
        let given = [
            self.email.is_some(),
            self.dns.is_some(),
            self.uri.is_some(),
            self.fingerprint.is_some(),
            self.spki.is_some(),
        ];
        given.into_iter().filter(|&given| given).count()
    }

    /// Whether it asks for a name that somebody must vouch for.
    fn asks_for_names(&self) -> bool {
        self.email.is_some() || self.dns.is_some() || self.uri.is_some()
    }

    /// How certain a match is: the larger wins.
    fn rank(&self) -> (bool, bool, usize) {
        (self.fingerprint.is_some(), self.spki.is_some(), self.count().saturating_add(usize::from(self.ca.is_some())))
    }
}

/// Whether an entry lets anybody in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EntryState {
    /// It does.
    #[default]
    Enabled,
    /// It matches, and refuses.
    Disabled,
}

/// An `[[identity]]`.
#[derive(Clone, Debug)]
pub struct RosterEntry {
    /// Its name.
    pub name: Arc<str>,
    /// Which certificates it is for.
    pub keys: MatchKeys,
    /// Whether a certificate that it pins counts after its notAfter too.
    pub pin_ignores_expiry: bool,
    /// Whether it lets them in.
    pub state: EntryState,
    /// Addresses it may send as.
    pub send_as: PatternList,
    /// Addresses it may send to.
    pub send_to: PatternList,
    /// What is asked besides the certificate.
    pub second_factor: SecondFactor,
    /// How much.
    pub limits: Limits,
    /// Whether `MAIL FROM:<>` is allowed.
    pub null_sender: bool,
    /// Where it is written.
    pub rule: Rule,
}

/// What the roster goes by of a `[[client_ca]]`; one for each CA of the configuration.
#[derive(Clone, Debug)]
pub struct CaGrant {
    /// The CA's name.
    pub ca: Arc<str>,
    /// The domains it may speak for. None written: what an `[[identity]]` says stands uncapped, and certificates send as no name of their own.
    pub domains: Option<DomainSet>,
    /// How local parts compare under it.
    pub local_part_case: LocalPartCase,
    /// `send_as_email`: what certificates may do that no `[[identity]]` matches.
    pub send_as_email: Option<EmailGrant>,
    /// Where it is written.
    pub rule: Rule,
}

/// The grant of certificates that are named by themselves alone.
#[derive(Clone, Debug)]
pub struct EmailGrant {
    /// Addresses they may send to.
    pub send_to: PatternList,
    /// What is asked besides the certificate.
    pub second_factor: SecondFactor,
    /// How much.
    pub limits: Limits,
    /// Whether `MAIL FROM:<>` is allowed.
    pub null_sender: bool,
}

/// Why a good certificate stands for nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoIdentity {
    /// Nobody matches.
    Unknown,
    /// The matching identity is disabled.
    Disabled {
        /// Its name.
        name: String,
    },
    /// Two of equal rank match.
    Ambiguous {
        /// Their names.
        names: Vec<String>,
    },
}

/// A roster that cannot be used: which rule, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RosterMistake {
    /// The rule.
    pub rule: Rule,
    /// What is wrong and what to do.
    pub sentence: String,
}

impl fmt::Display for RosterMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.sentence)
    }
}

/// What the roster makes of a certificate, with its reasons; for `explain`.
#[derive(Clone, Debug)]
pub struct Examination {
    /// What the certificate says.
    pub facts: CertificateFacts,
    /// Who it stands for.
    pub identity: Result<Identity, NoIdentity>,
    /// Why, a sentence each.
    pub notes: Vec<String>,
}

/// Everyone known.
#[derive(Debug, Default)]
pub struct Roster {
    entries: Vec<Compiled>,
    cas: HashMap<Arc<str>, CompiledCa>,
    by_fingerprint: HashMap<Digest256, Vec<usize>>,
    by_spki: HashMap<Digest256, Vec<usize>>,
    by_uri: HashMap<String, Vec<usize>>,
    by_dns: HashMap<String, Vec<usize>>,
    /// By the form without case; the CA's own rule is asked afterwards.
    by_email: HashMap<CanonicalAddress, Vec<usize>>,
}

#[derive(Debug)]
struct Compiled {
    entry: RosterEntry,
    /// The CA it is tied to: the one written, or the only one there is.
    tied_to: Option<Arc<str>>,
    lists: Vec<(LocalPartCase, AddressPatterns, AddressPatterns)>,
}

#[derive(Debug)]
struct CompiledCa {
    grant: CaGrant,
    domains: Option<Arc<DomainSet>>,
    send_as: AddressPatterns,
    send_to: AddressPatterns,
}

impl Roster {
    /// A roster of these entries under these CAs; every mistake, when there is one.
    pub fn new(entries: Vec<RosterEntry>, cas: Vec<CaGrant>) -> Result<Self, Vec<RosterMistake>> {
        let mistakes = lint::mistakes(&entries, &cas);
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let only = match cas.as_slice() {
            [only] => Some(Arc::clone(&only.ca)),
            _ => None,
        };
        let cas: HashMap<Arc<str>, CompiledCa> =
            cas.into_iter().map(|grant| (Arc::clone(&grant.ca), CompiledCa::new(grant))).collect();
        let mut roster = Self { cas, ..Self::default() };
        for entry in entries {
            roster.put(entry, only.as_ref());
        }
        Ok(roster)
    }

    /// What `tls::Trust` is to let in by pin: fingerprints and keys of entries that name no CA.
    pub fn pins(&self) -> Pins {
        let unbound = || self.entries.iter().map(|compiled| &compiled.entry.keys).filter(|keys| keys.ca.is_none());
        let lasting = self.entries.iter().map(|compiled| &compiled.entry).filter(|entry| entry.pin_ignores_expiry);
        Pins {
            certificates: unbound().filter_map(|keys| keys.fingerprint).collect(),
            // With a fingerprint beside it, the key alone is not enough.
            keys: unbound().filter(|keys| keys.fingerprint.is_none()).filter_map(|keys| keys.spki).collect(),
            ignoring_expiry: lasting.filter_map(|entry| entry.keys.fingerprint.or(entry.keys.spki)).collect(),
        }
    }

    /// Who the certificate stands for.
    pub fn identify(&self, chain: &VerifiedChain) -> Result<Identity, NoIdentity> {
        let facts = CertificateFacts::of_chain(chain).map_err(|NotACertificate| NoIdentity::Unknown)?;
        self.decide(&facts, chain, &mut Vec::new())
    }

    /// The same, with the facts and the reasons.
    pub fn examine(&self, chain: &VerifiedChain) -> Result<Examination, NotACertificate> {
        let facts = CertificateFacts::of_chain(chain)?;
        let mut notes: Vec<String> =
            facts.unusable.iter().map(|name| format!("{} counts for nothing: {}", name.name, name.reason)).collect();
        let identity = self.decide(&facts, chain, &mut notes);
        Ok(Examination { facts, identity, notes })
    }

    /// Grants that can never apply and names that count for nothing, a sentence each; no mistakes, but hardly meant.
    pub fn lint(&self) -> Vec<String> {
        lint::doubts(self)
    }

    /// The names of the entries.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|compiled| &*compiled.entry.name)
    }

    fn put(&mut self, entry: RosterEntry, only_ca: Option<&Arc<str>>) {
        let place = self.entries.len();
        let keys = &entry.keys;
        // One table is enough, the most certain key's: the rest of the keys is compared when it is found.
        if let Some(fingerprint) = keys.fingerprint {
            self.by_fingerprint.entry(fingerprint).or_default().push(place);
        } else if let Some(spki) = keys.spki {
            self.by_spki.entry(spki).or_default().push(place);
        } else if let Some(uri) = &keys.uri {
            self.by_uri.entry(uri.clone()).or_default().push(place);
        } else if let Some(dns) = &keys.dns {
            self.by_dns.entry(dns.to_ascii_lowercase()).or_default().push(place);
        } else if let Some(email) = &keys.email {
            self.by_email.entry(email.canonical(LocalPartCase::Ignored)).or_default().push(place);
        }
        let certain = keys.fingerprint.is_some() || keys.spki.is_some();
        let tied_to = keys.ca.clone().or_else(|| if certain { None } else { only_ca.cloned() });
        let lists = self
            .cases(tied_to.as_ref())
            .into_iter()
            .map(|case| (case, entry.send_as.compile(case), entry.send_to.compile(case)))
            .collect();
        self.entries.push(Compiled { entry, tied_to, lists });
    }

    /// The ways to compare that an entry may be asked by.
    fn cases(&self, tied_to: Option<&Arc<str>>) -> Vec<LocalPartCase> {
        if let Some(ca) = tied_to {
            return vec![self.case_under(Some(ca))];
        }
        let mut cases = vec![LocalPartCase::Ignored];
        if self.cas.values().any(|ca| ca.grant.local_part_case == LocalPartCase::Exact) {
            cases.push(LocalPartCase::Exact);
        }
        cases
    }

    fn case_under(&self, ca: Option<&Arc<str>>) -> LocalPartCase {
        ca.and_then(|ca| self.cas.get(ca)).map_or(LocalPartCase::Ignored, |ca| ca.grant.local_part_case)
    }

    fn decide(
        &self,
        facts: &CertificateFacts,
        chain: &VerifiedChain,
        notes: &mut Vec<String>,
    ) -> Result<Identity, NoIdentity> {
        let ca = match chain.anchor() {
            Anchor::Ca(name) => Some(name),
            Anchor::Pin => None,
        };
        let matching = self.matching(facts, ca);
        let best = matching.iter().map(|compiled| compiled.entry.keys.rank()).max();
        let best: Vec<&Compiled> =
            matching.into_iter().filter(|compiled| Some(compiled.entry.keys.rank()) == best).collect();
        match best.as_slice() {
            [] => self.by_own_names(facts, ca, chain.good_until(), notes),
            [one] if one.entry.state == EntryState::Disabled => {
                notes.push(format!("{} matches, and is disabled", one.entry.rule));
                Err(NoIdentity::Disabled { name: one.entry.name.to_string() })
            }
            [one] => {
                notes.push(format!("{} matches", one.entry.rule));
                Ok(self.by_entry(one, facts, ca, chain.good_until()))
            }
            several => {
                let rules: Vec<String> = several.iter().map(|one| one.entry.rule.to_string()).collect();
                notes.push(format!("{} match equally well; give one of them a key more", rules.join(" and ")));
                Err(NoIdentity::Ambiguous { names: several.iter().map(|one| one.entry.name.to_string()).collect() })
            }
        }
    }

    fn matching(&self, facts: &CertificateFacts, ca: Option<&Arc<str>>) -> Vec<&Compiled> {
        let mut places: Vec<usize> = Vec::new();
        let mut take = |found: Option<&Vec<usize>>| places.extend(found.into_iter().flatten());
        take(self.by_fingerprint.get(&facts.summary.fingerprint));
        take(self.by_spki.get(&facts.summary.spki));
        facts.uris.iter().for_each(|uri| take(self.by_uri.get(uri)));
        facts.dns.iter().for_each(|dns| take(self.by_dns.get(dns)));
        facts.emails.iter().for_each(|email| take(self.by_email.get(&email.canonical(LocalPartCase::Ignored))));
        places.sort_unstable();
        places.dedup();
        let found = places.into_iter().filter_map(|place| self.entries.get(place));
        found.filter(|compiled| self.holds(compiled, facts, ca)).collect()
    }

    fn holds(&self, compiled: &Compiled, facts: &CertificateFacts, ca: Option<&Arc<str>>) -> bool {
        let keys = &compiled.entry.keys;
        if compiled.tied_to.as_ref().is_some_and(|tied_to| ca != Some(tied_to)) {
            return false;
        }
        // Who holds a pinned key can write any name around it; only a CA or the whole certificate's pin makes names certain.
        if ca.is_none() && keys.fingerprint.is_none() && keys.asks_for_names() {
            return false;
        }
        let case = self.case_under(ca);
        keys.fingerprint.is_none_or(|wanted| wanted == facts.summary.fingerprint)
            && keys.spki.is_none_or(|wanted| wanted == facts.summary.spki)
            && keys.uri.as_ref().is_none_or(|wanted| facts.uris.contains(wanted))
            && keys.dns.as_ref().is_none_or(|wanted| facts.dns.contains(&wanted.to_ascii_lowercase()))
            && keys.email.as_ref().is_none_or(|wanted| {
                let wanted = wanted.canonical(case);
                facts.emails.iter().any(|email| email.canonical(case) == wanted)
            })
    }

    fn by_entry(
        &self,
        compiled: &Compiled,
        facts: &CertificateFacts,
        ca: Option<&Arc<str>>,
        good_until: WallTime,
    ) -> Identity {
        let entry = &compiled.entry;
        let case = self.case_under(ca);
        let lists = compiled.lists.iter().find(|(compiled_for, _, _)| *compiled_for == case);
        let (send_as, send_to) =
            lists.map(|(_, send_as, send_to)| (send_as.clone(), send_to.clone())).unwrap_or_default();
        let certain = ca.is_some() || entry.keys.fingerprint.is_some();
        let names = if certain { canonical_names(facts, case) } else { HashSet::new() };
        let within = ca.and_then(|ca| self.cas.get(ca)).and_then(|ca| ca.domains.clone());
        Identity {
            name: Arc::clone(&entry.name),
            ca: ca.cloned(),
            grant: Arc::new(Grant {
                send_as: send_as.bound(names, within),
                send_to,
                second_factor: entry.second_factor,
                limits: entry.limits,
                null_sender: entry.null_sender,
                local_part_case: case,
                rule: entry.rule.clone(),
            }),
            certificate: Arc::new(facts.summary.clone()),
            good_until,
        }
    }

    /// `send_as_email`.
    fn by_own_names(
        &self,
        facts: &CertificateFacts,
        ca: Option<&Arc<str>>,
        good_until: WallTime,
        notes: &mut Vec<String>,
    ) -> Result<Identity, NoIdentity> {
        notes.push("no [[identity]] matches".to_owned());
        let Some(ca) = ca.and_then(|ca| self.cas.get(ca)) else { return Err(NoIdentity::Unknown) };
        let CaGrant { rule, send_as_email, local_part_case: case, .. } = &ca.grant;
        let Some(grant) = send_as_email else {
            notes.push(format!("{rule} has no send_as_email: its certificates need an [[identity]]"));
            return Err(NoIdentity::Unknown);
        };
        let Some(domains) = &ca.domains else {
            notes.push(format!("{rule} has no domains: its certificates' e-mail names grant nothing"));
            return Err(NoIdentity::Unknown);
        };
        let (own, beyond): (Vec<&Address>, Vec<&Address>) =
            facts.emails.iter().partition(|email| domains.holds(&email.canonical(*case).host));
        notes.extend(beyond.iter().map(|email| format!("{email} lies beyond the domains of {rule}")));
        let Some(first) = own.first() else {
            notes.push("the certificate has no usable e-mail name (rfc822Name in subjectAltName)".to_owned());
            return Err(NoIdentity::Unknown);
        };
        notes.push(format!("{rule} lets it send as its own e-mail names"));
        let names = own.iter().map(|email| email.canonical(*case)).collect();
        Ok(Identity {
            name: format!("{}:{}", ca.grant.ca, first.canonical(*case)).into(),
            ca: Some(Arc::clone(&ca.grant.ca)),
            grant: Arc::new(Grant {
                send_as: ca.send_as.bound(names, Some(Arc::clone(domains))),
                send_to: ca.send_to.clone(),
                second_factor: grant.second_factor,
                limits: grant.limits,
                null_sender: grant.null_sender,
                local_part_case: *case,
                rule: rule.clone(),
            }),
            certificate: Arc::new(facts.summary.clone()),
            good_until,
        })
    }
}

impl CompiledCa {
    fn new(grant: CaGrant) -> Self {
        let case = grant.local_part_case;
        let send_to = grant.send_as_email.as_ref().map(|email| email.send_to.compile(case)).unwrap_or_default();
        Self {
            domains: grant.domains.clone().map(Arc::new),
            send_as: AddressPatterns::of_certificate(),
            send_to,
            grant,
        }
    }
}

fn canonical_names(facts: &CertificateFacts, case: LocalPartCase) -> HashSet<CanonicalAddress> {
    facts.emails.iter().map(|email| email.canonical(case)).collect()
}
