//! Several routes: one that is down, slow or taken away is no other's delay, and when it is back its mail goes as its connections allow.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use sealpost::daemon::stranded::{self, Found};
use sealpost::mail::{
    Address, Envelope, ForwardPath, MailParameters, Notify, Recipient, RecipientParameters, ReversePath,
};
use sealpost::queue::steer::Change;
use sealpost::queue::{Outcome, Record};
use sealpost::snapshot::{Snapshot, SoftBounce};
use sealpost::upstream::health::Condition;
use sealpost::upstream::{Phase, Upstream};

use super::stage::{Log, Stage, rest, spare, to_example_org, upstream};
use super::{HOUR, MINUTE, at, refusing, seconds, silent_at};
use crate::scripted_upstream::{Misdeed, Script};

const NET: &[&str] = &["r0@example.net"];
const ORG: &[&str] = &["r0@example.org"];

impl Stage {
    fn taken_by_spare(&self) -> usize {
        self.spare.as_ref().unwrap().taken().len()
    }
}

#[tokio::test(start_paused = true)]
async fn mail_of_a_dead_route_delays_no_other_and_goes_when_its_route_is_back() {
    let stage = Stage::with_routes(refusing(), Script::default());
    stage.run();
    let dead = stage.submit_to("alice", 500, NET).await;
    stage.pass(seconds(10)).await;
    stage.submit_to("alice", 5, ORG).await;
    stage.pass(seconds(1)).await;
    assert_eq!((stage.up.taken().len(), stage.taken_by_spare()), (0, 5));
    stage.pass(2 * HOUR).await;
    let tried: u32 = stage.attempts(&dead).await.iter().sum();
    assert!(tried <= 30, "{tried}: five faults, what was under way with them, a probe every ten minutes");
    stage.submit_to("alice", 5, ORG).await;
    stage.pass(seconds(1)).await;
    assert_eq!(stage.taken_by_spare(), 10);
    stage.up.turn_into(Script::default());
    stage.up.most_open.store(0, Ordering::SeqCst);
    stage.pass(11 * MINUTE).await;
    let waits = 500 - stage.up.taken().len();
    assert!(waits <= 30, "{waits}: all but those that were tried, which wait for their next step");
    assert_eq!(stage.up.most_open.load(Ordering::SeqCst), upstream().connections, "no stampede");
    stage.pass(HOUR + 10 * MINUTE).await;
    assert_eq!((stage.up.taken().len(), stage.count().await), (500, 0));
}

/// Once each was read whole to find out that there is no way for it, and again when there was.
#[tokio::test(start_paused = true)]
async fn the_octets_of_what_waits_for_a_dead_route_are_not_read_before_it_goes() {
    let octets = [b"Subject: x\r\n\r\n".to_vec(), b"0123456789abcdef\r\n".repeat(3000)].concat();
    let stage = Stage::with_routes(refusing(), Script::default());
    // Of so many the most are not at hand any more when they are claimed.
    for _ in 0..400 {
        stage.send_octets(&octets).await;
    }
    let before = stage.disk.octets_read();
    stage.run();
    stage.pass(seconds(20)).await;
    let read = stage.disk.octets_read() - before;
    assert_eq!(stage.house.queue.stats().await.unwrap().totals.all().count, 400);
    assert!(read < 40 * octets.len() as u64, "{read}: all have {}", 400 * octets.len());
}

/// A route was taken out while mail waited for it: a warning for each message and attempt, and nobody was woken until all came back.
#[tokio::test(start_paused = true)]
async fn that_no_route_takes_queued_mail_is_an_error_now_and_then() {
    let (stage, log) = (Stage::with_routes(Script::default(), Script::default()), Log::start());
    stage.route(vec![to_example_org(spare())]);
    stage.run();
    let ids = stage.submit_to("alice", 20, NET).await;
    stage.pass(MINUTE).await;
    let told = log.lines("no route of the configuration takes recipients");
    assert_eq!((told.len(), stage.attempts(&ids).await), (1, vec![1; 20]));
    assert!(told[0].contains("ERROR"), "{told:?}");
    stage.pass(3 * HOUR).await;
    let routes = stage.house.snapshot().routes.clone();
    let found = stranded::look(&stage.house.queue, &routes, stage.house.now().wall).await.unwrap();
    assert_eq!(found, Found { stranded: 20, woken: 0 }, "as a reload tells");
    let found = stranded::look_after_start(&stage.house.queue, &routes, stage.house.now().wall).await.unwrap();
    assert_eq!(found, Found { stranded: 20, woken: 0 }, "as a start tells");
    assert!((2..=4).contains(&log.lines("no route of the configuration takes recipients").len()));
    // One was held meanwhile, and stays so. The others need not wait for their next step, which is an hour by now.
    stage.house.queue.hold(ids[0]).await.unwrap();
    stage.route(vec![rest(upstream())]);
    let routes = stage.house.snapshot().routes.clone();
    let found = stranded::look(&stage.house.queue, &routes, stage.house.now().wall).await.unwrap();
    assert_eq!(found, Found { stranded: 0, woken: 19 });
    stage.pass(seconds(5)).await;
    assert_eq!(stage.up.taken().len(), 19);
    assert_eq!(
        stranded::look_after_start(&stage.house.queue, &routes, stage.house.now().wall).await.unwrap(),
        Found::default()
    );
    assert_eq!(
        stranded::look(&stage.house.queue, &routes, stage.house.now().wall).await.unwrap(),
        Found::default(),
        "nobody else is woken"
    );
}

#[tokio::test(start_paused = true)]
async fn of_a_message_for_two_routes_the_one_that_is_up_has_its_part_at_once_and_the_other_when_it_is_back() {
    let stage = Stage::with_routes(refusing(), Script::default());
    stage.run();
    // The dead one is found out to be dead.
    stage.submit_to("alice", 9, NET).await;
    stage.pass(seconds(5)).await;
    let id = stage.submit_to("alice", 1, &["r0@example.net", "r0@example.org", "r1@example.org"]).await[0];
    stage.pass(seconds(1)).await;
    let taken = stage.spare.as_ref().unwrap().taken();
    assert_eq!((taken.len(), taken[0].recipients.len()), (1, 2), "{taken:?}");
    let record = stage.record(id).await.unwrap();
    let open: Vec<bool> = record.recipients.iter().map(|one| one.open).collect();
    assert_eq!((open, record.recipients[0].attempts), (vec![true, false, false], 0), "nobody tried the first");
    stage.up.turn_into(Script::default());
    stage.pass(2 * MINUTE).await;
    assert!(stage.record(id).await.is_none(), "it did not wait for the next step of the schedule");
    assert_eq!(stage.taken_by_spare(), 1, "and nobody has it twice");
}

#[tokio::test(start_paused = true)]
async fn a_route_that_hangs_holds_only_its_own() {
    let stage = Stage::with_routes(silent_at(Phase::Data), Script::default());
    stage.run();
    stage.submit_to("alice", 600, NET).await;
    stage.pass(seconds(1)).await;
    stage.submit_to("alice", 40, ORG).await;
    stage.pass(seconds(1)).await;
    assert_eq!((stage.up.taken().len(), stage.taken_by_spare()), (0, 40));
    stage.submit_to("alice", 1, &["r0@example.net", "r0@example.org"]).await;
    stage.pass(seconds(1)).await;
    assert_eq!(stage.taken_by_spare(), 41, "also of a message that has a recipient there");
}

/// Once the outcomes of all routes were recorded together: a crash within the ten minutes that the other was silent sent the message again to whom it had come.
#[tokio::test(start_paused = true)]
async fn who_has_it_is_recorded_and_told_while_another_route_hangs_and_never_again() {
    let stage = Stage::with_routes(Script::default(), silent_at(Phase::EndOfData));
    stage.run();
    let id = stage.send(wants_to_hear_of_success(&["r0@example.net", "r0@example.org"])).await;
    stage.pass(seconds(3)).await;
    let record = stage.record(id).await.unwrap();
    let open: Vec<bool> = record.recipients.iter().map(|one| one.open).collect();
    assert_eq!((open, record.attempts), (vec![false, true], 0), "the attempt goes on, and one has it");
    assert_eq!(reports(&stage), ["relayed"]);
    stage.pass(11 * MINUTE).await;
    let record = stage.record(id).await.unwrap();
    let attempts: Vec<u32> = record.recipients.iter().map(|one| one.attempts).collect();
    assert_eq!((record.attempts, attempts), (1, vec![1, 1]), "each was tried once");
    assert!(record.recipients[1].undetermined);
    stage.spare.as_ref().unwrap().turn_into(Script::default());
    stage.pass(2 * HOUR).await;
    assert_eq!((stage.count().await, stage.taken_by_spare(), stage.up.taken().len()), (0, 1, 3), "nobody has it twice");
    assert_eq!(reports(&stage), ["relayed", "relayed"], "one of each recipient");
}

/// Once a message counted against both routes until both had done their part: one that hung kept the other's places for ten minutes at a time.
#[tokio::test(start_paused = true)]
async fn messages_that_hang_at_one_route_take_no_places_of_another() {
    let stage = Stage::with_routes(Script::default(), silent_at(Phase::EndOfData));
    stage.route(vec![to_example_org(spare()), rest(Upstream { connections: 1, ..upstream() })]);
    stage.run();
    stage.submit_to("alice", 8, &["r0@example.net", "r0@example.org"]).await;
    stage.pass(seconds(3)).await;
    stage.submit_to("bob", 3, NET).await;
    stage.pass(seconds(3)).await;
    let of_bob = stage.up.taken().iter().filter(|one| one.mail.contains("bob@")).count();
    assert_eq!((of_bob, stage.taken_by_spare()), (3, 0));
}

/// An operator takes out, meanwhile, whom the other route is to bring it to: nothing is left to do for anybody, and nothing is done.
#[tokio::test(start_paused = true)]
async fn what_was_recorded_meanwhile_counts_when_an_operator_takes_out_the_rest() {
    let stage = Stage::with_routes(silent_at(Phase::EndOfData), Script::default());
    stage.run();
    let id = stage.submit_to("alice", 1, &["r0@example.net", "r0@example.org"]).await[0];
    stage.pass(seconds(3)).await;
    assert_eq!(stage.house.queue.change(vec![(id, Change::TakeOut(vec![0]))]).await, [Ok(())]);
    assert!(stage.record(id).await.is_none(), "who was left has it");
    stage.pass(2 * HOUR).await;
    assert_eq!((stage.count().await, stage.taken_by_spare(), stage.up.taken().len()), (0, 1, 0));
}

/// Where all routes are done within a second, the attempt is recorded once.
#[tokio::test(start_paused = true)]
async fn routes_that_end_together_are_recorded_together() {
    let stage = Stage::with_routes(Script::default(), Script::default());
    stage.run();
    stage.submit_to("alice", 1, &["r0@example.net", "r0@example.org"]).await;
    let before = stage.disk.operations();
    stage.pass(seconds(3)).await;
    let (both, before_one) = (stage.disk.operations() - before, stage.disk.operations());
    stage.submit_to("alice", 1, NET).await;
    let of_one = stage.disk.operations() - before_one;
    stage.pass(seconds(3)).await;
    let one = stage.disk.operations() - before_one - of_one;
    assert_eq!((both, stage.count().await), (one, 0), "operations of the disk");
}

/// Of alice, with NOTIFY=SUCCESS for each.
pub(super) fn wants_to_hear_of_success(to: &[&str]) -> Envelope {
    let notify = Some(Notify { success: true, failure: true, delay: false });
    let recipient = |text: &&str| Recipient {
        forward_path: ForwardPath::Address(Address::parse(text).unwrap()),
        parameters: RecipientParameters { notify, orcpt: None },
    };
    let sender = ReversePath::Address(Address::parse("alice@example.com").unwrap());
    Envelope::new(sender, MailParameters::default(), to.iter().map(recipient).collect()).unwrap()
}

/// What the reports that somebody took tell.
pub(super) fn reports(stage: &Stage) -> Vec<String> {
    let taken = [stage.up.taken(), stage.spare.as_ref().unwrap().taken()].concat();
    let texts = taken.iter().map(|one| String::from_utf8_lossy(&one.octets).into_owned());
    texts.filter_map(|text| Some(text.split_once("\r\nAction: ")?.1.lines().next()?.to_owned())).collect()
}

#[tokio::test(start_paused = true)]
async fn who_has_much_in_a_lane_lets_the_others_have_their_turns() {
    let stage = Stage::with_routes(refusing(), Script::default());
    stage.run();
    stage.submit_to("alice", 9, NET).await;
    stage.pass(seconds(5)).await;
    stage.submit_to("alice", 300, NET).await;
    stage.submit_to("bob", 1, &["bob@example.net"]).await;
    stage.pass(seconds(5)).await;
    stage.up.turn_into(Script::default());
    stage.pass(2 * MINUTE).await;
    let taken = stage.up.taken();
    assert!(taken.len() >= 300, "{}", taken.len());
    let place = taken.iter().position(|one| one.recipients[0].contains("bob@")).unwrap();
    assert!(place <= 1 + 2 * upstream().connections, "{place} before bob");
}

#[tokio::test(start_paused = true)]
async fn who_waits_in_a_lane_is_told_of_the_delay_and_of_the_end_while_other_routes_work() {
    let stage = Stage::with_routes(refusing(), Script::default());
    stage.run();
    stage.submit_to("alice", 20, NET).await;
    stage.pass(4 * HOUR - MINUTE).await;
    assert_eq!(stage.count().await, 20);
    // Who was tried once is told at his next attempt, an hour later at most.
    stage.pass(HOUR + 12 * MINUTE).await;
    let told = stage.records().await;
    assert_eq!((told.len(), told.iter().filter(|record| record.warned).count()), (40, 20));
    stage.submit_to("alice", 1, ORG).await;
    stage.pass(seconds(1)).await;
    assert_eq!(stage.taken_by_spare(), 1);
    stage.pass(21 * HOUR).await;
    let ends = stage.bodies().await.iter().filter(|text| text.contains("could not be delivered")).count();
    assert_eq!(ends, 20);
}

#[tokio::test(start_paused = true)]
async fn a_reload_of_the_routes_lets_what_waits_go_the_new_way() {
    let stage = Stage::with_routes(refusing(), Script::default());
    stage.run();
    stage.submit_to("alice", 50, NET).await;
    stage.pass(seconds(10)).await;
    assert_eq!(stage.taken_by_spare(), 0);
    stage.route(vec![rest(spare())]);
    stage.pass(seconds(5)).await;
    let taken = stage.taken_by_spare();
    assert!(taken >= 25, "{taken}: all but those that were tried");
    // And the other way round: who has no route any more waits, and is tried as the schedule says.
    stage.route(vec![to_example_org(spare())]);
    let id = stage.submit_to("alice", 1, NET).await[0];
    stage.pass(seconds(5)).await;
    let record = stage.record(id).await.unwrap();
    assert!(
        matches!(&record.recipients[0].last, Some(Outcome::Deferred { reason, .. }) if reason.contains("no route")),
        "{record:?}"
    );
    stage.route(vec![rest(spare())]);
    stage.pass(HOUR + 10 * MINUTE).await;
    assert_eq!(stage.count().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_changes_no_route_forgets_nobody_who_waits() {
    let stage = Stage::with_routes(refusing(), Script::default());
    stage.run();
    stage.submit_to("alice", 50, NET).await;
    stage.pass(seconds(10)).await;
    stage.route(vec![to_example_org(spare()), rest(upstream())]);
    stage.pass(seconds(10)).await;
    stage.up.turn_into(Script::default());
    stage.pass(2 * MINUTE).await;
    assert!(stage.up.taken().len() >= 30, "{}", stage.up.taken().len());
}

#[tokio::test(start_paused = true)]
async fn a_route_of_two_upstreams_is_open_while_one_of_them_is() {
    let stage = Stage::with_spare(refusing(), Script::default());
    stage.run();
    stage.submit(30).await;
    stage.pass(seconds(5)).await;
    assert_eq!((stage.taken_by_spare(), stage.count().await), (30, 0));
    assert!(matches!(stage.standing().condition, Condition::Open(_)));
}

#[tokio::test(start_paused = true)]
async fn with_soft_bounce_what_is_refused_for_good_is_tried_again_and_reported_at_the_end() {
    let stage = Stage::new(at(Phase::Recipient, Misdeed::Say(b"550 5.1.1 no such user\r\n")), upstream());
    let now = stage.house.snapshot();
    stage.house.swap(Snapshot { soft_bounce: SoftBounce::Yes, ..(*now).clone() });
    let id = stage.submit(1).await[0];
    stage.run();
    stage.pass(MINUTE).await;
    let record = stage.record(id).await.unwrap();
    let Some(Outcome::Deferred { reply: Some(reply), .. }) = &record.recipients[0].last else { panic!("{record:?}") };
    assert_eq!((reply.code().number(), stage.count().await), (550, 1));
    stage.up.turn_into(Script::default());
    stage.pass(2 * HOUR).await;
    assert_eq!((stage.up.taken().len(), stage.count().await), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn upstreams_of_the_same_order_share_the_mail_by_weight() {
    let stage = Stage::with_spare(Script::default(), Script::default());
    let ranked =
        |order, weight, one: Upstream| sealpost::upstream::preference::Ranked { order, weight, what: Arc::new(one) };
    let rule = sealpost::identity::Rule { name: "route".into(), place: None };
    let both = vec![ranked(1, 3, upstream()), ranked(1, 1, spare())];
    stage.route(vec![sealpost::route::Route::new("both", Default::default(), rule, both).unwrap()]);
    stage.run();
    stage.submit(400).await;
    stage.pass(MINUTE).await;
    let (main, other) = (stage.up.taken().len(), stage.taken_by_spare());
    assert!(main + other == 400 && (60..140).contains(&other), "{main} and {other}");
}

/// One identity alone sends, so nobody else shows that it is the upstream and not a message; each attempt lasts ten minutes, and the backlog is longer than
/// anybody's patience.
#[tokio::test(start_paused = true)]
async fn who_waits_behind_an_upstream_that_hangs_is_told_of_the_delay_and_of_the_end() {
    let stage = Stage::with_few_turns(Script { poison: Some(("example", true)), ..Script::default() });
    stage.run();
    stage.submit_as("alice", 250).await;
    stage.pass(3 * HOUR + 50 * MINUTE).await;
    let warned = |records: Vec<Record>| records.iter().filter(|one| one.warned).count();
    assert_eq!(warned(stage.records().await), 0);
    stage.pass(20 * MINUTE).await;
    let told = warned(stage.records().await);
    // But for those that are under way, and those that were tried within the hour and have another turn coming.
    assert!(told >= 170, "{told} of 250 were told of the delay");
    stage.pass(HOUR + 40 * MINUTE).await;
    assert_eq!(warned(stage.records().await), 250, "all that had become due since, too");
    stage.pass(21 * HOUR + 20 * MINUTE).await;
    let ends = stage.bodies().await.iter().filter(|text| text.contains("It is not known whether")).count();
    assert_eq!(ends, 250);
}
