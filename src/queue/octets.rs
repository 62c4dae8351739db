//! A budget of octets, and the shares that are granted of it; each is given back when it is dropped.
//!
//! Never: grants more than there is; says that a share holds more than it does.

use std::sync::Arc;

use tokio::sync::{Notify, Semaphore, SemaphorePermit};

/// Memory and backlog are counted in blocks of this many octets.
pub(super) const BLOCK: u64 = 1024;

/// A budget of octets; clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Octets {
    common: Arc<Common>,
    all: u32,
}

/// What a budget has in common with all that is granted of it.
#[derive(Debug)]
struct Common {
    /// Who waits here for a share of its own has its turn.
    blocks: Semaphore,
    /// Rung when some is given back, for who has a share and waits for more: behind all whose turn it is.
    freed: Notify,
}

/// Part of a budget of octets; dropped, it is given back.
#[derive(Debug)]
pub(super) struct Share {
    common: Arc<Common>,
    blocks: u32,
    octets: u64,
}

impl Octets {
    pub(super) fn new(octets: u64) -> Self {
        let all = blocks(octets).max(1);
        let blocks = Semaphore::new(usize::try_from(all).unwrap_or(Semaphore::MAX_PERMITS));
        Self { common: Arc::new(Common { blocks, freed: Notify::new() }), all }
    }

    /// Waits for so many octets; for all there are when that is more.
    pub(super) async fn take(&self, octets: u64) -> Share {
        let mut share = self.nothing();
        let wanted = self.blocks(octets);
        // The semaphore is never closed.
        if let Ok(permit) = self.common.blocks.acquire_many(wanted).await {
            share.join(permit, octets);
        }
        share
    }

    /// A share that holds nothing yet.
    pub(super) fn nothing(&self) -> Share {
        Share { common: Arc::clone(&self.common), blocks: 0, octets: 0 }
    }

    /// All there are.
    pub(super) fn all(&self) -> u64 {
        octets_of(self.all)
    }

    /// Rung when some is given back.
    pub(super) fn freed(&self) -> &Notify {
        &self.common.freed
    }

    /// Whether less than half of it is left.
    pub(super) fn is_scarce(&self) -> bool {
        self.common.blocks.available_permits() < usize::try_from(self.all / 2).unwrap_or(usize::MAX)
    }

    /// How many octets are given out.
    pub(super) fn given_out(&self) -> u64 {
        let left = u32::try_from(self.common.blocks.available_permits()).unwrap_or(u32::MAX);
        octets_of(self.all.saturating_sub(left))
    }

    /// Makes a share larger when that can be had at once.
    pub(super) fn enlarge(&self, share: &mut Share, octets: u64) -> bool {
        self.add(share, blocks(octets), octets)
    }

    /// The same; as large as all there is when more is asked for.
    pub(super) fn extend(&self, share: &mut Share, octets: u64) -> bool {
        self.add(share, self.blocks(octets), octets)
    }

    fn add(&self, share: &mut Share, wanted: u32, octets: u64) -> bool {
        let Ok(permit) = self.common.blocks.try_acquire_many(wanted.saturating_sub(share.blocks)) else { return false };
        share.join(permit, octets);
        true
    }

    /// For so many octets, and no more than there are.
    fn blocks(&self, octets: u64) -> u32 {
        blocks(octets).min(self.all)
    }
}

impl Share {
    /// So many may be used: never more than are held.
    pub(super) fn octets(&self) -> u64 {
        self.octets
    }

    /// Takes more of the same budget in.
    fn join(&mut self, permit: SemaphorePermit<'_>, octets: u64) {
        self.blocks = self.blocks.saturating_add(u32::try_from(permit.num_permits()).unwrap_or(u32::MAX));
        permit.forget();
        self.octets = octets.max(self.octets).min(octets_of(self.blocks));
    }

    /// Gives back what is held beyond so many octets.
    pub(super) fn shrink(&mut self, octets: u64) {
        let kept = self.blocks.min(blocks(octets));
        self.octets = self.octets.min(octets);
        self.give_back(self.blocks.saturating_sub(kept));
    }

    fn give_back(&mut self, blocks: u32) {
        if blocks > 0 {
            self.blocks = self.blocks.saturating_sub(blocks);
            self.common.blocks.add_permits(usize::try_from(blocks).unwrap_or_default());
            self.common.freed.notify_waiters();
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.give_back(self.blocks);
    }
}

fn octets_of(blocks: u32) -> u64 {
    u64::from(blocks).saturating_mul(BLOCK)
}

fn blocks(octets: u64) -> u32 {
    u32::try_from(octets.div_ceil(BLOCK)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_grows_only_while_there_is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let octets = Octets::new(10 * BLOCK);
            let mut share = octets.take(4 * BLOCK).await;
            let other = octets.take(5 * BLOCK).await;
            assert!(octets.enlarge(&mut share, 5 * BLOCK));
            assert!(!octets.enlarge(&mut share, 6 * BLOCK));
            drop(other);
            assert!(octets.enlarge(&mut share, 10 * BLOCK));
            drop(share);
            drop(octets.take(u64::MAX).await);
        });
    }

    #[tokio::test]
    async fn a_share_says_no_more_than_it_holds() {
        let memory = Octets::new(10 * BLOCK);
        let mut share = memory.take(4 * BLOCK).await;
        assert!(memory.extend(&mut share, 20 * BLOCK));
        assert_eq!(share.octets(), 10 * BLOCK);
        share.shrink(15 * BLOCK);
        assert_eq!((share.octets(), memory.given_out()), (10 * BLOCK, 10 * BLOCK));
        drop(share);
        assert_eq!(memory.take(20 * BLOCK).await.octets(), 10 * BLOCK);
    }
}
