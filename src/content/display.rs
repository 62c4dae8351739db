//! What a person sees in a display name: its encoded words decoded (RFC 2047), and the addresses that stand in it.
//!
//! `"ceo@example.com" <mallory@example.com>` shows the first to many people. Such an address is a fact here; whether it is granted is
//! judged by `policy::author`. Decoding is generous on purpose: what any reader might decode counts. A charset in which ASCII may stand for
//! something else, and which can't be read here, is a fault: in EBCDIC (`ibm037`) an address looks like noise to us, and Outlook and every
//! program on Java's charsets show it. Never: a reason to pass something.

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

/// A charset that can't be read here, and that others may show an address in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UnknownCharset(pub(super) String);

/// How often what was decoded is decoded again: some programs do so twice, none so often.
const DECODINGS: usize = 3;
/// Behind this, letters run from right to left for people, whatever they are (Unicode's RIGHT-TO-LEFT OVERRIDE).
const RIGHT_TO_LEFT: char = '\u{202e}';
/// How much of a charset's name is told.
const CHARSET_SHOWN: usize = 40;

/// The text as people may see it: decoded once, and again where that leaves encoded words.
pub(super) fn readings(text: &str) -> Result<Vec<String>, UnknownCharset> {
    let mut seen = vec![decode_words(text)?];
    while let Some(last) = seen.last().filter(|last| last.contains("=?"))
        && seen.len() < DECODINGS
    {
        let again = decode_words(last)?;
        if again == *last {
            break;
        }
        seen.push(again);
    }
    Ok(seen)
}

/// Decodes every encoded word, wherever it stands, and drops the white space between two of them (RFC 2047 §6.2).
pub(super) fn decode_words(text: &str) -> Result<String, UnknownCharset> {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    let mut after_word = false;
    while let Some((before, begun)) = rest.split_once("=?") {
        let Some((word, behind)) = encoded_word(begun)? else {
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
    Ok(shown)
}

/// `charset[*language]?B|Q?text?=`, decoded, and what is behind it.
fn encoded_word(begun: &str) -> Result<Option<(String, &str)>, UnknownCharset> {
    let Some((charset, octets, behind)) = parts(begun) else { return Ok(None) };
    let decoder = charset_decoder(charset.as_bytes());
    if decoder.is_none() && !keeps_ascii(charset) {
        let name = charset.chars().filter(char::is_ascii_graphic).take(CHARSET_SHOWN).collect();
        return Err(UnknownCharset(name));
    }
    let shown = match decoder {
        Some(decode) => decode(&octets),
        None => String::from_utf8_lossy(&octets).into_owned(),
    };
    // UTF-16 without a mark may be of either order; a charset that is unknown, or does not fit, is guessed at by each reader differently.
    let utf16 = charset.eq_ignore_ascii_case("utf-16");
    let utf8 = ["utf-8", "utf8", "us-ascii"].iter().any(|name| charset.eq_ignore_ascii_case(name));
    let guessed = (decoder.is_none() && !utf8) || utf16 || shown.contains(char::REPLACEMENT_CHARACTER);
    Ok(Some((if guessed { with_ascii_beside(&shown, &octets) } else { shown }, behind)))
}

/// The charset, the octets, and what is behind; none when it is no encoded word.
fn parts(begun: &str) -> Option<(&str, Vec<u8>, &str)> {
    let (charset, rest) = begun.split_once('?')?;
    let (encoding, rest) = rest.split_once('?')?;
    let (text, behind) = rest.split_once("?=")?;
    // RFC 2231 §5: a language may follow the charset.
    let charset = charset.split_once('*').map_or(charset, |(name, _)| name);
    let octets = match encoding {
        "B" | "b" => decode_base64(text),
        "Q" | "q" => decode_quoted(text.as_bytes()),
        _ => return None,
    };
    Some((charset, octets, behind))
}

/// Whether ASCII stands for itself in this charset that we have no table of, as far as anybody reads it: then an address in it is seen without
/// one. Names are compared without case and punctuation.
fn keeps_ascii(charset: &str) -> bool {
    /// DOS code pages, each ASCII below 128. The EBCDIC ones (37, 273 to 297, 420 to 424, 500, 870, 1026, 1047, 1140 to 1149) are not here.
    const DOS: [&str; 18] = [
        "437", "720", "737", "775", "852", "855", "857", "858", "860", "861", "862", "863", "864", "865", "869", "874",
        "932", "949",
    ];
    /// Names that say that nobody knows, and others that hold ASCII as it is or with NULs between.
    const NAMES: [&str; 20] = [
        "",
        "utf8",
        "utf8mb4",
        "utf8mac",
        "unknown",
        "unknown8bit",
        "xunknown",
        "default",
        "defaultcharset",
        "ansi",
        "8bit",
        "binary",
        "utf32",
        "utf32be",
        "utf32le",
        "ucs4",
        "viscii",
        "tcvn",
        "xviscii",
        "xmacce",
    ];
    let name: String =
        charset.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect();
    let page = ["cp", "ibm", "x"].iter().find_map(|maker| name.strip_prefix(maker)).unwrap_or(&name);
    NAMES.contains(&name.as_str()) || DOS.contains(&page) || name.starts_with("xmac") || name.starts_with("iso8859")
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
    let mut found = read_onward(text);
    if text.contains(RIGHT_TO_LEFT) {
        let backward: String = text.chars().rev().collect();
        found.extend(read_onward(&backward));
    }
    found
}

fn read_onward(text: &str) -> Vec<Address> {
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
            ("unknown-8bit", b"bob@example.com".to_vec()),
            ("cp437", b"bob@example.com".to_vec()),
        ] {
            use base64::Engine as _;
            let word = format!("=?{charset}?B?{}?=", base64::engine::general_purpose::STANDARD.encode(octets));
            let seen = addresses_in(&decode_words(&word).unwrap());
            assert!(seen.contains(&Address::parse("bob@example.com").unwrap()), "{charset}: {seen:?}");
        }
    }

    #[test]
    fn a_charset_in_which_ascii_may_be_something_else_is_a_fault() {
        for charset in
            ["ibm037", "IBM-037", "cp037", "cp500", "ibm500", "ibm1047", "cp1140", "ebcdic-us", "x-nobody-knows"]
        {
            let text = format!("Alice =?{charset}?B?gpaCfIWngZSXk4VLg5aU?=");
            assert_eq!(decode_words(&text), Err(UnknownCharset(charset.to_owned())));
        }
        assert_eq!(
            decode_words(&format!("=?{}?Q?x?=", "n".repeat(99))),
            Err(UnknownCharset("n".repeat(CHARSET_SHOWN)))
        );
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
            ("=?unknown-8bit?Q?a=40b?=", "a@b"),
            ("=?unknown-8bit?Q?a=40b_c?=", "a@b c"),
            ("=?x-mac-nobodys?Q?a=40b?=", "a@b"),
            ("=?iso-8859-99?Q?a=40b?=", "a@b"),
            ("x =?utf-8?Q?a?= b =?utf-8?Q?c?=", "x a b c"),
            ("=?utf-8?Q?abcdef?=", "abcdef"),
            ("=?utf-8?B?YUBiX?=", "a@b"),
        ] {
            assert_eq!(decode_words(text).as_deref(), Ok(shown), "{text}");
        }
    }

    #[test]
    fn what_was_encoded_several_times_is_decoded_as_often_and_no_more() {
        let encoded = |text: &str| format!("=?utf-8?B?{}?=", base64::engine::general_purpose::STANDARD.encode(text));
        let (once, twice) = (encoded("a@b.example"), encoded(&encoded("a@b.example")));
        assert_eq!(readings("Alice").unwrap(), ["Alice"]);
        assert_eq!(readings(&once).unwrap(), ["a@b.example"]);
        assert_eq!(readings(&twice).unwrap(), [once.as_str(), "a@b.example"]);
        assert_eq!(readings(&encoded(&encoded(&twice))).unwrap().len(), DECODINGS);
        assert_eq!(readings("=?x").unwrap(), ["=?x"]);
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
            ("CEO\u{1680}ceo@example.com", &["ceo@example.com"]),
            ("Team @ Work", &[]),
            ("@alice", &[]),
            ("root@localhost", &[]),
            ("a@@b.example", &[]),
            ("жора@пример.рф!", &["жора@пример.рф"]),
            ("\u{202e}moc.elpmaxe@oec", &["ceo@example.com"]),
            ("moc.elpmaxe@oec", &[]),
        ] {
            let found = addresses_in(text);
            assert_eq!(found.iter().map(Address::as_str).collect::<Vec<_>>(), expected, "{text}");
        }
    }
}
