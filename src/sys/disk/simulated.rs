//! A disk in memory that behaves as badly as a disk may, the same way each time for the same seed.
//!
//! A crash keeps any subset of the writes since the last sync, torn at sectors; any subset of the names made, moved and removed since the last
//! sync of their folder; and lets go of all locks. A chosen operation can fail, once or from then on. A failed sync loses part of what
//! it should have kept, and goes on showing it until the file is opened afresh, as Linux does.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, DiskFile, Entry, Lock, Open};
use crate::sys::{Entropy, SeededEntropy};

/// What a disk writes whole or not at all, octets.
const SECTOR: u64 = 512;

/// The operations that can be made to fail by their number; reading fails by place ([`SimulatedDisk::fail_reads`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// A file or folder is made.
    Create,
    /// Octets are written, or a length is set.
    Write,
    /// A file or a folder is synced.
    Sync,
    /// A file is renamed.
    Rename,
    /// A file is removed.
    Remove,
}

/// How a chosen operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// With an I/O error.
    Error,
    /// For want of space; a write has then written its first half.
    NoSpace,
}

/// Whether a sync does what it says. The untrue one is a mutant: a crash test that does not catch it tests nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncHonesty {
    /// What was synced is kept.
    #[default]
    Kept,
    /// It says so and does nothing.
    OnlySaid,
}

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    entropy: SeededEntropy,
    honesty: SyncHonesty,
    /// The crashes so far: a handle of an earlier life is dead.
    life: u64,
    operations: u64,
    syncs: u64,
    /// Octets that were read so far.
    read: u64,
    failing: Option<Failing>,
    /// Octets of a file that can't be read.
    unreadable: Option<(u64, std::ops::Range<u64>)>,
    /// How often a file was opened afresh.
    afresh: u64,
    space: u64,
    files: BTreeMap<u64, Content>,
    next_file: u64,
    names: BTreeMap<PathBuf, u64>,
    synced_names: BTreeMap<PathBuf, u64>,
    pending_names: Vec<NameChange>,
    locks: BTreeMap<PathBuf, u64>,
    next_lock: u64,
}

#[derive(Clone, Copy, Debug)]
struct Failing {
    first: u64,
    last: u64,
    fault: Fault,
}

#[derive(Clone, Debug)]
enum NameChange {
    Made(PathBuf, u64),
    Moved(PathBuf, PathBuf),
    Removed(PathBuf),
}

#[derive(Debug, Default)]
struct Content {
    /// What a reader sees.
    shown: Vec<u8>,
    /// What a crash cannot take.
    stable: Vec<u8>,
    /// What happened since the last sync.
    pending: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write(u64, Vec<u8>),
    Length(u64),
}

/// Space of a new simulated disk, octets.
const SPACE: u64 = 1 << 34;

impl SimulatedDisk {
    /// An empty disk whose crashes are drawn from `seed`.
    pub fn new(seed: u64) -> Self {
        let state = State {
            entropy: SeededEntropy::new(seed),
            honesty: SyncHonesty::Kept,
            life: 0,
            operations: 0,
            syncs: 0,
            read: 0,
            failing: None,
            unreadable: None,
            afresh: 0,
            space: SPACE,
            files: BTreeMap::new(),
            next_file: 0,
            names: BTreeMap::new(),
            synced_names: BTreeMap::new(),
            pending_names: Vec::new(),
            locks: BTreeMap::new(),
            next_lock: 0,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many times a file or folder was to be synced so far.
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// Octets of files that were read so far.
    pub fn octets_read(&self) -> u64 {
        self.state().read
    }

    /// How often a file was opened afresh so far.
    pub fn opened_afresh(&self) -> u64 {
        self.state().afresh
    }

    /// Whether syncs do what they say, from now on.
    pub fn set_honesty(&self, honesty: SyncHonesty) {
        self.state().honesty = honesty;
    }

    /// How many operations that can fail there have been.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// The `nth` operation from now fails (1 is the next one), and the `more` after it.
    pub fn fail(&self, nth: u64, more: u64, fault: Fault) {
        let mut state = self.state();
        let first = state.operations.saturating_add(nth);
        state.failing = Some(Failing { first, last: first.saturating_add(more), fault });
    }

    /// Whoever reads some of these octets of a file hears of an I/O error, and nothing else: a bad spot. False when there is no such file.
    pub fn fail_reads(&self, path: &Path, octets: std::ops::Range<u64>) -> bool {
        let mut state = self.state();
        let file = state.names.get(path).copied();
        state.unreadable = file.map(|file| (file, octets));
        file.is_some()
    }

    /// Whether an operation that was to fail ([`SimulatedDisk::fail`]) has come.
    pub fn has_failed(&self) -> bool {
        let state = self.state();
        state.failing.is_some_and(|failing| state.operations >= failing.first)
    }

    /// No operation is to fail any more.
    pub fn mend(&self) {
        let mut state = self.state();
        (state.failing, state.unreadable) = (None, None);
    }

    /// Octets the disk may hold in all.
    pub fn set_space(&self, octets: u64) {
        self.state().space = octets;
    }

    /// Octets that it holds.
    pub fn used(&self) -> u64 {
        self.state().used()
    }

    /// The power goes and comes back: what was not synced is kept or lost, sector by sector and name by name; locks are free, open files dead.
    pub fn crash(&self) {
        let mut guard = self.state();
        let state = &mut *guard;
        state.life += 1;
        state.locks.clear();
        for change in std::mem::take(&mut state.pending_names) {
            if state.entropy.next_u64().is_multiple_of(2) {
                change.apply(&mut state.synced_names);
            }
        }
        state.names = state.synced_names.clone();
        for content in state.files.values_mut() {
            content.keep_some(&state.entropy);
        }
        let named: std::collections::BTreeSet<u64> = state.names.values().copied().collect();
        state.files.retain(|file, _| named.contains(file));
    }

    /// Changes octets of a file behind everybody's back, on the disk too: a failing disk, a cosmic ray. False when there are no such octets.
    pub fn damage(&self, path: &Path, offset: u64, flip: u8) -> bool {
        let mut state = self.state();
        let file = state.names.get(path).copied();
        let Some(content) = file.and_then(|file| state.files.get_mut(&file)) else { return false };
        let Ok(place) = usize::try_from(offset) else { return false };
        let mut hit = false;
        for octets in [&mut content.shown, &mut content.stable] {
            if let Some(octet) = octets.get_mut(place) {
                *octet ^= flip;
                hit = true;
            }
        }
        hit
    }

    /// What a file shows now; nothing when there is none.
    pub fn octets(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        let file = state.names.get(path)?;
        Some(state.files.get(file)?.shown.clone())
    }

    /// Puts a file there, whole and synced, with its folder: a fixture, or a disk brought from elsewhere.
    pub fn place(&self, path: &Path, octets: &[u8]) {
        let mut state = self.state();
        let file = state.new_file();
        if let Some(content) = state.files.get_mut(&file) {
            *content = Content { shown: octets.to_vec(), stable: octets.to_vec(), pending: Vec::new() };
        }
        state.names.insert(path.to_owned(), file);
        state.synced_names.insert(path.to_owned(), file);
    }
}

impl State {
    fn new_file(&mut self) -> u64 {
        self.next_file += 1;
        self.files.insert(self.next_file, Content::default());
        self.next_file
    }

    /// Counts an operation, and says whether it is one that fails.
    fn begin(&mut self, operation: Operation) -> Option<Fault> {
        self.operations += 1;
        self.syncs += u64::from(operation == Operation::Sync);
        let failing = self.failing?;
        (failing.first..=failing.last).contains(&self.operations).then_some(failing.fault)
    }

    fn change_name(&mut self, operation: Operation, change: NameChange) -> io::Result<()> {
        if let Some(fault) = self.begin(operation) {
            return Err(fault.error());
        }
        change.apply(&mut self.names);
        self.pending_names.push(change);
        Ok(())
    }

    fn used(&self) -> u64 {
        self.files.values().fold(0, |sum, content| sum.saturating_add(octets_of(&content.shown)))
    }

    fn content(&mut self, handle: &SimulatedFile) -> io::Result<&mut Content> {
        if handle.life != self.life {
            return Err(io::Error::other("the disk has crashed since this file was opened"));
        }
        self.files.get_mut(&handle.file).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Fault {
    fn error(self) -> io::Error {
        match self {
            Self::Error => io::Error::other("simulated I/O error"),
            Self::NoSpace => io::ErrorKind::StorageFull.into(),
        }
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Self::Made(path, file) => {
                names.insert(path.clone(), *file);
            }
            Self::Moved(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
            Self::Removed(path) => {
                names.remove(path);
            }
        }
    }

    fn is_in(&self, folder: &Path) -> bool {
        match self {
            Self::Made(path, _) | Self::Removed(path) | Self::Moved(path, _) => path.parent() == Some(folder),
        }
    }
}

impl Change {
    fn apply(&self, octets: &mut Vec<u8>) {
        match self {
            Self::Write(offset, written) => put(octets, *offset, written),
            Self::Length(length) => set_length(octets, usize::try_from(*length).unwrap_or(0)),
        }
    }

    /// Applies the sectors that fate leaves.
    fn apply_some(&self, octets: &mut Vec<u8>, entropy: &SeededEntropy) {
        match self {
            Self::Write(offset, written) => {
                let mut at = *offset;
                let mut rest = written.as_slice();
                while !rest.is_empty() {
                    let whole = usize::try_from(SECTOR - at % SECTOR).unwrap_or(rest.len());
                    let (sector, after) = rest.split_at_checked(whole).unwrap_or((rest, &[]));
                    if entropy.next_u64().is_multiple_of(2) {
                        put(octets, at, sector);
                    }
                    at = at.saturating_add(octets_of(sector));
                    rest = after;
                }
            }
            Self::Length(_) => {
                if entropy.next_u64().is_multiple_of(2) {
                    self.apply(octets);
                }
            }
        }
    }
}

impl Content {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.shown);
        self.pending.push(change);
    }

    /// Only what is pending: what a failed sync has lost is shown, and stays lost.
    fn keep_all(&mut self) {
        for change in std::mem::take(&mut self.pending) {
            change.apply(&mut self.stable);
        }
    }

    fn keep_some(&mut self, entropy: &SeededEntropy) {
        self.lose_some(entropy);
        self.shown.clone_from(&self.stable);
    }

    /// Part of what is pending becomes stable, the rest is lost; readers do not notice.
    fn lose_some(&mut self, entropy: &SeededEntropy) {
        for change in std::mem::take(&mut self.pending) {
            change.apply_some(&mut self.stable, entropy);
        }
    }

    /// What is shown is what is stable and what is still on its way there.
    fn look_afresh(&mut self) {
        self.shown.clone_from(&self.stable);
        for change in &self.pending {
            change.apply(&mut self.shown);
        }
    }
}

fn octets_of(octets: &[u8]) -> u64 {
    u64::try_from(octets.len()).unwrap_or(u64::MAX)
}

/// As `resize` with zeros, which takes them one by one where nothing is optimized: files are long, and simulations many.
fn set_length(octets: &mut Vec<u8>, length: usize) {
    match length.checked_sub(octets.len()) {
        Some(more) => octets.extend_from_slice(&vec![0; more]),
        None => octets.truncate(length),
    }
}

fn put(octets: &mut Vec<u8>, offset: u64, written: &[u8]) {
    let start = usize::try_from(offset).unwrap_or(0);
    let end = start + written.len();
    if octets.len() < end {
        set_length(octets, end);
    }
    if let Some(place) = octets.get_mut(start..end) {
        place.copy_from_slice(written);
    }
}

impl Disk for SimulatedDisk {
    // Folders are not simulated: every path has one. (Ours is made once, and synced by nobody but the operator's own tools.)
    fn create_folder(&self, _folder: &Path) -> io::Result<()> {
        self.state().begin(Operation::Create).map_or(Ok(()), |fault| Err(fault.error()))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let mut state = self.state();
        if state.locks.contains_key(path) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.next_lock += 1;
        let number = state.next_lock;
        state.locks.insert(path.to_owned(), number);
        Ok(Box::new(SimulatedLock { disk: self.clone(), path: path.to_owned(), number }))
    }

    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        let known = state.names.get(path).copied();
        let file = match (how, known) {
            (Open::New, Some(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Open::New, None) => {
                let file = state.new_file();
                state.change_name(Operation::Create, NameChange::Made(path.to_owned(), file))?;
                file
            }
            (Open::Existing | Open::Afresh, Some(file)) => file,
            (Open::Existing | Open::Afresh, None) => return Err(io::ErrorKind::NotFound.into()),
        };
        state.afresh += u64::from(how == Open::Afresh);
        if how == Open::Afresh
            && let Some(content) = state.files.get_mut(&file)
        {
            content.look_afresh();
        }
        Ok(Box::new(SimulatedFile { disk: self.clone(), file, life: state.life }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        if !state.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change_name(Operation::Rename, NameChange::Moved(from.to_owned(), to.to_owned()))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        if !state.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change_name(Operation::Remove, NameChange::Removed(path.to_owned()))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<Entry>> {
        let state = self.state();
        let inside = state.names.iter().filter(|(path, _)| path.parent() == Some(folder));
        Ok(inside
            .filter_map(|(path, file)| {
                let name = path.file_name()?.to_str()?.to_owned();
                Some(Entry { name, length: octets_of(&state.files.get(file)?.shown) })
            })
            .collect())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let mut guard = self.state();
        let state = &mut *guard;
        if let Some(fault) = state.begin(Operation::Sync) {
            return Err(fault.error());
        }
        if state.honesty == SyncHonesty::OnlySaid {
            return Ok(());
        }
        let pending = std::mem::take(&mut state.pending_names);
        for change in pending {
            if change.is_in(folder) {
                change.apply(&mut state.synced_names);
            } else {
                state.pending_names.push(change);
            }
        }
        Ok(())
    }

    fn space_left(&self, _folder: &Path) -> io::Result<u64> {
        let state = self.state();
        Ok(state.space.saturating_sub(state.used()))
    }
}

#[derive(Debug)]
struct SimulatedLock {
    disk: SimulatedDisk,
    path: PathBuf,
    number: u64,
}

impl Lock for SimulatedLock {
    /// Nobody moves its folders.
    fn is_in_place(&self) -> io::Result<bool> {
        Ok(true)
    }
}

impl Drop for SimulatedLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        // A crash has let go of it already, and another may have it now.
        if state.locks.get(&self.path) == Some(&self.number) {
            state.locks.remove(&self.path);
        }
    }
}

#[derive(Debug)]
struct SimulatedFile {
    disk: SimulatedDisk,
    file: u64,
    life: u64,
}

impl DiskFile for SimulatedFile {
    fn length(&self) -> io::Result<u64> {
        Ok(octets_of(&self.disk.state().content(self)?.shown))
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        let end = offset.saturating_add(octets_of(into));
        let is_bad =
            |(file, bad): &(u64, std::ops::Range<u64>)| *file == self.file && offset < bad.end && bad.start < end;
        if state.unreadable.as_ref().is_some_and(is_bad) {
            return Err(Fault::Error.error());
        }
        let shown = &state.content(self)?.shown;
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let end = start.checked_add(into.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        into.copy_from_slice(shown.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?);
        state.read = state.read.saturating_add(octets_of(into));
        Ok(())
    }

    fn write_at(&self, offset: u64, octets: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        state.content(self)?;
        let mut fault = state.begin(Operation::Write);
        let end = offset.saturating_add(octets_of(octets));
        let growth = end.saturating_sub(octets_of(&state.content(self)?.shown));
        if growth > state.space.saturating_sub(state.used()) {
            fault = Some(Fault::NoSpace);
        }
        let short = octets.get(..octets.len() / 2).unwrap_or_default();
        let written = match fault {
            None => octets,
            Some(Fault::NoSpace) => short,
            Some(Fault::Error) => &[],
        };
        if !written.is_empty() {
            state.content(self)?.change(Change::Write(offset, written.to_vec()));
        }
        fault.map_or(Ok(()), |fault| Err(fault.error()))
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.content(self)?;
        // Like a sparse file: room is taken by writing, but a disk that is full says so here already.
        let growth = length.saturating_sub(octets_of(&state.content(self)?.shown));
        let full = growth > state.space.saturating_sub(state.used());
        if let Some(fault) = state.begin(Operation::Write).or(full.then_some(Fault::NoSpace)) {
            return Err(fault.error());
        }
        state.content(self)?.change(Change::Length(length));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut guard = self.disk.state();
        guard.content(self)?;
        let fault = guard.begin(Operation::Sync);
        let state = &mut *guard;
        let Some(content) = state.files.get_mut(&self.file) else { return Err(io::ErrorKind::NotFound.into()) };
        match (fault, state.honesty) {
            (Some(fault), _) => {
                content.lose_some(&state.entropy);
                Err(fault.error())
            }
            (None, SyncHonesty::OnlySaid) => Ok(()),
            (None, SyncHonesty::Kept) => {
                content.keep_all();
                Ok(())
            }
        }
    }
}
