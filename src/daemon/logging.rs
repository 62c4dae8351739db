//! Where log lines go: text for people on a terminal, JSON for machines, journald by setting.
//!
//! Set once at start. Never: fails the daemon because of a log that can't be written.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// Text.
    Text,
    /// One JSON object a line.
    Json,
    /// The systemd journal, fields kept; JSON on stderr when there is no journal.
    Journald,
}

/// The least level that is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// What an operator must see.
    Error,
    /// What an operator should see, refusals included.
    Warn,
    /// Each message's way.
    #[default]
    Info,
    /// Each connection's end.
    Debug,
    /// Everything.
    Trace,
}

/// Starts the log. Called once; a second call changes nothing.
pub fn start(format: LogFormat, level: LogLevel) {
    // rustls and the DNS of libraries tell of every handshake; their warnings are enough.
    let level = match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    let filter = EnvFilter::new(format!("warn,sealpost={level},audit={level}"));
    let format = match format {
        LogFormat::Auto if io::stderr().is_terminal() => LogFormat::Text,
        LogFormat::Auto => LogFormat::Json,
        chosen => chosen,
    };
    let registry = tracing_subscriber::registry().with(filter);
    let text = || tracing_subscriber::fmt::layer().with_writer(io::stderr).with_span_events(FmtSpan::NONE);
    let started = match format {
        LogFormat::Text | LogFormat::Auto => registry.with(text().with_ansi(io::stderr().is_terminal())).try_init(),
        LogFormat::Json => registry.with(text().json().flatten_event(true).with_current_span(false)).try_init(),
        LogFormat::Journald => match tracing_journald::layer() {
            Ok(journal) => registry.with(journal).try_init(),
            Err(_) => registry.with(text().json().flatten_event(true)).try_init(),
        },
    };
    // Only a second start fails: the first log stays.
    drop(started);
}
