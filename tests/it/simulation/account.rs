//! What was sent and what was promised; when, and what an operator did to it. `balance` draws the conclusion.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use memchr::memmem;
use sealpost::mail::QueueId;
use sealpost::queue::Record;
use tokio::time::Instant;

use super::world::Dice;

/// Sizes about which something changes: nothing, small, several rows, the largest gathered, files.
const SIZES: [usize; 8] = [0, 40, 2_000, 2_000, 32_000, 130_000, 262_144, 300_000];

/// Recipients; the upstream treats them by their names.
const RECIPIENTS: [&str; 6] =
    ["r0@example.net", "r1@example.net", "r2@example.net", "r3@example.org", "never@example.net", "later@example.net"];

/// One attempt to submit; its number makes its Message-ID.
#[derive(Clone, Debug)]
pub(super) struct Submission {
    pub(super) number: usize,
    pub(super) sender: String,
    pub(super) recipients: Vec<&'static str>,
    length: usize,
    from: &'static str,
    /// What its sender asks for.
    pub(super) wishes: Wishes,
    /// When it was about to be begun: from then on its sender's own time is counted (RFC 2852 §4.1.4, from MAIL on).
    pub(super) began: Duration,
    /// When its final dot was about to be sent, if it was.
    pub(super) ended: Option<Duration>,
    /// The queue id that came with 250.
    pub(super) acknowledged: Option<String>,
}

/// Parameters of MAIL and of each RCPT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wishes {
    Nothing,
    /// NOTIFY=NEVER: nobody is told anything.
    Silence,
    /// NOTIFY=SUCCESS,FAILURE, with an ENVID and only the header back.
    Success,
    /// NOTIFY=FAILURE: no word of a delay.
    OnlyFailure,
    /// BY: within so many seconds, or it comes back.
    OrReturn(u64),
    /// BY: after so many seconds its sender is told that it is late.
    OrNotify(u64),
    /// HOLDFOR: not before so many seconds.
    Later(u64),
}

impl Wishes {
    /// As they are drawn: mostly nothing.
    const ALL: [Self; 12] = [
        Self::Nothing,
        Self::Nothing,
        Self::Nothing,
        Self::Nothing,
        Self::Nothing,
        Self::Silence,
        Self::Success,
        Self::OnlyFailure,
        Self::OrReturn(2 * 3600),
        Self::OrReturn(30 * 3600),
        Self::OrNotify(3600),
        Self::Later(1800),
    ];

    pub(super) fn of_mail(self) -> String {
        match self {
            Self::Nothing | Self::Silence | Self::OnlyFailure => String::new(),
            Self::Success => " RET=HDRS ENVID=sim".to_owned(),
            Self::OrReturn(seconds) => format!(" BY={seconds};R"),
            Self::OrNotify(seconds) => format!(" BY={seconds};N"),
            Self::Later(seconds) => format!(" HOLDFOR={seconds}"),
        }
    }

    pub(super) fn of_recipient(self) -> &'static str {
        match self {
            Self::Silence => " NOTIFY=NEVER",
            Self::Success => " NOTIFY=SUCCESS,FAILURE",
            Self::OnlyFailure => " NOTIFY=FAILURE",
            Self::Nothing | Self::OrReturn(_) | Self::OrNotify(_) | Self::Later(_) => "",
        }
    }
}

impl Submission {
    /// How much of its sender's own time (`BY`) was over when its final dot was about to be sent.
    pub(super) fn begun_before(&self) -> Duration {
        match self.wishes {
            Wishes::OrReturn(_) | Wishes::OrNotify(_) => self.ended.unwrap_or(self.began).saturating_sub(self.began),
            Wishes::Nothing | Wishes::Silence | Wishes::Success | Wishes::OnlyFailure | Wishes::Later(_) => {
                Duration::ZERO
            }
        }
    }

    pub(super) fn message_id(&self) -> String {
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
        let lines = self.length.saturating_sub(octets.len()).div_ceil(line.len());
        octets.extend_from_slice(&line.as_bytes().repeat(lines));
        octets
    }

    /// As it goes over the wire by DATA.
    pub(super) fn stuffed(&self) -> Vec<u8> {
        // Its first line begins with no dot.
        let (octets, mut stuffed, mut from) = (self.octets(), Vec::new(), 0);
        for at in memmem::find_iter(&octets, b"\n.") {
            stuffed.extend_from_slice(&octets[from..=at]);
            stuffed.push(b'.');
            from = at + 1;
        }
        stuffed.extend_from_slice(&octets[from..]);
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
    pub(super) submissions: Vec<Submission>,
    /// Messages that an operator took out, or tried to.
    pub(super) removed: BTreeSet<String>,
    /// Messages on which there was a report that he took out, or tried to.
    pub(super) removed_reports: BTreeSet<String>,
    /// Messages that he let go, whatever their senders had wished.
    pub(super) let_go: BTreeSet<String>,
    /// How far the calendar was set, all steps together.
    pub(super) stepped: Duration,
    /// When the present life began: after the first, and by its own clock.
    life: Option<(Duration, Instant)>,
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
            wishes: dice.pick(&Wishes::ALL),
            began: self.since_beginning(Instant::now()),
            ended: None,
            acknowledged: None,
        };
        self.submissions.push(submission.clone());
        submission
    }

    /// The client is about to send the final dot.
    pub(super) fn ended(&mut self, number: usize) {
        self.submissions[number].ended = Some(self.since_beginning(Instant::now()));
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
        match record.trace.client.strip_prefix("report on ") {
            Some(about) => self.removed_reports.insert(about.to_owned()),
            None => self.removed.insert(record.id.to_string()),
        };
    }

    /// The operator is about to release this, or to have it tried at once.
    pub(super) fn letting_go(&mut self, record: &Record) {
        self.let_go.insert(record.trace.message_id.clone().unwrap_or_default());
    }

    // Time, through all lives.

    /// A life begins, so long after the first.
    pub(super) fn live(&mut self, after: Duration, start: Instant) {
        self.life = Some((after, start));
    }

    /// How long after the beginning of the first life this moment of the present one is.
    pub(super) fn since_beginning(&self, moment: Instant) -> Duration {
        let (after, start) = self.life.expect("a life has begun");
        after + moment.duration_since(start)
    }

    /// The calendar was set by so much: what it says of a time that has passed may be wrong by all of it.
    pub(super) fn stepped(&mut self, by: Duration) {
        self.stepped += by;
    }
}
