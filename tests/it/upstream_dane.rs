//! DANE with a DNS of its own on loopback: a zone that is signed, one whose signatures are wrong, and resolvers with and without the AD bit.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_resolver::proto::dnssec::crypto::Ed25519SigningKey;
use hickory_resolver::proto::dnssec::rdata::{DNSKEY, DNSSECRData, RRSIG};
use hickory_resolver::proto::dnssec::{DnssecSigner, SigningKey, TrustAnchors};
use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::tlsa::{CertUsage, Matching, Selector};
use hickory_resolver::proto::rr::rdata::{A, CNAME, TLSA};
use hickory_resolver::proto::rr::{DNSClass, Name, RData, Record, RecordSet, RecordType};
use sealpost::sys::ManualClock;
use sealpost::upstream::network::{Pending, Stream};
use sealpost::upstream::{
    Anchors, Courier, Dane, Mode, Named, Network, Security, SystemNetwork, TlsDemand, TlsMaterial, Upstream,
};
use sha2::Digest as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};

use super::scripted_upstream::{Days, Net, PRESENT, Script, Scripted, TestCa, Zeros};

const NAME: &str = "smtp.example";
const TTL: u32 = 60;

/// What a DNS server holds, and how it answers.
#[derive(Default)]
struct Zone {
    records: HashMap<(Name, RecordType), Vec<RData>>,
    signer: Option<DnssecSigner>,
    /// Sets AD.
    vouches: bool,
    /// For names that it knows nothing of.
    unknown: Option<ResponseCode>,
    /// Over UDP everything is too long.
    truncates: bool,
    /// What it was asked for, in order.
    asked: Arc<Mutex<Vec<RecordType>>>,
}

fn name(text: &str) -> Name {
    Name::from_ascii(format!("{text}.")).unwrap()
}

impl Zone {
    fn with(mut self, at: &str, data: RData) -> Self {
        self.records.entry((name(at), data.record_type())).or_default().push(data);
        self
    }

    fn address(self, at: &str) -> Self {
        self.with(at, RData::A(A(Ipv4Addr::new(192, 0, 2, 1))))
    }

    fn tlsa(self, at: &str, usage: CertUsage, digest: Vec<u8>) -> Self {
        self.with(&format!("_25._tcp.{at}"), RData::TLSA(TLSA::new(usage, Selector::Full, Matching::Sha256, digest)))
    }

    fn answer(&self, question: &[u8], by_udp: bool) -> Vec<u8> {
        let question = Message::from_vec(question).unwrap();
        let query = question.queries[0].clone();
        self.asked.lock().unwrap().push(query.query_type());
        // RFC 9715 §3.2.
        assert!(question.max_payload() <= 1400, "{} octets by UDP", question.max_payload());
        let mut answer = Message::response(question.metadata.id, OpCode::Query);
        answer.add_query(query.clone());
        answer.metadata.recursion_available = true;
        if by_udp && self.truncates {
            answer.metadata.truncation = true;
            return answer.to_vec().unwrap();
        }
        // RFC 6840 §5.7: who does not ask for AD is not told.
        answer.metadata.authentic_data = self.vouches && question.metadata.authentic_data;
        let mut host = query.name().to_lowercase();
        while let Some(RData::CNAME(target)) = self.set(&host, RecordType::CNAME).and_then(|set| set.first()) {
            answer.add_answers(self.signed(&host, RecordType::CNAME));
            host = target.0.clone();
        }
        let records = self.signed(&host, query.query_type());
        if records.is_empty() {
            answer.metadata.response_code = self.unknown.unwrap_or(ResponseCode::NoError);
        }
        answer.add_answers(records);
        answer.to_vec().unwrap()
    }

    fn set(&self, at: &Name, kind: RecordType) -> Option<&Vec<RData>> {
        self.records.get(&(at.clone(), kind))
    }

    fn signed(&self, at: &Name, kind: RecordType) -> Vec<Record> {
        let Some(data) = self.set(at, kind) else { return Vec::new() };
        let mut set = RecordSet::with_ttl(at.clone(), kind, TTL);
        for data in data {
            set.add_rdata(data.clone());
        }
        let mut records: Vec<Record> = set.records_without_rrsigs().cloned().collect();
        if let Some(signer) = &self.signer {
            let inception = time::OffsetDateTime::now_utc() - Duration::from_secs(3600);
            let signature = RRSIG::from_rrset(&set, DNSClass::IN, inception, signer).unwrap();
            records.push(Record::from_rdata(at.clone(), TTL, RData::DNSSEC(DNSSECRData::RRSIG(signature))));
        }
        records
    }

    /// Serves it, by UDP and TCP on one port.
    async fn serve(self) -> SocketAddr {
        let zone = Arc::new(self);
        let (udp, tcp) = by_udp_and_tcp().await;
        let address = udp.local_addr().unwrap();
        let by_udp = Arc::clone(&zone);
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok((length, client)) = udp.recv_from(&mut buffer).await {
                udp.send_to(&by_udp.answer(&buffer[..length], true), client).await.unwrap();
            }
        });
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = tcp.accept().await {
                let zone = Arc::clone(&zone);
                tokio::spawn(async move {
                    while let Ok(length) = stream.read_u16().await {
                        let mut question = vec![0; usize::from(length)];
                        stream.read_exact(&mut question).await.unwrap();
                        let answer = zone.answer(&question, false);
                        stream.write_u16(u16::try_from(answer.len()).unwrap()).await.unwrap();
                        stream.write_all(&answer).await.unwrap();
                    }
                });
            }
        });
        address
    }
}

/// The key of the root of this DNS: a signer, and who trusts it.
fn key() -> (DnssecSigner, TrustAnchors) {
    let key = Ed25519SigningKey::from_pkcs8(&Ed25519SigningKey::generate_pkcs8().unwrap()).unwrap();
    let public = key.to_public_key().unwrap();
    let mut anchors = TrustAnchors::empty();
    anchors.insert(&public);
    let signer = DnssecSigner::new(DNSKEY::from_key(&public), Box::new(key), Name::root(), Duration::from_secs(86_400));
    (signer, anchors)
}

/// A zone signed by its own root.
fn signed(zone: Zone) -> (Zone, TrustAnchors) {
    let (signer, anchors) = key();
    let mut zone = zone;
    let key = RData::DNSSEC(DNSSECRData::DNSKEY(signer.to_dnskey()));
    zone.records.insert((Name::root(), RecordType::DNSKEY), vec![key]);
    zone.signer = Some(signer);
    (zone, anchors)
}

/// Addresses and streams in memory, TLSA records by the real DNS.
#[derive(Debug)]
struct Both(Net);

impl Network for Both {
    fn lookup<'a>(&'a self, upstream: &'a Upstream) -> Pending<'a, Vec<SocketAddr>> {
        self.0.lookup(upstream)
    }

    fn connect(&self, address: SocketAddr, from: Option<IpAddr>) -> Pending<'_, Box<dyn Stream>> {
        self.0.connect(address, from)
    }
}

/// "in over TLS", "in without TLS", or why not.
async fn try_out(dane: Dane, demand: TlsDemand, ca: &TestCa, up: &Arc<Scripted>) -> String {
    let clock = Arc::new(ManualClock::at(PRESENT));
    let material = TlsMaterial {
        anchors: Anchors::Given(vec![ca.certificate.clone()]),
        pins: Vec::new(),
        server_name: None,
        identity: None,
    };
    let mut settings = Upstream::new("main", NAME, 25, "relay.example.com");
    settings.security = Security::new(Mode::StartTls, demand, NAME, material, clock.clone()).unwrap();
    settings.dane = Some(dane);
    let courier = Courier::new(Arc::new(Both(Net::default().name(NAME, &[1]).host(1, up))), clock, Arc::new(Zeros));
    let before = up.heard().len();
    match courier.try_out(&Arc::new(settings)).await {
        Ok(()) if up.heard()[before..].iter().any(|line| line == "STARTTLS") => "in over TLS".to_owned(),
        Ok(()) => "in without TLS".to_owned(),
        Err(fault) => {
            assert!(!up.heard()[before..].iter().any(|line| line.starts_with("MAIL")));
            format!("{:?}", fault.cause)
        }
    }
}

fn digest(octets: &[u8]) -> Vec<u8> {
    sha2::Sha256::digest(octets).to_vec()
}

/// One port for both: what is free for UDP may be somebody's by TCP.
async fn by_udp_and_tcp() -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
}

#[tokio::test]
async fn what_dns_names_is_demanded_whatever_tls_says() {
    let (ca, other) = (TestCa::new("ca"), TestCa::new("other"));
    let (server, leaf) = ca.server_and_leaf("not.the.name.example", Days(-30, -1));
    let with_tls = || Scripted::new(Script { tls: Some(Arc::clone(&server)), ..Script::default() });
    let without_tls = || Scripted::new(Script::default());
    let right = || Zone::default().address(NAME).tlsa(NAME, CertUsage::DaneEe, digest(&leaf));
    let wrong = || Zone::default().address(NAME).tlsa(NAME, CertUsage::DaneEe, digest(&other.certificate));
    let unusable = || Zone::default().address(NAME).tlsa(NAME, CertUsage::PkixEe, digest(&leaf));
    let nothing = || Zone::default().address(NAME);
    let servfail = || Zone { unknown: Some(ResponseCode::ServFail), ..nothing() };
    let vouching = |zone: Zone| Zone { vouches: true, ..zone };
    // By word of a resolver: what it says, and whether it vouches for it.
    for (what, zone, up, expected) in [
        ("right", vouching(right()), with_tls(), "in over TLS"),
        ("right, by TCP", Zone { truncates: true, ..vouching(right()) }, with_tls(), "in over TLS"),
        ("right, no STARTTLS", vouching(right()), without_tls(), "TlsNotOffered"),
        ("wrong", vouching(wrong()), with_tls(), "Tls(Dane(NoMatch))"),
        ("unusable", vouching(unusable()), with_tls(), "Tls(Dane(Unusable))"),
        ("nothing", vouching(nothing()), without_tls(), "in without TLS"),
        ("not vouched for", right(), without_tls(), "in without TLS"),
        ("not vouched for and wrong", wrong(), with_tls(), "in over TLS"),
        ("servfail", vouching(servfail()), without_tls(), "TlsaUnknown"),
    ] {
        let (asked, vouches) = (Arc::clone(&zone.asked), zone.vouches);
        let dane = Dane::by_word_of(vec![zone.serve().await]);
        let came = try_out(dane, TlsDemand::Opportunistic, &ca, &up).await;
        assert!(came.starts_with(expected), "{what}: {came}");
        // RFC 7672 §2.2.2: addresses first, and TLSA records only where those were vouched for.
        let asked = asked.lock().unwrap();
        assert!(asked.first().is_some_and(|kind| *kind != RecordType::TLSA), "{what}: {asked:?}");
        assert_eq!(asked.contains(&RecordType::TLSA), vouches, "{what}: {asked:?}");
    }
    // Proved here, from the key of this DNS's own root on.
    for (what, zone, up, expected) in [
        ("right", right(), with_tls(), "in over TLS"),
        ("right, no STARTTLS", right(), without_tls(), "TlsNotOffered"),
        ("wrong", wrong(), with_tls(), "Tls(Dane(NoMatch))"),
        ("unusable", unusable(), with_tls(), "Tls(Dane(Unusable))"),
        ("nothing, and no proof of that", nothing(), without_tls(), "TlsaUnknown"),
    ] {
        let (zone, anchors) = signed(zone);
        let dane = Dane::proved_from(vec![zone.serve().await], anchors);
        let came = try_out(dane, TlsDemand::Opportunistic, &ca, &up).await;
        assert!(came.starts_with(expected), "{what}: {came}");
    }
}

/// Whoever can change what DNS says, but not sign it, gains nothing: not the AD bit, not another key's signatures, not their absence.
#[tokio::test]
async fn what_is_signed_wrongly_lets_nothing_through() {
    let ca = TestCa::new("ca");
    let (server, leaf) = ca.server_and_leaf(NAME, Days(-1, 1));
    let up = Scripted::new(Script { tls: Some(server), ..Script::default() });
    let zone = || Zone { vouches: true, ..Zone::default().address(NAME).tlsa(NAME, CertUsage::DaneEe, digest(&leaf)) };
    let (by_another_key, _) = signed(zone());
    let (_, anchors) = key();
    let unsigned = zone();
    for (what, zone) in [("another key", by_another_key), ("no signatures", unsigned)] {
        let dane = Dane::proved_from(vec![zone.serve().await], anchors.clone());
        let came = try_out(dane, TlsDemand::Opportunistic, &ca, &up).await;
        assert!(came.starts_with("TlsaUnknown"), "{what}: {came}");
    }
}

#[tokio::test]
async fn records_are_found_where_the_aliases_lead_first() {
    let ca = TestCa::new("ca");
    let far = "mail.elsewhere";
    let alias = || RData::CNAME(CNAME(name(far)));
    let zone = || Zone { vouches: true, ..Zone::default().with(NAME, alias()).address(far) };
    for (zone, expected) in [
        (zone().tlsa(far, CertUsage::DaneTa, digest(&ca.certificate)), Some(far)),
        (zone().tlsa(NAME, CertUsage::DaneTa, digest(&ca.certificate)), Some(NAME)),
        (zone(), None),
        (Zone { vouches: false, ..zone().tlsa(far, CertUsage::DaneTa, digest(&ca.certificate)) }, None),
    ] {
        let dane = Dane::by_word_of(vec![zone.serve().await]);
        let named = SystemNetwork::new(Arc::new(Zeros)).named(&dane, NAME, 25).await.unwrap();
        let found = match &named {
            Named::Records { host, records } => Some((host.as_str(), records.len())),
            Named::Nothing => None,
        };
        assert_eq!(found, expected.map(|host| (host, 1)));
    }
    // RFC 7672 §8.1: that is the name that the server is asked for.
    let (server, leaf) = ca.server_and_leaf(far, Days(-1, 1));
    let up = Scripted::new(Script { tls: Some(server), ..Script::default() });
    let dane = Dane::by_word_of(vec![zone().tlsa(far, CertUsage::DaneEe, digest(&leaf)).serve().await]);
    assert_eq!(try_out(dane, TlsDemand::Opportunistic, &ca, &up).await, "in over TLS");
    assert_eq!(up.asked_for(), [Some(far.to_owned())]);
}
