//! The catching upstream of quickstart: takes every message and puts it into a maildir.
//!
//! A small SMTP server on the relay's own codec, for trying sealpost on one machine: no TLS, loopback only. Never: for production; sends
//! anything on.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::mail::QueueId;
use crate::smtp::data::{DotReader, DotState};
use crate::smtp::extension::{Extension, Offered};
use crate::smtp::{Code, Command, LineReader, Reply, Status};
use crate::sys::{Clock, Entropy, Tasks};

/// The longest command line it reads, octets with CRLF.
const LINE_MAX: usize = 2048;
/// The largest message it keeps, octets.
const MESSAGE_MAX: usize = 64 * 1024 * 1024;
/// How long a client may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(300);
/// Caught messages that may wait to be told of.
const TOLD_MAX: usize = 64;

/// A running catcher.
#[derive(Debug)]
pub struct Catcher {
    /// Where it listens.
    pub address: SocketAddr,
    /// Tells the file of each caught message; what nobody takes is forgotten, never waited for.
    pub caught: mpsc::Receiver<PathBuf>,
}

#[derive(Debug)]
struct Mailbox {
    maildir: PathBuf,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    caught: mpsc::Sender<PathBuf>,
}

/// Starts catching on `listener` into `maildir`, which is made when missing.
///
/// # Errors
/// The folder can't be made, or the listener has no address.
#[expect(clippy::disallowed_methods, reason = "quickstart makes files for its user")]
pub fn start(
    listener: TcpListener,
    maildir: &Path,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    tasks: &Tasks,
) -> io::Result<Catcher> {
    for folder in ["tmp", "new", "cur"] {
        std::fs::create_dir_all(maildir.join(folder))?;
    }
    let (told, caught) = mpsc::channel(TOLD_MAX);
    let mailbox = Arc::new(Mailbox { maildir: maildir.to_owned(), clock, entropy, caught: told });
    let address = listener.local_addr()?;
    let connections = tasks.clone();
    let mut drain = tasks.drain();
    tasks.spawn("catcher", async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = drain.wait() => return,
            };
            let Ok((stream, _)) = accepted else { continue };
            let mailbox = Arc::clone(&mailbox);
            let mut drain = drain.clone();
            connections.spawn("catcher connection", async move {
                tokio::select! {
                    _ = Dialogue::new(stream).run(&mailbox) => {}
                    () = drain.wait() => {}
                }
            });
        }
    });
    Ok(Catcher { address, caught })
}

impl Mailbox {
    /// Writes one message; into `tmp` first, so that a reader of `new` sees whole files only.
    async fn keep(&self, message: &[u8]) -> io::Result<PathBuf> {
        let random = u128::from(self.entropy.next_u64()) << 64 | u128::from(self.entropy.next_u64());
        let name = format!("{}.sealpost", QueueId::new(self.clock.now().wall, random));
        let (unfinished, finished) = (self.maildir.join("tmp").join(&name), self.maildir.join("new").join(&name));
        tokio::fs::write(&unfinished, message).await?;
        tokio::fs::rename(&unfinished, &finished).await?;
        let _ = self.caught.try_send(finished.clone());
        Ok(finished)
    }
}

struct Dialogue {
    stream: TcpStream,
    reader: LineReader,
}

impl Dialogue {
    fn new(stream: TcpStream) -> Self {
        Self { stream, reader: LineReader::new() }
    }

    async fn run(mut self, mailbox: &Mailbox) -> io::Result<()> {
        let offered = Offered::default().with(Extension::EightBitMime).with(Extension::SmtpUtf8);
        self.say(220, None, "catcher ESMTP: keeps everything, sends nothing").await?;
        loop {
            let Some(line) = self.line().await? else { return Ok(()) };
            match Command::parse(&line, &offered, mailbox.clock.now().wall) {
                Ok(Command::Ehlo(_)) => self.greet().await?,
                Ok(Command::Helo(_)) => self.say(250, None, "catcher").await?,
                Ok(Command::Mail { .. } | Command::Rcpt { .. } | Command::Rset | Command::Noop) => self.done().await?,
                Ok(Command::Data) => self.data(mailbox).await?,
                Ok(Command::Quit) => return self.say(221, Some((2, 0, 0)), "Bye").await,
                Ok(_) | Err(_) => self.say(500, Some((5, 5, 1)), "The catcher does not know this command").await?,
            }
        }
    }

    async fn greet(&mut self) -> io::Result<()> {
        let lines = ["catcher", "PIPELINING", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"];
        self.write(&Reply::multiline(Code::known(250), None, lines.map(str::to_owned))).await
    }

    async fn data(&mut self, mailbox: &Mailbox) -> io::Result<()> {
        self.say(354, None, "Go on, end with a dot on a line of its own").await?;
        let Some(message) = self.message().await? else {
            return self.say(550, Some((5, 6, 0)), "Bare CR, LF or NUL").await;
        };
        match mailbox.keep(&message).await {
            Ok(_) => self.done().await,
            Err(fault) => self.say(452, Some((4, 3, 1)), &format!("Could not keep it: {}", fault.kind())).await,
        }
    }

    /// The message, decoded; `None` when its end is in dispute or it is too large.
    async fn message(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut dots = DotReader::default();
        let mut message = Vec::new();
        loop {
            let progress = dots.read(self.reader.buffered(), &mut message);
            self.reader.consume(progress.consumed);
            match progress.state {
                DotState::End => return Ok(Some(message)),
                DotState::Fault(_) => return Ok(None),
                DotState::More if message.len() > MESSAGE_MAX => return Ok(None),
                DotState::More => self.fill().await?,
            }
        }
    }

    async fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            match self.reader.next_line(LINE_MAX) {
                Some(Ok(line)) => return Ok(Some(line.to_vec())),
                Some(Err(_)) => return Ok(Some(Vec::new())),
                None => match self.fill().await {
                    Ok(()) => {}
                    Err(fault) if fault.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                    Err(fault) => return Err(fault),
                },
            }
        }
    }

    async fn fill(&mut self) -> io::Result<()> {
        let mut piece = vec![0; self.reader.room()];
        let count = timeout(SILENCE_MAX, self.stream.read(&mut piece)).await.map_err(|_| io::ErrorKind::TimedOut)??;
        let Some(came) = piece.get(..count).filter(|came| !came.is_empty()) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        self.reader.push(came);
        Ok(())
    }

    async fn done(&mut self) -> io::Result<()> {
        self.say(250, Some((2, 0, 0)), "Ok").await
    }

    async fn say(&mut self, code: u16, status: Option<(u8, u16, u16)>, text: &str) -> io::Result<()> {
        let status = status.and_then(|(class, subject, detail)| Status::new(class, subject, detail));
        self.write(&Reply::new(Code::known(code), status, text)).await
    }

    async fn write(&mut self, reply: &Reply) -> io::Result<()> {
        let mut wire = Vec::new();
        reply.write_to(&mut wire);
        self.stream.write_all(&wire).await
    }
}
