//! A store written anew beside the one that is there: by a compaction, and when a store of an older format is opened.
//!
//! It counts from the moment at which its index gets the name `store.redb`: until then a crash leaves the old store, and leftovers that the next start
//! removes. Never: touches the old store.

use redb::{
    Database, Key, ReadOnlyTable, ReadTransaction, ReadableTable as _, ReadableTableMetadata as _, TableDefinition,
    TableError, Value,
};

use super::compact::Progress;
use super::embedded::Embedded;
use super::pledges::PLEDGES;
use super::recover::{FORMAT, UNFINISHED, make_shelf};
use super::seen::table::SEEN;
use super::shelf::{Placing, Shelf};
use super::space::Space;
use super::storage::Storage;
use super::tables::{self, Brought, DiskFault, FORMAT_KEY, LEDGER, META, SHELF_KEY, Tables, UNREAD};
use crate::sys::disk::Open;

/// Rows in one transaction of the copy.
const BATCH: usize = 4096;

/// What older formats kept in `meta` and this one does not.
const DROPPED: [&str; 2] = ["sums", "holders"];

/// A store being written.
pub(super) struct Anew<'a> {
    database: Database,
    shelf: Shelf,
    number: u64,
    space: Space,
    from: &'a ReadTransaction,
    done: u64,
    rows: u64,
    told: Progress<'a>,
}

impl<'a> Anew<'a> {
    /// Begins with the shelf of this number, and with all that is no message; so many messages are to follow.
    pub(super) fn begin(
        store: &Embedded,
        number: u64,
        from: &'a ReadTransaction,
        messages: u64,
        told: Progress<'a>,
    ) -> Result<Self, DiskFault> {
        let file = store.disk.open(&store.folder.join(UNFINISHED), Open::New).map_err(redb::Error::Io)?;
        let shelf = make_shelf(store, number).map_err(redb::Error::Io)?;
        let database = Database::builder().set_cache_size(store.cache()).create_with_backend(Storage(file))?;
        let mut anew = Self { database, shelf, number, space: Space::default(), from, done: 0, rows: 0, told };
        // What was left off here would be lost: a test counts the tables.
        anew.rows = messages
            .saturating_add(anew.count(META)?)
            .saturating_add(anew.count(UNREAD)?)
            .saturating_add(anew.count(LEDGER)?)
            .saturating_add(anew.count(SEEN)?)
            .saturating_add(anew.count(PLEDGES)?);
        anew.table(META)?;
        anew.table(UNREAD)?;
        anew.table(LEDGER)?;
        anew.table(SEEN)?;
        anew.table(PLEDGES)?;
        Ok(anew)
    }

    /// Brings messages over, in the order of their names.
    pub(super) fn messages(
        &mut self,
        messages: impl Iterator<Item = Result<Brought, DiskFault>>,
    ) -> Result<(), DiskFault> {
        let mut messages = messages.peekable();
        loop {
            let transaction = tables::begin(&self.database)?;
            let mut tables = Tables::open(&transaction, Placing::new(&self.shelf, &mut self.space))?;
            for message in messages.by_ref().take(BATCH) {
                tables.bring(&message?)?;
                self.done = self.done.saturating_add(1);
            }
            tables.settle()?;
            drop(tables);
            transaction.commit()?;
            (self.told)(self.done, self.rows);
            if messages.peek().is_none() {
                return Ok(());
            }
        }
    }

    /// All is there, on stable storage but for its names.
    pub(super) fn finish(self) -> Result<(), DiskFault> {
        let Self { database, shelf, number, mut space, .. } = self;
        let transaction = tables::begin(&database)?;
        let mut tables = Tables::open(&transaction, Placing::new(&shelf, &mut space))?;
        tables.set_meta(FORMAT_KEY, &FORMAT.to_le_bytes())?;
        tables.set_meta(SHELF_KEY, &number.to_le_bytes())?;
        for name in DROPPED {
            tables.drop_meta(name)?;
        }
        drop(tables);
        transaction.commit()?;
        Ok(database.close()?)
    }

    /// A table of the old store; an older format may have none of this name.
    fn source<K: Key + 'static, V: Value + 'static>(
        &self,
        table: TableDefinition<'_, K, V>,
    ) -> Result<Option<ReadOnlyTable<K, V>>, DiskFault> {
        opened(self.from, table)
    }

    fn count<K: Key + 'static, V: Value + 'static>(&self, table: TableDefinition<'_, K, V>) -> Result<u64, DiskFault> {
        Ok(self.source(table)?.map_or(Ok(0), |source| source.len())?)
    }

    fn table<K, V>(&mut self, table: TableDefinition<'_, K, V>) -> Result<(), DiskFault>
    where
        K: Key + 'static,
        V: Value + 'static,
    {
        let Some(source) = self.source(table)? else { return Ok(()) };
        let mut rows = source.iter()?.peekable();
        loop {
            let transaction = tables::begin(&self.database)?;
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

/// A table, if the store has it.
pub(super) fn opened<K: Key + 'static, V: Value + 'static>(
    transaction: &ReadTransaction,
    table: TableDefinition<'_, K, V>,
) -> Result<Option<ReadOnlyTable<K, V>>, DiskFault> {
    match transaction.open_table(table) {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(fault) => Err(fault.into()),
    }
}

/// Every table that a store has, by name.
#[cfg(test)]
pub(super) fn tables_of(database: &Database) -> Vec<(String, u64)> {
    use redb::{ReadableDatabase as _, TableHandle as _};
    let transaction = database.begin_read().unwrap();
    let mut all: Vec<_> = transaction
        .list_tables()
        .unwrap()
        .map(|table| (table.name().to_owned(), transaction.open_untyped_table(table).unwrap().len().unwrap()))
        .collect();
    all.sort();
    all
}
