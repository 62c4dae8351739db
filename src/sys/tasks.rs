//! Every task is tracked: spawned here, counted, told of the drain, waited for.
//!
//! A panic in one connection or delivery is caught, logged as our fault, and ends that one only. Never: lets a task outlive the daemon.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
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
}

impl Default for Tasks {
    fn default() -> Self {
        Self { tracker: TaskTracker::new(), phase: watch::Sender::new(Phase::Serving) }
    }
}

impl Tasks {
    /// Runs `work` as a task of its own; `name` is what the log calls it if it panics.
    pub fn spawn<F>(&self, name: &'static str, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tracker.spawn(async move {
            if let Err(panic) = AssertUnwindSafe(work).catch_unwind().await {
                tracing::error!(
                    task = name,
                    panic = said(&*panic),
                    "a task panicked: this is a defect of sealpost, please report it"
                );
            }
        });
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

fn said(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("(no message)")
}
