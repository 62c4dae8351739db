//! A message as operators see it: what `queue list` and `queue show` print, and `--json` promises.
//!
//! The names here are apart from the stored record, so that what scripts read stays when the record changes: fields may come, none goes or
//! changes its meaning. Never: shows an octet of a body.

use serde::{Deserialize, Serialize};

use super::StateName;
use super::active::ActiveEntry;
use crate::mail::envelope::{Body, Ret};
use crate::mail::{MailParameters, Notify, QueueId, RecipientParameters};
use crate::queue::{HeldBy, Listed, Outcome, RecipientState, Record};
use crate::smtp::Reply;

/// A message, as operators see it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Its name.
    pub id: String,
    /// Where it stands.
    pub state: StateName,
    /// Why, when it is dead or held.
    pub reason: Option<String>,
    /// Who holds it, when it is held: `operator`, `grant`, `recheck`.
    #[serde(default)]
    pub held_by: Option<String>,
    /// Who sent it.
    pub identity: String,
    /// The CA that vouched; none for a pinned certificate.
    pub ca: Option<String>,
    /// SHA-256 of the certificate.
    pub fingerprint: String,
    /// Issuer and serial of each certificate of the chain, leaf first.
    pub chain: Vec<(String, String)>,
    /// The reverse path; empty for `<>`.
    pub sender: String,
    /// The parameters of its MAIL, as they were given: `BODY=8BITMIME`, `RET=HDRS`.
    #[serde(default)]
    pub parameters: Vec<String>,
    /// Each recipient.
    pub recipients: Vec<EntryRecipient>,
    /// When it came, RFC 3339.
    pub arrived: String,
    /// When it is tried next, RFC 3339.
    pub due: String,
    /// When an operator last let it go on, RFC 3339.
    #[serde(default)]
    pub released: Option<String>,
    /// How far the attempt is that is under way; none where none is, or no daemon runs.
    #[serde(default)]
    pub active: Option<ActiveEntry>,
    /// How often it was tried.
    pub attempts: u32,
    /// Whether its sender has been told of the delay.
    #[serde(default)]
    pub warned: bool,
    /// Octets as stored.
    pub octets: u64,
    /// Its Message-ID.
    pub message_id: Option<String>,
    /// The client's address and port.
    pub client: String,
    /// What it called itself.
    pub helo: String,
    /// The protocol, as in the Received field: `ESMTPS`.
    #[serde(default)]
    pub protocol: String,
    /// TLS version and cipher suite.
    pub tls: String,
}

/// A recipient, as operators see it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EntryRecipient {
    /// The forward path.
    pub address: String,
    /// The parameters of its RCPT, as they were given: `NOTIFY=NEVER`.
    #[serde(default)]
    pub parameters: Vec<String>,
    /// Whether something is left to do for it.
    #[serde(default)]
    pub open: bool,
    /// `waiting`, `delivered`, `deferred`, `failed`, `removed`.
    pub outcome: String,
    /// What happened.
    pub detail: String,
    /// What the upstream said last, if it said something.
    pub reply: Option<String>,
    /// Whether an upstream may have it without having said so.
    #[serde(default)]
    pub undetermined: bool,
    /// How often it was tried.
    pub attempts: u32,
    /// Which upstream tried it last.
    pub upstream: Option<String>,
    /// When that had ended, RFC 3339.
    pub last_attempt: Option<String>,
}

/// What came of a recipient, in a word; what happened; what was said.
pub(super) fn came_of(state: &RecipientState) -> (&'static str, &str, Option<&Reply>) {
    match &state.last {
        None => ("waiting", "", None),
        Some(Outcome::Failed { .. }) if state.is_taken_out() => ("removed", "", None),
        Some(Outcome::Delivered { reply }) => ("delivered", "", Some(reply)),
        Some(Outcome::Deferred { reason, reply }) => ("deferred", reason.as_str(), reply.as_ref()),
        Some(Outcome::Failed { reason, reply }) => ("failed", reason.as_str(), reply.as_ref()),
    }
}

impl Entry {
    /// Stands for who sent what can't be read any more.
    pub(super) const UNREADABLE: &str = "(unreadable)";

    /// One of a listing, as operators see it.
    pub fn of_listed(listed: &Listed) -> Self {
        match listed {
            Listed::Message(record) => Self::of(record),
            Listed::Unreadable(id, reason) => Self::unreadable(*id, reason),
        }
    }

    /// A stored message as operators see it.
    pub fn of(record: &Record) -> Self {
        let recipients = record.envelope.recipients().iter().zip(&record.recipients);
        Self {
            id: record.id.to_string(),
            state: record.state.into(),
            reason: record.reason.clone(),
            held_by: record.held_by.map(|by| holder(by).to_owned()),
            identity: record.custodian.identity.clone(),
            ca: record.custodian.ca.clone(),
            fingerprint: record.custodian.fingerprint.clone(),
            chain: record.custodian.chain.clone(),
            sender: record.envelope.reverse_path().as_str().to_owned(),
            parameters: mail_words(record.envelope.parameters()),
            recipients: recipients
                .map(|(to, state)| EntryRecipient::of(to.forward_path.as_str(), &to.parameters, state))
                .collect(),
            arrived: record.trace.arrived.rfc3339(),
            due: record.due.rfc3339(),
            released: record.released.map(|at| at.rfc3339()),
            active: None,
            attempts: record.attempts,
            warned: record.warned,
            octets: record.length,
            message_id: record.trace.message_id.clone(),
            client: record.trace.client.clone(),
            helo: record.trace.helo.clone(),
            protocol: record.trace.protocol.clone(),
            tls: record.trace.tls.clone(),
        }
    }

    fn unreadable(id: QueueId, reason: &str) -> Self {
        Self {
            id: id.to_string(),
            state: StateName::Dead,
            reason: Some(reason.to_owned()),
            held_by: None,
            identity: Self::UNREADABLE.to_owned(),
            ca: None,
            fingerprint: String::new(),
            chain: Vec::new(),
            sender: String::new(),
            parameters: Vec::new(),
            recipients: Vec::new(),
            // Its name tells when it came; nothing else can.
            arrived: id.arrived().rfc3339(),
            due: String::new(),
            released: None,
            active: None,
            attempts: 0,
            warned: false,
            octets: 0,
            message_id: None,
            client: String::new(),
            helo: String::new(),
            protocol: String::new(),
            tls: String::new(),
        }
    }
}

impl EntryRecipient {
    fn of(address: &str, parameters: &RecipientParameters, state: &RecipientState) -> Self {
        let (outcome, detail, reply) = came_of(state);
        Self {
            address: address.to_owned(),
            parameters: recipient_words(parameters),
            open: state.open,
            outcome: outcome.to_owned(),
            detail: detail.to_owned(),
            reply: reply.map(ToString::to_string),
            undetermined: state.undetermined,
            attempts: state.attempts,
            upstream: state.last_attempt.as_ref().map(|(_, upstream)| upstream.clone()),
            last_attempt: state.last_attempt.as_ref().map(|(at, _)| at.rfc3339()),
        }
    }
}

const fn holder(by: HeldBy) -> &'static str {
    match by {
        HeldBy::Operator => "operator",
        HeldBy::Grant => "grant",
        HeldBy::Recheck => "recheck",
    }
}

/// As they stand in MAIL; moments instead of the seconds that were given, which would mean nothing any more.
fn mail_words(parameters: &MailParameters) -> Vec<String> {
    let MailParameters { size, body, smtputf8, ret, envid, require_tls, deliver_by, hold_until, priority } = parameters;
    let words = [
        size.map(|size| format!("SIZE={size}")),
        (*body == Body::EightBitMime).then(|| "BODY=8BITMIME".to_owned()),
        smtputf8.then(|| "SMTPUTF8".to_owned()),
        ret.map(|ret| format!("RET={}", if ret == Ret::Full { "FULL" } else { "HDRS" })),
        envid.as_ref().map(|envid| format!("ENVID={envid}")),
        require_tls.then(|| "REQUIRETLS".to_owned()),
        deliver_by.map(|by| {
            let (mode, trace) = (if by.or_return { "R" } else { "N" }, if by.trace { "T" } else { "" });
            format!("BY={};{mode}{trace}", by.deadline.rfc3339())
        }),
        hold_until.map(|until| format!("HOLDUNTIL={}", until.rfc3339())),
        priority.map(|priority| format!("MT-PRIORITY={priority}")),
    ];
    words.into_iter().flatten().collect()
}

/// As they stand in RCPT.
fn recipient_words(parameters: &RecipientParameters) -> Vec<String> {
    let notify = parameters.notify.map(|notify| {
        let wanted = [(notify.success, "SUCCESS"), (notify.failure, "FAILURE"), (notify.delay, "DELAY")];
        let names: Vec<&str> = wanted.iter().filter(|(wanted, _)| *wanted).map(|(_, name)| *name).collect();
        format!("NOTIFY={}", if notify == Notify::NEVER { "NEVER".to_owned() } else { names.join(",") })
    });
    let orcpt = parameters.orcpt.as_ref().map(|orcpt| format!("ORCPT={};{}", orcpt.address_type, orcpt.address));
    notify.into_iter().chain(orcpt).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::envelope::{DeliverBy, OriginalRecipient};
    use crate::sys::WallTime;

    #[test]
    fn parameters_are_shown_as_they_were_given() {
        let parameters = MailParameters {
            size: Some(42),
            body: Body::EightBitMime,
            smtputf8: true,
            ret: Some(Ret::Headers),
            envid: Some("QQ+2B1".to_owned()),
            require_tls: true,
            deliver_by: Some(DeliverBy { deadline: WallTime::from_seconds(60), or_return: true, trace: true }),
            hold_until: Some(WallTime::from_seconds(0)),
            priority: Some(-3),
        };
        let words = mail_words(&parameters).join(" ");
        let (by, until) = ("BY=1970-01-01T00:01:00Z;RT", "HOLDUNTIL=1970-01-01T00:00:00Z");
        assert_eq!(
            words,
            format!("SIZE=42 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=QQ+2B1 REQUIRETLS {by} {until} MT-PRIORITY=-3")
        );
        assert_eq!(mail_words(&MailParameters::default()), Vec::<String>::new());
        let orcpt = OriginalRecipient { address_type: "rfc822".to_owned(), address: "bob@example.net".to_owned() };
        let recipient = |notify| RecipientParameters { notify, orcpt: Some(orcpt.clone()) };
        for (notify, shown) in [
            (Some(Notify::NEVER), "NOTIFY=NEVER ORCPT=rfc822;bob@example.net"),
            (Some(Notify::DEFAULT), "NOTIFY=FAILURE,DELAY ORCPT=rfc822;bob@example.net"),
            (None, "ORCPT=rfc822;bob@example.net"),
        ] {
            assert_eq!(recipient_words(&recipient(notify)).join(" "), shown);
        }
    }
}
