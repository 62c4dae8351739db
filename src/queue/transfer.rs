//! Messages that move from one queue to another, as they are: queued, held or dead, with all that is known of them.
//!
//! What is taken from here by [`Queue::pack`] and [`Queue::body`], the other queue takes in by [`Queue::receive`], [`Arriving::write`] and
//! [`Queue::adopt`]. An export has a name, and its messages have their places in it: which of them have been adopted is noted in the
//! transaction that keeps them (see adoptions), so that an export that is brought again, whole or in part, brings nothing twice, even if a message
//! has long gone; and that what was left out is brought. Who owns a message between two queues is told where they meet (`daemon::steering::moving`); what
//! this one has said of it is in pledges.
//!
//! # What a crash leaves
//!
//! ```text
//! leftover                        meaning                                          recovery
//! body file, no record            it was being brought, or its commit failed       removed at the next start, or when it is brought again
//! some messages of an export      it was being brought                             brought again, the others are taken in
//! ```
//!
//! Never: says of a message that it is here, or was, of which that is not known; makes a message due again that is held; spends anything of a limit, or of an identity's share: it was spent where it came from.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::budget::NOBODY;
use super::codec;
use super::incoming::{Incoming, Settled};
use super::steer::CHANGES_MAX;
use super::store::{Adopted, NewMessage, Order};
use super::sweeper::Reserved;
use super::writer::Holding;
use super::{Listed, Queue, QueueError, Record};
use crate::mail::QueueId;

/// Messages that are adopted in one go, at the most.
pub const ADOPTED_MAX: usize = 64;
/// Gaps in an export that an import is told of, at the most.
pub const GAPS_TOLD_MAX: usize = 1000;

/// Which messages of an export are here, or were.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adoption {
    /// From this place on it is not told.
    pub count: u64,
    /// Those before it are, but for these: the first place of each gap, and the one behind its last; in order.
    pub gaps: Vec<(u64, u64)>,
}

impl Adoption {
    /// Whether the message at this place is.
    pub fn has(&self, place: u64) -> bool {
        let next = self.gaps.partition_point(|(_, to)| *to <= place);
        place < self.count && self.gaps.get(next).is_none_or(|(from, _)| place < *from)
    }
}

/// What becomes of a message that is brought.
#[derive(Debug)]
pub enum Received {
    /// Its octets may come.
    Awaited(Box<Arriving>),
    /// It is here: that is noted with the others.
    Here(Arrived),
}

/// A message that is being brought.
#[derive(Debug)]
#[must_use = "dropped, it leaves nothing"]
pub struct Arriving {
    // Dropped in this order: what was written is removed while the name is still taken.
    incoming: Incoming,
    record: Record,
    name: Reserved,
}

/// A message that has been brought whole, and is not kept yet; or one that is here.
#[derive(Debug)]
#[must_use = "dropped, it leaves nothing"]
pub struct Arrived {
    how: How,
}

#[derive(Debug)]
enum How {
    Brought(Box<(Record, Settled)>),
    Here(QueueId),
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

    /// Which messages of this export are here, or were; the others are to be brought.
    ///
    /// # Errors
    ///
    /// [`QueueError::Broken`].
    pub async fn adopted(&self, export: QueueId) -> Result<Adoption, QueueError> {
        let store = Arc::clone(&self.inner.store);
        self.inner.work_on(move || store.adopted(export)).await?
    }

    /// Notes that an export of this name begins: what is said from now on of a message, that it is here, is said after it.
    ///
    /// # Errors
    ///
    /// [`QueueError::Full`], [`QueueError::Broken`]: then a receipt of it removes nothing of which that was ever said.
    pub async fn begin_export(&self, export: QueueId) -> Result<(), QueueError> {
        let begun = self.inner.writer.submit(Order::BeginExport(export), Holding::default()).await;
        if begun.is_err() {
            // A store that has failed is opened again by the next order; whoever only reads gives none.
            self.inner.writer.submit(Order::Mend, Holding::default()).await.ok();
        }
        begun
    }

    /// Whether an export of this name is known to have begun here.
    ///
    /// # Errors
    ///
    /// [`QueueError::Broken`].
    pub async fn exported(&self, export: QueueId) -> Result<bool, QueueError> {
        let store = Arc::clone(&self.inner.store);
        self.inner.work_on(move || store.exported(export)).await?
    }

    /// Removes messages of an export that have arrived elsewhere, at most [`CHANGES_MAX`]; one answer for each, in order, on stable storage when this returns.
    ///
    /// The answers: [`QueueError::Known`] of one that stays, because another queue was told after the export had begun that it is here;
    /// [`QueueError::NotFound`], [`QueueError::Broken`].
    pub async fn leave(&self, export: QueueId, mut ids: Vec<QueueId>) -> Vec<Result<(), QueueError>> {
        ids.truncate(CHANGES_MAX);
        let orders = ids.into_iter().map(|id| (Order::Leave { id, export }, Holding::default()));
        self.inner.writer.submit_all(orders.collect()).await
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

    /// Begins to take in a message that another queue had, if it is not here already.
    ///
    /// # Errors
    ///
    /// [`QueueError::Full`] when there is no room for it, [`QueueError::Damaged`] when what is here of this name is damaged, or another,
    /// [`QueueError::Fenced`] when somebody else brings it just now, [`QueueError::Broken`].
    pub async fn receive(&self, record: Record) -> Result<Received, QueueError> {
        let id = record.id;
        // First of all: from here on, what stands under its name is ours to remove, and nobody else's.
        let name = self.inner.sweeper.reserve(id).ok_or(QueueError::Fenced(id))?;
        match self.is_here(&record).await {
            Err(QueueError::NotFound(_)) => {}
            Ok(()) => return Ok(Received::Here(Arrived { how: How::Here(id) })),
            Err(QueueError::Damaged(..)) => {
                let why = "a damaged message of this name is here; remove it first, then bring this one again";
                return Err(QueueError::Damaged(id, why.to_owned()));
            }
            Err(fault) => return Err(fault),
        }
        let granted = self.inner.grant(&NOBODY.into(), record.length, record.envelope.octets()).await?;
        let cleared = self.inner.work_on(move || name.clear().map(|()| name));
        let name = cleared.await?.map_err(|fault| QueueError::from_io(&fault))?;
        let incoming = Incoming::new(Arc::clone(&self.inner), id, granted);
        Ok(Received::Awaited(Box::new(Arriving { incoming, record, name })))
    }

    /// Whether this message is here, and whole: its octets are read through, for whoever had it before will forget it.
    async fn is_here(&self, record: &Record) -> Result<(), QueueError> {
        let id = record.id;
        match self.show(id).await? {
            Listed::Message(here) if (here.length, here.checksum) == (record.length, record.checksum) => {}
            Listed::Message(_) => return Err(QueueError::Damaged(id, "it is another message".to_owned())),
            Listed::Unreadable(_, why) => return Err(QueueError::Damaged(id, why)),
        }
        let read = async {
            let mut body = self.body(id).await?;
            while body.next().await?.is_some() {}
            Ok(())
        };
        match read.await {
            // It was here, and has just gone: whoever notes it looks whether it was delivered.
            Err(QueueError::NotFound(_)) => Ok(()),
            read => read,
        }
    }

    /// Keeps messages of an export, which have been brought whole, with their places in it; at most [`ADOPTED_MAX`]. On stable storage when this
    /// returns. One that fails fails for itself, and leaves a gap: they may be of several transactions.
    ///
    /// The answers: [`QueueError::Known`] of one that is or was here, and this is noted; [`QueueError::NotFound`] of one that was found here and has gone
    /// since, nobody knows where; [`QueueError::Damaged`] when what is here of this name can't be read, [`QueueError::Broken`] when the disk fails: it is to be
    /// brought again.
    pub async fn adopt(&self, export: QueueId, arrived: Vec<(u64, Arrived)>) -> Vec<Result<(), QueueError>> {
        let orders = arrived.into_iter().take(ADOPTED_MAX).map(|(place, Arrived { how })| match how {
            How::Here(id) => (Order::Present { id, export, place }, Holding::default()),
            How::Brought(brought) => {
                let (record, settled) = *brought;
                let message = NewMessage {
                    record,
                    body: settled.body,
                    spending: None,
                    sighting: None,
                    mark: None,
                    account: None,
                };
                (Order::Adopt(Box::new(Adopted { message, export, place })), settled.holding)
            }
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
        let Self { incoming, record, name } = self;
        let mut settled = incoming.settled().await?;
        // It is brought with others, which may take a while yet: no client's 250 waits for it.
        settled.holding.expected = None;
        settled.holding.name = Some(name);
        if settled.length != record.length || settled.checksum != record.checksum {
            return Err(QueueError::Damaged(record.id, "its body is not the one that its record tells of".to_owned()));
        }
        Ok(Arrived { how: How::Brought(Box::new((record, settled))) })
    }
}
