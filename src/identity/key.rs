//! What a certificate must have for an entry of the roster to match it, and how certain such a match is.
//!
//! ```text
//! email          alice@example.com               that rfc822Name or SmtpUTF8Mailbox
//!                *@example.com                   any of that domain
//! upn            alice@corp.example              that user principal name
//!                *@corp.example                  any of that suffix
//! dns            backup.example.com              that dNSName
//!                *.build.example.com             any host below build.example.com, however deep; not itself
//! uri            spiffe://example.com/billing    that URI, octet for octet
//!                spiffe://example.com/ns/prod/*  any SPIFFE ID below that path; not itself
//! subject        CN=Alice,O=Example              that subject, as values (RFC 4514)
//! issuer, serial                                 that certificate of that issuer
//! fingerprint, spki                              that certificate, that key (SHA-256)
//! ```
//!
//! There are no other wildcards. Of the URIs only SPIFFE IDs have one: they have one spelling, so that what begins the same is below.
//!
//! [`MatchKeys`] is what is written; `Key`s are what the roster keeps of it, small. Pure; reading fails with a sentence.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::str::FromStr;
use std::sync::Arc;

use super::distinguished::{DistinguishedName, SerialNumber};
use super::facts::{CertificateFacts, Digest256};
use super::names;
use crate::mail::address::Host;
use crate::mail::{Address, Domain, LocalPartCase};

/// What `email` and `upn` ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MailboxKey {
    /// `alice@example.com`
    Exact(Address),
    /// `*@example.com`
    Domain(Domain),
}

/// What `dns` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsKey {
    /// `backup.example.com`
    Exact(Domain),
    /// `*.build.example.com`
    Below(Domain),
}

/// What `uri` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UriKey {
    /// That URI.
    Exact(Box<str>),
    /// `spiffe://example.com/ns/prod/*`: up to and with the last slash.
    Below(Box<str>),
}

/// Why a text asks for no name that a certificate could have, in words for who wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// Not an address.
    #[error("{0}; write an address like \"alice@example.com\", or \"*@example.com\" for all of a domain")]
    Mailbox(String),
    /// An address that no usable name has.
    #[error("no certificate has such a name: {0}")]
    Never(&'static str),
    /// Not a host name.
    #[error("not a DNS name; write one like \"backup.example.com\", or \"*.example.com\" for all hosts below")]
    Dns,
    /// Not a URI.
    #[error("not a URI: {0}; write one like \"spiffe://example.com/billing\"")]
    Uri(&'static str),
    /// A wildcard elsewhere than it may stand.
    #[error(
        "a * in a uri stands for all SPIFFE IDs below a path and is written at the end: \"spiffe://example.com/ns/prod/*\""
    )]
    UriWildcard,
}

impl MailboxKey {
    /// Reads what `email` asks for.
    pub fn email(text: &str) -> Result<Self, KeyFault> {
        let key = Self::read(text)?;
        if let Self::Exact(address) = &key {
            let ascii = if address.is_ascii() { names::email } else { names::utf8_mailbox };
            // What is written may have U-labels; a certificate's name has not.
            let (local, host) = (address.local_part(), address.host());
            ascii(&format!("{local}@{host}")).map_err(KeyFault::Never)?;
        }
        Ok(key)
    }

    /// Reads what `upn` asks for.
    pub fn upn(text: &str) -> Result<Self, KeyFault> {
        let key = Self::read(text)?;
        if let Self::Exact(address) = &key {
            names::upn(address.as_str()).map_err(KeyFault::Never)?;
        }
        Ok(key)
    }

    fn read(text: &str) -> Result<Self, KeyFault> {
        if let Some(domain) = text.strip_prefix("*@") {
            return Domain::parse(domain).map(Self::Domain).map_err(|fault| KeyFault::Mailbox(fault.to_string()));
        }
        if text.contains('*') && !text.starts_with('"') {
            return Err(KeyFault::Mailbox("a * stands for a whole local part only".to_owned()));
        }
        Address::parse(text).map(Self::Exact).map_err(|fault| KeyFault::Mailbox(fault.to_string()))
    }
}

impl FromStr for DnsKey {
    type Err = KeyFault;

    fn from_str(text: &str) -> Result<Self, KeyFault> {
        let (wild, name) = text.strip_prefix("*.").map_or((false, text), |name| (true, name));
        let domain = Domain::parse(name).map_err(|_| KeyFault::Dns)?;
        Ok(if wild { Self::Below(domain) } else { Self::Exact(domain) })
    }
}

impl FromStr for UriKey {
    type Err = KeyFault;

    fn from_str(text: &str) -> Result<Self, KeyFault> {
        if !text.contains('*') {
            return names::uri(text).map(|uri| Self::Exact(uri.into())).map_err(KeyFault::Uri);
        }
        let above = text.strip_suffix("/*").filter(|above| above.starts_with("spiffe://") && !above.contains('*'));
        let above = above.ok_or(KeyFault::UriWildcard)?;
        names::uri(above).map_err(KeyFault::Uri)?;
        Ok(Self::Below(format!("{above}/").into()))
    }
}

impl From<Address> for MailboxKey {
    fn from(address: Address) -> Self {
        Self::Exact(address)
    }
}

/// What a certificate must have for an entry to match; all that are given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MatchKeys {
    /// The CA under which the chain must be verified.
    pub ca: Option<Arc<str>>,
    /// One of its rfc822Names or SmtpUTF8Mailboxes.
    pub email: Option<MailboxKey>,
    /// One of its user principal names.
    pub upn: Option<MailboxKey>,
    /// One of its dNSNames.
    pub dns: Option<DnsKey>,
    /// One of its URIs.
    pub uri: Option<UriKey>,
    /// Its subject.
    pub subject: Option<Arc<DistinguishedName>>,
    /// Its issuer and serial.
    pub issuer_serial: Option<(Arc<DistinguishedName>, SerialNumber)>,
    /// SHA-256 of the certificate.
    pub fingerprint: Option<Digest256>,
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub spki: Option<Digest256>,
}

impl MatchKeys {
    /// The keys besides the CA, the most certain first.
    pub(super) fn keys(&self) -> Box<[Key]> {
        let given = [
            self.fingerprint.map(Key::Fingerprint),
            self.spki.map(Key::Spki),
            self.issuer_serial.clone().map(|(issuer, serial)| Key::IssuerSerial(issuer, serial)),
            self.subject.clone().map(Key::Subject),
            self.uri.clone().map(|uri| match uri {
                UriKey::Exact(uri) => Key::Uri(uri),
                UriKey::Below(above) => Key::UriBelow(above),
            }),
            self.dns.as_ref().map(|dns| match dns {
                DnsKey::Exact(name) => Key::Dns(name.ascii().into()),
                DnsKey::Below(name) => Key::DnsBelow(name.ascii().into()),
            }),
            self.upn.as_ref().map(|upn| match upn {
                MailboxKey::Exact(upn) => Key::Upn(comparable(upn).into()),
                MailboxKey::Domain(domain) => Key::UpnAt(domain.ascii().into()),
            }),
            self.email.as_ref().map(|email| match email {
                MailboxKey::Exact(email) => Key::Email(comparable(email).into()),
                MailboxKey::Domain(domain) => Key::EmailAt(domain.ascii().into()),
            }),
        ];
        let mut keys: Vec<Key> = given.into_iter().flatten().collect();
        // Whoever is looked up by the first key is found by one that is exact, where there is one.
        keys.sort_by_key(Key::is_wildcard);
        keys.into()
    }
}

/// The form in which addresses are kept: local part unquoted where it can be, host in lower-case A-labels.
fn comparable(address: &Address) -> String {
    address.canonical(LocalPartCase::Exact).to_string()
}

/// One key of an entry, small.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Key {
    Fingerprint(Digest256),
    Spki(Digest256),
    IssuerSerial(Arc<DistinguishedName>, SerialNumber),
    Subject(Arc<DistinguishedName>),
    Uri(Box<str>),
    UriBelow(Box<str>),
    Dns(Box<str>),
    DnsBelow(Box<str>),
    Upn(Box<str>),
    UpnAt(Box<str>),
    Email(Box<str>),
    EmailAt(Box<str>),
}

/// What is looked up: a key without its owner. Addresses are folded to lower case, the CA's own rule is asked afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Clue<'a> {
    Fingerprint(&'a Digest256),
    Spki(&'a Digest256),
    IssuerSerial(&'a DistinguishedName, &'a SerialNumber),
    Subject(&'a DistinguishedName),
    Uri(&'a str),
    UriBelow(&'a str),
    Dns(&'a str),
    DnsBelow(&'a str),
    Upn(&'a str),
    UpnAt(&'a str),
    Email(&'a str),
    EmailAt(&'a str),
}

impl Key {
    pub(super) fn is_wildcard(&self) -> bool {
        match self {
            Self::UriBelow(_) | Self::DnsBelow(_) | Self::UpnAt(_) | Self::EmailAt(_) => true,
            Self::Fingerprint(_)
            | Self::Spki(_)
            | Self::IssuerSerial(..)
            | Self::Subject(_)
            | Self::Uri(_)
            | Self::Dns(_)
            | Self::Upn(_)
            | Self::Email(_) => false,
        }
    }

    /// Whether it is a claim of the certificate that somebody must vouch for.
    pub(super) fn is_name(&self) -> bool {
        !matches!(self, Self::Fingerprint(_) | Self::Spki(_))
    }

    /// What finds it.
    pub(super) fn with_clue<T>(&self, take: impl FnOnce(Clue<'_>) -> T) -> T {
        match self {
            Self::Fingerprint(digest) => take(Clue::Fingerprint(digest)),
            Self::Spki(digest) => take(Clue::Spki(digest)),
            Self::IssuerSerial(issuer, serial) => take(Clue::IssuerSerial(issuer, serial)),
            Self::Subject(subject) => take(Clue::Subject(subject)),
            Self::Uri(uri) => take(Clue::Uri(uri)),
            Self::UriBelow(above) => take(Clue::UriBelow(above)),
            Self::Dns(name) => take(Clue::Dns(name)),
            Self::DnsBelow(name) => take(Clue::DnsBelow(name)),
            Self::Upn(upn) => take(Clue::Upn(&folded(upn))),
            Self::UpnAt(domain) => take(Clue::UpnAt(domain)),
            Self::Email(email) => take(Clue::Email(&folded(email))),
            Self::EmailAt(domain) => take(Clue::EmailAt(domain)),
        }
    }

    /// Whether the certificate has it.
    pub(super) fn holds(&self, facts: &CertificateFacts, case: LocalPartCase) -> bool {
        let is = |address: &Address, wanted: &str| same(&comparable(address), wanted, case);
        let is_at =
            |address: &Address, wanted: &str| matches!(address.host(), Host::Domain(host) if host.ascii() == wanted);
        match self {
            Self::Fingerprint(wanted) => facts.summary.fingerprint == *wanted,
            Self::Spki(wanted) => facts.summary.spki == *wanted,
            Self::IssuerSerial(issuer, serial) => {
                facts.issuer.as_ref() == Some(&**issuer) && facts.serial.as_ref() == Some(serial)
            }
            Self::Subject(wanted) => facts.subject.as_ref() == Some(&**wanted),
            Self::Uri(wanted) => facts.uris.iter().any(|uri| **uri == **wanted),
            Self::UriBelow(above) => facts.uris.iter().any(|uri| is_below(uri, above)),
            Self::Dns(wanted) => facts.dns.iter().any(|name| **name == **wanted),
            Self::DnsBelow(wanted) => facts.dns.iter().any(|name| parents(name).any(|parent| parent == &**wanted)),
            Self::Upn(wanted) => facts.upns.iter().any(|upn| is(upn, wanted)),
            Self::UpnAt(wanted) => facts.upns.iter().any(|upn| is_at(upn, wanted)),
            Self::Email(wanted) => facts.emails.iter().any(|email| is(email, wanted)),
            Self::EmailAt(wanted) => facts.emails.iter().any(|email| is_at(email, wanted)),
        }
    }

    /// The same as far as certificates go that this CA's rule compares.
    pub(super) fn normal(&self, case: LocalPartCase) -> Self {
        match (self, case) {
            (Self::Email(email), LocalPartCase::Ignored) => Self::Email(folded(email).into()),
            (Self::Upn(upn), LocalPartCase::Ignored) => Self::Upn(folded(upn).into()),
            (_, LocalPartCase::Ignored | LocalPartCase::Exact) => self.clone(),
        }
    }

    /// Wildcards that name all that this one names, the nearest first; itself not among them.
    pub(super) fn covering(&self) -> Vec<Self> {
        match self {
            Self::DnsBelow(name) => parents(name).map(|parent| Self::DnsBelow(parent.into())).collect(),
            Self::UriBelow(above) => {
                let inner = above.strip_suffix('/').unwrap_or(above);
                prefixes(inner).map(|prefix| Self::UriBelow(prefix.into())).collect()
            }
            Self::Fingerprint(_)
            | Self::Spki(_)
            | Self::IssuerSerial(..)
            | Self::Subject(_)
            | Self::Uri(_)
            | Self::Dns(_)
            | Self::Upn(_)
            | Self::UpnAt(_)
            | Self::Email(_)
            | Self::EmailAt(_) => Vec::new(),
        }
    }

    /// The trust domain whose IDs alone it names, if it names SPIFFE IDs.
    pub(super) fn trust_domain(&self) -> Option<&str> {
        let (Self::Uri(uri) | Self::UriBelow(uri)) = self else { return None };
        names::trust_domain_of(uri)
    }
}

/// Everything a certificate is looked up by.
pub(super) fn clues(facts: &CertificateFacts, mut take: impl FnMut(Clue<'_>)) {
    take(Clue::Fingerprint(&facts.summary.fingerprint));
    take(Clue::Spki(&facts.summary.spki));
    if let (Some(issuer), Some(serial)) = (&facts.issuer, &facts.serial) {
        take(Clue::IssuerSerial(issuer, serial));
    }
    facts.subject.iter().for_each(|subject| take(Clue::Subject(subject)));
    for uri in &facts.uris {
        take(Clue::Uri(uri));
        prefixes(uri).for_each(|prefix| take(Clue::UriBelow(prefix)));
    }
    for name in &facts.dns {
        take(Clue::Dns(name));
        parents(name).for_each(|parent| take(Clue::DnsBelow(parent)));
    }
    for upn in &facts.upns {
        take(Clue::Upn(&folded(&comparable(upn))));
        upn.host().domain().iter().for_each(|domain| take(Clue::UpnAt(domain.ascii())));
    }
    for email in &facts.emails {
        take(Clue::Email(&folded(&comparable(email))));
        email.host().domain().iter().for_each(|domain| take(Clue::EmailAt(domain.ascii())));
    }
}

/// How certain a match by these keys is: the larger wins.
pub(super) type Rank = (bool, bool, bool, usize, Reverse<usize>);

pub(super) fn rank(keys: &[Key], names_ca: bool) -> Rank {
    let has = |wanted: fn(&Key) -> bool| keys.iter().any(wanted);
    (
        has(|key| matches!(key, Key::Fingerprint(_))),
        has(|key| matches!(key, Key::Spki(_))),
        has(|key| matches!(key, Key::IssuerSerial(..))),
        keys.len().saturating_add(usize::from(names_ca)),
        Reverse(keys.iter().filter(|key| key.is_wildcard()).count()),
    )
}

/// Addresses in their kept form: without case where all is ASCII, as the canonicaliser of `mail` has it.
fn folded(text: &str) -> Cow<'_, str> {
    if text.is_ascii() && text.bytes().any(|octet| octet.is_ascii_uppercase()) {
        text.to_ascii_lowercase().into()
    } else {
        text.into()
    }
}

fn same(one: &str, other: &str, case: LocalPartCase) -> bool {
    match case {
        LocalPartCase::Ignored => folded(one) == folded(other),
        LocalPartCase::Exact => one == other,
    }
}

fn is_below(uri: &str, above: &str) -> bool {
    uri.strip_prefix(above).is_some_and(|rest| !rest.is_empty())
}

/// `spiffe://a/b/c` -> `spiffe://a/b/`, `spiffe://a/`: what a wildcard that names it is written as, without its `*`.
fn prefixes(uri: &str) -> impl Iterator<Item = &str> {
    let slashes = uri.starts_with("spiffe://").then(|| uri.match_indices('/').skip(2)).into_iter().flatten();
    let ends: Vec<usize> = slashes.map(|(at, slash)| at.saturating_add(slash.len())).collect();
    ends.into_iter().rev().filter_map(|end| uri.get(..end))
}

/// `c.example.com` -> `example.com`, `com`.
pub(super) fn parents(host: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(host.split_once('.'), |(_, parent)| parent.split_once('.')).map(|(_, parent)| parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_no_certificate_could_meet_is_told() {
        type Read = fn(&str) -> Result<(), KeyFault>;
        let email: Read = |text| MailboxKey::email(text).map(drop);
        let upn: Read = |text| MailboxKey::upn(text).map(drop);
        let dns: Read = |text| text.parse::<DnsKey>().map(drop);
        let uri: Read = |text| text.parse::<UriKey>().map(drop);
        for (read, right) in [
            (email, "alice@example.com"),
            (email, "zoë@exämple.com"),
            (email, "*@example.com"),
            (upn, "alice@CORP"),
            (upn, "*@corp.example"),
            (dns, "a.example.com"),
            (dns, "*.example.com"),
            (uri, "urn:a"),
            (uri, "spiffe://example.com/a"),
            (uri, "spiffe://example.com/*"),
            (uri, "spiffe://example.com/ns/prod/*"),
        ] {
            assert_eq!(read(right), Ok(()), "{right}");
        }
        for (read, wrong, said) in [
            (email, "alice", "write an address"),
            (email, "", "write an address"),
            (email, "al*@example.com", "whole local part"),
            (email, "*@*.example.com", "write an address"),
            (email, "*", "whole local part"),
            (email, "alice@localhost", "no certificate has such a name: its domain"),
            (email, "alice@[192.0.2.1]", "no certificate has such a name: its host"),
            (email, "\"a b\"@example.com", "no certificate has such a name: holds spaces"),
            (upn, "CORP\\alice", "write an address"),
            (dns, "a b", "not a DNS name"),
            (dns, "*.*.example.com", "not a DNS name"),
            (dns, "*", "not a DNS name"),
            (dns, "a.*.example.com", "not a DNS name"),
            (uri, "robot", "no scheme"),
            (uri, "spiffe://Example.com/a", "not a SPIFFE ID"),
            (uri, "https://example.com/*", "is written at the end"),
            (uri, "spiffe://example.com/a*", "is written at the end"),
            (uri, "spiffe://*/a", "is written at the end"),
            (uri, "spiffe://example.com/*/a/*", "is written at the end"),
            (uri, "spiffe://example.com//*", "not a SPIFFE ID"),
            (uri, "spiffe:///*", "not a SPIFFE ID"),
        ] {
            let told = read(wrong).expect_err(wrong).to_string();
            assert!(told.contains(said), "{wrong}: {told}");
        }
    }

    /// Only ASCII local parts are without case; what is beyond is compared octet for octet.
    #[test]
    fn case_is_passed_over_in_ascii_addresses_alone() {
        for (one, other, ignored) in [
            ("Alice@example.com", "alice@example.com", true),
            ("Zoë@example.com", "zoë@example.com", false),
            ("zoë@example.com", "zoë@example.com", true),
        ] {
            assert_eq!(same(one, other, LocalPartCase::Ignored), ignored, "{one} | {other}");
            assert_eq!(same(one, other, LocalPartCase::Exact), one == other, "{one} | {other}");
        }
    }

    #[test]
    fn what_is_above_a_name_ends_at_its_parts() {
        assert!(parents("c.b.example.com").eq(["b.example.com", "example.com", "com"]));
        assert!(prefixes("spiffe://a/b/c").eq(["spiffe://a/b/", "spiffe://a/"]));
        assert_eq!(prefixes("spiffe://a").count(), 0);
        assert_eq!(prefixes("https://a/b/c").count(), 0);
        assert!(is_below("spiffe://a/bc", "spiffe://a/") && !is_below("spiffe://a/bc", "spiffe://a/b/"));
        assert!(!is_below("spiffe://a/b/", "spiffe://a/b/"));
    }
}
