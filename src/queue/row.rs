//! What the store's index says of a message: whose it is, where it stands, and where its record and its body lie.
//!
//! In postcard, some sixty octets each, so that all can be read at a start. What it says of record and body is checked by their checksums; a row that
//! can't be read itself is one of a dead message of which nothing is known.

use serde::{Deserialize, Serialize};

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

    pub(super) fn state(&self) -> State {
        self.place(QueueId::from_u128(0)).state()
    }

    pub(super) fn decode(octets: &[u8]) -> Self {
        postcard::from_bytes(octets).unwrap_or_else(|_| Self::lost())
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>, redb::Error> {
        postcard::to_stdvec(self).map_err(|fault| redb::Error::Corrupted(fault.to_string()))
    }
}
