//! What is kept of each upstream between messages: its settings, its limit, its idle connections, its health.
//!
//! | of an upstream that a reload | health      | idle connections       | the limit                                              |
//! |------------------------------|-------------|------------------------|--------------------------------------------------------|
//! | leaves as it is, by value    | stays       | stay                   | stays                                                  |
//! | changes                      | clean sheet | are ended              | the new one, and connections of both settings count    |
//! | takes out                    | forgotten   | are ended              | nobody gets in; those inside end, then it is forgotten |
//!
//! A connection counts from before it is opened until it has been ended, QUIT included. Locks are held for a moment and over no wait. Never:
//! talks to an upstream, decides what becomes of mail.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, watch};

use super::alarms::{Alarms, Cause, Voice};
use super::attempt::{Attempt, UpstreamFault};
use super::body::MessageBody;
use super::connection::Connection;
use super::drought::{Drought, Word};
use super::health::{Condition, Finder, Found, Health, Permit};
use super::refusals::{Alike, Refusals};
use super::settings::Upstream;
use crate::queue::Outcome;
use crate::smtp::{Extension, Offered};
use crate::sys::{Clock, Entropy, MonoTime, Now, WallTime};

mod rights;

pub use rights::Probe;
pub(super) use rights::Slot;
use rights::{Waiting, Whose};

/// How long it is believed of an upstream that it lacks an extension: mail that needs it is not tried meanwhile, and would never find it out.
const KNOWN_FOR: Duration = Duration::from_secs(15 * 60);

/// While an upstream refuses all mail alike, a connection that is older than this is ended after its message, so that what is put right there is found
/// out; a younger one is kept, since many messages may be on their way.
const NEW_ENOUGH: Duration = Duration::from_secs(60);

/// How an upstream stands; for `queue stats` and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its name.
    pub upstream: String,
    /// Its health.
    pub condition: Condition,
    /// Faults in a row.
    pub failures: u32,
    /// The last of all faults, and when.
    pub last_fault: Option<(UpstreamFault, WallTime)>,
    /// Attempts in a row, those under way included, in which nothing was heard for [`super::vigil::UNANSWERED`].
    pub unanswered: u32,
    /// Since when nothing was delivered through it, where that lasts so long that it was told, see [`super::drought`].
    pub dry_since: Option<WallTime>,
    /// Connections kept for the next message.
    pub idle: usize,
    /// Connections in use.
    pub busy: usize,
    /// Connections at most.
    pub limit: usize,
    /// Messages that were taken from the queue and wait for a connection.
    pub waiting: usize,
}

/// All upstreams.
pub(super) struct Places {
    clock: Arc<dyn Clock>,
    /// Spreads probes.
    entropy: Arc<dyn Entropy>,
    roll: Mutex<Roll>,
    /// Sent when an upstream may be tried that could not, or can't any more.
    pub(super) news: watch::Sender<()>,
    /// Rung when a connection is to be ended.
    pub(super) leaving: Notify,
    /// Whether nobody waits any longer behind the final dot.
    pub(super) last_call: watch::Sender<bool>,
}

#[derive(Default)]
struct Roll {
    places: HashMap<String, Place>,
    /// Whether it was told what is configured; before, whoever is handed over is.
    told: bool,
}

struct Place {
    /// The newest settings.
    upstream: Arc<Upstream>,
    gone: bool,
    /// A permit per connection that may still be opened; closed when gone.
    gate: Arc<Semaphore>,
    /// Connections in use, being opened or being ended.
    busy: usize,
    /// Permits that were lent beyond a limit that has become lower: so many that come back are not given out again.
    owed: usize,
    waiting: usize,
    /// Connections in use whose clients wait; among the busy ones.
    through: usize,
    idle: Vec<Connection>,
    /// To be ended; each is among the busy ones.
    leaving: Vec<Connection>,
    health: Health,
    refusals: Refusals,
    drought: Drought,
    /// Connections that were open for long at this moment are not gone back to.
    distrusted: Option<MonoTime>,
    alarms: Alarms,
    unanswered: u32,
    /// Whether a client was left without an answer, and nothing was answered since.
    kept_a_client_waiting: bool,
    /// What it offered last, and when.
    offered: Option<(Offered, MonoTime)>,
    /// Sent when attempts that have not reached a message are to be begun anew.
    anew: watch::Sender<()>,
}

/// Whether an upstream may be tried.
pub(super) enum Way {
    Clear,
    Probe(Probe),
    LeftAlone(Duration, Option<Box<UpstreamFault>>),
}

/// Whether anything may be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// An upstream is up, as far as is known.
    Clear,
    /// All are left alone, and one may be probed: by whoever has a message for it, see [`super::Courier::probe`].
    Due,
    /// All are left alone; the next may be probed after so long, or when there is news.
    LeftAlone(Duration),
}

impl Places {
    pub(super) fn new(clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        let (news, last_call) = (watch::Sender::new(()), watch::Sender::new(false));
        Self { clock, entropy, roll: Mutex::default(), news, leaving: Notify::new(), last_call }
    }

    /// What time it is.
    pub(super) fn now(&self) -> Now {
        self.clock.now()
    }

    /// These are configured, and no others.
    pub(super) fn configure(&self, upstreams: &[Arc<Upstream>]) {
        let mut roll = self.lock();
        roll.told = true;
        for (_, place) in roll.places.iter_mut().filter(|(name, _)| !upstreams.iter().any(|one| one.name == **name)) {
            place.go();
        }
        for upstream in upstreams {
            roll.follow(upstream);
        }
        roll.forget_gone();
        drop(roll);
        self.news.send_replace(());
        self.leaving.notify_one();
    }

    /// Nobody gets in any more: those who wait for a connection are told so at once.
    pub(super) fn stop(&self) {
        for place in self.lock().places.values() {
            place.gate.close();
        }
    }

    /// Waits for the right to a connection; none when the upstream is not configured any more, or all has been stopped.
    pub(super) async fn enter(self: &Arc<Self>, upstream: &Arc<Upstream>) -> Option<Slot> {
        let name = &upstream.name;
        let waiting = Waiting::new(self, upstream)?;
        loop {
            let gate = self.with(name, |place, _| Arc::clone(&place.gate))?;
            let permit = gate.acquire().await.ok()?;
            permit.forget();
            let slot = self.with(name, |place, now| {
                if place.gone || !Arc::ptr_eq(&place.gate, &gate) {
                    return None;
                }
                place.busy = place.busy.saturating_add(1);
                Some(place.slot(self, now))
            })?;
            if slot.is_some() {
                drop(waiting);
                return slot;
            }
        }
    }

    /// The right to a connection for a client that waits, when one is free at once; never to find out whether an upstream is up again. Clients have no more
    /// than half of the connections, and none that mail of the queue waits for; what finds none free goes to the queue.
    pub(super) fn enter_at_once(self: &Arc<Self>, upstream: &Arc<Upstream>) -> Option<Slot> {
        self.with(&upstream.name, |place, now| {
            let answers = place.unanswered == 0 && !place.kept_a_client_waiting;
            let is_up = answers && place.health.clone().permit(now) == Permit::Go;
            let most = limit(&place.upstream).div_ceil(2);
            if place.gone || !is_up || place.waiting > 0 || place.through >= most {
                return None;
            }
            place.gate.try_acquire().ok()?.forget();
            place.busy = place.busy.saturating_add(1);
            place.through = place.through.saturating_add(1);
            let mut slot = place.slot(self, now);
            slot.whose = Whose::OfAClient;
            Some(slot)
        })?
    }

    /// Whether the settings of a connection are still those of now.
    pub(super) fn is_current(&self, slot: &Slot) -> bool {
        self.with(&slot.upstream.name, |place, _| !place.gone && Arc::ptr_eq(&place.upstream, &slot.upstream))
            == Some(true)
    }

    /// Notes what an upstream offers.
    pub(super) fn learn(&self, upstream: &Arc<Upstream>, offered: &Offered) {
        self.with(&upstream.name, |place, now| {
            if Arc::ptr_eq(&place.upstream, upstream) {
                place.offered = Some((offered.clone(), now.mono));
            }
        });
    }

    /// Whether an upstream is known not to offer this, by what it said lately.
    pub(super) fn lacks(&self, upstream: &Upstream, what: Extension) -> bool {
        let lacks = self.with(&upstream.name, |place, now| {
            let known = place.offered.as_ref().filter(|(_, at)| now.mono.since(*at) < KNOWN_FOR);
            known.is_some_and(|(offered, _)| !offered.has(what))
        });
        lacks == Some(true)
    }

    /// Whether an upstream may be tried now. `probe`: the right to probe that was given before.
    pub(super) fn way(self: &Arc<Self>, upstream: &Arc<Upstream>, probe: &mut Option<Probe>) -> Way {
        // A right to probe other settings says nothing of these: it goes back.
        let given = probe.take_if(|given| given.upstream.name == upstream.name);
        if let Some(given) = given.filter(|given| Arc::ptr_eq(&given.upstream, upstream)) {
            return Way::Probe(given);
        }
        let permitted = self.with(&upstream.name, |place, now| (place.health.permit(now), Arc::clone(&place.upstream)));
        match permitted {
            None | Some((Permit::Go, _)) => Way::Clear,
            Some((Permit::Probe, upstream)) => Way::Probe(Probe { places: Arc::clone(self), upstream }),
            Some((Permit::LeaveAlone(wait), _)) => Way::LeftAlone(wait, self.last_fault(&upstream.name)),
        }
    }

    /// How long an upstream is left alone still, and why; none when it may be tried, if only as a probe. Changes nothing.
    pub(super) fn left_alone(&self, upstream: &Upstream) -> Option<(Duration, Option<Box<UpstreamFault>>)> {
        let condition = self.with(&upstream.name, |place, now| place.health.clone().permit(now))?;
        match condition {
            Permit::Go | Permit::Probe => None,
            Permit::LeaveAlone(wait) => Some((wait, self.last_fault(&upstream.name))),
        }
    }

    /// Whether any of these may be tried. Changes nothing.
    pub(super) fn outlook<'a>(&self, upstreams: impl Iterator<Item = &'a Arc<Upstream>>) -> Outlook {
        self.lock().outlook(upstreams, self.clock.now()).0
    }

    /// The right to probe one of these, when that is all there is: none where one is up, or somebody else probes by now.
    pub(super) fn probe<'a>(self: &Arc<Self>, upstreams: impl Iterator<Item = &'a Arc<Upstream>>) -> Option<Probe> {
        let now = self.clock.now();
        let mut roll = self.lock();
        let (Outlook::Due, Some(upstream)) = roll.outlook(upstreams, now) else { return None };
        let place = roll.places.get_mut(&upstream.name)?;
        place.health.permit(now);
        Some(Probe { places: Arc::clone(self), upstream: Arc::clone(&place.upstream) })
    }

    /// What an attempt found; gives the condition that it leads to, where that is another. Of settings that are no more, nothing is noted.
    pub(super) fn report(
        &self,
        upstream: &Arc<Upstream>,
        fault: Option<&UpstreamFault>,
        of: Option<&str>,
        by: Finder,
        begun: MonoTime,
    ) -> Option<Condition> {
        let jitter = self.entropy.next_u64();
        self.found(upstream, |health, now| health.report(Found { fault, of }, by, begun, now, jitter))
    }

    fn found(&self, upstream: &Arc<Upstream>, found: impl FnOnce(&mut Health, Now)) -> Option<Condition> {
        let changed = self.with(&upstream.name, |place, now| {
            if !Arc::ptr_eq(&place.upstream, upstream) {
                return None;
            }
            let before = place.health.condition(now);
            found(&mut place.health, now);
            let after = place.health.condition(now);
            (std::mem::discriminant(&before) != std::mem::discriminant(&after)).then_some(after)
        });
        let changed = changed.flatten();
        if changed.is_some() {
            self.news.send_replace(());
        }
        changed
    }

    /// Notes whether an attempt's message was refused; gives the reply when that speaks of us.
    pub(super) fn refused(
        &self,
        upstream: &Arc<Upstream>,
        body: &impl MessageBody,
        attempt: &Attempt,
    ) -> Option<Alike> {
        let noted = self.with(&upstream.name, |place, now| {
            if !Arc::ptr_eq(&place.upstream, upstream) {
                return None;
            }
            let alike = place.refusals.note(&body.name(), body.identity(), attempt, now.mono);
            if alike.is_some() {
                place.distrusted = Some(now.mono);
            }
            place.end_untrusted();
            if !place.leaving.is_empty() {
                self.leaving.notify_one();
            }
            alike
        });
        noted.flatten()
    }

    /// Notes whether anything of an attempt's message was taken; gives what an operator is to be told of that.
    pub(super) fn drought(&self, upstream: &Arc<Upstream>, attempt: &Attempt) -> Option<Word> {
        let noted = self.with(&upstream.name, |place, now| {
            if !Arc::ptr_eq(&place.upstream, upstream) {
                return None;
            }
            if attempt.outcomes.iter().any(|(_, outcome)| matches!(outcome, Outcome::Delivered { .. })) {
                place.alarms.over();
            }
            place.drought.note(attempt, now)
        });
        noted.flatten()
    }

    /// Whether messages wait for a connection to this one.
    pub(super) fn has_waiting(&self, upstream: &Upstream) -> bool {
        self.with(&upstream.name, |place, _| place.waiting > 0) == Some(true)
    }

    /// An operator wants these probed now: also attempts that hang before a message are begun anew.
    pub(super) fn probe_now<'a>(&self, upstreams: impl Iterator<Item = &'a Arc<Upstream>>) {
        for upstream in upstreams {
            self.with(&upstream.name, |place, now| {
                // What was mended counts for new sessions, often for those alone.
                if place.refusals.are_alike() {
                    place.end_all();
                }
                place.health.probe_now(now);
                place.anew.send_replace(());
            });
        }
        self.leaving.notify_one();
        self.news.send_replace(());
    }

    /// Nothing was heard for a while: how many attempts in a row that makes.
    pub(super) fn unanswered(&self, upstream: &Upstream) -> u32 {
        let row = self.with(&upstream.name, |place, _| {
            place.unanswered = place.unanswered.saturating_add(1);
            place.unanswered
        });
        row.unwrap_or(1)
    }

    /// A client waited in vain, for less than what makes an attempt without an answer.
    pub(super) fn kept_a_client_waiting(&self, upstream: &Upstream) {
        self.with(&upstream.name, |place, _| place.kept_a_client_waiting = true);
    }

    /// How an operator is told of this.
    pub(super) fn voice(&self, upstream: &str, cause: Cause) -> Voice {
        self.with(upstream, |place, now| place.alarms.voice(cause, now.mono)).unwrap_or(Voice::Alarm)
    }

    /// An attempt ended in which the upstream always answered.
    pub(super) fn answered(&self, upstream: &Upstream) {
        self.with(&upstream.name, |place, _| (place.unanswered, place.kept_a_client_waiting) = (0, false));
    }

    fn last_fault(&self, name: &str) -> Option<Box<UpstreamFault>> {
        self.with(name, |place, _| place.health.last_fault().map(|(fault, _)| Box::new(fault.clone()))).flatten()
    }

    // Connections.

    /// An idle connection, which is the caller's from now on.
    pub(super) fn take_idle(&self, slot: &Slot) -> Option<Connection> {
        self.with(&slot.upstream.name, |place, _| {
            Arc::ptr_eq(&place.upstream, &slot.upstream).then(|| place.idle.pop()).flatten()
        })
        .flatten()
    }

    /// Keeps a connection for the next message, or has it ended when its settings are no more.
    pub(super) fn keep(&self, mut connection: Connection) {
        let name = connection.upstream().name.clone();
        let ends = self.with(&name, |place, now| {
            connection.idle_since = now.mono;
            let is_current = !place.gone && Arc::ptr_eq(&place.upstream, connection.upstream());
            let is_kept = is_current && place.trusts(&connection) && !connection.is_spent();
            if is_kept {
                place.idle.push(connection)
            } else {
                place.end(connection)
            }
            !is_kept
        });
        if ends == Some(true) {
            self.leaving.notify_one();
        }
    }

    /// Idle connections that are to be ended, with the places that they take until then.
    pub(super) fn take_leaving(self: &Arc<Self>, which: impl Fn(&Connection, Now) -> bool) -> Vec<(Connection, Slot)> {
        let now = self.clock.now();
        let mut taken = Vec::new();
        for place in self.lock().places.values_mut() {
            let idle: Vec<Connection> = place.idle.extract_if(.., |one| which(one, now)).collect();
            for connection in idle {
                place.end(connection);
            }
            let leaving = std::mem::take(&mut place.leaving);
            taken.extend(leaving.into_iter().map(|connection| (connection, place.slot(self, now))));
        }
        taken
    }

    /// How all stand, by name.
    pub(super) fn standings(&self) -> Vec<Standing> {
        let now = self.clock.now();
        let mut all: Vec<Standing> = self.lock().places.values().map(|place| place.standing(now)).collect();
        all.sort_by(|one, other| one.upstream.cmp(&other.upstream));
        all
    }

    fn lock(&self) -> MutexGuard<'_, Roll> {
        self.roll.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, name: &str, what: impl FnOnce(&mut Place, Now) -> T) -> Option<T> {
        let now = self.clock.now();
        self.lock().places.get_mut(name).map(|place| what(place, now))
    }
}

impl Roll {
    /// Whether any of these may be tried, and which is due for a probe.
    fn outlook<'a>(
        &self,
        upstreams: impl Iterator<Item = &'a Arc<Upstream>>,
        now: Now,
    ) -> (Outlook, Option<&'a Arc<Upstream>>) {
        let (mut least, mut due) = (None, None);
        for upstream in upstreams {
            let Some(place) = self.places.get(&upstream.name).filter(|place| !place.gone) else {
                return (Outlook::Clear, None);
            };
            match place.health.clone().permit(now) {
                Permit::Go => return (Outlook::Clear, None),
                Permit::Probe => due = due.or(Some(upstream)),
                Permit::LeaveAlone(wait) => least = Some(least.map_or(wait, |known: Duration| known.min(wait))),
            }
        }
        let outlook = if due.is_some() { Outlook::Due } else { least.map_or(Outlook::Clear, Outlook::LeftAlone) };
        (outlook, due)
    }

    /// The settings of an upstream are these now.
    fn follow(&mut self, upstream: &Arc<Upstream>) {
        match self.places.get_mut(&upstream.name) {
            Some(place) => place.follow(upstream),
            None => drop(self.places.insert(upstream.name.clone(), Place::new(upstream))),
        }
    }

    fn forget_gone(&mut self) {
        self.places.retain(|_, place| !place.gone || place.busy > 0 || place.waiting > 0);
    }
}

impl Place {
    fn new(upstream: &Arc<Upstream>) -> Self {
        Self {
            upstream: Arc::clone(upstream),
            gone: false,
            gate: Arc::new(Semaphore::new(limit(upstream))),
            busy: 0,
            owed: 0,
            waiting: 0,
            through: 0,
            idle: Vec::new(),
            leaving: Vec::new(),
            health: Health::default(),
            refusals: Refusals::default(),
            drought: Drought::default(),
            distrusted: None,
            alarms: Alarms::default(),
            unanswered: 0,
            kept_a_client_waiting: false,
            offered: None,
            anew: watch::Sender::new(()),
        }
    }

    /// The right to a connection that is counted already.
    fn slot(&self, places: &Arc<Places>, now: Now) -> Slot {
        let (upstream, anew) = (Arc::clone(&self.upstream), self.anew.subscribe());
        Slot { places: Arc::clone(places), whose: Whose::OfTheQueue, upstream, begun: now.mono, anew }
    }

    /// New settings: a clean sheet, since what was wrong may be what was mended. The same settings, by value, change nothing.
    fn follow(&mut self, upstream: &Arc<Upstream>) {
        if self.gone {
            let limit = limit(upstream);
            self.gate = Arc::new(Semaphore::new(limit.saturating_sub(self.busy)));
            self.owed = self.busy.saturating_sub(limit);
            self.gone = false;
        } else if *self.upstream == **upstream {
            return;
        } else {
            self.end_all();
            self.resize(limit(&self.upstream), limit(upstream));
        }
        self.anew.send_replace(());
        self.upstream = Arc::clone(upstream);
        (self.health, self.refusals, self.unanswered) = (Health::default(), Refusals::default(), 0);
        (self.drought, self.alarms, self.distrusted) = (Drought::default(), Alarms::default(), None);
        self.kept_a_client_waiting = false;
        self.offered = None;
    }

    fn go(&mut self) {
        self.gone = true;
        self.anew.send_replace(());
        self.gate.close();
        self.end_all();
    }

    fn resize(&mut self, old: usize, new: usize) {
        if let Some(more) = new.checked_sub(old) {
            let paid = self.owed.min(more);
            self.owed = self.owed.saturating_sub(paid);
            self.gate.add_permits(more.saturating_sub(paid));
        } else {
            let fewer = old.saturating_sub(new);
            let taken = self.gate.forget_permits(fewer);
            self.owed = self.owed.saturating_add(fewer.saturating_sub(taken));
        }
    }

    /// Whether a session may be gone back to. A server often goes on in it as it was when the session began: those from before it was put right would have
    /// good mail refused.
    fn trusts(&self, connection: &Connection) -> bool {
        let opened = connection.opened();
        let is_old = self.distrusted.is_some_and(|at| at.since(opened) >= NEW_ENOUGH);
        !is_old && self.refusals.trusts(opened)
    }

    fn end_untrusted(&mut self) {
        if self.idle.iter().all(|connection| self.trusts(connection)) {
            return;
        }
        for connection in std::mem::take(&mut self.idle) {
            if self.trusts(&connection) {
                self.idle.push(connection);
            } else {
                self.end(connection);
            }
        }
    }

    fn end_all(&mut self) {
        for connection in std::mem::take(&mut self.idle) {
            self.end(connection);
        }
    }

    /// Until it has been ended, it counts as busy.
    fn end(&mut self, connection: Connection) {
        self.busy = self.busy.saturating_add(1);
        match self.gate.try_acquire() {
            Ok(permit) => permit.forget(),
            Err(_) => self.owed = self.owed.saturating_add(1),
        }
        self.leaving.push(connection);
    }

    fn give_back(&mut self) {
        self.busy = self.busy.saturating_sub(1);
        match self.owed.checked_sub(1) {
            Some(owed) => self.owed = owed,
            None => self.gate.add_permits(1),
        }
    }

    fn standing(&self, now: Now) -> Standing {
        Standing {
            upstream: self.upstream.name.clone(),
            condition: self.health.condition(now),
            failures: self.health.failures(),
            last_fault: self.health.last_fault().cloned(),
            unanswered: self.unanswered,
            dry_since: self.drought.since(),
            idle: self.idle.len(),
            busy: self.busy,
            limit: limit(&self.upstream),
            waiting: self.waiting,
        }
    }
}

fn limit(upstream: &Upstream) -> usize {
    upstream.connections.max(1)
}

#[cfg(test)]
mod tests;
