//! Compaction: the store's files are written anew with what is in them, and the space of what has gone is given back to the disk.
//!
//! ```text
//! a crash                                   leaves, and means
//! while the new files are written           store.redb.new, messages-N+1 beside the old ones: removed at the next start; nothing has changed
//! behind the renaming, before its sync      one of the two indexes, whole, which names its shelf: they hold the same; the other shelf is removed
//! ```
//!
//! It costs what is in the store, not what the files have grown to: after a flood little is left, and it takes a moment. Nothing else is done
//! meanwhile, neither commits nor reads: they wait. Body files are no part of it; they are removed one by one as they go. Never: touches the old
//! files before the new ones are whole and on stable storage.

use redb::{ReadableDatabase, ReadableTable, ReadableTableMetadata as _};

use super::QueueError;
use super::anew::Anew;
use super::embedded::{Embedded, Opened};
use super::recover::{UNFINISHED, remove_other_shelves};
use super::row::{Body, Read, Row};
use super::shelf::{self, Shelf};
use super::space::Extent;
use super::tables::{self, Brought, DiskFault, MESSAGES};
use crate::mail::QueueId;
use crate::sys::disk::Open;

/// Octets of the index that a message takes, about.
const IN_INDEX: u64 = 256;

/// What became of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compaction {
    /// They were written anew: octets before and after.
    Done {
        /// Before.
        before: u64,
        /// After.
        after: u64,
    },
    /// More is kept in them than was allowed, so many octets about: nothing was done.
    TooMuch {
        /// Octets.
        kept: u64,
    },
}

/// Who is told how far it is: rows done, rows in all.
pub type Progress<'a> = &'a mut (dyn FnMut(u64, u64) + Send);

impl Embedded {
    pub(super) fn compact_files(&self, most: u64, told: Progress<'_>) -> Result<Compaction, QueueError> {
        let changing = self.changing();
        self.mend().map_err(|fault| QueueError::from(&fault))?;
        let (_, used) = self.room();
        let kept = used.saturating_add(self.totals_now().all().count.saturating_mul(IN_INDEX));
        if kept > most {
            return Ok(Compaction::TooMuch { kept });
        }
        let before = self.octets_of_files()?;
        let mut shelf = 0;
        self.replaced(|opened| {
            shelf = opened.number.saturating_add(1);
            let written = self.write_anew(opened, shelf, kept, told);
            if written.is_err() {
                // What was in the way may be a damaged row: the next opening looks what it was.
                self.give_up_handle();
                // What can't be removed now is removed at the next start.
                drop(self.disk.remove(&self.folder.join(UNFINISHED)));
                drop(self.disk.remove(&self.folder.join(shelf::name(shelf))));
            }
            written
        })?;
        if let Err(fault) = remove_other_shelves(self, shelf) {
            tracing::warn!(%fault, "the old file of messages could not be removed; the next start will try again");
        }
        let after = self.octets_of_files()?;
        drop(changing);
        Ok(Compaction::Done { before, after })
    }

    /// Octets of the index and of the shelf.
    pub(super) fn octets_of_files(&self) -> Result<u64, QueueError> {
        let index = self.disk.open(&self.file(), Open::Existing).and_then(|file| file.length());
        let index = index.map_err(|fault| QueueError::from_io(&fault))?;
        let shelf = self.read(|view| Ok(view.shelf.length().map_err(redb::Error::Io)?))?;
        Ok(index.saturating_add(shelf))
    }

    /// The whole store in files of its own, on stable storage.
    fn write_anew(&self, from: &Opened, number: u64, kept: u64, told: Progress<'_>) -> Result<(), QueueError> {
        let free = self.disk.space_left(&self.folder).map_err(|fault| QueueError::from_io(&fault))?;
        if free < kept {
            return Err(QueueError::Full(format!(
                "a copy of what is kept needs {} of the disk of data_dir, which has {} free",
                super::fill::Size(kept),
                super::fill::Size(free)
            )));
        }
        let mut copied = || -> Result<(), DiskFault> {
            let transaction = from.database.begin_read()?;
            let messages = transaction.open_table(MESSAGES)?;
            let mut anew = Anew::begin(self, number, &transaction, messages.len()?, told)?;
            anew.messages(messages.iter()?.map(|row| {
                let (id, octets) = row?;
                let id = QueueId::from_u128(id.value());
                match Row::read(id, octets.value()) {
                    Read::Whole(row) | Read::Mended(row) => brought(&from.shelf, id, row),
                    // What it names would be left behind.
                    Read::Damaged(_) => Err(tables::damaged_row(id)),
                }
            }))?;
            anew.finish()
        };
        copied().map_err(QueueError::from)
    }
}

/// A message as it lies there. What is not there any more is not there afterwards: it is found to be damaged when it is read.
fn brought(shelf: &Shelf, id: QueueId, row: Row) -> Result<Brought, DiskFault> {
    let read = |extents: &[Extent]| match shelf.read(extents, 0, usize::MAX) {
        Ok(octets) => Ok(octets),
        Err(fault) if fault.kind() == std::io::ErrorKind::UnexpectedEof => Ok(Vec::new()),
        Err(fault) => Err(DiskFault(redb::Error::Io(fault))),
    };
    let body = match &row.body {
        Body::Shelf(extents) => Some(read(extents)?),
        Body::File => None,
    };
    let record = read(&row.record)?;
    Ok(Brought { place: row.place(id), identity: row.identity, record, body, length: row.length })
}
