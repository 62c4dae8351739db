//! Policy's answer.

use crate::identity::Rule;
use crate::mail::Rate;
use crate::sys::WallTime;

/// Yes with the rule that said so, or no with the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Allowed, by this rule.
    Allowed(Rule),
    /// Refused.
    Refused(Refusal),
}

/// Which rule was broken: public, and what the reply is chosen by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offence {
    /// The envelope sender is not granted.
    Sender {
        /// As given.
        address: String,
    },
    /// `<>` is not granted.
    NullSender,
    /// An originator field names an address that is not granted.
    Author {
        /// The field's name.
        field: &'static str,
        /// As given.
        address: String,
    },
    /// The header can't be judged: no From, two, or a field that two readers would read differently.
    Header {
        /// Which field and why, for the reply.
        reason: String,
    },
    /// The recipient is not granted.
    Recipient {
        /// As given.
        address: String,
    },
    /// No route takes the recipient.
    NoRoute {
        /// As given.
        address: String,
    },
    /// More recipients than the identity may name in one message.
    TooManyRecipients {
        /// How many it may.
        limit: u32,
    },
    /// A larger message than the identity may send.
    TooLarge {
        /// How many octets it may.
        limit: u64,
    },
    /// More in an hour or a day than the identity may send.
    TooMuch {
        /// How much it may.
        rate: Rate,
        /// When there is room again.
        until: WallTime,
    },
}

/// No, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The public part.
    pub offence: Offence,
    /// The rule that spoke.
    pub rule: Rule,
    /// The private cause, for the log and `explain`: never on the wire.
    pub cause: String,
}
