//! The configuration, checked: values of the stations' own types, ready to be used.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::credentials::Credentials;
use crate::identity::Roster;
use crate::mail::header::HeaderLimits;
use crate::mail::{Address, ReversePath};
use crate::networks::Network;
use crate::queue::QueueSettings;
use crate::queue::schedule::Schedule;
use crate::route::Routes;
use crate::session::SessionSettings;
use crate::tls::points::HttpUrl;
use crate::tls::{BalancerPins, ClientCa, ListenerTls, RefusalMode, TakenPins, Trust};
use crate::upstream::Upstream;

/// Everything that is configured.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The file it was read from, as it was named.
    pub file: PathBuf,
    /// Our name.
    pub hostname: String,
    /// What the daemon owns: the queue and its control socket.
    pub data_dir: PathBuf,
    /// How long a shutdown waits for what is under way.
    pub shutdown_grace: Duration,
    /// Where clients come in; never empty.
    pub listeners: Vec<ListenerSettings>,
    /// Our certificates and versions; for a listener see [`Settings::listener_tls`].
    pub tls: ListenerTls,
    /// Which CAs and pins count.
    pub trust: Arc<Trust>,
    /// Who is known.
    pub roster: Arc<Roster>,
    /// What they know besides.
    pub credentials: Arc<Credentials>,
    /// What a session goes by; `refusal` is that of [`ListenerSettings`].
    pub session: SessionSettings,
    /// How large a header section may be.
    pub header: HeaderLimits,
    /// How many connections at once.
    pub connections: ConnectionLimits,
    /// How long clients may take.
    pub deadlines: Deadlines,
    /// What the Received field tells besides what it must.
    pub received: ReceivedSettings,
    /// The queue's.
    pub queue: QueueSettings,
    /// Whether the sender of a queued message is looked at again before each attempt.
    pub recheck: bool,
    /// Whether refusals for good are taken for delays.
    pub soft_bounce: bool,
    /// When to try again, when to warn, when to give up.
    pub schedule: Schedule,
    /// Upstreams in order of preference; never empty.
    pub upstreams: Vec<Arc<Upstream>>,
    /// Which of them take whose mail to whom.
    pub routes: Arc<Routes>,
    /// What our reports say.
    pub reports: ReportSettings,
    /// Whether clients are told by mail that their certificates end.
    pub expiry_notices: bool,
    /// The log's.
    pub log: LogSettings,
    /// What makes the daemon read its files again.
    pub reload: ReloadSettings,
    /// Whose CRLs are fetched.
    pub crl_sources: Vec<Arc<CrlSource>>,
    /// Every file and directory that was read, the configuration file too, sorted: a change in one of them is a reason to reload.
    /// Relative paths are relative to the working directory, as they were when it was read.
    pub watched: Vec<PathBuf>,
    /// How many of each there are, for people.
    pub census: Census,
    /// The CAs, and what each was made of: one whose files are the same is not made again.
    pub(super) made: MadeCas,
    pub(super) told: BTreeMap<String, String>,
}

/// Each CA by its name, with the keys and the digests of the files that it was made of.
pub(super) type MadeCas = BTreeMap<String, (String, Arc<ClientCa>)>;

impl Settings {
    /// What a listener's TLS is made from.
    pub fn listener_tls(&self, listener: &ListenerSettings) -> ListenerTls {
        ListenerTls { refusal: listener.refusal, ..self.tls.clone() }
    }

    /// Which CAs and pins count at a listener.
    pub fn listener_trust(&self, listener: &ListenerSettings) -> Arc<Trust> {
        match (&listener.client_cas, listener.pins) {
            (None, TakenPins::All) => Arc::clone(&self.trust),
            (None, taken) => {
                let all: Vec<Arc<str>> = self.trust.cas().iter().map(|ca| Arc::clone(ca.name())).collect();
                Arc::new(self.trust.limited(&all, taken))
            }
            (Some(names), taken) => Arc::new(self.trust.limited(names, taken)),
        }
    }

    /// What a listener's sessions go by.
    pub fn listener_session(&self, listener: &ListenerSettings) -> SessionSettings {
        SessionSettings { refusal: listener.refusal, ..self.session.clone() }
    }
}

/// How TLS begins on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerMode {
    /// After STARTTLS (RFC 3207).
    StartTls,
    /// At once (RFC 8314 §3.3).
    Implicit,
    /// At once, with a load balancer that vouches for its client's certificate.
    ProxiedTls,
}

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSettings {
    /// Where it listens.
    pub address: SocketAddr,
    /// How TLS begins.
    pub mode: ListenerMode,
    /// What a client without an identity hears.
    pub refusal: RefusalMode,
    /// The names of the CAs that count here; all unless set.
    pub client_cas: Option<Vec<Arc<str>>>,
    /// Whether pinned certificates count here.
    pub pins: TakenPins,
    /// The load balancers whose PROXY header is read, and who alone may connect here.
    pub balancers: Option<Vec<Network>>,
    /// The load balancers whose word for a client's certificate counts here.
    pub vouchers: BalancerPins,
}

/// How many connections at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// In all.
    pub connections: usize,
    /// From one IPv4 address or IPv6 /64.
    pub connections_per_address: usize,
    /// Of one identity.
    pub connections_per_identity: usize,
    /// New ones in a minute from one IPv4 address or IPv6 /64; as many may come at once.
    pub connections_per_minute: u32,
}

/// How long clients may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// From accept to the end of the TLS handshake, the dialogue before it included.
    pub handshake: Duration,
    /// For the next command.
    pub command: Duration,
    /// For taking a reply.
    pub write: Duration,
    /// For the octets of one message, in all.
    pub transaction: Duration,
    /// Octets per second at least while a message comes, on average over the window.
    pub rate_min: u64,
    /// The window over which the rate is taken.
    pub rate_window: Duration,
    /// The longest life of a session.
    pub session_max: Duration,
}

/// What recipients may see in our Received field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// They may not.
    No,
    /// They may.
    Yes,
}

/// What the Received field tells besides what RFC 5321 §4.4 asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceivedSettings {
    /// The identity's name.
    pub identity: Shown,
    /// The client's address.
    pub client_address: Shown,
}

/// What our reports say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportSettings {
    /// The address in their From field; `MAILER-DAEMON@hostname` unless set.
    pub from: Address,
    /// Who they come from for SMTP; nobody unless set.
    pub envelope_sender: ReversePath,
    /// The name of the upstream that takes them; that of all mail unless set.
    pub upstream: Option<String>,
    /// Who gets a copy of what is told of failures.
    pub postmaster: Option<Address>,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// Text.
    Text,
    /// One JSON object a line.
    Json,
    /// The systemd journal.
    Journald,
}

/// The least level that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// What an operator must see.
    Error,
    /// What an operator should see.
    Warn,
    /// Each message's way.
    Info,
    /// Each connection's.
    Debug,
    /// Everything.
    Trace,
}

/// The log's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// The form.
    pub format: LogFormat,
    /// The least level.
    pub level: LogLevel,
}

/// What makes the daemon read its files again, besides SIGHUP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watching {
    /// A change of a file that the configuration names.
    Files,
    /// So too of the configuration file itself.
    All,
    /// Nothing.
    Off,
}

/// When files are read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReloadSettings {
    /// What is watched.
    pub watch: Watching,
    /// How often the files' dates and sizes are looked at, where the system tells nothing of changes.
    pub poll: Duration,
}

/// URLs of CRLs of one CA at most.
pub const CRL_URLS_MAX: usize = 16;

/// Where the CRLs of one CA are fetched from.
#[derive(Clone, Debug)]
pub struct CrlSource {
    /// The CA that verifies them.
    pub ca: Arc<ClientCa>,
    /// The URLs that are known.
    pub urls: Vec<HttpUrl>,
    /// Whether distribution points of the certificates that clients show are fetched too.
    pub learns: bool,
    /// Where they are kept.
    pub folder: PathBuf,
    /// The longest pause between two fetches.
    pub refresh: Duration,
}

/// Lists of different kinds that are kept of one URL at most.
pub const CRL_KINDS_MAX: usize = 8;

/// What the file of a CRL of this URL is called in its folder: of the first kind that came from there, of the second, and so on.
pub fn crl_cache_file(url: &str, slot: usize) -> String {
    let name = crl_cache_name(url);
    if slot == 0 { format!("{name}.crl") } else { format!("{name}-{slot}.crl") }
}

/// The part of that which says the URL.
pub fn crl_cache_name(url: &str) -> String {
    Sha256::digest(url).iter().take(16).map(|octet| format!("{octet:02x}")).collect()
}

/// How many of each there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Listeners.
    pub listeners: usize,
    /// Client CAs.
    pub client_cas: usize,
    /// Identities written out.
    pub identities: usize,
    /// Upstreams.
    pub upstreams: usize,
    /// Routes written out; none is one for all.
    pub routes: usize,
}

impl std::fmt::Display for Census {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let counted = [
            (self.listeners, "listener", "listeners"),
            (self.client_cas, "client CA", "client CAs"),
            (self.identities, "identity", "identities"),
            (self.upstreams, "upstream", "upstreams"),
            (self.routes, "route", "routes"),
        ];
        let told = if self.routes == 0 { 4 } else { 5 };
        for (index, (count, one, many)) in counted.into_iter().take(told).enumerate() {
            let (comma, word) = (if index == 0 { "" } else { ", " }, if count == 1 { one } else { many });
            write!(f, "{comma}{count} {word}")?;
        }
        Ok(())
    }
}
