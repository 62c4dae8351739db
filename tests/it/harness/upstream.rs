//! An upstream that keeps what it takes and answers each recipient by its name: over plain TCP, or over TLS to who logs in.
//!
//! The local part decides: `gone` is refused for good (550 5.1.1), `later` for now (450 4.2.1), all others are taken.

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::certificates::Leaf;
use super::free_addresses;

/// One message as it arrived.
#[derive(Clone, Debug)]
pub struct Arrival {
    pub sender: String,
    pub recipients: Vec<String>,
    pub octets: Vec<u8>,
    /// The mark that was set when the connection was made by which it arrived.
    pub mark: u64,
    /// Whether its sender was told that it is here.
    pub answered: bool,
}

/// How it is for a while.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    #[default]
    Well,
    /// Hangs up at once.
    Down,
    /// Says 421 and hangs up.
    Busy,
    /// Lets nobody log in (535); in connections that are open, says so to MAIL.
    Locked,
    /// Says 421 to MAIL, and hangs up.
    Closing,
    /// Puts each message off behind its end (451).
    PuttingOff,
    /// Refuses each message behind its end (554), but reports, of which nobody could be told.
    Refusing,
    /// Hangs up in the middle of a message.
    Dropping,
    /// Takes messages, and hangs up without a word of it.
    Forgetful,
    /// Takes messages, and says nothing for as long as it is like this; then hangs up.
    Stuck,
}

impl Mood {
    /// All in which mail does not go as it should.
    pub const BAD: [Self; 9] = [
        Self::Down,
        Self::Busy,
        Self::Locked,
        Self::Closing,
        Self::PuttingOff,
        Self::Refusing,
        Self::Dropping,
        Self::Forgetful,
        Self::Stuck,
    ];
}

impl Arrival {
    /// The value of its Message-ID field.
    pub fn message_id(&self) -> String {
        message_id_of(&self.octets)
    }
}

fn message_id_of(octets: &[u8]) -> String {
    let header = String::from_utf8_lossy(header_of(octets)).into_owned();
    let field = header.lines().find(|line| line.to_ascii_lowercase().starts_with("message-id:")).unwrap_or_default();
    field.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
}

fn header_of(octets: &[u8]) -> &[u8] {
    let end = octets.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(octets.len());
    &octets[..end]
}

/// How it behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Answers as described above.
    Polite,
    /// Takes connections and never says a word.
    Silent,
}

/// A running upstream.
#[derive(Clone)]
pub struct Upstream {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    manner: Manner,
    secured: Option<Arc<ServerConfig>>,
    mood: Mutex<Mood>,
    changed: Condvar,
    kept: Arc<Kept>,
}

/// What came of it all; several upstreams may have it together.
#[derive(Default)]
struct Kept {
    arrivals: Mutex<Vec<Arrival>>,
    news: Condvar,
    mark: AtomicU64,
    /// The Message-IDs of what was refused behind its end.
    refused: Mutex<Vec<String>>,
}

impl Upstream {
    pub fn start(manner: Manner) -> Self {
        let [address] = free_addresses();
        Self::start_at(address, manner)
    }

    /// Where nobody has been so far.
    pub fn start_at(address: SocketAddr, manner: Manner) -> Self {
        Self::begin(address, manner, None, Arc::default())
    }

    /// Another one that keeps what it takes in the same place. It speaks TLS from the first octet, shows this certificate, and takes mail of those who logged
    /// in, whoever they say they are.
    pub fn secured_beside(&self, shown: &Leaf) -> Self {
        let chain = CertificateDer::pem_file_iter(&shown.certificate).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(&shown.key).unwrap();
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
        let [address] = free_addresses();
        Self::begin(address, Manner::Polite, Some(Arc::new(config)), Arc::clone(&self.shared.kept))
    }

    fn begin(address: SocketAddr, manner: Manner, secured: Option<Arc<ServerConfig>>, kept: Arc<Kept>) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let (mood, changed) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { manner, secured, mood, changed, kept });
        let own = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&own);
                let mark = shared.kept.mark.load(Ordering::SeqCst);
                std::thread::spawn(move || {
                    let link: Box<dyn Link> = match &shared.secured {
                        None => Box::new(stream),
                        // A client that goes away in the handshake makes reading fail.
                        Some(config) => match ServerConnection::new(Arc::clone(config)) {
                            Ok(connection) => Box::new(StreamOwned::new(connection, stream)),
                            Err(_) => return,
                        },
                    };
                    Dialogue { reader: BufReader::new(link), shared, mark, is_known: false }.run();
                });
            }
        });
        Self { address, shared }
    }

    /// What arrives by connections from now on carries this mark.
    pub fn set_mark(&self, mark: u64) {
        self.shared.kept.mark.store(mark, Ordering::SeqCst);
    }

    /// From now on it is like this, in connections that are open too.
    pub fn set_mood(&self, mood: Mood) {
        *self.shared.mood.lock().unwrap() = mood;
        self.shared.changed.notify_all();
    }

    pub fn arrivals(&self) -> Vec<Arrival> {
        self.shared.kept.arrivals.lock().unwrap().clone()
    }

    /// The Message-IDs of what was refused behind its end.
    pub fn refused(&self) -> Vec<String> {
        self.shared.kept.refused.lock().unwrap().clone()
    }

    /// Waits until what has arrived is enough; false when the time is over before.
    pub fn wait_until(&self, most: Duration, mut enough: impl FnMut(&[Arrival]) -> bool) -> bool {
        let end = Instant::now() + most;
        let mut arrivals = self.shared.kept.arrivals.lock().unwrap();
        while !enough(&arrivals) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            arrivals = self.shared.kept.news.wait_timeout(arrivals, left).unwrap().0;
        }
        true
    }

    /// Waits for the message with this Message-ID.
    pub fn wait_for(&self, message_id: &str) -> Arrival {
        let mut found = None;
        self.wait_until(super::PATIENCE, |all| {
            found = all.iter().find(|one| one.message_id() == message_id).cloned();
            found.is_some()
        });
        found.unwrap_or_else(|| panic!("{message_id} did not arrive"))
    }
}

/// What a dialogue goes over.
trait Link: Read + Write + Send {}

impl<S: Read + Write + Send> Link for S {}

struct Dialogue {
    reader: BufReader<Box<dyn Link>>,
    shared: Arc<Shared>,
    mark: u64,
    /// Whether it has logged in.
    is_known: bool,
}

/// A message before its end.
#[derive(Default)]
struct Envelope {
    sender: String,
    recipients: Vec<String>,
}

/// Whether the dialogue goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    GoOn,
    HangUp,
}

impl Dialogue {
    fn run(mut self) {
        match self.shared.manner {
            // The relay dies in the middle of many a dialogue: that is not this side's concern.
            Manner::Polite => drop(self.converse()),
            Manner::Silent => drop(io::copy(&mut self.reader, &mut io::sink())),
        }
    }

    fn converse(&mut self) -> io::Result<()> {
        match self.mood() {
            Mood::Down => return Ok(()),
            Mood::Busy => return self.say("421 4.3.2 not now"),
            Mood::Well
            | Mood::Locked
            | Mood::Closing
            | Mood::PuttingOff
            | Mood::Refusing
            | Mood::Dropping
            | Mood::Forgetful
            | Mood::Stuck => self.say("220 upstream.test ESMTP")?,
        }
        let mut envelope = Envelope::default();
        while let Some(line) = self.line()? {
            let line = String::from_utf8_lossy(&line).into_owned();
            match line.get(..4).unwrap_or_default().to_ascii_uppercase().as_str() {
                "EHLO" => {
                    let login = if self.shared.secured.is_some() { "250-AUTH PLAIN\r\n" } else { "" };
                    self.say(&format!(
                        "250-upstream.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n{login}250 ENHANCEDSTATUSCODES"
                    ))?;
                }
                "AUTH" if self.mood() == Mood::Locked => self.say("535 5.7.8 that is not your password")?,
                "AUTH" => {
                    self.is_known = true;
                    self.say("235 2.7.0 welcome")?;
                }
                "MAIL" if self.mood() == Mood::Closing => return self.say("421 4.3.2 going down"),
                "MAIL" if self.mood() == Mood::Locked => self.say("535 5.7.8 your password has run out")?,
                "MAIL" if self.shared.secured.is_some() && !self.is_known => self.say("530 5.7.0 log in first")?,
                "MAIL" => {
                    envelope = Envelope { sender: path(&line), ..Envelope::default() };
                    self.say("250 2.1.0 ok")?;
                }
                "RCPT" => self.recipient(path(&line), &mut envelope.recipients)?,
                "DATA" if envelope.recipients.is_empty() => self.say("554 5.5.1 no recipients")?,
                "DATA" => {
                    if self.message(&envelope)? == Next::HangUp {
                        return Ok(());
                    }
                }
                "QUIT" => return self.say("221 2.0.0 bye"),
                _ => self.say("250 2.0.0 ok")?,
            }
        }
        Ok(())
    }

    fn message(&mut self, envelope: &Envelope) -> io::Result<Next> {
        self.say("354 go on")?;
        if self.mood() == Mood::Dropping {
            self.line()?;
            return Ok(Next::HangUp);
        }
        let Some(octets) = self.data()? else { return Ok(Next::HangUp) };
        match self.mood() {
            Mood::PuttingOff => self.say("451 4.3.0 not this one now")?,
            Mood::Refusing if !envelope.sender.is_empty() => {
                // First noted, then said: who hears it may look.
                self.shared.kept.refused.lock().unwrap().push(message_id_of(&octets));
                self.say("554 5.6.0 not this one")?;
            }
            Mood::Forgetful => {
                self.keep(envelope, octets, false);
                return Ok(Next::HangUp);
            }
            Mood::Stuck => {
                self.keep(envelope, octets, false);
                let mood = self.shared.mood.lock().unwrap();
                drop(self.shared.changed.wait_while(mood, |mood| *mood == Mood::Stuck).unwrap());
                return Ok(Next::HangUp);
            }
            Mood::Well | Mood::Down | Mood::Busy | Mood::Locked | Mood::Closing | Mood::Refusing | Mood::Dropping => {
                self.keep(envelope, octets, true);
                self.say("250 2.0.0 kept")?;
            }
        }
        Ok(Next::GoOn)
    }

    fn recipient(&mut self, recipient: String, recipients: &mut Vec<String>) -> io::Result<()> {
        match recipient.split('@').next() {
            Some("gone") => self.say("550 5.1.1 nobody of that name"),
            Some("later") => self.say("450 4.2.1 come again"),
            _ => {
                recipients.push(recipient);
                self.say("250 2.1.5 ok")
            }
        }
    }

    fn mood(&self) -> Mood {
        *self.shared.mood.lock().unwrap()
    }

    fn keep(&self, envelope: &Envelope, octets: Vec<u8>, answered: bool) {
        let Envelope { sender, recipients } = envelope;
        let (sender, recipients) = (sender.clone(), recipients.clone());
        let arrival = Arrival { sender, recipients, octets, mark: self.mark, answered };
        self.shared.kept.arrivals.lock().unwrap().push(arrival);
        self.shared.kept.news.notify_all();
    }

    fn data(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut octets = Vec::new();
        while let Some(line) = self.line()? {
            if line == b".\r\n" {
                return Ok(Some(octets));
            }
            octets.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
        }
        Ok(None)
    }

    fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        self.reader.read_until(b'\n', &mut line)?;
        Ok((!line.is_empty()).then_some(line))
    }

    fn say(&mut self, line: &str) -> io::Result<()> {
        let link = self.reader.get_mut();
        link.write_all(format!("{line}\r\n").as_bytes())?;
        link.flush()
    }
}

fn path(line: &str) -> String {
    line.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(path, _)| path.to_owned()).unwrap_or_default()
}
