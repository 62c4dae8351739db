//! What of a message stands in a line for people.
//!
//! A listing may have a million of them: what was read of a message is told as it is, without a copy in between. Never: shows an octet of a body.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::StateName;
use super::entry::{Entry, came_of};
use crate::mail::QueueId;
use crate::queue::{Brief, Listed, RecipientState, Sketch as _};
use crate::sys::WallTime;

/// Recipients of whom a line tells what came of them; `show` tells of all.
pub const LINE_TRIED_MAX: usize = 20;

/// A message of a listing: as it was read in the queue, or as it was heard from a daemon, which is the same in JSON.
#[derive(Clone, Debug)]
pub enum Line {
    /// Read in the queue.
    Found(Box<Listed<Brief>>),
    /// Heard.
    Heard(Box<Shown<'static>>),
}

impl Line {
    /// What stands in it.
    pub fn tell<R>(&self, to: impl FnOnce(&Shown<'_>) -> R) -> R {
        match self {
            Self::Found(found) => to(&Shown::of(found)),
            Self::Heard(shown) => to(shown),
        }
    }
}

impl Serialize for Line {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.tell(|shown| shown.serialize(to))
    }
}

impl<'de> Deserialize<'de> for Line {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Shown::deserialize(from).map(|shown| Self::Heard(Box::new(shown)))
    }
}

/// What stands in a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown<'a> {
    /// Its name.
    #[serde(with = "name")]
    pub id: QueueId,
    /// Where it stands.
    pub state: StateName,
    /// Why, when it is dead or held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'a, str>>,
    /// Who sent it.
    pub identity: Cow<'a, str>,
    /// The reverse path; empty for `<>`.
    pub sender: Cow<'a, str>,
    /// Each forward path.
    pub to: Vec<Cow<'a, str>>,
    /// Octets as stored.
    pub octets: u64,
    /// When it came, seconds since 1970.
    pub arrived: i64,
    /// When its sender wants it to be sent, not before; seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_until: Option<i64>,
    /// What came of the recipients that were tried, or taken out: of the first [`LINE_TRIED_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tried: Vec<ShownRecipient<'a>>,
}

/// What came of a recipient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownRecipient<'a> {
    /// The forward path.
    pub address: Cow<'a, str>,
    /// As in [`EntryRecipient::outcome`](super::entry::EntryRecipient::outcome).
    pub outcome: Cow<'a, str>,
    /// What happened.
    pub detail: Cow<'a, str>,
    /// What the upstream said last, if it said something.
    pub reply: Option<Cow<'a, str>>,
}

impl<'a> Shown<'a> {
    fn of(listed: &'a Listed<Brief>) -> Self {
        match listed {
            Listed::Message(brief) => Self::of_brief(brief),
            Listed::Unreadable(id, reason) => Self::of_unreadable(*id, reason),
        }
    }

    fn of_brief(brief: &'a Brief) -> Self {
        let tried = brief.recipients().filter(|(_, state)| state.attempts > 0 || state.is_taken_out());
        Self {
            id: brief.id,
            state: brief.state.into(),
            reason: brief.reason.as_deref().map(Cow::from),
            identity: brief.identity().into(),
            sender: brief.sender().into(),
            to: brief.recipients().map(|(to, _)| to.into()).collect(),
            octets: brief.length,
            arrived: brief.arrived.seconds(),
            hold_until: brief.hold_until.map(WallTime::seconds),
            tried: tried.take(LINE_TRIED_MAX).map(|(to, state)| ShownRecipient::of(to, state)).collect(),
        }
    }

    /// Its name tells when it came; nothing else can.
    fn of_unreadable(id: QueueId, reason: &'a str) -> Self {
        Self {
            id,
            state: StateName::Dead,
            reason: Some(reason.into()),
            identity: Entry::UNREADABLE.into(),
            sender: Cow::default(),
            to: Vec::new(),
            octets: 0,
            arrived: id.arrived().seconds(),
            hold_until: None,
            tried: Vec::new(),
        }
    }
}

impl<'a> ShownRecipient<'a> {
    fn of(address: &'a str, state: &'a RecipientState) -> Self {
        let (outcome, detail, reply) = came_of(state);
        Self { address: address.into(), outcome: outcome.into(), detail: detail.into(), reply: reply.map(Cow::from) }
    }
}

/// The name of a message, as it is written for people.
mod name {
    use super::{Deserializer, Error, QueueId, Serializer, Visitor, fmt};

    pub(super) fn serialize<S: Serializer>(id: &QueueId, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(id)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<QueueId, D::Error> {
        from.deserialize_str(Name)
    }

    struct Name;

    impl Visitor<'_> for Name {
        type Value = QueueId;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the name of a message")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<QueueId, E> {
            text.parse().map_err(E::custom)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::record::samples;
    use crate::queue::{Outcome, Record};
    use crate::smtp::{Code, Reply};

    /// A record of which everything that a line can tell is there.
    fn tried() -> Record {
        let mut record = samples::record(7);
        let reply = Reply::new(Code::new(451).unwrap(), None, "later \"on\"");
        record.recipients[0].last = Some(Outcome::Deferred { reason: "silent\u{7}".to_owned(), reply: Some(reply) });
        record.recipients[0].attempts = 2;
        record
    }

    #[test]
    fn what_is_heard_is_what_was_found() {
        let found = [
            Listed::Message(Brief::of(&samples::record(7))),
            Listed::Message(Brief::of(&tried())),
            Listed::Unreadable(QueueId::from_u128(9), "its sum is wrong".to_owned()),
        ];
        for one in found {
            let line = Line::Found(Box::new(one));
            let json = serde_json::to_string(&line).unwrap();
            let heard: Line = serde_json::from_str(&json).unwrap();
            assert!(matches!(heard, Line::Heard(_)));
            line.tell(|found| heard.tell(|heard| assert_eq!(heard, found, "{json}")));
            assert_eq!(serde_json::to_string(&heard).unwrap(), json);
        }
    }

    #[test]
    fn a_line_tells_what_came_of_who_was_tried() {
        let line = Line::Found(Box::new(Listed::Message(Brief::of(&tried()))));
        line.tell(|shown| {
            assert_eq!(shown.tried.len(), 1);
            assert_eq!((&*shown.tried[0].outcome, &*shown.tried[0].detail), ("deferred", "silent\u{7}"));
            assert!(shown.tried[0].reply.as_ref().unwrap().contains("451 later"), "{:?}", shown.tried);
        });
    }

    #[test]
    fn what_is_no_name_is_no_line() {
        let line = Line::Found(Box::new(Listed::Message(Brief::of(&samples::record(7)))));
        let json = serde_json::to_string(&line).unwrap();
        let id = QueueId::from_u128(7).to_string();
        assert!(json.contains(&id), "{json}");
        assert!(serde_json::from_str::<Line>(&json.replace(&id, "nobody")).is_err());
    }
}
