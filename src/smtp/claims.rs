//! What must hold for any octets whatever: the bodies of the property tests, of the runs over `fixtures/`, and of the fuzz targets.
//!
//! Each claim takes octets that anybody may have sent, and a seed by which the stream is cut into pieces; it compares the codec with a
//! plain reading of the whole input, or reads back what was written. Never: panics itself; a claim that does not hold is [`Broken`].

use std::fmt::Debug;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::command::{AuthAnswer, AuthOctets, Command, xtext};
use super::data::{Chunk, DotReader, DotState, DotWriter, OctetFault, OctetReader};
use super::extension::{Extension, HoldLimits, Offered};
use super::line::{BUFFER_MAX, COMMAND_LINE_MAX, LineFault, LineReader};
use super::reply::{Code, Reply, ReplyReader};
use crate::sys::{Entropy, SeededEntropy, WallTime};

/// The longest piece that a stream is cut into, octets.
const PIECE_MAX: u64 = 40;

/// What does not hold, and what was seen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Broken(String);

/// A claim: octets and the seed of the cuts.
pub type Claim = fn(&[u8], u64) -> Result<(), Broken>;

/// Every claim with its name.
pub const ALL: [(&str, Claim); 8] = [
    ("lines are the same however they come", lines),
    ("data is the same however it comes", data),
    ("chunks are the same however they come", chunks),
    ("what the writer ends, the reader ends there", written),
    ("a command is read, or refused in printable words", command),
    ("a reply that was read is written and read again", reply),
    ("an offer that was read is written and read again", offer),
    ("xtext and base64 give back what was put in", encoded),
];

/// Everything that sealpost knows of, offered.
pub fn everything_offered() -> Offered {
    Extension::ALL
        .into_iter()
        .fold(Offered::default(), Offered::with)
        .with_size(10_000_000)
        .with_auth(["EXTERNAL", "PLAIN"])
        .with_deliver_by(Some(1))
        .with_future_release(HoldLimits { interval_max: u32::MAX, latest: WallTime::from_seconds(6_000_000_000) })
}

fn same<T: PartialEq + Debug>(what: &str, got: &T, expected: &T) -> Result<(), Broken> {
    if got == expected { Ok(()) } else { Err(Broken(format!("{what}: {got:?} instead of {expected:?}"))) }
}

fn require(what: &str, holds: bool) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(Broken(what.to_owned())) }
}

/// The octets in pieces of 1 to [`PIECE_MAX`], by the seed.
fn pieces(octets: &[u8], seed: u64) -> impl Iterator<Item = &[u8]> {
    let cuts = SeededEntropy::new(seed);
    let mut rest = octets;
    std::iter::from_fn(move || {
        let length = usize::try_from(cuts.next_u64() % PIECE_MAX).unwrap_or_default().saturating_add(1);
        let (piece, behind) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        rest = behind;
        (!piece.is_empty()).then_some(piece)
    })
}

type Lines = Vec<Result<Vec<u8>, LineFault>>;

/// [`LineReader`]: any cut gives the same lines and faults, in bounded memory, and says beforehand whether there is a line.
pub fn lines(octets: &[u8], seed: u64) -> Result<(), Broken> {
    let limit = if seed & 1 == 0 { COMMAND_LINE_MAX } else { 8 };
    let mut reader = LineReader::new();
    let mut read = Lines::new();
    for piece in pieces(octets, seed) {
        reader.push(piece);
        loop {
            let announced = reader.has_line();
            let Some(line) = reader.next_line(limit) else {
                require("a line was announced that is not there", !announced)?;
                break;
            };
            read.push(line.map(<[u8]>::to_vec));
            require("a line was not announced", announced)?;
        }
        require("the buffer grows", reader.room() > 0 && reader.buffered().len() <= limit.min(BUFFER_MAX))?;
    }
    same("lines", &read, &plain_lines(octets, limit))
}

/// A CRLF ends a line. The first bad octet of a line is its fault, else its length may be.
fn plain_lines(octets: &[u8], limit: usize) -> Lines {
    let (mut lines, mut line, mut reported) = (Lines::new(), Vec::new(), false);
    let mut rest = octets.iter().copied().peekable();
    while let Some(octet) = rest.next() {
        let fault = match (octet, rest.peek()) {
            (b'\r', None) => break,
            (b'\r', Some(b'\n')) => {
                rest.next();
                let whole = std::mem::take(&mut line);
                if !std::mem::take(&mut reported) {
                    let fits = whole.len().saturating_add(2) <= limit;
                    lines.push(if fits { Ok(whole) } else { Err(LineFault::TooLong) });
                }
                continue;
            }
            (b'\r', Some(_)) => LineFault::BareCr,
            (b'\n', _) => LineFault::BareLf,
            (0, _) => LineFault::Nul,
            _ => {
                line.push(octet);
                continue;
            }
        };
        if !std::mem::replace(&mut reported, true) {
            lines.push(Err(fault));
        }
    }
    lines
}

/// What a reader of data made of a stream.
#[derive(Debug, Default, PartialEq, Eq)]
struct Reading {
    message: Vec<u8>,
    consumed: usize,
    end: Option<Result<(), OctetFault>>,
    longest: usize,
}

/// [`DotReader`]: any cut gives the same message, the same end at the same octet, the same fault; and so does throwing it away.
pub fn data(octets: &[u8], seed: u64) -> Result<(), Broken> {
    let expected = plain_data(octets);
    let (mut reader, mut thrower) = (DotReader::default(), DotReader::default());
    let (mut read, mut discarded) = (Reading::default(), 0);
    for piece in pieces(octets, seed) {
        let progress = reader.read(piece, &mut read.message);
        same("thrown away", &thrower.discard(piece), &progress)?;
        read.consumed = read.consumed.saturating_add(progress.consumed);
        discarded += progress.consumed;
        read.end = ended(progress.state);
        require("octets were left though more are wanted", read.end.is_some() || progress.consumed == piece.len())?;
    }
    read.longest = reader.longest_line();
    same("consumed", &discarded, &expected.consumed)?;
    same("data", &read, &expected)
}

fn ended(state: DotState) -> Option<Result<(), OctetFault>> {
    match state {
        DotState::More => None,
        DotState::End => Some(Ok(())),
        DotState::Fault(fault) => Some(Err(fault)),
    }
}

/// The fault of a line that something else than CRLF or the end of the input stops.
fn fault_at(stop: &[u8]) -> Option<OctetFault> {
    match stop {
        [] | [b'\r'] | [b'\r', b'\n', ..] => None,
        [b'\r', ..] => Some(OctetFault::BareCr),
        [b'\n', ..] => Some(OctetFault::BareLf),
        _ => Some(OctetFault::Nul),
    }
}

/// Line by line, with all there is at hand.
fn plain_data(octets: &[u8]) -> Reading {
    let mut reading = Reading::default();
    let mut rest = octets;
    while !rest.is_empty() && reading.end.is_none() {
        let stop = rest.iter().position(|octet| matches!(octet, b'\r' | b'\n' | 0)).unwrap_or(rest.len());
        let (line, behind) = rest.split_at_checked(stop).unwrap_or((rest, &[]));
        let text = line.strip_prefix(b".").unwrap_or(line);
        let whole = behind.starts_with(b"\r\n");
        let taken = match fault_at(behind) {
            Some(_) => 1,
            None => behind.len().min(2),
        };
        reading.consumed = reading.consumed.saturating_add(stop).saturating_add(taken);
        reading.message.extend_from_slice(text);
        reading.longest = reading.longest.max(text.len());
        reading.end = fault_at(behind).map(Err);
        if whole && line == b"." {
            reading.end = Some(Ok(()));
        } else if whole {
            reading.message.extend_from_slice(b"\r\n");
        }
        rest = behind.get(taken..).unwrap_or_default();
    }
    reading
}

/// [`OctetReader`]: however the octets are cut into chunks and the chunks into pieces, the message is the octets, or the fault is the first one.
pub fn chunks(octets: &[u8], seed: u64) -> Result<(), Broken> {
    let mut reader = OctetReader::default();
    let mut message = Vec::new();
    let mut found = None;
    for chunk in pieces(octets, seed).map(Some).chain([None]) {
        let (chunk, place) = chunk.map_or((&[][..], Chunk::Last), |chunk| (chunk, Chunk::Middle));
        reader.begin(u64::try_from(chunk.len()).unwrap_or(u64::MAX), place);
        found = read_chunk(&mut reader, chunk, seed.rotate_left(7), &mut message)?;
        if found.is_some() {
            break;
        }
    }
    let stop = first_fault(octets);
    same("fault of chunks", &found, &stop.map(|(_, fault)| fault))?;
    let clean = stop.map_or(octets.len(), |(at, _)| at);
    same("message of chunks", &message.as_slice(), &octets.get(..clean).unwrap_or_default())
}

fn read_chunk(
    reader: &mut OctetReader,
    chunk: &[u8],
    seed: u64,
    message: &mut Vec<u8>,
) -> Result<Option<OctetFault>, Broken> {
    let mut state = DotState::More;
    for piece in pieces(chunk, seed).chain(chunk.is_empty().then_some(&[][..])) {
        let progress = reader.read(piece, message);
        state = progress.state;
        if let DotState::Fault(fault) = state {
            // What lies behind the fault is still framed by the count.
            let rest = piece.get(progress.consumed..).unwrap_or_default();
            reader.discard(rest);
            return Ok(Some(fault));
        }
        same("octets taken of a chunk", &progress.consumed, &piece.len())?;
    }
    same("state at the end of a chunk", &state, &DotState::End)?;
    same("what remains of a chunk", &reader.remaining(), &0)?;
    Ok(None)
}

/// Where the first bad octet of a message is; a CR at its very end is one.
fn first_fault(octets: &[u8]) -> Option<(usize, OctetFault)> {
    let mut before = None;
    for (at, &octet) in octets.iter().enumerate() {
        match (before, octet) {
            (Some(b'\r'), b'\n') => {}
            (Some(b'\r'), _) => return Some((at.saturating_sub(1), OctetFault::BareCr)),
            (_, b'\n') => return Some((at, OctetFault::BareLf)),
            (_, 0) => return Some((at, OctetFault::Nul)),
            _ => {}
        }
        before = Some(octet);
    }
    (before == Some(b'\r')).then_some((octets.len().saturating_sub(1), OctetFault::BareCr))
}

/// [`DotWriter`]: whatever it is given, in whatever pieces, a reader finds the end where the writer put it, and the message with each line
/// ended by CRLF.
pub fn written(octets: &[u8], seed: u64) -> Result<(), Broken> {
    let mut wire = Vec::new();
    let mut writer = DotWriter::default();
    pieces(octets, seed).for_each(|piece| writer.write(piece, &mut wire));
    writer.finish(&mut wire);
    let mut message = Vec::new();
    let progress = DotReader::default().read(&wire, &mut message);
    if octets.contains(&0) {
        // No message that was kept holds one; all that matters is that it never passes for an end.
        return same("end behind NUL", &progress.state, &DotState::Fault(OctetFault::Nul));
    }
    same("end of what was written", &(progress.state, progress.consumed), &(DotState::End, wire.len()))?;
    same("message written", &message, &with_crlf(octets))
}

/// Each line ended by CRLF, the last one too.
fn with_crlf(octets: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    let mut before = b'\n';
    for &octet in octets {
        match octet {
            b'\r' => message.extend_from_slice(b"\r\n"),
            b'\n' if before == b'\r' => {}
            b'\n' => message.extend_from_slice(b"\r\n"),
            _ => message.push(octet),
        }
        before = octet;
    }
    if !message.is_empty() && !message.ends_with(b"\r\n") {
        message.extend_from_slice(b"\r\n");
    }
    message
}

/// [`Command`]: any line is read or refused; a refusal is printable ASCII; a path that was read is read again; a name is harmless in a field.
pub fn command(octets: &[u8], seed: u64) -> Result<(), Broken> {
    let offered = if seed & 1 == 0 { everything_offered() } else { Offered::default() };
    let now = WallTime::from_seconds(1_800_000_000);
    match Command::parse(octets, &offered, now) {
        Err(fault) => require("a fault in words that can't be said", is_sayable(&fault.to_string())),
        Ok(Command::Ehlo(name) | Command::Helo(name)) => {
            let is_plain = |octet: u8| octet.is_ascii_graphic() && !b"()<>@,;\\\"".contains(&octet);
            require("a name that breaks a field", !name.as_str().is_empty() && name.as_str().bytes().all(is_plain))
        }
        Ok(Command::Mail { reverse_path, .. }) => {
            let again = Command::parse(format!("MAIL FROM:<{}>", reverse_path.as_str()).as_bytes(), &offered, now);
            let is_same = matches!(again, Ok(Command::Mail { reverse_path: path, .. }) if path == reverse_path);
            require("a reverse path that is not read again", is_same)
        }
        Ok(Command::Rcpt { forward_path, .. }) => {
            let again = Command::parse(format!("rcpt to: <{}> ", forward_path.as_str()).as_bytes(), &offered, now);
            let is_same = matches!(again, Ok(Command::Rcpt { forward_path: path, .. }) if path == forward_path);
            require("a forward path that is not read again", is_same)
        }
        Ok(_) => Ok(()),
    }
}

fn is_sayable(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|octet| (b' '..=b'~').contains(&octet))
}

/// [`ReplyReader`]: any lines are replies or faults; a reply holds no control, and is written and read again as itself where no line had to be cut.
pub fn reply(octets: &[u8], seed: u64) -> Result<(), Broken> {
    let mut reader = ReplyReader::default();
    let mut lines = LineReader::new();
    for piece in pieces(octets, seed) {
        lines.push(piece);
        while let Some(line) = lines.next_line(BUFFER_MAX) {
            if let Ok(Ok(Some(reply))) = line.map(|line| reader.line(line)) {
                read_again(&reply)?;
            }
        }
    }
    Ok(())
}

fn read_again(reply: &Reply) -> Result<(), Broken> {
    let mut wire = Vec::new();
    reply.write_to(&mut wire);
    let mut lines = LineReader::new();
    lines.push(&wire);
    let mut reader = ReplyReader::default();
    let mut again = None;
    while let Some(line) = lines.next_line(COMMAND_LINE_MAX) {
        let line = line.map_err(|fault| Broken(format!("a reply written with {fault}")))?;
        require("a reply that ends early", again.is_none())?;
        again = reader.line(line).map_err(|fault| Broken(fault.to_string()))?;
    }
    let fits = reply.lines().iter().all(|line| line.len() <= COMMAND_LINE_MAX - "250 5.999.999 \r\n".len());
    if fits { same("reply", &again.as_ref(), &Some(reply)) } else { require("a cut reply is none", again.is_some()) }
}

/// [`Offered`]: whatever stands in an EHLO reply, what was understood is written and read again as itself.
pub fn offer(octets: &[u8], _seed: u64) -> Result<(), Broken> {
    let text = String::from_utf8_lossy(octets);
    let said = std::iter::once("relay.example").chain(text.lines()).map(str::to_owned);
    let offered = Offered::from_ehlo(&Reply::multiline(Code::known(250), None, said));
    let lines = std::iter::once("relay.example".to_owned()).chain(offered.ehlo_lines());
    same("offer", &Offered::from_ehlo(&Reply::multiline(Code::known(250), None, lines)), &offered)
}

/// xtext, base64: what was put in comes out; what is taken for xtext stands for octets that can be put in again.
pub fn encoded(octets: &[u8], _seed: u64) -> Result<(), Broken> {
    same("xtext", &xtext::decode(&xtext::encode(octets)).as_deref(), &Some(octets))?;
    let answer = AuthAnswer::Response(AuthOctets::new(octets.to_vec()));
    same("base64", &AuthAnswer::parse(STANDARD.encode(octets).as_bytes()), &Ok(answer))?;
    let Ok(text) = std::str::from_utf8(octets) else { return Ok(()) };
    let Some(decoded) = xtext::decode(text) else { return Ok(()) };
    same("xtext again", &xtext::decode(&xtext::encode(&decoded)), &Some(decoded))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Octets in which CR, LF, dots and NUL meet often.
    fn wire_octets() -> impl Strategy<Value = Vec<u8>> {
        let token = prop_oneof![
            6 => Just(b"\r\n".to_vec()),
            4 => Just(b".".to_vec()),
            3 => vec(b'a'..=b'z', 1..12),
            1 => vec(b'a'..=b'z', 480..540),
            1 => Just(b"\r".to_vec()),
            1 => Just(b"\n".to_vec()),
            1 => Just(b"\r\n.\r\n".to_vec()),
            1 => any::<u8>().prop_map(|octet| vec![octet]),
        ];
        vec(token, 0..40).prop_map(|tokens| tokens.concat())
    }

    /// As above, without a fault: only whole CRLFs.
    fn honest_octets() -> impl Strategy<Value = Vec<u8>> {
        let token =
            prop_oneof![Just(b"\r\n".to_vec()), Just(b".".to_vec()), vec(1..=9_u8, 1..5), vec(b' '..=b'~', 1..90)];
        vec(token, 0..60).prop_map(|tokens| tokens.concat())
    }

    /// Words of commands and replies in any order.
    fn words() -> impl Strategy<Value = Vec<u8>> {
        let word = prop::sample::select(vec![
            "MAIL FROM:",
            "RCPT TO:",
            "EHLO ",
            "AUTH ",
            "PLAIN",
            " ",
            "<",
            ">",
            "<a@example.com>",
            "<>",
            "<postmaster>",
            "@",
            "@a,@b:",
            "\"",
            "\\",
            "\"a>b\"@example.com",
            "SIZE=",
            "BODY=8BITMIME",
            "=",
            "AUTH=<>",
            "RET=FULL",
            "ENVID=a+2B",
            "NOTIFY=",
            "NEVER",
            "SUCCESS,DELAY",
            "ORCPT=rfc822;",
            "BY=1;R",
            "HOLDFOR=9",
            "MT-PRIORITY=-9",
            "HOLDUNTIL=2026-11-24T01:48:00Z",
            "SMTPUTF8",
            "BDAT ",
            "20",
            "99999999999999999999",
            " LAST",
            "250",
            "-",
            "2.1.0",
            "5.1.1 ",
            "550",
            "\r\n",
            "SIZE 10",
            "auth=login plain",
            "LIMITS RCPTMAX=9",
            "DELIVERBY 7",
            "\n",
            "\u{e9}",
            "\u{ffff}",
            "é@exämple.com",
        ]);
        vec(word, 0..14).prop_map(|words| words.concat().into_bytes())
    }

    fn all_hold(octets: &[u8], seed: u64) -> Result<(), TestCaseError> {
        for (name, claim) in ALL {
            claim(octets, seed).map_err(|broken| TestCaseError::fail(format!("{name}: {broken}")))?;
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1500))]

        #[test]
        fn all_claims_hold_for_octets_of_the_wire(octets in wire_octets(), seed: u64) {
            all_hold(&octets, seed)?;
        }

        #[test]
        fn all_claims_hold_for_honest_octets(octets in honest_octets(), seed: u64) {
            all_hold(&octets, seed)?;
        }

        #[test]
        fn all_claims_hold_for_words_in_any_order(octets in words(), seed: u64) {
            all_hold(&octets, seed)?;
        }

        #[test]
        fn all_claims_hold_for_any_octets(octets in vec(any::<u8>(), 0..300), seed: u64) {
            all_hold(&octets, seed)?;
        }
    }

    #[test]
    fn every_cut_in_two_gives_the_same_data() {
        let stream = b"..a\r\nb\r\n.\r\nQUIT\r\n";
        for cut in 0..stream.len() {
            let mut reader = DotReader::default();
            let mut message = Vec::new();
            let first = reader.read(&stream[..cut], &mut message);
            let second = reader.read(&stream[first.consumed..], &mut message);
            assert_eq!(second.state, DotState::End, "cut at {cut}");
            assert_eq!(
                (message.as_slice(), first.consumed + second.consumed),
                (&b".a\r\nb\r\n"[..], 11),
                "cut at {cut}"
            );
        }
    }
}
