//! Names as values: what is one, what is not, and what no escaping changes.

use proptest::prelude::*;

use super::*;
use crate::tls::recipe;

fn dn(text: &str) -> DistinguishedName {
    DistinguishedName::parse(text).unwrap_or_else(|fault| panic!("{text}: {fault}"))
}

/// The type's OID content, the value's tag, its octets.
type Part<'a> = (&'a [u8], u8, &'a [u8]);

/// A name's DER: one relative name for each list of parts.
fn der(sets: &[&[Part<'_>]]) -> Vec<u8> {
    let sets: Vec<Vec<u8>> = sets
        .iter()
        .map(|set| {
            let attributes: Vec<Vec<u8>> = set
                .iter()
                .map(|(kind, tag, value)| recipe::der(0x30, &[recipe::der(6, kind), recipe::der(*tag, value)].concat()))
                .collect();
            recipe::der(0x31, &attributes.concat())
        })
        .collect();
    recipe::der(0x30, &sets.concat())
}

fn of(octets: &[u8]) -> Result<Option<DistinguishedName>, &'static str> {
    let (_, name) = X509Name::from_der(octets).unwrap();
    DistinguishedName::of(&name)
}

const CN: &[u8] = &[0x55, 4, 3];
const O: &[u8] = &[0x55, 4, 10];
const UID: &[u8] = &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1];
const UTF8: u8 = 12;
const PRINTABLE: u8 = 19;
const TELETEX: u8 = 20;
const BMP: u8 = 30;

#[test]
fn a_text_is_the_value_it_writes_whatever_string_the_certificate_chose() {
    let alice = dn("CN=Alice,O=Example");
    for tag in [UTF8, PRINTABLE, TELETEX] {
        assert_eq!(of(&der(&[&[(O, tag, b"Example")], &[(CN, tag, b"Alice")]])), Ok(Some(alice.clone())), "{tag}");
    }
    assert_eq!(of(&der(&[&[(O, UTF8, b"Example")], &[(CN, BMP, b"\0A\0l\0i\0c\0e")]])), Ok(Some(alice)));
    let both = dn("CN=Alice+UID=7,O=Example");
    for set in [[(CN, UTF8, b"Alice".as_slice()), (UID, UTF8, b"7")], [(UID, UTF8, b"7"), (CN, UTF8, b"Alice")]] {
        assert_eq!(of(&der(&[&[(O, UTF8, b"Example")], &set])), Ok(Some(both.clone())));
    }
}

#[test]
fn only_the_same_values_in_the_same_order_are_one_name() {
    for (one, other) in [
        ("CN=Alice,O=Example", "cn=Alice, o = Example"),
        ("CN=Alice+UID=7,O=Example", "UID=7+CN=Alice,O=Example"),
        ("CN=a\\,b", "CN=a\\2Cb"),
        ("CN=a\\2cO\\3dX", "2.5.4.3=a\\,O\\=X"),
        ("CN=Z\\C3\\BC", "CN=Zü"),
        ("CN=Zu\u{308}", "CN=Zü"),
        ("CN=#0C05416C696365", "CN=Alice"),
        ("CN=#1305416c696365", "CN=Alice"),
        ("E=a@example.com", "1.2.840.113549.1.9.1=a@example.com"),
        // RFC 4514 §3.
        (
            "cn=1,l=2,st=3,o=4,ou=5,c=6,street=7,dc=8,uid=9",
            "2.5.4.3=1,2.5.4.7=2,2.5.4.8=3,2.5.4.10=4,2.5.4.11=5,2.5.4.6=6,2.5.4.9=7,0.9.2342.19200300.100.1.25=8,\
             0.9.2342.19200300.100.1.1=9",
        ),
        ("CN=Alice  ", "CN=Alice"),
        ("CN=a=b", "CN=a\\=b"),
    ] {
        assert_eq!(dn(one), dn(other), "{one} | {other}");
    }
    for (one, other) in [
        ("CN=Alice,O=Example", "CN=alice,O=Example"),
        ("CN=Alice,O=Example", "O=Example,CN=Alice"),
        ("CN=Alice,O=Example", "CN=Alice+O=Example"),
        ("CN=Alice,O=Example", "CN=Alice\\,O\\=Example"),
        ("CN=Alice,OU=x,O=Example", "CN=Alice,O=Example"),
        ("CN=Alice\\ ", "CN=Alice"),
        ("CN=Al  ice", "CN=Al ice"),
        ("CN=Alice", "OU=Alice"),
        ("CN=Alice", "CN=#0405416C696365"),
        ("CN=Аlice", "CN=Alice"),
    ] {
        assert_ne!(dn(one), dn(other), "{one} | {other}");
    }
}

#[test]
fn what_is_no_name_is_told_with_what_to_write() {
    for (text, said) in [
        ("", "it is empty"),
        ("  ", "it is empty"),
        ("Alice", "has no ="),
        ("CN=Alice,", "has no ="),
        ("CN=Smith, Alice", "has no ="),
        ("XX=Alice", "no attribute type"),
        ("2.05.4=Alice", "no attribute type"),
        ("5=Alice", "no attribute type"),
        ("CN=", "has no value"),
        ("CN=\"Alice\"", "is written \\\""),
        ("CN=a;O=b", "is written \\;"),
        ("CN=a<b", "is written \\<"),
        ("CN=a\\", "after a \\"),
        ("CN=a\\q", "after a \\"),
        ("CN=a\\ff", "not UTF-8"),
        ("CN=a\\00", "control"),
        ("CN=a\\0d\\0a", "control"),
        ("CN=a\nb", "control"),
        ("CN=#", "one DER value"),
        ("CN=#0c", "one DER value"),
        ("CN=#0C0141FF", "one DER value"),
        ("CN=#xy", "one DER value"),
        ("CN=a+CN=a", "twice"),
        (&format!("CN={}", "a".repeat(NAME_MAX)), "longer"),
        (&vec!["CN=a"; ATTRIBUTES_MAX + 1].join(","), "longer"),
    ] {
        let told = DistinguishedName::parse(text).expect_err(text).to_string();
        assert!(told.contains(said), "{text:?}: {told}");
    }
}

#[test]
fn the_longest_names_are_names() {
    let text = |octets: usize| DistinguishedName::parse(&format!("CN={}", "a".repeat(octets - 3)));
    assert!(text(NAME_MAX).is_ok());
    assert_eq!(text(NAME_MAX + 1), Err(DnFault::TooLong));
    let part: &[Part<'_>] = &[(CN, UTF8, b"a")];
    for (count, is_name) in [(ATTRIBUTES_MAX, true), (ATTRIBUTES_MAX + 1, false), (ATTRIBUTES_MAX + 2, false)] {
        assert_eq!(DistinguishedName::parse(&vec!["CN=a"; count].join(",")).is_ok(), is_name, "{count}");
        assert_eq!(of(&der(&vec![part; count])).is_ok(), is_name, "{count}");
    }
}

/// RFC 4514 §2.4: what need not be escaped stands as it is, so that people read what they wrote; what could deceive their eyes is escaped.
#[test]
fn a_name_is_written_as_people_write_it() {
    for text in ["CN=Al ice-Zü,O=a#b=c.d", "CN=\\#a,O=\\ a\\ ", "CN=a\\e2\\80\\94b", "CN=a\\,b\\+c"] {
        assert_eq!(dn(text).to_string(), text);
    }
    assert_eq!(SerialNumber::parse("decimal:2587").unwrap().to_string(), "0xa1b");
}

#[test]
fn a_name_with_controls_or_false_strings_is_unusable() {
    for (tag, value) in [
        (UTF8, b"Alice\0".as_slice()),
        (UTF8, b"Ali\r\nce"),
        (UTF8, b"\xff"),
        (PRINTABLE, b"\xe4"),
        (BMP, b"\0A\0"),
        (BMP, b"\xd8\0"),
        (UTF8, b""),
    ] {
        assert!(of(&der(&[&[(CN, tag, value)]])).is_err(), "{tag} {value:?}");
    }
    assert_eq!(of(&der(&[])), Ok(None));
    let latin = of(&der(&[&[(CN, TELETEX, b"M\xfcller")]])).unwrap().unwrap();
    assert_eq!(latin.to_string(), "CN=#14064dfc6c6c6572");
    assert_eq!(dn(&latin.to_string()), latin);
}

#[test]
fn a_name_written_backwards_is_noticed() {
    assert!(dn("C=DE,O=Example,CN=Alice").looks_reversed());
    assert!(dn("O=Example,CN=Alice").looks_reversed());
    assert!(!dn("CN=Alice,O=Example,C=DE").looks_reversed());
    assert!(!dn("CN=Alice").looks_reversed());
}

proptest! {
    #[test]
    fn a_name_written_out_is_read_back_as_the_same(values in proptest::collection::vec("[ -~äß\u{2014}]{1,12}", 1..5)) {
        let sets: Vec<[Part<'_>; 1]> = values.iter().map(|value| [(CN, UTF8, value.as_bytes())]).collect();
        let sets: Vec<&[Part<'_>]> = sets.iter().map(|set| set.as_slice()).collect();
        let name = of(&der(&sets)).unwrap().unwrap();
        prop_assert_eq!(DistinguishedName::parse(&name.to_string()), Ok(name));
    }

    #[test]
    fn no_text_panics_and_what_is_read_writes_itself(text in "[ -~\u{0}-\u{20}äß]{0,40}") {
        if let Ok(name) = DistinguishedName::parse(&text) {
            prop_assert_eq!(DistinguishedName::parse(&name.to_string()), Ok(name));
        }
    }
}

#[test]
fn a_serial_is_one_number_however_it_is_written() {
    let serial = |text: &str| SerialNumber::parse(text);
    for text in ["0x0a1b", "0X0A1B", "0a:1b", "0A:1B", "0a1b", "A1b", "000a1b", "decimal:2587", "decimal:0002587"] {
        assert_eq!(serial(text), Ok(SerialNumber("a1b".into())), "{text}");
    }
    assert_eq!(serial("7"), serial("decimal:7"));
    assert_eq!(serial("10:00"), serial("decimal:4096"));
    assert_eq!(serial("0"), Ok(SerialNumber("0".into())));
    let most = "f".repeat(40);
    assert_eq!(serial("decimal:1461501637330902918203684832716283019655932542975"), serial(&most));
    for (text, said) in [
        ("4096", "could be hexadecimal or decimal; write 0x4096"),
        ("10", "could be"),
        ("", "not a serial"),
        ("0x", "not a serial"),
        ("xyz", "not a serial"),
        ("-5", "not a serial"),
        ("0a:1b2", "not a serial"),
        ("0a::1b", "not a serial"),
        ("decimal:a", "not a serial"),
        ("decimal:", "not a serial"),
        (&"f".repeat(41), "longer than 20 octets"),
        ("decimal:1461501637330902918203684832716283019655932542976", "longer than 20 octets"),
        (&format!("decimal:{}", "9".repeat(10_000)), "longer than 20 octets"),
    ] {
        let told = serial(text).expect_err(text).to_string();
        assert!(told.contains(said), "{text}: {told}");
    }
    assert_eq!(SerialNumber::of(&[0, 0xff]), serial("0xff").ok());
    assert_eq!(SerialNumber::of(&[0xff]), None, "negative");
    assert_eq!(SerialNumber::of(&[1; 21]), None);
    assert_eq!(SerialNumber::of(&[]), None);
}
