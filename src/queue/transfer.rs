//! Messages that move from one queue to another, as they are: queued, held or dead, with all that is known of them.
//!
//! What is taken from here by [`Queue::pack`] and [`Queue::body`], the other queue takes in by [`Queue::receive`], [`Arriving::write`] and
//! [`Queue::adopt`]. An export has a name, and its messages have their places in it: how many of them have been adopted is noted in the
//! transaction that keeps them, so that an export that is brought again, whole or in part, brings nothing twice, even if a message has long gone.
//!
//! # What a crash leaves
//!
//! ```text
//! leftover                        meaning                                          recovery
//! body file, no record            it was being brought, or its commit failed       removed at the next start, or when it is brought again
//! some messages of an export      it was being brought                             brought again, it goes on behind them
//! ```
//!
//! Never: makes a message due again that is held; spends anything of a limit, or of an identity's share: it was spent where it came from.

use std::io;
use std::sync::Arc;

use super::budget::NOBODY;
use super::codec;
use super::incoming::{Incoming, Settled};
use super::store::{Adopted, NewMessage, Order};
use super::writer::Holding;
use super::{Listed, Queue, QueueError, Record};
use crate::mail::QueueId;

/// Messages that are adopted in one go, at the most.
pub const ADOPTED_MAX: usize = 64;

/// A message that is being brought.
#[derive(Debug)]
#[must_use = "dropped, it leaves nothing"]
pub struct Arriving {
    incoming: Incoming,
    record: Record,
}

/// A message that has been brought whole, and is not kept yet.
#[derive(Debug)]
#[must_use = "dropped, it leaves nothing"]
pub struct Arrived {
    record: Record,
    settled: Settled,
}

impl Queue {
    /// A record as it travels: in the form in which it is stored, which has a version and a checksum.
    ///
    /// # Errors
    ///
    /// [`QueueError::Damaged`].
    pub fn pack(record: &Record) -> Result<Vec<u8>, QueueError> {
        codec::encode(record).map_err(|fault| QueueError::Damaged(record.id, fault.to_string()))
    }

    /// The record that travelled so.
    ///
    /// # Errors
    ///
    /// It is damaged, or newer than this program; in words.
    pub fn unpack(octets: &[u8]) -> Result<Record, String> {
        let record = codec::decode(octets).map_err(|fault| fault.to_string())?;
        if record.envelope.recipients().is_empty() || record.envelope.recipients().len() != record.recipients.len() {
            return Err("its record has no recipients, or says of others how they stand".to_owned());
        }
        Ok(record)
    }

    /// A name for an export that begins now.
    pub fn new_export(&self) -> QueueId {
        self.inner.new_id()
    }

    /// How many messages of this export have been adopted: the next to be brought has this place.
    ///
    /// # Errors
    ///
    /// [`QueueError::Broken`].
    pub async fn adopted(&self, export: QueueId) -> Result<u64, QueueError> {
        let store = Arc::clone(&self.inner.store);
        self.inner.work_on(move || store.adopted(export)).await?
    }

    /// Whether what was exported under this name has been removed here.
    ///
    /// # Errors
    ///
    /// [`QueueError::Broken`].
    pub async fn settled(&self, export: QueueId) -> Result<bool, QueueError> {
        let store = Arc::clone(&self.inner.store);
        self.inner.work_on(move || store.settled(export)).await?
    }

    /// Notes that all of an export has arrived elsewhere, and has been removed here.
    ///
    /// # Errors
    ///
    /// [`QueueError::Broken`].
    pub async fn settle(&self, export: QueueId) -> Result<(), QueueError> {
        self.inner.writer.submit(Order::Settle(export), Holding::default()).await
    }

    /// Begins to take in a message that another queue had; none when it is here already.
    ///
    /// # Errors
    ///
    /// [`QueueError::Full`] when there is no room for it, [`QueueError::Damaged`] when what is here of this name can't be read,
    /// [`QueueError::Broken`].
    pub async fn receive(&self, record: Record) -> Result<Option<Arriving>, QueueError> {
        let id = record.id;
        match self.show(id).await {
            Err(QueueError::NotFound(_)) => {}
            Ok(Listed::Message(_)) => return Ok(None),
            Ok(Listed::Unreadable(..)) => {
                let why = "a damaged message of this name is here; remove it first, then bring this one again";
                return Err(QueueError::Damaged(id, why.to_owned()));
            }
            Err(fault) => return Err(fault),
        }
        let granted = self.inner.grant(&NOBODY.into(), record.length).await?;
        let queue = Arc::clone(&self.inner);
        let cleared = self.inner.work_on(move || match queue.disk.remove(&queue.sweeper.path(id)) {
            Err(fault) if fault.kind() != io::ErrorKind::NotFound => Err(fault),
            Ok(()) | Err(_) => Ok(()),
        });
        cleared.await?.map_err(|fault| QueueError::from_io(&fault))?;
        let incoming = Incoming::new(Arc::clone(&self.inner), id, granted);
        Ok(Some(Arriving { incoming, record }))
    }

    /// Keeps messages of an export, which have been brought whole, with their places in it; at most [`ADOPTED_MAX`], in order. On stable storage
    /// when this returns.
    ///
    /// The answers: [`QueueError::Known`] of one that is or was here, [`QueueError::Broken`] when the disk fails: it is to be brought again.
    pub async fn adopt(&self, export: QueueId, arrived: Vec<(u64, Arrived)>) -> Vec<Result<(), QueueError>> {
        let orders = arrived.into_iter().take(ADOPTED_MAX).map(|(place, Arrived { record, settled })| {
            let message = NewMessage { record, body: settled.body, spending: None, sighting: None, mark: None };
            (Order::Adopt(Box::new(Adopted { message, export, place })), settled.holding)
        });
        self.inner.writer.submit_all(orders.collect()).await
    }
}

impl Arriving {
    /// Which message it is.
    pub fn id(&self) -> QueueId {
        self.record.id
    }

    /// Adds octets; as [`Incoming::write`].
    ///
    /// # Errors
    ///
    /// [`QueueError::Full`], [`QueueError::Broken`].
    pub async fn write(&mut self, octets: &[u8]) -> Result<(), QueueError> {
        self.incoming.write(octets).await
    }

    /// All has been written.
    ///
    /// # Errors
    ///
    /// [`QueueError::Damaged`] when it is not what its record says; [`QueueError::Full`], [`QueueError::Broken`].
    pub async fn finish(self) -> Result<Arrived, QueueError> {
        let Self { incoming, record } = self;
        let mut settled = incoming.settled().await?;
        // It is brought with others, which may take a while yet: no client's 250 waits for it.
        settled.holding.expected = None;
        if settled.length != record.length || settled.checksum != record.checksum {
            return Err(QueueError::Damaged(record.id, "its body is not the one that its record tells of".to_owned()));
        }
        Ok(Arrived { record, settled })
    }
}
