//! Opening the store: making it, repairing it after a crash, and clearing away what a crash left. Done twice, it does nothing the second time.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable};

use super::earlier::{self, Order};
use super::embedded::{Embedded, Storage};
use super::store::Totals;
use super::sweeper::Sweeper;
use super::tables::{self, DiskFault, FORMAT_KEY, InUse, Known, META, Tables};
use super::{QueueError, QueueSettings};
use crate::mail::QueueId;
use crate::sys::Disk;
use crate::sys::disk::{Lock, Open};

/// The format of the store that this program writes: its tables and what is in them.
/// 2 has records of format 2, and the ledger. 3 has the order by identity.
pub(super) const FORMAT: u32 = 3;

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
    /// There are bodies but there is no store: going on would remove mail.
    #[error("{0} is missing, yet there are {1} message bodies beside it: put it back, or move bodies/ away")]
    StoreMissing(PathBuf, usize),
    /// The disk failed.
    #[error("{0}: {1}")]
    Disk(PathBuf, io::Error),
    /// redb's file can't be used.
    #[error("the store can't be opened: {0}")]
    Store(String),
    /// It was closed.
    #[error("the queue is closed")]
    Closed,
}

impl From<&OpenError> for QueueError {
    fn from(fault: &OpenError) -> Self {
        match fault {
            OpenError::Disk(_, fault) => Self::from_io(fault),
            OpenError::Closed => Self::Closed,
            OpenError::InUse(_) | OpenError::Newer { .. } | OpenError::StoreMissing(..) | OpenError::Store(_) => {
                Self::Broken(fault.to_string())
            }
        }
    }
}

/// What was found at the start; for the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// What is in the queue.
    pub totals: Totals,
    /// Whether its last owner had not closed it: a crash, a kill, a power cut.
    pub after_crash: bool,
    /// Body files without a record, removed: their messages were never answered 250, or are finished.
    pub leftovers: u64,
    /// Messages whose body is gone or short, set aside as dead, and why.
    pub set_aside: Vec<(QueueId, String)>,
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
    match recover(&store) {
        Ok(recovery) => Ok((store, recovery)),
        Err(fault) => {
            store.shut();
            Err(fault)
        }
    }
}

fn recover(store: &Embedded) -> Result<Recovery, OpenError> {
    make_store(store)?;
    let files = body_files(store)?;
    let database = open_database(store)?;
    let mut recovery = reconcile(store, &database, &files).map_err(|fault| OpenError::Store(fault.0.to_string()))?;
    drop(database);
    store.mend()?;
    recovery.totals = store.sums().totals;
    Ok(recovery)
}

/// Makes a store where there is none. It gets its name when it is whole, so that a crash here leaves nothing that looks like one.
fn make_store(store: &Embedded) -> Result<(), OpenError> {
    let path = store.file();
    let unfinished = store.folder.join(UNFINISHED);
    let failed = |fault| OpenError::Disk(path.clone(), fault);
    let names = store.disk.list(&store.folder).map_err(failed)?;
    if names.iter().any(|entry| entry.name == UNFINISHED) {
        store.disk.remove(&unfinished).map_err(failed)?;
    }
    if names.iter().any(|entry| entry.name == "store.redb") {
        return Ok(());
    }
    let bodies = body_files(store)?.len();
    if bodies > 0 {
        return Err(OpenError::StoreMissing(path, bodies));
    }
    let file = store.disk.open(&unfinished, Open::New).map_err(failed)?;
    let made = || -> Result<(), DiskFault> {
        let database = Database::builder().set_cache_size(store.cache()).create_with_backend(Storage(file))?;
        let transaction = tables::begin(&database)?;
        let mut tables = Tables::open(&transaction)?;
        tables.set_meta(FORMAT_KEY, &FORMAT.to_le_bytes())?;
        tables.settle()?;
        drop(tables);
        transaction.commit()?;
        Ok(database.close()?)
    };
    made().map_err(|fault| OpenError::Store(fault.0.to_string()))?;
    store.disk.rename(&unfinished, &path).map_err(failed)?;
    store.disk.sync_folder(&store.folder).map_err(failed)
}

/// Opens redb's file afresh: what is read then is what the disk has.
pub(super) fn open_database(store: &Embedded) -> Result<Database, OpenError> {
    let path = store.file();
    let file = store.disk.open(&path, Open::Afresh).map_err(|fault| OpenError::Disk(path.clone(), fault))?;
    let database = Database::builder()
        .set_cache_size(store.cache())
        .create_with_backend(Storage(file))
        .map_err(|fault| OpenError::Store(fault.to_string()))?;
    check_format(&database)?;
    Ok(database)
}

fn check_format(database: &Database) -> Result<(), OpenError> {
    let read = || -> Result<Option<u32>, DiskFault> {
        let octets = database.begin_read()?.open_table(META)?.get(FORMAT_KEY)?;
        Ok(octets.and_then(|octets| octets.value().try_into().ok().map(u32::from_le_bytes)))
    };
    match read() {
        Ok(Some(found)) if found > FORMAT => Err(OpenError::Newer { found }),
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(OpenError::Store("it says no format".to_owned())),
        Err(fault) => Err(OpenError::Store(fault.0.to_string())),
    }
}

/// The body files, and how long each is. Files with other names are not ours, and stay.
fn body_files(store: &Embedded) -> Result<BTreeMap<QueueId, u64>, OpenError> {
    let folder = store.sweeper.folder();
    let entries = store.disk.list(folder).map_err(|fault| OpenError::Disk(folder.clone(), fault))?;
    Ok(entries.into_iter().filter_map(|entry| Some((entry.name.parse().ok()?, entry.length))).collect())
}

/// Files without a record go; records without their file are set aside.
fn reconcile(store: &Embedded, database: &Database, files: &BTreeMap<QueueId, u64>) -> Result<Recovery, DiskFault> {
    let transaction = tables::begin(database)?;
    let order = earlier::drop_order(&transaction)?;
    let mut tables = Tables::open(&transaction)?;
    let mut recovery = Recovery { after_crash: tables.in_use()? == InUse::Yes, ..Recovery::default() };
    if order == Order::Earlier {
        tables.put_in_order()?;
    }
    let mut named = BTreeMap::new();
    for row in tables.files.iter()? {
        let (id, length) = row?;
        named.insert(QueueId::from_u128(id.value()), length.value());
    }
    for (&id, &length) in &named {
        let reason = match files.get(&id) {
            Some(&found) if found == length => continue,
            Some(found) => format!("its body file has {found} octets instead of {length}"),
            None => "its body file is missing".to_owned(),
        };
        if let Known::Record(old) = tables.known(id)?
            && old.reason.as_ref() != Some(&reason)
        {
            let mut new = (*old).clone();
            new.set_aside(&reason);
            tables.put(Some(&old), &new)?;
            recovery.set_aside.push((id, reason));
        }
    }
    tables.set_in_use(InUse::Yes)?;
    // Records of an older format are migrated when they are next written; from now on there are such as only this program can read.
    tables.set_meta(FORMAT_KEY, &FORMAT.to_le_bytes())?;
    tables.settle()?;
    drop(tables);
    transaction.commit()?;
    for &id in files.keys().filter(|id| !named.contains_key(id)) {
        store.sweeper.remove(id);
        recovery.leftovers += 1;
    }
    Ok(recovery)
}
