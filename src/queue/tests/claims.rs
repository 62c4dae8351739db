//! Who is given which message, when, and for how long; what is recorded of it.

use super::*;
use crate::smtp::{Code, Reply};

#[test]
fn a_claim_sleeps_until_a_message_is_committed() {
    block_on(async {
        let bench = Bench::new(settings());
        let claim = bench.queue.claim();
        tokio::pin!(claim);
        assert!(tokio::time::timeout(Duration::from_secs(1), &mut claim).await.is_err());
        let id = bench.keep(b"hello").await;
        assert_eq!(claim.await.id(), id);
    });
}

#[test]
fn a_claim_sleeps_until_a_message_is_due() {
    block_on(async {
        let bench = Bench::new(settings());
        let id = bench.keep(b"hello").await;
        let later = START.after(Duration::from_secs(90));
        bench.claim_now().await.unwrap().conclude(nothing_tried(Next::Retry(later))).await.unwrap();
        assert!(bench.claim_now().await.is_none());
        bench.clock.advance(Duration::from_secs(89));
        assert!(bench.claim_now().await.is_none());
        bench.clock.advance(Duration::from_secs(1));
        assert_eq!(bench.claim_now().await.unwrap().id(), id);
    });
}

#[test]
fn the_longest_due_is_given_out_first() {
    block_on(async {
        let bench = Bench::new(settings());
        let mut ids = Vec::new();
        for _ in 0..5 {
            ids.push(bench.keep(b"x").await);
            bench.clock.advance(Duration::from_secs(1));
        }
        for id in ids {
            assert_eq!(bench.claim_now().await.unwrap().id(), id);
        }
    });
}

#[test]
fn a_dropped_claim_is_given_out_again_when_its_lease_has_run_out_and_not_before() {
    block_on(async {
        let bench = Bench::new(settings());
        let id = bench.keep(b"hello").await;
        drop(bench.claim_now().await.unwrap());
        assert!(bench.claim_now().await.is_none());
        bench.clock.advance(settings().lease);
        assert_eq!(bench.claim_now().await.unwrap().id(), id);
    });
}

#[test]
fn an_old_fencing_number_records_nothing() {
    block_on(async {
        let bench = Bench::new(settings());
        let id = bench.keep(b"hello").await;
        let old = bench.claim_now().await.unwrap();
        bench.clock.advance(settings().lease);
        let new = bench.claim_now().await.unwrap();
        assert_eq!(old.renew(), Err(QueueError::Fenced(id)));
        assert_eq!(old.conclude(nothing_tried(Next::Finished)).await, Err(QueueError::Fenced(id)));
        assert_eq!(bench.record(id).await.state, State::Queued);
        new.conclude(nothing_tried(Next::Finished)).await.unwrap();
        assert_eq!(bench.queue.show(id).await, Err(QueueError::NotFound(id)));
    });
}

#[test]
fn a_renewed_claim_outlives_its_first_lease() {
    block_on(async {
        let bench = Bench::new(settings());
        bench.keep(b"hello").await;
        let claim = bench.claim_now().await.unwrap();
        bench.clock.advance(settings().lease / 2);
        claim.renew().unwrap();
        bench.clock.advance(settings().lease / 2);
        assert!(bench.claim_now().await.is_none());
    });
}

#[test]
fn who_has_it_by_now_is_noted_once_and_the_claim_goes_on() {
    block_on(async {
        let bench = Bench::new(settings());
        let id = bench.keep(b"hello").await;
        let old = bench.claim_now().await.unwrap();
        bench.clock.advance(settings().lease);
        let claim = bench.claim_now().await.unwrap();
        let reply = Reply::new(Code::known(250), None, "Ok");
        let has_it = Tried {
            recipient: 0,
            upstream: "main".to_owned(),
            outcome: Outcome::Delivered { reply },
            certainty: Certainty::Known,
        };
        assert_eq!(old.note(vec![has_it.clone()], None).await, Err(QueueError::Fenced(id)));
        assert!(bench.record(id).await.recipients[0].open);
        let report = || Some((samples::deposit(START), b"a report".to_vec()));
        claim.note(vec![has_it.clone()], report()).await.unwrap();
        // As when the commit seemed to fail and had not.
        claim.note(vec![has_it], report()).await.unwrap();
        let record = bench.record(id).await;
        assert_eq!((record.recipients[0].open, record.recipients[0].attempts, record.attempts), (false, 1, 0));
        assert_eq!(bench.queue.stats().await.unwrap().totals.queued.count, 2, "one report");
        assert_eq!(bench.claim_now().await.map(|other| other.id()).filter(|other| *other == id), None);
        claim.conclude(nothing_tried(Next::Finished)).await.unwrap();
        assert_eq!(bench.queue.show(id).await, Err(QueueError::NotFound(id)));
    });
}

/// As while the answer to the end of a message is waited for: a crash then leaves it so, and any end of the attempt is noted over it.
#[test]
fn who_may_have_it_is_noted_until_the_attempt_ends_and_counts_once() {
    let silent = |recipient| Tried {
        upstream: "main".to_owned(),
        certainty: Certainty::Undetermined,
        ..Tried::by_nobody(recipient, "no answer yet")
    };
    let reply = || Reply::new(Code::known(250), None, "Ok");
    let delivered = |one: Tried| Tried { outcome: Outcome::Delivered { reply: reply() }, ..one };
    let known = |certainty, one: Tried| Tried { certainty, ..one };
    for (what, end, expected) in [
        ("refused for now", known(Certainty::Answered, silent(0)), (true, false, 1)),
        ("left as it is", known(Certainty::Known, silent(0)), (true, true, 1)),
        ("silent to the end", silent(0), (true, true, 1)),
        ("taken", known(Certainty::Known, delivered(silent(0))), (false, false, 1)),
    ] {
        block_on(async {
            let bench = Bench::new(settings());
            let id = bench.keep(b"hello").await;
            let claim = bench.claim_now().await.unwrap();
            let has_it = delivered(known(Certainty::Known, silent(1)));
            let report = || Some((samples::deposit(START), b"a report".to_vec()));
            claim.note(vec![silent(0)], None).await.unwrap();
            claim.note(vec![silent(0), has_it.clone()], report()).await.unwrap();
            // As when the commit seemed to fail and had not; and what is said too late turns nobody back.
            claim.note(vec![silent(0), has_it], report()).await.unwrap();
            claim.note(vec![silent(1)], None).await.unwrap();
            let record = bench.record(id).await;
            let stand = |place: usize| {
                let one = &record.recipients[place];
                (one.open, one.undetermined, one.attempts)
            };
            assert_eq!((stand(0), stand(1), record.attempts), ((true, true, 0), (false, false, 1), 0), "{what}");
            assert_eq!(record.undetermined_upstream(&[0]), Some("main"), "{what}");
            assert_eq!(bench.queue.stats().await.unwrap().totals.queued.count, 2, "{what}: one report");
            let conclusion = Conclusion { outcomes: vec![end], ..nothing_tried(Next::Retry(START)) };
            claim.conclude(conclusion).await.unwrap();
            let record = bench.record(id).await;
            let one = &record.recipients[0];
            assert_eq!(((one.open, one.undetermined, one.attempts), record.attempts), (expected, 1), "{what}");
        });
    }
}

/// A delivery that panics while it is being noted who has the message knows nothing of it, and puts everybody off.
#[test]
fn who_has_it_has_it_whatever_is_recorded_behind_that() {
    block_on(async {
        let bench = Bench::new(settings());
        let id = bench.keep(b"hello").await;
        let claim = bench.claim_now().await.unwrap();
        let outcome = Outcome::Delivered { reply: Reply::new(Code::known(250), None, "Ok") };
        claim.note(vec![Tried { outcome, ..Tried::by_nobody(0, "") }], None).await.unwrap();
        let outcomes = vec![Tried::by_nobody(0, "the delivery panicked")];
        let conclusion = Conclusion { outcomes, ..nothing_tried(Next::Retry(START)) };
        claim.conclude(conclusion).await.unwrap();
        let record = bench.record(id).await;
        assert!(!record.recipients[0].open && record.recipients[0].has_it(), "{record:?}");
    });
}

#[test]
fn an_attempt_that_is_over_and_waits_frees_its_turn_and_keeps_its_message() {
    block_on(async {
        let settings = QueueSettings { per_identity: 1, ..settings() };
        let lease = settings.lease;
        let bench = Bench::new(settings);
        bench.keep(b"one").await;
        bench.keep(b"two").await;
        let claim = bench.claim_now().await.unwrap();
        let first = claim.id();
        assert!(bench.claim_now().await.is_none(), "one at a time");
        let over = claim.attempt_is_over();
        let other = bench.claim_now().await.unwrap();
        assert_ne!(other.id(), first);
        other.conclude(nothing_tried(Next::Finished)).await.unwrap();
        bench.clock.advance(lease * 2);
        assert!(bench.claim_now().await.is_none(), "the first is in hand");
        drop((over, claim));
        assert_eq!(bench.claim_now().await.unwrap().id(), first);
    });
}

#[test]
fn a_claim_that_reaches_nobody_is_given_back() {
    block_on(async {
        let bench = Bench::new(settings());
        let id = bench.keep(b"hello").await;
        drop(Taken::take(&bench.queue.inner, Reading::Whole).unwrap());
        assert_eq!(bench.claim_now().await.unwrap().id(), id);
    });
}

#[test]
fn a_held_message_stays_held_through_the_attempt_under_way() {
    block_on(async {
        let bench = Bench::new(settings());
        let id = bench.keep(b"hello").await;
        let claim = bench.claim_now().await.unwrap();
        bench.queue.hold(id).await.unwrap();
        claim.conclude(nothing_tried(Next::Retry(START))).await.unwrap();
        assert!(bench.claim_now().await.is_none());
        assert_eq!(bench.record(id).await.state, State::Held);
        bench.queue.release(id).await.unwrap();
        assert_eq!(bench.claim_now().await.unwrap().id(), id);
    });
}

#[test]
fn a_dead_message_that_is_retried_goes_to_those_who_do_not_have_it() {
    block_on(async {
        let bench = Bench::new(settings());
        let id = bench.keep(b"hello").await;
        let tried =
            |recipient, outcome| Tried { recipient, upstream: "main".to_owned(), outcome, certainty: Certainty::Known };
        let reply = crate::smtp::Reply::new(crate::smtp::Code::new(250).unwrap(), None, "ok");
        let outcomes = vec![
            tried(0, Outcome::Delivered { reply }),
            tried(1, Outcome::Failed { reason: "no such user".to_owned(), reply: None }),
        ];
        let next = Next::Dead("no report is allowed".to_owned());
        let claim = bench.claim_now().await.unwrap();
        claim.conclude(Conclusion { outcomes, ..nothing_tried(next) }).await.unwrap();
        let open = |record: &Record| record.recipients.iter().map(|one| one.open).collect::<Vec<_>>();
        let dead = bench.record(id).await;
        assert_eq!((dead.state, open(&dead)), (State::Dead, vec![false, false]));
        assert!(bench.claim_now().await.is_none());
        bench.queue.retry(id).await.unwrap();
        assert_eq!(open(bench.claim_now().await.unwrap().record()), [false, true]);
    });
}

#[test]
fn a_claim_that_is_put_off_writes_nothing_and_comes_back_in_time_when_recalled_or_when_asked_for() {
    block_on(async {
        let bench = Bench::new(settings());
        let id = bench.keep(b"x").await;
        let before = bench.record(id).await;
        let put_off = async || bench.claim_now().await.unwrap().put_off(Duration::from_secs(30));
        put_off().await;
        assert!(bench.claim_now().await.is_none());
        assert_eq!(bench.queue.stats().await.unwrap().claimed, 0);
        bench.clock.advance(Duration::from_secs(30));
        put_off().await;
        bench.queue.recall();
        put_off().await;
        assert_eq!(bench.record(id).await, before);
        bench.queue.retry(id).await.unwrap();
        assert_eq!(bench.claim_now().await.unwrap().id(), id);
    });
}

#[test]
fn what_is_parked_is_given_only_to_who_names_it_and_once() {
    block_on(async {
        let bench = Bench::new(settings());
        let id = bench.keep(b"x").await;
        bench.claim_now().await.unwrap().park(Duration::from_secs(3600));
        assert!(bench.claim_now().await.is_none());
        let claim = bench.queue.claim_one(id).await.unwrap().unwrap();
        assert!(bench.queue.claim_one(id).await.unwrap().is_none(), "somebody tries it");
        claim.park(Duration::from_secs(3600));
        bench.queue.hold(id).await.unwrap();
        assert!(bench.queue.claim_one(id).await.unwrap().is_none(), "held");
        bench.queue.release(id).await.unwrap();
        assert_eq!(bench.claim_now().await.unwrap().id(), id, "let go, it is like any other");
        bench.queue.remove(id).await.unwrap();
        assert!(bench.queue.claim_one(id).await.unwrap().is_none(), "gone");
    });
}

#[test]
fn a_round_finds_each_message_that_is_late_once_and_no_other() {
    const HOUR: Duration = Duration::from_secs(3600);
    block_on(async {
        let bench = Bench::new(settings());
        let keep = async |body: &[u8]| {
            bench.clock.advance(Duration::from_secs(1));
            bench.keep(body).await
        };
        let (old, late, held, sleeping) = (keep(b"1").await, keep(b"2").await, keep(b"3").await, keep(b"4").await);
        bench.queue.hold(held).await.unwrap();
        let tried = [bench.claim_now().await.unwrap(), bench.claim_now().await.unwrap()];
        let far = bench.clock.now().wall.after(99 * HOUR);
        let claim = bench.claim_now().await.unwrap();
        assert_eq!(claim.id(), sleeping);
        for claim in tried {
            let due = claim.record().due;
            let warned = claim.id() == old;
            claim.conclude(Conclusion { warned, ..nothing_tried(Next::Retry(due)) }).await.unwrap();
        }
        claim.conclude(nothing_tried(Next::Retry(far))).await.unwrap();
        bench.clock.advance(4 * HOUR);
        bench.keep(b"5").await;
        let now = bench.clock.now().wall;
        let mut place = None;
        let warn =
            Late { warn: Some(now.before(4 * HOUR)), give_up: now.before(100 * HOUR), astray: None, behind: None };
        let claim = bench.queue.claim_late(warn, &mut place).await.unwrap().unwrap();
        assert_eq!(claim.id(), late, "neither what was told before, nor what is held, not due, or young");
        assert!(bench.queue.claim_late(warn, &mut place).await.unwrap().is_none());
        assert_eq!(place, None, "the round is over");
        let give_up = Late { warn: None, give_up: now.before(4 * HOUR), astray: None, behind: None };
        let claim = bench.queue.claim_late(give_up, &mut place).await.unwrap().unwrap();
        assert_eq!(claim.id(), old, "told of the delay or not; the other is claimed");
        drop(claim);
    });
}

/// Found by the simulation: the attempt to open the store rings the bell, and a claim that listened to it tried again at once, for ever.
#[tokio::test(start_paused = true)]
async fn while_the_disk_fails_a_claim_tries_once_a_second_and_not_all_the_time() {
    let bench = Bench::new(settings());
    bench.keep(b"x").await;
    bench.disk.fail(1, u64::MAX, Fault::Error);
    bench.queue.remove(QueueId::from_u128(0)).await.unwrap_err();
    let before = bench.disk.operations();
    // The clock moves only while everybody sleeps; a claim that never does hangs here instead of failing.
    let seconds = async { tokio::time::timeout(Duration::from_secs(10), bench.queue.claim()).await.unwrap_err() };
    seconds.await;
    let operations = bench.disk.operations() - before;
    assert!((10..100).contains(&operations), "{operations} operations in ten seconds");
    bench.disk.mend();
    tokio::time::timeout(Duration::from_secs(10), bench.queue.claim()).await.unwrap();
}
