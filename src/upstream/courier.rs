//! Carries messages to upstreams: connects, keeps connections for the next message, limits their number, minds their health, and goes on to the
//! next upstream where that is safe.
//!
//! | found                                            | then                                                                  |
//! |--------------------------------------------------|-----------------------------------------------------------------------|
//! | silence of a minute before MAIL, others can go   | a fault: the next upstream, and the connection to who waits for it     |
//! | the same, and nothing else can be done, a probe  | the whole wait of RFC 5321 §4.5.3.2                                    |
//! | an operator's retry, other settings, before MAIL | begun anew, with the settings of now                                   |
//! | an address fails before AUTH                     | the next address of the name                                          |
//! | a kept connection ends before it answers for us  | a new connection; nothing is wrong                                     |
//! | the same, and the message went ahead by BDAT     | as behind the final dot: it may have been taken                       |
//! | the upstream is at fault, the message untouched  | the next upstream, for the recipients that are free                   |
//! | the final dot is sent and nothing came           | nobody else at once: the next attempt begins with the same upstream   |
//! | some are done with, and another is asked         | what came of it so far is told first (`progress`)                     |
//! | the upstream spoke about the message             | that is its outcome; nobody else is asked                             |
//! | it refuses message after message alike           | mail waits; the next upstream only where several identities meet it   |
//! | a probe gets as far as MAIL                      | the upstream is up; what the message meets then is its own matter     |
//!
//! Never: writes the queue; waits between attempts (the schedule does); sends a message to two upstreams at once.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::debug;

use super::alarms::{Cause, Voice};
use super::attempt::{Attempt, FaultCause, Retry, TlsCause, Undertaking, UpstreamFault};
use super::blame::Phase;
use super::body::MessageBody;
use super::connection::Connection;
use super::dane::{self, DaneFault};
use super::drought::Word;
use super::health::{Condition, Finder, Identities};
use super::login::fresh;
use super::network::Network;
use super::places::{Outlook, Places, Probe, Slot, Standing, Way};
use super::progress::Progress;
use super::refusals::Alike;
use super::settings::{Security, Upstream};
use super::through::HeldOpen;
use super::tlsa::Named;
use super::transaction::{Order, UPSTREAM_NOT_PROVED};
use super::vigil::{Signs, UNANSWERED, UNANSWERED_ALARM};
use crate::mail::{Envelope, QueueId, ReversePath};
use crate::queue::{Certainty, Outcome, Tried};
use crate::sys::{Clock, Entropy, Now};

/// Addresses of one name that are tried for one connection at most.
pub const ADDRESSES_MAX: usize = 16;

/// How often idle connections are looked over.
const SWEEP: Duration = Duration::from_secs(5);

/// How often it is looked whether something else can be done than to wait for an upstream that is silent.
const LOOK: Duration = Duration::from_secs(5);

/// Whether there is somebody else to ask when an upstream is silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Others {
    None,
    Some,
}

/// What came of watching an attempt.
enum Watched {
    Done(Box<Attempt>),
    /// It hung before any message, and an operator or a reload wants it begun anew.
    Anew,
}

/// Carries messages to upstreams. Shared by all deliveries.
pub struct Courier {
    pub(super) network: Arc<dyn Network>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) places: Arc<Places>,
    /// Transactions whose clients wait.
    pub(super) held: HeldOpen,
}

/// A message to be handed over, without its octets.
#[derive(Clone, Copy, Debug)]
pub struct Parcel<'a> {
    envelope: &'a Envelope,
    /// By their places in the envelope.
    recipients: &'a [usize],
    progress: Option<&'a Progress>,
}

impl<'a> Parcel<'a> {
    /// For these recipients of the envelope.
    pub fn new(envelope: &'a Envelope, recipients: &'a [usize]) -> Self {
        Self { envelope, recipients, progress: None }
    }

    /// The same, of which it is told what has come of it before it is all over.
    #[must_use]
    pub fn telling(self, progress: &'a Progress) -> Self {
        Self { progress: Some(progress), ..self }
    }
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
    /// What has been taken over with the message by who took it.
    pub undertakings: Vec<(usize, Undertaking)>,
    /// Set when nothing was tried, because every upstream is left alone.
    pub left_alone: Option<LeftAlone>,
}

/// Nothing was tried. The outcomes beside it say why, and are none of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftAlone {
    /// For so long at most: then one of the upstreams may be probed.
    pub wait: Duration,
}

impl Courier {
    /// A courier without connections.
    pub fn new(network: Arc<dyn Network>, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        let places = Arc::new(Places::new(clock, Arc::clone(&entropy)));
        Self { network, entropy, places, held: HeldOpen::default() }
    }

    /// These upstreams are configured, and no others: at start and at each reload. What is unchanged by value keeps its health, its connections
    /// and its limit.
    pub fn configure(&self, upstreams: &[Arc<Upstream>]) {
        self.places.configure(upstreams);
    }

    /// Has everybody who waits for news look again.
    pub fn announce(&self) {
        self.places.news.send_replace(());
    }

    /// Whether any of these may be tried.
    pub fn outlook<'a>(&self, upstreams: impl Iterator<Item = &'a Arc<Upstream>>) -> Outlook {
        self.places.outlook(upstreams)
    }

    /// The right to be the probe, for a message that is at hand, after [`Outlook::Due`]; none where somebody else has it by now.
    pub fn probe<'a>(&self, upstreams: impl Iterator<Item = &'a Arc<Upstream>>) -> Option<Probe> {
        self.places.probe(upstreams)
    }

    /// Changes when [`Self::outlook`] may be another.
    pub fn news(&self) -> watch::Receiver<()> {
        self.places.news.subscribe()
    }

    /// An operator wants to know now whether these are up again.
    pub fn probe_now<'a>(&self, upstreams: impl Iterator<Item = &'a Arc<Upstream>>) {
        self.places.probe_now(upstreams);
    }

    /// Tries the upstreams in order until each recipient has an outcome of its own; what one has come to is told before the next is asked. `first`: the
    /// upstream that an undetermined attempt was made with, to begin with. `probe`: the right to probe one of them, when all are left alone.
    pub async fn hand_over(
        &self,
        upstreams: &[Arc<Upstream>],
        first: Option<&str>,
        parcel: Parcel<'_>,
        body: &mut impl MessageBody,
        mut probe: Option<Probe>,
    ) -> Handover {
        let (begin, others): (Vec<_>, Vec<_>) = upstreams.iter().partition(|one| Some(one.name.as_str()) == first);
        let mut handover = Handover::default();
        let mut left = parcel.recipients.to_vec();
        let order: Vec<&Arc<Upstream>> = begin.into_iter().chain(others).collect();
        for (place, upstream) in order.iter().enumerate() {
            let others = if place + 1 < order.len() { Others::Some } else { Others::None };
            let attempt =
                self.deliver_by(upstream, others, Parcel { recipients: &left, ..parcel }, body, &mut probe).await;
            left.clone_from(&attempt.free);
            let is_ours = attempt.fault.as_ref().is_some_and(UpstreamFault::is_of_our_store);
            handover.add(upstream, attempt);
            // What our store does not give, no other has either.
            if left.is_empty() || is_ours {
                break;
            }
            if let Some(progress) = parcel.progress {
                progress.tell_all(&handover);
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
        self.deliver_by(upstream, Others::None, Parcel::new(envelope, recipients), body, &mut None).await
    }

    async fn deliver_by(
        &self,
        upstream: &Arc<Upstream>,
        others: Others,
        parcel: Parcel<'_>,
        body: &mut impl MessageBody,
        probe: &mut Option<Probe>,
    ) -> Attempt {
        let recipients = parcel.recipients;
        let deferred = |cause| Attempt::deferred(recipients, fault(upstream, Phase::Connect, cause));
        loop {
            // Nobody waits for a connection in order to hear that none may be opened.
            if probe.is_none()
                && let Some((wait, because)) = self.places.left_alone(upstream)
            {
                return deferred(FaultCause::LeftAlone(wait, because));
            }
            if let Some(course) = body.course() {
                course.waits_for(upstream);
            }
            let Some(slot) = self.places.enter(upstream).await else {
                return deferred(FaultCause::NotConfigured);
            };
            let mut granted = match self.places.way(&slot.upstream, probe) {
                Way::LeftAlone(wait, because) => return deferred(FaultCause::LeftAlone(wait, because)),
                Way::Probe(probe) => Some(probe),
                Way::Clear => None,
            };
            // A probe is given its whole time: an upstream that is slow, but works, must be found out to work.
            let others = if granted.is_some() { Others::None } else { others };
            match self.watched(&slot, others, &mut granted, parcel, body).await {
                Watched::Done(attempt) => return self.noted(&slot, granted, body, recipients, *attempt),
                Watched::Anew => *probe = granted,
            }
        }
    }

    /// The attempt with what it says of the upstream's health, which is noted.
    pub(super) fn noted(
        &self,
        slot: &Slot,
        probe: Option<Probe>,
        body: &impl MessageBody,
        recipients: &[usize],
        mut attempt: Attempt,
    ) -> Attempt {
        let is_ours = attempt.fault.as_ref().is_some_and(UpstreamFault::is_of_our_store);
        // An upstream that takes no mail is not well because of a message that could not go to it, nor ill because our store did not give it: the probe, if it
        // is one, goes back.
        if is_ours || (attempt.is_unsaid && attempt.fault.is_none()) {
            return attempt;
        }
        let (upstream, of) = (&slot.upstream, body.identity());
        if let Some(Alike { reply, met }) = self.places.refused(upstream, body, &attempt) {
            // Refusals of all phases are counted together; what they have in common is that a message was begun.
            attempt = Attempt::deferred(recipients, fault(upstream, Phase::Mail, FaultCause::RefusesAll(reply)));
            if met != Identities::Several {
                // It may be this sender whom the upstream does not take, and no other upstream is to take what it refused.
                attempt.free.clear();
            }
        }
        if let Some(word) = self.places.drought(upstream, &attempt) {
            tell_drought(upstream, &word);
        }
        let found = attempt.fault.as_ref();
        let changed = match probe {
            Some(probe) => probe.report(found, of, slot.begun),
            None => self.places.report(upstream, found, of, Finder::Ordinary, slot.begun),
        };
        if let Some(condition) = changed {
            tell(upstream, condition, found);
        }
        debug!(upstream = upstream.name, fault = attempt.fault.as_ref().map(tracing::field::display), "attempt");
        attempt
    }

    /// The attempt, and a word to the operator when the upstream does not answer. The waits of RFC 5321 §4.5.3.2 are SHOULD: before a message is
    /// begun an upstream that is silent gets no more than [`UNANSWERED`] where another can be asked, or others wait for the connection.
    async fn watched(
        &self,
        slot: &Slot,
        others: Others,
        probe: &mut Option<Probe>,
        parcel: Parcel<'_>,
        body: &mut impl MessageBody,
    ) -> Watched {
        let signs = Signs::new().until(self.places.last_call.subscribe()).telling(parcel.progress);
        let (message, mut anew) = (body.name(), slot.anew.clone());
        if let Some(course) = body.course() {
            course.is_at(&slot.upstream, &signs);
        }
        let mut attempt = Box::pin(self.attempt(slot, parcel, body, &signs));
        let mut told = false;
        loop {
            tokio::select! {
                biased;
                attempt = &mut attempt => {
                    if !told {
                        self.places.answered(&slot.upstream);
                    }
                    return Watched::Done(Box::new(attempt));
                }
                () = signs.ready(), if probe.is_some() => {
                    if let Some(condition) = probe.take().and_then(Probe::end_ready) {
                        tell(&slot.upstream, condition, None);
                    }
                }
                Ok(()) = anew.changed() => {
                    if signs.is_before_mail() {
                        return Watched::Anew;
                    }
                }
                () = signs.silence(), if !told => {
                    told = true;
                    let row = self.places.unanswered(&slot.upstream);
                    let voice = match row {
                        UNANSWERED_ALARM.. => self.places.voice(&slot.upstream.name, Cause::Unanswered),
                        0..UNANSWERED_ALARM => Voice::Word,
                    };
                    signs.tell(&slot.upstream.name, &message, row, voice);
                }
                () = tokio::time::sleep(LOOK), if told => {}
            }
            let elsewhere = others == Others::Some || self.places.has_waiting(&slot.upstream);
            if told
                && elsewhere
                && let Some(phase) = signs.hangs_before_mail(UNANSWERED)
            {
                let cause = FaultCause::Silent(UNANSWERED);
                let attempt = Attempt::deferred(parcel.recipients, fault(&slot.upstream, phase, cause));
                return Watched::Done(Box::new(attempt));
            }
        }
    }

    async fn attempt(&self, slot: &Slot, parcel: Parcel<'_>, body: &mut impl MessageBody, signs: &Signs) -> Attempt {
        let Parcel { envelope, recipients, .. } = parcel;
        // RFC 8689 §4.2.1: whoever it is, must have proved it.
        let proves = slot.upstream.security.proves_the_upstream();
        if envelope.parameters().require_tls && *envelope.reverse_path() != ReversePath::Null && !proves {
            return Attempt::unable(recipients, UPSTREAM_NOT_PROVED);
        }
        let order = Order::new(envelope, recipients, body.octets());
        // RFC 2852 §4.1.4: what is left of the time is counted when it is said, not before a connection was waited for.
        let now = || self.places.now().wall;
        while let Some(mut kept) = self.kept_connection(slot).await {
            let attempt = Box::pin(kept.send(order.clone().at(now()), recipients, body, signs)).await;
            // Sent ahead by BDAT, the message may have been taken though nothing was answered: it goes nowhere else, and not again at once.
            if attempt.fault.is_none() || kept.has_answered() || !attempt.undetermined.is_empty() {
                self.keep(kept);
                return attempt;
            }
        }
        match Box::pin(self.open(&slot.upstream, signs)).await {
            Ok(mut connection) => {
                signs.is_ready();
                let attempt = Box::pin(connection.send(order.at(now()), recipients, body, signs)).await;
                self.keep(connection);
                attempt
            }
            Err(fault) => Attempt::deferred(recipients, fault),
        }
    }

    /// Connects, says who we are, and leaves: whether the upstream would take mail from us.
    pub async fn try_out(&self, upstream: &Arc<Upstream>) -> Result<(), UpstreamFault> {
        let connection = Box::pin(self.open(upstream, &Signs::new())).await?;
        connection.leave().await;
        Ok(())
    }

    /// Looks the name up and tries its addresses in order. The fault told is the one that came furthest.
    pub(super) async fn open(&self, upstream: &Arc<Upstream>, signs: &Signs) -> Result<Connection, UpstreamFault> {
        let security = security(&*self.network, upstream).await?;
        let mut furthest: Option<UpstreamFault> = None;
        for address in self.addresses(upstream).await? {
            let began = self.places.now().mono;
            let fresh = fresh(upstream, &*self.entropy).await;
            let fresh = fresh.map_err(|cause| fault(upstream, Phase::Auth, cause))?;
            match Connection::open(&*self.network, upstream, address, &security, fresh, signs).await {
                Ok(connection) => {
                    self.places.learn(upstream, connection.offered());
                    return Ok(connection.since(began));
                }
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
        let cause = match timeout(limit, self.network.lookup(upstream)).await {
            Ok(Ok(mut addresses)) => {
                let found = addresses.len();
                addresses.retain(|address| upstream.source.allow(address.ip()));
                addresses.truncate(ADDRESSES_MAX);
                if found == 0 || !addresses.is_empty() {
                    return Ok(addresses);
                }
                FaultCause::NoAddress("it has no address of the family of source_address".to_owned())
            }
            Ok(Err(why)) => FaultCause::NoAddress(why.to_string()),
            Err(_) => FaultCause::Silent(limit),
        };
        Err(fault(upstream, Phase::Lookup, cause))
    }

    // Kept connections.

    /// A connection from before that is still there. Those that are not are closed on the way.
    pub(super) async fn kept_connection(&self, slot: &Slot) -> Option<Connection> {
        loop {
            let mut kept = self.places.take_idle(slot)?;
            if !kept.is_quiet().await {
                continue;
            }
            if kept.is_spent() {
                kept.leave().await;
                continue;
            }
            return Some(kept);
        }
    }

    fn keep(&self, connection: Connection) {
        if connection.is_usable() {
            self.places.keep(connection);
        }
    }

    /// Looks after idle connections until dropped: run it beside the deliveries.
    pub async fn tend(&self) {
        loop {
            // Whichever comes first; what there is to do is found either way.
            timeout(SWEEP, self.places.leaving.notified()).await.ok();
            self.close_idle().await;
        }
    }

    /// Says QUIT on connections that have been idle for too long or have carried all they may.
    pub async fn close_idle(&self) {
        self.held.let_go(self.places.now().mono);
        self.close_where(|one, now| one.is_spent() || now.mono.since(one.idle_since) >= one.upstream().idle_timeout)
            .await;
    }

    /// Begins the end of the daemon: attempts under way go on, messages that wait for a connection are not tried any more.
    pub fn stop(&self) {
        self.places.stop();
    }

    /// Ends what waits behind the final dot: nobody knows there whether the upstream has the message, and that must be written down before the end.
    pub fn break_off(&self) {
        self.places.last_call.send_replace(true);
    }

    /// Says QUIT on all idle connections: at the end of the daemon.
    pub async fn close(&self) {
        self.close_where(|_, _| true).await;
    }

    async fn close_where(&self, which: impl Fn(&Connection, Now) -> bool) {
        // Side by side: one that does not answer QUIT holds no other. Until it is closed, each takes its place.
        let leaving = self.places.take_leaving(which).into_iter().map(|(connection, slot)| async move {
            connection.leave().await;
            drop(slot);
        });
        join_all(leaving).await;
    }

    /// What is wrong with an upstream, or with our store when it was to give message `id`, is told to the operator, loudly when nothing but a repair helps and that was not told of lately.
    pub fn alarm(&self, route: &str, id: QueueId, fault: &UpstreamFault) {
        if *self.places.last_call.borrow() || fault.is_that_it_is_gone() {
            // It is we who ended it.
            return;
        }
        let cause = || Cause::Fault(fault.phase, std::mem::discriminant(&fault.cause));
        match fault.retry() {
            Retry::HelpsAfterRepair if fault.is_of_our_store() => match self.places.voice(&fault.upstream, cause()) {
                Voice::Alarm => tracing::error!(%id, route, %fault, "queued mail could not be read while it was sent"),
                Voice::Word => tracing::warn!(%id, route, %fault, "queued mail could not be read while it was sent"),
            },
            Retry::HelpsAfterRepair => match self.places.voice(&fault.upstream, cause()) {
                Voice::Alarm => {
                    tracing::error!(upstream = fault.upstream, route, %fault, "an upstream needs a repair; mail waits")
                }
                Voice::Word => {
                    tracing::warn!(upstream = fault.upstream, route, %fault, "an upstream still needs its repair; mail waits")
                }
            },
            Retry::Helps => {
                tracing::warn!(upstream = fault.upstream, route, %fault, "an upstream can't take mail; it is tried again")
            }
        }
    }

    /// How all upstreams stand, by name.
    pub fn standings(&self) -> Vec<Standing> {
        self.places.standings()
    }
}

impl fmt::Debug for Courier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Courier").field("standings", &self.standings()).finish_non_exhaustive()
    }
}

impl Handover {
    /// What is to be recorded of it, recipient by recipient.
    pub fn tried(&self) -> Vec<Tried> {
        let unknown = |place| self.undetermined.iter().any(|(other, _)| *other == place);
        let outcomes = self.outcomes.iter().map(|(recipient, outcome, upstream)| Tried {
            recipient: *recipient,
            upstream: upstream.clone(),
            outcome: outcome.clone(),
            certainty: if unknown(*recipient) { Certainty::Undetermined } else { Certainty::Known },
        });
        outcomes.collect()
    }

    pub(super) fn add(&mut self, upstream: &Upstream, attempt: Attempt) {
        self.left_alone = self.still_left_alone(attempt.fault.as_ref(), self.outcomes.is_empty());
        let is_gone = attempt.fault.as_ref().is_some_and(UpstreamFault::is_that_it_is_gone);
        for (place, outcome) in attempt.outcomes {
            // Of a message that is gone nothing comes for who had not heard of it.
            if is_gone && matches!(outcome, Outcome::Deferred { .. }) {
                continue;
            }
            // Who could not take it at all does not end the wait for another who may.
            let waits = |(known, before, _): &(usize, Outcome, String)| {
                *known == place && matches!(before, Outcome::Deferred { .. })
            };
            if attempt.is_unable && self.outcomes.iter().any(waits) {
                continue;
            }
            if matches!(outcome, Outcome::Delivered { .. }) {
                self.undertakings.push((place, attempt.undertaking));
            }
            self.outcomes.retain(|(known, _, _)| *known != place);
            self.outcomes.push((place, outcome, upstream.name.clone()));
        }
        self.outcomes.sort_by_key(|&(place, _, _)| place);
        self.faults.extend(attempt.fault);
        self.undetermined.extend(attempt.undetermined.into_iter().map(|place| (place, upstream.name.clone())));
    }

    /// Whether still nothing was tried; `fault` is what the next upstream was found with, `is_first` whether it is the first.
    fn still_left_alone(&self, fault: Option<&UpstreamFault>, is_first: bool) -> Option<LeftAlone> {
        let fault = fault.filter(|fault| !fault.was_tried())?;
        let wait = if let FaultCause::LeftAlone(wait, _) = fault.cause { wait } else { Duration::ZERO };
        if is_first {
            Some(LeftAlone { wait })
        } else {
            self.left_alone.map(|known| LeftAlone { wait: known.wait.min(wait) })
        }
    }
}

/// The operator hears of each change once, not message by message.
fn tell(upstream: &Upstream, condition: Condition, last: Option<&UpstreamFault>) {
    match condition {
        Condition::Closed => tracing::info!(upstream = upstream.name, "an upstream takes mail again"),
        Condition::Open(pause) => tracing::error!(
            upstream = upstream.name,
            seconds = pause.as_secs(),
            fault = last.map(tracing::field::display),
            "an upstream failed too often: it is left alone for so long, then one message probes it; see `sealpost queue stats`"
        ),
        Condition::HalfOpen => {}
    }
}

/// An upstream that answers and takes nothing is told of apart from one that fails.
fn tell_drought(upstream: &Upstream, word: &Word) {
    match word {
        Word::Dry { since, attempts, last } => tracing::error!(
            upstream = upstream.name,
            since = since.rfc3339(),
            attempts,
            last = last.as_str(),
            "nothing was delivered through an upstream since then, though messages were tried: it puts all of them off, or fails in the middle of them; ask its operator; mail waits"
        ),
        Word::Over { since } => tracing::info!(
            upstream = upstream.name,
            since = since.rfc3339(),
            "an upstream that put all messages off since then answers for good again"
        ),
    }
}

/// How a connection is to be protected: as configured, unless DNS says what certificate it must show (RFC 7672 §2.2). What is not known lets
/// nothing through; records that can't be used don't either.
pub(super) async fn security(network: &dyn Network, upstream: &Upstream) -> Result<Security, UpstreamFault> {
    let Some(dane) = &upstream.dane else { return Ok(upstream.security.clone()) };
    let limit = upstream.deadlines.lookup;
    let unknown = |why: String| fault(upstream, Phase::Lookup, FaultCause::TlsaUnknown(why));
    match timeout(limit, network.named(dane, &upstream.host, upstream.port)).await {
        Ok(Ok(Named::Nothing)) => Ok(upstream.security.clone()),
        Ok(Ok(Named::Records { records, .. })) if dane::usable(&records).is_empty() => {
            let cause = FaultCause::Tls(TlsCause::Dane(DaneFault::Unusable));
            Err(fault(upstream, Phase::Lookup, cause))
        }
        Ok(Ok(Named::Records { host, records })) => {
            let security = upstream.security.by_records(&host, records);
            security.ok_or_else(|| unknown(format!("{host:?} is no name that a certificate can carry")))
        }
        Ok(Err(why)) => Err(unknown(why.to_string())),
        Err(_) => Err(unknown("DNS does not answer".to_owned())),
    }
}

pub(super) fn fault(upstream: &Upstream, phase: Phase, cause: FaultCause) -> UpstreamFault {
    UpstreamFault { upstream: upstream.name.clone(), address: None, phase, cause }
}
