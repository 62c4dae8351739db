use proptest::prelude::*;

use super::*;

fn addresses(source: &str, destination: &str) -> Proxied {
    Proxied::Client { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
}

/// A version 2 header: command, family, the block behind the length.
fn binary(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    [&SIGNATURE[..], &[command, family], &length, block].concat()
}

/// 192.0.2.7:40000 to 192.0.2.1:587.
const BLOCK_V4: [u8; 12] = [192, 0, 2, 7, 192, 0, 2, 1, 0x9c, 0x40, 0x02, 0x4b];

fn block_v6(source: &str, destination: &str) -> Vec<u8> {
    let octets = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
    [&octets(source)[..], &octets(destination), &[0x9c, 0x40, 0x02, 0x4b]].concat()
}

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind][..], &u16::try_from(value.len()).unwrap().to_be_bytes(), value].concat()
}

/// A header of version 2 with a checksum between other TLVs; `xor` spoils it.
fn with_checksum(xor: u32) -> Vec<u8> {
    let build = |sum: u32| {
        let tlvs = [tlv(0x01, b"smtp"), tlv(TYPE_CRC32C, &sum.to_be_bytes()), tlv(0x04, &[0; 9])].concat();
        binary(0x21, 0x11, &[&BLOCK_V4[..], &tlvs].concat())
    };
    build(crc32c(build(0).iter()) ^ xor)
}

/// Octets whole, octet by octet, and in two pieces at each place; behind a good header octets that are no part of it.
fn check(claim: &str, octets: &[u8], expected: Result<Proxied, ProxyFault>) {
    let read = |pieces: &[&[u8]]| {
        let (mut reader, mut whole) = (HeaderReader::default(), 0);
        for piece in pieces {
            let (taken, proxied) = reader.take(piece)?;
            whole += taken;
            if let Some(proxied) = proxied {
                return Ok((whole, proxied));
            }
            assert_eq!(taken, piece.len(), "{claim}: octets were left though the header is not whole");
        }
        panic!("{claim}: the header has no end: {}", octets.escape_ascii());
    };
    let expected = expected.map(|proxied| (octets.len(), proxied));
    let more = [octets, b"\x16\x03\x01EHLO\r\n"].concat();
    let singly: Vec<&[u8]> = more.chunks(1).collect();
    assert_eq!(read(&singly), expected, "{claim}, octet by octet");
    for at in 0..=more.len() {
        let (front, back) = more.split_at(at);
        assert_eq!(read(&[front, back]), expected, "{claim}, in two pieces at {at}");
    }
}

/// Not one octet less is a header, and none is asked for that does not belong to it.
fn check_beginnings(octets: &[u8]) {
    for end in 0..octets.len() {
        let mut reader = HeaderReader::default();
        assert_eq!(reader.take(&octets[..end]), Ok((end, None)), "{end} octets of {}", octets.escape_ascii());
        let wanted = reader.wants();
        assert!(wanted > 0 && end + wanted <= octets.len(), "{wanted} are wanted behind {end}");
    }
}

#[test]
fn the_line_of_version_1_is_read_strictly() {
    let four = addresses("192.0.2.7:40000", "192.0.2.1:587");
    let six = addresses("[2001:db8::7]:40000", "[2001:db8::1]:465");
    let nobody = |text: &str| ProxyFault::Nobody(text.parse().unwrap());
    for (line, expected) in [
        ("TCP4 192.0.2.7 192.0.2.1 40000 587\r\n", Ok(four)),
        ("TCP6 2001:db8::7 2001:db8::1 40000 465\r\n", Ok(six)),
        ("TCP6 2001:0DB8:0:0:0:0:0:7 2001:db8::1 40000 465\r\n", Ok(six)),
        ("TCP6 ::ffff:192.0.2.7 ::ffff:192.0.2.1 40000 587\r\n", Ok(four)),
        ("TCP4 192.0.2.7 192.0.2.1 0 65535\r\n", Ok(addresses("192.0.2.7:0", "192.0.2.1:65535"))),
        ("UNKNOWN\r\n", Ok(Proxied::Probe)),
        ("UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", Ok(Proxied::Probe)),
        ("UNKNOWN \u{e4} anything\r\n", Ok(Proxied::Probe)),
        ("UNKNOWNS\r\n", Err(ProxyFault::Words)),
        ("TCP4 192.0.2.7 192.0.2.1 40000\r\n", Err(ProxyFault::Words)),
        ("TCP4 192.0.2.7 192.0.2.1 40000 587 \r\n", Err(ProxyFault::Words)),
        ("TCP4 192.0.2.7 192.0.2.1 40000 587 1\r\n", Err(ProxyFault::Words)),
        ("TCP4  192.0.2.7 192.0.2.1 40000 587\r\n", Err(ProxyFault::Words)),
        ("TCP4\t192.0.2.7 192.0.2.1 40000 587\r\n", Err(ProxyFault::Words)),
        ("\u{e4}xxxxxxxxxxx\r\n", Err(ProxyFault::Words)),
        ("tcp4 192.0.2.7 192.0.2.1 40000 587\r\n", Err(ProxyFault::Family)),
        ("UDP4 192.0.2.7 192.0.2.1 40000 587\r\n", Err(ProxyFault::Family)),
        ("TCP4 2001:db8::7 192.0.2.1 40000 587\r\n", Err(ProxyFault::Address)),
        ("TCP6 192.0.2.7 2001:db8::1 40000 587\r\n", Err(ProxyFault::Address)),
        ("TCP4 192.0.02.7 192.0.2.1 40000 587\r\n", Err(ProxyFault::Address)),
        ("TCP4 192.0.2.256 192.0.2.1 40000 587\r\n", Err(ProxyFault::Address)),
        ("TCP4 192.0.2 192.0.2.1 40000 587\r\n", Err(ProxyFault::Address)),
        ("TCP6 fe80::1%eth0 2001:db8::1 40000 587\r\n", Err(ProxyFault::Address)),
        ("TCP6 [2001:db8::7] 2001:db8::1 40000 587\r\n", Err(ProxyFault::Address)),
        ("TCP4 192.0.2.7 192.0.2.1 65536 587\r\n", Err(ProxyFault::Port)),
        ("TCP4 192.0.2.7 192.0.2.1 040000 587\r\n", Err(ProxyFault::Port)),
        ("TCP4 192.0.2.7 192.0.2.1 00 587\r\n", Err(ProxyFault::Port)),
        ("TCP4 192.0.2.7 192.0.2.1 +4000 587\r\n", Err(ProxyFault::Port)),
        ("TCP4 192.0.2.7 192.0.2.1 -1 587\r\n", Err(ProxyFault::Port)),
        ("TCP4 192.0.2.7 192.0.2.1  587\r\n", Err(ProxyFault::Port)),
        ("TCP4 0.0.0.0 192.0.2.1 40000 587\r\n", Err(nobody("0.0.0.0"))),
        ("TCP4 0.1.2.3 192.0.2.1 40000 587\r\n", Err(nobody("0.1.2.3"))),
        ("TCP4 224.0.0.1 192.0.2.1 40000 587\r\n", Err(nobody("224.0.0.1"))),
        ("TCP4 192.0.2.7 255.255.255.255 40000 587\r\n", Err(nobody("255.255.255.255"))),
        ("TCP6 :: 2001:db8::1 40000 587\r\n", Err(nobody("::"))),
        ("TCP6 ff02::1 2001:db8::1 40000 587\r\n", Err(nobody("ff02::1"))),
        ("TCP6 ::ffff:224.0.0.1 2001:db8::1 40000 587\r\n", Err(nobody("224.0.0.1"))),
        ("TCP4 192.0.2.7 192.0.2.1 40000 587\n", Err(ProxyFault::LineEnd)),
        ("TCP4 192.0.2.7 192.0.2.1 40000 587\rX", Err(ProxyFault::LineEnd)),
        ("TCP4 192.0.2.7 192.0.2.1 40000 587\r\r\n", Err(ProxyFault::LineEnd)),
        ("UNKNOWN a\nb\r\n", Err(ProxyFault::LineEnd)),
        ("UNKNOWN a\rb\r\n", Err(ProxyFault::LineEnd)),
        ("\r\n", Err(ProxyFault::Words)),
    ] {
        let octets = [b"PROXY ", line.as_bytes()].concat();
        check(line, &octets, expected);
        if expected.is_ok() {
            check_beginnings(&octets);
        }
    }
}

#[test]
fn a_line_has_107_octets_at_most() {
    let line = |filler: usize| [b"PROXY UNKNOWN ", "x".repeat(filler).as_bytes(), b"\r\n"].concat();
    let (longest, longer) = (line(LINE_MAX - 16), line(LINE_MAX - 15));
    assert_eq!((longest.len(), longer.len()), (107, 108));
    check("the longest line", &longest, Ok(Proxied::Probe));
    check_beginnings(&longest);
    check("a longer line", &longer, Err(ProxyFault::LongLine));
    check("no end", &line(500), Err(ProxyFault::LongLine));
    for end in [&b"\n"[..], b"\r\n", b"x\n", b"\rx"] {
        check("an end where none can be", &[&longer[..LINE_MAX - 1], end].concat(), Err(ProxyFault::LongLine));
    }
}

#[test]
fn the_binary_header_of_version_2_is_read_strictly() {
    let four = addresses("192.0.2.7:40000", "192.0.2.1:587");
    let six = addresses("[2001:db8::7]:40000", "[2001:db8::1]:587");
    let v6 = block_v6("2001:db8::7", "2001:db8::1");
    let after = |tlvs: &[u8]| [&BLOCK_V4[..], tlvs].concat();
    let nobody = |text: &str| ProxyFault::Nobody(text.parse().unwrap());
    let long = |length: usize| [&BLOCK_V4[..], &tlv(0xee, &vec![7; length - 15])].concat();
    let zero = [&[0; 4], &BLOCK_V4[4..]].concat();
    let multicast = [&BLOCK_V4[..4], &[239, 1, 2, 3], &BLOCK_V4[8..]].concat();
    for (claim, octets, expected) in [
        ("TCP over IPv4", binary(0x21, 0x11, &BLOCK_V4), Ok(four)),
        ("TCP over IPv6", binary(0x21, 0x21, &v6), Ok(six)),
        ("IPv4 as IPv6", binary(0x21, 0x21, &block_v6("::ffff:192.0.2.7", "::ffff:192.0.2.1")), Ok(four)),
        ("LOCAL", binary(0x20, 0x00, &[]), Ok(Proxied::Probe)),
        ("LOCAL with addresses", binary(0x20, 0x11, &BLOCK_V4), Ok(Proxied::Probe)),
        ("LOCAL of any family, with anything", binary(0x20, 0xff, &[1, 2, 3]), Ok(Proxied::Probe)),
        ("AF_UNSPEC", binary(0x21, 0x00, &[]), Ok(Proxied::Probe)),
        ("AF_UNSPEC with TLVs", binary(0x21, 0x00, &tlv(0x04, &[0; 40])), Ok(Proxied::Probe)),
        ("TLVs nobody knows", binary(0x21, 0x11, &after(&[tlv(0xe0, b"x"), tlv(0x20, &[])].concat())), Ok(four)),
        ("a right checksum", with_checksum(0), Ok(four)),
        ("a wrong checksum", with_checksum(1 << 17), Err(ProxyFault::Checksum)),
        ("a short checksum", binary(0x21, 0x11, &after(&tlv(3, &[0; 3]))), Err(ProxyFault::Checksum)),
        ("two checksums", binary(0x21, 0x11, &after(&tlv(3, &[0; 4]).repeat(2))), Err(ProxyFault::Checksum)),
        ("a TLV cut in its length", binary(0x21, 0x11, &after(&[4, 0])), Err(ProxyFault::Tlv)),
        ("a TLV beyond the header", binary(0x21, 0x11, &after(&[4, 0, 2, 0])), Err(ProxyFault::Tlv)),
        ("IPv4 one octet short", binary(0x21, 0x11, &BLOCK_V4[..11]), Err(ProxyFault::Short)),
        ("IPv6 one octet short", binary(0x21, 0x21, &v6[..35]), Err(ProxyFault::Short)),
        ("IPv6 with the addresses of IPv4", binary(0x21, 0x21, &BLOCK_V4), Err(ProxyFault::Short)),
        ("version 1 in binary", binary(0x11, 0x11, &BLOCK_V4), Err(ProxyFault::Command)),
        ("version 3", binary(0x31, 0x11, &BLOCK_V4), Err(ProxyFault::Command)),
        ("an unknown command", binary(0x22, 0x11, &BLOCK_V4), Err(ProxyFault::Command)),
        ("UDP over IPv4", binary(0x21, 0x12, &BLOCK_V4), Err(ProxyFault::Family)),
        ("UDP over IPv6", binary(0x21, 0x22, &v6), Err(ProxyFault::Family)),
        ("a UNIX socket", binary(0x21, 0x31, &[0; 216]), Err(ProxyFault::Family)),
        ("IPv4 without a transport", binary(0x21, 0x10, &BLOCK_V4), Err(ProxyFault::Family)),
        ("a family that is not there", binary(0x21, 0x41, &BLOCK_V4), Err(ProxyFault::Family)),
        ("from 0.0.0.0", binary(0x21, 0x11, &zero), Err(nobody("0.0.0.0"))),
        ("to a multicast group", binary(0x21, 0x11, &multicast), Err(nobody("239.1.2.3"))),
        ("from ::", binary(0x21, 0x21, &block_v6("::", "2001:db8::1")), Err(nobody("::"))),
        ("from ff02::1", binary(0x21, 0x21, &block_v6("ff02::1", "2001:db8::1")), Err(nobody("ff02::1"))),
    ] {
        check(claim, &octets, expected);
        if expected.is_ok() {
            check_beginnings(&octets);
        }
    }
    // Not octet by octet: they are long.
    for (length, expected) in [(LENGTH_MAX, Ok(four)), (LENGTH_MAX + 1, Err(ProxyFault::Long))] {
        let octets = binary(0x21, 0x11, &long(length));
        let read = HeaderReader::default().take(&octets);
        assert_eq!(read, expected.map(|proxied| (octets.len(), Some(proxied))), "{length}");
    }
}

#[test]
fn each_octet_that_differs_from_both_beginnings_ends_it_at_once() {
    for (octets, taken) in [
        (&b"EHLO client.example.com\r\n"[..], 1),
        (b"\x16\x03\x01\x02\x00\x01\x00", 1),
        (b"PROXZ", 5),
        (b"proxy TCP4", 1),
        (b"PROXYTCP4", 6),
        (b"\r\n\r\n\0\r\nQUIT\r", 12),
        (b"\r\n\r\nPROXY", 5),
    ] {
        let mut reader = HeaderReader::default();
        let singly = octets.iter().map(|octet| reader.take(&[*octet]));
        let before = singly.take_while(Result::is_ok).count();
        assert_eq!(before + 1, taken, "{}", octets.escape_ascii());
        assert_eq!(HeaderReader::default().take(octets), Err(ProxyFault::NoHeader));
    }
}

#[test]
fn the_checksum_is_crc32c() {
    // RFC 3720 appendix B.4, and the value that every catalogue of CRCs has.
    for (octets, expected) in [(&[0_u8; 32][..], 0x8a91_36aa), (&[0xff; 32], 0x62a8_ab43), (b"123456789", 0xe306_9283)]
    {
        assert_eq!(crc32c(octets.iter()), expected, "{}", octets.escape_ascii());
    }
}

#[test]
fn what_stands_behind_the_addresses_is_found_whatever_they_are() {
    let tlvs = [tlv(0x20, b"\x07\0\0\0\0"), tlv(0x04, b"")].concat();
    let six = block_v6("2001:db8::7", "2001:db8::1");
    for (claim, header, expected) in [
        ("IPv4", binary(0x21, 0x11, &[&BLOCK_V4[..], &tlvs].concat()), Some(tlvs.as_slice())),
        ("IPv6", binary(0x21, 0x21, &[&six, &tlvs[..]].concat()), Some(&tlvs)),
        ("none", binary(0x21, 0x11, &BLOCK_V4), Some(&[][..])),
        ("nobody's", binary(0x20, 0x00, &tlvs), Some(&tlvs)),
        ("version 1", b"PROXY TCP4 192.0.2.7 192.0.2.1 40000 587\r\n".to_vec(), None),
    ] {
        let mut reader = HeaderReader::default();
        assert!(matches!(reader.take(&header), Ok((taken, Some(_))) if taken == header.len()), "{claim}");
        assert_eq!(reader.tlvs(), expected, "{claim}");
    }
}

/// Octets that look like headers more often than chance has them.
fn anything() -> impl Strategy<Value = Vec<u8>> {
    let random = || proptest::collection::vec(any::<u8>(), 0..200);
    let line = "PROXY (TCP4|TCP6|UNKNOWN|[ -~]{0,4}) [0-9a-f.: ]{0,40} [0-9]{0,6}( [0-9]{0,6})?\r?\n?";
    let binary = (prop::sample::select(vec![0x20_u8, 0x21, 0x12]), any::<u8>(), 0..60_u8, random());
    prop_oneof![
        random(),
        line.prop_map(String::into_bytes),
        binary.prop_map(|(command, family, length, block)| {
            let family = if family < 100 {
                0x11
            } else if family < 200 {
                0x21
            } else {
                family
            };
            [&SIGNATURE[..], &[command, family, 0, length], &block].concat()
        }),
    ]
}

proptest! {
    #[test]
    fn no_octets_panic_and_every_split_says_the_same(
        octets in anything(),
        cuts in proptest::collection::vec(1..40_usize, 1..40),
    ) {
        let whole = HeaderReader::default().take(&octets);
        let (mut reader, mut at, mut cuts) = (HeaderReader::default(), 0, cuts.into_iter().cycle());
        let split = loop {
            let end = octets.len().min(at + cuts.next().unwrap());
            match reader.take(&octets[at..end]) {
                Ok((taken, None)) => prop_assert_eq!(taken, end - at),
                Ok((taken, found)) => break Ok((at + taken, found)),
                Err(fault) => break Err(fault),
            }
            prop_assert!(reader.wants() > 0);
            at = end;
            if at == octets.len() {
                break Ok((at, None));
            }
        };
        prop_assert_eq!(&split, &whole);
        // What was taken is the header whatever stands behind it, so that nothing behind it was looked at.
        if let Ok((taken, Some(found))) = whole {
            prop_assert_eq!(HeaderReader::default().take(&octets[..taken]), Ok((taken, Some(found))));
            prop_assert!(taken <= FIXED + LENGTH_MAX);
        }
    }
}
