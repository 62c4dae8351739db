//! The snapshot: everything that a reload may change, as one value that is swapped whole.
//!
//! A session and a delivery take it at their start and again where they must see a change (at MAIL, at the next claim). Its parts are `Arc`s, so
//! that it is cheap to hold. Never: changes in place.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::content::HeaderLimits;
use crate::credentials::Credentials;
use crate::identity::Roster;
use crate::intake::IntakeLimits;
use crate::networks::Network;
use crate::queue::schedule::Schedule;
use crate::report::Reporter;
use crate::route::Routes;
use crate::session::SessionSettings;
use crate::sys::WallTime;
use crate::tls::{BalancerPins, Trust};

/// How TLS begins on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// After STARTTLS (RFC 3207).
    StartTls,
    /// At once (RFC 8314 §3.3).
    Implicit,
    /// At once, with a load balancer, which vouches for its client's certificate in a PROXY header inside that.
    ProxiedTls,
}

/// One listener: where clients come in, and by which TLS settings and CAs.
#[derive(Clone, Debug)]
pub struct Door {
    /// The address it listens on.
    pub address: SocketAddr,
    /// How TLS begins.
    pub mode: Mode,
    /// The TLS settings.
    pub tls: Arc<rustls::ServerConfig>,
    /// What a session that came in here goes by.
    pub session: Arc<SessionSettings>,
    /// The CAs that count here.
    pub trust: Arc<Trust>,
    /// The load balancers whose PROXY header is read, and who alone may connect; without, everybody may, and none is read.
    pub balancers: Option<Vec<Network>>,
    /// The load balancers whose word for a client's certificate counts here; nobody's but with [`Mode::ProxiedTls`].
    pub vouchers: BalancerPins,
}

impl Door {
    /// Whether connections from `address` are taken here.
    pub fn takes_from(&self, address: IpAddr) -> bool {
        self.balancers.as_ref().is_none_or(|networks| networks.iter().any(|network| network.contains(address)))
    }
}

/// How many connections are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoorLimits {
    /// In all.
    pub connections: usize,
    /// From one IPv4 address or IPv6 /64.
    pub connections_per_address: usize,
    /// Of one identity.
    pub connections_per_identity: usize,
    /// New ones in a minute from one IPv4 address or IPv6 /64; as many may come at once.
    pub connections_per_minute: u32,
}

/// Everything that a reload may change.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Counts the reloads: a session that sees another number makes its identity anew.
    pub generation: u64,
    /// The listeners. A reload changes their TLS settings and trust; their addresses are bound at start.
    pub doors: Vec<Arc<Door>>,
    /// How many clients at once.
    pub door_limits: DoorLimits,
    /// How long intake waits.
    pub intake: IntakeLimits,
    /// How large a header section may be.
    pub header: HeaderLimits,
    /// What the Received field tells.
    pub received: ReceivedDetail,
    /// Who is known.
    pub roster: Arc<Roster>,
    /// What they know besides.
    pub credentials: Arc<Credentials>,
    /// Where mail goes.
    pub routes: Arc<Routes>,
    /// When to try again, when to warn, when to give up.
    pub schedule: Arc<Schedule>,
    /// Whether the sender of a queued message is looked at again before each attempt.
    pub recheck: Recheck,
    /// Whether refusals for good are taken for delays.
    pub soft_bounce: SoftBounce,
    /// Whether clients are told by mail that their certificates end.
    pub expiry_notices: ExpiryNotices,
    /// What ends some day.
    pub ends: Vec<End>,
    /// Who reports to senders; our name.
    pub reporter: Arc<Reporter>,
}

/// Something that ends some day, and what to do about it.
#[derive(Clone, Debug)]
pub struct End {
    /// What.
    pub what: String,
    /// When.
    pub at: WallTime,
    /// How long before that it is told.
    pub early: Duration,
    /// What to do.
    pub remedy: &'static str,
}

impl Snapshot {
    /// What ends soon or has ended.
    pub fn ending_soon(&self, now: WallTime) -> impl Iterator<Item = &End> {
        self.ends.iter().filter(move |end| now.after(end.early) >= end.at)
    }
}

impl End {
    /// A sentence for people.
    pub fn notice(&self, now: WallTime) -> String {
        let verb = if now >= self.at { "ended" } else { "ends" };
        format!("{} {verb} on {}: {}", self.what, self.at.rfc3339(), self.remedy)
    }
}

/// What our Received field tells besides what RFC 5321 §4.4 asks for; recipients can read it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceivedDetail {
    /// The identity's name.
    pub identity: Shown,
    /// The client's address.
    pub client_address: Shown,
}

/// `queue.recheck`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recheck {
    /// What was accepted goes out.
    #[default]
    No,
    /// What was sent by somebody who may not send any more is held.
    Yes,
}

/// `queue.soft_bounce`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SoftBounce {
    /// What an upstream refuses for good has failed.
    #[default]
    No,
    /// It is tried again until `give_up_after`.
    Yes,
}

/// `notices.expiry`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExpiryNotices {
    /// The log tells the operator, and nobody else is told.
    #[default]
    No,
    /// A mail goes to the certificate's address.
    Yes,
}

/// Whether recipients may see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shown {
    /// They may not.
    #[default]
    No,
    /// They may.
    Yes,
}
