//! Addresses: the mailboxes of RFC 5321 §4.1.2 with the UTF-8 of RFC 6531 §3.3, and the one canonicaliser by which they compare.
//!
//! An [`Address`] keeps what was written, octet for octet: that is what is sent on. A [`CanonicalAddress`] is only compared. Certificate
//! names, envelope, header and configuration all come through here, so that no two places can disagree on whether two addresses are one.
//!
//! Stricter than the grammar where readers differ: no trailing dot, no underscore in a domain, no bare IP address as a domain, no empty
//! quoted local part, no invisible character, none that turns into ASCII when it is normalised. Every fault is an [`AddressFault`];
//! nothing else can fail. Never: asks the DNS, changes what was written.

mod unseen;

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

pub(crate) use unseen::is_unseen;

/// The longest local part, octets as written (RFC 5321 §4.5.3.1.1; octets also for UTF-8, RFC 6531 §3.3).
pub const LOCAL_PART_MAX: usize = 64;
/// The longest domain, octets. RFC 5321 §4.5.3.1.2 says 255, but a name of over 253 has no form in the DNS (RFC 1035 §2.3.4).
pub const DOMAIN_MAX: usize = 253;
/// The longest label of a domain, octets of its ASCII form (RFC 1035 §2.3.4).
pub const LABEL_MAX: usize = 63;
/// The longest address, octets: a path is 256 with its angle brackets (RFC 5321 §4.5.3.1.3).
pub const ADDRESS_MAX: usize = 254;

/// How the ASCII local parts of a domain compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LocalPartCase {
    /// `Alice` and `alice` are one.
    #[default]
    Ignored,
    /// Octet for octet.
    Exact,
}

/// Why a text is no address; printable ASCII, fit for a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressFault {
    /// Nothing there.
    #[error("the address is empty")]
    Empty,
    /// Over [`ADDRESS_MAX`].
    #[error("the address is longer than {ADDRESS_MAX} octets")]
    TooLong,
    /// No `@` behind the local part.
    #[error("the address has no @ behind its local part")]
    NoAt,
    /// A control character, NUL included.
    #[error("the address holds a control character")]
    Control,
    /// A character that nobody sees, or that turns into an ASCII one when normalised.
    #[error("the address holds the invisible or misleading character U+{:04X}", u32::from(*.0))]
    Misleading(char),
    /// Nothing before the `@`.
    #[error("the local part (left of the @) is empty")]
    LocalPartEmpty,
    /// Over [`LOCAL_PART_MAX`].
    #[error("the local part (left of the @) is longer than {LOCAL_PART_MAX} octets")]
    LocalPartTooLong,
    /// A dot first, last or doubled.
    #[error("the local part (left of the @) begins or ends with a dot or has two in a row; put it in quotes")]
    LocalPartDot,
    /// A character that must be quoted.
    #[error("the local part (left of the @) holds '{}', which must be quoted", .0.escape_default())]
    LocalPartCharacter(char),
    /// A quoted local part without its second quote, or with more behind it.
    #[error("the quoted local part does not end right before the @")]
    Unterminated,
    /// Nothing behind the `@`.
    #[error("the domain (right of the @) is empty")]
    DomainEmpty,
    /// Over [`DOMAIN_MAX`].
    #[error("the domain is longer than {DOMAIN_MAX} octets")]
    DomainTooLong,
    /// A dot at the end.
    #[error("the domain ends with a dot; leave it out")]
    TrailingDot,
    /// A dot first or doubled.
    #[error("the domain begins with a dot or has two in a row")]
    LabelEmpty,
    /// Over [`LABEL_MAX`].
    #[error("a label of the domain is longer than {LABEL_MAX} octets")]
    LabelTooLong,
    /// A hyphen at the edge of a label.
    #[error("a label of the domain begins or ends with a hyphen")]
    LabelHyphen,
    /// A character that no host name has.
    #[error("the domain holds '{}', which no host name has", .0.escape_default())]
    DomainCharacter(char),
    /// No name that IDNA knows, or one that is written otherwise.
    #[error("the domain is no valid international name (IDNA)")]
    International,
    /// `192.0.2.1` without brackets.
    #[error("an IP address must stand in brackets")]
    BareIpAddress,
    /// `[...]` that is neither IPv4 nor `IPv6:` with an address.
    #[error("the address literal is neither [IPv4] nor [IPv6:address]")]
    Literal,
}

/// A domain name, kept as lower-case A-labels (RFC 5890 §2.3.2.1): two ways to write one name are equal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Domain {
    ascii: String,
}

impl Domain {
    /// Reads a domain of RFC 5321 §4.1.2, whose labels may be U-labels (RFC 6531 §3.3). An underscore, a trailing dot and a bare IPv4
    /// address are faults, and so are forms that IDNA would map to another spelling (full-width letters, other dots).
    pub fn parse(text: &str) -> Result<Self, AddressFault> {
        if text.is_empty() {
            return Err(AddressFault::DomainEmpty);
        }
        text.chars().try_for_each(visible)?;
        let lower: Cow<'_, str> =
            if text.is_ascii() { text.to_ascii_lowercase().into() } else { international(text)?.into() };
        check_labels(&lower)?;
        if lower.split('.').any(|label| label.starts_with("xn--")) {
            // An A-label must be one: valid Punycode of a valid U-label, and no other way to write a shorter name (RFC 5891 §5.4).
            to_ascii(&lower)?;
        }
        Ok(Self { ascii: lower.into_owned() })
    }

    /// The name in lower-case A-labels.
    pub fn ascii(&self) -> &str {
        &self.ascii
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.ascii)
    }
}

/// RFC 5321 §4.1.2: sub-domain = Let-dig [Ldh-str], at most 63 octets (RFC 1035 §2.3.4).
fn check_labels(ascii: &str) -> Result<(), AddressFault> {
    if ascii.len() > DOMAIN_MAX {
        return Err(AddressFault::DomainTooLong);
    }
    if ascii.ends_with('.') && !ascii.ends_with("..") {
        return Err(AddressFault::TrailingDot);
    }
    if let Some(wrong) = ascii.chars().find(|&letter| !letter.is_ascii_alphanumeric() && letter != '-' && letter != '.')
    {
        return Err(AddressFault::DomainCharacter(wrong));
    }
    let mut last = "";
    for label in ascii.split('.') {
        match label.len() {
            0 => return Err(AddressFault::LabelEmpty),
            1..=LABEL_MAX => {}
            _ => return Err(AddressFault::LabelTooLong),
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err(AddressFault::LabelHyphen);
        }
        last = label;
    }
    // No top-level domain is a number (RFC 3696 §2); what ends in one is an IP address to half of the world's programs.
    if last.bytes().all(|octet| octet.is_ascii_digit()) {
        return Err(AddressFault::BareIpAddress);
    }
    Ok(())
}

fn to_ascii(name: &str) -> Result<Cow<'_, str>, AddressFault> {
    Uts46::new()
        .to_ascii(name.as_bytes(), AsciiDenyList::STD3, Hyphens::CheckFirstLast, DnsLength::Verify)
        .map_err(|_| AddressFault::International)
}

/// A name with U-labels as A-labels. UTS 46 maps much more than letter case; here a label must come back as it was written, but for case
/// and normal form, so that what we compare is what every other reader sees.
fn international(text: &str) -> Result<String, AddressFault> {
    if let Some(wrong) = text.chars().find(|&c| c.is_ascii() && !c.is_ascii_alphanumeric() && c != '-' && c != '.') {
        return Err(AddressFault::DomainCharacter(wrong));
    }
    let written = text.nfc().collect::<String>().to_lowercase();
    let ascii = to_ascii(&written)?;
    let (shown, valid) = Uts46::new().to_unicode(ascii.as_bytes(), AsciiDenyList::STD3, Hyphens::CheckFirstLast);
    valid.map_err(|_| AddressFault::International)?;
    let same = written.split('.').count() == ascii.split('.').count()
        && written
            .split('.')
            .zip(ascii.split('.').zip(shown.split('.')))
            .all(|(written, (ascii, shown))| written == if written.is_ascii() { ascii } else { shown });
    if same { Ok(ascii.into_owned()) } else { Err(AddressFault::International) }
}

/// What stands right of the `@`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// A domain name.
    Domain(Domain),
    /// `[192.0.2.1]`, `[IPv6:2001:db8::1]` (RFC 5321 §4.1.3).
    Literal(IpAddr),
}

impl Host {
    /// Reads what may stand right of the `@`. Address literals of other tags than `IPv6` are faults.
    pub fn parse(text: &str) -> Result<Self, AddressFault> {
        let Some(inner) = text.strip_prefix('[') else { return Domain::parse(text).map(Self::Domain) };
        let inner = inner.strip_suffix(']').ok_or(AddressFault::Literal)?;
        let address = match inner.split_at_checked(5) {
            Some((tag, address)) if tag.eq_ignore_ascii_case("IPv6:") => address.parse::<Ipv6Addr>().map(IpAddr::V6),
            _ => inner.parse::<Ipv4Addr>().map(IpAddr::V4),
        };
        address.map(Self::Literal).map_err(|_| AddressFault::Literal)
    }

    /// Whether it can be reached from anywhere: a domain with a dot, or a literal (RFC 5321 §2.3.5, RFC 6409 §4.2).
    pub fn is_fully_qualified(&self) -> bool {
        match self {
            Self::Domain(domain) => domain.ascii.contains('.'),
            Self::Literal(_) => true,
        }
    }

    /// The domain, unless it is a literal.
    pub fn domain(&self) -> Option<&Domain> {
        match self {
            Self::Domain(domain) => Some(domain),
            Self::Literal(_) => None,
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Domain(domain) => domain.fmt(f),
            Self::Literal(IpAddr::V4(address)) => write!(f, "[{address}]"),
            Self::Literal(IpAddr::V6(address)) => write!(f, "[IPv6:{address}]"),
        }
    }
}

/// A mailbox, as written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    text: Box<str>,
    host: Host,
}

impl Address {
    /// Reads an address of RFC 5321 §4.1.2 with RFC 6531's UTF-8: `local-part@domain`, without angle brackets, comments or white space.
    pub fn parse(text: &str) -> Result<Self, AddressFault> {
        if text.is_empty() {
            return Err(AddressFault::Empty);
        }
        if text.len() > ADDRESS_MAX {
            return Err(AddressFault::TooLong);
        }
        text.chars().try_for_each(visible)?;
        let at = if text.starts_with('"') { quoted_end(text)? } else { dot_atom_end(text)? };
        if at > LOCAL_PART_MAX {
            return Err(AddressFault::LocalPartTooLong);
        }
        let host = Host::parse(text.get(at.saturating_add(1)..).unwrap_or_default())?;
        Ok(Self { text: text.into(), host })
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The local part as written (quotes kept).
    pub fn local_part(&self) -> &str {
        // No host holds an `@`, so the last one is the one.
        self.text.rsplit_once('@').map_or("", |(local, _)| local)
    }

    /// Right of the `@`.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Whether it is all ASCII, so that it can travel without SMTPUTF8.
    pub fn is_ascii(&self) -> bool {
        self.text.is_ascii()
    }

    /// The form by which it compares: local part without its quotes, ASCII ones by `case`, others in NFC and octet for octet (RFC 6532 §3.1);
    /// domain in lower-case A-labels. Made again from its own text, it stays the same.
    pub fn canonical(&self, case: LocalPartCase) -> CanonicalAddress {
        let local = unquoted(self.local_part());
        let local = match case {
            _ if !local.is_ascii() => local.nfc().collect(),
            LocalPartCase::Ignored => local.to_ascii_lowercase(),
            LocalPartCase::Exact => local.into_owned(),
        };
        CanonicalAddress { local, host: self.host.to_string() }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for Address {
    type Error = AddressFault;

    fn try_from(text: String) -> Result<Self, AddressFault> {
        Self::parse(&text)
    }
}

impl std::str::FromStr for Address {
    type Err = AddressFault;

    fn from_str(text: &str) -> Result<Self, AddressFault> {
        Self::parse(text)
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.text.into()
    }
}

/// The form of an address by which it compares: local part unquoted and in its case rule, domain in lower-case A-labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CanonicalAddress {
    /// Local part, unquoted: it may hold spaces, dots and `@` in any place.
    pub local: String,
    /// Host: A-labels in lower case, or a literal in brackets.
    pub host: String,
}

impl CanonicalAddress {
    /// The same without any case of letters, ASCII or not: for what is to be excluded however it is written. Letter by letter, so that no letter
    /// depends on its neighbours; by way of capitals, so that what has one capital in common becomes one (ß and ss, both sigmas).
    pub fn folded(&self) -> Self {
        let capitals = self.local.chars().flat_map(char::to_uppercase);
        Self { local: capitals.flat_map(char::to_lowercase).nfc().collect(), host: self.host.clone() }
    }
}

impl fmt::Display for CanonicalAddress {
    /// As an address again, quoted where it must be.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_dot_atom(&self.local) {
            return write!(f, "{}@{}", self.local, self.host);
        }
        f.write_str("\"")?;
        for letter in self.local.chars() {
            if matches!(letter, '"' | '\\') {
                f.write_str("\\")?;
            }
            write!(f, "{letter}")?;
        }
        write!(f, "\"@{}", self.host)
    }
}

/// RFC 5322 §3.2.3 atext, with RFC 6531 §3.3's UTF-8.
pub(crate) fn is_atext(letter: char) -> bool {
    !letter.is_ascii() || letter.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(letter)
}

fn is_dot_atom(text: &str) -> bool {
    text.split('.').all(|atom| !atom.is_empty() && atom.chars().all(is_atext))
}

/// Refuses what nobody sees, and the characters whose canonical decomposition is ASCII: normalised, they would pass for another address.
fn visible(letter: char) -> Result<(), AddressFault> {
    match letter {
        ' '..='~' => Ok(()),
        _ if letter.is_control() => Err(AddressFault::Control),
        // Question mark, grave accent and Kelvin sign that normalise to `;`, '`' and `K`.
        '\u{37e}' | '\u{1fef}' | '\u{212a}' => Err(AddressFault::Misleading(letter)),
        // Words of Persian and Sinhala need the joiners; where they may stand in a domain is for IDNA to say.
        '\u{200c}' | '\u{200d}' => Ok(()),
        // What stands for an object, or for what could not be read.
        '\u{fffc}' | '\u{fffd}' => Err(AddressFault::Misleading(letter)),
        _ if is_unseen(letter) || letter.is_whitespace() => Err(AddressFault::Misleading(letter)),
        _ => Ok(()),
    }
}

/// Where the dot-atom (RFC 5321 §4.1.2 Dot-string) at the start ends: at the `@`.
fn dot_atom_end(text: &str) -> Result<usize, AddressFault> {
    let (local, _) = text.split_once('@').ok_or(AddressFault::NoAt)?;
    if local.is_empty() {
        return Err(AddressFault::LocalPartEmpty);
    }
    if let Some(wrong) = local.chars().find(|&letter| letter != '.' && !is_atext(letter)) {
        return Err(AddressFault::LocalPartCharacter(wrong));
    }
    if local.split('.').any(str::is_empty) {
        return Err(AddressFault::LocalPartDot);
    }
    Ok(local.len())
}

/// Where the quoted string (RFC 5321 §4.1.2 Quoted-string) at the start ends: at the `@`.
fn quoted_end(text: &str) -> Result<usize, AddressFault> {
    let mut letters = text.char_indices().skip(1);
    while let Some((place, letter)) = letters.next() {
        match letter {
            // quoted-pairSMTP = %d92 %d32-126: a backslash and one graphic ASCII character or space.
            '\\' => match letters.next() {
                Some((_, ' '..='~')) => {}
                Some((_, other)) => return Err(AddressFault::LocalPartCharacter(other)),
                None => return Err(AddressFault::Unterminated),
            },
            '"' if place == 1 => return Err(AddressFault::LocalPartEmpty),
            '"' => {
                let end = place.saturating_add(1);
                return match letters.next() {
                    Some((_, '@')) => Ok(end),
                    Some(_) => Err(AddressFault::Unterminated),
                    None => Err(AddressFault::NoAt),
                };
            }
            _ => {}
        }
    }
    Err(AddressFault::Unterminated)
}

/// The local part without its quotes and backslashes.
fn unquoted(local: &str) -> Cow<'_, str> {
    let Some(inner) = local.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else { return local.into() };
    if !inner.contains('\\') {
        return inner.into();
    }
    let mut plain = String::with_capacity(inner.len());
    let mut letters = inner.chars();
    while let Some(letter) = letters.next() {
        plain.extend(if letter == '\\' { letters.next() } else { Some(letter) });
    }
    plain.into()
}

#[cfg(test)]
mod tests;
