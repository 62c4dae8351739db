//! Body files, and their removal in the background: on some file systems it is slow, and nobody need wait for it.
//!
//! A [`BodyFile`] that is dropped without having been kept is removed. What is not removed before the process ends is a leftover that recovery
//! removes: its record is gone already, or never came to be.
//!
//! A message that left may be brought back before its old file has gone: whoever brings it has its name [`Reserved`], clears the old file away, and what is
//! still to be removed under that name is not.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::settings::Driving;
use crate::mail::QueueId;
use crate::sys::Disk;

/// Removes body files. Clones are the same sweeper. The list is bounded by the number of files there are.
#[derive(Clone, Debug)]
pub(super) struct Sweeper {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    driving: Driving,
    waiting: Mutex<Waiting>,
    bell: Condvar,
    /// Rung when a file has been removed.
    removed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    files: VecDeque<QueueId>,
    /// The one that is being removed.
    current: Option<QueueId>,
    /// Names of those who are being brought.
    reserved: BTreeSet<QueueId>,
    closed: bool,
}

impl Sweeper {
    /// A sweeper of `folder`; with [`Driving::WriterThread`] it has a thread.
    pub(super) fn start(disk: Arc<dyn Disk>, folder: PathBuf, driving: Driving) -> io::Result<Self> {
        let inner =
            Inner { disk, folder, driving, waiting: Mutex::default(), bell: Condvar::new(), removed: Condvar::new() };
        let sweeper = Self { inner: Arc::new(inner) };
        if driving == Driving::WriterThread {
            let inner = Arc::clone(&sweeper.inner);
            std::thread::Builder::new().name("queue-sweeper".to_owned()).spawn(move || inner.run())?;
        }
        Ok(sweeper)
    }

    /// Where the body file of `id` is.
    pub(super) fn path(&self, id: QueueId) -> PathBuf {
        self.inner.folder.join(id.to_string())
    }

    /// The folder of all body files.
    pub(super) fn folder(&self) -> &PathBuf {
        &self.inner.folder
    }

    /// Has the body file of a message that has gone removed, unless it is being brought back: then the file is that of who brings it, or was cleared
    /// away by him.
    pub(super) fn remove(&self, id: QueueId) {
        if !self.inner.waiting().reserved.contains(&id) {
            self.discard(id);
        }
    }

    /// The name of a message that is being brought; none when another brings it already.
    pub(super) fn reserve(&self, id: QueueId) -> Option<Reserved> {
        self.inner.waiting().reserved.insert(id).then(|| Reserved { id, sweeper: self.clone() })
    }

    /// Has the body file of `id` removed.
    fn discard(&self, id: QueueId) {
        match self.inner.driving {
            Driving::Inline | Driving::Simulated(_) => self.inner.remove(id),
            Driving::WriterThread => {
                self.inner.waiting().files.push_back(id);
                self.inner.bell.notify_one();
            }
        }
    }

    /// The thread ends when what waits is removed.
    pub(super) fn close(&self) {
        self.inner.waiting().closed = true;
        self.inner.bell.notify_one();
    }
}

impl Inner {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        while let Some(id) = self.next() {
            self.remove(id);
            self.waiting().current = None;
            self.removed.notify_all();
        }
    }

    fn next(&self) -> Option<QueueId> {
        let mut waiting = self.waiting();
        loop {
            if let Some(id) = waiting.files.pop_front() {
                waiting.current = Some(id);
                return Some(id);
            }
            if waiting.closed {
                return None;
            }
            waiting = self.bell.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn remove(&self, id: QueueId) {
        match self.disk.remove(&self.folder.join(id.to_string())) {
            Ok(()) => {}
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => {}
            Err(fault) => {
                tracing::warn!(%id, %fault, "a body file could not be removed; the next start will try again")
            }
        }
    }
}

/// The name of a message that is being brought: nobody else brings it meanwhile, and nothing that was is removed under it.
#[derive(Debug)]
pub(super) struct Reserved {
    id: QueueId,
    sweeper: Sweeper,
}

impl Reserved {
    /// Removes what an earlier message left under this name, and returns when it has gone. Blocks.
    pub(super) fn clear(&self) -> io::Result<()> {
        let inner = &self.sweeper.inner;
        let mut waiting = inner.waiting();
        waiting.files.retain(|&file| file != self.id);
        while waiting.current == Some(self.id) {
            waiting = inner.removed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        drop(waiting);
        match inner.disk.remove(&self.sweeper.path(self.id)) {
            Err(fault) if fault.kind() != io::ErrorKind::NotFound => Err(fault),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.sweeper.inner.waiting().reserved.remove(&self.id);
    }
}

/// A body file that nobody has custody of yet: dropped, it is removed.
#[derive(Debug)]
pub struct BodyFile {
    id: QueueId,
    sweeper: Option<Sweeper>,
}

impl BodyFile {
    pub(super) fn new(id: QueueId, sweeper: Sweeper) -> Self {
        Self { id, sweeper: Some(sweeper) }
    }

    /// The record that names it is on stable storage.
    pub(super) fn keep(mut self) {
        self.sweeper = None;
    }
}

impl Drop for BodyFile {
    fn drop(&mut self) {
        if let Some(sweeper) = self.sweeper.take() {
            sweeper.discard(self.id);
        }
    }
}
