//! Why a chain was refused: in one line for the client, with the certificate at fault for the log.
//!
//! The texts of [`Flaw`] are heard by strangers (`554 5.7.0 Client certificate not trusted: ...`): short, printable ASCII, without paths, and such
//! that somebody can act on them. Never: quotes text of a certificate into a reply; that goes into the log only, escaped.

use std::fmt;
use std::sync::Arc;

use super::CertificateFault;
use super::ocsp::Query;
use super::view::View;

/// What is wrong with a chain that is not trusted. The text goes into the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// Over [`CHAIN_CERTIFICATES_MAX`](super::verify::CHAIN_CERTIFICATES_MAX), or a path over webpki's depth.
    #[error("the chain has too many certificates")]
    TooManyCertificates,
    /// Over the limit of one certificate's octets, or of the chain's.
    #[error("the chain is too large")]
    TooLarge,
    /// Not a certificate of RFC 5280.
    #[error("malformed certificate")]
    Malformed,
    /// X.509 version 1 or 2 (RFC 5280 §4.1.2.1): TLS takes version 3 only (RFC 8446 §4.4.2.4).
    #[error("an X.509 certificate of version 1 or 2, and TLS takes version 3 only")]
    OldVersion,
    /// A serial of over 20 octets (RFC 5280 §4.1.2.2).
    #[error("the serial number is longer than 20 octets")]
    LongSerial,
    /// No issuer of ours.
    #[error("issuer is not among the CAs of this server")]
    UnknownIssuer,
    /// The leaf alone was sent, and no CA of ours has its issuer's name.
    #[error("issuer is not among the CAs of this server, or an intermediate certificate was not sent")]
    UnknownIssuerOrGap,
    /// The CA of that name did not sign it.
    #[error("not signed by the CA of that name")]
    BadSignature,
    /// SHA-1 and the like.
    #[error("signature of a weak kind")]
    WeakSignature,
    /// A short RSA key.
    #[error("RSA key under {0} bits")]
    WeakKey(usize),
    /// Neither RSA, P-256, P-384, P-521 nor Ed25519.
    #[error("its key is of a kind that is not taken here")]
    KeyKind,
    /// None of the CA's purposes in the extended key usage.
    #[error("not for client authentication (extended key usage)")]
    NotForClients,
    /// No digitalSignature in the key usage.
    #[error("its key is not for signatures (key usage)")]
    NotForSignatures,
    /// A CA certificate as a leaf.
    #[error("a CA certificate cannot be a client certificate")]
    CaAsLeaf,
    /// A CA of the chain has purposes, and client authentication is not among them.
    #[error("a CA in its chain is not for client authentication (extended key usage)")]
    CaNotForClients,
    /// A leaf or a CA without keyCertSign as an issuer.
    #[error("an issuer in its chain is not allowed to issue certificates")]
    IssuerNotACa,
    /// pathLenConstraint.
    #[error("the chain is longer than one of its CAs allows (path length)")]
    PathLength,
    /// The CA's `chain_max`.
    #[error("the chain has more than {0} certificates")]
    ChainTooLong(usize),
    /// The CA's `policies`.
    #[error("it was issued under none of the certificate policies that this server asks for")]
    Policy,
    /// Name constraints.
    #[error("its names are not permitted by the name constraints of its CA")]
    NameConstraints,
    /// E-mail name constraints of a CA that the configuration does not list, so that nobody evaluates them.
    #[error("its CA has e-mail name constraints; this server must list that CA under intermediates")]
    UnlistedConstraints,
    /// A critical extension.
    #[error("it has a critical extension that is unknown here")]
    CriticalExtension,
    /// The load balancer that told of it is not, or no longer, one of the listener's.
    #[error("the load balancer in between does not count here any more")]
    NotVouched,
    /// Anything else.
    #[error("the chain is broken")]
    Broken,
}

impl Flaw {
    /// webpki's refusal in our words.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "webpki's error is open-ended and three times as long as what a client can act on"
    )]
    pub(super) fn of(error: &webpki::Error) -> Self {
        use webpki::Error;
        match error {
            Error::UnknownIssuer => Self::UnknownIssuer,
            Error::InvalidSignatureForPublicKey | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
                Self::BadSignature
            }
            Error::UnsupportedSignatureAlgorithmContext(_) => Self::WeakSignature,
            Error::EmptyEkuExtension | Error::RequiredEkuNotFoundContext(_) => Self::CaNotForClients,
            Error::EndEntityUsedAsCa => Self::IssuerNotACa,
            Error::CaUsedAsEndEntity => Self::CaAsLeaf,
            Error::PathLenConstraintViolated => Self::PathLength,
            Error::NameConstraintViolation
            | Error::MalformedNameConstraint
            | Error::InvalidNetworkMaskConstraint
            | Error::MaximumNameConstraintComparisonsExceeded => Self::NameConstraints,
            Error::MaximumPathDepthExceeded
            | Error::MaximumPathBuildCallsExceeded
            | Error::MaximumSignatureChecksExceeded => Self::TooManyCertificates,
            Error::UnsupportedCriticalExtension => Self::CriticalExtension,
            Error::UnsupportedCertVersion => Self::OldVersion,
            Error::BadDer
            | Error::BadDerTime
            | Error::MalformedExtensions
            | Error::ExtensionValueInvalid
            | Error::SignatureAlgorithmMismatch
            | Error::TrailingData(_) => Self::Malformed,
            _ => Self::Broken,
        }
    }

    /// Whether a pin may stand in: yes when no CA of ours vouches for the certificate, no when it is beyond limits or can't be read, or when
    /// a CA of ours says that it may not have these names.
    pub(super) fn pin_may_stand_in(self) -> bool {
        match self {
            Self::TooManyCertificates
            | Self::TooLarge
            | Self::Malformed
            | Self::OldVersion
            | Self::LongSerial
            | Self::WeakKey(_)
            | Self::KeyKind
            | Self::NameConstraints
            | Self::UnlistedConstraints
            | Self::NotVouched => false,
            Self::UnknownIssuer
            | Self::UnknownIssuerOrGap
            | Self::BadSignature
            | Self::WeakSignature
            | Self::NotForClients
            | Self::NotForSignatures
            | Self::CaAsLeaf
            | Self::CaNotForClients
            | Self::IssuerNotACa
            | Self::PathLength
            | Self::ChainTooLong(_)
            | Self::Policy
            | Self::CriticalExtension
            | Self::Broken => true,
        }
    }
}

/// The certificate at fault, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Culprit {
    /// Its place: 0 the leaf, then upward; the anchor is the highest.
    pub depth: usize,
    /// Its subject for people.
    pub subject: String,
    /// Its issuer for people.
    pub issuer: String,
    /// Its serial in hexadecimal.
    pub serial: String,
    /// SHA-256 of its DER, in hexadecimal.
    pub fingerprint: String,
}

impl Culprit {
    pub(super) fn of(view: &View, depth: usize) -> Box<Self> {
        Box::new(Self {
            depth,
            subject: view.subject_text.clone(),
            issuer: view.issuer_text.clone(),
            serial: view.serial_text.clone(),
            fingerprint: view.fingerprint.to_string(),
        })
    }
}

/// Why a chain was refused: the fault for the reply, the rest for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// What the client hears.
    pub fault: CertificateFault,
    /// What is wrong, when the fault is [`CertificateFault::Untrusted`].
    pub flaw: Option<Flaw>,
    /// Which certificate, where one is to blame.
    pub culprit: Option<Box<Culprit>>,
    /// The CA under which it failed, when its names lead to one.
    pub ca: Option<Arc<str>>,
    /// What is not at hand, when revocation is unknown; for the log.
    pub lacks: Option<String>,
    /// What an OCSP responder must be asked before this can be judged; the fault is what holds until then.
    pub query: Option<Box<Query>>,
}

impl Rejection {
    pub(super) fn untrusted(flaw: Flaw, culprit: Option<Box<Culprit>>) -> Self {
        Self {
            fault: CertificateFault::Untrusted { cause: flaw.to_string() },
            flaw: Some(flaw),
            culprit,
            ca: None,
            lacks: None,
            query: None,
        }
    }

    pub(super) fn of(fault: CertificateFault, culprit: Option<Box<Culprit>>) -> Self {
        Self { fault, flaw: None, culprit, ca: None, lacks: None, query: None }
    }

    /// Of two reasons the one to tell: the one from further along the way.
    fn weight(&self) -> u8 {
        match (&self.fault, self.flaw) {
            (CertificateFault::Revoked, _) => 6,
            (CertificateFault::RevocationUnknown, _) => 5,
            (CertificateFault::Expired { .. } | CertificateFault::NotYetValid { .. }, _) => 4,
            (CertificateFault::Untrusted { .. }, Some(Flaw::UnknownIssuer | Flaw::UnknownIssuerOrGap)) => 0,
            (CertificateFault::Untrusted { .. }, Some(Flaw::BadSignature)) => 1,
            // What no pin may override outweighs what one may.
            (CertificateFault::Untrusted { .. }, Some(flaw)) if flaw.pin_may_stand_in() => 2,
            (CertificateFault::Untrusted { .. }, _) => 3,
        }
    }

    pub(super) fn heavier(self, other: Self) -> Self {
        if other.weight() > self.weight() { other } else { self }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fault.fmt(f)?;
        if let Some(lacks) = &self.lacks {
            write!(f, ": {lacks}")?;
        }
        if let Some(ca) = &self.ca {
            write!(f, "; client_ca {ca:?}")?;
        }
        if let Some(culprit) = &self.culprit {
            let Culprit { depth, subject, issuer, serial, fingerprint } = &**culprit;
            write!(f, "; certificate {depth} of the chain: subject {subject}, issuer {issuer}, serial {serial}, ")?;
            write!(f, "fingerprint {fingerprint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Rejection {}
