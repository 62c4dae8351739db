//! SCRAM-SHA-256's arithmetic and spelling (RFC 5802 §3 and §7, RFC 7677), the same for who logs in and for who checks it.
//!
//! Never: holds an exchange; compares in a time that depends on the octets.

use std::num::NonZeroU32;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, hmac, pbkdf2};
use zeroize::Zeroizing;

/// Octets of a key.
pub const KEY: usize = digest::SHA256_OUTPUT_LEN;

/// The least iterations that RFC 7677 §4 lets anybody use.
pub const ITERATIONS_MIN: u32 = 4096;

/// The binding of RFC 9266, as GS2 headers call it.
pub const TLS_EXPORTER: &str = "tls-exporter";

/// A key, wiped when dropped.
pub type Key = Zeroizing<[u8; KEY]>;

/// The keys of a password (RFC 5802 §3).
pub struct Keys {
    /// Proves the password to the server.
    pub client_key: Key,
    /// Its hash, by which the server checks.
    pub stored_key: Key,
    /// Proves the server to the client.
    pub server_key: Key,
}

impl Keys {
    /// The keys of a prepared password. As slow as `iterations` ask for: a million take a core some tenths of a second.
    pub fn of(password: &str, salt: &[u8], iterations: u32) -> Self {
        let mut salted: Key = Zeroizing::new([0; KEY]);
        let rounds = NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN);
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, password.as_bytes(), &mut *salted);
        let client_key = mac(&*salted, b"Client Key");
        Self { stored_key: hash(&*client_key), client_key, server_key: mac(&*salted, b"Server Key") }
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[keys]")
    }
}

/// HMAC-SHA-256.
pub fn mac(key: &[u8], octets: &[u8]) -> Key {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), octets);
    copied(tag.as_ref())
}

/// SHA-256.
pub fn hash(octets: &[u8]) -> Key {
    copied(digest::digest(&digest::SHA256, octets).as_ref())
}

/// One key XOR other octets; what the shorter of them lacks is zero.
pub fn xor(key: &Key, other: &[u8]) -> Key {
    let mut mixed: Key = Zeroizing::new([0; KEY]);
    for ((octet, one), other) in mixed.iter_mut().zip(key.iter()).zip(other) {
        *octet = one ^ other;
    }
    mixed
}

/// Whether octets are equal, in a time that tells nothing but their length.
pub fn same(one: &[u8], other: &[u8]) -> bool {
    verify_slices_are_equal(one, other).is_ok()
}

fn copied(octets: &[u8]) -> Key {
    let mut key: Key = Zeroizing::new([0; KEY]);
    key.iter_mut().zip(octets).for_each(|(to, from)| *to = *from);
    key
}

/// RFC 5802 §7: the name that a saslname spells: `=2C` is a comma, `=3D` an equals sign, no other `=`. `None` for what is none.
pub fn read_name(text: &str) -> Option<String> {
    let mut pieces = text.split('=');
    let mut name = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (decoded, rest) = match (piece.strip_prefix("2C"), piece.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (None, Some(rest)) => ('=', rest),
            (None, None) => return None,
        };
        name.push(decoded);
        name.push_str(rest);
    }
    if name.is_empty() || name.contains('\0') { None } else { Some(name) }
}

/// The saslname of a name.
pub fn written_name(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}

/// RFC 5802 §7: printable, without a comma.
pub fn is_nonce(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_graphic() && octet != b',')
}

/// RFC 5802 §7: attr-val; its meaning is nobody's here (§5.1: unknown optional extensions are ignored, `m=` is mandatory to understand).
pub fn is_extension(field: &str) -> bool {
    let mut letters = field.chars();
    let named = letters.next().is_some_and(|letter| letter.is_ascii_alphabetic() && letter != 'm');
    named && letters.next() == Some('=') && letters.next().is_some() && !field.contains('\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_was_written() {
        for name in ["user", "a=b,c", "=2C", "jörg", ",,=="] {
            assert_eq!(read_name(&written_name(name)).as_deref(), Some(name), "{name}");
        }
        for wrong in ["", "a=b", "a=2c", "a\0b", "="] {
            assert_eq!(read_name(wrong), None, "{wrong:?}");
        }
    }
}
