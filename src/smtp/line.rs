//! The strict line codec: octets in, lines out (RFC 5321 §2.3.8: only CRLF ends a line).
//!
//! One buffer per connection, of [`BUFFER_MAX`] octets. A bare CR, a bare LF or a NUL makes the line faulty as soon as the octet is there; what
//! follows up to the line's CRLF is thrown away, so nothing behind a disputed end is ever read as a command. A line over its limit
//! is thrown away as it comes and reported at its CRLF. The lines and faults are the same however the stream was cut into pieces.
//! Never: guesses where a line was meant to end, reads a socket. What can fail: [`LineFault`].

use memchr::memchr3;

/// What the buffer holds at most, octets. No line can be longer, whatever limit is asked for.
pub const BUFFER_MAX: usize = 16 * 1024;

/// What every command line may have with its CRLF, octets (RFC 5321 §4.5.3.1.4). Extensions add to it:
/// [`super::extension::Offered::command_line_limit`].
pub const COMMAND_LINE_MAX: usize = 512;

/// What a line of an AUTH exchange may have with its CRLF, octets (RFC 4954 §4).
pub const AUTH_LINE_MAX: usize = 12_288;

/// As much of a line that is too long as is kept, octets.
const HEAD_LENGTH: usize = 16;

/// A buffer that is larger goes once all of it is used: a large message fills it, and who waits for the rest of it holds nothing. Most messages stay below.
const KEPT_CAPACITY: usize = 8 * 1024;

/// CR and LF, which count against a line's limit.
const CRLF_LENGTH: usize = 2;

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineFault {
    /// CR not followed by LF.
    #[error("a CR that no LF follows")]
    BareCr,
    /// LF not preceded by CR.
    #[error("a LF that no CR precedes")]
    BareLf,
    /// NUL.
    #[error("a NUL")]
    Nul,
    /// Longer than the limit. The line has been skipped to its CRLF; how it began is kept.
    #[error("a line longer than allowed")]
    TooLong(Head),
}

/// How a line begins: as much of it as tells what its writer took it for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head([u8; HEAD_LENGTH]);

impl Head {
    /// Of this line, from its first octet on that shows; NUL stands behind a shorter one.
    pub fn of(line: &[u8]) -> Self {
        let mut head = [0; HEAD_LENGTH];
        for (place, octet) in head.iter_mut().zip(line.iter().skip_while(|octet| !octet.is_ascii_graphic())) {
            *place = *octet;
        }
        Self(head)
    }

    /// The octets.
    pub const fn octets(&self) -> &[u8] {
        &self.0
    }
}

/// How the line at the front of the buffer fares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Front {
    /// It is whole so far.
    #[default]
    Sound,
    /// Its beginning is thrown away, but for this; that is said at its CRLF.
    TooLong(Head),
    /// Its fault has been reported; the rest of it is thrown away.
    Reported,
}

/// What stands at the next octet that is not plain text.
enum Mark {
    /// None there yet: so many octets of text.
    None(usize),
    /// CRLF behind so many octets of text.
    End(usize),
    /// A fault behind so many octets of text.
    Fault(usize, LineFault),
}

/// Collects octets as they come and gives out whole lines.
///
/// ```
/// use sealpost::smtp::{LineFault, LineReader};
/// let mut lines = LineReader::new();
/// lines.push(b"NOOP\r\nRSET\nQU");
/// assert_eq!(lines.next_line(512), Some(Ok(&b"NOOP"[..])));
/// assert_eq!(lines.next_line(512), Some(Err(LineFault::BareLf)));
/// assert_eq!(lines.next_line(512), None);
/// ```
#[derive(Debug, Default)]
pub struct LineReader {
    octets: Vec<u8>,
    /// Where the part that nobody has taken yet begins.
    start: usize,
    /// So many octets from `start` are known to be plain text.
    plain: usize,
    front: Front,
}

impl LineReader {
    /// With nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many octets it can still take. Read no more than that from the peer at a time; it is never 0 after `next_line` returned `None`.
    pub fn room(&self) -> usize {
        BUFFER_MAX.saturating_sub(self.buffered().len())
    }

    /// Takes octets in. More than [`Self::room`] are not lost, but the bound on memory is then the caller's.
    pub fn push(&mut self, octets: &[u8]) {
        self.octets.drain(..self.start.min(self.octets.len()));
        self.start = 0;
        self.octets.extend_from_slice(octets);
    }

    /// The next line without its CRLF, or what is wrong with it; `None` when more octets are needed. `limit` counts octets with the CRLF and
    /// is at most [`BUFFER_MAX`]. A bare octet is reported when seen, once a line; a line over the limit at its CRLF.
    pub fn next_line(&mut self, limit: usize) -> Option<Result<&[u8], LineFault>> {
        let longest = longest(limit);
        loop {
            match self.next_mark() {
                Mark::None(text) => {
                    self.wait_behind(text, longest);
                    return None;
                }
                Mark::Fault(text, fault) => {
                    self.pass(text.saturating_add(1));
                    if std::mem::replace(&mut self.front, Front::Reported) != Front::Reported {
                        return Some(Err(fault));
                    }
                }
                Mark::End(text) => {
                    let line = self.start..self.start.saturating_add(text);
                    self.pass(text.saturating_add(CRLF_LENGTH));
                    match std::mem::take(&mut self.front) {
                        Front::Reported => {}
                        Front::Sound if text <= longest => return self.octets.get(line).map(Ok),
                        Front::Sound => {
                            return self.octets.get(line).map(|line| Err(LineFault::TooLong(head_of(line, longest))));
                        }
                        Front::TooLong(head) => return Some(Err(LineFault::TooLong(head))),
                    }
                }
            }
        }
    }

    /// Whether the line that is next is over this limit, before its end or a fault: for who does not want to wait for its CRLF. Asked before each
    /// [`Self::next_line`], it is the same however the stream was cut into pieces.
    pub fn is_over(&self, limit: usize) -> bool {
        let (Mark::None(text) | Mark::End(text) | Mark::Fault(text, _)) = self.next_mark();
        match self.front {
            Front::Sound => text > longest(limit),
            Front::TooLong(_) => true,
            Front::Reported => false,
        }
    }

    /// The octets that are in no line yet: for reading data, and for seeing that nothing was sent ahead of STARTTLS's reply.
    /// Only whole after `next_line` gave a line.
    pub fn buffered(&self) -> &[u8] {
        self.octets.get(self.start..).unwrap_or_default()
    }

    /// Takes so many octets of [`Self::buffered`] out, as data or to be thrown away.
    pub fn consume(&mut self, count: usize) {
        self.pass(count);
        if self.start == self.octets.len() && self.octets.capacity() > KEPT_CAPACITY {
            self.octets = Vec::new();
            self.start = 0;
        }
    }

    fn pass(&mut self, count: usize) {
        self.start = self.start.saturating_add(count).min(self.octets.len());
        self.plain = 0;
    }

    /// Whether `next_line` has something to give without more octets: then the reply to the line before can wait, to go out with the next
    /// (RFC 2920 §3.2).
    pub fn has_line(&self) -> bool {
        let mut rest = self.buffered();
        let mut reported = self.front == Front::Reported;
        loop {
            match mark(rest, 0) {
                Mark::None(_) => return false,
                Mark::Fault(..) | Mark::End(_) if !reported => return true,
                Mark::Fault(text, _) => rest = rest.get(text.saturating_add(1)..).unwrap_or_default(),
                Mark::End(text) => {
                    reported = false;
                    rest = rest.get(text.saturating_add(CRLF_LENGTH)..).unwrap_or_default();
                }
            }
        }
    }

    fn next_mark(&self) -> Mark {
        mark(self.buffered(), self.plain)
    }

    /// No CRLF yet behind so much text: remember how far we looked, and hold no text that nobody will be given.
    fn wait_behind(&mut self, text: usize, longest: usize) {
        self.plain = text;
        if self.front == Front::Sound && text > longest {
            self.front = Front::TooLong(head_of(self.buffered(), longest));
        }
        if self.front != Front::Sound {
            self.pass(text);
        }
    }
}

/// Octets of text that a line with this limit has at most.
fn longest(limit: usize) -> usize {
    limit.min(BUFFER_MAX).saturating_sub(CRLF_LENGTH)
}

/// Of a line over the limit; what is behind the limit may not have come yet, and tells nothing.
fn head_of(line: &[u8], longest: usize) -> Head {
    Head::of(line.get(..=longest).unwrap_or(line))
}

/// Finds what ends the plain text; its first `plain` octets have been looked at before. A CR that is the last octet decides nothing yet.
fn mark(octets: &[u8], plain: usize) -> Mark {
    let Some(found) = octets.get(plain..).and_then(|unseen| memchr3(b'\r', b'\n', 0, unseen)) else {
        return Mark::None(octets.len());
    };
    let at = plain.saturating_add(found);
    match (octets.get(at), octets.get(at.saturating_add(1))) {
        (Some(b'\r'), None) => Mark::None(at),
        (Some(b'\r'), Some(b'\n')) => Mark::End(at),
        (Some(b'\r'), Some(_)) => Mark::Fault(at, LineFault::BareCr),
        (Some(b'\n'), _) => Mark::Fault(at, LineFault::BareLf),
        _ => Mark::Fault(at, LineFault::Nul),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Octets, and the lines and faults in them.
    type Case = (&'static [u8], &'static [Result<&'static str, LineFault>]);

    fn all_of(octets: &[u8], limit: usize) -> Vec<Result<String, LineFault>> {
        let mut reader = LineReader::new();
        reader.push(octets);
        let mut lines = Vec::new();
        while let Some(line) = reader.next_line(limit) {
            lines.push(line.map(|line| String::from_utf8_lossy(line).into_owned()));
        }
        lines
    }

    #[test]
    fn only_crlf_ends_a_line() {
        let table: [Case; 9] = [
            (b"NOOP\r\n", &[Ok("NOOP")]),
            (b"\r\n\r\n", &[Ok(""), Ok("")]),
            (b"NOOP\r\nQUIT\r\n", &[Ok("NOOP"), Ok("QUIT")]),
            (b"NOOP\nQUIT\r\n", &[Err(LineFault::BareLf)]),
            (b"NOOP\rQUIT\r\n", &[Err(LineFault::BareCr)]),
            (b"NOOP\r\r\nQUIT\r\n", &[Err(LineFault::BareCr), Ok("QUIT")]),
            (b"NO\0OP\r\nQUIT\r\n", &[Err(LineFault::Nul), Ok("QUIT")]),
            (b"\n\n\0\r", &[Err(LineFault::BareLf)]),
            (b"NOOP\r", &[]),
        ];
        for (octets, expected) in table {
            let expected: Vec<_> = expected.iter().map(|line| line.map(str::to_owned)).collect();
            assert_eq!(all_of(octets, COMMAND_LINE_MAX), expected, "{}", octets.escape_ascii());
        }
    }

    /// A thousand connections may wait in the middle of a message each: what they used of it must not stay with them.
    #[test]
    fn a_large_buffer_goes_when_all_of_it_is_used() {
        for (octets, kept) in
            [(BUFFER_MAX, false), (KEPT_CAPACITY + 1, false), (KEPT_CAPACITY, true), (COMMAND_LINE_MAX, true)]
        {
            let mut reader = LineReader::new();
            reader.push(&vec![b'x'; octets]);
            reader.consume(octets - 1);
            assert_eq!(reader.buffered(), b"x", "{octets}");
            reader.consume(1);
            assert_eq!((reader.buffered(), reader.octets.capacity() > 0), (&b""[..], kept), "{octets}");
            reader.push(b"QUIT\r\n");
            assert_eq!(reader.next_line(COMMAND_LINE_MAX), Some(Ok(&b"QUIT"[..])), "{octets}");
        }
    }

    #[test]
    fn a_bare_cr_at_the_end_of_the_buffer_waits_for_the_next_octet() {
        let mut reader = LineReader::new();
        reader.push(b"NOOP\r");
        assert_eq!(reader.next_line(512), None);
        reader.push(b"\n");
        assert_eq!(reader.next_line(512), Some(Ok(&b"NOOP"[..])));
        reader.push(b"NOOP\r");
        assert!(!reader.has_line());
        reader.push(b"x");
        assert!(reader.has_line());
        assert_eq!(reader.next_line(512), Some(Err(LineFault::BareCr)));
    }

    /// Whoever goes by `has_line` leaves no line unread, and waits for none that does not come: whatever octets there are, line by line.
    #[test]
    fn that_there_is_a_line_is_said_when_one_is_given() {
        const OCTETS: [u8; 4] = *b"a\r\n\0";
        for number in 0..4_usize.pow(6) {
            let octets: Vec<u8> = (0..6).map(|place| OCTETS[number / 4_usize.pow(place) % 4]).collect();
            let mut reader = LineReader::new();
            for piece in [&octets[..3], &octets[3..]] {
                reader.push(piece);
                loop {
                    let has_line = reader.has_line();
                    let is_given = reader.next_line(COMMAND_LINE_MAX).is_some();
                    assert_eq!(has_line, is_given, "{}", octets.escape_ascii());
                    if !is_given {
                        break;
                    }
                }
            }
        }
    }

    #[test]
    fn a_fault_is_reported_before_the_line_ends() {
        assert_eq!(all_of(b"EHLO a\n", 512), [Err(LineFault::BareLf)]);
    }

    #[test]
    fn the_limit_counts_the_crlf() {
        assert_eq!(all_of(b"12345678\r\n", 10), [Ok("12345678".to_owned())]);
        let fault = LineFault::TooLong(Head::of(b"123456789"));
        assert_eq!(all_of(b"123456789\r\nQUIT\r\n", 10), [Err(fault), Ok("QUIT".to_owned())]);
    }

    #[test]
    fn how_a_line_began_that_is_too_long_is_the_same_however_it_came() {
        let line = [b"POST /a/b/c/d/e/f/g HTTP/1.1 ".as_slice(), &[b'x'; 600], b"\r\n"].concat();
        for cut in [1, 3, 16, 300, 511, 512, line.len() - 1] {
            let mut reader = LineReader::new();
            let mut given = None;
            for piece in line.chunks(cut) {
                reader.push(piece);
                given = given.or(reader.next_line(COMMAND_LINE_MAX).map(|line| line.map(<[u8]>::len)));
            }
            assert_eq!(given, Some(Err(LineFault::TooLong(Head(*b"POST /a/b/c/d/e/")))), "{cut}");
        }
    }

    #[test]
    fn an_endless_line_is_thrown_away_as_it_comes() {
        let mut reader = LineReader::new();
        for _ in 0..1000 {
            reader.push(&[b'x'; 4096]);
            assert_eq!(reader.next_line(usize::MAX), None);
            assert!(reader.room() > 0);
            assert!(reader.octets.capacity() <= 4 * BUFFER_MAX, "capacity {}", reader.octets.capacity());
        }
        reader.push(b"\r\nQUIT\r\n");
        assert_eq!(reader.next_line(512), Some(Err(LineFault::TooLong(Head::of(&[b'x'; HEAD_LENGTH])))));
        assert_eq!(reader.next_line(512), Some(Ok(&b"QUIT"[..])));
    }

    #[test]
    fn there_is_always_room_for_the_line_that_is_waited_for() {
        let mut reader = LineReader::new();
        loop {
            assert_eq!(reader.next_line(AUTH_LINE_MAX), None);
            let room = reader.room();
            assert!(room > 0);
            reader.push(&vec![b'x'; room.min(3000)]);
            if reader.buffered().is_empty() || reader.is_over(AUTH_LINE_MAX) {
                break;
            }
        }
    }

    #[test]
    fn the_limit_may_change_from_line_to_line() {
        let mut reader = LineReader::new();
        reader.push(&[b"AUTH PLAIN\r\n".as_slice(), &[b'x'; 12_286], b"\r\n"].concat());
        assert_eq!(reader.next_line(512), Some(Ok(&b"AUTH PLAIN"[..])));
        assert_eq!(reader.next_line(AUTH_LINE_MAX).map(|line| line.map(<[u8]>::len)), Some(Ok(12_286)));
    }

    #[test]
    fn data_behind_a_line_is_read_out_of_line_mode() {
        let mut reader = LineReader::new();
        reader.push(b"BDAT 4\r\n\0\n\r\rNOOP\r\n");
        assert_eq!(reader.next_line(512), Some(Ok(&b"BDAT 4"[..])));
        assert_eq!(&reader.buffered()[..4], b"\0\n\r\r");
        reader.consume(4);
        assert_eq!(reader.next_line(512), Some(Ok(&b"NOOP"[..])));
        assert!(reader.buffered().is_empty());
    }
}
