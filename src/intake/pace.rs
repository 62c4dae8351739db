//! A client that sends a message must go on sending: at least so many octets in each window of waiting for it, and the whole within a
//! maximum. Time that we ourselves take (a full queue holding the reading back) does not count against the client.

use std::time::Duration;

/// How slow a transaction may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaceLimits {
    /// Octets per second, on average over the window.
    pub rate_min: u64,
    /// The window over which the rate is taken.
    pub window: Duration,
    /// The longest that waiting for one message's octets may take in all.
    pub total_max: Duration,
}

/// How a client has kept up so far.
#[derive(Debug)]
pub(super) struct Pace {
    limits: PaceLimits,
    waited_in_all: Duration,
    waited_in_window: Duration,
    octets_in_window: u64,
}

/// The client was too slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooSlow;

impl Pace {
    pub(super) fn new(limits: PaceLimits) -> Self {
        Self { limits, waited_in_all: Duration::ZERO, waited_in_window: Duration::ZERO, octets_in_window: 0 }
    }

    /// How long the next wait may be.
    pub(super) fn patience(&self) -> Duration {
        let window = self.limits.window.saturating_sub(self.waited_in_window);
        window.min(self.limits.total_max.saturating_sub(self.waited_in_all))
    }

    /// Counts a wait and what it brought.
    pub(super) fn count(&mut self, waited: Duration, octets: usize) -> Result<(), TooSlow> {
        self.waited_in_all = self.waited_in_all.saturating_add(waited);
        self.waited_in_window = self.waited_in_window.saturating_add(waited);
        self.octets_in_window = self.octets_in_window.saturating_add(u64::try_from(octets).unwrap_or(u64::MAX));
        if self.waited_in_all >= self.limits.total_max {
            return Err(TooSlow);
        }
        if self.waited_in_window < self.limits.window {
            return Ok(());
        }
        let due = self.limits.rate_min.saturating_mul(self.limits.window.as_secs());
        if self.octets_in_window < due {
            return Err(TooSlow);
        }
        self.waited_in_window = Duration::ZERO;
        self.octets_in_window = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: PaceLimits =
        PaceLimits { rate_min: 1024, window: Duration::from_secs(60), total_max: Duration::from_secs(3600) };

    #[test]
    fn a_client_below_the_rate_is_too_slow_at_the_end_of_the_window() {
        let mut pace = Pace::new(LIMITS);
        assert_eq!(pace.count(Duration::from_secs(59), 60 * 1024 - 2), Ok(()));
        assert_eq!(pace.patience(), Duration::from_secs(1));
        assert_eq!(pace.count(Duration::from_secs(1), 1), Err(TooSlow));
    }

    #[test]
    fn a_client_at_the_rate_goes_on_until_the_maximum() {
        let mut pace = Pace::new(LIMITS);
        for _ in 0..59 {
            assert_eq!(pace.count(Duration::from_secs(60), 60 * 1024), Ok(()));
        }
        assert_eq!(pace.count(Duration::from_secs(60), 60 * 1024), Err(TooSlow));
    }
}
