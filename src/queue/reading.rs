//! The embedded store as a [`Store`]: its reads, each one short transaction.

use std::io;
use std::ops::Bound;
use std::time::Duration;

use redb::{ReadableTable, ReadableTableMetadata as _};

use super::QueueError;
use super::codec;
use super::compact::{Compaction, Progress};
use super::embedded::Embedded;
use super::index::{Index, Turn};
use super::record::State;
use super::seen::{ROW_ABOUT, Seen, table};
use super::settings::{CHUNK, PAGE_MAX, PIECE, SCAN_MAX};
use super::store::{
    DuePlace, Filter, Late, Listed, Listing, Order, Page, Spent, Stats, Store, Tally, Ticket, Totals, Work,
};
use super::tables::{self, BODIES, DiskFault, FILES, HOLDERS, LEDGER, META, RECORDS, UNREAD};
use crate::mail::{Cost, QueueId, Rates};
use crate::sys::disk::Open;
use crate::sys::{MonoTime, Now};

impl Store for Embedded {
    fn apply(&self, batch: Vec<Order>, now: Now) -> Vec<Result<(), QueueError>> {
        self.apply_batch(batch, now)
    }

    fn spend(&self, identity: &str, rates: &Rates, cost: Cost, now: Now) -> Result<Spent, QueueError> {
        self.accounts().spend(identity, rates, cost, now, || {
            self.read(|transaction| {
                let known = transaction.open_table(LEDGER)?.get(identity)?;
                Ok(known.map(|octets| tables::history(identity, octets.value())).unwrap_or_default())
            })
        })
    }

    fn claim(&self, now: Now) -> Result<Work, QueueError> {
        loop {
            let ticket = match self.next_turn(now)? {
                Claimed::Yes(ticket) => ticket,
                Claimed::No(wait) => return Ok(Work::Nothing(wait)),
            };
            // Read after it was claimed: whoever had it before has recorded by now.
            match self.read(|transaction| row(transaction, ticket.id)) {
                Ok(Row::Record(record)) if record.state == State::Queued && record.due <= now.wall => {
                    return Ok(Work::Claimed(ticket, record));
                }
                // It stands elsewhere now, and is found there.
                Ok(Row::Record(_) | Row::Nothing) => self.claims().end(ticket),
                Ok(Row::Unreadable(reason)) => return Ok(Work::Unreadable(ticket, reason)),
                Err(fault) => {
                    self.unclaim(ticket);
                    return Err(fault);
                }
            }
        }
    }

    fn claim_late(
        &self,
        now: Now,
        late: Late,
        after: Option<DuePlace>,
    ) -> Result<(Work, Option<DuePlace>), QueueError> {
        // Whose lease has run out is free, also while nothing else is claimed.
        self.claims().tick(now.mono);
        let (found, next) = self.read(|transaction| self.first_late(transaction, now, late, after))?;
        let until = now.mono.after(self.lease);
        let claimed = found.and_then(|DuePlace(whose, place)| {
            let mut claims = self.claims();
            claims.take_put_off(place.id, until).or_else(|| claims.take_one(&whose.into(), place, until))
        });
        let Some(ticket) = claimed else {
            return Ok((Work::Nothing(None), next));
        };
        // As above: read again now that it is claimed.
        match self.read(|transaction| row(transaction, ticket.id)) {
            Ok(Row::Record(record))
                if record.state == State::Queued && record.due <= now.wall && late.concerns(&record) =>
            {
                Ok((Work::Claimed(ticket, record), next))
            }
            Ok(Row::Record(_) | Row::Nothing | Row::Unreadable(_)) => {
                self.unclaim(ticket);
                Ok((Work::Nothing(None), next))
            }
            Err(fault) => {
                self.unclaim(ticket);
                Err(fault)
            }
        }
    }

    fn claim_one(&self, id: QueueId, now: Now) -> Result<Work, QueueError> {
        let Some(ticket) = self.take_named(id, now)? else { return Ok(Work::Nothing(None)) };
        match self.read(|transaction| row(transaction, ticket.id)) {
            Ok(Row::Record(record)) if record.state == State::Queued && record.due <= now.wall => {
                Ok(Work::Claimed(ticket, record))
            }
            // It stands elsewhere now, and is found there.
            Ok(Row::Record(_) | Row::Nothing) => {
                self.claims().end(ticket);
                Ok(Work::Nothing(None))
            }
            Ok(Row::Unreadable(reason)) => Ok(Work::Unreadable(ticket, reason)),
            Err(fault) => {
                self.unclaim(ticket);
                Err(fault)
            }
        }
    }

    fn put_off(&self, ticket: Ticket, until: MonoTime) {
        self.claims().put_off(ticket, until);
    }

    fn recall(&self) {
        self.claims().recall();
    }

    fn over(&self, ticket: Ticket) {
        self.claims().over(ticket);
    }

    fn renew(&self, ticket: Ticket, now: Now) -> Result<(), QueueError> {
        let renewed = self.claims().renew(ticket, now.mono.after(self.lease));
        if renewed { Ok(()) } else { Err(QueueError::Fenced(ticket.id)) }
    }

    fn unclaim(&self, ticket: Ticket) {
        self.claims().give_back(ticket);
    }

    fn is_tried(&self, id: QueueId, now: Now) -> bool {
        let mut claims = self.claims();
        claims.tick(now.mono);
        claims.is_tried(id)
    }

    fn show(&self, id: QueueId) -> Result<Listed, QueueError> {
        match self.read(|transaction| row(transaction, id))? {
            Row::Record(record) => Ok(Listed::Message(record)),
            Row::Unreadable(reason) => Ok(Listed::Unreadable(id, reason)),
            Row::Nothing => Err(QueueError::NotFound(id)),
        }
    }

    fn piece(&self, id: QueueId, offset: u64) -> Result<Vec<u8>, QueueError> {
        let place = self.read(|transaction| place(transaction, id, offset))?;
        match place {
            Place::Octets(octets) => Ok(octets),
            Place::File(length) => self.file_piece(id, offset, length),
            Place::Gap => Err(QueueError::Damaged(id, "part of its body is missing".to_owned())),
            Place::Nothing => Err(QueueError::NotFound(id)),
        }
    }

    fn list(&self, filter: Filter, page: Page) -> Result<Listing, QueueError> {
        self.read(|transaction| listing(transaction, filter, page, Direction::OldestFirst))
    }

    fn list_back(&self, filter: Filter, page: Page) -> Result<Listing, QueueError> {
        self.read(|transaction| listing(transaction, filter, page, Direction::NewestFirst))
    }

    fn adopted(&self, export: QueueId) -> Result<u64, QueueError> {
        self.read(|transaction| {
            let noted = transaction.open_table(META)?.get(tables::export_key(tables::ADOPTIONS, export).as_str())?;
            Ok(noted.map_or(0, |octets| tables::adopted_count(octets.value())))
        })
    }

    fn settled(&self, export: QueueId) -> Result<bool, QueueError> {
        self.read(|transaction| {
            let key = tables::export_key(tables::SETTLED, export);
            Ok(transaction.open_table(META)?.get(key.as_str())?.is_some())
        })
    }

    fn seen(&self, after: Option<&str>, limit: usize) -> Result<Vec<Seen>, QueueError> {
        self.read(|transaction| table::page(&transaction.open_table(table::SEEN)?, after, limit))
    }

    fn seen_of(&self, identities: &[String]) -> Result<Vec<Vec<Seen>>, QueueError> {
        self.read(|transaction| {
            let seen = transaction.open_table(table::SEEN)?;
            identities.iter().map(|identity| table::of(&seen, identity)).collect()
        })
    }

    fn seen_count(&self) -> Result<u64, QueueError> {
        self.read(|transaction| Ok(transaction.open_table(table::SEEN)?.len()?))
    }

    fn totals(&self) -> Totals {
        self.sums().totals
    }

    fn held_by(&self, identity: &str) -> Result<Tally, QueueError> {
        self.read(|transaction| {
            let held = transaction.open_table(HOLDERS)?.get(identity)?;
            Ok(held.map(|held| tables::tally(held.value())).unwrap_or_default())
        })
    }

    fn stats(&self) -> Result<Stats, QueueError> {
        let oldest =
            self.read(|transaction| Ok(transaction.open_table(RECORDS)?.first()?.map(|(id, _)| id.value())))?;
        let file = self.disk.open(&self.file(), Open::Existing).and_then(|file| file.length());
        Ok(Stats {
            totals: self.totals(),
            claimed: self.claims().count(),
            oldest: oldest.map(|id| QueueId::from_u128(id).arrived()),
            file: file.map_err(|fault| QueueError::from_io(&fault))?,
        })
    }

    fn space_left(&self) -> Result<u64, QueueError> {
        if !self.is_whole() {
            return Err(QueueError::Broken("the store has to be opened again".to_owned()));
        }
        let measured = self.disk.space_left(&self.folder).and_then(|free| {
            let file = self.disk.open(&self.file(), Open::Existing)?;
            Ok((free, file.length()?))
        });
        let (free, length) = measured.map_err(|fault| QueueError::from_io(&fault))?;
        // redb gives little back to the disk but uses freed pages again. Its pages are half full at worst on average.
        let noted = self.seen_count()?.saturating_mul(ROW_ABOUT);
        let within = length.saturating_sub(self.sums().within.saturating_mul(2)).saturating_sub(noted);
        Ok(free.saturating_add(within))
    }

    fn compact(&self, most: u64, told: Progress<'_>) -> Result<Compaction, QueueError> {
        self.compact_file(most, told)
    }

    fn close(&self) {
        self.shut();
    }
}

impl Embedded {
    /// Claims for the identity whose turn it is; when nobody has one, says how long to wait.
    fn next_turn(&self, now: Now) -> Result<Claimed, QueueError> {
        self.read_claiming(|transaction, claims| {
            claims.tick(now.mono);
            claims.turns.tick(now.wall);
            Ok(match Index::open(transaction)?.turn(claims, self.per_identity, now.wall)? {
                Turn::Of(identity, place) => Claimed::Yes(claims.take(&identity, place, now.mono.after(self.lease))),
                Turn::Nobodys(head) => {
                    let until_due = head.into_iter().chain(claims.turns.next_alarm()).map(|at| at.since(now.wall));
                    Claimed::No(until_due.chain(claims.first_end(now.mono)).min())
                }
            })
        })
    }

    /// Claims the message of this name, when it is put off, or is due and free.
    fn take_named(&self, id: QueueId, now: Now) -> Result<Option<Ticket>, QueueError> {
        let until = now.mono.after(self.lease);
        self.claims().tick(now.mono);
        if let Some(ticket) = self.claims().take_put_off(id, until) {
            return Ok(Some(ticket));
        }
        let Row::Record(record) = self.read(|transaction| row(transaction, id))? else { return Ok(None) };
        if record.state != State::Queued || record.due > now.wall {
            return Ok(None);
        }
        let whose = record.custodian.identity.as_str().into();
        Ok(self.claims().take_one(&whose, super::turns::Place::of(&record), until))
    }

    /// The first late message behind `after`, of at most [`SCAN_MAX`] queued ones, and where to go on.
    fn first_late(
        &self,
        transaction: &redb::ReadTransaction,
        now: Now,
        late: Late,
        after: Option<DuePlace>,
    ) -> Result<(Option<DuePlace>, Option<DuePlace>), DiskFault> {
        for (seen, entry) in (1..).zip(Index::open(transaction)?.round(after.as_ref())?) {
            let found = entry?;
            let place = found.1;
            // The name tells when it came, a little early; most messages need not be read.
            if place.due <= now.wall
                && place.state() == State::Queued
                && late.may_concern(place.id.arrived())
                && self.claims().is_idle(place.id)
                && let Row::Record(record) = row(transaction, place.id)?
                && late.concerns(&record)
            {
                return Ok((Some(found.clone()), Some(found)));
            }
            if seen == SCAN_MAX {
                return Ok((None, Some(found)));
            }
        }
        Ok((None, None))
    }

    fn file_piece(&self, id: QueueId, offset: u64, length: u64) -> Result<Vec<u8>, QueueError> {
        let wanted = length.saturating_sub(offset).min(u64::try_from(PIECE).unwrap_or(u64::MAX));
        let mut octets = vec![0; usize::try_from(wanted).unwrap_or(0)];
        let read = self.disk.open(&self.sweeper.path(id), Open::Existing).and_then(|file| {
            file.read_at(offset, &mut octets)?;
            Ok(octets)
        });
        read.map_err(|fault| {
            let damage = |what: &str| QueueError::Damaged(id, what.to_owned());
            if fault.kind() == io::ErrorKind::NotFound {
                damage("its body file is missing")
            } else if fault.kind() == io::ErrorKind::UnexpectedEof {
                damage("its body file is too short")
            } else {
                QueueError::from_io(&fault)
            }
        })
    }
}

enum Claimed {
    Yes(Ticket),
    /// The next may be due after so long; none when nothing is waiting.
    No(Option<Duration>),
}

enum Row {
    Nothing,
    Record(Box<super::Record>),
    Unreadable(String),
}

fn row(transaction: &redb::ReadTransaction, id: QueueId) -> Result<Row, DiskFault> {
    let octets = transaction.open_table(RECORDS)?.get(id.to_u128())?;
    Ok(match octets.map(|octets| codec::decode(octets.value())) {
        None => Row::Nothing,
        Some(Ok(record)) => Row::Record(Box::new(record)),
        Some(Err(fault)) => {
            let noted = transaction.open_table(UNREAD)?.get(id.to_u128())?;
            Row::Unreadable(noted.map_or_else(|| fault.to_string(), |reason| reason.value().to_owned()))
        }
    })
}

enum Place {
    Nothing,
    Gap,
    Octets(Vec<u8>),
    File(u64),
}

fn place(transaction: &redb::ReadTransaction, id: QueueId, offset: u64) -> Result<Place, DiskFault> {
    let key = id.to_u128();
    let first = u32::try_from(offset / u64::try_from(CHUNK).unwrap_or(1)).unwrap_or(u32::MAX);
    let mut octets = Vec::new();
    let bodies = transaction.open_table(BODIES)?;
    for (row, expected) in bodies.range((key, first)..=(key, u32::MAX))?.zip(first..) {
        let (place, chunk) = row?;
        if place.value().1 != expected {
            return Ok(Place::Gap);
        }
        octets.extend_from_slice(chunk.value());
        if octets.len() >= PIECE {
            break;
        }
    }
    if !octets.is_empty() {
        return Ok(Place::Octets(octets));
    }
    if let Some(length) = transaction.open_table(FILES)?.get(key)? {
        return Ok(Place::File(length.value()));
    }
    Ok(if transaction.open_table(RECORDS)?.get(key)?.is_some() { Place::Gap } else { Place::Nothing })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    OldestFirst,
    NewestFirst,
}

fn listing(
    transaction: &redb::ReadTransaction,
    filter: Filter,
    page: Page,
    direction: Direction,
) -> Result<Listing, DiskFault> {
    let edge = page.after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.to_u128()));
    let limit = page.limit.clamp(1, PAGE_MAX);
    let records = transaction.open_table(RECORDS)?;
    let unread = transaction.open_table(UNREAD)?;
    let mut range = match direction {
        Direction::OldestFirst => records.range::<u128>((edge, Bound::Unbounded))?,
        Direction::NewestFirst => records.range::<u128>((Bound::Unbounded, edge))?,
    };
    let mut next = || match direction {
        Direction::OldestFirst => range.next(),
        Direction::NewestFirst => range.next_back(),
    };
    let mut listing = Listing::default();
    for seen in 1.. {
        let Some(entry) = next() else { break };
        let (key, octets) = entry?;
        let id = QueueId::from_u128(key.value());
        let listed = match codec::decode(octets.value()) {
            Ok(record) => Listed::Message(Box::new(record)),
            Err(fault) => {
                let noted = unread.get(key.value())?;
                Listed::Unreadable(id, noted.map_or_else(|| fault.to_string(), |reason| reason.value().to_owned()))
            }
        };
        if filter.state.is_none_or(|state| state == listed.state()) {
            listing.entries.push(listed);
        }
        if listing.entries.len() == limit || seen == SCAN_MAX {
            listing.next = Some(id);
            return Ok(listing);
        }
    }
    Ok(listing)
}
