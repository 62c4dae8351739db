//! The index: what was issued, what was revoked, how many CRLs were made. One TOML file, small enough to read with the eyes.

use serde::{Deserialize, Serialize};

use super::PkiError;
use crate::sys::WallTime;

/// Everything issued by one authority.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Index {
    /// The number of the newest CRL (RFC 5280 §5.2.3); 0 before the first.
    #[serde(default)]
    pub crl_number: u64,
    /// What was issued, in order.
    #[serde(default, rename = "certificate")]
    pub entries: Vec<Entry>,
}

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A person's.
    Person,
    /// A program's.
    Robot,
    /// A server's.
    Server,
}

/// One certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What its files are called.
    pub name: String,
    /// Its serial, lower-case hexadecimal.
    pub serial: String,
    /// What it is for.
    pub kind: Kind,
    /// The names in it.
    pub names: Vec<String>,
    /// The common name, where it is not the first of the names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub common_name: Option<String>,
    /// From when it is good, RFC 3339.
    pub from: String,
    /// Until when it is good, RFC 3339.
    pub until: String,
    /// Whether it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Revocation>,
}

/// That a certificate was revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    /// When, RFC 3339.
    pub at: String,
    /// Why.
    pub reason: Reason,
}

/// Why a certificate was revoked (RFC 5280 §5.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Not said.
    #[default]
    Unspecified,
    /// Somebody else may have the key.
    KeyCompromise,
    /// Its bearer belongs elsewhere now.
    AffiliationChanged,
    /// Another took its place.
    Superseded,
    /// It is needed no more.
    CessationOfOperation,
    /// Its bearer may not any more.
    PrivilegeWithdrawn,
}

impl Revocation {
    /// When, as a moment; `None` when somebody edited the index into something unreadable.
    pub fn moment(&self) -> Option<WallTime> {
        moment(&self.at)
    }
}

impl Entry {
    /// Whole days from `now` until it ends; negative when it has ended; `None` when the index is unreadable there.
    pub fn days_left(&self, now: WallTime) -> Option<i64> {
        Some((moment(&self.until)?.seconds() - now.seconds()).div_euclid(86_400))
    }
}

impl Index {
    /// The entry of this name or serial; of several with one name, the newest.
    pub fn find(&self, which: &str) -> Option<&Entry> {
        self.position(which).and_then(|at| self.entries.get(at))
    }

    /// Marks the certificate of this name or serial as revoked.
    ///
    /// # Errors
    /// [`PkiError::Unknown`], [`PkiError::AlreadyRevoked`].
    pub fn revoke(&mut self, which: &str, at: WallTime, reason: Reason) -> Result<(), PkiError> {
        let entry = self
            .position(which)
            .and_then(|at| self.entries.get_mut(at))
            .ok_or_else(|| PkiError::Unknown(which.to_owned()))?;
        if entry.revoked.is_some() {
            return Err(PkiError::AlreadyRevoked(which.to_owned()));
        }
        entry.revoked = Some(Revocation { at: at.rfc3339(), reason });
        Ok(())
    }

    fn position(&self, which: &str) -> Option<usize> {
        let serial = which.to_ascii_lowercase().replace(':', "");
        self.entries.iter().rposition(|entry| entry.name == which || entry.serial == serial)
    }
}

fn moment(text: &str) -> Option<WallTime> {
    text.parse::<jiff::Timestamp>().ok().map(|moment| WallTime::from_seconds(moment.as_second()))
}
