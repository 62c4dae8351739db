//! The whole relay in one process, on virtual time, a simulated disk and a simulated network: power cuts, failing disks, misbehaving upstreams,
//! clients that leave, reloads and clocks that jump, all drawn from a seed.
//!
//! What must hold after each: every message that was answered 250 has, for each recipient, arrived, or is reported to its sender, or is
//! kept as dead, and what became of it is what had to (`balance`); nothing is stuck; nothing arrives that was not sent whole, or changed; twice only where a
//! window for it was open.
//!
//! A failure prints its seed and how to replay it. `SEALPOST_SEEDS=N` plays so many, from `SEALPOST_FIRST=N` on (`tests/long simulation`).
//!
//! Left out: TLS (intake's `converse` begins behind it; the certificates are judged all the same) and threads: the queue is driven inline, or its writer is a task
//! whose commits take their time, so that others gather behind them (`World::driving`).

mod account;
mod balance;
mod client;
mod life;
mod operator;
mod weather;
mod world;

use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use account::Summary;
use world::{Lie, World};

/// How many seeds CI plays.
const SEEDS: u64 = 200;

/// Seeds that showed something once. 7000035: a message whose own time was over brought back the probe that it had been given, which was news, by which it was
/// claimed again at once, for ever. 8002167 and 8003065: one route had its part, another hung, and the power went in the ten minutes before both were recorded.
/// 8083354: the sender's own time was over 60 ms sooner than the account would have it.
const ONCE_BROKEN: [u64; 4] = [7_000_035, 8_002_167, 8_003_065, 8_083_354];

/// How often it is told how far many seeds are.
const PROGRESS: u64 = 500;

fn seeds() -> Range<u64> {
    let given = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match (given("SEALPOST_SEED"), given("SEALPOST_FIRST").unwrap_or(0), given("SEALPOST_SEEDS")) {
        (Some(seed), _, _) => seed..seed + 1,
        (None, first, count) => first..first + count.unwrap_or(SEEDS),
    }
}

/// One seed; an error is a broken promise, told with the command that shows it again.
fn play(seed: u64) -> Result<Summary, String> {
    let played = std::panic::catch_unwind(AssertUnwindSafe(|| World::new(seed, Lie::Nothing).play()));
    let played = played.unwrap_or_else(|_| Err("it panicked; see above".to_owned()));
    let replay = "cargo test --locked --test it -- --nocapture whatever_befalls_the_relay";
    played.map_err(|broken| format!("SEALPOST_SEED={seed} {replay}\n{broken}"))
}

/// All of them, on as many threads as there are processors; the sum, and what was broken.
fn play_all(seeds: Range<u64>) -> (Summary, Vec<String>) {
    let (next, began) = (AtomicU64::new(seeds.start), Instant::now());
    let sum = Mutex::new((Summary::default(), Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let played = play(seed);
                    let mut sum = sum.lock().unwrap();
                    match played {
                        Ok(summary) => sum.0.add(&summary),
                        Err(broken) => {
                            println!("{broken}");
                            sum.1.push(broken);
                        }
                    }
                    let done = seed + 1 - seeds.start;
                    if done.is_multiple_of(PROGRESS) {
                        let rate = done as f64 / began.elapsed().as_secs_f64();
                        println!("{done} seeds, {rate:.1}/s, {} failed; {}", sum.1.len(), sum.0);
                    }
                }
            });
        }
    });
    let rate = (seeds.end - seeds.start) as f64 / began.elapsed().as_secs_f64();
    println!("{} seeds, {rate:.1}/s", seeds.end - seeds.start);
    sum.into_inner().unwrap()
}

#[test]
fn whatever_befalls_the_relay_what_was_answered_250_is_accounted_for() {
    let seeds = seeds();
    let is_replay = seeds.end - seeds.start == 1;
    let (sum, broken) = play_all(seeds);
    println!("{sum}");
    assert!(broken.is_empty(), "{} seeds failed:\n{}", broken.len(), broken.join("\n"));
    if !is_replay {
        // A simulation in which nothing happens proves nothing.
        let happened = [sum.acknowledged, sum.arrived, sum.reported, sum.dead, sum.removed, sum.twice];
        assert!(happened.iter().all(|count| *count > 0) && sum.crashes > 0, "{sum}");
    }
}

#[test]
fn what_was_broken_once_is_not_any_more() {
    let broken: Vec<String> = ONCE_BROKEN.into_iter().filter_map(|seed| play(seed).err()).collect();
    assert!(broken.is_empty(), "{broken:?}");
}

#[test]
fn the_same_seed_is_the_same_history() {
    for seed in [1, 2] {
        let [first, second] = [0, 1].map(|_| World::new(seed, Lie::Nothing).play().unwrap());
        assert_eq!(first, second, "seed {seed}");
    }
}

#[test]
fn a_disk_whose_syncs_do_nothing_is_noticed() {
    let played = (0..10).filter(|&seed| World::new(seed, Lie::Nothing).crashes());
    let noticed = played.filter(|&seed| {
        let play = || World::new(seed, Lie::SyncsNothing).play();
        !matches!(std::panic::catch_unwind(play), Ok(Ok(_)))
    });
    let noticed = noticed.count();
    assert!(noticed >= 4, "only {noticed} seeds noticed that nothing is ever kept");
}

/// Relays that are wrong: each must be noticed by what arrived, or by what was told.
#[test]
fn a_relay_that_misreads_its_upstream_is_noticed() {
    for lie in Lie::OF_THE_RELAY {
        // While clients wait for the upstream, they hear of it themselves.
        let seeds = (0..20).filter(|seed| seed % 3 != 1);
        let mut broken = seeds.filter_map(|seed| World::new(seed, lie).play().err());
        let noticed = broken.find(|what| lie.is_told_by(what));
        println!("{lie:?}: {:.300}", noticed.as_deref().unwrap_or("not noticed"));
        assert!(noticed.is_some(), "{lie:?} is not noticed");
    }
}
