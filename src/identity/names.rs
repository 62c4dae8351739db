//! One name of a certificate at a time: whether it is usable, and if not, why (RFC 5280 §4.2.1.6, RFC 9598).
//!
//! A name counts only whole and plain. NUL, control octets, spaces, and octets beyond ASCII where the kind of name has none, make it unusable
//! (CVE-2009-4565, CVE-2021-44531 and kin lived of such names); nothing is cut off, mapped or mended. The same readers hold what the
//! configuration asks for against what a certificate may say, so that a key which no certificate could meet is a mistake.
//!
//! Pure. Every fault is a few words that end the sentence "it counts for nothing: ...".

use crate::mail::{Address, Domain};

/// The longest URI that counts, octets (SPIFFE ID §2.3: 2048 are supported, no longer ones are made).
const URI_MAX: usize = 2048;

/// What is wrong with the characters of any name.
fn plain(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        Err("empty")
    } else if text.contains('\0') {
        Err("holds NUL")
    } else if text.chars().any(char::is_control) {
        Err("holds control octets")
    } else if text.contains(' ') {
        Err("holds spaces")
    } else {
        Ok(())
    }
}

fn ascii(text: &str) -> Result<(), &'static str> {
    plain(text)?;
    if text.is_ascii() { Ok(()) } else { Err("holds octets beyond ASCII") }
}

fn mailbox(text: &str, otherwise: &'static str) -> Result<Address, &'static str> {
    let address = Address::parse(text).map_err(|_| otherwise)?;
    if address.host().domain().is_none() {
        return Err("its host is an IP address");
    }
    Ok(address)
}

fn fully_qualified(address: Address) -> Result<Address, &'static str> {
    if address.host().is_fully_qualified() { Ok(address) } else { Err("its domain is not fully qualified") }
}

/// rfc822Name. RFC 5280 §4.2.1.6: a Mailbox of RFC 5321 §4.1.2, without a phrase, comment or angle brackets, in ASCII.
pub(super) fn email(text: &str) -> Result<Address, &'static str> {
    ascii(text)?;
    fully_qualified(mailbox(text, "not an address of RFC 5321")?)
}

/// SmtpUTF8Mailbox. RFC 9598 §3: for local parts beyond ASCII and for no others, else one address would have two kinds of name and a CA's
/// constraints on the one would miss the other; the domain is in A-labels.
pub(super) fn utf8_mailbox(text: &str) -> Result<Address, &'static str> {
    plain(text)?;
    let (local, domain) = text.rsplit_once('@').ok_or("not an address of RFC 6531")?;
    if local.is_ascii() {
        return Err("its local part is all ASCII, which belongs into an rfc822Name (RFC 9598)");
    }
    if !domain.is_ascii() {
        return Err("its domain is not in A-labels (RFC 9598)");
    }
    fully_qualified(mailbox(text, "not an address of RFC 6531")?)
}

/// A user principal name of Active Directory: `user@suffix`. The suffix may be a name that only the directory knows (`user@CORP`).
pub(super) fn upn(text: &str) -> Result<Address, &'static str> {
    plain(text)?;
    mailbox(text, "not a user principal name like user@example.com")
}

/// dNSName. RFC 5280 §4.2.1.6: a host name in the preferred syntax; a wildcard names no one host.
pub(crate) fn dns(text: &str) -> Result<String, &'static str> {
    ascii(text)?;
    if text.contains('*') {
        return Err("a wildcard names nobody");
    }
    Domain::parse(text).map(|name| name.ascii().to_owned()).map_err(|_| "not a host name")
}

/// uniformResourceIdentifier. RFC 5280 §4.2.1.6: absolute, with a scheme. Compared octet for octet.
pub(crate) fn uri(text: &str) -> Result<String, &'static str> {
    ascii(text)?;
    if text.len() > URI_MAX {
        return Err("longer than 2048 octets");
    }
    let (scheme, rest) = text.split_once(':').ok_or("it has no scheme")?;
    let well_formed = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.chars().all(|letter| letter.is_ascii_alphanumeric() || "+-.".contains(letter));
    if !well_formed {
        return Err("it has no scheme");
    }
    if rest.is_empty() {
        return Err("nothing follows its scheme");
    }
    if is_spiffe(text) && !spiffe_is_canonical(text) {
        return Err("not a SPIFFE ID: spiffe://, a trust domain in lower case, a path");
    }
    Ok(text.to_owned())
}

/// Whether it claims to be a SPIFFE ID, in whatever case.
pub(crate) fn is_spiffe(uri: &str) -> bool {
    uri.split_at_checked(7).is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("spiffe:"))
}

/// The trust domain of a SPIFFE ID in its one form.
pub(super) fn trust_domain_of(uri: &str) -> Option<&str> {
    uri.strip_prefix("spiffe://").map(|rest| rest.split_once('/').map_or(rest, |(domain, _)| domain))
}

/// A trust domain by itself (SPIFFE ID §2.1): what stands between `spiffe://` and the path.
pub(crate) fn is_trust_domain(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 255
        && text.chars().all(|letter| is_spiffe_letter(letter) && !letter.is_uppercase())
}

fn is_spiffe_letter(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "-._".contains(letter)
}

/// SPIFFE ID §2: scheme and trust domain in lower case, no user, port, query or fragment, no empty or relative segments.
fn spiffe_is_canonical(uri: &str) -> bool {
    let Some(rest) = uri.strip_prefix("spiffe://") else { return false };
    let (domain, path) = rest.split_once('/').map_or((rest, None), |(domain, path)| (domain, Some(path)));
    let segment = |text: &str| !text.is_empty() && text != "." && text != ".." && text.chars().all(is_spiffe_letter);
    is_trust_domain(domain) && path.is_none_or(|path| path.split('/').all(segment))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Reader = fn(&str) -> Result<String, &'static str>;

    /// Every wrong one with the reason it is told.
    fn check(read: Reader, right: &[(&str, &str)], wrong: &[(&str, &str)]) {
        for (text, value) in right {
            assert_eq!(read(text).as_deref(), Ok(*value), "{text:?}");
        }
        for (text, reason) in wrong {
            let told = read(text).expect_err(text);
            assert!(told.contains(reason), "{text:?}: {told}");
        }
    }

    fn as_text(read: Result<Address, &'static str>) -> Result<String, &'static str> {
        read.map(|address| address.as_str().to_owned())
    }

    #[test]
    fn an_email_name_counts_only_when_it_is_plain_and_whole() {
        check(
            |text| as_text(email(text)),
            &[("Alice@Example.com", "Alice@Example.com"), ("\"a*b\"@example.com", "\"a*b\"@example.com")],
            &[
                ("", "empty"),
                ("alice", "not an address"),
                ("@example.com", "not an address"),
                ("alice@", "not an address"),
                ("alice@example.com\0.evil.example", "NUL"),
                ("alice\0@example.com", "NUL"),
                ("alice@example.com\n", "control"),
                ("alice@example.com\r\nBcc: x@example.com", "control"),
                ("alice@example.com\x7f", "control"),
                ("al ice@example.com", "spaces"),
                (" alice@example.com", "spaces"),
                ("älice@example.com", "beyond ASCII"),
                ("alice@exämple.com", "beyond ASCII"),
                ("<alice@example.com>", "not an address"),
                ("alice@example.com,bob@example.com", "not an address"),
                ("alice@[192.0.2.1]", "IP address"),
                ("alice@localhost", "not fully qualified"),
                ("alice@example.com.", "not an address"),
                ("alice@xn--a.example", "not an address"),
                ("mailto:alice@example.com@evil.example", "not an address"),
            ],
        );
    }

    #[test]
    fn an_international_mailbox_counts_only_where_an_rfc822_name_could_not_stand() {
        check(
            |text| as_text(utf8_mailbox(text)),
            &[
                ("zoë@example.com", "zoë@example.com"),
                ("用户@xn--fsqu00a.example", "用户@xn--fsqu00a.example"),
                ("*ë@example.com", "*ë@example.com"),
            ],
            &[
                ("", "empty"),
                ("alice@example.com", "all ASCII"),
                ("\"alice\"@example.com", "all ASCII"),
                ("zoë@exämple.com", "A-labels"),
                ("zoë@例子.example", "A-labels"),
                ("zoë", "not an address"),
                ("zoë@example.com\0", "NUL"),
                ("zoë\r\n@example.com", "control"),
                ("zo\u{85}ë@example.com", "control"),
                ("zo ë@example.com", "spaces"),
                ("\u{feff}zoë@example.com", "not an address"),
                ("zoë\u{202e}@example.com", "not an address"),
                ("Zoë <zoë@example.com>", "spaces"),
                ("<zoë@example.com>", "not an address"),
                ("zoë(x)@example.com", "not an address"),
                ("zoë@*.example.com", "not an address"),
                ("zoë@xn--a.example", "not an address"),
                ("zoë@localhost", "not fully qualified"),
                ("zoë@[192.0.2.1]", "IP address"),
            ],
        );
    }

    #[test]
    fn a_user_principal_name_may_have_a_suffix_that_only_the_directory_knows() {
        check(
            |text| as_text(upn(text)),
            &[
                ("Alice@example.com", "Alice@example.com"),
                ("alice@CORP", "alice@CORP"),
                ("zoë@corp.example", "zoë@corp.example"),
            ],
            &[
                ("", "empty"),
                ("CORP\\alice", "not a user principal name"),
                ("alice", "not a user principal name"),
                ("alice@corp@example.com", "not a user principal name"),
                ("alice@example.com\0", "NUL"),
                ("alice\t@example.com", "control"),
                ("alice smith@example.com", "spaces"),
                ("alice@[192.0.2.1]", "IP address"),
            ],
        );
    }

    #[test]
    fn a_dns_name_counts_only_as_one_host() {
        check(
            dns,
            &[("Printer.Example.COM", "printer.example.com")],
            &[
                ("", "empty"),
                ("*.example.com", "wildcard"),
                ("a\0b.example.com", "NUL"),
                ("a b", "spaces"),
                (" ", "spaces"),
                ("a\r\nb.example.com", "control"),
                ("exämple.com", "beyond ASCII"),
                (".example.com", "not a host name"),
                ("example.com.", "not a host name"),
                ("192.0.2.1", "not a host name"),
                ("a_b.example.com", "not a host name"),
            ],
        );
    }

    #[test]
    fn a_spiffe_id_counts_only_in_its_one_form() {
        check(
            uri,
            &[
                ("spiffe://example.com/billing", "spiffe://example.com/billing"),
                ("spiffe://example.com", "spiffe://example.com"),
                ("https://Example.com/a?b#c", "https://Example.com/a?b#c"),
                ("urn:uuid:1", "urn:uuid:1"),
            ],
            &[
                ("", "empty"),
                ("no-scheme", "no scheme"),
                (":x", "no scheme"),
                ("1a:x", "no scheme"),
                ("urn:", "nothing follows"),
                ("SPIFFE://example.com/a", "not a SPIFFE ID"),
                ("spiffe://Example.com/a", "not a SPIFFE ID"),
                ("spiffe:///a", "not a SPIFFE ID"),
                ("spiffe://example.com/", "not a SPIFFE ID"),
                ("spiffe://example.com//a", "not a SPIFFE ID"),
                ("spiffe://example.com/../a", "not a SPIFFE ID"),
                ("spiffe://example.com/*", "not a SPIFFE ID"),
                ("spiffe://user@example.com/a", "not a SPIFFE ID"),
                ("spiffe://example.com:1/a", "not a SPIFFE ID"),
                ("spiffe://example.com/a?b", "not a SPIFFE ID"),
                ("spiffe://example.com/%61", "not a SPIFFE ID"),
                ("spiffe://example.com/a\0", "NUL"),
                ("spiffe://example.com/a\r\n", "control"),
                ("spiffe://example.com/a b", "spaces"),
            ],
        );
        let long = |octets: usize| uri(&format!("urn:{}", "a".repeat(octets - 4)));
        assert!(long(URI_MAX).is_ok() && long(URI_MAX + 1).is_err());
    }
}
