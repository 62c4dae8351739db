//! A queue that moves from one relay to another by `queue export` and `queue import`: nothing is lost, nothing arrives twice, whoever is killed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

use sealpost::mail::{
    Address, Envelope, ForwardPath, MailParameters, QueueId, Recipient, RecipientParameters, ReversePath,
};
use sealpost::queue::transfer::Received;
use sealpost::queue::{Custodian, Deposit, Driving, Queue, QueueSettings, Record, TraceFacts};
use sealpost::sys::{Clock, Entropy, SystemClock, SystemDisk, SystemEntropy};

use super::harness::bench::Bench;
use super::harness::process::{Process, list_queue, program, sealpost, sealpost_says};
use super::harness::upstream::{Manner, Upstream};
use super::harness::{PATIENCE, eventually, free_addresses};

/// Messages that are kept in one transaction.
const TOGETHER: usize = 64;

/// Puts messages of alice's into the queue of a bench on which no daemon runs: `<fill.N@example.com>`, with bodies of about so many octets; every
/// tenth is held.
pub fn fill(bench: &Bench, count: usize, octets: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let clock = Arc::new(SystemClock::start());
    let settings =
        QueueSettings { driving: Driving::Inline, ..QueueSettings::new(bench.directory.path().join("data")) };
    let shared: Arc<dyn Clock> = clock.clone();
    let (queue, _) = Queue::open(settings, Arc::new(SystemDisk), shared, Arc::new(SystemEntropy)).unwrap();
    runtime.block_on(async {
        let (export, mut together) = (queue.new_export(), Vec::new());
        for number in 0..count {
            let body = message(number, octets);
            let Received::Awaited(mut arriving) = queue.receive(record(&*clock, number, &body)).await.unwrap() else {
                panic!("it is here");
            };
            arriving.write(&body).await.unwrap();
            together.push((number as u64, arriving.finish().await.unwrap()));
            if together.len() == TOGETHER || number + 1 == count {
                let kept = queue.adopt(export, std::mem::take(&mut together)).await;
                assert!(kept.iter().all(Result::is_ok), "{kept:?}");
            }
        }
        let page = sealpost::queue::Page { after: None, limit: 1000 };
        let entries = queue.list(sealpost::queue::Filter::default(), page).await.unwrap().entries;
        for listed in entries.iter().step_by(10).filter(|_| count <= 1000) {
            queue.hold(listed.id()).await.unwrap();
        }
        queue.close().await;
    });
}

fn message(number: usize, octets: usize) -> Vec<u8> {
    let head = format!(
        "From: alice@example.com\r\nTo: reader@example.net\r\nDate: Tue, 24 Nov 2026 09:00:00 +0000\r\nMessage-ID: <fill.{number}@example.com>\r\n\r\n"
    );
    let line = format!("{number:076}\r\n");
    [head.into_bytes(), line.repeat(octets / line.len()).into_bytes()].concat()
}

fn record(clock: &dyn Clock, number: usize, body: &[u8]) -> Record {
    let arrived = clock.now().wall;
    let address = |text: &str| Address::parse(text).unwrap();
    let recipient = Recipient {
        forward_path: ForwardPath::Address(address("reader@example.net")),
        parameters: RecipientParameters::default(),
    };
    let deposit = Deposit {
        envelope: Envelope::new(
            ReversePath::Address(address("alice@example.com")),
            MailParameters::default(),
            vec![recipient],
        )
        .unwrap(),
        custodian: Custodian {
            identity: "staff:alice@example.com".to_owned(),
            ca: Some("staff".to_owned()),
            fingerprint: "ab".repeat(32),
            chain: vec![("CN=Staff CA".to_owned(), "01af".to_owned())],
            key: None,
            links: Vec::new(),
            vouched: None,
            ends: None,
        },
        trace: TraceFacts {
            client: "192.0.2.1:40000".to_owned(),
            helo: "laptop.example.com".to_owned(),
            protocol: "ESMTPS".to_owned(),
            tls: "TLS1.3 TLS_AES_256_GCM_SHA384".to_owned(),
            arrived,
            message_id: Some(format!("<fill.{number}@example.com>")),
        },
    };
    let random = u128::from(SystemEntropy.next_u64()) | (u128::from(number as u64) << 64);
    Record::new(QueueId::new(arrived, random), deposit, body.len() as u64, xxhash_rust::xxh3::xxh3_64(body))
}

fn arguments<'a>(bench: &'a Bench, words: &[&'a str]) -> Vec<&'a str> {
    [&["queue"], words, &["--config", bench.config_argument()]].concat()
}

fn export(bench: &Bench, file: &Path) -> Output {
    sealpost(&arguments(bench, &["export", file.to_str().unwrap()]))
}

fn import(bench: &Bench, file: &Path) -> Output {
    sealpost(&arguments(bench, &["import", file.to_str().unwrap()]))
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

fn assert_done(output: &Output, words: &str) {
    assert!(output.status.success() && text(&output.stdout).contains(words), "{words}: {output:?}");
}

fn with_ending(file: &Path, ending: &str) -> PathBuf {
    PathBuf::from(format!("{}.{ending}", file.display()))
}

/// What the queue knows of each message, by name.
fn states(bench: &Bench) -> BTreeMap<String, String> {
    let entries = list_queue(bench);
    entries.into_iter().map(|entry| (entry["id"].as_str().unwrap().to_owned(), entry.to_string())).collect()
}

/// A bench whose queue has been made.
fn bench() -> Bench {
    let bench = Bench::new(&free_addresses::<1>());
    fill(&bench, 0, 0);
    bench
}

#[test]
fn no_command_makes_a_queue_where_there_is_none() {
    let (from, to) = (bench(), Bench::new(&free_addresses::<1>()));
    fill(&from, 1, 0);
    let file = from.directory.path().join("queue.export");
    assert_done(&export(&from, &file), "1 message");
    // As when the file system with the queue is not mounted.
    let data = to.directory.path().join("data");
    fs::create_dir_all(&data).unwrap();
    for words in [&["stats"][..], &["list"], &["import", file.to_str().unwrap()], &["compact"]] {
        let said = sealpost(&arguments(&to, words));
        assert_eq!(said.status.code(), Some(69), "{words:?}: {said:?}");
        assert!(text(&said.stderr).contains("there is no queue in"), "{words:?}: {said:?}");
    }
    assert_eq!(fs::read_dir(&data).unwrap().count(), 0);
    assert!(!with_ending(&file, "receipt").exists());
}

#[test]
fn a_stopped_queue_moves_as_it_was_and_is_removed_by_receipt_only() {
    let (from, to) = (bench(), bench());
    fill(&from, 29, 500);
    // One with a body file.
    fill(&from, 1, 300_000);
    let before = states(&from);
    let body_files = |bench: &Bench| fs::read_dir(bench.directory.path().join("data/bodies")).unwrap().count();
    assert_eq!((before.len(), body_files(&from)), (30, 1));
    let file = from.directory.path().join("queue.export");
    assert_done(&export(&from, &file), "30 messages");
    assert_eq!(states(&from), before, "an export changes nothing");
    let again = export(&from, &file);
    assert!(!again.status.success() && text(&again.stderr).contains("is there already"), "{again:?}");
    assert_done(&import(&to, &file), "30 messages of export");
    assert_eq!(states(&to), before, "held, queued, and everything else");
    assert_eq!(body_files(&to), 1);
    assert_done(&import(&to, &file), "0 messages of export");
    assert_eq!(states(&to), before);
    let receipt = with_ending(&file, "receipt");
    let remove = |bench: &Bench, receipt: &Path| {
        sealpost(&arguments(bench, &["export", "--remove-after", receipt.to_str().unwrap()]))
    };
    // Not where they have just arrived, and not by half a receipt.
    let wrong = remove(&to, &receipt);
    assert!(!wrong.status.success() && text(&wrong.stderr).contains("took export"), "{wrong:?}");
    assert_eq!(states(&to), before);
    let half = from.directory.path().join("half");
    let octets = fs::read(&receipt).unwrap();
    fs::write(&half, &octets[..octets.len() / 2]).unwrap();
    assert!(!remove(&from, &half).status.success());
    assert_eq!(states(&from).len(), 30);
    assert_done(&remove(&from, &receipt), "30 messages of export");
    assert!(states(&from).is_empty());
    // Its file brings nothing back: another queue has them now, and both would deliver them.
    let returned = import(&from, &file);
    assert!(!returned.status.success() && text(&returned.stderr).contains("say --take-back"), "{returned:?}");
    assert!(states(&from).is_empty());
    // The messages come back by another way: the receipt of the way there removes nothing any more.
    let back = from.directory.path().join("back.export");
    assert_done(&export(&to, &back), "30 messages");
    assert_done(&import(&from, &back), "30 messages of export");
    let served = remove(&from, &receipt);
    assert!(served.status.code() == Some(1) && text(&served.stderr).contains("30 of them stay"), "{served:?}");
    assert_eq!(states(&from), before);
}

#[test]
fn a_running_relay_takes_an_export_in_and_delivers_what_is_due_once() {
    let from = bench();
    fill(&from, 200, 2000);
    let file = from.directory.path().join("queue.export");
    assert_done(&export(&from, &file), "200 messages");
    let upstream = Upstream::start(Manner::Polite);
    let to = Bench::new(&[upstream.address]);
    let process = Process::start(&to.configuration);
    assert_done(&import(&to, &file), "200 messages of export");
    assert!(upstream.wait_until(PATIENCE, |all| all.len() >= 180));
    assert!(eventually(|| list_queue(&to).len() == 20), "the held ones stay");
    assert!(list_queue(&to).iter().all(|entry| entry["state"] == "held"));
    // Brought again after most have gone, it brings nothing.
    assert_done(&import(&to, &file), "0 messages of export");
    assert_eq!(list_queue(&to).len(), 20);
    process.wait_for_log(0, &["\"steered\"", "\"import\"", "pid "]);
    // The held ones may move on while the relay runs; nothing else may.
    let second = from.directory.path().join("held.export");
    let refused = sealpost(&arguments(&to, &["export", "--state", "queued", second.to_str().unwrap()]));
    assert!(!refused.status.success() && text(&refused.stderr).contains("a daemon runs"), "{refused:?}");
    assert_done(&export(&to, &second), "20 messages");
    let third = bench();
    assert_done(&import(&third, &second), "20 messages of export");
    let receipt = with_ending(&second, "receipt");
    let removed = sealpost_says(&arguments(&to, &["export", "--remove-after", receipt.to_str().unwrap()]));
    assert!(removed.contains("20 messages of export"), "{removed}");
    assert!(list_queue(&to).is_empty());
    assert_eq!(upstream.arrivals().len(), 180);
}

#[test]
fn what_is_damaged_in_the_file_is_left_out_and_told_and_stays_where_it_came_from() {
    let (from, to) = (bench(), bench());
    fill(&from, 10, 500);
    let file = from.directory.path().join("queue.export");
    assert_done(&export(&from, &file), "10 messages");
    let mut octets = fs::read(&file).unwrap();
    let word = b"<fill.4@example.com>\r\n\r\n";
    let place = octets.windows(word.len()).position(|window| window == word).unwrap();
    octets[place + word.len() + 10] ^= 1;
    fs::write(&file, &octets).unwrap();
    let imported = import(&to, &file);
    assert_eq!(imported.status.code(), Some(1), "{imported:?}");
    assert!(text(&imported.stdout).contains("9 messages of export"), "{imported:?}");
    assert!(text(&imported.stderr).contains("left out, and still in the file"), "{imported:?}");
    let receipt = with_ending(&file, "receipt");
    sealpost_says(&arguments(&from, &["export", "--remove-after", receipt.to_str().unwrap()]));
    let left = list_queue(&from);
    assert_eq!((left.len(), left[0]["message_id"].as_str()), (1, Some("<fill.4@example.com>")), "{left:?}");
    // A whole copy of the file brings it: that those behind it were brought does not mean that it was.
    octets[place + word.len() + 10] ^= 1;
    fs::write(&file, octets).unwrap();
    assert_done(&import(&to, &file), "1 message of export");
    assert_eq!(list_queue(&to).len(), 10);
    assert_done(&sealpost(&arguments(&from, &["export", "--remove-after", receipt.to_str().unwrap()])), "1 message");
    assert!(list_queue(&from).is_empty());
}

#[test]
fn an_import_without_room_stops_and_says_so_and_goes_on_when_there_is_some() {
    let from = bench();
    fill(&from, 1001, 0);
    let file = from.directory.path().join("queue.export");
    assert_done(&export(&from, &file), "1001 messages");
    let to = bench();
    let text_before = fs::read_to_string(&to.configuration).unwrap();
    fs::write(&to.configuration, text_before.replace("[queue]\n", "[queue]\ncount = 2000\n")).unwrap();
    let process = Process::start(&to.configuration);
    let stopped = import(&to, &file);
    assert!(!stopped.status.success() && text(&stopped.stderr).contains("queue.count"), "{stopped:?}");
    assert!(text(&stopped.stderr).contains("what was imported is kept"), "{stopped:?}");
    assert!(!with_ending(&file, "receipt").exists());
    assert_eq!(list_queue(&to).len(), 1000, "a thousand are left to reports");
    assert!(process.stop().success());
    fs::write(&to.configuration, text_before).unwrap();
    let _process = Process::start(&to.configuration);
    assert_done(&import(&to, &file), "1 message of export");
    assert_eq!(states(&to).len(), 1001);
}

/// Starts it, and kills it as soon as so many octets of the file are there.
fn kill_when(arguments: &[&str], file: &Path, octets: u64) -> bool {
    let mut child = spawn(arguments);
    let there = || fs::metadata(file).is_ok_and(|metadata| metadata.len() >= octets);
    while !there() {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::yield_now();
    }
    child.kill().unwrap();
    !child.wait().unwrap().success()
}

fn spawn(arguments: &[&str]) -> Child {
    let mut command = Command::new(program());
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn an_export_that_is_killed_leaves_the_queue_and_no_file_and_is_simply_repeated() {
    let from = bench();
    fill(&from, 500, 20_000);
    let before = states(&from);
    let file = from.directory.path().join("queue.export");
    let killed = [1, 1_000_000, 5_000_000].into_iter().filter(|&octets| {
        let killed =
            kill_when(&arguments(&from, &["export", file.to_str().unwrap()]), &with_ending(&file, "part"), octets);
        assert!(!file.exists() || !killed, "half a file has the name of a whole one");
        fs::remove_file(&file).ok();
        killed
    });
    assert!(killed.count() > 0, "none was killed in time");
    assert_eq!(states(&from), before);
    assert_done(&export(&from, &file), "500 messages");
    let to = bench();
    assert_done(&import(&to, &file), "500 messages of export");
    assert_eq!(states(&to), before);
}

/// The command is killed, and the relay that takes it in; then it is repeated. All arrive, each once.
#[test]
fn an_import_that_is_killed_on_either_side_is_repeated_and_each_message_arrives_once() {
    let from = bench();
    fill(&from, 1000, 3000);
    let file = from.directory.path().join("queue.export");
    assert_done(&export(&from, &file), "1000 messages");
    let (to, held_back) = (bench(), with_ending(&file, "receipt.part"));
    let mut process = Process::start(&to.configuration);
    let words = arguments(&to, &["import", file.to_str().unwrap()]);
    // Its receipt grows as messages are kept.
    for octets in [1, 8_000] {
        kill_when(&words, &held_back, octets);
        assert!(!with_ending(&file, "receipt").exists() || list_queue(&to).len() == 1000);
    }
    for _ in 0..2 {
        let mut child = spawn(&words);
        let before = list_queue(&to).len();
        eventually(|| list_queue(&to).len() > before || before == 1000);
        process.kill();
        child.wait().unwrap();
        process = Process::start(&to.configuration);
    }
    assert!(list_queue(&to).iter().all(|entry| entry["state"] != "dead"));
    let done = import(&to, &file);
    assert!(done.status.success(), "{done:?}");
    assert_eq!(states(&to).len(), 1000);
    assert!(process.stop().success());
    let upstream = Upstream::start(Manner::Polite);
    to.configure(&[upstream.address], "");
    let _process = Process::start(&to.configuration);
    assert!(sealpost(&arguments(&to, &["release", "--all"])).status.success());
    assert!(upstream.wait_until(PATIENCE, |all| all.len() >= 1000));
    assert!(eventually(|| list_queue(&to).is_empty()));
    let mut arrived: Vec<String> = upstream.arrivals().iter().map(|one| one.message_id()).collect();
    arrived.sort();
    arrived.dedup();
    assert_eq!((arrived.len(), upstream.arrivals().len()), (1000, 1000));
}
