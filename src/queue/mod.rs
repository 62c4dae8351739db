//! The queue: custody between the client's 250 and the upstream's.
//!
//! A message enters by [`Queue::admit`], [`Incoming::write`], [`Incoming::commit`], and leaves by [`Queue::claim`], [`Claim::conclude`].
//!
//! # States
//!
//! ```text
//! state      on the disk                      leaves it by                                  test
//! receiving  nothing, or a body file          commit -> queued, held; drop, crash ->        what_is_dropped_before_its_commit_leaves_nothing
//!                                             nothing
//! queued     record, its turn, body           claim and conclude -> queued later, gone,     many_at_once_are_all_kept_and_all_delivered
//!                                             dead, held; hold -> held
//! claimed    as queued; the claim is in       conclude, with the highest fencing number     an_old_fencing_number_records_nothing
//!            memory                           its lease runs out, crash -> queued           a_dropped_claim_is_given_out_again_when_its_lease_has_run_out_and_not_before
//!                                             renew -> claimed                              a_renewed_claim_outlives_its_first_lease
//!                                             note who has it by now -> claimed             who_has_it_by_now_is_noted_once_and_the_claim_goes_on
//!                                             put off -> queued, nobody's turn for a while  a_claim_that_is_put_off_writes_nothing_and_comes_back_in_time_when_recalled_or_when_asked_for
//! held       record, body                     release -> queued, due now                    a_held_message_stays_held_through_the_attempt_under_way
//! dead       record with its reason, body     retry -> queued, due now                      a_dead_message_that_is_retried_goes_to_those_who_do_not_have_it
//! gone       nothing, or a body file          -                                             when_memory_is_short_a_body_goes_to_a_file
//! any        -                                remove -> gone                                without_faults_the_queue_does_what_the_model_does
//! elsewhere  nothing, or a body file          adopt -> as it was there                      what_is_brought_again_is_not_there_twice_even_when_it_has_gone
//! any        -                                leave -> elsewhere                            of_two_receipts_that_cross_the_older_one_removes_nothing
//! ```
//!
//! What a conclusion says and the report on it are one transaction. A claimed message that an operator holds or removes: the outcome of the
//! attempt under way is still recorded in the first case, and finds nothing in the second. Whose turn it is: `turns`.
//!
//! # What a crash leaves, and what it means
//!
//! ```text
//! leftover                           meaning, recovery                                      test
//! store.redb.new, another            the store was being made, or written anew              a_compaction_that_is_cut_off_anywhere_changes_nothing
//! messages-N than store.redb says    (compact, or an older format); removed
//! store.redb not closed              a crash; redb has the last whole transaction; said     a_start_after_a_crash_is_told_from_one_after_a_close
//!                                    in Recovery::after_crash
//! body file, no record               never answered 250, or finished; removed               recovery_removes_what_has_no_record_and_sets_aside_what_has_no_body
//! record, body file missing, short   a disk that lost what it had synced, or a commit that  recovery_removes_what_has_no_record_and_sets_aside_what_has_no_body
//!                                    failed (its client heard 452); dead, with the reason,
//!                                    told in Recovery
//! octets in messages-N that no       never answered 250, or finished; the room is given     what_has_gone_leaves_room_that_is_used_at_once
//! row of store.redb names            out again
//! row that names what is another's,  damage; the message is dead, with the reason, told in  a_message_that_lies_where_another_does_is_set_aside_and_the_others_go_on
//! or what is not there               Recovery; the others go on                             what_lies_behind_the_end_of_the_file_of_messages_is_set_aside
//! store.redb without messages-N      somebody's mistake; nothing is opened                  without_its_file_of_messages_a_store_that_has_some_is_not_opened
//! row of store.redb fails its        damage; written anew from its sum or from its record,  a_damaged_row_is_written_anew_from_its_sum_or_from_its_record
//! checksum                           where these prove it; else dead; told in Recovery
//! store.redb whose pages lead        damage; nothing is opened, and it is said what can be  whatever_octet_of_the_index_is_wrong_all_others_are_given_out_or_it_is_refused_by_name
//! nowhere                            done
//! record, body that the disk fails   damage when a new opening fails to, too; dead          what_the_disk_fails_to_read_is_one_message_and_all_others_go_on
//! to read                            until it is tried again (`shelf`), the others go on
//! body fails its checksum            damage; dead when next read, the others go on          a_damaged_body_is_set_aside_and_the_others_go_on
//! record fails its checksum          damage; dead in its turn, the others go on             a_damaged_record_is_set_aside_listed_and_can_be_removed
//! message whose commit failed        its client heard 452, but the sync had reached the     any_one_operation_that_fails_is_survived_without_a_restart
//!                                    disk; disowned, taken out when the store is opened
//!                                    again
//! bodies without store.redb          somebody's mistake; nothing is opened, nothing removed bodies_without_a_store_are_not_thrown_away
//! store of an older format           it is written anew beside itself, and then counts      a_store_of_before_that_is_cut_off_while_it_is_written_anew_is_whole
//! store of a newer format            nothing is opened                                      a_newer_store_is_refused_by_name
//! lock                               nothing: the kernel gives it back with the process     a_second_process_is_told_that_the_folder_is_taken
//! folder taken away or read-only     452 until it is there again                            a_folder_that_is_taken_away_or_read_only_takes_no_mail_until_it_is_back
//! ```
//!
//! What is damaged is looked for whenever the store is opened, at a start and after a failure: no message stops the others until somebody restarts the relay.
//!
//! That a commit failed has one window: when the power goes between it and the re-opening, the message is kept although its client heard 452. Which messages
//! those are is in memory alone; so the same is true when the relay is stopped, however orderly, or killed, while the disk is still too bad for the store to be
//! opened again. It will arrive twice, and is not lost.
//!
//! Never: says that something is kept before it is on stable storage; retries a sync; drops a damaged message.

pub mod brief;
pub mod fill;
pub mod record;
pub mod schedule;
pub mod seen;
pub mod settings;
pub mod steer;
pub mod store;
pub mod transfer;

mod accounts;
mod adoptions;
mod anew;
mod at_hand;
mod budget;
mod claim;
mod claims;
mod codec;
mod compact;
mod earlier;
mod embedded;
mod gather;
mod gauge;
mod incoming;
mod index;
mod ledger;
mod listing;
mod losses;
mod obey;
mod octets;
mod pledges;
mod reading;
mod recover;
mod row;
mod shelf;
mod shortage;
mod space;
mod stall;
mod stock;
mod storage;
mod sweeper;
mod tables;
mod turns;
mod unsent;
mod witness;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};

use crate::mail::{Cost, Envelope, QueueId, Rates};
use crate::sys::{Clock, Disk, Entropy, Throttle};

pub use accounts::Spending;
pub use brief::{Brief, Sketch};
pub use budget::EnvelopeRoom;
pub use claim::{BodyReader, Claim, Conclusion};
pub use compact::{Compaction, Progress};
pub use fill::Fill;
pub use incoming::Incoming;
pub use record::{
    Custodian, HeldBy, Link, NO_UPSTREAM, Outcome, REPORTS, Recheck, RecipientState, Record, State, TraceFacts,
    UNHEARD, Vouched,
};
pub use recover::{OpenError, Owned, Recovery};
pub use schedule::{Plan, Schedule, Warned, Warning};
pub use settings::{Driving, QueueSettings};
pub use steer::{CHANGES_MAX, Change, Intake};
pub use store::{
    Certainty, Direction, DuePlace, Filter, Late, Listed, Listing, Looked, Next, Page, Reading, Spent, Stats, Tally,
    Totals, Tried,
};
pub use unsent::Unsent;
pub use witness::LostCommit;

use budget::{Budgets, Granted, InLine, Level, Place};
use claim::{IsRead, Taken};
use gather::Coming;
use gauge::Gauge;
use losses::Losses;
use settings::{AFTER_FAILURE, GRANTED_MEMORY, NAP_MAX, POOL};
use shortage::Shortage;
use stall::Committing;
use store::{Free, Order, Store, Ticket, Work};
use sweeper::Sweeper;
use writer::{Desk, Holding, Writer};

/// Why the queue could not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// A budget was not granted in time, or the disk is full: come again.
    #[error("the queue is full: {0}")]
    Full(String),
    /// The identity has its share of the queue, or of the messages being received: come again; others are not kept out.
    #[error("the identity's share of the queue is used up: {0}")]
    Share(String),
    /// The store failed: come again, and the operator must look.
    #[error("the store failed: {0}")]
    Broken(String),
    /// There is no such message (any more).
    #[error("no message {0} in the queue")]
    NotFound(QueueId),
    /// Somebody else has claimed it meanwhile; what was recorded with the old claim changes nothing.
    #[error("the claim on {0} has lapsed")]
    Fenced(QueueId),
    /// What is kept of it is not what was received; it is set aside.
    #[error("message {0} is damaged: {1}")]
    Damaged(QueueId, String),
    /// It is here already, or was brought here before.
    #[error("message {0} is here already, or was brought here before")]
    Known(QueueId),
    /// The queue has been closed.
    #[error("the queue is closed")]
    Closed,
}

/// What intake hands over with a message, besides its octets.
#[derive(Clone, Debug)]
pub struct Deposit {
    /// Who to, who from.
    pub envelope: Envelope,
    /// On whose authority.
    pub custodian: Custodian,
    /// How it came.
    pub trace: TraceFacts,
}

/// The queue. Clones are the same queue. Its methods need a tokio runtime with its clock enabled.
#[derive(Clone, Debug)]
pub struct Queue {
    inner: Arc<Inner>,
}

/// What all clones, claims and messages being received share.
#[derive(Debug)]
pub(crate) struct Inner {
    store: Arc<dyn Store>,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    settings: QueueSettings,
    sweeper: Sweeper,
    writer: Writer,
    /// Whom the writer may wait for.
    coming: Arc<Coming>,
    committing: Arc<Committing>,
    budgets: Budgets,
    gauge: Gauge,
    /// Rung when something may be due.
    work: Arc<Notify>,
    readers: Arc<Semaphore>,
    lately: seen::Lately,
    losses: Losses,
    /// Says now and then that outcomes can't be recorded.
    unrecorded: Throttle,
}

/// How often it is said that the store fails, by each who notices: one cause must not fill what is left of the disk with its lines.
const FAILURES_SAID: Duration = Duration::from_secs(60);

impl Queue {
    /// Opens the queue in its folder, making it when there is none, and clears away what a crash left. Blocks: on a large store after a crash for
    /// seconds.
    ///
    /// # Errors
    ///
    /// Another process has it, a newer program wrote it, or the disk fails.
    pub fn open(
        settings: QueueSettings,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<(Self, Recovery), OpenError> {
        Self::open_owned(Owned::take(settings, disk)?, clock, entropy)
    }

    /// The same for a folder that has been taken already. What was taken is given back when this fails.
    ///
    /// # Errors
    ///
    /// A newer program wrote it, or the disk fails.
    pub fn open_owned(
        owned: Owned,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<(Self, Recovery), OpenError> {
        let (settings, disk) = (owned.settings.clone(), Arc::clone(&owned.disk));
        let (embedded, recovery) = recover::open(owned)?;
        let (sweeper, gauge, losses) = (embedded.sweeper(), embedded.gauge(), embedded.losses());
        let store: Arc<dyn Store> = Arc::new(embedded);
        let budgets = Budgets::new(&settings);
        let work = Arc::new(Notify::new());
        let (coming, committing) = (Arc::new(Coming::default()), Arc::new(Committing::default()));
        let desk = Desk {
            store: Arc::clone(&store),
            clock: Arc::clone(&clock),
            work: Arc::clone(&work),
            room: Arc::clone(&budgets.room),
            coming: Arc::clone(&coming),
            committing: Arc::clone(&committing),
        };
        let writer = match settings.driving {
            Driving::Inline => Writer::Inline(desk),
            Driving::Simulated(commit) => Writer::simulate(desk, commit),
            Driving::WriterThread => {
                Writer::start(desk).map_err(|fault| OpenError::Disk(settings.data_dir.clone(), fault))?
            }
        };
        let readers = Arc::new(Semaphore::new(POOL));
        let lately = seen::Lately::default();
        let unrecorded = Throttle::new(FAILURES_SAID);
        let inner = Inner {
            store,
            disk,
            clock,
            entropy,
            settings,
            sweeper,
            writer,
            coming,
            committing,
            budgets,
            gauge,
            work,
            readers,
            lately,
            losses,
            unrecorded,
        };
        Ok((Self { inner: Arc::new(inner) }, recovery))
    }

    /// Asks for room for one message of `identity`, of `declared` octets when the client said so (RFC 1870); to be done before `354`. Waits as
    /// long as the settings say.
    ///
    /// # Errors
    ///
    /// [`QueueError::Full`] when a budget was not granted in time, [`QueueError::Share`] when the identity has its share: at once, unless it is of memory,
    /// [`QueueError::Broken`] when the store can't be used: `452 4.3.1`.
    pub async fn admit(&self, identity: &str, declared: Option<u64>) -> Result<Incoming, QueueError> {
        self.admit_besides(identity, declared, 0).await
    }

    /// The same for a message of which the envelope is known, and takes so many octets ([`Envelope::octets`]): they count as the
    /// body's do, and may be more.
    ///
    /// # Errors
    ///
    /// As [`Self::admit`].
    pub async fn admit_besides(
        &self,
        identity: &str,
        declared: Option<u64>,
        envelope: u64,
    ) -> Result<Incoming, QueueError> {
        let granted = self.inner.grant(&identity.into(), declared.unwrap_or(0), envelope).await?;
        Ok(Incoming::new(Arc::clone(&self.inner), self.inner.new_id(), granted))
    }

    /// What a transaction of `identity` holds of memory while it is open: nothing yet.
    pub fn open_envelope(&self, identity: &Arc<str>) -> EnvelopeRoom {
        self.inner.budgets.envelope(identity)
    }

    /// Whether a report of `octets` on a message of `identity` may be kept: it is accounted to that identity, which asks for no room for it.
    ///
    /// # Errors
    ///
    /// [`QueueError::Share`] when the identity has its share and more, [`QueueError::Full`] when the queue has not even its reserve left,
    /// [`QueueError::Broken`] when nobody knows.
    pub async fn has_room_for_report(&self, identity: &str, octets: u64) -> Result<(), QueueError> {
        let level = self.inner.level(identity).await?;
        self.inner.budgets.room.report(octets, level).map_err(Shortage::refusal)
    }

    /// Grants an identity to spend `cost`, when that breaks no limit of `rates`. What is granted goes into [`Incoming::charge`]; dropped before
    /// that message is kept, it is given back.
    ///
    /// # Errors
    ///
    /// [`QueueError::Broken`] when the disk fails: nobody knows what was spent.
    pub async fn spend(&self, identity: &str, rates: Rates, cost: Cost) -> Result<Spent, QueueError> {
        let asked = || {
            let (store, now, identity) = (Arc::clone(&self.inner.store), self.inner.clock.now(), identity.to_owned());
            self.inner.work_on(move || store.spend(&identity, &rates, cost, now))
        };
        match asked().await? {
            Err(QueueError::Broken(_)) => {
                // Only the writer opens the store again.
                self.inner.writer.submit(Order::Mend, Holding::default()).await?;
                asked().await?
            }
            spent => spent,
        }
    }

    /// Writes what was spent on a message that is kept elsewhere: an upstream has taken it over while its client waited.
    ///
    /// # Errors
    ///
    /// [`QueueError::Broken`], [`QueueError::Full`]: it is not written, and given back.
    pub async fn charge(&self, spending: Spending) -> Result<(), QueueError> {
        self.inner.writer.submit(Order::Charge(spending), Holding::default()).await
    }

    /// Waits until a message is due, and claims it; not while a commit hangs. Cancel-safe: a dropped future has claimed nothing. After [`Self::close`] it
    /// waits for ever.
    pub async fn claim(&self) -> Claim {
        self.claim_reading(Reading::Whole).await
    }

    /// The same, and what is read of it: where it may have to wait for its route, its octets would be read for nothing.
    pub async fn claim_reading(&self, reading: Reading) -> Claim {
        loop {
            self.flowing().await;
            let rung = self.inner.work.notified();
            tokio::pin!(rung);
            // From here on no bell is missed, and only then is the store looked at.
            rung.as_mut().enable();
            let wait = match self.inner.take_work(reading).await {
                Ok(Work::Claimed(ticket, record)) => return Claim::new(Arc::clone(&self.inner), ticket, record),
                Ok(Work::Unreadable(ticket, reason)) => {
                    self.inner.set_aside(ticket, &reason).await;
                    continue;
                }
                Ok(Work::Nothing(wait)) => wait.unwrap_or(NAP_MAX).min(NAP_MAX),
                Err(QueueError::Closed) => return std::future::pending().await,
                Err(fault) => {
                    tracing::error!(%fault, "the queue gives out no messages");
                    // Not until the bell rings: the attempt to open the store has just rung it.
                    tokio::time::sleep(AFTER_FAILURE).await;
                    continue;
                }
            };
            // Which of the two it was does not matter: the store is asked again.
            tokio::time::timeout(wait, rung).await.ok();
        }
    }

    /// The next late message of a round over those that are due; none at the end of the round, where `place` is back at the beginning. Who
    /// waits too long is told, whether or not anything is tried meanwhile. Cancel-safe.
    ///
    /// # Errors
    ///
    /// [`QueueError::Broken`] when the disk fails; the round begins anew.
    pub async fn claim_late(&self, late: Late, place: &mut Option<DuePlace>) -> Result<Option<Claim>, QueueError> {
        loop {
            self.flowing().await;
            let (queue, after) = (Arc::clone(&self.inner), place.take());
            let (taken, next) = self.inner.work_on(move || Taken::take_late(&queue, late, after)).await??;
            *place = next;
            if let Work::Claimed(ticket, record) = taken.work() {
                return Ok(Some(Claim::new(Arc::clone(&self.inner), ticket, record)));
            }
            if place.is_none() {
                return Ok(None);
            }
        }
    }

    /// Claims this message, if it is due and nobody tries it; also one that was put off. Cancel-safe.
    ///
    /// # Errors
    ///
    /// [`QueueError::Broken`] when the disk fails.
    pub async fn claim_one(&self, id: QueueId) -> Result<Option<Claim>, QueueError> {
        self.flowing().await;
        let queue = Arc::clone(&self.inner);
        let taken = self.inner.work_on(move || Taken::take_one(&queue, id)).await??;
        match taken.work() {
            Work::Claimed(ticket, record) => Ok(Some(Claim::new(Arc::clone(&self.inner), ticket, record))),
            Work::Unreadable(ticket, reason) => {
                self.inner.set_aside(ticket, &reason).await;
                Ok(None)
            }
            Work::Nothing(_) => Ok(None),
        }
    }

    /// What was put off ([`Claim::put_off`]) may be tried now.
    pub fn recall(&self) {
        self.inner.store.recall();
        self.inner.work.notify_waiters();
    }

    /// Part of the list of messages, oldest first.
    ///
    /// # Errors
    ///
    /// [`QueueError::Broken`] when the disk fails, as with all that follow.
    pub async fn list(&self, filter: Filter, page: Page) -> Result<Listing, QueueError> {
        let store = Arc::clone(&self.inner.store);
        self.inner.work_on(move || store.list(filter, page)).await?
    }

    /// What is known of one message.
    ///
    /// # Errors
    ///
    /// [`QueueError::NotFound`].
    pub async fn show(&self, id: QueueId) -> Result<Listed, QueueError> {
        let store = Arc::clone(&self.inner.store);
        self.inner.work_on(move || store.show(id)).await?
    }

    /// A message's octets, without a claim: to be looked at, not to be delivered.
    ///
    /// # Errors
    ///
    /// [`QueueError::NotFound`], [`QueueError::Damaged`].
    pub async fn body(&self, id: QueueId) -> Result<BodyReader, QueueError> {
        match self.show(id).await? {
            Listed::Message(record) => Ok(BodyReader::new(Arc::clone(&self.inner), &record, None)),
            Listed::Unreadable(id, reason) => Err(QueueError::Damaged(id, reason)),
        }
    }

    /// Makes a message due now: a dead one too, for every recipient that does not have it, and a held one.
    ///
    /// # Errors
    ///
    /// [`QueueError::NotFound`], [`QueueError::Damaged`].
    pub async fn retry(&self, id: QueueId) -> Result<(), QueueError> {
        self.inner.writer.submit(Order::Retry(id), Holding::default()).await
    }

    /// Forgets a message, whatever its state.
    ///
    /// # Errors
    ///
    /// [`QueueError::NotFound`].
    pub async fn remove(&self, id: QueueId) -> Result<(), QueueError> {
        self.inner.writer.submit(Order::Remove(id), Holding::default()).await
    }

    /// Keeps a queued message back; does nothing to a dead one. An attempt under way goes on, and its outcome is recorded.
    ///
    /// # Errors
    ///
    /// [`QueueError::NotFound`], [`QueueError::Damaged`].
    pub async fn hold(&self, id: QueueId) -> Result<(), QueueError> {
        self.inner.writer.submit(Order::Hold(id), Holding::default()).await
    }

    /// Makes a held message due now; does nothing to others.
    ///
    /// # Errors
    ///
    /// [`QueueError::NotFound`], [`QueueError::Damaged`].
    pub async fn release(&self, id: QueueId) -> Result<(), QueueError> {
        self.inner.writer.submit(Order::Release(id), Holding::default()).await
    }

    /// How many there are in each state, and how large.
    ///
    /// # Errors
    ///
    /// [`QueueError::Broken`].
    pub async fn stats(&self) -> Result<Stats, QueueError> {
        let store = Arc::clone(&self.inner.store);
        self.inner.work_on(move || store.stats()).await?
    }

    /// How full it is, and how much the disk can still take.
    ///
    /// # Errors
    ///
    /// [`QueueError::Broken`].
    pub async fn fill(&self) -> Result<Fill, QueueError> {
        let settings = &self.inner.settings;
        let Level { kept, free, .. } = self.inner.level("").await?;
        let limit = Tally { count: settings.count, octets: settings.size };
        Ok(Fill { kept, limit, free, reserve: settings.reserve_size })
    }

    /// Octets of `memory` that are given out: to messages being received, headers among them, and to those that wait for the writer.
    pub fn memory_given_out(&self) -> u64 {
        self.inner.budgets.memory.given_out()
    }

    /// Gives back to the disk what the store's file does not need, unless more than `most` octets are kept in it. Everything else waits meanwhile.
    /// `told` is told how far it is: rows done, rows in all.
    ///
    /// # Errors
    ///
    /// [`QueueError::Full`]: the disk has no room for a copy of what is kept. [`QueueError::Broken`]: the disk fails. Nothing is lost by either.
    pub async fn compact(
        &self,
        most: u64,
        mut told: impl FnMut(u64, u64) + Send + 'static,
    ) -> Result<Compaction, QueueError> {
        let store = Arc::clone(&self.inner.store);
        let (committing, clock) = (Arc::clone(&self.inner.committing), Arc::clone(&self.inner.clock));
        self.inner
            .work_on(move || {
                // From the first row on everything waits for it, which is no disk that hangs; until then it may itself wait for one. It is over with the
                // work, whoever waits for that.
                let mut compacting = None;
                store.compact(most, &mut |done, all| {
                    compacting.get_or_insert_with(|| committing.compacting(&clock));
                    told(done, all);
                })
            })
            .await?
    }

    /// Waits for messages that are found damaged and set aside as dead while the queue is open: each is told once, with the reason. Cancel-safe.
    pub async fn damaged(&self) -> Vec<(QueueId, String)> {
        self.inner.losses.next().await
    }

    /// The daemon ends: outcomes that could not be recorded yet are tried each second, and not at growing intervals any more.
    pub fn begin_end(&self) {
        self.inner.committing.begin_end();
    }

    /// Waits until nothing can be kept any more: the queue was closed, or its writer has died.
    pub async fn ended(&self) {
        self.inner.writer.ended().await;
    }

    /// Obeys what was handed over, closes the store and gives the folder back.
    pub async fn close(&self) {
        self.inner.writer.close().await;
    }
}

impl Inner {
    fn new_id(&self) -> QueueId {
        let mut random = [0; 16];
        self.entropy.fill(&mut random);
        QueueId::new(self.clock.now().wall, u128::from_be_bytes(random))
    }

    /// Runs something that blocks: on the bounded pool, or here when the core runs inline.
    async fn work_on<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, QueueError> {
        if self.settings.driving != Driving::WriterThread {
            return Ok(work());
        }
        let permit = Arc::clone(&self.readers).acquire_owned().await.map_err(|_| QueueError::Closed)?;
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(permit);
            done
        });
        done.await.map_err(|fault| QueueError::Broken(fault.to_string()))
    }

    async fn take_work(self: &Arc<Self>, reading: Reading) -> Result<Work, QueueError> {
        loop {
            let queue = Arc::clone(self);
            let taken = match Taken::take_at_hand(self) {
                // What memory knows needs no thread of the pool.
                Some((taken, IsRead::Yes)) => return Ok(taken.work()),
                Some((taken, IsRead::NotYet)) => self.work_on(move || taken.read(&queue, reading)).await?,
                None => self.work_on(move || Taken::take(&queue, reading).map(Some)).await?,
            };
            match taken {
                Ok(Some(taken)) => return Ok(taken.work()),
                // What was claimed stands elsewhere now, and is found there.
                Ok(None) => {}
                Err(QueueError::Broken(_) | QueueError::Full(_) | QueueError::Share(_)) => {
                    // Only the writer opens the store again.
                    self.writer.submit(Order::Mend, Holding::default()).await?;
                    let queue = Arc::clone(self);
                    return Ok(self.work_on(move || Taken::take(&queue, reading)).await??.work());
                }
                Err(fault) => return Err(fault),
            }
        }
    }

    /// A damaged message stops no other: it is set aside, and its operator told.
    async fn set_aside(&self, ticket: Ticket, reason: &str) {
        tracing::error!(id = %ticket.id, reason, "a message is damaged; it is set aside as dead");
        let order = Order::SetAside { ticket, reason: reason.to_owned() };
        match self.writer.submit(order, Holding::default()).await {
            Ok(()) => self.losses.note(ticket.id, reason),
            Err(fault) => tracing::error!(id = %ticket.id, %fault, "it could not be set aside; it will be found again"),
        }
    }

    async fn grant(self: &Arc<Self>, identity: &Arc<str>, octets: u64, envelope: u64) -> Result<Granted, QueueError> {
        if let Some(stall) = self.committing.stall(self.clock.now().mono) {
            return Err(QueueError::Full(stall.to_string()));
        }
        let octets = octets.saturating_add(envelope);
        let least = u64::try_from(GRANTED_MEMORY).unwrap_or(u64::MAX).saturating_add(envelope);
        let (mut waiting_for, mut short) = ("room", None);
        let all = async {
            // Room comes first: who has none must not hold memory while it waits.
            let line = self.budgets.room.behind_others(identity).map_err(Shortage::refusal)?;
            let place = |level| self.budgets.room.place(identity, octets, least, level);
            let place = self.wait_for_room(identity, line, &mut short, place);
            let place = place.await?;
            waiting_for = "memory (queue.memory)";
            let memory = self.budgets.memory.take(least).await;
            waiting_for = "the disk, which does not keep up";
            drop(self.budgets.backlog.take(1).await);
            Ok(Granted { place, memory, envelope })
        };
        match tokio::time::timeout(self.settings.wait, all).await {
            Ok(granted) => granted,
            Err(_) => Err(match short {
                Some(shortage) if waiting_for == "room" => shortage.refusal(),
                Some(_) | None => QueueError::Full(format!("waited in vain for {waiting_for}")),
            }),
        }
    }

    async fn enlarge(self: &Arc<Self>, place: &mut Place, octets: u64) -> Result<(), QueueError> {
        let (identity, mut short) = (place.identity(), None);
        let enlarged = self.wait_for_room(&identity, None, &mut short, |level| place.enlarge(octets, level));
        match tokio::time::timeout(self.settings.wait, enlarged).await {
            Ok(enlarged) => enlarged,
            Err(_) => Err(QueueError::Full(
                short.map_or_else(|| "waited in vain for room".to_owned(), |shortage| shortage.to_string()),
            )),
        }
    }

    /// Waits for room in the queue; `short` says for what. Who has used up a share of its own does not wait: it would be for itself. But memory comes back
    /// in milliseconds: who waits for its share of that holds nothing meanwhile, and has others wait for nothing. Those of one identity do so in `line`.
    async fn wait_for_room<T>(
        self: &Arc<Self>,
        identity: &Arc<str>,
        mut line: Option<InLine>,
        short: &mut Option<Shortage>,
        mut ask: impl FnMut(Level) -> Result<T, Shortage>,
    ) -> Result<T, QueueError> {
        loop {
            if let Some(line) = &mut line {
                short.get_or_insert(line.shortage());
                line.turn().await;
            }
            let freed = self.budgets.room.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            let asked = match self.level_at_hand(identity).map(&mut ask) {
                Some(Ok(granted)) => Ok(granted),
                // However exactly the disk is measured, this stays so until some is given back.
                Some(Err(shortage)) if shortage.passes() => Err(shortage),
                Some(Err(_)) | None => ask(self.level(identity).await?),
            };
            match asked {
                Ok(granted) => return Ok(granted),
                Err(shortage) if shortage.passes() => {
                    *short = Some(shortage);
                    if line.is_none() {
                        line = Some(self.budgets.room.line_up(identity).map_err(Shortage::refusal)?);
                        continue;
                    }
                }
                Err(shortage) if shortage.is_of_the_identity() => return Err(shortage.refusal()),
                Err(shortage) => *short = Some(shortage),
            }
            freed.await;
        }
    }

    /// The level as far as memory knows it: good enough to let somebody in.
    fn level_at_hand(&self, identity: &str) -> Option<Level> {
        let free = self.gauge.told(self.clock.now().mono)?;
        let (kept, own, within) = self.store.sums_at_hand(identity)?;
        Some(Level { kept: kept.all(), own, free, within })
    }

    async fn level(self: &Arc<Self>, identity: &str) -> Result<Level, QueueError> {
        let measure = || {
            let (store, identity, now) = (Arc::clone(&self.store), identity.to_owned(), self.clock.now());
            self.work_on(move || {
                let own = store.held_by(&identity)?;
                let Free { disk, within } = store.space_left(now)?;
                Ok(Level { kept: store.totals().all(), own, free: disk, within })
            })
        };
        match measure().await? {
            Err(QueueError::Broken(_)) => {
                self.writer.submit(Order::Mend, Holding::default()).await?;
                measure().await?
            }
            level => level,
        }
    }
}

#[cfg(test)]
mod tests;
