//! Commands and their arguments (RFC 5321 §4.1.1, and the extensions that add to them).
//!
//! The grammar is read strictly. Three things that real clients do, and that can be read in one way only, are let pass: one space behind
//! `FROM:` and `TO:` (RFC 5321 §3.3 forbids it; Postfix, Exim, mox and KumoMTA all came to take it, since printers and old libraries send it),
//! white space at the end of a line (RFC 5321 §4.1.1 asks for that), more than one space between parameters. The angle brackets must be there.
//!
//! Never: knows what state the session is in, judges an address, looks at a clock: `BY=` and `HOLDFOR=` become moments by the `now` that is passed in.
//! What can fail: [`CommandFault`], which says enough to choose the reply.

mod helo;
mod parameters;
mod path;
#[cfg(test)]
mod tests;
pub mod xtext;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

pub use helo::{HELO_NAME_MAX, HeloName};
pub use path::PathFault;

pub use super::extension::Offered;
use super::line::Head;
use crate::mail::{ForwardPath, MailParameters, RecipientParameters, ReversePath};
use crate::sys::WallTime;

/// The longest name of a SASL mechanism, octets (RFC 4422 §3.1).
const MECHANISM_MAX: usize = 20;

/// How a request of HTTP begins. A web page can have its reader's browser, which may hold a client certificate, send one to a port with TLS from the first octet, with
/// commands of ours in its body.
const HTTP_METHODS: [&[u8]; 10] =
    [b"CONNECT", b"DELETE", b"GET", b"HEAD", b"OPTIONS", b"PATCH", b"POST", b"PRI", b"PUT", b"TRACE"];

/// What begins a chunk (RFC 3030 §2).
const VERB_BDAT: &[u8] = b"BDAT";

/// The most digits of a number on the wire that counts octets (RFC 1870 §4, RFC 3030 §2).
const OCTET_COUNT_DIGITS: usize = 20;

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// EHLO (RFC 5321 §4.1.1.1).
    Ehlo(HeloName),
    /// HELO (RFC 5321 §4.1.1.1).
    Helo(HeloName),
    /// STARTTLS (RFC 3207 §4).
    StartTls,
    /// AUTH (RFC 4954 §4).
    Auth {
        /// In upper case. Which ones are known is the session's to say.
        mechanism: String,
        /// The initial response, not read yet.
        initial: Option<InitialResponse>,
    },
    /// MAIL (RFC 5321 §4.1.1.2).
    Mail {
        /// Who is to be told.
        reverse_path: ReversePath,
        /// What was asked for.
        parameters: MailParameters,
    },
    /// RCPT (RFC 5321 §4.1.1.3).
    Rcpt {
        /// Where to.
        forward_path: ForwardPath,
        /// What was asked for.
        parameters: RecipientParameters,
    },
    /// DATA (RFC 5321 §4.1.1.4).
    Data,
    /// BDAT (RFC 3030 §2).
    Bdat {
        /// So many octets follow.
        count: u64,
        /// They are the last.
        last: bool,
    },
    /// RSET (RFC 5321 §4.1.1.5).
    Rset,
    /// NOOP (RFC 5321 §4.1.1.9); its argument means nothing.
    Noop,
    /// VRFY (RFC 5321 §4.1.1.6) and what is asked for, controls replaced by `?`.
    Vrfy(String),
    /// EXPN (RFC 5321 §4.1.1.7).
    Expn,
    /// HELP (RFC 5321 §4.1.1.8), on anything.
    Help,
    /// QUIT (RFC 5321 §4.1.1.10).
    Quit,
}

/// What is wrong with a command. The text is printable ASCII, fit for a reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandFault {
    /// No such command (500 5.5.1).
    #[error("command not recognized")]
    Unknown,
    /// An argument is missing, too many, or malformed (501 5.5.4); the text says what is right.
    #[error("{0}")]
    Argument(&'static str),
    /// STARTTLS with an argument (501 5.5.4, RFC 3207 §4); of its own, because it is answered before TLS.
    #[error("STARTTLS takes no argument")]
    StartTls,
    /// EHLO or HELO without a name, or with one that is too long (501, no status: RFC 2034 §4).
    #[error("a domain name or an address literal must follow")]
    HeloName,
    /// The reverse path (501 5.1.7).
    #[error("{0}")]
    Sender(PathFault),
    /// The forward path (501 5.1.3).
    #[error("{0}")]
    Recipient(PathFault),
    /// A parameter that is not known, or not offered (555 5.5.4); its keyword in upper case.
    #[error("parameter {0} not recognized")]
    UnknownParameter(String),
    /// A known parameter with a wrong value, or given twice (501 5.5.4).
    #[error("parameter {keyword}: {why}")]
    Parameter {
        /// In upper case.
        keyword: String,
        /// What is wrong, or what would be right.
        why: &'static str,
    },
    /// A parameter that asks for more than EHLO promises (555 5.5.4, RFC 2852 §4).
    #[error("parameter {keyword}: {why}")]
    Unkept {
        /// In upper case.
        keyword: String,
        /// What is promised.
        why: &'static str,
    },
    /// A request of HTTP. What stands behind its first line may be anybody's, commands among it.
    #[error("HTTP, not SMTP")]
    Http,
    /// BDAT that can't be read, or what another reader may take for one: where the chunk ends is not known, so the connection can't go on (501 5.5.4, close).
    #[error("BDAT takes a number of octets, and LAST")]
    Bdat,
}

impl CommandFault {
    /// What is wrong with a line that is too long to be read, beyond its length: the octets behind it may be a chunk, or anybody's.
    pub fn of_long(head: &Head) -> Option<Self> {
        let octets = head.octets();
        let verb = octets.split(|&octet| octet == b' ').next().unwrap_or_default();
        if HTTP_METHODS.contains(&verb.to_ascii_uppercase().as_slice()) {
            return Some(Self::Http);
        }
        // Of one that begins with more blanks than a line may have octets, nobody knows what it is.
        (looks_like_bdat(octets) || octets.first() == Some(&0)).then_some(Self::Bdat)
    }
}

/// What a client says in AUTH: perhaps a password. Wiped when dropped, never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthOctets(Zeroizing<Vec<u8>>);

impl AuthOctets {
    /// Takes the octets over.
    pub fn new(octets: Vec<u8>) -> Self {
        Self(Zeroizing::new(octets))
    }

    /// The octets, for the mechanism.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Reads base64 as RFC 4648 §4 writes it: padded, nothing between, no bits left over.
    pub fn from_base64(text: &[u8]) -> Result<Self, NotBase64> {
        STANDARD.decode(text).map(Self::new).map_err(|_| NotBase64)
    }
}

/// What a client says in AUTH is not base64 (501 5.5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not base64")]
pub struct NotBase64;

/// The initial response of AUTH as the client wrote it. Whether AUTH is in order and its mechanism offered is judged before anybody reads what
/// is in it (RFC 4954 §4: 503, 504), so that only a login that was begun can fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitialResponse(AuthOctets);

impl InitialResponse {
    /// What stands behind the mechanism's name.
    pub fn new(text: Vec<u8>) -> Self {
        Self(AuthOctets::new(text))
    }

    /// As it was written.
    pub fn expose(&self) -> &[u8] {
        self.0.expose()
    }

    /// The response; `=` is an empty one (RFC 4954 §4).
    pub fn read(&self) -> Result<AuthOctets, NotBase64> {
        match self.0.expose() {
            b"=" => Ok(AuthOctets::new(Vec::new())),
            text => AuthOctets::from_base64(text),
        }
    }
}

impl std::fmt::Debug for AuthOctets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}

/// What a client answers to a 334 (RFC 4954 §4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthAnswer {
    /// `*`: it gives up.
    Cancel,
    /// The response.
    Response(AuthOctets),
}

impl AuthAnswer {
    /// Reads a line without its CRLF.
    pub fn parse(line: &[u8]) -> Result<Self, NotBase64> {
        match trim_end(line) {
            b"*" => Ok(Self::Cancel),
            text => AuthOctets::from_base64(text).map(Self::Response),
        }
    }
}

impl Command {
    /// Reads a line without its CRLF. `offered` says which parameters of MAIL and RCPT are known here; verbs are read whether offered or not.
    pub fn parse(line: &[u8], offered: &Offered, now: WallTime) -> Result<Self, CommandFault> {
        let line = trim_end(line);
        let (verb, argument) = match line.iter().position(|&octet| octet == b' ') {
            Some(space) => (line.get(..space).unwrap_or_default(), line.get(space.saturating_add(1)..)),
            None => (line, None),
        };
        let argument = argument.unwrap_or_default();
        match verb.to_ascii_uppercase().as_slice() {
            b"EHLO" => HeloName::read(argument).map(Self::Ehlo),
            b"HELO" => HeloName::read(argument).map(Self::Helo),
            b"MAIL" => mail(argument, offered, now),
            b"RCPT" => rcpt(argument, offered),
            b"DATA" => alone(Self::Data, argument, CommandFault::Argument("DATA takes no argument")),
            b"BDAT" => bdat(argument),
            b"RSET" => alone(Self::Rset, argument, CommandFault::Argument("RSET takes no argument")),
            b"QUIT" => alone(Self::Quit, argument, CommandFault::Argument("QUIT takes no argument")),
            b"STARTTLS" => alone(Self::StartTls, argument, CommandFault::StartTls),
            b"AUTH" => auth(argument),
            b"NOOP" => Ok(Self::Noop),
            b"HELP" => Ok(Self::Help),
            b"VRFY" if argument.is_empty() => Err(CommandFault::Argument("VRFY takes a user or an address")),
            b"VRFY" => Ok(Self::Vrfy(printable(argument))),
            b"EXPN" => Ok(Self::Expn),
            verb if HTTP_METHODS.contains(&verb) => Err(CommandFault::Http),
            _ if looks_like_bdat(line) => Err(CommandFault::Bdat),
            _ => Err(CommandFault::Unknown),
        }
    }
}

fn alone(command: Command, argument: &[u8], otherwise: CommandFault) -> Result<Command, CommandFault> {
    if argument.is_empty() { Ok(command) } else { Err(otherwise) }
}

fn mail(argument: &[u8], offered: &Offered, now: WallTime) -> Result<Command, CommandFault> {
    let (path, rest) = path::split(argument, b"FROM:")
        .ok_or(CommandFault::Argument("MAIL takes FROM:<address> and parameters"))?
        .map_err(CommandFault::Sender)?;
    let reverse_path = path::reverse(path).map_err(CommandFault::Sender)?;
    Ok(Command::Mail { reverse_path, parameters: parameters::of_mail(rest, offered, now)? })
}

fn rcpt(argument: &[u8], offered: &Offered) -> Result<Command, CommandFault> {
    let (path, rest) = path::split(argument, b"TO:")
        .ok_or(CommandFault::Argument("RCPT takes TO:<address> and parameters"))?
        .map_err(CommandFault::Recipient)?;
    let forward_path = path::forward(path).map_err(CommandFault::Recipient)?;
    Ok(Command::Rcpt { forward_path, parameters: parameters::of_rcpt(rest, offered)? })
}

/// RFC 3030 §2: `BDAT SP chunk-size [SP end-marker]`.
fn bdat(argument: &[u8]) -> Result<Command, CommandFault> {
    let text = std::str::from_utf8(argument).map_err(|_| CommandFault::Bdat)?;
    let (count, last) = match text.split_once(' ') {
        None => (text, false),
        Some((count, marker)) if marker.eq_ignore_ascii_case("LAST") => (count, true),
        Some(_) => return Err(CommandFault::Bdat),
    };
    if count.len() > OCTET_COUNT_DIGITS || !is_digits(count) {
        return Err(CommandFault::Bdat);
    }
    Ok(Command::Bdat { count: count.parse().map_err(|_| CommandFault::Bdat)?, last })
}

/// Whether another reader could take the line for BDAT, and what is behind it for its chunk, where blanks stand before the verb, or something else than a
/// space behind it. Read on as commands, a message could say MAIL.
fn looks_like_bdat(line: &[u8]) -> bool {
    let shown = line.iter().position(u8::is_ascii_graphic).and_then(|first| line.get(first..)).unwrap_or_default();
    let is_verb = shown.get(..VERB_BDAT.len()).is_some_and(|verb| verb.eq_ignore_ascii_case(VERB_BDAT));
    is_verb && !shown.get(VERB_BDAT.len()).is_some_and(u8::is_ascii_alphabetic)
}

/// RFC 4954 §4: `AUTH SP mechanism [SP initial-response]`.
fn auth(argument: &[u8]) -> Result<Command, CommandFault> {
    let mut words = argument.splitn(2, |&octet| octet == b' ');
    let name = words.next().unwrap_or_default();
    let is_name = |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_');
    if name.is_empty() || name.len() > MECHANISM_MAX || !name.iter().all(is_name) {
        return Err(CommandFault::Argument("AUTH takes a mechanism"));
    }
    let initial = words.next().map(|text| InitialResponse::new(text.to_vec()));
    Ok(Command::Auth { mechanism: printable(name).to_ascii_uppercase(), initial })
}

/// RFC 5321 §4.1.1: white space before the CRLF is tolerated.
fn trim_end(line: &[u8]) -> &[u8] {
    let end = line.iter().rposition(|octet| !matches!(octet, b' ' | b'\t'));
    line.get(..end.map_or(0, |last| last.saturating_add(1))).unwrap_or_default()
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit())
}

/// As text for a log; what is not UTF-8 and what is a control replaced.
fn printable(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
