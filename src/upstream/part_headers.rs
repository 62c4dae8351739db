//! Whether the header of a part holds octets over 127, at any level of a message (RFC 6531 §3.2): in a multipart, in a message within the message.
//!
//! Only headers count: a body of `text/plain` may hold UTF-8 that looks like one, and what is encoded is looked at as it is sent. Where nobody can
//! say what a part is (no boundary, two Content-Types, deeper than [`DEPTH_MAX`]), it is a part without parts.
//!
//! Never: holds more than one header and one line, each cut at its limit; goes over an octet twice. Nothing here can fail.

use super::mime::{Boundary, Delimiter, Facts, Kind, Label, Unlabelled};

/// Octets of a header that are read for what it says.
const HEADER_MAX: usize = 64 * 1024;
/// Octets of a line that are read; a longer one is no boundary (RFC 2046 §5.1.1 has 70 characters at most).
const LINE_MAX: usize = 4096;
/// Multiparts within one another that are gone into.
const DEPTH_MAX: usize = 50;

/// Where a line stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// In the message's own header.
    OwnHeader,
    /// In that of a part.
    Header,
    /// In a body, or between parts.
    Content,
}

/// A multipart that is open.
#[derive(Debug)]
struct Level {
    delimiter: Delimiter,
    default: Unlabelled,
}

/// A look at the headers of the parts, piece by piece.
#[derive(Debug)]
pub(super) struct PartHeaders {
    at: At,
    levels: Vec<Level>,
    default: Unlabelled,
    header: Vec<u8>,
    line: Vec<u8>,
    /// The line goes on beyond what is read of it.
    is_cut: bool,
    is_beyond: bool,
}

impl Default for PartHeaders {
    fn default() -> Self {
        Self {
            at: At::OwnHeader,
            levels: Vec::new(),
            default: Unlabelled::Text,
            header: Vec::new(),
            line: Vec::new(),
            is_cut: false,
            is_beyond: false,
        }
    }
}

impl PartHeaders {
    /// Whether one of them holds octets over 127, as far as it was looked at.
    pub(super) fn is_beyond_ascii(&self) -> bool {
        self.is_beyond
    }

    /// Whether what is still to come can't change that.
    pub(super) fn is_done(&self) -> bool {
        self.is_beyond || (self.at == At::Content && self.levels.is_empty())
    }

    /// The message's next octets.
    pub(super) fn push(&mut self, octets: &[u8]) {
        for piece in octets.split_inclusive(|&octet| octet == b'\n') {
            if self.is_done() {
                return;
            }
            self.is_beyond |= self.at == At::Header && !piece.is_ascii();
            let room = LINE_MAX.saturating_sub(self.line.len());
            self.is_cut |= piece.len() > room;
            self.line.extend_from_slice(piece.get(..room).unwrap_or(piece));
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                let text = line.strip_suffix(b"\n").unwrap_or(&line);
                self.one_line(text.strip_suffix(b"\r").unwrap_or(text));
                self.line = line;
                self.line.clear();
                self.is_cut = false;
            }
        }
    }

    fn one_line(&mut self, line: &[u8]) {
        if let Some((place, boundary)) = self.boundary(line) {
            self.levels.truncate(place.saturating_add(1));
            self.header.clear();
            match boundary {
                Boundary::Next => {
                    self.default = self.levels.last().map_or(Unlabelled::Text, |level| level.default);
                    self.at = At::Header;
                }
                Boundary::Last => {
                    self.levels.pop();
                    self.at = At::Content;
                }
            }
        } else if self.at != At::Content {
            if line.is_empty() && !self.is_cut {
                self.header_ends();
            } else if self.header.len().saturating_add(line.len()) < HEADER_MAX {
                self.header.extend_from_slice(line);
                self.header.extend_from_slice(b"\r\n");
            }
        }
    }

    /// The innermost multipart that a line is a boundary of.
    fn boundary(&self, line: &[u8]) -> Option<(usize, Boundary)> {
        if self.is_cut {
            return None;
        }
        self.levels.iter().enumerate().rev().find_map(|(place, level)| Some((place, level.delimiter.of(line)?)))
    }

    fn header_ends(&mut self) {
        let facts = Facts::of(&self.header, self.default);
        self.header.clear();
        self.at = At::Content;
        let Ok(facts) = facts else { return };
        match &facts.kind {
            Kind::Multipart { boundary, .. } if self.levels.len() < DEPTH_MAX => {
                let default = if facts.kind.is_digest() { Unlabelled::Message } else { Unlabelled::Text };
                self.levels.push(Level { delimiter: Delimiter::new(boundary), default });
            }
            // A message within that is encoded has no header that anybody sees on the way.
            Kind::Message | Kind::GlobalMessage if facts.encoding != Label::Encoded => {
                (self.default, self.at) = (Unlabelled::Text, At::Header);
            }
            Kind::Multipart { .. }
            | Kind::Message
            | Kind::GlobalMessage
            | Kind::OtherMessage
            | Kind::Text
            | Kind::Other => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the parts' headers of a message are beyond ASCII; the same however it is cut.
    #[track_caller]
    fn check(message: &str, expected: bool) {
        for piece in [1, 7, 4096] {
            let mut parts = PartHeaders::default();
            for octets in message.as_bytes().chunks(piece) {
                parts.push(octets);
            }
            assert_eq!(parts.is_beyond_ascii(), expected, "in pieces of {piece}: {message:?}");
        }
    }

    #[test]
    fn only_headers_of_parts_count() {
        let multipart = "Content-Type: multipart/mixed; boundary=b\r\n\r\n";
        let outer = "Content-Type: multipart/mixed; boundary=\"o\"\r\n\r\n";
        let file = "Content-Disposition: attachment; filename=\"\u{e4}.txt\"\r\n";
        for (message, expected) in [
            // Its own header, and bodies, are for others to look at.
            ("Subject: \u{e4}\r\n\r\n\u{e4}\r\n".to_owned(), false),
            (format!("Subject: x\r\n\r\n{file}\r\n"), false),
            (format!("{multipart}--b\r\nContent-Type: text/plain\r\n\r\n{file}\r\n--b--\r\n"), false),
            (format!("{multipart}\u{e4}\r\n--b\r\n\r\nx\r\n--b--\r\n{file}\r\n"), false),
            // A part's.
            (format!("{multipart}--b\r\n{file}\r\nx\r\n--b--\r\n"), true),
            (format!("{multipart}--b\r\n\r\nx\r\n--b  \r\n{file}\r\nx\r\n--b--\r\n"), true),
            (format!("{multipart}--b\r\n{file}"), true),
            // A part's in a part's; and behind it.
            (format!("{outer}--o\r\n{multipart}--b\r\n{file}\r\n--b--\r\n--o--\r\n"), true),
            (format!("{outer}--o\r\n{multipart}--b\r\n\r\nx\r\n--o\r\n{file}\r\n--o--\r\n"), true),
            (format!("{outer}--o\r\n{multipart}--b\r\n\r\nx\r\n--b--\r\n{file}--o--\r\n"), false),
            // A message's in the message; encoded, nobody sees it.
            ("Content-Type: message/rfc822\r\n\r\nSubject: \u{e4}\r\n\r\nx".to_owned(), true),
            ("Content-Type: message/global\r\n\r\nSubject: \u{e4}\r\n\r\nx".to_owned(), true),
            ("Content-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\n\u{e4}".to_owned(), false),
            (
                "Content-Type: message/global\r\nContent-Transfer-Encoding: base64\r\n\r\nSubject: \u{e4}\r\n\r\nx"
                    .to_owned(),
                false,
            ),
            ("Content-Type: message/delivery-status\r\n\r\nSubject: \u{e4}\r\n\r\nx".to_owned(), false),
            (
                "Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nSubject: \u{e4}\r\n\r\n--b--\r\n"
                    .to_owned(),
                true,
            ),
            // What nobody can read.
            (format!("Content-Type: multipart/mixed\r\n\r\n--b\r\n{file}\r\n"), false),
        ] {
            check(&message, expected);
        }
    }

    #[test]
    fn nothing_grows_with_the_message() {
        let mut parts = PartHeaders::default();
        for _ in 0..1000 {
            parts.push(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n");
        }
        assert_eq!(parts.levels.len(), DEPTH_MAX);
        let mut parts = PartHeaders::default();
        for _ in 0..1000 {
            parts.push(&[b'x'; 1000]);
        }
        assert_eq!((parts.line.len(), parts.header.len()), (LINE_MAX, 0));
        parts.push(b"\r\n");
        for _ in 0..100_000 {
            parts.push(b"Subject: x\r\n");
        }
        assert!(parts.header.len() <= HEADER_MAX);
        parts.push(b"\r\nx");
        assert!(parts.is_done());
    }
}
