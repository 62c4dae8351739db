//! Time as a value.
//!
//! `Now` carries both clocks: the wall for what people and certificates say, the monotonic one for deadlines, so that a
//! wall clock that jumps moves no deadline. Never: sleeps.

use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A moment of the wall clock: milliseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WallTime(i64);

impl WallTime {
    /// The furthest moment there is: "no end".
    pub const MAX: Self = Self(i64::MAX);

    /// A moment so many milliseconds after the epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// A moment so many seconds after the epoch.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// Milliseconds since the epoch.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This moment and so much later; stops at [`WallTime::MAX`].
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)))
    }

    /// This moment and so much earlier.
    #[must_use]
    pub fn before(self, wait: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier` this is; zero when it is not after.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// RFC 3339 in UTC to the second, `2026-11-24T01:48:00Z`; for logs and replies.
    pub fn rfc3339(self) -> String {
        match jiff::Timestamp::from_second(self.seconds()) {
            Ok(moment) => moment.to_string(),
            Err(_) => "for ever".to_owned(),
        }
    }

    /// The date-time of RFC 5322 §3.3 in UTC, `Tue, 24 Nov 2026 01:48:00 +0000`; for header fields.
    pub fn rfc5322(self) -> String {
        match jiff::Timestamp::from_second(self.seconds()) {
            Ok(moment) => moment.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string(),
            Err(_) => "Fri, 31 Dec 9999 23:59:59 +0000".to_owned(),
        }
    }
}

impl fmt::Debug for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

/// A moment of the monotonic clock: time since the process (or the simulation) began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MonoTime(Duration);

impl MonoTime {
    /// The moment so long after the beginning.
    pub const fn from_start(elapsed: Duration) -> Self {
        Self(elapsed)
    }

    /// This moment and so much later.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(wait))
    }

    /// How long after `earlier` this is; zero when it is not after.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// The present, by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// What the calendar says: certificates, retry times, log lines.
    pub wall: WallTime,
    /// What never goes back: deadlines and rates.
    pub mono: MonoTime,
}

/// Something that knows what time it is.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The present.
    fn now(&self) -> Now;
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: std::time::Instant,
}

impl SystemClock {
    /// A clock whose monotonic side starts at zero here.
    #[expect(clippy::disallowed_methods, reason = "this is the seam through which the rest of the program sees time")]
    pub fn start() -> Self {
        Self { start: std::time::Instant::now() }
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the seam through which the rest of the program sees time")]
    fn now(&self) -> Now {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Now {
            wall: WallTime::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)),
            mono: MonoTime(self.start.elapsed()),
        }
    }
}

/// A clock that moves only when told to; for tests and the simulation.
#[derive(Debug)]
pub struct ManualClock {
    now: Mutex<Now>,
}

impl ManualClock {
    /// A clock that stands at `wall`.
    pub fn at(wall: WallTime) -> Self {
        Self { now: Mutex::new(Now { wall, mono: MonoTime(Duration::ZERO) }) }
    }

    /// Both clocks go on by so much.
    pub fn advance(&self, by: Duration) {
        let mut now = self.now.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *now = Now { wall: now.wall.after(by), mono: now.mono.after(by) };
    }

    /// The wall clock is set, forward or back; the monotonic clock does not notice.
    pub fn set_wall(&self, wall: WallTime) {
        self.now.lock().unwrap_or_else(std::sync::PoisonError::into_inner).wall = wall;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Now {
        *self.now.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_has_a_year_of_four_digits_and_a_numeric_zone() {
        // RFC 5322 §3.3; the first is the date-time of the epoch, the last one is beyond what a year of four digits can say.
        let cases = [
            (0, "Thu, 01 Jan 1970 00:00:00 +0000"),
            (1_800_000_000, "Fri, 15 Jan 2027 08:00:00 +0000"),
            (i64::MAX / 1000, "Fri, 31 Dec 9999 23:59:59 +0000"),
        ];
        for (seconds, date) in cases {
            assert_eq!(WallTime::from_seconds(seconds).rfc5322(), date);
        }
    }
}
