//! From, Sender and the topmost Resent block: how many, which mailboxes, what their display names show.
//!
//! Faults are the whole sentence for the reply: the field and what is wrong with it. Never: asks whether an address is granted.

use crate::mail::header::{HeaderSection, RawField, SectionEnd};
use crate::mail::trace::Utf8Header;

use super::display::{DisplayFault, Effort, Sight, look, touches_an_address};
use super::mailboxes::{Mailbox, read_mailboxes};
use super::second_reader::SecondReading;
use super::{DisplayAddress, HeaderFacts, Lookalike, Originator};

/// The longest field that says who a message is from, octets with its folds.
const ORIGINATOR_MAX: usize = 16 * 1024;
/// The most addresses that display names may show in one message.
const DISPLAY_ADDRESSES_MAX: usize = 64;

/// RFC 5322 §3.6: these stand once or not at all.
const SINGLETONS: [&str; 11] =
    ["From", "Sender", "Reply-To", "To", "Cc", "Bcc", "Message-ID", "In-Reply-To", "References", "Subject", "Date"];

/// Fills in who the message says it is from.
pub(super) fn read(
    section: &HeaderSection<'_>,
    octets: &[u8],
    utf8: Utf8Header,
    facts: &mut HeaderFacts,
) -> Result<(), String> {
    let from = check_counts(section)?;
    let resent = topmost_resent(section)?;
    let sender = named(section, "Sender").next();
    let mut effort = Effort::default();
    let second = SecondReading::of(section, octets).ok_or("The header can be cut into fields in two ways");
    for (which, field) in [
        (Originator::From, Some(from)),
        (Originator::Sender, sender),
        (Originator::ResentFrom, resent.from),
        (Originator::ResentSender, resent.sender),
    ] {
        let Some(field) = field else { continue };
        let read = strict_reading(field.1, which, utf8).and_then(|(value, mailboxes)| {
            let second = second.as_ref().map_err(|fault| (*fault).to_owned())?;
            let names = agreed_names(&mailboxes, field.0, second).ok_or_else(|| {
                format!("Field {} can be read two ways; write it as Name <local@domain>", which.name())
            })?;
            let sight = sight(&value, &mailboxes, &names, &mut effort).map_err(|fault| name_fault(which, &fault))?;
            Ok((mailboxes, sight))
        });
        match (which, read) {
            // Sender can be replaced, so it alone does not spoil the rest.
            (Originator::Sender, Err(fault)) => facts.sender_fault = Some(fault),
            (_, Err(fault)) => return Err(fault),
            (_, Ok((mailboxes, sight))) => {
                facts.take(which, mailboxes);
                facts.show(which, sight)?;
            }
        }
    }
    second.map(drop).map_err(str::to_owned)
}

impl HeaderFacts {
    fn take(&mut self, which: Originator, mailboxes: Vec<Mailbox>) {
        let mut addresses = mailboxes.into_iter().map(|mailbox| mailbox.address);
        match which {
            Originator::From => self.from = addresses.collect(),
            Originator::Sender => self.sender = addresses.next(),
            Originator::ResentFrom => self.resent_from = addresses.collect(),
            Originator::ResentSender => self.resent_sender = addresses.next(),
        }
    }
}

impl HeaderFacts {
    fn show(&mut self, field: Originator, sight: Sight) -> Result<(), String> {
        self.display_addresses.extend(sight.addresses.into_iter().map(|address| DisplayAddress { field, address }));
        self.lookalikes.extend(sight.lookalikes.into_iter().map(|text| Lookalike { field, text }));
        if self.display_addresses.len().saturating_add(self.lookalikes.len()) > DISPLAY_ADDRESSES_MAX {
            return Err(format!("Field {} shows too many addresses in its display names", field.name()));
        }
        Ok(())
    }
}

/// A field and its place among the fields of the section.
type Placed<'a> = (usize, &'a RawField<'a>);

fn named<'s>(section: &'s HeaderSection<'_>, name: &'static str) -> impl Iterator<Item = Placed<'s>> {
    section.fields().iter().enumerate().filter(move |(_, field)| field.is(name))
}

/// One From, and no field twice that may stand once.
fn check_counts<'s>(section: &'s HeaderSection<'_>) -> Result<Placed<'s>, String> {
    for name in SINGLETONS {
        let count = named(section, name).count();
        if count > 1 {
            return Err(format!("Field {name} is there {count} times; it may stand only once"));
        }
    }
    named(section, "From").next().ok_or_else(|| match (section.fields().is_empty(), section.end()) {
        (true, SectionEnd::BlankLine) => {
            "The message begins with a blank line: it has no header, and so no From".to_owned()
        }
        (true, SectionEnd::EndOfMessage) => "The message is empty: it has no From".to_owned(),
        (false, _) => "Field From is missing".to_owned(),
    })
}

#[derive(Default)]
struct Resent<'s> {
    from: Option<Placed<'s>>,
    sender: Option<Placed<'s>>,
}

/// RFC 5322 §3.6.6: each resending puts a block on top. A block ends where a trace field stands, or a Resent field comes a second time. One
/// without Resent-From could be read as part of another: when it is the topmost, or has a Resent-Sender, it is refused.
fn topmost_resent<'s>(section: &'s HeaderSection<'_>) -> Result<Resent<'s>, String> {
    let mut blocks: Vec<Vec<Placed<'s>>> = Vec::new();
    let mut open = false;
    for (place, field) in section.fields().iter().enumerate() {
        if field.is("Received") || field.is("Return-Path") {
            open = false;
        }
        if !field.name.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("Resent-")) {
            continue;
        }
        match blocks.last_mut() {
            Some(block) if open && !block.iter().any(|(_, other)| other.is(field.name)) => block.push((place, field)),
            _ => blocks.push(vec![(place, field)]),
        }
        open = true;
    }
    let find = |block: &Vec<Placed<'s>>, name| block.iter().find(|(_, field)| field.is(name)).copied();
    for (depth, block) in blocks.iter().enumerate() {
        if find(block, "Resent-From").is_none() && (depth == 0 || find(block, "Resent-Sender").is_some()) {
            let name = block.first().map_or("Resent-From", |(_, field)| field.name);
            let name = if name.len() < 40 { name } else { "Resent-" };
            return Err(format!("Field {name} begins a Resent block that has no Resent-From"));
        }
    }
    let Some(block) = blocks.first() else { return Ok(Resent::default()) };
    Ok(Resent { from: find(block, "Resent-From"), sender: find(block, "Resent-Sender") })
}

/// The value without its folds, and its mailboxes.
fn strict_reading(field: &RawField<'_>, which: Originator, utf8: Utf8Header) -> Result<(String, Vec<Mailbox>), String> {
    let name = which.name();
    if field.value.len() > ORIGINATOR_MAX {
        return Err(format!("Field {name} is longer than {ORIGINATOR_MAX} octets"));
    }
    if utf8 == Utf8Header::NotDeclared && !field.value.is_ascii() {
        return Err(format!("Field {name} holds 8-bit characters, and MAIL did not say SMTPUTF8"));
    }
    let unfolded = field.unfolded();
    let value = String::from_utf8(unfolded.into_owned()).map_err(|_| format!("Field {name} is not in UTF-8"))?;
    let mailboxes = read_mailboxes(&value).map_err(|fault| format!("Field {name} {fault}"))?;
    // RFC 5322 §3.6.2: sender = "Sender:" mailbox; §3.6.6 the same for Resent-Sender.
    let several = mailboxes.len() > 1 && matches!(which, Originator::Sender | Originator::ResentSender);
    if several {
        return Err(format!("Field {name} names several mailboxes; it may name only one"));
    }
    Ok((value, mailboxes))
}

/// What the second reader takes for the names, if it sees the same mailboxes.
fn agreed_names(mailboxes: &[Mailbox], place: usize, second: &SecondReading<'_>) -> Option<Vec<String>> {
    let others = second.mailboxes(place)?;
    let agreed = others.len() == mailboxes.len()
        && mailboxes.iter().zip(&others).all(|(mailbox, other)| other.address() == Some(mailbox.address.as_str()));
    agreed.then(|| others.iter().filter_map(|other| other.name()).map(str::to_owned).collect())
}

/// What people see in the names, ours and the second reader's.
fn sight(value: &str, mailboxes: &[Mailbox], names: &[String], effort: &mut Effort) -> Result<Sight, DisplayFault> {
    let mut sight = Sight::default();
    let mut before = String::new();
    for text in mailboxes.iter().flat_map(Mailbox::shown).chain(names.iter().cloned()) {
        // A name of one word is the same with spaces and without, and as it stands.
        if text != before {
            look(&text, &mut sight, effort)?;
        }
        before = text;
    }
    // Some decode a field before they cut it into mailboxes: a word that reaches over an address, or stands within one, is one to them, address and all.
    if touches_an_address(value, effort)? {
        look(value, &mut sight, effort)?;
        // Nothing was looked at beyond so many, and one's own among them must not make that few.
        if sight.is_full() {
            return Err(DisplayFault::TooMuch);
        }
        sight.addresses.retain(|address| mailboxes.iter().all(|mailbox| mailbox.address != *address));
    }
    Ok(sight)
}

fn name_fault(which: Originator, fault: &DisplayFault) -> String {
    let name = which.name();
    match fault {
        DisplayFault::UnknownCharset(charset) => {
            format!("Field {name} has a name in the charset {charset:?}, which is not read here; write it in UTF-8")
        }
        DisplayFault::Control => format!("Field {name} has a name that decodes to control characters"),
        DisplayFault::TooMuch => format!("Field {name} has names with too much in them to decode"),
    }
}
