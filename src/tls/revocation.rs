//! Certificate revocation lists: verified once, when loaded; asked at every verification (RFC 5280 §5, §6.3).
//!
//! webpki can check CRLs while it builds a path, but then checks the CRL's signature at every handshake, lets a stale list hide a fresh one, and
//! fails every handshake over one forged file. Here a list is read (`list`) and its signature verified against its issuer's certificate when it is
//! loaded; the newest per issuer and scope is kept; serials are kept sorted and looked up by halving.
//!
//! - An issuer is a name *and* a key: a list signed by another key of the same name says nothing about the certificates of this one.
//! - A list for a part of the certificates covers that part only (§6.3.3 (b)); whatever any list of the issuer has is revoked.
//! - A delta counts on top of a complete list of its scope (§5.2.4); it never makes that one fresh.
//! - Stale means unknown: from nextUpdate, or so much later as `crl_grace` says, a list vouches for nothing. What it lists stays revoked.
//! - Indirect lists and lists of some reasons only are refused when loaded, each with its reason.
//!
//! Never: reads a file or a clock; lets a faulty list of one CA trouble another.

pub(super) mod list;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use self::list::{Delta, Scope};
use super::read::ReadFault;
use super::view::{Serial, View};
use crate::identity::facts::Digest256;
use crate::sys::WallTime;

/// The most octets one CRL file may have: about a million and a half revoked certificates.
pub const CRL_OCTETS_MAX: usize = 64 * 1024 * 1024;

/// How much a CA's certificates depend on its CRLs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevocationMode {
    /// Each certificate of the chain must be covered by a fresh CRL; unknown is no.
    Require,
    /// Listed is no; without a fresh CRL the certificate is good.
    IfAvailable,
    /// CRLs are not asked.
    Off,
}

/// Why a CRL is not used, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CrlCause {
    /// No PEM or DER CRL.
    #[error(transparent)]
    Unreadable(#[from] ReadFault),
    /// Not a CRL by its grammar.
    #[error("it is no CRL of RFC 5280; make it again")]
    Malformed,
    /// Its issuer's certificate is not configured.
    #[error(
        "its issuer ({issuer}) is not among this CA's certificates and intermediates; if this CRL is of another CA, take it out; if it is of an issuing CA below this one, add that CA's certificate to intermediates"
    )]
    UnknownIssuer {
        /// The issuer for people.
        issuer: String,
    },
    /// The name is right, the signature is not.
    #[error(
        "its signature does not verify with the certificate of {issuer}: it is forged, damaged, or of another CA of the same name"
    )]
    BadSignature {
        /// The issuer for people.
        issuer: String,
    },
    /// SHA-1 and the like.
    #[error("its signature is of a weak kind or one unknown here; have the CA sign with SHA-256 or better")]
    WeakSignature,
    /// The issuer's keyUsage lacks cRLSign.
    #[error("its issuer's certificate may not sign CRLs (key usage)")]
    NotACrlSigner,
    /// Without nextUpdate nobody knows when it is stale.
    #[error("it has no nextUpdate (RFC 5280 section 5.1.2.5 demands one)")]
    NoNextUpdate,
    /// A delta CRL without its base.
    #[error(
        "it is a delta CRL, and the complete CRL that it is based on is not here; give that one too, or the complete CRL alone"
    )]
    DeltaWithoutBase,
    /// Another CA's certificates are in it.
    #[error("it is an indirect CRL; give each CA's own CRL")]
    Indirect,
    /// Only certificates revoked for some reasons are in it.
    #[error("it lists only some reasons of revocation (issuing distribution point); give the complete CRL")]
    SomeReasons,
    /// Only attribute certificates are in it.
    #[error("it lists attribute certificates only; give the CRL of the CA's certificates")]
    Attributes,
    /// A distribution point that is not named whole.
    #[error(
        "its distribution point is named relative to its issuer; have the CA name it whole, or give the complete CRL"
    )]
    RelativePoint,
    /// A fetched file of several lists, or of none.
    #[error("it holds {0} CRLs, not one")]
    NotOne(usize),
    /// Something that must be understood is not.
    #[error("it has a critical extension that is unknown here ({oid})")]
    UnknownCritical {
        /// Its object identifier.
        oid: String,
    },
}

/// A CRL that is not used: that CA's certificates are judged without it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {cause}")]
pub struct CrlFault {
    /// Which file.
    pub place: String,
    /// Why.
    pub cause: CrlCause,
}

/// Whether a certificate is revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// A list that covers it does not have it.
    Good {
        /// Until when that counts: the list's nextUpdate, or the end of its grace.
        until: WallTime,
    },
    /// Listed, be the list fresh or stale.
    Revoked,
    /// No list covers it, or only stale ones that do not have it.
    Unknown,
}

/// One CRL whose signature has been verified.
#[derive(Clone, Debug)]
pub(super) struct Crl {
    issuer: Issuer,
    issuer_text: String,
    scope: Scope,
    place: Arc<str>,
    this_update: WallTime,
    next_update: WallTime,
    /// cRLNumber as unsigned octets; longer is larger.
    number: Vec<u8>,
    /// Sorted; with what the delta adds, without what it takes off.
    revoked: Vec<Serial>,
    delta: Option<DeltaFacts>,
}

#[derive(Clone, Debug)]
struct DeltaFacts {
    place: Arc<str>,
    this_update: WallTime,
    next_update: WallTime,
}

/// Whose list it is: the name's DER and the SHA-256 of the key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Issuer {
    name: Vec<u8>,
    key: Digest256,
}

/// What people want to know of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrlFacts {
    /// Where it was read from.
    pub place: String,
    /// Whose it is, for people.
    pub issuer: String,
    /// When it was made.
    pub this_update: WallTime,
    /// From when on it is stale.
    pub next_update: WallTime,
    /// How many serials it has.
    pub revoked: usize,
    /// Which certificates it covers, in words; none is all.
    pub scope: Option<String>,
}

/// By what of two lists the newer is known, before either is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrlAge {
    /// When it was made.
    pub this_update: WallTime,
    /// From when on it is stale.
    pub next_update: WallTime,
    /// How many serials it has.
    pub revoked: usize,
    issuer: Issuer,
    scope: Scope,
    number: Vec<u8>,
    /// Whether it is a delta.
    is_delta: bool,
}

impl CrlAge {
    /// Whether this covers what the other does: a list of the same issuer (its key may be a new one) and scope, a delta or not as that is.
    pub fn stands_for(&self, other: &Self) -> bool {
        self.issuer.name == other.issuer.name && self.scope == other.scope && self.is_delta == other.is_delta
    }

    /// Whether this is a newer list of the same issuer and scope.
    pub fn is_newer_than(&self, other: &Self) -> bool {
        let age = |list: &Self| (list.this_update, list.number.len(), list.number.clone());
        self.issuer == other.issuer && self.scope == other.scope && age(self) > age(other)
    }

    /// The middle between thisUpdate and nextUpdate.
    pub fn half_life(&self) -> WallTime {
        self.this_update.after(self.next_update.since(self.this_update) / 2)
    }
}

/// A list that is older than the one in whose place it is, or nothing in the place of one: who was on it may be let in again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrlSetback {
    /// Whose list it was, for people.
    pub issuer: String,
    /// Which certificates it covered, in words; none is all.
    pub scope: Option<String>,
    /// Where it was read from.
    pub place: String,
    /// When it was made.
    pub was: WallTime,
    /// Where what stands for it now is from, and when that was made; none is gone.
    pub now: Option<(String, WallTime)>,
}

impl Crl {
    /// By what it is held against another.
    pub(super) fn newness(&self) -> CrlAge {
        CrlAge {
            this_update: self.this_update,
            next_update: self.next_update,
            revoked: self.revoked.len(),
            issuer: self.issuer.clone(),
            scope: self.scope.clone(),
            number: self.number.clone(),
            is_delta: false,
        }
    }

    /// By which of two lists of one issuer the newer is known: its date, then its number.
    fn age(&self) -> (WallTime, (usize, &[u8])) {
        (self.this_update, size(&self.number))
    }

    pub(super) fn lists(&self, serial: Serial) -> bool {
        self.revoked.binary_search(&serial).is_ok()
    }

    /// Until when it vouches for what it does not list; none when that time has passed.
    fn vouches_until(&self, grace: Duration, now: WallTime) -> Option<WallTime> {
        [self.next_update, self.next_update.after(grace)].into_iter().find(|until| now < *until)
    }

    pub(super) fn facts(&self) -> CrlFacts {
        CrlFacts {
            place: self.place.to_string(),
            issuer: self.issuer_text.clone(),
            this_update: self.this_update,
            next_update: self.next_update,
            revoked: self.revoked.len(),
            scope: self.scope.text(),
        }
    }

    fn delta_facts(&self) -> Option<CrlFacts> {
        let DeltaFacts { place, this_update, next_update } = self.delta.clone()?;
        Some(CrlFacts { place: place.to_string(), this_update, next_update, ..self.facts() })
    }

    /// RFC 5280 §6.3.3 (c), (l).
    fn take(&mut self, delta: Delta) {
        let Delta { list, removed, .. } = delta;
        self.revoked.retain(|serial| removed.binary_search(serial).is_err());
        self.revoked.extend(list.revoked);
        self.revoked.sort_unstable();
        self.revoked.dedup();
        self.delta =
            Some(DeltaFacts { place: list.place, this_update: list.this_update, next_update: list.next_update });
    }
}

/// A number as octets, so that the larger is the larger.
fn size(number: &[u8]) -> (usize, &[u8]) {
    (number.len(), number)
}

/// A CA's verified lists, the newest per issuer and scope.
#[derive(Clone, Debug, Default)]
pub(super) struct CrlShelf {
    by_issuer: HashMap<Issuer, Vec<Crl>>,
}

impl CrlShelf {
    /// Keeps a list, unless a newer one of the same issuer and scope is there.
    pub(super) fn put(&mut self, list: Crl) {
        let lists = self.by_issuer.entry(list.issuer.clone()).or_default();
        match lists.iter_mut().find(|kept| kept.scope == list.scope) {
            Some(kept) if kept.age() >= list.age() => {}
            Some(kept) => *kept = list,
            None => lists.push(list),
        }
    }

    /// Puts delta lists on top of their complete ones; each without one is handed back. Complete lists come before.
    pub(super) fn put_deltas(&mut self, mut deltas: Vec<Delta>) -> Vec<Delta> {
        // The newest first: it holds what the older ones hold.
        deltas.sort_by(|one, other| size(&other.list.number).cmp(&size(&one.list.number)));
        let mut without_base = Vec::new();
        for delta in deltas {
            let lists = self.by_issuer.get_mut(&delta.list.issuer).into_iter().flatten();
            let base = lists.into_iter().find(|list| list.scope == delta.list.scope);
            match base.filter(|base| size(&base.number) >= size(&delta.base)) {
                None => without_base.push(delta),
                // One that is newer than the delta has all that is in it.
                Some(base) if base.delta.is_some() || size(&base.number) >= size(&delta.list.number) => {}
                Some(base) => base.take(delta),
            }
        }
        without_base
    }

    fn of(&self, issuer: &View) -> &[Crl] {
        let issuer = Issuer { name: issuer.subject.clone(), key: issuer.key };
        self.by_issuer.get(&issuer).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether a list has the serial, by digests of its issuer's name and, where it is known, key: for certificates of which only these are kept.
    pub(super) fn lists_recorded(&self, name: Digest256, key: Option<Digest256>, serial: Serial) -> bool {
        let mut signed = self.all().filter(|list| key.is_none_or(|key| list.issuer.key == key));
        signed.any(|list| Digest256::of(&list.issuer.name) == name && list.lists(serial))
    }

    /// Whether any list of this issuer is here.
    pub(super) fn has_of(&self, issuer: &View) -> bool {
        !self.of(issuer).is_empty()
    }

    /// Whether a certificate signed by `issuer` is revoked.
    pub(super) fn status(&self, certificate: &View, issuer: &View, grace: Duration, now: WallTime) -> Status {
        let Some(serial) = certificate.serial else { return Status::Unknown };
        let lists = self.of(issuer);
        if lists.iter().any(|list| list.lists(serial)) {
            return Status::Revoked;
        }
        let covering = lists.iter().filter(|list| list.scope.covers(certificate));
        match covering.filter_map(|list| list.vouches_until(grace, now)).max() {
            Some(until) => Status::Good { until },
            None => Status::Unknown,
        }
    }

    /// Why the status of a certificate is unknown, in words.
    pub(super) fn lack(&self, certificate: &View, issuer: &View) -> String {
        let issuer_text = &issuer.subject_text;
        let newest = self.asked(certificate, issuer).filter(|(_, covers)| *covers).map(|(list, _)| list);
        match newest.max_by_key(|list| list.next_update) {
            Some(list) => {
                format!("the CRL of {issuer_text} ({}) is stale since {}", list.place, list.next_update.rfc3339())
            }
            None if self.has_of(issuer) => format!("no CRL of {issuer_text} that is here covers it"),
            None => format!("no CRL of {issuer_text} is here"),
        }
    }

    /// The lists of an issuer, each with whether it covers the certificate; for people.
    pub(super) fn asked<'a>(&'a self, certificate: &'a View, issuer: &View) -> impl Iterator<Item = (&'a Crl, bool)> {
        self.of(issuer).iter().map(|list| (list, list.scope.covers(certificate)))
    }

    /// Whether any list under this issuer name has the serial, whatever the key: for what no path leads to.
    pub(super) fn lists(&self, issuer_name: &[u8], serial: Serial) -> bool {
        let mut named = self.all().filter(|list| list.issuer.name == issuer_name);
        named.any(|list| list.lists(serial))
    }

    fn all(&self) -> impl Iterator<Item = &Crl> {
        self.by_issuer.values().flatten()
    }

    /// What fell back since `before`. An issuer's lists are known by its name: its key may be a new one.
    pub(super) fn setbacks(&self, before: &Self) -> Vec<CrlSetback> {
        let setback = |old: &Crl| {
            let stands_for = |list: &&Crl| list.issuer.name == old.issuer.name && list.scope == old.scope;
            let now = self.all().filter(stands_for).max_by_key(|list| list.age());
            let has_fallen_back = now.is_none_or(|list| list.age() < old.age());
            has_fallen_back.then(|| CrlSetback {
                issuer: old.issuer_text.clone(),
                scope: old.scope.text(),
                place: old.place.to_string(),
                was: old.this_update,
                now: now.map(|list| (list.place.to_string(), list.this_update)),
            })
        };
        let mut found: Vec<CrlSetback> = before.all().filter_map(setback).collect();
        found.sort_by(|one, other| one.place.cmp(&other.place));
        found
    }

    /// Every list, deltas too; for countdowns and alarms.
    pub(super) fn facts(&self) -> Vec<CrlFacts> {
        let mut facts: Vec<CrlFacts> =
            self.all().flat_map(|list| std::iter::once(list.facts()).chain(list.delta_facts())).collect();
        facts.sort_by(|one, other| one.place.cmp(&other.place));
        facts
    }

    /// How many serials are listed.
    pub(super) fn revoked(&self) -> usize {
        self.all().map(|list| list.revoked.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_ways_to_write_a_serial_are_one() {
        assert_eq!(Serial::from_octets(&[0, 0, 7]), Serial::from_octets(&[7]));
        assert_ne!(Serial::from_octets(&[7, 0]), Serial::from_octets(&[7]));
        assert!(Serial::from_octets(&[0x80; 20]).is_some());
        assert_eq!(Serial::from_octets(&[1; 21]), None);
    }
}
