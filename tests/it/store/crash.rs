//! Crashes and failing operations, at every place or at random ones, and what must be true afterwards.

use std::panic::AssertUnwindSafe;

use sealpost::mail::QueueId;
use sealpost::queue::QueueError;
use sealpost::sys::disk::{Fault, SyncHonesty};

use super::script::{AfterFailure, Answered, World};
use super::{block_on, seeds};

/// Steps before the power goes, and after it is back.
const BEFORE: usize = 30;
const AFTER: usize = 8;

async fn run(world: &mut World, steps: usize) -> Result<Answered, String> {
    for _ in 0..steps {
        if world.step().await? == Answered::WithFailure {
            return Ok(Answered::WithFailure);
        }
    }
    Ok(Answered::Yes)
}

/// How many operations the disk sees when nothing fails.
fn operations(seed: u64, steps: usize) -> u64 {
    let mut world = World::new(seed, AfterFailure::PowerCut);
    let before = world.disk.operations();
    block_on(run(&mut world, steps)).unwrap();
    world.disk.operations() - before
}

/// The power goes at the operation drawn; perhaps again while the store recovers.
async fn power_cut(seed: u64, point: u64, honesty: SyncHonesty) -> Result<(), String> {
    let mut world = World::new(seed, AfterFailure::PowerCut);
    world.disk.set_honesty(honesty);
    world.disk.fail(point, u64::MAX, Fault::Error);
    run(&mut world, BEFORE).await?;
    while {
        world.disk.crash();
        world.draw(3) == 0
    } {
        world.disk.fail(1 + world.draw(30), u64::MAX, Fault::Error);
        // It may come up before that operation; then the power goes while it is idle.
        world.reopen().ok();
    }
    world.disk.mend();
    world.reopen()?;
    world.model.verify_all(&world.queue, &world.disk).await?;
    if run(&mut world, AFTER).await? == Answered::WithFailure {
        return Err("the disk is well, and the store fails".to_owned());
    }
    world.queue.close().await;
    world.reopen()?;
    world.model.verify_all(&world.queue, &world.disk).await
}

#[test]
fn a_power_cut_at_any_of_200_random_points_loses_nothing_committed_and_shows_nothing_else() {
    for seed in seeds(200) {
        let point = 1 + seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) % operations(seed, BEFORE);
        if let Err(broken) = block_on(power_cut(seed, point, SyncHonesty::Kept)) {
            panic!("seed {seed}, operation {point}: {broken}");
        }
    }
}

#[test]
fn a_store_that_says_committed_before_the_sync_is_caught() {
    let caught = (0..20)
        .filter(|&seed| {
            let point = operations(seed, BEFORE) / 2;
            let run = || block_on(power_cut(seed, point, SyncHonesty::OnlySaid));
            !matches!(std::panic::catch_unwind(AssertUnwindSafe(run)), Ok(Ok(())))
        })
        .count();
    assert!(caught >= 15, "only {caught} of 20 crash tests noticed that nothing is ever synced");
}

#[test]
fn without_faults_the_queue_does_what_the_model_does() {
    for seed in seeds(50) {
        let mut world = World::new(seed, AfterFailure::GoOn);
        let ran = block_on(async {
            run(&mut world, 120).await?;
            world.model.verify_all(&world.queue, &world.disk).await
        });
        ran.unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
    }
}

/// The store opens itself again on the next change; an order about a message that is not there is one that changes nothing.
async fn comes_back(world: &World) -> Result<(), String> {
    let nobody = QueueId::from_u128(0);
    for _ in 0..3 {
        if world.queue.hold(nobody).await == Err(QueueError::NotFound(nobody)) {
            return Ok(());
        }
    }
    Err("the store does not come back".to_owned())
}

async fn one_failure(seed: u64, nth: u64, fault: Fault, steps: usize) -> Result<(), String> {
    let mut world = World::new(seed, AfterFailure::GoOn);
    world.disk.fail(nth, 0, fault);
    for _ in 0..steps {
        if world.step().await? == Answered::WithFailure {
            comes_back(&world).await?;
            world.model.verify(&world.queue).await?;
        }
    }
    comes_back(&world).await?;
    world.model.verify(&world.queue).await?;
    world.disk.crash();
    world.reopen()?;
    world.model.verify_all(&world.queue, &world.disk).await
}

#[test]
fn any_one_operation_that_fails_is_survived_without_a_restart() {
    const STEPS: usize = 15;
    for seed in seeds(3) {
        for fault in [Fault::Error, Fault::NoSpace] {
            for nth in 1..=operations(seed, STEPS) {
                if let Err(broken) = block_on(one_failure(seed, nth, fault, STEPS)) {
                    panic!("seed {seed}, operation {nth}, {fault:?}: {broken}");
                }
            }
        }
    }
}
