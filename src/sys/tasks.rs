//! Every task is tracked: spawned here, counted, told of the drain, waited for.
//!
//! A panic in one connection or delivery is caught, logged as our fault, and ends that one only. A loop that the daemon can't be without (a
//! listener, the deliveries) is told of when it ends before its time: without it the daemon would look alive and be deaf.
//!
//! Never: lets a task outlive the daemon.

use std::any::Any;
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

/// How far the shutdown is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// At work.
    #[default]
    Serving,
    /// No new connections, no new claims; what is under way may end.
    Draining,
}

/// The tasks of the daemon, and the word to them that it is shutting down.
#[derive(Clone, Debug)]
pub struct Tasks {
    tracker: TaskTracker,
    phase: watch::Sender<Phase>,
    /// The first loop that ended before its time.
    fallen: watch::Sender<Option<&'static str>>,
    counts: Counts,
}

/// How many of each name are at work.
#[derive(Clone, Debug, Default)]
struct Counts(Arc<Mutex<BTreeMap<&'static str, usize>>>);

impl Counts {
    fn change(&self, name: &'static str, by: impl FnOnce(usize) -> usize) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(name).or_default();
        *count = by(*count);
    }
}

/// One task at work: it counts until this is dropped.
struct AtWork {
    name: &'static str,
    counts: Counts,
}

impl AtWork {
    fn begin(name: &'static str, counts: &Counts) -> Self {
        counts.change(name, |count| count.saturating_add(1));
        Self { name, counts: counts.clone() }
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.counts.change(self.name, |count| count.saturating_sub(1));
    }
}

impl Default for Tasks {
    fn default() -> Self {
        Self {
            tracker: TaskTracker::new(),
            phase: watch::Sender::new(Phase::Serving),
            fallen: watch::Sender::new(None),
            counts: Counts::default(),
        }
    }
}

impl Tasks {
    /// Runs `work` as a task of its own; `name` is what the log calls it if it panics.
    pub fn spawn<F>(&self, name: &'static str, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let at_work = AtWork::begin(name, &self.counts);
        self.tracker.spawn(async move {
            let _ = caught(name, work).await;
            drop(at_work);
        });
    }

    /// Runs a loop that must live until the drain: when it panics, or ends before, [`Tasks::fallen`] says so.
    pub fn spawn_vital<F>(&self, name: &'static str, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (fallen, drain, at_work) = (self.fallen.clone(), self.drain(), AtWork::begin(name, &self.counts));
        self.tracker.spawn(async move {
            let end = caught(name, work).await;
            drop(at_work);
            if end == End::Panicked || !drain.begun() {
                fallen.send_if_modified(|first| {
                    let is_first = first.is_none();
                    first.get_or_insert(name);
                    is_first
                });
            }
        });
    }

    /// Waits until a vital loop has ended before its time; its name. Cancel-safe.
    pub async fn fallen(&self) -> &'static str {
        let mut fallen = self.fallen.subscribe();
        // The sender is this value's own.
        let name = fallen.wait_for(Option::is_some).await.ok().and_then(|name| *name);
        match name {
            Some(name) => name,
            None => std::future::pending().await,
        }
    }

    /// What tells of the drain.
    pub fn drain(&self) -> Drain {
        Drain { phase: self.phase.subscribe() }
    }

    /// Tells all tasks to come to an end.
    pub fn begin_drain(&self) {
        self.phase.send_replace(Phase::Draining);
        self.tracker.close();
    }

    /// How many tasks are at work, all together.
    pub fn at_work(&self) -> usize {
        self.tracker.len()
    }

    /// How many of this name are.
    pub fn at_work_as(&self, name: &str) -> usize {
        self.counts.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied().unwrap_or(0)
    }

    /// Waits for the tasks, but no longer than `grace`. Gives how many are left.
    pub async fn wait(&self, grace: Duration) -> usize {
        let _ = tokio::time::timeout(grace, self.tracker.wait()).await;
        self.tracker.len()
    }
}

/// One listener for the word that the daemon is draining.
#[derive(Clone, Debug)]
pub struct Drain {
    phase: watch::Receiver<Phase>,
}

impl Drain {
    /// Whether the word has come.
    pub fn begun(&self) -> bool {
        *self.phase.borrow() == Phase::Draining
    }

    /// Waits for the word; comes at once when it has been given. Cancel-safe.
    pub async fn wait(&mut self) {
        // The sender lives as long as the daemon; if it is gone, so is the daemon.
        let _ = self.phase.wait_for(|phase| *phase == Phase::Draining).await;
    }
}

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Returned,
    Panicked,
}

/// Runs `work`; a panic in it is logged and goes no further.
async fn caught<F: Future<Output = ()>>(name: &'static str, work: F) -> End {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(()) => End::Returned,
        Err(panic) => {
            tracing::error!(
                task = name,
                panic = said(&*panic),
                "a task panicked: this is a defect of sealpost, please report it"
            );
            End::Panicked
        }
    }
}

/// What a panic said.
pub fn said(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("(no message)")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether `fallen` says something once all tasks have ended.
    async fn said_to_have_fallen(tasks: &Tasks) -> Option<&'static str> {
        tasks.tracker.close();
        tasks.tracker.wait().await;
        tasks.fallen().now_or_never()
    }

    #[tokio::test]
    async fn a_panic_ends_a_connection_alone_and_a_vital_loop_not_unnoticed() {
        let tasks = Tasks::default();
        tasks.spawn("connection", async { panic!("injected") });
        assert_eq!(said_to_have_fallen(&tasks).await, None);
        tasks.spawn_vital("listener", async { panic!("injected") });
        assert_eq!(said_to_have_fallen(&tasks).await, Some("listener"));
    }

    #[tokio::test]
    async fn tasks_count_by_name_until_they_end_however_they_do() {
        let (tasks, going_on) = (Tasks::default(), tokio::sync::Notify::new());
        let going_on = Arc::new(going_on);
        for _ in 0..2 {
            let going_on = Arc::clone(&going_on);
            tasks.spawn("connection", async move { going_on.notified().await });
        }
        tasks.spawn("connection", async { panic!("injected") });
        tasks.spawn_vital("listener", async {});
        let counted = || (tasks.at_work_as("connection"), tasks.at_work_as("listener"), tasks.at_work());
        assert_eq!((counted(), tasks.at_work_as("delivery")), ((3, 1, 4), 0));
        tokio::task::yield_now().await;
        assert_eq!(counted(), (2, 0, 2));
        going_on.notify_waiters();
        tasks.tracker.close();
        tasks.tracker.wait().await;
        assert_eq!(counted(), (0, 0, 0));
    }

    #[tokio::test]
    async fn a_vital_loop_may_end_in_the_drain_only() {
        let early = Tasks::default();
        early.spawn_vital("delivery", async {});
        assert_eq!(said_to_have_fallen(&early).await, Some("delivery"));

        let tasks = Tasks::default();
        let mut drain = tasks.drain();
        tasks.spawn_vital("delivery", async move { drain.wait().await });
        tasks.begin_drain();
        assert_eq!(said_to_have_fallen(&tasks).await, None);
    }
}
