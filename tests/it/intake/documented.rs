//! The limits that nobody can set: what docs/operating.md says of them is what the source says, and none is left out.

use std::collections::BTreeMap;
use std::fs;

use crate::source;

/// Where the limits of the intake stand: these files, and all below these folders.
const PLACES: [&str; 20] = [
    "src/attempts.rs",
    "src/content.rs",
    "src/content/",
    "src/daemon/build.rs",
    "src/daemon/mod.rs",
    "src/daemon/opening.rs",
    "src/doors.rs",
    "src/intake/",
    "src/mail/address.rs",
    "src/mail/header.rs",
    "src/mail/recipients.rs",
    "src/queue/settings.rs",
    "src/session/",
    "src/smtp/command/",
    "src/smtp/data.rs",
    "src/smtp/framing.rs",
    "src/smtp/line.rs",
    "src/tls/rules.rs",
    "src/tls/vouched.rs",
    "src/tls/verify.rs",
];

/// What is named like a limit there, and is none of a client's; with the reason.
const NOT_OF_CLIENTS: [(&str, &str); 24] = [
    ("src/content/display/charset.rs GUESSES_MAX", "the length of a list that stands there"),
    ("src/content/display/sight.rs SEEN_MAX", "one more than DISPLAY_ADDRESSES_MAX, which counts"),
    ("src/content/qualify.rs SHOWN_MAX", "what a sentence shows"),
    ("src/daemon/build.rs EARLY_CERTIFICATE", "when an operator is told"),
    ("src/daemon/mod.rs EXPIRY_LOOK", "when an operator is told"),
    ("src/daemon/mod.rs GOODBYE", "of upstreams"),
    ("src/daemon/mod.rs NAMED_MAX", "what a line of the log shows"),
    ("src/daemon/mod.rs ROOM_LOOK", "when an operator is told"),
    ("src/daemon/opening.rs LET_GO", "of starts"),
    ("src/daemon/opening.rs LET_GO_LOOK", "of starts"),
    ("src/daemon/opening.rs PATIENCE", "of systemd"),
    ("src/daemon/opening.rs PATIENCE_EVERY", "of systemd"),
    ("src/mail/header.rs SECTION_MAX", "what limits.header_size is unless it is set"),
    ("src/mail/header.rs SHOWN_MAX", "what a sentence shows"),
    ("src/queue/settings.rs AFTER_FAILURE", "of deliveries"),
    ("src/queue/settings.rs BATCH_MAX", "of the writer"),
    ("src/queue/settings.rs BRIEFS_MAX", "of listings"),
    ("src/queue/settings.rs DELIVERIES_MAX", "of deliveries"),
    ("src/queue/settings.rs NAP_MAX", "of deliveries"),
    ("src/queue/settings.rs PAGE_MAX", "of listings"),
    ("src/queue/settings.rs READERS_MAX", "of listings"),
    ("src/queue/settings.rs SCAN_MAX", "of listings"),
    ("src/tls/rules.rs RSA_BITS_LEAST", "set by an operator, and checked when it is"),
    ("src/tls/vouched.rs WORD_MAX", "of a load balancer's words"),
];

/// A number of octets, bits or whatever it counts; or milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    Count(u64),
    Millis(u64),
}

/// What an expression of constants is; none when it is more than a product.
fn value_of(expression: &str) -> Option<Value> {
    let number = |text: &str| text.trim().replace('_', "").parse::<u64>().ok();
    for (call, unit) in [("Duration::from_secs(", 1000), ("Duration::from_millis(", 1)] {
        if let Some(rest) = expression.strip_prefix(call) {
            return product(rest.strip_suffix(')')?, number).map(|count| Value::Millis(count * unit));
        }
    }
    product(expression, number).map(Value::Count)
}

fn product(text: &str, number: impl Fn(&str) -> Option<u64>) -> Option<u64> {
    text.split('*').map(number).try_fold(1, |product, factor| Some(product * factor?))
}

/// What the manual says: `65,536`, `16 KiB`, `3 s`.
fn value_said(text: &str) -> Option<Value> {
    let (number, unit) = text.split_once(' ').unwrap_or((text, ""));
    let number: u64 = number.replace(',', "").parse().ok()?;
    match unit {
        "" => Some(Value::Count(number)),
        "KiB" => Some(Value::Count(number << 10)),
        "MiB" => Some(Value::Count(number << 20)),
        "GiB" => Some(Value::Count(number << 30)),
        "s" => Some(Value::Millis(number * 1000)),
        "ms" => Some(Value::Millis(number)),
        _ => None,
    }
}

/// The rows of the manual's tables: file and name, and the value.
fn said() -> BTreeMap<String, String> {
    let manual = fs::read_to_string(source::top().join("docs/operating.md")).unwrap();
    let (_, limits) = manual.split_once("\n## Limits of the intake\n").unwrap();
    let rows = limits.lines().take_while(|line| !line.starts_with("## ")).filter(|line| line.starts_with("| `"));
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let (name, place) = cells[1].split_once("` (`").unwrap_or_else(|| panic!("no constant: {line}"));
        let place = place.trim_end_matches("`)");
        (format!("{place} {}", name.trim_start_matches('`')), cells[2].to_owned())
    };
    rows.map(row).collect()
}

/// The constants of the places that are named as limits are, or are times.
fn written() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for file in source::rust_sources() {
        let is_there =
            PLACES.iter().any(|place| file.path == *place || place.ends_with('/') && file.path.starts_with(place));
        if !is_there || file.is_tests {
            continue;
        }
        let code = file.text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for line in code.lines() {
            let Some((_, constant)) = line.split_once("const ") else { continue };
            let Some((name, rest)) = constant.split_once(": ") else { continue };
            let Some((kind, value)) = rest.split_once(" = ") else { continue };
            if name.chars().all(|letter| letter.is_ascii_uppercase() || matches!(letter, '_' | '0'..='9')) {
                found.insert(format!("{} {name}", file.path), format!("{kind} = {}", value.trim_end_matches(';')));
            }
        }
    }
    found
}

#[test]
fn the_manual_names_every_limit_that_nobody_can_set_and_its_value() {
    let (said, written) = (said(), written());
    for (constant, value) in &said {
        let is =
            written.get(constant).unwrap_or_else(|| panic!("docs/operating.md names {constant}, which is not there"));
        let (_, expression) = is.split_once(" = ").unwrap();
        let (is, value_said) = (value_of(expression), value_said(value));
        assert!(is.is_some() && is == value_said, "{constant} is {expression}, and docs/operating.md says {value}");
    }
    let is_limit = |constant: &str, is: &str| {
        let name_tells = ["_MAX", "_MOST", "_LEAST", "_WAIT"].iter().any(|end| constant.ends_with(end));
        is.starts_with("Duration") || name_tells
    };
    for (constant, is) in &written {
        let is_told = said.contains_key(constant) || NOT_OF_CLIENTS.iter().any(|(other, _)| other == constant);
        assert!(is_told || !is_limit(constant, is), "docs/operating.md says nothing of {constant}, which is {is}");
    }
    for (constant, why) in NOT_OF_CLIENTS {
        assert!(written.contains_key(constant) && !said.contains_key(constant), "{constant} ({why}) is not there");
    }
}
