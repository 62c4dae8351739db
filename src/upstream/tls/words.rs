//! What the TLS library found wrong, in words: its own are names of Rust's, which an operator can't look up.
//!
//! Pure. What has no words of its own here is told by its kind; never: a text made by `Debug`.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "rustls's enums are non-exhaustive; what we don't name is told by its kind"
)]

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, OtherError, PeerIncompatible};

use super::super::attempt::TlsCause;
use super::super::dane::DaneFault;
use super::super::verifier::NotPinned;

/// Why a handshake failed.
pub(super) fn cause(fault: &Error) -> TlsCause {
    match fault {
        Error::InvalidCertificate(why) => certificate_cause(why),
        Error::AlertReceived(alert) => match our_certificate(*alert) {
            Some(why) => TlsCause::OurCertificate(why),
            None => TlsCause::Other(alert_words(*alert)),
        },
        other => TlsCause::Other(words(other)),
    }
}

/// What is wrong, as what stands behind "no TLS: ".
pub(super) fn words(fault: &Error) -> String {
    let words = match fault {
        Error::InvalidCertificate(why) => return format!("the certificate {}", certificate_words(why)),
        Error::AlertReceived(alert) => return alert_words(*alert),
        Error::General(text) => return text.clone(),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "it does not speak TLS there, as far as its first octets tell"
        }
        Error::InvalidMessage(_) | Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
            "it said something that has no place in a TLS handshake"
        }
        Error::NoCertificatesPresented => "it showed no certificate",
        Error::PeerIncompatible(
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::Tls13RequiredForQuic
            | PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::SupportedVersionsExtensionRequired,
        ) => "it speaks neither TLS 1.2 nor TLS 1.3",
        Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon) => "it has no cipher suite that we have too",
        Error::PeerIncompatible(_) => {
            "its TLS and ours have nothing in common (cipher suite, key exchange or signature)"
        }
        Error::PeerMisbehaved(_) => "it breaks the rules of the TLS handshake",
        Error::PeerSentOversizedRecord | Error::DecryptError => {
            "what it sent was damaged on the way or is no TLS record"
        }
        Error::NoApplicationProtocol => "it wants another application protocol (ALPN)",
        Error::FailedToGetCurrentTime => "this machine does not know what time it is",
        Error::FailedToGetRandomBytes => "this machine gives no random numbers",
        Error::InconsistentKeys(_) => "the key is not the certificate's",
        _ => "the handshake could not be completed",
    };
    words.to_owned()
}

/// What an alert says of the certificate that we showed (RFC 8446 §6.2).
fn our_certificate(alert: AlertDescription) -> Option<&'static str> {
    Some(match alert {
        AlertDescription::CertificateRequired | AlertDescription::NoCertificate => "it wants one, and none was shown",
        AlertDescription::BadCertificate => "it takes it for malformed or wrongly signed",
        AlertDescription::UnsupportedCertificate => "it can't use one of this kind",
        AlertDescription::CertificateRevoked => "it takes it for revoked",
        AlertDescription::CertificateExpired => "it takes it for out of date",
        AlertDescription::CertificateUnknown => "it does not accept it, and says no more",
        AlertDescription::UnknownCA => "it does not trust the CA that issued it",
        AlertDescription::AccessDenied => "it is known to it, and has no access",
        _ => return None,
    })
}

/// RFC 8446 §6.
fn alert_words(alert: AlertDescription) -> String {
    let words = match alert {
        AlertDescription::HandshakeFailure => {
            "it found no cipher suite, key exchange or signature in common (alert handshake_failure)"
        }
        AlertDescription::InsufficientSecurity => {
            "it wants stronger cryptography than we offer (alert insufficient_security)"
        }
        AlertDescription::ProtocolVersion => "it speaks neither TLS 1.2 nor TLS 1.3 (alert protocol_version)",
        AlertDescription::UnrecognisedName => "it knows no server of that name (alert unrecognized_name)",
        AlertDescription::InternalError => "it had a fault of its own (alert internal_error)",
        AlertDescription::NoApplicationProtocol => {
            "it wants another application protocol (alert no_application_protocol)"
        }
        AlertDescription::UserCanceled | AlertDescription::CloseNotify => "it ended the handshake (alert close_notify)",
        other => return format!("it ended the handshake with alert {} of RFC 8446 §6", u8::from(other)),
    };
    words.to_owned()
}

/// The names of a certificate as the library shows them, `DnsName("mail.example.com")`, as people write them.
fn names_shown(presented: &[String]) -> String {
    let plain = |name: &String| {
        let quoted = name.strip_prefix("DnsName(\"").and_then(|rest| rest.strip_suffix("\")"));
        quoted.unwrap_or(name).to_owned()
    };
    if presented.is_empty() {
        "it names none".to_owned()
    } else {
        presented.iter().map(plain).collect::<Vec<_>>().join(", ")
    }
}

fn certificate_cause(why: &CertificateError) -> TlsCause {
    match why {
        CertificateError::NotValidForName => TlsCause::WrongName("not the configured one".to_owned()),
        CertificateError::NotValidForNameContext { presented, .. } => TlsCause::WrongName(names_shown(presented)),
        // A CA of the same name with another key gives BadSignature.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => TlsCause::Untrusted,
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => TlsCause::OutOfTime,
        CertificateError::Revoked => TlsCause::Revoked,
        CertificateError::Other(other) => {
            ours(other).unwrap_or_else(|| TlsCause::Other(format!("its certificate {}", path_words(other))))
        }
        other => TlsCause::Other(format!("its certificate {}", certificate_words(other))),
    }
}

/// What our own judges say: pins, TLSA records.
fn ours(other: &OtherError) -> Option<TlsCause> {
    let pinned = other.0.downcast_ref::<NotPinned>().map(|shown| TlsCause::NotPinned(shown.0.clone()));
    pinned.or_else(|| other.0.downcast_ref::<DaneFault>().map(|fault| TlsCause::Dane(*fault)))
}

/// What stands behind "its certificate".
fn certificate_words(why: &CertificateError) -> &'static str {
    match why {
        CertificateError::BadEncoding => "is malformed",
        CertificateError::UnhandledCriticalExtension => "has a critical extension that is unknown here",
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "or one of its chain is signed in a way that is not taken (SHA-1, or a key that is too short)"
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "is not one for servers (extended key usage serverAuth)"
        }
        CertificateError::Other(other) => path_words(other),
        _ => "does not satisfy RFC 5280",
    }
}

/// What webpki says, which rustls hands on as it is.
fn path_words(other: &OtherError) -> &'static str {
    match other.0.downcast_ref::<webpki::Error>() {
        Some(webpki::Error::CaUsedAsEndEntity) => "is a CA's own, which is not taken as a server's",
        Some(webpki::Error::EndEntityUsedAsCa) => "is issued by one that is no CA's",
        Some(webpki::Error::NameConstraintViolation) => "carries a name that its CA may not certify (name constraints)",
        Some(webpki::Error::PathLenConstraintViolated) => "has more CAs above it than they permit (path length)",
        Some(webpki::Error::UnsupportedCertVersion) => "is not of X.509 version 3",
        Some(webpki::Error::InvalidSerialNumber) => "has a serial number that RFC 5280 does not allow",
        Some(webpki::Error::EmptyEkuExtension) => "states purposes and names none",
        _ => "does not satisfy RFC 5280",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::PeerMisbehaved;

    use super::*;

    #[test]
    fn what_is_common_is_told_in_words_with_a_remedy_that_fits() {
        let other =
            |fault: webpki::Error| Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(fault))));
        for (fault, told) in [
            (Error::AlertReceived(AlertDescription::HandshakeFailure), "it found no cipher suite"),
            (Error::AlertReceived(AlertDescription::UnknownCA), "our certificate is refused: it does not trust the CA"),
            (
                Error::AlertReceived(AlertDescription::RecordOverflow),
                "it ended the handshake with alert 22 of RFC 8446",
            ),
            (Error::InvalidMessage(InvalidMessage::InvalidContentType), "it does not speak TLS there"),
            (
                Error::InvalidCertificate(CertificateError::UnknownIssuer),
                "its certificate is not issued by a CA trusted",
            ),
            (Error::InvalidCertificate(CertificateError::InvalidPurpose), "its certificate is not one for servers"),
            (other(webpki::Error::CaUsedAsEndEntity), "its certificate is a CA's own"),
            (
                other(webpki::Error::TrailingData(webpki::DerTypeId::Certificate)),
                "its certificate does not satisfy RFC 5280",
            ),
            (Error::PeerMisbehaved(PeerMisbehaved::TooMuchEarlyDataReceived), "it breaks the rules"),
            (Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13), "it speaks neither TLS 1.2"),
        ] {
            let said = cause(&fault).to_string();
            assert!(said.starts_with(told), "{said}");
            assert!(!said.contains(['{', '(']) || !said.contains("Error"), "{said}");
        }
    }

    #[test]
    fn no_alert_is_told_by_a_name_of_rusts() {
        for number in 0..=u8::MAX {
            let said = cause(&Error::AlertReceived(AlertDescription::from(number))).to_string();
            let camel = said.split(' ').any(|word| {
                word.len() > 4
                    && word.chars().skip(1).any(|one| one.is_ascii_uppercase())
                    && word.chars().any(|one| one.is_ascii_lowercase())
            });
            assert!(!camel, "{number}: {said}");
        }
    }
}
