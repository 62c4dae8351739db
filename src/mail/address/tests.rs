//! What is an address, what is not, and which two are one.

use proptest::prelude::*;

use super::*;

fn same(one: &str, other: &str, case: LocalPartCase) -> bool {
    Address::parse(one).unwrap().canonical(case) == Address::parse(other).unwrap().canonical(case)
}

#[test]
fn these_are_addresses() {
    for text in [
        "alice@example.com",
        "a.b+tag=x@sub.example.com",
        "!#$%&'*+-/=?^_`{|}~@example.com",
        "postmaster@localhost",
        "\"alice b\"@example.com",
        "\"a@b\"@example.com",
        "\"a\\\"b\\\\\"@example.com",
        "\"..\"@example.com",
        "x@[192.0.2.1]",
        "x@[IPv6:2001:db8::1]",
        "x@[ipv6:::ffff:192.0.2.1]",
        "жора@пример.рф",
        "ÁLICE@bücher.example",
        "x@xn--bcher-kva.example",
        "x@r3---sn.example",
        "x@1.2.3.example",
        "x@3com.com",
    ] {
        let address = Address::parse(text).unwrap_or_else(|fault| panic!("{text}: {fault}"));
        assert_eq!(address.as_str(), text);
        assert_eq!(address.to_string(), text);
        assert_eq!(address.is_ascii(), text.is_ascii());
        assert!(text.starts_with(address.local_part()));
    }
}

#[test]
fn these_are_not_and_the_fault_says_why() {
    use AddressFault as Fault;
    let long_label = format!("x@{}.example", "a".repeat(64));
    let long_local = format!("{}@example.com", "a".repeat(65));
    let long = format!("x@{}.example", "a.".repeat(124));
    let long_in_ascii = format!("x@{}.example", "ü".repeat(60));
    for (text, fault) in [
        ("", Fault::Empty),
        ("alice", Fault::NoAt),
        ("\"alice\"", Fault::NoAt),
        ("@example.com", Fault::LocalPartEmpty),
        ("\"\"@example.com", Fault::LocalPartEmpty),
        ("alice@", Fault::DomainEmpty),
        (".a@example.com", Fault::LocalPartDot),
        ("a.@example.com", Fault::LocalPartDot),
        ("a..b@example.com", Fault::LocalPartDot),
        ("a b@example.com", Fault::LocalPartCharacter(' ')),
        ("a(c)@example.com", Fault::LocalPartCharacter('(')),
        ("<a@example.com>", Fault::LocalPartCharacter('<')),
        ("a\"b\"@example.com", Fault::LocalPartCharacter('"')),
        ("\"a@example.com", Fault::Unterminated),
        ("\"a\"b@example.com", Fault::Unterminated),
        ("\"a\\", Fault::Unterminated),
        ("\"a\\é\"@example.com", Fault::LocalPartCharacter('é')),
        ("a@b@example.com", Fault::DomainCharacter('@')),
        ("a@example.com.", Fault::TrailingDot),
        ("a@.example.com", Fault::LabelEmpty),
        ("a@example..com", Fault::LabelEmpty),
        ("a@example.com..", Fault::LabelEmpty),
        ("a@ex_ample.com", Fault::DomainCharacter('_')),
        ("a@bü_cher.example", Fault::DomainCharacter('_')),
        ("a@-example.com", Fault::LabelHyphen),
        ("a@example-.com", Fault::LabelHyphen),
        ("a@192.0.2.1", Fault::BareIpAddress),
        ("a@example.123", Fault::BareIpAddress),
        ("a@[192.0.2.01]", Fault::Literal),
        ("a@[192.0.2]", Fault::Literal),
        ("a@[192.0.2.1", Fault::Literal),
        ("a@[2001:db8::1]", Fault::Literal),
        ("a@[IPv6:fe80::1%eth0]", Fault::Literal),
        ("a@[x400:foo]", Fault::Literal),
        ("a@[]", Fault::Literal),
        ("a\0@example.com", Fault::Control),
        ("\"a\r\nb\"@example.com", Fault::Control),
        ("a\u{85}@example.com", Fault::Control),
        ("a\u{200b}@example.com", Fault::Misleading('\u{200b}')),
        ("a\u{202e}@example.com", Fault::Misleading('\u{202e}')),
        ("a\u{a0}b@example.com", Fault::Misleading('\u{a0}')),
        ("\u{212a}ate@example.com", Fault::Misleading('\u{212a}')),
        ("a@exam\u{ad}ple.com", Fault::Misleading('\u{ad}')),
        ("a@ｅxample.com", Fault::International),
        ("a@example。com", Fault::International),
        ("a@xn--a.example", Fault::International),
        ("a@xn--example-.com", Fault::LabelHyphen),
        ("a@☃\u{300}.xn--.example", Fault::International),
        (&long_label, Fault::LabelTooLong),
        (&long_local, Fault::LocalPartTooLong),
        (&long, Fault::TooLong),
        (&long_in_ascii, Fault::International),
    ] {
        assert_eq!(Address::parse(text), Err(fault), "{text:?}");
        assert!(fault.to_string().bytes().all(|octet| matches!(octet, b' '..=b'~')), "{fault}");
    }
}

#[test]
fn two_ways_to_write_one_address_are_one() {
    for (one, other) in [
        ("alice@example.com", "ALICE@EXAMPLE.COM"),
        ("\"alice\"@example.com", "alice@example.com"),
        ("\"al\\ice\"@example.com", "alice@example.com"),
        ("\"a b\"@example.com", "\"a\\ b\"@example.com"),
        ("x@bücher.example", "x@XN--BCHER-KVA.example"),
        ("x@BÜCHER.example", "x@bücher.example"),
        ("x@bu\u{308}cher.example", "x@bücher.example"),
        ("cafe\u{301}@example.com", "caf\u{e9}@example.com"),
        ("x@[IPv6:2001:DB8:0:0::1]", "x@[ipv6:2001:db8::1]"),
    ] {
        assert!(same(one, other, LocalPartCase::Ignored), "{one} {other}");
    }
}

#[test]
fn different_addresses_stay_different() {
    for (one, other) in [
        ("alice@example.com", "alice+tag@example.com"),
        ("alice@example.com", "alice@example.org"),
        ("alice@example.com", "alice@sub.example.com"),
        ("Éric@example.com", "éric@example.com"),
        ("x@faß.example", "x@fass.example"),
        ("\"a b\"@example.com", "ab@example.com"),
        ("alic\u{435}@example.com", "alice@example.com"),
        ("x@[192.0.2.1]", "x@[IPv6:::ffff:192.0.2.1]"),
        ("\"x@example.com\"@example.org", "x@example.com"),
    ] {
        assert!(!same(one, other, LocalPartCase::Ignored), "{one} {other}");
    }
}

#[test]
fn exact_case_holds_for_the_local_part_alone() {
    assert!(!same("Alice@example.com", "alice@example.com", LocalPartCase::Exact));
    assert!(same("alice@Example.COM", "alice@example.com", LocalPartCase::Exact));
}

#[test]
fn a_host_is_qualified_by_a_dot_or_by_brackets() {
    for (text, qualified) in
        [("localhost", false), ("example.com", true), ("[192.0.2.1]", true), ("[IPv6:::1]", true), ("bücher", false)]
    {
        assert_eq!(Host::parse(text).unwrap().is_fully_qualified(), qualified, "{text}");
    }
}

#[test]
fn a_canonical_address_with_odd_letters_is_quoted_when_shown() {
    let shown = |text| Address::parse(text).unwrap().canonical(LocalPartCase::Ignored).to_string();
    assert_eq!(shown("\"A\\\"b\\\\ @c\"@Example.com"), "\"a\\\"b\\\\ @c\"@example.com");
    assert_eq!(shown("\"alice\"@x.example"), "alice@x.example");
    assert_eq!(shown("\"a..b\"@x.example"), "\"a..b\"@x.example");
}

#[test]
fn every_character_that_normalises_into_ascii_is_refused() {
    for letter in (128..=0x10_ffff).filter_map(char::from_u32) {
        if letter.to_string().nfc().any(|part| part.is_ascii()) {
            let text = format!("a{letter}b@example.com");
            assert!(Address::parse(&text).is_err(), "U+{:04X}", u32::from(letter));
        }
    }
}

#[test]
fn an_address_that_was_stored_is_checked_again_when_it_is_read() {
    let address = Address::parse("\"a b\"@Example.com").unwrap();
    let stored = serde_json::to_string(&address).unwrap();
    assert_eq!(serde_json::from_str::<Address>(&stored).unwrap(), address);
    assert!(serde_json::from_str::<Address>("\"no address\"").is_err());
}

prop_compose! {
    fn any_address()(
        local in prop_oneof![
            "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,10}(\\.[a-zA-Z0-9é]{1,10}){0,3}",
            "\"([ !#-\\[\\]-~é]|\\\\[ -~]){1,20}\"",
            "[a-zα-ω\u{300}-\u{310}中]{1,10}",
        ],
        host in prop_oneof![
            "[a-zA-Z0-9]{1,8}(-[a-zA-Z0-9]{1,4})?(\\.[A-Za-z]{2,5}){0,3}",
            "[a-zA-Zäöüßéα-ω]{1,8}\\.[A-Za-z]{2,5}",
            "\\[192\\.0\\.2\\.[1-9]\\]",
            "\\[IPv6:2001:[A-Fa-f0-9]{1,4}::[1-9]\\]",
        ],
    ) -> String { format!("{local}@{host}") }
}

proptest! {
    #[test]
    fn what_is_shown_reads_back(text in any_address()) {
        if let Ok(address) = Address::parse(&text) {
            prop_assert_eq!(Address::parse(&address.to_string()), Ok(address));
        }
    }

    #[test]
    fn most_made_addresses_are_good(text in "[a-z0-9]{1,20}(\\.[a-z]{1,9})?@[a-z]{1,20}\\.[a-z]{2,6}") {
        prop_assert!(Address::parse(&text).is_ok());
    }

    #[test]
    fn a_canonical_form_is_its_own(text in any_address(), exact: bool) {
        let case = if exact { LocalPartCase::Exact } else { LocalPartCase::Ignored };
        if let Ok(address) = Address::parse(&text) {
            let canonical = address.canonical(case);
            if let Ok(again) = Address::parse(&canonical.to_string()) {
                prop_assert_eq!(again.canonical(case), canonical);
            } else {
                // Normalising may lengthen: only a form that grew may be no address.
                prop_assert!(canonical.local.len() > address.local_part().len());
            }
        }
    }

    #[test]
    fn no_text_does_harm(text in "\\PC{0,40}@?\\PC{0,40}") {
        let _ = Address::parse(&text).map(|address| address.canonical(LocalPartCase::Ignored));
    }
}

/// RFC 5321 §4.5.3.1: what is just as long as may be is an address; 253 as text are the 255 of the DNS (RFC 1035 §3.1).
#[test]
fn the_longest_of_each_part_is_one() {
    let of = |octets: usize| "a".repeat(octets);
    let domain = |last: usize| format!("{0}.{0}.{0}.{1}", of(LABEL_MAX), of(last));
    assert_eq!(domain(61).len(), DOMAIN_MAX);
    assert!(Domain::parse(&domain(61)).is_ok());
    assert_eq!(Domain::parse(&domain(62)), Err(AddressFault::DomainTooLong));
    assert!(Domain::parse(&format!("{}.example", of(LABEL_MAX))).is_ok());
    assert_eq!(Domain::parse(&format!("{}.example", of(LABEL_MAX + 1))), Err(AddressFault::LabelTooLong));
    let address = |local: usize, last: usize| Address::parse(&format!("{}@{1}.{1}.{2}", of(local), of(63), of(last)));
    assert_eq!(address(64, 61).map(|address| address.as_str().len()), Ok(ADDRESS_MAX));
    assert_eq!(address(64, 62), Err(AddressFault::TooLong));
    assert_eq!(address(65, 1), Err(AddressFault::LocalPartTooLong));
}

/// Fillers, selectors, marks and overrides of direction: an address that holds one looks like another.
#[test]
fn what_nobody_sees_is_in_no_address() {
    let unseen = "\u{ad}\u{200b}\u{200e}\u{200f}\u{202a}\u{202e}\u{2060}\u{206f}\u{34f}\u{115f}\u{1160}\u{17b4}\u{17b5}\u{180b}\u{180f}\
        \u{3164}\u{ffa0}\u{fe00}\u{fe0f}\u{e0100}\u{e01ef}\u{61c}\u{feff}\u{fff9}\u{fffd}\u{e0000}\u{e007f}\u{2028}\u{3000}";
    for letter in unseen.chars() {
        let read = Address::parse(&format!("a{letter}b@example.com"));
        assert_eq!(read, Err(AddressFault::Misleading(letter)), "{}", letter.escape_unicode());
    }
    // Words of Persian and Sinhala need the joiners.
    for text in ["نامه\u{200c}ها@example.com", "ශ්\u{200d}රී@example.com"] {
        assert!(Address::parse(text).is_ok(), "{text}");
    }
}
