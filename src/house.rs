//! What the two journeys share: the newest snapshot, the queue, the clock, the tasks.
//!
//! Made once by `daemon`, handed to `intake` and `delivery` as an argument. Never: decides; holds a lock over a wait.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::doors::Doors;
use crate::intake::Desk;
use crate::queue::Queue;
use crate::snapshot::Snapshot;
use crate::sys::{Backlog, Clock, Entropy, Now, Tasks, Throttle};
use crate::upstream::Courier;

/// How often it is said that mail is refused for want of room; each refusal has its line in the audit besides.
const WANT_OF_ROOM: Duration = Duration::from_secs(60);

/// What intake and delivery share.
#[derive(Debug)]
pub struct House {
    snapshot: ArcSwap<Snapshot>,
    /// Custody.
    pub queue: Queue,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Randomness for ids.
    pub entropy: Arc<dyn Entropy>,
    /// Who is at work.
    pub tasks: Tasks,
    /// Who is inside.
    pub doors: Doors,
    /// What AUTH with a second factor shares.
    pub desk: Desk,
    /// The way to the upstreams.
    pub courier: Courier,
    /// Whether the log keeps up: what can't be accounted for is neither taken nor sent.
    pub log: Backlog,
    /// Says now and then that mail is refused for want of room.
    pub want_of_room: Throttle,
}

impl House {
    /// A house that begins with `snapshot`.
    pub fn new(
        snapshot: Snapshot,
        queue: Queue,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        tasks: Tasks,
        courier: Courier,
    ) -> Self {
        Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            queue,
            clock,
            desk: Desk::new(&*entropy),
            entropy,
            tasks,
            doors: Doors::default(),
            courier,
            log: Backlog::default(),
            want_of_room: Throttle::new(WANT_OF_ROOM),
        }
    }

    /// The same house, whose log is this one.
    #[must_use]
    pub fn with_log(self, log: Backlog) -> Self {
        Self { log, ..self }
    }

    /// The newest snapshot.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Puts a new snapshot in the place of the old one, whole. Those who hold the old one see the new one when they next ask.
    pub fn swap(&self, snapshot: Snapshot) {
        self.snapshot.store(Arc::new(snapshot));
    }

    /// What time it is.
    pub fn now(&self) -> Now {
        self.clock.now()
    }
}
