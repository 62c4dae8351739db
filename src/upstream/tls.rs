//! TLS towards an upstream: what the certificate must prove, and why it did not.
//!
//! | `tls`         | encrypted | certificate                                                              | credentials |
//! |---------------|-----------|--------------------------------------------------------------------------|-------------|
//! | none          | no        | -                                                                        | never       |
//! | opportunistic | if it can | not looked at                                                            | never       |
//! | require       | always    | not looked at: safe from listeners, not from someone who stands between  | allowed     |
//! | verify        | always    | issued by a configured CA (or the system's), valid now, for the name     | allowed     |
//! | verify, `pin` | always    | it, or its key, is pinned; CA, time and name count only where `ca` is set | allowed     |
//!
//! Time is our clock's, so that a test's certificates never expire. No session resumption: each handshake looks at the certificate anew.

mod words;

use std::io;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, InconsistentKeys, RootCertStore};
use sha2::{Digest as _, Sha256};

use super::attempt::TlsCause;
use super::dane::Tlsa;
use super::pin::Pin;
use super::settings::Security;
use super::verifier::{Judge, Verifier};
use crate::sasl::ExporterValue;
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
    /// Nobody: it is known by its pin.
    Nobody,
}

/// What TLS is made of.
#[derive(Debug)]
pub struct TlsMaterial {
    /// Who vouches for its certificate.
    pub anchors: Anchors,
    /// The certificates or keys of which it must show one (`pin`); none: any.
    pub pins: Vec<Pin>,
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
    /// What a handshake proves of the certificate, as it stands behind "yes, "; none where nobody looks at it.
    proof: Option<String>,
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
    /// What a handshake proves of the certificate, where it is looked at.
    pub(super) fn proof(&self) -> Option<&str> {
        self.proof.as_deref()
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
        let verifies = demand == TlsDemand::Verify;
        let roots = if verifies { roots(&material.anchors) } else { None };
        let pins = if verifies { material.pins } else { Vec::new() };
        let proof = verifies.then(|| match (&roots, pins.is_empty()) {
            (_, true) => format!("for {name}"),
            (Some(_), false) => format!("for {name}, and pinned"),
            (None, false) => "by its pin".to_owned(),
        });
        let made_of = digest(demand, name, roots.as_deref(), &pins, material.identity.as_ref());
        let provider = Arc::new(aws_lc_rs::default_provider());
        let vouched = roots.map(|roots| vouched_for(&material.anchors, &roots, &provider)).transpose()?;
        let verifier: Arc<dyn ServerCertVerifier> = match (vouched, pins.is_empty()) {
            (Some(vouched), true) => vouched,
            (None, true) if verifies => return Err(SecurityMistake::NoAnchors),
            (None, true) => Arc::new(Verifier { judge: Judge::Anybody, provider: Arc::clone(&provider) }),
            (vouched, false) => {
                Arc::new(Verifier { judge: Judge::Pinned(pins, vouched), provider: Arc::clone(&provider) })
            }
        };
        let builder = ClientConfig::builder_with_details(provider, Arc::new(OurTime(clock)))
            .with_safe_default_protocol_versions()
            .map_err(|fault| SecurityMistake::Tls(words::words(&fault)))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match material.identity {
            Some((chain, key)) => builder
                .with_client_auth_cert(chain, key)
                .map_err(|fault| SecurityMistake::Identity(identity_fault(&fault)))?,
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::disabled();
        Ok(Self { config: Arc::new(config), server_name, proof, made_of })
    }
}

impl ClientTls {
    /// The same, with the certificate judged by TLSA records found at `host`. The server is asked for that name (RFC 7672 §8.1); under a CA that is
    /// named, the certificate may carry it or the one that is configured.
    pub(super) fn by_records(&self, host: &str, records: Vec<Tlsa>) -> Option<Self> {
        let server_name = ServerName::try_from(host.to_owned()).ok()?;
        let names = vec![server_name.clone(), self.server_name.clone()];
        let mut config = ClientConfig::clone(&self.config);
        let provider = Arc::clone(config.crypto_provider());
        let verifier = Arc::new(Verifier { judge: Judge::Records(records, names), provider });
        config.dangerous().set_certificate_verifier(verifier);
        let proof = Some(format!("by the TLSA records of {host}"));
        Some(Self { config: Arc::new(config), server_name, proof, made_of: self.made_of })
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

fn roots(anchors: &Anchors) -> Option<Vec<CertificateDer<'static>>> {
    match anchors {
        Anchors::Given(certificates) => Some(certificates.clone()),
        Anchors::System => Some(rustls_native_certs::load_native_certs().certs),
        Anchors::Nobody => None,
    }
}

/// The usual way: issued by one of these, valid now, for the name.
fn vouched_for(
    anchors: &Anchors,
    roots: &[CertificateDer<'static>],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, SecurityMistake> {
    let store = Arc::new(root_store(anchors, roots)?);
    let verifier = WebPkiServerVerifier::builder_with_provider(store, Arc::clone(provider)).build();
    let verifier = verifier.map_err(|fault| SecurityMistake::Tls(fault.to_string()))?;
    Ok(verifier)
}

/// What distinguishes one [`ClientTls`] from another; each part with its length in front, so that no two lists of parts look the same.
fn digest(
    demand: TlsDemand,
    name: &str,
    roots: Option<&[CertificateDer<'static>]>,
    pins: &[Pin],
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
    part(&u64::try_from(pins.len()).unwrap_or(u64::MAX).to_be_bytes());
    pins.iter().for_each(|pin| part(pin.octets()));
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
        Anchors::System | Anchors::Nobody => {
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

/// What binds a login to the connection (RFC 9266). Under TLS 1.3 only, as on the listeners' side: rustls does not tell whether TLS 1.2 agreed
/// on the extended master secret, without which the value is not one connection's alone.
pub(super) fn exporter(connection: &rustls::ClientConnection) -> Option<ExporterValue> {
    if connection.protocol_version()? != rustls::ProtocolVersion::TLSv1_3 {
        return None;
    }
    connection.export_keying_material([0; 32], ExporterValue::LABEL, Some(b"")).ok().map(ExporterValue)
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
