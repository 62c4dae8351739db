//! The recipients of a transaction that is open, packed: a session may have a thousand, and most of the time they only wait.
//!
//! Each is written behind the one before it, so that a short address takes some thirty octets where the value takes some two hundred. The pages are
//! all of one size, so that what one session gives back another uses. The first page grows as it is filled, up to [`FREE`] octets; of those that follow each is [`PAGE`] octets
//! from the beginning, and [`Recipients::held`] counts them: it says what is really there.
//!
//! Never: leaves one out; who can't be read again makes the whole unreadable. Writing and reading back fail only by a defect of ours.

use super::envelope::Recipient;

/// What every transaction may hold of them, uncounted, octets.
pub const FREE: usize = 4 * 1024;

/// The pieces in which more is held, octets.
pub const PAGE: usize = 16 * 1024;

/// The longest that one takes, octets: its whole command line (RFC 5321 §4.5.3.1.4, with what RFC 3461 §4 and others add to it).
const LONGEST: usize = 1280;

/// The recipients of a transaction, in the order of their RCPT.
#[derive(Clone, Debug, Default)]
pub struct Recipients {
    pages: Vec<Vec<u8>>,
    count: usize,
}

impl Recipients {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Octets of memory that they hold, besides the first [`FREE`].
    pub fn held(&self) -> u64 {
        octets(self.pages.iter().skip(1).map(Vec::capacity).sum())
    }

    /// The same with one more, however long it is.
    pub fn held_with_another(&self) -> u64 {
        let more = if self.left() < LONGEST { PAGE } else { 0 };
        self.held().saturating_add(octets(more))
    }

    /// What the page that is being filled still takes.
    fn left(&self) -> usize {
        let size = if self.pages.len() > 1 { PAGE } else { FREE };
        size.saturating_sub(self.pages.last().map_or(0, Vec::len))
    }

    /// One more.
    ///
    /// # Errors
    ///
    /// It could not be written: a defect of ours. Nothing has changed.
    pub fn push(&mut self, recipient: &Recipient) -> Result<(), postcard::Error> {
        let record = postcard::to_stdvec(recipient)?;
        let fits = record.len() <= self.left();
        match self.pages.last_mut().filter(|_| fits) {
            Some(page) => {
                let all = page.len().saturating_add(record.len());
                if all > page.capacity() {
                    // Only the first page grows, and not beyond its size.
                    let capacity = page.capacity().saturating_mul(2).min(FREE).max(all);
                    page.reserve_exact(capacity.saturating_sub(page.len()));
                }
                page.extend_from_slice(&record);
            }
            None => {
                let size = if self.pages.is_empty() { record.len() } else { PAGE.max(record.len()) };
                let mut page = Vec::with_capacity(size);
                page.extend_from_slice(&record);
                self.pages.push(page);
            }
        }
        self.count = self.count.saturating_add(1);
        Ok(())
    }

    /// All of them; `None` when they can't be read back: a defect of ours.
    pub fn unpacked(&self) -> Option<Vec<Recipient>> {
        let mut all = Vec::with_capacity(self.count);
        for page in &self.pages {
            let mut rest = page.as_slice();
            while !rest.is_empty() {
                let (recipient, behind) = postcard::take_from_bytes(rest).ok()?;
                all.push(recipient);
                rest = behind;
            }
        }
        (all.len() == self.count).then_some(all)
    }
}

fn octets(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{Address, ForwardPath, Notify, OriginalRecipient, RecipientParameters};

    fn to(address: &str, original: Option<usize>) -> Recipient {
        let orcpt =
            original.map(|length| OriginalRecipient { address_type: "rfc822".to_owned(), address: "x".repeat(length) });
        let notify = original.map(|_| Notify::NEVER);
        let forward_path = ForwardPath::Address(Address::parse(address).unwrap());
        Recipient { forward_path, parameters: RecipientParameters { notify, orcpt } }
    }

    fn longest() -> Recipient {
        let labels = ["d".repeat(60), "e".repeat(60), "f".repeat(60), "net".to_owned()].join(".");
        to(&format!("{}@{labels}", "l".repeat(64)), Some(493))
    }

    #[test]
    fn the_first_page_grows_to_its_size_and_not_beyond() {
        let mut packed = Recipients::default();
        while packed.pages.len() < 2 {
            packed.push(&to("bob@example.net", None)).unwrap();
            let first = packed.pages.first().unwrap();
            assert!(first.capacity() <= FREE && first.capacity() <= 2 * first.len().max(64), "{}", first.capacity());
        }
    }

    #[test]
    fn another_page_is_asked_for_when_the_longest_may_not_fit() {
        let mut packed = Recipients::default();
        while packed.left() > LONGEST {
            assert_eq!(packed.held_with_another(), packed.held());
            packed.push(&to("bob@example.net", None)).unwrap();
        }
        let page = packed.pages.last_mut().unwrap();
        page.resize(FREE - LONGEST, 0);
        assert_eq!(packed.held_with_another(), packed.held(), "just enough is left");
        packed.pages.last_mut().unwrap().push(0);
        assert_eq!(packed.held_with_another(), packed.held() + octets(PAGE));
    }

    #[test]
    fn what_was_packed_comes_out_as_it_went_in() {
        let postmaster =
            Recipient { forward_path: ForwardPath::Postmaster, parameters: RecipientParameters::default() };
        let kinds = [to("bob@example.net", None), longest(), postmaster, to("jörg@müller.example", Some(3))];
        let (mut packed, mut all) = (Recipients::default(), Vec::new());
        assert_eq!(packed.unpacked(), Some(Vec::new()));
        for one in kinds.iter().cycle().take(1000) {
            packed.push(one).unwrap();
            all.push(one.clone());
        }
        assert_eq!((packed.len(), packed.unpacked()), (1000, Some(all)));
        packed.pages[1][3] ^= 0xff;
        assert_eq!(packed.unpacked(), None, "none is left out in silence");
    }

    /// Whoever was granted `held_with_another` before has enough.
    #[test]
    fn what_they_hold_is_counted_and_said_before() {
        let short = || to("bob@example.net", None);
        // The third grows the first page by steps that are none of doubling.
        for (kinds, most) in [(vec![short()], 25_000), (vec![longest()], 860_000), (vec![short(), longest()], 450_000)]
        {
            let mut packed = Recipients::default();
            for one in kinds.iter().cycle().take(1000) {
                let said = packed.held_with_another();
                packed.push(one).unwrap();
                let really: usize = packed.pages.iter().map(Vec::capacity).sum();
                assert!(packed.held() <= said && octets(really) <= packed.held() + octets(FREE), "{packed:?}");
            }
            assert!(packed.held() <= most, "{}", packed.held());
        }
        let mut few = Recipients::default();
        few.push(&short()).unwrap();
        assert!(few.pages[0].capacity() < 64 && few.held_with_another() == 0);
        // Four fill what four take.
        for _ in 0..3 {
            few.push(&short()).unwrap();
        }
        assert_eq!(few.pages[0].capacity(), few.pages[0].len());
    }
}
