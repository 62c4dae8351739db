//! A daemon behind a load balancer: PROXY headers before everything, and the client's own address for what counts.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use super::harness::PATIENCE;
use super::harness::bench::Bench;
use super::harness::client::Client;
use super::harness::process::{Process, Start};
use super::harness::upstream::{Manner, Upstream};

const SEVEN: &[u8] = b"PROXY TCP4 192.0.2.7 192.0.2.1 40007 587\r\n";
const EIGHT: &[u8] = b"PROXY TCP4 192.0.2.8 192.0.2.1 40008 587\r\n";

/// A client at 2001:db8::9, in version 2, with a TLV behind the addresses.
fn nine() -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\x00\x2b".to_vec();
    for address in ["2001:db8::9", "2001:db8::1"] {
        header.extend(address.parse::<std::net::Ipv6Addr>().unwrap().octets());
    }
    header.extend(b"\x9c\x49\x01\xd1\x01\x00\x04smtp");
    header
}

/// LOCAL of version 2.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";

/// A place whose listeners believe load balancers of these networks; `more` is put at the configuration's end.
fn behind(upstream: &Upstream, networks: &str, more: &str) -> Bench {
    let bench = Bench::new(&[upstream.address]);
    configure(&bench, upstream, networks, more);
    bench
}

fn configure(bench: &Bench, upstream: &Upstream, networks: &str, more: &str) {
    bench.configure(&[upstream.address], more);
    let mut text = fs::read_to_string(&bench.configuration).unwrap();
    for mode in ["mode = \"starttls\"", "mode = \"implicit\""] {
        text = text.replacen(mode, &format!("{mode}\nproxy = {networks}"), 1);
    }
    fs::write(&bench.configuration, text).unwrap();
}

/// Everything that is said to who sends these octets and then listens, until the connection ends.
fn heard(address: SocketAddr, octets: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let _ = stream.write_all(octets);
    let (mut said, mut piece) = (Vec::new(), [0; 1024]);
    loop {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => said.extend_from_slice(&piece[..count]),
            Err(fault) => {
                // We were hung up on with octets on their way, which is a reset; silence is not.
                assert_eq!(fault.kind(), std::io::ErrorKind::ConnectionReset, "{}", octets.escape_ascii());
                break;
            }
        }
    }
    String::from_utf8(said).unwrap()
}

fn message(id: &str) -> Vec<u8> {
    format!("From: alice@example.com\r\nTo: reader@example.net\r\nMessage-ID: {id}\r\nSubject: x\r\n\r\ntext\r\n")
        .into_bytes()
}

#[test]
fn the_clients_own_address_stands_in_received_and_log_in_both_modes_and_versions() {
    let upstream = Upstream::start(Manner::Polite);
    let bench = behind(&upstream, "[\"127.0.0.0/8\"]", "[received]\nclient_address = true\n");
    let process = Process::start(&bench.configuration);
    let tls = bench.tls(Some(&bench.alice));
    for (header, id, literal, client) in [
        (SEVEN.to_vec(), "seven", "[192.0.2.7]", "192.0.2.7:40007"),
        (nine(), "nine", "[IPv6:2001:db8::9]", "[2001:db8::9]:40009"),
    ] {
        let (mut by_starttls, greeted) = Client::starttls_behind(&header, bench.starttls, &tls).unwrap();
        assert_eq!(greeted.code, 250, "{greeted:?}");
        let (mut by_implicit, greeting) = Client::implicit_behind(&header, bench.implicit, &tls).unwrap();
        assert_eq!((greeting.code, by_implicit.command("EHLO client.example.com").unwrap().code), (220, 250));
        for (client, mode) in [(&mut by_starttls, "starttls"), (&mut by_implicit, "implicit")] {
            let id = format!("<{id}.{mode}@example.com>");
            let said = client.submit("alice@example.com", &["reader@example.net"], &message(&id)).unwrap();
            assert_eq!(said.code, 250, "{said:?}");
            let octets = String::from_utf8(upstream.wait_for(&id).octets).unwrap();
            assert!(octets.starts_with("Received: ") && octets.contains(literal), "{octets}");
            assert!(!octets.contains("127.0.0.1"), "{octets}");
        }
        process.wait_for_log(0, &[client]);
    }
    // A second header is said to the session, which knows no such command.
    let mut twice = Client::plain_behind(SEVEN, bench.starttls).unwrap();
    let said = twice.command("PROXY TCP4 192.0.2.9 192.0.2.1 40009 587").unwrap();
    assert_eq!(said.code / 100, 5, "{said:?}");
    for second in [SEVEN.to_vec(), nine()] {
        for first in [SEVEN.to_vec(), nine()] {
            let said = heard(bench.starttls, &[first, second.clone()].concat());
            assert!(said.starts_with('5') && !said.contains("220 "), "{said}");
        }
    }
    assert!(process.stop().success());
}

#[test]
fn limits_count_each_client_and_not_their_balancer() {
    let upstream = Upstream::start(Manner::Polite);
    let more = "[limits]\nconnections = 4\nconnections_per_address = 1\nconnections_per_minute = 2\n";
    let bench = behind(&upstream, "[\"127.0.0.1\"]", more);
    let process = Process::start(&bench.configuration);
    // Probes take no client's place and nobody's pace.
    for _ in 0..5 {
        assert_eq!(Client::plain_behind(LOCAL, bench.starttls).unwrap().command("QUIT").unwrap().code, 221);
    }
    let seven = Client::plain_behind(SEVEN, bench.starttls).unwrap();
    let mut eight = Client::plain_behind(EIGHT, bench.starttls).unwrap();
    let said = heard(bench.starttls, SEVEN);
    assert!(said.starts_with("421 4.7.0 ") && said.contains("Too many connections"), "{said}");
    let told = process.wait_for_log(0, &["turned away", "limits.connections_per_address"]);
    assert!(told.contains("192.0.2.7:40007"), "{told}");
    drop(seven);
    assert_eq!(eight.command("QUIT").unwrap().code, 221);
    // The balancer itself is bounded by the total: connections that have not said whose they are count.
    let silent: Vec<TcpStream> = (0..4).map(|_| TcpStream::connect(bench.starttls).unwrap()).collect();
    assert!(super::harness::eventually(|| {
        let more = TcpStream::connect(bench.starttls).unwrap();
        more.set_read_timeout(Some(std::time::Duration::from_secs(1))).unwrap();
        matches!((&more).read(&mut [0]), Ok(0))
    }));
    drop(silent);
    assert!(process.stop().success());
}

#[test]
fn without_a_header_nothing_is_said_and_probes_are_no_fault() {
    let upstream = Upstream::start(Manner::Polite);
    let bench = behind(&upstream, "\"127.0.0.1\"", "");
    let process = Process::start(&bench.configuration);
    drop(TcpStream::connect(bench.starttls).unwrap());
    // HAProxy's `check` of a server with send-proxy-v2 says LOCAL and leaves.
    TcpStream::connect(bench.implicit).unwrap().write_all(LOCAL).unwrap();
    // The specification has the connection's own addresses used then: whoever probes by a dialogue hears one.
    for probe in [LOCAL, b"PROXY UNKNOWN\r\n", b"\r\n\r\n\0\r\nQUIT\n\x21\x00\x00\x00"] {
        let mut plain = Client::plain_behind(probe, bench.starttls).unwrap();
        assert_eq!(plain.command("QUIT").unwrap().code, 221, "{}", probe.escape_ascii());
        let tls = bench.tls(Some(&bench.alice));
        let (_, said) = Client::implicit_behind(probe, bench.implicit, &tls).unwrap();
        assert_eq!(said.code, 220, "{}", probe.escape_ascii());
    }
    for fault in ["no PROXY header", "the TLS handshake failed"] {
        assert!(!process.log().contains(fault), "{fault}: {}", process.log());
    }
    for address in [bench.starttls, bench.implicit] {
        for wrong in [
            &b"EHLO client.example.com\r\n"[..],
            b"\x16\x03\x01\x02\x00\x01\x00\x01",
            b"PROXY TCP4 0.0.0.0 192.0.2.1 40007 587\r\n",
            b"PROXY TCP4 192.0.2.7 192.0.2.1 40007 587\n",
        ] {
            assert_eq!(heard(address, wrong), "", "{}", wrong.escape_ascii());
        }
    }
    let told = process.wait_for_log(0, &["no PROXY header", "what came is no PROXY header"]);
    assert!(told.contains("\"balancer\":\"127.0.0.1:"), "{told}");
    assert_eq!(process.log().matches("the connection is closed").count(), 1, "{}", process.log());
    assert!(process.stop().success());
}

#[test]
fn who_is_no_balancer_hears_nothing_until_a_reload_makes_it_one() {
    let upstream = Upstream::start(Manner::Polite);
    let bench = behind(&upstream, "[\"192.0.2.0/24\", \"2001:db8::1\"]", "");
    let mut process = Process::start(&bench.configuration);
    for octets in [b"", SEVEN] {
        assert_eq!(heard(bench.starttls, octets), "");
    }
    let told = process.wait_for_log(0, &["proxy networks: turned away"]);
    assert!(told.contains("\"client\":\"127.0.0.1:"), "{told}");
    configure(&bench, &upstream, "[\"127.0.0.1\"]", "");
    process.signal("HUP");
    assert_eq!(process.wait_ready(PATIENCE), Start::Ready);
    assert_eq!(Client::plain_behind(SEVEN, bench.starttls).unwrap().command("QUIT").unwrap().code, 221);
    bench.configure(&[upstream.address], "");
    process.signal("HUP");
    assert_eq!(process.wait_ready(PATIENCE), Start::Ready);
    let mut direct = Client::plain(bench.starttls).unwrap();
    let said = direct.command("PROXY TCP4 192.0.2.7 192.0.2.1 40007 587").unwrap();
    assert_eq!(said.code / 100, 5, "no header is read any more: {said:?}");
    assert_eq!(direct.command("QUIT").unwrap().code, 221);
    assert!(process.stop().success());
}

#[test]
fn a_header_that_does_not_come_in_time_ends_the_connection_unsaid() {
    let upstream = Upstream::start(Manner::Polite);
    let bench = behind(&upstream, "[\"127.0.0.1\"]", "[deadlines]\nhandshake = \"1s\"\n");
    let process = Process::start(&bench.configuration);
    assert_eq!(heard(bench.starttls, &SEVEN[..SEVEN.len() - 1]), "");
    process.wait_for_log(0, &["no PROXY header", "did not come in time"]);
    assert!(process.stop().success());
}

/// The opening of the store is held up from outside.
#[test]
fn while_the_queue_is_opened_a_header_is_waited_for_before_421_is_said() {
    let upstream = Upstream::start(Manner::Polite);
    let bench = behind(&upstream, "[\"127.0.0.1\"]", "");
    let store = bench.directory.path().join("data/store.redb");
    let (store, trace) = (store.to_str().unwrap(), bench.directory.path().join("strace"));
    let held_up = "inject=openat:delay_enter=4000000:when=1";
    let strace =
        ["strace", "-f", "-qq", "-P", store, "-e", "trace=openat", "-e", held_up, "-o", trace.to_str().unwrap()];
    let mut process = Process::spawn(&bench.configuration, &strace);
    process.wait_told("STATUS=recovering the queue; clients are told to come again");
    assert_eq!(heard(bench.starttls, b"EHLO client.example.com\r\n"), "");
    for head in [SEVEN, LOCAL] {
        let said = heard(bench.starttls, head);
        assert!(said.starts_with("421 4.3.2 "), "{said}");
    }
    let (_, said) = Client::implicit_behind(&nine(), bench.implicit, &bench.tls(Some(&bench.alice))).unwrap();
    assert_eq!(said.code, 421, "{said:?}");
    assert_eq!(process.wait_ready(PATIENCE), Start::Ready, "{}", process.log());
    assert_eq!(Client::plain_behind(SEVEN, bench.starttls).unwrap().command("QUIT").unwrap().code, 221);
}
