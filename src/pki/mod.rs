//! A small certificate authority: enough to start with, and for quickstart and tests.
//!
//! [`Authority`] makes certificates and CRLs as values (RFC 5280); [`Folder`] keeps them in a directory with an index of what was issued.
//! Keys are ECDSA P-256, serials random, validity always set. Never: overwrites a key or certificate; leaves a key readable by others;
//! reads a clock (moments are arguments).

mod authority;
mod folder;
mod index;
#[cfg(test)]
mod tests;

pub use authority::{Authority, Bearer, Issued, Validity, pkcs12};
pub use folder::{Folder, Given, Made};
pub use index::{Entry, Index, Kind, Reason, Revocation};

use std::path::PathBuf;

/// How long a CRL is good when nothing else is said, days.
pub const CRL_DAYS: u32 = 30;
/// How long a certificate is good when nothing else is said, days.
pub const CERTIFICATE_DAYS: u32 = 397;
/// How long a root is good when nothing else is said, days.
pub const ROOT_DAYS: u32 = 3650;
/// The longest validity that can be asked for, days (a hundred years).
pub const DAYS_MAX: u32 = 36_500;

/// Why it could not be done.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A name is none.
    #[error("{name:?} is no {what}")]
    Name {
        /// As given.
        name: String,
        /// What it should have been.
        what: &'static str,
    },
    /// Nothing to name the certificate by.
    #[error("a certificate needs at least one name")]
    Nameless,
    /// The library refused.
    #[error("certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// PKCS#12 could not be written.
    #[error("PKCS#12: {0}")]
    Pkcs12(String),
    /// A file could not be read or written.
    #[error("{path}: {fault}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        fault: std::io::Error,
    },
    /// A file is there already, and nothing is overwritten.
    #[error("{0} is there already; nothing is overwritten")]
    Exists(PathBuf),
    /// The directory holds no authority.
    #[error("{0} holds no certificate authority: there is no ca.pem; make one with `sealpost pki init --dir {0}`")]
    NoAuthority(PathBuf),
    /// The index can't be read.
    #[error("{path}: {reason}")]
    Index {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// No certificate goes by this name or serial.
    #[error("no certificate is called {0:?}, and none has this serial; see `sealpost pki list`")]
    Unknown(String),
    /// It is revoked already.
    #[error("{0:?} is revoked already")]
    AlreadyRevoked(String),
    /// The CA's own certificate has expired or will have before what it should sign.
    #[error("the certificate authority itself ends on {0}: nothing can be issued beyond that")]
    BeyondAuthority(String),
}
