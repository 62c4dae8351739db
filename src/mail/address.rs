//! Addresses: the mailboxes of RFC 5321 §4.1.2, RFC 6531 §3.3, and the one canonicaliser by which they compare.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How the ASCII local parts of a domain compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LocalPartCase {
    /// `Alice` and `alice` are one.
    #[default]
    Ignored,
    /// Octet for octet.
    Exact,
}

/// Why a text is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressFault {
    /// Grammar.
    #[error("not an address")]
    Syntax,
}

/// A domain name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Domain {}

/// What stands right of the `@`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// A domain name.
    Domain(Domain),
    /// `[192.0.2.1]`, `[IPv6:2001:db8::1]`.
    Literal(std::net::IpAddr),
}

/// A mailbox, as written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    text: String,
}

impl Address {
    /// Reads an address of RFC 5321 §4.1.2 with RFC 6531's UTF-8.
    pub fn parse(text: &str) -> Result<Self, AddressFault> {
        Ok(Self { text: text.to_owned() })
    }
    /// As written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
    /// The local part as written (quotes kept).
    pub fn local_part(&self) -> &str {
        ""
    }
    /// Right of the `@`.
    pub fn host(&self) -> &Host {
        unimplemented!()
    }
    /// Whether it is all ASCII.
    pub fn is_ascii(&self) -> bool {
        self.text.is_ascii()
    }
    /// The form by which it compares.
    pub fn canonical(&self, _case: LocalPartCase) -> CanonicalAddress {
        unimplemented!()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
impl TryFrom<String> for Address {
    type Error = AddressFault;
    fn try_from(text: String) -> Result<Self, AddressFault> {
        Self::parse(&text)
    }
}
impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.text
    }
}

/// The form of an address by which it compares: local part unquoted and in its case rule, domain in lower-case A-labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CanonicalAddress {
    /// Local part, unquoted.
    pub local: String,
    /// Host: A-labels in lower case, or a literal in brackets.
    pub host: String,
}
