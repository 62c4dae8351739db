//! May this identity be the author that the header names (RFC 5322 §3.6.2, §3.6.6)?
//!
//! From, Sender, and Resent-From and Resent-Sender of the topmost Resent block: each mailbox must be granted. Several authors need a Sender.
//! An address that a display name shows to people must be granted too: it is what they will take for the author. A header that can be read
//! two ways is refused before any of this. Never: looks at the body or at older Resent blocks, which only tell what others did.

use crate::content::{HeaderFacts, Originator};
use crate::identity::{Identity, Rule};
use crate::mail::Address;

use super::{Offence, Refusal, Verdict};

/// Judges the header by the identity's `send_as`.
pub fn author(identity: &Identity, facts: &HeaderFacts) -> Verdict {
    let grant = identity.grant();
    judge(&grant.rule, facts, |address| grant.send_as.matches(&address.canonical(grant.local_part_case)).is_some())
}

/// The same for whatever grants.
fn judge(rule: &Rule, facts: &HeaderFacts, granted: impl Fn(&Address) -> bool) -> Verdict {
    let refused = |offence, cause| Verdict::Refused(Refusal { offence, rule: rule.clone(), cause });
    if let Some(reason) = header_offence(facts) {
        let cause = format!("the header can't be judged: {reason}");
        return refused(Offence::Header { reason }, cause);
    }
    match claimed(facts).find(|(_, address)| !granted(address)) {
        None => Verdict::Allowed(rule.clone()),
        Some((field, address)) => {
            let cause = format!("{field} names <{address}>, which send_as does not grant");
            refused(Offence::Author { field, address: address.to_string() }, cause)
        }
    }
}

fn header_offence(facts: &HeaderFacts) -> Option<String> {
    if let Some(fault) = &facts.fault {
        return Some(fault.to_string());
    }
    if facts.from.is_empty() {
        return Some("Field From is missing".to_owned());
    }
    // RFC 5322 §3.6.2: if From names several mailboxes, Sender must say which one sent it; §3.6.6 says the same of Resent-From.
    if facts.from.len() > 1 && facts.sender.is_none() {
        return Some("Field From names several mailboxes, and there is no Sender".to_owned());
    }
    if facts.resent_from.len() > 1 && facts.resent_sender.is_none() {
        return Some("Field Resent-From names several mailboxes, and there is no Resent-Sender".to_owned());
    }
    None
}

/// Every address that the header claims, with the field that claims it.
fn claimed(facts: &HeaderFacts) -> impl Iterator<Item = (&'static str, &Address)> {
    let of = |field: Originator| move |address| (field.name(), address);
    let written = facts.from.iter().map(of(Originator::From));
    let written = written.chain(facts.sender.iter().map(of(Originator::Sender)));
    let written = written.chain(facts.resent_from.iter().map(of(Originator::ResentFrom)));
    let written = written.chain(facts.resent_sender.iter().map(of(Originator::ResentSender)));
    written.chain(facts.display_addresses.iter().map(|shown| (shown.field.display_name(), &shown.address)))
}

#[cfg(test)]
mod tests;
