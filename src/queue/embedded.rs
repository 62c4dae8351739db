//! The embedded store: an index in redb, a file of records and bodies, and a folder of large bodies, owned by one process.
//!
//! ```text
//! data_dir/            mode 0700
//!   lock               held while a process owns the folder
//!   store.redb         where each message lies, and all that is not a message (see tables)
//!   store.redb.new     a store that was being made, or written anew (see compact), when the power went: removed
//!   messages-N         the shelf: records, and bodies that are not large (see shelf); N stands in store.redb
//!   bodies/ID          large bodies, one file each
//!   store.last         what the last commit was, behind its sync (see witness)
//! ```
//!
//! A change that keeps or changes a message syncs twice: the shelf, and then redb, which names what lies there. One that only takes messages away syncs
//! redb alone. What nobody names any more is given out again only when that is on stable storage, and no read is under way that saw it named.
//!
//! After one I/O error redb refuses everything; and after a failed sync nobody knows what is on the disk. So any failure closes the handle,
//! and the next change opens the file afresh. What was being committed then may turn out to be there although its client heard 452: it is
//! disowned, taken out again before anybody sees it. What came of attempts stays where it is, and whoever records it again is told that it is there.
//!
//! Claims are in memory: they end with the process. Never: retries a sync, holds a read transaction across two calls.

mod commit;

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, TryLockError};

use redb::{Database, ReadableDatabase};

use self::commit::Doubted;
use super::accounts::Accounts;
use super::at_hand::AtHand;
use super::claims::Claims;
use super::gauge::Gauge;
use super::index::Index;
use super::losses::Losses;
use super::recover::{OpenError, Recovery, UNFINISHED};
use super::shelf::{Placing, Shelf, Suspects};
use super::space::Space;
use super::stock::Stock;
use super::store::Totals;
use super::sweeper::Sweeper;
use super::tables::{self, DiskFault, Freed, InUse, Known, Tables};
use super::witness::{self, Witness};
use super::{FAILURES_SAID, QueueError};
use crate::mail::{Cost, QueueId};
use crate::sys::disk::Lock;
use crate::sys::{Disk, DiskFile, Throttle, WallTime};

const PANICKED: &str = "the store panicked; see the log";

/// The store in `data_dir`.
#[derive(Debug)]
pub(super) struct Embedded {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) folder: PathBuf,
    pub(super) sweeper: Sweeper,
    pub(super) lease: std::time::Duration,
    /// Messages of one identity that may be tried at once.
    pub(super) per_identity: usize,
    /// Threads that read one listing.
    pub(super) readers: usize,
    cache: usize,
    /// Octets of the disk that mail leaves to outcomes and reports.
    reserve: u64,
    handle: RwLock<Option<Opened>>,
    /// Set by whoever saw the disk fail: the handle is good for nothing any more.
    broken: AtomicBool,
    /// Held by whoever changes the store, until memory agrees with the disk again.
    changing: Mutex<()>,
    claims: Mutex<Claims>,
    /// Whoever wants the claims as well, locks them first.
    index: Mutex<Index>,
    /// Locked for the length of a commit; its figures are below.
    space: Mutex<Space>,
    free: AtomicU64,
    used: AtomicU64,
    /// What nobody names any more, though somebody may be reading it still.
    being_left: Mutex<Freed>,
    /// What may be on the disk although its client heard that it is not.
    disowned: Mutex<Vec<Disowned>>,
    /// What came of attempts and may be on the disk although whoever brought it heard that it is not; by message.
    doubted: Mutex<HashMap<QueueId, Doubted>>,
    accounts: Accounts,
    /// What was kept a moment ago.
    at_hand: AtHand,
    gauge: Gauge,
    suspects: Suspects,
    losses: Losses,
    witness: Witness,
    /// Where the search for idle histories goes on.
    swept: Mutex<Option<String>>,
    lock: Mutex<Option<Box<dyn Lock>>>,
    /// Says now and then that a commit failed.
    failures: Throttle,
}

/// The two files, open.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) database: Database,
    pub(super) shelf: Shelf,
    /// The shelf's number.
    pub(super) number: u64,
    /// redb's file once more, to read the head of it.
    pub(super) head: Box<dyn DiskFile>,
}

/// One look at the store.
pub(super) struct View<'a> {
    pub(super) transaction: redb::ReadTransaction,
    pub(super) shelf: &'a Shelf,
}

/// A message whose commit failed, and what it would have cost whom at which time of the ledger.
#[derive(Debug)]
struct Disowned {
    id: QueueId,
    charge: Option<(String, Cost)>,
    at: WallTime,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn at_once<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

impl Embedded {
    /// A store that is not open yet; see [`super::recover`].
    pub(super) fn closed(
        disk: Arc<dyn Disk>,
        settings: &super::QueueSettings,
        sweeper: Sweeper,
        lock: Box<dyn Lock>,
    ) -> Self {
        Self {
            disk,
            folder: settings.data_dir.clone(),
            sweeper,
            lease: settings.lease,
            per_identity: settings.per_identity,
            readers: settings.readers,
            cache: usize::try_from(settings.cache).unwrap_or(usize::MAX),
            reserve: settings.reserve_size,
            handle: RwLock::new(None),
            broken: AtomicBool::new(true),
            changing: Mutex::default(),
            claims: Mutex::default(),
            index: Mutex::default(),
            space: Mutex::default(),
            free: AtomicU64::new(0),
            used: AtomicU64::new(0),
            being_left: Mutex::default(),
            disowned: Mutex::default(),
            doubted: Mutex::default(),
            failures: Throttle::new(FAILURES_SAID),
            accounts: Accounts::default(),
            at_hand: AtHand::new(settings.at_hand),
            gauge: Gauge::default(),
            suspects: Suspects::default(),
            losses: Losses::default(),
            witness: Witness::default(),
            swept: Mutex::default(),
            lock: Mutex::new(Some(lock)),
        }
    }

    pub(super) fn sweeper(&self) -> Sweeper {
        self.sweeper.clone()
    }

    /// What was written to the disk, and what it had room for.
    pub(super) fn gauge(&self) -> Gauge {
        self.gauge.clone()
    }

    /// What the disk failed to read.
    pub(super) fn suspects(&self) -> Suspects {
        self.suspects.clone()
    }

    /// What was found damaged while the store is in use.
    pub(super) fn losses(&self) -> Losses {
        self.losses.clone()
    }

    /// Who testifies what was on stable storage.
    pub(super) fn witness(&self) -> &Witness {
        &self.witness
    }

    /// Whoever comes next opens the files again.
    pub(super) fn give_up_handle(&self) {
        self.broken.store(true, Ordering::Release);
    }

    pub(super) fn at_hand(&self) -> &AtHand {
        &self.at_hand
    }

    pub(super) fn file(&self) -> PathBuf {
        self.folder.join("store.redb")
    }

    pub(super) fn claims(&self) -> MutexGuard<'_, Claims> {
        locked(&self.claims)
    }

    pub(super) fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    pub(super) fn index(&self) -> MutexGuard<'_, Index> {
        locked(&self.index)
    }

    /// The claims, and the order in which they are given out; locked together, so that no commit comes between them.
    pub(super) fn order(&self) -> (MutexGuard<'_, Claims>, MutexGuard<'_, Index>) {
        let claims = self.claims();
        (claims, self.index())
    }

    /// The same when nobody else has them.
    pub(super) fn order_at_once(&self) -> Option<(MutexGuard<'_, Claims>, MutexGuard<'_, Index>)> {
        let claims = at_once(&self.claims)?;
        Some((claims, at_once(&self.index)?))
    }

    pub(super) fn index_at_once(&self) -> Option<MutexGuard<'_, Index>> {
        at_once(&self.index)
    }

    /// To be held while the store is changed.
    pub(super) fn changing(&self) -> MutexGuard<'_, ()> {
        locked(&self.changing)
    }

    pub(super) fn totals_now(&self) -> Totals {
        self.index().totals()
    }

    /// Octets of the shelf that are nobody's, and that are somebody's.
    pub(super) fn room(&self) -> (u64, u64) {
        (self.free.load(Ordering::Relaxed), self.used.load(Ordering::Relaxed))
    }

    fn note_room(&self, space: &Space) {
        self.free.store(space.free_octets(), Ordering::Relaxed);
        self.used.store(space.used_octets(), Ordering::Relaxed);
    }

    pub(super) fn cache(&self) -> usize {
        self.cache
    }

    /// Runs a look at the store in one read transaction, which ends with it. What it sees named on the shelf stays there so long.
    pub(super) fn read<T>(&self, look: impl FnOnce(&View<'_>) -> Result<T, DiskFault>) -> Result<T, QueueError> {
        let handle = self.handle.read().unwrap_or_else(PoisonError::into_inner);
        let Opened { database, shelf, .. } = handle.as_ref().ok_or_else(not_open)?;
        // A panic within redb (a damaged page) is a failure like another.
        let seen = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let transaction = database.begin_read()?;
            look(&View { transaction, shelf })
        }));
        let seen = seen.unwrap_or_else(|_| Err(redb::Error::Corrupted(PANICKED.to_owned()).into()));
        seen.map_err(|fault| {
            self.give_up_handle();
            fault.into()
        })
    }

    /// Whether the folder is still the one whose lock is held: what is written to files that nobody can find any more is not kept.
    pub(super) fn is_in_place(&self) -> Result<(), QueueError> {
        let lock = locked(&self.lock);
        let Some(lock) = lock.as_ref() else { return Err(QueueError::Closed) };
        if lock.is_in_place().map_err(|fault| QueueError::from_io(&fault))? {
            return Ok(());
        }
        Err(QueueError::Broken(format!(
            "{} is not the folder any more that was opened (removed, moved, or mounted over?), and nothing more is kept in the old one: put it back; \
             or stop the relay, see what of the queue there is, and start it",
            self.folder.display()
        )))
    }

    /// Whether the handle can still be used.
    pub(super) fn is_whole(&self) -> bool {
        !self.broken.load(Ordering::Acquire)
    }

    /// Makes sure there is a handle that works, opening the file afresh when the last one failed.
    pub(super) fn mend(&self) -> Result<(), OpenError> {
        if self.is_whole() {
            return Ok(());
        }
        if locked(&self.lock).is_none() {
            return Err(OpenError::Closed);
        }
        super::recover::guarded(self, || self.open_again())
    }

    /// What is damaged in the files is set aside as at a start: one message must not stop the others until somebody restarts the relay.
    fn open_again(&self) -> Result<(), OpenError> {
        let mut handle = self.handle.write().unwrap_or_else(PoisonError::into_inner);
        // The old one goes first: two handles on one file would each believe to be alone. Its error was told when it happened.
        drop(handle.take());
        // A name that was given and not synced may be taken back by a power cut, and with it all that was kept under it since.
        self.disk.sync_folder(&self.folder).map_err(|fault| OpenError::Disk(self.folder.clone(), fault))?;
        let testimony = witness::hear(self);
        let opened = super::recover::open_files(self)?;
        let failed = |fault| OpenError::of(self, fault);
        let noted = self.disown(&opened).map_err(failed)?;
        let mut found = Recovery::default();
        // Body files are missed when they are read: to look for all of them would take its time.
        let stock = super::stock::sound_stock(&opened, None, &mut found).map_err(failed)?;
        found.look_for_lost(testimony, &opened, &stock.index).map_err(failed)?;
        self.install(opened, stock, &mut handle)?;
        // Whoever spends holds the accounts while it reads the store: never the other way round.
        drop(handle);
        self.accounts.begin_after(noted);
        self.claims().begin_anew();
        self.losses.note_all(found);
        Ok(())
    }

    /// Goes on with these files, and with what was found in them.
    fn install(&self, opened: Opened, stock: Stock, handle: &mut Option<Opened>) -> Result<(), OpenError> {
        if !stock.is_sound() {
            let why = "messages do not lie where it says, and could not be set aside; the next opening tries again";
            return Err(OpenError::Store(why.to_owned()));
        }
        self.note_room(&stock.space);
        *locked(&self.space) = stock.space;
        // What was free is, by what the rows say now.
        locked(&self.being_left).clear();
        *self.index() = stock.index;
        self.at_hand.clear();
        *handle = Some(opened);
        self.broken.store(false, Ordering::Release);
        Ok(())
    }

    /// Begins with these files.
    pub(super) fn begin_with(&self, opened: Opened, stock: Stock, noted: Option<WallTime>) -> Result<(), OpenError> {
        let mut handle = self.handle.write().unwrap_or_else(PoisonError::into_inner);
        self.install(opened, stock, &mut handle)?;
        drop(handle);
        self.accounts.begin_after(noted);
        Ok(())
    }

    /// Puts the files that `write` makes in the place of the store's, while nobody else has the handle.
    pub(super) fn replaced(&self, write: impl FnOnce(&Opened) -> Result<(), QueueError>) -> Result<(), QueueError> {
        let mut handle = self.handle.write().unwrap_or_else(PoisonError::into_inner);
        write(handle.as_ref().ok_or_else(not_open)?)?;
        // From here on the old handle is good for nothing; whatever fails, the next change opens what has the name then.
        self.broken.store(true, Ordering::Release);
        drop(handle.take());
        drop(handle);
        // The name of the new shelf first: the renaming is what makes it count.
        let known = self.disk.sync_folder(&self.folder).and_then(|()| {
            self.disk.rename(&self.folder.join(UNFINISHED), &self.file())?;
            self.disk.sync_folder(&self.folder)
        });
        let mended = self.mend().map_err(|fault| QueueError::from(&fault));
        known.map_err(|fault| QueueError::from_io(&fault))?;
        mended
    }

    /// Takes out what clients were told is not here, before anybody can see it; and finds out which outcomes are here though that was not told.
    fn disown(&self, opened: &Opened) -> Result<Option<WallTime>, DiskFault> {
        let mut disowned = locked(&self.disowned);
        let transaction = tables::begin(&opened.database)?;
        // What is taken out needs no room, and what is free is found afterwards.
        let mut space = Space::default();
        let mut tables = Tables::open(&transaction, Placing::new(&opened.shelf, &mut space))?;
        for Disowned { id, charge, at } in disowned.iter() {
            if !matches!(tables.known(*id)?, Known::Nothing) {
                tables.take(*id)?;
                if let Some((identity, cost)) = charge {
                    tables.refund(identity, *cost, *at)?;
                }
            }
        }
        let mut doubted = locked(&self.doubted);
        let mut there = Vec::new();
        for one in doubted.values() {
            if one.is_there(&tables)? {
                there.push(one.ticket);
            }
        }
        let noted = tables.ledger_time()?;
        drop(tables);
        if disowned.is_empty() {
            transaction.abort()?;
        } else {
            transaction.commit()?;
            disowned.clear();
        }
        // What is there, nobody has seen yet. Whoever records it again has the claim until then.
        let mut claims = self.claims();
        there.into_iter().for_each(|ticket| claims.note_recorded(ticket));
        doubted.clear();
        Ok(noted)
    }

    pub(super) fn shut(&self) {
        let changing = self.changing();
        let opened = self.handle.write().unwrap_or_else(PoisonError::into_inner).take();
        self.broken.store(true, Ordering::Release);
        if let Some(Err(fault)) = opened.map(close) {
            tracing::warn!(fault = %fault.0, "the store did not close cleanly; the next start repairs it");
        }
        self.sweeper.close();
        drop(locked(&self.lock).take());
        drop(changing);
    }
}

/// Says that nobody has the store any more, and closes it.
fn close(Opened { database, shelf, .. }: Opened) -> Result<(), DiskFault> {
    let transaction = tables::begin(&database)?;
    let mut space = Space::default();
    Tables::open(&transaction, Placing::new(&shelf, &mut space))?.set_in_use(InUse::No)?;
    transaction.commit()?;
    Ok(database.close()?)
}

fn not_open() -> QueueError {
    QueueError::Broken("the store is not open".to_owned())
}
