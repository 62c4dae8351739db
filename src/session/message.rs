//! The message: from DATA, or the first BDAT, to the only 250 that promises anything (RFC 5321 §4.1.1.4, §6.1).
//!
//! Room is asked for before 354. The header is judged when it is whole, the body only counted. What is refused is read to its true end before
//! it is answered (else the client would take its own text for commands), but for bare CR, LF and NUL, which leave the end in dispute.
//!
//! A message in chunks (RFC 3030) is the same message, read in parts: each is answered, and the last one as the message is. A count leaves no end
//! in dispute, so whatever is wrong is answered behind the chunk. A chunk that is refused takes its transaction with it: what comes behind it, sent
//! ahead or not, is never taken for the rest of a message, or for a message of its own.
//!
//! A message that is refused, at whichever point, is a command that came to nothing: what it has the log written does not go on for ever.
//!
//! Never: says 250 to the last of a message before the answer to `Commit` holds a [`Custody`].

use super::secured::{Introduction, Part, ReadTo, Session, State};
use super::transaction::{Denied, Transaction};
use super::{Decision, NoRoom, Question, Ruling, Step, Subject, refused, replies};
use crate::content::{BodyEnd, BodyFacts, HeaderFacts, HeaderFault, HeaderRules, RECEIVED_MAX};
use crate::identity::Dispatch;
use crate::mail::{Custody, ReversePath};
use crate::policy::{self, SenderField};
use crate::smtp::{Chunk, Code, Framing, Reply};
use crate::sys::WallTime;

/// Octets that a message, or a chunk, may be over what is allowed and still be read to its end. Who sends more is answered at once, and left.
pub const BEYOND_MAX: u64 = 1024 * 1024 * 1024;

impl Session {
    /// DATA: is there room?
    pub(super) fn data(&mut self) -> Step {
        let State::Open(transaction) = std::mem::replace(&mut self.state, State::Closed) else {
            return self.our_fault();
        };
        self.admit(transaction, Framing::Dot)
    }

    /// BDAT (RFC 3030 §2). Its octets are on their way already: where they can't be taken, they are read over first.
    pub(super) fn bdat(&mut self, count: u64, chunk: Chunk) -> Step {
        let framing = Framing::Octets { count, chunk };
        if let Some(reply) = self.no_chunk_now() {
            return self.skip(reply, count);
        }
        // Such a chunk is in order, and brings nobody further.
        if (count, chunk) == (0, Chunk::Middle)
            && let Err(reply) = self.count_idle()
        {
            return self.close(reply);
        }
        let octets = self.octets_so_far().saturating_add(count);
        if let Err(denied) = self.judge_size(octets) {
            let (reply, mut decision) = denied.decided(Subject::Message);
            decision.octets = Some(octets);
            self.decide(decision);
            return self.skip(reply, count);
        }
        let state = std::mem::replace(&mut self.state, State::Closed);
        if let State::Open(transaction) = state {
            return self.admit(transaction, framing);
        }
        let State::Chunked(transaction, part, _) = state else { return self.our_fault() };
        self.state = match part {
            Part::Header => State::Header(transaction, framing),
            Part::Body => State::Body(transaction, framing),
        };
        Step::Receive { prompt: None, framing }
    }

    /// Why a chunk can't be taken where the dialogue stands. Who said HELO was told of no BDAT.
    fn no_chunk_now(&self) -> Option<Reply> {
        match (&self.state, &self.introduction) {
            (_, None) => Some(replies::ehlo_first()),
            (_, Some(Introduction::Helo(_))) => Some(replies::not_offered("BDAT")),
            (State::Chunked(..), _) => None,
            (State::Open(transaction), _) if transaction.recipients().is_empty() => Some(replies::no_recipients()),
            (State::Open(_), _) => None,
            _ => Some(replies::mail_first()),
        }
    }

    fn octets_so_far(&self) -> u64 {
        if let State::Chunked(_, _, octets) = &self.state { *octets } else { 0 }
    }

    /// A chunk that is refused before it began: the transaction goes with it, and where nobody would read all of it, the connection.
    fn skip(&mut self, reply: Reply, count: u64) -> Step {
        if count > self.message_size_max().saturating_add(BEYOND_MAX) {
            self.state = State::Closed;
            return Step::Dispute(reply);
        }
        self.state = State::Discarding(Box::new(reply), ReadTo::Count);
        Step::Skip(count)
    }

    fn admit(&mut self, transaction: Box<Transaction>, framing: Framing) -> Step {
        let Some(envelope) = transaction.envelope() else { return self.our_fault() };
        self.state = State::Admitting(transaction, framing);
        Step::Ask(Question::Admit(Box::new(envelope)))
    }

    /// The answer to `Admit`.
    pub(super) fn admitted(&mut self, answer: Result<(), NoRoom>, now: WallTime) -> Step {
        let State::Admitting(mut transaction, framing) = std::mem::replace(&mut self.state, State::Closed) else {
            return self.our_fault();
        };
        match answer {
            Ok(()) => {
                self.state = State::Header(transaction, framing);
                let prompt = match framing {
                    Framing::Dot => Some(replies::send_data()),
                    Framing::Octets { .. } => None,
                };
                Step::Receive { prompt, framing }
            }
            Err(cause) => {
                let is_news = transaction.is_news(&cause);
                self.state = State::Open(transaction);
                let reply = self.not_taken(&cause, now);
                if is_news {
                    self.decide(Decision::refused(Subject::Message, reply.clone(), cause.words()));
                }
                match framing {
                    // The transaction stays, and DATA may be said again; not for ever.
                    Framing::Dot => self.came_to_nothing(reply),
                    Framing::Octets { count, .. } => self.skip(reply, count),
                }
            }
        }
    }

    /// The header stands, or the message is refused for it.
    pub(super) fn header_read(&mut self, facts: &HeaderFacts) -> Step {
        let State::Header(transaction, framing) = &mut self.state else { return self.our_fault() };
        transaction.note(facts);
        let framing = *framing;
        match (facts.fault.as_ref(), framing) {
            (Some(HeaderFault::Octets(octet)), Framing::Dot) => self.dispute(octet),
            _ => match self.judge_header(facts) {
                Ok(()) => self.go_on(),
                Err(denied) => self.discard(denied, framing),
            },
        }
    }

    fn go_on(&mut self) -> Step {
        let State::Header(transaction, framing) = std::mem::replace(&mut self.state, State::Closed) else {
            return self.our_fault();
        };
        self.state = State::Body(transaction, framing);
        Step::GoOn
    }

    /// Refused, but the rest of the message, or of the chunk, is still on its way.
    fn discard(&mut self, denied: Denied, framing: Framing) -> Step {
        let (reply, decision) = denied.decided(Subject::Message);
        self.decide(decision);
        self.state = State::Discarding(Box::new(reply), framing.into());
        Step::Discard
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
            None => {
                let verdict = policy::author(&self.identity, facts, self.header_rules(), self.reverse_path());
                Denied::by(verdict, &self.identity).map(|_| ())
            }
        }
    }

    /// What is asked of every header here.
    pub fn header_rules(&self) -> &HeaderRules {
        &self.settings.header
    }

    /// What becomes of the Sender field of the message at hand, whose header passed.
    pub fn sender_field(&self, facts: &HeaderFacts) -> SenderField {
        policy::sender_field(&self.identity, facts, self.header_rules(), self.reverse_path())
    }

    fn reverse_path(&self) -> &ReversePath {
        self.transaction().map_or(&ReversePath::Null, Transaction::reverse_path)
    }

    /// The message is over: take custody, or say why not. Or a chunk is: on to the next. `kept`: what the queue says of the octets so far.
    pub(super) fn body_ended(&mut self, facts: BodyFacts, kept: Result<(), NoRoom>, now: WallTime) -> Step {
        if let (BodyEnd::Disputed(octet), true) = (facts.end, self.is_read_to_a_dot()) {
            return self.dispute(&octet);
        }
        if facts.end == BodyEnd::Endless {
            return self.endless(facts.octets);
        }
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Discarding(reply, _) => {
                self.state = State::Idle;
                self.came_to_nothing(*reply)
            }
            State::Body(transaction, framing) => {
                let part = (!framing.is_last()).then_some(Part::Body);
                self.ended(transaction, part, facts, kept, now)
            }
            // What the queue has no memory for is not judged.
            State::Header(transaction, framing) if !framing.is_last() || kept.is_err() => {
                self.ended(transaction, Some(Part::Header), facts, kept, now)
            }
            // The body can't be over before the header was judged.
            State::Header(..)
            | State::Idle
            | State::Challenged(_)
            | State::Founding(_)
            | State::Checking(_)
            | State::Identifying(_)
            | State::Charging(..)
            | State::Open(_)
            | State::Counting(..)
            | State::Offering(..)
            | State::Admitting(..)
            | State::Chunked(..)
            | State::Committing(..)
            | State::Closed => self.our_fault(),
        }
    }

    /// The end is not waited for. What was refused before is refused for that.
    fn endless(&mut self, octets: u64) -> Step {
        let reply = if let State::Discarding(reply, _) = &self.state {
            (**reply).clone()
        } else {
            let (reply, mut decision) =
                Denied::by_server(replies::too_large(self.message_size_max())).decided(Subject::Message);
            decision.octets = Some(octets);
            self.decide(decision);
            reply
        };
        self.state = State::Closed;
        Step::Dispute(reply)
    }

    /// Whether what is being read ends at a dot: then a bare CR, LF or NUL leaves the end in dispute.
    fn is_read_to_a_dot(&self) -> bool {
        use State::{Body, Discarding, Header};
        matches!(self.state, Header(_, Framing::Dot) | Body(_, Framing::Dot) | Discarding(_, ReadTo::Dot))
    }

    /// All of a message was read, or a chunk of it; `next`: the part in which the next one begins.
    fn ended(
        &mut self,
        transaction: Box<Transaction>,
        next: Option<Part>,
        facts: BodyFacts,
        kept: Result<(), NoRoom>,
        now: WallTime,
    ) -> Step {
        let judged = self.judge_body(facts);
        self.state = State::Committing(transaction, facts.octets);
        match (judged, kept) {
            (Ok(()), Ok(())) => match next {
                None => Step::Ask(Question::Commit),
                Some(part) => self.chunk_taken(part),
            },
            (Ok(()), Err(cause)) => self.committed(Err(cause), now),
            (Err(denied), _) => self.refuse_whole(denied, facts.octets),
        }
    }

    /// RFC 3030 §2: each chunk that is taken has its 250. It promises nothing.
    fn chunk_taken(&mut self, part: Part) -> Step {
        let State::Committing(transaction, octets) = std::mem::replace(&mut self.state, State::Closed) else {
            return self.our_fault();
        };
        self.state = State::Chunked(transaction, part, octets);
        self.say(replies::chunk_taken(octets))
    }

    fn judge_body(&self, facts: BodyFacts) -> Result<(), Denied> {
        match facts.end {
            BodyEnd::TooLarge | BodyEnd::Endless => self
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
                if reply.code() == Code::known(421) { self.close(reply) } else { self.came_to_nothing(reply) }
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
            NoRoom::Refused { reply: Some(reply), .. } => replies::refused_upstream(replies::Asked::Message, reply),
            NoRoom::Refused { reason, reply: None } => replies::not_for_the_upstream(reason),
        }
    }

    fn keep(&mut self, custody: &Custody, octets: u64, now: WallTime) -> Step {
        if let Some(reply) = custody.relayed() {
            return self.relayed(custody, reply, octets);
        }
        let asked = self.transaction().and_then(|transaction| transaction.parameters().hold_until);
        let until = asked.filter(|until| *until > now);
        let (reply, ruling) = match (self.identity.grant().dispatch, until) {
            (Dispatch::AtOnce, Some(until)) => (replies::waits(custody.id(), until), Ruling::Kept(custody.id())),
            (Dispatch::AtOnce, None) => (replies::kept(custody.id()), Ruling::Kept(custody.id())),
            (Dispatch::OnApproval, _) => (replies::held(custody.id()), Ruling::Held(custody.id())),
        };
        self.taken(ruling, reply, octets)
    }

    /// An upstream has it, and nothing of it is here.
    fn relayed(&mut self, custody: &Custody, reply: &Reply, octets: u64) -> Step {
        let said = replies::relayed(custody.id(), reply);
        self.taken(Ruling::Relayed(custody.id(), reply.clone()), said, octets)
    }

    fn taken(&mut self, ruling: Ruling, reply: Reply, octets: u64) -> Step {
        let mut decision = Decision::new(Subject::Message, ruling, "");
        decision.rule = self.transaction().map(|transaction| transaction.rule().clone());
        decision.octets = Some(octets);
        self.decide(decision);
        self.state = State::Idle;
        self.earned();
        self.say(reply)
    }
}
