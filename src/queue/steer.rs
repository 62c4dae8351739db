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

    /// Whether there is room for one small message of somebody who has nothing here.
    ///
    /// # Errors
    ///
    /// [`QueueError::Broken`] when the store can't be used: then there is room for nobody.
    pub async fn intake(&self) -> Result<Intake, QueueError> {
        if let Some(stall) = self.inner.committing.stall(self.inner.clock.now().mono) {
            return Ok(Intake::NoRoom(stall.to_string()));
        }
        let level = self.inner.level(NOBODY).await?;
        // Given back as soon as it is had.
        let place = self.inner.budgets.room.place(&NOBODY.into(), 1, level);
        Ok(match place.map(drop) {
            Ok(()) => Intake::Open,
            Err(shortage) => Intake::NoRoom(shortage.to_string()),
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
