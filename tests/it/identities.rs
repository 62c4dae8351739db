//! `sealpost identities`, with a daemon and without: on a real daemon with a real disk.

use serde_json::Value;

use super::harness::bench::Bench;
use super::harness::client::Client;
use super::harness::process::{Process, sealpost, sealpost_says};
use super::harness::upstream::{Manner, Upstream};

const ROBOT: &str = r#"
[[identity]]
name = "robot"
match = { ca = "staff", dns = "robot.example.com" }
send_as = ["robot@example.com", "!x@example.com"]
send_to = ["*@example.net"]
limits = { messages_per_hour = 3 }
hold = true
resend = true
bare_lf = "normalize"
"#;

fn asked(bench: &Bench, more: &[&str]) -> Vec<Value> {
    let words = [&["identities", "--json", "--config", bench.config_argument()], more].concat();
    sealpost_says(&words).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn named<'a>(entries: &'a [Value], name: &str) -> &'a Value {
    entries.iter().find(|entry| entry["name"] == name).unwrap_or_else(|| panic!("{name}: {entries:?}"))
}

#[test]
fn who_may_send_and_who_was_here_is_told_with_a_daemon_and_without() {
    let upstream = Upstream::start(Manner::Polite);
    let bench = Bench::new(&[upstream.address]);
    bench.configure(&[upstream.address], ROBOT);
    let process = Process::start(&bench.configuration);
    let (mut alice, _) = Client::starttls(bench.starttls, &bench.tls(Some(&bench.alice))).unwrap();
    let message = b"From: alice@example.com\r\nTo: reader@example.net\r\nSubject: x\r\n\r\ntext\r\n";
    assert_eq!(alice.submit("alice@example.com", &["reader@example.net"], message).unwrap().code, 250);
    // Bob only looks in; he is noted when he has gone.
    let (mut bob, _) = Client::starttls(bench.starttls, &bench.tls(Some(&bench.bob))).unwrap();
    assert_eq!(bob.command("QUIT").unwrap().code, 221);
    let deadline = std::time::Instant::now() + super::harness::PATIENCE;
    while asked(&bench, &[]).len() < 3 {
        assert!(std::time::Instant::now() < deadline, "bob was never noted");
    }
    let with_daemon = asked(&bench, &[]);
    let robot = named(&with_daemon, "robot");
    assert_eq!(
        (robot["kind"].as_str(), robot["enabled"].as_bool(), robot["hold"].as_bool()),
        (Some("rule"), Some(true), Some(true))
    );
    assert_eq!(robot["send_as"], serde_json::json!(["robot@example.com", "!x@example.com"]));
    assert_eq!(robot["limits"]["messages_per_hour"], 3);
    assert_eq!((&robot["resend"], &robot["bare_lf"]), (&Value::Bool(true), &Value::from("normalize")));
    assert_eq!((&robot["last_used"], robot["certificates"].as_array().unwrap().len()), (&Value::Null, 0));
    for name in ["staff:alice@example.com", "staff:bob@example.com"] {
        let entry = named(&with_daemon, name);
        assert_eq!((entry["kind"].as_str(), entry["ca"].as_str()), (Some("certificate"), Some("staff")), "{entry}");
        let certificate = &entry["certificates"][0];
        assert!(certificate["days_left"].as_i64().unwrap() > 0, "{entry}");
        assert_eq!(certificate["last_client"], "127.0.0.1");
        assert!(certificate["issuer"].as_str().unwrap().contains("Staff CA"), "{entry}");
        assert_eq!(certificate["fingerprint"].as_str().unwrap().len(), 64);
    }
    assert_eq!(asked(&bench, &["--limit", "2"]).len(), 2);
    assert_eq!(asked(&bench, &["staff:bob@example.com"]).len(), 1);
    let nobody = sealpost(&["identities", "--config", bench.config_argument(), "nobody"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("no identity nobody"));
    process.kill();
    assert_eq!(asked(&bench, &[]), with_daemon, "the store says the same");
    let text = sealpost_says(&["identities", "--config", bench.config_argument()]);
    for wanted in [
        "robot: identity \"robot\" (",
        "    sends as robot@example.com, !x@example.com to *@example.net\n    3 messages an hour, held for approval, may send others' mail again (resend), LF without CR is made CRLF (bare_lf)\n    not seen yet\n",
        "staff:alice@example.com: client_ca \"staff\" (",
        "    last used 20",
        " days left\n        seen 20",
        " from 127.0.0.1\n",
    ] {
        assert!(text.contains(wanted), "{wanted:?} in {text}");
    }
    // A CA that names nobody any more, and whom it named.
    let written = std::fs::read_to_string(&bench.configuration).unwrap();
    std::fs::write(&bench.configuration, written.replace("send_as_email = true\nsend_to = [\"*\"]\n", "")).unwrap();
    assert_eq!(named(&asked(&bench, &[]), "staff:alice@example.com")["kind"], "gone");
}

#[test]
fn the_holder_of_a_certificate_that_ends_is_told_by_mail_once_through_restarts() {
    let upstream = Upstream::start(Manner::Polite);
    let mut bench = Bench::new(&[upstream.address]);
    bench.configure(&[upstream.address], "[notices]\nexpiry = true\n");
    let ending = bench.staff.client_for("carol@example.com", 5 * 86_400);
    let mut process = Process::start(&bench.configuration);
    let (mut carol, _) = Client::starttls(bench.starttls, &bench.tls(Some(&ending))).unwrap();
    let message = b"From: carol@example.com\r\nTo: reader@example.net\r\nSubject: x\r\n\r\ntext\r\n";
    assert_eq!(carol.submit("carol@example.com", &["reader@example.net"], message).unwrap().code, 250);
    drop(carol);
    // The daemon looks at its start.
    for _ in 0..3 {
        assert!(process.stop().success());
        process = Process::start(&bench.configuration);
        let from = 0;
        process.wait_for_log(from, &["ready"]);
    }
    let is_notice = |arrival: &super::harness::upstream::Arrival| {
        String::from_utf8_lossy(&arrival.octets).contains("Subject: Your certificate for mail ends in 4 days")
    };
    assert!(upstream.wait_until(super::harness::PATIENCE, |arrivals| arrivals.iter().any(is_notice)));
    let arrivals = upstream.arrivals();
    assert_eq!(arrivals.iter().filter(|arrival| is_notice(arrival)).count(), 1);
    assert_eq!(asked(&bench, &["staff:carol@example.com"])[0]["certificates"][0]["days_left"], 4);
}
