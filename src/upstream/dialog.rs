//! Our side of the dialogue with an upstream, as a pure machine: octets and events in, one [`Step`] out.
//!
//! | stage       | waits for                                   | leads to                                              |
//! |-------------|---------------------------------------------|-------------------------------------------------------|
//! | setup       | greeting, EHLO (HELO), STARTTLS, EHLO, AUTH | idle ([`Step::Ready`]), or [`Step::Over`]             |
//! | idle        | [`Event::Begin`], [`Event::Leave`]          | transaction; leaving                                  |
//! | idle        | [`Event::Open`]: a client waits             | transaction; [`Step::Asked`] after each recipient     |
//! | transaction | RSET, MAIL, RCPT…, DATA or BDAT, body, end  | idle with [`Step::Done`]; or the same and not usable  |
//! | leaving     | the reply to QUIT                           | [`Step::Left`]                                        |
//!
//! Replies are counted: each command puts what it expects into one queue, and an octet that nobody asked for ends the dialogue. That is
//! what stops injected replies, after STARTTLS (RFC 3207 §4.2, CVE-2021-38371) and anywhere else.
//!
//! Never: reads a socket or a clock, holds the message, says a password without demanded TLS, goes on after a reply it can't explain.

use std::collections::VecDeque;

use zeroize::Zeroizing;

use super::attempt::{Attempt, FaultCause, UpstreamFault};
use super::blame::{Judgement, Phase, judge};
use super::settings::{Manner, Submitter};
use super::transaction::{Batch, Order, Planned, Sequel, Transaction};
use crate::mail::Recipient;
use crate::queue::Outcome;
use crate::sasl::ExporterValue;
use crate::smtp::extension::{Extension, Offered};
use crate::smtp::line::{Head, LineFault, LineReader};
use crate::smtp::reply::{REPLY_LINE_READ_MAX, Reply, ReplyReader};

mod auth;
mod scram;
mod setup;
mod steps;

pub use scram::{Derivation, Derived};
pub(super) use steps::{AuthStep, Expect};
pub use steps::{Characters, Contents, Event, Form, Framing, Fresh, Look, Patience, Step, Terms, TlsTerm};

/// Commands sent ahead of their replies at most, so that neither side's buffers fill while both write (RFC 2920 §3.1).
pub const PIPELINE_WINDOW: usize = 50;

#[derive(Debug)]
enum Stage {
    Setup,
    StartingTls,
    Idle,
    Transaction(Box<Transaction>),
    Leaving,
    Over,
}

/// The dialogue over one connection, for as many messages as it carries.
#[derive(Debug)]
pub struct Dialog {
    terms: Terms,
    stage: Stage,
    inside_tls: bool,
    /// What binds a login to this TLS connection.
    exporter: Option<ExporterValue>,
    /// Where an AUTH of more than one line is.
    exchange: auth::Exchange,
    /// What was said at AUTH, which replies may not show.
    said: auth::Said,
    offered: Offered,
    lines: LineReader,
    replies: ReplyReader,
    expected: VecDeque<Expect>,
    /// Messages begun.
    messages: u32,
    /// Whether the last transaction left something behind that RSET must clear.
    stained: bool,
    /// Whether a reply about the last message came.
    answered: bool,
    /// The last reply, until somebody asks.
    heard: Option<Reply>,
    /// What the last of several transactions came to, until somebody asks.
    brought: Option<Attempt>,
}

impl Dialog {
    /// A dialogue that begins with [`Event::Connected`].
    pub fn new(terms: Terms) -> Self {
        Self {
            inside_tls: terms.tls == TlsTerm::FromTheStart,
            terms,
            stage: Stage::Setup,
            exporter: None,
            exchange: auth::Exchange::None,
            said: auth::Said::default(),
            offered: Offered::default(),
            lines: LineReader::new(),
            replies: ReplyReader::default(),
            expected: VecDeque::new(),
            messages: 0,
            stained: false,
            answered: false,
            heard: None,
            brought: None,
        }
    }

    /// Octets that [`Event::Received`] may bring now.
    pub fn room(&self) -> usize {
        self.lines.room()
    }

    /// Where the dialogue is: which deadline runs.
    pub fn phase(&self) -> Phase {
        match &self.stage {
            Stage::StartingTls => Phase::Tls,
            Stage::Transaction(transaction) if transaction.is_sending() => Phase::Body,
            Stage::Setup | Stage::Idle | Stage::Transaction(_) | Stage::Leaving | Stage::Over => {
                self.expected.front().map_or(Phase::Reset, |expect| expect.phase())
            }
        }
    }

    /// Whether all of the message is sent, and replies to commands before it are still to come: whoever gathers its replies gives them when it has
    /// looked at the message.
    pub fn is_ahead_of_replies(&self) -> bool {
        let Stage::Transaction(transaction) = &self.stage else { return false };
        transaction.has_sent_all() && self.expected.len() > 1
    }

    /// Whether a further message may be begun.
    pub fn is_usable(&self) -> bool {
        matches!(self.stage, Stage::Idle) && self.lines.buffered().is_empty()
    }

    /// Messages begun on this connection.
    pub fn messages(&self) -> u32 {
        self.messages
    }

    /// Whether the upstream has said anything about the last message. A kept connection that ends before, or whose RSET fails, was simply
    /// old, and says nothing about the upstream.
    pub fn has_answered(&self) -> bool {
        self.answered
    }

    /// What was said of the recipient asked for last, unless it was taken; after [`Step::Asked`].
    pub fn said_of_last(&self) -> Option<Outcome> {
        let Stage::Transaction(transaction) = &self.stage else { return None };
        transaction.said_of_last()
    }

    /// What the upstream offers, by the last EHLO.
    pub fn offered(&self) -> &Offered {
        &self.offered
    }

    /// Gives up the transaction whose recipients were asked for. In the middle of a reply, or of the message, the connection goes with it.
    pub fn forget(&mut self) {
        let is_at_rest = self.expected.is_empty();
        self.stage = match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Idle => Stage::Idle,
            // RSET goes ahead of the next one.
            Stage::Transaction(transaction) if is_at_rest && transaction.is_growing() => Stage::Idle,
            Stage::Setup | Stage::StartingTls | Stage::Transaction(_) | Stage::Leaving | Stage::Over => Stage::Over,
        };
    }

    /// The last whole reply that was not asked for yet.
    pub fn take_heard(&mut self) -> Option<Reply> {
        self.heard.take()
    }

    /// What a transaction came to behind which another was begun for the same message, where that was not asked for yet.
    pub fn take_brought(&mut self) -> Option<Attempt> {
        self.brought.take()
    }

    /// Who may have the message, once its end is about to be sent and as long as nothing is said of it; see [`Step::EndBody`].
    pub fn perhaps(&self) -> Option<Attempt> {
        let Stage::Transaction(transaction) = &self.stage else { return None };
        transaction.has_sent_all().then(|| transaction.perhaps())
    }

    /// The next step.
    pub fn on(&mut self, event: Event<'_>) -> Step {
        match event {
            Event::Connected(exporter) => {
                self.exporter = exporter;
                self.read_for(Expect::Greeting)
            }
            Event::Received(octets) => {
                self.lines.push(octets);
                self.read_replies()
            }
            Event::TlsReady(exporter) => self.begin_anew_inside_tls(exporter),
            Event::Derived(derived) => self.derived(derived),
            Event::Begin(order) => self.begin(order),
            Event::Open(order) => self.open(order),
            Event::Recipient(place, recipient) => self.ask(place, recipient),
            Event::Send(octets) => self.send(octets),
            Event::Seen(contents) => self.seen(contents),
            Event::BodyAtEnd => self.end_body(),
            Event::Failed(cause) => self.fail(cause),
            Event::Leave => self.leave(),
        }
    }

    fn read_for(&mut self, expect: Expect) -> Step {
        self.expected.push_back(expect);
        Step::Read(Patience::Anew)
    }

    fn say(&mut self, line: &str, expect: Expect) -> Step {
        self.say_all(Zeroizing::new(format!("{line}\r\n").into_bytes()), &[expect])
    }

    /// Sends commands, unless something stands in the buffer that no command asked for.
    fn say_all(&mut self, octets: Zeroizing<Vec<u8>>, expect: &[Expect]) -> Step {
        if self.expected.is_empty() && !self.lines.buffered().is_empty() {
            return self.unasked(expect);
        }
        self.expected.extend(expect);
        Step::Send(octets)
    }

    /// The only thing that a server may say unasked is 421 (RFC 5321 §3.8).
    fn unasked(&mut self, expect: &[Expect]) -> Step {
        self.expected.extend(expect);
        match self.next_reply() {
            Ok(Some(reply)) if reply.code().number() == 421 => self.fail(FaultCause::Leaves(reply)),
            _ => self.fail(FaultCause::Unasked),
        }
    }

    fn read_replies(&mut self) -> Step {
        let mut patience = Patience::GoesOn;
        loop {
            match self.next_reply() {
                Err(why) => return self.fail(FaultCause::Unintelligible(why)),
                Ok(None) => return Step::Read(patience),
                Ok(Some(reply)) => match self.expected.pop_front() {
                    None => return self.fail(FaultCause::Unasked),
                    Some(expect) => {
                        patience = Patience::Anew;
                        if let Some(step) = self.replied(expect, reply) {
                            return step;
                        }
                    }
                },
            }
        }
    }

    fn next_reply(&mut self) -> Result<Option<Reply>, String> {
        loop {
            // Before its end, which may never come, and before a fault behind the limit, which may come in the same piece or in another.
            if self.lines.is_over(REPLY_LINE_READ_MAX) {
                return Err(LineFault::TooLong(Head::default()).to_string());
            }
            let Some(line) = self.lines.next_line(REPLY_LINE_READ_MAX) else { return Ok(None) };
            let line = line.map_err(|fault| fault.to_string())?;
            if let Some(reply) = self.replies.line(line).map_err(|fault| fault.to_string())? {
                let shown = self.without_secrets(reply.clone());
                let is_offer = self.expected.front() == Some(&Expect::Ehlo) && reply.code().is_positive();
                let shown = if is_offer { shown } else { shown.shortened() };
                self.heard = Some(shown.clone());
                // What asks further at AUTH is read by the mechanism, as it is; anybody else's 3yz may end in a record, once for each recipient.
                let is_challenge =
                    reply.code().number() == 334 && matches!(self.expected.front(), Some(Expect::Auth(_)));
                return Ok(Some(if is_challenge { reply } else { shown }));
            }
        }
    }

    /// What a reply leads to; `None`: to reading the next one.
    fn replied(&mut self, expect: Expect, reply: Reply) -> Option<Step> {
        if expect == Expect::Quit {
            self.stage = Stage::Over;
            return Some(Step::Left);
        }
        if self.is_moot(expect, &reply) {
            return self.go_on();
        }
        match (expect, reply.code().number()) {
            // An upstream that offered CHUNKING and does not know BDAT has read the message as commands: nothing it says now is about it.
            (Expect::Chunk, 500 | 502 | 504) => {
                return Some(self.fail_at(Phase::EndOfData, FaultCause::NoChunking(reply)));
            }
            // RFC 3030 §2: out of order, to one that is in order. It knows the command, and counts otherwise than we do.
            (Expect::Chunk, 503) => return Some(self.fail_at(Phase::EndOfData, FaultCause::UnexpectedReply(reply))),
            _ => {}
        }
        let judgement = judge(expect.phase(), &reply, &self.terms.ours);
        // A reply that comes before the final dot went is judged like the one to it, and told as what it is.
        let phase = if self.phase() == Phase::Body { Phase::Body } else { expect.phase() };
        if let Some(step) = self.fallen_back(expect, &reply, judgement) {
            return Some(step);
        }
        match judgement {
            Judgement::Over => Some(self.fail_at(phase, FaultCause::Leaves(reply))),
            Judgement::Broken => {
                let cause = self.refused_at_auth(reply);
                self.refused_us(expect, phase, cause)
            }
            Judgement::Busy => Some(self.fail_at(phase, FaultCause::Busy(reply))),
            Judgement::Unexpected => Some(self.fail_at(phase, FaultCause::UnexpectedReply(reply))),
            Judgement::Proceed | Judgement::Later | Judgement::Never | Judgement::TooMany => match expect {
                Expect::Greeting => Some(self.hello()),
                Expect::Ehlo => Some(self.greeted(Offered::from_ehlo(&reply))),
                Expect::Helo => Some(self.greeted(Offered::default())),
                Expect::StartTls => Some(self.start_tls()),
                Expect::Auth(step) => Some(self.auth(step, reply)),
                Expect::Reset
                | Expect::Mail
                | Expect::Recipient(_)
                | Expect::Data
                | Expect::EndOfData
                | Expect::Chunk
                | Expect::LoneDot => self.in_transaction(expect, judgement, reply),
                Expect::Quit => None,
            },
        }
    }

    /// It refuses us: that is the end, unless a message is on its way whose outcome is still to come.
    fn refused_us(&mut self, expect: Expect, phase: Phase, cause: FaultCause) -> Option<Step> {
        let fault = self.fault_at(phase, cause.clone());
        if let Stage::Transaction(transaction) = &mut self.stage
            && transaction.must_be_heard_out(expect)
        {
            transaction.refuses_us(expect, fault);
            return self.go_on();
        }
        Some(self.fail_at(phase, cause))
    }

    fn fault_at(&self, phase: Phase, cause: FaultCause) -> UpstreamFault {
        UpstreamFault { upstream: self.terms.upstream.clone(), address: self.terms.address, phase, cause }
    }

    /// The two refusals that the terms let us live with: EHLO unknown, STARTTLS refused where it was only hoped for.
    fn fallen_back(&mut self, expect: Expect, reply: &Reply, judgement: Judgement) -> Option<Step> {
        // RFC 5321 §4.1.4: HELO when EHLO is not recognized. It can't lead to STARTTLS or AUTH.
        let knows_no_ehlo = expect == Expect::Ehlo && matches!(reply.code().number(), 500 | 502 | 504);
        if knows_no_ehlo && self.can_do_without_extensions() {
            let helo = format!("HELO {}", self.terms.helo);
            return Some(self.say(&helo, Expect::Helo));
        }
        let has_no_tls = expect == Expect::StartTls && matches!(judgement, Judgement::Busy | Judgement::Broken);
        if has_no_tls && self.terms.tls == TlsTerm::IfOffered {
            self.terms.tls = TlsTerm::Never;
            return Some(self.authenticate_or_rest());
        }
        None
    }

    // Messages.

    fn begin(&mut self, order: Order) -> Step {
        self.messages = self.messages.saturating_add(1);
        self.answered = false;
        let planned = Transaction::plan(order, &self.offered, self.terms.manner);
        self.planned(planned)
    }

    /// A transaction in which recipients are asked for one by one. MAIL goes with the first.
    fn open(&mut self, order: Order) -> Step {
        if !matches!(self.stage, Stage::Idle) {
            return self.fail(FaultCause::Unasked);
        }
        self.messages = self.messages.saturating_add(1);
        self.answered = false;
        self.stage = Stage::Transaction(Box::new(Transaction::growing(order, &self.offered)));
        Step::Asked
    }

    fn ask(&mut self, place: usize, recipient: Recipient) -> Step {
        match self.take_transaction() {
            Some(mut transaction) => {
                transaction.add(place, recipient);
                self.start(transaction)
            }
            None => self.fail(FaultCause::Unasked),
        }
    }

    fn send(&mut self, octets: u64) -> Step {
        match self.take_transaction() {
            Some(transaction) => {
                let planned = transaction.grown(octets, &self.offered, self.terms.manner);
                self.planned(planned)
            }
            None => self.fail(FaultCause::Unasked),
        }
    }

    fn planned(&mut self, planned: Planned) -> Step {
        match planned {
            Planned::Settled(attempt) => Step::Done(Attempt { is_unsaid: true, ..*attempt }),
            Planned::Look(transaction, look) => {
                self.stage = Stage::Transaction(transaction);
                Step::Look(look)
            }
            Planned::Go(transaction) => self.start(transaction),
        }
    }

    fn seen(&mut self, contents: Contents) -> Step {
        let Some(transaction) = self.take_transaction() else {
            return self.fail(FaultCause::Unasked);
        };
        let planned = transaction.seen(contents, &self.offered, self.terms.manner);
        self.planned(planned)
    }

    /// The transaction, leaving the dialogue idle.
    fn take_transaction(&mut self) -> Option<Box<Transaction>> {
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Transaction(transaction) => Some(transaction),
            other @ (Stage::Setup | Stage::StartingTls | Stage::Idle | Stage::Leaving | Stage::Over) => {
                self.stage = other;
                None
            }
        }
    }

    fn start(&mut self, mut transaction: Box<Transaction>) -> Step {
        // RFC 4954 §5: AUTH= is for a server to which we have authenticated.
        let submitter =
            if self.terms.credentials.is_some() { self.terms.manner.submitter } else { Submitter::default() };
        let manner = Manner { submitter, ..self.terms.manner };
        transaction.queue_commands(self.stained, &self.offered, manner);
        self.stained = true;
        self.stage = Stage::Transaction(transaction);
        self.send_commands()
    }

    /// The next commands: as many as the window takes when PIPELINING is offered, else one (RFC 2920 §3.1).
    fn send_commands(&mut self) -> Step {
        let window = if self.offered.has(Extension::Pipelining) { PIPELINE_WINDOW } else { 1 };
        let Stage::Transaction(transaction) = &mut self.stage else {
            return self.fail(FaultCause::Unasked);
        };
        let batch = transaction.next_commands(window);
        if batch.expect.is_empty() && transaction.is_growing() {
            Step::Asked
        } else if batch.expect.is_empty() {
            self.conclude()
        } else if batch.has_chunk {
            self.send_chunk(batch)
        } else {
            self.say_all(Zeroizing::new(batch.octets), &batch.expect)
        }
    }

    /// BDAT, with whatever goes ahead of it, and the message behind.
    fn send_chunk(&mut self, batch: Batch) -> Step {
        if self.expected.is_empty() && !self.lines.buffered().is_empty() {
            return self.unasked(&batch.expect);
        }
        self.expected.extend(&batch.expect);
        let Stage::Transaction(transaction) = &mut self.stage else {
            return self.fail(FaultCause::Unasked);
        };
        transaction.send_body();
        let (form, octets) = transaction.form();
        Step::SendBody { ahead: Zeroizing::new(batch.octets), form, framing: Framing::Count(octets) }
    }

    /// Whether a reply to a command sent ahead says nothing any more: 503 to RCPT behind a refused MAIL, 503 or 554 to DATA behind refused
    /// recipients only (RFC 2920 §3.1). A 421 always says something, and so does a go-ahead that nobody can want.
    fn is_moot(&self, expect: Expect, reply: &Reply) -> bool {
        let Stage::Transaction(transaction) = &self.stage else { return false };
        let is_refusal_alone = !reply.code().is_intermediate() && reply.code().number() != 421;
        is_refusal_alone && transaction.is_past(expect)
    }

    fn go_on(&mut self) -> Option<Step> {
        if !self.expected.is_empty() {
            return None;
        }
        match self.take_transaction() {
            // A chunk that nobody receives any more is still under way: all is known, and the rest of it can't be called back.
            Some(transaction) if transaction.is_sending() => {
                self.stage = Stage::Over;
                Some(Step::Done(transaction.conclude()))
            }
            Some(transaction) => {
                self.stage = Stage::Transaction(transaction);
                Some(self.send_commands())
            }
            None => Some(self.send_commands()),
        }
    }

    fn in_transaction(&mut self, expect: Expect, judgement: Judgement, reply: Reply) -> Option<Step> {
        let Stage::Transaction(transaction) = &mut self.stage else {
            return Some(self.fail(FaultCause::Unasked));
        };
        self.answered |= expect != Expect::Reset;
        match expect {
            Expect::Data if judgement == Judgement::Proceed => return Some(self.go_ahead(reply)),
            Expect::EndOfData | Expect::Chunk if transaction.is_sending() => {
                return Some(self.refused_early(judgement, reply));
            }
            Expect::EndOfData | Expect::Chunk => {
                transaction.end(judgement, &reply);
                // RFC 5321 §4.1.1.4: the end of data clears all buffers, whatever the reply; RSET is for those who don't, and after a refused
                // chunk it must be said (RFC 3030 §2).
                self.stained = judgement != Judgement::Proceed;
            }
            Expect::Mail => transaction.mail(judgement, &reply),
            Expect::Recipient(place) => transaction.recipient(place, judgement, reply),
            Expect::Data => transaction.data_refused(judgement, &reply),
            Expect::LoneDot | Expect::Reset => {}
            Expect::Greeting | Expect::Ehlo | Expect::Helo | Expect::StartTls | Expect::Auth(_) | Expect::Quit => {}
        }
        self.go_on()
    }

    /// 354. Sent ahead, DATA may be granted although nobody receives: then a lone dot ends it (RFC 2920 §3.1).
    fn go_ahead(&mut self, reply: Reply) -> Step {
        let Stage::Transaction(transaction) = &mut self.stage else {
            return self.fail(FaultCause::Unasked);
        };
        if transaction.sender_is_refused() {
            return self.fail_at(Phase::Data, FaultCause::UnexpectedReply(reply));
        }
        if !transaction.has_accepted() {
            return self.say(".", Expect::LoneDot);
        }
        if !self.lines.buffered().is_empty() {
            return self.unasked(&[]);
        }
        transaction.send_body();
        let (form, _) = transaction.form();
        self.expected.push_back(Expect::EndOfData);
        Step::SendBody { ahead: Zeroizing::default(), form, framing: Framing::Dots }
    }

    /// A reply while the message is still on its way: it can only be a refusal, and the rest can't be called back.
    fn refused_early(&mut self, judgement: Judgement, reply: Reply) -> Step {
        if !matches!(judgement, Judgement::Later | Judgement::Never) {
            return self.fail_at(Phase::Body, FaultCause::UnexpectedReply(reply));
        }
        let Some(mut transaction) = self.take_transaction() else {
            return self.fail(FaultCause::Unasked);
        };
        self.stage = Stage::Over;
        transaction.end(judgement, &reply);
        Step::Done(transaction.conclude())
    }

    fn end_body(&mut self) -> Step {
        if let Stage::Transaction(transaction) = &mut self.stage
            && transaction.is_sending()
        {
            transaction.send_dot();
            return Step::EndBody;
        }
        self.fail(FaultCause::Unasked)
    }

    /// All commands are answered. Recipients that were too many for one transaction get a further one, as long as each delivers some.
    fn conclude(&mut self) -> Step {
        match self.take_transaction().map(|transaction| transaction.sequel()) {
            Some(Sequel::Concluded(attempt)) => {
                if attempt.fault.is_some() {
                    self.stage = Stage::Over;
                }
                Step::Done(*attempt)
            }
            Some(Sequel::Further(next, brought)) => {
                self.brought = Some(*brought);
                self.start(next)
            }
            None => self.fail(FaultCause::Unasked),
        }
    }

    fn leave(&mut self) -> Step {
        if !matches!(self.stage, Stage::Idle) {
            self.stage = Stage::Over;
            return Step::Left;
        }
        self.stage = Stage::Leaving;
        self.say("QUIT", Expect::Quit)
    }

    // Endings.

    fn fail(&mut self, cause: FaultCause) -> Step {
        self.fail_at(self.phase(), cause)
    }

    fn fail_at(&mut self, phase: Phase, cause: FaultCause) -> Step {
        let fault = self.fault_at(phase, cause);
        self.expected.clear();
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Transaction(transaction) => Step::Done(transaction.broken_off(fault)),
            Stage::Leaving => Step::Left,
            Stage::Setup | Stage::StartingTls | Stage::Idle | Stage::Over => Step::Over(fault),
        }
    }
}

#[cfg(test)]
mod tests;
