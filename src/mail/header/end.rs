//! Where a header section ends: behind the first empty line, which may be the first of all (RFC 5322 §2.1). One reader, for whoever asks.
//!
//! Only CRLF ends a line. Never: keeps an octet.

/// How much of the empty line has been seen. The start of the message counts as a line's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Seen {
    Nothing,
    Cr,
    #[default]
    CrLf,
    CrLfCr,
    All,
}

impl Seen {
    fn then(self, octet: u8) -> Self {
        match (self, octet) {
            (Self::All, _) | (Self::CrLfCr, b'\n') => Self::All,
            (Self::Cr, b'\n') => Self::CrLf,
            (Self::CrLf, b'\r') => Self::CrLfCr,
            (_, b'\r') => Self::Cr,
            _ => Self::Nothing,
        }
    }
}

/// Looks for the end in a message that comes piece by piece.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndOfHeader {
    seen: Seen,
}

impl EndOfHeader {
    /// How many octets of the next piece are of the section, its empty line included: all of them while it goes on, none behind its end.
    pub fn take(&mut self, piece: &[u8]) -> usize {
        let mut taken: usize = 0;
        for &octet in piece {
            if self.is_past() {
                break;
            }
            self.seen = self.seen.then(octet);
            taken = taken.saturating_add(1);
        }
        taken
    }

    /// Whether the empty line has gone by.
    pub fn is_past(self) -> bool {
        self.seen == Seen::All
    }
}

/// The section at the start of `octets`, its empty line included; all of them when they hold none.
pub fn section_of(octets: &[u8]) -> &[u8] {
    let taken = EndOfHeader::default().take(octets);
    octets.get(..taken).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_empty_line_ends_it_however_it_comes() {
        for (octets, section) in [
            ("", ""),
            ("\r\n", "\r\n"),
            ("\r\nbody\r\n\r\n", "\r\n"),
            ("a: b\r\n\r\nbody", "a: b\r\n\r\n"),
            ("a: b\r\n", "a: b\r\n"),
            ("a: b\r\n\r", "a: b\r\n\r"),
            ("a: b\r\r\n\r\nc", "a: b\r\r\n\r\n"),
            ("a: b\r\n\r\r\n\r\nc", "a: b\r\n\r\r\n\r\n"),
            ("a: b\n\nbody", "a: b\n\nbody"),
            ("a: b\r\n \r\n\r\nc", "a: b\r\n \r\n\r\n"),
        ] {
            assert_eq!(section_of(octets.as_bytes()), section.as_bytes(), "{octets:?}");
            for size in 1..4 {
                let mut end = EndOfHeader::default();
                let taken: usize = octets.as_bytes().chunks(size).map(|piece| end.take(piece)).sum();
                assert_eq!(taken, section.len(), "{octets:?} by {size}");
                assert_eq!(end.is_past(), section.ends_with("\r\n\r\n") || section == "\r\n", "{octets:?}");
            }
        }
    }
}
