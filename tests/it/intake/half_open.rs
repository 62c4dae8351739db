//! Thousands of connections that come to nothing, from many addresses and in every stage before an identity, while others are served.
//!
//! Real sockets on 127.0.0.0/8, and a clock that only the test moves: who is in the way is known by it, and nothing is waited for but events.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls::pki_types::ServerName;
use sealpost::daemon;
use sealpost::doors::UNDISTURBED;
use sealpost::intake::IntakeLimits;
use sealpost::networks::Network;
use sealpost::queue::{Driving, QueueSettings};
use sealpost::snapshot::{Door, DoorLimits, Snapshot};
use sealpost::sys::{Clock, MonoTime, Now, WallTime};
use sealpost::tls::points::HttpUrl;
use sealpost::tls::{Asks, MinVersion, OcspMode};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::dialog::cast::Cast;
use crate::dialog::memory::routes_to;
use crate::dialog::tls::client_config;
use crate::harness::PATIENCE;
use crate::recipe::NOW;
use crate::scripted_upstream::Script;
use crate::through::stage::Stage;

/// `limits.connections`, as it is unless set.
const CONNECTIONS: usize = 2000;
/// From one address.
const PER_ADDRESS: u32 = 10;
/// Those of them that stop within the PROXY header.
const IN_THE_PROXY_HEADER: usize = 200;
/// One in so many handshakes, which costs both sides.
const HANDSHAKES_ONE_IN: usize = 25;

pub(super) const STARTTLS: usize = 0;
pub(super) const IMPLICIT: usize = 1;
/// The same behind load balancers.
const BEHIND_BALANCERS: [usize; 2] = [2, 3];

/// A clock that the test moves.
#[derive(Debug, Default)]
pub(super) struct ByHand(AtomicU64);

impl ByHand {
    pub(super) fn advance(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for ByHand {
    fn now(&self) -> Now {
        let elapsed = Duration::from_millis(self.0.load(Ordering::SeqCst));
        Now { wall: WallTime::from_seconds(NOW).after(elapsed), mono: MonoTime::from_start(elapsed) }
    }
}

/// How far a connection came, and is silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Silent {
    AtOnce,
    BehindEhlo,
    BehindStartTls,
    InTheClientHello,
    AtOnceImplicit,
    InTheClientHelloImplicit,
    InTheProxyHeader,
    InTheProxyHeaderImplicit,
    /// Its certificate is nobody's here.
    AsNobody,
    AsNobodyImplicit,
}

impl Silent {
    const BEFORE_AN_IDENTITY: [Self; 6] = [
        Self::AtOnce,
        Self::BehindEhlo,
        Self::BehindStartTls,
        Self::InTheClientHello,
        Self::AtOnceImplicit,
        Self::InTheClientHelloImplicit,
    ];
    const IN_THE_PROXY_HEADER: [Self; 2] = [Self::InTheProxyHeader, Self::InTheProxyHeaderImplicit];
    const NOBODY: [Self; 2] = [Self::AsNobody, Self::AsNobodyImplicit];

    /// The stage of the connection with this number, where all come.
    fn of(number: usize) -> Self {
        if number.is_multiple_of(HANDSHAKES_ONE_IN) {
            return Self::NOBODY[number / HANDSHAKES_ONE_IN % 2];
        }
        Self::BEFORE_AN_IDENTITY[number % Self::BEFORE_AN_IDENTITY.len()]
    }

    fn door(self) -> usize {
        match self {
            Self::AtOnce | Self::BehindEhlo | Self::BehindStartTls | Self::InTheClientHello | Self::AsNobody => {
                STARTTLS
            }
            Self::AtOnceImplicit | Self::InTheClientHelloImplicit | Self::AsNobodyImplicit => IMPLICIT,
            Self::InTheProxyHeader => BEHIND_BALANCERS[0],
            Self::InTheProxyHeaderImplicit => BEHIND_BALANCERS[1],
        }
    }

    /// Whether there are words for it when its place is given away.
    fn is_told(self) -> bool {
        matches!(self, Self::AtOnce | Self::BehindEhlo | Self::AsNobody | Self::AsNobodyImplicit)
    }
}

/// A connection, inside TLS or not.
enum Link {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

pub(super) struct Client {
    link: Link,
    heard: Vec<u8>,
}

const HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc";

impl Client {
    async fn connect(from: Ipv4Addr, to: SocketAddr) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((from, 0)))?;
        Ok(Self { link: Link::Plain(socket.connect(to).await?), heard: Vec::new() })
    }

    async fn write(&mut self, octets: &[u8]) {
        async fn all<S: AsyncWrite + Unpin>(stream: &mut S, octets: &[u8]) {
            stream.write_all(octets).await.unwrap();
            stream.flush().await.unwrap();
        }
        match &mut self.link {
            Link::Plain(stream) => all(stream, octets).await,
            Link::Tls(stream) => all(stream, octets).await,
        }
    }

    /// Reads something; false at the end.
    async fn read(&mut self) -> bool {
        async fn some<S: AsyncRead + Unpin>(stream: &mut S, heard: &mut Vec<u8>) -> usize {
            // With octets of ours on their way, the end is a reset.
            timeout(PATIENCE, stream.read_buf(heard)).await.expect("the server is silent").unwrap_or(0)
        }
        0 < match &mut self.link {
            Link::Plain(stream) => some(stream, &mut self.heard).await,
            Link::Tls(stream) => some(stream, &mut self.heard).await,
        }
    }

    /// The next reply; empty when the server is gone.
    pub(super) async fn hear(&mut self) -> String {
        let mut reply = String::new();
        loop {
            while let Some(end) = self.heard.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = self.heard.drain(..end + 2).collect();
                reply.push_str(&String::from_utf8_lossy(&line));
                if line.get(3) != Some(&b'-') {
                    return reply.trim_end().to_owned();
                }
            }
            if !self.read().await {
                return reply;
            }
        }
    }

    pub(super) async fn say(&mut self, line: &str) -> String {
        self.write(format!("{line}\r\n").as_bytes()).await;
        self.hear().await
    }

    /// All that is said until the server has gone.
    pub(super) async fn until_it_ends(mut self) -> String {
        while self.read().await {}
        String::from_utf8_lossy(&self.heard).into_owned()
    }

    pub(super) async fn secure(self, persona: &str) -> Self {
        let Link::Plain(stream) = self.link else { panic!("twice") };
        let connector = TlsConnector::from(Arc::new(client_config(persona, MinVersion::Tls13).unwrap()));
        let name = ServerName::try_from("mail.example.com").unwrap();
        let stream = timeout(PATIENCE, connector.connect(name, stream)).await.unwrap().unwrap();
        Self { link: Link::Tls(Box::new(stream)), heard: Vec::new() }
    }

    /// From the greeting to EHLO inside TLS.
    pub(super) async fn start_tls(mut self, persona: &str) -> Self {
        assert!(self.say("EHLO client.example").await.starts_with("250"));
        assert!(self.say("STARTTLS").await.starts_with("220"));
        self.secure(persona).await
    }

    pub(super) async fn submit(&mut self) {
        for (line, expected) in [
            ("EHLO client.example", "250"),
            ("MAIL FROM:<alice@example.com>", "250"),
            ("RCPT TO:<bob@example.net>", "250"),
            ("DATA", "354"),
            ("From: alice@example.com\r\n\r\ntext\r\n.", "250 2.0.0 "),
        ] {
            let said = self.say(line).await;
            assert!(said.starts_with(expected), "{line}: {said}");
        }
    }
}

pub(super) struct Besieged {
    pub(super) stage: Stage,
    pub(super) clock: Arc<ByHand>,
    addresses: Vec<SocketAddr>,
    came: u32,
    /// How often alice came; each time from another address.
    honest: u8,
}

impl Besieged {
    pub(super) async fn new(connections: usize) -> Self {
        Self::with(connections, QueueSettings::new("/queue")).await
    }

    pub(super) async fn with(connections: usize, settings: QueueSettings) -> Self {
        let clock = Arc::new(ByHand::default());
        let settings = QueueSettings { driving: Driving::Inline, cache: 1 << 20, ..settings };
        let shared: Arc<dyn Clock> = Arc::clone(&clock) as Arc<dyn Clock>;
        let stage = Stage::at(shared, settings, Script::default(), Script::default(), (*routes_to("*")).clone());
        let door_limits = DoorLimits {
            connections,
            connections_per_address: usize::try_from(PER_ADDRESS).unwrap(),
            connections_per_identity: connections,
            connections_per_minute: 1000,
        };
        stage.change(|now| {
            let mut doors = now.doors.clone();
            doors.truncate(2);
            for place in 0..2 {
                let balancers = Some(vec![Network::parse("127.0.0.0/8").unwrap()]);
                doors.push(Arc::new(Door { balancers, ..Door::clone(&doors[place]) }));
            }
            // A balancer's header has a deadline in real time, which is no part of this.
            let intake = IntakeLimits { proxy_header: Duration::MAX, ..now.intake };
            Snapshot { doors, door_limits, intake, ..now }
        });
        let mut addresses = Vec::new();
        for door in 0..4 {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            addresses.push(listener.local_addr().unwrap());
            let accepting = daemon::accept(listener, door, Arc::clone(&stage.house));
            stage.house.tasks.spawn("accept", accepting);
        }
        Self { stage, clock, addresses, came: 0, honest: 0 }
    }

    /// From now on the staff's certificates are asked about there; who gives no answer says nothing against them.
    fn asks_ocsp(&self, responder: SocketAddr) {
        let url = HttpUrl::parse(&format!("http://{responder}/")).unwrap();
        let asks = Asks { ocsp: OcspMode::IfAvailable, ocsp_url: Some(url), ..Asks::default() };
        self.stage.change(|now| {
            let trust = Arc::new(Cast::get().staff_asking(asks));
            let mut doors = now.doors.clone();
            doors[STARTTLS] = Arc::new(Door { trust, ..Door::clone(&doors[STARTTLS]) });
            Snapshot { doors, ..now }
        });
    }

    pub(super) fn inside(&self) -> usize {
        self.stage.house.doors.inside()
    }

    /// Waits until so many are inside: a connection stands before it is accepted.
    pub(super) async fn until_inside(&self, count: usize) {
        let so = timeout(PATIENCE, self.stage.house.doors.until_inside(count)).await;
        assert!(so.is_ok(), "{} are inside, and not {count}", self.inside());
    }

    /// Waits until so many have been told that they are not let in.
    pub(super) async fn until_refused(&self, count: u64) {
        let refused = || self.stage.house.counts.read().refused;
        let so = timeout(PATIENCE, async {
            while refused() < count {
                tokio::task::yield_now().await;
            }
        });
        assert!(so.await.is_ok(), "{} are refused, and not {count}", refused());
    }

    /// One more that comes to nothing, from an address that few of them have.
    pub(super) async fn attack(&mut self, silent: Silent) -> (Silent, Client) {
        let number = self.came;
        self.came += 1;
        let from = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 1, 0, 1)) + number / PER_ADDRESS);
        let mut client = Client::connect(from, self.addresses[silent.door()]).await.unwrap();
        if silent.door() == STARTTLS {
            let said = client.hear().await;
            assert!(said.starts_with("220 "), "{silent:?} {number}: {said}");
        }
        match silent {
            Silent::AtOnce | Silent::AtOnceImplicit => {}
            Silent::BehindEhlo => assert!(client.say("EHLO attacker.example").await.starts_with("250")),
            Silent::BehindStartTls | Silent::InTheClientHello => {
                assert!(client.say("STARTTLS").await.starts_with("220"));
                if silent == Silent::InTheClientHello {
                    client.write(HELLO).await;
                }
            }
            Silent::InTheClientHelloImplicit => client.write(HELLO).await,
            Silent::InTheProxyHeader => client.write(b"PROXY TCP4 192.0").await,
            Silent::InTheProxyHeaderImplicit => client.write(b"\r\n\r\n\0\r\nQU").await,
            Silent::AsNobody => client = client.start_tls("stranger").await,
            Silent::AsNobodyImplicit => {
                client = client.secure("unknown").await;
                assert!(client.hear().await.starts_with("554 5.7.1 "));
            }
        }
        (silent, client)
    }

    /// Somebody honest, who has not heard anything yet.
    pub(super) async fn knocks(&mut self, door: usize) -> Client {
        self.honest += 1;
        Client::connect(Ipv4Addr::new(127, 0, 1, self.honest), self.addresses[door]).await.unwrap()
    }

    pub(super) async fn alice(&mut self, door: usize) -> Client {
        let mut client = self.knocks(door).await;
        if door == IMPLICIT {
            client = client.secure("alice").await;
        }
        let said = client.hear().await;
        assert!(said.starts_with("220 "), "{said}");
        if door == IMPLICIT { client } else { client.start_tls("alice").await }
    }
}

/// Both ends of all connections are in this process.
fn open_many_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    const FILES: u64 = 5000;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    assert!(
        maximum.is_none_or(|most| most >= FILES),
        "no room for {CONNECTIONS} connections: ulimit -Hn is {maximum:?}"
    );
    if current.is_some_and(|now| now < FILES) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(FILES), maximum }).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_an_identity_is_served_while_thousands_come_to_nothing() {
    open_many_files();
    let mut besieged = Besieged::new(CONNECTIONS).await;
    let mut regulars = [besieged.alice(STARTTLS).await, besieged.alice(IMPLICIT).await];
    for regular in &mut regulars {
        regular.submit().await;
    }
    let mut silent = Vec::new();
    while silent.len() + regulars.len() + IN_THE_PROXY_HEADER < CONNECTIONS {
        silent.push(besieged.attack(Silent::of(silent.len())).await);
        // One after the other, so that it is known who is here longest.
        besieged.until_inside(silent.len() + regulars.len()).await;
    }
    let mut in_the_header = Vec::new();
    for number in 0..IN_THE_PROXY_HEADER {
        in_the_header.push(besieged.attack(Silent::IN_THE_PROXY_HEADER[number % 2]).await);
    }
    besieged.until_inside(CONNECTIONS).await;

    // All of them have only just come, and might be honest.
    let said = besieged.knocks(STARTTLS).await.until_it_ends().await;
    assert!(said.starts_with("421 4.7.0 "), "{said}");

    besieged.clock.advance(UNDISTURBED);
    for number in 0..20 {
        besieged.alice(number % 2).await.submit().await;
        assert!(besieged.inside() <= CONNECTIONS);
    }

    // It goes on, until everybody who was silent has had to leave. Somebody honest is in the middle of a handshake all the while.
    besieged.clock.advance(Duration::from_secs(60));
    let mut slow = besieged.knocks(STARTTLS).await;
    assert!(slow.hear().await.starts_with("220 "));
    let mut more = Vec::new();
    for ((stage, left), count) in order_of_leaving(silent).into_iter().zip(1..) {
        while besieged.stage.house.doors.given_away() < count {
            more.push(besieged.attack(Silent::of(more.len() + 1)).await);
        }
        let said = left.until_it_ends().await;
        assert_eq!(said.contains("421 4.7.0 "), stage.is_told(), "{stage:?}: {said:?}");
    }
    slow.start_tls("alice").await.submit().await;
    for regular in &mut regulars {
        assert!(regular.say("NOOP").await.starts_with("250 2.0.0 "));
    }
    drop((regulars, more, in_the_header));
    besieged.until_inside(0).await;
}

/// Her CA's responder takes longer than anybody is left undisturbed, and all other places are taken by silence.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_being_identified_is_not_called_away() {
    const PLACES: usize = 3;
    let responder = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut besieged = Besieged::new(PLACES).await;
    besieged.asks_ocsp(responder.local_addr().unwrap());
    let alice = tokio::spawn({
        let first = besieged.knocks(STARTTLS).await;
        async move {
            let mut client = first;
            assert!(client.hear().await.starts_with("220 "));
            let mut client = client.start_tls("alice").await;
            client.submit().await;
            client
        }
    });
    let (asked, _) = timeout(PATIENCE, responder.accept()).await.unwrap().unwrap();
    let mut silent = vec![besieged.attack(Silent::AtOnce).await.1, besieged.attack(Silent::BehindEhlo).await.1];
    besieged.until_inside(PLACES).await;
    // She has been here longest; each of these takes the place of another.
    besieged.clock.advance(UNDISTURBED);
    for _ in 0..2 {
        let newcomer = besieged.attack(Silent::AtOnce).await.1;
        assert!(silent.remove(0).until_it_ends().await.contains("421 4.7.0 "));
        silent.push(newcomer);
    }
    assert_eq!(besieged.stage.house.doors.given_away(), 2);
    // Of whom nothing comes back, nothing bad is known.
    drop((asked, responder));
    let alice = timeout(PATIENCE, alice).await.unwrap().unwrap();
    assert_eq!(besieged.inside(), PLACES);
    drop(alice);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_each_stage_before_an_identity_a_client_leaves_for_another() {
    let stages = [&Silent::BEFORE_AN_IDENTITY[..], &Silent::IN_THE_PROXY_HEADER, &Silent::NOBODY].concat();
    let mut besieged = Besieged::new(stages.len()).await;
    let mut silent = Vec::new();
    for stage in &stages {
        silent.push(besieged.attack(*stage).await);
        besieged.until_inside(silent.len()).await;
    }
    besieged.clock.advance(UNDISTURBED);
    let mut more = Vec::new();
    for (stage, left) in order_of_leaving(silent) {
        more.push(besieged.attack(Silent::AtOnce).await);
        let said = left.until_it_ends().await;
        assert_eq!(said.contains("421 4.7.0 "), stage.is_told(), "{stage:?}: {said:?}");
    }
    assert_eq!((besieged.inside(), more.len()), (stages.len(), stages.len()));
}

/// First who is known to be nobody, in the order of their coming; then the others.
fn order_of_leaving(silent: Vec<(Silent, Client)>) -> Vec<(Silent, Client)> {
    let is_nobody = |(stage, _): &(Silent, Client)| Silent::NOBODY.contains(stage);
    let (mut order, others): (Vec<_>, Vec<_>) = silent.into_iter().partition(is_nobody);
    order.extend(others);
    order
}
