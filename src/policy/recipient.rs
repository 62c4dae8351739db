//! The recipient: only what the identity is granted (RFC 6409 §6.2).

use super::{Offence, Refusal, Verdict};
use crate::identity::{AddressPattern, Identity};
use crate::mail::{CanonicalAddress, ForwardPath};

/// What an MTA may take for the beginning of another address: `victim%evil.example@example.com` and `evil.example!victim@example.com` are
/// mail for evil.example to a Postfix with its defaults, and so is the quoted `"victim@evil.example"@example.com`.
const ROUTING: [char; 3] = ['%', '!', '@'];

/// Whether `identity` may say `RCPT TO:<path>`. The bare postmaster is open to everyone who may send at all: every server must take mail for
/// him (RFC 5321 §4.5.1), and he is the one to ask when a grant is too narrow.
pub fn recipient(identity: &Identity, path: &ForwardPath) -> Verdict {
    let grant = identity.grant();
    let ForwardPath::Address(address) = path else { return Verdict::Allowed(grant.rule.clone()) };
    let canonical = address.canonical(grant.local_part_case);
    let cause = match grant.send_to.matches(&canonical) {
        Some(pattern) if may_lead_elsewhere(pattern, &canonical) => {
            format!(
                "<{address}> matches {pattern}, but its local part may lead an upstream elsewhere; grant it by its whole address"
            )
        }
        Some(_) => return Verdict::Allowed(grant.rule.clone()),
        None => format!("no pattern of send_to of {} matches <{address}>", identity.name()),
    };
    let offence = Offence::Recipient { address: address.to_string() };
    Verdict::Refused(Refusal { offence, rule: grant.rule.clone(), cause })
}

/// Whether a pattern for one domain has let in what may be an address in another. `*` means everywhere anyway, and a whole address was meant.
fn may_lead_elsewhere(pattern: &AddressPattern, address: &CanonicalAddress) -> bool {
    match pattern {
        AddressPattern::Any | AddressPattern::Address(_) | AddressPattern::Certificate => false,
        AddressPattern::Tagged { .. } | AddressPattern::Host(_) | AddressPattern::Subdomains(_) => {
            address.local.contains(ROUTING)
        }
    }
}
