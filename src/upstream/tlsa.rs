//! TLSA records of an upstream, with DNSSEC's word for them (RFC 7672 §2): proved here, up to the root's keys, or by a resolver that the configuration
//! trusts, whose word is the AD bit.
//!
//! | found                                                    | means                                                      |
//! |----------------------------------------------------------|------------------------------------------------------------|
//! | addresses of the name that are not signed                | no DANE: what `tls` says (RFC 7672 §2.2.2)                  |
//! | a signed answer that there are no TLSA records           | no DANE: what `tls` says                                    |
//! | signed records                                           | the certificate must be what they name                      |
//! | a wrong signature, no answer, an answer that is a fault  | nothing is known: the mail waits                            |
//!
//! Never: takes the AD bit of a resolver that is not trusted; takes silence for an answer.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::dnssec::{Proof, TrustAnchors};
use hickory_resolver::proto::op::{Edns, Message, OpCode, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout};

use super::dane::Tlsa;
use super::resolver::READ_AGAIN;
use crate::sys::{Entropy as _, SystemEntropy};

/// How long one server is waited for, each time it is asked.
const SERVER_WAIT: Duration = Duration::from_secs(5);
/// How often the servers are asked.
const ROUNDS: usize = 2;
/// Octets of an answer over UDP that we take (RFC 9715 §3.2 names 1400).
const UDP_MAX: u16 = 1400;
/// Octets of a TLSA answer at most.
const TCP_MAX: usize = 64 * 1024;
/// CNAMEs that are followed.
const ALIASES_MAX: usize = 8;

/// Who is asked, and whose word counts. Equal when both are.
#[derive(Clone)]
pub struct Dane {
    servers: Vec<SocketAddr>,
    word: Word,
    /// Made at the first question, for its answers and proofs are kept in it; anew where the machine's configuration may have changed.
    validating: Arc<Mutex<Option<Made>>>,
}

/// A resolver that proves what it answers.
struct Made {
    resolver: TokioResolver,
    /// From when on the machine's configuration is to be read again; none where the servers are named here.
    until: Option<Instant>,
}

/// Whose word for an answer counts.
#[derive(Clone)]
enum Word {
    /// Ours: each signature is checked, from these keys on; the root's, unless others are given.
    Ours(Option<Arc<TrustAnchors>>),
    /// That of the servers (`[dns] trusted`).
    Theirs,
}

impl Dane {
    /// Answers are proved here. No servers: the machine's.
    pub fn proved_here(servers: Vec<SocketAddr>) -> Self {
        Self { servers, word: Word::Ours(None), validating: Arc::default() }
    }

    /// The same from other keys than the root's on: those of a DNS of one's own.
    pub fn proved_from(servers: Vec<SocketAddr>, anchors: TrustAnchors) -> Self {
        Self { word: Word::Ours(Some(Arc::new(anchors))), ..Self::proved_here(servers) }
    }

    /// The servers are trusted to have proved what they say, and the way to them to be safe.
    pub fn by_word_of(servers: Vec<SocketAddr>) -> Self {
        Self { word: Word::Theirs, ..Self::proved_here(servers) }
    }
}

impl PartialEq for Dane {
    fn eq(&self, other: &Self) -> bool {
        let same_word = match (&self.word, &other.word) {
            (Word::Ours(None), Word::Ours(None)) | (Word::Theirs, Word::Theirs) => true,
            (Word::Ours(Some(one)), Word::Ours(Some(other))) => Arc::ptr_eq(one, other),
            (Word::Ours(_) | Word::Theirs, _) => false,
        };
        self.servers == other.servers && same_word
    }
}

impl Eq for Dane {}

impl fmt::Debug for Dane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if matches!(self.word, Word::Theirs) { "theirs" } else { "ours" };
        f.debug_struct("Dane").field("servers", &self.servers).field("word", &word).finish_non_exhaustive()
    }
}

/// What DNS says of an upstream's certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// Nothing that is signed.
    Nothing,
    /// These records, found at this host's name.
    Records {
        /// The TLSA base domain (RFC 7672 §2.2): the name that the server is asked for, and that its certificate may carry.
        host: String,
        /// The records.
        records: Vec<Tlsa>,
    },
}

/// An answer with what DNSSEC says of it.
#[derive(Debug)]
enum Answer {
    /// Proved; the records that were asked for, and the name that the aliases end at. There may be none.
    Signed { records: Vec<RData>, host: Name },
    /// Not signed at all.
    Unsigned,
}

/// Asks for the TLSA records of a host.
pub(super) async fn ask(dane: &Dane, host: &str, port: u16) -> io::Result<Named> {
    let name = Name::from_ascii(format!("{}.", host.trim_end_matches('.'))).map_err(io::Error::other)?;
    // RFC 7672 §2.2.2: where the addresses are not signed, the records are not asked for: servers of such zones often fail at it.
    let Some(end) = signed_host(dane, &name).await? else { return Ok(Named::Nothing) };
    // RFC 7672 §2.2.3: first where the aliases lead, then where they began.
    let candidates = if end == name { vec![name] } else { vec![end, name] };
    for candidate in candidates {
        let asked = Name::from_ascii(format!("_{port}._tcp.{}", candidate.to_ascii())).map_err(io::Error::other)?;
        if let Answer::Signed { records, .. } = answer(dane, &asked, RecordType::TLSA).await? {
            let records: Vec<Tlsa> = records.iter().filter_map(tlsa).collect();
            if !records.is_empty() {
                return Ok(Named::Records { host: candidate.to_ascii().trim_end_matches('.').to_owned(), records });
            }
        }
    }
    Ok(Named::Nothing)
}

/// The name that a host's aliases end at, when its addresses are signed.
async fn signed_host(dane: &Dane, name: &Name) -> io::Result<Option<Name>> {
    for kind in [RecordType::A, RecordType::AAAA] {
        match answer(dane, name, kind).await? {
            Answer::Unsigned => return Ok(None),
            Answer::Signed { records, host } if !records.is_empty() => return Ok(Some(host)),
            Answer::Signed { .. } => {}
        }
    }
    Ok(None)
}

fn tlsa(data: &RData) -> Option<Tlsa> {
    let RData::TLSA(record) = data else { return None };
    let (usage, selector, matching) = (record.cert_usage.into(), record.selector.into(), record.matching.into());
    Some(Tlsa { usage, selector, matching, data: record.cert_data.clone() })
}

async fn answer(dane: &Dane, name: &Name, kind: RecordType) -> io::Result<Answer> {
    match &dane.word {
        Word::Ours(anchors) => proved(&dane.validating(anchors.as_ref())?, name, kind).await,
        Word::Theirs => vouched(&dane.servers, name, kind).await,
    }
}

impl Answer {
    /// The records of this kind where the aliases lead.
    fn signed(records: &[Record], name: &Name, kind: RecordType) -> Self {
        let mut host = name.clone();
        for _ in 0..ALIASES_MAX {
            let alias = records.iter().filter(|record| record.name == host).find_map(|record| {
                let RData::CNAME(target) = &record.data else { return None };
                Some(target.0.clone())
            });
            match alias {
                Some(target) => host = target,
                None => break,
            }
        }
        let meant = records.iter().filter(|record| record.name == host && record.record_type() == kind);
        Self::Signed { records: meant.map(|record| record.data.clone()).collect(), host }
    }
}

// Proved here.

impl Dane {
    fn validating(&self, anchors: Option<&Arc<TrustAnchors>>) -> io::Result<TokioResolver> {
        let mut made = self.validating.lock().unwrap_or_else(PoisonError::into_inner);
        let now = super::vigil::present();
        if let Some(made) = &*made
            && made.until.is_none_or(|until| now < until)
        {
            return Ok(made.resolver.clone());
        }
        let resolver = resolver(&self.servers, anchors.cloned()).map_err(io::Error::other)?;
        let until = self.servers.is_empty().then(|| now + READ_AGAIN);
        *made = Some(Made { resolver: resolver.clone(), until });
        Ok(resolver)
    }
}

fn resolver(servers: &[SocketAddr], anchors: Option<Arc<TrustAnchors>>) -> Result<TokioResolver, NetError> {
    let mut builder = if servers.is_empty() {
        TokioResolver::builder_tokio()?
    } else {
        let at = |server: &SocketAddr| {
            let ways = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut way| {
                way.port = server.port();
                way
            });
            NameServerConfig::new(server.ip(), true, ways.to_vec())
        };
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.iter().map(at).collect());
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    builder.options_mut().validate = true;
    builder.options_mut().timeout = SERVER_WAIT;
    builder.options_mut().attempts = ROUNDS;
    match anchors {
        Some(anchors) => builder.with_trust_anchor(anchors).build(),
        None => builder.build(),
    }
}

async fn proved(resolver: &TokioResolver, name: &Name, kind: RecordType) -> io::Result<Answer> {
    let bogus = || io::Error::other(format!("DNSSEC does not prove the {kind} records of {name}"));
    match resolver.lookup(name.clone(), kind).await {
        Ok(found) => {
            let data = |record: &&Record| record.record_type() != RecordType::RRSIG;
            let proofs: Vec<Proof> = found.answers().iter().filter(data).map(|record| record.proof).collect();
            if !proofs.is_empty() && proofs.iter().all(|proof| *proof == Proof::Secure) {
                Ok(Answer::signed(found.answers(), name, kind))
            } else if proofs.contains(&Proof::Insecure)
                && proofs.iter().all(|proof| matches!(proof, Proof::Secure | Proof::Insecure))
            {
                Ok(Answer::Unsigned)
            } else {
                Err(bogus())
            }
        }
        Err(NetError::Dns(DnsError::Nsec { proof: Proof::Insecure, .. })) => Ok(Answer::Unsigned),
        // The resolver has proved that there is nothing, or that nothing there is signed; either way there is nothing to hold to.
        Err(fault) if fault.is_no_records_found() || fault.is_nx_domain() => {
            Ok(Answer::Signed { records: Vec::new(), host: name.clone() })
        }
        Err(NetError::Dns(DnsError::DnssecBogus | DnsError::Nsec { .. })) => Err(bogus()),
        Err(fault) => Err(io::Error::other(format!("the {kind} records of {name}: {fault}"))),
    }
}

// By word of a resolver.

async fn vouched(servers: &[SocketAddr], name: &Name, kind: RecordType) -> io::Result<Answer> {
    let mut last = io::Error::other("no server to ask: [dns] servers is empty");
    for server in servers.iter().cycle().take(servers.len().saturating_mul(ROUNDS)) {
        match timeout(SERVER_WAIT, asked(*server, name, kind)).await {
            Ok(Ok(message)) => match read(&message, name, kind) {
                Ok(answer) => return Ok(answer),
                Err(fault) => last = fault,
            },
            Ok(Err(fault)) => last = io::Error::other(format!("{server}: {fault}")),
            Err(_) => last = io::Error::other(format!("{server} does not answer")),
        }
    }
    Err(last)
}

/// What a trusted resolver says: its AD bit is the proof (RFC 4035 §3.2.3), SERVFAIL what it could not prove.
fn read(message: &Message, name: &Name, kind: RecordType) -> io::Result<Answer> {
    let code = message.metadata.response_code;
    if !matches!(code, ResponseCode::NoError | ResponseCode::NXDomain) {
        return Err(io::Error::other(format!("the {kind} records of {name}: {code}")));
    }
    if message.metadata.authentic_data {
        Ok(Answer::signed(&message.answers, name, kind))
    } else {
        Ok(Answer::Unsigned)
    }
}

/// One question to one server: by UDP, and by TCP when the answer is too long for that (RFC 7766 §5).
async fn asked(server: SocketAddr, name: &Name, kind: RecordType) -> io::Result<Message> {
    let mut random = [0; 2];
    SystemEntropy.fill(&mut random);
    let id = u16::from_be_bytes(random);
    let mut question = Message::query();
    question.metadata.id = id;
    question.metadata.op_code = OpCode::Query;
    question.metadata.recursion_desired = true;
    // RFC 6840 §5.7: whoever sets AD in a question wants it in the answer.
    question.metadata.authentic_data = true;
    question.add_query(Query::query(name.clone(), kind));
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_MAX).set_dnssec_ok(true);
    question.set_edns(edns);
    let question = question.to_vec().map_err(io::Error::other)?;
    let is_answer = |message: &Message| {
        let same = |asked: &Query| *asked.name() == *name && asked.query_type() == kind;
        message.metadata.id == id && message.queries.len() == 1 && message.queries.iter().all(same)
    };
    let here: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(here).await?;
    socket.connect(server).await?;
    socket.send(&question).await?;
    let mut buffer = vec![0; usize::from(UDP_MAX)];
    let message = loop {
        let length = socket.recv(&mut buffer).await?;
        // What is no answer to this question may be anybody's: it is waited on.
        if let Ok(message) = Message::from_vec(buffer.get(..length).unwrap_or_default())
            && is_answer(&message)
        {
            break message;
        }
    };
    if !message.metadata.truncation {
        return Ok(message);
    }
    let message = by_tcp(server, &question).await?;
    if is_answer(&message) { Ok(message) } else { Err(io::Error::other("an answer to another question")) }
}

async fn by_tcp(server: SocketAddr, question: &[u8]) -> io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), question].concat()).await?;
    let length = usize::from(stream.read_u16().await?);
    let mut buffer = vec![0; length.min(TCP_MAX)];
    stream.read_exact(&mut buffer).await?;
    Message::from_vec(&buffer).map_err(io::Error::other)
}
