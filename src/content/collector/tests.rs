//! The section ends at the same octet however the stream is cut.

use proptest::prelude::*;

use super::*;
use crate::mail::header::HeaderSection;

fn limits(section: usize) -> HeaderLimits {
    HeaderLimits { section, ..HeaderLimits::default() }
}

#[test]
fn the_blank_line_ends_it_even_over_pieces() {
    let mut collector = HeaderCollector::new(&limits(100));
    assert_eq!(collector.push(b"A: b\r\n\r"), Ok(Collected::More));
    assert_eq!(collector.push(b"\nbody\r\n\r\n"), Ok(Collected::Whole { consumed: 1 }));
    assert_eq!(collector.push(b"more"), Ok(Collected::Whole { consumed: 0 }));
    assert_eq!(collector.section(), b"A: b\r\n\r\n");
}

#[test]
fn a_message_that_begins_with_a_blank_line_has_an_empty_section() {
    let mut collector = HeaderCollector::new(&limits(100));
    assert_eq!(collector.push(b"\r\nFrom: a@x\r\n"), Ok(Collected::Whole { consumed: 2 }));
}

#[test]
fn an_endless_header_is_let_go_at_the_limit() {
    let mut collector = HeaderCollector::new(&limits(16));
    assert_eq!(collector.push(b"A: 45678"), Ok(Collected::More));
    assert_eq!(collector.push(b"9abcdef\r\n"), Err(HeaderFault::TooLarge { limit: 16 }));
    assert!(collector.section().is_empty());
    assert_eq!(collector.push(b"x"), Err(HeaderFault::TooLarge { limit: 16 }));
}

/// Whoever has a budget asks for it before each piece: seldom, and never for less than is then held.
#[test]
fn what_will_be_held_is_known_before_and_asked_for_in_a_few_steps() {
    const LIMIT: usize = 256 * 1024;
    for piece in [1, 78, 4096, 16 * 1024, 100_000] {
        let mut collector = HeaderCollector::new(&limits(LIMIT));
        let mut asked = vec![0];
        for _ in 0..LIMIT / piece {
            let would_hold = collector.would_hold(piece);
            if asked.last() != Some(&would_hold) {
                asked.push(would_hold);
            }
            assert_eq!(collector.push(&vec![b'a'; piece]), Ok(Collected::More));
            let held = collector.section.capacity();
            assert!(held <= would_hold && would_hold <= LIMIT, "{piece}: {held} and not {would_hold}");
        }
        assert!(asked.len() < 10 && asked.is_sorted(), "{piece}: {asked:?}");
        assert_eq!(collector.would_hold(LIMIT), LIMIT, "{piece}: the body behind it does not count");
        collector.give_up();
        assert_eq!(collector.section.capacity(), 0);
        assert!(collector.push(b"a").is_err());
    }
}

#[test]
fn a_section_of_just_the_limit_passes() {
    let mut collector = HeaderCollector::new(&limits(8));
    assert_eq!(collector.push(b"A: b\r\n\r\nbody"), Ok(Collected::Whole { consumed: 8 }));
}

proptest! {
    #[test]
    fn any_split_gives_the_section_that_the_reader_sees(
        text in prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'a'), Just(b':')], 0..40),
        cuts in prop::collection::vec(1..9_usize, 0..40),
    ) {
        let mut collector = HeaderCollector::new(&limits(100));
        let mut rest: &[u8] = &text;
        let mut cuts = cuts.into_iter();
        let mut taken = 0;
        while !rest.is_empty() {
            let (piece, later) = rest.split_at(cuts.next().unwrap_or(7).min(rest.len()));
            match collector.push(piece).unwrap() {
                Collected::More => taken += piece.len(),
                Collected::Whole { consumed } => {
                    taken += consumed;
                    break;
                }
            }
            rest = later;
        }
        prop_assert_eq!(collector.section(), &text[..taken]);
        if let Ok(section) = HeaderSection::read(&text, &HeaderLimits::default()) {
            prop_assert_eq!(section.length(), taken);
        }
    }
}
