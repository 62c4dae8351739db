//! Which messages of an export are here, or were: by their places in it, in the table `meta`.
//!
//! ```text
//! adopted EXPORT        all before this place are, but for those in a gap
//! gap EXPORT PLACE      from this place to the one before the number that stands here, none is
//! ```
//!
//! A gap is what an import left out: damaged in the file, refused here, or of a transaction that failed. It closes when the message is brought again. There are
//! no more gaps than messages that were taken in.
//!
//! Never: takes a message for brought because one behind it was.

use redb::{ReadableTable, Table};

use super::tables::{DiskFault, export_key};
use super::transfer::{Adoption, GAPS_TOLD_MAX};
use crate::mail::QueueId;

/// Exports of which messages have been adopted.
pub(super) const ADOPTIONS: &str = "adopted ";
/// What was left out of them.
const GAPS: &str = "gap ";

type Meta<'txn> = Table<'txn, &'static str, &'static [u8]>;

/// Places sort as they count.
fn gap_key(export: QueueId, from: u64) -> String {
    format!("{GAPS}{export} {from:016x}")
}

/// Where this gap begins, if it is one of this export's.
fn gap_from(key: &str, export: QueueId) -> Option<u64> {
    let place = key.strip_prefix(GAPS)?.strip_prefix(export.to_string().as_str())?.strip_prefix(' ')?;
    u64::from_str_radix(place, 16).ok()
}

/// What can't be read is 0: of an adoption, then nothing is known; of a gap, it holds nothing.
fn number(octets: &[u8]) -> u64 {
    octets.try_into().map_or(0, u64::from_le_bytes)
}

fn count(meta: &impl ReadableTable<&'static str, &'static [u8]>, export: QueueId) -> Result<u64, DiskFault> {
    let noted = meta.get(export_key(ADOPTIONS, export).as_str())?;
    Ok(noted.map_or(0, |octets| number(octets.value())))
}

/// The gap in which this place is.
fn gap_of(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
    export: QueueId,
    place: u64,
) -> Result<Option<(u64, u64)>, DiskFault> {
    let (first, last) = (gap_key(export, 0), gap_key(export, place));
    let Some(row) = meta.range::<&str>(first.as_str()..=last.as_str())?.next_back() else { return Ok(None) };
    let (key, to) = row?;
    let to = number(to.value());
    Ok(gap_from(key.value(), export).filter(|_| place < to).map(|from| (from, to)))
}

/// Whether the message at this place of an export is here, or was.
pub(super) fn has(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
    export: QueueId,
    place: u64,
) -> Result<bool, DiskFault> {
    Ok(place < count(meta, export)? && gap_of(meta, export, place)?.is_none())
}

/// What an import is told of it. Gaps that are not told lie behind its count, and are brought again with all that stands there: it costs time, and
/// nothing else.
pub(super) fn told(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
    export: QueueId,
) -> Result<Adoption, DiskFault> {
    let mut adoption = Adoption { count: count(meta, export)?, gaps: Vec::new() };
    let first = gap_key(export, 0);
    for row in meta.range::<&str>(first.as_str()..)? {
        let (key, to) = row?;
        let Some(from) = gap_from(key.value(), export) else { break };
        if adoption.gaps.len() >= GAPS_TOLD_MAX {
            adoption.count = from;
            break;
        }
        adoption.gaps.push((from, number(to.value())));
    }
    Ok(adoption)
}

/// Notes that the message at this place is here. Gives what is to be noted as its count, when that has changed.
pub(super) fn note(meta: &mut Meta<'_>, export: QueueId, place: u64) -> Result<Option<u64>, DiskFault> {
    let count = count(meta, export)?;
    if place >= count {
        set_gap(meta, export, count, place)?;
        return Ok(Some(place.saturating_add(1)));
    }
    if let Some((from, to)) = gap_of(meta, export, place)? {
        set_gap(meta, export, from, place)?;
        set_gap(meta, export, place.saturating_add(1), to)?;
    }
    Ok(None)
}

fn set_gap(meta: &mut Meta<'_>, export: QueueId, from: u64, to: u64) -> Result<(), DiskFault> {
    let key = gap_key(export, from);
    if from < to {
        meta.insert(key.as_str(), to.to_le_bytes().as_slice())?;
    } else {
        meta.remove(key.as_str())?;
    }
    Ok(())
}

/// Forgets the gaps of an export that is remembered no more.
pub(super) fn forget_gaps(meta: &mut Meta<'_>, export: &str) -> Result<(), DiskFault> {
    let (first, behind) = (format!("{GAPS}{export} "), format!("{GAPS}{export}!"));
    Ok(meta.retain_in::<&str, _>(first.as_str()..behind.as_str(), |_, _| false)?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::queue::tables::META;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn in_whatever_order_places_are_noted_these_are_known_and_no_others(places in prop::collection::vec(0_u64..24, 0..24)) {
            let database = redb::Database::builder().create_with_backend(redb::backends::InMemoryBackend::new()).unwrap();
            let transaction = database.begin_write().unwrap();
            let mut meta = transaction.open_table(META).unwrap();
            let (export, other) = (QueueId::from_u128(7), QueueId::from_u128(8));
            let mut noted = BTreeSet::new();
            set_gap(&mut meta, other, 3, 9).unwrap();
            for place in places {
                if let Some(count) = note(&mut meta, export, place).unwrap() {
                    meta.insert(export_key(ADOPTIONS, export).as_str(), count.to_le_bytes().as_slice()).unwrap();
                }
                noted.insert(place);
                let adoption = told(&meta, export).unwrap();
                for place in 0..26 {
                    prop_assert_eq!(has(&meta, export, place).unwrap(), noted.contains(&place));
                    prop_assert_eq!(adoption.has(place), noted.contains(&place));
                }
            }
            forget_gaps(&mut meta, &export.to_string()).unwrap();
            prop_assert_eq!(told(&meta, export).unwrap().gaps, vec![]);
            prop_assert_eq!(told(&meta, other).unwrap().gaps, vec![(3, 9)]);
        }
    }

    #[test]
    fn of_more_gaps_than_are_told_the_rest_lies_behind_the_count() {
        let database = redb::Database::builder().create_with_backend(redb::backends::InMemoryBackend::new()).unwrap();
        let transaction = database.begin_write().unwrap();
        let mut meta = transaction.open_table(META).unwrap();
        let export = QueueId::from_u128(7);
        for gap in 0..1001 {
            set_gap(&mut meta, export, 2 * gap, 2 * gap + 1).unwrap();
        }
        meta.insert(export_key(ADOPTIONS, export).as_str(), 3000_u64.to_le_bytes().as_slice()).unwrap();
        let adoption = told(&meta, export).unwrap();
        assert_eq!((adoption.count, adoption.gaps.len()), (2000, 1000));
        assert!(adoption.has(1999) && !adoption.has(1998) && !adoption.has(2001));
    }
}
