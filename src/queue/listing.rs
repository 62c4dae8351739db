//! A page of a listing: rows are passed in one look at the index, their records read and decoded beside one another, and told in order.
//!
//! A look is short: what it sees named stays where it is so long, and somebody's commit may wait for it. Never: holds more than a page; tells of a message twice.

use std::ops::Bound;
use std::panic::resume_unwind;
use std::thread::{Builder, Scope, ScopedJoinHandle, scope};

use super::QueueError;
use super::brief::Brief;
use super::codec::{self, CodecFault};
use super::embedded::{Embedded, View};
use super::reading::{or_damage, reason};
use super::record::Record;
use super::row::{Found, Lies};
use super::settings::{BRIEFS_AT_ONCE, BRIEFS_MAX, PAGE_MAX, PAGE_OCTETS, READ_AT_ONCE, READ_OCTETS, SCAN_MAX};
use super::shelf::Shelf;
use super::store::{Direction, Filter, Listed, Listing, Page};
use super::tables::{DiskFault, MESSAGES};
use crate::mail::QueueId;

/// Records that are read together: what they lie in is read in one go where they lie together.
const TOGETHER: usize = 128;

/// What a listing is of.
pub(super) struct Kind<M> {
    /// How a record becomes what is listed.
    decode: fn(QueueId, &[u8]) -> Result<M, CodecFault>,
    /// Entries of a page at the most, and of one look.
    most: (usize, usize),
}

/// Whole records.
pub(super) const RECORDS: Kind<Box<Record>> =
    Kind { decode: |id, octets| codec::decode_of(id, octets).map(Box::new), most: (PAGE_MAX, READ_AT_ONCE) };

/// What a listing shows.
pub(super) const BRIEFS: Kind<Brief> = Kind { decode: codec::decode_brief_of, most: (BRIEFS_MAX, BRIEFS_AT_ONCE) };

/// What one look gives.
struct Rows {
    found: Vec<(QueueId, Lies)>,
    next: Option<QueueId>,
    /// Rows, shown or not.
    looked_at: usize,
    /// Octets of the records.
    octets: u64,
}

/// What a record says, or why it says nothing.
type Read<M> = Result<Result<M, CodecFault>, DiskFault>;

impl Embedded {
    /// Part of the list.
    pub(super) fn listing<M: Send>(
        &self,
        kind: &Kind<M>,
        filter: Filter,
        page: Page,
        direction: Direction,
    ) -> Result<Listing<M>, QueueError> {
        let (most, at_once) = kind.most;
        let limit = page.limit.clamp(1, most);
        let (mut entries, mut after, mut left, mut octets) = (Vec::new(), page.after, SCAN_MAX, 0_u64);
        loop {
            let wanted = limit.saturating_sub(entries.len()).min(at_once);
            let rows = self.read(|view| {
                let rows = rows(view, filter, direction, after, wanted, left)?;
                entries.extend(told(view, kind, &rows.found, self.readers)?);
                Ok(rows)
            })?;
            after = rows.next;
            left = left.saturating_sub(rows.looked_at);
            octets = octets.saturating_add(rows.octets);
            if after.is_none() || left == 0 || entries.len() >= limit || octets >= PAGE_OCTETS {
                return Ok(Listing { entries, next: after });
            }
        }
    }
}

fn rows(
    view: &View<'_>,
    filter: Filter,
    direction: Direction,
    after: Option<QueueId>,
    most: usize,
    scan: usize,
) -> Result<Rows, DiskFault> {
    let edge = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.to_u128()));
    let messages = view.transaction.open_table(MESSAGES)?;
    let mut range = match direction {
        Direction::OldestFirst => messages.range::<u128>((edge, Bound::Unbounded))?,
        Direction::NewestFirst => messages.range::<u128>((Bound::Unbounded, edge))?,
    };
    let mut rows = Rows { found: Vec::with_capacity(most), next: None, looked_at: 0, octets: 0 };
    while let Some(entry) = match direction {
        Direction::OldestFirst => range.next(),
        Direction::NewestFirst => range.next_back(),
    } {
        let (key, value) = entry?;
        let id = QueueId::from_u128(key.value());
        let row = Found::read(id, value.value());
        // The row tells the state; what is not shown is not read.
        if filter.state.is_none_or(|state| state == row.state) {
            rows.octets = rows.octets.saturating_add(row.record.octets());
            rows.found.push((id, row.record));
        }
        rows.looked_at = rows.looked_at.saturating_add(1);
        if rows.found.len() == most || rows.looked_at == scan || rows.octets >= READ_OCTETS {
            rows.next = Some(id);
            break;
        }
    }
    Ok(rows)
}

/// What the records of these rows say.
fn told<M: Send>(
    view: &View<'_>,
    kind: &Kind<M>,
    found: &[(QueueId, Lies)],
    readers: usize,
) -> Result<Vec<Listed<M>>, DiskFault> {
    let read = read_beside(view.shelf, kind.decode, found, readers);
    let told = found.iter().zip(read).map(|((id, _), read)| match read? {
        Ok(message) => Ok(Listed::Message(message)),
        Err(fault) => Ok(Listed::Unreadable(*id, reason(view, *id, &fault)?)),
    });
    told.collect()
}

/// Reads by so many threads at the most, each a part of some size; in their order.
fn read_beside<M: Send>(
    shelf: &Shelf,
    decode: fn(QueueId, &[u8]) -> Result<M, CodecFault>,
    found: &[(QueueId, Lies)],
    readers: usize,
) -> Vec<Read<M>> {
    let parts = found.len().div_ceil(TOGETHER).min(readers).max(1);
    let mut parts = found.chunks(found.len().div_ceil(parts).max(1));
    let Some(own) = parts.next() else { return Vec::new() };
    scope(|scope| {
        let others: Vec<_> = parts.map(|part| (part, beside(scope, move || read_all(shelf, decode, part)))).collect();
        let mut read = read_all(shelf, decode, own);
        for (part, thread) in others {
            match thread.map(ScopedJoinHandle::join) {
                Some(Ok(more)) => read.extend(more),
                Some(Err(panic)) => resume_unwind(panic),
                // The machine has no thread to spare.
                None => read.extend(read_all(shelf, decode, part)),
            }
        }
        read
    })
}

fn beside<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Option<ScopedJoinHandle<'scope, T>> {
    Builder::new().name("listing".to_owned()).spawn_scoped(scope, work).ok()
}

/// Those that lie near one another are read together, and none is copied.
fn read_all<M>(
    shelf: &Shelf,
    decode: fn(QueueId, &[u8]) -> Result<M, CodecFault>,
    found: &[(QueueId, Lies)],
) -> Vec<Read<M>> {
    let mut all = Vec::with_capacity(found.len());
    let (mut octets, mut few) = (Vec::new(), Vec::new());
    for part in found.chunks(TOGETHER) {
        few.resize_with(part.len(), || None);
        shelf.read_each(part.iter().map(|(_, lies)| lies.extents()), &mut octets, |place, octets| {
            if let (Some((id, _)), Some(read)) = (part.get(place), few.get_mut(place)) {
                *read = Some(Ok(decode(*id, octets)));
            }
        });
        let singly = |(id, lies): &(QueueId, Lies)| {
            or_damage(shelf.read(lies.extents(), 0, usize::MAX))
                .map(|read| read.and_then(|octets| decode(*id, &octets)))
        };
        all.extend(few.drain(..).zip(part).map(|(read, one)| read.unwrap_or_else(|| singly(one))));
    }
    all
}
