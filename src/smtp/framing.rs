//! A message however it is framed: by the dot at its end (RFC 5321 §4.1.1.4), or by the counts of its chunks (RFC 3030 §2).
//!
//! [`MessageReader`] reads either; whoever drives it has to know of the framing only where a chunk begins. By counts a fault leaves no end in
//! dispute: the chunk is read to its end all the same, and the fault is told there. Never: makes room for what a count announces, takes an octet
//! behind the end.

use super::data::{BareLf, Chunk, DotProgress, DotReader, DotState, OctetReader};

/// How the octets of a message are framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// DATA: up to CRLF.CRLF, dots stuffed (RFC 5321 §4.5.2).
    Dot,
    /// BDAT: so many octets, nothing stuffed (RFC 3030 §2).
    Octets {
        /// The chunk's size.
        count: u64,
        /// Whether more follow.
        chunk: Chunk,
    },
}

impl Framing {
    /// Whether the end of what is framed is the end of the message.
    pub fn is_last(self) -> bool {
        match self {
            Self::Dot | Self::Octets { chunk: Chunk::Last, .. } => true,
            Self::Octets { chunk: Chunk::Middle, .. } => false,
        }
    }
}

/// Undoes the framing. One per message.
///
/// ```
/// use sealpost::smtp::data::{BareLf, Chunk, DotState};
/// use sealpost::smtp::framing::{Framing, MessageReader};
/// let mut message = Vec::new();
/// let mut reader = MessageReader::new(Framing::Octets { count: 4, chunk: Chunk::Middle }, BareLf::Refused);
/// assert_eq!(reader.read(b"a\r\n.BDAT 3 LAST\r\n", &mut message).consumed, 4);
/// reader.go_on(Framing::Octets { count: 3, chunk: Chunk::Last });
/// assert_eq!(reader.read(b".\r\nQUIT\r\n", &mut message).state, DotState::End);
/// assert_eq!(message, b"a\r\n..\r\n");
/// ```
#[derive(Debug)]
pub enum MessageReader {
    /// By the dot.
    Dots(DotReader),
    /// By counts.
    Chunks(OctetReader),
}

impl MessageReader {
    /// One for a message that begins so; `bare_lf`: what becomes of them.
    pub fn new(framing: Framing, bare_lf: BareLf) -> Self {
        match framing {
            Framing::Dot => Self::Dots(DotReader::new(bare_lf)),
            Framing::Octets { count, chunk } => {
                let mut reader = OctetReader::new(bare_lf);
                reader.begin(count, chunk);
                Self::Chunks(reader)
            }
        }
    }

    /// The next chunk of the same message begins. What comes by the dot has none.
    pub fn go_on(&mut self, framing: Framing) {
        if let (Self::Chunks(reader), Framing::Octets { count, chunk }) = (self, framing) {
            reader.begin(count, chunk);
        }
    }

    /// Reads on, appending the message's octets to `out`: as [`DotReader::read`] and [`OctetReader::read`], but that a fault in a chunk is told at
    /// the chunk's end.
    pub fn read(&mut self, input: &[u8], out: &mut Vec<u8>) -> DotProgress {
        match self {
            Self::Dots(reader) => reader.read(input, out),
            Self::Chunks(reader) => read_chunk(reader, input, out),
        }
    }

    /// Reads on to the end of the data or of the chunk, and keeps nothing. What is at fault in a chunk makes no difference then.
    pub fn discard(&mut self, input: &[u8]) -> DotProgress {
        match self {
            Self::Dots(reader) => reader.discard(input),
            Self::Chunks(reader) => reader.discard(input),
        }
    }

    /// Whether it can't go on without more octets: a chunk of none is at its end at once.
    pub fn wants_octets(&self) -> bool {
        match self {
            Self::Dots(_) => true,
            Self::Chunks(reader) => reader.remaining() > 0,
        }
    }

    /// Whether the end of what is being read is the end of the message.
    pub fn is_last(&self) -> bool {
        match self {
            Self::Dots(_) => true,
            Self::Chunks(reader) => reader.is_last(),
        }
    }

    /// Octets of the chunk so far that are given out only with those behind them.
    pub fn held_back(&self) -> u64 {
        match self {
            Self::Dots(_) => 0,
            Self::Chunks(reader) => reader.held_back(),
        }
    }

    /// The longest line so far, octets without CRLF; the line being read counts.
    pub fn longest_line(&self) -> usize {
        match self {
            Self::Dots(reader) => reader.longest_line(),
            Self::Chunks(reader) => reader.longest_line(),
        }
    }
}

/// RFC 3030 §2: a chunk that is refused is accepted and discarded first.
fn read_chunk(reader: &mut OctetReader, input: &[u8], out: &mut Vec<u8>) -> DotProgress {
    let read = reader.read(input, out);
    let DotState::Fault(_) = read.state else { return read };
    let rest = reader.discard(input.get(read.consumed..).unwrap_or_default());
    let state = if rest.state == DotState::End { read.state } else { DotState::More };
    DotProgress { consumed: read.consumed.saturating_add(rest.consumed), state }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::data::OctetFault;

    /// Chunks in the order in which they come, each in pieces of `piece` octets; what was read, and how each chunk ended.
    fn read(chunks: &[&str], piece: usize) -> (String, Vec<DotState>) {
        let mut message = Vec::new();
        let mut ends = Vec::new();
        let mut reader: Option<MessageReader> = None;
        for (place, octets) in chunks.iter().enumerate() {
            let chunk = if place + 1 == chunks.len() { Chunk::Last } else { Chunk::Middle };
            let framing = Framing::Octets { count: u64::try_from(octets.len()).unwrap(), chunk };
            match &mut reader {
                Some(reader) => reader.go_on(framing),
                None => reader = Some(MessageReader::new(framing, BareLf::Refused)),
            }
            let reader = reader.as_mut().unwrap();
            let mut rest = format!("{octets}NOOP\r\n").into_bytes();
            let end = loop {
                let offered = if reader.wants_octets() { piece.min(rest.len()) } else { 0 };
                let progress = reader.read(&rest[..offered], &mut message);
                rest.drain(..progress.consumed);
                if progress.state != DotState::More {
                    break progress.state;
                }
            };
            assert_eq!(rest, b"NOOP\r\n", "{octets:?} in pieces of {piece}");
            ends.push(end);
        }
        (String::from_utf8(message).unwrap(), ends)
    }

    #[test]
    fn a_chunk_is_read_to_its_end_and_not_an_octet_further_whatever_it_holds() {
        use DotState::{End, Fault};
        let bare_lf = Fault(OctetFault::BareLf);
        let bare_cr = Fault(OctetFault::BareCr);
        let table: [(&[&str], &str, &[DotState]); 9] = [
            (&["a\r\n.\r\n"], "a\r\n.\r\n", &[End]),
            (&["..\r\n"], "..\r\n", &[End]),
            (&["a\r", "\nb"], "a\r\nb", &[End, End]),
            (&["a\r", "", "\n", ""], "a\r\n", &[End, End, End, End]),
            (&["a\n.\nMAIL"], "a", &[bare_lf]),
            (&["a\r", "b", "c"], "a", &[End, bare_cr, bare_cr]),
            (&["a", "\nb"], "a", &[End, bare_lf]),
            (&["a\r"], "a", &[bare_cr]),
            (&["a\0b", ""], "a", &[Fault(OctetFault::Nul), Fault(OctetFault::Nul)]),
        ];
        for (chunks, message, ends) in table {
            for piece in [1, 2, 1000] {
                assert_eq!(read(chunks, piece), (message.to_owned(), ends.to_vec()), "{chunks:?} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn the_last_octets_of_a_message_are_known_and_its_longest_line() {
        let octets = |count, chunk| Framing::Octets { count, chunk };
        for (framing, wants_octets, is_last) in [
            (Framing::Dot, true, true),
            (octets(0, Chunk::Middle), false, false),
            (octets(0, Chunk::Last), false, true),
            (octets(9, Chunk::Middle), true, false),
            (octets(9, Chunk::Last), true, true),
        ] {
            let mut reader = MessageReader::new(framing, BareLf::Refused);
            assert_eq!((framing.is_last(), reader.is_last()), (is_last, is_last), "{framing:?}");
            assert_eq!(reader.wants_octets(), wants_octets, "{framing:?}");
            if wants_octets {
                reader.read(b"ab\r\nabc\r\n", &mut Vec::new());
                assert_eq!(reader.longest_line(), 3, "{framing:?}");
            }
        }
    }

    #[test]
    fn what_a_count_announces_takes_no_room() {
        let mut message = Vec::new();
        let framing = Framing::Octets { count: u64::MAX, chunk: Chunk::Last };
        let mut reader = MessageReader::new(framing, BareLf::Refused);
        assert_eq!(reader.read(b"ten octets", &mut message), DotProgress { consumed: 10, state: DotState::More });
        assert!(message.capacity() < 100, "{}", message.capacity());
    }
}
