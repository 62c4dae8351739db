//! Names as the readers of this world decode them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::charset::{CHARSET_SHOWN, Charset};
use super::*;

fn word(charset: &str, octets: &[u8]) -> String {
    format!("=?{charset}?B?{}?=", STANDARD.encode(octets))
}

fn seen_in(text: &str) -> Result<Vec<String>, DisplayFault> {
    let mut sight = Sight::default();
    look(text, &mut sight, &mut Effort::default())?;
    let addresses = sight.addresses.iter().map(ToString::to_string);
    Ok(addresses.chain(sight.lookalikes.iter().map(|text| format!("?{text}"))).collect())
}

fn first_reading(text: &str) -> String {
    let all = readings(text, &mut Effort::default()).unwrap();
    all.get(1).unwrap_or(&all[0]).clone()
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
        ("=?utf-8? Q ?abc?=", "abc"),
        ("=?utf-8?Q?abc", "abc"),
        ("=?unknown-8bit?Q?a=40b?=", "a@b"),
        ("=?unknown-8bit?Q?a=40b_c?=", "a@b c"),
        ("x =?utf-8?Q?a?= b =?utf-8?Q?c?=", "x a b c"),
        ("=?utf-8?Q?abcdef?=", "abcdef"),
        ("=?us-ascii?Q?a=40b?=", "a@b"),
        ("=?utf-7?Q?a+AEA-b?=", "a@b"),
        ("=?utf-8?Q?ceo?= =?utf-16be?B?AEAAYg==?=", "ceo@b"),
    ] {
        assert_eq!(first_reading(text), shown, "{text}");
    }
}

#[test]
fn what_was_encoded_several_times_is_decoded_as_often_and_no_more() {
    let encoded = |text: &str| word("utf-8", text.as_bytes());
    let (once, twice) = (encoded("a@b.example"), encoded(&encoded("a@b.example")));
    let read = |text: &str| readings(text, &mut Effort::default()).unwrap();
    assert_eq!(read("Alice"), ["Alice"]);
    assert_eq!(read(&once), [once.as_str(), "a@b.example"]);
    assert_eq!(read(&twice), [twice.as_str(), &once, "a@b.example"]);
    assert_eq!(read(&encoded(&encoded(&twice))).len(), 1 + DECODINGS);
    assert_eq!(read("=?x"), ["=?x"]);
}

#[test]
fn an_address_is_seen_in_every_manner_of_decoding() {
    for text in [
        // Octets of words side by side.
        "=?utf-8?Q?ceo=EF=BC?= =?utf-8?Q?=A0example.com?=",
        "=?utf-8?B?Y2Vv7w==?= =?UTF8?B?vKBleGFtcGxlLmNvbQ==?=",
        "=?utf-8?B?Y2Vv7w?= =?utf-8?B?vKBleGFtcGxlLmNvbQ?=",
        "=?utf-8?B?Y2Vv7w==?= =?utf-8?Q?=BC=A0example.com?=",
        "=?utf-7?Q?ceo+AE?= =?utf-7?Q?A-example.com?=",
        "=?iso-2022-jp?B?Y2VvGyRCIQ==?= =?iso-2022-jp?B?dxsoQmV4YW1wbGUuY29t?=",
        // Letters of base64 side by side.
        "=?utf-8?B?Y2VvQGV?= =?utf-8?B?4YW1wbGUuY29t?=",
        // Words that are none, in front of one.
        "=?utf-8?Q?=?utf-8?Q?ceo=40example.com?=",
        "=?utf-8?Q?x =?utf-8?B?Y2VvQGV4YW1wbGUuY29t?=",
        // No end.
        "=?utf-8?Q?ceo=40example.com",
        "=?utf-8?Q?ceo=40example.com?",
        "=?utf-7?Q?ceo+AEA?=example.com",
        // Base64 that the sign itself ends.
        "=?utf-7?Q?ce+AG8=40example.com?=",
        // Padding within, that is passed over; and what is no base64 at all.
        "=?utf-8?B?Y2Vv=QGV4YW1wbGUuY29t?=",
        "=?utf-8?B?Y2Vv(QGV4YW1wbGUuY29t)?=",
        // Signs for text from right to left.
        "=?x-mac-arabic?Q?ceo=40example=AEcom?=",
        "=?x-mac-hebrew?Q?ceo=40example=AEcom?=",
        "=?x-mac-farsi?B?Y2VvQGV4YW1wbGWuY29t?=",
        // A byte order mark in a charset that knows none.
        "=?ibm866?B?/v9jZW9AZXhhbXBsZS5jb20g?=",
        "=?gb18030?B?/v9jZW9AZXhhbXBsZS5jb20g?=",
        // Runs from left to right, one behind the other from right to left.
        "=?utf-8?Q?=E2=81=A7=E2=81=A6com=E2=81=A9.=E2=81=A6example=E2=81=A9=40=E2=81=A6ceo=E2=81=A9=E2=81=A9?=",
    ] {
        let seen = seen_in(text);
        assert!(matches!(&seen, Ok(seen) if seen.contains(&"ceo@example.com".to_owned())), "{text}: {seen:?}");
    }
}

/// Most of these are faults to the reader who passes over what he does not know; not to be so is luck that whoever tries long enough has.
#[test]
fn base64_is_read_in_every_manner_of_padding_and_of_letters() {
    for (text, wanted) in [
        ("Y2U=b0BleGFtcGxlLmNvbQ==", "ceo@example.com"),
        ("Y2VvQA==ZXhhbXBsZS5jb20=", "ceo@example.com"),
        ("byBjZW9AZXhhbXBsZS5jb20=wLmNvcnAuZXhhbXBsZQ", "o ceo@example.com"),
        ("byBjZW9AZXhhbXBsZS5jb20=wLmNvcnAuZXhhbXBsZQ", "o ceo@example.com0.corp.example"),
        ("Pz8_IGNlb0BleGFtcGxlLmNvbQ", "??? ceo@example.com"),
        ("Pj4-IGNlb0BleGFtcGxlLmNvbQ==", ">>> ceo@example.com"),
        ("Pz8_Pz8/IGNlb0BleGFtcGxlLmNvbQ==", "?????? ceo@example.com"),
        ("Y2Vv-QGV4_YW1wbGUuY29t", "ceo@example.com"),
    ] {
        let word = format!("=?utf-8?B?{text}?=");
        let mut effort = Effort::default();
        let manners = manners(&word, &mut effort).unwrap();
        let readings: Vec<String> = manners.iter().map(|manner| decode(&word, *manner, &mut effort).unwrap()).collect();
        assert!(readings.contains(&wanted.to_owned()), "{text}: {readings:?}");
    }
    // What is honest is read in one.
    for text in ["SsO2cmc=", "SsO2cmcg==", "SsO2 cmc", ""] {
        assert_eq!(manners(&format!("=?utf-8?B?{text}?="), &mut Effort::default()).unwrap().len(), 1, "{text}");
    }
    assert_eq!(manners("=?utf-8?Q?a-b=5F_=C3=B6?=", &mut Effort::default()).unwrap().len(), 1);
    let seen = seen_in("=?utf-8?B?byBjZW9AZXhhbXBsZS5jb20=wLmNvcnAuZXhhbXBsZQ?=").unwrap();
    assert_eq!(seen[..2], ["ceo@example.com0.corp.example", "ceo@example.com"]);
}

#[test]
fn an_address_in_a_charset_that_is_guessed_at_is_seen() {
    let wide = |order: fn(u16) -> [u8; 2]| -> Vec<u8> { "ceo＠example.com".encode_utf16().flat_map(order).collect() };
    for (charset, octets) in [
        ("utf-16", wide(u16::to_be_bytes)),
        ("utf-16", wide(u16::to_le_bytes)),
        ("utf-16", [b"\xff\xfe".to_vec(), wide(u16::to_le_bytes)].concat()),
        ("utf-16le", wide(u16::to_le_bytes)),
        ("ucs-2", wide(u16::to_be_bytes)),
        ("iso-10646-ucs-2", wide(u16::to_be_bytes)),
        ("csUnicode", wide(u16::to_le_bytes)),
        ("unknown-8bit", b"ceo@example.com".to_vec()),
        ("unknown-8bit", "ceo＠example.com".as_bytes().to_vec()),
        ("unknown-8bit", b"ceo\x81\x97example.com".to_vec()),
        ("us-ascii", b"ceo\xa3\xc0example.com".to_vec()),
        ("x-unknown", b"ceo\xa1\xf7example.com".to_vec()),
        ("", b"ceo\xa3\xc0example.com".to_vec()),
        ("cp437", b"ceo@example.com".to_vec()),
        ("cp437", b"ceo@exam\xffple.com".to_vec()),
        ("cp932", b"ceo\x81\x97example.com".to_vec()),
        ("windows-31j", b"ceo\x81\x97example.com".to_vec()),
        ("cp949", b"ceo\xa3\xc0example.com".to_vec()),
        ("x-IBM949", b"ceo\xa3\xc0example.com".to_vec()),
        ("hz-gb-2312", b"ceo@example.com".to_vec()),
        ("iso-2022-kr", b"ceo@example.com".to_vec()),
    ] {
        let seen = seen_in(&word(charset, &octets)).unwrap();
        assert!(seen.contains(&"ceo@example.com".to_owned()), "{charset}: {seen:?}");
    }
}

#[test]
fn a_charset_in_which_letters_may_be_others_is_a_fault() {
    let unknown = |name: &str| Err(DisplayFault::UnknownCharset(name.to_owned()));
    for charset in [
        "ibm037",
        "IBM-037",
        "cp037",
        "cp500",
        "ibm500",
        "ibm1047",
        "cp1140",
        "ebcdic-us",
        "x-nobody-knows",
        "utf-32",
        "utf-32be",
        "ucs-4",
        "x-mac-japanese",
    ] {
        assert_eq!(seen_in(&format!("Alice =?{charset}?B?gpaCfIWngZSXk4VLg5aU?=")), unknown(charset));
    }
    assert_eq!(seen_in(&word("hz-gb-2312", b"ceo~{#@~}example.com")), unknown("hzgb2312"));
    assert_eq!(seen_in(&word("iso-2022-kr", b"ceo\x1b$)C\x0e#@\x0fexample.com")), unknown("iso2022kr"));
    assert_eq!(seen_in(&format!("=?{}?Q?x?=", "n".repeat(99))), unknown(&"n".repeat(CHARSET_SHOWN)));
}

#[test]
fn controls_are_a_fault_unless_they_are_a_guess() {
    assert_eq!(seen_in("=?utf-8?Q?Alice=0D=0ABcc?="), Err(DisplayFault::Control));
    assert_eq!(seen_in("Alice\u{0}"), Err(DisplayFault::Control));
    // The rest of a word behind a beginning in base64 is noise to who takes it for one.
    assert_eq!(seen_in("=?utf-8?B?=?utf-8?Q?ceo=40example.com?="), Err(DisplayFault::Control));
    assert_eq!(seen_in("=?utf-8?B?eA?= =?utf-8?B?eA?= =?utf-8?B?eA?="), Ok(Vec::new()));
    // To Shift_JIS 0x80 is a control, to Windows a euro sign.
    assert_eq!(seen_in("=?unknown-8bit?Q?=80?="), Ok(Vec::new()));
}

/// Octets looked at are counted, so that no clock is asked. Each text is made for those who would look at it again and again.
#[test]
fn reading_costs_a_few_looks_at_each_octet_however_hostile_the_text() {
    let spent = |text: &str| {
        let mut effort = Effort::default();
        look(text, &mut Sight::default(), &mut effort).unwrap();
        EFFORT_MAX - effort.0
    };
    for hostile in
        ["=?a", "=?utf-8?Q", "=?utf-8?Q?x", "=?utf-8?Q?x?", "=?utf-8?B?eA?= ", "=?unknown?Q?@a.b?=", "?=", "\u{fdfa}@"]
    {
        let text = |times: usize| hostile.repeat(times * 16 / hostile.len());
        let (small, large) = (spent(&text(100)), spent(&text(800)));
        assert!(large <= small * 9, "{hostile}: {small} for 1600 octets, {large} for 12800");
        assert!(large <= 12_800 * 150, "{hostile}: {large} for 12800");
    }
}

#[test]
fn what_would_cost_too_much_is_a_fault() {
    let mut effort = Effort(100);
    assert_eq!(look(&"=?x".repeat(99), &mut Sight::default(), &mut effort), Err(DisplayFault::TooMuch));
    assert_eq!(look(&"@".repeat(99), &mut Sight::default(), &mut Effort(100)), Err(DisplayFault::TooMuch));
    // No word is left of any of these signs: each time it would be looked for up to the beginning.
    let without_a_word = format!("=?us-ascii?Q?=E9 {}?=", "@[.]".repeat(4000));
    assert_eq!(look(&without_a_word, &mut Sight::default(), &mut Effort::default()), Err(DisplayFault::TooMuch));
}

/// By the charsets that have ASCII's signs twice, for text from right to left.
#[test]
fn of_a_mirrored_charset_the_letters_are_not_known() {
    let charset = Charset::named("x-mac-hebrew").unwrap();
    assert_eq!(charset.read(&[b'a', 0xa1, 0x9a, 0xc8], 0), Ok("a!\u{fffd}\u{fffd} a".to_owned()));
}

#[test]
fn an_encoded_word_stands_apart_from_an_address_or_touches_it() {
    for (behind, touches) in [
        ("", false),
        (" x", false),
        (" <bob@example.net>", false),
        ("\tx", false),
        (")", false),
        ("x", true),
        ("@example.net", true),
        (" @example.net", true),
        (" (a comment)", true),
        (" .x", true),
    ] {
        let text = format!("=?utf-8?q?bob?={behind}");
        assert_eq!(words::touches_an_address(&text, &mut Effort::default()), Ok(touches), "{text}");
    }
    for of_addresses in ["<", ">", "@"] {
        let text = format!("=?utf-8?q?b{of_addresses}b?= x");
        assert_eq!(words::touches_an_address(&text, &mut Effort::default()), Ok(true), "{text}");
    }
}
