//! One life of the process: from the opening of the queue to the power cut, or to the orderly end.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use sealpost::delivery;
use sealpost::house::House;
use sealpost::identity::Rule;
use sealpost::identity::pattern::DomainSet;
use sealpost::mail::QueueId;
use sealpost::queue::{Filter, Listed, LostCommit, Page, Queue, QueueSettings, Schedule};
use sealpost::route::{Route, Routes, Wants};
use sealpost::snapshot::{Recheck, Snapshot};
use sealpost::sys::disk::Fault;
use sealpost::sys::{Clock, MonoTime, Now, SeededEntropy, Tasks, WallTime};
use sealpost::upstream::preference::Ranked;
use sealpost::upstream::{Courier, Upstream};
use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep};

use super::balance::{GIVE_UP_AFTER, WARN_AFTER};
use super::client;
use super::operator;
use super::world::{SECOND, UPSTREAM, World};
use crate::dialog::cast::{Cast, Season};
use crate::dialog::tls::bare_snapshot;
use crate::scripted_upstream::Zeros;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Clients that submit at the same time.
const CLIENTS: u64 = 4;

/// Octets of the disk.
pub(super) const SPACE: u64 = 1 << 34;

/// How long an orderly end waits for what is under way: `shutdown_grace`.
const GRACE: Duration = Duration::from_secs(30);

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
    /// When the disk was full or failing.
    ill: Vec<Ill>,
}

/// From when until when.
pub(super) type Ill = (Instant, Instant);

/// How the disk is.
#[derive(Default)]
struct Health {
    /// It fails until so many operations are done.
    fails_until: u64,
    is_full: bool,
    ill: Vec<Ill>,
}

impl Health {
    /// It is ill now, and has been since the last look if it was then.
    fn is_ill(&mut self) {
        let now = Instant::now();
        match self.ill.last_mut() {
            Some((_, until)) if now.duration_since(*until) <= 2 * LOOK => *until = now,
            Some(_) | None => self.ill.push((now, now)),
        }
    }
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
            // A disk that lies is to be noticed by what became of the mail.
            assert!(recovery.lost.is_none() || !world.keeps_what_it_synced(), "no octet was damaged: {recovery:?}");
            // A body file may be gone of what was answered 452, when the power went before the store was open again: see `queue`.
            let lost = |(id, _): &&(QueueId, String)| world.account.lock().unwrap().is_acknowledged(*id);
            let lost: Vec<_> = recovery.set_aside.iter().filter(lost).collect();
            assert!(lost.is_empty(), "a crash damages nothing that was synced: {lost:?}");
            let courier = Courier::new(Arc::new(world.network()), Arc::clone(&clock), Arc::new(Zeros));
            let (upstreams, routes) = ways(world, Shape::Whole);
            courier.configure(&upstreams);
            let snapshot = snapshot(&clock, routes);
            house = Arc::new(House::new(snapshot, queue, clock, entropy, Tasks::default(), courier));
        }
        Ok(Self { runtime, house, calendar, ill: Vec::new() })
    }

    /// What the store holds; none when it can't be read just now.
    pub(super) fn owed(&self) -> Option<Vec<Listed>> {
        self.runtime.block_on(listed_whole(&self.house.queue)).ok()
    }

    pub(super) fn ill(&self) -> &[Ill] {
        &self.ill
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
            for upstream in [&world.upstream, &world.second] {
                others.push(tokio::spawn(Arc::clone(&world.weather).change(Arc::clone(upstream))));
            }
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
                    health.is_ill();
                }
            }
            let damaged = house.queue.damaged().now_or_never().unwrap_or_default();
            let is_lost = |(_, why): &(QueueId, String)| why == LostCommit::OF_ONE;
            assert!(!damaged.iter().any(is_lost) || !world.keeps_what_it_synced(), "no octet was damaged: {damaged:?}");
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

    /// The orderly end while there is mail: as the daemon does it. How long it took; an error says how many tasks did not end.
    pub(super) fn come_to_rest(self) -> (Duration, Result<(), usize>) {
        let Self { runtime, house, .. } = self;
        let (began, left) = runtime.block_on(async {
            let began = Instant::now();
            let left = house.come_to_rest(GRACE).await;
            house.queue.close().await;
            (began.elapsed(), left)
        });
        (began, if left == 0 { Ok(()) } else { Err(left) })
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
            let shape =
                world.dice.pick(&[Shape::Whole, Shape::Whole, Shape::Turned, Shape::WithoutMain, Shape::WithoutSecond]);
            let (upstreams, routes) = ways(world, shape);
            house.courier.configure(&upstreams);
            let routes = Arc::new(routes);
            house.swap(Snapshot { generation, roster: Arc::new(roster), recheck, routes, ..Snapshot::clone(&now) });
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

/// How the upstreams are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Whole,
    /// Who was asked first is asked last.
    Turned,
    WithoutMain,
    WithoutSecond,
}

/// The upstreams and routes of a world: one of each, or two, of which a reload may take one out.
fn ways(world: &World, shape: Shape) -> (Vec<Arc<Upstream>>, Routes) {
    let main = Arc::new(Upstream::new("main", UPSTREAM, 25, "mail.example.com"));
    let delivery = world.delivery();
    if !world.is_wide() {
        let route = Route::for_all("all", vec![Arc::clone(&main)]).unwrap().delivered(delivery);
        return (vec![main], Routes::new(vec![route]));
    }
    let second = Arc::new(Upstream::new("second", SECOND, 25, "mail.example.com"));
    let ranked = |order: u32, weight, what: &Arc<Upstream>| Ranked { order, weight, what: Arc::clone(what) };
    // One route has an order, the other shares by weight.
    let (first, last) = if shape == Shape::Turned { (2, 1) } else { (1, 2) };
    let is_there = |one: &Ranked<Arc<Upstream>>| match shape {
        Shape::Whole | Shape::Turned => true,
        Shape::WithoutMain => one.what.name != main.name,
        Shape::WithoutSecond => one.what.name != second.name,
    };
    let route = |name: &str, wants, upstreams: [Ranked<Arc<Upstream>>; 2]| {
        let rule = Rule { name: format!("route {name}").into(), place: None };
        let there = upstreams.into_iter().filter(is_there).collect();
        Route::new(name, wants, rule, there).unwrap().delivered(delivery)
    };
    let org = Wants { recipients: Some(DomainSet::read(["example.org"]).unwrap()), ..Wants::default() };
    let routes = Routes::new(vec![
        route("org", org, [ranked(first, 1, &second), ranked(last, 1, &main)]),
        route("all", Wants::default(), [ranked(1, 3, &main), ranked(1, 1, &second)]),
    ]);
    let upstreams = [&main, &second].map(|one| ranked(1, 1, one)).into_iter().filter(is_there).map(|one| one.what);
    (upstreams.collect(), routes)
}

fn snapshot(clock: &Arc<dyn Clock>, routes: Routes) -> Snapshot {
    let schedule =
        Schedule::new(&[MINUTE, 5 * MINUTE, 15 * MINUTE, 2 * HOUR], Some(WARN_AFTER), GIVE_UP_AFTER).unwrap();
    Snapshot { routes: Arc::new(routes), schedule: Arc::new(schedule), ..bare_snapshot(clock) }
}
