//! Passwords: argon2id (RFC 9106) in a PHC string, held against what PLAIN and LOGIN bring.
//!
//! Costs are the credential's own, within caps: a file that asks for a gibibyte a login must not be able to stop the relay. Never: prints the
//! hash; compares it octet by octet.

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use zeroize::Zeroizing;

use crate::sasl::prep::prepared;

/// KiB that one hash may ask for at most: 128 MiB.
pub const MEMORY_KIB_MAX: u32 = 128 * 1024;
/// Passes that one hash may ask for at most.
pub const PASSES_MAX: u32 = 16;
/// Lanes that one hash may ask for at most; they run one after another here.
pub const LANES_MAX: u32 = 4;
/// KiB times passes at most: about a second of one core.
pub const WORK_KIB_MAX: u32 = 512 * 1024;

/// The usual cost: 19 MiB, two passes, one lane (OWASP's first choice for argon2id); about 25 ms of one core.
const USUAL: Cost = Cost { memory_kib: 19 * 1024, passes: 2, lanes: 1 };
/// Octets of a new salt.
pub const SALT_OCTETS: usize = 16;
/// Octets of a new hash.
const HASH_OCTETS: usize = 32;
/// Octets of salts and hashes that are read.
const SALT_RANGE: std::ops::RangeInclusive<usize> = 8..=64;
const HASH_RANGE: std::ops::RangeInclusive<usize> = 16..=64;

/// What one hash costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// KiB of memory.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

/// A password's hash, with what it takes to make it again.
pub struct PasswordHash {
    cost: Cost,
    salt: Vec<u8>,
    hash: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswordHash").field("cost", &self.cost).finish_non_exhaustive()
    }
}

impl PasswordHash {
    /// Reads `$argon2id$v=19$m=19456,t=2,p=1$salt$hash`. What is wrong comes back as the end of a sentence.
    pub fn read(text: &str) -> Result<Self, String> {
        let fields: Vec<&str> = text.split('$').collect();
        let ["", kind, version, cost, salt, hash] = fields.as_slice() else {
            return Err("is not $argon2id$v=19$m=..,t=..,p=..$salt$hash".to_owned());
        };
        if *kind != "argon2id" {
            // Of another word it may be anything.
            let known = ["argon2i", "argon2d"].iter().find(|known| *known == kind);
            let told = known.map_or("another kind".to_owned(), |known| format!("the kind {known:?}"));
            return Err(format!("is of {told}; only argon2id is taken"));
        }
        if *version != "v=19" {
            return Err("is not of version 19".to_owned());
        }
        let cost = Cost::read(cost)?;
        let octets = |what: &str, text: &str, range: std::ops::RangeInclusive<usize>| {
            let octets = STANDARD_NO_PAD.decode(text).ok().filter(|octets| range.contains(&octets.len()));
            octets.ok_or_else(|| {
                format!("has a {what} that is not {} to {} octets in base64", range.start(), range.end())
            })
        };
        Ok(Self {
            cost,
            salt: octets("salt", salt, SALT_RANGE)?,
            hash: Zeroizing::new(octets("hash", hash, HASH_RANGE)?),
        })
    }

    /// The hash of a new password at the usual cost.
    pub fn make(password: &str, salt: [u8; SALT_OCTETS]) -> Self {
        Self::make_at(USUAL, password, salt)
    }

    /// The same at a cost of its own; what is beyond the caps is cut to them.
    pub fn make_at(cost: Cost, password: &str, salt: [u8; SALT_OCTETS]) -> Self {
        let cost = if cost.fault().is_some() { USUAL } else { cost };
        let hash = cost.hash(password.as_bytes(), &salt, HASH_OCTETS).unwrap_or_default();
        Self { cost, salt: salt.to_vec(), hash }
    }

    /// As [`PasswordHash::read`] reads it.
    pub fn written(&self) -> String {
        let Cost { memory_kib, passes, lanes } = self.cost;
        let (salt, hash) = (STANDARD_NO_PAD.encode(&self.salt), STANDARD_NO_PAD.encode(&*self.hash));
        format!("$argon2id$v=19$m={memory_kib},t={passes},p={lanes}${salt}${hash}")
    }

    /// KiB that it takes to verify.
    pub fn memory_kib(&self) -> u32 {
        self.cost.memory_kib
    }

    /// KiB that it takes to verify nobody's.
    pub const fn memory_kib_of_nobody() -> u32 {
        USUAL.memory_kib
    }

    /// Whether it is this password. What can't be prepared is hashed as it came, and is wrong.
    pub fn verify(&self, password: &[u8]) -> bool {
        let prepared = prepared(password);
        let (shown, good) = match &prepared {
            Some(text) => (text.as_bytes(), true),
            None => (password, false),
        };
        let made = self.cost.hash(shown, &self.salt, self.hash.len());
        let same = made.is_some_and(|made| verify_slices_are_equal(&made, &self.hash).is_ok());
        good & same
    }

    /// The same work at the usual cost, for whom there is no hash.
    pub fn verify_nobody(password: &[u8]) -> bool {
        let _ = USUAL.hash(password, &[0; SALT_OCTETS], HASH_OCTETS);
        false
    }
}

impl Cost {
    fn read(text: &str) -> Result<Self, String> {
        let fault = || "has costs that are not m=..,t=..,p=..".to_owned();
        let mut numbers = [0; 3];
        let fields: Vec<&str> = text.split(',').collect();
        if fields.len() != numbers.len() {
            return Err(fault());
        }
        for ((number, field), key) in numbers.iter_mut().zip(fields).zip(["m=", "t=", "p="]) {
            *number = field.strip_prefix(key).and_then(|value| value.parse().ok()).ok_or_else(fault)?;
        }
        let [memory_kib, passes, lanes] = numbers;
        let cost = Self { memory_kib, passes, lanes };
        match cost.fault() {
            Some(fault) => Err(fault),
            None => Ok(cost),
        }
    }

    /// Why it is not taken.
    fn fault(self) -> Option<String> {
        let Self { memory_kib, passes, lanes } = self;
        if memory_kib > MEMORY_KIB_MAX || passes > PASSES_MAX || lanes > LANES_MAX {
            return Some(format!(
                "costs too much: at most m={MEMORY_KIB_MAX},t={PASSES_MAX},p={LANES_MAX} are taken, it has m={memory_kib},t={passes},p={lanes}"
            ));
        }
        if memory_kib.saturating_mul(passes) > WORK_KIB_MAX {
            return Some(format!("costs too much: m times t is over {WORK_KIB_MAX}"));
        }
        self.params(HASH_OCTETS).is_none().then(|| "has costs that argon2 does not take".to_owned())
    }

    fn params(self, octets: usize) -> Option<Params> {
        Params::new(self.memory_kib, self.passes, self.lanes, Some(octets)).ok()
    }

    fn hash(self, password: &[u8], salt: &[u8], octets: usize) -> Option<Zeroizing<Vec<u8>>> {
        #[cfg(test)]
        HASHES.with(|hashes| hashes.borrow_mut().push(self));
        let mut hash = Zeroizing::new(vec![0; octets]);
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, self.params(octets)?);
        argon2.hash_password_into(password, salt, &mut hash).ok()?;
        Some(hash)
    }
}

#[cfg(test)]
thread_local! {
    /// The hashes that were made, by their cost: what shows that all failures do the same work.
    pub(super) static HASHES: std::cell::RefCell<Vec<Cost>> = const { std::cell::RefCell::new(Vec::new()) };
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CHEAP: Cost = Cost { memory_kib: 8, passes: 1, lanes: 1 };

    #[test]
    fn a_hash_is_read_as_it_was_written_and_knows_its_password() {
        let made = PasswordHash::make_at(CHEAP, "correct horse", [7; SALT_OCTETS]);
        let read = PasswordHash::read(&made.written()).unwrap();
        assert_eq!(read.written(), made.written());
        assert!(read.verify(b"correct horse"));
        // RFC 4013: a no-break space is a space.
        assert!(read.verify("correct\u{a0}horse".as_bytes()));
        for wrong in [&b"correct horse "[..], b"", b"correct", b"\xff", b"correct horse\0"] {
            assert!(!read.verify(wrong), "{}", wrong.escape_ascii());
        }
    }

    /// Made by the reference program: `echo -n password | argon2 somesaltsomesalt -id -t 2 -k 64 -p 1 -l 32 -e`.
    #[test]
    fn a_hash_of_the_reference_program_is_known() {
        let text = "$argon2id$v=19$m=64,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$Gpj7qOY5RCXJvcMzqcdQqvgR3wcPX7SleI4c9NtXk6E";
        assert!(PasswordHash::read(text).unwrap().verify(b"password"));
        let cost = Cost { memory_kib: 64, passes: 2, lanes: 1 };
        assert_eq!(PasswordHash::make_at(cost, "password", *b"somesaltsomesalt").written(), text);
    }

    #[test]
    fn what_costs_too_much_or_is_something_else_is_refused_with_the_reason() {
        let salt_and_hash = "c29tZXNhbHRzb21lc2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        for (text, reason) in [
            ("$argon2i$v=19$m=64,t=2,p=1$".to_owned() + salt_and_hash, "only argon2id"),
            ("$argon2id$v=16$m=64,t=2,p=1$".to_owned() + salt_and_hash, "version 19"),
            ("$argon2id$v=19$m=1048576,t=2,p=1$".to_owned() + salt_and_hash, "costs too much"),
            ("$argon2id$v=19$m=64,t=17,p=1$".to_owned() + salt_and_hash, "costs too much"),
            ("$argon2id$v=19$m=64,t=2,p=5$".to_owned() + salt_and_hash, "costs too much"),
            ("$argon2id$v=19$m=131072,t=8,p=1$".to_owned() + salt_and_hash, "m times t"),
            ("$argon2id$v=19$m=1,t=2,p=1$".to_owned() + salt_and_hash, "does not take"),
            ("$argon2id$v=19$t=2,m=64,p=1$".to_owned() + salt_and_hash, "m=..,t=..,p=.."),
            ("$argon2id$v=19$m=64,t=2,p=1$AA$AAAA".to_owned(), "salt"),
            ("$argon2id$v=19$m=64,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$AAAA".to_owned(), "hash"),
            ("secret".to_owned(), "is not $argon2id$"),
        ] {
            let fault = PasswordHash::read(&text).unwrap_err();
            assert!(fault.contains(reason), "{text}: {fault}");
        }
    }

    #[test]
    fn nothing_of_a_hash_is_printed() {
        let made = PasswordHash::make_at(CHEAP, "correct horse", [7; SALT_OCTETS]);
        let printed = format!("{made:?}");
        assert!(!printed.contains("BwcHBw") && !printed.contains("salt") && !printed.contains("hash:"), "{printed}");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,80}|\\$argon2id\\$v=19\\$m=[0-9]{1,12},t=[0-9]{1,3},p=[0-9]\\$[A-Za-z0-9+/]{0,30}\\$[A-Za-z0-9+/]{0,60}") {
            if let Ok(read) = PasswordHash::read(&text) {
                prop_assert!(read.memory_kib() <= MEMORY_KIB_MAX);
                prop_assert!(PasswordHash::read(&read.written()).is_ok());
            }
        }
    }
}
