//! Octets of a file to certificates, keys and CRLs: PEM (RFC 7468), or DER where it is common.
//!
//! Text outside the PEM blocks is allowed (`openssl x509 -text` writes some); blocks of other kinds are passed over, because bundles hold
//! certificate and key together. Each fault names what is wrong with the file and what to do. Never: opens a file (configuration does),
//! puts key material into a fault.

use rustls::pki_types::pem::{self, PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The most octets one certificate, key or bundle file may have.
pub const BUNDLE_OCTETS_MAX: usize = 4 * 1024 * 1024;
/// The most certificates one file may hold.
pub const BUNDLE_CERTIFICATES_MAX: usize = 1_000;

/// DER begins with a SEQUENCE (X.690 §8.9).
const DER_SEQUENCE: u8 = 0x30;

/// What is wrong with a file, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadFault {
    /// There is nothing in it.
    #[error("it is empty; copy it again, whole")]
    Empty,
    /// Over [`BUNDLE_OCTETS_MAX`] or the limit of CRLs.
    #[error("it is larger than {limit} octets; is it the right file?")]
    TooLarge {
        /// The limit, octets.
        limit: usize,
    },
    /// Over [`BUNDLE_CERTIFICATES_MAX`].
    #[error("it holds more than {BUNDLE_CERTIFICATES_MAX} certificates; name only the CAs that are meant")]
    TooMany,
    /// A PEM block that does not end, or is no base64.
    #[error("it is damaged PEM ({0}); copy it again, whole")]
    Damaged(&'static str),
    /// Neither PEM nor DER.
    #[error("it holds no {wanted}; it must have a block that begins with -----BEGIN {label}-----")]
    Missing {
        /// What was looked for.
        wanted: &'static str,
        /// The PEM label it has.
        label: &'static str,
    },
    /// A key under a passphrase.
    #[error(
        "its key is under a passphrase, which a daemon cannot ask for; write it out with: openssl pkey -in KEY -out NEW"
    )]
    Encrypted,
    /// A PKCS#12 file where PEM belongs.
    #[error("it looks like PKCS#12; make PEM of it with: openssl pkcs12 -in FILE -nodes -out NEW.pem")]
    Pkcs12,
}

/// The certificates in a file, in its order: PEM blocks, or one DER certificate.
pub fn certificates(octets: &[u8]) -> Result<Vec<CertificateDer<'static>>, ReadFault> {
    bounded(octets, BUNDLE_OCTETS_MAX)?;
    let found = if let Some(der) = der(octets) {
        if looks_like_pkcs12(der) {
            return Err(ReadFault::Pkcs12);
        }
        vec![CertificateDer::from(der.to_vec())]
    } else {
        blocks(octets, SectionKind::Certificate)?.into_iter().map(CertificateDer::from).collect()
    };
    match found.len() {
        0 => Err(ReadFault::Missing { wanted: "certificate", label: "CERTIFICATE" }),
        1..=BUNDLE_CERTIFICATES_MAX => Ok(found),
        _ => Err(ReadFault::TooMany),
    }
}

/// The first private key in a PEM file (PKCS#8, PKCS#1 or SEC 1), or one DER key.
pub fn private_key(octets: &[u8]) -> Result<PrivateKeyDer<'static>, ReadFault> {
    const MISSING: ReadFault = ReadFault::Missing { wanted: "private key", label: "PRIVATE KEY" };
    bounded(octets, BUNDLE_OCTETS_MAX)?;
    if let Some(der) = der(octets) {
        return PrivateKeyDer::try_from(der.to_vec()).map_err(|_| MISSING);
    }
    if contains(octets, b"BEGIN ENCRYPTED PRIVATE KEY") || contains(octets, b"Proc-Type: 4,ENCRYPTED") {
        return Err(ReadFault::Encrypted);
    }
    PrivateKeyDer::from_pem_slice(octets)
        .map_err(|fault| if matches!(fault, pem::Error::NoItemsFound) { MISSING } else { damaged(&fault) })
}

/// The CRLs in a file: PEM blocks, or one DER CRL, at most `limit` octets.
pub(super) fn crls(octets: &[u8], limit: usize) -> Result<Vec<Vec<u8>>, ReadFault> {
    bounded(octets, limit)?;
    if let Some(der) = der(octets) {
        return Ok(vec![der.to_vec()]);
    }
    let found = blocks(octets, SectionKind::Crl)?;
    if found.is_empty() { Err(ReadFault::Missing { wanted: "CRL", label: "X509 CRL" }) } else { Ok(found) }
}

fn bounded(octets: &[u8], limit: usize) -> Result<(), ReadFault> {
    match octets.len() {
        0 => Err(ReadFault::Empty),
        length if length > limit => Err(ReadFault::TooLarge { limit }),
        _ => Ok(()),
    }
}

fn der(octets: &[u8]) -> Option<&[u8]> {
    (octets.first() == Some(&DER_SEQUENCE)).then_some(octets)
}

/// RFC 7292 §4: a PFX begins with the version 3, a certificate (RFC 5280 §4.1) with a SEQUENCE.
fn looks_like_pkcs12(der: &[u8]) -> bool {
    der.get(..16).is_some_and(|head| contains(head, &[0x02, 0x01, 0x03, 0x30]))
}

fn blocks(octets: &[u8], wanted: SectionKind) -> Result<Vec<Vec<u8>>, ReadFault> {
    let mut found = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(octets) {
        let (kind, der) = section.map_err(|fault| damaged(&fault))?;
        if kind == wanted {
            found.push(der);
        }
    }
    Ok(found)
}

fn damaged(fault: &pem::Error) -> ReadFault {
    let text = if matches!(fault, pem::Error::MissingSectionEnd { .. }) {
        "a block has no END line"
    } else if matches!(fault, pem::Error::IllegalSectionStart { .. }) {
        "a BEGIN line is malformed"
    } else if matches!(fault, pem::Error::Base64Decode(_)) {
        "a block is not base64"
    } else {
        "it cannot be read"
    };
    ReadFault::Damaged(text)
}

fn contains(octets: &[u8], wanted: &[u8]) -> bool {
    octets.windows(wanted.len()).any(|window| window == wanted)
}
