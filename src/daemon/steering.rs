//! What an operator can ask of the queue, and the answers: the same whether the daemon is asked or the store is opened without one.
//!
//! Entries have names of their own, apart from the stored record, so that what scripts read (`--json`) stays when the record changes.
//! Never: shows an octet of a body.

pub mod identities;

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use self::identities::{IdentityEntry, Listing};
use crate::audit;
use crate::identity::Roster;
use crate::mail::{QueueId, ReversePath};
use crate::queue::{
    Compaction, Filter, Listed, Outcome, Page, Queue, QueueError, RecipientState, Record, State, Stats,
};
use crate::route::Routes;
use crate::sys::WallTime;
use crate::upstream::health::Condition;
use crate::upstream::{Courier, Standing};

/// How many entries are fetched at once.
const PAGE: usize = 500;

/// The most that may be kept in the store's file for it to be written anew while the daemon serves, octets: about a second's copying.
const COMPACT_BESIDE_MAX: u64 = 64 * 1024 * 1024;

/// What to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// List, oldest first.
    List {
        /// Only those in this state.
        state: Option<StateName>,
        /// At most so many.
        limit: usize,
    },
    /// Show one.
    Show {
        /// Which.
        id: String,
    },
    /// Do something to some.
    Steer {
        /// What.
        action: Action,
        /// To which.
        target: Target,
    },
    /// Sums.
    Stats,
    /// Give the disk back what the store does not need.
    Compact,
    /// List identities: these, or all.
    Identities {
        /// Their names; none is all.
        names: Vec<String>,
        /// At most so many.
        limit: usize,
    },
}

/// What can be done to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Keep it back.
    Hold,
    /// Keep it back no longer.
    Release,
    /// Try it now.
    Retry,
    /// Forget it.
    Remove,
}

impl Action {
    /// Its word, as the command line has it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Release => "release",
            Self::Retry => "retry",
            Self::Remove => "remove",
        }
    }

    /// Which states `--all` means by it.
    const fn concerns(self, state: State) -> bool {
        match (self, state) {
            (Self::Hold, State::Queued) | (Self::Release, State::Held) => true,
            (Self::Hold | Self::Release, State::Queued | State::Held | State::Dead) => false,
            (Self::Retry, State::Queued | State::Dead) => true,
            (Self::Retry, State::Held) => false,
            (Self::Remove, State::Queued | State::Held | State::Dead) => true,
        }
    }
}

/// Which messages.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// These.
    Ids(Vec<String>),
    /// All that it can be done to.
    All,
}

/// A state's name outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StateName {
    /// To be tried when due.
    Queued,
    /// Kept back.
    Held,
    /// Can't be delivered nor reported.
    Dead,
}

impl From<State> for StateName {
    fn from(state: State) -> Self {
        match state {
            State::Queued => Self::Queued,
            State::Held => Self::Held,
            State::Dead => Self::Dead,
        }
    }
}

impl From<StateName> for State {
    fn from(name: StateName) -> Self {
        match name {
            StateName::Queued => Self::Queued,
            StateName::Held => Self::Held,
            StateName::Dead => Self::Dead,
        }
    }
}

/// One line of an answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// A message.
    Entry(Box<Entry>),
    /// Done to this message.
    Done(String),
    /// There is no such message.
    Missing(String),
    /// It can't be done to this message, and why.
    Unable(String, String),
    /// Sums.
    Stats(Sums),
    /// The store's file was written anew: octets before and after.
    Compacted(u64, u64),
    /// An identity.
    Identity(Box<IdentityEntry>),
    /// It can't be done, and why.
    Fault(String),
    /// Nothing more comes.
    End,
}

/// A message, as operators see it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Its name.
    pub id: String,
    /// Where it stands.
    pub state: StateName,
    /// Why, when it is dead.
    pub reason: Option<String>,
    /// Who sent it.
    pub identity: String,
    /// The CA that vouched; none for a pinned certificate.
    pub ca: Option<String>,
    /// SHA-256 of the certificate.
    pub fingerprint: String,
    /// Issuer and serial of each certificate of the chain, leaf first.
    pub chain: Vec<(String, String)>,
    /// The reverse path; empty for `<>`.
    pub sender: String,
    /// Each recipient.
    pub recipients: Vec<EntryRecipient>,
    /// When it came, RFC 3339.
    pub arrived: String,
    /// When it is tried next, RFC 3339.
    pub due: String,
    /// How often it was tried.
    pub attempts: u32,
    /// Octets as stored.
    pub octets: u64,
    /// Its Message-ID.
    pub message_id: Option<String>,
    /// The client's address and port.
    pub client: String,
    /// What it called itself.
    pub helo: String,
    /// TLS version and cipher suite.
    pub tls: String,
}

/// A recipient, as operators see it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EntryRecipient {
    /// The forward path.
    pub address: String,
    /// `waiting`, `delivered`, `deferred`, `failed`.
    pub outcome: String,
    /// What happened.
    pub detail: String,
    /// What the upstream said last, if it said something.
    pub reply: Option<String>,
    /// How often it was tried.
    pub attempts: u32,
    /// Which upstream tried it last.
    pub upstream: Option<String>,
    /// When, RFC 3339.
    pub last_attempt: Option<String>,
}

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
    /// Age of the oldest message, seconds.
    pub oldest_seconds: Option<u64>,
    /// Octets of the store's own file.
    pub file_octets: u64,
    /// How each upstream stands, by name; none without a daemon, for only a running one knows.
    #[serde(default)]
    pub upstreams: Option<Vec<UpstreamSums>>,
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
    fn of(stats: &Stats, upstreams: Option<Vec<UpstreamSums>>, now: WallTime) -> Self {
        let totals = stats.totals;
        Self {
            queued: totals.queued.count,
            queued_octets: totals.queued.octets,
            held: totals.held.count,
            held_octets: totals.held.octets,
            dead: totals.dead.count,
            dead_octets: totals.dead.octets,
            claimed: stats.claimed,
            oldest_seconds: stats.oldest.map(|oldest| now.since(oldest).as_secs()),
            file_octets: stats.file,
            upstreams,
        }
    }
}

impl Entry {
    /// A stored message as operators see it.
    pub fn of(record: &Record) -> Self {
        let recipients = record.envelope.recipients().iter().zip(&record.recipients);
        Self {
            id: record.id.to_string(),
            state: record.state.into(),
            reason: record.reason.clone(),
            identity: record.custodian.identity.clone(),
            ca: record.custodian.ca.clone(),
            fingerprint: record.custodian.fingerprint.clone(),
            chain: record.custodian.chain.clone(),
            sender: match record.envelope.reverse_path() {
                ReversePath::Null => String::new(),
                ReversePath::Address(address) => address.to_string(),
            },
            recipients: recipients.map(|(to, state)| EntryRecipient::of(to.forward_path.as_str(), state)).collect(),
            arrived: record.trace.arrived.rfc3339(),
            due: record.due.rfc3339(),
            attempts: record.attempts,
            octets: record.length,
            message_id: record.trace.message_id.clone(),
            client: record.trace.client.clone(),
            helo: record.trace.helo.clone(),
            tls: record.trace.tls.clone(),
        }
    }
}

impl EntryRecipient {
    fn of(address: &str, state: &RecipientState) -> Self {
        let (outcome, detail, reply) = match &state.last {
            None => ("waiting", String::new(), None),
            Some(Outcome::Delivered { reply }) => ("delivered", String::new(), Some(reply)),
            Some(Outcome::Deferred { reason, reply }) => ("deferred", reason.clone(), reply.as_ref()),
            Some(Outcome::Failed { reason, reply }) => ("failed", reason.clone(), reply.as_ref()),
        };
        Self {
            address: address.to_owned(),
            outcome: outcome.to_owned(),
            detail,
            reply: reply.map(ToString::to_string),
            attempts: state.attempts,
            upstream: state.last_attempt.as_ref().map(|(_, upstream)| upstream.clone()),
            last_attempt: state.last_attempt.as_ref().map(|(at, _)| at.rfc3339()),
        }
    }
}

/// The answers to one command, one at a time, so that a listing of a large queue is never held whole.
#[derive(Debug)]
pub struct Answers {
    by: String,
    left: Left,
    ready: VecDeque<Answer>,
    /// Whether this command has had the upstreams probed: once is enough, however many messages it names.
    probed: bool,
}

/// What answers are made from.
#[derive(Clone, Copy, Debug)]
pub struct Desk<'a> {
    /// The queue.
    pub queue: &'a Queue,
    /// The upstreams; none without a daemon.
    pub upstreams: Option<(&'a Courier, &'a Routes)>,
    /// Who is known.
    pub roster: &'a Arc<Roster>,
    /// The present.
    pub now: WallTime,
}

/// Which identities were asked for.
#[derive(Debug)]
struct IdentitiesWanted {
    names: Vec<String>,
    limit: usize,
}

/// What is left to do.
#[derive(Debug)]
enum Left {
    List { state: Option<State>, after: Option<QueueId>, limit: usize },
    Show { id: String },
    Steer { action: Action, ids: VecDeque<String> },
    SteerAll { action: Action, after: Option<QueueId> },
    Stats,
    Compact,
    Identities(IdentitiesWanted),
    Listed(Box<Listing>),
    Nothing,
    Ended,
}

impl Answers {
    /// The answers to `command`, asked by `by` (for the audit).
    pub fn new(command: Command, by: String) -> Self {
        let left = match command {
            Command::List { state, limit } => Left::List { state: state.map(State::from), after: None, limit },
            Command::Show { id } => Left::Show { id },
            Command::Steer { action, target: Target::Ids(ids) } => Left::Steer { action, ids: ids.into() },
            Command::Steer { action, target: Target::All } => Left::SteerAll { action, after: None },
            Command::Stats => Left::Stats,
            Command::Compact => Left::Compact,
            Command::Identities { names, limit } => Left::Identities(IdentitiesWanted { names, limit }),
        };
        Self { by, left, ready: VecDeque::new(), probed: false }
    }

    /// One answer: it can't be done.
    pub fn fault(why: String) -> Self {
        Self { by: String::new(), left: Left::Nothing, ready: VecDeque::from([Answer::Fault(why)]), probed: false }
    }

    /// The next answer; `None` behind [`Answer::End`].
    pub async fn next(&mut self, desk: Desk<'_>) -> Option<Answer> {
        loop {
            if let Some(answer) = self.ready.pop_front() {
                return Some(answer);
            }
            match self.more(desk).await {
                Ok(More::Perhaps) => {}
                Ok(More::Never) => return None,
                Err(fault) => {
                    self.left = Left::Nothing;
                    self.ready.push_back(Answer::Fault(fault.to_string()));
                }
            }
        }
    }

    async fn more(&mut self, desk: Desk<'_>) -> Result<More, QueueError> {
        let queue = desk.queue;
        match std::mem::replace(&mut self.left, Left::Nothing) {
            Left::List { state, after, limit } => self.list(queue, state, after, limit).await?,
            Left::Show { id } => self.show(queue, id).await?,
            Left::Steer { action, mut ids } => {
                if let Some(id) = ids.pop_front() {
                    self.steer(desk, action, id).await?;
                    self.left = Left::Steer { action, ids };
                }
            }
            Left::SteerAll { action, after } => self.steer_all(desk, action, after).await?,
            Left::Stats => {
                let upstreams = desk.upstreams.map(|(courier, routes)| {
                    courier.standings().iter().map(|one| UpstreamSums::of(one, routes, desk.now)).collect()
                });
                let sums = Sums::of(&queue.stats().await?, upstreams, desk.now);
                self.ready.push_back(Answer::Stats(sums));
            }
            Left::Compact => self.ready.push_back(match queue.compact(COMPACT_BESIDE_MAX, |_, _| {}).await? {
                Compaction::Done { before, after } => {
                    tracing::info!(by = self.by, before, after, "the store's file was written anew");
                    Answer::Compacted(before, after)
                }
                Compaction::TooMuch { kept } => Answer::Fault(format!(
                    "{} MiB are kept, and all mail would wait until they are copied; the daemon does so up to {} MiB: \
                     stop it, run this again, and start it",
                    kept >> 20,
                    COMPACT_BESIDE_MAX >> 20
                )),
            }),
            Left::Identities(IdentitiesWanted { names, limit }) => {
                self.left = Left::Listed(Box::new(Listing::new(desk.roster, names, limit)));
            }
            Left::Listed(mut listing) => {
                let (answers, more) = listing.page(desk).await?;
                self.ready.extend(answers);
                if more {
                    self.left = Left::Listed(listing);
                }
            }
            Left::Nothing => {
                self.ready.push_back(Answer::End);
                self.left = Left::Ended;
            }
            Left::Ended => {
                self.left = Left::Ended;
                return Ok(More::Never);
            }
        }
        Ok(More::Perhaps)
    }

    async fn list(
        &mut self,
        queue: &Queue,
        state: Option<State>,
        after: Option<QueueId>,
        limit: usize,
    ) -> Result<(), QueueError> {
        let listing = queue.list(Filter { state }, Page { after, limit: limit.min(PAGE) }).await?;
        let left = limit.saturating_sub(listing.entries.len());
        self.ready.extend(listing.entries.into_iter().map(|listed| Answer::Entry(Box::new(shown(&listed)))));
        if let Some(after) = listing.next.filter(|_| left > 0) {
            self.left = Left::List { state, after: Some(after), limit: left };
        }
        Ok(())
    }

    async fn show(&mut self, queue: &Queue, id: String) -> Result<(), QueueError> {
        let answer = match id.parse::<QueueId>() {
            Err(_) => Answer::Missing(id),
            Ok(number) => match queue.show(number).await {
                Ok(listed) => Answer::Entry(Box::new(shown(&listed))),
                Err(QueueError::NotFound(_)) => Answer::Missing(id),
                Err(fault) => return Err(fault),
            },
        };
        self.ready.push_back(answer);
        Ok(())
    }

    async fn steer(&mut self, desk: Desk<'_>, action: Action, id: String) -> Result<(), QueueError> {
        let queue = desk.queue;
        let Ok(number) = id.parse::<QueueId>() else {
            self.ready.push_back(Answer::Missing(id));
            return Ok(());
        };
        let done = match action {
            Action::Hold => queue.hold(number).await,
            Action::Release => queue.release(number).await,
            Action::Retry => self.retry(desk, number).await,
            Action::Remove => queue.remove(number).await,
        };
        match done {
            Ok(()) => {
                audit::steered(action.word(), number, &self.by);
                self.ready.push_back(Answer::Done(id));
            }
            Err(QueueError::NotFound(_)) => self.ready.push_back(Answer::Missing(id)),
            Err(fault @ QueueError::Damaged(..)) => self.ready.push_back(Answer::Unable(id, fault.to_string())),
            Err(fault) => return Err(fault),
        }
        Ok(())
    }

    /// Due now; and whoever asks for that wants to know now whether its upstreams are up again.
    async fn retry(&mut self, desk: Desk<'_>, id: QueueId) -> Result<(), QueueError> {
        desk.queue.retry(id).await?;
        if let Some((courier, routes)) = desk.upstreams.filter(|_| !self.probed)
            && let Listed::Message(record) = desk.queue.show(id).await?
        {
            let routed = routes.part(&record.envelope, &record.custodian, &record.open_recipients());
            courier.probe_now(routed.groups.iter().flat_map(|group| group.route.upstreams()));
            self.probed = true;
        }
        Ok(())
    }

    async fn steer_all(&mut self, desk: Desk<'_>, action: Action, after: Option<QueueId>) -> Result<(), QueueError> {
        let listing = desk.queue.list(Filter::default(), Page { after, limit: PAGE }).await?;
        for listed in &listing.entries {
            if action.concerns(listed.state()) {
                self.steer(desk, action, listed.id().to_string()).await?;
            }
        }
        if let Some(after) = listing.next {
            self.left = Left::SteerAll { action, after: Some(after) };
        }
        Ok(())
    }
}

/// Whether another look may bring something.
enum More {
    Perhaps,
    Never,
}

fn shown(listed: &Listed) -> Entry {
    match listed {
        Listed::Message(record) => Entry::of(record),
        Listed::Unreadable(id, reason) => Entry {
            id: id.to_string(),
            state: StateName::Dead,
            reason: Some(reason.clone()),
            identity: "(unreadable)".to_owned(),
            ca: None,
            fingerprint: String::new(),
            chain: Vec::new(),
            sender: String::new(),
            recipients: Vec::new(),
            arrived: String::new(),
            due: String::new(),
            attempts: 0,
            octets: 0,
            message_id: None,
            client: String::new(),
            helo: String::new(),
            tls: String::new(),
        },
    }
}
