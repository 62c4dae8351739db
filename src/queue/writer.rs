//! The one writer: takes orders over a bounded hand-off, commits whatever has gathered, answers each.
//!
//! When nobody else is coming, an order is committed at once; while a commit is under way, the next batch gathers; how long it gathers behind that, `gather`
//! says. Never: answers before the store says that it is on stable storage.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};

use super::QueueError;
use super::budget::{Granted, Room, Share};
use super::gather::{Coming, Expected, Gathered, Pace};
use super::settings::{BATCH_MAX, HAND_OFF};
use super::store::{Order, Store};
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
}

pub(super) struct HandedOver {
    order: Order,
    holding: Holding,
    answer: oneshot::Sender<Answer>,
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
}

/// What is committed together, and who is to be told when it is closed behind that.
struct Batch {
    orders: Vec<HandedOver>,
    gathered: Gathered,
    closing: Option<oneshot::Sender<()>>,
}

/// The way to the writer.
pub(super) enum Writer {
    /// A thread.
    Thread(mpsc::Sender<Message>),
    /// Whoever calls.
    Inline(Desk),
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Thread(_) => "Writer::Thread",
            Self::Inline(_) => "Writer::Inline",
        })
    }
}

impl Writer {
    pub(super) fn start(desk: Desk) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel(HAND_OFF);
        std::thread::Builder::new().name("queue-writer".to_owned()).spawn(move || desk.run(receiver, receive))?;
        Ok(Self::Thread(sender))
    }

    /// Has an order obeyed. Dropped before the hand-over, nothing has happened; after it, the order is obeyed all the same.
    pub(super) async fn submit(&self, order: Order, holding: Holding) -> Answer {
        match self {
            Self::Inline(desk) => {
                let answer = desk.store.apply(vec![order], desk.clock.now()).pop();
                drop(holding);
                desk.ring();
                answer.unwrap_or(Err(QueueError::Closed))
            }
            Self::Thread(sender) => {
                let (answer, answered) = oneshot::channel();
                let message = Message::Order(Box::new(HandedOver { order, holding, answer }));
                sender.send(message).await.map_err(|_| QueueError::Closed)?;
                answered.await.unwrap_or(Err(QueueError::Closed))
            }
        }
    }

    /// Has several obeyed, in their order; whoever calls sees to it that they are few. Their changes share a transaction, or a few.
    pub(super) async fn submit_all(&self, orders: Vec<(Order, Holding)>) -> Vec<Answer> {
        match self {
            Self::Inline(desk) => {
                let (orders, holdings): (Vec<Order>, Vec<Holding>) = orders.into_iter().unzip();
                let answers = desk.store.apply(orders, desk.clock.now());
                drop(holdings);
                desk.ring();
                answers
            }
            Self::Thread(sender) => {
                let mut waiting = Vec::with_capacity(orders.len());
                for (order, holding) in orders {
                    let (answer, answered) = oneshot::channel();
                    let message = Message::Order(Box::new(HandedOver { order, holding, answer }));
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
            Self::Thread(sender) => sender.closed().await,
        }
    }

    /// Obeys what has been handed over, then closes the store.
    pub(super) async fn close(&self) {
        match self {
            Self::Inline(desk) => desk.store.close(),
            Self::Thread(sender) => {
                let (closed, is_closed) = oneshot::channel();
                // An error says that it is closed already.
                if sender.send(Message::Close(closed)).await.is_ok() {
                    is_closed.await.ok();
                }
            }
        }
    }
}

impl Desk {
    /// Works until it is told to close, or nobody can ask any more. `wait` waits for the next message, without end or for so long: a test that explores
    /// the order of threads waits in its own way.
    pub(super) fn run(
        self,
        mut receiver: mpsc::Receiver<Message>,
        wait: impl Fn(&mut mpsc::Receiver<Message>, Option<Duration>) -> Option<Message>,
    ) {
        let mut pace = Pace::default();
        let mut closing = None;
        while closing.is_none()
            && let Some(first) = wait(&mut receiver, None)
        {
            let batch = self.gather(first, &pace, &mut receiver, &wait);
            let began = self.clock.now().mono;
            self.obey(batch.orders);
            pace.committed(batch.gathered, began, self.clock.now().mono);
            closing = batch.closing;
        }
        self.store.close();
        if let Some(closed) = closing {
            closed.send(()).ok();
        }
    }

    /// The first, what has come since, and what comes while it pays to wait for it.
    fn gather(
        &self,
        first: Message,
        pace: &Pace,
        receiver: &mut mpsc::Receiver<Message>,
        wait: &impl Fn(&mut mpsc::Receiver<Message>, Option<Duration>) -> Option<Message>,
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
            next = receiver.try_recv().ok().or_else(|| {
                let patience = pace.patience(&mut batch.gathered, self.coming.company(), self.clock.now().mono);
                if patience.is_zero() { None } else { wait(receiver, Some(patience)) }
            });
        }
        batch
    }

    fn obey(&self, batch: Vec<HandedOver>) {
        let mut orders = Vec::with_capacity(batch.len());
        let mut waiting = Vec::with_capacity(batch.len());
        for HandedOver { order, holding, answer } in batch {
            orders.push(order);
            waiting.push((holding, answer));
        }
        if orders.is_empty() {
            return;
        }
        let answers = self.store.apply(orders, self.clock.now());
        for ((holding, waiter), answer) in waiting.into_iter().zip(answers) {
            drop(holding);
            // Whoever asked may have gone away; what was asked is done.
            waiter.send(answer).ok();
        }
        self.ring();
    }

    fn ring(&self) {
        self.work.notify_waiters();
        self.room.freed.notify_waiters();
    }
}

#[cfg(test)]
impl HandedOver {
    /// An order of whose answer nobody wants to know.
    pub(super) fn unanswered(order: Order, holding: Holding) -> Self {
        Self { order, holding, answer: oneshot::channel().0 }
    }
}

impl Batch {
    fn add(&mut self, mut order: HandedOver) {
        drop(order.holding.expected.take());
        self.gathered.add(&order.order);
        self.orders.push(order);
    }
}
