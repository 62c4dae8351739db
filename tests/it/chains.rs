//! Certificates as the world has them: one table of chains, each with whom it stands for or what is said against it.
//!
//! A [`World`] is a configuration with the files it names, read as the daemon reads it. Each case is judged there, and then again by way of real
//! handshakes over TLS 1.2 and 1.3 with the listener's own settings. The clock is fixed.

mod cases;
mod interop;

use std::fmt::Write as _;
use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, ServerConfig, ServerConnection, SignatureScheme,
    SupportedProtocolVersion,
};
use sealpost::config::{self, Settings};
use sealpost::sys::{Clock, ManualClock, WallTime};
use sealpost::tls::{PeerChain, judge, peer_chain};
use tempfile::TempDir;

use crate::recipe::{Made, NOW, Recipe};

/// A configuration, read.
pub(crate) struct World {
    pub(crate) settings: Settings,
    clock: Arc<dyn Clock>,
    _directory: TempDir,
}

impl World {
    /// `text` is what stands behind hostname, data_dir, TLS and upstream; without a listener in it there is one for everybody.
    pub(crate) fn read(text: &str, files: &[(&str, Vec<u8>)]) -> Result<Self, Vec<String>> {
        Self::read_at(text, files, WallTime::from_seconds(NOW))
    }

    /// The same at another time.
    pub(crate) fn read_at(text: &str, files: &[(&str, Vec<u8>)], now: WallTime) -> Result<Self, Vec<String>> {
        let directory = TempDir::new().unwrap();
        let server = Recipe::server("mail.example.com").around(now.seconds()).self_signed();
        for (name, octets) in files
            .iter()
            .map(|(name, octets)| (*name, octets.as_slice()))
            .chain([("server.pem", server.pem().as_bytes()), ("server.key", server.key_pem().as_bytes())])
        {
            std::fs::write(directory.path().join(name), octets).unwrap();
        }
        std::fs::set_permissions(
            directory.path().join("server.key"),
            std::os::unix::fs::PermissionsExt::from_mode(0o600),
        )
        .unwrap();
        let mut whole = "hostname = \"mail.example.com\"\ndata_dir = \"data\"\n\
            [tls]\ncertificate = \"server.pem\"\nprivate_key = \"server.key\"\n\
            [[upstream]]\nname = \"main\"\naddress = \"127.0.0.1:25\"\ntls = \"none\"\n"
            .to_owned();
        if !text.contains("[[listener]]") {
            whole.push_str("[[listener]]\naddress = \"127.0.0.1:0\"\n");
        }
        whole.push_str(text);
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(now));
        let file = directory.path().join("sealpost.toml");
        match config::load_text(&file, &whole, &[], &clock) {
            Ok(loaded) => Ok(Self { settings: loaded.settings, clock, _directory: directory }),
            Err(mistakes) => Err(mistakes.iter().map(ToString::to_string).collect()),
        }
    }

    /// Whom a chain stands for at a listener, or what is said against it.
    fn said(&self, listener: usize, chain: &PeerChain) -> String {
        let trust = self.settings.listener_trust(&self.settings.listeners[listener]);
        match judge(chain, &trust, self.clock.now().wall) {
            Err(rejection) => {
                assert!(rejection.culprit.is_some(), "nobody is to blame: {rejection}");
                rejection.fault.to_string()
            }
            Ok(verified) => match self.settings.roster.identify(&verified) {
                Ok(identity) => identity.name().to_owned(),
                Err(_) => "nobody".to_owned(),
            },
        }
    }

    fn server(&self, listener: usize) -> Arc<ServerConfig> {
        let listener = &self.settings.listeners[listener];
        let trust = self.settings.listener_trust(listener);
        self.settings.listener_tls(listener).server_config(&trust, &self.clock).unwrap()
    }
}

/// A chain and what comes of it.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) listener: usize,
    pub(crate) shown: Vec<CertificateDer<'static>>,
    /// The leaf's; none where nobody has it, so that there can be no handshake.
    pub(crate) key: Option<PrivateKeyDer<'static>>,
    pub(crate) expected: String,
}

impl Case {
    pub(crate) fn new(name: &str, shown: &[&Made], expected: &str) -> Self {
        Self {
            name: name.to_owned(),
            listener: 0,
            shown: shown.iter().map(|made| made.der.clone()).collect(),
            key: Some(shown[0].key_der()),
            expected: expected.to_owned(),
        }
    }

    pub(crate) fn at(self, listener: usize) -> Self {
        Self { listener, ..self }
    }
}

/// Judges each case, and shows each over TLS 1.2 and 1.3. Gives how many there were.
#[track_caller]
pub(crate) fn check(world: &World, cases: Vec<Case>) -> usize {
    let mut wrong = String::new();
    let count = cases.len();
    for case in cases {
        let mut compare = |how: &str, said: &str| {
            if said != case.expected {
                let _ = write!(wrong, "\n{}, {how}: expected {:?}, found {said:?}", case.name, case.expected);
            }
        };
        compare("judged", &world.said(case.listener, &PeerChain(case.shown.clone())));
        let Some(key) = case.key else { continue };
        let server = world.server(case.listener);
        for (name, version) in [("TLS 1.2", &rustls::version::TLS12), ("TLS 1.3", &rustls::version::TLS13)] {
            match shown_over_tls(&case.shown, &key, version, &server) {
                Ok(chain) => compare(name, &world.said(case.listener, &chain)),
                Err(error) => compare(name, &error),
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    count
}

/// What the server sees of a client that shows these certificates.
fn shown_over_tls(
    shown: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
    version: &'static SupportedProtocolVersion,
    server: &Arc<ServerConfig>,
) -> Result<PeerChain, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let key = provider.key_provider.load_private_key(key.clone_key()).map_err(|fault| fault.to_string())?;
    let shows = Shows(Arc::new(CertifiedKey::new(shown.to_vec(), key)));
    let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer(provider)))
        .with_client_cert_resolver(Arc::new(shows));
    let mut client =
        ClientConnection::new(Arc::new(client), ServerName::try_from("mail.example.com").unwrap()).unwrap();
    let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
    // Ten times what any handshake takes.
    for _ in 0..20 {
        pass(&mut client, &mut server)?;
        pass(&mut server, &mut client)?;
    }
    peer_chain(&server).ok_or_else(|| "no certificate was seen".to_owned())
}

fn pass<A: rustls::SideData, B: rustls::SideData>(
    from: &mut rustls::ConnectionCommon<A>,
    to: &mut rustls::ConnectionCommon<B>,
) -> Result<(), String> {
    let mut octets = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut octets).unwrap();
    }
    let mut octets = octets.as_slice();
    while !octets.is_empty() {
        to.read_tls(&mut octets).unwrap();
        to.process_new_packets().map_err(|fault| fault.to_string())?;
    }
    Ok(())
}

/// Shows its certificates whatever the hints are.
#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesClientCert for Shows {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
