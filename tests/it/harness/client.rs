//! A client that says exactly what the test says: STARTTLS or implicit TLS, with or without a certificate, one reply at a time.

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::PATIENCE;
use super::certificates::Leaf;

/// Settings for one certificate (or none) against servers of this anchor.
pub fn tls(anchor: &Path, leaf: Option<&Leaf>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(anchor).unwrap()).unwrap();
    let builder = ClientConfig::builder().with_root_certificates(roots);
    Arc::new(match leaf {
        None => builder.with_no_client_auth(),
        Some(leaf) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_file(&leaf.certificate).unwrap()],
                PrivateKeyDer::from_pem_file(&leaf.key).unwrap(),
            )
            .unwrap(),
    })
}

/// A reply: its code and whole text, lines joined by LF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub code: u16,
    pub text: String,
}

/// One connection. Errors are values: in the kill tests the other side dies at any moment.
pub struct Client {
    stream: BufReader<Stream>,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Client {
    /// Connects and reads the greeting.
    pub fn plain(address: SocketAddr) -> io::Result<Self> {
        Self::plain_behind(b"", address)
    }

    /// So too, behind a load balancer that sends this header.
    pub fn plain_behind(header: &[u8], address: SocketAddr) -> io::Result<Self> {
        let mut client = Self { stream: BufReader::new(Stream::Plain(connect(header, address)?)) };
        client.expect(220)?;
        Ok(client)
    }

    /// Connects, starts TLS by STARTTLS, says EHLO; what EHLO was answered comes back too.
    pub fn starttls(address: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<(Self, Said)> {
        Self::starttls_behind(b"", address, config)
    }

    /// So too, behind a load balancer that sends this header.
    pub fn starttls_behind(header: &[u8], address: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<(Self, Said)> {
        let mut client = Self::plain_behind(header, address)?;
        client.say("EHLO client.example.com")?;
        client.expect(250)?;
        client.say("STARTTLS")?;
        client.expect(220)?;
        let Stream::Plain(socket) = client.stream.into_inner() else { unreachable!("just connected") };
        let mut client = Self { stream: BufReader::new(secured(socket, config)?) };
        let said = client.command("EHLO client.example.com")?;
        Ok((client, said))
    }

    /// Connects with TLS from the start, reads the greeting.
    pub fn implicit(address: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<(Self, Said)> {
        Self::implicit_behind(b"", address, config)
    }

    /// So too, behind a load balancer that sends this header.
    pub fn implicit_behind(header: &[u8], address: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<(Self, Said)> {
        let mut client = Self { stream: BufReader::new(secured(connect(header, address)?, config)?) };
        let said = client.read_reply()?;
        Ok((client, said))
    }

    /// Connects as a load balancer that vouches: TLS with its own certificate, and inside that this header; reads the greeting.
    pub fn vouched(header: &[u8], address: SocketAddr, balancer: &Arc<ClientConfig>) -> io::Result<(Self, Said)> {
        let mut stream = secured(connect(b"", address)?, balancer)?;
        stream.write_all(header)?;
        stream.flush()?;
        let mut client = Self { stream: BufReader::new(stream) };
        let said = client.read_reply()?;
        Ok((client, said))
    }

    /// Says a line and reads the reply.
    pub fn command(&mut self, line: &str) -> io::Result<Said> {
        self.say(line)?;
        self.read_reply()
    }

    /// Says a line; the reply is read later.
    pub fn say(&mut self, line: &str) -> io::Result<()> {
        self.send(format!("{line}\r\n").as_bytes())
    }

    /// Sends octets as they are.
    pub fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(octets)?;
        self.stream.get_mut().flush()
    }

    /// One whole transaction, pipelined; the reply to the end of the data, or the first refusal.
    pub fn submit(&mut self, sender: &str, recipients: &[&str], message: &[u8]) -> io::Result<Said> {
        let mut lines = format!("MAIL FROM:<{sender}>\r\n");
        recipients.iter().for_each(|recipient| lines += &format!("RCPT TO:<{recipient}>\r\n"));
        self.send(format!("{lines}DATA\r\n").as_bytes())?;
        let replies: Vec<Said> = (0..recipients.len() + 2).map(|_| self.read_reply()).collect::<io::Result<_>>()?;
        if let Some(refused) = replies.iter().find(|reply| reply.code >= 400) {
            return Ok(refused.clone());
        }
        self.send(&stuffed(message))?;
        self.read_reply()
    }

    /// Reads one reply, however many lines it has.
    pub fn read_reply(&mut self) -> io::Result<Said> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let (code, rest) = line.trim_end_matches("\r\n").split_at(3);
            lines.push(rest.get(1..).unwrap_or_default().to_owned());
            if !rest.starts_with('-') {
                return Ok(Said { code: code.parse().unwrap(), text: lines.join("\n") });
            }
        }
    }

    /// Whether the other side has closed the connection (waits for it).
    pub fn is_closed(&mut self) -> bool {
        matches!(self.stream.read(&mut [0]), Ok(0) | Err(_))
    }

    fn expect(&mut self, code: u16) -> io::Result<Said> {
        let said = self.read_reply()?;
        if said.code == code { Ok(said) } else { Err(io::Error::other(format!("{} {}", said.code, said.text))) }
    }
}

/// The certificate that a server with implicit TLS shows.
pub fn server_certificate(address: SocketAddr, config: &Arc<ClientConfig>) -> CertificateDer<'static> {
    let Stream::Tls(stream) = secured(connect(b"", address).unwrap(), config).unwrap() else {
        unreachable!("TLS was asked for")
    };
    stream.conn.peer_certificates().unwrap()[0].clone().into_owned()
}

/// A message as it goes on the wire: dots stuffed, ended (RFC 5321 §4.5.2). It must end with CRLF.
pub fn stuffed(message: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(message.len() + 64);
    for line in message.split_inclusive(|octet| *octet == b'\n') {
        if line.starts_with(b".") {
            wire.push(b'.');
        }
        wire.extend_from_slice(line);
    }
    wire.extend_from_slice(b".\r\n");
    wire
}

fn connect(header: &[u8], address: SocketAddr) -> io::Result<TcpStream> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.write_all(header)?;
    Ok(socket)
}

fn secured(socket: TcpStream, config: &Arc<ClientConfig>) -> io::Result<Stream> {
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, socket);
    stream.conn.complete_io(&mut stream.sock)?;
    Ok(Stream::Tls(Box::new(stream)))
}

impl Read for Stream {
    fn read(&mut self, octets: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(octets),
            Self::Tls(stream) => stream.read(octets),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(octets),
            Self::Tls(stream) => stream.write(octets),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}
