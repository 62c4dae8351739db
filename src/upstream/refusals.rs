//! Whether an upstream that refuses message after message means the messages, or us: pure.
//!
//! A 5yz to MAIL, RCPT or the final dot speaks of the message (`blame`), and one that is believed bounces mail for good. But a locked account, or a
//! relay that has forgotten us, says the same to everybody (often 550 5.7.1). So refusals are counted that are alike, by code and status:
//!
//! | an attempt                                                            | then                                                     |
//! |-----------------------------------------------------------------------|----------------------------------------------------------|
//! | somebody's message was accepted                                       | all is forgotten                                         |
//! | a report of our own was accepted                                      | changes nothing                                          |
//! | a message not yet counted was refused for all recipients alike        | one more                                                 |
//! | the same when [`REFUSALS_ALIKE`] are counted                          | it is the upstream's fault or ours: mail waits, an alarm |
//! | and messages of several identities were refused so                    | the next upstream may be asked                           |
//! | refused so on a connection from before the message that ended it      | not believed: mail waits; the connection is ended        |
//! | anything else                                                         | changes nothing                                          |
//!
//! Why so: to wait can be mended, to bounce can't, hence a wrong alarm is the smaller harm, and the next accepted message ends it. Messages are counted, not
//! senders and recipients: a site of one program that writes to one mailbox needs it most, and names are what a sender chooses. So one identity whose mail
//! alone is refused has its mail wait, and such refusals of others too, until a message is accepted; but the filter of the first upstream is not got round by
//! way of the second: that takes refused messages of another identity. A report of our own proves nothing: a relay that has forgotten us takes mail to its
//! own domains, so each refusal's report, to the sender, and would have all be forgotten each time. What a status says of one mailbox or one content (RFC 3463 §3.2, §3.3, §3.7, and
//! X.3.4, too large) never counts: lists of dead addresses are common. Never: looks at a reply's text (RFC 5321 §4.2); fails anybody.

use super::attempt::Attempt;
use super::health::Identities;
use crate::queue::Outcome;
use crate::smtp::{Reply, Status};
use crate::sys::MonoTime;

/// So many refusals alike, with nothing accepted between, are not about the messages.
pub(super) const REFUSALS_ALIKE: usize = 5;

/// Kinds of refusals that are counted side by side at most; beyond, the oldest is forgotten.
const KINDS_MAX: usize = 8;

/// The refusals since a message was last accepted.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    kinds: Vec<Kind>,
    mended: Option<Mended>,
}

/// A message was accepted, after all had been refused alike. Servers judge by what they knew when a session began: one from before may go on refusing.
#[derive(Debug)]
struct Mended {
    at: MonoTime,
    /// As what was refused before.
    kinds: Vec<Kind>,
}

/// Refusals that are alike.
#[derive(Debug)]
struct Kind {
    code: u16,
    status: Option<Status>,
    /// The messages, by name.
    messages: Vec<String>,
    met: Identities,
}

/// What refusals alike come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Alike {
    pub(super) reply: Reply,
    /// Whose messages met it.
    pub(super) met: Identities,
}

impl Refusals {
    /// Notes what came of an attempt that ended `now`; gives the reply when it speaks of us, and not of the message.
    pub(super) fn note(
        &mut self,
        message: &str,
        identity: Option<&str>,
        attempt: &Attempt,
        now: MonoTime,
    ) -> Option<Alike> {
        if attempt.outcomes.iter().any(|(_, outcome)| matches!(outcome, Outcome::Delivered { .. })) {
            if identity.is_some() {
                self.accepted(now);
            }
            return None;
        }
        let reply = refused_alike(attempt)?;
        if let Some(met) = self.met_before(reply, attempt.opened) {
            return Some(Alike { reply: reply.clone(), met });
        }
        let kind = self.kind(reply);
        if kind.messages.len() < REFUSALS_ALIKE && !kind.messages.iter().any(|known| known == message) {
            kind.messages.push(message.to_owned());
        }
        kind.met.add(identity);
        kind.is_full().then(|| Alike { reply: reply.clone(), met: kind.met.clone() })
    }

    /// Whether all is refused alike now.
    pub(super) fn are_alike(&self) -> bool {
        self.kinds.iter().any(Kind::is_full)
    }

    /// Whether a connection that was opened then is believed what it refuses.
    pub(super) fn trusts(&self, opened: MonoTime) -> bool {
        self.mended.as_ref().is_none_or(|mended| opened >= mended.at)
    }

    fn accepted(&mut self, now: MonoTime) {
        let kinds: Vec<Kind> = std::mem::take(&mut self.kinds).into_iter().filter(Kind::is_full).collect();
        if !kinds.is_empty() {
            self.mended = Some(Mended { at: now, kinds });
        }
    }

    /// Who met such refusals before it was mended, when this one is still of then.
    fn met_before(&self, reply: &Reply, opened: Option<MonoTime>) -> Option<Identities> {
        let mended = self.mended.as_ref().filter(|mended| opened.is_some_and(|opened| opened < mended.at))?;
        mended.kinds.iter().find(|kind| kind.is_of(reply)).map(|kind| kind.met.clone())
    }

    fn kind(&mut self, reply: &Reply) -> &mut Kind {
        let kind = match self.kinds.iter().position(|kind| kind.is_of(reply)) {
            Some(at) => self.kinds.remove(at),
            None => Kind::of(reply),
        };
        if self.kinds.len() >= KINDS_MAX {
            self.kinds.remove(0);
        }
        self.kinds.push_mut(kind)
    }
}

impl Kind {
    fn of(reply: &Reply) -> Self {
        let (code, status) = (reply.code().number(), reply.status());
        Self { code, status, messages: Vec::new(), met: Identities::default() }
    }

    fn is_of(&self, reply: &Reply) -> bool {
        self.code == reply.code().number() && self.status == reply.status()
    }

    fn is_full(&self) -> bool {
        self.messages.len() >= REFUSALS_ALIKE
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
    use crate::smtp::Code;

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

    /// A dot per refusal that is believed, u per one that speaks of us, U per one that several identities met; rows: message, identity, what came.
    fn check(claim: &str, attempts: &[(&str, &str, Attempt)], expected: &str) {
        let mut refusals = Refusals::default();
        let found = attempts.iter().map(|(message, of, attempt)| refusals.note(message, Some(of), attempt, NOW));
        let found: String = found
            .map(|alike| match alike.map(|alike| alike.met) {
                None => '.',
                Some(Identities::Several) => 'U',
                Some(Identities::One(_) | Identities::Nobody) => 'u',
            })
            .collect();
        assert_eq!(found, expected, "{claim}");
    }

    const NOW: MonoTime = MonoTime::from_start(std::time::Duration::from_secs(60));
    const NAMES: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];

    #[test]
    fn the_fifth_refusal_alike_is_not_about_the_message() {
        let all = |name: fn(usize) -> &'static str, of: fn(usize) -> &'static str, what: &dyn Fn(usize) -> Attempt| {
            (0..7).map(|n| (name(n), of(n), what(n))).collect::<Vec<_>>()
        };
        let alike = |_| refused(550, (5, 7, 1));
        let names = |n: usize| NAMES[n];
        check("different identities", &all(names, names, &alike), "....UUU");
        check("one identity, whatever senders and recipients it names", &all(names, |_| "x", &alike), "....uuu");
        check("one message again and again", &all(|_| "x", |_| "y", &alike), ".......");
        check("somebody else at last", &all(names, |n| if n < 6 { "x" } else { "y" }, &alike), "....uuU");
        let unknown = |_| refused(550, (5, 1, 1));
        check("unknown users", &all(names, names, &unknown), ".......");
        check("too large", &all(names, names, &|_| refused(552, (5, 3, 4))), ".......");
        check("refused senders", &all(names, |_| "x", &|_| refused(550, (5, 1, 8))), "....uuu");
        let two = |n| refused(if n % 2 == 0 { 550 } else { 554 }, (5, 7, 1));
        check("of two kinds each is counted", &all(names, |_| "x", &two), ".......");
        let between = |n| if n == 4 { delivered() } else { alike(n) };
        check("one accepted between", &all(names, |_| "x", &between), ".......");
    }

    #[test]
    fn reports_of_our_own_are_refused_for_nobody() {
        let mut refusals = Refusals::default();
        let mut met = None;
        for name in NAMES {
            let of = (name < "e").then_some("alice");
            met = refusals.note(name, of, &refused(550, (5, 7, 1)), NOW).map(|alike| alike.met);
        }
        assert_eq!(met, Some(Identities::One("alice".to_owned())));
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
        // RFC 3463 §2: an unknown detail is read as the subject's.
        for status in [(5, 2, 1), (5, 2, 2), (5, 6, 0), (5, 6, 3), (5, 1, 99), (5, 2, 99), (5, 6, 99)] {
            check("a mailbox or a content", &row(&|_| refused(550, status)), ".......");
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut refusals = Refusals::default();
        let mut note = |sender: usize, detail| {
            refusals.note(&format!("m{sender}"), Some("x"), &refused(550, (5, 7, detail)), NOW);
            let lengths = refusals.kinds.iter().map(|kind| kind.messages.len());
            (refusals.kinds.len(), lengths.max().unwrap())
        };
        // All that come after the fifth, whoever sends them.
        for sender in 0..100 {
            assert!(note(sender, 1).1 <= REFUSALS_ALIKE);
        }
        // Each of these is a kind of its own; the oldest of them is forgotten.
        for detail in 2..50 {
            assert!(note(0, detail).0 <= KINDS_MAX);
        }
        let kept: Vec<_> = refusals.kinds.iter().filter_map(|kind| kind.status).map(Status::detail).collect();
        assert_eq!(kept, (42..50).collect::<Vec<_>>());
    }

    #[test]
    fn a_hostile_upstream_that_refuses_in_ever_new_ways_fills_no_memory() {
        let mut refusals = Refusals::default();
        for detail in 0..100 {
            for name in NAMES {
                refusals.note(name, Some(name), &refused(550, (5, 7, detail)), NOW);
            }
        }
        let kept = refusals.kinds.iter().map(|kind| kind.messages.len());
        assert!(refusals.kinds.len() <= KINDS_MAX && kept.sum::<usize>() <= REFUSALS_ALIKE * KINDS_MAX);
    }

    #[test]
    fn a_report_of_our_own_that_is_accepted_ends_nothing() {
        let mut refusals = Refusals::default();
        let mut found = Vec::new();
        for name in NAMES {
            found.push(refusals.note(name, Some("alice"), &refused(550, (5, 7, 1)), NOW).is_some());
            assert_eq!(refusals.note(&format!("report on {name}"), None, &delivered(), NOW), None);
        }
        assert_eq!(found, [false, false, false, false, true, true, true]);
    }

    #[test]
    fn it_stays_so_until_one_is_accepted() {
        let mut refusals = Refusals::default();
        let mut note = |n: usize, attempt: Attempt| refusals.note(&format!("m{n}"), Some("x"), &attempt, NOW).is_some();
        assert_eq!((0..5).filter(|&n| note(n, refused(550, (5, 7, 1)))).count(), 1, "the fifth");
        assert!(!note(0, refused(550, (5, 1, 1))), "a mailbox that does not exist is one still");
        assert!(note(0, refused(550, (5, 7, 1))));
        assert!(!note(0, delivered()));
        assert!(!note(0, refused(550, (5, 7, 1))));
    }

    #[test]
    fn what_is_refused_on_a_connection_from_before_it_was_mended_waits() {
        let at = |seconds| MonoTime::from_start(std::time::Duration::from_secs(seconds));
        let mut refusals = Refusals::default();
        let on = |opened, attempt: Attempt| Attempt { opened: Some(at(opened)), ..attempt };
        let no = || refused(550, (5, 7, 1));
        for name in NAMES {
            refusals.note(name, Some(name), &on(0, no()), at(1));
        }
        assert!(refusals.are_alike() && refusals.trusts(at(0)));
        assert_eq!(refusals.note("h", Some("a"), &on(9, delivered()), at(10)), None);
        assert!(!refusals.are_alike() && !refusals.trusts(at(0)) && refusals.trusts(at(10)));
        let mut note = |name: &str, opened, attempt: Attempt| {
            refusals.note(name, Some("a"), &on(opened, attempt), at(20)).map(|alike| alike.met)
        };
        assert_eq!(note("i", 5, no()), Some(Identities::Several), "the session is from before");
        assert_eq!(note("i", 5, refused(554, (5, 7, 1))), None, "refused otherwise");
        assert_eq!(note("i", 10, no()), None, "a new session is believed");
        assert_eq!(note("k", 5, delivered()), None);
        assert_eq!(note("i", 5, no()), Some(Identities::Several), "whatever was accepted since");
    }
}
