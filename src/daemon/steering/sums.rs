//! The figures of `queue stats`: what is kept, whether mail is taken, what has happened since the start, how each upstream stands.
//!
//! What only a running daemon knows is none without one. Never: says that all is well when it does not know.

use serde::{Deserialize, Serialize};

use super::active::LongestAttempt;
use super::breakdown::Breakdown;
use super::{Desk, Running};
use crate::queue::{Intake, QueueError};
use crate::route::Routes;
use crate::sys::WallTime;
use crate::upstream::Standing;
use crate::upstream::health::Condition;

/// Sums over the queue, and the upstreams.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Sums {
    /// Messages to be tried when due.
    pub queued: u64,
    /// Octets of them.
    pub queued_octets: u64,
    /// Messages kept back.
    pub held: u64,
    /// Octets of them.
    pub held_octets: u64,
    /// Messages that can't be delivered nor reported.
    pub dead: u64,
    /// Octets of them.
    pub dead_octets: u64,
    /// Of the queued, those being tried now.
    pub claimed: u64,
    /// Of the attempts under way the one that began first; none without one, or without a daemon.
    #[serde(default)]
    pub longest_attempt: Option<LongestAttempt>,
    /// Of the queued, those that were tried, while what came of it waits to be recorded: many while the disk fails or is full.
    #[serde(default)]
    pub unrecorded: u64,
    /// Age of the oldest message, seconds.
    pub oldest_seconds: Option<u64>,
    /// Octets of the store's own file.
    pub file_octets: u64,
    /// Whether mail is taken now; none without a daemon.
    #[serde(default)]
    pub intake: Option<IntakeSums>,
    /// What has happened since the start of the daemon; none without one.
    #[serde(default)]
    pub since_start: Option<Happened>,
    /// Of what the queue consists, when that was asked for.
    #[serde(default)]
    pub breakdown: Option<Breakdown>,
    /// How each upstream stands, by name; none without a daemon, for only a running one knows.
    #[serde(default)]
    pub upstreams: Option<Vec<UpstreamSums>>,
}

/// Whether mail is taken now, of somebody who has nothing here and no limit reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntakeSums {
    /// Whether it is.
    pub accepts: bool,
    /// Why not: everybody hears `452 4.3.1`; or why no larger ones.
    pub why_not: Option<String>,
    /// Octets of the largest message that has room, where that is less than `limits.message_size`: who brings a larger one hears `452 4.3.1`.
    #[serde(default)]
    pub largest: Option<u64>,
}

/// What has happened since the start of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happened {
    /// So long ago it was.
    pub seconds: u64,
    /// Messages that were answered 250.
    pub accepted: u64,
    /// Connections of an identity, messages, senders, recipients and authentications that were refused.
    pub refused: u64,
    /// Recipients whose upstream took the message.
    pub delivered: u64,
    /// Attempts for a recipient that came to nothing yet.
    pub deferred: u64,
    /// Recipients who do not get it.
    pub failed: u64,
    /// Reports to senders.
    pub reported: u64,
    /// Messages that could be neither delivered nor reported.
    pub dead: u64,
}

/// How an upstream stands, as operators see it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UpstreamSums {
    /// Its name.
    pub name: String,
    /// The routes that it serves.
    #[serde(default)]
    pub routes: Vec<String>,
    /// `closed`: mail goes; `open`: it failed too often and is left alone; `half-open`: one message probes it.
    pub health: String,
    /// Until when it is left alone, RFC 3339; then the next message probes it.
    pub open_until: Option<String>,
    /// Faults in a row.
    pub faults_in_a_row: u32,
    /// The last fault of all, also of one that is over.
    pub last_fault: Option<String>,
    /// When that was, RFC 3339.
    pub last_fault_at: Option<String>,
    /// Attempts in a row in which it did not answer for a minute.
    pub unanswered_in_a_row: u32,
    /// Since when it puts off all messages, RFC 3339, where that has lasted for long.
    #[serde(default)]
    pub nothing_delivered_since: Option<String>,
    /// Connections in use.
    pub connections_in_use: u64,
    /// Connections kept for the next message.
    pub connections_idle: u64,
    /// Connections at most.
    pub connections_limit: u64,
    /// Messages under way that wait for a connection; those that wait in the queue are not counted.
    pub waiting: u64,
}

impl UpstreamSums {
    fn of(standing: &Standing, routes: &Routes, now: WallTime) -> Self {
        let (health, wait) = match standing.condition {
            Condition::Closed => ("closed", None),
            Condition::Open(wait) => ("open", Some(wait)),
            Condition::HalfOpen => ("half-open", None),
        };
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        Self {
            name: standing.upstream.clone(),
            routes: routes.served_by(&standing.upstream).map(str::to_owned).collect(),
            health: health.to_owned(),
            open_until: wait.map(|wait| now.after(wait).rfc3339()),
            faults_in_a_row: standing.failures,
            last_fault: standing.last_fault.as_ref().map(|(fault, _)| fault.to_string()),
            last_fault_at: standing.last_fault.as_ref().map(|(_, at)| at.rfc3339()),
            unanswered_in_a_row: standing.unanswered,
            nothing_delivered_since: standing.dry_since.map(WallTime::rfc3339),
            connections_in_use: count(standing.busy),
            connections_idle: count(standing.idle),
            connections_limit: count(standing.limit),
            waiting: count(standing.waiting),
        }
    }
}

impl Sums {
    /// The figures of this moment.
    pub(super) async fn of(desk: Desk<'_>, breakdown: Option<Breakdown>) -> Result<Self, QueueError> {
        let stats = desk.queue.stats().await?;
        let totals = stats.totals;
        let upstreams = desk.daemon.map(|running| {
            let standings = running.courier.standings();
            standings.iter().map(|one| UpstreamSums::of(one, running.routes, desk.now)).collect()
        });
        let intake = match desk.daemon {
            Some(running) => Some(IntakeSums::of(desk, running).await),
            None => None,
        };
        Ok(Self {
            queued: totals.queued.count,
            queued_octets: totals.queued.octets,
            held: totals.held.count,
            held_octets: totals.held.octets,
            dead: totals.dead.count,
            dead_octets: totals.dead.octets,
            claimed: stats.claimed,
            longest_attempt: LongestAttempt::of(desk),
            unrecorded: stats.unrecorded,
            oldest_seconds: stats.oldest.map(|oldest| desk.now.since(oldest).as_secs()),
            file_octets: stats.file,
            intake,
            since_start: desk.daemon.map(Happened::of),
            breakdown,
            upstreams,
        })
    }
}

impl IntakeSums {
    async fn of(desk: Desk<'_>, running: Running<'_>) -> Self {
        let stalled = running.log.is_strained().then(|| {
            "the log does not keep up, and what can't be accounted for is not taken: look at whoever reads it"
                .to_owned()
        });
        let refuses = |why_not| Self { accepts: false, why_not: Some(why_not), largest: None };
        match (stalled, desk.queue.intake(running.message_size).await) {
            (Some(stalled), _) => refuses(stalled),
            (None, Ok(Intake::Open)) => Self { accepts: true, why_not: None, largest: None },
            (None, Ok(Intake::UpTo(octets, shortage))) => {
                Self { accepts: true, why_not: Some(shortage), largest: Some(octets) }
            }
            (None, Ok(Intake::NoRoom(shortage))) => refuses(shortage),
            (None, Err(fault)) => refuses(fault.to_string()),
        }
    }
}

impl Happened {
    fn of(running: Running<'_>) -> Self {
        let counted = running.counts.read();
        Self {
            seconds: running.mono.since(counted.since).as_secs(),
            accepted: counted.accepted,
            refused: counted.refused,
            delivered: counted.delivered,
            deferred: counted.deferred,
            failed: counted.failed,
            reported: counted.reported,
            dead: counted.dead,
        }
    }
}
