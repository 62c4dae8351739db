//! Whether a commit hangs: a disk that neither does what it is told nor says that it can't.
//!
//! | while one has lasted [`STALLED`]        |                                                                                          |
//! |-----------------------------------------|------------------------------------------------------------------------------------------|
//! | who asks for room                       | is told to come again: nothing can be kept                                               |
//! | who waits for a message to be kept that is in no commit yet | the same; it is taken back, and the writer never makes it            |
//! | who waits for one that is being written | waits: whether it is kept nobody knows, and either word might be wrong                   |
//! | what is due                             | is not given out: what comes of it could not be recorded, and a restart would repeat it  |
//! | what came of attempts                   | waits, and its message is nobody else's (`claims`)                                       |
//!
//! A compaction has everything wait, commits too, and may take long: it is no disk that hangs, and is told by its own progress.
//!
//! Never: ends a commit; takes back what is in one.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::Queue;
use crate::sys::{Clock, MonoTime};

/// A commit that lasts so long hangs. Syncs of a disk that is merely busy take less.
pub(super) const STALLED: Duration = Duration::from_secs(10);

/// How often that is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// How often it is told again.
const AGAIN: Duration = Duration::from_secs(60);

/// The commit that is under way, when one is.
#[derive(Debug)]
pub(super) struct Committing {
    began: Mutex<Option<MonoTime>>,
    /// How many compactions have it wait.
    compacting: AtomicUsize,
    /// Whether it was seen to hang.
    seen: watch::Sender<bool>,
    /// Rung when something was written: what could not be may go now.
    pub(super) well: Notify,
    /// Whether the end has begun: nobody waits long any more.
    ending: AtomicBool,
}

/// A compaction under way, until this is dropped.
pub(super) struct Compacting {
    committing: Arc<Committing>,
    clock: Arc<dyn Clock>,
}

impl Drop for Compacting {
    fn drop(&mut self) {
        let mut began = self.committing.began();
        // What waited has its time from now on.
        *began = began.map(|_| self.clock.now().mono);
        self.committing.compacting.fetch_sub(1, Ordering::Release);
    }
}

impl Default for Committing {
    fn default() -> Self {
        Self {
            began: Mutex::default(),
            compacting: AtomicUsize::new(0),
            seen: watch::Sender::new(false),
            well: Notify::new(),
            ending: AtomicBool::new(false),
        }
    }
}

/// So long a commit hangs by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stall(Duration);

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the disk of data_dir hangs: it has not finished a commit for {} s, and nothing is kept or given out until it has",
            self.0.as_secs()
        )
    }
}

impl Committing {
    fn began(&self) -> MutexGuard<'_, Option<MonoTime>> {
        self.began.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin(&self, now: MonoTime) {
        *self.began() = Some(now);
    }

    pub(super) fn end(&self) {
        *self.began() = None;
        self.note(false);
    }

    /// A compaction begins: until it ends, no commit is said to hang.
    pub(super) fn compacting(self: &Arc<Self>, clock: &Arc<dyn Clock>) -> Compacting {
        self.compacting.fetch_add(1, Ordering::Release);
        Compacting { committing: Arc::clone(self), clock: Arc::clone(clock) }
    }

    /// How long it hangs; none when it does not.
    pub(super) fn stall(&self, now: MonoTime) -> Option<Stall> {
        // In this order: when a compaction is over, what waited for it has begun anew.
        if self.compacting.load(Ordering::Acquire) > 0 {
            return None;
        }
        let began = *self.began();
        began.map(|began| now.since(began)).filter(|lasted| *lasted >= STALLED).map(Stall)
    }

    pub(super) fn note(&self, hangs: bool) {
        self.seen.send_if_modified(|seen| std::mem::replace(seen, hangs) != hangs);
    }

    /// The end begins: what waits to be written is tried at short intervals from now on.
    pub(super) fn begin_end(&self) {
        self.ending.store(true, Ordering::Release);
        self.well.notify_waiters();
    }

    pub(super) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    /// Waits until it was seen to hang.
    pub(super) async fn hangs(&self) {
        // An error would say that nobody can see anything any more; the sender is here.
        self.seen.subscribe().wait_for(|hangs| *hangs).await.map(drop).ok();
    }
}

/// What there is to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Hangs(Stall),
    Over(Stall),
}

/// What was told last, and when.
#[derive(Debug, Default)]
struct Vigil(Option<(MonoTime, Stall)>);

impl Vigil {
    fn look(&mut self, stall: Option<Stall>, now: MonoTime) -> Option<Told> {
        match (stall, self.0) {
            (None, None) => None,
            (None, Some((_, last))) => {
                self.0 = None;
                Some(Told::Over(last))
            }
            (Some(_), Some((at, _))) if now.since(at) < AGAIN => None,
            (Some(stall), _) => {
                self.0 = Some((now, stall));
                Some(Told::Hangs(stall))
            }
        }
    }
}

impl Queue {
    /// Looks, for ever, whether a commit hangs, and tells; who waits to be kept is told by this alone.
    pub async fn watch(&self) {
        let mut vigil = Vigil::default();
        loop {
            tokio::time::sleep(LOOK).await;
            let now = self.inner.clock.now().mono;
            let stall = self.inner.committing.stall(now);
            if stall.is_some() {
                self.inner.committing.note(true);
            }
            match vigil.look(stall, now) {
                Some(Told::Hangs(stall)) => {
                    tracing::error!(seconds = stall.0.as_secs(), "{stall}; clients hear 452");
                }
                Some(Told::Over(last)) => tracing::warn!(
                    seconds = last.0.as_secs(),
                    "the disk of data_dir does not hang any more; it did so for that long and more"
                ),
                None => {}
            }
        }
    }

    /// Waits while a commit hangs: nothing is given out meanwhile.
    pub(super) async fn flowing(&self) {
        loop {
            let rung = self.inner.work.notified();
            tokio::pin!(rung);
            // From here on no bell is missed: it rings behind every commit.
            rung.as_mut().enable();
            if self.inner.committing.stall(self.inner.clock.now().mono).is_none() {
                return;
            }
            rung.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{ManualClock, WallTime};

    fn at(seconds: u64) -> MonoTime {
        MonoTime::from_start(Duration::from_secs(seconds))
    }

    #[test]
    fn a_commit_hangs_when_it_has_lasted_and_never_when_there_is_none() {
        let committing = Committing::default();
        assert_eq!(committing.stall(at(9999)), None);
        committing.begin(at(100));
        assert_eq!(committing.stall(at(109)), None);
        assert_eq!(committing.stall(at(110)), Some(Stall(STALLED)));
        committing.end();
        assert_eq!(committing.stall(at(9999)), None);
    }

    #[test]
    fn what_waits_for_a_compaction_hangs_only_when_it_has_lasted_behind_that() {
        let clock = Arc::new(ManualClock::at(WallTime::from_seconds(0)));
        let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        let committing = Arc::new(Committing::default());
        let stall = || committing.stall(clock.now().mono).is_some();
        let compacting = committing.compacting(&shared);
        committing.begin(clock.now().mono);
        clock.advance(Duration::from_secs(3600));
        assert!(!stall());
        drop(compacting);
        clock.advance(STALLED - Duration::from_secs(1));
        assert!(!stall());
        clock.advance(Duration::from_secs(1));
        assert!(stall());
    }

    #[test]
    fn it_is_told_at_once_each_minute_and_when_it_is_over() {
        let (mut vigil, stall) = (Vigil::default(), |seconds| Some(Stall(Duration::from_secs(seconds))));
        let told: Vec<Option<Told>> = [
            (None, 0),
            (stall(10), 10),
            (stall(11), 11),
            (stall(69), 69),
            (stall(70), 70),
            (stall(71), 71),
            (None, 72),
            (None, 73),
            (stall(10), 90),
        ]
        .map(|(stall, now)| vigil.look(stall, at(now)))
        .to_vec();
        let hangs = |seconds| stall(seconds).map(Told::Hangs);
        let over = stall(70).map(Told::Over);
        assert_eq!(told, [None, hangs(10), None, None, hangs(70), None, over, None, hangs(10)]);
    }
}
