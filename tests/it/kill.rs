//! Promise 3, "250 means kept", on a real process and a real disk: kill -9 at random moments, and strace.
//!
//! The seed is printed; `SEALPOST_SEED=N` repeats a run's choices (not the machine's timing).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use sealpost::sys::{Entropy as _, SeededEntropy};
use serde_json::Value;

use super::harness::PATIENCE;
use super::harness::bench::Bench;
use super::harness::client::{Client, Said};
use super::harness::process::{Process, Start, list_queue};
use super::harness::upstream::{Arrival, Manner, Upstream};

/// Messages that must be acknowledged.
const MESSAGES: usize = 2000;
/// How often the daemon is killed, kills during recovery included.
const KILLS: u64 = 20;
/// Clients that submit at the same time.
const CLIENTS: u64 = 4;
/// How long the relay may take, after the last kill, to deliver or report all it holds.
const SETTLING: Duration = Duration::from_secs(120);

/// What is to become of a message; its recipient's name decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fate {
    Arrives,
    /// Refused upstream: reported to its sender.
    Reported,
    /// Refused upstream, and it has no sender: kept as dead.
    Dead,
    /// Deferred upstream for as long as the test lasts.
    Queued,
}

/// Attempts from this number on are bob's.
pub(super) const OF_BOB: u64 = 1 << 40;

/// One attempt to submit; its number makes all of it, so that what arrives can be compared octet for octet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Attempt(pub(super) u64);

impl Attempt {
    pub(super) fn fate(self) -> Fate {
        match self.0 % 50 {
            7 | 19 | 31 => Fate::Reported,
            11 | 43 => Fate::Dead,
            23 => Fate::Queued,
            _ => Fate::Arrives,
        }
    }

    fn is_refused(self) -> bool {
        matches!(self.fate(), Fate::Reported | Fate::Dead)
    }

    pub(super) fn sender(self) -> &'static str {
        if self.fate() == Fate::Dead { "" } else { self.persona() }
    }

    /// Whose certificate it comes with.
    pub(super) fn persona(self) -> &'static str {
        if self.0 >= OF_BOB { "bob@example.com" } else { "alice@example.com" }
    }

    pub(super) fn recipient(self) -> &'static str {
        match self.fate() {
            Fate::Arrives => "reader@example.net",
            Fate::Reported | Fate::Dead => "gone@example.net",
            Fate::Queued => "later@example.net",
        }
    }

    fn message_id(self) -> String {
        format!("<kill.{}@example.com>", self.0)
    }

    /// Octets of its body: mostly small, one in thirty over the 256 KiB that the queue keeps in memory.
    fn body_length(self) -> usize {
        let spread = usize::try_from(self.0.wrapping_mul(2_654_435_761) % 20_000).unwrap();
        if self.0 % 30 == 13 { 260_000 + 20 * spread } else { spread }
    }

    pub(super) fn message(self) -> Vec<u8> {
        let head = format!(
            "From: {}\r\nTo: {}\r\nDate: Tue, 24 Nov 2026 09:00:00 +0000\r\nMessage-ID: {}\r\nSubject: {}\r\n\r\n",
            self.persona(),
            self.recipient(),
            self.message_id(),
            self.0
        );
        let mut message = head.into_bytes();
        let end = message.len() + self.body_length();
        while message.len() < end {
            message.extend_from_slice(format!("{:020} .{:040}\r\n", self.0, message.len()).as_bytes());
        }
        message
    }
}

/// What the clients and the killer know together.
struct Course {
    bench: Bench,
    next: AtomicU64,
    over: AtomicBool,
    refused: AtomicU64,
    acknowledged: Mutex<BTreeSet<Attempt>>,
    news: Condvar,
}

impl Course {
    fn acknowledge(&self, attempt: Attempt) {
        let mut all = self.acknowledged.lock().unwrap();
        all.insert(attempt);
        if all.len() >= MESSAGES {
            self.over.store(true, Ordering::SeqCst);
        }
        self.news.notify_all();
    }

    fn wait_for_acknowledged(&self, count: usize) {
        let all = self.acknowledged.lock().unwrap();
        let (all, late) = self.news.wait_timeout_while(all, PATIENCE, |all| all.len() < count).unwrap();
        assert!(!late.timed_out(), "only {} of {count} messages were acknowledged", all.len());
    }

    /// Submits until enough are acknowledged; a connection that breaks is opened again, its message is not repeated.
    fn submit_until_over(&self) {
        let tls = self.bench.tls(Some(&self.bench.alice));
        while !self.over.load(Ordering::SeqCst) {
            let Ok((mut client, greeted)) = Client::starttls(self.bench.starttls, &tls) else {
                // Nobody listens while the daemon is dead; it is back within milliseconds.
                std::thread::yield_now();
                continue;
            };
            assert_eq!(greeted.code, 250, "{greeted:?}");
            while !self.over.load(Ordering::SeqCst) {
                let attempt = Attempt(self.next.fetch_add(1, Ordering::SeqCst));
                match client.submit(attempt.sender(), &[attempt.recipient()], &attempt.message()) {
                    Ok(Said { code: 250, .. }) => self.acknowledge(attempt),
                    // The queue may be full for a moment; that is an honest answer, and not an acknowledgement.
                    Ok(Said { code: 400..=499, .. }) => {}
                    // While the client waits, the upstream's refusal is the client's.
                    Ok(Said { code: 550, text }) if text.contains("Upstream said") && attempt.is_refused() => {
                        self.refused.fetch_add(1, Ordering::SeqCst);
                        if client.command("RSET").is_err() {
                            break;
                        }
                    }
                    Ok(said) => panic!("{attempt:?} was refused: {said:?}"),
                    Err(_) => break,
                }
            }
        }
    }
}

/// Ends the course when it is dropped, so that a killer that panics leaves no client submitting for ever.
struct Finish<'a>(&'a Course);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::SeqCst);
    }
}

/// Kills and starts the daemon; how many of the kills hit a recovery.
struct Killer {
    random: SeededEntropy,
    kills: u64,
    in_recovery: u64,
    start_took: Duration,
}

impl Killer {
    fn below(&self, end: u64) -> u64 {
        self.random.next_u64() % end.max(1)
    }

    /// Kills the daemon until all kills are done, spread over the course; the last daemon, alive.
    fn run(&mut self, course: &Course, upstream: &Upstream) -> Process {
        let mut process = self.start(course, upstream);
        while self.kills < KILLS {
            let part = MESSAGES * usize::try_from(self.kills + 1).unwrap() / usize::try_from(KILLS + 2).unwrap();
            course.wait_for_acknowledged(part);
            // A random moment, so that the kill falls anywhere between two acknowledgements: nothing is waited for.
            std::thread::park_timeout(Duration::from_micros(self.below(30_000)));
            process.kill();
            self.kills += 1;
            process = self.start(course, upstream);
        }
        process
    }

    /// Starts it, and one time in two kills it again on its way up.
    fn start(&mut self, course: &Course, upstream: &Upstream) -> Process {
        loop {
            upstream.set_mark(self.kills);
            let began = Instant::now();
            let mut process = Process::spawn(&course.bench.configuration, &[]);
            if self.kills > 0 && self.kills < KILLS && self.below(2) == 0 {
                let most = Duration::from_micros(self.below(u64::try_from(self.start_took.as_micros()).unwrap()));
                if process.wait_ready(most) == Start::NotYet {
                    process.kill();
                    self.kills += 1;
                    self.in_recovery += 1;
                    continue;
                }
            } else {
                assert_eq!(process.wait_ready(PATIENCE), Start::Ready, "{}", process.log());
                self.start_took = began.elapsed();
            }
            return process;
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_under_twenty_kills() {
    assert_eq!(under_twenty_kills(""), 0, "nothing is refused to the clients");
}

#[test]
fn nothing_acknowledged_is_lost_when_mail_goes_through() {
    let refused =
        under_twenty_kills("[[route]]\nname = \"all\"\nupstreams = [\"upstream-0\"]\ndelivery = \"through\"\n");
    assert!(refused > 0, "no refusal of the upstream reached a client: nothing went through");
}

/// How many messages were refused to their clients in the upstream's words.
fn under_twenty_kills(more: &str) -> u64 {
    let seed =
        std::env::var("SEALPOST_SEED").map_or_else(|_| u64::from(std::process::id()), |text| text.parse().unwrap());
    println!("SEALPOST_SEED={seed}");
    let upstream = Upstream::start(Manner::Polite);
    let course = Arc::new(Course {
        bench: Bench::new(&[upstream.address]),
        next: AtomicU64::new(0),
        over: AtomicBool::new(false),
        refused: AtomicU64::new(0),
        acknowledged: Mutex::default(),
        news: Condvar::new(),
    });
    course.bench.configure(&[upstream.address], more);
    let mut killer = Killer { random: SeededEntropy::new(seed), kills: 0, in_recovery: 0, start_took: Duration::ZERO };
    let process = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| course.submit_until_over())).collect();
        let finish = Finish(&course);
        let process = killer.run(&course, &upstream);
        course.wait_for_acknowledged(MESSAGES);
        drop(finish);
        clients.into_iter().for_each(|client| client.join().unwrap());
        process
    });
    let acknowledged = course.acknowledged.lock().unwrap().clone();
    let account = settle(&course.bench, &upstream, &acknowledged);
    let refused = course.refused.load(Ordering::SeqCst);
    println!("{} kills, {} of them during recovery; {account}; {refused} refused", killer.kills, killer.in_recovery);
    assert!(killer.in_recovery > 0, "no kill hit a recovery");
    assert!(acknowledged.len() >= MESSAGES);
    account.check(&acknowledged);
    assert!(process.stop().success(), "the last daemon did not drain");
    refused
}

/// Waits until the relay has nothing left to do but what the upstream defers, and takes the account.
pub(super) fn settle(bench: &Bench, upstream: &Upstream, acknowledged: &BTreeSet<Attempt>) -> Account {
    let end = Instant::now() + SETTLING;
    loop {
        let account = Account::take(bench, upstream);
        let is_settled = account.lost(acknowledged).is_empty() && account.on_their_way().is_empty();
        if is_settled || Instant::now() > end {
            return account;
        }
        // The next arrival, or a moment later: a message that becomes dead makes no arrival.
        let so_far = upstream.arrivals().len();
        upstream.wait_until(Duration::from_millis(500), |all| all.len() > so_far);
    }
}

/// What became of every attempt.
pub(super) struct Account {
    pub(super) arrivals: BTreeMap<Attempt, Vec<Arrival>>,
    pub(super) reports: BTreeMap<Attempt, Vec<Arrival>>,
    /// What the upstream has refused once behind its end, in a mood: it may be reported, or arrive after all.
    refused: BTreeSet<Attempt>,
    pub(super) queued: BTreeSet<Attempt>,
    pub(super) dead: BTreeSet<Attempt>,
}

impl Account {
    fn take(bench: &Bench, upstream: &Upstream) -> Self {
        // First the queue, then the arrivals: what leaves the queue in between is seen twice, never not at all.
        let (queued, dead) = in_queue(bench);
        let refused = upstream.refused().iter().filter_map(|id| attempt_in(id)).collect();
        let (mut arrivals, mut reports) = (BTreeMap::<_, Vec<_>>::new(), BTreeMap::<_, Vec<_>>::new());
        for arrival in upstream.arrivals() {
            match attempt_in(&arrival.message_id()) {
                Some(attempt) => arrivals.entry(attempt).or_default().push(arrival),
                None => {
                    let text = String::from_utf8_lossy(&arrival.octets).into_owned();
                    let about = attempt_in(&text).unwrap_or_else(|| panic!("neither a message nor a report:\n{text}"));
                    reports.entry(about).or_default().push(arrival);
                }
            }
        }
        Self { arrivals, reports, refused, queued, dead }
    }

    fn has(&self, attempt: Attempt) -> bool {
        match attempt.fate() {
            Fate::Arrives => {
                let was_refused = self.refused.contains(&attempt) && self.reports.contains_key(&attempt);
                self.arrivals.contains_key(&attempt) || was_refused
            }
            Fate::Reported => self.reports.contains_key(&attempt),
            Fate::Dead => self.dead.contains(&attempt),
            Fate::Queued => self.queued.contains(&attempt),
        }
    }

    /// In the queue, and not to stay there.
    fn on_their_way(&self) -> Vec<Attempt> {
        self.queued.iter().copied().filter(|attempt| attempt.fate() != Fate::Queued).collect()
    }

    pub(super) fn lost(&self, acknowledged: &BTreeSet<Attempt>) -> Vec<Attempt> {
        acknowledged.iter().copied().filter(|attempt| !self.has(*attempt)).collect()
    }

    /// Arrived or reported more than once.
    fn twice(&self) -> impl Iterator<Item = (&Attempt, &Vec<Arrival>)> {
        self.arrivals.iter().chain(&self.reports).filter(|(_, arrivals)| arrivals.len() > 1)
    }

    /// How many came twice since the upstream never said that it had them, and how many across a kill alone: `check` admits no other.
    pub(super) fn explained(&self) -> (usize, usize) {
        let unanswered = self.twice().filter(|(_, arrivals)| arrivals.iter().any(|arrival| !arrival.answered)).count();
        (unanswered, self.twice().count() - unanswered)
    }

    /// Each attempt has its own fate and no other: also one that was not acknowledged, of which the relay may have made something or nothing.
    pub(super) fn check(&self, acknowledged: &BTreeSet<Attempt>) {
        let lost = self.lost(acknowledged);
        assert!(lost.is_empty(), "acknowledged, and lost: {lost:?}");
        for (attempt, arrivals) in &self.arrivals {
            assert_eq!(attempt.fate(), Fate::Arrives, "{attempt:?} arrived");
            for arrival in arrivals {
                assert!(arrival.octets.ends_with(&attempt.message()), "{attempt:?} arrived changed");
                assert_eq!(arrival.recipients, [attempt.recipient()]);
                assert_eq!(arrival.sender, attempt.sender(), "{attempt:?}");
            }
        }
        for (attempt, reports) in &self.reports {
            let may_fail = attempt.fate() == Fate::Reported || self.refused.contains(attempt);
            assert!(may_fail, "{attempt:?} was reported");
            for report in reports {
                assert_eq!((report.sender.as_str(), &report.recipients[..]), ("", &[attempt.sender().to_owned()][..]));
                let text = String::from_utf8_lossy(&report.octets);
                let says = |line: &str| text.lines().any(|one| one == line);
                let to = format!("Final-Recipient: rfc822; {}", attempt.recipient());
                assert!(says("Action: failed") && says(&to), "{attempt:?} was told otherwise:\n{text}");
            }
            // One decision, one report: the outcome and it are of one transaction, so two that came may only be the same one.
            let ids: BTreeSet<String> = reports.iter().map(Arrival::message_id).collect();
            assert_eq!(ids.len(), 1, "{attempt:?} was reported by several reports");
        }
        for attempt in &self.dead {
            assert_eq!(attempt.fate(), Fate::Dead, "{attempt:?} is dead");
        }
        let left = self.on_their_way();
        assert!(left.is_empty(), "still in the queue, and nothing is in their way: {left:?}");
        // Promise 4: twice only when a kill fell between the upstream's 250 and our record of it, or the upstream never said 250.
        for (attempt, arrivals) in self.twice() {
            let answered = arrivals.iter().filter(|arrival| arrival.answered);
            let marks: Vec<u64> = answered.map(|arrival| arrival.mark).collect();
            let lives: BTreeSet<&u64> = marks.iter().collect();
            assert_eq!(lives.len(), marks.len(), "{attempt:?} was sent twice by one daemon");
        }
    }
}

impl std::fmt::Display for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (unanswered, across) = self.explained();
        write!(
            f,
            "{} arrived, {} reported, {} queued, {} dead; twice: {unanswered} of which the upstream said nothing once, {across} across a kill",
            self.arrivals.len(),
            self.reports.len(),
            self.queued.len(),
            self.dead.len(),
        )
    }
}

/// The attempt whose Message-ID stands in this text.
fn attempt_in(text: &str) -> Option<Attempt> {
    let (_, rest) = text.split_once("<kill.")?;
    rest.split_once("@example.com>")?.0.parse().ok().map(Attempt)
}

/// What the running daemon says is queued, and dead.
fn in_queue(bench: &Bench) -> (BTreeSet<Attempt>, BTreeSet<Attempt>) {
    let messages = list_queue(bench);
    let (dead, queued): (Vec<Value>, Vec<Value>) = messages.into_iter().partition(|one| one["state"] == "dead");
    let attempts = |some: Vec<Value>| some.iter().filter_map(|one| attempt_in(one["message_id"].as_str()?)).collect();
    (attempts(queued), attempts(dead))
}
