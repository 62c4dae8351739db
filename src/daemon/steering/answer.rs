//! One line of an answer, as it goes over the control socket or comes from the store itself.
//!
//! Never: says in words alone what a program must know of it.

use serde::{Deserialize, Serialize};

use super::entry::Entry;
use super::identities::IdentityEntry;
use super::line::Lines;
use super::moving::{Begun, Parcel};
use super::sums::Sums;
use crate::queue::transfer::Adoption;

/// One line of an answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// A message.
    Entry(Box<Entry>),
    /// What a listing tells of messages. On the control socket the text stands behind the line of this.
    Lines(Lines),
    /// The header section of the message before, as far as it is text.
    Headers(String),
    /// Done to this message.
    Done(String),
    /// There is no such message.
    Missing(String),
    /// This message was meant, and left the queue before it could be done: delivered, reported or removed meanwhile.
    Gone(String),
    /// This message was named, and is not among those that were asked for besides.
    Unmatched(String),
    /// It can't be done to this message, and why.
    Unable(String, String),
    /// How many there are; behind an export, how many of those that were meant are not held, and so were not exported beside a daemon.
    Count(Count),
    /// An export begins.
    Begun(Begun),
    /// A message of it; its octets follow.
    Parcel(Parcel),
    /// Octets of the message before, in base64.
    Piece(String),
    /// This message can't be exported, whatever was told of it, and why.
    Spoiled(String, String),
    /// These messages of the import have been imported before; the others may be brought.
    Adopted(Adoption),
    /// This message of the import is here already, or was; of a receipt: it stays, for this queue has said since that it is here.
    Present(String),
    /// Sums.
    Stats(Box<Sums>),
    /// The store's file was written anew: octets before and after.
    Compacted(u64, u64),
    /// An identity.
    Identity(Box<IdentityEntry>),
    /// It can't be done, and why.
    Fault(String),
    /// It can't be done at this moment.
    Unavailable(Unavailable),
    /// Nothing more comes.
    End,
}

/// What passes: asked again when the daemon has started, or has stopped, there is an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unavailable {
    /// The drain has begun: in the middle of the answer, or for more than a look.
    Stopping,
    /// The queue is not open yet.
    Opening,
}

impl Unavailable {
    /// In words.
    pub const fn why(self) -> &'static str {
        match self {
            Self::Stopping => {
                "the daemon is stopping: what was told so far is done; ask again when it runs, or when it has stopped"
            }
            Self::Opening => {
                "the daemon has just started, and is opening its queue (after a crash recovering it, with very many messages for a minute): ask again"
            }
        }
    }
}

impl Answer {
    /// What stands behind its line on the control socket.
    pub fn text_behind(&self) -> &[u8] {
        if let Self::Lines(lines) = self { lines.text.as_bytes() } else { &[] }
    }

    /// Why it can't be done, where it says that.
    pub fn objection(&self) -> Option<&str> {
        if let Self::Unavailable(cause) = self {
            return Some(cause.why());
        }
        if let Self::Fault(why) = self { Some(why) } else { None }
    }
}

/// How many messages were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Messages.
    pub messages: u64,
    /// Octets of them.
    pub octets: u64,
    /// Those that came later are not counted, milliseconds since 1970: [`super::selection::Filters::until`] of what is done next.
    pub until: i64,
}
