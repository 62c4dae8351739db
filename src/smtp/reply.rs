//! Replies: a code, an enhanced status, lines of text (RFC 5321 §4.2, RFC 3463, RFC 2034).
//!
//! Made by the catalogue on our side, read strictly from upstreams. A reply holds no CR, LF or NUL: what would inject a line is
//! replaced when the reply is made.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest reply line, with its CRLF (RFC 5321 §4.5.3.1.5).
pub const REPLY_LINE_MAX: usize = 512;

/// A three-digit reply code, 200 to 599.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Code(u16);

impl Code {
    /// The code, if it is one that RFC 5321 §4.2 knows the shape of (first digit 2 to 5, second 0 to 5).
    pub const fn new(number: u16) -> Option<Self> {
        if number >= 200 && number <= 599 && number / 10 % 10 <= 5 { Some(Self(number)) } else { None }
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
        write!(f, "{:03}", self.0)
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
pub struct Reply {
    code: Code,
    status: Option<Status>,
    lines: Vec<String>,
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

    /// Appends the reply as it goes on the wire: `250-…CRLF250 …CRLF`, the status on each line (RFC 2034 §4), no line over
    /// [`REPLY_LINE_MAX`] octets: longer text is cut at a character.
    pub fn write_to(&self, wire: &mut Vec<u8>) {
        let last = self.lines.len().saturating_sub(1);
        for (index, line) in self.lines.iter().enumerate() {
            let start = wire.len();
            let separator = if index == last { ' ' } else { '-' };
            wire.extend_from_slice(format!("{}{separator}", self.code).as_bytes());
            if let Some(status) = self.status {
                wire.extend_from_slice(format!("{status} ").as_bytes());
            }
            let room = (REPLY_LINE_MAX - 2).saturating_sub(wire.len() - start);
            wire.extend_from_slice(cut(line, room).as_bytes());
            wire.extend_from_slice(b"\r\n");
        }
    }
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
