//! Opening the store: making it, repairing it after a crash, and clearing away what a crash left. Done twice, it does nothing the second time.
//!
//! What is damaged stops no other message (see `stock`). Where redb's own pages lead nowhere, nothing is opened, and [`OpenError::Damaged`] says what to do: no
//! fault of the library, and no panic of it, gets past here.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable as _};

use super::earlier;
use super::embedded::{Embedded, Opened};
use super::index::Index;
use super::shelf::{self, Placing, Shelf};
use super::space::Space;
use super::stock::sound_stock;
use super::storage::Storage;
use super::store::Totals;
use super::sweeper::Sweeper;
use super::tables::{self, DiskFault, FORMAT_KEY, InUse, MESSAGES, META, SHELF_KEY, Tables};
use super::witness::{self, LostCommit, Testimony};
use super::{QueueError, QueueSettings};
use crate::mail::QueueId;
use crate::sys::disk::{Lock, Open};
use crate::sys::{Disk, WallTime};

/// The format of the store that this program writes: its tables and what is in them.
/// 2 has records of format 2, and the ledger. 3 has the order by identity. 4 has records and bodies beside redb's file, and no order.
pub(super) const FORMAT: u32 = 4;

/// A store that is being written, for the first time or anew.
pub(super) const UNFINISHED: &str = "store.redb.new";

/// Why the store can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process owns the folder.
    #[error(
        "{0} is in use by another process; one process owns a data directory: stop that one (another `sealpost serve`? see `fuser -v` on the directory's files), or set another data_dir"
    )]
    InUse(PathBuf),
    /// A newer program wrote it.
    #[error(
        "the store has format {found}, this sealpost knows formats up to {FORMAT}: start the newer sealpost that wrote it"
    )]
    Newer {
        /// The format it has.
        found: u32,
    },
    /// There are messages but there is no index: going on would remove mail.
    #[error(
        "{0} is missing, yet {1} files of messages are beside it: put it back, or move bodies/ and messages-* away"
    )]
    StoreMissing(PathBuf, usize),
    /// The index is there, but not what it tells of: going on would lose mail.
    #[error(
        "{0} is missing, in which the messages lie that store.redb tells of: put it back, or move the whole of data_dir away"
    )]
    ShelfMissing(PathBuf),
    /// The disk failed.
    #[error("{0}: {1}")]
    Disk(PathBuf, io::Error),
    /// redb's file can't be read.
    #[error("the store can't be opened: {0}")]
    Store(String),
    /// redb's file is not what was written, and where messages lie can't be told: going on would lose mail.
    #[error(
        "{0} is damaged ({1}), and nothing is opened: put the whole of data_dir back from a copy that was made while the relay was stopped; \
         without one, move data_dir away and keep it, and start with an empty queue: messages-* and bodies/ in it hold the messages as they were received, \
         and can be searched by hand"
    )]
    Damaged(PathBuf, String),
    /// It was closed.
    #[error("the queue is closed")]
    Closed,
}

impl From<&OpenError> for QueueError {
    fn from(fault: &OpenError) -> Self {
        match fault {
            OpenError::Disk(_, fault) => Self::from_io(fault),
            OpenError::Closed => Self::Closed,
            OpenError::InUse(_)
            | OpenError::Newer { .. }
            | OpenError::StoreMissing(..)
            | OpenError::ShelfMissing(_)
            | OpenError::Store(_)
            | OpenError::Damaged(..) => Self::Broken(fault.to_string()),
        }
    }
}

impl OpenError {
    /// What redb says of its file: that the disk fails, or that the file is not what was written.
    pub(super) fn of(store: &Embedded, DiskFault(fault): DiskFault) -> Self {
        use io::ErrorKind::{InvalidData, UnexpectedEof};
        let is_damage = if let redb::Error::Io(fault) = &fault {
            matches!(fault.kind(), InvalidData | UnexpectedEof)
        } else {
            !matches!(fault, redb::Error::PreviousIo)
        };
        if is_damage { Self::damaged(store, fault) } else { Self::Store(fault.to_string()) }
    }

    fn damaged(store: &Embedded, what: impl ToString) -> Self {
        Self::Damaged(store.file(), what.to_string())
    }
}

/// Does what reads redb's file: a panic within redb says that a page is damaged.
pub(super) fn guarded<T>(store: &Embedded, work: impl FnOnce() -> Result<T, OpenError>) -> Result<T, OpenError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(OpenError::damaged(store, "what reads it found no way through its pages; see the log")))
}

/// What was found at the start; for the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// What is in the queue.
    pub totals: Totals,
    /// Whether its last owner had not closed it: a crash, a kill, a power cut.
    pub after_crash: bool,
    /// The earlier format it had: it was written anew.
    pub was_of_format: Option<u32>,
    /// Body files without a record, removed: their messages were never answered 250, or are finished.
    pub leftovers: u64,
    /// Messages of which something is gone or damaged, set aside as dead, and why.
    pub set_aside: Vec<(QueueId, String)>,
    /// Messages whose row was damaged, and could be written anew: nothing of them is lost.
    pub mended: Vec<QueueId>,
    /// What was on stable storage, and is not there, though each message that is, is whole.
    pub lost: Option<LostCommit>,
}

impl Recovery {
    /// Whether a commit is gone that was on stable storage. What is damaged otherwise is told message by message.
    pub(super) fn look_for_lost(
        &mut self,
        testimony: Option<Testimony>,
        opened: &Opened,
        index: &Index,
    ) -> Result<(), DiskFault> {
        if let Some(testimony) = testimony.filter(|_| self.mended.is_empty() && self.set_aside.is_empty()) {
            self.lost = witness::missed(&testimony, opened, index)?;
        }
        Ok(())
    }
}

/// A data directory that is this process's from now on, and whose store is not open yet. Dropped, it is given back.
#[derive(Debug)]
pub struct Owned {
    pub(super) settings: QueueSettings,
    pub(super) disk: Arc<dyn Disk>,
    lock: Box<dyn Lock>,
}

impl Owned {
    /// Takes the settings' folder, making it when there is none: at once, whatever is in it.
    ///
    /// # Errors
    ///
    /// [`OpenError::InUse`], or the disk fails.
    pub fn take(settings: QueueSettings, disk: Arc<dyn Disk>) -> Result<Self, OpenError> {
        let folder = &settings.data_dir;
        let at = |path: PathBuf| move |fault| OpenError::Disk(path, fault);
        disk.create_folder(folder).map_err(at(folder.clone()))?;
        let lock = disk.lock(&folder.join("lock")).map_err(|fault| {
            if fault.kind() == io::ErrorKind::WouldBlock {
                OpenError::InUse(folder.clone())
            } else {
                OpenError::Disk(folder.join("lock"), fault)
            }
        })?;
        Ok(Self { settings, disk, lock })
    }
}

/// Opens the store in a folder that is ours, making it when there is none.
pub(super) fn open(owned: Owned) -> Result<(Embedded, Recovery), OpenError> {
    let Owned { settings, disk, lock } = owned;
    let folder = &settings.data_dir;
    let bodies = folder.join("bodies");
    let at = |path: &PathBuf| {
        let path = path.clone();
        move |fault| OpenError::Disk(path, fault)
    };
    disk.create_folder(&bodies).map_err(at(&bodies))?;
    let sweeper = Sweeper::start(Arc::clone(&disk), bodies, settings.driving).map_err(at(folder))?;
    let store = Embedded::closed(disk, &settings, sweeper, lock);
    match guarded(&store, || recover(&store)) {
        Ok(recovery) => Ok((store, recovery)),
        Err(fault) => {
            store.shut();
            Err(fault)
        }
    }
}

fn recover(store: &Embedded) -> Result<Recovery, OpenError> {
    make_store(store)?;
    // Before redb opens its file, which changes the head of it.
    let testimony = witness::hear(store);
    let was_of_format = earlier::migrate(store)?;
    let files = body_files(store)?;
    let opened = open_files(store)?;
    remove_other_shelves(store, opened.number)?;
    let failed = |fault| OpenError::of(store, fault);
    let mut recovery = Recovery { was_of_format, ..Recovery::default() };
    let stock = sound_stock(&opened, Some(&files), &mut recovery).map_err(failed)?;
    recovery.look_for_lost(testimony, &opened, &stock.index).map_err(failed)?;
    let noted = begin_use(&opened, &mut recovery).map_err(failed)?;
    for &id in files.keys().filter(|id| !stock.files.contains_key(id)) {
        store.sweeper.remove(id);
        recovery.leftovers += 1;
    }
    recovery.totals = stock.index.totals();
    store.begin_with(opened, stock, noted)?;
    Ok(recovery)
}

/// Makes a store where there is none. It gets its name when it is whole, so that a crash here leaves nothing that looks like one. What has that name and is no
/// file (a link, a folder) is somebody's, and is told, not replaced.
fn make_store(store: &Embedded) -> Result<(), OpenError> {
    let path = store.file();
    let unfinished = store.folder.join(UNFINISHED);
    let failed = |fault| OpenError::Disk(path.clone(), fault);
    let names = store.disk.list(&store.folder).map_err(failed)?;
    if names.iter().any(|entry| entry.name == UNFINISHED) {
        store.disk.remove(&unfinished).map_err(failed)?;
    }
    match store.disk.open(&path, Open::Existing) {
        Ok(_) => return Ok(()),
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => {}
        Err(fault) => return Err(failed(fault)),
    }
    let bodies = body_files(store)?.len();
    let shelves = names.iter().filter(|entry| shelf::number(&entry.name).is_some());
    let full = shelves.clone().filter(|entry| entry.length > 0).count();
    if bodies > 0 || full > 0 {
        return Err(OpenError::StoreMissing(path, bodies.saturating_add(full)));
    }
    for entry in shelves {
        store.disk.remove(&store.folder.join(&entry.name)).map_err(failed)?;
    }
    let file = store.disk.open(&unfinished, Open::New).map_err(failed)?;
    let shelf = make_shelf(store, 0).map_err(failed)?;
    let made = || -> Result<(), DiskFault> {
        let database = Database::builder().set_cache_size(store.cache()).create_with_backend(Storage(file))?;
        let transaction = tables::begin(&database)?;
        let mut space = Space::default();
        let mut tables = Tables::open(&transaction, Placing::new(&shelf, &mut space))?;
        tables.set_meta(FORMAT_KEY, &FORMAT.to_le_bytes())?;
        tables.set_meta(SHELF_KEY, &0_u64.to_le_bytes())?;
        drop(tables);
        transaction.commit()?;
        Ok(database.close()?)
    };
    made().map_err(|fault| OpenError::of(store, fault))?;
    // The name of the shelf first: the renaming is what makes it count.
    store.disk.sync_folder(&store.folder).map_err(failed)?;
    store.disk.rename(&unfinished, &path).map_err(failed)?;
    store.disk.sync_folder(&store.folder).map_err(failed)
}

/// An empty shelf of this number, in the place of what a crash may have left of one.
pub(super) fn make_shelf(store: &Embedded, number: u64) -> io::Result<Shelf> {
    let path = store.folder.join(shelf::name(number));
    match store.disk.remove(&path) {
        Err(fault) if fault.kind() != io::ErrorKind::NotFound => return Err(fault),
        Ok(()) | Err(_) => {}
    }
    Ok(Shelf::new(store.gauge().over(store.disk.open(&path, Open::New)?), store.suspects()))
}

/// Opens both files afresh: what is read then is what the disk has.
pub(super) fn open_files(store: &Embedded) -> Result<Opened, OpenError> {
    let database = open_database(store)?;
    let failed = |fault| OpenError::of(store, fault);
    tables::can_be_opened(&database).map_err(failed)?;
    check_format(store, &database)?;
    let number = shelf_number(&database).map_err(failed)?;
    let path = store.folder.join(shelf::name(number));
    let shelf = match store.disk.open(&path, Open::Afresh) {
        Ok(file) => Shelf::new(store.gauge().over(file), store.suspects()),
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => {
            if has_messages(&database).map_err(failed)? {
                return Err(OpenError::ShelfMissing(path));
            }
            let made = make_shelf(store, number).and_then(|made| store.disk.sync_folder(&store.folder).map(|()| made));
            made.map_err(|fault| OpenError::Disk(path, fault))?
        }
        Err(fault) => return Err(OpenError::Disk(path, fault)),
    };
    let path = store.file();
    let head = store.disk.open(&path, Open::Existing).map_err(|fault| OpenError::Disk(path, fault))?;
    Ok(Opened { database, shelf, number, head })
}

/// redb's file, whatever its format.
pub(super) fn open_database(store: &Embedded) -> Result<Database, OpenError> {
    let path = store.file();
    let file = store.disk.open(&path, Open::Afresh).map_err(|fault| OpenError::Disk(path.clone(), fault))?;
    let file = store.gauge().over(file);
    let opened = Database::builder().set_cache_size(store.cache()).create_with_backend(Storage(file));
    opened.map_err(|fault| OpenError::of(store, fault.into()))
}

fn shelf_number(database: &Database) -> Result<u64, DiskFault> {
    let octets = database.begin_read()?.open_table(META)?.get(SHELF_KEY)?;
    Ok(octets.and_then(|octets| octets.value().try_into().ok().map(u64::from_le_bytes)).unwrap_or(0))
}

fn has_messages(database: &Database) -> Result<bool, DiskFault> {
    Ok(database.begin_read()?.open_table(MESSAGES)?.first()?.is_some())
}

/// The format of a store that this program can read.
pub(super) fn check_format(store: &Embedded, database: &Database) -> Result<u32, OpenError> {
    let read = || -> Result<Option<u32>, DiskFault> {
        let octets = database.begin_read()?.open_table(META)?.get(FORMAT_KEY)?;
        Ok(octets.and_then(|octets| octets.value().try_into().ok().map(u32::from_le_bytes)))
    };
    match read() {
        Ok(Some(found)) if found > FORMAT => Err(OpenError::Newer { found }),
        Ok(Some(found)) => Ok(found),
        Ok(None) => Err(OpenError::damaged(store, "it says no format")),
        Err(fault) => Err(OpenError::of(store, fault)),
    }
}

/// The body files, and how long each is. Files with other names are not ours, and stay.
fn body_files(store: &Embedded) -> Result<BTreeMap<QueueId, u64>, OpenError> {
    let folder = store.sweeper.folder();
    let entries = store.disk.list(folder).map_err(|fault| OpenError::Disk(folder.clone(), fault))?;
    Ok(entries.into_iter().filter_map(|entry| Some((entry.name.parse().ok()?, entry.length))).collect())
}

/// Shelves that a compaction left: the one before, or one that never came to count.
pub(super) fn remove_other_shelves(store: &Embedded, number: u64) -> Result<(), OpenError> {
    let failed = |fault| OpenError::Disk(store.folder.clone(), fault);
    for entry in store.disk.list(&store.folder).map_err(failed)? {
        if shelf::number(&entry.name).is_some_and(|other| other != number) {
            store.disk.remove(&store.folder.join(&entry.name)).map_err(failed)?;
        }
    }
    Ok(())
}

/// From now on a process has it.
fn begin_use(opened: &Opened, recovery: &mut Recovery) -> Result<Option<WallTime>, DiskFault> {
    let transaction = tables::begin(&opened.database)?;
    let mut space = Space::default();
    let mut tables = Tables::open(&transaction, Placing::new(&opened.shelf, &mut space))?;
    recovery.after_crash = tables.in_use()? == InUse::Yes;
    tables.set_in_use(InUse::Yes)?;
    // Records of an older format are migrated when they are next written; from now on there are such as only this program can read.
    tables.set_meta(FORMAT_KEY, &FORMAT.to_le_bytes())?;
    let noted = tables.ledger_time()?;
    drop(tables);
    transaction.commit()?;
    Ok(noted)
}
