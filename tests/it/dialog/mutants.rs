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
    /// Looks at the identity again at MAIL, but not at the end of the data.
    LooksAtMailOnly,
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
    /// Has a way for every recipient.
    RoutesEverybody,
    /// Does not ask the upstream for a recipient.
    AsksNobody,
    /// Says what the upstream says as it is.
    TellsCodesOn,
    /// Reads AUTH's base64 before anything else of it.
    ReadsBase64First,
    /// Has no limits per identity.
    IgnoresLimits,
    /// Asks no ledger.
    CountsNothing,
    /// What a refused or dropped message cost is gone.
    GivesNothingBack,
    /// Takes messages of any size.
    IgnoresSize,
    /// Takes lines of any length.
    IgnoresLongLines,
    /// Does not count hops.
    IgnoresHops,
    /// Answers a refused message before its end, and takes the rest for commands.
    AnswersBeforeTheEnd,
    /// Takes a chunk that is refused for commands.
    ReadsChunksAsCommands,
    /// Goes on behind what only another reader takes for a chunk.
    ReadsOnBehindNoChunk,
    /// Forgets between two chunks that the first ended in a CR.
    ForgetsTheCrBetweenChunks,
    /// Takes a dot away that begins a chunk.
    UnstuffsChunks,
    /// Leaves dots as they are.
    KeepsDots,
    /// RSET does nothing.
    ForgetsRset,
    /// EHLO inside a transaction keeps it.
    KeepsTransactionOverEhlo,
    /// EXTERNAL as anybody.
    ExternalAsAnybody,
    /// Asks for no second factor.
    IgnoresSecondFactor,
    /// Says 421 and stays.
    StaysAfter421,
    /// Cuts transactions off when shutting down.
    DrainsAtOnce,
    /// Never leaves.
    IgnoresDraining,
    /// Says no enhanced status.
    DropsStatus,
    /// Takes nothing out of a header.
    KeepsBcc,
    /// Does not do what `[header]` asks.
    IgnoresHeaderRules,
    /// Reads a bare LF as CRLF for everybody.
    NormalizesForAll,
    /// Offers REQUIRETLS whatever the further way is.
    PromisesTooMuch,
    /// Lets anybody's mail be as urgent as asked.
    GrantsAllPriorities,
    /// Takes the second of two parameters alike for the only one.
    TakesTheLast,
    /// Takes a load balancer's word for every certificate.
    TakesAnyWord,
}

impl Mutant {
    /// All that are wrong, each with the dialog that is there because of it.
    pub(crate) const ALL: [(Self, &'static str); 51] = [
        (Self::TakesAnyWord, "vouched/refused.dialog"),
        (Self::Says250BeforeCommit, "message/store_fails_at_commit.dialog"),
        (Self::Says354WithoutRoom, "message/no_room.dialog"),
        (Self::KeepsBcc, "message/bcc_is_taken_out.dialog"),
        (Self::IgnoresHeaderRules, "message/strict_8bit.dialog"),
        (Self::NormalizesForAll, "smuggling/normalized_for_one_only.dialog"),
        (Self::AcceptsBareLf, "smuggling/bare_lf_dot_bare_lf.dialog"),
        (Self::AcceptsBareCr, "smuggling/bare_cr_dot_bare_cr.dialog"),
        (Self::DropsNul, "smuggling/nul_in_the_body.dialog"),
        (Self::GoesOnAfterDispute, "smuggling/in_a_refused_message.dialog"),
        (Self::TakesMailBeforeTls, "preamble/mail_before_tls.dialog"),
        (Self::KeepsPlaintext, "preamble/starttls_injection.dialog"),
        (Self::LetsTalkEarly, "preamble/talking_before_the_greeting.dialog"),
        (Self::NeverLooksAgain, "identity/revoked_while_connected.dialog"),
        (Self::LooksAtMailOnly, "identity/revoked_in_transaction.dialog"),
        (Self::IgnoresDates, "identity/expired.dialog"),
        (Self::IgnoresRevocation, "identity/revoked.dialog"),
        (Self::TrustsStrangers, "identity/untrusted.dialog"),
        (Self::IgnoresDisabled, "identity/disabled.dialog"),
        (Self::GrantsAllSenders, "envelope/sender_by_wildcard.dialog"),
        (Self::IgnoresFrom, "message/from_forged.dialog"),
        (Self::IgnoresOtherOriginators, "message/resent_from_forged.dialog"),
        (Self::IgnoresHeaderFaults, "message/two_from_fields.dialog"),
        (Self::GrantsAllRecipients, "envelope/recipient_forbidden.dialog"),
        (Self::RoutesEverybody, "envelope/recipient_without_route.dialog"),
        (Self::AsksNobody, "through/recipient_refused.dialog"),
        (Self::TellsCodesOn, "through/recipient_refused_by_a_host_without_mail.dialog"),
        (Self::ReadsBase64First, "auth/malformed_in_transaction.dialog"),
        (Self::IgnoresLimits, "envelope/too_many_recipients_for_the_identity.dialog"),
        (Self::CountsNothing, "envelope/rate_at_mail.dialog"),
        (Self::GivesNothingBack, "envelope/rate_given_back.dialog"),
        (Self::IgnoresSize, "message/too_large.dialog"),
        (Self::IgnoresLongLines, "message/line_over_the_limit.dialog"),
        (Self::IgnoresHops, "message/loop.dialog"),
        (Self::AnswersBeforeTheEnd, "message/from_forged.dialog"),
        (Self::ReadsChunksAsCommands, "bdat/without_mail.dialog"),
        (Self::ReadsOnBehindNoChunk, "bdat/behind_a_tab.dialog"),
        (Self::ForgetsTheCrBetweenChunks, "bdat/line_end_between_chunks.dialog"),
        (Self::UnstuffsChunks, "bdat/dots.dialog"),
        (Self::KeepsDots, "message/dots.dialog"),
        (Self::ForgetsRset, "envelope/rset_drops_everything.dialog"),
        (Self::KeepsTransactionOverEhlo, "hello/ehlo_drops_the_transaction.dialog"),
        (Self::ExternalAsAnybody, "auth/external_as_another.dialog"),
        (Self::IgnoresSecondFactor, "auth/second_factor_missing.dialog"),
        (Self::StaysAfter421, "identity/stale_crl.dialog"),
        (Self::DrainsAtOnce, "leaving/drain_in_transaction.dialog"),
        (Self::IgnoresDraining, "leaving/drain_idle.dialog"),
        (Self::DropsStatus, "envelope/sender_forged.dialog"),
        (Self::PromisesTooMuch, "hello/require_tls_not_promised.dialog"),
        (Self::GrantsAllPriorities, "envelope/priority.dialog"),
        (Self::TakesTheLast, "envelope/dsn_malformed.dialog"),
    ];

    /// Whether it can do no honest message either; the others must, or else their failing shows nothing.
    pub(crate) fn is_useless(self) -> bool {
        matches!(self, Self::Says250BeforeCommit | Self::DropsStatus)
    }

    /// What it fails to look at in trust and roster.
    pub(crate) fn laxity(self) -> Laxity {
        match self {
            Self::IgnoresRevocation => Laxity::IgnoresRevocation,
            Self::TrustsStrangers => Laxity::TrustsStrangers,
            Self::IgnoresDisabled => Laxity::IgnoresDisabled,
            Self::GrantsAllSenders => Laxity::GrantsAllSenders,
            Self::GrantsAllRecipients => Laxity::GrantsAllRecipients,
            Self::IgnoresLimits => Laxity::IgnoresLimits,
            Self::GrantsAllPriorities => Laxity::GrantsAllPriorities,
            Self::IgnoresSecondFactor => Laxity::IgnoresSecondFactor,
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
            Self::ReadsOnBehindNoChunk if line.trim_ascii_start().starts_with(b"BDAT") && !is(b"BDAT ") => {
                b"XYZZY".to_vec()
            }
            Self::ForgetsRset if is(b"RSET") => b"NOOP".to_vec(),
            Self::KeepsTransactionOverEhlo if in_transaction && is(b"EHLO") => b"NOOP".to_vec(),
            Self::TakesTheLast if is(b"MAIL") || is(b"RCPT") => without_repeated(line),
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

/// Of parameters alike, the last alone.
fn without_repeated(line: &[u8]) -> Vec<u8> {
    let words: Vec<&[u8]> = line.split(|&octet| octet == b' ').collect();
    let name = |word: &[u8]| word.split(|&octet| octet == b'=').next().unwrap().to_ascii_uppercase();
    let last = |(place, word): &(usize, &&[u8])| {
        *place < 2 || words[place + 1..].iter().all(|other| name(other) != name(word))
    };
    let kept: Vec<&[u8]> = words.iter().enumerate().filter(last).map(|(_, word)| *word).collect();
    kept.join(&b' ')
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
