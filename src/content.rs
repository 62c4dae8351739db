//! One streamed look at the message: facts, no opinion; and the fix-ups (RFC 6409 §8).
//!
//! The header section is read whole within its limit; the body goes by piece by piece and is never judged.
//! Never: decides who may send what (that is `policy::author`), changes an octet of the body.

use crate::mail::Address;

pub use crate::mail::header::HeaderFault;
pub use crate::smtp::data::OctetFault;

/// What the header section says. Made by [`crate::content`]; `fault` set means that it can't be judged at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderFacts {
    /// Why the section can't be judged: which field, and why; for people.
    pub fault: Option<HeaderFault>,
    /// The mailboxes of the one From field.
    pub from: Vec<Address>,
    /// The mailbox of Sender.
    pub sender: Option<Address>,
    /// The mailboxes of the topmost Resent-From.
    pub resent_from: Vec<Address>,
    /// The mailbox of the topmost Resent-Sender.
    pub resent_sender: Option<Address>,
    /// Whether a Date field is there.
    pub has_date: bool,
    /// Whether a Message-ID field is there, and its value without white space, for the log.
    pub message_id: Option<String>,
    /// How many Received fields: the hop count (RFC 5321 §6.3).
    pub received: usize,
    /// Whether the section holds octets over 127 (RFC 6532).
    pub eight_bit: bool,
    /// The fields' names in any DKIM-Signature's `h=`, lower case: not to be added or changed.
    pub signed: Vec<String>,
}

/// How the body went by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyEnd {
    /// To its true end.
    Complete,
    /// This octet leaves the end in dispute.
    Disputed(OctetFault),
    /// To its true end, but it was larger than allowed.
    TooLarge,
    /// To its true end, but a line was over the limit.
    LineTooLong {
        /// The limit, octets.
        limit: usize,
    },
    /// To its true end, but the queue could not keep it.
    NotKept,
}

/// What is known when the body has gone by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyFacts {
    /// How it ended.
    pub end: BodyEnd,
    /// Octets of the message as received, without the framing.
    pub octets: u64,
}
