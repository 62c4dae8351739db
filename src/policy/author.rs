//! May this identity be the author that the header names (RFC 5322 §3.6.2, §3.6.6)?
//!
//! From, Sender, and Resent-From and Resent-Sender of the topmost Resent block: each mailbox must be granted. Several authors need a Sender.
//! An address that a display name shows to people must be granted too: it is what they will take for the author. What looks like one and can't be read as
//! one can't be granted, and is refused as well. A header that can be read two ways is refused before any of this.
//!
//! What the configuration lets pass: an identity with `resend = true` may send mail of others again under a Resent-From that is granted; then From
//! and Sender tell of the others. With `sender = "rewrite"` a Sender that would be refused is replaced ([`sender_field`] says by what), with
//! `add_sender = true` one is added. Never: looks at the body or at older Resent blocks, which only tell what others did.

use crate::content::{EightBit, ForeignSender, HeaderFacts, HeaderRules, Lookalike, MissingSender, Originator};
use crate::identity::{Identity, Resending, Rule};
use crate::mail::{Address, ReversePath};

use super::{Offence, Refusal, Verdict};

/// Judges the header of a message from `path` by the identity's `send_as`.
pub fn author(identity: &Identity, facts: &HeaderFacts, rules: &HeaderRules, path: &ReversePath) -> Verdict {
    let grant = identity.grant();
    let sender = sender_field(identity, facts, rules, path);
    let terms = Terms { rules, resending: grant.leeway.resending, sender: &sender };
    judge(&grant.rule, facts, terms, |address| is_granted(identity, address))
}

fn is_granted(identity: &Identity, address: &Address) -> bool {
    let grant = identity.grant();
    grant.send_as.matches(&address.canonical(grant.local_part_case)).is_some()
}

/// What becomes of the Sender field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SenderField {
    /// What came is judged and goes on; where none came, there is none.
    AsItCame,
    /// This one stands for it.
    Becomes(Address),
}

/// What becomes of the Sender field of a message from `path` (RFC 6409 §8.1). What stands for it is granted: it is the envelope's sender, or the only
/// author where the envelope has none. A signed one is never changed, nor one that tells of the mail of others that is sent again.
pub fn sender_field(identity: &Identity, facts: &HeaderFacts, rules: &HeaderRules, path: &ReversePath) -> SenderField {
    let granted = |address: &Address| is_granted(identity, address);
    if facts.is_signed("sender") || is_resent_for_others(facts, identity.grant().leeway.resending) {
        return SenderField::AsItCame;
    }
    let asked = if facts.has_sender {
        rules.foreign_sender == ForeignSender::Replaced && !is_good_sender(facts, granted)
    } else {
        rules.missing_sender == MissingSender::Added && !is_only_author(facts, path, identity)
    };
    match (asked, path, facts.from.as_slice()) {
        (true, ReversePath::Address(address), _) if granted(address) => SenderField::Becomes(address.clone()),
        (true, ReversePath::Null, [only]) if facts.has_sender && granted(only) => SenderField::Becomes(only.clone()),
        _ => SenderField::AsItCame,
    }
}

/// Whether the Sender that is there would pass.
fn is_good_sender(facts: &HeaderFacts, granted: impl Fn(&Address) -> bool) -> bool {
    let mut shown = facts.display_addresses.iter().filter(|shown| shown.field == Originator::Sender);
    facts.sender_fault.is_none()
        && facts.sender.as_ref().is_some_and(&granted)
        && shown.all(|one| granted(&one.address))
        && facts.lookalikes.iter().all(|one| one.field != Originator::Sender)
}

/// RFC 5322 §3.6.2: where author and sender are one, there should be no Sender.
fn is_only_author(facts: &HeaderFacts, path: &ReversePath, identity: &Identity) -> bool {
    let case = identity.grant().local_part_case;
    match (path, facts.from.as_slice()) {
        (ReversePath::Address(address), [only]) => address.canonical(case) == only.canonical(case),
        (ReversePath::Address(_), _) => false,
        (ReversePath::Null, _) => true,
    }
}

/// Whether From and Sender tell of others, and a Resent-From answers for that; it is judged in any case.
fn is_resent_for_others(facts: &HeaderFacts, resending: Resending) -> bool {
    resending == Resending::AnyMail && !facts.resent_from.is_empty()
}

/// By what a header is judged besides the addresses that are granted.
#[derive(Clone, Copy)]
struct Terms<'a> {
    rules: &'a HeaderRules,
    resending: Resending,
    sender: &'a SenderField,
}

/// The same for whatever grants.
fn judge(rule: &Rule, facts: &HeaderFacts, terms: Terms<'_>, granted: impl Fn(&Address) -> bool) -> Verdict {
    let refused = |offence, cause| Verdict::Refused(Refusal { offence, rule: rule.clone(), cause });
    if let Some(reason) = header_offence(facts, terms) {
        let cause = format!("the header can't be judged: {reason}");
        return refused(Offence::Header { reason }, cause);
    }
    if let Some((field, address)) = claimed(facts, terms).find(|(_, address)| !granted(address)) {
        let cause = format!("{field} names <{address}>, which send_as does not grant");
        return refused(Offence::Author { field, address: address.to_string() }, cause);
    }
    match facts.lookalikes.iter().find(|one| counts(one.field, facts, terms)) {
        None => Verdict::Allowed(rule.clone()),
        Some(Lookalike { field, text }) => {
            let field = field.display_name();
            let cause = format!("{field} shows {text:?}, which looks like an address and can't be read as one");
            refused(Offence::Author { field, address: text.clone() }, cause)
        }
    }
}

fn header_offence(facts: &HeaderFacts, terms: Terms<'_>) -> Option<String> {
    if let Some(fault) = &facts.fault {
        return Some(fault.to_string());
    }
    let replaced = *terms.sender != SenderField::AsItCame;
    if let Some(fault) = facts.sender_fault.as_ref().filter(|_| !replaced) {
        return Some(fault.clone());
    }
    if facts.from.is_empty() {
        return Some("Field From is missing".to_owned());
    }
    // RFC 5322 §3.6.2: if From names several mailboxes, Sender must say which one sent it; §3.6.6 says the same of Resent-From.
    if facts.from.len() > 1 && facts.sender.is_none() && !replaced {
        return Some("Field From names several mailboxes, and there is no Sender".to_owned());
    }
    if facts.resent_from.len() > 1 && facts.resent_sender.is_none() {
        return Some("Field Resent-From names several mailboxes, and there is no Resent-Sender".to_owned());
    }
    if let (EightBit::Refused, Some(field)) = (terms.rules.eight_bit, &facts.undeclared) {
        return Some(format!("Field {field} holds 8-bit characters, and MAIL did not say SMTPUTF8"));
    }
    // RFC 6409 §4.2: whoever looks into a message sees to it that its domains are whole.
    facts.unqualified.clone()
}

/// Every address that the header claims, with the field that claims it.
fn claimed<'f>(facts: &'f HeaderFacts, terms: Terms<'f>) -> impl Iterator<Item = (&'static str, &'f Address)> {
    let of = |field: Originator| move |address| (field, field.name(), address);
    let written = facts.from.iter().map(of(Originator::From));
    let written = written.chain(facts.sender.iter().map(of(Originator::Sender)));
    let written = written.chain(facts.resent_from.iter().map(of(Originator::ResentFrom)));
    let written = written.chain(facts.resent_sender.iter().map(of(Originator::ResentSender)));
    let shown = facts.display_addresses.iter().map(|one| (one.field, one.field.display_name(), &one.address));
    let counting = written.chain(shown).filter(move |(field, ..)| counts(*field, facts, terms));
    counting.map(|(_, name, address)| (name, address))
}

/// Whether what this field says must be granted.
fn counts(field: Originator, facts: &HeaderFacts, terms: Terms<'_>) -> bool {
    let of_others = is_resent_for_others(facts, terms.resending);
    match field {
        Originator::From => !of_others,
        Originator::Sender => !of_others && *terms.sender == SenderField::AsItCame,
        Originator::ResentFrom | Originator::ResentSender => true,
    }
}

#[cfg(test)]
mod tests;
