//! A message with octets over 127, made into one without, for an upstream that does not offer 8BITMIME (RFC 6152 §3, RFC 2045 §6).
//!
//! | part                                        | becomes                                                                       |
//! |---------------------------------------------|-------------------------------------------------------------------------------|
//! | `text/*` with such octets                   | quoted-printable                                                              |
//! | anything else with such octets, or `binary` | base64                                                                        |
//! | a multipart, a message in a message         | what it is: only its parts are encoded, its label becomes `7bit` (RFC 2045 §6.4) |
//! | `multipart/signed`, such octets within      | nothing: the signature is over the octets (RFC 1847 §2.1)                     |
//! | `message/global` with such octets           | base64, header and all (RFC 6532 §3.5)                                        |
//! | such octets in a header or between parts    | nothing: no encoding is meant for them                                        |
//!
//! Read twice, line by line: the survey finds the parts that need it and whether all can be done; then the message goes through once more. A DKIM
//! signature over the body does not survive; whoever sets `eight_bit = "encode"` knows that. Never: holds more than a header and a line; encodes
//! twice; leaves a line that could be taken for a boundary where there was none.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::mime::{Boundary, Delimiter, Facts, Kind, Label, Unclear, Unlabelled, fields, name_of};

/// Octets of the headers of one part at most.
const HEADER_MAX: usize = 512 * 1024;
/// Octets of a line at most.
const LINE_MAX: usize = 256 * 1024;
/// Parts of a message at most.
const PARTS_MAX: usize = 10_000;
/// Multiparts and messages within one another at most.
const DEPTH_MAX: usize = 50;
/// Characters of an encoded line (RFC 2045 §6.7 and §6.8).
const ENCODED_LINE: usize = 76;
/// Octets that make a line of base64.
const BASE64_LINE: usize = 57;

/// Why a message can't be made into one without octets over 127, as the end of a sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotEncodable(pub &'static str);

impl From<Unclear> for NotEncodable {
    fn from(unclear: Unclear) -> Self {
        Self(unclear.0)
    }
}

/// The parts that are to be encoded, in their order: what the survey found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan(Vec<Need>);

impl Plan {
    /// Whether anything is to be encoded.
    pub fn is_needed(&self) -> bool {
        self.0.contains(&Need::Encoding)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    Nothing,
    Encoding,
}

/// The survey: takes the message, gives the plan.
#[derive(Debug)]
pub struct Survey(Walk);

impl Default for Survey {
    fn default() -> Self {
        Self(Walk::new(None))
    }
}

impl Survey {
    /// The next octets.
    pub fn push(&mut self, octets: &[u8]) -> Result<(), NotEncodable> {
        self.0.push(octets, &mut Vec::new())
    }

    /// The message is at its end.
    pub fn finish(mut self) -> Result<Plan, NotEncodable> {
        self.0.finish(&mut Vec::new())?;
        Ok(Plan(self.0.found))
    }
}

/// Encodes, by a plan that was made of the same message.
#[derive(Debug)]
pub struct Encoder(Walk);

impl Encoder {
    /// By this plan.
    pub fn new(plan: Plan) -> Self {
        Self(Walk::new(Some(plan)))
    }

    /// The next octets; what becomes of them is put at the end of `out`.
    pub fn push(&mut self, octets: &[u8], out: &mut Vec<u8>) -> Result<(), NotEncodable> {
        self.0.push(octets, out)
    }

    /// The message is at its end.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<(), NotEncodable> {
        self.0.finish(out)
    }
}

/// A multipart that is open.
#[derive(Debug)]
struct Level {
    delimiter: Delimiter,
    /// What a part without Content-Type is.
    default: Unlabelled,
    /// Within something that is signed.
    signed: Signed,
    /// Messages within messages around it.
    nested: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signed {
    No,
    Yes,
}

/// Where in the message a line stands.
#[derive(Debug)]
enum At {
    Header,
    /// The content of a part that has no parts, as it is: its place in the plan.
    Leaf(usize),
    Encoding(Writer),
    /// Before the first part, behind the last.
    Between,
}

/// The walk through the message; with a plan it writes, without it finds out.
#[derive(Debug)]
struct Walk {
    plan: Option<Plan>,
    found: Vec<Need>,
    at: At,
    levels: Vec<Level>,
    /// Messages within messages; each ends with the part that it is.
    nested: usize,
    /// The header that is being read, as it is written.
    header: Vec<u8>,
    default: Unlabelled,
    signed: Signed,
    line: Vec<u8>,
    /// Whether this is the message's own header: the place for MIME-Version.
    outermost: bool,
}

impl Walk {
    fn new(plan: Option<Plan>) -> Self {
        Self {
            plan,
            found: Vec::new(),
            at: At::Header,
            levels: Vec::new(),
            nested: 0,
            header: Vec::new(),
            default: Unlabelled::Text,
            signed: Signed::No,
            line: Vec::new(),
            outermost: true,
        }
    }

    fn push(&mut self, octets: &[u8], out: &mut Vec<u8>) -> Result<(), NotEncodable> {
        for piece in octets.split_inclusive(|&octet| octet == b'\n') {
            self.line.extend_from_slice(piece);
            if self.line.len() > LINE_MAX {
                return Err(NotEncodable("one of its lines is too long"));
            }
            if self.line.ends_with(b"\r\n") {
                let line = std::mem::take(&mut self.line);
                self.one_line(line.get(..line.len().saturating_sub(2)).unwrap_or_default(), out)?;
                self.line = line;
                self.line.clear();
            }
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), NotEncodable> {
        if matches!(self.at, At::Header) {
            self.header.append(&mut self.line);
            if !self.header.is_ascii() {
                return Err(HEADER);
            }
            out.append(&mut self.header);
            return Ok(());
        }
        // The last line may have no end; the message's last line break belongs to its body.
        let line = std::mem::take(&mut self.line);
        let unended = !line.is_empty();
        if unended {
            self.content(&line, out)?;
        }
        if let At::Encoding(writer) = &mut self.at {
            writer.finish(if unended { LastBreak::None } else { LastBreak::OfTheBody }, out);
        } else if unended {
            out.truncate(out.len().saturating_sub(2));
        }
        Ok(())
    }

    fn one_line(&mut self, line: &[u8], out: &mut Vec<u8>) -> Result<(), NotEncodable> {
        if let Some((level, kind)) = self.delimiter(line) {
            return self.boundary(level, kind, line, out);
        }
        if matches!(self.at, At::Header) {
            if line.is_empty() {
                return self.header_ends(out);
            }
            self.header.extend_from_slice(line);
            self.header.extend_from_slice(b"\r\n");
            return if self.header.len() > HEADER_MAX {
                Err(NotEncodable("a header in it is too long"))
            } else {
                Ok(())
            };
        }
        self.content(line, out)
    }

    fn content(&mut self, line: &[u8], out: &mut Vec<u8>) -> Result<(), NotEncodable> {
        match &mut self.at {
            At::Encoding(writer) => writer.line(line, out),
            At::Leaf(place) => {
                if !line.is_ascii() {
                    if self.signed == Signed::Yes {
                        return Err(NotEncodable("what needs encoding is signed (multipart/signed)"));
                    }
                    if let Some(need) = self.found.get_mut(*place) {
                        *need = Need::Encoding;
                    }
                }
                out.extend_from_slice(line);
                out.extend_from_slice(b"\r\n");
            }
            At::Between | At::Header => {
                if !line.is_ascii() {
                    return Err(NotEncodable("there are octets over 127 outside of its parts"));
                }
                out.extend_from_slice(line);
                out.extend_from_slice(b"\r\n");
            }
        }
        Ok(())
    }

    /// The innermost multipart that a line is a boundary of.
    fn delimiter(&self, line: &[u8]) -> Option<(usize, Boundary)> {
        self.levels.iter().enumerate().rev().find_map(|(place, level)| Some((place, level.delimiter.of(line)?)))
    }

    fn boundary(&mut self, place: usize, kind: Boundary, line: &[u8], out: &mut Vec<u8>) -> Result<(), NotEncodable> {
        if matches!(self.at, At::Header) {
            // A part that ends within its header; what there is of it goes on as it is.
            if !self.header.is_ascii() {
                return Err(HEADER);
            }
            out.append(&mut self.header);
        } else if let At::Encoding(writer) = &mut self.at {
            writer.finish(LastBreak::OfTheBoundary, out);
        }
        self.levels.truncate(place.saturating_add(1));
        if let Some(level) = self.levels.last() {
            (self.default, self.signed, self.nested) = (level.default, level.signed, level.nested);
        }
        self.at = match kind {
            Boundary::Next => At::Header,
            Boundary::Last => {
                self.levels.pop();
                At::Between
            }
        };
        out.extend_from_slice(line);
        out.extend_from_slice(b"\r\n");
        Ok(())
    }

    fn header_ends(&mut self, out: &mut Vec<u8>) -> Result<(), NotEncodable> {
        let header = std::mem::take(&mut self.header);
        if !header.is_ascii() {
            return Err(HEADER);
        }
        let facts = Facts::of(&header, self.default)?;
        let outermost = std::mem::replace(&mut self.outermost, false);
        match &facts.kind {
            Kind::Multipart { boundary, .. } => {
                self.is_not_too_deep()?;
                let signed = if facts.kind.is_signed() { Signed::Yes } else { self.signed };
                let default = if facts.kind.is_digest() { Unlabelled::Message } else { Unlabelled::Text };
                facts.write(&header, facts.container_label(self.signed), Version::AsItIs, out);
                let delimiter = Delimiter::new(boundary);
                self.levels.push(Level { delimiter, default, signed, nested: self.nested });
                (self.signed, self.at) = (signed, At::Between);
            }
            Kind::Message => {
                self.is_not_too_deep()?;
                self.nested = self.nested.saturating_add(1);
                facts.write(&header, facts.container_label(self.signed), Version::AsItIs, out);
                (self.default, self.at) = (Unlabelled::Text, At::Header);
            }
            Kind::Text | Kind::Other | Kind::GlobalMessage | Kind::OtherMessage => {
                self.leaf_begins(&facts, &header, outermost, out)?
            }
        }
        Ok(())
    }

    fn leaf_begins(
        &mut self,
        facts: &Facts,
        header: &[u8],
        outermost: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), NotEncodable> {
        let place = self.found.len();
        if place >= PARTS_MAX {
            return Err(NotEncodable("it has too many parts"));
        }
        let is_binary = facts.encoding == Label::Binary && self.signed == Signed::No;
        self.found.push(if is_binary { Need::Encoding } else { Need::Nothing });
        let need = self.plan.as_ref().and_then(|plan| plan.0.get(place)).copied().unwrap_or(Need::Nothing);
        if need == Need::Nothing {
            let relabelled = facts.encoding == Label::EightBit && self.signed == Signed::No && self.plan.is_some();
            facts.write(header, relabelled.then_some("7bit"), Version::AsItIs, out);
            self.at = At::Leaf(place);
            return Ok(());
        }
        match (facts.encoding, &facts.kind) {
            (Label::Encoded, _) => return Err(NotEncodable("a part with octets over 127 says that it is encoded")),
            (Label::Unknown, _) => return Err(NotEncodable("a part is encoded in a way that is not known")),
            // RFC 6532 §3.5 lets `message/global` be encoded, and it alone.
            (_, Kind::OtherMessage) => {
                return Err(NotEncodable("a part of type message may not be encoded"));
            }
            (Label::SevenBit | Label::EightBit | Label::Binary, _) => {}
        }
        let version = if outermost { Version::Needed } else { Version::AsItIs };
        let is_text = matches!(facts.kind, Kind::Text) && facts.encoding != Label::Binary;
        let (label, writer) = if is_text {
            ("quoted-printable", Writer::QuotedPrintable { break_due: BreakDue::No })
        } else {
            ("base64", Writer::Base64 { held: Vec::new(), break_due: BreakDue::No })
        };
        facts.write(header, Some(label), version, out);
        self.at = At::Encoding(writer);
        Ok(())
    }

    fn is_not_too_deep(&self) -> Result<(), NotEncodable> {
        if self.levels.len().saturating_add(self.nested) >= DEPTH_MAX {
            return Err(NotEncodable("its parts lie too deep in one another"));
        }
        Ok(())
    }
}

/// The text of one fault that is found in three places.
const HEADER: NotEncodable = NotEncodable("a header in it holds octets over 127");

// What becomes of a header.

/// Whether MIME-Version is to be there (RFC 2045 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    AsItIs,
    Needed,
}

impl Facts {
    /// What a part with parts is to be labelled, where it must change (RFC 2045 §6.4): nothing in it has octets over 127 any more.
    fn container_label(&self, signed: Signed) -> Option<&'static str> {
        let changes = matches!(self.encoding, Label::EightBit | Label::Binary) && signed == Signed::No;
        (changes && !self.kind.is_signed()).then_some("7bit")
    }

    /// The header with another label in the place of its own, or at its end, and the line that ends it.
    fn write(&self, header: &[u8], label: Option<&str>, version: Version, out: &mut Vec<u8>) {
        let changes = label.is_some();
        let mut label = label;
        let mut said = |out: &mut Vec<u8>| {
            if let Some(label) = label.take() {
                out.extend_from_slice(format!("Content-Transfer-Encoding: {label}\r\n").as_bytes());
            }
        };
        for field in fields(header) {
            if changes && name_of(field).eq_ignore_ascii_case(b"Content-Transfer-Encoding") {
                said(out);
            } else {
                out.extend_from_slice(field);
            }
        }
        if version == Version::Needed && !self.has_version {
            out.extend_from_slice(b"MIME-Version: 1.0\r\n");
        }
        // RFC 1428 §3: octets over 127 that nobody has said anything of.
        if version == Version::Needed && !self.has_type {
            out.extend_from_slice(b"Content-Type: text/plain; charset=unknown-8bit\r\n");
        }
        said(out);
        out.extend_from_slice(b"\r\n");
    }
}

// Writing.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BreakDue {
    No,
    Yes,
}

/// Whose the line break at the end of a part is (RFC 2046 §5.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastBreak {
    None,
    OfTheBody,
    OfTheBoundary,
}

/// A part being encoded. A line's break is written with the next line, when it is known whose it is.
#[derive(Debug)]
enum Writer {
    QuotedPrintable { break_due: BreakDue },
    Base64 { held: Vec<u8>, break_due: BreakDue },
}

impl Writer {
    fn line(&mut self, line: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::QuotedPrintable { break_due } => {
                if std::mem::replace(break_due, BreakDue::Yes) == BreakDue::Yes {
                    out.extend_from_slice(b"\r\n");
                }
                quoted_printable(line, out);
            }
            Self::Base64 { held, break_due } => {
                if std::mem::replace(break_due, BreakDue::Yes) == BreakDue::Yes {
                    held.extend_from_slice(b"\r\n");
                }
                held.extend_from_slice(line);
                let whole = held.len() - held.len() % BASE64_LINE;
                for piece in held.get(..whole).unwrap_or_default().chunks(BASE64_LINE) {
                    out.extend_from_slice(BASE64.encode(piece).as_bytes());
                    out.extend_from_slice(b"\r\n");
                }
                held.drain(..whole);
            }
        }
    }

    fn finish(&mut self, last: LastBreak, out: &mut Vec<u8>) {
        match self {
            Self::QuotedPrintable { break_due } => {
                if *break_due == BreakDue::Yes && last != LastBreak::None {
                    out.extend_from_slice(b"\r\n");
                }
            }
            Self::Base64 { held, break_due } => {
                if *break_due == BreakDue::Yes && last == LastBreak::OfTheBody {
                    held.extend_from_slice(b"\r\n");
                }
                for piece in held.chunks(BASE64_LINE) {
                    out.extend_from_slice(BASE64.encode(piece).as_bytes());
                    out.extend_from_slice(b"\r\n");
                }
                held.clear();
            }
        }
    }
}

/// RFC 2045 §6.7. A hyphen at the beginning of a line that we break is encoded too: it could become a boundary.
fn quoted_printable(line: &[u8], out: &mut Vec<u8>) {
    let mut column = 0;
    let mut broken = false;
    for (place, &octet) in line.iter().enumerate() {
        let is_last = place.saturating_add(1) == line.len();
        let is_plain = match octet {
            b'=' => false,
            b' ' | b'\t' => !is_last,
            b'-' => !(broken && column == 0),
            _ => octet.is_ascii_graphic(),
        };
        let width = if is_plain { 1 } else { 3 };
        // The soft break needs a column of its own, unless the line ends here.
        let room = if is_last { ENCODED_LINE } else { ENCODED_LINE - 1 };
        if column + width > room {
            out.extend_from_slice(b"=\r\n");
            (column, broken) = (0, true);
        }
        // What is at the beginning of a broken line only now.
        let is_plain = is_plain && !(octet == b'-' && broken && column == 0);
        if is_plain {
            out.push(octet);
            column += 1;
        } else {
            out.extend_from_slice(format!("={octet:02X}").as_bytes());
            column += 3;
        }
    }
}

#[cfg(test)]
mod tests;
