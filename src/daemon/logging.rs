//! Where log lines go: text for people on a terminal, JSON for machines, journald by setting.
//!
//! Set once at start. Never: fails the daemon because of a log that can't be written.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{LogFormat, LogLevel, LogSettings};

/// Starts the log. Called once; a second call changes nothing.
pub fn start(settings: LogSettings) {
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
    let registry = tracing_subscriber::registry().with(filter);
    let lines = || tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let started = match format {
        LogFormat::Text | LogFormat::Auto => registry.with(lines().with_ansi(io::stderr().is_terminal())).try_init(),
        LogFormat::Json => registry.with(lines().json().flatten_event(true)).try_init(),
        LogFormat::Journald => match tracing_journald::layer() {
            Ok(journal) => registry.with(journal).try_init(),
            Err(_) => registry.with(lines().json().flatten_event(true)).try_init(),
        },
    };
    // Only a second start fails; the first log stays.
    drop(started);
}
