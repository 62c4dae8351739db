//! When to try again, when to tell the sender of a delay, when to give up. Pure: the time and the jitter are arguments.
//!
//! Nothing is given up on the word of the wall clock alone, which a person, a dead battery or a time server may have set: an age is what the clocks agree
//! on while the process runs ([`crate::sys::Steps`]). Of what was kept before it began, the wall clock's word is all there is; so the process tries that for
//! one round first, in which the clock may be set right. Never: reads a clock.
//!
//! RFC 5321 §4.5.4.1 asks for retries over at least four to five days; what the operator sets is obeyed.

use std::time::Duration;

use super::store::Late;
use crate::mail::DeliverBy;
use crate::sys::WallTime;

/// The share of a wait by which it may be lengthened, so that what failed together does not come back together: one in this many.
const JITTER_SHARE: u32 = 10;

/// Between the plan for a message and the look at it some time may pass, and two clocks are not read in one instant.
const SLACK: Duration = Duration::from_secs(60);

/// For so long at most a process tries what it found when it began, before it gives any of that up.
const ROUND_MAX: Duration = Duration::from_secs(3600);

/// When what happens to a message that could not be delivered yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    first: Duration,
    later: Vec<Duration>,
    warn_after: Option<Duration>,
    give_up_after: Duration,
}

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// It is tried again at this moment.
    Retry {
        /// When.
        at: WallTime,
        /// Whether its sender is to be told now that it is late.
        warning: Warning,
    },
    /// Its sender is told that it can't be delivered.
    GiveUp,
}

/// The present, as it counts for one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// What the calendar says.
    pub now: WallTime,
    /// How long the message has waited.
    pub waited: Duration,
    /// How long the process has run: what has waited for longer was there before.
    pub ran: Duration,
}

/// Whether a delay is reported now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Warning {
    /// Tell the sender.
    Due,
    /// Not yet, or it has been told.
    NotDue,
}

impl Schedule {
    /// A schedule: the waits after each attempt, the last of which repeats; none when the list is empty.
    pub fn new(retry: &[Duration], warn_after: Option<Duration>, give_up_after: Duration) -> Option<Self> {
        let (first, later) = retry.split_first()?;
        Some(Self { first: *first, later: later.to_vec(), warn_after, give_up_after })
    }

    /// The schedule of a message that waits since `since` and has a time to be delivered in (RFC 2852 §4): with `R` it is given up when that is over;
    /// with `N` its sender is told of the delay then, and not at another time.
    #[must_use]
    pub fn within(&self, since: WallTime, by: Option<DeliverBy>) -> Self {
        let mut own = self.clone();
        match by {
            Some(by) if by.or_return => own.give_up_after = own.give_up_after.min(by.deadline.since(since)),
            Some(by) => own.warn_after = Some(by.deadline.since(since)),
            None => {}
        }
        own
    }

    /// What happens after `attempts` attempts (at least one) on a message that has waited for so long. `warned`: whether its sender has been told of the
    /// delay. `jitter`: any number; it lengthens the wait by up to a tenth.
    ///
    /// The last attempt is made when the time is up, not before: a wait is never longer than what is left.
    pub fn next(&self, at: Moment, attempts: u32, warned: Warned, jitter: u64) -> Plan {
        let left = self.left(at);
        if left.is_zero() {
            return Plan::GiveUp;
        }
        let wait = lengthened(self.wait_after(attempts), jitter).min(left);
        let late = self.warn_after.is_some_and(|limit| at.waited >= limit);
        let warning = if late && warned == Warned::NotYet { Warning::Due } else { Warning::NotDue };
        Plan::Retry { at: at.now.after(wait), warning }
    }

    /// How long until it is given up.
    fn left(&self, at: Moment) -> Duration {
        let left = self.give_up_after.saturating_sub(at.waited);
        let was_there_before = at.waited > at.ran;
        let round = if was_there_before { self.longest().min(ROUND_MAX) } else { Duration::ZERO };
        left.max(round.saturating_sub(at.ran))
    }

    fn longest(&self) -> Duration {
        self.later.iter().copied().fold(self.first, Duration::max)
    }

    /// Nothing is put off at `now` for longer than until then. What is due later, and was not asked for by its sender, was put off by a clock that has been
    /// set back since.
    pub fn furthest(&self, now: WallTime) -> WallTime {
        now.after(self.longest().saturating_add(self.longest() / JITTER_SHARE)).after(SLACK)
    }

    /// Which messages are late at `now`.
    pub fn late(&self, now: WallTime) -> Late {
        Late {
            warn: self.warn_after.map(|limit| now.before(limit)),
            give_up: now.before(self.give_up_after),
            astray: None,
            behind: None,
        }
    }

    /// Whether anybody is told of a delay.
    pub fn warns(&self) -> bool {
        self.warn_after.is_some()
    }

    /// When a message that came at `arrived` is given up.
    pub fn gives_up_at(&self, arrived: WallTime) -> WallTime {
        arrived.after(self.give_up_after)
    }

    fn wait_after(&self, attempts: u32) -> Duration {
        let place = usize::try_from(attempts).unwrap_or(usize::MAX).saturating_sub(1);
        match place.checked_sub(1) {
            None => self.first,
            Some(later) => self.later.get(later).or(self.later.last()).copied().unwrap_or(self.first),
        }
    }
}

/// Whether the sender has been told of the delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Warned {
    /// It has.
    Already,
    /// It has not.
    NotYet,
}

impl From<bool> for Warned {
    fn from(warned: bool) -> Self {
        if warned { Self::Already } else { Self::NotYet }
    }
}

/// A wait with its jitter: any number, which lengthens it by up to a tenth.
pub(crate) fn lengthened(wait: Duration, jitter: u64) -> Duration {
    let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    wait.saturating_add(Duration::from_millis(jitter % (millis / u64::from(JITTER_SHARE) + 1)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const HOUR: Duration = Duration::from_secs(3600);
    const ARRIVED: WallTime = WallTime::from_seconds(1_000_000);

    fn schedule() -> Schedule {
        Schedule::new(&[MINUTE, 5 * MINUTE, HOUR], Some(4 * HOUR), 120 * HOUR).unwrap()
    }

    #[test]
    fn who_never_warns_says_so() {
        assert!(schedule().warns());
        assert!(!Schedule::new(&[MINUTE], None, HOUR).unwrap().warns());
    }

    /// So long after it came, in a process that was there.
    fn aged(waited: Duration) -> Moment {
        Moment { now: ARRIVED.after(waited), waited, ran: waited }
    }

    fn retry(at: WallTime, warning: Warning) -> Plan {
        Plan::Retry { at, warning }
    }

    #[test]
    fn the_waits_come_in_order_and_the_last_repeats() {
        for (attempts, wait) in [(0, MINUTE), (1, MINUTE), (2, 5 * MINUTE), (3, HOUR), (4, HOUR), (u32::MAX, HOUR)] {
            let plan = schedule().next(aged(Duration::ZERO), attempts, Warned::NotYet, 0);
            assert_eq!(plan, retry(ARRIVED.after(wait), Warning::NotDue), "after {attempts}");
        }
    }

    #[test]
    fn the_sender_is_warned_once() {
        let late = ARRIVED.after(4 * HOUR);
        let plan = |warned| schedule().next(aged(4 * HOUR), 9, warned, 0);
        assert_eq!(plan(Warned::NotYet), retry(late.after(HOUR), Warning::Due));
        assert_eq!(plan(Warned::Already), retry(late.after(HOUR), Warning::NotDue));
    }

    #[test]
    fn the_last_attempt_is_made_when_the_time_is_up() {
        let end = ARRIVED.after(120 * HOUR);
        let near = ARRIVED.after(120 * HOUR - MINUTE);
        assert_eq!(schedule().next(aged(near.since(ARRIVED)), 99, Warned::Already, 77), retry(end, Warning::NotDue));
        assert_eq!(schedule().next(aged(120 * HOUR), 100, Warned::Already, 77), Plan::GiveUp);
    }

    #[test]
    fn a_time_to_deliver_in_ends_the_attempts_or_is_when_the_sender_is_told() {
        let by = |wait: Duration, or_return| DeliverBy { deadline: ARRIVED.after(wait), or_return, trace: false };
        let next = |by, age: Duration, warned| schedule().within(ARRIVED, Some(by)).next(aged(age), 9, warned, 0);
        let minutes = |count| MINUTE * count;
        // R: the last attempt is made when the time is up.
        let r = by(minutes(90), true);
        assert_eq!(next(r, HOUR, Warned::NotYet), retry(r.deadline, Warning::NotDue));
        assert_eq!(next(r, minutes(90), Warned::NotYet), Plan::GiveUp);
        assert_eq!(next(by(HOUR * 999, true), HOUR * 120, Warned::Already), Plan::GiveUp, "never longer than others");
        // N: told at its time, be that earlier or later than warn_after; and tried on.
        for wait in [minutes(90), HOUR * 9] {
            let n = by(wait, false);
            let before = ARRIVED.after(wait - MINUTE);
            assert_eq!(next(n, wait - MINUTE, Warned::NotYet), retry(before.after(HOUR), Warning::NotDue));
            assert_eq!(next(n, wait, Warned::NotYet), retry(n.deadline.after(HOUR), Warning::Due));
            assert_eq!(next(n, wait, Warned::Already), retry(n.deadline.after(HOUR), Warning::NotDue));
        }
        let past = DeliverBy { deadline: ARRIVED.before(HOUR), or_return: false, trace: false };
        assert_eq!(next(past, MINUTE, Warned::NotYet), retry(ARRIVED.after(MINUTE + HOUR), Warning::Due));
    }

    #[test]
    fn an_empty_list_is_no_schedule() {
        assert_eq!(Schedule::new(&[], None, HOUR), None);
    }

    #[test]
    fn what_was_kept_before_the_process_began_is_tried_for_a_round_before_it_is_given_up() {
        let after = |ran: Duration, waited: Duration| {
            let now = ARRIVED.after(waited);
            (schedule().next(Moment { now, waited, ran }, 99, Warned::Already, 0), now)
        };
        let (year, second) = (8760 * HOUR, Duration::from_secs(1));
        // The clock says that it came a year ago: so it may be, or a battery is dead.
        let (plan, now) = after(second, year);
        assert_eq!(plan, retry(now.after(HOUR - second), Warning::NotDue));
        let (plan, now) = after(HOUR - second, year);
        assert_eq!(plan, retry(now.after(second), Warning::NotDue), "the last attempt is made at the end of the round");
        assert_eq!(after(HOUR, year).0, Plan::GiveUp);
        assert_eq!(after(120 * HOUR, 120 * HOUR).0, Plan::GiveUp, "it came while the process was there");
        // A long step makes no long round.
        let long = Schedule::new(&[24 * HOUR], None, 120 * HOUR).unwrap();
        let at = Moment { now: ARRIVED.after(year), waited: year, ran: HOUR };
        assert_eq!(long.next(at, 1, Warned::Already, 0), Plan::GiveUp);
        // A time to deliver in that was over before is not in question either.
        let by = DeliverBy { deadline: ARRIVED.after(MINUTE), or_return: true, trace: false };
        let own = schedule().within(ARRIVED, Some(by));
        assert_eq!(own.next(aged(MINUTE), 1, Warned::NotYet, 0), Plan::GiveUp);
    }

    #[test]
    fn what_is_due_later_than_any_wait_was_put_off_by_another_clock() {
        let furthest = schedule().furthest(ARRIVED);
        let latest = (0..99).map(|attempts| {
            match schedule().next(aged(Duration::ZERO), attempts, Warned::NotYet, 6 * 60_000 - 1) {
                Plan::Retry { at, .. } => at,
                Plan::GiveUp => ARRIVED,
            }
        });
        assert!(latest.max().unwrap() < furthest);
        assert!(furthest < ARRIVED.after(2 * HOUR), "{furthest:?}");
    }

    #[test]
    fn jitter_lengthens_by_just_a_tenth_at_most_and_the_shortest_waits_not_at_all() {
        for wait in [0, 1, 9, 10, 11, 60_000] {
            let drawn = |jitter| lengthened(Duration::from_millis(wait), jitter).as_millis();
            let most = (0..=wait / 10 + 1).map(drawn).max().unwrap();
            assert_eq!((drawn(0), most), (u128::from(wait), u128::from(wait + wait / 10)), "{wait}");
        }
    }

    proptest! {
        #[test]
        fn jitter_only_lengthens_and_by_a_tenth_at_most(attempts in 1_u32..9, jitter: u64) {
            let plan = |jitter| match schedule().next(aged(Duration::ZERO), attempts, Warned::NotYet, jitter) {
                Plan::Retry { at, .. } => at.since(ARRIVED),
                Plan::GiveUp => Duration::ZERO,
            };
            let (least, drawn) = (plan(0), plan(jitter));
            prop_assert!(least <= drawn && drawn <= least + least / 10);
        }
    }
}
