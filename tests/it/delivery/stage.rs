//! A house with its delivery loop, a queue on a simulated disk, scripted upstreams, and tokio's clock for all.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sealpost::content::HeaderLimits;
use sealpost::delivery;
use sealpost::house::House;
use sealpost::identity::{DomainSet, Rule};
use sealpost::intake::{IntakeLimits, LingerLimits, PaceLimits};
use sealpost::mail::{Address, Envelope, ForwardPath, MailParameters, QueueId, Recipient, ReversePath};
use sealpost::queue::{
    Custodian, Deposit, Driving, Filter, Listed, Page, Queue, QueueSettings, REPORTS, Record, Schedule, TraceFacts,
};
use sealpost::report::Reporter;
use sealpost::route::{NamePattern, Route, Routes, Wants};
use sealpost::snapshot::{DoorLimits, ReceivedDetail, Recheck, Snapshot};
use sealpost::sys::{Clock, MonoTime, Now, SeededEntropy, SimulatedDisk, Tasks, WallTime};
use sealpost::upstream::preference::Ranked;
use sealpost::upstream::{Courier, Standing, Upstream};
use tokio::time::Instant;

use crate::scripted_upstream::{Net, PRESENT, Script, Scripted, Zeros};

const HOUR: Duration = Duration::from_secs(3600);
const MESSAGE: &[u8] = b"From: alice@example.com\r\nSubject: x\r\n\r\ntext\r\n";

/// Both clocks as tokio has them; the wall clock is set by [`Stage::set_wall`].
#[derive(Debug)]
struct TokioClock {
    start: Instant,
    /// What the wall clock showed then, or would have.
    wall: Mutex<WallTime>,
}

impl TokioClock {
    fn at(wall: WallTime) -> Arc<Self> {
        Arc::new(Self { start: Instant::now(), wall: Mutex::new(wall) })
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Now {
        let elapsed = self.start.elapsed();
        Now { wall: self.wall.lock().unwrap().after(elapsed), mono: MonoTime::from_start(elapsed) }
    }
}

pub(crate) struct Stage {
    pub(crate) house: Arc<House>,
    pub(crate) disk: SimulatedDisk,
    pub(crate) up: Arc<Scripted>,
    pub(crate) spare: Option<Arc<Scripted>>,
    clock: Arc<TokioClock>,
}

/// In which direction the wall clock is set.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Set {
    Forward(Duration),
    Back(Duration),
}

/// The upstream of most tests.
pub(crate) fn upstream() -> Upstream {
    Upstream::new("main", "smtp.example.net", 25, "relay.example.com")
}

pub(crate) fn spare() -> Upstream {
    Upstream::new("spare", "spare.example.net", 25, "relay.example.com")
}

fn queue_settings() -> QueueSettings {
    // Most tests are about the upstreams: one identity alone must not be in its own way.
    let (driving, per_identity) = (Driving::Inline, 128);
    QueueSettings { driving, per_identity, cache: 1 << 20, ..QueueSettings::new("/queue") }
}

impl Stage {
    pub(crate) fn new(script: Script, upstream: Upstream) -> Self {
        Self::on(Scripted::new(script), None, vec![upstream])
    }

    pub(crate) fn with_spare(main: Script, other: Script) -> Self {
        Self::on(Scripted::new(main), Some(Scripted::new(other)), vec![upstream(), spare()])
    }

    /// The same; the main one has one connection.
    pub(crate) fn one_by_one_with_spare(main: Script, other: Script) -> Self {
        let one = Upstream { connections: 1, ..upstream() };
        Self::on(Scripted::new(main), Some(Scripted::new(other)), vec![one, spare()])
    }

    /// Mail to example.org goes by the spare alone, all other by the main one alone.
    pub(crate) fn with_routes(main: Script, other: Script) -> Self {
        let stage = Self::on(Scripted::new(main), Some(Scripted::new(other)), vec![upstream(), spare()]);
        stage.route(vec![to_example_org(spare()), rest(upstream())]);
        stage
    }

    /// What the daemon does on a reload that changes routes.
    pub(crate) fn route(&self, routes: Vec<Route>) {
        let now = self.house.snapshot();
        self.house.swap(Snapshot { routes: Arc::new(Routes::new(routes)), ..(*now).clone() });
    }

    /// One identity has ten turns at a time, as in a daemon.
    pub(crate) fn with_few_turns(script: Script) -> Self {
        let settings = QueueSettings { per_identity: 10, ..queue_settings() };
        Self::on_queue(Scripted::new(script), None, vec![upstream()], settings)
    }

    /// The same, with the routes of [`Self::with_routes`].
    pub(crate) fn with_few_turns_and_routes(main: Script, other: Script) -> Self {
        let settings = QueueSettings { per_identity: 10, ..queue_settings() };
        let spare_host = Some(Scripted::new(other));
        let stage = Self::on_queue(Scripted::new(main), spare_host, vec![upstream(), spare()], settings);
        stage.route(vec![to_example_org(spare()), rest(upstream())]);
        stage
    }

    /// With a queue of so many messages, of which one identity may have a tenth.
    pub(crate) fn with_room_for(count: u64, script: Script) -> Self {
        let settings = QueueSettings { count, reserve_count: 0, share_per_identity: 10, ..queue_settings() };
        Self::on_queue(Scripted::new(script), None, vec![upstream()], settings)
    }

    fn on(up: Arc<Scripted>, spare: Option<Arc<Scripted>>, upstreams: Vec<Upstream>) -> Self {
        Self::on_queue(up, spare, upstreams, queue_settings())
    }

    fn on_queue(
        up: Arc<Scripted>,
        spare: Option<Arc<Scripted>>,
        upstreams: Vec<Upstream>,
        settings: QueueSettings,
    ) -> Self {
        Self::upon(up, spare, upstreams, settings, TokioClock::at(PRESENT), SimulatedDisk::new(1))
    }

    /// The wall clock is set.
    pub(crate) fn set_wall(&self, by: Set) {
        let mut wall = self.clock.wall.lock().unwrap();
        *wall = by.from(*wall);
    }

    /// The daemon ends, and another begins on its disk, with a clock that differs by so much.
    pub(crate) async fn restart(self, upstream: Upstream, by: Set) -> Self {
        let wall = by.from(self.house.now().wall);
        self.house.tasks.begin_drain();
        self.pass(Duration::from_secs(1)).await;
        self.house.queue.close().await;
        Self::upon(self.up, self.spare, vec![upstream], queue_settings(), TokioClock::at(wall), self.disk)
    }

    /// The daemon ends in order within half a minute, and another begins, which has these upstreams.
    pub(crate) async fn stopped_and_started(self, upstreams: Vec<Upstream>) -> Self {
        self.house.come_to_rest(Duration::from_secs(30)).await;
        self.house.queue.close().await;
        let now = TokioClock::at(self.house.now().wall);
        Self::upon(self.up, self.spare, upstreams, queue_settings(), now, self.disk)
    }

    /// The power goes, and another daemon begins on the disk, which has these upstreams. Of the first, what is under way comes to nothing any more.
    pub(crate) fn cut_off_and_started(self, upstreams: Vec<Upstream>) -> Self {
        self.house.tasks.begin_drain();
        self.disk.crash();
        let now = TokioClock::at(self.house.now().wall);
        Self::upon(self.up, self.spare, upstreams, queue_settings(), now, self.disk)
    }

    fn upon(
        up: Arc<Scripted>,
        spare: Option<Arc<Scripted>>,
        upstreams: Vec<Upstream>,
        settings: QueueSettings,
        clock: Arc<TokioClock>,
        disk: SimulatedDisk,
    ) -> Self {
        let mut net = Net::default().name("smtp.example.net", &[1]).host(1, &up);
        if let Some(spare) = &spare {
            net = net.name("spare.example.net", &[2]).host(2, spare);
        }
        let shared: Arc<dyn Clock> = clock.clone();
        let entropy = || Arc::new(SeededEntropy::new(1));
        let (queue, _) = Queue::open(settings, Arc::new(disk.clone()), Arc::clone(&shared), entropy()).unwrap();
        let courier = Courier::new(Arc::new(net), Arc::clone(&shared), Arc::new(Zeros));
        let upstreams: Vec<_> = upstreams.into_iter().map(Arc::new).collect();
        courier.configure(&upstreams);
        let house = House::new(snapshot(0, upstreams), queue, shared, entropy(), Tasks::default(), courier);
        Self { house: Arc::new(house), disk, up, spare, clock }
    }

    /// What the daemon does on a reload.
    pub(crate) fn reload(&self, upstreams: Vec<Upstream>) {
        let upstreams: Vec<_> = upstreams.into_iter().map(Arc::new).collect();
        self.house.courier.configure(&upstreams);
        self.house.swap(snapshot(self.house.snapshot().generation + 1, upstreams));
    }

    /// The delivery loop, and what looks after idle connections.
    pub(crate) fn run(&self) {
        self.house.tasks.spawn("delivery", delivery::run(Arc::clone(&self.house)));
        let house = Arc::clone(&self.house);
        self.house.tasks.spawn("tend", async move { house.courier.tend().await });
    }

    /// Lets so much time pass.
    pub(crate) async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    pub(crate) async fn submit(&self, count: usize) -> Vec<QueueId> {
        self.submit_as("alice", count).await
    }

    pub(crate) async fn submit_as(&self, identity: &str, count: usize) -> Vec<QueueId> {
        self.submit_to(identity, count, &["r0@example.net"]).await
    }

    pub(crate) async fn submit_to(&self, identity: &str, count: usize, to: &[&str]) -> Vec<QueueId> {
        let mut ids = Vec::new();
        for _ in 0..count {
            let mut incoming = self.house.queue.admit(identity, None).await.unwrap();
            incoming.write(MESSAGE).await.unwrap();
            ids.push(incoming.commit(self.deposit(identity, to)).await.unwrap().id());
        }
        ids
    }

    /// One message, with an envelope of its own.
    pub(crate) async fn send(&self, envelope: Envelope) -> QueueId {
        self.send_as(self.deposit("alice", &["r0@example.net"]).custodian, envelope).await
    }

    /// The same, on somebody's authority.
    pub(crate) async fn send_as(&self, custodian: Custodian, envelope: Envelope) -> QueueId {
        let deposit = Deposit { envelope, custodian, ..self.deposit("alice", &["r0@example.net"]) };
        self.keep(MESSAGE, deposit).await
    }

    /// One message of these octets.
    pub(crate) async fn send_octets(&self, octets: &[u8]) -> QueueId {
        self.keep(octets, self.deposit("alice", &["r0@example.net"])).await
    }

    async fn keep(&self, octets: &[u8], deposit: Deposit) -> QueueId {
        let mut incoming = self.house.queue.admit("staff:alice@example.com", None).await.unwrap();
        incoming.write(octets).await.unwrap();
        incoming.commit(deposit).await.unwrap().id()
    }

    fn deposit(&self, identity: &str, to: &[&str]) -> Deposit {
        let address = |text: &str| Address::parse(text).unwrap();
        let to = to.iter().map(|text| Recipient {
            forward_path: ForwardPath::Address(address(text)),
            parameters: Default::default(),
        });
        let sender = ReversePath::Address(address(&format!("{identity}@example.com")));
        Deposit {
            envelope: Envelope::new(sender, MailParameters::default(), to.collect()).unwrap(),
            custodian: Custodian {
                identity: identity.into(),
                ca: None,
                fingerprint: String::new(),
                chain: Vec::new(),
                key: None,
                links: Vec::new(),
                vouched: None,
                ends: None,
            },
            trace: TraceFacts {
                client: "192.0.2.9:1".into(),
                helo: "laptop".into(),
                protocol: "ESMTPS".into(),
                tls: "TLS1.3".into(),
                arrived: self.house.now().wall,
                message_id: None,
            },
        }
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

    pub(crate) async fn count(&self) -> usize {
        self.records().await.len()
    }

    pub(crate) async fn record(&self, id: QueueId) -> Option<Record> {
        self.records().await.into_iter().find(|record| record.id == id)
    }

    pub(crate) async fn attempts(&self, ids: &[QueueId]) -> Vec<u32> {
        let records = self.records().await;
        ids.iter().filter_map(|id| records.iter().find(|one| one.id == *id)).map(|one| one.attempts).collect()
    }

    /// The texts of all that is in the queue.
    pub(crate) async fn bodies(&self) -> Vec<String> {
        let mut bodies = Vec::new();
        for record in self.records().await {
            let mut reader = self.house.queue.body(record.id).await.unwrap();
            let mut octets = Vec::new();
            while let Some(piece) = reader.next().await.unwrap() {
                octets.extend_from_slice(&piece);
            }
            bodies.push(String::from_utf8(octets).unwrap());
        }
        bodies
    }
}

impl Set {
    fn from(self, wall: WallTime) -> WallTime {
        match self {
            Self::Forward(by) => wall.after(by),
            Self::Back(by) => wall.before(by),
        }
    }
}

/// A route for mail to example.org.
pub(crate) fn to_example_org(upstream: Upstream) -> Route {
    let recipients = Some(DomainSet::read(["example.org"]).unwrap());
    by("org", Wants { recipients, ..Wants::default() }, upstream)
}

/// What `reports.upstream` makes.
pub(crate) fn of_reports(upstream: Upstream) -> Route {
    let identities = Some(vec![NamePattern::new(REPORTS)]);
    by("reports", Wants { identities, ..Wants::default() }, upstream)
}

/// A route for everything else.
pub(crate) fn rest(upstream: Upstream) -> Route {
    by("rest", Wants::default(), upstream)
}

fn by(name: &str, wants: Wants, upstream: Upstream) -> Route {
    let rule = Rule { name: format!("route {name:?}").into(), place: None };
    Route::new(name, wants, rule, vec![Ranked { order: 1, weight: 1, what: Arc::new(upstream) }]).unwrap()
}

fn snapshot(generation: u64, upstreams: Vec<Arc<Upstream>>) -> Snapshot {
    let route = Route::for_all("default", upstreams);
    Snapshot {
        generation,
        doors: Vec::new(),
        door_limits: DoorLimits {
            connections: 1,
            connections_per_address: 1,
            connections_per_identity: 1,
            connections_per_minute: 1,
        },
        intake: IntakeLimits {
            handshake: HOUR,
            proxy_header: HOUR,
            command: HOUR,
            write: HOUR,
            session_max: HOUR,
            pace: PaceLimits { rate_min: 1, window: HOUR, total_max: HOUR },
            linger: LingerLimits { wait: HOUR, octets: 1 },
        },
        header: HeaderLimits::default(),
        received: ReceivedDetail::default(),
        roster: Arc::default(),
        credentials: Arc::default(),
        routes: Arc::new(Routes::new(route.into_iter().collect())),
        schedule: Arc::new(Schedule::new(&[HOUR], Some(4 * HOUR), 24 * HOUR).unwrap()),
        recheck: Recheck::No,
        soft_bounce: sealpost::snapshot::SoftBounce::No,
        expiry_notices: sealpost::snapshot::ExpiryNotices::No,
        ends: Vec::new(),
        reporter: Arc::new(Reporter {
            hostname: "relay.example.com".into(),
            from: Address::parse("MAILER-DAEMON@relay.example.com").unwrap(),
            envelope_sender: sealpost::mail::ReversePath::Null,
            postmaster: None,
        }),
    }
}

/// The log of this thread, as long as it lives.
pub(crate) struct Log {
    text: Arc<Mutex<Vec<u8>>>,
    _guard: tracing::subscriber::DefaultGuard,
    /// With a single subscriber in the process, a line that another thread comes upon first is taken for one that nobody wants, for good.
    _second: tracing::Dispatch,
}

impl Log {
    pub(crate) fn start() -> Self {
        let text: Arc<Mutex<Vec<u8>>> = Arc::default();
        let writer = Arc::clone(&text);
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || Pen(Arc::clone(&writer))).finish();
        let second = tracing::Dispatch::new(tracing_subscriber::fmt().with_writer(io::sink).finish());
        Self { text, _guard: tracing::subscriber::set_default(subscriber), _second: second }
    }

    pub(crate) fn lines(&self, with: &str) -> Vec<String> {
        let text = String::from_utf8(self.text.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| line.contains(with)).map(str::to_owned).collect()
    }
}

struct Pen(Arc<Mutex<Vec<u8>>>);

impl Write for Pen {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
