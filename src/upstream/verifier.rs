//! What is demanded of the certificate in a handshake with an upstream, where it is not the usual way of a CA and a name.
//!
//! Whoever answers must always hold the certificate's key: the signature of the handshake is checked in each case.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, OtherError, SignatureScheme};

use super::dane::{self, Tlsa};
use super::pin::Pin;

/// How a certificate is judged.
#[derive(Debug)]
pub(super) enum Judge {
    /// Any: for `require` and `opportunistic`, which say so in the table of `tls`.
    Anybody,
    /// One of these, and what the inner judge says, where there is one.
    Pinned(Vec<Pin>, Option<Arc<dyn ServerCertVerifier>>),
    /// What TLSA records say, and the names that may stand in it.
    Records(Vec<Tlsa>, Vec<ServerName<'static>>),
}

/// A judge, and the signatures that it takes.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) judge: Judge,
    pub(super) provider: Arc<CryptoProvider>,
}

/// The certificate is another than those that are pinned.
#[derive(Clone, Debug, thiserror::Error)]
#[error("its key is {0}, and not pinned")]
pub(super) struct NotPinned(pub(super) String);

impl Verifier {
    fn is_pinned(pins: &[Pin], leaf: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        if pins.iter().any(|pin| pin.is_of(leaf)) {
            return Ok(());
        }
        let shown = Pin::of_key(leaf).map_or_else(|| "unreadable".to_owned(), |pin| pin.to_string());
        Err(CertificateError::Other(OtherError(Arc::new(NotPinned(shown)))).into())
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.judge {
            Judge::Anybody => Ok(ServerCertVerified::assertion()),
            Judge::Records(records, names) => {
                let chain: Vec<CertificateDer<'_>> = std::iter::once(leaf).chain(intermediates).cloned().collect();
                dane::judge(records, &chain, names, now)
                    .map(|_| ServerCertVerified::assertion())
                    .map_err(|fault| CertificateError::Other(OtherError(Arc::new(fault))).into())
            }
            Judge::Pinned(pins, None) => Self::is_pinned(pins, leaf).map(|()| ServerCertVerified::assertion()),
            Judge::Pinned(pins, Some(inner)) => {
                Self::is_pinned(pins, leaf)?;
                inner.verify_server_cert(leaf, intermediates, name, ocsp, now)
            }
        }
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
