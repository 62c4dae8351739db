//! The facts about a header that no verdict shows, and that nothing in it does harm.

use proptest::prelude::*;

use super::*;

fn facts(header: &[u8]) -> HeaderFacts {
    read_header(header, &HeaderLimits::default(), Utf8Header::NotDeclared)
}

#[test]
fn date_message_id_hops_and_eight_bit_are_told() {
    let none = facts(b"From: a@x.example\r\n\r\n");
    assert_eq!((none.has_date, &none.message_id, none.received, none.eight_bit), (false, &None, 0, false));
    let all = facts(
        b"received: x\r\nReceived: y\r\nDate:\r\nMessage-Id:\r\n <1 .2\xe9@x>\r\nFrom: a@x.example\r\nSubject: \xe9\r\n\r\n\xe9",
    );
    assert_eq!(all.fault, None);
    assert_eq!(
        (all.has_date, all.message_id.as_deref(), all.received, all.eight_bit),
        (true, Some("<1.2?@x>"), 2, true)
    );
}

#[test]
fn eight_bit_in_the_body_is_not_told_of_the_header() {
    assert!(!facts(b"From: a@x.example\r\n\r\n\xe9").eight_bit);
}

#[test]
fn facts_are_told_even_of_a_header_that_cannot_be_judged() {
    let told = facts(b"Received: x\r\nDate: y\r\nSubject: no from\r\n\r\n");
    assert_eq!(told.fault, Some(HeaderFault::Field("Field From is missing".to_owned())));
    assert_eq!((told.received, told.has_date), (1, true));
}

#[test]
fn limits_of_the_section_are_faults_of_their_own() {
    let limits = HeaderLimits { section: 64, line: 40, fields: 9 };
    let read = |header: &str| read_header(header.as_bytes(), &limits, Utf8Header::NotDeclared).fault;
    assert_eq!(read(&format!("From: {}\r\n\r\n", "a".repeat(60))), Some(HeaderFault::TooLarge { limit: 64 }));
    assert_eq!(read(&format!("From: {}\r\n\r\n", "a".repeat(40))), Some(HeaderFault::LineTooLong { limit: 40 }));
}

#[test]
fn an_endless_from_is_refused_by_its_name() {
    let header = format!("From: {} <a@x.example>\r\n\r\n", "a".repeat(20_000));
    assert_eq!(
        facts(header.as_bytes()).fault,
        Some(HeaderFault::Field("Field From is longer than 16384 octets".to_owned()))
    );
}

#[test]
fn a_flood_of_shown_addresses_is_refused() {
    let names: Vec<String> = (0..65).map(|number| format!("n{number}@x.example")).collect();
    let header = format!("From: \"{}\" <a@x.example>\r\n\r\n", names.join("\r\n "));
    assert!(
        matches!(facts(header.as_bytes()).fault, Some(HeaderFault::Field(said)) if said.contains("too many addresses"))
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever the second reader is given, it neither panics nor makes us believe in an address that does not stand there.
    #[test]
    fn no_header_does_harm(
        from in "(alice@x\\.example|[ -~]|=\\?utf-8\\?[QB]\\?|\\?=|\r\n[ \t]|[<>\"(),:;@\\\\]){0,25}",
        other in "(Resent-From: |Resent-Sender: |Sender: |Received:|\r\n|\r\n |[<>\"():;,@\\\\a]|b@x\\.example){0,25}",
        declared: bool,
    ) {
        let utf8 = if declared { Utf8Header::Declared } else { Utf8Header::NotDeclared };
        let header = format!("From:{from}\r\n{other}\r\n\r\n");
        let facts = read_header(header.as_bytes(), &HeaderLimits::default(), utf8);
        if facts.fault.is_none() {
            prop_assert!(!facts.from.is_empty());
            let claimed = facts.from.iter().chain(&facts.sender).chain(&facts.resent_from).chain(&facts.resent_sender);
            for address in claimed {
                prop_assert!(header.contains(address.as_str()));
            }
        }
    }

    #[test]
    fn arbitrary_octets_do_no_harm(head in prop::sample::select(vec!["", "From: ", "Sender: a\r\nFrom:"]), octets: Vec<u8>) {
        let header = [head.as_bytes(), &octets].concat();
        let _ = read_header(&header, &HeaderLimits::default(), Utf8Header::Declared);
    }
}

/// What is just as much as may be is judged; one more is told.
#[test]
fn an_originator_field_may_be_long_and_show_many_addresses() {
    let from = |name: &str| facts(format!("From: {name} <a@x.example>\r\n\r\n").as_bytes()).fault;
    let long = |octets: usize| from(&"n".repeat(octets - " ".len() - " <a@x.example>".len()));
    assert_eq!(long(16 * 1024), None);
    assert!(long(16 * 1024 + 1).unwrap().to_string().contains("longer than 16384 octets"));
    let shown = |count: usize| {
        let names: Vec<String> = (0..count).map(|number| format!("b{number}@x.example")).collect();
        from(&format!("\"{}\"", names.join(" ")))
    };
    assert_eq!(shown(64), None);
    assert!(shown(65).unwrap().to_string().contains("too many addresses"));
}
