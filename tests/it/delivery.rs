//! The delivery loop against upstreams that fail for hours, hang, come back and are reconfigured; in memory and in virtual time.

mod active;
mod clock;
mod ending;
mod kept;
mod meanwhile;
mod reports;
mod release;
mod routes;
pub(crate) mod stage;
mod tls;
mod vouched;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sealpost::daemon::steering::selection::Filters;
use sealpost::daemon::steering::{Action, Answer, Answers, Command, Desk, Running, Target};
use sealpost::daemon::stranded::{self, Found};
use sealpost::queue::{Outcome, State};
use sealpost::upstream::health::Condition;
use sealpost::upstream::{Anchors, Credentials, Mode, Phase, Secret, Security, TlsDemand, TlsMaterial, Upstream};

use super::scripted_upstream::{Misdeed, Script, TestCa};
use stage::{Log, Stage, upstream};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn at(phase: Phase, misdeed: Misdeed) -> Script {
    Script { misdeed: Some((phase, misdeed)), ..Script::default() }
}

fn refusing() -> Script {
    at(Phase::Greeting, Misdeed::Say(b"554 no\r\n"))
}

fn silent_at(phase: Phase) -> Script {
    at(phase, Misdeed::SayAndHang(b"", 1))
}

/// Whoever connects there panics.
fn trap() -> Script {
    Script { is_a_trap: true, ..Script::default() }
}

fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

/// Once that was told as a disk that fails, with the upstream's name; and the next upstream was asked for a message that was no more.
#[tokio::test(start_paused = true)]
async fn that_a_message_is_removed_while_it_is_tried_is_no_fault_of_anybody() {
    let log = Log::start();
    let slow = Script { service: MINUTE, ..Script::default() };
    let stage = Stage::one_by_one_with_spare(slow, Script::default());
    stage.run();
    stage.submit(1).await;
    stage.pass(seconds(5)).await;
    // It waits for the connection of the first.
    let id = stage.submit(1).await[0];
    stage.pass(seconds(5)).await;
    stage.house.queue.remove(id).await.unwrap();
    stage.pass(2 * MINUTE).await;
    assert_eq!((stage.up.taken().len(), stage.count().await), (1, 0));
    assert_eq!(stage.standing().last_fault, None);
    assert_eq!((log.lines("could not be read"), log.lines("needs a repair")), (vec![], vec![]));
    assert_eq!(log.lines("event=\"deferred\""), Vec::<String>::new());
    assert_eq!(stage.spare.as_ref().unwrap().heard(), Vec::<String>::new());
}

/// Once it was begun at every upstream in turn, and each of them needed a repair.
#[tokio::test(start_paused = true)]
async fn what_our_disk_does_not_give_is_begun_at_one_upstream_and_blamed_on_none() {
    let log = Log::start();
    let stage = Stage::with_spare(Script::default(), Script::default());
    let octets = [b"Subject: x\r\n\r\n".to_vec(), b"0123456789abcdef\r\n".repeat(400_000)].concat();
    let id = stage.send_octets(&octets).await;
    let half = u64::try_from(octets.len()).unwrap() / 2;
    assert!(stage.disk.fail_reads(&Path::new("/queue/bodies").join(id.to_string()), half..u64::MAX));
    stage.run();
    stage.pass(MINUTE).await;
    assert!(stage.up.heard().iter().any(|line| line.starts_with("DATA")), "{:?}", stage.up.heard());
    assert_eq!((stage.up.taken().len(), stage.spare.as_ref().unwrap().heard()), (0, Vec::<String>::new()));
    assert_eq!(stage.standing().last_fault, None);
    let told = log.lines("queued mail could not be read while it was sent");
    assert!(told.len() == 1 && told[0].contains(&id.to_string()), "{told:?}");
    assert_eq!(log.lines("needs a repair"), Vec::<String>::new());
}

// Defects.

/// Once such a message was tried again each hour, first of its identity's, for ever, uncounted; and ten of them were all the turns that the identity has.
#[tokio::test(start_paused = true)]
async fn messages_at_which_deliveries_panic_hold_up_nobody_and_are_dead_after_the_third_time() {
    let log = Log::start();
    let stage = Stage::with_few_turns_and_routes(Script::default(), trap());
    stage.run();
    let ids = stage.submit_to("alice", 12, &["r0@example.org"]).await;
    stage.submit(5).await;
    stage.pass(MINUTE).await;
    assert_eq!(stage.up.taken().len(), 5, "other mail of the identity goes on");
    for id in &ids {
        let record = stage.record(*id).await.unwrap();
        assert_eq!((record.attempts, record.state), (1, State::Queued), "{record:?}");
        let Some(Outcome::Deferred { reason, .. }) = &record.recipients[0].last else { panic!("{record:?}") };
        assert!(reason.contains("a defect of it: a defect") && !reason.contains("injected"), "{reason}");
        let told = log.lines("a delivery panicked");
        assert_eq!(told.iter().filter(|line| line.contains(&id.to_string()) && line.contains("ERROR")).count(), 1);
    }
    // A start finds nothing in them that waits for a route, and leaves them to the schedule.
    let routes = stage.house.snapshot().routes.clone();
    let found = stranded::look_after_start(&stage.house.queue, &routes, stage.house.now().wall).await.unwrap();
    assert_eq!(found, Found::default());
    stage.pass(3 * HOUR).await;
    for id in &ids {
        let record = stage.record(*id).await.unwrap();
        assert_eq!((record.attempts, record.state), (3, State::Dead), "{record:?}");
        assert!(record.reason.as_ref().unwrap().contains("a defect"), "{record:?}");
    }
    assert_eq!(stage.house.queue.stats().await.unwrap().claimed, 0);
}

/// A library that panics at whatever an upstream says: had each message its three attempts, all mail would be among the dead within minutes.
#[tokio::test(start_paused = true)]
async fn where_all_deliveries_panic_mail_waits_as_the_schedule_says_and_goes_when_they_do_not() {
    let stage = Stage::new(trap(), upstream());
    stage.run();
    let ids = stage.submit(20).await;
    stage.pass(9 * HOUR).await;
    assert!(stage.attempts(&ids).await.iter().all(|attempts| (8..=9).contains(attempts)));
    assert!(stage.records().await.iter().all(|record| record.state == State::Queued));
    // No connection is kept: each message of the second half connects.
    stage.up.turn_into(Script { closes_after_message: true, ..Script::default() });
    stage.pass(HOUR + 10 * MINUTE).await;
    assert_eq!(stage.up.taken().len(), 20);
    stage.up.turn_into(trap());
    let ids = stage.submit(20).await;
    stage.pass(26 * HOUR).await;
    let dead =
        stage.records().await.into_iter().filter(|record| record.state == State::Dead && ids.contains(&record.id));
    assert_eq!(dead.count(), 20, "given up when it was time");
}

// Turns.

#[tokio::test(start_paused = true)]
async fn one_message_leaves_second_though_another_identity_has_a_backlog() {
    let stage = Stage::new(Script::default(), Upstream { connections: 1, ..upstream() });
    stage.submit_as("alice", 300).await;
    stage.submit_as("bob", 1).await;
    stage.run();
    stage.pass(seconds(60)).await;
    let senders: Vec<String> = stage.up.taken().into_iter().map(|taken| taken.mail).collect();
    assert_eq!(senders.len(), 301);
    assert!(senders.iter().position(|mail| mail.contains("bob")).unwrap() <= 1, "{:?}", &senders[..12]);
}

/// In time, over connections that are all in use when it comes: it waits for the first that is free, and has its own service.
#[tokio::test(start_paused = true)]
async fn one_message_leaves_within_two_service_times_though_another_identity_has_five_thousand() {
    const SERVICE: Duration = Duration::from_secs(10);
    let stage = Stage::with_few_turns(Script { service: SERVICE, ..Script::default() });
    stage.submit_as("alice", 5000).await;
    stage.run();
    for wait in [1, 37, 55] {
        // Somewhere within a service, a few of them later.
        stage.pass(seconds(wait)).await;
        let (came, before) = (tokio::time::Instant::now(), stage.up.taken().len());
        stage.submit_as("bob", 1).await;
        stage.pass(2 * SERVICE + seconds(1)).await;
        let left = stage.up.taken().into_iter().skip(before).find(|taken| taken.mail.contains("bob"));
        let left = left.unwrap_or_else(|| panic!("bob's has not left two services after {wait} s"));
        assert!(left.at.duration_since(came) <= 2 * SERVICE, "{:?}", left.at.duration_since(came));
    }
    assert_eq!(stage.up.most_open.load(Ordering::SeqCst), 10);
    let rest = stage.house.queue.stats().await.unwrap().totals.queued.count;
    assert!(rest > 4000, "alice's backlog is there still: {rest}");
}

// Left alone.

#[tokio::test(start_paused = true)]
async fn being_left_alone_is_no_attempt_and_mail_goes_as_soon_as_a_probe_succeeds() {
    let stage = Stage::new(refusing(), Upstream { connections: 2, ..upstream() });
    let ids = stage.submit(40).await;
    stage.run();
    stage.pass(seconds(29)).await;
    let tried = stage.up.connections();
    assert!((5..=6).contains(&tried), "{tried}: five faults in a row, and what was under way with the fifth");
    stage.pass(seconds(2)).await;
    assert_eq!(stage.up.connections(), tried + 1, "one probe, at 30 s");
    stage.pass(seconds(58)).await;
    assert_eq!(stage.up.connections(), tried + 1, "none before its time");
    stage.pass(seconds(2)).await;
    assert_eq!(stage.up.connections(), tried + 2, "one probe, at 90 s");
    let attempts = stage.attempts(&ids).await;
    assert_eq!(attempts.iter().sum::<u32>() as usize, tried + 2, "what was tried is counted, and nothing else");
    assert!(attempts.iter().all(|one| *one <= 1), "{attempts:?}");
    assert_eq!(stage.house.queue.stats().await.unwrap().claimed, 0);

    stage.up.turn_into(Script::default());
    stage.pass(seconds(115)).await;
    assert_eq!(stage.up.taken().len(), 0, "left alone until 210 s");
    stage.pass(seconds(10)).await;
    assert_eq!(stage.up.taken().len(), 40 - tried - 2, "all whose turn it was, not at the next step of `retry`");
    assert_eq!(stage.up.most_open.load(Ordering::SeqCst), 2, "no stampede");
    stage.pass(HOUR + 10 * MINUTE).await;
    assert_eq!(stage.up.taken().len(), 40);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_takes_long_is_the_only_one() {
    let stage = Stage::new(refusing(), upstream());
    stage.submit(30).await;
    stage.run();
    stage.pass(seconds(20)).await;
    let tried = stage.up.connections();
    stage.up.turn_into(silent_at(Phase::Greeting));
    stage.pass(seconds(30 + 4 * 60)).await;
    assert_eq!((stage.up.connections(), stage.standing().condition), (tried + 1, Condition::HalfOpen));
    stage.pass(seconds(90)).await;
    assert!(matches!(stage.standing().condition, Condition::Open(_)), "silent for five minutes: it failed");
}

#[tokio::test(start_paused = true)]
async fn warn_after_and_give_up_after_hold_while_nothing_is_tried() {
    let stage = Stage::new(refusing(), upstream());
    let ids = stage.submit(20).await;
    stage.run();
    stage.pass(4 * HOUR - MINUTE).await;
    assert_eq!(stage.count().await, 20, "nobody is told before warn_after");
    stage.pass(HOUR + 12 * MINUTE).await;
    let told = stage.records().await;
    let warned = told.iter().filter(|record| record.warned).count();
    assert_eq!((told.len(), warned), (40, 20), "a report for each");
    let before = stage.attempts(&ids).await;
    stage.pass(HOUR).await;
    assert_eq!(stage.count().await, 40, "once only");
    let after = stage.attempts(&ids).await;
    let counted = after.iter().sum::<u32>() - before.iter().sum::<u32>();
    assert!(counted <= 7, "{counted} attempts in an hour of probes every ten minutes");
    stage.pass(20 * HOUR).await;
    for id in ids {
        assert!(stage.record(id).await.is_none(), "{id} is given up");
    }
    let reports = stage.bodies().await;
    let ends = reports.iter().filter(|text| text.contains("could not be delivered")).count();
    assert_eq!((reports.len(), ends), (40, 20));
    assert!(
        reports.iter().all(|text| text.contains("Reason:  Upstream main") || text.contains("Reason:  Given up after"))
    );
}

fn taken_of_bob(stage: &Stage) -> usize {
    stage.up.taken().iter().filter(|taken| taken.recipients.iter().any(|to| to.contains("<r1@"))).count()
}

/// What is sent so by one identity, two hundred times, keeps nobody else's mail from going.
async fn check_stops_nobody(what: &str, script: Script, to: &str) {
    let stage = Stage::new(script, upstream());
    stage.submit_to("mallory", 200, &[to]).await;
    stage.run();
    stage.pass(seconds(10)).await;
    stage.submit_to("bob", 1, &["r1@example.net"]).await;
    stage.pass(seconds(10)).await;
    assert_eq!((taken_of_bob(&stage), stage.standing().condition), (1, Condition::Closed), "{what}");
}

/// Five refusals alike, or five messages that the upstream's filter died of, opened the breaker, and each probe was a message of the same sender.
#[tokio::test(start_paused = true)]
async fn one_identity_stops_nobody_elses_mail() {
    let refusing = Script { recipients: vec![("no@", "554 5.7.1 no relaying\r\n")], ..Script::default() };
    check_stops_nobody("refused alike", refusing, "no@example.net").await;
    let poison = Script { poison: Some(("poison@", false)), ..Script::default() };
    check_stops_nobody("the end of the upstream", poison, "poison@example.net").await;
}

#[tokio::test(start_paused = true)]
async fn what_several_identities_meet_within_their_messages_has_the_upstream_left_alone() {
    let stage = Stage::new(Script { poison: Some(("r0@", false)), ..Script::default() }, upstream());
    stage.submit_to("alice", 4, &["r0@example.net"]).await;
    stage.submit_to("bob", 4, &["r0@example.net"]).await;
    stage.run();
    stage.pass(seconds(5)).await;
    assert!(matches!(stage.standing().condition, Condition::Open(_)));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_the_upstream_dies_of_or_hangs_at_is_no_failed_probe_and_holds_nobody() {
    for hangs in [true, false] {
        let stage = Stage::new(refusing(), Upstream { connections: 30, ..upstream() });
        stage.submit_to("mallory", 20, &["poison@example.net"]).await;
        stage.run();
        stage.pass(seconds(20)).await;
        assert!(matches!(stage.standing().condition, Condition::Open(_)));
        stage.submit_to("bob", 1, &["r1@example.net"]).await;
        stage.up.turn_into(Script { poison: Some(("poison@", hangs)), ..Script::default() });
        // The probe is due, and is the message that is due longest.
        stage.pass(seconds(20)).await;
        assert_eq!((taken_of_bob(&stage), stage.standing().condition), (1, Condition::Closed), "hangs: {hangs}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_over_a_connection_that_was_kept_holds_nobody_when_its_message_hangs() {
    // Eight messages go, so that connections are kept; then some messages have theirs closed, and one hangs.
    let script =
        Script { poison: Some(("poison@", true)), at_message: 8, ..at(Phase::Recipient, Misdeed::SayAndClose(b"")) };
    let stage = Stage::new(script, upstream());
    stage.run();
    stage.submit_to("bob", 8, &["r1@example.net"]).await;
    stage.pass(seconds(1)).await;
    assert_eq!((stage.up.connections(), stage.standing().idle), (8, 8));
    for identity in ["alice", "bob"] {
        stage.submit_to(identity, 3, &["r0@example.net"]).await;
    }
    stage.pass(seconds(1)).await;
    assert!(matches!(stage.standing().condition, Condition::Open(_)) && stage.standing().idle > 0);
    stage.submit_to("mallory", 1, &["poison@example.net"]).await;
    stage.pass(seconds(32)).await;
    let was_probe = stage.up.heard().iter().any(|line| line.contains("poison@"));
    assert!(was_probe && stage.up.connections() == 8, "it is the probe, over a connection that was kept");
    stage.submit_to("bob", 1, &["r1@example.net"]).await;
    stage.pass(seconds(2)).await;
    assert_eq!((taken_of_bob(&stage), stage.standing().condition), (9, Condition::Closed));
}

#[tokio::test(start_paused = true)]
async fn a_probe_begun_anew_with_other_settings_finds_out_about_these() {
    let stage = Stage::new(refusing(), upstream());
    stage.submit(20).await;
    stage.run();
    stage.pass(seconds(20)).await;
    stage.up.turn_into(silent_at(Phase::Greeting));
    stage.pass(seconds(40)).await;
    assert_eq!(stage.standing().condition, Condition::HalfOpen);
    stage.up.turn_into(refusing());
    stage.reload(vec![Upstream { connections: 3, ..upstream() }]);
    stage.pass(seconds(20)).await;
    assert!(stage.standing().failures > 0, "what it finds is told of the new settings");
    assert!(matches!(stage.standing().condition, Condition::Open(wait) if wait <= seconds(30)));
}

#[tokio::test(start_paused = true)]
async fn the_spare_takes_the_mail_while_the_main_one_is_left_alone() {
    let stage = Stage::with_spare(refusing(), Script::default());
    stage.submit(20).await;
    stage.run();
    stage.pass(seconds(5)).await;
    assert_eq!((stage.up.taken().len(), stage.spare.as_ref().unwrap().taken().len()), (0, 20));
    stage.up.turn_into(Script::default());
    stage.pass(MINUTE).await;
    stage.submit(1).await;
    stage.pass(seconds(1)).await;
    stage.submit(3).await;
    stage.pass(seconds(1)).await;
    assert_eq!(stage.up.taken().len(), 4, "and the main one has it again");
}

async fn steer(stage: &Stage, action: Action, target: Target) -> Vec<Answer> {
    ask(stage, Command::Steer { action, target, filters: Filters::default() }).await
}

async fn ask(stage: &Stage, command: Command) -> Vec<Answer> {
    let mut answers = Answers::new(command, "a test".to_owned());
    let snapshot = stage.house.snapshot();
    let mut all = Vec::new();
    let desk = || Desk {
        queue: &stage.house.queue,
        daemon: Some(Running {
            courier: &stage.house.courier,
            active: &stage.house.active,
            routes: &snapshot.routes,
            message_size: u64::MAX,
            log: &stage.house.log,
            counts: &stage.house.counts,
            mono: stage.house.now().mono,
        }),
        roster: &snapshot.roster,
        now: stage.house.now().wall,
    };
    while let Some(answer) = answers.next(desk()).await {
        all.push(answer);
    }
    all
}

#[tokio::test(start_paused = true)]
async fn an_operators_retry_probes_the_upstream_now() {
    let stage = Stage::new(refusing(), upstream());
    let ids = stage.submit(20).await;
    stage.run();
    stage.pass(HOUR / 2).await;
    let (tried, condition) = (stage.up.connections(), stage.standing().condition);
    assert!(matches!(condition, Condition::Open(left) if left > MINUTE), "{condition:?}");
    steer(&stage, Action::Retry, Target::All).await;
    stage.pass(seconds(1)).await;
    assert_eq!(stage.up.connections(), tried + 1, "one probe, however many were named");
    stage.up.turn_into(Script::default());
    let answers = steer(&stage, Action::Retry, Target::Ids(vec![ids[0].to_string()])).await;
    assert!(matches!(&answers[0], Answer::Done(_)), "{answers:?}");
    stage.pass(seconds(2)).await;
    assert_eq!(stage.up.taken().len(), 19, "all but the one that was the failed probe, and waits for its next step");
}

#[tokio::test(start_paused = true)]
async fn an_operators_retry_of_all_probes_each_route_once() {
    let stage = Stage::with_routes(refusing(), refusing());
    let spare = Arc::clone(stage.spare.as_ref().unwrap());
    stage.submit(8).await;
    stage.submit_to("alice", 8, &["r0@example.org"]).await;
    stage.run();
    stage.pass(HOUR / 2).await;
    let tried = (stage.up.connections(), spare.connections());
    steer(&stage, Action::Retry, Target::All).await;
    stage.pass(seconds(1)).await;
    assert_eq!((stage.up.connections(), spare.connections()), (tried.0 + 1, tried.1 + 1), "one probe on each");
    stage.up.turn_into(Script::default());
    spare.turn_into(Script::default());
    steer(&stage, Action::Retry, Target::All).await;
    stage.pass(seconds(2)).await;
    assert_eq!((stage.up.taken().len(), spare.taken().len()), (8, 8));
}

// Reloads.

#[tokio::test(start_paused = true)]
async fn a_reload_that_changes_nothing_keeps_health_and_connections() {
    let stage = Stage::new(Script::default(), upstream());
    stage.run();
    stage.submit(1).await;
    stage.pass(seconds(1)).await;
    stage.reload(vec![upstream()]);
    stage.submit(1).await;
    stage.pass(seconds(1)).await;
    assert_eq!((stage.up.taken().len(), stage.up.connections()), (2, 1), "the kept connection is used");
    stage.up.turn_into(refusing());
    stage.reload(vec![Upstream { helo: "other.example.com".into(), ..upstream() }]);
    stage.submit(9).await;
    stage.pass(seconds(1)).await;
    let (tried, condition) = (stage.up.connections(), stage.standing().condition);
    assert!(matches!(condition, Condition::Open(_)));
    stage.reload(vec![Upstream { helo: "other.example.com".into(), ..upstream() }]);
    stage.submit(9).await;
    stage.pass(seconds(1)).await;
    assert_eq!(stage.up.connections(), tried, "it is still left alone");
    stage.up.turn_into(Script::default());
    stage.reload(vec![upstream()]);
    stage.pass(seconds(1)).await;
    assert!(stage.up.taken().len() >= 10, "new settings are tried at once: {}", stage.up.taken().len());
}

#[tokio::test(start_paused = true)]
async fn settings_are_compared_by_value_down_to_passwords_and_keys() {
    let ca = TestCa::new("ca");
    let stage = Stage::new(Script::default(), upstream());
    let clock = || Arc::clone(&stage.house.clock);
    let material = |name: Option<&str>| TlsMaterial {
        anchors: Anchors::Given(vec![ca.certificate.clone()]),
        pins: Vec::new(),
        server_name: name.map(str::to_owned),
        identity: None,
    };
    let made = |demand, name, password: &str| Upstream {
        security: Security::new(Mode::StartTls, demand, "smtp.example.net", material(name), clock()).unwrap(),
        credentials: Some(Credentials::new("relay", Secret::new(password)).unwrap()),
        ..upstream()
    };
    let one = made(TlsDemand::Verify, None, "secret");
    assert_eq!(one, made(TlsDemand::Verify, None, "secret"));
    assert_ne!(one, made(TlsDemand::Verify, None, "another"));
    assert_ne!(one, made(TlsDemand::Require, None, "secret"));
    assert_ne!(one, made(TlsDemand::Verify, Some("mx.example.net"), "secret"));
    let other = TestCa::new("ca");
    let elsewhere = TlsMaterial { anchors: Anchors::Given(vec![other.certificate.clone()]), ..material(None) };
    let security = Security::new(Mode::StartTls, TlsDemand::Verify, "smtp.example.net", elsewhere, clock()).unwrap();
    assert_ne!(one, Upstream { security, ..one.clone() });
}

#[tokio::test(start_paused = true)]
async fn connections_of_old_and_new_settings_count_together() {
    for (before, after) in [(4, 4), (4, 2), (2, 4)] {
        let stage = Stage::new(Script::default(), Upstream { connections: before, ..upstream() });
        stage.run();
        // Kept by the old settings.
        stage.submit(20).await;
        stage.pass(seconds(1)).await;
        assert_eq!(stage.up.most_open.load(Ordering::SeqCst), before);
        // Under way with the old settings.
        stage.up.turn_into(silent_at(Phase::Data));
        stage.reload(vec![Upstream { connections: before, helo: "second.example.com".into(), ..upstream() }]);
        stage.submit(20).await;
        stage.pass(seconds(10)).await;
        stage.up.most_open.store(0, Ordering::SeqCst);
        stage.reload(vec![Upstream { connections: after, helo: "third.example.com".into(), ..upstream() }]);
        stage.pass(seconds(10)).await;
        let most = stage.up.most_open.load(Ordering::SeqCst);
        assert!(most <= before.max(after), "{before} then {after}: {most} at once");
        stage.up.turn_into(Script::default());
        stage.pass(10 * MINUTE).await;
        assert_eq!(stage.standing().limit, after);
        assert!(stage.standing().busy == 0 && stage.standing().idle <= after, "{:?}", stage.standing());
        stage.pass(2 * HOUR).await;
        assert_eq!(stage.up.taken().len(), 40, "{before} then {after}: nobody waits for ever");
    }
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_is_taken_out_is_ended_when_idle_and_gets_no_more_mail() {
    let stage = Stage::with_spare(silent_at(Phase::Data), Script::default());
    stage.run();
    stage.submit(30).await;
    stage.pass(seconds(1)).await;
    assert_eq!(stage.house.courier.standings()[0].waiting, 20);
    stage.reload(vec![stage::spare()]);
    stage.pass(seconds(5)).await;
    assert_eq!(stage.spare.as_ref().unwrap().taken().len(), 20, "those that waited go by the new settings");
    stage.pass(10 * MINUTE).await;
    let names: Vec<_> = stage.house.courier.standings().into_iter().map(|one| one.upstream).collect();
    assert_eq!(names, ["spare"], "forgotten when the last connection has ended");
    stage.pass(2 * HOUR).await;
    assert_eq!(stage.spare.as_ref().unwrap().taken().len(), 30);
}

// Silence.

#[tokio::test(start_paused = true)]
async fn a_silent_upstream_is_told_after_a_minute_once_per_attempt_and_loudly_when_it_repeats() {
    let log = stage::Log::start();
    let stage = Stage::new(silent_at(Phase::Data), Upstream { connections: 1, ..upstream() });
    let ids = stage.submit(1).await;
    stage.run();
    stage.pass(seconds(59)).await;
    assert_eq!(log.lines("has not answered"), Vec::<String>::new());
    stage.pass(seconds(2)).await;
    let told = log.lines("has not answered");
    assert_eq!(told.len(), 1);
    for part in ["WARN", "main", "DATA", "250 2.1.5 ok", &ids[0].to_string()] {
        assert!(told[0].contains(part), "{part}: {told:?}");
    }
    assert_eq!(stage.standing().unanswered, 1);
    stage.submit(2).await;
    stage.pass(seconds(58)).await;
    assert_eq!(log.lines("has not answered").len(), 1, "once per attempt");
    stage.pass(5 * MINUTE).await;
    let loud = log.lines("attempt after attempt");
    assert_eq!((log.lines("has not answered").len(), loud.len()), (2, 1));
    assert!(loud[0].contains("ERROR"), "{loud:?}");
    stage.up.turn_into(Script::default());
    stage.pass(2 * HOUR).await;
    assert_eq!(stage.standing().unanswered, 0);
}

/// Postfix reads its settings when a session begins: those that we had kept went on refusing what new ones took, and eight good messages bounced.
#[tokio::test(start_paused = true)]
async fn after_all_were_refused_alike_and_it_was_put_right_nothing_that_waited_bounces() {
    let locked = || Script { recipients: vec![("@", "554 5.7.1 access denied\r\n")], ..Script::default() };
    let stage = Stage::new(locked(), Upstream { connections: 4, ..upstream() });
    stage.submit_as("alice", 6).await;
    stage.run();
    stage.pass(seconds(2)).await;
    stage.submit_as("bob", 6).await;
    stage.pass(seconds(2)).await;
    let waiting = || async { stage.records().await.into_iter().filter(|record| !record.custodian.is_ours()).count() };
    let left = waiting().await;
    assert_eq!(left, 8, "four were believed");
    // Sessions from before are still there when the others come.
    let idle = stage.standing().idle;
    assert!(idle > 0, "{idle}");
    stage.up.turn_into(Script::default());
    stage.pass(2 * HOUR).await;
    stage.pass(2 * HOUR).await;
    let taken = stage.up.taken().into_iter().filter(|taken| !taken.mail.contains("<>")).count();
    assert_eq!((taken, waiting().await), (left, 0));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_all_is_an_error_once_and_not_for_each_message() {
    let log = Log::start();
    let locked = Script { recipients: vec![("@", "554 5.7.1 access denied\r\n")], ..Script::default() };
    let stage = Stage::new(locked, upstream());
    stage.submit(40).await;
    stage.run();
    stage.pass(50 * MINUTE).await;
    let lines = log.lines("refuses message after message alike");
    let errors = log.lines("an upstream needs a repair");
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("ERROR"), "{errors:?}");
    assert!(lines.len() > 30, "each is told of still, as a warning: {}", lines.len());
    stage.pass(60 * MINUTE).await;
    assert_eq!(log.lines("an upstream needs a repair").len(), 2, "once an hour");
}

#[tokio::test(start_paused = true)]
async fn an_upstream_silent_before_mail_holds_no_mail_that_can_go_elsewhere() {
    let stage = Stage::with_spare(silent_at(Phase::Greeting), Script::default());
    stage.submit(20).await;
    stage.run();
    stage.pass(seconds(59)).await;
    assert_eq!(stage.spare.as_ref().unwrap().taken().len(), 0);
    stage.pass(seconds(2)).await;
    assert_eq!(stage.spare.as_ref().unwrap().taken().len(), 20);
    assert!(matches!(stage.standing().condition, Condition::Open(_)), "ten faults, before five minutes");
}

#[tokio::test(start_paused = true)]
async fn where_nothing_else_can_be_done_a_silent_upstream_is_waited_for() {
    let stage = Stage::new(silent_at(Phase::Greeting), Upstream { connections: 1, ..upstream() });
    let ids = stage.submit(1).await;
    stage.run();
    stage.pass(4 * MINUTE).await;
    assert_eq!((stage.standing().busy, stage.attempts(&ids).await), (1, vec![0]));
    stage.submit(1).await;
    stage.pass(seconds(6)).await;
    assert_eq!(
        (stage.attempts(&ids).await, stage.standing().failures),
        (vec![1], 1),
        "another one wants the connection"
    );
}

#[tokio::test(start_paused = true)]
async fn an_operators_retry_begins_anew_what_hangs_and_what_hung_opens_nothing() {
    let stage = Stage::new(silent_at(Phase::Greeting), upstream());
    stage.submit(10).await;
    stage.run();
    stage.pass(2 * MINUTE).await;
    stage.up.turn_into(Script::default());
    assert_eq!((stage.standing().busy, stage.up.taken().len()), (10, 0));
    steer(&stage, Action::Retry, Target::All).await;
    stage.pass(seconds(2)).await;
    assert_eq!((stage.up.taken().len(), stage.standing().condition), (10, Condition::Closed));
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_hangs_and_is_taken_out_lets_its_mail_go() {
    let stage = Stage::with_spare(silent_at(Phase::Greeting), Script::default());
    stage.submit(10).await;
    stage.run();
    stage.pass(seconds(5)).await;
    stage.reload(vec![stage::spare()]);
    stage.pass(seconds(2)).await;
    assert_eq!(stage.spare.as_ref().unwrap().taken().len(), 10);
}

#[tokio::test(start_paused = true)]
async fn one_message_alone_need_not_wait_for_a_silent_upstream_either() {
    let stage = Stage::with_spare(silent_at(Phase::Greeting), Script::default());
    stage.submit(1).await;
    stage.run();
    stage.pass(seconds(66)).await;
    assert_eq!(stage.spare.as_ref().unwrap().taken().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_probe_has_its_whole_time_though_there_is_a_spare() {
    let stage = Stage::with_spare(refusing(), Script::default());
    stage.submit(10).await;
    stage.run();
    stage.pass(seconds(5)).await;
    assert!(matches!(stage.standing().condition, Condition::Open(_)));
    stage.up.turn_into(silent_at(Phase::Greeting));
    stage.pass(seconds(30)).await;
    let before = stage.spare.as_ref().unwrap().taken().len();
    stage.submit(1).await;
    stage.pass(4 * MINUTE).await;
    assert_eq!(stage.standing().condition, Condition::HalfOpen, "the probe is under way still");
    stage.pass(2 * MINUTE).await;
    assert!(matches!(stage.standing().condition, Condition::Open(_)));
    assert_eq!(stage.spare.as_ref().unwrap().taken().len(), before + 1);
}

#[tokio::test(start_paused = true)]
async fn with_other_settings_what_hangs_is_begun_anew_and_what_was_counted_is_forgotten() {
    let stage = Stage::new(silent_at(Phase::Greeting), upstream());
    stage.submit(10).await;
    stage.run();
    stage.pass(2 * MINUTE).await;
    assert!(stage.standing().unanswered > 0);
    stage.up.turn_into(Script::default());
    stage.reload(vec![Upstream { connections: 3, ..upstream() }]);
    assert_eq!(stage.standing().unanswered, 0);
    stage.pass(seconds(2)).await;
    assert_eq!(stage.up.taken().len(), 10);
}

#[tokio::test(start_paused = true)]
async fn every_place_to_hang_in_is_told_of_after_a_minute() {
    for (phase, words) in [
        (Phase::Greeting, "its greeting"),
        (Phase::Hello, "EHLO"),
        (Phase::Mail, "the sender (MAIL)"),
        (Phase::Recipient, "the recipient (RCPT)"),
        (Phase::Data, "DATA"),
    ] {
        let log = stage::Log::start();
        let stage = Stage::new(silent_at(phase), upstream());
        stage.submit(1).await;
        stage.run();
        stage.pass(seconds(61)).await;
        let told = log.lines("has not answered");
        assert!(told.len() == 1 && told[0].contains(words), "{phase:?}: {told:?}");
    }
}

// What is unknown.

#[tokio::test(start_paused = true)]
async fn that_it_may_have_arrived_is_not_forgotten_by_later_attempts() {
    let stage = Stage::new(silent_at(Phase::EndOfData), upstream());
    let ids = stage.submit(1).await;
    stage.run();
    stage.pass(20 * MINUTE).await;
    assert!(stage.record(ids[0]).await.unwrap().recipients[0].undetermined);
    stage.up.turn_into(refusing());
    stage.pass(2 * HOUR).await;
    let record = stage.record(ids[0]).await.unwrap();
    assert!(record.attempts >= 2 && record.recipients[0].undetermined, "{record:?}");
    assert!(matches!(record.recipients[0].last, Some(Outcome::Deferred { .. })));
    stage.pass(24 * HOUR).await;
    let reports = stage.bodies().await;
    let unknown = |text: &&String| text.contains("Subject: It is not known") && text.contains("Status: 4.4.7");
    assert_eq!(reports.iter().filter(unknown).count(), 1, "{reports:?}");
    assert!(stage.records().await.iter().all(|record| record.state != State::Dead || record.trace.protocol == "local"));
}
