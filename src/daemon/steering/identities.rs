//! Identities, as operators see them: what each may do, when it was last here, and when its certificates end.
//!
//! First those of the configuration, in its order, then those whom certificates alone name, as far as they were seen. A page at a time: there may
//! be a million. Never: says that somebody may send who may not; what is shown is the grant as it is written.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Answer, Desk, PAGE};
use crate::identity::roster::{Brief, Described, EntryState};
use crate::identity::{Digest256, Dispatch, Limits, Resending, Roster, SecondFactor, Vouching};
use crate::queue::QueueError;
use crate::queue::seen::{Seen, due};
use crate::smtp::data::BareLf;
use crate::sys::WallTime;
use crate::tls::Witness;

/// An identity, as operators see it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IdentityEntry {
    /// Its name.
    pub name: String,
    /// What makes it.
    pub kind: IdentityKind,
    /// Where what it may do is written; none when nothing makes it any more.
    pub rule: Option<String>,
    /// Whether it is let in.
    pub enabled: bool,
    /// The CA that it is tied to.
    pub ca: Option<String>,
    /// What it may send as: the first patterns.
    pub send_as: Vec<String>,
    /// How many more there are.
    pub send_as_more: u64,
    /// Whom it may send to: the first patterns.
    pub send_to: Vec<String>,
    /// How many more there are.
    pub send_to_more: u64,
    /// `none`, `password`, `totp`.
    pub second_factor: String,
    /// Whether its mail is held for approval.
    pub hold: bool,
    /// Whether its certificate counts when a pinned load balancer tells of it.
    #[serde(default)]
    pub accept_vouched: bool,
    /// Whether it may send others' mail again under a Resent-From of its own.
    #[serde(default)]
    pub resend: bool,
    /// What becomes of an LF without CR in its messages.
    #[serde(default)]
    pub bare_lf: BareLfWord,
    /// Messages per hour, messages per day, recipients per hour, recipients per day, where they are limited.
    pub limits: IdentityLimits,
    /// When it was last seen, RFC 3339.
    pub last_used: Option<String>,
    /// The certificates it was seen with, the one that lasts longest first.
    pub certificates: Vec<CertificateEntry>,
}

/// What makes an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IdentityKind {
    /// An `[[identity]]` or a line of a roster.
    Rule,
    /// Its certificate alone, under a CA with `send_as_email` or `send_as_upn`.
    Certificate,
    /// Nothing any more: it was seen, and the configuration does not know it now.
    Gone,
}

/// What becomes of an LF without CR, in the words of the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BareLfWord {
    /// The message is refused.
    #[default]
    Refuse,
    /// It is read as CRLF.
    Normalize,
}

/// Limits of an identity.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct IdentityLimits {
    /// Messages in an hour.
    pub messages_per_hour: Option<u32>,
    /// Messages in a day.
    pub messages_per_day: Option<u32>,
    /// Recipients in an hour.
    pub recipients_per_hour: Option<u32>,
    /// Recipients in a day.
    pub recipients_per_day: Option<u32>,
    /// Recipients of one message.
    pub recipients_per_message: Option<u32>,
    /// Octets of one message.
    pub message_size: Option<u64>,
}

/// A certificate that was seen.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CertificateEntry {
    /// SHA-256, hexadecimal.
    pub fingerprint: String,
    /// Its serial, hexadecimal.
    pub serial: String,
    /// Its subject.
    pub subject: String,
    /// Its issuer.
    pub issuer: String,
    /// The CA that vouched; none for a pinned one.
    pub ca: Option<String>,
    /// Its first e-mail address.
    pub email: Option<String>,
    /// When it begins, RFC 3339.
    pub begins: String,
    /// When it ends, RFC 3339.
    pub ends: String,
    /// Whole days until then; negative when it has ended.
    pub days_left: i64,
    /// When it was seen first, RFC 3339.
    pub first_seen: String,
    /// When it was seen last, RFC 3339, to the minute.
    pub last_seen: String,
    /// The client's address then.
    pub last_client: String,
}

impl CertificateEntry {
    fn of(seen: &Seen, now: WallTime) -> Self {
        let (row, certificate) = (&seen.row, &seen.row.certificate);
        Self {
            fingerprint: Digest256(seen.fingerprint).to_string(),
            serial: certificate.serial.clone(),
            subject: certificate.subject.clone(),
            issuer: certificate.issuer.clone(),
            ca: certificate.ca.clone(),
            email: certificate.email.clone(),
            begins: certificate.not_before.rfc3339(),
            ends: certificate.not_after.rfc3339(),
            days_left: due::days_left(certificate.not_after, now),
            first_seen: row.first.rfc3339(),
            last_seen: row.last.rfc3339(),
            last_client: row.client.clone(),
        }
    }
}

impl IdentityEntry {
    fn of(described: Described, kind: IdentityKind, seen: Vec<Seen>, now: WallTime) -> Self {
        let Described { name, rule, ca, send_as, send_to, second_factor, terms } = described;
        let (send_as, send_as_more) = brief(send_as);
        let (send_to, send_to_more) = brief(send_to);
        Self {
            name,
            kind,
            rule: Some(rule.to_string()),
            enabled: terms.state == EntryState::Enabled,
            ca: ca.map(|ca| ca.to_string()),
            send_as,
            send_as_more,
            send_to,
            send_to_more,
            second_factor: word(second_factor).to_owned(),
            hold: terms.dispatch == Dispatch::OnApproval,
            accept_vouched: terms.leeway.vouching == Vouching::BalancerToo,
            resend: terms.leeway.resending == Resending::AnyMail,
            bare_lf: if terms.leeway.bare_lf == BareLf::Normalized {
                BareLfWord::Normalize
            } else {
                BareLfWord::Refuse
            },
            limits: limits(terms.limits),
            last_used: last_used(&seen),
            certificates: certificates(seen, now),
        }
    }

    /// Somebody who was seen and whom nothing makes any more.
    fn gone(name: String, seen: Vec<Seen>, now: WallTime) -> Self {
        Self {
            name,
            kind: IdentityKind::Gone,
            rule: None,
            enabled: false,
            ca: None,
            send_as: Vec::new(),
            send_as_more: 0,
            send_to: Vec::new(),
            send_to_more: 0,
            second_factor: word(SecondFactor::None).to_owned(),
            hold: false,
            accept_vouched: false,
            resend: false,
            bare_lf: BareLfWord::Refuse,
            limits: IdentityLimits::default(),
            last_used: last_used(&seen),
            certificates: certificates(seen, now),
        }
    }

    /// Whom certificates alone name; or nobody any more.
    fn of_seen(roster: &Roster, name: String, seen: Vec<Seen>, now: WallTime) -> Self {
        let known = seen.iter().find_map(|one| {
            let ca = one.row.certificate.ca.as_deref()?;
            roster.standing(&name, Some(ca), None, None, Witness::Handshake).ok()?;
            roster.describe_own(&name, ca)
        });
        match known {
            Some(described) => Self::of(described, IdentityKind::Certificate, seen, now),
            None => Self::gone(name, seen, now),
        }
    }
}

fn brief(list: Brief) -> (Vec<String>, u64) {
    (list.shown, u64::try_from(list.more).unwrap_or(u64::MAX))
}

const fn word(factor: SecondFactor) -> &'static str {
    match factor {
        SecondFactor::None => "none",
        SecondFactor::Password => "password",
        SecondFactor::Totp => "totp",
    }
}

const fn limits(limits: Limits) -> IdentityLimits {
    let Limits { recipients_per_message, message_size, rates, priorities: _ } = limits;
    IdentityLimits {
        messages_per_hour: rates.messages_per_hour,
        messages_per_day: rates.messages_per_day,
        recipients_per_hour: rates.recipients_per_hour,
        recipients_per_day: rates.recipients_per_day,
        recipients_per_message,
        message_size,
    }
}

fn last_used(seen: &[Seen]) -> Option<String> {
    seen.iter().map(|one| one.row.last).max().map(WallTime::rfc3339)
}

fn certificates(mut seen: Vec<Seen>, now: WallTime) -> Vec<CertificateEntry> {
    seen.sort_by_key(|one| std::cmp::Reverse(one.row.certificate.not_after));
    seen.iter().map(|one| CertificateEntry::of(one, now)).collect()
}

/// How far a listing of identities is. It keeps to the roster with which it began.
#[derive(Debug)]
pub(super) struct Listing {
    roster: Arc<Roster>,
    left: usize,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// These are left of the names that were asked for.
    Named(VecDeque<String>),
    /// The roster, from this entry on.
    Roster(usize),
    /// Those who were seen, behind this one.
    Seen(Option<String>),
}

impl Listing {
    pub(super) fn new(roster: &Arc<Roster>, names: Vec<String>, limit: usize) -> Self {
        let place = if names.is_empty() { Place::Roster(0) } else { Place::Named(names.into()) };
        Self { roster: Arc::clone(roster), left: limit, place }
    }

    /// The next answers; and whether there may be more.
    pub(super) async fn page(&mut self, desk: Desk<'_>) -> Result<(Vec<Answer>, bool), QueueError> {
        let entries = match std::mem::replace(&mut self.place, Place::Seen(None)) {
            Place::Named(mut names) => {
                let Some(name) = names.pop_front() else { return Ok((Vec::new(), false)) };
                self.place = Place::Named(names);
                return Ok((vec![self.named(name, desk).await?], true));
            }
            Place::Roster(from) => {
                let described: Vec<Described> = self.roster.described(from, PAGE.min(self.left)).collect();
                if !described.is_empty() {
                    self.place = Place::Roster(from.saturating_add(described.len()));
                }
                let names = described.iter().map(|one| one.name.clone()).collect();
                let seen = desk.queue.seen_of(names).await?;
                let both = described.into_iter().zip(seen);
                both.map(|(one, seen)| IdentityEntry::of(one, IdentityKind::Rule, seen, desk.now)).collect()
            }
            Place::Seen(after) => {
                let page = desk.queue.seen(after, PAGE).await?;
                let Some(last) = page.last() else { return Ok((Vec::new(), false)) };
                self.place = Place::Seen(Some(last.identity.clone()));
                self.alone(page, desk.now)
            }
        };
        self.left = self.left.saturating_sub(entries.len());
        Ok((entries.into_iter().map(|entry| Answer::Identity(Box::new(entry))).collect(), self.left > 0))
    }

    /// Those of a page of the seen who are not in the roster.
    fn alone(&self, page: Vec<Seen>, now: WallTime) -> Vec<IdentityEntry> {
        let mut entries = Vec::new();
        let mut rest = page.into_iter().peekable();
        while let Some(first) = rest.next() {
            let name = first.identity.clone();
            let mut seen = vec![first];
            while let Some(next) = rest.next_if(|next| next.identity == name) {
                seen.push(next);
            }
            if entries.len() < self.left && !self.roster.has(&name) {
                entries.push(IdentityEntry::of_seen(&self.roster, name, seen, now));
            }
        }
        entries
    }

    async fn named(&self, name: String, desk: Desk<'_>) -> Result<Answer, QueueError> {
        let seen = desk.queue.seen_of(vec![name.clone()]).await?.pop().unwrap_or_default();
        Ok(match self.roster.describe(&name) {
            Some(described) => {
                Answer::Identity(Box::new(IdentityEntry::of(described, IdentityKind::Rule, seen, desk.now)))
            }
            None if seen.is_empty() => Answer::Missing(name),
            None => Answer::Identity(Box::new(IdentityEntry::of_seen(&self.roster, name, seen, desk.now))),
        })
    }
}
