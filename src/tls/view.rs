//! One certificate, read once: what the judge needs besides webpki's own checks (RFC 5280 §4.1, §4.2).
//!
//! webpki builds paths and checks signatures, but tells neither which certificate failed, nor whether the leaf states its purpose, nor how
//! strong a key is. Never: compares a name as text; names are compared as DER octets, as webpki does.

use rustls::pki_types::CertificateDer;
use x509_parser::asn1_rs::{FromDer, Oid, oid};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ExtendedKeyUsage;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::constraints::{MailName, NameConstraints};
use super::der;
use super::rules::{KeyKind, Policies, Purposes};
use crate::identity::facts::{Digest256, SMTP_UTF8_MAILBOX, name_text, serial_text};
use crate::sys::WallTime;

/// The longest serial number, octets (RFC 5280 §4.1.2.2).
pub(super) const SERIAL_OCTETS_MAX: usize = 20;

/// A serial number as an unsigned number of at most 20 octets, right-aligned, so that two ways to write one number are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Serial([u8; SERIAL_OCTETS_MAX]);

impl Serial {
    /// `None` when it has more than 20 significant octets: no certificate with such a serial is accepted.
    pub(super) fn from_octets(octets: &[u8]) -> Option<Self> {
        let significant = octets.iter().position(|&octet| octet != 0).unwrap_or(octets.len());
        let significant = octets.get(significant..).unwrap_or_default();
        let mut padded = [0; SERIAL_OCTETS_MAX];
        let start = SERIAL_OCTETS_MAX.checked_sub(significant.len())?;
        padded.get_mut(start..)?.copy_from_slice(significant);
        Some(Self(padded))
    }
}

/// What a key may be used for, as far as the certificate says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// It says nothing.
    Unstated,
    /// It says so.
    Allowed,
    /// It says other things only.
    Forbidden,
}

impl Purpose {
    fn of(stated: Option<bool>) -> Self {
        match stated {
            None => Self::Unstated,
            Some(true) => Self::Allowed,
            Some(false) => Self::Forbidden,
        }
    }
}

/// One certificate, read.
#[derive(Clone, Debug)]
pub(super) struct View {
    /// The subject's DER, with its SEQUENCE header.
    pub(super) subject: Vec<u8>,
    /// The issuer's DER, with its SEQUENCE header.
    pub(super) issuer: Vec<u8>,
    /// SHA-256 of the SubjectPublicKeyInfo.
    pub(super) key: Digest256,
    /// SHA-256 of the certificate.
    pub(super) fingerprint: Digest256,
    /// The serial's octets, as the certificate has them.
    pub(super) raw_serial: Vec<u8>,
    /// The serial; none when over 20 octets.
    pub(super) serial: Option<Serial>,
    /// notBefore.
    pub(super) not_before: WallTime,
    /// notAfter.
    pub(super) not_after: WallTime,
    /// basicConstraints cA.
    pub(super) is_ca: bool,
    /// basicConstraints pathLenConstraint.
    pub(super) path_length: Option<u32>,
    /// extendedKeyUsage; none when it is not there.
    pub(super) purposes: Option<Purposes>,
    /// keyUsage digitalSignature.
    pub(super) signs_handshakes: Purpose,
    /// keyUsage keyCertSign.
    pub(super) signs_certificates: Purpose,
    /// keyUsage cRLSign.
    pub(super) signs_crls: Purpose,
    /// What its key is.
    pub(super) key_kind: KeyKind,
    /// Certificate policies.
    pub(super) policies: Policies,
    /// The names that e-mail constraints apply to.
    pub(super) mail_names: Vec<MailName>,
    /// The tags of all names in its subjectAltName.
    pub(super) name_tags: Vec<u8>,
    /// nameConstraints.
    pub(super) constraints: Option<NameConstraints>,
    /// The GeneralNames of its cRLDistributionPoints that stand for all reasons and its own issuer.
    pub(super) crl_points: Vec<Vec<u8>>,
    /// The SubjectPublicKeyInfo's DER.
    pub(super) spki: Vec<u8>,
    /// The subject for people.
    pub(super) subject_text: String,
    /// The issuer for people.
    pub(super) issuer_text: String,
    /// The serial in hexadecimal.
    pub(super) serial_text: String,
}

impl View {
    /// Reads a certificate; `None` when it is none, or has an extension that is malformed or there twice.
    pub(super) fn of(der: &CertificateDer<'_>) -> Option<Self> {
        let (rest, certificate) = X509Certificate::from_der(der).ok()?;
        if !rest.is_empty() {
            return None;
        }
        let usage = certificate.key_usage().ok()?.map(|extension| extension.value);
        let purposes = certificate.extended_key_usage().ok()?.map(|extension| extension.value);
        let basic = certificate.basic_constraints().ok()?.map(|extension| extension.value);
        let spki = certificate.public_key();
        let names = names(&certificate)?;
        Some(Self {
            subject: certificate.subject().as_raw().to_vec(),
            issuer: certificate.issuer().as_raw().to_vec(),
            key: Digest256::of(spki.raw),
            fingerprint: Digest256::of(der),
            raw_serial: certificate.raw_serial().to_vec(),
            serial: Serial::from_octets(certificate.raw_serial()),
            not_before: WallTime::from_seconds(certificate.validity().not_before.timestamp()),
            not_after: WallTime::from_seconds(certificate.validity().not_after.timestamp()),
            is_ca: basic.is_some_and(|basic| basic.ca),
            path_length: basic.and_then(|basic| basic.path_len_constraint),
            purposes: purposes.map(stated),
            signs_handshakes: Purpose::of(usage.map(|usage| usage.digital_signature())),
            signs_certificates: Purpose::of(usage.map(|usage| usage.key_cert_sign())),
            signs_crls: Purpose::of(usage.map(|usage| usage.crl_sign())),
            key_kind: key_kind(spki),
            policies: policies(&certificate)?,
            mail_names: mail_names(&certificate, names.as_deref()),
            name_tags: names.iter().flatten().map(|name| name.tag).collect(),
            constraints: match value(&certificate, &oid!(2.5.29.30))? {
                Some(value) => Some(NameConstraints::read(value)?),
                None => None,
            },
            crl_points: match value(&certificate, &oid!(2.5.29.31))? {
                Some(value) => crl_points(value)?,
                None => Vec::new(),
            },
            spki: spki.raw.to_vec(),
            subject_text: name_text(certificate.subject()),
            issuer_text: name_text(certificate.issuer()),
            serial_text: serial_text(certificate.raw_serial()),
        })
    }

    /// Whether this is within its validity; both ends belong to it (RFC 5280 §4.1.2.5), to the second.
    pub(super) fn covers(&self, now: WallTime) -> bool {
        self.not_before.seconds() <= now.seconds() && now.seconds() <= self.not_after.seconds()
    }

    /// RFC 5280 §3.2: subject and issuer are the same.
    pub(super) fn is_self_issued(&self) -> bool {
        self.subject == self.issuer
    }

    /// Whether it constrains e-mail names.
    pub(super) fn constrains_mail(&self) -> bool {
        self.constraints.as_ref().is_some_and(|constraints| !constraints.mail.is_empty())
    }
}

/// An extension's value; the outer `None`: it is there twice.
fn value<'a>(certificate: &'a X509Certificate<'_>, oid: &Oid<'_>) -> Option<Option<&'a [u8]>> {
    Some(certificate.get_extension_unique(oid).ok()?.map(|extension| extension.value))
}

/// The tags of the nine forms of names (RFC 5280 §4.2.1.6), as DER writes them: otherName, x400Address, directoryName and ediPartyName
/// are constructed, the others are not.
const NAME_TAGS: [u8; 9] = [0xa0, 0x81, 0x82, 0xa3, 0xa4, 0xa5, 0x86, 0x87, 0x88];

/// The names of the subjectAltName; the inner `None`: there is none. A name under another tag makes no certificate: x509-parser goes by the
/// number of a tag alone, so that an rfc822Name written as constructed would be a name to the roster and none to the constraints.
fn names<'a>(certificate: &'a X509Certificate<'_>) -> Option<Option<Vec<der::Element<'a>>>> {
    let Some(value) = value(certificate, &oid!(2.5.29.17))? else { return Some(None) };
    let names = der::all(der::only(value, der::SEQUENCE)?)?;
    names.iter().all(|name| NAME_TAGS.contains(&name.tag)).then_some(Some(names))
}

/// RFC 5280 §4.2.1.10: without a subjectAltName, constraints on e-mail apply to the emailAddress of the subject.
fn mail_names(certificate: &X509Certificate<'_>, names: Option<&[der::Element<'_>]>) -> Vec<MailName> {
    match names {
        Some(names) => names.iter().filter_map(mail_name).collect(),
        None => certificate.subject().iter_email().map(|address| MailName::read(address.as_slice())).collect(),
    }
}

fn mail_name(name: &der::Element<'_>) -> Option<MailName> {
    match name.tag {
        0x81 => Some(MailName::read(name.content)),
        0xa0 => {
            let mut rest = name.content;
            let known = der::take(&mut rest, der::OID) == Some(SMTP_UTF8_MAILBOX);
            // What is not a UTF8String is an address that nobody can read.
            known.then(|| {
                let text = der::only(rest, 0xa0).and_then(|explicit| der::only(explicit, der::UTF8_STRING));
                MailName::read(text.unwrap_or_default())
            })
        }
        _ => None,
    }
}

/// RFC 5280 §4.2.1.13: a point with reasons stands for these only, and one with a cRLIssuer for another issuer's list.
fn crl_points(value: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    for point in der::all(der::only(value, der::SEQUENCE)?)? {
        let mut rest = point.content;
        let name = der::take(&mut rest, 0xa0);
        if point.tag != der::SEQUENCE || !rest.is_empty() {
            continue;
        }
        // fullName; a name relative to the issuer is compared with no list's.
        if let Some(full) = name.and_then(|name| der::only(name, 0xa0)) {
            found.extend(der::all(full)?.iter().map(|name| name.raw.to_vec()));
        }
    }
    Some(found)
}

fn policies(certificate: &X509Certificate<'_>) -> Option<Policies> {
    Some(Policies {
        asserted: match value(certificate, &oid!(2.5.29.32))? {
            Some(value) => Policies::read(value)?,
            None => Vec::new(),
        },
        inhibits_any: value(certificate, &oid!(2.5.29.54))?.is_some(),
        maps: value(certificate, &oid!(2.5.29.33))?.is_some(),
    })
}

fn stated(usage: &ExtendedKeyUsage<'_>) -> Purposes {
    Purposes {
        client_auth: usage.client_auth,
        email_protection: usage.email_protection,
        server_auth: usage.server_auth,
        any: usage.any,
        unstated: false,
    }
}

fn key_kind(spki: &SubjectPublicKeyInfo<'_>) -> KeyKind {
    let algorithm = &spki.algorithm;
    if algorithm.algorithm == oid!(1.3.101.112) {
        return KeyKind::Ed25519;
    }
    if algorithm.algorithm == oid!(1.2.840.113549.1.1.1) {
        return match spki.parsed() {
            Ok(PublicKey::RSA(key)) => KeyKind::Rsa(modulus_bits(key.modulus)),
            Ok(_) | Err(_) => KeyKind::Other,
        };
    }
    let curve = algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    match curve {
        Some(curve) if algorithm.algorithm == oid!(1.2.840.10045.2.1) => {
            let known = [
                (oid!(1.2.840.10045.3.1.7), KeyKind::P256),
                (oid!(1.3.132.0.34), KeyKind::P384),
                (oid!(1.3.132.0.35), KeyKind::P521),
            ];
            known.into_iter().find(|(known, _)| *known == curve).map_or(KeyKind::Other, |(_, kind)| kind)
        }
        Some(_) | None => KeyKind::Other,
    }
}

fn modulus_bits(modulus: &[u8]) -> usize {
    let zeros = modulus.iter().take_while(|&&octet| octet == 0).count();
    let Some(first) = modulus.get(zeros) else { return 0 };
    let whole = modulus.len().saturating_sub(zeros).saturating_mul(8);
    whole.saturating_sub(usize::try_from(first.leading_zeros()).unwrap_or(0))
}
