//! Carries messages to upstreams: connects, keeps connections for the next message, limits their number, minds their health, and goes on to the
//! next upstream where that is safe.
//!
//! | found                                            | then                                                                  |
//! |--------------------------------------------------|-----------------------------------------------------------------------|
//! | an address fails before AUTH                     | the next address of the name                                          |
//! | a kept connection ends before it answers for us  | a new connection; nothing is wrong                                     |
//! | the upstream is at fault, the message untouched  | the next upstream, for the recipients that are free                   |
//! | the final dot is sent and nothing came           | nobody else at once: the next attempt begins with the same upstream   |
//! | the upstream spoke about the message             | that is its outcome; nobody else is asked                             |
//!
//! Never: writes the queue; waits between attempts (the schedule does); sends a message to two upstreams at once.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::debug;

use super::attempt::{Attempt, FaultCause, UpstreamFault};
use super::blame::Phase;
use super::body::MessageBody;
use super::connection::Connection;
use super::health::{Condition, Health, Permit};
use super::network::Network;
use super::settings::Upstream;
use super::transaction::Order;
use crate::mail::Envelope;
use crate::queue::Outcome;
use crate::sys::{Clock, Now};

/// Addresses of one name that are tried for one connection at most.
pub const ADDRESSES_MAX: usize = 16;

/// How often idle connections are looked over.
const SWEEP: Duration = Duration::from_secs(5);

/// Carries messages to upstreams. Shared by all deliveries.
pub struct Courier {
    network: Arc<dyn Network>,
    clock: Arc<dyn Clock>,
    places: Mutex<HashMap<String, Place>>,
}

/// What is kept of one upstream between messages.
struct Place {
    upstream: Arc<Upstream>,
    /// A permit per connection in use. Idle ones are taken before new ones are made, so that both together stay within the limit.
    gate: Arc<Semaphore>,
    idle: Vec<Connection>,
    health: Health,
}

/// How an upstream stands; for `queue stats` and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its name.
    pub upstream: String,
    /// Its health.
    pub condition: Condition,
    /// Faults in a row.
    pub failures: u32,
    /// The last of them.
    pub last_fault: Option<UpstreamFault>,
    /// Connections kept for the next message.
    pub idle: usize,
    /// Connections in use.
    pub busy: usize,
}

/// What came of handing a message to a route's upstreams.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handover {
    /// Per recipient: its place in the envelope, what came of it, and the upstream that it came from; in the order of places.
    pub outcomes: Vec<(usize, Outcome, String)>,
    /// What was found wrong on the way, upstream by upstream.
    pub faults: Vec<UpstreamFault>,
    /// Recipients whose fate is unknown, and the upstream that knows: the next attempt begins with it.
    pub undetermined: Vec<(usize, String)>,
}

impl Courier {
    /// A courier without connections.
    pub fn new(network: Arc<dyn Network>, clock: Arc<dyn Clock>) -> Self {
        Self { network, clock, places: Mutex::new(HashMap::new()) }
    }

    /// Tries the upstreams in order until each recipient has an outcome of its own. `first`: the upstream that an undetermined attempt was
    /// made with, to begin with.
    pub async fn hand_over(
        &self,
        upstreams: &[Arc<Upstream>],
        first: Option<&str>,
        envelope: &Envelope,
        recipients: &[usize],
        body: &mut impl MessageBody,
    ) -> Handover {
        let (begin, others): (Vec<_>, Vec<_>) = upstreams.iter().partition(|one| Some(one.name.as_str()) == first);
        let mut handover = Handover::default();
        let mut left = recipients.to_vec();
        for upstream in begin.into_iter().chain(others) {
            let attempt = self.deliver(upstream, envelope, &left, body).await;
            left.clone_from(&attempt.free);
            handover.add(upstream, attempt);
            if left.is_empty() {
                break;
            }
        }
        handover
    }

    /// Tries one upstream. Waits for a free connection; may be dropped at any time, which closes the connection in use.
    pub async fn deliver(
        &self,
        upstream: &Arc<Upstream>,
        envelope: &Envelope,
        recipients: &[usize],
        body: &mut impl MessageBody,
    ) -> Attempt {
        let gate = self.gate_of(upstream);
        // The gate is never closed; if it were, going on without it would be right.
        let _permit = gate.acquire().await.ok();
        if let Permit::LeaveAlone(wait) = self.with_place(upstream, |place, now| place.health.permit(now)) {
            let because = self.with_place(upstream, |place, _| place.health.last_fault().cloned()).map(Box::new);
            let fault = fault(upstream, Phase::Connect, FaultCause::LeftAlone(wait, because));
            return Attempt::deferred(recipients, fault);
        }
        let attempt = self.attempt(upstream, envelope, recipients, body).await;
        self.with_place(upstream, |place, now| place.health.report(attempt.fault.as_ref(), now));
        debug!(upstream = upstream.name, fault = attempt.fault.as_ref().map(tracing::field::display), "attempt");
        attempt
    }

    async fn attempt(
        &self,
        upstream: &Arc<Upstream>,
        envelope: &Envelope,
        recipients: &[usize],
        body: &mut impl MessageBody,
    ) -> Attempt {
        let order = Order::new(envelope, recipients, body.octets());
        while let Some(mut kept) = self.kept_connection(upstream).await {
            let attempt = Box::pin(kept.send(order.clone(), recipients, body)).await;
            if attempt.fault.is_none() || kept.has_answered() {
                self.keep(upstream, kept);
                return attempt;
            }
        }
        match Box::pin(self.open(upstream)).await {
            Ok(mut connection) => {
                let attempt = Box::pin(connection.send(order, recipients, body)).await;
                self.keep(upstream, connection);
                attempt
            }
            Err(fault) => Attempt::deferred(recipients, fault),
        }
    }

    /// Connects, says who we are, and leaves: whether the upstream would take mail from us.
    pub async fn try_out(&self, upstream: &Arc<Upstream>) -> Result<(), UpstreamFault> {
        let connection = Box::pin(self.open(upstream)).await?;
        connection.leave().await;
        Ok(())
    }

    /// Looks the name up and tries its addresses in order. The fault told is the one that came furthest.
    async fn open(&self, upstream: &Arc<Upstream>) -> Result<Connection, UpstreamFault> {
        let mut furthest: Option<UpstreamFault> = None;
        for address in self.addresses(upstream).await? {
            match Connection::open(&*self.network, upstream, address).await {
                Ok(connection) => return Ok(connection),
                Err(fault) if !fault.phase.is_about_the_address() => return Err(fault),
                Err(fault) => {
                    debug!(upstream = upstream.name, %address, %fault, "address");
                    if furthest.as_ref().is_none_or(|known| known.phase < fault.phase) {
                        furthest = Some(fault);
                    }
                }
            }
        }
        Err(furthest
            .unwrap_or_else(|| fault(upstream, Phase::Lookup, FaultCause::NoAddress("it has no address".to_owned()))))
    }

    async fn addresses(&self, upstream: &Arc<Upstream>) -> Result<Vec<SocketAddr>, UpstreamFault> {
        let limit = upstream.deadlines.lookup;
        let cause = match timeout(limit, self.network.lookup(&upstream.host, upstream.port)).await {
            Ok(Ok(mut addresses)) => {
                addresses.truncate(ADDRESSES_MAX);
                return Ok(addresses);
            }
            Ok(Err(why)) => FaultCause::NoAddress(why.to_string()),
            Err(_) => FaultCause::Silent(limit),
        };
        Err(fault(upstream, Phase::Lookup, cause))
    }

    // Kept connections.

    /// A connection from before that is still there. Those that are not are closed on the way.
    async fn kept_connection(&self, upstream: &Arc<Upstream>) -> Option<Connection> {
        loop {
            let mut kept = self.with_place(upstream, |place, _| place.idle.pop())?;
            if !kept.is_quiet().await {
                continue;
            }
            // Settings that have changed are not got round by an old connection.
            if kept.is_spent() || !Arc::ptr_eq(kept.upstream(), upstream) {
                kept.leave().await;
                continue;
            }
            return Some(kept);
        }
    }

    fn keep(&self, upstream: &Arc<Upstream>, mut connection: Connection) {
        if connection.is_usable() {
            self.with_place(upstream, |place, now| {
                connection.idle_since = now.mono;
                place.idle.push(connection);
            });
        }
    }

    /// Looks after idle connections until dropped: run it beside the deliveries.
    pub async fn tend(&self) {
        loop {
            tokio::time::sleep(SWEEP).await;
            self.close_idle().await;
        }
    }

    /// Says QUIT on connections that have been idle for too long or have carried all they may.
    pub async fn close_idle(&self) {
        self.close_where(|one, now| one.is_spent() || now.mono.since(one.idle_since) >= one.upstream().idle_timeout)
            .await;
    }

    /// Says QUIT on all idle connections: at the end of the daemon.
    pub async fn close(&self) {
        self.close_where(|_, _| true).await;
    }

    async fn close_where(&self, which: impl Fn(&Connection, Now) -> bool) {
        let now = self.clock.now();
        let leaving: Vec<Connection> =
            self.lock().values_mut().flat_map(|place| place.idle.extract_if(.., |one| which(one, now))).collect();
        for connection in leaving {
            connection.leave().await;
        }
    }

    /// How all upstreams stand, by name. One that was never tried is not listed.
    pub fn standings(&self) -> Vec<Standing> {
        let mut all: Vec<Standing> = self.lock().values().map(Place::standing).collect();
        all.sort_by(|one, other| one.upstream.cmp(&other.upstream));
        all
    }

    /// Forgets upstreams that are no longer configured; to be called after a reload.
    pub fn retain(&self, configured: &[Arc<Upstream>]) {
        self.lock().retain(|name, _| configured.iter().any(|upstream| upstream.name == *name));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gate_of(&self, upstream: &Arc<Upstream>) -> Arc<Semaphore> {
        self.with_place(upstream, |place, _| Arc::clone(&place.gate))
    }

    fn with_place<T>(&self, upstream: &Arc<Upstream>, what: impl FnOnce(&mut Place, Now) -> T) -> T {
        let now = self.clock.now();
        let mut places = self.lock();
        let place = places.entry(upstream.name.clone()).or_insert_with(|| Place::new(upstream));
        place.follow(upstream);
        what(place, now)
    }
}

impl fmt::Debug for Courier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Courier").field("standings", &self.standings()).finish_non_exhaustive()
    }
}

impl Place {
    fn new(upstream: &Arc<Upstream>) -> Self {
        Self {
            upstream: Arc::clone(upstream),
            gate: Arc::new(Semaphore::new(upstream.connections.max(1))),
            idle: Vec::new(),
            health: Health::default(),
        }
    }

    /// New settings: a new limit and a clean sheet, since what was wrong may be what was mended. Idle connections are closed when found.
    fn follow(&mut self, upstream: &Arc<Upstream>) {
        if !Arc::ptr_eq(&self.upstream, upstream) {
            let idle = std::mem::take(&mut self.idle);
            *self = Self { idle, ..Self::new(upstream) };
        }
    }

    fn standing(&self) -> Standing {
        Standing {
            upstream: self.upstream.name.clone(),
            condition: self.health.condition(),
            failures: self.health.failures(),
            last_fault: self.health.last_fault().cloned(),
            idle: self.idle.len(),
            busy: self.upstream.connections.max(1).saturating_sub(self.gate.available_permits()),
        }
    }
}

impl Handover {
    fn add(&mut self, upstream: &Upstream, attempt: Attempt) {
        for (place, outcome) in attempt.outcomes {
            self.outcomes.retain(|(known, _, _)| *known != place);
            self.outcomes.push((place, outcome, upstream.name.clone()));
        }
        self.outcomes.sort_by_key(|&(place, _, _)| place);
        self.faults.extend(attempt.fault);
        self.undetermined.extend(attempt.undetermined.into_iter().map(|place| (place, upstream.name.clone())));
    }
}

fn fault(upstream: &Upstream, phase: Phase, cause: FaultCause) -> UpstreamFault {
    UpstreamFault { upstream: upstream.name.clone(), address: None, phase, cause }
}
