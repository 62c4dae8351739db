//! Pins: the very certificate, or the very key, that an upstream must show.
//!
//! Written as `sha256/` and a digest, in base64 as browsers and curl write it, or in hexadecimal as OpenSSL does; of the certificate or of its
//! SubjectPublicKeyInfo, as one has it: two things that a digest could be of are no ambiguity, since nobody finds one of the other. Pure.
//! Never: takes a pin for anything but the leaf.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Octets of a digest.
const OCTETS: usize = 32;

/// The digest of a certificate or of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pin([u8; OCTETS]);

impl Pin {
    /// The pin of a certificate's key, the one to write: it lives through renewals with the same key. `None` when it can't be read.
    pub fn of_key(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        Some(Self(Sha256::digest(parsed.public_key().raw).into()))
    }

    /// Whether this is the certificate, or has the key, that is meant.
    pub fn is_of(&self, certificate: &CertificateDer<'_>) -> bool {
        let whole: [u8; OCTETS] = Sha256::digest(certificate).into();
        self.0 == whole || Self::of_key(certificate) == Some(*self)
    }

    /// The digest's octets.
    pub const fn octets(&self) -> &[u8; OCTETS] {
        &self.0
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256/{}", BASE64.encode(self.0))
    }
}

/// The text is no pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "write \"sha256/\" and the SHA-256 of the certificate or of its public key, in base64 or hexadecimal; sealpost shows the key's when it does not match"
)]
pub struct NotAPin;

impl FromStr for Pin {
    type Err = NotAPin;

    fn from_str(text: &str) -> Result<Self, NotAPin> {
        let digest = text.strip_prefix("sha256/").ok_or(NotAPin)?;
        let octets = BASE64.decode(digest).ok().filter(|octets| octets.len() == OCTETS).or_else(|| hexadecimal(digest));
        octets.and_then(|octets| octets.try_into().ok()).map(Self).ok_or(NotAPin)
    }
}

/// Hexadecimal digits, in pairs with or without colons between.
fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digits: String = text.chars().filter(|letter| *letter != ':').collect();
    if digits.len() != 2 * OCTETS || !digits.is_ascii() {
        return None;
    }
    digits
        .as_bytes()
        .chunks(2)
        .map(|pair| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_read_in_both_spellings() {
        let base64 = "sha256/AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        let pin: Pin = base64.parse().unwrap();
        assert_eq!(pin.to_string(), base64);
        for other in [
            "sha256/000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
            "sha256/00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F",
        ] {
            assert_eq!(other.parse(), Ok(pin), "{other}");
        }
        for wrong in [
            "",
            "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
            "sha1/AAECAwQFBgcICQoLDA0ODxAREhM=",
            "sha256/",
            "sha256/AAEC",
            "sha256/0001",
            "sha256/zz0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
        ] {
            assert_eq!(wrong.parse::<Pin>(), Err(NotAPin), "{wrong}");
        }
    }

    #[test]
    fn a_pin_is_of_a_certificate_or_of_its_key() {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = |name: &str| {
            rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap().der().clone()
        };
        let (one, renewed) = (certificate("a.example"), certificate("b.example"));
        let whole = Pin(Sha256::digest(&one).into());
        assert!(whole.is_of(&one) && !whole.is_of(&renewed));
        let of_key = Pin::of_key(&one).unwrap();
        assert!(of_key.is_of(&one) && of_key.is_of(&renewed));
        assert!(!Pin([0; OCTETS]).is_of(&one) && !of_key.is_of(&CertificateDer::from(vec![1, 2, 3])));
    }
}
