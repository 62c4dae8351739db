//! A relay whose mail goes through: intake behind the handshake, scripted upstreams, a simulated disk, and tokio's clock for all.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sealpost::doors::Place;
use sealpost::house::House;
use sealpost::identity::{DomainSet, Rule};
use sealpost::intake::{self, Peer};
use sealpost::queue::{Driving, Filter, Listed, Page, Queue, QueueSettings, Record, Schedule};
use sealpost::route::{Delivery, Route, Routes, Wants};
use sealpost::snapshot::{Snapshot, SoftBounce};
use sealpost::sys::disk::Disk as _;
use sealpost::sys::{Clock, MonoTime, Now, SeededEntropy, SimulatedDisk, Tasks, WallTime};
use sealpost::tls::{Negotiated, PeerChain};
use sealpost::upstream::preference::Ranked;
use sealpost::upstream::{Courier, Standing, Upstream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::Instant;

use crate::dialog::cast::Cast;
use crate::dialog::tls::{IMPLICIT, bare_snapshot};
use crate::recipe::NOW;
use crate::scripted_upstream::{Net, Script, Scripted};

const HOUR: Duration = Duration::from_secs(3600);

/// How long clients wait for their upstream.
pub(crate) const WAIT: Duration = Duration::from_secs(30);

/// What comes behind every header: a line that begins with a dot among others.
pub(crate) const BODY: &str = "one\r\n.two\r\n..three\r\n";

#[derive(Debug)]
struct TokioClock(Instant);

impl Clock for TokioClock {
    fn now(&self) -> Now {
        let elapsed = Instant::now().duration_since(self.0);
        Now { wall: WallTime::from_seconds(NOW).after(elapsed), mono: MonoTime::from_start(elapsed) }
    }
}

pub(crate) struct Stage {
    pub(crate) house: Arc<House>,
    pub(crate) up: Arc<Scripted>,
    pub(crate) disk: SimulatedDisk,
}

/// The upstream of most tests.
pub(crate) fn upstream() -> Upstream {
    Upstream::new("main", "smtp.example.net", 25, "mail.example.com")
}

pub(crate) fn spare() -> Upstream {
    Upstream::new("spare", "spare.example.net", 25, "mail.example.com")
}

pub(crate) fn through(upstreams: Vec<Upstream>) -> Routes {
    let route = Route::for_all("all", upstreams.into_iter().map(Arc::new).collect()).unwrap();
    Routes::new(vec![route.delivered(Delivery::Through(WAIT))])
}

/// Mail to example.org by the spare upstream, all other by the main one.
pub(crate) fn two_ways() -> Routes {
    let rule = |name: &str| Rule { name: name.into(), place: None };
    let by = |name: &str, wants, what| {
        let ranked = vec![Ranked { order: 1, weight: 1, what: Arc::new(what) }];
        Route::new(name, wants, rule(name), ranked).unwrap().delivered(Delivery::Through(WAIT))
    };
    let recipients = Some(DomainSet::read(["example.org"]).unwrap());
    Routes::new(vec![
        by("org", Wants { recipients, ..Wants::default() }, spare()),
        by("rest", Wants::default(), upstream()),
    ])
}

fn usual_settings() -> QueueSettings {
    QueueSettings { driving: Driving::Inline, cache: 1 << 20, ..QueueSettings::new("/queue") }
}

impl Stage {
    /// Inside a runtime.
    pub(crate) fn new(script: Script) -> Self {
        Self::by(script, Script::default(), through(vec![upstream()]))
    }

    /// With a spare upstream, and these routes.
    pub(crate) fn by(script: Script, other: Script, routes: Routes) -> Self {
        Self::kept_by(usual_settings(), script, other, routes)
    }

    /// With such a queue.
    pub(crate) fn kept_by(settings: QueueSettings, script: Script, other: Script, routes: Routes) -> Self {
        Self::at(Arc::new(TokioClock(Instant::now())), settings, script, other, routes)
    }

    /// By this clock.
    pub(crate) fn at(
        clock: Arc<dyn Clock>,
        settings: QueueSettings,
        script: Script,
        other: Script,
        routes: Routes,
    ) -> Self {
        Self::on(SimulatedDisk::new(1), clock, settings, script, other, routes)
    }

    /// The power goes and comes back: another process on the same disk.
    pub(crate) fn after_a_power_cut(&self) -> Self {
        self.disk.crash();
        let clock = Arc::new(TokioClock(Instant::now()));
        Self::on(
            self.disk.clone(),
            clock,
            usual_settings(),
            Script::default(),
            Script::default(),
            through(vec![upstream()]),
        )
    }

    fn on(
        disk: SimulatedDisk,
        clock: Arc<dyn Clock>,
        settings: QueueSettings,
        script: Script,
        other: Script,
        routes: Routes,
    ) -> Self {
        let entropy = Arc::new(SeededEntropy::new(1 + disk.operations()));
        let (queue, _) =
            Queue::open(settings, Arc::new(disk.clone()), Arc::clone(&clock), Arc::clone(&entropy) as Arc<_>).unwrap();
        let (up, spare) = (Scripted::new(script), Scripted::new(other));
        let net = Net::default().name("smtp.example.net", &[1]).host(1, &up);
        let net = net.name("spare.example.net", &[2]).host(2, &spare);
        let courier = Courier::new(Arc::new(net), Arc::clone(&clock), Arc::clone(&entropy) as Arc<_>);
        let upstreams: Vec<_> = routes.upstreams().map(Arc::clone).collect();
        courier.configure(&upstreams);
        // It comes and goes with a runtime of its own, which this one would not let go.
        let bare = std::thread::scope(|scope| scope.spawn(|| bare_snapshot(&clock)).join().unwrap());
        let snapshot = Snapshot {
            routes: Arc::new(routes),
            schedule: Arc::new(Schedule::new(&[HOUR], None, 24 * HOUR).unwrap()),
            ..bare
        };
        let house = House::new(snapshot, queue, clock, entropy, Tasks::default(), courier);
        Self { house: Arc::new(house), up, disk }
    }

    /// What a reload changes.
    pub(crate) fn change(&self, how: impl FnOnce(Snapshot) -> Snapshot) {
        let now = (*self.house.snapshot()).clone();
        let generation = now.generation + 1;
        let new = Snapshot { generation, ..how(now) };
        let upstreams: Vec<_> = new.routes.upstreams().map(Arc::clone).collect();
        self.house.courier.configure(&upstreams);
        self.house.swap(new);
    }

    pub(crate) fn soften(&self) {
        self.change(|now| Snapshot { soft_bounce: SoftBounce::Yes, ..now });
    }

    /// The delivery loop.
    pub(crate) fn deliver(&self) {
        self.house.tasks.spawn("delivery", sealpost::delivery::run(Arc::clone(&self.house)));
    }

    /// A conversation that nobody serves yet, and the client's end of it.
    pub(crate) fn conversation(&self, persona: &str) -> (Client, impl Future<Output = ()> + Send + use<>) {
        self.conversation_over(64 * 1024, persona)
    }

    /// The same over a pipe that takes so many octets until they are read.
    pub(crate) fn conversation_over(
        &self,
        pipe: usize,
        persona: &str,
    ) -> (Client, impl Future<Output = ()> + Send + use<>) {
        self.converse(pipe, persona, Place::apart())
    }

    /// The same in this place.
    pub(crate) fn conversation_in(
        &self,
        persona: &str,
        place: Place,
    ) -> (Client, impl Future<Output = ()> + Send + use<>) {
        self.converse(64 * 1024, persona, place)
    }

    fn converse(&self, pipe: usize, persona: &str, place: Place) -> (Client, impl Future<Output = ()> + Send + use<>) {
        let (ours, theirs) = tokio::io::duplex(pipe);
        let chain = Cast::get().chain(persona).unwrap().map(PeerChain);
        let tls = Negotiated { version: "TLSv1.3", cipher: "TLS_AES_256_GCM_SHA384".to_owned(), key_exchange: None };
        let client = SocketAddr::from(([192, 0, 2, 50], 40_000));
        let peer = Peer { client, tls, chain: chain.into(), exporter: None, door: IMPLICIT };
        let intake = intake::converse(theirs, peer, Arc::clone(&self.house), self.house.tasks.drain(), place);
        (Client { stream: ours, read: Vec::new(), persona: persona.to_owned() }, intake)
    }

    /// A connection at one of the snapshot's doors, from its first octet on, that nobody serves yet.
    pub(crate) fn connection(&self, door: usize) -> (Client, impl Future<Output = ()> + Send + use<>) {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let client = SocketAddr::from(([192, 0, 2, 50], 40_000));
        let intake = intake::serve(theirs, client, door, Arc::clone(&self.house), Place::apart());
        (Client { stream: ours, read: Vec::new(), persona: "nobody".to_owned() }, intake)
    }

    /// A client that has said EHLO.
    pub(crate) async fn client(&self, persona: &str) -> Client {
        let (mut client, intake) = self.conversation(persona);
        self.house.tasks.spawn("connection", Box::pin(intake));
        assert!(client.hear().await.starts_with("220"));
        assert!(client.say("EHLO client.example").await.starts_with("250"));
        client
    }

    /// One message of alice's to these; the last word on it.
    pub(crate) async fn send(&self, to: &[&str]) -> String {
        self.client("alice").await.send(to).await
    }

    pub(crate) fn standing(&self) -> Standing {
        self.house.courier.standings().into_iter().find(|one| one.upstream == "main").unwrap()
    }

    pub(crate) async fn records(&self) -> Vec<Record> {
        let listing = self.house.queue.list(Filter::default(), Page { after: None, limit: 1000 }).await.unwrap();
        let record = |listed: Listed| match listed {
            Listed::Message(record) => *record,
            Listed::Unreadable(id, reason) => panic!("{id}: {reason}"),
        };
        listing.entries.into_iter().map(record).collect()
    }

    /// That nothing is left of it but what is in the queue: no place, no task, no file.
    pub(crate) async fn is_clean(&self, story: &str) {
        self.house.tasks.wait(Duration::from_secs(1)).await;
        let standing = self.standing();
        assert_eq!((standing.busy, standing.waiting), (0, 0), "{story}: a place is held by nobody");
        let files = self.disk.list(std::path::Path::new("/queue/bodies")).unwrap();
        let large = self.records().await.iter().filter(|record| record.length > 256 * 1024).count();
        assert_eq!(files.len(), large, "{story}: {files:?}");
    }
}

/// A client behind the handshake.
pub(crate) struct Client {
    stream: DuplexStream,
    read: Vec<u8>,
    persona: String,
}

impl Client {
    pub(crate) async fn write(&mut self, octets: &[u8]) {
        self.stream.write_all(octets).await.unwrap();
    }

    /// The next reply, its lines joined; empty when the server is gone.
    pub(crate) async fn hear(&mut self) -> String {
        let mut reply = String::new();
        loop {
            while let Some(end) = self.read.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = self.read.drain(..end + 2).collect();
                reply.push_str(&String::from_utf8_lossy(&line));
                if line.get(3) != Some(&b'-') {
                    return reply.trim_end().to_owned();
                }
            }
            if self.stream.read_buf(&mut self.read).await.unwrap_or(0) == 0 {
                return reply;
            }
        }
    }

    pub(crate) async fn say(&mut self, line: &str) -> String {
        self.write(format!("{line}\r\n").as_bytes()).await;
        self.hear().await
    }

    /// The same, if the server still takes it.
    pub(crate) async fn try_write(&mut self, octets: &[u8]) -> bool {
        self.stream.write_all(octets).await.is_ok()
    }

    /// The same to a server that may be gone; empty when it is.
    pub(crate) async fn try_say(&mut self, octets: &str) -> String {
        if self.stream.write_all(octets.as_bytes()).await.is_err() {
            return String::new();
        }
        self.hear().await
    }

    pub(crate) async fn mail(&mut self, parameters: &str) -> String {
        let line = format!("MAIL FROM:<{}@example.com>{parameters}", self.persona);
        self.say(&line).await
    }

    pub(crate) async fn rcpt(&mut self, to: &str) -> String {
        self.say(&format!("RCPT TO:{to}")).await
    }

    /// Up to the 354.
    pub(crate) async fn begin(&mut self, to: &[&str]) {
        assert!(self.mail("").await.starts_with("250"));
        for one in to {
            let said = self.rcpt(&format!("<{one}>")).await;
            assert!(said.starts_with("250"), "{one}: {said}");
        }
        assert!(self.say("DATA").await.starts_with("354"));
    }

    /// Up to the 250 to the first chunk, of more.
    pub(crate) async fn begin_chunks(&mut self) {
        assert!(self.mail("").await.starts_with("250"));
        assert!(self.rcpt("<r0@example.net>").await.starts_with("250"));
        let header = format!("From: {}@example.com\r\n\r\n", self.persona);
        self.write(format!("BDAT {}\r\n{header}", header.len()).as_bytes()).await;
        let said = self.hear().await;
        assert!(said.starts_with("250"), "{said}");
    }

    pub(crate) fn message(&self, more: &str) -> String {
        format!(
            "From: {}@example.com\r\nMessage-ID: <1@example.com>\r\n\r\n{}{more}.\r\n",
            self.persona,
            BODY.replace("\r\n.", "\r\n..")
        )
    }

    /// A message, as far as it comes; the last reply.
    pub(crate) async fn send(&mut self, to: &[&str]) -> String {
        self.send_with("", to, "").await
    }

    pub(crate) async fn send_with(&mut self, parameters: &str, to: &[&str], more: &str) -> String {
        let said = self.mail(parameters).await;
        if !said.starts_with("250") {
            return said;
        }
        let mut refused = String::new();
        for one in to {
            let path = if one.starts_with('<') { (*one).to_owned() } else { format!("<{one}>") };
            let said = self.rcpt(&path).await;
            if !said.starts_with("250") {
                refused = said;
            }
        }
        let said = self.say("DATA").await;
        if !said.starts_with("354") {
            return refused;
        }
        let message = self.message(more);
        self.write(message.as_bytes()).await;
        self.hear().await
    }
}
