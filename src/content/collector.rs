//! Gathers the header section from a stream of pieces, within its limit.
//!
//! Never: keeps an octet of the body, keeps more than the limit.

use crate::mail::header::{HeaderFault, HeaderLimits};

/// How far a collector is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collected {
    /// The section goes on.
    More,
    /// The section is whole; so many octets of this piece were of it, the rest is body.
    Whole {
        /// Octets of the piece that were of the section, its blank line included.
        consumed: usize,
    },
}

/// How much of CRLF CRLF has been seen. The start of the message counts as a line's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Nothing,
    Cr,
    CrLf,
    CrLfCr,
    All,
    /// Not seen within the limit.
    TooLate,
}

impl Seen {
    fn then(self, octet: u8) -> Self {
        match (self, octet) {
            (Self::All, _) | (Self::CrLfCr, b'\n') => Self::All,
            (Self::Cr, b'\n') => Self::CrLf,
            (Self::CrLf, b'\r') => Self::CrLfCr,
            (Self::TooLate, _) => Self::TooLate,
            (_, b'\r') => Self::Cr,
            _ => Self::Nothing,
        }
    }
}

/// Takes the octets of a message (dots unstuffed, framing undone) piece by piece until its header section is whole.
#[derive(Debug)]
pub struct HeaderCollector {
    section: Vec<u8>,
    seen: Seen,
    limit: usize,
}

impl HeaderCollector {
    /// One that takes at most `limits.section` octets.
    pub fn new(limits: &HeaderLimits) -> Self {
        Self { section: Vec::new(), seen: Seen::CrLf, limit: limits.section }
    }

    /// Takes the next piece. After [`Collected::Whole`] nothing more is taken.
    ///
    /// # Errors
    /// [`HeaderFault::TooLarge`] when the limit is reached before the section's end; what was gathered is let go, and every further piece
    /// gives the same answer.
    pub fn push(&mut self, piece: &[u8]) -> Result<Collected, HeaderFault> {
        let mut consumed: usize = 0;
        for &octet in piece {
            if self.seen == Seen::All {
                break;
            }
            self.seen = self.seen.then(octet);
            consumed = consumed.saturating_add(1);
        }
        if self.seen == Seen::TooLate || consumed > self.limit.saturating_sub(self.section.len()) {
            self.section = Vec::new();
            self.seen = Seen::TooLate;
            return Err(HeaderFault::TooLarge { limit: self.limit });
        }
        self.section.extend_from_slice(piece.get(..consumed).unwrap_or_default());
        Ok(if self.seen == Seen::All { Collected::Whole { consumed } } else { Collected::More })
    }

    /// What has been gathered: at the end of the message too, when there was no blank line.
    pub fn section(&self) -> &[u8] {
        &self.section
    }

    /// The same, handed over.
    pub fn into_section(self) -> Vec<u8> {
        self.section
    }
}

#[cfg(test)]
mod tests;
