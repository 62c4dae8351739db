//! The tables of the embedded store, and one write transaction's view of them.
//!
//! ```text
//! meta     name -> octets            "format", "sums", "open" (1 while a process has it), "ledger" (its last time),
//!                                    "adopted EXPORT" (how many of that export's messages are here, or were),
//!                                    "settled EXPORT" (what was exported so has been removed here)
//! records  id -> record              one for each message (see codec)
//! turns, heads                       the order in which they are given out (see index)
//! bodies   (id, number) -> octets    bodies that are kept here, in rows of CHUNK octets
//! files    id -> length              bodies that are kept in a file of their own, bodies/ID
//! unread   id -> reason              records that can't be read, set aside
//! ledger   identity -> history        what it has spent, as far as it counts
//! holders  identity -> count, octets, head   what is kept of each identity's messages; when the first is due
//! seen     (identity, SHA-256) -> row the certificates that it came with
//! ```
//!
//! Every change keeps the tables in step with one another; redb makes them true together or not at all.

use std::collections::BTreeMap;
use std::ops::Bound;

use redb::{ReadableTable, Table, TableDefinition, WriteTransaction};

use super::codec::{self, CodecFault};
use super::index::{self, HEADS, TURNS};
use super::ledger::History;
use super::record::{Record, State};
use super::seen::{Mark, Sighting, table};
use super::settings::{CHUNK, LEDGER_SWEEP};
use super::store::{NewBody, NewMessage, Tally, Totals};
use super::turns::Place;
use crate::mail::{Cost, QueueId};
use crate::sys::WallTime;

pub(super) const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");
pub(super) const RECORDS: TableDefinition<'static, u128, &[u8]> = TableDefinition::new("records");
pub(super) const BODIES: TableDefinition<'static, (u128, u32), &[u8]> = TableDefinition::new("bodies");
pub(super) const FILES: TableDefinition<'static, u128, u64> = TableDefinition::new("files");
pub(super) const UNREAD: TableDefinition<'static, u128, &str> = TableDefinition::new("unread");

pub(super) const LEDGER: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("ledger");
/// Count, octets, and the due time of the first queued message; none is [`NO_HEAD`].
pub(super) const HOLDERS: TableDefinition<'static, &str, (u64, u64, i64)> = TableDefinition::new("holders");
const NO_HEAD: i64 = i64::MAX;

pub(super) const LEDGER_KEY: &str = "ledger";
pub(super) const FORMAT_KEY: &str = "format";
const SUMS_KEY: &str = "sums";
const OPEN_KEY: &str = "open";
/// Exports of which messages have been adopted.
pub(super) const ADOPTIONS: &str = "adopted ";
/// Exports of ours that have arrived elsewhere, and have been removed.
pub(super) const SETTLED: &str = "settled ";
/// Exports of each kind that are remembered.
const EXPORTS_MAX: usize = 1000;

/// Where it is noted what became of an export.
pub(super) fn export_key(kind: &'static str, export: QueueId) -> String {
    format!("{kind}{export}")
}

/// What stands there. What can't be read is none: a message that is here is told by its name.
pub(super) fn adopted_count(octets: &[u8]) -> u64 {
    octets.try_into().map_or(0, u64::from_le_bytes)
}

/// Whether a process has the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InUse {
    Yes,
    No,
}

/// Begins a change. With quick repair, redb keeps its map of free pages with each commit and syncs twice: a start after a crash does not walk
/// the whole file, and what a commit means does not hang on a checksum that a sender of mail could aim at. docs/decisions/0001-store-layout.md
/// has the price.
pub(super) fn begin(database: &redb::Database) -> Result<WriteTransaction, DiskFault> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    Ok(transaction)
}

/// What is kept up with every change, so that a start need not count.
#[derive(Clone, Copy, Debug, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Sums {
    pub(super) totals: Totals,
    /// Octets of bodies within the store's own file.
    pub(super) within: u64,
}

/// The disk, or redb's file, did not do as it was asked. The transaction is lost, and the handle with it.
#[derive(Debug)]
pub(super) struct DiskFault(pub(super) redb::Error);

impl<E: Into<redb::Error>> From<E> for DiskFault {
    fn from(fault: E) -> Self {
        Self(fault.into())
    }
}

/// What the store knows of a message.
#[derive(Debug)]
pub(super) enum Known {
    Nothing,
    Record(Box<Record>),
    Unreadable(CodecFault),
}

pub(super) struct Tables<'txn> {
    meta: Table<'txn, &'static str, &'static [u8]>,
    records: Table<'txn, u128, &'static [u8]>,
    turns: Table<'txn, index::Key<'static>, ()>,
    heads: Table<'txn, (i64, &'static str), ()>,
    bodies: Table<'txn, (u128, u32), &'static [u8]>,
    pub(super) files: Table<'txn, u128, u64>,
    unread: Table<'txn, u128, &'static str>,
    ledger: Table<'txn, &'static str, &'static [u8]>,
    holders: Table<'txn, &'static str, (u64, u64, i64)>,
    seen: Table<'txn, table::Key, &'static [u8]>,
    pub(super) sums: Sums,
    /// What is kept of those whose messages were changed here; written by [`Self::settle`].
    changed: BTreeMap<String, Tally>,
    /// Where messages have come to stand: whoever gives them out is told when this is on the disk.
    pub(super) came: Vec<(String, Place)>,
}

impl<'txn> Tables<'txn> {
    /// Opens all, making those that are missing.
    pub(super) fn open(transaction: &'txn WriteTransaction) -> Result<Self, DiskFault> {
        let meta = transaction.open_table(META)?;
        let sums = match meta.get(SUMS_KEY)? {
            Some(octets) => postcard::from_bytes(octets.value())
                .map_err(|_| redb::Error::Corrupted("the store's sums can't be read".to_owned()))?,
            None => Sums::default(),
        };
        Ok(Self {
            meta,
            records: transaction.open_table(RECORDS)?,
            turns: transaction.open_table(TURNS)?,
            heads: transaction.open_table(HEADS)?,
            bodies: transaction.open_table(BODIES)?,
            files: transaction.open_table(FILES)?,
            unread: transaction.open_table(UNREAD)?,
            ledger: transaction.open_table(LEDGER)?,
            holders: transaction.open_table(HOLDERS)?,
            seen: transaction.open_table(table::SEEN)?,
            sums,
            changed: BTreeMap::new(),
            came: Vec::new(),
        })
    }

    pub(super) fn set_meta(&mut self, name: &'static str, octets: &[u8]) -> Result<(), DiskFault> {
        self.meta.insert(name, octets)?;
        Ok(())
    }

    /// What the store says of its use, found at a start: in use means that the last owner did not close it.
    pub(super) fn in_use(&self) -> Result<InUse, DiskFault> {
        let octets = self.meta.get(OPEN_KEY)?;
        Ok(if octets.is_some_and(|octets| octets.value() == [1]) { InUse::Yes } else { InUse::No })
    }

    pub(super) fn set_in_use(&mut self, in_use: InUse) -> Result<(), DiskFault> {
        self.set_meta(OPEN_KEY, &[u8::from(in_use == InUse::Yes)])
    }

    /// Writes what is kept of each identity, and the sums: once for all changes of this transaction, which ends with it.
    pub(super) fn settle(&mut self) -> Result<(), DiskFault> {
        for (identity, held) in std::mem::take(&mut self.changed) {
            self.settle_one(&identity, held)?;
        }
        let octets = postcard::to_stdvec(&self.sums).map_err(|fault| redb::Error::Corrupted(fault.to_string()))?;
        self.set_meta(SUMS_KEY, &octets)
    }

    fn settle_one(&mut self, identity: &str, held: Tally) -> Result<(), DiskFault> {
        let before = self.holders.get(identity)?.map_or(NO_HEAD, |held| held.value().2);
        let head = index::head(&self.turns, identity)?.map_or(NO_HEAD, WallTime::millis);
        if before != head {
            if before != NO_HEAD {
                self.heads.remove((before, identity))?;
            }
            if head != NO_HEAD {
                self.heads.insert((head, identity), ())?;
            }
        }
        if held.count == 0 {
            self.holders.remove(identity)?;
        } else {
            self.holders.insert(identity, (held.count, held.octets, head))?;
        }
        Ok(())
    }

    /// What is kept of an identity's messages, to be changed.
    fn held_by(&mut self, identity: &str) -> Result<&mut Tally, DiskFault> {
        if !self.changed.contains_key(identity) {
            let held = self.holders.get(identity)?.map(|held| tally(held.value())).unwrap_or_default();
            self.changed.insert(identity.to_owned(), held);
        }
        Ok(self.changed.entry(identity.to_owned()).or_default())
    }

    /// All that is not in `turns` yet, in order: for a store that had another order.
    pub(super) fn put_in_order(&mut self) -> Result<(), DiskFault> {
        for row in self.records.iter()? {
            let (id, octets) = row?;
            let id = QueueId::from_u128(id.value());
            let (identity, length, place) = match codec::decode(octets.value()) {
                Ok(record) => {
                    let place = Place::of(&record);
                    (record.custodian.identity, record.length, place)
                }
                // Whose it was nobody knows. When its turn comes it is set aside, if it was not before.
                Err(_) => {
                    let state = if self.unread.get(id.to_u128())?.is_some() { State::Dead } else { State::Queued };
                    let length = kept_octets(&self.files, &self.bodies, id)?;
                    (String::new(), length, Place::unreadable(id, state))
                }
            };
            self.turns.insert(place.key(&identity), ())?;
            self.changed.entry(identity).or_default().add(length);
        }
        self.meta.remove("holders")?;
        Ok(())
    }

    pub(super) fn known(&self, id: QueueId) -> Result<Known, DiskFault> {
        let row = self.records.get(id.to_u128())?;
        Ok(match row.map(|octets| codec::decode(octets.value())) {
            None => Known::Nothing,
            Some(Ok(record)) => Known::Record(Box::new(record)),
            Some(Err(fault)) => Known::Unreadable(fault),
        })
    }

    /// The last time of the ledger that was noted.
    pub(super) fn ledger_time(&self) -> Result<Option<WallTime>, DiskFault> {
        let octets = self.meta.get(LEDGER_KEY)?;
        let millis = octets.and_then(|octets| octets.value().try_into().ok().map(i64::from_le_bytes));
        Ok(millis.map(WallTime::from_millis))
    }

    /// Notes what an identity has spent at `at`, a time of the ledger.
    pub(super) fn charge(&mut self, identity: &str, cost: Cost, at: WallTime) -> Result<(), DiskFault> {
        self.set_meta(LEDGER_KEY, &at.millis().to_le_bytes())?;
        self.change_history(identity, |history| history.add(cost, at))
    }

    /// Takes it back.
    pub(super) fn refund(&mut self, identity: &str, cost: Cost, at: WallTime) -> Result<(), DiskFault> {
        self.change_history(identity, |history| history.subtract(cost, at))
    }

    fn change_history(&mut self, identity: &str, change: impl FnOnce(&mut History)) -> Result<(), DiskFault> {
        let mut history =
            self.ledger.get(identity)?.map(|octets| history(identity, octets.value())).unwrap_or_default();
        change(&mut history);
        let octets = postcard::to_stdvec(&history).map_err(|fault| redb::Error::Corrupted(fault.to_string()))?;
        self.ledger.insert(identity, octets.as_slice())?;
        Ok(())
    }

    /// Takes histories out that count for nothing any more: looks at the next few behind `after`, and says where to go on.
    pub(super) fn sweep_ledger(&mut self, after: Option<&str>, at: WallTime) -> Result<Option<String>, DiskFault> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut idle = Vec::new();
        let mut last = None;
        for row in self.ledger.range::<&str>((from, Bound::Unbounded))?.take(LEDGER_SWEEP) {
            let (identity, octets) = row?;
            if history(identity.value(), octets.value()).is_idle(at) {
                idle.push(identity.value().to_owned());
            }
            last = Some(identity.value().to_owned());
        }
        for identity in idle {
            self.ledger.remove(identity.as_str())?;
        }
        Ok(last)
    }

    /// How many messages of this export have been adopted.
    pub(super) fn adopted(&self, export: QueueId) -> Result<u64, DiskFault> {
        let noted = self.meta.get(export_key(ADOPTIONS, export).as_str())?;
        Ok(noted.map_or(0, |octets| adopted_count(octets.value())))
    }

    /// Notes that so many have been.
    pub(super) fn set_adopted(&mut self, export: QueueId, count: u64) -> Result<(), DiskFault> {
        self.remember(ADOPTIONS, export, count)
    }

    /// Notes that what was exported under this name has been removed, because it had arrived elsewhere.
    pub(super) fn settle_export(&mut self, export: QueueId) -> Result<(), DiskFault> {
        self.remember(SETTLED, export, 1)
    }

    /// Of the exports of each kind the newest [`EXPORTS_MAX`] are remembered: a name tells its age.
    fn remember(&mut self, kind: &'static str, export: QueueId, count: u64) -> Result<(), DiskFault> {
        let key = export_key(kind, export);
        if self.meta.insert(key.as_str(), count.to_le_bytes().as_slice())?.is_some() {
            return Ok(());
        }
        let mut names = Vec::new();
        for row in self.meta.range::<&str>(kind..)? {
            let name = row?.0.value().to_owned();
            if !name.starts_with(kind) {
                break;
            }
            names.push(name);
        }
        for name in names.iter().take(names.len().saturating_sub(EXPORTS_MAX)) {
            self.meta.remove(name.as_str())?;
        }
        Ok(())
    }

    /// Notes a certificate that was seen.
    pub(super) fn see(&mut self, sighting: &Sighting) -> Result<(), DiskFault> {
        table::see(&mut self.seen, sighting)
    }

    /// Notes what was told of one, or forgets it.
    pub(super) fn mark(&mut self, mark: &Mark) -> Result<(), DiskFault> {
        table::mark(&mut self.seen, mark)
    }

    /// Keeps a new message, record and body.
    pub(super) fn add(&mut self, message: &NewMessage) -> Result<(), DiskFault> {
        let id = message.record.id.to_u128();
        match &message.body {
            NewBody::File(_) => {
                self.files.insert(id, message.record.length)?;
            }
            NewBody::Octets(octets) => {
                for (number, chunk) in (0_u32..).zip(octets.chunks(CHUNK)) {
                    self.bodies.insert((id, number), chunk)?;
                }
                self.sums.within = self.sums.within.saturating_add(message.record.length);
            }
        }
        self.held_by(&message.record.custodian.identity)?.add(message.record.length);
        self.put(None, &message.record)
    }

    /// Puts a record in the place of an older one, or of none.
    pub(super) fn put(&mut self, old: Option<&Record>, new: &Record) -> Result<(), DiskFault> {
        if let Some(old) = old {
            self.leave(old)?;
        }
        let octets = codec::encode(new).map_err(|fault| redb::Error::Corrupted(fault.to_string()))?;
        self.records.insert(new.id.to_u128(), octets.as_slice())?;
        self.sums.totals.add(new.state, new.length);
        self.stand(&new.custodian.identity, Place::of(new))
    }

    /// A message comes to stand there.
    fn stand(&mut self, identity: &str, place: Place) -> Result<(), DiskFault> {
        self.held_by(identity)?;
        self.turns.insert(place.key(identity), ())?;
        if place.state() == State::Queued {
            self.came.push((identity.to_owned(), place));
        }
        Ok(())
    }

    /// A message stands there no longer.
    fn leave(&mut self, record: &Record) -> Result<(), DiskFault> {
        self.sums.totals.subtract(record.state, record.length);
        self.held_by(&record.custodian.identity)?;
        self.turns.remove(Place::of(record).key(&record.custodian.identity))?;
        Ok(())
    }

    /// Takes a message away, record and body; true when its body is a file, which is to be removed once this is on the disk.
    pub(super) fn take(&mut self, record: &Record) -> Result<bool, DiskFault> {
        self.leave(record)?;
        self.held_by(&record.custodian.identity)?.subtract(record.length);
        self.take_rows(record.id, record.length)
    }

    /// The same for one that can't be read.
    pub(super) fn take_unreadable(&mut self, id: QueueId) -> Result<bool, DiskFault> {
        let length = kept_octets(&self.files, &self.bodies, id)?;
        let found = index::search(&self.turns, id)?;
        let state = if self.unread.remove(id.to_u128())?.is_some() {
            State::Dead
        } else {
            found.as_ref().map_or(State::Dead, |(_, place)| place.state())
        };
        self.sums.totals.subtract(state, length);
        if let Some((identity, place)) = found {
            self.turns.remove(place.key(&identity))?;
            self.held_by(&identity)?.subtract(length);
        }
        self.take_rows(id, length)
    }

    /// Notes that a record can't be read: nobody's turn comes to it any more, and it counts as dead.
    pub(super) fn set_unreadable_aside(&mut self, id: QueueId, reason: &str) -> Result<(), DiskFault> {
        if self.unread.insert(id.to_u128(), reason)?.is_some() {
            return Ok(());
        }
        let length = kept_octets(&self.files, &self.bodies, id)?;
        let Some((identity, place)) = index::search(&self.turns, id)? else { return Ok(()) };
        self.turns.remove(place.key(&identity))?;
        self.sums.totals.subtract(place.state(), length);
        self.sums.totals.add(State::Dead, length);
        self.stand(&identity, Place::unreadable(id, State::Dead))
    }

    fn take_rows(&mut self, id: QueueId, length: u64) -> Result<bool, DiskFault> {
        let id = id.to_u128();
        self.records.remove(id)?;
        if self.files.remove(id)?.is_some() {
            return Ok(true);
        }
        let rows = length.div_ceil(u64::try_from(CHUNK).unwrap_or(u64::MAX));
        for number in 0..u32::try_from(rows).unwrap_or(u32::MAX) {
            self.bodies.remove((id, number))?;
        }
        self.sums.within = self.sums.within.saturating_sub(length);
        Ok(false)
    }
}

/// What a row of `holders` says.
pub(super) fn tally((count, octets, _): (u64, u64, i64)) -> Tally {
    Tally { count, octets }
}

/// Octets that are there of a body, whatever its record says.
fn kept_octets(
    files: &impl ReadableTable<u128, u64>,
    bodies: &impl ReadableTable<(u128, u32), &'static [u8]>,
    id: QueueId,
) -> Result<u64, DiskFault> {
    let id = id.to_u128();
    if let Some(length) = files.get(id)? {
        return Ok(length.value());
    }
    let mut sum = 0_u64;
    for row in bodies.range((id, 0)..=(id, u32::MAX))? {
        sum = sum.saturating_add(u64::try_from(row?.1.value().len()).unwrap_or(0));
    }
    Ok(sum)
}

/// What is kept of what an identity has spent. What can't be read counts for nothing: damage must not stop its mail for ever.
pub(super) fn history(identity: &str, octets: &[u8]) -> History {
    postcard::from_bytes(octets).unwrap_or_else(|fault| {
        tracing::error!(identity, %fault, "what this identity has spent can't be read; its limits begin anew");
        History::default()
    })
}
