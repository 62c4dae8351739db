//! The lines of a transaction: MAIL and RCPT, with the parameters whose extension is offered.
//!
//! Never: says what is not offered; lets a value end the line, or begin another parameter.

use super::{Order, Utf8};
use crate::mail::envelope::utf8_escaped;
use crate::mail::{Body, ForwardPath, Notify, OriginalRecipient, Recipient, Ret};
use crate::smtp::extension::{Extension, Offered};
use crate::upstream::settings::Submitter;

pub(super) fn mail_command(order: &Order, utf8: Utf8, offered: &Offered, submitter: Submitter) -> String {
    let asked = &order.parameters;
    let mut line = format!("MAIL FROM:<{}>", order.reverse_path.as_str());
    if let Some(octets) = order.size.filter(|_| offered.has(Extension::Size)) {
        line.push_str(&format!(" SIZE={octets}"));
    }
    // RFC 6152 §3. Not offered: what `eight_bit` says.
    if asked.body == Body::EightBitMime && offered.has(Extension::EightBitMime) {
        line.push_str(" BODY=8BITMIME");
    }
    if says_smtputf8(utf8, offered) {
        line.push_str(" SMTPUTF8");
    }
    if offered.has(Extension::Dsn) {
        match asked.ret {
            Some(Ret::Full) => line.push_str(" RET=FULL"),
            Some(Ret::Headers) => line.push_str(" RET=HDRS"),
            None => {}
        }
        if let Some(envid) = asked.envid.as_deref().filter(|value| is_parameter_value(value)) {
            line.push_str(&format!(" ENVID={envid}"));
        }
    }
    if asked.require_tls && offered.has(Extension::RequireTls) {
        line.push_str(" REQUIRETLS");
    }
    if let Some(by) = asked.deliver_by.filter(|_| offered.has(Extension::DeliverBy)) {
        let (mode, trace) = (if by.or_return { 'R' } else { 'N' }, if by.trace { "T" } else { "" });
        line.push_str(&format!(" BY={};{mode}{trace}", order.seconds_left(by)));
    }
    // RFC 6710 §4.2: 0 where nobody has asked for another.
    if offered.has(Extension::MtPriority) {
        line.push_str(&format!(" MT-PRIORITY={}", asked.priority.unwrap_or(0)));
    }
    match submitter {
        Submitter::Unsaid => {}
        Submitter::Nobody => line.push_str(" AUTH=<>"),
    }
    line
}

/// Whether MAIL says SMTPUTF8: then, and only then, may parameters hold UTF-8 (RFC 6531 §3.4).
fn says_smtputf8(utf8: Utf8, offered: &Offered) -> bool {
    utf8 == Utf8::Needed && offered.has(Extension::SmtpUtf8)
}

pub(super) fn recipient_command(recipient: &Recipient, utf8: Utf8, offered: &Offered) -> String {
    let mut line = match &recipient.forward_path {
        ForwardPath::Postmaster => "RCPT TO:<postmaster>".to_owned(),
        ForwardPath::Address(address) => format!("RCPT TO:<{}>", address.as_str()),
    };
    if offered.has(Extension::Dsn) {
        if let Some(notify) = recipient.parameters.notify {
            line.push_str(&format!(" NOTIFY={}", notify_value(notify)));
        }
        if let Some(original) = &recipient.parameters.orcpt {
            let value = original_value(original, says_smtputf8(utf8, offered));
            if is_parameter_value(&value) && value.len() <= ORIGINAL_MAX {
                line.push_str(&format!(" ORCPT={value}"));
            }
        }
    }
    line
}

/// Octets of an ORCPT at most; a longer one would have the recipient refused (RFC 3461 §5.4).
const ORIGINAL_MAX: usize = 500;

/// RFC 3461 §5.2.1: as it came. RFC 6533 §3: but where the line must be ASCII, an internationalized address goes in its 7-bit form.
fn original_value(original: &OriginalRecipient, utf8: bool) -> String {
    let address = if utf8 { original.address.clone() } else { utf8_escaped(&original.address) };
    format!("{};{address}", original.address_type)
}

/// RFC 3461 §4.1.
fn notify_value(notify: Notify) -> String {
    let named = [(notify.success, "SUCCESS"), (notify.failure, "FAILURE"), (notify.delay, "DELAY")];
    let words: Vec<&str> = named.iter().filter(|(wanted, _)| *wanted).map(|&(_, word)| word).collect();
    if words.is_empty() { "NEVER".to_owned() } else { words.join(",") }
}

/// The `esmtp-value` of RFC 5321 §4.1.1.2, with RFC 6533's UTF-8: a value that could end the line or the parameter is not said.
/// Addresses need no such look: they can't be made otherwise.
fn is_parameter_value(value: &str) -> bool {
    !value.is_empty() && value.chars().all(|c| !c.is_control() && c != ' ' && c != '=')
}
