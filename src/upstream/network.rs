//! The seam to the network: upstreams to addresses, addresses to streams. Real here; the tests and the simulation have their own.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};

use super::resolver::Resolver;
use super::settings::Upstream;
use crate::sys::Entropy;

use super::tlsa::{self, Dane, Named};

/// What a dialogue runs over.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Something of the network that takes time.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

/// Upstreams to addresses, addresses to streams.
pub trait Network: Send + Sync + fmt::Debug {
    /// All addresses of an upstream, in the order in which to try them.
    fn lookup<'a>(&'a self, upstream: &'a Upstream) -> Pending<'a, Vec<SocketAddr>>;

    /// A stream to one address; from this address of the machine, where one is given.
    fn connect(&self, address: SocketAddr, from: Option<IpAddr>) -> Pending<'_, Box<dyn Stream>>;

    /// What DNS says of the certificates at a host's port, with DNSSEC's word for it.
    fn named<'a>(&'a self, dane: &'a Dane, host: &'a str, port: u16) -> Pending<'a, Named> {
        Box::pin(tlsa::ask(dane, host, port))
    }
}

/// The machine's resolver, DNS, and TCP.
#[derive(Debug)]
pub struct SystemNetwork {
    resolver: Resolver,
}

impl SystemNetwork {
    /// `entropy` draws among hosts of the same preference.
    pub fn new(entropy: Arc<dyn Entropy>) -> Self {
        Self { resolver: Resolver::new(entropy) }
    }
}

impl Network for SystemNetwork {
    fn lookup<'a>(&'a self, upstream: &'a Upstream) -> Pending<'a, Vec<SocketAddr>> {
        Box::pin(self.resolver.addresses(upstream))
    }

    fn connect(&self, address: SocketAddr, from: Option<IpAddr>) -> Pending<'_, Box<dyn Stream>> {
        Box::pin(async move {
            let stream = match from {
                None => TcpStream::connect(address).await?,
                Some(from) => connect_from(from, address).await?,
            };
            // Nagle with a peer that delays its ACKs costs 40 ms per reply.
            stream.set_nodelay(true)?;
            let stream: Box<dyn Stream> = Box::new(stream);
            Ok(stream)
        })
    }
}

/// The kernel chooses the port, so that it may be used for other destinations too.
async fn connect_from(from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = if from.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    let unusable = |fault| io::Error::other(format!("source_address {from} can't be used: {fault}"));
    socket.bind(SocketAddr::new(from, 0)).map_err(unusable)?;
    socket.connect(to).await
}
