//! What goes over the wire, against a server that plays a script.

#![expect(clippy::disallowed_methods, reason = "tests write the files that the command reads")]

use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

use super::*;
use crate::pki::{Authority, Bearer, Validity};
use crate::sys::{Clock as _, SeededEntropy, SystemClock};

#[test]
fn every_line_goes_out_with_crlf_and_lettre_adds_the_last() {
    for (read, wire) in [
        (&b"a\nb\n"[..], &b"a\r\nb"[..]),
        (b"a\r\nb\r\n", b"a\r\nb"),
        (b"a", b"a"),
        (b"a\n\n", b"a\r\n"),
        (b"a\rb\n", b"a\rb"),
        (b"", b""),
    ] {
        assert_eq!(wire_form(read), wire, "{read:?}");
    }
}

#[test]
fn only_the_header_decides_about_smtputf8() {
    assert_eq!(header_of(b"A: b\n\n\xc3\xa4\n"), b"A: b\n");
    assert_eq!(header_of(b"A: b\r\n\r\n\xc3\xa4\r\n"), b"A: b\r\n");
    assert_eq!(header_of(b"A: b\n"), b"A: b\n");
}

#[test]
fn servers_are_written_host_and_port() {
    let server = |host: &str, port| Ok(Server { host: host.to_owned(), port });
    assert_eq!("mail.example.com:587".parse(), server("mail.example.com", 587));
    assert_eq!("[2001:db8::1]:465".parse(), server("2001:db8::1", 465));
    for wrong in ["mail.example.com", "2001:db8::1:465", ":25", "a:b", "a:70000"] {
        assert!(wrong.parse::<Server>().is_err(), "{wrong}");
    }
}

#[test]
fn exit_codes_tell_whether_to_try_again_and_whose_fault_it_is() {
    let refused =
        |code, text: &str| Failure::Refused { step: "MAIL".to_owned(), code, text: text.to_owned() }.exit().number();
    assert_eq!(refused(452, "4.3.1 full"), 75);
    assert_eq!(refused(550, "5.7.1 Sender not allowed"), 77);
    assert_eq!(refused(530, "Authentication required: a password besides the certificate"), 77);
    assert_eq!(refused(550, "5.1.1 no such user"), 69);
    assert_eq!(Failure::Unreachable(String::new()).exit().number(), 75);
}

/// A server's and a client's files; the client's certificate comes from an intermediate.
struct House {
    dir: tempfile::TempDir,
    server: Arc<rustls::ServerConfig>,
}

impl House {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let random = SeededEntropy::new(9);
        let validity = Validity::days(SystemClock::start().now().wall, 10);
        let root = Authority::create("root", validity, &random).unwrap();
        let localhost = Bearer::Server { names: vec!["localhost".to_owned()] };
        let server = root.issue("server", &localhost, validity, &random).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut issuing = CertificateParams::default();
        issuing.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        issuing.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        issuing.distinguished_name.push(rcgen::DnType::CommonName, "issuing");
        let root_issuer =
            Issuer::from_ca_cert_pem(root.certificate_pem(), KeyPair::from_pem(&root.key_pem()).unwrap()).unwrap();
        let issuing_certificate = issuing.signed_by(&key, &root_issuer).unwrap();
        let issuer = Issuer::from_params(&issuing, &key);
        let mut alice = CertificateParams::default();
        alice.subject_alt_names = vec![SanType::Rfc822Name("alice@example.com".try_into().unwrap())];
        alice.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let alice_key = KeyPair::generate().unwrap();
        let alice_certificate = alice.signed_by(&alice_key, &issuer).unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("ca.pem", root.certificate_pem());
        write("alice.pem", &format!("{}{}", alice_certificate.pem(), issuing_certificate.pem()));
        write("leaf.pem", &alice_certificate.pem());
        write("alice.key", &alice_key.serialize_pem());
        Self { server: server_config(&root, &server), dir }
    }

    fn arguments(&self, port: u16) -> SubmitArguments {
        let file = |name: &str| self.dir.path().join(name);
        SubmitArguments {
            server: Server { host: "127.0.0.1".to_owned(), port },
            server_name: Some("localhost".to_owned()),
            implicit: false,
            cert: file("alice.pem"),
            key: file("alice.key"),
            ca: file("ca.pem"),
            from: None,
            recipients: vec!["bob@example.net".to_owned(), "eve@example.net".to_owned()],
        }
    }
}

/// A server that trusts the root alone: a client must show its intermediate to be let in.
fn server_config(root: &Authority, server: &crate::pki::Issued) -> Arc<rustls::ServerConfig> {
    use rustls::pki_types::pem::PemObject as _;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(root.certificate().clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(server.key_pem.as_bytes()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![server.certificate.clone()], key)
        .unwrap();
    Arc::new(config)
}

/// What the server answers inside TLS to the beginning of a line; everything else is answered `250 2.0.0 ok`.
type Script = &'static [(&'static str, &'static str)];

const EHLO: &str = "250-localhost\r\n250-8BITMIME\r\n250 SMTPUTF8";

/// Plays one connection; gives back every line that came inside TLS, the message's included.
async fn serve(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    mode: Mode,
    script: Script,
) -> io::Result<Vec<String>> {
    use tokio::io::AsyncBufReadExt as _;
    let (mut stream, _) = listener.accept().await?;
    if let Mode::StartTls(behind) = mode {
        stream.write_all(b"220 localhost ESMTP\r\n").await?;
        for reply in ["250-localhost\r\n250 STARTTLS\r\n".to_owned(), format!("220 go\r\n{behind}")] {
            let mut piece = [0; 512];
            let _ = stream.read(&mut piece).await?;
            stream.write_all(reply.as_bytes()).await?;
        }
    }
    let mut stream = BufReader::new(tokio_rustls::TlsAcceptor::from(tls).accept(stream).await?);
    if mode == Mode::Implicit {
        stream.write_all(b"220 localhost ESMTP\r\n").await?;
    }
    let mut lines = Vec::new();
    let mut inside = false;
    loop {
        let mut line = String::new();
        if !matches!(stream.read_line(&mut line).await, Ok(1..)) {
            return Ok(lines);
        }
        lines.push(line.clone());
        if inside && line != ".\r\n" {
            continue;
        }
        let scripted = script.iter().find(|(begins, _)| line.starts_with(begins)).map(|(_, reply)| *reply);
        let reply = match (inside, line.as_str()) {
            (true, _) => scripted.unwrap_or("250 2.0.0 ok id=1"),
            (false, "DATA\r\n") => scripted.unwrap_or("354 go on"),
            (false, line) if line.starts_with("EHLO") => scripted.unwrap_or(EHLO),
            (false, _) => scripted.unwrap_or("250 2.0.0 ok"),
        };
        inside = reply.starts_with("354");
        stream.write_all(format!("{reply}\r\n").as_bytes()).await?;
        stream.flush().await?;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Implicit,
    /// What is said in plaintext behind the reply to STARTTLS.
    StartTls(&'static str),
}

async fn submit_to(
    script: Script,
    mode: Mode,
    octets: &[u8],
    change: impl FnOnce(&mut SubmitArguments, &Path),
) -> (Result<String, Failure>, Vec<String>) {
    let house = House::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut arguments = house.arguments(listener.local_addr().unwrap().port());
    arguments.implicit = mode == Mode::Implicit;
    change(&mut arguments, house.dir.path());
    let (sent, lines) =
        tokio::join!(submit(&arguments, octets), serve(listener, Arc::clone(&house.server), mode, script));
    (sent, lines.unwrap_or_default())
}

fn nothing(_: &mut SubmitArguments, _: &Path) {}

/// A server of the other kind: the words of who asks it in the wrong way name the right one.
#[tokio::test]
async fn who_knocks_at_the_other_kind_of_port_is_told_of_the_option() {
    for (implicit, first, exit, words) in [
        (true, &b"220 mail.example.com ESMTP\r\n"[..], Exit::Nonsense, "leave out --implicit"),
        // It closes when no TLS came in time; or says so in TLS.
        (false, b"", Exit::NotNow, "closed the connection; if it takes TLS from the first octet"),
        (false, b"\x15\x03\x03\x00\x02\x02\x0a\r\n", Exit::Nonsense, "use --implicit"),
    ] {
        let house = House::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let arguments = SubmitArguments { implicit, ..house.arguments(listener.local_addr().unwrap().port()) };
        let answering = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(first).await.unwrap();
            stream.shutdown().await.unwrap();
            // What came and was not read would make a reset of the end.
            let _ = stream.read_to_end(&mut Vec::new()).await;
        };
        let (sent, ()) = tokio::join!(submit(&arguments, b"From: alice@example.com\n\nhi\n"), answering);
        let failure = sent.unwrap_err();
        assert_eq!(failure.exit(), exit, "{failure}");
        assert!(failure.to_string().contains(words), "{failure}");
    }
}

/// A server with TLS from the first octet waits for its client, whatever its port is.
#[tokio::test]
async fn who_waits_for_a_greeting_waits_ten_seconds() {
    let house = House::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let arguments = house.arguments(listener.local_addr().unwrap().port());
    let silent = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::time::pause();
        let began = tokio::time::Instant::now();
        let _ = stream.read_to_end(&mut Vec::new()).await;
        began.elapsed()
    };
    let (sent, waited) = tokio::join!(submit(&arguments, b"From: alice@example.com\n\nhi\n"), silent);
    let failure = sent.unwrap_err();
    assert_eq!(failure.exit(), Exit::NotNow, "{failure}");
    assert!(failure.to_string().contains("no greeting came; if it takes TLS from the first octet"), "{failure}");
    assert!(waited <= Duration::from_secs(11), "{waited:?}");
}

#[tokio::test]
async fn a_message_arrives_octet_for_octet_with_the_whole_chain_shown() {
    for mode in [Mode::StartTls(""), Mode::Implicit] {
        let (sent, lines) = submit_to(&[], mode, b".first\nSubject: x\r\n\n.\n..\nlast", nothing).await;
        assert_eq!(sent.unwrap(), "250 2.0.0 ok id=1", "{mode:?}");
        let wire = lines.concat();
        let (envelope, message) = wire.split_once("DATA\r\n").unwrap();
        assert!(envelope.starts_with("EHLO [127.0.0.1]\r\n"), "{envelope}");
        assert!(
            envelope.contains(
                "MAIL FROM:<alice@example.com>\r\nRCPT TO:<bob@example.net>\r\nRCPT TO:<eve@example.net>\r\n"
            )
        );
        assert_eq!(message, "..first\r\nSubject: x\r\n\r\n..\r\n...\r\nlast\r\n.\r\nQUIT\r\n");
    }
}

#[tokio::test]
async fn eight_bit_and_utf8_are_declared() {
    let (sent, lines) = submit_to(&[], Mode::Implicit, "Subject: x\n\nä\n".as_bytes(), nothing).await;
    assert!(sent.is_ok());
    assert!(lines.concat().contains("MAIL FROM:<alice@example.com> BODY=8BITMIME\r\n"));
    let (sent, lines) = submit_to(&[], Mode::Implicit, "Subject: ä\n\nx\n".as_bytes(), nothing).await;
    assert!(sent.is_ok());
    assert!(lines.concat().contains("MAIL FROM:<alice@example.com> BODY=8BITMIME SMTPUTF8\r\n"));
    let (sent, _) =
        submit_to(&[("EHLO", "250 localhost")], Mode::Implicit, "Subject: ä\n\nx\n".as_bytes(), nothing).await;
    assert_eq!(sent.unwrap_err().exit().number(), 65);
}

#[tokio::test]
async fn what_is_said_in_plaintext_behind_starttls_ends_it() {
    let (sent, _) = submit_to(&[], Mode::StartTls("250 injected\r\n"), b"x\n", nothing).await;
    assert!(matches!(sent, Err(Failure::Untrusted(ref text)) if text.contains("plaintext")), "{sent:?}");
}

#[tokio::test]
async fn refusals_are_told_whole_with_their_step() {
    let cases: [(Script, &str, u8); 5] = [
        (
            &[("EHLO", "554 5.7.0 Client certificate revoked")],
            "refused at EHLO: 554 5.7.0 Client certificate revoked",
            77,
        ),
        (&[("MAIL", "550 5.7.1 Sender not allowed")], "refused at MAIL: 550 5.7.1 Sender not allowed", 77),
        (&[("RCPT TO:<eve", "550 5.1.1 Nobody")], "refused at RCPT TO:<eve@example.net>: 550 5.1.1 Nobody", 69),
        (&[("DATA", "452 4.3.1 Full")], "refused at DATA: 452 4.3.1 Full", 75),
        (&[(".", "550-5.6.0 No\r\n550 5.6.0 From")], "refused at the end of the message: 550 5.6.0 No From", 69),
    ];
    for (script, told, code) in cases {
        let (sent, lines) = submit_to(script, Mode::StartTls(""), b"x\n", nothing).await;
        let failure = sent.unwrap_err();
        assert_eq!((failure.to_string().as_str(), failure.exit().number()), (told, code));
        assert!(told.contains("the end") || !lines.concat().contains("\r\n.\r\n"), "{lines:?}");
    }
}

#[tokio::test]
async fn a_certificate_that_the_server_does_not_take_is_told_so() {
    let leaf_alone = |arguments: &mut SubmitArguments, dir: &Path| arguments.cert = dir.join("leaf.pem");
    let (sent, _) = submit_to(&[], Mode::Implicit, b"x\n", leaf_alone).await;
    let failure = sent.unwrap_err();
    assert!(matches!(failure, Failure::CertificateRefused(_)), "{failure:?}");
    assert_eq!(failure.exit().number(), 77);
}

#[tokio::test]
async fn a_server_with_another_name_is_not_trusted() {
    let other_name =
        |arguments: &mut SubmitArguments, _: &Path| arguments.server_name = Some("mail.example.com".to_owned());
    let (sent, _) = submit_to(&[], Mode::Implicit, b"x\n", other_name).await;
    assert!(matches!(sent, Err(Failure::Untrusted(_))), "{sent:?}");
}
