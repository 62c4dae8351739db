//! When to try again, when to tell the sender of a delay, when to give up. Pure: the time and the jitter are arguments.
//!
//! RFC 5321 §4.5.4.1 asks for retries over at least four to five days; what the operator sets is obeyed.

use std::time::Duration;

use super::store::Late;
use crate::mail::DeliverBy;
use crate::sys::WallTime;

/// The share of a wait by which it may be lengthened, so that what failed together does not come back together: one in this many.
const JITTER_SHARE: u64 = 10;

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

    /// What happens after `attempts` attempts (at least one) on a message that came at `arrived`. `warned`: whether its sender has been told of the
    /// delay. `jitter`: any number; it lengthens the wait by up to a tenth.
    ///
    /// The last attempt is made when the time is up, not before: a wait is never longer than what is left.
    pub fn next(&self, arrived: WallTime, attempts: u32, warned: Warned, now: WallTime, jitter: u64) -> Plan {
        let age = now.since(arrived);
        if age >= self.give_up_after {
            return Plan::GiveUp;
        }
        let wait = lengthened(self.wait_after(attempts), jitter).min(self.give_up_after.saturating_sub(age));
        let late = self.warn_after.is_some_and(|limit| age >= limit);
        let warning = if late && warned == Warned::NotYet { Warning::Due } else { Warning::NotDue };
        Plan::Retry { at: now.after(wait), warning }
    }

    /// Which messages are late at `now`.
    pub fn late(&self, now: WallTime) -> Late {
        Late { warn: self.warn_after.map(|limit| now.before(limit)), give_up: now.before(self.give_up_after) }
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
    wait.saturating_add(Duration::from_millis(jitter % (millis / JITTER_SHARE + 1)))
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

    fn retry(at: WallTime, warning: Warning) -> Plan {
        Plan::Retry { at, warning }
    }

    #[test]
    fn the_waits_come_in_order_and_the_last_repeats() {
        for (attempts, wait) in [(0, MINUTE), (1, MINUTE), (2, 5 * MINUTE), (3, HOUR), (4, HOUR), (u32::MAX, HOUR)] {
            let plan = schedule().next(ARRIVED, attempts, Warned::NotYet, ARRIVED, 0);
            assert_eq!(plan, retry(ARRIVED.after(wait), Warning::NotDue), "after {attempts}");
        }
    }

    #[test]
    fn the_sender_is_warned_once() {
        let late = ARRIVED.after(4 * HOUR);
        let plan = |warned| schedule().next(ARRIVED, 9, warned, late, 0);
        assert_eq!(plan(Warned::NotYet), retry(late.after(HOUR), Warning::Due));
        assert_eq!(plan(Warned::Already), retry(late.after(HOUR), Warning::NotDue));
    }

    #[test]
    fn the_last_attempt_is_made_when_the_time_is_up() {
        let end = ARRIVED.after(120 * HOUR);
        let near = ARRIVED.after(120 * HOUR - MINUTE);
        assert_eq!(schedule().next(ARRIVED, 99, Warned::Already, near, 77), retry(end, Warning::NotDue));
        assert_eq!(schedule().next(ARRIVED, 100, Warned::Already, end, 77), Plan::GiveUp);
    }

    #[test]
    fn a_time_to_deliver_in_ends_the_attempts_or_is_when_the_sender_is_told() {
        let by = |wait: Duration, or_return| DeliverBy { deadline: ARRIVED.after(wait), or_return, trace: false };
        let next = |by, age: Duration, warned| {
            schedule().within(ARRIVED, Some(by)).next(ARRIVED, 9, warned, ARRIVED.after(age), 0)
        };
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
    fn a_clock_set_back_before_the_arrival_gives_up_nothing() {
        let before = WallTime::from_seconds(5);
        assert_eq!(
            schedule().next(ARRIVED, 1, Warned::NotYet, before, 0),
            retry(before.after(MINUTE), Warning::NotDue)
        );
    }

    proptest! {
        #[test]
        fn jitter_only_lengthens_and_by_a_tenth_at_most(attempts in 1_u32..9, jitter: u64) {
            let plan = |jitter| match schedule().next(ARRIVED, attempts, Warned::NotYet, ARRIVED, jitter) {
                Plan::Retry { at, .. } => at.since(ARRIVED),
                Plan::GiveUp => Duration::ZERO,
            };
            let (least, drawn) = (plan(0), plan(jitter));
            prop_assert!(least <= drawn && drawn <= least + least / 10);
        }
    }
}
