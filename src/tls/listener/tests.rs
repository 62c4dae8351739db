//! Real handshakes in memory: a rustls client and a rustls server wired to each other.

use std::io::{Read, Write};
use std::sync::Mutex;
use std::time::Duration;

use rustls::client::{ClientSessionMemoryCache, ResolvesClientCert, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::sign::SigningKey;
use rustls::{AlertDescription, ClientConfig, ClientConnection, HandshakeKind, RootCertStore};

use super::super::recipe::{CrlRecipe, DAY, Made, NOW, Recipe};
use super::super::trust::{ClientCa, ClientCaSettings, CrlFile, Pins};
use super::super::{CaRules, RevocationMode, verify};
use super::*;
use crate::identity::facts::Digest256;
use crate::sys::ManualClock;

type Version = &'static SupportedProtocolVersion;

const VERSIONS: [Version; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

struct World {
    server_root: Made,
    root: Made,
    clock: Arc<dyn Clock>,
}

impl World {
    fn new() -> Self {
        Self {
            server_root: Recipe::ca("Server Root").self_signed(),
            root: Recipe::ca("Client Root").self_signed(),
            clock: Arc::new(ManualClock::at(WallTime::from_seconds(NOW))),
        }
    }

    fn trust(&self, revoked: &[&Made]) -> Arc<Trust> {
        let serials: Vec<Vec<u8>> = revoked.iter().map(|made| made.serial()).collect();
        let settings = ClientCaSettings {
            name: "staff".into(),
            certificates: vec![self.root.der.clone()],
            intermediates: Vec::new(),
            crls: vec![CrlFile { place: "staff.crl".into(), octets: self.root.crl(&CrlRecipe::listing(&serials)) }],
            revocation: RevocationMode::Require,
            crl_grace: Duration::ZERO,
            rules: CaRules::default(),
        };
        Arc::new(Trust::new(vec![Arc::new(ClientCa::new(settings).unwrap().0)], Pins::default()))
    }

    fn certificate(&self, name: &str) -> ServerCertificate {
        let made = Recipe::server(name).signed_by(&self.server_root);
        ServerCertificate { place: format!("{name}.pem"), chain: vec![made.der.clone()], key: made.key_der() }
    }

    fn listener(&self, refusal: RefusalMode) -> ListenerTls {
        ListenerTls {
            certificates: vec![self.certificate("mail.example.com")],
            min_version: MinVersion::Tls12,
            refusal,
        }
    }

    fn server(&self, refusal: RefusalMode, trust: &Arc<Trust>) -> Arc<ServerConfig> {
        self.listener(refusal).server_config(trust, &self.clock).unwrap()
    }

    fn client(&self, version: Version, shown: Option<&Made>) -> ClientConfig {
        let builder = self.client_builder(version);
        match shown {
            Some(made) => builder.with_client_auth_cert(vec![made.der.clone()], made.key_der()).unwrap(),
            None => builder.with_no_client_auth(),
        }
    }

    fn client_builder(&self, version: Version) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
        let mut roots = RootCertStore::empty();
        roots.add(self.server_root.der.clone()).unwrap();
        ClientConfig::builder_with_details(Arc::new(provider()), Arc::new(FixedTime))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
    }
}

#[derive(Debug)]
struct FixedTime;

impl rustls::time_provider::TimeProvider for FixedTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(NOW.try_into().unwrap())))
    }
}

/// Both ends after a handshake.
struct Wired {
    client: ClientConnection,
    server: ServerConnection,
}

/// Whose error ended it.
#[derive(Debug)]
struct Failed {
    client: Option<rustls::Error>,
    server: Option<rustls::Error>,
}

fn connect(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>, name: &'static str) -> Result<Wired, Box<Failed>> {
    let client = ClientConnection::new(client.clone(), ServerName::try_from(name).unwrap()).unwrap();
    let mut wired = Wired { client, server: ServerConnection::new(server.clone()).unwrap() };
    let mut failed = Failed { client: None, server: None };
    // Twenty flights are ten times what any handshake takes.
    for _ in 0..20 {
        failed.server = failed.server.or(pass(&mut wired.client, &mut wired.server));
        failed.client = failed.client.or(pass(&mut wired.server, &mut wired.client));
    }
    match failed {
        Failed { client: None, server: None } if !wired.server.is_handshaking() => Ok(wired),
        failed => Err(Box::new(failed)),
    }
}

fn pass<A, B>(from: &mut rustls::ConnectionCommon<A>, to: &mut rustls::ConnectionCommon<B>) -> Option<rustls::Error>
where
    A: rustls::SideData,
    B: rustls::SideData,
{
    let mut octets = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut octets).unwrap();
    }
    let mut octets = octets.as_slice();
    while !octets.is_empty() {
        to.read_tls(&mut octets).unwrap();
        if let Err(error) = to.process_new_packets() {
            return Some(error);
        }
    }
    None
}

#[test]
fn a_good_certificate_is_seen_and_judged_good_in_every_mode() {
    let world = World::new();
    let alice = Recipe::client("Alice").signed_by(&world.root);
    let trust = world.trust(&[]);
    for refusal in [RefusalMode::Reply, RefusalMode::Defer, RefusalMode::Alert] {
        for version in VERSIONS {
            let client = Arc::new(world.client(version, Some(&alice)));
            let wired = connect(&client, &world.server(refusal, &trust), "mail.example.com").unwrap();
            let shown = peer_chain(&wired.server).unwrap();
            assert_eq!(shown.0, std::slice::from_ref(&alice.der));
            assert!(verify(&shown, &trust, world.clock.now().wall).is_ok());
        }
    }
}

#[test]
fn what_was_negotiated_has_the_registries_names_and_is_post_quantum_first() {
    let world = World::new();
    let alice = Recipe::client("Alice").signed_by(&world.root);
    let server = world.server(RefusalMode::Reply, &world.trust(&[]));
    for (version, name, key_exchange) in
        [(VERSIONS[0], "TLSv1.2", "X25519"), (VERSIONS[1], "TLSv1.3", "X25519MLKEM768")]
    {
        let wired = connect(&Arc::new(world.client(version, Some(&alice))), &server, "mail.example.com").unwrap();
        let negotiated = negotiated(&wired.server).unwrap();
        assert_eq!((negotiated.version, negotiated.key_exchange), (name, Some(key_exchange)));
        assert!(negotiated.cipher.starts_with("TLS_") && !negotiated.cipher.contains("TLS13"), "{negotiated:?}");
    }
    assert_eq!(super::negotiated(&ServerConnection::new(server).unwrap()), None);
}

#[test]
fn in_reply_and_defer_mode_a_refused_certificate_completes_the_handshake_and_is_seen() {
    let world = World::new();
    let revoked = Recipe::client("Revoked").signed_by(&world.root);
    let stranger = Recipe::client("Stranger").self_signed();
    let expired = Recipe::client("Expired").valid(NOW - 9 * DAY, NOW - DAY).signed_by(&world.root);
    let trust = world.trust(&[&revoked]);
    for refusal in [RefusalMode::Reply, RefusalMode::Defer] {
        let server = world.server(refusal, &trust);
        for version in VERSIONS {
            for shown in [&revoked, &stranger, &expired] {
                let client = Arc::new(world.client(version, Some(shown)));
                let wired = connect(&client, &server, "mail.example.com").unwrap();
                let chain = peer_chain(&wired.server).unwrap();
                assert_eq!(chain.0, std::slice::from_ref(&shown.der));
                assert!(verify(&chain, &trust, world.clock.now().wall).is_err());
            }
            let wired = connect(&Arc::new(world.client(version, None)), &server, "mail.example.com").unwrap();
            assert!(peer_chain(&wired.server).is_none());
        }
    }
}

#[test]
fn in_alert_mode_a_refused_certificate_fails_the_handshake_with_its_own_alert() {
    let world = World::new();
    let revoked = Recipe::client("Revoked").signed_by(&world.root);
    let stranger = Recipe::client("Stranger").self_signed();
    let expired = Recipe::client("Expired").valid(NOW - 9 * DAY, NOW - DAY).signed_by(&world.root);
    let early = Recipe::client("Early").valid(NOW + DAY, NOW + 9 * DAY).signed_by(&world.root);
    let purposeless = Recipe::client("Purposeless").purposes(&[]).signed_by(&world.root);
    let server = world.server(RefusalMode::Alert, &world.trust(&[&revoked]));
    let failed = |version, shown: Option<&Made>| {
        let client = Arc::new(world.client(version, shown));
        connect(&client, &server, "mail.example.com").err().unwrap()
    };
    let failure = |version, shown: Option<&Made>| failed(version, shown).server.unwrap();
    for version in VERSIONS {
        for (shown, error, alert) in [
            (&revoked, CertificateError::Revoked, AlertDescription::CertificateRevoked),
            (&stranger, CertificateError::UnknownIssuer, AlertDescription::UnknownCA),
            (&expired, CertificateError::Expired, AlertDescription::CertificateExpired),
            (&early, CertificateError::NotValidYet, AlertDescription::CertificateExpired),
        ] {
            let failed = failed(version, Some(shown));
            assert_eq!(failed.server, Some(rustls::Error::InvalidCertificate(error)));
            assert_eq!(failed.client, Some(rustls::Error::AlertReceived(alert)), "{version:?}");
        }
        assert_eq!(failure(version, None), rustls::Error::NoCertificatesPresented);
        let error = failure(version, Some(&purposeless));
        assert_eq!(rejection_of(&error).and_then(|rejection| rejection.flaw), Some(Flaw::NotForClients));
    }
}

#[tokio::test]
async fn why_a_certificate_was_refused_in_the_handshake_is_told_whatever_the_alert() {
    let world = World::new();
    let revoked = Recipe::client("Revoked").signed_by(&world.root);
    let expired = Recipe::client("Expired").valid(NOW - 9 * DAY, NOW - DAY).signed_by(&world.root);
    let alice = Recipe::client("Alice").signed_by(&world.root);
    let old = Recipe::client("Old").self_signed_of_version_1();
    for (mode, shown, told) in [
        (
            RefusalMode::Alert,
            &revoked,
            Some("revoked; client_ca \"staff\"; certificate 0 of the chain: subject CN=Revoked"),
        ),
        (RefusalMode::Alert, &expired, Some("expired on")),
        (RefusalMode::Alert, &alice, None),
        (RefusalMode::Reply, &revoked, None),
        // Of what TLS can't use there is no other way to tell.
        (RefusalMode::Alert, &old, Some("version 3 only; certificate 0 of the chain: subject CN=Old")),
        (RefusalMode::Reply, &old, Some("version 3 only; certificate 0 of the chain: subject CN=Old")),
    ] {
        let server = world.server(mode, &world.trust(&[&revoked]));
        for version in VERSIONS {
            // rustls's own client would not show what TLS can't use.
            let own = CertifiedKey::new(vec![shown.der.clone()], signing_key(shown, &provider()));
            let client = world.client_builder(version).with_client_cert_resolver(Arc::new(Thief(Arc::new(own))));
            let client = Arc::new(client);
            let (outcome, rejection) = telling(async { connect(&client, &server, "mail.example.com") }).await;
            assert_eq!(outcome.is_err(), told.is_some(), "{mode:?} {told:?}");
            let text = rejection.map(|rejection| rejection.to_string());
            assert!(
                told.is_none_or(|told| text.as_ref().is_some_and(|text| text.contains(told)))
                    && told.is_some() == text.is_some(),
                "{mode:?} {told:?}: {text:?}"
            );
        }
    }
}

#[test]
fn alert_mode_goes_by_our_clock() {
    let world = World::new();
    let alice = Recipe::client("Alice").signed_by(&world.root);
    let clock = Arc::new(ManualClock::at(WallTime::from_seconds(NOW)));
    let shared: Arc<dyn Clock> = clock.clone();
    let server = world.listener(RefusalMode::Alert).server_config(&world.trust(&[]), &shared).unwrap();
    let client = Arc::new(world.client(VERSIONS[1], Some(&alice)));
    assert!(connect(&client, &server, "mail.example.com").is_ok());
    clock.set_wall(WallTime::from_seconds(NOW + 91 * DAY));
    assert!(connect(&client, &server, "mail.example.com").is_err());
}

#[test]
fn nothing_is_ever_resumed() {
    let world = World::new();
    let alice = Recipe::client("Alice").signed_by(&world.root);
    for refusal in [RefusalMode::Reply, RefusalMode::Alert] {
        let server = world.server(refusal, &world.trust(&[]));
        assert!(!server.session_storage.can_cache() && server.send_tls13_tickets == 0 && !server.ticketer.enabled());
        for version in VERSIONS {
            let mut client = world.client(version, Some(&alice));
            client.resumption = Resumption::store(Arc::new(ClientSessionMemoryCache::new(16)));
            let client = Arc::new(client);
            for _ in 0..3 {
                let mut wired = connect(&client, &server, "mail.example.com").unwrap();
                // Data both ways, so that a ticket that comes late would be taken.
                wired.server.writer().write_all(b"220\r\n").unwrap();
                wired.client.writer().write_all(b"EHLO\r\n").unwrap();
                assert_eq!(
                    (pass(&mut wired.client, &mut wired.server), pass(&mut wired.server, &mut wired.client)),
                    (None, None)
                );
                let mut heard = [0; 5];
                wired.client.reader().read_exact(&mut heard).unwrap();
                assert_eq!(&heard, b"220\r\n");
                assert_ne!(wired.server.handshake_kind(), Some(HandshakeKind::Resumed));
                assert_eq!(wired.client.tls13_tickets_received(), 0);
                assert!(peer_chain(&wired.server).is_some());
            }
        }
    }
}

#[test]
fn with_the_librarys_own_settings_a_session_would_be_resumed() {
    // What the test above would see if the settings were lost.
    let world = World::new();
    let alice = Recipe::client("Alice").signed_by(&world.root);
    let trust = world.trust(&[]);
    for version in VERSIONS {
        let possession = PossessionOnly { hints: trust.hints(), provider: Arc::new(provider()) };
        let certificate = world.certificate("mail.example.com");
        let server = ServerConfig::builder_with_provider(Arc::new(provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(Arc::new(possession))
            .with_single_cert(certificate.chain, certificate.key)
            .unwrap();
        let server = Arc::new(server);
        let client = Arc::new(world.client(version, Some(&alice)));
        connect(&client, &server, "mail.example.com").unwrap();
        let again = connect(&client, &server, "mail.example.com").unwrap();
        assert_eq!(again.server.handshake_kind(), Some(HandshakeKind::Resumed));
    }
}

/// Shows a certificate and signs with another key.
#[derive(Debug)]
struct Thief(Arc<CertifiedKey>);

impl ResolvesClientCert for Thief {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn signing_key(made: &Made, provider: &CryptoProvider) -> Arc<dyn SigningKey> {
    provider.key_provider.load_private_key(made.key_der()).unwrap()
}

#[test]
fn who_has_not_the_key_cannot_complete_a_handshake() {
    let world = World::new();
    let alice = Recipe::client("Alice").signed_by(&world.root);
    let own = Recipe::client("Thief").self_signed();
    let trust = world.trust(&[]);
    for refusal in [RefusalMode::Reply, RefusalMode::Defer, RefusalMode::Alert] {
        let server = world.server(refusal, &trust);
        for version in VERSIONS {
            let stolen = CertifiedKey::new(vec![alice.der.clone()], signing_key(&own, &provider()));
            let thief = world.client_builder(version).with_client_cert_resolver(Arc::new(Thief(Arc::new(stolen))));
            let failed = connect(&Arc::new(thief), &server, "mail.example.com").err().unwrap();
            assert!(
                matches!(failed.server, Some(rustls::Error::InvalidCertificate(CertificateError::BadSignature))),
                "{failed:?}"
            );
        }
    }
}

/// Notes the hints and shows nothing.
#[derive(Debug, Default)]
struct Listener(Mutex<Vec<Vec<u8>>>);

impl ResolvesClientCert for Listener {
    fn resolve(&self, hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        *self.0.lock().unwrap() = hints.iter().map(|hint| hint.to_vec()).collect();
        None
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[test]
fn the_names_of_the_cas_are_hinted() {
    let world = World::new();
    let trust = world.trust(&[]);
    let wanted: Vec<Vec<u8>> = trust.hints().iter().map(|hint| hint.as_ref().to_vec()).collect();
    for version in VERSIONS {
        let listener = Arc::new(Listener::default());
        let client = world.client_builder(version).with_client_cert_resolver(listener.clone());
        connect(&Arc::new(client), &world.server(RefusalMode::Reply, &trust), "mail.example.com").unwrap();
        assert_eq!(*listener.0.lock().unwrap(), wanted);
        assert_eq!(wanted.len(), 1);
    }
}

#[test]
fn the_certificate_is_chosen_by_name_and_the_first_is_the_default() {
    let world = World::new();
    let mut listener = world.listener(RefusalMode::Reply);
    listener.certificates.push(world.certificate("smtp.example.org"));
    listener.certificates.push(world.certificate("*.example.net"));
    let server = listener.server_config(&world.trust(&[]), &world.clock).unwrap();
    let shown = |name: &'static str| {
        let mut client = world.client(VERSIONS[1], None);
        client.dangerous().set_certificate_verifier(Arc::new(AnyServer(provider())));
        let wired = connect(&Arc::new(client), &server, name).unwrap();
        wired.client.peer_certificates().unwrap()[0].clone()
    };
    let certificate = |at: usize| listener.certificates[at].chain[0].clone();
    for (name, at) in [
        ("mail.example.com", 0),
        ("SMTP.example.org", 1),
        ("a.example.net", 2),
        ("a.b.example.net", 0),
        ("example.net", 0),
        ("unknown.example", 0),
        ("192.0.2.1", 0),
    ] {
        assert_eq!(shown(name), certificate(at), "{name}");
    }
}

#[derive(Debug)]
struct AnyServer(CryptoProvider);

impl rustls::client::danger::ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, leaf, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, leaf, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[test]
fn the_oldest_version_is_kept() {
    let world = World::new();
    let listener = ListenerTls { min_version: MinVersion::Tls13, ..world.listener(RefusalMode::Reply) };
    let server = listener.server_config(&world.trust(&[]), &world.clock).unwrap();
    assert!(connect(&Arc::new(world.client(VERSIONS[0], None)), &server, "mail.example.com").is_err());
    assert!(connect(&Arc::new(world.client(VERSIONS[1], None)), &server, "mail.example.com").is_ok());
}

/// RFC 7301 §3.2: `no_application_protocol`, where nothing that is offered is spoken here.
#[test]
fn who_asks_for_another_protocol_is_refused_in_the_handshake_and_who_asks_for_none_is_not() {
    let world = World::new();
    let made = Recipe::client("Alice").email("alice@example.com").signed_by(&world.root);
    let pins = BalancerPins::new(vec![Digest256(made.fingerprint())]);
    let balanced = world.listener(RefusalMode::Reply).balanced_config(&pins, &world.clock).unwrap();
    let refused = rustls::Error::NoApplicationProtocol;
    let alert = rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol);
    for mode in [RefusalMode::Reply, RefusalMode::Defer, RefusalMode::Alert] {
        let server = world.server(mode, &world.trust(&[]));
        for version in VERSIONS {
            for (offered, spoken) in [
                (&[][..], Some(None)),
                (&["smtp"], Some(Some(&b"smtp"[..]))),
                (&["h2", "smtp", "http/1.1"], Some(Some(b"smtp"))),
                (&["h2", "http/1.1"], None),
                (&["http/1.1"], None),
                (&["imap"], None),
                (&["SMTP"], None),
            ] {
                let mut client = world.client(version, Some(&made));
                client.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
                let client = Arc::new(client);
                match (connect(&client, &server, "mail.example.com"), spoken) {
                    (Ok(wired), Some(spoken)) => assert_eq!(wired.server.alpn_protocol(), spoken, "{offered:?}"),
                    (Err(failed), None) => {
                        assert_eq!((failed.server, failed.client), (Some(refused.clone()), Some(alert.clone())));
                    }
                    (came, _) => panic!("{offered:?}: {}", came.is_ok()),
                }
                // What a load balancer names of itself says nothing of its client.
                assert!(connect(&client, &balanced, "mail.example.com").is_ok(), "{offered:?} of a balancer");
            }
        }
    }
}

#[test]
fn a_listener_that_cannot_work_says_which_file_and_why() {
    let world = World::new();
    let fault = |certificates: Vec<ServerCertificate>| {
        let listener = ListenerTls { certificates, ..world.listener(RefusalMode::Reply) };
        listener.server_config(&world.trust(&[]), &world.clock).err().unwrap()
    };
    let good = || world.certificate("mail.example.com");
    let place = || "mail.example.com.pem".to_owned();
    assert_eq!(fault(vec![]), ListenerFault::NoCertificate);
    let mismatch = ServerCertificate { key: world.certificate("other.example").key, ..good() };
    assert_eq!(fault(vec![good(), mismatch]), ListenerFault::KeyMismatch { place: place() });
    let junk = ServerCertificate { chain: vec![vec![1, 2, 3].into()], ..good() };
    assert_eq!(fault(vec![junk]), ListenerFault::MalformedCertificate { place: place() });
    let empty = ServerCertificate { chain: vec![], ..good() };
    assert_eq!(fault(vec![empty]), ListenerFault::MalformedCertificate { place: place() });
    let unusable = ServerCertificate { key: PrivateKeyDer::Pkcs8(vec![0x30, 0x00].into()), ..good() };
    assert_eq!(fault(vec![unusable]), ListenerFault::UnusableKey { place: place() });
}

#[test]
fn pem_is_read_as_people_have_it() {
    use super::super::read::{ReadFault, certificates, private_key};
    let world = World::new();
    let made = Recipe::server("mail.example.com").signed_by(&world.server_root);
    let both = format!("Certificate:\n  Data: ...\n{}{}{}", made.key_pem(), made.pem(), world.server_root.pem());
    assert_eq!(certificates(both.as_bytes()), Ok(vec![made.der.clone(), world.server_root.der.clone()]));
    assert_eq!(private_key(both.as_bytes()).unwrap(), made.key_der());
    assert_eq!(certificates(both.replace('\n', "\r\n").as_bytes()).unwrap().len(), 2);
    assert_eq!(certificates(&made.der), Ok(vec![made.der.clone()]));
    assert!(private_key(made.key_der().secret_der()).is_ok());
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
    assert_eq!(private_key(encrypted.as_bytes()), Err(ReadFault::Encrypted));
    assert_eq!(certificates(b""), Err(ReadFault::Empty));
    assert!(matches!(certificates(made.key_pem().as_bytes()), Err(ReadFault::Missing { .. })));
    assert!(matches!(private_key(made.pem().as_bytes()), Err(ReadFault::Missing { .. })));
    let cut = made.pem().replace("-----END", "");
    assert!(matches!(certificates(cut.as_bytes()), Err(ReadFault::Damaged(_))));
    assert_eq!(
        certificates(&[&[0x30, 0x82, 0x10, 0, 0x02, 0x01, 0x03, 0x30][..], &[0; 20]].concat()),
        Err(ReadFault::Pkcs12)
    );
}

#[test]
fn only_a_pinned_balancer_gets_through_the_handshake_of_a_listener_of_theirs() {
    let world = World::new();
    let staff = Recipe::ca("Staff Root").self_signed();
    let balancer = Recipe::client("Balancer").self_signed();
    let ended = Recipe::client("Balancer").valid(NOW - 9 * DAY, NOW - DAY).self_signed();
    let alice = Recipe::client("Alice").email("alice@example.com").signed_by(&staff);
    let pins = BalancerPins::new(vec![Digest256(balancer.fingerprint()), Digest256(ended.spki())]);
    let server = world.listener(RefusalMode::Reply).balanced_config(&pins, &world.clock).unwrap();
    let unpinned =
        BalancerFault::Unpinned { fingerprint: Digest256(alice.fingerprint()), key: Digest256(alice.spki()) };
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let connect =
            |shown: Option<&Made>| connect(&Arc::new(world.client(version, shown)), &server, "mail.example.com");
        let wired = connect(Some(&balancer)).unwrap();
        let known = super::balancer(&wired.server, &pins, world.clock.now().wall).unwrap();
        assert_eq!(known.fingerprint(), Digest256(balancer.fingerprint()));
        // Without pins nobody is one, whatever let it through.
        let nobody = super::balancer(&wired.server, &BalancerPins::default(), world.clock.now().wall);
        let (fingerprint, key) = (Digest256(balancer.fingerprint()), Digest256(balancer.spki()));
        assert_eq!(nobody, Err(BalancerFault::Unpinned { fingerprint, key }));
        let fault = |shown: &Made| {
            let failed = connect(Some(shown)).err().unwrap().server.unwrap();
            *balancer_fault_of(&failed).unwrap_or_else(|| panic!("{failed}"))
        };
        assert_eq!(fault(&alice), unpinned);
        assert_eq!(fault(&ended), BalancerFault::Expired(WallTime::from_seconds(NOW - DAY)));
        assert_eq!(connect(None).err().unwrap().server, Some(rustls::Error::NoCertificatesPresented));
    }
}
