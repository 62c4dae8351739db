//! A mailbox list (RFC 5322 §3.4), read strictly: only what no two readers take for different mailboxes.
//!
//! Taken: `alice@example.com`, `Alice <alice@example.com>`, quoted strings, encoded words (RFC 2047) and dots in the name, one level of
//! comments beside an address. Not taken: groups, routes, empty list elements, white space or comments inside an address, nested comments,
//! backslashes in comments, `"a@b"@x`, anything behind `<...>` but a comment. Never: guesses.

use unicode_normalization::UnicodeNormalization;

use crate::mail::Address;
use crate::mail::address::{AddressFault, is_atext};

/// The most mailboxes in one field.
pub(super) const MAILBOXES_MAX: usize = 64;

/// Why a value is no list of mailboxes that all readers agree on; reads on behind "Field From ".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum MailboxFault {
    #[error("is empty")]
    Empty,
    #[error("has an empty place in its list")]
    EmptyPlace,
    #[error("names more than {MAILBOXES_MAX} mailboxes")]
    TooMany,
    #[error("uses group syntax (a colon or semicolon outside quotes)")]
    Group,
    #[error("has a quoted string without its end")]
    Quote,
    #[error("has a comment without its end")]
    Comment,
    #[error("has a comment within a comment, or a backslash in one")]
    NestedComment,
    #[error("has a '<' without its '>'")]
    Angle,
    #[error("has more behind an address than a comment")]
    Behind,
    #[error("has words but no address; write Name <local@domain>")]
    NoAddress,
    #[error("has an @ in a name that is not in quotes, or a split address")]
    LooseAt,
    #[error("has a '{}' where none may stand", .0.escape_default())]
    Stray(char),
    #[error("has a quoted local part with signs that readers take differently")]
    QuotedLocalPart,
    #[error("has an address that is not in Unicode's normal form C")]
    NotNormal,
    #[error("has a wrong address: {0}")]
    Address(AddressFault),
}

/// One mailbox of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mailbox {
    pub(super) address: Address,
    /// The display name word by word, without quotes, encoded words left as they are.
    name: Vec<String>,
    comments: Vec<String>,
    /// What stands before the address, octet for octet.
    before: String,
}

impl Mailbox {
    /// What is shown beside the address: the name and behind it the comments. Most programs put a space between the words of a name, some none; and some
    /// look for encoded words (RFC 2047) before they know of comments and quotes, which are then part of the word.
    pub(super) fn shown(&self) -> [String; 3] {
        let comments: String = self.comments.iter().map(|comment| format!(" ({comment})")).collect();
        let [apart, together] = [" ", ""].map(|between| format!("{}{comments}", self.name.join(between)));
        let raw = if self.before.contains("=?") { self.before.clone() } else { together.clone() };
        [apart, together, raw]
    }
}

/// Reads an unfolded value.
pub(super) fn read_mailboxes(value: &str) -> Result<Vec<Mailbox>, MailboxFault> {
    let mut scanner = Scanner { rest: value };
    scanner.skip_space();
    if scanner.rest.is_empty() {
        return Err(MailboxFault::Empty);
    }
    let mut mailboxes = Vec::new();
    loop {
        if mailboxes.len() == MAILBOXES_MAX {
            return Err(MailboxFault::TooMany);
        }
        mailboxes.push(scanner.mailbox()?);
        match scanner.next() {
            None => return Ok(mailboxes),
            Some(',') => {}
            Some(':' | ';') => return Err(MailboxFault::Group),
            Some(_) => return Err(MailboxFault::Behind),
        }
    }
}

struct Scanner<'a> {
    rest: &'a str,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let letter = self.peek()?;
        self.rest = self.rest.get(letter.len_utf8()..).unwrap_or_default();
        Some(letter)
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }

    /// So many octets, which end at a character.
    fn take(&mut self, octets: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at_checked(octets).unwrap_or((self.rest, ""));
        self.rest = rest;
        taken
    }

    /// mailbox = name-addr / addr-spec (RFC 5322 §3.4), up to the comma or the end.
    fn mailbox(&mut self) -> Result<Mailbox, MailboxFault> {
        let mut name: Vec<String> = Vec::new();
        let mut comments = Vec::new();
        let whole = self.rest;
        let mut before;
        let address = loop {
            self.skip_space();
            before = whole.get(..whole.len().saturating_sub(self.rest.len())).unwrap_or_default();
            match self.peek() {
                None | Some(',') if name.is_empty() => return Err(MailboxFault::EmptyPlace),
                None | Some(',') => return Err(MailboxFault::NoAddress),
                Some('(') => comments.push(self.comment()?),
                Some('<') => break self.angle_address()?,
                Some('"') => name.extend(Some(self.quoted_string()?).filter(|word| !word.is_empty())),
                Some(':' | ';') => return Err(MailboxFault::Group),
                Some(letter) if is_atext(letter) || letter == '.' => {
                    let word = self.word()?;
                    if !word.contains('@') {
                        name.push(word.to_owned());
                    } else if name.is_empty() {
                        break address(word)?;
                    } else {
                        return Err(MailboxFault::LooseAt);
                    }
                }
                Some('@') => return Err(MailboxFault::LooseAt),
                Some(other) => return Err(MailboxFault::Stray(other)),
            }
        };
        self.skip_space();
        while self.peek() == Some('(') {
            comments.push(self.comment()?);
            self.skip_space();
        }
        Ok(Mailbox { address, name, comments, before: before.to_owned() })
    }

    /// An atom of a name, or a whole address without angle brackets: its literal may hold colons.
    fn word(&mut self) -> Result<&'a str, MailboxFault> {
        let end = |text: &str| {
            text.find(|letter: char| !is_atext(letter) && !matches!(letter, '.' | '@')).unwrap_or(text.len())
        };
        let mut length = end(self.rest);
        let (word, behind) = self.rest.split_at_checked(length).unwrap_or_default();
        if word.ends_with('@') && behind.starts_with('[') {
            let literal = behind.find(']').ok_or(MailboxFault::Stray('['))?;
            length = length.saturating_add(literal).saturating_add(1);
        }
        match behind.chars().next() {
            Some('"') => Err(MailboxFault::Stray('"')),
            _ => Ok(self.take(length)),
        }
    }

    /// quoted-string (RFC 5322 §3.2.4), without its quotes and backslashes.
    fn quoted_string(&mut self) -> Result<String, MailboxFault> {
        self.next();
        let mut text = String::new();
        loop {
            match self.next() {
                None => return Err(MailboxFault::Quote),
                Some('\\') => text.push(self.next().ok_or(MailboxFault::Quote)?),
                Some('"') => break,
                Some(letter) => text.push(letter),
            }
        }
        match self.peek() {
            Some('@') => Err(MailboxFault::QuotedLocalPart),
            // A name that goes on without a space: some readers put the parts together, some apart.
            Some(letter) if is_atext(letter) || matches!(letter, '.' | '"') => Err(MailboxFault::Stray(letter)),
            _ => Ok(text),
        }
    }

    /// comment (RFC 5322 §3.2.2) of one level.
    fn comment(&mut self) -> Result<String, MailboxFault> {
        self.next();
        let end = self.rest.find(['(', ')', '\\']).ok_or(MailboxFault::Comment)?;
        let text = self.take(end).to_owned();
        if self.next() == Some(')') { Ok(text) } else { Err(MailboxFault::NestedComment) }
    }

    /// angle-addr = "<" addr-spec ">", with nothing between them.
    fn angle_address(&mut self) -> Result<Address, MailboxFault> {
        self.next();
        let mut quoted = false;
        let mut escaped = false;
        for (place, letter) in self.rest.char_indices() {
            match letter {
                _ if escaped => escaped = false,
                '\\' if quoted => escaped = true,
                '"' => quoted = !quoted,
                '>' if !quoted => {
                    let found = address(self.take(place))?;
                    self.next();
                    return Ok(found);
                }
                _ => {}
            }
        }
        Err(if quoted { MailboxFault::Quote } else { MailboxFault::Angle })
    }
}

fn address(text: &str) -> Result<Address, MailboxFault> {
    let address = Address::parse(text).map_err(MailboxFault::Address)?;
    let quoted = address.local_part().strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    if quoted.is_some_and(|inner| !inner.chars().all(|letter| is_atext(letter) || matches!(letter, '.' | ' '))) {
        return Err(MailboxFault::QuotedLocalPart);
    }
    if !text.is_ascii() && !text.nfc().eq(text.chars()) {
        return Err(MailboxFault::NotNormal);
    }
    Ok(address)
}

#[cfg(test)]
mod tests;
