//! The recipient: only what the identity is granted (RFC 6409 §6.2).

use super::{Offence, Refusal, Verdict};
use crate::identity::Identity;
use crate::mail::ForwardPath;

/// Whether `identity` may say `RCPT TO:<path>`. The bare postmaster is open to everyone who may send at all: every server must take mail for
/// him (RFC 5321 §4.5.1), and he is the one to ask when a grant is too narrow.
pub fn recipient(identity: &Identity, path: &ForwardPath) -> Verdict {
    let grant = identity.grant();
    match path {
        ForwardPath::Postmaster => Verdict::Allowed(grant.rule.clone()),
        ForwardPath::Address(address) => match grant.send_to.matches(&address.canonical(grant.local_part_case)) {
            Some(_) => Verdict::Allowed(grant.rule.clone()),
            None => Verdict::Refused(Refusal {
                offence: Offence::Recipient { address: address.to_string() },
                rule: grant.rule.clone(),
                cause: format!("no pattern of send_to of {} matches <{address}>", identity.name()),
            }),
        },
    }
}
