//! DANE for SMTP: whether a certificate is the one that a domain's TLSA records name (RFC 6698, RFC 7671, RFC 7672). Pure.
//!
//! | usage         | taken | what must hold                                                                              |
//! |---------------|-------|---------------------------------------------------------------------------------------------|
//! | 0, 1 PKIX     | no    | unusable (RFC 7672 §3.1.3): they would need CAs that nobody has agreed on                   |
//! | 2 DANE-TA     | yes   | a path from the leaf to the CA that is named, valid now, and the name in the leaf           |
//! | 3 DANE-EE     | yes   | the leaf is the one that is named; neither its name nor its dates count (RFC 7672 §3.1.1)   |
//!
//! Records of which nothing is known (another selector or matching type, a digest of another length) are left out; of several digests of one
//! usage and selector only the strongest counts (RFC 7671 §9). When none is left, that is no licence to go without: the mail waits.
//! Never: looks anything up; takes a record that was not proved by DNSSEC, which is its caller's word.

use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use sha2::{Digest as _, Sha256, Sha512};
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// A TLSA record (RFC 6698 §2.1), as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tlsa {
    /// What the certificate is named as.
    pub usage: u8,
    /// 0 is the certificate, 1 its SubjectPublicKeyInfo.
    pub selector: u8,
    /// 0 is the octets themselves, 1 their SHA-256, 2 their SHA-512.
    pub matching: u8,
    /// The octets or their digest.
    pub data: Vec<u8>,
}

/// By what a certificate is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// DANE-EE: it is named.
    Itself,
    /// DANE-TA: its CA is named.
    ByItsCa,
}

/// Why a certificate is not right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DaneFault {
    /// No record can be used.
    #[error("none of its TLSA records can be used")]
    Unusable,
    /// No certificate was shown.
    #[error("it showed no certificate")]
    NoCertificate,
    /// Records and certificates are of different things.
    #[error("no TLSA record names its certificate, or a CA of it")]
    NoMatch,
    /// The CA that is named has not issued it, or not for now.
    #[error("a TLSA record names a CA of it, and no valid path leads there")]
    NoPath,
    /// The path is right, and the certificate is for another name.
    #[error("a TLSA record names its CA, and the certificate is for other names")]
    WrongName,
}

/// The records that can be used.
pub fn usable(records: &[Tlsa]) -> Vec<&Tlsa> {
    let known = |record: &&Tlsa| {
        let right_length = match record.matching {
            0 => !record.data.is_empty(),
            1 => record.data.len() == 32,
            2 => record.data.len() == 64,
            _ => false,
        };
        matches!(record.usage, 2 | 3) && record.selector <= 1 && right_length
    };
    let known: Vec<&Tlsa> = records.iter().filter(known).collect();
    let has_stronger = |record: &Tlsa| {
        let alike = |other: &&&Tlsa| (other.usage, other.selector) == (record.usage, record.selector);
        record.matching == 1 && known.iter().filter(alike).any(|other| other.matching == 2)
    };
    known.iter().copied().filter(|record| !has_stronger(record)).collect()
}

/// Whether the chain, leaf first, is right by the records. `names`: what the leaf may be called under a CA that is named (RFC 7672 §3.2.2).
pub fn judge(
    records: &[Tlsa],
    chain: &[CertificateDer<'_>],
    names: &[ServerName<'_>],
    now: UnixTime,
) -> Result<Right, DaneFault> {
    let usable = usable(records);
    if usable.is_empty() {
        return Err(DaneFault::Unusable);
    }
    let (leaf, issuers) = chain.split_first().ok_or(DaneFault::NoCertificate)?;
    if usable.iter().any(|record| record.usage == 3 && record.names(leaf)) {
        return Ok(Right::Itself);
    }
    let cas: Vec<&Tlsa> = usable.into_iter().filter(|record| record.usage == 2).collect();
    let named_whole = cas.iter().filter(|record| (record.selector, record.matching) == (0, 0));
    let named_whole: Vec<CertificateDer<'_>> =
        named_whole.map(|record| CertificateDer::from(record.data.as_slice())).collect();
    let shown = issuers.iter().filter(|issuer| cas.iter().any(|record| record.names(issuer)));
    let anchors: Vec<TrustAnchor<'_>> =
        shown.chain(&named_whole).filter_map(|ca| webpki::anchor_from_trusted_cert(ca).ok()).collect();
    if anchors.is_empty() {
        return Err(DaneFault::NoMatch);
    }
    let leaf = EndEntityCert::try_from(leaf).map_err(|_| DaneFault::NoPath)?;
    leaf.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &anchors, issuers, now, KeyUsage::server_auth(), None, None)
        .map_err(|_| DaneFault::NoPath)?;
    if names.iter().any(|name| leaf.verify_is_valid_for_subject_name(name).is_ok()) {
        Ok(Right::ByItsCa)
    } else {
        Err(DaneFault::WrongName)
    }
}

impl Tlsa {
    /// Whether it names this certificate (RFC 6698 §2.1.2 and §2.1.3).
    fn names(&self, certificate: &CertificateDer<'_>) -> bool {
        let Some(selected) = self.selected(certificate) else { return false };
        match self.matching {
            0 => self.data == selected,
            1 => self.data == Sha256::digest(selected).as_slice(),
            2 => self.data == Sha512::digest(selected).as_slice(),
            _ => false,
        }
    }

    fn selected<'a>(&self, certificate: &'a CertificateDer<'_>) -> Option<&'a [u8]> {
        match self.selector {
            0 => Some(certificate.as_ref()),
            1 => X509Certificate::from_der(certificate).ok().map(|(_, parsed)| parsed.tbs_certificate.subject_pki.raw),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
