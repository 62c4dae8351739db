//! The dialogue before TLS.
//!
//! A stranger may greet, ask nothing, leave, or start TLS (RFC 3207). There is no code here for MAIL: the promise "no mail without a
//! certificate" is kept by absence.
//!
//! Everything learned here is dropped when TLS starts (RFC 3207 §4.2), so this type hands nothing on: not the name from EHLO, not an octet.
//! Whoever has spoken when we are about to greet is refused; nobody is kept waiting to see who will (docs/decisions/0004).
//! Never: reads a socket, reads a clock, writes the log. Nothing can fail: what is not understood is answered.

use std::sync::Arc;

use super::{Deadline, SessionSettings, replies};
use crate::smtp::{Command, CommandFault, Extension, LineFault, Offered, Reply};
use crate::sys::WallTime;

/// What happened before TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreambleEvent<'a> {
    /// A line without its CRLF, or what is wrong with it.
    Line(Result<&'a [u8], LineFault>),
    /// Octets were there before our greeting was written, or behind STARTTLS before its 220 was written (CVE-2011-0411).
    TalkedEarly,
    /// A deadline has passed.
    TimedOut(Deadline),
    /// The daemon is shutting down.
    Draining,
}

/// What intake is to do next. Exactly one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PreambleStep {
    /// Say it and read the next line.
    Say(Reply),
    /// If octets are waiting behind the command, feed [`PreambleEvent::TalkedEarly`] and do what that says. Else say it, drop this machine
    /// and its line reader, and start the handshake.
    StartTls(Reply),
    /// Say it and close.
    Close(Reply),
}

/// Whether a handshake could succeed now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsReadiness {
    /// Yes.
    Ready,
    /// No: our certificate or key can't be used, or this listener has no CA that can.
    Unavailable,
}

/// The machine before TLS.
#[derive(Debug)]
pub struct Preamble {
    settings: Arc<SessionSettings>,
    readiness: TlsReadiness,
    commands: u32,
}

impl Preamble {
    /// A dialogue of which nothing has been said yet.
    pub fn new(settings: Arc<SessionSettings>, readiness: TlsReadiness) -> Self {
        Self { settings, readiness, commands: 0 }
    }

    /// How long the next line may be, octets with its CRLF (RFC 5321 §4.5.3.1.4).
    pub fn line_limit(&self) -> usize {
        offered().command_line_limit()
    }

    /// The first thing to say.
    pub fn greeting(&self) -> Reply {
        replies::greeting(&self.settings.hostname)
    }

    /// What to do about `event`.
    pub fn on(&mut self, event: PreambleEvent<'_>, now: WallTime) -> PreambleStep {
        let step = self.step(event, now);
        if let PreambleStep::Close(reply) = step {
            return PreambleStep::Close(replies::from_here(&self.settings.hostname, reply));
        }
        step
    }

    fn step(&mut self, event: PreambleEvent<'_>, now: WallTime) -> PreambleStep {
        match event {
            PreambleEvent::Line(line) => self.line(line, now),
            PreambleEvent::TalkedEarly => PreambleStep::Close(replies::talked_early()),
            PreambleEvent::TimedOut(deadline) => PreambleStep::Close(deadline.reply()),
            PreambleEvent::Draining => PreambleStep::Close(replies::shutting_down()),
        }
    }

    /// Nothing that is said here moves mail, so every command counts as idle: a stranger has few of them.
    fn line(&mut self, line: Result<&[u8], LineFault>, now: WallTime) -> PreambleStep {
        self.commands = self.commands.saturating_add(1);
        if self.commands > self.settings.idle_commands_max {
            return PreambleStep::Close(replies::too_many_idle_commands());
        }
        match line {
            Ok(line) => self.command(Command::parse(line, &offered(), now)),
            Err(LineFault::TooLong(head)) => match CommandFault::of_long(&head) {
                Some(fault @ CommandFault::Http) => PreambleStep::Close(replies::command_fault(&fault)),
                Some(_) | None => PreambleStep::Say(replies::line_too_long()),
            },
            Err(fault @ (LineFault::BareCr | LineFault::BareLf | LineFault::Nul)) => {
                PreambleStep::Close(replies::disputed(&fault))
            }
        }
    }

    fn command(&self, command: Result<Command, CommandFault>) -> PreambleStep {
        match command {
            Ok(Command::Ehlo(_)) => PreambleStep::Say(replies::ehlo(&self.settings.hostname, offered().ehlo_lines())),
            Ok(Command::Helo(_)) => PreambleStep::Say(replies::helo(&self.settings.hostname)),
            Ok(Command::Noop) => PreambleStep::Say(replies::noop()),
            Ok(Command::StartTls) => self.start_tls(),
            Ok(Command::Quit) => PreambleStep::Close(replies::bye()),
            Err(fault @ (CommandFault::HeloName | CommandFault::StartTls)) => {
                PreambleStep::Say(replies::command_fault(&fault))
            }
            Err(fault @ CommandFault::Http) => PreambleStep::Close(replies::command_fault(&fault)),
            // RFC 3207 §4: 530 to all but NOOP, EHLO, STARTTLS and QUIT; whether it could be read is nobody's business yet.
            Ok(_) | Err(_) => PreambleStep::Say(replies::starttls_first()),
        }
    }

    fn start_tls(&self) -> PreambleStep {
        match self.readiness {
            TlsReadiness::Ready => PreambleStep::StartTls(replies::ready_for_tls()),
            TlsReadiness::Unavailable => PreambleStep::Say(replies::tls_unavailable()),
        }
    }
}

/// What a stranger is told of: how to get in.
///
/// And SMTPUTF8, though it is of use inside TLS alone: Postfix (3.7) looks for it before it starts TLS, and bounces mail that needs it where
/// it is not offered there. With it goes 8BITMIME (RFC 6531 §3.1).
fn offered() -> Offered {
    [Extension::StartTls, Extension::EightBitMime, Extension::SmtpUtf8, Extension::EnhancedStatusCodes]
        .into_iter()
        .fold(Offered::default(), Offered::with)
}
