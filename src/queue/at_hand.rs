//! What was kept a moment ago, in memory until its first attempt: most mail leaves at once, and need not be read from the disk for that. And the octets of what
//! was read a moment ago for who is to send it: they were read with its record.
//!
//! A message is put here when it is on stable storage and due, and not before. It is forgotten when its record changes, when newer ones need the room, and when the
//! store is opened again; who claims it takes it out. So what is here is what the disk has, and what is not here is read there.
//!
//! Never: is what custody rests on; holds more than it may; waits for anything but a short lock.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::record::Record;
use crate::mail::QueueId;

/// Octets of a record besides its envelope, about.
const OF_A_RECORD: u64 = 2048;

/// Messages at hand, no more of them than fit into so many octets, those that are being tried among them; and what was read, no more than as many again.
#[derive(Debug)]
pub(super) struct AtHand {
    kept: Arc<Mutex<Kept>>,
    most: u64,
}

#[derive(Debug, Default)]
struct Kept {
    /// By name and so by age.
    messages: BTreeMap<QueueId, Message>,
    octets: u64,
    /// Those of them that are being tried: of these nothing is had back before their attempt is over.
    tried: u64,
    /// What was read for who has claimed it, and was not asked for yet.
    read: BTreeMap<QueueId, (Bytes, u64)>,
    /// The octets of all that was read, of what is being tried too. They keep no room from what has just come: a slow upstream has hundreds of them.
    of_read: u64,
}

#[derive(Debug)]
struct Message {
    /// None when somebody has it already.
    record: Option<Box<Record>>,
    body: Bytes,
    octets: u64,
}

/// Against what the octets of a message that is being tried count.
#[derive(Clone, Copy, Debug)]
enum Origin {
    Kept,
    Read,
}

/// The octets of a message that is being tried. Dropped, their room is free.
#[derive(Debug)]
pub struct BodyAtHand {
    octets: Bytes,
    room: u64,
    origin: Origin,
    kept: Arc<Mutex<Kept>>,
}

impl AtHand {
    pub(super) fn new(most: u64) -> Self {
        Self { kept: Arc::default(), most }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        locked(&self.kept)
    }

    /// Keeps a message that is on stable storage; the oldest go where there is no room for it.
    pub(super) fn put(&self, record: Record, body: Vec<u8>) {
        let id = record.id;
        let octets = held(&body).saturating_add(record.envelope.octets()).saturating_add(OF_A_RECORD);
        let mut kept = self.kept();
        kept.forget(id);
        // Nobody goes for one that does not fit all the same.
        if kept.tried.saturating_add(octets) > self.most {
            return;
        }
        while kept.octets.saturating_add(octets) > self.most {
            let Some((_, oldest)) = kept.messages.pop_first() else { return };
            kept.octets = kept.octets.saturating_sub(oldest.octets);
        }
        kept.octets = kept.octets.saturating_add(octets);
        kept.messages.insert(id, Message { record: Some(Box::new(record)), body: Bytes::from(body), octets });
    }

    /// Keeps the octets of a message for who has claimed it and has its record. Where there is no room they are read anew.
    pub(super) fn put_body(&self, id: QueueId, body: Vec<u8>) {
        let octets = held(&body);
        let mut kept = self.kept();
        kept.forget(id);
        if kept.of_read.saturating_add(octets) > self.most {
            return;
        }
        kept.of_read = kept.of_read.saturating_add(octets);
        kept.read.insert(id, (Bytes::from(body), octets));
    }

    /// The record of a message, for who has claimed it.
    pub(super) fn take_record(&self, id: QueueId) -> Option<Box<Record>> {
        self.kept().messages.get_mut(&id)?.record.take()
    }

    /// The octets of a message, for who has claimed it.
    pub(super) fn take_body(&self, id: QueueId) -> Option<BodyAtHand> {
        let mut kept = self.kept();
        let (octets, room, origin) = match kept.messages.remove(&id) {
            Some(Message { body, octets, .. }) => {
                kept.tried = kept.tried.saturating_add(octets);
                (body, octets, Origin::Kept)
            }
            None => kept.read.remove(&id).map(|(body, octets)| (body, octets, Origin::Read))?,
        };
        Some(BodyAtHand { octets, room, origin, kept: Arc::clone(&self.kept) })
    }

    /// The message has changed, or is no more.
    pub(super) fn forget(&self, id: QueueId) {
        self.kept().forget(id);
    }

    /// Nobody knows any more what the disk has.
    pub(super) fn clear(&self) {
        let mut kept = self.kept();
        kept.messages.clear();
        kept.octets = kept.tried;
        let unasked: u64 = std::mem::take(&mut kept.read).into_values().map(|(_, octets)| octets).sum();
        kept.of_read = kept.of_read.saturating_sub(unasked);
    }
}

impl Kept {
    fn forget(&mut self, id: QueueId) {
        if let Some(message) = self.messages.remove(&id) {
            self.octets = self.octets.saturating_sub(message.octets);
        }
        if let Some((_, octets)) = self.read.remove(&id) {
            self.of_read = self.of_read.saturating_sub(octets);
        }
    }
}

impl BodyAtHand {
    /// All of them.
    pub(super) fn octets(&self) -> Bytes {
        self.octets.clone()
    }
}

impl Drop for BodyAtHand {
    fn drop(&mut self) {
        let mut kept = locked(&self.kept);
        match self.origin {
            Origin::Kept => {
                kept.octets = kept.octets.saturating_sub(self.room);
                kept.tried = kept.tried.saturating_sub(self.room);
            }
            Origin::Read => kept.of_read = kept.of_read.saturating_sub(self.room),
        }
    }
}

fn held(body: &Vec<u8>) -> u64 {
    u64::try_from(body.capacity()).unwrap_or(u64::MAX)
}

fn locked(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::record::samples;
    use crate::sys::WallTime;

    fn record(number: u128) -> Record {
        Record::new(QueueId::from_u128(number), samples::deposit(WallTime::from_seconds(1)), 3, 0)
    }

    fn id(number: u128) -> QueueId {
        QueueId::from_u128(number)
    }

    #[test]
    fn the_oldest_go_where_there_is_no_room_and_what_is_tried_keeps_its_own() {
        let of_one = record(1).envelope.octets() + OF_A_RECORD + 3;
        let at_hand = AtHand::new(3 * of_one);
        (1..=3).for_each(|number| at_hand.put(record(number), b"abc".to_vec()));
        let body = at_hand.take_body(id(2)).unwrap();
        assert_eq!(body.octets().as_ref(), b"abc");
        at_hand.put(record(4), b"abc".to_vec());
        assert!(at_hand.take_record(id(1)).is_none(), "the oldest has gone");
        assert!(at_hand.take_record(id(3)).is_some() && at_hand.take_record(id(4)).is_some());
        assert_eq!(at_hand.kept().octets, 3 * of_one, "with the one that is tried");
        drop(body);
        at_hand.put(record(5), vec![0; 3 * usize::try_from(of_one).unwrap()]);
        assert!(at_hand.take_body(id(5)).is_none(), "it is too large");
        assert_eq!(at_hand.take_body(id(3)).unwrap().octets().as_ref(), b"abc", "and has driven nobody out");
        at_hand.put(record(6), b"abc".to_vec());
        at_hand.forget(id(6));
        at_hand.clear();
        assert_eq!(at_hand.kept().octets, 0);
    }

    #[test]
    fn nobody_goes_for_one_that_does_not_fit_beside_what_is_tried() {
        let of_one = record(1).envelope.octets() + OF_A_RECORD + 3;
        let at_hand = AtHand::new(4 * of_one);
        (1..=4).for_each(|number| at_hand.put(record(number), b"abc".to_vec()));
        let tried = [1, 2].map(|number| at_hand.take_body(id(number)).unwrap());
        at_hand.put(record(5), vec![0; 3 + 2 * usize::try_from(of_one).unwrap()]);
        assert!(at_hand.take_record(id(5)).is_none(), "it does not fit");
        assert!([3, 4].iter().all(|&number| at_hand.take_record(id(number)).is_some()), "and has driven nobody out");
        at_hand.put(record(6), vec![0; 3 + usize::try_from(of_one).unwrap()]);
        assert!(at_hand.take_record(id(6)).is_some(), "it fits in the place of both");
        drop(tried);
        let kept = at_hand.kept();
        assert_eq!((kept.octets, kept.tried), (2 * of_one, 0));
    }

    #[test]
    fn what_was_read_keeps_no_room_from_what_has_just_come_and_has_a_limit_of_its_own() {
        let of_one = record(1).envelope.octets() + OF_A_RECORD + 3;
        let at_hand = AtHand::new(of_one);
        let half = vec![0; usize::try_from(of_one / 2).unwrap()];
        (1..=3).for_each(|number| at_hand.put_body(id(number), half.clone()));
        assert!(at_hand.take_body(id(3)).is_none(), "it does not fit");
        let tried = [1, 2].map(|number| at_hand.take_body(id(number)).unwrap());
        at_hand.put(record(4), b"abc".to_vec());
        assert!(at_hand.take_record(id(4)).is_some(), "what is tried keeps nobody out");
        at_hand.put_body(id(5), half.clone());
        assert!(at_hand.take_body(id(5)).is_none(), "nor does it go while it is tried");
        drop(tried);
        at_hand.put_body(id(6), half.clone());
        at_hand.put_body(id(6), half.clone());
        at_hand.put_body(id(7), half);
        at_hand.forget(id(6));
        assert_eq!(at_hand.kept().of_read, of_one / 2);
        at_hand.clear();
        let kept = at_hand.kept();
        assert_eq!((kept.of_read, kept.octets), (0, 0));
    }

    #[test]
    fn a_record_is_given_once_and_its_body_after_it() {
        let at_hand = AtHand::new(1 << 20);
        at_hand.put(record(1), b"abc".to_vec());
        assert_eq!(at_hand.take_record(id(1)).map(|record| record.id), Some(id(1)));
        assert!(at_hand.take_record(id(1)).is_none());
        assert!(at_hand.take_body(id(1)).is_some());
        assert!(at_hand.take_body(id(1)).is_none());
    }
}
