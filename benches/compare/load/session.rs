//! One session of the load: opened with TLS and EHLO, messages one after the other, replies read and nothing assumed.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::{Mode, Pace, Target};

/// How long a client waits for the greeting before it connects anew.
const GREETING: Duration = Duration::from_secs(3);
/// How often it connects for one session.
const ATTEMPTS: u32 = 20;

/// A reply: its code and the text of its last line.
pub struct Said {
    pub code: u16,
    pub text: String,
}

/// A stream of replies.
struct Talk<S> {
    stream: S,
    input: Vec<u8>,
    patience: Duration,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Talk<S> {
    fn new(stream: S, patience: Duration) -> Self {
        Self { stream, input: Vec::new(), patience }
    }

    async fn say(&mut self, octets: &[u8]) -> io::Result<()> {
        let writing = async {
            self.stream.write_all(octets).await?;
            self.stream.flush().await
        };
        timeout(self.patience, writing).await.map_err(|_| late())?
    }

    /// One reply, however many lines it has.
    async fn reply(&mut self) -> io::Result<Said> {
        loop {
            let line = self.line().await?;
            if line.as_bytes().get(3) != Some(&b'-') {
                let code = line.get(..3).and_then(|code| code.parse().ok());
                let code = code.ok_or_else(|| io::Error::other(format!("no reply: {line}")))?;
                return Ok(Said { code, text: line });
            }
        }
    }

    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = memchr::memmem::find(&self.input, b"\r\n") {
                let line = String::from_utf8_lossy(&self.input[..end]).into_owned();
                self.input.drain(..end + 2);
                return Ok(line);
            }
            let mut piece = [0; 4096];
            let count = timeout(self.patience, self.stream.read(&mut piece)).await.map_err(|_| late())??;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.input.extend_from_slice(&piece[..count]);
        }
    }

    async fn expect(&mut self, code: u16) -> io::Result<()> {
        let said = self.reply().await?;
        if said.code == code { Ok(()) } else { Err(io::Error::other(said.text)) }
    }

    /// Says EHLO; whether PIPELINING is among what is offered.
    async fn greet(&mut self) -> io::Result<bool> {
        self.say(b"EHLO client.example.com\r\n").await?;
        let mut pipelining = false;
        loop {
            let line = self.line().await?;
            match line.as_bytes() {
                [b'2', b'5', b'0', more, keyword @ ..] => {
                    pipelining |= keyword.eq_ignore_ascii_case(b"PIPELINING");
                    if *more != b'-' {
                        return Ok(pipelining);
                    }
                }
                _ => return Err(io::Error::other(line)),
            }
        }
    }
}

fn late() -> io::Error {
    io::Error::from(io::ErrorKind::TimedOut)
}

/// How sessions come in: a few at a time knock, so that no server's listen backlog decides what is measured.
pub struct Door {
    server: SocketAddr,
    mode: Mode,
    patience: Duration,
    opening: Semaphore,
    anew: Cell<u64>,
}

impl Door {
    pub fn new(target: &Target) -> Self {
        Self {
            server: target.server,
            mode: target.mode,
            patience: Duration::from_secs(target.patience),
            opening: Semaphore::new(target.opening),
            anew: Cell::new(0),
        }
    }

    /// How often a client had to connect anew, since nobody greeted it.
    pub fn anew(&self) -> u64 {
        self.anew.get()
    }

    /// Connects, and is greeted inside TLS.
    pub async fn open(&self, tls: &Arc<ClientConfig>) -> io::Result<Session> {
        let mut talk = self.greeted().await?;
        let socket = match self.mode {
            Mode::Implicit => talk.stream,
            Mode::Starttls => {
                talk.greet().await?;
                talk.say(b"STARTTLS\r\n").await?;
                talk.expect(220).await?;
                talk.stream
            }
        };
        let name = ServerName::try_from("localhost").unwrap();
        let shaking = TlsConnector::from(Arc::clone(tls)).connect(name, socket);
        let stream = timeout(self.patience, shaking).await.map_err(|_| late())??;
        let mut talk = Talk::new(stream, self.patience);
        if self.mode == Mode::Implicit {
            talk.expect(220).await?;
        }
        let pipelining = talk.greet().await?;
        Ok(Session { talk, pipelining })
    }

    /// A connection on which the server has spoken, where it speaks first. A server whose backlog is full may never learn of a connection that this
    /// side takes for established (TCP with SYN cookies): then the client tries again, as people do, and it is counted.
    async fn greeted(&self) -> io::Result<Talk<TcpStream>> {
        let _knocking = self.opening.acquire().await.map_err(io::Error::other)?;
        if self.mode == Mode::Implicit {
            return connect(self.server, self.patience).await;
        }
        for attempt in 1.. {
            let mut talk = connect(self.server, GREETING).await?;
            match talk.expect(220).await {
                Ok(()) => {
                    talk.patience = self.patience;
                    return Ok(talk);
                }
                Err(fault) if fault.kind() == io::ErrorKind::TimedOut && attempt < ATTEMPTS => {
                    self.anew.set(self.anew.get() + 1);
                }
                Err(fault) => return Err(fault),
            }
        }
        unreachable!("the last attempt returns")
    }
}

async fn connect(server: SocketAddr, patience: Duration) -> io::Result<Talk<TcpStream>> {
    let socket = TcpStream::connect(server).await?;
    socket.set_nodelay(true)?;
    Ok(Talk::new(socket, patience))
}

pub struct Session {
    talk: Talk<TlsStream<TcpStream>>,
    pipelining: bool,
}

impl Session {
    /// One transaction: the reply to the end of the data, or the first refusal.
    pub async fn submit(&mut self, sender: &str, recipients: usize, pace: Pace, wire: &[u8]) -> io::Result<Said> {
        let mut commands = vec![format!("MAIL FROM:<{sender}>\r\n")];
        commands.extend((0..recipients).map(|number| format!("RCPT TO:<reader-{number}@example.net>\r\n")));
        commands.push("DATA\r\n".to_owned());
        // RFC 2920 §3.1: only where it is offered.
        let pace = if self.pipelining { pace } else { Pace::OneByOne };
        if pace == Pace::Pipelined {
            self.talk.say(commands.concat().as_bytes()).await?;
        }
        let mut refused = None;
        for command in &commands {
            if pace == Pace::OneByOne {
                self.talk.say(command.as_bytes()).await?;
            }
            let said = self.talk.reply().await?;
            if said.code >= 400 {
                refused.get_or_insert(said);
                if pace == Pace::OneByOne {
                    break;
                }
            }
        }
        if let Some(said) = refused {
            return Ok(said);
        }
        self.talk.say(wire).await?;
        self.talk.reply().await
    }

    /// Begins a message, as far as the server's "go on".
    pub async fn begin(&mut self, sender: &str) -> io::Result<()> {
        for command in [format!("MAIL FROM:<{sender}>"), "RCPT TO:<reader-0@example.net>".to_owned()] {
            self.talk.say(format!("{command}\r\n").as_bytes()).await?;
            self.talk.expect(250).await?;
        }
        self.talk.say(b"DATA\r\n").await?;
        self.talk.expect(354).await
    }

    /// Octets of the message.
    pub async fn pour(&mut self, octets: &[u8]) -> io::Result<()> {
        self.talk.say(octets).await
    }

    /// The end of the message, and the answer to all of it.
    pub async fn finish(&mut self) -> io::Result<Said> {
        self.talk.say(b".\r\n").await?;
        self.talk.reply().await
    }

    /// Says goodbye and waits for the answer.
    pub async fn quit(mut self) -> io::Result<()> {
        self.talk.say(b"QUIT\r\n").await?;
        self.talk.expect(221).await
    }
}
