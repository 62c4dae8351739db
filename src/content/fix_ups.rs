//! What a submission server changes in a header (RFC 6409 §8): fields put in front, fields taken out. The body is another matter: never.
//!
//! | field | what becomes of it |
//! |---|---|
//! | Received | one is put in front, always (RFC 5321 §4.4) |
//! | Date, Message-ID | put in front when missing |
//! | Sender | replaced or added when the rules ask for it and the judge has said by what |
//! | Bcc, Resent-Bcc | taken out: whom they name is nobody's business (RFC 5322 §3.6.3) |
//! | Return-Path | taken out: the last hop makes it (RFC 5321 §4.4) |
//! | Authentication-Results that may be taken for ours | taken out (RFC 8601 §5); one of ours is written when asked for |
//! | ARC-Authentication-Results in our name without a seal and a signature | taken out (RFC 8617 §4.1) |
//!
//! Everything else follows octet for octet. A field that a DKIM signature names in its `h=` is neither added nor changed, for the signature says what
//! it was, or that it was not there (RFC 6376 §5.4), if it could verify (`signed`); but Bcc goes even then, and Return-Path, which no signer should cover,
//! and what claims to be our word on who sent the message, since each does harm where it stays. The changes are told, for the log.

use crate::mail::Address;
use crate::mail::header::{HeaderLimits, HeaderSection, RawField, SectionEnd};
use crate::mail::trace::Trace;

use super::results::{self, Proved, Sealed};
use super::{HeaderFacts, NAME_SHOWN};

/// The most changes that are told.
const CHANGES_MAX: usize = 50;

/// What to put into a header besides what it must have.
#[derive(Clone, Copy, Debug)]
pub struct FixUps<'a> {
    /// The Received field.
    pub trace: &'a Trace<'a>,
    /// The left side of a new Message-ID (RFC 5322 §3.6.4), made of queue id and random digits by whoever has them; characters that may not stand
    /// there are left out.
    pub unique: &'a str,
    /// The Sender that takes the place of what is there, as the judge has said.
    pub sender: Option<&'a Address>,
    /// Who was authenticated, where Authentication-Results is to tell.
    pub proved: Option<Proved<'a>>,
}

/// A header section that goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mended {
    /// All of it: our fields, then what came, up to its blank line.
    pub header: Vec<u8>,
    /// The Message-ID, where one was made.
    pub message_id: Option<String>,
    /// What was taken out or replaced, in the order of the fields.
    pub changes: Vec<Change>,
}

/// What became of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its name, as written.
    pub field: String,
    /// What was done.
    pub deed: Deed,
    /// Whether a signature covers it, and does not hold any more.
    pub signed: bool,
}

/// What was done to a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// It was taken out.
    Removed,
    /// Another stands for it.
    Replaced,
}

/// Makes the header that goes on from `section`, of which `facts` were read.
pub fn fix_ups(section: &[u8], facts: &HeaderFacts, wanted: &FixUps<'_>) -> Mended {
    let (mut header, message_id) = front(facts, wanted);
    // No more than goes on: what the buffer holds counts as the message's.
    header.reserve_exact(section.len());
    // It was within its limits when it was judged.
    let boundless = HeaderLimits { section: usize::MAX, line: usize::MAX, fields: usize::MAX };
    let Ok(read) = HeaderSection::read(section, &boundless) else {
        header.extend_from_slice(section);
        return Mended { header, message_id, changes: Vec::new() };
    };
    let sealed = Sealed::of(&read);
    let mut changes = Vec::new();
    let blank = match read.end() {
        SectionEnd::BlankLine => 2,
        SectionEnd::EndOfMessage => 0,
    };
    let end = read.length().saturating_sub(blank);
    let ends = read.fields().iter().skip(1).map(|field| field.offset).chain([end]);
    for (field, end) in read.fields().iter().zip(ends) {
        match deed(field, &sealed, wanted) {
            None => header.extend_from_slice(section.get(field.offset..end).unwrap_or_default()),
            Some(deed) if changes.len() < CHANGES_MAX => changes.push(Change {
                field: field.name.chars().take(NAME_SHOWN).collect(),
                deed,
                signed: facts.is_signed(&field.name.to_ascii_lowercase()),
            }),
            Some(_) => {}
        }
    }
    header.extend_from_slice(section.get(end..).unwrap_or_default());
    Mended { header, message_id, changes }
}

/// The fields to put in front, each with its CRLF.
fn front(facts: &HeaderFacts, wanted: &FixUps<'_>) -> (Vec<u8>, Option<String>) {
    let FixUps { trace, unique, sender, proved } = wanted;
    let mut fields = trace.received();
    if let Some(proved) = proved
        && !facts.is_signed(&results::NAME.to_ascii_lowercase())
    {
        fields.push_str(&results::written(trace.hostname, proved));
    }
    if !facts.has_date && !facts.is_signed("date") {
        fields.push_str(&format!("Date: {}\r\n", trace.arrived.rfc5322()));
    }
    let mut made = None;
    if facts.message_id.is_none() && !facts.is_signed("message-id") {
        let left: String = unique.chars().filter(|letter| letter.is_ascii_alphanumeric() || *letter == '-').collect();
        let message_id = format!("<{left}@{}>", trace.hostname);
        fields.push_str(&format!("Message-ID: {message_id}\r\n"));
        made = Some(message_id);
    }
    if let Some(sender) = sender {
        fields.push_str(&format!("Sender: {sender}\r\n"));
    }
    (fields.into_bytes(), made)
}

/// What is done to a field that came; none: it goes on as it is.
fn deed(field: &RawField<'_>, sealed: &Sealed, wanted: &FixUps<'_>) -> Option<Deed> {
    let goes = field.is("Bcc")
        || field.is("Resent-Bcc")
        || field.is("Return-Path")
        || sealed.is_claim(field, wanted.trace.hostname);
    match (goes, wanted.sender) {
        (true, _) => Some(Deed::Removed),
        (false, Some(_)) if field.is("Sender") => Some(Deed::Replaced),
        (false, _) => None,
    }
}

#[cfg(test)]
mod tests;
