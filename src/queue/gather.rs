//! How long the writer waits for company before it commits: those who wait at the same time share one commit, and what nobody waits for goes along.
//!
//! | what has gathered                                          | is committed                                                                  |
//! |------------------------------------------------------------|-------------------------------------------------------------------------------|
//! | what somebody waits for, and nobody is expected            | at once                                                                       |
//! | the same, and others are expected                          | when they have come, at the latest so long after the last commit as [`Pace::pause`] says |
//! | outcomes alone, and nothing is on the way nor being tried, nor was a moment ago | at once                                                  |
//! | the same, and something is                                 | with what somebody waits for, and as that; without it, after [`OUTCOME_MAX`]  |
//!
//! Expected are the messages that are on the way, from the moment they have their room until they are handed over: their clients have been told to send them; and
//! as many as shared the last commit: who sends one message after the other comes again. So nobody waits when the last commit is a while ago, and who
//! is alone never does: commits follow one another more slowly only while there are more to share them. Some clients take their time; when a wait was in
//! vain, the next ones are left out, twice as many each time.
//!
//! A moment ago is within [`OUTCOME_MAX`]: who sends one message after the other would else wait each time behind the commit of what came of the one before.
//!
//! Nobody waits for an outcome: the upstream's connection and the identity's turn are free before it is written. But until it is, a crash has the
//! message tried again, so what it may wait is the length by which this makes promise 4's window longer. Where a sync hangs the window is as long as that, whatever
//! is done here: then nothing more is given out, so that no more than what is under way falls into it (`stall`).
//!
//! Pure, but for the count of who is coming. Never: keeps anybody waiting longer than a pause, whoever does not come.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::store::Order;
use crate::sys::MonoTime;

/// While others are expected, so many times as long lies between two commits as one takes.
const PACE: u32 = 8;

/// The longest that somebody who waits is kept waiting for others, where commits are not slow themselves.
pub(super) const PRESSING_MAX: Duration = Duration::from_millis(8);

/// The longest where they are: as long as one takes, and no longer than this.
const SLOW_MAX: Duration = Duration::from_millis(50);

/// The longest that an outcome waits for others while nothing that somebody waits for has come; with that, it waits as that does.
pub(super) const OUTCOME_MAX: Duration = Duration::from_millis(20);

/// Waits that are left out after one in vain, at the most.
const LEFT_OUT_MAX: u32 = 64;

/// Who will bring the writer something soon.
#[derive(Debug, Default)]
pub(super) struct Coming {
    messages: AtomicUsize,
    outcomes: AtomicUsize,
}

/// What somebody will bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Brings {
    /// A message is being received.
    Message,
    /// A message is being tried.
    Outcome,
}

/// One who will bring something; dropped, it is here, or will not come.
#[derive(Debug)]
pub(super) struct Expected {
    coming: Arc<Coming>,
    brings: Brings,
}

/// How many are coming.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Company {
    pub(super) messages: usize,
    pub(super) outcomes: usize,
}

impl Coming {
    fn count(&self, brings: Brings) -> &AtomicUsize {
        match brings {
            Brings::Message => &self.messages,
            Brings::Outcome => &self.outcomes,
        }
    }

    /// One more.
    pub(super) fn expect(self: &Arc<Self>, brings: Brings) -> Expected {
        self.count(brings).fetch_add(1, Ordering::Relaxed);
        Expected { coming: Arc::clone(self), brings }
    }

    pub(super) fn company(&self) -> Company {
        Company { messages: self.messages.load(Ordering::Relaxed), outcomes: self.outcomes.load(Ordering::Relaxed) }
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.coming.count(self.brings).fetch_sub(1, Ordering::Relaxed);
    }
}

/// What has gathered for the next commit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gathered {
    since: MonoTime,
    pressing: usize,
    /// How many were waited for when the first wait began.
    waited_with: Option<usize>,
}

impl Gathered {
    /// Nothing yet, at this moment.
    pub(super) fn new(now: MonoTime) -> Self {
        Self { since: now, pressing: 0, waited_with: None }
    }

    pub(super) fn add(&mut self, order: &Order) {
        self.pressing = self.pressing.saturating_add(usize::from(order.is_pressing()));
    }
}

/// How commits follow one another.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When the last commit ended, and how long it took.
    last: Option<(MonoTime, Duration)>,
    /// How many of those who shared it were waited for.
    shared: usize,
    /// When the last commit ended that somebody waited for.
    heard: Option<MonoTime>,
    /// Waits in vain, one behind the other.
    vain: u32,
    /// Waits that are left out still.
    left_out: u32,
}

impl Pace {
    /// How long to wait for more; nothing when it is to be committed now.
    pub(super) fn patience(&self, gathered: &mut Gathered, company: Company, now: MonoTime) -> Duration {
        if gathered.pressing == 0 {
            let was_heard = self.heard.is_some_and(|ended| now.since(ended) < OUTCOME_MAX);
            let comes = company.messages > 0 || company.outcomes > 0 || was_heard;
            return if comes { OUTCOME_MAX.saturating_sub(now.since(gathered.since)) } else { Duration::ZERO };
        }
        let comes = company.messages > 0 || gathered.pressing < self.shared;
        let Some((ended, took)) = self.last.filter(|_| comes && self.left_out == 0) else {
            return Duration::ZERO;
        };
        let patience = Self::pause(took).saturating_sub(now.since(ended));
        if !patience.is_zero() {
            gathered.waited_with.get_or_insert(gathered.pressing);
        }
        patience
    }

    /// How long behind a commit that took so long the next one may be.
    fn pause(took: Duration) -> Duration {
        took.saturating_mul(PACE).min(PRESSING_MAX).max(took.min(SLOW_MAX))
    }

    /// What had gathered is committed.
    pub(super) fn committed(&mut self, gathered: Gathered, began: MonoTime, ended: MonoTime) {
        self.last = Some((ended, ended.since(began)));
        self.shared = gathered.pressing;
        if gathered.pressing > 0 {
            self.heard = Some(ended);
        }
        match gathered.waited_with {
            Some(alone) if gathered.pressing <= alone => {
                self.left_out = 1_u32.checked_shl(self.vain).unwrap_or(LEFT_OUT_MAX).min(LEFT_OUT_MAX);
                self.vain = self.vain.saturating_add(1);
            }
            Some(_) => self.vain = 0,
            None if gathered.pressing > 0 => self.left_out = self.left_out.saturating_sub(1),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::QueueId;
    use crate::queue::store::{Next, Ticket};

    const MS: Duration = Duration::from_millis(1);

    fn at(millis: u32) -> MonoTime {
        MonoTime::from_start(MS * millis)
    }

    fn outcome() -> Order {
        let ticket = Ticket { id: QueueId::from_u128(1), fence: 1 };
        Order::Conclude { ticket, outcomes: Vec::new(), next: Next::Finished, warned: false, report: None }
    }

    fn pressing() -> Order {
        Order::Hold(QueueId::from_u128(1))
    }

    fn gathered(orders: &[Order], since: u32) -> Gathered {
        let mut gathered = Gathered::new(at(since));
        orders.iter().for_each(|order| gathered.add(order));
        gathered
    }

    /// Behind a commit that ended at 100 ms and took so many microseconds.
    fn behind(took: u32) -> Pace {
        Pace { last: Some((at(100), MS * took / 1000)), ..Pace::default() }
    }

    /// Behind one that somebody waited for, and that ended then.
    fn heard(ended: u32) -> Pace {
        Pace { heard: Some(at(ended)), ..behind(1000) }
    }

    fn company(messages: usize, outcomes: usize) -> Company {
        Company { messages, outcomes }
    }

    #[test]
    fn nobody_waits_alone_nor_long_behind_the_last_commit() {
        let (kept, told) = (|| gathered(&[pressing()], 101), || gathered(&[outcome()], 101));
        for (what, pace, mut gathered, company, now, patience) in [
            ("the first of all", Pace::default(), kept(), company(9, 9), 101, 0),
            ("alone", behind(1000), kept(), company(0, 0), 101, 0),
            ("beside what is tried", behind(1000), kept(), company(0, 9), 101, 0),
            ("beside one on the way", behind(500), kept(), company(1, 0), 101, 3),
            ("long behind the last", behind(500), kept(), company(9, 9), 104, 0),
            ("a disk that is not slow", behind(5_000), kept(), company(1, 0), 101, 7),
            ("a slow disk", behind(20_000), kept(), company(1, 0), 101, 19),
            ("one that is very slow", behind(300_000), kept(), company(1, 0), 101, 49),
            ("as many as the last time", Pace { shared: 1, ..behind(1000) }, kept(), company(0, 0), 101, 0),
            ("fewer than the last time", Pace { shared: 2, ..behind(1000) }, kept(), company(0, 0), 101, 7),
            ("an outcome alone", behind(1000), told(), company(0, 0), 101, 0),
            ("an outcome just behind a message", heard(100), told(), company(0, 0), 101, 20),
            ("and a while behind it", heard(81), told(), company(0, 0), 101, 0),
            ("an outcome beside what is tried", behind(1000), told(), company(0, 1), 106, 15),
            ("an outcome beside one on the way", Pace::default(), told(), company(1, 0), 101, 20),
            ("an outcome that has waited", behind(1000), told(), company(1, 1), 121, 0),
            ("both", behind(1000), gathered(&[outcome(), pressing()], 101), company(0, 9), 101, 0),
            (
                "both, beside one on the way",
                behind(1000),
                gathered(&[outcome(), pressing()], 101),
                company(1, 9),
                102,
                6,
            ),
        ] {
            assert_eq!(pace.patience(&mut gathered, company, at(now)), MS * patience, "{what}");
        }
    }

    #[test]
    fn who_waits_is_kept_no_longer_than_is_said_whatever_comes() {
        let longest = |orders: &[Order]| {
            let patience = |took, messages, outcomes, now| {
                behind(took).patience(&mut gathered(orders, now), company(messages, outcomes), at(now))
            };
            let each = (0..40).flat_map(|took| (100..140).map(move |now| (took * 1000, now)));
            each.map(|(took, now)| patience(took, 1000, 1000, now)).max().unwrap()
        };
        assert_eq!(longest(&[pressing()]), 39 * MS, "as long as the longest commit here");
        assert_eq!(longest(&[outcome()]), OUTCOME_MAX);
        assert_eq!(longest(&[outcome(), pressing()]), 39 * MS);
        assert!((0..1000).all(|took| Pace::pause(MS * took) <= PRESSING_MAX.max(SLOW_MAX)));
        assert!((0..8).all(|took| Pace::pause(MS * took) <= PRESSING_MAX));
    }

    #[test]
    fn waits_in_vain_become_rare_and_one_that_paid_brings_them_back() {
        let mut pace = behind(1000);
        let mut commit = |comes: bool, number: u32| {
            let now = 101 + number * 2;
            let mut gathered = gathered(&[pressing()], now);
            let waits = !pace.patience(&mut gathered, company(1, 0), at(now)).is_zero();
            if waits && comes {
                gathered.add(&pressing());
            }
            pace.committed(gathered, at(now), at(now + 1));
            waits
        };
        let waited: Vec<bool> = (0..16).map(|number| commit(false, number)).collect();
        let rare: Vec<usize> = waited.iter().enumerate().filter(|(_, waits)| **waits).map(|(at, _)| at).collect();
        assert_eq!(rare, [0, 2, 5, 10], "one, two, four, eight left out between them");
        let waited = (16..200).filter(|&number| commit(false, number)).count();
        assert!((2..=6).contains(&waited), "{waited} waits of the next 184");
        let first = (200..300).find(|&number| commit(true, number)).unwrap();
        assert!((first + 1..first + 50).all(|number| commit(true, number)), "it pays again");
    }

    #[test]
    fn who_has_come_or_gone_is_expected_no_more() {
        let coming = Arc::new(Coming::default());
        let (one, other) = (coming.expect(Brings::Message), coming.expect(Brings::Outcome));
        let more = coming.expect(Brings::Message);
        assert_eq!(coming.company(), company(2, 1));
        drop((one, other));
        assert_eq!(coming.company(), company(1, 0));
        drop(more);
        assert_eq!(coming.company(), Company::default());
    }
}
