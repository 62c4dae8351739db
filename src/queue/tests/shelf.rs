//! The file of messages: what is freed is used again and never read as somebody else's; what is not where the index says is set aside.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::ReadableDatabase as _;

use super::super::row::Row;
use super::super::space::Extent;
use super::super::tables::MESSAGES;
use super::*;

const SHELF: &str = "/q/messages-0";

/// Changes rows of a queue that is closed, behind its back.
fn change_rows(disk: &SimulatedDisk, change: impl Fn(QueueId, &mut Vec<u8>)) {
    let file = disk.open(Path::new("/q/store.redb"), Open::Existing).unwrap();
    let database = redb::Database::builder().create_with_backend(storage::Storage(file)).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut messages = transaction.open_table(MESSAGES).unwrap();
        let rows: Vec<(u128, Vec<u8>)> = redb::ReadableTable::iter(&messages)
            .unwrap()
            .map(|row| row.map(|(id, octets)| (id.value(), octets.value().to_vec())).unwrap())
            .collect();
        for (id, mut octets) in rows {
            change(QueueId::from_u128(id), &mut octets);
            messages.insert(id, octets.as_slice()).unwrap();
        }
    }
    transaction.commit().unwrap();
    database.close().unwrap();
}

fn row_of(disk: &SimulatedDisk, id: QueueId) -> Row {
    let file = disk.open(Path::new("/q/store.redb"), Open::Existing).unwrap();
    let database = redb::Database::builder().create_with_backend(storage::Storage(file)).unwrap();
    let octets = database.begin_read().unwrap().open_table(MESSAGES).unwrap().get(id.to_u128()).unwrap();
    Row::decode(id, octets.unwrap().value())
}

fn end(extents: &[Extent]) -> u64 {
    extents.iter().map(|extent| extent.offset() + extent.length).max().unwrap_or(0)
}

#[test]
fn a_message_that_lies_where_another_does_is_set_aside_and_the_others_go_on() {
    let cases = ["record", "body", "row"].into_iter().flat_map(|damaged| [(damaged, true), (damaged, false)]);
    for (damaged, later) in cases {
        block_on(async {
            let mut bench = Bench::new(settings());
            let mut ids = Vec::new();
            for length in [3000, 4000, 5000] {
                ids.push(bench.keep(&body(length)).await);
                bench.clock.advance(Duration::from_secs(1));
            }
            bench.queue.close().await;
            let other = row_of(&bench.disk, if later { ids[0] } else { ids[2] });
            change_rows(&bench.disk, |id, octets| {
                let mut row = Row::decode(id, octets);
                match damaged {
                    _ if id != ids[1] => return,
                    "record" => row.record.clone_from(&other.record),
                    "body" => row.body.clone_from(&other.body),
                    _ => return octets.truncate(3),
                }
                *octets = row.encode(id).unwrap();
            });
            let recovery = bench.reopen();
            let told: Vec<QueueId> = recovery.set_aside.iter().map(|(id, _)| *id).collect();
            // The one that is found second is looked at: if it is what it ought to be, it is the first that is not, which its own reader finds.
            assert_eq!(
                told,
                if later || damaged == "row" { vec![ids[1]] } else { Vec::new() },
                "{damaged}: {recovery:?}"
            );
            let dead = u64::from(later || damaged == "row");
            assert_eq!((recovery.totals.dead.count, recovery.totals.queued.count), (dead, 3 - dead), "{damaged}");
            assert!(
                matches!(
                    bench.queue.show(ids[1]).await.unwrap(),
                    Listed::Unreadable(..) if damaged != "body",
                ) || whole(bench.queue.body(ids[1]).await.unwrap()).await.is_err()
            );
            for (id, length) in [(ids[0], 3000), (ids[2], 5000)] {
                assert_eq!(whole(bench.queue.body(id).await.unwrap()).await.unwrap(), body(length), "{damaged}");
            }
            // Nothing that comes lies in the place of what is there, and the one set aside can be removed.
            let more = bench.keep(&body(6000)).await;
            bench.queue.remove(ids[1]).await.unwrap();
            bench.keep(&body(7000)).await;
            let again = bench.restart().await;
            assert_eq!((again.set_aside.len(), again.totals.all().count), (0, 4), "{damaged}");
            for (id, length) in [(ids[0], 3000), (ids[2], 5000), (more, 6000)] {
                assert_eq!(whole(bench.queue.body(id).await.unwrap()).await.unwrap(), body(length), "{damaged}");
            }
        });
    }
}

#[test]
fn what_lies_behind_the_end_of_the_file_of_messages_is_set_aside() {
    for lost in ["body", "record"] {
        block_on(async {
            let mut bench = Bench::new(settings());
            let first = bench.keep(b"the first").await;
            // Too large for the room before the zone of records: it lies behind it.
            let second = bench.keep(&body(GATHER_MAX)).await;
            bench.queue.close().await;
            let (row, kept) = (row_of(&bench.disk, second), row_of(&bench.disk, first));
            assert!(end(kept.body.extents()) < end(&kept.record) && end(&row.record) < end(row.body.extents()));
            let file = bench.disk.open(Path::new(SHELF), Open::Existing).unwrap();
            let cut = if lost == "body" { end(row.body.extents()) - 1000 } else { end(&kept.record) };
            file.set_length(cut).unwrap();
            file.sync().unwrap();
            let recovery = bench.reopen();
            let reason = "the file of messages ends before what is kept of it";
            assert!(recovery.set_aside.contains(&(second, reason.to_owned())), "{lost}: {recovery:?}");
            let told = bench.queue.show(second).await.unwrap();
            assert_eq!(told.state(), State::Dead);
            match (lost, told) {
                ("body", Listed::Message(record)) => assert_eq!(record.reason.as_deref(), Some(reason)),
                ("record", Listed::Unreadable(_, said)) => assert_eq!(said, reason),
                (_, told) => panic!("{lost}: {told:?}"),
            }
            bench.keep(&body(100_000)).await;
            assert_eq!(bench.restart().await.set_aside, []);
        });
    }
}

#[test]
fn without_its_file_of_messages_a_store_that_has_some_is_not_opened() {
    block_on(async {
        let mut bench = Bench::new(settings());
        bench.queue.close().await;
        bench.disk.remove(Path::new(SHELF)).unwrap();
        // Nothing was in it.
        bench.reopen();
        bench.keep(b"hello").await;
        bench.queue.close().await;
        bench.disk.remove(Path::new(SHELF)).unwrap();
        let refused = try_open(&bench.disk, &bench.clock, settings()).unwrap_err();
        assert!(matches!(refused, OpenError::ShelfMissing(_)), "{refused}");
    });
}

#[test]
fn what_has_gone_leaves_room_that_is_used_at_once() {
    block_on(async {
        let bench = Bench::new(settings());
        let length = || bench.disk.octets(Path::new(SHELF)).unwrap().len();
        for _ in 0..10 {
            bench.keep(&body(20_000)).await;
        }
        let full = length();
        for _ in 0..50 {
            let claim = bench.claim_now().await.unwrap();
            claim.conclude(nothing_tried(Next::Finished)).await.unwrap();
            bench.keep(&body(20_000)).await;
        }
        assert!(length() <= full + 20_480, "{full} {}", length());
    });
}

#[test]
fn a_reader_never_sees_what_was_put_in_the_place_of_what_it_reads() {
    const ROUNDS: u128 = 1000;
    let bench = Bench::new(settings());
    let store = &bench.queue.inner.store;
    let (current, over) = (Mutex::new(0_u128), AtomicBool::new(false));
    let octets = |number: u128| vec![u8::try_from(number % 251).unwrap(); 60_000];
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let number = *current.lock().unwrap();
                    match store.piece(QueueId::from_u128(number), 0) {
                        Ok(read) => assert!(read == octets(number), "{number} is read as {:?}", read.first()),
                        Err(fault) => assert!(matches!(fault, QueueError::NotFound(_)), "{fault}"),
                    }
                }
            });
        }
        for number in 1..ROUNDS {
            assert_eq!(store.apply(vec![new_message(number, &octets(number))], bench.clock.now()), [Ok(())]);
            *current.lock().unwrap() = number;
            std::thread::yield_now();
            assert_eq!(store.apply(vec![Order::Remove(QueueId::from_u128(number))], bench.clock.now()), [Ok(())]);
        }
        over.store(true, Ordering::Relaxed);
    });
    assert!(bench.disk.octets(Path::new(SHELF)).unwrap().len() < 1 << 20, "places were given out again");
}

/// Nothing was taken yet; what it leaves looks like no store, or is one.
#[test]
fn a_first_start_that_is_cut_off_anywhere_stops_no_later_one() {
    let mut nth = 0;
    let mut was_cut = true;
    while was_cut {
        nth += 1;
        // Which names last that were made before the cut is chosen anew by each seed.
        for seed in 0..16 {
            let (disk, clock) = (SimulatedDisk::new(seed), Arc::new(ManualClock::at(START)));
            disk.fail(nth, u64::MAX, Fault::Error);
            was_cut = try_open(&disk, &clock, settings()).is_err();
            disk.crash();
            disk.mend();
            let (queue, recovery) = try_open(&disk, &clock, settings())
                .unwrap_or_else(|fault| panic!("operation {nth}, seed {seed}: {fault}"));
            assert_eq!(recovery.totals.all().count, 0, "operation {nth}, seed {seed}");
            block_on(queue.close());
        }
    }
    assert!(nth > 8, "{nth}");
}

#[test]
fn a_store_of_before_that_is_cut_off_while_it_is_written_anew_is_whole() {
    let before = include_bytes!("../../../fixtures/store/format-3/store.redb");
    for power_cut in [true, false] {
        let mut nth = 1;
        loop {
            let (disk, clock) = (SimulatedDisk::new(nth), Arc::new(ManualClock::at(START)));
            disk.place(Path::new("/q/store.redb"), before);
            disk.fail(nth, if power_cut { u64::MAX } else { 0 }, Fault::Error);
            let begun = try_open(&disk, &clock, settings());
            let was_cut = begun.is_err();
            drop(begun);
            if power_cut {
                disk.crash();
            }
            disk.mend();
            let (queue, recovery) = try_open(&disk, &clock, settings()).unwrap();
            assert_eq!((recovery.totals.all().count, recovery.set_aside.len()), (4, 0), "operation {nth}");
            block_on(async {
                let page = Page { after: None, limit: 10 };
                for listed in queue.list(Filter::default(), page).await.unwrap().entries {
                    let Listed::Message(record) = listed else { panic!("operation {nth}: {listed:?}") };
                    let octets = whole(queue.body(record.id).await.unwrap()).await.unwrap();
                    assert_eq!(octets.len() as u64, record.length, "operation {nth}");
                }
                queue.close().await;
            });
            if !was_cut {
                assert!(nth > 20, "{nth}");
                break;
            }
            nth += 1;
        }
    }
}
