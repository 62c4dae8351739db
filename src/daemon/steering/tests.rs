//! What operators ask of queues on simulated disks, without a daemon.

#![allow(clippy::as_conversions, clippy::wildcard_enum_match_arm, reason = "tests count, and want few of many answers")]

mod here;
mod model;
mod moving;

use std::time::Duration;

use super::*;
use crate::mail::QueueId;
use crate::queue::record::samples;
use crate::queue::{Driving, Filter, Page, QueueSettings};
use crate::sys::{Clock, Disk, ManualClock, SeededEntropy, SimulatedDisk};

const START: WallTime = WallTime::from_seconds(1_800_000_000);

/// A queue on a simulated disk, its core inline, its clock moved by hand.
struct Bench {
    disk: SimulatedDisk,
    clock: Arc<ManualClock>,
    queue: Queue,
    /// How often it was opened: no two give the same names.
    opened: u64,
    roster: Arc<Roster>,
}

impl Bench {
    /// The one of this number; their clocks differ.
    fn new(number: u64) -> Self {
        let disk = SimulatedDisk::new(number);
        let clock = Arc::new(ManualClock::at(START.after(Duration::from_secs(5000 * number))));
        let queue = open(&disk, &clock, number);
        Self { disk, clock, queue, opened: number, roster: Arc::default() }
    }

    fn crash(&mut self) {
        self.disk.crash();
        self.opened += 100;
        self.queue = open(&self.disk, &self.clock, self.opened);
    }

    fn desk(&self) -> Desk<'_> {
        Desk { queue: &self.queue, daemon: None, roster: &self.roster, now: self.clock.now().wall }
    }

    async fn keep(&self, body: &[u8]) -> QueueId {
        let mut incoming = self.queue.admit("alice", None).await.unwrap();
        incoming.write(body).await.unwrap();
        incoming.commit(samples::deposit(self.clock.now().wall)).await.unwrap().id()
    }

    /// What is there when the clock says this.
    async fn keep_at(&self, seconds: u64) -> QueueId {
        self.clock.set_wall(START.after(Duration::from_secs(seconds)));
        self.keep(b"x").await
    }

    async fn ids(&self) -> Vec<QueueId> {
        let listing = self.queue.list(Filter::default(), Page { after: None, limit: 500 }).await.unwrap();
        assert_eq!(listing.next, None);
        listing.entries.iter().map(crate::queue::Listed::id).collect()
    }

    async fn ask(&self, command: Command) -> Vec<Answer> {
        let mut answers = Answers::new(command, "root".to_owned());
        let mut all = Vec::new();
        while let Some(answer) = answers.next(self.desk()).await {
            all.push(answer);
        }
        assert!(matches!(all.pop(), Some(Answer::End)));
        all
    }
}

fn open(disk: &SimulatedDisk, clock: &Arc<ManualClock>, seed: u64) -> Queue {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(clock);
    let settings = QueueSettings {
        driving: Driving::Inline,
        cache: 1 << 20,
        reserve_size: 0,
        share_per_identity: 100,
        ..QueueSettings::new("/q")
    };
    Queue::open(settings, disk, shared, Arc::new(SeededEntropy::new(seed))).unwrap().0
}

/// Virtual time: a wait costs nothing.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(work)
}
