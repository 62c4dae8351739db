//! Messages that are taken out of one queue and brought into another; recipients that are taken out of messages; both ends of a listing.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::queue::record::Owed;
use crate::queue::transfer::{Adoption, Arrived, Arriving, Received};
use crate::smtp::{Code, Reply};

/// What is to be brought: a record and its octets.
async fn taken(bench: &Bench, id: QueueId) -> (Record, Vec<u8>) {
    let record = bench.record(id).await;
    let packed = Queue::pack(&record).unwrap();
    assert_eq!(Queue::unpack(&packed).as_ref(), Ok(&record), "it travels unchanged");
    (record, whole(bench.queue.body(id).await.unwrap()).await.unwrap())
}

async fn received(queue: &Queue, record: &Record) -> Arriving {
    let Ok(Received::Awaited(arriving)) = queue.receive(record.clone()).await else { panic!("it is here") };
    *arriving
}

async fn arrive(queue: &Queue, (record, octets): &(Record, Vec<u8>)) -> Option<Arrived> {
    let Received::Awaited(mut arriving) = queue.receive(record.clone()).await.unwrap() else { return None };
    for piece in octets.chunks(100_000) {
        arriving.write(piece).await.unwrap();
    }
    Some(arriving.finish().await.unwrap())
}

const EXPORT: QueueId = QueueId::from_u128(77);

/// A queue with a queued, a held and a dead message, of which the held one has a body file.
async fn source() -> (Bench, Vec<(Record, Vec<u8>)>) {
    let bench = Bench::new(settings());
    let dead = bench.keep(b"dead").await;
    bench.claim_now().await.unwrap().conclude(nothing_tried(Next::Dead("no report".to_owned()))).await.unwrap();
    let queued = bench.keep(b"").await;
    let later = START.after(Duration::from_secs(500));
    bench.claim_now().await.unwrap().conclude(nothing_tried(Next::Retry(later))).await.unwrap();
    let held = bench.keep(&body(GATHER_MAX + 1)).await;
    bench.queue.hold(held).await.unwrap();
    let mut all = Vec::new();
    for id in [dead, queued, held] {
        all.push(taken(&bench, id).await);
    }
    (bench, all)
}

async fn bring(bench: &Bench, all: &[(Record, Vec<u8>)]) -> Vec<Result<(), QueueError>> {
    let mut arrived = Vec::new();
    for (place, one) in (0..).zip(all) {
        if let Some(one) = arrive(&bench.queue, one).await {
            arrived.push((place, one));
        }
    }
    bench.queue.adopt(EXPORT, arrived).await
}

#[test]
fn each_message_comes_as_it_was_and_stays_so_over_a_crash() {
    block_on(async {
        let (from, all) = source().await;
        let mut to = Bench::new(settings());
        assert_eq!(bring(&to, &all).await, [Ok(()), Ok(()), Ok(())]);
        assert_eq!(to.queue.stats().await.unwrap().totals, from.queue.stats().await.unwrap().totals);
        to.disk.crash();
        assert_eq!(to.reopen().set_aside, []);
        for (record, octets) in &all {
            assert_eq!(&taken(&to, record.id).await, &(record.clone(), octets.clone()));
        }
        assert!(to.claim_now().await.is_none(), "nothing is due before its time");
        to.clock.advance(Duration::from_secs(500));
        assert_eq!(to.claim_now().await.unwrap().id(), all[1].0.id);
    });
}

#[test]
fn what_is_brought_again_is_not_there_twice_even_when_it_has_gone() {
    block_on(async {
        let (_from, all) = source().await;
        let mut to = Bench::new(settings());
        bring(&to, &all[..2]).await;
        assert_eq!(to.queue.adopted(EXPORT).await.unwrap(), Adoption { count: 2, gaps: vec![] });
        assert!(arrive(&to.queue, &all[0]).await.is_none(), "it is here");
        to.queue.remove(all[0].0.id).await.unwrap();
        to.restart().await;
        // Whoever brings it all the same hears that it was here.
        let known: Vec<Result<(), QueueError>> =
            all.iter().map(|(record, _)| Err(QueueError::Known(record.id))).collect();
        let again = arrive(&to.queue, &all[0]).await.unwrap();
        assert_eq!(to.queue.adopt(EXPORT, vec![(0, again)]).await, known[..1]);
        let third = arrive(&to.queue, &all[2]).await.unwrap();
        assert_eq!(to.queue.adopt(EXPORT, vec![(2, third)]).await, [Ok(())]);
        assert_eq!(to.queue.stats().await.unwrap().totals.all().count, 2);
        // Another export may bring what an operator has removed.
        let other = arrive(&to.queue, &all[0]).await.unwrap();
        assert_eq!(to.queue.adopt(QueueId::from_u128(78), vec![(0, other)]).await, [Ok(())]);
    });
}

/// What became of a message that an export has brought.
#[derive(Clone, Copy, Debug)]
enum End {
    Delivered,
    /// By another export.
    MovedOn,
    /// All its recipients, by an operator.
    TakenOut,
    /// All but one, which has it.
    TakenOutBesides,
}

/// What became of a message that an export has brought, and what another one hears of it, which found it here or did not.
#[test]
fn of_what_has_gone_only_what_was_delivered_is_said_to_have_been_here() {
    block_on(async {
        let other = QueueId::from_u128(78);
        for (end, found_here, said) in [
            (End::Delivered, true, "known"),
            (End::Delivered, false, "known"),
            (End::MovedOn, true, "not found"),
            (End::MovedOn, false, "kept"),
            (End::TakenOut, true, "not found"),
            (End::TakenOut, false, "kept"),
            (End::TakenOutBesides, true, "known"),
            (End::TakenOutBesides, false, "known"),
        ] {
            let (_from, all) = source().await;
            let to = Bench::new(settings());
            let one = &all[1];
            let id = one.0.id;
            let arrived = arrive(&to.queue, one).await.unwrap();
            assert_eq!(to.queue.adopt(EXPORT, vec![(1, arrived)]).await, [Ok(())]);
            let mut arrived = None;
            if found_here {
                let Ok(Received::Here(here)) = to.queue.receive(one.0.clone()).await else { panic!("it is here") };
                arrived = Some(here);
            }
            let everybody: Vec<usize> = (0..one.0.recipients.len()).collect();
            match end {
                End::Delivered => {
                    to.queue.retry(id).await.unwrap();
                    to.claim_now().await.unwrap().conclude(nothing_tried(Next::Finished)).await.unwrap();
                }
                // Whoever has it now may let it go on this queue's word.
                End::MovedOn => {
                    to.queue.begin_export(other).await.unwrap();
                    assert_eq!(to.queue.leave(other, vec![id]).await, [Ok(())]);
                }
                End::TakenOut => assert_eq!(to.queue.change(vec![(id, Change::TakeOut(everybody))]).await, [Ok(())]),
                End::TakenOutBesides => {
                    to.queue.retry(id).await.unwrap();
                    let reply = Reply::new(Code::known(250), None, "ok");
                    let outcome = Outcome::Delivered { reply };
                    let first =
                        Tried { recipient: 0, upstream: "main".to_owned(), outcome, certainty: Certainty::Known };
                    let conclusion = Conclusion { outcomes: vec![first], ..nothing_tried(Next::Retry(START)) };
                    to.claim_now().await.unwrap().conclude(conclusion).await.unwrap();
                    assert_eq!(to.queue.change(vec![(id, Change::TakeOut(everybody))]).await, [Ok(())]);
                }
            }
            let arrived = match arrived {
                Some(here) => here,
                None => arrive(&to.queue, one).await.unwrap(),
            };
            let answer = to.queue.adopt(other, vec![(1, arrived)]).await;
            let expected = match said {
                "known" => Err(QueueError::Known(id)),
                "kept" => Ok(()),
                _ => Err(QueueError::NotFound(id)),
            };
            assert_eq!(answer, [expected], "{end:?}, found here {found_here}");
            assert_eq!(to.queue.adopted(other).await.unwrap().has(1), said != "not found");
        }
    });
}

#[test]
fn what_this_queue_has_said_since_an_export_began_outlives_a_crash_and_a_compaction() {
    block_on(async {
        let (_from, all) = source().await;
        let mut to = Bench::new(settings());
        let ids = |range: std::ops::Range<usize>| all[range].iter().map(|(record, _)| record.id).collect::<Vec<_>>();
        bring(&to, &all[..1]).await;
        let (before, after) = (QueueId::from_u128(80), QueueId::from_u128(81));
        to.queue.begin_export(before).await.unwrap();
        bring(&to, &all).await;
        to.disk.crash();
        to.reopen();
        to.queue.compact(u64::MAX, |_, _| {}).await.unwrap();
        to.restart().await;
        let known = |range| ids(range).into_iter().map(|id| Err(QueueError::Known(id))).collect::<Vec<_>>();
        assert_eq!(to.queue.leave(before, ids(1..3)).await, known(1..3));
        // Of an export that it knows nothing of it believes nothing.
        assert_eq!(to.queue.leave(after, ids(0..3)).await, known(0..3));
        assert_eq!(to.queue.leave(before, ids(0..1)).await, [Ok(())]);
        to.queue.begin_export(after).await.unwrap();
        assert!(to.queue.exported(after).await.unwrap() && !to.queue.exported(EXPORT).await.unwrap());
        assert_eq!(to.queue.leave(after, ids(1..3)).await, [Ok(()), Ok(())]);
    });
}

#[test]
fn of_so_many_exports_the_newest_are_remembered() {
    block_on(async {
        let (_from, all) = source().await;
        let to = Bench::new(settings());
        for number in 0..1002 {
            let one = arrive(&to.queue, &all[0]).await.unwrap();
            assert_eq!(to.queue.adopt(QueueId::from_u128(number), vec![(0, one)]).await, [Ok(())]);
            to.queue.remove(all[0].0.id).await.unwrap();
        }
        let known = async |number| to.queue.adopted(QueueId::from_u128(number)).await.unwrap().count;
        assert_eq!((known(0).await, known(1).await, known(2).await, known(1001).await), (0, 0, 1, 1));
    });
}

/// Introduced with imports: how many had been adopted was noted, and all before the last counted as brought. What had been left out was lost by a second import.
#[test]
fn what_was_left_out_of_an_import_is_not_taken_for_brought_and_is_taken_in_by_the_next() {
    block_on(async {
        let (_from, all) = source().await;
        let to = Bench::new(settings());
        let second = arrive(&to.queue, &all[1]).await.unwrap();
        assert_eq!(to.queue.adopt(EXPORT, vec![(1, second)]).await, [Ok(())]);
        let before = to.queue.adopted(EXPORT).await.unwrap();
        assert_eq!([0, 1, 2].map(|place| before.has(place)), [false, true, false]);
        assert_eq!(bring(&to, &all).await, [Ok(()), Ok(())], "the first and the last");
        assert_eq!(to.queue.adopted(EXPORT).await.unwrap(), Adoption { count: 3, gaps: vec![] });
        assert_eq!(to.queue.stats().await.unwrap().totals.all().count, 3);
    });
}

#[test]
fn what_another_export_has_brought_is_noted_for_this_one_and_not_brought_when_it_has_gone() {
    block_on(async {
        let (_from, all) = source().await;
        let to = Bench::new(settings());
        bring(&to, &all).await;
        let other = QueueId::from_u128(78);
        let Ok(Received::Here(here)) = to.queue.receive(all[1].0.clone()).await else { panic!("it is here") };
        assert_eq!(to.queue.adopt(other, vec![(1, here)]).await, [Err(QueueError::Known(all[1].0.id))]);
        to.queue.remove(all[1].0.id).await.unwrap();
        assert_eq!(to.queue.adopted(other).await.unwrap(), Adoption { count: 2, gaps: vec![(0, 1)] });
        let again = arrive(&to.queue, &all[1]).await.unwrap();
        assert_eq!(to.queue.adopt(other, vec![(1, again)]).await, [Err(QueueError::Known(all[1].0.id))]);
    });
}

#[test]
fn what_is_here_without_its_octets_is_not_said_to_be_here() {
    block_on(async {
        let (_from, all) = source().await;
        let mut to = Bench::new(settings());
        bring(&to, &all).await;
        let (record, octets) = &all[2];
        to.disk.remove(&Path::new("/q/bodies").join(record.id.to_string())).unwrap();
        for _ in 0..2 {
            let refused = to.queue.receive(record.clone()).await;
            assert!(matches!(refused, Err(QueueError::Damaged(..))), "{refused:?}");
            to.restart().await;
        }
        to.queue.remove(record.id).await.unwrap();
        let again = arrive(&to.queue, &(record.clone(), octets.clone())).await.unwrap();
        assert_eq!(to.queue.adopt(QueueId::from_u128(78), vec![(0, again)]).await, [Ok(())]);
    });
}

/// A disk that removes nothing in the background until it may.
#[derive(Clone, Debug)]
struct SlowRemoval(SimulatedDisk, Arc<(Mutex<bool>, std::sync::Condvar)>, Arc<[AtomicUsize; 2]>);

impl SlowRemoval {
    fn allow(&self) {
        *self.1.0.lock().unwrap() = true;
        self.1.1.notify_all();
    }

    /// Waits until a removal in the background has begun, or has ended.
    async fn has_one(&self, which: usize) {
        while self.2[which].load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// A removal in the background has begun, and has ended.
const BEGUN: usize = 0;
const ENDED: usize = 1;

impl Disk for SlowRemoval {
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
        self.0.rename(from, to)
    }

    fn remove(&self, path: &Path) -> std::io::Result<()> {
        if std::thread::current().name() != Some("queue-sweeper") {
            return self.0.remove(path);
        }
        self.2[BEGUN].fetch_add(1, Ordering::SeqCst);
        drop(self.1.1.wait_while(self.1.0.lock().unwrap(), |may| !*may));
        let removed = self.0.remove(path);
        self.2[ENDED].fetch_add(1, Ordering::SeqCst);
        removed
    }

    fn list(&self, folder: &Path) -> std::io::Result<Vec<crate::sys::disk::Entry>> {
        self.0.list(folder)
    }

    fn sync_folder(&self, folder: &Path) -> std::io::Result<()> {
        self.0.sync_folder(folder)
    }

    fn space_left(&self, folder: &Path) -> std::io::Result<u64> {
        self.0.space_left(folder)
    }
}

/// Introduced with imports: the removal of its old file took the new one, after it had been answered that it is kept.
#[test]
fn what_is_brought_back_before_its_old_file_was_swept_keeps_its_octets() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let disk = SlowRemoval(SimulatedDisk::new(1), Arc::default(), Arc::default());
        let settings = QueueSettings { driving: Driving::WriterThread, ..settings() };
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(START));
        let entropy = Arc::new(SeededEntropy::new(1));
        let (queue, _) = Queue::open(settings, Arc::new(disk.clone()), Arc::clone(&clock), entropy).unwrap();
        let mut kept = Vec::new();
        // The first is being removed, the others wait for their turn.
        for _ in 0..3 {
            let octets = body(GATHER_MAX + 1);
            let mut incoming = queue.admit("alice", None).await.unwrap();
            incoming.write(&octets).await.unwrap();
            let id = incoming.commit(samples::deposit(clock.now().wall)).await.unwrap().id();
            let Listed::Message(record) = queue.show(id).await.unwrap() else { panic!("{id} is not here") };
            queue.remove(id).await.unwrap();
            kept.push((*record, octets));
        }
        disk.has_one(BEGUN).await;
        let bring = async {
            for (place, (record, octets)) in kept.iter().enumerate().rev() {
                let arrived = arrive(&queue, &(record.clone(), octets.clone())).await.unwrap();
                assert_eq!(queue.adopt(EXPORT, vec![(place as u64, arrived)]).await, [Ok(())]);
            }
        };
        let (mut bring, mut may) = (Box::pin(bring), false);
        // The last is the one that the sweeper has in its hand.
        tokio::select! {
            () = &mut bring => may = true,
            () = async {
                while queue.show(kept[1].0.id).await.is_err() {
                    tokio::task::yield_now().await;
                }
                // Long enough for who does not wait to have brought the last.
                tokio::time::sleep(Duration::from_millis(500)).await;
            } => disk.allow(),
        }
        if !may {
            bring.await;
        }
        disk.allow();
        disk.has_one(ENDED).await;
        queue.close().await;
        for (record, octets) in &kept {
            let path = Path::new("/q/bodies").join(record.id.to_string());
            let file = disk.open(&path, Open::Existing).unwrap();
            assert_eq!(file.length().unwrap(), octets.len() as u64, "{}", record.id);
        }
    });
}

#[test]
fn of_two_who_bring_the_same_at_once_one_is_refused() {
    block_on(async {
        let (_from, all) = source().await;
        let to = Bench::new(settings());
        let (record, octets) = &all[2];
        let mut first = received(&to.queue, record).await;
        let second = to.queue.receive(record.clone()).await.map(drop);
        assert_eq!(second, Err(QueueError::Fenced(record.id)));
        first.write(octets).await.unwrap();
        let first = first.finish().await.unwrap();
        assert_eq!(to.queue.receive(record.clone()).await.map(drop), Err(QueueError::Fenced(record.id)));
        assert_eq!(to.queue.adopt(EXPORT, vec![(0, first)]).await, [Ok(())]);
        assert!(matches!(to.queue.receive(record.clone()).await, Ok(Received::Here(_))));
        drop(to.queue.receive(all[1].0.clone()).await.unwrap());
        assert!(matches!(to.queue.receive(all[1].0.clone()).await, Ok(Received::Awaited(_))), "the name is free again");
    });
}

/// The writer splits what is adopted into transactions as it comes: one of them fails, and the others do not.
#[test]
fn what_a_failed_transaction_should_have_kept_is_brought_again() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for nth in 1..25 {
        runtime.block_on(async {
            let settings = QueueSettings { driving: Driving::WriterThread, ..settings() };
            let from = Bench::new(settings.clone());
            let mut all = Vec::new();
            for number in 0..8_u8 {
                let id = from.keep(&[number; 100]).await;
                all.push(taken(&from, id).await);
            }
            let to = Bench::new(settings);
            let mut arrived = Vec::new();
            for (place, one) in (0..).zip(&all) {
                arrived.push((place, arrive(&to.queue, one).await.unwrap()));
            }
            to.disk.fail(nth % 12 + 1, 0, Fault::Error);
            to.queue.adopt(EXPORT, arrived).await;
            to.disk.mend();
            let before = to.queue.adopted(EXPORT).await.unwrap();
            for (place, (record, _)) in (0..).zip(&all) {
                let is_here = to.queue.show(record.id).await.is_ok();
                assert!(is_here || !before.has(place), "operation {nth}, place {place} of {before:?}");
            }
            to.queue.close().await;
            from.queue.close().await;
        });
    }
}

#[test]
fn what_is_not_what_its_record_says_is_refused_and_leaves_nothing() {
    block_on(async {
        let (_from, all) = source().await;
        let to = Bench::new(settings());
        let (record, octets) = &all[2];
        for wrong in [octets[1..].to_vec(), [octets.as_slice(), b"x"].concat(), vec![b'x'; octets.len()]] {
            let mut arriving = received(&to.queue, record).await;
            arriving.write(&wrong).await.unwrap();
            assert!(matches!(arriving.finish().await, Err(QueueError::Damaged(..))));
            assert!(to.disk.list(Path::new("/q/bodies")).unwrap().is_empty());
        }
        assert_eq!(bring(&to, &all).await, [Ok(()), Ok(()), Ok(())]);
    });
}

/// How far an import came whose disk failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    /// Before all messages were there.
    Short,
    /// They were, and could not be adopted.
    Unadopted,
    /// To its end.
    Through,
}

/// What goes wrong with the disk at its `nth` operation, and what follows.
#[derive(Clone, Copy, Debug)]
struct Mishap {
    nth: u64,
    more: u64,
    fault: Fault,
    power_cut: bool,
}

/// An import that goes wrong, and is brought again: then each message is there once, and whole. Also whether the disk ever failed.
async fn brought_again(all: &[(Record, Vec<u8>)], mishap: Mishap) -> (Came, bool) {
    let mut to = Bench::new(settings());
    to.disk.fail(mishap.nth, mishap.more, mishap.fault);
    let mut arrived = Vec::new();
    for (place, (record, octets)) in (0..).zip(all) {
        let Ok(Received::Awaited(mut arriving)) = to.queue.receive(record.clone()).await else { break };
        if arriving.write(octets).await.is_err() {
            break;
        }
        let Ok(one) = arriving.finish().await else { break };
        arrived.push((place, one));
    }
    let is_whole = arrived.len() == all.len();
    let answers = to.queue.adopt(EXPORT, arrived).await;
    let came = match is_whole {
        false => Came::Short,
        true if answers.iter().all(Result::is_ok) => Came::Through,
        true => Came::Unadopted,
    };
    if came == Came::Unadopted {
        // Its record may be on the disk for all that, and then it is here: its octets must be, too.
        assert_eq!(to.disk.list(Path::new("/q/bodies")).unwrap().len(), 1, "{mishap:?}");
    }
    let has_failed = to.disk.has_failed();
    if mishap.power_cut {
        to.disk.crash();
    }
    to.disk.mend();
    if mishap.power_cut {
        to.reopen();
    }
    to.comes_back().await;
    let before = to.queue.adopted(EXPORT).await.unwrap();
    assert!(came != Came::Through || before.count == 3, "what was said to be here is: {mishap:?}");
    let mut arrived = Vec::new();
    for (place, one) in (0..).zip(all).filter(|(place, _)| !before.has(*place)) {
        if let Some(one) = arrive(&to.queue, one).await {
            arrived.push((place, one));
        }
    }
    assert!(to.queue.adopt(EXPORT, arrived).await.iter().all(Result::is_ok), "{mishap:?}");
    assert_eq!(to.queue.stats().await.unwrap().totals.all().count, 3, "{mishap:?}");
    assert_eq!(to.restart().await.set_aside, [], "{mishap:?}");
    assert_eq!(to.disk.list(Path::new("/q/bodies")).unwrap().len(), 1, "{mishap:?}");
    for (record, octets) in all {
        assert_eq!(&taken(&to, record.id).await, &(record.clone(), octets.clone()), "{mishap:?}");
    }
    (came, has_failed)
}

/// Whatever operation fails, once or from then on, and whether or not the commit reached the disk.
#[test]
fn an_import_that_the_disk_interrupts_anywhere_is_repeated_and_finishes() {
    let (_from, all) = block_on(source());
    for (fault, more) in [(Fault::Error, 0), (Fault::NoSpace, 0), (Fault::Error, u64::MAX)] {
        for power_cut in [false, true] {
            let mut came = Vec::new();
            for nth in 1.. {
                let (one, has_failed) = block_on(brought_again(&all, Mishap { nth, more, fault, power_cut }));
                came.push(one);
                if !has_failed {
                    break;
                }
            }
            assert!(came.contains(&Came::Short) && came.contains(&Came::Unadopted), "{fault:?}: {came:?}");
        }
    }
}

#[test]
fn an_import_takes_room_of_the_queue_and_nobodys_share() {
    block_on(async {
        let (_from, all) = source().await;
        let shares = QueueSettings { count: 5, reserve_count: 1, share_per_identity: 25, ..settings() };
        let to = Bench::new(shares);
        assert_eq!(bring(&to, &all).await, [Ok(()), Ok(()), Ok(())]);
        let refused = to.queue.admit("staff:alice@example.com", None).await.unwrap_err();
        assert!(matches!(refused, QueueError::Share(_)), "what was brought counts: {refused}");
        to.keep(b"the fourth").await;
        let (mut record, octets) = all[0].clone();
        record.id = QueueId::from_u128(5);
        assert!(matches!(to.queue.receive(record).await, Err(QueueError::Full(_))), "{octets:?}");
    });
}

#[test]
fn who_is_taken_out_does_not_get_it_and_with_the_last_the_message_goes() {
    block_on(async {
        let bench = Bench::new(settings());
        let id = bench.keep(b"hello").await;
        let take_out = async |places: &[usize]| bench.queue.change(vec![(id, Change::TakeOut(places.to_vec()))]).await;
        assert_eq!(take_out(&[1]).await, [Ok(())]);
        let record = bench.record(id).await;
        assert!(record.recipients[1].is_taken_out() && record.open_recipients() == [0]);
        bench.queue.retry(id).await.unwrap();
        assert_eq!(bench.record(id).await.open_recipients(), [0]);
        assert_eq!(take_out(&[0]).await, [Ok(())]);
        assert_eq!(bench.queue.stats().await.unwrap().totals.all(), Tally::default());
        assert_eq!(take_out(&[0]).await, [Err(QueueError::NotFound(id))]);
    });
}

#[test]
fn who_is_taken_out_while_being_tried_is_not_tried_again_unless_it_has_the_message() {
    block_on(async {
        let bench = Bench::new(settings());
        let id = bench.keep(b"hello").await;
        let claim = bench.claim_now().await.unwrap();
        bench.queue.change(vec![(id, Change::TakeOut(vec![1]))]).await;
        let tried =
            |recipient, outcome| Tried { recipient, upstream: "main".to_owned(), outcome, certainty: Certainty::Known };
        let later = || Outcome::Deferred { reason: "later".to_owned(), reply: None };
        let outcomes = vec![tried(0, later()), tried(1, later())];
        claim.conclude(Conclusion { outcomes, ..nothing_tried(Next::Retry(START)) }).await.unwrap();
        let record = bench.record(id).await;
        assert!(record.recipients[1].is_taken_out() && record.open_recipients() == [0]);
        let claim = bench.claim_now().await.unwrap();
        bench.queue.change(vec![(id, Change::TakeOut(vec![0]))]).await;
        let fault = claim.conclude(nothing_tried(Next::Retry(START))).await.unwrap_err();
        assert_eq!(fault, QueueError::Fenced(id), "nobody was left");
    });
}

#[test]
fn a_dead_message_whose_recipients_are_taken_out_goes_and_its_retry_spares_them() {
    let mut record = samples::record(1);
    record.set_aside("no report");
    record.recipients.iter_mut().for_each(|one| one.open = false);
    assert_eq!(record.clone().take_out(&[0, 1]), Owed::Nobody);
    assert_eq!(record.take_out(&[0]), Owed::Somebody);
    record.retry(START);
    assert_eq!(record.open_recipients(), [1]);
}

#[test]
fn a_listing_from_the_newest_on_is_the_other_one_backwards() {
    block_on(async {
        let bench = Bench::new(settings());
        for _ in 0..5 {
            bench.keep(b"x").await;
            bench.clock.advance(Duration::from_secs(1));
        }
        let page = |after| Page { after, limit: 10 };
        let forth = bench.queue.list(Filter::default(), page(None)).await.unwrap().entries;
        let back = bench.queue.list_back(Filter::default(), page(None)).await.unwrap().entries;
        assert!(forth.len() == 5 && forth.iter().rev().eq(&back));
        let middle = forth[2].id();
        let before = bench.queue.list_back(Filter::default(), page(Some(middle))).await.unwrap();
        assert_eq!(before.entries, [forth[1].clone(), forth[0].clone()]);
        assert_eq!(before.next, None);
        let one = bench.queue.list_back(Filter::default(), Page { after: None, limit: 1 }).await.unwrap();
        assert_eq!((one.entries.len(), one.next), (1, Some(forth[4].id())));
    });
}
