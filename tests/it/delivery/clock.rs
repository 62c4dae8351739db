//! A wall clock that is set while mail waits, and one that is wrong when the daemon begins. The schedule of the stage: tried again each hour, told after
//! 4 hours, given up after 24.

use std::time::Duration;

use sealpost::mail::{Envelope, MailParameters};

use super::stage::{Log, Set, Stage, upstream};
use super::{HOUR, MINUTE, seconds};
use crate::scripted_upstream::Script;

const DAY: Duration = Duration::from_secs(86_400);
const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// It answers, and puts everybody off.
fn busy() -> Script {
    Script { recipients: vec![("@", "451 4.3.0 later\r\n")], ..Script::default() }
}

/// An upstream that is well from now on, also for who kept a connection to it.
async fn is_well(stage: &Stage) {
    stage.house.courier.close().await;
    stage.up.turn_into(Script::default());
}

#[tokio::test(start_paused = true)]
async fn mail_that_was_put_off_goes_though_the_clock_was_set_back() {
    let (stage, log) = (Stage::new(busy(), upstream()), Log::start());
    stage.submit(200).await;
    stage.run();
    stage.pass(MINUTE).await;
    stage.set_wall(Set::Back(DAY));
    is_well(&stage).await;
    stage.pass(2 * MINUTE).await;
    assert_eq!((stage.up.taken().len(), stage.count().await), (200, 0));
    assert_eq!((log.lines("was set back: what is due").len(), log.lines("messages=200").len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn set_back_by_less_than_a_step_of_the_schedule_mail_waits_for_one_step_at_most() {
    let stage = Stage::new(busy(), upstream());
    stage.submit(1).await;
    stage.run();
    stage.pass(MINUTE).await;
    stage.set_wall(Set::Back(50 * MINUTE));
    is_well(&stage).await;
    stage.pass(2 * HOUR + 20 * MINUTE).await;
    assert_eq!(stage.up.taken().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_with_a_clock_that_is_behind_mail_goes_at_once() {
    let stage = Stage::new(busy(), upstream());
    stage.submit(3).await;
    stage.run();
    stage.pass(MINUTE).await;
    let stage = stage.restart(upstream(), Set::Back(365 * DAY)).await;
    is_well(&stage).await;
    stage.run();
    stage.pass(seconds(10)).await;
    assert_eq!((stage.up.taken().len(), stage.count().await), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn what_its_sender_wants_to_be_held_is_held_whatever_the_clock_does() {
    let stage = Stage::new(Script::default(), upstream());
    let until = stage.house.now().wall.after(3 * DAY);
    let parameters = MailParameters { hold_until: Some(until), ..MailParameters::default() };
    let plain = stage.submit(1).await;
    let record = stage.record(plain[0]).await.unwrap();
    let envelope =
        Envelope::new(record.envelope.reverse_path().clone(), parameters, record.envelope.recipients().to_vec());
    let held = stage.send(envelope.unwrap()).await;
    stage.run();
    stage.pass(MINUTE).await;
    stage.set_wall(Set::Back(DAY));
    stage.pass(3 * HOUR).await;
    assert_eq!(stage.record(held).await.unwrap().due, until);
    assert_eq!(stage.up.taken().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_forward_gives_up_nothing_and_tells_nobody_of_a_delay() {
    let (stage, log) = (Stage::new(busy(), upstream()), Log::start());
    let ids = stage.submit(3).await;
    stage.run();
    stage.pass(MINUTE).await;
    stage.set_wall(Set::Forward(WEEK));
    // All are due now, and put off once more: a week old by the wall clock.
    stage.pass(2 * MINUTE).await;
    assert_eq!(stage.attempts(&ids).await, [2, 2, 2]);
    stage.pass(3 * HOUR).await;
    assert_eq!(stage.count().await, 3, "neither given up nor told of");
    assert_eq!(log.lines("was set forward").len(), 1);
    stage.pass(HOUR + 30 * MINUTE).await;
    assert_eq!(stage.count().await, 6, "four hours are four hours");
    stage.pass(24 * HOUR).await;
    for id in ids {
        assert!(stage.record(id).await.is_none(), "and a day is a day");
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_goes_wrong_for_a_while_costs_no_mail() {
    let stage = Stage::new(busy(), upstream());
    stage.submit(3).await;
    stage.run();
    stage.pass(MINUTE).await;
    stage.set_wall(Set::Forward(WEEK));
    stage.pass(2 * MINUTE).await;
    stage.set_wall(Set::Back(WEEK));
    is_well(&stage).await;
    stage.pass(2 * MINUTE).await;
    assert_eq!((stage.up.taken().len(), stage.count().await), (3, 0), "what was put off meanwhile goes as well");
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_begins_with_a_clock_ahead_gives_up_nothing_in_its_first_round() {
    let stage = Stage::new(busy(), upstream());
    let ids = stage.submit(3).await;
    stage.run();
    stage.pass(MINUTE).await;
    // A battery is dead; the time server answers after half an hour.
    let stage = stage.restart(upstream(), Set::Forward(365 * DAY)).await;
    stage.run();
    stage.pass(30 * MINUTE).await;
    assert!(stage.attempts(&ids).await.iter().all(|attempts| *attempts >= 2), "they were tried");
    assert_eq!(stage.records().await.iter().filter(|record| ids.contains(&record.id)).count(), 3);
    stage.set_wall(Set::Back(365 * DAY));
    stage.pass(3 * HOUR).await;
    assert_eq!(stage.attempts(&ids).await.len(), 3, "three hours and a half old, by the clock of now");
    is_well(&stage).await;
    stage.pass(2 * HOUR).await;
    assert_eq!(stage.attempts(&ids).await.len(), 0);
    let to_others = stage.up.taken().into_iter().filter(|taken| taken.mail.contains("alice")).count();
    assert_eq!(to_others, 3);
}

#[tokio::test(start_paused = true)]
async fn a_daemon_whose_clock_stays_ahead_gives_up_after_its_first_round() {
    let stage = Stage::new(busy(), upstream());
    let ids = stage.submit(1).await;
    stage.run();
    stage.pass(MINUTE).await;
    let stage = stage.restart(upstream(), Set::Forward(WEEK)).await;
    stage.run();
    stage.pass(59 * MINUTE).await;
    assert!(stage.record(ids[0]).await.is_some());
    stage.pass(2 * MINUTE).await;
    assert!(stage.record(ids[0]).await.is_none(), "a daemon that was down for a week does the same");
}
