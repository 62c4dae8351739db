//! The dialogue inside TLS, with an identity.
//!
//! A [`Session`] can't be made without an [`Identity`], and MAIL asks for it anew each time ([`Question::Reidentify`]): promise 1 and promise 5.
//! [`TABLE`](super::table::TABLE) is the whole dialogue (RFC 5321 §4.1.4: the order of commands): for each phase and trigger, where it may lead.
//! The machine obeys it: what the table calls out of order is refused before any code of that command runs.
//!
//! [`Question::Reidentify`]: super::Question::Reidentify
//!
//! The commands of the envelope are in `transaction`, those of the message in `message`, AUTH in `auth`. Never: keeps a word from before TLS,
//! says 250 to a message without a [`Custody`](crate::mail::Custody). Nothing can fail; what intake must not do closes with 421.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::auth::{Challenge, Checking, Founding, Shown};
use super::table::{Phase, Trigger, Turn, turn};
use super::transaction::{Opening, Room, Transaction};
use super::{Answer, Deadline, Decision, Event, NoRoom, Onward, SessionSettings, Step, Subject, replies};
use crate::credentials::Means;
use crate::identity::{Identity, Rule};
use crate::mail::Recipient;
use crate::mail::trace::{Protocol, Utf8Header};
use crate::route::Routes;
use crate::smtp::extension::{HoldLimits, Limits};
use crate::smtp::line::AUTH_LINE_MAX;
use crate::smtp::{Chunk, Command, CommandFault, Extension, Framing, HeloName, LineFault, Offered, Reply};
use crate::sys::WallTime;

/// The shortest time to deliver a message in that is promised with `R`, seconds: one attempt and one more (RFC 2852 §4).
const DELIVER_BY_LEAST: u32 = 60;

/// For what does not depend on the time.
const NO_TIME: WallTime = WallTime::from_millis(0);

/// The state, and what belongs to it: nothing of a transaction outlives the variant that holds it.
#[derive(Debug)]
pub(super) enum State {
    Idle,
    Challenged(Box<Challenge>),
    /// SCRAM has begun; its ground is being looked up.
    Founding(Box<Founding>),
    /// What was shown in AUTH is being looked at.
    Checking(Checking),
    Identifying(Box<Opening>),
    /// With the rule that allowed the sender.
    Charging(Box<Opening>, Rule),
    Open(Box<Transaction>),
    /// With the recipient that is asked for.
    Counting(Box<Transaction>, Box<Recipient>),
    /// The same.
    Offering(Box<Transaction>, Box<Recipient>),
    /// With how the message, or its first chunk, is framed.
    Admitting(Box<Transaction>, Framing),
    /// With how what is being read is framed.
    Header(Box<Transaction>, Framing),
    /// The same.
    Body(Box<Transaction>, Framing),
    /// Between two chunks, with the octets that were counted.
    Chunked(Box<Transaction>, Part, u64),
    /// The reply that is due at the true end.
    Discarding(Box<Reply>, ReadTo),
    /// With the octets that were counted.
    Committing(Box<Transaction>, u64),
    Closed,
}

/// Where what is read over ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadTo {
    /// At a line with a dot alone.
    Dot,
    /// Behind the octets that were announced.
    Count,
}

impl From<Framing> for ReadTo {
    fn from(framing: Framing) -> Self {
        match framing {
            Framing::Dot => Self::Dot,
            Framing::Octets { .. } => Self::Count,
        }
    }
}

/// In which part of a message its next chunk begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The header is not whole yet.
    Header,
    /// The header stands.
    Body,
}

/// How the client introduced itself.
#[derive(Clone, Debug)]
pub(super) enum Introduction {
    /// EHLO: with the extensions.
    Ehlo(HeloName),
    /// HELO: without.
    Helo(HeloName),
}

/// Whether the daemon is shutting down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stay {
    AsLongAsYouLike,
    UntilTheTransactionEnds,
}

/// What intake needs for the Received field (RFC 5321 §4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionTrace<'a> {
    /// What the client called itself.
    pub helo: &'a str,
    /// The `with` clause for the transaction at hand.
    pub protocol: Protocol,
}

/// An event with its command read.
enum Input<'a> {
    Command(Command),
    Fault(CommandFault),
    TooLong,
    Disputed(LineFault),
    Response(Result<&'a [u8], LineFault>),
    Event(Event<'a>),
}

/// The machine with an identity.
#[derive(Debug)]
pub struct Session {
    pub(super) identity: Arc<Identity>,
    pub(super) settings: Arc<SessionSettings>,
    pub(super) routes: Arc<Routes>,
    pub(super) introduction: Option<Introduction>,
    pub(super) means: Means,
    pub(super) shown: Option<Shown>,
    pub(super) authentication_failures: u32,
    pub(super) recipients_refused: u32,
    /// Recipients who could not come now, since a message was kept.
    pub(super) recipients_put_off: usize,
    pub(super) room: Room,
    pub(super) state: State,
    idle_commands: u32,
    stay: Stay,
    decision: Option<Decision>,
}

impl Session {
    /// A dialogue, inside TLS, with whom `identity` says. Nothing of what was said before TLS is known to it (RFC 3207 §4.2).
    pub fn new(identity: Arc<Identity>, settings: Arc<SessionSettings>, routes: Arc<Routes>) -> Self {
        Self {
            identity,
            settings,
            routes,
            introduction: None,
            means: Means::default(),
            shown: None,
            authentication_failures: 0,
            recipients_refused: 0,
            recipients_put_off: 0,
            room: Room::UNLIMITED,
            state: State::Idle,
            idle_commands: 0,
            stay: Stay::AsLongAsYouLike,
            decision: None,
        }
    }

    /// The first thing to say under implicit TLS (RFC 8314 §3.3). After STARTTLS nothing is said first.
    pub fn greeting(&self) -> Reply {
        replies::greeting(&self.settings.hostname)
    }

    /// What to do about `event`, `now` by the wall clock.
    pub fn on(&mut self, event: Event<'_>, now: WallTime) -> Step {
        self.decision = None;
        let input = self.read(event, now);
        let trigger = input.trigger();
        match turn(self.phase(), trigger) {
            Turn::To(_) => self.act(input, now),
            Turn::OutOfOrder => self.out_of_order(trigger),
            Turn::Never => self.our_fault(),
        }
    }

    /// The ways out are these from now on; to be said before the answer to `Reidentify`.
    pub fn redirect(&mut self, routes: Arc<Routes>) {
        self.routes = routes;
    }

    /// From now on the recipients of the transaction at hand may hold so much memory ([`Recipients::held`](crate::mail::Recipients::held)), and no more for
    /// this reason.
    pub fn confine(&mut self, octets: u64, short: Option<NoRoom>) {
        self.room = Room { octets, short };
    }

    /// What the audit must know of the last event; once.
    pub fn take_decision(&mut self) -> Option<Decision> {
        self.decision.take()
    }

    /// Who this is, as of the last MAIL.
    pub fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// The transaction at hand; its envelope is complete from `Ask(Admit)` on.
    pub fn transaction(&self) -> Option<&Transaction> {
        match &self.state {
            State::Open(transaction)
            | State::Counting(transaction, _)
            | State::Offering(transaction, _)
            | State::Admitting(transaction, _)
            | State::Header(transaction, _)
            | State::Body(transaction, _)
            | State::Chunked(transaction, ..)
            | State::Committing(transaction, _) => Some(transaction),
            State::Idle
            | State::Challenged(_)
            | State::Founding(_)
            | State::Checking(_)
            | State::Identifying(_)
            | State::Charging(..)
            | State::Discarding(..)
            | State::Closed => None,
        }
    }

    /// What the Received field says of this session and of the transaction at hand.
    pub fn trace(&self) -> SessionTrace<'_> {
        let helo = match &self.introduction {
            Some(Introduction::Ehlo(name) | Introduction::Helo(name)) => name.as_str(),
            None => "",
        };
        SessionTrace { helo, protocol: Protocol::of(self.authentication(), self.utf8()) }
    }

    /// The mechanism of AUTH by which the client has authenticated, where it has.
    pub fn mechanism(&self) -> Option<&'static str> {
        self.shown.map(|shown| shown.mechanism.name())
    }

    /// Whether the transaction at hand said SMTPUTF8; what the reader of its header must know.
    pub fn utf8(&self) -> Utf8Header {
        match self.transaction() {
            Some(transaction) if transaction.parameters().smtputf8 => Utf8Header::Declared,
            Some(_) | None => Utf8Header::NotDeclared,
        }
    }

    /// The largest message this identity may send, octets: the smaller of the server's limit and the grant's.
    pub fn message_size_max(&self) -> u64 {
        let granted = self.identity.grant().limits.message_size.unwrap_or(u64::MAX);
        self.settings.message_size_max.min(granted)
    }

    /// Where the dialogue stands.
    pub fn phase(&self) -> Phase {
        match &self.state {
            State::Idle if self.introduction.is_none() => Phase::Start,
            State::Idle => Phase::Ready,
            State::Challenged(_) => Phase::Challenged,
            State::Founding(_) => Phase::Founding,
            State::Checking(_) => Phase::Checking,
            State::Identifying(_) => Phase::Identifying,
            State::Charging(..) => Phase::Charging,
            State::Counting(..) => Phase::Counting,
            State::Offering(..) => Phase::Offering,
            State::Open(transaction) if transaction.recipients().is_empty() => Phase::Opened,
            State::Open(_) => Phase::Addressed,
            State::Admitting(..) => Phase::Admitting,
            State::Header(..) => Phase::Header,
            State::Body(..) => Phase::Body,
            State::Chunked(..) => Phase::Chunked,
            State::Discarding(..) => Phase::Discarding,
            State::Committing(..) => Phase::Committing,
            State::Closed => Phase::Closed,
        }
    }

    /// How long the next line may be, octets with its CRLF (RFC 5321 §4.5.3.1.4, RFC 4954 §4).
    pub fn line_limit(&self) -> usize {
        if self.phase() == Phase::Challenged { AUTH_LINE_MAX } else { self.offered(NO_TIME).command_line_limit() }
    }

    /// What commands are read by, `now`: the mechanisms of AUTH are not among it.
    fn extensions(&self, now: WallTime, hold_max: Duration) -> Offered {
        let onward = self.settings.promises.onward;
        let offered = Offered::default()
            .with(Extension::Pipelining)
            .with_size(self.message_size_max())
            .with(Extension::EightBitMime)
            .with(Extension::Chunking)
            .with(Extension::SmtpUtf8)
            .with(Extension::Dsn)
            .with(Extension::EnhancedStatusCodes)
            .with(Extension::MtPriority)
            .with(Extension::Help)
            .with_deliver_by(Some(DELIVER_BY_LEAST))
            .with_limits(Limits { rcpt_max: u32::try_from(self.recipients_max()).ok(), ..Limits::default() });
        let offered = match self.means.mechanisms() {
            [] => offered,
            [..] => offered.with(Extension::Auth),
        };
        let offered = match onward {
            Onward::Proved => offered.with(Extension::RequireTls),
            Onward::Unproved => offered,
        };
        if hold_max.is_zero() {
            return offered;
        }
        let interval_max = u32::try_from(hold_max.as_secs()).unwrap_or(u32::MAX);
        offered.with_future_release(HoldLimits { interval_max, latest: now.after(hold_max) })
    }

    /// The most recipients of one message: the smaller of the server's limit and the grant's. Told by LIMITS (RFC 9422 §4).
    fn recipients_max(&self) -> usize {
        let granted = self.identity.grant().limits.recipients_per_message;
        let granted = granted.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
        self.settings.recipients_max.min(granted)
    }

    /// What commands are read by: who said HELO was told of nothing.
    fn offered(&self, now: WallTime) -> Offered {
        match self.introduction {
            Some(Introduction::Helo(_)) => Offered::default(),
            Some(Introduction::Ehlo(_)) | None => self.extensions(now, self.settings.promises.hold_max),
        }
    }

    // --- From event to handler.

    fn read<'a>(&self, event: Event<'a>, now: WallTime) -> Input<'a> {
        match event {
            Event::Line(line) if self.phase() == Phase::Challenged => match line {
                Err(fault @ (LineFault::BareCr | LineFault::BareLf | LineFault::Nul)) => Input::Disputed(fault),
                Ok(_) | Err(LineFault::TooLong(_)) => Input::Response(line),
            },
            Event::Line(Ok(line)) => match Command::parse(line, &self.offered(now), now) {
                Ok(command) => Input::Command(command),
                Err(fault) => Input::Fault(fault),
            },
            Event::Line(Err(LineFault::TooLong(head))) => {
                CommandFault::of_long(&head).map_or(Input::TooLong, Input::Fault)
            }
            Event::Line(Err(fault)) => Input::Disputed(fault),
            Event::TalkedEarly
            | Event::HeaderRead(_)
            | Event::BodyEnded(_)
            | Event::NotKept(..)
            | Event::Answer(_)
            | Event::TimedOut(_)
            | Event::Draining => Input::Event(event),
        }
    }

    fn act(&mut self, input: Input<'_>, now: WallTime) -> Step {
        match input {
            Input::Command(command) => self.command(command, now),
            Input::Fault(fault) => self.fault(&fault),
            Input::TooLong => self.idle(replies::line_too_long()),
            Input::Disputed(fault) => self.dispute(&fault),
            Input::Response(line) => self.auth_response(line),
            Input::Event(event) => self.event(event, now),
        }
    }

    fn command(&mut self, command: Command, now: WallTime) -> Step {
        match command {
            Command::Ehlo(name) => self.introduce(Introduction::Ehlo(name), now),
            Command::Helo(name) => self.introduce(Introduction::Helo(name), now),
            Command::Auth { mechanism, initial } => self.auth(&mechanism, initial.as_ref()),
            Command::Mail { reverse_path, parameters } => self.mail(reverse_path, parameters),
            Command::Rcpt { forward_path, parameters } => self.rcpt(forward_path, parameters),
            Command::Data => self.data(),
            Command::Bdat { count, last } => self.bdat(count, if last { Chunk::Last } else { Chunk::Middle }),
            Command::Rset => self.rset(),
            Command::Noop => self.idle(replies::noop()),
            Command::Vrfy(_) => self.idle(replies::verify()),
            Command::Expn => self.idle(replies::not_offered("EXPN")),
            Command::Help => self.idle(replies::help()),
            Command::Quit => self.close(replies::bye()),
            Command::StartTls => self.our_fault(),
        }
    }

    fn event(&mut self, event: Event<'_>, now: WallTime) -> Step {
        match event {
            Event::HeaderRead(facts) => self.header_read(facts),
            Event::BodyEnded(facts) => self.body_ended(facts, Ok(()), now),
            Event::NotKept(facts, cause) => self.body_ended(facts, Err(cause), now),
            Event::Answer(Answer::Identified(answer)) => self.identified(answer, now),
            Event::Answer(Answer::Admitted(answer)) => self.admitted(answer, now),
            Event::Answer(Answer::Committed(answer)) => self.committed(answer, now),
            Event::TalkedEarly => self.interrupt(replies::talked_early(), "octets where the client had to wait"),
            Event::TimedOut(deadline) => self.timed_out(deadline),
            Event::Draining => self.drain(),
            Event::Answer(Answer::Spent(answer)) => self.spent(answer),
            Event::Answer(Answer::ScramGround(ground, nonce)) => self.scram_ground(ground, &nonce),
            Event::Answer(Answer::Attempted(outcome)) => self.attempted(outcome),
            Event::Answer(Answer::Offered(prospect)) => self.looked_ahead(prospect),
            Event::Line(_) => self.our_fault(),
        }
    }

    // --- Commands without a mail.

    fn introduce(&mut self, introduction: Introduction, now: WallTime) -> Step {
        let reply = match &introduction {
            Introduction::Ehlo(_) => {
                let mechanisms = self.means.mechanisms().iter().map(|mechanism| mechanism.name());
                // No longer than the certificate is good: what is to wait is sent by whom its release finds.
                let hold_max = self.settings.promises.hold_max.min(self.identity.certificate().ends.since(now));
                let offered = self.extensions(now, hold_max).with_auth(mechanisms);
                replies::ehlo(&self.settings.hostname, offered.ehlo_lines())
            }
            Introduction::Helo(_) => replies::helo(&self.settings.hostname),
        };
        self.introduction = Some(introduction);
        // RFC 5321 §4.1.4: EHLO in mid-session does what RSET does.
        self.state = State::Idle;
        self.idle(reply)
    }

    fn rset(&mut self) -> Step {
        self.state = State::Idle;
        self.idle(replies::reset())
    }

    fn fault(&mut self, fault: &CommandFault) -> Step {
        match fault {
            // RFC 3030 §2: where the chunk ends is not known, nor where the next command begins.
            CommandFault::Bdat => self.interrupt(replies::command_fault(fault), "a chunk without a size"),
            // What stands behind the request's first line was written by whoever made a browser send it.
            CommandFault::Http => self.interrupt(replies::command_fault(fault), "a request of HTTP"),
            CommandFault::Unknown
            | CommandFault::Argument(_)
            | CommandFault::StartTls
            | CommandFault::HeloName
            | CommandFault::Sender(_)
            | CommandFault::Recipient(_)
            | CommandFault::UnknownParameter(_)
            | CommandFault::Parameter { .. }
            | CommandFault::Unkept { .. } => self.idle(replies::command_fault(fault)),
        }
    }

    fn out_of_order(&mut self, trigger: Trigger) -> Step {
        let reply = match (trigger, self.phase()) {
            (Trigger::StartTls, _) => replies::tls_already(),
            (Trigger::Auth, Phase::Opened | Phase::Addressed | Phase::Chunked) => {
                replies::authentication_in_transaction()
            }
            (Trigger::Mail, Phase::Opened | Phase::Addressed | Phase::Chunked) => replies::mail_already(),
            (Trigger::Data, Phase::Opened) => replies::no_recipients(),
            (Trigger::Data | Trigger::Rcpt, Phase::Chunked) => replies::chunks_under_way(),
            (_, Phase::Start) => replies::ehlo_first(),
            _ => replies::mail_first(),
        };
        self.idle(reply)
    }

    // --- The ways in which a step ends.

    /// A command that came to nothing, and its reply.
    pub(super) fn idle(&mut self, reply: Reply) -> Step {
        match self.count_idle() {
            Ok(()) => self.say(reply),
            Err(reply) => self.close(reply),
        }
    }

    /// A message that was refused, and its reply: behind one too many the end. Were that said in its place, what is refused for good would be sent again.
    pub(super) fn came_to_nothing(&mut self, reply: Reply) -> Step {
        match self.count_idle() {
            Ok(()) => self.say(reply),
            Err(end) => {
                self.state = State::Closed;
                Step::Leave { reply, farewell: replies::from_here(&self.settings.hostname, end) }
            }
        }
    }

    /// Counts a command that comes to nothing; after too many, what is said in the place of its reply.
    pub(super) fn count_idle(&mut self) -> Result<(), Reply> {
        self.idle_commands = self.idle_commands.saturating_add(1);
        if self.idle_commands > self.settings.idle_commands_max {
            return Err(replies::too_many_idle_commands());
        }
        Ok(())
    }

    /// A reply; the last one when the daemon is shutting down and no transaction is open (any more).
    pub(super) fn say(&mut self, reply: Reply) -> Step {
        match (self.stay, &self.state) {
            (Stay::UntilTheTransactionEnds, State::Idle) => {
                self.state = State::Closed;
                let farewell = replies::from_here(&self.settings.hostname, replies::shutting_down());
                Step::Leave { reply, farewell }
            }
            _ => Step::Say(reply),
        }
    }

    /// A message was kept: the client is at work.
    pub(super) fn earned(&mut self) {
        self.idle_commands = 0;
        self.recipients_put_off = 0;
    }

    pub(super) fn close(&mut self, reply: Reply) -> Step {
        self.state = State::Closed;
        Step::Close(replies::from_here(&self.settings.hostname, reply))
    }

    pub(super) fn our_fault(&mut self) -> Step {
        self.close(replies::our_fault())
    }

    /// Bare CR, bare LF or NUL: whatever comes behind may be a command to one reader and text to another (CVE-2023-51764).
    pub(super) fn dispute(&mut self, what: &dyn fmt::Display) -> Step {
        let reply = replies::disputed(what);
        self.decide(Decision::refused(Subject::Message, reply.clone(), format!("{what} on the wire")));
        self.state = State::Closed;
        Step::Dispute(reply)
    }

    /// Something cuts the dialogue off; if a mail is on its way, that is a refusal.
    fn interrupt(&mut self, reply: Reply, cause: &str) -> Step {
        if self.transaction().is_some() {
            self.decide(Decision::refused(Subject::Message, reply.clone(), cause));
        }
        self.close(reply)
    }

    fn timed_out(&mut self, deadline: Deadline) -> Step {
        // Custody that is being taken can't be called back: the answer decides.
        if self.phase() == Phase::Committing {
            return Step::Proceed;
        }
        self.interrupt(deadline.reply(), "a deadline has passed")
    }

    fn drain(&mut self) -> Step {
        if matches!(self.state, State::Idle | State::Challenged(_)) {
            return self.close(replies::shutting_down());
        }
        self.stay = Stay::UntilTheTransactionEnds;
        Step::Proceed
    }

    // --- What the audit is told.

    /// Keeps the decision for the audit, with what is known of the identity and of the transaction at hand.
    pub(super) fn decide(&mut self, mut decision: Decision) {
        decision.identity = Some(Arc::clone(&self.identity));
        decision.mechanism = self.mechanism();
        if let Some(transaction) = self.transaction() {
            transaction.describe(&mut decision);
        }
        self.decision = Some(decision);
    }
}

impl Input<'_> {
    fn trigger(&self) -> Trigger {
        match self {
            Self::Command(command) => Trigger::of(command),
            Self::Fault(CommandFault::Bdat | CommandFault::Http) | Self::Disputed(_) => Trigger::Disputed,
            Self::Fault(_) | Self::TooLong => Trigger::Faulty,
            Self::Response(_) => Trigger::Response,
            Self::Event(event) => Trigger::of_event(event),
        }
    }
}
