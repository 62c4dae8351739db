//! Whether anything at all is delivered through an upstream that works but takes no message: pure, with the time as an argument.
//!
//! A 421 or 451 to a message says "later", and one upstream may say so for an hour because it is busy. One that says so to everybody for long is
//! broken, whatever it thinks, and its health (`health`) knows nothing of it: it answers. So it is told of:
//!
//! | an attempt                                              | then                                                                |
//! |---------------------------------------------------------|---------------------------------------------------------------------|
//! | a message was delivered, or refused for good            | it is over, and that is told where the drought was                  |
//! | all of its recipients were put off                      | told, [`DROUGHT`] after the first one in a row, then each [`AGAIN`] |
//! | put off by what speaks of one mailbox or one content    | changes nothing                                                     |
//! | the upstream failed within the message                  | as if it were put off: where one identity alone sends, nothing else |
//! |                                                         | tells of it (`health`)                                              |
//! | it failed before MAIL, or refuses all alike: told       | changes nothing                                                     |
//! | as that, by `health` and as a fault to be repaired      |                                                                     |
//!
//! Never: looks at a reply's text (RFC 5321 §4.2); decides what becomes of mail.

use std::time::Duration;

use super::attempt::{Attempt, Bearing, FaultCause, UpstreamFault};
use super::refusals::speaks_of_one;
use crate::queue::Outcome;
use crate::smtp::Reply;
use crate::sys::{MonoTime, Now, WallTime};

/// For so long everything is put off before it is told as an error.
pub const DROUGHT: Duration = Duration::from_secs(15 * 60);

/// How often it is told again as long as it lasts.
pub const AGAIN: Duration = Duration::from_secs(3600);

/// So many attempts at least: one message that is put off a few times is everyday life (greylisting).
pub const ATTEMPTS_LEAST: u32 = 3;

/// What is put off in a row.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Drought(Option<Row>);

#[derive(Clone, Copy, Debug)]
struct Row {
    begun: Now,
    attempts: u32,
    told: Option<MonoTime>,
}

/// What an operator is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// Nothing has been delivered since then, in so many attempts, and this was said, or happened, last.
    Dry { since: WallTime, attempts: u32, last: String },
    /// What was told of is over; it began then.
    Over { since: WallTime },
}

impl Drought {
    /// Notes what came of an attempt; gives the word that is due.
    pub(super) fn note(&mut self, attempt: &Attempt, now: Now) -> Option<Word> {
        if attempt.outcomes.iter().any(|(_, outcome)| !matches!(outcome, Outcome::Deferred { .. })) {
            let over = self.0.take()?;
            return over.told.map(|_| Word::Over { since: over.begun.wall });
        }
        if attempt.fault.as_ref().is_some_and(is_told_otherwise) {
            return None;
        }
        let last = match attempt.fault.as_ref().filter(|fault| fault.bearing() == Bearing::Message) {
            Some(fault) => fault.sentence(),
            None => put_off_by(attempt)?.to_string(),
        };
        let row = self.0.get_or_insert(Row { begun: now, attempts: 0, told: None });
        row.attempts = row.attempts.saturating_add(1);
        let is_due = match row.told {
            None => row.attempts >= ATTEMPTS_LEAST && now.mono.since(row.begun.mono) >= DROUGHT,
            Some(told) => now.mono.since(told) >= AGAIN,
        };
        is_due.then(|| {
            row.told = Some(now.mono);
            Word::Dry { since: row.begun.wall, attempts: row.attempts, last }
        })
    }

    /// Since when nothing has been delivered, where that has been told.
    pub(super) fn since(&self) -> Option<WallTime> {
        self.0.filter(|row| row.told.is_some()).map(|row| row.begun.wall)
    }
}

/// A reply that put recipients off and may mean everybody; none where all speak of one mailbox or content, or nothing was said.
fn put_off_by(attempt: &Attempt) -> Option<&Reply> {
    let mut replies = attempt.outcomes.iter().filter_map(|(_, outcome)| match outcome {
        Outcome::Deferred { reply, .. } => reply.as_ref(),
        Outcome::Delivered { .. } | Outcome::Failed { .. } => None,
    });
    replies.rfind(|reply| !reply.status().is_some_and(speaks_of_one))
}

fn is_told_otherwise(fault: &UpstreamFault) -> bool {
    fault.bearing() == Bearing::Upstream || matches!(fault.cause, FaultCause::RefusesAll(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::{Code, Status};
    use crate::upstream::attempt::FaultCause;
    use crate::upstream::blame::Phase;

    fn at(minutes: u64) -> Now {
        let passed = Duration::from_secs(minutes * 60);
        Now { wall: WallTime::from_seconds(0).after(passed), mono: MonoTime::from_start(passed) }
    }

    fn reply(code: u16, (class, subject, detail): (u8, u16, u16)) -> Reply {
        Reply::new(Code::new(code).unwrap(), Status::new(class, subject, detail), "x")
    }

    fn deferred(reply: Reply) -> Attempt {
        let outcome = Outcome::Deferred { reason: "x".to_owned(), reply: Some(reply) };
        Attempt { outcomes: vec![(0, outcome)], ..Attempt::default() }
    }

    fn busy() -> Attempt {
        deferred(reply(451, (4, 3, 0)))
    }

    fn fails(phase: Phase, cause: FaultCause) -> Attempt {
        Attempt::deferred(&[0], UpstreamFault { upstream: "main".into(), address: None, phase, cause })
    }

    fn leaves(phase: Phase) -> Attempt {
        fails(phase, FaultCause::Leaves(reply(421, (4, 3, 2))))
    }

    fn delivered() -> Attempt {
        let outcome = Outcome::Delivered { reply: reply(250, (2, 0, 0)) };
        Attempt { outcomes: vec![(0, outcome)], ..Attempt::default() }
    }

    /// E where an error is told, O where it is told that it is over, a dot else.
    fn check(claim: &str, attempts: &[(u64, Attempt)], expected: &str) {
        let mut drought = Drought::default();
        let found = attempts.iter().map(|(minute, attempt)| match drought.note(attempt, at(*minute)) {
            Some(Word::Dry { .. }) => 'E',
            Some(Word::Over { .. }) => 'O',
            None => '.',
        });
        assert_eq!(found.collect::<String>(), expected, "{claim}");
    }

    #[test]
    fn what_is_put_off_for_long_is_told_then_hourly_and_when_it_is_over() {
        let all = |minutes: &[u64], what: fn() -> Attempt| minutes.iter().map(|&minute| (minute, what())).collect();
        let minutes = [0, 5, 14, 15, 16, 74, 75, 134, 135, 200];
        let mut row: Vec<(u64, Attempt)> = all(&minutes, busy);
        row.extend([(201, delivered()), (202, delivered()), (203, busy())]);
        check("451 to all", &row, "...E..E.EEO..");
        check("421 at MAIL", &all(&[0, 5, 15], || leaves(Phase::Mail)), "..E");
        check("421 at the greeting is the health's", &all(&[0, 5, 15, 20], || leaves(Phase::Greeting)), "....");
        let refuses_all = || fails(Phase::Mail, FaultCause::RefusesAll(reply(550, (5, 7, 1))));
        check("all are refused alike: an error each time", &all(&[0, 5, 15, 20, 90], refuses_all), ".....");
        let between =
            [(0, busy()), (5, refuses_all()), (6, busy()), (14, refuses_all()), (15, busy()), (16, delivered())];
        check("which neither ends what is put off nor counts as that", &between, "....EO");
        check("closed within messages", &all(&[0, 5, 15, 20], || fails(Phase::EndOfData, FaultCause::Closed)), "..E.");
        check("closed before", &all(&[0, 5, 15, 20], || fails(Phase::Reset, FaultCause::Closed)), "....");
        let unreadable = || fails(Phase::Body, FaultCause::BodyUnreadable("disk".to_owned()));
        check("our own store", &all(&[0, 5, 15, 20], unreadable), "....");
        check("greylisting", &[(0, busy()), (20, busy()), (40, delivered())], "...");
        let full = || deferred(reply(452, (4, 2, 2)));
        check("a full mailbox, tried for a day", &all(&[0, 15, 60, 120, 180], full), ".....");
        check("one delivered between", &[(0, busy()), (5, busy()), (14, delivered()), (15, busy())], "....");
        let refused = Outcome::Failed { reason: "x".to_owned(), reply: Some(reply(550, (5, 1, 1))) };
        let mut mixed = busy();
        mixed.outcomes.push((1, refused));
        check("who refuses one for good answers", &[(0, busy()), (5, busy()), (16, mixed), (17, busy())], "....");
        check("nothing was said", &all(&[0, 5, 15], Attempt::default), "...");
    }

    #[test]
    fn it_is_told_since_when_and_what_was_said_last() {
        let mut drought = Drought::default();
        assert_eq!((drought.note(&busy(), at(10)), drought.since()), (None, None));
        drought.note(&busy(), at(11));
        let last = reply(421, (4, 7, 0));
        let word = drought.note(&deferred(last.clone()), at(30));
        assert_eq!(word, Some(Word::Dry { since: at(10).wall, attempts: 3, last: last.to_string() }));
        assert_eq!(drought.since(), Some(at(10).wall));
        assert_eq!(drought.note(&delivered(), at(31)), Some(Word::Over { since: at(10).wall }));
        assert_eq!(drought.since(), None);
    }
}
