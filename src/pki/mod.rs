//! A small certificate authority: enough to start with, and for quickstart and tests.
//!
//! [`Authority`] makes certificates and CRLs as values (RFC 5280); [`Folder`] keeps them in a directory with an index of what was issued.
//! Serials are random, validity is always set. Never: overwrites a key or certificate; leaves a key readable by others; reads a clock (moments
//! are arguments).

mod authority;
mod bearer;
mod bundle;
#[expect(clippy::disallowed_methods, reason = "a directory of files is what this is; only cli and tests use it")]
mod change;
mod folder;
mod index;
mod key;
#[cfg(test)]
mod tests;

pub use authority::{Authority, Issued, Signed, Validity};
pub use bearer::Bearer;
pub use bundle::{Age, Bundle};
pub use folder::{Folder, Given, KeySource, Made, Plan, Renewal, RenewedKey};
pub use index::{Entry, Index, Kind, Reason, Revocation};
pub use key::{KeyKind, REQUEST_MAX, Request};

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// How long a CRL is good when nothing else is said, days.
pub const CRL_DAYS: u32 = 30;
/// How long the root's CRL is good when it has an issuing CA below it, days: its key is fetched for the next one once a year.
pub const ROOT_CRL_DAYS: u32 = 397;
/// How long an issuing CA is good when nothing else is said, days.
pub const ISSUING_DAYS: u32 = 1825;
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
    /// A name that the relay itself would not take from the certificate.
    #[error("{name:?} would identify nobody: {why}")]
    Unusable {
        /// As given.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Nothing to name the certificate by.
    #[error("a certificate needs at least one name")]
    Nameless,
    /// The library refused.
    #[error("certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// PKCS#12 could not be written.
    #[error("the PKCS#12 file: {0}; without one: --no-p12")]
    Pkcs12(String),
    /// A file could not be read.
    #[error("{path}: {fault}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        fault: std::io::Error,
    },
    /// A file or directory could not be made, or not be written.
    #[error("{} can't be written: {fault}; {}", whole(.path), remedy(.fault))]
    Unwritten {
        /// Which.
        path: PathBuf,
        /// Why.
        fault: std::io::Error,
    },
    /// A file is there already, and nothing is overwritten.
    #[error(
        "{0} is there already, and nothing is overwritten; choose another name with --file, or `sealpost pki renew` for a new certificate of the same name"
    )]
    Exists(PathBuf),
    /// An authority is there already.
    #[error(
        "{0} is there already: the directory has an authority, and nothing is overwritten; choose another with --dir"
    )]
    AuthorityExists(PathBuf),
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
    #[error(
        "no certificate of this authority is called {0:?}, has this serial or this name in it; see `sealpost pki list`"
    )]
    Unknown(String),
    /// Its key may be another's, too.
    #[error("the key of {0:?} was revoked as compromised: renew without --same-key, so that a new one is made")]
    Compromised(String),
    /// It is revoked already.
    #[error("{0:?} is revoked already")]
    AlreadyRevoked(String),
    /// Several certificates that are good go by one name.
    #[error("{which:?} has {} certificates that are not revoked ({}); name one by its serial, or all with --all", .serials.len(), .serials.join(", "))]
    Several {
        /// The name.
        which: String,
        /// Their serials.
        serials: Vec<String>,
    },
    /// The CA's own certificate has expired or will have before what it should sign.
    #[error(
        "the certificate authority itself ends on {0}, and nothing can be issued beyond that; ask for fewer --days, or renew the issuing CA with `sealpost pki renew issuing`"
    )]
    BeyondAuthority(String),
    /// A key belongs to another certificate.
    #[error("the key does not belong to the certificate")]
    ForeignKey,
    /// The root's key is needed and not in the directory.
    #[error(
        "this needs the root's key, and there is no {0}; name it with --root-key FILE, or put it there for as long as this takes"
    )]
    RootKeyAway(PathBuf),
    /// A request for a certificate can't be answered.
    #[error("the request: {0}")]
    Request(String),
    /// The directory has no issuing CA.
    #[error(
        "this authority is a root without an issuing CA: its own certificate can't be renewed; make a new one in another directory with `sealpost pki init`"
    )]
    NoIssuing,
}

/// The path as it is found from everywhere.
fn whole(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

/// What to do about a directory in which nothing can be written.
fn remedy(fault: &std::io::Error) -> &'static str {
    let kind = fault.kind();
    if kind == ErrorKind::PermissionDenied {
        "do this as the owner of the directory, or choose another with --dir"
    } else if kind == ErrorKind::ReadOnlyFilesystem {
        "it is on a file system that is read-only; choose another directory with --dir"
    } else if matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
        "make room there first"
    } else {
        "choose another directory with --dir"
    }
}
