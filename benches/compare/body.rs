//! The body of a message of the load, made from its run and number alone: the load sends it, the sink makes it again and compares every octet.
//!
//! It begins with a marker line (`load RUN NUMBER LINES`), since a relay adds lines to the header and none to the body. Then come so many lines of
//! one length, each with a word that depends on message and line, so that no other message's line, and no other line of the same, can stand in its place.

/// Octets of a line on the wire, its end among them.
pub const LINE: usize = 72;
/// As much of a body as is searched for the marker's end, octets.
const MARKER_MAX: usize = 200;
const FILLER: &[u8; LINE] = b"01................2345678901234567890123456789012345678901234567890123\r\n";
const HEX: &[u8; 16] = b"0123456789abcdef";

/// The first line of a body of so many lines.
pub fn marker(run: &str, number: u64, lines: u64) -> String {
    format!("load {run} {number} {lines}\r\n")
}

/// One line as it goes on the wire. One in a hundred begins with a dot, which is doubled (RFC 5321 §4.5.2).
pub fn line(number: u64, line: u64) -> [u8; LINE] {
    let mut octets = *FILLER;
    if line % 100 == 99 {
        octets[..2].copy_from_slice(b"..");
    }
    let mut word = mixed(number.rotate_left(32) ^ line);
    for octet in &mut octets[2..18] {
        *octet = HEX[(word & 15) as usize];
        word >>= 4;
    }
    octets
}

/// Each bit of the input changes half of the output: the finishing step of a common generator (splitmix64).
fn mixed(mut word: u64) -> u64 {
    word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// Compares a body with what it must be, as it comes.
#[derive(Default)]
pub struct Reader {
    first: Vec<u8>,
    marker: Option<Marker>,
    /// Octets behind the marker that have come.
    at: u64,
    current: Option<[u8; LINE]>,
    wrong: bool,
}

struct Marker {
    run: String,
    number: u64,
    lines: u64,
}

impl Reader {
    /// The next octets, as they came on the wire.
    pub fn feed(&mut self, octets: &[u8]) {
        let mut rest = octets;
        if self.marker.is_none() && !self.wrong {
            let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
            self.first.extend_from_slice(&rest[..end]);
            rest = &rest[end..];
            if self.first.ends_with(b"\n") {
                self.marker = Marker::read(&self.first);
                self.wrong = self.marker.is_none();
            }
            self.wrong |= self.first.len() > MARKER_MAX;
        }
        let Some(marker) = &self.marker else { return };
        while !rest.is_empty() && !self.wrong {
            let (number, within) = (self.at / LINE as u64, (self.at % LINE as u64) as usize);
            if number >= marker.lines {
                self.wrong = true;
                return;
            }
            let due = match self.current {
                Some(due) if within > 0 => due,
                _ => *self.current.insert(line(marker.number, number)),
            };
            let count = rest.len().min(LINE - within);
            self.wrong |= rest[..count] != due[within..within + count];
            self.at += count as u64;
            rest = &rest[count..];
        }
    }

    /// Whether all of the body of this message has come, and nothing else.
    pub fn is_whole(&self, run: &str, number: u64) -> bool {
        !self.wrong
            && self.marker.as_ref().is_some_and(|marker| {
                marker.run == run && marker.number == number && self.at == marker.lines * LINE as u64
            })
    }
}

impl Marker {
    fn read(line: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(line).ok()?.strip_suffix("\r\n")?.split(' ');
        let (load, run, number, lines) = (words.next()?, words.next()?, words.next()?, words.next()?);
        (load == "load" && words.next().is_none()).then_some(())?;
        Some(Self { run: run.to_owned(), number: number.parse().ok()?, lines: lines.parse().ok()? })
    }
}
