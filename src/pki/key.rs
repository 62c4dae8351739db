//! Keys of new certificates, and requests for a certificate of a key that somebody else holds (RFC 2986).
//!
//! Of a request only the public key is taken, after its signature has shown that the sender holds the other half. The names in it are shown to
//! the operator, never taken over. Never: makes a key shorter than the relay accepts.

use rcgen::{KeyPair, PKCS_RSA_SHA256, PublicKeyData as _, RsaKeySize, SubjectPublicKeyInfo};
use rustls::pki_types::PrivatePkcs8KeyDer;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;

use super::PkiError;

/// The longest request that is read, octets.
pub const REQUEST_MAX: usize = 64 * 1024;
/// Bits of the shortest RSA key that is certified; the relay's judge refuses shorter ones.
const RSA_BITS_MIN: usize = 2048;
/// Bits of the longest, for the same reason.
const RSA_BITS_MAX: usize = 8192;

/// What kind of key is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum KeyKind {
    /// ECDSA on P-256: fast, and every mail program can use it.
    #[default]
    P256,
    /// Ed25519: as fast; Windows, Apple and NSS programs can't use it.
    Ed25519,
    /// RSA of 3072 bits, for programs and smart cards that know nothing else.
    Rsa,
}

impl KeyKind {
    /// Makes one.
    pub(super) fn generate(self) -> Result<KeyPair, PkiError> {
        match self {
            Self::P256 => Ok(KeyPair::generate()?),
            Self::Rsa => Ok(KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_3072)?),
            Self::Ed25519 => {
                // RFC 8410 §7 in its first form, without the public key: GnuTLS and others can't read the second.
                let failed = |_| PkiError::Certificate(rcgen::Error::RingUnspecified);
                let pair = aws_lc_rs::signature::Ed25519KeyPair::generate().map_err(failed)?;
                let octets = pair.to_pkcs8v1().map_err(failed)?;
                Ok(KeyPair::try_from(&PrivatePkcs8KeyDer::from(octets.as_ref()))?)
            }
        }
    }

    /// The kind of a public key; what else it may be is renewed as the default.
    pub(super) fn of(key: &SubjectPublicKeyInfo) -> Self {
        let info = key.subject_public_key_info();
        match x509_parser::x509::SubjectPublicKeyInfo::from_der(&info)
            .ok()
            .and_then(|(_, info)| info.parsed().ok().map(kind))
        {
            Some(kind) => kind,
            None if key.der_bytes().len() == ED25519_OCTETS => Self::Ed25519,
            None => Self::default(),
        }
    }
}

/// Octets of an Ed25519 public key (RFC 8032 §5.1.5).
const ED25519_OCTETS: usize = 32;

fn kind(key: PublicKey<'_>) -> KeyKind {
    match key {
        PublicKey::RSA(_) => KeyKind::Rsa,
        PublicKey::Unknown(octets) if octets.len() == ED25519_OCTETS => KeyKind::Ed25519,
        PublicKey::EC(_)
        | PublicKey::DSA(_)
        | PublicKey::GostR3410(_)
        | PublicKey::GostR3410_2012(_)
        | PublicKey::Unknown(_) => KeyKind::P256,
    }
}

/// A request for a certificate, whose signature holds.
#[derive(Clone, Debug)]
pub struct Request {
    pub(super) key: SubjectPublicKeyInfo,
    asked: Vec<String>,
}

impl Request {
    /// Reads a request, PEM or DER.
    ///
    /// # Errors
    /// [`PkiError::Request`] with what is wrong with it.
    pub fn read(octets: &[u8]) -> Result<Self, PkiError> {
        let refused = |reason: &str| PkiError::Request(reason.to_owned());
        if octets.len() > REQUEST_MAX {
            return Err(refused("it is longer than 64 KiB"));
        }
        let der = match x509_parser::pem::parse_x509_pem(octets) {
            // Microsoft's tools say NEW CERTIFICATE REQUEST.
            Ok((_, pem)) if pem.label.ends_with("CERTIFICATE REQUEST") => pem.contents,
            Ok((_, pem)) => {
                return Err(PkiError::Request(format!("it is a {:?} and no CERTIFICATE REQUEST", pem.label)));
            }
            Err(_) => octets.to_vec(),
        };
        let Ok(([], request)) = X509CertificationRequest::from_der(&der) else {
            return Err(refused("it can't be read; make one with `openssl req -new`"));
        };
        request.verify_signature().map_err(|_| {
            refused("its signature does not hold: whoever sent it has not shown that they hold the key")
        })?;
        let key = acceptable(request.certification_request_info.subject_pki.raw)?;
        Ok(Self { key, asked: asked(&request) })
    }

    /// The names that it asks for, for people.
    pub fn asked(&self) -> &[String] {
        &self.asked
    }
}

/// The public key, when the relay's judge would take it.
pub(super) fn acceptable(info: &[u8]) -> Result<SubjectPublicKeyInfo, PkiError> {
    let unsupported = || {
        PkiError::Request(
            "its key is none that the relay accepts: ECDSA on P-256, P-384 or P-521, Ed25519, or RSA".to_owned(),
        )
    };
    let key = SubjectPublicKeyInfo::from_der(info).map_err(|_| unsupported())?;
    let (_, parsed) = x509_parser::x509::SubjectPublicKeyInfo::from_der(info).map_err(|_| unsupported())?;
    if let Ok(PublicKey::RSA(rsa)) = parsed.parsed() {
        let bits = rsa.modulus.iter().skip_while(|octet| **octet == 0).count() * 8;
        if !(RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) {
            return Err(PkiError::Request(format!(
                "its RSA key has {bits} bits; the relay accepts {RSA_BITS_MIN} to {RSA_BITS_MAX}"
            )));
        }
    }
    Ok(key)
}

fn asked(request: &X509CertificationRequest<'_>) -> Vec<String> {
    let subject = format!("subject {:?}", request.certification_request_info.subject.to_string());
    let mut names = vec![subject];
    for extension in request.requested_extensions().into_iter().flatten() {
        let ParsedExtension::SubjectAlternativeName(alternatives) = extension else { continue };
        names.extend(alternatives.general_names.iter().map(|name| match name {
            GeneralName::RFC822Name(text) => format!("--email {text:?}"),
            GeneralName::DNSName(text) => format!("--dns {text:?}"),
            GeneralName::URI(text) => format!("--uri {text:?}"),
            GeneralName::OtherName(..)
            | GeneralName::X400Address(_)
            | GeneralName::DirectoryName(_)
            | GeneralName::EDIPartyName(_)
            | GeneralName::IPAddress(_)
            | GeneralName::RegisteredID(_)
            | GeneralName::Invalid(..) => "a name of another kind".to_owned(),
        }));
    }
    names
}
