//! The seam to the network: names to addresses, addresses to streams. Real here; the tests and the simulation have their own.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};

use super::tlsa::{self, Dane, Named};

/// What a dialogue runs over.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Something of the network that takes time.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

/// Names to addresses, addresses to streams.
pub trait Network: Send + Sync + fmt::Debug {
    /// All addresses of a host name, or the address itself; in the order in which to try them.
    fn lookup<'a>(&'a self, host: &'a str, port: u16) -> Pending<'a, Vec<SocketAddr>>;

    /// A stream to one address.
    fn connect(&self, address: SocketAddr) -> Pending<'_, Box<dyn Stream>>;

    /// What DNS says of the certificates at a host's port, with DNSSEC's word for it.
    fn named<'a>(&'a self, dane: &'a Dane, host: &'a str, port: u16) -> Pending<'a, Named> {
        Box::pin(tlsa::ask(dane, host, port))
    }
}

/// The machine's resolver and TCP.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemNetwork;

impl Network for SystemNetwork {
    fn lookup<'a>(&'a self, host: &'a str, port: u16) -> Pending<'a, Vec<SocketAddr>> {
        Box::pin(async move { Ok(lookup_host((host, port)).await?.collect()) })
    }

    fn connect(&self, address: SocketAddr) -> Pending<'_, Box<dyn Stream>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            // Nagle with a peer that delays its ACKs costs 40 ms per reply.
            stream.set_nodelay(true)?;
            let stream: Box<dyn Stream> = Box::new(stream);
            Ok(stream)
        })
    }
}
