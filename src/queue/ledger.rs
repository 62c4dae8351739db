//! The ledger of limits: what one identity has spent, by time.
//!
//! A window slides. What was spent is kept in buckets: minutes for the hour, half hours for the day. A bucket counts whole until all of it has
//! left the window, so that no window of any position ever holds more than its limit; the price is that something spent counts for up to
//! one bucket too long (a minute, half an hour), never too short. An account has at most `BUCKETS_MAX` buckets, which is less than a kilobyte.
//!
//! Time here is the ledger's own (see `accounts`): it never goes back. Pure. Never: reads the store, a clock.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::mail::{Cost, Measure, Rate, Rates, Window};
use crate::sys::WallTime;

/// The most buckets one account has: 61 of the hour and 49 of the day touch their windows.
#[cfg(test)]
const BUCKETS_MAX: usize = 61 + 49;

/// How long a bucket is.
const fn bucket(window: Window) -> Duration {
    Duration::from_secs(match window {
        Window::Hour => 60,
        Window::Day => 1_800,
    })
}

/// What was spent in one stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Bucket {
    /// How many buckets after the epoch.
    number: i64,
    messages: u32,
    recipients: u32,
}

impl Bucket {
    fn cost(self) -> Cost {
        Cost { messages: self.messages, recipients: self.recipients }
    }

    fn end(self, window: Window) -> WallTime {
        WallTime::from_millis(self.number.saturating_add(1).saturating_mul(millis(bucket(window))))
    }

    /// When nothing of it is within the window any more.
    fn leaves(self, window: Window) -> WallTime {
        self.end(window).after(window.length())
    }
}

/// What one identity has spent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct History {
    /// Oldest first, none empty.
    hour: Vec<Bucket>,
    day: Vec<Bucket>,
}

/// A limit that would be broken, and from when on it would not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reached {
    pub(super) rate: Rate,
    /// By the ledger's time.
    pub(super) until: WallTime,
}

impl History {
    /// Notes what is spent at `at`, and forgets what no window holds any more.
    pub(super) fn add(&mut self, cost: Cost, at: WallTime) {
        self.expire(at);
        for window in Window::ALL {
            let number = number(window, at);
            let buckets = self.of(window);
            match buckets.last_mut() {
                // `at` never goes back; if the disk says otherwise, the newest bucket takes it.
                Some(last) if last.number >= number => {
                    let sum = last.cost().plus(cost);
                    (last.messages, last.recipients) = (sum.messages, sum.recipients);
                }
                Some(_) | None => {
                    buckets.push(Bucket { number, messages: cost.messages, recipients: cost.recipients });
                }
            }
        }
    }

    /// Takes back what was noted at `at`.
    pub(super) fn subtract(&mut self, cost: Cost, at: WallTime) {
        for window in Window::ALL {
            let number = number(window, at);
            if let Some(bucket) = self.of(window).iter_mut().find(|bucket| bucket.number == number) {
                let rest = bucket.cost().minus(cost);
                (bucket.messages, bucket.recipients) = (rest.messages, rest.recipients);
            }
        }
    }

    /// Whether nothing of it counts any more.
    pub(super) fn is_idle(&self, at: WallTime) -> bool {
        let gone = |buckets: &[Bucket], window| buckets.last().is_none_or(|last| last.leaves(window) <= at);
        gone(&self.hour, Window::Hour) && gone(&self.day, Window::Day)
    }

    /// The limit that spending `cost` would break, besides what is `under_way` already; of several the one that lasts longest.
    pub(super) fn reached(&self, rates: &Rates, under_way: Cost, cost: Cost, at: WallTime) -> Option<Reached> {
        let asked = rates.each().filter(|rate| cost.of(rate.measure) > 0);
        let broken = asked.filter_map(|rate| {
            let more = u64::from(under_way.of(rate.measure)).saturating_add(u64::from(cost.of(rate.measure)));
            self.free_at(rate, more, at).map(|until| Reached { rate, until })
        });
        broken.max_by_key(|reached| reached.until)
    }

    /// When `more` has a place within the limit; none when it has one now.
    fn free_at(&self, rate: Rate, more: u64, at: WallTime) -> Option<WallTime> {
        let buckets = match rate.window {
            Window::Hour => &self.hour,
            Window::Day => &self.day,
        };
        let counting = || buckets.iter().filter(|bucket| bucket.leaves(rate.window) > at);
        let mut sum: u64 = counting().map(|bucket| spent(*bucket, rate.measure)).sum();
        let fits = |sum: u64| sum.saturating_add(more) <= u64::from(rate.limit);
        if fits(sum) {
            return None;
        }
        for bucket in counting() {
            sum = sum.saturating_sub(spent(*bucket, rate.measure));
            if fits(sum) {
                return Some(bucket.leaves(rate.window));
            }
        }
        // What is under way takes the rest. It will have been spent about now.
        Some(at.after(rate.window.length()).after(bucket(rate.window)))
    }

    fn of(&mut self, window: Window) -> &mut Vec<Bucket> {
        match window {
            Window::Hour => &mut self.hour,
            Window::Day => &mut self.day,
        }
    }

    fn expire(&mut self, at: WallTime) {
        for window in Window::ALL {
            self.of(window).retain(|bucket| bucket.leaves(window) > at);
        }
    }
}

fn spent(bucket: Bucket, measure: Measure) -> u64 {
    u64::from(bucket.cost().of(measure))
}

fn number(window: Window, at: WallTime) -> i64 {
    at.millis().div_euclid(millis(bucket(window)).max(1))
}

fn millis(wait: Duration) -> i64 {
    i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: WallTime = WallTime::from_seconds(1_800_000_017);
    const ONE: Cost = Cost { messages: 1, recipients: 3 };

    /// What was spent, one by one.
    #[derive(Default)]
    struct Log(Vec<(WallTime, Cost)>);

    impl Log {
        /// The sum over the window that ends at `at`, made `wider` by so much.
        fn sum(&self, rate: Rate, at: WallTime, wider: Duration) -> u64 {
            let within = |then: &WallTime| at.since(*then) < rate.window.length() + wider;
            let counted = self.0.iter().filter(|(then, _)| within(then));
            counted.map(|(_, cost)| u64::from(cost.of(rate.measure))).sum()
        }
    }

    fn every_limit(limit: u32) -> Rates {
        Rates {
            messages_per_hour: Some(limit),
            messages_per_day: Some(limit * 2),
            recipients_per_hour: Some(limit * 3),
            recipients_per_day: Some(limit * 5),
        }
    }

    proptest! {
        #[test]
        fn no_window_holds_more_than_its_limit_and_nobody_waits_a_bucket_too_long(
            limit in 1..20_u32,
            steps in proptest::collection::vec((0..8_000_000_u64, 0..3_u32, 0..4_u32), 1..200),
        ) {
            let rates = every_limit(limit);
            let (mut history, mut log, mut at) = (History::default(), Log::default(), START);
            for (wait, messages, recipients) in steps {
                // Mostly seconds, now and then hours.
                at = at.after(Duration::from_millis(if wait % 5 == 0 { wait } else { wait % 90_000 }));
                let cost = Cost { messages, recipients };
                let reached = history.reached(&rates, Cost::default(), cost, at);
                let over = |wider: fn(Window) -> Duration| {
                    rates.each().any(|rate| {
                        let asked = u64::from(cost.of(rate.measure));
                        asked > 0 && log.sum(rate, at, wider(rate.window)) + asked > u64::from(rate.limit)
                    })
                };
                if over(|_| Duration::ZERO) {
                    prop_assert!(reached.is_some(), "a limit is broken");
                }
                if let Some(Reached { rate, until }) = reached {
                    prop_assert!(over(bucket), "{rate}: refused more than a bucket too long");
                    prop_assert!(until > at && until.since(at) <= rate.window.length() + bucket(rate.window));
                    if u64::from(cost.of(rate.measure)) <= u64::from(rate.limit) {
                        prop_assert_ne!(history.reached(&rates, Cost::default(), cost, until).map(|r| r.rate), Some(rate));
                    }
                } else {
                    history.add(cost, at);
                    log.0.push((at, cost));
                }
                prop_assert!(history.hour.len() + history.day.len() <= BUCKETS_MAX);
            }
            prop_assert!(history.is_idle(at.after(Duration::from_secs(86_400 + 1_800))));
            let octets = postcard::to_stdvec(&history).unwrap();
            prop_assert!(octets.len() < 1024 && postcard::from_bytes::<History>(&octets).unwrap() == history);
        }
    }

    #[test]
    fn a_clock_hour_does_not_let_twice_the_limit_through_at_its_boundary() {
        let rates = Rates { messages_per_hour: Some(10), ..Rates::default() };
        let mut history = History::default();
        let before = WallTime::from_seconds(3_600 * 500_000 - 1);
        (0..10).for_each(|_| history.add(ONE, before));
        let after = before.after(Duration::from_secs(2));
        let reached = history.reached(&rates, Cost::default(), ONE, after).unwrap();
        assert_eq!(reached.until, WallTime::from_seconds(3_600 * 500_001));
        assert_eq!(history.reached(&rates, Cost::default(), ONE, reached.until), None);
    }

    #[test]
    fn what_is_under_way_counts_and_what_is_taken_back_does_not() {
        let rates = Rates { messages_per_hour: Some(2), ..Rates::default() };
        let mut history = History::default();
        history.add(ONE, START);
        assert!(history.reached(&rates, ONE, ONE, START).is_some());
        assert!(history.reached(&rates, Cost::default(), ONE, START).is_none());
        history.add(ONE, START);
        assert!(history.reached(&rates, Cost::default(), ONE, START).is_some());
        history.subtract(ONE, START);
        assert!(history.reached(&rates, Cost::default(), ONE, START).is_none());
    }

    #[test]
    fn only_what_is_asked_for_is_measured() {
        let rates = Rates { recipients_per_hour: Some(1), ..Rates::default() };
        let mut history = History::default();
        history.add(Cost { messages: 1, recipients: 1 }, START);
        assert!(history.reached(&rates, Cost::default(), Cost { messages: 1, recipients: 0 }, START).is_none());
        assert!(history.reached(&rates, Cost::default(), Cost { messages: 0, recipients: 1 }, START).is_some());
    }
}
