//! What an upstream shows to somebody who connects and leaves again before any mail: for `sealpost upstream test`.
//!
//! The same steps as before a message: look-up, addresses in their order, greeting, EHLO, TLS, AUTH, and QUIT. It goes on to the next address where a
//! delivery would. Where the certificate is refused, it is fetched once more by a handshake that takes any, in order to be shown: nothing is said on that
//! connection but EHLO and QUIT. Never: says MAIL; says a password where a delivery would not.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use tokio::time::timeout;

use super::attempt::{FaultCause, UpstreamFault};
use super::blame::Phase;
use super::connection::Connection;
use super::courier::{ADDRESSES_MAX, security};
use super::dialog::Fresh;
use super::login::fresh;
use super::network::Network;
use super::settings::{Deadlines, Security, Upstream};
use super::tls::{Anchors, Mode, TlsDemand, TlsMaterial};
use super::vigil::Signs;
use crate::smtp::Reply;
use crate::sys::{Clock, Entropy};

/// How long a person waits for any one thing.
const PATIENCE: Duration = Duration::from_secs(30);
/// Replies that are kept of one address; setting up a session takes fewer.
pub(super) const REPLIES_MAX: usize = 32;

/// What was found.
#[derive(Debug)]
pub struct Examination {
    /// The addresses of its name, in the order in which they are tried; or why there are none.
    pub addresses: Result<Vec<SocketAddr>, UpstreamFault>,
    /// Those that were tried.
    pub visits: Vec<Visit>,
}

/// One address that was tried.
#[derive(Debug)]
pub struct Visit {
    /// The address.
    pub address: SocketAddr,
    /// From which of ours, where that is configured.
    pub from: Option<IpAddr>,
    /// What it said, in order, and where in the dialogue.
    pub replies: Vec<(Phase, Reply)>,
    /// What TLS was agreed on.
    pub tls: Option<Negotiated>,
    /// What the handshake had to prove of the certificate, as it stands behind "yes, "; none where nobody looks at it.
    pub proof: Option<String>,
    /// The certificates that were refused.
    pub refused: Vec<CertificateDer<'static>>,
    /// What kept it from being ready for mail.
    pub fault: Option<UpstreamFault>,
}

/// What TLS was agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// The version.
    pub version: String,
    /// The cipher suite.
    pub cipher: String,
    /// The certificates that were shown, the upstream's own first.
    pub certificates: Vec<CertificateDer<'static>>,
}

impl Examination {
    /// Whether mail could go.
    pub fn is_ready(&self) -> bool {
        self.visits.last().is_some_and(|visit| visit.fault.is_none())
    }
}

/// Connects to an upstream as a delivery would, and leaves.
pub async fn examine(
    network: &dyn Network,
    upstream: &Upstream,
    clock: &Arc<dyn Clock>,
    entropy: &dyn Entropy,
) -> Examination {
    let upstream = Arc::new(impatient(upstream));
    let security = match security(network, &upstream).await {
        Ok(security) => security,
        Err(fault) => return Examination { addresses: Err(fault), visits: Vec::new() },
    };
    let view = View { network, upstream: &upstream, security: &security, clock, entropy };
    let addresses = match timeout(PATIENCE, network.lookup(&upstream)).await {
        Ok(Ok(addresses)) => Ok(addresses),
        Ok(Err(fault)) => Err(FaultCause::NoAddress(fault.to_string())),
        Err(_) => Err(FaultCause::Silent(PATIENCE)),
    };
    let addresses = addresses.map_err(|cause| fault(&upstream, Phase::Lookup, cause));
    let mut visits = Vec::new();
    let allowed = |address: &&SocketAddr| upstream.source.allow(address.ip());
    for &address in addresses.iter().flatten().filter(allowed).take(ADDRESSES_MAX) {
        let visit = Box::pin(view.visit(address)).await;
        let goes_on = visit.fault.as_ref().is_some_and(|fault| fault.phase.is_about_the_address());
        visits.push(visit);
        if !goes_on {
            break;
        }
    }
    let addresses = match addresses {
        Ok(found) if visits.is_empty() => {
            let why = if found.is_empty() {
                "it has no address"
            } else {
                "it has no address of the family of source_address"
            };
            Err(fault(&upstream, Phase::Lookup, FaultCause::NoAddress(why.to_owned())))
        }
        other => other,
    };
    Examination { addresses, visits }
}

/// One upstream, as it is looked at.
struct View<'a> {
    network: &'a dyn Network,
    upstream: &'a Arc<Upstream>,
    /// As configured, or as TLSA records demand.
    security: &'a Security,
    clock: &'a Arc<dyn Clock>,
    entropy: &'a dyn Entropy,
}

impl View<'_> {
    async fn visit(&self, address: SocketAddr) -> Visit {
        let signs = Signs::recording();
        let fault = self.connect(address, &signs).await.err();
        let (replies, tls) = signs.recorded();
        let refused = match &fault {
            Some(UpstreamFault { cause: FaultCause::Tls(_), .. }) => {
                Box::pin(self.refused(address)).await.unwrap_or_default()
            }
            Some(_) | None => Vec::new(),
        };
        let from = self.upstream.source.towards(address.ip());
        let proof = self.security.proof().map(str::to_owned);
        Visit { address, from, replies, tls, proof, refused, fault }
    }

    async fn connect(&self, address: SocketAddr, signs: &Signs) -> Result<(), UpstreamFault> {
        let fresh = fresh(self.upstream, self.entropy).await;
        let fresh = fresh.map_err(|cause| fault(self.upstream, Phase::Auth, cause))?;
        let opened = Connection::open(self.network, self.upstream, address, self.security, fresh, signs);
        Box::pin(opened).await?.leave().await;
        Ok(())
    }

    /// The certificates of an upstream that are not good enough; none when it shows none to anybody. Neither pins nor TLSA records count here, and
    /// nothing is said that would show who we are.
    async fn refused(&self, address: SocketAddr) -> Option<Vec<CertificateDer<'static>>> {
        let name = self.security.tls()?.server_name.to_str().into_owned();
        let mode = if matches!(self.security, Security::Implicit(_)) { Mode::Implicit } else { Mode::StartTls };
        let material = TlsMaterial { anchors: Anchors::Nobody, pins: Vec::new(), server_name: None, identity: None };
        let security = Security::new(mode, TlsDemand::Require, &name, material, Arc::clone(self.clock)).ok()?;
        let unmasked = Upstream { credentials: None, dane: None, ..Upstream::clone(self.upstream) };
        let anybody = Arc::new(Upstream { security: security.clone(), ..unmasked });
        let signs = Signs::recording();
        let opened = Connection::open(self.network, &anybody, address, &security, Fresh::default(), &signs);
        Box::pin(opened).await.ok()?.leave().await;
        Some(signs.recorded().1?.certificates)
    }
}

/// The same upstream, for somebody who sits and waits.
fn impatient(upstream: &Upstream) -> Upstream {
    let short = |wait: Duration| wait.min(PATIENCE);
    let Deadlines { lookup, connect, tls, greeting, command, .. } = upstream.deadlines;
    let deadlines = Deadlines {
        lookup: short(lookup),
        connect: short(connect),
        tls: short(tls),
        greeting: short(greeting),
        command: short(command),
        ..upstream.deadlines
    };
    Upstream { deadlines, ..upstream.clone() }
}

fn fault(upstream: &Upstream, phase: Phase, cause: FaultCause) -> UpstreamFault {
    UpstreamFault { upstream: upstream.name.clone(), address: None, phase, cause }
}
