//! Who comes by way of a load balancer that did the client's handshake and vouches for the client's certificate.
//!
//! ```text
//! accept -> mutual TLS with the balancer, whose certificate is pinned -> PROXY header inside that -> the client's dialogue inside that
//! ```
//!
//! The header stands inside TLS because before it anybody on the way could write another client's certificate into it (docs/decisions/0012).
//! Never: says a word of SMTP to whom the handshake does not show as one of the listener's balancers; takes the balancer's certificate for its client's.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::balancer::{header_of, tell_headless};
use super::proxy::word_of;
use super::{FAREWELL, Introduced, Peer, Presented, Unvouched, called_away, converse, has_hung_up, preamble};
use crate::doors::Place;
use crate::house::House;
use crate::session::replies;
use crate::snapshot::Door;
use crate::tls::{self, Balancer, ToldTls, balancer_fault_of};

/// A connection that one of a listener's balancers passes on.
pub struct ByBalancer<S> {
    stream: Box<TlsStream<S>>,
    door: Arc<Door>,
    peer: Peer,
    introduced: Introduced,
}

impl<S> std::fmt::Debug for ByBalancer<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ByBalancer")
            .field("peer", &self.peer)
            .field("introduced", &self.introduced)
            .finish_non_exhaustive()
    }
}

/// Lets a load balancer in, and hears for whom it speaks. `None`: it is none of the listener's, or speaks for nobody, and the connection is to be
/// closed; it was told.
pub async fn by_balancer<S>(
    stream: S,
    from: SocketAddr,
    door: usize,
    house: &House,
    place: &Place,
) -> Option<ByBalancer<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let snapshot = house.snapshot();
    let entered = snapshot.doors.get(door).map(Arc::clone)?;
    let wait = snapshot.intake.handshake;
    drop(snapshot);
    let mut drain = house.tasks.drain();
    let accepted = tokio::select! {
        biased;
        accepted = timeout(wait, TlsAcceptor::from(Arc::clone(&entered.tls)).accept(stream)) => accepted,
        () = drain.wait() => return None,
        () = called_away(place, from, house) => return None,
    };
    let mut stream = match accepted {
        Ok(Ok(stream)) => Box::new(stream),
        Ok(Err(fault)) => return turn_away(&fault, from, house),
        Err(_) => {
            tell(from, "its handshake was not done in time", house);
            return None;
        }
    };
    let (_, connection) = stream.get_ref();
    // The verifier has said so; this is the value that proves it.
    let balancer = match tls::balancer(connection, &entered.vouchers, house.now().wall) {
        Ok(balancer) => balancer,
        Err(fault) => {
            tell(from, &fault.to_string(), house);
            return None;
        }
    };
    let negotiated = tls::negotiated(connection)?;
    let (introduced, chain) = client_of(&mut stream, balancer, from, house, place).await?;
    let client = match introduced {
        Introduced::Client(client) => client,
        Introduced::Probe => from,
    };
    let peer = Peer { client, tls: negotiated, chain, exporter: None, door };
    Some(ByBalancer { stream, door: entered, peer, introduced })
}

/// Reads the header inside TLS: whose connection it is, and which certificate the balancer vouches for.
async fn client_of<S>(
    stream: &mut TlsStream<S>,
    balancer: Balancer,
    from: SocketAddr,
    house: &House,
    place: &Place,
) -> Option<(Introduced, Presented)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (introduced, header) = header_of(stream, from, house, place).await?;
    let chain = match (introduced, word_of(header.tlvs())) {
        (Introduced::Probe, _) => Presented::Nothing,
        (Introduced::Client(_), Ok(Ok(told))) => {
            let leaf = CertificateDer::from(told.certificate.to_vec());
            Presented::ToBalancer(Box::new(balancer.vouch(leaf, ToldTls::new(told.version, told.cipher))))
        }
        (Introduced::Client(_), Ok(Err(why))) => {
            tell_untold(from, why, house);
            Presented::Unvouched(why)
        }
        (Introduced::Client(_), Err(fault)) => {
            tell_headless(from, &fault.into(), house);
            return None;
        }
    };
    Some((introduced, chain))
}

impl<S: AsyncRead + AsyncWrite + Unpin> ByBalancer<S> {
    /// Whose connection it is.
    pub fn introduced(&self) -> Introduced {
        self.introduced
    }

    /// Serves it until it ends: the client, or the balancer that looks whether we are well, which hears a greeting and is let no further.
    pub async fn serve(self, house: Arc<House>, place: Place) {
        let mut drain = house.tasks.drain();
        let Self { stream, door, peer, introduced } = self;
        match introduced {
            Introduced::Client(_) => converse(stream, peer, house, drain, place).await,
            Introduced::Probe => drop(preamble(stream, peer.client, &door, &house, &mut drain, &place).await),
        }
    }

    /// Says that there are too many connections of this client's. Its TLS stands, so it reads this.
    pub async fn turn_away(mut self) {
        let mut reply = Vec::new();
        replies::from_here(&self.door.session.hostname, replies::too_many_connections()).write_to(&mut reply);
        let saying = async {
            self.stream.write_all(&reply).await?;
            self.stream.shutdown().await
        };
        drop(timeout(FAREWELL, saying).await);
    }
}

/// A handshake that failed. Who closes in it looks whether anybody listens; HAProxy's `check` does so by a reset.
fn turn_away<S>(fault: &io::Error, from: SocketAddr, house: &House) -> Option<ByBalancer<S>> {
    if has_hung_up(fault) {
        let probes = house.doors.count_probe();
        tracing::debug!(balancer = %from, probes, "the load balancer looked whether we are here");
    } else {
        tell(from, &why(fault), house);
    }
    None
}

fn why(fault: &io::Error) -> String {
    let Some(error) = fault.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return fault.to_string();
    };
    if let Some(fault) = balancer_fault_of(error) {
        return fault.to_string();
    }
    if let rustls::Error::NoCertificatesPresented = error {
        return tls::BalancerFault::NoCertificate.to_string();
    }
    if let rustls::Error::InvalidMessage(_) = error {
        return format!("it does not begin TLS ({error}); a PROXY header belongs inside TLS here, not in front of it");
    }
    error.to_string()
}

/// A balancer that tells less of its clients than it should is set up wrongly, for all of them; what a client has not shown is the client's affair.
fn tell_untold(balancer: SocketAddr, why: Unvouched, house: &House) {
    match why {
        Unvouched::Version1 | Unvouched::NothingTold | Unvouched::NotPassed => {
            if let Some(unsaid) = house.doors.untold.say(house.now().mono) {
                tracing::warn!(%balancer, %why, unsaid, "a load balancer tells no certificate of its clients, who are refused: see README's recipe for it");
            }
        }
        Unvouched::NoTls | Unvouched::NotShown | Unvouched::NotVerified(_) => {}
    }
}

fn tell(from: SocketAddr, why: &str, house: &House) {
    if let Some(unsaid) = house.doors.strangers.say(house.now().mono) {
        tracing::warn!(client = %from, why, unsaid, "no load balancer that vouches at this listener: turned away");
    }
}
