//! A bounded load: so many messages of one size over so many connections at once, each on its own thread, with a client certificate.
//!
//! `load HOST:PORT CA CERT KEY CONNECTIONS MESSAGES OCTETS`; prints one JSON object. A tool of tests/long, not of sealpost.

#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    missing_debug_implementations,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::as_conversions,
    clippy::disallowed_methods,
    reason = "a program of the tests: what it meets unexpectedly must end it, and it has files, sockets and a clock of its own"
)]

#[path = "../it/harness/certificates.rs"]
mod certificates;
#[path = "../it/harness/client.rs"]
mod client;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use certificates::Leaf;
use client::Client;

/// How long one reply may take.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [server, ca, certificate, key, connections, messages, octets] = arguments.as_slice() else {
        panic!("usage: load HOST:PORT CA CERT KEY CONNECTIONS MESSAGES OCTETS");
    };
    let server: SocketAddr = server.parse().expect("HOST:PORT, the host as an address");
    let (connections, messages, octets): (u64, u64, usize) =
        (connections.parse().unwrap(), messages.parse().unwrap(), octets.parse().unwrap());
    let tls = client::tls(ca.as_ref(), Some(&Leaf::from_files(certificate.as_ref(), key.as_ref())));
    let next = AtomicU64::new(0);
    let began = Instant::now();
    let mut waits: Vec<Duration> = std::thread::scope(|scope| {
        let workers: Vec<_> =
            (0..connections).map(|_| scope.spawn(|| work(server, &tls, &next, messages, octets))).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    let seconds = began.elapsed().as_secs_f64();
    waits.sort_unstable();
    let at = |part: usize| waits[(waits.len() - 1) * part / 1000].as_secs_f64() * 1000.0;
    let rate = waits.len() as f64 / seconds;
    println!(
        "{{\"messages\": {}, \"seconds\": {seconds:.2}, \"per_second\": {rate:.0}, \"p50_ms\": {:.1}, \"p99_ms\": {:.1}, \"max_ms\": {:.1}}}",
        waits.len(),
        at(500),
        at(990),
        at(1000)
    );
}

/// One connection: submits as long as messages are left; how long each transaction took.
fn work(
    server: SocketAddr,
    tls: &std::sync::Arc<rustls::ClientConfig>,
    next: &AtomicU64,
    messages: u64,
    octets: usize,
) -> Vec<Duration> {
    let (mut client, greeted) = Client::starttls(server, tls).unwrap();
    assert_eq!(greeted.code, 250, "{greeted:?}");
    let mut waits = Vec::new();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= messages {
            let _ = client.command("QUIT");
            return waits;
        }
        let message = message(number, octets);
        let began = Instant::now();
        let said = client.submit("alice@example.com", &["reader@example.net"], &message).unwrap();
        assert_eq!(said.code, 250, "{said:?}");
        waits.push(began.elapsed());
    }
}

fn message(number: u64, octets: usize) -> Vec<u8> {
    let mut message = format!(
        "From: alice@example.com\r\nTo: reader@example.net\r\nDate: Tue, 24 Nov 2026 09:00:00 +0000\r\nMessage-ID: <load.{number}@example.com>\r\n\r\n"
    )
    .into_bytes();
    while message.len() < octets {
        message.extend_from_slice(b"0123456789012345678901234567890123456789012345678901234567890123456789\r\n");
    }
    message
}
