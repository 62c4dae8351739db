//! Replies of upstreams: what is taken for one has one code, ends where it ends, holds no control, is within its limits; and is written and read again.

use sealpost::smtp::line::{BUFFER_MAX, COMMAND_LINE_MAX};
use sealpost::smtp::reply::ReplyLimits;
use sealpost::smtp::{LineReader, Reply, ReplyReader};

use super::{Broken, Lie, Told, pieces, require, same};

/// Such as any reply soon exceeds.
const NARROW: ReplyLimits = ReplyLimits { line: 60, lines: 3, octets: 120 };

/// [`ReplyReader`] with the limits that are in force, and with narrow ones.
pub(super) fn reply(octets: &[u8], seed: u64, lie: Lie) -> Told {
    let mut readings = [ReplyLimits::default(), NARROW].map(|limits| Reading::new(limits, lie));
    let mut lines = LineReader::new();
    for piece in pieces(octets, seed) {
        lines.push(piece);
        while let Some(line) = lines.next_line(BUFFER_MAX) {
            let Ok(line) = line else { continue };
            for reading in &mut readings {
                reading.line(line)?;
            }
        }
    }
    Ok(())
}

struct Reading {
    limits: ReplyLimits,
    reader: ReplyReader,
    lie: Lie,
    /// The lines since the last reply or fault.
    lines: Vec<Vec<u8>>,
}

impl Reading {
    fn new(limits: ReplyLimits, lie: Lie) -> Self {
        let boundless = ReplyLimits { line: usize::MAX, lines: usize::MAX, octets: usize::MAX };
        let kept = if lie == Lie::ReplyHasNoLimits { boundless } else { limits };
        Self { limits, reader: ReplyReader::with_limits(kept), lie, lines: Vec::new() }
    }

    fn line(&mut self, line: &[u8]) -> Told {
        self.lines.push(line.to_vec());
        let read = self.reader.line(&self.lied_about(line));
        let goes_on = read == Ok(None);
        same("whether a reply goes on", &self.reader.is_inside(), &goes_on)?;
        if goes_on {
            return Ok(());
        }
        let lines = std::mem::take(&mut self.lines);
        if let Ok(Some(reply)) = read {
            within(&reply, &lines, self.limits)?;
            read_again(&reply)?;
        }
        Ok(())
    }

    fn lied_about(&self, line: &[u8]) -> Vec<u8> {
        let first = self.lines.first().map_or(line, Vec::as_slice);
        match self.lie {
            Lie::ReplyChangesCode if line.len() >= 3 && first.len() >= 3 => [&first[..3], &line[3..]].concat(),
            Lie::ReplyTakesTabs if line.get(3) == Some(&b'\t') => [&line[..3], b" ", &line[4..]].concat(),
            _ => line.to_vec(),
        }
    }
}

/// Whether a reply is what its lines say, and no more than allowed (RFC 5321 §4.2.1).
fn within(reply: &Reply, lines: &[Vec<u8>], limits: ReplyLimits) -> Told {
    let code = reply.code().to_string();
    require("lines of another code", lines.iter().all(|line| line.starts_with(code.as_bytes())))?;
    let (last, before) = lines.split_last().ok_or_else(|| Broken("a reply without lines".to_owned()))?;
    require("a reply that ends early", before.iter().all(|line| line.get(3) == Some(&b'-')))?;
    require("a reply that has no end", matches!(last.get(3), None | Some(b' ')))?;
    same("lines", &reply.lines().len(), &lines.len())?;
    let octets: usize = lines.iter().map(|line| line.len() + 2).sum();
    let longest = lines.iter().map(|line| line.len() + 2).max().unwrap_or_default();
    let fits = lines.len() <= limits.lines && octets <= limits.octets && longest <= limits.line;
    require("a reply over its limits", fits)?;
    require("a control in a reply", !reply.lines().iter().any(|line| line.chars().any(char::is_control)))?;
    let class = reply.status().map_or(reply.code().number() / 100, |status| u16::from(status.class()));
    same("class", &class, &(reply.code().number() / 100))
}

fn read_again(reply: &Reply) -> Told {
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
