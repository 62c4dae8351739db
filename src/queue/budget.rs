//! Three budgets, granted before `354` and given back when dropped: memory for bodies, the writer's backlog, room in the queue.
//!
//! Who is not granted one in time hears "come again" (`QueueError::Full`); nobody waits without end. Of the room each identity has a share, so
//! that one can't keep the others out; who has used it up hears so at once (`QueueError::Share`).

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use super::fill::Size;
use super::settings::{GRANTED_MEMORY, QueueSettings};
use super::store::Tally;

/// Whose messages have no share: what another queue had was let in there.
pub(super) const NOBODY: &str = "";

/// Memory and backlog are counted in blocks of this many octets.
const BLOCK: u64 = 1024;

/// A budget of octets.
#[derive(Debug)]
pub(super) struct Octets {
    common: Arc<Common>,
    all: u32,
}

/// What a budget has in common with all that is granted of it.
#[derive(Debug)]
struct Common {
    /// Who waits here for a share of its own has its turn.
    blocks: Semaphore,
    /// Rung when some is given back, for who has a share and waits for more: behind all whose turn it is.
    freed: Notify,
}

/// Part of a budget of octets; dropped, it is given back.
#[derive(Debug)]
pub(super) struct Share {
    common: Arc<Common>,
    blocks: u32,
    octets: u64,
}

impl Octets {
    pub(super) fn new(octets: u64) -> Self {
        let all = blocks(octets).max(1);
        let blocks = Semaphore::new(usize::try_from(all).unwrap_or(Semaphore::MAX_PERMITS));
        Self { common: Arc::new(Common { blocks, freed: Notify::new() }), all }
    }

    /// Waits for so many octets; for all there are when that is more.
    pub(super) async fn take(&self, octets: u64) -> Share {
        let mut share = Share { common: Arc::clone(&self.common), blocks: 0, octets: 0 };
        let wanted = self.blocks(octets);
        // The semaphore is never closed.
        if let Ok(permit) = self.common.blocks.acquire_many(wanted).await {
            share.join(permit, octets);
        }
        share
    }

    /// Whether less than half of it is left.
    pub(super) fn is_scarce(&self) -> bool {
        self.common.blocks.available_permits() < usize::try_from(self.all / 2).unwrap_or(usize::MAX)
    }

    /// Makes a share larger, and waits for that; as large as all there is when more is asked for. Nobody waits behind it: who needs little has that
    /// meanwhile. Cancel-safe: dropped, the share is as it was.
    pub(super) async fn extend(&self, share: &mut Share, octets: u64) {
        loop {
            let freed = self.common.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if self.add(share, self.blocks(octets), octets) {
                return;
            }
            freed.await;
        }
    }

    /// How many octets are given out.
    pub(super) fn given_out(&self) -> u64 {
        let left = u32::try_from(self.common.blocks.available_permits()).unwrap_or(u32::MAX);
        octets_of(self.all.saturating_sub(left))
    }

    /// Makes a share larger when that can be had at once.
    pub(super) fn enlarge(&self, share: &mut Share, octets: u64) -> bool {
        self.add(share, blocks(octets), octets)
    }

    fn add(&self, share: &mut Share, wanted: u32, octets: u64) -> bool {
        let Ok(permit) = self.common.blocks.try_acquire_many(wanted.saturating_sub(share.blocks)) else { return false };
        share.join(permit, octets);
        true
    }

    /// For so many octets, and no more than there are.
    fn blocks(&self, octets: u64) -> u32 {
        blocks(octets).min(self.all)
    }
}

impl Share {
    /// So many may be used: never more than are held.
    pub(super) fn octets(&self) -> u64 {
        self.octets
    }

    /// Takes more of the same budget in.
    fn join(&mut self, permit: SemaphorePermit<'_>, octets: u64) {
        self.blocks = self.blocks.saturating_add(u32::try_from(permit.num_permits()).unwrap_or(u32::MAX));
        permit.forget();
        self.octets = octets.max(self.octets).min(octets_of(self.blocks));
    }

    /// Gives back what is held beyond so many octets.
    pub(super) fn shrink(&mut self, octets: u64) {
        let kept = self.blocks.min(blocks(octets));
        self.octets = self.octets.min(octets);
        self.give_back(self.blocks.saturating_sub(kept));
    }

    fn give_back(&mut self, blocks: u32) {
        if blocks > 0 {
            self.blocks = self.blocks.saturating_sub(blocks);
            self.common.blocks.add_permits(usize::try_from(blocks).unwrap_or_default());
            self.common.freed.notify_waiters();
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.give_back(self.blocks);
    }
}

fn octets_of(blocks: u32) -> u64 {
    u64::from(blocks).saturating_mul(BLOCK)
}

fn blocks(octets: u64) -> u32 {
    u32::try_from(octets.div_ceil(BLOCK)).unwrap_or(u32::MAX)
}

/// Room in the queue: so many messages, so many octets, the disk itself; and each identity's share of the first two.
#[derive(Debug)]
pub(super) struct Room {
    reserved: Mutex<Reserved>,
    /// Rung when some is given back, and when messages leave the queue.
    pub(super) freed: Notify,
    limit: Tally,
    /// The same with the reserves, which are for outcomes and reports.
    whole: Tally,
    share: Tally,
    /// Messages of one identity that may be received at once.
    receiving: u64,
    reserve: u64,
}

/// What messages that are being received have been granted. An identity is in the list while it has one: it grows no longer than they are many.
#[derive(Debug, Default)]
struct Reserved {
    all: Tally,
    by_identity: HashMap<Arc<str>, Tally>,
}

/// Room for one message that is being received; dropped, it is given back.
#[derive(Debug)]
pub(super) struct Place {
    room: Arc<Room>,
    identity: Arc<str>,
    octets: u64,
}

/// What is in the queue, what of it is the identity's who asks, and what the disk could still take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Level {
    pub(super) kept: Tally,
    pub(super) own: Tally,
    pub(super) free: u64,
    /// What is free within the store's file besides, for what fits there: given out again before the file grows.
    pub(super) within: u64,
}

/// Which limit is in the way, with figures for the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shortage {
    /// `queue.count`.
    Count { now: u64, limit: u64 },
    /// `queue.size`.
    Size { now: u64, more: u64, limit: u64 },
    /// The disk, of which a reserve is left alone.
    Disk { free: u64, coming: u64, reserve: u64 },
    /// `queue.receiving_per_identity`.
    Receiving { now: u64 },
    /// `queue.share_per_identity` of `queue.count`.
    ShareOfCount { now: u64, limit: u64 },
    /// `queue.share_per_identity` of `queue.size`.
    ShareOfSize { now: u64, more: u64, limit: u64 },
}

impl Shortage {
    /// Whether others still have room: it is the identity that has too much here.
    pub(super) fn is_of_the_identity(self) -> bool {
        match self {
            Self::Count { .. } | Self::Size { .. } | Self::Disk { .. } => false,
            Self::Receiving { .. } | Self::ShareOfCount { .. } | Self::ShareOfSize { .. } => true,
        }
    }
}

/// `1 message is`, `2 messages are`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Messages(pub(super) u64);

impl fmt::Display for Messages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("1 message is"),
            count => write!(f, "{count} messages are"),
        }
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Count { now, limit } => {
                write!(f, "{} kept or being received, and queue.count leaves intake {limit}", Messages(now))
            }
            Self::Size { now, more, limit } => write!(
                f,
                "{} are kept or being received, {} more are asked for, and queue.size leaves intake {}",
                Size(now),
                Size(more),
                Size(limit)
            ),
            Self::Disk { free, coming, reserve } => write!(
                f,
                "the disk of data_dir has {} free; {} are coming, and {} are left to outcomes and reports",
                Size(free),
                Size(coming),
                Size(reserve)
            ),
            Self::Receiving { now } => {
                write!(f, "of this identity, {} being received already (queue.receiving_per_identity)", Messages(now))
            }
            Self::ShareOfCount { now, limit } => write!(
                f,
                "of this identity, {} kept or being received, and queue.share_per_identity allows {limit}",
                Messages(now)
            ),
            Self::ShareOfSize { now, more, limit } => write!(
                f,
                "{} of this identity are kept or being received, {} more are asked for, and queue.share_per_identity allows {}",
                Size(now),
                Size(more),
                Size(limit)
            ),
        }
    }
}

impl Room {
    pub(super) fn new(settings: &QueueSettings) -> Self {
        let limit = Tally {
            count: settings.count.saturating_sub(settings.reserve_count),
            octets: settings.size.saturating_sub(settings.reserve_size),
        };
        // The whole is no share: then only the queue's own limits count.
        let of = |all: u64| match settings.share_per_identity {
            share @ ..100 => u64::try_from(u128::from(all) * u128::from(share) / 100).unwrap_or(u64::MAX),
            _ => u64::MAX,
        };
        Self {
            reserved: Mutex::default(),
            freed: Notify::new(),
            limit,
            whole: Tally { count: settings.count, octets: settings.size },
            share: Tally { count: of(limit.count).max(1), octets: of(limit.octets) },
            receiving: settings.receiving_per_identity,
            reserve: settings.reserve_size,
        }
    }

    /// What one identity may have.
    pub(super) fn share(&self) -> Tally {
        self.share
    }

    fn reserved(&self) -> MutexGuard<'_, Reserved> {
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a message of so many octets, if there is room.
    pub(super) fn place(self: &Arc<Self>, identity: &Arc<str>, octets: u64, level: Level) -> Result<Place, Shortage> {
        let mut reserved = self.reserved();
        self.count(&reserved, identity, level)?;
        self.size(&reserved, identity, octets, level)?;
        reserved.all.add(octets);
        reserved.by_identity.entry(Arc::clone(identity)).or_default().add(octets);
        Ok(Place { room: Arc::clone(self), identity: Arc::clone(identity), octets })
    }

    /// Whether a message of so many octets of somebody who has nothing here would have a place.
    pub(super) fn fits(&self, octets: u64, level: Level) -> Result<(), Shortage> {
        let reserved = self.reserved();
        self.count(&reserved, NOBODY, level)?;
        self.size(&reserved, NOBODY, octets, level)
    }

    /// How large such a message may be at most.
    pub(super) fn most(&self, level: Level) -> u64 {
        let coming = self.reserved().all.octets;
        let room = level.free.saturating_sub(self.reserve).saturating_add(level.within);
        let kept = level.kept.octets.saturating_add(coming);
        room.saturating_sub(coming).min(self.limit.octets.saturating_sub(kept))
    }

    /// Whether a report of so many octets may be kept on an identity's account. A report is asked for by nobody, so beyond the share there is a
    /// quarter of it more; but what nobody takes must not fill the queue, nor the disk.
    pub(super) fn report(&self, octets: u64, level: Level) -> Result<(), Shortage> {
        let beyond = |share: u64| share.saturating_add(share / 4);
        let (own, share) = (level.own, Tally { count: beyond(self.share.count), octets: beyond(self.share.octets) });
        // The message that it is about counts still, and mostly goes with this.
        if own.count > share.count {
            return Err(Shortage::ShareOfCount { now: own.count, limit: share.count });
        }
        if own.octets.saturating_add(octets) > share.octets {
            return Err(Shortage::ShareOfSize { now: own.octets, more: octets, limit: share.octets });
        }
        if level.kept.count > self.whole.count {
            return Err(Shortage::Count { now: level.kept.count, limit: self.whole.count });
        }
        if level.kept.octets.saturating_add(octets) > self.whole.octets {
            return Err(Shortage::Size { now: level.kept.octets, more: octets, limit: self.whole.octets });
        }
        Ok(())
    }

    /// Whether one message more may be here.
    fn count(&self, reserved: &Reserved, identity: &str, level: Level) -> Result<(), Shortage> {
        let receiving = reserved.of(identity).count;
        let own = level.own.count.saturating_add(receiving);
        if identity != NOBODY && receiving >= self.receiving {
            return Err(Shortage::Receiving { now: receiving });
        }
        if identity != NOBODY && own >= self.share.count {
            return Err(Shortage::ShareOfCount { now: own, limit: self.share.count });
        }
        let all = level.kept.count.saturating_add(reserved.all.count);
        if all >= self.limit.count {
            return Err(Shortage::Count { now: all, limit: self.limit.count });
        }
        Ok(())
    }

    /// Whether so many octets more may be here.
    fn size(&self, reserved: &Reserved, identity: &str, more: u64, level: Level) -> Result<(), Shortage> {
        let own = level.own.octets.saturating_add(reserved.of(identity).octets);
        if identity != NOBODY && own.saturating_add(more) > self.share.octets {
            return Err(Shortage::ShareOfSize { now: own, more, limit: self.share.octets });
        }
        let all = level.kept.octets.saturating_add(reserved.all.octets);
        if all.saturating_add(more) > self.limit.octets {
            return Err(Shortage::Size { now: all, more, limit: self.limit.octets });
        }
        let coming = reserved.all.octets.saturating_add(more);
        // The reserve is of the disk itself: what is free within the file may not hold what an outcome brings.
        let room = level.free.checked_sub(self.reserve).map(|room| room.saturating_add(level.within));
        if room.is_none_or(|room| coming > room) {
            return Err(Shortage::Disk { free: level.free, coming, reserve: self.reserve });
        }
        Ok(())
    }
}

impl Reserved {
    fn of(&self, identity: &str) -> Tally {
        self.by_identity.get(identity).copied().unwrap_or_default()
    }
}

impl Place {
    /// How many octets it is for.
    pub(super) fn octets(&self) -> u64 {
        self.octets
    }

    /// Whose message it is for.
    pub(super) fn identity(&self) -> Arc<str> {
        Arc::clone(&self.identity)
    }

    /// Makes it a place for `octets`, if there is room.
    pub(super) fn enlarge(&mut self, octets: u64, level: Level) -> Result<(), Shortage> {
        let mut reserved = self.room.reserved();
        let more = octets.saturating_sub(self.octets);
        self.room.size(&reserved, &self.identity, more, level)?;
        reserved.all.octets = reserved.all.octets.saturating_add(more);
        if let Some(own) = reserved.by_identity.get_mut(&self.identity) {
            own.octets = own.octets.saturating_add(more);
        }
        self.octets = self.octets.saturating_add(more);
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut reserved = self.room.reserved();
        reserved.all.subtract(self.octets);
        if let Some(own) = reserved.by_identity.get_mut(&self.identity) {
            own.subtract(self.octets);
            if own.count == 0 {
                reserved.by_identity.remove(&self.identity);
            }
        }
        drop(reserved);
        self.room.freed.notify_waiters();
    }
}

/// All that a message being received holds of the budgets.
#[derive(Debug)]
pub(super) struct Granted {
    pub(super) memory: Share,
    pub(super) place: Place,
    /// Octets of both that are the envelope's.
    pub(super) envelope: u64,
}

/// The budgets of a queue.
#[derive(Debug)]
pub(super) struct Budgets {
    pub(super) memory: Octets,
    pub(super) backlog: Octets,
    pub(super) room: Arc<Room>,
}

impl Budgets {
    pub(super) fn new(settings: &QueueSettings) -> Self {
        let least = u64::try_from(GRANTED_MEMORY).unwrap_or(u64::MAX);
        Self {
            memory: Octets::new(settings.memory.max(least)),
            backlog: Octets::new(settings.backlog),
            room: Arc::new(Room::new(settings)),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const NOTHING: Tally = Tally { count: 0, octets: 0 };
    const NOTHING_KEPT: Level = Level { kept: NOTHING, own: NOTHING, free: 1 << 40, within: 0 };

    fn settings(count: u64, size: u64) -> QueueSettings {
        QueueSettings {
            count,
            size,
            reserve_count: 1,
            reserve_size: 100,
            share_per_identity: 100,
            ..QueueSettings::new("/q")
        }
    }

    fn room(count: u64, size: u64) -> Arc<Room> {
        Arc::new(Room::new(&settings(count, size)))
    }

    fn identity(name: &str) -> Arc<str> {
        name.into()
    }

    #[test]
    fn the_reserve_is_not_for_intake() {
        let (room, alice) = (room(3, 1100), identity("alice"));
        let place = |octets| room.place(&alice, octets, NOTHING_KEPT);
        assert!(place(1001).is_err(), "100 of 1100 are reserved");
        let first = place(500).unwrap();
        let _second = place(500).unwrap();
        assert!(place(0).is_err(), "one of three is reserved");
        drop(first);
        assert!(place(500).is_ok());
    }

    #[test]
    fn the_disk_is_part_of_the_room() {
        let (room, alice) = (room(10, 1 << 30), identity("alice"));
        let level = Level { free: 1000, ..NOTHING_KEPT };
        let mut place = room.place(&alice, 800, level).unwrap();
        assert_eq!(
            room.place(&alice, 200, level).unwrap_err(),
            Shortage::Disk { free: 1000, coming: 1000, reserve: 100 }
        );
        let roomy = |free| Level { free, within: 5000, ..NOTHING_KEPT };
        assert!(room.place(&alice, 200, roomy(100)).is_ok(), "within the file there is room");
        assert!(room.place(&alice, 200, roomy(99)).is_err(), "but the reserve is of the disk");
        assert_eq!(
            (room.most(level), room.fits(100, level).is_ok(), room.fits(101, level).is_ok()),
            (100, true, false)
        );
        assert!(place.enlarge(901, level).is_err());
        assert!(place.enlarge(900, level).is_ok());
    }

    #[test]
    fn an_identity_that_has_its_share_keeps_nobody_else_out() {
        let settings = QueueSettings { share_per_identity: 50, receiving_per_identity: 2, ..settings(101, 2100) };
        let room = Arc::new(Room::new(&settings));
        let (alice, bob) = (identity("alice"), identity("bob"));
        let of_alice =
            Level { kept: Tally { count: 3, octets: 300 }, own: Tally { count: 3, octets: 300 }, ..NOTHING_KEPT };
        // What is kept and what is being received count together.
        let first = room.place(&alice, 600, of_alice).unwrap();
        let refused = room.place(&alice, 101, of_alice).unwrap_err();
        assert_eq!(refused, Shortage::ShareOfSize { now: 900, more: 101, limit: 1000 });
        assert!(refused.is_of_the_identity());
        let mut second = room.place(&alice, 50, of_alice).unwrap();
        assert_eq!(room.place(&alice, 0, of_alice).unwrap_err(), Shortage::Receiving { now: 2 });
        assert!(second.enlarge(101, of_alice).is_err(), "nor by growing");
        let of_bob = Level { own: NOTHING, ..of_alice };
        let other = room.place(&bob, 1000, of_bob).unwrap();
        drop((first, second, other));
        assert!(room.reserved().by_identity.is_empty(), "nothing is left of who is gone");
        let many = Level { own: Tally { count: 50, octets: 0 }, ..NOTHING_KEPT };
        assert_eq!(room.place(&alice, 0, many).unwrap_err(), Shortage::ShareOfCount { now: 50, limit: 50 });
    }

    #[test]
    fn a_report_has_room_beyond_the_share_but_not_without_end() {
        let settings = QueueSettings { share_per_identity: 40, ..settings(101, 1100) };
        let room = Room::new(&settings);
        let level = |own: (u64, u64), kept: (u64, u64)| {
            let [own, kept] = [own, kept].map(|(count, octets)| Tally { count, octets });
            Level { own, kept, ..NOTHING_KEPT }
        };
        for (level, octets, refused) in [
            (level((40, 400), (40, 400)), 100, None),
            (level((40, 400), (40, 400)), 101, Some(Shortage::ShareOfSize { now: 400, more: 101, limit: 500 })),
            (level((50, 0), (50, 0)), 1, None),
            (level((51, 0), (51, 0)), 1, Some(Shortage::ShareOfCount { now: 51, limit: 50 })),
            (level((1, 0), (101, 1000)), 100, None),
            (level((1, 0), (102, 1000)), 0, Some(Shortage::Count { now: 102, limit: 101 })),
            (level((1, 0), (101, 1000)), 101, Some(Shortage::Size { now: 1000, more: 101, limit: 1100 })),
        ] {
            assert_eq!(room.report(octets, level).err(), refused, "{level:?} {octets}");
        }
    }

    #[test]
    fn a_share_grows_only_while_there_is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let octets = Octets::new(10 * BLOCK);
            let mut share = octets.take(4 * BLOCK).await;
            let other = octets.take(5 * BLOCK).await;
            assert!(octets.enlarge(&mut share, 5 * BLOCK));
            assert!(!octets.enlarge(&mut share, 6 * BLOCK));
            drop(other);
            assert!(octets.enlarge(&mut share, 10 * BLOCK));
            drop(share);
            drop(octets.take(u64::MAX).await);
        });
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_to_grow_keeps_nobody_waiting_who_needs_little() {
        let octets = Octets::new(10 * BLOCK);
        let (mut long, other) = (octets.take(BLOCK).await, octets.take(6 * BLOCK).await);
        let mut growing = Box::pin(octets.extend(&mut long, 8 * BLOCK));
        assert!(futures_util::poll!(&mut growing).is_pending());
        let small = octets.take(BLOCK).now_or_never().expect("there is room for it");
        drop(small);
        assert!(futures_util::poll!(&mut growing).is_pending());
        drop(other);
        growing.await;
        assert_eq!((long.octets(), octets.given_out()), (8 * BLOCK, 8 * BLOCK));
        long.shrink(2 * BLOCK);
        assert_eq!((long.octets(), octets.given_out()), (2 * BLOCK, 2 * BLOCK));
        drop(long);
        assert_eq!(octets.given_out(), 0);
    }

    #[tokio::test]
    async fn a_share_says_no_more_than_it_holds() {
        let octets = Octets::new(10 * BLOCK);
        let mut share = octets.take(4 * BLOCK).await;
        octets.extend(&mut share, 20 * BLOCK).await;
        assert_eq!(share.octets(), 10 * BLOCK);
        share.shrink(15 * BLOCK);
        assert_eq!((share.octets(), octets.given_out()), (10 * BLOCK, 10 * BLOCK));
        drop(share);
        assert_eq!(octets.take(20 * BLOCK).await.octets(), 10 * BLOCK);
    }
}
