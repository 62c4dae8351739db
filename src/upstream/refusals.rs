//! Whether an upstream that refuses message after message means the messages, or us: pure.
//!
//! A 5yz to MAIL, RCPT or the final dot speaks of the message (`blame`), and one that is believed bounces mail for good. But a locked account, or a
//! relay that has forgotten us, says the same to everybody (often 550 5.7.1). So refusals are counted that are alike, by code and status:
//!
//! | an attempt                                                            | then                                                     |
//! |-----------------------------------------------------------------------|----------------------------------------------------------|
//! | somebody's message was accepted                                       | all is forgotten                                         |
//! | all were refused alike, by a sender or to a recipient not yet counted | one more                                                 |
//! | the same when [`REFUSALS_ALIKE`] are counted                          | it is the upstream's fault or ours: mail waits, an alarm |
//! | anything else                                                         | changes nothing                                          |
//!
//! Why so: to wait can be mended, to bounce can't, hence a wrong alarm is the smaller harm, and the next accepted message ends it. One message that is sent
//! again and again is one refusal, so nobody can stop the relay's bounces with it. One sender with many recipients does count: many a relay has only one
//! sender; where there are others, their accepted mail tells the two apart. What a status says of one mailbox or one content (RFC 3463 §3.2, §3.3, §3.7, and
//! X.3.4, too large) never counts: lists of dead addresses are common. Never: looks at a reply's text (RFC 5321 §4.2); fails anybody.

use std::collections::HashSet;

use super::attempt::Attempt;
use crate::mail::Envelope;
use crate::queue::Outcome;
use crate::smtp::{Reply, Status};

/// So many refusals alike, with nothing accepted between, are not about the messages.
pub(super) const REFUSALS_ALIKE: usize = 5;

/// Kinds of refusals that are counted side by side at most; beyond, the oldest is forgotten.
const KINDS_MAX: usize = 8;

/// The refusals since a message was last accepted.
#[derive(Debug, Default)]
pub(super) struct Refusals(Vec<Kind>);

/// Refusals that are alike.
#[derive(Debug)]
struct Kind {
    code: u16,
    status: Option<Status>,
    count: usize,
    senders: HashSet<String>,
    recipients: HashSet<String>,
}

impl Refusals {
    /// Notes what came of an attempt; gives the reply when it speaks of us, and not of the message.
    pub(super) fn note(&mut self, envelope: &Envelope, attempt: &Attempt) -> Option<Reply> {
        if attempt.outcomes.iter().any(|(_, outcome)| matches!(outcome, Outcome::Delivered { .. })) {
            self.0.clear();
            return None;
        }
        let reply = refused_alike(attempt)?;
        let kind = self.kind(reply);
        if kind.count >= REFUSALS_ALIKE {
            return Some(reply.clone());
        }
        let recipient = attempt.outcomes.first().and_then(|&(place, _)| envelope.recipients().get(place))?;
        let new_sender = kind.senders.insert(envelope.reverse_path().as_str().to_owned());
        let new_recipient = kind.recipients.insert(recipient.forward_path.as_str().to_owned());
        if new_sender || new_recipient {
            kind.count = kind.count.saturating_add(1);
        }
        (kind.count >= REFUSALS_ALIKE).then(|| reply.clone())
    }

    fn kind(&mut self, reply: &Reply) -> &mut Kind {
        let (code, status) = (reply.code().number(), reply.status());
        let found = self.0.iter().position(|kind| kind.code == code && kind.status == status);
        let kind = match found {
            Some(at) => self.0.remove(at),
            None => Kind { code, status, count: 0, senders: HashSet::new(), recipients: HashSet::new() },
        };
        if self.0.len() >= KINDS_MAX {
            self.0.remove(0);
        }
        self.0.push_mut(kind)
    }
}

/// The reply with which everybody was refused for good, when it may mean us.
fn refused_alike(attempt: &Attempt) -> Option<&Reply> {
    let mut replies = attempt.outcomes.iter().map(|(_, outcome)| match outcome {
        Outcome::Failed { reply, .. } => reply.as_ref(),
        Outcome::Delivered { .. } | Outcome::Deferred { .. } => None,
    });
    let first = replies.next()??;
    let alike = |other: &Reply| (other.code(), other.status()) == (first.code(), first.status());
    let all = replies.all(|other| other.is_some_and(alike));
    (all && !first.status().is_some_and(speaks_of_one)).then_some(first)
}

/// Whether a status speaks of one mailbox or one content: RFC 3463 §3.2 but for the sender's X.1.7 and X.1.8, §3.3, §3.4 X.3.4, §3.7.
pub(super) fn speaks_of_one(status: Status) -> bool {
    match (status.subject(), status.detail()) {
        (1, 7 | 8) => false,
        (1 | 2 | 6, _) | (3, 4) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{Address, ForwardPath, MailParameters, Recipient, ReversePath};
    use crate::smtp::Code;

    fn envelope(sender: &str, to: &str) -> Envelope {
        let address = |text: &str| Address::parse(&format!("{text}@example.net")).unwrap();
        let to = Recipient { forward_path: ForwardPath::Address(address(to)), parameters: Default::default() };
        Envelope::new(ReversePath::Address(address(sender)), MailParameters::default(), vec![to]).unwrap()
    }

    fn reply(code: u16, (class, subject, detail): (u8, u16, u16)) -> Reply {
        Reply::new(Code::new(code).unwrap(), Status::new(class, subject, detail), "no")
    }

    fn attempt(outcome: Outcome) -> Attempt {
        Attempt { outcomes: vec![(0, outcome)], ..Attempt::default() }
    }

    fn refused(code: u16, status: (u8, u16, u16)) -> Attempt {
        attempt(Outcome::Failed { reason: "no".to_owned(), reply: Some(reply(code, status)) })
    }

    fn delivered() -> Attempt {
        attempt(Outcome::Delivered { reply: reply(250, (2, 0, 0)) })
    }

    /// A dot per refusal that is believed, U per one that speaks of us; rows: sender, recipient, what came.
    fn check(claim: &str, attempts: &[(&str, &str, Attempt)], expected: &str) {
        let mut refusals = Refusals::default();
        let found = attempts.iter().map(|(from, to, attempt)| refusals.note(&envelope(from, to), attempt));
        let found: String = found.map(|reply| if reply.is_some() { 'U' } else { '.' }).collect();
        assert_eq!(found, expected, "{claim}");
    }

    const NAMES: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];

    #[test]
    fn the_fifth_refusal_alike_is_not_about_the_message() {
        let all = |from: fn(usize) -> &'static str, to: fn(usize) -> &'static str, what: &dyn Fn(usize) -> Attempt| {
            (0..7).map(|n| (from(n), to(n), what(n))).collect::<Vec<_>>()
        };
        let alike = |_| refused(550, (5, 7, 1));
        check("different senders", &all(|n| NAMES[n], |_| "x", &alike), "....UUU");
        check("different recipients", &all(|_| "x", |n| NAMES[n], &alike), "....UUU");
        check("one message again and again", &all(|_| "x", |_| "y", &alike), ".......");
        let unknown = |_| refused(550, (5, 1, 1));
        check("unknown users", &all(|n| NAMES[n], |n| NAMES[n], &unknown), ".......");
        check("too large", &all(|n| NAMES[n], |n| NAMES[n], &|_| refused(552, (5, 3, 4))), ".......");
        check("refused senders", &all(|n| NAMES[n], |_| "x", &|_| refused(550, (5, 1, 8))), "....UUU");
        let two = |n| refused(if n % 2 == 0 { 550 } else { 554 }, (5, 7, 1));
        check("of two kinds each is counted", &all(|n| NAMES[n], |_| "x", &two), ".......");
        let between = |n| if n == 4 { delivered() } else { alike(n) };
        check("one accepted between", &all(|n| NAMES[n], |_| "x", &between), ".......");
    }

    /// Several recipients in one attempt.
    fn joint(outcomes: Vec<Outcome>) -> Attempt {
        Attempt { outcomes: outcomes.into_iter().enumerate().collect(), ..Attempt::default() }
    }

    fn failed(code: u16, status: (u8, u16, u16)) -> Outcome {
        Outcome::Failed { reason: "no".to_owned(), reply: Some(reply(code, status)) }
    }

    #[test]
    fn only_an_attempt_that_was_refused_whole_and_alike_is_counted() {
        let row = |what: &dyn Fn(usize) -> Attempt| (0..7).map(|n| (NAMES[n], NAMES[n], what(n))).collect::<Vec<_>>();
        let no = || failed(550, (5, 7, 1));
        check("both recipients alike", &row(&|_| joint(vec![no(), no()])), "....UUU");
        check("in two ways", &row(&|_| joint(vec![no(), failed(554, (5, 7, 1))])), ".......");
        let later = || Outcome::Deferred { reason: "later".to_owned(), reply: Some(reply(450, (4, 2, 0))) };
        check("one deferred", &row(&|_| joint(vec![no(), later()])), ".......");
        let expired = || Outcome::Failed { reason: "no".to_owned(), reply: None };
        check("one without a reply", &row(&|_| joint(vec![no(), expired()])), ".......");
        let one_taken = |n| {
            let taken = Outcome::Delivered { reply: reply(250, (2, 0, 0)) };
            joint(if n == 4 { vec![no(), taken] } else { vec![no(), no()] })
        };
        check("accepted for one of two", &row(&one_taken), ".......");
        check("of two statuses", &row(&|n| attempt(failed(550, (5, 7, u16::from(n % 2 == 0))))), ".......");
        for status in [(5, 2, 1), (5, 2, 2), (5, 6, 0), (5, 6, 3)] {
            check("a mailbox or a content", &row(&|_| refused(550, status)), ".......");
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut refusals = Refusals::default();
        let mut note = |sender: usize, detail| {
            refusals.note(&envelope(&format!("s{sender}"), "x"), &refused(550, (5, 7, detail)));
            let lengths = refusals.0.iter().flat_map(|kind| [kind.senders.len(), kind.recipients.len()]);
            (refusals.0.len(), lengths.max().unwrap())
        };
        // All that come after the fifth, whoever sends them.
        for sender in 0..100 {
            assert!(note(sender, 1).1 <= REFUSALS_ALIKE);
        }
        // Each of these is a kind of its own; the oldest of them is forgotten.
        for detail in 2..50 {
            assert!(note(0, detail).0 <= KINDS_MAX);
        }
        let kept: Vec<_> = refusals.0.iter().filter_map(|kind| kind.status).map(Status::detail).collect();
        assert_eq!(kept, (42..50).collect::<Vec<_>>());
    }

    #[test]
    fn a_hostile_upstream_that_refuses_in_ever_new_ways_fills_no_memory() {
        let mut refusals = Refusals::default();
        for detail in 0..100 {
            for name in NAMES {
                refusals.note(&envelope(name, name), &refused(550, (5, 7, detail)));
            }
        }
        let kept = refusals.0.iter().map(|kind| kind.senders.len() + kind.recipients.len());
        assert!(refusals.0.len() <= KINDS_MAX && kept.sum::<usize>() <= 2 * REFUSALS_ALIKE * KINDS_MAX);
    }

    #[test]
    fn it_stays_so_until_one_is_accepted() {
        let mut refusals = Refusals::default();
        let mut note = |n: usize, attempt: Attempt| refusals.note(&envelope(&format!("s{n}"), "x"), &attempt).is_some();
        assert_eq!((0..5).filter(|&n| note(n, refused(550, (5, 7, 1)))).count(), 1, "the fifth");
        assert!(!note(0, refused(550, (5, 1, 1))), "a mailbox that does not exist is one still");
        assert!(note(0, refused(550, (5, 7, 1))));
        assert!(!note(0, delivered()));
        assert!(!note(0, refused(550, (5, 7, 1))));
    }
}
