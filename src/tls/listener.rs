//! The rustls configuration of a listener.
//!
//! aws-lc-rs; X25519MLKEM768 first; TLS 1.2 and 1.3; server certificates by SNI (RFC 6066 §3); the client's certificate asked for, with the
//! names of the CAs as hints.
//!
//! A client that says by ALPN what it wants to speak (RFC 7301) is taken only if SMTP is among it: a web page can send its reader's browser, which holds a
//! certificate, to any port, and the browser names HTTP (RFC 9325 §3.8). Who names nothing is taken: so do nearly all programs that send mail.
//!
//! No resumption, ever: rustls restores the peer's certificates on resumption without asking the verifier, so a revoked client would come
//! back in. No session store, no tickets, no early data; a full handshake costs a third of a millisecond.
//!
//! In reply and defer mode the handshake checks possession of the key only ([`PossessionOnly`]) and `tls::judge` is called after it, so that a
//! refusal can be told in words (RFC 3207 §4.1). In alert mode `tls::judge` is called inside the handshake (`JudgedInHandshake`). Where load balancers
//! vouch for their clients, the handshake is theirs, and only those that are pinned get through it (`PinnedBalancers`).
//!
//! Never: opens a file; waits. Building fails with a [`ListenerFault`] that names the certificate and the remedy.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, ServerConfig, ServerConnection};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, InconsistentKeys, OtherError, ProtocolVersion,
    SignatureScheme, SupportedProtocolVersion,
};

use super::rejection::{Flaw, Rejection};
use super::trust::Trust;
use super::verify::{CHAIN_CERTIFICATES_MAX, judge_asking, usable_in_handshake};
use super::vouched::{Balancer, BalancerFault, BalancerPins};
use super::{CertificateFault, PeerChain};
use crate::credentials::ExporterValue;
use crate::identity::facts::CertificateFacts;
use crate::mail::registered_cipher;
use crate::sys::{Clock, WallTime};

/// The name by which clients ask for SMTP. There is none in IANA's registry, which has imap, pop3 and managesieve; those that send any send this one.
const PROTOCOL: &[u8] = b"smtp";

/// The oldest TLS taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MinVersion {
    /// TLS 1.2 and 1.3.
    #[default]
    Tls12,
    /// TLS 1.3 only.
    Tls13,
}

/// How a client without a good certificate is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RefusalMode {
    /// The handshake completes; everything but QUIT is answered by one 554 with the cause.
    #[default]
    Reply,
    /// The handshake completes; 421 with the same text.
    Defer,
    /// The handshake fails with an alert.
    Alert,
}

/// One certificate of the server's, with its key.
#[derive(Debug)]
pub struct ServerCertificate {
    /// Its name for people: the file it was read from.
    pub place: String,
    /// Leaf first, then the intermediates.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key.
    pub key: PrivateKeyDer<'static>,
}

impl Clone for ServerCertificate {
    fn clone(&self) -> Self {
        Self { place: self.place.clone(), chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

/// What a listener's TLS is made from.
#[derive(Clone, Debug)]
pub struct ListenerTls {
    /// The first is shown to clients that ask for no name or an unknown one.
    pub certificates: Vec<ServerCertificate>,
    /// The oldest TLS taken.
    pub min_version: MinVersion,
    /// How a client without a good certificate is told.
    pub refusal: RefusalMode,
}

/// A listener that can't speak TLS.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListenerFault {
    /// None configured.
    #[error("no server certificate is configured; name one in tls.certificate with its tls.private_key")]
    NoCertificate,
    /// The key belongs to another certificate.
    #[error("it is not the key of the certificate {place}; name the key that this certificate was issued for")]
    KeyMismatch {
        /// Which one.
        place: String,
    },
    /// A key of a kind that rustls does not sign with.
    #[error(
        "{place}: the private key is of a kind that TLS cannot use; use ECDSA (P-256, P-384, P-521), Ed25519 or RSA from 2048 bits"
    )]
    UnusableKey {
        /// Which one.
        place: String,
    },
    /// X.509 version 1 or 2.
    #[error(
        "{place}: the certificate is X.509 version 1 or 2, and TLS takes version 3 only; have it issued again with extensions (a subjectAltName)"
    )]
    OldVersion {
        /// Which one.
        place: String,
    },
    /// The certificate cannot be read.
    #[error("{place}: the certificate is malformed; export it again, leaf first, as PEM")]
    MalformedCertificate {
        /// Which one.
        place: String,
    },
    /// The TLS library refuses the whole.
    #[error("TLS cannot be set up: {0}")]
    Unsupported(String),
}

impl ListenerTls {
    /// Makes the configuration. `clock` is asked in alert mode, where the judging happens inside the handshake.
    pub fn server_config(
        &self,
        trust: &Arc<Trust>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Arc<ServerConfig>, ListenerFault> {
        let provider = Arc::new(provider());
        let possession = PossessionOnly { hints: trust.hints(), provider: Arc::clone(&provider) };
        let verifier: Arc<dyn ClientCertVerifier> = match self.refusal {
            RefusalMode::Reply | RefusalMode::Defer => Arc::new(possession),
            RefusalMode::Alert => {
                Arc::new(JudgedInHandshake { possession, trust: Arc::clone(trust), clock: Arc::clone(clock) })
            }
        };
        self.config_with(provider, verifier, vec![PROTOCOL.to_vec()])
    }

    /// Makes the configuration of a listener where load balancers alone connect, those that are pinned: a handshake with anybody else fails.
    pub fn balanced_config(
        &self,
        pins: &BalancerPins,
        clock: &Arc<dyn Clock>,
    ) -> Result<Arc<ServerConfig>, ListenerFault> {
        let provider = Arc::new(provider());
        let possession = PossessionOnly { hints: Vec::new(), provider: Arc::clone(&provider) };
        let verifier = PinnedBalancers { possession, pins: pins.clone(), clock: Arc::clone(clock) };
        // What a balancer names of itself says nothing of its client; it refuses browsers, or its client's first line does.
        self.config_with(provider, Arc::new(verifier), Vec::new())
    }

    fn config_with(
        &self,
        provider: Arc<CryptoProvider>,
        verifier: Arc<dyn ClientCertVerifier>,
        protocols: Vec<Vec<u8>>,
    ) -> Result<Arc<ServerConfig>, ListenerFault> {
        let certificates = CertificatesByName::new(&self.certificates, &provider)?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&self.versions())
            .map_err(|fault| ListenerFault::Unsupported(fault.to_string()))?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(certificates));
        // Resumption is on by default, twice over.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        config.alpn_protocols = protocols;
        Ok(Arc::new(config))
    }

    fn versions(&self) -> Vec<&'static SupportedProtocolVersion> {
        match self.min_version {
            MinVersion::Tls12 => vec![&rustls::version::TLS13, &rustls::version::TLS12],
            MinVersion::Tls13 => vec![&rustls::version::TLS13],
        }
    }
}

/// aws-lc-rs with the key exchanges in our order: the post-quantum hybrid first.
pub(crate) fn provider() -> CryptoProvider {
    use aws_lc_rs::kx_group::{SECP256R1, SECP384R1, X25519, X25519MLKEM768};
    CryptoProvider { kx_groups: vec![X25519MLKEM768, X25519, SECP256R1, SECP384R1], ..aws_lc_rs::default_provider() }
}

/// The server's certificates by the names they are for.
#[derive(Debug)]
struct CertificatesByName {
    /// `mail.example.com`, or `*.example.com` for one label. Several under a name: an ECDSA and an RSA one.
    by_name: HashMap<String, Vec<Arc<CertifiedKey>>>,
    default: Vec<Arc<CertifiedKey>>,
}

impl CertificatesByName {
    fn new(certificates: &[ServerCertificate], provider: &CryptoProvider) -> Result<Self, ListenerFault> {
        let mut by_name: HashMap<String, Vec<Arc<CertifiedKey>>> = HashMap::new();
        let mut default = Vec::new();
        for certificate in certificates {
            let key = Arc::new(certified(certificate, provider)?);
            for name in server_names(certificate)? {
                by_name.entry(name).or_default().push(Arc::clone(&key));
            }
            default.push(key);
        }
        if default.is_empty() { Err(ListenerFault::NoCertificate) } else { Ok(Self { by_name, default }) }
    }

    fn named(&self, name: &str) -> Option<&Vec<Arc<CertifiedKey>>> {
        let name = name.to_ascii_lowercase();
        self.by_name.get(&name).or_else(|| {
            // RFC 6125 §6.4.3: a wildcard is the whole left-most label.
            let (_, parent) = name.split_once('.')?;
            self.by_name.get(&format!("*.{parent}"))
        })
    }
}

impl ResolvesServerCert for CertificatesByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let usable = |keys: &Vec<Arc<CertifiedKey>>| {
            keys.iter().find(|key| key.key.choose_scheme(hello.signature_schemes()).is_some()).cloned()
        };
        hello.server_name().and_then(|name| self.named(name)).and_then(usable).or_else(|| usable(&self.default))
    }
}

fn certified(certificate: &ServerCertificate, provider: &CryptoProvider) -> Result<CertifiedKey, ListenerFault> {
    let place = certificate.place.clone();
    let key = certificate.key.clone_key();
    CertifiedKey::from_der(certificate.chain.clone(), key, provider).map_err(|fault| {
        if is_of_old_version(certificate) {
            ListenerFault::OldVersion { place }
        } else if fault == rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) {
            ListenerFault::KeyMismatch { place }
        } else if matches!(fault, rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) {
            ListenerFault::MalformedCertificate { place }
        } else {
            // What is left is about the key; rustls tells the kinds apart in words only.
            ListenerFault::UnusableKey { place }
        }
    })
}

fn is_of_old_version(certificate: &ServerCertificate) -> bool {
    let leaf = certificate.chain.first().map(webpki::EndEntityCert::try_from);
    leaf.is_some_and(|read| matches!(read, Err(webpki::Error::UnsupportedCertVersion)))
}

impl ListenerFault {
    /// Whether the certificate is to blame, not its key.
    pub fn is_of_certificate(&self) -> bool {
        match self {
            Self::NoCertificate | Self::OldVersion { .. } | Self::MalformedCertificate { .. } => true,
            Self::KeyMismatch { .. } | Self::UnusableKey { .. } | Self::Unsupported(_) => false,
        }
    }
}

/// The dNSNames of the leaf, wildcards included.
fn server_names(certificate: &ServerCertificate) -> Result<Vec<String>, ListenerFault> {
    let malformed = || ListenerFault::MalformedCertificate { place: certificate.place.clone() };
    let leaf = certificate.chain.first().ok_or_else(malformed)?;
    let read = webpki::EndEntityCert::try_from(leaf).map_err(|_| malformed())?;
    CertificateFacts::of(leaf).map_err(|_| malformed())?;
    Ok(read.valid_dns_names().map(str::to_ascii_lowercase).collect())
}

/// Proves that the client holds the key of the certificate it shows, and nothing else: no issuer, date, purpose or revocation is looked at.
/// Whoever uses this must ask `tls::judge` afterwards; a client without a certificate gets through the handshake too.
pub struct PossessionOnly {
    hints: Vec<DistinguishedName>,
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for PossessionOnly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PossessionOnly").field("hints", &self.hints.len()).finish_non_exhaustive()
    }
}

impl ClientCertVerifier for PossessionOnly {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _others: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        // rustls would end the handshake a moment later, in words of its own.
        usable_in_handshake(leaf).map_err(refused)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, leaf, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, leaf, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Alert mode: the one judge_asking, asked inside the handshake; without a good certificate there is no connection.
#[derive(Debug)]
struct JudgedInHandshake {
    possession: PossessionOnly,
    trust: Arc<Trust>,
    clock: Arc<dyn Clock>,
}

impl ClientCertVerifier for JudgedInHandshake {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.possession.root_hint_subjects()
    }

    /// rustls's own time is not used: the clock is the one the rest of the program goes by.
    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        // One more than may be, so that the judge sees that there are too many.
        let shown = std::iter::once(leaf).chain(others).take(CHAIN_CERTIFICATES_MAX.saturating_add(1));
        let chain = PeerChain(shown.map(|der| der.clone().into_owned()).collect());
        // Nobody can wait for an OCSP responder here. What only wants its answer passes; the session's first judgement asks, and a refusal is a reply.
        match judge_asking(&chain, &self.trust, &|_| None, self.clock.now().wall) {
            Ok(_) => Ok(ClientCertVerified::assertion()),
            Err(rejection) if rejection.query.is_some() => Ok(ClientCertVerified::assertion()),
            Err(rejection) => Err(refused(rejection)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.possession.verify_tls12_signature(message, leaf, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.possession.verify_tls13_signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.possession.supported_verify_schemes()
    }
}

/// Only load balancers that are pinned get through the handshake. They have no CA: the pin is all the trust there is.
#[derive(Debug)]
struct PinnedBalancers {
    possession: PossessionOnly,
    pins: BalancerPins,
    clock: Arc<dyn Clock>,
}

impl ClientCertVerifier for PinnedBalancers {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.possession.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _others: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        match self.pins.admit(leaf, self.clock.now().wall) {
            Ok(_) => Ok(ClientCertVerified::assertion()),
            Err(fault) => Err(CertificateError::Other(OtherError(Arc::new(fault))).into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.possession.verify_tls12_signature(message, leaf, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.possession.verify_tls13_signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.possession.supported_verify_schemes()
    }
}

/// Why a handshake with no load balancer of the listener's failed, when the error carries it.
pub fn balancer_fault_of(error: &rustls::Error) -> Option<&BalancerFault> {
    let rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) = error else { return None };
    inner.downcast_ref()
}

/// The load balancer at the other end, once the handshake is complete and the key of its certificate is proved.
///
/// # Errors
/// It is none of those that are pinned, whatever let it through the handshake.
pub fn balancer(connection: &ServerConnection, pins: &BalancerPins, now: WallTime) -> Result<Balancer, BalancerFault> {
    let PeerChain(shown) = peer_chain(connection).ok_or(BalancerFault::NoCertificate)?;
    pins.admit(shown.first().ok_or(BalancerFault::NoCertificate)?, now)
}

tokio::task_local! {
    /// Why a certificate was refused in the handshake of this task.
    static REFUSED: RefCell<Option<Rejection>>;
}

/// Does a handshake, and tells why a certificate was refused in it: most alerts have no room for that, and rustls's error is the alert.
pub async fn telling<F: Future>(handshake: F) -> (F::Output, Option<Rejection>) {
    let both = async {
        let outcome = handshake.await;
        (outcome, REFUSED.with(RefCell::take))
    };
    REFUSED.scope(RefCell::default(), both).await
}

/// The error for the client; the whole reason stays for [`telling`].
fn refused(rejection: Rejection) -> rustls::Error {
    // Without a task around it nobody asks.
    let _ = REFUSED.try_with(|kept| kept.replace(Some(rejection.clone())));
    rustls::Error::InvalidCertificate(alert(rejection))
}

/// The rustls error by which the client gets the alert that fits best (RFC 8446 §6.2). Where several causes share an alert, the rejection
/// travels along ([`rejection_of`]).
fn alert(rejection: Rejection) -> CertificateError {
    match (&rejection.fault, rejection.flaw) {
        (CertificateFault::Expired { .. }, _) => CertificateError::Expired,
        (CertificateFault::NotYetValid { .. }, _) => CertificateError::NotValidYet,
        (CertificateFault::Revoked, _) => CertificateError::Revoked,
        (CertificateFault::RevocationUnknown, _) => CertificateError::UnknownRevocationStatus,
        (CertificateFault::Untrusted { .. }, Some(Flaw::UnknownIssuer | Flaw::UnknownIssuerOrGap)) => {
            CertificateError::UnknownIssuer
        }
        (CertificateFault::Untrusted { .. }, _) => CertificateError::Other(OtherError(Arc::new(rejection))),
    }
}

/// Why the judge refused in alert mode, when the handshake's error carries it.
pub fn rejection_of(error: &rustls::Error) -> Option<&Rejection> {
    let rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) = error else { return None };
    inner.downcast_ref()
}

/// The certificates a client has shown, once its handshake is complete and the leaf's key is proved; none when it showed none.
pub fn peer_chain(connection: &ServerConnection) -> Option<PeerChain> {
    if connection.is_handshaking() {
        return None;
    }
    let shown = connection.peer_certificates().filter(|shown| !shown.is_empty())?;
    Some(PeerChain(shown.iter().map(|der| der.clone().into_owned()).collect()))
}

/// What was agreed on, in the names of the IANA registries; for the Received field and the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// `TLSv1.3`, `TLSv1.2`.
    pub version: &'static str,
    /// `TLS_AES_256_GCM_SHA384`.
    pub cipher: String,
    /// `X25519MLKEM768`.
    pub key_exchange: Option<&'static str>,
}

/// What was agreed on; none while the handshake runs.
pub fn negotiated(connection: &ServerConnection) -> Option<Negotiated> {
    // Listeners offer these two only.
    let version = if connection.protocol_version()? == ProtocolVersion::TLSv1_3 { "TLSv1.3" } else { "TLSv1.2" };
    let cipher = connection.negotiated_cipher_suite()?.suite().as_str().map(registered_cipher)?;
    let key_exchange = connection.negotiated_key_exchange_group().and_then(|group| group.name().as_str());
    Some(Negotiated { version, cipher, key_exchange })
}

/// What tls-exporter gives (RFC 9266 §2). Under TLS 1.3 only: with TLS 1.2 it is bound to one connection only when the extended master secret
/// was agreed on (RFC 9266 §4.2), of which rustls does not tell, and to demand it of every client would turn old ones away.
pub fn exporter(connection: &ServerConnection) -> Option<ExporterValue> {
    if connection.protocol_version()? != ProtocolVersion::TLSv1_3 {
        return None;
    }
    connection.export_keying_material([0; 32], ExporterValue::LABEL, Some(b"")).ok().map(ExporterValue)
}

#[cfg(test)]
mod tests;
