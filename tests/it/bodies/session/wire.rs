//! What stands on the wire of a session, read once more with all of it at hand: where each line ends, what was behind it, and which messages came whole.
//!
//! Of the dialogue this believes only what was said to each line. A count frames its octets, a dot ends data, and CRLF ends a line: whoever finds a command
//! within a message, or two messages in one, has read otherwise. [`cut_otherwise`] is the same messages in other chunks.

use sealpost::smtp::data::{BareLf, Chunk};
use sealpost::smtp::{DotWriter, Framing};

use crate::bodies::header::plain_end;
use crate::bodies::wire::{first_fault, plain_data, with_whole_ends};
use crate::bodies::{Broken, pieces, require, same};

/// The most lines of a wire that is cut otherwise: more chunks are more commands, and of those without mail some are too many.
const LINES_MAX: usize = 30;

/// In a line that is too long what stands behind so many blanks is not looked at.
const BLANKS_MAX: usize = 500;

/// A line that the session was given, and what it made of the octets behind.
#[derive(Clone, Debug)]
pub(super) struct Turn {
    /// Where the line ends on the wire; none when its end is in dispute.
    pub(super) end: Option<usize>,
    pub(super) behind: Behind,
    /// The codes that were said to it.
    pub(super) codes: Vec<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behind {
    /// The next line.
    Line,
    /// A message, or a chunk of one.
    Message(Framing),
    /// So many octets that are thrown away.
    Over(u64),
}

impl Turn {
    fn is_granted(&self) -> bool {
        self.codes.iter().any(|code| code / 100 == 2)
    }
}

/// A line, and the octets behind it that are no line.
struct Part<'a> {
    line: &'a [u8],
    behind: &'a [u8],
    /// Whether all of them came.
    whole: bool,
}

/// The wire, line by line.
fn parts<'a>(wire: &'a [u8], turns: &[Turn], bare_lf: BareLf) -> Result<Vec<Part<'a>>, Broken> {
    let (mut parts, mut at, mut challenged) = (Vec::new(), 0, false);
    for (place, turn) in turns.iter().enumerate() {
        let rest = wire.get(at..).unwrap_or_default();
        let Some(length) = rest.windows(2).position(|two| two == b"\r\n") else {
            require("a line was read that does not end", turn.end.is_none())?;
            break;
        };
        let (line, behind) = (&rest[..length], &rest[length + 2..]);
        at += length + 2;
        if let Some(end) = turn.end {
            same("the end of a line", &end, &at)?;
        }
        let (taken, whole) = match turn.behind {
            // RFC 3030 §2: whatever becomes of a chunk, its octets are no line.
            Behind::Line if challenged => (0, true),
            // Whoever takes it for a chunk goes on elsewhere: nobody may find commands there.
            Behind::Line if looks_like_a_chunk(line) && announced(line).is_none() => {
                require("a line is read behind what looks like a chunk", place + 1 == turns.len())?;
                (0, true)
            }
            Behind::Line => counted(announced(line).map_or(0, |(count, _)| count), behind),
            Behind::Message(Framing::Dot) => {
                same("a line that begins data", &line.trim_ascii_end().to_ascii_uppercase(), &b"DATA".to_vec())?;
                let reading = plain_data(behind, bare_lf);
                (reading.consumed, reading.end == Some(Ok(())))
            }
            Behind::Message(Framing::Octets { count, chunk }) => {
                same("a chunk", &Some((count, chunk == Chunk::Last)), &announced(line))?;
                counted(count, behind)
            }
            Behind::Over(count) => {
                same("a chunk to be thrown away", &Some(count), &announced(line).map(|(count, _)| count))?;
                counted(count, behind)
            }
        };
        parts.push(Part { line, behind: &behind[..taken], whole });
        at += taken;
        challenged = turn.codes.contains(&334);
    }
    Ok(parts)
}

/// RFC 3030 §2: `BDAT SP chunk-size [ SP "LAST" ]`, and nothing else; RFC 5321 §4.1.1 lets white space stand at the end.
fn announced(line: &[u8]) -> Option<(u64, bool)> {
    let line = str::from_utf8(line).ok()?.trim_end_matches([' ', '\t']).to_ascii_uppercase();
    let rest = line.strip_prefix("BDAT ")?;
    let (count, is_last) = rest.strip_suffix(" LAST").map_or((rest, false), |count| (count, true));
    let is_one = (1..=20).contains(&count.len()) && count.bytes().all(|digit| digit.is_ascii_digit());
    is_one.then_some((count.parse().ok()?, is_last))
}

/// What another reader could take for a BDAT: behind whatever shows nothing the four letters, and no fifth.
fn looks_like_a_chunk(line: &[u8]) -> bool {
    let blank = line.iter().position(u8::is_ascii_graphic).filter(|blank| *blank < BLANKS_MAX);
    let shown = blank.map_or(&[][..], |at| &line[at..]);
    let is_verb = shown.get(..4).is_some_and(|verb| verb.eq_ignore_ascii_case(b"BDAT"));
    is_verb && !shown.get(4).is_some_and(u8::is_ascii_alphabetic)
}

fn counted(count: u64, behind: &[u8]) -> (usize, bool) {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    (count.min(behind.len()), count <= behind.len())
}

/// The messages of the wire that were answered with a 250, as they are to be kept.
pub(super) fn messages(wire: &[u8], turns: &[Turn], bare_lf: BareLf) -> Result<Vec<Vec<u8>>, Broken> {
    let (mut messages, mut gathered) = (Vec::new(), Vec::new());
    for (part, turn) in parts(wire, turns, bare_lf)?.iter().zip(turns) {
        match turn.behind {
            Behind::Message(framing) if turn.is_granted() => {
                require("a 250 before all has come", part.whole)?;
                match framing {
                    Framing::Dot => gathered = plain_data(part.behind, bare_lf).message,
                    Framing::Octets { .. } => gathered.extend_from_slice(part.behind),
                }
                if framing.is_last() {
                    messages.push(mended(&std::mem::take(&mut gathered), bare_lf));
                }
            }
            // Whoever is refused begins anew.
            Behind::Message(_) | Behind::Over(_) => gathered.clear(),
            Behind::Line if turn.is_granted() && begins_anew(part.line) => gathered.clear(),
            Behind::Line => {}
        }
    }
    Ok(messages)
}

fn begins_anew(line: &[u8]) -> bool {
    let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
    matches!(verb.as_slice(), b"RSET" | b"EHLO" | b"HELO")
}

/// What is documented to be done to what came: a bare LF is made whole where the identity may send it, and so is the end of a last field.
fn mended(message: &[u8], bare_lf: BareLf) -> Vec<u8> {
    let mut message = if bare_lf == BareLf::Normalized { with_whole_ends(message) } else { message.to_vec() };
    let is_header_alone = plain_end(&message) == message.len();
    if is_header_alone && !message.is_empty() && !message.ends_with(b"\r\n") {
        message.extend_from_slice(b"\r\n");
    }
    message
}

/// The same wire with its chunks cut otherwise, and what came by DATA in chunks; what comes by counts may come by the dot, where it can. None where it would
/// be no other, or more than a session takes.
pub(super) fn cut_otherwise(wire: &[u8], turns: &[Turn], bare_lf: BareLf, seed: u64) -> Option<Vec<u8>> {
    if turns.len() > LINES_MAX {
        return None;
    }
    let parts = parts(wire, turns, bare_lf).ok()?;
    let (mut other, mut end, mut by_ehlo, mut under_way) = (Vec::new(), 0, false, false);
    for (part, turn) in parts.iter().zip(turns) {
        let length = part.line.len() + 2 + part.behind.len();
        let as_it_is = wire.get(end..end + length)?;
        end += length;
        match turn.behind {
            Behind::Line => {
                let verb = part.line.get(..4).unwrap_or_default().to_ascii_uppercase();
                if turn.is_granted() && matches!(verb.as_slice(), b"EHLO" | b"HELO") {
                    by_ehlo = verb == b"EHLO";
                }
                other.extend_from_slice(as_it_is);
            }
            Behind::Message(Framing::Dot) if by_ehlo && turn.is_granted() => {
                chunked(&plain_data(part.behind, bare_lf).message, true, seed, &mut other);
            }
            Behind::Message(Framing::Octets { chunk: Chunk::Last, .. })
                if !under_way && turn.is_granted() && can_be_stuffed(part.behind) =>
            {
                stuffed(part.behind, &mut other);
            }
            Behind::Message(Framing::Octets { chunk, .. }) if part.whole && !part.behind.is_empty() => {
                chunked(part.behind, chunk == Chunk::Last, seed, &mut other);
            }
            Behind::Message(_) | Behind::Over(_) => other.extend_from_slice(as_it_is),
        }
        // By the dot comes a whole message or none of it.
        under_way = match turn.behind {
            Behind::Line => under_way && !(turn.is_granted() && begins_anew(part.line)),
            Behind::Message(framing) => turn.is_granted() && !framing.is_last(),
            Behind::Over(_) => false,
        };
    }
    other.extend_from_slice(wire.get(end..)?);
    (other != wire).then_some(other)
}

fn can_be_stuffed(message: &[u8]) -> bool {
    (message.is_empty() || message.ends_with(b"\r\n")) && first_fault(message, BareLf::Refused).is_none()
}

fn stuffed(message: &[u8], wire: &mut Vec<u8>) {
    wire.extend_from_slice(b"DATA\r\n");
    let mut writer = DotWriter::default();
    writer.write(message, wire);
    writer.finish(wire);
}

/// In up to three chunks.
fn chunked(octets: &[u8], last: bool, seed: u64, wire: &mut Vec<u8>) {
    let first = pieces(octets, seed).next().map_or(0, <[u8]>::len);
    let (begin, rest) = octets.split_at(first);
    let (middle, end) = rest.split_at(rest.len() / 2);
    let chunks = [begin, middle, end];
    let filled = chunks.iter().filter(|chunk| !chunk.is_empty()).count();
    for (place, chunk) in chunks.iter().filter(|chunk| !chunk.is_empty()).enumerate() {
        let word = if last && place + 1 == filled { " LAST" } else { "" };
        wire.extend_from_slice(format!("BDAT {}{word}\r\n", chunk.len()).as_bytes());
        wire.extend_from_slice(chunk);
    }
    if last && filled == 0 {
        wire.extend_from_slice(b"BDAT 0 LAST\r\n");
    }
}
