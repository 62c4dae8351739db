//! Three budgets, granted before `354` and given back when dropped: memory for bodies, the writer's backlog, room in the queue.
//!
//! Who is not granted one in time hears "come again" (`QueueError::Full`); nobody waits without end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::settings::{GRANTED_MEMORY, QueueSettings};
use super::store::Tally;

/// Memory and backlog are counted in blocks of this many octets.
const BLOCK: u64 = 1024;

/// A budget of octets.
#[derive(Debug)]
pub(super) struct Octets {
    blocks: Arc<Semaphore>,
    all: u32,
}

/// Part of a budget of octets; dropped, it is given back.
#[derive(Debug)]
pub(super) struct Share {
    permit: Option<OwnedSemaphorePermit>,
    octets: u64,
}

impl Octets {
    pub(super) fn new(octets: u64) -> Self {
        let all = blocks(octets).max(1);
        Self { blocks: Arc::new(Semaphore::new(usize::try_from(all).unwrap_or(Semaphore::MAX_PERMITS))), all }
    }

    /// Waits for so many octets; for all there are when that is more.
    pub(super) async fn take(&self, octets: u64) -> Share {
        let permit = Arc::clone(&self.blocks).acquire_many_owned(blocks(octets).min(self.all)).await;
        // The semaphore is never closed.
        Share { permit: permit.ok(), octets }
    }

    /// Makes a share larger when that can be had at once.
    pub(super) fn enlarge(&self, share: &mut Share, octets: u64) -> bool {
        let more = blocks(octets).saturating_sub(blocks(share.octets));
        let Ok(permit) = Arc::clone(&self.blocks).try_acquire_many_owned(more) else { return false };
        match &mut share.permit {
            Some(held) => held.merge(permit),
            None => share.permit = Some(permit),
        }
        share.octets = octets;
        true
    }
}

impl Share {
    pub(super) fn octets(&self) -> u64 {
        self.octets
    }
}

fn blocks(octets: u64) -> u32 {
    u32::try_from(octets.div_ceil(BLOCK)).unwrap_or(u32::MAX)
}

/// Room in the queue: so many messages, so many octets, and the disk itself.
#[derive(Debug)]
pub(super) struct Room {
    reserved: Mutex<Tally>,
    /// Rung when some is given back, and when messages leave the queue.
    pub(super) freed: Notify,
    limit: Tally,
    reserve: u64,
}

/// Room for one message that is being received; dropped, it is given back.
#[derive(Debug)]
pub(super) struct Place {
    room: Arc<Room>,
    octets: u64,
}

/// What is in the queue, and what the disk could still take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Level {
    pub(super) kept: Tally,
    pub(super) free: u64,
}

impl Room {
    pub(super) fn new(settings: &QueueSettings) -> Self {
        let limit = Tally {
            count: settings.count.saturating_sub(settings.reserve_count),
            octets: settings.size.saturating_sub(settings.reserve_size),
        };
        Self { reserved: Mutex::default(), freed: Notify::new(), limit, reserve: settings.reserve_size }
    }

    fn reserved(&self) -> MutexGuard<'_, Tally> {
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a message of so many octets, if there is room.
    pub(super) fn place(self: &Arc<Self>, octets: u64, level: Level) -> Option<Place> {
        let mut reserved = self.reserved();
        let count = level.kept.count.saturating_add(reserved.count);
        if count >= self.limit.count || !self.has(octets, &reserved, level) {
            return None;
        }
        reserved.count += 1;
        reserved.octets = reserved.octets.saturating_add(octets);
        Some(Place { room: Arc::clone(self), octets })
    }

    fn has(&self, octets: u64, reserved: &Tally, level: Level) -> bool {
        let coming = reserved.octets.saturating_add(octets);
        level.kept.octets.saturating_add(coming) <= self.limit.octets
            && coming.saturating_add(self.reserve) <= level.free
    }
}

impl Place {
    /// How many octets it is for.
    pub(super) fn octets(&self) -> u64 {
        self.octets
    }

    /// Makes it a place for `octets`, if there is room.
    pub(super) fn enlarge(&mut self, octets: u64, level: Level) -> bool {
        let mut reserved = self.room.reserved();
        let more = octets.saturating_sub(self.octets);
        let granted = self.room.has(more, &reserved, level);
        if granted {
            reserved.octets = reserved.octets.saturating_add(more);
            self.octets = self.octets.saturating_add(more);
        }
        granted
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut reserved = self.room.reserved();
        reserved.count = reserved.count.saturating_sub(1);
        reserved.octets = reserved.octets.saturating_sub(self.octets);
        drop(reserved);
        self.room.freed.notify_waiters();
    }
}

/// All that a message being received holds of the budgets.
#[derive(Debug)]
pub(super) struct Granted {
    pub(super) memory: Share,
    pub(super) place: Place,
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
    use super::*;

    const NOTHING_KEPT: Level = Level { kept: Tally { count: 0, octets: 0 }, free: 1 << 40 };

    fn room(count: u64, size: u64) -> Arc<Room> {
        let settings = QueueSettings { count, size, reserve_count: 1, reserve_size: 100, ..QueueSettings::new("/q") };
        Arc::new(Room::new(&settings))
    }

    #[test]
    fn the_reserve_is_not_for_intake() {
        let room = room(3, 1100);
        assert!(room.place(1001, NOTHING_KEPT).is_none(), "100 of 1100 are reserved");
        let first = room.place(500, NOTHING_KEPT).unwrap();
        let _second = room.place(500, NOTHING_KEPT).unwrap();
        assert!(room.place(0, NOTHING_KEPT).is_none(), "one of three is reserved");
        drop(first);
        assert!(room.place(500, NOTHING_KEPT).is_some());
    }

    #[test]
    fn the_disk_is_part_of_the_room() {
        let room = room(10, 1 << 30);
        let level = Level { free: 1000, ..NOTHING_KEPT };
        let mut place = room.place(800, level).unwrap();
        assert!(room.place(200, level).is_none());
        assert!(!place.enlarge(901, level));
        assert!(place.enlarge(900, level));
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
}
