//! Custody: proof that somebody durable has the message, without which nobody says 250.
//!
//! A [`Custody`] is made by the queue when a commit is on stable storage, or from an upstream's acceptance. It is never empty.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::smtp::reply::Reply;
use crate::sys::WallTime;

/// The name of a message in the queue: 128 bits, the first 48 the arrival in milliseconds, so that ids sort by time; the rest random, so
/// that they are unique over nodes. Written as 26 letters and digits (Crockford's base 32, lower case).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct QueueId(u128);

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const TEXT_LENGTH: usize = 26;
/// What stands for each octet; [`NO_DIGIT`] for those that stand for none. A listing of very many writes and reads as many names.
const DIGITS: [u8; 256] = digits();
const NO_DIGIT: u8 = 0xff;

#[expect(
    clippy::indexing_slicing,
    clippy::as_conversions,
    reason = "made by the compiler, which would not compile what is out of range"
)]
const fn digits() -> [u8; 256] {
    let mut digits = [NO_DIGIT; 256];
    let mut digit = 0;
    while digit < ALPHABET.len() {
        let letter = ALPHABET[digit];
        digits[letter as usize] = digit as u8;
        digits[letter.to_ascii_uppercase() as usize] = digit as u8;
        digit += 1;
    }
    digits
}

impl QueueId {
    /// An id for a message that arrived at `at`; `random` gives the low 80 bits.
    pub fn new(at: WallTime, random: u128) -> Self {
        let millis = u128::from(u64::try_from(at.millis()).unwrap_or(0)) & 0xffff_ffff_ffff;
        Self((millis << 80) | (random & ((1 << 80) - 1)))
    }

    /// When the message arrived, as far as its id tells: to the millisecond, by the clock of the machine that took it.
    pub fn arrived(self) -> WallTime {
        WallTime::from_millis(i64::try_from(self.0 >> 80).unwrap_or(0))
    }

    /// The id as a number, for keys that sort.
    pub fn to_u128(self) -> u128 {
        self.0
    }

    /// The id that a stored number stands for.
    pub const fn from_u128(number: u128) -> Self {
        Self(number)
    }
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [b'0'; TEXT_LENGTH];
        for (letter, place) in text.iter_mut().zip((0..TEXT_LENGTH).rev()) {
            let digit = usize::try_from((self.0 >> (place * 5)) & 31).unwrap_or(0);
            *letter = ALPHABET.get(digit).copied().unwrap_or(b'0');
        }
        f.write_str(str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is no queue id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a queue id: it has {TEXT_LENGTH} of the characters 0-9 a-z without i, l, o, u")]
pub struct NotAQueueId;

impl FromStr for QueueId {
    type Err = NotAQueueId;

    fn from_str(text: &str) -> Result<Self, NotAQueueId> {
        if text.len() != TEXT_LENGTH {
            return Err(NotAQueueId);
        }
        let mut number: u128 = 0;
        for (place, letter) in text.bytes().enumerate() {
            let digit = DIGITS.get(usize::from(letter)).copied().unwrap_or(NO_DIGIT);
            // 26 digits of 5 bits are 130: the first digit holds 3 bits only.
            if digit == NO_DIGIT || (place == 0 && digit > 7) {
                return Err(NotAQueueId);
            }
            number = (number << 5) | u128::from(digit);
        }
        Ok(Self(number))
    }
}

/// Who has a recipient's copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keeper {
    /// An upstream accepted it, with this reply.
    Relayed(Reply),
    /// Our queue has it on stable storage under this id.
    Spooled(QueueId),
}

/// Proof, per recipient, that someone durable has the message.
#[derive(Clone, Debug)]
pub struct Custody {
    id: QueueId,
    keepers: Vec<Keeper>,
}

impl Custody {
    /// The whole message is in our queue. Made by the queue, after its sync.
    pub(crate) fn spooled(id: QueueId, recipients: usize) -> Self {
        Self { id, keepers: vec![Keeper::Spooled(id); recipients.max(1)] }
    }

    /// The upstream has the whole message, and said this. Made from its reply to the end of the message, and nothing else.
    pub fn with_upstream(id: QueueId, recipients: usize, reply: &Reply) -> Self {
        Self { id, keepers: vec![Keeper::Relayed(reply.clone()); recipients.max(1)] }
    }

    /// What the upstream said, when it has the message for everybody.
    pub fn relayed(&self) -> Option<&Reply> {
        let mut replies = self.keepers.iter().map(|keeper| match keeper {
            Keeper::Relayed(reply) => Some(reply),
            Keeper::Spooled(_) => None,
        });
        let first = replies.next()??;
        replies.all(|other| other.is_some()).then_some(first)
    }

    /// The id under which the log and the queue know the message.
    pub fn id(&self) -> QueueId {
        self.id
    }

    /// Who has it, in the order of the envelope's recipients.
    pub fn keepers(&self) -> &[Keeper] {
        &self.keepers
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_queue_id_reads_back_from_its_text(number: u128) {
            let id = QueueId::from_u128(number);
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }

        #[test]
        fn queue_ids_sort_by_arrival(early in 0..1_i64 << 47, gap in 1..1_i64 << 20, low: u128, high: u128) {
            let first = QueueId::new(WallTime::from_millis(early), low);
            let second = QueueId::new(WallTime::from_millis(early + gap), high);
            prop_assert!(first < second);
            prop_assert!(first.to_string() < second.to_string());
            prop_assert_eq!((first.arrived(), QueueId::from_u128(first.to_u128())), (WallTime::from_millis(early), first));
        }
    }

    #[test]
    fn a_text_beyond_128_bits_is_no_queue_id() {
        assert_eq!("80000000000000000000000000".parse::<QueueId>(), Err(NotAQueueId));
        assert_eq!("zzz".parse::<QueueId>(), Err(NotAQueueId));
    }

    #[test]
    fn each_recipient_has_a_keeper_and_an_upstream_is_named_with_its_words() {
        let id = QueueId::from_u128(7);
        let reply = Reply::new(crate::smtp::Code::known(250), None, "taken");
        let spooled = Custody::spooled(id, 2);
        assert_eq!(
            (spooled.id(), spooled.keepers(), spooled.relayed()),
            (id, &[Keeper::Spooled(id), Keeper::Spooled(id)][..], None)
        );
        let relayed = Custody::with_upstream(id, 1, &reply);
        assert_eq!((relayed.keepers(), relayed.relayed()), (&[Keeper::Relayed(reply.clone())][..], Some(&reply)));
        // Custody of nobody's copy is none.
        assert_eq!(Custody::spooled(id, 0).keepers().len(), 1);
    }
}
