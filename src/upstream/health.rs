//! Whether an upstream is worth trying: closed, open, half-open; pure, with the time as an argument.
//!
//! | state  | means                      | leaves it                                                                        |
//! |--------|----------------------------|----------------------------------------------------------------------------------|
//! | sound  | tried at once              | [`FAILURES_TO_OPEN`] faults in a row that count: open                             |
//! | open   | left alone until a moment  | the moment passes: the next who asks probes                                      |
//! | probed | one attempt is under way   | it succeeds: sound; it fails: open, twice as long; it never reports: probed anew |
//!
//! Never: counts a refusal of a message; sleeps; decides what becomes of mail.

use std::time::Duration;

use super::attempt::UpstreamFault;
use crate::sys::{MonoTime, Now};

/// Faults in a row after which an upstream is left alone.
pub const FAILURES_TO_OPEN: u32 = 5;
/// How long it is left alone first.
pub const FIRST_PAUSE: Duration = Duration::from_secs(30);
/// How long at most.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(10 * 60);
/// A probe that has not reported for so long is forgotten (its task was dropped).
pub const PROBE_FORGOTTEN: Duration = Duration::from_secs(2 * 60);

/// The health of one upstream.
#[derive(Clone, Debug, Default)]
pub struct Health {
    state: State,
    failures: u32,
    last: Option<UpstreamFault>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Sound,
    Open {
        until: MonoTime,
        pause: Duration,
    },
    Probed {
        since: MonoTime,
        pause: Duration,
    },
}

/// Whether it may be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// Yes.
    Go,
    /// Yes, by this one attempt, whose outcome decides.
    Probe,
    /// Not for so long.
    LeaveAlone(Duration),
}

/// The states as an operator sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Mail goes.
    Sound,
    /// It failed lately, and is still tried.
    Shaky,
    /// It is left alone; an alarm is due.
    Broken,
}

impl Health {
    /// Asks whether the upstream may be tried now. After [`Permit::Probe`], report with [`Health::report`].
    pub fn permit(&mut self, now: Now) -> Permit {
        match self.state {
            State::Sound => Permit::Go,
            State::Open { until, .. } if now.mono < until => Permit::LeaveAlone(until.since(now.mono)),
            State::Probed { since, .. } if now.mono.since(since) < PROBE_FORGOTTEN => {
                Permit::LeaveAlone(PROBE_FORGOTTEN.saturating_sub(now.mono.since(since)))
            }
            State::Open { pause, .. } | State::Probed { pause, .. } => {
                self.state = State::Probed { since: now.mono, pause };
                Permit::Probe
            }
        }
    }

    /// What an attempt found: no fault, or a fault, which counts or not.
    pub fn report(&mut self, fault: Option<&UpstreamFault>, now: Now) {
        match fault {
            Some(fault) if fault.counts_as_broken() => self.failed(fault, now),
            // The dialogue got as far as a message: it is up, whatever became of that one.
            Some(_) | None => *self = Self::default(),
        }
    }

    fn failed(&mut self, fault: &UpstreamFault, now: Now) {
        self.failures = self.failures.saturating_add(1);
        self.last = Some(fault.clone());
        let pause = match self.state {
            State::Sound if self.failures < FAILURES_TO_OPEN => return,
            State::Sound => FIRST_PAUSE,
            State::Probed { pause, .. } => pause.saturating_mul(2).min(LONGEST_PAUSE),
            // Attempts begun before it opened: nothing new.
            State::Open { .. } => return,
        };
        self.state = State::Open { until: now.mono.after(pause), pause };
    }

    /// How it looks to an operator.
    pub fn condition(&self) -> Condition {
        match (self.state, self.failures) {
            (State::Sound, 0) => Condition::Sound,
            (State::Sound, _) => Condition::Shaky,
            (State::Open { .. } | State::Probed { .. }, _) => Condition::Broken,
        }
    }

    /// Faults in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The last fault of the row.
    pub fn last_fault(&self) -> Option<&UpstreamFault> {
        self.last.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::WallTime;
    use crate::upstream::attempt::FaultCause;
    use crate::upstream::blame::Phase;

    fn at(seconds: u64) -> Now {
        Now { wall: WallTime::from_seconds(0), mono: MonoTime::from_start(Duration::from_secs(seconds)) }
    }

    fn fault(phase: Phase) -> UpstreamFault {
        UpstreamFault { upstream: "main".into(), address: None, phase, cause: FaultCause::Closed }
    }

    fn opened_at(seconds: u64) -> Health {
        let mut health = Health::default();
        for _ in 0..FAILURES_TO_OPEN {
            assert_eq!(health.permit(at(seconds)), Permit::Go);
            health.report(Some(&fault(Phase::Connect)), at(seconds));
        }
        health
    }

    #[test]
    fn five_setup_faults_in_a_row_open_it() {
        let mut health = opened_at(0);
        assert_eq!(health.permit(at(1)), Permit::LeaveAlone(Duration::from_secs(29)));
        assert_eq!(health.condition(), Condition::Broken);
    }

    #[test]
    fn a_success_between_starts_the_row_anew() {
        let mut health = Health::default();
        for _ in 0..3 {
            for _ in 0..FAILURES_TO_OPEN - 1 {
                health.report(Some(&fault(Phase::Greeting)), at(0));
            }
            assert_eq!(health.condition(), Condition::Shaky);
            health.report(None, at(0));
        }
        assert_eq!((health.permit(at(0)), health.condition()), (Permit::Go, Condition::Sound));
    }

    #[test]
    fn a_connection_lost_within_a_message_does_not_count() {
        let mut health = Health::default();
        for _ in 0..20 {
            health.report(Some(&fault(Phase::EndOfData)), at(0));
        }
        assert_eq!(health.permit(at(0)), Permit::Go);
    }

    #[test]
    fn one_probe_is_let_through_and_its_success_closes_it() {
        let mut health = opened_at(0);
        assert_eq!(health.permit(at(30)), Permit::Probe);
        assert!(matches!(health.permit(at(30)), Permit::LeaveAlone(_)));
        health.report(None, at(31));
        assert_eq!(health.permit(at(31)), Permit::Go);
    }

    #[test]
    fn failed_probes_double_the_pause_up_to_its_limit() {
        let mut health = opened_at(0);
        let mut now = 30;
        let mut pauses = Vec::new();
        for _ in 0..7 {
            assert_eq!(health.permit(at(now)), Permit::Probe);
            health.report(Some(&fault(Phase::Tls)), at(now));
            let Permit::LeaveAlone(pause) = health.permit(at(now)) else { panic!("still open") };
            pauses.push(pause.as_secs());
            now += pause.as_secs();
        }
        assert_eq!(pauses, [60, 120, 240, 480, 600, 600, 600]);
    }

    #[test]
    fn a_probe_that_never_reports_is_forgotten() {
        let mut health = opened_at(0);
        assert_eq!(health.permit(at(30)), Permit::Probe);
        assert_eq!(health.permit(at(150)), Permit::Probe);
    }
}
