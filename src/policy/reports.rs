//! What reports on an identity's mail may give back of it.

use super::{Verdict, recipient};
use crate::identity::Identity;
use crate::mail::{ForwardPath, Ret, ReversePath};

/// How much of a message a report to its sender holds, where `asked` was asked for (RFC 3461 §4.3). Who may not write to the address that it sends
/// as would do so by a message that fails: such a report has the header alone, ours as well as any that an upstream makes.
pub fn returned(identity: &Identity, sender: &ReversePath, asked: Option<Ret>) -> Option<Ret> {
    let ReversePath::Address(address) = sender else { return asked };
    match recipient(identity, &ForwardPath::Address(address.clone())) {
        Verdict::Allowed(_) => asked,
        Verdict::Refused(_) => Some(Ret::Headers),
    }
}
