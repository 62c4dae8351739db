//! Distinguished names and serial numbers as values (X.501, RFC 5280 §4.1.2.2, §4.1.2.4), and how people write them (RFC 4514).
//!
//! Two names are one when they have the same relative names in the same order, each the same set of attributes with the same values. The kind
//! of string of a value does not count (PrintableString `Alice` is UTF8String `Alice`), normal form C does not; case and spaces do. RFC 5280
//! §7.1 would let a CA's certificates chain without regard to them, but here a name decides who may send: a fold could make two people one,
//! and exactness can only refuse. A text is parsed to values before it is compared, so no escaping makes one name pass for another.
//!
//! Pure. Reading fails with a sentence that says what to write.

use std::fmt;
use std::fmt::Write as _;

use unicode_normalization::UnicodeNormalization as _;
use x509_parser::asn1_rs::{Any, FromDer as _, Tag, ToDer as _};
use x509_parser::x509::X509Name;

/// The longest name as text that is read, octets.
pub const NAME_MAX: usize = 4096;
/// The most attributes in one name.
pub const ATTRIBUTES_MAX: usize = 64;

/// What people call attribute types: RFC 4514 §3, RFC 4519, and what openssl writes. The first name of a type is the one shown.
const TYPES: &[(&str, &str)] = &[
    ("CN", "2.5.4.3"),
    ("SN", "2.5.4.4"),
    ("serialNumber", "2.5.4.5"),
    ("C", "2.5.4.6"),
    ("L", "2.5.4.7"),
    ("ST", "2.5.4.8"),
    ("STREET", "2.5.4.9"),
    ("O", "2.5.4.10"),
    ("OU", "2.5.4.11"),
    ("title", "2.5.4.12"),
    ("businessCategory", "2.5.4.15"),
    ("postalCode", "2.5.4.17"),
    ("name", "2.5.4.41"),
    ("GN", "2.5.4.42"),
    ("givenName", "2.5.4.42"),
    ("initials", "2.5.4.43"),
    ("generationQualifier", "2.5.4.44"),
    ("dnQualifier", "2.5.4.46"),
    ("pseudonym", "2.5.4.65"),
    ("organizationIdentifier", "2.5.4.97"),
    ("UID", "0.9.2342.19200300.100.1.1"),
    ("DC", "0.9.2342.19200300.100.1.25"),
    ("emailAddress", "1.2.840.113549.1.9.1"),
    ("E", "1.2.840.113549.1.9.1"),
];

/// A distinguished name: at least one relative name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DistinguishedName {
    /// In the order of the DER, the most general first; each a sorted set.
    relative: Box<[Box<[Attribute]>]>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Attribute {
    /// The type's object identifier in dotted decimals.
    kind: Box<str>,
    value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Value {
    /// A string, of whatever kind, in normal form C.
    Text(Box<str>),
    /// Anything else, as DER.
    Der(Box<[u8]>),
}

/// Why a text is no distinguished name, in words for who wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DnFault {
    /// Nothing there.
    #[error("it is empty; write a subject like \"CN=Alice,O=Example\"")]
    Empty,
    /// Over [`NAME_MAX`] or [`ATTRIBUTES_MAX`].
    #[error("it is longer than {NAME_MAX} octets or has more than {ATTRIBUTES_MAX} attributes")]
    TooLong,
    /// A part without `=`.
    #[error("{0:?} has no =; each part is written TYPE=value, and a comma within a value as \\,")]
    NoEquals(String),
    /// A type that is neither known nor an object identifier.
    #[error("{0:?} is no attribute type; write CN, O, OU, C, L, ST, DC, UID, ... or its object identifier")]
    UnknownType(String),
    /// `CN=`
    #[error("{0} has no value")]
    NoValue(String),
    /// A character that must be escaped.
    #[error("'{0}' within a value is written \\{0}")]
    Unescaped(char),
    /// `\x`
    #[error("after a \\ comes one of the characters , + \" \\ < > ; = # or a space, or two hexadecimal digits")]
    Escape,
    /// `\ff` that is no UTF-8.
    #[error("an escaped value is not UTF-8")]
    NotUtf8,
    /// `#...` that is no DER.
    #[error("behind # stand the octets of one DER value in hexadecimal")]
    NotDer,
    /// NUL, line ends and kin.
    #[error("a value holds control characters; no usable name does")]
    Control,
    /// One attribute twice in a relative name.
    #[error("one part has the same attribute twice")]
    Twice,
}

impl DistinguishedName {
    /// The name of a certificate's field; `None` when it has no part.
    ///
    /// # Errors
    /// Why it is unusable.
    pub(super) fn of(name: &X509Name<'_>) -> Result<Option<Self>, &'static str> {
        let mut relative = Vec::new();
        for set in name.iter_rdn() {
            let mut attributes = Vec::new();
            for one in set.iter() {
                let value = Value::of(one.attr_value()).ok_or("holds control characters, or a string that is none")?;
                attributes.push(Attribute { kind: one.attr_type().to_id_string().into(), value });
            }
            relative.push(sorted(attributes).ok_or("has an empty part, or one with the same attribute twice")?);
        }
        if relative.iter().map(|set| set.len()).sum::<usize>() > ATTRIBUTES_MAX {
            return Err("has too many attributes");
        }
        Ok((!relative.is_empty()).then(|| Self { relative: relative.into() }))
    }

    /// Reads a name as RFC 4514 writes it: the most special part first, attributes of one part with `+` between them. Spaces around `,`, `+`
    /// and `=` are passed over (RFC 2253 §4), as openssl writes them.
    pub fn parse(text: &str) -> Result<Self, DnFault> {
        if text.trim().is_empty() {
            return Err(DnFault::Empty);
        }
        if text.len() > NAME_MAX {
            return Err(DnFault::TooLong);
        }
        let mut relative = Vec::new();
        for part in split(text, ',') {
            let attributes = split(part, '+').into_iter().map(attribute).collect::<Result<Vec<_>, _>>()?;
            relative.push(sorted(attributes).ok_or(DnFault::Twice)?);
        }
        if relative.iter().map(|set| set.len()).sum::<usize>() > ATTRIBUTES_MAX {
            return Err(DnFault::TooLong);
        }
        relative.reverse();
        Ok(Self { relative: relative.into() })
    }

    /// Whether it looks as if it was written the other way round: the country or the domain first, or the common name last.
    pub(super) fn looks_reversed(&self) -> bool {
        let is = |set: Option<&Box<[Attribute]>>, kind: &str| {
            set.and_then(|set| set.first()).is_some_and(|attribute| shown_type(&attribute.kind) == kind)
        };
        self.relative.len() > 1 && (is(self.relative.last(), "C") || is(self.relative.first(), "CN"))
    }
}

fn sorted(mut attributes: Vec<Attribute>) -> Option<Box<[Attribute]>> {
    attributes.sort();
    let count = attributes.len();
    attributes.dedup();
    (count > 0 && attributes.len() == count).then(|| attributes.into())
}

impl Value {
    /// A value's DER; none when it holds controls, or its octets are no string of the kind they claim to be.
    fn of(any: &Any<'_>) -> Option<Self> {
        match string(any) {
            Some(text) => Self::text(&text?),
            None => any.to_der_vec().ok().map(|der| Self::Der(der.into())),
        }
    }

    fn text(text: &str) -> Option<Self> {
        let text: String = text.nfc().collect();
        (!text.is_empty() && !text.contains(char::is_control)).then(|| Self::Text(text.into()))
    }
}

/// The text of a string type: `None` for what is no string or has no one meaning; inner `None` for octets that the type does not allow.
fn string(any: &Any<'_>) -> Option<Option<String>> {
    let octets = any.data;
    let utf16 = || {
        let units = octets.chunks_exact(2);
        let whole = units.remainder().is_empty();
        let units: Vec<u16> = units.filter_map(|pair| pair.try_into().ok().map(u16::from_be_bytes)).collect();
        String::from_utf16(&units).ok().filter(|_| whole)
    };
    if any.class() != x509_parser::asn1_rs::Class::Universal {
        return None;
    }
    match any.tag() {
        Tag::Utf8String => Some(std::str::from_utf8(octets).ok().map(str::to_owned)),
        Tag::PrintableString | Tag::Ia5String | Tag::NumericString | Tag::VisibleString => {
            let text = std::str::from_utf8(octets).ok().filter(|text| text.is_ascii());
            Some(text.map(str::to_owned))
        }
        Tag::BmpString => Some(utf16()),
        // What stands for octets beyond ASCII in it, every program decides for itself.
        Tag::TeletexString if octets.is_ascii() => Some(std::str::from_utf8(octets).ok().map(str::to_owned)),
        _ => None,
    }
}

/// Splits at a separator that no backslash stands before.
fn split(text: &str, separator: char) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (place, letter) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if letter == '\\' {
            escaped = true;
        } else if letter == separator {
            parts.push(text.get(start..place).unwrap_or_default());
            start = place.saturating_add(letter.len_utf8());
        }
    }
    parts.push(text.get(start..).unwrap_or_default());
    parts
}

fn attribute(text: &str) -> Result<Attribute, DnFault> {
    let (kind, value) = text.split_once('=').ok_or_else(|| DnFault::NoEquals(text.trim().to_owned()))?;
    let kind = kind.trim_matches(' ');
    let oid = type_of(kind).ok_or_else(|| DnFault::UnknownType(kind.to_owned()))?;
    let value = value.trim_start_matches(' ');
    let value = match value.strip_prefix('#') {
        Some(hex) => der_value(hex.trim_end_matches(' '))?,
        None => Value::text(&unescaped(value)?).ok_or_else(|| match unescaped(value) {
            Ok(text) if text.is_empty() => DnFault::NoValue(kind.to_owned()),
            _ => DnFault::Control,
        })?,
    };
    Ok(Attribute { kind: oid.into(), value })
}

fn type_of(kind: &str) -> Option<&str> {
    let known = TYPES.iter().find(|(name, _)| name.eq_ignore_ascii_case(kind)).map(|(_, oid)| *oid);
    known.or_else(|| {
        let arcs = kind.split('.');
        let good = |arc: &str| {
            !arc.is_empty() && arc.bytes().all(|octet| octet.is_ascii_digit()) && (arc == "0" || !arc.starts_with('0'))
        };
        (arcs.clone().count() > 1 && arcs.clone().all(good)).then_some(kind)
    })
}

fn shown_type(oid: &str) -> &str {
    TYPES.iter().find(|(_, known)| *known == oid).map_or(oid, |(name, _)| name)
}

/// RFC 4514 §2.4: octets of the value's DER.
fn der_value(hex: &str) -> Result<Value, DnFault> {
    let octets = hex_octets(hex).ok_or(DnFault::NotDer)?;
    match Any::from_der(&octets) {
        Ok(([], any)) => Value::of(&any).ok_or(DnFault::Control),
        Ok(_) | Err(_) => Err(DnFault::NotDer),
    }
}

fn hex_octets(hex: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = hex
        .chars()
        .map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    let pairs = digits.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    Some(pairs.map(|pair| pair.iter().fold(0_u8, |octet, digit| (octet << 4) | digit)).collect())
}

/// RFC 4514 §2.4, §3: escapes undone; spaces at the end dropped, unless they are escaped.
fn unescaped(text: &str) -> Result<String, DnFault> {
    let mut octets: Vec<u8> = Vec::new();
    let mut kept = 0;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => {
                octets.extend(escape(&mut letters)?);
                kept = octets.len();
            }
            '"' | '<' | '>' | ';' => return Err(DnFault::Unescaped(letter)),
            ' ' => octets.push(b' '),
            _ => {
                octets.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                kept = octets.len();
            }
        }
    }
    octets.truncate(kept);
    String::from_utf8(octets).map_err(|_| DnFault::NotUtf8)
}

fn escape(letters: &mut std::str::Chars<'_>) -> Result<Vec<u8>, DnFault> {
    match letters.next() {
        Some(letter @ (',' | '+' | '"' | '\\' | '<' | '>' | ';' | '=' | '#' | ' ')) => {
            Ok(letter.encode_utf8(&mut [0; 4]).as_bytes().to_vec())
        }
        Some(high) => {
            let pair: String = std::iter::once(high).chain(letters.next()).collect();
            hex_octets(&pair).filter(|octets| octets.len() == 1).ok_or(DnFault::Escape)
        }
        None => Err(DnFault::Escape),
    }
}

impl fmt::Display for DistinguishedName {
    /// As RFC 4514 writes it, fit to be copied into `match.subject`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, set) in self.relative.iter().rev().enumerate() {
            f.write_str(if place == 0 { "" } else { "," })?;
            for (place, attribute) in set.iter().enumerate() {
                f.write_str(if place == 0 { "" } else { "+" })?;
                write!(f, "{}={}", shown_type(&attribute.kind), attribute.value)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Der(octets) => {
                f.write_str("#")?;
                octets.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
            }
            Self::Text(text) => {
                let last = text.chars().count().saturating_sub(1);
                for (place, letter) in text.chars().enumerate() {
                    match letter {
                        ',' | '+' | '"' | '\\' | '<' | '>' | ';' => write!(f, "\\{letter}")?,
                        '#' if place == 0 => f.write_str("\\#")?,
                        ' ' if place == 0 || place == last => f.write_str("\\ ")?,
                        ' '..='~' => f.write_char(letter)?,
                        _ if letter.is_alphanumeric() => f.write_char(letter)?,
                        _ => {
                            letter.encode_utf8(&mut [0; 4]).bytes().try_for_each(|octet| write!(f, "\\{octet:02x}"))?
                        }
                    }
                }
                Ok(())
            }
        }
    }
}

/// A serial number: positive, at most 20 octets (RFC 5280 §4.1.2.2), as lower-case hexadecimal without leading zeros.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SerialNumber(Box<str>);

/// The longest serial number, hexadecimal digits.
const SERIAL_DIGITS_MAX: usize = 40;

/// Why a text is no serial number, in words for who wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SerialFault {
    /// `4096`
    #[error("could be hexadecimal or decimal; write 0x{0}, or decimal:{0}")]
    Ambiguous(String),
    /// Anything else.
    #[error(
        "not a serial number; write it in hexadecimal like 0x0a1b or 0a:1b (openssl x509 -noout -serial), or as decimal:2587"
    )]
    Syntax,
    /// Over 20 octets.
    #[error("longer than 20 octets, which no certificate's is (RFC 5280 section 4.1.2.2)")]
    TooLong,
}

impl SerialNumber {
    /// The content octets of the DER INTEGER; none when it is negative or too long.
    pub(super) fn of(octets: &[u8]) -> Option<Self> {
        if octets.first().is_none_or(|first| first & 0x80 != 0) {
            return None;
        }
        let text = octets.iter().fold(String::new(), |mut text, octet| {
            let _ = write!(text, "{octet:02x}");
            text
        });
        Self::of_digits(&text)
    }

    fn of_digits(digits: &str) -> Option<Self> {
        let digits = digits.trim_start_matches('0').to_ascii_lowercase();
        let digits = if digits.is_empty() { "0".to_owned() } else { digits };
        (digits.len() <= SERIAL_DIGITS_MAX).then(|| Self(digits.into()))
    }

    /// Reads `0x0a1b`, `0a:1b`, `0a1b` or `decimal:2587`. Digits alone that mean one number in hexadecimal and another in decimal are
    /// refused: taken wrongly, they would be another certificate's.
    pub fn parse(text: &str) -> Result<Self, SerialFault> {
        if let Some(decimal) = text.strip_prefix("decimal:") {
            return Self::of_decimal(decimal);
        }
        let (hex, marked) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
            Some(hex) => (hex.to_owned(), true),
            None if text.contains(':') => (text.split(':').collect(), true),
            None => (text.to_owned(), false),
        };
        if text.contains(':') && !text.split(':').all(|pair| matches!(pair.len(), 1 | 2)) {
            return Err(SerialFault::Syntax);
        }
        if hex.is_empty() || !hex.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(SerialFault::Syntax);
        }
        let only_digits = hex.bytes().all(|digit| digit.is_ascii_digit());
        if !marked && only_digits && hex.trim_start_matches('0').len() > 1 {
            return Err(SerialFault::Ambiguous(hex));
        }
        Self::of_digits(&hex).ok_or(SerialFault::TooLong)
    }

    fn of_decimal(text: &str) -> Result<Self, SerialFault> {
        if text.is_empty() || !text.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(SerialFault::Syntax);
        }
        // Hexadecimal digits, the least first; 49 decimal digits are more than 20 octets hold.
        let mut digits: Vec<u32> = Vec::new();
        for decimal in text.chars().filter_map(|digit| digit.to_digit(10)) {
            let mut carry = decimal;
            for digit in &mut digits {
                let sum = digit.saturating_mul(10).saturating_add(carry);
                (*digit, carry) = (sum & 15, sum >> 4);
            }
            if carry > 0 {
                digits.push(carry);
            }
            if digits.len() > SERIAL_DIGITS_MAX {
                return Err(SerialFault::TooLong);
            }
        }
        let text: String = digits.iter().rev().filter_map(|digit| char::from_digit(*digit, 16)).collect();
        Self::of_digits(&text).ok_or(SerialFault::TooLong)
    }
}

impl fmt::Display for SerialNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{}", self.0)
    }
}

#[cfg(test)]
mod tests;
