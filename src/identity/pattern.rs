//! Address patterns of grants: which addresses a list names.
//!
//! ```text
//! alice@example.com     that address
//! billing+*@example.com the address with anything behind its +
//! *@example.com         every address of that domain
//! *@*.example.com       every address of its subdomains, not of itself
//! *                     every address
//! @certificate          the e-mail names of the certificate, with send_as_upn its user principal names too (in send_as only)
//! !bob@example.com      not that one; any of the forms above but `*` and `@certificate`
//! ```
//!
//! What is excluded is excluded wherever it stands in the list: an exclusion wins over every other pattern, the certificate's own names
//! included. An exclusion is wide and a grant is narrow: excluded is an address in any case of its letters, ASCII or not, whatever `local_part_case`
//! says of grants. An empty list grants nothing. Addresses compare in their canonical form; the patterns are put into the same form when a list is
//! compiled, and looked up by hash: a list of 10,000 costs no more than one of ten.
//!
//! Pure. Reading fails with a sentence that says what to write instead.

mod domains;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

pub use domains::{DomainFault, DomainSet};

use super::key::parents;
use crate::mail::address::Host;
use crate::mail::{Address, AddressFault, CanonicalAddress, Domain, LocalPartCase};

/// The most patterns in one list.
pub const PATTERNS_MAX: usize = 100_000;

/// One pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressPattern {
    /// `*`
    Any,
    /// `alice@example.com`
    Address(Address),
    /// `billing+*@example.com`
    Tagged {
        /// The local part up to and with its `+`, as written.
        local: String,
        /// The host.
        host: Host,
    },
    /// `*@example.com`
    Host(Host),
    /// `*@*.example.com`
    Subdomains(Domain),
    /// `@certificate`
    Certificate,
}

impl fmt::Display for AddressPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Address(address) => address.fmt(f),
            Self::Tagged { local, host } => write!(f, "{local}*@{host}"),
            Self::Host(host) => write!(f, "*@{host}"),
            Self::Subdomains(domain) => write!(f, "*@*.{domain}"),
            Self::Certificate => f.write_str("@certificate"),
        }
    }
}

/// Why a text is no pattern, in words for who wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternFault {
    /// Nothing there.
    #[error("it is empty; leave it out")]
    Empty,
    /// Neither address nor pattern.
    #[error("{0}")]
    Address(#[from] AddressFault),
    /// A domain without `*@`.
    #[error("it has no @; for every address of a domain write *@{0}")]
    NoAt(String),
    /// `@example.com`
    #[error("nothing stands before the @; for every address of the domain write *{0}")]
    NoLocalPart(String),
    /// `bill*@example.com`
    #[error(
        "a * stands for a whole local part (*@example.com) or for what is behind a + (billing+*@example.com), not for a part of it"
    )]
    PartialLocalPart,
    /// `a@*.example.com`, `*@ex*.com`
    #[error("a * in the domain is written *@*.example.com: every address of the subdomains")]
    PartialDomain,
    /// `@certificate` where no certificate's names belong.
    #[error("@certificate has a meaning in send_as only")]
    CertificateHere,
    /// Another word with `@` before it.
    #[error("the only word with an @ before it is @certificate")]
    UnknownWord,
    /// `!*`, `!@certificate`, `!!x`
    #[error("after ! comes an address, billing+*@example.com, *@example.com or *@*.example.com")]
    Exclusion,
    /// Over [`PATTERNS_MAX`].
    #[error("there are more than {PATTERNS_MAX} patterns in this list")]
    TooMany,
}

/// One entry of a list: what it names, and whether it is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PatternEntry {
    /// Granted.
    Granted(AddressPattern),
    /// `!`: excluded.
    Excluded(AddressPattern),
}

impl fmt::Display for PatternEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Granted(pattern) => pattern.fmt(f),
            Self::Excluded(pattern) => write!(f, "!{pattern}"),
        }
    }
}

impl FromStr for PatternEntry {
    type Err = PatternFault;

    fn from_str(text: &str) -> Result<Self, PatternFault> {
        let Some(excluded) = text.strip_prefix('!') else { return text.parse().map(Self::Granted) };
        let pattern = excluded.parse()?;
        if matches!(pattern, AddressPattern::Any | AddressPattern::Certificate) {
            return Err(PatternFault::Exclusion);
        }
        Ok(Self::Excluded(pattern))
    }
}

impl FromStr for AddressPattern {
    type Err = PatternFault;

    fn from_str(text: &str) -> Result<Self, PatternFault> {
        match text {
            "" => return Err(PatternFault::Empty),
            "*" => return Ok(Self::Any),
            "@certificate" => return Ok(Self::Certificate),
            _ => {}
        }
        if text.starts_with('!') {
            return Err(PatternFault::Exclusion);
        }
        if !text.contains('*') {
            return plain_address(text);
        }
        if text.starts_with('"') {
            // A quoted local part may hold a `*`, and it means itself.
            return Ok(Self::Address(Address::parse(text)?));
        }
        let (local, host) = text.split_once('@').ok_or_else(|| PatternFault::NoAt(text.to_owned()))?;
        match (local, host.strip_prefix("*.")) {
            ("*", Some(domain)) if domain.contains('*') => Err(PatternFault::PartialDomain),
            ("*", Some(domain)) => Ok(Self::Subdomains(Domain::parse(domain)?)),
            _ if host.contains('*') => Err(PatternFault::PartialDomain),
            ("*", None) => Ok(Self::Host(Host::parse(host)?)),
            _ => tagged(local, host),
        }
    }
}

fn plain_address(text: &str) -> Result<AddressPattern, PatternFault> {
    match text.split_once('@') {
        None => Err(PatternFault::NoAt(text.to_owned())),
        Some(("", host)) if !host.contains('.') => Err(PatternFault::UnknownWord),
        Some(("", _)) => Err(PatternFault::NoLocalPart(text.to_owned())),
        Some(_) => Ok(AddressPattern::Address(Address::parse(text)?)),
    }
}

fn tagged(local: &str, host: &str) -> Result<AddressPattern, PatternFault> {
    let prefix = local.strip_suffix('*').filter(|prefix| prefix.ends_with('+') && prefix.len() > 1);
    let prefix = prefix.filter(|prefix| !prefix.contains('*')).ok_or(PatternFault::PartialLocalPart)?;
    // The prefix must be a local part by itself: the address grammar is asked, not imitated.
    Address::parse(&format!("{prefix}@{host}"))?;
    Ok(AddressPattern::Tagged { local: prefix.to_owned(), host: Host::parse(host)? })
}

/// Which list it is: `@certificate` belongs into one only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListPurpose {
    /// `send_as`
    SendAs,
    /// `send_to`
    SendTo,
}

/// Lists of more patterns are put into their hashes once, shorter ones each time they are wanted: that takes less than it saves memory.
const COMPILED_FROM: usize = 32;

/// A list as written, read; not yet bound to a way to compare. Cheap to clone: a million entries may share one.
#[derive(Clone, Default)]
pub struct PatternList {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    entries: Box<[PatternEntry]>,
    /// For local parts without case, and with.
    compiled: [OnceLock<Box<AddressPatterns>>; 2],
}

impl PatternList {
    /// Reads a list; the faults carry the place in it, from 0.
    pub fn read<'a>(
        texts: impl IntoIterator<Item = &'a str>,
        purpose: ListPurpose,
    ) -> Result<Self, Vec<(usize, PatternFault)>> {
        let mut entries = Vec::new();
        let mut faults = Vec::new();
        for (place, text) in texts.into_iter().enumerate() {
            if place >= PATTERNS_MAX {
                faults.push((place, PatternFault::TooMany));
                break;
            }
            match text.parse() {
                Ok(PatternEntry::Granted(AddressPattern::Certificate)) if purpose == ListPurpose::SendTo => {
                    faults.push((place, PatternFault::CertificateHere));
                }
                Ok(entry) => entries.push(entry),
                Err(fault) => faults.push((place, fault)),
            }
        }
        let shared = || Arc::new(Shared { entries: entries.into(), compiled: Default::default() });
        if faults.is_empty() { Ok(Self { shared: shared() }) } else { Err(faults) }
    }

    /// The entries in their order.
    pub fn entries(&self) -> &[PatternEntry] {
        &self.shared.entries
    }

    /// Binds it to a way to compare local parts.
    pub fn compile(&self, case: LocalPartCase) -> AddressPatterns {
        if self.shared.entries.len() < COMPILED_FROM {
            return AddressPatterns::of(&self.shared.entries, case);
        }
        let [ignored, exact] = &self.shared.compiled;
        let place = match case {
            LocalPartCase::Ignored => ignored,
            LocalPartCase::Exact => exact,
        };
        let compiled = place.get_or_init(|| Box::new(AddressPatterns::of(&self.shared.entries, case)));
        AddressPatterns::clone(compiled)
    }

    /// Puts a long list into its hashes, should it not be.
    pub(super) fn warm(&self, case: LocalPartCase) {
        if self.shared.entries.len() >= COMPILED_FROM {
            drop(self.compile(case));
        }
    }

    /// Whether the two are one list in memory.
    pub(super) fn same_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl fmt::Debug for PatternList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.entries()).finish()
    }
}

/// In which form addresses are kept and looked up.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// Grants: by the CA's rule.
    Narrow(LocalPartCase),
    /// Exclusions: in any case.
    Wide,
}

impl Form {
    fn of(self, address: &Address) -> CanonicalAddress {
        match self {
            Self::Narrow(case) => address.canonical(case),
            Self::Wide => address.canonical(LocalPartCase::Exact).folded(),
        }
    }
}

/// Patterns by hash of what they name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Index {
    written: Vec<AddressPattern>,
    addresses: HashMap<CanonicalAddress, usize>,
    /// By the local part up to its `+`, and the host.
    tagged: HashMap<CanonicalAddress, usize>,
    hosts: HashMap<String, usize>,
    subdomains: HashMap<String, usize>,
    any: Option<usize>,
    certificate: Option<usize>,
}

impl Index {
    fn put(&mut self, pattern: &AddressPattern, form: Form) {
        let place = self.written.len();
        self.written.push(pattern.clone());
        match pattern {
            AddressPattern::Any => self.any = self.any.or(Some(place)),
            AddressPattern::Certificate => self.certificate = self.certificate.or(Some(place)),
            AddressPattern::Address(address) => {
                self.addresses.entry(form.of(address)).or_insert(place);
            }
            AddressPattern::Tagged { local, host } => {
                // It was an address when it was read.
                if let Ok(address) = Address::parse(&format!("{local}@{host}")) {
                    self.tagged.entry(form.of(&address)).or_insert(place);
                }
            }
            AddressPattern::Host(host) => {
                self.hosts.entry(host.to_string()).or_insert(place);
            }
            AddressPattern::Subdomains(domain) => {
                self.subdomains.entry(domain.ascii().to_owned()).or_insert(place);
            }
        }
    }

    /// The most exact pattern that names the address.
    fn find(&self, address: &CanonicalAddress) -> Option<&AddressPattern> {
        let place = self.addresses.get(address).copied().or_else(|| self.find_wild(address))?;
        self.written.get(place)
    }

    fn find_wild(&self, address: &CanonicalAddress) -> Option<usize> {
        self.find_tagged(address)
            .or_else(|| self.hosts.get(&address.host).copied())
            .or_else(|| parents(&address.host).find_map(|parent| self.subdomains.get(parent).copied()))
            .or(self.any)
    }

    /// Another pattern that names all that this one names; for exclusions the same one, too.
    fn covering(&self, pattern: &AddressPattern, form: Form) -> Option<&AddressPattern> {
        let place = match pattern {
            AddressPattern::Any => self.any,
            AddressPattern::Certificate => None,
            AddressPattern::Address(address) => return self.find(&form.of(address)),
            AddressPattern::Tagged { local, host } => {
                // What is behind the + may be anything: an address that is just the prefix covers nothing.
                self.find_wild(&form.of(&Address::parse(&format!("{local}@{host}")).ok()?))
            }
            AddressPattern::Host(host) => {
                let host = host.to_string();
                let above = || parents(&host).find_map(|parent| self.subdomains.get(parent));
                self.hosts.get(&host).or_else(above).copied().or(self.any)
            }
            AddressPattern::Subdomains(domain) => {
                let above = || parents(domain.ascii()).find_map(|parent| self.subdomains.get(parent));
                self.subdomains.get(domain.ascii()).or_else(above).copied().or(self.any)
            }
        }?;
        self.written.get(place)
    }

    fn wider(&self, pattern: &AddressPattern, form: Form) -> Option<&AddressPattern> {
        let above = |host: &str| parents(host).find_map(|parent| self.subdomains.get(parent)).copied();
        let place = match pattern {
            AddressPattern::Any | AddressPattern::Certificate | AddressPattern::Address(_) => None,
            AddressPattern::Tagged { host, .. } => return self.covering(&AddressPattern::Host(host.clone()), form),
            AddressPattern::Host(host) => above(&host.to_string()).or(self.any),
            AddressPattern::Subdomains(domain) => above(domain.ascii()).or(self.any),
        };
        self.written.get(place?)
    }

    /// At each `+` of the local part (at most 64 octets); the longest prefix first.
    fn find_tagged(&self, address: &CanonicalAddress) -> Option<usize> {
        if self.tagged.is_empty() {
            return None;
        }
        let ends = address.local.match_indices('+').map(|(at, plus)| at.saturating_add(plus.len())).rev();
        let mut prefixes = ends.filter_map(|end| address.local.get(..end));
        prefixes.find_map(|prefix| {
            let key = CanonicalAddress { local: prefix.to_owned(), host: address.host.clone() };
            self.tagged.get(&key).copied()
        })
    }
}

/// A list, ready to be asked; empty grants nothing. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressPatterns {
    granted: Arc<Index>,
    excluded: Arc<Index>,
    /// The certificate's own names, where `@certificate` stands in the list.
    certificate: Arc<HashSet<CanonicalAddress>>,
    /// The CA's `domains`: nothing beyond is granted, whatever the list says.
    within: Option<Arc<DomainSet>>,
}

/// What a list says of an address, for `explain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Granting<'a> {
    /// Granted by this pattern.
    Granted(&'a AddressPattern),
    /// Excluded by this pattern.
    Excluded(&'a AddressPattern),
    /// A pattern names it, but it lies beyond the domains of the CA.
    BeyondDomains(&'a AddressPattern),
    /// No pattern names it.
    Unnamed,
}

impl AddressPatterns {
    fn of(entries: &[PatternEntry], case: LocalPartCase) -> Self {
        let mut granted = Index::default();
        let mut excluded = Index::default();
        for entry in entries {
            match entry {
                PatternEntry::Granted(pattern) => granted.put(pattern, Form::Narrow(case)),
                PatternEntry::Excluded(pattern) => excluded.put(pattern, Form::Wide),
            }
        }
        Self { granted: Arc::new(granted), excluded: Arc::new(excluded), certificate: Arc::default(), within: None }
    }

    /// A list of patterns, read and bound in one go; the first fault, when there is one.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>, case: LocalPartCase) -> Result<Self, PatternFault> {
        let read = PatternList::read(texts, ListPurpose::SendAs);
        read.map(|list| list.compile(case))
            .map_err(|faults| faults.into_iter().next().map_or(PatternFault::Empty, |(_, fault)| fault))
    }

    /// The pattern that grants this address, if one does. The address must have been made canonical by the same case rule.
    pub fn matches(&self, address: &CanonicalAddress) -> Option<&AddressPattern> {
        match self.explain(address) {
            Granting::Granted(pattern) => Some(pattern),
            Granting::Excluded(_) | Granting::BeyondDomains(_) | Granting::Unnamed => None,
        }
    }

    /// The same, with the reason for a no.
    pub fn explain(&self, address: &CanonicalAddress) -> Granting<'_> {
        if let Some(pattern) = self.excluded.find(&address.folded()) {
            return Granting::Excluded(pattern);
        }
        let Some(pattern) = self.find(address) else { return Granting::Unnamed };
        match &self.within {
            Some(domains) if !domains.holds(&address.host) => Granting::BeyondDomains(pattern),
            _ => Granting::Granted(pattern),
        }
    }

    /// Whether the address is granted by name: written out, or the certificate's own. `*` and its like are not enough.
    pub fn names(&self, address: &CanonicalAddress) -> bool {
        matches!(self.explain(address), Granting::Granted(AddressPattern::Address(_) | AddressPattern::Certificate))
    }

    /// The same of an address that is not known octet for octet: whether one that is granted by name is `the_same`. Asks it of each.
    pub fn name_one(&self, the_same: impl Fn(&CanonicalAddress) -> bool) -> bool {
        let by_name = self.granted.addresses.keys().chain(&*self.certificate);
        by_name.into_iter().any(|address| the_same(address) && self.names(address))
    }

    /// What is granted, in the order written, with the certificate's own names last.
    pub fn granted(&self) -> impl Iterator<Item = String> + '_ {
        let mut own: Vec<String> = self.certificate.iter().map(ToString::to_string).collect();
        own.sort_unstable();
        let written = self.granted.written.iter().filter(|pattern| **pattern != AddressPattern::Certificate);
        written.map(ToString::to_string).chain(own)
    }

    /// What is excluded, in the order written.
    pub fn excluded(&self) -> impl Iterator<Item = &AddressPattern> {
        self.excluded.written.iter()
    }

    /// The exclusion that leaves nothing of a pattern.
    pub(super) fn excluding(&self, pattern: &AddressPattern) -> Option<&AddressPattern> {
        self.excluded.covering(pattern, Form::Wide)
    }

    /// A wider pattern of the list, beside which this one, a wildcard, says nothing more.
    pub(super) fn wider(&self, pattern: &AddressPattern, case: LocalPartCase) -> Option<&AddressPattern> {
        self.granted.wider(pattern, Form::Narrow(case))
    }

    /// The list `["@certificate"]`, not yet bound to a certificate.
    pub(super) fn of_certificate() -> Self {
        let mut granted = Index::default();
        granted.put(&AddressPattern::Certificate, Form::Narrow(LocalPartCase::Ignored));
        Self { granted: Arc::new(granted), ..Self::default() }
    }

    /// Whether `@certificate` stands in it.
    pub(super) fn wants_certificate(&self) -> bool {
        self.granted.certificate.is_some()
    }

    /// The same list for one certificate: its own names where they are wanted, and nothing beyond the domains of its CA.
    pub(super) fn bound(&self, names: HashSet<CanonicalAddress>, within: Option<Arc<DomainSet>>) -> Self {
        let certificate = if self.wants_certificate() { Arc::new(names) } else { Arc::default() };
        Self { granted: Arc::clone(&self.granted), excluded: Arc::clone(&self.excluded), certificate, within }
    }

    fn find(&self, address: &CanonicalAddress) -> Option<&AddressPattern> {
        let found = self.granted.find(address);
        if matches!(found, Some(AddressPattern::Address(_))) || !self.certificate.contains(address) {
            return found;
        }
        self.granted.certificate.and_then(|place| self.granted.written.get(place))
    }
}

#[cfg(test)]
mod tests;
