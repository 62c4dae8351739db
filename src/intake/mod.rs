//! One connection, from accept to custody; behind a load balancer [`introduced`] reads first whose it is. [`serve`] can be read aloud: preamble, handshake, identity, session.
//! Where a balancer does the handshake with clients and vouches for their certificates, [`by_balancer`] comes in [`serve`]'s place.
//!
//! Drives the pure machines of `session` and decides nothing itself: what they ask is found by `answers`, what they let in is read by
//! `message`. Never: handles MAIL before TLS; says 250 to a message without a `Custody`.

mod answers;
mod arrival;
mod balancer;
mod converse;
mod message;
mod pace;
pub mod proxy;
mod sealed;
mod second_factor;
mod through;
mod vouched;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

pub use balancer::{Introduced, has_header, header_wait, introduced};
pub use converse::converse;
pub use pace::PaceLimits;
pub use proxy::Unvouched;
pub use second_factor::Desk;
pub use vouched::{ByBalancer, by_balancer};

use crate::audit;
use crate::credentials::ExporterValue;
use crate::doors::Place;
use crate::house::House;
use crate::queue::Vouched;
use crate::session::{Deadline, Preamble, PreambleEvent, PreambleStep, TlsReadiness, replies};
use crate::smtp::Reply;
use crate::snapshot::{Door, Mode};
use crate::sys::Drain;
use crate::tls::{Negotiated, PeerChain, VouchedChain, exporter, negotiated, peer_chain, telling};
pub use wire::LingerLimits;

use sealed::Sealed;
use wire::{Client, Gone, Heard, Wire};

/// How long intake waits, and for how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntakeLimits {
    /// From accept to the end of the TLS handshake, the preamble included.
    pub handshake: Duration,
    /// For a load balancer's whole PROXY header ([`header_wait`]).
    pub proxy_header: Duration,
    /// For the next command (RFC 5321 §4.5.3.2.7: at least 5 minutes).
    pub command: Duration,
    /// For a reply to be taken by the client.
    pub write: Duration,
    /// The longest life of a session.
    pub session_max: Duration,
    /// How slow a message may come.
    pub pace: PaceLimits,
    /// How long a client that is still talking is listened to after we have hung up.
    pub linger: LingerLimits,
}

/// For saying 421 when the handshake's deadline has passed before STARTTLS.
const FAREWELL: Duration = Duration::from_secs(5);

/// Who is at the other end, as far as the handshake showed.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where the connection came from.
    pub client: SocketAddr,
    /// What the handshake agreed on.
    pub tls: Negotiated,
    /// Which certificates it has shown, and to whom.
    pub chain: Presented,
    /// What SCRAM binds to this connection, where it can be bound (RFC 9266).
    pub exporter: Option<ExporterValue>,
    /// Which of the snapshot's doors it came in by.
    pub door: usize,
}

/// What is known of a client's certificate, and by whose word.
#[derive(Clone, Debug)]
pub enum Presented {
    /// It has shown none.
    Nothing,
    /// Shown to us: the handshake has proved that the client holds the key.
    ToUs(PeerChain),
    /// Shown to a load balancer that is pinned, and vouches for it.
    ToBalancer(Box<VouchedChain>),
    /// Such a balancer vouches for none.
    Unvouched(Unvouched),
}

impl Peer {
    /// What is kept of its TLS with a message: what we have seen, and a load balancer's word for what we have not.
    fn tls_told(&self) -> String {
        let Negotiated { version, cipher, .. } = &self.tls;
        match &self.chain {
            Presented::ToBalancer(chain) => {
                let (balancer, told) = (chain.balancer().fingerprint(), chain.told());
                format!("{version} {cipher} with load balancer {balancer}, which says of its client: {told}")
            }
            Presented::Nothing | Presented::ToUs(_) | Presented::Unvouched(_) => format!("{version} {cipher}"),
        }
    }
}

impl Presented {
    /// Who vouches for it, where we have not seen ourselves that the client holds the key.
    fn voucher(&self) -> Option<Vouched> {
        match self {
            Self::Nothing | Self::ToUs(_) | Self::Unvouched(_) => None,
            Self::ToBalancer(chain) => {
                let balancer = chain.balancer();
                Some(Vouched { fingerprint: balancer.fingerprint().0, key: balancer.key().0 })
            }
        }
    }

    /// The client's own certificate.
    fn leaf(&self) -> Option<&CertificateDer<'static>> {
        match self {
            Self::Nothing | Self::Unvouched(_) => None,
            Self::ToUs(chain) => chain.0.first(),
            Self::ToBalancer(chain) => chain.certificates().first(),
        }
    }
}

impl From<Option<PeerChain>> for Presented {
    fn from(chain: Option<PeerChain>) -> Self {
        chain.map_or(Self::Nothing, Self::ToUs)
    }
}

/// Serves one accepted connection until it ends, or its place is given away. `stream` is a TCP connection, or in tests anything like one.
pub async fn serve<S>(stream: S, client: SocketAddr, door: usize, house: Arc<House>, place: Place)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let snapshot = house.snapshot();
    let Some(entered) = snapshot.doors.get(door).map(Arc::clone) else { return };
    let mut drain = house.tasks.drain();
    let arriving = async {
        let stream = match entered.mode {
            Mode::StartTls => preamble(stream, client, &entered, &house, &mut drain, &place).await?,
            Mode::Implicit => stream,
            // The other end's certificate is a balancer's there, and nobody's identity: `by_balancer` alone lets in.
            Mode::ProxiedTls => return None,
        };
        tokio::select! {
            // In a place of its own, so that it is handed on without taking its size again at each hand.
            stream = handshake(stream, client, &entered) => stream.map(|stream| Box::new(Sealed(stream))),
            () = drain.wait() => None,
            // TLS has no words for it.
            () = called_away(&place, client, &house) => None,
        }
    };
    // What arriving took is given back before the session begins: it may be idle for hours.
    let arriving = Box::pin(arriving);
    // The preamble keeps the deadline by itself and says so; TLS has no words for it.
    let Ok(arrived) = timeout(snapshot.intake.handshake.saturating_add(FAREWELL), arriving).await else {
        tracing::info!(%client, "the client was too slow: TLS was not established in time");
        return;
    };
    let Some(stream) = arrived else { return };
    let (_, tls) = stream.0.get_ref();
    // Both ends have agreed by now; without it there would be no stream.
    let Some(negotiated) = negotiated(tls) else { return };
    let peer = Peer { client, tls: negotiated, chain: peer_chain(tls).into(), exporter: exporter(tls), door };
    drop(snapshot);
    converse(stream, peer, house, drain, place).await;
}

/// Waits until the place of a client without an identity is given to another, and tells the operator so now and then.
async fn called_away(place: &Place, client: SocketAddr, house: &House) {
    place.given_away().await;
    if let Some(unsaid) = house.doors.called_away.say(house.now().mono) {
        tracing::warn!(
            %client, limit = "limits.connections", unsaid, since_the_start = house.doors.given_away(),
            "all connections are taken: who had been here longest without an identity had to leave for another"
        );
    }
}

/// The dialogue before TLS. `None`: it ended there.
async fn preamble<S>(
    stream: S,
    client: SocketAddr,
    door: &Door,
    house: &House,
    drain: &mut Drain,
    place: &Place,
) -> Option<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let limits = house.snapshot().intake;
    let began = house.now().mono;
    let mut preamble = Preamble::new(Arc::clone(&door.session), readiness(door.mode));
    let mut wire = Wire::new(stream, limits.write);
    // RFC 5321 §4.3.1: the client waits for our greeting. Whoever does not is no SMTP client.
    let mut step = match wire.has_spoken().await {
        true => preamble.on(PreambleEvent::TalkedEarly, house.now().wall),
        false => PreambleStep::Say(preamble.greeting()),
    };
    loop {
        match step {
            PreambleStep::Say(reply) => {
                wire.say(&reply);
                let left = limits.handshake.saturating_sub(house.now().mono.since(began));
                let heard = tokio::select! {
                    biased;
                    () = called_away(place, client, house) => {
                        wire.leave(&no_place(door)).await;
                        return None;
                    }
                    heard = wire.hear(preamble.line_limit(), limits.command.min(left), Some(drain)) => heard,
                };
                let event = match heard {
                    Heard::Line(line) => PreambleEvent::Line(line.map(|()| wire.line())),
                    Heard::Draining => PreambleEvent::Draining,
                    Heard::Gone(Gone::TimedOut) => PreambleEvent::TimedOut(Deadline::Idle),
                    Heard::Gone(Gone::Closed | Gone::Unread | Gone::Broken(_)) => return None,
                };
                step = preamble.on(event, house.now().wall);
            }
            // RFC 3207 §4.2 and CVE-2011-0411: octets behind STARTTLS were not said by whoever the handshake will show.
            PreambleStep::StartTls(_) if wire.has_spoken().await => {
                step = preamble.on(PreambleEvent::TalkedEarly, house.now().wall)
            }
            PreambleStep::StartTls(reply) => {
                wire.say(&reply);
                wire.flush().await.ok()?;
                return Some(wire.into_stream());
            }
            PreambleStep::Close(reply) => {
                let away = called_away(place, client, house);
                converse::part(&mut wire, &reply, Client::Listening, limits.linger, away).await;
                return None;
            }
        }
    }
}

/// What is said to whose place is given away: as to one for whom there is none.
fn no_place(door: &Door) -> Reply {
    replies::from_here(&door.session.hostname, replies::too_many_connections())
}

/// Inside a load balancer's TLS there is no other.
const fn readiness(mode: Mode) -> TlsReadiness {
    match mode {
        Mode::StartTls | Mode::Implicit => TlsReadiness::Ready,
        Mode::ProxiedTls => TlsReadiness::Unavailable,
    }
}

/// The TLS handshake. `None`: it failed, and the client was sent an alert.
async fn handshake<S>(stream: S, client: SocketAddr, door: &Door) -> Option<tokio_rustls::server::TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match telling(tokio_rustls::TlsAcceptor::from(Arc::clone(&door.tls)).accept(stream)).await {
        (Ok(stream), _) => Some(stream),
        (Err(_), Some(rejection)) => {
            audit::turned_away(client, &rejection);
            None
        }
        (Err(fault), None) => {
            match fault.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                // refusal = "alert": this is where a client without a certificate is turned away.
                Some(rustls::Error::NoCertificatesPresented) => {
                    audit::turned_away_without_certificate(client, "no client certificate was shown");
                }
                Some(cause @ rustls::Error::InvalidCertificate(_)) => {
                    audit::turned_away_without_certificate(client, &cause.to_string());
                }
                // A balancer that looks whether we are here, by LOCAL: HAProxy does so every two seconds.
                _ if door.balancers.is_some() && has_hung_up(&fault) => {
                    tracing::debug!(%client, listener = %door.address, %fault, "the TLS handshake was left");
                }
                _ => tracing::info!(%client, listener = %door.address, %fault, "the TLS handshake failed"),
            }
            None
        }
    }
}

/// Whether the other end has closed the connection, or reset it.
fn has_hung_up(fault: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    [UnexpectedEof, ConnectionReset, ConnectionAborted, BrokenPipe].contains(&fault.kind())
}
