//! The whole relay in one process, on virtual time, a simulated disk and a simulated network: power cuts, failing disks, misbehaving upstreams,
//! clients that leave, reloads and clocks that jump, all drawn from a seed.
//!
//! What must hold after each: every message that was answered 250 has, for each recipient, arrived, or is reported to its sender, or is
//! kept as dead; nothing is stuck; nothing arrives that was not sent whole, or changed; twice only where a window for it was open.
//!
//! A failure prints its seed; `SEALPOST_SEED=N` replays it. `SEALPOST_SEEDS=N` plays so many (`tests/long simulation`).
//!
//! Left out: TLS (intake's `converse` begins behind it; the certificates are judged all the same) and threads (the queue is driven inline).

mod account;
mod client;
mod life;
mod weather;
mod world;

use sealpost::sys::disk::SyncHonesty;

use world::World;

/// How many seeds CI plays.
const SEEDS: u64 = 25;

fn seeds() -> std::ops::Range<u64> {
    let given = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match (given("SEALPOST_SEED"), given("SEALPOST_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, count) => 0..count.unwrap_or(SEEDS),
    }
}

#[test]
fn whatever_befalls_the_relay_what_was_answered_250_is_accounted_for() {
    let mut sum = account::Summary::default();
    for seed in seeds() {
        match World::new(seed, SyncHonesty::Kept).play() {
            Ok(summary) => sum.add(&summary),
            Err(broken) => panic!("SEALPOST_SEED={seed}: {broken}"),
        }
    }
    println!("{sum}");
    if std::env::var_os("SEALPOST_SEED").is_none() {
        // A simulation in which nothing happens proves nothing.
        assert!(
            sum.acknowledged > 0 && sum.arrived > 0 && sum.reported > 0 && sum.dead > 0 && sum.crashes > 0,
            "{sum}"
        );
    }
}

#[test]
fn the_same_seed_is_the_same_history() {
    for seed in [1, 2] {
        let [first, second] = [0, 1].map(|_| World::new(seed, SyncHonesty::Kept).play().unwrap());
        assert_eq!(first, second, "seed {seed}");
    }
}

#[test]
fn a_disk_whose_syncs_do_nothing_is_noticed() {
    let played = (0..10).filter(|&seed| World::new(seed, SyncHonesty::Kept).crashes());
    let noticed = played.filter(|&seed| {
        let play = || World::new(seed, SyncHonesty::OnlySaid).play();
        !matches!(std::panic::catch_unwind(play), Ok(Ok(_)))
    });
    let noticed = noticed.count();
    assert!(noticed >= 4, "only {noticed} seeds noticed that nothing is ever kept");
}
