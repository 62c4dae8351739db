//! The way to the server: TCP, the dialogue before TLS, the handshake with the whole chain; [`Secured`] is what lettre is given.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use lettre::transport::smtp::client::AsyncTokioStream;
use lettre::transport::smtp::extension::ClientId;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::{Failure, PATIENCE, Server, SubmitArguments, tls_failure, unreachable};
use crate::config::files;
use crate::smtp::LineReader;
use crate::smtp::reply::{REPLY_LINE_MAX, Reply, ReplyReader};
use crate::tls::read;

/// What TLS is made with.
pub(super) struct Tls {
    config: Arc<rustls::ClientConfig>,
    server_name: ServerName<'static>,
    pub(super) leaf: CertificateDer<'static>,
}

impl Tls {
    pub(super) fn load(arguments: &SubmitArguments) -> Result<Self, Failure> {
        let setup = |path: &std::path::Path, wrong: String| Failure::Setup(format!("{}: {wrong}", path.display()));
        let open = |path: &std::path::Path| files::read(path).map_err(|wrong| setup(path, wrong));
        let certificates = |path: &std::path::Path| {
            read::certificates(&open(path)?.octets).map_err(|fault| setup(path, fault.to_string()))
        };
        let chain = certificates(&arguments.cert)?;
        let key = read::private_key(&open(&arguments.key)?.octets)
            .map_err(|fault| setup(&arguments.key, fault.to_string()))?;
        let mut roots = rustls::RootCertStore::empty();
        for root in certificates(&arguments.ca)? {
            roots.add(root).map_err(|fault| setup(&arguments.ca, format!("can't be a trust anchor: {fault}")))?;
        }
        let leaf = chain.first().cloned().ok_or_else(|| setup(&arguments.cert, "is empty".to_owned()))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|fault| Failure::Setup(fault.to_string()))?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(|fault| {
                let wrong = crate::upstream::tls::identity_fault(&fault);
                setup(&arguments.cert, format!("can't be used with {}: {wrong}", arguments.key.display()))
            })?;
        config.resumption = rustls::client::Resumption::disabled();
        let name = arguments.server_name.clone().unwrap_or_else(|| arguments.server.host.clone());
        let server_name = ServerName::try_from(name.clone())
            .map_err(|_| Failure::Setup(format!("{name:?} is no name that a certificate can carry")))?;
        Ok(Self { config: Arc::new(config), server_name, leaf })
    }

    /// `greeting` is put before what the server says inside; without one TLS is the first that is said at all.
    async fn handshake(&self, stream: TcpStream, greeting: &'static [u8]) -> Result<Secured, Failure> {
        let (peer, local) = (stream.peer_addr().map_err(unreachable)?, stream.local_addr().map_err(unreachable)?);
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(&self.config));
        let shaken = tokio::time::timeout(PATIENCE, connector.connect(self.server_name.clone(), stream)).await;
        let stream = shaken
            .map_err(|_| Failure::Unreachable("the TLS handshake took too long".to_owned()))?
            .map_err(|fault| if greeting.is_empty() && is_no_tls(&fault) { not_tls() } else { tls_failure(fault) })?;
        Ok(Secured { greeting, stream, peer, local })
    }
}

/// Connects, and goes through TLS: from the first octet, or by STARTTLS (RFC 3207).
pub(super) async fn connect(arguments: &SubmitArguments, tls: &Tls) -> Result<Secured, Failure> {
    let Server { host, port } = &arguments.server;
    let connected = tokio::time::timeout(PATIENCE, TcpStream::connect((host.as_str(), *port))).await;
    let stream = match connected {
        Ok(Ok(stream)) => stream,
        Ok(Err(fault)) => return Err(Failure::Unreachable(format!("{host}:{port}: {fault}"))),
        Err(_) => return Err(Failure::Unreachable(format!("{host}:{port}: connecting took too long"))),
    };
    stream.set_nodelay(true).map_err(unreachable)?;
    if arguments.implicit {
        return tls.handshake(stream, b"").await;
    }
    let mut plain = Plain { ours: stream.local_addr().map_err(unreachable)?, stream, reader: LineReader::new() };
    plain.greeted().await?;
    plain.start_tls().await?;
    tls.handshake(plain.stream, AFTER_STARTTLS).await
}

/// lettre begins with a greeting, and behind STARTTLS there is none: this one is put before the first reply.
const AFTER_STARTTLS: &[u8] = b"220 TLS\r\n";

/// The dialogue before TLS: greeting, EHLO, STARTTLS.
struct Plain {
    ours: SocketAddr,
    stream: TcpStream,
    reader: LineReader,
}

/// A server that takes TLS from the first octet waits for the client, and so says nothing that could tell (RFC 8314 §3.3).
const UNGREETED: &str = "; if it takes TLS from the first octet, as on port 465, use --implicit";

/// For a greeting, at any port: one that has not come soon will not come. RFC 5321 §4.5.3.2.1 has clients wait for five minutes; ours are people.
const GREETING_PATIENCE: Duration = Duration::from_secs(10);

/// Whether what came in the place of TLS is none.
fn is_no_tls(fault: &io::Error) -> bool {
    let tls = fault.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(tls, Some(rustls::Error::InvalidMessage(_)))
}

/// Such a server greets in plaintext: that is no TLS.
fn not_tls() -> Failure {
    Failure::Nonsense(
        "its first words are not TLS; if it takes STARTTLS, as on port 587, leave out --implicit".to_owned(),
    )
}

impl Plain {
    /// The greeting; what comes in its place, or does not, may be because the server waits for TLS.
    async fn greeted(&mut self) -> Result<(), Failure> {
        let greeted = tokio::time::timeout(GREETING_PATIENCE, self.expect("the greeting", 220)).await;
        match greeted.unwrap_or_else(|_| Err(Failure::Unreachable("no greeting came".to_owned()))) {
            Ok(_) => Ok(()),
            Err(Failure::Unreachable(why)) => Err(Failure::Unreachable(format!("{why}{UNGREETED}"))),
            Err(Failure::Nonsense(why)) => Err(Failure::Nonsense(format!("{why}{UNGREETED}"))),
            Err(other) => Err(other),
        }
    }

    /// EHLO and STARTTLS.
    async fn start_tls(&mut self) -> Result<(), Failure> {
        let hello = format!("EHLO {}\r\n", client_id(self.ours));
        self.say(&hello).await?;
        let offered = self.expect("EHLO", 250).await?;
        if !offered.lines().iter().skip(1).any(|line| line.trim().eq_ignore_ascii_case("STARTTLS")) {
            return Err(Failure::Untrusted(
                "it does not offer STARTTLS (for TLS from the first octet use --implicit)".to_owned(),
            ));
        }
        self.say("STARTTLS\r\n").await?;
        self.expect("STARTTLS", 220).await?;
        // What stands behind the reply was said in plaintext and would be taken for a reply inside TLS.
        if self.reader.buffered().is_empty() {
            Ok(())
        } else {
            Err(Failure::Untrusted("something was said in plaintext behind the reply to STARTTLS".to_owned()))
        }
    }

    async fn say(&mut self, line: &str) -> Result<(), Failure> {
        self.stream.write_all(line.as_bytes()).await.map_err(unreachable)
    }

    async fn expect(&mut self, step: &str, code: u16) -> Result<Reply, Failure> {
        let reply = tokio::time::timeout(PATIENCE, self.reply()).await;
        let reply = reply.map_err(|_| Failure::Unreachable(format!("no reply to {step} came")))??;
        if reply.code().number() == code {
            return Ok(reply);
        }
        let status = reply.status().map(|status| format!("{status} ")).unwrap_or_default();
        Err(Failure::Refused {
            step: step.to_owned(),
            code: reply.code().number(),
            text: format!("{status}{}", reply.text()),
        })
    }

    async fn reply(&mut self) -> Result<Reply, Failure> {
        let mut replies = ReplyReader::default();
        loop {
            while let Some(line) = self.reader.next_line(REPLY_LINE_MAX) {
                let line = line.map_err(|fault| Failure::Nonsense(format!("a line with {fault:?}")))?;
                match replies.line(line) {
                    Ok(Some(reply)) => return Ok(reply),
                    Ok(None) => {}
                    Err(fault) => return Err(Failure::Nonsense(format!("a reply that is none: {fault}"))),
                }
            }
            let mut piece = vec![0; self.reader.room()];
            let count = self.stream.read(&mut piece).await.map_err(unreachable)?;
            match piece.get(..count) {
                Some(came) if !came.is_empty() => self.reader.push(came),
                _ => return Err(Failure::Unreachable("the server closed the connection".to_owned())),
            }
        }
    }
}

/// A stream inside TLS, with a greeting before what the server says.
#[derive(Debug)]
pub(super) struct Secured {
    greeting: &'static [u8],
    stream: TlsStream<TcpStream>,
    peer: SocketAddr,
    pub(super) local: SocketAddr,
}

impl AsyncTokioStream for Secured {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer)
    }
}

impl AsyncRead for Secured {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.greeting.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, room);
        }
        let (now, later) = self.greeting.split_at_checked(room.remaining()).unwrap_or((self.greeting, b""));
        room.put_slice(now);
        self.greeting = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Secured {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// What we call ourselves: the address we come from (RFC 5321 §4.1.4: a client without a name of its own says a literal).
pub(super) fn client_id(local: SocketAddr) -> ClientId {
    match local.ip().to_canonical() {
        std::net::IpAddr::V4(address) => ClientId::Ipv4(address),
        std::net::IpAddr::V6(address) => ClientId::Ipv6(address),
    }
}
