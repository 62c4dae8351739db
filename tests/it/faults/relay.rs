//! A relay with room for one message at a time, on a simulated disk; and clients that speak to intake behind the handshake.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sealpost::doors::Place;
use sealpost::house::House;
use sealpost::intake::{self, Peer};
use sealpost::mail::{Cost, QueueId, Rates};
use sealpost::queue::{Driving, Filter, Listed, Page, Queue, QueueSettings, Record, Schedule, Spent};
use sealpost::route::{Delivery, Route, Routes};
use sealpost::snapshot::Snapshot;
use sealpost::sys::disk::Disk as _;
use sealpost::sys::{Clock, MonoTime, Now, SeededEntropy, SimulatedDisk, Tasks, WallTime};
use sealpost::tls::{Negotiated, PeerChain};
use sealpost::upstream::{Courier, Standing, Upstream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::Instant;

use crate::dialog::cast::Cast;
use crate::dialog::tls::{IMPLICIT, bare_snapshot};
use crate::recipe::NOW;
use crate::scripted_upstream::{Net, Scripted, Zeros};

const UPSTREAM: &str = "smtp.example.net";
const HOUR: Duration = Duration::from_secs(3600);

/// Larger than what the queue gathers in memory: a body in a file.
pub(super) const LARGE: usize = 270_000;

/// tokio's clock.
#[derive(Debug)]
struct TokioClock(Instant);

impl Clock for TokioClock {
    fn now(&self) -> Now {
        let elapsed = Instant::now().duration_since(self.0);
        Now { wall: WallTime::from_seconds(NOW).after(elapsed), mono: MonoTime::from_start(elapsed) }
    }
}

pub(super) struct Relay {
    pub(super) disk: SimulatedDisk,
    pub(super) house: Arc<House>,
}

fn settings(driving: Driving) -> QueueSettings {
    QueueSettings {
        driving,
        cache: 1 << 20,
        // What one message being received needs, and no more.
        memory: 64 * 1024,
        backlog: 512 * 1024,
        receiving_per_identity: 1,
        reserve_size: 1 << 20,
        ..QueueSettings::new("/queue")
    }
}

impl Relay {
    /// Inside a runtime.
    pub(super) fn new(driving: Driving, upstream: &Arc<Scripted>) -> Self {
        Self::on(SimulatedDisk::new(1), driving, upstream)
    }

    pub(super) fn on(disk: SimulatedDisk, driving: Driving, upstream: &Arc<Scripted>) -> Self {
        Self::delivering(Delivery::Queued, disk, driving, upstream)
    }

    /// One that asks the upstream while the client waits.
    pub(super) fn through(upstream: &Arc<Scripted>) -> Self {
        let delivery = Delivery::Through(Duration::from_secs(30));
        Self::delivering(delivery, SimulatedDisk::new(1), Driving::Inline, upstream)
    }

    fn delivering(delivery: Delivery, disk: SimulatedDisk, driving: Driving, upstream: &Arc<Scripted>) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(TokioClock(Instant::now()));
        let entropy = Arc::new(SeededEntropy::new(disk.operations()));
        let (queue, recovery) =
            Queue::open(settings(driving), Arc::new(disk.clone()), Arc::clone(&clock), Arc::clone(&entropy) as Arc<_>)
                .unwrap();
        assert!(recovery.set_aside.is_empty() && recovery.lost.is_none(), "{recovery:?}");
        let net = Net::default().name(UPSTREAM, &[1]).host(1, upstream);
        let courier = Courier::new(Arc::new(net), Arc::clone(&clock), Arc::new(Zeros));
        let main = Arc::new(Upstream::new("main", UPSTREAM, 25, "mail.example.com"));
        courier.configure(std::slice::from_ref(&main));
        // It comes and goes with a runtime of its own, which this one would not let go.
        let bare = std::thread::scope(|scope| scope.spawn(|| bare_snapshot(&clock)).join().unwrap());
        let snapshot = Snapshot {
            routes: Arc::new(Routes::new(vec![Route::for_all("all", vec![main]).unwrap().delivered(delivery)])),
            schedule: Arc::new(Schedule::new(&[HOUR], None, 24 * HOUR).unwrap()),
            ..bare
        };
        let house = House::new(snapshot, queue, clock, entropy, Tasks::default(), courier);
        Self { disk, house: Arc::new(house) }
    }

    /// One conversation behind the handshake, and the client's end of it.
    pub(super) fn conversation(&self, persona: &str) -> (DuplexStream, impl Future<Output = ()> + use<>) {
        let (ours, theirs) = tokio::io::duplex(16 * 1024);
        let chain = Cast::get().chain(persona).unwrap().map(PeerChain);
        let tls = Negotiated { version: "TLSv1.3", cipher: "TLS_AES_256_GCM_SHA384".to_owned(), key_exchange: None };
        let client = SocketAddr::from(([192, 0, 2, 50], 40_000));
        let peer = Peer { client, tls, chain: chain.into(), exporter: None, door: IMPLICIT };
        (ours, intake::converse(theirs, peer, Arc::clone(&self.house), self.house.tasks.drain(), Place::apart()))
    }

    /// Plays a dialog to its end; the code of the last reply.
    pub(super) async fn submit(&self, dialog: &Dialog) -> u16 {
        let (ours, intake) = self.conversation(dialog.persona);
        let heard = Arc::default();
        let client = dialog.play(ours, usize::MAX, Arc::clone(&heard));
        tokio::join!(client, Box::pin(intake));
        let heard = heard.lock().unwrap();
        *heard.last().expect("a reply")
    }

    /// How the way to the upstream stands.
    pub(super) fn standing(&self) -> Standing {
        self.house.courier.standings().into_iter().find(|one| one.upstream == "main").unwrap()
    }

    pub(super) async fn records(&self) -> Vec<Record> {
        let listing = self.house.queue.list(Filter::default(), Page { after: None, limit: 1000 }).await.unwrap();
        let record = |listed: Listed| match listed {
            Listed::Message(record) => *record,
            Listed::Unreadable(id, reason) => panic!("{id}: {reason}"),
        };
        listing.entries.into_iter().map(record).collect()
    }

    pub(super) async fn body(&self, id: QueueId) -> Vec<u8> {
        let mut reader = self.house.queue.body(id).await.unwrap();
        let mut octets = Vec::new();
        while let Some(piece) = reader.next().await.unwrap() {
            octets.extend_from_slice(&piece);
        }
        octets
    }

    /// That nothing is left of whoever was here: `kept` messages are whole, and besides them there is nothing on the disk and nothing in memory.
    pub(super) async fn is_clean(&self, dialog: &Dialog, kept: usize, story: &str) {
        let records = self.records().await;
        assert_eq!(records.len(), kept, "{story}: messages in the queue");
        for record in &records {
            assert!(self.body(record.id).await.ends_with(&dialog.message), "{story}: not whole");
        }
        let files = self.disk.list(Path::new("/queue/bodies")).unwrap();
        let in_files = if dialog.message.len() >= LARGE { kept } else { 0 };
        assert_eq!(files.len(), in_files, "{story}: body files {files:?}");
        assert_eq!(self.house.tasks.wait(Duration::ZERO).await, 0, "{story}: tasks");
        // What was under way of a limit was given back: what is kept counts, and no more.
        let counted = if dialog.counted { kept } else { 0 };
        let rates = Rates { messages_per_hour: Some(u32::try_from(counted).unwrap() + 1), ..Rates::default() };
        let spent =
            self.house.queue.spend(dialog.identity(), rates, Cost { messages: 1, recipients: 1 }).await.unwrap();
        assert!(matches!(spent, Spent::Granted(_)), "{story}: part of the limit is held for nobody");
        // Memory, backlog and place: the next message of the same identity needs all there is.
        let room = self.house.queue.admit(dialog.identity(), Some(LARGE as u64)).await;
        assert!(room.is_ok(), "{story}: no room for the next: {room:?}");
    }
}

/// What a client says; before each part it has heard so many replies.
pub(super) struct Dialog {
    pub(super) persona: &'static str,
    parts: Vec<(Vec<u8>, usize)>,
    /// What is kept at the end, below the fields of the relay.
    pub(super) message: Vec<u8>,
    /// Whether its grant has limits.
    pub(super) counted: bool,
}

/// How the message goes over the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Data,
    /// By BDAT, in two chunks.
    Chunks,
    /// After AUTH PLAIN.
    Guarded,
    /// By somebody whose messages are counted.
    Counted,
}

impl Dialog {
    pub(super) fn new(how: How, length: usize) -> Self {
        let persona = match how {
            How::Guarded => "guarded",
            How::Counted => "metered",
            How::Data | How::Chunks => "alice",
        };
        let mut message =
            format!("From: {persona}@example.com\r\nMessage-ID: <1@example.com>\r\nSubject: x\r\n\r\n").into_bytes();
        while message.len() < length {
            message.extend_from_slice(b"no dot, and a line\r\n");
        }
        let mut parts = vec![(b"EHLO client.example\r\n".to_vec(), 1)];
        if how == How::Guarded {
            parts.push((b"AUTH PLAIN\r\n".to_vec(), 1));
            parts.push((b"AGd1YXJkZWQAaHVudGVyMg==\r\n".to_vec(), 1));
        }
        let envelope = format!("MAIL FROM:<{persona}@example.com>\r\nRCPT TO:<r0@example.net>\r\n");
        if how == How::Chunks {
            let (first, last) = message.split_at(message.len() / 2);
            let begun = format!("{envelope}BDAT {}\r\n", first.len()).into_bytes();
            parts.push(([&begun, first].concat(), 1));
            parts.push(([format!("BDAT {} LAST\r\n", last.len()).as_bytes(), last].concat(), 3));
        } else {
            parts.push((format!("{envelope}DATA\r\n").into_bytes(), 1));
            parts.push(([&message, &b".\r\n"[..]].concat(), 3));
        }
        parts.push((b"QUIT\r\n".to_vec(), 1));
        Self { persona, parts, message, counted: how == How::Counted }
    }

    fn identity(&self) -> &'static str {
        if self.persona == "alice" { "staff:alice@example.com" } else { self.persona }
    }

    /// Replies up to the one to the message.
    pub(super) fn replies(&self) -> usize {
        self.parts.iter().map(|(_, wanted)| wanted).sum()
    }

    /// Octets that the client says in all.
    pub(super) fn length(&self) -> usize {
        self.parts.iter().map(|(octets, _)| octets.len()).sum()
    }

    /// From which octet on the relay may have the message.
    pub(super) fn complete_at(&self) -> usize {
        self.length() - b"QUIT\r\n".len()
    }

    /// Says so many octets of it and is gone, or when it is refused something; the codes of the replies, the one to QUIT left out.
    pub(super) async fn play(&self, mut stream: DuplexStream, mut octets: usize, heard: Arc<Mutex<Vec<u16>>>) {
        let mut replies = Replies::default();
        for (part, wanted) in &self.parts {
            for _ in 0..*wanted {
                let Some(code) = replies.next(&mut stream).await else { return };
                heard.lock().unwrap().push(code);
                if code >= 400 {
                    return;
                }
            }
            let said = part.len().min(octets);
            if stream.write_all(&part[..said]).await.is_err() {
                return;
            }
            octets -= said;
            if octets == 0 {
                return;
            }
        }
        // 221, and the end.
        while replies.next(&mut stream).await.is_some() {}
    }
}

#[derive(Default)]
struct Replies(Vec<u8>);

impl Replies {
    async fn next(&mut self, stream: &mut DuplexStream) -> Option<u16> {
        loop {
            while let Some(end) = self.0.iter().position(|octet| *octet == b'\n') {
                let line: Vec<u8> = self.0.drain(..=end).collect();
                if line.get(3) != Some(&b'-') {
                    return String::from_utf8_lossy(&line[..3]).parse().ok();
                }
            }
            if stream.read_buf(&mut self.0).await.ok()? == 0 {
                return None;
            }
        }
    }
}

/// Virtual time: a wait costs nothing.
pub(super) fn virtual_time() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}
