//! Randomness as an argument: queue ids, boundaries, jitter.
//!
//! Never used for keys: those come from aws-lc-rs itself.

use std::fmt;
use std::sync::Mutex;

/// A source of random octets.
pub trait Entropy: Send + Sync + fmt::Debug {
    /// Fills `octets` whole.
    fn fill(&self, octets: &mut [u8]);

    /// Sixty-four random bits.
    fn next_u64(&self) -> u64 {
        let mut octets = [0; 8];
        self.fill(&mut octets);
        u64::from_be_bytes(octets)
    }
}

/// The kernel's random numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the seam through which the rest of the program sees randomness"
    )]
    #[expect(
        clippy::panic,
        reason = "a kernel without random numbers cannot run TLS either; there is nothing to go on with"
    )]
    fn fill(&self, octets: &mut [u8]) {
        if let Err(fault) = getrandom::fill(octets) {
            panic!("the kernel gives no random numbers: {fault}");
        }
    }
}

/// The same numbers for the same seed (splitmix64, Steele and others 2014); for tests and the simulation.
#[derive(Debug)]
pub struct SeededEntropy {
    state: Mutex<u64>,
}

impl SeededEntropy {
    /// The sequence that belongs to `seed`.
    pub fn new(seed: u64) -> Self {
        Self { state: Mutex::new(seed) }
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, octets: &mut [u8]) {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for chunk in octets.chunks_mut(8) {
            *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = *state;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^= mixed >> 31;
            for (octet, random) in chunk.iter_mut().zip(mixed.to_be_bytes()) {
                *octet = random;
            }
        }
    }
}
