//! The store's file written anew: smaller, the same, and whole whatever happens meanwhile.

use super::super::anew::tables_of;
use super::*;

/// Tables by name and rows, of a queue that is closed.
fn tables(disk: &SimulatedDisk) -> Vec<(String, u64)> {
    let file = disk.open(Path::new("/q/store.redb"), Open::Existing).unwrap();
    tables_of(&redb::Database::builder().create_with_backend(storage::Storage(file)).unwrap())
}

async fn compact(bench: &Bench) -> Result<Compaction, QueueError> {
    bench.queue.compact(u64::MAX, |_, _| {}).await
}

/// A few messages in all states, and what each holds.
async fn some(bench: &Bench) -> Vec<(Record, Vec<u8>)> {
    let mut kept = Vec::new();
    for length in [0, 10, 40_000, 100_000, GATHER_MAX + 1] {
        kept.push(bench.keep(&body(length)).await);
        bench.clock.advance(Duration::from_secs(1));
    }
    bench.queue.hold(kept[1]).await.unwrap();
    bench.claim_now().await.unwrap().conclude(nothing_tried(Next::Dead("no report".to_owned()))).await.unwrap();
    contents(bench, &kept).await
}

async fn contents(bench: &Bench, ids: &[QueueId]) -> Vec<(Record, Vec<u8>)> {
    let mut all = Vec::new();
    for &id in ids {
        all.push((bench.record(id).await, whole(bench.queue.body(id).await.unwrap()).await.unwrap()));
    }
    all
}

fn ids(kept: &[(Record, Vec<u8>)]) -> Vec<QueueId> {
    kept.iter().map(|(record, _)| record.id).collect()
}

#[test]
fn space_is_used_again_at_once_and_given_back_by_a_compaction() {
    block_on(async {
        let mut bench = Bench::new(settings());
        let kept = some(&bench).await;
        let flood = async || {
            let mut flooding = Vec::new();
            for _ in 0..60 {
                flooding.push(bench.keep(&body(100_000)).await);
            }
            for id in flooding {
                bench.queue.remove(id).await.unwrap();
            }
            bench.queue.stats().await.unwrap().file
        };
        // Pages of different sizes do not fit at once, and then the file is large enough for any number of such floods.
        let first = flood().await;
        let (second, third) = (flood().await, flood().await);
        assert!(second <= first * 2 && third <= second, "{first} {second} {third}");
        let claim = bench.claim_now().await.unwrap();
        let Compaction::Done { before, after } = compact(&bench).await.unwrap() else { panic!("there is no limit") };
        assert!(before >= 6_000_000 && after < before / 4, "{before} {after}");
        assert_eq!(contents(&bench, &ids(&kept)).await, kept);
        // What was under way goes on, and what comes is taken.
        let claimed = claim.id();
        claim.conclude(nothing_tried(Next::Finished)).await.unwrap();
        assert_eq!(bench.queue.show(claimed).await, Err(QueueError::NotFound(claimed)));
        bench.keep(b"more").await;
        let totals = bench.queue.stats().await.unwrap().totals;
        assert_eq!(bench.restart().await.totals, totals);
    });
}

#[test]
fn a_compaction_leaves_no_table_and_no_row_behind() {
    block_on(async {
        let mut bench = Bench::new(settings());
        let id = some(&bench).await[0].0.id;
        let said = vec![Order::Present { id, export: QueueId::from_u128(77), place: 0 }];
        assert_eq!(bench.queue.inner.store.apply(said, bench.clock.now()), [Err(QueueError::Known(id))]);
        bench.queue.close().await;
        let before = tables(&bench.disk);
        let names: Vec<&str> = before.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["ledger", "messages", "meta", "pledges", "seen", "unread"]);
        assert!(before.contains(&("pledges".to_owned(), 1)));
        bench.reopen();
        compact(&bench).await.unwrap();
        bench.queue.close().await;
        assert_eq!(tables(&bench.disk), before);
    });
}

#[test]
fn more_than_is_allowed_is_not_begun() {
    block_on(async {
        let bench = Bench::new(settings());
        some(&bench).await;
        let operations = bench.disk.operations();
        let refused = bench.queue.compact(100_000, |_, _| {}).await.unwrap();
        assert!(matches!(refused, Compaction::TooMuch { kept: 140_000.. }), "{refused:?}");
        bench.disk.set_space(200_000);
        assert!(matches!(compact(&bench).await, Err(QueueError::Full(_))));
        assert!(bench.disk.operations() - operations < 10);
        bench.disk.set_space(1 << 30);
        compact(&bench).await.unwrap();
    });
}

#[test]
fn a_compaction_that_is_cut_off_anywhere_changes_nothing() {
    let cuts = [(true, Fault::Error), (false, Fault::Error), (false, Fault::NoSpace)];
    for ((power_cut, fault), offset) in cuts.into_iter().zip(0..) {
        let mut nth = 1;
        loop {
            let done = block_on(async {
                let mut bench = Bench::new(settings());
                let kept = some(&bench).await;
                bench.disk.fail(nth, if power_cut { u64::MAX } else { 0 }, fault);
                let done = compact(&bench).await;
                if power_cut {
                    bench.disk.crash();
                    bench.disk.mend();
                    bench.reopen();
                } else {
                    // The next change opens the store again, should that be needed.
                    bench.queue.hold(kept[1].0.id).await.unwrap();
                }
                let story = format!("operation {nth}, {fault:?}, power cut: {power_cut}");
                assert_eq!(contents(&bench, &ids(&kept)).await, kept, "{story}");
                bench.keep(b"more").await;
                bench.restart().await;
                let names: Vec<String> =
                    bench.disk.list(Path::new("/q")).unwrap().into_iter().map(|entry| entry.name).collect();
                assert!(!names.iter().any(|name| name == recover::UNFINISHED), "operation {nth}: {names:?}");
                done.is_ok()
            });
            if done {
                break;
            }
            // The first operations, where files are made, and of the others each third, so that each is one of the three's.
            nth += if nth < 20 + offset { 1 } else { 3 };
        }
        assert!(nth > 20, "{nth}");
    }
}

#[test]
fn a_folder_that_is_taken_away_or_read_only_takes_no_mail_until_it_is_back() {
    let above = tempfile::tempdir().unwrap();
    let (folder, away) = (above.path().join("data"), above.path().join("away"));
    let clock = Arc::new(ManualClock::at(START));
    let settings = QueueSettings { driving: Driving::Inline, ..QueueSettings::new(&folder) };
    let (queue, _) = Queue::open(settings, Arc::new(SystemDisk), clock, Arc::new(SeededEntropy::new(1))).unwrap();
    block_on(async {
        let keep = async || {
            let mut incoming = queue.admit("alice", None).await?;
            incoming.write(b"hello").await?;
            incoming.commit(samples::deposit(START)).await
        };
        let before = keep().await.unwrap().id();
        std::fs::rename(&folder, &away).unwrap();
        assert!(matches!(keep().await, Err(QueueError::Broken(_))));
        std::fs::rename(&away, &folder).unwrap();
        keep().await.unwrap();
        assert_eq!(whole(queue.body(before).await.unwrap()).await.unwrap(), b"hello");
        queue.close().await;
    });
    // A disk that takes no writes any more, and then does again.
    block_on(async {
        let bench = Bench::new(super::settings());
        let before = bench.keep(b"hello").await;
        bench.disk.fail(1, u64::MAX, Fault::Error);
        assert!(matches!(bench.queue.hold(before).await, Err(QueueError::Broken(_))));
        assert!(matches!(bench.queue.admit("alice", None).await, Err(QueueError::Broken(_))));
        bench.disk.mend();
        bench.keep(b"more").await;
        assert_eq!(whole(bench.queue.body(before).await.unwrap()).await.unwrap(), b"hello");
    });
}
