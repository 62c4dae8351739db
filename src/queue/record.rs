//! What is kept of a message besides its octets: versioned, with everything that delivery, reports and the audit need.
//!
//! A newer version is refused with a clear message, an older one is migrated.

use serde::{Deserialize, Serialize};

use crate::mail::{Envelope, QueueId};
use crate::smtp::Reply;
use crate::sys::WallTime;

/// On whose authority the message is here: kept so that "who sent this" can be answered from the queue alone, and rechecked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Custodian {
    /// The identity's name; `reports` for our own reports.
    pub identity: String,
    /// The CA's name; none for a pin.
    pub ca: Option<String>,
    /// SHA-256 of the leaf, hexadecimal; empty for our own reports.
    pub fingerprint: String,
    /// Issuer and serial of each certificate of the chain, leaf first.
    pub chain: Vec<(String, String)>,
}

/// How the message came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceFacts {
    /// The client's address and port.
    pub client: String,
    /// What it called itself in EHLO.
    pub helo: String,
    /// The protocol of the Received field: ESMTPS, ESMTPSA, UTF8SMTPS, UTF8SMTPSA.
    pub protocol: String,
    /// TLS version and cipher suite.
    pub tls: String,
    /// When its end-of-data was read.
    pub arrived: WallTime,
    /// Its Message-ID, for the log and reports.
    pub message_id: Option<String>,
}

/// What came of one attempt, for one recipient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The upstream has it.
    Delivered {
        /// Its reply to end-of-data.
        reply: Reply,
    },
    /// Not now; try again.
    Deferred {
        /// What happened, for people.
        reason: String,
        /// What the upstream said, if it said something.
        reply: Option<Reply>,
    },
    /// Not at all: this message, this recipient.
    Failed {
        /// What happened, for people.
        reason: String,
        /// What the upstream said, if it said something.
        reply: Option<Reply>,
    },
}

/// Where a recipient stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientState {
    /// Whether anything is left to do for it: true until delivered, failed and reported, or given up.
    pub open: bool,
    /// How often it was tried.
    pub attempts: u32,
    /// What came of the last attempt.
    pub last: Option<Outcome>,
    /// When and by which upstream it was last tried.
    pub last_attempt: Option<(WallTime, String)>,
}

/// The state of a whole message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// To be tried when due.
    Queued,
    /// Kept back by an operator or by its grant, until released.
    Held,
    /// Can't be delivered nor reported: kept, listed, counted, until an operator removes or retries it.
    Dead,
}

/// All that is kept of a message besides its octets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its name.
    pub id: QueueId,
    /// Who to, who from.
    pub envelope: Envelope,
    /// On whose authority.
    pub custodian: Custodian,
    /// How it came.
    pub trace: TraceFacts,
    /// Where it stands.
    pub state: State,
    /// Per recipient, in the envelope's order.
    pub recipients: Vec<RecipientState>,
    /// When it is to be tried next.
    pub due: WallTime,
    /// Attempts on the whole message.
    pub attempts: u32,
    /// Whether the delay has been reported (`warn_after`).
    pub warned: bool,
    /// Octets of the stored message.
    pub length: u64,
    /// CRC-32C (or what the store uses) of the stored message.
    pub checksum: u64,
}
