//! Where log lines go: text for people on a terminal, JSON for machines, journald by setting.
//!
//! Set once at start. Lines go through [`Backlog`] to a thread that writes them, so that nobody who serves mail waits for the log's reader.
//! Never: fails the daemon because of a log that can't be written.

mod journal;

use std::io::{self, IsTerminal as _, Write};
use std::sync::OnceLock;
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{LogFormat, LogLevel, LogSettings};
use crate::sys::Backlog;
use crate::sys::backlog::{Relief, write_patiently};
use journal::{Journal, JournalLayer};

/// For the last lines at the end of the process: a reader that is gone for good must not hold the shutdown.
const FLUSH_MAX: Duration = Duration::from_secs(5);

/// The log of the process; like `tracing`'s subscriber, there is one.
static LOG: OnceLock<Backlog> = OnceLock::new();

/// Starts the log. Called once; a second call changes nothing. Gives what tells whether the log keeps up.
pub fn start(settings: LogSettings) -> Backlog {
    LOG.get_or_init(|| begin(settings)).clone()
}

/// Waits, within a bound, until what was said is written.
pub fn flush() {
    if let Some(backlog) = LOG.get() {
        let left = backlog.flush(FLUSH_MAX);
        if left > 0 {
            // Somewhere else than where nobody reads there is nowhere to say it.
            let _ = writeln!(io::stdout(), "sealpost: {left} octets of the log could not be written");
        }
    }
}

/// Has panics told by the log, with their place: what prints them by itself would wait for the log's reader.
pub fn take_panics() {
    let otherwise = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if LOG.get().is_none() {
            return otherwise(panic);
        }
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, thread = std::thread::current().name().unwrap_or("-"), "{panic}");
    }));
}

fn begin(settings: LogSettings) -> Backlog {
    let level = match settings.level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    // Libraries tell of every handshake; their warnings are enough.
    let filter = EnvFilter::new(format!("warn,sealpost={level},audit={level}"));
    let format = match settings.format {
        LogFormat::Auto if io::stderr().is_terminal() => LogFormat::Text,
        LogFormat::Auto => LogFormat::Json,
        chosen @ (LogFormat::Text | LogFormat::Json | LogFormat::Journald) => chosen,
    };
    let journal = if format == LogFormat::Journald { Journal::connect().ok() } else { None };
    let backlog = Backlog::default();
    let registry = tracing_subscriber::registry().with(filter);
    let lines = || tracing_subscriber::fmt::layer().with_writer(Pen(backlog.clone()));
    let started = match (format, &journal) {
        (LogFormat::Text | LogFormat::Auto, _) => {
            registry.with(lines().with_ansi(io::stderr().is_terminal())).try_init()
        }
        (LogFormat::Journald, Some(_)) => registry.with(JournalLayer::new(backlog.clone())).try_init(),
        (LogFormat::Json | LogFormat::Journald, _) => registry.with(lines().json().flatten_event(true)).try_init(),
    };
    // Only a second start fails; the first log stays.
    drop(started);
    let writing = match journal {
        Some(journal) => backlog.start(move |line| journal.send(line), tell),
        None => backlog.start(|line| write_patiently(&mut io::stderr(), line), tell),
    };
    if let Err(fault) = writing {
        // Without its thread there is no log; this at least is seen.
        eprintln!("sealpost: the log's thread can't be started: {fault}");
    }
    backlog
}

/// Said by the log's own thread when it flows again.
fn tell(relief: Relief) {
    if relief.dropped > 0 {
        tracing::error!(
            lines = relief.dropped,
            "the log did not take these lines; they are lost (was its reader stalled, its disk full?)"
        );
    } else {
        tracing::warn!(
            "the log's reader was stalled; meanwhile no new mail was taken, and none was sent. No line is lost"
        );
    }
}

/// Hands what is written, a whole line at a time, to the backlog.
#[derive(Clone, Debug)]
struct Pen(Backlog);

impl Write for Pen {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Pen {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
