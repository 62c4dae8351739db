//! The daemon as a process: started on a configuration, told ready by sd_notify, its log lines as events, stopped or killed.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::PATIENCE;
use super::bench::Bench;

/// What the thread that reads the log says on the notify socket when the log, and so the process, has ended.
const ENDED: &[u8] = b"X_ENDED=1";

/// The program under test: cargo's of this build, or the one that `SEALPOST_PROGRAM` names, as people run it (`tests/long kill`).
pub fn program() -> &'static str {
    static NAMED: OnceLock<Option<String>> = OnceLock::new();
    NAMED.get_or_init(|| std::env::var("SEALPOST_PROGRAM").ok()).as_deref().unwrap_or(env!("CARGO_BIN_EXE_sealpost"))
}

/// Whether it came up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Ready,
    Ended,
    /// Neither within the time given.
    NotYet,
}

/// A running (or just ended) daemon.
pub struct Process {
    child: Child,
    told: UnixDatagram,
    log: Arc<Log>,
}

/// What it has written to its log so far.
#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    news: Condvar,
    /// Whether nobody reads it just now.
    stalled: Mutex<bool>,
    resumed: Condvar,
}

impl Process {
    /// Starts `sealpost serve` on the configuration without waiting for it; `wrapper` is a command to run it under (strace).
    pub fn spawn(configuration: &Path, wrapper: &[&str]) -> Self {
        let directory = configuration.parent().unwrap();
        // A socket for each start: the end of one daemon is never told to those who wait for the next.
        static STARTS: AtomicU64 = AtomicU64::new(0);
        let socket = directory.join(format!("notify-{}", STARTS.fetch_add(1, Ordering::Relaxed)));
        let told = UnixDatagram::bind(&socket).unwrap();
        let line: Vec<&str> = wrapper.iter().copied().chain([program(), "serve", "--config"]).collect();
        let mut child = Command::new(line[0])
            .args(&line[1..])
            .arg(configuration)
            .env("NOTIFY_SOCKET", &socket)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Log::default());
        let (stderr, kept) = (child.stderr.take().unwrap(), Arc::clone(&log));
        let file = File::options().create(true).append(true).open(directory.join("log")).unwrap();
        std::thread::spawn(move || read_log(stderr, file, &kept, &socket));
        Self { child, told, log }
    }

    /// Starts it and waits until it is ready.
    pub fn start(configuration: &Path) -> Self {
        let mut process = Self::spawn(configuration, &[]);
        match process.wait_ready(PATIENCE) {
            Start::Ready => process,
            other => panic!("sealpost is not ready ({other:?}):\n{}", process.log()),
        }
    }

    /// Waits until it has told systemd this word; words before it are passed over.
    pub fn wait_told(&mut self, word: &str) {
        let mut datagram = [0; 4096];
        self.told.set_read_timeout(Some(PATIENCE)).unwrap();
        loop {
            let count = self.told.recv(&mut datagram).unwrap();
            if datagram[..count].split(|octet| *octet == b'\n').any(|told| told == word.as_bytes()) {
                return;
            }
        }
    }

    /// Waits until it is ready, at most so long.
    pub fn wait_ready(&mut self, most: Duration) -> Start {
        let end = Instant::now() + most;
        let mut datagram = [0; 4096];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Start::NotYet;
            }
            self.told.set_read_timeout(Some(left)).unwrap();
            let Ok(count) = self.told.recv(&mut datagram) else { return Start::NotYet };
            let said = &datagram[..count];
            if said == ENDED {
                return Start::Ended;
            }
            if said.split(|octet| *octet == b'\n').any(|word| word == b"READY=1") {
                return Start::Ready;
            }
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success(), "kill -s {name}");
    }

    /// kill -9, at once.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// A drain: SIGTERM, and its exit status.
    pub fn stop(mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait_ended()
    }

    /// Waits for its end, which somebody else caused.
    pub fn wait_ended(&mut self) -> ExitStatus {
        loop {
            match self.wait_ready(PATIENCE) {
                Start::Ended => return self.child.wait().unwrap(),
                // Of a reload before.
                Start::Ready => {}
                Start::NotYet => panic!("sealpost did not end:\n{}", self.log()),
            }
        }
    }

    pub fn log(&self) -> String {
        self.log.lines.lock().unwrap().join("\n")
    }

    /// From now on nobody reads the log, or somebody does again.
    pub fn stall_log(&self, stalled: bool) {
        *self.log.stalled.lock().unwrap() = stalled;
        self.log.resumed.notify_all();
    }

    /// How many lines the log has: a place to look on from with [`Process::wait_for_log`].
    pub fn log_length(&self) -> usize {
        self.log.lines.lock().unwrap().len()
    }

    /// Waits for a line, from the given one on, that holds all these words.
    pub fn wait_for_log(&self, from: usize, words: &[&str]) -> String {
        let found = |lines: &Vec<String>| {
            lines.iter().skip(from).find(|line| words.iter().all(|word| line.contains(word))).cloned()
        };
        let lines = self.log.lines.lock().unwrap();
        let (lines, _) = self.log.news.wait_timeout_while(lines, PATIENCE, |lines| found(lines).is_none()).unwrap();
        found(&lines).unwrap_or_else(|| panic!("the log never said {words:?}:\n{}", lines.join("\n")))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stall_log(false);
        // Who is traced goes on without its strace, with the locks of its queue: it goes first, and strace ends when it has gone.
        let id = self.child.id();
        let traced = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        if traced.is_empty() {
            let _ = self.child.kill();
        }
        for traced in traced.split_whitespace() {
            let _ = Command::new("kill").args(["-s", "KILL", traced]).status();
        }
        let _ = self.child.wait();
    }
}

fn read_log(stderr: ChildStderr, mut file: File, log: &Log, socket: &PathBuf) {
    for line in BufReader::new(stderr).lines() {
        let Ok(line) = line else { break };
        drop(log.resumed.wait_while(log.stalled.lock().unwrap(), |stalled| *stalled).unwrap());
        writeln!(file, "{line}").unwrap();
        log.lines.lock().unwrap().push(line);
        log.news.notify_all();
    }
    // Whoever still waits for "ready" must not wait on; nobody may be there any more.
    if let Ok(tell) = UnixDatagram::unbound() {
        let _ = tell.send_to(ENDED, socket);
    }
}

/// Runs `sealpost` with these words to its end.
pub fn sealpost(words: &[&str]) -> Output {
    Command::new(program()).args(words).stdin(Stdio::null()).output().unwrap()
}

/// Runs `sealpost` with these words, which must succeed; its standard output.
pub fn sealpost_says(words: &[&str]) -> String {
    let output = sealpost(words);
    assert!(output.status.success(), "sealpost {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// All that `sealpost queue list` knows.
pub fn list_queue(bench: &Bench) -> Vec<Value> {
    let said = sealpost_says(&["queue", "list", "--json", "--limit", "1000000", "--config", bench.config_argument()]);
    said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
