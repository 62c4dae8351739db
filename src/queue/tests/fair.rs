//! Whose message is given out next: identities take turns, and within one the priority counts before the due time.

use std::collections::{BTreeMap, VecDeque};

use super::*;
use crate::mail::MailParameters;

fn of(identity: &str, priority: Option<i8>, arrived: WallTime) -> Deposit {
    let sample = samples::deposit(arrived);
    let parameters = MailParameters { priority, ..MailParameters::default() };
    let recipients = sample.envelope.recipients().to_vec();
    let envelope = Envelope::new(sample.envelope.reverse_path().clone(), parameters, recipients).unwrap();
    Deposit { envelope, custodian: Custodian { identity: identity.to_owned(), ..sample.custodian }, ..sample }
}

/// So many messages of one identity, without the way through intake.
fn flood(bench: &Bench, identity: &str, first: u128, count: u128) {
    let batch = (first..first + count).map(|number| {
        let id = QueueId::from_u128(number);
        let record = Record::new(id, of(identity, None, START), 1, xxhash_rust::xxh3::xxh3_64(b"x"));
        let body = NewBody::Octets(b"x".to_vec());
        Order::Deposit(Box::new(NewMessage { record, body, spending: None, sighting: None, mark: None, account: None }))
    });
    let answers = bench.queue.inner.store.apply(batch.collect(), bench.clock.now());
    assert!(answers.iter().all(Result::is_ok));
}

fn whose(claim: &Claim) -> String {
    claim.record().custodian.identity.clone()
}

#[test]
fn one_message_is_given_out_next_beside_a_hundred_thousand_of_another() {
    block_on(async {
        let bench = Bench::new(QueueSettings { per_identity: 20, ..settings() });
        flood(&bench, "a", 1, 100_000);
        let before: Vec<Claim> = vec![bench.claim_now().await.unwrap(), bench.claim_now().await.unwrap()];
        bench.keep_with(b"x", of("b", None, START)).await;
        let reads = bench.disk.operations();
        let next = [bench.claim_now().await.unwrap(), bench.claim_now().await.unwrap()];
        assert!(next.iter().any(|claim| whose(claim) == "b"), "after two of them at most");
        let reads = bench.disk.operations() - reads;
        assert!(reads < 100, "{reads} operations for two claims");
        drop(before);
    });
}

#[test]
fn of_one_identity_no_more_are_out_than_the_limit_and_the_next_when_an_attempt_is_over() {
    block_on(async {
        let bench = Bench::new(QueueSettings { per_identity: 3, ..settings() });
        flood(&bench, "a", 1, 10);
        let mut out = VecDeque::new();
        for _ in 0..3 {
            out.push_back(bench.claim_now().await.unwrap());
        }
        assert!(bench.claim_now().await.is_none());
        flood(&bench, "b", 100, 1);
        assert_eq!(whose(&bench.claim_now().await.unwrap()), "b");
        out.pop_front().unwrap().conclude(nothing_tried(Next::Finished)).await.unwrap();
        out.push_back(bench.claim_now().await.unwrap());
        assert!(bench.claim_now().await.is_none());
        out.pop_front().unwrap().put_off(Duration::from_secs(60));
        out.push_back(bench.claim_now().await.unwrap());
        // An attempt whose outcome is on its way counts no more: its connection is free.
        bench.queue.inner.store.over(out.front().unwrap().ticket());
        assert_eq!(whose(&bench.claim_now().await.unwrap()), "a");
        assert!(bench.claim_now().await.is_none());
    });
}

#[test]
fn identities_take_turns_and_none_is_passed_over() {
    block_on(async {
        let bench = Bench::new(QueueSettings { per_identity: 100, ..settings() });
        for (number, identity) in (0_u128..).zip(["a", "b", "c"]) {
            flood(&bench, identity, 1 + 100 * number, 5 + 5 * number);
        }
        let mut order = Vec::new();
        while let Some(claim) = bench.claim_now().await {
            order.push(whose(&claim));
        }
        let expected = "abc".repeat(5) + &"bc".repeat(5) + &"c".repeat(5);
        assert_eq!(order.concat(), expected);
    });
}

#[test]
fn more_identities_than_the_ring_holds_have_one_turn_each_in_a_round() {
    let identities = 2 * turns::RING_MAX + 7;
    block_on(async {
        let bench = Bench::new(QueueSettings { per_identity: 100, ..settings() });
        for number in 0..identities {
            flood(&bench, &format!("i{number:05}"), 1 + 10 * number as u128, 2);
        }
        for round in 0..2 {
            let mut seen = BTreeMap::new();
            for _ in 0..identities {
                let claim = bench.claim_now().await.unwrap();
                *seen.entry(whose(&claim)).or_insert(0) += 1;
                claim.conclude(nothing_tried(Next::Finished)).await.unwrap();
            }
            assert_eq!(seen.len(), identities, "round {round}");
        }
        assert!(bench.claim_now().await.is_none());
    });
}

#[test]
fn within_an_identity_priority_counts_before_the_due_time() {
    block_on(async {
        let bench = Bench::new(settings());
        let mut kept = Vec::new();
        for priority in [None, Some(-9), Some(9), Some(0), Some(3), Some(9)] {
            kept.push((bench.keep_with(b"x", of("a", priority, bench.clock.now().wall)).await, priority.unwrap_or(0)));
            bench.clock.advance(Duration::from_secs(1));
        }
        kept.sort_by_key(|(id, priority)| (-priority, *id));
        for (id, priority) in kept {
            assert_eq!(bench.claim_now().await.unwrap().id(), id, "{priority}");
        }
    });
}

#[test]
fn what_is_due_later_is_not_forgotten_behind_claims_or_a_clock_that_was_set() {
    block_on(async {
        let bench = Bench::new(settings());
        let minute = Duration::from_secs(60);
        let later = bench.keep_with(b"x", of("a", None, START.after(minute))).await;
        let first = bench.keep_with(b"x", of("a", None, START)).await;
        let held = bench.claim_now().await.unwrap();
        assert_eq!(held.id(), first);
        assert!(bench.claim_now().await.is_none());
        bench.clock.advance(minute);
        assert_eq!(bench.claim_now().await.unwrap().id(), later, "though its head is claimed");
        // A message that was due, before the clock was set back, is given out when it is due again.
        let other = bench.keep_with(b"x", of("b", None, START.after(minute))).await;
        bench.clock.set_wall(START);
        assert!(bench.claim_now().await.is_none());
        bench.clock.advance(minute);
        assert_eq!(bench.claim_now().await.unwrap().id(), other);
    });
}

/// Everything that can happen to a message, drawn; nothing is given out twice, nothing that is due and free is passed over for ever, and no limit is
/// exceeded.
#[test]
fn whatever_happens_each_message_is_given_out() {
    for seed in 0..30 {
        block_on(async {
            let bench = Bench::new(QueueSettings { per_identity: 2, ..settings() });
            let dice = SeededEntropy::new(seed);
            let draw = |below: u64| dice.next_u64() % below;
            let mut out: Vec<Claim> = Vec::new();
            let mut left = BTreeMap::new();
            for step in 0..300_u64 {
                let names = ["a", "b", "c", "d"];
                match draw(12) {
                    0..4 => {
                        let name = names[draw(4) as usize];
                        let priority = [None, Some(5), Some(-3)][draw(3) as usize];
                        let arrived = bench.clock.now().wall.after(Duration::from_secs(draw(3) * 30));
                        let id = bench.keep_with(b"x", of(name, priority, arrived)).await;
                        left.insert(id, name);
                    }
                    4..8 => {
                        if let Some(claim) = bench.claim_now().await {
                            assert!(out.iter().all(|other| other.id() != claim.id()), "{seed} {step}");
                            out.push(claim);
                        }
                    }
                    8 => bench.clock.advance(Duration::from_secs(draw(60))),
                    9 => {
                        let id = left.keys().nth(draw(1 + left.len() as u64) as usize).copied();
                        if let Some(id) = id {
                            match draw(3) {
                                0 => bench.queue.retry(id).await.unwrap(),
                                1 => bench.queue.hold(id).await.unwrap(),
                                _ => bench.queue.release(id).await.unwrap(),
                            }
                        }
                    }
                    10 => bench.queue.recall(),
                    _ => {}
                }
                if !out.is_empty() && draw(2) == 0 {
                    let claim = out.swap_remove(draw(out.len() as u64) as usize);
                    match draw(4) {
                        0 => claim.put_off(Duration::from_secs(draw(100))),
                        1 => {
                            left.remove(&claim.id());
                            claim.conclude(nothing_tried(Next::Finished)).await.unwrap();
                        }
                        _ => {
                            let at = bench.clock.now().wall.after(Duration::from_secs(draw(90)));
                            claim.conclude(nothing_tried(Next::Retry(at))).await.unwrap();
                        }
                    }
                }
                for name in names {
                    let of_one = out.iter().filter(|claim| whose(claim) == name).count();
                    assert!(of_one <= 2, "{seed} {step}: {of_one} of {name}");
                }
            }
            for claim in out {
                claim.put_off(Duration::ZERO);
            }
            for id in left.keys() {
                bench.queue.release(*id).await.unwrap();
            }
            bench.clock.advance(Duration::from_secs(3600));
            while let Some(claim) = bench.claim_now().await {
                assert!(left.remove(&claim.id()).is_some(), "{seed}");
                claim.conclude(nothing_tried(Next::Finished)).await.unwrap();
            }
            assert!(left.is_empty(), "{seed}: {left:?}");
        });
    }
}
