#![allow(clippy::as_conversions, clippy::disallowed_methods, reason = "tests count and measure")]

mod at_hand;
mod claims;
mod compact;
mod conformance;
mod damage;
mod fair;
mod full;
mod gather;
mod hand_off;
mod hung;
mod late;
mod room;
mod rot;
mod seen;
mod shelf;
mod transfer;

use std::path::Path;
use std::time::Duration;

use super::record::samples;
use super::settings::GATHER_MAX;
use super::store::{NewBody, NewMessage};
use super::*;
use crate::sys::disk::{Fault, Open};
use crate::sys::{ManualClock, SeededEntropy, SimulatedDisk, SystemDisk, WallTime};

#[path = "tests/ledger.rs"]
mod ledger_tests;

const START: WallTime = WallTime::from_seconds(1_800_000_000);

/// A queue on a simulated disk, its core inline, its clock moved by hand.
struct Bench {
    disk: SimulatedDisk,
    clock: Arc<ManualClock>,
    queue: Queue,
}

fn settings() -> QueueSettings {
    let whole = 100;
    QueueSettings {
        driving: Driving::Inline,
        cache: 1 << 20,
        share_per_identity: whole,
        memory_share_per_identity: whole,
        ..QueueSettings::new("/q")
    }
}

fn try_open(
    disk: &SimulatedDisk,
    clock: &Arc<ManualClock>,
    settings: QueueSettings,
) -> Result<(Queue, Recovery), OpenError> {
    let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(clock);
    Queue::open(settings, Arc::new(disk.clone()), clock, Arc::new(SeededEntropy::new(1)))
}

impl Bench {
    fn new(settings: QueueSettings) -> Self {
        let disk = SimulatedDisk::new(1);
        let clock = Arc::new(ManualClock::at(START));
        let (queue, _) = try_open(&disk, &clock, settings).unwrap();
        Self { disk, clock, queue }
    }

    async fn keep(&self, body: &[u8]) -> QueueId {
        self.keep_with(body, samples::deposit(self.clock.now().wall)).await
    }

    async fn keep_with(&self, body: &[u8], deposit: Deposit) -> QueueId {
        let mut incoming = self.queue.admit("alice", None).await.unwrap();
        incoming.write(body).await.unwrap();
        incoming.commit(deposit).await.unwrap().id()
    }

    async fn claim_now(&self) -> Option<Claim> {
        tokio::time::timeout(Duration::ZERO, self.queue.claim()).await.ok()
    }

    async fn restart(&mut self) -> Recovery {
        self.queue.close().await;
        self.reopen()
    }

    fn reopen(&mut self) -> Recovery {
        let (queue, recovery) = try_open(&self.disk, &self.clock, settings()).unwrap();
        self.queue = queue;
        recovery
    }

    /// The store opens itself again on the next change, if it has to; one of what is not there changes nothing.
    async fn comes_back(&self) {
        let nobody = QueueId::from_u128(0);
        for _ in 0..3 {
            if self.queue.hold(nobody).await == Err(QueueError::NotFound(nobody)) {
                return;
            }
        }
        panic!("the disk is well, and the store does not come back");
    }

    async fn record(&self, id: QueueId) -> Record {
        match self.queue.show(id).await.unwrap() {
            Listed::Message(record) => *record,
            Listed::Unreadable(id, reason) => panic!("{id}: {reason}"),
        }
    }

    /// Flips a bit of the file of messages where it holds `octets`.
    fn damage(&self, octets: &[u8]) {
        let store = Path::new("/q/messages-0");
        let shown = self.disk.octets(store).unwrap();
        let places = shown.windows(octets.len()).enumerate().filter(|(_, window)| *window == octets);
        let places: Vec<u64> = places.map(|(place, _)| place as u64).collect();
        assert!(!places.is_empty());
        for place in places {
            assert!(self.disk.damage(store, place, 1));
        }
    }
}

/// Virtual time: a wait costs nothing.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(work)
}

fn nothing_tried(next: Next) -> Conclusion {
    Conclusion { outcomes: Vec::new(), next, report: None, warned: false }
}

async fn whole(mut reader: BodyReader) -> Result<Vec<u8>, QueueError> {
    let mut octets = Vec::new();
    while let Some(piece) = reader.next().await? {
        octets.extend_from_slice(&piece);
    }
    Ok(octets)
}

fn body(length: usize) -> Vec<u8> {
    let mut octets = vec![0; length];
    SeededEntropy::new(length as u64).fill(&mut octets);
    octets
}

#[test]
fn a_second_process_is_told_that_the_folder_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let clock = Arc::new(ManualClock::at(START));
        let settings = QueueSettings { driving: Driving::Inline, ..QueueSettings::new(folder.path()) };
        Queue::open(settings, Arc::new(SystemDisk), clock, Arc::new(SeededEntropy::new(1)))
    };
    let (queue, _) = open().unwrap();
    let second = open().unwrap_err();
    assert!(matches!(second, OpenError::InUse(_)), "{second}");
    block_on(queue.close());
    open().unwrap();
}

/// A list of a folder shows files alone: what a link or a folder of that name stood for was hidden by a new store, empty, in its place.
#[test]
fn what_has_the_name_of_the_store_and_is_none_is_not_replaced() {
    let above = tempfile::tempdir().unwrap();
    let (elsewhere, nowhere) = (above.path().join("elsewhere"), above.path().join("nowhere"));
    std::fs::write(&elsewhere, "").unwrap();
    for (number, leads_to) in [Some(&elsewhere), Some(&nowhere), None].into_iter().enumerate() {
        let folder = above.path().join(number.to_string());
        let store = folder.join("store.redb");
        std::fs::create_dir(&folder).unwrap();
        match leads_to {
            Some(there) => std::os::unix::fs::symlink(there, &store).unwrap(),
            None => std::fs::create_dir(&store).unwrap(),
        }
        let settings = QueueSettings { driving: Driving::Inline, ..QueueSettings::new(&folder) };
        let clock = Arc::new(ManualClock::at(START));
        let fault = Queue::open(settings, Arc::new(SystemDisk), clock, Arc::new(SeededEntropy::new(1))).unwrap_err();
        assert!(matches!(fault, OpenError::Disk(..)), "{leads_to:?}: {fault}");
        assert!(!store.symlink_metadata().unwrap().is_file(), "{leads_to:?}: it is gone");
        assert!(!folder.join("messages-0").exists() && !nowhere.exists(), "{leads_to:?}: something was made");
    }
}

#[test]
fn nothing_is_taken_while_the_folder_is_not_the_one_that_was_opened() {
    let above = tempfile::tempdir().unwrap();
    let (folder, aside) = (above.path().join("data"), above.path().join("aside"));
    let clock = Arc::new(ManualClock::at(START));
    let settings = QueueSettings { driving: Driving::Inline, ..QueueSettings::new(&folder) };
    let told: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    let (queue, _) = Queue::open(settings, Arc::new(SystemDisk), told, Arc::new(SeededEntropy::new(1))).unwrap();
    block_on(async {
        let admitted = async || {
            // What was seen a moment ago would let somebody in.
            clock.advance(Duration::from_secs(1));
            queue.admit("alice", None).await.map(drop)
        };
        admitted().await.unwrap();
        let (before, just_before) =
            (queue.admit("alice", None).await.unwrap(), queue.admit("alice", None).await.unwrap());
        std::fs::rename(&folder, &aside).unwrap();
        let (too_late, at_once) = (before.commit(samples::deposit(START)).await, queue.admit("alice", None).await);
        let at_once = at_once.unwrap().commit(samples::deposit(START)).await;
        for kept in [too_late, at_once] {
            assert!(
                matches!(&kept, Err(QueueError::Broken(why)) if why.contains("not the folder any more")),
                "{kept:?}"
            );
        }
        let gone = admitted().await.unwrap_err();
        // Files that are open go on being written: only the name tells that nobody will find them again.
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("lock"), "").unwrap();
        let another = admitted().await.unwrap_err();
        for fault in [gone, another] {
            assert!(matches!(&fault, QueueError::Broken(why) if why.contains("not the folder any more")), "{fault}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
        std::fs::rename(&aside, &folder).unwrap();
        admitted().await.unwrap();
        just_before.commit(samples::deposit(START)).await.unwrap();
        queue.close().await;
    });
}

#[test]
fn many_at_once_are_all_kept_and_all_delivered() {
    const MANY: usize = 200;
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    let clock = Arc::new(ManualClock::at(START));
    let settings = QueueSettings::new(folder.path());
    let (queue, _) = Queue::open(settings, Arc::new(SystemDisk), clock, Arc::new(SeededEntropy::new(7))).unwrap();
    runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..MANY {
            let queue = queue.clone();
            tasks.spawn(async move {
                let octets = body(if number % 50 == 0 { GATHER_MAX + number } else { number });
                let identity = format!("identity-{}", number % 3);
                let mut incoming = queue.admit(&identity, None).await.unwrap();
                incoming.write(&octets).await.unwrap();
                (incoming.commit(samples::deposit(START)).await.unwrap().id(), octets)
            });
        }
        let mut kept: std::collections::BTreeMap<_, _> = tasks.join_all().await.into_iter().collect();
        assert_eq!(queue.stats().await.unwrap().totals.queued.count, MANY as u64);
        while !kept.is_empty() {
            let claim = queue.claim().await;
            assert_eq!(whole(claim.body()).await.as_ref(), Ok(&kept.remove(&claim.id()).unwrap()));
            claim.conclude(nothing_tried(Next::Finished)).await.unwrap();
        }
        assert_eq!(queue.stats().await.unwrap().totals, Totals::default());
        queue.close().await;
        assert_eq!(queue.admit("alice", None).await.unwrap_err(), QueueError::Closed);
    });
}

#[test]
fn a_commit_that_was_handed_over_is_kept_though_its_future_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let open = || {
        let clock = Arc::new(ManualClock::at(START));
        Queue::open(QueueSettings::new(folder.path()), Arc::new(SystemDisk), clock, Arc::new(SeededEntropy::new(1)))
    };
    runtime.block_on(async {
        let (queue, _) = open().unwrap();
        let mut incoming = queue.admit("alice", None).await.unwrap();
        let id = incoming.id();
        incoming.write(b"hello").await.unwrap();
        tokio::select! {
            biased;
            _ = incoming.commit(samples::deposit(START)) => {}
            () = std::future::ready(()) => {}
        }
        queue.close().await;
        let (queue, _) = open().unwrap();
        assert_eq!(whole(queue.body(id).await.unwrap()).await.unwrap(), b"hello");
        queue.close().await;
    });
}

#[test]
fn what_is_dropped_before_its_commit_leaves_nothing() {
    block_on(async {
        let bench = Bench::new(settings());
        for length in [0, 10, GATHER_MAX + 1] {
            let mut incoming = bench.queue.admit("alice", None).await.unwrap();
            incoming.write(&body(length)).await.unwrap();
        }
        assert_eq!(bench.disk.list(Path::new("/q/bodies")).unwrap(), []);
        assert_eq!(bench.queue.stats().await.unwrap().totals, Totals::default());
    });
}

#[test]
fn fifty_mebibytes_need_a_quarter_of_one_in_memory() {
    block_on(async {
        let bench = Bench::new(settings());
        let octets = body(1 << 20);
        let mut incoming = bench.queue.admit("alice", Some(50 << 20)).await.unwrap();
        for _ in 0..50 {
            incoming.write(&octets).await.unwrap();
            assert!(incoming.gathered.capacity() <= GATHER_MAX, "{}", incoming.gathered.capacity());
        }
        let id = incoming.commit(samples::deposit(START)).await.unwrap().id();
        let mut reader = bench.queue.body(id).await.unwrap();
        let mut length = 0;
        while let Some(piece) = reader.next().await.unwrap() {
            assert!(piece.len() <= settings::PIECE);
            length += piece.len();
        }
        assert_eq!(length, 50 << 20);
    });
}

#[test]
fn a_reader_that_is_rewound_reads_the_same_again() {
    block_on(async {
        let bench = Bench::new(settings());
        let octets = body(200_000);
        let id = bench.keep(&octets).await;
        let mut reader = bench.queue.body(id).await.unwrap();
        reader.next().await.unwrap().unwrap();
        reader.rewind();
        assert_eq!(whole(reader).await.unwrap(), octets);
    });
}

#[test]
fn when_memory_is_short_a_body_goes_to_a_file() {
    block_on(async {
        let bench = Bench::new(QueueSettings { memory: 100 * 1024, ..settings() });
        let octets = body(200_000);
        let id = bench.keep(&octets).await;
        assert_eq!(bench.disk.list(Path::new("/q/bodies")).unwrap().len(), 1);
        assert_eq!(whole(bench.queue.body(id).await.unwrap()).await.unwrap(), octets);
        bench.queue.remove(id).await.unwrap();
        assert_eq!(bench.disk.list(Path::new("/q/bodies")).unwrap(), []);
    });
}

/// A quarter of a mebibyte was held to the end by each: of a thousand who sent large messages at once, most were told to come again.
#[test]
fn what_is_in_a_file_already_takes_no_memory_from_others() {
    block_on(async {
        let bench = Bench::new(QueueSettings { memory: 320 * 1024, ..settings() });
        let (octets, mut large) = (body(GATHER_MAX + 100_000), bench.queue.admit("alice", None).await.unwrap());
        large.write(&octets).await.unwrap();
        let before = tokio::time::Instant::now();
        drop(bench.queue.admit("alice", None).await.unwrap());
        assert_eq!(before.elapsed(), Duration::ZERO);
        let id = large.commit(samples::deposit(START)).await.unwrap().id();
        assert_eq!(whole(bench.queue.body(id).await.unwrap()).await.unwrap(), octets);
    });
}

#[test]
fn without_memory_a_message_waits_and_then_comes_again() {
    block_on(async {
        let bench = Bench::new(QueueSettings { memory: 64 * 1024, ..settings() });
        let first = bench.queue.admit("alice", None).await.unwrap();
        let before = tokio::time::Instant::now();
        let second = bench.queue.admit("alice", None).await.unwrap_err();
        assert!(matches!(second, QueueError::Full(_)), "{second}");
        assert_eq!(before.elapsed(), settings().wait);
        let (third, ()) = tokio::join!(bench.queue.admit("alice", None), async { drop(first) });
        drop(third.unwrap());
    });
}

#[test]
fn a_full_queue_takes_reports_and_outcomes_but_no_mail() {
    block_on(async {
        let bench = Bench::new(QueueSettings { count: 3, reserve_count: 1, ..settings() });
        bench.keep(b"one").await;
        bench.keep(b"two").await;
        assert!(matches!(bench.queue.admit("alice", None).await, Err(QueueError::Full(_))));
        let claim = bench.claim_now().await.unwrap();
        let report = Some((samples::deposit(START), b"three".to_vec()));
        let conclusion = Conclusion { report, ..nothing_tried(Next::Dead("no report".to_owned())) };
        let report = claim.conclude(conclusion).await.unwrap().unwrap();
        assert_eq!(whole(bench.queue.body(report).await.unwrap()).await.unwrap(), b"three");
        let (room, removed) = tokio::join!(bench.queue.admit("alice", None), async {
            bench.queue.remove(report).await?;
            bench.claim_now().await.unwrap().conclude(nothing_tried(Next::Finished)).await
        });
        removed.unwrap();
        drop(room.unwrap());
    });
}

#[test]
fn a_message_larger_than_the_room_is_refused_before_and_while_it_is_written() {
    block_on(async {
        let bench = Bench::new(QueueSettings { size: 1 << 20, reserve_size: 0, ..settings() });
        assert!(matches!(bench.queue.admit("alice", Some(2 << 20)).await, Err(QueueError::Full(_))));
        let mut incoming = bench.queue.admit("alice", None).await.unwrap();
        incoming.write(&body(1 << 20)).await.unwrap();
        assert!(matches!(incoming.write(b"x").await, Err(QueueError::Full(_))));
        let committed = incoming.commit(samples::deposit(START)).await;
        assert!(matches!(committed, Err(QueueError::Broken(_))), "part of it is missing");
    });
}

#[test]
fn a_full_disk_says_come_again_and_takes_mail_when_there_is_space_without_a_restart() {
    block_on(async {
        let bench = Bench::new(QueueSettings { reserve_size: 0, ..settings() });
        bench.disk.set_space(0);
        assert!(matches!(bench.queue.admit("alice", Some(10 << 20)).await, Err(QueueError::Full(_))));
        let mut incoming = bench.queue.admit("alice", None).await.unwrap();
        let filled = incoming.write(&body(GATHER_MAX * 2)).await;
        assert!(matches!(filled, Err(QueueError::Full(_))), "{filled:?}");
        drop(incoming);
        bench.disk.set_space(1 << 30);
        bench.keep(&body(GATHER_MAX * 2)).await;
    });
}

fn new_message(number: u128, octets: &[u8]) -> Order {
    let mut record = samples::record(number);
    record.length = octets.len() as u64;
    record.checksum = xxhash_rust::xxh3::xxh3_64(octets);
    let body = NewBody::Octets(octets.to_vec());
    Order::Deposit(Box::new(NewMessage { record, body, spending: None, sighting: None, mark: None, account: None }))
}

#[test]
fn an_order_that_cannot_be_obeyed_hinders_no_other_of_its_batch() {
    let bench = Bench::new(settings());
    let (store, nobody) = (&bench.queue.inner.store, QueueId::from_u128(9));
    let batch = vec![new_message(1, b"one"), Order::Remove(nobody), new_message(2, b"two")];
    let answers = store.apply(batch, bench.clock.now());
    assert_eq!(answers, [Ok(()), Err(QueueError::NotFound(nobody)), Ok(())]);
    assert_eq!(store.totals().queued, Tally { count: 2, octets: 6 });
}

#[test]
fn when_the_sync_of_a_batch_fails_none_of_it_is_there() {
    for nth in 1..20 {
        let bench = Bench::new(settings());
        let store = &bench.queue.inner.store;
        bench.disk.fail(nth, 0, Fault::Error);
        let answers = store.apply(vec![new_message(1, b"one"), new_message(2, b"two")], bench.clock.now());
        let kept = if answers.iter().all(Result::is_ok) {
            2
        } else {
            assert!(answers.iter().all(|answer| matches!(answer, Err(QueueError::Broken(_)))), "{answers:?}");
            store.apply(vec![Order::Mend], bench.clock.now());
            0
        };
        assert_eq!(store.totals().queued.count, kept, "operation {nth}");
        let all = store.list(Filter::default(), Page { after: None, limit: 10 }).unwrap();
        assert_eq!(all.entries.len() as u64, kept, "operation {nth}");
    }
}

// Nothing is tried for a while.
