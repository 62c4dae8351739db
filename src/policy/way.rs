//! The way out: only where a route of the configuration takes the recipient.
//!
//! Which route takes whom is in `route`. Who has none is told so at RCPT, while somebody is there to read it, and not days later by a report.

use super::{Offence, Refusal, Verdict};
use crate::identity::{Identity, Rule};
use crate::mail::{ForwardPath, ReversePath};
use crate::route::{Errand, Routes};

/// Whether mail of `identity` from `sender` to `recipient` has a route, and by which.
pub fn way(identity: &Identity, routes: &Routes, sender: &ReversePath, recipient: &ForwardPath) -> Verdict {
    let errand = Errand { identity: identity.name(), ca: identity.ca(), sender, recipient };
    match routes.find(&errand) {
        Some(route) => Verdict::Allowed(route.rule.clone()),
        None => Verdict::Refused(Refusal {
            offence: Offence::NoRoute { address: recipient.as_str().to_owned() },
            rule: Rule { name: "the [[route]] tables".into(), place: None },
            cause: format!(
                "no [[route]] takes <{}> from <{}> of {}",
                recipient.as_str(),
                sender.as_str(),
                identity.name()
            ),
        }),
    }
}
