//! What was promised, what arrived, and the balance of both.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use sealpost::mail::{QueueId, ReversePath};
use sealpost::queue::{Listed, Outcome, Record};

use super::world::Dice;
use crate::scripted_upstream::Taken;

/// Sizes about which something changes: nothing, small, several rows, the largest gathered, files.
const SIZES: [usize; 8] = [0, 40, 2_000, 2_000, 32_000, 130_000, 262_144, 300_000];

/// Recipients; the upstream treats them by their names.
const RECIPIENTS: [&str; 6] =
    ["r0@example.net", "r1@example.net", "r2@example.net", "r3@example.net", "never@example.net", "later@example.net"];

/// What a report says of a message that nobody refused for good.
const GIVEN_UP: &str = "Given up after";

/// One attempt to submit; its number makes its Message-ID.
#[derive(Clone, Debug)]
pub(super) struct Submission {
    pub(super) number: usize,
    pub(super) sender: String,
    pub(super) recipients: Vec<&'static str>,
    length: usize,
    from: &'static str,
    ended: bool,
    /// The queue id that came with 250.
    acknowledged: Option<String>,
}

impl Submission {
    fn message_id(&self) -> String {
        format!("<sim.{}@example.com>", self.number)
    }

    /// As it is to arrive, below the fields that the relay puts in front.
    pub(super) fn octets(&self) -> Vec<u8> {
        let mut octets = format!(
            "From: {}@example.com\r\nDate: Fri, 15 Jan 2027 08:00:00 +0000\r\nMessage-ID: {}\r\n\r\n",
            self.from,
            self.message_id()
        )
        .into_bytes();
        let line = format!(".{} dots and all\r\n", self.number);
        while octets.len() < self.length {
            octets.extend_from_slice(line.as_bytes());
        }
        octets
    }

    /// As it goes over the wire by DATA.
    pub(super) fn stuffed(&self) -> Vec<u8> {
        let mut stuffed = Vec::new();
        for line in self.octets().split_inclusive(|&octet| octet == b'\n') {
            if line.starts_with(b".") {
                stuffed.push(b'.');
            }
            stuffed.extend_from_slice(line);
        }
        stuffed.extend_from_slice(b".\r\n");
        stuffed
    }
}

/// What became of many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) acknowledged: usize,
    pub(super) arrived: usize,
    pub(super) reported: usize,
    pub(super) dead: usize,
    /// Taken out by the operator.
    pub(super) removed: usize,
    pub(super) twice: usize,
    /// Answered otherwise or not at all, and arrived: the client will send it again.
    pub(super) unacknowledged: usize,
    pub(super) crashes: u64,
}

impl Summary {
    pub(super) fn add(&mut self, other: &Self) {
        self.acknowledged += other.acknowledged;
        self.arrived += other.arrived;
        self.reported += other.reported;
        self.dead += other.dead;
        self.removed += other.removed;
        self.twice += other.twice;
        self.unacknowledged += other.unacknowledged;
        self.crashes += other.crashes;
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acknowledged, arrived, reported, dead, removed, twice, unacknowledged, crashes } = self;
        write!(
            f,
            "{crashes} power cuts; {acknowledged} messages answered 250; of their recipients {arrived} have it ({twice} of them \
             twice), {reported} were reported, {dead} are dead, {removed} were removed by an operator; {unacknowledged} arrived that were not answered 250"
        )
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Account {
    submissions: Vec<Submission>,
    /// What an operator took out, or tried to: messages, and those on which a report was.
    removed: BTreeSet<String>,
}

impl Account {
    pub(super) fn draw(&mut self, persona: &'static str, dice: &Dice) -> Submission {
        let mut recipients: Vec<_> = (0..=dice.draw(3)).map(|_| dice.pick(&RECIPIENTS)).collect();
        recipients.sort_unstable();
        recipients.dedup();
        let submission = Submission {
            number: self.submissions.len(),
            sender: if dice.one_in(6) { String::new() } else { format!("{persona}@example.com") },
            recipients,
            length: dice.pick(&SIZES),
            from: persona,
            ended: false,
            acknowledged: None,
        };
        self.submissions.push(submission.clone());
        submission
    }

    /// The client is about to send the final dot.
    pub(super) fn ended(&mut self, number: usize) {
        self.submissions[number].ended = true;
    }

    /// The upstream did not take this recipient, and the client was told so: it is not its any more.
    pub(super) fn refused(&mut self, number: usize, recipient: &str) {
        self.submissions[number].recipients.retain(|one| *one != recipient);
    }

    /// It was answered 250.
    pub(super) fn acknowledged(&mut self, number: usize, id: &str) {
        self.submissions[number].acknowledged = Some(id.to_owned());
    }

    /// Whether somebody was told that this is kept.
    pub(super) fn is_acknowledged(&self, id: QueueId) -> bool {
        let id = id.to_string();
        self.submissions.iter().any(|submission| submission.acknowledged.as_deref() == Some(&id))
    }

    /// The operator is about to remove this.
    pub(super) fn removing(&mut self, record: &Record) {
        let client = record.trace.client.strip_prefix("report on ");
        self.removed.insert(client.map_or_else(|| record.id.to_string(), str::to_owned));
    }

    /// Whether each promise was kept.
    pub(super) fn balance(
        &self,
        taken: &[Taken],
        listing: &[Listed],
        crashes: u64,
        unrecorded: &BTreeSet<usize>,
    ) -> Result<Summary, String> {
        let arrivals = self.arrivals(taken, unrecorded)?;
        // One that came twice is one: it is mail like any other.
        let reports: BTreeMap<String, String> = taken
            .iter()
            .filter(|one| is_report(one))
            .map(|one| String::from_utf8_lossy(&one.octets).into_owned())
            .map(|text| (own_message_id(&text), text))
            .collect();
        let dead: Vec<&Record> = listing
            .iter()
            .map(|one| match one {
                Listed::Message(record) => Ok(record.as_ref()),
                Listed::Unreadable(id, why) => Err(format!("{id} is unreadable: {why}")),
            })
            .collect::<Result<_, _>>()?;
        let mut summary = Summary { crashes, ..Summary::default() };
        for submission in &self.submissions {
            let Some(id) = &submission.acknowledged else {
                let came = submission.recipients.iter().any(|one| arrivals.contains_key(&(submission.number, *one)));
                summary.unacknowledged += usize::from(came);
                continue;
            };
            summary.acknowledged += 1;
            for recipient in &submission.recipients {
                let times = arrivals.get(&(submission.number, *recipient)).copied().unwrap_or(0);
                let told: Vec<&String> = reports.values().filter(|one| tells(one, submission, recipient)).collect();
                let is_dead = dead.iter().any(|record| keeps(record, id, recipient));
                let wrong = |what: &str| Err(format!("{what}: {id} for {recipient}: {submission:?}\n{told:?}"));
                if told.len() > 1 {
                    return wrong("two reports tell of one failure");
                }
                match *recipient {
                    // Nothing that an upstream says of them, or does, may fail them; only time.
                    "never@example.net" | "later@example.net" if times > 0 => {
                        return wrong("it arrived where nobody takes it");
                    }
                    "later@example.net" if told.iter().any(|one| !one.contains(GIVEN_UP)) => {
                        return wrong("what was only put off was failed before its time");
                    }
                    "never@example.net" | "later@example.net" => {}
                    _ if told.iter().any(|one| !one.contains(GIVEN_UP)) => return wrong("it was failed for nothing"),
                    _ if times > 0 && !told.is_empty() && self.is_sure(taken, submission, recipient) => {
                        return wrong("who has it is reported as failed");
                    }
                    _ => {}
                }
                if times > 0 {
                    summary.arrived += 1;
                    summary.twice += usize::from(times > 1);
                } else if !told.is_empty() {
                    summary.reported += 1;
                } else if is_dead {
                    summary.dead += 1;
                } else if self.removed.contains(id) {
                    summary.removed += 1;
                } else {
                    return Err(format!("nothing became of {id} for {recipient}: {submission:?}"));
                }
            }
        }
        Ok(summary)
    }

    /// Whether the upstream said that this recipient has it.
    fn is_sure(&self, taken: &[Taken], submission: &Submission, recipient: &str) -> bool {
        let message = submission.message_id();
        taken.iter().filter(|one| one.answered && !is_report(one)).any(|one| {
            String::from_utf8_lossy(&one.octets).contains(&message)
                && one.recipients.iter().any(|line| line.contains(&format!("<{recipient}>")))
        })
    }

    /// How often each arrived, by number and recipient. Whatever arrives was sent whole and is what was sent.
    ///
    /// Promise 4, twice only in the windows that are written down: each that comes again was taken before by an upstream that did not say so, or so shortly
    /// before a power cut that this may not have been recorded. After one of which that is not so, nothing comes.
    fn arrivals(
        &self,
        taken: &[Taken],
        unrecorded: &BTreeSet<usize>,
    ) -> Result<BTreeMap<(usize, &'static str), usize>, String> {
        let mut arrivals = BTreeMap::new();
        let mut sure = BTreeSet::new();
        for (place, one) in taken.iter().enumerate().filter(|(_, one)| !is_report(one)) {
            let text = String::from_utf8_lossy(&one.octets);
            let number = text.split("<sim.").nth(1).and_then(|rest| rest.split('@').next()?.parse::<usize>().ok());
            let submission = number.and_then(|number| self.submissions.get(number));
            let submission = submission.ok_or_else(|| format!("nobody sent this: {text:.300}"))?;
            if !submission.ended {
                return Err(format!("it arrived although its final dot was never sent: {submission:?}"));
            }
            if !one.octets.ends_with(&submission.octets()) {
                return Err(format!("it did not arrive as it was sent: {submission:?}"));
            }
            for recipient in &submission.recipients {
                if one.recipients.iter().any(|line| line.contains(&format!("<{recipient}>"))) {
                    *arrivals.entry((submission.number, *recipient)).or_insert(0) += 1;
                    if sure.contains(&(submission.number, *recipient)) {
                        return Err(format!("{recipient} has it twice, and no window was open: {submission:?}"));
                    }
                    if one.answered && !unrecorded.contains(&place) {
                        sure.insert((submission.number, *recipient));
                    }
                }
            }
        }
        Ok(arrivals)
    }
}

fn is_report(taken: &Taken) -> bool {
    taken.mail.starts_with("MAIL FROM:<>") && taken.octets.windows(16).any(|part| part == b"multipart/report")
}

/// Whether a report tells the sender that this recipient will not have it.
fn tells(report: &str, submission: &Submission, recipient: &str) -> bool {
    let blocks = report.split("\r\n\r\n");
    let told = |block: &str| {
        block.contains(&format!("Final-Recipient: rfc822; {recipient}")) && block.contains("Action: failed")
    };
    // It waits until it can quote its message (`delivery::stored`).
    report.contains(&submission.message_id()) && blocks.into_iter().any(told)
}

/// Whether a dead message is this one, of which this recipient has failed or is still open, or the report on it.
fn keeps(record: &Record, id: &str, recipient: &str) -> bool {
    let is_owed = || {
        let mut both = record.envelope.recipients().iter().zip(&record.recipients);
        both.any(|(to, state)| {
            let has_failed = matches!(state.last, Some(Outcome::Failed { .. }));
            to.forward_path.as_str() == recipient && (state.open || has_failed)
        })
    };
    let its_report =
        record.trace.client == format!("report on {id}") && *record.envelope.reverse_path() == ReversePath::Null;
    its_report || (record.id.to_string() == id && is_owed())
}

/// The first Message-ID of a text is its own.
fn own_message_id(text: &str) -> String {
    let field = text.lines().find(|line| line.starts_with("Message-ID:"));
    field.unwrap_or_default().to_owned()
}
