//! Room in the queue: each identity's share of it, and what is said when there is none.

use super::*;

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
