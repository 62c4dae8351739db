//! A message is the same message by DATA and by BDAT (RFC 3030 §2), however it is cut: what is said of it, what is told of it, what is kept.
//!
//! The messages are those of `fixtures/header`, honest and forged; the cuts are random, and so is whether the chunks are sent ahead.

use std::fmt;
use std::sync::OnceLock;

use proptest::prelude::*;
use sealpost::sys::{Entropy, SeededEntropy};
use sealpost::tls::MinVersion;

use crate::dialog::memory::{Arrival, MemoryStage};
use crate::dialog::mutants::Mutant;
use crate::dialog::play::Stage;
use crate::dialog::tls::TlsStage;
use crate::header;

/// The chunks of a message, of which some may be empty; the last is the last.
fn cut(message: &[u8], seed: u64) -> Vec<Vec<u8>> {
    let entropy = SeededEntropy::new(seed);
    let up_to = |most: usize| usize::try_from(entropy.next_u64() % (u64::try_from(most).unwrap() + 1)).unwrap();
    let mut chunks = Vec::new();
    let mut rest = message;
    // Small pieces at first, where the header is; then as large as it comes.
    while !rest.is_empty() && chunks.len() < 20 {
        let most = if up_to(1) == 0 { 5.min(rest.len()) } else { rest.len() };
        let (chunk, behind) = rest.split_at(up_to(most));
        chunks.push(chunk.to_vec());
        rest = behind;
    }
    chunks.push(rest.to_vec());
    chunks
}

/// By DATA: dots stuffed, and the final one.
fn stuffed(message: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    let mut is_line_start = true;
    for &octet in message {
        if is_line_start && octet == b'.' {
            wire.push(b'.');
        }
        wire.push(octet);
        is_line_start = wire.ends_with(b"\r\n");
    }
    wire.extend_from_slice(b".\r\n");
    wire
}

fn in_chunks(chunks: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let last = chunks.len() - 1;
    let command = |(place, chunk): (usize, &Vec<u8>)| {
        let end = if place == last { " LAST" } else { "" };
        [format!("BDAT {}{end}\r\n", chunk.len()).as_bytes(), chunk].concat()
    };
    chunks.iter().enumerate().map(command).collect()
}

/// What came of a message.
#[derive(Clone, PartialEq, Eq)]
struct Outcome {
    /// The reply to its end, but for the queue's id.
    said: String,
    /// What the audit was told, if the stage knows; but for the id.
    told: Option<String>,
    /// The octets that are kept, without our fields in front.
    kept: Option<Vec<u8>>,
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.kept.as_ref().map(|octets| octets.escape_ascii().to_string());
        write!(f, "said {:?}, told {:?}, kept {kept:?}", self.said, self.told)
    }
}

/// One line, without the word that names the message.
fn without_id(line: &str) -> String {
    line.split(' ').map(|word| if word.contains("id=") { "id" } else { word }).collect::<Vec<_>>().join(" ")
}

fn begin(stage: &mut dyn Stage) {
    stage.connect_implicit("alice").unwrap();
    stage.hear().unwrap();
    stage.send(b"EHLO client.example\r\n").unwrap();
    stage.hear().unwrap();
}

fn envelope(stage: &mut dyn Stage) {
    for line in ["MAIL FROM:<alice@example.com> BODY=8BITMIME\r\n", "RCPT TO:<bob@example.net>\r\n"] {
        stage.send(line.as_bytes()).unwrap();
        assert_eq!(stage.hear().unwrap().code, 250, "{line}");
    }
}

fn heard(stage: &mut dyn Stage) -> String {
    let heard = stage.hear().unwrap();
    format!("{} {}", heard.code, without_id(&heard.lines.join(" ")))
}

fn outcome(stage: &mut dyn Stage, said: String) -> Outcome {
    let told = stage.audit().ok().map(|line| without_id(&line));
    let kept = said.starts_with("250").then(|| stage.kept().pop().unwrap().octets);
    Outcome { said, told, kept }
}

fn by_data(stage: &mut dyn Stage, message: &[u8]) -> Outcome {
    envelope(stage);
    stage.send(b"DATA\r\n").unwrap();
    assert_eq!(stage.hear().unwrap().code, 354);
    stage.send(&stuffed(message)).unwrap();
    let said = heard(stage);
    outcome(stage, said)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ahead {
    /// Each chunk waits for the reply to the one before.
    No,
    /// All in one write, with a NOOP behind them.
    Yes,
}

fn by_bdat(stage: &mut dyn Stage, message: &[u8], seed: u64, ahead: Ahead) -> Outcome {
    envelope(stage);
    let chunks = in_chunks(&cut(message, seed));
    let replies: Vec<String> = match ahead {
        Ahead::No => chunks
            .iter()
            .map(|chunk| {
                stage.send(chunk).unwrap();
                heard(stage)
            })
            .collect(),
        Ahead::Yes => {
            stage.send(&[&chunks.concat()[..], b"NOOP\r\n"].concat()).unwrap();
            let replies = chunks.iter().map(|_| heard(stage)).collect();
            assert_eq!(heard(stage), "250 2.0.0 Nothing done");
            replies
        }
    };
    // Chunks are taken, until one is refused; those behind it are out of order.
    let mut rest = replies.iter().skip_while(|reply| reply.contains("so far"));
    let said = rest.next().unwrap().clone();
    assert!(rest.all(|reply| reply.starts_with("503 5.5.1")), "{replies:?}");
    outcome(stage, said)
}

fn messages() -> &'static [(String, Vec<u8>)] {
    static MESSAGES: OnceLock<Vec<(String, Vec<u8>)>> = OnceLock::new();
    MESSAGES.get_or_init(header::messages)
}

/// Bare octets end a message by DATA at once; by BDAT the header may have been refused for another reason first.
fn agree(by_data: &Outcome, by_bdat: &Outcome) -> bool {
    let is_disputed = by_data.said.starts_with("550 5.5.2");
    by_data == by_bdat || (is_disputed && by_bdat.kept.is_none() && by_bdat.said.starts_with('5'))
}

fn in_memory() -> MemoryStage {
    let mut stage = MemoryStage::new(Arrival::Whole, Mutant::Faithful);
    stage.set("idle_commands_max", "100000").unwrap();
    begin(&mut stage);
    stage
}

/// The same message both ways, in one session where that goes on.
fn both_ways(stage: &mut dyn Stage, message: &[u8], seed: u64, ahead: Ahead) -> (Outcome, Outcome) {
    let data = by_data(stage, message);
    if data.said.starts_with("550 5.5.2") {
        begin(stage);
    }
    (data, by_bdat(stage, message, seed, ahead))
}

#[test]
fn every_message_is_the_same_in_chunks() {
    let (mut all_kept, mut seed) = (0, 0);
    // What is kept is listed each time, so not too many on one stage.
    for some in messages().chunks(10) {
        let (mut kept, mut stage) = (0, in_memory());
        for (name, message) in some {
            seed += 1;
            let (data, bdat) = both_ways(&mut stage, message, seed, Ahead::No);
            assert!(agree(&data, &bdat), "{name}, seed {seed}:\nby DATA: {data:?}\nby BDAT: {bdat:?}");
            kept += usize::from(bdat.kept.is_some());
        }
        assert_eq!(stage.kept().len(), 2 * kept, "what was refused is kept");
        all_kept += kept;
    }
    assert!(all_kept > 50 && messages().len() - all_kept > 50, "{all_kept} of {} kept", messages().len());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn a_message_is_the_same_however_it_is_cut(index in any::<prop::sample::Index>(), seed: u64, text in "[.a\r\n\u{0}]{0,12}", ahead: bool) {
        let (name, message) = index.get(messages());
        let message = [message, text.as_bytes(), b"\r\n"].concat();
        let ahead = if ahead { Ahead::Yes } else { Ahead::No };
        let (data, bdat) = both_ways(&mut in_memory(), &message, seed, ahead);
        prop_assert!(agree(&data, &bdat), "{name}:\nby DATA: {data:?}\nby BDAT: {bdat:?}");
    }
}

#[test]
fn intake_itself_makes_no_difference_either() {
    let mut stage = TlsStage::new(MinVersion::Tls13);
    stage.set("idle_commands_max", "100000").unwrap();
    begin(&mut stage);
    for (seed, (name, message)) in (0..).zip(messages().iter().step_by(9)) {
        let ahead = if seed % 2 == 0 { Ahead::Yes } else { Ahead::No };
        let (data, bdat) = both_ways(&mut stage, message, seed, ahead);
        assert!(agree(&data, &bdat), "{name}, seed {seed}:\nby DATA: {data:?}\nby BDAT: {bdat:?}");
    }
}

/// A session in which a message has begun, whose header came in its first chunk.
fn begun() -> TlsStage {
    let mut stage = TlsStage::new(MinVersion::Tls13);
    begin(&mut stage);
    envelope(&mut stage);
    let header = "From: alice@example.com\r\n\r\n";
    stage.send(format!("BDAT {}\r\n{header}", header.len()).as_bytes()).unwrap();
    assert_eq!(stage.hear().unwrap().code, 250);
    stage
}

/// Nothing is said for 20 seconds: so long the stage listens.
fn pause(stage: &mut TlsStage) {
    assert_eq!(stage.hear(), None);
}

#[test]
fn other_words_between_chunks_do_not_keep_a_message_for_ever() {
    for words in ["NOOP\r\n", "BDAT 0\r\n", "BDAT 1\r\nx"] {
        let mut stage = begun();
        for _ in 0..2 {
            pause(&mut stage);
            stage.send(words.as_bytes()).unwrap();
            assert_eq!(stage.hear().unwrap().code, 250);
        }
        // A minute, and some octets.
        assert_eq!(stage.hear().map(|heard| heard.code), Some(421), "{words:?}");
    }
}

#[test]
fn chunks_that_keep_the_pace_of_a_message_are_waited_for() {
    let mut stage = begun();
    let chunk = [b"BDAT 40000\r\n".as_slice(), &b"12345678\r\n".repeat(4000)].concat();
    // Ten minutes of it: longer than a client may be silent, and than several windows.
    for _ in 0..30 {
        pause(&mut stage);
        stage.send(&chunk).unwrap();
        assert_eq!(stage.hear().unwrap().code, 250);
    }
    stage.send(b"BDAT 0 LAST\r\n").unwrap();
    assert_eq!(stage.hear().unwrap().code, 250);
    assert_eq!(stage.kept().len(), 1);
}
