//! The letters of a report: folding, wrapping, cutting, and the 7-bit forms of addresses.

use crate::smtp::Status;

/// Characters of a line of prose or of a folded field at most (RFC 5322 §2.1.1 says 78 with good will).
const LINE_MAX: usize = 76;

/// Octets of a line that any upstream must take, without CRLF (RFC 5322 §2.1.1).
const LINE_LIMIT: usize = 998;
/// Spaces in a row that a field keeps, besides one.
const GAP_MAX: usize = 64;

/// What a person can do, by enhanced status (RFC 3463); the first row that fits.
const ADVICE: [(Option<u16>, Option<u16>, &str); 12] = [
    (Some(1), Some(1), "Look for a typing mistake left of the @, or ask the recipient for the right address."),
    (Some(1), Some(2), "Look for a typing mistake right of the @: that domain takes no mail."),
    (Some(1), None, "Look at the address again; it is not one that the recipient's side knows or understands."),
    (Some(2), Some(2), "The recipient's mailbox is full. Tell them another way, and send it again later."),
    (Some(2), None, "The recipient's mailbox does not take mail now. Ask them another way."),
    (Some(3), Some(4), "The message is too large. Send less, or put the attachment where it can be fetched from."),
    (Some(4), Some(6), "The message goes in a circle. Show this to the people who run the mail systems."),
    (
        Some(6),
        Some(7),
        "The recipient's side can't handle addresses with these letters. Ask for an address in plain ASCII.",
    ),
    (
        Some(6),
        Some(9),
        "The recipient's side can't handle these letters in the header. Use plain ASCII in names and addresses.",
    ),
    (Some(6), None, "The recipient's side can't handle the form of this message. Send it in a simpler form."),
    (Some(7), None, "The recipient's side does not permit this message. Ask them, or those who run it, why."),
    (None, None, "What the other side said (above) is all that is known. Ask the recipient another way."),
];

pub(super) fn advice(status: Status) -> &'static str {
    let fits = |wanted: Option<u16>, is: u16| wanted.is_none_or(|wanted| wanted == is);
    let row =
        ADVICE.iter().find(|(subject, detail, _)| fits(*subject, status.subject()) && fits(*detail, status.detail()));
    row.map_or("", |(_, _, text)| text)
}

/// The status that a reason of ours begins with, and the rest.
pub(super) fn leading_status(reason: &str) -> Option<(Status, &str)> {
    let (word, rest) = reason.split_once(' ')?;
    Some((word.parse().ok()?, rest))
}

/// Text on one line: controls become spaces, at most `max` octets.
pub(super) fn one_line(text: &str, max: usize) -> String {
    let mut line = String::new();
    for letter in text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }) {
        if line.len() + letter.len_utf8() > max {
            line.push_str("...");
            break;
        }
        line.push(letter);
    }
    line.trim().to_owned()
}

/// Lines of at most [`LINE_MAX`] characters where there are spaces to break at; later lines are indented below the label.
pub(super) fn wrapped(text: &str, indent: &str) -> String {
    let hanging = if indent.is_empty() { "" } else { "           " };
    let mut lines = String::new();
    let mut line = indent.to_owned();
    let mut is_first_word = true;
    for word in text.split(' ') {
        if !is_first_word && line.chars().count() + 1 + word.chars().count() > LINE_MAX {
            lines.push_str(line.trim_end());
            lines.push('\n');
            line = hanging.to_owned();
        } else if !is_first_word {
            line.push(' ');
        }
        line.push_str(word);
        is_first_word = false;
    }
    lines.push_str(line.trim_end());
    lines.push('\n');
    lines
}

/// A field of RFC 3464 §2.1: ASCII, folded at spaces, no line over what any upstream takes. Spaces in a row stay as many, for they may be an address's.
pub(super) fn field(name: &str, value: &str) -> String {
    let mut folded = format!("{name}:");
    let mut length = folded.len();
    let mut gap = String::new();
    for word in one_line(value, LINE_LIMIT * 2).split(' ') {
        if word.is_empty() {
            gap.extend((gap.len() < GAP_MAX).then_some(' '));
        }
        let word: String = word.chars().map(|letter| if letter.is_ascii_graphic() { letter } else { '?' }).collect();
        for piece in pieces(&word) {
            if length + gap.len() + 1 + piece.len() > LINE_MAX && length > name.len() + 1 {
                folded.push_str("\r\n");
                length = 0;
            }
            let before = std::mem::take(&mut gap);
            length += before.len() + 1 + piece.len();
            folded.push_str(&before);
            folded.push(' ');
            folded.push_str(piece);
        }
    }
    folded.push_str("\r\n");
    folded
}

/// A word in pieces that fit a line; nearly always one.
fn pieces(word: &str) -> impl Iterator<Item = &str> {
    let mut rest = word;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (piece, left) = rest.split_at_checked(rest.len().min(LINE_LIMIT - 100))?;
        rest = left;
        Some(piece)
    })
}

/// Undoes xtext (RFC 3461 §4: `+` and two upper-case hexadecimal digits). What is not xtext, or decodes to anything but printable ASCII, can't
/// stand in a report's field.
pub(super) fn from_xtext(xtext: &str) -> Option<String> {
    let mut text = String::new();
    let mut octets = xtext.bytes();
    while let Some(octet) = octets.next() {
        let octet = if octet == b'+' {
            let digits = [octets.next()?, octets.next()?];
            u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
        } else {
            octet
        };
        if !(octet.is_ascii_graphic() || octet == b' ') {
            return None;
        }
        text.push(char::from(octet));
    }
    (!text.is_empty()).then_some(text)
}

/// RFC 6533 §3, `utf-8-addr-xtext`: an address in ASCII, other letters as `\x{HEX}`.
pub(super) fn utf8_as_ascii(address: &str) -> String {
    let mut text = String::new();
    for letter in address.chars() {
        if letter.is_ascii_graphic() && !matches!(letter, '\\' | '+' | '=') {
            text.push(letter);
        } else {
            text.push_str(&format!("\\x{{{:02X}}}", u32::from(letter)));
        }
    }
    text
}

/// Whether octets can go as 7-bit (RFC 2045 §2.7): ASCII without NUL, CRLF lines of at most 998.
pub(super) fn is_seven_bit(octets: &[u8]) -> bool {
    octets.iter().all(|&octet| octet.is_ascii() && octet != 0)
        && octets.split(|&octet| octet == b'\n').all(|line| line.len() <= LINE_LIMIT + 1)
}

/// The beginning of at most `max` octets that ends with a line.
pub(super) fn cut_at_line(octets: &[u8], max: usize) -> &[u8] {
    if octets.len() <= max {
        return octets;
    }
    let head = octets.get(..max).unwrap_or_default();
    let end = head.iter().rposition(|&octet| octet == b'\n').map_or(0, |at| at + 1);
    head.get(..end).unwrap_or_default()
}
