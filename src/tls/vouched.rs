//! A client's certificate that a load balancer tells of: the client's handshake was the balancer's, and so is the word that the client holds the key.
//!
//! Such a word counts at a listener that pins the balancer's own certificate, and nowhere else. The types say so: a [`VouchedChain`] is made by a
//! [`Balancer`] alone, a [`Balancer`] by a listener's [`BalancerPins`] alone, from what the other end of mutual TLS has shown us; and what the judge
//! makes of it says [`Witness::Balancer`], which the roster asks for. All else (path, dates, purposes, revocation) is judged as of any chain, and what
//! the balancer found out about it counts for nothing.
//!
//! Pure. Never: takes a balancer's word for a chain; takes a certificate of its handshake for a client's.

use std::fmt;

use rustls::pki_types::CertificateDer;

use super::view::View;
use crate::identity::facts::Digest256;
use crate::sys::WallTime;

/// The longest word of a balancer's that is kept for the log, characters.
const WORD_MAX: usize = 64;

/// Who has seen that the client holds the key of its certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Witness {
    /// We, in a handshake with the client.
    Handshake,
    /// A load balancer, whose own certificate has this SHA-256.
    Balancer(Digest256),
}

/// The certificates of load balancers whose word counts at a listener, each by the SHA-256 of the certificate or of its key. Of none, nobody's does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BalancerPins(Vec<Digest256>);

/// Why whoever is at the other end is no load balancer of this listener's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BalancerFault {
    /// It showed no certificate.
    #[error("it showed no certificate")]
    NoCertificate,
    /// What it showed is none.
    #[error("its certificate is malformed")]
    Malformed,
    /// Neither the certificate nor its key is pinned.
    #[error("its certificate, sha256/{}, is not in balancer_pin; nor is its key, sha256/{}", .fingerprint.colons(), .key.colons())]
    Unpinned {
        /// The SHA-256 of the certificate.
        fingerprint: Digest256,
        /// That of its key.
        key: Digest256,
    },
    /// Before its notBefore.
    #[error("its certificate is not valid before {}", .0.rfc3339())]
    NotYetValid(WallTime),
    /// Past its notAfter.
    #[error("its certificate has ended on {}", .0.rfc3339())]
    Expired(WallTime),
}

impl BalancerPins {
    /// These.
    pub fn new(digests: Vec<Digest256>) -> Self {
        Self(digests)
    }

    /// One of them, where there is one.
    pub fn first(&self) -> Option<Digest256> {
        self.0.first().copied()
    }

    /// Whether a load balancer with this certificate, or with this key, is one of them.
    pub fn hold(&self, fingerprint: Digest256, key: Digest256) -> bool {
        self.0.iter().any(|pin| *pin == fingerprint || *pin == key)
    }

    /// The load balancer that has shown this certificate, whose key it has proved to hold.
    ///
    /// # Errors
    /// It is none of these, or its certificate does not count now.
    pub fn admit(&self, certificate: &CertificateDer<'_>, now: WallTime) -> Result<Balancer, BalancerFault> {
        let View { fingerprint, key, not_before, not_after, .. } =
            View::of(certificate).ok_or(BalancerFault::Malformed)?;
        let balancer = Balancer { fingerprint, key, not_before, not_after };
        self.admit_again(&balancer, now)?;
        Ok(balancer)
    }

    /// Whether it is one of these still, now.
    ///
    /// # Errors
    /// Why it is not.
    pub(super) fn admit_again(&self, balancer: &Balancer, now: WallTime) -> Result<(), BalancerFault> {
        let Balancer { fingerprint, key, not_before, not_after } = balancer;
        if !self.hold(*fingerprint, *key) {
            Err(BalancerFault::Unpinned { fingerprint: *fingerprint, key: *key })
        } else if now < *not_before {
            Err(BalancerFault::NotYetValid(*not_before))
        } else if now.seconds() > not_after.seconds() {
            // RFC 5280 §4.1.2.5: the second named is within.
            Err(BalancerFault::Expired(*not_after))
        } else {
            Ok(())
        }
    }
}

/// A load balancer that has shown, in mutual TLS with us, that it is one of a listener's. Made by [`BalancerPins::admit`] only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Balancer {
    fingerprint: Digest256,
    key: Digest256,
    not_before: WallTime,
    not_after: WallTime,
}

impl Balancer {
    /// The SHA-256 of its certificate.
    pub fn fingerprint(&self) -> Digest256 {
        self.fingerprint
    }

    /// The SHA-256 of its key.
    pub fn key(&self) -> Digest256 {
        self.key
    }

    /// Until when its word counts.
    pub(super) fn good_until(&self) -> WallTime {
        self.not_after
    }

    /// The certificate of which it says that a client of its own has shown it, and holds the key.
    pub fn vouch(self, leaf: CertificateDer<'static>, told: ToldTls) -> VouchedChain {
        VouchedChain { balancer: self, certificates: [leaf], told }
    }
}

/// What a load balancer told of a client: its certificate. Balancers tell the leaf alone, so what else the chain needs must be configured.
#[derive(Clone, Debug)]
pub struct VouchedChain {
    balancer: Balancer,
    certificates: [CertificateDer<'static>; 1],
    told: ToldTls,
}

impl VouchedChain {
    /// Who told it.
    pub fn balancer(&self) -> &Balancer {
        &self.balancer
    }

    /// The client's certificate.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// What it said of the client's TLS.
    pub fn told(&self) -> &ToldTls {
        &self.told
    }
}

/// What a load balancer says of its client's TLS. For the log alone, as its word: nothing is decided by it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToldTls {
    version: Option<String>,
    cipher: Option<String>,
}

impl ToldTls {
    /// These words, as far as they are printable.
    pub fn new(version: Option<&[u8]>, cipher: Option<&[u8]>) -> Self {
        Self { version: version.map(word), cipher: cipher.map(word) }
    }
}

impl fmt::Display for ToldTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = self.version.as_deref().unwrap_or("unknown");
        match &self.cipher {
            Some(cipher) => write!(f, "{version} {cipher}"),
            None => f.write_str(version),
        }
    }
}

/// Visible ASCII, in one word.
fn word(octets: &[u8]) -> String {
    let visible = |octet: &u8| if octet.is_ascii_graphic() { char::from(*octet) } else { '?' };
    octets.iter().take(WORD_MAX).map(visible).collect()
}

#[cfg(test)]
mod tests {
    use super::super::recipe::{DAY, Made, NOW, Recipe};
    use super::*;

    fn at(seconds: i64) -> WallTime {
        WallTime::from_seconds(seconds)
    }

    fn pins(digests: &[[u8; 32]]) -> BalancerPins {
        BalancerPins::new(digests.iter().map(|digest| Digest256(*digest)).collect())
    }

    #[test]
    fn a_balancer_is_known_by_its_certificate_or_its_key_while_that_is_valid() {
        let made = |name: &str| Recipe::client(name).valid(NOW, NOW + DAY).self_signed();
        let (one, other) = (made("one"), made("other"));
        let admit =
            |pins: &BalancerPins, made: &Made, now| pins.admit(&made.der, at(now)).map(|known| known.fingerprint());
        let fingerprint = Digest256(one.fingerprint());
        for known in [pins(&[one.fingerprint()]), pins(&[other.spki(), one.spki()])] {
            for (now, said) in [
                (NOW - 1, Err(BalancerFault::NotYetValid(at(NOW)))),
                (NOW, Ok(fingerprint)),
                (NOW + DAY, Ok(fingerprint)),
                (NOW + DAY + 1, Err(BalancerFault::Expired(at(NOW + DAY)))),
            ] {
                assert_eq!(admit(&known, &one, now), said, "{now}");
            }
        }
        let unpinned =
            Err(BalancerFault::Unpinned { fingerprint: Digest256(other.fingerprint()), key: Digest256(other.spki()) });
        assert_eq!(admit(&pins(&[one.fingerprint(), one.spki()]), &other, NOW), unpinned);
        assert_eq!(admit(&BalancerPins::default(), &other, NOW), unpinned, "nobody vouches where nobody is pinned");
        let junk = CertificateDer::from(b"junk".to_vec());
        assert_eq!(pins(&[Digest256::of(b"junk").0]).admit(&junk, at(NOW)), Err(BalancerFault::Malformed));
    }

    #[test]
    fn what_is_told_of_tls_is_one_short_printable_line() {
        let long = [b'x'; 1000];
        for (version, cipher, said) in [
            (None, None, "unknown".to_owned()),
            (Some(&b"TLSv1.3"[..]), None, "TLSv1.3".to_owned()),
            (Some(b"TLSv1.3"), Some(&b"TLS_AES_128_GCM_SHA256"[..]), "TLSv1.3 TLS_AES_128_GCM_SHA256".to_owned()),
            (Some(b"a\r\n\0 \xffb"), None, "a?????b".to_owned()),
            (Some(&long), Some(&long), format!("{0} {0}", "x".repeat(WORD_MAX))),
        ] {
            assert_eq!(ToldTls::new(version, cipher).to_string(), said);
        }
    }
}
