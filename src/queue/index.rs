//! The order in which messages are given out, on the disk: two tables and what is asked of them.
//!
//! ```text
//! turns    (identity, level, due time, id) -> ()   every message once: the order within an identity
//! heads    (due time, identity) -> ()              when the first queued message of each identity is due
//! ```
//!
//! | level    | what                                                                      |
//! |----------|---------------------------------------------------------------------------|
//! | 0 to 18  | queued, by priority (RFC 6710): 9 is level 0, none is 0 and so level 9     |
//! | 254, 255 | held, dead: nobody's turn; here so that each message's identity is known  |
//!
//! What is asked costs as many steps as the levels that the identity uses, and a few more for what is claimed: never one for each message.
//! An identity that can't be told (its record was unreadable when the store was migrated) is `""`.

use std::ops::{Bound, RangeInclusive};

use redb::{ReadOnlyTable, ReadTransaction, ReadableTable, TableDefinition};

use super::claims::Claims;
use super::record::{Record, State};
use super::store::DuePlace;
use super::tables::DiskFault;
use super::turns::Place;
use crate::mail::QueueId;
use crate::sys::WallTime;

pub(super) type Key<'a> = (&'a str, u8, i64, u128);

pub(super) const TURNS: TableDefinition<'static, Key<'static>, ()> = TableDefinition::new("turns");
pub(super) const HEADS: TableDefinition<'static, (i64, &str), ()> = TableDefinition::new("heads");

/// The level of the highest priority, and that of the lowest (RFC 6710 §3: 9 to -9).
const HIGHEST: u8 = 0;
const LOWEST: u8 = 18;
/// The level of no priority, which is 0.
pub(super) const ORDINARY: u8 = 9;
const HELD: u8 = 254;
const DEAD: u8 = 255;

impl Place {
    /// Where this record's message stands.
    pub(super) fn of(record: &Record) -> Self {
        let level = match record.state {
            State::Queued => level_of(record.envelope.parameters().priority),
            State::Held => HELD,
            State::Dead => DEAD,
        };
        Self { level, due: record.due, id: record.id }
    }

    /// Where a message stands of which no more is known.
    pub(super) fn unreadable(id: QueueId, state: State) -> Self {
        let level = match state {
            State::Queued => ORDINARY,
            State::Held => HELD,
            State::Dead => DEAD,
        };
        Self { level, due: WallTime::from_millis(0), id }
    }

    /// The state of a message that stands there.
    pub(super) fn state(self) -> State {
        match self.level {
            DEAD => State::Dead,
            HELD => State::Held,
            _ => State::Queued,
        }
    }

    pub(super) fn key(self, identity: &str) -> Key<'_> {
        (identity, self.level, self.due.millis(), self.id.to_u128())
    }

    fn from_key((_, level, due, id): Key<'_>) -> Self {
        Self { level, due: WallTime::from_millis(due), id: QueueId::from_u128(id) }
    }
}

fn level_of(priority: Option<i8>) -> u8 {
    let above_lowest = priority.unwrap_or(0).clamp(-9, 9).saturating_add(9);
    LOWEST.saturating_sub(above_lowest.unsigned_abs())
}

/// All places of one identity from one level on.
fn levels(identity: &str, from: u8, to: u8) -> RangeInclusive<Key<'_>> {
    (identity, from, i64::MIN, 0)..=(identity, to, i64::MAX, u128::MAX)
}

/// When the first queued message of an identity is due.
pub(super) fn head(
    turns: &impl ReadableTable<Key<'static>, ()>,
    identity: &str,
) -> Result<Option<WallTime>, DiskFault> {
    let (mut level, mut least) = (HIGHEST, None);
    while let Some(row) = turns.range(levels(identity, level, LOWEST))?.next() {
        let place = Place::from_key(row?.0.value());
        least = Some(least.map_or(place.due, |least: WallTime| least.min(place.due)));
        level = place.level.saturating_add(1);
    }
    Ok(least)
}

/// Whose message this is, and where it stands, found by a look at each: for a message whose record can't be read. A second at a million.
pub(super) fn search(
    turns: &impl ReadableTable<Key<'static>, ()>,
    id: QueueId,
) -> Result<Option<(String, Place)>, DiskFault> {
    for row in turns.iter()? {
        let key = row?.0;
        let key = key.value();
        if key.3 == id.to_u128() {
            return Ok(Some((key.0.to_owned(), Place::from_key(key))));
        }
    }
    Ok(None)
}

/// The order, as one read transaction sees it.
pub(super) struct Index {
    turns: ReadOnlyTable<Key<'static>, ()>,
    heads: ReadOnlyTable<(i64, &'static str), ()>,
}

/// What an identity has to give.
enum Search {
    Found(Place),
    /// Nothing that is due and free; the next is due then.
    Nothing(Option<WallTime>),
}

/// Whose turn it is.
pub(super) enum Turn {
    Of(std::sync::Arc<str>, Place),
    /// Nobody's; the next head is due then.
    Nobodys(Option<WallTime>),
}

impl Index {
    pub(super) fn open(transaction: &ReadTransaction) -> Result<Self, DiskFault> {
        Ok(Self { turns: transaction.open_table(TURNS)?, heads: transaction.open_table(HEADS)? })
    }

    /// The next message that is due and free, of the identity whose turn it is among those with fewer than `limit` claims.
    pub(super) fn turn(&self, claims: &mut Claims, limit: usize, now: WallTime) -> Result<Turn, DiskFault> {
        loop {
            let next_head = self.bring(claims, now)?;
            let Some(identity) = claims.turns.next(limit) else {
                if claims.turns.next_round() {
                    continue;
                }
                return Ok(Turn::Nobodys(next_head));
            };
            match self.first(claims, &identity, now)? {
                Search::Found(place) => return Ok(Turn::Of(identity, place)),
                Search::Nothing(later) => claims.turns.nothing(&identity, later),
            }
        }
    }

    /// Brings in whose head has become due; says when the next will, when that is all there is to wait for.
    fn bring(&self, claims: &mut Claims, now: WallTime) -> Result<Option<WallTime>, DiskFault> {
        let behind = claims.turns.behind().map(|(at, identity)| (at.millis(), identity.to_owned()));
        let from = behind.as_ref().map_or(Bound::Unbounded, |(at, identity)| Bound::Excluded((*at, identity.as_str())));
        for row in self.heads.range::<(i64, &str)>((from, Bound::Unbounded))? {
            let key = row?.0;
            let (at, identity) = key.value();
            let at = WallTime::from_millis(at);
            if at > now {
                claims.turns.brought_all();
                return Ok(Some(at));
            }
            if !claims.turns.bring(at, identity) {
                return Ok(None);
            }
        }
        claims.turns.brought_all();
        Ok(None)
    }

    fn first(&self, claims: &mut Claims, identity: &str, now: WallTime) -> Result<Search, DiskFault> {
        let returned = claims.first_returned(identity, now);
        let (mut level, mut later) = (HIGHEST, None);
        while level <= LOWEST {
            let passed = claims.turns.passed(identity, level);
            let end = *levels(identity, level, LOWEST).end();
            let from = match passed {
                Some(place) => Bound::Excluded(place.key(identity)),
                None => Bound::Included(*levels(identity, level, LOWEST).start()),
            };
            let Some(row) = self.turns.range::<Key<'_>>((from, Bound::Included(end)))?.next() else { break };
            let place = Place::from_key(row?.0.value());
            if place.level > level && claims.turns.passed(identity, place.level).is_some() {
                // It may be one that was passed.
                level = place.level;
            } else if returned.is_some_and(|returned| returned < place) {
                break;
            } else if place.due > now {
                later = Some(later.map_or(place.due, |least: WallTime| least.min(place.due)));
                level = place.level.saturating_add(1);
            } else if claims.is_free(place.id) {
                return Ok(Search::Found(place));
            } else {
                level = place.level;
                claims.turns.pass(identity, place);
            }
        }
        Ok(returned.map_or(Search::Nothing(later), Search::Found))
    }

    /// All messages behind `after`, identity by identity.
    pub(super) fn round(
        &self,
        after: Option<&DuePlace>,
    ) -> Result<impl Iterator<Item = Result<DuePlace, DiskFault>> + use<>, DiskFault> {
        let from = after.map_or(Bound::Unbounded, |DuePlace(identity, place)| Bound::Excluded(place.key(identity)));
        let rows = self.turns.range::<Key<'_>>((from, Bound::Unbounded))?;
        Ok(rows.map(|row| {
            let key = row?.0;
            let key = key.value();
            Ok(DuePlace(key.0.to_owned(), Place::from_key(key)))
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nine_is_the_first_level_and_no_priority_is_zero() {
        for (priority, level) in [(Some(9), 0), (Some(1), 8), (Some(0), 9), (None, 9), (Some(-9), 18)] {
            assert_eq!(level_of(priority), level, "{priority:?}");
        }
        assert_eq!(level_of(None), ORDINARY);
        for level in HIGHEST..=LOWEST {
            assert_eq!(
                Place { level, ..Place::unreadable(QueueId::from_u128(1), State::Queued) }.state(),
                State::Queued
            );
        }
    }
}
