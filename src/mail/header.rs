//! The strict raw reader of a header section (RFC 5322 §2.2, §3.6.8): which fields are there, octet for octet.
//!
//! It takes only what every reader cuts into the same fields, and says of the rest what is wrong, naming the field:
//!
//! | refused | because |
//! |---|---|
//! | a line without a colon, or with a space in the name (`From :`, mbox's `From x`) | some skip it, some take it for the body's start |
//! | a first line that is a continuation | it belongs to no field |
//! | a continuation of white space alone (RFC 5322 §4.2's obs-FWS) | some take it for the blank line that ends the section |
//! | control characters but TAB | shown, skipped or cut at by different readers |
//! | bare CR, bare LF, NUL | the same, and the end of the data with them (RFC 5321 §2.3.8) |
//!
//! Octets over 127 pass here: only the originator fields may not hold them undeclared, and `content` sees to that. A section ends at its first
//! empty line, or with the message when it has none: a message of fields alone is whole (RFC 5322 §3.5). A message that begins with the
//! empty line has no fields. Never: looks into a value, decodes, changes.

mod end;

use std::borrow::Cow;
use std::fmt;

pub use end::{EndOfHeader, section_of};

use crate::smtp::data::OctetFault;

/// The largest header section, octets, unless configured.
pub const SECTION_MAX: usize = 256 * 1024;
/// The longest line of a header section, octets without CRLF, unless configured. RFC 5322 §2.1.1's 998 is not enforced: honest mail breaks it.
pub const LINE_MAX: usize = 64 * 1024;
/// The most fields in a section, unless configured.
pub const FIELDS_MAX: usize = 1000;
/// The longest field name, octets.
pub const FIELD_NAME_MAX: usize = 128;
/// As much of a bad name as a sentence shows, octets before escaping.
const SHOWN_MAX: usize = 40;

/// How much a header section may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderLimits {
    /// Octets of the section, its blank line included.
    pub section: usize,
    /// Octets of a line, without CRLF.
    pub line: usize,
    /// Fields.
    pub fields: usize,
}

impl Default for HeaderLimits {
    fn default() -> Self {
        Self { section: SECTION_MAX, line: LINE_MAX, fields: FIELDS_MAX }
    }
}

/// Why a header section can't be judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderFault {
    /// Bare CR, LF or NUL: the end of the data is in dispute.
    Octets(OctetFault),
    /// Larger than the limit, in octets.
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// A line over the limit, in octets.
    LineTooLong {
        /// The limit.
        limit: usize,
    },
    /// A field that could be read two ways, is there twice, or is missing; the sentence for the reply, printable ASCII.
    Field(String),
}

impl fmt::Display for HeaderFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Octets(OctetFault::BareCr) => f.write_str("the header holds a CR without LF"),
            Self::Octets(OctetFault::BareLf) => f.write_str("the header holds an LF without CR"),
            Self::Octets(OctetFault::Nul) => f.write_str("the header holds a NUL"),
            Self::TooLarge { limit } => write!(f, "the header is larger than {limit} octets"),
            Self::LineTooLong { limit } => write!(f, "a line of the header is longer than {limit} octets"),
            Self::Field(sentence) => f.write_str(sentence),
        }
    }
}

/// A field as it stands in the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawField<'a> {
    /// Its name, in the case in which it was written.
    pub name: &'a str,
    /// All behind the colon, folds included, without the last CRLF.
    pub value: &'a [u8],
    /// Where its name begins in the section, octets.
    pub offset: usize,
}

impl<'a> RawField<'a> {
    /// Whether it has this name; case does not count (RFC 5322 §1.2.2).
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// The value on one line: each CRLF before white space left out, the white space kept (RFC 5322 §2.2.3).
    pub fn unfolded(&self) -> Cow<'a, [u8]> {
        if self.value.contains(&b'\n') {
            self.value.iter().copied().filter(|octet| !matches!(octet, b'\r' | b'\n')).collect::<Vec<u8>>().into()
        } else {
            self.value.into()
        }
    }
}

/// How a section ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SectionEnd {
    /// With an empty line; the body follows.
    BlankLine,
    /// With the message: there is no body.
    EndOfMessage,
}

/// A header section that every reader cuts into the same fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderSection<'a> {
    fields: Vec<RawField<'a>>,
    length: usize,
    end: SectionEnd,
}

impl<'a> HeaderSection<'a> {
    /// Reads `octets` up to the first empty line; what is behind it is not looked at.
    ///
    /// # Errors
    /// The first thing that is wrong; disputed octets before all else.
    pub fn read(octets: &'a [u8], limits: &HeaderLimits) -> Result<Self, HeaderFault> {
        let mut end = EndOfHeader::default();
        let length = end.take(octets);
        if length > limits.section {
            return Err(HeaderFault::TooLarge { limit: limits.section });
        }
        let end = if end.is_past() { SectionEnd::BlankLine } else { SectionEnd::EndOfMessage };
        let section = octets.get(..length).unwrap_or_default();
        check_octets(section).map_err(HeaderFault::Octets)?;
        let mut fields: Vec<RawField<'a>> = Vec::new();
        for Line { octets: line, offset } in lines(section) {
            if line.len() > limits.line {
                return Err(HeaderFault::LineTooLong { limit: limits.line });
            }
            if matches!(line.first(), Some(b' ' | b'\t')) {
                let field =
                    fields.last_mut().ok_or_else(|| field_fault("The first line of the header is a continuation"))?;
                continue_field(section, field, line, offset)?;
            } else if fields.len() < limits.fields {
                fields.push(begin_field(line, offset)?);
            } else {
                return Err(field_fault(&format!("The header has more than {} fields", limits.fields)));
            }
        }
        Ok(Self { fields, length, end })
    }

    /// The fields from the top.
    pub fn fields(&self) -> &[RawField<'a>] {
        &self.fields
    }

    /// Those of one name, from the top.
    pub fn named<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s RawField<'a>> + 's {
        self.fields.iter().filter(move |field| field.is(name))
    }

    /// Octets of the section, with its blank line.
    pub fn length(&self) -> usize {
        self.length
    }

    /// How it ended.
    pub fn end(&self) -> SectionEnd {
        self.end
    }
}

fn field_fault(sentence: &str) -> HeaderFault {
    HeaderFault::Field(sentence.to_owned())
}

/// Octets that may be anything as a short printable text.
fn shown(octets: &[u8]) -> String {
    let cut = octets
        .get(..SHOWN_MAX)
        .map_or_else(|| octets.escape_ascii().to_string(), |head| format!("{}...", head.escape_ascii()));
    cut.replace('\\', "/")
}

fn check_octets(section: &[u8]) -> Result<(), OctetFault> {
    let mut before = 0;
    for &octet in section {
        match (before, octet) {
            (_, 0) => return Err(OctetFault::Nul),
            (b'\r', b'\n') => {}
            (b'\r', _) => return Err(OctetFault::BareCr),
            (_, b'\n') => return Err(OctetFault::BareLf),
            _ => {}
        }
        before = octet;
    }
    if before == b'\r' { Err(OctetFault::BareCr) } else { Ok(()) }
}

struct Line<'a> {
    octets: &'a [u8],
    offset: usize,
}

/// The lines of a section whose line ends are known to be CRLF, without them and without the blank one.
fn lines(section: &[u8]) -> impl Iterator<Item = Line<'_>> {
    let mut next: usize = 0;
    section.split_inclusive(|&octet| octet == b'\n').filter_map(move |line| {
        let offset = next;
        next = offset.saturating_add(line.len());
        let octets = line.strip_suffix(b"\r\n").unwrap_or(line);
        (!octets.is_empty()).then_some(Line { octets, offset })
    })
}

/// RFC 5322 §3.6.8: field-name = 1*ftext, printable ASCII but for the colon; no white space before it (§4.5 allowed some, once).
fn begin_field(line: &[u8], offset: usize) -> Result<RawField<'_>, HeaderFault> {
    if line.starts_with(b"From ") && !line.starts_with(b"From :") {
        return Err(field_fault("The header holds a line 'From ' of a mailbox file, which is no field"));
    }
    let mut parts = line.splitn(2, |&octet| octet == b':');
    let (Some(name), Some(value)) = (parts.next(), parts.next()) else {
        return Err(field_fault(&format!("The header line '{}' is no field: it has no colon", shown(line))));
    };
    let bare = name.trim_ascii_end();
    if bare.len() < name.len() && !bare.is_empty() {
        return Err(field_fault(&format!("Field {} has white space before its colon", shown(bare))));
    }
    if name.len() > FIELD_NAME_MAX {
        return Err(field_fault(&format!("A field name is longer than {FIELD_NAME_MAX} octets")));
    }
    let printable = !name.is_empty() && name.iter().all(u8::is_ascii_graphic);
    let Some(name) = std::str::from_utf8(name).ok().filter(|_| printable) else {
        return Err(field_fault(&format!("The header line '{}' has no good field name", shown(line))));
    };
    let field = RawField { name, value, offset };
    check_text(&field, value)?;
    Ok(field)
}

fn continue_field<'a>(
    section: &'a [u8],
    field: &mut RawField<'a>,
    line: &[u8],
    offset: usize,
) -> Result<(), HeaderFault> {
    if line.iter().all(|octet| matches!(octet, b' ' | b'\t')) {
        return Err(field_fault(&format!("Field {} has a continuation line of white space alone", field.name)));
    }
    check_text(field, line)?;
    let begin = field.offset.saturating_add(field.name.len()).saturating_add(1);
    field.value = section.get(begin..offset.saturating_add(line.len())).unwrap_or_default();
    Ok(())
}

fn check_text(field: &RawField<'_>, text: &[u8]) -> Result<(), HeaderFault> {
    match text.iter().find(|octet| octet.is_ascii_control() && **octet != b'\t') {
        Some(control) => Err(field_fault(&format!(
            "Field {} holds the control character 0x{control:02X}",
            shown(field.name.as_bytes())
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
