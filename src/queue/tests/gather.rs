//! Who is committed together: the real writer and the real store, told what comes when, on a clock that goes on with each look at it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::mpsc;

use super::*;
use crate::queue::budget::Room;
use crate::queue::gather::{Brings, Coming, Expected, OUTCOME_MAX, PRESSING_MAX};
use crate::queue::writer::{HandedOver, Message};
use crate::sys::{MonoTime, Now};

/// So long each look at the clock takes; a commit takes two or three.
const LOOK: Duration = Duration::from_micros(100);

#[derive(Debug, Default)]
struct Ticking(AtomicU32);

impl Clock for Ticking {
    fn now(&self) -> Now {
        let looks = self.0.fetch_add(1, Ordering::Relaxed);
        Now { wall: START, mono: MonoTime::from_start(LOOK * looks) }
    }
}

/// What somebody hands over when the writer waits.
enum Hands {
    /// A message that was on the way.
    Message,
    /// An outcome of what was being tried.
    Outcome,
    /// Nothing: the time is over.
    Nothing,
}

/// Who is on the way and being tried at the beginning, and what is handed over at each wait. What the writer did: `m` and `o` for what it took, `.` for a
/// wait, a space where it committed.
fn check(what: &str, messages: usize, outcomes: usize, script: Vec<Hands>, done: &str) {
    let bench = Bench::new(settings());
    let coming = Arc::new(Coming::default());
    let expect = |count, brings| (0..count).map(|_| coming.expect(brings)).collect::<VecDeque<Expected>>();
    let there = RefCell::new((expect(messages, Brings::Message), expect(outcomes, Brings::Outcome)));
    let (script, seen) = (RefCell::new(VecDeque::from(script)), RefCell::new(String::new()));
    let wait = |_: &mut mpsc::Receiver<Message>, most: Option<Duration>| {
        assert!(most.is_none_or(|most| most <= OUTCOME_MAX && !most.is_zero()));
        seen.borrow_mut().push(if most.is_some() { '.' } else { ' ' });
        let (hands, mut there) = (script.borrow_mut().pop_front()?, there.borrow_mut());
        let (letter, order, expected) = match hands {
            Hands::Message => ('m', Order::Hold(QueueId::from_u128(1)), there.0.pop_front()),
            Hands::Outcome => {
                let ticket = Ticket { id: QueueId::from_u128(1), fence: 1 };
                let next = Next::Finished;
                let order = Order::Conclude { ticket, outcomes: Vec::new(), next, warned: false, report: None };
                ('o', order, there.1.pop_front())
            }
            Hands::Nothing => return None,
        };
        seen.borrow_mut().push(letter);
        let holding = Holding { expected, ..Holding::default() };
        Some(Message::Order(Box::new(HandedOver::unanswered(order, holding))))
    };
    let desk = Desk {
        store: Arc::clone(&bench.queue.inner.store),
        clock: Arc::new(Ticking::default()),
        work: Arc::new(Notify::new()),
        room: Arc::new(Room::new(&settings())),
        coming: Arc::clone(&coming),
        committing: Arc::default(),
    };
    // Kept open: nobody else sends, so all that comes is the script's.
    let (_sender, receiver) = mpsc::channel(1);
    desk.run(receiver, wait);
    assert_eq!(seen.borrow().trim(), done, "{what}");
}

/// What the simulation rests on: who comes while a commit lasts shares the next, and none is said to be kept before.
#[test]
fn where_a_commit_takes_time_of_the_runtime_who_comes_meanwhile_shares_the_next() {
    block_on(async {
        let syncs_of = async |driving| {
            let bench = Bench::new(QueueSettings { driving, ..settings() });
            let began = tokio::time::Instant::now();
            let before = bench.disk.operations();
            let keeping = (0..20).map(|_| bench.keep(b"x"));
            let kept = futures_util::future::join_all(keeping.collect::<Vec<_>>()).await;
            for id in kept {
                assert!(bench.queue.show(id).await.is_ok());
            }
            let (operations, took) = (bench.disk.operations() - before, began.elapsed());
            bench.queue.close().await;
            (operations, took)
        };
        let (alone, at_once) = syncs_of(Driving::Inline).await;
        let (shared, took) = syncs_of(Driving::Simulated(Duration::from_millis(100))).await;
        assert_eq!(at_once, Duration::ZERO);
        assert!(shared * 4 < alone, "{shared} operations of the disk, against {alone}");
        assert!((100..=300).contains(&took.as_millis()), "{took:?}");
    });
}

#[test]
fn those_who_wait_at_the_same_time_share_a_commit_and_who_is_alone_has_one_at_once() {
    use Hands::{Message, Nothing, Outcome};
    let m = || Message;
    check("one after the other, alone", 0, 0, vec![m(), m(), m()], "m m m");
    check("the first of all, then those on the way", 4, 0, vec![m(), m(), m(), m()], "m m.m.m");
    check("who does not come is not waited for again", 4, 0, vec![m(), m(), Nothing, m(), m()], "m m. m m");
    check("as many as the last time", 3, 0, vec![m(), m(), m(), m(), Nothing, m()], "m m.m m. m");
    check("a message goes beside what is tried", 0, 9, vec![m(), m()], "m m");
    check("an outcome alone", 0, 1, vec![Outcome], "o");
    check("an outcome just behind a message goes with the next", 0, 1, vec![m(), Outcome, m()], "m o.m");
    check("outcomes together", 0, 4, vec![Outcome, Outcome, Outcome, Outcome], "o.o.o.o");
    check("outcomes, and one that hangs", 0, 3, vec![Outcome, Outcome, Nothing, Outcome], "o.o. o");
    check("an outcome goes with the next message", 1, 9, vec![Outcome, Outcome, m(), Outcome], "o.o.m o.");
    check("with several", 3, 9, vec![m(), Outcome, m(), m()], "m o.m.m");
    assert!(PRESSING_MAX < OUTCOME_MAX);
}
