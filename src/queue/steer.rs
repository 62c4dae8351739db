//! What an operator does to many messages: a few at a time, so that mail never waits long for the writer, and each few in one transaction.
//!
//! Never: decides which messages; tells anybody.

use super::budget::NOBODY;
use super::store::Order;
use super::writer::Holding;
use super::{Brief, Direction, Filter, Listing, Page, Queue, QueueError, Tally};
use crate::mail::QueueId;

/// Changes that are made in one go, at the most: what a commit of mail may have to wait for.
pub const CHANGES_MAX: usize = 100;

/// What an operator does to one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// As [`Queue::hold`].
    Hold,
    /// As [`Queue::release`].
    Release,
    /// As [`Queue::retry`].
    Retry,
    /// Makes it due now if it is queued; what is held or dead stays as it is. Of its own accord, not an operator's.
    Wake,
    /// As [`Queue::remove`].
    Remove,
    /// Takes these recipients out, by their places in the envelope: they do not get it, nobody is told, and the message goes when nobody is left. An
    /// attempt under way goes on; who gets it by that has it.
    TakeOut(Vec<usize>),
}

/// What intake would hear now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Intake {
    /// There is room.
    Open,
    /// There is room for messages of so many octets and no larger ones, and this limit is why.
    UpTo(u64, String),
    /// There is none, and this limit is why.
    NoRoom(String),
}

impl Queue {
    /// Makes changes, at most [`CHANGES_MAX`] of them; one answer for each, in order, on stable storage when this returns.
    ///
    /// The answers are those of the methods that the changes are named after.
    pub async fn change(&self, mut changes: Vec<(QueueId, Change)>) -> Vec<Result<(), QueueError>> {
        changes.truncate(CHANGES_MAX);
        let orders = changes.into_iter().map(|(id, change)| {
            let order = match change {
                Change::Hold => Order::Hold(id),
                Change::Release => Order::Release(id),
                Change::Retry => Order::Retry(id),
                Change::Wake => Order::Wake(id),
                Change::Remove => Order::Remove(id),
                Change::TakeOut(places) => Order::TakeOut(id, places),
            };
            (order, Holding::default())
        });
        self.inner.writer.submit_all(orders.collect()).await
    }

    /// Part of the list of messages, newest first: `page.after` is the one before which it goes on.
    ///
    /// # Errors
    ///
    /// [`QueueError::Broken`] when the disk fails.
    pub async fn list_back(&self, filter: Filter, page: Page) -> Result<Listing, QueueError> {
        let store = std::sync::Arc::clone(&self.inner.store);
        self.inner.work_on(move || store.list_back(filter, page)).await?
    }

    /// Part of the list, of each message no more than a listing shows.
    ///
    /// # Errors
    ///
    /// [`QueueError::Broken`] when the disk fails.
    pub async fn briefs(&self, filter: Filter, page: Page, direction: Direction) -> Result<Listing<Brief>, QueueError> {
        let store = std::sync::Arc::clone(&self.inner.store);
        self.inner.work_on(move || store.briefs(filter, page, direction)).await?
    }

    /// Whether there is room for one message of so many octets of somebody who has nothing here, or for a small one at least.
    ///
    /// # Errors
    ///
    /// [`QueueError::Broken`] when the store can't be used: then there is room for nobody.
    pub async fn intake(&self, octets: u64) -> Result<Intake, QueueError> {
        if let Some(stall) = self.inner.committing.stall(self.inner.clock.now().mono) {
            return Ok(Intake::NoRoom(stall.to_string()));
        }
        let level = self.inner.level(NOBODY).await?;
        let room = &self.inner.budgets.room;
        Ok(match (room.fits(1, level), room.fits(octets, level)) {
            (Err(shortage), _) => Intake::NoRoom(shortage.to_string()),
            (Ok(()), Err(shortage)) => Intake::UpTo(room.most(level), shortage.to_string()),
            (Ok(()), Ok(())) => Intake::Open,
        })
    }

    /// Whether an attempt at this message is under way.
    pub fn is_being_tried(&self, id: QueueId) -> bool {
        self.inner.store.is_tried(id, self.inner.clock.now())
    }

    /// What one identity may have here, kept and being received together.
    pub fn share(&self) -> Tally {
        self.inner.budgets.room.share()
    }
}
