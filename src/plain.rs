//! Texts and figures for people, without what could steer a terminal: senders, upstreams and clients chose some of what is shown.
//!
//! Never: changes what steers nothing; changes again what it gave.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::Serialize;

use crate::sys::WallTime;

/// A text without what could steer a terminal, and so in one line.
pub fn clean(text: &str) -> Cow<'_, str> {
    // Nearly all are such texts, and a listing has millions.
    if all(text, is_plain) || !text.contains(steers) {
        return text.into();
    }
    let mut clean = String::with_capacity(text.len());
    for letter in text.chars() {
        if steers(letter) { clean.extend(letter.escape_default()) } else { clean.push(letter) }
    }
    clean.into()
}

/// The same of lines: they stay lines.
pub fn clean_lines(text: &str) -> Cow<'_, str> {
    if all(text, |octet| is_plain(octet) | (octet == b'\n')) {
        return text.into();
    }
    text.split('\n').map(clean).collect::<Vec<_>>().join("\n").into()
}

/// Something as JSON in one line, without what could steer a terminal: read again, it is the same. serde_json itself escapes only what stands below U+0020.
///
/// # Errors
/// It can't be JSON.
pub fn json(value: &impl Serialize) -> serde_json::Result<String> {
    serde_json::to_string(value).map(clean_json)
}

/// JSON without what could steer a terminal.
fn clean_json(json: String) -> String {
    if !json.contains(steers) {
        return json;
    }
    let mut clean = String::with_capacity(json.len());
    for letter in json.chars() {
        // Such letters stand within strings only, and all are of one UTF-16 unit.
        if steers(letter) { clean.push_str(&format!("\\u{:04x}", u32::from(letter))) } else { clean.push(letter) }
    }
    clean
}

/// Whether all octets are such. Piece by piece, and within one without a way out: so many are looked at together.
fn all(text: &str, is_such: impl Fn(u8) -> bool) -> bool {
    text.as_bytes().chunks(64).all(|piece| piece.iter().fold(true, |all, &octet| all & is_such(octet)))
}

const fn is_plain(octet: u8) -> bool {
    matches!(octet, b' '..=b'~')
}

/// Whether a letter does something to a terminal, or to the order in which it shows the letters around it.
fn steers(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Octets for people: three figures are enough.
pub fn size(octets: u64) -> String {
    let mut text = String::new();
    push_size(&mut text, octets);
    text
}

/// The same behind a text.
pub fn push_size(text: &mut String, octets: u64) {
    let mut whole = octets;
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    let mut tenth = 0;
    for next in units {
        if whole < 1024 {
            break;
        }
        tenth = whole % 1024 * 10 / 1024;
        whole /= 1024;
        unit = next;
    }
    if unit == "B" || whole >= 100 { write!(text, "{whole} {unit}") } else { write!(text, "{whole}.{tenth} {unit}") }
        .ok();
}

/// How long ago a moment was, in one unit.
pub fn age(then: WallTime, now: WallTime) -> String {
    let mut text = String::new();
    push_age(&mut text, then, now);
    text
}

/// The same behind a text.
pub fn push_age(text: &mut String, then: WallTime, now: WallTime) {
    let seconds = u64::try_from(now.seconds().saturating_sub(then.seconds())).unwrap_or(0);
    let units = [(86_400 * 2, 86_400, 'd'), (3_600, 3_600, 'h'), (60, 60, 'm')];
    let unit = units.into_iter().find(|(from, _, _)| seconds >= *from);
    let (whole, name) = unit.map_or((1, 's'), |(_, whole, name)| (whole, name));
    write!(text, "{}{name}", seconds / whole).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_steer_a_terminal_is_escaped_once() {
        for (text, shown) in [
            ("plain – größer", "plain – größer"),
            ("\u{1b}[2Jgone", "\\u{1b}[2Jgone"),
            ("a\r\nb", "a\\r\\nb"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("\u{202e}drow", "\\u{202e}drow"),
        ] {
            assert_eq!(clean(text), shown);
            assert_eq!(clean(shown), shown);
            assert_eq!(clean_lines(shown), shown);
        }
    }

    #[test]
    fn lines_stay_lines_and_nothing_in_them_steers_a_terminal() {
        let long = "a line\n".repeat(200);
        for (text, shown) in [
            ("one\ntwo\n", "one\ntwo\n"),
            ("größer\n\u{1b}[2J\r\n\n", "größer\n\\u{1b}[2J\\r\n\n"),
            ("\t", "\\t"),
            ("", ""),
            (&long, &long),
            (&(long.clone() + "\u{7}\n"), &(long.clone() + "\\u{7}\n")),
        ] {
            assert_eq!(clean_lines(text), shown);
        }
    }

    #[test]
    fn what_could_steer_a_terminal_is_escaped_in_json_and_read_as_it_was() {
        let value = serde_json::json!({ "headers": "Subject: \u{9b}31m \u{7f} größer \u{1b}[2J\t\n \u{202e}drow \\" });
        let json = json(&value).unwrap();
        assert!(!json.contains(steers), "{json}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), value);
    }

    #[test]
    fn ages_have_one_unit() {
        let now = WallTime::from_seconds(1_000_000);
        for (seconds, shown) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (3_599, "59m"),
            (3_600, "1h"),
            (172_799, "47h"),
            (172_800, "2d"),
            (-5, "0s"),
        ] {
            assert_eq!(age(WallTime::from_seconds(1_000_000 - seconds), now), shown, "{seconds}");
        }
    }

    #[test]
    fn sizes_have_three_figures() {
        for (octets, shown) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (104_857_600, "100 MiB")] {
            assert_eq!(size(octets), shown);
        }
    }
}
