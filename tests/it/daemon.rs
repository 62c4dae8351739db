//! The daemon as operators run it: a process with a configuration file, signals, a control socket, real TLS, a real disk.

use std::fs;
use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sealpost::daemon::{Daemon, DaemonFault};
use sealpost::sys::disk::{Disk as _, SystemDisk};
use sealpost::sys::{Clock, Now, SystemClock};

use super::harness::bench::Bench;
use super::harness::client::{Client, Said};
use super::harness::process::{Process, Start, list_queue, program, sealpost, sealpost_says};
use super::harness::upstream::{Manner, Upstream};
use super::harness::{PATIENCE, free_addresses};

const READER: &str = "reader@example.net";

/// A short message of alice's with this Message-ID.
fn message(id: &str) -> Vec<u8> {
    format!(
        "From: alice@example.com\r\nTo: {READER}\r\nDate: Tue, 24 Nov 2026 09:00:00 +0000\r\nMessage-ID: {id}\r\nSubject: x\r\n\r\n.dot\r\ntext\r\n"
    )
    .into_bytes()
}

/// A polite upstream, a place, and a daemon that is ready.
fn running() -> (Upstream, Bench, Process) {
    let upstream = Upstream::start(Manner::Polite);
    let bench = Bench::new(&[upstream.address]);
    let process = Process::start(&bench.configuration);
    (upstream, bench, process)
}

/// A session as alice, over STARTTLS.
fn alice(bench: &Bench) -> Client {
    let (client, greeted) = Client::starttls(bench.starttls, &bench.tls(Some(&bench.alice))).unwrap();
    assert_eq!(greeted.code, 250, "{greeted:?}");
    client
}

fn submit(client: &mut Client, recipients: &[&str], id: &str) {
    let said = client.submit("alice@example.com", recipients, &message(id)).unwrap();
    assert_eq!(said.code, 250, "{said:?}");
}

fn code(said: &Said) -> u16 {
    said.code
}

/// `sealpost queue stats` of a supervisor's check, say, in the moment of a restart.
#[test]
fn a_command_that_has_the_queue_for_a_moment_is_waited_for_and_a_daemon_is_not() {
    let upstream = Upstream::start(Manner::Polite);
    let bench = Bench::new(&[upstream.address]);
    let data = bench.directory.path().join("data");
    fs::create_dir_all(&data).unwrap();
    let held = SystemDisk.lock(&data.join("lock")).unwrap();
    let mut process = Process::spawn(&bench.configuration, &[]);
    process.wait_for_log(0, &["data_dir is in use, by a command or by a daemon that ends"]);
    // It listens by then, and once left who came without a word.
    let sent_away = Client::plain(bench.starttls).map(|_| ()).unwrap_err().to_string();
    assert!(sent_away.contains("421") && sent_away.contains("4.3.2"), "{sent_away}");
    drop(held);
    assert_eq!(process.wait_ready(PATIENCE), Start::Ready);
    let [starttls, implicit] = [bench.starttls, bench.implicit].map(|address| address.to_string());
    let [others, more] = free_addresses().map(|address| address.to_string());
    let text = fs::read_to_string(&bench.configuration).unwrap().replace(&starttls, &others).replace(&implicit, &more);
    let second = bench.directory.path().join("second.toml");
    fs::write(&second, text).unwrap();
    let said = sealpost(&["serve", "--config", second.to_str().unwrap()]);
    let log = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(!said.status.success() && log.contains("in use") && !log.contains("waiting for it to let go"), "{log}");
}

#[test]
fn a_message_goes_in_with_a_certificate_and_arrives_octet_for_octet() {
    let (upstream, bench, process) = running();
    submit(&mut alice(&bench), &[READER], "<starttls@example.com>");
    let (mut client, greeting) = Client::implicit(bench.implicit, &bench.tls(Some(&bench.alice))).unwrap();
    assert_eq!(greeting.code, 220);
    assert_eq!(client.command("EHLO client.example.com").unwrap().code, 250);
    submit(&mut client, &[READER], "<implicit@example.com>");
    for id in ["<starttls@example.com>", "<implicit@example.com>"] {
        let arrival = upstream.wait_for(id);
        assert_eq!(
            (arrival.sender.as_str(), arrival.recipients.as_slice()),
            ("alice@example.com", &[READER.to_owned()][..])
        );
        let trace = arrival.octets.strip_suffix(message(id).as_slice()).expect("the message changed on its way");
        assert!(trace.starts_with(b"Received: ") && !trace.windows(4).any(|four| four == b"\r\n\r\n"));
        assert!(String::from_utf8_lossy(trace).contains(&format!("for <{READER}>")));
    }
    // RFC 5321 §7.2, §7.6: of several recipients none is told of the others.
    submit(&mut client, &[READER, "other@example.net"], "<both@example.com>");
    let arrival = upstream.wait_for("<both@example.com>");
    assert_eq!(arrival.recipients.len(), 2);
    let trace = arrival.octets.strip_suffix(message("<both@example.com>").as_slice()).unwrap();
    let trace = String::from_utf8_lossy(trace);
    assert!(!trace.contains(READER) && !trace.contains("other@example.net") && !trace.contains("for <"), "{trace}");
    process.wait_for_log(0, &["\"event\":\"identified\"", "\"cipher\":\"TLS"]);
    assert!(process.stop().success());
}

#[test]
fn there_is_no_mail_before_tls() {
    let (_upstream, bench, _process) = running();
    let mut client = Client::plain(bench.starttls).unwrap();
    for line in ["MAIL FROM:<alice@example.com>", "RCPT TO:<reader@example.net>", "DATA", "AUTH EXTERNAL ="] {
        assert_eq!(client.command(line).unwrap().code, 530, "{line}");
    }
}

#[test]
fn without_an_identity_everything_is_refused_with_its_cause() {
    let (_upstream, bench, _process) = running();
    for (leaf, cause) in [(None, "required"), (Some(&bench.stranger), "not trusted")] {
        let (mut client, said) = Client::starttls(bench.starttls, &bench.tls(leaf)).unwrap();
        assert!(said.code == 554 && said.text.contains(cause), "{said:?}");
        assert_eq!(client.command("MAIL FROM:<alice@example.com>").unwrap(), said);
        assert_eq!(client.command("QUIT").unwrap().code, 221);
    }
}

#[test]
fn a_certificate_revoked_by_a_reload_sends_no_more_even_on_an_open_session() {
    let (_upstream, bench, mut process) = running();
    let (mut of_alice, mut of_bob) =
        (alice(&bench), Client::starttls(bench.starttls, &bench.tls(Some(&bench.bob))).unwrap().0);
    submit(&mut of_alice, &[READER], "<before@example.com>");
    bench.staff.write_crl(2, &[&bench.alice]);
    process.signal("HUP");
    assert_eq!(process.wait_ready(PATIENCE), Start::Ready);
    let said = of_alice.command("MAIL FROM:<alice@example.com>").unwrap();
    assert!(said.code >= 400 && said.text.contains("revoked"), "{said:?}");
    assert_eq!(of_bob.command("MAIL FROM:<bob@example.com>").unwrap().code, 250, "a reload drops nobody else");
    let (_, said) = Client::starttls(bench.starttls, &bench.tls(Some(&bench.alice))).unwrap();
    assert!(said.code == 554 && said.text.contains("revoked"), "{said:?}");
}

/// Also when the same reload brings a listener that is bound with the next start only.
#[test]
fn a_session_is_judged_by_the_cas_of_its_own_listener_to_its_end() {
    let (upstream, bench, mut process) = running();
    let mut at_starttls = alice(&bench);
    let (mut at_implicit, _) = Client::implicit(bench.implicit, &bench.tls(Some(&bench.alice))).unwrap();
    assert_eq!(at_implicit.command("EHLO client.example.com").unwrap().code, 250);
    let strangers = bench.directory.path().join("strangers/ca.pem");
    let more = format!(
        "[[client_ca]]\nname = \"strangers\"\ncertificates = \"{}\"\nrevocation = \"off\"\n\
         domains = [\"example.com\"]\nsend_as_email = true\nsend_to = [\"*\"]\n\
         [[listener]]\naddress = \"127.0.0.1:0\"\n",
        strangers.display()
    );
    bench.configure(&[upstream.address], &more);
    let text = fs::read_to_string(&bench.configuration).unwrap();
    let limited = "mode = \"starttls\"\nclient_cas = [\"strangers\"]";
    fs::write(&bench.configuration, text.replacen("mode = \"starttls\"", limited, 1)).unwrap();
    process.signal("HUP");
    assert_eq!(process.wait_ready(PATIENCE), Start::Ready);
    let said = at_starttls.command("MAIL FROM:<alice@example.com>").unwrap();
    assert!(said.code >= 400 && said.text.contains("not trusted"), "{said:?}");
    assert_eq!(at_implicit.command("MAIL FROM:<alice@example.com>").unwrap().code, 250);
    let (mut stranger, greeted) = Client::starttls(bench.starttls, &bench.tls(Some(&bench.stranger))).unwrap();
    assert_eq!((greeted.code, stranger.command("MAIL FROM:<alice@example.com>").unwrap().code), (250, 250));
    // The same, told offline.
    let certificate = bench.alice.certificate.to_str().unwrap();
    let explain = |listener: SocketAddr| {
        let listener = listener.to_string();
        let words = ["explain", "--config", bench.config_argument(), "--cert", certificate, "--listener", &listener];
        String::from_utf8(sealpost(&words).stdout).unwrap()
    };
    assert!(explain(bench.starttls).contains("not among the CAs"), "{}", explain(bench.starttls));
    let told = explain(bench.implicit);
    for words in ["chain 0: subject CN=alice@example.com", "not listed", "chain 1: subject CN=Staff CA", "the anchor"] {
        assert!(told.contains(words), "{words}: {told}");
    }
    println!("{told}");
}

#[test]
fn a_wrong_configuration_keeps_the_old_one_and_is_told() {
    let (upstream, bench, mut process) = running();
    let mut open = alice(&bench);
    bench.configure(&[upstream.address], "[limits]\nno_such_key = 1\n");
    let from = process.log_length();
    process.signal("HUP");
    assert_eq!(process.wait_ready(PATIENCE), Start::Ready);
    process.wait_for_log(from, &["no_such_key"]);
    submit(&mut open, &[READER], "<open@example.com>");
    submit(&mut alice(&bench), &[READER], "<new@example.com>");
    upstream.wait_for("<new@example.com>");
}

#[test]
fn a_reload_takes_over_another_upstream_without_dropping_a_session() {
    let (first, bench, mut process) = running();
    let mut open = alice(&bench);
    submit(&mut open, &[READER], "<first@example.com>");
    first.wait_for("<first@example.com>");
    let second = Upstream::start(Manner::Polite);
    bench.configure(&[second.address], "");
    process.signal("HUP");
    assert_eq!(process.wait_ready(PATIENCE), Start::Ready);
    submit(&mut open, &[READER], "<second@example.com>");
    second.wait_for("<second@example.com>");
}

#[test]
fn sigterm_says_421_to_the_idle_finishes_the_transaction_at_hand_and_ends_with_0() {
    let (upstream, bench, mut process) = running();
    let (mut idle, mut busy) = (alice(&bench), alice(&bench));
    for line in ["MAIL FROM:<alice@example.com>", "RCPT TO:<reader@example.net>", "DATA"] {
        assert!(busy.command(line).unwrap().code < 400, "{line}");
    }
    process.signal("TERM");
    let farewell = idle.read_reply().unwrap();
    assert!(farewell.code == 421 && farewell.text.starts_with("4.3.2"), "{farewell:?}");
    assert!(idle.is_closed());
    busy.send(&super::harness::client::stuffed(&message("<last@example.com>"))).unwrap();
    assert_eq!(busy.read_reply().as_ref().map(code).unwrap(), 250);
    assert_eq!(busy.read_reply().as_ref().map(code).unwrap(), 421);
    assert!(process.wait_ended().success());
    // Delivered in the drain, or kept for the next start: never lost.
    let process = Process::start(&bench.configuration);
    upstream.wait_for("<last@example.com>");
    assert!(process.stop().success());
}

/// Between "stopping" and "stopped" it was silent, for as long as `shutdown_grace` at the most.
#[test]
fn a_stop_that_lasts_says_what_it_waits_for() {
    let (_upstream, bench, mut process) = running();
    let mut busy = alice(&bench);
    for line in ["MAIL FROM:<alice@example.com>", "RCPT TO:<reader@example.net>", "DATA"] {
        assert!(busy.command(line).unwrap().code < 400, "{line}");
    }
    process.signal("TERM");
    let waits = process.wait_for_log(0, &["waiting for what is under way", "\"sessions\":1", "\"deliveries\":0"]);
    assert!(waits.contains("\"at_most\":\"3"), "of thirty seconds and five some are over: {waits}");
    drop(busy);
    assert!(process.wait_ended().success());
}

/// What it waits for is seen while it does; and the next start waits for it, for as long as it may last.
#[test]
fn a_daemon_that_stops_is_looked_at_and_waited_for() {
    let (_upstream, bench, mut process) = running();
    let mut busy = alice(&bench);
    for line in ["MAIL FROM:<alice@example.com>", "RCPT TO:<reader@example.net>", "DATA"] {
        assert!(busy.command(line).unwrap().code < 400, "{line}");
    }
    process.signal("TERM");
    process.wait_for_log(0, &["waiting for what is under way"]);
    let ask = |words: &[&str]| {
        let said = sealpost(&[&["queue"], words, &["--config", bench.config_argument()]].concat());
        (said.status.code(), String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned())
    };
    for looks in [&["list"][..], &["list", "--active"], &["stats"]] {
        let (code, told) = ask(looks);
        assert_eq!(code, Some(0), "{looks:?}: {told}");
    }
    for changes in [&["retry", "--all"][..], &["compact"]] {
        let (code, told) = ask(changes);
        assert!(code == Some(69) && told.contains("the daemon is stopping"), "{changes:?}: {told}");
    }
    let mut next = Process::spawn(&bench.configuration, &[]);
    next.wait_for_log(0, &["waiting for it to let go", "\"seconds\":45"]);
    busy.send(b"From: alice@example.com\r\n\r\ntext\r\n.\r\n").unwrap();
    assert_eq!(busy.read_reply().unwrap().code, 250);
    assert!(process.wait_ended().success());
    assert_eq!(next.wait_ready(PATIENCE), Start::Ready, "{}", next.log());
}

/// `sealpost queue list | less`, left alone: the relay could not be started.
#[test]
fn a_command_whose_reader_waits_has_let_the_queue_go() {
    let bench = Bench::new(&free_addresses::<1>());
    let process = Process::start(&bench.configuration);
    let mut client = alice(&bench);
    for line in ["MAIL FROM:<alice@example.com>", "RCPT TO:<reader@example.net>", "DATA"] {
        assert!(client.command(line).unwrap().code < 400, "{line}");
    }
    // More than a pipe and what a command gathers.
    let long = format!("X-Long: {}\r\n", "x".repeat(900)).repeat(220);
    client.send(format!("From: alice@example.com\r\n{long}\r\ntext\r\n.\r\n").as_bytes()).unwrap();
    let kept = client.read_reply().unwrap();
    assert_eq!(kept.code, 250, "{kept:?}");
    assert!(process.stop().success());
    let listed = sealpost(&["queue", "list", "--json", "--config", bench.config_argument()]);
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    let id = listed["id"].as_str().unwrap();
    let mut shows = std::process::Command::new(program())
        .args(["queue", "show", id, "--headers", "--config", bench.config_argument()])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0];
    shows.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    drop(SystemDisk.lock(&bench.directory.path().join("data/lock")).unwrap());
    let said = shows.wait_with_output().unwrap();
    assert!(said.status.success() && said.stdout.len() > 200_000, "{}", said.stdout.len());
}

#[test]
fn one_process_owns_a_data_directory() {
    let (upstream, bench, _process) = running();
    let other = bench.directory.path().join("other.toml");
    let text = fs::read_to_string(&bench.configuration).unwrap();
    let [starttls, implicit] = free_addresses();
    let text = text
        .replace(&bench.starttls.to_string(), &starttls.to_string())
        .replace(&bench.implicit.to_string(), &implicit.to_string());
    fs::write(&other, text).unwrap();
    let output = sealpost(&["serve", "--config", other.to_str().unwrap()]);
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("data"), "the reason is not told: {said}");
    submit(&mut alice(&bench), &[READER], "<still@example.com>");
    upstream.wait_for("<still@example.com>");
}

/// By a reload it was woken; by a restart it waited for the next step of its schedule, up to an hour.
#[test]
fn what_no_route_took_before_a_restart_is_tried_behind_it_when_one_does() {
    let (upstream, [nobody]) = (Upstream::start(Manner::Polite), free_addresses());
    let bench = Bench::new(&[nobody]);
    let configure = |address: SocketAddr, domain: &str| {
        let more = format!(
            "[[upstream]]\nname = \"main\"\naddress = \"{address}\"\ntls = \"none\"\n\n\
             [[route]]\nname = \"only\"\nrecipient_domains = [\"{domain}\"]\nupstreams = [\"main\"]\n"
        );
        bench.configure_with("retry = [\"1h\"]", &more);
    };
    configure(nobody, "example.net");
    let process = Process::start(&bench.configuration);
    submit(&mut alice(&bench), &[READER], "<stranded@example.com>");
    assert!(process.stop().success());
    // Its route is gone; it is tried once, and next in an hour.
    configure(upstream.address, "example.org");
    let process = Process::start(&bench.configuration);
    sealpost_says(&["queue", "retry", "--all", "--config", bench.config_argument()]);
    process.wait_for_log(0, &["no route of the configuration takes recipients of a queued message"]);
    assert!(process.stop().success());
    configure(upstream.address, "example.net");
    let process = Process::start(&bench.configuration);
    upstream.wait_for("<stranded@example.com>");
    process.wait_for_log(0, &["a route of the configuration takes queued messages", "\"messages\":1"]);
    assert!(process.stop().success());
}

#[test]
fn the_queue_is_steered_while_the_daemon_runs() {
    let (upstream, bench, _process) = running();
    submit(&mut alice(&bench), &["later@example.net"], "<waits@example.com>");
    let config = ["--config", bench.config_argument()];
    let queue = |words: &[&str]| sealpost_says(&[&["queue"], words, &config].concat());
    let listed = list_queue(&bench);
    assert_eq!((listed.len(), listed[0]["message_id"].as_str()), (1, Some("<waits@example.com>")), "{listed:?}");
    let id = listed[0]["id"].as_str().unwrap().to_owned();
    assert!(queue(&["show", &id]).contains("alice@example.com"));
    queue(&["hold", &id]);
    assert_eq!(list_queue(&bench)[0]["state"], "held");
    queue(&["release", &id]);
    assert_eq!(list_queue(&bench)[0]["state"], "queued");
    queue(&["retry", &id]);
    queue(&["remove", &id]);
    assert!(list_queue(&bench).is_empty());
    assert!(upstream.arrivals().is_empty());
}

#[test]
fn queue_stats_shows_how_each_upstream_stands_and_says_so_when_nobody_knows() {
    let [nobody]: [SocketAddr; 1] = free_addresses();
    let bench = Bench::new(&[nobody]);
    let process = Process::start(&bench.configuration);
    let stats =
        |more: &[&str]| sealpost_says(&[&["queue", "stats", "--config", bench.config_argument()], more].concat());
    let said = stats(&[]);
    assert!(said.contains("upstream upstream-0: in service; 0 of 10 connections in use"), "{said}");
    let mut client = alice(&bench);
    for number in 0..5 {
        submit(&mut client, &[READER], &format!("<{number}@example.com>"));
    }
    process.wait_for_log(0, &["it is left alone for so long"]);
    let said = stats(&[]);
    assert!(said.contains("upstream upstream-0: left alone until 20") && said.contains("can't be reached"), "{said}");
    let json: serde_json::Value = serde_json::from_str(&stats(&["--json"])).unwrap();
    let one = &json["upstreams"][0];
    assert_eq!((one["name"].as_str(), one["health"].as_str()), (Some("upstream-0"), Some("open")), "{json}");
    for key in ["open_until", "last_fault", "last_fault_at"] {
        assert!(one[key].is_string(), "{key}: {json}");
    }
    assert_eq!((json["queued"].as_u64(), one["connections_limit"].as_u64()), (Some(5), Some(10)), "{json}");
    assert!(process.stop().success());
    assert!(stats(&[]).contains("upstreams: no daemon runs, and only a running one knows how they stand"));
    let json: serde_json::Value = serde_json::from_str(&stats(&["--json"])).unwrap();
    assert!(json["upstreams"].is_null(), "{json}");
}

#[test]
fn the_second_upstream_takes_over_when_nobody_answers_at_the_first() {
    let [nobody]: [SocketAddr; 1] = free_addresses();
    let second = Upstream::start(Manner::Polite);
    let bench = Bench::new(&[nobody, second.address]);
    let _process = Process::start(&bench.configuration);
    submit(&mut alice(&bench), &[READER], "<failover@example.com>");
    second.wait_for("<failover@example.com>");
}

#[test]
fn what_cannot_be_delivered_is_reported_and_what_cannot_be_reported_is_dead() {
    let (upstream, bench, process) = running();
    let mut client = alice(&bench);
    submit(&mut client, &["gone@example.net", READER], "<half@example.com>");
    assert_eq!(upstream.wait_for("<half@example.com>").recipients, [READER]);
    let reported = |all: &[super::harness::upstream::Arrival]| {
        all.iter().any(|one| {
            one.sender.is_empty() && one.recipients == ["alice@example.com"] && has(&one.octets, "gone@example.net")
        })
    };
    assert!(upstream.wait_until(PATIENCE, reported), "no report:\n{}", process.log());
    let said = client.submit("", &["gone@example.net"], &message("<null@example.com>")).unwrap();
    assert_eq!(said.code, 250, "{said:?}");
    process.wait_for_log(0, &["\"event\":\"dead\""]);
    let dead = sealpost_says(&["queue", "list", "--state", "dead", "--json", "--config", bench.config_argument()]);
    assert!(dead.contains("<null@example.com>"), "{dead}");
}

/// What is found damaged at the start had its line and its count; what is found later is told by a loop of its own, which nothing tried.
#[test]
fn a_message_that_is_found_damaged_while_the_daemon_runs_is_counted_told_and_stops_no_other() {
    let [nobody] = free_addresses();
    let bench = Bench::new(&[nobody]);
    let process = Process::start(&bench.configuration);
    for (id, text) in [("<rotten@example.com>", "what is to rot"), ("<sound@example.com>", "what is not")] {
        let whole = [&message(id)[..], text.as_bytes(), b"\r\n"].concat();
        assert_eq!(alice(&bench).submit("alice@example.com", &[READER], &whole).unwrap().code, 250);
    }
    assert!(process.stop().success());
    // An octet of a body, of which nobody takes the sum before it is read.
    let shelf = bench.directory.path().join("data/messages-0");
    let mut octets = fs::read(&shelf).unwrap();
    let place = octets.windows(14).position(|part| part == b"what is to rot").unwrap();
    octets[place] ^= 1;
    fs::write(&shelf, octets).unwrap();
    let upstream = Upstream::start(Manner::Polite);
    bench.configure(&[upstream.address], "");
    let process = Process::start(&bench.configuration);
    upstream.wait_for("<sound@example.com>");
    let told = process.wait_for_log(0, &["\"event\":\"dead\"", "\"identity\":\"staff:alice@example.com\""]);
    let said = sealpost_says(&["queue", "stats", "--json", "--config", bench.config_argument()]);
    let stats: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&stats["since_start"]["dead"], &stats["dead"]), (&1.into(), &1.into()), "{stats}");
    let dead = list_queue(&bench).into_iter().find(|one| one["state"] == "dead").unwrap();
    assert!(told.contains(dead["id"].as_str().unwrap()), "{told}");
    assert!(upstream.arrivals().iter().all(|one| one.message_id() != "<rotten@example.com>"));
    assert!(process.stop().success());
}

fn has(octets: &[u8], word: &str) -> bool {
    octets.windows(word.len()).any(|window| window == word.as_bytes())
}

#[test]
fn a_message_of_48_mib_needs_no_48_mib_of_memory() {
    let (upstream, bench, process) = running();
    let mut client = alice(&bench);
    submit(&mut client, &[READER], "<small@example.com>");
    upstream.wait_for("<small@example.com>");
    let before = peak_memory(&process);
    let line = "0123456789".repeat(7) + "0123456\r\n";
    let large = [message("<large@example.com>"), line.repeat(48 * 1024 * 1024 / line.len()).into_bytes()].concat();
    let said = client.submit("alice@example.com", &[READER], &large).unwrap();
    assert_eq!(said.code, 250, "{said:?}");
    assert!(upstream.wait_for("<large@example.com>").octets.ends_with(&large), "it arrived changed");
    let grown = peak_memory(&process) - before;
    println!("memory grew by {grown} KiB at its peak for a message of {} KiB", large.len() / 1024);
    assert!(grown < 24 * 1024, "memory grew by {grown} KiB");
}

#[test]
fn a_message_refused_after_its_body_gives_its_room_back_before_the_next_command() {
    let upstream = Upstream::start(Manner::Polite);
    let bench = Bench::new(&[upstream.address]);
    bench.configure(&[upstream.address], "\n[limits]\nmessage_size = \"1MiB\"\n");
    let _process = Process::start(&bench.configuration);
    let mut client = alice(&bench);
    let line = "0123456789".repeat(7) + "\r\n";
    let large = [message("<toolarge@example.com>"), line.repeat(2 * 1024 * 1024 / line.len()).into_bytes()].concat();
    let said = client.submit("alice@example.com", &[READER], &large).unwrap();
    assert_eq!(said.code, 552, "{said:?}");
    // The session is still open and has said nothing since. Files are removed in the background; nothing is waited for but their going.
    let bodies = bench.directory.path().join("data/bodies");
    let gone = || fs::read_dir(&bodies).unwrap().count() == 0;
    assert!(super::harness::eventually(gone), "the refused body is still in {}", bodies.display());
    assert_eq!(client.command("NOOP").unwrap().code, 250);
}

/// The most memory that the process ever had, KiB (VmHWM).
fn peak_memory(process: &Process) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_stalled_reader_of_the_log_stalls_nobody_and_no_mail_is_taken_unaccounted() {
    // More lines of the audit than half of what may wait: each at least half a kilobyte.
    const LINES: usize = sealpost::sys::backlog::BACKLOG_MAX / 2 / 512 + 200;
    const AT_ONCE: usize = 100;
    let upstream = Upstream::start(Manner::Polite);
    let bench = Bench::new(&[upstream.address]);
    bench.configure(&[upstream.address], "[limits]\nidle_commands = 1000000\n");
    let process = Process::start(&bench.configuration);
    let mut client = alice(&bench);
    process.stall_log(true);
    let forged = format!("MAIL FROM:<{}@example.com>\r\n", "x".repeat(60)).repeat(AT_ONCE);
    for _ in 0..LINES / AT_ONCE {
        client.send(forged.as_bytes()).unwrap();
        for _ in 0..AT_ONCE {
            assert_eq!(client.read_reply().unwrap().code, 550);
        }
    }
    let said = client.submit("alice@example.com", &[READER], &message("<stalled@example.com>")).unwrap();
    assert!(said.code == 452 && said.text.starts_with("4.3.1"), "{said:?}");
    let from = process.log_length();
    process.stall_log(false);
    process.wait_for_log(from, &["reader was stalled", "No line is lost"]);
    client.command("RSET").unwrap();
    submit(&mut client, &[READER], "<flowing@example.com>");
    upstream.wait_for("<flowing@example.com>");
    let log = process.log();
    assert_eq!(log.matches("not allowed for").count(), LINES / AT_ONCE * AT_ONCE, "each refusal has its line");
    assert!(log.contains("the log does not keep up"), "and so has the refused message");
    assert!(process.stop().success());
}

#[test]
fn who_connects_too_often_hears_421_and_the_log_says_by_which_limit_once() {
    let upstream = Upstream::start(Manner::Polite);
    let bench = Bench::new(&[upstream.address]);
    bench.configure(&[upstream.address], "[limits]\nconnections_per_minute = 3\n");
    let process = Process::start(&bench.configuration);
    for _ in 0..3 {
        assert_eq!(Client::plain(bench.starttls).unwrap().command("QUIT").unwrap().code, 221);
    }
    for _ in 0..2 {
        let mut stream = std::net::TcpStream::connect(bench.starttls).unwrap();
        let mut said = String::new();
        std::io::Read::read_to_string(&mut stream, &mut said).unwrap();
        assert!(said.starts_with("421 4.7.0 ") && said.contains("Too many connections"), "{said}");
    }
    process.wait_for_log(0, &["turned away", "limits.connections_per_minute"]);
    let log = process.log();
    assert_eq!(log.matches("turned away").count(), 1, "{log}");
    assert!(process.stop().success());
}

/// A clock that panics from the moment it is told to, in tasks only: who drains goes on.
#[derive(Debug)]
struct Trap {
    clock: SystemClock,
    armed: AtomicBool,
}

impl Clock for Trap {
    fn now(&self) -> Now {
        let is_in_a_task = tokio::task::try_id().is_some();
        assert!(!(is_in_a_task && self.armed.load(Ordering::Relaxed)), "injected");
        self.clock.now()
    }
}

#[test]
fn a_panic_in_a_loop_that_must_live_ends_the_daemon_as_a_fault() {
    let upstream = Upstream::start(Manner::Polite);
    let bench = Bench::new(&[upstream.address]);
    let trap = Arc::new(Trap { clock: SystemClock::start(), armed: AtomicBool::new(false) });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let ended = runtime.block_on(async {
        let clock: Arc<dyn Clock> = Arc::<Trap>::clone(&trap);
        let quiet = vec![("SEALPOST__LOG__LEVEL".to_owned(), "error".to_owned())];
        let daemon = Daemon::start(&bench.configuration, quiet, clock).await.unwrap();
        trap.armed.store(true, Ordering::Relaxed);
        let _client = std::net::TcpStream::connect(bench.starttls).unwrap();
        tokio::time::timeout(PATIENCE, daemon.run()).await.expect("it goes on without its listener")
    });
    // Which of them asks the clock first is chance.
    assert!(matches!(ended, Err(DaemonFault::Fallen(_))), "{ended:?}");
}

/// The opening of the store is held up from outside; a million messages after a kill do the same.
#[test]
fn while_the_queue_is_opened_clients_and_operators_are_told_to_come_again() {
    let upstream = Upstream::start(Manner::Polite);
    let bench = Bench::new(&[upstream.address]);
    let store = bench.directory.path().join("data/store.redb");
    let (store, trace) = (store.to_str().unwrap(), bench.directory.path().join("strace"));
    let held_up = "inject=openat:delay_enter=4000000:when=1";
    let strace =
        ["strace", "-f", "-qq", "-P", store, "-e", "trace=openat", "-e", held_up, "-o", trace.to_str().unwrap()];
    let mut process = Process::spawn(&bench.configuration, &strace);
    process.wait_told("STATUS=recovering the queue; clients are told to come again");

    let tls = bench.tls(Some(&bench.alice));
    let refused = Client::plain(bench.starttls).map(|_| ()).unwrap_err().to_string();
    assert!(refused.contains("421"), "{refused}");
    let (mut client, said) = Client::implicit(bench.implicit, &tls).unwrap();
    assert_eq!((said.code, said.text.split(' ').next()), (421, Some("4.3.2")), "{said:?}");
    assert!(client.is_closed());
    let asked = sealpost(&["queue", "stats", "--config", bench.config_argument()]);
    let told = String::from_utf8_lossy(&asked.stderr).into_owned();
    assert!(asked.status.code() == Some(69) && told.contains("opening its queue"), "{told}");
    let second = sealpost(&["serve", "--config", bench.config_argument()]);
    assert_eq!(second.status.code(), Some(69), "the port is taken");

    assert_eq!(process.wait_ready(PATIENCE), Start::Ready, "{}", process.log());
    submit(&mut alice(&bench), &[READER], "<after@example.com>");
    upstream.wait_for("<after@example.com>");
}

#[test]
fn the_store_is_compacted_beside_the_daemon_and_without_it() {
    let (upstream, bench, process) = running();
    let compact = || sealpost_says(&["queue", "compact", "--config", bench.config_argument()]);
    submit(&mut alice(&bench), &[READER], "<before@example.com>");
    assert!(compact().starts_with("the store's file had "));
    submit(&mut alice(&bench), &[READER], "<behind@example.com>");
    for id in ["<before@example.com>", "<behind@example.com>"] {
        upstream.wait_for(id);
    }
    assert!(process.stop().success());
    assert!(compact().starts_with("the store's file had "));
    Process::start(&bench.configuration);
}
