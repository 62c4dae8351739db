//! The audit: one function per thing an operator may ask about, one line in the log for each (target `audit`).
//!
//! Who sent what, by which certificate, and what became of it, is answered from these lines alone. Values that a client chose are written
//! escaped. Never: holds a password, a key, or an octet of a body.

use std::net::SocketAddr;

use crate::content::{Change, Deed};
use crate::identity::{Digest256, Identity};
use crate::mail::{ForwardPath, QueueId, ReversePath};
use crate::queue::seen::Seen;
use crate::queue::{Outcome, Record, Tried};
use crate::session::{AskedTls, Decision, Ruling};
use crate::tls::{Negotiated, Rejection, ToldTls, Witness};

/// Recipients of a message that its audit line names.
const RECIPIENTS_SHOWN: usize = 100;

/// A certificate that stands for somebody was shown. RFC 8314 §4 wants the cipher suite in the log.
///
/// Where a load balancer vouches for it, `tls` is what was agreed on with the balancer, and `client_tls` its word for the client's.
pub fn identified(client: SocketAddr, tls: &Negotiated, client_tls: Option<&ToldTls>, identity: &Identity) {
    let certificate = identity.certificate();
    tracing::info!(
        target: "audit", event = "identified", identity = identity.name(), ca = identity.ca().unwrap_or("(pinned)"),
        serial = certificate.serial, fingerprint = %certificate.fingerprint, subject = certificate.subject,
        issuer = certificate.issuer, good_until = identity.good_until().rfc3339(), %client, tls = tls.version, cipher = tls.cipher,
        vouched_by = vouched_by(identity), client_tls = client_tls.map(tracing::field::display),
        "identified"
    );
}

/// A client has no identity: no certificate, a bad one, or one that nobody here is known by. `detail` is for the log only.
pub fn unidentified(client: SocketAddr, tls: &Negotiated, decision: &Decision, detail: &str) {
    tracing::warn!(
        target: "audit", event = "unidentified", %client, tls = tls.version, cipher = tls.cipher, reply = said(decision), cause = decision.cause, detail,
        "no identity"
    );
}

/// A client's certificate was refused in the handshake: with `refusal = "alert"`, or because TLS itself can't use it.
pub fn turned_away(client: SocketAddr, rejection: &Rejection) {
    let (culprit, cause) = (rejection.culprit.as_deref(), &rejection.fault);
    tracing::warn!(
        target: "audit", event = "unidentified", %client, reply = "TLS alert", %cause, ca = rejection.ca.as_deref(),
        depth = culprit.map(|culprit| culprit.depth), subject = culprit.map(|culprit| culprit.subject.as_str()),
        issuer = culprit.map(|culprit| culprit.issuer.as_str()), serial = culprit.map(|culprit| culprit.serial.as_str()),
        fingerprint = culprit.map(|culprit| culprit.fingerprint.as_str()), "no identity"
    );
}

/// The same of a client that showed none, or one that can't be told of.
pub fn turned_away_without_certificate(client: SocketAddr, cause: &str) {
    tracing::warn!(target: "audit", event = "unidentified", %client, reply = "TLS alert", cause, "no identity");
}

/// A message was accepted or refused, a sender or a recipient was refused, an authentication succeeded or was refused.
pub fn decided(client: SocketAddr, decision: &Decision) {
    let whose = decision.identity.as_deref();
    let name = whose.map_or("-", Identity::name);
    let ca = whose.map_or("-", |identity| identity.ca().unwrap_or("(pinned)"));
    let serial = whose.map_or("-", |identity| identity.certificate().serial.as_str());
    let fingerprint = whose.map(|identity| identity.certificate().fingerprint.to_string());
    let vouched_by = whose.and_then(vouched_by);
    let sender = decision.sender.as_ref().map_or("-", shown_sender);
    let recipients = shown_recipients(&decision.recipients);
    let rule = decision.rule.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
    let message_id = decision.message_id.as_deref().unwrap_or("-");
    let asked_tls = decision.asked_tls.map(AskedTls::word);
    match &decision.ruling {
        Ruling::Kept(id) => tracing::info!(
            target: "audit", event = "accepted", %id, identity = name, ca, serial, fingerprint, vouched_by, %client, auth = decision.mechanism.unwrap_or("-"), sender,
            recipients, size = decision.octets, message_id, asked_priority = decision.asked_priority, asked_tls, rule,
            "accepted"
        ),
        Ruling::Held(id) => tracing::info!(
            target: "audit", event = "held", %id, identity = name, ca, serial, fingerprint, vouched_by, %client, auth = decision.mechanism.unwrap_or("-"), sender,
            recipients, size = decision.octets, message_id, asked_priority = decision.asked_priority, asked_tls, rule,
            "accepted, and held for approval"
        ),
        Ruling::Relayed(id, reply) => tracing::info!(
            target: "audit", event = "accepted", %id, identity = name, ca, serial, fingerprint, vouched_by, %client, auth = decision.mechanism.unwrap_or("-"), sender,
            recipients, size = decision.octets, message_id, asked_priority = decision.asked_priority, asked_tls, rule, relayed = %reply,
            "accepted, and taken over by its upstream"
        ),
        Ruling::Authenticated(mechanism) => tracing::info!(
            target: "audit", event = "authenticated", identity = name, ca, serial, fingerprint, vouched_by, %client, mechanism,
            "authenticated"
        ),
        Ruling::Refused(reply) => tracing::warn!(
            target: "audit", event = "refused", subject = decision.subject.word(), identity = name, ca, serial, fingerprint, vouched_by, %client, sender,
            recipients, size = decision.octets, message_id, rule, cause = decision.cause, %reply,
            "refused"
        ),
    }
}

/// Fields of a message's header were taken out or replaced before it is kept. What they held is not told: Bcc names people.
pub fn mended(client: SocketAddr, id: QueueId, identity: &str, changes: &[Change]) {
    let named = |wanted: Deed| {
        let fields = changes.iter().filter(|change| change.deed == wanted).map(|change| change.field.as_str());
        fields.collect::<Vec<&str>>().join(",")
    };
    let signed: Vec<&str> = changes.iter().filter(|change| change.signed).map(|change| change.field.as_str()).collect();
    let (removed, replaced, signed) = (named(Deed::Removed), named(Deed::Replaced), signed.join(","));
    if signed.is_empty() {
        tracing::info!(target: "audit", event = "mended", %id, identity, %client, removed, replaced, "the header was mended");
    } else {
        tracing::warn!(
            target: "audit", event = "mended", %id, identity, %client, removed, replaced, signed,
            "the header was mended; a DKIM signature covers what was taken out, and does not hold any more"
        );
    }
}

/// What came of an attempt for one recipient; `began` is when the attempt did, RFC 3339, where one was made.
pub fn attempted(record: &Record, recipient: &ForwardPath, tried: &Tried, began: Option<&str>) {
    attempted_for(record.id, &record.custodian.identity, recipient, tried, began);
}

/// The same of a message that is not kept (yet): its upstream was asked while its client waited.
pub fn attempted_for(id: QueueId, identity: &str, recipient: &ForwardPath, tried: &Tried, began: Option<&str>) {
    let (recipient, upstream) = (recipient.as_str(), tried.upstream.as_str());
    match &tried.outcome {
        Outcome::Delivered { reply } => tracing::info!(
            target: "audit", event = "delivered", %id, identity, recipient, upstream, began, %reply, "delivered"
        ),
        Outcome::Deferred { reason, reply } => tracing::warn!(
            target: "audit", event = "deferred", %id, identity, recipient, upstream, began, reason,
            reply = reply.as_ref().map(tracing::field::display), "deferred"
        ),
        Outcome::Failed { reason, reply } => tracing::warn!(
            target: "audit", event = "failed", %id, identity, recipient, upstream, began, reason,
            reply = reply.as_ref().map(tracing::field::display), "failed"
        ),
    }
}

/// An upstream was given the whole message, and is waited for: it may have it for this recipient. What it answers is told behind this; a crash before has it
/// asked first.
pub fn unanswered(record: &Record, recipient: &ForwardPath, tried: &Tried, began: Option<&str>) {
    let (id, identity) = (record.id, record.custodian.identity.as_str());
    let (recipient, upstream) = (recipient.as_str(), tried.upstream.as_str());
    tracing::info!(
        target: "audit", event = "unanswered", %id, identity, recipient, upstream, began,
        "the upstream was given all of it and has not answered yet; it may have it"
    );
}

/// A report (RFC 3464) on a message was queued under a name of its own: to the message's sender, about these recipients.
pub fn reported(id: QueueId, report_id: QueueId, to: &str, about: &str, report: &str) {
    tracing::info!(target: "audit", event = "reported", %id, %report_id, to, about, report, "reported");
}

/// A message can be neither delivered nor reported; it is kept.
pub fn dead(id: QueueId, identity: &str, reason: &str) {
    tracing::error!(
        target: "audit", event = "dead", %id, identity, reason,
        "dead: it can be neither delivered nor reported; see `sealpost queue show`"
    );
}

/// A queued message is held, because its sender may not send any more (`queue.recheck`).
pub fn stopped(id: QueueId, identity: &str, reason: &str) {
    tracing::error!(
        target: "audit", event = "stopped", %id, identity, reason,
        "held: its sender may not send any more; `sealpost queue release` sends it nonetheless, `queue remove` forgets it"
    );
}

/// A client's certificate ends soon; told 30, 7 and 1 days before. `notice` is the mail that tells its holder, if there is one.
pub fn certificate_ends(seen: &Seen, days_left: i64, notice: Option<QueueId>) {
    let certificate = &seen.row.certificate;
    tracing::warn!(
        target: "audit", event = "certificate-ends", identity = seen.identity, ca = certificate.ca.as_deref().unwrap_or("(pinned)"),
        serial = certificate.serial, subject = certificate.subject, fingerprint = %Digest256(seen.fingerprint),
        ends = %certificate.not_after.rfc3339(), days_left, last_seen = %seen.row.last.rfc3339(), client = seen.row.client,
        notice = notice.map(|id| id.to_string()),
        "the certificate of a client ends soon, and no newer one of this identity has been seen"
    );
}

/// An operator began to steer the queue: what is to be done, to which messages, and who asked.
pub fn steering(action: &str, asked: &str, by: &str) {
    tracing::info!(target: "audit", event = "steering", action, asked, by, "steering");
}

/// How much was done of what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All of it.
    Whole,
    /// Whoever asked went away, the queue failed, or the daemon stops.
    Part,
}

/// That is over; so many messages were steered.
pub fn steering_ended(action: &str, asked: &str, messages: u64, extent: Extent, by: &str) {
    let early = extent == Extent::Part;
    tracing::info!(target: "audit", event = "steering-ended", action, asked, messages, early, by, "steering ended");
}

/// What an operator did to one message.
#[derive(Clone, Copy, Debug)]
pub struct Steered<'a> {
    /// The command's word: `hold`, `remove`, `import`.
    pub action: &'a str,
    /// Which message.
    pub id: QueueId,
    /// The recipients that were removed, when the message was not removed whole.
    pub recipients: Option<&'a str>,
    /// To which messages it was to be done, as on the command line.
    pub asked: &'a str,
    /// Who asked, as the kernel tells.
    pub by: &'a str,
}

/// An operator steered a message.
pub fn steered(what: &Steered<'_>) {
    let Steered { action, id, recipients, asked, by } = what;
    tracing::info!(target: "audit", event = "steered", %id, action, recipients, asked, by, "steered");
}

/// The recipients, as many as one line should hold, and how many more there are; each is told when its outcome is.
fn shown_recipients(recipients: &[ForwardPath]) -> String {
    let shown: Vec<&str> = recipients.iter().take(RECIPIENTS_SHOWN).map(ForwardPath::as_str).collect();
    match recipients.len().checked_sub(RECIPIENTS_SHOWN) {
        None | Some(0) => shown.join(","),
        Some(more) => format!("{},and {more} more", shown.join(",")),
    }
}

/// The load balancer on whose word it rests that the client holds its key, by the SHA-256 of the balancer's certificate.
fn vouched_by(identity: &Identity) -> Option<String> {
    match identity.witness() {
        Witness::Handshake => None,
        Witness::Balancer(fingerprint) => Some(fingerprint.to_string()),
    }
}

fn said(decision: &Decision) -> String {
    match &decision.ruling {
        Ruling::Kept(id) | Ruling::Held(id) | Ruling::Relayed(id, _) => id.to_string(),
        Ruling::Authenticated(mechanism) => (*mechanism).to_owned(),
        Ruling::Refused(reply) => reply.to_string(),
    }
}

fn shown_sender(path: &ReversePath) -> &str {
    match path {
        ReversePath::Null => "<>",
        ReversePath::Address(address) => address.as_str(),
    }
}
