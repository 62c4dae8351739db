//! Gathers the header section from a stream of pieces, within its limit.
//!
//! What it will hold with the next piece is known before that is taken ([`HeaderCollector::would_hold`]), so that whoever has a budget can ask for it. It grows
//! by doubling: a section of the largest size is asked for a few times, not once a line.
//! Never: keeps an octet of the body, keeps more than the limit.

use crate::mail::header::{EndOfHeader, HeaderFault, HeaderLimits};

/// What a section takes of memory at least, octets: most are no larger.
const FIRST_HELD: usize = 2 * 1024;

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

    /// Octets of memory that it holds once it has taken a piece of so many octets: as many as it holds now, or more.
    pub fn would_hold(&self, piece: usize) -> usize {
        let needed = self.section.len().saturating_add(piece).min(self.limit);
        match needed <= self.section.capacity() {
            true => self.section.capacity(),
            false => {
                self.section.capacity().saturating_mul(2).clamp(needed.max(FIRST_HELD).min(self.limit), self.limit)
            }
        }
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
        let held = self.would_hold(consumed);
        self.section.reserve_exact(held.saturating_sub(self.section.len()));
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

    /// Lets go what has been gathered; nothing more is taken.
    pub fn give_up(&mut self) {
        self.section = Vec::new();
        self.too_large = true;
    }
}

#[cfg(test)]
mod tests;
