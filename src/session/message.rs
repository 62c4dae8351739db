//! The message: from DATA to the only 250 that promises anything (RFC 5321 §4.1.1.4, §6.1).
//!
//! Room is asked for before 354. The header is judged when it is whole, the body only counted. What is refused is read to its true end before
//! it is answered (else the client would take its own text for commands), but for bare CR, LF and NUL, which leave the end in dispute.
//!
//! Never: says 250 before the answer to `Commit` holds a [`Custody`].

use super::secured::{Session, State};
use super::transaction::{Denied, Transaction};
use super::{Decision, Framing, NoRoom, Question, Ruling, Step, Subject, refused, replies};
use crate::content::{BodyEnd, BodyFacts, HeaderFacts, HeaderFault, RECEIVED_MAX};
use crate::identity::Dispatch;
use crate::mail::Custody;
use crate::policy;
use crate::smtp::{Code, Reply};
use crate::sys::WallTime;

impl Session {
    /// DATA: is there room?
    pub(super) fn data(&mut self) -> Step {
        let State::Open(transaction) = std::mem::replace(&mut self.state, State::Closed) else {
            return self.our_fault();
        };
        let Some(envelope) = transaction.envelope() else { return self.our_fault() };
        self.state = State::Admitting(transaction);
        Step::Ask(Question::Admit(Box::new(envelope)))
    }

    /// BDAT is not offered (CHUNKING, RFC 3030). Its octets are read all the same: as commands they would be somebody else's words.
    pub(super) fn bdat(&mut self, framing: Framing) -> Step {
        self.state = State::Discarding(Box::new(replies::not_offered("BDAT")));
        Step::Discard(framing)
    }

    /// The answer to `Admit`.
    pub(super) fn admitted(&mut self, answer: Result<(), NoRoom>, now: WallTime) -> Step {
        let State::Admitting(transaction) = std::mem::replace(&mut self.state, State::Closed) else {
            return self.our_fault();
        };
        match answer {
            Ok(()) => {
                self.state = State::Header(transaction);
                Step::Receive { prompt: Some(replies::send_data()), framing: Framing::Dot }
            }
            Err(cause) => {
                self.state = State::Open(transaction);
                let reply = self.not_taken(&cause, now);
                self.decide(Decision::refused(Subject::Message, reply.clone(), cause.words()));
                self.say(reply)
            }
        }
    }

    /// The header stands, or the message is refused for it.
    pub(super) fn header_read(&mut self, facts: &HeaderFacts) -> Step {
        if let State::Header(transaction) = &mut self.state {
            transaction.name(facts.message_id.clone());
        }
        if let Some(HeaderFault::Octets(octet)) = facts.fault {
            return self.dispute(&octet);
        }
        match self.judge_header(facts) {
            Ok(()) => self.go_on(),
            Err(denied) => self.discard(denied),
        }
    }

    fn go_on(&mut self) -> Step {
        let State::Header(transaction) = std::mem::replace(&mut self.state, State::Closed) else {
            return self.our_fault();
        };
        self.state = State::Body(transaction);
        Step::Receive { prompt: None, framing: Framing::Dot }
    }

    /// Refused, but the rest of the message is still on its way.
    fn discard(&mut self, denied: Denied) -> Step {
        let (reply, decision) = denied.decided(Subject::Message);
        self.decide(decision);
        self.state = State::Discarding(Box::new(reply));
        Step::Discard(Framing::Dot)
    }

    fn judge_header(&self, facts: &HeaderFacts) -> Result<(), Denied> {
        // A loop comes first: whatever else is wrong with the message, its sender must not be told again and again.
        if facts.received > RECEIVED_MAX {
            return Err(Denied::by_server(replies::loops(RECEIVED_MAX)));
        }
        match &facts.fault {
            Some(HeaderFault::Octets(octet)) => Err(Denied::by_server(replies::disputed(octet))),
            Some(HeaderFault::TooLarge { limit }) => Err(Denied::by_server(replies::header_too_large(*limit))),
            Some(HeaderFault::LineTooLong { limit }) => Err(Denied::by_server(replies::data_line_too_long(*limit))),
            Some(HeaderFault::Field(reason)) => Err(Denied::by_server(replies::header_unclear(reason))),
            None => Denied::by(policy::author(&self.identity, facts), &self.identity).map(|_| ()),
        }
    }

    /// The message is over: take custody, or say why not. `kept`: what the queue says of the octets so far.
    pub(super) fn body_ended(&mut self, facts: BodyFacts, kept: Result<(), NoRoom>, now: WallTime) -> Step {
        if let BodyEnd::Disputed(octet) = facts.end {
            return self.dispute(&octet);
        }
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Discarding(reply) => {
                self.state = State::Idle;
                self.say(*reply)
            }
            State::Body(transaction) => self.whole(transaction, facts, kept, now),
            // The body can't be over before the header was judged.
            State::Header(_)
            | State::Idle
            | State::Challenged(_)
            | State::Founding(_)
            | State::Checking(_)
            | State::Identifying(_)
            | State::Charging(..)
            | State::Open(_)
            | State::Counting(..)
            | State::Admitting(_)
            | State::Committing(..)
            | State::Closed => self.our_fault(),
        }
    }

    fn whole(
        &mut self,
        transaction: Box<Transaction>,
        facts: BodyFacts,
        kept: Result<(), NoRoom>,
        now: WallTime,
    ) -> Step {
        let judged = self.judge_body(facts);
        self.state = State::Committing(transaction, facts.octets);
        match (judged, kept) {
            (Ok(()), Ok(())) => Step::Ask(Question::Commit),
            (Ok(()), Err(cause)) => self.committed(Err(cause), now),
            (Err(denied), _) => self.refuse_whole(denied, facts.octets),
        }
    }

    fn judge_body(&self, facts: BodyFacts) -> Result<(), Denied> {
        match facts.end {
            BodyEnd::TooLarge => self
                .judge_size(facts.octets)
                .and_then(|_| Err(Denied::by_server(replies::too_large(self.message_size_max())))),
            BodyEnd::LineTooLong { limit } => Err(Denied::by_server(replies::data_line_too_long(limit))),
            BodyEnd::Disputed(octet) => Err(Denied::by_server(replies::disputed(&octet))),
            BodyEnd::Complete => self.judge_size(facts.octets).map(|_| ()),
        }
    }

    fn refuse_whole(&mut self, denied: Denied, octets: u64) -> Step {
        let (reply, mut decision) = denied.decided(Subject::Message);
        decision.octets = Some(octets);
        self.decide(decision);
        self.state = State::Idle;
        self.idle(reply)
    }

    /// The answer to `Commit`. RFC 5321 §6.1: with 250 the responsibility is ours, so there is no 250 here without a proof in the hand.
    pub(super) fn committed(&mut self, answer: Result<Custody, NoRoom>, now: WallTime) -> Step {
        let State::Committing(_, octets) = &self.state else { return self.our_fault() };
        let octets = *octets;
        match answer {
            Ok(custody) => self.keep(&custody, octets, now),
            Err(cause) => {
                let reply = self.not_taken(&cause, now);
                if cause == NoRoom::Unauthenticated {
                    // AUTH may be said again.
                    self.shown = None;
                }
                let mut decision = Decision::refused(Subject::Message, reply.clone(), cause.words());
                decision.octets = Some(octets);
                self.decide(decision);
                self.state = State::Idle;
                // RFC 5321 §3.8: 421 closes.
                if reply.code() == Code::known(421) { self.close(reply) } else { self.say(reply) }
            }
        }
    }

    fn not_taken(&self, cause: &NoRoom, now: WallTime) -> Reply {
        match cause {
            NoRoom::Full(_) | NoRoom::Unaccountable | NoRoom::Broken => replies::no_room(),
            NoRoom::Share(_) => replies::share_used_up(self.identity.name()),
            NoRoom::Lost(cause) => refused::refusal(cause, self.settings.refusal, now),
            NoRoom::Regranted => replies::regranted(self.identity.name()),
            NoRoom::Unauthenticated => replies::authentication_required(),
        }
    }

    fn keep(&mut self, custody: &Custody, octets: u64, now: WallTime) -> Step {
        let asked = self.transaction().and_then(|transaction| transaction.parameters().hold_until);
        let until = asked.filter(|until| *until > now);
        let (reply, ruling) = match (self.identity.grant().dispatch, until) {
            (Dispatch::AtOnce, Some(until)) => (replies::waits(custody.id(), until), Ruling::Kept(custody.id())),
            (Dispatch::AtOnce, None) => (replies::kept(custody.id()), Ruling::Kept(custody.id())),
            (Dispatch::OnApproval, _) => (replies::held(custody.id()), Ruling::Held(custody.id())),
        };
        let mut decision = Decision::new(Subject::Message, ruling, "");
        decision.rule = self.transaction().map(|transaction| transaction.rule().clone());
        decision.octets = Some(octets);
        self.decide(decision);
        self.state = State::Idle;
        self.earned();
        self.say(reply)
    }
}
