//! A message being received: its octets gather in memory, or go to a file of their own when there are many of them or memory is short.
//!
//! Its header section is read before any of it is written here, and is held by the same share of memory meanwhile ([`Incoming::make_room`]); judged, it is
//! handed over as it is ([`Incoming::begin`]), so that none of it counts twice.
//! Dropped before [`Incoming::commit`] has handed it over, it leaves nothing.

use std::io;
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use super::accounts::Spending;
use super::budget::Granted;
use super::gather::{Brings, Expected};
use super::seen::{Mark, Sighting};
use super::settings::{BODY_SYNC_WAIT, COMMIT_WAIT, GATHER_MAX, GRANTED_MEMORY, SCARCE_MEMORY};
use super::store::{NewBody, NewMessage, Order, Tried};
use super::sweeper::BodyFile;
use super::writer::Holding;
use super::{Deposit, HeldBy, Inner, QueueError, Record};
use crate::mail::{Custody, QueueId};
use crate::sys::disk::Open;
use crate::sys::{DiskFile, WallTime};

/// A message being received.
#[derive(Debug)]
#[must_use = "dropped, it leaves nothing"]
pub struct Incoming {
    pub(super) queue: Arc<Inner>,
    id: QueueId,
    pub(super) granted: Granted,
    /// The writer may wait for it.
    expected: Expected,
    /// The whole body so far, or what is not yet in the file.
    pub(super) gathered: Vec<u8>,
    pub(super) file: Option<BeingWritten>,
    length: u64,
    sum: Sum,
    condition: Condition,
    spending: Option<Spending>,
    held: Option<String>,
    tried: Option<FirstAttempt>,
    sighting: Option<Sighting>,
    mark: Option<Mark>,
}

/// What came of an attempt that was made before the message was kept.
#[derive(Debug)]
struct FirstAttempt {
    outcomes: Vec<Tried>,
    due: WallTime,
}

/// A message that has been received whole.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) body: NewBody,
    pub(super) length: u64,
    pub(super) checksum: u64,
    pub(super) holding: Holding,
}

/// Whether all that was written is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Whole,
    /// A write failed, or its future was dropped half-way.
    Torn,
}

#[derive(Clone, Debug)]
pub(super) struct BeingWritten {
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) written: u64,
    name: Arc<std::sync::Mutex<Option<BodyFile>>>,
}

struct Sum(Box<Xxh3>);

impl std::fmt::Debug for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sum({:016x})", self.0.digest())
    }
}

impl Incoming {
    pub(super) fn new(queue: Arc<Inner>, id: QueueId, granted: Granted) -> Self {
        let expected = queue.coming.expect(Brings::Message);
        Self {
            queue,
            id,
            granted,
            expected,
            gathered: Vec::new(),
            file: None,
            length: 0,
            sum: Sum(Box::new(Xxh3::new())),
            condition: Condition::Whole,
            spending: None,
            held: None,
            tried: None,
            sighting: None,
            mark: None,
        }
    }

    /// The name it will have in the queue.
    pub fn id(&self) -> QueueId {
        self.id
    }

    /// What the message costs: written in the transaction that keeps it, given back when it is not kept.
    pub fn charge(&mut self, spending: Spending) {
        self.spending = Some(spending);
    }

    /// When it is kept, it is held as well, in the same transaction: nobody tries it before an operator has released it.
    pub fn hold(&mut self, reason: String) {
        self.held = Some(reason);
    }

    /// An upstream was asked while the client waited: when the message is kept, this is known of its recipients in the same transaction, and it is tried again at
    /// `due`. Who has failed is to be told of by the next attempt, and is not named here.
    pub fn tried(&mut self, outcomes: Vec<Tried>, due: WallTime) {
        self.tried = Some(FirstAttempt { outcomes, due });
    }

    /// The certificate that it is sent with: noted in the transaction that keeps the message.
    pub fn see(&mut self, sighting: Sighting) {
        self.sighting = Some(sighting);
    }

    /// What the message tells of a certificate: noted in the transaction that keeps it.
    pub fn mark(&mut self, mark: Mark) {
        self.mark = Some(mark);
    }

    /// Octets written so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Asks for memory for its header section, which is being read and of which nothing is written yet: `octets` in all. What every message is granted holds most
    /// of them, without a word to anybody. Waits as long as the settings say; that is ours, and not the client's.
    ///
    /// # Errors
    ///
    /// [`QueueError::Full`], or of its identity's share [`QueueError::Share`], when there is none in time: `452 4.3.1`.
    pub async fn make_room(&mut self, octets: usize) -> Result<(), QueueError> {
        let needed = u64::try_from(octets).unwrap_or(u64::MAX).saturating_add(self.granted.envelope);
        if needed <= self.granted.memory.octets() {
            return Ok(());
        }
        let mut short = None;
        let extending = self.granted.extend(&self.queue.budgets.memory, needed, &mut short);
        let extended = tokio::time::timeout(self.queue.settings.wait, extending).await;
        extended.map_err(|_| match short {
            Some(shortage) => shortage.refusal(),
            None => QueueError::Full("waited in vain for memory for a header section (queue.memory)".to_owned()),
        })
    }

    /// The first of its octets: its header section, taken over and not copied.
    ///
    /// # Errors
    ///
    /// As [`Self::write`].
    pub async fn begin(&mut self, octets: Vec<u8>) -> Result<(), QueueError> {
        if self.length > 0 {
            return self.write(&octets).await;
        }
        self.sound()?;
        let length = u64::try_from(octets.len()).unwrap_or(u64::MAX);
        self.find_place(length).await?;
        self.sum.0.update(&octets);
        self.gathered = octets;
        if !self.fits(self.gathered.len(), self.gathered.capacity()) {
            self.flush().await?;
        }
        self.length = length;
        self.condition = Condition::Whole;
        Ok(())
    }

    /// Adds octets. Waits while the disk writes them: whoever reads from the client stops meanwhile, and TCP holds the client back.
    ///
    /// # Errors
    ///
    /// [`QueueError::Full`] when the queue or the disk has no room for them; [`QueueError::Broken`] when the disk fails. Nothing more can be
    /// written or committed then.
    pub async fn write(&mut self, octets: &[u8]) -> Result<(), QueueError> {
        self.sound()?;
        let length = self.length.saturating_add(u64::try_from(octets.len()).unwrap_or(u64::MAX));
        self.find_place(length).await?;
        // None is larger than the least that a message keeps.
        for piece in octets.chunks(SCARCE_MEMORY) {
            self.gather(piece).await?;
        }
        self.sum.0.update(octets);
        self.length = length;
        self.condition = Condition::Whole;
        Ok(())
    }

    /// Whole until proven otherwise, and torn until then: a future dropped at any point in between leaves it so.
    fn sound(&mut self) -> Result<(), QueueError> {
        match std::mem::replace(&mut self.condition, Condition::Torn) {
            Condition::Whole => Ok(()),
            Condition::Torn => Err(QueueError::Broken("an earlier write of this message failed".to_owned())),
        }
    }

    /// Room in the queue for a body of so many octets.
    async fn find_place(&mut self, length: u64) -> Result<(), QueueError> {
        let all = length.saturating_add(self.granted.envelope);
        if all > self.granted.place.octets() {
            self.queue.enlarge(&mut self.granted.place, all).await?;
        }
        Ok(())
    }

    async fn gather(&mut self, piece: &[u8]) -> Result<(), QueueError> {
        let gathered = self.gathered.len().saturating_add(piece.len());
        let held = held_for(gathered, self.gathered.capacity());
        if !self.fits(gathered, held) {
            self.flush().await?;
        }
        let buffer = if self.file.is_some() && self.gathered.is_empty() {
            // Nothing beyond what was granted, and no growing by and by: of many buffers of one size each takes another's place.
            let granted = self.granted.memory.octets().saturating_sub(self.granted.envelope);
            usize::try_from(granted).unwrap_or(GRANTED_MEMORY).min(GRANTED_MEMORY)
        } else {
            held
        };
        self.gathered.reserve_exact(buffer.saturating_sub(self.gathered.len()));
        self.gathered.extend_from_slice(piece);
        Ok(())
    }

    /// Whether so many octets may stand in memory, in a buffer that holds so much; its share of it made larger where that can be had at once.
    fn fits(&mut self, gathered: usize, held: usize) -> bool {
        let needed = u64::try_from(held).unwrap_or(u64::MAX).saturating_add(self.granted.envelope);
        if self.file.is_some() {
            return needed <= self.granted.memory.octets();
        }
        // A long header's share may be larger than what goes to the file of messages.
        gathered <= GATHER_MAX
            && (needed <= self.granted.memory.octets() || self.granted.enlarge(&self.queue.budgets.memory, needed))
    }

    /// Writes what has gathered to the message's file, making it when there is none.
    async fn flush(&mut self) -> Result<(), QueueError> {
        let gathered = std::mem::take(&mut self.gathered);
        let (queue, id, known) = (Arc::clone(&self.queue), self.id, self.file.clone());
        let written = self.queue.work_on(move || queue.write_body(id, known, &gathered)).await?;
        self.file = Some(written.map_err(|fault| QueueError::from_io(&fault))?);
        // What had gathered is in the file, and others wait for what it took.
        let buffer = if self.queue.budgets.memory.is_scarce() { SCARCE_MEMORY } else { GATHER_MAX };
        self.granted.shrink(u64::try_from(buffer).unwrap_or(u64::MAX).saturating_add(self.granted.envelope));
        Ok(())
    }

    /// Puts the message on stable storage. When this returns, it is kept: only now may anybody say 250.
    ///
    /// Dropping the future does not undo it: once the writer has it, the message is kept, and until then nothing is left of it.
    ///
    /// # Errors
    ///
    /// [`QueueError::Full`], [`QueueError::Broken`]: it is not kept, the client must come again.
    pub async fn commit(mut self, deposit: Deposit) -> Result<Custody, QueueError> {
        let (queue, id) = (Arc::clone(&self.queue), self.id);
        let (spending, held, tried) = (self.spending.take(), self.held.take(), self.tried.take());
        let (sighting, mark) = (self.sighting.take(), self.mark.take());
        // Of our own mail it was said whom it is about when room was asked for.
        let account = deposit.custodian.is_ours().then(|| self.granted.place.identity().to_string());
        let Settled { body, length, checksum, holding } = self.settled().await?;
        let mut record = Record::new(id, deposit, length, checksum);
        if let Some(reason) = held {
            record.hold(HeldBy::Grant, Some(reason));
        }
        if let Some(FirstAttempt { outcomes, due }) = tried {
            record.was_tried(&outcomes, queue.clock.now().wall, due);
        }
        let recipients = record.recipients.len();
        let noted = sighting.as_ref().map(|sighting| (sighting.identity.clone(), sighting.fingerprint));
        let order = Order::Deposit(Box::new(NewMessage { record, body, spending, sighting, mark, account }));
        queue.writer.submit_or_take_back(order, holding, &queue.committing).await?;
        if let Some((identity, fingerprint)) = noted {
            queue.lately.note(&identity, fingerprint, queue.clock.now().mono);
        }
        Ok(Custody::spooled(id, recipients))
    }

    /// Whether all that was written is here, and the checksum of it.
    pub(super) fn sum(&self) -> Option<u64> {
        (self.condition == Condition::Whole).then(|| self.sum.0.digest())
    }

    /// All that was written, ready to be handed over.
    pub(super) async fn settled(mut self) -> Result<Settled, QueueError> {
        self.sound()?;
        let body = self.settle().await?;
        let waiting = match &body {
            NewBody::Octets(octets) => u64::try_from(octets.len()).unwrap_or(u64::MAX),
            NewBody::File(_) => 0,
        };
        let Self { queue, granted, expected, length, sum, .. } = self;
        let backlog = tokio::time::timeout(COMMIT_WAIT, queue.budgets.backlog.take(waiting)).await;
        let backlog = backlog.map_err(|_| QueueError::Full("the disk does not keep up".to_owned()))?;
        let (granted, backlog, expected) = (Some(granted), Some(backlog), Some(expected));
        let holding = Holding { granted, backlog, expected, ..Holding::default() };
        Ok(Settled { body, length, checksum: sum.0.digest(), holding })
    }

    /// The body as the store takes it: a file is synced, with its folder, before any record names it.
    async fn settle(&mut self) -> Result<NewBody, QueueError> {
        if self.file.is_none() {
            return Ok(NewBody::Octets(std::mem::take(&mut self.gathered)));
        }
        self.flush().await?;
        let Some(BeingWritten { file, name, .. }) = self.file.take() else {
            return Err(QueueError::Broken("the body file went away".to_owned()));
        };
        let queue = Arc::clone(&self.queue);
        let synced = self.queue.work_on(move || {
            file.sync()?;
            queue.disk.sync_folder(queue.sweeper.folder())
        });
        // It goes on; whoever says then that it is done is heard by nobody, and the file goes.
        let synced = tokio::time::timeout(BODY_SYNC_WAIT, synced).await;
        let synced = synced.map_err(|_| QueueError::Full("the disk does not finish the sync of a body".to_owned()))?;
        synced?.map_err(|fault| QueueError::from_io(&fault))?;
        let named = name.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        named.map(NewBody::File).ok_or_else(|| QueueError::Broken("the body file went away".to_owned()))
    }
}

/// How large the buffer for so many octets is to be, that holds so much so far. Within what every message is granted it grows as buffers do, and
/// beyond by as much again each time: what it holds is what is counted, and no more than that over what stands in it.
fn held_for(gathered: usize, held: usize) -> usize {
    if gathered <= held {
        held
    } else if gathered <= GRANTED_MEMORY {
        held.saturating_mul(2).clamp(gathered, GRANTED_MEMORY)
    } else {
        gathered.checked_next_multiple_of(GRANTED_MEMORY).unwrap_or(gathered)
    }
}

impl Inner {
    /// Runs on the pool. The name is in the answer, so that it is removed when nobody waits for the answer any more.
    fn write_body(&self, id: QueueId, known: Option<BeingWritten>, octets: &[u8]) -> io::Result<BeingWritten> {
        let mut body = match known {
            Some(body) => body,
            None => {
                let file = self.gauge.over(self.disk.open(&self.sweeper.path(id), Open::New)?);
                let name = BodyFile::new(id, self.sweeper.clone());
                BeingWritten { file: Arc::from(file), written: 0, name: Arc::new(std::sync::Mutex::new(Some(name))) }
            }
        };
        body.file.write_at(body.written, octets)?;
        body.written = body.written.saturating_add(u64::try_from(octets.len()).unwrap_or(u64::MAX));
        Ok(body)
    }
}
