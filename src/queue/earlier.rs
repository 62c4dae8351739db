//! Records as earlier formats had them, and how they become today's.
//!
//! ```text
//! 1  the first
//! 2  what a CRL and a roster are asked by once more (key, links); who holds a message, when it was released, whether it is rechecked
//! ```
//!
//! A format that has landed is never changed here; fixtures/store keeps a store of each.

use serde::{Deserialize, Serialize};

use super::record::{Custodian, HeldBy, Recheck, RecipientState, Record, State, TraceFacts};
use crate::mail::{Envelope, QueueId};
use crate::sys::WallTime;

/// Format 1.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record1 {
    id: QueueId,
    envelope: Envelope,
    custodian: Custodian1,
    trace: TraceFacts,
    state: State,
    reason: Option<String>,
    recipients: Vec<RecipientState>,
    due: WallTime,
    attempts: u32,
    warned: bool,
    length: u64,
    checksum: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Custodian1 {
    identity: String,
    ca: Option<String>,
    fingerprint: String,
    chain: Vec<(String, String)>,
}

impl From<Record1> for Record {
    fn from(old: Record1) -> Self {
        let Custodian1 { identity, ca, fingerprint, chain } = old.custodian;
        Self {
            id: old.id,
            envelope: old.envelope,
            custodian: Custodian { identity, ca, fingerprint, chain, key: None, links: Vec::new() },
            trace: old.trace,
            // Nobody but an operator could hold a message then.
            held_by: (old.state == State::Held).then_some(HeldBy::Operator),
            state: old.state,
            reason: old.reason,
            recipients: old.recipients,
            due: old.due,
            attempts: old.attempts,
            warned: old.warned,
            length: old.length,
            checksum: old.checksum,
            released: None,
            recheck: Recheck::Due,
        }
    }
}
