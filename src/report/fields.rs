//! What a report says to a program: `message/delivery-status` (RFC 3464 §2), in the order of its grammar; and what it gives back of the message.
//!
//! ASCII throughout: addresses that are not stand in the 7-bit form of RFC 6533 §3, so that `message/delivery-status` is always enough and
//! `message/global-delivery-status` never needed. Never: a field that holds what could begin another.

use std::net::IpAddr;

use lettre::message::header::{ContentTransferEncoding, ContentType};
use lettre::message::{Body, SinglePart};

use super::text::{cut_at_line, field, from_xtext, is_seven_bit, one_line, utf8_as_ascii};
use super::{DIAGNOSTIC_MAX, Draft, Entry, HEADER_MAX, Reader, WHOLE_MAX};
use crate::mail::address::Host;
use crate::mail::envelope::utf8_escaped;
use crate::mail::{OriginalRecipient, Ret};

impl Draft<'_> {
    /// The second part of RFC 6522 §3.
    pub(super) fn status_part(&self) -> Option<SinglePart> {
        part("message/delivery-status", self.fields().into_bytes())
    }

    fn fields(&self) -> String {
        let mut fields = String::new();
        // RFC 3461 §6.3: as the sender wrote it, before xtext; and only when there was one.
        if let Some(envid) = self.original.envelope.parameters().envid.as_deref().and_then(from_xtext) {
            fields.push_str(&field("Original-Envelope-Id", &envid));
        }
        fields.push_str(&field("Reporting-MTA", &format!("dns; {}", self.reporter.hostname)));
        fields.push_str(&field("Arrival-Date", &self.original.arrived.rfc5322()));
        // RFC 2852: by when it was to be delivered.
        if let Some(by) = self.original.envelope.parameters().deliver_by {
            fields.push_str(&field("Deliver-By-Date", &by.deadline.rfc5322()));
        }
        // RFC 4865 §5.1.2. HOLDFOR is told as the moment that it came to: what it was is not kept.
        if let Some(until) = self.original.envelope.parameters().hold_until {
            fields.push_str(&field("Future-Release-Request", &format!("until;{}", until.rfc3339())));
        }
        fields.push_str(&field("X-Sealpost-Queue-ID", &self.original.id.to_string()));
        for entry in self.told {
            fields.push_str("\r\n");
            fields.push_str(&recipient_fields(entry));
        }
        fields
    }

    /// The third part of RFC 6522 §3. The whole only when asked for, of a failure, small, and as seven bits (RFC 3461 §6.2); of what demanded TLS
    /// never (RFC 8689 §5).
    pub(super) fn returned(&self) -> Option<SinglePart> {
        let asked = self.original.envelope.parameters();
        let failed = self.told.iter().any(|entry| entry.reported.fate.is_failure());
        let wants_whole = asked.ret == Some(Ret::Full) && failed && !asked.require_tls && self.reader == Reader::Sender;
        if let Some(whole) =
            self.original.whole.filter(|whole| wants_whole && whole.len() <= WHOLE_MAX && is_seven_bit(whole))
        {
            return part("message/rfc822", whole.to_vec());
        }
        let header = cut_at_line(self.original.header, HEADER_MAX);
        if is_seven_bit(header) {
            return part("text/rfc822-headers", header.to_vec());
        }
        // RFC 6533 §4.3: a header section that is not ASCII, in an encoding that is 7-bit on the way. What is not UTF-8 either, or has lines too long for
        // the wire, is as it was of old, encoded (RFC 6522 §4).
        let is_utf8 = !header.is_ascii() && std::str::from_utf8(header).is_ok();
        // §6.3: never with a charset, it is UTF-8.
        let kind = if is_utf8 { "message/global-headers" } else { "text/rfc822-headers" };
        let body = if is_utf8 {
            Body::new(header.to_vec())
        } else {
            Body::new_with_encoding(header.to_vec(), ContentTransferEncoding::QuotedPrintable).ok()?
        };
        Some(SinglePart::builder().content_type(ContentType::parse(kind).ok()?).body(body))
    }
}

fn recipient_fields(entry: &Entry<'_>) -> String {
    let mut fields = String::new();
    if let Some(original) = entry.recipient.parameters.orcpt.as_ref().and_then(original_recipient) {
        fields.push_str(&field("Original-Recipient", &original));
    }
    fields.push_str(&field("Final-Recipient", &typed(entry.address())));
    fields.push_str(&field("Action", entry.action()));
    fields.push_str(&field("Status", &entry.status().to_string()));
    if let Some(upstream) = entry.reported.upstream {
        fields.push_str(&field("Remote-MTA", &format!("dns; {}", mta_name(upstream))));
    }
    match entry.reply() {
        Some(reply) => {
            let said = one_line(&reply.to_string(), DIAGNOSTIC_MAX);
            fields.push_str(&field("Diagnostic-Code", &format!("smtp; {said}")));
        }
        // RFC 3464 §2.3.6: what was found out otherwise than from a reply is of another type.
        None if !entry.reason().is_empty() => {
            let found = one_line(entry.reason(), DIAGNOSTIC_MAX);
            fields.push_str(&field("Diagnostic-Code", &format!("x-sealpost; {found}")));
        }
        None => {}
    }
    if let Some(at) = entry.reported.last_attempt {
        fields.push_str(&field("Last-Attempt-Date", &at.rfc5322()));
    }
    if let Some(until) = entry.reported.fate.until() {
        fields.push_str(&field("Will-Retry-Until", &until.rfc5322()));
    }
    fields
}

/// RFC 3461 §6.3: what ORCPT said, with its xtext undone; of `utf-8` (RFC 6533 §3), which has none, in seven bits.
fn original_recipient(original: &OriginalRecipient) -> Option<String> {
    let address = if original.address_type.eq_ignore_ascii_case("utf-8") {
        utf8_escaped(&original.address)
    } else {
        from_xtext(&original.address)?
    };
    Some(format!("{}; {address}", original.address_type))
}

/// RFC 3461 §9.3: a domain, or an address in brackets.
fn mta_name(host: &str) -> String {
    host.parse::<IpAddr>().map_or_else(|_| host.to_owned(), |address| Host::Literal(address).to_string())
}

/// The address with its type: `rfc822`, or `utf-8` in the 7-bit form of RFC 6533 §3.
fn typed(address: &str) -> String {
    if address.is_ascii() { format!("rfc822; {address}") } else { format!("utf-8; {}", utf8_as_ascii(address)) }
}

fn part(kind: &str, octets: Vec<u8>) -> Option<SinglePart> {
    let body = Body::dangerous_pre_encoded(octets, ContentTransferEncoding::SevenBit);
    Some(SinglePart::builder().content_type(ContentType::parse(kind).ok()?).body(body))
}
