//! Replies: a code, an enhanced status, lines of text (RFC 5321 §4.2, RFC 3463, RFC 2034).
//!
//! Made by the catalogue on our side, read strictly from upstreams by [`ReplyReader`]. A reply holds no CR, LF or NUL: what would inject a
//! line is replaced when the reply is made. Never: judges what a reply means. What can fail: reading one, [`ReplyFault`].

use std::fmt;
use std::io::Write as _;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest reply line, with its CRLF (RFC 5321 §4.5.3.1.5).
pub const REPLY_LINE_MAX: usize = 512;

/// The longest reply line that is read, octets with CRLF. RFC 5321 §4.5.3.1.5 says 512; servers that put a URL or a trace into a refusal
/// send more, and what they refuse is worth knowing.
pub const REPLY_LINE_READ_MAX: usize = 2048;

/// The most lines of one reply that are read.
pub const REPLY_LINES_MAX: usize = 100;

/// The most octets of one reply that are read.
pub const REPLY_OCTETS_MAX: usize = 32 * 1024;

/// The most octets of a reply's text that are kept, as UTF-8. There is one for each recipient, in the record, in memory, in the log and in the report.
pub const REPLY_KEPT_MAX: usize = 1024;

/// Stands where the rest of a reply was left out.
const LEFT_OUT: &str = " [...]";

/// A three-digit reply code, 200 to 599.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Code(u16);

impl Code {
    /// The code, if its first digit is one of RFC 5321 §4.2.1. The second may be any: 571 and the like are said in the world, and a client goes by the
    /// first digit of what it does not know (RFC 5321 §4.2).
    pub const fn new(number: u16) -> Option<Self> {
        if number >= 200 && number <= 599 { Some(Self(number)) } else { None }
    }

    /// For the catalogue's constants: a code whose shape is known when the program is written.
    pub(crate) const fn known(number: u16) -> Self {
        assert!(number >= 200 && number <= 599);
        Self(number)
    }

    /// The three digits as a number.
    pub const fn number(self) -> u16 {
        self.0
    }

    /// 2yz: done.
    pub const fn is_positive(self) -> bool {
        self.0 / 100 == 2
    }

    /// 3yz: go on.
    pub const fn is_intermediate(self) -> bool {
        self.0 / 100 == 3
    }

    /// 4yz: not now.
    pub const fn is_transient(self) -> bool {
        self.0 / 100 == 4
    }

    /// 5yz: not at all.
    pub const fn is_permanent(self) -> bool {
        self.0 / 100 == 5
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Three digits, always: none is padded.
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An enhanced status code, class.subject.detail (RFC 3463).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Status {
    class: u8,
    subject: u16,
    detail: u16,
}

impl Status {
    /// A status; the class is 2, 4 or 5 (RFC 3463 §2).
    pub const fn new(class: u8, subject: u16, detail: u16) -> Option<Self> {
        if matches!(class, 2 | 4 | 5) && subject <= 999 && detail <= 999 {
            Some(Self { class, subject, detail })
        } else {
            None
        }
    }

    /// For the catalogue's constants.
    pub(crate) const fn known(class: u8, subject: u16, detail: u16) -> Self {
        assert!(matches!(class, 2 | 4 | 5));
        Self { class, subject, detail }
    }

    /// 2, 4 or 5.
    pub const fn class(self) -> u8 {
        self.class
    }

    /// What it is about.
    pub const fn subject(self) -> u16 {
        self.subject
    }

    /// What in particular.
    pub const fn detail(self) -> u16 {
        self.detail
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What is said on the wire: at least one line of text, which may be empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Recorded")]
pub struct Reply {
    code: Code,
    status: Option<Status>,
    lines: Vec<String>,
}

/// A reply as it was written down. Earlier builds kept each whole.
#[derive(Deserialize)]
struct Recorded {
    code: Code,
    status: Option<Status>,
    lines: Vec<String>,
}

impl From<Recorded> for Reply {
    fn from(Recorded { code, status, lines }: Recorded) -> Self {
        Self { code, status, lines }.shortened()
    }
}

impl Reply {
    /// A reply of one line. Octets that could break the line (controls) become `?`.
    pub fn new(code: Code, status: Option<Status>, text: impl Into<String>) -> Self {
        Self { code, status, lines: vec![printable(text.into())] }
    }

    /// A reply of several lines; an empty list becomes one empty line.
    pub fn multiline(code: Code, status: Option<Status>, lines: impl IntoIterator<Item = String>) -> Self {
        let mut lines: Vec<String> = lines.into_iter().map(printable).collect();
        if lines.is_empty() {
            lines.push(String::new());
        }
        Self { code, status, lines }
    }

    /// The code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The enhanced status, where one was given.
    pub fn status(&self) -> Option<Status> {
        self.status
    }

    /// The lines without code and status; never empty.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// All lines in one, for logs and reports.
    pub fn text(&self) -> String {
        self.lines.join(" ")
    }

    /// The same with other words in each line.
    #[must_use]
    pub fn reworded(self, words: impl Fn(&str) -> String) -> Self {
        Self { lines: self.lines.iter().map(|line| printable(words(line))).collect(), ..self }
    }

    /// What is kept of it: [`REPLY_KEPT_MAX`] octets of text, with a mark where the rest was.
    #[must_use]
    pub fn shortened(mut self) -> Self {
        if self.lines.iter().map(String::len).sum::<usize>() <= REPLY_KEPT_MAX {
            return self;
        }
        let mut room = REPLY_KEPT_MAX - LEFT_OUT.len();
        for (index, line) in self.lines.iter_mut().enumerate() {
            let Some(left) = room.checked_sub(line.len()) else {
                let fits = cut(line, room).len();
                line.truncate(fits);
                line.push_str(LEFT_OUT);
                self.lines.truncate(index.saturating_add(1));
                break;
            };
            room = left;
        }
        self
    }

    /// Appends the reply as it goes on the wire: `250-…CRLF250 …CRLF`, the status on each line (RFC 2034 §4), no line over
    /// [`REPLY_LINE_MAX`] octets: longer text is cut at a character.
    pub fn write_to(&self, wire: &mut Vec<u8>) {
        let last = self.lines.len().saturating_sub(1);
        for (index, line) in self.lines.iter().enumerate() {
            let start = wire.len();
            let separator = if index == last { ' ' } else { '-' };
            // Writing into memory cannot fail.
            let _ = write!(wire, "{}{separator}", self.code);
            if let Some(status) = self.status {
                let _ = write!(wire, "{status} ");
            }
            let room = (REPLY_LINE_MAX - 2).saturating_sub(wire.len() - start);
            wire.extend_from_slice(cut(line, room).as_bytes());
            wire.extend_from_slice(b"\r\n");
        }
    }
}

/// Why what a server said is no reply. Whoever hears one can't know what else of the dialogue to believe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyFault {
    /// The line does not begin with three digits of a code, 200 to 599.
    #[error("a reply without a reply code")]
    NoCode,
    /// Neither a space nor a hyphen behind the code.
    #[error("a reply code that neither space nor hyphen follows")]
    Separator,
    /// The lines of one reply have different codes (RFC 5321 §4.2.1).
    #[error("a reply whose lines have different codes, {0} and {1}")]
    CodeChanged(Code, Code),
    /// A line over the limit.
    #[error("a reply line longer than allowed")]
    LineTooLong,
    /// More lines than the limit.
    #[error("a reply of too many lines")]
    TooManyLines,
    /// More octets than the limit.
    #[error("a reply of too many octets")]
    TooLarge,
}

/// How much of a reply is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyLimits {
    /// Octets of a line, with CRLF.
    pub line: usize,
    /// Lines of a reply.
    pub lines: usize,
    /// Octets of a reply, with each CRLF.
    pub octets: usize,
}

impl Default for ReplyLimits {
    fn default() -> Self {
        Self { line: REPLY_LINE_READ_MAX, lines: REPLY_LINES_MAX, octets: REPLY_OCTETS_MAX }
    }
}

/// Gathers lines into replies, strictly (RFC 5321 §4.2.1): three digits, then a space or nothing on the last line, a hyphen on others, the same
/// code on all. Text that is not UTF-8 is not a fault: what can't be read becomes U+FFFD.
///
/// An enhanced status counts only when its class is the code's first digit (RFC 2034 §4); else it stays part of the text.
#[derive(Debug, Default)]
pub struct ReplyReader {
    limits: ReplyLimits,
    gathered: Option<Gathered>,
}

/// The lines so far of a reply that goes on.
#[derive(Debug)]
struct Gathered {
    code: Code,
    status: Option<Status>,
    lines: Vec<String>,
    octets: usize,
}

impl ReplyReader {
    /// With other limits than the default ones.
    pub fn with_limits(limits: ReplyLimits) -> Self {
        Self { limits, gathered: None }
    }

    /// Takes a line without its CRLF; a reply when the line was its last. After a fault it begins anew.
    pub fn line(&mut self, line: &[u8]) -> Result<Option<Reply>, ReplyFault> {
        let earlier = self.gathered.take();
        if line.len().saturating_add(2) > self.limits.line {
            return Err(ReplyFault::LineTooLong);
        }
        let (code, is_last, text) = split_line(line)?;
        let mut reply = earlier.unwrap_or(Gathered { code, status: None, lines: Vec::new(), octets: 0 });
        if reply.code != code {
            return Err(ReplyFault::CodeChanged(reply.code, code));
        }
        reply.octets = reply.octets.saturating_add(line.len()).saturating_add(2);
        if reply.octets > self.limits.octets {
            return Err(ReplyFault::TooLarge);
        }
        if reply.lines.len() >= self.limits.lines {
            return Err(ReplyFault::TooManyLines);
        }
        reply.add(&String::from_utf8_lossy(text));
        if is_last {
            return Ok(Some(Reply { code, status: reply.status, lines: reply.lines }));
        }
        self.gathered = Some(reply);
        Ok(None)
    }

    /// Whether a reply has begun and goes on.
    pub fn is_inside(&self) -> bool {
        self.gathered.is_some()
    }
}

impl Gathered {
    /// The status of the first line is the reply's; a line that repeats it is given without.
    fn add(&mut self, text: &str) {
        let (status, behind) = split_status(self.code, text);
        if self.lines.is_empty() {
            self.status = status;
        }
        let text = if status.is_some() && status == self.status { behind } else { text };
        self.lines.push(printable(text.to_owned()));
    }
}

/// Code, whether it is the last line, and the text.
fn split_line(line: &[u8]) -> Result<(Code, bool, &[u8]), ReplyFault> {
    let (digits, rest) = line.split_at_checked(3).ok_or(ReplyFault::NoCode)?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(ReplyFault::NoCode);
    }
    let number = digits.iter().fold(0, |number: u16, digit| number * 10 + u16::from(digit - b'0'));
    let code = Code::new(number).ok_or(ReplyFault::NoCode)?;
    match rest.split_first() {
        None => Ok((code, true, &[])),
        Some((b' ', text)) => Ok((code, true, text)),
        Some((b'-', text)) => Ok((code, false, text)),
        Some(_) => Err(ReplyFault::Separator),
    }
}

/// The enhanced status at the beginning of the text, and the text behind it (RFC 2034 §4: status, space, text).
fn split_status(code: Code, text: &str) -> (Option<Status>, &str) {
    let (word, behind) = text.split_once(' ').unwrap_or((text, ""));
    match word.parse::<Status>() {
        Ok(status) if u16::from(status.class()) == code.number() / 100 => (Some(status), behind),
        _ => (None, text),
    }
}

/// The text is no status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an enhanced status code")]
pub struct NotAStatus;

impl FromStr for Status {
    type Err = NotAStatus;

    /// RFC 3463 §2: class, subject and detail, one to three digits each, without leading zeros.
    fn from_str(text: &str) -> Result<Self, NotAStatus> {
        let mut numbers = text.splitn(3, '.').map(status_number);
        let mut next = || numbers.next().flatten().ok_or(NotAStatus);
        let (class, subject, detail) = (next()?, next()?, next()?);
        u8::try_from(class).ok().and_then(|class| Self::new(class, subject, detail)).ok_or(NotAStatus)
    }
}

fn status_number(digits: &str) -> Option<u16> {
    let is_number = (1..=3).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit());
    let has_leading_zero = digits.len() > 1 && digits.starts_with('0');
    if is_number && !has_leading_zero { digits.parse().ok() } else { None }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.code)?;
        if let Some(status) = self.status {
            write!(f, "{status} ")?;
        }
        f.write_str(&self.text())
    }
}

fn printable(text: String) -> String {
    if text.chars().any(char::is_control) {
        text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
    } else {
        text
    }
}

/// The longest beginning of `text` that has at most `room` octets.
fn cut(text: &str, room: usize) -> &str {
    let mut end = room.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(lines: &[&[u8]]) -> Result<Option<Reply>, ReplyFault> {
        let mut reader = ReplyReader::default();
        let mut reply = None;
        for line in lines {
            reply = reader.line(line)?;
        }
        Ok(reply)
    }

    fn code(number: u16) -> Code {
        Code::new(number).unwrap()
    }

    fn reply(number: u16, status: Option<(u8, u16, u16)>, lines: &[&str]) -> Result<Option<Reply>, ReplyFault> {
        let status = status.map(|(class, subject, detail)| Status::new(class, subject, detail).unwrap());
        Ok(Some(Reply::multiline(code(number), status, lines.iter().map(|&line| line.to_owned()))))
    }

    #[test]
    fn replies_are_read() {
        let table: [(&[&[u8]], _); 14] = [
            (&[b"250 Ok"], reply(250, None, &["Ok"])),
            (&[b"250"], reply(250, None, &[""])),
            (&[b"250 "], reply(250, None, &[""])),
            (&[b"250-a", b"250-", b"250 b"], reply(250, None, &["a", "", "b"])),
            (&[b"250-a", b"250"], reply(250, None, &["a", ""])),
            (&[b"250 2.1.0 Ok"], reply(250, Some((2, 1, 0)), &["Ok"])),
            (&[b"550 5.7.1"], reply(550, Some((5, 7, 1)), &[""])),
            (&[b"550-5.7.1 a", b"550-5.7.1 b", b"550 c"], reply(550, Some((5, 7, 1)), &["a", "b", "c"])),
            (&[b"550-5.7.1 a", b"550 5.1.1 b"], reply(550, Some((5, 7, 1)), &["a", "5.1.1 b"])),
            (&[b"450 5.7.1 no"], reply(450, None, &["5.7.1 no"])),
            (&[b"354 3.0.0 go"], reply(354, None, &["3.0.0 go"])),
            (&[b"571 5.07.1 no"], reply(571, None, &["5.07.1 no"])),
            (&[b"220 caf\xe9 \x07\x1b[1m"], reply(220, None, &["caf\u{fffd} ??[1m"])),
            (&["550 gr\u{fc}\u{df}e".as_bytes()], reply(550, None, &["gr\u{fc}\u{df}e"])),
        ];
        for (lines, expected) in table {
            assert_eq!(read(lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn what_is_no_reply_is_a_fault() {
        let table: [(&[&[u8]], ReplyFault); 12] = [
            (&[b""], ReplyFault::NoCode),
            (&[b"25"], ReplyFault::NoCode),
            (&[b"2x0 Ok"], ReplyFault::NoCode),
            (&[b" 250 Ok"], ReplyFault::NoCode),
            (&[b"199 Ok"], ReplyFault::NoCode),
            (&[b"600 Ok"], ReplyFault::NoCode),
            (&[b"hello"], ReplyFault::NoCode),
            (&[b"2500 Ok"], ReplyFault::Separator),
            (&[b"250\tOk"], ReplyFault::Separator),
            (&[b"250-a", b"550 b"], ReplyFault::CodeChanged(Code(250), Code(550))),
            (&[b"250-a", b"b"], ReplyFault::NoCode),
            (&[b"250-a", &[b'2'; REPLY_LINE_READ_MAX]], ReplyFault::LineTooLong),
        ];
        for (lines, fault) in table {
            assert_eq!(read(lines), Err(fault), "{lines:?}");
        }
    }

    #[test]
    fn an_endless_reply_is_a_fault() {
        let mut reader = ReplyReader::default();
        for _ in 0..REPLY_LINES_MAX {
            assert_eq!(reader.line(b"250-x"), Ok(None));
        }
        assert_eq!(reader.line(b"250 x"), Err(ReplyFault::TooManyLines));
        let mut reader = ReplyReader::default();
        let line = [b"250-".as_slice(), &[b'x'; 2000]].concat();
        let fault = (0..REPLY_LINES_MAX).find_map(|_| reader.line(&line).err());
        assert_eq!(fault, Some(ReplyFault::TooLarge));
    }

    #[test]
    fn a_reply_of_just_the_limits_is_read() {
        let limits = ReplyLimits { line: 10, lines: 2, octets: 18 };
        let read = |lines: &[&[u8]]| {
            let mut reader = ReplyReader::with_limits(limits);
            lines.iter().map(|line| reader.line(line)).collect::<Result<Vec<_>, _>>().map(|read| read.len())
        };
        assert_eq!(read(&[b"250-abcd", b"250 ab"]), Ok(2));
        assert_eq!(read(&[b"250-abcd", b"250 abc"]), Err(ReplyFault::TooLarge));
        assert_eq!(read(&[b"250-abcde"]), Err(ReplyFault::LineTooLong));
        assert_eq!(read(&[b"250-", b"250-", b"250 "]), Err(ReplyFault::TooManyLines));
    }

    #[test]
    fn after_a_fault_the_reader_begins_anew() {
        let mut reader = ReplyReader::with_limits(ReplyLimits { line: REPLY_LINE_MAX, lines: 2, octets: 1000 });
        assert_eq!(reader.line(b"250-a"), Ok(None));
        assert!(reader.is_inside());
        assert_eq!(reader.line(b"x"), Err(ReplyFault::NoCode));
        assert!(!reader.is_inside());
        assert_eq!(reader.line(b"550 b"), reply(550, None, &["b"]));
        assert_eq!(reader.line(&[b'2'; 511]), Err(ReplyFault::LineTooLong));
    }

    #[test]
    fn nothing_in_a_text_ends_the_line() {
        let mut wire = Vec::new();
        Reply::new(code(550), Status::new(5, 7, 1), "a\r\n250 Ok\0\u{85}\u{9b}b").write_to(&mut wire);
        assert_eq!(wire, b"550 5.7.1 a??250 Ok???b\r\n");
    }

    #[test]
    fn no_line_is_longer_than_512_octets_and_no_character_is_cut() {
        let mut wire = Vec::new();
        Reply::multiline(code(550), Status::new(5, 7, 1), ["\u{20ac}".repeat(400), "b".to_owned()]).write_to(&mut wire);
        let text = String::from_utf8(wire).unwrap();
        let lines: Vec<&str> = text.split_inclusive("\r\n").collect();
        assert!(lines[0].len() <= REPLY_LINE_MAX && lines[0].len() > REPLY_LINE_MAX - 3, "{}", lines[0].len());
        assert_eq!(lines[1], "550 5.7.1 b\r\n");
    }

    #[test]
    fn what_is_kept_of_a_reply_has_an_end() {
        let line = |octets: usize| "x".repeat(octets);
        let kept_of = |lines: &[String]| {
            let whole = Reply::multiline(code(550), Status::new(5, 7, 1), lines.iter().cloned());
            let kept = whole.clone().shortened();
            assert_eq!((kept.code(), kept.status()), (whole.code(), whole.status()));
            assert_eq!(kept.clone().shortened(), kept);
            // So it is with what an earlier build wrote down.
            assert_eq!(postcard::from_bytes::<Reply>(&postcard::to_stdvec(&whole).unwrap()), Ok(kept.clone()));
            kept.lines().to_vec()
        };
        let just = [line(REPLY_KEPT_MAX - 10), line(10)];
        assert_eq!(kept_of(&just), just);
        for (lines, count) in [
            (vec![line(REPLY_KEPT_MAX + 1)], 1),
            (vec![line(REPLY_KEPT_MAX - 10), line(11), line(1)], 2),
            (vec![line(REPLY_KEPT_MAX), line(1)], 1),
            (vec![line(REPLY_KEPT_MAX - LEFT_OUT.len()), line(200), line(1)], 2),
            (vec!["\u{fffd}".repeat(2042); 16], 1),
        ] {
            let kept = kept_of(&lines);
            let octets: usize = kept.iter().map(String::len).sum();
            assert!(kept.len() == count && octets <= REPLY_KEPT_MAX && octets > REPLY_KEPT_MAX - 4, "{kept:?}");
            assert!(kept[count - 1].ends_with(LEFT_OUT), "{kept:?}");
        }
    }

    #[test]
    fn a_status_is_three_numbers_without_leading_zeros() {
        assert_eq!("5.7.30".parse(), Ok(Status::known(5, 7, 30)));
        for text in
            ["", "5", "5.7", "5.7.", "5..1", "3.0.0", "5.1000.0", "5.07.1", "5.7.1.1", "+5.7.1", "5.7.1 ", "05.7.1"]
        {
            assert_eq!(text.parse::<Status>(), Err(NotAStatus), "{text}");
        }
    }

    fn any_reply() -> impl Strategy<Value = Reply> {
        let status = prop::option::of((0_u16..1000, 0_u16..1000));
        let lines = prop::collection::vec("[a-z\u{e9} ][ -~\u{e9}\u{4e2d}]{0,60}", 1..8);
        (prop::sample::select(vec![2_u16, 4, 5]), 0_u16..100, status, lines).prop_map(|(class, rest, status, lines)| {
            let status =
                status.and_then(|(subject, detail)| Status::new(u8::try_from(class).unwrap(), subject, detail));
            Reply::multiline(code(class * 100 + rest), status, lines)
        })
    }

    /// RFC 2034 §4. A reader would not miss it on the further lines.
    #[test]
    fn the_status_stands_on_each_line() {
        let lines = || ["a".to_owned(), String::new(), "b".to_owned()];
        for (status, expected) in [
            (Status::new(2, 1, 0), "250-2.1.0 a\r\n250-2.1.0 \r\n250 2.1.0 b\r\n"),
            (None, "250-a\r\n250-\r\n250 b\r\n"),
        ] {
            let mut wire = Vec::new();
            Reply::multiline(code(250), status, lines()).write_to(&mut wire);
            assert_eq!(String::from_utf8(wire).unwrap(), expected);
        }
    }

    proptest! {
        #[test]
        fn a_reply_comes_back_as_it_was_written(reply in any_reply()) {
            let mut wire = Vec::new();
            reply.write_to(&mut wire);
            let text = String::from_utf8(wire).unwrap();
            let lines: Vec<&[u8]> = text.split_terminator("\r\n").map(str::as_bytes).collect();
            prop_assert_eq!(read(&lines), Ok(Some(reply)));
        }
    }
}
