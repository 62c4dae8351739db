//! What a store ought to hold and to answer, in the simplest words.

use std::collections::{BTreeMap, BTreeSet};

use super::super::*;
use super::{IDENTITIES, LEASE, PER_IDENTITY};
use crate::queue::record::Recheck;
use crate::queue::seen::{Mark, Marked, Row, Seen, Sighting};
use crate::queue::store::Ticket;
use crate::sys::{MonoTime, Now};

/// Messages per hour of the one who has a limit.
pub(super) const LIMIT: u32 = 3;
const WINDOW: Duration = Duration::from_secs(3600);
/// What was spent may count for so long besides.
const GRAIN: Duration = Duration::from_secs(60);
/// How often another identity may come before one that waits, once it waits.
const TURNS: u32 = 2;

/// What an order is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    Done,
    NoSuch(QueueId),
    /// It is here already, or was brought here before.
    Known(QueueId),
    /// The ticket counts for nothing any more; or its message is gone, which may be told instead.
    Lapsed(QueueId),
}

impl Expected {
    pub(super) fn fits(self, said: &Result<(), QueueError>) -> bool {
        match self {
            Self::Done => said.is_ok(),
            Self::NoSuch(id) => *said == Err(QueueError::NotFound(id)),
            Self::Known(id) => *said == Err(QueueError::Known(id)),
            Self::Lapsed(id) => *said == Err(QueueError::Fenced(id)) || *said == Err(QueueError::NotFound(id)),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Trying,
    Over,
    PutOff,
}

#[derive(Clone, Debug)]
struct Held {
    /// Whose limit it counts against, also when the message is gone and nobody was told.
    whose: String,
    fence: u64,
    until: MonoTime,
    phase: Phase,
    /// Whether somebody has what came of it: then it does not run out.
    in_hand: bool,
}

impl Held {
    fn lasts(&self, now: Now) -> bool {
        self.in_hand || self.until > now.mono
    }
}

#[derive(Clone, Debug)]
struct Message {
    record: Record,
    body: Vec<u8>,
    /// The earliest time at which it ever was due: one that was made due later may still come in its old place.
    first_due: WallTime,
}

/// Whether something was accepted, for the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spent {
    UnderWay,
    Surely,
    Perhaps,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    messages: BTreeMap<QueueId, Message>,
    held: BTreeMap<QueueId, Held>,
    /// Those that were given out in this life and not used up.
    tickets: Vec<Ticket>,
    last_fence: u64,
    /// Exports that were settled.
    settled: BTreeSet<QueueId>,
    /// Exports that have begun, in their order.
    begun: Vec<QueueId>,
    /// Messages of which an import was told that they are here, and how many exports had begun then.
    pledged: BTreeMap<QueueId, usize>,
    /// Exports, and the places of their messages that are here, or were.
    adopted: BTreeSet<(QueueId, u64)>,
    seen: BTreeMap<(String, [u8; 32]), Row>,
    spent: Vec<(MonoTime, Spent)>,
    /// The wall clock was set: what the ledger knows after a restart is not known here. Its time begins when it is first used.
    clock_was_set: bool,
    ledger_has_begun: bool,
    ledger_is_lost: bool,
    /// How often each identity came while another waited.
    passed_over: BTreeMap<(String, String), u32>,
}

impl Model {
    pub(super) fn ids(&self) -> Vec<QueueId> {
        self.messages.keys().copied().collect()
    }

    pub(super) fn record(&self, id: QueueId) -> Option<&Record> {
        self.messages.get(&id).map(|message| &message.record)
    }

    pub(super) fn body(&self, id: QueueId) -> &[u8] {
        &self.messages[&id].body
    }

    // --- Claims.

    /// A ticket that was given out: one whose lease runs, or one that somebody else's has replaced. Between the two a store may say either.
    pub(super) fn ticket(&self, which: usize, now: Now) -> Option<Ticket> {
        let sure = |ticket: &&Ticket| self.of(**ticket).is_none_or(|held| held.lasts(now));
        let sure: Vec<_> = self.tickets.iter().filter(sure).copied().collect();
        sure.get(which % sure.len().max(1)).copied()
    }

    /// One whose lease runs.
    pub(super) fn live(&self, which: usize, now: Now) -> Option<Ticket> {
        let live =
            |ticket: &&Ticket| self.of(**ticket).is_some_and(|held| held.phase == Phase::Trying && held.lasts(now));
        let live: Vec<_> = self.tickets.iter().filter(live).copied().collect();
        live.get(which % live.len().max(1)).copied()
    }

    fn of(&self, ticket: Ticket) -> Option<&Held> {
        self.held.get(&ticket.id).filter(|held| held.fence == ticket.fence)
    }

    fn is_free(&self, id: QueueId, now: Now) -> bool {
        self.held.get(&id).is_none_or(|held| !held.lasts(now))
    }

    /// Whether nobody tries it: who comes out of turn may have what is put off, too.
    fn is_untried(&self, id: QueueId, now: Now) -> bool {
        self.is_free(id, now) || self.held.get(&id).is_some_and(|held| held.phase == Phase::PutOff)
    }

    fn under_way(&self, identity: &str, now: Now) -> usize {
        let counts = |held: &&Held| held.phase == Phase::Trying && held.lasts(now) && held.whose == identity;
        self.held.values().filter(counts).count()
    }

    /// What may be given out of one identity, in its order.
    fn waiting(&self, identity: &str, now: Now) -> Vec<QueueId> {
        if self.under_way(identity, now) >= PER_IDENTITY {
            return Vec::new();
        }
        let ready = |record: &&Record| {
            record.custodian.identity == identity
                && record.state == State::Queued
                && record.due <= now.wall
                && self.is_free(record.id, now)
        };
        let mut ready: Vec<_> = self.messages.values().map(|message| &message.record).filter(ready).collect();
        ready.sort_by_key(|record| (-record.envelope.parameters().priority.unwrap_or(0), record.due, record.id));
        ready.into_iter().map(|record| record.id).collect()
    }

    pub(super) fn claimed(&mut self, ticket: Ticket, record: &Record, now: Now) -> Result<(), String> {
        let identity = &record.custodian.identity;
        let waiting = self.waiting(identity, now);
        let place = |id: &QueueId, due: fn(&Message) -> WallTime| {
            let message = self.messages.get(id)?;
            Some((-message.record.envelope.parameters().priority.unwrap_or(0), due(message), *id))
        };
        let its_own = place(&ticket.id, |message| message.first_due);
        let first = waiting.first().and_then(|first| place(first, |message| message.record.due));
        if !waiting.contains(&ticket.id) || its_own > first {
            return Err(format!("{} was given out, of {identity} there wait {waiting:?}", ticket.id));
        }
        for other in IDENTITIES.iter().filter(|other| *other != identity) {
            if !self.waiting(other, now).is_empty() {
                let count = self.passed_over.entry(((*other).to_owned(), identity.clone())).or_default();
                *count += 1;
                if *count > TURNS {
                    return Err(format!("{identity} was served {count} times while {other} waited"));
                }
            }
        }
        self.passed_over.retain(|(waiting, _), _| waiting != identity);
        self.give_out(ticket, record, now)
    }

    pub(super) fn claimed_out_of_turn(&mut self, ticket: Ticket, record: &Record, now: Now) -> Result<(), String> {
        if !self.is_untried(ticket.id, now) {
            return Err(format!("{} was given out, and somebody has it", ticket.id));
        }
        self.give_out(ticket, record, now)
    }

    fn give_out(&mut self, ticket: Ticket, record: &Record, now: Now) -> Result<(), String> {
        if self.record(ticket.id) != Some(record) {
            return Err(format!("given out was {record:?}, expected {:?}", self.record(ticket.id)));
        }
        if ticket.fence <= self.last_fence {
            return Err(format!("the fencing number {} is not above {}", ticket.fence, self.last_fence));
        }
        self.last_fence = ticket.fence;
        let whose = record.custodian.identity.clone();
        let until = now.mono.after(LEASE);
        let held = Held { whose, fence: ticket.fence, until, phase: Phase::Trying, in_hand: false };
        self.held.insert(ticket.id, held);
        self.tickets.push(ticket);
        Ok(())
    }

    /// Nothing was given out; the next is to be looked for after `wait`.
    pub(super) fn nothing(&self, wait: Option<Duration>, now: Now) -> Result<(), String> {
        let mut soonest = None;
        for identity in IDENTITIES {
            let waiting = self.waiting(identity, now);
            if !waiting.is_empty() {
                return Err(format!("nothing was given out, of {identity} there wait {waiting:?}"));
            }
            let queued = |message: &&Message| {
                message.record.state == State::Queued && message.record.custodian.identity == identity
            };
            let full = self.under_way(identity, now) >= PER_IDENTITY;
            for Message { record, .. } in self.messages.values().filter(queued) {
                let due = (record.due > now.wall && !full).then(|| record.due.since(now.wall));
                let held = self.held.get(&record.id).filter(|held| held.until > now.mono && record.due <= now.wall);
                let free = held.filter(|held| !held.in_hand).map(|held| held.until.since(now.mono));
                soonest = due.into_iter().chain(free).chain(soonest).min();
            }
        }
        match (soonest, wait) {
            (Some(soonest), Some(wait)) if wait <= soonest => Ok(()),
            (None, _) => Ok(()),
            (Some(soonest), wait) => Err(format!("something is there in {soonest:?}, to be looked for in {wait:?}")),
        }
    }

    pub(super) fn renew(&mut self, ticket: Ticket, now: Now) -> Result<(), QueueError> {
        let held = self.held.get_mut(&ticket.id).filter(|held| held.fence == ticket.fence);
        let held = held.ok_or(QueueError::Fenced(ticket.id))?;
        held.until = now.mono.after(LEASE);
        Ok(())
    }

    pub(super) fn over(&mut self, ticket: Ticket) {
        if let Some(held) = self.held.get_mut(&ticket.id).filter(|held| held.fence == ticket.fence) {
            (held.phase, held.in_hand) = (Phase::Over, true);
        }
    }

    pub(super) fn lay_down(&mut self, ticket: Ticket) {
        if let Some(held) = self.held.get_mut(&ticket.id).filter(|held| held.fence == ticket.fence) {
            held.in_hand = false;
        }
    }

    pub(super) fn put_off(&mut self, ticket: Ticket, until: MonoTime) {
        if let Some(held) = self.held.get_mut(&ticket.id).filter(|held| held.fence == ticket.fence) {
            (held.until, held.phase) = (until, Phase::PutOff);
        }
        self.tickets.retain(|one| *one != ticket);
    }

    pub(super) fn give_back(&mut self, ticket: Ticket) {
        self.held.remove(&ticket.id);
        self.tickets.retain(|one| *one != ticket);
    }

    pub(super) fn recall(&mut self) {
        self.held.retain(|_, held| held.phase != Phase::PutOff);
    }

    fn recall_one(&mut self, id: QueueId) {
        if self.held.get(&id).is_some_and(|held| held.phase == Phase::PutOff) {
            self.held.remove(&id);
        }
    }

    /// Whether somebody is at it, as far as is known.
    pub(super) fn is_tried(&self, id: QueueId, now: Now) -> bool {
        !self.is_untried(id, now)
    }

    pub(super) fn has_begun(&self, export: QueueId) -> bool {
        self.begun.contains(&export)
    }

    pub(super) fn is_settled(&self, export: QueueId) -> bool {
        self.settled.contains(&export)
    }

    pub(super) fn has_adopted(&self, export: QueueId, place: u64) -> bool {
        self.adopted.contains(&(export, place))
    }

    /// Whether it is given out to whoever names it.
    pub(super) fn may_be_named(&self, id: QueueId, now: Now) -> bool {
        let ready = |record: &Record| record.state == State::Queued && record.due <= now.wall;
        self.is_untried(id, now) && self.record(id).is_some_and(ready)
    }

    pub(super) fn late(&self, late: Late, now: Now) -> BTreeSet<QueueId> {
        let concerns = |record: &&Record| {
            let since = record.released.unwrap_or(record.trace.arrived);
            // What its sender asked to be held for is nobody's delay (RFC 4865 §4).
            let since = record.envelope.parameters().hold_until.map_or(since, |until| until.max(since));
            let warn = !record.warned && late.warn.is_some_and(|limit| since <= limit);
            // A clock that was set back makes a release come before the arrival: then it is told of when both are long ago.
            let came = record.id.arrived();
            let came = came <= late.give_up || late.warn.is_some_and(|limit| came <= limit);
            record.state == State::Queued
                && record.due <= now.wall
                && self.is_untried(record.id, now)
                && came
                && (since <= late.give_up || warn)
        };
        self.messages.values().map(|message| &message.record).filter(concerns).map(|record| record.id).collect()
    }

    // --- Changes.

    pub(super) fn obey(&mut self, order: &Order, body: &[u8], now: Now) -> Expected {
        match order {
            Order::Deposit(message) => self.keep(message, body),
            Order::Conclude { ticket, outcomes, next, warned, report } => {
                let concluded = self.conclude(*ticket, |record| {
                    outcomes.iter().for_each(|tried| note(record, tried, now.wall));
                    record.attempts += u32::from(!outcomes.is_empty());
                    record.warned |= warned;
                    match next {
                        Next::Finished => return false,
                        Next::Retry(at) => record.due = *at,
                        Next::Dead(reason) => set_aside(record, reason),
                        Next::Held(reason) => {
                            record.state = State::Held;
                            record.held_by = Some(HeldBy::Recheck);
                            record.reason = Some(reason.clone());
                        }
                    }
                    true
                });
                if concluded == Expected::Done
                    && let Some(report) = report
                {
                    self.keep(report, body);
                }
                concluded
            }
            Order::Note { ticket, outcomes, report } => {
                let holds = self.of(*ticket).is_some() && self.tickets.contains(ticket);
                let Some(message) = self.messages.get_mut(&ticket.id).filter(|_| holds) else {
                    return Expected::Lapsed(ticket.id);
                };
                let taken = |one: &&Tried| matches!(one.outcome, Outcome::Delivered { .. });
                let is_news =
                    outcomes.iter().filter(taken).any(|one| !has_it(&message.record.recipients[one.recipient]));
                if is_news {
                    outcomes.iter().filter(taken).for_each(|tried| note(&mut message.record, tried, now.wall));
                }
                for tried in outcomes.iter().filter(|one| !taken(one)) {
                    let one = &mut message.record.recipients[tried.recipient];
                    if one.open {
                        (one.last, one.undetermined) = (Some(tried.outcome.clone()), true);
                        one.last_attempt = Some((now.wall, tried.upstream.clone()));
                    }
                }
                let report = report.as_ref().filter(|_| is_news);
                report.map_or(Expected::Done, |report| self.keep(report, body))
            }
            Order::SetAside { ticket, reason } => self.conclude(*ticket, |record| {
                set_aside(record, reason);
                true
            }),
            Order::Retry(id) => {
                self.recall_one(*id);
                self.change(*id, |record| retry(record, now.wall))
            }
            Order::Release(id) => {
                self.recall_one(*id);
                self.change(*id, |record| {
                    if record.state == State::Held {
                        retry(record, now.wall);
                        // Not before its sender asked for it to go (RFC 4865 §4).
                        let asked = record.envelope.parameters().hold_until;
                        record.due = asked.map_or(now.wall, |until| until.max(now.wall));
                    }
                })
            }
            Order::Wake(id) => {
                self.recall_one(*id);
                self.change(*id, |record| {
                    if record.state == State::Queued && record.due > now.wall {
                        record.due = now.wall;
                    }
                })
            }
            Order::Hold(id) => self.change(*id, |record| {
                if record.state == State::Queued {
                    (record.state, record.held_by, record.reason) = (State::Held, Some(HeldBy::Operator), None);
                }
            }),
            Order::Remove(id) => self.remove(*id),
            Order::TakeOut(id, places) => self.take_out(*id, places),
            Order::BeginExport(export) => {
                if !self.begun.contains(export) {
                    self.begun.push(*export);
                }
                Expected::Done
            }
            Order::Leave { id, export } => {
                let began = self.begun.iter().position(|one| one == export).map_or(0, |before| before + 1);
                match self.pledged.get(id) {
                    Some(pledged) if *pledged >= began && self.messages.contains_key(id) => Expected::Known(*id),
                    Some(_) | None => self.remove(*id),
                }
            }
            Order::Settle(export) => {
                self.settled.insert(*export);
                Expected::Done
            }
            // Once, however often it is brought, and by however many exports.
            Order::Adopt(adopted) => {
                let (id, place) = (adopted.message.record.id, (adopted.export, adopted.place));
                if self.adopted.contains(&place) {
                    return Expected::Known(id);
                }
                match self.present(id, place) {
                    Expected::NoSuch(_) => {
                        self.adopted.insert(place);
                        self.pledged.insert(id, self.begun.len());
                        self.keep(&adopted.message, body)
                    }
                    present @ (Expected::Done | Expected::Known(_) | Expected::Lapsed(_)) => present,
                }
            }
            Order::Present { id, export, place } => self.present(*id, (*export, *place)),
            // What it spends was noted when it was granted.
            Order::Charge(_) => Expected::Done,
            Order::See(sighting) => self.see(sighting),
            Order::Mark(marks) => {
                marks.iter().for_each(|mark| self.mark(mark));
                Expected::Done
            }
            Order::Mend => Expected::Done,
        }
    }

    /// The same, but for what was to be kept: its client heard that it is not. What is adopted is brought again instead, and may be here.
    pub(super) fn obey_but_keep_nothing(&mut self, order: &Order, body: &[u8], now: Now) {
        self.obey(order, body, now);
        if let Order::Deposit(message) = order {
            self.messages.remove(&message.record.id);
        }
    }

    /// It is here, or has been brought here before and was concluded.
    fn present(&mut self, id: QueueId, place: (QueueId, u64)) -> Expected {
        if self.messages.contains_key(&id) {
            self.pledged.insert(id, self.begun.len());
        } else if !self.pledged.contains_key(&id) {
            return Expected::NoSuch(id);
        }
        self.adopted.insert(place);
        Expected::Known(id)
    }

    fn remove(&mut self, id: QueueId) -> Expected {
        if self.messages.remove(&id).is_none() {
            return Expected::NoSuch(id);
        }
        self.held.remove(&id);
        self.pledged.remove(&id);
        Expected::Done
    }

    /// Whoever does not have it is not to have it; with nobody left it is gone.
    fn take_out(&mut self, id: QueueId, places: &[usize]) -> Expected {
        let Some(message) = self.messages.get_mut(&id) else { return Expected::NoSuch(id) };
        for place in places {
            if let Some(one) = message.record.recipients.get_mut(*place).filter(|one| !has_it(one)) {
                (one.open, one.last) = (false, Some(taken_out()));
            }
        }
        let dead = message.record.state == State::Dead;
        let waits = |one: &RecipientState| if dead { !has_it(one) && !is_taken_out(one) } else { one.open };
        if !message.record.recipients.iter().any(waits) {
            if !message.record.recipients.iter().any(has_it) {
                self.pledged.remove(&id);
            }
            self.messages.remove(&id);
            self.held.remove(&id);
        }
        Expected::Done
    }

    fn keep(&mut self, message: &NewMessage, body: &[u8]) -> Expected {
        let record = message.record.clone();
        let first_due = record.due;
        self.messages.insert(record.id, Message { record, body: body.to_vec(), first_due });
        message.sighting.as_ref().map_or(Expected::Done, |sighting| self.see(sighting))
    }

    fn change(&mut self, id: QueueId, change: impl FnOnce(&mut Record)) -> Expected {
        let Some(message) = self.messages.get_mut(&id) else { return Expected::NoSuch(id) };
        change(&mut message.record);
        message.first_due = message.first_due.min(message.record.due);
        Expected::Done
    }

    /// `change` says whether the message stays.
    fn conclude(&mut self, ticket: Ticket, change: impl FnOnce(&mut Record) -> bool) -> Expected {
        let holds = self.of(ticket).is_some() && self.tickets.contains(&ticket);
        let Some(message) = self.messages.get_mut(&ticket.id).filter(|_| holds) else {
            return Expected::Lapsed(ticket.id);
        };
        if change(&mut message.record) {
            message.first_due = message.first_due.min(message.record.due);
        } else {
            self.messages.remove(&ticket.id);
        }
        self.held.remove(&ticket.id);
        self.tickets.retain(|one| *one != ticket);
        Expected::Done
    }

    /// A transaction with these tickets failed, `before` which claims were so, and in which `asked` was granted. What is known of claims does not
    /// depend on what reached the disk: they last until their leases run out, and these attempts are over.
    pub(super) fn failed(&mut self, tickets: &[Ticket], before: &Self, asked: &Self) {
        self.held.clone_from(&before.held);
        self.tickets.clone_from(&before.tickets);
        for ticket in tickets {
            self.over(*ticket);
            self.lay_down(*ticket);
        }
        self.tickets.retain(|ticket| !tickets.contains(ticket));
        self.spent.clone_from(&asked.spent);
        for (_, spent) in &mut self.spent {
            if *spent == Spent::UnderWay {
                *spent = Spent::Perhaps;
            }
        }
        self.recall();
        self.passed_over.clear();
    }

    /// What was under way is kept.
    pub(super) fn settle(&mut self, now: Now) {
        self.ledger_has_begun = true;
        for (at, spent) in &mut self.spent {
            if *spent == Spent::UnderWay {
                (*at, *spent) = (now.mono, Spent::Surely);
            }
        }
    }

    /// The process began anew.
    pub(super) fn restarted(&mut self) {
        self.held.clear();
        self.tickets.clear();
        self.last_fence = 0;
        self.passed_over.clear();
        if self.clock_was_set {
            self.ledger_is_lost = true;
        }
        self.ledger_has_begun = false;
    }

    pub(super) fn wall_was_set(&mut self) {
        self.clock_was_set = true;
        self.ledger_is_lost |= !self.ledger_has_begun && !self.spent.is_empty();
        self.passed_over.clear();
    }

    /// Who waits for nothing is passed over by nobody.
    pub(super) fn forget_fairness_of_the_idle(&mut self, now: Now) {
        for identity in IDENTITIES {
            if self.waiting(identity, now).is_empty() {
                self.passed_over.retain(|(waiting, _), _| waiting != identity);
            }
        }
    }

    // --- The ledger.

    pub(super) fn granted(&mut self, now: Now) -> Result<(), String> {
        let counts = |(at, spent): &&(MonoTime, Spent)| {
            *spent == Spent::UnderWay || (*spent == Spent::Surely && now.mono.since(*at) < WINDOW)
        };
        let count = self.spent.iter().filter(counts).count();
        self.ledger_has_begun = true;
        self.spent.push((now.mono, Spent::UnderWay));
        if count >= LIMIT as usize && !self.ledger_is_lost {
            return Err(format!("{count} were accepted within an hour, and one more is"));
        }
        Ok(())
    }

    pub(super) fn refused(&mut self, now: Now) -> Result<(), String> {
        self.ledger_has_begun = true;
        let counts = |(at, _): &&(MonoTime, Spent)| now.mono.since(*at) < WINDOW + GRAIN;
        if self.spent.iter().filter(counts).count() < LIMIT as usize && !self.ledger_is_lost {
            return Err("refused, and there is room".to_owned());
        }
        Ok(())
    }

    /// What was granted last was not used.
    pub(super) fn spent_in_vain(&mut self) {
        if self.spent.last().is_some_and(|(_, spent)| *spent == Spent::UnderWay) {
            self.spent.pop();
        }
    }

    // --- Certificates.

    fn see(&mut self, sighting: &Sighting) -> Expected {
        let key = (sighting.identity.clone(), sighting.fingerprint);
        let row = self.seen.entry(key).or_insert_with(|| Row {
            certificate: sighting.certificate.clone(),
            first: sighting.at,
            last: sighting.at,
            client: sighting.client.clone(),
            told: None,
        });
        let is_news = row.client != sighting.client || sighting.at.since(row.last) >= GRAIN || sighting.at < row.last;
        if is_news {
            (row.last, row.client) = (row.last.max(sighting.at), sighting.client.clone());
        }
        Expected::Done
    }

    fn mark(&mut self, mark: &Mark) {
        let key = (mark.identity.clone(), mark.fingerprint);
        match (mark.what, self.seen.get_mut(&key)) {
            (Marked::Forgotten, _) => drop(self.seen.remove(&key)),
            (Marked::Told(stage), Some(row)) => row.told = row.told.max(Some(stage)),
            (Marked::Told(_), None) => {}
        }
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        let seen = |((identity, fingerprint), row): (&(String, [u8; 32]), &Row)| Seen {
            identity: identity.clone(),
            fingerprint: *fingerprint,
            row: row.clone(),
        };
        self.seen.iter().map(seen).collect()
    }

    // --- Sums and lists.

    pub(super) fn is_listed(&self, state: Option<State>, found: &[Listed]) -> Result<(), String> {
        let records = self.messages.values().map(|message| message.record.clone());
        let wanted = records.filter(|record| state.is_none_or(|state| record.state == state));
        let expected: Vec<Listed> = wanted.map(|record| Listed::Message(Box::new(record))).collect();
        if found == expected { Ok(()) } else { Err(format!("listed {found:?}, expected {expected:?}")) }
    }

    pub(super) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for Message { record, body, .. } in self.messages.values() {
            let tally = totals.of(record.state);
            *tally = Tally { count: tally.count + 1, octets: tally.octets + body.len() as u64 };
            totals.records += written(record);
        }
        totals
    }

    pub(super) fn held_by(&self, identity: &str) -> Tally {
        let own = self.messages.values().filter(|message| message.record.custodian.identity == identity);
        own.fold(Tally::default(), |sum, one| Tally {
            count: sum.count + 1,
            octets: sum.octets + one.body.len() as u64 + written(&one.record),
        })
    }
}

/// Octets of a record as it is kept.
fn written(record: &Record) -> u64 {
    Queue::pack(record).unwrap().len() as u64
}

fn has_it(one: &RecipientState) -> bool {
    matches!(one.last, Some(Outcome::Delivered { .. }))
}

/// What is noted of whom an operator took out.
fn taken_out() -> Outcome {
    Outcome::Failed { reason: "removed by an operator".to_owned(), reply: None }
}

fn is_taken_out(one: &RecipientState) -> bool {
    !one.open && one.last == Some(taken_out())
}

fn note(record: &mut Record, tried: &Tried, at: WallTime) {
    let one = &mut record.recipients[tried.recipient];
    let delivered = matches!(tried.outcome, Outcome::Delivered { .. });
    // What an operator said while it was being tried stands, unless it has arrived; and that it has arrived stands.
    if has_it(one) || (!delivered && is_taken_out(one)) {
        return;
    }
    one.open = matches!(tried.outcome, Outcome::Deferred { .. });
    one.attempts += 1;
    one.last = Some(tried.outcome.clone());
    one.last_attempt = Some((at, tried.upstream.clone()));
    one.undetermined = !delivered
        && tried.certainty != Certainty::Answered
        && (one.undetermined || tried.certainty == Certainty::Undetermined);
}

fn set_aside(record: &mut Record, reason: &str) {
    (record.state, record.held_by, record.reason) = (State::Dead, None, Some(reason.to_owned()));
}

fn retry(record: &mut Record, now: WallTime) {
    if record.state == State::Dead {
        for one in &mut record.recipients {
            one.open = !has_it(one) && !is_taken_out(one);
        }
    }
    if record.state != State::Queued {
        record.released = Some(now);
    }
    if record.held_by == Some(HeldBy::Recheck) {
        record.recheck = Recheck::Waived;
    }
    (record.state, record.held_by, record.reason, record.due) = (State::Queued, None, None, now);
}
