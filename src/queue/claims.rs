//! Who is trying what: claims with their fencing numbers and leases, in memory, because they end with the process.
//!
//! Pure: the time is an argument. Never: reads the store.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::store::Ticket;
use crate::mail::QueueId;
use crate::sys::MonoTime;

#[derive(Debug, Default)]
pub(super) struct Claims {
    last_fence: u64,
    held: HashMap<QueueId, Held>,
    /// Messages that were due and free when the store was last looked at.
    window: VecDeque<QueueId>,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    fence: u64,
    until: MonoTime,
    phase: Phase,
}

/// While an outcome is on its way to the disk, the lease can't run out: somebody else would start from a record that is about to change.
/// What is put off is tried by nobody: it waits for its upstreams, until then or until it is recalled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Trying,
    Concluding,
    PutOff,
}

impl Claims {
    /// Claims the next of the window that is free.
    pub(super) fn take(&mut self, now: MonoTime, lease: Duration) -> Option<Ticket> {
        while let Some(id) = self.window.pop_front() {
            if let Some(ticket) = self.take_one(id, now, lease) {
                return Some(ticket);
            }
        }
        None
    }

    /// Claims this one, if it is free.
    pub(super) fn take_one(&mut self, id: QueueId, now: MonoTime, lease: Duration) -> Option<Ticket> {
        if !self.is_free(id, now) {
            return None;
        }
        self.last_fence += 1;
        let fence = self.last_fence;
        self.held.insert(id, Held { fence, until: now.after(lease), phase: Phase::Trying });
        Some(Ticket { id, fence })
    }

    pub(super) fn refill(&mut self, window: VecDeque<QueueId>) {
        self.window = window;
    }

    /// Whether nobody has it, or somebody whose lease has run out.
    pub(super) fn is_free(&self, id: QueueId, now: MonoTime) -> bool {
        self.held.get(&id).is_none_or(|held| held.phase != Phase::Concluding && held.until <= now)
    }

    /// Whether an attempt at it is under way, as far as anybody knows.
    pub(super) fn is_tried(&self, id: QueueId, now: MonoTime) -> bool {
        !self.is_free(id, now) && self.held.get(&id).is_some_and(|held| held.phase != Phase::PutOff)
    }

    /// How long until the first lease runs out.
    pub(super) fn first_end(&self, now: MonoTime) -> Option<Duration> {
        self.held.values().filter(|held| held.until > now).map(|held| held.until.since(now)).min()
    }

    pub(super) fn renew(&mut self, ticket: Ticket, until: MonoTime) -> bool {
        self.of(ticket).map(|held| held.until = until).is_some()
    }

    /// Whether the ticket is the newest; its claim then stays until [`Self::end`] or [`Self::resume`].
    pub(super) fn conclude(&mut self, ticket: Ticket) -> bool {
        self.of(ticket).filter(|held| held.phase == Phase::Trying).map(|held| held.phase = Phase::Concluding).is_some()
    }

    /// What was to be recorded could not be.
    pub(super) fn resume(&mut self, ticket: Ticket) {
        if let Some(held) = self.of(ticket) {
            held.phase = Phase::Trying;
        }
    }

    pub(super) fn end(&mut self, ticket: Ticket) {
        if self.of(ticket).is_some() {
            self.held.remove(&ticket.id);
        }
    }

    /// The message is no more: nobody has a claim on it.
    pub(super) fn forget(&mut self, id: QueueId) {
        self.held.remove(&id);
    }

    /// Nobody is to try it until then.
    pub(super) fn put_off(&mut self, ticket: Ticket, until: MonoTime) {
        if let Some(held) = self.of(ticket).filter(|held| held.phase == Phase::Trying) {
            (held.until, held.phase) = (until, Phase::PutOff);
        }
    }

    /// What was put off may be tried now.
    pub(super) fn recall(&mut self) {
        self.held.retain(|_, held| held.phase != Phase::PutOff);
    }

    /// The same for one message.
    pub(super) fn recall_one(&mut self, id: QueueId) {
        if self.held.get(&id).is_some_and(|held| held.phase == Phase::PutOff) {
            self.held.remove(&id);
        }
    }

    /// How many are being tried.
    pub(super) fn count(&self) -> u64 {
        let tried = self.held.values().filter(|held| held.phase != Phase::PutOff);
        u64::try_from(tried.count()).unwrap_or(u64::MAX)
    }

    fn of(&mut self, ticket: Ticket) -> Option<&mut Held> {
        self.held.get_mut(&ticket.id).filter(|held| held.fence == ticket.fence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> MonoTime {
        MonoTime::from_start(Duration::from_secs(seconds))
    }

    fn one_due() -> (Claims, QueueId) {
        let id = QueueId::from_u128(1);
        let mut claims = Claims::default();
        claims.refill(VecDeque::from([id, id]));
        (claims, id)
    }

    #[test]
    fn a_claimed_message_is_not_given_twice() {
        let (mut claims, id) = one_due();
        assert_eq!(claims.take(at(0), LEASE).unwrap().id, id);
        assert_eq!(claims.take(at(9), LEASE), None);
    }

    #[test]
    fn a_lease_that_ran_out_gives_a_higher_number_and_the_old_one_records_nothing() {
        let (mut claims, _) = one_due();
        let old = claims.take(at(0), LEASE).unwrap();
        let new = claims.take(at(10), LEASE).unwrap();
        assert!(new.fence > old.fence);
        assert!(!claims.conclude(old) && !claims.renew(old, at(99)));
        assert!(claims.conclude(new));
    }

    #[test]
    fn a_lease_that_ran_out_still_records_while_nobody_else_has_claimed() {
        let (mut claims, _) = one_due();
        let ticket = claims.take(at(0), LEASE).unwrap();
        assert!(claims.is_free(ticket.id, at(60)));
        assert!(claims.conclude(ticket));
        assert!(!claims.is_free(ticket.id, at(60)), "not while it is being recorded");
        claims.resume(ticket);
        assert!(claims.is_free(ticket.id, at(60)));
    }

    #[test]
    fn what_is_put_off_is_free_at_its_time_or_when_recalled() {
        let (mut claims, id) = one_due();
        let ticket = claims.take(at(0), LEASE).unwrap();
        claims.put_off(ticket, at(30));
        assert_eq!((claims.count(), claims.is_free(id, at(29)), claims.is_free(id, at(30))), (0, false, true));
        assert!(!claims.is_tried(id, at(1)), "nobody tries it");
        assert_eq!(claims.first_end(at(0)), Some(Duration::from_secs(30)));
        claims.recall();
        assert!(claims.is_free(id, at(1)));
        let tried = claims.take_one(id, at(1), LEASE).unwrap();
        claims.recall();
        claims.recall_one(id);
        assert!(!claims.is_free(id, at(1)), "what is being tried is not taken away");
        assert!(claims.is_tried(id, at(1)));
        claims.put_off(tried, at(30));
        claims.recall_one(id);
        assert!(claims.is_free(id, at(1)));
    }

    #[test]
    fn a_renewed_lease_runs_from_then() {
        let (mut claims, id) = one_due();
        let ticket = claims.take(at(0), LEASE).unwrap();
        assert!(claims.renew(ticket, at(9).after(LEASE)));
        assert!(!claims.is_free(id, at(18)));
        assert_eq!(claims.first_end(at(18)), Some(Duration::from_secs(1)));
        assert!(claims.is_free(id, at(19)));
    }
}
