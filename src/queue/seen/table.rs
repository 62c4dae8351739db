//! The table of certificates seen, in the embedded store: (identity, SHA-256) -> row.

use std::ops::Bound;
use std::time::Duration;

use redb::{ReadableTable, ReadableTableMetadata as _, Table, TableDefinition};

use super::{Mark, Marked, OF_IDENTITY_MAX, Row, SEEN_MAX, Seen, Sighting};
use crate::queue::tables::DiskFault;

pub(in crate::queue) type Key = (&'static str, &'static [u8; 32]);

pub(in crate::queue) const SEEN: TableDefinition<'static, Key, &[u8]> = TableDefinition::new("seen");

/// The form of a row, its first octet. What has another one is passed over, and written anew when the certificate comes again.
const FORM: u8 = 1;

/// A certificate that was seen so lately, from the same client, is not written again.
const GRAIN: Duration = Duration::from_secs(60);

const FIRST: &[u8; 32] = &[0; 32];
const LAST: &[u8; 32] = &[0xff; 32];

/// Notes a sighting.
pub(in crate::queue) fn see(table: &mut Table<'_, Key, &'static [u8]>, sighting: &Sighting) -> Result<(), DiskFault> {
    let key = (sighting.identity.as_str(), &sighting.fingerprint);
    let known = table.get(key)?.and_then(|octets| decode(octets.value()));
    let row = match known {
        Some(row)
            if row.client == sighting.client && sighting.at.since(row.last) < GRAIN && sighting.at >= row.last =>
        {
            return Ok(());
        }
        Some(row) => Row { last: row.last.max(sighting.at), client: sighting.client.clone(), ..row },
        None => {
            if table.len()? >= SEEN_MAX || !make_room(table, &sighting.identity)? {
                return Ok(());
            }
            Row {
                certificate: sighting.certificate.clone().bounded(),
                first: sighting.at,
                last: sighting.at,
                client: sighting.client.clone(),
                told: None,
            }
        }
    };
    put(table, key, &row)
}

/// Sees to it that one identity has not too many; whether there is room now.
fn make_room(table: &mut Table<'_, Key, &'static [u8]>, identity: &str) -> Result<bool, DiskFault> {
    let known = of(table, identity)?;
    if known.len() < OF_IDENTITY_MAX {
        return Ok(true);
    }
    let oldest = known.iter().min_by_key(|one| one.row.last);
    if let Some(oldest) = oldest {
        table.remove((identity, &oldest.fingerprint))?;
    }
    Ok(oldest.is_some())
}

/// Notes what was told, or forgets. What is not there any more needs neither.
pub(in crate::queue) fn mark(table: &mut Table<'_, Key, &'static [u8]>, mark: &Mark) -> Result<(), DiskFault> {
    let key = (mark.identity.as_str(), &mark.fingerprint);
    match mark.what {
        Marked::Forgotten => {
            table.remove(key)?;
        }
        Marked::Told(stage) => {
            let known = table.get(key)?.and_then(|octets| decode(octets.value()));
            if let Some(row) = known {
                put(table, key, &Row { told: row.told.max(Some(stage)), ..row })?;
            }
        }
    }
    Ok(())
}

fn put(table: &mut Table<'_, Key, &'static [u8]>, key: (&str, &[u8; 32]), row: &Row) -> Result<(), DiskFault> {
    let octets = postcard::to_extend(row, vec![FORM]).map_err(|fault| redb::Error::Corrupted(fault.to_string()))?;
    table.insert(key, octets.as_slice())?;
    Ok(())
}

fn decode(octets: &[u8]) -> Option<Row> {
    let (&FORM, row) = octets.split_first()? else { return None };
    postcard::from_bytes(row).ok()
}

/// The certificates of one identity.
pub(in crate::queue) fn of(
    table: &impl ReadableTable<Key, &'static [u8]>,
    identity: &str,
) -> Result<Vec<Seen>, DiskFault> {
    let mut found = Vec::new();
    for row in table.range((identity, FIRST)..=(identity, LAST))? {
        let (key, octets) = row?;
        let (name, fingerprint) = key.value();
        found.extend(decode(octets.value()).map(|row| Seen {
            identity: name.to_owned(),
            fingerprint: *fingerprint,
            row,
        }));
    }
    Ok(found)
}

/// The certificates of the next identities, of each all; a few more than `limit` at the most.
pub(in crate::queue) fn page(
    table: &impl ReadableTable<Key, &'static [u8]>,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<Seen>, DiskFault> {
    let from = after.map_or(Bound::Unbounded, |after| Bound::Excluded((after, LAST)));
    let mut found: Vec<Seen> = Vec::new();
    for row in table.range::<(&str, &[u8; 32])>((from, Bound::Unbounded))? {
        let (key, octets) = row?;
        let (name, fingerprint) = key.value();
        if found.len() >= limit && found.last().is_some_and(|last| last.identity != name) {
            break;
        }
        found.extend(decode(octets.value()).map(|row| Seen {
            identity: name.to_owned(),
            fingerprint: *fingerprint,
            row,
        }));
    }
    Ok(found)
}
