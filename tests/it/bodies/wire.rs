//! The codec of `smtp`: lines, data, chunks, what goes out, offers, encodings.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sealpost::smtp::command::{AuthAnswer, AuthOctets, xtext};
use sealpost::smtp::data::{BareLf, Chunk, DotProgress, DotReader, DotState, DotWriter, OctetFault, OctetReader};
use sealpost::smtp::line::{BUFFER_MAX, COMMAND_LINE_MAX, Head, LineFault, LineReader};
use sealpost::smtp::{Code, Offered, Reply};

use super::{Broken, Lie, Told, pieces, require, same};

type Lines = Vec<Result<Vec<u8>, LineFault>>;

/// [`LineReader`]: any cut gives the same lines and faults, in bounded memory, and says beforehand whether there is a line.
pub(super) fn lines(octets: &[u8], seed: u64, lie: Lie) -> Told {
    let limit = if seed & 1 == 0 { COMMAND_LINE_MAX } else { 8 };
    let mut reader = LineSubject { reader: LineReader::new(), lie, ends: WholeEnds::default() };
    let mut read = Lines::new();
    for piece in pieces(octets, seed) {
        reader.push(piece);
        loop {
            let announced = reader.reader.has_line();
            let Some(line) = reader.next_line(limit) else {
                require("a line was announced that is not there", !announced)?;
                break;
            };
            read.push(line.map(<[u8]>::to_vec));
            require("a line was not announced", announced)?;
        }
        let LineSubject { reader, .. } = &reader;
        require("the buffer grows", reader.room() > 0 && reader.buffered().len() <= limit.min(BUFFER_MAX))?;
    }
    same("lines", &read, &plain_lines(octets, limit))
}

struct LineSubject {
    reader: LineReader,
    lie: Lie,
    ends: WholeEnds,
}

impl LineSubject {
    fn push(&mut self, piece: &[u8]) {
        match self.lie {
            Lie::LineEndsAtLf => self.reader.push(&self.ends.made_of(piece)),
            Lie::LineLosesCr => self.reader.push(piece.strip_suffix(b"\r").unwrap_or(piece)),
            _ => self.reader.push(piece),
        }
    }

    fn next_line(&mut self, limit: usize) -> Option<Result<&[u8], LineFault>> {
        self.reader.next_line(if self.lie == Lie::LineHasNoLimit { BUFFER_MAX } else { limit })
    }
}

/// Makes CRLF of each LF, over pieces.
#[derive(Default)]
pub(super) struct WholeEnds {
    behind_cr: bool,
}

impl WholeEnds {
    pub(super) fn made_of(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut whole = Vec::new();
        for &octet in piece {
            if octet == b'\n' && !self.behind_cr {
                whole.push(b'\r');
            }
            self.behind_cr = octet == b'\r';
            whole.push(octet);
        }
        whole
    }
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
                    let head = Head::of(whole.get(..limit.saturating_sub(1)).unwrap_or(&whole));
                    lines.push(if fits { Ok(whole) } else { Err(LineFault::TooLong(head)) });
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
pub(super) struct Reading {
    pub(super) message: Vec<u8>,
    pub(super) consumed: usize,
    pub(super) end: Option<Result<(), OctetFault>>,
    longest: usize,
}

/// [`DotReader`]: any cut gives the same message, the same end at the same octet, the same fault; and so does throwing it away. So it is where a
/// bare LF is read as CRLF, too, and then the message holds none.
pub(super) fn data(octets: &[u8], seed: u64, lie: Lie) -> Told {
    data_with(BareLf::Refused, octets, seed, lie)?;
    data_with(BareLf::Normalized, octets, seed, lie)
}

struct DotSubject {
    reader: DotReader,
    lie: Lie,
    bare_lf: BareLf,
    ends: WholeEnds,
}

impl DotSubject {
    fn read(&mut self, piece: &[u8], out: &mut Vec<u8>) -> DotProgress {
        match self.lie {
            Lie::DataEndsAtLf => self.reader.read(&self.ends.made_of(piece), out),
            Lie::DataLosesItsPlace => {
                self.reader = DotReader::new(self.bare_lf);
                self.reader.read(piece, out)
            }
            Lie::DataKeepsDots => {
                let begun = out.len();
                let progress = self.reader.read(piece, out);
                if piece.starts_with(b"..") {
                    out.insert(begun, b'.');
                }
                progress
            }
            _ => self.reader.read(piece, out),
        }
    }
}

fn data_with(bare_lf: BareLf, octets: &[u8], seed: u64, lie: Lie) -> Told {
    let expected = plain_data(octets, bare_lf);
    let mut reader = DotSubject { reader: DotReader::new(bare_lf), lie, bare_lf, ends: WholeEnds::default() };
    let mut thrower = DotReader::new(bare_lf);
    let (mut read, mut discarded) = (Reading::default(), 0);
    for piece in pieces(octets, seed) {
        let progress = reader.read(piece, &mut read.message);
        same("thrown away", &thrower.discard(piece), &progress)?;
        read.consumed += progress.consumed;
        discarded += progress.consumed;
        read.end = ended(progress.state);
        require("octets were left though more are wanted", read.end.is_some() || progress.consumed == piece.len())?;
    }
    read.longest = reader.reader.longest_line();
    same("consumed", &discarded, &expected.consumed)?;
    let fault = first_fault(&read.message, BareLf::Refused).map(|(_, fault)| fault);
    // What was read up to a fault may end within a line, never with half of a line's end.
    same("fault in what was read", &fault, &None)?;
    same("data", &read, &expected)
}

fn ended(state: DotState) -> Option<Result<(), OctetFault>> {
    match state {
        DotState::More => None,
        DotState::End => Some(Ok(())),
        DotState::Fault(fault) => Some(Err(fault)),
    }
}

/// The fault of a line that something else than its end or the end of the input stops.
fn fault_at(stop: &[u8], bare_lf: BareLf) -> Option<OctetFault> {
    match stop {
        [] | [b'\r'] | [b'\r', b'\n', ..] => None,
        [b'\n', ..] if bare_lf == BareLf::Normalized => None,
        [b'\r', ..] => Some(OctetFault::BareCr),
        [b'\n', ..] => Some(OctetFault::BareLf),
        _ => Some(OctetFault::Nul),
    }
}

/// Line by line, with all there is at hand.
pub(super) fn plain_data(octets: &[u8], bare_lf: BareLf) -> Reading {
    let mut reading = Reading::default();
    let mut rest = octets;
    let mut behind_lf = false;
    while !rest.is_empty() && reading.end.is_none() {
        let stop = rest.iter().position(|octet| matches!(octet, b'\r' | b'\n' | 0)).unwrap_or(rest.len());
        let (line, behind) = rest.split_at_checked(stop).unwrap_or((rest, &[]));
        let text = line.strip_prefix(b".").unwrap_or(line);
        let by_lf = behind.first() == Some(&b'\n') && fault_at(behind, bare_lf).is_none();
        let whole = by_lf || behind.starts_with(b"\r\n");
        let taken = match fault_at(behind, bare_lf) {
            Some(_) => 1,
            None => behind.len().min(if by_lf { 1 } else { 2 }),
        };
        reading.consumed = reading.consumed.saturating_add(stop).saturating_add(taken);
        reading.message.extend_from_slice(text);
        reading.longest = reading.longest.max(text.len());
        reading.end = fault_at(behind, bare_lf).map(Err);
        if whole && line == b"." && !behind_lf && !by_lf {
            reading.end = Some(Ok(()));
        } else if whole {
            if line == b"." {
                reading.message.push(b'.');
            }
            behind_lf = by_lf;
            reading.message.extend_from_slice(b"\r\n");
        }
        rest = behind.get(taken..).unwrap_or_default();
    }
    reading
}

/// [`OctetReader`]: however the octets are cut into chunks and the chunks into pieces, the message is the octets, or the fault is the first one.
/// Where a bare LF is read as CRLF, the message is the octets with that done.
pub(super) fn chunks(octets: &[u8], seed: u64, lie: Lie) -> Told {
    chunks_with(BareLf::Refused, octets, seed, lie)?;
    chunks_with(BareLf::Normalized, octets, seed, lie)
}

fn chunks_with(bare_lf: BareLf, octets: &[u8], seed: u64, lie: Lie) -> Told {
    let mut reader = OctetReader::new(bare_lf);
    let mut message = Vec::new();
    let mut found = None;
    for chunk in pieces(octets, seed).map(Some).chain([None]) {
        let (chunk, place) = chunk.map_or((&[][..], Chunk::Last), |chunk| (chunk, Chunk::Middle));
        if lie == Lie::ChunksForgetCr {
            reader = OctetReader::new(bare_lf);
        }
        reader.begin(u64::try_from(chunk.len()).unwrap_or(u64::MAX), place);
        found = read_chunk(&mut reader, chunk, seed.rotate_left(7), lie, &mut message)?;
        if found.is_some() {
            break;
        }
    }
    let stop = first_fault(octets, bare_lf);
    same("fault of chunks", &found, &stop.map(|(_, fault)| fault))?;
    let clean = stop.map_or(octets.len(), |(at, _)| at);
    same("message of chunks", &message, &with_whole_ends(octets.get(..clean).unwrap_or_default()))
}

/// Each LF behind its CR.
pub(super) fn with_whole_ends(octets: &[u8]) -> Vec<u8> {
    let mut whole: Vec<u8> = Vec::new();
    for &octet in octets {
        if octet == b'\n' && whole.last() != Some(&b'\r') {
            whole.push(b'\r');
        }
        whole.push(octet);
    }
    whole
}

fn read_chunk(
    reader: &mut OctetReader,
    chunk: &[u8],
    seed: u64,
    lie: Lie,
    message: &mut Vec<u8>,
) -> Result<Option<OctetFault>, Broken> {
    let mut state = DotState::More;
    for piece in pieces(chunk, seed).chain(chunk.is_empty().then_some(&[][..])) {
        let without_nul = |octet: &u8| if *octet == 0 { b' ' } else { *octet };
        let shown: Vec<u8> = match lie {
            Lie::ChunksPassNul => piece.iter().map(without_nul).collect(),
            _ => piece.to_vec(),
        };
        let progress = reader.read(&shown, message);
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

/// No bare CR, no bare LF, no NUL.
pub(super) fn is_clean(octets: &[u8]) -> bool {
    first_fault(octets, BareLf::Refused).is_none()
}

/// Where the first bad octet of a message is; a CR at its very end is one.
pub(super) fn first_fault(octets: &[u8], bare_lf: BareLf) -> Option<(usize, OctetFault)> {
    let mut before = None;
    for (at, &octet) in octets.iter().enumerate() {
        match (before, octet) {
            (Some(b'\r'), b'\n') => {}
            (Some(b'\r'), _) => return Some((at - 1, OctetFault::BareCr)),
            (_, b'\n') if bare_lf == BareLf::Normalized => {}
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
pub(super) fn written(octets: &[u8], seed: u64, lie: Lie) -> Told {
    let mut wire = Vec::new();
    let mut writer = DotWriter::default();
    match lie {
        Lie::WriterStuffsNothing => wire = [&with_crlf(octets), &b".\r\n"[..]].concat(),
        Lie::WriterPassesBareLf => wire = [octets, &b"\r\n.\r\n"[..]].concat(),
        _ => {
            pieces(octets, seed).for_each(|piece| writer.write(piece, &mut wire));
            writer.finish(&mut wire);
        }
    }
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

/// [`Offered`]: whatever stands in an EHLO reply, what was understood is written and read again as itself.
pub(super) fn offer(octets: &[u8], _seed: u64, lie: Lie) -> Told {
    let text = String::from_utf8_lossy(octets);
    let said = std::iter::once("relay.example").chain(text.lines()).map(str::to_owned);
    let ok = Code::new(250).unwrap();
    let offered = Offered::from_ehlo(&Reply::multiline(ok, None, said));
    let told = offered.ehlo_lines().into_iter().filter(|line| lie != Lie::OfferForgetsLimits || !line.contains(' '));
    let lines = std::iter::once("relay.example".to_owned()).chain(told);
    same("offer", &Offered::from_ehlo(&Reply::multiline(ok, None, lines)), &offered)
}

/// xtext, base64: what was put in comes out; what is taken for xtext stands for octets that can be put in again.
pub(super) fn encoded(octets: &[u8], _seed: u64, lie: Lie) -> Told {
    let encode = |octets: &[u8]| match lie {
        Lie::XtextLeavesPlus => xtext::encode(octets).replace("+2B", "+"),
        _ => xtext::encode(octets),
    };
    same("xtext", &xtext::decode(&encode(octets)).as_deref(), &Some(octets))?;
    let answer = AuthAnswer::Response(AuthOctets::new(octets.to_vec()));
    same("base64", &AuthAnswer::parse(STANDARD.encode(octets).as_bytes()), &Ok(answer))?;
    let Ok(text) = std::str::from_utf8(octets) else { return Ok(()) };
    let Some(decoded) = xtext::decode(text) else { return Ok(()) };
    same("xtext again", &xtext::decode(&xtext::encode(&decoded)), &Some(decoded))
}
