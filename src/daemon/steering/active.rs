//! An attempt that is under way, as operators see it: since when, on which routes, at which upstream, at which step of the dialogue and for how long.
//!
//! Only a running daemon has any, see [`crate::delivery::active`]. The names here are what scripts read: fields and words may come, none goes or changes its
//! meaning. Never: looks at the store.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::entry::Entry;
use super::line::Line;
use super::selection::{Filters, Selection};
use super::{Answer, Desk, Detail, ListOrder};
use crate::delivery::active::{Leg, Trial};
use crate::mail::QueueId;
use crate::queue::QueueError;
use crate::sys::MonoTime;
use crate::upstream::{Phase, Sight, Whereabouts};

/// An attempt that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveEntry {
    /// When it began, RFC 3339.
    pub since: String,
    /// So long ago.
    pub seconds: u64,
    /// Where it is on each of its routes; none where no route takes any of its recipients.
    pub routes: Vec<ActiveRoute>,
}

/// Where an attempt is on one route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveRoute {
    /// The route's name.
    pub route: String,
    /// The upstream that it is with, or waits for.
    pub upstream: Option<String>,
    /// What is being done, or waited for.
    pub step: StepName,
    /// For so long.
    pub seconds: u64,
    /// For so long nothing was heard of the upstream: no reply, nor did it take octets.
    pub silent_seconds: Option<u64>,
    /// Octets of the message that are sent, while it is being sent.
    pub octets_sent: Option<u64>,
}

/// A step's name outside, in the order of the dialogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepName {
    /// Nothing yet.
    Begin,
    /// All connections that the upstream may have are in use.
    WaitsForConnection,
    /// Its name, and what DNS says of its certificate.
    LookUp,
    /// TCP.
    Connect,
    /// The TLS handshake.
    Tls,
    /// Its greeting.
    Greeting,
    /// The reply to EHLO, or HELO.
    Ehlo,
    /// The reply to STARTTLS.
    Starttls,
    /// A reply to AUTH.
    Auth,
    /// The reply to RSET.
    Rset,
    /// The reply to MAIL.
    Mail,
    /// A reply to RCPT.
    Rcpt,
    /// The reply to DATA.
    Data,
    /// The message is being sent.
    Body,
    /// The reply to the end of the message: the final dot, or the last BDAT.
    EndOfData,
    /// The reply to QUIT.
    Quit,
    /// It has ended on this route; what came of it is being recorded, or another route is waited for.
    Over,
}

impl StepName {
    /// In words, of an upstream; without how long.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Begin => "beginning",
            Self::WaitsForConnection => "waiting for a connection, all are in use",
            Self::LookUp => "looking up its name",
            Self::Connect => "connecting",
            Self::Tls => "making TLS",
            Self::Greeting => "waiting for its greeting",
            Self::Ehlo => "waiting for its reply to EHLO",
            Self::Starttls => "waiting for its reply to STARTTLS",
            Self::Auth => "waiting for its reply to AUTH",
            Self::Rset => "waiting for its reply to RSET",
            Self::Mail => "waiting for its reply to MAIL",
            Self::Rcpt => "waiting for its reply to RCPT",
            Self::Data => "waiting for its reply to DATA",
            Self::Body => "sending the message",
            Self::EndOfData => "waiting for its reply to the end of the message (final dot)",
            Self::Quit => "waiting for its reply to QUIT",
            Self::Over => "waiting until all routes are done and what came of it is recorded",
        }
    }

    const fn of(phase: Phase) -> Self {
        match phase {
            Phase::Lookup => Self::LookUp,
            Phase::Connect => Self::Connect,
            Phase::Tls => Self::Tls,
            Phase::Greeting => Self::Greeting,
            Phase::Hello => Self::Ehlo,
            Phase::StartTls => Self::Starttls,
            Phase::Auth => Self::Auth,
            Phase::Reset => Self::Rset,
            Phase::Mail => Self::Mail,
            Phase::Recipient => Self::Rcpt,
            Phase::Data => Self::Data,
            Phase::Body => Self::Body,
            Phase::EndOfData => Self::EndOfData,
            Phase::Quit => Self::Quit,
        }
    }
}

impl ActiveEntry {
    pub(super) fn of(trial: &Trial, now: MonoTime) -> Self {
        Self {
            since: trial.began.wall.rfc3339(),
            seconds: now.since(trial.began.mono).as_secs(),
            routes: trial.legs().iter().map(ActiveRoute::of).collect(),
        }
    }
}

impl ActiveRoute {
    fn of(leg: &Leg) -> Self {
        let at = |upstream: Option<&str>, step, lasts: Duration| Self {
            route: leg.route.to_string(),
            upstream: upstream.map(str::to_owned),
            step,
            seconds: lasts.as_secs(),
            silent_seconds: None,
            octets_sent: None,
        };
        match leg.course.look() {
            Whereabouts::NotBegun => at(None, StepName::Begin, Duration::ZERO),
            Whereabouts::Over(since) => at(None, StepName::Over, since),
            Whereabouts::InLine(upstream, since) => at(Some(&upstream.name), StepName::WaitsForConnection, since),
            Whereabouts::With(upstream, Sight { phase, lasts, silent, sent }) => Self {
                silent_seconds: Some(silent.as_secs()),
                octets_sent: (phase == Phase::Body).then_some(sent),
                ..at(Some(&upstream.name), StepName::of(phase), lasts)
            },
        }
    }
}

impl Desk<'_> {
    /// The attempt at this message that is under way, as far as anybody here knows.
    pub(super) fn active(&self, id: QueueId) -> Option<ActiveEntry> {
        let running = self.daemon?;
        running.active.of(id).map(|trial| ActiveEntry::of(&trial, running.mono))
    }
}

/// How far a listing of what is being tried is: their names are known from memory, and only these are read.
#[derive(Debug)]
pub(super) struct ActiveListing {
    selection: Selection,
    detail: Detail,
    ids: VecDeque<QueueId>,
    left: usize,
}

/// Messages that are read for one page.
const READ_MAX: usize = 64;

impl ActiveListing {
    pub(super) fn new(
        filters: &Filters,
        after: Option<&str>,
        order: ListOrder,
        detail: Detail,
        limit: usize,
        desk: Desk<'_>,
    ) -> Result<Self, String> {
        let selection = Selection::new(filters, desk.now)?;
        let after: Option<QueueId> = super::look::place(after)?;
        let mut ids = desk.daemon.map(|running| running.active.ids()).unwrap_or_default();
        if order == ListOrder::NewestFirst {
            ids.reverse();
        }
        ids.retain(|id| {
            after.is_none_or(|after| match order {
                ListOrder::OldestFirst => *id > after,
                ListOrder::NewestFirst => *id < after,
            })
        });
        Ok(Self { selection, detail, ids: ids.into(), left: limit })
    }

    /// The next few; of those whose attempt has ended meanwhile nothing is told.
    pub(super) async fn page(&mut self, desk: Desk<'_>) -> Result<Vec<Answer>, QueueError> {
        let mut answers = Vec::new();
        for _ in 0..READ_MAX {
            let Some(id) = self.ids.pop_front().filter(|_| self.left > 0) else { break };
            let found = match desk.queue.show(id).await {
                Err(QueueError::NotFound(_)) => continue,
                found => found?,
            };
            let Some(active) = desk.active(id).filter(|_| self.selection.matches(&found)) else { continue };
            self.left = self.left.saturating_sub(1);
            match self.detail {
                Detail::Whole => {
                    answers.push(Answer::Entry(Box::new(Entry { active: Some(active), ..Entry::of_listed(&found) })));
                }
                Detail::Line => {
                    answers.push(Answer::Active(Box::new(active)));
                    answers.push(Answer::Line(Line::Found(Box::new(found.brief()))));
                }
            }
        }
        Ok(answers)
    }

    pub(super) fn is_over(&self) -> bool {
        self.left == 0 || self.ids.is_empty()
    }
}

/// The attempt that is under way for the longest time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LongestAttempt {
    /// The message's name.
    pub id: String,
    /// How far it is.
    #[serde(flatten)]
    pub active: ActiveEntry,
}

impl LongestAttempt {
    pub(super) fn of(desk: Desk<'_>) -> Option<Self> {
        let running = desk.daemon?;
        let trial = running.active.longest()?;
        Some(Self { id: trial.id.to_string(), active: ActiveEntry::of(&trial, running.mono) })
    }
}
