//! Measures layouts of a message store, for docs/decisions/0001-store-layout.md and 0009. Knows nothing of sealpost: each layout is written out here as
//! plainly as it can be, so that the layouts are compared and not two programs.
//!
//! ```text
//! cargo bench --bench layouts -- DIR COUNT SIZE GIGABYTES [redb|redb-whole|redb-quick|segments|rows|rows-quick ...]
//! ```
//!
//! For each layout: COUNT messages of SIZE octets, in commits of 1 (a hundredth of them) and of 64; then a kill -9, a start with a cold cache; then
//! all but 1 in 100 are finished; then the same flood again. And GIGABYTES of messages of 200,000 octets, killed and started.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::disallowed_methods,
    reason = "a measuring program: it reads its arguments, the clock and files, and stops at the first surprise"
)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};

const RECORDS: TableDefinition<'static, u128, &[u8]> = TableDefinition::new("records");
const DUE: TableDefinition<'static, (i64, u128), ()> = TableDefinition::new("due");
const BODIES: TableDefinition<'static, (u128, u32), &[u8]> = TableDefinition::new("bodies");
const ROWS: TableDefinition<'static, u128, &[u8]> = TableDefinition::new("rows");
const PLACES: TableDefinition<'static, u128, (u32, u64, u64)> = TableDefinition::new("places");
const RECORD: usize = 600;
/// Octets of a row that says where record and body lie.
const ROW: usize = 70;
const SEGMENT: u64 = 64 << 20;
const CACHE: usize = 32 << 20;

#[derive(Debug, Default)]
struct Counts {
    syncs: AtomicU64,
    octets: AtomicU64,
}

#[derive(Debug)]
struct Counting {
    file: File,
    counts: Arc<Counts>,
}

impl redb::StorageBackend for Counting {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }
    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.counts.syncs.fetch_add(1, Ordering::Relaxed);
        self.file.sync_data()
    }
    fn write(&self, offset: u64, octets: &[u8]) -> io::Result<()> {
        self.counts.octets.fetch_add(octets.len() as u64, Ordering::Relaxed);
        self.file.write_all_at(octets, offset)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Layout {
    AllInRedb(usize),
    QuickRepair(usize),
    Segments,
    /// Records and bodies in segments, only rows in redb; with quick repair or without.
    Rows(Repair),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Repair {
    Quick,
    Full,
}

impl Layout {
    fn is_quick(self) -> bool {
        matches!(self, Self::QuickRepair(_) | Self::Rows(Repair::Quick))
    }

    fn is_beside(self) -> bool {
        matches!(self, Self::Segments | Self::Rows(_))
    }
}

struct Segment {
    number: u32,
    file: File,
    end: u64,
}

struct Store {
    layout: Layout,
    folder: PathBuf,
    database: Database,
    counts: Arc<Counts>,
    segment: Option<Segment>,
}

fn layout_of(name: &str) -> Layout {
    match name {
        "redb" => Layout::AllInRedb(32_000),
        "redb-whole" => Layout::AllInRedb(usize::MAX),
        "redb-quick" => Layout::QuickRepair(32_000),
        "segments" => Layout::Segments,
        "rows" => Layout::Rows(Repair::Full),
        "rows-quick" => Layout::Rows(Repair::Quick),
        _ => panic!("no layout {name}"),
    }
}

/// Drops what the kernel has cached of the folder's files.
fn chill(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = File::open(entry.unwrap().path()).unwrap();
        file.sync_all().unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    }
}

fn size(folder: &Path) -> u64 {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

impl Store {
    fn open(layout: Layout, folder: &Path) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let file = folder.join("store.redb");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(file).unwrap();
        let counts = Arc::new(Counts::default());
        let backend = Counting { file, counts: Arc::clone(&counts) };
        let database = Database::builder().set_cache_size(CACHE).create_with_backend(backend).unwrap();
        Self { layout, folder: folder.to_owned(), database, counts, segment: None }
    }

    fn append(&mut self, octets: &[u8]) -> (u32, u64, u64) {
        if self.segment.as_ref().is_none_or(|segment| segment.end >= SEGMENT) {
            let number = self.segment.as_ref().map_or(0, |segment| segment.number + 1);
            if let Some(full) = &self.segment {
                full.file.sync_data().unwrap();
            }
            let path = self.folder.join(format!("segment-{number}"));
            let file = OpenOptions::new().write(true).create(true).truncate(true).open(path).unwrap();
            File::open(&self.folder).unwrap().sync_all().unwrap();
            self.counts.syncs.fetch_add(2, Ordering::Relaxed);
            self.segment = Some(Segment { number, file, end: 0 });
        }
        let segment = self.segment.as_mut().unwrap();
        let place = (segment.number, segment.end, octets.len() as u64);
        segment.file.write_all_at(octets, segment.end).unwrap();
        segment.end += octets.len() as u64;
        self.counts.octets.fetch_add(octets.len() as u64, Ordering::Relaxed);
        place
    }

    fn keep(&mut self, ids: &[u128], body: &[u8]) {
        let places: Vec<_> = if self.layout.is_beside() {
            if matches!(self.layout, Layout::Rows(_)) {
                self.append(&vec![7; RECORD * ids.len()]);
            }
            let places = ids.iter().map(|_| self.append(body)).collect();
            self.segment.as_ref().unwrap().file.sync_data().unwrap();
            self.counts.syncs.fetch_add(1, Ordering::Relaxed);
            places
        } else {
            Vec::new()
        };
        let mut transaction = self.database.begin_write().unwrap();
        if self.layout.is_quick() {
            transaction.set_quick_repair(true);
        }
        {
            let mut records = transaction.open_table(RECORDS).unwrap();
            let mut due = transaction.open_table(DUE).unwrap();
            let mut bodies = transaction.open_table(BODIES).unwrap();
            let mut table = transaction.open_table(PLACES).unwrap();
            let mut rows = transaction.open_table(ROWS).unwrap();
            for (number, &id) in ids.iter().enumerate() {
                if matches!(self.layout, Layout::Rows(_)) {
                    rows.insert(id, [7; ROW].as_slice()).unwrap();
                    continue;
                }
                records.insert(id, [7; RECORD].as_slice()).unwrap();
                due.insert(((id >> 80) as i64, id), ()).unwrap();
                match self.layout {
                    Layout::Segments => {
                        table.insert(id, places[number]).unwrap();
                    }
                    Layout::Rows(_) => {}
                    Layout::AllInRedb(chunk) | Layout::QuickRepair(chunk) => {
                        for (number, octets) in (0..).zip(body.chunks(chunk)) {
                            bodies.insert((id, number), octets).unwrap();
                        }
                    }
                }
            }
        }
        transaction.commit().unwrap();
    }

    fn finish(&mut self, ids: &[u128], body: usize) {
        let mut transaction = self.database.begin_write().unwrap();
        if self.layout.is_quick() {
            transaction.set_quick_repair(true);
        }
        {
            let mut records = transaction.open_table(RECORDS).unwrap();
            let mut due = transaction.open_table(DUE).unwrap();
            let mut bodies = transaction.open_table(BODIES).unwrap();
            let mut table = transaction.open_table(PLACES).unwrap();
            let mut rows = transaction.open_table(ROWS).unwrap();
            for &id in ids {
                rows.remove(id).unwrap();
                records.remove(id).unwrap();
                due.remove(((id >> 80) as i64, id)).unwrap();
                match self.layout {
                    Layout::Segments => {
                        table.remove(id).unwrap();
                    }
                    Layout::Rows(_) => {}
                    Layout::AllInRedb(chunk) | Layout::QuickRepair(chunk) => {
                        for number in 0..body.div_ceil(chunk) {
                            bodies.remove((id, number as u32)).unwrap();
                        }
                    }
                }
            }
        }
        transaction.commit().unwrap();
    }

    /// Removes the segments in which nothing is kept any more.
    fn sweep(&self) {
        if self.layout != Layout::Segments {
            return;
        }
        let transaction = self.database.begin_read().unwrap();
        let table = transaction.open_table(PLACES).unwrap();
        let kept: std::collections::BTreeSet<u32> = table.iter().unwrap().map(|row| row.unwrap().1.value().0).collect();
        let last = self.segment.as_ref().map(|segment| segment.number);
        for number in 0..last.unwrap_or(0) {
            if !kept.contains(&number) {
                std::fs::remove_file(self.folder.join(format!("segment-{number}"))).ok();
            }
        }
    }

    fn figures(&self) -> (u64, u64) {
        (self.counts.syncs.swap(0, Ordering::Relaxed), self.counts.octets.swap(0, Ordering::Relaxed))
    }
}

/// Ids as the queue makes them: 48 bits of milliseconds, then 80 that look random.
fn id(number: u64) -> u128 {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (number << 32).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (u128::from(1_800_000_000_000 + number / 5) << 80) | u128::from(mixed)
}

fn fill(store: &mut Store, what: &str, numbers: std::ops::Range<u64>, batch: usize, body: &[u8]) {
    let ids: Vec<u128> = numbers.map(id).collect();
    store.figures();
    let start = Instant::now();
    for ids in ids.chunks(batch) {
        store.keep(ids, body);
    }
    let seconds = start.elapsed().as_secs_f64();
    let (syncs, octets) = store.figures();
    let mail = (ids.len() * body.len()) as f64;
    println!(
        "{:?} {what}: {:.0} messages/s, {:.2} syncs each, wrote {:.2} times the mail, on disk {} MB",
        store.layout,
        ids.len() as f64 / seconds,
        syncs as f64 / ids.len() as f64,
        octets as f64 / mail,
        size(&store.folder) >> 20
    );
}

/// Runs itself with these arguments, to be killed there.
fn in_child(arguments: &[&str]) {
    let status = Command::new(std::env::current_exe().unwrap()).args(arguments).status().unwrap();
    assert!(!status.success(), "the child kills itself");
}

fn start_after_kill(layout: Layout, folder: &Path) {
    chill(folder);
    let megabytes = size(folder) >> 20;
    let start = Instant::now();
    let store = Store::open(layout, folder);
    let seconds = start.elapsed().as_secs_f64();
    let transaction = store.database.begin_read().unwrap();
    let length = |table| transaction.open_table::<u128, &[u8]>(table).unwrap().len().unwrap();
    let count = length(RECORDS).max(length(ROWS));
    drop(transaction);
    println!("{layout:?} start after kill -9, cold, {count} messages, {megabytes} MB: {seconds:.2} s");
    store.database.close().unwrap();
    chill(folder);
    let start = Instant::now();
    drop(Store::open(layout, folder));
    println!("{layout:?} start after a clean stop, cold: {:.2} s", start.elapsed().as_secs_f64());
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["flood", name, folder, count, size] => {
            let (count, size): (u64, usize) = (count.parse().unwrap(), size.parse().unwrap());
            let mut store = Store::open(layout_of(name), Path::new(folder));
            let body = vec![b'm'; size];
            fill(&mut store, "commits of 1", 0..count / 100, 1, &body);
            fill(&mut store, "commits of 64", count / 100..count, 64, &body);
            std::process::abort();
        }
        ["large", name, folder, gigabytes] => {
            let mut store = Store::open(layout_of(name), Path::new(folder));
            let count = gigabytes.parse::<u64>().unwrap() * 5_000;
            fill(&mut store, "200 kB, commits of 8", 0..count, 8, &vec![b'm'; 200_000]);
            std::process::abort();
        }
        [folder, count, size, gigabytes, names @ ..] => {
            let all = ["redb", "redb-whole", "redb-quick", "segments", "rows", "rows-quick"];
            for name in if names.is_empty() { &all } else { names } {
                measure(name, Path::new(folder), count, size, gigabytes);
            }
        }
        _ => println!("usage: layouts DIR COUNT SIZE GIGABYTES"),
    }
}

fn measure(name: &str, folder: &Path, count: &str, octets: &str, gigabytes: &str) {
    let layout = layout_of(name);
    let flood = folder.join(format!("{name}-flood"));
    in_child(&["flood", name, flood.to_str().unwrap(), count, octets]);
    start_after_kill(layout, &flood);
    let (count, octets): (u64, usize) = (count.parse().unwrap(), octets.parse().unwrap());
    let mut store = Store::open(layout, &flood);
    if layout.is_beside() {
        store.segment =
            Some(Segment { number: 10_000, file: File::create(flood.join("segment-10000")).unwrap(), end: SEGMENT });
    }
    let done: Vec<u128> = (0..count).filter(|number| number % 100 != 0).map(id).collect();
    let start = Instant::now();
    for ids in done.chunks(64) {
        store.finish(ids, octets);
    }
    store.sweep();
    let rate = done.len() as f64 / start.elapsed().as_secs_f64();
    println!("{layout:?} finished 99 of 100: {rate:.0} messages/s, on disk {} MB", size(&flood) >> 20);
    fill(&mut store, "the same flood again, commits of 64", count..2 * count, 64, &vec![b'm'; octets]);
    drop(store);
    std::fs::remove_dir_all(&flood).unwrap();
    let large = folder.join(format!("{name}-large"));
    in_child(&["large", name, large.to_str().unwrap(), gigabytes]);
    start_after_kill(layout, &large);
    std::fs::remove_dir_all(&large).unwrap();
}
