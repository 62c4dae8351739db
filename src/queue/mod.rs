//! The store: custody between the client's 250 and the upstream's.
//!
//! States, leftovers, budgets: see the table below (written with the store).

pub mod record;
pub mod schedule;

use crate::mail::{Envelope, QueueId};

pub use record::{Custodian, Outcome, RecipientState, Record, TraceFacts};

/// Why the queue could not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// A budget was not granted in time, or the disk is full: come again.
    #[error("the queue is full: {0}")]
    Full(String),
    /// The store failed: come again, and the operator must look.
    #[error("the store failed: {0}")]
    Broken(String),
    /// There is no such message (any more).
    #[error("no message {0} in the queue")]
    NotFound(QueueId),
    /// Somebody else has claimed it meanwhile; what was recorded with the old claim changes nothing.
    #[error("the claim on {0} has lapsed")]
    Fenced(QueueId),
}

/// What intake hands over with a message, besides its octets.
#[derive(Clone, Debug)]
pub struct Deposit {
    /// Who to, who from.
    pub envelope: Envelope,
    /// On whose authority.
    pub custodian: Custodian,
    /// How it came.
    pub trace: TraceFacts,
}
