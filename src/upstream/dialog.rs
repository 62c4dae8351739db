//! Our side of the dialogue with an upstream, as a pure machine: octets and events in, one [`Step`] out.
//!
//! | stage       | waits for                                   | leads to                                              |
//! |-------------|---------------------------------------------|-------------------------------------------------------|
//! | setup       | greeting, EHLO (HELO), STARTTLS, EHLO, AUTH | idle ([`Step::Ready`]), or [`Step::Over`]             |
//! | idle        | [`Event::Begin`], [`Event::Leave`]          | transaction; leaving                                  |
//! | transaction | RSET, MAIL, RCPT…, DATA, body, final dot    | idle with [`Step::Done`]; or the same and not usable  |
//! | leaving     | the reply to QUIT                           | [`Step::Left`]                                        |
//!
//! Replies are counted: each command puts what it expects into one queue, and an octet that nobody asked for ends the dialogue. That is
//! what stops injected replies, after STARTTLS (RFC 3207 §4.2, CVE-2021-38371) and anywhere else.
//!
//! Never: reads a socket or a clock, holds the message, says a password without demanded TLS, goes on after a reply it can't explain.

use std::collections::VecDeque;

use zeroize::Zeroizing;

use super::attempt::{FaultCause, UpstreamFault};
use super::blame::{Judgement, Phase, judge};
use super::transaction::{Order, Planned, Sequel, Transaction};
use crate::sasl::ExporterValue;
use crate::smtp::extension::{Extension, Offered};
use crate::smtp::line::LineReader;
use crate::smtp::reply::{REPLY_LINE_READ_MAX, Reply, ReplyReader};

mod auth;
mod scram;
mod setup;
mod steps;

pub use scram::{Derivation, Derived};
pub(super) use steps::{AuthStep, Expect};
pub use steps::{Characters, Event, Fresh, Patience, Step, Terms, TlsTerm};

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
            offered: Offered::default(),
            lines: LineReader::new(),
            replies: ReplyReader::default(),
            expected: VecDeque::new(),
            messages: 0,
            stained: false,
            answered: false,
            heard: None,
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

    /// The last whole reply that was not asked for yet.
    pub fn take_heard(&mut self) -> Option<Reply> {
        self.heard.take()
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
            Event::HeaderSeen(characters) => self.header_seen(characters),
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
        while let Some(line) = self.lines.next_line(REPLY_LINE_READ_MAX) {
            let line = line.map_err(|fault| fault.to_string())?;
            if let Some(reply) = self.replies.line(line).map_err(|fault| fault.to_string())? {
                self.heard = Some(reply.clone());
                return Ok(Some(reply));
            }
        }
        Ok(None)
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
                Some(self.fail_at(phase, cause))
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
                | Expect::LoneDot => self.in_transaction(expect, judgement, reply),
                Expect::Quit => None,
            },
        }
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
        match Transaction::plan(order, &self.offered) {
            Planned::Settled(attempt) => Step::Done(attempt),
            Planned::LookAtHeader(transaction) => {
                self.stage = Stage::Transaction(transaction);
                Step::LookAtHeader
            }
            Planned::Go(transaction) => self.start(transaction),
        }
    }

    fn header_seen(&mut self, characters: Characters) -> Step {
        match self.take_transaction() {
            Some(transaction) if characters == Characters::Ascii => self.start(transaction),
            Some(transaction) => Step::Done(transaction.utf8_header_not_taken()),
            None => self.fail(FaultCause::Unasked),
        }
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
        transaction.queue_commands(self.stained, &self.offered);
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
        let (octets, expect) = transaction.next_commands(window);
        if expect.is_empty() { self.conclude() } else { self.say_all(Zeroizing::new(octets), &expect) }
    }

    /// Whether a reply to a command sent ahead says nothing any more: 503 to RCPT behind a refused MAIL, 503 or 554 to DATA behind refused
    /// recipients only (RFC 2920 §3.1). A 421 always says something, and so does a go-ahead that nobody can want.
    fn is_moot(&self, expect: Expect, reply: &Reply) -> bool {
        let Stage::Transaction(transaction) = &self.stage else { return false };
        let is_refusal_alone = !reply.code().is_intermediate() && reply.code().number() != 421;
        is_refusal_alone && transaction.is_past(expect)
    }

    fn go_on(&mut self) -> Option<Step> {
        if self.expected.is_empty() { Some(self.send_commands()) } else { None }
    }

    fn in_transaction(&mut self, expect: Expect, judgement: Judgement, reply: Reply) -> Option<Step> {
        let Stage::Transaction(transaction) = &mut self.stage else {
            return Some(self.fail(FaultCause::Unasked));
        };
        self.answered |= expect != Expect::Reset;
        match expect {
            Expect::Data if judgement == Judgement::Proceed => return Some(self.go_ahead(reply)),
            Expect::EndOfData if transaction.is_sending() => return Some(self.refused_early(judgement, reply)),
            Expect::EndOfData => {
                transaction.end(judgement, &reply);
                // RFC 5321 §4.1.1.4: the end of data clears all buffers, whatever the reply; RSET is for those who don't.
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
        self.expected.push_back(Expect::EndOfData);
        Step::SendBody
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
            Some(Sequel::Concluded(attempt)) => Step::Done(attempt),
            Some(Sequel::Further(next)) => self.start(next),
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
        let fault = UpstreamFault { upstream: self.terms.upstream.clone(), address: self.terms.address, phase, cause };
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
