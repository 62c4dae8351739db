//! The stage over real TLS: intake itself, rustls at both ends, the real queue; an in-memory pipe in the place of TCP, and virtual time.
//!
//! That the server says nothing more is known without waiting: time stands still while anybody has something to do, and a deadline that
//! passes shows that nobody has. What it can't do, it says: its own audit lines, a TLS configuration that is broken, a disk that fails in
//! the middle, a session older than its longest life.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use sealpost::content::HeaderLimits;
use sealpost::doors::Place;
use sealpost::house::House;
use sealpost::identity::Digest256;
use sealpost::intake::{self, IntakeLimits, LingerLimits, PaceLimits};
use sealpost::mail::Address;
use sealpost::queue::{Driving, Filter, Listed, Page, Queue, QueueSettings, Schedule};
use sealpost::report::Reporter;
use sealpost::route::Routes;
use sealpost::session::SessionSettings;
use sealpost::snapshot::{Door, DoorLimits, Mode, ReceivedDetail, Recheck, Snapshot};
use sealpost::sys::disk::SimulatedDisk;
use sealpost::sys::{Clock, MonoTime, Now, SeededEntropy, Tasks, WallTime};
use sealpost::tls::{BalancerPins, ListenerTls, MinVersion, ServerCertificate};
use sealpost::upstream::{Courier, Phase};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::cast::{Cast, Season};
use super::memory::{UpstreamSays, promise, refusal, routes_to, settings};
use super::play::{Heard, KeptMessage, Stage};
use super::rules::{as_sent, set_rule};
use super::script::{Store, Wait};
use crate::recipe::{NOW, Recipe};
use crate::scripted_upstream::{Misdeed, Net, Script, Scripted, Zeros};
use crate::vouched;

/// How long, in virtual time, the server may think before it counts as silent: longer than the queue waits for room, shorter than any
/// deadline for a client.
const SILENCE: Duration = Duration::from_secs(20);
/// What a session may hold while it waits, besides its TLS state, octets.
const SESSION_MAX: usize = 6 * 1024;
const COMMAND: Duration = Duration::from_secs(300);
const HOUR: Duration = Duration::from_secs(3600);

/// The door of [`bare_snapshot`] with TLS from the first octet.
pub(crate) const IMPLICIT: usize = 1;
/// The one of load balancers that vouch.
const VOUCHED: usize = 2;

/// The snapshot that scripts play on, without a route: for others who want a relay with the same cast.
pub(crate) fn bare_snapshot(clock: &Arc<dyn Clock>) -> Snapshot {
    TlsStage::new(MinVersion::Tls13).snapshot(0, clock)
}

/// Virtual time: tokio's, and the calendar as the script sets it.
#[derive(Debug)]
struct VirtualClock {
    start: Instant,
    wall: Mutex<i64>,
}

impl Clock for VirtualClock {
    fn now(&self) -> Now {
        let elapsed = Instant::now().duration_since(self.start);
        let wall = WallTime::from_seconds(*self.wall.lock().unwrap());
        Now { wall: wall.after(elapsed), mono: MonoTime::from_start(elapsed) }
    }
}

/// The upstream that says this.
fn script(says: UpstreamSays) -> Script {
    let at_end = |reply| Some((Phase::EndOfData, Misdeed::Say(reply)));
    let line = |words: &str| -> &'static str { String::leak(format!("{words}\r\n")) };
    match says {
        UpstreamSays::Nothing | UpstreamSays::LacksUtf8 | UpstreamSays::LacksTls => Script::default(),
        UpstreamSays::YesToTheMessage => Script { misdeed: at_end(b"250 2.0.0 kept as 42\r\n"), ..Script::default() },
        UpstreamSays::NoToTheMessage(words) => Script { misdeed: at_end(line(words).as_bytes()), ..Script::default() },
        UpstreamSays::NoToTheRecipient(words) => {
            Script { recipients: vec![("RCPT", line(words))], ..Script::default() }
        }
        UpstreamSays::TooLarge => Script { extensions: vec!["SIZE 99"], ..Script::default() },
    }
}

enum Link {
    None,
    Plain(DuplexStream),
    Tls(Box<TlsStream<DuplexStream>>),
}

/// See the module.
pub(crate) struct TlsStage {
    version: MinVersion,
    settings: SessionSettings,
    routes: Arc<Routes>,
    upstream: UpstreamSays,
    header: HeaderLimits,
    season: Season,
    wall: i64,
    server: Option<Server>,
    link: Link,
    heard: Vec<u8>,
    closed: bool,
    runtime: tokio::runtime::Runtime,
}

/// What is there from the first connection on.
struct Server {
    house: Arc<House>,
    clock: Arc<VirtualClock>,
    disk: SimulatedDisk,
}

impl TlsStage {
    /// A fresh server; `version` is the one that the client speaks.
    pub(crate) fn new(version: MinVersion) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        Self {
            version,
            settings: settings(),
            routes: routes_to("*"),
            upstream: UpstreamSays::Nothing,
            header: HeaderLimits::default(),
            season: Season::default(),
            wall: NOW,
            server: None,
            link: Link::None,
            heard: Vec::new(),
            closed: false,
            runtime,
        }
    }

    /// The server; made when it is first needed, so that settings count.
    fn server(&mut self) -> &Server {
        if self.server.is_none() {
            let _inside = self.runtime.enter();
            let clock = Arc::new(VirtualClock { start: Instant::now(), wall: Mutex::new(self.wall) });
            let disk = SimulatedDisk::new(1);
            let queue_settings = QueueSettings { driving: Driving::Inline, ..QueueSettings::new("/queue") };
            let shared: Arc<dyn Clock> = Arc::clone(&clock) as Arc<dyn Clock>;
            let entropy = || Arc::new(SeededEntropy::new(1));
            let (queue, _) =
                Queue::open(queue_settings, Arc::new(disk.clone()), Arc::clone(&shared), entropy()).unwrap();
            let net = Net::default().name("smtp.example.net", &[1]).host(1, &Scripted::new(script(self.upstream)));
            let courier = Courier::new(Arc::new(net), Arc::clone(&shared), Arc::new(Zeros));
            let upstreams: Vec<_> = self.routes.upstreams().map(Arc::clone).collect();
            courier.configure(&upstreams);
            if matches!(self.upstream, UpstreamSays::LacksUtf8 | UpstreamSays::LacksTls) {
                // Known from the last connection.
                self.runtime.block_on(courier.try_out(&upstreams[0])).unwrap();
            }
            let snapshot = self.snapshot(0, &shared);
            let house = House::new(snapshot, queue, shared, entropy(), Tasks::default(), courier);
            self.server = Some(Server { house: Arc::new(house), clock, disk });
        }
        self.server.as_ref().unwrap()
    }

    fn snapshot(&self, generation: u64, clock: &Arc<dyn Clock>) -> Snapshot {
        let trust = Arc::new(Cast::get().trust(&self.season));
        let made = Recipe::server("mail.example.com").self_signed();
        let certificate =
            ServerCertificate { place: "recipe".to_owned(), chain: vec![made.der.clone()], key: made.key_der() };
        let tls = ListenerTls {
            certificates: vec![certificate],
            min_version: MinVersion::Tls12,
            refusal: self.settings.refusal,
        };
        let balancer = Digest256(Cast::get().made("balancer").unwrap().fingerprint());
        let vouchers = BalancerPins::new(vec![balancer]);
        let balanced = tls.balanced_config(&vouchers, clock).unwrap();
        let tls = tls.server_config(&trust, clock).unwrap();
        let door = |mode| {
            Arc::new(Door {
                address: client(),
                mode,
                tls: Arc::clone(&tls),
                session: Arc::new(self.settings.clone()),
                trust: Arc::clone(&trust),
                balancers: None,
                vouchers: BalancerPins::default(),
            })
        };
        let vouching = Door { tls: balanced, vouchers, ..Door::clone(&door(Mode::ProxiedTls)) };
        Snapshot {
            generation,
            doors: vec![door(Mode::StartTls), door(Mode::Implicit), Arc::new(vouching)],
            door_limits: DoorLimits {
                connections: 10,
                connections_per_address: 10,
                connections_per_identity: 10,
                connections_per_minute: 1000,
            },
            intake: IntakeLimits {
                handshake: HOUR,
                proxy_header: intake::header_wait(HOUR),
                command: COMMAND,
                write: COMMAND,
                session_max: 24 * HOUR,
                pace: PaceLimits { rate_min: 1024, window: Duration::from_secs(60), total_max: HOUR },
                linger: LingerLimits { wait: Duration::from_secs(10), octets: 64 * 1024 * 1024 },
            },
            header: self.header,
            received: ReceivedDetail::default(),
            roster: Arc::new(Cast::get().roster(&self.season)),
            credentials: Arc::new(Cast::get().credentials(&self.season)),
            routes: Arc::clone(&self.routes),
            schedule: Arc::new(Schedule::new(&[HOUR], None, 24 * HOUR).unwrap()),
            recheck: Recheck::No,
            soft_bounce: sealpost::snapshot::SoftBounce::No,
            expiry_notices: sealpost::snapshot::ExpiryNotices::No,
            ends: Vec::new(),
            reporter: Arc::new(Reporter {
                hostname: self.settings.hostname.clone(),
                from: Address::parse("MAILER-DAEMON@mail.example.com").unwrap(),
                envelope_sender: sealpost::mail::ReversePath::Null,
                postmaster: None,
            }),
        }
    }

    /// What has changed counts from now on.
    fn reload(&mut self) {
        let Some(server) = &self.server else { return };
        let shared: Arc<dyn Clock> = Arc::clone(&server.clock) as Arc<dyn Clock>;
        let generation = server.house.snapshot().generation + 1;
        server.house.swap(self.snapshot(generation, &shared));
    }

    fn dial(&mut self, door: usize, early: &[u8]) -> DuplexStream {
        let house = Arc::clone(&self.server().house);
        let (mut ours, theirs) = tokio::io::duplex(1024 * 1024);
        self.runtime.block_on(async {
            ours.write_all(early).await.unwrap();
            let serving = intake::serve(theirs, client(), door, Arc::clone(&house), Place::apart());
            // Thousands of them wait at once.
            assert!(size_of_val(&serving) <= SESSION_MAX, "a session holds {} octets", size_of_val(&serving));
            house.tasks.spawn("connection", Box::pin(serving));
        });
        self.heard.clear();
        self.closed = false;
        ours
    }

    fn secure(&mut self, stream: DuplexStream, persona: &str) -> Result<(), String> {
        let connector = TlsConnector::from(Arc::new(client_config(persona, self.version)?));
        let name = ServerName::try_from("mail.example.com").unwrap();
        let secured = self.runtime.block_on(connector.connect(name, stream)).map_err(|fault| fault.to_string())?;
        self.link = Link::Tls(Box::new(secured));
        Ok(())
    }

    /// Reads until a whole reply is there, the server is silent, or it has closed.
    fn read_more(&mut self) -> bool {
        let mut piece = vec![0; 64 * 1024];
        let read = self.runtime.block_on(async {
            match &mut self.link {
                Link::None => Ok(Ok(0)),
                Link::Plain(stream) => timeout(SILENCE, stream.read(&mut piece)).await,
                Link::Tls(stream) => timeout(SILENCE, stream.read(&mut piece)).await,
            }
        });
        match read {
            Err(_) => false,
            Ok(Err(fault)) => {
                // RFC 8314 §3.4: an end of TLS that the server has not said is an error.
                assert!(!matches!(self.link, Link::Tls(_)), "the connection broke: {fault}");
                self.closed = true;
                false
            }
            Ok(Ok(0)) => {
                self.closed = true;
                false
            }
            Ok(Ok(count)) => {
                self.heard.extend_from_slice(&piece[..count]);
                true
            }
        }
    }

    /// The first whole reply of what was read.
    fn take_reply(&mut self) -> Option<Heard> {
        let mut at = 0;
        let mut lines = Vec::new();
        loop {
            let end = at + self.heard[at..].windows(2).position(|two| two == b"\r\n")?;
            let line = String::from_utf8(self.heard[at..end].to_vec()).unwrap();
            at = end + 2;
            lines.push(line.get(4..).unwrap_or_default().to_owned());
            if line.as_bytes().get(3) != Some(&b'-') {
                self.heard.drain(..at);
                return Some(Heard { code: line[..3].parse().unwrap(), lines });
            }
        }
    }
}

impl Stage for TlsStage {
    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let number = || value.parse::<u32>().map_err(|fault| fault.to_string());
        let size = || value.parse::<usize>().map_err(|fault| fault.to_string());
        match key {
            "refusal" => self.settings.refusal = refusal(value)?,
            "message_size_max" => self.settings.message_size_max = u64::from(number()?),
            "recipients_max" => self.settings.recipients_max = size()?,
            "idle_commands_max" => self.settings.idle_commands_max = number()?,
            "auth_failures_max" => self.settings.auth_failures_max = number()?,
            "postmaster" => self.settings.postmaster = Some(value.parse().map_err(|_| "no address")?),
            "routes" => self.routes = routes_to(value),
            "upstream" => {
                self.upstream = UpstreamSays::read(value)?;
                self.routes = self.upstream.routes();
            }
            "line_max" => self.header.line = size()?,
            "header_max" => self.header.section = size()?,
            "onward" | "hold_max" => promise(&mut self.settings.promises, key, value)?,
            "together" => {}
            _ if set_rule(&mut self.settings.header, key, value)? => {}
            _ => return Err(format!("{CANNOT}the setting {key:?}")),
        }
        self.reload();
        Ok(())
    }

    fn clock(&mut self, seconds: i64) -> Result<(), String> {
        self.wall += seconds;
        if let Some(server) = &self.server {
            *server.clock.wall.lock().unwrap() += seconds;
        }
        Ok(())
    }

    fn connect(&mut self, early: &[u8]) -> Result<(), String> {
        self.link = Link::Plain(self.dial(0, early));
        Ok(())
    }

    fn handshake(&mut self, persona: &str) -> Result<(), String> {
        match std::mem::replace(&mut self.link, Link::None) {
            Link::Plain(stream) => self.secure(stream, persona),
            Link::None | Link::Tls(_) => Err("nothing in plaintext is connected".to_owned()),
        }
    }

    fn connect_implicit(&mut self, persona: &str) -> Result<(), String> {
        let stream = self.dial(IMPLICIT, b"");
        self.secure(stream, persona)
    }

    fn connect_vouched(&mut self, persona: &str) -> Result<(), String> {
        let chain = Cast::get().chain(persona)?;
        let house = Arc::clone(&self.server().house);
        let tasks = house.tasks.clone();
        let (ours, theirs) = tokio::io::duplex(1024 * 1024);
        self.runtime.block_on(async {
            let serving = async move {
                let (place, from) = (Place::apart(), "192.0.2.99:40000".parse().unwrap());
                let came = intake::by_balancer(theirs, from, VOUCHED, &house, &place).await;
                if let Some(came) = came {
                    came.serve(Arc::clone(&house), place).await;
                }
            };
            tasks.spawn("connection", Box::pin(serving));
        });
        (self.heard, self.closed) = (Vec::new(), false);
        self.secure(ours, "balancer")?;
        self.send(&vouched::header(client(), chain.as_ref().and_then(|chain| chain.first())))
    }

    fn send(&mut self, octets: &[u8]) -> Result<(), String> {
        let sent = self.runtime.block_on(async {
            match &mut self.link {
                Link::None => Ok(()),
                Link::Plain(stream) => stream.write_all(octets).await,
                Link::Tls(stream) => match stream.write_all(octets).await {
                    Ok(()) => stream.flush().await,
                    fault => fault,
                },
            }
        });
        // Messages that come in different milliseconds have ids in their order.
        self.runtime.block_on(async { tokio::time::sleep(Duration::from_millis(1)).await });
        // The server may have closed while we were talking; what it said before is still to be heard.
        drop(sent);
        Ok(())
    }

    fn hear(&mut self) -> Option<Heard> {
        loop {
            if let Some(heard) = self.take_reply() {
                return Some(heard);
            }
            if !self.read_more() {
                return None;
            }
        }
    }

    fn unhear(&mut self, heard: Heard) {
        let again: String = heard.lines.iter().map(|line| format!("{} {line}\r\n", heard.code)).collect();
        self.heard.splice(0..0, again.into_bytes());
    }

    fn is_closed(&mut self) -> bool {
        self.closed
    }

    fn revoke(&mut self, persona: &str) -> Result<(), String> {
        self.season.revoked.push(persona.to_owned());
        self.reload();
        Ok(())
    }

    fn forget(&mut self, persona: &str) -> Result<(), String> {
        self.season.forgotten.push(persona.to_owned());
        self.reload();
        Ok(())
    }

    fn rekey(&mut self) -> Result<(), String> {
        self.season.rekeyed = true;
        self.reload();
        Ok(())
    }

    fn exporter(&mut self) -> Result<[u8; 32], String> {
        match (&self.link, self.version) {
            (Link::Tls(stream), MinVersion::Tls13) => {
                let (_, connection) = stream.get_ref();
                let label = b"EXPORTER-Channel-Binding";
                connection.export_keying_material([0; 32], label, Some(b"")).map_err(|fault| fault.to_string())
            }
            (Link::Tls(_), MinVersion::Tls12) => Err(format!("{CANNOT}a channel binding under TLS 1.2")),
            (Link::None | Link::Plain(_), _) => Err("no TLS".to_owned()),
        }
    }

    fn wall(&mut self) -> i64 {
        self.server().clock.now().wall.seconds()
    }

    fn store(&mut self, store: Store) -> Result<(), String> {
        match store {
            Store::Fine => self.server().disk.set_space(u64::MAX >> 1),
            Store::Full => self.server().disk.set_space(0),
            Store::Crowded => return Err(format!("{CANNOT}a queue that is full of one identity's mail")),
            Store::Failing | Store::Broken => return Err(format!("{CANNOT}a disk that fails at a chosen moment")),
        }
        Ok(())
    }

    fn drain(&mut self) -> Result<(), String> {
        self.server().house.tasks.begin_drain();
        Ok(())
    }

    fn wait(&mut self, wait: Wait) -> Result<(), String> {
        let passes = match wait {
            Wait::Idle => COMMAND,
            Wait::Transaction => HOUR,
            Wait::Session => return Err(format!("{CANNOT}a session older than its longest life")),
        };
        self.runtime.block_on(async { tokio::time::sleep(passes + Duration::from_secs(1)).await });
        Ok(())
    }

    fn kept(&mut self) -> Vec<KeptMessage> {
        let house = Arc::clone(&self.server().house);
        let messages = self.runtime.block_on(async {
            let listing = house.queue.list(Filter::default(), Page { after: None, limit: 100 }).await.unwrap();
            let mut messages = Vec::new();
            for listed in listing.entries {
                let Listed::Message(record) = listed else { panic!("unreadable") };
                let mut body = house.queue.body(record.id).await.unwrap();
                let mut octets = Vec::new();
                while let Some(piece) = body.next().await.unwrap() {
                    octets.extend_from_slice(&piece);
                }
                messages.push((record, octets));
            }
            messages
        });
        let kept = messages.iter().map(|(record, octets)| KeptMessage {
            from: record.envelope.reverse_path().as_str().to_owned(),
            to: record.envelope.recipients().iter().map(|to| to.forward_path.as_str().to_owned()).collect(),
            octets: as_sent(&self.settings.hostname, octets),
        });
        kept.collect()
    }

    fn audit(&mut self) -> Result<String, String> {
        Err(format!("{CANNOT}its own audit lines"))
    }
}

/// What a fault begins with when it is the stage's, not the relay's.
pub(crate) const CANNOT: &str = "this stage has not: ";

fn client() -> SocketAddr {
    "192.0.2.1:40000".parse().unwrap()
}

pub(crate) fn client_config(persona: &str, version: MinVersion) -> Result<ClientConfig, String> {
    let versions: &[&rustls::SupportedProtocolVersion] = match version {
        MinVersion::Tls12 => &[&rustls::version::TLS12],
        MinVersion::Tls13 => &[&rustls::version::TLS13],
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer));
    let cast = Cast::get();
    match cast.chain(persona)? {
        None => Ok(builder.with_no_client_auth()),
        Some(chain) => {
            let key = cast.made(persona)?.key_der();
            builder.with_client_auth_cert(chain, key).map_err(|fault| fault.to_string())
        }
    }
}

/// The scripts are about the client's certificate; any server will do.
#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
