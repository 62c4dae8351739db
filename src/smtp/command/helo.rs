//! The name in EHLO and HELO (RFC 5321 §4.1.1.1).
//!
//! It decides nothing here: the certificate says who the client is. So a name that is no domain (underscores, a computer's name with spaces
//! or umlauts) is let pass, as Postfix does, and RFC 5321 §4.1.4 forbids to refuse mail for it. It goes into the Received field, where it must
//! break nothing: each octet that has a meaning in a header field becomes `?`.

use std::fmt;

use super::CommandFault;

/// The longest name, octets (RFC 5321 §4.5.3.1.2).
pub const HELO_NAME_MAX: usize = 255;

/// What the client calls itself: never empty, ASCII, without white space, quotes, brackets of comments and addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeloName(String);

impl HeloName {
    /// Reads what follows the verb.
    pub(super) fn read(argument: &[u8]) -> Result<Self, CommandFault> {
        if argument.is_empty() || argument.len() > HELO_NAME_MAX {
            return Err(CommandFault::HeloName);
        }
        Ok(Self(argument.iter().map(|&octet| if is_harmless(octet) { char::from(octet) } else { '?' }).collect()))
    }

    /// As it may be shown and written into a header field.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HeloName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Printable, and none of RFC 5322 §3.2.3's specials but those of domains and address literals (RFC 5321 §4.1.3).
fn is_harmless(octet: u8) -> bool {
    octet.is_ascii_graphic() && !matches!(octet, b'(' | b')' | b'<' | b'>' | b'@' | b',' | b';' | b'\\' | b'"')
}
