//! One certificate, read once: what the judge needs besides webpki's own checks (RFC 5280 §4.1, §4.2).
//!
//! webpki builds paths and checks signatures, but tells neither which certificate failed, nor whether the leaf states its purpose, nor how
//! strong a key is. Never: compares a name as text; names are compared as DER octets, as webpki does.

use rustls::pki_types::CertificateDer;
use x509_parser::asn1_rs::FromDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::public_key::PublicKey;

use crate::identity::facts::{Digest256, name_text, serial_text};
use crate::sys::WallTime;

/// The shortest RSA modulus taken, bits; as webpki's algorithms.
pub(super) const RSA_BITS_MIN: usize = 2048;
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
    /// The serial; none when over 20 octets.
    pub(super) serial: Option<Serial>,
    /// notBefore.
    pub(super) not_before: WallTime,
    /// notAfter.
    pub(super) not_after: WallTime,
    /// basicConstraints cA.
    pub(super) is_ca: bool,
    /// extendedKeyUsage clientAuth.
    pub(super) client_auth: Purpose,
    /// keyUsage digitalSignature.
    pub(super) signs_handshakes: Purpose,
    /// keyUsage keyCertSign.
    pub(super) signs_certificates: Purpose,
    /// keyUsage cRLSign.
    pub(super) signs_crls: Purpose,
    /// Whether its key is RSA under [`RSA_BITS_MIN`].
    pub(super) weak_key: bool,
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
    /// Reads a certificate; `None` when it is none.
    pub(super) fn of(der: &CertificateDer<'_>) -> Option<Self> {
        let (rest, certificate) = X509Certificate::from_der(der).ok()?;
        if !rest.is_empty() {
            return None;
        }
        let usage = certificate.key_usage().ok()?.map(|extension| extension.value);
        let purposes = certificate.extended_key_usage().ok()?.map(|extension| extension.value);
        let spki = certificate.public_key();
        Some(Self {
            subject: certificate.subject().as_raw().to_vec(),
            issuer: certificate.issuer().as_raw().to_vec(),
            key: Digest256::of(spki.raw),
            serial: Serial::from_octets(certificate.raw_serial()),
            not_before: WallTime::from_seconds(certificate.validity().not_before.timestamp()),
            not_after: WallTime::from_seconds(certificate.validity().not_after.timestamp()),
            is_ca: certificate.basic_constraints().ok()?.is_some_and(|extension| extension.value.ca),
            client_auth: Purpose::of(purposes.map(|purposes| purposes.client_auth)),
            signs_handshakes: Purpose::of(usage.map(|usage| usage.digital_signature())),
            signs_certificates: Purpose::of(usage.map(|usage| usage.key_cert_sign())),
            signs_crls: Purpose::of(usage.map(|usage| usage.crl_sign())),
            weak_key: matches!(spki.parsed(), Ok(PublicKey::RSA(key)) if modulus_bits(key.modulus) < RSA_BITS_MIN),
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
}

fn modulus_bits(modulus: &[u8]) -> usize {
    let zeros = modulus.iter().take_while(|&&octet| octet == 0).count();
    let Some(first) = modulus.get(zeros) else { return 0 };
    let whole = modulus.len().saturating_sub(zeros).saturating_mul(8);
    whole.saturating_sub(usize::try_from(first.leading_zeros()).unwrap_or(0))
}
