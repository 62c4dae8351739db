//! Signatures that were found good once, so that a client who comes again costs no second look at the same one.
//!
//! Whether a signature is good depends on the algorithm, the key, the message and the signature alone: what was good once is good always, and a
//! reload, a clock or a CRL changes nothing of it. All else of a certificate (dates, purposes, names, revocation) is judged each time, by
//! [`verify`](mod@super::verify).
//!
//! [`Readings`] are the same for what certificates say: a certificate that was part of a good chain once is not taken apart again when it is shown
//! again, octet for octet. What it says is judged each time.
//!
//! Never: holds a bad one, grows, waits for more than a copy of some octets. Nothing can fail; what is not recalled is verified, or read.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::pki_types::{AlgorithmIdentifier, CertificateDer, InvalidSignature, SignatureVerificationAlgorithm};
use sha2::{Digest as _, Sha256};

use super::view::View;
use super::ways::Link;

/// How many signatures of one CA are held: 80 KiB. Two that fall on one place take turns.
const PLACES: usize = 2048;

/// The good signatures of one CA's paths, by their digests.
pub(super) struct Recall {
    places: Box<[Mutex<[u8; 32]>]>,
}

impl Default for Recall {
    fn default() -> Self {
        Self { places: std::iter::repeat_with(Mutex::default).take(PLACES).collect() }
    }
}

impl fmt::Debug for Recall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recall").finish_non_exhaustive()
    }
}

impl Recall {
    /// The same algorithms, which verify each signature once.
    pub(super) fn over<'a>(&'a self, algorithms: &[&'a dyn SignatureVerificationAlgorithm]) -> Vec<Recalling<'a>> {
        algorithms.iter().map(|verifies| Recalling { recall: self, verifies: *verifies }).collect()
    }

    /// Where this one would stand. No digest is all zeros, as an empty place is: nobody finds what hashes to that.
    fn place(&self, digest: &[u8; 32]) -> Option<&Mutex<[u8; 32]>> {
        let [first, second, ..] = *digest;
        let number = usize::from(u16::from_be_bytes([first, second]));
        self.places.get(number % self.places.len().max(1))
    }

    fn holds(&self, digest: &[u8; 32]) -> bool {
        self.place(digest).is_some_and(|place| *place.lock().unwrap_or_else(PoisonError::into_inner) == *digest)
    }

    fn hold(&self, digest: [u8; 32]) {
        if let Some(place) = self.place(&digest) {
            *place.lock().unwrap_or_else(PoisonError::into_inner) = digest;
        }
    }
}

/// A few values by the hash of what they stand for. Whoever looks one up compares it whole: two that fall on one place take turns.
pub(crate) struct Places<T>(Box<[Mutex<Option<T>>]>);

impl<T> Places<T> {
    /// So many places, all empty.
    pub(crate) fn new(count: usize) -> Self {
        Self(std::iter::repeat_with(Mutex::default).take(count).collect())
    }

    /// The place of what `octets` stand for.
    pub(crate) fn at(&self, octets: &[u8]) -> Option<MutexGuard<'_, Option<T>>> {
        let count = u64::try_from(self.0.len()).unwrap_or(u64::MAX).max(1);
        let number = usize::try_from(xxhash_rust::xxh3::xxh3_64(octets) % count).ok()?;
        self.0.get(number).map(|place| place.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<T> fmt::Debug for Places<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Places").field(&self.0.len()).finish()
    }
}

/// How many certificates are held as they were read.
const READINGS: usize = 1024;
/// The largest of them, octets. With what it says it takes some three times as much.
const READING_OCTETS_MAX: usize = 2048;

/// What certificates say that were part of good chains.
#[derive(Debug)]
pub(super) struct Readings(Places<Link>);

impl Default for Readings {
    fn default() -> Self {
        Self(Places::new(READINGS))
    }
}

impl Readings {
    /// What this certificate says, when it is held.
    pub(super) fn of(&self, der: &CertificateDer<'_>) -> Option<Arc<View>> {
        self.0.at(der)?.as_ref().filter(|held| held.der == *der).map(|held| Arc::clone(&held.view))
    }

    /// Holds these from now on.
    pub(super) fn hold(&self, links: &[Link]) {
        for link in links.iter().filter(|link| link.der.len() <= READING_OCTETS_MAX) {
            let Some(mut place) = self.0.at(&link.der) else { continue };
            if !place.as_ref().is_some_and(|held| Arc::ptr_eq(&held.view, &link.view)) {
                *place = Some(link.clone());
            }
        }
    }
}

/// One algorithm, which recalls what it found good.
#[derive(Debug)]
pub(super) struct Recalling<'a> {
    recall: &'a Recall,
    verifies: &'a dyn SignatureVerificationAlgorithm,
}

impl SignatureVerificationAlgorithm for Recalling<'_> {
    fn verify_signature(&self, public_key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        let digest = self.digest(public_key, message, signature);
        if self.recall.holds(&digest) {
            return Ok(());
        }
        self.verifies.verify_signature(public_key, message, signature)?;
        self.recall.hold(digest);
        Ok(())
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.verifies.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.verifies.signature_alg_id()
    }

    fn fips(&self) -> bool {
        self.verifies.fips()
    }
}

impl Recalling<'_> {
    /// Of all that the answer depends on, each part behind its length, so that no octet can move from one into the next.
    fn digest(&self, public_key: &[u8], message: &[u8], signature: &[u8]) -> [u8; 32] {
        let (key_kind, kind) = (self.public_key_alg_id(), self.signature_alg_id());
        let mut sum = Sha256::new();
        for part in [key_kind.as_ref(), kind.as_ref(), public_key, message, signature] {
            sum.update(part.len().to_be_bytes());
            sum.update(part);
        }
        sum.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::recipe::Recipe;
    use super::*;

    /// Certificates have places by their hash, and two may have one.
    #[test]
    fn a_certificate_that_falls_on_the_place_of_another_is_not_taken_for_it() {
        let readings = Readings(Places::new(1));
        let link = |name: &str| {
            let made = Recipe::client(name).self_signed();
            Link { view: Arc::new(View::of(&made.der).unwrap()), der: made.der }
        };
        let all = ["Alice", "Bob", "Alice"].map(link);
        for (number, one) in all.iter().enumerate() {
            readings.hold(std::slice::from_ref(one));
            let found: Vec<Option<bool>> =
                all.iter().map(|other| Some(Arc::ptr_eq(&readings.of(&other.der)?, &other.view))).collect();
            let expected: Vec<Option<bool>> = (0..all.len()).map(|other| (other == number).then_some(true)).collect();
            assert_eq!(found, expected, "{number}");
        }
    }

    /// Takes every signature that is its message backwards, under a key that is not empty, and counts how often it is asked.
    #[derive(Debug, Default)]
    struct Backwards(AtomicUsize);

    impl SignatureVerificationAlgorithm for Backwards {
        fn verify_signature(&self, key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
            self.0.fetch_add(1, Ordering::Relaxed);
            let good = !key.is_empty() && signature.iter().rev().eq(message);
            if good { Ok(()) } else { Err(InvalidSignature) }
        }

        fn public_key_alg_id(&self) -> AlgorithmIdentifier {
            AlgorithmIdentifier::from_slice(b"key")
        }

        fn signature_alg_id(&self) -> AlgorithmIdentifier {
            AlgorithmIdentifier::from_slice(b"signature")
        }
    }

    /// Each case: key, message, signature; whether it is good, and whether the algorithm was asked.
    #[test]
    fn a_good_signature_is_verified_once_and_a_bad_one_each_time() {
        let (recall, counts) = (Recall::default(), Backwards::default());
        let algorithms = recall.over(&[&counts]);
        for (key, message, signature, good, asked) in [
            ("key", "abc", "cba", true, true),
            ("key", "abc", "cba", true, false),
            ("kez", "abc", "cba", true, true),
            ("key", "abc", "cbb", false, true),
            ("key", "abc", "cbb", false, true),
            ("keya", "bc", "cba", false, true),
            ("key", "abcc", "ba", false, true),
            ("", "abc", "cba", false, true),
            ("key", "abc", "cba", true, false),
        ] {
            let before = counts.0.load(Ordering::Relaxed);
            let verified = algorithms[0].verify_signature(key.as_bytes(), message.as_bytes(), signature.as_bytes());
            let case = (key, message, signature);
            assert_eq!(verified.is_ok(), good, "{case:?}");
            assert_eq!(counts.0.load(Ordering::Relaxed) > before, asked, "{case:?}");
        }
    }

    #[test]
    fn what_one_algorithm_found_good_is_not_another_ones() {
        #[derive(Debug)]
        struct Never;
        impl SignatureVerificationAlgorithm for Never {
            fn verify_signature(&self, _: &[u8], _: &[u8], _: &[u8]) -> Result<(), InvalidSignature> {
                Err(InvalidSignature)
            }
            fn public_key_alg_id(&self) -> AlgorithmIdentifier {
                AlgorithmIdentifier::from_slice(b"keysig")
            }
            fn signature_alg_id(&self) -> AlgorithmIdentifier {
                AlgorithmIdentifier::from_slice(b"nature")
            }
        }
        let (recall, backwards) = (Recall::default(), Backwards::default());
        let algorithms = recall.over(&[&backwards, &Never]);
        assert!(algorithms[0].verify_signature(b"key", b"abc", b"cba").is_ok());
        assert!(algorithms[1].verify_signature(b"key", b"abc", b"cba").is_err());
    }

    #[test]
    fn it_holds_so_many_and_no_more() {
        let (recall, counts) = (Recall::default(), Backwards::default());
        let algorithms = recall.over(&[&counts]);
        let messages: Vec<[u8; 4]> = (0..u32::try_from(PLACES * 4).unwrap()).map(u32::to_be_bytes).collect();
        for message in &messages {
            let signature: Vec<u8> = message.iter().rev().copied().collect();
            algorithms[0].verify_signature(b"key", message, &signature).unwrap();
        }
        let filled = recall.places.iter().filter(|place| *place.lock().unwrap() != [0; 32]).count();
        assert!((PLACES * 9 / 10..=PLACES).contains(&filled), "{filled}");
    }
}
