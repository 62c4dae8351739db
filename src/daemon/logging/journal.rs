//! The systemd journal: an event as a datagram of its native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL).
//!
//! The layer only writes octets into the backlog; the log's thread sends them. Fields of ours have the prefix `F_`: `journalctl F_EVENT=accepted`.
//! Never: sends from a thread that serves mail.

use std::fmt::{self, Write as _};
use std::io;
use std::os::unix::net::UnixDatagram;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::sys::Backlog;

/// Where the journal listens.
const SOCKET: &str = "/run/systemd/journal/socket";

/// The longest value of one field, octets: the whole must fit into one datagram (about 200 KiB on Linux).
const VALUE_MAX: usize = 64 * 1024;

/// The way to the journal.
#[derive(Debug)]
pub(super) struct Journal {
    socket: UnixDatagram,
}

impl Journal {
    /// A way to the journal.
    ///
    /// # Errors
    /// There is no journal.
    pub(super) fn connect() -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(SOCKET)?;
        Ok(Self { socket })
    }

    /// Sends one entry; waits for a journal that is busy. One that was started anew is found again.
    ///
    /// # Errors
    /// The journal is gone, or does not take the entry.
    pub(super) fn send(&self, entry: &[u8]) -> io::Result<()> {
        if self.socket.send(entry).is_err() {
            self.socket.connect(SOCKET)?;
            self.socket.send(entry)?;
        }
        Ok(())
    }
}

/// Turns events into entries of the journal.
#[derive(Debug)]
pub(super) struct JournalLayer {
    backlog: Backlog,
}

impl JournalLayer {
    pub(super) fn new(backlog: Backlog) -> Self {
        Self { backlog }
    }
}

impl<S: Subscriber> Layer<S> for JournalLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.backlog.push(entry(event));
    }
}

fn entry(event: &Event<'_>) -> Vec<u8> {
    let about = event.metadata();
    let mut entry = Entry(Vec::with_capacity(512));
    entry.put("PRIORITY", priority(*about.level()));
    entry.put("SYSLOG_IDENTIFIER", "sealpost");
    entry.put("TARGET", about.target());
    if let (Some(file), Some(line)) = (about.file(), about.line()) {
        entry.put("CODE_FILE", file);
        entry.put("CODE_LINE", &line.to_string());
    }
    event.record(&mut entry);
    entry.0
}

/// syslog's numbers (RFC 5424 §6.2.1); what happens to each message is a notice.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "5",
        Level::DEBUG => "6",
        Level::TRACE => "7",
    }
}

struct Entry(Vec<u8>);

impl Entry {
    /// `NAME`, line feed, length as 64 bits little-endian, value, line feed: a value may hold anything, a line feed too, and stays one value.
    fn put(&mut self, name: &str, value: &str) {
        let value = value.get(..value.floor_char_boundary(VALUE_MAX)).unwrap_or_default();
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(b'\n');
        self.0.extend_from_slice(&u64::try_from(value.len()).unwrap_or(u64::MAX).to_le_bytes());
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(b'\n');
    }

    fn put_field(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            return self.put("MESSAGE", value);
        }
        let name: String =
            field.name().chars().filter(|letter| letter.is_ascii_alphanumeric() || *letter == '_').collect();
        self.put(&format!("F_{}", name.to_ascii_uppercase()), value);
    }
}

impl Visit for Entry {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put_field(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        // Writing to a text does not fail; what a value's own Debug refuses is left out.
        let _ = write!(text, "{value:?}");
        self.put_field(field, &text);
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn an_event_becomes_one_entry_whatever_stands_in_its_values() {
        let backlog = Backlog::default();
        let (take, taken) = std::sync::mpsc::sync_channel(1);
        backlog
            .start(move |line| take.send(line.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe.into()), drop)
            .unwrap();
        let subscriber = tracing_subscriber::registry().with(JournalLayer::new(backlog));
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(target: "audit", event = "refused", sender = "a\nMESSAGE=forged", octets = 7, "no");
        });
        let entry = taken.recv_timeout(std::time::Duration::from_secs(60)).unwrap();
        let holds = |name: &str, value: &str| {
            let mut wanted = Entry(Vec::new());
            wanted.put(name, value);
            entry.windows(wanted.0.len()).any(|window| window == wanted.0)
        };
        for (name, value) in [
            ("PRIORITY", "4"),
            ("TARGET", "audit"),
            ("MESSAGE", "no"),
            ("F_EVENT", "refused"),
            ("F_SENDER", "a\nMESSAGE=forged"),
            ("F_OCTETS", "7"),
        ] {
            assert!(holds(name, value), "{name}: {:?}", String::from_utf8_lossy(&entry));
        }
    }

    #[test]
    fn an_entry_is_sent_as_one_datagram() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listening = UnixDatagram::bind(&path).unwrap();
        let socket = UnixDatagram::unbound().unwrap();
        socket.connect(&path).unwrap();
        Journal { socket }.send(b"MESSAGE=x\n").unwrap();
        let mut octets = [0; 64];
        let count = listening.recv(&mut octets).unwrap();
        assert_eq!(&octets[..count], b"MESSAGE=x\n");
    }
}
