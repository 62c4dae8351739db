//! A daemon at work for a while, and all that befalls it in a bad year: kills, reloads, and an upstream that is away, busy or forgetful.
//!
//! At the end every message that was answered 250 has arrived, is reported, queued or dead, by its Message-ID; what arrived twice did so across a
//! kill, or because the upstream never said that it had it. The seed is printed; `SEALPOST_SOAK_SECONDS` says how long (`tests/long soak`).

use std::collections::BTreeSet;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sealpost::sys::{Entropy as _, SeededEntropy};

use super::harness::bench::Bench;
use super::harness::client::{Client, Said};
use super::harness::process::Process;
use super::harness::upstream::{Manner, Mood, Upstream};
use super::kill::{Attempt, settle};

/// How long in CI.
const SECONDS: u64 = 15;
const CLIENTS: u64 = 3;
/// How long a client waits between two messages, milliseconds at most.
const LEISURE: u64 = 60;
/// Descriptors of a daemon that has nothing left to do, at most: listeners, control socket, store, runtime, idle connections.
const DESCRIPTORS: usize = 100;

struct Soak {
    bench: Bench,
    upstream: Upstream,
    next: AtomicU64,
    over: AtomicBool,
    acknowledged: Mutex<BTreeSet<Attempt>>,
    refused: AtomicU64,
}

/// What befell it, how often.
#[derive(Debug, Default)]
struct Events {
    kills: u64,
    reloads: u64,
    outages: u64,
}

impl Soak {
    fn submit(&self, random: &SeededEntropy) {
        let tls = self.bench.tls(Some(&self.bench.alice));
        while !self.over.load(Ordering::SeqCst) {
            let Ok((mut client, _)) = Client::starttls(self.bench.starttls, &tls) else {
                std::thread::yield_now();
                continue;
            };
            while !self.over.load(Ordering::SeqCst) {
                std::thread::park_timeout(Duration::from_millis(random.next_u64() % LEISURE));
                let attempt = Attempt(self.next.fetch_add(1, Ordering::SeqCst));
                match client.submit(attempt.sender(), &[attempt.recipient()], &attempt.message()) {
                    Ok(Said { code: 250, .. }) => drop(self.acknowledged.lock().unwrap().insert(attempt)),
                    Ok(Said { code: 400..=499, .. }) => drop(self.refused.fetch_add(1, Ordering::SeqCst)),
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
        let mut process = Process::start(&self.bench.configuration);
        while Instant::now() < end {
            std::thread::park_timeout(Duration::from_millis(100 + draw(1500)));
            match draw(8) {
                0 | 1 => {
                    process.kill();
                    events.kills += 1;
                    self.upstream.set_mark(events.kills);
                    process = Process::start(&self.bench.configuration);
                }
                2 | 3 => {
                    // Another configuration each time, and a sound one.
                    let retry = format!("[notices]\n# {}\n", draw(1000));
                    self.bench.configure(&[self.upstream.address], &retry);
                    process.signal("HUP");
                    events.reloads += 1;
                }
                4 => {
                    let moods = [Mood::Down, Mood::Busy, Mood::Forgetful];
                    self.upstream.set_mood(moods[usize::try_from(draw(3)).unwrap()]);
                    events.outages += 1;
                }
                _ => self.upstream.set_mood(Mood::Well),
            }
        }
        // Who is left alone by the last daemon is tried at once by a new one.
        self.upstream.set_mood(Mood::Well);
        process.kill();
        events.kills += 1;
        self.upstream.set_mark(events.kills);
        Process::start(&self.bench.configuration)
    }
}

#[test]
fn a_soak_of_kills_reloads_and_outages_loses_nothing() {
    let given = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seed = given("SEALPOST_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let time = Duration::from_secs(given("SEALPOST_SOAK_SECONDS").unwrap_or(SECONDS));
    println!("SEALPOST_SEED={seed}");
    let upstream = Upstream::start(Manner::Polite);
    let soak = Soak {
        bench: Bench::new(&[upstream.address]),
        upstream,
        next: AtomicU64::new(0),
        over: AtomicBool::new(false),
        acknowledged: Mutex::default(),
        refused: AtomicU64::new(0),
    };
    let mut events = Events::default();
    let process = std::thread::scope(|scope| {
        let client = |number| {
            let random = SeededEntropy::new(seed ^ (number + 1) << 32);
            let soak = &soak;
            scope.spawn(move || soak.submit(&random))
        };
        let clients: Vec<_> = (0..CLIENTS).map(client).collect();
        let process = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            soak.befall(&SeededEntropy::new(seed), time, &mut events)
        }));
        // Whatever happened: no client goes on for ever.
        soak.over.store(true, Ordering::SeqCst);
        clients.into_iter().for_each(|client| client.join().unwrap());
        process.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    let acknowledged = soak.acknowledged.lock().unwrap().clone();
    let account = settle(&soak.bench, &soak.upstream, &acknowledged);
    let refused = soak.refused.load(Ordering::SeqCst);
    println!(
        "soak: {time:?}, {events:?}; {} acknowledged, {refused} told to come again; {account}",
        acknowledged.len()
    );
    assert!(!acknowledged.is_empty() && events.kills > 1, "{events:?}: nothing happened");
    account.check(&acknowledged);
    let descriptors = fs::read_dir(format!("/proc/{}/fd", process.id())).unwrap().count();
    assert!(descriptors <= DESCRIPTORS, "{descriptors} descriptors are open, and there is nothing to do");
    assert!(process.stop().success(), "the last daemon did not drain");
}
