//! One form of a user name and of a password: SASLprep (RFC 4013).
//!
//! RFC 8265 is the newer way, and PLAIN, SCRAM and what clients do name the older: RFC 4616 §2, RFC 5802 §2.2, RFC 7677. A password that the
//! client prepares by one and we by the other is a wrong password (they differ in what NFKC does), so the way that clients go is ours.
//! Never: keeps what it prepared.

use zeroize::Zeroizing;

/// The prepared form; `None` for what is not UTF-8, is empty, or holds what must not be in it (controls, unassigned code points, mixed directions).
pub fn prepared(octets: &[u8]) -> Option<Zeroizing<String>> {
    let text = std::str::from_utf8(octets).ok()?;
    let prepared = stringprep::saslprep(text).ok()?;
    (!prepared.is_empty()).then(|| Zeroizing::new(prepared.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_rfc_4013_come_out_as_it_says() {
        let examples: [(&str, Option<&str>); 8] = [
            ("I\u{ad}X", Some("IX")),
            ("user", Some("user")),
            ("USER", Some("USER")),
            ("\u{aa}", Some("a")),
            ("\u{2168}", Some("IX")),
            ("\u{7}", None),
            ("\u{627}1", None),
            ("", None),
        ];
        for (written, expected) in examples {
            assert_eq!(prepared(written.as_bytes()).as_deref().map(String::as_str), expected, "{written:?}");
        }
        assert_eq!(prepared(b"\xff"), None);
    }
}
