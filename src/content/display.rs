//! What a person sees in a display name: its encoded words decoded (RFC 2047), and the addresses that stand in it.
//!
//! `"ceo@example.com" <mallory@example.com>` shows the first to many people. Such an address is a fact here; whether it is granted is
//! judged by `policy::author`. Decoding is generous on purpose: what any reader might decode counts. Never: a reason to pass something.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use mail_parser::decoders::charsets::map::charset_decoder;
use unicode_normalization::UnicodeNormalization;

use crate::mail::Address;
use crate::mail::address::{is_atext, is_visible};

/// Takes base64 as carelessly as mail programs do.
const GENEROUS: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Decodes every encoded word, wherever it stands, and drops the white space between two of them (RFC 2047 §6.2).
pub(super) fn decode_words(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    let mut after_word = false;
    while let Some((before, begun)) = rest.split_once("=?") {
        let Some((word, behind)) = encoded_word(begun) else {
            shown.push_str(before);
            shown.push_str("=?");
            (rest, after_word) = (begun, false);
            continue;
        };
        if !(after_word && before.trim().is_empty()) {
            shown.push_str(before);
        }
        shown.push_str(&word);
        (rest, after_word) = (behind, true);
    }
    shown.push_str(rest);
    shown
}

/// `charset[*language]?B|Q?text?=`, decoded, and what is behind it.
fn encoded_word(begun: &str) -> Option<(String, &str)> {
    let (charset, rest) = begun.split_once('?')?;
    let (encoding, rest) = rest.split_once('?')?;
    let (text, behind) = rest.split_once("?=")?;
    let charset = charset.split_once('*').map_or(charset, |(name, _)| name);
    let octets = match encoding {
        "B" | "b" => decode_base64(text),
        "Q" | "q" => decode_quoted(text.as_bytes()),
        _ => return None,
    };
    let decoder = charset_decoder(charset.as_bytes());
    let shown = match decoder {
        Some(decode) => decode(&octets),
        None => String::from_utf8_lossy(&octets).into_owned(),
    };
    // UTF-16 without a mark may be of either order; a charset that is unknown, or does not fit, is guessed at by each reader differently.
    let utf16 = charset.eq_ignore_ascii_case("utf-16");
    let utf8 = ["utf-8", "utf8", "us-ascii"].iter().any(|name| charset.eq_ignore_ascii_case(name));
    let guessed = (decoder.is_none() && !utf8) || utf16 || shown.contains(char::REPLACEMENT_CHARACTER);
    Some((if guessed { with_ascii_beside(&shown, &octets) } else { shown }, behind))
}

/// The ASCII that stands in the octets counts as shown too: hz-gb-2312, iso-2022-kr and UTF-16 of an address hold it, and readers that know
/// them show it.
fn with_ascii_beside(shown: &str, octets: &[u8]) -> String {
    let plain = octets.iter().filter(|octet| octet.is_ascii_graphic() || **octet == b' ');
    let ascii: String = plain.map(|octet| char::from(*octet)).collect();
    if shown == ascii { ascii } else { format!("{shown} {ascii}") }
}

fn decode_base64(text: &str) -> Vec<u8> {
    let plain: String =
        text.chars().filter(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '+' | '/')).collect();
    // A last single letter stands for no octet; readers drop it.
    let whole = if plain.len() % 4 == 1 { plain.get(..plain.len().saturating_sub(1)) } else { Some(plain.as_str()) };
    GENEROUS.decode(whole.unwrap_or_default()).unwrap_or_default()
}

/// RFC 2047 §4.2: `_` is a space, `=XX` an octet.
fn decode_quoted(text: &[u8]) -> Vec<u8> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        let digit = |octet: &u8| char::from(*octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let pair = match tail {
            [high, low, ..] if *first == b'=' => digit(high).zip(digit(low)),
            _ => None,
        };
        match pair {
            Some((high, low)) => octets.push(high << 4 | low),
            None => octets.push(if *first == b'_' { b' ' } else { *first }),
        }
        rest = tail.get(if pair.is_some() { 2 } else { 0 }..).unwrap_or_default();
    }
    octets
}

/// Every address with a dotted domain that a person would see in `text`.
pub(super) fn addresses_in(text: &str) -> Vec<Address> {
    let seen: String =
        text.nfkc().filter(|letter| letter.is_whitespace() || is_visible(*letter)).map(as_seen).collect();
    let mut found: Vec<Address> = Vec::new();
    for (at, _) in seen.match_indices('@') {
        let (left, right) = seen.split_at_checked(at).unwrap_or_default();
        let local = left.rsplit(|letter: char| !is_atext(letter) && letter != '.').next().unwrap_or_default();
        let local = local.trim_start_matches(['.', '\'', '`', '=', '*', '_', '~', '|', '{', '/', '!', '?']);
        let domain = right.strip_prefix('@').unwrap_or_default();
        let domain = domain.split(|letter: char| !letter.is_alphanumeric() && !matches!(letter, '-' | '.')).next();
        let domain = domain.unwrap_or_default().trim_end_matches(['.', '-']);
        if let Ok(address) = Address::parse(&format!("{local}@{domain}"))
            && domain.contains('.')
            && !found.contains(&address)
        {
            found.push(address);
        }
    }
    found
}

/// What compatibility normalisation (full-width and mathematical letters, small signs) leaves of look-alike spaces and stops.
fn as_seen(letter: char) -> char {
    match letter {
        '\u{3002}' => '.',
        _ if letter.is_whitespace() => ' ',
        _ => letter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_a_charset_that_is_guessed_at_is_seen() {
        for (charset, octets) in [
            ("hz-gb-2312", b"bob@example.com".to_vec()),
            ("iso-2022-kr", b"bob@example.com".to_vec()),
            ("utf-16", b"bob@example.com".iter().flat_map(|octet| [0, *octet]).collect()),
            ("x-nobody-knows", b"bob@example.com".to_vec()),
        ] {
            use base64::Engine as _;
            let word = format!("=?{charset}?B?{}?=", base64::engine::general_purpose::STANDARD.encode(octets));
            let seen = addresses_in(&decode_words(&word));
            assert!(seen.contains(&Address::parse("bob@example.com").unwrap()), "{charset}: {seen:?}");
        }
    }

    #[test]
    fn encoded_words_are_decoded_wherever_they_stand() {
        for (text, shown) in [
            ("plain", "plain"),
            ("=?utf-8?Q?J=C3=B6rg_M?=", "Jörg M"),
            ("=?UTF-8?b?SsO2cmc?=", "Jörg"),
            ("=?iso-8859-1?q?J=F6rg?=", "Jörg"),
            ("=?iso-8859-1*de?q?J=F6rg?= X", "Jörg X"),
            ("=?utf-8?Q?ceo=40?= \t =?utf-8?Q?example.com?=", "ceo@example.com"),
            ("x=?utf-8?Q?=40?=y", "x@y"),
            ("=?utf-16be?B?AGEAQABi?=", "a@b"),
            ("=?utf-8?X?abc?=", "=?utf-8?X?abc?="),
            ("=?broken", "=?broken"),
            ("=?utf-8?Q?=4?=", "=4"),
            ("=?nonesuch?Q?a=40b?=", "a@b"),
        ] {
            assert_eq!(decode_words(text), shown, "{text}");
        }
    }

    #[test]
    fn the_addresses_that_a_person_sees_are_found() {
        for (text, expected) in [
            ("Alice", &[][..]),
            ("ceo@example.com", &["ceo@example.com"]),
            ("'ceo@example.com'", &["ceo@example.com"]),
            ("CEO (ceo@example.com) via <x@y.example>.", &["ceo@example.com", "x@y.example"]),
            ("mailto:ceo@example.com, now", &["ceo@example.com"]),
            ("ceo\u{ff20}example\u{ff0e}com", &["ceo@example.com"]),
            ("ｃｅｏ＠ｅｘａｍｐｌｅ．ｃｏｍ", &["ceo@example.com"]),
            ("𝐜𝐞𝐨@𝐞𝐱𝐚𝐦𝐩𝐥𝐞。com", &["ceo@example.com"]),
            ("ceo\u{fe6b}example\u{2024}com", &["ceo@example.com"]),
            ("c\u{200b}eo@exam\u{ad}ple.com", &["ceo@example.com"]),
            ("Team @ Work", &[]),
            ("@alice", &[]),
            ("root@localhost", &[]),
            ("a@@b.example", &[]),
            ("жора@пример.рф!", &["жора@пример.рф"]),
        ] {
            let found = addresses_in(text);
            assert_eq!(found.iter().map(Address::as_str).collect::<Vec<_>>(), expected, "{text}");
        }
    }
}
