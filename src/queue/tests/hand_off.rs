//! The hand-off to the writer, under every order of threads that some thousand draws bring: nothing is answered before it is kept, no bell is missed,
//! and whoever waits when the store fails or closes is told.
//!
//! The writer is the real one, and tokio's channels are taken as what they are: shuttle changes threads wherever one of them waits, and within the
//! store's transaction. A failure prints its schedule; `SEALPOST_SEED=N` draws others.

use std::collections::BTreeSet;
use std::sync::Mutex;

use futures_util::FutureExt as _;
use shuttle::future::block_on;
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner, thread};
use tokio::sync::mpsc;

use super::*;
use crate::mail::{Cost, Rates};
use crate::queue::budget::Room;
use crate::queue::compact::{Compaction, Progress};
use crate::queue::gather::{Brings, Coming};
use crate::queue::octets::{Octets, Share};
use crate::queue::seen::Seen;
use crate::queue::stall::Committing;
use crate::queue::store::Ticket;
use crate::queue::transfer::Adoption;
use crate::queue::writer::Message;
use crate::sys::{MonoTime, Now};

/// Orders of threads that each test tries.
const SCHEDULES: usize = 1500;
/// Orders that may wait for the writer here: few, so that senders wait too.
const CAPACITY: usize = 2;
const SENDERS: u128 = 3;
const EACH: u128 = 2;

/// A store that takes its time, and keeps names.
#[derive(Debug, Default)]
struct Ledge(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    ids: BTreeSet<QueueId>,
    batches: Vec<usize>,
    /// The batch that fails, counted from 1.
    fails: usize,
    closed: bool,
}

impl Ledge {
    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.0.lock().unwrap()
    }
}

/// A writer at work, and what it works with.
struct Works {
    ledge: Arc<Ledge>,
    writer: Arc<Writer>,
    work: Arc<Notify>,
    coming: Arc<Coming>,
    committing: Arc<Committing>,
    backlog: Arc<Octets>,
    thread: thread::JoinHandle<()>,
}

impl Works {
    fn start(fails: usize) -> Self {
        let ledge = Arc::new(Ledge::default());
        ledge.kept().fails = fails;
        let (sender, receiver) = mpsc::channel(CAPACITY);
        let (work, coming) = (Arc::new(Notify::new()), Arc::new(Coming::default()));
        let committing = Arc::new(Committing::default());
        let desk = Desk {
            store: Arc::<Ledge>::clone(&ledge),
            clock: Arc::new(ManualClock::at(START)),
            work: Arc::clone(&work),
            room: Arc::new(Room::new(&settings())),
            coming: Arc::clone(&coming),
            committing: Arc::clone(&committing),
        };
        let thread = thread::spawn(move || desk.run(receiver, wait));
        let writer = Arc::new(Writer::Apart(sender));
        Self { ledge, writer, work, coming, committing, backlog: Arc::new(Octets::new(BACKLOG)), thread }
    }

    /// Ends when everybody has, and nothing of the budget is held then.
    fn end(self) {
        drop(self.writer);
        self.thread.join().unwrap();
        assert!(self.backlog.take(BACKLOG).now_or_never().is_some(), "part of the backlog was never given back");
    }
}

const BACKLOG: u64 = 1 << 20;

/// Waits as the real writer does; how long a while is, shuttle draws.
fn wait(receiver: &mut mpsc::Receiver<Message>, most: Option<Duration>) -> Option<Message> {
    if most.is_none() {
        return block_on(receiver.recv());
    }
    thread::yield_now();
    receiver.try_recv().ok()
}

fn explore(test: fn()) {
    let seed = std::env::var("SEALPOST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    run(RandomScheduler::new_from_seed(seed, SCHEDULES), test);
    run(PctScheduler::new_from_seed(seed, 3, SCHEDULES), test);
}

fn run(scheduler: impl Scheduler + 'static, test: fn()) {
    Runner::new(scheduler, Config::default()).run(test);
}

fn senders(
    works: &Works,
    each: impl Fn(&Writer, &Ledge, Share, QueueId) + Copy + Send + 'static,
) -> Vec<thread::JoinHandle<()>> {
    let spawn = |sender: u128| {
        let (writer, ledge, backlog) =
            (Arc::clone(&works.writer), Arc::clone(&works.ledge), Arc::clone(&works.backlog));
        thread::spawn(move || {
            for number in 0..EACH {
                let share = block_on(backlog.take(1000));
                each(&writer, &ledge, share, QueueId::from_u128(1 + sender * EACH + number));
            }
        })
    };
    (0..SENDERS).map(spawn).collect()
}

fn holding(share: Share) -> Holding {
    Holding { backlog: Some(share), ..Holding::default() }
}

fn join(threads: Vec<thread::JoinHandle<()>>) {
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn whoever_is_answered_is_kept_and_each_order_is_made_once() {
    explore(|| {
        let works = Works::start(0);
        join(senders(&works, |writer, ledge, share, id| {
            assert_eq!(block_on(writer.submit(Order::Retry(id), holding(share))), Ok(()));
            assert!(ledge.kept().ids.contains(&id), "answered before it was kept");
        }));
        let batches = works.ledge.kept().batches.clone();
        assert_eq!(batches.iter().sum::<usize>() as u128, SENDERS * EACH, "{batches:?}");
        works.end();
    });
}

/// Who is waited for may come, go away, or take longer than anybody waits: nobody is left behind.
#[test]
fn outcomes_that_wait_for_company_are_made_whoever_comes() {
    explore(|| {
        let works = Works::start(0);
        let trying = (0..SENDERS).map(|sender| {
            let (writer, ledge) = (Arc::clone(&works.writer), Arc::clone(&works.ledge));
            let expected = [works.coming.expect(Brings::Outcome), works.coming.expect(Brings::Message)];
            thread::spawn(move || {
                let [outcome, message] = expected;
                thread::yield_now();
                let id = QueueId::from_u128(1 + sender);
                let order = Order::Conclude {
                    ticket: Ticket { id, fence: 1 },
                    outcomes: Vec::new(),
                    next: Next::Finished,
                    warned: false,
                    report: None,
                };
                let concluding = async {
                    let holding = Holding { expected: Some(outcome), ..Holding::default() };
                    assert_eq!(writer.submit(order, holding).await, Ok(()));
                    assert!(ledge.kept().ids.contains(&id), "answered before it was kept");
                };
                // The last goes away instead.
                if sender + 1 < SENDERS {
                    let holding = Holding { expected: Some(message), ..Holding::default() };
                    let keeping = writer.submit(Order::Retry(QueueId::from_u128(99 + sender)), holding);
                    assert_eq!(block_on(futures_util::future::join(concluding, keeping)).1, Ok(()));
                } else {
                    drop(message);
                    block_on(concluding);
                }
            })
        });
        join(trying.collect());
        let made = works.ledge.kept().batches.iter().sum::<usize>() as u128;
        assert_eq!(made, 2 * SENDERS - 1, "each once");
        assert_eq!(works.coming.company(), Default::default());
        works.end();
    });
}

/// When whoever waits for work puts its ear to the bell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ear {
    /// As `Queue::claim` does it.
    BeforeTheLook,
    BehindTheLook,
}

fn look_for_all(ear: Ear) {
    let works = Works::start(0);
    let (work, ledge) = (Arc::clone(&works.work), Arc::clone(&works.ledge));
    // A bell that is missed is a deadlock, which shuttle finds.
    let looking = thread::spawn(move || {
        block_on(async {
            loop {
                let rung = work.notified();
                tokio::pin!(rung);
                if ear == Ear::BeforeTheLook {
                    rung.as_mut().enable();
                }
                if ledge.kept().ids.len() as u128 == SENDERS * EACH {
                    return;
                }
                thread::yield_now();
                if ear == Ear::BehindTheLook {
                    rung.set(work.notified());
                }
                rung.await;
            }
        });
    });
    join(senders(&works, |writer, _, share, id| {
        block_on(writer.submit(Order::Retry(id), holding(share))).unwrap();
    }));
    looking.join().unwrap();
    works.end();
}

#[test]
fn whoever_looks_when_the_bell_rings_sees_all_of_it() {
    explore(|| look_for_all(Ear::BeforeTheLook));
}

/// The exploration can fail: the mistake that the order in `Queue::claim` avoids is found.
#[test]
#[should_panic(expected = "deadlock")]
fn a_bell_that_is_missed_is_found() {
    explore(|| look_for_all(Ear::BehindTheLook));
}

#[test]
fn a_failure_is_told_to_all_that_waited_for_it_and_the_next_are_kept() {
    explore(|| {
        let works = Works::start(2);
        join(senders(&works, |writer, ledge, share, id| {
            let answer = block_on(writer.submit(Order::Retry(id), holding(share)));
            let kept = ledge.kept().ids.contains(&id);
            assert_eq!(answer.is_ok(), kept, "{answer:?}");
            assert!(matches!(answer, Ok(()) | Err(QueueError::Broken(_))), "{answer:?}");
        }));
        // It goes on behind the failure.
        let last = QueueId::from_u128(99);
        while block_on(works.writer.submit(Order::Retry(last), Holding::default())).is_err() {}
        assert!(works.ledge.kept().ids.contains(&last));
        works.end();
    });
}

#[test]
fn whoever_waits_when_it_closes_is_kept_or_told_and_nothing_is_made_afterwards() {
    explore(|| {
        let works = Works::start(0);
        let submitting = senders(&works, |writer, ledge, share, id| {
            let answer = block_on(writer.submit(Order::Retry(id), holding(share)));
            assert_eq!(answer.is_ok(), ledge.kept().ids.contains(&id), "{answer:?}");
            assert!(matches!(answer, Ok(()) | Err(QueueError::Closed)), "{answer:?}");
        });
        let closing = |writer: Arc<Writer>, ledge: Arc<Ledge>| {
            thread::spawn(move || {
                block_on(writer.close());
                assert!(ledge.kept().closed, "closed before the store was");
                block_on(writer.ended());
            })
        };
        // Two at once: a second one is no different.
        let both = [0, 1].map(|_| closing(Arc::clone(&works.writer), Arc::clone(&works.ledge)));
        join(submitting);
        join(both.into());
        let late = block_on(works.writer.submit(Order::Mend, Holding::default()));
        assert_eq!(late, Err(QueueError::Closed));
        works.end();
    });
}

#[test]
fn whoever_goes_away_has_it_made_all_the_same_or_not_at_all() {
    explore(|| {
        let works = Works::start(0);
        let gone = senders(&works, |writer, _, share, id| {
            // One look, and it goes: before the hand-over when there was no room, behind it otherwise.
            let mut submitting = Box::pin(writer.submit(Order::Retry(id), holding(share)));
            let _ = submitting.as_mut().now_or_never();
            thread::yield_now();
            drop(submitting);
        });
        join(gone);
        // What was handed over before this one was obeyed with it or before it.
        block_on(works.writer.submit(Order::Mend, Holding::default())).unwrap();
        let kept = works.ledge.kept();
        let made = kept.batches.iter().sum::<usize>() - 1;
        // The order that only mends has no name.
        assert_eq!(made, kept.ids.len(), "each once");
        assert!(made >= 1, "the first had room, and was handed over");
        drop(kept);
        works.end();
    });
}

/// A commit hangs: what was in none yet is made or taken back, never both, and what is in one is waited for.
#[test]
fn what_waits_for_a_commit_that_hangs_is_made_or_taken_back() {
    explore(|| {
        let works = Works::start(0);
        let seeing = {
            let committing = Arc::clone(&works.committing);
            thread::spawn(move || {
                committing.note(true);
                thread::yield_now();
                committing.note(true);
            })
        };
        let committing = Arc::clone(&works.committing);
        let sending = (0..SENDERS).map(|sender| {
            let (writer, ledge, committing) =
                (Arc::clone(&works.writer), Arc::clone(&works.ledge), Arc::clone(&committing));
            let backlog = Arc::clone(&works.backlog);
            thread::spawn(move || {
                let id = QueueId::from_u128(1 + sender);
                let share = holding(block_on(backlog.take(1000)));
                let answer = block_on(writer.submit_or_take_back(Order::Retry(id), share, &committing));
                let kept = ledge.kept().ids.contains(&id);
                assert_eq!(answer.is_ok(), kept, "{answer:?}");
                assert!(matches!(answer, Ok(()) | Err(QueueError::Full(_))), "{answer:?}");
                (id, answer.is_ok())
            })
        });
        let told: Vec<(QueueId, bool)> =
            sending.collect::<Vec<_>>().into_iter().map(|thread| thread.join().unwrap()).collect();
        seeing.join().unwrap();
        // What was handed over before this is behind the writer now.
        block_on(works.writer.submit(Order::Mend, Holding::default())).unwrap();
        for (id, is_ok) in told {
            assert_eq!(works.ledge.kept().ids.contains(&id), is_ok, "{id} was taken back and made");
        }
        works.end();
    });
}

impl Store for Ledge {
    fn apply(&self, batch: Vec<Order>, _now: Now) -> Vec<Result<(), QueueError>> {
        thread::yield_now();
        let count = batch.len();
        let mut kept = self.kept();
        assert!(!kept.closed, "an order behind the close");
        kept.batches.push(count);
        let fails = kept.batches.len() == kept.fails;
        drop(kept);
        // Being written, and not yet kept.
        thread::yield_now();
        if fails {
            return vec![Err(QueueError::Broken("it fails".to_owned())); count];
        }
        let names = batch.iter().filter_map(|order| {
            if let Order::Retry(id) | Order::Conclude { ticket: Ticket { id, .. }, .. } = order {
                Some(*id)
            } else {
                None
            }
        });
        self.kept().ids.extend(names);
        thread::yield_now();
        vec![Ok(()); count]
    }

    fn close(&self) {
        thread::yield_now();
        self.kept().closed = true;
    }

    // The writer asks for nothing else.

    fn spend(&self, _: &str, _: &Rates, _: Cost, _: Now) -> Result<Spent, QueueError> {
        unreachable!()
    }

    fn claim(&self, _: Now, _: Reading) -> Result<Work, QueueError> {
        unreachable!()
    }

    fn claim_late(&self, _: Now, _: Late, _: Option<DuePlace>) -> Result<(Work, Option<DuePlace>), QueueError> {
        unreachable!()
    }

    fn claim_one(&self, _: QueueId, _: Now) -> Result<Work, QueueError> {
        unreachable!()
    }

    fn put_off(&self, _: Ticket, _: MonoTime) {
        unreachable!()
    }

    fn recall(&self) {
        unreachable!()
    }

    fn over(&self, _: Ticket) {
        unreachable!()
    }

    fn lay_down(&self, _: Ticket) {
        unreachable!()
    }

    fn renew(&self, _: Ticket, _: Now) -> Result<(), QueueError> {
        unreachable!()
    }

    fn unclaim(&self, _: Ticket) {
        unreachable!()
    }

    fn show(&self, _: QueueId) -> Result<Listed, QueueError> {
        unreachable!()
    }

    fn piece(&self, _: QueueId, _: u64) -> Result<Vec<u8>, QueueError> {
        unreachable!()
    }

    fn list(&self, _: Filter, _: Page) -> Result<Listing, QueueError> {
        unreachable!()
    }

    fn is_tried(&self, _: QueueId, _: Now) -> bool {
        unreachable!()
    }

    fn list_back(&self, _: Filter, _: Page) -> Result<Listing, QueueError> {
        unreachable!()
    }

    fn briefs(&self, _: Filter, _: Page, _: Direction) -> Result<Listing<Brief>, QueueError> {
        unreachable!()
    }

    fn adopted(&self, _: QueueId) -> Result<Adoption, QueueError> {
        unreachable!()
    }

    fn exported(&self, _: QueueId) -> Result<bool, QueueError> {
        unreachable!()
    }

    fn settled(&self, _: QueueId) -> Result<bool, QueueError> {
        unreachable!()
    }

    fn seen(&self, _: Option<&str>, _: usize) -> Result<Vec<Seen>, QueueError> {
        unreachable!()
    }

    fn seen_of(&self, _: &[String]) -> Result<Vec<Vec<Seen>>, QueueError> {
        unreachable!()
    }

    fn seen_count(&self) -> Result<u64, QueueError> {
        unreachable!()
    }

    fn totals(&self) -> Totals {
        unreachable!()
    }

    fn held_by(&self, _: &str) -> Result<Tally, QueueError> {
        unreachable!()
    }

    fn stats(&self) -> Result<Stats, QueueError> {
        unreachable!()
    }

    fn compact(&self, _: u64, _: Progress<'_>) -> Result<Compaction, QueueError> {
        unreachable!()
    }

    fn space_left(&self, _: Now) -> Result<store::Free, QueueError> {
        unreachable!()
    }
}
