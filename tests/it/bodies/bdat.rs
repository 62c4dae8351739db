//! BDAT as it comes over the wire: commands, and behind each as many octets as it says.

use sealpost::smtp::data::{BareLf, Chunk, DotState, OctetFault, OctetReader};
use sealpost::smtp::line::COMMAND_LINE_MAX;
use sealpost::smtp::{Command, CommandFault, LineFault, LineReader, Offered};
use sealpost::sys::WallTime;

use super::wire::first_fault;
use super::{Broken, Lie, Told, pieces, require, same};

/// What came of a wire of BDAT commands.
#[derive(Debug, PartialEq, Eq)]
enum Chunked {
    /// A message was whole.
    Message(Vec<u8>),
    /// This octet was found, so much of the message before it; the rest of its chunk was thrown away.
    Fault(OctetFault),
    /// A line after which nobody knows where the next begins.
    Lost,
}

/// [`OctetReader`] behind [`Command::Bdat`]: however it comes, the messages are what the counts
/// frame; the octets of a chunk are never a command, nor a command part of a chunk.
pub(super) fn bdat(octets: &[u8], seed: u64, lie: Lie) -> Told {
    let mut conversation = Conversation { lie, ..Conversation::default() };
    for piece in pieces(octets, seed) {
        conversation.lines.push(piece);
        while conversation.turn()? {}
    }
    same("chunks of the wire", &conversation.came, &plainly_chunked(octets))
}

#[derive(Default)]
struct Conversation {
    lines: LineReader,
    /// While a chunk is read: what takes it, and whether it is the last.
    chunk: Option<(Taking, bool)>,
    reader: OctetReader,
    message: Vec<u8>,
    came: Vec<Chunked>,
    lie: Lie,
    over: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Taking {
    Reads,
    ThrowsAway,
}

impl Conversation {
    /// One line, or one piece of a chunk; false when more must come.
    fn turn(&mut self) -> Result<bool, Broken> {
        if self.over {
            return Ok(false);
        }
        let Some((taking, last)) = self.chunk else { return Ok(self.command()) };
        let buffered = self.lines.buffered();
        let available = buffered.len();
        let wanted = usize::try_from(self.reader.remaining()).unwrap_or(usize::MAX);
        let progress = match taking {
            Taking::Reads => self.reader.read(buffered, &mut self.message),
            Taking::ThrowsAway => self.reader.discard(buffered),
        };
        require("more than the chunk was taken", progress.consumed <= wanted)?;
        self.lines.consume(progress.consumed);
        match progress.state {
            DotState::More => require("octets were left", progress.consumed == available)?,
            DotState::Fault(fault) => {
                self.came.push(Chunked::Fault(fault));
                self.chunk = Some((Taking::ThrowsAway, last));
                return Ok(true);
            }
            DotState::End if taking == Taking::ThrowsAway => {
                self.over = true;
                return Ok(false);
            }
            DotState::End => {
                require("a chunk ended early", self.reader.remaining() == 0)?;
                self.chunk = None;
                if last {
                    self.came.push(Chunked::Message(std::mem::take(&mut self.message)));
                    self.reader = OctetReader::default();
                }
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn command(&mut self) -> bool {
        let Some(line) = self.lines.next_line(COMMAND_LINE_MAX) else { return false };
        match line.map(|line| Command::parse(line, &Offered::default(), WallTime::from_seconds(0))) {
            Ok(Ok(Command::Bdat { count, last })) => {
                let more = u64::from(self.lie == Lie::BdatTakesOneMore);
                if self.lie == Lie::ChunksForgetCr {
                    self.reader = OctetReader::default();
                }
                self.reader.begin(count.saturating_add(more), if last { Chunk::Last } else { Chunk::Middle });
                self.chunk = Some((Taking::Reads, last));
            }
            Ok(Err(CommandFault::Bdat)) | Err(LineFault::BareCr | LineFault::BareLf | LineFault::Nul) => {
                self.came.push(Chunked::Lost);
                self.over = true;
            }
            Ok(_) | Err(LineFault::TooLong(_)) => {}
        }
        true
    }
}

/// The same with all there is at hand.
fn plainly_chunked(octets: &[u8]) -> Vec<Chunked> {
    let (mut came, mut message, mut rest) = (Vec::new(), Vec::new(), octets);
    while let Some(stop) = rest.iter().position(|octet| matches!(octet, b'\r' | b'\n' | 0)) {
        let (line, end) = rest.split_at(stop);
        if end == b"\r" {
            break;
        }
        let Some(behind) = end.strip_prefix(b"\r\n") else {
            came.push(Chunked::Lost);
            break;
        };
        rest = behind;
        if line.len() + 2 > COMMAND_LINE_MAX {
            continue;
        }
        let (count, last) = match Command::parse(line, &Offered::default(), WallTime::from_seconds(0)) {
            Ok(Command::Bdat { count, last }) => (usize::try_from(count).unwrap_or(usize::MAX), last),
            Err(CommandFault::Bdat) => {
                came.push(Chunked::Lost);
                break;
            }
            Ok(_) | Err(_) => continue,
        };
        let (chunk, behind) = rest.split_at_checked(count).unwrap_or((rest, &[]));
        let whole = chunk.len() == count;
        message.extend_from_slice(chunk);
        rest = behind;
        match first_fault(&message, BareLf::Refused) {
            // A CR at the very end waits for what comes next, if anything may.
            Some((at, OctetFault::BareCr)) if at + 1 == message.len() && !(whole && last) => {}
            Some((_, fault)) => {
                came.push(Chunked::Fault(fault));
                break;
            }
            None => {}
        }
        if !whole {
            break;
        }
        if last {
            came.push(Chunked::Message(std::mem::take(&mut message)));
        }
    }
    came
}
