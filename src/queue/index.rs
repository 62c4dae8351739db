//! The order in which messages are given out, and the sums: in memory, made anew at each start from the rows of the store, and kept up with each
//! commit.
//!
//! ```text
//! an identity   its messages by (level, due time, id), how many and how large they are, when the first queued one is due
//! heads         (due time, identity): when the first queued message of each identity is due
//! ```
//!
//! | level    | what                                                                      |
//! |----------|---------------------------------------------------------------------------|
//! | 0 to 18  | queued, by priority (RFC 6710): 9 is level 0, none is 0 and so level 9     |
//! | 254, 255 | held, dead: nobody's turn; here so that each message's identity is known  |
//!
//! What is asked costs as many steps as the levels that the identity uses, and a few more for what is claimed: never one for each message.
//! A message takes some fifty octets of memory, whatever its size: `queue.count` bounds them. On the disk such an order would cost a page for each
//! message of a large queue (docs/decisions/0009). An identity that can't be told is `""`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::claims::Claims;
use super::record::{Record, State};
use super::store::{DuePlace, Tally, Totals};
use super::turns::Place;
use crate::mail::QueueId;
use crate::sys::WallTime;

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
}

fn level_of(priority: Option<i8>) -> u8 {
    let above_lowest = priority.unwrap_or(0).clamp(-9, 9).saturating_add(9);
    LOWEST.saturating_sub(above_lowest.unsigned_abs())
}

/// The first place of a level that there can be.
fn first_of(level: u8) -> Place {
    Place { level, due: WallTime::from_millis(i64::MIN), id: QueueId::from_u128(0) }
}

fn sum_of(place: Place) -> u64 {
    let mut octets = [0; 25];
    let parts = place.id.to_u128().to_le_bytes().into_iter().chain(place.due.millis().to_le_bytes());
    octets.iter_mut().zip(parts.chain([place.level])).for_each(|(octet, part)| *octet = part);
    xxh3_64(&octets)
}

/// A message came, went, or stands elsewhere now.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) identity: String,
    /// Where it stood.
    pub(super) left: Option<Place>,
    /// Where it stands.
    pub(super) came: Option<Place>,
    /// Octets of its body.
    pub(super) length: u64,
    /// Octets of its record, where it stood and where it stands.
    pub(super) records: (u64, u64),
}

/// What is kept of one identity's messages.
#[derive(Debug, Default)]
struct Own {
    turns: BTreeSet<Place>,
    tally: Tally,
    head: Option<WallTime>,
}

impl Own {
    /// When the first queued message is due.
    fn first_due(&self) -> Option<WallTime> {
        let (mut level, mut least) = (HIGHEST, None);
        while let Some(place) = self.turns.range(first_of(level)..first_of(LOWEST + 1)).next() {
            least = Some(least.map_or(place.due, |least: WallTime| least.min(place.due)));
            level = place.level.saturating_add(1);
        }
        least
    }
}

/// The order, as the last commit left it.
#[derive(Debug, Default)]
pub(super) struct Index {
    identities: BTreeMap<Arc<str>, Own>,
    heads: BTreeSet<(WallTime, Arc<str>)>,
    totals: Totals,
    /// Each message's place once, in any order.
    digest: u64,
}

/// The order of all messages at once, being drawn: very many that are put in one by one are looked up as often, and each tree ends half empty.
#[derive(Debug, Default)]
pub(super) struct Draft {
    identities: HashMap<String, (Vec<Place>, Tally)>,
    totals: Totals,
    digest: u64,
}

impl Draft {
    /// One message more; no other has its name.
    pub(super) fn note(&mut self, identity: String, place: Place, length: u64, record: u64) {
        let (places, tally) = self.identities.entry(identity).or_default();
        places.push(place);
        tally.add(length.saturating_add(record));
        self.totals.add(place.state(), length);
        self.totals.records = self.totals.records.saturating_add(record);
        self.digest ^= sum_of(place);
    }

    /// The order.
    pub(super) fn drawn(self) -> Index {
        let Self { identities, totals, digest } = self;
        let mut index = Index { totals, digest, ..Index::default() };
        for (identity, (places, tally)) in identities {
            let mut own = Own { turns: places.into_iter().collect(), tally, head: None };
            own.head = own.first_due();
            let identity = Arc::<str>::from(identity);
            index.heads.extend(own.head.map(|at| (at, Arc::clone(&identity))));
            index.identities.insert(identity, own);
        }
        index
    }
}

/// What an identity has to give.
enum Search {
    Found(Place),
    /// Nothing that is due and free; the next is due then.
    Nothing(Option<WallTime>),
}

/// Whose turn it is.
pub(super) enum Turn {
    Of(Arc<str>, Place),
    /// Nobody's; the next head is due then.
    Nobodys(Option<WallTime>),
}

impl Index {
    /// Takes a change over that is on stable storage.
    pub(super) fn change(&mut self, change: &Change) {
        let identity = match self.identities.get_key_value(change.identity.as_str()) {
            Some((known, _)) => Arc::clone(known),
            None => change.identity.as_str().into(),
        };
        let own = self.identities.entry(Arc::clone(&identity)).or_default();
        if let Some(place) = change.left.filter(|place| own.turns.remove(place)) {
            own.tally.subtract(change.length.saturating_add(change.records.0));
            self.totals.subtract(place.state(), change.length);
            self.digest ^= sum_of(place);
            self.totals.records = self.totals.records.saturating_sub(change.records.0);
        }
        if let Some(place) = change.came.filter(|place| own.turns.insert(*place)) {
            own.tally.add(change.length.saturating_add(change.records.1));
            self.totals.add(place.state(), change.length);
            self.digest ^= sum_of(place);
            self.totals.records = self.totals.records.saturating_add(change.records.1);
        }
        let before = own.head;
        // Only what left can have been the first; what came need only be held against it.
        let head = match (change.left, change.came) {
            (None, Some(place)) if place.state() == State::Queued => {
                Some(before.map_or(place.due, |before| before.min(place.due)))
            }
            (None, _) => before,
            (Some(_), _) => own.first_due(),
        };
        own.head = head;
        if own.turns.is_empty() {
            self.identities.remove(&identity);
        }
        if before != head {
            if let Some(at) = before {
                self.heads.remove(&(at, Arc::clone(&identity)));
            }
            if let Some(at) = head {
                self.heads.insert((at, identity));
            }
        }
    }

    /// What is kept, by state.
    pub(super) fn totals(&self) -> Totals {
        self.totals
    }

    /// What the places of all messages come to: another sum when one is missing, or stands elsewhere.
    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    /// What is kept of an identity's messages, bodies and records.
    pub(super) fn held_by(&self, identity: &str) -> Tally {
        self.identities.get(identity).map(|own| own.tally).unwrap_or_default()
    }

    /// The next message that is due and free, of the identity whose turn it is among those with fewer than `limit` claims.
    pub(super) fn turn(&self, claims: &mut Claims, limit: usize, now: WallTime) -> Turn {
        loop {
            let next_head = self.bring(claims, now);
            let Some(identity) = claims.turns.next(limit) else {
                if claims.turns.next_round() {
                    continue;
                }
                return Turn::Nobodys(next_head);
            };
            match self.first(claims, &identity, now) {
                Search::Found(place) => return Turn::Of(identity, place),
                Search::Nothing(later) => claims.turns.nothing(&identity, later),
            }
        }
    }

    /// Brings in whose head has become due; says when the next will, when that is all there is to wait for.
    fn bring(&self, claims: &mut Claims, now: WallTime) -> Option<WallTime> {
        let behind = claims.turns.behind().map(|(at, identity)| (at, Arc::from(identity)));
        let from = behind.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        for (at, identity) in self.heads.range::<(WallTime, Arc<str>), _>((from, Bound::Unbounded)) {
            if *at > now {
                claims.turns.brought_all();
                return Some(*at);
            }
            if !claims.turns.bring(*at, identity) {
                return None;
            }
        }
        claims.turns.brought_all();
        None
    }

    fn first(&self, claims: &mut Claims, identity: &str, now: WallTime) -> Search {
        let returned = claims.first_returned(identity, now);
        let Some(own) = self.identities.get(identity) else {
            return returned.map_or(Search::Nothing(None), Search::Found);
        };
        let (mut level, mut later) = (HIGHEST, None);
        while level <= LOWEST {
            let from = match claims.turns.passed(identity, level) {
                Some(place) => Bound::Excluded(place),
                None => Bound::Included(first_of(level)),
            };
            let to = Bound::Excluded(first_of(LOWEST + 1));
            let Some(&place) = own.turns.range((from, to)).next() else { break };
            if place.level > level && claims.turns.passed(identity, place.level).is_some() {
                // It may be one that was passed.
                level = place.level;
            } else if returned.is_some_and(|returned| returned < place) {
                break;
            } else if place.due > now {
                later = Some(later.map_or(place.due, |least: WallTime| least.min(place.due)));
                level = place.level.saturating_add(1);
            } else if claims.is_free(place.id) {
                return Search::Found(place);
            } else {
                level = place.level;
                claims.turns.pass(identity, place);
            }
        }
        returned.map_or(Search::Nothing(later), Search::Found)
    }

    /// All messages behind `after`, identity by identity.
    pub(super) fn round<'a>(&'a self, after: Option<&'a DuePlace>) -> impl Iterator<Item = (&'a Arc<str>, Place)> {
        let from = after.map_or(Bound::Unbounded, |DuePlace(identity, _)| Bound::Included(identity.as_str()));
        let identities = self.identities.range::<str, _>((from, Bound::Unbounded));
        identities.flat_map(move |(identity, own)| {
            let behind = after.filter(|DuePlace(whose, _)| **whose == **identity);
            let from = behind.map_or(Bound::Unbounded, |DuePlace(_, place)| Bound::Excluded(*place));
            own.turns.range((from, Bound::Unbounded)).map(move |place| (identity, *place))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sys::MonoTime;

    /// The store failed while it moved a message that was claimed, and was opened anew; the move was on the disk. Once nobody found such a message
    /// again before the next start, when it stood earlier than where it was claimed.
    #[test]
    fn what_the_store_moved_without_a_word_is_found_when_its_claim_has_run_out() {
        let (alice, seconds) = (Arc::from("alice"), WallTime::from_seconds);
        let place = |due| Place { level: ORDINARY, due: seconds(due), id: QueueId::from_u128(1) };
        let mono = |second| MonoTime::from_start(Duration::from_secs(second));
        let (mut index, mut claims) = (Index::default(), Claims::default());
        claims.take(&alice, place(20), mono(60));
        claims.begin_anew();
        index.change(&Change {
            identity: "alice".to_owned(),
            left: None,
            came: Some(place(5)),
            length: 1,
            records: (0, 1),
        });
        let mut turn = |second, now| {
            claims.tick(mono(second));
            claims.turns.tick(seconds(now));
            match index.turn(&mut claims, 10, seconds(now)) {
                Turn::Of(whose, place) => Some((whose, place)),
                Turn::Nobodys(_) => None,
            }
        };
        assert_eq!(turn(0, 10), None, "it is claimed");
        assert_eq!(turn(60, 11), Some((alice, place(5))));
    }

    #[test]
    fn an_order_that_is_drawn_at_once_is_the_one_that_came_one_by_one() {
        let (mut index, mut draft) = (Index::default(), Draft::default());
        for number in 0..200_u64 {
            let identity = ["alice", "bob", ""][usize::try_from(number % 3).unwrap()].to_owned();
            let level = [ORDINARY, HIGHEST, HELD, DEAD][usize::try_from(number / 7 % 4).unwrap()];
            let due = WallTime::from_seconds(i64::try_from(number * 37 % 101).unwrap());
            let place = Place { level, due, id: QueueId::from_u128(number.into()) };
            draft.note(identity.clone(), place, number, 10);
            index.change(&Change { identity, left: None, came: Some(place), length: number, records: (0, 10) });
        }
        let drawn = draft.drawn();
        assert_eq!((drawn.totals, drawn.digest, &drawn.heads), (index.totals, index.digest, &index.heads));
        assert_eq!(drawn.round(None).collect::<Vec<_>>(), index.round(None).collect::<Vec<_>>());
        for identity in ["alice", "bob", ""] {
            assert_eq!(drawn.held_by(identity), index.held_by(identity));
        }
        for number in 0..200 {
            let gone: Vec<_> = index.round(None).map(|(whose, place)| (Arc::clone(whose), place)).take(1).collect();
            let [(whose, place)] = gone.as_slice() else { panic!("{number} are gone too early") };
            let left =
                Change { identity: whose.to_string(), left: Some(*place), came: None, length: 0, records: (0, 0) };
            index.change(&left);
        }
        assert_eq!((index.digest, index.heads.len()), (0, 0));
    }

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
