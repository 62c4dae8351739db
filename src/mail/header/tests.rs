//! What is cut into fields, and what is refused, with its sentence.

use proptest::prelude::*;

use super::*;

fn read(text: &[u8]) -> Result<HeaderSection<'_>, HeaderFault> {
    HeaderSection::read(text, &HeaderLimits::default())
}

fn sentence(text: &[u8]) -> String {
    match read(text) {
        Err(HeaderFault::Field(sentence)) => sentence,
        other => panic!("{} gave {other:?}", text.escape_ascii()),
    }
}

#[test]
fn fields_come_in_order_with_their_raw_values() {
    let text = b"From: a@x.example\r\nSubject:\r\n folded\r\n\tthrice \r\nX-Empty:\r\nx-8bit: \xe9\r\n\r\nFrom: body";
    let section = read(text).unwrap();
    let found: Vec<_> = section.fields().iter().map(|field| (field.name, field.value, field.offset)).collect();
    assert_eq!(
        found,
        [
            ("From", &b" a@x.example"[..], 0),
            ("Subject", b"\r\n folded\r\n\tthrice ", 19),
            ("X-Empty", b"", 48),
            ("x-8bit", b" \xe9", 58),
        ]
    );
    assert_eq!(section.length(), text.len() - b"From: body".len());
    assert_eq!(section.end(), SectionEnd::BlankLine);
    assert_eq!(section.named("SUBJECT").next().unwrap().unfolded().as_ref(), b" folded\tthrice ");
    assert_eq!(section.named("from").count(), 1);
}

#[test]
fn a_section_may_end_with_the_message() {
    for text in [&b"From: a@x.example\r\n"[..], b"From: a@x.example"] {
        let section = read(text).unwrap();
        assert_eq!(section.fields()[0].value, b" a@x.example");
        assert_eq!(section.end(), SectionEnd::EndOfMessage);
        assert_eq!(section.length(), text.len());
    }
}

#[test]
fn a_message_that_begins_with_a_blank_line_has_no_fields() {
    let section = read(b"\r\nFrom: a@x.example\r\n\r\n").unwrap();
    assert_eq!(section.fields(), []);
    assert_eq!(section.length(), 2);
}

#[test]
fn what_readers_cut_differently_is_refused_and_named() {
    for (text, part) in [
        (&b"From : a@x\r\n\r\n"[..], "Field From has white space before its colon"),
        (b"From\t: a@x\r\n\r\n", "Field From has white space before its colon"),
        (b"From a@x Tue Nov 24 01:02:03 2026\r\nFrom: a@x\r\n\r\n", "mailbox file"),
        (b"From: a@x\r\nhello world\r\n\r\n", "'hello world' is no field"),
        (b"From: a@x\r\nMy Field: x\r\n\r\n", "no good field name"),
        (b": x\r\n\r\n", "no good field name"),
        (b" : x\r\n\r\n", "first line of the header is a continuation"),
        (b"\tFrom: x\r\n\r\n", "first line of the header is a continuation"),
        (b"Fr\xf6m: x\r\n\r\n", "'Fr/xf6m: x' has no good field name"),
        (b"Subject: x\r\n \r\nFrom: a@x\r\n\r\n", "Field Subject has a continuation line of white space alone"),
        (b"Subject: x\r\n \t \r\n y\r\n\r\n", "Field Subject has a continuation line of white space alone"),
        (b"Subject: x\x1b[0m\r\n\r\n", "Field Subject holds the control character 0x1B"),
        (b"Subject: x\r\n y\x7f\r\n\r\n", "Field Subject holds the control character 0x7F"),
        (b"Subject: \x08\r\n\r\n", "0x08"),
        (b"Subject: \x0b\r\n\r\n", "0x0B"),
    ] {
        let said = sentence(text);
        assert!(said.contains(part), "{said}");
        assert!(said.bytes().all(|octet| matches!(octet, b' '..=b'~')), "{said}");
        assert!(said.len() < 250, "{said}");
    }
}

#[test]
fn disputed_octets_come_before_all_else() {
    for (text, fault) in [
        (&b"no field\r\nSubject: a\nFrom: b@x\r\n\r\n"[..], OctetFault::BareLf),
        (b"Subject: a\rFrom: b@x\r\n\r\n", OctetFault::BareCr),
        (b"Subject: a\r\r\n\r\n", OctetFault::BareCr),
        (b"Subject: a\n\r\n", OctetFault::BareLf),
        (b"Subject: a\r", OctetFault::BareCr),
        (b"\nSubject: a", OctetFault::BareLf),
        (b"Subject: a\0\r\n\r\n", OctetFault::Nul),
    ] {
        assert_eq!(read(text), Err(HeaderFault::Octets(fault)), "{}", text.escape_ascii());
    }
}

#[test]
fn each_limit_holds_at_its_value_and_not_before() {
    let limits = HeaderLimits { section: 100, line: 20, fields: 3 };
    let read = |text: &str| HeaderSection::read(text.as_bytes(), &limits).map(|section| section.fields().len());
    assert_eq!(read(&format!("A: {}\r\n\r\n", "x".repeat(17))), Ok(1));
    assert_eq!(read(&format!("A: {}\r\n\r\n", "x".repeat(18))), Err(HeaderFault::LineTooLong { limit: 20 }));
    assert_eq!(read("A:1\r\nA:2\r\nA:3\r\n\r\n"), Ok(3));
    assert!(matches!(read("A:1\r\nA:2\r\nA:3\r\nA:4\r\n\r\n"), Err(HeaderFault::Field(_))));
    let lines = "A: 345678901234\r\n 234567\r\n".repeat(3);
    assert_eq!(read(&format!("{lines} {}\r\n\r\n", "x".repeat(100 - 78 - 5))), Ok(3));
    assert_eq!(
        read(&format!("{lines} {}\r\n\r\n", "x".repeat(100 - 78 - 4))),
        Err(HeaderFault::TooLarge { limit: 100 })
    );
    let name = |octets: usize| format!("{}: x\r\n\r\n", "N".repeat(octets));
    assert!(HeaderSection::read(name(FIELD_NAME_MAX).as_bytes(), &HeaderLimits::default()).is_ok());
    assert!(sentence(name(FIELD_NAME_MAX + 1).as_bytes()).contains("longer than"));
}

#[test]
fn each_fault_says_what_is_wrong() {
    for (fault, said) in [
        (HeaderFault::Octets(OctetFault::BareCr), "a CR without LF"),
        (HeaderFault::Octets(OctetFault::BareLf), "an LF without CR"),
        (HeaderFault::Octets(OctetFault::Nul), "a NUL"),
        (HeaderFault::TooLarge { limit: 7 }, "larger than 7 octets"),
        (HeaderFault::LineTooLong { limit: 7 }, "longer than 7 octets"),
        (HeaderFault::Field("Field X is twice".to_owned()), "Field X is twice"),
    ] {
        assert!(fault.to_string().ends_with(said), "{fault}");
    }
}

proptest! {
    #[test]
    fn fields_written_are_fields_read(
        fields in prop::collection::vec(("[!-9;-~]{1,20}", "( [!-~é]{1,9}|\r\n [!-~]{1,9}){0,5}"), 0..8)
    ) {
        let text: String = fields.iter().map(|(name, value)| format!("{name}:{value}\r\n")).collect::<String>() + "\r\n";
        let section = read(text.as_bytes()).unwrap();
        let found: Vec<_> = section.fields().iter().map(|f| (f.name.to_owned(), String::from_utf8(f.value.to_vec()).unwrap())).collect();
        prop_assert_eq!(found, fields);
        prop_assert_eq!(section.length(), text.len());
    }

    #[test]
    fn no_octets_do_harm_and_every_sentence_is_printable(text: Vec<u8>) {
        if let Err(fault) = read(&text) {
            let said = fault.to_string();
            prop_assert!(said.bytes().all(|octet| matches!(octet, b' '..=b'~')), "{}", said);
        }
    }
}
