//! Certificate revocation lists: verified once, when loaded; asked at every verification (RFC 5280 §5, §6.3).
//!
//! webpki can check CRLs while it builds a path, but then checks the CRL's signature at every handshake, lets a stale list hide a fresh one, and
//! fails every handshake over one forged file. Here a list is read and its signature verified against its issuer's certificate when it is
//! loaded; the newest per issuer is kept; serials are kept sorted and looked up by halving.
//!
//! - An issuer is a name *and* a key: a list signed by another key of the same name says nothing about the certificates of this one.
//! - Stale means unknown: from nextUpdate on, a list vouches for nothing. What it lists stays revoked.
//! - Delta lists, indirect lists and lists of only a part of the certificates are refused when loaded, each with its reason.
//!
//! Never: reads a file or a clock; lets a faulty list of one CA trouble another.

use std::collections::HashMap;

use rustls::pki_types::SignatureVerificationAlgorithm;
use x509_parser::asn1_rs::{Any, FromDer as _, oid};
use x509_parser::extensions::{IssuingDistributionPoint, ParsedExtension, X509Extension};
use x509_parser::revocation_list::{CertificateRevocationList, RevokedCertificate};

use super::read::ReadFault;
use super::view::{Purpose, Serial, View};
use crate::identity::facts::{Digest256, name_text};
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
    /// A delta CRL.
    #[error("it is a delta CRL; give the complete CRL")]
    Delta,
    /// Another CA's certificates are in it.
    #[error("it is an indirect CRL; give each CA's own CRL")]
    Indirect,
    /// Only some of the CA's certificates are in it.
    #[error("it covers only a part of the CA's certificates (issuing distribution point); give the complete CRL")]
    Partitioned,
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
    /// A fresh list of its issuer does not have it.
    Good {
        /// The list's nextUpdate.
        until: WallTime,
    },
    /// Listed, be the list fresh or stale.
    Revoked,
    /// No list of its issuer, or a stale one that does not have it.
    Unknown,
}

/// One CRL whose signature has been verified.
#[derive(Clone, Debug)]
pub(super) struct Crl {
    issuer: Issuer,
    this_update: WallTime,
    next_update: WallTime,
    /// cRLNumber as unsigned octets; longer is larger.
    number: Vec<u8>,
    /// Sorted.
    revoked: Vec<Serial>,
}

/// What is known of a verified CRL from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrlFacts {
    /// thisUpdate.
    pub this_update: WallTime,
    /// nextUpdate.
    pub next_update: WallTime,
    /// How many certificates it lists.
    pub revoked: usize,
    issuer: Issuer,
    number: Vec<u8>,
}

impl CrlFacts {
    /// Whether this is a newer list of the same issuer.
    pub fn is_newer_than(&self, other: &Self) -> bool {
        let age = |facts: &Self| (facts.this_update, facts.number.len(), facts.number.clone());
        self.issuer == other.issuer && age(self) > age(other)
    }

    /// The middle between thisUpdate and nextUpdate.
    pub fn half_life(&self) -> WallTime {
        self.this_update.after(self.next_update.since(self.this_update) / 2)
    }
}

/// Whose list it is: the name's DER and the SHA-256 of the key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Issuer {
    name: Vec<u8>,
    key: Digest256,
}

impl Crl {
    /// Reads a CRL and verifies its signature by one of `issuers`.
    pub(super) fn read(der: &[u8], issuers: &[View]) -> Result<Self, CrlCause> {
        let (rest, list) = CertificateRevocationList::from_der(der).map_err(|_| CrlCause::Malformed)?;
        if !rest.is_empty() || list.tbs_cert_list.signature != list.signature_algorithm {
            return Err(CrlCause::Malformed);
        }
        let issuer = signer(&list, issuers)?;
        check_scope(list.extensions())?;
        list.iter_revoked_certificates().try_for_each(check_entry)?;
        let mut revoked: Vec<Serial> = list
            .iter_revoked_certificates()
            // A serial of over 20 octets belongs to no certificate that is accepted here.
            .filter_map(|entry| Serial::from_octets(entry.raw_serial()))
            .collect();
        revoked.sort_unstable();
        revoked.dedup();
        Ok(Self {
            issuer: Issuer { name: issuer.subject.clone(), key: issuer.key },
            this_update: WallTime::from_seconds(list.last_update().timestamp()),
            next_update: WallTime::from_seconds(list.next_update().ok_or(CrlCause::NoNextUpdate)?.timestamp()),
            number: list.crl_number().map(|number| number.to_bytes_be()).unwrap_or_default(),
            revoked,
        })
    }

    /// What is known of it from outside.
    pub(super) fn facts(&self) -> CrlFacts {
        CrlFacts {
            this_update: self.this_update,
            next_update: self.next_update,
            revoked: self.revoked.len(),
            issuer: self.issuer.clone(),
            number: self.number.clone(),
        }
    }

    /// By which of two lists of one issuer the newer is known: its date, then its number.
    fn age(&self) -> (WallTime, usize, &[u8]) {
        (self.this_update, self.number.len(), &self.number)
    }

    fn status(&self, serial: Serial, now: WallTime) -> Status {
        if self.revoked.binary_search(&serial).is_ok() {
            Status::Revoked
        } else if now < self.next_update {
            Status::Good { until: self.next_update }
        } else {
            Status::Unknown
        }
    }
}

/// A CA's verified lists, the newest per issuer.
#[derive(Clone, Debug, Default)]
pub(super) struct CrlShelf {
    by_issuer: HashMap<Issuer, Crl>,
}

impl CrlShelf {
    /// Keeps a list, unless a newer one of the same issuer is there.
    pub(super) fn put(&mut self, list: Crl) {
        match self.by_issuer.get(&list.issuer) {
            Some(kept) if kept.age() >= list.age() => {}
            _ => {
                self.by_issuer.insert(list.issuer.clone(), list);
            }
        }
    }

    /// Whether the certificate with this serial, signed by `issuer`, is revoked.
    pub(super) fn status(&self, issuer: (&[u8], Digest256), serial: Serial, now: WallTime) -> Status {
        let (name, key) = issuer;
        match self.by_issuer.get(&Issuer { name: name.to_vec(), key }) {
            Some(list) => list.status(serial, now),
            None => Status::Unknown,
        }
    }

    /// Whether any list under this issuer name has the serial, whatever the key: for what no path leads to.
    pub(super) fn lists(&self, issuer_name: &[u8], serial: Serial) -> bool {
        let mut named = self.by_issuer.values().filter(|list| list.issuer.name == issuer_name);
        named.any(|list| list.revoked.binary_search(&serial).is_ok())
    }

    /// The nextUpdate of each list, for countdowns and alarms.
    pub(super) fn next_updates(&self) -> impl Iterator<Item = WallTime> + '_ {
        self.by_issuer.values().map(|list| list.next_update)
    }

    /// How many serials are listed.
    pub(super) fn revoked(&self) -> usize {
        self.by_issuer.values().map(|list| list.revoked.len()).sum()
    }
}

/// The certificate among `issuers` by whose key the list is signed (RFC 5280 §6.3.3 (f), (g)).
fn signer<'a>(list: &CertificateRevocationList<'_>, issuers: &'a [View]) -> Result<&'a View, CrlCause> {
    let text = || name_text(list.issuer());
    let mut named = issuers.iter().filter(|view| view.subject == list.issuer().as_raw()).peekable();
    if named.peek().is_none() {
        return Err(CrlCause::UnknownIssuer { issuer: text() });
    }
    let mut cause = CrlCause::BadSignature { issuer: text() };
    for view in named {
        match signed_by(list, view) {
            Ok(()) if view.signs_crls == Purpose::Forbidden => cause = CrlCause::NotACrlSigner,
            Ok(()) => return Ok(view),
            Err(Unverified::WeakKind) => cause = CrlCause::WeakSignature,
            Err(Unverified::WrongKey) => {}
        }
    }
    Err(cause)
}

enum Unverified {
    WeakKind,
    WrongKey,
}

fn signed_by(list: &CertificateRevocationList<'_>, issuer: &View) -> Result<(), Unverified> {
    let (algorithm, signature) = signature(list).ok_or(Unverified::WrongKey)?;
    let known: Vec<&dyn SignatureVerificationAlgorithm> = super::verify::ALGORITHMS
        .iter()
        .copied()
        .filter(|known| known.signature_alg_id().as_ref() == algorithm)
        .collect();
    if known.is_empty() {
        return Err(Unverified::WeakKind);
    }
    let (key_algorithm, key) = public_key(&issuer.spki).ok_or(Unverified::WrongKey)?;
    let mut fitting = known.iter().filter(|known| known.public_key_alg_id().as_ref() == key_algorithm);
    let verified = fitting.any(|known| known.verify_signature(key, list.tbs_cert_list.as_ref(), signature).is_ok());
    if verified { Ok(()) } else { Err(Unverified::WrongKey) }
}

/// The content octets of the signature's algorithm, and the signature: they stand right behind the signed part (RFC 5280 §5.1).
fn signature<'a>(list: &CertificateRevocationList<'a>) -> Option<(&'a [u8], &'a [u8])> {
    let (_, whole) = Any::from_der(list.as_raw()).ok()?;
    algorithm_and_bits(whole.data.get(list.tbs_cert_list.as_ref().len()..)?)
}

/// A SubjectPublicKeyInfo as the content octets of its algorithm, and the key (RFC 5280 §4.1.2.7).
fn public_key(spki: &[u8]) -> Option<(&[u8], &[u8])> {
    let (_, whole) = Any::from_der(spki).ok()?;
    algorithm_and_bits(whole.data)
}

/// `AlgorithmIdentifier, BIT STRING`, and nothing behind.
fn algorithm_and_bits(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let (behind, algorithm) = Any::from_der(octets).ok()?;
    let ([], bits) = Any::from_der(behind).ok()? else { return None };
    // The first octet of a BIT STRING counts its unused bits (X.690 §8.6.2.2): none in a key or a signature.
    let (&0, octets) = bits.data.split_first()? else { return None };
    Some((algorithm.data, octets))
}

/// RFC 5280 §5.2: a list with a critical extension that is not understood must not be used.
fn check_scope(extensions: &[X509Extension<'_>]) -> Result<(), CrlCause> {
    for extension in extensions {
        // RFC 5280 §5.2.4: deltaCRLIndicator. Critical by the RFC, but a delta is one even when not marked so.
        if extension.oid == oid!(2.5.29.27) {
            return Err(CrlCause::Delta);
        }
        if let ParsedExtension::IssuingDistributionPoint(point) = extension.parsed_extension() {
            return Err(unsupported_scope(point));
        }
        if extension.oid == oid!(2.5.29.28) {
            return Err(CrlCause::Partitioned);
        }
        // authorityKeyIdentifier and cRLNumber may be marked critical by mistake; they are understood.
        if extension.critical && extension.oid != oid!(2.5.29.35) && extension.oid != oid!(2.5.29.20) {
            return Err(CrlCause::UnknownCritical { oid: extension.oid.to_id_string() });
        }
    }
    Ok(())
}

/// RFC 5280 §5.2.5: with a distribution point, a list covers only the certificates that name the same point.
fn unsupported_scope(point: &IssuingDistributionPoint<'_>) -> CrlCause {
    if point.indirect_crl { CrlCause::Indirect } else { CrlCause::Partitioned }
}

/// RFC 5280 §5.3: so too with an entry's extensions; certificateIssuer (§5.3.3) marks another CA's certificate.
fn check_entry(entry: &RevokedCertificate<'_>) -> Result<(), CrlCause> {
    for extension in entry.iter_extensions() {
        if extension.oid == oid!(2.5.29.29) {
            return Err(CrlCause::Indirect);
        }
        // reasonCode and invalidityDate change nothing here: listed is revoked.
        if extension.critical && extension.oid != oid!(2.5.29.21) && extension.oid != oid!(2.5.29.24) {
            return Err(CrlCause::UnknownCritical { oid: extension.oid.to_id_string() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_that_do_not_fill_their_octets_are_no_signature() {
        let with = |bits: &'static [u8]| [b"\x30\x01\x55".as_slice(), bits].concat();
        assert_eq!(algorithm_and_bits(&with(b"\x03\x02\x00\x80")), Some((&b"\x55"[..], &b"\x80"[..])));
        for wrong in [&b"\x03\x02\x01\x80"[..], b"\x03\x00", b"\x03\x02\x00\x80\x00", b""] {
            assert_eq!(algorithm_and_bits(&with(wrong)), None, "{wrong:?}");
        }
    }

    #[test]
    fn two_ways_to_write_a_serial_are_one() {
        assert_eq!(Serial::from_octets(&[0, 0, 7]), Serial::from_octets(&[7]));
        assert_ne!(Serial::from_octets(&[7, 0]), Serial::from_octets(&[7]));
        assert!(Serial::from_octets(&[0x80; 20]).is_some());
        assert_eq!(Serial::from_octets(&[1; 21]), None);
    }
}
