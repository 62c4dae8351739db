//! What the store's index says of a message: whose it is, where it stands, and where its record and its body lie.
//!
//! In postcard, some sixty octets each, so that all can be read at a start. What it says of record and body is checked by their checksums.
//!
//! ```text
//! ...     the row in postcard
//! u64 LE  XXH3-64 of it, with that of the message's name as its seed
//! ```
//!
//! redb checks its pages when it repairs them, and never when it reads. So a row tells by itself whether it is what was written:
//!
//! | behind the row                  | it is                                                                                              |
//! |---------------------------------|----------------------------------------------------------------------------------------------------|
//! | nothing                         | of a build that wrote no sum, and counts as it is; such a build passes what it finds behind a row   |
//! | its sum                         | whole                                                                                              |
//! | a sum that one other octet fits | mended: of all rows that differ from it in one octet the sum of 64 bits picks the one that was written |
//! | anything else                   | damaged: what it names may be another's. While the relay runs it is one of a dead message of which nothing is known; the next opening looks whether the record proves it (see `stock`) |

use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::record::{Record, State};
use super::space::Extent;
use super::turns::Place;
use crate::mail::QueueId;
use crate::sys::WallTime;

/// Octets of a row in which the wrong one is looked for: longer ones are of a body in many pieces.
const MENDED_MAX: usize = 1024;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Row {
    level: u8,
    due: i64,
    /// Whose share and turn it takes: its custodian's, or of our own mail those of whom it is about; empty when nobody knows.
    pub(super) identity: String,
    /// Where its record lies; nowhere when it is lost.
    pub(super) record: Vec<Extent>,
    /// Where its body lies.
    pub(super) body: Body,
    /// Octets of the body.
    pub(super) length: u64,
}

/// Where a body lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Body {
    /// On the shelf.
    Shelf(Vec<Extent>),
    /// In a file of its own.
    File,
}

impl Body {
    /// What it takes of the shelf.
    pub(super) fn extents(&self) -> &[Extent] {
        match self {
            Self::Shelf(extents) => extents,
            Self::File => &[],
        }
    }
}

impl Row {
    pub(super) fn new(record: &Record, whose: &str, at: Vec<Extent>, body: Body) -> Self {
        Self::at(Place::of(record), whose.to_owned(), at, body, record.length)
    }

    pub(super) fn at(place: Place, identity: String, record: Vec<Extent>, body: Body, length: u64) -> Self {
        Self { level: place.level, due: place.due.millis(), identity, record, body, length }
    }

    /// The row of a message of which nothing can be read. If it has a body file, that stays as long as the row.
    pub(super) fn lost() -> Self {
        let place = Place::unreadable(QueueId::from_u128(0), State::Dead);
        Self::at(place, String::new(), Vec::new(), Body::File, 0)
    }

    /// Its record is lost.
    pub(super) fn without_record(self) -> Self {
        Self { record: Vec::new(), ..self }
    }

    /// Its body is lost, unless that is a file.
    pub(super) fn without_body(self) -> Self {
        let body = if self.body == Body::File { Body::File } else { Body::Shelf(Vec::new()) };
        Self { body, ..self }
    }

    /// Octets of the record.
    pub(super) fn record_octets(&self) -> u64 {
        self.record.iter().fold(0, |sum, extent| sum.saturating_add(extent.length))
    }

    pub(super) fn place(&self, id: QueueId) -> Place {
        Place { level: self.level, due: WallTime::from_millis(self.due), id }
    }

    #[cfg(test)]
    fn state(&self) -> State {
        self.place(QueueId::from_u128(0)).state()
    }

    /// What these octets say of the message of this name.
    pub(super) fn read(id: QueueId, octets: &[u8]) -> Read {
        if let Ok((row, behind)) = postcard::take_from_bytes::<Self>(octets)
            && is_right(id, octets, behind)
        {
            return Read::Whole(row);
        }
        let mended = mended(id, octets).and_then(|payload| whole(&payload));
        mended.map_or_else(|| Read::Damaged(lenient(octets)), Read::Mended)
    }

    /// The same while the relay runs: nothing that a damaged row names is touched.
    pub(super) fn decode(id: QueueId, octets: &[u8]) -> Self {
        match Self::read(id, octets) {
            Read::Whole(row) | Read::Mended(row) => row,
            Read::Damaged(_) => Self::lost(),
        }
    }

    pub(super) fn encode(&self, id: QueueId) -> Result<Vec<u8>, redb::Error> {
        let mut octets = postcard::to_stdvec(self).map_err(|fault| redb::Error::Corrupted(fault.to_string()))?;
        octets.extend(sum(id, &octets).to_le_bytes());
        Ok(octets)
    }
}

/// What octets say.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// What was written.
    Whole(Row),
    /// The same, though one octet of it is wrong.
    Mended(Row),
    /// Nobody knows; this is what they seem to say, if anything.
    Damaged(Option<Row>),
}

/// The name is part of it: a row under another's name is not right.
fn sum(id: QueueId, payload: &[u8]) -> u64 {
    xxh3_64_with_seed(payload, xxh3_64(&id.to_u128().to_le_bytes()))
}

/// Whether what stands behind a row bears it out.
fn is_right(id: QueueId, octets: &[u8], behind: &[u8]) -> bool {
    let payload = octets.strip_suffix(behind).unwrap_or_default();
    behind.is_empty() || *behind == sum(id, payload).to_le_bytes()
}

/// The octets that were written, when those that are there differ in one.
fn mended(id: QueueId, octets: &[u8]) -> Option<Vec<u8>> {
    let (payload, noted) = octets.split_last_chunk::<8>().filter(|(payload, _)| payload.len() <= MENDED_MAX)?;
    let (noted, mut tried) = (u64::from_le_bytes(*noted), payload.to_vec());
    let differs = (noted ^ sum(id, payload)).to_le_bytes();
    if differs.iter().filter(|octet| **octet != 0).count() <= 1 {
        return Some(tried);
    }
    for place in 0..payload.len() {
        for flip in 1..=u8::MAX {
            flipped(&mut tried, place, flip);
            if sum(id, &tried) == noted {
                return Some(tried);
            }
            flipped(&mut tried, place, flip);
        }
    }
    None
}

fn flipped(octets: &mut [u8], place: usize, flip: u8) {
    if let Some(octet) = octets.get_mut(place) {
        *octet ^= flip;
    }
}

/// A row that is all of these octets.
fn whole(payload: &[u8]) -> Option<Row> {
    let (row, behind) = postcard::take_from_bytes::<Row>(payload).ok()?;
    behind.is_empty().then_some(row)
}

fn lenient(octets: &[u8]) -> Option<Row> {
    postcard::from_bytes(octets).ok()
}

/// What a listing reads of a row.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) state: State,
    pub(super) record: Lies,
}

/// Where a record lies: in one piece, nearly always, and then nothing is allocated for it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lies {
    At(Extent),
    /// In so many pieces; nowhere when there is none.
    InPieces(Vec<Extent>),
}

impl Found {
    /// As [`Row::decode`], without a copy of what is not wanted.
    pub(super) fn read(id: QueueId, octets: &[u8]) -> Self {
        if let Ok((Written { level, due, record, .. }, behind)) = postcard::take_from_bytes::<Written<'_>>(octets)
            && is_right(id, octets, behind)
        {
            let place = Place { level, due: WallTime::from_millis(due), id };
            return Self { state: place.state(), record };
        }
        let row = Row::decode(id, octets);
        Self { state: row.place(id).state(), record: Lies::InPieces(row.record) }
    }
}

impl Lies {
    pub(super) fn extents(&self) -> &[Extent] {
        match self {
            Self::At(extent) => std::slice::from_ref(extent),
            Self::InPieces(extents) => extents,
        }
    }

    /// Octets of it.
    pub(super) fn octets(&self) -> u64 {
        self.extents().iter().fold(0, |sum, extent| sum.saturating_add(extent.length))
    }
}

/// A [`Row`] as it lies there.
#[derive(Deserialize)]
#[expect(dead_code, reason = "what is not wanted is passed")]
struct Written<'a> {
    level: u8,
    due: i64,
    identity: &'a str,
    record: Lies,
    body: WrittenBody,
    length: u64,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "what is not wanted is passed")]
enum WrittenBody {
    Shelf(Lies),
    File,
}

impl<'de> Deserialize<'de> for Lies {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_seq(Pieces)
    }
}

struct Pieces;

impl<'de> Visitor<'de> for Pieces {
    type Value = Lies;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("extents")
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<Lies, S::Error> {
        let Some(first) = list.next_element()? else { return Ok(Lies::InPieces(Vec::new())) };
        let Some(second) = list.next_element()? else { return Ok(Lies::At(first)) };
        let mut pieces = vec![first, second];
        while let Some(more) = list.next_element()? {
            pieces.push(more);
        }
        Ok(Lies::InPieces(pieces))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: QueueId = QueueId::from_u128(7);

    fn extents(count: u64) -> Vec<Extent> {
        (0..count).map(|grain| Extent { grain, length: 300 }).collect()
    }

    fn rows() -> [Row; 3] {
        [
            (0, extents(1), Body::File),
            (9, extents(0), Body::Shelf(extents(1))),
            (200, extents(3), Body::Shelf(extents(8))),
        ]
        .map(|(level, record, body)| Row {
            level,
            due: -5,
            identity: "größer".to_owned(),
            record,
            body,
            length: u64::MAX,
        })
    }

    #[test]
    fn what_a_listing_reads_of_a_row_is_what_the_row_says() {
        for row in rows() {
            let octets = row.encode(ID).unwrap();
            for cut in 0..=octets.len() {
                let (row, found) = (Row::decode(ID, &octets[..cut]), Found::read(ID, &octets[..cut]));
                assert_eq!((found.state, found.record.extents()), (row.state(), row.record.as_slice()), "{cut}");
                assert_eq!(found.record.octets(), row.record_octets());
            }
            for place in 0..octets.len() {
                let mut damaged = octets.clone();
                damaged[place] ^= 0x81;
                let found = Found::read(ID, &damaged);
                assert_eq!((found.state, found.record.extents()), (row.state(), row.record.as_slice()), "{place}");
            }
        }
    }

    /// Once a flip in `level` made a queued message a held one in the order alone: listed as queued, and nobody's turn.
    #[test]
    fn one_wrong_octet_of_a_row_is_mended_and_two_are_damage() {
        for row in rows() {
            let octets = row.encode(ID).unwrap();
            assert_eq!(Row::read(ID, &octets), Read::Whole(row.clone()));
            for (place, flip) in (0..octets.len()).flat_map(|place| [(place, 0x01), (place, 0x80), (place, 0xff)]) {
                let mut damaged = octets.clone();
                damaged[place] ^= flip;
                assert_eq!(Row::read(ID, &damaged), Read::Mended(row.clone()), "octet {place}");
            }
            for place in (0..octets.len() - 1).step_by(5) {
                let mut damaged = octets.clone();
                damaged[place] ^= 0x40;
                damaged[place + 1] ^= 0x02;
                assert!(matches!(Row::read(ID, &damaged), Read::Damaged(_)), "octet {place}");
                assert_eq!(Row::decode(ID, &damaged), Row::lost());
            }
            let another = QueueId::from_u128(8);
            assert_eq!(Row::read(another, &octets), Read::Damaged(Some(row)), "it is not this one's");
        }
    }

    #[test]
    fn a_row_without_a_sum_is_of_an_earlier_build_which_reads_one_with_a_sum() {
        for row in rows() {
            let before = postcard::to_stdvec(&row).unwrap();
            assert_eq!(Row::read(ID, &before), Read::Whole(row.clone()));
            assert_eq!(Found::read(ID, &before).record.extents(), row.record.as_slice());
            let now = row.encode(ID).unwrap();
            assert_eq!(now.len(), before.len() + 8);
            // As a build of before reads rows, whole and for a listing.
            assert_eq!(postcard::from_bytes::<Row>(&now), Ok(row.clone()));
            let listed = postcard::from_bytes::<Written<'_>>(&now).unwrap();
            assert_eq!((listed.level, listed.record.extents()), (row.level, row.record.as_slice()));
        }
    }
}
