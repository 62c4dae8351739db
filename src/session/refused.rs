//! The dialogue with somebody who is nobody here: TLS stands, but no identity.
//!
//! One text to everything but QUIT, with the cause (RFC 3207 §4.1 lets a server refuse so after the handshake): a TLS 1.3 client would not see
//! an alert until it believed to be connected, and few programs show one to people. Where the cause passes by itself, and in the mode `defer`,
//! it is 421, said once, and the connection ends (RFC 5321 §3.8). There is no code here for MAIL.
//!
//! Never: reads a socket, reads a clock, writes the log; says more than the cause's kind. Nothing can fail.

use std::sync::Arc;

use super::{Decision, Event, SessionSettings, Step, Subject, Unidentified, replies};
use crate::smtp::line::AUTH_LINE_MAX;
use crate::smtp::{Command, LineFault, Offered, Reply};
use crate::sys::WallTime;
use crate::tls::RefusalMode;

/// What a 554 is worth: whether the client may go on asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    /// The same text to each command, until QUIT.
    UntilQuit,
    /// Said once.
    Once,
}

/// The machine without an identity.
#[derive(Debug)]
pub struct Refused {
    settings: Arc<SessionSettings>,
    cause: Unidentified,
    commands: u32,
    decision: Option<Decision>,
}

impl Refused {
    /// A dialogue with whom `cause` keeps out.
    pub fn new(cause: Unidentified, settings: Arc<SessionSettings>, now: WallTime) -> Self {
        let reply = refusal(&cause, settings.refusal, now);
        let decision = Decision::refused(Subject::Connection, reply, cause.to_string());
        Self { settings, cause, commands: 0, decision: Some(decision) }
    }

    /// How long the next line may be, octets with its CRLF: what clients say that believe to be let in.
    pub fn line_limit(&self) -> usize {
        AUTH_LINE_MAX
    }

    /// The first thing to say under implicit TLS, instead of a greeting (RFC 5321 §3.1: 554, then wait for QUIT).
    pub fn greeting(&self, now: WallTime) -> Step {
        self.signed(self.refuse(now))
    }

    /// What to do about `event`.
    pub fn on(&mut self, event: Event<'_>, now: WallTime) -> Step {
        let step = self.step(event, now);
        self.signed(step)
    }

    fn signed(&self, step: Step) -> Step {
        if let Step::Close(reply) = step {
            return Step::Close(replies::from_here(&self.settings.hostname, reply));
        }
        step
    }

    fn step(&mut self, event: Event<'_>, now: WallTime) -> Step {
        match event {
            Event::Line(line) => self.line(line, now),
            Event::TalkedEarly => Step::Close(replies::talked_early()),
            Event::TimedOut(deadline) => Step::Close(deadline.reply()),
            Event::Draining => Step::Close(replies::shutting_down()),
            Event::HeaderRead(_) | Event::BodyEnded(_) | Event::NotKept(..) | Event::Answer(_) => {
                Step::Close(replies::our_fault())
            }
        }
    }

    /// The one audit line of this connection; once.
    pub fn take_decision(&mut self) -> Option<Decision> {
        self.decision.take()
    }

    fn line(&mut self, line: Result<&[u8], LineFault>, now: WallTime) -> Step {
        self.commands = self.commands.saturating_add(1);
        match line {
            Ok(line) if Command::parse(line, &Offered::default(), now) == Ok(Command::Quit) => {
                Step::Close(replies::bye())
            }
            Err(fault @ (LineFault::BareCr | LineFault::BareLf | LineFault::Nul)) => {
                Step::Dispute(replies::disputed(&fault))
            }
            Ok(_) | Err(LineFault::TooLong(_)) if self.commands > self.settings.idle_commands_max => {
                Step::Close(replies::too_many_idle_commands())
            }
            Ok(_) | Err(LineFault::TooLong(_)) => self.refuse(now),
        }
    }

    fn refuse(&self, now: WallTime) -> Step {
        let reply = refusal(&self.cause, self.settings.refusal, now);
        match patience(&reply) {
            Patience::UntilQuit => Step::Say(reply),
            Patience::Once => Step::Close(reply),
        }
    }
}

/// What is said about `cause` by a listener of this mode. In the mode `alert` the handshake fails for what the verifier sees; for the rest (no
/// identity by the roster) it is as in `reply`.
pub(super) fn refusal(cause: &Unidentified, mode: RefusalMode, now: WallTime) -> Reply {
    match mode {
        RefusalMode::Defer => replies::unidentified_deferred(cause, now),
        RefusalMode::Reply | RefusalMode::Alert => replies::unidentified(cause, now),
    }
}

/// RFC 5321 §3.8: 421 means that the channel closes.
fn patience(reply: &Reply) -> Patience {
    if reply.code().is_transient() { Patience::Once } else { Patience::UntilQuit }
}
