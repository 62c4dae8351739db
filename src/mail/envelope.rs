//! The envelope: who to report to, who to deliver to, and what was asked for each (RFC 5321 §2.3.1, RFC 3461).
//!
//! An [`Envelope`] is complete: it has at least one recipient, and cannot be made without.

use serde::{Deserialize, Serialize};

use super::address::Address;
use crate::sys::WallTime;

/// The argument of MAIL FROM (RFC 5321 §4.1.1.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReversePath {
    /// `<>`: nobody is to be told (RFC 5321 §4.5.5).
    Null,
    /// Reports go to this address.
    Address(Address),
}

impl ReversePath {
    /// The path as it stands between the angle brackets; empty for the null path.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Null => "",
            Self::Address(address) => address.as_str(),
        }
    }
}

/// The argument of RCPT TO (RFC 5321 §4.1.1.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ForwardPath {
    /// The bare `<postmaster>`, in any case, which every server must take (RFC 5321 §4.5.1).
    Postmaster,
    /// A mailbox.
    Address(Address),
}

impl ForwardPath {
    /// The path as it stands between the angle brackets.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Postmaster => "postmaster",
            Self::Address(address) => address.as_str(),
        }
    }
}

/// What the client said of the body (RFC 6152).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// Nothing said, or `BODY=7BIT`.
    #[default]
    SevenBit,
    /// `BODY=8BITMIME`.
    EightBitMime,
}

/// How much of the message a report carries (RFC 3461 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ret {
    /// The whole message.
    Full,
    /// The header section.
    Headers,
}

/// DELIVERBY (RFC 2852 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliverBy {
    /// The moment by which to deliver.
    pub deadline: WallTime,
    /// True: give up then and report (`R`). False: only tell (`N`).
    pub or_return: bool,
    /// `T`: trace the way.
    pub trace: bool,
}

/// The parameters of MAIL, of every extension that sealpost knows of. What an issue does not offer yet stays at its default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailParameters {
    /// `SIZE=`: octets, as declared (RFC 1870).
    pub size: Option<u64>,
    /// `BODY=`.
    pub body: Body,
    /// `SMTPUTF8` (RFC 6531).
    pub smtputf8: bool,
    /// `RET=` (RFC 3461 §4.3).
    pub ret: Option<Ret>,
    /// `ENVID=`, still in xtext (RFC 3461 §4.4).
    pub envid: Option<String>,
    /// `REQUIRETLS` (RFC 8689).
    pub require_tls: bool,
    /// `BY=` (RFC 2852).
    pub deliver_by: Option<DeliverBy>,
    /// `HOLDFOR=` or `HOLDUNTIL=` as a moment (RFC 4865).
    pub hold_until: Option<WallTime>,
    /// `MT-PRIORITY=`, -9 to 9 (RFC 6710).
    pub priority: Option<i8>,
}

/// When to report on a recipient (RFC 3461 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notify {
    /// `SUCCESS`.
    pub success: bool,
    /// `FAILURE`.
    pub failure: bool,
    /// `DELAY`.
    pub delay: bool,
}

impl Notify {
    /// `NEVER`.
    pub const NEVER: Self = Self { success: false, failure: false, delay: false };
    /// What is meant when nothing is said (RFC 3461 §4.1: failure, and delay at the server's discretion).
    pub const DEFAULT: Self = Self { success: false, failure: true, delay: true };
}

/// `ORCPT=` (RFC 3461 §4.2): address type and the address, still in xtext.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginalRecipient {
    /// `rfc822` or `utf-8`.
    pub address_type: String,
    /// The address in xtext.
    pub address: String,
}

/// Each letter that is not ASCII as `\\x{HEX}`: how an internationalized address goes where only seven bits do (RFC 6533 §3).
pub fn utf8_escaped(address: &str) -> String {
    let mut text = String::with_capacity(address.len());
    for letter in address.chars() {
        if letter.is_ascii() {
            text.push(letter);
        } else {
            text.push_str(&format!("\\x{{{:02X}}}", u32::from(letter)));
        }
    }
    text
}

/// The parameters of RCPT.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientParameters {
    /// `NOTIFY=`.
    pub notify: Option<Notify>,
    /// `ORCPT=`.
    pub orcpt: Option<OriginalRecipient>,
}

/// Octets that are kept of a recipient besides its addresses: what was asked for it, how it stands.
const OF_EACH: usize = 16;

/// One recipient of an envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    /// Where to.
    pub forward_path: ForwardPath,
    /// What was asked for it.
    pub parameters: RecipientParameters,
}

/// A complete envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    reverse_path: ReversePath,
    parameters: MailParameters,
    recipients: Vec<Recipient>,
}

impl Envelope {
    /// An envelope; `None` when nobody is to receive it.
    pub fn new(reverse_path: ReversePath, parameters: MailParameters, recipients: Vec<Recipient>) -> Option<Self> {
        (!recipients.is_empty()).then_some(Self { reverse_path, parameters, recipients })
    }

    /// Who is told when it cannot be delivered.
    pub fn reverse_path(&self) -> &ReversePath {
        &self.reverse_path
    }

    /// The parameters of MAIL.
    pub fn parameters(&self) -> &MailParameters {
        &self.parameters
    }

    /// Octets that it takes, about.
    pub fn octets(&self) -> u64 {
        let optional = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let of = |one: &Recipient| {
            let original = one.parameters.orcpt.as_ref();
            let original = original.map_or(0, |orcpt| orcpt.address_type.len().saturating_add(orcpt.address.len()));
            one.forward_path.as_str().len().saturating_add(original).saturating_add(OF_EACH)
        };
        let sender = self.reverse_path.as_str().len().saturating_add(optional(&self.parameters.envid));
        let octets = self.recipients.iter().fold(sender, |sum, one| sum.saturating_add(of(one)));
        u64::try_from(octets).unwrap_or(u64::MAX)
    }

    /// The recipients in the order of their RCPT; never empty.
    pub fn recipients(&self) -> &[Recipient] {
        &self.recipients
    }
}
