//! The bodies of the fuzz targets over their corpora, in every run of the tests; and each lie, to show that the bodies can fail.
//!
//! `tests/long fuzz` goes on from here with libFuzzer; what it finds is kept in `fixtures/fuzz/<target>`, and is played here from then on.

mod workspace;

use std::path::PathBuf;

use proptest::collection::vec;
use proptest::prelude::*;

use sealpost::sys::{Entropy, SeededEntropy};

use crate::bodies::{self, Broken, CONFIG, Lie, TARGETS, Target, seed_of, seeds};

/// Cuts of each input, where it is read in pieces and soon.
const CUTS: u64 = 4;
/// Variations of its corpus that each body sees in every run.
const VARIATIONS: u64 = 300;

fn fault(target: &Target, octets: &[u8], lie: Lie) -> Option<String> {
    let is_slow = matches!(target.name, "session" | "config" | "upstream" | "roster");
    (0..if is_slow { 1 } else { CUTS }).find_map(|cut| {
        let told = (target.body)(octets, seed_of(octets).wrapping_add(cut), lie);
        told.err().map(|Broken(what)| format!("{}: {what}: {}", target.name, octets.escape_ascii()))
    })
}

pub(crate) fn faults(target: &Target, corpus: &[Vec<u8>], lie: Lie) -> Vec<String> {
    corpus.iter().filter_map(|octets| fault(target, octets, lie)).collect()
}

fn holds_and_notices(target: &Target) {
    let corpus = seeds::of(target.name);
    assert!(corpus.len() > 1, "{} has no corpus", target.name);
    let honest = faults(target, &corpus, Lie::None);
    assert!(honest.is_empty(), "{} of {}:\n{}", honest.len(), corpus.len(), honest.join("\n"));
    for lie in target.lies {
        let noticed = corpus.iter().any(|octets| fault(target, octets, *lie).is_some());
        assert!(noticed, "{}: {lie:?} was not noticed", target.name);
    }
    let count = number("SEALPOST_VARIATIONS").unwrap_or(if matches!(target.name, "config" | "roster") {
        30
    } else {
        VARIATIONS
    });
    let count = if is_meant(target.name) { count } else { 0 };
    let first = number("SEALPOST_SEED").unwrap_or_default();
    for seed in first..first + count {
        let octets = varied(&corpus, seed);
        if let Some(fault) = fault(target, &octets, Lie::None) {
            panic!("SEALPOST_SEED={seed}: {fault}");
        }
    }
}

/// What `tests/long variations` sets.
fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Whether variations of this target are wanted: of all, unless some are named.
fn is_meant(target: &str) -> bool {
    std::env::var("SEALPOST_TARGETS").map_or(true, |names| names.split(',').any(|name| name == target))
}

/// A seed, changed here and there: as libFuzzer does it, but blindly.
fn varied(corpus: &[Vec<u8>], seed: u64) -> Vec<u8> {
    const TOKENS: [&[u8]; 12] =
        [b"\r\n", b"\r", b"\n", b"\0", b".\r\n", b"\r\n.\r\n", b" ", b"\"", b"<", b">", b"\xff", b"@"];
    let random = SeededEntropy::new(seed);
    let below = |limit: usize| usize::try_from(random.next_u64()).unwrap() % limit.max(1);
    let mut octets = corpus[below(corpus.len())].clone();
    for _ in 0..=below(6) {
        let at = below(octets.len() + 1);
        let end = (at + below(20)).min(octets.len());
        match below(6) {
            0 if at < octets.len() => octets[at] ^= 1 << below(8),
            1 => drop(octets.drain(at..end)),
            2 => drop(octets.splice(at..at, TOKENS[below(TOKENS.len())].iter().copied())),
            3 => {
                let again = octets[at..end].to_vec();
                octets.splice(at..at, again);
            }
            4 => {
                let other = &corpus[below(corpus.len())];
                let from = below(other.len() + 1);
                octets.truncate(at);
                octets.extend_from_slice(&other[from..]);
            }
            _ if at < octets.len() => octets[at] = u8::try_from(below(256)).unwrap(),
            _ => {}
        }
    }
    octets
}

#[test]
fn every_body_holds_over_its_corpus_and_notices_each_lie() {
    TARGETS.iter().filter(|target| target.name != "session").for_each(holds_and_notices);
}

#[test]
fn every_session_of_the_corpus_holds_and_each_lie_is_noticed() {
    TARGETS.iter().filter(|target| target.name == "session").for_each(holds_and_notices);
}

#[test]
fn every_configuration_of_the_corpus_holds_and_each_lie_is_noticed() {
    holds_and_notices(&CONFIG);
}

#[test]
#[should_panic(expected = "nothing: there is no such target")]
fn a_target_without_a_body_is_noticed() {
    bodies::hold("line", b"NOOP\r\n");
    bodies::hold("nothing", b"");
}

#[test]
fn every_lie_is_some_bodys() {
    let all: Vec<Lie> = TARGETS.iter().chain([&CONFIG]).flat_map(|target| target.lies.iter().copied()).collect();
    assert!(all.len() >= 50 && !all.contains(&Lie::None), "{all:?}");
}

/// `tests/long fuzz` has them written into `fuzz/corpus`.
#[test]
fn the_corpora_are_written_where_libfuzzer_reads_them() {
    let elsewhere = tempfile::tempdir().unwrap();
    let folder = std::env::var_os("SEALPOST_CORPORA").map_or(elsewhere.path().to_owned(), PathBuf::from);
    let mut written = 0;
    for name in TARGETS.iter().chain([&CONFIG]).map(|target| target.name) {
        let folder = folder.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        for octets in seeds::of(name) {
            std::fs::write(folder.join(format!("seed-{:016x}", seed_of(&octets))), octets).unwrap();
            written += 1;
        }
    }
    assert!(written > 1000, "only {written} seeds");
}

#[test]
fn each_folder_of_findings_is_a_targets() {
    let known: Vec<&str> = TARGETS.iter().chain([&CONFIG]).map(|target| target.name).collect();
    for entry in std::fs::read_dir(crate::source::top().join("fixtures/fuzz")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(name == "README.md" || known.contains(&name.as_str()), "{name}");
    }
}

/// Octets in which CR, LF, dots and NUL meet often.
fn wire_octets() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        6 => Just(b"\r\n".to_vec()),
        4 => Just(b".".to_vec()),
        3 => vec(b'a'..=b'z', 1..12),
        1 => vec(b'a'..=b'z', 480..540),
        1 => Just(b"\r".to_vec()),
        1 => Just(b"\n".to_vec()),
        1 => Just(b"\r\n.\r\n".to_vec()),
        1 => any::<u8>().prop_map(|octet| vec![octet]),
    ];
    vec(token, 0..40).prop_map(|tokens| tokens.concat())
}

/// As above, without a fault: only whole CRLFs.
fn honest_octets() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![Just(b"\r\n".to_vec()), Just(b".".to_vec()), vec(1..=9_u8, 1..5), vec(b' '..=b'~', 1..90)];
    vec(token, 0..60).prop_map(|tokens| tokens.concat())
}

/// Words of commands and replies in any order.
fn words() -> impl Strategy<Value = Vec<u8>> {
    let word = prop::sample::select(vec![
        "MAIL FROM:",
        "RCPT TO:",
        "EHLO ",
        "AUTH ",
        "PLAIN",
        " ",
        "<",
        ">",
        "<a@example.com>",
        "<>",
        "<postmaster>",
        "@",
        "@a,@b:",
        "\"",
        "\\",
        "\"a>b\"@example.com",
        "SIZE=",
        "BODY=8BITMIME",
        "=",
        "AUTH=<>",
        "RET=FULL",
        "ENVID=a+2B",
        "NOTIFY=",
        "NEVER",
        "SUCCESS,DELAY",
        "ORCPT=rfc822;",
        "BY=1;R",
        "HOLDFOR=9",
        "MT-PRIORITY=-9",
        "HOLDUNTIL=2026-11-24T01:48:00Z",
        "SMTPUTF8",
        "BDAT ",
        "20",
        "99999999999999999999",
        " LAST",
        "250",
        "-",
        "2.1.0",
        "5.1.1 ",
        "550",
        "\r\n",
        "SIZE 10",
        "auth=login plain",
        "LIMITS RCPTMAX=9",
        "DELIVERBY 7",
        "\n",
        "\u{e9}",
        "\u{ffff}",
        "é@exämple.com",
    ]);
    vec(word, 0..14).prop_map(|words| words.concat().into_bytes())
}

/// The codec's bodies; the others take longer, and such octets say nothing to them.
const OF_THE_CODEC: usize = 10;

fn all_hold(octets: &[u8], seed: u64) -> Result<(), TestCaseError> {
    for target in TARGETS.iter().take(OF_THE_CODEC) {
        let told = (target.body)(octets, seed, Lie::None);
        told.map_err(|Broken(what)| TestCaseError::fail(format!("{}: {what}", target.name)))?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn the_codec_holds_for_octets_of_the_wire(octets in wire_octets(), seed: u64) {
        all_hold(&octets, seed)?;
    }

    #[test]
    fn the_codec_holds_for_honest_octets(octets in honest_octets(), seed: u64) {
        all_hold(&octets, seed)?;
    }

    #[test]
    fn the_codec_holds_for_words_in_any_order(octets in words(), seed: u64) {
        all_hold(&octets, seed)?;
    }

    #[test]
    fn the_codec_holds_for_any_octets(octets in vec(any::<u8>(), 0..300), seed: u64) {
        all_hold(&octets, seed)?;
    }
}
