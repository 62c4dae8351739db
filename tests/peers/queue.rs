//! Measures the store with a hundred messages and with a million, for `tests/long queue`: what a message costs to keep and to give out, a listing of all,
//! starts after a close and after a kill, what it takes of memory and disk, syncs. Fills the queue of a row of benches/compare, too.
//!
//! ```text
//! queue DIR COUNT [IDENTITIES]
//! queue DIR --start            opens the store, says how long it took, and waits to be killed
//! queue DIR --list             opens the store and lists all
//! queue DIR --lines            opens the store and lists all, as lines only, alone
//! queue DIR --fill COUNT       makes a store with so many
//! queue DIR --waiting COUNT    makes a store with so many that wait for their hour (RFC 4865), which is in a day
//! queue DIR --row COUNT        measures what a message costs among those that are there
//! queue DIR --row-read COUNT   the same, where nothing is at hand: each is read from the disk
//! queue DIR --strand COUNT     makes a store with so many that no route took, and that are due in a day
//! queue DIR --wake             opens it and looks as a start does: with no route, then with one that takes them all, while one client commits
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::disallowed_methods,
    reason = "a measuring program: it reads its arguments, the clock and files, and stops at the first surprise"
)]

use std::io::{self, BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sealpost::daemon::stranded;
use sealpost::identity::Rule;
use sealpost::mail::{Address, Envelope, ForwardPath, MailParameters, Recipient, RecipientParameters, ReversePath};
use sealpost::queue::{
    Conclusion, Custodian, Deposit, Direction, Filter, Link, Next, Page, Queue, QueueSettings, TraceFacts, Tried,
};
use sealpost::route::{Route, Routes, Wants};
use sealpost::sys::disk::{Entry, Lock, Open, SystemDisk};
use sealpost::sys::{Clock, Disk, DiskFile, SystemClock, SystemEntropy};
use sealpost::upstream::Upstream;
use sealpost::upstream::preference::Ranked;

const BODY: usize = 4096;
/// Messages that one measurement keeps, or gives out.
const SAMPLE: usize = 2_000;
/// Clients at once, besides one alone.
const MANY: usize = 64;
/// Clients, and deliveries, at once where messages come and go side by side.
const BOTH: usize = 20;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What is kept.
#[derive(Clone, Copy, Debug)]
struct Mail {
    /// So many send by turns.
    identities: usize,
    /// How long it waits until it is due (RFC 4865), if at all.
    wait: Option<Duration>,
}

const PLAIN: Mail = Mail { identities: 1000, wait: None };

/// Syncs of files and folders so far.
static SYNCS: AtomicU64 = AtomicU64::new(0);

/// The machine's disk, its syncs counted.
#[derive(Debug)]
struct Counted;

#[derive(Debug)]
struct CountedFile(Box<dyn DiskFile>);

impl Disk for Counted {
    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        SystemDisk.create_folder(folder)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        SystemDisk.lock(path)
    }

    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(CountedFile(SystemDisk.open(path, how)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        SystemDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        SystemDisk.remove(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<Entry>> {
        SystemDisk.list(folder)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        SYNCS.fetch_add(1, Ordering::Relaxed);
        SystemDisk.sync_folder(folder)
    }

    fn space_left(&self, folder: &Path) -> io::Result<u64> {
        SystemDisk.space_left(folder)
    }
}

impl DiskFile for CountedFile {
    fn length(&self) -> io::Result<u64> {
        self.0.length()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, into)
    }

    fn write_at(&self, offset: u64, octets: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, octets)
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.0.set_length(length)
    }

    fn sync(&self) -> io::Result<()> {
        SYNCS.fetch_add(1, Ordering::Relaxed);
        self.0.sync()
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [folder, "--start"] => start(&runtime, Path::new(folder)),
        [folder, "--list"] => runtime.block_on(async {
            let (queue, clock) = open(Path::new(folder));
            list(&queue, &clock, PLAIN, &AtomicUsize::new(0)).await;
            queue.close().await;
        }),
        [folder, "--lines"] => runtime.block_on(async {
            let (queue, _) = open(Path::new(folder));
            list_alone(&queue, &[Told::Briefs; 4]).await;
            queue.close().await;
        }),
        [folder, "--fill", count] => runtime.block_on(async {
            let (queue, clock) = open(Path::new(folder));
            fill(&queue, &clock, count.parse().unwrap(), PLAIN, &AtomicUsize::new(0)).await;
            queue.close().await;
        }),
        [folder, "--waiting", count] => runtime.block_on(async {
            let (queue, clock) = open(Path::new(folder));
            let mail = Mail { wait: Some(DAY), ..PLAIN };
            fill(&queue, &clock, count.parse().unwrap(), mail, &AtomicUsize::new(0)).await;
            queue.close().await;
        }),
        [folder, "--row", count] => runtime.block_on(async {
            let (queue, clock) = open(Path::new(folder));
            row(count.parse().unwrap(), &queue, &clock, PLAIN, &AtomicUsize::new(0)).await;
            queue.close().await;
        }),
        [folder, "--row-read", count] => runtime.block_on(async {
            let (queue, clock) = open_with(QueueSettings { at_hand: 0, ..settings(Path::new(folder)) });
            row(count.parse().unwrap(), &queue, &clock, PLAIN, &AtomicUsize::new(0)).await;
            queue.close().await;
        }),
        [folder, "--strand", count] => runtime.block_on(async {
            let (queue, clock) = open(Path::new(folder));
            strand(&queue, &clock, count.parse().unwrap()).await;
            queue.close().await;
        }),
        [folder, "--wake"] => runtime.block_on(async {
            let (queue, clock) = open(Path::new(folder));
            wake(&queue, &clock).await;
            queue.close().await;
        }),
        [folder, count] => runtime.block_on(measure(Path::new(folder), count.parse().unwrap(), PLAIN)),
        [folder, count, identities] => {
            runtime.block_on(measure(
                Path::new(folder),
                count.parse().unwrap(),
                Mail { identities: identities.parse().unwrap(), ..PLAIN },
            ));
        }
        _ => panic!("queue DIR COUNT [IDENTITIES]"),
    }
}

fn settings(folder: &Path) -> QueueSettings {
    QueueSettings {
        count: 10_000_000,
        size: 1 << 40,
        share_per_identity: 100,
        per_identity: 128,
        readers: QueueSettings::readers_here(),
        ..QueueSettings::new(folder)
    }
}

fn open(folder: &Path) -> (Queue, Arc<dyn Clock>) {
    open_with(settings(folder))
}

fn open_with(settings: QueueSettings) -> (Queue, Arc<dyn Clock>) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let opened = Queue::open(settings, Arc::new(Counted), Arc::clone(&clock), Arc::new(SystemEntropy));
    (opened.unwrap().0, clock)
}

fn start(runtime: &tokio::runtime::Runtime, folder: &Path) {
    let (began, before) = (Instant::now(), Usage::now());
    let (queue, _) = open(folder);
    let cpu = (Usage::now().cpu - before.cpu).as_secs_f64();
    println!("{:.2} s ({cpu:.2} s of CPU)", began.elapsed().as_secs_f64());
    runtime.block_on(async {
        let claim = queue.claim().await;
        println!("{:.2} {}", began.elapsed().as_secs_f64(), memory("VmHWM"));
        drop(claim);
        std::future::pending::<()>().await;
    });
}

/// Starts the store in a process of its own and kills it: seconds until it is open, until the first claim, and MB then.
fn killed_start(folder: &Path) -> String {
    let own = std::env::current_exe().unwrap();
    let mut child = Command::new(own).arg(folder).arg("--start").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let open = lines.next().unwrap().unwrap();
    let claimed = lines.next().unwrap().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let (first, memory) = claimed.split_once(' ').unwrap();
    format!("open after {open}, first claim after {first} s, {memory} MB at the most")
}

async fn measure(folder: &Path, count: usize, mail: Mail) {
    let (queue, clock) = open(folder);
    let kept = AtomicUsize::new(0);
    println!(
        "{:>9}  {:<22} {:>9} {:>9} {:>9} {:>10} {:>7}",
        "messages", "what", "each/s", "us CPU", "KiB out", "writes", "syncs"
    );
    keep(&queue, &clock, 100, MANY, mail, &kept).await;
    row(100, &queue, &clock, mail, &kept).await;
    let began = Instant::now();
    fill(&queue, &clock, count, mail, &kept).await;
    println!(
        "filled in {:.0} s: file {} MB, {} MB of memory at the most",
        began.elapsed().as_secs_f64(),
        file(folder),
        memory("VmHWM")
    );
    row(count, &queue, &clock, mail, &kept).await;
    list(&queue, &clock, mail, &kept).await;
    let began = Instant::now();
    queue.close().await;
    drop(queue);
    println!("closed in {:.2} s", began.elapsed().as_secs_f64());
    println!("after a close: {}", killed_start(folder));
    println!("after a kill:  {}", killed_start(folder));
    let (queue, clock) = open(folder);
    let (before, began) = (file(folder), Instant::now());
    give_out(&queue, count / 2, MANY).await;
    println!("half given out in {:.0} s: file {} MB, was {before}", began.elapsed().as_secs_f64(), file(folder));
    keep(&queue, &clock, count / 2, 512, mail, &kept).await;
    println!("as many kept again: file {} MB", file(folder));
    queue.close().await;
}

async fn row(size: usize, queue: &Queue, clock: &Arc<dyn Clock>, mail: Mail, kept: &AtomicUsize) {
    for clients in [1, MANY] {
        let before = Usage::now();
        keep(queue, clock, SAMPLE, clients, mail, kept).await;
        before.tell(size, &format!("kept, {clients} at once"), SAMPLE);
        let before = Usage::now();
        give_out(queue, SAMPLE, clients).await;
        before.tell(size, &format!("given out, {clients} at once"), SAMPLE);
    }
    let before = Usage::now();
    tokio::join!(keep(queue, clock, SAMPLE, BOTH, mail, kept), give_out(queue, SAMPLE, BOTH));
    before.tell(size, &format!("both, {BOTH} and {BOTH}"), SAMPLE);
}

async fn fill(queue: &Queue, clock: &Arc<dyn Clock>, count: usize, mail: Mail, kept: &AtomicUsize) {
    while kept.load(Ordering::Relaxed) < count {
        keep(queue, clock, (count - kept.load(Ordering::Relaxed)).min(50_000), 512, mail, kept).await;
    }
}

/// So many messages by so many clients.
async fn keep(queue: &Queue, clock: &Arc<dyn Clock>, count: usize, clients: usize, mail: Mail, kept: &AtomicUsize) {
    let mut tasks = tokio::task::JoinSet::new();
    let first = kept.fetch_add(count, Ordering::Relaxed);
    let next = Arc::new(AtomicUsize::new(first));
    for _ in 0..clients {
        let (queue, clock, next) = (queue.clone(), Arc::clone(clock), Arc::clone(&next));
        tasks.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= first + count {
                    return;
                }
                let deposit = deposit(&*clock, mail, number);
                let mut incoming = queue.admit(&deposit.custodian.identity, Some(BODY as u64)).await.unwrap();
                incoming.write(&[b'x'; BODY]).await.unwrap();
                incoming.commit(deposit).await.unwrap();
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

/// Claims so many, reads each, and finishes it.
async fn give_out(queue: &Queue, count: usize, at_once: usize) {
    let done = || Conclusion { outcomes: Vec::new(), next: Next::Finished, report: None, warned: false };
    conclude(queue, count, at_once, done).await;
}

/// Claims so many, reads each, and records this of it.
async fn conclude(queue: &Queue, count: usize, at_once: usize, what: impl Fn() -> Conclusion) {
    let places = Arc::new(tokio::sync::Semaphore::new(at_once));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..count {
        let place = Arc::clone(&places).acquire_owned().await.unwrap();
        let (claim, done) = (queue.claim().await, what());
        tasks.spawn(async move {
            let mut body = claim.body();
            while body.next().await.unwrap().is_some() {}
            claim.conclude(done).await.unwrap();
            drop(place);
        });
        while tasks.try_join_next().is_some() {}
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

/// So many that no route took.
async fn strand(queue: &Queue, clock: &Arc<dyn Clock>, count: usize) {
    let kept = AtomicUsize::new(0);
    let later = clock.now().wall.after(DAY);
    while kept.load(Ordering::Relaxed) < count {
        let few = (count - kept.load(Ordering::Relaxed)).min(50_000);
        keep(queue, clock, few, 512, PLAIN, &kept).await;
        let next =
            || Conclusion { outcomes: vec![Tried::nowhere(0)], next: Next::Retry(later), report: None, warned: false };
        conclude(queue, few, MANY, next).await;
    }
}

/// Looks for what has a route again.
async fn wake(queue: &Queue, clock: &Arc<dyn Clock>) {
    let upstream = Ranked { order: 1, weight: 1, what: Arc::new(Upstream::new("main", "127.0.0.1", 25, "localhost")) };
    let rule = Rule { name: "all".into(), place: None };
    let all = Routes::new(vec![Route::new("all", Wants::default(), rule, vec![upstream]).unwrap()]);
    let kept = AtomicUsize::new(10_000_000);
    for (routes, told) in
        [(Routes::default(), "no route"), (all.clone(), "a route that takes all"), (all, "the same again")]
    {
        let alone = commits(queue, clock, PLAIN, &kept, || false, 200).await;
        let (over, before) = (Arc::new(AtomicBool::new(false)), Usage::now());
        let looking = {
            let (queue, over, now) = (queue.clone(), Arc::clone(&over), clock.now().wall);
            tokio::spawn(async move {
                let found = stranded::look_after_start(&queue, &routes, now).await.unwrap();
                over.store(true, Ordering::Relaxed);
                found
            })
        };
        let beside = commits(queue, clock, PLAIN, &kept, || over.load(Ordering::Relaxed), usize::MAX).await;
        let (found, after) = (looking.await.unwrap(), Usage::now());
        println!(
            "{told}: {found:?} in {:.2} s, {:.2} s of CPU, {} MB of memory at the most; a commit took {alone:.1} ms (median) alone, {beside:.1} ms beside it",
            (after.began - before.began).as_secs_f64(),
            (after.cpu - before.cpu).as_secs_f64(),
            memory("VmHWM"),
        );
    }
}

/// What is told of each message of a list.
#[derive(Clone, Copy, Debug)]
enum Told {
    /// What a line shows.
    Briefs,
    Records,
}

/// Lists all, page by page; how many there are.
async fn list_all(queue: &Queue, told: Told) -> usize {
    let (mut after, mut listed) = (None, 0);
    loop {
        let page = Page { after, limit: usize::MAX };
        let (count, next) = match told {
            Told::Briefs => {
                let part = queue.briefs(Filter::default(), page, Direction::OldestFirst).await.unwrap();
                (part.entries.len(), part.next)
            }
            Told::Records => {
                let part = queue.list(Filter::default(), page).await.unwrap();
                (part.entries.len(), part.next)
            }
        };
        listed += count;
        after = next;
        if after.is_none() {
            return listed;
        }
    }
}

async fn list_alone(queue: &Queue, told: &[Told]) {
    for told in told {
        let before = Usage::now();
        let listed = list_all(queue, *told).await;
        let after = Usage::now();
        println!(
            "{listed} listed alone ({told:?}) in {:.2} s, {:.2} s of CPU",
            (after.began - before.began).as_secs_f64(),
            (after.cpu - before.cpu).as_secs_f64()
        );
    }
}

/// Lists all, alone and while one client commits one message after the other.
async fn list(queue: &Queue, clock: &Arc<dyn Clock>, mail: Mail, kept: &AtomicUsize) {
    list_alone(queue, &[Told::Records, Told::Briefs, Told::Records, Told::Briefs]).await;
    let alone = commits(queue, clock, mail, kept, || false, 200).await;
    let over = Arc::new(AtomicBool::new(false));
    let listing = {
        let (queue, over) = (queue.clone(), Arc::clone(&over));
        tokio::spawn(async move {
            let began = Instant::now();
            let listed = list_all(&queue, Told::Briefs).await;
            over.store(true, Ordering::Relaxed);
            (began.elapsed(), listed)
        })
    };
    let beside = commits(queue, clock, mail, kept, || over.load(Ordering::Relaxed), usize::MAX).await;
    let (took, listed) = listing.await.unwrap();
    println!(
        "{listed} listed in {:.2} s; a commit took {:.1} ms (median) alone, {:.1} ms beside it",
        took.as_secs_f64(),
        alone,
        beside
    );
}

/// One commit after the other; the median in ms.
async fn commits(
    queue: &Queue,
    clock: &Arc<dyn Clock>,
    mail: Mail,
    kept: &AtomicUsize,
    over: impl Fn() -> bool,
    most: usize,
) -> f64 {
    let mut took = Vec::new();
    while !over() && took.len() < most {
        let began = Instant::now();
        keep(queue, clock, 1, 1, mail, kept).await;
        took.push(began.elapsed());
    }
    took.sort();
    took.get(took.len() / 2).map_or(0.0, |median| median.as_secs_f64() * 1000.0)
}

fn deposit(clock: &dyn Clock, mail: Mail, number: usize) -> Deposit {
    let (now, identity) = (clock.now().wall, number % mail.identities);
    let parameters = MailParameters { hold_until: mail.wait.map(|wait| now.after(wait)), ..MailParameters::default() };
    let address = |text: &str| Address::parse(text).unwrap();
    let to = Recipient {
        forward_path: ForwardPath::Address(address(&format!("recipient-{number}@customer.example"))),
        parameters: RecipientParameters::default(),
    };
    let sender = ReversePath::Address(address(&format!("user-{identity}@example.com")));
    Deposit {
        envelope: Envelope::new(sender, parameters, vec![to]).unwrap(),
        custodian: Custodian {
            identity: format!("staff:user-{identity}@example.com"),
            ca: Some("staff".to_owned()),
            fingerprint: "ab".repeat(32),
            chain: vec![("CN=Staff issuing".to_owned(), "01af".to_owned())],
            key: Some([7; 32]),
            links: vec![Link { issuer: [8; 32], issuer_key: Some([9; 32]), serial: vec![1, 0xaf] }],
            vouched: None,
            ends: None,
        },
        trace: TraceFacts {
            client: "192.0.2.1:40000".to_owned(),
            helo: "laptop.example.com".to_owned(),
            protocol: "ESMTPS".to_owned(),
            tls: "TLS1.3 TLS_AES_256_GCM_SHA384".to_owned(),
            arrived: now,
            message_id: Some(format!("<{number}@example.com>")),
        },
    }
}

/// What this process has used so far.
struct Usage {
    began: Instant,
    cpu: Duration,
    octets: u64,
    calls: u64,
    syncs: u64,
}

impl Usage {
    fn now() -> Self {
        let io = std::fs::read_to_string("/proc/self/io").unwrap();
        let figure = |name: &str| -> u64 {
            io.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")?.trim().parse().ok()).unwrap()
        };
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let ticks: u64 = stat
            .rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(|n| n.parse::<u64>().unwrap())
            .sum();
        Self {
            began: Instant::now(),
            cpu: Duration::from_millis(ticks * 10),
            octets: figure("wchar"),
            calls: figure("syscw"),
            syncs: SYNCS.load(Ordering::Relaxed),
        }
    }

    fn tell(&self, size: usize, what: &str, count: usize) {
        let now = Self::now();
        let each = |all: u64| all as f64 / count as f64;
        println!(
            "{size:>9}  {what:<22} {:>9.0} {:>9.0} {:>9.1} {:>10.1} {:>7.2}",
            count as f64 / (now.began - self.began).as_secs_f64(),
            (now.cpu - self.cpu).as_micros() as f64 / count as f64,
            each(now.octets - self.octets) / 1024.0,
            each(now.calls - self.calls),
            each(now.syncs - self.syncs),
        );
    }
}

/// MB of the index and of the file of messages.
fn file(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap());
    files.filter(std::fs::Metadata::is_file).map(|file| file.len()).sum::<u64>() >> 20
}

fn memory(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}
