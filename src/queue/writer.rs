//! The one writer: takes orders over a bounded hand-off, commits whatever has gathered, answers each.
//!
//! When nobody else is coming, an order is committed at once; while a commit is under way, the next batch gathers; how long it gathers behind that, `gather`
//! says. What hangs, `stall` says. Never: answers before the store says that it is on stable storage.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::{Notify, mpsc, oneshot};

use super::QueueError;
use super::budget::{Granted, Room};
use super::claim::InHand;
use super::gather::{Coming, Expected, Gathered, Pace};
use super::octets::Share;
use super::settings::{BATCH_MAX, HAND_OFF};
use super::stall::{Committing, STALLED};
use super::store::{Order, Store};
use super::sweeper::Reserved;
use crate::sys::Clock;
use crate::sys::receive::receive;

type Answer = Result<(), QueueError>;

/// What an order holds of the budgets until it is on the disk.
#[derive(Debug, Default)]
#[expect(dead_code, reason = "it is held and dropped, never read")]
pub(super) struct Holding {
    pub(super) granted: Option<Granted>,
    pub(super) backlog: Option<Share>,
    /// It is expected until the writer has it.
    pub(super) expected: Option<Expected>,
    /// The name of a message that is being brought.
    pub(super) name: Option<Reserved>,
    /// What came of an attempt.
    pub(super) in_hand: Option<Arc<InHand>>,
}

pub(super) struct HandedOver {
    order: Order,
    holding: Holding,
    answer: oneshot::Sender<Answer>,
    lot: Lot,
}

/// Whether an order is made or taken back: the writer and whoever handed it over draw, and the first has it.
#[derive(Clone, Debug, Default)]
struct Lot(Arc<AtomicBool>);

impl Lot {
    fn draw(&self) -> Drawn {
        if self.0.swap(true, Ordering::AcqRel) { Drawn::Second } else { Drawn::First }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drawn {
    First,
    Second,
}

pub(super) enum Message {
    Order(Box<HandedOver>),
    Close(oneshot::Sender<()>),
}

/// What the writer works with.
pub(super) struct Desk {
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<dyn Clock>,
    /// Rung after every commit: something may be due.
    pub(super) work: Arc<Notify>,
    pub(super) room: Arc<Room>,
    pub(super) coming: Arc<Coming>,
    pub(super) committing: Arc<Committing>,
}

/// How a writer waits.
trait Ear {
    /// For the next message, without end or for so long.
    fn wait(
        &self,
        receiver: &mut mpsc::Receiver<Message>,
        most: Option<Duration>,
    ) -> impl Future<Output = Option<Message>> + Send;

    /// For a commit, besides what it takes by itself.
    fn commit(&self) -> impl Future<Output = ()> + Send;
}

/// By blocking a thread of its own.
struct Blocking<F>(F);

impl<F: Fn(&mut mpsc::Receiver<Message>, Option<Duration>) -> Option<Message>> Ear for Blocking<F> {
    fn wait(
        &self,
        receiver: &mut mpsc::Receiver<Message>,
        most: Option<Duration>,
    ) -> impl Future<Output = Option<Message>> + Send {
        std::future::ready((self.0)(receiver, most))
    }

    fn commit(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// In the runtime's time: commits take so long of it.
struct Simulated(Duration);

impl Ear for Simulated {
    async fn wait(&self, receiver: &mut mpsc::Receiver<Message>, most: Option<Duration>) -> Option<Message> {
        match most {
            None => receiver.recv().await,
            Some(most) => tokio::time::timeout(most, receiver.recv()).await.ok().flatten(),
        }
    }

    async fn commit(&self) {
        tokio::time::sleep(self.0).await;
    }
}

/// What is committed together, and who is to be told when it is closed behind that.
struct Batch {
    orders: Vec<HandedOver>,
    gathered: Gathered,
    closing: Option<oneshot::Sender<()>>,
}

/// The way to the writer.
pub(super) enum Writer {
    /// A thread, or a task.
    Apart(mpsc::Sender<Message>),
    /// Whoever calls.
    Inline(Desk),
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Apart(_) => "Writer::Apart",
            Self::Inline(_) => "Writer::Inline",
        })
    }
}

impl Writer {
    pub(super) fn start(desk: Desk) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel(HAND_OFF);
        std::thread::Builder::new().name("queue-writer".to_owned()).spawn(move || desk.run(receiver, receive))?;
        Ok(Self::Apart(sender))
    }

    /// One whose commits take so long of the runtime's time, which simulates.
    #[expect(
        clippy::disallowed_methods,
        reason = "it stands for the thread that a daemon has, and ends with the runtime"
    )]
    pub(super) fn simulate(desk: Desk, commit: Duration) -> Self {
        let (sender, receiver) = mpsc::channel(HAND_OFF);
        tokio::spawn(desk.work(receiver, Simulated(commit)));
        Self::Apart(sender)
    }

    /// Has an order obeyed. Dropped before the hand-over, nothing has happened; after it, the order is obeyed all the same.
    pub(super) async fn submit(&self, order: Order, holding: Holding) -> Answer {
        match self {
            Self::Inline(desk) => {
                let answer = desk.store.apply(vec![order], desk.clock.now()).pop();
                drop(holding);
                desk.ring(answer.as_slice());
                answer.unwrap_or(Err(QueueError::Closed))
            }
            Self::Apart(sender) => {
                let (message, answered) = handed_over(order, holding, Lot::default());
                sender.send(message).await.map_err(|_| QueueError::Closed)?;
                answered.await.unwrap_or(Err(QueueError::Closed))
            }
        }
    }

    /// The same for a message whose client can come again: when a commit is seen to hang, one that is in none yet is taken back.
    ///
    /// # Errors
    /// Besides the store's, [`QueueError::Full`]: it is never made.
    pub(super) async fn submit_or_take_back(&self, order: Order, holding: Holding, committing: &Committing) -> Answer {
        let Self::Apart(sender) = self else { return self.submit(order, holding).await };
        let lot = Lot::default();
        let (message, answered) = handed_over(order, holding, lot.clone());
        let handing = async {
            sender.send(message).await.map_err(|_| QueueError::Closed)?;
            answered.await.unwrap_or(Err(QueueError::Closed))
        };
        tokio::pin!(handing);
        tokio::select! {
            biased;
            answer = &mut handing => return answer,
            () = committing.hangs() => {}
        }
        match lot.draw() {
            Drawn::First => Err(QueueError::Full(format!(
                "the disk of data_dir hangs: it has not finished a commit for {} s and more, and this message was in none yet",
                STALLED.as_secs()
            ))),
            // It is being written: only the disk knows.
            Drawn::Second => handing.await,
        }
    }

    /// Has several obeyed, in their order; whoever calls sees to it that they are few. Their changes share a transaction, or a few.
    pub(super) async fn submit_all(&self, orders: Vec<(Order, Holding)>) -> Vec<Answer> {
        match self {
            Self::Inline(desk) => {
                let (orders, holdings): (Vec<Order>, Vec<Holding>) = orders.into_iter().unzip();
                let answers = desk.store.apply(orders, desk.clock.now());
                drop(holdings);
                desk.ring(&answers);
                answers
            }
            Self::Apart(sender) => {
                let mut waiting = Vec::with_capacity(orders.len());
                for (order, holding) in orders {
                    let (message, answered) = handed_over(order, holding, Lot::default());
                    waiting.push(sender.send(message).await.is_ok().then_some(answered));
                }
                let mut answers = Vec::with_capacity(waiting.len());
                for answered in waiting {
                    let answer = match answered {
                        Some(answered) => answered.await.unwrap_or(Err(QueueError::Closed)),
                        None => Err(QueueError::Closed),
                    };
                    answers.push(answer);
                }
                answers
            }
        }
    }

    /// Waits for the end of the thread; whoever calls inline has none.
    pub(super) async fn ended(&self) {
        match self {
            Self::Inline(_) => std::future::pending().await,
            Self::Apart(sender) => sender.closed().await,
        }
    }

    /// Obeys what has been handed over, then closes the store.
    pub(super) async fn close(&self) {
        match self {
            Self::Inline(desk) => desk.store.close(),
            Self::Apart(sender) => {
                let (closed, is_closed) = oneshot::channel();
                // An error says that it is closed already.
                if sender.send(Message::Close(closed)).await.is_ok() {
                    is_closed.await.ok();
                }
            }
        }
    }
}

/// An order on its way, and where its answer comes.
fn handed_over(order: Order, holding: Holding, lot: Lot) -> (Message, oneshot::Receiver<Answer>) {
    let (answer, answered) = oneshot::channel();
    (Message::Order(Box::new(HandedOver { order, holding, answer, lot })), answered)
}

impl Desk {
    /// Works until it is told to close, or nobody can ask any more. `wait` waits for the next message, without end or for so long: a test that explores
    /// the order of threads waits in its own way.
    pub(super) fn run(
        self,
        receiver: mpsc::Receiver<Message>,
        wait: impl Fn(&mut mpsc::Receiver<Message>, Option<Duration>) -> Option<Message>,
    ) {
        // All its waits block, so that it is done when it was begun.
        self.work(receiver, Blocking(wait)).now_or_never();
    }

    async fn work(self, mut receiver: mpsc::Receiver<Message>, ear: impl Ear) {
        let mut pace = Pace::default();
        let mut closing = None;
        while closing.is_none()
            && let Some(first) = ear.wait(&mut receiver, None).await
        {
            let batch = self.gather(first, &pace, &mut receiver, &ear).await;
            let began = self.clock.now().mono;
            self.committing.begin(began);
            self.obey(batch.orders, &ear).await;
            pace.committed(batch.gathered, began, self.clock.now().mono);
            closing = batch.closing;
        }
        self.store.close();
        if let Some(closed) = closing {
            closed.send(()).ok();
        }
    }

    /// The first, what has come since, and what comes while it pays to wait for it.
    async fn gather(
        &self,
        first: Message,
        pace: &Pace,
        receiver: &mut mpsc::Receiver<Message>,
        ear: &impl Ear,
    ) -> Batch {
        let gathered = Gathered::new(self.clock.now().mono);
        let mut batch = Batch { orders: Vec::new(), gathered, closing: None };
        let mut next = Some(first);
        while let Some(message) = next.take() {
            match message {
                Message::Order(order) => batch.add(*order),
                Message::Close(closed) => {
                    batch.closing = Some(closed);
                    break;
                }
            }
            if batch.orders.len() >= BATCH_MAX {
                break;
            }
            next = receiver.try_recv().ok();
            if next.is_none() {
                let patience = pace.patience(&mut batch.gathered, self.coming.company(), self.clock.now().mono);
                next = if patience.is_zero() { None } else { ear.wait(receiver, Some(patience)).await };
            }
        }
        batch
    }

    async fn obey(&self, batch: Vec<HandedOver>, ear: &impl Ear) {
        let mut orders = Vec::with_capacity(batch.len());
        let mut waiting = Vec::with_capacity(batch.len());
        for HandedOver { order, holding, answer, .. } in batch {
            orders.push(order);
            waiting.push((holding, answer));
        }
        let answers = if orders.is_empty() { Vec::new() } else { self.store.apply(orders, self.clock.now()) };
        ear.commit().await;
        // Before anybody is told: who hears of an end finds that it has come.
        self.committing.end();
        let is_well = is_well(&answers);
        for ((holding, waiter), answer) in waiting.into_iter().zip(answers) {
            drop(holding);
            // Whoever asked may have gone away; what was asked is done.
            waiter.send(answer).ok();
        }
        self.ring_all(is_well);
    }

    fn ring(&self, answers: &[Answer]) {
        self.ring_all(is_well(answers));
    }

    fn ring_all(&self, is_well: bool) {
        self.work.notify_waiters();
        self.room.freed.notify_waiters();
        if is_well {
            self.committing.well.notify_waiters();
        }
    }
}

/// Whether something was written, or could have been.
fn is_well(answers: &[Answer]) -> bool {
    answers.iter().any(Result::is_ok)
}

#[cfg(test)]
impl HandedOver {
    /// An order of whose answer nobody wants to know.
    pub(super) fn unanswered(order: Order, holding: Holding) -> Self {
        Self { order, holding, answer: oneshot::channel().0, lot: Lot::default() }
    }
}

impl Batch {
    fn add(&mut self, mut order: HandedOver) {
        // It was taken back.
        if order.lot.draw() == Drawn::Second {
            return;
        }
        drop(order.holding.expected.take());
        self.gathered.add(&order.order);
        self.orders.push(order);
    }
}
