//! The embedded store: one redb file and a folder of large bodies, owned by one process.
//!
//! ```text
//! data_dir/            mode 0700
//!   lock               held while a process owns the folder
//!   store.redb         everything but large bodies
//!   store.redb.new     a store that was being made, or written anew (see compact), when the power went: removed
//!   bodies/ID          large bodies, one file each
//! ```
//!
//! After one I/O error redb refuses everything; and after a failed sync nobody knows what is on the disk. So any failure closes the handle,
//! and the next change opens the file afresh. What was being committed then may turn out to be there although its client heard 452: it is
//! disowned, taken out again before anybody sees it.
//!
//! Claims are in memory: they end with the process. Never: retries a sync, holds a read transaction across two calls.

use std::io;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use redb::{Database, ReadableDatabase};

use super::QueueError;
use super::accounts::Accounts;
use super::claims::Claims;
use super::obey::{Aftermath, Obstacle, Work, charge, deposit, kept};
use super::recover::{OpenError, UNFINISHED};
use super::store::{NewBody, Order, Ticket};
use super::sweeper::Sweeper;
use super::tables::{self, DiskFault, InUse, Known, Sums, Tables};
use crate::mail::{Cost, QueueId};
use crate::sys::disk::Lock;
use crate::sys::{Disk, DiskFile, Now, WallTime};

/// The store in `data_dir`.
#[derive(Debug)]
pub(super) struct Embedded {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) folder: PathBuf,
    pub(super) sweeper: Sweeper,
    pub(super) lease: std::time::Duration,
    /// Messages of one identity that may be tried at once.
    pub(super) per_identity: usize,
    cache: usize,
    handle: RwLock<Option<Database>>,
    /// Set by whoever saw the disk fail: the handle is good for nothing any more.
    broken: AtomicBool,
    claims: Mutex<Claims>,
    sums: Mutex<Sums>,
    /// What may be on the disk although its client heard that it is not.
    disowned: Mutex<Vec<Disowned>>,
    accounts: Accounts,
    /// Where the search for idle histories goes on.
    swept: Mutex<Option<String>>,
    lock: Mutex<Option<Box<dyn Lock>>>,
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
            cache: usize::try_from(settings.cache).unwrap_or(usize::MAX),
            handle: RwLock::new(None),
            broken: AtomicBool::new(true),
            claims: Mutex::default(),
            sums: Mutex::default(),
            disowned: Mutex::default(),
            accounts: Accounts::default(),
            swept: Mutex::default(),
            lock: Mutex::new(Some(lock)),
        }
    }

    pub(super) fn sweeper(&self) -> Sweeper {
        self.sweeper.clone()
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

    pub(super) fn sums(&self) -> Sums {
        *locked(&self.sums)
    }

    pub(super) fn cache(&self) -> usize {
        self.cache
    }

    /// Runs a look at the store in one read transaction, which ends with it.
    pub(super) fn read<T>(
        &self,
        look: impl FnOnce(&redb::ReadTransaction) -> Result<T, DiskFault>,
    ) -> Result<T, QueueError> {
        let handle = self.handle.read().unwrap_or_else(PoisonError::into_inner);
        self.look(handle.as_ref(), look)
    }

    /// The same with the claims locked, from before what is seen: no commit comes between what is seen and what is remembered of it. Whoever
    /// holds the claims may have the handle, and never asks for it.
    pub(super) fn read_claiming<T>(
        &self,
        look: impl FnOnce(&redb::ReadTransaction, &mut Claims) -> Result<T, DiskFault>,
    ) -> Result<T, QueueError> {
        let handle = self.handle.read().unwrap_or_else(PoisonError::into_inner);
        let mut claims = self.claims();
        self.look(handle.as_ref(), |transaction| look(transaction, &mut claims))
    }

    fn look<T>(
        &self,
        database: Option<&Database>,
        look: impl FnOnce(&redb::ReadTransaction) -> Result<T, DiskFault>,
    ) -> Result<T, QueueError> {
        let database = database.ok_or_else(not_open)?;
        let seen = database.begin_read().map_err(DiskFault::from).and_then(|transaction| look(&transaction));
        seen.map_err(|fault| {
            self.broken.store(true, Ordering::Release);
            fault.into()
        })
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
        let mut handle = self.handle.write().unwrap_or_else(PoisonError::into_inner);
        // The old one goes first: two handles on one file would each believe to be alone. Its error was told when it happened.
        drop(handle.take());
        let database = super::recover::open_database(self)?;
        let (sums, noted) = self.disown(&database).map_err(|fault| OpenError::Store(fault.0.to_string()))?;
        *locked(&self.sums) = sums;
        *handle = Some(database);
        self.broken.store(false, Ordering::Release);
        // Whoever spends holds the accounts while it reads the store: never the other way round.
        drop(handle);
        self.accounts.begin_after(noted);
        // What was being committed may be there, and nobody was told where it stands.
        self.claims().turns.begin_anew();
        Ok(())
    }

    /// Puts the file that `write` makes in the place of the store's, while nobody else has the handle.
    pub(super) fn replaced(&self, write: impl FnOnce(&Database) -> Result<(), QueueError>) -> Result<(), QueueError> {
        let mut handle = self.handle.write().unwrap_or_else(PoisonError::into_inner);
        write(handle.as_ref().ok_or_else(not_open)?)?;
        // From here on the old handle is good for nothing; whatever fails, the next change opens what has the name then.
        self.broken.store(true, Ordering::Release);
        drop(handle.take());
        drop(handle);
        let renamed = self.disk.rename(&self.folder.join(UNFINISHED), &self.file());
        let known = renamed.and_then(|()| self.disk.sync_folder(&self.folder));
        let mended = self.mend().map_err(|fault| QueueError::from(&fault));
        known.map_err(|fault| QueueError::from_io(&fault))?;
        mended
    }

    /// Takes out what clients were told is not here, before anybody can see it.
    fn disown(&self, database: &Database) -> Result<(Sums, Option<WallTime>), DiskFault> {
        let mut disowned = locked(&self.disowned);
        let transaction = tables::begin(database)?;
        let mut tables = Tables::open(&transaction)?;
        for Disowned { id, charge, at } in disowned.iter() {
            if let Known::Record(record) = tables.known(*id)? {
                tables.take(&record)?;
                if let Some((identity, cost)) = charge {
                    tables.refund(identity, *cost, *at)?;
                }
            }
        }
        let noted = tables.ledger_time()?;
        tables.settle()?;
        let sums = tables.sums;
        drop(tables);
        if disowned.is_empty() {
            transaction.abort()?;
        } else {
            transaction.commit()?;
            disowned.clear();
        }
        Ok((sums, noted))
    }

    fn transact(
        &self,
        batch: &[Order],
        now: Now,
        at: WallTime,
        concluding: &mut Vec<Ticket>,
    ) -> Result<Answers, QueueError> {
        self.mend().map_err(|fault| QueueError::from(&fault))?;
        let handle = self.handle.read().unwrap_or_else(PoisonError::into_inner);
        let Some(database) = handle.as_ref() else { return Err(not_open()) };
        self.commit(database, batch, now, at, concluding).map_err(QueueError::from)
    }

    fn commit(
        &self,
        database: &Database,
        batch: &[Order],
        now: Now,
        at: WallTime,
        concluding: &mut Vec<Ticket>,
    ) -> Result<Answers, DiskFault> {
        let transaction = tables::begin(database)?;
        let mut tables = Tables::open(&transaction)?;
        let mut aftermath = Aftermath::new(at);
        let mut answers = Vec::with_capacity(batch.len());
        for order in batch {
            let mut work =
                Work { claims: &self.claims, tables: &mut tables, aftermath: &mut aftermath, concluding, now };
            answers.push(match work.obey(order) {
                Ok(()) => Ok(()),
                Err(Obstacle::Order(fault)) => Err(fault),
                Err(Obstacle::Disk(fault)) => return Err(fault),
            });
        }
        self.sweep_ledger(batch, &mut tables, at)?;
        tables.settle()?;
        aftermath.sums = tables.sums;
        aftermath.came = std::mem::take(&mut tables.came);
        drop(tables);
        // Syncs: when this returns, what the answers say is on stable storage, and not before.
        transaction.commit()?;
        Ok(Answers { answers, aftermath })
    }

    /// A batch that writes the ledger takes some histories out that count for nothing any more.
    fn sweep_ledger(&self, batch: &[Order], tables: &mut Tables<'_>, at: WallTime) -> Result<(), DiskFault> {
        if !batch.iter().any(|order| charge(order).is_some()) {
            return Ok(());
        }
        let mut swept = locked(&self.swept);
        *swept = tables.sweep_ledger(swept.as_deref(), at)?;
        Ok(())
    }

    fn after_commit(
        &self,
        batch: Vec<Order>,
        answers: &[Result<(), QueueError>],
        aftermath: Aftermath,
        concluded: &[Ticket],
        now: Now,
    ) {
        *locked(&self.sums) = aftermath.sums;
        let mut claims = self.claims();
        for &ticket in concluded {
            claims.end(ticket);
        }
        for id in aftermath.gone {
            claims.forget(id);
        }
        for (identity, place) in aftermath.came {
            claims.moved(place);
            claims.turns.came(&identity, place, now.wall);
        }
        drop(claims);
        for (order, answer) in batch.into_iter().zip(answers) {
            if answer.is_err() {
                continue;
            }
            if let Order::Charge(spending) = order {
                spending.settle(aftermath.charged_at);
                continue;
            }
            let Some(message) = kept(order) else { continue };
            if let NewBody::File(file) = message.body {
                file.keep();
            }
            if let Some(spending) = message.spending {
                spending.settle(aftermath.charged_at);
            }
        }
        for id in aftermath.files {
            self.sweeper.remove(id);
        }
    }

    fn after_failure(&self, batch: &[Order], at: WallTime, concluding: &[Ticket], fault: &QueueError) {
        tracing::error!(%fault, orders = batch.len(), "the store failed; it is opened again");
        let mut claims = self.claims();
        for &ticket in concluding {
            claims.resume(ticket);
        }
        drop(claims);
        // Reports are not disowned: if one turns out to be there, so does the outcome it reports.
        let deposits = batch.iter().filter_map(|order| {
            let charge = charge(order).map(|spending| (spending.identity().to_owned(), spending.cost()));
            Some(Disowned { id: deposit(order)?.record.id, charge, at })
        });
        locked(&self.disowned).extend(deposits);
        self.broken.store(true, Ordering::Release);
        if let Err(fault) = self.mend() {
            tracing::error!(%fault, "the store could not be opened again; the next change will try");
        }
    }

    pub(super) fn apply_batch(&self, batch: Vec<Order>, now: Now) -> Vec<Result<(), QueueError>> {
        let mut concluding = Vec::new();
        let at = self.accounts.time(now);
        // A panic within redb (a damaged page) must end neither the writer nor the claims of this batch.
        let done = std::panic::catch_unwind(AssertUnwindSafe(|| self.transact(&batch, now, at, &mut concluding)))
            .unwrap_or_else(|_| Err(QueueError::Broken("the store panicked; see the log".to_owned())));
        match done {
            Ok(Answers { answers, aftermath }) => {
                self.after_commit(batch, &answers, aftermath, &concluding, now);
                answers
            }
            Err(fault) => {
                self.after_failure(&batch, at, &concluding, &fault);
                let answers = vec![Err(fault); batch.len()];
                leave_adopted_files(batch);
                answers
            }
        }
    }

    pub(super) fn shut(&self) {
        let database = self.handle.write().unwrap_or_else(PoisonError::into_inner).take();
        self.broken.store(true, Ordering::Release);
        if let Some(Err(fault)) = database.map(close) {
            tracing::warn!(fault = %fault.0, "the store did not close cleanly; the next start repairs it");
        }
        self.sweeper.close();
        drop(locked(&self.lock).take());
    }
}

struct Answers {
    answers: Vec<Result<(), QueueError>>,
    aftermath: Aftermath,
}

/// Says that nobody has the store any more, and closes it.
fn close(database: Database) -> Result<(), DiskFault> {
    let transaction = tables::begin(&database)?;
    Tables::open(&transaction)?.set_in_use(InUse::No)?;
    transaction.commit()?;
    Ok(database.close()?)
}

fn not_open() -> QueueError {
    QueueError::Broken("the store is not open".to_owned())
}

impl From<DiskFault> for QueueError {
    fn from(DiskFault(fault): DiskFault) -> Self {
        if let redb::Error::Io(fault) = &fault {
            return Self::from_io(fault);
        }
        Self::Broken(fault.to_string())
    }
}

impl QueueError {
    /// Want of space is for the client to wait out; anything else is for the operator.
    pub(super) fn from_io(fault: &io::Error) -> Self {
        if matches!(fault.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            return Self::Full(fault.to_string());
        }
        Self::Broken(fault.to_string())
    }
}

/// A disk file as redb wants it.
#[derive(Debug)]
pub(super) struct Storage(pub(super) Box<dyn DiskFile>);

impl redb::StorageBackend for Storage {
    fn len(&self) -> io::Result<u64> {
        self.0.length()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, out)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_length(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn write(&self, offset: u64, octets: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, octets)
    }
}

/// What was adopted is not disowned when its commit failed, so its record may be on the disk: its body must be as well. What is a leftover goes
/// when it is brought again, or with the next start.
fn leave_adopted_files(batch: Vec<Order>) {
    for order in batch {
        if let Order::Adopt(adopted) = order
            && let NewBody::File(file) = adopted.message.body
        {
            file.keep();
        }
    }
}
