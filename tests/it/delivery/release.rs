//! FUTURERELEASE (RFC 4865): whose message was to wait must have a certificate that is good until it is released.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use sealpost::identity::{Digest256, Roster};
use sealpost::mail::{Envelope, MailParameters};
use sealpost::queue::{Custodian, State};
use sealpost::snapshot::{Door, Recheck, Snapshot};
use sealpost::sys::{Clock, ManualClock, WallTime};
use sealpost::tls::{Pins, Trust};
use sealpost::upstream::Phase;

use super::stage::{Stage, upstream};
use super::{HOUR, MINUTE, Misdeed, Script, at};
use crate::dialog::cast::mailboxes;
use crate::dialog::tls::bare_snapshot;
use crate::recipe::NOW;

const SECOND: Duration = Duration::from_secs(1);
const LEAF: Digest256 = Digest256([5; 32]);
const KEY: Digest256 = Digest256([6; 32]);

/// A door without CAs.
fn door() -> Door {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(WallTime::from_seconds(NOW)));
    Door::clone(&bare_snapshot(&clock).doors[0])
}

/// Runs what is asynchronous; the door is made where no runtime is, for it has one of its own.
fn on_virtual_time(test: impl AsyncFnOnce(&Door)) {
    let door = door();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(test(&door));
}

/// Certificates of staff count, and these pins.
fn counting(stage: &Stage, door: &Door, pins: Pins, recheck: Recheck) {
    let now = stage.house.snapshot();
    let door = Door { trust: Arc::new(Trust::new(Vec::new(), pins)), ..door.clone() };
    let roster = Arc::new(Roster::new(Vec::new(), vec![mailboxes("staff")]).unwrap());
    stage.house.swap(Snapshot { roster, doors: vec![Arc::new(door)], recheck, ..Snapshot::clone(&now) });
}

/// Alice's, who showed a certificate that ends so.
fn alice(ends: Option<WallTime>) -> Custodian {
    Custodian {
        identity: "staff:alice@example.com".to_owned(),
        ca: Some("staff".to_owned()),
        fingerprint: LEAF.to_string(),
        key: Some(KEY.0),
        ends,
        ..Custodian::ours()
    }
}

async fn envelope(stage: &Stage, hold_until: Option<WallTime>) -> Envelope {
    let id = stage.submit(1).await[0];
    let known = stage.record(id).await.unwrap().envelope;
    stage.house.queue.remove(id).await.unwrap();
    let parameters = MailParameters { hold_until, ..MailParameters::default() };
    Envelope::new(known.reverse_path().clone(), parameters, known.recipients().to_vec()).unwrap()
}

#[test]
fn a_message_that_was_to_wait_is_held_when_its_certificate_has_ended_by_then() {
    on_virtual_time(ended_or_not);
}

async fn ended_or_not(door: &Door) {
    let pinned = |ignoring: Digest256| Pins {
        certificates: HashSet::new(),
        keys: HashSet::from([KEY]),
        ignoring_expiry: HashSet::from([ignoring]),
    };
    let none = Pins::default;
    let (nine, far) = (HOUR * 9, HOUR * 1000);
    for (what, hold, ends, pins, sent) in [
        ("good for long", Some(nine), Some(far), none(), true),
        ("until that second", Some(nine), Some(nine), none(), true),
        ("until the second before", Some(nine), Some(nine - SECOND), none(), false),
        ("ended long before", Some(nine), Some(MINUTE), none(), false),
        ("nobody knows, as in what an earlier build kept", Some(nine), None, none(), true),
        ("its key is pinned beyond its end", Some(nine), Some(MINUTE), pinned(KEY), true),
        ("another is", Some(nine), Some(MINUTE), pinned(LEAF), false),
        // What waits for nothing but its upstream was good when it was taken.
        ("not to wait", None, Some(MINUTE), none(), true),
    ] {
        // Down for an hour: what was to wait is not tried before its moment, and what was not is tried when the certificate has ended.
        let stage = Stage::new(at(Phase::Mail, Misdeed::Say(b"451 later\r\n")), upstream());
        let began = stage.house.now().wall;
        let envelope = envelope(&stage, hold.map(|hold| began.after(hold))).await;
        let id = stage.send_as(alice(ends.map(|ends| began.after(ends))), envelope).await;
        counting(&stage, door, pins, Recheck::Yes);
        stage.run();
        stage.pass(HOUR).await;
        stage.up.turn_into(Script::default());
        stage.pass(HOUR * 11).await;
        if sent {
            assert_eq!((stage.up.taken().len(), stage.count().await), (1, 0), "{what}");
            continue;
        }
        let held = stage.record(id).await.unwrap();
        assert_eq!((held.state, stage.up.taken().len()), (State::Held, 0), "{what}");
        let reason = held.reason.unwrap();
        assert!(reason.starts_with("staff:alice@example.com: its certificate ended on "), "{what}: {reason}");
        // An operator who has seen it lets it go.
        stage.house.queue.release(id).await.unwrap();
        stage.pass(MINUTE).await;
        assert_eq!((stage.up.taken().len(), stage.count().await), (1, 0), "{what}");
    }
}

#[test]
fn an_end_behind_the_release_takes_nothing_back() {
    on_virtual_time(down_at_the_release);
}

/// The upstream is down when the message is released, and up again when the certificate has ended.
async fn down_at_the_release(door: &Door) {
    let stage = Stage::new(at(Phase::Mail, Misdeed::Say(b"451 later\r\n")), upstream());
    let until = stage.house.now().wall.after(HOUR * 9);
    let envelope = envelope(&stage, Some(until)).await;
    let id = stage.send_as(alice(Some(until.after(HOUR))), envelope).await;
    counting(&stage, door, Pins::default(), Recheck::No);
    stage.run();
    stage.pass(HOUR * 11).await;
    assert!(stage.record(id).await.unwrap().attempts > 0);
    stage.up.turn_into(Script::default());
    stage.pass(HOUR * 2).await;
    assert_eq!((stage.up.taken().len(), stage.count().await), (1, 0));
}

#[test]
fn an_operator_who_sends_it_before_its_moment_asks_for_the_certificate_of_that_moment() {
    on_virtual_time(tried_early);
}

async fn tried_early(door: &Door) {
    let stage = Stage::new(Script::default(), upstream());
    let now = stage.house.now().wall;
    let envelope = envelope(&stage, Some(now.after(HOUR * 9))).await;
    let id = stage.send_as(alice(Some(now.after(HOUR))), envelope).await;
    counting(&stage, door, Pins::default(), Recheck::No);
    stage.run();
    stage.house.queue.retry(id).await.unwrap();
    stage.pass(MINUTE).await;
    assert_eq!((stage.up.taken().len(), stage.count().await), (1, 0));
}
