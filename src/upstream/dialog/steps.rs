//! What the dialogue is told and what it asks for: its words, without its decisions.

use std::net::SocketAddr;

use zeroize::Zeroizing;

use super::scram::{Derivation, Derived};
use crate::mail::Recipient;
use crate::sasl::ExporterValue;
use crate::upstream::attempt::{Attempt, FaultCause, UpstreamFault};
use crate::upstream::blame::Phase;
use crate::upstream::settings::{Credentials, Manner, Mechanism, ReplyPattern, Secret, Security, Upstream};
use crate::upstream::seven_bit::NotEncodable;
use crate::upstream::transaction::Order;

/// What is agreed with an upstream before the first octet.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The upstream's name, for faults.
    pub upstream: String,
    /// The address connected to, for faults.
    pub address: Option<SocketAddr>,
    /// What we call ourselves.
    pub helo: String,
    /// What is to become of TLS.
    pub tls: TlsTerm,
    /// Who we are, if the upstream wants to know.
    pub credentials: Option<Credentials>,
    /// What is new with each connection.
    pub fresh: Fresh,
    /// Replies that mean us, not the message.
    pub ours: Vec<ReplyPattern>,
    /// How messages are given to it.
    pub manner: Manner,
}

/// What AUTH needs anew for each connection.
#[derive(Clone, Debug, Default)]
pub struct Fresh {
    /// Our part of SCRAM's nonce: printable, without a comma.
    pub nonce: String,
    /// The token of OAuth 2 as its file holds it now.
    pub token: Option<Secret>,
}

/// What is to become of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsTerm {
    /// None.
    Never,
    /// STARTTLS when offered; else, or when it is refused, plaintext.
    IfOffered,
    /// STARTTLS or nothing.
    Demanded,
    /// The connection begins inside TLS.
    FromTheStart,
}

impl Terms {
    /// The terms for a connection to `address` of an upstream, protected like this.
    pub fn of(upstream: &Upstream, address: Option<SocketAddr>, security: &Security, fresh: Fresh) -> Self {
        Self {
            upstream: upstream.name.clone(),
            address,
            helo: upstream.helo.clone(),
            tls: match security {
                Security::Plaintext => TlsTerm::Never,
                Security::Opportunistic(_) => TlsTerm::IfOffered,
                Security::StartTls(_) => TlsTerm::Demanded,
                Security::Implicit(_) => TlsTerm::FromTheStart,
            },
            credentials: upstream.credentials.clone(),
            fresh,
            ours: upstream.ours.clone(),
            manner: upstream.manner,
        }
    }
}

/// What happened.
#[derive(Debug)]
pub enum Event<'a> {
    /// The connection stands, TLS included where it is from the start; with what binds a login to it.
    Connected(Option<ExporterValue>),
    /// Octets came; at most [`super::Dialog::room`].
    Received(&'a [u8]),
    /// TLS stands, after [`Step::StartTls`]; with what binds a login to it.
    TlsReady(Option<ExporterValue>),
    /// What was to be computed of the password is, after [`Step::Derive`].
    Derived(Derived),
    /// A message is to be sent; only when idle.
    Begin(Order),
    /// A transaction is to be begun whose recipients come one by one; only when idle. It has none yet: [`Event::Recipient`] brings the first.
    Open(Order),
    /// Is this one taken, too? Its place in the envelope, and the recipient; after [`Event::Open`], and when the last one is answered for.
    Recipient(usize, Recipient),
    /// Those who are taken are to have this message, of so many octets; after [`Step::Asked`].
    Send(u64),
    /// What the message is made of, after [`Step::Look`].
    Seen(Contents),
    /// All octets of the message but the final dot are written or about to be, after [`Step::SendBody`].
    BodyAtEnd,
    /// The connection, TLS or the message's source failed, or nothing came in time.
    Failed(FaultCause),
    /// No more messages; only when idle.
    Leave,
}

/// Of what a text is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Characters {
    /// ASCII only.
    #[default]
    Ascii,
    /// Also octets over 127; in a header that is UTF-8 (RFC 6532).
    Beyond,
}

/// How far to look into a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// At its headers: its own, and those of its parts.
    Headers,
    /// At all of it.
    Whole,
    /// At all of it, and what it would be when encoded.
    Encoding,
}

/// Of what a message is made, as far as it was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Its header section.
    pub header: Characters,
    /// The headers of its parts, and of messages within it.
    pub parts: Characters,
    /// Its body.
    pub body: Characters,
    /// Its octets when encoded, or why it can't be; where that was asked, and the body needs it.
    pub encoded: Option<Result<u64, NotEncodable>>,
}

/// In which form the message's octets are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// As they are.
    #[default]
    AsItIs,
    /// Encoded, so that none is over 127.
    SevenBit,
}

/// How the end of the message is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// By a dot on a line of its own; dots that begin a line are stuffed (RFC 5321 §4.5.2).
    Dots,
    /// By its count: exactly so many octets, none stuffed (RFC 3030 §2).
    Count(u64),
}

/// What is to be done next. Exactly one thing.
#[derive(Debug)]
pub enum Step {
    /// Write these octets, then read; the time for the next reply starts when they are written.
    Send(Zeroizing<Vec<u8>>),
    /// Read.
    Read(Patience),
    /// Make TLS on this connection; then `TlsReady`, or `Failed` with what went wrong.
    StartTls,
    /// Run this where nobody waits for the thread; then `Derived`.
    Derive(Derivation),
    /// The session stands and is idle.
    Ready,
    /// The recipient is answered for: see [`super::Dialog::said_of_last`].
    Asked,
    /// Look at the message so far; then `Seen`.
    Look(Look),
    /// Write the message from its beginning, behind these octets; say `BodyAtEnd` before its last octets, or the final dot, go. Anything received
    /// meanwhile is an early refusal and comes with `Received`.
    SendBody {
        /// What goes ahead of it in the same write: BDAT, and what is pipelined before it.
        ahead: Zeroizing<Vec<u8>>,
        /// In which form.
        form: Form,
        /// How its end is told.
        framing: Framing,
    },
    /// Write what is left of the message, and the final dot where there is one; then read.
    EndBody,
    /// The message has its outcomes. Idle again when [`super::Dialog::is_usable`]; else close.
    Done(Attempt),
    /// The connection is of no use, and no message was begun: close.
    Over(UpstreamFault),
    /// QUIT has been answered, or will not be: close.
    Left,
}

/// Whether the time for the reply starts anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// A whole reply came; the next has its own time.
    Anew,
    /// The reply is not whole: what is left of its time. An upstream that sends an octet a minute gains nothing.
    GoesOn,
}

/// What the next reply answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::upstream) enum Expect {
    Greeting,
    Ehlo,
    Helo,
    StartTls,
    Auth(AuthStep),
    Reset,
    Mail,
    /// RCPT: its place in the order.
    Recipient(usize),
    Data,
    /// The final dot.
    EndOfData,
    /// BDAT with the whole message (RFC 3030 §2).
    Chunk,
    /// The end of an empty message that nobody receives (RFC 2920 §3.1).
    LoneDot,
    Quit,
}

impl Expect {
    pub(super) fn phase(self) -> Phase {
        match self {
            Self::Greeting => Phase::Greeting,
            Self::Ehlo | Self::Helo => Phase::Hello,
            Self::StartTls => Phase::StartTls,
            Self::Auth(_) => Phase::Auth,
            Self::Reset => Phase::Reset,
            Self::Mail => Phase::Mail,
            Self::Recipient(_) => Phase::Recipient,
            Self::Data => Phase::Data,
            Self::EndOfData | Self::Chunk | Self::LoneDot => Phase::EndOfData,
            Self::Quit => Phase::Quit,
        }
    }
}

/// Where AUTH stands: what the prompt asks for, or the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::upstream) enum AuthStep {
    /// A mechanism without initial response: the prompt for it.
    Prompt(Mechanism),
    /// LOGIN: the prompt for the user name.
    LoginUser,
    /// LOGIN: the prompt for the password.
    LoginPassword,
    /// SCRAM: the server's first message.
    ServerFirst,
    /// SCRAM: the server's signature.
    ServerFinal,
    /// A token: yes, or why not.
    TokenVerdict(Mechanism),
    /// A token: no.
    TokenRefused,
    /// Yes or no.
    Verdict,
}
