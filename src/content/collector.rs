//! Gathers the header section from a stream of pieces, within its limit.
//!
//! Never: keeps an octet of the body, keeps more than the limit.

use crate::mail::header::{EndOfHeader, HeaderFault, HeaderLimits};

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

/// Takes the octets of a message (dots unstuffed, framing undone) piece by piece until its header section is whole.
#[derive(Debug)]
pub struct HeaderCollector {
    section: Vec<u8>,
    end: EndOfHeader,
    /// Whether the limit was reached before the end.
    too_large: bool,
    limit: usize,
}

impl HeaderCollector {
    /// One that takes at most `limits.section` octets.
    pub fn new(limits: &HeaderLimits) -> Self {
        Self { section: Vec::new(), end: EndOfHeader::default(), too_large: false, limit: limits.section }
    }

    /// Takes the next piece. After [`Collected::Whole`] nothing more is taken.
    ///
    /// # Errors
    /// [`HeaderFault::TooLarge`] when the limit is reached before the section's end; what was gathered is let go, and every further piece
    /// gives the same answer.
    pub fn push(&mut self, piece: &[u8]) -> Result<Collected, HeaderFault> {
        let consumed = if self.too_large { 0 } else { self.end.take(piece) };
        if self.too_large || consumed > self.limit.saturating_sub(self.section.len()) {
            self.section = Vec::new();
            self.too_large = true;
            return Err(HeaderFault::TooLarge { limit: self.limit });
        }
        self.section.extend_from_slice(piece.get(..consumed).unwrap_or_default());
        Ok(if self.end.is_past() { Collected::Whole { consumed } } else { Collected::More })
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
