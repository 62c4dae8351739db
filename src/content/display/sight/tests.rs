//! What is seen in a text, and what is not.

use super::*;

/// What is seen: addresses as they are, lookalikes behind a `?`.
fn seen_in(text: &str) -> Vec<String> {
    let mut sight = Sight::default();
    sight.look(text, &mut Effort::default()).unwrap();
    let addresses = sight.addresses.iter().map(ToString::to_string);
    addresses.chain(sight.lookalikes.iter().map(|text| format!("?{text}"))).collect()
}

fn check(rows: &[(&str, &[&str])]) {
    for (text, expected) in rows {
        assert_eq!(seen_in(text), *expected, "{text:?}");
    }
}

const CEO: &[&str] = &["ceo@example.com"];
const NOBODY: &[&str] = &[];

#[test]
fn the_addresses_that_a_person_sees_are_found() {
    check(&[
        ("ceo@example.com", CEO),
        ("'ceo@example.com'", CEO),
        ("\u{201e}ceo@example.com\u{201c}", CEO),
        ("CEO (ceo@example.com) via <x@y.example>.", &["ceo@example.com", "x@y.example"]),
        ("mailto:ceo@example.com, now", CEO),
        ("ceo\u{ff20}example\u{ff0e}com", CEO),
        ("ｃｅｏ＠ｅｘａｍｐｌｅ．ｃｏｍ", CEO),
        ("𝐜𝐞𝐨@𝐞𝐱𝐚𝐦𝐩𝐥𝐞。com", CEO),
        ("ceo\u{fe6b}example\u{2024}com", CEO),
        ("ceo@example\u{a4f8}com, ceo@example\u{660}com", CEO),
        ("жора@пример.рф!", &["жора@пример.рф"]),
        ("a@@b.example", &["a@b.example"]),
        ("_ceo@example.com_ *ceo@example.com*", CEO),
        ("\u{2015}\u{2015}ceo@example.com", CEO),
        ("ceo@[192.0.2.1]", &["ceo@[192.0.2.1]"]),
        ("ceo' @ 'example.com", &["ceo'@example.com"]),
        ("ceo\u{201d} @ \u{201c}example.com", &["ceo\u{201d}@example.com"]),
        ("ceo@example.c", &["ceo@example.c"]),
        ("c\u{200a}eo@exam\u{202f}ple.com", CEO),
        ("ceo@e\u{489}xample.com", &["ceo@e\u{489}xample.com"]),
        ("ceo@examp\u{4cf}e.com", &["ceo@examp\u{4cf}e.com"]),
        ("\"ceo\"@example.com", &["\"ceo\"@example.com"]),
        ("(\"ce o\"@example.com)", &["\"ce o\"@example.com"]),
    ]);
}

#[test]
fn what_nobody_sees_changes_nothing() {
    for letter in
        ["\u{200b}", "\u{200c}", "\u{200d}", "\u{ad}", "\u{34f}", "\u{2800}", "\u{1bca0}", "\u{1d173}", "\u{e0080}"]
    {
        check(&[
            (&format!("c{letter}eo@exam{letter}ple.com"), CEO),
            (&format!("ceo{letter}@{letter}example{letter}.com"), CEO),
            (&format!("{}ceo@example.com", letter.repeat(70)), CEO),
        ]);
    }
    check(&[("ceo@\u{200a}example\u{2009}.com", CEO), ("ceo@example .com", CEO)]);
}

#[test]
fn gaps_quotes_and_brackets_about_the_at_hide_nothing() {
    for text in [
        "ceo @ example.com",
        "ceo@ example.com",
        "ceo @example.com",
        "ceo\u{a0}@\u{3000}example.com",
        "ceo(@)example.com",
        "(ceo)@(example.com)",
        "ceo\"@example.com",
        "Ceo ceo@)example.com",
    ] {
        check(&[(text, CEO)]);
    }
}

#[test]
fn what_looks_like_an_address_and_is_none_is_told() {
    let filler = format!("{}-ceo@example.com", "x".repeat(64));
    check(&[
        ("ceo.@example.com", &["?ceo.@example.com"]),
        (".ceo@example..com", &["?ceo@example..com"]),
        ("ceo@ex_ample.com", &["?ceo@ex_ample.com"]),
        ("ceo@ex'ample.com", &["?ceo@ex'ample.com"]),
        ("ceo@192.0.2.1", &["?ceo@192.0.2.1"]),
        ("ceo@192.0.2.1, ceo@192.0.2.1", &["?ceo@192.0.2.1"]),
        ("ceo@[a.b]", &["?ceo@[a.b]"]),
        ("ceo@\u{331}example.com", &["?ceo@\u{331}example.com"]),
        ("ceo@example.com\u{640}", &["?ceo@example.com\u{640}"]),
        ("ceo@exam\u{fffd}ple.com", &["?ceo@exam\u{fffd}ple.com"]),
        ("ceo@example.com.1", &["?ceo@example.com.1"]),
        (&filler, &[&format!("?{}", filler.chars().take(LOOKALIKE_SHOWN).collect::<String>())]),
    ]);
}

#[test]
fn what_is_no_address_is_none() {
    for text in [
        "Alice",
        "Meet @ Noon",
        "Team @ Work...",
        "Alice @alice",
        "@alice",
        "@alice.example",
        "Alice (@alice)",
        "Alice (@alice.example)",
        "Alice [@alice.example.com]",
        "root@localhost",
        "'alice@x' via List",
        "Alice (alice@x).",
        "Alice @ 10.30am",
        "3 @ 1.50",
        "Anna @ V.I.P. Lounge",
        "Alice@Home",
        "alice@",
        "@",
        "@@@",
        "moc.elpmaxe@oec",
        "example.com at ceo",
    ] {
        check(&[(text, NOBODY)]);
    }
}

#[test]
fn what_runs_from_right_to_left_is_read_so() {
    check(&[
        ("\u{202e}moc.elpmaxe@oec", &["ceo@example.com", "?\u{202e}moc.elpmaxe@oec"]),
        ("ceo\u{202e}moc.elpmaxe@", &["?ceo\u{202e}moc.elpmaxe@"]),
        ("\u{202d}a @ b", &["?\u{202d}a @ b"]),
        ("\u{202b}com\u{200f}.\u{200f}example\u{200f}@\u{200f}ceo", CEO),
        ("\u{202b}حمد\u{202c} alice@example.com", &["alice@example.com"]),
        ("\u{202e}alice", NOBODY),
        ("\u{200f}alice @ work\u{200f}", NOBODY),
    ]);
}

#[test]
fn a_flood_is_told_up_to_a_limit_and_a_hostile_text_costs_no_more_than_a_plain_one() {
    let names: Vec<String> = (0..99).map(|number| format!("n{number}@x.example")).collect();
    assert_eq!(seen_in(&names.join(" ")).len(), SEEN_MAX);
    for text in
        ["@".repeat(9000), "\"@x.".repeat(4000), "a@.".repeat(4000), ")".repeat(9000) + "@x.y", "@[".repeat(5000)]
    {
        assert!(seen_in(&text).len() <= SEEN_MAX);
    }
}
