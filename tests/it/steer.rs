//! The queue as operators steer it, on a daemon as a process: filters, questions before a removal, what the audit tells of it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::harness::bench::Bench;
use super::harness::client::Client;
use super::harness::free_addresses;
use super::harness::process::{Process, list_queue, program, sealpost, sealpost_says};
use super::harness::upstream::{Manner, Mood, Upstream};
use super::moving::fill;

fn message(from: &str, id: &str) -> Vec<u8> {
    format!(
        "From: {from}\r\nTo: x@example.net\r\nDate: Tue, 24 Nov 2026 09:00:00 +0000\r\nMessage-ID: <{id}@example.com>\r\nSubject: {id}\r\n\r\nsecret body\r\n"
    )
    .into_bytes()
}

fn submit(bench: &Bench, from: &str, recipients: &[&str], id: &str) {
    let leaf = if from.starts_with("alice") { &bench.alice } else { &bench.bob };
    let (mut client, _) = Client::starttls(bench.starttls, &bench.tls(Some(leaf))).unwrap();
    let said = client.submit(from, recipients, &message(from, id)).unwrap();
    assert_eq!(said.code, 250, "{said:?}");
}

/// Runs `sealpost queue` on the bench.
fn queue(bench: &Bench, words: &[&str]) -> Output {
    sealpost(&[&["queue"], words, &["--config", bench.config_argument()]].concat())
}

fn says(bench: &Bench, words: &[&str]) -> String {
    sealpost_says(&[&["queue"], words, &["--config", bench.config_argument()]].concat())
}

/// What the list with these filters has, by the names in the Message-IDs.
fn listed(bench: &Bench, filters: &[&str]) -> Vec<String> {
    let said = says(bench, &[&["list", "--json"], filters].concat());
    let entries = said.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let name = |entry: Value| {
        let id = entry["message_id"].as_str().unwrap().to_owned();
        id.trim_start_matches('<').split('@').next().unwrap().to_owned()
    };
    let mut names: Vec<String> = entries.map(name).collect();
    names.sort();
    names
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

/// A daemon whose upstream defers `later@example.net`, with three messages that it has tried.
fn with_mail() -> (Upstream, Bench, Process) {
    let upstream = Upstream::start(Manner::Polite);
    let bench = Bench::new(&[upstream.address]);
    bench.configure(&[upstream.address], "");
    let text = std::fs::read_to_string(&bench.configuration).unwrap().replace("retry = [\"2s\"]", "retry = [\"1h\"]");
    std::fs::write(&bench.configuration, text).unwrap();
    let process = Process::start(&bench.configuration);
    submit(&bench, "alice@example.com", &["later@example.net"], "a1");
    submit(&bench, "alice@example.com", &["later@example.net", "later@example.org"], "a2");
    submit(&bench, "bob@example.com", &["later@example.net"], "b1");
    let tried = || {
        let all = list_queue(&bench);
        all.len() == 3 && all.iter().all(|entry| entry["attempts"] == 1)
    };
    assert!(super::harness::eventually(tried), "not all were tried:\n{}", process.log());
    (upstream, bench, process)
}

#[test]
fn filters_are_put_together_with_and() {
    let (_upstream, bench, _process) = with_mail();
    for (filters, expected) in [
        (&[][..], &["a1", "a2", "b1"][..]),
        (&["--sender", "ALICE@example.com"], &["a1", "a2"]),
        (&["--sender", "*@example.com"], &["a1", "a2", "b1"]),
        (&["--identity", "staff:bob@example.com"], &["b1"]),
        (&["--recipient", "later@example.org"], &["a2"]),
        (&["--recipient", "*@example.net", "--sender", "bob@example.com"], &["b1"]),
        (&["--upstream", "upstream-0"], &["a1", "a2", "b1"]),
        (&["--upstream", "upstream-1"], &[]),
        (&["--newer-than", "1h", "--state", "queued"], &["a1", "a2", "b1"]),
        (&["--older-than", "1h"], &[]),
        (&["--state", "held"], &[]),
        (&["--limit", "2"], &["a1", "a2"]),
        (&["--limit", "1", "--newest-first"], &["b1"]),
    ] {
        assert_eq!(listed(&bench, filters), expected, "{filters:?}");
    }
    // A page goes on behind the last one.
    let first = says(&bench, &["list", "--json", "--limit", "1"]);
    let first: Value = serde_json::from_str(&first).unwrap();
    assert_eq!(listed(&bench, &["--after", first["id"].as_str().unwrap()]), ["a2", "b1"]);
    let wrong = queue(&bench, &["list", "--sender", "example.com"]);
    assert!(!wrong.status.success() && text(&wrong.stderr).contains("no @"), "{wrong:?}");
}

#[test]
fn what_is_meant_is_done_and_each_deed_is_told_with_who_did_it() {
    let (_upstream, bench, process) = with_mail();
    let nothing = queue(&bench, &["hold"]);
    assert_eq!(nothing.status.code(), Some(64), "{nothing:?}");
    let held = queue(&bench, &["hold", "--identity", "staff:alice@example.com", "--newer-than", "1h"]);
    assert!(held.status.success() && text(&held.stderr).contains("2 messages held"), "{held:?}");
    assert_eq!(text(&held.stdout).lines().count(), 2, "their names, for scripts");
    assert_eq!(listed(&bench, &["--state", "held"]), ["a1", "a2"]);
    let line = process.wait_for_log(0, &["\"steered\"", "\"hold\""]);
    let uid = format!("uid {}", rustix_uid());
    for words in [uid.as_str(), ", pid ", "--identity staff:alice@example.com --newer-than 1h"] {
        assert!(line.contains(words), "{words}: {line}");
    }
    process.wait_for_log(0, &["\"steering-ended\"", "\"messages\":2", "\"early\":false"]);
    // A name and a filter: both must hold.
    let id = list_queue(&bench)[2]["id"].as_str().unwrap().to_owned();
    let unmatched = queue(&bench, &["hold", &id, "--sender", "alice@example.com"]);
    assert!(unmatched.status.code() == Some(1) && text(&unmatched.stderr).contains("not one that"), "{unmatched:?}");
    let json = queue(&bench, &["release", "--json", "--all"]);
    assert_eq!(text(&json.stdout).matches(r#""outcome":"done""#).count(), 2, "{json:?}");
    assert_eq!(listed(&bench, &["--state", "queued"]), ["a1", "a2", "b1"]);
}

fn rustix_uid() -> String {
    let output = Command::new("id").arg("-u").output().unwrap();
    text(&output.stdout).trim().to_owned()
}

#[test]
fn a_removal_by_filter_is_shown_and_confirmed_before_it_is_done() {
    let (upstream, bench, process) = with_mail();
    let shown = queue(&bench, &["remove", "--sender", "alice@example.com", "--dry-run"]);
    assert!(shown.status.success() && text(&shown.stderr).contains("2 messages would be removed"), "{shown:?}");
    assert!(text(&shown.stdout).contains("alice@example.com (as staff:alice@example.com) -> later@example.net"));
    let asked = queue(&bench, &["remove", "--sender", "alice@example.com"]);
    assert!(asked.status.code() == Some(64) && text(&asked.stderr).contains("2 messages"), "{asked:?}");
    assert_eq!(listed(&bench, &[]), ["a1", "a2", "b1"], "nothing was done");
    // One recipient only: the message stays for the other.
    let shown = queue(&bench, &["remove", "--recipient", "later@example.org", "--dry-run"]);
    assert!(text(&shown.stderr).contains("later@example.org would be taken out of 1 message,"), "{shown:?}");
    let removed = queue(&bench, &["remove", "--recipient", "later@example.org", "--yes"]);
    assert!(removed.status.success(), "{removed:?}");
    assert!(text(&removed.stderr).contains("later@example.org taken out of 1 message"), "{removed:?}");
    process.wait_for_log(0, &["\"steered\"", "\"recipients\":\"later@example.org\""]);
    let shown = says(&bench, &["show", list_queue(&bench)[1]["id"].as_str().unwrap()]);
    assert!(shown.contains("later@example.org: removed") && shown.contains("later@example.net: deferred"), "{shown}");
    let removed = queue(&bench, &["remove", "--sender", "alice@example.com", "--yes"]);
    assert!(text(&removed.stderr).contains("2 messages removed"), "{removed:?}");
    assert_eq!(listed(&bench, &[]), ["b1"]);
    let none = queue(&bench, &["remove", "--sender", "nobody@example.com", "--yes"]);
    assert!(none.status.success() && text(&none.stderr).contains("0 messages removed"), "{none:?}");
    assert!(upstream.arrivals().is_empty(), "nobody was told: neither mail nor report");
}

#[test]
fn a_message_is_shown_with_its_header_section_and_never_with_its_body() {
    let (_upstream, bench, _process) = with_mail();
    let id = list_queue(&bench)[0]["id"].as_str().unwrap().to_owned();
    let shown = says(&bench, &["show", &id]);
    for words in [
        "sent by: staff:alice@example.com",
        "trusted by: staff",
        "next attempt: 2",
        "by upstream upstream-0",
        "to: later@example.net: deferred: ",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    assert!(!shown.contains("Subject:"));
    for form in [&["show", "--headers"][..], &["show", "--headers", "--json"]] {
        let shown = says(&bench, &[form, &[&id]].concat());
        assert!(
            shown.contains("Received: from client.invalid by localhost") && shown.contains("Subject: a1"),
            "{shown}"
        );
        assert!(!shown.contains("secret body"), "{shown}");
    }
}

#[test]
fn stats_say_what_is_there_whose_and_whether_mail_goes_in_and_out() {
    let (_upstream, bench, process) = with_mail();
    let said = says(&bench, &["stats"]);
    for words in [
        "mail is taken",
        "3 messages accepted",
        "4 deferred",
        "2     ",
        "staff:alice@example.com",
        "upstream-0",
        "example.net",
        "under 5m",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let json = || -> Value { serde_json::from_str(&says(&bench, &["stats", "--json"])).unwrap() };
    let stats = json();
    assert_eq!(stats["breakdown"]["identities"][0]["name"], "staff:alice@example.com", "{stats}");
    assert_eq!(stats["breakdown"]["identities"][0]["messages"], 2);
    assert_eq!(stats["since_start"]["accepted"], 3);
    assert_eq!(stats["intake"]["accepts"], true);
    let quick: Value = serde_json::from_str(&says(&bench, &["stats", "--json", "--top", "0"])).unwrap();
    assert!(quick["breakdown"].is_null() && quick["queued"] == 3, "{quick}");
    // With room for no more, it says why, and whose share is used up.
    assert!(process.stop().success());
    fill(&bench, 997, 0);
    bench.configure(&free_addresses::<1>(), "");
    let text = std::fs::read_to_string(&bench.configuration).unwrap().replace("[queue]\n", "[queue]\ncount = 2000\n");
    std::fs::write(&bench.configuration, text).unwrap();
    let _process = Process::start(&bench.configuration);
    let stats = json();
    assert_eq!(stats["intake"]["accepts"], false, "{stats}");
    assert!(stats["intake"]["why_not"].as_str().unwrap().contains("queue.count"), "{stats}");
    assert_eq!(stats["breakdown"]["shares_used_up"], serde_json::json!(["staff:alice@example.com"]), "{stats}");
    assert!(says(&bench, &["stats"]).contains("NO MAIL IS TAKEN"));
}

/// What an upstream has and has not answered arrives twice, perhaps: its operator is to know which.
#[test]
fn a_stop_that_is_not_waited_for_names_what_it_leaves() {
    let upstream = Upstream::start(Manner::Polite);
    let bench = Bench::new(&[upstream.address]);
    let mut process = Process::start(&bench.configuration);
    upstream.set_mood(Mood::Stuck);
    submit(&bench, "alice@example.com", &["x@example.net"], "stuck");
    upstream.wait_for("<stuck@example.com>");
    let entry: Value = serde_json::from_str(&says(&bench, &["list", "--json"])).unwrap();
    let id = entry["id"].as_str().unwrap();
    process.signal("TERM");
    process.wait_for_log(0, &["waiting for what is under way", "\"deliveries\":1"]);
    process.signal("TERM");
    process.wait_for_log(0, &["asked again to stop", "may arrive twice", &format!("\"deliveries\":\"{id}\"")]);
    assert!(process.wait_ended().success());
}

/// An upstream that says nothing behind the final dot: once all that an operator saw was that the message is due.
#[test]
fn where_a_message_hangs_is_seen_while_it_hangs() {
    let upstream = Upstream::start(Manner::Polite);
    let bench = Bench::new(&[upstream.address]);
    let process = Process::start(&bench.configuration);
    assert!(text(&queue(&bench, &["list", "--active"]).stderr).contains("no message is being tried now"));
    upstream.set_mood(Mood::Stuck);
    submit(&bench, "alice@example.com", &["x@example.net"], "stuck");
    upstream.wait_for("<stuck@example.com>");
    let seen = super::harness::eventually(|| says(&bench, &["list", "--active"]).contains("final dot"));
    let list = says(&bench, &["list", "--active"]);
    let words = "waiting for its reply to the end of the message (final dot)";
    let whom = "upstream upstream-0: for ";
    assert!(seen && list.contains("being tried for") && list.contains(whom) && list.contains(words), "{list}");
    assert!(says(&bench, &["list"]).contains(words));
    let entry: Value = serde_json::from_str(&says(&bench, &["list", "--active", "--json"])).unwrap();
    let (id, active) = (entry["id"].as_str().unwrap(), &entry["active"]);
    assert!(active["since"].as_str().is_some() && active["seconds"].as_u64().is_some(), "{entry}");
    assert_eq!(
        (&active["routes"][0]["route"], &active["routes"][0]["step"]),
        (&"default".into(), &"end-of-data".into())
    );
    let show = says(&bench, &["show", id]);
    assert!(show.contains("active: being tried now, since 20") && show.contains(words), "{show}");
    assert!(!show.contains("next attempt"), "{show}");
    // A second behind the last octet it is noted that the upstream may have it.
    process.wait_for_log(0, &["\"event\":\"unanswered\"", id, "upstream-0"]);
    assert!(super::harness::eventually(|| says(&bench, &["show", id]).contains("upstream upstream-0 may have it: ")));
    let stats = || -> Value { serde_json::from_str(&says(&bench, &["stats", "--top", "0", "--json"])).unwrap() };
    assert_eq!(stats()["longest_attempt"]["id"], entry["id"]);
    assert!(super::harness::eventually(|| says(&bench, &["stats"]).contains("longest: attempt under way for ")));
    upstream.set_mood(Mood::PuttingOff);
    let since = format!("\"began\":{}", active["since"]);
    process.wait_for_log(0, &["\"event\":\"deferred\"", &since]);
    // Without a daemon nothing is tried, and nothing is said.
    process.kill();
    assert!(text(&queue(&bench, &["list", "--active"]).stderr).contains("no daemon runs"));
    let (show, list) = (says(&bench, &["show", id]), says(&bench, &["list"]));
    assert!(show.contains("next attempt") && !show.contains("active") && !list.contains("being tried"), "{show}{list}");
}

#[test]
fn names_are_read_from_standard_input_and_one_that_is_missing_stops_no_other() {
    let (_upstream, bench, _process) = with_mail();
    let ids: Vec<String> = list_queue(&bench).iter().map(|entry| entry["id"].as_str().unwrap().to_owned()).collect();
    let mut child = Command::new(program())
        .args(["queue", "hold", "-", "--config", bench.config_argument()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    use std::io::Write as _;
    writeln!(child.stdin.take().unwrap(), "{}\n\n01jdkz3n7q8w0x2y4z6a8b0c1d\n{}", ids[0], ids[2]).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no message 01jdkz3n7q8w0x2y4z6a8b0c1d"), "{output:?}");
    assert_eq!(text(&output.stdout).lines().count(), 2);
    assert_eq!(listed(&bench, &["--state", "held"]), ["a1", "b1"]);
    // What the state of a named message does not allow is said, and is not called done.
    let not_held = queue(&bench, &["release", "--json", &ids[1]]);
    let said = text(&not_held.stdout);
    assert!(not_held.status.code() == Some(1) && said.contains("is queued, not held"), "{not_held:?}");
    // Beside the daemon an export takes what is held, and tells of the rest, unless it was not meant.
    let file = |name: &str| bench.directory.path().join(name).display().to_string();
    let exported = queue(&bench, &["export", &file("some")]);
    let said = text(&exported.stderr);
    assert!(exported.status.code() == Some(1) && said.contains("not exported: 1 message,"), "{exported:?}");
    assert!(says(&bench, &["export", "--state", "held", &file("held")]).contains("2 messages"));
    // Part of a name is none; the near ones are told.
    for words in [&["queue", "list", "--identity", "ALICE"][..], &["identities", "Alice"]] {
        let nobody = sealpost(&[words, &["--config", bench.config_argument()]].concat());
        assert!(text(&nobody.stderr).contains("did you mean staff:alice@example.com?"), "{words:?}: {nobody:?}");
    }
    // A list that may go on says so where nobody reads the answers, too.
    let cut = queue(&bench, &["list", "--json", "--limit", "1"]);
    assert!(text(&cut.stderr).contains("there may be more: --after"), "{cut:?}");
}

/// RFC 4865 §4.2: before its moment it is sent only when an operator means that very message.
#[test]
fn what_its_sender_wants_to_wait_is_made_due_by_its_name_only() {
    let upstream = Upstream::start(Manner::Polite);
    let bench = Bench::new(&[upstream.address]);
    bench.configure(&[upstream.address], "");
    let _process = Process::start(&bench.configuration);
    let (mut client, _) = Client::starttls(bench.starttls, &bench.tls(Some(&bench.alice))).unwrap();
    for (line, code) in [
        ("MAIL FROM:<alice@example.com> HOLDFOR=3600", 250),
        ("RCPT TO:<x@example.net>", 250),
        ("DATA", 354),
        (&format!("{}.", text(&message("alice@example.com", "waits"))), 250),
    ] {
        assert_eq!(client.command(line).unwrap().code, code, "{line}");
    }
    let list = says(&bench, &["list"]);
    assert!(list.contains("waits until 20") && list.contains("as its sender asked"), "{list}");
    let retried = queue(&bench, &["retry", "--all"]);
    assert!(retried.status.success(), "{}", text(&retried.stderr));
    assert_eq!((listed(&bench, &[]), upstream.arrivals().len()), (vec!["waits".to_owned()], 0));
    let id = list_queue(&bench)[0]["id"].as_str().unwrap().to_owned();
    says(&bench, &["retry", &id]);
    assert!(super::harness::eventually(|| upstream.arrivals().len() == 1));
}

/// An upstream that is down has 300 messages wait; it comes up, and they leave while they are retried.
#[test]
fn a_message_that_leaves_before_its_turn_is_no_fault_of_retry_all() {
    let [address]: [SocketAddr; 1] = free_addresses();
    let bench = Bench::new(&[address]);
    fill(&bench, 300, 100);
    let _process = Process::start(&bench.configuration);
    let upstream = Upstream::start_at(address, Manner::Polite);
    for _ in 0..5 {
        let retried = queue(&bench, &["retry", "--all"]);
        let told = text(&retried.stderr);
        assert!(retried.status.success() && told.contains("made due now") && !told.contains("no message"), "{told}");
    }
    assert!(super::harness::eventually(|| list_queue(&bench).len() == 30), "what is held is not meant");
    assert_eq!(upstream.arrivals().len(), 270);
}

#[test]
fn an_old_command_line_is_told_by_a_new_daemon_that_it_is_old() {
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;
    let bench = Bench::new(&free_addresses::<1>());
    let _process = Process::start(&bench.configuration);
    let mut old = UnixStream::connect(bench.directory.path().join("data/control.sock")).unwrap();
    old.write_all(b"{\"version\":1,\"command\":{\"list\":{\"state\":null,\"limit\":1000}}}\n").unwrap();
    let mut said = String::new();
    old.read_to_string(&mut said).unwrap();
    // As version 1 reads it: a fault, and the end.
    assert!(
        said.starts_with("{\"fault\":\"the running daemon speaks version 5") && said.ends_with("\"end\"\n"),
        "{said}"
    );
}

/// Peak of a process's resident memory so far, KiB.
fn peak_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_hundred_thousand_messages_are_listed_in_bounded_memory_and_head_ends_it_quietly() {
    const MANY: usize = 100_000;
    let bench = Bench::new(&free_addresses::<1>());
    fill(&bench, MANY, 0);
    let peak_at = |limit: &str, lines: usize| {
        let mut child = Command::new(program())
            .args(["queue", "list", "--json", "--limit", limit, "--config", bench.config_argument()])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
        for _ in 0..lines {
            out.next().unwrap().unwrap();
        }
        let peak = peak_memory(child.id());
        // As `head` does.
        drop(out);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        peak
    };
    let (few, all) = (peak_at("1000", 900), peak_at("1000000", MANY - 1000));
    println!("a listing of {MANY} has its peak at {all} KiB, one of 1000 at {few} KiB");
    // The store's own cache has at most 32 MiB.
    assert!(all < few + 48 * 1024, "{all} KiB after {few} KiB");
}

/// The daemon's text goes over the socket in pieces, and the command copies them.
#[test]
fn a_listing_beside_a_daemon_is_what_it_is_without_one() {
    const MANY: usize = 3000;
    const AGES: std::ops::Range<usize> = 46..50;
    let bench = Bench::new(&free_addresses::<1>());
    fill(&bench, MANY, 0);
    assert!(queue(&bench, &["hold", "--all"]).status.success());
    let listings: [(&[&str], usize); 4] = [
        (&["--limit", "9999"], MANY),
        (&["--limit", "2500", "--newest-first"], 2500),
        (&["--limit", "9999", "--json"], MANY),
        (&["--limit", "700", "--json", "--state", "held"], 700),
    ];
    let listed = || {
        listings.map(|(words, messages)| {
            let said = says(&bench, &[&["list"], words].concat());
            assert_eq!(said.lines().filter(|line| !line.starts_with(' ')).count(), messages, "{words:?}");
            // But for the column of ages, which go on.
            let is_json = words.contains(&"--json");
            let lines = said.lines().map(|line| match line.split_at_checked(AGES.start) {
                Some((before, behind)) if !is_json && !line.starts_with(' ') => {
                    format!("{before}{}", &behind[AGES.len()..])
                }
                _ => line.to_owned(),
            });
            lines.collect::<Vec<String>>()
        })
    };
    let without = listed();
    let process = Process::start(&bench.configuration);
    assert!(listed() == without);
    assert!(process.stop().success());
}

/// `sealpost queue hold --all | head -1`: once it ended with the pipe, five thousand held, the rest going out, and said that it was done.
#[test]
fn what_is_done_to_many_is_done_to_all_of_them_whoever_reads_on() {
    const MANY: usize = 6000;
    let bench = Bench::new(&free_addresses::<1>());
    fill(&bench, MANY, 0);
    let steer = |words: &[&str]| {
        let mut command = Command::new(program());
        command.args(["queue"]).args(words).args(["--all", "--config", bench.config_argument()]);
        command
    };
    let mut child = steer(&["hold"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
    out.next().unwrap().unwrap();
    drop(out);
    let held = child.wait_with_output().unwrap();
    assert!(held.status.success(), "{held:?}");
    assert!(text(&held.stderr).contains("6000 messages held"), "{held:?}");
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let released = steer(&["release"]).stdout(full).output().unwrap();
    assert_eq!(released.status.code(), Some(74), "{released:?}");
    assert!(text(&released.stderr).contains("6000 messages released"), "{released:?}");
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut list = Command::new(program());
    let listed = list.args(["queue", "list", "--config", bench.config_argument()]).stdout(full).output().unwrap();
    assert_eq!(listed.status.code(), Some(74), "{listed:?}");
    assert!(text(&listed.stderr).contains("standard output can't be written"), "{listed:?}");
}

/// Ctrl-C: once only a round that came to its end had an end in the audit, and of the others nobody knew whether they still went on.
#[test]
fn a_round_whose_asker_goes_away_has_its_end_in_the_audit_too() {
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;
    // More answers than the socket takes while nobody reads.
    const MANY: u64 = 6000;
    let bench = Bench::new(&free_addresses::<1>());
    fill(&bench, usize::try_from(MANY).unwrap(), 0);
    let process = Process::start(&bench.configuration);
    let mut asking = UnixStream::connect(bench.directory.path().join("data/control.sock")).unwrap();
    asking.write_all(b"{\"version\":5,\"command\":{\"steer\":{\"action\":\"hold\",\"target\":\"all\"}}}\n").unwrap();
    let mut first = String::new();
    BufReader::new(&asking).read_line(&mut first).unwrap();
    assert!(first.starts_with("{\"done\":"), "{first}");
    drop(asking);
    let ended = process.wait_for_log(0, &["\"steering-ended\"", "\"early\":true"]);
    let (_, rest) = ended.split_once("\"messages\":").unwrap();
    let messages: u64 = rest.split(|octet: char| !octet.is_ascii_digit()).next().unwrap().parse().unwrap();
    assert!((1..MANY).contains(&messages), "{ended}");
    let told = process.log().matches("\"event\":\"steered\"").count();
    assert_eq!(u64::try_from(told).unwrap(), messages, "each has its line");
    assert!(process.stop().success());
}

/// Once the names stood in the memory of the command alone until all was done: whoever ended it knew of none.
#[test]
fn who_ends_a_command_without_a_daemon_is_told_what_was_done() {
    const MANY: usize = 10_000;
    let bench = Bench::new(&free_addresses::<1>());
    fill(&bench, MANY, 0);
    let names = bench.directory.path().join("names");
    let mut command = Command::new(program());
    command.args(["queue", "hold", "--all", "--config", bench.config_argument()]);
    let mut child = command.stdout(std::fs::File::create(&names).unwrap()).stderr(Stdio::piped()).spawn().unwrap();
    // Once the first names are there.
    while std::fs::metadata(&names).unwrap().len() == 0 && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM).unwrap();
    let ended = child.wait_with_output().unwrap();
    let told = std::fs::read_to_string(&names).unwrap().lines().count();
    let held = listed(&bench, &["--state", "held", "--limit", "100000"]).len();
    assert_eq!(
        (told, text(&ended.stderr).contains("interrupted: what was told is done")),
        (held, told < MANY),
        "{ended:?}"
    );
    assert!(told > 0 && told < MANY, "{told}: it met none of it");
}

/// While nothing of the queue is open, a signal ends it as any: here the names wait for who reads.
#[test]
fn who_ends_a_command_that_waits_for_its_reader_is_not_made_to_wait() {
    let bench = Bench::new(&free_addresses::<1>());
    // More names than a pipe takes.
    fill(&bench, 4000, 0);
    let mut command = Command::new(program());
    command.args(["queue", "hold", "--all", "--config", bench.config_argument()]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut first = String::new();
    let mut out = BufReader::with_capacity(64, child.stdout.take().unwrap());
    out.read_line(&mut first).unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143), "{first}");
    assert_eq!(listed(&bench, &["--state", "held", "--limit", "100000"]).len(), 4000, "the store was closed by then");
}

/// `sealpost check 2>&1 | head -1`: nobody reads on, on either way out, and each ends as it ends where somebody does.
#[test]
fn whoever_does_not_read_on_ends_no_command_in_a_panic() {
    let bench = Bench::new(&free_addresses::<1>());
    fill(&bench, 3, 0);
    let (config, certificate) = (bench.config_argument(), bench.alice.certificate.to_str().unwrap());
    for words in [
        &["check", "--config", config][..],
        &["check", "--config", "/nowhere"],
        &["explain", "--config", config, "--cert", certificate, "--from", "ceo@example.com"],
        &["queue", "list", "--config", config],
        &["queue", "stats", "--config", config, "--json"],
        &["queue", "show", "--config", config, "nothing"],
        &["queue", "list", "--config", "/nowhere"],
        &["identities", "--config", config],
        &["upstream", "test", "--config", config],
        &["pki", "list", "--dir", "/nowhere"],
    ] {
        let read = sealpost(words).status.code();
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(program());
        let unread = command.args(words).stdout(writer.try_clone().unwrap()).stderr(writer).status().unwrap();
        assert_eq!(unread.code(), read, "{words:?}");
    }
}
