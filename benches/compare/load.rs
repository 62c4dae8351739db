//! A bounded load on an SMTP submission server that demands client certificates, and its measure: how much, how fast, what was said.
//!
//! `load certificates DIR COUNT` makes a CA, its CRL, a server's certificate and so many clients' in DIR. `load send ..` submits messages,
//! each with a Message-ID of its own (`<RUN.NUMBER@load.example>`), and prints one JSON object; `load idle ..` opens sessions, and `load upload ..` some
//! that stand in the middle of a large message, says so, and holds them until its standard input ends. A tool of tests and measurements, not of sealpost: it shares no code with what it measures.
//! One thread: what it costs is told apart from what the server costs.

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
mod load {
    pub mod session;
    pub mod tally;
    pub mod upload;
}

use std::cell::{Cell, RefCell};
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, Parser, ValueEnum};
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use load::session::Session;
use load::tally::Tally;

/// How many sessions are being opened at once when they are to stand idle.
const OPENING: u64 = 20;
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
    /// Opens sessions that each begin a large message and send part of it, prints a line, and holds them until the standard input ends.
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
    /// How long one reply may take, seconds.
    #[arg(long, default_value_t = 60)]
    pub patience: u64,
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
    /// Messages in all. 0: sessions are opened and closed, and nothing is sent.
    #[arg(long)]
    messages: u64,
    /// Without messages: how many sessions in all.
    #[arg(long, default_value_t = 0)]
    sessions: u64,
    /// Messages of one session; then it is closed, and another opened.
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
}

#[derive(Args)]
pub struct Upload {
    #[command(flatten)]
    pub target: Target,
    /// How many.
    #[arg(long)]
    pub sessions: u64,
    /// Octets that are sent of each message, which has no end.
    #[arg(long)]
    pub sent: u64,
}

/// Who a session is: the e-mail name of the certificate, and what proves it.
pub struct Client {
    pub address: String,
    pub tls: Arc<ClientConfig>,
}

fn main() {
    match Arguments::parse() {
        Arguments::Certificates { directory, count } => make_certificates(&directory, count),
        Arguments::Send(send) => in_runtime(submit(Rc::new(send))),
        Arguments::Idle { target, sessions } => in_runtime(idle(Rc::new(target), sessions)),
        Arguments::Upload(upload) => {
            let clients = clients(&upload.target.certificates);
            in_runtime(load::upload::upload(Rc::new(upload), clients));
        }
    }
}

fn in_runtime(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, work);
}

fn make_certificates(directory: &Path, count: u64) {
    let mut authority = certificates::Authority::new(directory, "Load CA");
    authority.server();
    std::fs::create_dir_all(directory.join("clients")).unwrap();
    for number in 0..count {
        let leaf = authority.client(&format!("client-{number}@example.com"));
        for file in [&leaf.certificate, &leaf.key] {
            std::fs::rename(file, directory.join("clients").join(file.file_name().unwrap())).unwrap();
        }
    }
    let revoked = authority.client("revoked@example.com");
    authority.write_crl(1, &[&revoked]);
}

fn clients(directory: &Path) -> Vec<Client> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(directory.join("ca.pem")).unwrap()).unwrap();
    let roots = Arc::new(roots);
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(directory.join("clients")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "pem"));
    files.sort();
    files.iter().map(|file| client(file, &roots)).collect()
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
    send: Rc<Send>,
    clients: Vec<Client>,
    /// The next message, or the next session where none are sent.
    next: Cell<u64>,
    opened: Cell<u64>,
    tally: RefCell<Tally>,
}

impl Shared {
    fn take(&self) -> Option<u64> {
        let number = self.next.get();
        self.next.set(number + 1);
        let all = if self.send.messages > 0 { self.send.messages } else { self.send.sessions };
        (number < all && self.tally.borrow().faults() < FAULTS_MAX).then_some(number)
    }

    async fn open(&self) -> std::io::Result<(Session, &str)> {
        let number = self.opened.get();
        self.opened.set(number + 1);
        let client = &self.clients[number as usize % self.clients.len()];
        let began = Instant::now();
        let target = &self.send.target;
        let session =
            Session::open(target.server, target.mode, &client.tls, Duration::from_secs(target.patience)).await?;
        self.tally.borrow_mut().opened(began.elapsed());
        Ok((session, &client.address))
    }
}

async fn submit(send: Rc<Send>) {
    let clients = clients(&send.target.certificates);
    let shared = Rc::new(Shared {
        clients,
        next: Cell::new(0),
        opened: Cell::new(0),
        tally: RefCell::new(Tally::begin()),
        send: Rc::clone(&send),
    });
    let places: Vec<_> = (0..send.connections).map(|_| tokio::task::spawn_local(place(Rc::clone(&shared)))).collect();
    for place in places {
        place.await.unwrap();
    }
    println!("{}", shared.tally.borrow().figures());
}

/// One of the sessions at once: opened, used, closed, and opened again as long as there is work.
async fn place(shared: Rc<Shared>) {
    while let Some(first) = shared.take() {
        let opened = shared.open().await;
        let (mut session, address) = match opened {
            Ok(opened) => opened,
            Err(fault) => {
                shared.tally.borrow_mut().broke((shared.send.messages > 0).then_some(first), &fault);
                continue;
            }
        };
        if shared.send.messages > 0 && use_up(&shared, &mut session, address, first).await.is_err() {
            continue;
        }
        let _ = session.quit().await;
    }
}

/// Sends this session's share of the messages. `Err` when the session is gone.
async fn use_up(shared: &Shared, session: &mut Session, sender: &str, first: u64) -> Result<(), ()> {
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

/// A message as it goes on the wire, with its end. One line in a hundred begins with a dot, which is doubled (RFC 5321 §4.5.2).
fn message(send: &Send, sender: &str, number: u64) -> Vec<u8> {
    let mut message = format!(
        "From: <{sender}>\r\nTo: <reader-0@example.net>\r\nSubject: number {number}\r\nDate: Tue, 24 Nov 2026 09:00:00 +0000\r\n\
         Message-ID: <{}.{number}@load.example>\r\n\r\n",
        send.run
    )
    .into_bytes();
    for line in 0_u64.. {
        if message.len() >= send.octets {
            break;
        }
        let start: &[u8] = if line % 100 == 99 { b".." } else { b"01" };
        message.extend_from_slice(start);
        message.extend_from_slice(b"23456789012345678901234567890123456789012345678901234567890123456789\r\n");
    }
    message.extend_from_slice(b".\r\n");
    message
}

async fn idle(target: Rc<Target>, sessions: u64) {
    let clients = Rc::new(clients(&target.certificates));
    let next = Rc::new(Cell::new(0));
    let opening: Vec<_> = (0..OPENING)
        .map(|_| {
            let (target, clients, next) = (Rc::clone(&target), Rc::clone(&clients), Rc::clone(&next));
            tokio::task::spawn_local(async move {
                let mut opened = Vec::new();
                loop {
                    let number: u64 = next.get();
                    if number >= sessions {
                        return opened;
                    }
                    next.set(number + 1);
                    let client = &clients[number as usize % clients.len()];
                    let patience = Duration::from_secs(target.patience);
                    opened.push(Session::open(target.server, target.mode, &client.tls, patience).await.unwrap());
                }
            })
        })
        .collect();
    let mut held = Vec::new();
    for opening in opening {
        held.extend(opening.await.unwrap());
    }
    println!("{{\"sessions\": {}}}", held.len());
    // The sessions are silent, so nothing waits for this thread.
    let _ = std::io::stdin().read(&mut [0]);
}
