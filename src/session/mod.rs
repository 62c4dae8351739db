//! The dialogue as pure machines: [`Preamble`] before TLS, [`Session`] with an identity, [`Refused`] without one.
//!
//! `on(event, now) -> Step`: intake reads, asks the machine, and does what it says. The machine never waits: what it needs from the
//! world it asks for with [`Step::Ask`], and intake feeds the [`Answer`] back.
//!
//! What intake owes the machine, and all it has to know of SMTP:
//!
//! 1. `greeting()` is said first under implicit TLS; after STARTTLS the client speaks first (RFC 3207 §4.2).
//! 2. Lines are read only after [`Step::Say`] and [`Step::Challenge`]; the message only after [`Step::Receive`], [`Step::GoOn`], [`Step::Discard`]
//!    and [`Step::Skip`]. Between the chunks of a message ([`Phase::Chunked`]) what came of it stays, and its pace counts on.
//! 3. Where the client has to wait for our words (before a greeting, behind STARTTLS, before the prompt of a [`Step::Receive`] or a
//!    [`Step::Challenge`]), octets that are there before the words are written are [`Event::TalkedEarly`].
//! 4. After each step, `take_decision()` goes to the audit. After a step that closes, nothing is fed any more.
//!
//! Never: reads a socket, a clock or a file, writes the log. Nothing here can fail: what is wrong becomes a reply.

pub mod auth;
pub mod decision;
pub mod message;
pub mod preamble;
pub mod refused;
pub mod replies;
pub mod secured;
pub mod table;
pub mod transaction;

use std::sync::Arc;
use std::time::Duration;

pub use decision::{AskedTls, Decision, Ruling, Subject};
pub use preamble::{Preamble, PreambleEvent, PreambleStep, TlsReadiness};
pub use refused::Refused;
pub use secured::{Session, SessionTrace};
pub use table::{Phase, TABLE, Trigger, Turn, turn};
pub use transaction::Transaction;

use crate::content::{BodyFacts, HeaderFacts, HeaderRules};
use crate::credentials::scram::ScramFault;
use crate::credentials::{Ground, Named, Proof, Wrong};
use crate::identity::{Identity, NoIdentity};
use crate::mail::{Address, Cost, Custody, Envelope, Rate, Recipient};
use crate::smtp::{Framing, LineFault, Reply};
use crate::sys::WallTime;
use crate::tls::{CertificateFault, RefusalMode};

/// What happened.
#[derive(Debug)]
pub enum Event<'a> {
    /// A line without its CRLF, or what is wrong with it.
    Line(Result<&'a [u8], LineFault>),
    /// Octets were there before the words they had to wait for were written.
    TalkedEarly,
    /// The header section has been read whole (or found faulty: the facts say so).
    HeaderRead(&'a HeaderFacts),
    /// The message, or this BDAT chunk, has been read to its end (or its end is in dispute: the facts say so).
    BodyEnded(BodyFacts),
    /// The same, and the queue could not keep what came of it.
    NotKept(BodyFacts, NoRoom),
    /// The answer to the question asked last.
    Answer(Answer),
    /// A deadline has passed.
    TimedOut(Deadline),
    /// The daemon is shutting down.
    Draining,
}

/// Which deadline has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// No command came for too long.
    Idle,
    /// The transaction took too long or came too slowly.
    Transaction,
    /// The session is older than `session_max`.
    Session,
}

impl Deadline {
    /// What is said when it has passed.
    fn reply(self) -> Reply {
        replies::timed_out(match self {
            Self::Idle => "Idle too long",
            Self::Transaction => "The message came too slowly",
            Self::Session => "The session is too old, connect again",
        })
    }
}

/// What intake is to do next. Exactly one thing.
#[derive(Debug)]
pub enum Step {
    /// Say it and read the next line.
    Say(Reply),
    /// AUTH: say the 334 and read a line of up to 12,288 octets (RFC 4954 §4).
    Challenge(Reply),
    /// Say the prompt, where there is one (354), and read the message, or its next chunk: header whole, then `HeaderRead`; body streamed, then
    /// `BodyEnded`. A chunk that is over before the header is whole ends with `BodyEnded`, too; the header goes on in the next.
    Receive {
        /// 354 for DATA; none for BDAT, whose octets come at once.
        prompt: Option<Reply>,
        /// How the octets are framed.
        framing: Framing,
    },
    /// After `HeaderRead`: the header stands. Keep it, and go on with the body.
    GoOn,
    /// After `HeaderRead`: read what is being read to its true end and keep nothing; then `BodyEnded`.
    Discard,
    /// A chunk of so many octets is refused: read over them, then `BodyEnded`.
    Skip(u64),
    /// Find the answer and feed it back.
    Ask(Question),
    /// Say it and close.
    Close(Reply),
    /// Say both and close: the reply to what was asked, and why we leave.
    Leave {
        /// What was asked for.
        reply: Reply,
        /// 421.
        farewell: Reply,
    },
    /// Nothing to say now: go on with what the step before said. Only ever the answer to [`Event::Draining`], whose consequence follows by itself
    /// when the transaction ends.
    Proceed,
    /// The end of the data is in dispute: say it now, half-close, discard what still comes within limits, close.
    Dispute(Reply),
}

/// What the machine needs from the world.
#[derive(Debug)]
pub enum Question {
    /// Is the identity still good, by the newest snapshot and by now? Asked at each MAIL.
    Reidentify,
    /// What does this SCRAM exchange stand on? Asked after the client's first message.
    ScramGround {
        /// Whether the user named is the identity.
        named: Named,
        /// The user named, prepared.
        user: String,
    },
    /// Is it right; or how should one know, when it is wrong so often? Asked at the end of AUTH with a second factor.
    Authenticate(Attempt),
    /// May the identity spend so much now? Asked of those with limits per hour or day: at MAIL for a message, at RCPT for a recipient. What was
    /// granted is spent when the message is kept, and given back when the transaction ends otherwise.
    Spend(Cost),
    /// Is this recipient known not to get anywhere? Asked of what has a way on which an upstream is asked while the client waits (cut-through), and of what
    /// needs an extension on its way.
    Offer(Box<Recipient>),
    /// Is there room for a message of this envelope? Asked before 354; takes the budgets.
    Admit(Box<Envelope>),
    /// Take custody of the message just read.
    Commit,
}

/// What a client has shown in AUTH.
#[derive(Debug)]
pub enum Attempt {
    /// PLAIN and LOGIN: to be held against the identity's own credential, whoever was named.
    Password {
        /// Whether the user named is the identity.
        named: Named,
        /// The user named, prepared; for the log.
        user: String,
        /// The password, as given.
        password: Secret,
    },
    /// SCRAM: judged already, to be counted.
    Scram {
        /// Whether the user named is the identity.
        named: Named,
        /// The user named, prepared; for the log.
        user: String,
        /// What came of it.
        outcome: Result<Proof, ScramFault>,
    },
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempted {
    /// Right.
    Right(Proof),
    /// Wrong; what is wrong is for the log.
    Wrong(Wrong),
    /// It could not be looked at in time: 454.
    Busy,
    /// It was wrong too often of late: 421.
    TooMany,
}

/// What is known of a recipient's further way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prospect {
    /// Nothing speaks against it.
    Open,
    /// The upstream refuses it, or its message, and has said so.
    Refused(Reply),
    /// Each upstream of its route is known to lack what it needs.
    Lacking(Need),
}

/// What a message may need of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// SMTPUTF8, for an address (RFC 6531 §3.5).
    Utf8Address,
    /// REQUIRETLS (RFC 8689 §4.2.1).
    RequireTls,
}

/// Octets that are wiped when dropped and never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(zeroize::Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the octets over.
    pub fn new(octets: Vec<u8>) -> Self {
        Self(zeroize::Zeroizing::new(octets))
    }

    /// The octets, for whoever must check them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}

/// Why custody could not be taken: the client is told to come again (REPLIES: 452 4.3.1), unless it is the client who has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// A budget was not granted in time, or the disk is full: which, with figures for the log.
    Full(String),
    /// The identity has its share, of what the text says; others still get in.
    Share(String),
    /// What is done could not be told: the log does not keep up.
    Unaccountable,
    /// The store failed.
    Broken,
    /// The identity is gone since MAIL: revoked, expired, no longer known.
    Lost(Unidentified),
    /// The identity may not do the same as at MAIL, by which the message was judged.
    Regranted,
    /// What was shown besides the certificate counts no more.
    Unauthenticated,
    /// The upstream does not take it (cut-through), and has said so; or we know that it would not, and the reason begins with the status.
    Refused {
        /// Why, for people.
        reason: String,
        /// What it said.
        reply: Option<Reply>,
    },
}

impl NoRoom {
    /// The private cause.
    fn words(&self) -> String {
        match self {
            Self::Full(which) => format!("no room: {which}"),
            Self::Share(which) => format!("no room for this identity: {which}"),
            Self::Unaccountable => "the log does not keep up, and what can't be told is not taken".to_owned(),
            Self::Broken => "the store failed".to_owned(),
            Self::Lost(cause) => format!("the identity is gone since MAIL: {cause}"),
            Self::Regranted => "the identity's grant has changed since MAIL".to_owned(),
            Self::Unauthenticated => "what AUTH proved counts no more since MAIL".to_owned(),
            Self::Refused { reason, reply: Some(reply) } => format!("{reason}: {reply}"),
            Self::Refused { reason, reply: None } => reason.clone(),
        }
    }
}

/// Why nothing more may be spent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotGranted {
    /// A limit is reached.
    Until {
        /// Which.
        rate: Rate,
        /// When it has room again.
        at: WallTime,
    },
    /// The ledger can't be read: unknown means no.
    Unknown,
}

/// Why there is no identity, or none that is let in: by the judge of chains, by the roster, or by the doors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unidentified {
    /// The client showed no certificate.
    NoCertificate,
    /// The chain is no good.
    Certificate(CertificateFault),
    /// The chain is good, but the roster knows nobody by it.
    Roster(NoIdentity),
    /// There is one, and it has as many connections as one may have.
    Crowded,
}

/// For the log; what the client hears is in `replies`.
impl std::fmt::Display for Unidentified {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoCertificate => f.write_str("no client certificate was shown"),
            Self::Certificate(fault @ CertificateFault::Untrusted { .. }) => write!(f, "not trusted: {fault}"),
            Self::Certificate(fault) => fault.fmt(f),
            Self::Roster(none) => none.fmt(f),
            Self::Crowded => {
                f.write_str("the identity has as many connections as one may have (limits.connections_per_identity)")
            }
        }
    }
}

/// The world's answer.
#[derive(Debug)]
pub enum Answer {
    /// To `Reidentify`.
    Identified(Result<Arc<Identity>, Unidentified>),
    /// To `ScramGround`: what it stands on, and our part of the nonce, fresh.
    ScramGround(Ground, String),
    /// To `Authenticate`.
    Attempted(Attempted),
    /// To `Spend`.
    Spent(Result<(), NotGranted>),
    /// To `Offer`.
    Offered(Prospect),
    /// To `Admit`.
    Admitted(Result<(), NoRoom>),
    /// To `Commit`.
    Committed(Result<Custody, NoRoom>),
}

/// What a session goes by, from the configuration.
#[derive(Clone, Debug)]
pub struct SessionSettings {
    /// Our name in greeting, EHLO and trace.
    pub hostname: String,
    /// The largest message, octets; advertised by SIZE.
    pub message_size_max: u64,
    /// The most recipients in one transaction; at least 100 (RFC 5321 §4.5.3.1.8).
    pub recipients_max: usize,
    /// Where mail to the bare `<postmaster>` goes; without one it goes on as `<postmaster>`, to the upstream's (RFC 5321 §4.5.1).
    pub postmaster: Option<Address>,
    /// How this listener tells a client that it has no identity.
    pub refusal: RefusalMode,
    /// Failed AUTH commands before `421`.
    pub auth_failures_max: u32,
    /// Commands that come to nothing (unknown, out of order, NOOP, RSET) and messages that are refused, since one was kept, before `421`.
    pub idle_commands_max: u32,
    /// What is asked of every header.
    pub header: HeaderRules,
    /// What can be promised of a message's further way.
    pub promises: Promises,
}

/// What can be promised of a message's further way, by where it goes and how long it is tried; offered in EHLO accordingly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promises {
    /// REQUIRETLS (RFC 8689 §2).
    pub onward: Onward,
    /// How long a message may wait before it is sent on; FUTURERELEASE (RFC 4865 §4) is offered when it is not nothing.
    pub hold_max: Duration,
}

/// How the ways out are protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Onward {
    /// Each leads to an upstream that must prove who it is, inside TLS.
    Proved,
    /// One at least does not.
    Unproved,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::Code;

    /// The log says what happened in each case, with what is known of it.
    #[test]
    fn every_cause_has_its_words_for_the_log() {
        let reply = Reply::new(Code::known(550), None, "no");
        let (full, share) = (NoRoom::Full("the disk".to_owned()), NoRoom::Share("memory".to_owned()));
        let refused = |reply| NoRoom::Refused { reason: "5.3.4 too large".to_owned(), reply };
        for (cause, said) in [
            (full, "no room: the disk"),
            (share, "no room for this identity: memory"),
            (NoRoom::Unaccountable, "the log does not keep up"),
            (NoRoom::Broken, "the store failed"),
            (NoRoom::Lost(Unidentified::NoCertificate), "gone since MAIL: no client certificate was shown"),
            (NoRoom::Lost(Unidentified::Roster(NoIdentity::Unknown)), "no identity is granted to it"),
            (NoRoom::Regranted, "grant has changed"),
            (NoRoom::Unauthenticated, "counts no more"),
            (refused(Some(reply)), "5.3.4 too large: 550 no"),
            (refused(None), "5.3.4 too large"),
        ] {
            assert!(cause.words().contains(said), "{}", cause.words());
        }
    }
}
