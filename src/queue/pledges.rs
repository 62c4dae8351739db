//! What this queue has told another one that it has: its pledges. On the strength of one the other removes what it had.
//!
//! ```text
//! meta      exports                how many exports have begun here
//!           exported EXPORT        the number of this one, from 1
//!           unpledged              up to which name pledges were dropped, and the highest number that stood with one
//! pledges   id -> exports          how many had begun when this queue last said that it has the message
//! ```
//!
//! A receipt of an export removes nothing that was pledged after the export had begun: whoever wrote the receipt may have let the message go since, on the
//! strength of that very pledge (`daemon::steering::moving` has the whole protocol). A pledge outlives its message when that has been delivered here:
//! then no export brings it in again. It ends when the message moves on by a receipt, or when an operator removes it.
//!
//! There are [`PLEDGES_MAX`]. Of those that were dropped it is known up to which name they were: what has such a name counts as pledged when the last of
//! them was, so that its receipt removes too little and never too much.

use redb::{ReadableTable, ReadableTableMetadata as _, Table, TableDefinition};

use super::tables::{DiskFault, export_key};
use crate::mail::QueueId;

pub(super) const PLEDGES: TableDefinition<'static, u128, u64> = TableDefinition::new("pledges");
/// Exports of ours that have begun.
const EXPORTED: &str = "exported ";
const COUNT: &str = "exports";
const DROPPED: &str = "unpledged";
/// Messages whose pledges are remembered: at some 40 octets each, 40 MB.
pub(super) const PLEDGES_MAX: u64 = 1_000_000;
/// Exports whose numbers are remembered.
const EXPORTS_MAX: usize = 1000;

type Meta<'txn> = Table<'txn, &'static str, &'static [u8]>;
type Pledges<'txn> = Table<'txn, u128, u64>;

/// What can't be read is 0: then an export has begun before everything, and its receipt removes nothing that was ever pledged.
fn number(meta: &impl ReadableTable<&'static str, &'static [u8]>, key: &str) -> Result<u64, DiskFault> {
    let noted = meta.get(key)?;
    Ok(noted.map_or(0, |octets| octets.value().try_into().map_or(0, u64::from_le_bytes)))
}

/// Notes that an export begins; once.
pub(super) fn begin_export(meta: &mut Meta<'_>, export: QueueId) -> Result<(), DiskFault> {
    if is_ours(meta, export)? {
        return Ok(());
    }
    let count = number(meta, COUNT)?.saturating_add(1);
    meta.insert(COUNT, count.to_le_bytes().as_slice())?;
    meta.insert(export_key(EXPORTED, export).as_str(), count.to_le_bytes().as_slice())?;
    forget_exports(meta)
}

/// Those that began last are remembered, whatever the clock said in their names.
fn forget_exports(meta: &mut Meta<'_>) -> Result<(), DiskFault> {
    let mut known = Vec::new();
    for row in meta.range::<&str>(EXPORTED..)? {
        let (name, began) = row?;
        if !name.value().starts_with(EXPORTED) {
            break;
        }
        known.push((began.value().try_into().map_or(0, u64::from_le_bytes), name.value().to_owned()));
    }
    known.sort();
    for (_, name) in known.iter().take(known.len().saturating_sub(EXPORTS_MAX)) {
        meta.remove(name.as_str())?;
    }
    Ok(())
}

/// Whether this export is known to have begun here.
pub(super) fn is_ours(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
    export: QueueId,
) -> Result<bool, DiskFault> {
    Ok(meta.get(export_key(EXPORTED, export).as_str())?.is_some())
}

/// Notes that it is said of a message that it is here.
pub(super) fn pledge(meta: &mut Meta<'_>, pledges: &mut Pledges<'_>, id: QueueId, most: u64) -> Result<(), DiskFault> {
    pledges.insert(id.to_u128(), number(meta, COUNT)?)?;
    while pledges.len()? > most {
        let Some((dropped, at)) = pledges.pop_first()?.map(|(id, at)| (id.value(), at.value())) else { break };
        let (before, highest) = dropped_up_to(meta)?.unwrap_or((dropped, at));
        let octets = [dropped.max(before).to_le_bytes().as_slice(), &at.max(highest).to_le_bytes()].concat();
        meta.insert(DROPPED, octets.as_slice())?;
    }
    Ok(())
}

/// Up to which name pledges were dropped, and the highest number of one.
fn dropped_up_to(meta: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<Option<(u128, u64)>, DiskFault> {
    let Some(octets) = meta.get(DROPPED)? else { return Ok(None) };
    let split = octets.value().split_first_chunk::<16>();
    let read = split
        .and_then(|(name, number)| Some((u128::from_le_bytes(*name), u64::from_le_bytes(number.try_into().ok()?))));
    // What can't be read was everything, just now.
    Ok(Some(read.unwrap_or((u128::MAX, u64::MAX))))
}

/// Whether it was said of this message that it is here, as far as is remembered.
pub(super) fn is_pledged(pledges: &Pledges<'_>, id: QueueId) -> Result<bool, DiskFault> {
    Ok(pledges.get(id.to_u128())?.is_some())
}

/// Whether it was said after this export had begun, or may have been.
pub(super) fn is_pledged_since(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
    pledges: &Pledges<'_>,
    id: QueueId,
    export: QueueId,
) -> Result<bool, DiskFault> {
    let began = number(meta, export_key(EXPORTED, export).as_str())?;
    let pledged = match pledges.get(id.to_u128())? {
        Some(at) => Some(at.value()),
        None => dropped_up_to(meta)?.filter(|(name, _)| id.to_u128() <= *name).map(|(_, at)| at),
    };
    Ok(pledged.is_some_and(|at| at >= began))
}

/// Whoever has the message now, it is not said of this queue any more.
pub(super) fn end(pledges: &mut Pledges<'_>, id: QueueId) -> Result<(), DiskFault> {
    pledges.remove(id.to_u128())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::tables::META;

    fn id(number: u128) -> QueueId {
        QueueId::from_u128(number)
    }

    fn with_tables(test: impl FnOnce(&mut Meta<'_>, &mut Pledges<'_>)) {
        let database = redb::Database::builder().create_with_backend(redb::backends::InMemoryBackend::new()).unwrap();
        let transaction = database.begin_write().unwrap();
        test(&mut transaction.open_table(META).unwrap(), &mut transaction.open_table(PLEDGES).unwrap());
    }

    #[test]
    fn an_export_is_held_against_what_was_pledged_since_it_began_and_not_before() {
        with_tables(|meta, pledges| {
            pledge(meta, pledges, id(1), 10).unwrap();
            begin_export(meta, id(70)).unwrap();
            pledge(meta, pledges, id(2), 10).unwrap();
            // The clock was set back between: its name tells nothing.
            begin_export(meta, id(60)).unwrap();
            begin_export(meta, id(70)).unwrap();
            let table = [
                // Of an export that nobody noted nothing is known: whatever was ever pledged stays.
                (50, [true, true, false]),
                (70, [false, true, false]),
                (60, [false, false, false]),
            ];
            for (export, since) in table {
                let said = [1, 2, 3].map(|one| is_pledged_since(meta, pledges, id(one), id(export)).unwrap());
                assert_eq!(said, since, "{export}");
                assert_eq!(is_ours(meta, id(export)).unwrap(), export != 50);
            }
            end(pledges, id(2)).unwrap();
            assert!(!is_pledged_since(meta, pledges, id(2), id(70)).unwrap());
        });
    }

    #[test]
    fn what_was_dropped_counts_as_pledged_when_the_last_of_it_was() {
        with_tables(|meta, pledges| {
            begin_export(meta, id(70)).unwrap();
            for one in 1..=5 {
                pledge(meta, pledges, id(one), 3).unwrap();
            }
            begin_export(meta, id(71)).unwrap();
            assert_eq!([1, 2, 3].map(|one| is_pledged(pledges, id(one)).unwrap()), [false, false, true]);
            for one in 1..=7 {
                assert_eq!(is_pledged_since(meta, pledges, id(one), id(70)).unwrap(), one <= 5, "{one}");
                assert!(!is_pledged_since(meta, pledges, id(one), id(71)).unwrap(), "{one}");
            }
        });
    }

    #[test]
    fn of_so_many_exports_those_that_began_last_are_remembered() {
        with_tables(|meta, _| {
            for export in (1..=1002).rev() {
                begin_export(meta, id(export)).unwrap();
            }
            let known = [1002, 1001, 1000, 1].map(|export| is_ours(meta, id(export)).unwrap());
            assert_eq!(known, [false, false, true, true]);
        });
    }
}
