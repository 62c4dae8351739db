//! Room in the queue: each identity's share of it, and what is said when there is none.

use std::task::Poll;

use super::*;
use crate::queue::settings::{GRANTED_MEMORY, SCARCE_MEMORY, WAITING_MAX};

/// The identity of `samples::deposit`.
const ALICE: &str = "staff:alice@example.com";

#[test]
fn an_identity_with_its_share_is_told_so_at_once_and_another_gets_in() {
    block_on(async {
        let halves = QueueSettings { count: 5, reserve_count: 1, share_per_identity: 50, ..settings() };
        let bench = Bench::new(halves.clone());
        let one = bench.keep(b"one").await;
        bench.keep(b"two").await;
        let before = tokio::time::Instant::now();
        let refused = bench.queue.admit(ALICE, None).await.unwrap_err();
        assert!(
            matches!(&refused, QueueError::Share(which) if which.contains("queue.share_per_identity")),
            "{refused}"
        );
        assert_eq!(before.elapsed(), Duration::ZERO);
        drop(bench.queue.admit("staff:bob@example.com", None).await.unwrap());
        // What is kept counts after a restart as before, and no more when it is gone.
        bench.queue.close().await;
        let (queue, _) = try_open(&bench.disk, &bench.clock, halves).unwrap();
        assert!(matches!(queue.admit(ALICE, None).await, Err(QueueError::Share(_))));
        queue.remove(one).await.unwrap();
        drop(queue.admit(ALICE, None).await.unwrap());
    });
}

/// A buffer that doubled held up to twice what was counted.
#[test]
fn what_a_body_holds_of_memory_is_counted_and_little_more_than_its_octets() {
    block_on(async {
        let bench = Bench::new(settings());
        for piece in [100, 1000, 5000, 30_000] {
            let mut incoming = bench.queue.admit(ALICE, None).await.unwrap();
            incoming.begin(b"From: alice@example.com\r\n\r\n".to_vec()).await.unwrap();
            while incoming.file.is_none() {
                let (held, octets) = (incoming.gathered.capacity(), incoming.gathered.len());
                assert!(held <= octets + GRANTED_MEMORY, "{held} for {octets}");
                assert!(u64::try_from(held).unwrap() <= incoming.granted.memory.octets(), "{held} for {octets}");
                incoming.write(&body(piece)).await.unwrap();
            }
        }
        // A header section that comes in a larger buffer holds that.
        let mut incoming = bench.queue.admit(ALICE, None).await.unwrap();
        let mut header = Vec::with_capacity(2 * GRANTED_MEMORY);
        header.extend_from_slice(b"From: alice@example.com\r\n\r\n");
        incoming.begin(header).await.unwrap();
        assert!(incoming.granted.memory.octets() >= u64::try_from(2 * GRANTED_MEMORY).unwrap());
    });
}

/// Where memory is scarce a message that goes to a file keeps half of its buffer, and the buffer is never larger than what is granted.
#[test]
fn who_writes_to_a_file_leaves_memory_to_others() {
    block_on(async {
        let buffer = u64::try_from(GRANTED_MEMORY).unwrap();
        let bench = Bench::new(QueueSettings { memory: 3 * buffer, ..settings() });
        let mut large = Vec::new();
        for _ in 0..2 {
            large.push(bench.queue.admit(ALICE, None).await.unwrap());
        }
        for incoming in &mut large {
            for _ in 0..100 {
                incoming.write(&[b'x'; 5000]).await.unwrap();
                assert!(incoming.file.is_none() || incoming.gathered.capacity() <= GRANTED_MEMORY);
            }
            assert!(incoming.file.is_some() && incoming.gathered.capacity() <= SCARCE_MEMORY);
        }
        let others = [bench.queue.admit("bob", None).await, bench.queue.admit("carol", None).await];
        assert!(others.iter().all(Result::is_ok), "{others:?}");
    });
}

#[test]
fn an_identity_receives_so_many_messages_at_once_and_no_more() {
    block_on(async {
        let bench = Bench::new(QueueSettings { receiving_per_identity: 1, ..settings() });
        let first = bench.queue.admit(ALICE, None).await.unwrap();
        let refused = bench.queue.admit(ALICE, None).await.unwrap_err();
        assert!(matches!(&refused, QueueError::Share(which) if which.contains("receiving_per_identity")), "{refused}");
        drop(bench.queue.admit("bob", None).await.unwrap());
        drop(first);
        drop(bench.queue.admit(ALICE, None).await.unwrap());
    });
}

/// Reports were once a matter of nobody's: who had many written filled the queue beyond a share, and kept everybody else's waiting.
#[test]
fn a_report_takes_room_and_turn_of_whom_it_is_about_and_keeps_them() {
    block_on(async {
        let settings = || QueueSettings { count: 6, reserve_count: 0, share_per_identity: 50, ..settings() };
        let mut bench = Bench::new(settings());
        let ours = || Deposit { custodian: Custodian::ours(), ..samples::deposit(START) };
        let mut reports = Vec::new();
        for _ in 0..2 {
            bench.keep(b"it fails").await;
            let claim = loop {
                let claim = bench.claim_now().await.unwrap();
                if !claim.record().custodian.is_ours() {
                    break claim;
                }
                claim.put_off(Duration::from_secs(1));
            };
            let conclusion = Conclusion { report: Some((ours(), b"report".to_vec())), ..nothing_tried(Next::Finished) };
            reports.push(claim.conclude(conclusion).await.unwrap().unwrap());
        }
        let mut copy = bench.queue.admit(ALICE, None).await.unwrap();
        copy.write(b"copy").await.unwrap();
        copy.commit(ours()).await.unwrap();
        bench.clock.advance(Duration::from_secs(2));
        for round in ["as they came", "held and released", "after a restart"] {
            let held = |identity| bench.queue.inner.store.held_by(identity).unwrap().count;
            assert_eq!((held(ALICE), held(REPORTS)), (3, 0), "{round}");
            assert!(matches!(bench.queue.admit(ALICE, None).await, Err(QueueError::Share(_))), "{round}");
            assert!(matches!(bench.queue.has_room_for_report(ALICE, 0).await, Ok(())), "{round}");
            drop(bench.queue.admit("bob", None).await.unwrap());
            bench.queue.hold(reports[0]).await.unwrap();
            bench.queue.release(reports[0]).await.unwrap();
            let named = bench.queue.claim_one(reports[0]).await.unwrap().unwrap();
            assert!(bench.queue.inner.store.is_tried(named.id(), bench.clock.now()));
            named.put_off(Duration::from_secs(1));
            if round == "held and released" {
                bench.queue.close().await;
                bench.queue = try_open(&bench.disk, &bench.clock, settings()).unwrap().0;
            }
            bench.clock.advance(Duration::from_secs(2));
        }
        for id in reports {
            bench.queue.remove(id).await.unwrap();
        }
        assert_eq!(bench.queue.inner.store.held_by(ALICE).unwrap().count, 1);
    });
}

/// To a thousand recipients with the longest addresses there are.
fn to_very_many() -> Deposit {
    let label = "a".repeat(58);
    let recipients = (0..1000).map(|number| {
        let address = crate::mail::Address::parse(&format!("{number:064}@{label}.{label}.{label}.example")).unwrap();
        let orcpt = crate::mail::OriginalRecipient { address_type: "rfc822".to_owned(), address: "x".repeat(490) };
        crate::mail::Recipient {
            forward_path: crate::mail::ForwardPath::Address(address),
            parameters: crate::mail::RecipientParameters { notify: None, orcpt: Some(orcpt) },
        }
    });
    let deposit = samples::deposit(START);
    let sender = deposit.envelope.reverse_path().clone();
    Deposit { envelope: Envelope::new(sender, Default::default(), recipients.collect()).unwrap(), ..deposit }
}

/// Records were once counted by no budget: a body of two octets took most of a megabyte of the disk.
#[test]
fn whom_a_message_is_to_counts_as_what_is_in_it() {
    block_on(async {
        let mut bench = Bench::new(settings());
        let deposit = to_very_many();
        let before = bench.disk.used();
        for _ in 0..20 {
            bench.keep_with(b"hi", deposit.clone()).await;
        }
        let used = bench.disk.used() - before;
        for round in ["kept", "changed", "after a restart"] {
            let stats = bench.queue.stats().await.unwrap();
            let counted = stats.totals.all().octets;
            assert!(counted > used * 9 / 10 && counted < used, "{round}: {counted} of {used}");
            assert_eq!(bench.queue.inner.store.held_by(ALICE).unwrap().octets, counted, "{round}");
            assert_eq!(stats.totals.queued.octets, 40, "of bodies alone");
            let envelope = deposit.envelope.octets() * 20;
            assert!(envelope > counted * 9 / 10 && envelope < counted * 11 / 10, "{envelope} said before");
            // A page ends when it is large.
            let listing = bench.queue.list(Filter::default(), Page { after: None, limit: 1000 }).await.unwrap();
            assert!((1..10).contains(&listing.entries.len()) && listing.next.is_some(), "{}", listing.entries.len());
            if round == "kept" {
                let id = listing.entries[0].id();
                bench.queue.hold(id).await.unwrap();
                bench.queue.release(id).await.unwrap();
            } else {
                bench.restart().await;
            }
        }
        let mut all = bench.queue.list(Filter::default(), Page { after: None, limit: 1000 }).await.unwrap();
        let mut ids: Vec<QueueId> = all.entries.iter().map(Listed::id).collect();
        while all.next.is_some() {
            all = bench.queue.list(Filter::default(), Page { after: all.next, limit: 1000 }).await.unwrap();
            ids.extend(all.entries.iter().map(Listed::id));
        }
        assert_eq!(ids.len(), 20, "and goes on where it ended");
    });
}

#[test]
fn a_message_to_very_many_needs_room_and_memory_before_it_is_written() {
    block_on(async {
        let bench = Bench::new(QueueSettings { size: 1 << 20, reserve_size: 0, ..settings() });
        let envelope = to_very_many().envelope;
        let mut incoming = bench.queue.admit_besides(ALICE, None, envelope.octets()).await.unwrap();
        let second = bench.queue.admit_besides("bob", None, envelope.octets()).await.unwrap_err();
        assert!(matches!(&second, QueueError::Full(why) if why.contains("queue.size")), "{second}");
        incoming.write(&body(100_000)).await.unwrap();
        assert!(matches!(incoming.write(&body(250_000)).await, Err(QueueError::Full(_))), "both together");
        let bench = Bench::new(QueueSettings { memory: 1 << 20, ..settings() });
        let first = bench.queue.admit_besides(ALICE, None, envelope.octets()).await.unwrap();
        assert!(
            matches!(bench.queue.admit_besides("bob", None, envelope.octets()).await, Err(QueueError::Full(_))),
            "no memory"
        );
        drop(first);
        drop(bench.queue.admit_besides("bob", None, envelope.octets()).await.unwrap());
    });
}

/// It comes back in milliseconds. Who waits for it holds nothing, and keeps nobody else waiting.
#[test]
fn who_has_its_share_of_memory_waits_for_it_as_long_as_others_do() {
    block_on(async {
        let settings = QueueSettings { memory: 1 << 20, memory_share_per_identity: 25, ..settings() };
        let (wait, bench) = (settings.wait, Bench::new(settings));
        let mut under_way = Vec::new();
        for _ in 0..4 {
            under_way.push(bench.queue.admit(ALICE, None).await.unwrap());
        }
        let timed = |work| async {
            let began = tokio::time::Instant::now();
            let (came, of_bob) =
                tokio::join!(work, async { bench.queue.admit("bob", None).await.map(|_| began.elapsed()) });
            assert_eq!(of_bob, Ok(Duration::ZERO));
            (came, began.elapsed())
        };
        let (came, took) = timed(bench.queue.admit(ALICE, None)).await;
        let why = came.unwrap_err();
        assert!(matches!(&why, QueueError::Share(why) if why.contains("queue.memory_share_per_identity")), "{why}");
        assert_eq!(took, wait);
        let moment = Duration::from_millis(5);
        let one_ends = async {
            tokio::time::sleep(moment).await;
            drop(under_way.pop());
        };
        let ((came, took), ()) = tokio::join!(timed(bench.queue.admit(ALICE, None)), one_ends);
        assert_eq!((came.map(drop), took), (Ok(()), moment));
    });
}

/// With hundreds of connections it would wait hundreds of times, and each release would wake all of them. Who came when the disk had to be measured again once
/// stood in no line.
#[test]
fn who_waits_for_its_share_of_memory_stands_in_line_and_the_line_has_an_end() {
    for apart in [Duration::ZERO, Duration::from_millis(300)] {
        block_on(async {
            let settings = QueueSettings { memory: 1 << 20, memory_share_per_identity: 25, ..settings() };
            let bench = Bench::new(settings);
            let mut under_way = Vec::new();
            for _ in 0..4 {
                under_way.push(bench.queue.admit(ALICE, None).await.unwrap());
            }
            let mut line: Vec<_> = (0..WAITING_MAX).map(|_| Box::pin(bench.queue.admit(ALICE, None))).collect();
            for waiting in &mut line {
                bench.clock.advance(apart);
                assert!(futures_util::poll!(waiting).is_pending());
            }
            let began = tokio::time::Instant::now();
            bench.clock.advance(apart);
            let mut another = Box::pin(bench.queue.admit(ALICE, None));
            let Poll::Ready(Err(QueueError::Share(why))) = futures_util::poll!(&mut another) else {
                panic!("{apart:?}: it waits, too");
            };
            assert!(why.contains("32 messages are waiting"), "{why}");
            drop(bench.queue.admit("bob", None).await.unwrap());
            assert_eq!(began.elapsed(), Duration::ZERO);
            // Who goes away leaves its place to another, who has come last: what comes back goes to the first.
            line.truncate(3);
            drop(under_way.pop());
            let mut newcomer = Box::pin(bench.queue.admit(ALICE, None));
            assert!(futures_util::poll!(&mut newcomer).is_pending());
            for turn in 0..line.len() {
                for waiting in line.iter_mut().skip(turn + 1).rev() {
                    assert!(futures_util::poll!(waiting).is_pending(), "{turn}");
                }
                drop(line.get_mut(turn).unwrap().await.unwrap());
            }
            drop(newcomer.await.unwrap());
        });
    }
}

#[test]
fn want_of_room_says_which_limit_it_was_with_figures() {
    block_on(async {
        let full = |bench: Bench| async move { bench.queue.admit(ALICE, Some(2 << 20)).await.unwrap_err().to_string() };
        let bench = Bench::new(QueueSettings { size: 1 << 20, reserve_size: 0, ..settings() });
        let said = full(bench).await;
        assert!(said.contains("2 MiB more are asked for, and queue.size leaves intake 1 MiB"), "{said}");
        let bench = Bench::new(QueueSettings { count: 1, reserve_count: 1, ..settings() });
        let said = full(bench).await;
        assert!(said.contains("0 messages are kept or being received, and queue.count leaves intake 0"), "{said}");
        let bench = Bench::new(settings());
        bench.disk.set_space(bench.disk.used() + (1 << 20));
        let said = full(bench).await;
        assert!(said.contains("the disk of data_dir has 1 MiB free; 2 MiB are coming, and 64 MiB are left"), "{said}");
    });
}

#[test]
fn a_store_of_before_there_were_shares_is_counted_when_it_is_opened() {
    block_on(async {
        let (disk, clock) = (SimulatedDisk::new(1), Arc::new(ManualClock::at(START)));
        disk.place(Path::new("/q/store.redb"), include_bytes!("../../../fixtures/store/format-1/store.redb"));
        let opened = |share_per_identity| {
            let settings = QueueSettings { count: 10, reserve_count: 0, share_per_identity, ..settings() };
            try_open(&disk, &clock, settings).unwrap().0
        };
        // It holds four messages, all of one identity.
        let queue = opened(100);
        let listing = queue.list(Filter::default(), Page { after: None, limit: 1 }).await.unwrap();
        let Some(Listed::Message(first)) = listing.entries.first() else { panic!("{listing:?}") };
        queue.close().await;
        for (share, refused) in [(40, true), (50, false)] {
            let queue = opened(share);
            let admitted = queue.admit(&first.custodian.identity, None).await;
            assert_eq!(matches!(admitted, Err(QueueError::Share(_))), refused, "{share}");
            drop(admitted);
            queue.close().await;
        }
    });
}
