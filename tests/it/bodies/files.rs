//! What stands in files and comes through the control socket: records of messages, what operators ask, files of credentials and tokens, URLs.

use sealpost::credentials;
use sealpost::daemon::control::Request;
use sealpost::queue::{Queue, Record};
use sealpost::tls::points::HttpUrl;
use sealpost::upstream::dialog::{Contents, Dialog, Event, Fresh, Step, Terms};
use sealpost::upstream::{Order, Security, Upstream, token_in};
use xxhash_rust::xxh3::Xxh3;

use super::{Broken, Lie, Told, require, same};

/// [`Queue::unpack`]: a record as it lies on the disk, and as an export brings it. The checksum is written here, else none would be read. What is taken is
/// written and read again as itself, and no text of it can end a line that is said to an upstream.
pub(super) fn record(octets: &[u8], _seed: u64, lie: Lie) -> Told {
    let Some((&version, payload)) = octets.split_first() else { return Ok(()) };
    let version = u16::from(version).to_le_bytes();
    let mut sum = Xxh3::new();
    sum.update(&version);
    sum.update(payload);
    let whole = [&version[..], &sum.digest().to_le_bytes(), payload].concat();
    let Ok(mut record) = Queue::unpack(&whole) else { return Ok(()) };
    sayable(&record)?;
    if lie == Lie::RecordForgetsRecipient {
        record.recipients.pop();
    }
    let packed = Queue::pack(&record).map_err(|fault| Broken(fault.to_string()))?;
    same("a record read again", &Queue::unpack(&packed), &Ok(record))?;
    let damaged: Vec<u8> = [&whole[..10], &payload.iter().rev().copied().collect::<Vec<_>>()].concat();
    require("a damaged record is read", damaged == whole || Queue::unpack(&damaged).is_err())
}

/// Each line that is said to an upstream which offers everything, and takes it.
fn said_of(record: &Record) -> Result<Vec<String>, Broken> {
    const OFFER: &str =
        "250-mx\r\n250-8BITMIME\r\n250-DSN\r\n250-SMTPUTF8\r\n250-REQUIRETLS\r\n250-DELIVERBY\r\n250 MT-PRIORITY\r\n";
    let upstream = Upstream::new("main", "mx.example", 25, "relay.example.com");
    let mut dialog = Dialog::new(Terms::of(&upstream, None, &Security::Plaintext, Fresh::default()));
    let places: Vec<usize> = (0..record.recipients.len()).collect();
    let order = Order::new(&record.envelope, &places, record.length);
    let mut said = Vec::new();
    let mut step = dialog.on(Event::Connected(None));
    let mut replies = ["220 mx\r\n", OFFER].into_iter();
    for _ in 0..places.len() + 10 {
        step = match step {
            Step::Send(octets) => {
                let lines = String::from_utf8(octets.to_vec()).map_err(|_| Broken("no text is said".to_owned()))?;
                said.push(lines);
                dialog.on(Event::Received(replies.next().unwrap_or("250 ok\r\n").as_bytes()))
            }
            Step::Read(_) => dialog.on(Event::Received(replies.next().unwrap_or("250 ok\r\n").as_bytes())),
            Step::Ready => dialog.on(Event::Begin(order.clone())),
            Step::Look(_) => dialog.on(Event::Seen(Contents::default())),
            _ => break,
        };
    }
    Ok(said)
}

/// One line, which begins as it should: nothing that a record holds ends it.
fn sayable(record: &Record) -> Told {
    let said = said_of(record)?;
    require("nothing is said of a record", !said.is_empty())?;
    for line in said {
        let text = line.strip_suffix("\r\n").unwrap_or(&line);
        require(&format!("more than a line: {line:?}"), !text.chars().any(char::is_control))?;
        let begins = ["EHLO ", "MAIL FROM:<", "RCPT TO:<", "DATA", "RSET", "QUIT"];
        require(&format!("another command: {line:?}"), begins.iter().any(|begin| text.starts_with(begin)))?;
    }
    Ok(())
}

/// [`Request`]: what is understood is written and read again as itself.
pub(super) fn control(octets: &[u8], _seed: u64, lie: Lie) -> Told {
    let Ok(request) = serde_json::from_slice::<Request>(octets) else { return Ok(()) };
    let mut written = serde_json::to_value(&request).map_err(|fault| Broken(fault.to_string()))?;
    if let (Lie::ControlForgetsFilters, Some(list)) = (lie, written.pointer_mut("/command/list/filters")) {
        *list = serde_json::json!({});
    }
    let again: Request = serde_json::from_value(written).map_err(|fault| Broken(fault.to_string()))?;
    same("what is asked", &format!("{again:?}"), &format!("{request:?}"))
}

/// [`credentials::file::read`] and [`token_in`]: each mistake has its line, and tells nothing of what stands there.
pub(super) fn secrets(octets: &[u8], _seed: u64, lie: Lie) -> Told {
    let text = String::from_utf8_lossy(octets);
    let lines: Vec<&str> = text.lines().collect();
    for mut mistake in credentials::file::read(&text, |_| false).err().unwrap_or_default() {
        let line = mistake.line.checked_sub(1).and_then(|place| lines.get(place)).copied();
        let line = line.ok_or_else(|| Broken(format!("a mistake on line {} of {}", mistake.line, lines.len())))?;
        if lie == Lie::SecretsAreTold {
            mistake.wrong = format!("{} {line}", mistake.wrong);
        }
        require(&format!("a mistake that breaks a line: {mistake:?}"), !mistake.wrong.chars().any(char::is_control))?;
        same("what is told of a credential", &told_of_credential(line, &mistake.wrong), &None)?;
    }
    let Ok(token) = token_in(octets) else { return Ok(()) };
    let is_one = |octet: u8| octet.is_ascii_graphic() && octet != b',' && octet != b'"';
    require("a token that can't be said", !token.is_empty() && token.bytes().all(is_one))?;
    require("a token that does not stand first", text.lines().next().is_some_and(|line| line.trim() == token))
}

/// What mistakes say themselves, whatever stands in the line.
const SAID_ANYWAY: [&str; 3] = [
    "is not $argon2id$v=19$m=..,t=..,p=..$salt$hash",
    "only argon2id is taken",
    "is not SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey",
];

/// A word of a credential that stands in what is told: of those behind the name, and of those that stand in its place. What is in quotes is not looked at.
fn told_of_credential<'l>(line: &'l str, wrong: &str) -> Option<&'l str> {
    if line.contains('"') {
        return None;
    }
    let line = line.trim_ascii();
    let (name, words) = line.split_once(|letter: char| letter.is_ascii_whitespace()).unwrap_or((line, ""));
    let own = |text: &str| SAID_ANYWAY.iter().fold(text.to_owned(), |told, said| told.replace(said, ""));
    let of_words = own(wrong.strip_prefix(&format!("{name:?} ")).unwrap_or(wrong));
    let misplaced = name.split_whitespace().filter(|word| word.starts_with("$argon2") || word.starts_with("totp="));
    let told = words.split_ascii_whitespace().find(|word| is_secret(word) && of_words.contains(word));
    told.or_else(|| misplaced.into_iter().find(|word| is_secret(word) && own(wrong).contains(word)))
}

/// Long, with letters and digits.
fn is_secret(word: &str) -> bool {
    word.len() >= 8 && word.chars().any(|letter| letter.is_ascii_digit()) && word.chars().any(char::is_alphabetic)
}

/// [`HttpUrl`], as certificates name them and servers lead to them: plain http, fit for a request, and the same when read again.
pub(super) fn url(octets: &[u8], _seed: u64, lie: Lie) -> Told {
    let text = String::from_utf8_lossy(octets);
    let (first, second) = text.split_once(' ').unwrap_or((&text, ""));
    let given = if lie == Lie::UrlMindsNoScheme { first.replace("https:", "http:") } else { first.to_owned() };
    let Ok(url) = HttpUrl::parse(&given) else { return Ok(()) };
    require("another scheme", first.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("http://")))?;
    plain(&url)?;
    let Ok(next) = url.follow(second) else { return Ok(()) };
    plain(&next)?;
    let before_query = second.split(['/', '?', '#']).next().unwrap_or_default();
    let stays = !before_query.contains(':') && !second.starts_with("//");
    require("led elsewhere", !stays || (next.host(), next.port()) == (url.host(), url.port()))
}

fn plain(url: &HttpUrl) -> Told {
    require("a URL that breaks a request", url.to_string().bytes().all(|octet| octet.is_ascii_graphic()))?;
    require("a path that is none", url.path().starts_with('/') && !url.path().contains('#'))?;
    let is_host = !url.host().is_empty() && !url.host().contains(['/', '@', '?', '#', '[', ']']);
    require("a host that is none", is_host && url.port() != 0)?;
    same("a URL read again", &HttpUrl::parse(&url.to_string()).as_ref(), &Ok(url))
}
