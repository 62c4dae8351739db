//! OCSP about a client's certificate: the question as octets, and an answer's octets to a verified status (RFC 6960; RFC 5019 in its spirit).
//!
//! An answer counts when everything holds: it is signed by the issuer itself, or by a responder whose certificate that issuer signed for this
//! purpose (§4.2.2.2); the signer is the responder that it names; it is about this certificate (§3.2); it is fresh; and if it has a nonce, ours.
//! A responder's certificate without `id-pkix-ocsp-nocheck` must not be listed in a CRL of the CA.
//!
//! Pure: no clock, no network, no randomness: the time and the nonce are arguments. What can fail is an [`OcspFault`]. Never: takes a status
//! without a signature; lets an answer vouch for longer than [`KEPT_MAX`], since whoever is revoked meanwhile should not wait for nextUpdate.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use rustls::pki_types::CertificateDer;
use x509_parser::asn1_rs::{FromDer as _, oid};
use x509_parser::certificate::X509Certificate;
use x509_parser::time::ASN1Time;

use super::der::{self, Element};
use super::points::{self, HttpUrl};
use super::signature;
use super::trust::ClientCa;
use super::view::{Purpose, View};
use super::ways::Link;
use crate::identity::facts::Digest256;
use crate::sys::WallTime;

/// The most octets of an answer.
pub const ANSWER_OCTETS_MAX: usize = 64 * 1024;
/// Octets of a nonce (RFC 9654 §2.1 asks for 32 at least).
pub const NONCE_OCTETS: usize = 32;
/// How long an answer is relied on at most, however far its nextUpdate is.
pub const KEPT_MAX: Duration = Duration::from_secs(3600);
/// How long an answer without nextUpdate is relied on: there may be a newer one at any time (RFC 6960 §2.4).
const KEPT_WITHOUT_END: Duration = Duration::from_secs(300);
/// How old such an answer may be when it comes without our nonce.
const AGE_MAX: Duration = Duration::from_secs(3600);
/// How far the responder's clock may be ahead of ours.
const SKEW: Duration = Duration::from_secs(300);
/// Certificates of an answer that are looked at.
const CERTIFICATES_MAX: usize = 8;
/// Responders of one certificate that are asked.
const URLS_MAX: usize = 2;

/// A question about one certificate: what `judge` wants to know and cannot find out itself.
#[derive(Clone)]
pub struct Query {
    ca: Arc<ClientCa>,
    leaf: Link,
    issuer: Link,
    key: Digest256,
}

/// What is known of the answer to a [`Query`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// A verified answer, and until when it counts.
    Answer(CertificateStatus, WallTime),
    /// The responder could not be asked, or its answer can't be used; until then it is not asked again.
    Unavailable(WallTime),
}

impl Known {
    /// Until when this counts.
    pub fn until(self) -> WallTime {
        match self {
            Self::Answer(_, until) | Self::Unavailable(until) => until,
        }
    }
}

/// What a verified answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Of the certificate.
    pub status: CertificateStatus,
    /// When that was known to be so (thisUpdate).
    pub of: WallTime,
    /// Until when it counts.
    pub until: WallTime,
}

/// What a responder says of a certificate (RFC 6960 §2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateStatus {
    /// Not revoked.
    Good,
    /// Revoked, or on hold.
    Revoked,
    /// The responder does not know it.
    Unknown,
}

/// Why an answer does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OcspFault {
    /// Not an answer by its grammar.
    #[error("it is no OCSP response of RFC 6960")]
    Malformed,
    /// The responder says that it has no answer (§4.2.1).
    #[error("the responder says {0}")]
    NoAnswer(&'static str),
    /// A kind of answer that is not known.
    #[error("it is a kind of response that is unknown here")]
    UnknownKind,
    /// Signed by nobody who may.
    #[error("it is signed neither by the certificate's issuer nor by a responder that the issuer has authorized")]
    Signer,
    /// Right signer, wrong signature.
    #[error("its signature does not verify")]
    Signature,
    /// The responder's certificate is revoked.
    #[error("the certificate of the responder is revoked")]
    SignerRevoked,
    /// About other certificates.
    #[error("it is not about this certificate")]
    OtherCertificate,
    /// Too old, or from the future.
    #[error("it is not of this time")]
    NotFresh,
    /// Another's answer.
    #[error("its nonce is not ours")]
    Nonce,
    /// Something that must be understood is not.
    #[error("it has a critical extension that is unknown here")]
    UnknownCritical,
}

impl Query {
    /// The question whether `leaf`, signed by `issuer`, is revoked.
    pub(super) fn new(ca: &Arc<ClientCa>, leaf: &Link, issuer: &Link) -> Self {
        // Two CAs of the configuration may ask different responders about one certificate. By its serial, as the responder is asked, and not by its
        // octets: whoever holds a certificate can write another signature into it that is as good (ECDSA: n - s for s), and be somebody new.
        let mut about = Digest256::of(ca.name().as_bytes()).0.to_vec();
        about.extend_from_slice(&Digest256::of(&issuer.view.subject).0);
        about.extend_from_slice(&issuer.view.key.0);
        about.extend_from_slice(serial(&leaf.der).unwrap_or(&leaf.view.fingerprint.0));
        Self { ca: Arc::clone(ca), leaf: leaf.clone(), issuer: issuer.clone(), key: Digest256::of(&about) }
    }

    /// By what the answer is kept: the CA, the issuer's name and key, and the serial.
    pub fn key(&self) -> Digest256 {
        self.key
    }

    /// The CA under which it is asked.
    pub fn ca(&self) -> &Arc<str> {
        self.ca.name()
    }

    /// When the certificate ends, and with it every question about it.
    pub fn ends(&self) -> WallTime {
        self.leaf.view.not_after
    }

    /// Whom to ask, in this order; empty when nobody is named.
    pub fn urls(&self) -> Vec<HttpUrl> {
        match &self.ca.asks().ocsp_url {
            Some(url) => vec![url.clone()],
            None => points::ocsp_urls(&self.leaf.der).into_iter().take(URLS_MAX).collect(),
        }
    }

    /// Whether it is the certificate that names whom to ask, and not the configuration.
    pub fn names_responders(&self) -> bool {
        self.ca.asks().ocsp_url.is_none()
    }

    /// The request's octets (RFC 6960 §4.1.1); without a nonce it is one that the responder may have answered before.
    pub fn request(&self, nonce: Option<&[u8; NONCE_OCTETS]>) -> Option<Vec<u8>> {
        let request = der::write(der::SEQUENCE, &self.certificate_id()?);
        let mut tbs = der::write(der::SEQUENCE, &request);
        if let Some(nonce) = nonce {
            let mut extension = der::write(der::OID, NONCE);
            extension.extend(der::write(der::OCTET_STRING, &der::write(der::OCTET_STRING, nonce)));
            let extensions = der::write(der::SEQUENCE, &der::write(der::SEQUENCE, &extension));
            tbs.extend(der::write(0xa2, &extensions));
        }
        Some(der::write(der::SEQUENCE, &der::write(der::SEQUENCE, &tbs)))
    }

    /// With SHA-1, which every responder knows (RFC 5019 §2.1.1). It only names the issuer here; nothing rests on its strength.
    fn certificate_id(&self) -> Option<Vec<u8>> {
        let algorithm = der::write(der::SEQUENCE, &[der::write(der::OID, SHA1), vec![0x05, 0x00]].concat());
        let name = der::write(der::OCTET_STRING, sha1(&self.issuer.view.subject).as_ref());
        let key = der::write(der::OCTET_STRING, sha1(key_bits(&self.issuer.view.spki)?).as_ref());
        let serial = der::write(der::INTEGER, serial(&self.leaf.der)?);
        Some(der::write(der::SEQUENCE, &[algorithm, name, key, serial].concat()))
    }

    /// Reads and verifies an answer.
    ///
    /// # Errors
    /// It does not count.
    pub fn read(&self, octets: &[u8], nonce: Option<&[u8; NONCE_OCTETS]>, now: WallTime) -> Result<Reading, OcspFault> {
        let basic = Basic::read(successful(octets)?).ok_or(OcspFault::Malformed)?;
        let data = Data::read(basic.signed.content).ok_or(OcspFault::Malformed)?;
        self.check_signer(&basic, &data, now)?;
        let echoed = extensions(data.extensions, NONCE)?;
        let is_ours = match (echoed.and_then(|value| der::only(value, der::OCTET_STRING)), nonce) {
            (Some(echoed), Some(nonce)) if echoed == nonce => true,
            (None, _) if echoed.is_none() => false,
            // RFC 6960 §4.4.1: a nonce binds the answer to a request; this one was not ours.
            (Some(_) | None, _) => return Err(OcspFault::Nonce),
        };
        let single = data.singles.iter().find(|single| self.is_about_us(single.id));
        let single = single.ok_or(OcspFault::OtherCertificate)?;
        extensions(single.extensions, &[])?;
        let until = single.counts_until(is_ours, now).ok_or(OcspFault::NotFresh)?;
        Ok(Reading { status: single.status, of: single.this_update, until })
    }

    /// Reads and verifies an answer that came before, for what it said of the time that it is of: neither its nonce nor its end counts any more.
    ///
    /// # Errors
    /// It is not about this certificate, or not signed by one who might then.
    pub fn read_again(&self, octets: &[u8]) -> Result<Reading, OcspFault> {
        let basic = Basic::read(successful(octets)?).ok_or(OcspFault::Malformed)?;
        let data = Data::read(basic.signed.content).ok_or(OcspFault::Malformed)?;
        extensions(data.extensions, NONCE)?;
        let single = data.singles.iter().find(|single| self.is_about_us(single.id));
        let single = single.ok_or(OcspFault::OtherCertificate)?;
        extensions(single.extensions, &[])?;
        self.check_signer(&basic, &data, single.this_update)?;
        Ok(Reading { status: single.status, of: single.this_update, until: single.this_update })
    }

    /// RFC 6960 §4.2.2.2: the issuer, or somebody whom it has certified for this.
    fn check_signer(&self, basic: &Basic<'_>, data: &Data<'_>, now: WallTime) -> Result<(), OcspFault> {
        let issuer = &self.issuer.view;
        if data.responder.is(issuer) {
            let signed = signature::verify(basic.signed.raw, basic.behind, &issuer.spki);
            return signed.map_err(|_| OcspFault::Signature);
        }
        for der in basic.certificates.iter().take(CERTIFICATES_MAX) {
            let certificate = CertificateDer::from(der.raw);
            let Some(view) = View::of(&certificate).filter(|view| data.responder.is(view)) else { continue };
            let is_delegate = view.issuer == issuer.subject
                && view.covers(now)
                && view.signs_handshakes != Purpose::Forbidden
                && signature::verify_certificate(der.raw, &issuer.spki).is_ok();
            let Some(delegation) = Delegation::of(der.raw).filter(|_| is_delegate) else { continue };
            let listed = view.serial.is_some_and(|serial| self.ca.crls().lists(&view.issuer, serial));
            if listed && delegation == Delegation::Checked {
                return Err(OcspFault::SignerRevoked);
            }
            let signed = signature::verify(basic.signed.raw, basic.behind, &view.spki);
            return signed.map_err(|_| OcspFault::Signature);
        }
        Err(OcspFault::Signer)
    }

    /// RFC 6960 §4.1.1: the issuer by name and key, hashed as the answer says, and the serial.
    fn is_about_us(&self, id: &[u8]) -> bool {
        self.matches(id).unwrap_or(false)
    }

    fn matches(&self, id: &[u8]) -> Option<bool> {
        let mut rest = id;
        let algorithm = der::take(&mut rest, der::SEQUENCE)?;
        let (name, key) = (der::take(&mut rest, der::OCTET_STRING)?, der::take(&mut rest, der::OCTET_STRING)?);
        let number = der::only(rest, der::INTEGER)?;
        let hash: fn(&[u8]) -> digest::Digest = match der::first(algorithm)?.0.content {
            SHA1 => sha1,
            SHA256 => sha256,
            _ => return None,
        };
        let issuer = &self.issuer.view;
        let same_issuer = hash(&issuer.subject).as_ref() == name && hash(key_bits(&issuer.spki)?).as_ref() == key;
        Some(same_issuer && number == serial(&self.leaf.der)?)
    }
}

impl PartialEq for Query {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Query {}

impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Query").field(&self.to_string()).finish()
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "serial {} of {}", self.leaf.view.serial_text, self.leaf.view.issuer_text)
    }
}

/// 1.3.6.1.5.5.7.48.1.1, id-pkix-ocsp-basic.
const BASIC: &[u8] = &[43, 6, 1, 5, 5, 7, 48, 1, 1];
/// 1.3.6.1.5.5.7.48.1.2, id-pkix-ocsp-nonce.
const NONCE: &[u8] = &[43, 6, 1, 5, 5, 7, 48, 1, 2];
/// 1.3.14.3.2.26
const SHA1: &[u8] = &[43, 14, 3, 2, 26];
/// 2.16.840.1.101.3.4.2.1
const SHA256: &[u8] = &[96, 134, 72, 1, 101, 3, 4, 2, 1];
const ENUMERATED: u8 = 0x0a;
const GENERALIZED_TIME: u8 = 0x18;

/// The octets of the BasicOCSPResponse in a successful answer.
fn successful(octets: &[u8]) -> Result<&[u8], OcspFault> {
    let mut rest = der::only(octets, der::SEQUENCE).ok_or(OcspFault::Malformed)?;
    match der::take(&mut rest, ENUMERATED).ok_or(OcspFault::Malformed)? {
        [0] => {}
        [1] => return Err(OcspFault::NoAnswer("that the request is malformed")),
        [2] => return Err(OcspFault::NoAnswer("that it has an internal error")),
        [3] => return Err(OcspFault::NoAnswer("to try later")),
        [5] => return Err(OcspFault::NoAnswer("that requests must be signed")),
        [6] => return Err(OcspFault::NoAnswer("that it may not answer")),
        _ => return Err(OcspFault::Malformed),
    }
    let bytes = der::only(rest, 0xa0).and_then(|explicit| der::only(explicit, der::SEQUENCE));
    let mut rest = bytes.ok_or(OcspFault::Malformed)?;
    if der::take(&mut rest, der::OID) != Some(BASIC) {
        return Err(OcspFault::UnknownKind);
    }
    der::only(rest, der::OCTET_STRING).ok_or(OcspFault::Malformed)
}

/// A BasicOCSPResponse.
struct Basic<'a> {
    signed: Element<'a>,
    /// The algorithm and the signature, as they stand.
    behind: &'a [u8],
    certificates: Vec<Element<'a>>,
}

impl<'a> Basic<'a> {
    fn read(octets: &'a [u8]) -> Option<Self> {
        let whole = der::only(octets, der::SEQUENCE)?;
        let (signed, behind) = der::first(whole)?;
        let mut rest = behind;
        der::take(&mut rest, der::SEQUENCE)?;
        der::take(&mut rest, der::BIT_STRING)?;
        let behind = behind.get(..behind.len().checked_sub(rest.len())?)?;
        let certificates = match rest {
            [] => Vec::new(),
            rest => der::all(der::only(der::only(rest, 0xa0)?, der::SEQUENCE)?)?,
        };
        (signed.tag == der::SEQUENCE).then_some(Self { signed, behind, certificates })
    }
}

/// Who says that it answers.
enum Responder<'a> {
    /// The Name with its header.
    Name(&'a [u8]),
    /// SHA-1 of its key.
    Key(&'a [u8]),
}

impl Responder<'_> {
    fn is(&self, view: &View) -> bool {
        match self {
            Self::Name(name) => *name == view.subject,
            Self::Key(hash) => key_bits(&view.spki).is_some_and(|key| sha1(key).as_ref() == *hash),
        }
    }
}

/// A ResponseData.
struct Data<'a> {
    responder: Responder<'a>,
    singles: Vec<Single<'a>>,
    extensions: Option<&'a [u8]>,
}

impl<'a> Data<'a> {
    fn read(octets: &'a [u8]) -> Option<Self> {
        let mut rest = octets;
        // Version 1 is the default, and DER leaves defaults out; some write it.
        let _version = der::take(&mut rest, 0xa0);
        let responder = match der::take(&mut rest, 0xa1) {
            Some(name) => Responder::Name(name),
            None => Responder::Key(der::only(der::take(&mut rest, 0xa2)?, der::OCTET_STRING)?),
        };
        let _produced = der::take(&mut rest, GENERALIZED_TIME)?;
        let singles = der::all(der::take(&mut rest, der::SEQUENCE)?)?;
        let singles = singles.iter().map(|single| Single::read(single.content)).collect::<Option<_>>()?;
        let extensions = der::take(&mut rest, 0xa1);
        rest.is_empty().then_some(Self { responder, singles, extensions })
    }
}

/// A SingleResponse.
struct Single<'a> {
    id: &'a [u8],
    status: CertificateStatus,
    this_update: WallTime,
    next_update: Option<WallTime>,
    extensions: Option<&'a [u8]>,
}

impl<'a> Single<'a> {
    fn read(octets: &'a [u8]) -> Option<Self> {
        let mut rest = octets;
        let id = der::take(&mut rest, der::SEQUENCE)?;
        let (status, behind) = der::first(rest)?;
        let status = match status.tag {
            0x80 => CertificateStatus::Good,
            0xa1 => CertificateStatus::Revoked,
            0x82 => CertificateStatus::Unknown,
            _ => return None,
        };
        rest = behind;
        let this_update = time(&der::take_raw(&mut rest, GENERALIZED_TIME)?)?;
        let next_update = match der::take(&mut rest, 0xa0) {
            Some(explicit) => Some(time(&der::first(explicit)?.0)?),
            None => None,
        };
        let extensions = der::take(&mut rest, 0xa1);
        rest.is_empty().then_some(Self { id, status, this_update, next_update, extensions })
    }

    /// RFC 6960 §4.2.2.1.
    fn counts_until(&self, is_ours: bool, now: WallTime) -> Option<WallTime> {
        if self.this_update > now.after(SKEW) {
            return None;
        }
        match self.next_update {
            Some(end) => (now < end).then(|| end.min(now.after(KEPT_MAX))),
            None => (is_ours || now.since(self.this_update) <= AGE_MAX).then(|| now.after(KEPT_WITHOUT_END)),
        }
    }
}

/// The value of the wanted extension; of others none may be critical.
fn extensions<'a>(explicit: Option<&'a [u8]>, wanted: &[u8]) -> Result<Option<&'a [u8]>, OcspFault> {
    let Some(explicit) = explicit else { return Ok(None) };
    let list = der::only(explicit, der::SEQUENCE).and_then(der::all).ok_or(OcspFault::Malformed)?;
    let mut found = None;
    for extension in list {
        let mut rest = extension.content;
        let oid = der::take(&mut rest, der::OID).ok_or(OcspFault::Malformed)?;
        let critical = der::take(&mut rest, der::BOOLEAN).is_some_and(|flag| flag != [0]);
        let value = der::only(rest, der::OCTET_STRING).ok_or(OcspFault::Malformed)?;
        if oid == wanted {
            if found.replace(value).is_some() {
                return Err(OcspFault::Malformed);
            }
        } else if critical {
            return Err(OcspFault::UnknownCritical);
        }
    }
    Ok(found)
}

/// Whether the revocation of an authorized responder is asked for (RFC 6960 §4.2.2.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delegation {
    /// id-pkix-ocsp-nocheck: its CA says that it need not be.
    Unchecked,
    /// By the CA's CRLs.
    Checked,
}

impl Delegation {
    /// `None`: the certificate is not for OCSP (id-kp-OCSPSigning must be written; anyExtendedKeyUsage does not do).
    fn of(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let purposes = certificate.extended_key_usage().ok()??;
        let unchecked = certificate.get_extension_unique(&oid!(1.3.6.1.5.5.7.48.1.5)).ok()?.is_some();
        let kind = if unchecked { Self::Unchecked } else { Self::Checked };
        purposes.value.ocsp_signing.then_some(kind)
    }
}

fn time(element: &Element<'_>) -> Option<WallTime> {
    let (_, time) = ASN1Time::from_der(element.raw).ok()?;
    Some(WallTime::from_seconds(time.timestamp()))
}

/// The octets of the key in a SubjectPublicKeyInfo, without the count of unused bits.
fn key_bits(spki: &[u8]) -> Option<&[u8]> {
    let (_algorithm, behind) = der::first(der::only(spki, der::SEQUENCE)?)?;
    der::only(behind, der::BIT_STRING)?.split_first().map(|(_, bits)| bits)
}

/// The serial's octets as the certificate writes them.
fn serial<'a>(certificate: &'a CertificateDer<'_>) -> Option<&'a [u8]> {
    let (signed, _) = der::first(der::only(certificate, der::SEQUENCE)?)?;
    let mut rest = signed.content;
    let _version = der::take(&mut rest, 0xa0);
    der::take(&mut rest, der::INTEGER)
}

fn sha1(octets: &[u8]) -> digest::Digest {
    digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, octets)
}

fn sha256(octets: &[u8]) -> digest::Digest {
    digest::digest(&digest::SHA256, octets)
}

#[cfg(test)]
mod tests;
