//! What was kept a moment ago: it is what the disk has, as long as it stands there so, and nothing rests on it.

use super::super::settings::PIECE;
use super::*;

#[test]
fn what_is_claimed_at_once_is_what_the_disk_has_and_is_not_read() {
    for length in [0, 1, 5000, 200_000] {
        block_on(async {
            let bench = Bench::new(settings());
            let id = bench.keep(&body(length)).await;
            let kept = bench.record(id).await;
            // Whoever read it would notice.
            bench.damage(kept.trace.helo.as_bytes());
            if length > 1000 {
                bench.damage(&body(length)[200..264]);
            }
            let claim = bench.claim_now().await.unwrap();
            assert_eq!(claim.record(), &kept);
            assert_eq!(whole(claim.body()).await.unwrap(), body(length), "{length}");
            let mut again = claim.body();
            again.next().await.unwrap();
            again.rewind();
            assert_eq!(whole(again).await.unwrap(), body(length), "{length}");
            claim.conclude(nothing_tried(Next::Finished)).await.unwrap();
            assert_eq!(bench.queue.show(id).await, Err(QueueError::NotFound(id)));
        });
    }
}

#[test]
fn what_is_read_for_who_is_to_send_it_is_read_with_its_octets() {
    use Reading::{RecordAlone, Whole};
    for (length, reading, is_read) in [
        (0, Whole, true),
        (5000, Whole, true),
        (PIECE, Whole, true),
        (PIECE + 1, Whole, false),
        (5000, RecordAlone, false),
    ] {
        block_on(async {
            let mut bench = Bench::new(settings());
            let id = bench.keep(&body(length)).await;
            bench.restart().await;
            let claim = bench.queue.claim_reading(reading).await;
            // Whoever read it from the disk would notice.
            if length > 1000 {
                bench.damage(&body(length)[200..264]);
            }
            let read = whole(claim.body()).await;
            assert_eq!(read == Ok(body(length)), is_read, "{length}, {reading:?}: {read:?}");
            assert_eq!(claim.id(), id);
        });
    }
}

#[test]
fn octets_that_are_damaged_when_they_are_read_with_their_record_have_the_message_set_aside() {
    block_on(async {
        let mut bench = Bench::new(settings());
        let id = bench.keep(&body(5000)).await;
        bench.restart().await;
        bench.damage(&body(5000)[200..264]);
        let claim = bench.claim_now().await.unwrap();
        assert!(matches!(whole(claim.body()).await, Err(QueueError::Damaged(..))));
        assert_eq!(bench.record(id).await.state, State::Dead);
    });
}

#[test]
fn whether_it_is_at_hand_nobody_can_tell() {
    for at_hand in [0, 1 << 20] {
        block_on(async {
            let bench = Bench::new(QueueSettings { at_hand, ..settings() });
            let id = bench.keep(&body(3000)).await;
            let first = bench.claim_now().await.unwrap();
            assert_eq!(whole(first.body()).await.unwrap(), body(3000));
            first.conclude(nothing_tried(Next::Retry(START))).await.unwrap();
            let second = bench.claim_now().await.unwrap();
            assert_eq!((second.id(), second.record()), (id, &bench.record(id).await));
            assert_eq!(whole(second.body()).await.unwrap(), body(3000));
        });
    }
}

#[test]
fn what_has_changed_since_is_given_out_as_it_stands_now() {
    block_on(async {
        let bench = Bench::new(settings());
        let id = bench.keep(b"hello").await;
        bench.queue.hold(id).await.unwrap();
        assert!(bench.claim_now().await.is_none(), "it is held");
        bench.clock.advance(Duration::from_secs(9));
        bench.queue.release(id).await.unwrap();
        let claim = bench.claim_now().await.unwrap();
        assert_eq!(claim.record(), &bench.record(id).await);
        assert_eq!(whole(claim.body()).await.unwrap(), b"hello");
    });
}

#[test]
fn what_is_not_due_yet_or_held_from_the_start_waits() {
    block_on(async {
        let bench = Bench::new(settings());
        let mut incoming = bench.queue.admit("alice", None).await.unwrap();
        incoming.hold("it waits for approval".to_owned());
        incoming.commit(samples::deposit(START)).await.unwrap();
        let mut later = bench.queue.admit("alice", None).await.unwrap();
        later.tried(Vec::new(), START.after(Duration::from_secs(60)));
        let later = later.commit(samples::deposit(START)).await.unwrap().id();
        assert!(bench.claim_now().await.is_none());
        bench.clock.advance(Duration::from_secs(60));
        assert_eq!(bench.claim_now().await.unwrap().id(), later);
    });
}

#[test]
fn what_is_taken_away_while_it_waits_to_be_sent_is_not_sent() {
    block_on(async {
        let bench = Bench::new(settings());
        let id = bench.keep(b"hello").await;
        let claim = bench.claim_now().await.unwrap();
        bench.queue.remove(id).await.unwrap();
        assert_eq!(whole(claim.body()).await, Err(QueueError::NotFound(id)));
    });
}

/// The level that lets somebody in may be a moment old; whether the disk has room is asked again before anything is written.
#[test]
fn a_disk_that_fills_within_a_moment_says_come_again_and_nothing_is_lost() {
    block_on(async {
        let bench = Bench::new(QueueSettings { reserve_size: 100_000, ..settings() });
        // It fills the gap before the first zone of records.
        let kept = bench.keep(&body(250_000)).await;
        bench.disk.set_space(bench.disk.used() + 99_000);
        let mut incoming = bench.queue.admit("alice", None).await.unwrap();
        incoming.write(&body(20_000)).await.unwrap();
        let refused = incoming.commit(samples::deposit(START)).await.unwrap_err();
        assert!(matches!(&refused, QueueError::Full(why) if why.contains("this message needs")), "{refused}");
        bench.clock.advance(Duration::from_secs(1));
        assert!(matches!(bench.queue.admit("alice", None).await, Err(QueueError::Full(_))), "and then at once");
        // And back: who would be refused has the disk asked anew.
        bench.disk.set_space(1 << 30);
        bench.keep(&body(20_000)).await;
        assert_eq!(whole(bench.queue.body(kept).await.unwrap()).await.unwrap(), body(250_000));
    });
}
