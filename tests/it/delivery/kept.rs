//! Connections that are kept between messages, through reloads and slow goodbyes.

use std::sync::atomic::Ordering;
use std::time::Duration;

use sealpost::queue::Outcome;
use sealpost::upstream::health::Condition;
use sealpost::upstream::{Phase, Upstream};

use super::stage::{Stage, spare, upstream};
use super::{HOUR, MINUTE, at, refusing, seconds, silent_at};
use crate::scripted_upstream::{Misdeed, Script};

fn with_helo(helo: &str, connections: usize) -> Upstream {
    Upstream { helo: helo.into(), connections, ..upstream() }
}

#[tokio::test(start_paused = true)]
async fn a_connection_whose_settings_are_no_more_when_its_message_is_done_is_not_kept() {
    // The final dot is answered octet by octet, one a minute.
    let stage =
        Stage::new(at(Phase::EndOfData, Misdeed::Dribble(b"250 2.0.0 ok\r\n")), with_helo("old.example.com", 2));
    stage.run();
    stage.submit(1).await;
    stage.pass(seconds(10)).await;
    stage.up.turn_into(Script::default());
    stage.reload(vec![with_helo("new.example.com", 2)]);
    stage.pass(9 * MINUTE).await;
    let busy = stage.standing().busy;
    stage.pass(6 * MINUTE).await;
    assert_eq!((busy, stage.standing().busy, stage.standing().idle), (1, 0, 0), "ended, not kept");
    assert_eq!(stage.up.connections(), 1);
    stage.submit(1).await;
    stage.pass(seconds(5)).await;
    assert_eq!(stage.up.connections(), 2, "the next message has a connection of its own settings");
    assert!(stage.up.heard().iter().any(|line| line == "EHLO new.example.com"), "{:?}", stage.up.heard());
    assert_eq!(stage.standing().idle, 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_a_reload_ends_takes_its_place_until_its_quit_is_answered() {
    let script = Script { at_message: 2, ..silent_at(Phase::Quit) };
    let stage = Stage::new(script, with_helo("old.example.com", 2));
    stage.run();
    stage.submit(2).await;
    stage.pass(seconds(1)).await;
    assert_eq!((stage.up.taken().len(), stage.standing().idle), (2, 2));
    stage.up.most_open.store(0, Ordering::SeqCst);
    stage.reload(vec![with_helo("new.example.com", 2)]);
    stage.submit(4).await;
    stage.pass(seconds(1)).await;
    assert_eq!(
        (stage.standing().busy, stage.standing().idle, stage.standing().waiting),
        (2, 0, 4),
        "QUIT is waited for"
    );
    stage.up.turn_into(Script::default());
    stage.pass(10 * MINUTE).await;
    assert_eq!(stage.up.taken().len(), 6);
    let most = stage.up.most_open.load(Ordering::SeqCst);
    assert!(most <= 2, "{most} at once");
}

#[tokio::test(start_paused = true)]
async fn while_nothing_is_due_nobody_probes_and_it_is_not_said_so() {
    let stage = Stage::new(refusing(), upstream());
    stage.submit(5).await;
    stage.run();
    stage.pass(5 * MINUTE).await;
    // All five wait for their next turn, in an hour.
    let (tried, condition) = (stage.up.connections(), stage.standing().condition);
    assert_eq!((tried, condition), (5, Condition::Open(Duration::ZERO)));
    stage.up.turn_into(silent_at(Phase::Greeting));
    stage.submit(2).await;
    stage.pass(seconds(1)).await;
    assert_eq!((stage.up.connections(), stage.standing().condition), (6, Condition::HalfOpen), "one of two probes");
    stage.up.turn_into(Script::default());
    stage.pass(HOUR).await;
    assert_eq!(stage.standing().condition, Condition::Closed);
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_puts_all_messages_off_is_told_of_as_an_error_hourly_and_when_it_is_over() {
    let log = super::stage::Log::start();
    let stage = Stage::new(at(Phase::Mail, Misdeed::Say(b"451 4.3.0 try later\r\n")), upstream());
    stage.run();
    for _ in 0..3 {
        stage.submit(1).await;
        stage.pass(5 * MINUTE).await;
    }
    let told = || log.lines("nothing was delivered through an upstream");
    assert_eq!((told().len(), stage.standing().dry_since), (0, None), "not yet");
    stage.submit(1).await;
    stage.pass(MINUTE).await;
    let lines = told();
    assert!(lines.len() == 1 && lines[0].contains("ERROR") && lines[0].contains("451 4.3.0 try later"), "{lines:?}");
    assert!(stage.standing().dry_since.is_some() && stage.standing().condition == Condition::Closed);
    stage.pass(50 * MINUTE).await;
    assert_eq!(told().len(), 1, "once an hour");
    stage.pass(70 * MINUTE).await;
    assert_eq!(told().len(), 2);
    stage.up.turn_into(Script::default());
    stage.pass(HOUR).await;
    assert_eq!(stage.up.taken().len(), 4);
    assert_eq!(log.lines("answers for good again").len(), 1);
    assert_eq!(stage.standing().dry_since, None);
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_fails_all_messages_of_the_one_identity_there_is_is_told_of_as_an_error() {
    let log = super::stage::Log::start();
    let stage = Stage::new(Script { poison: Some(("r0@", false)), ..Script::default() }, upstream());
    stage.run();
    for _ in 0..4 {
        stage.submit(1).await;
        stage.pass(5 * MINUTE).await;
    }
    let lines = log.lines("nothing was delivered through an upstream");
    assert!(lines.len() == 1 && lines[0].contains("ERROR") && lines[0].contains("closed the connection"), "{lines:?}");
    assert_eq!(stage.standing().condition, Condition::Closed, "nobody else's mail is held");
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_has_forgotten_us_bounces_four_messages_though_it_takes_the_reports_on_them() {
    let script = Script { recipients: vec![("<r0@", "550 5.7.1 no relaying\r\n")], ..Script::default() };
    let stage = Stage::new(script, upstream());
    stage.run();
    for _ in 0..7 {
        stage.submit(1).await;
        stage.pass(seconds(10)).await;
    }
    assert_eq!(stage.up.taken().len(), 4, "a report on each that was believed");
    assert_eq!(stage.count().await, 3, "the others wait");
    stage.up.turn_into(Script::default());
    stage.pass(2 * HOUR).await;
    assert_eq!((stage.up.taken().len(), stage.count().await), (7, 0));
}

/// The daemon is stopped while an upstream looks at a message that it has whole: whether it keeps it, nobody knows. Once the next start asked whomever
/// it drew, and both had the message.
#[tokio::test(start_paused = true)]
async fn what_an_upstream_may_have_when_the_daemon_stops_goes_to_the_same_one_first() {
    let stage = Stage::with_spare(Script { poison: Some(("example", true)), ..Script::default() }, Script::default());
    stage.run();
    let id = stage.submit(1).await[0];
    stage.pass(MINUTE).await;
    let stage = stage.stopped_and_started(vec![spare(), upstream()]).await;
    let record = stage.record(id).await.unwrap();
    assert_eq!(record.undetermined_upstream(&[0]), Some("main"), "{:?}", record.recipients);
    let Some(Outcome::Deferred { reason, .. }) = &record.recipients[0].last else { panic!("{record:?}") };
    assert!(reason.contains("was silent for 1m 32s"), "{reason}");
    stage.up.turn_into(Script::default());
    stage.run();
    stage.pass(2 * HOUR).await;
    assert_eq!((stage.up.taken().len(), stage.spare.as_ref().unwrap().taken().len()), (1, 0));
}
