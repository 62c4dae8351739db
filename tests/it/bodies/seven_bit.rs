//! A message with octets over 127 made into one without: the same however it comes, nothing to do a second time, and no boundary where none was.

use sealpost::upstream::seven_bit::{Encoder, NotEncodable, Survey};

use super::wire::with_whole_ends;
use super::{Lie, Told, pieces, require, same};

/// Characters of an encoded line without its end (RFC 2045 §6.7, §6.8).
const ENCODED_LINE: usize = 76;

/// [`Survey`] and [`Encoder`], see above. Of the octets a message is made as intake lets it through: lines end in CRLF, and there is no NUL.
pub(super) fn seven_bit(octets: &[u8], seed: u64, lie: Lie) -> Told {
    let clean: Vec<u8> = octets.iter().copied().filter(|octet| !matches!(octet, b'\r' | 0)).collect();
    let message = with_whole_ends(&clean);
    let encoded = encode(&[&message]);
    same("in pieces", &encode(&pieces(&message, seed).collect::<Vec<_>>()), &encoded)?;
    let Ok((is_needed, mut out)) = encoded else { return Ok(()) };
    match lie {
        Lie::SevenBitMakesBoundaries => out = String::from_utf8_lossy(&out).replace("=2D-", "--").into_bytes(),
        Lie::SevenBitLeavesSome => out = String::from_utf8_lossy(&out).replace("\r\n\r\n", "\r\n\r\n\u{e4}").into(),
        _ => {}
    }
    require("an octet over 127 is left", out.is_ascii())?;
    if !is_needed {
        return require("octets over 127 need no encoding", message.is_ascii());
    }
    same("a second time", &encode(&[&out]), &Ok((false, out.clone())))?;
    let before: Vec<&[u8]> = lines(&message).collect();
    let begun_so = |octets: &[u8]| lines(octets).filter(|line| line.starts_with(b"--")).count();
    require("a line that looks like a boundary, and was none", begun_so(&out) <= begun_so(&message))?;
    for line in lines(&out).filter(|line| !before.contains(line)) {
        // A header's own lines are as long as they were.
        require(
            "a line that is too long",
            line.len() <= ENCODED_LINE || line.contains(&b':') || line.starts_with(b" "),
        )?;
    }
    Ok(())
}

fn encode(all: &[&[u8]]) -> Result<(bool, Vec<u8>), NotEncodable> {
    let mut survey = Survey::default();
    for piece in all {
        survey.push(piece)?;
    }
    let plan = survey.finish()?;
    let (is_needed, mut encoder, mut out) = (plan.is_needed(), Encoder::new(plan), Vec::new());
    for piece in all {
        encoder.push(piece, &mut out)?;
    }
    encoder.finish(&mut out)?;
    Ok((is_needed, out))
}

fn lines(octets: &[u8]) -> impl Iterator<Item = &[u8]> {
    octets.split(|&octet| octet == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}
