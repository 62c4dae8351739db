//! What an operator can ask of the queue, and the answers: the same whether the daemon is asked or the store is opened without one.
//!
//! Entries have names of their own, apart from the stored record, so that what scripts read (`--json`) stays when the record changes.
//! Never: shows an octet of a body.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::audit;
use crate::mail::{QueueId, ReversePath};
use crate::queue::{Filter, Listed, Outcome, Page, Queue, QueueError, Record, RecipientState, State, Stats};
use crate::sys::WallTime;

/// How many entries are fetched at once.
const PAGE: usize = 500;

/// What to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// List, oldest first.
    List {
        /// Only those in this state.
        state: Option<StateName>,
        /// At most so many.
        limit: usize,
    },
    /// Show one.
    Show {
        /// Which.
        id: String,
    },
    /// Do something to some.
    Steer {
        /// What.
        action: Action,
        /// To which.
        target: Target,
    },
    /// Sums.
    Stats,
}

/// What can be done to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Keep it back.
    Hold,
    /// Keep it back no longer.
    Release,
    /// Try it now.
    Retry,
    /// Forget it.
    Remove,
}

impl Action {
    /// Its word, as the command line has it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Release => "release",
            Self::Retry => "retry",
            Self::Remove => "remove",
        }
    }

    /// Which states `--all` means by it.
    const fn concerns(self, state: State) -> bool {
        match (self, state) {
            (Self::Hold, State::Queued) | (Self::Release, State::Held) => true,
            (Self::Hold | Self::Release, State::Queued | State::Held | State::Dead) => false,
            (Self::Retry, State::Queued | State::Dead) => true,
            (Self::Retry, State::Held) => false,
            (Self::Remove, State::Queued | State::Held | State::Dead) => true,
        }
    }
}

/// Which messages.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// These.
    Ids(Vec<String>),
    /// All that it can be done to.
    All,
}

/// A state's name outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StateName {
    /// To be tried when due.
    Queued,
    /// Kept back.
    Held,
    /// Can't be delivered nor reported.
    Dead,
}

impl From<State> for StateName {
    fn from(state: State) -> Self {
        match state {
            State::Queued => Self::Queued,
            State::Held => Self::Held,
            State::Dead => Self::Dead,
        }
    }
}

impl From<StateName> for State {
    fn from(name: StateName) -> Self {
        match name {
            StateName::Queued => Self::Queued,
            StateName::Held => Self::Held,
            StateName::Dead => Self::Dead,
        }
    }
}

/// One line of an answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// A message.
    Entry(Box<Entry>),
    /// Done to this message.
    Done(String),
    /// There is no such message.
    Missing(String),
    /// Sums.
    Stats(Sums),
    /// It can't be done, and why.
    Fault(String),
    /// Nothing more comes.
    End,
}

/// A message, as operators see it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Its name.
    pub id: String,
    /// Where it stands.
    pub state: StateName,
    /// Why, when it is dead.
    pub reason: Option<String>,
    /// Who sent it.
    pub identity: String,
    /// The CA that vouched; none for a pinned certificate.
    pub ca: Option<String>,
    /// SHA-256 of the certificate.
    pub fingerprint: String,
    /// Issuer and serial of each certificate of the chain, leaf first.
    pub chain: Vec<(String, String)>,
    /// The reverse path; empty for `<>`.
    pub sender: String,
    /// Each recipient.
    pub recipients: Vec<EntryRecipient>,
    /// When it came, RFC 3339.
    pub arrived: String,
    /// When it is tried next, RFC 3339.
    pub due: String,
    /// How often it was tried.
    pub attempts: u32,
    /// Octets as stored.
    pub octets: u64,
    /// Its Message-ID.
    pub message_id: Option<String>,
    /// The client's address and port.
    pub client: String,
    /// What it called itself.
    pub helo: String,
    /// TLS version and cipher suite.
    pub tls: String,
}

/// A recipient, as operators see it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EntryRecipient {
    /// The forward path.
    pub address: String,
    /// `waiting`, `delivered`, `deferred`, `failed`.
    pub outcome: String,
    /// What the upstream said last, or what happened.
    pub detail: String,
    /// How often it was tried.
    pub attempts: u32,
    /// Which upstream tried it last.
    pub upstream: Option<String>,
    /// When, RFC 3339.
    pub last_attempt: Option<String>,
}

/// Sums over the queue.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Sums {
    /// Messages to be tried when due.
    pub queued: u64,
    /// Octets of them.
    pub queued_octets: u64,
    /// Messages kept back.
    pub held: u64,
    /// Octets of them.
    pub held_octets: u64,
    /// Messages that can't be delivered nor reported.
    pub dead: u64,
    /// Octets of them.
    pub dead_octets: u64,
    /// Of the queued, those being tried now.
    pub claimed: u64,
    /// Age of the oldest message, seconds.
    pub oldest_seconds: Option<u64>,
    /// Octets of the store's own file.
    pub file_octets: u64,
}

impl Sums {
    fn of(stats: &Stats, now: WallTime) -> Self {
        let totals = stats.totals;
        Self {
            queued: totals.queued.count,
            queued_octets: totals.queued.octets,
            held: totals.held.count,
            held_octets: totals.held.octets,
            dead: totals.dead.count,
            dead_octets: totals.dead.octets,
            claimed: stats.claimed,
            oldest_seconds: stats.oldest.map(|oldest| now.since(oldest).as_secs()),
            file_octets: stats.file,
        }
    }
}
