//! The file in which records and bodies lie: read and written by extent. Which are free, `space` knows; which are whose, the rows of the store.
//!
//! What a change puts there goes to extents that nobody names, is synced, and only then named by the commit. So a crash, or a write that fails, leaves
//! octets in room that is free.
//!
//! What the disk fails to read is a failure of the store at first: its files are opened again, since a handle may be what has failed. What it fails to read in a later
//! opening, too, is damage to the one message that lies there ([`is_unreadable`]): that one is set aside as dead, and all others go on. Dead, not put off: nobody can tell
//! the sender of a delay while the record can't be read, and what is dead is told, counted and listed. Nothing of it is removed: when the disk reads it again,
//! `queue retry` has it tried.
//!
//! Never: writes over what is named; says that something is kept.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::space::{Extent, GRAIN, Kind, Space};
use crate::sys::DiskFile;

/// The name of the file, before its number: a compaction makes the next one.
pub(super) const NAME: &str = "messages-";

/// What has been put in order is written when it is so much, octets.
const GATHERED_MAX: usize = 1 << 20;

/// What is so large is written as it is, octets: to put it in order with others would be to copy it twice.
const LARGE: usize = 32 * 1024;

/// The largest gap between two extents that is read rather than passed over, and the most that is read in one go, octets.
const GAP: u64 = 4096;
const READ_MAX: u64 = 256 * 1024;

/// The file of this number.
pub(super) fn name(number: u64) -> String {
    format!("{NAME}{number}")
}

/// The number of the file of this name.
pub(super) fn number(name: &str) -> Option<u64> {
    name.strip_prefix(NAME)?.parse().ok().filter(|&number| self::name(number) == name)
}

/// Extents that the disk failed to read, as many as are remembered.
const SUSPECTS_MAX: usize = 1024;

/// A piece of which it is looked first whether the file is so long, octets: what a damaged row says of a length must not be taken from memory.
const DOUBTED: u64 = 1 << 20;

/// What the disk failed to read, by the first grain of each extent, and in which opening of the file it did so first. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Suspects(Arc<Suspected>);

#[derive(Debug, Default)]
struct Suspected {
    openings: AtomicU64,
    failed: Mutex<BTreeMap<u64, u64>>,
    /// How many there are, without a lock.
    count: AtomicU64,
}

impl Suspects {
    fn failed(&self) -> MutexGuard<'_, BTreeMap<u64, u64>> {
        self.0.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_opening(&self) -> u64 {
        self.0.openings.fetch_add(1, Ordering::Relaxed)
    }

    /// What a failure to read this means in this opening.
    fn judge(&self, grain: u64, opening: u64, fault: io::Error) -> io::Error {
        let mut failed = self.failed();
        match failed.get(&grain) {
            Some(&first) if first < opening => {
                return io::Error::new(io::ErrorKind::InvalidData, format!("the disk fails to read it: {fault}"));
            }
            Some(_) => {}
            None if failed.len() < SUSPECTS_MAX => drop(failed.insert(grain, opening)),
            None => {}
        }
        self.0.count.store(u64::try_from(failed.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
        fault
    }

    /// It was read.
    fn clear(&self, grain: u64) {
        if self.0.count.load(Ordering::Relaxed) > 0 {
            let mut failed = self.failed();
            failed.remove(&grain);
            self.0.count.store(u64::try_from(failed.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }
}

/// Whether the disk has failed to read this in two openings of the file: damage to what lies there, and no failure of the store.
pub(super) fn is_unreadable(fault: &io::Error) -> bool {
    fault.kind() == io::ErrorKind::InvalidData
}

/// The file, open.
#[derive(Debug)]
pub(super) struct Shelf {
    file: Box<dyn DiskFile>,
    suspects: Suspects,
    opening: u64,
}

impl Shelf {
    pub(super) fn new(file: Box<dyn DiskFile>, suspects: Suspects) -> Self {
        let opening = suspects.next_opening();
        Self { file, suspects, opening }
    }

    /// Octets in it.
    pub(super) fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    /// Octets of what lies in these extents: from `skip` on, at most so many; `UnexpectedEof` when the file ends before, and see [`is_unreadable`].
    pub(super) fn read(&self, extents: &[Extent], skip: u64, most: usize) -> io::Result<Vec<u8>> {
        let (mut octets, mut skip) = (Vec::new(), skip);
        for extent in extents {
            let passed = skip.min(extent.length);
            skip = skip.saturating_sub(passed);
            let rest = usize::try_from(extent.length.saturating_sub(passed)).unwrap_or(usize::MAX);
            let wanted = rest.min(most.saturating_sub(octets.len()));
            let (filled, from) = (octets.len(), extent.offset().saturating_add(passed));
            self.reaches(from, wanted)?;
            octets.resize(filled.saturating_add(wanted), 0);
            if let Some(into) = octets.get_mut(filled..).filter(|into| !into.is_empty()) {
                match self.file.read_at(from, into) {
                    Ok(()) => self.suspects.clear(extent.grain),
                    Err(fault) if fault.kind() == io::ErrorKind::UnexpectedEof => return Err(fault),
                    Err(fault) => return Err(self.suspects.judge(extent.grain, self.opening, fault)),
                }
            }
        }
        Ok(octets)
    }

    fn reaches(&self, from: u64, wanted: usize) -> io::Result<()> {
        let wanted = u64::try_from(wanted).unwrap_or(u64::MAX);
        let is_short = wanted > DOUBTED && self.length()? < from.saturating_add(wanted);
        if is_short { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    /// Shows what lies in each of these, by its place among them; those that lie near one another are read together, into `octets`. What can't be read so,
    /// and what lies in pieces, is not shown.
    pub(super) fn read_each<'a>(
        &self,
        wanted: impl Iterator<Item = &'a [Extent]>,
        octets: &mut Vec<u8>,
        mut show: impl FnMut(usize, &[u8]),
    ) {
        let whole = wanted.enumerate().filter_map(|(place, extents)| match extents {
            [extent] => Some((*extent, place)),
            _ => None,
        });
        let mut order: Vec<(Extent, usize)> = whole.collect();
        order.sort_unstable_by_key(|(extent, _)| extent.grain);
        let mut rest = order.as_slice();
        while let Some((run, behind)) = rest.split_at_checked(run_of(rest)).filter(|(run, _)| !run.is_empty()) {
            rest = behind;
            self.read_run(run, octets, &mut show);
        }
    }

    fn read_run(&self, run: &[(Extent, usize)], octets: &mut Vec<u8>, show: &mut impl FnMut(usize, &[u8])) {
        let (Some((first, _)), Some((last, _))) = (run.first(), run.last()) else { return };
        let from = first.offset();
        let length = last.offset().saturating_add(last.length).saturating_sub(from);
        octets.resize(usize::try_from(length).unwrap_or(0), 0);
        if self.file.read_at(from, octets).is_err() {
            return;
        }
        for (extent, place) in run {
            let start = usize::try_from(extent.offset().saturating_sub(from)).unwrap_or(usize::MAX);
            let end = start.saturating_add(usize::try_from(extent.length).unwrap_or(usize::MAX));
            if let Some(piece) = octets.get(start..end) {
                show(*place, piece);
            }
        }
    }

    /// Puts octets there.
    fn write(&self, grain: u64, octets: &[u8]) -> io::Result<()> {
        self.file.write_at(grain.saturating_mul(GRAIN), octets)
    }
}

/// How many of these, in their order, are read in one go.
fn run_of(order: &[(Extent, usize)]) -> usize {
    let Some((first, _)) = order.first() else { return 0 };
    let together = order.windows(2).take_while(|pair| {
        let [(last, _), (extent, _)] = pair else { return false };
        let gap = extent.offset().saturating_sub(last.offset().saturating_add(last.length));
        let length = extent.offset().saturating_add(extent.length).saturating_sub(first.offset());
        gap <= GAP && length <= READ_MAX
    });
    together.count().saturating_add(1)
}

/// What one change puts on the shelf.
#[derive(Debug)]
pub(super) struct Placing<'a> {
    shelf: &'a Shelf,
    space: &'a mut Space,
    /// By their first grain: octets in whole grains that are not written yet.
    gathered: BTreeMap<u64, Vec<u8>>,
    octets: usize,
    synced: bool,
}

impl<'a> Placing<'a> {
    pub(super) fn new(shelf: &'a Shelf, space: &'a mut Space) -> Self {
        Self { shelf, space, gathered: BTreeMap::new(), octets: 0, synced: true }
    }

    /// Finds room for octets. They are on stable storage when [`Self::settle`] has returned.
    pub(super) fn put(&mut self, kind: Kind, octets: &[u8]) -> io::Result<Vec<Extent>> {
        let extents = self.space.take(kind, u64::try_from(octets.len()).unwrap_or(u64::MAX));
        let mut rest = octets;
        for extent in &extents {
            let length = usize::try_from(extent.length).unwrap_or(usize::MAX);
            let (piece, behind) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            rest = behind;
            self.synced = false;
            if piece.len() >= LARGE {
                self.shelf.write(extent.grain, piece)?;
                continue;
            }
            // Filled up with zeros to whole grains.
            let whole = piece.len().next_multiple_of(usize::try_from(GRAIN).unwrap_or(1));
            let mut grains = Vec::with_capacity(whole);
            grains.extend_from_slice(piece);
            grains.resize(whole, 0);
            self.gathered.insert(extent.grain, grains);
            self.octets = self.octets.saturating_add(whole);
        }
        if self.octets >= GATHERED_MAX {
            self.write()?;
        }
        Ok(extents)
    }

    /// Octets by which the file grows when so many are put into it.
    pub(super) fn growth(&self, kind: Kind, length: u64) -> u64 {
        self.space.growth(kind, length)
    }

    /// What lies in these extents, also when it was put there just now.
    pub(super) fn read(&self, extents: &[Extent]) -> io::Result<Vec<u8>> {
        let mut octets = Vec::new();
        for extent in extents {
            let length = usize::try_from(extent.length).unwrap_or(usize::MAX);
            match self.gathered.get(&extent.grain).and_then(|grains| grains.get(..length)) {
                Some(piece) => octets.extend_from_slice(piece),
                None => octets.extend(self.shelf.read(std::slice::from_ref(extent), 0, usize::MAX)?),
            }
        }
        Ok(octets)
    }

    /// Writes what has gathered, side by side what lies side by side.
    fn write(&mut self) -> io::Result<()> {
        self.octets = 0;
        let mut run: Option<(u64, Vec<u8>)> = None;
        for (grain, grains) in std::mem::take(&mut self.gathered) {
            if let Some((from, octets)) = &mut run
                && from.saturating_mul(GRAIN).saturating_add(u64::try_from(octets.len()).unwrap_or(u64::MAX))
                    == grain.saturating_mul(GRAIN)
            {
                octets.extend_from_slice(&grains);
            } else if let Some((from, octets)) = run.replace((grain, grains)) {
                self.shelf.write(from, &octets)?;
            }
        }
        run.map_or(Ok(()), |(from, octets)| self.shelf.write(from, &octets))
    }

    /// Returns when all of it is on stable storage: only now may a row name it.
    pub(super) fn settle(&mut self) -> io::Result<()> {
        if self.synced {
            return Ok(());
        }
        self.write()?;
        self.shelf.file.sync()?;
        self.synced = true;
        Ok(())
    }
}
