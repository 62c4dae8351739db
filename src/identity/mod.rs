//! Certificate facts to an [`Identity`]: which names a certificate has, and whom the roster knows by them.
//!
//! Never: verifies a chain (that is `tls::verify`), reads a file, knows the wire.

pub mod distinguished;
pub mod facts;
pub mod key;
pub(crate) mod names;
pub mod pattern;
pub mod roster;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use distinguished::{DistinguishedName, SerialNumber};
pub use facts::{CertificateFacts, CertificateSummary, Digest256, Link, UnusableName};
pub use key::{DnsKey, MailboxKey, MatchKeys, UriKey};
pub use pattern::{AddressPattern, AddressPatterns, DomainSet, Granting, ListPurpose, PatternEntry, PatternList};
pub use roster::{
    Brief, CaGrant, Described, EmailGrant, EntryState, Examination, Lapsed, NoIdentity, OwnNames, Roster,
    RosterBuilder, RosterEntry, RosterLine, RosterMistake, Terms,
};

use crate::mail::{LocalPartCase, Rates};
use crate::smtp::data::BareLf;
use crate::sys::WallTime;
use crate::tls::Witness;

/// Where in the configuration a decision was written: `identity "billing-robot" (sealpost.toml:31)`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// What it is called, as people would say it: `identity "billing-robot"`, `client_ca "staff"`.
    pub name: Arc<str>,
    /// File and line, when it was read from a file.
    pub place: Option<Arc<str>>,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(f, "{} ({place})", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// What is asked besides the certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SecondFactor {
    /// Nothing: the certificate is enough.
    #[default]
    None,
    /// A password of the same identity (AUTH).
    Password,
    /// A password, and behind it a code of one time (RFC 6238).
    Totp,
}

/// How much. `None` means: only the server's own limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Recipients in one message.
    pub recipients_per_message: Option<u32>,
    /// Octets of one message.
    pub message_size: Option<u64>,
    /// Messages and recipients in an hour and in a day.
    pub rates: Rates,
    /// How urgent its messages may be.
    pub priorities: Priorities,
}

/// Which priorities a message may have (RFC 6710): from -9, the least urgent, to 9. Without a word, nobody's mail is more urgent than the others'.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Priorities {
    /// The least.
    pub min: i8,
    /// The most.
    pub max: i8,
}

impl Default for Priorities {
    fn default() -> Self {
        Self { min: Self::LEAST, max: Self::ORDINARY }
    }
}

impl Priorities {
    /// The least urgent there is (RFC 6710 §3).
    pub const LEAST: i8 = -9;
    /// That of a message of which nothing was said.
    pub const ORDINARY: i8 = 0;
    /// The most urgent there is.
    pub const MOST: i8 = 9;

    /// The priority of a message for which this one was asked, or none.
    pub fn assigned(self, asked: Option<i8>) -> i8 {
        asked.unwrap_or(Self::ORDINARY).min(self.max).max(self.min)
    }
}

/// When an accepted message goes out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Dispatch {
    /// At once.
    #[default]
    AtOnce,
    /// When an operator has approved it (`hold = true`).
    OnApproval,
}

/// Whether mail of somebody else may be sent again as it is (RFC 5322 §3.6.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Resending {
    /// From must be granted all the same.
    #[default]
    OwnMail,
    /// A granted topmost Resent-From answers for any From (`resend = true`).
    AnyMail,
}

/// Whose word that the client holds its certificate's key is enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Vouching {
    /// Our own handshake's, and nobody else's.
    #[default]
    Handshake,
    /// A pinned load balancer's too (`accept_vouched = true`).
    BalancerToo,
}

/// What is let pass of an identity that is refused of others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Leeway {
    /// An LF without CR in a message.
    pub bare_lf: BareLf,
    /// Another's From under a Resent-From of its own.
    pub resending: Resending,
    /// A certificate that a load balancer tells of.
    pub vouching: Vouching,
}

impl Leeway {
    /// Whether a certificate counts whose key was seen by this witness.
    pub fn takes(self, witness: Witness) -> bool {
        match (witness, self.vouching) {
            (Witness::Handshake, _) | (Witness::Balancer(_), Vouching::BalancerToo) => true,
            (Witness::Balancer(_), Vouching::Handshake) => false,
        }
    }

    /// Whether all that `other` let pass is let pass.
    fn reaches(self, other: Self) -> bool {
        let Self { bare_lf, resending, vouching } = other;
        (self.bare_lf == bare_lf || self.bare_lf == BareLf::Normalized)
            && (self.resending == resending || self.resending == Resending::AnyMail)
            && (self.vouching == vouching || self.vouching == Vouching::BalancerToo)
    }
}

/// What an identity may do. An empty list grants nothing.
#[derive(Clone, Debug)]
pub struct Grant {
    /// Addresses it may send as: envelope sender, From, Sender, Resent-From, Resent-Sender.
    pub send_as: AddressPatterns,
    /// Addresses it may send to.
    pub send_to: AddressPatterns,
    /// What is asked besides the certificate.
    pub second_factor: SecondFactor,
    /// How much.
    pub limits: Limits,
    /// When its messages go out.
    pub dispatch: Dispatch,
    /// Whether `MAIL FROM:<>` is allowed (RFC 6409 §3.2: legal at submission).
    pub null_sender: bool,
    /// What is let pass besides.
    pub leeway: Leeway,
    /// How local parts compare.
    pub local_part_case: LocalPartCase,
    /// Where this grant is written.
    pub rule: Rule,
}

impl Grant {
    /// Whether what `other` allowed is certainly allowed by this: larger limits are as good as the same, patterns must be the same. Whether
    /// one list of patterns reaches as far as another, with exclusions and domains, is not cheap to tell, and unknown means no. Where it is
    /// written does not matter; whether the second factor was shown is asked apart (`Session::still_allows`).
    pub fn certainly_allows(&self, other: &Self) -> bool {
        let Self {
            send_as,
            send_to,
            second_factor: _,
            limits,
            dispatch,
            null_sender,
            leeway,
            local_part_case,
            rule: _,
        } = other;
        self.send_as == *send_as
            && self.send_to == *send_to
            && self.limits.reach(limits)
            && (self.dispatch == *dispatch || self.dispatch == Dispatch::AtOnce)
            && (self.null_sender || !null_sender)
            && self.leeway.reaches(*leeway)
            && self.local_part_case == *local_part_case
    }
}

impl Limits {
    /// Whether each is as large as `other`'s. What is counted must be counted alike: a transaction under way has paid by the old ones.
    fn reach(&self, other: &Self) -> bool {
        let Self { recipients_per_message, message_size, rates, priorities } = other;
        reaches(self.recipients_per_message, *recipients_per_message)
            && reaches(self.message_size, *message_size)
            && self.rates == *rates
            && self.priorities.min <= priorities.min
            && self.priorities.max >= priorities.max
    }
}

#[cfg(test)]
mod width {
    use super::*;

    #[test]
    fn a_priority_is_the_nearest_that_is_allowed() {
        let urgent = Priorities { min: -2, max: 4 };
        let slow = Priorities { min: -9, max: -5 };
        for (priorities, asked, given) in [
            (Priorities::default(), None, 0),
            (Priorities::default(), Some(1), 0),
            (Priorities::default(), Some(-9), -9),
            (urgent, Some(9), 4),
            (urgent, Some(3), 3),
            (urgent, Some(-9), -2),
            (slow, None, -5),
            (slow, Some(0), -5),
        ] {
            assert_eq!(priorities.assigned(asked), given, "{priorities:?} {asked:?}");
        }
    }

    /// How a grant is changed.
    type Change = fn(&mut Grant);

    #[test]
    fn a_wider_grant_allows_what_the_narrower_did_and_no_other_does() {
        let patterns = |text: &'static str| AddressPatterns::parse([text], LocalPartCase::Ignored).unwrap();
        let grant = Grant {
            send_as: patterns("a@example.com"),
            send_to: patterns("*"),
            second_factor: SecondFactor::None,
            limits: Limits { message_size: Some(10), ..Limits::default() },
            dispatch: Dispatch::AtOnce,
            null_sender: true,
            leeway: Leeway::default(),
            local_part_case: LocalPartCase::Ignored,
            rule: Rule { name: "x".into(), place: None },
        };
        let changes: [(&str, Change, bool, bool); 14] = [
            ("another rule", |grant| grant.rule.name = "y".into(), true, true),
            ("larger messages", |grant| grant.limits.message_size = Some(11), true, false),
            ("any size", |grant| grant.limits.message_size = None, true, false),
            ("more urgent mail", |grant| grant.limits.priorities.max = 3, true, false),
            ("no mail that can wait", |grant| grant.limits.priorities.min = 0, false, true),
            ("fewer recipients", |grant| grant.limits.recipients_per_message = Some(9), false, true),
            ("no null sender", |grant| grant.null_sender = false, false, true),
            ("bare LF", |grant| grant.leeway.bare_lf = BareLf::Normalized, true, false),
            ("others' mail again", |grant| grant.leeway.resending = Resending::AnyMail, true, false),
            ("balancers' word", |grant| grant.leeway.vouching = Vouching::BalancerToo, true, false),
            ("on approval", |grant| grant.dispatch = Dispatch::OnApproval, false, true),
            ("another rate", |grant| grant.limits.rates.messages_per_hour = Some(9), false, false),
            ("another case", |grant| grant.local_part_case = LocalPartCase::Exact, false, false),
            (
                "another sender",
                |grant| grant.send_as = AddressPatterns::parse(["b@example.com"], LocalPartCase::Ignored).unwrap(),
                false,
                false,
            ),
        ];
        for (what, change, allows, was_allowed) in changes {
            let mut other = grant.clone();
            change(&mut other);
            assert_eq!(other.certainly_allows(&grant), allows, "{what}");
            assert_eq!(grant.certainly_allows(&other), was_allowed, "{what}, the other way round");
        }
        let by_the_hour = Rates { messages_per_hour: Some(9), ..Rates::default() };
        let not_compared: [(&str, Grant); 4] = [
            ("whom it sends as", Grant { send_as: patterns("*@example.com"), ..grant.clone() }),
            ("whom it sends to", Grant { send_to: patterns("*@example.net"), ..grant.clone() }),
            ("rates", Grant { limits: Limits { rates: by_the_hour, ..grant.limits }, ..grant.clone() }),
            ("case", Grant { local_part_case: LocalPartCase::Exact, ..grant.clone() }),
        ];
        for (what, other) in not_compared {
            assert!(!other.certainly_allows(&grant) && !grant.certainly_allows(&other), "{what}: not compared, so no");
        }
        let factor = Grant { second_factor: SecondFactor::Password, ..grant.clone() };
        assert!(factor.certainly_allows(&grant), "asked apart");
    }
}

/// Of two limits, whether the first is as large; none is the largest.
fn reaches<T: PartialOrd>(limit: Option<T>, other: Option<T>) -> bool {
    limit.is_none_or(|limit| other.is_some_and(|other| other <= limit))
}

/// Who a verified certificate stands for. Made only by [`Roster::identify`], from a `VerifiedChain`.
#[derive(Clone, Debug)]
pub struct Identity {
    name: Arc<str>,
    ca: Option<Arc<str>>,
    grant: Arc<Grant>,
    certificate: Arc<CertificateSummary>,
    witness: Witness,
    good_until: WallTime,
}

impl Identity {
    /// [`Self::name`], to be kept.
    pub fn shared_name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its name: the `[[identity]]`'s, or `ca:address` when the certificate alone names it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The CA under which the chain was verified; none for a pinned certificate.
    pub fn ca(&self) -> Option<&str> {
        self.ca.as_deref()
    }

    /// What it may do.
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// Which certificate showed it.
    pub fn certificate(&self) -> &CertificateSummary {
        &self.certificate
    }

    /// Who has seen that the client holds the certificate's key.
    pub fn witness(&self) -> Witness {
        self.witness
    }

    /// Until when this may be relied on: the earliest notAfter of the chain and nextUpdate of each CRL it rests on. From that moment it must
    /// be made anew.
    pub fn good_until(&self) -> WallTime {
        self.good_until
    }
}
