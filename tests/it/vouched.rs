//! A daemon whose load balancer does the handshake with clients and vouches for their certificates: real mutual TLS, a balancer that a script plays.

use std::cell::Cell;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};

use super::harness::bench::Bench;
use super::harness::certificates::{Authority, Leaf};
use super::harness::client::{self, Client};
use super::harness::process::{Process, Start, sealpost, sealpost_says};
use super::harness::upstream::{Manner, Upstream};
use super::harness::{PATIENCE, eventually, free_addresses};

/// LOCAL of version 2.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";

pub(crate) fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind][..], &u16::try_from(value.len()).unwrap().to_be_bytes(), value].concat()
}

/// PP2_TYPE_SSL: what the client's TLS was, what became of its certificate, and the parts.
fn ssl(client: u8, verify: u32, parts: &[u8]) -> Vec<u8> {
    tlv(0x20, &[&[client][..], &verify.to_be_bytes(), parts].concat())
}

/// A header in version 2 about a client at an IPv4 address.
fn about(client: SocketAddr, tlvs: &[u8]) -> Vec<u8> {
    let IpAddr::V4(address) = client.ip() else { panic!("IPv4 only") };
    let length = u16::try_from(12 + tlvs.len()).unwrap().to_be_bytes();
    let ports = [client.port().to_be_bytes(), 465_u16.to_be_bytes()].concat();
    let addresses = [&address.octets()[..], &[192, 0, 2, 1], &ports].concat();
    [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11"[..], &length, &addresses, tlvs].concat()
}

/// The parts of a certificate that was shown over TLS 1.3.
fn parts(certificate: &[u8]) -> Vec<u8> {
    [tlv(0x21, b"TLSv1.3"), tlv(0x23, b"TLS_AES_128_GCM_SHA256"), tlv(0x28, certificate)].concat()
}

/// The header of a balancer whose client has shown this certificate, or none.
pub(crate) fn header(client: SocketAddr, certificate: Option<&CertificateDer<'_>>) -> Vec<u8> {
    match certificate {
        Some(certificate) => about(client, &ssl(0x07, 0, &parts(certificate))),
        None => about(client, &ssl(0x01, 0, &tlv(0x21, b"TLSv1.3"))),
    }
}

fn der(leaf: &Leaf) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(&leaf.certificate).unwrap()
}

fn seven() -> SocketAddr {
    "192.0.2.7:40007".parse().unwrap()
}

fn eight() -> SocketAddr {
    "192.0.2.8:40008".parse().unwrap()
}

/// A relay, its upstream, and the balancer in front of it.
struct Scene {
    upstream: Upstream,
    bench: Bench,
    balancer: Leaf,
    address: SocketAddr,
    tls: Arc<ClientConfig>,
}

impl Scene {
    fn new(more: &str) -> Self {
        let upstream = Upstream::start(Manner::Polite);
        let bench = Bench::new(&[upstream.address]);
        let balancer = Authority::new(&bench.directory.path().join("balancers"), "Balancers").client("balancer");
        let [address] = free_addresses();
        let tls = bench.tls(Some(&balancer));
        let scene = Self { upstream, bench, balancer, address, tls };
        scene.configure(&scene.pin(), more);
        scene
    }

    fn pin(&self) -> String {
        let digest: String = Sha256::digest(der(&self.balancer)).iter().map(|octet| format!("{octet:02x}")).collect();
        format!("sha256/{digest}")
    }

    fn configure(&self, pin: &str, more: &str) {
        self.bench.configure(&[self.upstream.address], more);
        let text = fs::read_to_string(&self.bench.configuration).unwrap();
        let listener = format!(
            "[[listener]]\naddress = \"{}\"\nmode = \"proxied-tls\"\nproxy = \"127.0.0.1\"\nbalancer_pin = \"{pin}\"\n\n[tls]",
            self.address
        );
        let text = text
            .replacen("[tls]", &listener, 1)
            .replacen("send_as_email = true", "send_as_email = true\naccept_vouched = true", 1)
            .replacen("mode = \"implicit\"", "mode = \"implicit\"\nproxy = \"127.0.0.1\"", 1);
        fs::write(&self.bench.configuration, text).unwrap();
    }

    /// What a client hears first behind this header.
    fn greeted(&self, header: &[u8]) -> Result<(Client, client::Said), std::io::Error> {
        Client::vouched(header, self.address, &self.tls)
    }

    /// What is said to a client that is gone at once; until the relay has noticed that those before it have gone, too, their addresses have no room.
    fn greeted_in_time(&self, header: &[u8]) -> Option<String> {
        let said = Cell::new(None);
        assert!(eventually(|| {
            let now = self.greeted(header).ok().map(|(_, said)| format!("{} {}", said.code, said.text));
            let is_told = now.as_ref().is_none_or(|now| !now.contains("Too many connections"));
            said.set(now);
            is_told
        }));
        said.into_inner()
    }

    fn reload(&self, process: &mut Process) {
        process.signal("HUP");
        assert_eq!(process.wait_ready(PATIENCE), Start::Ready, "{}", process.log());
    }
}

fn message(id: &str) -> Vec<u8> {
    format!("From: alice@example.com\r\nTo: reader@example.net\r\nMessage-ID: {id}\r\nSubject: x\r\n\r\ntext\r\n")
        .into_bytes()
}

#[test]
fn a_certificate_that_a_pinned_balancer_tells_of_sends_mail_until_it_is_revoked_or_the_balancer_is_another() {
    let more = "[received]\nclient_address = true\n";
    let scene = Scene::new(more);
    let bench = &scene.bench;
    let mut process = Process::start(&bench.configuration);
    let (alice, bob) = (header(seven(), Some(&der(&bench.alice))), header(eight(), Some(&der(&bench.bob))));
    let fingerprint = scene.pin().replace("sha256/", "");

    let (mut alice, said) = scene.greeted(&alice).unwrap();
    assert_eq!(said.code, 220, "{said:?}");
    let offered = alice.command("EHLO client.example.com").unwrap();
    assert!(offered.text.contains("AUTH EXTERNAL") && !offered.text.contains("STARTTLS"), "{offered:?}");
    let said = alice.submit("alice@example.com", &["reader@example.net"], &message("<vouched@example.com>")).unwrap();
    assert_eq!(said.code, 250, "{said:?}");
    let octets = String::from_utf8(scene.upstream.wait_for("<vouched@example.com>").octets).unwrap();
    let received = octets.replace("\r\n\t", " ");
    for words in ["([192.0.2.7])", ", with a load balancer where the client's TLS ended);"] {
        assert!(received.contains(words), "{words}: {octets}");
    }
    let by = format!("\"vouched_by\":\"{fingerprint}\"");
    let told = "\"client_tls\":\"TLSv1.3 TLS_AES_128_GCM_SHA256\"";
    process.wait_for_log(0, &["\"event\":\"identified\"", &by, told, "192.0.2.7:40007", "staff:alice@example.com"]);
    process.wait_for_log(0, &["\"event\":\"accepted\"", &by, "192.0.2.7:40007", "staff:alice@example.com"]);
    // In her own name alone.
    let said = alice.command("MAIL FROM:<bob@example.com>").unwrap();
    assert_eq!(said.code, 550, "{said:?}");

    let listed =
        sealpost_says(&["identities", "--json", "--config", bench.config_argument(), "staff:alice@example.com"]);
    assert!(listed.contains("\"accept_vouched\":true"), "{listed}");
    let listener = scene.address.to_string();
    let explain = |leaf: &Leaf, listener: &str| {
        let certificate = leaf.certificate.to_str().unwrap();
        let words = ["explain", "--config", bench.config_argument(), "--cert", certificate, "--listener", listener];
        let output = sealpost(&words);
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, text) = explain(&bench.bob, &listener);
    assert!(code == Some(0) && text.contains("is a load balancer's word at this listener"), "{text}");
    assert!(!explain(&bench.bob, &bench.implicit.to_string()).1.contains("load balancer's word"));

    // Revoked meanwhile, and she is nobody at her next MAIL; another balancer from now on, and its word counts no more.
    let (mut bob, said) = scene.greeted(&bob).unwrap();
    assert_eq!((said.code, bob.command("EHLO client.example.com").unwrap().code), (220, 250));
    bench.staff.write_crl(2, &[&bench.alice]);
    scene.reload(&mut process);
    let said = alice.command("MAIL FROM:<alice@example.com>").unwrap();
    assert_eq!((said.code, said.text.as_str()), (554, "5.7.0 Client certificate revoked"));
    assert_eq!(bob.command("MAIL FROM:<bob@example.com>").unwrap().code, 250);
    assert_eq!(bob.command("RSET").unwrap().code, 250);
    scene.configure(&format!("sha256/{}", "0".repeat(64)), more);
    scene.reload(&mut process);
    let said = bob.command("MAIL FROM:<bob@example.com>").unwrap();
    assert_eq!(said.code, 554, "{said:?}");
    assert!(said.text.contains("the load balancer in between does not count here any more"), "{said:?}");
    assert!(scene.greeted(LOCAL).is_err(), "nor is it let in again");
    // Where the CA takes no balancer's word, a reload says so as well.
    scene.configure(&scene.pin(), more);
    let text = fs::read_to_string(&bench.configuration).unwrap();
    fs::write(&bench.configuration, text.replacen("accept_vouched = true\n", "", 1)).unwrap();
    scene.reload(&mut process);
    let (_, said) = scene.greeted(&header(eight(), Some(&der(&bench.bob)))).unwrap();
    assert_eq!(said.code, 554, "{said:?}");
    assert!(said.text.contains("may not come by way of this load balancer"), "{said:?}");
    let (code, text) = explain(&bench.bob, &listener);
    assert!(code == Some(1) && text.contains("accept_vouched is not true"), "{text}");
    // A listener that is taken out, or is of another kind now, is bound until the next start: a balancer's word counts there no longer.
    for another in [None, Some("implicit")] {
        scene.configure(&scene.pin(), more);
        let configured = fs::read_to_string(&bench.configuration).unwrap();
        scene.reload(&mut process);
        let (mut bob, said) = scene.greeted(&header(eight(), Some(&der(&bench.bob)))).unwrap();
        assert_eq!((said.code, bob.command("EHLO client.example.com").unwrap().code), (220, 250), "{another:?}");
        assert_eq!(bob.command("MAIL FROM:<bob@example.com>").unwrap().code, 250);
        assert_eq!(bob.command("RSET").unwrap().code, 250);
        let from = configured.find(&format!("[[listener]]\naddress = \"{}\"", scene.address)).unwrap();
        let to = from + configured[from..].find("[tls]").unwrap();
        let listener = another.map_or_else(String::new, |mode| {
            format!("[[listener]]\naddress = \"{}\"\nmode = \"{mode}\"\n\n", scene.address)
        });
        fs::write(&bench.configuration, [&configured[..from], &listener, &configured[to..]].concat()).unwrap();
        scene.reload(&mut process);
        let said = bob.command("MAIL FROM:<bob@example.com>").unwrap();
        assert_eq!(said.code, 554, "{another:?}: {said:?}");
        assert!(scene.greeted(LOCAL).is_err(), "{another:?}: nor is it let in again");
    }
    assert!(process.stop().success());
}

/// Behind a balancer there are two TLS connections, and what is bound to ours is not bound to the client's (RFC 9266, docs/decisions/0012).
#[test]
fn scram_is_bound_to_no_connection_behind_a_balancer_and_to_a_clients_own_it_is() {
    let scene = Scene::new("[credentials]\nfile = \"credentials\"\n");
    let bench = &scene.bench;
    let (whose, password) = ("staff:alice@example.com", "correct horse");
    bench.write_scram_credential(&bench.directory.path().join("credentials"), whose, password);
    let text = fs::read_to_string(&bench.configuration).unwrap();
    let demanded = text.replacen("send_as_email = true\n", "send_as_email = true\nsecond_factor = \"password\"\n", 1);
    fs::write(&bench.configuration, demanded).unwrap();
    let process = Process::start(&bench.configuration);
    let plus = |offered: &client::Said| offered.text.contains("SCRAM-SHA-256-PLUS");
    // p=tls-exporter,,n=alice@example.com,r=x and the same with n, in its place.
    let bound = "cD10bHMtZXhwb3J0ZXIsLG49YWxpY2VAZXhhbXBsZS5jb20scj14";
    let free = "biwsbj1hbGljZUBleGFtcGxlLmNvbSxyPXg=";

    let (mut told, said) = scene.greeted(&header(seven(), Some(&der(&bench.alice)))).unwrap();
    assert_eq!(said.code, 220, "{said:?}");
    let offered = told.command("EHLO client.example.com").unwrap();
    assert!(offered.text.contains("AUTH SCRAM-SHA-256") && !plus(&offered), "{offered:?}");
    assert_eq!(told.command(&format!("AUTH SCRAM-SHA-256-PLUS {bound}")).unwrap().code, 504);
    // Who says that he would bind it, and asks for the other: refused, as by RFC 5802 §6.
    assert_eq!(told.command(&format!("AUTH SCRAM-SHA-256 {bound}")).unwrap().code, 535);
    assert_eq!(told.command(&format!("AUTH SCRAM-SHA-256 {free}")).unwrap().code, 334);

    let (header, tls) = (header(eight(), None), bench.tls(Some(&bench.alice)));
    let (mut own, _) = Client::implicit_behind(&header, bench.implicit, &tls).unwrap();
    let offered = own.command("EHLO client.example.com").unwrap();
    assert!(plus(&offered), "{offered:?}");
    assert_eq!(own.command(&format!("AUTH SCRAM-SHA-256-PLUS {bound}")).unwrap().code, 334);
    assert!(process.stop().success());
}

#[test]
fn nobody_but_a_pinned_balancer_gets_to_smtp_and_its_word_is_whole_or_none() {
    let scene = Scene::new("[limits]\nconnections_per_address = 2\n");
    let bench = &scene.bench;
    let process = Process::start(&bench.configuration);
    let alice = der(&bench.alice);
    let honest = header(seven(), Some(&alice));

    // A header in front of TLS, as HAProxy sends it, is told of as what it is.
    let mut early = TcpStream::connect(scene.address).unwrap();
    early.set_read_timeout(Some(PATIENCE)).unwrap();
    early.write_all(&honest).unwrap();
    let mut said = Vec::new();
    let _ = early.read_to_end(&mut said);
    assert!(!said.windows(3).any(|three| three == b"220"), "{}", said.escape_ascii());
    process.wait_for_log(0, &["no load balancer that vouches", "a PROXY header belongs inside TLS here"]);
    // Nor do the certificate that is told of, another of the CA that is trusted, or none let anybody in.
    for tls in
        [bench.tls(Some(&bench.alice)), bench.tls(Some(&bench.bob)), bench.tls(Some(&bench.stranger)), bench.tls(None)]
    {
        assert!(Client::vouched(&honest, scene.address, &tls).is_err());
    }
    drop(TcpStream::connect(scene.address).unwrap());

    let told = |client: u8, verify: u32, parts: &[u8]| about(seven(), &ssl(client, verify, parts));
    let whole = parts(&alice);
    let long = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x7f\xff"[..], &[0; 0x7fff]].concat();
    for (claim, header, expected) in [
        ("honest", honest.clone(), Some("220 localhost ESMTP sealpost")),
        ("of this connection alone", told(0x03, 0, &whole), Some("220 localhost ESMTP sealpost")),
        ("no certificate", header(seven(), None), Some("554 5.7.0 Client certificate required")),
        ("one of an earlier connection", told(0x05, 0, &whole), Some("554 5.7.0 Client certificate required")),
        ("no TLS with the client", told(0x02, 0, &whole), Some("554 5.7.0 Client certificate required")),
        ("nothing of TLS", about(seven(), b""), Some("554 5.7.0 Client certificate required")),
        (
            "version 1",
            b"PROXY TCP4 192.0.2.7 192.0.2.1 40007 465\r\n".to_vec(),
            Some("554 5.7.0 Client certificate required"),
        ),
        (
            "a name alone",
            told(0x07, 0, &tlv(0x22, b"alice@example.com")),
            Some("554 5.7.0 Client certificate required"),
        ),
        (
            "not verified",
            told(0x07, 18, &whole),
            Some("554 5.7.0 Client certificate not trusted: the load balancer in between has not found it good"),
        ),
        (
            "junk",
            told(0x07, 0, &parts(b"junk")),
            Some("554 5.7.0 Client certificate not trusted: malformed certificate"),
        ),
        (
            "a stranger",
            self::header(seven(), Some(&der(&bench.stranger))),
            Some("554 5.7.0 Client certificate not trusted: "),
        ),
        (
            "the balancer itself",
            self::header(seven(), Some(&der(&scene.balancer))),
            Some("554 5.7.0 Client certificate not trusted: "),
        ),
        ("two certificates", told(0x07, 0, &[whole.clone(), tlv(0x28, &der(&bench.bob))].concat()), None),
        ("two of TLS", about(seven(), &[ssl(0x07, 0, &whole), ssl(0x07, 0, &whole)].concat()), None),
        ("parts that are cut short", told(0x07, 0, &whole[..whole.len() - 1]), None),
        ("a wrong checksum", about(seven(), &[ssl(0x07, 0, &whole), tlv(0x03, &[1, 2, 3, 4])].concat()), None),
        ("too long", long, None),
        ("SMTP", b"EHLO client.example.com\r\n".to_vec(), None),
    ] {
        let said = scene.greeted_in_time(&header);
        match expected {
            Some(words) => assert!(said.as_ref().is_some_and(|said| said.starts_with(words)), "{claim}: {said:?}"),
            None => assert_eq!(said, None, "{claim}"),
        }
    }
    for why in ["PP2_CLIENT_CERT_CONN is not set", "of version 1, which tells of no certificate", "it says 18"] {
        process.wait_for_log(0, &["\"event\":\"unidentified\"", why, "192.0.2.7:40007"]);
    }
    process.wait_for_log(0, &["a PROXY header that can't be read", "it tells of the same thing twice (TLV 0x28)"]);

    // A balancer that looks whether we are well hears a greeting, and gets no further.
    let (mut probe, said) = scene.greeted(LOCAL).unwrap();
    assert_eq!((said.code, probe.command("EHLO balancer").unwrap().code), (220, 250));
    assert_eq!(probe.command("MAIL FROM:<alice@example.com>").unwrap().code, 530);
    assert_eq!(probe.command("STARTTLS").unwrap().code, 454);
    assert_eq!(probe.command("QUIT").unwrap().code, 221);

    // What counts is the client, and it hears that it is too many.
    let first = scene.greeted(&honest).unwrap();
    let second = scene.greeted(&honest).unwrap();
    let (_, said) = scene.greeted(&honest).unwrap();
    assert_eq!(said.code, 421, "{said:?}");
    assert!(said.text.contains("Too many connections"), "{said:?}");
    let (_, said) = scene.greeted(&header(eight(), Some(&alice))).unwrap();
    assert_eq!(said.code, 220, "{said:?}");
    drop((first, second));

    // On any other listener a header may tell of whom it likes: it is not read, and who comes is who shows his own certificate there.
    let (mut bob, said) =
        Client::implicit_behind(&header(eight(), Some(&alice)), bench.implicit, &bench.tls(Some(&bench.bob))).unwrap();
    assert_eq!((said.code, bob.command("EHLO client.example.com").unwrap().code), (220, 250));
    assert_eq!(bob.command("MAIL FROM:<alice@example.com>").unwrap().code, 550);
    let (_, said) = Client::implicit_behind(&header(eight(), Some(&alice)), bench.implicit, &bench.tls(None)).unwrap();
    assert_eq!((said.code, said.text.as_str()), (554, "5.7.0 Client certificate required"));
    let (_, said) = Client::implicit_behind(&honest, bench.implicit, &scene.tls).unwrap();
    assert_eq!(said.code, 554, "the balancer's own certificate is nobody's there: {said:?}");
    assert!(process.stop().success());
}
