//! Paths: what stands in the angle brackets of MAIL and RCPT (RFC 5321 §4.1.2). The address itself is `mail::address`'s to read.

use crate::mail::{Address, AddressFault, Domain, ForwardPath, ReversePath};

/// Why an argument is no path; printable ASCII, fit for a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathFault {
    /// No `<` where it must be.
    #[error("the address must stand in angle brackets")]
    NoBracket,
    /// No `>` outside quotes.
    #[error("the closing angle bracket is missing")]
    Unclosed,
    /// Something other than a space behind the `>`.
    #[error("a space must follow the closing angle bracket")]
    Behind,
    /// Neither ASCII nor UTF-8 (RFC 6531 §3.3).
    #[error("the address is not UTF-8")]
    NotUtf8,
    /// A source route that is none.
    #[error("the source route is malformed")]
    Route,
    /// `<>` in RCPT.
    #[error("a recipient is needed")]
    NoRecipient,
    /// The address.
    #[error("{0}")]
    Address(AddressFault),
}

/// The path without its brackets, and the parameters behind. `None` when the argument does not begin with the keyword.
pub(super) fn split<'a>(argument: &'a [u8], keyword: &[u8]) -> Option<Result<(&'a str, &'a str), PathFault>> {
    let (start, rest) = argument.split_at_checked(keyword.len())?;
    start.eq_ignore_ascii_case(keyword).then(|| {
        let text = std::str::from_utf8(rest).map_err(|_| PathFault::NotUtf8)?;
        between_brackets(text.strip_prefix(' ').unwrap_or(text))
    })
}

fn between_brackets(text: &str) -> Result<(&str, &str), PathFault> {
    let inner = text.strip_prefix('<').ok_or(PathFault::NoBracket)?;
    let (path, rest) = closing_bracket(inner).and_then(|end| inner.split_at_checked(end)).ok_or(PathFault::Unclosed)?;
    match rest.strip_prefix('>') {
        Some(parameters) if parameters.is_empty() || parameters.starts_with(' ') => Ok((path, parameters)),
        _ => Err(PathFault::Behind),
    }
}

/// Where the `>` is that no quoted string holds (RFC 5321 §4.1.2: a local part may be `"a>b"`).
fn closing_bracket(text: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    text.bytes().position(|octet| {
        if escaped {
            escaped = false;
            return false;
        }
        match octet {
            b'"' => quoted = !quoted,
            b'\\' => escaped = quoted,
            b'>' => return !quoted,
            _ => {}
        }
        false
    })
}

/// The path of MAIL.
pub(super) fn reverse(path: &str) -> Result<ReversePath, PathFault> {
    if path.is_empty() {
        return Ok(ReversePath::Null);
    }
    mailbox(path).map(ReversePath::Address)
}

/// The path of RCPT; the bare postmaster in any case (RFC 5321 §4.1.1.3).
pub(super) fn forward(path: &str) -> Result<ForwardPath, PathFault> {
    match path {
        "" => Err(PathFault::NoRecipient),
        name if name.eq_ignore_ascii_case("postmaster") => Ok(ForwardPath::Postmaster),
        _ => mailbox(path).map(ForwardPath::Address),
    }
}

fn mailbox(path: &str) -> Result<Address, PathFault> {
    Address::parse(without_route(path)?).map_err(PathFault::Address)
}

/// RFC 5321 §4.1.2, appendix C: a source route `@a,@b:` is read and ignored.
fn without_route(path: &str) -> Result<&str, PathFault> {
    if !path.starts_with('@') {
        return Ok(path);
    }
    let (route, mailbox) = path.split_once(':').ok_or(PathFault::Route)?;
    let is_hop = |hop: &str| hop.strip_prefix('@').is_some_and(|domain| Domain::parse(domain).is_ok());
    if route.split(',').all(is_hop) { Ok(mailbox) } else { Err(PathFault::Route) }
}
