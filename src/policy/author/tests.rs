//! The cases of `fixtures/header`, each through collector, both readers and the judge; and what the table can't show.

use std::path::{Path, PathBuf};

use super::*;
use crate::content::{Collected, HeaderCollector, HeaderFault, HeaderLimits, Utf8Header, read_header};
use crate::mail::LocalPartCase;

struct Case {
    name: String,
    grant: Vec<String>,
    utf8: Utf8Header,
    verdict: String,
    message: Vec<u8>,
}

fn rule() -> Rule {
    Rule { name: "identity \"test\"".into(), place: None }
}

#[expect(clippy::disallowed_methods, reason = "the cases are files")]
fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/header").join(folder);
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.iter().all(|path| path.extension().is_some_and(|kind| kind == "txt")));
    files
}

#[expect(clippy::disallowed_methods, reason = "the cases are files")]
fn cases(folder: &str) -> Vec<Case> {
    let texts = files(folder).into_iter().map(|path| std::fs::read_to_string(path).unwrap());
    texts.flat_map(|text| text.split("=== ").skip(1).map(case).collect::<Vec<_>>()).collect()
}

fn case(text: &str) -> Case {
    let (head, message) = text.split_once("---\n").unwrap_or_else(|| panic!("no message in {text}"));
    let mut lines = head.lines();
    let name = lines.next().unwrap().to_owned();
    let mut case = Case {
        name,
        grant: vec!["alice@example.com".to_owned()],
        utf8: Utf8Header::NotDeclared,
        verdict: String::new(),
        message: message.lines().flat_map(line).collect(),
    };
    for line in lines.filter(|line| !line.starts_with('#')) {
        match line.split_once(": ").unwrap_or_else(|| panic!("{}: {line}", case.name)) {
            ("grant", list) => case.grant = list.split(", ").map(str::to_owned).collect(),
            ("utf8", "yes") => case.utf8 = Utf8Header::Declared,
            ("verdict", verdict) => case.verdict = verdict.to_owned(),
            other => panic!("{}: {other:?}", case.name),
        }
    }
    case
}

fn line(text: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut rest = text;
    while let Some((before, escape)) = rest.split_once('\\') {
        octets.extend_from_slice(before.as_bytes());
        if let Some(hex) = escape.strip_prefix('x') {
            let (digits, behind) = hex.split_at(2);
            octets.push(u8::from_str_radix(digits, 16).unwrap());
            rest = behind;
        } else {
            octets.push(b'\\');
            rest = escape.strip_prefix('\\').unwrap();
        }
    }
    octets.extend_from_slice(rest.as_bytes());
    octets.extend_from_slice(b"\r\n");
    octets
}

fn facts(case: &Case, piece: usize) -> HeaderFacts {
    let limits = HeaderLimits::default();
    let mut collector = HeaderCollector::new(&limits);
    for octets in case.message.chunks(piece) {
        if matches!(collector.push(octets).unwrap(), Collected::Whole { .. }) {
            break;
        }
    }
    read_header(collector.section(), &limits, case.utf8)
}

fn granted(case: &Case, address: &Address) -> bool {
    let address = address.canonical(LocalPartCase::Ignored);
    case.grant.iter().any(|pattern| match pattern.strip_prefix("*@") {
        Some(host) => address.host == host,
        None => Address::parse(pattern).unwrap().canonical(LocalPartCase::Ignored) == address,
    })
}

/// What came out, in the words of the fixtures.
fn outcome(case: &Case, facts: &HeaderFacts) -> String {
    match (&facts.fault, judge(&rule(), facts, |address| granted(case, address))) {
        (_, Verdict::Allowed(_)) => "pass".to_owned(),
        (Some(HeaderFault::Octets(fault)), Verdict::Refused(_)) => format!("octets {fault:?}"),
        (_, Verdict::Refused(refusal)) => match refusal.offence {
            Offence::Author { field, address } => format!("author {field} {address}"),
            Offence::Header { reason } => format!("header {reason}"),
            other @ (Offence::Sender { .. }
            | Offence::NullSender
            | Offence::Recipient { .. }
            | Offence::NoRoute { .. }
            | Offence::TooManyRecipients { .. }
            | Offence::TooLarge { .. }
            | Offence::TooMuch { .. }) => format!("{other:?}"),
        },
    }
}

fn wrong_outcomes(folder: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for case in cases(folder) {
        assert!(!case.verdict.is_empty(), "{} has no verdict", case.name);
        let facts = facts(&case, 4096);
        let came = outcome(&case, &facts);
        let right = match case.verdict.strip_prefix("header ") {
            Some(part) => came.starts_with("header ") && came.contains(part),
            None => came == case.verdict,
        };
        if !right {
            wrong.push(format!("{}: expected {}, came {came}", case.name, case.verdict));
        }
        if let Some(reason) = came.strip_prefix("header ") {
            assert!(reason.bytes().all(|octet| matches!(octet, b' '..=b'~')), "{}: {reason}", case.name);
            assert!(reason.len() < 250, "{}: {reason}", case.name);
        }
        assert_eq!(self::facts(&case, 1), facts, "{} reads otherwise octet by octet", case.name);
    }
    wrong
}

#[test]
fn every_forgery_is_refused_for_its_own_reason() {
    let wrong = wrong_outcomes("forgeries");
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_honest_message_passes() {
    let wrong = wrong_outcomes("honest");
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn there_are_enough_cases_and_each_has_its_own_name() {
    let (forgeries, honest) = (cases("forgeries"), cases("honest"));
    assert!(forgeries.len() >= 60 && honest.len() >= 40);
    assert!(forgeries.iter().all(|case| case.verdict != "pass") && honest.iter().all(|case| case.verdict == "pass"));
    let names: std::collections::BTreeSet<_> = forgeries.iter().chain(&honest).map(|case| &case.name).collect();
    assert_eq!(names.len(), forgeries.len() + honest.len());
}

#[test]
fn what_grants_nothing_allows_no_honest_message() {
    for case in cases("honest") {
        let facts = facts(&case, 4096);
        assert!(matches!(judge(&rule(), &facts, |_| false), Verdict::Refused(_)), "{}", case.name);
    }
}

#[test]
fn each_claim_is_asked_for() {
    // Taking any one granted address away must refuse the message that needs them all.
    let address = |text: &str| Address::parse(text).unwrap();
    let facts = HeaderFacts {
        from: vec![address("a@x.example"), address("b@x.example")],
        sender: Some(address("c@x.example")),
        resent_from: vec![address("d@x.example"), address("e@x.example")],
        resent_sender: Some(address("f@x.example")),
        display_addresses: vec![crate::content::DisplayAddress {
            field: Originator::From,
            address: address("g@x.example"),
        }],
        ..HeaderFacts::default()
    };
    assert_eq!(judge(&rule(), &facts, |_| true), Verdict::Allowed(rule()));
    for (name, field) in [
        ("a", "From"),
        ("b", "From"),
        ("c", "Sender"),
        ("d", "Resent-From"),
        ("e", "Resent-From"),
        ("f", "Resent-Sender"),
        ("g", "From (display name)"),
    ] {
        let verdict = judge(&rule(), &facts, |address| address.local_part() != name);
        let Verdict::Refused(Refusal { offence, .. }) = verdict else { panic!("{name} was not asked for") };
        assert_eq!(offence, Offence::Author { field, address: format!("{name}@x.example") });
    }
}
