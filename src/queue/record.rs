//! What is kept of a message besides its octets: versioned, with everything that delivery, reports and the audit need.
//!
//! A newer version is refused with a clear message, an older one is migrated.

use serde::{Deserialize, Serialize};

use super::Deposit;
use super::store::{Certainty, Tried};
use crate::mail::{Envelope, QueueId};
use crate::smtp::Reply;
use crate::sys::WallTime;

/// On whose authority our own mail is sent (reports, notices), in the queue's listing, the audit, and the `identities` of a route.
pub const REPORTS: &str = "reports";

/// On whose authority the message is here: kept so that "who sent this" can be answered from the queue alone, and rechecked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Custodian {
    /// The identity's name; `reports` for our own reports.
    pub identity: String,
    /// The CA's name; none for a pin.
    pub ca: Option<String>,
    /// SHA-256 of the leaf, hexadecimal; empty for our own reports.
    pub fingerprint: String,
    /// Issuer and serial of each certificate of the chain, leaf first: for people.
    pub chain: Vec<(String, String)>,
    /// SHA-256 of the leaf's SubjectPublicKeyInfo; none for our own reports, and for messages of before this was kept.
    pub key: Option<[u8; 32]>,
    /// The same certificates as a CRL knows them; as with the key.
    pub links: Vec<Link>,
    /// The load balancer on whose word it rests that the key was the sender's; none where we have seen that ourselves, and for messages of before this was kept.
    /// It stands behind the record (see `codec`).
    #[serde(skip)]
    pub vouched: Option<Vouched>,
    /// When the first certificate of the chain ends (notAfter; of what an earlier build kept, when the leaf does), of a message that its sender wants to wait (RFC 4865), which is looked at again by that; none of any other, and for
    /// messages of before this was kept. It stands behind the record, too.
    #[serde(skip)]
    pub ends: Option<WallTime>,
}

impl Custodian {
    /// That of our own mail.
    pub fn ours() -> Self {
        Self {
            identity: REPORTS.to_owned(),
            ca: None,
            fingerprint: String::new(),
            chain: Vec::new(),
            key: None,
            links: Vec::new(),
            vouched: None,
            ends: None,
        }
    }

    /// Whether the message is our own: no certificate came with it.
    pub fn is_ours(&self) -> bool {
        self.identity == REPORTS && self.fingerprint.is_empty()
    }
}

/// A load balancer that has vouched for a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vouched {
    /// SHA-256 of its own certificate.
    pub fingerprint: [u8; 32],
    /// SHA-256 of the key in that.
    pub key: [u8; 32],
}

/// A certificate as a CRL knows it: by who signed it, and by its number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// SHA-256 of the issuer's name in DER.
    pub issuer: [u8; 32],
    /// SHA-256 of the issuer's SubjectPublicKeyInfo; none for a pin.
    pub issuer_key: Option<[u8; 32]>,
    /// The serial's octets.
    pub serial: Vec<u8>,
}

/// How the message came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceFacts {
    /// The client's address and port.
    pub client: String,
    /// What it called itself in EHLO.
    pub helo: String,
    /// The protocol of the Received field: ESMTPS, ESMTPSA, UTF8SMTPS, UTF8SMTPSA.
    pub protocol: String,
    /// TLS version and cipher suite.
    pub tls: String,
    /// When its end-of-data was read.
    pub arrived: WallTime,
    /// Its Message-ID, for the log and reports.
    pub message_id: Option<String>,
}

/// What came of one attempt, for one recipient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The upstream has it.
    Delivered {
        /// Its reply to end-of-data.
        reply: Reply,
    },
    /// Not now; try again.
    Deferred {
        /// What happened, for people.
        reason: String,
        /// What the upstream said, if it said something.
        reply: Option<Reply>,
    },
    /// Not at all: this message, this recipient.
    Failed {
        /// What happened, for people.
        reason: String,
        /// What the upstream said, if it said something.
        reply: Option<Reply>,
    },
}

/// Where a recipient stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientState {
    /// Whether anything is left to do for it: true until delivered, failed and reported, or given up.
    pub open: bool,
    /// How often it was tried.
    pub attempts: u32,
    /// What came of the last attempt.
    pub last: Option<Outcome>,
    /// When and by which upstream it was last tried.
    pub last_attempt: Option<(WallTime, String)>,
    /// Whether an upstream may have it: it got the final dot and was silent. The next attempt begins with the upstream that was tried last. Stays
    /// until the recipient is delivered: what a later attempt meets does not take back what may have arrived.
    pub undetermined: bool,
}

/// The name of an upstream where no route took the recipient, so that there was none to ask. An earlier build wrote it in place of [`UNHEARD`], too.
pub const NO_UPSTREAM: &str = "-";

/// The same where a route may well take it, and nothing was heard of an upstream: none was asked, or what it said was lost in a panic of ours.
pub const UNHEARD: &str = "?";

/// What is noted of a recipient whom an operator took out: it does not get the message, and nobody is told.
const TAKEN_OUT: &str = "removed by an operator";

impl RecipientState {
    /// Whether an operator took it out (`Record::take_out`).
    pub fn is_taken_out(&self) -> bool {
        !self.open && matches!(&self.last, Some(Outcome::Failed { reason, reply: None }) if reason == TAKEN_OUT)
    }

    /// Whether this recipient of a message in state `of` is still to have it. Nothing is open of a dead one; a retry opens whoever has it not.
    pub fn is_owed(&self, of: State) -> bool {
        match of {
            State::Queued | State::Held => self.open,
            State::Dead => !self.has_it() && !self.is_taken_out(),
        }
    }

    pub(super) fn has_it(&self) -> bool {
        matches!(self.last, Some(Outcome::Delivered { .. }))
    }
}

/// Whether anybody is to have a message still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owed {
    Somebody,
    Nobody,
}

/// The state of a whole message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// To be tried when due.
    Queued,
    /// Kept back by an operator or by its grant, until released.
    Held,
    /// Can't be delivered nor reported: kept, listed, counted, until an operator removes or retries it.
    Dead,
}

/// Who keeps a message back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HeldBy {
    /// An operator: `queue hold`.
    Operator,
    /// Its grant: `hold = true`.
    Grant,
    /// A second look at who sent it: `queue.recheck`.
    Recheck,
}

/// Whether a message is looked at once more before it is tried (`queue.recheck`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Recheck {
    /// It is.
    #[default]
    Due,
    /// An operator has seen what it found, and lets the message go.
    Waived,
}

/// All that is kept of a message besides its octets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its name.
    pub id: QueueId,
    /// Who to, who from.
    pub envelope: Envelope,
    /// On whose authority.
    pub custodian: Custodian,
    /// How it came.
    pub trace: TraceFacts,
    /// Where it stands.
    pub state: State,
    /// Why it is dead or held, for the operator.
    pub reason: Option<String>,
    /// Per recipient, in the envelope's order.
    pub recipients: Vec<RecipientState>,
    /// When it is to be tried next.
    pub due: WallTime,
    /// Attempts on the whole message.
    pub attempts: u32,
    /// Whether the delay has been reported (`warn_after`).
    pub warned: bool,
    /// Octets of the stored message.
    pub length: u64,
    /// XXH3-64 of the stored message.
    pub checksum: u64,
    /// Who holds it, when it is held.
    pub held_by: Option<HeldBy>,
    /// When an operator last let it go on.
    pub released: Option<WallTime>,
    /// Whether its sender is looked at again.
    pub recheck: Recheck,
}

impl Record {
    /// The record of a message that has just come: every recipient open, due at once, or when its sender asked for (RFC 4865 §4).
    pub fn new(id: QueueId, deposit: Deposit, length: u64, checksum: u64) -> Self {
        let Deposit { envelope, custodian, trace } = deposit;
        let fresh = RecipientState { open: true, attempts: 0, last: None, last_attempt: None, undetermined: false };
        let due = envelope.parameters().hold_until.map_or(trace.arrived, |until| until.max(trace.arrived));
        Self {
            id,
            recipients: vec![fresh; envelope.recipients().len()],
            envelope,
            custodian,
            trace,
            state: State::Queued,
            reason: None,
            due,
            attempts: 0,
            warned: false,
            length,
            checksum,
            held_by: None,
            released: None,
            recheck: Recheck::Due,
        }
    }

    /// Whether these are the octets of the message, all of them and as they came.
    pub(super) fn is_of(&self, octets: &[u8]) -> bool {
        u64::try_from(octets.len()) == Ok(self.length) && xxhash_rust::xxh3::xxh3_64(octets) == self.checksum
    }

    /// From when on it waits for its upstream: its arrival, its release, or the moment that its sender asked for (RFC 4865 §4). What it waited for a
    /// person, or as it was asked to, is nobody's delay.
    pub fn waits_since(&self) -> WallTime {
        let since = self.released.unwrap_or(self.trace.arrived);
        self.envelope.parameters().hold_until.map_or(since, |until| until.max(since))
    }

    /// Keeps it back; `reason` is for the operator.
    pub(super) fn hold(&mut self, by: HeldBy, reason: Option<String>) {
        self.state = State::Held;
        self.held_by = Some(by);
        self.reason = reason;
    }

    /// The places in the envelope of those for whom something is left to do.
    pub fn open_recipients(&self) -> Vec<usize> {
        self.recipients.iter().enumerate().filter(|(_, state)| state.open).map(|(place, _)| place).collect()
    }

    /// The upstream that may have the message for one of these recipients already: it is asked first.
    pub fn undetermined_upstream(&self, places: &[usize]) -> Option<&str> {
        let states = places.iter().filter_map(|&place| self.recipients.get(place));
        states
            .filter(|state| state.undetermined)
            .find_map(|state| state.last_attempt.as_ref())
            .map(|(_, upstream)| upstream.as_str())
    }

    /// Whether this was noted at that moment, and nothing since.
    pub(super) fn has_noted(&self, tried: &Tried, at: WallTime) -> bool {
        let state = self.recipients.get(tried.recipient);
        let last = state.and_then(|state| Some((state.last.as_ref()?, state.last_attempt.as_ref()?)));
        last.is_some_and(|(outcome, (when, _))| *outcome == tried.outcome && *when == at)
    }

    /// Notes what came of one attempt. Delivered and failed recipients are closed: nothing is left to do for them.
    pub(super) fn note(&mut self, tried: &Tried, at: WallTime) {
        let Some(recipient) = self.recipients.get_mut(tried.recipient) else { return };
        let delivered = matches!(tried.outcome, Outcome::Delivered { .. });
        if recipient.has_it() || (!delivered && recipient.is_taken_out()) {
            // It was noted while the attempt went on, which is one attempt; or an operator took it out while it was being tried.
            return;
        }
        recipient.open = matches!(tried.outcome, Outcome::Deferred { .. });
        recipient.attempts = recipient.attempts.saturating_add(1);
        recipient.last = Some(tried.outcome.clone());
        recipient.last_attempt = Some((at, tried.upstream.clone()));
        let is_unknown = match tried.certainty {
            Certainty::Known => recipient.undetermined,
            Certainty::Undetermined => true,
            Certainty::Answered => false,
        };
        recipient.undetermined = !delivered && is_unknown;
    }

    /// Notes that an upstream may have it, while its answer is still waited for. What comes of that is noted behind it, and counts the attempt; a crash
    /// before leaves this.
    pub(super) fn note_perhaps(&mut self, tried: &Tried, at: WallTime) {
        let Some(recipient) = self.recipients.get_mut(tried.recipient).filter(|recipient| recipient.open) else {
            return;
        };
        recipient.last = Some(tried.outcome.clone());
        recipient.last_attempt = Some((at, tried.upstream.clone()));
        recipient.undetermined = true;
    }

    /// Notes an attempt that was made before the message was kept; it is tried again at `due`, or when its sender asked for.
    pub(super) fn was_tried(&mut self, outcomes: &[Tried], at: WallTime, due: WallTime) {
        for tried in outcomes {
            self.note(tried, at);
        }
        self.attempts = self.attempts.saturating_add(u32::from(!outcomes.is_empty()));
        self.due = self.due.max(due);
    }

    /// Due now, whatever its state; a dead one starts again with all recipients that do not have it.
    pub(super) fn retry(&mut self, now: WallTime) {
        if self.state == State::Dead {
            for recipient in &mut self.recipients {
                recipient.open = !recipient.has_it() && !recipient.is_taken_out();
            }
        }
        if self.state != State::Queued {
            self.released = Some(now);
        }
        if self.held_by == Some(HeldBy::Recheck) {
            self.recheck = Recheck::Waived;
        }
        self.state = State::Queued;
        self.held_by = None;
        self.reason = None;
        self.due = now;
    }

    /// Takes recipients out, by their places in the envelope: they do not get it, and nobody is told. Who has it already, has it.
    pub(crate) fn take_out(&mut self, places: &[usize]) -> Owed {
        for &place in places {
            if let Some(recipient) = self.recipients.get_mut(place).filter(|recipient| !recipient.has_it()) {
                recipient.open = false;
                recipient.last = Some(Outcome::Failed { reason: TAKEN_OUT.to_owned(), reply: None });
            }
        }
        if self.recipients.iter().any(|recipient| recipient.is_owed(self.state)) {
            Owed::Somebody
        } else {
            Owed::Nobody
        }
    }

    /// Held no longer: due now, or when its sender asked for (RFC 4865 §4).
    pub(super) fn release(&mut self, now: WallTime) {
        self.retry(now);
        self.due = self.envelope.parameters().hold_until.map_or(now, |until| until.max(now));
    }

    /// Nobody tries it any more, and its operator reads why.
    pub(super) fn set_aside(&mut self, reason: &str) {
        self.state = State::Dead;
        self.held_by = None;
        self.reason = Some(reason.to_owned());
    }
}

#[cfg(test)]
pub(crate) mod samples {
    //! Records for tests.

    use super::*;
    use crate::mail::{Address, ForwardPath, MailParameters, Recipient, RecipientParameters, ReversePath};

    pub(crate) fn deposit(arrived: WallTime) -> Deposit {
        let address = |text: &str| Address::parse(text).unwrap();
        let recipient = |text: &str| Recipient {
            forward_path: ForwardPath::Address(address(text)),
            parameters: RecipientParameters::default(),
        };
        Deposit {
            envelope: Envelope::new(
                ReversePath::Address(address("alice@example.com")),
                MailParameters::default(),
                vec![recipient("bob@example.net"), recipient("carol@example.org")],
            )
            .unwrap(),
            custodian: Custodian {
                identity: "staff:alice@example.com".to_owned(),
                ca: Some("staff".to_owned()),
                fingerprint: "ab".repeat(32),
                chain: vec![("CN=Staff issuing".to_owned(), "01af".to_owned())],
                key: Some([7; 32]),
                links: vec![Link { issuer: [8; 32], issuer_key: Some([9; 32]), serial: vec![1, 0xaf] }],
                vouched: None,
                ends: None,
            },
            trace: TraceFacts {
                client: "192.0.2.1:40000".to_owned(),
                helo: "laptop.example.com".to_owned(),
                protocol: "ESMTPS".to_owned(),
                tls: "TLS1.3 TLS_AES_256_GCM_SHA384".to_owned(),
                arrived,
                message_id: Some("<1@example.com>".to_owned()),
            },
        }
    }

    pub(crate) fn record(number: u128) -> Record {
        Record::new(QueueId::from_u128(number), deposit(WallTime::from_seconds(1_000)), 3, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_called_as_reports_are_is_not_one() {
        let sent = samples::deposit(WallTime::from_seconds(0)).custodian;
        let of = |fingerprint: &str| Custodian {
            identity: REPORTS.to_owned(),
            fingerprint: fingerprint.to_owned(),
            ..sent.clone()
        };
        assert!(of("").is_ours() && !of(&sent.fingerprint).is_ours() && !sent.is_ours());
    }
}
