//! Cut-through: what an upstream says while the client waits reaches the client, what it takes is not kept, and whatever else comes of it is in the queue.

pub(crate) mod stage;

use std::sync::Arc;
use std::time::Duration;

use sealpost::queue::{Outcome, Record, State};
use sealpost::route::Routes;
use sealpost::snapshot::Snapshot;
use sealpost::sys::disk::Fault;
use sealpost::upstream::{Phase, Upstream};
use tokio::time::Instant;

use super::delivery::stage::Log;
use super::scripted_upstream::{Misdeed, Script};
use crate::polled::Polled;
use stage::{BODY, Stage, WAIT, spare, through, two_ways, upstream};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const BOB: &str = "r0@example.net";
const CAROL: &str = "r1@example.net";

fn at(phase: Phase, misdeed: Misdeed) -> Script {
    Script { misdeed: Some((phase, misdeed)), ..Script::default() }
}

fn saying(phase: Phase, reply: &'static [u8]) -> Script {
    at(phase, Misdeed::Say(reply))
}

fn silent_at(phase: Phase) -> Script {
    at(phase, Misdeed::SayAndHang(b"", 1))
}

/// What became of it all: messages upstream, messages in the queue.
async fn ends(stage: &Stage) -> (usize, usize) {
    (stage.up.taken().len(), stage.records().await.len())
}

fn only(records: Vec<Record>) -> Record {
    assert_eq!(records.len(), 1);
    records.into_iter().next().unwrap()
}

// Taken.

#[tokio::test(start_paused = true)]
async fn what_the_upstream_takes_is_answered_250_with_its_words_and_is_not_kept() {
    for extensions in [vec![], vec!["PIPELINING"], vec!["PIPELINING", "CHUNKING", "SIZE 1000000", "8BITMIME"]] {
        // In memory, and in a file.
        for more in ["", "x"] {
            let stage = Stage::new(Script { extensions: extensions.clone(), ..Script::default() });
            let more =
                "a line of some length, and no dot before it\r\n".repeat(if more.is_empty() { 0 } else { 9_000 });
            let said = stage.client("alice").await.send_with("", &[BOB, CAROL], &more).await;
            assert!(said.starts_with("250 2.0.0 Relayed, id="), "{said}");
            assert!(said.ends_with("upstream said: 250 taken"), "{said}");
            assert_eq!(ends(&stage).await, (1, 0), "{extensions:?}");
            let taken = stage.up.taken().remove(0);
            let octets = String::from_utf8(taken.octets).unwrap();
            let id = said.split("id=").nth(1).unwrap().split(';').next().unwrap();
            assert!(octets.starts_with("Received: ") && octets.contains(id), "{octets:.300}");
            assert!(octets.ends_with(&format!("{BODY}{more}")), "{octets:.600}");
            assert_eq!(taken.recipients.len(), 2);
            stage.is_clean("taken").await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_comes_in_chunks_goes_through_octet_for_octet_whatever_the_upstream_speaks() {
    for extensions in [vec![], vec!["PIPELINING", "CHUNKING"]] {
        let stage = Stage::new(Script { extensions: extensions.clone(), ..Script::default() });
        let mut client = stage.client("alice").await;
        let message = format!("From: alice@example.com\r\nMessage-ID: <1@example.com>\r\n\r\n{BODY}.\r\nthe end");
        assert!(client.mail("").await.starts_with("250"));
        assert!(client.rcpt("<r0@example.net>").await.starts_with("250"));
        for chunk in message.as_bytes().chunks(20) {
            client.write(format!("BDAT {}\r\n", chunk.len()).as_bytes()).await;
            client.write(chunk).await;
            let said = client.hear().await;
            assert!(said.ends_with("so far"), "{said}");
            assert!(!stage.up.heard().iter().any(|line| line == "DATA" || line.starts_with("BDAT")));
        }
        let said = client.say("BDAT 0 LAST").await;
        assert!(said.starts_with("250 2.0.0 Relayed, id="), "{said}");
        assert_eq!(ends(&stage).await, (1, 0), "{extensions:?}");
        let octets = String::from_utf8(stage.up.taken().remove(0).octets).unwrap();
        // By DATA there is no way to end a message but behind a whole line.
        assert!(octets.trim_end().ends_with(&message), "{octets}");
        // Who goes between two chunks leaves nothing, here or there.
        client.begin_chunks().await;
        drop(client);
        stage.is_clean("gone between two chunks").await;
        assert_eq!(ends(&stage).await, (1, 0), "{extensions:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_connection_carries_message_after_message_with_rset_only_where_it_is_due() {
    let (stage, log) = (Stage::new(Script::default()), Log::start());
    let mut client = stage.client("alice").await;
    for _ in 0..3 {
        assert!(client.send(&[BOB]).await.contains("Relayed"));
    }
    let told = log.lines("event=\"delivered\"");
    assert!(told.len() == 3 && told.iter().all(|line| line.contains(" began=\"2")), "{told:?}");
    assert!(client.mail("").await.starts_with("250"));
    assert!(client.rcpt("<r0@example.net>").await.starts_with("250"));
    assert!(client.say("RSET").await.starts_with("250"));
    assert!(client.send(&[BOB]).await.contains("Relayed"));
    let resets = stage.up.heard().iter().filter(|line| *line == "RSET").count();
    assert_eq!((stage.up.connections(), stage.up.taken().len(), resets), (1, 4, 1));
}

// Refused.

#[tokio::test(start_paused = true)]
async fn a_refused_recipient_is_told_at_rcpt_and_the_others_get_it() {
    let stage = Stage::new(Script { recipients: vec![("r1@", "550 5.1.1 nobody\r\n")], ..Script::default() });
    let mut client = stage.client("alice").await;
    assert!(client.mail("").await.starts_with("250"));
    assert!(client.rcpt("<r0@example.net>").await.starts_with("250"));
    assert_eq!(client.rcpt("<r1@example.net>").await, "550 5.1.1 Upstream said: nobody");
    assert!(client.rcpt("<r2@example.net>").await.starts_with("250"));
    assert!(client.say("DATA").await.starts_with("354"));
    let message = client.message("");
    client.write(message.as_bytes()).await;
    assert!(client.hear().await.contains("Relayed"));
    assert_eq!(ends(&stage).await, (1, 0));
    assert_eq!(stage.up.taken()[0].recipients, ["RCPT TO:<r0@example.net>", "RCPT TO:<r2@example.net>"]);
    // When nobody is taken, no message is sent.
    assert_eq!(client.send(&[CAROL]).await, "550 5.1.1 Upstream said: nobody");
    assert_eq!(ends(&stage).await, (1, 0));
    assert!(client.say("RSET").await.starts_with("250"));
    stage.is_clean("refused").await;
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_told_in_the_upstreams_words_and_nobody_has_it() {
    for (script, expected) in [
        (saying(Phase::Mail, b"550 5.1.8 not you\r\n"), "550 5.1.8 Upstream said: not you"),
        (saying(Phase::Recipient, b"551 not here\r\n"), "551 5.0.0 Upstream said: not here"),
        (saying(Phase::Data, b"554 5.6.0 no\r\n"), "554 5.6.0 Upstream said: no"),
        (
            saying(Phase::EndOfData, b"554-5.7.1 spam,\r\n554 5.7.1 all of it\r\n"),
            "554 5.7.1 Upstream said: spam, all of it",
        ),
        (saying(Phase::EndOfData, b"550 5.6.0 \xe4\x07\r\n"), "550 5.6.0 Upstream said: \\x{FFFD}?"),
        // What speaks of the upstream's own dialogue, or of its host, is a refusal of the mail and no more.
        (saying(Phase::Mail, b"555 5.5.4 BODY\r\n"), "550 5.0.0 Upstream said: 555 BODY"),
        (saying(Phase::Recipient, b"521 5.3.2 no mail\r\n"), "550 5.3.2 Upstream said: 521 no mail"),
        (saying(Phase::EndOfData, b"503 5.5.1 order\r\n"), "554 5.0.0 Upstream said: 503 order"),
    ] {
        let story = format!("{:?}", script.misdeed);
        let stage = Stage::new(script);
        assert_eq!(stage.send(&[BOB]).await, expected, "{story}");
        assert_eq!(ends(&stage).await, (0, 0), "{story}");
        stage.is_clean(&story).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_for_the_upstream_is_refused_and_not_sent() {
    let stage = Stage::new(Script { extensions: vec!["SIZE 99"], ..Script::default() });
    let said = stage.send(&[BOB]).await;
    assert!(said.starts_with("552 5.3.4 the message has"), "{said}");
    assert_eq!(ends(&stage).await, (0, 0));
    assert!(!stage.up.heard().iter().any(|line| line == "DATA"));
}

#[tokio::test(start_paused = true)]
async fn with_soft_bounce_nothing_is_refused_to_the_client() {
    for phase in [Phase::Mail, Phase::Recipient, Phase::EndOfData] {
        let stage = Stage::new(saying(phase, b"550 5.7.1 no\r\n"));
        stage.soften();
        let said = stage.send(&[BOB]).await;
        assert!(said.starts_with("250 2.0.0 Accepted, id="), "{phase:?}: {said}");
        assert_eq!(ends(&stage).await, (0, 1), "{phase:?}");
    }
}

/// Five alike speak of us: then mail waits, as it does in the queue.
#[tokio::test(start_paused = true)]
async fn an_upstream_that_refuses_everybody_alike_is_believed_four_times() {
    for phase in [Phase::Recipient, Phase::EndOfData] {
        let refusing = || saying(phase, b"550 5.7.1 we do not know you\r\n");
        let stage = Stage::new(refusing());
        for _ in 0..4 {
            assert!(stage.send(&[BOB]).await.starts_with("550 5.7.1"), "{phase:?}");
            stage.up.turn_into(refusing());
        }
        assert!(stage.send(&[BOB]).await.starts_with("250 2.0.0 Accepted"), "{phase:?}");
        assert_eq!(ends(&stage).await, (0, 1), "{phase:?}");
    }
}

// Neither.

/// Whatever comes of it, the client hears 250 once the message is kept, within the time that clients wait, and it arrives once.
async fn goes_to_the_queue(script: Script, most: Duration) -> Record {
    let story = format!("{script:?}");
    let stage = Stage::new(script);
    let began = Instant::now();
    let said = stage.send(&[BOB, CAROL]).await;
    assert!(said.starts_with("250 2.0.0 Accepted, id="), "{story}: {said}");
    assert!(began.elapsed() <= most, "{story}: {:?}", began.elapsed());
    let record = only(stage.records().await);
    assert!(record.open_recipients().len() == 2 && record.state == State::Queued, "{story}: {record:?}");
    stage.is_clean(&story).await;
    // All is well again.
    let before = stage.up.taken().len();
    stage.house.courier.close().await;
    stage.up.turn_into(Script::default());
    stage.deliver();
    tokio::time::sleep(3 * HOUR).await;
    assert_eq!(ends(&stage).await, (before + 1, 0), "{story}");
    assert_eq!(stage.up.taken().pop().unwrap().recipients.len(), 2, "{story}");
    record
}

#[tokio::test(start_paused = true)]
async fn what_is_put_off_goes_to_the_queue_whole() {
    for script in [
        saying(Phase::Greeting, b"421 4.3.2 later\r\n"),
        saying(Phase::Greeting, b"554 5.3.2 no service\r\n"),
        saying(Phase::Mail, b"451 4.3.0 later\r\n"),
        saying(Phase::Mail, b"530 5.7.0 log in first\r\n"),
        saying(Phase::Recipient, b"450 4.2.0 later\r\n"),
        saying(Phase::Recipient, b"452 4.5.3 too many\r\n"),
        saying(Phase::Recipient, b"421 4.3.2 later\r\n"),
        saying(Phase::Recipient, b"what?\r\n"),
        Script { recipients: vec![("r1@", "450 4.2.1 later\r\n")], ..Script::default() },
        Script { recipients_max: Some(1), ..Script::default() },
        saying(Phase::Data, b"421 4.3.2 later\r\n"),
        at(Phase::Data, Misdeed::SayAndClose(b"")),
    ] {
        let record = goes_to_the_queue(script, Duration::from_secs(1)).await;
        assert!(!record.recipients[0].undetermined);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_put_off_at_its_end_is_in_the_queue_with_the_attempt() {
    let record = goes_to_the_queue(saying(Phase::EndOfData, b"451 4.7.1 greylisted\r\n"), Duration::from_secs(1)).await;
    assert_eq!((record.attempts, record.recipients[0].attempts), (1, 1));
    let wait = record.due.since(record.trace.arrived);
    assert!((HOUR..=HOUR + HOUR / 5).contains(&wait), "{wait:?}: as `retry` says, and some of it by lot");
    let Some(Outcome::Deferred { reply: Some(reply), .. }) = &record.recipients[1].last else { panic!("{record:?}") };
    assert_eq!(reply.to_string(), "451 4.7.1 greylisted");
    assert_eq!(record.recipients[0].last_attempt.as_ref().unwrap().1, "main");
    assert!(!record.recipients[0].undetermined);
}

#[tokio::test(start_paused = true)]
async fn silence_lasts_no_longer_than_clients_wait() {
    for phase in [Phase::Greeting, Phase::Hello, Phase::Mail, Phase::Recipient, Phase::Data] {
        let record = goes_to_the_queue(silent_at(phase), WAIT + Duration::from_secs(1)).await;
        assert!(!record.recipients[0].undetermined, "{phase:?}");
    }
    let dribbling = at(Phase::Recipient, Misdeed::Dribble(b"250 2.1.5 so slow\r\n"));
    goes_to_the_queue(dribbling, WAIT + Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn silence_behind_the_final_dot_is_undetermined_and_the_next_attempt_asks_the_same_upstream() {
    let record = goes_to_the_queue(silent_at(Phase::EndOfData), WAIT + Duration::from_secs(1)).await;
    assert!(record.recipients.iter().all(|one| one.undetermined), "{record:?}");
    assert_eq!(record.undetermined_upstream(&[0, 1]), Some("main"));
    let Some(Outcome::Deferred { reason, .. }) = &record.recipients[0].last else { panic!("{record:?}") };
    assert!(reason.contains("silent for 30s") && reason.contains("may have taken"), "{reason}");
}

/// The window that is written down: taken, and not said so.
#[tokio::test(start_paused = true)]
async fn an_upstream_that_took_it_without_a_word_has_it_twice() {
    let stage = Stage::new(at(Phase::EndOfData, Misdeed::TakeAndVanish));
    assert!(stage.send(&[BOB]).await.starts_with("250 2.0.0 Accepted"));
    assert!(only(stage.records().await).recipients[0].undetermined);
    stage.up.turn_into(Script::default());
    stage.deliver();
    tokio::time::sleep(3 * HOUR).await;
    assert_eq!(ends(&stage).await, (2, 0));
}

#[tokio::test(start_paused = true)]
async fn after_one_client_has_waited_in_vain_no_other_waits_until_the_upstream_answers() {
    let stage = Stage::new(silent_at(Phase::Greeting));
    assert!(stage.send(&[BOB]).await.starts_with("250 2.0.0 Accepted"));
    let began = Instant::now();
    assert!(stage.send(&[BOB]).await.starts_with("250 2.0.0 Accepted"));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let unanswered = stage.house.courier.standings()[0].unanswered;
    assert_eq!(unanswered, 0, "half a minute is no attempt without an answer for a minute");
    stage.up.turn_into(Script::default());
    stage.deliver();
    tokio::time::sleep(MINUTE).await;
    assert_eq!(ends(&stage).await, (2, 0));
    assert!(stage.send(&[BOB]).await.contains("Relayed"), "it has answered");
}

/// The goodbye to a connection that had carried all it may was waited for as long as the upstream liked, before the client's own time began.
#[tokio::test(start_paused = true)]
async fn a_client_does_not_wait_longer_for_an_upstream_that_is_silent_at_quit() {
    let mut one_each = Upstream { messages_per_connection: 1, ..upstream() };
    one_each.deadlines.quit = 5 * MINUTE;
    let script = Script { at_message: 1, ..silent_at(Phase::Quit) };
    let stage = Stage::by(script, Script::default(), through(vec![one_each]));
    assert!(stage.send(&[BOB]).await.contains("Relayed"));
    let began = Instant::now();
    assert!(stage.send(&[BOB]).await.contains("Relayed"));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(ends(&stage).await, (2, 0));
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_is_left_alone_is_not_probed_by_who_has_a_client_waiting() {
    let stage = Stage::new(saying(Phase::Greeting, b"554 5.3.2 no service\r\n"));
    for _ in 0..5 {
        assert!(stage.send(&[BOB]).await.starts_with("250 2.0.0 Accepted"));
    }
    let tried = stage.up.connections();
    assert!(stage.send(&[BOB]).await.starts_with("250 2.0.0 Accepted"));
    tokio::time::sleep(MINUTE).await;
    assert!(stage.send(&[BOB]).await.starts_with("250 2.0.0 Accepted"));
    assert_eq!((stage.up.connections(), tried), (5, 5));
}

#[tokio::test(start_paused = true)]
async fn the_next_upstream_is_asked_where_the_first_was_not_reached() {
    let spare_takes = |script: Script| Stage::by(script, Script::default(), through(vec![upstream(), spare()]));
    let stage = spare_takes(saying(Phase::Greeting, b"421 4.3.2 later\r\n"));
    assert!(stage.send(&[BOB]).await.contains("Relayed"));
    assert_eq!(ends(&stage).await, (0, 0), "the spare one has it");
    // What has heard MAIL is asked to the end.
    let stage = spare_takes(saying(Phase::Mail, b"421 4.3.2 later\r\n"));
    assert!(stage.send(&[BOB]).await.starts_with("250 2.0.0 Accepted"));
    assert_eq!(ends(&stage).await, (0, 1));
}

// Not for cut-through.

#[tokio::test(start_paused = true)]
async fn recipients_of_two_routes_go_by_the_queue_and_each_gets_it_once() {
    let stage = Stage::by(Script::default(), Script::default(), two_ways());
    assert!(stage.send(&[BOB, "a@example.org", CAROL]).await.starts_with("250 2.0.0 Accepted"));
    assert_eq!(ends(&stage).await, (0, 1));
    stage.deliver();
    tokio::time::sleep(MINUTE).await;
    assert_eq!(ends(&stage).await, (1, 0));
    assert_eq!(stage.up.taken()[0].recipients.len(), 2);
    assert!(stage.send(&["a@example.org"]).await.contains("Relayed"));
}

#[tokio::test(start_paused = true)]
async fn what_must_wait_or_be_told_of_later_goes_by_the_queue() {
    for (persona, parameters, to, extensions, expected) in [
        ("novice", "", "r0@example.net", vec![], "250 2.0.0 Accepted, held"),
        ("alice", " HOLDFOR=3600", "r0@example.net", vec![], "250 2.0.0 Accepted, to be sent on"),
        ("alice", " BY=3600;N", "r0@example.net", vec!["DELIVERBY"], "250 2.0.0 Accepted, id="),
        ("alice", "", "<r0@example.net> NOTIFY=SUCCESS", vec![], "250 2.0.0 Accepted, id="),
        ("alice", "", "<r0@example.net> NOTIFY=SUCCESS", vec!["DSN"], "250 2.0.0 Relayed, id="),
        ("alice", " SMTPUTF8", "r0@example.net", vec![], "250 2.0.0 Accepted, id="),
        ("alice", " SMTPUTF8", "r0@example.net", vec!["SMTPUTF8"], "250 2.0.0 Relayed, id="),
        ("alice", " REQUIRETLS", "r0@example.net", vec!["REQUIRETLS"], "250 2.0.0 Accepted, id="),
    ] {
        let stage = Stage::new(Script { extensions: extensions.clone(), ..Script::default() });
        let said = stage.client(persona).await.send_with(parameters, &[to], "").await;
        assert!(said.starts_with(expected), "{persona}{parameters} {to} {extensions:?}: {said}");
        let relayed = usize::from(expected.contains("Relayed"));
        assert_eq!(ends(&stage).await, (relayed, 1 - relayed), "{parameters} {to}");
        stage.is_clean(parameters).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_client_asked_for_is_passed_on() {
    let stage = Stage::new(Script { extensions: vec!["DSN", "SIZE 1000000", "8BITMIME"], ..Script::default() });
    let to = "<r0@example.net> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;bob@example.org";
    // RFC 4954 §5: what a client says of who submitted it is believed nowhere, and goes nowhere.
    let parameters = " SIZE=200 BODY=8BITMIME AUTH=bob@example.com RET=HDRS ENVID=abc";
    let said = stage.client("alice").await.send_with(parameters, &[to], "").await;
    assert!(said.contains("Relayed"), "{said}");
    let taken = stage.up.taken().remove(0);
    assert_eq!(taken.mail, "MAIL FROM:<alice@example.com> SIZE=200 BODY=8BITMIME RET=HDRS ENVID=abc");
    assert_eq!(taken.recipients, [format!("RCPT TO:{to}")]);
}

#[tokio::test(start_paused = true)]
async fn what_every_upstream_of_the_route_is_known_to_lack_is_refused_until_it_offers_it() {
    let stage = Stage::new(Script::default());
    let mut zoe = stage.client("zoe").await;
    let refused = "553 5.6.7 Non-ASCII address, and no server on the way out takes any";
    // Nobody knows yet; the queue finds out.
    assert!(zoe.send_with(" SMTPUTF8", &["zoë@example.net"], "").await.starts_with("250 2.0.0 Accepted"));
    assert!(zoe.send_with("", &[BOB], "").await.contains("Relayed"));
    assert_eq!(zoe.send_with(" SMTPUTF8", &["zoë@example.net"], "").await, refused);
    // What is believed is looked at again.
    stage.up.turn_into(Script { extensions: vec!["SMTPUTF8"], ..Script::default() });
    tokio::time::sleep(16 * MINUTE).await;
    stage.house.courier.close_idle().await;
    assert!(stage.client("zoe").await.send_with(" SMTPUTF8", &["zoë@example.net"], "").await.contains("Relayed"));
}

// Places.

#[tokio::test(start_paused = true)]
async fn clients_have_half_of_the_connections_and_none_that_the_queue_waits_for() {
    for (connections, most) in [(1, 1), (2, 1), (5, 3)] {
        let limited = Upstream { connections, ..upstream() };
        let stage = Stage::by(Script::default(), Script::default(), through(vec![limited]));
        let mut clients = Vec::new();
        for _ in 0..most {
            let mut client = stage.client("alice").await;
            client.begin(&[BOB]).await;
            clients.push(client);
        }
        assert_eq!(stage.standing().busy, most, "of {connections}");
        assert!(stage.send(&[BOB]).await.starts_with("250 2.0.0 Accepted"), "of {connections}");
        for client in &mut clients {
            let message = client.message("");
            client.write(message.as_bytes()).await;
            assert!(client.hear().await.contains("Relayed"), "of {connections}");
        }
        assert_eq!(ends(&stage).await, (most, 1));
        stage.deliver();
        tokio::time::sleep(MINUTE).await;
        assert_eq!(ends(&stage).await, (most + 1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn mail_of_the_queue_that_waits_for_a_connection_goes_before_clients() {
    let stage =
        Stage::by(Script::default(), Script::default(), through(vec![Upstream { connections: 1, ..upstream() }]));
    let mut slow = stage.client("alice").await;
    slow.begin(&[BOB]).await;
    assert!(stage.send(&[BOB]).await.starts_with("250 2.0.0 Accepted"));
    stage.deliver();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((stage.standing().busy, stage.standing().waiting), (1, 1));
    let message = slow.message("");
    slow.write(message.as_bytes()).await;
    assert!(slow.hear().await.contains("Relayed"));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(ends(&stage).await, (2, 0));
    assert_eq!(stage.up.connections(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_its_time_keeps_no_connection_and_its_mail_is_kept() {
    let stage = Stage::new(Script::default());
    let mut client = stage.client("alice").await;
    assert!(client.mail("").await.starts_with("250"));
    assert!(client.rcpt("<r0@example.net>").await.starts_with("250"));
    tokio::time::sleep(Duration::from_secs(119)).await;
    stage.house.courier.close_idle().await;
    assert_eq!(stage.standing().busy, 1);
    tokio::time::sleep(Duration::from_secs(2)).await;
    stage.house.courier.close_idle().await;
    assert_eq!(stage.standing().busy, 0);
    assert!(client.say("DATA").await.starts_with("354"));
    let message = client.message("");
    client.write(message.as_bytes()).await;
    assert!(client.hear().await.starts_with("250 2.0.0 Accepted"));
    assert_eq!(ends(&stage).await, (0, 1));
}

// What changes meanwhile.

#[tokio::test(start_paused = true)]
async fn who_is_gone_from_the_roster_before_the_end_sends_nothing() {
    let stage = Stage::new(Script::default());
    let mut client = stage.client("zoe").await;
    client.begin(&[BOB]).await;
    stage.change(|now| Snapshot { roster: Arc::default(), ..now });
    let message = client.message("");
    client.write(message.as_bytes()).await;
    let said = client.hear().await;
    assert!(said.starts_with("554 5.7.1"), "{said}");
    assert_eq!(ends(&stage).await, (0, 0));
    assert!(!stage.up.heard().iter().any(|line| line == "DATA"));
    drop(client);
    stage.is_clean("gone").await;
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_is_not_configured_any_more_or_otherwise_gets_nothing_from_who_had_asked_it() {
    type Change = fn() -> Routes;
    let changes: [Change; 2] =
        [|| through(vec![spare()]), || through(vec![Upstream { helo: "other.example.com".into(), ..upstream() }])];
    for change in changes {
        let stage = Stage::new(Script::default());
        let mut client = stage.client("alice").await;
        client.begin(&[BOB]).await;
        stage.change(|now| Snapshot { routes: Arc::new(change()), ..now });
        let message = client.message("");
        client.write(message.as_bytes()).await;
        let said = client.hear().await;
        assert!(said.starts_with("250 2.0.0 Accepted"), "{said}");
        assert_eq!(ends(&stage).await, (0, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_leaves_the_upstream_as_it_is_changes_nothing() {
    let stage = Stage::new(Script::default());
    let mut client = stage.client("alice").await;
    client.begin(&[BOB]).await;
    stage.change(|now| Snapshot { routes: Arc::new(through(vec![upstream()])), ..now });
    let message = client.message("");
    client.write(message.as_bytes()).await;
    assert!(client.hear().await.contains("Relayed"));
    assert!(stage.send(&[BOB]).await.contains("Relayed"));
}

#[tokio::test(start_paused = true)]
async fn a_drain_lets_the_message_under_way_through() {
    let stage = Stage::new(Script::default());
    let mut client = stage.client("alice").await;
    client.begin(&[BOB]).await;
    stage.house.tasks.begin_drain();
    stage.house.courier.stop();
    let message = client.message("");
    client.write(message.as_bytes()).await;
    assert!(client.hear().await.contains("Relayed"));
    assert!(client.hear().await.starts_with("421 4.3.2"));
    assert_eq!(ends(&stage).await, (1, 0));
    stage.is_clean("drained").await;
}

/// Once the client heard nothing, and the queue knew nothing of an upstream that had the message whole: who sent it again had it twice.
#[tokio::test(start_paused = true)]
async fn at_the_end_of_a_drain_who_waits_behind_the_dot_is_answered_and_the_upstream_is_noted() {
    let stage = Stage::new(Script { poison: Some(("r0@", true)), ..Script::default() });
    let mut client = stage.client("alice").await;
    client.begin(&[BOB]).await;
    let message = client.message("");
    client.write(message.as_bytes()).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let house = Arc::clone(&stage.house);
    let ending = tokio::spawn(async move { house.come_to_rest(Duration::from_secs(4)).await });
    let said = client.hear().await;
    assert!(said.starts_with("250 2.0.0 Accepted, id="), "{said}");
    ending.await.unwrap();
    let record = only(stage.records().await);
    assert_eq!(record.undetermined_upstream(&[0]), Some("main"), "{record:?}");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_ours_sends_nothing_on() {
    let stage = Stage::new(Script::default());
    let mut client = stage.client("alice").await;
    client.begin(&[BOB]).await;
    client.write(b"From: bob@example.com\r\n\r\nx\r\n.\r\n").await;
    assert!(client.hear().await.starts_with("550 5.7.1 From"));
    client.begin(&[BOB]).await;
    client.write(b"From: alice@example.com\r\n\r\nbare\nlf\r\n.\r\n").await;
    assert!(client.hear().await.starts_with("550 5.5.2"));
    assert_eq!(ends(&stage).await, (0, 0));
    assert!(!stage.up.heard().iter().any(|line| line == "DATA"));
    drop(client);
    stage.is_clean("refused by us").await;
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_hung_up_meanwhile_leaves_nothing_undetermined() {
    let stage = Stage::new(Script { extensions: vec!["CHUNKING"], closes_after_message: true, ..Script::default() });
    let mut client = stage.client("alice").await;
    assert!(client.send(&[BOB]).await.contains("Relayed"));
    // A kept connection that has ended: a new one is made.
    assert!(client.send(&[BOB]).await.contains("Relayed"));
    assert_eq!((stage.up.connections(), stage.up.taken().len()), (2, 2));
    let stage = Stage::new(at(Phase::Recipient, Misdeed::SayAndClose(b"CODE 2.1.5 ok, and bye\r\n")));
    assert!(stage.send(&[BOB]).await.starts_with("250 2.0.0 Accepted"));
    let record = only(stage.records().await);
    assert!(!record.recipients[0].undetermined && record.attempts == 0, "{record:?}");
}

// Limits.

#[tokio::test(start_paused = true)]
async fn what_goes_through_counts_and_who_is_refused_does_not() {
    let stage = Stage::new(Script { recipients: vec![("nobody@", "550 5.1.1 nobody\r\n")], ..Script::default() });
    // Two messages and four recipients an hour.
    let mut client = stage.client("metered").await;
    for _ in 0..6 {
        assert_eq!(client.send(&["nobody@example.net"]).await, "550 5.1.1 Upstream said: nobody");
        assert!(client.say("RSET").await.starts_with("250"));
    }
    assert!(client.send(&["nobody@example.net", BOB, CAROL]).await.contains("Relayed"));
    assert!(client.send(&["nobody@example.net", BOB, "nobody@example.net", CAROL]).await.contains("Relayed"));
    let said = client.send(&[BOB]).await;
    assert!(said.starts_with("451 4.7.0 Limit of 2 messages"), "{said}");
    assert_eq!(ends(&stage).await, (2, 0));
    // Also after a look at the disk: nothing of it is in memory alone.
    assert!(stage.client("metered").await.send(&[BOB]).await.starts_with("451 4.7.0"));
}

#[tokio::test(start_paused = true)]
async fn what_went_through_still_counts_after_a_power_cut() {
    let stage = Stage::new(Script::default());
    for _ in 0..2 {
        assert!(stage.client("metered").await.send(&[BOB]).await.contains("Relayed"));
    }
    let stage = stage.after_a_power_cut();
    let said = stage.client("metered").await.send(&[BOB]).await;
    assert!(said.starts_with("451 4.7.0 Limit of 2 messages"), "{said}");
    assert_eq!(ends(&stage).await, (0, 0));
}

/// The upstream has it: to let the client send it again since the ledger can't be written would be a second copy.
#[tokio::test(start_paused = true)]
async fn what_a_failing_disk_can_not_charge_is_relayed_all_the_same_and_once() {
    let stage = Stage::new(Script::default());
    let mut client = stage.client("metered").await;
    assert!(client.mail("").await.starts_with("250"));
    assert!(client.rcpt("<r0@example.net>").await.starts_with("250"));
    assert!(client.say("DATA").await.starts_with("354"));
    stage.disk.fail(1, u64::MAX, Fault::Error);
    let (message, began) = (client.message(""), Instant::now());
    client.write(message.as_bytes()).await;
    let said = client.hear().await;
    assert!(said.contains("Relayed") && began.elapsed() < MINUTE, "{said}");
    stage.disk.mend();
    // It counted for nothing, and nothing of it is held.
    for _ in 0..2 {
        assert!(client.send(&[BOB]).await.contains("Relayed"));
    }
    assert!(client.send(&[BOB]).await.starts_with("451 4.7.0 Limit of 2 messages"));
    assert_eq!(ends(&stage).await, (3, 0));
    stage.is_clean("charged to nobody").await;
}

#[tokio::test(start_paused = true)]
async fn a_message_that_the_upstream_refuses_costs_nothing() {
    let stage = Stage::new(saying(Phase::EndOfData, b"554 5.6.0 no\r\n"));
    let mut client = stage.client("metered").await;
    for _ in 0..5 {
        stage.up.turn_into(saying(Phase::EndOfData, b"554 5.6.0 no\r\n"));
        assert!(client.send(&[BOB]).await.starts_with("554 5.6.0"));
    }
}

// Gone.

#[tokio::test(start_paused = true)]
async fn a_client_gone_at_any_point_leaves_nothing_or_a_message_that_is_upstream() {
    let parts = |client: &stage::Client| {
        let message = client.message("");
        let half = message.len() / 2;
        vec![
            (b"MAIL FROM:<alice@example.com>\r\n".to_vec(), true),
            (b"RCPT TO:<r0@example.net>\r\n".to_vec(), true),
            (b"DATA\r\n".to_vec(), true),
            (message.as_bytes()[..half].to_vec(), false),
            (message.as_bytes()[half..message.len() - 3].to_vec(), false),
            // It hears nothing of the last.
            (b".\r\n".to_vec(), false),
        ]
    };
    for gone_after in 0..=6 {
        let stage = Stage::new(Script::default());
        let mut client = stage.client("alice").await;
        for (octets, answered) in parts(&client).into_iter().take(gone_after) {
            client.write(&octets).await;
            if answered {
                client.hear().await;
            }
        }
        drop(client);
        let story = format!("gone after {gone_after}");
        stage.is_clean(&story).await;
        // RFC 5321 §4.1.1.4: the dot was said, so it is delivered, though the client does not know: it may send it again.
        assert_eq!(ends(&stage).await, (usize::from(gone_after == 6), 0), "{story}");
        // What is left of it hinders nobody.
        assert!(stage.send(&[BOB]).await.contains("Relayed"), "{story}");
    }
}

/// As a kill does: what was answered 250 is upstream or in the queue, and nothing is held by nobody.
#[test]
fn intake_dropped_at_any_poll_answers_250_only_for_what_somebody_has() {
    for (script, name) in [
        (Script { extensions: vec!["PIPELINING"], ..Script::default() }, "takes"),
        (saying(Phase::EndOfData, b"451 4.3.0 later\r\n"), "puts off"),
        (saying(Phase::Recipient, b"451 4.3.0 later\r\n"), "puts the recipient off"),
    ] {
        for nth in 1.. {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            let done = runtime.block_on(async {
                let stage = Stage::new(script.clone());
                let (mut client, intake) = stage.conversation("alice");
                let polled = async { Polled { work: Box::pin(intake), left: nth }.await };
                let talking = async {
                    let mut last = client.hear().await;
                    for line in
                        ["EHLO client.example", "MAIL FROM:<alice@example.com>", "RCPT TO:<r0@example.net>", "DATA"]
                    {
                        if last.is_empty() {
                            return last;
                        }
                        last = client.try_say(&format!("{line}\r\n")).await;
                    }
                    if last.starts_with("354") {
                        let message = client.message("");
                        last = client.try_say(&message).await;
                        client.try_say("QUIT\r\n").await;
                    }
                    last
                };
                let (done, last) = tokio::join!(polled, talking);
                let (upstream, kept) = ends(&stage).await;
                let story = format!(
                    "{name}, dropped at poll {nth}, {upstream} upstream, {kept} kept, the client heard {last:?}"
                );
                assert!(upstream + kept <= 1, "{story}");
                let promised = last.contains(" id=");
                assert!(!promised || upstream + kept == 1, "{story}");
                assert!(!done || promised, "{story}");
                assert!(!last.contains("Relayed") || upstream == 1, "{story}");
                stage.is_clean(&story).await;
                done
            });
            if done {
                assert!(nth > 8, "{name}: {nth} polls");
                break;
            }
        }
    }
}
