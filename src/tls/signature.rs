//! Signatures over what CAs sign besides the chain that webpki checks: CRLs, and the certificates above a constrained intermediate.
//!
//! By the same algorithms as chains ([`ALGORITHMS`](super::verify::ALGORITHMS)): nothing under RSA-2048, nothing with SHA-1. Never: says who a key belongs to.

use rustls::pki_types::SignatureVerificationAlgorithm;

use super::der;

/// Why a signature is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unverified {
    /// An algorithm that is too weak, or unknown here.
    WeakKind,
    /// Not of this key, or no signature at all.
    WrongKey,
}

/// Whether `message` is signed by the key of `spki`. `behind` is what stands behind the signed part in certificates, CRLs and the answers of
/// OCSP: `AlgorithmIdentifier, BIT STRING` (RFC 5280 §4.1.1, §5.1.1), and nothing more.
pub(super) fn verify(message: &[u8], behind: &[u8], spki: &[u8]) -> Result<(), Unverified> {
    let (algorithm, signature) = algorithm_and_bits(behind).ok_or(Unverified::WrongKey)?;
    let known: Vec<&dyn SignatureVerificationAlgorithm> = super::verify::ALGORITHMS
        .iter()
        .copied()
        .filter(|known| known.signature_alg_id().as_ref() == algorithm)
        .collect();
    if known.is_empty() {
        return Err(Unverified::WeakKind);
    }
    let (key_algorithm, key) =
        der::only(spki, der::SEQUENCE).and_then(algorithm_and_bits).ok_or(Unverified::WrongKey)?;
    let mut fitting = known.iter().filter(|known| known.public_key_alg_id().as_ref() == key_algorithm);
    let verified = fitting.any(|known| known.verify_signature(key, message, signature).is_ok());
    if verified { Ok(()) } else { Err(Unverified::WrongKey) }
}

/// Whether a certificate is signed by the key of `spki`.
pub(super) fn verify_certificate(certificate: &[u8], spki: &[u8]) -> Result<(), Unverified> {
    let (signed, behind) = der::only(certificate, der::SEQUENCE).and_then(der::first).ok_or(Unverified::WrongKey)?;
    verify(signed.raw, behind, spki)
}

/// `AlgorithmIdentifier, BIT STRING`, and nothing behind: the content of the first, the octets of the second.
fn algorithm_and_bits(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let (algorithm, behind) = der::first(octets)?;
    let bits = der::only(behind, der::BIT_STRING)?;
    // The first octet of a BIT STRING counts its unused bits (X.690 §8.6.2.2): none in a key or a signature.
    let (&0, octets) = bits.split_first()? else { return None };
    Some((algorithm.content, octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_that_do_not_fill_their_octets_are_no_signature() {
        let with = |bits: &'static [u8]| [b"\x30\x01\x55".as_slice(), bits].concat();
        assert_eq!(algorithm_and_bits(&with(b"\x03\x02\x00\x80")), Some((&b"\x55"[..], &b"\x80"[..])));
        for wrong in [&b"\x03\x02\x01\x80"[..], b"\x03\x00", b"\x03\x02\x00\x80\x00", b""] {
            assert_eq!(algorithm_and_bits(&with(wrong)), None, "{wrong:?}");
        }
    }
}
