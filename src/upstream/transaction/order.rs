//! What is to be sent to an upstream, and what that must offer for it. Never: holds the message.

use crate::mail::{DeliverBy, Envelope, MailParameters, Recipient, ReversePath};
use crate::smtp::extension::{Extension, Offered};
use crate::sys::WallTime;

/// The most seconds of a by-time, either way: nine digits (RFC 2852 §4).
const BY_MOST: i64 = 999_999_999;

/// What is to be sent, but for the octets of the message.
#[derive(Clone, Debug)]
pub struct Order {
    pub(super) reverse_path: ReversePath,
    pub(super) parameters: MailParameters,
    /// Place in the envelope, and the recipient.
    pub(super) recipients: Vec<(usize, Recipient)>,
    pub(super) octets: u64,
    /// What MAIL says of it (RFC 1870 §6.1); none when it is not known yet.
    pub(super) size: Option<u64>,
    pub(super) extent: Extent,
    /// When it is sent: what is left of the time to deliver it in.
    pub(super) at: WallTime,
}

/// Whether all that is to be sent is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// It is.
    Whole,
    /// Recipients come one by one while their client waits, and the message behind them, or never.
    Growing,
}

impl Order {
    /// An order for some recipients of an envelope, by their places; places that it does not have are left out. `octets` is the true length
    /// of the message, for SIZE (RFC 1870).
    pub fn new(envelope: &Envelope, places: &[usize], octets: u64) -> Self {
        let recipient = |&place: &usize| Some((place, envelope.recipients().get(place)?.clone()));
        Self {
            reverse_path: envelope.reverse_path().clone(),
            parameters: envelope.parameters().clone(),
            recipients: places.iter().filter_map(recipient).collect(),
            octets,
            size: Some(octets),
            extent: Extent::Whole,
            at: WallTime::from_millis(0),
        }
    }

    /// An order of which nothing is known yet but who sends, and the size that was declared: recipients are asked for one by one, and the message
    /// comes when all are answered for.
    pub fn growing(reverse_path: &ReversePath, parameters: &MailParameters) -> Self {
        Self {
            reverse_path: reverse_path.clone(),
            parameters: parameters.clone(),
            recipients: Vec::new(),
            octets: 0,
            size: parameters.size,
            extent: Extent::Growing,
            at: WallTime::from_millis(0),
        }
    }

    /// Whether an upstream that offers this can take it over while its client waits: with nothing of it left for us to decide or to tell later.
    pub(in crate::upstream) fn goes_through(&self, offered: &Offered) -> bool {
        self.lacks(offered).is_none() && (!self.parameters.smtputf8 || offered.has(Extension::SmtpUtf8))
    }

    /// The same, sent at this moment.
    #[must_use]
    pub fn at(self, now: WallTime) -> Self {
        Self { at: now, ..self }
    }

    /// Whole seconds that are left of the time to deliver it in; below zero when it is over (RFC 2852 §4).
    pub(super) fn seconds_left(&self, by: DeliverBy) -> i64 {
        by.deadline.millis().saturating_sub(self.at.millis()).div_euclid(1000).clamp(-BY_MOST, BY_MOST)
    }

    /// What the upstream lacks without which this must not go to it; for the report, with its status.
    pub(super) fn lacks(&self, offered: &Offered) -> Option<String> {
        let asked = &self.parameters;
        // RFC 8689 §4.2.1; §5: what has no reverse path is not lost over it.
        if asked.require_tls && self.reverse_path != ReversePath::Null && !offered.has(Extension::RequireTls) {
            return Some(
                "5.7.30 the message demands TLS all the way (REQUIRETLS), which the upstream does not offer".to_owned(),
            );
        }
        let by = asked.deliver_by.filter(|by| by.or_return)?;
        // RFC 2852 §4.1.4.1: nobody could say that it comes in time.
        if !offered.has(Extension::DeliverBy) {
            return Some("5.4.7 the message must be delivered in time or returned (BY=..;R), and the upstream knows of no time (DELIVERBY)".to_owned());
        }
        let (left, least) = (self.seconds_left(by), offered.deliver_by_min().unwrap_or(0).max(1));
        (left < i64::from(least)).then(|| {
            format!("5.4.7 the message must be delivered within {left} s or returned (BY=..;R), and the upstream promises nothing below {least} s")
        })
    }

    pub(super) fn is_ascii(&self) -> bool {
        self.reverse_path.as_str().is_ascii()
            && self.recipients.iter().all(|(_, to)| to.forward_path.as_str().is_ascii())
    }
}
