//! The transition table of the dialogue inside TLS: phase x trigger -> where it may lead (RFC 5321 §4.1.4, RFC 4954 §4).
//!
//! It is data: the machine asks it before it runs any code of a command, a test walks every cell, and random dialogues are compared with it.
//! Never: does anything. Nothing can fail: what is not in the table is `Never`.

use super::{Answer, Event};
use crate::smtp::Command;

/// Where the dialogue stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Nobody has said EHLO or HELO since TLS began.
    Start,
    /// No transaction.
    Ready,
    /// AUTH's 334 has been said.
    Challenged,
    /// SCRAM has begun; what it stands on is being looked up.
    Founding,
    /// What was shown in AUTH is being looked at.
    Checking,
    /// MAIL; the identity is being looked at anew.
    Identifying,
    /// MAIL; whether one more message may be sent is being asked.
    Charging,
    /// MAIL was taken, no recipient yet.
    Opened,
    /// At least one recipient was taken.
    Addressed,
    /// RCPT; whether one more recipient may be sent to is being asked.
    Counting,
    /// RCPT; what is known of the recipient on the way out is being asked.
    Offering,
    /// DATA; room is being asked for.
    Admitting,
    /// The header section is being read.
    Header,
    /// The body is being read.
    Body,
    /// A chunk was taken, and more of the message is to come (RFC 3030 §2).
    Chunked,
    /// What was refused is being read to its true end.
    Discarding,
    /// Custody is being taken.
    Committing,
    /// It is over.
    Closed,
}

/// What an event is to the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trigger {
    /// EHLO.
    Ehlo,
    /// HELO.
    Helo,
    /// STARTTLS.
    StartTls,
    /// AUTH.
    Auth,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// DATA.
    Data,
    /// BDAT.
    Bdat,
    /// RSET.
    Rset,
    /// NOOP.
    Noop,
    /// VRFY.
    Vrfy,
    /// EXPN.
    Expn,
    /// HELP.
    Help,
    /// QUIT.
    Quit,
    /// A line that is no command, but whose end is sure.
    Faulty,
    /// A line after AUTH's 334, right or not.
    Response,
    /// A line behind which nobody knows where the next begins: bare CR, bare LF, NUL, BDAT without a sure size; or who wrote it: HTTP.
    Disputed,
    /// Octets where the client had to wait.
    TalkedEarly,
    /// The header section has been read.
    HeaderRead,
    /// The message has been read, or its end is in dispute.
    BodyEnded,
    /// The answer to `Reidentify`.
    Identified,
    /// The answer to `ScramGround`.
    Founded,
    /// The answer to `Authenticate`.
    Attempted,
    /// The answer to `Spend`.
    Spent,
    /// The answer to `Offer`.
    Offered,
    /// The answer to `Admit`.
    Admitted,
    /// The answer to `Commit`.
    Committed,
    /// A deadline.
    TimedOut,
    /// The daemon is shutting down.
    Draining,
}

/// What the table says of a phase and a trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It leads to one of these.
    To(&'static [Phase]),
    /// The client may not say that now: 503, and the phase stays.
    OutOfOrder,
    /// Intake never does that; if it did, 421 and the end.
    Never,
}

/// The number of phases.
pub const PHASES: usize = 18;

/// A row of the table: by the phases in their order.
pub type Row = (Trigger, [Turn; PHASES]);

/// The whole dialogue. Besides, any command may lead to `Closed`: when too many came to nothing, and at the end of a transaction when the
/// daemon is shutting down.
#[rustfmt::skip]
pub const TABLE: [Row; 29] = {
    use Phase::{
        Addressed, Admitting, Body, Challenged, Charging, Checking, Chunked, Closed, Committing, Counting, Discarding, Founding, Header, Identifying,
        Offering, Opened, Ready, Start,
    };
    const NO: Turn = Turn::OutOfOrder;
    const XX: Turn = Turn::Never;
    const ST: Turn = Turn::To(&[Start]);
    const RE: Turn = Turn::To(&[Ready]);
    const OP: Turn = Turn::To(&[Opened]);
    const AD: Turn = Turn::To(&[Addressed]);
    const ID: Turn = Turn::To(&[Identifying]);
    const AU: Turn = Turn::To(&[Ready, Challenged, Founding, Checking, Closed]);
    const SHOW: Turn = Turn::To(&[Ready, Challenged, Closed]);
    const CHAL: Turn = Turn::To(&[Challenged]);
    const FO: Turn = Turn::To(&[Founding]);
    const CK: Turn = Turn::To(&[Checking]);
    const ROOM: Turn = Turn::To(&[Admitting]);
    const FIRST: Turn = Turn::To(&[Admitting, Discarding]);
    const NEXT: Turn = Turn::To(&[Header, Body, Discarding]);
    const DISC: Turn = Turn::To(&[Discarding]);
    const SAID: Turn = Turn::To(&[Ready, Closed]);
    const TOLD: Turn = Turn::To(&[Charging, Opened, Ready, Closed]);
    const RCPT: Turn = Turn::To(&[Counting, Offering, Opened, Addressed]);
    const RCPT_: Turn = Turn::To(&[Counting, Offering, Addressed]);
    const PAID: Turn = Turn::To(&[Opened, Ready]);
    const PAID_: Turn = Turn::To(&[Offering, Opened, Addressed]);
    const TOOK: Turn = Turn::To(&[Opened, Addressed]);
    const CH: Turn = Turn::To(&[Charging]);
    const CO: Turn = Turn::To(&[Counting]);
    const OF: Turn = Turn::To(&[Offering]);
    const ROOM_: Turn = Turn::To(&[Header, Addressed, Discarding]);
    const HEAD: Turn = Turn::To(&[Body, Discarding, Closed]);
    const PART: Turn = Turn::To(&[Chunked, Ready, Closed]);
    const BODY: Turn = Turn::To(&[Committing, Chunked, Ready, Closed]);
    const MORE: Turn = Turn::To(&[Chunked]);
    const DONE: Turn = Turn::To(&[Start, Ready, Closed]);
    const END: Turn = Turn::To(&[Closed]);
    const HEAD_: Turn = Turn::To(&[Header]);
    const BODY_: Turn = Turn::To(&[Body]);
    const COMM: Turn = Turn::To(&[Committing]);
    [
    //                       Start  Ready  Chal   Found  Check  Iden   Charg  Open   Addr   Count  Offer  Admit  Header Body   Chunk  Disc   Comm   Closed
    (Trigger::Ehlo,        [ RE,    RE,    XX,    XX,    XX,    XX,    XX,    RE,    RE,    XX,    XX,    XX,    XX,    XX,    RE,    XX,    XX,    XX   ]),
    (Trigger::Helo,        [ RE,    RE,    XX,    XX,    XX,    XX,    XX,    RE,    RE,    XX,    XX,    XX,    XX,    XX,    RE,    XX,    XX,    XX   ]),
    (Trigger::StartTls,    [ NO,    NO,    XX,    XX,    XX,    XX,    XX,    NO,    NO,    XX,    XX,    XX,    XX,    XX,    NO,    XX,    XX,    XX   ]),
    (Trigger::Auth,        [ NO,    AU,    XX,    XX,    XX,    XX,    XX,    NO,    NO,    XX,    XX,    XX,    XX,    XX,    NO,    XX,    XX,    XX   ]),
    (Trigger::Mail,        [ NO,    ID,    XX,    XX,    XX,    XX,    XX,    NO,    NO,    XX,    XX,    XX,    XX,    XX,    NO,    XX,    XX,    XX   ]),
    (Trigger::Rcpt,        [ NO,    NO,    XX,    XX,    XX,    XX,    XX,    RCPT,  RCPT_, XX,    XX,    XX,    XX,    XX,    NO,    XX,    XX,    XX   ]),
    (Trigger::Data,        [ NO,    NO,    XX,    XX,    XX,    XX,    XX,    NO,    ROOM,  XX,    XX,    XX,    XX,    XX,    NO,    XX,    XX,    XX   ]),
    (Trigger::Bdat,        [ DISC,  DISC,  XX,    XX,    XX,    XX,    XX,    DISC,  FIRST, XX,    XX,    XX,    XX,    XX,    NEXT,  XX,    XX,    XX   ]),
    (Trigger::Rset,        [ ST,    RE,    XX,    XX,    XX,    XX,    XX,    RE,    RE,    XX,    XX,    XX,    XX,    XX,    RE,    XX,    XX,    XX   ]),
    (Trigger::Noop,        [ ST,    RE,    XX,    XX,    XX,    XX,    XX,    OP,    AD,    XX,    XX,    XX,    XX,    XX,    MORE,  XX,    XX,    XX   ]),
    (Trigger::Vrfy,        [ ST,    RE,    XX,    XX,    XX,    XX,    XX,    OP,    AD,    XX,    XX,    XX,    XX,    XX,    MORE,  XX,    XX,    XX   ]),
    (Trigger::Expn,        [ ST,    RE,    XX,    XX,    XX,    XX,    XX,    OP,    AD,    XX,    XX,    XX,    XX,    XX,    MORE,  XX,    XX,    XX   ]),
    (Trigger::Help,        [ ST,    RE,    XX,    XX,    XX,    XX,    XX,    OP,    AD,    XX,    XX,    XX,    XX,    XX,    MORE,  XX,    XX,    XX   ]),
    (Trigger::Quit,        [ END,   END,   XX,    XX,    XX,    XX,    XX,    END,   END,   XX,    XX,    XX,    XX,    XX,    END,   XX,    XX,    XX   ]),
    (Trigger::Faulty,      [ ST,    RE,    XX,    XX,    XX,    XX,    XX,    OP,    AD,    XX,    XX,    XX,    XX,    XX,    MORE,  XX,    XX,    XX   ]),
    (Trigger::Response,    [ XX,    XX,    AU,    XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX   ]),
    (Trigger::Disputed,    [ END,   END,   END,   XX,    XX,    XX,    XX,    END,   END,   XX,    XX,    XX,    XX,    XX,    END,   XX,    XX,    XX   ]),
    (Trigger::TalkedEarly, [ END,   END,   END,   END,   END,   END,   END,   END,   END,   END,   END,   END,   END,   END,   END,   END,   END,   XX   ]),
    (Trigger::HeaderRead,  [ XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX,    HEAD,  XX,    XX,    XX,    XX,    XX   ]),
    (Trigger::BodyEnded,   [ XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX,    PART,  BODY,  XX,    DONE,  XX,    XX   ]),
    (Trigger::Identified,  [ XX,    XX,    XX,    XX,    XX,    TOLD,  XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX   ]),
    (Trigger::Founded,     [ XX,    XX,    XX,    CHAL,  XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX   ]),
    (Trigger::Attempted,   [ XX,    XX,    XX,    XX,    SHOW,  XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX   ]),
    (Trigger::Spent,       [ XX,    XX,    XX,    XX,    XX,    XX,    PAID,  XX,    XX,    PAID_, XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX   ]),
    (Trigger::Offered,     [ XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX,    TOOK,  XX,    XX,    XX,    XX,    XX,    XX,    XX   ]),
    (Trigger::Admitted,    [ XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX,    ROOM_, XX,    XX,    XX,    XX,    XX,    XX   ]),
    (Trigger::Committed,   [ XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX,    XX,    SAID,  XX   ]),
    (Trigger::TimedOut,    [ END,   END,   END,   END,   END,   END,   END,   END,   END,   END,   END,   END,   END,   END,   END,   END,   COMM,  XX   ]),
    (Trigger::Draining,    [ END,   END,   END,   FO,    CK,    ID,    CH,    OP,    AD,    CO,    OF,    ROOM,  HEAD_, BODY_, MORE,  DISC,  COMM,  XX   ]),
    ]
};

/// What the table says.
pub fn turn(phase: Phase, trigger: Trigger) -> Turn {
    TABLE
        .iter()
        .find(|(row, _)| *row == trigger)
        .and_then(|(_, turns)| Phase::ALL.iter().zip(turns).find(|(column, _)| **column == phase))
        .map_or(Turn::Never, |(_, turn)| *turn)
}

impl Phase {
    /// All, in the order of the table's columns.
    pub const ALL: [Self; PHASES] = [
        Self::Start,
        Self::Ready,
        Self::Challenged,
        Self::Founding,
        Self::Checking,
        Self::Identifying,
        Self::Charging,
        Self::Opened,
        Self::Addressed,
        Self::Counting,
        Self::Offering,
        Self::Admitting,
        Self::Header,
        Self::Body,
        Self::Chunked,
        Self::Discarding,
        Self::Committing,
        Self::Closed,
    ];
}

impl Trigger {
    pub(super) fn of(command: &Command) -> Self {
        match command {
            Command::Ehlo(_) => Self::Ehlo,
            Command::Helo(_) => Self::Helo,
            Command::StartTls => Self::StartTls,
            Command::Auth { .. } => Self::Auth,
            Command::Mail { .. } => Self::Mail,
            Command::Rcpt { .. } => Self::Rcpt,
            Command::Data => Self::Data,
            Command::Bdat { .. } => Self::Bdat,
            Command::Rset => Self::Rset,
            Command::Noop => Self::Noop,
            Command::Vrfy(_) => Self::Vrfy,
            Command::Expn => Self::Expn,
            Command::Help => Self::Help,
            Command::Quit => Self::Quit,
        }
    }

    pub(super) fn of_event(event: &Event<'_>) -> Self {
        match event {
            Event::Line(_) => Self::Faulty,
            Event::TalkedEarly => Self::TalkedEarly,
            Event::HeaderRead(_) => Self::HeaderRead,
            Event::BodyEnded(_) | Event::NotKept(..) => Self::BodyEnded,
            Event::Answer(Answer::Identified(_)) => Self::Identified,
            Event::Answer(Answer::Admitted(_)) => Self::Admitted,
            Event::Answer(Answer::Committed(_)) => Self::Committed,
            Event::Answer(Answer::ScramGround(..)) => Self::Founded,
            Event::Answer(Answer::Attempted(_)) => Self::Attempted,
            Event::Answer(Answer::Spent(_)) => Self::Spent,
            Event::Answer(Answer::Offered(_)) => Self::Offered,
            Event::TimedOut(_) => Self::TimedOut,
            Event::Draining => Self::Draining,
        }
    }
}
