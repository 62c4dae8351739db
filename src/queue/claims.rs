//! Who is trying what: claims with their fencing numbers and leases, in memory, because they end with the process.
//!
//! | phase      | counts against its identity's limit | who else may have the message                             |
//! |------------|-------------------------------------|-----------------------------------------------------------|
//! | trying     | yes                                 | nobody until the lease runs out                           |
//! | over       | no: its connection is free          | nobody while somebody has what came of it in hand         |
//! |            |                                     | ([`Claims::over`]); then, until the lease runs out        |
//! | concluding | no                                  | nobody: the record is about to change                     |
//! | put off    | no                                  | nobody until then, or until it is recalled                |
//! | run out    | no                                  | anybody; until then the old number still records          |
//!
//! Pure: the time is an argument. Never: reads the store.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::store::Ticket;
use super::turns::{Place, Turns};
use crate::mail::QueueId;
use crate::sys::{MonoTime, WallTime};

#[derive(Debug, Default)]
pub(super) struct Claims {
    last_fence: u64,
    held: HashMap<QueueId, Held>,
    /// When each lease, and each putting off, ends.
    ends: BTreeSet<(MonoTime, QueueId)>,
    pub(super) turns: Turns,
}

#[derive(Clone, Debug)]
struct Held {
    fence: u64,
    until: MonoTime,
    phase: Phase,
    whose: Arc<str>,
    /// Where it stood when it was claimed, or stands since; nobody knows once the store was opened anew, which may have found it elsewhere.
    place: Option<Place>,
    outcome: Came,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Trying,
    Over,
    Concluding,
    PutOff,
    RunOut,
}

/// Where what came of an attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    /// Nowhere, as far as is known here.
    Nowhere,
    /// In somebody's hand.
    InHand,
    /// On the disk, though whoever brought it was told of a failure; and in his hand.
    OnDisk,
}

impl Claims {
    /// The store was opened anew: what was being committed when it failed may be there, and nobody was told where it stands.
    pub(super) fn begin_anew(&mut self) {
        self.held.values_mut().for_each(|held| held.place = None);
        self.turns.begin_anew();
    }

    /// Ends what has run out by now. To be called before anything is claimed.
    pub(super) fn tick(&mut self, now: MonoTime) {
        while let Some((_, id)) = self.ends.first().filter(|(until, _)| *until <= now).copied() {
            self.ends.pop_first();
            let Some(held) = self.held.get_mut(&id) else { continue };
            let (phase, whose, place) = (held.phase, Arc::clone(&held.whose), held.place);
            held.phase = Phase::RunOut;
            match phase {
                Phase::Trying => self.turns.rest(&whose),
                // Nobody has a ticket for it any more.
                Phase::PutOff => drop(self.held.remove(&id)),
                Phase::Over | Phase::Concluding | Phase::RunOut => {}
            }
            self.turns.give_back(&whose, place);
        }
    }

    /// Whether an attempt at it is under way, as far as anybody knows.
    pub(super) fn is_tried(&self, id: QueueId) -> bool {
        !self.is_free(id) && self.held.get(&id).is_some_and(|held| held.phase != Phase::PutOff)
    }

    /// How long until the first lease runs out.
    pub(super) fn first_end(&self, now: MonoTime) -> Option<Duration> {
        self.ends.first().map(|(until, _)| until.since(now))
    }

    /// Claims this one for its identity, in its turn.
    pub(super) fn take(&mut self, whose: &Arc<str>, place: Place, until: MonoTime) -> Ticket {
        self.turns.took(whose, place);
        self.give_out(whose, place.id, Some(place), until)
    }

    /// Claims this one out of turn, if it is free.
    pub(super) fn take_one(&mut self, whose: &Arc<str>, place: Place, until: MonoTime) -> Option<Ticket> {
        if !self.is_free(place.id) {
            return None;
        }
        self.turns.begin(whose);
        Some(self.give_out(whose, place.id, Some(place), until))
    }

    /// Claims this one out of turn, if it is put off: to who names it.
    pub(super) fn take_put_off(&mut self, id: QueueId, until: MonoTime) -> Option<Ticket> {
        let held = self.held.get(&id).filter(|held| held.phase == Phase::PutOff)?;
        let (before, whose, place) = (held.until, Arc::clone(&held.whose), held.place);
        self.ends.remove(&(before, id));
        // In this order: an identity without any claim is forgotten, and how far it has come with it.
        self.turns.begin(&whose);
        self.turns.end(&whose);
        Some(self.give_out(&whose, id, place, until))
    }

    /// Whether nobody tries it: it is free, or put off.
    pub(super) fn is_idle(&self, id: QueueId) -> bool {
        self.held.get(&id).is_some_and(|held| held.phase == Phase::PutOff) || self.is_free(id)
    }

    fn give_out(&mut self, whose: &Arc<str>, id: QueueId, place: Option<Place>, until: MonoTime) -> Ticket {
        self.last_fence = self.last_fence.saturating_add(1);
        let fence = self.last_fence;
        // One that ran out is not held any more, and its end is past.
        let (phase, whose, outcome) = (Phase::Trying, Arc::clone(whose), Came::Nowhere);
        self.held.insert(id, Held { fence, until, phase, whose, place, outcome });
        self.ends.insert((until, id));
        Ticket { id, fence }
    }

    /// Whether nobody has it, or somebody whose lease has run out.
    pub(super) fn is_free(&self, id: QueueId) -> bool {
        self.held.get(&id).is_none_or(|held| held.phase == Phase::RunOut)
    }

    pub(super) fn renew(&mut self, ticket: Ticket, until: MonoTime) -> bool {
        let Some(held) = self.of(ticket) else { return false };
        let (before, phase) = (std::mem::replace(&mut held.until, until), held.phase);
        match phase {
            Phase::Trying => {
                self.ends.remove(&(before, ticket.id));
                self.ends.insert((until, ticket.id));
            }
            // While it is in hand, it has no end.
            Phase::Over => {
                if self.ends.remove(&(before, ticket.id)) {
                    self.ends.insert((until, ticket.id));
                }
            }
            // It had run out, and nobody else has it: it is his again.
            Phase::RunOut => {
                if let Some(held) = self.of(ticket) {
                    held.phase = Phase::Trying;
                    let whose = Arc::clone(&held.whose);
                    self.turns.begin(&whose);
                }
                self.ends.insert((until, ticket.id));
            }
            Phase::Concluding | Phase::PutOff => {}
        }
        true
    }

    /// The attempt is over: another of this identity may begin. Somebody has what came of it in hand, and until he has laid it down the lease does
    /// not run out, however long the disk takes: who has the message would be sent it again.
    pub(super) fn over(&mut self, ticket: Ticket) {
        let Some(held) = self.of(ticket) else { return };
        let (phase, until, whose) = (held.phase, held.until, Arc::clone(&held.whose));
        match phase {
            Phase::Trying => self.turns.rest(&whose),
            Phase::RunOut => self.turns.hold(&whose),
            Phase::Over => {}
            Phase::Concluding | Phase::PutOff => return,
        }
        if let Some(held) = self.of(ticket) {
            (held.phase, held.outcome) = (Phase::Over, Came::InHand);
        }
        self.ends.remove(&(until, ticket.id));
    }

    /// Nobody has in hand any more what came of it: what is not recorded by now is tried again when the lease runs out.
    pub(super) fn lay_down(&mut self, ticket: Ticket) {
        let Some(held) = self.of(ticket) else { return };
        held.outcome = Came::Nowhere;
        let (phase, until) = (held.phase, held.until);
        if phase == Phase::Over {
            self.ends.insert((until, ticket.id));
        }
    }

    /// What came of it stands on the disk, though whoever brought it was told of a failure.
    pub(super) fn note_recorded(&mut self, ticket: Ticket) {
        if let Some(held) = self.of(ticket).filter(|held| held.outcome == Came::InHand) {
            held.outcome = Came::OnDisk;
        }
    }

    /// Whether it does: then nothing is left to record.
    pub(super) fn is_recorded(&self, ticket: Ticket) -> bool {
        let held = self.held.get(&ticket.id).filter(|held| held.fence == ticket.fence);
        held.is_some_and(|held| held.outcome == Came::OnDisk)
    }

    /// Whether the ticket is the newest; its claim then stays until [`Self::end`] or [`Self::resume`].
    pub(super) fn conclude(&mut self, ticket: Ticket) -> bool {
        let Some(held) = self.of(ticket) else { return false };
        let (phase, until, whose) = (held.phase, held.until, Arc::clone(&held.whose));
        if matches!(phase, Phase::Concluding | Phase::PutOff) {
            return false;
        }
        held.phase = Phase::Concluding;
        match phase {
            Phase::Trying => self.turns.rest(&whose),
            Phase::RunOut => self.turns.hold(&whose),
            Phase::Over | Phase::Concluding | Phase::PutOff => {}
        }
        self.ends.remove(&(until, ticket.id));
        true
    }

    /// Whether the ticket is the newest, and its attempt may go on: what is known of it by now may be noted.
    pub(super) fn may_note(&self, ticket: Ticket) -> bool {
        let held = self.held.get(&ticket.id).filter(|held| held.fence == ticket.fence);
        held.is_some_and(|held| matches!(held.phase, Phase::Trying | Phase::RunOut | Phase::Over))
    }

    /// What was to be recorded could not be. When the lease runs out, it is tried again; not while somebody has in hand what came of it.
    pub(super) fn resume(&mut self, ticket: Ticket) {
        let Some(held) = self.of(ticket).filter(|held| held.phase == Phase::Concluding) else { return };
        held.phase = Phase::Over;
        let (until, outcome) = (held.until, held.outcome);
        if outcome == Came::Nowhere {
            self.ends.insert((until, ticket.id));
        }
    }

    /// The claim has ended, and what became of the message is on the disk.
    pub(super) fn end(&mut self, ticket: Ticket) {
        // It was recorded by a commit that seemed to fail. Since then the order has been made anew, and may have gone past the message while it was held.
        if self.is_recorded(ticket) {
            return self.give_back(ticket);
        }
        if self.of(ticket).is_some() {
            self.take_away(ticket.id, Turns::end);
        }
    }

    /// Nobody has seen anything of this claim: the message is where it was.
    pub(super) fn give_back(&mut self, ticket: Ticket) {
        if let Some(place) = self.of(ticket).map(|held| held.place) {
            self.take_away(ticket.id, |turns, whose| turns.give_back(whose, place));
        }
    }

    /// The message is no more: nobody has a claim on it.
    pub(super) fn forget(&mut self, id: QueueId) {
        self.take_away(id, Turns::end);
    }

    fn take_away(&mut self, id: QueueId, end: impl FnOnce(&mut Turns, &Arc<str>)) {
        let Some(held) = self.held.remove(&id) else { return };
        self.ends.remove(&(held.until, id));
        match held.phase {
            Phase::Trying => {
                self.turns.rest(&held.whose);
                end(&mut self.turns, &held.whose);
            }
            Phase::Over | Phase::Concluding | Phase::PutOff => end(&mut self.turns, &held.whose),
            // It was given back when it ran out.
            Phase::RunOut => {}
        }
    }

    /// A message stands elsewhere now: when its claim ends, that is where it is free.
    pub(super) fn moved(&mut self, place: Place) {
        if let Some(held) = self.held.get_mut(&place.id) {
            held.place = Some(place);
        }
    }

    /// Nobody is to try it until then.
    pub(super) fn put_off(&mut self, ticket: Ticket, until: MonoTime) {
        let Some(held) = self.of(ticket).filter(|held| held.phase == Phase::Trying) else { return };
        let (before, whose) = (std::mem::replace(&mut held.until, until), Arc::clone(&held.whose));
        held.phase = Phase::PutOff;
        self.ends.remove(&(before, ticket.id));
        self.ends.insert((until, ticket.id));
        self.turns.rest(&whose);
    }

    /// What was put off may be tried now.
    pub(super) fn recall(&mut self) {
        let put_off: Vec<QueueId> =
            self.held.iter().filter(|(_, held)| held.phase == Phase::PutOff).map(|(id, _)| *id).collect();
        for id in put_off {
            let Some(held) = self.held.remove(&id) else { continue };
            self.ends.remove(&(held.until, id));
            // All at once: to look from the first again is cheaper than to remember each.
            self.turns.give_back(&held.whose, None);
        }
    }

    /// The same for one message.
    pub(super) fn recall_one(&mut self, id: QueueId) {
        if let Some(held) = self.held.get(&id).filter(|held| held.phase == Phase::PutOff) {
            let place = held.place;
            self.take_away(id, |turns, whose| turns.give_back(whose, place));
        }
    }

    /// Whether this is the newest claim on its message, and the message is still there.
    pub(super) fn is_current(&self, ticket: Ticket) -> bool {
        self.held.get(&ticket.id).is_some_and(|held| held.fence == ticket.fence)
    }

    /// How many are being tried, and of how many the attempt is over and what came of it waits to be recorded.
    pub(super) fn count(&self) -> (u64, u64) {
        self.held.values().fold((0, 0), |(tried, unrecorded), held| match held.phase {
            Phase::Trying | Phase::RunOut => (tried.saturating_add(1), unrecorded),
            Phase::Over | Phase::Concluding => (tried, unrecorded.saturating_add(1)),
            Phase::PutOff => (tried, unrecorded),
        })
    }

    /// The first message of an identity that was given back, is due, and is free.
    pub(super) fn first_returned(&mut self, identity: &str, now: WallTime) -> Option<Place> {
        let held = &self.held;
        let is_free = |id| held.get(&id).is_none_or(|held: &Held| held.phase == Phase::RunOut);
        self.turns.first_returned(identity, now, is_free)
    }

    fn of(&mut self, ticket: Ticket) -> Option<&mut Held> {
        self.held.get_mut(&ticket.id).filter(|held| held.fence == ticket.fence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> MonoTime {
        MonoTime::from_start(Duration::from_secs(seconds))
    }

    /// A message that is claimed until the tenth second.
    fn claimed() -> (Claims, Ticket, Arc<str>, Place) {
        let (whose, place) = (Arc::from("alice"), Place { level: 9, due: WallTime::from_seconds(5), id: ID });
        let mut claims = Claims::default();
        let ticket = claims.take(&whose, place, at(10));
        (claims, ticket, whose, place)
    }

    const ID: QueueId = QueueId::from_u128(1);

    fn free_at(claims: &mut Claims, seconds: u64) -> bool {
        claims.tick(at(seconds));
        claims.is_free(ID)
    }

    #[test]
    fn a_claimed_message_is_not_given_twice() {
        let (mut claims, _, whose, place) = claimed();
        claims.tick(at(9));
        assert_eq!(claims.take_one(&whose, place, at(20)), None);
    }

    #[test]
    fn a_lease_that_ran_out_gives_a_higher_number_and_the_old_one_records_nothing() {
        let (mut claims, old, whose, place) = claimed();
        claims.tick(at(10));
        let new = claims.take_one(&whose, place, at(20)).unwrap();
        assert!(new.fence > old.fence);
        assert!(!claims.conclude(old) && !claims.renew(old, at(99)));
        assert!(claims.conclude(new));
    }

    #[test]
    fn a_lease_that_ran_out_still_records_while_nobody_else_has_claimed() {
        let (mut claims, ticket, _, _) = claimed();
        assert!(free_at(&mut claims, 60));
        assert!(claims.conclude(ticket));
        assert!(!free_at(&mut claims, 60), "not while it is being recorded");
        assert_eq!(claims.count(), (0, 1), "nobody tries it: what came of it waits");
        claims.resume(ticket);
        assert_eq!(claims.count(), (0, 1));
        assert!(free_at(&mut claims, 60));
    }

    #[test]
    fn what_somebody_has_in_hand_runs_out_when_he_has_laid_it_down_and_not_before() {
        for is_late in [false, true] {
            let (mut claims, ticket, whose, place) = claimed();
            claims.tick(at(if is_late { 20 } else { 5 }));
            claims.over(ticket);
            claims.over(ticket);
            assert!(!free_at(&mut claims, 4000) && claims.is_tried(ID));
            assert_eq!((claims.first_end(at(0)), claims.take_one(&whose, place, at(9999))), (None, None));
            // It is brought, and fails; its lease is longer now, and still does not run out.
            assert!(claims.conclude(ticket));
            claims.resume(ticket);
            assert!(claims.renew(ticket, at(5000)));
            assert!(!free_at(&mut claims, 6000));
            assert!(!claims.is_recorded(ticket));
            claims.note_recorded(ticket);
            assert!(claims.is_recorded(ticket));
            assert!(claims.conclude(ticket));
            // Laid down while the writer has it, which then fails.
            claims.lay_down(ticket);
            assert!(!free_at(&mut claims, 6000));
            claims.resume(ticket);
            assert!(!claims.is_recorded(ticket) && free_at(&mut claims, 6000));
            let new = claims.take_one(&whose, place, at(9000)).unwrap();
            claims.over(ticket);
            claims.note_recorded(ticket);
            claims.lay_down(ticket);
            assert!(!claims.is_recorded(new) && free_at(&mut claims, 9000), "the old number changes nothing");
        }
    }

    #[test]
    fn what_was_recorded_by_a_commit_that_seemed_to_fail_is_looked_for_again_where_it_stands() {
        let (mut claims, ticket, whose, place) = claimed();
        claims.over(ticket);
        // The store is opened anew, and finds the outcome: the message is to be tried again, and is due.
        claims.begin_anew();
        claims.note_recorded(ticket);
        // Meanwhile somebody looks, finds it held, and goes past it.
        claims.turns.pass(&whose, place);
        assert_eq!(claims.turns.passed(&whose, place.level), Some(place));
        assert!(claims.conclude(ticket));
        claims.end(ticket);
        assert!(claims.is_free(ID));
        assert_eq!(claims.turns.passed(&whose, place.level), None, "nobody would look at it again");
    }

    #[test]
    fn what_is_put_off_is_free_at_its_time_or_when_recalled() {
        let (mut claims, ticket, whose, place) = claimed();
        claims.put_off(ticket, at(30));
        assert_eq!((claims.count(), free_at(&mut claims, 29)), ((0, 0), false));
        assert!(!claims.is_tried(ID), "nobody tries it");
        assert_eq!(claims.first_end(at(0)), Some(Duration::from_secs(30)));
        assert!(free_at(&mut claims, 30));
        let again = claims.take_one(&whose, place, at(40)).unwrap();
        claims.put_off(again, at(60));
        claims.recall();
        assert!(claims.is_free(ID));
        let tried = claims.take_one(&whose, place, at(40)).unwrap();
        claims.recall();
        claims.recall_one(ID);
        assert!(!claims.is_free(ID), "what is being tried is not taken away");
        assert!(claims.is_tried(ID));
        assert!(!claims.is_idle(ID) && claims.take_put_off(ID, at(70)).is_none());
        claims.put_off(tried, at(60));
        assert!(claims.is_idle(ID) && !claims.is_free(ID));
        let named = claims.take_put_off(ID, at(70)).unwrap();
        assert!(named.fence > tried.fence, "who had it before records nothing");
        assert!(!claims.conclude(tried) && claims.count() == (1, 0));
        claims.put_off(named, at(60));
        claims.recall_one(ID);
        assert!(claims.is_free(ID));
    }

    #[test]
    fn a_renewed_lease_runs_from_then_even_if_it_had_run_out() {
        let (mut claims, ticket, whose, place) = claimed();
        assert!(claims.renew(ticket, at(19)));
        assert!(!free_at(&mut claims, 18));
        assert_eq!(claims.first_end(at(18)), Some(Duration::from_secs(1)));
        assert!(free_at(&mut claims, 19));
        assert!(claims.renew(ticket, at(30)));
        assert_eq!(claims.take_one(&whose, place, at(40)), None);
        assert!(free_at(&mut claims, 30));
    }

    #[test]
    fn every_end_of_a_claim_leaves_nothing_of_it_in_memory() {
        type End = fn(&mut Claims, Ticket);
        let ends: [End; 7] = [
            |claims, ticket| claims.end(ticket),
            |claims, ticket| {
                claims.over(ticket);
                assert!(claims.conclude(ticket));
                claims.end(ticket);
            },
            |claims, ticket| claims.forget(ticket.id),
            |claims, ticket| {
                claims.tick(at(10));
                assert!(claims.conclude(ticket));
                claims.end(ticket);
            },
            |claims, ticket| {
                claims.over(ticket);
                claims.lay_down(ticket);
                claims.tick(at(10));
                claims.end(ticket);
            },
            |claims, ticket| {
                claims.tick(at(10));
                claims.over(ticket);
                claims.end(ticket);
                claims.lay_down(ticket);
            },
            |claims, ticket| {
                claims.put_off(ticket, at(10));
                claims.recall();
                claims.tick(at(10));
            },
        ];
        for (number, end) in ends.into_iter().enumerate() {
            let (mut claims, ticket, whose, _) = claimed();
            end(&mut claims, ticket);
            // It has its next turn, in which nothing is found.
            while let Some(next) = claims.turns.next(1) {
                assert_eq!(next, whose);
                // What ran out first may have been given to another; the store finds nothing there.
                if let Some(place) = claims.first_returned(&whose, WallTime::from_seconds(9)) {
                    let nothing = claims.take(&whose, place, at(99));
                    claims.end(nothing);
                } else {
                    claims.turns.nothing(&whose, None);
                }
            }
            assert_eq!((claims.turns.count(), claims.held.len(), claims.ends.len()), (0, 0, 0), "{number}");
        }
    }
}
