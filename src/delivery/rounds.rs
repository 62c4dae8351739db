//! When late messages are looked for, and which.
//!
//! | a round                        | looks at                                                                                   |
//! |--------------------------------|--------------------------------------------------------------------------------------------|
//! | every [`WHOLE_EVERY`]          | all that is late and due: also what was put back untold, or is late by a rule of its own      |
//! | every [`LATE_EVERY`] between   | what has become late, or due, since the round before: the rest was told, or need not be     |
//!
//! So a million messages that wait, all of them told, are read once an hour and not every five minutes. Pure. Never: claims; asks a clock.

use std::time::Duration;

use crate::queue::schedule::Schedule;
use crate::queue::{Late, Looked};
use crate::sys::{MonoTime, Now};

/// How often late messages are looked for. `warn_after` and `give_up_after` count in hours and days.
pub(super) const LATE_EVERY: Duration = Duration::from_secs(5 * 60);
/// How often all of them are.
const WHOLE_EVERY: Duration = Duration::from_secs(3600);

/// The rounds over late messages.
#[derive(Debug)]
pub(super) struct Rounds {
    next: MonoTime,
    next_whole: MonoTime,
    /// What the round that is under way will have looked at.
    under_way: Option<Looked>,
    /// What those before it have looked at.
    looked: Option<Looked>,
}

/// How a round ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Behind the last message.
    Whole,
    /// Somewhere: the next one looks at all.
    Broken,
}

impl Rounds {
    /// The first one is due at once.
    pub(super) fn new() -> Self {
        let start = MonoTime::from_start(Duration::ZERO);
        Self { next: start, next_whole: start, under_way: None, looked: None }
    }

    /// How long until the next one.
    pub(super) fn wait(&self, now: MonoTime) -> Duration {
        self.next.since(now)
    }

    /// What is looked for now: in the round that is under way, or in a new one.
    pub(super) fn late(&mut self, schedule: &Schedule, now: Now) -> Late {
        let late = schedule.late(now.wall);
        if self.under_way.is_none() {
            if now.mono >= self.next_whole {
                (self.looked, self.next_whole) = (None, now.mono.after(WHOLE_EVERY));
            }
            self.under_way = Some(late.looked(now.wall));
        }
        late.behind(self.looked)
    }

    /// The round has ended.
    pub(super) fn end(&mut self, how: Ended, now: MonoTime) {
        let looked = self.under_way.take();
        self.looked = match how {
            Ended::Whole => looked,
            Ended::Broken => None,
        };
        self.next = now.after(LATE_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::WallTime;

    const MINUTE: Duration = Duration::from_secs(60);
    const HOUR: Duration = Duration::from_secs(3600);
    const START: WallTime = WallTime::from_seconds(1_000_000);

    fn at(minutes: u32) -> Now {
        Now { wall: START.after(MINUTE * minutes), mono: MonoTime::from_start(MINUTE * minutes) }
    }

    fn schedule() -> Schedule {
        Schedule::new(&[HOUR], Some(4 * HOUR), 24 * HOUR).unwrap()
    }

    /// Whether a message that came five hours before the start, and was due then, is looked at.
    fn looks_at_old(late: Late, now: Now) -> bool {
        late.may_concern(START.before(5 * HOUR), START.before(5 * HOUR), now.wall)
    }

    #[test]
    fn what_was_looked_at_is_looked_at_again_an_hour_later_or_when_a_round_broke() {
        let mut rounds = Rounds::new();
        let mut looks = Vec::new();
        for (minute, ended) in [
            (0, Ended::Whole),
            (5, Ended::Whole),
            (55, Ended::Whole),
            (60, Ended::Whole),
            (65, Ended::Broken),
            (70, Ended::Whole),
            (75, Ended::Whole),
            (120, Ended::Whole),
        ] {
            assert_eq!(rounds.wait(at(minute).mono), Duration::ZERO, "{minute}");
            let late = rounds.late(&schedule(), at(minute));
            looks.push((minute, looks_at_old(late, at(minute))));
            rounds.end(ended, at(minute).mono);
            assert_eq!(rounds.wait(at(minute).mono), LATE_EVERY);
        }
        let all = [(0, true), (5, false), (55, false), (60, true), (65, false), (70, true), (75, false), (120, true)];
        assert_eq!(looks, all);
    }

    /// A round may last longer than five minutes, and what becomes late meanwhile may stand before the place that it has come to.
    #[test]
    fn what_becomes_late_while_a_round_lasts_is_looked_at_in_the_next() {
        let mut rounds = Rounds::new();
        // Late from the tenth minute on; in the thirtieth the round is at the end of the queue.
        let came = START.before(4 * HOUR).after(10 * MINUTE);
        assert!(!rounds.late(&schedule(), at(0)).may_concern(came, came, at(0).wall));
        assert!(rounds.late(&schedule(), at(30)).may_concern(came, came, at(30).wall));
        rounds.end(Ended::Whole, at(30).mono);
        assert!(rounds.late(&schedule(), at(35)).may_concern(came, came, at(35).wall));
    }
}
