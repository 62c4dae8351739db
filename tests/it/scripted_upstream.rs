//! An upstream that does what a script says: well, or badly in one place; and a network that leads to it without sockets.
//!
//! It shares no code with sealpost's own reader and writer, so that a fault of theirs is not excused by the same fault here.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use memchr::memmem;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sealpost::sys::{Entropy, WallTime};
use sealpost::upstream::network::{Pending, Stream};
use sealpost::upstream::{Network, Phase, Upstream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;

use super::scripted_login::{Exchange, Login, Said};

/// What is done instead of the plain right thing. `CODE` stands for the right code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Misdeed {
    /// The right thing, put strangely: a client must take it for a success.
    Strange(&'static [u8]),
    /// This is said.
    Say(&'static [u8]),
    /// This is said, then the connection is closed.
    SayAndClose(&'static [u8]),
    /// This is said so many times, then nothing ever.
    SayAndHang(&'static [u8], usize),
    /// This is said octet by octet, one a minute.
    Dribble(&'static [u8]),
    /// At the end of the data: the message is taken, and the connection ends without a word of it.
    TakeAndVanish,
    /// The same, and nothing ever comes.
    TakeAndHang,
}

/// What the other side hears of a message that was taken, as if it had misread the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Misheard {
    /// It was refused for good.
    AsRefused,
    /// A report was deferred.
    ReportsAsDeferred,
}

/// How an upstream behaves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    /// Where it does something wrong, and what.
    pub(crate) misdeed: Option<(Phase, Misdeed)>,
    /// Which message that is, of all (0 is the first).
    pub(crate) at_message: usize,
    /// Lines of its EHLO reply after the first; STARTTLS comes by itself.
    pub(crate) extensions: Vec<&'static str>,
    /// What it says to a RCPT that holds the text.
    pub(crate) recipients: Vec<(&'static str, &'static str)>,
    /// What it has for TLS.
    pub(crate) tls: Option<Arc<ServerConfig>>,
    /// TLS from the first octet.
    pub(crate) implicit: bool,
    /// Recipients it takes in one transaction.
    pub(crate) recipients_max: Option<usize>,
    /// Once it has read so many octets of a message, it says this and closes.
    pub(crate) early: Option<(usize, &'static [u8])>,
    /// It says 250 to BDAT before it has read the octets, and then reads them.
    pub(crate) hasty: bool,
    /// It gathers its replies from MAIL on, and gives them so long after it has read a chunk.
    pub(crate) gathers: Option<Duration>,
    /// It closes connections that have delivered a message.
    pub(crate) closes_after_message: bool,
    /// It grants DATA and reads nothing more.
    pub(crate) stops_reading: bool,
    /// A message to a recipient that holds this text is its end: at the final dot nothing comes, or (false) the connection closes.
    pub(crate) poison: Option<(&'static str, bool)>,
    /// It grants DATA though it took no recipient.
    pub(crate) grants_data_to_nobody: bool,
    /// Whom it knows; without, it lets everybody in.
    pub(crate) login: Option<Login>,
    /// Whoever connects panics: a defect of our own.
    pub(crate) is_a_trap: bool,
    /// So long it looks at a message that it has whole.
    pub(crate) service: Duration,
    /// How its reply to the end of the data is misread, for tests of tests.
    pub(crate) misheard: Option<Misheard>,
}

/// A message it took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) mail: String,
    pub(crate) recipients: Vec<String>,
    pub(crate) octets: Vec<u8>,
    /// When.
    pub(crate) at: tokio::time::Instant,
    /// Whether it said so, all of it.
    pub(crate) answered: bool,
}

/// An upstream and what it saw.
#[derive(Debug, Default)]
pub(crate) struct Scripted {
    script: Mutex<Script>,
    taken: Arc<Mutex<Vec<Taken>>>,
    heard: Mutex<Vec<String>>,
    /// The names that it was asked for in TLS (SNI).
    asked_for: Mutex<Vec<Option<String>>>,
    /// Lines that stood ready in one read, at most: more than one is pipelining.
    pub(crate) most_at_once: AtomicUsize,
    connections: AtomicUsize,
    /// Connections whose end the client has said behind the reply to QUIT.
    pub(crate) ended: AtomicUsize,
    open: AtomicUsize,
    pub(crate) most_open: AtomicUsize,
    messages: AtomicUsize,
}

enum Next {
    GoOn,
    Stop,
}

type Result<T> = io::Result<T>;

impl Scripted {
    pub(crate) fn new(script: Script) -> Arc<Self> {
        Arc::new(Self { script: Mutex::new(script), ..Self::default() })
    }

    /// Another one, that keeps what it takes in the same place.
    pub(crate) fn beside(&self, script: Script) -> Arc<Self> {
        Arc::new(Self { script: Mutex::new(script), taken: Arc::clone(&self.taken), ..Self::default() })
    }

    /// New connections find it behaving like this; messages are counted anew.
    pub(crate) fn turn_into(&self, script: Script) {
        self.messages.store(0, Ordering::SeqCst);
        *self.script.lock().unwrap() = script;
    }

    pub(crate) fn taken(&self) -> Vec<Taken> {
        self.taken.lock().unwrap().clone()
    }

    /// Every line it read.
    pub(crate) fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }

    /// The name that each connection with TLS asked for.
    pub(crate) fn asked_for(&self) -> Vec<Option<String>> {
        self.asked_for.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// One connection, until either side ends it.
    pub(crate) async fn serve(self: Arc<Self>, stream: impl Stream + 'static) {
        self.connections.fetch_add(1, Ordering::SeqCst);
        let open = self.open.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_open.fetch_max(open, Ordering::SeqCst);
        let script = self.script.lock().unwrap().clone();
        let mut stream: Option<(Box<dyn Stream>, _)> = Some((Box::new(stream), None));
        if script.implicit {
            stream = self.accept(&script, stream.unwrap().0).await;
        }
        if let Some((stream, exporter)) = stream {
            let inside_tls = script.implicit;
            let upstream = Arc::clone(&self);
            let mut talk = Talk {
                upstream,
                script,
                stream,
                buffer: Vec::new(),
                inside_tls,
                exporter,
                from: None,
                to: Vec::new(),
                held: Vec::new(),
            };
            // How it ended is the client's business; what was seen is in the fields above.
            let _ended: Result<()> = talk.run().await;
        }
        self.open.fetch_sub(1, Ordering::SeqCst);
    }

    /// TLS, and what binds a login to it.
    async fn accept(&self, script: &Script, stream: Box<dyn Stream>) -> Option<(Box<dyn Stream>, Option<[u8; 32]>)> {
        let acceptor = TlsAcceptor::from(script.tls.clone()?);
        let stream = acceptor.accept(stream).await.ok()?;
        let connection = stream.get_ref().1;
        self.asked_for.lock().unwrap().push(connection.server_name().map(str::to_owned));
        let exporter = connection.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(b"")).ok();
        Some((Box::new(stream), exporter))
    }
}

struct Talk {
    upstream: Arc<Scripted>,
    script: Script,
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
    inside_tls: bool,
    exporter: Option<[u8; 32]>,
    from: Option<String>,
    to: Vec<String>,
    /// What it has gathered.
    held: Vec<u8>,
}

impl Talk {
    async fn run(&mut self) -> Result<()> {
        if let Next::Stop = self.answer(Phase::Greeting, "220", "up.example.net ESMTP").await? {
            return Ok(());
        }
        while let Some(line) = self.line().await? {
            if let Next::Stop = self.command(&line).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn command(&mut self, line: &str) -> Result<Next> {
        let verb = line.split(' ').next().unwrap().to_ascii_uppercase();
        match verb.as_str() {
            "EHLO" => self.ehlo().await,
            "HELO" => self.say("250 up.example.net\r\n").await,
            "STARTTLS" => self.starttls().await,
            "AUTH" => self.auth(line).await,
            "RSET" => {
                self.forget();
                self.answer(Phase::Reset, "250", "2.0.0 clean").await
            }
            "MAIL" => self.mail(line).await,
            "RCPT" => self.rcpt(line).await,
            "DATA" => self.data().await,
            "BDAT" => self.chunk(line).await,
            "QUIT" => {
                self.answer(Phase::Quit, "221", "2.0.0 bye").await?;
                // Inside TLS an end that nobody has said is an error.
                if !self.fill().await? {
                    self.upstream.ended.fetch_add(1, Ordering::SeqCst);
                }
                Ok(Next::Stop)
            }
            _ => self.say("500 5.5.1 what?\r\n").await,
        }
    }

    async fn ehlo(&mut self) -> Result<Next> {
        if self.misdeed_at(Phase::Hello).is_some() {
            return self.answer(Phase::Hello, "250", "").await;
        }
        let mut lines = vec!["up.example.net"];
        lines.extend(&self.script.extensions);
        if self.script.tls.is_some() && !self.inside_tls {
            lines.push("STARTTLS");
        }
        let last = lines.pop().unwrap();
        let mut reply: String = lines.iter().map(|line| format!("250-{line}\r\n")).collect();
        reply += &format!("250 {last}\r\n");
        self.say(&reply).await
    }

    async fn starttls(&mut self) -> Result<Next> {
        let refuses =
            matches!(self.misdeed_at(Phase::StartTls), Some(Misdeed::Say(said)) if !said.starts_with(b"CODE"));
        if let Next::Stop = self.answer(Phase::StartTls, "220", "2.0.0 go").await? {
            return Ok(Next::Stop);
        }
        if refuses {
            return Ok(Next::GoOn);
        }
        if self.misdeed_at(Phase::Tls).is_some() {
            // Behind the ClientHello: before it, it would be an injection.
            self.fill().await?;
            return self.answer(Phase::Tls, "", "").await;
        }
        let (nothing, _) = tokio::io::duplex(1);
        let plain = std::mem::replace(&mut self.stream, Box::new(nothing));
        match self.upstream.accept(&self.script, plain).await {
            Some((stream, exporter)) => {
                (self.stream, self.inside_tls, self.exporter) = (stream, true, exporter);
                self.buffer.clear();
                Ok(Next::GoOn)
            }
            None => Ok(Next::Stop),
        }
    }

    async fn auth(&mut self, line: &str) -> Result<Next> {
        if let Some(login) = self.script.login.clone() {
            return self.login(login, line).await;
        }
        if line.eq_ignore_ascii_case("AUTH LOGIN") {
            for prompt in ["334 VXNlcm5hbWU6\r\n", "334 UGFzc3dvcmQ6\r\n"] {
                self.say(prompt).await?;
                if self.line().await?.is_none() {
                    return Ok(Next::Stop);
                }
            }
        }
        self.answer(Phase::Auth, "235", "2.7.0 welcome").await
    }

    async fn login(&mut self, login: Login, line: &str) -> Result<Next> {
        let mut words = line.split(' ').skip(1);
        let mut exchange = Exchange::new(login, words.next().unwrap_or_default(), self.exporter);
        let mut said = match words.next() {
            Some(response) => exchange.hear(response),
            None => exchange.prompt(),
        };
        loop {
            match said {
                Said::Yes => return self.answer(Phase::Auth, "235", "2.7.0 welcome").await,
                Said::No(reply) => return self.say(reply).await,
                Said::Challenge(challenge) => {
                    self.say(&format!("334 {challenge}\r\n")).await?;
                    let Some(line) = self.line().await? else { return Ok(Next::Stop) };
                    said = exchange.hear(&line);
                }
            }
        }
    }

    async fn mail(&mut self, line: &str) -> Result<Next> {
        if self.from.is_some() {
            return self.say("503 5.5.1 nested MAIL\r\n").await;
        }
        if self.succeeds_at(Phase::Mail) {
            self.from = Some(line.to_owned());
        }
        self.answer(Phase::Mail, "250", "2.1.0 ok").await
    }

    async fn rcpt(&mut self, line: &str) -> Result<Next> {
        if self.from.is_none() {
            return self.say("503 5.5.1 MAIL first\r\n").await;
        }
        if let Some((_, reply)) = self.script.recipients.iter().find(|(part, _)| line.contains(part)) {
            return self.say(reply).await;
        }
        if self.script.recipients_max.is_some_and(|most| self.to.len() >= most) {
            return self.say("452 4.5.3 too many recipients\r\n").await;
        }
        let is_first = line.contains("<r0@");
        if !is_first || self.succeeds_at(Phase::Recipient) {
            self.to.push(line.to_owned());
        }
        if is_first {
            self.answer(Phase::Recipient, "250", "2.1.5 ok").await
        } else {
            self.say("250 2.1.5 ok\r\n").await
        }
    }

    async fn data(&mut self) -> Result<Next> {
        if self.to.is_empty() && !self.script.grants_data_to_nobody {
            return self.say("554 5.5.1 no valid recipients\r\n").await;
        }
        if !self.succeeds_at(Phase::Data) {
            return self.answer(Phase::Data, "354", "").await;
        }
        self.answer(Phase::Data, "354", "go").await?;
        if self.script.stops_reading {
            std::future::pending::<()>().await;
        }
        let Some(octets) = self.message().await? else { return Ok(Next::Stop) };
        self.took(octets).await
    }

    async fn took(&mut self, octets: Vec<u8>) -> Result<Next> {
        if let Some((_, hangs)) = self.script.poison.filter(|(part, _)| self.to.iter().any(|to| to.contains(part))) {
            return if hangs { self.hang(b"").await } else { Ok(Next::Stop) };
        }
        if !self.script.service.is_zero() {
            tokio::time::sleep(self.script.service).await;
        }
        let (mail, at) = (self.from.clone().unwrap(), tokio::time::Instant::now());
        let taken = Taken { mail, recipients: self.to.clone(), octets, at, answered: false };
        // Other connections count messages on, meanwhile.
        let succeeds = self.succeeds_at(Phase::EndOfData);
        let takes = succeeds
            || matches!(self.misdeed_at(Phase::EndOfData), Some(Misdeed::TakeAndVanish | Misdeed::TakeAndHang));
        let mut place = None;
        if takes && !taken.recipients.is_empty() {
            let mut all = self.upstream.taken.lock().unwrap();
            place = Some(all.len());
            all.push(taken);
        }
        if let Some((place, reply)) = place.zip(self.misheard(place)) {
            self.upstream.taken.lock().unwrap()[place].answered = true;
            self.forget();
            return self.say(reply).await;
        }
        let next = self.answer(Phase::EndOfData, "250", "2.0.0 taken").await?;
        if let Some(place) = place.filter(|_| succeeds) {
            self.upstream.taken.lock().unwrap()[place].answered = true;
        }
        self.upstream.messages.fetch_add(1, Ordering::SeqCst);
        self.forget();
        Ok(if self.script.closes_after_message { Next::Stop } else { next })
    }

    /// What is heard instead of 250.
    fn misheard(&self, place: Option<usize>) -> Option<&'static str> {
        let misheard = self.script.misheard?;
        let taken = self.upstream.taken.lock().unwrap();
        let is_report = find(&taken.get(place?)?.octets, b"multipart/report").is_some();
        match misheard {
            Misheard::AsRefused => (!is_report).then_some("554 5.6.0 not this one\r\n"),
            Misheard::ReportsAsDeferred => is_report.then_some("451 4.3.0 not today\r\n"),
        }
    }

    /// RFC 3030 §2: the octets are read whatever comes of them.
    async fn chunk(&mut self, line: &str) -> Result<Next> {
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!((words.len(), words[2]), (3, "LAST"), "one chunk is the whole message: {line}");
        let count: usize = words[1].parse().unwrap();
        if self.script.hasty {
            self.say("250 2.0.0 taken\r\n").await?;
        }
        while self.buffer.len() < count {
            if let Some((_, reply)) = self.script.early.filter(|(most, _)| self.buffer.len() > *most) {
                self.stream.write_all(reply).await?;
                return Ok(Next::Stop);
            }
            if !self.fill().await? {
                return Ok(Next::Stop);
            }
        }
        let rest = self.buffer.split_off(count);
        let octets = std::mem::replace(&mut self.buffer, rest);
        if let Some(wait) = self.script.gathers.take() {
            tokio::time::sleep(wait).await;
            let held = std::mem::take(&mut self.held);
            self.say_octets(&held).await?;
        }
        if self.script.hasty {
            self.forget();
            return Ok(Next::GoOn);
        }
        if self.to.is_empty() {
            return self.say("503 5.5.1 no valid recipients\r\n").await;
        }
        self.took(octets).await
    }

    /// Reads to CRLF.CRLF and takes the stuffed dots out; none when it stopped reading.
    async fn message(&mut self) -> Result<Option<Vec<u8>>> {
        let mut from = 0;
        loop {
            if self.buffer.starts_with(b".\r\n") {
                self.buffer.drain(..3);
                return Ok(Some(Vec::new()));
            }
            if let Some(at) = find(&self.buffer[from..], b"\r\n.\r\n").map(|at| at + from) {
                let rest = self.buffer.split_off(at + 5);
                let raw = std::mem::replace(&mut self.buffer, rest);
                return Ok(Some(unstuffed(&raw[..at + 2])));
            }
            if let Some((_, reply)) = self.script.early.filter(|(most, _)| self.buffer.len() > *most) {
                self.stream.write_all(reply).await?;
                return Ok(None);
            }
            from = self.buffer.len().saturating_sub(4);
            if !self.fill().await? {
                return Ok(None);
            }
        }
    }

    fn forget(&mut self) {
        self.from = None;
        self.to.clear();
    }

    // Reading and saying.

    async fn line(&mut self) -> Result<Option<String>> {
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..at + 2).take(at).collect();
                let line = String::from_utf8(line).unwrap();
                self.upstream.heard.lock().unwrap().push(line.clone());
                return Ok(Some(line));
            }
            if !self.fill().await? {
                return Ok(None);
            }
            let lines = self.buffer.iter().filter(|&&octet| octet == b'\n').count();
            self.upstream.most_at_once.fetch_max(lines, Ordering::SeqCst);
        }
    }

    async fn fill(&mut self) -> Result<bool> {
        let mut piece = vec![0; 16 * 1024];
        let count = self.stream.read(&mut piece).await?;
        self.buffer.extend_from_slice(&piece[..count]);
        Ok(count > 0)
    }

    fn misdeed_at(&self, phase: Phase) -> Option<Misdeed> {
        let now = self.upstream.messages.load(Ordering::SeqCst);
        self.script.misdeed.filter(|(wrong, _)| *wrong == phase && self.script.at_message == now).map(|(_, deed)| deed)
    }

    fn succeeds_at(&self, phase: Phase) -> bool {
        matches!(self.misdeed_at(phase), None | Some(Misdeed::Strange(_)))
    }

    async fn answer(&mut self, phase: Phase, code: &str, text: &str) -> Result<Next> {
        let Some(misdeed) = self.misdeed_at(phase) else {
            return self.say(&format!("{code} {text}\r\n")).await;
        };
        let said = |octets: &[u8]| replaced(octets, b"CODE", code.as_bytes());
        match misdeed {
            Misdeed::Strange(octets) | Misdeed::Say(octets) => self.say_octets(&said(octets)).await,
            Misdeed::SayAndClose(octets) => {
                self.say_octets(&said(octets)).await?;
                self.stream.shutdown().await?;
                Ok(Next::Stop)
            }
            Misdeed::SayAndHang(octets, count) => self.hang(&said(octets).repeat(count)).await,
            Misdeed::Dribble(octets) => {
                for octet in said(octets) {
                    self.say_octets(&[octet]).await?;
                    tokio::time::sleep(Duration::from_secs(60)).await;
                }
                Ok(Next::GoOn)
            }
            Misdeed::TakeAndVanish => {
                self.stream.shutdown().await?;
                Ok(Next::Stop)
            }
            Misdeed::TakeAndHang => self.hang(b"").await,
        }
    }

    /// Says it, and then only listens until the other side leaves.
    async fn hang(&mut self, octets: &[u8]) -> Result<Next> {
        self.say_octets(octets).await?;
        while self.fill().await? {
            self.buffer.clear();
        }
        Ok(Next::Stop)
    }

    async fn say(&mut self, text: &str) -> Result<Next> {
        self.say_octets(text.as_bytes()).await
    }

    async fn say_octets(&mut self, octets: &[u8]) -> Result<Next> {
        if self.script.gathers.is_some() && self.from.is_some() {
            self.held.extend_from_slice(octets);
            return Ok(Next::GoOn);
        }
        self.stream.write_all(octets).await?;
        self.stream.flush().await?;
        Ok(Next::GoOn)
    }
}

/// Bodies are long, and this crate is not optimized: octets are not looked at one by one.
fn find(octets: &[u8], wanted: &[u8]) -> Option<usize> {
    memmem::find(octets, wanted)
}

fn replaced(octets: &[u8], wanted: &[u8], by: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = octets;
    while let Some(at) = find(rest, wanted) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(by);
        rest = &rest[at + wanted.len()..];
    }
    out.extend_from_slice(rest);
    out
}

fn unstuffed(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len());
    let mut from = usize::from(raw.starts_with(b"."));
    for at in memmem::find_iter(raw, b"\n.") {
        out.extend_from_slice(&raw[from..=at]);
        from = at + 2;
    }
    out.extend_from_slice(&raw[from..]);
    out
}

/// A network in memory: addresses that lead to scripted upstreams, to nobody, or nowhere.
#[derive(Debug, Default)]
pub(crate) struct Net {
    names: HashMap<&'static str, Vec<SocketAddr>>,
    hosts: HashMap<SocketAddr, Arc<Scripted>>,
    black_holes: Vec<SocketAddr>,
}

impl Net {
    pub(crate) fn address(n: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, n], 25))
    }

    pub(crate) fn name(mut self, name: &'static str, addresses: &[u8]) -> Self {
        self.names.insert(name, addresses.iter().map(|&n| Self::address(n)).collect());
        self
    }

    pub(crate) fn host(mut self, n: u8, upstream: &Arc<Scripted>) -> Self {
        self.hosts.insert(Self::address(n), Arc::clone(upstream));
        self
    }

    pub(crate) fn black_hole(mut self, n: u8) -> Self {
        self.black_holes.push(Self::address(n));
        self
    }
}

impl Network for Net {
    fn lookup<'a>(&'a self, upstream: &'a Upstream) -> Pending<'a, Vec<SocketAddr>> {
        let found = self.names.get(upstream.host.as_str()).cloned();
        Box::pin(async move { found.ok_or_else(|| io::Error::other("no such name")) })
    }

    fn connect(&self, address: SocketAddr, _from: Option<IpAddr>) -> Pending<'_, Box<dyn Stream>> {
        let host = self.hosts.get(&address).cloned();
        let is_black_hole = self.black_holes.contains(&address);
        Box::pin(async move {
            if is_black_hole {
                std::future::pending::<()>().await;
            }
            let Some(host) = host else { return Err(io::ErrorKind::ConnectionRefused.into()) };
            assert!(!host.script.lock().unwrap().is_a_trap, "a defect\nthat was injected");
            let (ours, theirs) = tokio::io::duplex(64 * 1024);
            tokio::spawn(host.serve(theirs));
            let stream: Box<dyn Stream> = Box::new(ours);
            Ok(stream)
        })
    }
}

/// Whoever draws gets nothing but zeros: pauses are as long as they are written.
#[derive(Debug)]
pub(crate) struct Zeros;

impl Entropy for Zeros {
    fn fill(&self, octets: &mut [u8]) {
        octets.fill(0);
    }
}

/// A CA made for one test, and certificates by it.
pub(crate) struct TestCa {
    params: CertificateParams,
    key: KeyPair,
    pub(crate) certificate: CertificateDer<'static>,
}

/// From when until when a certificate is valid, in days from [`PRESENT`].
#[derive(Clone, Copy)]
pub(crate) struct Days(pub(crate) i64, pub(crate) i64);

/// The present of all tests here: 2026-11-24T01:48:00Z.
pub(crate) const PRESENT: WallTime = WallTime::from_seconds(1_795_484_880);

impl TestCa {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        valid(&mut params, Days(-1000, 1000));
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self { params, key, certificate }
    }

    /// A server's TLS with a certificate for `name`.
    pub(crate) fn server(&self, name: &str, days: Days) -> Arc<ServerConfig> {
        self.server_by(name, days, rustls::DEFAULT_VERSIONS)
    }

    /// The same, with these versions of TLS only.
    pub(crate) fn server_by(
        &self,
        name: &str,
        days: Days,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Arc<ServerConfig> {
        self.issue(name, days, versions).0
    }

    /// A server's TLS, and the certificate in it.
    pub(crate) fn server_and_leaf(&self, name: &str, days: Days) -> (Arc<ServerConfig>, CertificateDer<'static>) {
        self.issue(name, days, rustls::DEFAULT_VERSIONS)
    }

    fn issue(
        &self,
        name: &str,
        days: Days,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> (Arc<ServerConfig>, CertificateDer<'static>) {
        let names = if name.starts_with("CN=") { Vec::new() } else { vec![name.to_owned()] };
        let mut params = CertificateParams::new(names).unwrap();
        if let Some(common_name) = name.strip_prefix("CN=") {
            params.distinguished_name.push(DnType::CommonName, common_name);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        valid(&mut params, days);
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &Issuer::from_params(&self.params, &self.key)).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
            .unwrap();
        (Arc::new(config), leaf.der().clone())
    }
}

fn valid(params: &mut CertificateParams, Days(from, until): Days) {
    let present = rcgen::date_time_ymd(2026, 11, 24);
    let day = |days: i64| {
        let distance = Duration::from_secs(days.unsigned_abs() * 24 * 60 * 60);
        if days < 0 { present - distance } else { present + distance }
    };
    params.not_before = day(from);
    params.not_after = day(until);
}
