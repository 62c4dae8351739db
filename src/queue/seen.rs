//! Certificates that were seen: whose, until when they are good, when they came first and last, and from where.
//!
//! A sighting is written in the transaction that keeps a message, and so has no sync of its own; of a session without a message at most one an
//! hour for each certificate is, and of one identity few. Everything is bounded: certificates in all and of one identity, and the texts of each. What has ended goes
//! after a while ([`due::KEEP_ENDED`]).
//!
//! Never: decides who may send; hinders a message when it can't be written for want of room in its table.

pub mod due;
pub(super) mod table;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::store::Order;
use super::writer::Holding;
use super::{Queue, QueueError};
use crate::sys::{MonoTime, WallTime};

pub use due::Stage;

/// Certificates that are remembered in all; a new one more is not.
pub const SEEN_MAX: u64 = 1_000_000;
/// Certificates of one identity that are remembered; for a new one more the one that was seen longest ago goes.
pub const OF_IDENTITY_MAX: usize = 64;
/// Octets of each text.
const TEXT_MAX: usize = 160;

/// How often a certificate is noted whose sessions keep no message.
const SESSION_EVERY: Duration = Duration::from_secs(3600);
/// Identities of the last hour that are kept in mind for that.
const LATELY_MAX: usize = 16_384;
/// Certificates of one identity that are noted so in an hour: who holds a pinned key can show a new certificate in each session, and each would be
/// a sync.
const LATELY_OF_IDENTITY_MAX: usize = 4;

/// A certificate, seen once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Whom it stood for.
    pub identity: String,
    /// SHA-256 of the certificate.
    pub fingerprint: [u8; 32],
    /// What it says of itself, for people.
    pub certificate: Certificate,
    /// The client's address.
    pub client: String,
    /// When.
    pub at: WallTime,
}

/// What is kept of what a certificate says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// The CA that vouched; none for a pinned one.
    pub ca: Option<String>,
    /// Its serial, hexadecimal.
    pub serial: String,
    /// Its subject, for people.
    pub subject: String,
    /// Its issuer, for people.
    pub issuer: String,
    /// Its first e-mail address, if it has one.
    pub email: Option<String>,
    /// When it begins.
    pub not_before: WallTime,
    /// When it ends.
    pub not_after: WallTime,
}

impl Certificate {
    /// With texts of bounded length. An address that is too long is none: cut, it would be another one.
    fn bounded(mut self) -> Self {
        for text in [&mut self.serial, &mut self.subject, &mut self.issuer] {
            cut(text);
        }
        self.email = self.email.filter(|email| email.len() <= 2 * TEXT_MAX);
        self
    }
}

fn cut(text: &mut String) {
    let mut end = TEXT_MAX.min(text.len());
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.truncate(end);
}

/// A certificate, as it is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Whom it stood for.
    pub identity: String,
    /// SHA-256 of the certificate.
    pub fingerprint: [u8; 32],
    /// The rest.
    pub row: Row,
}

/// A row of the table, without its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// What it says of itself.
    pub certificate: Certificate,
    /// When it was seen first.
    pub first: WallTime,
    /// When it was seen last, to the minute.
    pub last: WallTime,
    /// The client's address then.
    pub client: String,
    /// What has been told of its end.
    pub told: Option<Stage>,
}

/// Something to note of a certificate that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Whose.
    pub identity: String,
    /// Which.
    pub fingerprint: [u8; 32],
    /// What.
    pub what: Marked,
}

/// What is noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marked {
    /// That its end was told of.
    Told(Stage),
    /// That it is of no interest any more.
    Forgotten,
}

/// Which certificates were noted within the last hour; in memory, so that a start forgets it.
#[derive(Debug, Default)]
pub(super) struct Lately(Mutex<HashMap<String, Noted>>);

/// The certificates of one identity, and when each was noted.
type Noted = Vec<([u8; 32], MonoTime)>;

impl Lately {
    /// Whether it was noted longer ago than an hour, or never; from now on it was. No identity takes the room of others.
    fn is_due(&self, identity: &str, fingerprint: [u8; 32], now: MonoTime) -> bool {
        let mut lately = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lately = &mut *lately;
        let is_new = |(_, at): &([u8; 32], MonoTime)| now.since(*at) < SESSION_EVERY;
        if lately.len() >= LATELY_MAX && !lately.contains_key(identity) {
            lately.retain(|_, noted| noted.iter().any(is_new));
            if lately.len() >= LATELY_MAX {
                return false;
            }
        }
        let noted = match lately.get_mut(identity) {
            Some(noted) => noted,
            None => lately.entry(identity.to_owned()).or_default(),
        };
        noted.retain(is_new);
        if noted.len() >= LATELY_OF_IDENTITY_MAX || noted.iter().any(|(known, _)| *known == fingerprint) {
            return false;
        }
        noted.push((fingerprint, now));
        true
    }

    /// It was noted with a message.
    pub(super) fn note(&self, identity: &str, fingerprint: [u8; 32], now: MonoTime) {
        let _ = self.is_due(identity, fingerprint, now);
    }
}

impl Queue {
    /// Notes a certificate of `identity` that was seen without a message; at most once an hour each, and few of one identity. `sighting` is asked for
    /// when it is to be noted.
    ///
    /// # Errors
    ///
    /// [`QueueError::Broken`]: it was not noted.
    pub async fn see(
        &self,
        identity: &str,
        fingerprint: [u8; 32],
        sighting: impl FnOnce() -> Sighting,
    ) -> Result<(), QueueError> {
        if !self.inner.lately.is_due(identity, fingerprint, self.inner.clock.now().mono) {
            return Ok(());
        }
        self.inner.writer.submit(Order::See(Box::new(sighting())), Holding::default()).await
    }

    /// Notes what was told of certificates, and forgets others.
    ///
    /// # Errors
    ///
    /// [`QueueError::Broken`]: nothing was noted.
    pub async fn mark(&self, marks: Vec<Mark>) -> Result<(), QueueError> {
        if marks.is_empty() {
            return Ok(());
        }
        self.inner.writer.submit(Order::Mark(marks), Holding::default()).await
    }

    /// The certificates of the next identities behind `after`, in their order; about `limit` certificates, and of each identity all. None behind
    /// the last.
    ///
    /// # Errors
    ///
    /// [`QueueError::Broken`] when the disk fails.
    pub async fn seen(&self, after: Option<String>, limit: usize) -> Result<Vec<Seen>, QueueError> {
        let store = Arc::clone(&self.inner.store);
        self.inner.work_on(move || store.seen(after.as_deref(), limit)).await?
    }

    /// The certificates of each of these identities.
    ///
    /// # Errors
    ///
    /// [`QueueError::Broken`] when the disk fails.
    pub async fn seen_of(&self, identities: Vec<String>) -> Result<Vec<Vec<Seen>>, QueueError> {
        let store = Arc::clone(&self.inner.store);
        self.inner.work_on(move || store.seen_of(&identities)).await?
    }

    /// How many certificates are remembered.
    ///
    /// # Errors
    ///
    /// [`QueueError::Broken`] when the disk fails.
    pub async fn seen_count(&self) -> Result<u64, QueueError> {
        let store = Arc::clone(&self.inner.store);
        self.inner.work_on(move || store.seen_count()).await?
    }
}
