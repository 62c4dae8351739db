//! A message on its way out: looked at, encoded where it must be, framed by dots or by its count.
//!
//! Never: holds more of it than a piece; sends more or fewer octets than were counted; adds anything to a message that is sent by its count.

use super::body::{BodyFault, MessageBody};
use super::dialog::{Characters, Contents, Form, Framing, Look};
use super::part_headers::PartHeaders;
use super::seven_bit::{Encoder, NotEncodable, Plan, Survey};
use crate::smtp::DotWriter;

/// Octets of a message looked at to find the end of its header section.
const HEADER_LOOK_MAX: u64 = 4 * 1024 * 1024;

/// What is not written yet, and how more becomes it.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    /// Gathered to be written.
    pub(super) octets: Vec<u8>,
    encoder: Option<Encoder>,
    frame: Frame,
}

#[derive(Debug)]
enum Frame {
    Dots(DotWriter),
    /// So many octets are still to come.
    Count(u64),
}

impl Default for Frame {
    fn default() -> Self {
        Self::Dots(DotWriter::default())
    }
}

impl Outgoing {
    /// A message that begins behind the octets `ahead`.
    pub(super) fn new(ahead: &[u8], form: Form, framing: Framing, plan: &Plan) -> Self {
        let encoder = match form {
            Form::AsItIs => None,
            Form::SevenBit => Some(Encoder::new(plan.clone())),
        };
        let frame = match framing {
            Framing::Dots => Frame::default(),
            Framing::Count(octets) => Frame::Count(octets),
        };
        Self { octets: ahead.to_vec(), encoder, frame }
    }

    /// The message's next octets.
    pub(super) fn add(&mut self, part: &[u8]) -> Result<(), BodyFault> {
        match &mut self.encoder {
            None => self.frame.write(part, &mut self.octets),
            Some(encoder) => {
                let mut encoded = Vec::new();
                encoder.push(part, &mut encoded).map_err(changed)?;
                self.frame.write(&encoded, &mut self.octets)
            }
        }
    }

    /// The message is at its end: what is gathered now ends it.
    pub(super) fn end(&mut self) -> Result<(), BodyFault> {
        if let Some(encoder) = self.encoder.take() {
            let mut encoded = Vec::new();
            encoder.finish(&mut encoded).map_err(changed)?;
            self.frame.write(&encoded, &mut self.octets)?;
        }
        match &mut self.frame {
            Frame::Dots(dots) => dots.finish(&mut self.octets),
            Frame::Count(0) => {}
            Frame::Count(_) => return Err(BodyFault::Unreadable("it is shorter than it was counted".to_owned())),
        }
        Ok(())
    }
}

impl Frame {
    fn write(&mut self, octets: &[u8], out: &mut Vec<u8>) -> Result<(), BodyFault> {
        match self {
            Self::Dots(dots) => dots.write(octets, out),
            Self::Count(left) => {
                // One octet too many would be read as a command (RFC 3030 §2).
                *left = u64::try_from(octets.len())
                    .ok()
                    .and_then(|count| left.checked_sub(count))
                    .ok_or_else(|| BodyFault::Unreadable("it is longer than it was counted".to_owned()))?;
                out.extend_from_slice(octets);
            }
        }
        Ok(())
    }
}

/// What was surveyed was another message than what came now.
fn changed(why: NotEncodable) -> BodyFault {
    BodyFault::Unreadable(format!("it is not what it was when it was looked at: {why}"))
}

/// Of what the message is made, and the plan for encoding it.
pub(super) async fn look(look: Look, body: &mut impl MessageBody) -> Result<(Contents, Plan), BodyFault> {
    let (mut seen, mut parts) = (Seen::default(), PartHeaders::default());
    let mut survey = (look == Look::Encoding).then(|| Ok(Survey::default()));
    body.rewind().await?;
    while let Some(piece) = body.next().await? {
        seen.add(&piece);
        parts.push(&piece);
        let is_known = seen.header == Characters::Beyond || (seen.is_past_header() && parts.is_done());
        if look == Look::Headers && is_known {
            break;
        }
        if let Some(Ok(reading)) = &mut survey
            && let Err(why) = reading.push(&piece)
        {
            survey = Some(Err(why));
        }
    }
    let parts = if parts.is_beyond_ascii() { Characters::Beyond } else { Characters::Ascii };
    let mut contents = Contents { header: seen.header, parts, body: seen.body, encoded: None };
    let Some(survey) = survey.filter(|_| seen.body == Characters::Beyond) else {
        return Ok((contents, Plan::default()));
    };
    match survey.and_then(Survey::finish) {
        Ok(plan) => {
            contents.encoded = Some(encoded_length(&plan, body).await?);
            Ok((contents, plan))
        }
        Err(why) => {
            contents.encoded = Some(Err(why));
            Ok((contents, Plan::default()))
        }
    }
}

/// How long the message becomes; each octet is looked at once more.
async fn encoded_length(plan: &Plan, body: &mut impl MessageBody) -> Result<Result<u64, NotEncodable>, BodyFault> {
    let (mut encoder, mut length, mut out) = (Encoder::new(plan.clone()), 0_u64, Vec::new());
    body.rewind().await?;
    while let Some(piece) = body.next().await? {
        if let Err(why) = encoder.push(&piece, &mut out) {
            return Ok(Err(why));
        }
        if !out.is_ascii() {
            return Ok(Err(NotEncodable("octets over 127 are left")));
        }
        length = length.saturating_add(u64::try_from(out.len()).unwrap_or(u64::MAX));
        out.clear();
    }
    if let Err(why) = encoder.finish(&mut out) {
        return Ok(Err(why));
    }
    if !out.is_ascii() {
        return Ok(Err(NotEncodable("octets over 127 are left")));
    }
    Ok(Ok(length.saturating_add(u64::try_from(out.len()).unwrap_or(u64::MAX))))
}

/// What has been seen of a message.
#[derive(Debug, Default)]
struct Seen {
    header: Characters,
    body: Characters,
    /// How much of the empty line that ends the header section has come.
    matched: usize,
    looked_at: u64,
}

impl Seen {
    const END: &[u8; 4] = b"\r\n\r\n";

    fn is_past_header(&self) -> bool {
        self.matched == Self::END.len() || self.looked_at >= HEADER_LOOK_MAX
    }

    fn add(&mut self, piece: &[u8]) {
        let mut rest = piece;
        while self.matched < Self::END.len() {
            let Some((&octet, after)) = rest.split_first() else { return };
            (rest, self.looked_at) = (after, self.looked_at.saturating_add(1));
            if octet > 127 {
                self.header = Characters::Beyond;
            }
            self.matched = match Self::END.get(self.matched) {
                Some(&wanted) if wanted == octet => self.matched.saturating_add(1),
                _ => usize::from(octet == b'\r'),
            };
        }
        if !rest.is_ascii() {
            self.body = Characters::Beyond;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::InMemory;

    #[tokio::test]
    async fn header_and_body_are_told_apart() {
        use Characters::{Ascii, Beyond};
        let part = "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Description: \u{e4}\r\n\r\nx";
        for (message, header, body) in [
            (part, Ascii, Beyond),
            ("Subject: x\r\n\r\nx", Ascii, Ascii),
            ("Subject: \u{e4}\r\n\r\nx", Beyond, Ascii),
            ("Subject: x\r\n\r\n\u{e4}", Ascii, Beyond),
            ("Subject: x\r\n\r\r\n\r\n\u{e4}", Ascii, Beyond),
            ("Subject: \u{e4}", Beyond, Ascii),
            ("", Ascii, Ascii),
        ] {
            let (contents, _) = look(Look::Whole, &mut InMemory::new(message)).await.unwrap();
            assert_eq!((contents.header, contents.body), (header, body), "{message:?}");
            assert_eq!(contents.parts == Beyond, message == part, "{message:?}");
            let (contents, _) = look(Look::Headers, &mut InMemory::new(message)).await.unwrap();
            assert_eq!((contents.header, contents.parts == Beyond), (header, message == part), "{message:?}");
        }
    }

    #[tokio::test]
    async fn the_length_is_told_of_what_will_be_sent() {
        let message = "MIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\n\u{e4}\r\n";
        let (contents, plan) = look(Look::Encoding, &mut InMemory::new(message)).await.unwrap();
        let Some(Ok(octets)) = contents.encoded else { panic!("{contents:?}") };
        let mut outgoing = Outgoing::new(b"BDAT\r\n", Form::SevenBit, Framing::Count(octets), &plan);
        outgoing.add(message.as_bytes()).unwrap();
        outgoing.end().unwrap();
        assert!(outgoing.octets.ends_with(b"Content-Transfer-Encoding: quoted-printable\r\n\r\n=C3=A4\r\n"));
    }

    #[test]
    fn a_count_is_kept_to_the_octet() {
        for (octets, right) in [(4, false), (5, true), (6, false)] {
            let mut outgoing = Outgoing::new(b"", Form::AsItIs, Framing::Count(octets), &Plan::default());
            let came = outgoing.add(b".\r\n").and_then(|()| outgoing.add(b".x")).and_then(|()| outgoing.end());
            assert_eq!(came.is_ok(), right, "{octets}");
            if right {
                assert_eq!(outgoing.octets, b".\r\n.x");
            }
        }
    }
}
