//! What has happened since the start, counted: one number for each thing of which the audit has a line.
//!
//! Never: read to decide anything; kept over a restart.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::queue::Outcome;
use crate::session::Ruling;
use crate::sys::MonoTime;

/// The counts of one daemon.
#[derive(Debug)]
pub struct Counts {
    accepted: AtomicU64,
    refused: AtomicU64,
    delivered: AtomicU64,
    deferred: AtomicU64,
    failed: AtomicU64,
    reported: AtomicU64,
    dead: AtomicU64,
    since: MonoTime,
}

/// What they say at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Messages that were answered 250.
    pub accepted: u64,
    /// Connections of an identity, messages, senders, recipients and authentications that were refused; none of a client without an identity.
    pub refused: u64,
    /// Recipients whose upstream took the message.
    pub delivered: u64,
    /// Attempts for a recipient that came to nothing yet.
    pub deferred: u64,
    /// Recipients who do not get it.
    pub failed: u64,
    /// Reports that were queued.
    pub reported: u64,
    /// Messages that could be neither delivered nor reported.
    pub dead: u64,
    /// When it began.
    pub since: MonoTime,
}

impl Counts {
    /// Counts that begin at this moment.
    pub fn new(since: MonoTime) -> Self {
        Self {
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            deferred: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            reported: AtomicU64::new(0),
            dead: AtomicU64::new(0),
            since,
        }
    }

    /// What they say.
    pub fn read(&self) -> Counted {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counted {
            accepted: of(&self.accepted),
            refused: of(&self.refused),
            delivered: of(&self.delivered),
            deferred: of(&self.deferred),
            failed: of(&self.failed),
            reported: of(&self.reported),
            dead: of(&self.dead),
            since: self.since,
        }
    }

    /// As [`crate::audit::decided`].
    pub fn decided(&self, ruling: &Ruling) {
        match ruling {
            Ruling::Kept(_) | Ruling::Held(_) | Ruling::Relayed(..) => one_more(&self.accepted),
            Ruling::Refused(_) => one_more(&self.refused),
            Ruling::Authenticated(_) => {}
        }
    }

    /// As [`crate::audit::attempted`].
    pub fn attempted(&self, outcome: &Outcome) {
        one_more(match outcome {
            Outcome::Delivered { .. } => &self.delivered,
            Outcome::Deferred { .. } => &self.deferred,
            Outcome::Failed { .. } => &self.failed,
        });
    }

    /// As [`crate::audit::reported`].
    pub fn reported(&self) {
        one_more(&self.reported);
    }

    /// As [`crate::audit::dead`].
    pub fn dead(&self) {
        one_more(&self.dead);
    }
}

fn one_more(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}
