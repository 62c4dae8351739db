//! An upstream that keeps what it takes and answers each recipient by its name, over plain TCP.
//!
//! The local part decides: `gone` is refused for good (550 5.1.1), `later` for now (450 4.2.1), all others are taken.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// One message as it arrived.
#[derive(Clone, Debug)]
pub struct Arrival {
    pub sender: String,
    pub recipients: Vec<String>,
    pub octets: Vec<u8>,
    /// The mark that was set when it arrived.
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
    /// Takes messages, and hangs up without a word of it.
    Forgetful,
}

impl Arrival {
    /// The value of its Message-ID field.
    pub fn message_id(&self) -> String {
        let header = String::from_utf8_lossy(header_of(&self.octets)).into_owned();
        let field =
            header.lines().find(|line| line.to_ascii_lowercase().starts_with("message-id:")).unwrap_or_default();
        field.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    }
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
    arrivals: Mutex<Vec<Arrival>>,
    news: Condvar,
    mark: AtomicU64,
    mood: Mutex<Mood>,
}

impl Upstream {
    pub fn start(manner: Manner) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), manner)
    }

    /// Where nobody has been so far.
    pub fn start_at(address: SocketAddr, manner: Manner) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            manner,
            arrivals: Mutex::default(),
            news: Condvar::new(),
            mark: AtomicU64::new(0),
            mood: Mutex::default(),
        });
        let own = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&own);
                std::thread::spawn(move || Dialogue::new(stream, shared).run());
            }
        });
        Self { address, shared }
    }

    /// What arrives from now on carries this mark.
    pub fn set_mark(&self, mark: u64) {
        self.shared.mark.store(mark, Ordering::SeqCst);
    }

    /// From now on it is like this, in connections that are open too.
    pub fn set_mood(&self, mood: Mood) {
        *self.shared.mood.lock().unwrap() = mood;
    }

    pub fn arrivals(&self) -> Vec<Arrival> {
        self.shared.arrivals.lock().unwrap().clone()
    }

    /// Waits until what has arrived is enough; false when the time is over before.
    pub fn wait_until(&self, most: Duration, mut enough: impl FnMut(&[Arrival]) -> bool) -> bool {
        let end = Instant::now() + most;
        let mut arrivals = self.shared.arrivals.lock().unwrap();
        while !enough(&arrivals) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            arrivals = self.shared.news.wait_timeout(arrivals, left).unwrap().0;
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

struct Dialogue {
    reader: BufReader<TcpStream>,
    shared: Arc<Shared>,
}

impl Dialogue {
    fn new(stream: TcpStream, shared: Arc<Shared>) -> Self {
        Self { reader: BufReader::new(stream), shared }
    }

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
            Mood::Well | Mood::Forgetful => self.say("220 upstream.test ESMTP")?,
        }
        let (mut sender, mut recipients) = (String::new(), Vec::new());
        while let Some(line) = self.line()? {
            let line = String::from_utf8_lossy(&line).into_owned();
            match line.get(..4).unwrap_or_default().to_ascii_uppercase().as_str() {
                "EHLO" => self.say(
                    "250-upstream.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 ENHANCEDSTATUSCODES",
                )?,
                "MAIL" => {
                    (sender, recipients) = (path(&line), Vec::new());
                    self.say("250 2.1.0 ok")?;
                }
                "RCPT" => self.recipient(path(&line), &mut recipients)?,
                "DATA" if recipients.is_empty() => self.say("554 5.5.1 no recipients")?,
                "DATA" => {
                    self.say("354 go on")?;
                    let Some(octets) = self.data()? else { return Ok(()) };
                    let answered = self.mood() != Mood::Forgetful;
                    self.keep(&sender, &recipients, octets, answered);
                    if !answered {
                        return Ok(());
                    }
                    self.say("250 2.0.0 kept")?;
                }
                "QUIT" => return self.say("221 2.0.0 bye"),
                _ => self.say("250 2.0.0 ok")?,
            }
        }
        Ok(())
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

    fn keep(&self, sender: &str, recipients: &[String], octets: Vec<u8>, answered: bool) {
        let mark = self.shared.mark.load(Ordering::SeqCst);
        let arrival = Arrival { sender: sender.to_owned(), recipients: recipients.to_vec(), octets, mark, answered };
        self.shared.arrivals.lock().unwrap().push(arrival);
        self.shared.news.notify_all();
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
        self.reader.get_mut().write_all(format!("{line}\r\n").as_bytes())
    }
}

fn path(line: &str) -> String {
    line.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(path, _)| path.to_owned()).unwrap_or_default()
}
