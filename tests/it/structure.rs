//! The shape that docs/ARCHITECTURE.md promises: which modules are pure, who may know whom, where replies are said.
//!
//! Read from the source as text. What is a matter of taste is not judged here.

use super::source::{SourceFile, rust_sources};

/// Decisions and values only: no runtime, no files, no sockets, no clock, no randomness.
const PURE: &[&str] = &[
    "src/mail/",
    "src/smtp/",
    "src/sasl/",
    "src/networks",
    "src/plain",
    "src/sys/steps",
    "src/intake/proxy",
    "src/tls/constraints",
    "src/tls/der",
    "src/tls/recall",
    "src/tls/revocation",
    "src/tls/rules",
    "src/tls/signature",
    "src/tls/trace",
    "src/tls/verify",
    "src/tls/view",
    "src/tls/vouched",
    "src/tls/ways",
    "src/identity/",
    "src/credentials/",
    "src/session/",
    "src/policy/",
    "src/content",
    "src/route",
    "src/report",
    "src/queue/brief",
    "src/queue/gather",
    "src/queue/schedule",
    "src/queue/adoptions",
    "src/queue/turns",
    "src/queue/claims",
    "src/queue/index",
    "src/queue/ledger",
    "src/queue/space",
    "src/queue/seen/due",
    "src/delivery/conclusion",
    "src/delivery/lanes",
    "src/delivery/rounds",
    "src/delivery/standing",
    "src/upstream/alarms",
    "src/upstream/dane",
    "src/upstream/dialog",
    "src/upstream/drought",
    "src/upstream/pin",
    "src/upstream/preference",
    "src/upstream/refusals",
    "src/daemon/steering/breakdown",
    "src/daemon/steering/entry",
    "src/daemon/steering/line",
    "src/daemon/steering/selection",
    "src/upstream/seven_bit",
    "src/upstream/transaction",
];

/// What a pure module does not name. Addresses of hosts (`std::net::IpAddr`) are values and may be named.
const EFFECTS: &[&str] = &[
    "tokio",
    "std::fs",
    "std::io::stdin",
    "std::env",
    "std::process",
    "std::thread",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "SystemTime",
    "Instant::now",
    "Timestamp::now",
    "Zoned::now",
    "SystemClock",
    "SystemEntropy",
    "dyn Clock",
    "dyn Entropy",
    "dyn Disk",
    "getrandom",
    "async fn",
    ".await",
];

/// Who may name whom, by top module: the arrows. `mail`, `smtp`, `sasl` and `sys` (times, seams) are open to all.
const ARROWS: &[(&str, &[&str])] = &[
    ("mail", &[]),
    ("smtp", &[]),
    ("sasl", &[]),
    ("sys", &[]),
    ("networks", &[]),
    ("tls", &["identity", "credentials"]),
    ("identity", &["tls"]),
    ("content", &[]),
    ("policy", &["identity", "content", "route"]),
    ("credentials", &["identity"]),
    ("session", &["identity", "policy", "content", "tls", "credentials", "route"]),
    ("queue", &[]),
    ("route", &["identity", "queue", "upstream"]),
    ("upstream", &["queue"]),
    ("report", &["queue"]),
    (
        "config",
        &[
            "tls",
            "session",
            "credentials",
            "identity",
            "policy",
            "content",
            "queue",
            "route",
            "upstream",
            "report",
            "networks",
        ],
    ),
];

/// Open to every module.
const WORDS: &[&str] = &["mail", "smtp", "sasl", "sys"];

fn offences(judge: impl Fn(&SourceFile, &str) -> Option<String>) -> Vec<String> {
    let sources = rust_sources();
    assert!(sources.len() > 20, "the source was not found");
    let mut found = Vec::new();
    for file in &sources {
        for (number, line) in file.code() {
            if let Some(what) = judge(file, line) {
                found.push(format!("{}:{number}: {what}: {}", file.path, line.trim()));
            }
        }
    }
    found
}

fn assert_none(offences: &[String]) {
    assert!(offences.is_empty(), "\n{}", offences.join("\n"));
}

#[test]
fn pure_modules_name_no_effect() {
    assert_none(&offences(|file, line| {
        let pure = PURE.iter().any(|path| file.path.starts_with(path));
        let effect = EFFECTS.iter().find(|effect| line.contains(*effect))?;
        pure.then(|| format!("a pure module names {effect}"))
    }));
}

#[test]
fn stations_know_only_whom_they_may() {
    assert_none(&offences(|file, line| {
        let (_, allowed) = ARROWS.iter().find(|(module, _)| *module == file.module())?;
        named_modules(line)
            .into_iter()
            .find(|named| {
                *named != file.module() && !WORDS.contains(&named.as_str()) && !allowed.contains(&named.as_str())
            })
            .map(|named| format!("{} may not know {named}", file.module()))
    }));
}

/// The top modules of this crate that a line names: `crate::queue::Queue`, `use crate::{mail, smtp::Reply}`.
fn named_modules(line: &str) -> Vec<String> {
    let mut named = Vec::new();
    for rest in line.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            Some(list) => named.extend(list.split(',').map(first_word)),
            None => named.push(first_word(rest)),
        }
    }
    named.retain(|name| name.starts_with(|first: char| first.is_ascii_lowercase()));
    named
}

fn first_word(text: &str) -> String {
    text.trim_start().chars().take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '_').collect()
}

#[test]
fn named_modules_are_found_in_every_form_of_use() {
    assert_eq!(named_modules("use crate::queue::Queue;"), ["queue"]);
    assert_eq!(named_modules("use crate::{mail, smtp::Reply};"), ["mail", "smtp"]);
    assert_eq!(named_modules("fn f(x: crate::tls::Trust, y: crate::policy::Verdict)"), ["tls", "policy"]);
    assert_eq!(named_modules("pub(crate) fn f()"), Vec::<String>::new());
}

/// Where texts that begin with a status may stand.
const SAY_A_STATUS: &[&str] = &[
    // The catalogue of replies.
    "src/session/replies.rs",
    // Why a message failed before the upstream was asked: a report takes its status over; no client hears it.
    "src/upstream/transaction.rs",
    "src/upstream/transaction/order.rs",
];

#[test]
fn replies_are_said_in_the_catalogue_only() {
    assert_none(&offences(|file, line| {
        let text = string_literals(line).into_iter().find(|text| begins_like_a_reply(text))?;
        (!SAY_A_STATUS.contains(&file.path.as_str())).then(|| format!("a reply outside the catalogue: {text:?}"))
    }));
}

/// `5.7.1 ..`, `550 5.7.1 ..`: an enhanced status code stands at the beginning, perhaps behind a reply code.
/// A loop of the daemon that ends unnoticed leaves it looking alive: only what ends with a client or a message is spawned plainly.
#[test]
fn the_loops_of_the_daemon_are_vital() {
    assert_none(&offences(|file, line| {
        let spawned = line.split_once("tasks.spawn(\"")?.1;
        let ends_by_itself =
            ["connection\"", "control connection\"", "delivery\"", "old snapshot\"", "mail without a route\""];
        let is_ours = file.path.starts_with("src/daemon/") || file.path.starts_with("src/delivery/");
        (is_ours && !ends_by_itself.iter().any(|name| spawned.starts_with(name)))
            .then(|| "is spawned as if nobody missed it: spawn_vital".to_owned())
    }));
}

/// In the log as JSON and in the journal, `message` is the line's own text: a field of that name would be there twice, or replace it.
#[test]
fn no_field_of_a_log_line_is_called_message() {
    let mut found = Vec::new();
    for file in rust_sources() {
        let code: String = file.code().map(|(_, line)| format!("{line}\n")).collect();
        for arguments in log_lines(&code) {
            if let Some(field) = arguments.iter().find(|field| names_message(field)) {
                found.push(format!("{}: {field}: {}", file.path, arguments.join(", ")));
            }
        }
    }
    assert_none(&found);
}

/// What stands in the parentheses of each macro that writes to the log, argument by argument.
fn log_lines(code: &str) -> Vec<Vec<String>> {
    const MACROS: &[&str] = &["error!(", "warn!(", "info!(", "debug!(", "trace!(", "event!(", "span!("];
    let begins = MACROS.iter().flat_map(|name| code.match_indices(name).map(|(at, name)| at + name.len()));
    begins.map(|begin| arguments(&code[begin..])).collect()
}

/// The arguments up to the parenthesis that closes them.
fn arguments(code: &str) -> Vec<String> {
    let (mut all, mut argument, mut depth) = (Vec::new(), String::new(), 0);
    let mut letters = code.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => {
                argument.push('"');
                while let Some(inside) = letters.next().filter(|inside| *inside != '"') {
                    if inside == '\\' {
                        letters.next();
                    }
                }
            }
            ')' if depth == 0 => break,
            ',' if depth == 0 => all.push(std::mem::take(&mut argument)),
            letter => {
                depth += i32::from("([{".contains(letter)) - i32::from(")]}".contains(letter));
                argument.push(letter);
            }
        }
    }
    all.push(argument);
    all.iter().map(|argument| argument.trim().to_owned()).filter(|argument| !argument.is_empty()).collect()
}

/// `message`, `%message`, `message = ..`.
fn names_message(argument: &str) -> bool {
    let name = argument.split(['=', ':']).next().unwrap_or_default().trim().trim_start_matches(['%', '?']);
    name == "message"
}

#[test]
fn fields_of_log_lines_are_found() {
    let code = "tracing::warn!(\n target: \"audit\", %id, said = f(a, \"), message\"), \"a, message = 1\"\n); debug!(%message, \"x\")";
    let lines = log_lines(code);
    assert_eq!(lines, [vec!["target: \"", "%id", "said = f(a, \")", "\""], vec!["%message", "\""]]);
    let named = |argument| names_message(argument);
    assert!(["message", "%message", "?message", "message = 1"].into_iter().all(named));
    assert!(!["message_id", "id = message", "said = message.len()", "\""].into_iter().any(named));
}

fn begins_like_a_reply(text: &str) -> bool {
    let text = match text.split_once(' ') {
        Some((code, rest)) if code.len() == 3 && code.bytes().all(|octet| octet.is_ascii_digit()) => rest,
        _ => text,
    };
    let word = text.split(' ').next().unwrap_or_default();
    let numbers: Vec<&str> = word.split('.').collect();
    numbers.len() == 3
        && matches!(numbers[0], "2" | "4" | "5")
        && numbers[1..]
            .iter()
            .all(|number| (1..=3).contains(&number.len()) && number.bytes().all(|octet| octet.is_ascii_digit()))
}

/// The string literals of a line; escapes are left as they are written.
fn string_literals(line: &str) -> Vec<&str> {
    let quotes: Vec<usize> = line
        .bytes()
        .enumerate()
        .filter(|(index, octet)| *octet == b'"' && (*index == 0 || line.as_bytes()[index - 1] != b'\\'))
        .map(|(index, _)| index)
        .collect();
    quotes.chunks_exact(2).map(|pair| &line[pair[0] + 1..pair[1]]).collect()
}

#[test]
fn a_reply_is_told_from_other_texts() {
    for reply in ["5.7.1 No", "550 5.7.1 No", "4.2.1", "2.0.0 Accepted, id={id}"] {
        assert!(begins_like_a_reply(reply), "{reply}");
    }
    for other in ["127.0.0.1", "1.2.840", "2.5.29.17", "0.1.0", "550 No", "5.7", "TLS 1.2", ""] {
        assert!(!begins_like_a_reply(other), "{other}");
    }
    assert_eq!(string_literals(r#"say("5.7.1 a \" b", "c")"#), [r#"5.7.1 a \" b"#, "c"]);
}

#[test]
fn the_library_of_the_store_is_named_by_the_queue_only() {
    assert_none(&offences(|file, line| {
        (file.module() != "queue" && line.contains("redb::"))
            .then(|| "the store is hidden behind queue's trait".to_owned())
    }));
}
