//! A bounded load on an SMTP submission server that demands client certificates, and its measure: how much, how fast, what was said.
//!
//! `load certificates DIR COUNT` makes a CA, its CRL, a server's certificate and so many clients' in DIR. `load send ..` submits messages, each with a
//! Message-ID (`<RUN.NUMBER@load.example>`) and a body of its own, and prints one JSON object: so many of them, or for so many seconds after a
//! warm-up, and then it prints a line where the measured time begins and where it ends. `load idle ..` opens sessions and holds them until its standard
//! input ends; `load upload ..` sends many large messages at once, and holds them in their middle until then.
//!
//! A tool of tests and measurements, not of sealpost: it shares no code with what it measures. One thread: what it costs is told apart from what the
//! server costs.

#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    missing_debug_implementations,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::as_conversions,
    clippy::disallowed_methods,
    reason = "a program of the tests: what it meets unexpectedly must end it, and it has files, sockets and a clock of its own"
)]

#[path = "../../tests/it/harness/certificates.rs"]
mod certificates;
mod body;
mod load {
    pub mod idle;
    pub mod session;
    pub mod tally;
    pub mod upload;
}

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, Parser, ValueEnum};
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::Barrier;

use load::session::{Door, Session};
use load::tally::Tally;

/// How many sessions are being opened at once when they are to stand idle.
const OPENING: u64 = 20;
/// The first serial that a CRL of many revokes: far from those of certificates.
const SERIALS: u64 = 1 << 40;
/// A load that meets only faults ends after so many.
const FAULTS_MAX: u64 = 100;

/// A bounded load with client certificates.
#[derive(Parser)]
enum Arguments {
    /// Makes a CA, its CRL, a server's certificate and clients' certificates.
    Certificates {
        /// Where to.
        directory: PathBuf,
        /// How many clients.
        count: u64,
        /// How many serials the CRL revokes, none of them a client's.
        #[arg(long, default_value_t = 1)]
        revoked: u64,
    },
    /// Submits messages, or only opens sessions, and prints what came of it as JSON.
    Send(Send),
    /// Opens sessions, prints a line, and holds them until the standard input ends.
    Idle {
        #[command(flatten)]
        target: Target,
        /// How many.
        #[arg(long)]
        sessions: u64,
    },
    /// Sends large messages, all at once: each to its middle, then prints a line and waits until the standard input ends, then each to its end.
    Upload(Upload),
}

#[derive(Args)]
pub struct Target {
    /// The server: an address and a port.
    #[arg(long)]
    pub server: SocketAddr,
    /// STARTTLS, or TLS from the start.
    #[arg(long, value_enum, default_value = "starttls")]
    pub mode: Mode,
    /// A directory as `load certificates` makes it; sessions take its clients in turn.
    #[arg(long)]
    pub certificates: PathBuf,
    /// How many of its clients come, the first of them. 0: all.
    #[arg(long, default_value_t = 0)]
    pub clients: usize,
    /// How long one reply may take, seconds.
    #[arg(long, default_value_t = 60)]
    pub patience: u64,
    /// How many connect at the same time, until they are greeted: no more than the shortest listen backlog takes.
    #[arg(long, default_value_t = 4)]
    pub opening: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    Starttls,
    Implicit,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Pace {
    /// MAIL, RCPT and DATA in one write, where the server offers it (RFC 2920).
    Pipelined,
    /// Each command after the reply to the one before.
    OneByOne,
}

#[derive(Args)]
struct Send {
    #[command(flatten)]
    target: Target,
    /// Sessions at once.
    #[arg(long, default_value_t = 20)]
    connections: u64,
    /// Messages in all; of sessions without messages, how many. 0: as many as come in the time.
    #[arg(long, default_value_t = 0)]
    messages: u64,
    /// How long is measured, seconds, where the number is not given.
    #[arg(long, default_value_t = 0.0)]
    seconds: f64,
    /// How long it goes on before that, seconds.
    #[arg(long, default_value_t = 0.0)]
    warmup: f64,
    /// Messages of one session; then it is closed, and another opened. 0: sessions are opened and closed, and nothing is sent.
    #[arg(long, default_value_t = 100)]
    per_connection: u64,
    /// Octets of a message, header and all.
    #[arg(long, default_value_t = 4096)]
    octets: usize,
    /// Recipients of each message.
    #[arg(long, default_value_t = 1)]
    recipients: usize,
    #[arg(long, value_enum, default_value = "pipelined")]
    pace: Pace,
    /// A word for this run's Message-IDs, which the sink tells runs apart by.
    #[arg(long, default_value = "load")]
    run: String,
    /// A file for the numbers of the messages that were answered 250.
    #[arg(long)]
    answered: Option<PathBuf>,
}

#[derive(Args)]
pub struct Upload {
    #[command(flatten)]
    pub target: Target,
    /// How many.
    #[arg(long)]
    pub sessions: u64,
    /// Octets of each message.
    #[arg(long)]
    pub octets: u64,
    /// A word for this run's Message-IDs.
    #[arg(long, default_value = "upload")]
    pub run: String,
    /// A file for the numbers of the messages that were answered 250.
    #[arg(long)]
    pub answered: Option<PathBuf>,
}

/// Who a session is: the e-mail name of the certificate, and what proves it.
pub struct Client {
    pub address: String,
    pub tls: Arc<ClientConfig>,
}

fn main() {
    match Arguments::parse() {
        Arguments::Certificates { directory, count, revoked } => make_certificates(&directory, count, revoked),
        Arguments::Send(send) => in_runtime(submit(send)),
        Arguments::Idle { target, sessions } => in_runtime(load::idle::idle(target, sessions)),
        Arguments::Upload(upload) => {
            let clients = clients(&upload.target);
            in_runtime(load::upload::upload(upload, clients));
        }
    }
}

fn in_runtime(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, work);
}

fn make_certificates(directory: &Path, count: u64, revoked: u64) {
    let mut authority = certificates::Authority::new(directory, "Load CA");
    authority.server();
    std::fs::create_dir_all(directory.join("clients")).unwrap();
    for number in 0..count {
        let leaf = authority.client(&format!("client-{number}@example.com"));
        for file in [&leaf.certificate, &leaf.key] {
            std::fs::rename(file, directory.join("clients").join(file.file_name().unwrap())).unwrap();
        }
    }
    let leaf = authority.client("revoked@example.com");
    let leaves: Vec<certificates::Leaf> = (0..revoked).map(|number| leaf.with_serial(SERIALS + number)).collect();
    authority.write_crl(1, &leaves.iter().collect::<Vec<_>>());
}

/// Those that come, in the order of their numbers: a roster with the first of them knows whoever comes.
fn clients(target: &Target) -> Vec<Client> {
    let directory = &target.certificates;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(directory.join("ca.pem")).unwrap()).unwrap();
    let roots = Arc::new(roots);
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(directory.join("clients")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "pem"));
    files.sort_by_key(|file| (file.as_os_str().len(), file.clone()));
    let coming = if target.clients == 0 { files.len() } else { target.clients };
    assert!((1..=files.len()).contains(&coming), "{coming} clients are to come, and there are {}", files.len());
    files[..coming].iter().map(|file| client(file, &roots)).collect()
}

fn client(file: &Path, roots: &Arc<rustls::RootCertStore>) -> Client {
    let certificate = CertificateDer::from_pem_file(file).unwrap();
    let key = PrivateKeyDer::from_pem_file(file.with_extension("key")).unwrap();
    let mut tls = ClientConfig::builder()
        .with_root_certificates(Arc::clone(roots))
        .with_client_auth_cert(vec![certificate], key)
        .unwrap();
    // Each session costs a whole handshake, whoever would offer less.
    tls.resumption = rustls::client::Resumption::disabled();
    Client { address: file.file_stem().unwrap().to_str().unwrap().to_owned(), tls: Arc::new(tls) }
}

/// What all sessions of a load share.
struct Shared {
    send: Send,
    clients: Vec<Client>,
    door: Door,
    /// The next message, or the next session where none are sent.
    next: Cell<u64>,
    opened: Cell<u64>,
    over: Cell<bool>,
    tally: RefCell<Tally>,
}

/// A session, and who has opened it.
struct Opened<'a> {
    session: Session,
    sender: &'a str,
}

impl Shared {
    /// Whether less was done than was asked: the number is not full, or the time not over.
    fn gave_up(&self) -> bool {
        if self.send.messages > 0 { self.next.get() < self.send.messages } else { !self.over.get() }
    }

    fn take(&self) -> Option<u64> {
        let number = self.next.get();
        let more = if self.send.messages > 0 { number < self.send.messages } else { !self.over.get() };
        let go_on = more && self.tally.borrow().faults() < FAULTS_MAX;
        self.next.set(number + u64::from(go_on));
        go_on.then_some(number)
    }

    async fn open(&self) -> std::io::Result<Opened<'_>> {
        let number = self.opened.get();
        self.opened.set(number + 1);
        let client = &self.clients[number as usize % self.clients.len()];
        let began = Instant::now();
        let session = self.door.open(&client.tls).await?;
        self.tally.borrow_mut().opened(began.elapsed());
        Ok(Opened { session, sender: &client.address })
    }

    /// Whether sessions stay for many messages: then they are open before the clock starts.
    fn lasting(&self) -> bool {
        self.send.per_connection > 1
    }
}

async fn submit(send: Send) {
    let shared = Rc::new(Shared {
        clients: clients(&send.target),
        door: Door::new(&send.target),
        next: Cell::new(0),
        opened: Cell::new(0),
        over: Cell::new(false),
        tally: RefCell::new(Tally::begin()),
        send,
    });
    let ready = Rc::new(Barrier::new(shared.send.connections as usize + 1));
    let places: Vec<_> = (0..shared.send.connections)
        .map(|_| tokio::task::spawn_local(place(Rc::clone(&shared), Rc::clone(&ready))))
        .collect();
    ready.wait().await;
    shared.tally.borrow_mut().measure();
    let clock = (shared.send.messages == 0).then(|| tokio::task::spawn_local(clock(Rc::clone(&shared))));
    for place in places {
        place.await.unwrap();
    }
    if let Some(clock) = clock {
        clock.abort();
    }
    let tally = shared.tally.borrow();
    if let Some(file) = &shared.send.answered {
        tally.write_answered(file);
    }
    let mut figures = tally.figures();
    figures["anew"] = shared.door.anew().into();
    figures["ended_early"] = shared.gave_up().into();
    println!("{figures}");
}

/// Says when the measured time begins and ends: what is counted elsewhere is read then.
async fn clock(shared: Rc<Shared>) {
    tokio::time::sleep(Duration::from_secs_f64(shared.send.warmup)).await;
    shared.tally.borrow_mut().measure();
    println!("{{\"event\": \"measuring\"}}");
    tokio::time::sleep(Duration::from_secs_f64(shared.send.seconds)).await;
    shared.tally.borrow_mut().measured();
    shared.over.set(true);
    println!("{{\"event\": \"measured\"}}");
}

/// One of the sessions at once: opened, used, closed, and opened again as long as there is work.
async fn place(shared: Rc<Shared>, ready: Rc<Barrier>) {
    let mut kept = if shared.lasting() { Some(shared.open().await) } else { None };
    ready.wait().await;
    while let Some(first) = shared.take() {
        let opened = match kept.take() {
            Some(opened) => opened,
            None => shared.open().await,
        };
        match opened {
            Ok(mut opened) => {
                if shared.send.per_connection == 0 || use_up(&shared, &mut opened, first).await.is_ok() {
                    leave(&shared, opened).await;
                }
            }
            Err(fault) => {
                shared.tally.borrow_mut().broke((shared.send.per_connection > 0).then_some(first), &fault);
            }
        }
    }
    match kept {
        Some(Ok(opened)) => leave(&shared, opened).await,
        Some(Err(fault)) => shared.tally.borrow_mut().broke(None, &fault),
        None => {}
    }
}

/// The session's end; one that breaks there is no whole session.
async fn leave(shared: &Shared, opened: Opened<'_>) {
    if let Err(fault) = opened.session.quit().await {
        shared.tally.borrow_mut().broke(None, &fault);
    }
}

/// Sends this session's share of the messages. `Err` when the session is gone.
async fn use_up(shared: &Shared, opened: &mut Opened<'_>, first: u64) -> Result<(), ()> {
    let Opened { session, sender } = opened;
    let mut number = first;
    for sent in 1.. {
        let wire = message(&shared.send, sender, number);
        let began = Instant::now();
        match session.submit(sender, shared.send.recipients, shared.send.pace, &wire).await {
            Ok(said) => shared.tally.borrow_mut().answered(number, &said, began.elapsed()),
            Err(fault) => {
                shared.tally.borrow_mut().broke(Some(number), &fault);
                return Err(());
            }
        }
        if sent >= shared.send.per_connection {
            break;
        }
        match shared.take() {
            Some(next) => number = next,
            None => break,
        }
    }
    Ok(())
}

/// A message as it goes on the wire, with its end: as many whole lines as make it at least as long as it was wanted.
fn message(send: &Send, sender: &str, number: u64) -> Vec<u8> {
    let head = head(&send.run, sender, number);
    let lines = send.octets.saturating_sub(head.len()).div_ceil(body::LINE) as u64;
    let mut message = head.into_bytes();
    message.extend_from_slice(body::marker(&send.run, number, lines).as_bytes());
    for line in 0..lines {
        message.extend_from_slice(&body::line(number, line));
    }
    message.extend_from_slice(b".\r\n");
    message
}

/// A message's header, with the empty line behind it.
fn head(run: &str, sender: &str, number: u64) -> String {
    format!(
        "From: <{sender}>\r\nTo: <reader-0@example.net>\r\nSubject: number {number}\r\nDate: Tue, 24 Nov 2026 09:00:00 +0000\r\n\
         Message-ID: <{run}.{number}@load.example>\r\n\r\n"
    )
}
