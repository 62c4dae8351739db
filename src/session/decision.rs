//! What the audit keeps: one [`Decision`] for each message, each authentication and each refusal.
//!
//! The machine says on the wire what a person can act on; here it says the rest: whose, by which rule, and the private cause. An event makes
//! one decision at most, so there is one place for it and nothing to grow: intake takes it after each step (`take_decision`) and hands it
//! to the audit. Certificate, CA and serial are read from the identity. Never: writes the log.

use std::sync::Arc;

use crate::identity::{Identity, Rule};
use crate::mail::{ForwardPath, QueueId, ReversePath};
use crate::smtp::Reply;

/// What was decided on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// Whether to talk at all: no identity, or not any more.
    Connection,
    /// AUTH.
    Authentication,
    /// MAIL: the envelope sender.
    Sender,
    /// RCPT: the last of the decision's recipients.
    Recipient,
    /// The message: its header, size, octets, custody.
    Message,
}

impl Subject {
    /// In one word, for the audit line and the counters.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Authentication => "authentication",
            Self::Sender => "sender",
            Self::Recipient => "recipient",
            Self::Message => "message",
        }
    }
}

/// How it was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// The message is kept under this id.
    Kept(QueueId),
    /// The message is kept under this id, and held until an operator approves it.
    Held(QueueId),
    /// The message, so named, was taken over by its upstream, with this reply, and is not kept.
    Relayed(QueueId, Reply),
    /// Authenticated, by this mechanism.
    Authenticated(&'static str),
    /// Refused, and this was said.
    Refused(Reply),
}

/// What the sender wanted of TLS further on (RFC 8689).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskedTls {
    /// REQUIRETLS.
    Required,
    /// The field `TLS-Required: No`, without REQUIRETLS (§4.1).
    Waived,
}

impl AskedTls {
    /// As the audit line has it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::Waived => "waived",
        }
    }
}

/// One line of the audit, as a value.
#[derive(Clone, Debug)]
pub struct Decision {
    /// On what.
    pub subject: Subject,
    /// How.
    pub ruling: Ruling,
    /// Whose certificate; none when there is no identity.
    pub identity: Option<Arc<Identity>>,
    /// The mechanism of AUTH by which it has authenticated, where it has.
    pub mechanism: Option<&'static str>,
    /// The reverse path, once one was named.
    pub sender: Option<ReversePath>,
    /// The forward paths taken so far; for [`Subject::Recipient`] the refused one is the last.
    pub recipients: Vec<ForwardPath>,
    /// The rule that spoke, where a rule did.
    pub rule: Option<Rule>,
    /// The private cause: for the log, never on the wire.
    pub cause: String,
    /// The message's Message-ID, once its header was read.
    pub message_id: Option<String>,
    /// The priority that MAIL asked for (RFC 6710 §4.1), once the transaction is open.
    pub asked_priority: Option<i8>,
    /// What was wanted of TLS: by MAIL, or by the header once it was read.
    pub asked_tls: Option<AskedTls>,
    /// The message's octets, once it was read to its end.
    pub octets: Option<u64>,
}

impl Decision {
    /// A decision of which nothing is known but this; the rest is filled in by who knows it.
    pub(crate) fn new(subject: Subject, ruling: Ruling, cause: impl Into<String>) -> Self {
        Self {
            subject,
            ruling,
            identity: None,
            mechanism: None,
            sender: None,
            recipients: Vec::new(),
            rule: None,
            cause: cause.into(),
            message_id: None,
            asked_priority: None,
            asked_tls: None,
            octets: None,
        }
    }

    /// A refusal.
    pub(crate) fn refused(subject: Subject, reply: Reply, cause: impl Into<String>) -> Self {
        Self::new(subject, Ruling::Refused(reply), cause)
    }
}
