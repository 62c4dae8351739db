//! Stores and records as earlier formats had them, and how they become today's.
//!
//! ```text
//! 1  the first
//! 2  what a CRL and a roster are asked by once more (key, links); who holds a message, when it was released, whether it is rechecked
//! 3  records as in 2; in the place of one order of due times (due), one for each identity (turns, heads), and its head in holders
//! 4  records as in 2, and bodies, in a file beside redb's; the order is in memory
//! ```
//!
//! Up to 3 records and bodies lay in tables of redb. At its first start such a store is written anew (see anew), which takes as much room again as is
//! kept in it: octet for octet, also what can't be read. Records are migrated when they are next written.
//!
//! A format that has landed is never changed here; fixtures/store keeps a store of each.

use std::io;

use redb::{ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata as _, TableDefinition};
use serde::{Deserialize, Serialize};

use super::OpenError;
use super::anew::{Anew, opened};
use super::codec;
use super::embedded::Embedded;
use super::record::{Custodian, HeldBy, Recheck, RecipientState, Record, State, TraceFacts};
use super::recover::{UNFINISHED, check_format, open_database};
use super::tables::{Brought, DiskFault, UNREAD};
use super::turns::Place;
use crate::mail::{Envelope, QueueId};
use crate::sys::WallTime;

const RECORDS: TableDefinition<'static, u128, &[u8]> = TableDefinition::new("records");
/// (id, number) -> octets, in rows of 32,000.
const BODIES: TableDefinition<'static, (u128, u32), &[u8]> = TableDefinition::new("bodies");
/// id -> length, of bodies in files of their own.
const FILES: TableDefinition<'static, u128, u64> = TableDefinition::new("files");
/// (identity, level, due time, id), since format 3.
const TURNS: TableDefinition<'static, (&str, u8, i64, u128), ()> = TableDefinition::new("turns");

/// The first format whose messages lie on a shelf.
const SHELVED: u32 = 4;

/// Writes a store of format 3 or earlier anew, and says which it was. Cut off, it begins again with the next start.
pub(super) fn migrate(store: &Embedded) -> Result<Option<u32>, OpenError> {
    let database = open_database(store)?;
    let format = check_format(store, &database)?;
    if format >= SHELVED {
        return Ok(None);
    }
    tracing::info!(format, "the store is of an earlier format; it is written anew, which may take a while");
    let written = || -> Result<(), DiskFault> {
        let transaction = database.begin_read()?;
        let records = transaction.open_table(RECORDS)?;
        let mut untold = |_, _| {};
        let mut anew = Anew::begin(store, 0, &transaction, records.len()?, &mut untold)?;
        anew.messages(records.iter()?.map(|row| {
            let (id, octets) = row?;
            brought(&transaction, QueueId::from_u128(id.value()), octets.value())
        }))?;
        anew.finish()
    };
    written().map_err(|DiskFault(fault)| could_not(store, format, &fault))?;
    drop(database);
    let failed = |fault| OpenError::Disk(store.file(), fault);
    store.disk.sync_folder(&store.folder).map_err(failed)?;
    store.disk.rename(&store.folder.join(UNFINISHED), &store.file()).map_err(failed)?;
    store.disk.sync_folder(&store.folder).map_err(failed)?;
    Ok(Some(format))
}

fn could_not(store: &Embedded, format: u32, fault: &redb::Error) -> OpenError {
    let is_full = matches!(fault, redb::Error::Io(fault)
        if matches!(fault.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded));
    let remedy = if is_full {
        ": it needs as much room again as the messages in it take; make room, and start again"
    } else {
        ""
    };
    OpenError::Store(format!(
        "{} is of format {format} and could not be written anew ({fault}){remedy}; nothing is changed",
        store.file().display()
    ))
}

/// A message as formats 1 to 3 have it.
fn brought(transaction: &ReadTransaction, id: QueueId, octets: &[u8]) -> Result<Brought, DiskFault> {
    let key = id.to_u128();
    let file = transaction.open_table(FILES)?.get(key)?.map(|length| length.value());
    let mut body = Vec::new();
    for row in transaction.open_table(BODIES)?.range((key, 0)..=(key, u32::MAX))? {
        body.extend_from_slice(row?.1.value());
    }
    let there = file.unwrap_or(u64::try_from(body.len()).unwrap_or(u64::MAX));
    let body = file.is_none().then_some(body);
    let (identity, place, length) = match codec::decode(octets) {
        Ok(record) => {
            let place = Place::of(&record);
            (record.custodian.identity, place, record.length)
        }
        Err(_) => {
            // When its turn comes it is set aside, if it was not before.
            let is_noted = opened(transaction, UNREAD)?.map_or(Ok(None), |unread| unread.get(key))?.is_some();
            let state = if is_noted { State::Dead } else { State::Queued };
            (whose(transaction, id)?, Place::unreadable(id, state), there)
        }
    };
    Ok(Brought { identity, place, record: octets.to_vec(), body, length })
}

/// Whose a message is whose record can't be read, if the store says so elsewhere.
fn whose(transaction: &ReadTransaction, id: QueueId) -> Result<String, DiskFault> {
    let Some(turns) = opened(transaction, TURNS)? else { return Ok(String::new()) };
    for row in turns.iter()? {
        let key = row?.0;
        let (identity, _, _, found) = key.value();
        if found == id.to_u128() {
            return Ok(identity.to_owned());
        }
    }
    Ok(String::new())
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
            custodian: Custodian {
                identity,
                ca,
                fingerprint,
                chain,
                key: None,
                links: Vec::new(),
                vouched: None,
                ends: None,
            },
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
