//! Where messages end, and where they do not, on the wire and in chunks; what is written.

use super::*;

fn read(octets: &[u8]) -> (Vec<u8>, DotProgress) {
    let mut message = Vec::new();
    let progress = DotReader::default().read(octets, &mut message);
    (message, progress)
}

#[test]
fn only_a_dot_alone_on_a_line_of_crlf_ends_the_data() {
    let table: [(&[u8], &[u8], usize); 8] = [
        (b".\r\n", b"", 3),
        (b"\r\n.\r\n", b"\r\n", 5),
        (b"a\r\n.\r\nQUIT\r\n", b"a\r\n", 6),
        (b"..\r\n.\r\n", b".\r\n", 7),
        (b"...\r\n.\r\n", b"..\r\n", 8),
        (b".a\r\n.\r\n", b"a\r\n", 7),
        (b"a.\r\n.\r\n", b"a.\r\n", 7),
        (b"a\r\n..\r\n.\r\n.\r\n", b"a\r\n.\r\n", 10),
    ];
    for (octets, message, consumed) in table {
        let expected = (message.to_vec(), DotProgress { consumed, state: DotState::End });
        assert_eq!(read(octets), expected, "{}", octets.escape_ascii());
    }
}

/// CVE-2023-51764, -51765, -51766, CVE-2023-52354 and their kin: what some server took for the end of data.
#[test]
fn no_smuggled_end_is_taken() {
    use OctetFault::{BareCr, BareLf, Nul};
    let table: [(&[u8], OctetFault, usize); 17] = [
        (b"\n.\n", BareLf, 2),
        (b"\n.\r\n", BareLf, 2),
        (b"\r.\r", BareCr, 2),
        (b"\r.\r\n", BareCr, 2),
        (b"\r.\n", BareCr, 2),
        (b"\r\n.\n", BareLf, 5),
        (b"\r\n.\r.", BareCr, 5),
        (b"\r\n.\r\r\n", BareCr, 5),
        (b"\r\n\r.\r\n", BareCr, 4),
        (b"\r\n\n.\r\n", BareLf, 4),
        (b"\r\r\n.\r\n", BareCr, 2),
        (b"\r\n.\0\r\n", Nul, 5),
        (b"\r\n\0.\r\n", Nul, 4),
        (b"\r\0\n.\r\n", BareCr, 2),
        (b"\r\n.x\n", BareLf, 6),
        (b"\r\n..\n", BareLf, 6),
        (b"\0", Nul, 2),
    ];
    for (end, fault, consumed) in table {
        let stream = [b"x", end, b"MAIL FROM:<ceo@example.com>\r\n"].concat();
        let (_, progress) = read(&stream);
        assert_eq!(progress, DotProgress { consumed, state: DotState::Fault(fault) }, "{}", end.escape_ascii());
    }
}

/// The same where a bare LF is read as CRLF: what could be an end to somebody else is text of the one message, or refused all the same. What
/// goes on is stuffed, so that nobody behind us takes it for an end either.
#[test]
fn no_smuggled_end_is_taken_where_lf_is_read_as_crlf() {
    /// What it comes to.
    type Read = Result<&'static [u8], OctetFault>;
    let table: [(&[u8], Read); 19] = [
        (b"\n.\n", Ok(b"\r\n.\r\n")),
        (b"\n.\r\n", Ok(b"\r\n.\r\n")),
        (b"\r\n.\n", Ok(b"\r\n.\r\n")),
        (b"\n\n.\n\n", Ok(b"\r\n\r\n.\r\n\r\n")),
        (b"\r\n\n.\r\n", Ok(b"\r\n\r\n.\r\n")),
        (b"\n\r\n.\n", Ok(b"\r\n\r\n.\r\n")),
        (b"\n..\n", Ok(b"\r\n.\r\n")),
        (b"\n.x\n", Ok(b"\r\nx\r\n")),
        (b"\r\n..\n", Ok(b"\r\n.\r\n")),
        (b"\r.\r", Err(OctetFault::BareCr)),
        (b"\r.\n", Err(OctetFault::BareCr)),
        (b"\r.\r\n", Err(OctetFault::BareCr)),
        (b"\n.\rx", Err(OctetFault::BareCr)),
        (b"\n.\r\r\n", Err(OctetFault::BareCr)),
        (b"\r\n.\r.", Err(OctetFault::BareCr)),
        (b"\r\r\n.\r\n", Err(OctetFault::BareCr)),
        (b"\n.\0", Err(OctetFault::Nul)),
        (b"\r\n.\0\r\n", Err(OctetFault::Nul)),
        (b"\r\n\0.\r\n", Err(OctetFault::Nul)),
    ];
    let command = b"MAIL FROM:<ceo@example.com>\r\n";
    for (end, expected) in table {
        let stream = [b"x", end, command, b".\r\nQUIT\r\n"].concat();
        let mut message = Vec::new();
        let progress = DotReader::new(BareLf::Normalized).read(&stream, &mut message);
        match expected {
            Ok(text) => {
                let (consumed, state) = (stream.len() - b"QUIT\r\n".len(), DotState::End);
                assert_eq!(progress, DotProgress { consumed, state }, "{}", end.escape_ascii());
                assert_eq!(message, [b"x", text, command].concat(), "{}", end.escape_ascii());
                let mut wire = Vec::new();
                let mut writer = DotWriter::default();
                writer.write(&message, &mut wire);
                assert!(!wire.windows(5).any(|five| five == b"\r\n.\r\n"), "{}", end.escape_ascii());
            }
            Err(fault) => assert_eq!(progress.state, DotState::Fault(fault), "{}", end.escape_ascii()),
        }
        // In a chunk no dot means anything, and the octets are held to the same.
        let mut chunk = OctetReader::new(BareLf::Normalized);
        chunk.begin(u64::try_from(end.len()).unwrap(), Chunk::Last);
        let mut octets = Vec::new();
        let state = chunk.read(end, &mut octets).state;
        assert_eq!(state, expected.map_or_else(DotState::Fault, |_| DotState::End), "{}", end.escape_ascii());
        assert!(!octets.windows(2).any(|two| two[1] == b'\n' && two[0] != b'\r') && octets.first() != Some(&b'\n'));
    }
}

#[test]
fn the_data_of_lf_alone_ends_by_crlf_dot_crlf() {
    let mut message = Vec::new();
    let progress = DotReader::new(BareLf::Normalized).read(b"From: a\n\nhi\n..dots\n.\n\r\n.\r\nQUIT", &mut message);
    assert_eq!(progress, DotProgress { consumed: 26, state: DotState::End });
    assert_eq!(message, b"From: a\r\n\r\nhi\r\n.dots\r\n.\r\n\r\n");
}

#[test]
fn behind_the_end_nothing_more_is_taken() {
    let mut reader = DotReader::default();
    let mut message = Vec::new();
    assert_eq!(reader.read(b".\r\n", &mut message).state, DotState::End);
    assert_eq!(reader.read(b"x", &mut message), DotProgress { consumed: 0, state: DotState::End });
    let mut reader = DotReader::default();
    let fault = DotState::Fault(OctetFault::BareLf);
    assert_eq!(reader.read(b"\n", &mut message).state, fault);
    assert_eq!(reader.discard(b".\r\n"), DotProgress { consumed: 0, state: fault });
    assert!(message.is_empty());
}

#[test]
fn the_longest_line_is_known_before_it_ends() {
    let mut reader = DotReader::default();
    reader.discard(b"abc\r\n.");
    assert_eq!(reader.longest_line(), 3);
    reader.discard(b".23");
    assert_eq!(reader.longest_line(), 3);
    reader.discard(b"4567");
    assert_eq!(reader.longest_line(), 7);
    reader.discard(b"\r\nab\r\n.\r\n");
    assert_eq!(reader.longest_line(), 7);
}

#[test]
fn a_chunk_ends_by_its_count_and_not_by_a_dot() {
    let mut reader = OctetReader::default();
    let mut message = Vec::new();
    reader.begin(8, Chunk::Last);
    let progress = reader.read(b"a\r\n.\r\nb\nQUIT\r\n", &mut message);
    assert_eq!(progress, DotProgress { consumed: 8, state: DotState::Fault(OctetFault::BareLf) });
    let mut reader = OctetReader::default();
    message.clear();
    reader.begin(6, Chunk::Middle);
    assert_eq!(reader.read(b"a\r\n.\r\nQUIT\r\n", &mut message), DotProgress { consumed: 6, state: DotState::End });
    assert_eq!(message, b"a\r\n.\r\n");
}

#[test]
fn a_cr_at_the_end_of_a_chunk_waits_for_the_next() {
    let table: [(&[u8], DotState); 3] = [
        (b"\nb", DotState::End),
        (b"b", DotState::Fault(OctetFault::BareCr)),
        (b"", DotState::Fault(OctetFault::BareCr)),
    ];
    for (second, state) in table {
        let mut reader = OctetReader::default();
        let mut message = Vec::new();
        reader.begin(2, Chunk::Middle);
        assert_eq!(reader.read(b"a\r", &mut message).state, DotState::End);
        reader.begin(u64::try_from(second.len()).unwrap(), Chunk::Last);
        assert_eq!(reader.read(second, &mut message).state, state, "{}", second.escape_ascii());
    }
}

#[test]
fn behind_a_fault_the_rest_of_the_chunk_can_be_discarded() {
    let mut reader = OctetReader::default();
    reader.begin(6, Chunk::Last);
    let first = reader.read(b"a\nb", &mut Vec::new());
    assert_eq!(first, DotProgress { consumed: 2, state: DotState::Fault(OctetFault::BareLf) });
    assert_eq!(reader.discard(b"b\0"), DotProgress { consumed: 2, state: DotState::More });
    assert_eq!(reader.discard(b"\n\nNOOP\r\n"), DotProgress { consumed: 2, state: DotState::End });
    assert_eq!(reader.remaining(), 0);
}

#[test]
fn the_writer_adds_no_line_end_that_is_there() {
    let table: [(&[u8], &[u8]); 7] = [
        (b"", b".\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b"a\r\n", b"a\r\n.\r\n"),
        (b"a\r\n\r\n", b"a\r\n\r\n.\r\n"),
        (b".", b"..\r\n.\r\n"),
        (b".a\r\n.\r\n..b\r\n", b"..a\r\n..\r\n...b\r\n.\r\n"),
        (b"a\r\n.b.c", b"a\r\n..b.c\r\n.\r\n"),
    ];
    for (message, wire) in table {
        let mut written = Vec::new();
        let mut writer = DotWriter::default();
        writer.write(message, &mut written);
        writer.finish(&mut written);
        assert_eq!(written.escape_ascii().to_string(), wire.escape_ascii().to_string());
    }
}

#[test]
fn nothing_written_can_end_the_data_early_at_a_loose_receiver() {
    for message in [&b"a\n.\nb"[..], b"a\n.\r\nb", b"a\r.\rb", b"a\r\n.\nb", b"a\r\r\n.\r\nb", b".\n"] {
        let mut written = Vec::new();
        let mut writer = DotWriter::default();
        message.chunks(1).for_each(|piece| writer.write(piece, &mut written));
        writer.finish(&mut written);
        let text = String::from_utf8(written).unwrap();
        let lines: Vec<&str> = text.split("\r\n").collect();
        assert!(!lines.iter().any(|line| line.contains(['\r', '\n'])), "{text:?}");
        assert_eq!(lines.iter().position(|&line| line == "."), Some(lines.len() - 2), "{text:?}");
    }
}

#[test]
fn every_cut_in_two_gives_the_same_data() {
    let stream = b"..a\r\nb\r\n.\r\nQUIT\r\n";
    for cut in 0..stream.len() {
        let mut reader = DotReader::default();
        let mut message = Vec::new();
        let first = reader.read(&stream[..cut], &mut message);
        let second = reader.read(&stream[first.consumed..], &mut message);
        assert_eq!(second.state, DotState::End, "cut at {cut}");
        assert_eq!((message.as_slice(), first.consumed + second.consumed), (&b".a\r\nb\r\n"[..], 11), "cut at {cut}");
    }
}
