//! Records and tables as earlier formats had them, and how they become today's.
//!
//! ```text
//! 1  the first
//! 2  what a CRL and a roster are asked by once more (key, links); who holds a message, when it was released, whether it is rechecked
//! 3  records as in 2; in the place of one order of due times (due), one for each identity (turns, heads), and its head in holders
//! ```
//!
//! Records are migrated when they are next written, the order at the first start, in one transaction: some ten seconds at a million messages.
//!
//! A format that has landed is never changed here; fixtures/store keeps a store of each.

use redb::{TableDefinition, TableHandle as _, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::index::TURNS;
use super::record::{Custodian, HeldBy, Recheck, RecipientState, Record, State, TraceFacts};
use super::tables::DiskFault;
use crate::mail::{Envelope, QueueId};
use crate::sys::WallTime;

const DUE: TableDefinition<'static, (i64, u128), ()> = TableDefinition::new("due");
const HOLDERS: TableDefinition<'static, &str, (u64, u64)> = TableDefinition::new("holders");

/// Which order of messages a store has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Today,
    /// That of formats 1 and 2; now it has none.
    Earlier,
}

/// Takes the order of formats 1 and 2 out of a store.
pub(super) fn drop_order(transaction: &WriteTransaction) -> Result<Order, DiskFault> {
    if transaction.list_tables()?.any(|table| table.name() == TURNS.name()) {
        return Ok(Order::Today);
    }
    transaction.delete_table(DUE)?;
    transaction.delete_table(HOLDERS)?;
    Ok(Order::Earlier)
}

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
