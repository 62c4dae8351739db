//! Whose turn it is: round-robin over the identities that have something due.
//!
//! The order itself is on the disk (see `index`): for each identity its messages by priority and due time, and for each identity the time at which
//! its first is due. Here stands only what has begun: who waits in the ring for a turn, how far each has come, and who wants to be looked at when.
//!
//! ```text
//! an identity                          in memory
//! has nothing due                      nothing: the clock reaches its head on the disk
//! has something due                    its name in the ring, of RING_MAX names at most
//! has claims, or claims given back     its count, its cursor, what was given back
//! ```
//!
//! Each identity has one turn in a round. When more have something due than the ring holds, those in the ring have one turn and go out, the next
//! come in from the disk, and behind the last the round begins anew: memory does not grow with the number of identities.
//!
//! Pure: the time is an argument. Never: reads the store; scans one identity's messages to find another's.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use crate::mail::QueueId;
use crate::sys::WallTime;

/// Identities that wait for their turn in memory; the others wait on the disk.
pub(super) const RING_MAX: usize = 1024;

/// Where a message stands among its identity's: by level, then by due time, then by age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// See `index`: the highest priority is 0.
    pub(super) level: u8,
    pub(super) due: WallTime,
    pub(super) id: QueueId,
}

/// Where an identity stands on the disk: when its first message is due.
type Head = (WallTime, Arc<str>);

#[derive(Debug, Default)]
pub(super) struct Turns {
    ring: VecDeque<Arc<str>>,
    holders: HashMap<Arc<str>, Holder>,
    /// Whoever's head is not behind this one has been brought into the ring.
    passed: Option<Head>,
    /// Whether heads behind `passed` are due and wait on the disk.
    more: bool,
    /// Whether somebody who may have something due is neither in the ring nor behind `passed`: when the ring is empty, all heads are looked at
    /// again.
    left_out: bool,
    /// When whoever has claims has something more due: its head says nothing of that.
    alarms: BTreeSet<Head>,
    /// The latest time that was seen; a clock that goes back begins everything anew.
    latest: Option<WallTime>,
}

#[derive(Debug, Default)]
struct Holder {
    waits: bool,
    /// Claims that count against the limit.
    trying: usize,
    /// Claims that keep this entry alive, those among them.
    held: usize,
    /// Of each level: up to here everything was claimed.
    passed: BTreeMap<u8, Place>,
    /// What was claimed and is free again.
    returned: BTreeSet<Place>,
    alarm: Option<WallTime>,
}

impl Turns {
    /// To be called before anything else is asked at a new time.
    pub(super) fn tick(&mut self, now: WallTime) {
        if self.latest.is_some_and(|latest| now < latest) {
            self.begin_anew();
        }
        self.latest = Some(now);
        while let Some(head) = self.alarms.first().filter(|(at, _)| *at <= now).cloned() {
            self.alarms.remove(&head);
            if let Some(holder) = self.holders.get_mut(&head.1) {
                holder.alarm = None;
            }
            self.push(&head.1);
        }
    }

    /// When somebody who has claims wants to be looked at.
    pub(super) fn next_alarm(&self) -> Option<WallTime> {
        self.alarms.first().map(|(at, _)| *at)
    }

    /// All of the disk is looked at again: what was seen of it may not be true any more.
    pub(super) fn begin_anew(&mut self) {
        self.passed = None;
        self.holders.values_mut().for_each(Holder::rewind);
        let waiting: Vec<Arc<str>> = self.holders.keys().cloned().collect();
        for identity in waiting {
            self.push(&identity);
        }
    }

    /// Behind which head the next ones are to be brought in; none from the first.
    pub(super) fn behind(&self) -> Option<(WallTime, &str)> {
        self.passed.as_ref().map(|(at, identity)| (*at, &**identity))
    }

    /// Brings an identity in whose head is due: false when there is no room for more.
    pub(super) fn bring(&mut self, at: WallTime, identity: &str) -> bool {
        self.more = self.ring.len() >= RING_MAX;
        if self.more {
            return false;
        }
        let identity: Arc<str> = match self.holders.get_key_value(identity) {
            Some((known, _)) => Arc::clone(known),
            None => identity.into(),
        };
        self.push(&identity);
        self.passed = Some((at, identity));
        true
    }

    /// All heads that are due have been brought in.
    pub(super) fn brought_all(&mut self) {
        self.more = false;
    }

    /// Whose turn it is, of those who have fewer than `limit` claims.
    pub(super) fn next(&mut self, limit: usize) -> Option<Arc<str>> {
        while let Some(identity) = self.ring.pop_front() {
            let Some(holder) = self.holders.get_mut(&identity) else { continue };
            holder.waits = false;
            // Who has its limit comes back when one of its claims ends.
            if holder.trying < limit {
                return Some(identity);
            }
        }
        None
    }

    /// Nobody is in the ring: whether all heads are to be looked at again, from the first.
    pub(super) fn next_round(&mut self) -> bool {
        let again = std::mem::take(&mut self.left_out);
        if again {
            self.passed = None;
        }
        again
    }

    /// The first message that was given back, is due, and is free.
    pub(super) fn first_returned(
        &mut self,
        identity: &str,
        now: WallTime,
        is_free: impl Fn(QueueId) -> bool,
    ) -> Option<Place> {
        let holder = self.holders.get_mut(identity)?;
        loop {
            let first = *holder.returned.iter().find(|place| place.due <= now)?;
            if is_free(first.id) {
                return Some(first);
            }
            // Somebody has it; it is given back once more when it is free.
            holder.returned.remove(&first);
        }
    }

    /// How far an identity has come on a level.
    pub(super) fn passed(&self, identity: &str, level: u8) -> Option<Place> {
        self.holders.get(identity)?.passed.get(&level).copied()
    }

    /// Up to here everything is claimed.
    pub(super) fn pass(&mut self, identity: &str, place: Place) {
        if let Some(holder) = self.holders.get_mut(identity) {
            holder.pass(place);
        }
    }

    /// It has nothing due but what is claimed; the next is due `later`, unless one that was given back is before.
    pub(super) fn nothing(&mut self, identity: &Arc<str>, later: Option<WallTime>) {
        let returned =
            self.holders.get(identity).and_then(|holder| holder.returned.iter().map(|place| place.due).min());
        if let Some(next) = later.into_iter().chain(returned).min() {
            self.wake(identity, next);
        }
        self.forget_idle(identity);
    }

    /// A message of this identity was claimed in its turn; it has its next turn behind all others.
    pub(super) fn took(&mut self, identity: &Arc<str>, place: Place) {
        let holder = self.holders.entry(Arc::clone(identity)).or_default();
        holder.returned.remove(&place);
        holder.pass(place);
        self.begin(identity);
        self.push(identity);
    }

    /// One claim more.
    pub(super) fn begin(&mut self, identity: &Arc<str>) {
        let holder = self.holders.entry(Arc::clone(identity)).or_default();
        holder.trying = holder.trying.saturating_add(1);
        holder.held = holder.held.saturating_add(1);
    }

    /// One that counts against the limit less; it is still claimed.
    pub(super) fn rest(&mut self, identity: &Arc<str>) {
        if let Some(holder) = self.holders.get_mut(identity) {
            holder.trying = holder.trying.saturating_sub(1);
        }
        self.push(identity);
    }

    /// Claimed, and not against the limit; again, since it was free.
    pub(super) fn hold(&mut self, identity: &Arc<str>) {
        let holder = self.holders.entry(Arc::clone(identity)).or_default();
        holder.held = holder.held.saturating_add(1);
    }

    /// One claim less, which does not count against the limit any more.
    pub(super) fn end(&mut self, identity: &Arc<str>) {
        if let Some(holder) = self.holders.get_mut(identity) {
            holder.held = holder.held.saturating_sub(1);
        }
        self.push(identity);
    }

    /// The same, and its message is where it was, for anybody. Where that is unknown, this identity's messages are looked at from the first.
    pub(super) fn give_back(&mut self, identity: &Arc<str>, place: Option<Place>) {
        if let Some(holder) = self.holders.get_mut(identity) {
            match place {
                Some(place) => drop(holder.returned.insert(place)),
                None => holder.rewind(),
            }
        }
        self.end(identity);
    }

    /// A message has come to stand there: a new one, or one whose time was changed.
    pub(super) fn came(&mut self, identity: &str, place: Place, now: WallTime) {
        if let Some((identity, holder)) = self.holders.get_key_value(identity) {
            let identity = Arc::clone(identity);
            if holder.passed.get(&place.level).is_some_and(|passed| place <= *passed)
                && let Some(holder) = self.holders.get_mut(&identity)
            {
                holder.returned.insert(place);
            }
            if place.due <= now {
                self.push(&identity);
            } else {
                self.wake(&identity, place.due);
            }
        } else if self.passed.as_ref().is_some_and(|(at, _)| place.due <= *at) {
            // Its head is behind nobody: it is not found from the disk in this round.
            self.push(&identity.into());
        }
    }

    fn push(&mut self, identity: &Arc<str>) {
        if self.holders.get(identity).is_some_and(|holder| holder.waits) {
            return;
        }
        // While others wait on the disk, nobody comes back before their round is over.
        if self.more || self.ring.len() >= RING_MAX {
            self.left_out = true;
            self.forget_idle(identity);
            return;
        }
        self.holders.entry(Arc::clone(identity)).or_default().waits = true;
        self.ring.push_back(Arc::clone(identity));
    }

    /// Who has no claims, and none that were given back, needs no alarm: its head on the disk is one.
    fn wake(&mut self, identity: &Arc<str>, at: WallTime) {
        let is_known = |holder: &&mut Holder| holder.held > 0 || !holder.returned.is_empty();
        let Some(holder) = self.holders.get_mut(identity).filter(is_known) else { return };
        if holder.alarm.is_some_and(|alarm| alarm <= at) {
            return;
        }
        if let Some(later) = holder.alarm.replace(at) {
            self.alarms.remove(&(later, Arc::clone(identity)));
        }
        self.alarms.insert((at, Arc::clone(identity)));
    }

    fn forget_idle(&mut self, identity: &Arc<str>) {
        let idle = |holder: &&Holder| !holder.waits && holder.held == 0 && holder.returned.is_empty();
        if let Some(alarm) = self.holders.get(identity).filter(idle).map(|holder| holder.alarm) {
            self.holders.remove(identity);
            if let Some(at) = alarm {
                self.alarms.remove(&(at, Arc::clone(identity)));
            }
        }
    }

    /// How many identities are in memory.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.holders.len()
    }
}

impl Holder {
    fn pass(&mut self, place: Place) {
        let passed = self.passed.entry(place.level).or_insert(place);
        *passed = (*passed).max(place);
    }

    fn rewind(&mut self) {
        self.passed.clear();
        self.returned.clear();
    }
}
