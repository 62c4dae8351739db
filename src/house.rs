//! What the two journeys share: the newest snapshot, the queue, the clock, the tasks.
//!
//! Made once by `daemon`, handed to `intake` and `delivery` as an argument. Never: decides; holds a lock over a wait.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;

use crate::counts::Counts;
use crate::delivery::active::Active;
use crate::doors::Doors;
use crate::intake::Desk;
use crate::queue::Queue;
use crate::queue::schedule::Moment;
use crate::snapshot::Snapshot;
use crate::sys::{Backlog, Clock, Entropy, Now, Steps, Tasks, Throttle, WallTime};
use crate::tls::points::Named;
use crate::upstream::Courier;
use crate::web::Responders;

/// How often it is said that mail is refused for a reason of ours; each refusal has its line in the audit besides.
const REFUSALS_SAID: Duration = Duration::from_secs(60);

/// How often it is said that queued mail has no route; each attempt has its line in the audit besides.
const NO_ROUTE_SAID: Duration = Duration::from_secs(15 * 60);

/// For so long the last words of upstreams are heard (two seconds of it), and what came of them recorded.
pub(crate) const LAST_OUTCOMES: Duration = Duration::from_secs(5);

/// What intake and delivery share.
#[derive(Debug)]
pub struct House {
    snapshot: ArcSwap<Snapshot>,
    /// Custody.
    pub queue: Queue,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// How the wall clock was set meanwhile.
    pub steps: Steps,
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
    /// What is being tried just now.
    pub active: Active,
    /// Where sessions put the distribution points that certificates name, for CAs that want them; what does not fit is named again by the
    /// next session.
    pub named_points: mpsc::Sender<Named>,
    /// What OCSP responders have answered, and the way to them.
    pub responders: Responders,
    points_to_fetch: Mutex<Option<mpsc::Receiver<Named>>>,
    /// Whether the log keeps up: what can't be accounted for is neither taken nor sent.
    pub log: Backlog,
    /// Says now and then that mail is refused for want of room.
    pub want_of_room: Throttle,
    /// Says now and then that mail is refused because the store fails.
    pub store_fails: Throttle,
    /// Says now and then that mail waits that no route takes.
    pub no_route: Throttle,
    /// What has happened since the start.
    pub counts: Counts,
}

/// Distribution points that wait to be looked at.
const NAMED_POINTS_MAX: usize = 64;

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
        let counts = Counts::new(clock.now().mono);
        let steps = Steps::begin(clock.now());
        let (named_points, points_to_fetch) = mpsc::channel(NAMED_POINTS_MAX);
        Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            queue,
            clock,
            steps,
            desk: Desk::new(&*entropy),
            entropy,
            tasks,
            doors: Doors::default(),
            courier,
            active: Active::default(),
            named_points,
            responders: Responders::default(),
            points_to_fetch: Mutex::new(Some(points_to_fetch)),
            log: Backlog::default(),
            want_of_room: Throttle::new(REFUSALS_SAID),
            store_fails: Throttle::new(REFUSALS_SAID),
            no_route: Throttle::new(NO_ROUTE_SAID),
            counts,
        }
    }

    /// The distribution points that sessions name; for the one who fetches.
    pub fn take_named_points(&self) -> Option<mpsc::Receiver<Named>> {
        self.points_to_fetch.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The same house, whose log is this one.
    #[must_use]
    pub fn with_log(self, log: Backlog) -> Self {
        Self { log, ..self }
    }

    /// The same house, whose OCSP answers are these.
    #[must_use]
    pub fn with_responders(self, responders: Responders) -> Self {
        Self { responders, ..self }
    }

    /// The newest snapshot.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Puts a new snapshot in the place of the old one, whole. Those who hold the old one see the new one when they next ask. Gives the old
    /// one: to drop the last of a large one takes time.
    pub fn swap(&self, snapshot: Snapshot) -> Arc<Snapshot> {
        let old = self.snapshot.swap(Arc::new(snapshot));
        // The routes may be others.
        self.courier.announce();
        old
    }

    /// Tells all tasks to come to an end, and waits for them, but no longer than `grace`; then no longer for upstreams that have a message and do not say
    /// what became of it, so that this is recorded: the next start asks the same one first, and no other. Gives how many tasks are left.
    pub async fn come_to_rest(&self, grace: Duration) -> usize {
        self.tasks.begin_drain();
        self.courier.stop();
        self.queue.begin_end();
        if self.tasks.wait(grace).await == 0 {
            return 0;
        }
        self.courier.break_off();
        self.tasks.wait(LAST_OUTCOMES).await
    }

    /// What time it is.
    pub fn now(&self) -> Now {
        self.clock.now()
    }

    /// The present, as it counts for what has waited since then.
    pub fn moment(&self, since: WallTime) -> Moment {
        let now = self.now();
        self.steps.note(now);
        Moment { now: now.wall, waited: self.steps.age(since, now), ran: self.steps.ran(now) }
    }
}
