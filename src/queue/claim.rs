//! The exclusive right to try one message, until its lease runs out.
//!
//! Dropping a [`Claim`] does nothing, on purpose: it happens when a delivery panics or is cancelled, perhaps after the upstream had the last octet.
//! To give the message out at once would make a duplicate, or a loop of panics; when the lease has run out it is given out again, with a
//! higher fencing number, and the old claim can record nothing any more. Whoever survives a panic may go on with its [`StandIn`].

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use xxhash_rust::xxh3::Xxh3;

use super::at_hand::BodyAtHand;
use super::gather::{Brings, Expected};
use super::record::State;
use super::settings::PIECE;
use super::store::{
    AtHand, DuePlace, Late, Listed, NewBody, NewMessage, Next, Order, Reading, Store, Ticket, Tried, Work,
};
use super::writer::Holding;
use super::{Deposit, Inner, QueueError, Record};
use crate::mail::QueueId;

/// How long an outcome that could not be recorded waits to be recorded again: at first, and at the most.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What came of an attempt, and what follows.
#[derive(Clone, Debug)]
pub struct Conclusion {
    /// The recipients that were tried.
    pub outcomes: Vec<Tried>,
    /// What is to become of the message.
    pub next: Next,
    /// A report that is kept in the same transaction as the outcome: its envelope and its octets. Neither is ever there without the other.
    pub report: Option<(Deposit, Vec<u8>)>,
    /// Whether the sender has now been told of the delay.
    pub warned: bool,
}

/// The exclusive right to try one message.
#[derive(Debug)]
pub struct Claim {
    queue: Arc<Inner>,
    ticket: Ticket,
    record: Box<Record>,
    /// Its octets, where they need not be read.
    body: Option<BodyAtHand>,
    /// The writer may wait for what comes of it.
    expected: Expected,
}

impl Claim {
    pub(super) fn new(queue: Arc<Inner>, ticket: Ticket, record: Box<Record>) -> Self {
        let expected = queue.coming.expect(Brings::Outcome);
        let body = queue.store.body_at_hand(ticket.id);
        Self { queue, ticket, record, body, expected }
    }

    /// The message's name.
    pub fn id(&self) -> QueueId {
        self.ticket.id
    }

    /// The same claim, for who has to go on when the task that has this one ends before its time. Never both are used.
    pub fn stand_in(&self) -> StandIn {
        StandIn { queue: Arc::clone(&self.queue), ticket: self.ticket }
    }

    #[cfg(test)]
    pub(super) fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// What was known of it when it was claimed.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Its octets, from the first on.
    pub fn body(&self) -> BodyReader {
        let reader = BodyReader::new(Arc::clone(&self.queue), &self.record, Some(self.ticket));
        BodyReader { at_hand: self.body.as_ref().map(BodyAtHand::octets), ..reader }
    }

    /// Prolongs the lease by its whole length from now.
    ///
    /// # Errors
    ///
    /// [`QueueError::Fenced`]: it had run out, and somebody else has the message.
    pub fn renew(&self) -> Result<(), QueueError> {
        self.queue.store.renew(self.ticket, self.queue.clock.now())
    }

    /// Gives the claim back for so long: nothing was tried, and nobody is to try it before, unless [`super::Queue::recall`] says so. Nothing is
    /// written, so a restart forgets it.
    pub fn put_off(self, wait: Duration) {
        self.queue.store.put_off(self.ticket, self.queue.clock.now().mono.after(wait));
        self.queue.work.notify_waiters();
    }

    /// The same without a word to those who wait for a claim: for a message that is given out to who names it ([`super::Queue::claim_one`]).
    pub fn park(self, wait: Duration) {
        self.queue.store.put_off(self.ticket, self.queue.clock.now().mono.after(wait));
    }

    /// Gives the claim back at once: nothing was tried, and its turn is as it was.
    pub fn give_back(self) {
        self.queue.store.unclaim(self.ticket);
        self.queue.work.notify_waiters();
    }

    /// Records what came of the attempt, and the report on it; returns the report's name. On stable storage when this returns. Dropping the future
    /// does not undo it.
    ///
    /// # Errors
    ///
    /// [`QueueError::Fenced`]: somebody else has claimed it, nothing was recorded. [`QueueError::NotFound`]: an operator has removed it; so was
    /// nothing of this conclusion. [`QueueError::Full`], [`QueueError::Broken`]: nothing was recorded; when the lease runs out it is tried again.
    pub async fn conclude(self, conclusion: Conclusion) -> Result<Option<QueueId>, QueueError> {
        let report = conclusion.report.is_some().then(|| self.queue.new_id());
        let Self { queue, ticket, expected, .. } = self;
        let in_hand = InHand::take(&queue, ticket);
        record(&queue, &in_hand, Some(expected), conclusion, report).await
    }

    /// The same, again and again while the store fails or is full: what came of an attempt is known here alone, and who has the message would be sent
    /// it again. Nobody else has it meanwhile. It is tried at growing intervals, and as soon as anything else was written; each second once the
    /// queue's end has begun ([`super::Queue::begin_end`]).
    ///
    /// # Errors
    ///
    /// [`QueueError::Fenced`], [`QueueError::NotFound`] as above; [`QueueError::Closed`].
    pub async fn conclude_surely(self, conclusion: Conclusion) -> Result<Option<QueueId>, QueueError> {
        let report = conclusion.report.is_some().then(|| self.queue.new_id());
        let Self { queue, ticket, expected, .. } = self;
        let mut expected = Some(expected);
        let in_hand = InHand::take(&queue, ticket);
        let mut patience = Patience::new();
        loop {
            // From here on it is heard when anything is written.
            let mut well = pin!(queue.committing.well.notified());
            well.as_mut().enable();
            match record(&queue, &in_hand, expected.take(), conclusion.clone(), report).await {
                Err(fault @ (QueueError::Full(_) | QueueError::Broken(_))) => {
                    patience.wait(&queue, ticket.id, &fault, well).await
                }
                // What seemed to fail may have been on the disk: then this was told at once, and nothing was recorded twice.
                recorded => return recorded,
            }
        }
    }

    /// The attempt is over, and something is waited for before it can be concluded: another of its identity may begin. To be kept until then; meanwhile
    /// the lease does not run out.
    pub fn attempt_is_over(&self) -> Over {
        Over { _in_hand: InHand::take(&self.queue, self.ticket) }
    }

    /// Records who has the message by now, and who may have it, while the attempt goes on, and the report that tells of the former; returns the report's
    /// name. The claim stays as it is. Tried again and again like [`Self::conclude_surely`]: what stands on the disk already is not recorded twice, and
    /// neither is its report.
    ///
    /// # Errors
    ///
    /// As of [`Self::conclude_surely`].
    pub async fn note(
        &self,
        outcomes: Vec<Tried>,
        report: Option<(Deposit, Vec<u8>)>,
    ) -> Result<Option<QueueId>, QueueError> {
        let id = report.is_some().then(|| self.queue.new_id());
        let (queue, ticket, mut patience) = (&*self.queue, self.ticket, Patience::new());
        loop {
            let mut well = pin!(queue.committing.well.notified());
            well.as_mut().enable();
            let (outcomes, report) = (outcomes.clone(), kept_report(report.clone(), id));
            match queue.writer.submit(Order::Note { ticket, outcomes, report }, Holding::default()).await {
                Err(fault @ (QueueError::Full(_) | QueueError::Broken(_))) => {
                    patience.wait(queue, ticket.id, &fault, well).await
                }
                Err(fault) => return Err(fault),
                Ok(_) => return Ok(id),
            }
        }
    }
}

/// How long what can't be recorded waits until it is tried again: longer each time, until anything else was written; each second once the queue's end has
/// begun.
struct Patience {
    wait: Duration,
}

impl Patience {
    fn new() -> Self {
        Self { wait: AGAIN.0 }
    }

    async fn wait(&mut self, queue: &Inner, id: QueueId, fault: &QueueError, well: Pin<&mut Notified<'_>>) {
        if let Some(unsaid) = queue.unrecorded.say(queue.clock.now().mono) {
            tracing::error!(%id, %fault, unsaid, "what came of an attempt can't be recorded; it is kept, and recorded again");
        }
        // Never sooner: where there is room for others and none for this, each commit of theirs would bring this again.
        tokio::time::sleep(AGAIN.0).await;
        if !queue.committing.is_ending() {
            tokio::time::timeout(self.wait.saturating_sub(AGAIN.0), well).await.ok();
        }
        self.wait = self.wait.saturating_mul(2).min(AGAIN.1);
    }
}

/// See [`Claim::attempt_is_over`].
#[derive(Debug)]
pub struct Over {
    _in_hand: Arc<InHand>,
}

/// A claim whose holder may come to grief.
#[derive(Debug)]
pub struct StandIn {
    queue: Arc<Inner>,
    ticket: Ticket,
}

impl StandIn {
    /// The message's name.
    pub fn id(&self) -> QueueId {
        self.ticket.id
    }

    /// The claim, with the record as it is now; none when the claim is over, or the message is queued no more.
    ///
    /// # Errors
    ///
    /// [`QueueError::Broken`]: the disk fails.
    pub async fn claim(self) -> Result<Option<Claim>, QueueError> {
        let Self { queue, ticket } = self;
        if !queue.store.is_current(ticket) {
            return Ok(None);
        }
        let store = Arc::clone(&queue.store);
        match queue.work_on(move || store.show(ticket.id)).await? {
            Ok(Listed::Message(record)) if record.state == State::Queued => Ok(Some(Claim::new(queue, ticket, record))),
            Ok(Listed::Message(_) | Listed::Unreadable(..)) | Err(QueueError::NotFound(_)) => Ok(None),
            Err(fault) => Err(fault),
        }
    }
}

/// What came of an attempt, in the hands of whoever waits for it to be recorded and of the writer. The lease does not run out before both have laid
/// it down.
pub(super) struct InHand {
    store: Arc<dyn Store>,
    ticket: Ticket,
}

impl std::fmt::Debug for InHand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("InHand").field(&self.ticket).finish()
    }
}

impl InHand {
    fn take(queue: &Inner, ticket: Ticket) -> Arc<Self> {
        // The connection is free while the outcome is written.
        queue.store.over(ticket);
        queue.work.notify_waiters();
        Arc::new(Self { store: Arc::clone(&queue.store), ticket })
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        self.store.lay_down(self.ticket);
    }
}

/// Hands a conclusion over; `report` is the report's name.
async fn record(
    queue: &Inner,
    in_hand: &Arc<InHand>,
    expected: Option<Expected>,
    conclusion: Conclusion,
    report: Option<QueueId>,
) -> Result<Option<QueueId>, QueueError> {
    let id = report;
    let Conclusion { outcomes, next, report, warned } = conclusion;
    let report = kept_report(report, id);
    let order = Order::Conclude { ticket: in_hand.ticket, outcomes, next, warned, report };
    let holding = Holding { expected, in_hand: Some(Arc::clone(in_hand)), ..Holding::default() };
    queue.writer.submit(order, holding).await?;
    Ok(id)
}

/// A report as a message to be kept, by this name.
fn kept_report(report: Option<(Deposit, Vec<u8>)>, id: Option<QueueId>) -> Option<Box<NewMessage>> {
    report.zip(id).map(|((deposit, octets), id)| {
        let length = u64::try_from(octets.len()).unwrap_or(u64::MAX);
        let record = Record::new(id, deposit, length, xxhash_rust::xxh3::xxh3_64(&octets));
        let body = NewBody::Octets(octets);
        Box::new(NewMessage { record, body, spending: None, sighting: None, mark: None, account: None })
    })
}

/// A message's octets, piece by piece, each read in a transaction of its own.
///
/// The last piece is handed out only when the whole agrees with its checksum: nobody ever has a damaged message whole.
pub struct BodyReader {
    queue: Arc<Inner>,
    id: QueueId,
    /// The claim under which it is read; without one, damage is told and nothing else.
    ticket: Option<Ticket>,
    /// The octets, where they need not be read.
    at_hand: Option<Bytes>,
    length: u64,
    checksum: u64,
    offset: u64,
    sum: Box<Xxh3>,
}

impl std::fmt::Debug for BodyReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BodyReader").field("id", &self.id).field("offset", &self.offset).finish_non_exhaustive()
    }
}

impl BodyReader {
    pub(super) fn new(queue: Arc<Inner>, record: &Record, ticket: Option<Ticket>) -> Self {
        Self {
            queue,
            id: record.id,
            ticket,
            at_hand: None,
            length: record.length,
            checksum: record.checksum,
            offset: 0,
            sum: Box::new(Xxh3::new()),
        }
    }

    /// Octets of the whole body.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The next piece, never empty; none at the end. Cancel-safe: a dropped future has read nothing. A store that has failed is opened again for it; when
    /// that fails too, the same piece may be asked for later.
    ///
    /// # Errors
    ///
    /// [`QueueError::Damaged`]: what is kept is not what was received; the message has been set aside as dead, and the claim is
    /// over.
    /// [`QueueError::NotFound`]: it was removed meanwhile. [`QueueError::Broken`]: the disk fails.
    pub async fn next(&mut self) -> Result<Option<Bytes>, QueueError> {
        if self.offset >= self.length {
            return Ok(None);
        }
        if let Some(octets) = &self.at_hand {
            // An operator may have taken it away meanwhile.
            return match self.ticket.is_none_or(|ticket| self.queue.store.is_current(ticket)) {
                true => self.checked(piece_of(octets, self.offset)).map(Some),
                false => Err(QueueError::NotFound(self.id)),
            };
        }
        let read = match self.read().await? {
            Err(QueueError::Broken(_)) => {
                // Only the writer opens the store again.
                self.queue.writer.submit(Order::Mend, Holding::default()).await?;
                self.read().await?
            }
            read => read,
        };
        match read.and_then(|piece| self.checked(Bytes::from(piece))) {
            Err(QueueError::Damaged(id, reason)) => {
                if let Some(ticket) = self.ticket {
                    self.queue.set_aside(ticket, &reason).await;
                }
                Err(QueueError::Damaged(id, reason))
            }
            other => other.map(Some),
        }
    }

    async fn read(&self) -> Result<Result<Vec<u8>, QueueError>, QueueError> {
        let (store, id, offset) = (Arc::clone(&self.queue.store), self.id, self.offset);
        self.queue.work_on(move || store.piece(id, offset)).await
    }

    /// Begins again at the first octet.
    pub fn rewind(&mut self) {
        self.offset = 0;
        self.sum.reset();
    }

    fn checked(&mut self, piece: Bytes) -> Result<Bytes, QueueError> {
        let damaged = |what: &str| Err(QueueError::Damaged(self.id, what.to_owned()));
        let end = self.offset.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        if piece.is_empty() || end > self.length {
            return damaged("its body has another length than its record says");
        }
        self.sum.update(&piece);
        if end == self.length && self.sum.digest() != self.checksum {
            return damaged("its body fails its checksum");
        }
        self.offset = end;
        Ok(piece)
    }
}

/// As much of the octets from there on as is handed out at once.
fn piece_of(octets: &Bytes, offset: u64) -> Bytes {
    let from = usize::try_from(offset).unwrap_or(usize::MAX).min(octets.len());
    octets.slice(from..from.saturating_add(PIECE).min(octets.len()))
}

/// Whether what is known of a message that was taken has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IsRead {
    Yes,
    NotYet,
}

/// Work that was taken from the store and has not reached anybody yet: dropped, it is given back.
pub(super) struct Taken {
    store: Arc<dyn Store>,
    bell: Arc<Notify>,
    work: Option<Work>,
}

impl Taken {
    /// Runs on the pool.
    pub(super) fn take(queue: &Inner, reading: Reading) -> Result<Self, QueueError> {
        let work = queue.store.claim(queue.clock.now(), reading)?;
        Ok(Self { store: Arc::clone(&queue.store), bell: Arc::clone(&queue.work), work: Some(work) })
    }

    /// The same without a wait, and whether it has to be read yet; none when it takes a wait to know.
    pub(super) fn take_at_hand(queue: &Inner) -> Option<(Self, IsRead)> {
        let (work, is_read) = match queue.store.claim_at_hand(queue.clock.now()) {
            AtHand::Unknown => return None,
            AtHand::Work(work) => (work, IsRead::Yes),
            AtHand::Unread(ticket) => (Work::Unreadable(ticket, String::new()), IsRead::NotYet),
        };
        Some((Self { store: Arc::clone(&queue.store), bell: Arc::clone(&queue.work), work: Some(work) }, is_read))
    }

    /// Runs on the pool: reads it; none when it stands elsewhere now.
    pub(super) fn read(mut self, queue: &Inner, reading: Reading) -> Result<Option<Self>, QueueError> {
        // From here on the store sees to it that the claim ends.
        let Some(Work::Claimed(ticket, _) | Work::Unreadable(ticket, _)) = self.work.take() else { return Ok(None) };
        self.work = queue.store.read_claimed(ticket, queue.clock.now(), reading)?;
        Ok(self.work.is_some().then_some(self))
    }

    /// The same for a message that is named.
    pub(super) fn take_one(queue: &Inner, id: QueueId) -> Result<Self, QueueError> {
        let work = queue.store.claim_one(id, queue.clock.now())?;
        Ok(Self { store: Arc::clone(&queue.store), bell: Arc::clone(&queue.work), work: Some(work) })
    }

    /// The same for a message that is late.
    pub(super) fn take_late(
        queue: &Inner,
        late: Late,
        after: Option<DuePlace>,
    ) -> Result<(Self, Option<DuePlace>), QueueError> {
        let (work, next) = queue.store.claim_late(queue.clock.now(), late, after)?;
        Ok((Self { store: Arc::clone(&queue.store), bell: Arc::clone(&queue.work), work: Some(work) }, next))
    }

    pub(super) fn work(mut self) -> Work {
        self.work.take().unwrap_or(Work::Nothing(None))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(Work::Claimed(ticket, _) | Work::Unreadable(ticket, _)) = &self.work {
            self.store.unclaim(*ticket);
            self.bell.notify_waiters();
        }
    }
}
