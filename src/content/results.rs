//! Authentication-Results (RFC 8601): those that claim to be ours are taken out, and one of ours is written when asked for.
//!
//! What a client sends under our name would be believed behind us, so it goes whatever signs it (RFC 8601 §5). A field whose author can't be
//! told goes too: unknown means ours. ARC-Authentication-Results (RFC 8617) are believed only under their seal: one that names us goes when it has no
//! seal and no signature, for then it has nobody's; one that has them goes on, since taking it out would break a chain that may be good.
//! Never: looks at what a field says beyond its first word, verifies a seal.

use std::collections::BTreeSet;

use crate::mail::header::HeaderSection;
use crate::mail::trace::IDENTITY_MAX;
use crate::mail::{Domain, header::RawField};

/// The field's name.
pub(super) const NAME: &str = "Authentication-Results";
/// The same in a chain of seals.
const IN_CHAIN: &str = "ARC-Authentication-Results";
/// The most sets of a chain (RFC 8617 §4.2.1), so the largest instance.
const INSTANCES_MAX: u32 = 50;

/// Who sends this, and how that was proved.
#[derive(Clone, Copy, Debug)]
pub struct Proved<'a> {
    /// The identity's name.
    pub identity: &'a str,
    /// The mechanism of AUTH, where there was one; else it was the certificate alone.
    pub mechanism: Option<&'a str>,
}

/// Whether a field with this value may be taken for one that `hostname` wrote.
pub(super) fn is_ours(value: &[u8], hostname: &str) -> bool {
    let Some(named) = server_id(value) else { return true };
    let ascii =
        |text: &str| Domain::parse(text).map_or_else(|_| text.to_ascii_lowercase(), |one| one.ascii().to_owned());
    let named = ascii(named.trim_end_matches('.'));
    named == ascii(hostname)
}

/// The instances of a section's chain that have both a seal and a signature (RFC 8617 §4.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sealed(BTreeSet<u32>);

impl Sealed {
    pub(super) fn of(section: &HeaderSection<'_>) -> Self {
        let instances = |name: &'static str| -> BTreeSet<u32> {
            section.named(name).filter_map(|field| instance(&field.unfolded()).map(|(number, _)| number)).collect()
        };
        Self(&instances("ARC-Seal") & &instances("ARC-Message-Signature"))
    }

    /// Whether this field claims to be our word, and nothing in the message stands for it.
    pub(super) fn is_claim(&self, field: &RawField<'_>, hostname: &str) -> bool {
        if field.is(NAME) {
            return is_ours(&field.unfolded(), hostname);
        }
        field.is(IN_CHAIN)
            && match instance(&field.unfolded()) {
                Some((number, results)) => !self.0.contains(&number) && is_ours(results, hostname),
                None => true,
            }
    }
}

/// RFC 8617 §4.1.1: `i=1;` comes first in a seal and in results, and anywhere in a signature, which is a list of tags as a seal is. And what is behind.
fn instance(value: &[u8]) -> Option<(u32, &[u8])> {
    let mut from = 0;
    for tag in value.split(|&octet| octet == b';') {
        from = tag.len().saturating_add(1).saturating_add(from);
        let Some(number) = std::str::from_utf8(tag).ok().and_then(instance_of) else { continue };
        let known = (1..=INSTANCES_MAX).contains(&number);
        return known.then(|| (number, value.get(from..).unwrap_or_default()));
    }
    None
}

/// `i=1`, with white space and comments about its parts.
fn instance_of(tag: &str) -> Option<u32> {
    let behind = behind_comments(tag)?.strip_prefix('i')?;
    let number = behind_comments(behind_comments(behind)?.strip_prefix('=')?)?;
    let digits = number.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(number.len());
    let (digits, behind) = number.split_at_checked(digits)?;
    if behind_comments(behind).is_none() { digits.parse().ok() } else { None }
}

/// RFC 8601 §2.2: authres-header begins with an authserv-id behind comments and folds, a value of RFC 2045: a token or a quoted string. None: neither.
fn server_id(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?;
    let text = behind_comments(text)?;
    let (name, behind) = match text.strip_prefix('"') {
        Some(quoted) => unquoted(quoted)?,
        None => {
            let (name, behind) =
                text.split_at_checked(text.find(|letter| !is_of_token(letter)).unwrap_or(text.len()))?;
            (name.to_owned(), behind)
        }
    };
    (!name.is_empty() && is_end_of_id(behind)).then_some(name)
}

/// A quoted string behind its first quote, and what follows it.
fn unquoted(quoted: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut letters = quoted.chars();
    loop {
        match letters.next()? {
            '"' => return Some((name, letters.as_str())),
            '\\' => name.push(letters.next()?),
            letter => name.push(letter),
        }
    }
}

/// RFC 2045 §5.1: token; beyond ASCII, what RFC 8601 §2.2 lets a name be made of.
fn is_of_token(letter: char) -> bool {
    letter.is_ascii_graphic() && !"()<>@,;:\\\"/[]?=".contains(letter) || letter.is_alphanumeric()
}

/// RFC 8601 §2.2: [CFWS authres-version] and `;` follow. Else some readers find more of the name there: `mail . example . com` is one name to those
/// that put tokens together, `mail.example.com/1` to those that look for it at the front.
fn is_end_of_id(behind: &str) -> bool {
    let after = |text| behind_comments(text).unwrap_or_default();
    let rest = after(behind);
    behind.trim().is_empty() || after(rest.trim_start_matches(|letter: char| letter.is_ascii_digit())).starts_with(';')
}

/// What stands behind white space and comments, which may lie within one another.
fn behind_comments(text: &str) -> Option<&str> {
    let mut depth: usize = 0;
    let mut escaped = false;
    for (place, letter) in text.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' if depth > 0 => escaped = true,
            '(' => depth = depth.saturating_add(1),
            ')' if depth > 0 => depth = depth.saturating_sub(1),
            ' ' | '\t' | '\r' | '\n' => {}
            _ if depth > 0 => {}
            _ => return text.get(place..),
        }
    }
    None
}

/// Our own field, with its CRLF. RFC 8601 §2.7.4 has `auth` for AUTH; a certificate that no AUTH followed has no method there, so the word begins
/// with `x-`.
pub(super) fn written(hostname: &str, proved: &Proved<'_>) -> String {
    let identity = quoted(proved.identity);
    match proved.mechanism {
        Some(mechanism) => {
            format!("{NAME}: {hostname};\r\n\tauth=pass ({mechanism} over mutual TLS)\r\n\tsmtp.auth={identity}\r\n")
        }
        None => format!("{NAME}: {hostname};\r\n\tx-client-certificate=pass\r\n\tsmtp.auth={identity}\r\n"),
    }
}

/// A quoted string of printable ASCII (RFC 2045 §5.1: pvalue is a value).
fn quoted(text: &str) -> String {
    let plain = |letter: char| match letter {
        '"' | '\\' => '?',
        ' '..='~' => letter,
        _ => '?',
    };
    format!("\"{}\"", text.chars().take(IDENTITY_MAX).map(plain).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_taken_for_ours_is_ours() {
        for (value, ours) in [
            (" mail.example.com; spf=pass", true),
            (" MAIL.Example.COM; none", true),
            (" mail.example.com 1; none", true),
            ("mail.example.com;none", true),
            ("\r\n\tmail.example.com;\r\n\tnone", true),
            (" (a (b) \\) mx.example.net;) mail.example.com; none", true),
            (" \"mail.example.com\"; none", true),
            (" \"mail\\.example.com\"; none", true),
            (" mail.example.com.; none", true),
            (" mail.example.com(x); none", true),
            (" mail.example.com", true),
            (" mail . example . com; spf=pass", true),
            (" mail. example.com; spf=pass", true),
            ("\r\n mail.\r\n example.com; spf=pass", true),
            (" mail.(x)example.com; spf=pass", true),
            (" mail.example.com/1; spf=pass", true),
            (" mail.example.com, spf=pass", true),
            (" mail.example.com@x; spf=pass", true),
            (" \"mail\".example.com; spf=pass", true),
            (" =?utf-8?q?mail.example.com?=; spf=pass", true),
            (" mail\u{3002}example\u{3002}com; spf=pass", true),
            (" spf=pass smtp.mailfrom=x; dkim=none", true),
            (" mx.example.net 1; spf=pass", false),
            (" mx.example.net (x) 1 (y) ; spf=pass", false),
            ("mx.example.net;\r\n\tdkim=pass", false),
            (" mx_1.example.net; none", false),
            (" b\u{fc}cher.example; none", false),
            ("", true),
            (" ; spf=pass", true),
            (" (only a comment", true),
            (" \"no end", true),
            (" \"\"; spf=pass", true),
            (" \"mx.example.net\"; spf=pass", false),
            (" )mx.example.net; spf=pass", true),
            (" \\ mx.example.net; spf=pass", true),
            (" mx.example.net; spf=pass", false),
            (" example.com; spf=pass", false),
            (" mail.example.com.evil.example; spf=pass", false),
            (" sub.mail.example.com; spf=pass", false),
            (" (mail.example.com) mx.example.net; spf=pass", false),
        ] {
            assert_eq!(is_ours(value.as_bytes(), "mail.example.com"), ours, "{value:?}");
        }
        assert!(is_ours(b" \xff; spf=pass", "mail.example.com"), "not to be read, so ours");
        assert!(is_ours(" xn--mil-qla.example; none".as_bytes(), "xn--mil-qla.example"));
    }

    #[test]
    fn our_word_in_a_chain_stays_only_with_a_seal_and_a_signature() {
        for (seal, signature, results, goes) in [
            ("i=1; cv=none", "i=1; a=x", "i=1; mail.example.com; spf=pass", false),
            ("cv=none; i=1", "a=x;\r\n i=1; d=x", " i = 1 ;\r\n mail.example.com; spf=pass", false),
            ("i=2", "i=1", "i=1; mail.example.com; spf=pass", true),
            ("i=1", "a=x; bi=1", "i=1; mail.example.com; spf=pass", true),
            ("i=2", "i=2", "i=1; mail.example.com; spf=pass", true),
            ("i=2", "i=2", "(x) i (y) = 1 ; MAIL.example.com.; spf=pass", true),
            ("i=2", "i=2", "i=1; mail . example.com; spf=pass", true),
            ("i=2", "i=2", "i=1; mx.example.net; spf=pass", false),
            ("i=1", "i=1", "i=0; mail.example.com; spf=pass", true),
            ("i=50", "i=50", "i=50; mail.example.com; spf=pass", false),
            ("i=51", "i=51", "i=51; mail.example.com; spf=pass", true),
            ("i=1", "i=1", "mail.example.com; spf=pass", true),
            ("i=1", "i=1", "i=1x; mail.example.com; spf=pass", true),
        ] {
            let header = format!(
                "ARC-Seal: {seal}\r\nARC-Message-Signature: {signature}\r\nARC-Authentication-Results: {results}\r\n\r\n"
            );
            let section =
                HeaderSection::read(header.as_bytes(), &crate::mail::header::HeaderLimits::default()).unwrap();
            let sealed = Sealed::of(&section);
            let claims: Vec<bool> =
                section.fields().iter().map(|field| sealed.is_claim(field, "mail.example.com")).collect();
            assert_eq!(claims, [false, false, goes], "{header}");
        }
    }

    #[test]
    fn a_written_field_is_ours_and_one_line_is_short() {
        let long = "x\"\\\r\n\u{e9}".repeat(100);
        for mechanism in [None, Some("EXTERNAL")] {
            let field = written("mail.example.com", &Proved { identity: &long, mechanism });
            let (name, value) = field.split_once(':').unwrap();
            assert_eq!(name, NAME);
            assert!(is_ours(value.as_bytes(), "mail.example.com"));
            assert!(field.is_ascii() && field.ends_with("\"\r\n"), "{field}");
            assert_eq!(field.matches('"').count(), 2);
            let unfolded = field.trim_end_matches("\r\n").replace("\r\n\t", " ");
            assert!(!unfolded.contains(['\r', '\n']));
            assert!(field.lines().all(|line| line.len() < 300));
        }
    }
}
