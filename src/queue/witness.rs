//! What testifies that a commit was on stable storage, so that a later start can tell damage from a crash.
//!
//! After a kill or a power cut redb looks whether the pages of its last commit are what the head of its file says, and where one is not, the commit before counts.
//! Of a commit that was cut off in its middle that is right: nobody was told of it. Of one that was answered 250, and a page of which has rotted since, it is a loss,
//! and `store.redb` looks the same. So behind each commit, when its sync has returned and before anybody is answered, it is written down what that head was, and what
//! all rows came to.
//!
//! | at a start the head is    | the rows come to | it was                                                                         |
//! |---------------------------|------------------|--------------------------------------------------------------------------------|
//! | another                   | whatever         | a commit that was cut off, or a close behind the last one: nothing can be told |
//! | as it was written down    | the same         | a kill or a power cut between two commits; or the loss of one that moved       |
//! |                           |                  | nothing (who has a message by now, the ledger, receipts), which is not told    |
//! | as it was written down    | something else   | damage: a commit that was on stable storage is gone                            |
//!
//! A head that differs in a few octets is the same, damaged: each commit writes a root, its sum, a number and the sum of all that anew.
//!
//! It is not synced, which would cost as much as a commit: a kill leaves it as it is, and of a power cut it may be older, or not there, and then tells nothing. It is
//! within one sector and has a sum. Never: has a commit fail; is written before the sync has returned; says anything of another head than its own.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use redb::ReadableDatabase as _;
use xxhash_rust::xxh3::xxh3_64;

use super::FAILURES_SAID;
use super::embedded::{Embedded, Opened};
use super::index::{Change, Index};
use super::tables::{DiskFault, MESSAGES};
use crate::mail::QueueId;
use crate::sys::disk::Open;
use crate::sys::{DiskFile, MonoTime, Throttle};

/// The name of its file.
const NAME: &str = "store.last";

/// Octets at the beginning of redb's file in which each commit says what it is.
const HEAD: usize = 320;

/// Octets in which a head may differ and be the same; two sums of sixteen octets are others after a commit.
const DAMAGED_MAX: usize = 8;

/// Messages that a commit kept which are named, at the most.
const NAMED_MAX: usize = 9;

/// Octets of a testimony: within a sector.
const LENGTH: usize = HEAD + 8 * (4 + 2 * NAMED_MAX);

/// What was so when a commit was on stable storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Testimony {
    /// The head.
    head: [u8; HEAD],
    /// What the rows came to ([`Index::digest`]).
    rows: u64,
    /// How many they were.
    count: u64,
    /// Messages that this commit kept, the first of them.
    kept: Vec<QueueId>,
}

/// A commit that was on stable storage, and is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostCommit {
    /// Messages that there were.
    pub were: u64,
    /// Messages that there are.
    pub are: u64,
    /// Those that it kept and that are not there, as far as they are known by name: their clients were answered 250, or were about to be.
    pub kept: Vec<QueueId>,
}

impl LostCommit {
    /// What has become of each that it kept.
    pub const OF_ONE: &str = "gone: store.redb was damaged, and the change that kept it is lost";
}

impl fmt::Display for LostCommit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "store.redb was damaged while no relay had it, and the last change that was on the disk is gone: there were {}, and there are {}; \
             what it took out or put off is tried again, and of what was answered 250 in it the octets lie in messages-*, but not where",
            messages(self.were),
            messages(self.are)
        )?;
        for (place, id) in self.kept.iter().enumerate() {
            write!(f, "{}{id}", if place == 0 { "; gone are " } else { ", " })?;
        }
        Ok(())
    }
}

fn messages(count: u64) -> String {
    format!("{count} message{}", if count == 1 { "" } else { "s" })
}

/// What there is, when a commit is on stable storage.
#[derive(Debug)]
pub(super) struct Rows {
    digest: u64,
    count: u64,
    /// What this commit kept.
    kept: Vec<QueueId>,
}

impl Rows {
    pub(super) fn of(index: &Index, changes: &[Change]) -> Self {
        let new = changes.iter().filter(|change| change.left.is_none()).filter_map(|change| change.came);
        let kept = new.map(|place| place.id).take(NAMED_MAX).collect();
        Self { digest: index.digest(), count: index.totals().all().count, kept }
    }
}

impl Testimony {
    fn encode(&self) -> Vec<u8> {
        let named = u64::try_from(self.kept.len()).unwrap_or(0);
        let mut octets = self.head.to_vec();
        octets.extend([self.rows, self.count, named].iter().flat_map(|number| number.to_le_bytes()));
        octets.extend(self.kept.iter().flat_map(|id| id.to_u128().to_le_bytes()));
        octets.resize(LENGTH - 8, 0);
        octets.extend(xxh3_64(&octets).to_le_bytes());
        octets
    }

    fn decode(octets: &[u8]) -> Option<Self> {
        let (told, sum) = octets.split_last_chunk::<8>()?;
        if xxh3_64(told) != u64::from_le_bytes(*sum) {
            return None;
        }
        let (head, told) = told.split_first_chunk::<HEAD>()?;
        let (numbers, names) = told.split_at_checked(24)?;
        let mut numbers = numbers.as_chunks::<8>().0.iter().map(|octets| u64::from_le_bytes(*octets));
        let (rows, count, named) = (numbers.next()?, numbers.next()?, numbers.next()?);
        let names = names.as_chunks::<16>().0.iter().map(|octets| QueueId::from_u128(u128::from_le_bytes(*octets)));
        Some(Self { head: *head, rows, count, kept: names.take(usize::try_from(named).ok()?).collect() })
    }

    fn is_of(&self, head: &[u8; HEAD]) -> bool {
        self.head.iter().zip(head).filter(|(was, is)| was != is).count() <= DAMAGED_MAX
    }
}

/// Who writes it down.
#[derive(Debug)]
pub(super) struct Witness {
    file: Mutex<Option<Box<dyn DiskFile>>>,
    /// That it can't be.
    said: Throttle,
}

impl Default for Witness {
    fn default() -> Self {
        Self { file: Mutex::default(), said: Throttle::new(FAILURES_SAID) }
    }
}

impl Witness {
    fn unsaid(&self, now: MonoTime) -> Option<u64> {
        self.said.say(now)
    }

    fn write(&self, store: &Embedded, octets: &[u8]) -> io::Result<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let path = path(store);
        let open = || match store.disk.open(&path, Open::Existing) {
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => store.disk.open(&path, Open::New),
            opened => opened,
        };
        let to = match file.take() {
            Some(file) => file,
            None => open()?,
        };
        to.write_at(0, octets)?;
        *file = Some(to);
        Ok(())
    }
}

fn path(store: &Embedded) -> PathBuf {
    store.folder.join(NAME)
}

fn head_of(file: &dyn DiskFile) -> io::Result<[u8; HEAD]> {
    let mut head = [0; HEAD];
    file.read_at(0, &mut head)?;
    Ok(head)
}

/// Writes down that these rows are on stable storage. Where it can't be written the last one stays, which is of another head.
pub(super) fn testify(store: &Embedded, head: &dyn DiskFile, rows: Rows, now: MonoTime) {
    let Rows { digest: rows, count, kept } = rows;
    let told =
        head_of(head).and_then(|head| store.witness().write(store, &Testimony { head, rows, count, kept }.encode()));
    if let Err(fault) = told
        && let Some(unsaid) = store.witness().unsaid(now)
    {
        tracing::warn!(%fault, unsaid, "what the last commit was can't be written into store.last: where it is damaged while no relay has it, a start would not know");
    }
}

/// What was written down of the head that the store has; before redb opens it, which changes that.
pub(super) fn hear(store: &Embedded) -> Option<Testimony> {
    let mut octets = [0; LENGTH];
    store.disk.open(&path(store), Open::Existing).ok()?.read_at(0, &mut octets).ok()?;
    let head = head_of(&*store.disk.open(&store.file(), Open::Existing).ok()?).ok()?;
    Testimony::decode(&octets).filter(|testimony| testimony.is_of(&head))
}

/// What is lost, if these rows are not those that were there.
pub(super) fn missed(testimony: &Testimony, opened: &Opened, index: &Index) -> Result<Option<LostCommit>, DiskFault> {
    if index.digest() == testimony.rows {
        return Ok(None);
    }
    let messages = opened.database.begin_read()?.open_table(MESSAGES)?;
    let mut kept = Vec::new();
    for &id in &testimony.kept {
        if messages.get(id.to_u128())?.is_none() {
            kept.push(id);
        }
    }
    Ok(Some(LostCommit { were: testimony.count, are: index.totals().all().count, kept }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_testimony_is_read_as_it_was_written_and_not_otherwise() {
        for named in [0, 1, NAMED_MAX] {
            let kept = (1..).map(QueueId::from_u128).take(named).collect();
            let testimony = Testimony { head: [7; HEAD], rows: u64::MAX, count: 3, kept };
            let octets = testimony.encode();
            assert_eq!((octets.len(), Testimony::decode(&octets)), (LENGTH, Some(testimony)));
            for place in 0..LENGTH {
                let mut torn = octets.clone();
                torn[place] ^= 1;
                assert_eq!(Testimony::decode(&torn), None, "octet {place}");
            }
        }
        const { assert!(LENGTH <= 512, "within a sector") };
        assert_eq!(Testimony::decode(&[]), None);
    }
}
