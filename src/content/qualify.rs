//! Addresses in the header without a fully qualified domain (RFC 6409 §4.2): found, and completed where that is asked for.
//!
//! `To: root` becomes `root@example.com`, `bob@mail` becomes `bob@mail.example.com`. A name with a dot in it counts as whole: which of those
//! are not can't be told without the DNS, and to guess is what the RFC advises against. Only what stands plainly as an address is looked at;
//! quotes, comments, groups' names and literals are stepped over, and a field that can't be followed to its end is left as it is. A field
//! that a signature covers is not changed. Never: says what an address is, which is for the readers behind this; looks at the body.

use crate::mail::Domain;
use crate::mail::address::is_atext;
use crate::mail::header::{HeaderLimits, HeaderSection, RawField};

use super::signed::signed_names;

/// Fields of addresses (RFC 5322 §3.6.2, §3.6.3, §3.6.6).
const FIELDS: [&str; 12] = [
    "From",
    "Sender",
    "Reply-To",
    "To",
    "Cc",
    "Bcc",
    "Resent-From",
    "Resent-Sender",
    "Resent-Reply-To",
    "Resent-To",
    "Resent-Cc",
    "Resent-Bcc",
];
/// As much of an address as a sentence shows, characters.
const SHOWN_MAX: usize = 80;

/// An address that is not whole.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Short {
    /// Where it ends in the value, octets.
    end: usize,
    text: String,
    lacks: Lacks,
}

/// What it lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lacks {
    /// The whole domain.
    Domain,
    /// All but its first label.
    Parents,
}

/// The first address that is not whole, as a sentence.
pub(super) fn first(section: &[u8], limits: &HeaderLimits) -> Option<String> {
    let section = HeaderSection::read(section, limits).ok()?;
    section.fields().iter().filter(|field| is_looked_at(field)).find_map(|field| {
        let short = shorts(field.value).into_iter().next()?;
        let text: String = short.text.chars().take(SHOWN_MAX).collect();
        Some(match short.lacks {
            Lacks::Domain => format!("Field {} names <{text}> without a domain", field.name),
            Lacks::Parents => format!("Field {} names <{text}>, whose domain is not fully qualified", field.name),
        })
    })
}

/// The section with every address completed; none when there is nothing to complete.
pub(super) fn complete(octets: &[u8], limits: &HeaderLimits, domain: &Domain) -> Option<Vec<u8>> {
    let section = HeaderSection::read(octets, limits).ok()?;
    let signed = signed_names(&section);
    let mut completed: Vec<u8> = Vec::new();
    let mut copied = 0;
    for field in section.fields().iter().filter(|field| is_looked_at(field)) {
        // In order, so that it is searched by halves: a made-up `h=` may name tens of thousands.
        if signed.binary_search(&field.name.to_ascii_lowercase()).is_ok() {
            continue;
        }
        let value = field.offset.saturating_add(field.name.len()).saturating_add(1);
        for short in shorts(field.value) {
            let place = value.saturating_add(short.end);
            completed.extend_from_slice(octets.get(copied..place)?);
            completed.push(match short.lacks {
                Lacks::Domain => b'@',
                Lacks::Parents => b'.',
            });
            completed.extend_from_slice(domain.ascii().as_bytes());
            copied = place;
        }
    }
    if copied == 0 {
        return None;
    }
    completed.extend_from_slice(octets.get(copied..)?);
    Some(completed)
}

fn is_looked_at(field: &RawField<'_>) -> bool {
    FIELDS.iter().any(|name| field.is(name))
}

/// One element of a list of addresses, as far as it was read.
#[derive(Default)]
struct Element {
    /// The words outside of angle brackets, with where each ends.
    words: usize,
    only: Option<(String, usize)>,
    /// Whether something else than one plain word stood there.
    mixed: bool,
}

impl Element {
    fn word(&mut self, text: &str, end: usize) {
        self.words = self.words.saturating_add(1);
        self.only = (self.words == 1).then(|| (text.to_owned(), end));
    }

    /// The address that a bare element is, if it is not whole.
    fn short(self) -> Option<Short> {
        let (text, end) = self.only.filter(|_| !self.mixed)?;
        short(&text, end)
    }
}

/// The addresses of a raw value that are not whole; of a value that can't be followed, none.
fn shorts(value: &[u8]) -> Vec<Short> {
    let mut found = Vec::new();
    let mut element = Element::default();
    let mut at: usize = 0;
    while let Some(&octet) = value.get(at) {
        let end = match octet {
            b'"' => behind_quote(value, at),
            b'(' => behind_comment(value, at),
            b'[' => behind(value, at, b']'),
            b'<' => {
                let end = behind_angle(value, at);
                if let Some(end) = end {
                    let inner = value.get(at.saturating_add(1)..end.saturating_sub(1)).unwrap_or_default();
                    found.extend(in_angles(inner, at.saturating_add(1)));
                }
                end
            }
            b',' | b';' => {
                found.extend(std::mem::take(&mut element).short());
                Some(at.saturating_add(1))
            }
            // What stood before it was a group's name.
            b':' => {
                element = Element::default();
                Some(at.saturating_add(1))
            }
            octet if is_word(octet) => {
                let rest = value.get(at..).unwrap_or_default();
                let length = rest.iter().position(|octet| !is_word(*octet)).unwrap_or(rest.len());
                let end = at.saturating_add(length);
                element.word(&String::from_utf8_lossy(rest.get(..length).unwrap_or_default()), end);
                Some(end)
            }
            _ => Some(at.saturating_add(1)),
        };
        let Some(end) = end else { return Vec::new() };
        if matches!(octet, b'"' | b'[' | b'<') {
            element.mixed = true;
        }
        at = end;
    }
    found.extend(element.short());
    found
}

/// An addr-spec in angle brackets with nothing else between them. None: whole, or no address.
fn in_angles(inner: &[u8], begin: usize) -> Option<Short> {
    let text = std::str::from_utf8(inner).ok()?;
    text.bytes().all(is_word).then_some(())?;
    short(text, begin.saturating_add(text.len()))
}

/// An address of one word that is not whole. An encoded word is none.
fn short(text: &str, end: usize) -> Option<Short> {
    let lacks = match text.rsplit_once('@') {
        None => Lacks::Domain,
        Some((local, _)) if local.is_empty() || local.contains('@') => return None,
        Some((_, host)) if host.is_empty() || host.contains('.') => return None,
        Some((_, host)) => {
            host.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-').then_some(Lacks::Parents)?
        }
    };
    let plain = !text.is_empty() && !text.contains("=?") && !text.starts_with('.') && !text.ends_with('.');
    plain.then(|| Short { end, text: text.to_owned(), lacks })
}

/// What a plain address is made of.
fn is_word(octet: u8) -> bool {
    octet.is_ascii() && (is_atext(char::from(octet)) || matches!(octet, b'.' | b'@'))
}

/// Behind the next octet of this kind.
fn behind(value: &[u8], at: usize, closing: u8) -> Option<usize> {
    let rest = value.get(at..)?;
    rest.iter().position(|octet| *octet == closing).map(|length| at.saturating_add(length).saturating_add(1))
}

fn behind_quote(value: &[u8], at: usize) -> Option<usize> {
    let mut at = at.saturating_add(1);
    loop {
        match value.get(at)? {
            b'\\' => at = at.saturating_add(2),
            b'"' => return Some(at.saturating_add(1)),
            _ => at = at.saturating_add(1),
        }
    }
}

fn behind_comment(value: &[u8], at: usize) -> Option<usize> {
    let mut at = at;
    let mut depth: usize = 0;
    loop {
        let octet = value.get(at)?;
        at = at.saturating_add(if *octet == b'\\' { 2 } else { 1 });
        match octet {
            b'(' => depth = depth.saturating_add(1),
            b')' if depth == 1 => return Some(at),
            b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
}

/// Behind the `>` that ends what begins with the `<` here; quotes within are stepped over.
fn behind_angle(value: &[u8], at: usize) -> Option<usize> {
    let mut at = at.saturating_add(1);
    loop {
        match value.get(at)? {
            b'"' => at = behind_quote(value, at)?,
            b'>' => return Some(at.saturating_add(1)),
            _ => at = at.saturating_add(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn completed(section: &str) -> String {
        let domain = Domain::parse("example.com").unwrap();
        let made = complete(section.as_bytes(), &HeaderLimits::default(), &domain);
        made.map_or_else(|| section.to_owned(), |octets| String::from_utf8(octets).unwrap())
    }

    #[test]
    fn what_is_not_whole_is_completed_and_the_rest_left_as_it_is() {
        for (value, expected) in [
            ("root", "root@example.com"),
            ("  root  ", "  root@example.com  "),
            ("root (Cron Daemon)", "root@example.com (Cron Daemon)"),
            ("Root <root>", "Root <root@example.com>"),
            ("\"Root, the\" <root@web1>", "\"Root, the\" <root@web1.example.com>"),
            ("root, bob@mail, c@x.example", "root@example.com, bob@mail.example.com, c@x.example"),
            ("a,\r\n b@mail\r\n\t, <c>", "a@example.com,\r\n b@mail.example.com\r\n\t, <c@example.com>"),
            ("friends: a, <b@mail>;", "friends: a@example.com, <b@mail.example.com>;"),
            ("undisclosed-recipients:;", "undisclosed-recipients:;"),
            ("c@x.example", "c@x.example"),
            ("c@[192.0.2.1]", "c@[192.0.2.1]"),
            ("<c@[IPv6:2001:db8::1]>, d", "<c@[IPv6:2001:db8::1]>, d@example.com"),
            ("c@[IPv6:2001:db8::1]", "c@[IPv6:2001:db8::1]"),
            ("c@[192.0.2.1], d", "c@[192.0.2.1], d@example.com"),
            ("\"a\\\", b\" <c>", "\"a\\\", b\" <c@example.com>"),
            ("root (ab)", "root@example.com (ab)"),
            ("bob@my-host, c@my_host", "bob@my-host.example.com, c@my_host"),
            ("root (a\\)b)", "root@example.com (a\\)b)"),
            ("root (a (b) c)", "root@example.com (a (b) c)"),
            ("<\"a>b\"@mail>, c", "<\"a>b\"@mail>, c@example.com"),
            ("\"a b\"@mail", "\"a b\"@mail"),
            ("<\"a>b\"@mail>", "<\"a>b\"@mail>"),
            ("Bob the Builder", "Bob the Builder"),
            ("=?utf-8?Q?Bob?=", "=?utf-8?Q?Bob?="),
            ("=?utf-8?Q?Bob?= <bob>", "=?utf-8?Q?Bob?= <bob@example.com>"),
            ("<>", "<>"),
            ("<@relay:bob@mail>", "<@relay:bob@mail>"),
            ("bob@", "bob@"),
            ("@mail", "@mail"),
            ("a@b@mail", "a@b@mail"),
            ("b\u{f6}b", "b\u{f6}b"),
            ("bob@m\u{e4}il", "bob@m\u{e4}il"),
            ("bob (no end", "bob (no end"),
            ("bob, \"no end", "bob, \"no end"),
            ("bob <no end", "bob <no end"),
            ("", ""),
        ] {
            let (section, expected) =
                (format!("Subject: root\r\nTo:{value}\r\n\r\n"), format!("Subject: root\r\nTo:{expected}\r\n\r\n"));
            assert_eq!(completed(&section), expected, "{value}");
        }
    }

    #[test]
    fn every_field_of_addresses_is_completed_unless_it_is_signed() {
        for name in FIELDS {
            let name = name.to_ascii_uppercase();
            assert_eq!(completed(&format!("{name}: a\r\n\r\n")), format!("{name}: a@example.com\r\n\r\n"));
        }
        let signed = "DKIM-Signature: v=1; a=x; b=x; bh=x; d=x; s=x; h=from:to\r\nTo: a\r\nCc: b\r\n\r\n";
        assert_eq!(completed(signed), signed.replace("Cc: b", "Cc: b@example.com"));
        let other = "Errors-To: a\r\nX-To: b\r\n\r\nTo: c\r\n";
        assert_eq!(completed(other), other);
    }

    #[test]
    fn the_first_is_told() {
        let told = |section: &str| first(section.as_bytes(), &HeaderLimits::default());
        assert_eq!(told("From: a@x.example\r\nTo: b@x.example\r\n\r\n"), None);
        assert_eq!(told("From: a@x.example\r\nCc: root\r\n\r\n").unwrap(), "Field Cc names <root> without a domain");
        assert_eq!(
            told("From: a@x.example\r\nto: b@x.example, B <b@mail>\r\n\r\n").unwrap(),
            "Field to names <b@mail>, whose domain is not fully qualified"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// What is completed is whole, and nothing but the domain was put in.
        #[test]
        fn completing_twice_is_completing_once(value in "([ab.@]{1,5}|[<>\"(),:;\\\\\\[\\] ]|\r\n ){0,20}") {
            let section = format!("To:{value}\r\n\r\n");
            let once = completed(&section);
            prop_assert_eq!(&completed(&once), &once);
            prop_assert_eq!(once.replace("@example.com", "").replace(".example.com", ""), section);
        }
    }
}
