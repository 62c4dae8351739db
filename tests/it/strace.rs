//! Promise 3 seen from the kernel: between the last octet of a message that the relay reads and the 250 that it writes stands a
//! completed sync.
//!
//! The daemon runs under strace; the upstream never says a word, so that the only reason to sync is the message.
//!
//! And a daemon that opens a queue after a crash, killed by strace at one call after the other: kills that fall by chance (`kill`) seldom fall there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use super::harness::bench::Bench;
use super::harness::client::Client;
use super::harness::process::{Process, Start, list_queue, sealpost_says};
use super::harness::upstream::{Manner, Upstream};
use super::harness::{PATIENCE, free_addresses};
use super::moving::fill;

const READS: &[&str] = &["read", "recvfrom", "recvmsg", "readv"];
const WRITES: &[&str] = &["write", "sendto", "sendmsg", "writev"];
const SYNCS: &[&str] = &["fsync", "fdatasync", "sync_file_range", "msync", "syncfs"];

/// Octets and record are synced on the shelf, and then the commit that names them. Bodies over this are files of their own: they are synced first, and
/// their folder with them.
const IN_MEMORY: usize = 256 * 1024;
/// Octets of the bodies: in memory, over the 256 KiB from which the queue writes a file, and tiny.
const BODIES: &[usize] = &[10, 5_000, 200_000, 300_000, 1_000_000, 40];

/// By which the files of a queue are opened and changed.
const CHANGES: &str = "openat,pwrite64,ftruncate,fallocate,fsync,fdatasync,unlink,unlinkat,rename,renameat,renameat2";

#[test]
fn strace_shows_that_who_is_killed_at_any_call_of_a_recovery_loses_nothing() {
    const MESSAGES: usize = 30;
    let bench = Bench::new(&free_addresses::<1>());
    fill(&bench, MESSAGES, 20_000);
    let process = Process::start(&bench.configuration);
    let (mut client, _) = Client::starttls(bench.starttls, &bench.tls(Some(&bench.alice))).unwrap();
    let large = "From: alice@example.com\r\n\r\n".to_owned() + &"0123456789abcdef\r\n".repeat(20_000);
    assert_eq!(client.submit("alice@example.com", &["reader@example.net"], large.as_bytes()).unwrap().code, 250);
    process.kill();
    let data = bench.directory.path().join("data");
    let [store, shelf, bodies] =
        ["store.redb", "messages-0", "bodies"].map(|name| data.join(name).to_str().unwrap().to_owned());
    let mut kills = 0;
    for nth in 1.. {
        let (trace, kill) = (format!("trace={CHANGES}"), format!("inject={CHANGES}:signal=KILL:when={nth}"));
        let paths = ["-P", &store, "-P", &shelf, "-P", &bodies];
        let strace = [&["strace", "-f", "-qq"], &paths[..], &["-e", &trace, "-e", &kill, "-o", "/dev/null"]].concat();
        let mut process = Process::spawn(&bench.configuration, &strace);
        match process.wait_ready(PATIENCE) {
            Start::Ended => kills += 1,
            Start::Ready => break,
            Start::NotYet => panic!("neither open nor killed:\n{}", process.log()),
        }
    }
    println!("{kills} kills while the queue was opened");
    assert!(kills >= 5, "{kills}");
    let upstream = Upstream::start(Manner::Polite);
    bench.configure(&[upstream.address], "");
    let process = Process::start(&bench.configuration);
    sealpost_says(&["queue", "release", "--all", "--config", bench.config_argument()]);
    assert!(upstream.wait_until(PATIENCE, |all| all.len() > MESSAGES), "{}", process.log());
    let ids: BTreeSet<String> = upstream.arrivals().iter().map(|one| one.message_id()).collect();
    assert_eq!((ids.len(), upstream.arrivals().len()), (MESSAGES + 1, MESSAGES + 1), "each once");
    assert!(process.stop().success());
    assert_eq!(list_queue(&bench).len(), 0);
}

#[test]
fn strace_shows_a_completed_sync_before_each_250() {
    let upstream = Upstream::start(Manner::Silent);
    let bench = Bench::new(&[upstream.address]);
    let trace = bench.directory.path().join("strace");
    let filter = format!("trace=accept4,{}", [READS, WRITES, SYNCS].concat().join(","));
    let wrapper = ["strace", "-f", "-qq", "-e", &filter, "-e", "signal=none", "-s", "0", "-o", trace.to_str().unwrap()];
    let mut process = Process::spawn(&bench.configuration, &wrapper);
    assert_eq!(process.wait_ready(PATIENCE), Start::Ready, "{}", process.log());
    let (mut client, _) = Client::implicit(bench.implicit, &bench.tls(Some(&bench.alice))).unwrap();
    assert_eq!(client.command("EHLO client.example.com").unwrap().code, 250);
    for length in BODIES {
        let head = format!(
            "From: alice@example.com\r\nDate: Tue, 24 Nov 2026 09:00:00 +0000\r\nMessage-ID: <s.{length}@example.com>\r\n\r\n"
        );
        let body = "0123456789abcdef\r\n".repeat(length / 18 + 1);
        let said = client.submit("alice@example.com", &["reader@example.net"], (head + &body).as_bytes()).unwrap();
        assert_eq!(said.code, 250, "{said:?}");
    }
    assert_eq!(client.command("QUIT").unwrap().code, 221);
    drop(client);
    end_traced(process, &trace);
    let calls = calls(&fs::read_to_string(&trace).unwrap());
    // A turn with a sync in it is a body and its 250: the commands write nothing to disk. A 250 said before its sync would leave one turn too few.
    let synced: Vec<usize> = turns(&calls).iter().map(|turn| turn.syncs(&calls)).filter(|syncs| *syncs > 0).collect();
    assert_eq!(
        synced.len(),
        BODIES.len(),
        "turns with completed syncs between the last octet and the answer: {synced:?}"
    );
    for (body, syncs) in BODIES.iter().zip(&synced) {
        let wanted = if *body > IN_MEMORY { 4 } else { 2 };
        assert_eq!(
            *syncs, wanted,
            "completed syncs between the last octet of {body} and its 250: no fewer, and none too many"
        );
    }
}

/// Kills the traced daemon and waits for strace to have written all it saw.
fn end_traced(mut process: Process, trace: &Path) {
    let first = fs::read_to_string(trace).unwrap().split_whitespace().next().unwrap().to_owned();
    assert!(Command::new("kill").args(["-s", "KILL", &first]).status().unwrap().success());
    process.wait_ended();
}

/// One system call: in which lines of the trace it began and ended.
#[derive(Debug)]
struct Call {
    name: String,
    /// The first argument, when it is a number.
    descriptor: Option<i64>,
    began: usize,
    ended: usize,
    result: i64,
}

impl Call {
    fn is(&self, names: &[&str]) -> bool {
        names.contains(&self.name.as_str())
    }
}

/// The calls that ended, in the order in which they ended.
fn calls(trace: &str) -> Vec<Call> {
    let mut open: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
    let mut calls = Vec::new();
    for (number, line) in trace.lines().enumerate() {
        let Some((process, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        if rest.ends_with("<unfinished ...>") {
            open.insert(process, (number, rest));
        } else if rest.starts_with("<...") {
            if let Some((began, start)) = open.remove(process) {
                calls.extend(call(start, rest, began, number));
            }
        } else {
            calls.extend(call(rest, rest, number, number));
        }
    }
    calls
}

/// A call from the text that has its name and the text that has its result, which are one when it was not interrupted.
fn call(start: &str, end: &str, began: usize, ended: usize) -> Option<Call> {
    let (name, arguments) = start.split_once('(')?;
    let descriptor = arguments.split([',', ')', ' ']).next()?.parse().ok();
    let result = end.rsplit_once(" = ")?.1.split_whitespace().next()?.parse().ok()?;
    Some(Call { name: name.to_owned(), descriptor, began, ended, result })
}

/// What the relay read from its client until it wrote again.
#[derive(Debug)]
struct Turn {
    /// The line in which the last read ended.
    read: usize,
    /// The line in which the first write after it began.
    write: usize,
}

impl Turn {
    /// How many syncs began after the last read and had ended before the write began.
    fn syncs(&self, calls: &[Call]) -> usize {
        let within = |call: &&Call| call.result == 0 && call.began > self.read && call.ended < self.write;
        calls.iter().filter(|call| call.is(SYNCS)).filter(within).count()
    }
}

/// The turns of the one connection that was accepted.
fn turns(calls: &[Call]) -> Vec<Turn> {
    let accepted: Vec<&Call> = calls.iter().filter(|call| call.name == "accept4" && call.result >= 0).collect();
    let [accepted] = accepted.as_slice() else { panic!("not one connection: {accepted:?}") };
    let mut turns = Vec::new();
    let mut last_read = None;
    // Before, the number was another file's.
    let of_connection =
        |call: &&Call| call.descriptor == Some(accepted.result) && call.began > accepted.ended && call.result > 0;
    for call in calls.iter().filter(of_connection) {
        if call.is(READS) {
            last_read = Some(call.ended);
        } else if call.is(WRITES) {
            turns.extend(last_read.take().map(|read| Turn { read, write: call.began }));
        }
    }
    turns
}

#[test]
fn a_trace_is_read_as_it_happened() {
    let trace = "\
10 accept4(7, {sa_family=AF_INET}, [16], SOCK_CLOEXEC) = 9
10 recvfrom(9, \"\"..., 100, 0, NULL, NULL) = 20
11 fdatasync(5 <unfinished ...>
10 recvfrom(9, 0x1, 100, 0, NULL, NULL) = -1 EAGAIN (Resource temporarily unavailable)
11 <... fdatasync resumed>) = 0
10 sendto(9, \"\"..., 30, MSG_NOSIGNAL, NULL, 0) = 30
10 recvfrom(9, \"\"..., 100, 0, NULL, NULL) = 20
11 fdatasync(5 <unfinished ...>
10 sendto(9, \"\"..., 30, MSG_NOSIGNAL, NULL, 0) = 30
11 <... fdatasync resumed>) = 0
";
    let calls = calls(trace);
    let synced: Vec<usize> = turns(&calls).iter().map(|turn| turn.syncs(&calls)).collect();
    assert_eq!(synced, [1, 0], "the second answer went out before its sync had ended");
}
