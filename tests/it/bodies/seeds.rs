//! What fuzzing begins with: corpora made of `fixtures/`, of the documented configuration, and of octets that were once wrong (`fixtures/fuzz`).

mod strangers;

use std::path::{Path, PathBuf};

use sealpost::smtp::DotWriter;

use super::names::listed;
use super::session::PERSONAS;
use crate::dialog::cast::Cast;
use crate::dialog::script::{Act, Opening, Script};

/// The corpus of a target; never empty.
pub fn of(target: &str) -> Vec<Vec<u8>> {
    let mut all = match target {
        "line" => sent(),
        "command" => lines(),
        "data" | "chunks" | "encoding" => [data(), messages(), sent()].concat(),
        "writer" => [messages(), data()].concat(),
        "bdat" => [chunked(), sent()].concat(),
        "offer" => OFFERS.iter().map(|text| text.as_bytes().to_vec()).collect(),
        "reply" => replies(),
        "others" => [lines(), replies()].concat(),
        "address" => addresses(),
        "header" => [headers(), messages()].concat(),
        "names" => certificates(),
        "proxy" => [PROXIES.iter().map(|octets| octets.to_vec()).collect(), strangers::vouched()].concat(),
        "session" => [sessions(), strangers::in_chunks(&headers())].concat(),
        "upstream" => strangers::upstreams(),
        "revocation" => strangers::revocations(),
        "seven_bit" => [strangers::eight_bit(), messages(), headers()].concat(),
        "record" => strangers::records(),
        "control" => strangers::requests(),
        "secrets" => strangers::secrets(),
        "url" => strangers::urls(),
        "roster" => strangers::rosters(),
        "config" => configurations(),
        _ => Vec::new(),
    };
    all.extend(kept(target).into_iter().map(|(_, octets)| octets));
    all
}

/// What stands in `fixtures/fuzz`: file by file.
pub fn kept(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    files(&top().join("fixtures/fuzz").join(target))
}

/// Where the project is, for the tests and for the targets in `fuzz/`.
fn top() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    if here.join("fixtures").is_dir() { here } else { here.parent().unwrap() }
}

fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

fn scripts() -> Vec<Script> {
    Script::all(&top().join("fixtures/dialog"))
}

/// What each dialog sends, in one.
fn sent() -> Vec<Vec<u8>> {
    scripts()
        .iter()
        .map(|script| script.steps.iter().filter_map(|(_, act)| octets_of(act)).flatten().collect())
        .collect()
}

fn octets_of(act: &Act) -> Option<Vec<u8>> {
    match act {
        // What fills a limit is no seed: it is octets by the ten thousand.
        Act::Send(octets) if octets.len() < 3000 => Some(octets.clone()),
        Act::Connect { opening: Opening::Tls, early, .. } => {
            Some([early, &b"EHLO client.example.com\r\n"[..]].concat())
        }
        Act::Connect { early, .. } => Some(early.clone()),
        _ => None,
    }
}

/// Each line that a dialog sends.
fn lines() -> Vec<Vec<u8>> {
    let ended = |octets: Vec<u8>| octets.split(|&octet| octet == b'\n').map(without_cr).collect::<Vec<_>>();
    let mut all: Vec<Vec<u8>> = sent().into_iter().flat_map(ended).collect();
    all.extend(COMMANDS.iter().map(|line| line.as_bytes().to_vec()));
    all.sort();
    all.dedup();
    all
}

fn without_cr(line: &[u8]) -> Vec<u8> {
    line.strip_suffix(b"\r").unwrap_or(line).to_vec()
}

/// What dialogs send behind DATA.
fn data() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for script in scripts() {
        let sent: Vec<Vec<u8>> = script.steps.iter().filter_map(|(_, act)| octets_of(act)).collect();
        let begin = sent.iter().position(|octets| octets.eq_ignore_ascii_case(b"DATA\r\n"));
        all.extend(begin.map(|at| sent[at + 1..].concat()));
    }
    all.push(b"a\r\nb\n.\r\n.\nc\r\n..\r\n.\r\n".to_vec());
    all
}

/// Whole messages.
fn messages() -> Vec<Vec<u8>> {
    files(&top().join("fixtures/report")).into_iter().map(|(_, octets)| octets).collect()
}

/// The same, and what dialogs send as data, in chunks.
fn chunked() -> Vec<Vec<u8>> {
    let chunk = |octets: &[u8], last: &str| [format!("BDAT {}{last}\r\n", octets.len()).as_bytes(), octets].concat();
    let mut all = Vec::new();
    for message in [messages(), data()].concat() {
        let (first, second) = message.split_at(message.len() / 3);
        all.push(chunk(&message, " LAST"));
        all.push([chunk(first, ""), chunk(second, " LAST"), b"NOOP\r\n".to_vec()].concat());
        all.push([chunk(first, ""), chunk(second, ""), chunk(b"", " LAST")].concat());
    }
    all.extend(CHUNKS.iter().map(|octets| octets.to_vec()));
    all
}

/// What dialogs expect to hear, and what upstreams say.
fn replies() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = REPLIES.iter().map(|text| text.as_bytes().to_vec()).collect();
    for script in scripts() {
        let heard = script.steps.iter().filter_map(|(_, act)| match act {
            Act::Expect(expected) => {
                Some(format!("{} {} {}\r\n", expected.code, expected.status.as_deref().unwrap_or(""), expected.text))
            }
            _ => None,
        });
        all.push(heard.collect::<String>().into_bytes());
    }
    all
}

/// What stands between angle brackets in dialogs, and names of certificates.
fn addresses() -> Vec<Vec<u8>> {
    let between = |line: Vec<u8>| {
        let begin = line.iter().position(|&octet| octet == b'<')? + 1;
        let end = line.iter().rposition(|&octet| octet == b'>').filter(|end| *end >= begin)?;
        Some(line[begin..end].to_vec())
    };
    let mut all: Vec<Vec<u8>> = lines().into_iter().filter_map(between).collect();
    all.extend(NAMES.iter().chain(&ADDRESSES).map(|name| name.to_vec()));
    all.sort();
    all.dedup();
    all
}

/// Every message of `fixtures/header`.
fn headers() -> Vec<Vec<u8>> {
    let folders = ["forgeries", "honest", "rules"].map(|name| top().join("fixtures/header").join(name));
    let texts = folders.iter().flat_map(|folder| files(folder));
    let mut all = Vec::new();
    for (path, text) in texts {
        let text = String::from_utf8(text).unwrap_or_else(|_| panic!("{}", path.display()));
        for case in format!("\n{text}").split("\n=== ").skip(1) {
            // The message itself may be empty.
            let case = format!("{}\n", case.trim_end_matches('\n'));
            let (_, message) = case.split_once("\n---\n").unwrap_or_else(|| panic!("{case}"));
            all.push(message.lines().flat_map(unescaped).collect());
        }
    }
    all
}

/// A line of a message in `fixtures/header`, with its CRLF; the README there says how it is written.
pub fn unescaped(text: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut rest = text;
    while let Some((before, escape)) = rest.split_once('\\') {
        octets.extend_from_slice(before.as_bytes());
        if let Some(hex) = escape.strip_prefix('x') {
            let (digits, behind) = hex.split_at(2);
            octets.push(u8::from_str_radix(digits, 16).unwrap());
            rest = behind;
        } else if let Some(repeated) = escape.strip_prefix('*') {
            // `\*300{x}`: so many times what stands in the braces.
            let (count, behind) = repeated.split_once('{').unwrap();
            let (what, behind) = behind.split_once('}').unwrap();
            octets.extend(what.repeat(count.parse().unwrap()).bytes());
            rest = behind;
        } else {
            octets.push(b'\\');
            rest = escape.strip_prefix('\\').unwrap_or_else(|| panic!("a lone backslash in {text}"));
        }
    }
    octets.extend_from_slice(rest.as_bytes());
    octets.extend_from_slice(b"\r\n");
    octets
}

/// Certificates, and lists of names.
fn certificates() -> Vec<Vec<u8>> {
    let cast = Cast::get();
    let mut all: Vec<Vec<u8>> = PERSONAS.iter().map(|name| cast.made(name).unwrap().der.to_vec()).collect();
    all.push(cast.staff.der.to_vec());
    for kind in 0..5 {
        all.extend(NAMES.iter().map(|name| listed(&[(kind, name)])));
    }
    all.push(listed(&[
        (0, b"alice@example.com"),
        (1, b"a.example.com"),
        (2, b"urn:x:1"),
        (3, "zo\u{eb}@example.com".as_bytes()),
    ]));
    all.push(listed(&[(2, b"spiffe://example.com/a"), (2, b"spiffe://example.com/b")]));
    all.push(listed(&[(4, b"alice@CORP"), (4, b"bob@example.com"), (0, b"bob@example.com"), (0, b"bob@example.com")]));
    all
}

/// Each dialog's connections inside TLS, as who the dialog says, with nothing and with something befalling the relay; and headers as messages.
fn sessions() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for script in scripts() {
        let mut current: Option<Vec<u8>> = None;
        for (_, act) in &script.steps {
            match act {
                Act::Connect { opening: Opening::Plain, .. } => all.extend(current.take()),
                Act::Connect { persona, .. } => {
                    all.extend(current.take());
                    let place = PERSONAS.iter().position(|name| name == persona).unwrap_or_default();
                    let first = u8::try_from(place).unwrap();
                    current = Some([&[first][..], &octets_of(act).unwrap_or_default()].concat());
                }
                act => {
                    if let (Some(current), Some(octets)) = (&mut current, octets_of(act)) {
                        current.extend_from_slice(&octets);
                    }
                }
            }
        }
        all.extend(current);
    }
    let begin = "EHLO c.example\r\nMAIL FROM:<alice@example.com>\r\nRCPT TO:<bob@example.net>\r\nDATA\r\n";
    let again = begin.split_once("\r\n").unwrap().1;
    let honest = "From: alice@example.com\r\n\r\n..hi\r\n.\r\n";
    for mishap in 0..8 {
        all.push(
            [&[mishap * 8][..], begin.as_bytes(), honest.as_bytes(), again.as_bytes(), honest.as_bytes()].concat(),
        );
    }
    let to_two = begin.replace("DATA", "RCPT TO:<carol@example.net>\r\nDATA");
    all.push([&[6 * 8][..], to_two.as_bytes(), honest.as_bytes()].concat());
    for (place, header) in headers().into_iter().enumerate().filter(|(_, header)| header.len() < 1500) {
        let mut stuffed = Vec::new();
        let mut writer = DotWriter::default();
        writer.write(&header, &mut stuffed);
        writer.finish(&mut stuffed);
        if place % 3 == 0 {
            all.push([&[0][..], begin.as_bytes(), &stuffed].concat());
        }
    }
    all
}

/// The documented file, with its examples taken at their word; a small one that is right; each part by itself.
fn configurations() -> Vec<Vec<u8>> {
    let documented = std::fs::read_to_string(top().join("conf/sealpost.toml")).unwrap();
    let is_example =
        |line: &&str| line.strip_prefix('#').is_some_and(|rest| !rest.starts_with(' ') && !rest.is_empty());
    let taken = |line| if is_example(&line) { line.trim_start_matches('#') } else { line };
    let uncommented: Vec<&str> = documented.lines().map(taken).collect();
    let mut all = vec![documented.clone().into_bytes(), uncommented.join("\n").into_bytes(), RIGHT.into()];
    let parts = uncommented.join("\n");
    for part in parts.split("\n[").skip(1) {
        let plain: Vec<&str> = part.lines().filter(|line| !line.starts_with('#')).collect();
        all.push(format!("{RIGHT}\n[{}\n", plain.join("\n")).into_bytes());
        all.push(format!("[{}\n", plain.join("\n")).into_bytes());
    }
    all.extend(MISTAKEN.iter().map(|(from, to)| RIGHT.replace(from, to).into_bytes()));
    all
}

const COMMANDS: [&str; 12] = [
    "MAIL FROM:<a@example.com> SIZE=10 BODY=8BITMIME SMTPUTF8 RET=FULL ENVID=a+2Bb REQUIRETLS BY=99;RT HOLDFOR=9 MT-PRIORITY=-3 AUTH=<>",
    "MAIL FROM:<a@example.com> SIZE=10 SIZE=10",
    "MAIL FROM:<Alice@Example.COM>",
    "MAIL FROM:<@a.example,@b.example:\"a>b\\\"c\"@example.com> BY=-9;N HOLDUNTIL=2026-11-24T01:48:00Z",
    "RCPT TO:<zo\u{eb}@ex\u{e4}mple.com> NOTIFY=SUCCESS,DELAY ORCPT=utf-8;zo\\x{EB}@x",
    "RCPT TO:<a@[IPv6:2001:db8::1]> NOTIFY=NEVER ORCPT=rfc822;a+2Bb@x",
    "RCPT TO: <Postmaster>",
    "AUTH PLAIN AGEAYg==",
    "AUTH EXTERNAL =",
    "BDAT 18446744073709551615 LAST",
    "VRFY \u{1}alice  x",
    "EHLO a_b (c)@<d>\"",
];

const CHUNKS: [&[u8]; 6] = [
    b"BDAT 3\r\na\r\rBDAT 3 LAST\r\n\nb\n",
    b"BDAT 2\r\na\rBDAT 2 LAST\r\n\nbQUIT\r\n",
    b"BDAT 1 LAST\r\n\r",
    b"BDAT 5 LAST\r\na\0b\nc.\r\nRSET\r\n",
    b"BDAT 9 LAST\r\nBDAT 1\r\n\0",
    b"BDAT 0\r\nBDAT 0 LAST\r\nBDAT x\r\n",
];

const REPLIES: [&str; 9] = [
    "220 mx.example ESMTP\r\n250-mx.example\r\n250-SIZE 100\r\n250 HELP\r\n",
    "250-a\r\n250-b\r\n250-c\r\n250-d\r\n250 e\r\n",
    "250-a\r\n550 b\r\n",
    "550-5.7.1 a\r\n550-5.7.1 b\r\n550 5.1.1 c\r\n",
    "250\tx\r\n",
    "550 5.7.1 a very long line that goes on and on, longer than some would have it, to sixty\r\n",
    "421\r\n354 go\r\n250-\r\n250\r\n",
    "199 x\r\n600 x\r\n2x0 x\r\n2500 x\r\n\r\n",
    "250 caf\u{e9} \u{7}\u{1b}[1m\u{85}\r\n450 5.7.1 no\r\n571 5.07.1 no\r\n",
];

const OFFERS: [&str; 4] = [
    "PIPELINING\nSIZE 1000\n8BITMIME\nSMTPUTF8\nDSN\nENHANCEDSTATUSCODES\nCHUNKING\nHELP\n",
    "AUTH PLAIN LOGIN SCRAM-SHA-256\nauth=login plain\nLIMITS RCPTMAX=9 MAILMAX=3\nDELIVERBY 7\nMT-PRIORITY MIXER\n",
    "FUTURERELEASE 432000 2027-01-20T08:00:00Z\nREQUIRETLS\nSTARTTLS\n",
    "SIZE\nSIZE 0\nSIZE 99999999999999999999\nLIMITS\nDELIVERBY -1\nSIZE 1 2\n",
];

const NAMES: [&[u8]; 24] = [
    b"alice@example.com",
    b"alice@example.com\0.evil.example",
    b"alice\0@example.com",
    b"alice@example.com\r\nBcc: x@example.com",
    b" alice@example.com",
    b"\"a b\"@example.com",
    b"alice@[192.0.2.1]",
    b"alice@localhost",
    b"alice@CORP",
    b"alice@xn--exmple-cua.com",
    "zo\u{eb}@example.com".as_bytes(),
    "zo\u{eb}@ex\u{e4}mple.com".as_bytes(),
    "\u{202e}zo\u{eb}@example.com".as_bytes(),
    b"\xff@example.com",
    b"Printer.Example.COM",
    b"*.example.com",
    b"a_b.example.com",
    b"192.0.2.1",
    b"spiffe://example.com/billing",
    b"SPIFFE://example.com/billing",
    b"spiffe://example.com/../x",
    b"https://Example.com/a?b#c",
    b"urn:uuid:1",
    b"",
];

const ADDRESSES: [&[u8]; 10] = [
    b" alice@example.com ",
    b"\"alice\"@example.com",
    b"\"a\\\"b@c\"@EXAMPLE.com",
    b"\"a..b\"@[192.0.2.1]",
    b"a@[IPv6:2001:DB8::1]",
    "e\u{301}\u{212b}\u{1100}\u{1161}@example.com".as_bytes(),
    "\u{958}\u{fb1d}\u{344}@example.com".as_bytes(),
    "stra\u{df}e@stra\u{df}e.example".as_bytes(),
    "a@\u{4f8b}\u{5b50}.example".as_bytes(),
    "\u{212a}@example.com".as_bytes(),
];

const PROXIES: [&[u8]; 16] = [
    b"PROXY TCP4 192.0.2.7 192.0.2.1 40000 587\r\nEHLO\r\n",
    b"PROXY TCP6 2001:db8::7 2001:db8::1 40000 465\r\n\x16\x03\x01",
    b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:192.0.2.1 40000 587\r\n",
    b"PROXY UNKNOWN\r\nx",
    b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n",
    b"PROXY TCP4 0.0.0.0 192.0.2.1 40000 587\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.1 040000 587\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.1 40000 587\n",
    b"PROXY \r\n",
    b"EHLO client.example.com\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc0\0\x02\x01\x9c\x40\x02\x4bEHLO\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0x",
    b"\r\n\r\n\0\r\nQUIT\n\x21\0\0\x03abcx",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x13\xc0\0\x02\x07\xc0\0\x02\x01\x9c\x40\x02\x4b\x01\0\x04smtpx",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x13\xc0\0\x02\x07\xc0\0\x02\x01\x9c\x40\x02\x4b\x03\0\x04\0\0\0\0x",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x9c\x40\x02\x4bx",
];

pub(super) const RIGHT: &str = include_str!("../../../fixtures/config/right.toml");

/// What is changed in it for a mistake.
const MISTAKEN: [(&str, &str); 10] = [
    ("hostname", "hostnam"),
    ("127.0.0.1:1587", "localhost"),
    ("starttls", "startls"),
    ("server.key", "ca.pem"),
    ("ca.crl", "missing.crl"),
    ("[\"*\"]", "[\"*@\", \"@\", \"\\u0007@x\"]"),
    ("robot.example.com", "*.*.example"),
    ("smtp.example.net:587", ":"),
    ("[tls]", "[tls"),
    (
        "name = \"main\"",
        "name = \"main\\nx\"\ntls = \"nonee\"\nport = 5\n[queue]\nretry = [\"1m\", \"0s\"]\n[limits]\nconnections = 0",
    ),
];
