//! Limits per identity, mail that is held, and the second look at who sent what waits: on a real daemon with a real disk.

use std::fs;
use std::net::SocketAddr;

use super::harness::bench::Bench;
use super::harness::client::{Client, Said};
use super::harness::process::{Process, Start, list_queue, sealpost_says};
use super::harness::upstream::{Manner, Upstream};
use super::harness::{PATIENCE, free_addresses};

const READER: &str = "reader@example.net";

/// Alice, who may send three messages an hour.
const LIMITED: &str = r#"
[[identity]]
name = "alice"
match = { email = "alice@example.com" }
send_as = ["@certificate"]
send_to = ["*"]
limits = { messages_per_hour = 3 }
"#;

fn message(id: &str) -> Vec<u8> {
    format!(
        "From: alice@example.com\r\nTo: {READER}\r\nDate: Tue, 24 Nov 2026 09:00:00 +0000\r\nMessage-ID: {id}\r\nSubject: x\r\n\r\ntext\r\n"
    )
    .into_bytes()
}

fn alice(bench: &Bench) -> Client {
    let (client, greeted) = Client::starttls(bench.starttls, &bench.tls(Some(&bench.alice))).unwrap();
    assert_eq!(greeted.code, 250, "{greeted:?}");
    client
}

fn submit(client: &mut Client, id: &str) -> Said {
    client.submit("alice@example.com", &[READER], &message(id)).unwrap()
}

fn reload(process: &mut Process) {
    process.signal("HUP");
    assert_eq!(process.wait_ready(PATIENCE), Start::Ready, "{}", process.log());
}

/// An upstream's address behind which nobody is.
fn nobody() -> SocketAddr {
    let [address] = free_addresses();
    address
}

/// As [`Bench::configure`], with `queue.recheck`.
fn configure_with_recheck(bench: &Bench, upstream: SocketAddr, more: &str) {
    bench.configure(&[upstream], more);
    let text = fs::read_to_string(&bench.configuration).unwrap();
    fs::write(&bench.configuration, text.replace("[queue]\n", "[queue]\nrecheck = true\n")).unwrap();
}

/// State and reason of the only message.
fn only(bench: &Bench) -> (String, String, String) {
    let messages = list_queue(bench);
    assert_eq!(messages.len(), 1, "{messages:?}");
    let text = |key: &str| messages[0][key].as_str().unwrap_or_default().to_owned();
    (text("id"), text("state"), text("reason"))
}

#[test]
fn kill_9_does_not_reset_a_limit() {
    let upstream = Upstream::start(Manner::Polite);
    let bench = Bench::new(&[upstream.address]);
    bench.configure(&[upstream.address], LIMITED);
    let mut process = Process::start(&bench.configuration);
    let mut accepted = 0;
    for life in 0..4 {
        let mut client = alice(&bench);
        let said = submit(&mut client, &format!("<{life}@example.com>"));
        if said.code == 250 {
            accepted += 1;
            // What is under way when the process dies was not accepted, and costs nothing.
            assert_eq!(
                client.command("MAIL FROM:<alice@example.com>").unwrap().code,
                if life == 2 { 451 } else { 250 }
            );
        } else {
            assert!(said.text.contains("Limit of 3 messages per hour reached for alice, come back at 2"), "{said:?}");
        }
        process.kill();
        process = Process::start(&bench.configuration);
    }
    assert_eq!(accepted, 3);
}

#[test]
fn a_limit_that_a_reload_changes_counts_at_the_next_mail() {
    let upstream = Upstream::start(Manner::Polite);
    let bench = Bench::new(&[upstream.address]);
    bench.configure(&[upstream.address], LIMITED);
    let mut process = Process::start(&bench.configuration);
    let mut client = alice(&bench);
    for number in 0..3 {
        assert_eq!(submit(&mut client, &format!("<{number}@example.com>")).code, 250);
    }
    assert_eq!(client.command("MAIL FROM:<alice@example.com>").unwrap().code, 451);
    bench.configure(&[upstream.address], &LIMITED.replace("= 3", "= 4"));
    reload(&mut process);
    assert_eq!(submit(&mut client, "<4@example.com>").code, 250);
    assert_eq!(client.command("MAIL FROM:<alice@example.com>").unwrap().code, 451);
}

#[test]
fn mail_that_is_held_for_approval_goes_out_when_it_is_released() {
    let upstream = Upstream::start(Manner::Polite);
    let bench = Bench::new(&[upstream.address]);
    bench.configure(&[upstream.address], &LIMITED.replace("limits = { messages_per_hour = 3 }", "hold = true"));
    let process = Process::start(&bench.configuration);
    let said = submit(&mut alice(&bench), "<held@example.com>");
    assert!(said.code == 250 && said.text.starts_with("2.0.0 Accepted, held for approval, id="), "{said:?}");
    let (id, state, reason) = only(&bench);
    assert_eq!(state, "held");
    assert!(reason.contains("alice") && reason.contains("hold = true"), "{reason}");
    process.wait_for_log(0, &["\"held\"", &id]);
    sealpost_says(&["queue", "release", &id, "--config", bench.config_argument()]);
    upstream.wait_for("<held@example.com>");
}

/// What happens to the sender of a message that waits; what the operator reads; and that his word sends it.
fn stopped(more: &str, happens: impl FnOnce(&Bench, SocketAddr), why: &str) {
    let bench = Bench::new(&[nobody()]);
    configure_with_recheck(&bench, nobody(), more);
    let mut process = Process::start(&bench.configuration);
    assert_eq!(submit(&mut alice(&bench), "<waits@example.com>").code, 250);
    assert_eq!(only(&bench).1, "queued");
    let upstream = Upstream::start(Manner::Polite);
    happens(&bench, upstream.address);
    let from = process.log_length();
    reload(&mut process);
    process.wait_for_log(from, &["stopped", why]);
    let (id, state, reason) = only(&bench);
    assert!(state == "held" && reason.contains(why), "{state}: {reason}");
    assert_eq!(upstream.arrivals().len(), 0, "it must not have gone out");
    sealpost_says(&["queue", "release", &id, "--config", bench.config_argument()]);
    upstream.wait_for("<waits@example.com>");
}

#[test]
fn queued_mail_of_a_certificate_that_was_revoked_is_held_and_a_release_sends_it() {
    let revoke = |bench: &Bench, upstream| {
        bench.staff.write_crl(2, &[&bench.alice]);
        configure_with_recheck(bench, upstream, "");
    };
    stopped("", revoke, "has been revoked");
}

#[test]
fn queued_mail_of_an_identity_that_is_gone_is_held_and_a_release_sends_it() {
    let forget = |bench: &Bench, upstream| configure_with_recheck(bench, upstream, "");
    stopped(LIMITED, forget, "does not know this identity any more");
}

#[test]
fn queued_mail_of_a_person_whom_a_new_rule_disables_is_held_and_a_release_sends_it() {
    let disable = |bench: &Bench, upstream| {
        configure_with_recheck(
            bench,
            upstream,
            &LIMITED.replace("name = \"alice\"", "name = \"ex-alice\"\ndisabled = true"),
        );
    };
    stopped("", disable, "is disabled");
}

#[test]
fn without_recheck_and_for_everybody_else_mail_that_waits_goes_out() {
    for recheck in [false, true] {
        let bench = Bench::new(&[nobody()]);
        let configure = |upstream, crl: &[_]| {
            bench.staff.write_crl(2, crl);
            if recheck { configure_with_recheck(&bench, upstream, "") } else { bench.configure(&[upstream], "") }
        };
        configure(nobody(), &[]);
        let mut process = Process::start(&bench.configuration);
        assert_eq!(submit(&mut alice(&bench), "<goes@example.com>").code, 250);
        let upstream = Upstream::start(Manner::Polite);
        configure(upstream.address, &[if recheck { &bench.bob } else { &bench.alice }]);
        reload(&mut process);
        upstream.wait_for("<goes@example.com>");
    }
}
