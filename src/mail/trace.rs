//! The trace field: the Received that we put on top of every message (RFC 5321 §4.4).
//!
//! ```text
//! Received: from laptop.example ([192.0.2.1])
//!         by mail.example.com (identity alice) with ESMTPSA id 01jdd3v8r0...
//!         for <bob@example.net> tls TLS_AES_256_GCM_SHA384 (TLSv1.3);
//!         Tue, 24 Nov 2026 01:48:00 +0000
//! ```
//!
//! Who submitted is told only when the operator wants it told: the client (its EHLO name and its address) and the identity are each left out
//! otherwise. A `from` clause is in every stamp (RFC 5321 §4.4 MUST); where the client is not told, it names a host that nobody can have
//! (RFC 2606 §2), so that no reader takes it for one. Everything here is printable, folded under 78 columns where it can be, never a line over 998 octets (RFC 5322 §2.1.1).
//! Never: puts an octet of the client's own there that could end the field, reads a clock.

use std::fmt;
use std::net::IpAddr;

use super::address::Host;
use super::custody::QueueId;
use super::envelope::ForwardPath;
use crate::sys::WallTime;

/// Where lines are folded, columns (RFC 5322 §2.1.1: SHOULD be no more than 78).
const COLUMNS: usize = 78;
/// What a continuation line begins with: a tab, seen as eight columns.
const FOLD: &str = "\r\n\t";
const FOLD_COLUMNS: usize = 8;
/// Who stands for a client that is not told: no host is ever called so (RFC 2606 §2).
const UNTOLD: &str = "from client.invalid";
/// The longest identity that is shown, characters; the rest is cut.
pub(crate) const IDENTITY_MAX: usize = 200;

/// The protocol of the `with` clause: everything here came over TLS (RFC 3848 §1; RFC 6531 §4.3 for the UTF-8 forms).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TLS.
    Esmtps,
    /// TLS and AUTH.
    Esmtpsa,
    /// TLS; MAIL said SMTPUTF8.
    Utf8Smtps,
    /// TLS and AUTH; MAIL said SMTPUTF8.
    Utf8Smtpsa,
}

/// Whether the client has said AUTH with success in this session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// The certificate alone.
    Certificate,
    /// AUTH succeeded too.
    Auth,
}

/// Whether MAIL said SMTPUTF8 (RFC 6531 §3.4): then, and only then, addresses and originator fields may hold UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Utf8Header {
    /// It said so.
    Declared,
    /// It did not.
    NotDeclared,
}

impl Protocol {
    /// What it is called for this authentication and this message.
    pub fn of(authentication: Authentication, utf8: Utf8Header) -> Self {
        match (authentication, utf8) {
            (Authentication::Certificate, Utf8Header::NotDeclared) => Self::Esmtps,
            (Authentication::Auth, Utf8Header::NotDeclared) => Self::Esmtpsa,
            (Authentication::Certificate, Utf8Header::Declared) => Self::Utf8Smtps,
            (Authentication::Auth, Utf8Header::Declared) => Self::Utf8Smtpsa,
        }
    }

    /// The registered word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Esmtps => "ESMTPS",
            Self::Esmtpsa => "ESMTPSA",
            Self::Utf8Smtps => "UTF8SMTPS",
            Self::Utf8Smtpsa => "UTF8SMTPSA",
        }
    }

    fn allows_utf8(self) -> bool {
        match self {
            Self::Esmtps | Self::Esmtpsa => false,
            Self::Utf8Smtps | Self::Utf8Smtpsa => true,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The client, as the `from` clause tells of it.
#[derive(Clone, Copy, Debug)]
pub struct ShownClient<'a> {
    /// What it called itself in EHLO; left out when it is neither a domain nor a literal.
    pub helo: &'a str,
    /// Where it came from.
    pub address: IpAddr,
}

/// Where the TLS that we have seen ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsEnd {
    /// At the client.
    Client,
    /// At a load balancer, which vouches for the client's certificate; the client's own TLS ended there.
    Balancer,
}

/// What a Received field is made of.
#[derive(Clone, Copy, Debug)]
pub struct Trace<'a> {
    /// Our name.
    pub hostname: &'a str,
    /// The client, when it is to be shown.
    pub client: Option<ShownClient<'a>>,
    /// The identity's name, when it is to be shown.
    pub identity: Option<&'a str>,
    /// How it came.
    pub protocol: Protocol,
    /// The TLS version for people: `TLSv1.3`.
    pub tls_version: &'a str,
    /// The cipher suite's registered name: `TLS_AES_256_GCM_SHA384`.
    pub tls_cipher: &'a str,
    /// With whom that was agreed on.
    pub tls_end: TlsEnd,
    /// Its name in the queue.
    pub id: QueueId,
    /// The priority that the message was given, where there is a word of one.
    pub priority: Option<i8>,
    /// The recipient, when there is only one: with several the field would tell each of the others (RFC 5321 §7.2).
    pub recipient: Option<&'a ForwardPath>,
    /// When it arrived.
    pub arrived: WallTime,
}

impl Trace<'_> {
    /// The whole field with its CRLF.
    pub fn received(&self) -> String {
        let mut words = vec!["Received:".to_owned()];
        words.extend(self.client.map_or_else(|| vec![UNTOLD.to_owned()], from_clause));
        words.push(format!("by {}", self.hostname));
        // Not beside the client: what filters read there in brackets is a host's name and address.
        if let Some(identity) = self.identity {
            words.push(format!("(identity {})", comment_text(identity)));
        }
        words.push(format!("with {}", self.protocol));
        words.push(format!("id {}", self.id));
        if let Some(path) = self.recipient.filter(|path| self.protocol.allows_utf8() || path.as_str().is_ascii()) {
            words.push(format!("for <{}>", path.as_str()));
        }
        // RFC 6710 §4.1: a clause of its own tells what was assigned here. Clauses that others have registered stand behind `for` (RFC 5321 §4.4).
        if let Some(priority) = self.priority {
            words.push(format!("PRIORITY {priority}"));
        }
        // RFC 8314 §4.3 registers the clause `tls` with the suite's name behind it; the version is a comment.
        words.push(format!("tls {}", cipher_name(self.tls_cipher)));
        match self.tls_end {
            TlsEnd::Client => words.push(format!("({});", comment_text(self.tls_version))),
            // Not to be read as the client's: a comment says whose.
            TlsEnd::Balancer => {
                words.push(format!("({}, with a load balancer", comment_text(self.tls_version)));
                words.push("where the client's TLS ended);".to_owned());
            }
        }
        words.push(self.arrived.rfc5322());
        fold(&words)
    }
}

/// RFC 5321 §4.4: From-domain = "FROM" FWS Extended-Domain, the name given in EHLO and the address in a comment. A name that is no host is
/// left out, and the address stands for it.
fn from_clause(client: ShownClient<'_>) -> Vec<String> {
    let address = Host::Literal(client.address);
    match Host::parse(client.helo) {
        Ok(_) if client.helo.is_ascii() => vec![format!("from {}", client.helo), format!("({address})")],
        _ => vec![format!("from {address}")],
    }
}

/// Printable ASCII that may stand in a comment.
fn comment_text(text: &str) -> String {
    let plain = |letter: char| match letter {
        '(' | ')' | '\\' => '?',
        ' '..='~' => letter,
        _ => '?',
    };
    text.chars().take(IDENTITY_MAX).map(plain).collect()
}

/// A cipher suite's name in IANA's registry, everywhere the same. rustls calls the suites of TLS 1.3 `TLS13_...`, the registry `TLS_...` (RFC 8446 §B.4).
pub fn registered_cipher(cipher: &str) -> String {
    cipher.strip_prefix("TLS13_").map_or_else(|| cipher.to_owned(), |rest| format!("TLS_{rest}"))
}

fn cipher_name(cipher: &str) -> String {
    registered_cipher(cipher)
        .chars()
        .filter(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-'))
        .collect()
}

fn fold(words: &[String]) -> String {
    let mut field = String::with_capacity(300);
    let mut column: usize = 0;
    for word in words {
        let wide = word.chars().count();
        if column == 0 {
            column = wide;
        } else if column.saturating_add(wide) < COLUMNS {
            field.push(' ');
            column = column.saturating_add(wide).saturating_add(1);
        } else {
            field.push_str(FOLD);
            column = FOLD_COLUMNS.saturating_add(wide);
        }
        field.push_str(word);
    }
    field.push_str("\r\n");
    field
}

#[cfg(test)]
mod tests;
