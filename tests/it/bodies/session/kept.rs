//! What must be so of a message that was kept.

use sealpost::identity::{Identity, Resending};
use sealpost::mail::{Address, Envelope};
use sealpost::policy::{self, Verdict};

use super::world::MESSAGE_MAX;
use crate::bodies::wire::is_clean;
use crate::bodies::{Broken, Told, require};

/// A message in custody.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) envelope: Envelope,
    pub(super) message: Vec<u8>,
}

impl Kept {
    /// It is from whom and to whom it may be.
    pub(super) fn judge(&self, identity: &Identity) -> Told {
        require("a bare CR, LF or NUL is kept", is_clean(&self.message))?;
        let octets = u64::try_from(self.message.len()).unwrap_or(u64::MAX);
        let most = MESSAGE_MAX.min(identity.grant().limits.message_size.unwrap_or(u64::MAX));
        require("a message over the limit is kept", octets <= most)?;
        let sender = policy::sender(identity, self.envelope.reverse_path());
        require("a sender that is not granted", matches!(sender, Verdict::Allowed(_)))?;
        for recipient in self.envelope.recipients() {
            let verdict = policy::recipient(identity, &recipient.forward_path);
            require("a recipient that is not granted", matches!(verdict, Verdict::Allowed(_)))?;
        }
        let count = self.envelope.recipients().len();
        let verdict = policy::limits::recipients(identity, count);
        require("too many recipients", matches!(verdict, Verdict::Allowed(_)))?;
        self.judge_author(identity)
    }

    /// mail-parser alone sees nobody but who is granted.
    fn judge_author(&self, identity: &Identity) -> Told {
        let read = mail_parser::MessageParser::default().parse(&self.message);
        let read = read.ok_or_else(|| Broken("a message without a header".to_owned()))?;
        let resent = identity.grant().leeway.resending == Resending::AnyMail && read.header("Resent-From").is_some();
        let who = if resent { read.header("Resent-From").and_then(|value| value.as_address()) } else { read.from() };
        let who: Vec<&str> =
            who.into_iter().flat_map(mail_parser::Address::iter).filter_map(|one| one.address()).collect();
        require("a message of nobody", !who.is_empty())?;
        let granted = |text: &&str| {
            let case = identity.grant().local_part_case;
            let address = Address::parse(text).ok();
            address.is_some_and(|address| identity.grant().send_as.matches(&address.canonical(case)).is_some())
        };
        match who.iter().find(|text| !granted(text)) {
            None => Ok(()),
            Some(other) => Err(Broken(format!("a message of {other} is kept"))),
        }
    }
}
