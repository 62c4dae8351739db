//! The tables of the embedded store, and one write transaction's view of them.
//!
//! ```text
//! meta      name -> octets            "format", "open" (1 while a process has it), "shelf" (the number of its file), "ledger" (its last time),
//!                                     "adopted EXPORT", "gap EXPORT PLACE" (which of that export's messages are here, or were: see adoptions),
//!                                     "settled EXPORT" (what was exported so has been removed here), "exports", "exported EXPORT",
//!                                     "unpledged" (see pledges)
//! messages  id -> row                 one for each message: where it stands, where record and body lie, and the sum of that (see row)
//! unread    id -> reason              records that can't be read, set aside
//! ledger    identity -> history       what it has spent, as far as it counts
//! seen      (identity, SHA-256) -> row the certificates that it came with
//! pledges   id -> exports             of which messages another queue was told that they are here (see pledges)
//! ```
//!
//! Records and bodies lie on the shelf; whose turn it is, and the sums, are in memory (see index). A commit writes few pages, however many messages there
//! are. Every change keeps the tables in step with one another; redb makes them true together or not at all.

use std::cell::Cell;
use std::ops::Bound;

use redb::{
    ReadableDatabase as _, ReadableTable, ReadableTableMetadata as _, Table, TableDefinition, WriteTransaction,
};
use xxhash_rust::xxh3::xxh3_64;

use super::adoptions::{self, ADOPTIONS};
use super::anew::opened;
use super::codec::{self, CodecFault};
use super::index::Change;
use super::ledger::History;
use super::pledges::{self, PLEDGES, PLEDGES_MAX};
use super::reading::or_damage;
use super::record::{Record, State};
use super::row::{Body, Read, Row};
use super::seen::{Mark, Sighting, table};
use super::settings::LEDGER_SWEEP;
use super::shelf::Placing;
use super::space::{Extent, Kind};
use super::store::{NewBody, NewMessage};
use super::turns::Place;
use crate::mail::{Cost, QueueId};
use crate::sys::WallTime;

pub(super) const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");
pub(super) const MESSAGES: TableDefinition<'static, u128, &[u8]> = TableDefinition::new("messages");
pub(super) const UNREAD: TableDefinition<'static, u128, &str> = TableDefinition::new("unread");
pub(super) const LEDGER: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("ledger");

pub(super) const LEDGER_KEY: &str = "ledger";
pub(super) const FORMAT_KEY: &str = "format";
pub(super) const SHELF_KEY: &str = "shelf";
const OPEN_KEY: &str = "open";
/// Exports of ours that have arrived elsewhere, and have been removed.
pub(super) const SETTLED: &str = "settled ";
/// Octets of a record besides its envelope, about: on whose authority, how it came.
const OF_A_RECORD: u64 = 2048;
/// Exports of each kind that are remembered.
const EXPORTS_MAX: usize = 1000;

/// Where it is noted what became of an export.
pub(super) fn export_key(kind: &'static str, export: QueueId) -> String {
    format!("{kind}{export}")
}

/// Whether a process has the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InUse {
    Yes,
    No,
}

/// Begins a change. Without redb's quick repair: its map of free pages is not written with each commit but made anew at a start after a crash, which
/// walks the file; that is small, since only rows are in it. docs/decisions/0009 has the figures.
pub(super) fn begin(database: &redb::Database) -> Result<WriteTransaction, DiskFault> {
    Ok(database.begin_write()?)
}

/// The disk, or redb's file, did not do as it was asked. The transaction is lost, and the handle with it.
#[derive(Debug)]
pub(super) struct DiskFault(pub(super) redb::Error);

impl<E: Into<redb::Error>> From<E> for DiskFault {
    fn from(fault: E) -> Self {
        Self(fault.into())
    }
}

/// Looks whether the tables can be opened, one by one: where what redb says of a table is damaged it panics, and with another table open that would end the
/// process.
pub(super) fn can_be_opened(database: &redb::Database) -> Result<(), DiskFault> {
    let transaction = database.begin_read()?;
    opened(&transaction, META)?;
    opened(&transaction, MESSAGES)?;
    opened(&transaction, UNREAD)?;
    opened(&transaction, LEDGER)?;
    opened(&transaction, table::SEEN)?;
    opened(&transaction, PLEDGES)?;
    Ok(())
}

/// The row of this message can't be read.
pub(super) fn damaged_row(id: QueueId) -> DiskFault {
    DiskFault(redb::Error::Corrupted(format!("the row of {id} in store.redb fails its checksum")))
}

/// What the store knows of a message.
#[derive(Debug)]
pub(super) enum Known {
    Nothing,
    Record(Box<Record>),
    Unreadable(CodecFault),
}

/// A message that is copied from one store into another.
#[derive(Debug)]
pub(super) struct Brought {
    pub(super) identity: String,
    pub(super) place: Place,
    /// The octets of its record, and of its body, as they are; of a body in a file none.
    pub(super) record: Vec<u8>,
    pub(super) body: Option<Vec<u8>>,
    /// What its body ought to be long.
    pub(super) length: u64,
}

/// What a change has taken off the shelf.
pub(super) type Freed = Vec<(Kind, Vec<Extent>)>;

pub(super) struct Tables<'txn> {
    meta: Table<'txn, &'static str, &'static [u8]>,
    messages: Table<'txn, u128, &'static [u8]>,
    unread: Table<'txn, u128, &'static str>,
    ledger: Table<'txn, &'static str, &'static [u8]>,
    seen: Table<'txn, table::Key, &'static [u8]>,
    pledges: Table<'txn, u128, u64>,
    shelf: Placing<'txn>,
    /// Where messages stand now: whoever gives them out is told when this is on the disk.
    pub(super) changes: Vec<Change>,
    /// What nobody names any more when this is on the disk.
    pub(super) freed: Freed,
    /// Whether it met a row that can't be read: what memory knows of that message is not what this has made of it.
    pub(super) met_damage: Cell<bool>,
}

impl<'txn> Tables<'txn> {
    /// Opens all, making those that are missing.
    pub(super) fn open(transaction: &'txn WriteTransaction, shelf: Placing<'txn>) -> Result<Self, DiskFault> {
        Ok(Self {
            meta: transaction.open_table(META)?,
            messages: transaction.open_table(MESSAGES)?,
            unread: transaction.open_table(UNREAD)?,
            ledger: transaction.open_table(LEDGER)?,
            seen: transaction.open_table(table::SEEN)?,
            pledges: transaction.open_table(PLEDGES)?,
            shelf,
            changes: Vec::new(),
            freed: Vec::new(),
            met_damage: Cell::new(false),
        })
    }

    /// Returns when all that was put on the shelf is on stable storage: the transaction, which names it, may be committed.
    pub(super) fn settle(&mut self) -> Result<(), DiskFault> {
        Ok(self.shelf.settle().map_err(redb::Error::Io)?)
    }

    pub(super) fn set_meta(&mut self, name: &'static str, octets: &[u8]) -> Result<(), DiskFault> {
        self.meta.insert(name, octets)?;
        Ok(())
    }

    pub(super) fn drop_meta(&mut self, name: &str) -> Result<(), DiskFault> {
        self.meta.remove(name)?;
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

    fn row(&self, id: QueueId) -> Result<Option<Row>, DiskFault> {
        let octets = self.messages.get(id.to_u128())?;
        Ok(octets.map(|octets| self.decoded(id, octets.value())))
    }

    fn decoded(&self, id: QueueId, octets: &[u8]) -> Row {
        match Row::read(id, octets) {
            Read::Whole(row) | Read::Mended(row) => row,
            Read::Damaged(_) => {
                self.met_damage.set(true);
                Row::lost()
            }
        }
    }

    fn set_row(&mut self, id: QueueId, row: &Row) -> Result<(), DiskFault> {
        self.messages.insert(id.to_u128(), row.encode(id)?.as_slice())?;
        Ok(())
    }

    pub(super) fn known(&self, id: QueueId) -> Result<Known, DiskFault> {
        let Some(row) = self.row(id)? else { return Ok(Known::Nothing) };
        let octets = or_damage(self.shelf.read(&row.record))?;
        Ok(match octets.and_then(|octets| codec::decode_of(id, &octets)) {
            Ok(record) => Known::Record(Box::new(record)),
            Err(fault) => Known::Unreadable(fault),
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

    /// Whether the message at this place of an export is here, or was.
    pub(super) fn has_adopted(&self, export: QueueId, place: u64) -> Result<bool, DiskFault> {
        adoptions::has(&self.meta, export, place)
    }

    /// Notes that it is.
    pub(super) fn note_adopted(&mut self, export: QueueId, place: u64) -> Result<(), DiskFault> {
        match adoptions::note(&mut self.meta, export, place)? {
            Some(count) => self.remember(ADOPTIONS, export, count),
            None => Ok(()),
        }
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
            if let Some(export) = name.strip_prefix(ADOPTIONS) {
                adoptions::forget_gaps(&mut self.meta, export)?;
            }
        }
        Ok(())
    }

    /// Notes that an export begins here.
    pub(super) fn begin_export(&mut self, export: QueueId) -> Result<(), DiskFault> {
        pledges::begin_export(&mut self.meta, export)
    }

    /// Notes that another queue is told that this message is here.
    pub(super) fn pledge(&mut self, id: QueueId) -> Result<(), DiskFault> {
        pledges::pledge(&mut self.meta, &mut self.pledges, id, PLEDGES_MAX)
    }

    /// Whether another queue was told so, as far as is remembered.
    pub(super) fn is_pledged(&self, id: QueueId) -> Result<bool, DiskFault> {
        pledges::is_pledged(&self.pledges, id)
    }

    /// Whether another queue was told so after this export had begun, or may have been.
    pub(super) fn is_pledged_since(&self, id: QueueId, export: QueueId) -> Result<bool, DiskFault> {
        pledges::is_pledged_since(&self.meta, &self.pledges, id, export)
    }

    /// Forgets that another queue was told so.
    pub(super) fn end_pledge(&mut self, id: QueueId) -> Result<(), DiskFault> {
        pledges::end(&mut self.pledges, id)
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
        self.add_for(message.whose(), message)
    }

    /// The same on the account of this identity.
    pub(super) fn add_for(&mut self, whose: &str, message: &NewMessage) -> Result<(), DiskFault> {
        let body = match &message.body {
            NewBody::File(_) => Body::File,
            NewBody::Octets(octets) => Body::Shelf(self.put_on_shelf(Kind::Body, octets)?),
        };
        self.write(&message.record, whose, body, (None, 0))
    }

    /// Octets by which the shelf grows for a new message, about.
    pub(super) fn growth(&self, message: &NewMessage) -> u64 {
        let body = match &message.body {
            NewBody::File(_) => 0,
            NewBody::Octets(octets) => self.shelf.growth(Kind::Body, u64::try_from(octets.len()).unwrap_or(u64::MAX)),
        };
        let record = message.record.envelope.octets().saturating_add(OF_A_RECORD);
        body.saturating_add(self.shelf.growth(Kind::Record, record))
    }

    fn put_on_shelf(&mut self, kind: Kind, octets: &[u8]) -> Result<Vec<Extent>, DiskFault> {
        Ok(self.shelf.put(kind, octets).map_err(redb::Error::Io)?)
    }

    /// Puts a record in the place of an older one.
    pub(super) fn put(&mut self, new: &Record) -> Result<(), DiskFault> {
        let Some(row) = self.row(new.id)? else {
            return Err(redb::Error::Corrupted(format!("{} has no row", new.id)).into());
        };
        // Its record could not be read once, and was noted; now it could.
        if !self.unread.is_empty()? {
            self.unread.remove(new.id.to_u128())?;
        }
        self.freed.push((Kind::Record, row.record.clone()));
        let before = (Some(row.place(new.id)), row.record_octets());
        self.write(new, &row.identity, row.body, before)
    }

    /// `before`: where it stood, and the octets of its record there.
    fn write(
        &mut self,
        record: &Record,
        whose: &str,
        body: Body,
        before: (Option<Place>, u64),
    ) -> Result<(), DiskFault> {
        let octets = codec::encode(record).map_err(|fault| redb::Error::Corrupted(fault.to_string()))?;
        let at = self.put_on_shelf(Kind::Record, &octets)?;
        self.set_row(record.id, &Row::new(record, whose, at, body))?;
        self.changes.push(Change {
            identity: whose.to_owned(),
            left: before.0,
            came: Some(Place::of(record)),
            length: record.length,
            records: (before.1, u64::try_from(octets.len()).unwrap_or(u64::MAX)),
        });
        Ok(())
    }

    /// Keeps a message as another store had it, whatever its octets are worth; what is unread of it is noted elsewhere.
    pub(super) fn bring(&mut self, message: &Brought) -> Result<(), DiskFault> {
        let record = self.put_on_shelf(Kind::Record, &message.record)?;
        let body = match &message.body {
            Some(octets) => Body::Shelf(self.put_on_shelf(Kind::Body, octets)?),
            None => Body::File,
        };
        let row = Row::at(message.place, message.identity.clone(), record, body, message.length);
        self.set_row(message.place.id, &row)
    }

    /// Puts a message elsewhere on the shelf; its body only when all of it is there, and is what its record says. Whether it is.
    pub(super) fn move_whole(&mut self, record: &Record) -> Result<bool, DiskFault> {
        let Some(row) = self.row(record.id)? else { return Ok(false) };
        let Body::Shelf(extents) = &row.body else {
            self.put(record)?;
            return Ok(true);
        };
        let octets = self.shelf.read(extents).unwrap_or_default();
        let is_whole = u64::try_from(octets.len()) == Ok(record.length) && xxh3_64(&octets) == record.checksum;
        if is_whole {
            let body = Body::Shelf(self.put_on_shelf(Kind::Body, &octets)?);
            self.write(record, &row.identity, body, (Some(row.place(record.id)), row.record_octets()))?;
        }
        Ok(is_whole)
    }

    /// Writes the row of this message anew, as it is known to be.
    pub(super) fn set_right(&mut self, id: QueueId, row: &Row) -> Result<(), DiskFault> {
        self.set_row(id, row)
    }

    /// Writes a damaged row anew, from what it seems to say: when that leads to the message's own record, and its body, both with their sums right, all of it
    /// is known again; it is put where nobody else's is. Else the message is dead, and nothing stays where it seemed to lie. Whether it is whole.
    pub(super) fn heal(&mut self, id: QueueId, seems: Option<&Row>, reason: &str) -> Result<bool, DiskFault> {
        let found = seems.and_then(|row| {
            let octets = self.shelf.read(&row.record).ok()?;
            Some((codec::decode_of(id, &octets).ok()?, row.body.clone()))
        });
        let Some((mut record, body)) = found else {
            self.set_row(id, &Row::lost())?;
            self.unread.insert(id.to_u128(), reason)?;
            return Ok(false);
        };
        self.unread.remove(id.to_u128())?;
        let whose = record.custodian.identity.clone();
        self.set_row(id, &Row::new(&record, &whose, Vec::new(), body))?;
        if self.move_whole(&record)? {
            return Ok(true);
        }
        record.set_aside(reason);
        self.forget_body(id)?;
        self.put(&record)?;
        Ok(false)
    }

    /// The name of the message whose record it seems to name, when there is no row under it.
    pub(super) fn named_by(&self, seems: &Row) -> Result<Option<QueueId>, DiskFault> {
        let Some(id) = self.shelf.read(&seems.record).ok().and_then(|octets| codec::decode(&octets).ok()) else {
            return Ok(None);
        };
        let is_known = self.messages.get(id.id.to_u128())?.is_some();
        Ok((!is_known).then_some(id.id))
    }

    /// What was its body's is another's, or nobody's.
    pub(super) fn forget_body(&mut self, id: QueueId) -> Result<(), DiskFault> {
        let Some(row) = self.row(id)? else { return Ok(()) };
        self.set_row(id, &row.without_body())
    }

    /// What was its record's is another's, or nobody's.
    pub(super) fn forget_record(&mut self, id: QueueId) -> Result<(), DiskFault> {
        let Some(row) = self.row(id)? else { return Ok(()) };
        self.set_row(id, &row.without_record())
    }

    /// Whose share and turn a message takes.
    pub(super) fn whose(&self, id: QueueId) -> Result<Option<String>, DiskFault> {
        Ok(self.row(id)?.map(|row| row.identity))
    }

    /// Takes a message away, record and body; true when its body is a file, which is to be removed once this is on the disk.
    pub(super) fn take(&mut self, id: QueueId) -> Result<bool, DiskFault> {
        let Some(octets) = self.messages.remove(id.to_u128())?.map(|octets| octets.value().to_vec()) else {
            return Ok(false);
        };
        let row = self.decoded(id, &octets);
        self.unread.remove(id.to_u128())?;
        let in_file = row.body == Body::File;
        let (left, records) = (Some(row.place(id)), (row.record_octets(), 0));
        self.freed.push((Kind::Record, row.record));
        if let Body::Shelf(extents) = row.body {
            self.freed.push((Kind::Body, extents));
        }
        self.changes.push(Change { identity: row.identity, left, came: None, length: row.length, records });
        Ok(in_file)
    }

    /// Notes that a record can't be read: nobody's turn comes to it any more, and it counts as dead.
    pub(super) fn set_unreadable_aside(&mut self, id: QueueId, reason: &str) -> Result<(), DiskFault> {
        if self.unread.insert(id.to_u128(), reason)?.is_some() {
            return Ok(());
        }
        let Some(row) = self.row(id)? else { return Ok(()) };
        if row == Row::lost() {
            // What is damaged stays as it is: the next opening looks what it was.
            return Ok(());
        }
        let (left, came) = (row.place(id), Place::unreadable(id, State::Dead));
        let records = (row.record_octets(), row.record_octets());
        self.set_row(id, &Row::at(came, row.identity.clone(), row.record, row.body, row.length))?;
        let (left, came) = (Some(left), Some(came));
        self.changes.push(Change { identity: row.identity, left, came, length: row.length, records });
        Ok(())
    }
}

/// What is kept of what an identity has spent. What can't be read counts for nothing: damage must not stop its mail for ever.
pub(super) fn history(identity: &str, octets: &[u8]) -> History {
    postcard::from_bytes(octets).unwrap_or_else(|fault| {
        tracing::error!(identity, %fault, "what this identity has spent can't be read; its limits begin anew");
        History::default()
    })
}
