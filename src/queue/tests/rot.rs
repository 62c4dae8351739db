//! What rots under the store: rows and pages of its index, the file of messages, a place that the disk fails to read. One message is damaged, at the most; all
//! others go on, also without a restart.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use redb::ReadableTable as _;

use super::super::tables::MESSAGES;
use super::*;
use crate::queue::row::Row;

const INDEX: &str = "/q/store.redb";
const SHELF: &str = "/q/messages-0";
const LAST: &str = "/q/store.last";

fn roomy() -> QueueSettings {
    QueueSettings { per_identity: 1000, cache: 0, ..settings() }
}

/// Changes the table of rows of a queue that is closed, behind its back.
fn change_table(disk: &SimulatedDisk, change: impl FnOnce(&mut redb::Table<'_, u128, &[u8]>)) {
    let file = disk.open(Path::new(INDEX), Open::Existing).unwrap();
    let database = redb::Database::builder().create_with_backend(storage::Storage(file)).unwrap();
    let transaction = database.begin_write().unwrap();
    change(&mut transaction.open_table(MESSAGES).unwrap());
    transaction.commit().unwrap();
    database.close().unwrap();
}

fn octets_of(table: &redb::Table<'_, u128, &[u8]>, id: QueueId) -> Vec<u8> {
    table.get(id.to_u128()).unwrap().unwrap().value().to_vec()
}

async fn some(bench: &Bench, lengths: &[usize]) -> Vec<(QueueId, Vec<u8>)> {
    let mut kept = Vec::new();
    for &length in lengths {
        kept.push((bench.keep(&body(length)).await, body(length)));
        bench.clock.advance(Duration::from_secs(1));
    }
    kept
}

/// Claims all that is due, and reads it.
async fn given_out(queue: &Queue) -> Vec<(QueueId, Vec<u8>)> {
    let mut all = Vec::new();
    while let Ok(claim) = tokio::time::timeout(Duration::ZERO, queue.claim()).await {
        if let Ok(octets) = whole(claim.body()).await {
            all.push((claim.id(), octets));
        }
    }
    all.sort();
    all
}

type Damage = fn(&mut Vec<u8>);

/// Once such a message was listed as queued, and nobody's turn ever came to it: the order goes by rows, and a row had no sum.
#[test]
fn a_damaged_row_is_written_anew_from_its_sum_or_from_its_record() {
    let damages: [(&str, Damage); 6] = [
        ("its level: held, by the order alone", |octets| octets[0] = 254),
        ("its due time, far off", |octets| octets[6] ^= 0x08),
        ("where its record lies", |octets| octets.iter_mut().skip(30).take(1).for_each(|octet| *octet ^= 1)),
        ("its sum", |octets| *octets.last_mut().unwrap() ^= 0x10),
        ("level and due time", |octets| (octets[0], octets[3]) = (254, octets[3] ^ 1)),
        ("what is behind it", |octets| octets.push(7)),
    ];
    for (what, damage) in damages {
        let mut nth = 0;
        loop {
            let cut_off = block_on(async {
                let mut bench = Bench::new(roomy());
                let kept = some(&bench, &[3000, 4000, 5000]).await;
                bench.queue.close().await;
                change_table(&bench.disk, |table| {
                    let mut octets = octets_of(table, kept[1].0);
                    damage(&mut octets);
                    table.insert(kept[1].0.to_u128(), octets.as_slice()).unwrap();
                });
                // The power goes at each operation of the start.
                let mut cut_off = false;
                if nth > 0 {
                    bench.disk.fail(nth, u64::MAX, Fault::Error);
                    cut_off = try_open(&bench.disk, &bench.clock, roomy()).is_err();
                    bench.disk.crash();
                    bench.disk.mend();
                }
                let recovery = bench.reopen();
                assert_eq!(recovery.set_aside, [], "{what}, operation {nth}");
                if nth == 0 {
                    assert_eq!(recovery.mended, [kept[1].0], "{what}");
                }
                assert_eq!(given_out(&bench.queue).await, kept, "{what}, operation {nth}");
                let again = bench.restart().await;
                assert_eq!((again.mended.len(), again.set_aside.len()), (0, 0), "{what}, operation {nth}");
                cut_off
            });
            if nth > 0 && !cut_off {
                assert!(nth > 3, "{what}: {nth}");
                break;
            }
            // One kind of each way to mend it is cut off everywhere; the others once.
            nth += if what.starts_with("level and") || what.starts_with("its sum") { 1 } else { 1000 };
            if nth > 900 {
                break;
            }
        }
    }
}

#[test]
fn what_a_damaged_row_seems_to_say_is_not_believed_without_its_record() {
    block_on(async {
        let mut bench = Bench::new(roomy());
        let kept = some(&bench, &[3000, 4000, 5000]).await;
        bench.queue.close().await;
        change_table(&bench.disk, |table| {
            // It claims another's place, and its sum is not right.
            let mut octets = Row::decode(kept[0].0, &octets_of(table, kept[0].0)).encode(kept[1].0).unwrap();
            octets.pop();
            octets.push(0);
            *octets.first_mut().unwrap() = 254;
            table.insert(kept[1].0.to_u128(), octets.as_slice()).unwrap();
        });
        let recovery = bench.reopen();
        assert_eq!(recovery.set_aside.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [kept[1].0]);
        let Listed::Unreadable(_, reason) = bench.queue.show(kept[1].0).await.unwrap() else { panic!("it is lost") };
        assert!(reason.starts_with("its row in store.redb is damaged"), "{reason}");
        // Removed, it takes nothing away from whose place it claimed.
        bench.queue.remove(kept[1].0).await.unwrap();
        bench.keep(&body(6000)).await;
        let others = given_out(&bench.queue).await;
        assert!(others.contains(&kept[0]) && others.contains(&kept[2]) && others.len() == 3);
    });
}

#[test]
fn a_row_under_a_wrong_name_is_put_under_its_own_and_whoever_is_in_disorder_is_found_again() {
    for bit in [0, 5, 60, 120] {
        block_on(async {
            let mut bench = Bench::new(roomy());
            let kept = some(&bench, &[3000, 4000, 5000]).await;
            bench.queue.close().await;
            change_table(&bench.disk, |table| {
                let octets = octets_of(table, kept[1].0);
                table.remove(kept[1].0.to_u128()).unwrap();
                table.insert(kept[1].0.to_u128() ^ (1 << bit), octets.as_slice()).unwrap();
            });
            assert_eq!(bench.reopen().mended, [kept[1].0], "bit {bit}");
            assert_eq!(given_out(&bench.queue).await, kept, "bit {bit}");
        });
    }
}

#[test]
fn a_row_that_rots_in_a_running_daemon_stops_nobody_and_is_whole_or_dead() {
    // Its level and due time, which its record has too; or so that nothing can be read of it.
    for (places, flip, is_whole) in [([0, 3], 0x03, true), ([7, 9], 0xf3, false)] {
        block_on(async {
            let mut bench = Bench::new(roomy());
            let kept = some(&bench, &[300, 4000, 500]).await;
            bench.queue.close().await;
            let mut row = Vec::new();
            change_table(&bench.disk, |table| row = octets_of(table, kept[1].0));
            bench.queue = try_open(&bench.disk, &bench.clock, roomy()).unwrap().0;
            let shown = bench.disk.octets(Path::new(INDEX)).unwrap();
            let copies: Vec<usize> = (0..shown.len()).filter(|&place| shown[place..].starts_with(&row)).collect();
            assert!(!copies.is_empty());
            for (copy, place) in copies.into_iter().flat_map(|copy| places.map(|place| (copy, place))) {
                assert!(bench.disk.damage(Path::new(INDEX), (copy + place) as u64, flip));
            }
            let page = Page { after: None, limit: 10 };
            assert_eq!(bench.queue.list(Filter::default(), page).await.unwrap().entries.len(), 3, "a listing goes on");
            let given: Vec<QueueId> = given_out(&bench.queue).await.into_iter().map(|(id, _)| id).collect();
            let ids: Vec<QueueId> = kept.iter().map(|(id, _)| *id).collect();
            let dead = bench.queue.stats().await.unwrap().totals.dead.count;
            let told = tokio::time::timeout(Duration::ZERO, bench.queue.damaged()).await;
            if is_whole {
                assert_eq!((given, dead, told.is_err()), (ids, 0, true));
            } else {
                assert_eq!((given, dead), (vec![ids[0], ids[2]], 1));
                assert_eq!(told.unwrap().iter().map(|(id, _)| *id).collect::<Vec<_>>(), [ids[1]]);
            }
        });
    }
}

/// Files of a queue, and what is in it.
struct Image {
    files: Vec<(PathBuf, Vec<u8>)>,
    /// Where the last commit wrote in the index.
    last_written: Vec<usize>,
    kept: Vec<(QueueId, Vec<u8>)>,
}

fn image(crashed: bool) -> Image {
    block_on(async {
        // Without a cache redb writes what it frees behind a commit at once, and the commit before the last is none any more.
        let bench = Bench::new(settings());
        let mut lengths: Vec<usize> = (0..60).map(|number| 100 + number * 37).collect();
        lengths[7] = GATHER_MAX + 1;
        let last_length = lengths.pop().unwrap();
        let mut kept = some(&bench, &lengths).await;
        let before = bench.disk.octets(Path::new(INDEX)).unwrap();
        kept.extend(some(&bench, &[last_length]).await);
        let after = bench.disk.octets(Path::new(INDEX)).unwrap();
        let last_written = (0..after.len()).filter(|&place| before.get(place) != after.get(place)).collect();
        // A kill: what was written is there, synced or not.
        let last = PathBuf::from(LAST);
        let testimony = crashed.then(|| bench.disk.octets(&last).unwrap());
        if crashed {
            bench.disk.crash();
        } else {
            bench.queue.close().await;
        }
        let bodies = bench.disk.list(Path::new("/q/bodies")).unwrap().into_iter();
        let bodies = bodies.map(|entry| Path::new("/q/bodies").join(entry.name));
        let paths = [PathBuf::from(INDEX), PathBuf::from(SHELF)].into_iter().chain(bodies);
        let mut files: Vec<_> = paths.map(|path| (path.clone(), bench.disk.octets(&path).unwrap())).collect();
        files.extend(testimony.map(|octets| (last, octets)));
        Image { files, last_written, kept }
    })
}

/// What became of a queue in whose index one octet is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Became {
    Whole,
    OneDead,
    LastCommitLost,
    Refused,
}

fn with_one_wrong(image: &Image, place: usize, flip: u8, crashed: bool) -> Result<Became, String> {
    let disk = SimulatedDisk::new(1);
    for (path, octets) in &image.files {
        disk.place(path, octets);
    }
    assert!(disk.damage(Path::new(INDEX), place as u64, flip));
    let clock = Arc::new(ManualClock::at(START.after(Duration::from_secs(3600))));
    let opened = catch_unwind(AssertUnwindSafe(|| try_open(&disk, &clock, roomy())));
    let (queue, recovery) = match opened.map_err(|_| "a panic got out".to_owned())? {
        Ok(opened) => opened,
        Err(OpenError::Damaged(..) | OpenError::Newer { .. } | OpenError::ShelfMissing(_)) => {
            return Ok(Became::Refused);
        }
        Err(fault) => return Err(fault.to_string()),
    };
    block_on(async {
        let given = given_out(&queue).await;
        let (mut missing, last) = (Vec::new(), image.kept.last().unwrap().0);
        for (id, octets) in &image.kept {
            if given.iter().any(|(other, read)| other == id && read == octets) {
                continue;
            }
            match queue.show(*id).await {
                Ok(listed) if listed.state() == State::Dead => {}
                Err(QueueError::NotFound(_)) if crashed && *id == last => {}
                other => return Err(format!("{other:?}, {recovery:?}")),
            }
            missing.push(*id);
        }
        queue.close().await;
        // Once a commit that had been answered was gone without a word.
        let told = recovery.lost.as_ref().map(|lost| (lost.were, lost.are, lost.kept.clone()));
        let count = image.kept.len() as u64;
        match missing.as_slice() {
            [id] if crashed && *id == last && told.is_some() => {
                assert_eq!(told, Some((count, count - 1, vec![last])));
                Ok(Became::LastCommitLost)
            }
            _ if told.is_some() => Err(format!("{told:?}, and {missing:?} are missing")),
            [] => Ok(Became::Whole),
            [id] if crashed && *id == last => Err(format!("{id} is gone without a word")),
            [_] => Ok(Became::OneDead),
            more => Err(format!("{more:?}, {recovery:?}")),
        }
    })
}

#[test]
fn whatever_octet_of_the_index_is_wrong_all_others_are_given_out_or_it_is_refused_by_name() {
    for crashed in [false, true] {
        let image = image(crashed);
        let index = &image.files[0].1;
        let written = index.iter().enumerate().filter(|(_, octet)| **octet != 0).map(|(place, _)| place);
        let written = written.chain(image.last_written.iter().copied().filter(|_| crashed));
        let (mut became, mut wrong) = (std::collections::BTreeMap::new(), Vec::new());
        for (number, place) in written.enumerate().filter(|(number, _)| number % 97 == 0) {
            let flip = if number % 2 == 0 { 0x01 } else { 0x80 };
            match with_one_wrong(&image, place, flip, crashed) {
                Ok(end) => *became.entry(end).or_insert(0) += 1,
                Err(fault) => wrong.push(format!("octet {place} by {flip:#x}: {fault}")),
            }
        }
        assert!(wrong.is_empty(), "crashed {crashed}: {became:?}\n{}", wrong.join("\n"));
        assert!(became.contains_key(&Became::Whole), "{became:?}");
        assert_eq!(became.contains_key(&Became::LastCommitLost), crashed, "{became:?}");
    }
}

/// Once the store refused to open what was damaged, until somebody restarted it: all mail heard 452, for one message.
#[test]
fn what_is_damaged_when_the_store_opens_again_is_set_aside_and_the_others_go_on() {
    block_on(async {
        let bench = Bench::new(settings());
        let first = bench.keep(b"the first").await;
        bench.clock.advance(Duration::from_secs(1));
        let second = bench.keep(&body(GATHER_MAX)).await;
        let shelf = bench.disk.open(Path::new(SHELF), Open::Existing).unwrap();
        shelf.set_length(shelf.length().unwrap() - 1000).unwrap();
        shelf.sync().unwrap();
        bench.disk.fail(1, 0, Fault::Error);
        assert!(bench.queue.inner.store.apply(vec![new_message(9, b"fails")], bench.clock.now())[0].is_err());
        assert_eq!(bench.queue.inner.store.apply(vec![Order::Mend], bench.clock.now()), [Ok(())]);
        assert_eq!(bench.claim_now().await.unwrap().id(), first);
        assert!(bench.claim_now().await.is_none());
        assert_eq!(bench.record(second).await.state, State::Dead);
        let reason = "the file of messages ends before what is kept of it".to_owned();
        let told = tokio::time::timeout(Duration::ZERO, bench.queue.damaged()).await;
        assert_eq!(told, Ok(vec![(second, reason)]));
        bench.keep(b"another").await;
    });
}

/// Once its claim was given back first in its turn, and the store opened anew, once a second for ever.
#[test]
fn what_the_disk_fails_to_read_is_one_message_and_all_others_go_on() {
    for lost in ["record", "body"] {
        block_on(async {
            let mut bench = Bench::new(settings());
            let deposit = |identity: &str, helo: &str| {
                let mut deposit = samples::deposit(START);
                deposit.custodian.identity = identity.to_owned();
                deposit.trace.helo = helo.to_owned();
                deposit
            };
            let bad = bench.keep_with(b"not the body that is read", deposit("alice", "the-bad-one")).await;
            bench.clock.advance(Duration::from_secs(1));
            let others = [
                bench.keep_with(b"the same identity's", deposit("alice", "other")).await,
                bench.keep_with(b"another's", deposit("bob", "other")).await,
            ];
            bench.restart().await;
            let sought: &[u8] = if lost == "record" { b"the-bad-one" } else { b"not the body that" };
            let shelf = bench.disk.octets(Path::new(SHELF)).unwrap();
            let at = shelf.windows(sought.len()).position(|window| window == sought).unwrap() as u64;
            assert!(bench.disk.fail_reads(Path::new(SHELF), at..at + 1));
            let before = bench.disk.opened_afresh();
            let mut given = Vec::new();
            while let Some(claim) = bench.claim_now().await {
                match whole(claim.body()).await {
                    Ok(_) => given.push(claim.id()),
                    Err(fault) => assert!(matches!(fault, QueueError::Damaged(..)), "{fault}"),
                }
            }
            given.sort();
            assert_eq!(given, others, "{lost}");
            assert!(bench.disk.opened_afresh() - before <= 4, "{lost}: two files are opened");
            let dead = bench.queue.list(Filter { state: Some(State::Dead) }, Page { after: None, limit: 9 }).await;
            assert_eq!(dead.unwrap().entries.iter().map(Listed::id).collect::<Vec<_>>(), [bad], "{lost}");
            let told = tokio::time::timeout(Duration::ZERO, bench.queue.damaged()).await.unwrap();
            assert!(
                matches!(told.as_slice(), [(id, why)] if *id == bad && why.contains("disk fails to read")),
                "{told:?}"
            );
            // While it can't be read, an order about it fails alone; when it can, the message is as it was.
            if lost == "record" {
                assert!(matches!(bench.queue.retry(bad).await, Err(QueueError::Damaged(..))));
            }
            bench.disk.mend();
            bench.queue.retry(bad).await.unwrap();
            let claim = bench.claim_now().await.unwrap();
            assert_eq!((claim.id(), whole(claim.body()).await.unwrap()), (bad, b"not the body that is read".to_vec()));
            claim.conclude(nothing_tried(Next::Finished)).await.unwrap();
            assert_eq!(bench.restart().await.totals.dead.count, 0, "{lost}");
        });
    }
}

#[test]
fn a_damaged_record_that_is_set_aside_is_told_to_who_counts() {
    block_on(async {
        let mut bench = Bench::new(settings());
        let mut deposit = samples::deposit(START);
        deposit.trace.helo = "the-damaged-one".to_owned();
        let id = bench.keep_with(b"hello", deposit).await;
        bench.queue.close().await;
        bench.damage(b"the-damaged-one");
        bench.reopen();
        assert!(bench.claim_now().await.is_none());
        let told = tokio::time::timeout(Duration::ZERO, bench.queue.damaged()).await;
        assert_eq!(told, Ok(vec![(id, "its record fails its checksum".to_owned())]));
        assert!(tokio::time::timeout(Duration::ZERO, bench.queue.damaged()).await.is_err(), "each is told once");
    });
}
