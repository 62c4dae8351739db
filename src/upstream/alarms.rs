//! What an operator is told loudly of an upstream: once for each cause, and each hour while that lasts; not once for each message that meets it. Pure.
//!
//! A cause is over when mail is delivered: then the next is told at once. Never: keeps anything from being told at all; what is not loud is a warning.

use std::mem::Discriminant;
use std::time::Duration;

use super::attempt::FaultCause;
use super::blame::Phase;
use crate::sys::MonoTime;

/// So often a cause that lasts is told.
const AGAIN: Duration = Duration::from_secs(3600);

/// Causes that are told apart at the same time; beyond, the oldest is forgotten.
const CAUSES_MAX: usize = 8;

/// What is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// A fault that only a repair mends.
    Fault(Phase, Discriminant<FaultCause>),
    /// Attempt after attempt without an answer.
    Unanswered,
}

/// How it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Voice {
    /// So that a person is woken.
    Alarm,
    /// As a warning.
    Word,
}

/// What was told loudly, and when.
#[derive(Debug, Default)]
pub(super) struct Alarms(Vec<(Cause, MonoTime)>);

impl Alarms {
    /// How this is to be told now.
    pub(super) fn voice(&mut self, cause: Cause, now: MonoTime) -> Voice {
        let known = self.0.iter().position(|(told, _)| *told == cause);
        if known.and_then(|at| self.0.get(at)).is_some_and(|(_, told)| now.since(*told) < AGAIN) {
            return Voice::Word;
        }
        if let Some(at) = known {
            self.0.remove(at);
        } else if self.0.len() >= CAUSES_MAX {
            self.0.remove(0);
        }
        self.0.push((cause, now));
        Voice::Alarm
    }

    /// Mail was delivered.
    pub(super) fn over(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::{Code, Reply};

    fn at(minutes: u64) -> MonoTime {
        MonoTime::from_start(Duration::from_secs(60 * minutes))
    }

    fn fault(cause: &FaultCause) -> Cause {
        Cause::Fault(Phase::Mail, std::mem::discriminant(cause))
    }

    #[test]
    fn a_cause_is_an_alarm_once_an_hour_and_again_when_mail_went_between() {
        let refuses = |text| fault(&FaultCause::RefusesAll(Reply::new(Code::known(550), None, text)));
        let mut alarms = Alarms::default();
        let mut loud = |cause, minutes| alarms.voice(cause, at(minutes)) == Voice::Alarm;
        assert_eq!([0, 1, 59, 60, 61].map(|minutes| loud(refuses("no"), minutes)), [true, false, false, true, false]);
        assert!(!loud(refuses("no, at another second"), 62), "whatever its words");
        assert!(loud(fault(&FaultCause::TlsNotOffered), 62) && loud(Cause::Unanswered, 62), "another cause");
        assert!(!loud(Cause::Unanswered, 63));
        alarms.over();
        assert_eq!(alarms.voice(refuses("no"), at(64)), Voice::Alarm);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut alarms = Alarms::default();
        for phase in [Phase::Connect, Phase::Greeting, Phase::Hello, Phase::Auth, Phase::Mail, Phase::Recipient] {
            for cause in [FaultCause::TlsNotOffered, FaultCause::Injected, FaultCause::CredentialsInTheClear] {
                alarms.voice(Cause::Fault(phase, std::mem::discriminant(&cause)), at(0));
            }
        }
        assert_eq!(alarms.0.len(), CAUSES_MAX);
    }
}
