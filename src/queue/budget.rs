//! Three budgets, granted before `354` and given back when dropped: memory for bodies, the writer's backlog, room in the queue.
//!
//! Who is not granted one in time hears "come again" (`QueueError::Full`); nobody waits without end. Of the room and of the memory each identity has a
//! share, so that one can't keep the others out; who has used it up hears so at once (`QueueError::Share`), of memory when its identity's other
//! messages have given nothing back in time.
//!
//! A transaction that is open holds memory, too, for its recipients ([`EnvelopeRoom`]), for as long as its client likes: so all of them together hold half
//! of it at the most, and one identity's half of its share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::octets::{Octets, Share};
use super::settings::{GRANTED_MEMORY, QueueSettings};
use super::shortage::Shortage;
use super::store::Tally;

mod envelopes;
mod line;

pub use envelopes::EnvelopeRoom;
pub(super) use line::InLine;

/// Whose messages have no share: what another queue had was let in there.
pub(super) const NOBODY: &str = "";

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
    /// Octets of memory that its messages may hold which are being received.
    memory_share: u64,
    /// Octets of memory that all open transactions may hold together; and of one identity's, where it has more than one.
    envelope_limit: u64,
    envelope_share: u64,
    /// `memory_share` before bodies are written to files instead: the rest is left to messages that begin, and to headers.
    body_share: u64,
    /// Messages of one identity that may be received at once.
    receiving: u64,
    reserve: u64,
}

/// What messages that are being received have been granted. An identity is in the list while it has one: it grows no longer than they are many.
#[derive(Debug, Default)]
struct Reserved {
    all: Tally,
    /// Octets of memory of all open transactions.
    envelopes: u64,
    by_identity: HashMap<Arc<str>, Own>,
    /// Who waits for an identity's share of memory; while somebody does.
    lines: HashMap<Arc<str>, line::Line>,
}

/// What one identity's have.
#[derive(Clone, Copy, Debug, Default)]
struct Own {
    room: Tally,
    /// Octets of memory, those of envelopes among them.
    memory: u64,
    /// Octets of memory of what its open transactions hold of their recipients.
    envelopes: u64,
}

/// Room for one message that is being received, and what it holds of its identity's share of memory; dropped, both are given back.
#[derive(Debug)]
pub(super) struct Place {
    room: Arc<Room>,
    identity: Arc<str>,
    octets: u64,
    memory: u64,
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

impl Room {
    pub(super) fn new(settings: &QueueSettings) -> Self {
        let limit = Tally {
            count: settings.count.saturating_sub(settings.reserve_count),
            octets: settings.size.saturating_sub(settings.reserve_size),
        };
        // The whole is no share: then only the queue's own limits count.
        let part = |all: u64, share: u64| match share {
            share @ ..100 => u64::try_from(u128::from(all) * u128::from(share) / 100).unwrap_or(u64::MAX),
            _ => u64::MAX,
        };
        let of = |all: u64| part(all, settings.share_per_identity);
        let memory_share = part(settings.memory, settings.memory_share_per_identity);
        Self {
            reserved: Mutex::default(),
            freed: Notify::new(),
            limit,
            whole: Tally { count: settings.count, octets: settings.size },
            share: Tally { count: of(limit.count).max(1), octets: of(limit.octets) },
            memory_share,
            envelope_limit: settings.memory / 2,
            envelope_share: memory_share / 2,
            body_share: memory_share - memory_share / 4,
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

    /// A place for a message of so many octets that begins with so much memory, if there is room.
    pub(super) fn place(
        self: &Arc<Self>,
        identity: &Arc<str>,
        octets: u64,
        memory: u64,
        level: Level,
    ) -> Result<Place, Shortage> {
        let mut reserved = self.reserved();
        self.count(&reserved, identity, level)?;
        self.size(&reserved, identity, octets, level)?;
        let own = reserved.of(identity);
        Self::memory(own, own.room.count, identity, memory, self.memory_share)?;
        reserved.all.add(octets);
        let own = reserved.by_identity.entry(Arc::clone(identity)).or_default();
        own.room.add(octets);
        own.memory = own.memory.saturating_add(memory);
        Ok(Place { room: Arc::clone(self), identity: Arc::clone(identity), octets, memory })
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

    /// Whether a message of an identity may hold so much more memory beside so many others of it. The only one may hold what it needs: how much that is,
    /// other limits say.
    fn memory(own: Own, others: u64, identity: &str, more: u64, limit: u64) -> Result<(), Shortage> {
        if identity != NOBODY && others > 0 && own.memory.saturating_add(more) > limit {
            return Err(Shortage::ShareOfMemory { now: own.memory, more, limit });
        }
        Ok(())
    }

    /// Whether one message more may be here.
    fn count(&self, reserved: &Reserved, identity: &str, level: Level) -> Result<(), Shortage> {
        let receiving = reserved.of(identity).room.count;
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
        let own = level.own.octets.saturating_add(reserved.of(identity).room.octets);
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
    fn of(&self, identity: &str) -> Own {
        self.by_identity.get(identity).copied().unwrap_or_default()
    }

    /// Of who has nothing here any more nothing is left.
    fn forget(&mut self, identity: &str) {
        if self.by_identity.get(identity).is_some_and(|own| own.room.count == 0 && own.envelopes == 0) {
            self.by_identity.remove(identity);
        }
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
            own.room.octets = own.room.octets.saturating_add(more);
        }
        self.octets = self.octets.saturating_add(more);
        Ok(())
    }

    /// Counts `memory` octets as held in all, if its identity may have them within `limit` and `take` gets them.
    fn hold(&mut self, memory: u64, limit: u64, take: impl FnOnce() -> bool) -> Result<bool, Shortage> {
        let more = memory.saturating_sub(self.memory);
        let mut reserved = self.room.reserved();
        let own = reserved.by_identity.entry(Arc::clone(&self.identity)).or_default();
        Room::memory(*own, own.room.count.saturating_sub(1), &self.identity, more, limit)?;
        if !take() {
            return Ok(false);
        }
        own.memory = own.memory.saturating_add(more);
        self.memory = self.memory.saturating_add(more);
        Ok(true)
    }

    /// No more than so many octets of memory are held.
    fn shrink(&mut self, memory: u64) {
        let less = self.memory.saturating_sub(memory);
        if less == 0 {
            return;
        }
        if let Some(own) = self.room.reserved().by_identity.get_mut(&self.identity) {
            own.memory = own.memory.saturating_sub(less);
        }
        self.memory = self.memory.saturating_sub(less);
        // Another of its identity's may begin now.
        self.room.freed.notify_waiters();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut reserved = self.room.reserved();
        reserved.all.subtract(self.octets);
        if let Some(own) = reserved.by_identity.get_mut(&self.identity) {
            own.room.subtract(self.octets);
            own.memory = own.memory.saturating_sub(self.memory);
        }
        reserved.forget(&self.identity);
        drop(reserved);
        self.room.freed.notify_waiters();
    }
}

/// All that a message being received holds of the budgets.
#[derive(Debug)]
pub(super) struct Granted {
    /// Given back first: who waits for memory looks at both when memory comes back.
    pub(super) place: Place,
    pub(super) memory: Share,
    /// Octets of both that are the envelope's.
    pub(super) envelope: u64,
}

impl Granted {
    /// Makes its memory as large as this, for its body, when that can be had at once, of its identity's share too.
    pub(super) fn enlarge(&mut self, memory: &Octets, octets: u64) -> bool {
        let limit = self.place.room.body_share;
        self.place.hold(octets, limit, || memory.enlarge(&mut self.memory, octets)) == Ok(true)
    }

    /// Waits for that, for its header; as large as all there is when more is asked for. `short` says so where it waits for its identity's share. Nobody waits
    /// behind it: who needs little has that meanwhile. Cancel-safe: dropped, all is as it was.
    pub(super) async fn extend(&mut self, memory: &Octets, octets: u64, short: &mut Option<Shortage>) {
        loop {
            let freed = memory.freed().notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            let (all, limit) = (octets.min(memory.all()), self.place.room.memory_share);
            match self.place.hold(all, limit, || memory.extend(&mut self.memory, octets)) {
                Ok(true) => return,
                Ok(false) => *short = None,
                Err(shortage) => *short = Some(shortage),
            }
            freed.await;
        }
    }

    /// Gives back what is held of memory beyond so many octets.
    pub(super) fn shrink(&mut self, octets: u64) {
        self.place.shrink(octets);
        self.memory.shrink(octets);
    }
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
    use crate::queue::octets::BLOCK;

    const NOTHING: Tally = Tally { count: 0, octets: 0 };
    pub(super) const NOTHING_KEPT: Level = Level { kept: NOTHING, own: NOTHING, free: 1 << 40, within: 0 };

    pub(super) fn settings(count: u64, size: u64) -> QueueSettings {
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

    pub(super) fn identity(name: &str) -> Arc<str> {
        name.into()
    }

    #[test]
    fn the_reserve_is_not_for_intake() {
        let (room, alice) = (room(3, 1100), identity("alice"));
        let place = |octets| room.place(&alice, octets, 0, NOTHING_KEPT);
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
        let mut place = room.place(&alice, 800, 0, level).unwrap();
        assert_eq!(
            room.place(&alice, 200, 0, level).unwrap_err(),
            Shortage::Disk { free: 1000, coming: 1000, reserve: 100 }
        );
        let roomy = |free| Level { free, within: 5000, ..NOTHING_KEPT };
        assert!(room.place(&alice, 200, 0, roomy(100)).is_ok(), "within the file there is room");
        assert!(room.place(&alice, 200, 0, roomy(99)).is_err(), "but the reserve is of the disk");
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
        let first = room.place(&alice, 600, 0, of_alice).unwrap();
        let refused = room.place(&alice, 101, 0, of_alice).unwrap_err();
        assert_eq!(refused, Shortage::ShareOfSize { now: 900, more: 101, limit: 1000 });
        assert!(refused.is_of_the_identity());
        let mut second = room.place(&alice, 50, 0, of_alice).unwrap();
        assert_eq!(room.place(&alice, 0, 0, of_alice).unwrap_err(), Shortage::Receiving { now: 2 });
        assert!(second.enlarge(101, of_alice).is_err(), "nor by growing");
        let of_bob = Level { own: NOTHING, ..of_alice };
        let other = room.place(&bob, 1000, 0, of_bob).unwrap();
        drop((first, second, other));
        assert!(room.reserved().by_identity.is_empty(), "nothing is left of who is gone");
        let many = Level { own: Tally { count: 50, octets: 0 }, ..NOTHING_KEPT };
        assert_eq!(room.place(&alice, 0, 0, many).unwrap_err(), Shortage::ShareOfCount { now: 50, limit: 50 });
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

    /// One that is being received with so much memory, of a queue with room for all.
    pub(super) async fn granted(room: &Arc<Room>, memory: &Octets, identity: &str, octets: u64) -> Granted {
        let place = room.place(&identity.into(), 0, octets, NOTHING_KEPT).unwrap();
        Granted { place, memory: memory.take(octets).await, envelope: 0 }
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_to_grow_keeps_nobody_waiting_who_needs_little() {
        let (room, memory) = (room(100, 1 << 30), Octets::new(10 * BLOCK));
        let mut long = granted(&room, &memory, "alice", BLOCK).await;
        let (other, mut short) = (memory.take(6 * BLOCK).await, None);
        let mut growing = Box::pin(long.extend(&memory, 8 * BLOCK, &mut short));
        assert!(futures_util::poll!(&mut growing).is_pending());
        let small = memory.take(BLOCK).now_or_never().expect("there is room for it");
        drop(small);
        assert!(futures_util::poll!(&mut growing).is_pending());
        drop(other);
        growing.await;
        assert_eq!((long.memory.octets(), memory.given_out(), short), (8 * BLOCK, 8 * BLOCK, None));
        long.shrink(2 * BLOCK);
        assert_eq!((long.memory.octets(), memory.given_out()), (2 * BLOCK, 2 * BLOCK));
        drop(long);
        assert_eq!(memory.given_out(), 0);
    }

    #[tokio::test]
    async fn an_identity_has_its_share_of_memory_and_no_more() {
        let settings = QueueSettings { memory: 40 * BLOCK, memory_share_per_identity: 20, ..settings(100, 1 << 30) };
        let (room, memory) = (Arc::new(Room::new(&settings)), Octets::new(40 * BLOCK));
        let mut only = granted(&room, &memory, "alice", BLOCK).await;
        assert!(only.enlarge(&memory, 20 * BLOCK), "a message alone has what it needs");
        only.shrink(2 * BLOCK);
        let mut second = granted(&room, &memory, "alice", 2 * BLOCK).await;
        // Of eight blocks bodies leave two.
        assert!(!second.enlarge(&memory, 5 * BLOCK) && second.enlarge(&memory, 4 * BLOCK));
        let too_much = |octets| room.place(&identity("alice"), 0, octets, NOTHING_KEPT).err();
        let refused = Shortage::ShareOfMemory { now: 6 * BLOCK, more: 3 * BLOCK, limit: 8 * BLOCK };
        assert_eq!((too_much(3 * BLOCK), too_much(2 * BLOCK)), (Some(refused), None));
        assert!(refused.is_of_the_identity());
        let mut other = granted(&room, &memory, "bob", 8 * BLOCK).await;
        assert!(other.enlarge(&memory, 30 * BLOCK), "others have theirs");
        // A header waits for the others of its identity.
        let mut short = None;
        let mut growing = Box::pin(second.extend(&memory, 7 * BLOCK, &mut short));
        assert!(futures_util::poll!(&mut growing).is_pending());
        drop(only);
        assert!(futures_util::poll!(&mut growing).is_ready());
        drop(growing);
        assert_eq!(short, Some(Shortage::ShareOfMemory { now: 6 * BLOCK, more: 3 * BLOCK, limit: 8 * BLOCK }));
        drop((second, other));
        assert!(room.reserved().by_identity.is_empty());
        assert_eq!(memory.given_out(), 0);
    }
}
