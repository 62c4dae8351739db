//! Names of upstreams, asked of a DNS server on loopback that speaks in raw octets (RFC 1035 §4), so that it shares nothing with the resolver; and the
//! addresses of ours that upstreams see.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use sealpost::sys::{ManualClock, SeededEntropy};
use sealpost::upstream::names::HOSTS_MAX;
use sealpost::upstream::{
    Anchors, Courier, InMemory, LookUp, Mode, Network as _, Security, SourceAddresses, SystemNetwork, TlsDemand,
    TlsMaterial, Upstream,
};
use tokio::net::UdpSocket;

use super::scripted_upstream::{Days, PRESENT, Script, Scripted, TestCa, Zeros};
use super::upstream::envelope;

const A: u16 = 1;
const MX: u16 = 15;
const SRV: u16 = 33;
const NO_ERROR: u8 = 0;
const NAME_ERROR: u8 = 3;

/// A zone: names, and what is said of them.
type Zone = BTreeMap<(String, u16), Vec<Vec<u8>>>;

/// The server, and how often it was asked.
struct Dns {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    asked: Arc<AtomicUsize>,
}

impl Dns {
    /// Answers live for so many seconds.
    async fn start(life: u32) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let dns =
            Self { address: socket.local_addr().unwrap(), zone: Arc::default(), asked: Arc::new(AtomicUsize::new(0)) };
        let (zone, asked) = (Arc::clone(&dns.zone), Arc::clone(&dns.asked));
        tokio::spawn(async move {
            let mut octets = [0; 4096];
            loop {
                let (count, from) = socket.recv_from(&mut octets).await.unwrap();
                asked.fetch_add(1, Ordering::SeqCst);
                let answer = answer(&octets[..count], &zone.lock().unwrap(), life);
                socket.send_to(&answer, from).await.unwrap();
            }
        });
        dns
    }

    fn says(&self, name: &str, kind: u16, data: Vec<u8>) {
        self.zone.lock().unwrap().entry((name.to_owned(), kind)).or_default().push(data);
    }

    fn host(&self, name: &str, last: u8) {
        self.says(name, A, vec![127, 0, 0, last]);
    }

    fn exchange(&self, name: &str, preference: u16, host: &str) {
        self.says(name, MX, [&preference.to_be_bytes()[..], &wire_name(host)].concat());
    }

    fn service(&self, name: &str, (priority, weight, port): (u16, u16, u16), host: &str) {
        let numbers = [priority.to_be_bytes(), weight.to_be_bytes(), port.to_be_bytes()].concat();
        self.says(name, SRV, [numbers, wire_name(host)].concat());
    }

    fn upstream(&self, host: &str, lookup: LookUp) -> Upstream {
        let upstream = Upstream::new("main", host, 25, "relay.example.com");
        Upstream { lookup, name_servers: vec![self.address], ..upstream }
    }
}

/// RFC 1035 §3.1.
fn wire_name(name: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        octets.push(u8::try_from(label.len()).unwrap());
        octets.extend_from_slice(label.as_bytes());
    }
    octets.push(0);
    octets
}

/// RFC 1035 §4.1: the header, the question as it came, and the records, each by a pointer to the question's name.
fn answer(query: &[u8], zone: &Zone, life: u32) -> Vec<u8> {
    let (mut at, mut labels) = (12, Vec::new());
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8(query[at + 1..end].to_vec()).unwrap().to_ascii_lowercase());
        at = end;
    }
    let kind = u16::from_be_bytes([query[at + 1], query[at + 2]]);
    let name = labels.join(".");
    let records = zone.get(&(name.clone(), kind)).cloned().unwrap_or_default();
    let is_known = zone.keys().any(|(known, _)| *known == name);
    let code = if is_known { NO_ERROR } else { NAME_ERROR };
    let mut out = query[..2].to_vec();
    out.extend([0x81, 0x80 | code, 0, 1]);
    out.extend(u16::try_from(records.len()).unwrap().to_be_bytes());
    out.extend([0, 0, 0, 0]);
    out.extend(&query[12..at + 5]);
    for data in records {
        out.extend([0xc0, 12]);
        out.extend(kind.to_be_bytes());
        out.extend([0, 1]);
        out.extend(life.to_be_bytes());
        out.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        out.extend(data);
    }
    out
}

/// TLS towards `example.net`, with a certificate of that name by this CA.
fn security(mode: Mode, ca: &TestCa) -> Security {
    let anchors = Anchors::Given(vec![ca.certificate.clone()]);
    let material = TlsMaterial { anchors, pins: Vec::new(), server_name: None, identity: None };
    Security::new(mode, TlsDemand::Verify, "example.net", material, Arc::new(ManualClock::at(PRESENT))).unwrap()
}

fn network() -> SystemNetwork {
    SystemNetwork::new(Arc::new(SeededEntropy::new(1)))
}

/// What is found: `127.0.0.9:25`, or why nothing is.
async fn found(network: &SystemNetwork, upstream: &Upstream) -> Vec<String> {
    match network.lookup(upstream).await {
        Ok(addresses) => addresses.iter().map(ToString::to_string).collect(),
        Err(fault) => vec![fault.to_string()],
    }
}

#[tokio::test]
async fn names_are_asked_of_the_configured_servers() {
    let dns = Dns::start(60).await;
    dns.host("smtp.example.net", 9);
    let network = network();
    assert_eq!(found(&network, &dns.upstream("smtp.example.net", LookUp::Address)).await, ["127.0.0.9:25"]);
    assert_eq!(found(&network, &dns.upstream("192.0.2.7", LookUp::Address)).await, ["192.0.2.7:25"]);
    let missing = found(&network, &dns.upstream("nowhere.example.net", LookUp::Address)).await;
    assert_eq!(missing, ["DNS: there is no name nowhere.example.net"]);
    let system = Upstream::new("main", "localhost", 25, "relay.example.com");
    assert!(found(&network, &system).await.iter().any(|one| one.ends_with(":25")));
}

#[tokio::test]
async fn exchanges_are_asked_in_their_order_and_a_domain_without_them_is_its_own() {
    let dns = Dns::start(60).await;
    dns.exchange("example.net", 20, "second.example.net");
    dns.exchange("example.net", 10, "first.example.net");
    dns.exchange("example.net", 30, "nowhere.example.net");
    dns.host("first.example.net", 1);
    dns.host("second.example.net", 2);
    dns.host("plain.example.net", 3);
    dns.exchange("null.example.net", 0, "");
    dns.host("null.example.net", 4);
    dns.exchange("round.example.net", 5, "relay.example.com");
    dns.exchange("dead.example.net", 5, "nowhere.example.net");
    // RFC 5321 §5.1: it has MX records, so its own address is none of theirs.
    dns.host("dead.example.net", 5);
    let network = network();
    for (host, expected) in [
        ("example.net", &["127.0.0.1:25", "127.0.0.2:25"][..]),
        ("plain.example.net", &["127.0.0.3:25"]),
        ("null.example.net", &["its MX record says that it takes no mail (null MX)"]),
        ("round.example.net", &["its MX records lead back to this relay"]),
        ("dead.example.net", &["DNS: there is no name nowhere.example.net"]),
        ("missing.example.net", &["DNS: there is no name missing.example.net"]),
    ] {
        assert_eq!(found(&network, &dns.upstream(host, LookUp::Exchange)).await, expected, "{host}");
    }
}

#[tokio::test]
async fn services_bring_their_ports_and_a_domain_without_them_has_none() {
    let dns = Dns::start(60).await;
    dns.service("_submission._tcp.example.net", (2, 0, 587), "second.example.net");
    dns.service("_submission._tcp.example.net", (1, 0, 2587), "first.example.net");
    dns.host("first.example.net", 1);
    dns.host("second.example.net", 2);
    dns.service("_submissions._tcp.example.net", (1, 0, 465), "second.example.net");
    dns.service("_submission._tcp.none.example.net", (0, 0, 0), "");
    dns.host("plain.example.net", 3);
    let network = network();
    for (host, expected) in [
        ("example.net", &["127.0.0.1:2587", "127.0.0.2:587"][..]),
        ("none.example.net", &["its SRV record says that it offers no such service"]),
        ("plain.example.net", &["DNS: there is no name _submission._tcp.plain.example.net"]),
    ] {
        assert_eq!(found(&network, &dns.upstream(host, LookUp::Service)).await, expected, "{host}");
    }
    // RFC 8314 §5.1.
    let security = security(Mode::Implicit, &TestCa::new("ca"));
    let implicit = Upstream { security, ..dns.upstream("example.net", LookUp::Service) };
    assert_eq!(found(&network, &implicit).await, ["127.0.0.2:465"]);
}

/// RFC 6186 §6, RFC 7817 §3, RFC 8689 §2, RFC 9525 §6.1.1: nobody has signed these records.
#[tokio::test]
async fn wherever_the_records_lead_the_certificate_must_carry_the_configured_name() {
    let ca = TestCa::new("ca");
    for lookup in [LookUp::Exchange, LookUp::Service] {
        for (name, expected) in [("example.net", "in"), ("mx.example.net", "Tls(WrongName")] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let dns = Dns::start(60).await;
            dns.service("_submission._tcp.example.net", (1, 0, port), "mx.example.net");
            dns.exchange("example.net", 1, "mx.example.net");
            dns.host("mx.example.net", 1);
            let up = Scripted::new(Script { tls: Some(ca.server(name, Days(-1, 1))), ..Script::default() });
            tokio::spawn(async move { up.serve(listener.accept().await.unwrap().0).await });
            let clock = Arc::new(ManualClock::at(PRESENT));
            let courier = Courier::new(Arc::new(network()), clock, Arc::new(Zeros));
            let security = security(Mode::StartTls, &ca);
            let upstream = Arc::new(Upstream { port, security, ..dns.upstream("example.net", lookup) });
            let came = match courier.try_out(&upstream).await {
                Ok(()) => "in".to_owned(),
                Err(fault) => format!("{:?}", fault.cause),
            };
            assert!(came.starts_with(expected), "{name} by {lookup:?}: {came}");
        }
    }
}

#[tokio::test]
async fn what_a_hostile_answer_makes_us_do_is_bounded() {
    let dns = Dns::start(60).await;
    for number in 0..20 {
        dns.exchange("example.net", number, &format!("h{number}.example.net"));
        for last in 1..20 {
            dns.host(&format!("h{number}.example.net"), last);
        }
    }
    let addresses = found(&network(), &dns.upstream("example.net", LookUp::Exchange)).await;
    assert_eq!(addresses.len(), HOSTS_MAX * 19);
    // Each host is asked for its A and its AAAA records.
    let asked = dns.asked.load(Ordering::SeqCst);
    assert!(asked <= 1 + 2 * HOSTS_MAX, "{asked}");
}

#[tokio::test]
async fn an_answer_is_kept_for_its_time_and_asked_for_anew_afterwards() {
    for (life, expected) in [(3600, "127.0.0.1:25"), (0, "127.0.0.2:25")] {
        let dns = Dns::start(life).await;
        dns.host("smtp.example.net", 1);
        let (network, upstream) = (network(), dns.upstream("smtp.example.net", LookUp::Address));
        assert_eq!(found(&network, &upstream).await, ["127.0.0.1:25"]);
        dns.zone.lock().unwrap().clear();
        dns.host("smtp.example.net", 2);
        assert_eq!(found(&network, &upstream).await, [expected], "{life} s");
    }
}

#[tokio::test]
async fn a_message_goes_where_the_records_say_from_the_address_that_is_configured() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let dns = Dns::start(60).await;
    // The first is nobody: it is gone on to the next.
    dns.service("_submission._tcp.example.net", (1, 0, 1), "first.example.net");
    dns.service("_submission._tcp.example.net", (2, 0, port), "second.example.net");
    dns.host("first.example.net", 3);
    dns.host("second.example.net", 1);
    let up = Scripted::new(Script::default());
    let (serving, seen) = (Arc::clone(&up), Arc::new(Mutex::new(None)));
    let sees = Arc::clone(&seen);
    tokio::spawn(async move {
        let (stream, from) = listener.accept().await.unwrap();
        *sees.lock().unwrap() = Some(from.ip());
        serving.serve(stream).await;
    });
    let courier = Courier::new(Arc::new(network()), Arc::new(ManualClock::at(PRESENT)), Arc::new(Zeros));
    let source = SourceAddresses { v4: Some(Ipv4Addr::new(127, 0, 0, 5)), v6: None };
    let upstream = Arc::new(Upstream { source, ..dns.upstream("example.net", LookUp::Service) });
    let attempt = courier.deliver(&upstream, &envelope(1), &[0], &mut InMemory::new("Subject: x\r\n\r\n")).await;
    assert_eq!((attempt.fault, up.taken().len()), (None, 1));
    assert_eq!(*seen.lock().unwrap(), Some(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 5))));
}

#[tokio::test]
async fn a_source_address_that_is_not_ours_is_named_and_one_of_the_other_family_leaves_nothing_to_try() {
    let courier = Courier::new(Arc::new(network()), Arc::new(ManualClock::at(PRESENT)), Arc::new(Zeros));
    let plain = Upstream::new("main", "127.0.0.1", 1, "relay.example.com");
    let not_ours = SourceAddresses { v4: Some(Ipv4Addr::new(192, 0, 2, 77)), v6: None };
    let other_family = SourceAddresses { v4: None, v6: Some(std::net::Ipv6Addr::LOCALHOST) };
    for (source, expected) in [
        (not_ours, "source_address 192.0.2.77 can't be used"),
        (other_family, "no address of the family of source_address"),
    ] {
        let upstream = Arc::new(Upstream { source, ..plain.clone() });
        let fault = courier.try_out(&upstream).await.unwrap_err().to_string();
        assert!(fault.contains(expected), "{fault}");
    }
}
