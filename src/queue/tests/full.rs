//! Want of space, and a disk that fails: the reserve is of the disk itself, who does not fit stands in nobody's way, and no outcome is forgotten.

use super::*;

/// A shelf with holes of a grain or two everywhere, from which nothing large can be put together; on a disk with so much left.
pub(super) async fn with_holes(reserve_size: u64, left: u64) -> Bench {
    let bench = Bench::new(QueueSettings { reserve_size, ..settings() });
    let batch: Vec<Order> = (1..=3000).map(|number| order(number, b"x".repeat(600).as_slice())).collect();
    assert!(bench.queue.inner.store.apply(batch, bench.clock.now()).iter().all(Result::is_ok));
    let removed = (1..=3000).step_by(2).map(|number| Order::Remove(QueueId::from_u128(number))).collect();
    assert!(bench.queue.inner.store.apply(removed, bench.clock.now()).iter().all(Result::is_ok));
    bench.disk.set_space(bench.disk.used().saturating_add(left));
    bench
}

fn order(number: u128, octets: &[u8]) -> Order {
    let id = QueueId::from_u128(number);
    let checksum = xxhash_rust::xxh3::xxh3_64(octets);
    let record = Record::new(id, samples::deposit(START), octets.len() as u64, checksum);
    let body = NewBody::Octets(octets.to_vec());
    Order::Deposit(Box::new(NewMessage { record, body, spending: None, sighting: None, mark: None, account: None }))
}

#[test]
fn the_reserve_is_of_the_disk_whatever_is_free_within_the_file() {
    block_on(async {
        let bench = with_holes(1_000_000, 200_000).await;
        let fill = bench.queue.fill().await.unwrap();
        assert!(fill.free <= 200_000, "what is told is what the disk has: {fill:?}");
        let refused = bench.queue.admit("mallory", Some(1)).await.unwrap_err();
        assert!(matches!(&refused, QueueError::Full(why) if why.contains("left to outcomes and reports")), "{refused}");
        let claim = bench.claim_now().await.unwrap();
        claim.conclude(nothing_tried(Next::Retry(START))).await.unwrap();
    });
}

#[test]
fn one_that_does_not_fit_is_refused_by_itself_and_the_outcome_beside_it_is_kept() {
    block_on(async {
        let bench = with_holes(0, 150_000).await;
        let claim = bench.claim_now().await.unwrap();
        let conclude =
            |ticket, next| Order::Conclude { ticket, outcomes: Vec::new(), next, warned: false, report: None };
        let batch =
            vec![conclude(claim.ticket(), Next::Finished), order(9_001, &body(200_000)), order(9_002, &body(400))];
        let answers = bench.queue.inner.store.apply(batch, bench.clock.now());
        let [Ok(()), Err(QueueError::Full(why)), Ok(())] = answers.as_slice() else { panic!("{answers:?}") };
        assert!(why.contains("this message needs"), "{why}");
        assert_eq!(bench.queue.show(claim.id()).await, Err(QueueError::NotFound(claim.id())));
        assert_eq!(bench.record(QueueId::from_u128(9_002)).await.length, 400);
    });
}

/// Once an outcome that could not be recorded was dropped, and whoever had the message was sent it again when the claim had run out.
#[test]
fn an_outcome_that_can_not_be_recorded_is_recorded_when_it_can_and_nobody_has_the_message_meanwhile() {
    for nth in 1..16 {
        for fault in [Fault::Error, Fault::NoSpace] {
            for reports in [false, true] {
                block_on(outlasts(nth, fault, reports));
            }
        }
    }
}

/// Outcomes wait a minute from one try to the next by then; once nothing but that minute's end had them recorded, and a restart within it sent all again.
#[test]
fn outcomes_that_wait_for_the_disk_are_recorded_as_soon_as_anything_is_and_each_second_at_the_end() {
    block_on(async {
        for at_the_end in [false, true] {
            let bench = Bench::new(settings());
            let mut waiting = Vec::new();
            for _ in 0..3 {
                bench.keep(b"x").await;
            }
            bench.disk.fail(1, u64::MAX, Fault::Error);
            for _ in 0..3 {
                let claim = bench.claim_now().await.unwrap();
                waiting.push(tokio::spawn(claim.conclude_surely(nothing_tried(Next::Finished))));
            }
            tokio::time::sleep(Duration::from_secs(300)).await;
            if at_the_end {
                bench.queue.begin_end();
                // Not at the moment of a try.
                tokio::time::sleep(Duration::from_millis(10_500)).await;
            }
            bench.disk.mend();
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert!(!waiting.iter().any(tokio::task::JoinHandle::is_finished));
            if !at_the_end {
                bench.keep(b"another").await;
            }
            let began = tokio::time::Instant::now();
            for one in waiting {
                assert_eq!(one.await.unwrap(), Ok(None));
            }
            assert!(began.elapsed() <= Duration::from_secs(2), "{:?}", began.elapsed());
        }
    });
}

/// The disk fails from its `nth` operation on, for two hours.
async fn outlasts(nth: u64, fault: Fault, reports: bool) {
    let bench = Bench::new(settings());
    let id = bench.keep(b"x").await;
    let claim = bench.claim_now().await.unwrap();
    let report =
        reports.then(|| (Deposit { custodian: Custodian::ours(), ..samples::deposit(START) }, b"why".to_vec()));
    let conclusion = Conclusion { report, ..nothing_tried(Next::Finished) };
    bench.disk.fail(nth, u64::MAX, fault);
    let recorded = claim.conclude_surely(conclusion);
    tokio::pin!(recorded);
    let mut done = None;
    for _ in 0..4 {
        if done.is_none() {
            done = tokio::time::timeout(Duration::from_secs(1800), &mut recorded).await.ok();
        }
        bench.clock.advance(Duration::from_secs(1800));
        assert!(done.is_some() || bench.claim_now().await.is_none(), "operation {nth}: it was given out again");
    }
    bench.disk.mend();
    let done = match done {
        Some(done) => done,
        None => recorded.await,
    };
    assert_eq!(done.as_ref().map(Option::is_some), Ok(reports), "operation {nth}");
    assert_eq!(bench.queue.show(id).await, Err(QueueError::NotFound(id)), "operation {nth}");
    let listing = bench.queue.list(Filter::default(), Page { after: None, limit: 10 }).await.unwrap();
    assert_eq!(listing.entries.len(), usize::from(reports), "operation {nth}: the report is there once");
    assert_eq!(bench.queue.stats().await.unwrap().totals.all().count, u64::from(reports));
}

/// A disk of which the syncs of one folder fail as soon as a file of it was renamed, once.
#[derive(Clone, Debug)]
struct ForgetsNames(SimulatedDisk, Arc<std::sync::atomic::AtomicU8>);

impl crate::sys::Disk for ForgetsNames {
    fn create_folder(&self, folder: &Path) -> std::io::Result<()> {
        self.0.create_folder(folder)
    }
    fn lock(&self, path: &Path) -> std::io::Result<Box<dyn crate::sys::disk::Lock>> {
        self.0.lock(path)
    }
    fn open(&self, path: &Path, how: Open) -> std::io::Result<Box<dyn crate::sys::DiskFile>> {
        self.0.open(path, how)
    }
    fn rename(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        self.0.rename(from, to)?;
        // Armed by the test, then by the renaming.
        self.1.compare_exchange(1, 2, std::sync::atomic::Ordering::SeqCst, std::sync::atomic::Ordering::SeqCst).ok();
        Ok(())
    }
    fn remove(&self, path: &Path) -> std::io::Result<()> {
        self.0.remove(path)
    }
    fn list(&self, folder: &Path) -> std::io::Result<Vec<crate::sys::disk::Entry>> {
        self.0.list(folder)
    }
    fn sync_folder(&self, folder: &Path) -> std::io::Result<()> {
        let order = std::sync::atomic::Ordering::SeqCst;
        if self.1.compare_exchange(2, 3, order, order).is_ok() {
            return Err(std::io::Error::other("the name is not on the disk"));
        }
        self.0.sync_folder(folder)
    }
    fn space_left(&self, folder: &Path) -> std::io::Result<u64> {
        self.0.space_left(folder)
    }
}

/// By a power cut the old index came back, and with it all was gone that was kept since in the new one.
#[test]
fn what_is_kept_after_a_compaction_whose_last_sync_failed_outlasts_a_power_cut() {
    for seed in 0..12 {
        block_on(async {
            let armed = Arc::new(std::sync::atomic::AtomicU8::new(0));
            let disk = SimulatedDisk::new(seed);
            let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(START));
            let forgetful: Arc<dyn crate::sys::Disk> = Arc::new(ForgetsNames(disk.clone(), Arc::clone(&armed)));
            let open =
                || Queue::open(settings(), Arc::clone(&forgetful), Arc::clone(&clock), Arc::new(SeededEntropy::new(1)));
            let keep = async |queue: &Queue, octets: &[u8]| {
                let mut incoming = queue.admit("alice", None).await.unwrap();
                incoming.write(octets).await.unwrap();
                incoming.commit(samples::deposit(START)).await.unwrap().id()
            };
            let (queue, _) = open().unwrap();
            let before = keep(&queue, b"before").await;
            armed.store(1, std::sync::atomic::Ordering::SeqCst);
            queue.compact(u64::MAX, |_, _| {}).await.unwrap_err();
            assert_eq!(armed.load(std::sync::atomic::Ordering::SeqCst), 3, "the last sync failed");
            let after = keep(&queue, b"answered 250").await;
            disk.crash();
            let (queue, _) = open().unwrap_or_else(|fault| panic!("seed {seed}: {fault}"));
            for id in [before, after] {
                assert!(queue.show(id).await.is_ok(), "seed {seed}: {id} is lost");
            }
        });
    }
}

/// A body of a file of its own, whose disk fails at its `nth` operation: while it comes, or while it goes. Whether anything failed.
async fn large_body(nth: u64, more: u64, fault: Fault, power_cut: bool, goes: bool) -> bool {
    let story = format!("operation {nth} and {more} more, {fault:?}, power cut: {power_cut}, goes: {goes}");
    let mut bench = Bench::new(settings());
    let octets = body(GATHER_MAX * 2);
    let before = if goes { Some(bench.keep(&octets).await) } else { None };
    bench.disk.fail(nth, more, fault);
    let done = match before {
        Some(id) => bench.queue.remove(id).await.map(|()| id),
        None => receive(&bench.queue, &octets).await,
    };
    // What a removal leaves behind is nobody's fault that anybody hears of.
    let failed = done.is_err() || bench.disk.has_failed();
    if power_cut {
        bench.disk.crash();
    }
    bench.disk.mend();
    if power_cut {
        bench.reopen();
    }
    bench.comes_back().await;
    let listing = bench.queue.list(Filter::default(), Page { after: None, limit: 10 }).await.unwrap();
    let there: Vec<QueueId> = listing.entries.iter().map(Listed::id).collect();
    match (&done, goes) {
        (Ok(id), false) => assert_eq!(there, [*id], "{story}: it was said to be kept"),
        (Ok(_), true) => assert!(there.is_empty(), "{story}: it was said to be gone"),
        // Of a commit that was broken off nobody knows, but of one that went wrong without a power cut its client comes again.
        (Err(_), false) => assert!(power_cut || there.is_empty(), "{story}: {there:?}"),
        (Err(_), true) => {}
    }
    for &id in &there {
        assert_eq!(whole(bench.queue.body(id).await.unwrap()).await.as_ref(), Ok(&octets), "{story}");
    }
    // Names are made of the moment, and of a seed that is the same after each start.
    bench.clock.advance(Duration::from_secs(1));
    bench.keep(b"more").await;
    let recovery = bench.restart().await;
    assert_eq!((recovery.set_aside.len(), recovery.totals.all().count), (0, there.len() as u64 + 1), "{story}");
    assert_eq!(bench.disk.list(Path::new("/q/bodies")).unwrap().len(), there.len(), "{story}: files");
    failed
}

async fn receive(queue: &Queue, octets: &[u8]) -> Result<QueueId, QueueError> {
    let mut incoming = queue.admit("alice", None).await?;
    for piece in octets.chunks(100_000) {
        incoming.write(piece).await?;
    }
    Ok(incoming.commit(samples::deposit(START)).await?.id())
}

#[test]
fn a_large_body_that_the_disk_cuts_off_anywhere_is_whole_or_gone_and_leaves_no_file() {
    for goes in [false, true] {
        for (fault, more) in [(Fault::Error, 0), (Fault::NoSpace, 0), (Fault::Error, u64::MAX)] {
            for power_cut in [false, true] {
                let mut nth = 1;
                while block_on(large_body(nth, more, fault, power_cut, goes)) {
                    nth += 1;
                }
                assert!(nth > if goes { 3 } else { 8 }, "{nth} operations, goes: {goes}");
            }
        }
    }
}

#[test]
fn the_body_file_of_a_message_of_which_nothing_can_be_read_stays_until_an_operator_removes_it() {
    block_on(async {
        let mut bench = Bench::new(settings());
        let id = bench.keep(&body(GATHER_MAX + 1)).await;
        bench.queue.close().await;
        let file = bench.disk.open(Path::new("/q/store.redb"), Open::Existing).unwrap();
        let database = redb::Database::builder().create_with_backend(storage::Storage(file)).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(tables::MESSAGES).unwrap().insert(id.to_u128(), [9_u8].as_slice()).unwrap();
        transaction.commit().unwrap();
        database.close().unwrap();
        let bodies = |bench: &Bench| bench.disk.list(Path::new("/q/bodies")).unwrap().len();
        let recovery = bench.reopen();
        assert_eq!((recovery.leftovers, bodies(&bench)), (0, 1));
        bench.queue.compact(u64::MAX, |_, _| {}).await.unwrap();
        bench.restart().await;
        assert_eq!(bodies(&bench), 1);
        assert!(matches!(bench.queue.show(id).await, Ok(Listed::Unreadable(..))));
        bench.queue.remove(id).await.unwrap();
        assert_eq!(bodies(&bench), 0);
    });
}
