//! What a certificate says, typed: names, serial, digests, dates.

use std::fmt;

use crate::mail::Address;
use crate::sys::WallTime;

/// A SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest256(pub [u8; 32]);

impl fmt::Display for Digest256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for octet in self.0 {
            write!(f, "{octet:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Digest256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What logs, audit and the queue keep of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateSummary {
    /// SHA-256 of the DER.
    pub fingerprint: Digest256,
    /// SHA-256 of the SubjectPublicKeyInfo.
    pub spki: Digest256,
    /// The serial in lower-case hexadecimal, without leading zeros.
    pub serial: String,
    /// The subject for people; never compared.
    pub subject: String,
    /// The issuer for people; never compared.
    pub issuer: String,
    /// When it ends.
    pub not_after: WallTime,
    /// Issuer and serial of each certificate of the verified chain, leaf first, anchor excluded.
    pub chain: Vec<(String, String)>,
}

/// A name that a certificate has but that grants nothing, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnusableName {
    /// The kind and value, escaped for people.
    pub name: String,
    /// Why it is unusable.
    pub reason: &'static str,
}

/// What a certificate says.
#[derive(Clone, Debug)]
pub struct CertificateFacts {
    /// rfc822Names that are good addresses.
    pub emails: Vec<Address>,
    /// dNSNames, lower case.
    pub dns: Vec<String>,
    /// URIs.
    pub uris: Vec<String>,
    /// Names that grant nothing.
    pub unusable: Vec<UnusableName>,
    /// For logs and the queue.
    pub summary: CertificateSummary,
}
