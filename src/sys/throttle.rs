//! Saying something at most every so often, however often it happens, and how often it was left unsaid.
//!
//! Never: reads a clock; waits.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::MonoTime;

/// For one kind of log line.
#[derive(Debug)]
pub struct Throttle {
    every: Duration,
    said: Mutex<Said>,
}

#[derive(Debug, Default)]
struct Said {
    last: Option<MonoTime>,
    unsaid: u64,
}

impl Throttle {
    /// Once in `every`.
    pub const fn new(every: Duration) -> Self {
        Self { every, said: Mutex::new(Said { last: None, unsaid: 0 }) }
    }

    /// Whether it is to be said now, and how often it was not since it was last.
    pub fn say(&self, now: MonoTime) -> Option<u64> {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.last.is_some_and(|last| now.since(last) < self.every) {
            said.unsaid = said.unsaid.saturating_add(1);
            return None;
        }
        said.last = Some(now);
        Some(std::mem::take(&mut said.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_at_once_then_once_in_a_while_with_the_number_unsaid() {
        let throttle = Throttle::new(Duration::from_secs(60));
        let at = |seconds| throttle.say(MonoTime::from_start(Duration::from_secs(seconds)));
        assert_eq!([at(5), at(6), at(64), at(65), at(66)], [Some(0), None, None, Some(2), None]);
    }
}
