//! What OCSP responders have answered, as far as it is kept: what counts now, and what was last said of a certificate.
//!
//! That a certificate is revoked outlives the answer that says so: whoever then keeps the responder from being asked must not be let in for it
//! under `if-available`. It holds until the certificate ends, or until a newer answer takes it back (a certificate on hold may become good again,
//! RFC 5280 §5.3.1); of one second the one that says revoked is the newer, and that a responder does not know it takes nothing back. An answer
//! that is older than one that was seen and says otherwise does not count: somebody replays it, or a mirror lags.
//!
//! Pure. Never: grows beyond [`ANSWERS_MAX`] and [`SEEN_MAX`]; lasts beyond a restart (`kept` has what must).

use std::collections::HashMap;

use crate::identity::Digest256;
use crate::sys::WallTime;
use crate::tls::ocsp::{CertificateStatus, Known, Query, Reading};

/// Answers that are kept.
const ANSWERS_MAX: usize = 10_000;
/// Certificates of which is kept what was said last.
const SEEN_MAX: usize = 50_000;

/// An answer that was overtaken by one seen before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it (of {}) takes nothing back of an answer seen before (of {}) that says otherwise", .of.rfc3339(), .seen.rfc3339())]
pub(super) struct Overtaken {
    of: WallTime,
    seen: WallTime,
}

/// What was said last of a certificate.
#[derive(Clone, Copy, Debug)]
struct Seen {
    status: CertificateStatus,
    of: WallTime,
    /// When the certificate ends.
    ends: WallTime,
}

impl Seen {
    /// Whether this stands against an answer that was given then.
    fn outlasts(&self, status: CertificateStatus, of: WallTime) -> bool {
        let was_revoked = self.status == CertificateStatus::Revoked && status != CertificateStatus::Revoked;
        self.of > of || (was_revoked && (self.of == of || status == CertificateStatus::Unknown))
    }
}

/// Both, by the question's key.
#[derive(Debug, Default)]
pub(super) struct Answers {
    known: HashMap<Digest256, Known>,
    seen: HashMap<Digest256, Seen>,
}

impl Answers {
    /// The answer at hand that counts now.
    pub(super) fn known(&self, key: Digest256, now: WallTime) -> Option<Known> {
        self.known.get(&key).copied().filter(|known| now < known.until())
    }

    /// What is to be said where nobody answers, until then: revoked, if that was said last.
    pub(super) fn without_answer(&self, key: Digest256, until: WallTime) -> Known {
        match self.seen.get(&key) {
            Some(Seen { status: CertificateStatus::Revoked, .. }) => Known::Answer(CertificateStatus::Revoked, until),
            Some(_) | None => Known::Unavailable(until),
        }
    }

    /// Whether anything is remembered of what was said.
    pub(super) fn remembers(&self, key: Digest256) -> bool {
        self.seen.contains_key(&key)
    }

    /// Remembers what was said before a restart, unless something is remembered already.
    pub(super) fn recall(&mut self, query: &Query, reading: Reading, now: WallTime) {
        let key = query.key();
        if !self.remembers(key) {
            if let (CertificateStatus::Revoked, Some(&Known::Unavailable(until))) =
                (reading.status, self.known.get(&key))
            {
                // It was read so late that the responder was asked before, in vain.
                self.known.insert(key, Known::Answer(reading.status, until));
            }
            self.remember(key, Seen { status: reading.status, of: reading.of, ends: query.ends() }, now);
        }
    }

    /// Keeps a verified answer.
    pub(super) fn take(&mut self, query: &Query, reading: Reading, now: WallTime) -> Result<(), Overtaken> {
        self.take_of(query.key(), query.ends(), reading, now)
    }

    fn take_of(&mut self, key: Digest256, ends: WallTime, reading: Reading, now: WallTime) -> Result<(), Overtaken> {
        let Reading { status, of, until } = reading;
        let earlier = self.seen.get(&key).copied().filter(|seen| seen.outlasts(status, of));
        if let Some(seen) = earlier {
            if seen.status != status {
                return Err(Overtaken { of, seen: seen.of });
            }
        } else {
            self.remember(key, Seen { status, of, ends }, now);
        }
        self.keep(key, Known::Answer(status, until), now);
        Ok(())
    }

    /// Keeps what counts for a while.
    pub(super) fn keep(&mut self, key: Digest256, known: Known, now: WallTime) {
        let is_full = |known: &HashMap<Digest256, Known>| known.len() >= ANSWERS_MAX && !known.contains_key(&key);
        if is_full(&self.known) {
            self.known.retain(|_, known| now < known.until());
        }
        if is_full(&self.known) {
            // All of them count still: the one that ends first is asked for again.
            let first = self.known.iter().min_by_key(|(_, known)| known.until()).map(|(key, _)| *key);
            first.map(|first| self.known.remove(&first));
        }
        self.known.insert(key, known);
    }

    fn remember(&mut self, key: Digest256, seen: Seen, now: WallTime) {
        if self.seen.len() >= SEEN_MAX && !self.seen.contains_key(&key) {
            self.seen.retain(|_, seen| now < seen.ends);
        }
        if self.seen.len() >= SEEN_MAX && !self.seen.contains_key(&key) {
            // What is not revoked goes before what is, and what was said long ago before what is new.
            let order = |seen: &Seen| (seen.status == CertificateStatus::Revoked, seen.of);
            let first = self.seen.iter().min_by_key(|(_, seen)| order(seen)).map(|(key, _)| *key);
            first.map(|first| self.seen.remove(&first));
        }
        self.seen.insert(key, seen);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: i64) -> WallTime {
        WallTime::from_seconds(seconds)
    }

    fn said(status: CertificateStatus, of: i64) -> Reading {
        Reading { status, of: at(of), until: at(of + 3600) }
    }

    #[test]
    fn revoked_outlives_its_answer_until_a_newer_one_takes_it_back() {
        use CertificateStatus::{Good, Revoked};
        let (key, ends) = (Digest256::of(b"alice"), at(1_000_000));
        let mut answers = Answers::default();
        let take =
            |answers: &mut Answers, status, of, now| answers.take_of(key, ends, said(status, of), at(now)).is_ok();
        // Never asked: nothing is known.
        assert_eq!(answers.without_answer(key, at(30)), Known::Unavailable(at(30)));
        assert!(take(&mut answers, Good, 100, 100));
        assert_eq!(answers.without_answer(key, at(4000)), Known::Unavailable(at(4000)));
        assert!(take(&mut answers, Revoked, 200, 200));
        assert_eq!(answers.known(key, at(300)), Some(Known::Answer(Revoked, at(3800))));
        // The answer has run out, and nobody answers.
        assert_eq!(answers.known(key, at(3800)), None);
        assert_eq!(answers.without_answer(key, at(4000)), Known::Answer(Revoked, at(4000)));
        // The good answer of before comes again; it counts still by its own dates.
        assert!(!take(&mut answers, Good, 100, 3900));
        assert_eq!(answers.without_answer(key, at(4000)), Known::Answer(Revoked, at(4000)));
        // A newer one: it was on hold.
        assert!(take(&mut answers, Good, 4000, 4000));
        assert_eq!(answers.without_answer(key, at(9000)), Known::Unavailable(at(9000)));
        // Of one moment: revoked counts, whichever comes first.
        assert!(take(&mut answers, Revoked, 4000, 4000) && !take(&mut answers, Good, 4000, 4000));
        assert_eq!(answers.without_answer(key, at(9000)), Known::Answer(Revoked, at(9000)));
        assert!(take(&mut answers, Good, 4001, 4001));
        // An older one of the same kind is no contradiction (two responders that are not in step), and does not turn time back.
        assert!(take(&mut answers, Good, 3000, 4000) && !take(&mut answers, Revoked, 3500, 4000));
    }

    #[test]
    fn revoked_is_taken_back_by_a_newer_good_alone() {
        use CertificateStatus::{Good, Revoked, Unknown};
        let (key, ends) = (Digest256::of(b"alice"), at(1_000_000));
        let mut answers = Answers::default();
        answers.take_of(key, ends, said(Revoked, 200), at(200)).unwrap();
        let is_revoked = |answers: &Answers| answers.without_answer(key, at(9000)) == Known::Answer(Revoked, at(9000));
        // Of the same second: which was later nobody knows.
        assert!(answers.take_of(key, ends, said(Good, 200), at(201)).is_err() && is_revoked(&answers));
        // Another responder, or one that has lost its memory, does not know it: that takes nothing back.
        assert!(answers.take_of(key, ends, said(Unknown, 300), at(300)).is_err() && is_revoked(&answers));
        assert!(answers.take_of(key, ends, said(Good, 301), at(301)).is_ok() && !is_revoked(&answers));
        // And revoked wins within a second.
        assert!(answers.take_of(key, ends, said(Revoked, 301), at(302)).is_ok() && is_revoked(&answers));
    }

    #[test]
    fn tables_are_bounded_and_who_is_revoked_stays_longest() {
        let mut answers = Answers::default();
        let key = |number: usize| Digest256::of(&number.to_be_bytes());
        let (now, ends) = (at(100), at(100).after(Duration::from_secs(86_400)));
        answers.take_of(key(0), ends, said(CertificateStatus::Revoked, 1), now).unwrap();
        for number in 1..SEEN_MAX {
            answers.seen.insert(key(number), Seen { status: CertificateStatus::Good, of: at(50), ends });
        }
        answers.take_of(key(SEEN_MAX), ends, said(CertificateStatus::Good, 60), now).unwrap();
        assert_eq!(answers.seen.len(), SEEN_MAX);
        assert_eq!(answers.without_answer(key(0), now), Known::Answer(CertificateStatus::Revoked, now));
        // Of two that are not revoked, what was said long ago goes; what is there already takes nobody's place.
        assert!(answers.seen.contains_key(&key(SEEN_MAX)));
        let earliest = || Seen { status: CertificateStatus::Good, of: at(40), ends };
        let place = key(2);
        answers.seen.insert(place, earliest());
        answers.take_of(key(SEEN_MAX), ends, said(CertificateStatus::Good, 70), now).unwrap();
        assert!(answers.seen.len() == SEEN_MAX && answers.seen.contains_key(&place));
        answers.take_of(key(SEEN_MAX + 1), ends, said(CertificateStatus::Good, 70), now).unwrap();
        assert!(answers.seen.len() == SEEN_MAX && !answers.seen.contains_key(&place));
        // When certificates have ended, only they go, revoked or not.
        answers.seen.values_mut().take(10).for_each(|seen| seen.ends = now);
        answers.take_of(key(SEEN_MAX + 2), ends, said(CertificateStatus::Good, 70), now).unwrap();
        assert_eq!(answers.seen.len(), SEEN_MAX - 9);

        let mut answers = Answers::default();
        for number in 0..ANSWERS_MAX {
            answers.keep(key(number), Known::Unavailable(at(if number == 5 { 150 } else { 200 })), now);
        }
        answers.keep(key(7), Known::Unavailable(at(201)), now);
        assert!(answers.known.len() == ANSWERS_MAX && answers.known.contains_key(&key(5)), "its own place");
        answers.keep(key(ANSWERS_MAX), Known::Unavailable(at(200)), now);
        assert!(answers.known.len() == ANSWERS_MAX && !answers.known.contains_key(&key(5)), "the first to end");
        answers.keep(key(ANSWERS_MAX + 1), Known::Unavailable(at(300)), at(200));
        assert_eq!(answers.known.len(), 2, "what has ended goes first");
    }
}
