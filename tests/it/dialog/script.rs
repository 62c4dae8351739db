//! Dialog scripts: text to steps. The format is described in fixtures/dialog/README.md.
//!
//! The parser knows nothing of machines or sockets; who plays a script is a [`Stage`](super::play::Stage).

use std::fmt;
use std::path::{Path, PathBuf};

/// A script: what it claims, and what to do to see whether that is so.
#[derive(Clone, Debug)]
pub struct Script {
    /// Relative to fixtures/dialog, for messages.
    pub name: String,
    /// The first comment line: the claim.
    pub claim: String,
    /// What is done and expected, with the line it is written on.
    pub steps: Vec<(usize, Act)>,
}

/// How a connection begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// Greeting, nothing more.
    Plain,
    /// Up to the handshake; the next word is the client's.
    Handshake,
    /// Up to the handshake, and EHLO.
    Tls,
    /// Implicit TLS; the next word is the server's.
    Implicit,
    /// By way of a load balancer that vouches for the persona's certificate; the next word is the server's.
    Vouched,
}

/// Which deadline is let pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// No command.
    Idle,
    /// Message too slow.
    Transaction,
    /// Session too old.
    Session,
}

/// How the store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// Well.
    Fine,
    /// Refuses to admit.
    Full,
    /// Has as much of this identity as one may have.
    Crowded,
    /// Fails while the body is written.
    Failing,
    /// Fails at the commit.
    Broken,
}

/// A reply as expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The code.
    pub code: u16,
    /// The status, when the script names one.
    pub status: Option<String>,
    /// Text that must be in it.
    pub text: String,
}

/// One line of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// `set KEY = VALUE`
    Set(String, String),
    /// `clock +2h`: seconds.
    Clock(i64),
    /// `plain`, `plain early "..."`, `handshake as P`, `tls as P`, `implicit as P`, `vouched as P`
    Connect { opening: Opening, persona: String, early: Vec<u8> },
    /// `C: line`, `C! "octets"`, `C* N "octets"`
    Send(Vec<u8>),
    /// `S: 250 2.1.0 text`
    Expect(Expected),
    /// `S+ text`: the last reply has a line with it.
    Has(String),
    /// `S- text`: the last reply has none.
    HasNot(String),
    /// `silent`: no reply is pending.
    Silent,
    /// `closed`
    Closed,
    /// `open`
    Open,
    /// `revoke P`
    Revoke(String),
    /// `forget P`
    Forget(String),
    /// `rekey`: everybody's credential is replaced.
    Rekey,
    /// `bound`: the connection has what SCRAM binds to it.
    Bound,
    /// `scram MECHANISM USER PASSWORD`: the whole exchange, up to the reply that ends it.
    Scram { mechanism: String, user: String, password: String },
    /// `code USER PASSWORD -30s`: AUTH PLAIN with the password and the code of that moment.
    Code { user: String, password: String, off: i64 },
    /// `store full|failing|broken|fine`
    Store(Store),
    /// `drain`
    Drain,
    /// `wait idle|transaction|session`
    Wait(Wait),
    /// `kept N`, `kept N from <a> to <b> <c>`
    Kept { count: usize, from: Option<String>, to: Vec<String> },
    /// `body "octets"`: the last message kept is exactly these octets.
    Body(Vec<u8>),
    /// `audit words`: the last decision has each of these words.
    Audit(Vec<String>),
}

/// What a script needs beyond a plain server; a stage that lacks it must say so and not count the script as passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// The clock moves.
    Clock,
    /// The roster or a CRL changes while the session is open.
    Snapshot,
    /// The store fails.
    Store,
    /// The daemon shuts down.
    Drain,
    /// A deadline passes.
    Deadline,
    /// Octets sent together must arrive together.
    Timing,
}

impl Script {
    /// All scripts below `root`, by name.
    pub fn all(root: &Path) -> Vec<Self> {
        let mut files = Vec::new();
        gather(root, &mut files);
        files.sort();
        files.iter().map(|file| Self::read(root, file)).collect()
    }

    fn read(root: &Path, file: &Path) -> Self {
        let text = std::fs::read_to_string(file).unwrap();
        let name = file.strip_prefix(root).unwrap().display().to_string();
        Self::parse(&name, &text).unwrap_or_else(|fault| panic!("fixtures/dialog/{name}: {fault}"))
    }

    /// Reads a script.
    pub fn parse(name: &str, text: &str) -> Result<Self, String> {
        let mut steps = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line_number = index + 1;
            let line = line.trim_end();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            steps.push((line_number, act(line).map_err(|fault| format!("line {line_number}: {fault}: {line}"))?));
        }
        let claim = text.lines().next().and_then(|line| line.strip_prefix("# ")).unwrap_or_default().to_owned();
        if claim.is_empty() {
            return Err("the first line must be the claim: # RFC ...: ...".to_owned());
        }
        Ok(Self { name: name.to_owned(), claim, steps })
    }

    /// What it needs.
    pub fn needs(&self) -> Vec<Need> {
        let mut needs: Vec<Need> = self.steps.iter().filter_map(|(_, act)| act.need()).collect();
        needs.sort_unstable();
        needs.dedup();
        needs
    }
}

impl Act {
    fn need(&self) -> Option<Need> {
        match self {
            Self::Clock(_) => Some(Need::Clock),
            Self::Revoke(_) | Self::Forget(_) | Self::Rekey => Some(Need::Snapshot),
            Self::Store(_) => Some(Need::Store),
            Self::Drain => Some(Need::Drain),
            Self::Wait(_) => Some(Need::Deadline),
            Self::Set(key, _) if key == "together" => Some(Need::Timing),
            Self::Connect { early, .. } if !early.is_empty() => Some(Need::Timing),
            _ => None,
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.code, self.status.as_deref().unwrap_or(""), self.text)
    }
}

fn gather(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            gather(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "dialog") {
            files.push(path);
        }
    }
}

fn act(line: &str) -> Result<Act, String> {
    if let Some(text) = line.strip_prefix("C:") {
        let mut octets = text.strip_prefix(' ').unwrap_or(text).as_bytes().to_vec();
        octets.extend_from_slice(b"\r\n");
        return Ok(Act::Send(octets));
    }
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let rest = rest.trim();
    Ok(match word {
        "C!" => Act::Send(quoted(rest)?),
        "C*" => repeated(rest)?,
        "S:" => Act::Expect(expected(rest)?),
        "S+" => Act::Has(rest.to_owned()),
        "S-" => Act::HasNot(rest.to_owned()),
        "set" => {
            let (key, value) = rest.split_once('=').ok_or("set KEY = VALUE")?;
            Act::Set(key.trim().to_owned(), value.trim().to_owned())
        }
        "clock" => Act::Clock(duration(rest)?),
        "plain" => plain(rest)?,
        "handshake" => connect(Opening::Handshake, rest)?,
        "tls" => connect(Opening::Tls, rest)?,
        "implicit" => connect(Opening::Implicit, rest)?,
        "vouched" => connect(Opening::Vouched, rest)?,
        "silent" => Act::Silent,
        "closed" => Act::Closed,
        "open" => Act::Open,
        "revoke" => Act::Revoke(rest.to_owned()),
        "forget" => Act::Forget(rest.to_owned()),
        "rekey" => Act::Rekey,
        "bound" => Act::Bound,
        "scram" => scram(rest)?,
        "code" => code(rest)?,
        "drain" => Act::Drain,
        "store" => Act::Store(store(rest)?),
        "wait" => Act::Wait(wait(rest)?),
        "kept" => kept(rest)?,
        "body" => Act::Body(quoted(rest)?),
        "audit" => Act::Audit(rest.split_whitespace().map(str::to_owned).collect()),
        _ => return Err("no such word".to_owned()),
    })
}

fn plain(rest: &str) -> Result<Act, String> {
    let early = match rest.strip_prefix("early ") {
        Some(text) => quoted(text.trim())?,
        None if rest.is_empty() => Vec::new(),
        None => return Err("plain, or plain early \"...\"".to_owned()),
    };
    Ok(Act::Connect { opening: Opening::Plain, persona: String::new(), early })
}

fn connect(opening: Opening, rest: &str) -> Result<Act, String> {
    let persona = rest.strip_prefix("as ").ok_or("as PERSONA")?;
    Ok(Act::Connect { opening, persona: persona.trim().to_owned(), early: Vec::new() })
}

fn scram(rest: &str) -> Result<Act, String> {
    match rest.split_whitespace().collect::<Vec<_>>().as_slice() {
        [mechanism, user, password] => Ok(Act::Scram {
            mechanism: (*mechanism).to_owned(),
            user: (*user).to_owned(),
            password: (*password).to_owned(),
        }),
        _ => Err("scram MECHANISM USER PASSWORD".to_owned()),
    }
}

fn code(rest: &str) -> Result<Act, String> {
    match rest.split_whitespace().collect::<Vec<_>>().as_slice() {
        [user, password, off] => {
            Ok(Act::Code { user: (*user).to_owned(), password: (*password).to_owned(), off: duration(off)? })
        }
        _ => Err("code USER PASSWORD +0s".to_owned()),
    }
}

fn store(word: &str) -> Result<Store, String> {
    match word {
        "fine" => Ok(Store::Fine),
        "full" => Ok(Store::Full),
        "crowded" => Ok(Store::Crowded),
        "failing" => Ok(Store::Failing),
        "broken" => Ok(Store::Broken),
        _ => Err("store fine|full|failing|broken".to_owned()),
    }
}

fn wait(word: &str) -> Result<Wait, String> {
    match word {
        "idle" => Ok(Wait::Idle),
        "transaction" => Ok(Wait::Transaction),
        "session" => Ok(Wait::Session),
        _ => Err("wait idle|transaction|session".to_owned()),
    }
}

fn kept(rest: &str) -> Result<Act, String> {
    let mut words = rest.split_whitespace();
    let count = words.next().and_then(|count| count.parse().ok()).ok_or("kept N")?;
    let mut from = None;
    let mut to = Vec::new();
    match words.next() {
        None => {}
        Some("from") => {
            from = Some(words.next().and_then(path).ok_or("from <PATH>")?);
            if words.next() != Some("to") {
                return Err("to <PATH>...".to_owned());
            }
            to = words.map(|word| path(word).ok_or("to <PATH>...")).collect::<Result<_, _>>()?;
        }
        Some(_) => return Err("kept N from <PATH> to <PATH>...".to_owned()),
    }
    Ok(Act::Kept { count, from, to })
}

fn path(word: &str) -> Option<String> {
    Some(word.strip_prefix('<')?.strip_suffix('>')?.to_owned())
}

fn repeated(rest: &str) -> Result<Act, String> {
    let (count, text) = rest.split_once(' ').ok_or("C* N \"octets\"")?;
    let count: usize = count.parse().map_err(|_| "C* N \"octets\"")?;
    Ok(Act::Send(quoted(text.trim())?.repeat(count)))
}

fn expected(rest: &str) -> Result<Expected, String> {
    let (code, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let code = code.parse().map_err(|_| "S: CODE [STATUS] [text]")?;
    let (first, more) = rest.split_once(' ').unwrap_or((rest, ""));
    let is_status = first.split('.').count() == 3 && first.split('.').all(|part| part.parse::<u16>().is_ok());
    let (status, text) = if is_status { (Some(first.to_owned()), more) } else { (None, rest) };
    Ok(Expected { code, status, text: text.to_owned() })
}

/// `+90s`, `+2h`, `-1d` in seconds.
fn duration(text: &str) -> Result<i64, String> {
    let fault = || "clock +90s, +5m, +2h, +1d".to_owned();
    let (number, unit) = text.split_at(text.len().saturating_sub(1));
    let number: i64 = number.parse().map_err(|_| fault())?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86400,
        _ => return Err(fault()),
    };
    Ok(number * seconds)
}

/// `"..."` with `\r \n \t \0 \\ \" \xHH`.
fn quoted(text: &str) -> Result<Vec<u8>, String> {
    let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).ok_or("\"octets\" expected")?;
    let mut octets = Vec::new();
    let mut rest = inner.bytes();
    while let Some(octet) = rest.next() {
        octets.push(match octet {
            b'\\' => escaped(&mut rest)?,
            b'"' => return Err("a quote must be escaped".to_owned()),
            octet => octet,
        });
    }
    Ok(octets)
}

fn escaped(rest: &mut std::str::Bytes<'_>) -> Result<u8, String> {
    Ok(match rest.next() {
        Some(b'r') => b'\r',
        Some(b'n') => b'\n',
        Some(b't') => b'\t',
        Some(b'0') => 0,
        Some(b'\\') => b'\\',
        Some(b'"') => b'"',
        Some(b'x') => {
            let digits: String = rest.by_ref().take(2).map(char::from).collect();
            u8::from_str_radix(&digits, 16).map_err(|_| "\\xHH")?
        }
        _ => return Err("no such escape".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_without_a_claim_is_refused() {
        assert!(Script::parse("x", "plain\n").is_err());
    }

    #[test]
    fn an_unknown_word_is_refused_with_its_line() {
        let fault = Script::parse("x", "# RFC 1: x\nplain\nfly\n").unwrap_err();
        assert!(fault.starts_with("line 3:"), "{fault}");
    }

    #[test]
    fn escapes_are_octets() {
        assert_eq!(quoted(r#""a\r\n\0\x80\"\\""#), Ok(b"a\r\n\0\x80\"\\".to_vec()));
        assert!(quoted(r#""a\q""#).is_err());
        assert!(quoted(r#""a"b""#).is_err());
    }

    #[test]
    fn a_reply_may_be_expected_with_or_without_status() {
        let full = expected("550 5.7.1 not allowed").unwrap();
        assert_eq!((full.code, full.status.as_deref(), full.text.as_str()), (550, Some("5.7.1"), "not allowed"));
        let bare = expected("220 mail.example.com ESMTP").unwrap();
        assert_eq!((bare.code, bare.status.as_deref(), bare.text.as_str()), (220, None, "mail.example.com ESMTP"));
    }
}
