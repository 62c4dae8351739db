//! The steps by which the wall clock was set while the process ran, and ages that they don't make false.
//!
//! Between two steps the wall and the monotonic clock go side by side: a stretch. A moment of the wall clock belongs to a stretch that had not ended by
//! then; where it may belong to several, since the clock was set back, to the one that makes it youngest. So what came just before the clock was set
//! forward by a week is not a week old; and what was kept before the process began is as old as the wall clock says, nothing better being known.
//!
//! A machine that sleeps is a step forward: its monotonic clock sleeps, and what nobody could try has not waited. Never: reads a clock; makes older
//! than the wall clock does what that one knows.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{MonoTime, Now, WallTime};

/// By so much the two clocks may go apart before it is a step: what is read of them is not of one instant, and a clock that is slewed is not set.
const STEP: Duration = Duration::from_secs(60);

/// A step is noticed so late at most, by who looks every minute.
const NOTICED: Duration = Duration::from_secs(120);

/// Stretches that are remembered at most; beyond, what came in the oldest counts as of before the process began.
const STRETCHES_MAX: usize = 16;

/// What the wall clock did since the process began.
#[derive(Debug)]
pub struct Steps {
    began: MonoTime,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    past: VecDeque<Stretch>,
    /// By how many milliseconds the wall clock is before the monotonic one, in this stretch.
    lead: i64,
    /// When this stretch was first seen, by its own wall clock.
    start: WallTime,
    /// The steps that were seen and not yet told.
    untold: Vec<Step>,
}

/// A stretch that is over.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    lead: i64,
    /// It began then at the earliest, by its own wall clock.
    start: WallTime,
    /// It ended then at the latest, by its own wall clock.
    end: WallTime,
}

/// The wall clock was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// By so much forward.
    Forward(Duration),
    /// By so much back.
    Back(Duration),
}

impl Steps {
    /// The process begins.
    pub fn begin(now: Now) -> Self {
        let seen = Seen { past: VecDeque::new(), lead: lead(now), start: now.wall, untold: Vec::new() };
        Self { began: now.mono, seen: Mutex::new(seen) }
    }

    /// Looks whether the wall clock was set since the last look.
    pub fn note(&self, now: Now) {
        let mut seen = self.lock();
        let (before, after) = (seen.lead, lead(now));
        let by = Duration::from_millis(after.abs_diff(before));
        if by < STEP {
            return;
        }
        let end = wall(now.mono, before);
        let start = seen.start.before(NOTICED);
        seen.past.push_back(Stretch { lead: before, start, end });
        if seen.past.len() > STRETCHES_MAX {
            seen.past.pop_front();
        }
        (seen.lead, seen.start) = (after, now.wall);
        if seen.untold.len() < STRETCHES_MAX {
            seen.untold.push(if after > before { Step::Forward(by) } else { Step::Back(by) });
        }
    }

    /// The steps since this was last asked, the oldest first.
    pub fn take_untold(&self) -> Vec<Step> {
        std::mem::take(&mut self.lock().untold)
    }

    /// How long ago `since` was.
    pub fn age(&self, since: WallTime, now: Now) -> Duration {
        let seen = self.lock();
        let by = |stretch: &Stretch| wall(now.mono, stretch.lead).since(since);
        let earlier = seen.past.iter().filter(|stretch| since <= stretch.end);
        if since <= now.wall.after(STEP) {
            return earlier.map(by).fold(now.wall.since(since), Duration::min);
        }
        // The wall clock has not come so far yet: it came in a stretch in which it had, or nothing is known of it.
        earlier.filter(|stretch| stretch.start <= since).map(by).min().unwrap_or_default()
    }

    /// How long the process has run.
    pub fn ran(&self, now: Now) -> Duration {
        now.mono.since(self.began)
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lead(now: Now) -> i64 {
    let mono = now.mono.since(MonoTime::from_start(Duration::ZERO));
    now.wall.before(mono).millis()
}

/// What the wall clock shows then, with this lead.
fn wall(mono: MonoTime, lead: i64) -> WallTime {
    WallTime::from_millis(lead).after(mono.since(MonoTime::from_start(Duration::ZERO)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{Clock as _, ManualClock};

    const START: WallTime = WallTime::from_seconds(1_800_000_000);
    const MINUTE: Duration = Duration::from_secs(60);
    const HOUR: Duration = Duration::from_secs(3600);
    const DAY: Duration = Duration::from_secs(86_400);

    struct Bench {
        clock: ManualClock,
        steps: Steps,
    }

    impl Bench {
        fn new() -> Self {
            let clock = ManualClock::at(START);
            Self { steps: Steps::begin(clock.now()), clock }
        }

        fn now(&self) -> WallTime {
            self.clock.now().wall
        }

        fn set(&self, wall: WallTime) {
            self.clock.set_wall(wall);
            self.steps.note(self.clock.now());
        }

        fn age(&self, since: WallTime) -> Duration {
            self.steps.age(since, self.clock.now())
        }
    }

    #[test]
    fn without_a_step_an_age_is_what_the_wall_clock_says_and_small_differences_are_none() {
        let bench = Bench::new();
        let before = START.before(DAY);
        bench.clock.advance(HOUR);
        bench.set(bench.now().after(Duration::from_secs(59)));
        assert_eq!(
            (bench.age(START), bench.age(before)),
            (HOUR + MINUTE - Duration::from_secs(1), DAY + HOUR + MINUTE - Duration::from_secs(1))
        );
        assert_eq!((bench.age(bench.now().after(DAY)), bench.steps.take_untold()), (Duration::ZERO, vec![]));
        assert_eq!(bench.steps.ran(bench.clock.now()), HOUR);
    }

    #[test]
    fn a_clock_that_is_set_forward_makes_nothing_older() {
        let bench = Bench::new();
        bench.clock.advance(HOUR);
        let came = bench.now();
        bench.clock.advance(MINUTE);
        bench.set(bench.now().after(6 * DAY));
        assert_eq!(bench.steps.take_untold(), [Step::Forward(6 * DAY)]);
        let later = bench.now();
        bench.clock.advance(HOUR);
        assert_eq!((bench.age(came), bench.age(later)), (HOUR + MINUTE, HOUR));
        // What was kept before the process began was, for all that is known, kept by the clock that it began with.
        assert_eq!(bench.age(START.before(DAY)), DAY + 2 * HOUR + MINUTE);
        assert_eq!(bench.steps.take_untold(), []);
    }

    #[test]
    fn a_clock_that_goes_wrong_for_a_minute_and_comes_back_changes_no_age() {
        for (out, back) in [(6 * DAY, 0), (Duration::ZERO, 6)] {
            let bench = Bench::new();
            let came = bench.now();
            bench.clock.advance(HOUR);
            bench.set(bench.now().after(out).before(DAY * back));
            let between = bench.now();
            bench.clock.advance(MINUTE);
            bench.set(bench.now().before(out).after(DAY * back));
            let after = bench.now();
            bench.clock.advance(MINUTE);
            assert_eq!((bench.age(came), bench.age(after)), (HOUR + 2 * MINUTE, MINUTE));
            assert_eq!(bench.age(between), 2 * MINUTE, "{out:?} {back}");
            bench.clock.advance(9 * DAY);
            assert_eq!((bench.age(came), bench.age(after)), (9 * DAY + HOUR + 2 * MINUTE, 9 * DAY + MINUTE));
        }
    }

    #[test]
    fn a_machine_that_began_with_a_wrong_clock_knows_better_once_it_is_set() {
        let year = 365 * DAY;
        let began = |wrong: WallTime| {
            let clock = ManualClock::at(wrong);
            let bench = Bench { steps: Steps::begin(clock.now()), clock };
            bench.clock.advance(MINUTE);
            bench.set(START.after(MINUTE));
            bench
        };
        for wrong in [START.after(year), START.before(year)] {
            let bench = began(wrong);
            assert_eq!((bench.age(START.before(HOUR)), bench.age(wrong)), (HOUR + MINUTE, MINUTE), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_remembered_is_bounded_and_ages_stay_below_the_walls() {
        let bench = Bench::new();
        for _ in 0..100 {
            bench.clock.advance(HOUR);
            bench.set(bench.now().after(HOUR));
        }
        assert_eq!(bench.steps.lock().past.len(), STRETCHES_MAX);
        assert_eq!(bench.steps.take_untold().len(), STRETCHES_MAX);
        let age = bench.age(START);
        assert!(age > 100 * HOUR && age <= 200 * HOUR, "{age:?}");
    }
}
