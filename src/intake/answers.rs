//! Answers to what a session asks: is the identity still good, is there room, is it kept.
//!
//! Each comes from one place: the newest snapshot, the queue. Never: asks the client anything; answers from memory what may have changed.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;

use super::arrival::Arrival;
use super::through::Through;
use super::{Peer, Presented, Unvouched, second_factor};
use crate::audit;
use crate::content::{self, FixUps, HeaderFacts, Mended, Proved, Results};
use crate::credentials::Means;
use crate::house::House;
use crate::identity::{self, CertificateFacts, CertificateSummary, Dispatch, Identity};
use crate::mail::trace::{ShownClient, TlsEnd, Trace};
use crate::mail::{Cost, Envelope, QueueId};
use crate::policy::SenderField;
use crate::queue::seen::{Certificate, Sighting};
use crate::queue::{Custodian, Deposit, EnvelopeRoom, Incoming, Link, QueueError, Spending, Spent, TraceFacts};
use crate::session::{Answer, NoRoom, NotGranted, Phase, Prospect, Question, Session, Unidentified};
use crate::snapshot::{Shown, Snapshot};
use crate::sys::WallTime;
use crate::tls::ocsp::{Known, Query};
use crate::tls::points::{self, Named};
use crate::tls::{self, Anchor, CertificateFault, Rejection, Trust, VerifiedChain};
use crate::web::responders::Round;

/// Why there is no identity: the cause for the reply, the detail for the log.
#[derive(Debug)]
pub(super) struct NoOne {
    pub(super) cause: Unidentified,
    pub(super) detail: String,
}

/// Whom `peer` stands for by `snapshot`, now: the chain is judged and looked up in the roster.
pub(super) async fn identify(peer: &Peer, house: &House, snapshot: &Snapshot) -> Result<Arc<Identity>, NoOne> {
    let no_one = |cause, detail: String| NoOne { cause, detail };
    let Some(door) = snapshot.doors.get(peer.door) else {
        return Err(no_one(Unidentified::NoCertificate, "the listener is gone".to_owned()));
    };
    let judged = match &peer.chain {
        Presented::Nothing => return Err(no_one(Unidentified::NoCertificate, String::new())),
        Presented::Unvouched(why) => return Err(no_one(unvouched(*why), why.to_string())),
        Presented::ToUs(chain) => {
            let judging = |known: &Lookup<'_>, now| tls::judge_asking(chain, &door.trust, known, now);
            judge(judging, &door.trust, house).await
        }
        Presented::ToBalancer(chain) => {
            let judging = |known: &Lookup<'_>, now| tls::judge_vouched(chain, &door.vouchers, &door.trust, known, now);
            judge(judging, &door.trust, house).await
        }
    };
    let verified = judged.map_err(|rejection| {
        // The path is proved by then; only its CRLs are not here yet.
        if let (CertificateFault::RevocationUnknown, Some(ca), Some(leaf)) =
            (&rejection.fault, &rejection.ca, peer.chain.leaf())
        {
            name_points(house, &door.trust, ca, std::slice::from_ref(leaf));
        }
        no_one(Unidentified::Certificate(rejection.fault.clone()), rejection.to_string())
    })?;
    if let Anchor::Ca(ca) = verified.anchor() {
        name_points(house, &door.trust, ca, verified.certificates());
    }
    snapshot.roster.recognize(&verified).map_err(|cause| no_one(Unidentified::Roster(cause), shown(&verified)))
}

/// What a client hears whose load balancer vouches for no certificate of its own.
fn unvouched(why: Unvouched) -> Unidentified {
    match why {
        Unvouched::NotVerified(_) => {
            let cause = "the load balancer in between has not found it good".to_owned();
            Unidentified::Certificate(CertificateFault::Untrusted { cause })
        }
        Unvouched::Version1
        | Unvouched::NothingTold
        | Unvouched::NoTls
        | Unvouched::NotShown
        | Unvouched::NotPassed => Unidentified::NoCertificate,
    }
}

/// What OCSP responders have answered.
type Lookup<'a> = dyn Fn(&Query) -> Option<Known> + 'a;

/// Judges a chain now; what the judge wants to know of OCSP responders is asked, once each.
async fn judge(
    judging: impl Fn(&Lookup<'_>, WallTime) -> Result<VerifiedChain, Rejection>,
    trust: &Trust,
    house: &House,
) -> Result<VerifiedChain, Rejection> {
    let judge = || {
        let now = house.now().wall;
        judging(&|query: &Query| house.responders.known(query, now), now)
    };
    let mut judged = judge();
    let round = Round::begin(&*house.clock);
    // Each CA that the chain leads to may have its own responder.
    for _ in trust.cas() {
        let Err(Rejection { query: Some(query), .. }) = &judged else { return judged };
        house.responders.ask(query, round, &*house.clock, &*house.entropy).await;
        judged = judge();
    }
    match judged {
        // The round was over before somebody was asked.
        Err(Rejection { query: Some(_), .. }) => {
            let now = house.now().wall;
            judging(&|query: &Query| Some(house.responders.last_word(query, now)), now)
        }
        judged => judged,
    }
}

/// Hands on where the CRLs of certificates under a CA lie, if it has them fetched.
fn name_points(house: &House, trust: &Trust, name: &Arc<str>, certificates: &[CertificateDer<'static>]) {
    if trust.cas().iter().any(|ca| ca.name() == name && ca.asks().named_crls) {
        for url in certificates.iter().flat_map(points::crl_urls) {
            // Full: the next session names it again.
            let _ = house.named_points.try_send(Named { ca: Arc::clone(name), url });
        }
    }
}

/// The most names of a certificate that a log line tells: a line that is too long is lost, and a certificate may hold hundreds.
const NAMES_SHOWN: usize = 8;

/// The certificate and the names in it, for the log.
fn shown(chain: &VerifiedChain) -> String {
    let Ok(facts) = CertificateFacts::of_chain(chain) else { return String::new() };
    let names = names_shown(&facts).join(", ");
    let CertificateSummary { subject, issuer, serial, fingerprint, .. } = facts.summary;
    format!("subject {subject}, issuer {issuer}, serial {serial}, fingerprint {fingerprint}; {names}")
}

fn names_shown(facts: &CertificateFacts) -> Vec<String> {
    let usable = facts.names().filter(|(kind, _)| *kind != "subject").map(|(kind, name)| format!("{kind} {name}"));
    let unusable = facts.unusable.iter().map(|name| format!("unusable: {} ({})", name.name, name.reason));
    let mut all = usable.chain(unusable);
    let mut names: Vec<String> = all.by_ref().take(NAMES_SHOWN).collect();
    let more = all.count();
    if more > 0 {
        names.push(format!("and {more} more"));
    }
    names
}

/// What one session's questions are answered from.
#[derive(Debug)]
pub(super) struct Answers {
    pub(super) house: Arc<House>,
    peer: Arc<Peer>,
    identity: Arc<Identity>,
    /// Of the snapshot that `identity` was made by.
    generation: u64,
    /// What the transaction at hand holds of memory for its recipients.
    recipients: Option<EnvelopeRoom>,
    /// The message on its way into the queue; dropped, it leaves nothing.
    pub(super) incoming: Option<Incoming>,
    /// The message being read, until it is over.
    pub(super) arrival: Option<Box<Arrival>>,
    message_id: Option<String>,
    /// What the transaction at hand costs so far; dropped, it is given back.
    spending: Option<Spending>,
    /// What the last recipient costs, while it may still be refused.
    last_recipient: Option<Spending>,
    /// Where it stands on its way out.
    pub(super) through: Through,
}

impl Answers {
    pub(super) fn new(house: Arc<House>, peer: Arc<Peer>, identity: Arc<Identity>, generation: u64) -> Self {
        Self {
            house,
            peer,
            identity,
            generation,
            recipients: None,
            incoming: None,
            arrival: None,
            message_id: None,
            spending: None,
            last_recipient: None,
            through: Through::NotAsked,
        }
    }

    pub(super) async fn find(&mut self, question: Question, session: &Session) -> Answer {
        match question {
            Question::Reidentify => Answer::Identified(self.reidentify().await),
            Question::Admit(envelope) => Answer::Admitted(self.admit(*envelope).await),
            Question::Commit => Answer::Committed(self.commit(session).await),
            Question::ScramGround { named, user } => {
                let (ground, nonce) = second_factor::ground(&self.house, &self.identity, named, &user);
                Answer::ScramGround(ground, nonce)
            }
            Question::Authenticate(attempt) => {
                let attempted = second_factor::attempt(&self.house, &self.peer, &self.identity, attempt).await;
                Answer::Attempted(attempted)
            }
            Question::Spend(cost) => Answer::Spent(self.spend(cost, session).await),
            Question::Offer(recipient) => {
                let prospect = self.offer(&recipient, session).await;
                if prospect != Prospect::Open {
                    // Who is refused costs nothing.
                    self.last_recipient = None;
                }
                Answer::Offered(prospect)
            }
        }
    }

    /// The Message-ID of the last message, its own or the one that it was given here.
    pub(super) fn message_id(&self) -> Option<&str> {
        self.message_id.as_deref()
    }

    /// What the identity can authenticate with, by the newest snapshot.
    pub(super) fn means(&self) -> Means {
        let factor = self.identity.grant().second_factor;
        self.house.snapshot().credentials.means(self.identity.name(), factor, self.peer.exporter.clone())
    }

    /// DESIGN: at MAIL the identity is made anew when its time has passed or the snapshot has changed.
    async fn reidentify(&mut self) -> Result<Arc<Identity>, Unidentified> {
        let snapshot = self.house.snapshot();
        let now = self.house.now().wall;
        if snapshot.generation == self.generation && now < self.identity.good_until() {
            return Ok(Arc::clone(&self.identity));
        }
        match identify(&self.peer, &self.house, &snapshot).await {
            Ok(identity) => {
                self.identity = Arc::clone(&identity);
                self.generation = snapshot.generation;
                Ok(identity)
            }
            Err(no_one) => {
                tracing::warn!(
                    client = %self.peer.client, identity = self.identity.name(), detail = no_one.detail,
                    "the identity of an open session is gone"
                );
                Err(no_one.cause)
            }
        }
    }

    /// Asks the ledger. What it grants is kept here until the message is committed, or the transaction is over.
    async fn spend(&mut self, cost: Cost, session: &Session) -> Result<(), NotGranted> {
        let identity = session.identity();
        match self.house.queue.spend(identity.name(), identity.grant().limits.rates, cost).await {
            Ok(Spent::Granted(more)) => {
                self.spending = self.take_spending();
                self.last_recipient = Some(more);
                if cost.recipients == 0 {
                    self.spending = self.take_spending();
                }
                Ok(())
            }
            Ok(Spent::Until { rate, at }) => Err(NotGranted::Until { rate, at }),
            Err(fault) => {
                tracing::error!(identity = identity.name(), %fault, "the ledger of limits can't be read; the client is told to come again");
                Err(NotGranted::Unknown)
            }
        }
    }

    /// All that was granted to the transaction at hand.
    pub(super) fn take_spending(&mut self) -> Option<Spending> {
        match (self.spending.take(), self.last_recipient.take()) {
            (Some(mut all), Some(last)) => {
                all.join(last);
                Some(all)
            }
            (all, last) => all.or(last),
        }
    }

    /// Gives back what was granted to a transaction that is over, gives up its way out, and drops what had come of its message.
    pub(super) fn follow(&mut self, session: &Session) {
        match session.phase() {
            Phase::Start
            | Phase::Ready
            | Phase::Challenged
            | Phase::Founding
            | Phase::Checking
            | Phase::Identifying
            | Phase::Closed => {
                self.give_back();
                self.arrival = None;
            }
            // Whoever reads the rest knows how far it is.
            Phase::Discarding => self.give_back(),
            Phase::Charging
            | Phase::Opened
            | Phase::Addressed
            | Phase::Counting
            | Phase::Offering
            | Phase::Admitting
            | Phase::Header
            | Phase::Body
            | Phase::Chunked
            | Phase::Committing => {}
        }
    }

    fn give_back(&mut self) {
        self.take_spending();
        self.through = Through::NotAsked;
        self.incoming = None;
    }

    /// While recipients may come, memory for one more is held, however long it is; what a transaction that is over held is given back. What the session's recipients may hold, and why no more.
    pub(super) fn hold_recipients(&mut self, session: &Session) -> (u64, Option<NoRoom>) {
        let Some(transaction) = session.transaction() else {
            self.recipients = None;
            return (0, None);
        };
        let needed = transaction.recipients().held_with_another();
        let held = self.recipients.as_ref().map_or(0, EnvelopeRoom::octets);
        if needed <= held || !matches!(session.phase(), Phase::Opened | Phase::Addressed) {
            return (held, None);
        }
        let queue = &self.house.queue;
        let room = self.recipients.get_or_insert_with(|| queue.open_envelope(session.identity().shared_name()));
        match room.enlarge(needed) {
            Ok(()) => (room.octets(), None),
            // Nobody is refused yet. Who will be is told of in the audit, with this cause; an alarm would speak of a queue that is full.
            Err(QueueError::Full(which)) => (held, Some(NoRoom::Full(which))),
            Err(fault) => (held, Some(self.no_room(fault))),
        }
    }

    async fn admit(&mut self, envelope: Envelope) -> Result<(), NoRoom> {
        self.incoming = None;
        // Who sent what must be told: what the log would not take is not taken here either.
        if self.house.log.is_strained() {
            return Err(NoRoom::Unaccountable);
        }
        let (declared, octets) = (envelope.parameters().size, envelope.octets());
        // It takes more than the transaction does, which has it still, and who waits for room holds none that was not granted.
        drop(envelope);
        let incoming = self.house.queue.admit_besides(self.identity.name(), declared, octets).await;
        self.incoming = Some(incoming.map_err(|fault| self.no_room(fault))?);
        Ok(())
    }

    /// The header section that goes on: our fields in front, and without what must not travel.
    pub(super) fn header(&mut self, session: &Session, facts: &HeaderFacts, section: Vec<u8>) -> Vec<u8> {
        let (Some(incoming), Some(transaction)) = (&self.incoming, session.transaction()) else { return section };
        self.message_id.clone_from(&facts.message_id);
        let snapshot = self.house.snapshot();
        let (id, said) = (incoming.id(), session.trace());
        let client = ShownClient { helo: said.helo, address: self.peer.client.ip().to_canonical() };
        let only = transaction.only_recipient();
        let trace = Trace {
            hostname: &snapshot.reporter.hostname,
            client: (snapshot.received.client_address == Shown::Yes).then_some(client),
            identity: (snapshot.received.identity == Shown::Yes).then(|| session.identity().name()),
            protocol: said.protocol,
            tls_version: self.peer.tls.version,
            tls_cipher: &self.peer.tls.cipher,
            tls_end: match self.peer.chain {
                Presented::ToBalancer(_) => TlsEnd::Balancer,
                Presented::Nothing | Presented::ToUs(_) | Presented::Unvouched(_) => TlsEnd::Client,
            },
            id,
            priority: transaction.parameters().priority,
            recipient: only.as_ref(),
            arrived: self.house.now().wall,
        };
        let unique = format!("{id}{:08x}", self.house.entropy.next_u64() >> 32);
        let sender = match session.sender_field(facts) {
            SenderField::AsItCame => None,
            SenderField::Becomes(address) => Some(address),
        };
        let proved = (session.header_rules().results == Results::Written)
            .then(|| Proved { identity: session.identity().name(), mechanism: session.mechanism() });
        let wanted = FixUps { trace: &trace, unique: &unique, sender: sender.as_ref(), proved };
        let Mended { header, message_id, changes } = content::fix_ups(&section, facts, &wanted);
        if !changes.is_empty() {
            audit::mended(self.peer.client, id, session.identity().name(), &changes);
        }
        if self.message_id.is_none() {
            self.message_id = message_id;
        }
        header
    }

    async fn commit(&mut self, session: &Session) -> Result<crate::mail::Custody, NoRoom> {
        let (Some(mut incoming), Some(transaction)) = (self.incoming.take(), session.transaction()) else {
            return Err(NoRoom::Broken);
        };
        // The transaction may be hours old. This is the last moment at which a certificate that was revoked meanwhile can be refused.
        self.still_allowed(session).await?;
        let envelope = transaction.envelope().ok_or(NoRoom::Broken)?;
        let arrived = self.house.now().wall;
        if let Some(custody) = self.relay(&mut incoming, &envelope, session).await? {
            return Ok(custody);
        }
        let (identity, said) = (session.identity(), session.trace());
        let certificate = identity.certificate();
        let waits = envelope.parameters().hold_until.is_some();
        let deposit = Deposit {
            envelope,
            custodian: Custodian {
                identity: identity.name().to_owned(),
                ca: identity.ca().map(str::to_owned),
                fingerprint: certificate.fingerprint.to_string(),
                chain: certificate.chain.clone(),
                key: Some(certificate.spki.0),
                links: certificate.links.iter().map(recorded).collect(),
                vouched: self.peer.chain.voucher(),
                // Of a pin that counts beyond its end, its end: whether it still does is asked when the message is released.
                ends: waits.then_some(certificate.ends.min(certificate.not_after)),
            },
            trace: TraceFacts {
                client: self.peer.client.to_string(),
                helo: said.helo.to_owned(),
                protocol: said.protocol.as_str().to_owned(),
                tls: self.peer.tls_told(),
                arrived,
                message_id: self.message_id.clone(),
            },
        };
        // Promise 3: the queue answers when the message is on stable storage, and only this answer lets the session say 250.
        let id: QueueId = incoming.id();
        if let Some(spending) = self.take_spending() {
            incoming.charge(spending);
        }
        incoming.see(sighting(identity, &self.peer, self.house.now().wall));
        if identity.grant().dispatch == Dispatch::OnApproval {
            incoming.hold(format!("{} has hold = true: its mail waits for approval", identity.grant().rule));
        }
        incoming.commit(deposit).await.map_err(|fault| {
            tracing::debug!(%id, %fault, "a message was not kept; the client is told to come again");
            self.no_room(fault)
        })
    }

    /// Whether the identity by which a message was judged is still there, and may still do what it might. Responders are waited for as long as
    /// a [`Round`] lasts, and the client waits for its answer (RFC 5321 §4.5.3.2.6: ten minutes).
    async fn still_allowed(&mut self, session: &Session) -> Result<(), NoRoom> {
        let now = self.reidentify().await.map_err(NoRoom::Lost)?;
        session.still_allows(&now, &self.means())
    }

    /// The cause for the session, which goes to the audit; want of room and a store that fails besides to whoever watches for errors, now and
    /// then.
    pub(super) fn no_room(&self, fault: QueueError) -> NoRoom {
        let now = self.house.now().mono;
        match fault {
            QueueError::Full(which) => {
                if let Some(unsaid) = self.house.want_of_room.say(now) {
                    tracing::error!(which, unsaid, "mail is refused for want of room");
                }
                NoRoom::Full(which)
            }
            QueueError::Share(which) => NoRoom::Share(which),
            fault @ (QueueError::Broken(_)
            | QueueError::NotFound(_)
            | QueueError::Fenced(_)
            | QueueError::Damaged(..)
            | QueueError::Known(_)
            | QueueError::Closed) => {
                if let Some(unsaid) = self.house.store_fails.say(now) {
                    tracing::error!(%fault, unsaid, "mail is refused because the queue can't keep it");
                }
                NoRoom::Broken
            }
        }
    }
}

/// The certificate that an identity came with.
pub(super) fn sighting(identity: &Identity, peer: &Peer, at: WallTime) -> Sighting {
    let summary = identity.certificate();
    Sighting {
        identity: identity.name().to_owned(),
        fingerprint: summary.fingerprint.0,
        certificate: Certificate {
            ca: identity.ca().map(str::to_owned),
            serial: summary.serial.clone(),
            subject: summary.subject.clone(),
            issuer: summary.issuer.clone(),
            email: summary.email.as_ref().map(ToString::to_string),
            not_before: summary.not_before,
            not_after: summary.not_after,
        },
        client: peer.client.ip().to_canonical().to_string(),
        at,
    }
}

fn recorded(link: &identity::Link) -> Link {
    Link { issuer: link.issuer.0, issuer_key: link.issuer_key.map(|key| key.0), serial: link.serial.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::recipe::Recipe;

    #[test]
    fn a_certificate_of_hundreds_of_names_makes_a_line_that_is_written() {
        let mut recipe = Recipe::client("Alice").email("alice@example.com");
        for number in 0..400 {
            recipe = recipe.uri(&format!("no scheme {number}"));
        }
        let names = names_shown(&CertificateFacts::of(&recipe.self_signed().der).unwrap());
        assert_eq!(names.len(), NAMES_SHOWN + 1);
        assert_eq!(names.last().map(String::as_str), Some("and 393 more"));
        assert_eq!(names[0], "email alice@example.com");
    }
}
