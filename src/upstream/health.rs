//! Whether an upstream is worth trying: closed, open, half-open, as of a circuit breaker; pure, with the time as an argument.
//!
//! | state     | means                      | leaves it                                                                                  |
//! |-----------|----------------------------|--------------------------------------------------------------------------------------------|
//! | closed    | tried at once              | [`FAILURES_TO_OPEN`] faults in a row that count: open                                      |
//! | open      | left alone until a moment  | the moment passes: the next who asks probes; an operator wants it now: the same, at once   |
//! | half-open | one attempt is the probe   | it gets as far as MAIL: closed; not so far: open, twice as long; it is dropped: probed anew |
//!
//! Whoever may send can write a message that a filter behind the upstream dies of, and send it five times. So faults are counted in two rows, each begun
//! anew by a message that the upstream took or spoke about:
//!
//! | a fault                  | is of        | opens                                                                                  |
//! |--------------------------|--------------|----------------------------------------------------------------------------------------|
//! | before MAIL              | the upstream | when [`FAILURES_TO_OPEN`] are in a row                                                 |
//! | at MAIL or later         | the message  | the same, and messages of at least two identities (not senders, which anybody chooses) met it |
//! | its own store, a reload  | neither      | never                                                                                  |
//!
//! A message that meets a fault waits by its own schedule. And a probe has found out what it is for when MAIL can be said: what the message then meets
//! is that message's matter, and neither holds the others nor lengthens the pause. What is given up: where one identity alone sends, an upstream that
//! fails each message after MAIL is not left alone; each of its messages waits by itself.
//!
//! Never: counts a refusal of a message, or of all; lets two probe at once; sleeps; decides what becomes of mail.

use std::time::Duration;

use super::attempt::{Bearing, UpstreamFault};
use crate::queue::schedule::lengthened;
use crate::sys::{MonoTime, Now, WallTime};

/// Faults in a row after which an upstream is left alone.
pub const FAILURES_TO_OPEN: u32 = 5;
/// How long it is left alone first.
pub const FIRST_PAUSE: Duration = Duration::from_secs(30);
/// How long at most.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(10 * 60);

/// The health of one upstream.
#[derive(Clone, Debug, Default)]
pub struct Health {
    state: State,
    failures: u32,
    within: Within,
    last: Option<(UpstreamFault, WallTime)>,
    /// When a message last found it well.
    well: Option<MonoTime>,
}

/// The row of faults within messages.
#[derive(Clone, Debug, Default)]
struct Within {
    faults: u32,
    met: Identities,
}

/// Whose messages met something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Identities {
    /// Nobody's; reports of our own, whose contents others choose, are nobody's.
    #[default]
    Nobody,
    One(String),
    Several,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Closed,
    Open {
        until: MonoTime,
        pause: Duration,
    },
    HalfOpen {
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
    /// Not for so long; while it is probed, at most so long.
    LeaveAlone(Duration),
}

/// Who found what is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finder {
    /// The one attempt after [`Permit::Probe`].
    Probe,
    /// Any other.
    Ordinary,
}

/// What an attempt found.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// A fault, where there was one.
    pub fault: Option<&'a UpstreamFault>,
    /// The identity whose message it was; none for a report of our own.
    pub of: Option<&'a str>,
}

/// The states as an operator sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Mail goes.
    Closed,
    /// It failed too often and is left alone for so long still; after that, the next message probes it.
    Open(Duration),
    /// One message probes it; the others wait.
    HalfOpen,
}

impl Health {
    /// Asks whether the upstream may be tried now. After [`Permit::Probe`], report with [`Health::report`] or [`Health::abandon`].
    pub fn permit(&mut self, now: Now) -> Permit {
        match self.state {
            State::Closed => Permit::Go,
            State::Open { until, .. } if now.mono < until => Permit::LeaveAlone(until.since(now.mono)),
            State::HalfOpen { pause } => Permit::LeaveAlone(pause),
            State::Open { pause, .. } => {
                self.state = State::HalfOpen { pause };
                Permit::Probe
            }
        }
    }

    /// What an attempt that began then, with a message of this identity, found: no fault, or a fault, which counts or not. A fault that is older than
    /// the last success tells of the past: the upstream hung, and is well again. `jitter` is a random number: it lengthens the pause by up to a tenth, so
    /// that relays that lost an upstream together do not come back together.
    pub fn report(&mut self, found: Found<'_>, by: Finder, begun: MonoTime, now: Now, jitter: u64) {
        let Found { fault: found, of } = found;
        if let Some(fault) = found {
            self.last = Some((fault.clone(), now.wall));
        }
        let is_past = by == Finder::Ordinary && self.well.is_some_and(|well| begun < well);
        match (found.map_or(Bearing::Neither, UpstreamFault::bearing), by) {
            // The dialogue got as far as a message: it is up, whatever became of that one.
            (Bearing::Neither, _) => self.is_ready(now),
            (Bearing::Upstream | Bearing::Message, Finder::Ordinary) if is_past => {}
            (Bearing::Message, Finder::Ordinary) => self.failed_within(of, now, jitter),
            (Bearing::Message, Finder::Probe) => {
                self.is_ready(now);
                self.failed_within(of, now, jitter);
            }
            (Bearing::Upstream, _) => self.failed(by, now, jitter),
        }
    }

    /// A message went, or the probe got as far as MAIL: both rows begin anew.
    pub fn is_ready(&mut self, now: Now) {
        self.well = Some(now.mono);
        (self.state, self.failures, self.within) = (State::Closed, 0, Within::default());
    }

    /// The probe was dropped before it found anything: the next who asks is the probe.
    pub fn abandon(&mut self, now: Now) {
        if let State::HalfOpen { pause } = self.state {
            self.state = State::Open { until: now.mono, pause };
        }
    }

    /// An operator wants to know now: the next who asks is the probe. One that fails leaves the pause as long as it was. Whether that changed
    /// anything.
    pub fn probe_now(&mut self, now: Now) -> bool {
        match self.state {
            State::Open { until, pause } if until > now.mono => {
                self.state = State::Open { until: now.mono, pause: pause / 2 };
                true
            }
            State::Open { .. } | State::HalfOpen { .. } | State::Closed => false,
        }
    }

    fn failed(&mut self, by: Finder, now: Now, jitter: u64) {
        self.failures = self.failures.saturating_add(1);
        let pause = match (self.state, by) {
            (State::Closed, _) if self.failures < FAILURES_TO_OPEN => return,
            (State::Closed, _) => FIRST_PAUSE,
            (State::HalfOpen { pause }, Finder::Probe) => pause.saturating_mul(2).clamp(FIRST_PAUSE, LONGEST_PAUSE),
            // Attempts begun before it opened: nothing new.
            (State::HalfOpen { .. }, Finder::Ordinary) | (State::Open { .. }, _) => return,
        };
        self.state = State::Open { until: now.mono.after(lengthened(pause, jitter)), pause };
    }

    /// A message met a fault, and has its own schedule. An upstream that is left alone already is that because of others.
    fn failed_within(&mut self, of: Option<&str>, now: Now, jitter: u64) {
        self.within.faults = self.within.faults.saturating_add(1);
        self.within.met.add(of);
        let is_every_bodys = self.within.met == Identities::Several && self.within.faults >= FAILURES_TO_OPEN;
        if is_every_bodys && self.state == State::Closed {
            self.state = State::Open { until: now.mono.after(lengthened(FIRST_PAUSE, jitter)), pause: FIRST_PAUSE };
        }
    }

    /// How it looks to an operator.
    pub fn condition(&self, now: Now) -> Condition {
        match self.state {
            State::Closed => Condition::Closed,
            State::Open { until, .. } => Condition::Open(until.since(now.mono)),
            State::HalfOpen { .. } => Condition::HalfOpen,
        }
    }

    /// Faults in a row, before a message or within one.
    pub fn failures(&self) -> u32 {
        self.failures.max(self.within.faults)
    }

    /// The last fault that was found, and when; also after mail went again.
    pub fn last_fault(&self) -> Option<&(UpstreamFault, WallTime)> {
        self.last.as_ref()
    }
}

impl Identities {
    pub(super) fn add(&mut self, identity: Option<&str>) {
        let Some(identity) = identity else { return };
        match self {
            Self::Nobody => *self = Self::One(identity.to_owned()),
            Self::One(known) if known == identity => {}
            Self::One(_) | Self::Several => *self = Self::Several,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::{Code, Reply};
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
            health.report(
                Found { fault: Some(&fault(Phase::Connect)), of: None },
                Finder::Ordinary,
                at(seconds).mono,
                at(seconds),
                0,
            );
        }
        health
    }

    #[test]
    fn five_setup_faults_in_a_row_open_it() {
        let mut health = opened_at(0);
        assert_eq!(health.permit(at(1)), Permit::LeaveAlone(Duration::from_secs(29)));
        assert_eq!(health.condition(at(1)), Condition::Open(Duration::from_secs(29)));
    }

    #[test]
    fn a_success_between_starts_the_row_anew() {
        let mut health = Health::default();
        for _ in 0..3 {
            for _ in 0..FAILURES_TO_OPEN - 1 {
                health.report(
                    Found { fault: Some(&fault(Phase::Greeting)), of: None },
                    Finder::Ordinary,
                    at(0).mono,
                    at(0),
                    0,
                );
            }
            assert_eq!((health.condition(at(0)), health.failures()), (Condition::Closed, 4));
            health.report(Found { fault: None, of: None }, Finder::Ordinary, at(0).mono, at(0), 0);
        }
        assert_eq!((health.permit(at(0)), health.failures()), (Permit::Go, 0));
        assert!(health.last_fault().is_some(), "an operator may still ask what it was");
    }

    /// Faults within messages of these identities, one after the other, and how the upstream stands then.
    fn within(cause: &FaultCause, identities: &[Option<&str>]) -> Condition {
        let mut health = Health::default();
        for &identity in identities {
            let fault = UpstreamFault { cause: cause.clone(), ..fault(Phase::EndOfData) };
            health.report(Found { fault: Some(&fault), of: identity }, Finder::Ordinary, at(0).mono, at(0), 0);
        }
        health.condition(at(0))
    }

    #[test]
    fn faults_within_messages_count_when_several_identities_meet_them() {
        let open = Condition::Open(FIRST_PAUSE);
        let (alice, bob) = (Some("alice"), Some("bob"));
        let closed = FaultCause::Closed;
        assert_eq!(within(&closed, &[alice; 50]), Condition::Closed, "one sender stops nobody else's mail");
        assert_eq!(within(&closed, &[alice, alice, alice, alice, bob]), open);
        assert_eq!(within(&closed, &[alice, bob, alice, bob]), Condition::Closed, "four in a row");
        assert_eq!(
            within(&closed, &[alice, None, alice, None, alice]),
            Condition::Closed,
            "reports on it are nobody's"
        );
        let bye = FaultCause::Leaves(Reply::new(Code::known(421), None, "bye"));
        let no = FaultCause::RefusesAll(Reply::new(Code::known(550), None, "no"));
        for (cause, expected) in [
            (FaultCause::Lost("reset".to_owned()), open),
            (FaultCause::Silent(Duration::from_secs(600)), open),
            (FaultCause::Unintelligible("HTTP".to_owned()), open),
            (bye, Condition::Closed),
            (no, Condition::Closed),
            (FaultCause::BodyUnreadable("disk".to_owned()), Condition::Closed),
        ] {
            assert_eq!(within(&cause, &[alice, bob, alice, bob, alice]), expected, "{cause:?}");
        }
    }

    #[test]
    fn a_message_that_is_spoken_about_between_begins_the_row_of_faults_within_messages_anew() {
        let mut health = Health::default();
        for _ in 0..3 {
            for identity in ["alice", "bob", "alice", "bob"] {
                health.report(
                    Found { fault: Some(&fault(Phase::Body)), of: Some(identity) },
                    Finder::Ordinary,
                    at(0).mono,
                    at(0),
                    0,
                );
            }
            assert_eq!((health.condition(at(0)), health.failures()), (Condition::Closed, 4));
            health.report(Found { fault: None, of: Some("bob") }, Finder::Ordinary, at(0).mono, at(0), 0);
        }
    }

    #[test]
    fn a_probe_that_gets_as_far_as_mail_closes_it_whatever_its_message_meets() {
        for phase in [Phase::Mail, Phase::Data, Phase::EndOfData] {
            let mut health = opened_at(0);
            assert_eq!(health.permit(at(30)), Permit::Probe);
            health.report(
                Found { fault: Some(&fault(phase)), of: Some("alice") },
                Finder::Probe,
                at(30).mono,
                at(31),
                0,
            );
            assert_eq!((health.permit(at(31)), health.failures()), (Permit::Go, 1), "{phase:?}");
        }
        for phase in [Phase::Greeting, Phase::Auth, Phase::Reset] {
            let mut health = opened_at(0);
            assert_eq!(health.permit(at(30)), Permit::Probe);
            health.report(
                Found { fault: Some(&fault(phase)), of: Some("alice") },
                Finder::Probe,
                at(30).mono,
                at(31),
                0,
            );
            assert_eq!(health.condition(at(31)), Condition::Open(Duration::from_secs(60)), "{phase:?}");
        }
    }

    #[test]
    fn a_late_probe_counts_though_a_message_went_after_it_began() {
        let mut health = opened_at(0);
        assert_eq!(health.permit(at(30)), Permit::Probe);
        let begun = at(30).mono;
        health.report(Found { fault: Some(&fault(Phase::Greeting)), of: None }, Finder::Probe, begun, at(31), 0);
        assert_eq!(health.permit(at(91)), Permit::Probe);
        health.well = Some(at(95).mono);
        health.report(Found { fault: Some(&fault(Phase::Greeting)), of: None }, Finder::Probe, at(91).mono, at(100), 0);
        assert_eq!(
            health.condition(at(100)),
            Condition::Open(Duration::from_secs(120)),
            "it is the probe that decides"
        );
    }

    #[test]
    fn faults_within_messages_neither_fail_a_probe_nor_lengthen_a_pause() {
        let mut health = opened_at(0);
        for identity in ["alice", "bob", "alice", "bob", "alice", "bob"] {
            health.report(
                Found { fault: Some(&fault(Phase::Data)), of: Some(identity) },
                Finder::Ordinary,
                at(1).mono,
                at(1),
                0,
            );
        }
        assert_eq!(health.condition(at(1)), Condition::Open(Duration::from_secs(29)));
        assert_eq!(health.permit(at(30)), Permit::Probe);
        health.report(
            Found { fault: Some(&fault(Phase::Data)), of: Some("alice") },
            Finder::Ordinary,
            at(1).mono,
            at(31),
            0,
        );
        assert_eq!(health.condition(at(31)), Condition::HalfOpen);
    }

    #[test]
    fn faults_of_attempts_begun_before_the_last_success_open_nothing() {
        for (begun, expected) in [(9, Condition::Closed), (11, Condition::Open(FIRST_PAUSE))] {
            let mut health = Health::default();
            health.report(Found { fault: None, of: None }, Finder::Ordinary, at(10).mono, at(10), 0);
            for _ in 0..FAILURES_TO_OPEN {
                health.report(
                    Found { fault: Some(&fault(Phase::Greeting)), of: None },
                    Finder::Ordinary,
                    at(begun).mono,
                    at(300),
                    0,
                );
            }
            assert_eq!(health.condition(at(300)), expected, "begun at {begun}");
        }
    }

    #[test]
    fn one_probe_is_let_through_and_its_success_closes_it() {
        let mut health = opened_at(0);
        assert_eq!(health.permit(at(30)), Permit::Probe);
        assert!(matches!(health.permit(at(30)), Permit::LeaveAlone(_)));
        health.report(Found { fault: None, of: None }, Finder::Probe, at(31).mono, at(31), 0);
        assert_eq!(health.permit(at(31)), Permit::Go);
    }

    #[test]
    fn failed_probes_double_the_pause_up_to_its_limit() {
        let mut health = opened_at(0);
        let mut now = 30;
        let mut pauses = Vec::new();
        for _ in 0..7 {
            assert_eq!(health.permit(at(now)), Permit::Probe);
            health.report(Found { fault: Some(&fault(Phase::Tls)), of: None }, Finder::Probe, at(now).mono, at(now), 0);
            let Permit::LeaveAlone(pause) = health.permit(at(now)) else { panic!("still open") };
            pauses.push(pause.as_secs());
            now += pause.as_secs();
        }
        assert_eq!(pauses, [60, 120, 240, 480, 600, 600, 600]);
    }

    #[test]
    fn jitter_lengthens_a_pause_by_a_tenth_at_most_and_doubles_nothing() {
        let mut health = Health::default();
        for _ in 0..FAILURES_TO_OPEN {
            let found = Found { fault: Some(&fault(Phase::Connect)), of: None };
            health.report(found, Finder::Ordinary, at(0).mono, at(0), 3_000);
        }
        assert_eq!(health.condition(at(0)), Condition::Open(Duration::from_secs(33)));
        assert_eq!(health.permit(at(33)), Permit::Probe);
        let found = Found { fault: Some(&fault(Phase::Connect)), of: None };
        health.report(found, Finder::Probe, at(33).mono, at(33), 0);
        assert_eq!(health.condition(at(33)), Condition::Open(Duration::from_secs(60)));
    }

    #[test]
    fn a_probe_that_is_dropped_is_made_by_the_next_and_never_by_two_however_long_it_takes() {
        let mut health = opened_at(0);
        assert_eq!(health.permit(at(30)), Permit::Probe);
        assert_eq!(health.permit(at(3600)), Permit::LeaveAlone(FIRST_PAUSE));
        health.abandon(at(3601));
        assert_eq!(health.permit(at(3601)), Permit::Probe);
    }

    #[test]
    fn attempts_begun_before_it_opened_neither_fail_the_probe_nor_lengthen_the_pause() {
        let mut health = opened_at(0);
        assert_eq!(health.permit(at(30)), Permit::Probe);
        health.report(
            Found { fault: Some(&fault(Phase::Connect)), of: None },
            Finder::Ordinary,
            at(31).mono,
            at(31),
            0,
        );
        assert_eq!(health.condition(at(31)), Condition::HalfOpen);
        health.report(Found { fault: Some(&fault(Phase::Connect)), of: None }, Finder::Probe, at(32).mono, at(32), 0);
        assert_eq!(health.condition(at(32)), Condition::Open(Duration::from_secs(60)));
        health.report(
            Found { fault: Some(&fault(Phase::Connect)), of: None },
            Finder::Ordinary,
            at(40).mono,
            at(40),
            0,
        );
        assert_eq!(health.condition(at(40)), Condition::Open(Duration::from_secs(52)));
    }

    #[test]
    fn a_probe_that_an_operator_asks_for_is_made_at_once_and_lengthens_no_pause() {
        let mut health = opened_at(0);
        for now in [1, 2, 3] {
            assert!(health.probe_now(at(now)));
            assert_eq!(health.permit(at(now)), Permit::Probe);
            assert!(!health.probe_now(at(now)), "it is being probed");
            health.report(
                Found { fault: Some(&fault(Phase::Connect)), of: None },
                Finder::Probe,
                at(now).mono,
                at(now),
                0,
            );
            assert_eq!(health.condition(at(now)), Condition::Open(FIRST_PAUSE));
        }
        assert!(!Health::default().probe_now(at(0)));
    }
}
