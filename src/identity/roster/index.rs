//! Where in the roster a name may be found: one sorted array of hashes for all kinds of keys.
//!
//! A hash is only a hint: the roster compares every key of what is found here. It is keyed anew with each index, so that nobody can choose names
//! that meet. Sixteen octets for an entry.

use std::hash::{BuildHasher as _, Hash, RandomState};

/// Hashes with the places of what has them, sorted.
#[derive(Debug, Default)]
pub(super) struct Index {
    keyed: RandomState,
    slots: Vec<(u64, u32)>,
}

impl Index {
    /// An index of these values; the place of each is its number.
    pub(super) fn of<T>(all: &[T], hash: impl Fn(&T, &RandomState) -> u64) -> Self {
        let keyed = RandomState::new();
        let mut slots: Vec<(u64, u32)> =
            all.iter().zip(0_u32..).map(|(one, place)| (hash(one, &keyed), place)).collect();
        slots.sort_unstable();
        Self { keyed, slots }
    }

    /// The places of whatever may be this.
    pub(super) fn at(&self, what: impl Hash) -> impl Iterator<Item = u32> {
        let hash = self.keyed.hash_one(what);
        let first = self.slots.partition_point(|(known, _)| *known < hash);
        let found = self.slots.get(first..).unwrap_or_default();
        found.iter().take_while(move |(known, _)| *known == hash).map(|(_, place)| *place)
    }

    /// The places of what may be one thing, in their order; only where there are several.
    pub(super) fn groups(&self) -> impl Iterator<Item = impl Iterator<Item = u32>> {
        let groups = self.slots.chunk_by(|(one, _), (other, _)| one == other);
        groups.filter(|group| group.len() > 1).map(|group| group.iter().map(|(_, place)| *place))
    }
}
