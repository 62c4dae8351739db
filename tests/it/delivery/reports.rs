//! What senders are told: by whom, of whom, which way, and where nobody may be told.

use std::sync::Arc;
use std::time::Duration;

use sealpost::mail::{
    Address, DeliverBy, Envelope, ForwardPath, MailParameters, Notify, Recipient, RecipientParameters, Ret, ReversePath,
};
use sealpost::queue::{Custodian, QueueError, State};
use sealpost::report::Reporter;
use sealpost::snapshot::Snapshot;
use sealpost::sys::disk::Fault;

use super::stage::{Log, Stage, of_reports, rest, spare, upstream};
use super::{HOUR, MINUTE, at, refusing, seconds};
use crate::scripted_upstream::{Misdeed, Script, Taken};
use sealpost::upstream::Phase;

const SUCCESS: Notify = Notify { success: true, failure: true, delay: false };

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn from(sender: &str) -> ReversePath {
    if sender.is_empty() { ReversePath::Null } else { ReversePath::Address(address(sender)) }
}

/// Of `sender`, to one recipient for each NOTIFY: r0, r1, ...
fn envelope(sender: &str, parameters: MailParameters, notify: &[Option<Notify>]) -> Envelope {
    let to = |(number, notify): (usize, &Option<Notify>)| Recipient {
        forward_path: ForwardPath::Address(address(&format!("r{number}@example.net"))),
        parameters: RecipientParameters { notify: *notify, orcpt: None },
    };
    Envelope::new(from(sender), parameters, notify.iter().enumerate().map(to).collect()).unwrap()
}

/// An upstream with these extensions.
fn with(extensions: &[&'static str]) -> Script {
    Script { extensions: extensions.to_vec(), ..Script::default() }
}

fn text(taken: &Taken) -> String {
    String::from_utf8(taken.octets.clone()).unwrap()
}

fn change(stage: &Stage, reporter: impl FnOnce(Reporter) -> Reporter) {
    let snapshot = stage.house.snapshot();
    let reporter = Arc::new(reporter((*snapshot.reporter).clone()));
    stage.house.swap(Snapshot { reporter, ..(*snapshot).clone() });
}

#[tokio::test(start_paused = true)]
async fn an_upstream_with_dsn_reports_by_itself_and_one_without_leaves_it_to_us() {
    let parameters = MailParameters { ret: Some(Ret::Full), envid: Some("QQ1".into()), ..MailParameters::default() };
    for (extensions, mail, rcpt, reports) in [
        (
            &["DSN"][..],
            "MAIL FROM:<alice@example.com> RET=FULL ENVID=QQ1",
            "RCPT TO:<r0@example.net> NOTIFY=SUCCESS,FAILURE",
            0,
        ),
        (&[][..], "MAIL FROM:<alice@example.com>", "RCPT TO:<r0@example.net>", 1),
    ] {
        let stage = Stage::new(with(extensions), upstream());
        let asked = [Some(SUCCESS), None, Some(Notify::NEVER)];
        stage.send(envelope("alice@example.com", parameters.clone(), &asked)).await;
        stage.run();
        stage.pass(seconds(5)).await;
        let taken = stage.up.taken();
        assert_eq!((taken[0].mail.as_str(), taken[0].recipients[0].as_str()), (mail, rcpt));
        assert_eq!(taken.len(), 1 + reports, "{taken:?}");
        if let Some(report) = taken.get(1) {
            let said = text(report);
            assert!(report.mail.starts_with("MAIL FROM:<>") && report.recipients == ["RCPT TO:<alice@example.com>"]);
            assert!(said.contains("\r\nAction: relayed\r\nStatus: 2.0.0\r\n"), "{said}");
            assert!(
                said.contains("\r\nOriginal-Envelope-Id: QQ1\r\n") && said.contains("text/rfc822-headers"),
                "{said}"
            );
            assert!(said.contains("r0@example.net") && !said.contains("r1@") && !said.contains("r2@"), "{said}");
        }
        assert_eq!(stage.count().await, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_is_told_of_success_who_has_no_address() {
    let stage = Stage::new(with(&[]), upstream());
    stage.send(envelope("", MailParameters::default(), &[Some(SUCCESS)])).await;
    stage.run();
    stage.pass(seconds(5)).await;
    assert_eq!((stage.up.taken().len(), stage.count().await), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_report_that_fails_is_dead_and_nothing_is_said_of_it_whoever_it_comes_from() {
    for sender in ["", "bounces@example.com"] {
        let refusing = Script {
            recipients: vec![("<r0@", "550 5.1.1 no\r\n"), ("<alice@", "550 5.1.1 no\r\n")],
            ..Script::default()
        };
        let stage = Stage::new(refusing, upstream());
        change(&stage, |reporter| Reporter { envelope_sender: from(sender), ..reporter });
        stage.send(envelope("alice@example.com", MailParameters::default(), &[None])).await;
        stage.run();
        stage.pass(seconds(5)).await;
        let records = stage.records().await;
        assert_eq!(records.len(), 1, "{records:?}");
        assert_eq!((records[0].state, records[0].custodian.identity.as_str()), (State::Dead, "reports"));
        assert!(records[0].reason.as_ref().unwrap().contains("nothing is reported on mail of our own"));
        assert_eq!(records[0].envelope.reverse_path(), &from(sender));
        stage.pass(HOUR * 24 * 6).await;
        assert_eq!(stage.count().await, 1, "and it stays");
    }
}

/// Whoever sends what fails at once, and takes no reports, once filled the queue for all with them: they were accounted to nobody.
#[tokio::test(start_paused = true)]
async fn reports_that_nobody_takes_fill_the_share_of_whom_they_are_about_and_nobody_elses() {
    let no = "550 5.1.1 no\r\n";
    let recipients = vec![("<r0@", no), ("<alice@", no), ("<later@", "450 4.2.1 not now\r\n")];
    let stage = Stage::with_room_for(100, Script { recipients, ..Script::default() });
    change(&stage, |reporter| Reporter { postmaster: Some(address("alice@example.com")), ..reporter });
    // All she may have, at once: each stays for one recipient, and has a report on the other and a copy for the postmaster, as far as there is room.
    stage.submit_to("alice", 10, &["r0@example.net", "later@example.net"]).await;
    stage.run();
    stage.pass(seconds(30)).await;
    let records = stage.records().await;
    let reports = records.iter().filter(|record| record.custodian.identity == "reports").count();
    let untold = records.iter().filter(|record| {
        let reason = record.reason.as_deref().unwrap_or_default();
        record.state == State::Dead && reason.starts_with("no report is kept on it: the identity's share")
    });
    assert_eq!((records.len(), reports, untold.count()), (13, 3, 7), "her share, and a quarter of it more");
    for (identity, refused) in [("alice", true), ("bob", false)] {
        let admitted = stage.house.queue.admit(identity, None).await;
        assert_eq!(matches!(admitted, Err(QueueError::Share(_))), refused, "{identity}");
    }
}

#[tokio::test(start_paused = true)]
async fn reports_have_an_upstream_and_a_sender_of_their_own_where_the_operator_wants_it() {
    let main = Script { recipients: vec![("<r0@", "550 5.1.1 no\r\n")], ..Script::default() };
    let stage = Stage::with_spare(main, with(&["DSN"]));
    stage.route(vec![of_reports(spare()), rest(upstream())]);
    change(&stage, |reporter| Reporter { envelope_sender: from("bounces@example.com"), ..reporter });
    stage.send(envelope("alice@example.com", MailParameters::default(), &[None, None])).await;
    stage.run();
    stage.pass(seconds(5)).await;
    let (mail, reports) = (stage.up.taken(), stage.spare.as_ref().unwrap().taken());
    assert_eq!((mail.len(), reports.len()), (1, 1));
    assert!(reports[0].mail.starts_with("MAIL FROM:<bounces@example.com>"), "{:?}", reports[0]);
    assert_eq!(reports[0].recipients, ["RCPT TO:<alice@example.com> NOTIFY=NEVER"], "RFC 3461 §6.1");
}

#[tokio::test(start_paused = true)]
async fn the_postmaster_hears_of_failures_also_of_those_that_nobody_else_may_hear_of() {
    let script = || Script { recipients: vec![("<r0@", "550 5.1.1 no\r\n")], ..Script::default() };
    let postmaster = |reporter| Reporter { postmaster: Some(address("postmaster@example.com")), ..reporter };
    for (sender, notify, reports, dead) in
        [("alice@example.com", None, 1, 0), ("alice@example.com", Some(Notify::NEVER), 0, 1), ("", None, 0, 1)]
    {
        let stage = Stage::new(script(), upstream());
        change(&stage, postmaster);
        stage.send(envelope(sender, MailParameters::default(), &[notify])).await;
        stage.run();
        stage.pass(seconds(5)).await;
        let taken = stage.up.taken();
        let to = |whom: &str| taken.iter().filter(|one| one.recipients[0].contains(whom)).count();
        assert_eq!((to("<alice@"), to("<postmaster@"), stage.count().await), (reports, 1, dead), "{sender} {notify:?}");
    }
    // Of what was handed on he hears nothing.
    let stage = Stage::new(with(&[]), upstream());
    change(&stage, postmaster);
    stage.send(envelope("alice@example.com", MailParameters::default(), &[Some(SUCCESS)])).await;
    stage.run();
    stage.pass(seconds(5)).await;
    assert_eq!(stage.up.taken().len(), 2, "the message, and the sender's report");
}

fn by(stage: &Stage, wait: Duration, or_return: bool) -> MailParameters {
    let deadline = stage.house.now().wall.after(wait);
    MailParameters { deliver_by: Some(DeliverBy { deadline, or_return, trace: false }), ..MailParameters::default() }
}

#[tokio::test(start_paused = true)]
async fn what_must_be_delivered_in_time_or_returned_is_given_up_then_and_not_tried_again() {
    let busy = at(Phase::Mail, Misdeed::Say(b"451 4.3.0 later\r\n"));
    let stage = Stage::new(Script { extensions: vec!["DELIVERBY"], ..busy }, upstream());
    stage.send(envelope("alice@example.com", by(&stage, HOUR + HOUR / 2, true), &[None])).await;
    stage.run();
    stage.pass(HOUR + 20 * MINUTE).await;
    assert_eq!(stage.up.heard().iter().filter(|line| line.contains(" BY=")).count(), 2, "at once, and after an hour");
    // From now on it would be taken.
    stage.up.turn_into(with(&["DELIVERBY"]));
    stage.pass(10 * MINUTE + seconds(30)).await;
    let taken = stage.up.taken();
    assert_eq!(taken.len(), 1, "{taken:?}");
    let report = text(&taken[0]);
    assert!(
        report.contains("\r\nAction: failed\r\nStatus: 5.4.7\r\n") && report.contains("as you allowed (BY)"),
        "{report}"
    );
    assert_eq!(stage.count().await, 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_only_to_be_told_of_in_time_is_told_once_then_and_goes_on() {
    let busy = at(Phase::Mail, Misdeed::Say(b"451 4.3.0 later\r\n"));
    for wait in [HOUR + HOUR / 2, HOUR * 9] {
        let stage = Stage::new(busy.clone(), upstream());
        stage.send(envelope("alice@example.com", by(&stage, wait, false), &[None])).await;
        stage.run();
        stage.pass(wait - MINUTE).await;
        assert_eq!(stage.count().await, 1, "not before its time, and not at warn_after");
        stage.pass(HOUR + HOUR / 4).await;
        let told = stage.bodies().await;
        let report = told.iter().find(|body| body.contains("Action:")).unwrap();
        assert!(report.contains("\r\nAction: delayed\r\nStatus: 4.4.7\r\n"), "{report}");
        stage.pass(HOUR * 5).await;
        assert_eq!(stage.count().await, 2, "once");
    }
}

#[tokio::test(start_paused = true)]
async fn who_lacks_an_extension_is_passed_over_for_one_who_has_it_and_waited_for_if_that_one_is_down() {
    let demanding = MailParameters { require_tls: true, ..MailParameters::default() };
    // Neither proves who it is, so neither may have it, however little is asked for otherwise.
    let stage = Stage::with_spare(with(&["REQUIRETLS"]), with(&["REQUIRETLS"]));
    stage.send(envelope("alice@example.com", demanding, &[None])).await;
    stage.run();
    stage.pass(seconds(5)).await;
    let taken = stage.up.taken();
    assert_eq!(taken.len(), 1, "{taken:?}");
    let report = text(&taken[0]);
    assert!(report.contains("\r\nStatus: 5.7.10\r\n"), "{report}");
    assert!(taken[0].mail.ends_with(" REQUIRETLS"), "RFC 8689 §5: {}", taken[0].mail);

    let stage = Stage::with_spare(with(&[]), with(&["DELIVERBY"]));
    let in_time = by(&stage, HOUR * 3, true);
    stage.send(envelope("alice@example.com", in_time.clone(), &[None])).await;
    stage.run();
    stage.pass(seconds(5)).await;
    assert_eq!((stage.up.taken().len(), stage.spare.as_ref().unwrap().taken().len()), (0, 1));
    // RFC 8689 §4.2.1: who lacks it is left when there is nothing else; other mail goes over the same connection.
    stage.send(envelope("alice@example.com", MailParameters::default(), &[None])).await;
    stage.pass(seconds(1)).await;
    assert_eq!((stage.up.taken().len(), stage.up.connections()), (1, 1));
    let log = Log::start();
    stage.spare.as_ref().unwrap().turn_into(refusing());
    stage.pass(MINUTE * 2).await;
    stage.send(envelope("alice@example.com", in_time, &[None])).await;
    stage.pass(seconds(5)).await;
    assert_eq!(stage.count().await, 1, "{:?}", log.lines("audit"));
    assert_eq!(stage.up.taken().len(), 1, "it waits for the one who can");
}

/// Else whoever sends such messages has an upstream that refuses us asked for each message of everybody.
#[tokio::test(start_paused = true)]
async fn a_message_that_could_not_go_to_an_upstream_does_not_make_it_well() {
    let stage = Stage::new(at(Phase::Mail, Misdeed::Say(b"530 5.7.0 Authentication required\r\n")), upstream());
    stage.run();
    for _ in 0..3 {
        stage.send(envelope("alice@example.com", MailParameters::default(), &[None])).await;
        stage.pass(seconds(1)).await;
        stage.send(envelope("alice@example.com", by(&stage, HOUR, true), &[Some(Notify::NEVER)])).await;
        stage.pass(seconds(1)).await;
    }
    let standings = stage.house.courier.standings();
    assert_eq!(standings[0].failures, 3, "in a row: {standings:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_to_wait_is_sent_when_it_is_released_and_looked_at_again_then() {
    let stage = Stage::new(with(&["FUTURERELEASE 86400 2099-01-01T00:00:00Z"]), upstream());
    let until = stage.house.now().wall.after(HOUR * 9);
    let waiting = || MailParameters { hold_until: Some(until), ..MailParameters::default() };
    // Nobody is on the roster of this house: alice would not be let in now. Of mail of our own nobody asks.
    let hers = stage.send(envelope("alice@example.com", waiting(), &[None])).await;
    let ours = stage.send_as(Custodian::ours(), envelope("", waiting(), &[None])).await;
    let prompt = stage.send(envelope("alice@example.com", MailParameters::default(), &[None])).await;
    stage.run();
    stage.pass(HOUR * 9 - MINUTE).await;
    assert_eq!(stage.up.taken().len(), 1, "the one that was not to wait");
    assert!(stage.record(prompt).await.is_none());
    stage.pass(MINUTE * 2).await;
    let taken = stage.up.taken();
    assert_eq!(taken.len(), 2);
    assert!(!taken[1].mail.contains("HOLD"), "it has waited here: {}", taken[1].mail);
    assert!(stage.record(ours).await.is_none());
    let held = stage.record(hers).await.unwrap();
    assert_eq!((held.state, held.warned, held.waits_since()), (State::Held, false, until));
    assert!(held.reason.unwrap().starts_with("alice: "));
}

#[tokio::test(start_paused = true)]
async fn an_operator_who_releases_what_waits_for_approval_does_not_send_it_before_its_time() {
    let stage = Stage::new(with(&[]), upstream());
    let until = stage.house.now().wall.after(HOUR * 9);
    let waiting = MailParameters { hold_until: Some(until), ..MailParameters::default() };
    let id = stage.send_as(Custodian::ours(), envelope("", waiting, &[None])).await;
    stage.house.queue.hold(id).await.unwrap();
    stage.house.queue.release(id).await.unwrap();
    assert_eq!(stage.record(id).await.unwrap().due, until);
    stage.house.queue.retry(id).await.unwrap();
    assert_eq!(stage.record(id).await.unwrap().due, stage.house.now().wall, "now is now");
}

/// Regression: written while the store was being opened again, a report told the name of its message and no line of it.
#[tokio::test(start_paused = true)]
async fn a_report_waits_for_its_message_while_the_store_can_not_be_read() {
    // Said octet by octet, one a minute: time enough for the disk to fail.
    let script = at(Phase::EndOfData, Misdeed::Dribble(b"554 no\r\n"));
    let stage = Stage::new(script, upstream());
    let id = stage.submit(1).await[0];
    stage.run();
    stage.pass(6 * MINUTE).await;
    stage.disk.fail(1, u64::MAX, Fault::Error);
    assert!(stage.house.queue.hold(id).await.is_err(), "the failed change closes the store");
    assert!(matches!(stage.house.queue.show(id).await, Err(QueueError::Broken(_))), "and it can't be opened again");
    stage.pass(4 * MINUTE).await;
    stage.disk.mend();
    stage.pass(seconds(5)).await;
    let taken = stage.up.taken();
    let [report] = taken.as_slice() else { panic!("{taken:?}") };
    let said = text(report);
    assert!(said.contains("Diagnostic-Code: smtp; 554 no") && said.contains("\r\nSubject: x\r\n"), "{said}");
    assert_eq!(stage.count().await, 0);
}
