//! The octets of a message on the wire: dot-stuffing both ways (RFC 5321 §4.5.2), and the counted chunks of BDAT (RFC 3030 §2).
//!
//! [`DotReader`]: only CRLF.CRLF ends the data, or .CRLF where the message is empty. A bare CR, a bare LF or a NUL is a fault at once: where
//! two readers could see different ends, there is no end (CVE-2023-51764 and its kin). [`OctetReader`] holds chunks to the same octets.
//! For devices that know no better, both can read a bare LF as the line end that was meant ([`BareLf::Normalized`]): what goes on holds CRLF
//! only, and the end is CRLF.CRLF all the same. A dot alone between other line ends is text then, and is stuffed on its way out.
//! [`DotWriter`] emits CRLF only, and no line of the message can end the data.
//! Never: holds more than two octets back, allocates but in the caller's buffer, changes what it reads but for the dots.

use memchr::{memchr2, memchr3};

/// What is wrong with the octets themselves, wherever they stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OctetFault {
    /// CR without LF.
    #[error("a CR that no LF follows")]
    BareCr,
    /// LF without CR.
    #[error("a LF that no CR precedes")]
    BareLf,
    /// NUL.
    #[error("a NUL")]
    Nul,
}

/// What becomes of an LF that no CR precedes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BareLf {
    /// It is a fault: the end is in dispute.
    #[default]
    Refused,
    /// It ends a line, and goes on as CRLF; but never the data.
    Normalized,
}

/// How far a piece was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DotProgress {
    /// So many octets of the piece were taken; at a fault, up to and with the octet at fault (nothing, where that CR came with the piece before).
    pub consumed: usize,
    /// What comes next.
    pub state: DotState,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DotState {
    /// More octets of the message.
    More,
    /// Nothing: this was the end of the data, or of the chunk.
    End,
    /// The end is in dispute.
    Fault(OctetFault),
}

/// Where the next octet stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// At the start of a line; so the message begins.
    #[default]
    LineStart,
    /// Behind a dot that began the line, and that is not part of the message.
    Dot,
    /// Behind such a dot and CR.
    DotCr,
    /// Before a bare LF that is to become CRLF.
    BareLf,
    /// At the start of a line, behind such an LF.
    LineStartLf,
    /// Behind a dot that began such a line: alone on it, it is text.
    DotLf,
    /// Behind such a dot and CR.
    DotLfCr,
    /// Anywhere else.
    Inside,
    /// Behind a CR.
    Cr,
    /// Behind the end, or behind the octet at fault.
    Over(DotState),
}

/// The longest line so far.
#[derive(Clone, Copy, Debug, Default)]
struct Longest {
    /// Octets of the line being read.
    current: usize,
    longest: usize,
}

impl Longest {
    fn grow(&mut self, octets: usize) {
        self.current = self.current.saturating_add(octets);
        self.longest = self.longest.max(self.current);
    }

    fn end_line(&mut self) {
        self.current = 0;
    }
}

/// Undoes dot-stuffing and finds the end. One per message.
///
/// ```
/// use sealpost::smtp::data::{DotReader, DotState};
/// let mut message = Vec::new();
/// let progress = DotReader::default().read(b"..a\r\n.\r\nQUIT\r\n", &mut message);
/// assert_eq!((progress.consumed, progress.state), (8, DotState::End));
/// assert_eq!(message, b".a\r\n");
/// ```
#[derive(Debug, Default)]
pub struct DotReader {
    place: Place,
    lines: Longest,
    bare_lf: BareLf,
}

impl DotReader {
    /// One that does so with bare LFs; the default refuses them.
    pub fn new(bare_lf: BareLf) -> Self {
        Self { bare_lf, ..Self::default() }
    }

    /// Reads on, appending the message's octets to `out`; never more than `input` has, and one, or twice that where LF becomes CRLF. Behind the
    /// end or a fault it takes nothing more.
    pub fn read(&mut self, input: &[u8], out: &mut Vec<u8>) -> DotProgress {
        self.scan(input, |octets| out.extend_from_slice(octets))
    }

    /// Reads on to the true end and keeps nothing: for a message that is refused (the client must hear of it only there).
    pub fn discard(&mut self, input: &[u8]) -> DotProgress {
        self.scan(input, |_| {})
    }

    /// The longest line so far, octets without CRLF and without the dot that was stuffed in; the line being read counts.
    pub fn longest_line(&self) -> usize {
        self.lines.longest
    }

    fn scan(&mut self, input: &[u8], mut keep: impl FnMut(&[u8])) -> DotProgress {
        let mut at = 0;
        // What has been looked at and not given out yet begins here.
        let mut kept = 0;
        if self.place == Place::Cr && input.first() == Some(&b'\n') {
            keep(b"\r");
        }
        while let Some(&octet) = input.get(at) {
            match (self.place, octet) {
                (Place::Over(_), _) => break,
                (Place::LineStart, b'.') => {
                    keep(between(input, kept, at));
                    at = at.saturating_add(1);
                    kept = at;
                    self.place = Place::Dot;
                }
                (Place::Dot, b'\r') => {
                    at = at.saturating_add(1);
                    kept = at;
                    self.place = Place::DotCr;
                }
                // What follows is a line end of its own kind, so the dot is no end: it is text, and was not stuffed.
                (Place::Dot | Place::DotLf, b'\n') if self.bare_lf == BareLf::Normalized => {
                    keep(b".");
                    self.place = Place::BareLf;
                }
                (Place::BareLf, _) => {
                    keep(between(input, kept, at));
                    keep(b"\r\n");
                    at = at.saturating_add(1);
                    kept = at;
                    self.lines.end_line();
                    self.place = Place::LineStartLf;
                }
                (Place::LineStartLf, b'.') => {
                    at = at.saturating_add(1);
                    kept = at;
                    self.place = Place::DotLf;
                }
                (Place::DotLf, b'\r') => {
                    at = at.saturating_add(1);
                    kept = at;
                    self.place = Place::DotLfCr;
                }
                (Place::DotLfCr, b'\n') => {
                    keep(b".\r\n");
                    at = at.saturating_add(1);
                    kept = at;
                    self.place = Place::LineStart;
                }
                (Place::LineStart | Place::Dot | Place::LineStartLf | Place::DotLf, _) => self.place = Place::Inside,
                (Place::DotCr, b'\n') => {
                    at = at.saturating_add(1);
                    kept = at;
                    self.place = Place::Over(DotState::End);
                }
                (Place::Cr, b'\n') => {
                    at = at.saturating_add(1);
                    self.lines.end_line();
                    self.place = Place::LineStart;
                }
                (Place::DotCr | Place::DotLfCr | Place::Cr, _) => {
                    keep(between(input, kept, at.saturating_sub(1)));
                    kept = at;
                    self.place = Place::Over(DotState::Fault(OctetFault::BareCr));
                }
                (Place::Inside, _) => at = self.read_text(input, at),
            }
        }
        keep(between(input, kept, self.end_of_text(at)));
        self.progress(at)
    }

    /// Reads to the next octet that is not plain text, and past it.
    fn read_text(&mut self, input: &[u8], at: usize) -> usize {
        let rest = input.get(at..).unwrap_or_default();
        let text = memchr3(b'\r', b'\n', 0, rest);
        self.lines.grow(text.unwrap_or(rest.len()));
        let Some(text) = text else { return input.len() };
        self.place = match rest.get(text) {
            Some(b'\r') => Place::Cr,
            Some(b'\n') if self.bare_lf == BareLf::Normalized => {
                self.place = Place::BareLf;
                return at.saturating_add(text);
            }
            Some(b'\n') => Place::Over(DotState::Fault(OctetFault::BareLf)),
            _ => Place::Over(DotState::Fault(OctetFault::Nul)),
        };
        at.saturating_add(text).saturating_add(1)
    }

    /// The octet before `at` is not the message's when it is a CR whose LF is still out, or when it is at fault.
    fn end_of_text(&self, at: usize) -> usize {
        match self.place {
            Place::Cr | Place::Over(DotState::Fault(OctetFault::BareLf | OctetFault::Nul)) => at.saturating_sub(1),
            Place::LineStart
            | Place::Dot
            | Place::DotCr
            | Place::BareLf
            | Place::LineStartLf
            | Place::DotLf
            | Place::DotLfCr
            | Place::Inside
            | Place::Over(_) => at,
        }
    }

    fn progress(&self, consumed: usize) -> DotProgress {
        let state = if let Place::Over(state) = self.place { state } else { DotState::More };
        DotProgress { consumed, state }
    }
}

/// The octets from `from` up to `to`; none when that is no range.
fn between(octets: &[u8], from: usize, to: usize) -> &[u8] {
    octets.get(from..to).unwrap_or_default()
}

/// Whether more chunks follow this one (RFC 3030 §2: `LAST`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// More follow.
    Middle,
    /// The message ends with it.
    Last,
}

/// Reads the chunks of a BDAT message, holding their octets to the same rules as DATA. One per message: a CR at the end of a chunk
/// waits for its LF in the next.
///
/// The count frames the data, so the end of a chunk is never in dispute: after a fault, [`Self::discard`] takes the rest of it.
#[derive(Debug, Default)]
pub struct OctetReader {
    remaining: u64,
    last: bool,
    /// A CR is held back.
    behind_cr: bool,
    fault: Option<OctetFault>,
    lines: Longest,
    bare_lf: BareLf,
}

impl OctetReader {
    /// One that does so with bare LFs; the default refuses them.
    pub fn new(bare_lf: BareLf) -> Self {
        Self { bare_lf, ..Self::default() }
    }

    /// A chunk of so many octets follows.
    pub fn begin(&mut self, count: u64, chunk: Chunk) {
        self.remaining = count;
        self.last = chunk == Chunk::Last;
    }

    /// How many octets of the chunk are still to come.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Whether the message ends with this chunk.
    pub fn is_last(&self) -> bool {
        self.last
    }

    /// Reads on, appending the message's octets to `out`; never more than `input` has, and one, or twice that where LF becomes CRLF. `End` is the
    /// end of the chunk. A CR at the end of the last chunk is a fault: call this with no octets for a last chunk of none. After a fault it takes
    /// nothing more.
    pub fn read(&mut self, input: &[u8], out: &mut Vec<u8>) -> DotProgress {
        if let Some(fault) = self.fault {
            return DotProgress { consumed: 0, state: DotState::Fault(fault) };
        }
        let ours = self.within_chunk(input);
        let mut consumed: usize = 0;
        let fault = loop {
            let rest = ours.get(consumed..).unwrap_or_default();
            let (clean, fault) = self.check(rest);
            self.keep(between(rest, 0, clean), out);
            consumed = consumed.saturating_add(clean);
            match fault {
                Some(OctetFault::BareLf) if self.bare_lf == BareLf::Normalized => {
                    out.extend_from_slice(b"\r\n");
                    self.lines.end_line();
                    consumed = consumed.saturating_add(1);
                }
                Some(OctetFault::BareLf | OctetFault::Nul) => {
                    consumed = consumed.saturating_add(1);
                    break fault;
                }
                Some(OctetFault::BareCr) | None => break fault,
            }
        };
        self.count_down(consumed);
        self.fault = fault.or((self.remaining == 0 && self.last && self.behind_cr).then_some(OctetFault::BareCr));
        DotProgress { consumed, state: self.state() }
    }

    /// Takes the rest of the chunk and keeps nothing, whatever it holds.
    pub fn discard(&mut self, input: &[u8]) -> DotProgress {
        let consumed = self.within_chunk(input).len();
        self.count_down(consumed);
        let state = if self.remaining == 0 { DotState::End } else { DotState::More };
        DotProgress { consumed, state }
    }

    /// The longest line so far, octets without CRLF; the line being read counts.
    pub fn longest_line(&self) -> usize {
        self.lines.longest
    }

    /// Octets that were taken and are not in `out` yet: a CR.
    pub fn held_back(&self) -> u64 {
        u64::from(self.behind_cr)
    }

    fn state(&self) -> DotState {
        match self.fault {
            Some(fault) => DotState::Fault(fault),
            None if self.remaining == 0 => DotState::End,
            None => DotState::More,
        }
    }

    fn within_chunk<'a>(&self, input: &'a [u8]) -> &'a [u8] {
        let room = usize::try_from(self.remaining).unwrap_or(usize::MAX);
        input.get(..room.min(input.len())).unwrap_or_default()
    }

    fn count_down(&mut self, octets: usize) {
        self.remaining = self.remaining.saturating_sub(u64::try_from(octets).unwrap_or(u64::MAX));
    }

    /// How many octets have no fault, and what is wrong with the one behind them: with a bare CR, with that CR itself, which is counted in.
    fn check(&mut self, octets: &[u8]) -> (usize, Option<OctetFault>) {
        let mut at = 0;
        let mut behind_cr = self.behind_cr;
        loop {
            let rest = octets.get(at..).unwrap_or_default();
            if behind_cr {
                match rest.first() {
                    None => return (at, None),
                    Some(b'\n') => {
                        self.lines.end_line();
                        behind_cr = false;
                        at = at.saturating_add(1);
                        continue;
                    }
                    Some(_) => return (at, Some(OctetFault::BareCr)),
                }
            }
            let text = memchr3(b'\r', b'\n', 0, rest);
            self.lines.grow(text.unwrap_or(rest.len()));
            let Some(text) = text else { return (octets.len(), None) };
            at = at.saturating_add(text);
            match rest.get(text) {
                Some(b'\r') => behind_cr = true,
                Some(b'\n') => return (at, Some(OctetFault::BareLf)),
                _ => return (at, Some(OctetFault::Nul)),
            }
            at = at.saturating_add(1);
        }
    }

    /// Gives the octets out but for a CR at their end, which waits for its LF; and the one that waited.
    fn keep(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        let Some(&last) = octets.last() else { return };
        if self.behind_cr {
            out.push(b'\r');
        }
        self.behind_cr = last == b'\r';
        let end = if self.behind_cr { octets.len().saturating_sub(1) } else { octets.len() };
        out.extend_from_slice(between(octets, 0, end));
    }
}

/// Where the writer stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Written {
    /// At the start of a line; so the message begins.
    #[default]
    LineEnd,
    /// Inside a line.
    Text,
    /// Behind a CR.
    Cr,
}

/// Stuffs dots and ends the data. One per message.
///
/// What it is given has been read strictly and holds no bare CR or LF. Should that ever fail, each becomes a CRLF here, so that no octets can
/// end the data early at a receiver that reads more loosely than we do.
#[derive(Debug, Default)]
pub struct DotWriter {
    written: Written,
}

impl DotWriter {
    /// Appends the next octets of the message to `out`, a dot before each line that begins with one.
    pub fn write(&mut self, input: &[u8], out: &mut Vec<u8>) {
        let mut rest = input;
        while let Some((&first, behind_first)) = rest.split_first() {
            match (self.written, first) {
                (Written::Cr, b'\n') => {
                    out.push(b'\n');
                    self.written = Written::LineEnd;
                    rest = behind_first;
                    continue;
                }
                (Written::Cr, _) => {
                    out.push(b'\n');
                    self.written = Written::LineEnd;
                    continue;
                }
                (Written::LineEnd, b'.') => out.push(b'.'),
                (Written::LineEnd | Written::Text, _) => {}
            }
            rest = self.write_line(rest, out);
        }
    }

    /// Ends the data: CRLF only when the last line lacks it (RFC 5321 §4.1.1.4: an extra one would be part of the message), then `.CRLF`.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        match std::mem::take(&mut self.written) {
            Written::LineEnd => {}
            Written::Text => out.extend_from_slice(b"\r\n"),
            Written::Cr => out.extend_from_slice(b"\n"),
        }
        out.extend_from_slice(b".\r\n");
    }

    /// Writes up to the end of the line, its CR included, or all there is.
    fn write_line<'a>(&mut self, octets: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        let Some(end) = memchr2(b'\r', b'\n', octets) else {
            out.extend_from_slice(octets);
            self.written = Written::Text;
            return &[];
        };
        let (line, rest) = octets.split_at_checked(end).unwrap_or((octets, &[]));
        out.extend_from_slice(line);
        out.push(b'\r');
        self.written = Written::Cr;
        // A bare LF is left in place: it is now behind its CR.
        if rest.first() == Some(&b'\r') { rest.get(1..).unwrap_or_default() } else { rest }
    }
}

#[cfg(test)]
mod tests;
