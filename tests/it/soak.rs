//! A daemon at work for a while, and all that befalls it in a bad year: kills, stops, reloads that change upstreams, retry list and identities, and two upstreams
//! that are away, busy, full, locked, forgetful or stuck.
//!
//! At the end every message that was answered 250 has arrived, is reported, queued or dead, by its Message-ID; what arrived twice did so across a
//! kill, or because the upstream never said that it had it; across an orderly stop nothing comes twice that was answered. The seed is printed;
//! `SEALPOST_SOAK_SECONDS` says how long (`tests/long soak`).

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sealpost::sys::{Entropy as _, SeededEntropy};

use super::harness::PATIENCE;
use super::harness::bench::Bench;
use super::harness::certificates::Leaf;
use super::harness::client::{Client, Said};
use super::harness::process::{Process, Start, list_queue, sealpost};
use super::harness::upstream::{Manner, Mood, Upstream};
use super::kill::{Attempt, OF_BOB, settle};

/// How long in CI.
const SECONDS: u64 = 60;
/// Of alice's; and one is bob's.
const CLIENTS: u64 = 3;
/// How long a client waits between two messages, milliseconds at most.
const LEISURE: u64 = 250;
/// Descriptors of a daemon that has nothing left to do, at most: listeners, control socket, store, runtime, idle connections.
const DESCRIPTORS: usize = 100;
/// How the daemon is started: whoever is stuck at an upstream holds no stop for long.
const WRAPPER: [&str; 2] = ["env", "SEALPOST__SHUTDOWN_GRACE=3s"];

/// What the configuration says. As it is at first and at the end, all mail goes.
#[derive(Clone, Copy, Debug, Default)]
struct Shape {
    ways: Ways,
    retry: usize,
    bob: Bob,
    rechecks: bool,
}

/// Which upstreams there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Ways {
    #[default]
    Both,
    /// Who was asked first is asked last.
    Turned,
    FirstAlone,
    SecondAlone,
}

/// What is said of bob.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Bob {
    /// His CA names him.
    #[default]
    ByHisCa,
    Listed,
    Disabled,
}

/// Retry lists that let nothing wait for long.
const RETRY: [&str; 3] = [r#"["2s"]"#, r#"["1s", "2s"]"#, r#"["1s"]"#];

impl Shape {
    fn draw(random: &SeededEntropy) -> Self {
        let draw = |below: u64| random.next_u64() % below;
        let ways = match draw(5) {
            0 | 1 => Ways::Both,
            2 => Ways::Turned,
            3 => Ways::FirstAlone,
            _ => Ways::SecondAlone,
        };
        let bob = match draw(3) {
            0 => Bob::ByHisCa,
            1 => Bob::Listed,
            _ => Bob::Disabled,
        };
        Self { ways, retry: usize::try_from(draw(3)).unwrap(), bob, rechecks: draw(2) == 0 }
    }
}

struct Soak {
    bench: Bench,
    first: Upstream,
    /// It speaks TLS, and wants to know who comes.
    second: Upstream,
    next: AtomicU64,
    over: AtomicBool,
    acknowledged: Mutex<BTreeSet<Attempt>>,
    come_again: AtomicU64,
    turned_away: AtomicU64,
}

/// What befell it, how often.
#[derive(Debug, Default)]
struct Events {
    kills: u64,
    stops: u64,
    reloads: u64,
    moods: u64,
}

impl Soak {
    fn new() -> Self {
        let first = Upstream::start(Manner::Polite);
        let bench = Bench::new(&[]);
        let second = first.secured_beside(&bench.server);
        let password = bench.directory.path().join("password");
        fs::write(&password, "hunter2\n").unwrap();
        fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).unwrap();
        let soak = Self {
            bench,
            first,
            second,
            next: AtomicU64::new(0),
            over: AtomicBool::new(false),
            acknowledged: Mutex::default(),
            come_again: AtomicU64::new(0),
            turned_away: AtomicU64::new(0),
        };
        soak.configure(Shape::default());
        soak
    }

    fn configure(&self, shape: Shape) {
        let first = format!("[[upstream]]\nname = \"first\"\naddress = \"{}\"\ntls = \"none\"\n\n", self.first.address);
        let second = format!(
            "[[upstream]]\nname = \"second\"\naddress = \"{}\"\nmode = \"implicit\"\nserver_name = \"localhost\"\nca = \"{}\"\n\
             username = \"relay\"\npassword_file = \"password\"\n\n",
            self.second.address,
            self.bench.staff.anchor().display()
        );
        let upstreams = match shape.ways {
            Ways::Both => first + &second,
            Ways::Turned => second + &first,
            Ways::FirstAlone => first,
            Ways::SecondAlone => second,
        };
        let bob = "[[identity]]\nname = \"bob\"\nmatch = { ca = \"staff\", email = \"bob@example.com\" }\n\
                   send_as = [\"bob@example.com\"]\nsend_to = [\"*\"]\n";
        let bob = match shape.bob {
            Bob::ByHisCa => String::new(),
            Bob::Listed => bob.to_owned(),
            Bob::Disabled => format!("{bob}disabled = true\n"),
        };
        let queue = format!("retry = {}\nrecheck = {}", RETRY[shape.retry], shape.rechecks);
        self.bench.configure_with(&queue, &format!("{upstreams}{bob}"));
    }

    fn start(&self) -> Process {
        let mut process = Process::spawn(&self.bench.configuration, &WRAPPER);
        assert_eq!(process.wait_ready(PATIENCE), Start::Ready, "{}", process.log());
        process
    }

    /// Submits as long as the time lasts: `leaf` is bob's when the numbers begin with his.
    fn submit(&self, leaf: &Leaf, from: u64, random: &SeededEntropy) {
        let tls = self.bench.tls(Some(leaf));
        while !self.over.load(Ordering::SeqCst) {
            let Ok((mut client, _)) = Client::starttls(self.bench.starttls, &tls) else {
                std::thread::park_timeout(Duration::from_millis(5));
                continue;
            };
            while !self.over.load(Ordering::SeqCst) {
                std::thread::park_timeout(Duration::from_millis(random.next_u64() % LEISURE));
                let attempt = Attempt(from + self.next.fetch_add(1, Ordering::SeqCst));
                match client.submit(attempt.sender(), &[attempt.recipient()], &attempt.message()) {
                    Ok(Said { code: 250, .. }) => drop(self.acknowledged.lock().unwrap().insert(attempt)),
                    Ok(Said { code: 400..=499, .. }) => drop(self.come_again.fetch_add(1, Ordering::SeqCst)),
                    // He is nobody just now, in this connection and perhaps in the next.
                    Ok(Said { code: 500..=599, .. }) if from == OF_BOB => {
                        self.turned_away.fetch_add(1, Ordering::SeqCst);
                        break;
                    }
                    Ok(said) => panic!("{attempt:?} was refused: {said:?}"),
                    Err(_) => break,
                }
            }
        }
    }

    /// Until the time is over; the daemon that is left.
    fn befall(&self, random: &SeededEntropy, time: Duration, events: &mut Events) -> Process {
        let draw = |below: u64| random.next_u64() % below;
        let end = Instant::now() + time;
        let mut process = self.start();
        while Instant::now() < end {
            std::thread::park_timeout(Duration::from_millis(100 + draw(1500)));
            match draw(10) {
                0 | 1 => process = self.after_a_kill(process, events),
                2 => {
                    // As for an update: what was answered before has been written down, so that the mark stays.
                    assert!(process.stop().success(), "it did not drain");
                    events.stops += 1;
                    process = self.start();
                }
                3..=5 => {
                    self.configure(Shape::draw(random));
                    process.signal("HUP");
                    events.reloads += 1;
                }
                6 | 7 => {
                    let upstream = if draw(2) == 0 { &self.first } else { &self.second };
                    upstream.set_mood(Mood::BAD[usize::try_from(draw(Mood::BAD.len() as u64)).unwrap()]);
                    events.moods += 1;
                }
                _ => self.all_is_well(),
            }
        }
        // Who is left alone by the last daemon is tried at once by a new one.
        self.all_is_well();
        self.configure(Shape::default());
        self.after_a_kill(process, events)
    }

    fn after_a_kill(&self, process: Process, events: &mut Events) -> Process {
        process.kill();
        events.kills += 1;
        self.first.set_mark(events.kills);
        self.start()
    }

    fn all_is_well(&self) {
        for upstream in [&self.first, &self.second] {
            upstream.set_mood(Mood::Well);
        }
    }

    /// Lets go what was kept back while bob was nobody.
    fn release_all(&self) {
        sealpost(&["queue", "release", "--all", "--config", self.bench.config_argument()]);
        let held = list_queue(&self.bench).into_iter().find(|one| one["state"] == "held");
        assert!(held.is_none(), "{held:?}");
    }
}

#[test]
fn a_soak_of_kills_reloads_and_outages_loses_nothing() {
    let given = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seed = given("SEALPOST_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let time = Duration::from_secs(given("SEALPOST_SOAK_SECONDS").unwrap_or(SECONDS));
    println!("SEALPOST_SEED={seed}");
    let soak = Soak::new();
    let mut events = Events::default();
    let process = std::thread::scope(|scope| {
        let client = |number: u64| {
            let random = SeededEntropy::new(seed ^ (number + 1) << 32);
            let soak = &soak;
            let (leaf, from) = if number == CLIENTS { (&soak.bench.bob, OF_BOB) } else { (&soak.bench.alice, 0) };
            scope.spawn(move || soak.submit(leaf, from, &random))
        };
        let clients: Vec<_> = (0..=CLIENTS).map(client).collect();
        let process = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            soak.befall(&SeededEntropy::new(seed), time, &mut events)
        }));
        // Whatever happened: no client goes on for ever.
        soak.over.store(true, Ordering::SeqCst);
        clients.into_iter().for_each(|client| client.join().unwrap());
        process.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    soak.release_all();
    let acknowledged = soak.acknowledged.lock().unwrap().clone();
    let account = settle(&soak.bench, &soak.first, &acknowledged);
    let (come_again, turned_away) = (soak.come_again.load(Ordering::SeqCst), soak.turned_away.load(Ordering::SeqCst));
    println!(
        "soak: {time:?}, {events:?}; {} acknowledged, {come_again} told to come again, {turned_away} turned away; {account}",
        acknowledged.len()
    );
    let all_happened = [events.kills > 1, events.reloads > 0, events.moods > 0].iter().all(|happened| *happened);
    assert!(!acknowledged.is_empty() && all_happened, "{events:?}: nothing happened");
    account.check(&acknowledged);
    let descriptors = fs::read_dir(format!("/proc/{}/fd", process.id())).unwrap().count();
    assert!(descriptors <= DESCRIPTORS, "{descriptors} descriptors are open, and there is nothing to do");
    assert!(process.stop().success(), "the last daemon did not drain");
}
