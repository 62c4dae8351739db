//! Where there is room in the file of messages: a map in memory, made anew at each start from the rows that name what is kept.
//!
//! The file is cut into grains of [`GRAIN`] octets, which is a sector: a write that is torn by a power cut never touches what lies beside it.
//! Records lie together in zones of [`ZONE`] grains, apart from bodies, so that a listing reads them and little else.
//!
//! ```text
//! body, or a record of more than SMALL octets   the smallest free extent that holds it; else up to PIECES_MAX of the largest; else the end
//! record                                        the smallest free extent within the zones that holds it; else a new zone
//! ```
//!
//! An extent that is given back may be given out at once: whoever calls gives it back only when the change that frees it is on stable storage, and
//! nobody reads it any more. Pure. Never: gives out an extent that is not free; writes anything.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Octets of a grain.
pub(super) const GRAIN: u64 = 512;

/// Grains of a zone of records: 256 KiB.
const ZONE: u64 = 512;

/// The largest record that lies in a zone, octets.
const SMALL: u64 = 32 * 1024;

/// Extents that one body is cut into, at the most, before the file grows instead.
const PIECES_MAX: usize = 8;

/// Part of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Extent {
    /// The number of its first grain.
    pub(super) grain: u64,
    /// Octets in it; the rest of its last grain is nobody's.
    pub(super) length: u64,
}

impl Extent {
    /// Its first octet's place in the file.
    pub(super) fn offset(self) -> u64 {
        self.grain.saturating_mul(GRAIN)
    }

    /// Grains that it takes.
    fn grains(self) -> u64 {
        self.length.div_ceil(GRAIN)
    }

    /// The first grain behind it.
    fn end(self) -> u64 {
        self.grain.saturating_add(self.grains())
    }
}

/// What lies in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Record,
    Body,
}

impl Kind {
    /// Whether what is so long lies in a zone.
    fn in_zone(self, length: u64) -> bool {
        self == Self::Record && length <= SMALL
    }
}

/// Free extents, none beside another: first grain to grains, and by size.
#[derive(Debug, Default)]
struct Free {
    by_place: BTreeMap<u64, u64>,
    by_size: BTreeSet<(u64, u64)>,
    grains: u64,
}

impl Free {
    fn put(&mut self, grain: u64, grains: u64) {
        if grains == 0 {
            return;
        }
        let (mut from, mut size) = (grain, grains);
        if let Some((&before, &length)) = self.by_place.range(..grain).next_back()
            && before.saturating_add(length) == grain
        {
            self.cut(before, length);
            (from, size) = (before, size.saturating_add(length));
        }
        if let Some(&length) = self.by_place.get(&grain.saturating_add(grains)) {
            self.cut(grain.saturating_add(grains), length);
            size = size.saturating_add(length);
        }
        self.by_place.insert(from, size);
        self.by_size.insert((size, from));
        self.grains = self.grains.saturating_add(size);
    }

    /// Takes a whole free extent out.
    fn cut(&mut self, grain: u64, grains: u64) {
        self.by_place.remove(&grain);
        self.by_size.remove(&(grains, grain));
        self.grains = self.grains.saturating_sub(grains);
    }

    /// Takes part of a free extent out.
    fn carve(&mut self, (size, from): (u64, u64), grain: u64, grains: u64) {
        self.cut(from, size);
        self.put(from, grain.saturating_sub(from));
        let behind = grain.saturating_add(grains);
        self.put(behind, from.saturating_add(size).saturating_sub(behind));
    }

    /// The beginning of the smallest one that is large enough.
    fn take(&mut self, grains: u64) -> Option<u64> {
        let found = self.by_size.range((grains, 0)..).next().copied()?;
        self.carve(found, found.1, grains);
        Some(found.1)
    }

    /// The free extent that holds all of this.
    fn around(&self, grain: u64, grains: u64) -> Option<(u64, u64)> {
        let (&from, &size) = self.by_place.range(..=grain).next_back()?;
        (from.saturating_add(size) >= grain.saturating_add(grains)).then_some((size, from))
    }
}

/// The map.
#[derive(Debug, Default)]
pub(super) struct Space {
    free: Free,
    /// Free within the zones.
    records: Free,
    /// The first grains of the zones.
    zones: BTreeSet<u64>,
    /// The first grain behind all that was ever given out.
    end: u64,
}

impl Space {
    /// A map of a file of `length` octets in which nothing is free: what comes goes behind them.
    pub(super) fn behind(length: u64) -> Self {
        Self { end: length.div_ceil(GRAIN), ..Self::default() }
    }

    /// Room for so many octets, in order.
    pub(super) fn take(&mut self, kind: Kind, length: u64) -> Vec<Extent> {
        let grains = length.div_ceil(GRAIN);
        if grains == 0 {
            return Vec::new();
        }
        if kind.in_zone(length) {
            return vec![Extent { grain: self.take_record(grains), length }];
        }
        if let Some(grain) = self.free.take(grains) {
            return vec![Extent { grain, length }];
        }
        self.take_pieces(length).unwrap_or_else(|| vec![Extent { grain: self.grow(grains), length }])
    }

    /// A few large free extents that hold so many octets together.
    fn take_pieces(&mut self, length: u64) -> Option<Vec<Extent>> {
        let (mut pieces, mut left) = (Vec::new(), length);
        for &(size, grain) in self.free.by_size.iter().rev().take(PIECES_MAX) {
            let piece = left.min(size.saturating_mul(GRAIN));
            pieces.push(Extent { grain, length: piece });
            left = left.saturating_sub(piece);
            if left == 0 {
                break;
            }
        }
        if left > 0 {
            return None;
        }
        for piece in &pieces {
            if let Some(found) = self.free.around(piece.grain, piece.grains()) {
                self.free.carve(found, piece.grain, piece.grains());
            }
        }
        Some(pieces)
    }

    fn take_record(&mut self, grains: u64) -> u64 {
        if let Some(grain) = self.records.take(grains) {
            return grain;
        }
        let zone = self.take_zone();
        self.zones.insert(zone);
        self.records.put(zone, ZONE);
        // A zone holds any record that lies in one.
        self.records.take(grains).unwrap_or(zone)
    }

    /// Octets by which the file grows when so many are put into it.
    pub(super) fn growth(&self, kind: Kind, length: u64) -> u64 {
        let grains = length.div_ceil(GRAIN);
        let holds = |free: &Free| free.by_size.range((grains, 0)..).next().is_some();
        if kind.in_zone(length) {
            let fits = grains == 0 || holds(&self.records) || self.find_zone().is_some();
            return if fits { 0 } else { ZONE.saturating_mul(2 * GRAIN) };
        }
        let largest = self.free.by_size.iter().rev().take(PIECES_MAX);
        let in_pieces = || largest.fold(0_u64, |sum, (size, _)| sum.saturating_add(*size));
        if grains == 0 || holds(&self.free) || in_pieces() >= grains { 0 } else { grains.saturating_mul(GRAIN) }
    }

    /// A free zone, and the free extent in which it lies. A zone begins at a multiple of its size: so a start finds by a record's place in which one it
    /// lies.
    fn find_zone(&self) -> Option<((u64, u64), u64)> {
        let aligned = |&(size, from): &(u64, u64)| {
            let zone = from.next_multiple_of(ZONE);
            (zone.saturating_add(ZONE) <= from.saturating_add(size)).then_some(((size, from), zone))
        };
        // Whatever has room for two has room for an aligned one; of the smaller ones a few are looked at.
        let smaller = self.free.by_size.range((ZONE, 0)..(2 * ZONE, 0)).take(PIECES_MAX).find_map(aligned);
        smaller.or_else(|| self.free.by_size.range((2 * ZONE, 0)..).find_map(aligned))
    }

    fn take_zone(&mut self) -> u64 {
        if let Some((found, zone)) = self.find_zone() {
            self.free.carve(found, zone, ZONE);
            return zone;
        }
        let zone = self.end.next_multiple_of(ZONE);
        self.free.put(self.end, zone.saturating_sub(self.end));
        self.end = zone.saturating_add(ZONE);
        zone
    }

    fn grow(&mut self, grains: u64) -> u64 {
        let grain = self.end;
        self.end = grain.saturating_add(grains);
        grain
    }

    /// Takes room back that nobody names any more.
    pub(super) fn give_back(&mut self, kind: Kind, extents: &[Extent]) {
        let length = extents.iter().fold(0_u64, |sum, extent| sum.saturating_add(extent.length));
        for extent in extents {
            if kind.in_zone(length) {
                self.give_back_record(*extent);
            } else {
                self.free.put(extent.grain, extent.grains());
            }
        }
    }

    fn give_back_record(&mut self, extent: Extent) {
        let (mut at, end) = (extent.grain, extent.end());
        while at < end {
            let zone = zone_of(at);
            let next = zone.saturating_add(ZONE).min(end);
            if self.zones.contains(&zone) {
                self.records.put(at, next.saturating_sub(at));
                self.give_up_empty(zone);
            } else {
                self.free.put(at, next.saturating_sub(at));
            }
            at = next;
        }
    }

    fn give_up_empty(&mut self, zone: u64) {
        if let Some(found) = self.records.around(zone, ZONE) {
            self.records.carve(found, zone, ZONE);
            self.zones.remove(&zone);
            self.free.put(zone, ZONE);
        }
    }

    /// Octets between the first and the last that are kept which are nobody's.
    pub(super) fn free_octets(&self) -> u64 {
        self.free.grains.saturating_add(self.records.grains).saturating_mul(GRAIN)
    }

    /// Octets that are somebody's.
    pub(super) fn used_octets(&self) -> u64 {
        self.end.saturating_mul(GRAIN).saturating_sub(self.free_octets())
    }
}

/// The zone in which a grain lies, or would.
fn zone_of(grain: u64) -> u64 {
    grain - grain % ZONE
}

/// The map of a file that is kept, being drawn: a bit for each grain, so that it takes little memory however many messages there are.
#[derive(Debug)]
pub(super) struct Survey {
    taken: Vec<u64>,
    grains: u64,
    /// Zones in which records lie, and in which bodies do.
    records: Zones,
    bodies: Zones,
}

/// Zones, of which the one noted last is mostly noted next.
#[derive(Debug, Default)]
struct Zones {
    noted: BTreeSet<u64>,
    last: Option<u64>,
}

impl Zones {
    fn note(&mut self, zone: u64) {
        if self.last.replace(zone) != Some(zone) {
            self.noted.insert(zone);
        }
    }
}

/// What is wrong with an extent that a row names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misplaced {
    /// The file ends before.
    Beyond,
    /// Another row names it as well.
    Taken(Extent),
}

const WORD: u64 = 64;

impl Survey {
    /// Of a file of `length` octets.
    pub(super) fn new(length: u64) -> Self {
        let grains = length.div_ceil(GRAIN);
        let words = usize::try_from(grains.div_ceil(WORD)).unwrap_or(0);
        Self { taken: vec![0; words], grains, records: Zones::default(), bodies: Zones::default() }
    }

    /// Somebody's.
    pub(super) fn note(&mut self, kind: Kind, extents: &[Extent]) -> Result<(), Misplaced> {
        let length = extents.iter().fold(0_u64, |sum, extent| sum.saturating_add(extent.length));
        for &extent in extents {
            if extent.end() > self.grains {
                return Err(Misplaced::Beyond);
            }
            if (extent.grain..extent.end()).any(|grain| self.is_taken(grain)) {
                return Err(Misplaced::Taken(extent));
            }
            for grain in extent.grain..extent.end() {
                if let Some(word) = usize::try_from(grain / WORD).ok().and_then(|word| self.taken.get_mut(word)) {
                    *word |= 1 << (grain % WORD);
                }
            }
            let zones = if kind.in_zone(length) { &mut self.records } else { &mut self.bodies };
            zones.note(zone_of(extent.grain));
            zones.note(zone_of(extent.end().saturating_sub(1)));
        }
        Ok(())
    }

    fn word(&self, word: u64) -> u64 {
        usize::try_from(word).ok().and_then(|word| self.taken.get(word)).copied().unwrap_or(0)
    }

    fn is_taken(&self, grain: u64) -> bool {
        self.word(grain / WORD) >> (grain % WORD) & 1 == 1
    }

    /// The map: what nobody has named is free.
    pub(super) fn drawn(mut self) -> Space {
        // Where both lie, which never happens by itself, neither has a zone.
        let zones = self.records.noted.difference(&self.bodies.noted).copied().collect();
        let mut space = Space { zones, ..Space::default() };
        // A zone is there as a whole, even if nothing was written at its end yet.
        let last_zone = space.zones.last().map_or(0, |zone| zone.saturating_add(ZONE));
        space.end = self.grains.max(last_zone);
        self.grains = space.end;
        let mut at = 0;
        while at < space.end {
            let from = self.next(at, u64::MAX);
            let to = self.next(from, 0);
            space.note_free(from, to);
            at = to;
        }
        space
    }

    /// The first grain from `at` on whose word is not all `passed`, and which is not like it.
    fn next(&self, at: u64, passed: u64) -> u64 {
        let mut at = at;
        while at < self.grains {
            if at.is_multiple_of(WORD) && self.word(at / WORD) == passed {
                at = at.saturating_add(WORD);
            } else if self.is_taken(at) == (passed != 0) {
                at = at.saturating_add(1);
            } else {
                break;
            }
        }
        at.min(self.grains)
    }
}

impl Space {
    /// From one grain up to another all is free, within zones and outside.
    fn note_free(&mut self, from: u64, to: u64) {
        let mut at = from;
        while at < to {
            let zone = zone_of(at);
            let next = if self.zones.contains(&zone) {
                let next = zone.saturating_add(ZONE).min(to);
                self.records.put(at, next.saturating_sub(at));
                next
            } else {
                // Up to the next zone of records in one piece.
                let next = self.zones.range(at..).next().copied().unwrap_or(to).min(to);
                self.free.put(at, next.saturating_sub(at));
                next
            };
            at = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{Entropy, SeededEntropy};

    type Kept = Vec<(Kind, Vec<Extent>)>;

    /// Nothing is given out twice, and what is not given out is free.
    fn check(space: &Space, kept: &Kept) {
        let given = kept.iter().flat_map(|(_, extents)| extents).map(|extent| (extent.grain, extent.grains()));
        let free = space.free.by_place.iter().chain(&space.records.by_place).map(|(&grain, &grains)| (grain, grains));
        let mut all: Vec<(u64, u64)> = given.chain(free).collect();
        all.sort_unstable();
        let mut at = 0;
        for (grain, grains) in all {
            assert_eq!(grain, at, "given out twice, given out and free, or nobody's and not free");
            at += grains;
        }
        assert_eq!(at, space.end);
        let used: u64 = kept.iter().flat_map(|(_, extents)| extents).map(|extent| extent.grains() * GRAIN).sum();
        assert_eq!(space.used_octets(), used);
    }

    fn surveyed(kept: &Kept, length: u64) -> Result<Space, Misplaced> {
        let mut survey = Survey::new(length);
        for (kind, extents) in kept {
            survey.note(*kind, extents)?;
        }
        Ok(survey.drawn())
    }

    #[test]
    fn whatever_comes_and_goes_each_grain_is_somebodys_or_free_and_a_start_finds_the_same() {
        for seed in 0..30 {
            let dice = SeededEntropy::new(seed);
            let (mut space, mut kept): (Space, Kept) = (Space::default(), Vec::new());
            for _ in 0..400 {
                let draw = dice.next_u64();
                if draw % 5 < 3 || kept.is_empty() {
                    let (kind, most) = match draw / 5 % 4 {
                        0 => (Kind::Body, 262_144),
                        1 => (Kind::Body, 5_000),
                        2 => (Kind::Record, 2_000),
                        _ => (Kind::Record, 40_000),
                    };
                    let length = dice.next_u64() % most;
                    let extents = space.take(kind, length);
                    assert_eq!(extents.iter().map(|extent| extent.length).sum::<u64>(), length);
                    assert!(extents.iter().rev().skip(1).all(|extent| extent.length % GRAIN == 0));
                    kept.push((kind, extents));
                } else {
                    let (kind, extents) = kept.swap_remove(usize::try_from(draw / 5).unwrap() % kept.len());
                    space.give_back(kind, &extents);
                }
                if draw.is_multiple_of(40) {
                    let again = surveyed(&kept, space.end * GRAIN).unwrap();
                    // A zone in which nothing is left is no zone after a start.
                    assert_eq!((again.end, again.free_octets()), (space.end, space.free_octets()));
                    assert!(again.zones.is_subset(&space.zones));
                    if draw.is_multiple_of(80) {
                        space = again;
                    }
                }
                check(&space, &kept);
            }
            for (kind, extents) in std::mem::take(&mut kept) {
                space.give_back(kind, &extents);
            }
            check(&space, &kept);
            assert_eq!((space.free.by_place.len(), space.zones.len()), (1, 0), "seed {seed}");
        }
    }

    #[test]
    fn the_same_flood_again_takes_no_more_room() {
        let mut space = Space::default();
        let flood = |space: &mut Space| -> Kept {
            let one = |number: u64| [(Kind::Record, 700 + number % 300), (Kind::Body, 1_000 + number * 37 % 90_000)];
            (0..2_000).flat_map(one).map(|(kind, length)| (kind, space.take(kind, length))).collect()
        };
        let mut kept = flood(&mut space);
        let end = space.end;
        for _ in 0..5 {
            for (kind, extents) in kept.drain(..).rev() {
                space.give_back(kind, &extents);
            }
            kept = flood(&mut space);
        }
        assert!(space.end <= end + end / 50, "{end} {}", space.end);
    }

    #[test]
    fn small_records_lie_together() {
        let mut space = Space::default();
        let mut records = Vec::new();
        for _ in 0..200 {
            records.extend(space.take(Kind::Record, 700));
            space.take(Kind::Body, 4096);
        }
        let zones: BTreeSet<u64> = records.iter().map(|extent| extent.grain / ZONE).collect();
        assert_eq!(zones.len(), 1, "two hundred of 1 KiB are in one of 256 KiB");
    }

    #[test]
    fn what_two_name_and_what_is_not_there_is_noticed() {
        let at = |grain, length| vec![Extent { grain, length }];
        let taken = Err(Misplaced::Taken(Extent { grain: 1, length: 10 }));
        let cases = [
            (vec![(Kind::Body, at(0, 1000)), (Kind::Body, at(1, 10))], taken),
            (vec![(Kind::Record, at(0, 1000)), (Kind::Body, at(1, 10))], taken),
            (vec![(Kind::Body, at(2 * ZONE - 1, 513))], Err(Misplaced::Beyond)),
            (vec![(Kind::Body, at(u64::MAX, u64::MAX))], Err(Misplaced::Beyond)),
            (vec![(Kind::Record, at(0, 10)), (Kind::Body, at(ZONE, 10))], Ok(())),
        ];
        for (kept, expected) in cases {
            assert_eq!(surveyed(&kept, 2 * ZONE * GRAIN).map(drop), expected, "{kept:?}");
        }
    }

    #[test]
    fn a_zone_in_which_a_body_lies_is_none_and_comes_free_all_the_same() {
        let kept = vec![
            (Kind::Record, vec![Extent { grain: 0, length: 10 }]),
            (Kind::Body, vec![Extent { grain: 5, length: 10 }]),
        ];
        let mut space = surveyed(&kept, ZONE * GRAIN).unwrap();
        check(&space, &kept);
        for (kind, extents) in &kept {
            space.give_back(*kind, extents);
        }
        check(&space, &Vec::new());
    }
}
