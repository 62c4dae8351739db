//! The envelope sender: only what the identity is granted (RFC 6409 §6.1).

use super::{Offence, Refusal, Verdict};
use crate::identity::Identity;
use crate::mail::ReversePath;

/// Whether `identity` may say `MAIL FROM:<path>`. The null path is legal at submission (RFC 6409 §3.2) unless the grant says no; the header is
/// judged all the same, so it is no way round.
pub fn sender(identity: &Identity, path: &ReversePath) -> Verdict {
    let grant = identity.grant();
    let refused = |offence, cause| Verdict::Refused(Refusal { offence, rule: grant.rule.clone(), cause });
    match path {
        ReversePath::Null if grant.null_sender => Verdict::Allowed(grant.rule.clone()),
        ReversePath::Null => {
            refused(Offence::NullSender, format!("{} may not send with the null sender", identity.name()))
        }
        ReversePath::Address(address) => match grant.send_as.matches(&address.canonical(grant.local_part_case)) {
            Some(_) => Verdict::Allowed(grant.rule.clone()),
            None => refused(
                Offence::Sender { address: address.to_string() },
                format!("no pattern of send_as of {} matches <{address}>", identity.name()),
            ),
        },
    }
}
