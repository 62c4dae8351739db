//! Codes of one time (RFC 6238): HMAC-SHA-1, six digits, steps of 30 seconds, as every authenticator app makes them.
//!
//! A code stands behind the password. The clock of the client may be a step off (RFC 6238 §5.2). That a code serves once only (§5.2 again) needs
//! a memory, which is the caller's: it is told the step. Never: tells which of the codes near was meant but by the step.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use crate::sys::WallTime;

/// The length of a step, seconds.
pub const STEP_SECONDS: i64 = 30;
/// Steps before and after the present one whose codes are taken.
pub const STEPS_OFF: i64 = 1;
/// Digits of a code.
pub const DIGITS: usize = 6;
/// Octets of a new secret (RFC 4226 §4: 160 bits are recommended).
pub const SECRET_OCTETS: usize = 20;
/// Octets of secrets that are read (RFC 4226 §4: at least 128 bits).
const SECRET_RANGE: std::ops::RangeInclusive<usize> = 16..=64;

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// The number of a step since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Step(i64);

impl Step {
    /// The step of a moment.
    pub fn at(now: WallTime) -> Self {
        Self(now.seconds().div_euclid(STEP_SECONDS))
    }

    /// Whether its code can still be taken.
    pub fn counts_at(self, now: WallTime) -> bool {
        self.0.abs_diff(Self::at(now).0) <= STEPS_OFF.unsigned_abs()
    }
}

/// What the server and the app share.
pub struct TotpSecret(Zeroizing<Vec<u8>>);

impl fmt::Debug for TotpSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl TotpSecret {
    /// A new one of these octets.
    pub fn new(octets: [u8; SECRET_OCTETS]) -> Self {
        Self(Zeroizing::new(octets.to_vec()))
    }

    /// Reads base32 (RFC 4648 §6), in any case, with or without padding. What is wrong comes back as the end of a sentence.
    pub fn read(text: &str) -> Result<Self, String> {
        let fault = || "is not a secret of 16 to 64 octets in base32".to_owned();
        let mut octets = Zeroizing::new(Vec::with_capacity(text.len()));
        let (mut bits, mut held): (u32, u32) = (0, 0);
        for letter in text.trim_end_matches('=').bytes() {
            let value = BASE32.iter().position(|known| *known == letter.to_ascii_uppercase()).ok_or_else(fault)?;
            held = ((held << 5) | u32::try_from(value).map_err(|_| fault())?) & 0xffff;
            bits = bits.saturating_add(5);
            if bits >= 8 {
                bits = bits.saturating_sub(8);
                octets.push(u8::try_from((held >> bits) & 0xff).map_err(|_| fault())?);
            }
        }
        if SECRET_RANGE.contains(&octets.len()) { Ok(Self(octets)) } else { Err(fault()) }
    }

    /// As [`TotpSecret::read`] reads it, and as apps want it.
    pub fn written(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(self.0.len().saturating_mul(2)));
        let (mut bits, mut held): (u32, u32) = (0, 0);
        let mut put = |value: u32| {
            let letter = usize::try_from(value & 31).ok().and_then(|place| BASE32.get(place)).copied();
            text.push(char::from(letter.unwrap_or(b'A')));
        };
        for octet in self.0.iter() {
            held = ((held << 8) | u32::from(*octet)) & 0xffff;
            bits = bits.saturating_add(8);
            while bits >= 5 {
                bits = bits.saturating_sub(5);
                put(held >> bits);
            }
        }
        if bits > 0 {
            put(held << 5_u32.saturating_sub(bits));
        }
        text
    }

    /// The step whose code this is, of those that are taken at `now`. All are computed, whichever it is.
    pub fn step_of(&self, code: &[u8], now: WallTime) -> Option<Step> {
        let Step(present) = Step::at(now);
        let near = (-STEPS_OFF..=STEPS_OFF).map(|off| Step(present.saturating_add(off)));
        let mut found = None;
        for step in near {
            let right = verify_slices_are_equal(self.code(step).as_bytes(), code).is_ok();
            found = if right { Some(step) } else { found };
        }
        found
    }

    /// The code of a step (RFC 4226 §5.3).
    pub fn code(&self, Step(step): Step) -> Zeroizing<String> {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &self.0);
        let tag = hmac::sign(&key, &step.to_be_bytes());
        let tag = tag.as_ref();
        let offset = usize::from(tag.last().copied().unwrap_or_default() & 0x0f);
        let number = tag.iter().skip(offset).take(4).fold(0_u32, |number, octet| (number << 8) | u32::from(*octet));
        Zeroizing::new(format!("{:06}", (number & 0x7fff_ffff) % 1_000_000))
    }
}

/// The password and the code behind it; no code when the last six octets are not digits.
pub fn split(shown: &[u8]) -> (&[u8], Option<&[u8]>) {
    match shown.len().checked_sub(DIGITS).map(|place| shown.split_at(place)) {
        Some((password, code)) if code.iter().all(u8::is_ascii_digit) => (password, Some(code)),
        Some(_) | None => (shown, None),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> WallTime {
        WallTime::from_seconds(seconds)
    }

    /// RFC 6238 appendix B, SHA-1; of its eight digits the last six.
    #[test]
    fn the_examples_of_rfc_6238_come_out() {
        let secret = TotpSecret::new(*b"12345678901234567890");
        for (seconds, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(secret.code(Step::at(at(seconds))).as_str(), code, "{seconds}");
            assert_eq!(secret.step_of(code.as_bytes(), at(seconds)), Some(Step::at(at(seconds))), "{seconds}");
        }
    }

    #[test]
    fn a_code_counts_one_step_before_and_after() {
        let secret = TotpSecret::new(*b"12345678901234567890");
        let now = 1_111_111_111;
        let code = secret.code(Step::at(at(now)));
        for (off, counts) in [(-60, false), (-30, true), (0, true), (30, true), (60, false)] {
            assert_eq!(secret.step_of(code.as_bytes(), at(now + off)).is_some(), counts, "{off}");
            assert_eq!(Step::at(at(now)).counts_at(at(now + off)), counts, "{off}");
        }
    }

    #[test]
    fn the_code_is_the_last_six_digits() {
        assert_eq!(split(b"secret123456"), (&b"secret"[..], Some(&b"123456"[..])));
        assert_eq!(split(b"12345678"), (&b"12"[..], Some(&b"345678"[..])));
        assert_eq!(split(b"secret12345"), (&b"secret12345"[..], None));
        assert_eq!(split(b"123"), (&b"123"[..], None));
        assert_eq!(split(b""), (&b""[..], None));
    }

    #[test]
    fn secrets_are_read_as_apps_write_them() {
        let text = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
        assert_eq!(TotpSecret::read(text).unwrap().0.as_slice(), b"12345678901234567890");
        assert_eq!(TotpSecret::new(*b"12345678901234567890").written().as_str(), text);
        // RFC 4226 §4: 128 bits at least.
        assert!(TotpSecret::read(&"A".repeat(26)).is_ok());
        for wrong in ["", "AAAA", &"A".repeat(25), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJ1", &"A".repeat(200)] {
            assert!(TotpSecret::read(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn every_secret_is_read_as_it_was_written(octets in proptest::array::uniform20(any::<u8>())) {
            let secret = TotpSecret::new(octets);
            let written = secret.written();
            prop_assert_eq!(TotpSecret::read(&written).unwrap().0.to_vec(), octets.to_vec());
            prop_assert_eq!(TotpSecret::read(&written.to_lowercase()).unwrap().0.to_vec(), octets.to_vec());
        }
    }
}
