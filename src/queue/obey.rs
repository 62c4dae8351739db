//! One transaction at work: each order of a batch becomes changes of the tables.
//!
//! An order that can't be obeyed changes nothing on the disk. Never: changes anything in memory that a failed transaction would have to take back, but for
//! the claims: those that are being concluded, which it is told of, and what was put off and is asked for now, which is anybody's, whatever becomes of the order.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::QueueError;
use super::accounts::Spending;
use super::claims::Claims;
use super::index::Change;
use super::record::{HeldBy, Outcome, Owed, RecipientState, Record, State};
use super::store::{Adopted, NewMessage, Next, Order, Ticket, Tried};
use super::tables::{DiskFault, Freed, Known, Tables};
use crate::mail::QueueId;
use crate::sys::{Now, WallTime};

/// What is to be done when a transaction is on the disk.
#[derive(Debug)]
pub(super) struct Aftermath {
    /// The ledger's time at which what these messages cost was noted.
    pub(super) charged_at: WallTime,
    /// Body files whose record is gone.
    pub(super) files: Vec<QueueId>,
    /// Messages that are no more.
    pub(super) gone: Vec<QueueId>,
    /// Messages that were found damaged meanwhile, and are set aside.
    pub(super) lost: Vec<(QueueId, String)>,
    /// Where messages stand now.
    pub(super) changes: Vec<Change>,
    /// What nobody names any more.
    pub(super) freed: Freed,
}

impl Aftermath {
    pub(super) fn new(charged_at: WallTime) -> Self {
        let (files, gone, lost, changes, freed) = <_>::default();
        Self { charged_at, files, gone, lost, changes, freed }
    }
}

/// An order could not be obeyed; which is nobody's fault, or the disk's.
pub(super) enum Obstacle {
    Order(QueueError),
    Disk(DiskFault),
}

impl<E: Into<DiskFault>> From<E> for Obstacle {
    fn from(fault: E) -> Self {
        Self::Disk(fault.into())
    }
}

/// One transaction at work.
pub(super) struct Work<'a, 'txn> {
    pub(super) claims: &'a Mutex<Claims>,
    pub(super) tables: &'a mut Tables<'txn>,
    pub(super) aftermath: &'a mut Aftermath,
    /// The claims that end when this transaction is on the disk.
    pub(super) concluding: &'a mut Vec<Ticket>,
    pub(super) now: Now,
}

impl Work<'_, '_> {
    pub(super) fn obey(&mut self, order: &Order) -> Result<(), Obstacle> {
        match order {
            Order::Deposit(message) => self.deposit(message),
            Order::Conclude { ticket, outcomes, next, warned, report } => {
                if self.claims().is_recorded(*ticket) {
                    // It comes a second time, because the first seemed to fail; but was found on the disk when the store was opened again. The report
                    // may have gone out since.
                    return self.fenced(*ticket);
                }
                let whose = self.tables.whose(ticket.id)?;
                match next {
                    // Nothing of it is written any more: it has to be there, and need not be read.
                    Next::Finished if whose.is_some() => {
                        self.fenced(*ticket)?;
                        self.take(ticket.id)?;
                    }
                    Next::Finished | Next::Retry(_) | Next::Dead(_) | Next::Held(_) => {
                        self.record_outcomes(*ticket, outcomes, next, *warned)?;
                    }
                }
                report.as_ref().map_or(Ok(()), |report| self.report(whose, report))
            }
            Order::Note { ticket, outcomes, report } => self.note(*ticket, outcomes, report.as_deref()),
            Order::SetAside { ticket, reason } => self.set_aside(*ticket, reason),
            Order::Retry(id) => {
                let now = self.now.wall;
                self.claims().recall_one(*id);
                self.change(*id, |record| record.retry(now))
            }
            Order::Hold(id) => self.change(*id, |record| {
                if record.state == State::Queued {
                    record.hold(HeldBy::Operator, None);
                }
            }),
            Order::Release(id) => {
                let now = self.now.wall;
                self.claims().recall_one(*id);
                self.change(*id, |record| {
                    if record.state == State::Held {
                        record.release(now);
                    }
                })
            }
            Order::Wake(id) => {
                let now = self.now.wall;
                self.claims().recall_one(*id);
                self.change(*id, |record| {
                    if record.state == State::Queued {
                        record.due = record.due.min(now);
                    }
                })
            }
            Order::Remove(id) => self.remove(*id),
            Order::TakeOut(id, places) => self.take_out(*id, places),
            Order::Adopt(adopted) => self.adopt(adopted),
            Order::Present { id, export, place } => self.present(*id, *export, *place),
            Order::BeginExport(export) => Ok(self.tables.begin_export(*export)?),
            Order::Leave { id, export } => self.leave(*id, *export),
            Order::Settle(export) => Ok(self.tables.settle_export(*export)?),
            Order::Charge(spending) => {
                Ok(self.tables.charge(spending.identity(), spending.cost(), self.aftermath.charged_at)?)
            }
            Order::See(sighting) => Ok(self.tables.see(sighting)?),
            Order::Mark(marks) => Ok(marks.iter().try_for_each(|mark| self.tables.mark(mark))?),
            Order::Mend => Ok(()),
        }
    }

    /// A report takes the share and the turn of whom it is about: else whoever has many reports written would fill the queue beyond a share, and
    /// keep everybody else's waiting.
    fn report(&mut self, whose: Option<String>, report: &NewMessage) -> Result<(), Obstacle> {
        match whose.filter(|_| report.record.custodian.is_ours()) {
            Some(whose) => Ok(self.tables.add_for(&whose, report)?),
            None => self.deposit(report),
        }
    }

    fn deposit(&mut self, message: &NewMessage) -> Result<(), Obstacle> {
        if let Some(spending) = &message.spending {
            self.tables.charge(spending.identity(), spending.cost(), self.aftermath.charged_at)?;
        }
        if let Some(sighting) = &message.sighting {
            self.tables.see(sighting)?;
        }
        if let Some(mark) = &message.mark {
            self.tables.mark(mark)?;
        }
        Ok(self.tables.add(message)?)
    }

    fn claims(&self) -> MutexGuard<'_, Claims> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, id: QueueId) -> Result<Record, Obstacle> {
        match self.tables.known(id)? {
            Known::Record(record) => Ok(*record),
            Known::Nothing => Err(Obstacle::Order(QueueError::NotFound(id))),
            Known::Unreadable(fault) => Err(Obstacle::Order(QueueError::Damaged(id, fault.to_string()))),
        }
    }

    fn change(&mut self, id: QueueId, change: impl FnOnce(&mut Record)) -> Result<(), Obstacle> {
        let mut record = self.record(id)?;
        change(&mut record);
        Ok(self.tables.put(&record)?)
    }

    /// Nothing that an old fencing number brings is recorded.
    fn fenced(&mut self, ticket: Ticket) -> Result<(), Obstacle> {
        if !self.claims().conclude(ticket) {
            return Err(Obstacle::Order(QueueError::Fenced(ticket.id)));
        }
        self.concluding.push(ticket);
        Ok(())
    }

    fn record_outcomes(
        &mut self,
        ticket: Ticket,
        outcomes: &[Tried],
        next: &Next,
        warned: bool,
    ) -> Result<(), Obstacle> {
        self.fenced(ticket)?;
        // What is on the disk, not what the claim saw: an operator may have changed it meanwhile.
        let mut new = match self.tables.known(ticket.id)? {
            Known::Record(record) => *record,
            Known::Nothing => return Err(Obstacle::Order(QueueError::NotFound(ticket.id))),
            // What came of the attempt is in the log. It must not stand in the way of what comes behind it.
            Known::Unreadable(fault) => {
                let (id, reason) = (ticket.id, fault.to_string());
                tracing::error!(%id, reason, "a message was found damaged when the outcome of an attempt was recorded; it is set aside as dead");
                self.tables.set_unreadable_aside(id, &reason)?;
                self.aftermath.lost.push((id, reason));
                return Ok(());
            }
        };
        for tried in outcomes {
            new.note(tried, self.now.wall);
        }
        new.attempts = new.attempts.saturating_add(u32::from(!outcomes.is_empty()));
        new.warned |= warned;
        match next {
            Next::Finished => return self.take(ticket.id),
            Next::Retry(at) => new.due = *at,
            Next::Dead(reason) => new.set_aside(reason),
            Next::Held(reason) => new.hold(HeldBy::Recheck, Some(reason.clone())),
        }
        Ok(self.tables.put(&new)?)
    }

    /// The claim goes on. What seemed to fail and is there all the same comes a second time: its recipients have it then, and the report may have gone since.
    fn note(&mut self, ticket: Ticket, outcomes: &[Tried], report: Option<&NewMessage>) -> Result<(), Obstacle> {
        if !self.claims().may_note(ticket) {
            return Err(Obstacle::Order(QueueError::Fenced(ticket.id)));
        }
        let mut record = self.record(ticket.id)?;
        let has_it = |one: &&Tried| record.recipients.get(one.recipient).is_none_or(RecipientState::has_it);
        let is_delivered = |one: &&Tried| matches!(one.outcome, Outcome::Delivered { .. });
        let (delivered, perhaps): (Vec<&Tried>, Vec<&Tried>) = outcomes.iter().partition(is_delivered);
        let is_there = delivered.iter().all(has_it);
        if is_there && perhaps.is_empty() {
            return Ok(());
        }
        for tried in delivered.into_iter().filter(|_| !is_there) {
            record.note(tried, self.now.wall);
        }
        for tried in perhaps {
            record.note_perhaps(tried, self.now.wall);
        }
        self.tables.put(&record)?;
        let Some(report) = report.filter(|_| !is_there) else { return Ok(()) };
        let whose = self.tables.whose(ticket.id)?;
        self.report(whose, report)
    }

    fn set_aside(&mut self, ticket: Ticket, reason: &str) -> Result<(), Obstacle> {
        self.fenced(ticket)?;
        match self.tables.known(ticket.id)? {
            Known::Record(_) => self.change(ticket.id, |record| record.set_aside(reason)),
            Known::Unreadable(_) => Ok(self.tables.set_unreadable_aside(ticket.id, reason)?),
            Known::Nothing => Err(Obstacle::Order(QueueError::NotFound(ticket.id))),
        }
    }

    fn remove(&mut self, id: QueueId) -> Result<(), Obstacle> {
        match self.tables.known(id)? {
            Known::Record(_) | Known::Unreadable(_) => {
                self.tables.end_pledge(id)?;
                self.take(id)
            }
            Known::Nothing => Err(Obstacle::Order(QueueError::NotFound(id))),
        }
    }

    /// Whoever says that it has the message may have let it go since, when it was told meanwhile that it is here.
    fn leave(&mut self, id: QueueId, export: QueueId) -> Result<(), Obstacle> {
        if self.tables.is_pledged_since(id, export)? && !matches!(self.tables.known(id)?, Known::Nothing) {
            return Err(Obstacle::Order(QueueError::Known(id)));
        }
        self.remove(id)
    }

    fn take_out(&mut self, id: QueueId, places: &[usize]) -> Result<(), Obstacle> {
        let mut record = self.record(id)?;
        match record.take_out(places) {
            Owed::Nobody => {
                // As when it is removed: who was told that it is here is to hear so no more. Where somebody has it, it was delivered from here.
                if !record.recipients.iter().any(RecipientState::has_it) {
                    self.tables.end_pledge(id)?;
                }
                self.take(id)
            }
            Owed::Somebody => Ok(self.tables.put(&record)?),
        }
    }

    /// Once: the message, and that it has been here, are one transaction.
    fn adopt(&mut self, adopted: &Adopted) -> Result<(), Obstacle> {
        let Adopted { message, export, place } = adopted;
        let id = message.record.id;
        if self.tables.has_adopted(*export, *place)? {
            return Err(Obstacle::Order(QueueError::Known(id)));
        }
        match self.present(id, *export, *place) {
            Err(Obstacle::Order(QueueError::NotFound(_))) => {
                self.tables.note_adopted(*export, *place)?;
                self.tables.pledge(id)?;
                Ok(self.tables.add(message)?)
            }
            present => present,
        }
    }

    /// Says that a message is here, or was delivered from here after another export had brought it; of no other that has gone.
    fn present(&mut self, id: QueueId, export: QueueId, place: u64) -> Result<(), Obstacle> {
        match self.tables.known(id)? {
            Known::Record(_) => self.tables.pledge(id)?,
            Known::Nothing if self.tables.is_pledged(id)? => {}
            Known::Nothing => return Err(Obstacle::Order(QueueError::NotFound(id))),
            // Its place stays open: what the export has of it may be all that there is.
            Known::Unreadable(fault) => return Err(Obstacle::Order(QueueError::Damaged(id, fault.to_string()))),
        }
        self.tables.note_adopted(export, place)?;
        Err(Obstacle::Order(QueueError::Known(id)))
    }

    fn take(&mut self, id: QueueId) -> Result<(), Obstacle> {
        let in_file = self.tables.take(id)?;
        self.aftermath.gone.push(id);
        if in_file {
            self.aftermath.files.push(id);
        }
        Ok(())
    }
}

/// What an order carries.
#[derive(Debug)]
pub(super) enum Carried<'a> {
    /// A message that a client waits for to be kept.
    Mail(&'a NewMessage),
    /// A message that another queue has, and whoever brings it waits.
    Moved(&'a NewMessage),
    /// An outcome, and perhaps the report on it: only a task stands behind it that has nothing else to do.
    Outcome(Option<&'a NewMessage>),
    /// No message; somebody waits.
    Nothing,
}

impl Order {
    /// What each kind carries: the list from which the others here are read.
    pub(super) fn carried(&self) -> Carried<'_> {
        match self {
            Self::Deposit(message) => Carried::Mail(message),
            Self::Adopt(adopted) => Carried::Moved(&adopted.message),
            Self::Conclude { report, .. } | Self::Note { report, .. } => Carried::Outcome(report.as_deref()),
            Self::SetAside { .. }
            | Self::Retry(_)
            | Self::Hold(_)
            | Self::Release(_)
            | Self::Wake(_)
            | Self::Remove(_)
            | Self::TakeOut(..)
            | Self::Present { .. }
            | Self::BeginExport(_)
            | Self::Leave { .. }
            | Self::Settle(_)
            | Self::Charge(_)
            | Self::See(_)
            | Self::Mark(_)
            | Self::Mend => Carried::Nothing,
        }
    }

    /// Whether somebody waits for it: a client for its 250, an operator for a word.
    pub(super) fn is_pressing(&self) -> bool {
        !matches!(self.carried(), Carried::Outcome(_))
    }

    /// The message that is to be kept. What another queue had is none: it is brought again, and then it counts that it is here.
    pub(super) fn deposit(&self) -> Option<&NewMessage> {
        if let Carried::Mail(message) = self.carried() { Some(message) } else { None }
    }

    /// What it costs whom.
    pub(super) fn charge(&self) -> Option<&Spending> {
        if let Self::Charge(spending) = self { Some(spending) } else { self.deposit()?.spending.as_ref() }
    }

    /// The message that it has kept, with all that is held for it. A report holds nothing.
    pub(super) fn kept(self) -> Option<NewMessage> {
        if let Self::Adopt(adopted) = self {
            return Some(adopted.message);
        }
        if let Self::Deposit(message) = self { Some(*message) } else { None }
    }
}
