//! Compaction: the store's file is written anew with what is in it, and the space of what has gone is given back to the disk.
//!
//! ```text
//! a crash                                   leaves, and means
//! while the new file is written             store.redb.new beside store.redb: removed at the next start; nothing has changed
//! behind the renaming, before its sync      one of the two, whole: they hold the same
//! ```
//!
//! It costs what is in the store, not what the file has grown to: after a flood little is left, and it takes a moment. Nothing else is done
//! meanwhile, neither commits nor reads: they wait. Body files are no part of it; they are removed one by one as they go. Never: touches the old
//! file before the new one is whole and on stable storage.

use redb::{
    Database, Key, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata as _, TableDefinition, Value,
};

use super::QueueError;
use super::embedded::{Embedded, Storage};
use super::index::{HEADS, TURNS};
use super::recover::UNFINISHED;
use super::seen::table::SEEN;
use super::tables::{self, BODIES, DiskFault, FILES, HOLDERS, LEDGER, META, RECORDS, UNREAD};
use crate::sys::disk::Open;

/// Rows in one transaction of the copy: with the largest rows 128 MiB, of which redb keeps no more in memory than its cache.
const BATCH: usize = 4096;

/// Octets of the file that a message takes besides its body, about: its record, and its rows in the other tables.
const BESIDE_BODY: u64 = 1024;

/// What became of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compaction {
    /// It was written anew: octets before and after.
    Done {
        /// Before.
        before: u64,
        /// After.
        after: u64,
    },
    /// More is kept in it than was allowed, so many octets about: nothing was done.
    TooMuch {
        /// Octets.
        kept: u64,
    },
}

/// Who is told how far it is: rows done, rows in all.
pub type Progress<'a> = &'a mut (dyn FnMut(u64, u64) + Send);

impl Embedded {
    pub(super) fn compact_file(&self, most: u64, told: Progress<'_>) -> Result<Compaction, QueueError> {
        let sums = self.sums();
        let kept = sums.within.saturating_add(sums.totals.all().count.saturating_mul(BESIDE_BODY));
        if kept > most {
            return Ok(Compaction::TooMuch { kept });
        }
        self.mend().map_err(|fault| QueueError::from(&fault))?;
        let before = self.file_length()?;
        self.replaced(|database| {
            let written = self.write_anew(database, kept, told);
            if written.is_err() {
                // What can't be removed now is removed at the next start.
                drop(self.disk.remove(&self.folder.join(UNFINISHED)));
            }
            written
        })?;
        Ok(Compaction::Done { before, after: self.file_length()? })
    }

    fn file_length(&self) -> Result<u64, QueueError> {
        let length = self.disk.open(&self.file(), Open::Existing).and_then(|file| file.length());
        length.map_err(|fault| QueueError::from_io(&fault))
    }

    /// The whole store in a file of its own, on stable storage.
    fn write_anew(&self, from: &Database, kept: u64, told: Progress<'_>) -> Result<(), QueueError> {
        let unfinished = self.folder.join(UNFINISHED);
        let io = |fault: std::io::Error| QueueError::from_io(&fault);
        let free = self.disk.space_left(&self.folder).map_err(io)?;
        // Pages are half full at worst on average.
        if free < kept.saturating_mul(2) {
            let wanted = super::fill::Size(kept.saturating_mul(2));
            return Err(QueueError::Full(format!(
                "a copy of what is kept needs up to {wanted} of the disk of data_dir, which has {} free",
                super::fill::Size(free)
            )));
        }
        let file = self.disk.open(&unfinished, Open::New).map_err(io)?;
        let copied = || -> Result<(), DiskFault> {
            let to = Database::builder().set_cache_size(self.cache()).create_with_backend(Storage(file))?;
            Copy { from: from.begin_read()?, to: &to, done: 0, rows: 0, told }.all()?;
            Ok(to.close()?)
        };
        copied().map_err(QueueError::from)
    }
}

struct Copy<'a> {
    from: ReadTransaction,
    to: &'a Database,
    done: u64,
    rows: u64,
    told: Progress<'a>,
}

impl Copy<'_> {
    fn all(mut self) -> Result<(), DiskFault> {
        // What was left off here would be lost: a test counts the tables.
        self.rows = self
            .count(META)?
            .saturating_add(self.count(RECORDS)?)
            .saturating_add(self.count(TURNS)?)
            .saturating_add(self.count(HEADS)?)
            .saturating_add(self.count(BODIES)?)
            .saturating_add(self.count(FILES)?)
            .saturating_add(self.count(UNREAD)?)
            .saturating_add(self.count(LEDGER)?)
            .saturating_add(self.count(HOLDERS)?)
            .saturating_add(self.count(SEEN)?);
        self.table(META)?;
        self.table(RECORDS)?;
        self.table(TURNS)?;
        self.table(HEADS)?;
        self.table(BODIES)?;
        self.table(FILES)?;
        self.table(UNREAD)?;
        self.table(LEDGER)?;
        self.table(HOLDERS)?;
        self.table(SEEN)
    }

    fn count<K: Key + 'static, V: Value + 'static>(&self, table: TableDefinition<'_, K, V>) -> Result<u64, DiskFault> {
        Ok(self.from.open_table(table)?.len()?)
    }

    fn table<K, V>(&mut self, table: TableDefinition<'_, K, V>) -> Result<(), DiskFault>
    where
        K: Key + 'static,
        V: Value + 'static,
    {
        let source = self.from.open_table(table)?;
        let mut rows = source.iter()?.peekable();
        loop {
            let transaction = tables::begin(self.to)?;
            let mut target = transaction.open_table(table)?;
            for row in rows.by_ref().take(BATCH) {
                let (key, value) = row?;
                target.insert(key.value(), value.value())?;
                self.done = self.done.saturating_add(1);
            }
            drop(target);
            transaction.commit()?;
            (self.told)(self.done, self.rows);
            if rows.peek().is_none() {
                return Ok(());
            }
        }
    }
}

/// Every table that a store has, by name.
#[cfg(test)]
pub(super) fn tables_of(database: &Database) -> Vec<(String, u64)> {
    use redb::TableHandle as _;
    let transaction = database.begin_read().unwrap();
    let mut all: Vec<_> = transaction
        .list_tables()
        .unwrap()
        .map(|table| (table.name().to_owned(), transaction.open_untyped_table(table).unwrap().len().unwrap()))
        .collect();
    all.sort();
    all
}
