//! An attempt that is under way, as operators see it: since when, on which routes, at which upstream, at which step of the dialogue and for how long.
//!
//! Only a running daemon has any, see [`crate::delivery::active`]. The names here are what scripts read: fields and words may come, none goes or changes its
//! meaning. Never: looks at the store.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::line::{lines, objects};
use super::selection::{Filters, Selection};
use super::{Answer, Desk, Detail, ListOrder, Obstacle};
use crate::delivery::active::{Leg, Trial};
use crate::mail::QueueId;
use crate::plain::size;
use crate::queue::{Listed, QueueError};
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

impl ActiveEntry {
    /// In lines, of a message of so many octets.
    pub(super) fn lines(&self, octets: u64) -> Vec<String> {
        let since = span(self.seconds);
        if self.routes.is_empty() {
            return vec![format!("being tried for {since}")];
        }
        self.routes.iter().map(|route| format!("being tried for {since}: {}", route.words(Some(octets)))).collect()
    }
}

impl ActiveRoute {
    /// In words, of a message of so many octets, where that is known. Others chose some of them.
    pub fn words(&self, octets: Option<u64>) -> String {
        let Self { route, upstream, step, seconds, silent_seconds, octets_sent } = self;
        let whom = match (upstream.as_deref(), route.as_str()) {
            (Some(upstream), "default") => format!("upstream {upstream}: "),
            (Some(upstream), route) => format!("upstream {upstream} of route {route}: "),
            (None, "default") => String::new(),
            (None, route) => format!("route {route}: "),
        };
        let sent = match (octets_sent, octets) {
            (Some(sent), Some(octets)) => format!(", {} of {}", size((*sent).min(octets)), size(octets)),
            (Some(sent), None) => format!(", {} so far", size(*sent)),
            (None, _) => String::new(),
        };
        // Before the words: a terminal may cut these.
        let lasts = if *step == StepName::Begin { String::new() } else { format!("for {} ", span(*seconds)) };
        // Where it has been silent all the while, that is how long.
        let sign = silent_seconds.filter(|silent| silent.saturating_add(1) < *seconds);
        let sign = sign.map(|silent| format!(", last sign {} ago", span(silent))).unwrap_or_default();
        format!("{whom}{lasts}{}{sent}{sign}", step.words())
    }

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
    pub(super) async fn page(&mut self, desk: Desk<'_>) -> Result<Vec<Answer>, Obstacle> {
        let (mut found, mut how_far) = (Vec::new(), BTreeMap::new());
        for _ in 0..READ_MAX {
            let Some(id) = self.ids.pop_front().filter(|_| self.left > 0) else { break };
            let one = match desk.queue.show(id).await {
                Err(QueueError::NotFound(_)) => continue,
                one => one?,
            };
            let Some(active) = desk.active(id).filter(|_| self.selection.matches(&one)) else { continue };
            self.left = self.left.saturating_sub(1);
            found.push(one);
            how_far.insert(id, active);
        }
        let active = |id| how_far.get(&id).cloned();
        let told = match self.detail {
            Detail::Json => objects(&found, active).map_err(|fault| fault.to_string())?,
            Detail::Lines => lines(&found.iter().map(Listed::brief).collect::<Vec<_>>(), desk.now, active),
        };
        Ok(told.into_iter().map(Answer::Lines).collect())
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

fn span(seconds: u64) -> String {
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_an_attempt_is_is_said_with_what_moves_and_what_does_not() {
        let at = |route: &str, upstream: Option<&str>, step, seconds, silent_seconds, octets_sent| ActiveRoute {
            route: route.to_owned(),
            upstream: upstream.map(str::to_owned),
            step,
            seconds,
            silent_seconds,
            octets_sent,
        };
        for (at, octets, words) in [
            (at("default", None, StepName::Begin, 0, None, None), Some(9), "beginning"),
            (
                at("default", Some("main"), StepName::EndOfData, 578, Some(578), None),
                Some(9),
                "upstream main: for 9m 38s waiting for its reply to the end of the message (final dot)",
            ),
            (
                at("abroad", Some("main"), StepName::Body, 100, Some(3), Some(1 << 20)),
                Some(10 << 20),
                "upstream main of route abroad: for 1m 40s sending the message, 1.0 MiB of 10.0 MiB, last sign 3s ago",
            ),
            (
                at("default", Some("main"), StepName::Body, 100, Some(100), Some(2048)),
                None,
                "upstream main: for 1m 40s sending the message, 2.0 KiB so far",
            ),
            // Dots are stuffed: more goes than is kept.
            (
                at("default", Some("main"), StepName::Body, 1, Some(0), Some(2049)),
                Some(2048),
                "upstream main: for 1s sending the message, 2.0 KiB of 2.0 KiB",
            ),
            (
                at("abroad", None, StepName::Over, 2, None, None),
                Some(9),
                "route abroad: for 2s waiting until all routes are done and what came of it is recorded",
            ),
        ] {
            assert_eq!(at.words(octets), words);
        }
    }
}
