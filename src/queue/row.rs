//! What the store's index says of a message: whose it is, where it stands, and where its record and its body lie.
//!
//! In postcard, some sixty octets each, so that all can be read at a start. What it says of record and body is checked by their checksums; a row that
//! can't be read itself is one of a dead message of which nothing is known.

use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::record::{Record, State};
use super::space::Extent;
use super::turns::Place;
use crate::mail::QueueId;
use crate::sys::WallTime;

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
    fn lost() -> Self {
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

    pub(super) fn decode(octets: &[u8]) -> Self {
        postcard::from_bytes(octets).unwrap_or_else(|_| Self::lost())
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>, redb::Error> {
        postcard::to_stdvec(self).map_err(|fault| redb::Error::Corrupted(fault.to_string()))
    }
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
    pub(super) fn read(octets: &[u8]) -> Self {
        let read = postcard::from_bytes::<Written<'_>>(octets);
        let read = read.map(|Written { level, due, record, .. }| {
            let place = Place { level, due: WallTime::from_millis(due), id: QueueId::from_u128(0) };
            Self { state: place.state(), record }
        });
        read.unwrap_or_else(|_| {
            let Row { record, .. } = Row::lost();
            Self { state: State::Dead, record: Lies::InPieces(record) }
        })
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

    #[test]
    fn what_a_listing_reads_of_a_row_is_what_the_row_says() {
        let extent = |grain| Extent { grain, length: 300 };
        let pieces = |count: u64| (0..count).map(extent).collect::<Vec<_>>();
        for (level, record, body) in [
            (0, pieces(1), Body::File),
            (9, pieces(0), Body::Shelf(pieces(1))),
            (200, pieces(3), Body::Shelf(pieces(8))),
        ] {
            let row = Row { level, due: -5, identity: "größer".to_owned(), record, body, length: u64::MAX };
            let octets = row.encode().unwrap();
            for cut in 0..=octets.len() {
                let (row, found) = (Row::decode(&octets[..cut]), Found::read(&octets[..cut]));
                assert_eq!((found.state, found.record.extents()), (row.state(), row.record.as_slice()), "{cut}");
                assert_eq!(found.record.octets(), row.record_octets());
            }
        }
    }
}
