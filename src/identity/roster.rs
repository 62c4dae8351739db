//! The roster: which identity a verified certificate stands for.
//!
//! Two ways lead to an [`Identity`], and there is no third:
//! 1. An `[[identity]]` whose keys all match. It must be tied to a CA, or give the certificate's fingerprint or key: else any CA could mint the
//!    name it asks for. Of several the one with the more certain key wins: fingerprint, key (SPKI), issuer and serial, then more keys, then
//!    exact ones before wildcards; a tie is refused.
//! 2. Without one, the CA's own grant (`send_as_email`, `send_as_upn`): the certificate sends as its own names within the CA's `domains`.
//!
//! Either must say `accept_vouched` where not we but a load balancer has seen that the client holds the key ([`Witness`](crate::tls::Witness)).
//! A matching `[[identity]]` replaces the CA's grant whole, a disabled one too. Whatever a grant says, the `domains` of the CA cap it.
//! Under a pin there is no CA, and only what is pinned itself is certain: with the whole certificate its names, with the key alone none of them,
//! for who holds the key can write any name around it.
//!
//! Everything is looked up by hash (`index`), wildcards too: a roster of a million entries costs a certificate no more than one of ten. Entries
//! are kept small (`builder`); lists of patterns and terms are shared. Pure; never verifies a chain.

mod builder;
mod describe;
mod index;
mod known;
mod lint;
mod standing;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

pub use builder::{RosterBuilder, RosterLine, Terms};

use super::facts::{CertificateFacts, CertificateSummary, NotACertificate};
pub use super::key::MatchKeys;
use super::key::{Key, Rank, clues, rank};
use super::pattern::{AddressPatterns, DomainSet, PatternList};
use super::{Dispatch, Grant, Identity, Leeway, Limits, Rule, SecondFactor, Vouching};
use crate::mail::{Address, CanonicalAddress, LocalPartCase};
use crate::tls::{Anchor, Pins, VerifiedChain};
pub use describe::{Brief, Described};
use index::Index;
use known::Known;
pub use standing::Lapsed;

/// Of whom only our own handshake is believed.
const NO_WORD: &str = "takes no load balancer's word for a certificate: accept_vouched is not true";

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
    /// What is asked besides the certificate; where it says nothing, what the CA asks that vouches for the certificate.
    pub second_factor: Option<SecondFactor>,
    /// How much.
    pub limits: Limits,
    /// When its messages go out.
    pub dispatch: Dispatch,
    /// Whether `MAIL FROM:<>` is allowed.
    pub null_sender: bool,
    /// What is let pass besides.
    pub leeway: Leeway,
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
    /// What is asked besides its certificates, also of an `[[identity]]` that says nothing of it.
    pub second_factor: SecondFactor,
    /// `send_as_email`, `send_as_upn`: what certificates may do that no `[[identity]]` matches.
    pub send_as_email: Option<EmailGrant>,
    /// Which of its own names a certificate sends as.
    pub own_names: OwnNames,
    /// The only SPIFFE trust domain whose IDs count under this CA.
    pub trust_domain: Option<Box<str>>,
    /// Where it is written.
    pub rule: Rule,
}

/// Which of its own names a certificate sends as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OwnNames {
    /// Its e-mail names: rfc822Name and SmtpUTF8Mailbox.
    #[default]
    Emails,
    /// Its user principal names, as Active Directory makes them; `"@certificate"` means its e-mail names, too.
    Upns,
    /// Both.
    Both,
}

/// The grant of certificates that are named by themselves alone.
#[derive(Clone, Debug)]
pub struct EmailGrant {
    /// Addresses they may send to.
    pub send_to: PatternList,
    /// How much.
    pub limits: Limits,
    /// When its messages go out.
    pub dispatch: Dispatch,
    /// Whether `MAIL FROM:<>` is allowed.
    pub null_sender: bool,
    /// What is let pass besides.
    pub leeway: Leeway,
}

/// Somebody of whom more than a certificate is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand<'a> {
    /// The identity's name.
    pub name: &'a str,
    /// What is asked.
    pub factor: SecondFactor,
    /// The CA that asks, where the identity says nothing of it.
    pub by: Option<&'a str>,
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
    /// The matching identity takes no load balancer's word.
    NotVouched {
        /// Its name; none when it would be its certificate's.
        name: Option<String>,
    },
    /// Two of equal rank match.
    Ambiguous {
        /// Their names.
        names: Vec<String>,
    },
}

impl fmt::Display for NoIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("the certificate is good, and no identity is granted to it"),
            Self::Disabled { name } => write!(f, "its identity {name:?} is disabled"),
            Self::NotVouched { name } => {
                let whose =
                    name.as_ref().map_or_else(|| "its CA's grant".to_owned(), |name| format!("its identity {name:?}"));
                write!(f, "{whose} takes no load balancer's word for a certificate (accept_vouched is not true)")
            }
            Self::Ambiguous { names } => {
                let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
                write!(f, "identities of equal rank match it: {}", names.join(", "))
            }
        }
    }
}

/// What is wrong with a roster, or doubtful: which rule, and what to write instead.
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
    cas: Vec<CompiledCa>,
    index: Index,
    names: Index,
    known: Known,
}

/// An entry, small: there may be a million.
#[derive(Debug)]
struct Compiled {
    name: Box<str>,
    keys: Box<[Key]>,
    /// The CA it names, by its place.
    named_ca: Option<u16>,
    /// The CA it is tied to: the one written, or the only one there is.
    tied_to: Option<u16>,
    send_as: PatternList,
    send_to: PatternList,
    terms: Arc<Terms>,
    written: Written,
}

/// Where an entry is written.
#[derive(Clone, Debug)]
enum Written {
    /// As a table.
    Table(Box<Rule>),
    /// As a line of a file.
    Line { file: Arc<str>, line: u32 },
}

impl Compiled {
    fn rule(&self) -> Rule {
        match &self.written {
            Written::Table(rule) => (**rule).clone(),
            Written::Line { file, line } => builder::rule_of_line(&self.name, file, *line),
        }
    }

    fn rank(&self) -> Rank {
        rank(&self.keys, self.named_ca.is_some())
    }

    fn has_fingerprint(&self) -> bool {
        self.keys.iter().any(|key| matches!(key, Key::Fingerprint(_)))
    }

    fn asks_for_names(&self) -> bool {
        self.keys.iter().any(Key::is_name)
    }
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
        let mut builder = RosterBuilder::new(cas);
        entries.into_iter().for_each(|entry| builder.put(entry));
        builder.finish()
    }

    /// What `tls::Trust` is to let in by pin: fingerprints and keys of entries that name no CA.
    pub fn pins(&self) -> Pins {
        let mut pins = Pins::default();
        for compiled in self.entries.iter().filter(|compiled| compiled.named_ca.is_none()) {
            // The most certain key stands first. With a fingerprint beside it, the key alone is not enough.
            let digest = match compiled.keys.first() {
                Some(Key::Fingerprint(digest)) => {
                    pins.certificates.insert(*digest);
                    digest
                }
                Some(Key::Spki(digest)) => {
                    pins.keys.insert(*digest);
                    digest
                }
                Some(_) | None => continue,
            };
            if compiled.terms.pin_ignores_expiry {
                pins.ignoring_expiry.insert(*digest);
            }
        }
        pins
    }

    /// Whether anybody's certificate counts that a load balancer tells of.
    pub fn takes_vouched(&self) -> bool {
        let takes = |leeway: Leeway| leeway.vouching == Vouching::BalancerToo;
        let entries = || self.entries.iter().filter(|entry| entry.terms.state == EntryState::Enabled);
        self.cas.iter().filter_map(|ca| ca.grant.send_as_email.as_ref()).any(|own| takes(own.leeway))
            || entries().any(|entry| takes(entry.terms.leeway))
    }

    /// Those of whom more than a certificate is asked; the disabled left out.
    pub fn demanding(&self) -> impl Iterator<Item = Demand<'_>> {
        let enabled = self.entries.iter().filter(|entry| entry.terms.state == EntryState::Enabled);
        let demands = enabled.map(|entry| {
            let by = if entry.terms.second_factor.is_none() { entry.tied_to } else { None };
            let by = by.and_then(|place| self.ca(place)).map(|ca| &*ca.grant.ca);
            Demand { name: &entry.name, factor: self.second_factor(&entry.terms, entry.tied_to), by }
        });
        demands.filter(|demand| demand.factor != SecondFactor::None)
    }

    /// What is asked besides a certificate for which this CA vouches. Were it nothing where these terms say nothing of it, a line in a roster would take away the
    /// second factor of whom it names.
    fn second_factor(&self, terms: &Terms, under: Option<u16>) -> SecondFactor {
        let of_the_ca = || under.and_then(|place| self.ca(place)).map(|ca| ca.grant.second_factor);
        terms.second_factor.or_else(of_the_ca).unwrap_or(SecondFactor::None)
    }

    /// As [`Self::identify`]; who was looked up before with the same chain is known.
    pub fn recognize(&self, chain: &VerifiedChain) -> Result<Arc<Identity>, NoIdentity> {
        if let Some(known) = self.known.of(chain) {
            return Ok(known);
        }
        let identity = Arc::new(self.identify(chain)?);
        self.known.hold(chain, &identity);
        Ok(identity)
    }

    /// Who the certificate stands for.
    pub fn identify(&self, chain: &VerifiedChain) -> Result<Identity, NoIdentity> {
        let facts = self.facts(chain).map_err(|NotACertificate| NoIdentity::Unknown)?;
        self.decide(&facts, chain, &mut Vec::new())
    }

    /// As [`Self::identify`], with the facts and the reasons.
    pub fn examine(&self, chain: &VerifiedChain) -> Result<Examination, NotACertificate> {
        let facts = self.facts(chain)?;
        let mut notes: Vec<String> =
            facts.unusable.iter().map(|name| format!("{} counts for nothing: {}", name.name, name.reason)).collect();
        let identity = self.decide(&facts, chain, &mut notes);
        Ok(Examination { facts, identity, notes })
    }

    /// Grants that can never apply and names that count for nothing, each with its rule; no mistakes, but hardly meant.
    pub fn lint(&self) -> Vec<RosterMistake> {
        lint::doubts(self)
    }

    /// The names of the entries.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|compiled| &*compiled.name)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entry of this name.
    fn named(&self, name: &str) -> Option<&Compiled> {
        let found = self.names.at(name).filter_map(|place| self.entries.get(usize::try_from(place).ok()?));
        found.into_iter().find(|compiled| *compiled.name == *name)
    }

    fn ca(&self, place: u16) -> Option<&CompiledCa> {
        self.cas.get(usize::from(place))
    }

    fn ca_of(&self, chain: &VerifiedChain) -> Option<u16> {
        let Anchor::Ca(name) = chain.anchor() else { return None };
        self.place_of(name)
    }

    fn place_of(&self, name: &str) -> Option<u16> {
        self.cas.iter().position(|ca| *ca.grant.ca == *name).and_then(|place| u16::try_from(place).ok())
    }

    fn facts(&self, chain: &VerifiedChain) -> Result<CertificateFacts, NotACertificate> {
        let mut facts = CertificateFacts::of_chain(chain)?;
        let ca = self.ca_of(chain).and_then(|ca| self.ca(ca));
        if let Some(trust_domain) = ca.and_then(|ca| ca.grant.trust_domain.as_deref()) {
            facts.keep_trust_domain(trust_domain);
        }
        Ok(facts)
    }

    fn case_under(&self, ca: Option<u16>) -> LocalPartCase {
        ca.and_then(|ca| self.ca(ca)).map_or(LocalPartCase::Ignored, |ca| ca.grant.local_part_case)
    }

    fn decide(
        &self,
        facts: &CertificateFacts,
        chain: &VerifiedChain,
        notes: &mut Vec<String>,
    ) -> Result<Identity, NoIdentity> {
        let ca = self.ca_of(chain);
        let matching = self.matching(facts, chain.anchor(), ca);
        let best = matching.iter().map(|compiled| compiled.rank()).max();
        let best: Vec<&Compiled> = matching.into_iter().filter(|compiled| Some(compiled.rank()) == best).collect();
        match best.as_slice() {
            [] => self.by_own_names(facts, ca, chain, notes),
            [one] if one.terms.state == EntryState::Disabled => {
                notes.push(format!("{} matches, and is disabled", one.rule()));
                Err(NoIdentity::Disabled { name: one.name.to_string() })
            }
            [one] if !one.terms.leeway.takes(chain.witness()) => {
                notes.push(format!("{} matches, and {NO_WORD}", one.rule()));
                Err(NoIdentity::NotVouched { name: Some(one.name.to_string()) })
            }
            [one] => {
                notes.push(format!("{} matches", one.rule()));
                let factor = self.second_factor(&one.terms, ca);
                if let (None, true, Some(ca)) =
                    (one.terms.second_factor, factor != SecondFactor::None, ca.and_then(|ca| self.ca(ca)))
                {
                    notes.push(format!("it says nothing of second_factor, and {} asks for one", ca.grant.rule));
                }
                Ok(self.by_entry(one, facts, ca, chain))
            }
            several => {
                let rules: Vec<String> = several.iter().map(|one| one.rule().to_string()).collect();
                notes.push(format!("{} match equally well; give one of them a key more", rules.join(" and ")));
                Err(NoIdentity::Ambiguous { names: several.iter().map(|one| one.name.to_string()).collect() })
            }
        }
    }

    fn matching(&self, facts: &CertificateFacts, anchor: &Anchor, ca: Option<u16>) -> Vec<&Compiled> {
        let mut places: Vec<u32> = Vec::new();
        clues(facts, |clue| places.extend(self.index.at(&clue)));
        places.sort_unstable();
        places.dedup();
        let found = places.into_iter().filter_map(|place| self.entries.get(usize::try_from(place).ok()?));
        found.filter(|compiled| self.holds(compiled, facts, anchor, ca)).collect()
    }

    /// Two keys may share a hash: here each is compared.
    fn holds(&self, compiled: &Compiled, facts: &CertificateFacts, anchor: &Anchor, ca: Option<u16>) -> bool {
        if compiled.tied_to.is_some_and(|tied_to| ca != Some(tied_to)) {
            return false;
        }
        // Who holds a pinned key can write any name around it; only a CA or the whole certificate's pin makes names certain.
        if *anchor == Anchor::Pin && !compiled.has_fingerprint() && compiled.asks_for_names() {
            return false;
        }
        let case = self.case_under(ca);
        compiled.keys.iter().all(|key| key.holds(facts, case))
    }

    fn by_entry(
        &self,
        compiled: &Compiled,
        facts: &CertificateFacts,
        ca: Option<u16>,
        chain: &VerifiedChain,
    ) -> Identity {
        let (case, second_factor) = (self.case_under(ca), self.second_factor(&compiled.terms, ca));
        let ca = ca.and_then(|ca| self.ca(ca));
        // Another CA than the entry's could vouch for the key with any name: a name counts under the CA that the rule names.
        let certain = compiled.tied_to.is_some() || compiled.has_fingerprint();
        let own = ca.map(|ca| ca.grant.own_names).unwrap_or_default();
        let names = if certain { certificate_names(facts, own, case) } else { HashSet::new() };
        let terms = &compiled.terms;
        Identity {
            name: Arc::from(&*compiled.name),
            ca: ca.map(|ca| Arc::clone(&ca.grant.ca)),
            grant: Arc::new(Grant {
                send_as: compiled.send_as.compile(case).bound(names, ca.and_then(|ca| ca.domains.clone())),
                send_to: compiled.send_to.compile(case),
                second_factor,
                limits: terms.limits,
                dispatch: terms.dispatch,
                null_sender: terms.null_sender,
                leeway: terms.leeway,
                local_part_case: case,
                rule: compiled.rule(),
            }),
            certificate: summary(facts, certain, ca.and_then(|ca| ca.domains.as_deref())),
            witness: chain.witness(),
            good_until: chain.good_until(),
        }
    }

    /// `send_as_email`, `send_as_upn`.
    fn by_own_names(
        &self,
        facts: &CertificateFacts,
        ca: Option<u16>,
        chain: &VerifiedChain,
        notes: &mut Vec<String>,
    ) -> Result<Identity, NoIdentity> {
        notes.push("no [[identity]] matches".to_owned());
        let Some(ca) = ca.and_then(|ca| self.ca(ca)) else { return Err(NoIdentity::Unknown) };
        let CaGrant { rule, send_as_email, local_part_case: case, .. } = &ca.grant;
        let Some(grant) = send_as_email else {
            notes
                .push(format!("{rule} has no send_as_email and no send_as_upn: its certificates need an [[identity]]"));
            return Err(NoIdentity::Unknown);
        };
        let Some(domains) = &ca.domains else {
            notes.push(format!("{rule} has no domains: its certificates' own names grant nothing"));
            return Err(NoIdentity::Unknown);
        };
        let (kind, place) = ca.grant.own_names.spoken();
        let named = ca.grant.own_names.alone(facts);
        let (own, beyond): (Vec<&Address>, Vec<&Address>) =
            named.into_iter().partition(|name| domains.holds(&name.host().to_string()));
        notes.extend(beyond.iter().map(|name| format!("{name} lies beyond the domains of {rule}")));
        let Some(first) = own.first() else {
            notes.push(format!("the certificate has no usable {kind} ({place})"));
            return Err(NoIdentity::Unknown);
        };
        if !grant.leeway.takes(chain.witness()) {
            notes.push(format!("{rule} would let it send as its own {kind}s, and {NO_WORD}"));
            return Err(NoIdentity::NotVouched { name: None });
        }
        notes.push(format!("{rule} lets it send as its own {kind}s"));
        let names = own.iter().map(|email| email.canonical(*case)).collect();
        Ok(Identity {
            name: format!("{}:{}", ca.grant.ca, first.canonical(*case)).into(),
            ca: Some(Arc::clone(&ca.grant.ca)),
            grant: Arc::new(Grant {
                send_as: ca.send_as.bound(names, Some(Arc::clone(domains))),
                send_to: ca.send_to.clone(),
                second_factor: ca.grant.second_factor,
                limits: grant.limits,
                dispatch: grant.dispatch,
                null_sender: grant.null_sender,
                leeway: grant.leeway,
                local_part_case: *case,
                rule: rule.clone(),
            }),
            certificate: summary(facts, true, Some(domains)),
            witness: chain.witness(),
            good_until: chain.good_until(),
        })
    }
}

impl OwnNames {
    /// What a certificate without an `[[identity]]` sends as; the first of them names it.
    fn alone(self, facts: &CertificateFacts) -> Vec<&Address> {
        let upns = || facts.upns.iter().filter(|upn| upn.host().is_fully_qualified());
        match self {
            Self::Emails => facts.emails.iter().collect(),
            Self::Upns => upns().collect(),
            Self::Both => facts.emails.iter().chain(upns()).collect(),
        }
    }

    /// What `@certificate` means.
    fn certificate(self, facts: &CertificateFacts) -> Vec<&Address> {
        match self {
            Self::Emails => Self::Emails.alone(facts),
            Self::Upns | Self::Both => Self::Both.alone(facts),
        }
    }

    /// What they are called, and where they stand in a certificate.
    const fn spoken(self) -> (&'static str, &'static str) {
        match self {
            Self::Emails => ("e-mail name", "rfc822Name or SmtpUTF8Mailbox in subjectAltName"),
            Self::Upns => ("user principal name", "otherName UPN in subjectAltName"),
            Self::Both => ("e-mail or user principal name", "rfc822Name, SmtpUTF8Mailbox or UPN in subjectAltName"),
        }
    }
}

/// What is kept of the certificate. Its address is written to (`notices.expiry`), so it is one that counts: not any that the holder of a pinned key
/// writes around it, nor one beyond the domains that the CA may speak for.
fn summary(facts: &CertificateFacts, certain: bool, domains: Option<&DomainSet>) -> Arc<CertificateSummary> {
    let counts = |email: &&Address| certain && domains.is_none_or(|domains| domains.holds(&email.host().to_string()));
    let email = facts.emails.iter().find(counts).cloned();
    Arc::new(CertificateSummary { email, ..facts.summary.clone() })
}

fn certificate_names(facts: &CertificateFacts, own: OwnNames, case: LocalPartCase) -> HashSet<CanonicalAddress> {
    own.certificate(facts).into_iter().map(|name| name.canonical(case)).collect()
}
