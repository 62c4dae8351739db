//! Turns on the pool, in virtual time.

use tokio::time::Instant;

use super::*;
use crate::credentials::password::MEMORY_KIB_MAX;
use crate::sys::SeededEntropy;

fn desk() -> Desk {
    Desk::new(&SeededEntropy::new(1))
}

#[tokio::test(start_paused = true)]
async fn who_gets_no_turn_is_told_to_come_again() {
    let desk = desk();
    let mut taken = Vec::new();
    for _ in 0..HASHING_THREADS {
        taken.push(desk.turn(8).await.unwrap());
    }
    #[expect(clippy::disallowed_methods, reason = "virtual time is looked at")]
    let began = Instant::now();
    assert!(desk.turn(8).await.is_none(), "no thread is free");
    assert_eq!(began.elapsed().as_secs(), TURN.as_secs());
    drop(taken);
    assert!(desk.turn(8).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn hashes_together_take_no_more_memory_than_there_is_for_them() {
    let desk = desk();
    let first = desk.turn(MEMORY_KIB_MAX).await.unwrap();
    let _second = desk.turn(MEMORY_KIB_MAX).await.unwrap();
    assert!(desk.turn(8).await.is_none(), "no memory is left");
    drop(first);
    assert!(desk.turn(8).await.is_some());
    assert!(desk.turn(u32::MAX).await.is_none(), "what could never be had is not waited for for ever");
}

#[test]
fn what_a_credential_may_ask_for_fits_into_the_pool() {
    const { assert!(MEMORY_KIB_MAX <= HASHING_KIB) };
}
