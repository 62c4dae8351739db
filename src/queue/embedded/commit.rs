//! A batch of orders: committed, and what follows from that, or from its failure.
//!
//! Answers are given when what they say is on stable storage, and memory follows before anybody hears them. After a failure the claims of the batch go on, what it
//! kept is disowned, and what came of attempts is in doubt: see [`super`].
//!
//! Never: lets one order that can't be obeyed have the others of its batch fail; ends the writer by a panic of redb's.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{PoisonError, TryLockError};

use super::{Disowned, Embedded, Opened, PANICKED, locked, not_open};
use crate::mail::QueueId;
use crate::queue::QueueError;
use crate::queue::fill::Size;
use crate::queue::obey::{Aftermath, Carried, Obstacle, Work};
use crate::queue::record::State;
use crate::queue::shelf::Placing;
use crate::queue::store::{NewBody, NewMessage, Next, Order, Ticket, Tried};
use crate::queue::tables::{self, DiskFault, Freed, Known, Tables};
use crate::queue::witness::{self, Rows};
use crate::sys::{Now, WallTime};

/// Octets that nobody names any more and that are not given out again because somebody reads; beyond, a commit waits for whoever does.
const BEING_LEFT_MAX: u64 = 256 * 1024;

/// A conclusion whose commit failed, and by what it is known that it is there all the same. What tried nothing and brings no report is recorded again
/// without harm.
#[derive(Debug)]
pub(super) struct Doubted {
    pub(super) ticket: Ticket,
    sign: Sign,
}

#[derive(Debug)]
enum Sign {
    /// The report on it is there.
    Report(QueueId),
    /// The message is not.
    Gone,
    /// The attempt is: something of this, noted at that moment; not what was noted of it before its end.
    Attempt(Vec<Tried>, WallTime),
}

impl Doubted {
    /// `at`: when the commit began.
    pub(super) fn of(order: &Order, at: WallTime) -> Option<Self> {
        let Order::Conclude { ticket, next, report, outcomes, .. } = order else { return None };
        let sign = match (report, next) {
            (Some(report), _) => Sign::Report(report.record.id),
            (None, Next::Finished) => Sign::Gone,
            (None, Next::Retry(_) | Next::Dead(_) | Next::Held(_)) => Sign::Attempt(outcomes.clone(), at),
        };
        Some(Self { ticket: *ticket, sign })
    }

    pub(super) fn is_there(&self, tables: &Tables<'_>) -> Result<bool, DiskFault> {
        Ok(match &self.sign {
            Sign::Report(id) => !matches!(tables.known(*id)?, Known::Nothing),
            Sign::Gone => matches!(tables.known(self.ticket.id)?, Known::Nothing),
            Sign::Attempt(outcomes, at) => match tables.known(self.ticket.id)? {
                Known::Record(record) => outcomes.iter().any(|tried| record.has_noted(tried, *at)),
                Known::Nothing | Known::Unreadable(_) => false,
            },
        })
    }
}

impl Embedded {
    fn transact(
        &self,
        batch: &[Order],
        now: Now,
        at: WallTime,
        concluding: &mut Vec<Ticket>,
    ) -> Result<Answers, QueueError> {
        self.mend().map_err(|fault| QueueError::from(&fault))?;
        let handle = self.handle.read().unwrap_or_else(PoisonError::into_inner);
        let Some(opened) = handle.as_ref() else { return Err(not_open()) };
        self.commit(opened, batch, now, at, concluding).map_err(QueueError::from)
    }

    fn commit(
        &self,
        opened: &Opened,
        batch: &[Order],
        now: Now,
        at: WallTime,
        concluding: &mut Vec<Ticket>,
    ) -> Result<Answers, DiskFault> {
        let transaction = tables::begin(&opened.database)?;
        let mut space = locked(&self.space);
        let mut tables = Tables::open(&transaction, Placing::new(&opened.shelf, &mut space))?;
        let mut aftermath = Aftermath::new(at);
        let mut answers = Vec::with_capacity(batch.len());
        let mut left = self.left_for(batch);
        for order in batch {
            if let Err(fault) = self.takes_of(&mut left, order, &tables) {
                answers.push(Err(fault));
                continue;
            }
            let mut work =
                Work { claims: &self.claims, tables: &mut tables, aftermath: &mut aftermath, concluding, now };
            answers.push(match work.obey(order) {
                Ok(()) => Ok(()),
                Err(Obstacle::Order(fault)) => Err(fault),
                Err(Obstacle::Disk(fault)) => return Err(fault),
            });
        }
        self.sweep_ledger(batch, &mut tables, at)?;
        // Syncs the shelf: only now may redb name what lies there.
        tables.settle()?;
        aftermath.changes = std::mem::take(&mut tables.changes);
        aftermath.freed = std::mem::take(&mut tables.freed);
        let met_damage = tables.met_damage.get();
        drop(tables);
        // Syncs: when this returns, what the answers say is on stable storage, and not before.
        transaction.commit()?;
        if met_damage {
            self.give_up_handle();
        }
        Ok(Answers { answers, aftermath })
    }

    /// Octets of the disk that may be written. Where nobody knows, the writing itself will tell. A fault: what is written would be found by nobody.
    fn left_for(&self, batch: &[Order]) -> Result<u64, QueueError> {
        let brings_nothing = |order: &Order| matches!(order.carried(), Carried::Outcome(None) | Carried::Nothing);
        if batch.iter().all(brings_nothing) {
            return Ok(u64::MAX);
        }
        self.is_in_place()?;
        Ok(self.disk.space_left(&self.folder).unwrap_or(u64::MAX))
    }

    /// Takes what an order brings off what is left of the disk. One that does not fit is refused by itself: written, it would have all of its batch
    /// fail, and the outcomes in it. Mail leaves the reserve to outcomes and reports.
    fn takes_of(
        &self,
        left: &mut Result<u64, QueueError>,
        order: &Order,
        tables: &Tables<'_>,
    ) -> Result<(), QueueError> {
        let (message, reserve) = match order.carried() {
            Carried::Mail(message) | Carried::Moved(message) => (message, self.reserve),
            Carried::Outcome(Some(report)) => (report, 0),
            Carried::Outcome(None) | Carried::Nothing => return Ok(()),
        };
        let left = left.as_mut().map_err(|fault| fault.clone())?;
        let growth = tables.growth(message);
        // The reserve is of the disk itself, whatever is free within the file.
        if *left < reserve || growth > left.saturating_sub(reserve) {
            return Err(QueueError::Full(format!(
                "the disk of data_dir has {} left, {} to outcomes and reports, and this message needs {}",
                Size(*left),
                Size(reserve),
                Size(growth)
            )));
        }
        *left = left.saturating_sub(growth);
        Ok(())
    }

    /// A batch that writes the ledger takes some histories out that count for nothing any more.
    fn sweep_ledger(&self, batch: &[Order], tables: &mut Tables<'_>, at: WallTime) -> Result<(), DiskFault> {
        if !batch.iter().any(|order| order.charge().is_some()) {
            return Ok(());
        }
        let mut swept = locked(&self.swept);
        *swept = tables.sweep_ledger(swept.as_deref(), at)?;
        Ok(())
    }

    fn after_commit(
        &self,
        batch: Vec<Order>,
        answers: &[Result<(), QueueError>],
        mut aftermath: Aftermath,
        concluded: &[Ticket],
        now: Now,
    ) {
        aftermath.lost.iter().for_each(|(id, reason)| self.losses.note(*id, reason));
        self.give_back(std::mem::take(&mut aftermath.freed));
        // Before anybody is given the message, or what has become of it.
        self.settle_what_was_kept(batch, answers, aftermath.charged_at, now);
        for change in aftermath.changes.iter().filter(|change| change.left.is_some()) {
            change.left.iter().for_each(|place| self.at_hand.forget(place.id));
        }
        let (mut claims, mut index) = self.order();
        for change in &aftermath.changes {
            index.change(change);
        }
        let rows = Rows::of(&index, &aftermath.changes);
        for &ticket in concluded {
            claims.end(ticket);
        }
        for id in aftermath.gone {
            claims.forget(id);
        }
        for change in aftermath.changes {
            let Some(place) = change.came.filter(|place| place.state() == State::Queued) else { continue };
            claims.moved(place);
            claims.turns.came(&change.identity, place, now.wall);
        }
        drop((claims, index));
        // Behind the locks: a disk that hangs must not have everybody wait who asks for a claim.
        self.testify(rows, now);
        for id in aftermath.files {
            self.sweeper.remove(id);
        }
    }

    fn testify(&self, rows: Rows, now: Now) {
        let handle = self.handle.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(opened) = handle.as_ref() {
            witness::testify(self, &*opened.head, rows, now.mono);
        }
    }

    /// What was kept is on stable storage: what it cost is spent, its file stays, and what is due is at hand.
    fn settle_what_was_kept(&self, batch: Vec<Order>, answers: &[Result<(), QueueError>], charged: WallTime, now: Now) {
        for (order, answer) in batch.into_iter().zip(answers) {
            if answer.is_err() {
                continue;
            }
            if let Order::Charge(spending) = order {
                spending.settle(charged);
                continue;
            }
            let Some(NewMessage { record, body, spending, .. }) = order.kept() else { continue };
            match body {
                NewBody::File(file) => file.keep(),
                NewBody::Octets(octets) if record.state == State::Queued && record.due <= now.wall => {
                    self.at_hand.put(record, octets);
                }
                NewBody::Octets(_) => {}
            }
            if let Some(spending) = spending {
                spending.settle(charged);
            }
        }
    }

    /// What nobody names any more may be given out again: it is on stable storage that nobody does.
    fn give_back(&self, freed: Freed) {
        let mut being_left = locked(&self.being_left);
        being_left.extend(freed);
        // Whoever reads now may have seen it named before; whoever reads later has not. A commit does not wait for a listing: it is given back by a
        // later one, unless it has become much.
        if !being_left.is_empty() && (self.nobody_reads() || octets_of(&being_left) > BEING_LEFT_MAX) {
            drop(self.handle.write().unwrap_or_else(PoisonError::into_inner));
            let mut space = locked(&self.space);
            for (kind, extents) in being_left.drain(..) {
                space.give_back(kind, &extents);
            }
        }
        self.note_room(&locked(&self.space));
    }

    fn nobody_reads(&self) -> bool {
        !matches!(self.handle.try_write(), Err(TryLockError::WouldBlock))
    }

    fn after_failure(&self, batch: &[Order], now: Now, at: WallTime, concluding: &[Ticket], fault: &QueueError) {
        if let Some(unsaid) = self.failures.say(now.mono) {
            tracing::error!(%fault, orders = batch.len(), unsaid, "the store failed; it is opened again");
        }
        let mut claims = self.claims();
        for &ticket in concluding {
            claims.resume(ticket);
        }
        drop(claims);
        // Reports are not disowned: if one turns out to be there, so does the outcome it reports, and that is noted.
        let mut doubted = locked(&self.doubted);
        for one in batch.iter().filter_map(|order| Doubted::of(order, now.wall)) {
            // Where the store could not even be opened meanwhile, what is in doubt is still the first time.
            if doubted.get(&one.ticket.id).is_none_or(|known| known.ticket != one.ticket) {
                doubted.insert(one.ticket.id, one);
            }
        }
        drop(doubted);
        let deposits = batch.iter().filter_map(|order| {
            let charge = order.charge().map(|spending| (spending.identity().to_owned(), spending.cost()));
            Some(Disowned { id: order.deposit()?.record.id, charge, at })
        });
        locked(&self.disowned).extend(deposits);
        self.broken.store(true, Ordering::Release);
        if let Err(fault) = self.mend() {
            tracing::error!(%fault, "the store could not be opened again; the next change will try");
        }
    }

    pub(in crate::queue) fn apply_batch(&self, batch: Vec<Order>, now: Now) -> Vec<Result<(), QueueError>> {
        let changing = self.changing();
        let mut concluding = Vec::new();
        let at = self.accounts.time(now);
        // A panic within redb (a damaged page) must end neither the writer nor the claims of this batch.
        let done = catch_unwind(AssertUnwindSafe(|| self.transact(&batch, now, at, &mut concluding)))
            .unwrap_or_else(|_| Err(QueueError::Broken(PANICKED.to_owned())));
        match done {
            Ok(Answers { answers, aftermath }) => {
                self.after_commit(batch, &answers, aftermath, &concluding, now);
                drop(changing);
                answers
            }
            Err(fault) => {
                self.after_failure(&batch, now, at, &concluding, &fault);
                let answers = vec![Err(fault); batch.len()];
                leave_adopted_files(batch);
                answers
            }
        }
    }
}

fn octets_of(freed: &Freed) -> u64 {
    freed.iter().flat_map(|(_, extents)| extents).fold(0, |sum, extent| sum.saturating_add(extent.length))
}

struct Answers {
    answers: Vec<Result<(), QueueError>>,
    aftermath: Aftermath,
}

/// What was adopted is not disowned when its commit failed, so its record may be on the disk: its body must be as well. What is a leftover goes
/// when it is brought again, or with the next start.
fn leave_adopted_files(batch: Vec<Order>) {
    for order in batch {
        if let Order::Adopt(adopted) = order
            && let NewBody::File(file) = adopted.message.body
        {
            file.keep();
        }
    }
}
