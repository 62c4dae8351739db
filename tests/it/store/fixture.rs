//! One store of each format that ever landed, kept in fixtures/store, and still opened.
//!
//! A fixture is made once: `SEALPOST_WRITE_FIXTURES=1 cargo test --test it fixture` writes the one of today's format where it is missing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sealpost::queue::{
    Certainty, Conclusion, Filter, HeldBy, Listed, Next, Outcome, Page, Queue, Recheck, State, Tried,
};
use sealpost::sys::{Clock, ManualClock, SimulatedDisk};

use super::model::read;
use super::{HOME, START, block_on, deposit, open};

/// The format that is written today.
const TODAY: u32 = 4;

fn folder(format: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/store/format-{format}"))
}

/// A queued, a tried, a held and a dead message.
async fn make(disk: &SimulatedDisk, clock: &Arc<ManualClock>) {
    let (queue, _) = open(disk, clock, 1).unwrap();
    let mut ids = Vec::new();
    for body in
        [b"Subject: queued\r\n\r\n".to_vec(), b"Subject: tried\r\n\r\n".to_vec(), vec![b'x'; 40_000], Vec::new()]
    {
        let mut incoming = queue.admit("alice", None).await.unwrap();
        incoming.write(&body).await.unwrap();
        ids.push(incoming.commit(deposit(&**clock, 2)).await.unwrap().id());
        clock.advance(Duration::from_secs(1));
    }
    queue.hold(ids[2]).await.unwrap();
    let first = queue.claim().await;
    let tried = queue.claim().await;
    assert_eq!((first.id(), tried.id()), (ids[0], ids[1]));
    let outcome = Outcome::Deferred { reason: "the upstream does not answer".to_owned(), reply: None };
    let outcomes = vec![Tried { recipient: 0, upstream: "main".to_owned(), outcome, certainty: Certainty::Known }];
    let next = Next::Retry(START.after(Duration::from_secs(600)));
    tried.conclude(Conclusion { outcomes, next, report: None, warned: true }).await.unwrap();
    let dead =
        Conclusion { outcomes: Vec::new(), next: Next::Dead("no report".to_owned()), report: None, warned: false };
    queue.claim().await.conclude(dead).await.unwrap();
    queue.close().await;
}

#[test]
fn a_store_of_format_1_opens_and_is_migrated() {
    opens(1);
}

#[test]
fn a_store_of_format_2_opens_and_is_put_in_order_by_identity() {
    opens(2);
}

#[test]
fn a_store_of_format_3_opens_and_is_written_anew() {
    opens(3);
}

#[test]
fn a_store_of_format_4_opens() {
    opens(4);
}

#[expect(clippy::disallowed_methods, reason = "fixtures are files of the repository")]
fn opens(format: u32) {
    let (disk, clock) = (SimulatedDisk::new(0), Arc::new(ManualClock::at(START)));
    let folder = folder(format);
    if format == TODAY && std::env::var("SEALPOST_WRITE_FIXTURES").is_ok() && !folder.exists() {
        block_on(make(&disk, &clock));
        std::fs::create_dir_all(&folder).unwrap();
        for name in ["store.redb", "messages-0"] {
            std::fs::write(folder.join(name), disk.octets(&Path::new(HOME).join(name)).unwrap()).unwrap();
        }
    }
    let disk = SimulatedDisk::new(0);
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        disk.place(&Path::new(HOME).join(entry.file_name()), &std::fs::read(entry.path()).unwrap());
    }
    clock.set_wall(START.after(Duration::from_secs(60)));
    block_on(async {
        let (queue, recovery) = open(&disk, &clock, 2).unwrap();
        assert_eq!((recovery.after_crash, recovery.totals.all().count), (false, 4));
        let listing = queue.list(Filter::default(), Page { after: None, limit: 10 }).await.unwrap();
        let mut seen = Vec::new();
        for listed in listing.entries {
            let Listed::Message(record) = listed else { panic!("{listed:?}") };
            assert_eq!(record.envelope.recipients().len(), 2);
            assert_eq!(record.custodian.identity, "staff:alice@example.com");
            assert_eq!(record.custodian.chain, [("CN=Staff issuing".to_owned(), "01af".to_owned())]);
            // What a CRL is asked by is kept since format 2.
            assert_eq!(
                (record.custodian.key.is_some(), record.custodian.links.len()),
                if format == 1 { (false, 0) } else { (true, 1) }
            );
            assert_eq!(record.held_by, (record.state == State::Held).then_some(HeldBy::Operator));
            assert_eq!((record.recheck, record.released), (Recheck::Due, None));
            let body = read(&queue, record.id).await.unwrap();
            seen.push((record.state, record.attempts, record.warned, body.len()));
        }
        let expected = [
            (State::Queued, 0, false, 19),
            (State::Queued, 1, true, 18),
            (State::Held, 0, false, 40_000),
            (State::Dead, 0, false, 0),
        ];
        assert_eq!(seen, expected);
        // In the order of before, and the tried one at its time.
        assert_eq!(queue.claim().await.record().trace.arrived, START);
        clock.set_wall(START.after(Duration::from_secs(599)));
        assert!(tokio::time::timeout(Duration::ZERO, queue.claim()).await.is_err());
        clock.set_wall(START.after(Duration::from_secs(600)));
        assert_eq!(queue.claim().await.record().attempts, 1);
        assert!(clock.now().wall > START);
        migrated(&disk, &clock, queue).await;
    });
}

/// A message of an older store that is written again is today's, beside others that are not.
async fn migrated(disk: &SimulatedDisk, clock: &Arc<ManualClock>, queue: Queue) {
    let all = || Filter::default();
    let page = Page { after: None, limit: 10 };
    let held = queue.list(Filter { state: Some(State::Held) }, page).await.unwrap().entries[0].id();
    queue.release(held).await.unwrap();
    queue.close().await;
    let (queue, recovery) = open(disk, clock, 3).unwrap();
    assert_eq!((recovery.totals.all().count, recovery.totals.held.count), (4, 0));
    for listed in queue.list(all(), page).await.unwrap().entries {
        let Listed::Message(record) = listed else { panic!("{listed:?}") };
        assert_eq!(record.released.is_some(), record.id == held);
    }
    queue.close().await;
}
