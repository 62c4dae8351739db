//! Relays that are wrong on purpose, to show that the dialogs can fail (STYLE 22).
//!
//! A mutant is a small change to what goes into or comes out of the machines, made by the stage around them: nothing of it is in the program.

use sealpost::content::{BodyEnd, BodyFacts, HeaderFacts};

use super::cast::Laxity;

/// One way to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// None: the real thing.
    Faithful,
    /// Says 250 and takes no custody.
    Says250BeforeCommit,
    /// Says 354 without room.
    Says354WithoutRoom,
    /// Lets a bare LF end a line.
    AcceptsBareLf,
    /// Lets a bare CR end a line.
    AcceptsBareCr,
    /// Drops NULs.
    DropsNul,
    /// Goes on after a disputed end.
    GoesOnAfterDispute,
    /// Takes MAIL before TLS.
    TakesMailBeforeTls,
    /// Reads plaintext behind STARTTLS as if it had come inside TLS.
    KeepsPlaintext,
    /// Does not mind who talks out of turn.
    LetsTalkEarly,
    /// Takes the identity of the handshake for good.
    NeverLooksAgain,
    /// Takes expired and future certificates.
    IgnoresDates,
    /// Does not look at CRLs.
    IgnoresRevocation,
    /// Trusts another CA.
    TrustsStrangers,
    /// Takes a disabled identity.
    IgnoresDisabled,
    /// Does not judge envelope senders or authors.
    GrantsAllSenders,
    /// Does not judge From.
    IgnoresFrom,
    /// Does not judge Sender and Resent fields.
    IgnoresOtherOriginators,
    /// Does not judge faulty headers.
    IgnoresHeaderFaults,
    /// Does not judge recipients.
    GrantsAllRecipients,
    /// Has no limits per identity.
    IgnoresLimits,
    /// Takes messages of any size.
    IgnoresSize,
    /// Takes lines of any length.
    IgnoresLongLines,
    /// Does not count hops.
    IgnoresHops,
    /// Answers a refused message before its end, and takes the rest for commands.
    AnswersBeforeTheEnd,
    /// Takes a chunk that it did not offer for commands.
    ReadsChunksAsCommands,
    /// Leaves dots as they are.
    KeepsDots,
    /// RSET does nothing.
    ForgetsRset,
    /// EHLO inside a transaction keeps it.
    KeepsTransactionOverEhlo,
    /// EXTERNAL as anybody.
    ExternalAsAnybody,
    /// Says 421 and stays.
    StaysAfter421,
    /// Cuts transactions off when shutting down.
    DrainsAtOnce,
    /// Never leaves.
    IgnoresDraining,
    /// Says no enhanced status.
    DropsStatus,
}

impl Mutant {
    /// All that are wrong.
    pub(crate) const ALL: [Self; 33] = [
        Self::Says250BeforeCommit,
        Self::Says354WithoutRoom,
        Self::AcceptsBareLf,
        Self::AcceptsBareCr,
        Self::DropsNul,
        Self::GoesOnAfterDispute,
        Self::TakesMailBeforeTls,
        Self::KeepsPlaintext,
        Self::LetsTalkEarly,
        Self::NeverLooksAgain,
        Self::IgnoresDates,
        Self::IgnoresRevocation,
        Self::TrustsStrangers,
        Self::IgnoresDisabled,
        Self::GrantsAllSenders,
        Self::IgnoresFrom,
        Self::IgnoresOtherOriginators,
        Self::IgnoresHeaderFaults,
        Self::GrantsAllRecipients,
        Self::IgnoresLimits,
        Self::IgnoresSize,
        Self::IgnoresLongLines,
        Self::IgnoresHops,
        Self::AnswersBeforeTheEnd,
        Self::ReadsChunksAsCommands,
        Self::KeepsDots,
        Self::ForgetsRset,
        Self::KeepsTransactionOverEhlo,
        Self::ExternalAsAnybody,
        Self::StaysAfter421,
        Self::DrainsAtOnce,
        Self::IgnoresDraining,
        Self::DropsStatus,
    ];

    /// What it fails to look at in trust and roster.
    pub(crate) fn laxity(self) -> Laxity {
        match self {
            Self::IgnoresRevocation => Laxity::IgnoresRevocation,
            Self::TrustsStrangers => Laxity::TrustsStrangers,
            Self::IgnoresDisabled => Laxity::IgnoresDisabled,
            Self::GrantsAllSenders => Laxity::GrantsAllSenders,
            Self::GrantsAllRecipients => Laxity::GrantsAllRecipients,
            Self::IgnoresLimits => Laxity::IgnoresLimits,
            _ => Laxity::None,
        }
    }

    /// What it makes of the client's octets.
    pub(crate) fn octets(self, octets: &[u8]) -> Vec<u8> {
        match self {
            Self::DropsNul => octets.iter().copied().filter(|&octet| octet != 0).collect(),
            Self::AcceptsBareLf => with_whole_ends(octets, b'\n'),
            Self::AcceptsBareCr => with_whole_ends(octets, b'\r'),
            _ => octets.to_vec(),
        }
    }

    /// What it makes of a command line inside TLS.
    pub(crate) fn command(self, line: &[u8], in_transaction: bool) -> Vec<u8> {
        let is = |verb: &[u8]| line.get(..verb.len()).is_some_and(|start| start.eq_ignore_ascii_case(verb));
        match self {
            Self::ForgetsRset if is(b"RSET") => b"NOOP".to_vec(),
            Self::KeepsTransactionOverEhlo if in_transaction && is(b"EHLO") => b"NOOP".to_vec(),
            Self::ExternalAsAnybody if is(b"AUTH EXTERNAL ") => b"AUTH EXTERNAL =".to_vec(),
            _ => line.to_vec(),
        }
    }

    /// What it makes of a header.
    pub(crate) fn header(self, facts: &mut HeaderFacts) {
        match self {
            Self::IgnoresFrom if facts.sender.is_none() && facts.resent_from.is_empty() => {
                facts.from = vec!["alice@example.com".parse().unwrap()];
                facts.display_addresses.clear();
            }
            Self::IgnoresOtherOriginators => {
                facts.sender = None;
                facts.resent_from.clear();
                facts.resent_sender = None;
            }
            Self::IgnoresHeaderFaults if facts.fault.is_some() => {
                facts.fault = None;
                facts.from = vec!["alice@example.com".parse().unwrap()];
            }
            Self::IgnoresHops => facts.received = 0,
            _ => {}
        }
    }

    /// What it makes of a body.
    pub(crate) fn body(self, facts: &mut BodyFacts) {
        match (self, facts.end) {
            (Self::IgnoresSize, BodyEnd::TooLarge) => *facts = BodyFacts { end: BodyEnd::Complete, octets: 1 },
            (Self::IgnoresLongLines, BodyEnd::LineTooLong { .. }) => facts.end = BodyEnd::Complete,
            _ => {}
        }
    }
}

/// Each lone `octet` becomes CRLF.
fn with_whole_ends(octets: &[u8], octet: u8) -> Vec<u8> {
    let mut whole = Vec::new();
    for (place, &this) in octets.iter().enumerate() {
        let before = place.checked_sub(1).and_then(|place| octets.get(place)).copied();
        let behind = octets.get(place + 1).copied();
        let lone = match this {
            b'\n' => before != Some(b'\r'),
            b'\r' => behind != Some(b'\n'),
            _ => false,
        };
        if lone && this == octet {
            whole.extend_from_slice(b"\r\n");
        } else {
            whole.push(this);
        }
    }
    whole
}
