//! One life of the process: from the opening of the queue to the power cut, or to the orderly end.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sealpost::delivery;
use sealpost::house::House;
use sealpost::mail::QueueId;
use sealpost::queue::{Filter, Listed, Page, Queue, QueueSettings, Schedule};
use sealpost::route::{Delivery, Route, Routes};
use sealpost::snapshot::{Recheck, Snapshot};
use sealpost::sys::disk::Fault;
use sealpost::sys::{Clock, MonoTime, Now, SeededEntropy, Tasks, WallTime};
use sealpost::upstream::{Courier, Upstream};
use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep};

use super::balance::{GIVE_UP_AFTER, WARN_AFTER};
use super::client;
use super::operator;
use super::world::{UPSTREAM, World};
use crate::dialog::cast::{Cast, Season};
use crate::dialog::tls::bare_snapshot;
use crate::scripted_upstream::Zeros;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Clients that submit at the same time.
const CLIENTS: u64 = 4;

/// Octets of the disk.
pub(super) const SPACE: u64 = 1 << 34;

/// How often it is looked whether the power is to go.
const LOOK: Duration = Duration::from_millis(250);

/// Virtual time, and a calendar that can be set.
#[derive(Debug)]
struct Calendar {
    start: Instant,
    wall: Mutex<WallTime>,
}

impl Clock for Calendar {
    fn now(&self) -> Now {
        let elapsed = Instant::now().duration_since(self.start);
        Now { wall: self.wall.lock().unwrap().after(elapsed), mono: MonoTime::from_start(elapsed) }
    }
}

/// How the busy time ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    InTime,
    AtTheOperation,
}

/// See the module.
pub(super) struct Life {
    runtime: Runtime,
    house: Arc<House>,
    calendar: Arc<Calendar>,
    /// When the disk was last full or failing.
    ill: Option<Instant>,
}

/// How the disk is.
#[derive(Default)]
struct Health {
    /// It fails until so many operations are done.
    fails_until: u64,
    is_full: bool,
    ill: Option<Instant>,
}

impl Life {
    pub(super) fn begin(world: &World, now: WallTime) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let house;
        let calendar;
        {
            let _inside = runtime.enter();
            calendar = Arc::new(Calendar { start: Instant::now(), wall: Mutex::new(now) });
            let clock: Arc<dyn Clock> = Arc::clone(&calendar) as Arc<dyn Clock>;
            let entropy = Arc::new(SeededEntropy::new(world.seed ^ now.millis().unsigned_abs()));
            let settings = QueueSettings { driving: world.driving(), cache: 1 << 20, ..QueueSettings::new("/queue") };
            let opened =
                Queue::open(settings, Arc::new(world.disk.clone()), Arc::clone(&clock), Arc::clone(&entropy) as Arc<_>);
            let (queue, recovery) = opened.map_err(|fault| fault.to_string())?;
            // A body file may be gone of what was answered 452, when the power went before the store was open again: see `queue`.
            let lost = |(id, _): &&(QueueId, String)| world.account.lock().unwrap().is_acknowledged(*id);
            let lost: Vec<_> = recovery.set_aside.iter().filter(lost).collect();
            assert!(lost.is_empty(), "a crash damages nothing that was synced: {lost:?}");
            let courier = Courier::new(Arc::new(world.network()), Arc::clone(&clock), Arc::new(Zeros));
            let upstream = Arc::new(Upstream::new("main", UPSTREAM, 25, "mail.example.com"));
            courier.configure(std::slice::from_ref(&upstream));
            let snapshot = snapshot(&clock, upstream, world.delivery());
            house = Arc::new(House::new(snapshot, queue, clock, entropy, Tasks::default(), courier));
        }
        Ok(Self { runtime, house, calendar, ill: None })
    }

    /// What the store holds; none when it can't be read just now.
    pub(super) fn owed(&self) -> Option<Vec<Listed>> {
        self.runtime.block_on(listed_whole(&self.house.queue)).ok()
    }

    pub(super) fn ill(&self) -> Option<Instant> {
        self.ill
    }

    pub(super) fn now(&self) -> WallTime {
        let _inside = self.runtime.enter();
        self.calendar.now().wall
    }

    /// The moment in this life's own time.
    pub(super) fn instant(&self) -> Instant {
        let _inside = self.runtime.enter();
        Instant::now()
    }

    /// Clients come and go, the upstream changes, the configuration is reloaded, the disk fails now and then.
    pub(super) fn busy(&mut self, world: &World, time: Duration, last_operation: u64) -> Ended {
        let house = &self.house;
        let calendar = &self.calendar;
        self.runtime.block_on(async {
            house.tasks.spawn("delivery", delivery::run(Arc::clone(house)));
            // Until the end, as in the daemon: an idle connection to an upstream that has changed its mind since would be gone back to for ever.
            let tending = Arc::clone(house);
            tokio::spawn(async move { tending.courier.tend().await });
            let mut others = Vec::new();
            others.push(tokio::spawn(operator::work_on(
                Arc::clone(house),
                Arc::clone(&world.dice),
                Arc::clone(&world.account),
            )));
            others.push(tokio::spawn(Arc::clone(&world.weather).change(Arc::clone(&world.upstream))));
            for _ in 0..CLIENTS {
                let at_work = client::submit_on(Arc::clone(house), Arc::clone(&world.dice), Arc::clone(&world.account));
                others.push(tokio::spawn(at_work));
            }
            let end = Instant::now() + time;
            let mut ended = Ended::InTime;
            let mut health = Health::default();
            while Instant::now() < end {
                sleep(LOOK).await;
                if world.disk.operations() >= last_operation {
                    ended = Ended::AtTheOperation;
                    break;
                }
                perhaps(world, house, calendar, &mut health, last_operation);
                if health.is_full || world.disk.operations() <= health.fails_until {
                    health.ill = Some(Instant::now());
                }
            }
            self.ill = health.ill;
            for one in others {
                one.abort();
            }
            ended
        })
    }

    /// Nobody submits any more. Runs until the queue holds only what is dead, and gives how many are left.
    pub(super) fn settle(&mut self, time: Duration) -> u64 {
        let house = &self.house;
        self.runtime.block_on(async {
            let end = Instant::now() + time;
            loop {
                operator::release_all(house).await;
                // The store is opened again by the next change, if it has to be.
                let left = house
                    .queue
                    .stats()
                    .await
                    .map_or(u64::MAX, |stats| stats.totals.queued.count.saturating_add(stats.totals.held.count));
                if left == 0 || Instant::now() >= end {
                    return left;
                }
                sleep(10 * MINUTE).await;
            }
        })
    }

    /// The orderly end: drain, and what is left in the queue. An error says how many tasks did not end.
    pub(super) fn close(self) -> (Vec<Listed>, Result<(), usize>) {
        let Self { runtime, house, .. } = self;
        runtime.block_on(async {
            house.tasks.begin_drain();
            let left = house.tasks.wait(MINUTE).await;
            let listing = listed(&house.queue).await;
            house.queue.close().await;
            (listing, if left == 0 { Ok(()) } else { Err(left) })
        })
    }

    /// The process is gone: no task runs another step.
    pub(super) fn kill(self) {
        drop(self.runtime);
        drop(self.house);
    }
}

/// Now and then something happens that is nobody's message.
fn perhaps(world: &World, house: &Arc<House>, calendar: &Calendar, health: &mut Health, last_operation: u64) {
    let disk = &world.disk;
    match world.dice.draw(8000) {
        // A reload.
        0..2 => {
            let now = house.snapshot();
            // One identity is not in the roster sometimes; and sometimes it matters to what waits.
            let forgotten = if world.dice.one_in(2) { vec!["zoe".to_owned()] } else { Vec::new() };
            let roster = Cast::get().roster(&Season { forgotten, ..Season::default() });
            let recheck = if world.dice.one_in(2) { Recheck::Yes } else { Recheck::No };
            let generation = now.generation + 1;
            house.swap(Snapshot { generation, roster: Arc::new(roster), recheck, ..Snapshot::clone(&now) });
        }
        // The wall clock is set, an hour at most.
        2 => {
            let mut wall = calendar.wall.lock().unwrap();
            let by = i64::try_from(world.dice.draw(7_200_000)).unwrap() - 3_600_000;
            world.account.lock().unwrap().stepped(Duration::from_millis(by.unsigned_abs()));
            *wall = WallTime::from_millis(wall.millis() + by);
        }
        // The disk is full for a minute or so.
        6..8 => {
            disk.set_space(disk.used() + world.dice.draw(200_000));
            health.is_full = true;
        }
        // Some operations of the disk fail, and then it is well again.
        3..6 => {
            let (nth, more) = (1 + world.dice.draw(10), world.dice.draw(5));
            let fault = world.dice.pick(&[Fault::Error, Fault::NoSpace]);
            if last_operation == u64::MAX || disk.operations() + nth + more < last_operation {
                health.fails_until = disk.operations() + nth + more;
                disk.fail(nth, more, fault);
            }
        }
        // It is not full for long.
        8..60 => {
            disk.set_space(SPACE);
            health.is_full = false;
        }
        _ => {}
    }
    let left = last_operation.saturating_sub(disk.operations());
    if last_operation != u64::MAX && left < 16 {
        disk.fail(left.max(1), u64::MAX, Fault::Error);
        health.fails_until = u64::MAX;
    }
}

/// As much as can be read: the store is opened again by the next change.
pub(super) async fn listed(queue: &Queue) -> Vec<Listed> {
    listed_whole(queue).await.unwrap_or_else(|read| read)
}

/// All of it; an error is what was read before the store failed.
async fn listed_whole(queue: &Queue) -> Result<Vec<Listed>, Vec<Listed>> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let Ok(listing) = queue.list(Filter::default(), Page { after, limit: 500 }).await else { return Err(all) };
        all.extend(listing.entries);
        match listing.next {
            Some(next) => after = Some(next),
            None => return Ok(all),
        }
    }
}

fn snapshot(clock: &Arc<dyn Clock>, upstream: Arc<Upstream>, delivery: Delivery) -> Snapshot {
    let schedule =
        Schedule::new(&[MINUTE, 5 * MINUTE, 15 * MINUTE, 2 * HOUR], Some(WARN_AFTER), GIVE_UP_AFTER).unwrap();
    Snapshot {
        routes: Arc::new(Routes::new(vec![Route::for_all("all", vec![upstream]).unwrap().delivered(delivery)])),
        schedule: Arc::new(schedule),
        ..bare_snapshot(clock)
    }
}
