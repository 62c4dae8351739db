//! What a crash, a bad disk or a mistake leaves: set aside, removed or refused, and the others go on.

use super::*;

#[test]
fn a_damaged_body_is_set_aside_and_the_others_go_on() {
    for length in [1000, 100_000, GATHER_MAX + 1000] {
        block_on(async {
            let mut bench = Bench::new(settings());
            let octets = body(length);
            let id = bench.keep(&octets).await;
            let other = bench.keep(b"other").await;
            bench.queue.close().await;
            let file = Path::new("/q/bodies").join(id.to_string());
            if !bench.disk.damage(&file, 500, 4) {
                bench.damage(&octets[200..264]);
            }
            bench.reopen();
            let claims = [bench.claim_now().await.unwrap(), bench.claim_now().await.unwrap()];
            for claim in claims {
                match whole(claim.body()).await {
                    Ok(octets) => assert_eq!((claim.id(), octets), (other, b"other".to_vec())),
                    Err(fault) => {
                        assert!(matches!(fault, QueueError::Damaged(..)), "{fault}");
                        let lapsed = claim.conclude(nothing_tried(Next::Finished)).await;
                        assert_eq!(lapsed, Err(QueueError::Fenced(id)));
                    }
                }
            }
            let record = bench.record(id).await;
            assert_eq!((record.state, record.reason.as_deref()), (State::Dead, Some("its body fails its checksum")));
        });
    }
}

#[test]
fn a_damaged_record_is_set_aside_listed_and_can_be_removed() {
    block_on(async {
        let mut bench = Bench::new(settings());
        let mut deposit = samples::deposit(START);
        deposit.trace.helo = "the-damaged-one".to_owned();
        let id = bench.keep_with(b"hello", deposit).await;
        let other = bench.keep(b"other").await;
        bench.queue.close().await;
        bench.damage(b"the-damaged-one");
        bench.reopen();
        assert_eq!(bench.claim_now().await.unwrap().id(), other);
        assert!(bench.claim_now().await.is_none());
        let dead = Filter { state: Some(State::Dead) };
        let listing = bench.queue.list(dead, Page { after: None, limit: 10 }).await.unwrap();
        assert_eq!(listing.entries, [Listed::Unreadable(id, "its record fails its checksum".to_owned())]);
        assert!(matches!(bench.queue.retry(id).await, Err(QueueError::Damaged(..))));
        assert_eq!(bench.queue.stats().await.unwrap().totals.dead, Tally { count: 1, octets: 5 });
        // Whose it was is known from the order: the share of its identity is right again.
        let held = || bench.queue.inner.store.held_by("staff:alice@example.com").unwrap();
        assert_eq!(held().count, 2);
        bench.queue.remove(id).await.unwrap();
        let totals = bench.queue.stats().await.unwrap().totals;
        assert_eq!((totals.queued, totals.all()), (Tally { count: 1, octets: 5 }, held()));
    });
}

/// Once it stayed queued, without a claim and without a place: nobody looked at it again, and what its identity had sent behind it waited for a restart.
#[test]
fn a_record_found_damaged_when_its_outcome_is_recorded_is_set_aside_and_holds_up_nobody() {
    block_on(async {
        let bench = Bench::new(settings());
        let mut deposit = samples::deposit(START);
        deposit.trace.helo = "the-damaged-one".to_owned();
        let id = bench.keep_with(b"hello", deposit).await;
        let claim = bench.claim_now().await.unwrap();
        let other = bench.keep(b"other").await;
        bench.damage(b"the-damaged-one");
        assert_eq!(claim.conclude(nothing_tried(Next::Retry(START))).await, Ok(None));
        let reason = "its record fails its checksum".to_owned();
        assert_eq!(bench.queue.show(id).await, Ok(Listed::Unreadable(id, reason)));
        assert_eq!(bench.queue.stats().await.unwrap().totals.dead.count, 1);
        assert_eq!(bench.claim_now().await.unwrap().id(), other);
        assert!(bench.claim_now().await.is_none());
    });
}

#[test]
fn recovery_removes_what_has_no_record_and_sets_aside_what_has_no_body() {
    block_on(async {
        let mut bench = Bench::new(settings());
        let id = bench.keep(&body(GATHER_MAX + 1)).await;
        bench.queue.close().await;
        let bodies = Path::new("/q/bodies");
        bench.disk.remove(&bodies.join(id.to_string())).unwrap();
        let leftover = QueueId::from_u128(7);
        drop(bench.disk.open(&bodies.join(leftover.to_string()), Open::New).unwrap());
        drop(bench.disk.open(&bodies.join("not-ours.txt"), Open::New).unwrap());
        let (queue, first) = try_open(&bench.disk, &bench.clock, settings()).unwrap();
        bench.queue = queue;
        assert_eq!((first.leftovers, first.after_crash), (1, false));
        assert_eq!(first.set_aside, [(id, "its body file is missing".to_owned())]);
        assert_eq!(first.totals.dead.count, 1);
        let second = bench.restart().await;
        assert_eq!((second.leftovers, second.set_aside.len(), second.totals), (0, 0, first.totals));
        let names: Vec<String> = bench.disk.list(bodies).unwrap().into_iter().map(|entry| entry.name).collect();
        assert_eq!(names, ["not-ours.txt"]);
    });
}

#[test]
fn a_start_after_a_crash_is_told_from_one_after_a_close() {
    block_on(async {
        let mut bench = Bench::new(settings());
        let id = bench.keep(b"hello").await;
        bench.disk.crash();
        assert!(bench.reopen().after_crash);
        assert!(!bench.restart().await.after_crash);
        assert_eq!(bench.record(id).await.state, State::Queued);
    });
}

#[test]
fn bodies_without_a_store_are_not_thrown_away() {
    block_on(async {
        let bench = Bench::new(settings());
        bench.keep(&body(GATHER_MAX + 1)).await;
        bench.queue.close().await;
        bench.disk.remove(Path::new("/q/store.redb")).unwrap();
        let refused = try_open(&bench.disk, &bench.clock, settings()).unwrap_err();
        assert!(matches!(refused, OpenError::StoreMissing(_, 2)), "{refused}");
    });
}

#[test]
fn a_newer_store_is_refused_by_name() {
    block_on(async {
        let bench = Bench::new(settings());
        bench.queue.close().await;
        let file = bench.disk.open(Path::new("/q/store.redb"), Open::Existing).unwrap();
        let database = redb::Database::builder().create_with_backend(storage::Storage(file)).unwrap();
        let transaction = database.begin_write().unwrap();
        let newer = (recover::FORMAT + 1).to_le_bytes();
        transaction.open_table(tables::META).unwrap().insert(tables::FORMAT_KEY, newer.as_slice()).unwrap();
        transaction.commit().unwrap();
        database.close().unwrap();
        let refused = try_open(&bench.disk, &bench.clock, settings()).unwrap_err();
        assert!(matches!(refused, OpenError::Newer { found } if found == recover::FORMAT + 1), "{refused}");
    });
}
