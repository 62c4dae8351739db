//! The stores that are put under the suite: the embedded one, and the same with one lie in it.

use super::super::*;
use super::{LEASE, PER_IDENTITY, Subject};
use crate::mail::{Cost, Rates};
use crate::queue::compact::{Compaction, Progress};
use crate::queue::recover::{self, Owned};
use crate::queue::seen::Seen;
use crate::queue::store::{DuePlace, Ticket};
use crate::queue::sweeper::{BodyFile, Sweeper};
use crate::queue::transfer::Adoption;
use crate::sys::disk::SyncHonesty;
use crate::sys::{MonoTime, Now};

/// The embedded store over the simulated disk.
pub(super) struct Embedding {
    lie: Option<Lie>,
}

/// A rule that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lie {
    /// A ticket counts for ever.
    ForgetsFences,
    /// What is put off is given out again at once.
    NeverPutsOff,
    /// What is held is given out like the rest.
    GivesOutHeld,
    /// Outcomes are recorded without their reports.
    DropsReports,
    /// All identities have nothing.
    CountsNobody,
    /// Every state is shown.
    IgnoresFilters,
    /// There is always time.
    SleepsLong,
    /// What is late is what is very late.
    WarnsNobody,
    /// Of an export all before the last message that was brought was brought.
    SeesNoGaps,
    /// Whatever a receipt names goes.
    LetsPledgesGo,
    /// A batch is made up to the first order that can't be obeyed.
    StopsAtAnObstacle,
    /// Syncs do nothing.
    NeverSyncs,
}

impl Lie {
    pub(super) const ALL: [Self; 12] = [
        Self::ForgetsFences,
        Self::NeverPutsOff,
        Self::GivesOutHeld,
        Self::DropsReports,
        Self::CountsNobody,
        Self::IgnoresFilters,
        Self::SleepsLong,
        Self::WarnsNobody,
        Self::SeesNoGaps,
        Self::LetsPledgesGo,
        Self::StopsAtAnObstacle,
        Self::NeverSyncs,
    ];
}

/// A disk, and the way to its body files.
pub(super) struct World {
    disk: SimulatedDisk,
    sweeper: Option<Sweeper>,
}

impl Embedding {
    pub(super) fn honest() -> Self {
        Self { lie: None }
    }

    pub(super) fn lying(lie: Lie) -> Self {
        Self { lie: Some(lie) }
    }
}

impl Subject for Embedding {
    type World = World;

    fn begin(&self) -> World {
        let disk = SimulatedDisk::new(1);
        if self.lie == Some(Lie::NeverSyncs) {
            disk.set_honesty(SyncHonesty::OnlySaid);
        }
        World { disk, sweeper: None }
    }

    fn open(&self, world: &mut World) -> Arc<dyn Store> {
        let settings = QueueSettings { lease: LEASE, per_identity: PER_IDENTITY, ..settings() };
        let owned = Owned::take(settings, Arc::new(world.disk.clone())).unwrap();
        let (embedded, recovery) = recover::open(owned).unwrap();
        assert!(recovery.set_aside.is_empty() && recovery.lost.is_none(), "{recovery:?}");
        world.sweeper = Some(embedded.sweeper());
        match self.lie {
            None | Some(Lie::NeverSyncs) => Arc::new(embedded),
            Some(lie) => Arc::new(Lying { truth: embedded, lie }),
        }
    }

    fn crash(&self, world: &mut World) {
        world.disk.crash();
    }

    fn fail(&self, world: &mut World, nth: u64, fault: Fault) {
        world.disk.fail(nth, 0, fault);
    }

    fn mend(&self, world: &mut World) {
        world.disk.mend();
    }

    fn body(&self, world: &mut World, id: QueueId, octets: &[u8]) -> Option<NewBody> {
        if octets.len() <= GATHER_MAX {
            return Some(NewBody::Octets(octets.to_vec()));
        }
        let sweeper = world.sweeper.clone()?;
        // As whoever brings a message does: an attempt that failed may have left a file under its name.
        sweeper.reserve(id)?.clear().ok()?;
        let file = world.disk.open(&sweeper.path(id), Open::New).ok()?;
        let name = BodyFile::new(id, sweeper.clone());
        file.write_at(0, octets)
            .and_then(|()| file.sync())
            .and_then(|()| world.disk.sync_folder(sweeper.folder()))
            .ok()?;
        Some(NewBody::File(name))
    }
}

#[derive(Debug)]
struct Lying<T> {
    truth: T,
    lie: Lie,
}

impl<T: Store> Lying<T> {
    /// The oldest that is held, claimed as if it were not.
    fn claim_held(&self, now: Now) -> Result<Option<Work>, QueueError> {
        let held = Filter { state: Some(State::Held) };
        let listing = self.truth.briefs(held, Page { after: None, limit: 1 }, Direction::OldestFirst)?;
        let Some(id) = listing.entries.first().map(Listed::id) else { return Ok(None) };
        self.truth.apply(vec![Order::Release(id)], now).remove(0)?;
        self.truth.claim_one(id, now).map(Some)
    }
}

impl<T: Store> Store for Lying<T> {
    fn apply(&self, mut batch: Vec<Order>, now: Now) -> Vec<Result<(), QueueError>> {
        for order in &mut batch {
            match (self.lie, &mut *order) {
                (Lie::DropsReports, Order::Conclude { report, .. }) => *report = None,
                (Lie::LetsPledgesGo, Order::Leave { id, .. }) => *order = Order::Remove(*id),
                _ => {}
            }
        }
        if self.lie != Lie::StopsAtAnObstacle {
            return self.truth.apply(batch, now);
        }
        let mut obstacle = Ok(());
        let one_by_one = batch.into_iter().map(|order| {
            if obstacle.is_ok() {
                obstacle = self.truth.apply(vec![order], now).remove(0);
            }
            obstacle.clone()
        });
        one_by_one.collect()
    }

    fn spend(&self, identity: &str, rates: &Rates, cost: Cost, now: Now) -> Result<Spent, QueueError> {
        self.truth.spend(identity, rates, cost, now)
    }

    fn claim(&self, now: Now, reading: Reading) -> Result<Work, QueueError> {
        if self.lie == Lie::GivesOutHeld
            && let Some(work) = self.claim_held(now)?
        {
            return Ok(work);
        }
        match self.truth.claim(now, reading)? {
            Work::Nothing(wait) if self.lie == Lie::SleepsLong => {
                Ok(Work::Nothing(wait.map(|wait| wait + Duration::from_secs(1))))
            }
            work @ (Work::Nothing(_) | Work::Claimed(..) | Work::Unreadable(..)) => Ok(work),
        }
    }

    fn claim_late(
        &self,
        now: Now,
        mut late: Late,
        after: Option<DuePlace>,
    ) -> Result<(Work, Option<DuePlace>), QueueError> {
        if self.lie == Lie::WarnsNobody {
            late.warn = None;
        }
        self.truth.claim_late(now, late, after)
    }

    fn claim_one(&self, id: QueueId, now: Now) -> Result<Work, QueueError> {
        self.truth.claim_one(id, now)
    }

    fn put_off(&self, ticket: Ticket, until: MonoTime) {
        if self.lie == Lie::NeverPutsOff {
            self.truth.unclaim(ticket);
        } else {
            self.truth.put_off(ticket, until);
        }
    }

    fn recall(&self) {
        self.truth.recall();
    }

    fn over(&self, ticket: Ticket) {
        self.truth.over(ticket);
    }

    fn lay_down(&self, ticket: Ticket) {
        self.truth.lay_down(ticket);
    }

    fn renew(&self, ticket: Ticket, now: Now) -> Result<(), QueueError> {
        match self.truth.renew(ticket, now) {
            Err(QueueError::Fenced(_)) if self.lie == Lie::ForgetsFences => Ok(()),
            renewed => renewed,
        }
    }

    fn unclaim(&self, ticket: Ticket) {
        self.truth.unclaim(ticket);
    }

    fn show(&self, id: QueueId) -> Result<Listed, QueueError> {
        self.truth.show(id)
    }

    fn piece(&self, id: QueueId, offset: u64) -> Result<Vec<u8>, QueueError> {
        self.truth.piece(id, offset)
    }

    fn list(&self, filter: Filter, page: Page) -> Result<Listing, QueueError> {
        let filter = if self.lie == Lie::IgnoresFilters { Filter::default() } else { filter };
        self.truth.list(filter, page)
    }

    fn is_tried(&self, id: QueueId, now: Now) -> bool {
        self.truth.is_tried(id, now)
    }

    fn list_back(&self, filter: Filter, page: Page) -> Result<Listing, QueueError> {
        self.truth.list_back(filter, page)
    }

    fn briefs(&self, filter: Filter, page: Page, direction: Direction) -> Result<Listing<Brief>, QueueError> {
        self.truth.briefs(filter, page, direction)
    }

    fn adopted(&self, export: QueueId) -> Result<Adoption, QueueError> {
        let mut adoption = self.truth.adopted(export)?;
        if self.lie == Lie::SeesNoGaps {
            adoption.gaps.clear();
        }
        Ok(adoption)
    }

    fn exported(&self, export: QueueId) -> Result<bool, QueueError> {
        self.truth.exported(export)
    }

    fn settled(&self, export: QueueId) -> Result<bool, QueueError> {
        self.truth.settled(export)
    }

    fn seen(&self, after: Option<&str>, limit: usize) -> Result<Vec<Seen>, QueueError> {
        self.truth.seen(after, limit)
    }

    fn seen_of(&self, identities: &[String]) -> Result<Vec<Vec<Seen>>, QueueError> {
        self.truth.seen_of(identities)
    }

    fn seen_count(&self) -> Result<u64, QueueError> {
        self.truth.seen_count()
    }

    fn totals(&self) -> Totals {
        self.truth.totals()
    }

    fn held_by(&self, identity: &str) -> Result<Tally, QueueError> {
        if self.lie == Lie::CountsNobody { Ok(Tally::default()) } else { self.truth.held_by(identity) }
    }

    fn stats(&self) -> Result<Stats, QueueError> {
        self.truth.stats()
    }

    fn space_left(&self, now: Now) -> Result<store::Free, QueueError> {
        self.truth.space_left(now)
    }

    fn compact(&self, most: u64, told: Progress<'_>) -> Result<Compaction, QueueError> {
        self.truth.compact(most, told)
    }

    fn close(&self) {
        self.truth.close();
    }
}
