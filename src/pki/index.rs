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
    /// The number of the root's newest CRL, where the root has an issuing CA below it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub root_crl_number: u64,
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
    /// The issuing CA's own, signed by the root.
    Authority,
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
    /// Somebody else may have the issuing CA's key.
    CaCompromise,
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
    /// The entry of this name, serial or name in the certificate; of several, the newest.
    pub fn find(&self, which: &str) -> Option<&Entry> {
        self.entries.iter().rfind(|entry| entry.goes_by(which))
    }

    /// Those of the name, serial or name in the certificate that are not revoked.
    ///
    /// # Errors
    /// [`PkiError::Unknown`], [`PkiError::AlreadyRevoked`].
    pub fn unrevoked(&self, which: &str) -> Result<Vec<Entry>, PkiError> {
        let named: Vec<&Entry> = self.entries.iter().filter(|entry| entry.goes_by(which)).collect();
        if named.is_empty() {
            return Err(PkiError::Unknown(which.to_owned()));
        }
        let good: Vec<Entry> = named.into_iter().filter(|entry| entry.revoked.is_none()).cloned().collect();
        if good.is_empty() { Err(PkiError::AlreadyRevoked(which.to_owned())) } else { Ok(good) }
    }

    /// Marks the certificate of this serial as revoked, unless it is already.
    pub(super) fn revoke(&mut self, serial: &str, at: WallTime, reason: Reason) {
        for entry in self.entries.iter_mut().filter(|entry| entry.serial == serial && entry.revoked.is_none()) {
            entry.revoked = Some(Revocation { at: at.rfc3339(), reason });
        }
    }
}

impl Entry {
    fn goes_by(&self, which: &str) -> bool {
        self.name == which || self.serial == plain_serial(which) || self.names.iter().any(|name| name == which)
    }
}

/// A serial as the index writes it, of one as people copy it: from OpenSSL in capitals, from a browser with colons.
fn plain_serial(text: &str) -> String {
    let text = text.to_ascii_lowercase().replace(':', "");
    text.strip_prefix("0x").unwrap_or(&text).trim_start_matches('0').to_owned()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde asks for")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn moment(text: &str) -> Option<WallTime> {
    text.parse::<jiff::Timestamp>().ok().map(|moment| WallTime::from_seconds(moment.as_second()))
}
