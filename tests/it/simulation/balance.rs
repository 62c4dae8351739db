//! What became of each message, recipient by recipient: whether it is what had to become of it, and how often.
//!
//! | recipient | may be |
//! |---|---|
//! | r0 to r3 | arrived; never failed, whatever the weather: unless their sender wanted the message back by a time (`BY=..;R`) that is over |
//! | `never@` | failed at once |
//! | `later@` | failed after `give_up_after` (a day), or when its sender's time is over; not before |
//!
//! A failure is reported to the sender, once. It is kept as dead only when nobody may be told: the sender is `<>`, or NOTIFY lacks FAILURE; or when a report
//! could not be kept (the disk was full), and then with whoever was still open. A report that can't be delivered is dead as well (`bob@` takes none).
//!
//! Nobody has it and is reported as failed too, but where the upstream took it and our side could not know: it did not say so, or the power went before this
//! was recorded. The same two are the only windows in which anything may come twice.
//!
//! Where an upstream took a message and was silent, and the power went later than a moment behind that, the next life knows that it may have it: so the
//! same one is asked first (`knows_who_may_have_it`).
//!
//! Never: takes what the relay says of itself for a proof of what the upstream got.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use memchr::memmem;
use sealpost::mail::ReversePath;
use sealpost::queue::{Listed, Outcome, Record, State};

use super::account::{Account, Submission, Summary, Wishes};
use crate::scripted_upstream::Taken;

const HOUR: Duration = Duration::from_secs(3600);
/// `give_up_after` and `warn_after` of the simulation.
pub(super) const GIVE_UP_AFTER: Duration = Duration::from_secs(24 * 3600);
pub(super) const WARN_AFTER: Duration = Duration::from_secs(4 * 3600);
/// How long an attempt may take that began in time (a slow upstream says an octet a minute).
const ATTEMPT: Duration = HOUR;
/// The sender's own time (`BY`) runs from MAIL on, and a message has arrived when all of it is kept: what its last octets took on the way is told by nobody.
const ON_THE_WAY: Duration = Duration::from_secs(60);

/// What there is to be seen at the end.
pub(super) struct Evidence<'a> {
    /// What the upstreams took, in the order in which they did.
    pub(super) taken: &'a [Taken],
    /// When, since the beginning of the first life.
    pub(super) when: &'a [Duration],
    /// Which of it was not recorded when the power went, by its place.
    pub(super) unrecorded: &'a BTreeSet<usize>,
    /// What is left in the queue.
    pub(super) listing: &'a [Listed],
    pub(super) crashes: u64,
}

/// A submission, and one of its recipients.
type Place = (usize, String);

/// What the senders were told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    Failed,
    Delayed,
    Relayed,
}

/// Who is dead.
#[derive(Default)]
struct Dead {
    /// By the message itself.
    dead: BTreeSet<Place>,
    /// Whom a report that is dead may be about.
    told: BTreeSet<Place>,
}

/// How often it came, and whether the relay must have known.
#[derive(Clone, Copy, Debug, Default)]
struct Arrivals {
    times: usize,
    is_sure: bool,
}

/// See the module. An error is a broken promise.
pub(super) fn balance(account: &Account, evidence: &Evidence<'_>) -> Result<Summary, String> {
    Balance { account, evidence }.draw()
}

/// Whether the store knows, of whom it still owes one of these, that an upstream may have it: each was taken, and nothing was said.
pub(super) fn knows_who_may_have_it(owed: &[Listed], silent: &[Taken]) -> Result<(), String> {
    for taken in silent {
        let own = message_id(&String::from_utf8_lossy(&taken.octets)).unwrap_or_default();
        let is_it = |record: &&Record| {
            let id = record.trace.message_id.as_deref().unwrap_or_default();
            id.trim_matches(['<', '>']) == own.trim_matches(['<', '>'])
        };
        let records = owed.iter().filter_map(|listed| match listed {
            Listed::Message(record) => Some(record.as_ref()),
            Listed::Unreadable(..) => None,
        });
        let Some(record) = records.into_iter().find(is_it) else { continue };
        for (recipient, state) in record.envelope.recipients().iter().zip(&record.recipients) {
            let is_meant = taken.recipients.iter().any(|line| path_of(line) == recipient.forward_path.as_str());
            if is_meant && state.open && !state.undetermined {
                let to = recipient.forward_path.as_str();
                return Err(format!(
                    "{to} may have it, and the store does not know: {state:?}, taken at {:?}",
                    taken.at
                ));
            }
        }
    }
    Ok(())
}

struct Balance<'a> {
    account: &'a Account,
    evidence: &'a Evidence<'a>,
}

impl Balance<'_> {
    fn draw(&self) -> Result<Summary, String> {
        let arrivals = self.arrivals()?;
        let (told, Dead { dead, told: perhaps_dead }) = (self.told(&arrivals)?, self.dead()?);
        let mut summary = Summary { crashes: self.evidence.crashes, ..Summary::default() };
        for submission in &self.account.submissions {
            let is_kept = submission.acknowledged.is_some();
            let mut came = false;
            for recipient in &submission.recipients {
                let place = (submission.number, (*recipient).to_owned());
                let has = arrivals.get(&place).copied().unwrap_or_default();
                let is_reported = told.contains(&(place.clone(), Told::Failed));
                let is_dead = dead.contains(&place);
                came |= has.times > 0;
                if has.is_sure && is_dead {
                    return Err(format!("{recipient} has it, and is dead: {submission:?}"));
                }
                if is_reported && is_dead {
                    return Err(format!("{recipient} is reported and dead: {submission:?}"));
                }
                if has.times > 0 && (recipient.starts_with("never@") || recipient.starts_with("later@")) {
                    return Err(format!("{recipient} has it, whom nobody takes: {submission:?}"));
                }
                match (has.times, is_reported, is_dead) {
                    _ if !is_kept => {}
                    (1.., _, _) => {
                        summary.arrived += 1;
                        summary.twice += usize::from(has.times > 1);
                    }
                    (0, true, _) => summary.reported += 1,
                    (0, false, true) => summary.dead += 1,
                    (0, false, false) if perhaps_dead.contains(&place) => summary.dead += 1,
                    (0, false, false) if self.was_removed(submission, recipient) => summary.removed += 1,
                    (0, false, false) => {
                        return Err(format!("nothing became of it for {recipient}: {submission:?}"));
                    }
                }
            }
            summary.acknowledged += usize::from(is_kept);
            summary.unacknowledged += usize::from(!is_kept && came);
        }
        Ok(summary)
    }

    /// An operator took it out, or the report on it.
    fn was_removed(&self, submission: &Submission, recipient: &str) -> bool {
        let Some(id) = &submission.acknowledged else { return false };
        let has_report = self.account.removed_reports.contains(id) && may_be_reported(submission);
        let may_fail = recipient.starts_with("never@")
            || recipient.starts_with("later@")
            || matches!(submission.wishes, Wishes::OrReturn(_));
        self.account.removed.contains(id) || (has_report && may_fail)
    }

    /// How often each arrived. Whatever arrives was sent whole and is what was sent, and comes neither too early nor too late.
    ///
    /// Promise 4, twice only in the windows that are written down: after one that was answered and could be recorded, nothing comes.
    fn arrivals(&self) -> Result<BTreeMap<Place, Arrivals>, String> {
        let mut arrivals = BTreeMap::<Place, Arrivals>::new();
        for (place, one) in self.messages() {
            let submission = self.sent(&String::from_utf8_lossy(&one.octets))?;
            let Some(ended) = submission.ended else {
                return Err(format!("it arrived although its final dot was never sent: {submission:?}"));
            };
            if !one.octets.ends_with(&submission.octets()) {
                return Err(format!("it did not arrive as it was sent: {submission:?}"));
            }
            if one.mail.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(path, _)| path)
                != Some(submission.sender.as_str())
            {
                return Err(format!("it came from somebody else, {:?}: {submission:?}", one.mail));
            }
            let waited = self.evidence.when[place].saturating_sub(ended);
            let slack = self.account.stepped;
            match submission.wishes {
                Wishes::Later(seconds)
                    if !self.account.let_go.iter().any(|id| submission.message_id().contains(id.as_str()))
                        && waited + slack + HOUR / 60 < Duration::from_secs(seconds) =>
                {
                    return Err(format!(
                        "it was to be held for {seconds} s, and left after {waited:?}: {submission:?}"
                    ));
                }
                Wishes::OrReturn(seconds) if waited > Duration::from_secs(seconds) + slack + ATTEMPT => {
                    return Err(format!(
                        "it was to come back after {seconds} s, and left after {waited:?}: {submission:?}"
                    ));
                }
                _ => {}
            }
            for line in &one.recipients {
                let recipient = path_of(line);
                if !submission.recipients.contains(&recipient) {
                    return Err(format!("{recipient} has what was not sent to him: {submission:?}"));
                }
                let has = arrivals.entry((submission.number, recipient.to_owned())).or_default();
                if has.is_sure {
                    let came = self.history(submission);
                    return Err(format!("{recipient} has it twice, and no window was open: {submission:?}\n{came}"));
                }
                has.times += 1;
                has.is_sure = self.must_be_known(place);
            }
        }
        Ok(arrivals)
    }

    /// When a message came to whom, and what the relay could know of it.
    fn history(&self, submission: &Submission) -> String {
        let of_it = self.messages().filter(|(_, one)| {
            let own = message_id(&String::from_utf8_lossy(&one.octets));
            own.is_some_and(|own| own.trim_matches(['<', '>']) == submission.message_id().trim_matches(['<', '>']))
        });
        let lines = of_it.map(|(place, one)| {
            let (when, was_lost) = (self.evidence.when[place], self.evidence.unrecorded.contains(&place));
            format!("taken at {when:?}, answered: {}, unrecorded: {was_lost}, for {:?}", one.answered, one.recipients)
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Whether the relay must know that this was taken: it heard so, and had the time to write it down.
    fn must_be_known(&self, place: usize) -> bool {
        self.evidence.taken[place].answered && !self.evidence.unrecorded.contains(&place)
    }

    fn messages(&self) -> impl Iterator<Item = (usize, &Taken)> {
        self.evidence.taken.iter().enumerate().filter(|(_, one)| !is_report(one))
    }

    /// The submission that this message is, or is about.
    fn sent(&self, text: &str) -> Result<&Submission, String> {
        let number = text.split("<sim.").nth(1).and_then(|rest| rest.split('@').next()?.parse::<usize>().ok());
        let submission = number.and_then(|number| self.account.submissions.get(number));
        submission.ok_or_else(|| format!("nobody sent this: {text:.300}"))
    }

    /// Who was told what: by one report each, which came once, to him who sent, of what is so.
    fn told(&self, arrivals: &BTreeMap<Place, Arrivals>) -> Result<BTreeSet<(Place, Told)>, String> {
        let mut told = BTreeMap::<(Place, Told), String>::new();
        let mut known = BTreeSet::new();
        let reports = self.evidence.taken.iter().enumerate().filter(|(_, one)| is_report(one));
        for (place, one) in reports {
            let text = String::from_utf8_lossy(&one.octets).into_owned();
            let own_id = message_id(&text).ok_or_else(|| format!("a report without a Message-ID: {text:.300}"))?;
            if known.contains(&own_id) {
                return Err(format!("a report came twice, and no window was open:\n{text}"));
            }
            if self.must_be_known(place) {
                known.insert(own_id.clone());
            }
            // It waits until it can quote its message (`delivery::stored`).
            let submission = self.sent(&text)?;
            let to: Vec<&str> = one.recipients.iter().map(|line| path_of(line)).collect();
            if to != [submission.sender.as_str()] {
                return Err(format!("a report went to {to:?}: {submission:?}"));
            }
            let all = told_in(&text);
            if all.is_empty() {
                return Err(format!("a report tells nothing:\n{text}"));
            }
            for (recipient, what) in all {
                let of_whom = (submission.number, recipient.clone());
                if what == Told::Failed && arrivals.get(&of_whom).is_some_and(|has| has.is_sure) {
                    return Err(format!("{recipient} has it, and is reported as failed: {submission:?}"));
                }
                self.is_due(submission, &recipient, what, self.evidence.when[place])?;
                let before = told.insert(((submission.number, recipient.clone()), what), own_id.clone());
                if before.is_some_and(|before| before != own_id) {
                    return Err(format!("two reports tell that {recipient} is {what:?}: {submission:?}\n{text}"));
                }
            }
        }
        Ok(told.into_keys().collect())
    }

    /// Whether there was a reason to tell this.
    fn is_due(&self, submission: &Submission, recipient: &str, what: Told, at: Duration) -> Result<(), String> {
        let Some(ended) = submission.ended else {
            return Err(format!("a report on what was never sent: {submission:?}"));
        };
        if !submission.recipients.contains(&recipient) {
            return Err(format!("a report on {recipient}, who was not in it or was refused at once: {submission:?}"));
        }
        let waited = at.saturating_sub(ended) + submission.begun_before() + self.account.stepped;
        let is_due = match what {
            Told::Failed => may_be_reported(submission) && may_have_failed(submission, recipient, waited),
            Told::Delayed => match submission.wishes {
                Wishes::Silence | Wishes::Success | Wishes::OnlyFailure => false,
                Wishes::OrNotify(seconds) => waited >= Duration::from_secs(seconds).min(WARN_AFTER),
                Wishes::Nothing | Wishes::OrReturn(_) | Wishes::Later(_) => waited >= WARN_AFTER,
            },
            Told::Relayed => {
                matches!(submission.wishes, Wishes::Success | Wishes::OrReturn(_) | Wishes::OrNotify(_))
            }
        };
        if is_due {
            return Ok(());
        }
        Err(format!("{recipient} is told to be {what:?} after {waited:?}, and there was no reason: {submission:?}"))
    }

    /// Who is dead: failed in a message of which nobody may be told, or told by a report that nobody takes.
    fn dead(&self) -> Result<Dead, String> {
        let mut dead = Dead::default();
        for listed in self.evidence.listing {
            let record = match listed {
                Listed::Message(record) => record.as_ref(),
                Listed::Unreadable(id, why) => return Err(format!("{id} is unreadable: {why}")),
            };
            if record.state != State::Dead {
                continue;
            }
            match record.trace.client.strip_prefix("report on ") {
                Some(about) => dead.told.extend(self.told_by_dead(record, about)?),
                None => dead.dead.extend(self.in_dead(record)?),
            }
        }
        Ok(dead)
    }

    fn in_dead(&self, record: &Record) -> Result<Vec<Place>, String> {
        let submission = self.sent(record.trace.message_id.as_deref().unwrap_or_default())?;
        let reason = record.reason.as_deref().unwrap_or_default();
        let has_no_report = reason.starts_with("no report is kept on it");
        if may_be_reported(submission) && !has_no_report {
            return Err(format!("dead ({reason}), and its sender could be told: {submission:?}"));
        }
        let mut places = Vec::new();
        for (recipient, state) in record.envelope.recipients().iter().zip(&record.recipients) {
            let to = recipient.forward_path.as_str();
            let failed = !state.open && matches!(state.last, Some(Outcome::Failed { .. }));
            if !(failed || (state.open && has_no_report)) {
                continue;
            }
            let at = state.last_attempt.as_ref().map_or(record.trace.arrived, |(at, _)| *at);
            let waited = at.since(record.trace.arrived) + ON_THE_WAY + submission.begun_before() + self.account.stepped;
            if failed && !may_have_failed(submission, to, waited) {
                return Err(format!("{to} failed after {waited:?}, and there was no reason: {state:?} {submission:?}"));
            }
            places.push((submission.number, to.to_owned()));
        }
        Ok(places)
    }

    /// Whom a report that is dead may be about: what it says can't be listed.
    fn told_by_dead(&self, record: &Record, about: &str) -> Result<Vec<Place>, String> {
        let to = record.envelope.recipients().first().map(|one| one.forward_path.as_str());
        if *record.envelope.reverse_path() != ReversePath::Null || to != Some("bob@example.com") {
            return Err(format!("a report is dead whose recipient takes reports: {record:?}"));
        }
        let by_id = |one: &&Submission| one.acknowledged.as_deref() == Some(about);
        // Of one that was not answered 250 only the relay knows the name.
        let Some(submission) = self.account.submissions.iter().find(by_id) else { return Ok(Vec::new()) };
        if submission.sender != "bob@example.com" {
            return Err(format!("a report went to {to:?}: {submission:?}"));
        }
        let may_fail = |one: &&&str| may_have_failed(submission, one, GIVE_UP_AFTER);
        let failed = submission.recipients.iter().filter(may_fail);
        Ok(failed.map(|one| (submission.number, (*one).to_owned())).collect())
    }
}

/// Whether its sender may be told of a failure.
fn may_be_reported(submission: &Submission) -> bool {
    !submission.sender.is_empty() && submission.wishes != Wishes::Silence
}

fn may_have_failed(submission: &Submission, recipient: &str, waited: Duration) -> bool {
    let is_over = match submission.wishes {
        Wishes::OrReturn(seconds) => waited >= Duration::from_secs(seconds),
        _ => false,
    };
    recipient.starts_with("never@") || is_over || (recipient.starts_with("later@") && waited >= GIVE_UP_AFTER)
}

fn is_report(taken: &Taken) -> bool {
    taken.mail.starts_with("MAIL FROM:<>") && memmem::find(&taken.octets, b"multipart/report").is_some()
}

/// What stands in the brackets.
fn path_of(line: &str) -> &str {
    line.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or(line, |(path, _)| path)
}

/// The first Message-ID of a text: a message's own.
pub(super) fn message_id(text: &str) -> Option<String> {
    let field = text.lines().find(|line| line.to_ascii_lowercase().starts_with("message-id:"))?;
    Some(field.split_once(':')?.1.trim().to_owned())
}

/// Whom a report tells of, and what.
fn told_in(report: &str) -> Vec<(String, Told)> {
    let blocks = report.split("\r\n\r\n").filter_map(|block| {
        let value = |name: &str| {
            let line = block.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim().to_owned())
        };
        let recipient = value("Final-Recipient: rfc822;")?;
        let what = match value("Action:")?.as_str() {
            "failed" => Told::Failed,
            "delayed" => Told::Delayed,
            "relayed" => Told::Relayed,
            other => panic!("no such action: {other}"),
        };
        Some((recipient, what))
    });
    blocks.collect()
}
