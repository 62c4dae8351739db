//! The embedded store as a [`Store`]: its reads, each one short transaction.

use std::io;
use std::sync::MutexGuard;
use std::time::Duration;

use redb::{ReadableTable as _, ReadableTableMetadata as _};

use super::QueueError;
use super::adoptions;
use super::at_hand::BodyAtHand;
use super::brief::Brief;
use super::claims::Claims;
use super::codec::{self, CodecFault};
use super::compact::{Compaction, Progress};
use super::embedded::{Embedded, View};
use super::index::{Index, Turn};
use super::listing::{BRIEFS, RECORDS};
use super::pledges;
use super::record::{Record, State};
use super::row::{Body, Read, Row};
use super::seen::{Seen, table};
use super::settings::{PIECE, READ_AT_ONCE, SCAN_MAX};
use super::shelf::is_unreadable;
use super::store::{
    AtHand, Direction, DuePlace, Filter, Free, Late, Listed, Listing, Order, Page, Reading, Spent, Stats, Store, Tally,
    Ticket, Totals, Work,
};
use super::tables::{self, DiskFault, LEDGER, MESSAGES, META, UNREAD};
use super::transfer::Adoption;
use crate::mail::{Cost, QueueId, Rates};
use crate::sys::disk::Open;
use crate::sys::{MonoTime, Now};

impl Store for Embedded {
    fn apply(&self, batch: Vec<Order>, now: Now) -> Vec<Result<(), QueueError>> {
        self.apply_batch(batch, now)
    }

    fn spend(&self, identity: &str, rates: &Rates, cost: Cost, now: Now) -> Result<Spent, QueueError> {
        self.accounts().spend(identity, rates, cost, now, || {
            self.read(|View { transaction, .. }| {
                let known = transaction.open_table(LEDGER)?.get(identity)?;
                Ok(known.map(|octets| tables::history(identity, octets.value())).unwrap_or_default())
            })
        })
    }

    fn claim(&self, now: Now, reading: Reading) -> Result<Work, QueueError> {
        loop {
            let ticket = match self.next_turn(now)? {
                Claimed::Yes(ticket) => ticket,
                Claimed::No(wait) => return Ok(Work::Nothing(wait)),
            };
            if let Some(work) = self.read_claimed(ticket, now, reading)? {
                return Ok(work);
            }
        }
    }

    fn claim_at_hand(&self, now: Now) -> AtHand {
        let Some((claims, index)) = self.order_at_once().filter(|_| self.is_whole()) else { return AtHand::Unknown };
        let ticket = match self.turn(claims, &index, now) {
            Claimed::Yes(ticket) => ticket,
            Claimed::No(wait) => return AtHand::Work(Work::Nothing(wait)),
        };
        drop(index);
        let record = self.at_hand().take_record(ticket.id);
        match record.filter(|record| record.state == State::Queued && record.due <= now.wall) {
            Some(record) => AtHand::Work(Work::Claimed(ticket, record)),
            // It has had its turn, and keeps it.
            None => AtHand::Unread(ticket),
        }
    }

    fn read_claimed(&self, ticket: Ticket, now: Now, reading: Reading) -> Result<Option<Work>, QueueError> {
        // Read after it was claimed: whoever had it before has recorded by now.
        let record = match self.at_hand().take_record(ticket.id) {
            Some(record) => Ok((Look::Record(record), None)),
            None => self.read(|view| match reading {
                Reading::Whole => look_whole(view, ticket.id),
                Reading::RecordAlone => Ok((look(view, ticket.id)?, None)),
            }),
        };
        match record {
            Ok((Look::Record(record), body)) if record.state == State::Queued && record.due <= now.wall => {
                if let Some(octets) = body {
                    self.at_hand().put_body(ticket.id, octets);
                }
                Ok(Some(Work::Claimed(ticket, record)))
            }
            // It stands elsewhere now, and is found there.
            Ok((Look::Record(_) | Look::Nothing, _)) => {
                self.claims().end(ticket);
                Ok(None)
            }
            Ok((Look::Unreadable(reason), _)) => Ok(Some(Work::Unreadable(ticket, reason))),
            Err(fault) => {
                self.unclaim(ticket);
                Err(fault)
            }
        }
    }

    fn body_at_hand(&self, id: QueueId) -> Option<BodyAtHand> {
        self.at_hand().take_body(id)
    }

    fn is_current(&self, ticket: Ticket) -> bool {
        self.claims().is_current(ticket)
    }

    fn claim_late(
        &self,
        now: Now,
        late: Late,
        after: Option<DuePlace>,
    ) -> Result<(Work, Option<DuePlace>), QueueError> {
        // Whose lease has run out is free, also while nothing else is claimed.
        self.claims().tick(now.mono);
        let (found, next) = self.first_late(now, late, after)?;
        let until = now.mono.after(self.lease);
        let claimed = found.and_then(|DuePlace(whose, place)| {
            let mut claims = self.claims();
            claims.take_put_off(place.id, until).or_else(|| claims.take_one(&whose.into(), place, until))
        });
        let Some(ticket) = claimed else {
            return Ok((Work::Nothing(None), next));
        };
        let work = match self.claimed(ticket, |record| late.concerns(record, now.wall))? {
            Look::Record(record) => Work::Claimed(ticket, record),
            Look::Unreadable(_) | Look::Nothing => {
                self.unclaim(ticket);
                Work::Nothing(None)
            }
        };
        Ok((work, next))
    }

    fn claim_one(&self, id: QueueId, now: Now) -> Result<Work, QueueError> {
        let Some(ticket) = self.take_named(id, now)? else { return Ok(Work::Nothing(None)) };
        Ok(match self.claimed(ticket, |record| record.due <= now.wall)? {
            Look::Record(record) => Work::Claimed(ticket, record),
            Look::Unreadable(reason) => Work::Unreadable(ticket, reason),
            // It stands elsewhere now, and is found there.
            Look::Nothing => {
                self.claims().end(ticket);
                Work::Nothing(None)
            }
        })
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

    fn lay_down(&self, ticket: Ticket) {
        self.claims().lay_down(ticket);
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
        match self.read(|view| look(view, id))? {
            Look::Record(record) => Ok(Listed::Message(record)),
            Look::Unreadable(reason) => Ok(Listed::Unreadable(id, reason)),
            Look::Nothing => Err(QueueError::NotFound(id)),
        }
    }

    fn piece(&self, id: QueueId, offset: u64) -> Result<Vec<u8>, QueueError> {
        match self.read(|view| piece(view, id, offset))? {
            Piece::Octets(octets) => Ok(octets),
            Piece::File(length) => self.file_piece(id, offset, length),
            Piece::Gap => Err(QueueError::Damaged(id, "part of its body is missing".to_owned())),
            Piece::Unreadable => Err(QueueError::Damaged(
                id,
                "the disk fails to read its body; when it reads it again, `sealpost queue retry` has the message tried"
                    .to_owned(),
            )),
            Piece::Nothing => Err(QueueError::NotFound(id)),
        }
    }

    fn list(&self, filter: Filter, page: Page) -> Result<Listing, QueueError> {
        self.listing(&RECORDS, filter, page, Direction::OldestFirst)
    }

    fn list_back(&self, filter: Filter, page: Page) -> Result<Listing, QueueError> {
        self.listing(&RECORDS, filter, page, Direction::NewestFirst)
    }

    fn briefs(&self, filter: Filter, page: Page, direction: Direction) -> Result<Listing<Brief>, QueueError> {
        self.listing(&BRIEFS, filter, page, direction)
    }

    fn adopted(&self, export: QueueId) -> Result<Adoption, QueueError> {
        self.read(|View { transaction, .. }| adoptions::told(&transaction.open_table(META)?, export))
    }

    fn exported(&self, export: QueueId) -> Result<bool, QueueError> {
        self.read(|View { transaction, .. }| pledges::is_ours(&transaction.open_table(META)?, export))
    }

    fn settled(&self, export: QueueId) -> Result<bool, QueueError> {
        self.read(|View { transaction, .. }| {
            let key = tables::export_key(tables::SETTLED, export);
            Ok(transaction.open_table(META)?.get(key.as_str())?.is_some())
        })
    }

    fn seen(&self, after: Option<&str>, limit: usize) -> Result<Vec<Seen>, QueueError> {
        self.read(|view| table::page(&view.transaction.open_table(table::SEEN)?, after, limit))
    }

    fn seen_of(&self, identities: &[String]) -> Result<Vec<Vec<Seen>>, QueueError> {
        self.read(|View { transaction, .. }| {
            let seen = transaction.open_table(table::SEEN)?;
            identities.iter().map(|identity| table::of(&seen, identity)).collect()
        })
    }

    fn seen_count(&self) -> Result<u64, QueueError> {
        self.read(|view| Ok(view.transaction.open_table(table::SEEN)?.len()?))
    }

    fn totals(&self) -> Totals {
        self.totals_now()
    }

    fn held_by(&self, identity: &str) -> Result<Tally, QueueError> {
        if !self.is_whole() {
            return Err(QueueError::Broken("the store has to be opened again".to_owned()));
        }
        Ok(self.index().held_by(identity))
    }

    fn sums_at_hand(&self, identity: &str) -> Option<(Totals, Tally, u64)> {
        let index = self.index_at_once().filter(|_| self.is_whole())?;
        Some((index.totals(), index.held_by(identity), self.room().0))
    }

    fn stats(&self) -> Result<Stats, QueueError> {
        let oldest = self.read(|view| Ok(view.transaction.open_table(MESSAGES)?.first()?.map(|(id, _)| id.value())))?;
        let (claimed, unrecorded) = self.claims().count();
        Ok(Stats {
            totals: self.totals_now(),
            claimed,
            unrecorded,
            oldest: oldest.map(|id| QueueId::from_u128(id).arrived()),
            file: self.octets_of_files()?,
        })
    }

    fn space_left(&self, now: Now) -> Result<Free, QueueError> {
        if !self.is_whole() {
            return Err(QueueError::Broken("the store has to be opened again".to_owned()));
        }
        self.is_in_place()?;
        let disk = self.gauge().measured(now.mono, || self.disk.space_left(&self.folder));
        let disk = disk.map_err(|fault| QueueError::from_io(&fault))?;
        let (within, _) = self.room();
        Ok(Free { disk, within })
    }

    fn compact(&self, most: u64, told: Progress<'_>) -> Result<Compaction, QueueError> {
        self.compact_files(most, told)
    }

    fn close(&self) {
        self.shut();
    }
}

impl Embedded {
    /// Claims for the identity whose turn it is; when nobody has one, says how long to wait.
    fn next_turn(&self, now: Now) -> Result<Claimed, QueueError> {
        if !self.is_whole() {
            return Err(QueueError::Broken("the store has to be opened again".to_owned()));
        }
        let (claims, index) = self.order();
        Ok(self.turn(claims, &index, now))
    }

    fn turn(&self, mut claims: MutexGuard<'_, Claims>, index: &Index, now: Now) -> Claimed {
        claims.tick(now.mono);
        claims.turns.tick(now.wall);
        match index.turn(&mut claims, self.per_identity, now.wall) {
            Turn::Of(identity, place) => Claimed::Yes(claims.take(&identity, place, now.mono.after(self.lease))),
            Turn::Nobodys(head) => {
                let until_due = head.into_iter().chain(claims.turns.next_alarm()).map(|at| at.since(now.wall));
                Claimed::No(until_due.chain(claims.first_end(now.mono)).min())
            }
        }
    }

    /// Reads what was claimed, after that: whoever had it before has recorded by now. Nothing when it is queued no more, or not wanted as it is now. When it
    /// can't be read, the claim is given back.
    fn claimed(&self, ticket: Ticket, is_wanted: impl FnOnce(&Record) -> bool) -> Result<Look, QueueError> {
        match self.read(|view| look(view, ticket.id)) {
            Ok(Look::Record(record)) if record.state != State::Queued || !is_wanted(&record) => Ok(Look::Nothing),
            Err(fault) => {
                self.unclaim(ticket);
                Err(fault)
            }
            looked => looked,
        }
    }

    /// Claims the message of this name, when it is put off, or is due and free.
    fn take_named(&self, id: QueueId, now: Now) -> Result<Option<Ticket>, QueueError> {
        let until = now.mono.after(self.lease);
        self.claims().tick(now.mono);
        if let Some(ticket) = self.claims().take_put_off(id, until) {
            return Ok(Some(ticket));
        }
        let found = self.read(|view| Ok((row(view, id)?.map(|row| row.identity), look(view, id)?)))?;
        let (Some(whose), Look::Record(record)) = found else { return Ok(None) };
        if record.state != State::Queued || record.due > now.wall {
            return Ok(None);
        }
        let whose = whose.as_str().into();
        Ok(self.claims().take_one(&whose, super::turns::Place::of(&record), until))
    }

    /// The first late message behind `after`, of at most [`SCAN_MAX`] queued ones, and where to go on.
    fn first_late(
        &self,
        now: Now,
        late: Late,
        after: Option<DuePlace>,
    ) -> Result<(Option<DuePlace>, Option<DuePlace>), QueueError> {
        let (mut after, mut looked_at) = (after, 0);
        while looked_at < SCAN_MAX {
            let (candidates, last, passed) = self.perhaps_late(now, late, after.as_ref());
            for candidate in candidates {
                if let Look::Record(record) = self.read(|view| look(view, candidate.1.id))?
                    && late.concerns(&record, now.wall)
                {
                    return Ok((Some(candidate.clone()), Some(candidate)));
                }
            }
            if last.is_none() {
                return Ok((None, None));
            }
            after = last;
            looked_at = looked_at.saturating_add(passed);
        }
        Ok((None, after))
    }

    /// Of the next few messages behind `after` those that may be late, by their names and places; where to go on, and how many were passed.
    fn perhaps_late(&self, now: Now, late: Late, after: Option<&DuePlace>) -> (Vec<DuePlace>, Option<DuePlace>, usize) {
        let (claims, index) = self.order();
        let mut candidates = Vec::new();
        for (seen, (identity, place)) in (1..).zip(index.round(after)) {
            // The name tells when it came, a little early; most messages need not be read.
            if place.state() == State::Queued
                && late.may_concern(place.id.arrived(), place.due, now.wall)
                && claims.is_idle(place.id)
            {
                candidates.push(DuePlace(identity.to_string(), place));
            }
            if seen == SCAN_MAX || candidates.len() == READ_AT_ONCE {
                return (candidates, Some(DuePlace(identity.to_string(), place)), seen);
            }
        }
        (candidates, None, 0)
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

enum Look {
    Nothing,
    Record(Box<Record>),
    Unreadable(String),
}

fn row(view: &View<'_>, id: QueueId) -> Result<Option<Row>, DiskFault> {
    let Some(octets) = view.transaction.open_table(MESSAGES)?.get(id.to_u128())? else { return Ok(None) };
    match Row::read(id, octets.value()) {
        Read::Whole(row) | Read::Mended(row) => Ok(Some(row)),
        // The store is opened again, which looks what it was.
        Read::Damaged(_) => Err(tables::damaged_row(id)),
    }
}

/// Unless the disk fails: a file that ends before is damage, and so is what it fails to read again and again.
pub(super) fn or_damage(read: io::Result<Vec<u8>>) -> Result<Result<Vec<u8>, CodecFault>, DiskFault> {
    match read {
        Err(fault) if fault.kind() == io::ErrorKind::UnexpectedEof => Ok(Ok(Vec::new())),
        Err(fault) if is_unreadable(&fault) => Ok(Err(CodecFault::Disk)),
        read => Ok(Ok(read.map_err(redb::Error::Io)?)),
    }
}

fn look(view: &View<'_>, id: QueueId) -> Result<Look, DiskFault> {
    row(view, id)?.map_or(Ok(Look::Nothing), |row| look_at(view, id, &row))
}

/// The same for who is to send it: what is to be sent besides, when it is one piece and whole. What is not is read, and judged, when it is wanted.
fn look_whole(view: &View<'_>, id: QueueId) -> Result<(Look, Option<Vec<u8>>), DiskFault> {
    let Some(row) = row(view, id)? else { return Ok((Look::Nothing, None)) };
    let look = look_at(view, id, &row)?;
    let body = match (&look, &row.body) {
        (Look::Record(record), Body::Shelf(extents)) if record.length <= u64::try_from(PIECE).unwrap_or(0) => {
            let octets = view.shelf.read(extents, 0, PIECE).ok();
            octets.filter(|octets| record.is_of(octets))
        }
        _ => None,
    };
    Ok((look, body))
}

fn look_at(view: &View<'_>, id: QueueId, row: &Row) -> Result<Look, DiskFault> {
    let octets = or_damage(view.shelf.read(&row.record, 0, usize::MAX))?;
    Ok(match octets.and_then(|octets| codec::decode_of(id, &octets)) {
        Ok(record) => Look::Record(Box::new(record)),
        Err(fault) => Look::Unreadable(reason(view, id, &fault)?),
    })
}

/// Why a record can't be read, as was noted when it was set aside.
pub(super) fn reason(view: &View<'_>, id: QueueId, fault: &CodecFault) -> Result<String, DiskFault> {
    let noted = view.transaction.open_table(UNREAD)?.get(id.to_u128())?;
    Ok(noted.map_or_else(|| fault.to_string(), |reason| reason.value().to_owned()))
}

enum Piece {
    Nothing,
    Gap,
    /// The disk fails to read it.
    Unreadable,
    Octets(Vec<u8>),
    File(u64),
}

fn piece(view: &View<'_>, id: QueueId, offset: u64) -> Result<Piece, DiskFault> {
    let Some(row) = row(view, id)? else { return Ok(Piece::Nothing) };
    let Body::Shelf(extents) = &row.body else { return Ok(Piece::File(row.length)) };
    Ok(match or_damage(view.shelf.read(extents, offset, PIECE))? {
        Ok(octets) if octets.is_empty() && offset < row.length => Piece::Gap,
        Ok(octets) => Piece::Octets(octets),
        Err(_) => Piece::Unreadable,
    })
}
