//! Certificate, key and chain in one file that mail programs import (PKCS#12, RFC 7292), under a password.
//!
//! `modern`: AES-256 with PBKDF2 and HMAC-SHA-256: what current programs read (Windows Server 2016 and older, and older macOS, do not).
//! `legacy`: 3DES and HMAC-SHA-1, which is weak, but all that older systems read. Never: writes a key without a password.

use p12_keystore::error::Error;
use p12_keystore::{
    Certificate, EncryptionAlgorithm, KeyStore, KeyStoreEntry, MacAlgorithm, PrivateKey, PrivateKeyChain,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use super::PkiError;

/// Rounds of deriving a key from the password, modern.
const ROUNDS: u32 = 100_000;
/// The same, legacy: what these systems write themselves, and some read no more.
const LEGACY_ROUNDS: u32 = 2048;

/// For whom a PKCS#12 file is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Age {
    /// AES-256 and SHA-256: today's programs
    #[default]
    Modern,
    /// 3DES and SHA-1: Windows Server 2016 and older, older macOS and NSS; weak, so delete the file after the import
    Legacy,
}

/// How a PKCS#12 file is protected.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// By which algorithms.
    pub age: Age,
    /// By which password.
    pub password: String,
}

/// Writes the file: the leaf comes first in `chain`, the root last.
pub(super) fn pkcs12(
    name: &str,
    serial: &str,
    key_pem: &str,
    chain: &[CertificateDer<'_>],
    bundle: &Bundle,
) -> Result<Vec<u8>, PkiError> {
    let key =
        PrivatePkcs8KeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|fault| PkiError::Pkcs12(fault.to_string()))?;
    let key = PrivateKey::from_der(key.secret_pkcs8_der()).map_err(told)?;
    let chain = chain.iter().map(|one| Certificate::from_der(one)).collect::<Result<Vec<_>, _>>().map_err(told)?;
    let mut store = KeyStore::new();
    let held = PrivateKeyChain::new(serial.as_bytes(), key, chain);
    store.add_entry(name, KeyStoreEntry::PrivateKeyChain(held));
    let (encryption, mac, rounds) = match bundle.age {
        Age::Modern => (EncryptionAlgorithm::PbeWithHmacSha256AndAes256, MacAlgorithm::HmacSha256, ROUNDS),
        Age::Legacy => (EncryptionAlgorithm::PbeWithShaAnd3KeyTripleDesCbc, MacAlgorithm::HmacSha1, LEGACY_ROUNDS),
    };
    store
        .writer(&bundle.password)
        .encryption_algorithm(encryption)
        .encryption_iterations(rounds)
        .mac_algorithm(mac)
        .mac_iterations(rounds)
        .write()
        .map_err(told)
}

fn told(fault: Error) -> PkiError {
    PkiError::Pkcs12(fault.to_string())
}
