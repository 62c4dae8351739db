//! What follows an attempt: who is done, who is told, when it is tried again. A pure decision.
//!
//! | after the attempt | then |
//! |---|---|
//! | somebody is still open, and it is not too late | tried again as the schedule says; past `warn_after`, or past the sender's own `BY=..;N`, the sender is told once |
//! | somebody is still open, and `give_up_after` or the sender's own `BY=..;R` has passed | they have failed, and the sender is told |
//! | somebody is delivered, and the upstream will not tell what the sender wants to know | the sender is told that the message was handed on |
//! | nobody is open | the message is finished |
//! | somebody has it, and others are still being tried | that is recorded, and told where it is to be, after a second: a crash meanwhile sends it to nobody twice |
//! | an upstream may have it, and has not answered yet | that is recorded after a second: a crash meanwhile has the same upstream asked first |
//! | who is open was not tried: the upstreams of his route are left alone | his turn stays as it was, whatever became of the others |
//! | nothing was tried: all upstreams are left alone  | it waits, uncounted; but past `warn_after` and `give_up_after` as above        |
//! | nothing was tried: other mail has the connections | the same, from an hour behind a start on; what was never tried is not given up before twice its time |
//! | nobody is open, and of a failure nobody may be told (null sender, NOTIFY without FAILURE) | the message is dead: kept, listed, counted |
//!
//! Never: lets a failure pass without either a report or a place among the dead.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::mail::{DeliverBy, Notify, ReversePath};
use crate::queue::schedule::{self, Moment, Schedule, Warned, Warning};
use crate::queue::{Certainty, Next, Outcome, Record, Tried};
use crate::report::{self, Fate};
use crate::sys::WallTime;
use crate::upstream::Undertaking;

/// What is to be recorded, and who is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What came of the attempt, and of giving up.
    pub outcomes: Vec<Tried>,
    /// Why nothing was tried, for a report; never recorded.
    pub untried: Vec<Tried>,
    /// What becomes of the message.
    pub next: Next,
    /// Whom the sender is to be told of, by their places in the envelope, and what.
    pub tell: Vec<(usize, Fate)>,
    /// Whether the delay has now been told.
    pub warned: bool,
}

/// What an attempt has brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Brought {
    /// What came of it, for each recipient that was tried.
    pub tried: Vec<Tried>,
    /// Of whom nobody tried, because the upstreams of his route are left alone, why.
    pub untried: Vec<Tried>,
    /// What has been taken over by who took the message.
    pub undertakings: Vec<(usize, Undertaking)>,
}

impl Brought {
    /// What another route brought, too.
    pub fn add(&mut self, other: Self) {
        self.tried.extend(other.tried);
        self.untried.extend(other.untried);
        self.undertakings.extend(other.undertakings);
    }
}

/// Why a message is not tried although it is its turn: the time that its sender gave is over (RFC 2852 §4, `R`). It must not be delivered any more.
pub fn is_too_late(record: &Record, at: Moment) -> Option<&'static str> {
    let since = record.waits_since();
    let is_over = |by: &DeliverBy| by.or_return && at.waited >= by.deadline.since(since);
    let by = record.envelope.parameters().deliver_by.filter(is_over);
    by.map(|_| "the time that its sender gave (BY) was over before it could be delivered")
}

/// The plan for a message after an attempt that ended just now. `jitter` is a random number that spreads retries.
pub fn plan(record: &Record, brought: Brought, schedule: &Schedule, at: Moment, jitter: u64) -> Plan {
    let Brought { tried, untried, undertakings } = brought;
    let schedule = of_its_own(record, schedule);
    let open = still_open(record, &tried);
    let nobody_tried = open.iter().all(|place| untried.iter().any(|one| one.recipient == *place));
    let mut plan = Plan::of(record, tried, untried);
    plan.tell_failures();
    plan.tell_relayed(record, &undertakings, at.now);
    if !open.is_empty() {
        let attempts = record.attempts.saturating_add(1);
        match schedule.next(at, attempts, Warned::from(record.warned), jitter) {
            schedule::Plan::Retry { at: due, warning } => {
                plan.next = Next::Retry(if nobody_tried { record.due } else { due });
                if warning == Warning::Due {
                    plan.warn(record, &open, schedule.gives_up_at(record.waits_since()));
                }
            }
            schedule::Plan::GiveUp => plan.give_up(record, &open, at.waited),
        }
    }
    if plan.next == Next::Finished {
        plan.next = finished_or_dead(record, &plan.outcomes);
    }
    plan.without_reports_on_ours(record)
}

/// What is recorded while the attempt goes on, of those who have the message or may have it: nothing else is decided yet.
pub fn plan_meanwhile(record: &Record, brought: Brought, now: WallTime) -> Plan {
    let mut plan = Plan::of(record, brought.tried, Vec::new());
    plan.tell_relayed(record, &brought.undertakings, now);
    plan.without_reports_on_ours(record)
}

/// The plan for a message that nobody tried just now, because all its upstreams are left alone (`untried` says so of each recipient). None when it
/// simply goes on waiting: no attempt was made, so none is counted, and its turn in the queue stays as it was.
pub fn plan_without_attempt(record: &Record, untried: Vec<Tried>, schedule: &Schedule, at: Moment) -> Option<Plan> {
    let schedule = of_its_own(record, schedule);
    let open = record.open_recipients();
    let mut plan = Plan::of(record, Vec::new(), untried);
    match schedule.next(at, record.attempts, Warned::from(record.warned), 0) {
        schedule::Plan::Retry { warning: Warning::NotDue, .. } => return None,
        schedule::Plan::Retry { warning: Warning::Due, .. } => {
            plan.warn(record, &open, schedule.gives_up_at(record.waits_since()));
            plan.next = Next::Retry(record.due);
        }
        schedule::Plan::GiveUp => {
            plan.give_up(record, &open, at.waited);
            plan.next = finished_or_dead(record, &plan.outcomes);
        }
    }
    Some(plan.without_reports_on_ours(record))
}

/// How long a process runs before it tells of mail that waits for its turn where an upstream works: right behind a start nearly all of it simply goes.
const IN_LINE_AFTER: Duration = Duration::from_secs(3600);

/// How long one that is due waits for its turn before it is in a line: where there is none, it is tried at once, and so is the last attempt of all made.
const IN_LINE_FOR: Duration = Duration::from_secs(600);

/// How long one that is due, and was tried before, waits for its last attempt in a line before it is given up without: an upstream that works would take most
/// of it well within that.
const LAST_ATTEMPT: Duration = Duration::from_secs(3600);

/// The plan for a message whose turn does not come, though an upstream of it works: other mail has its connections, or its identity all the turns that
/// it may have. None when there is nothing to tell. One that nobody has ever tried is worth more than a punctual report, so it has twice the time.
pub fn plan_in_line(record: &Record, schedule: &Schedule, at: Moment) -> Option<Plan> {
    if at.ran < IN_LINE_AFTER || at.now.since(record.due) < IN_LINE_FOR {
        return None;
    }
    let untried = |recipient| Tried::by_nobody(recipient, IN_LINE);
    let untried = || record.open_recipients().into_iter().map(untried).collect::<Vec<_>>();
    let plan = plan_without_attempt(record, untried(), schedule, at)?;
    let gives_up = !matches!(plan.next, Next::Retry(_));
    let has_waited = at.now.since(record.due) >= LAST_ATTEMPT;
    if !gives_up || (record.attempts > 0 && has_waited) {
        return Some(plan);
    }
    let half = Moment { waited: at.waited / 2, ..at };
    if plan_without_attempt(record, untried(), schedule, half).is_some_and(|plan| !matches!(plan.next, Next::Retry(_)))
    {
        return Some(plan);
    }
    let schedule = of_its_own(record, schedule);
    (!record.warned && schedule.warns()).then(|| {
        let mut plan = Plan::of(record, Vec::new(), untried());
        plan.warn(record, &record.open_recipients(), schedule.gives_up_at(record.waits_since()));
        plan.next = Next::Retry(record.due);
        plan.without_reports_on_ours(record)
    })
}

/// Why nothing was tried there.
const IN_LINE: &str = "its turn has not come: the upstream is slow, and other mail has its connections";

/// The schedule with the sender's own wishes in it.
fn of_its_own(record: &Record, schedule: &Schedule) -> Schedule {
    schedule.within(record.waits_since(), record.envelope.parameters().deliver_by)
}

/// `soft_bounce`: a failure is a delay, by the same words; but when the time that its sender gave (`R`) is over, it stays what it is.
pub fn softened(record: &Record, tried: Vec<Tried>, at: Moment) -> Vec<Tried> {
    if is_too_late(record, at).is_some() {
        return tried;
    }
    let soft = |one: Tried| match one.outcome {
        Outcome::Failed { reason, reply } => Tried { outcome: Outcome::Deferred { reason, reply }, ..one },
        Outcome::Delivered { .. } | Outcome::Deferred { .. } => one,
    };
    tried.into_iter().map(soft).collect()
}

impl Plan {
    fn of(record: &Record, outcomes: Vec<Tried>, untried: Vec<Tried>) -> Self {
        Self { outcomes, untried, next: Next::Finished, tell: Vec::new(), warned: record.warned }
    }

    fn warn(&mut self, record: &Record, open: &[usize], until: WallTime) {
        let by_sender = record.envelope.parameters().deliver_by.is_some_and(|by| !by.or_return);
        let fate = if by_sender { Fate::Overdue { until } } else { Fate::Delayed { until } };
        self.warned = true;
        self.tell.extend(open.iter().map(|&place| (place, fate)));
    }

    /// Reports on reports, whoever they come from, would go round for ever.
    fn without_reports_on_ours(mut self, record: &Record) -> Self {
        if record.custodian.is_ours() {
            self.tell.clear();
        }
        self
    }

    fn tell_relayed(&mut self, record: &Record, undertakings: &[(usize, Undertaking)], now: WallTime) {
        let envelope = &record.envelope;
        let told = undertakings.iter().filter(|(place, undertaken)| {
            let recipient = envelope.recipients().get(*place);
            recipient.is_some_and(|recipient| {
                report::is_to_be_told_relayed(envelope, recipient, (undertaken.reports, undertaken.deadline), now)
            })
        });
        self.tell.extend(told.map(|&(place, _)| (place, Fate::Relayed)));
    }

    /// What there is to say of a recipient: what came of this attempt, or of the last, or why there was none; with the upstream's name.
    pub fn said_of<'a>(&'a self, record: &'a Record, place: usize) -> Option<(&'a Outcome, &'a str)> {
        let named = |one: &'a Tried| (&one.outcome, one.upstream.as_str());
        let before = || {
            let state = record.recipients.get(place)?;
            Some((state.last.as_ref()?, state.last_attempt.as_ref().map_or("", |(_, upstream)| upstream.as_str())))
        };
        let of_place = |one: &&Tried| one.recipient == place;
        let now = self.outcomes.iter().find(of_place).map(named);
        now.or_else(before).or_else(|| self.untried.iter().find(of_place).map(named))
    }

    /// Whether a recipient may have the message although nobody said so: an upstream got its final dot, now or before, and was silent.
    pub fn certainty(&self, record: &Record, place: usize) -> Certainty {
        let now = self.outcomes.iter().any(|one| one.recipient == place && one.certainty == Certainty::Undetermined);
        let before = record.recipients.get(place).is_some_and(|state| state.undetermined);
        if now || before { Certainty::Undetermined } else { Certainty::Known }
    }

    /// When a recipient was last tried; none when it never was.
    pub fn last_tried(&self, record: &Record, place: usize, now: WallTime) -> Option<WallTime> {
        let was_tried = !self.untried.iter().any(|one| one.recipient == place);
        if was_tried && self.outcomes.iter().any(|one| one.recipient == place) {
            return Some(now);
        }
        record.recipients.get(place).and_then(|state| state.last_attempt.as_ref()).map(|(at, _)| *at)
    }

    /// The report could not be written, for this reason. A failure would vanish with it, so the message stays for a person to look at; a mere
    /// delay is told the next time.
    pub fn untold(&mut self, reason: &str) {
        if self.tell.iter().any(|(_, fate)| fate.is_failure()) {
            self.next = Next::Dead(reason.to_owned());
        } else {
            self.warned = false;
        }
    }

    /// What was told while the attempt went on is not told again.
    #[must_use]
    pub fn without_telling(mut self, told: &BTreeSet<usize>) -> Self {
        self.tell.retain(|(place, _)| !told.contains(place));
        self
    }

    /// What was recorded while the attempt went on is not recorded again; but that it was an attempt is, by one of them at least.
    pub fn leave_out(&mut self, recorded: &BTreeSet<usize>) {
        if self.outcomes.iter().any(|one| !recorded.contains(&one.recipient)) {
            self.outcomes.retain(|one| !recorded.contains(&one.recipient));
        } else {
            self.outcomes.truncate(1);
        }
    }

    /// Of these it was recorded while the attempt went on that an upstream may have it. Where that has said since that it has not, it counts no more;
    /// what an earlier attempt left open stays.
    pub fn take_back(&mut self, record: &Record, perhaps: impl Fn(usize) -> bool) {
        let was_open = |place: usize| record.recipients.get(place).is_some_and(|state| state.undetermined);
        for one in self.outcomes.iter_mut().filter(|one| one.certainty == Certainty::Known) {
            if perhaps(one.recipient) && !was_open(one.recipient) {
                one.certainty = Certainty::Answered;
            }
        }
    }

    fn tell_failures(&mut self) {
        let failed = self.outcomes.iter().filter(|one| matches!(one.outcome, Outcome::Failed { .. }));
        self.tell = failed.map(|one| (one.recipient, Fate::Failed)).collect();
    }

    fn give_up(&mut self, record: &Record, open: &[usize], waited: Duration) {
        let waited = Duration::from_secs(waited.as_secs());
        for &place in open {
            let (upstream, reason, reply) = match self.said_of(record, place) {
                Some((Outcome::Deferred { reason, reply } | Outcome::Failed { reason, reply }, upstream)) => {
                    (upstream.to_owned(), reason.clone(), reply.clone())
                }
                Some((Outcome::Delivered { .. }, _)) | None => (String::new(), "it was never tried".to_owned(), None),
            };
            let certainty = self.certainty(record, place);
            let reason = format!("given up after {}: {reason}", humantime::format_duration(waited));
            let outcome = Outcome::Failed { reason, reply };
            self.outcomes.retain(|one| one.recipient != place);
            self.outcomes.push(Tried { recipient: place, upstream, outcome, certainty });
            self.tell.push((place, Fate::GaveUp));
        }
    }
}

/// The recipients for whom something is left to do.
fn still_open(record: &Record, tried: &[Tried]) -> Vec<usize> {
    let closed = |place: usize| {
        tried.iter().any(|one| one.recipient == place && !matches!(one.outcome, Outcome::Deferred { .. }))
    };
    record.open_recipients().into_iter().filter(|&place| !closed(place)).collect()
}

/// Nobody is open any more: is there a failure of which nobody may be told?
fn finished_or_dead(record: &Record, outcomes: &[Tried]) -> Next {
    let failed_now = |place: usize| {
        outcomes.iter().any(|one| one.recipient == place && matches!(one.outcome, Outcome::Failed { .. }))
    };
    let failed_before = |place: usize| {
        let state = record.recipients.get(place).filter(|state| !state.is_taken_out());
        matches!(state.and_then(|state| state.last.as_ref()), Some(Outcome::Failed { .. }))
    };
    for (place, recipient) in record.envelope.recipients().iter().enumerate() {
        if !failed_now(place) && !failed_before(place) {
            continue;
        }
        let to = recipient.forward_path.as_str();
        if record.custodian.is_ours() {
            return Next::Dead(format!("{to} failed, and nothing is reported on mail of our own"));
        }
        if record.envelope.reverse_path() == &ReversePath::Null {
            return Next::Dead(format!("{to} failed, and its sender is <>, to whom nothing may be reported"));
        }
        if !recipient.parameters.notify.unwrap_or(Notify::DEFAULT).failure {
            return Next::Dead(format!("{to} failed, and its NOTIFY forbids a report"));
        }
    }
    Next::Finished
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{
        Address, DeliverBy, Envelope, ForwardPath, MailParameters, QueueId, Recipient, RecipientParameters,
    };
    use crate::queue::record::samples;
    use crate::smtp::{Code, Reply};

    const HOUR: Duration = Duration::from_secs(3600);
    const ARRIVED: WallTime = WallTime::from_seconds(1_000);

    /// So long after the messages came, in a process that was there.
    fn aged(waited: Duration) -> Moment {
        Moment { now: ARRIVED.after(waited), waited, ran: waited }
    }

    fn schedule() -> Schedule {
        Schedule::new(&[HOUR], Some(4 * HOUR), 120 * HOUR).unwrap()
    }

    /// A message from `sender` to two recipients, of whom the first has this NOTIFY.
    fn record(sender: ReversePath, notify: Option<Notify>) -> Record {
        let to = |text: &str, notify| Recipient {
            forward_path: ForwardPath::Address(Address::parse(text).unwrap()),
            parameters: RecipientParameters { notify, orcpt: None },
        };
        let recipients = vec![to("bob@example.net", notify), to("carol@example.org", None)];
        let envelope = Envelope::new(sender, MailParameters::default(), recipients).unwrap();
        let deposit = crate::queue::Deposit { envelope, ..samples::deposit(ARRIVED) };
        Record::new(QueueId::from_u128(1), deposit, 3, 0)
    }

    fn alice() -> ReversePath {
        ReversePath::Address(Address::parse("alice@example.com").unwrap())
    }

    fn tried(recipient: usize, outcome: Outcome) -> Tried {
        Tried { recipient, upstream: "main".to_owned(), outcome, certainty: Certainty::Known }
    }

    fn delivered() -> Outcome {
        Outcome::Delivered { reply: Reply::new(Code::known(250), None, "Ok") }
    }

    fn failed() -> Outcome {
        Outcome::Failed { reason: "no such user".to_owned(), reply: None }
    }

    fn deferred() -> Outcome {
        deferred_as("busy")
    }

    fn deferred_as(reason: &str) -> Outcome {
        Outcome::Deferred { reason: reason.to_owned(), reply: None }
    }

    fn after(wait: Duration, record: &Record, tried: Vec<Tried>) -> Plan {
        plan(record, Brought { tried, ..Brought::default() }, &schedule(), aged(wait), 0)
    }

    #[test]
    fn delivered_to_all_is_finished_and_nobody_is_told() {
        let plan = after(HOUR, &record(alice(), None), vec![tried(0, delivered()), tried(1, delivered())]);
        assert_eq!((plan.next, plan.tell), (Next::Finished, vec![]));
    }

    #[test]
    fn a_failure_is_told_at_once_while_the_others_go_on() {
        let plan = after(HOUR, &record(alice(), None), vec![tried(0, failed()), tried(1, deferred())]);
        assert_eq!((plan.next, plan.tell), (Next::Retry(ARRIVED.after(2 * HOUR)), vec![(0, Fate::Failed)]));
    }

    #[test]
    fn a_delay_is_told_once() {
        let mut record = record(alice(), None);
        let outcomes = || vec![tried(0, delivered()), tried(1, deferred())];
        let early = after(3 * HOUR, &record, outcomes());
        assert_eq!((early.tell.as_slice(), early.warned), (&[][..], false));
        let late = after(4 * HOUR, &record, outcomes());
        let until = ARRIVED.after(120 * HOUR);
        assert_eq!((late.tell, late.warned), (vec![(1, Fate::Delayed { until })], true));
        record.warned = true;
        assert_eq!(after(5 * HOUR, &record, outcomes()).tell, vec![]);
    }

    #[test]
    fn who_is_still_open_at_the_end_has_failed_and_is_told() {
        let plan = after(120 * HOUR, &record(alice(), None), vec![tried(0, delivered()), tried(1, deferred())]);
        assert_eq!((&plan.next, plan.tell.as_slice()), (&Next::Finished, &[(1, Fate::GaveUp)][..]));
        let last = plan.outcomes.iter().find(|one| one.recipient == 1).unwrap();
        assert!(matches!(&last.outcome, Outcome::Failed { reason, .. } if reason == "given up after 5days: busy"));
    }

    #[test]
    fn a_failure_that_nobody_may_be_told_of_makes_the_message_dead() {
        for (sender, notify, why) in [
            (ReversePath::Null, None, "bob@example.net failed, and its sender is <>, to whom nothing may be reported"),
            (alice(), Some(Notify::NEVER), "bob@example.net failed, and its NOTIFY forbids a report"),
        ] {
            let plan = after(HOUR, &record(sender, notify), vec![tried(0, failed()), tried(1, delivered())]);
            assert_eq!(plan.next, Next::Dead(why.to_owned()));
        }
    }

    #[test]
    fn when_nobody_can_be_told_a_failure_makes_it_dead_and_a_delay_is_told_another_time() {
        let mut failure = after(HOUR, &record(alice(), None), vec![tried(0, failed()), tried(1, deferred())]);
        failure.untold("no room for the report");
        assert_eq!(failure.next, Next::Dead("no room for the report".to_owned()));
        let mut delay = after(4 * HOUR, &record(alice(), None), vec![tried(0, deferred()), tried(1, deferred())]);
        assert!(delay.warned);
        let next = delay.next.clone();
        delay.untold("no room for the report");
        assert_eq!((delay.next, delay.warned), (next, false));
    }

    #[test]
    fn a_failure_of_an_earlier_attempt_is_not_forgotten() {
        let mut record = record(alice(), Some(Notify::NEVER));
        let bob = record.recipients.first_mut().unwrap();
        (bob.open, bob.last) = (false, Some(failed()));
        let plan = after(HOUR, &record, vec![tried(1, delivered())]);
        assert!(matches!(plan.next, Next::Dead(_)), "{:?}", plan.next);
    }

    fn untried() -> Vec<Tried> {
        let reason = "upstream main failed too often and is left alone for 30 s".to_owned();
        let one = |place| tried(place, Outcome::Deferred { reason: reason.clone(), reply: None });
        vec![one(0), one(1)]
    }

    /// Once ten of forty went, and thirty were given up three seconds before: their turn for the last attempt had not come yet.
    #[test]
    fn what_is_due_for_its_last_attempt_is_not_given_up_while_its_turn_may_come() {
        let mut record = record(alice(), None);
        (record.attempts, record.warned) = (2, true);
        for (minutes_due, is_given_up) in [(11, false), (59, false), (60, true)] {
            let at = Moment { ran: 200 * HOUR, ..aged(121 * HOUR) };
            record.due = at.now.before(Duration::from_secs(60 * minutes_due));
            assert_eq!(plan_in_line(&record, &schedule(), at).is_some(), is_given_up, "{minutes_due}");
        }
    }

    /// Each case: attempts before, whether the delay was told, hours that it has waited, minutes that the process has run; what is done.
    #[test]
    fn who_waits_in_line_is_told_but_what_was_never_tried_has_twice_its_time() {
        #[derive(Debug, PartialEq)]
        enum Done {
            Nothing,
            Warned,
            GivenUp,
        }
        for (attempts, warned, hours, ran, done) in [
            (0, false, 3, 900, Done::Nothing),
            (0, false, 5, 900, Done::Warned),
            (3, false, 5, 900, Done::Warned),
            (0, false, 5, 59, Done::Nothing),
            (0, false, 300, 59, Done::Nothing),
            (0, true, 5, 900, Done::Nothing),
            (1, true, 121, 9000, Done::GivenUp),
            (0, true, 121, 9000, Done::Nothing),
            (0, false, 121, 9000, Done::Warned),
            (0, true, 239, 9000, Done::Nothing),
            (0, true, 241, 9000, Done::GivenUp),
        ] {
            let mut record = record(alice(), None);
            (record.attempts, record.warned) = (attempts, warned);
            let at = Moment { ran: Duration::from_secs(60 * ran), ..aged(hours * HOUR) };
            let found = match plan_in_line(&record, &schedule(), at) {
                None => Done::Nothing,
                Some(plan) if matches!(plan.next, Next::Retry(due) if due == record.due) => {
                    assert!(plan.warned && plan.outcomes.is_empty() && plan.tell.len() == 2, "{plan:?}");
                    Done::Warned
                }
                Some(plan) => {
                    assert_eq!(plan.next, Next::Finished, "{plan:?}");
                    Done::GivenUp
                }
            };
            assert_eq!(found, done, "{attempts} attempts, told {warned}, {hours} h, ran {ran} min");
            // Due at this moment, for its last attempt perhaps: it has its turn first.
            record.due = at.now.before(IN_LINE_FOR - Duration::from_secs(1));
            assert!(plan_in_line(&record, &schedule(), at).is_none());
        }
    }

    fn without_attempt(wait: Duration, record: &Record) -> Option<Plan> {
        plan_without_attempt(record, untried(), &schedule(), aged(wait))
    }

    #[test]
    fn what_nobody_tried_waits_and_nothing_is_recorded_of_it() {
        assert_eq!(without_attempt(3 * HOUR, &record(alice(), None)), None);
    }

    #[test]
    fn who_was_not_tried_keeps_his_turn_when_the_others_are_done_and_waits_with_them_otherwise() {
        let mut record = record(alice(), None);
        record.due = ARRIVED.after(HOUR);
        let untried = || untried().split_off(1);
        for (outcome, due) in [(delivered(), record.due), (deferred(), ARRIVED.after(4 * HOUR))] {
            let brought = Brought { tried: vec![tried(0, outcome)], untried: untried(), ..Brought::default() };
            let plan = plan(&record, brought, &schedule(), aged(3 * HOUR), 0);
            assert_eq!((&plan.next, plan.tell.as_slice()), (&Next::Retry(due), &[][..]));
            assert_eq!(plan.outcomes.len(), 1, "nothing is recorded of who was not tried");
        }
        let brought = Brought { tried: vec![tried(0, delivered())], untried: untried(), ..Brought::default() };
        let late = plan(&record, brought, &schedule(), aged(4 * HOUR), 0);
        assert_eq!((late.warned, late.last_tried(&record, 1, ARRIVED)), (true, None));
    }

    #[test]
    fn with_soft_bounce_a_failure_is_a_delay_until_the_end() {
        let record = record(alice(), None);
        let soft = |wait| {
            let outcomes = vec![tried(0, failed()), tried(1, delivered())];
            after(wait, &record, softened(&record, outcomes, aged(wait)))
        };
        let early = soft(HOUR);
        assert_eq!((&early.next, early.tell.as_slice()), (&Next::Retry(ARRIVED.after(2 * HOUR)), &[][..]));
        assert_eq!(early.outcomes[0].outcome, Outcome::Deferred { reason: "no such user".into(), reply: None });
        assert_eq!(soft(120 * HOUR).tell, [(0, Fate::GaveUp)]);
    }

    #[test]
    fn a_delay_is_told_of_what_nobody_tries_and_its_turn_stays() {
        let mut record = record(alice(), None);
        record.due = ARRIVED.after(HOUR);
        let plan = without_attempt(4 * HOUR, &record).unwrap();
        let until = ARRIVED.after(120 * HOUR);
        assert_eq!((plan.outcomes.as_slice(), &plan.next, plan.warned), (&[][..], &Next::Retry(record.due), true));
        assert_eq!(plan.tell, [(0, Fate::Delayed { until }), (1, Fate::Delayed { until })]);
        let (outcome, upstream) = plan.said_of(&record, 0).unwrap();
        assert!(matches!(outcome, Outcome::Deferred { reason, .. } if reason.contains("left alone")));
        assert_eq!((upstream, plan.last_tried(&record, 0, ARRIVED)), ("main", None));
        record.warned = true;
        assert_eq!(without_attempt(5 * HOUR, &record), None);
    }

    #[test]
    fn what_nobody_tries_is_given_up_for_the_reason_of_its_last_attempt() {
        let mut record = record(alice(), None);
        let bob = record.recipients.first_mut().unwrap();
        (bob.last, bob.last_attempt) = (Some(deferred()), Some((ARRIVED.after(HOUR), "spare".to_owned())));
        let plan = without_attempt(120 * HOUR, &record).unwrap();
        assert_eq!((&plan.next, plan.tell.as_slice()), (&Next::Finished, &[(0, Fate::GaveUp), (1, Fate::GaveUp)][..]));
        let reason = |place: usize| match &plan.outcomes.iter().find(|one| one.recipient == place).unwrap().outcome {
            Outcome::Failed { reason, .. } => reason.clone(),
            Outcome::Delivered { .. } | Outcome::Deferred { .. } => panic!("not failed"),
        };
        assert_eq!(reason(0), "given up after 5days: busy");
        assert!(reason(1).contains("left alone"));
        assert_eq!(plan.last_tried(&record, 0, ARRIVED.after(120 * HOUR)), Some(ARRIVED.after(HOUR)));
    }

    #[test]
    fn that_an_upstream_may_have_it_is_known_from_this_attempt_or_an_earlier_one() {
        let mut record = record(alice(), None);
        record.recipients.first_mut().unwrap().undetermined = true;
        let silent = Tried { certainty: Certainty::Undetermined, ..tried(1, deferred()) };
        for outcomes in [vec![tried(0, deferred()), silent.clone()], vec![silent]] {
            let plan = after(120 * HOUR, &record, outcomes);
            assert_eq!(plan.tell.len(), 2);
            for place in [0, 1] {
                assert_eq!(plan.certainty(&record, place), Certainty::Undetermined, "{place}");
            }
        }
    }

    const SUCCESS: Notify = Notify { success: true, failure: true, delay: false };

    fn with_by(sender: ReversePath, notify: Option<Notify>, by: Option<DeliverBy>) -> Record {
        let mut record = record(sender, notify);
        let parameters = MailParameters { deliver_by: by, ..MailParameters::default() };
        let recipients = record.envelope.recipients().to_vec();
        record.envelope = Envelope::new(record.envelope.reverse_path().clone(), parameters, recipients).unwrap();
        record
    }

    #[test]
    fn that_it_was_handed_on_is_told_when_the_upstream_will_not_tell() {
        let by = |or_return, trace| Some(DeliverBy { deadline: ARRIVED.after(HOUR), or_return, trace });
        // RFC 2852 §4.1.4.2: of what is late already that is not told unasked.
        let over = |trace| Some(DeliverBy { deadline: ARRIVED, or_return: false, trace });
        let knows_both = Undertaking { reports: true, deadline: true };
        let knows_none = Undertaking::default();
        for (notify, by, undertaken, told) in [
            // RFC 3461 §5.2.2: SUCCESS, and the upstream has no DSN; and never otherwise.
            (Some(SUCCESS), None, knows_none, true),
            (Some(SUCCESS), None, knows_both, false),
            (None, None, knows_none, false),
            (Some(Notify::DEFAULT), None, knows_none, false),
            (Some(Notify::NEVER), None, knows_none, false),
            // RFC 2852 §4.1.4: unless NEVER, when it is not known further on, or traced.
            (None, by(false, false), knows_none, true),
            (None, by(false, false), knows_both, false),
            (None, over(false), knows_none, false),
            (None, over(true), knows_none, true),
            (Some(Notify::NEVER), by(false, false), knows_none, false),
            (None, by(false, true), knows_both, true),
            (None, by(true, true), knows_both, true),
            (None, by(true, false), knows_both, false),
            (Some(Notify::NEVER), by(true, true), knows_both, false),
        ] {
            let record = with_by(alice(), notify, by);
            let brought = Brought {
                tried: vec![tried(0, delivered()), tried(1, failed())],
                undertakings: vec![(0, undertaken)],
                ..Brought::default()
            };
            let plan = plan(&record, brought, &schedule(), aged(Duration::from_secs(1)), 0);
            let relayed = plan.tell.contains(&(0, Fate::Relayed));
            assert_eq!(relayed, told, "{notify:?} {by:?} {undertaken:?}");
            assert!(plan.tell.contains(&(1, Fate::Failed)));
        }
    }

    #[test]
    fn what_must_be_returned_when_its_time_is_over_is_not_tried_then_but_given_up() {
        let by = Some(DeliverBy { deadline: ARRIVED.after(HOUR), or_return: true, trace: false });
        let record = with_by(alice(), None, by);
        let just_before = aged(HOUR - Duration::from_secs(1));
        assert_eq!((is_too_late(&record, just_before), is_too_late(&record, aged(HOUR)).is_some()), (None, true));
        let plan = without_attempt(HOUR, &record).unwrap();
        assert_eq!((&plan.next, plan.tell.as_slice()), (&Next::Finished, &[(0, Fate::GaveUp), (1, Fate::GaveUp)][..]));
        let told = with_by(alice(), None, by.map(|by| DeliverBy { or_return: false, ..by }));
        assert_eq!(is_too_late(&told, aged(HOUR * 9)), None, "N goes on");
        let until = ARRIVED.after(120 * HOUR);
        let plan = after(HOUR, &told, vec![tried(0, deferred()), tried(1, deferred())]);
        assert_eq!(plan.tell, [(0, Fate::Overdue { until }), (1, Fate::Overdue { until })]);
        assert!(plan.warned);
    }

    #[test]
    fn a_clock_that_is_set_forward_ends_neither_a_time_to_deliver_in_nor_the_wait() {
        let by = Some(DeliverBy { deadline: ARRIVED.after(3 * HOUR), or_return: true, trace: false });
        let after_a_week = Moment { now: ARRIVED.after(168 * HOUR), ..aged(HOUR) };
        for by in [by, None] {
            let record = with_by(alice(), None, by);
            assert_eq!(is_too_late(&record, after_a_week), None);
            let brought = Brought { tried: vec![tried(0, deferred()), tried(1, deferred())], ..Brought::default() };
            let plan = plan(&record, brought, &schedule(), after_a_week, 0);
            assert_eq!((plan.next, plan.tell), (Next::Retry(ARRIVED.after(169 * HOUR)), vec![]));
        }
    }

    #[test]
    fn soft_bounce_does_not_soften_what_comes_after_the_time_that_its_sender_gave() {
        let by = |or_return| Some(DeliverBy { deadline: ARRIVED.after(HOUR), or_return, trace: false });
        let just_before = aged(HOUR - Duration::from_secs(1));
        for (or_return, now, expected) in [
            (true, aged(HOUR), failed()),
            (true, just_before, deferred_as("no such user")),
            (false, aged(HOUR), deferred_as("no such user")),
        ] {
            let record = with_by(alice(), None, by(or_return));
            assert_eq!(softened(&record, vec![tried(0, failed())], now)[0].outcome, expected, "{or_return}");
        }
    }

    #[test]
    fn soft_bounce_does_not_touch_what_is_told_of_the_delivered() {
        let record = with_by(alice(), Some(SUCCESS), None);
        let now = aged(HOUR);
        let tried = softened(&record, vec![tried(0, delivered()), tried(1, failed())], now);
        let brought = Brought { tried, undertakings: vec![(0, Undertaking::default())], ..Brought::default() };
        let plan = plan(&record, brought, &schedule(), now, 0);
        assert_eq!(
            (plan.tell.as_slice(), &plan.next),
            (&[(0, Fate::Relayed)][..], &Next::Retry(ARRIVED.after(2 * HOUR)))
        );
    }

    #[test]
    fn of_our_own_mail_nothing_is_reported_whoever_it_comes_from() {
        let mut record = record(alice(), None);
        record.custodian = crate::queue::Custodian::ours();
        let plan = after(HOUR, &record, vec![tried(0, failed()), tried(1, delivered())]);
        assert_eq!(
            plan.next,
            Next::Dead("bob@example.net failed, and nothing is reported on mail of our own".to_owned())
        );
        assert_eq!(plan.tell, []);
    }
}
