//! Which limit is in the way of who asks for room or memory, with figures: what the log and the operator are told.
//!
//! Never: measures; decides.

use std::fmt;

use super::QueueError;
use super::fill::beyond;

/// Which limit is in the way, with figures for the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shortage {
    /// `queue.count`.
    Count { now: u64, limit: u64 },
    /// `queue.size`.
    Size { now: u64, more: u64, limit: u64 },
    /// The disk, of which a reserve is left alone.
    Disk { free: u64, coming: u64, reserve: u64 },
    /// `queue.receiving_per_identity`.
    Receiving { now: u64 },
    /// `queue.share_per_identity` of `queue.count`.
    ShareOfCount { now: u64, limit: u64 },
    /// `queue.share_per_identity` of `queue.size`.
    ShareOfSize { now: u64, more: u64, limit: u64 },
    /// `queue.memory_share_per_identity` of `queue.memory`.
    ShareOfMemory { now: u64, more: u64, limit: u64 },
    /// So many wait for that already.
    Line { now: u64 },
    /// What of `queue.memory` open transactions may hold together.
    Envelopes { now: u64, more: u64, limit: u64 },
    /// `queue.memory` has nothing left for an open transaction.
    EnvelopesBesideMessages,
    /// What of its share of `queue.memory` an identity's open transactions may hold.
    ShareOfEnvelopes { now: u64, more: u64, limit: u64 },
}

impl Shortage {
    /// Whether others still have room: it is the identity that has too much here.
    pub(super) fn is_of_the_identity(self) -> bool {
        match self {
            Self::Count { .. }
            | Self::Size { .. }
            | Self::Disk { .. }
            | Self::Envelopes { .. }
            | Self::EnvelopesBesideMessages => false,
            Self::Receiving { .. }
            | Self::ShareOfEnvelopes { .. }
            | Self::ShareOfCount { .. }
            | Self::ShareOfSize { .. }
            | Self::ShareOfMemory { .. }
            | Self::Line { .. } => true,
        }
    }

    /// Whether it is of what messages hold only while they are being received.
    pub(super) fn passes(self) -> bool {
        matches!(self, Self::ShareOfMemory { .. })
    }

    /// What is said of it to whoever asked.
    pub(super) fn refusal(self) -> QueueError {
        if self.is_of_the_identity() { QueueError::Share(self.to_string()) } else { QueueError::Full(self.to_string()) }
    }
}

/// `1 message is`, `2 messages are`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Messages(pub(super) u64);

impl fmt::Display for Messages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("1 message is"),
            count => write!(f, "{count} messages are"),
        }
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Count { now, limit } => {
                write!(f, "{} kept or being received, and queue.count leaves intake {limit}", Messages(now))
            }
            Self::Size { now, more, limit } => {
                let [now, more, limit] = beyond(now, more, limit);
                write!(
                    f,
                    "{now} are kept or being received, {more} more are asked for, and queue.size leaves intake {limit}"
                )
            }
            Self::Disk { free, coming, reserve } => {
                let [coming, reserve, free] = beyond(coming, reserve, free);
                write!(
                    f,
                    "the disk of data_dir has {free} free; {coming} are coming, and {reserve} are left to outcomes and reports"
                )
            }
            Self::Receiving { now } => {
                write!(f, "of this identity, {} being received already (queue.receiving_per_identity)", Messages(now))
            }
            Self::ShareOfCount { now, limit } => write!(
                f,
                "of this identity, {} kept or being received, and queue.share_per_identity allows {limit}",
                Messages(now)
            ),
            Self::ShareOfSize { now, more, limit } => {
                let [now, more, limit] = beyond(now, more, limit);
                write!(
                    f,
                    "{now} of this identity are kept or being received, {more} more are asked for, and queue.share_per_identity allows {limit}"
                )
            }
            Self::ShareOfMemory { now, more, limit } => {
                let [now, more, limit] = beyond(now, more, limit);
                write!(
                    f,
                    "messages of this identity that are being received hold {now} of memory, {more} more are asked for, and queue.memory_share_per_identity allows {limit}"
                )
            }
            Self::Line { now } => write!(
                f,
                "of this identity, {} waiting for its share of memory already (queue.memory_share_per_identity)",
                Messages(now)
            ),
            Self::Envelopes { now, more, limit } => {
                let [now, more, limit] = beyond(now, more, limit);
                write!(
                    f,
                    "recipients of open transactions hold {now} of memory, {more} more are asked for, and half of queue.memory is {limit}"
                )
            }
            Self::EnvelopesBesideMessages => f.write_str(
                "messages that are being received hold all of queue.memory, and more is asked for recipients",
            ),
            Self::ShareOfEnvelopes { now, more, limit } => {
                let [now, more, limit] = beyond(now, more, limit);
                write!(
                    f,
                    "recipients of this identity's open transactions hold {now} of memory, {more} more are asked for, and half of queue.memory_share_per_identity allows {limit}"
                )
            }
        }
    }
}
