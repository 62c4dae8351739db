//! TLS towards an upstream: what the certificate must prove, and why it did not.
//!
//! | `tls`         | encrypted | certificate                                                              | credentials |
//! |---------------|-----------|--------------------------------------------------------------------------|-------------|
//! | none          | no        | -                                                                        | never       |
//! | opportunistic | if it can | not looked at                                                            | never       |
//! | require       | always    | not looked at: safe from listeners, not from someone who stands between  | allowed     |
//! | verify        | always    | issued by a configured CA (or the system's), valid now, for the name     | allowed     |
//!
//! Time is our clock's, so that a test's certificates never expire. No session resumption: each handshake looks at the certificate anew.

mod words;

use std::io;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, DigitallySignedStruct, InconsistentKeys, RootCertStore, SignatureScheme};
use sha2::{Digest as _, Sha256};

use super::attempt::TlsCause;
use super::settings::Security;
use crate::sys::Clock;

/// `mode` of an upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Plaintext first, TLS by STARTTLS.
    #[default]
    StartTls,
    /// TLS from the first octet.
    Implicit,
}

/// `tls` of an upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsDemand {
    /// No TLS.
    None,
    /// When offered.
    Opportunistic,
    /// Encrypted, whoever it is.
    Require,
    /// Encrypted, and it is who it should be.
    #[default]
    Verify,
}

/// Who vouches for an upstream's certificate, with `tls = "verify"`.
#[derive(Clone, Debug)]
pub enum Anchors {
    /// The CAs of this machine's trust store.
    System,
    /// These only (`ca`).
    Given(Vec<CertificateDer<'static>>),
}

/// What TLS is made of.
#[derive(Debug)]
pub struct TlsMaterial {
    /// Who vouches for its certificate.
    pub anchors: Anchors,
    /// The name its certificate must carry, where it is not the host's (`server_name`).
    pub server_name: Option<String>,
    /// Our own certificate chain, leaf first, and its key, for upstreams that want one.
    pub identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

/// TLS towards one upstream, ready to use. Equal when it is made of the same: demand, name, CAs, certificate and key.
#[derive(Clone)]
pub struct ClientTls {
    pub(super) config: Arc<ClientConfig>,
    pub(super) server_name: ServerName<'static>,
    demand: TlsDemand,
    /// SHA-256 of what it is made of; rustls's settings can't be compared.
    made_of: [u8; 32],
}

impl PartialEq for ClientTls {
    fn eq(&self, other: &Self) -> bool {
        self.made_of == other.made_of
    }
}

impl Eq for ClientTls {}

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientTls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

/// Why an upstream's TLS settings can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecurityMistake {
    /// `mode = "implicit"` with a `tls` that may be plaintext.
    #[error("mode \"implicit\" is TLS from the first octet: set tls to \"verify\" (or \"require\")")]
    ImplicitWithoutTls,
    /// The host or `server_name` can stand in no certificate.
    #[error("{0:?} is no name that a certificate can carry")]
    ServerName(String),
    /// A CA certificate can't be read.
    #[error("a CA certificate can't be used: {0}")]
    Anchor(String),
    /// No CA at all.
    #[error("there is no CA to trust: set ca, or install the system's ca-certificates")]
    NoAnchors,
    /// Certificate and key don't fit.
    #[error("certificate and private_key can't be used: {0}")]
    Identity(String),
    /// rustls refuses the settings.
    #[error("TLS can't be set up: {0}")]
    Tls(String),
}

impl Security {
    /// The protection that `mode` and `tls` ask for, towards `host`.
    pub fn new(
        mode: Mode,
        demand: TlsDemand,
        host: &str,
        material: TlsMaterial,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SecurityMistake> {
        let build = |material| ClientTls::new(demand, host, material, clock);
        match (mode, demand) {
            (Mode::StartTls, TlsDemand::None) => Ok(Self::Plaintext),
            (Mode::StartTls, TlsDemand::Opportunistic) => build(material).map(Self::Opportunistic),
            (Mode::StartTls, TlsDemand::Require | TlsDemand::Verify) => build(material).map(Self::StartTls),
            (Mode::Implicit, TlsDemand::Require | TlsDemand::Verify) => build(material).map(Self::Implicit),
            (Mode::Implicit, TlsDemand::None | TlsDemand::Opportunistic) => Err(SecurityMistake::ImplicitWithoutTls),
        }
    }
}

impl ClientTls {
    /// The name that the certificate must have, where it is looked at.
    pub(super) fn verified_name(&self) -> Option<String> {
        (self.demand == TlsDemand::Verify).then(|| self.server_name.to_str().into_owned())
    }

    fn new(
        demand: TlsDemand,
        host: &str,
        material: TlsMaterial,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SecurityMistake> {
        let name = material.server_name.as_deref().unwrap_or(host);
        let server_name =
            ServerName::try_from(name.to_owned()).map_err(|_| SecurityMistake::ServerName(name.to_owned()))?;
        let roots = if demand == TlsDemand::Verify { Some(roots(&material.anchors)) } else { None };
        let made_of = digest(demand, name, roots.as_deref(), material.identity.as_ref());
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_details(Arc::clone(&provider), Arc::new(OurTime(clock)))
            .with_safe_default_protocol_versions()
            .map_err(|fault| SecurityMistake::Tls(words::words(&fault)))?;
        let builder = match &roots {
            Some(roots) => builder.with_root_certificates(root_store(&material.anchors, roots)?),
            None => builder.dangerous().with_custom_certificate_verifier(Arc::new(PossessionOnly { provider })),
        };
        let mut config = match material.identity {
            Some((chain, key)) => builder
                .with_client_auth_cert(chain, key)
                .map_err(|fault| SecurityMistake::Identity(identity_fault(&fault)))?,
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::disabled();
        Ok(Self { config: Arc::new(config), server_name, demand, made_of })
    }
}

/// Why a certificate and a key can't be used together.
pub(crate) fn identity_fault(fault: &rustls::Error) -> String {
    if *fault == rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) {
        "it is not the key of the certificate; name the key that this certificate was issued for".to_owned()
    } else if matches!(fault, rustls::Error::InvalidCertificate(_)) {
        "the certificate can't be used in TLS: it is malformed, or not of X.509 version 3; have it issued again"
            .to_owned()
    } else {
        words::words(fault)
    }
}

fn roots(anchors: &Anchors) -> Vec<CertificateDer<'static>> {
    match anchors {
        Anchors::Given(certificates) => certificates.clone(),
        Anchors::System => rustls_native_certs::load_native_certs().certs,
    }
}

/// What distinguishes one [`ClientTls`] from another; each part with its length in front, so that no two lists of parts look the same.
fn digest(
    demand: TlsDemand,
    name: &str,
    roots: Option<&[CertificateDer<'static>]>,
    identity: Option<&(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
) -> [u8; 32] {
    let mut digest = Sha256::new();
    let mut part = |octets: &[u8]| {
        digest.update(u64::try_from(octets.len()).unwrap_or(u64::MAX).to_be_bytes());
        digest.update(octets);
    };
    part(format!("{demand:?}").as_bytes());
    part(name.as_bytes());
    // In whatever order the system's store is read.
    let mut roots: Vec<&[u8]> = roots.unwrap_or_default().iter().map(AsRef::as_ref).collect();
    roots.sort_unstable();
    part(&u64::try_from(roots.len()).unwrap_or(u64::MAX).to_be_bytes());
    roots.into_iter().for_each(&mut part);
    if let Some((chain, key)) = identity {
        chain.iter().for_each(|certificate| part(certificate));
        part(key.secret_der());
    }
    digest.finalize().into()
}

fn root_store(anchors: &Anchors, roots: &[CertificateDer<'static>]) -> Result<RootCertStore, SecurityMistake> {
    let mut store = RootCertStore::empty();
    match anchors {
        Anchors::Given(_) => {
            for certificate in roots {
                store.add(certificate.clone()).map_err(|fault| SecurityMistake::Anchor(words::words(&fault)))?;
            }
        }
        // A store of a hundred CAs may hold one that can't be read; it is not missed.
        Anchors::System => {
            store.add_parsable_certificates(roots.iter().cloned());
        }
    }
    if store.is_empty() { Err(SecurityMistake::NoAnchors) } else { Ok(store) }
}

#[derive(Debug)]
struct OurTime(Arc<dyn Clock>);

impl TimeProvider for OurTime {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().wall.seconds()).ok()?;
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)))
    }
}

/// Takes any certificate whose key the other side has. For `require` and `opportunistic`, which say so in the table above.
#[derive(Debug)]
struct PossessionOnly {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PossessionOnly {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Why a handshake failed.
pub(super) fn tls_cause(fault: &io::Error) -> TlsCause {
    let inner = fault.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(fault) => words::cause(fault),
        None if fault.kind() == io::ErrorKind::UnexpectedEof => {
            TlsCause::Other("it closed the connection in the handshake".to_owned())
        }
        None => TlsCause::Other(fault.to_string()),
    }
}
