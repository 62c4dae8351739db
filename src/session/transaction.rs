//! The mail transaction (RFC 5321 §3.3): one value, made by MAIL, dropped whole by RSET, EHLO, HELO and the end of the message. And the two
//! commands that fill it.
//!
//! Nothing of a transaction is kept anywhere else, so nothing can be forgotten when it is dropped. MAIL asks for the identity anew before it
//! judges anything: what was revoked a second ago sends no more. Never: clears a field, judges by itself (that is `policy`).

use std::mem::Discriminant;
use std::sync::Arc;

use super::secured::{Session, State};
use super::{
    AskedTls, Decision, NoRoom, NotGranted, Prospect, Question, Step, Subject, Unidentified, refused, replies,
};
use crate::content::HeaderFacts;
use crate::identity::{Identity, Priorities, Rule};
use crate::mail::{
    Address, Cost, Envelope, ForwardPath, MailParameters, Recipient, RecipientParameters, Recipients, ReversePath,
};
use crate::policy::{self, Refusal, Verdict};
use crate::route::{Delivery, Errand};
use crate::smtp::Reply;
use crate::sys::WallTime;

/// Refused recipients in one session before 421: nobody finds out by trial whom he may write to (RFC 5321 §7.3 on harvesting).
pub const RECIPIENTS_REFUSED_MAX: u32 = 100;

/// What MAIL asked for, while the identity is looked at anew.
#[derive(Clone, Debug)]
pub(super) struct Opening {
    pub(super) reverse_path: ReversePath,
    pub(super) parameters: MailParameters,
    /// The priority that was asked for; the parameters have the one that is given.
    pub(super) asked_priority: Option<i8>,
}

impl Opening {
    /// RFC 6710 §4: the priority that the grant allows takes the place of the one that was asked for.
    fn assign_priority(&mut self, identity: &Identity) {
        let asked = self.parameters.priority;
        let given = policy::limits::priority(identity, asked);
        self.asked_priority = asked;
        if asked.is_some() || given != Priorities::ORDINARY {
            self.parameters.priority = Some(given);
        }
    }
}

/// What the recipients of the transaction at hand may hold of memory, beyond what each transaction may ([`Recipients::held`]); in a simulation without end.
#[derive(Clone, Debug)]
pub(super) struct Room {
    pub(super) octets: u64,
    /// Why it is no more.
    pub(super) short: Option<NoRoom>,
}

impl Room {
    pub(super) const UNLIMITED: Self = Self { octets: u64::MAX, short: None };

    /// RFC 5321 §4.5.3.1.10: who is refused so is sent to in another transaction, and those taken before stay.
    fn for_one_more(&self, transaction: &Transaction) -> Result<(), Denied> {
        if transaction.recipients.held_with_another() <= self.octets {
            return Ok(());
        }
        let reply = replies::no_room_for_recipient();
        let cause = self.short.as_ref().map_or_else(|| reply.text(), NoRoom::words);
        Err(Denied { reply, cause, rule: None })
    }
}

/// From MAIL to the end of the message.
#[derive(Clone, Debug)]
pub struct Transaction {
    reverse_path: ReversePath,
    parameters: MailParameters,
    recipients: Recipients,
    rule: Rule,
    message_id: Option<String>,
    /// Whether the header says `TLS-Required: No`.
    waives_tls: bool,
    asked_priority: Option<i8>,
    /// Whether the log has one already who may not come now: a thousand in each of many transactions would fill a disk.
    has_told_put_off: bool,
    /// Why there was no room for the message, as the log has it already: each line has all recipients.
    told_no_room: Option<Discriminant<NoRoom>>,
}

impl Transaction {
    /// The transaction that `rule` allowed.
    pub(super) fn open(opening: Opening, rule: Rule) -> Self {
        let Opening { reverse_path, parameters, asked_priority } = opening;
        Self {
            reverse_path,
            parameters,
            recipients: Recipients::default(),
            rule,
            message_id: None,
            waives_tls: false,
            asked_priority,
            has_told_put_off: false,
            told_no_room: None,
        }
    }

    /// One more recipient, unless we can't write it down. The session counts before it calls.
    fn add(&mut self, recipient: &Recipient) -> Result<(), Denied> {
        self.recipients.push(recipient).map_err(|_| Denied::by_server(replies::our_fault()))
    }

    /// Whether the log does not have it yet that there is no room for the message for a cause of this kind.
    pub(super) fn is_news(&mut self, cause: &NoRoom) -> bool {
        let kind = Some(std::mem::discriminant(cause));
        std::mem::replace(&mut self.told_no_room, kind) != kind
    }

    /// The header was read: what the audit is to know of it.
    pub(super) fn note(&mut self, facts: &HeaderFacts) {
        self.message_id.clone_from(&facts.message_id);
        self.waives_tls = facts.waives_tls;
    }

    /// RFC 8689 §4.1: with REQUIRETLS the field counts for nothing.
    fn asked_tls(&self) -> Option<AskedTls> {
        match (self.parameters.require_tls, self.waives_tls) {
            (true, _) => Some(AskedTls::Required),
            (false, true) => Some(AskedTls::Waived),
            (false, false) => None,
        }
    }

    /// Who is told when it cannot be delivered.
    pub fn reverse_path(&self) -> &ReversePath {
        &self.reverse_path
    }

    /// The parameters of MAIL.
    pub fn parameters(&self) -> &MailParameters {
        &self.parameters
    }

    /// The recipients taken so far.
    pub fn recipients(&self) -> &Recipients {
        &self.recipients
    }

    /// The rule that allowed the sender.
    pub fn rule(&self) -> &Rule {
        &self.rule
    }

    /// The Message-ID, once the header was read.
    pub fn message_id(&self) -> Option<&str> {
        self.message_id.as_deref()
    }

    /// The envelope, once there is a recipient. It is made for whoever needs it, and takes several times what the transaction does.
    pub fn envelope(&self) -> Option<Envelope> {
        Envelope::new(self.reverse_path.clone(), self.parameters.clone(), self.recipients.unpacked()?)
    }

    /// The one to whom it goes, where there is one alone.
    pub fn only_recipient(&self) -> Option<ForwardPath> {
        if self.recipients.len() != 1 {
            return None;
        }
        self.recipients.unpacked()?.pop().map(|only| only.forward_path)
    }

    /// Puts what is known of the mail into a decision about it.
    pub(super) fn describe(&self, decision: &mut Decision) {
        decision.sender = Some(self.reverse_path.clone());
        decision.message_id.clone_from(&self.message_id);
        decision.asked_priority = self.asked_priority;
        decision.asked_tls = self.asked_tls();
        // A refused recipient is told alone: with those taken before, a client that has a thousand of them refused would have us write a
        // million addresses.
        if decision.subject != Subject::Recipient {
            let recipients = self.recipients.unpacked().unwrap_or_default();
            decision.recipients = recipients.into_iter().map(|recipient| recipient.forward_path).collect();
        }
    }
}

/// A refusal on its way: what is said, and what the audit is told.
pub(super) struct Denied {
    reply: Reply,
    cause: String,
    rule: Option<Rule>,
}

impl Denied {
    /// Refused by the protocol or by a limit of the server.
    pub(super) fn by_server(reply: Reply) -> Self {
        let cause = reply.text();
        Self { reply, cause, rule: None }
    }

    /// Refused by the upstream, which was asked while the client waits.
    fn by_upstream(reply: &Reply) -> Self {
        let cause = format!("the upstream refused the recipient or its message: {reply}");
        Self { reply: replies::refused_upstream(replies::Asked::Recipient, reply), cause, rule: None }
    }

    /// Refused by the identity's grant; or the rule that allowed it.
    pub(super) fn by(verdict: Verdict, identity: &Identity) -> Result<Rule, Self> {
        match verdict {
            Verdict::Allowed(rule) => Ok(rule),
            Verdict::Refused(refusal) => Err(Self::refused(refusal, identity)),
        }
    }

    fn refused(refusal: Refusal, identity: &Identity) -> Self {
        let reply = replies::refused(&refusal, identity.name());
        Self { reply, cause: refusal.cause, rule: Some(refusal.rule) }
    }

    /// The reply, and the decision that goes with it.
    pub(super) fn decided(self, subject: Subject) -> (Reply, Decision) {
        let mut decision = Decision::refused(subject, self.reply.clone(), self.cause);
        decision.rule = self.rule;
        (self.reply, decision)
    }
}

impl Session {
    /// MAIL (RFC 5321 §4.1.1.2): first of all, is the identity still what it was?
    pub(super) fn mail(&mut self, reverse_path: ReversePath, parameters: MailParameters) -> Step {
        self.state = State::Identifying(Box::new(Opening { reverse_path, parameters, asked_priority: None }));
        Step::Ask(Question::Reidentify)
    }

    /// The answer: judge the sender, or tell the client what has become of its certificate.
    pub(super) fn identified(&mut self, answer: Result<Arc<Identity>, Unidentified>, now: WallTime) -> Step {
        let State::Identifying(opening) = std::mem::replace(&mut self.state, State::Idle) else {
            return self.our_fault();
        };
        match answer {
            Ok(identity) => {
                self.adopt(identity);
                self.open(*opening)
            }
            Err(cause) => self.lost(*opening, &cause, now),
        }
    }

    /// Another name means that what AUTH proved was about somebody else.
    fn adopt(&mut self, identity: Arc<Identity>) {
        if identity.name() != self.identity.name() {
            self.shown = None;
        }
        self.identity = identity;
    }

    fn lost(&mut self, opening: Opening, cause: &Unidentified, now: WallTime) -> Step {
        let reply = refused::refusal(cause, self.settings.refusal, now);
        let mut decision = Decision::refused(Subject::Connection, reply.clone(), cause.to_string());
        decision.sender = Some(opening.reverse_path);
        self.decide(decision);
        // RFC 5321 §3.8: 421 closes. After 554 the client may ask again: each MAIL looks anew.
        if reply.code().is_transient() { self.close(reply) } else { self.idle(reply) }
    }

    fn open(&mut self, mut opening: Opening) -> Step {
        opening.assign_priority(&self.identity);
        match self.judge_sender(&opening) {
            Ok(rule) if self.is_counted() => {
                self.state = State::Charging(Box::new(opening), rule);
                Step::Ask(Question::Spend(Cost { messages: 1, recipients: 0 }))
            }
            Ok(rule) => self.begin(opening, rule),
            Err(denied) => self.refuse_sender(opening, denied),
        }
    }

    /// Whether what the identity sends is counted.
    fn is_counted(&self) -> bool {
        !self.identity.grant().limits.rates.is_empty()
    }

    fn begin(&mut self, mut opening: Opening, rule: Rule) -> Step {
        let reply = match (opening.asked_priority, opening.parameters.priority) {
            (Some(asked), Some(given)) if asked != given => replies::sender_taken_at(given),
            (Some(_) | None, _) => replies::sender_taken(),
        };
        opening.parameters.ret = policy::returned(&self.identity, &opening.reverse_path, opening.parameters.ret);
        self.state = State::Open(Box::new(Transaction::open(opening, rule)));
        self.say(reply)
    }

    fn refuse_sender(&mut self, opening: Opening, denied: Denied) -> Step {
        let (reply, mut decision) = denied.decided(Subject::Sender);
        decision.sender = Some(opening.reverse_path);
        self.decide(decision);
        self.state = State::Idle;
        self.idle(reply)
    }

    /// The answer to `Spend`: at MAIL the transaction begins or not, at RCPT this one recipient is taken or not, and the others stay.
    pub(super) fn spent(&mut self, answer: Result<(), NotGranted>) -> Step {
        let judged = answer.map_err(|cause| self.not_granted(cause));
        match (std::mem::replace(&mut self.state, State::Closed), judged) {
            (State::Charging(opening, rule), Ok(())) => self.begin(*opening, rule),
            (State::Charging(opening, _), Err(denied)) => self.refuse_sender(*opening, denied),
            (State::Counting(transaction, recipient), Ok(())) => {
                self.state = State::Open(transaction);
                self.offer_recipient(*recipient)
            }
            (State::Counting(transaction, recipient), Err(denied)) => {
                self.state = State::Open(transaction);
                self.refuse_for_now(recipient.forward_path, denied)
            }
            _ => self.our_fault(),
        }
    }

    fn not_granted(&self, cause: NotGranted) -> Denied {
        match cause {
            NotGranted::Until { rate, at } => match policy::limits::reached(&self.identity, rate, at) {
                Verdict::Refused(refusal) => Denied::refused(refusal, &self.identity),
                // A limit that is reached allows nothing.
                Verdict::Allowed(_) => Denied::by_server(replies::no_room()),
            },
            NotGranted::Unknown => Denied::by_server(replies::no_room()),
        }
    }

    fn judge_sender(&self, opening: &Opening) -> Result<Rule, Denied> {
        if !self.has_second_factor() {
            return Err(Denied::by_server(replies::authentication_required()));
        }
        if let ReversePath::Address(address) = &opening.reverse_path {
            travels(address, &opening.parameters)?;
            if !address.host().is_fully_qualified() {
                return Err(Denied::by_server(replies::sender_unqualified(&address.host().to_string())));
            }
        }
        let rule = Denied::by(policy::sender(&self.identity, &opening.reverse_path), &self.identity)?;
        self.judge_wait(opening)?;
        match opening.parameters.size {
            Some(octets) => self.judge_size(octets),
            None => Ok(rule),
        }
    }

    /// RFC 4865 §4.2: what is to wait is sent by whom its release finds, so none waits until its sender's certificate has ended. At the door one ends with
    /// the second of its notAfter (RFC 5280 §4.1.2.5).
    fn judge_wait(&self, opening: &Opening) -> Result<(), Denied> {
        let ends = self.identity.certificate().ends;
        match opening.parameters.hold_until {
            Some(until) if until.seconds() > ends.seconds() => Err(Denied::by_server(replies::waits_too_long(ends))),
            Some(_) | None => Ok(()),
        }
    }

    /// RFC 1870 §6.1 for what MAIL declares, §6.3 for what came.
    pub(super) fn judge_size(&self, octets: u64) -> Result<Rule, Denied> {
        if octets > self.settings.message_size_max {
            return Err(Denied::by_server(replies::too_large(self.settings.message_size_max)));
        }
        Denied::by(policy::limits::size(&self.identity, octets), &self.identity)
    }

    /// RCPT (RFC 5321 §4.1.1.3).
    pub(super) fn rcpt(&mut self, forward_path: ForwardPath, parameters: RecipientParameters) -> Step {
        let State::Open(transaction) = &self.state else { return self.our_fault() };
        match self.judge_recipient(transaction, &forward_path, &parameters) {
            Ok(_) => match self.room.for_one_more(transaction) {
                Ok(()) if self.is_counted() => self.count_recipient(Recipient { forward_path, parameters }),
                Ok(()) => self.offer_recipient(Recipient { forward_path, parameters }),
                Err(denied) => self.refuse_for_now(forward_path, denied),
            },
            Err(denied) => self.refuse_recipient(forward_path, denied),
        }
    }

    fn count_recipient(&mut self, recipient: Recipient) -> Step {
        let State::Open(transaction) = std::mem::replace(&mut self.state, State::Closed) else {
            return self.our_fault();
        };
        self.state = State::Counting(transaction, Box::new(recipient));
        Step::Ask(Question::Spend(Cost { messages: 0, recipients: 1 }))
    }

    /// All that is ours to judge is judged: does anything further on speak against it?
    fn offer_recipient(&mut self, recipient: Recipient) -> Step {
        let Recipient { forward_path, parameters } = recipient;
        let recipient = Recipient { forward_path: self.destination(&forward_path), parameters };
        let State::Open(transaction) = std::mem::replace(&mut self.state, State::Closed) else {
            return self.our_fault();
        };
        if !self.is_to_be_offered(&transaction, &recipient) {
            return self.take_recipient(transaction, recipient);
        }
        self.state = State::Offering(transaction, Box::new(recipient.clone()));
        Step::Ask(Question::Offer(Box::new(recipient)))
    }

    fn is_to_be_offered(&self, transaction: &Transaction, recipient: &Recipient) -> bool {
        let is_ascii = |path: &str| path.is_ascii();
        let errand = Errand {
            identity: self.identity.name(),
            ca: self.identity.ca(),
            sender: &transaction.reverse_path,
            recipient: &recipient.forward_path,
        };
        transaction.parameters.require_tls
            || !is_ascii(transaction.reverse_path.as_str())
            || !is_ascii(recipient.forward_path.as_str())
            || self.routes.find(&errand).is_some_and(|route| route.delivery != Delivery::Queued)
    }

    fn take_recipient(&mut self, mut transaction: Box<Transaction>, recipient: Recipient) -> Step {
        match transaction.add(&recipient) {
            Ok(()) => {
                self.state = State::Open(transaction);
                self.say(replies::recipient_taken())
            }
            Err(denied) => self.close(denied.reply),
        }
    }

    /// The answer to `Offer`.
    pub(super) fn looked_ahead(&mut self, prospect: Prospect) -> Step {
        let State::Offering(transaction, recipient) = std::mem::replace(&mut self.state, State::Closed) else {
            return self.our_fault();
        };
        let denied = match prospect {
            Prospect::Open => return self.take_recipient(transaction, *recipient),
            Prospect::Refused(reply) => Denied::by_upstream(&reply),
            Prospect::Lacking(need) => Denied::by_server(replies::lacking(need)),
        };
        self.state = State::Open(transaction);
        self.refuse_recipient(recipient.forward_path, denied)
    }

    /// Where mail to a path goes: the bare postmaster may be somebody in particular.
    fn destination(&self, path: &ForwardPath) -> ForwardPath {
        match (path, &self.settings.postmaster) {
            (ForwardPath::Postmaster, Some(postmaster)) => ForwardPath::Address(postmaster.clone()),
            (path, _) => path.clone(),
        }
    }

    /// Not now. That tells nothing about the recipient, so it does not count as a trial; but nobody asks for ever, in one transaction or in many.
    fn refuse_for_now(&mut self, forward_path: ForwardPath, denied: Denied) -> Step {
        let State::Open(transaction) = &mut self.state else { return self.our_fault() };
        let is_told = std::mem::replace(&mut transaction.has_told_put_off, true);
        if self.recipients_put_off >= self.settings.recipients_max {
            return self.close_at_recipient(forward_path, denied);
        }
        let (reply, mut decision) = denied.decided(Subject::Recipient);
        if !is_told {
            decision.recipients.push(forward_path);
            self.decide(decision);
        }
        self.recipients_put_off = self.recipients_put_off.saturating_add(1);
        self.say(reply)
    }

    fn refuse_recipient(&mut self, forward_path: ForwardPath, denied: Denied) -> Step {
        if self.recipients_refused >= RECIPIENTS_REFUSED_MAX {
            return self.close_at_recipient(forward_path, denied);
        }
        self.recipients_refused = self.recipients_refused.saturating_add(1);
        let (reply, mut decision) = denied.decided(Subject::Recipient);
        decision.recipients.push(forward_path);
        self.decide(decision);
        self.say(reply)
    }

    /// One too many who is not taken: what is told of him is what the client hears.
    fn close_at_recipient(&mut self, forward_path: ForwardPath, denied: Denied) -> Step {
        let reply = replies::too_many_refused_recipients();
        let (_, mut decision) = Denied { reply: reply.clone(), ..denied }.decided(Subject::Recipient);
        decision
            .cause
            .push_str("; it was one recipient too many of those who are not taken, and the session is closed");
        decision.recipients.push(forward_path);
        self.decide(decision);
        self.close(reply)
    }

    fn judge_recipient(
        &self,
        transaction: &Transaction,
        forward_path: &ForwardPath,
        parameters: &RecipientParameters,
    ) -> Result<Rule, Denied> {
        // RFC 6533 §3: the form that is not ASCII is for transactions that are not.
        let original = parameters.orcpt.as_ref().map_or("", |original| original.address.as_str());
        if !original.is_ascii() && !transaction.parameters.smtputf8 {
            return Err(Denied::by_server(replies::bad_parameter(
                "ORCPT",
                "needs SMTPUTF8 on MAIL, or its 7-bit form",
            )));
        }
        if let ForwardPath::Address(address) = forward_path {
            travels(address, &transaction.parameters)?;
            if !address.host().is_fully_qualified() {
                return Err(Denied::by_server(replies::recipient_unqualified(&address.host().to_string())));
            }
        }
        let rule = Denied::by(policy::recipient(&self.identity, forward_path), &self.identity)?;
        let way = policy::way(&self.identity, &self.routes, &transaction.reverse_path, &self.destination(forward_path));
        Denied::by(way, &self.identity)?;
        let count = transaction.recipients.len().saturating_add(1);
        if count > self.settings.recipients_max {
            return Err(Denied::by_server(replies::too_many_recipients()));
        }
        Denied::by(policy::limits::recipients(&self.identity, count), &self.identity)?;
        Ok(rule)
    }
}

/// RFC 6531 §3.4: a non-ASCII address needs SMTPUTF8 on MAIL.
fn travels(address: &Address, parameters: &MailParameters) -> Result<(), Denied> {
    if address.is_ascii() || parameters.smtputf8 { Ok(()) } else { Err(Denied::by_server(replies::needs_smtputf8())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Received names a recipient only where that betrays nobody to another (RFC 5321 §7.2).
    #[test]
    fn the_only_recipient_is_told_where_there_is_one_alone() {
        let opening =
            Opening { reverse_path: ReversePath::Null, parameters: MailParameters::default(), asked_priority: None };
        let mut transaction = Transaction::open(opening, Rule { name: "all".into(), place: None });
        let to = |address: &str| ForwardPath::Address(Address::parse(address).unwrap());
        assert_eq!(transaction.only_recipient(), None);
        for (address, only) in [("bob@example.net", Some(to("bob@example.net"))), ("carol@example.net", None)] {
            let recipient = Recipient { forward_path: to(address), parameters: RecipientParameters::default() };
            assert!(transaction.add(&recipient).is_ok());
            assert_eq!(transaction.only_recipient(), only, "{address}");
        }
    }
}
