//! One streamed look at the message: facts, no opinion; and the fix-ups (RFC 6409 §8).
//!
//! The header section is read whole within its limit; the body goes by piece by piece and is never judged. Two readers look at the section,
//! ours and mail-parser: where they would see different fields, or different mailboxes in From, Sender and the topmost Resent block, the
//! section can't be judged, and [`HeaderFacts::fault`] says why in a sentence for the reply.
//!
//! Only the fields that say who a message is from are read closely. Of the others it is checked that there are no more than RFC 5322 §3.6
//! allows; MIME fields are not counted, since how a body is read is not judged here. What stands behind the first blank line is body: a From
//! there is absent. What the fix-ups take out or put in is in `fix_ups` and `qualify`. Never: decides who may send what (that is
//! `policy::author`), changes an octet of the body.

mod collector;
mod display;
mod fix_ups;
mod mailboxes;
mod originators;
mod qualify;
mod results;
mod rules;
mod second_reader;
mod signed;

pub use collector::{Collected, HeaderCollector};
pub use fix_ups::{Change, Deed, FixUps, Mended, fix_ups};
pub use results::Proved;
pub use rules::{EightBit, ForeignSender, HeaderRules, MissingSender, Results, Unqualified};

pub use crate::mail::header::{HeaderFault, HeaderLimits};
pub use crate::mail::trace::Utf8Header;
pub use crate::smtp::data::OctetFault;

use crate::mail::Address;
use crate::mail::header::HeaderSection;

/// The most Received fields of a message; one with more goes in circles (RFC 5321 §6.3).
pub const RECEIVED_MAX: usize = 100;
/// As much of a Message-ID as is kept for the log, characters.
const MESSAGE_ID_SHOWN: usize = 250;
/// As much of a field's name as a sentence shows, characters.
const NAME_SHOWN: usize = 40;

/// A field that says who a message is from (RFC 5322 §3.6.2, §3.6.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Originator {
    /// From.
    From,
    /// Sender.
    Sender,
    /// Resent-From of the topmost Resent block.
    ResentFrom,
    /// Resent-Sender of the topmost Resent block.
    ResentSender,
}

impl Originator {
    /// The field's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::From => "From",
            Self::Sender => "Sender",
            Self::ResentFrom => "Resent-From",
            Self::ResentSender => "Resent-Sender",
        }
    }

    /// What is said of an address in its display name.
    pub const fn display_name(self) -> &'static str {
        match self {
            Self::From => "From (display name)",
            Self::Sender => "Sender (display name)",
            Self::ResentFrom => "Resent-From (display name)",
            Self::ResentSender => "Resent-Sender (display name)",
        }
    }
}

/// An address that a display name or a comment shows to people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DisplayAddress {
    /// In which field.
    pub field: Originator,
    /// The address shown.
    pub address: Address,
}

/// What a display name or a comment shows to people that could be taken for an address, and can't be read as one: nobody can be granted it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookalike {
    /// In which field.
    pub field: Originator,
    /// As it is seen, cut short.
    pub text: String,
}

/// What the header section says. Made by [`read_header`]; `fault` set means that it can't be judged at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderFacts {
    /// Why the section can't be judged: which field, and why; for people.
    pub fault: Option<HeaderFault>,
    /// The mailboxes of the one From field.
    pub from: Vec<Address>,
    /// The mailbox of Sender.
    pub sender: Option<Address>,
    /// Why Sender can't be judged, where the rest of the section can; for people.
    pub sender_fault: Option<String>,
    /// The mailboxes of the topmost Resent-From.
    pub resent_from: Vec<Address>,
    /// The mailbox of the topmost Resent-Sender.
    pub resent_sender: Option<Address>,
    /// Addresses in the display names and comments of all these.
    pub display_addresses: Vec<DisplayAddress>,
    /// What looks like an address in them and is none.
    pub lookalikes: Vec<Lookalike>,
    /// Whether a Date field is there.
    pub has_date: bool,
    /// Whether a Message-ID field is there, and its value without white space, printable, for the log.
    pub message_id: Option<String>,
    /// Whether the field `TLS-Required: No` is there (RFC 8689 §3): for the log, nothing obeys it here.
    pub waives_tls: bool,
    /// How many Received fields: the hop count (RFC 5321 §6.3). More than [`RECEIVED_MAX`] is a loop.
    pub received: usize,
    /// Whether the section holds octets over 127 (RFC 6532).
    pub eight_bit: bool,
    /// The first field that holds some, where MAIL did not say SMTPUTF8.
    pub undeclared: Option<String>,
    /// Whether there is a Sender field, good or bad.
    pub has_sender: bool,
    /// What in a field of addresses is not fully qualified, with the field's name, where that is asked for; for people.
    pub unqualified: Option<String>,
    /// The fields' names in the `h=` of each DKIM signature that could verify, lower case and in order: not to be added or changed.
    pub signed: Vec<String>,
}

/// Looks at a header section as [`HeaderCollector`] gathered it (what is behind its blank line is not looked at).
///
/// Without SMTPUTF8, octets over 127 in the fields that say who it is from are a fault; in other fields they pass (RFC 6531 §3.4 wants
/// them declared, but raw Latin-1 subjects are honest).
pub fn read_header(octets: &[u8], limits: &HeaderLimits, utf8: Utf8Header) -> HeaderFacts {
    let section = match HeaderSection::read(octets, limits) {
        Ok(section) => section,
        Err(fault) => return HeaderFacts { fault: Some(fault), ..HeaderFacts::default() },
    };
    let mut eight_bit = section.fields().iter().filter(|field| !field.value.is_ascii());
    let first_of_eight_bit = eight_bit.next();
    let mut facts = HeaderFacts {
        has_date: section.named("Date").next().is_some(),
        message_id: section.named("Message-ID").next().map(|field| shown_message_id(&field.unfolded())),
        waives_tls: section
            .named("TLS-Required")
            .any(|field| field.unfolded().trim_ascii().eq_ignore_ascii_case(b"no")),
        received: section.named("Received").count(),
        eight_bit: first_of_eight_bit.is_some(),
        undeclared: match utf8 {
            Utf8Header::Declared => None,
            Utf8Header::NotDeclared => first_of_eight_bit.map(|field| shown_name(field.name)),
        },
        has_sender: section.named("Sender").next().is_some(),
        signed: signed::signed_names(&section),
        ..HeaderFacts::default()
    };
    let section_octets = octets.get(..section.length()).unwrap_or_default();
    if let Err(fault) = originators::read(&section, section_octets, utf8, &mut facts) {
        facts.fault = Some(HeaderFault::Field(fault));
    }
    facts
}

/// Takes a section as it was gathered: what is to be completed in it is, then it is read. What is judged is what goes on. RFC 5322 §2.2: a field ends
/// in CRLF. By DATA it has it; where a message in chunks ends within its last field, it gets it here.
pub fn take_in(
    mut section: Vec<u8>,
    limits: &HeaderLimits,
    utf8: Utf8Header,
    rules: &HeaderRules,
) -> (Vec<u8>, HeaderFacts) {
    if !section.is_empty() && !section.ends_with(b"\r\n") {
        section.extend_from_slice(b"\r\n");
    }
    let section = match &rules.unqualified {
        Unqualified::Completed(domain) => qualify::complete(&section, limits, domain).unwrap_or(section),
        Unqualified::Passed | Unqualified::Refused => section,
    };
    let mut facts = read_header(&section, limits, utf8);
    if rules.unqualified == Unqualified::Refused {
        facts.unqualified = qualify::first(&section, limits);
    }
    (section, facts)
}

/// A field's name as a sentence shows it.
fn shown_name(name: &str) -> String {
    name.chars().take(NAME_SHOWN).collect()
}

fn shown_message_id(value: &[u8]) -> String {
    let printable = |octet: &u8| if octet.is_ascii_graphic() { char::from(*octet) } else { '?' };
    value.iter().filter(|octet| !matches!(octet, b' ' | b'\t')).take(MESSAGE_ID_SHOWN).map(printable).collect()
}

impl HeaderFacts {
    /// Whether a signature of the message covers the fields of this name, in lower case.
    pub fn is_signed(&self, name: &str) -> bool {
        self.signed.binary_search_by(|signed| signed.as_str().cmp(name)).is_ok()
    }
}

/// How the body went by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyEnd {
    /// To its true end.
    Complete,
    /// This octet leaves the end in dispute.
    Disputed(OctetFault),
    /// To its true end, but it was larger than allowed.
    TooLarge,
    /// So far beyond what is allowed that nobody reads on to its end.
    Endless,
    /// To its true end, but a line was over the limit.
    LineTooLong {
        /// The limit, octets.
        limit: usize,
    },
}

/// What is known when the body has gone by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyFacts {
    /// How it ended.
    pub end: BodyEnd,
    /// Octets of the message as received, without the framing.
    pub octets: u64,
}

#[cfg(test)]
mod tests;
