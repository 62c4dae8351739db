//! How much: recipients and octets of one message, messages and recipients in an hour and a day, by the identity's grant. The server's own limits are the session's settings.

use super::{Offence, Refusal, Verdict};
use crate::identity::Identity;
use crate::mail::Rate;
use crate::sys::WallTime;

/// Whether `identity` may name `count` recipients in one message.
pub fn recipients(identity: &Identity, count: usize) -> Verdict {
    let grant = identity.grant();
    match grant.limits.recipients_per_message {
        Some(limit) if u32::try_from(count).is_ok_and(|count| count <= limit) => Verdict::Allowed(grant.rule.clone()),
        None => Verdict::Allowed(grant.rule.clone()),
        Some(limit) => Verdict::Refused(Refusal {
            offence: Offence::TooManyRecipients { limit },
            rule: grant.rule.clone(),
            cause: format!("recipient {count} of a message, recipients_per_message is {limit}"),
        }),
    }
}

/// Whether `identity` may send a message of `octets`, declared (RFC 1870 §6.1) or counted (§6.3).
pub fn size(identity: &Identity, octets: u64) -> Verdict {
    let grant = identity.grant();
    match grant.limits.message_size {
        Some(limit) if octets > limit => Verdict::Refused(Refusal {
            offence: Offence::TooLarge { limit },
            rule: grant.rule.clone(),
            cause: format!("a message of {octets} octets, message_size is {limit}"),
        }),
        _ => Verdict::Allowed(grant.rule.clone()),
    }
}

/// The priority of a message of `identity` for which this one was asked, or none (RFC 6710).
pub fn priority(identity: &Identity, asked: Option<i8>) -> i8 {
    identity.grant().limits.priorities.assigned(asked)
}

/// The ledger has found `rate` reached until then.
pub fn reached(identity: &Identity, rate: Rate, until: WallTime) -> Verdict {
    Verdict::Refused(Refusal {
        offence: Offence::TooMuch { rate, until },
        rule: identity.grant().rule.clone(),
        cause: format!("{rate} are reached until {}", until.rfc3339()),
    })
}
