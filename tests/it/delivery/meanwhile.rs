//! What has come of a message while its attempt still goes on, and what of it outlasts a power cut.

use std::path::Path;

use sealpost::queue::Outcome;
use sealpost::upstream::{Phase, Upstream};

use super::routes::{reports, wants_to_hear_of_success};
use super::stage::{Log, Stage, spare, upstream};
use super::{HOUR, MINUTE, at, seconds, silent_at};
use crate::scripted_upstream::{Misdeed, Script};

const BOTH: &[&str] = &["r0@example.net", "r1@example.net"];

/// One recipient in each transaction, and in the second this happens.
fn one_by_one(phase: Phase, misdeed: Misdeed) -> Script {
    Script { recipients_max: Some(1), at_message: 1, ..at(phase, misdeed) }
}

/// Answers the end of a message with this, so long after it.
fn slow(wait: u64, said: &'static [u8]) -> Script {
    Script { service: seconds(wait), ..at(Phase::EndOfData, Misdeed::Say(said)) }
}

impl Stage {
    /// How often this recipient's message was taken, by the main upstream and by the spare.
    fn times(&self, recipient: &str) -> [usize; 2] {
        [&self.up, self.spare.as_ref().unwrap()].map(|host| {
            let all = host.taken();
            all.iter().filter(|one| one.recipients.iter().any(|to| to.contains(recipient))).count()
        })
    }

    /// The power goes, both upstreams are well, and the one that was asked last is asked first.
    async fn cut_and_settled(self) -> Self {
        let stage = self.cut_off_and_started(vec![spare(), upstream()]);
        stage.up.turn_into(Script::default());
        stage.spare.as_ref().unwrap().turn_into(Script::default());
        stage.run();
        stage.pass(2 * HOUR).await;
        assert_eq!(stage.count().await, 0);
        stage
    }
}

/// Once all that came of a route was recorded at the end of its attempt, which may be ten minutes later.
#[tokio::test(start_paused = true)]
async fn who_has_it_of_one_upstream_is_recorded_while_the_next_one_hangs() {
    let stage = Stage::with_spare(one_by_one(Phase::Data, Misdeed::SayAndClose(b"")), silent_at(Phase::Mail));
    stage.run();
    let id = stage.submit_to("alice", 1, BOTH).await[0];
    stage.pass(seconds(3)).await;
    let record = stage.record(id).await.unwrap();
    let open: Vec<bool> = record.recipients.iter().map(|one| one.open).collect();
    assert_eq!((open, record.attempts), (vec![false, true], 0), "the attempt goes on, and one has it");
    let stage = stage.cut_and_settled().await;
    assert_eq!((stage.times("r0@"), stage.times("r1@")), ([1, 0], [0, 1]), "nobody has it twice");
}

#[tokio::test(start_paused = true)]
async fn who_has_it_of_one_transaction_is_recorded_while_the_next_one_hangs() {
    let stage = Stage::with_spare(one_by_one(Phase::EndOfData, Misdeed::SayAndHang(b"", 1)), Script::default());
    stage.run();
    let id = stage.submit_to("alice", 1, BOTH).await[0];
    stage.pass(seconds(3)).await;
    let record = stage.record(id).await.unwrap();
    let stands: Vec<_> = record.recipients.iter().map(|one| (one.open, one.undetermined)).collect();
    assert_eq!(stands, [(false, false), (true, true)], "one has it, the other may");
    let stage = stage.cut_and_settled().await;
    assert_eq!((stage.times("r0@"), stage.times("r1@")), ([1, 0], [1, 0]), "nobody has it twice, or elsewhere");
}

/// Once a power cut lost that an upstream may have it: the next attempt began with whichever came first, and both had the message.
#[tokio::test(start_paused = true)]
async fn what_an_upstream_may_have_when_the_power_goes_goes_to_the_same_one_first() {
    let stage = Stage::with_spare(silent_at(Phase::EndOfData), Script::default());
    stage.run();
    let id = stage.submit(1).await[0];
    stage.pass(seconds(3)).await;
    let record = stage.record(id).await.unwrap();
    assert_eq!((record.undetermined_upstream(&[0]), record.attempts), (Some("main"), 0), "{:?}", record.recipients);
    let Some(Outcome::Deferred { reason, .. }) = &record.recipients[0].last else { panic!("{record:?}") };
    assert!(reason.contains("it may have taken it"), "{reason}");
    let stage = stage.cut_and_settled().await;
    assert_eq!(stage.times("r0@"), [1, 0]);
}

/// Also when the silence has ended, while what is left of the route, or another route, still hangs.
#[tokio::test(start_paused = true)]
async fn what_an_upstream_may_have_is_recorded_while_others_are_tried() {
    let vanishes = Script { at_message: 0, ..one_by_one(Phase::EndOfData, Misdeed::SayAndClose(b"")) };
    let stage = Stage::with_spare(vanishes, silent_at(Phase::Mail));
    stage.run();
    let id = stage.submit_to("alice", 1, BOTH).await[0];
    stage.pass(seconds(3)).await;
    let record = stage.record(id).await.unwrap();
    let unknown: Vec<bool> = record.recipients.iter().map(|one| one.undetermined).collect();
    assert_eq!((unknown, record.undetermined_upstream(&[0, 1])), (vec![true, false], Some("main")));
    let stage = stage.cut_and_settled().await;
    assert_eq!((stage.times("r0@"), stage.times("r1@")), ([1, 0], [1, 0]), "the same upstream is asked first");
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_answers_late_that_it_has_not_taken_it_has_not() {
    let stage = Stage::new(slow(5, b"451 4.3.0 not today\r\n"), upstream());
    stage.run();
    let id = stage.submit(1).await[0];
    let stand = async || {
        let record = stage.record(id).await.unwrap();
        let one = record.recipients[0].clone();
        (one.undetermined, one.attempts, record.attempts)
    };
    stage.pass(seconds(3)).await;
    assert_eq!(stand().await, (true, 0, 0), "not yet");
    stage.pass(seconds(3)).await;
    assert_eq!(stand().await, (false, 1, 1), "an attempt like any other");
    stage.up.turn_into(silent_at(Phase::EndOfData));
    stage.pass(HOUR + 20 * MINUTE).await;
    assert_eq!(stand().await, (true, 2, 2), "silent to the end");
    stage.up.turn_into(slow(5, b"451 4.3.0 not today\r\n"));
    stage.pass(HOUR + MINUTE).await;
    assert_eq!(stand().await, (true, 3, 3), "what it said of this attempt says nothing of the one before");
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_answers_late_that_it_has_taken_it_has() {
    let stage = Stage::new(Script { service: seconds(5), ..Script::default() }, upstream());
    stage.run();
    stage.submit(1).await;
    stage.pass(seconds(3)).await;
    assert_eq!(stage.count().await, 1);
    stage.pass(seconds(3)).await;
    assert_eq!((stage.count().await, stage.up.taken().len()), (0, 1));
}

/// Where the answer comes within a second nothing is written before it; later, one commit of two syncs more.
#[tokio::test(start_paused = true)]
async fn an_answer_within_a_second_costs_no_commit_of_its_own() {
    let stage = Stage::new(Script::default(), Upstream { connections: 1, ..upstream() });
    stage.run();
    let mut costs = Vec::new();
    for wait in [0, 900, 5000] {
        stage.up.turn_into(Script {
            service: std::time::Duration::from_millis(wait),
            closes_after_message: true,
            ..Script::default()
        });
        stage.submit(1).await;
        let before = stage.disk.syncs();
        stage.pass(seconds(10)).await;
        costs.push(stage.disk.syncs() - before);
    }
    // The record is written anew, and its place is.
    assert_eq!((costs[1], costs[2]), (costs[0], costs[0] + 2), "{costs:?}");
}

/// An upstream that takes one recipient in a transaction once had the whole record written anew each second.
#[tokio::test(start_paused = true)]
async fn what_comes_of_it_little_by_little_is_recorded_ever_more_rarely() {
    let stage = Stage::new(
        Script { recipients_max: Some(1), service: seconds(1), ..Script::default() },
        Upstream { connections: 1, ..upstream() },
    );
    stage.run();
    let to: Vec<String> = (0..60).map(|number| format!("r{number}@example.net")).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    let before = stage.disk.syncs();
    stage.submit_to("alice", 1, &to).await;
    stage.pass(2 * MINUTE).await;
    assert_eq!((stage.count().await, stage.up.taken().len()), (0, 60));
    let syncs = stage.disk.syncs() - before;
    // Two for the message, two or three for each of a dozen recordings, and the end.
    assert!(syncs <= 45, "{syncs}");
}

/// One report of each who has it, and one line, however he came to it: of his route's end, a further transaction, or the next upstream.
#[tokio::test(start_paused = true)]
async fn that_somebody_has_it_is_told_once_however_it_was_recorded() {
    let slow = || Script { service: seconds(5), ..Script::default() };
    let with_dsn = |script: Script| Script { extensions: vec!["DSN"], ..script };
    let in_turn = || Script { recipients_max: Some(1), ..slow() };
    let first_alone = || Script { service: seconds(2), ..one_by_one(Phase::Data, Misdeed::SayAndClose(b"")) };
    for (main, other, told) in [
        (slow(), Script::default(), 1),
        (with_dsn(slow()), Script::default(), 0),
        (in_turn(), Script::default(), 1),
        (with_dsn(in_turn()), Script::default(), 0),
        (first_alone(), slow(), 1),
        (with_dsn(first_alone()), with_dsn(slow()), 0),
    ] {
        let log = Log::start();
        let story = format!("{main:?}");
        let stage = Stage::with_spare(main, other);
        stage.run();
        let id = stage.send(wants_to_hear_of_success(BOTH)).await;
        stage.pass(2 * MINUTE).await;
        assert_eq!(stage.count().await, 0, "{story}");
        let lines = log.lines("event=\"delivered\"");
        let taken = [stage.up.taken(), stage.spare.as_ref().unwrap().taken()].concat();
        assert!(reports(&stage).iter().all(|action| action == "relayed"), "{story}");
        for recipient in BOTH {
            assert_eq!(stage.times(recipient).iter().sum::<usize>(), 1, "{story}");
            let of_it = |line: &&String| line.contains(&id.to_string()) && line.contains(recipient);
            assert_eq!(lines.iter().filter(of_it).count(), 1, "{story}: {lines:?}");
            let reports = taken.iter().filter(|one| one.mail.contains("<>"));
            let about = format!("Final-Recipient: rfc822; {recipient}\r\n");
            let reports = reports.filter(|one| String::from_utf8_lossy(&one.octets).contains(&about));
            assert_eq!(reports.count(), told, "{story}");
        }
    }
}

/// Once he who has it counted as recorded though the disk could not read the record just then, was recorded never, and was sent the message again.
#[tokio::test(start_paused = true)]
async fn what_could_not_be_noted_is_noted_later_or_recorded_at_the_end() {
    // Whether the disk is well again before the attempt ends.
    for mends in [true, false] {
        let log = Log::start();
        let stage = Stage::with_spare(one_by_one(Phase::Data, Misdeed::SayAndClose(b"")), silent_at(Phase::Mail));
        stage.run();
        let id = stage.send(wants_to_hear_of_success(BOTH)).await;
        assert!(stage.disk.fail_reads(Path::new("/queue/messages-0"), 0..u64::MAX));
        stage.pass(seconds(3)).await;
        if mends {
            stage.disk.mend();
            assert!(stage.record(id).await.unwrap().recipients[0].open, "not yet");
            stage.pass(seconds(10)).await;
            let record = stage.record(id).await.unwrap();
            assert_eq!((record.recipients[0].open, record.attempts), (false, 0), "while the attempt goes on");
        } else {
            // It is silent for five minutes.
            stage.pass(4 * MINUTE).await;
            stage.disk.mend();
        }
        stage.pass(20 * MINUTE).await;
        let record = stage.record(id).await.unwrap();
        assert_eq!((record.recipients[0].open, record.recipients[0].attempts), (false, 1), "{mends}");
        stage.spare.as_ref().unwrap().turn_into(Script::default());
        stage.pass(2 * HOUR).await;
        assert_eq!((stage.count().await, stage.times("r0@"), stage.times("r1@")), (0, [1, 0], [0, 1]));
        assert_eq!((reports(&stage), log.lines("event=\"reported\"").len()), (vec!["relayed".to_owned(); 2], 2));
        assert_eq!(log.lines("event=\"delivered\"").iter().filter(|line| line.contains("r0@")).count(), 1);
    }
}
