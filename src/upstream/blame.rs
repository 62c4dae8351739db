//! Whose fault a reply is: a table, and the one function that reads it.
//!
//! A reply to our greeting, TLS or AUTH says nothing about the message, whatever its code: mail must not bounce because a password ran out.
//! Only a 5yz to MAIL, RCPT, DATA or the final dot speaks of this message (RFC 5321 §4.2.1), and there too some codes speak of us
//! (RFC 4954 §6, RFC 5248 §2.4). Never: looks at the text of a reply; RFC 5321 §4.2 leaves that to people.

use super::settings::ReplyPattern;
use crate::smtp::{Code, Reply};

/// Where in the dialogue something happened, in the order of the dialogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Looking up the name.
    Lookup,
    /// TCP.
    Connect,
    /// The TLS handshake.
    Tls,
    /// The greeting.
    Greeting,
    /// EHLO or HELO.
    Hello,
    /// The reply to STARTTLS.
    StartTls,
    /// AUTH.
    Auth,
    /// RSET before a further message.
    Reset,
    /// MAIL.
    Mail,
    /// RCPT.
    Recipient,
    /// The reply to DATA.
    Data,
    /// The message's octets.
    Body,
    /// The reply to the final dot.
    EndOfData,
    /// QUIT.
    Quit,
}

impl Phase {
    /// The phase in words, as in "the upstream refused …".
    pub fn words(self) -> &'static str {
        match self {
            Self::Lookup => "the look-up of its name",
            Self::Connect => "the connection",
            Self::Tls => "the TLS handshake",
            Self::Greeting => "its greeting",
            Self::Hello => "EHLO",
            Self::StartTls => "STARTTLS",
            Self::Auth => "AUTH",
            Self::Reset => "RSET",
            Self::Mail => "the sender (MAIL)",
            Self::Recipient => "the recipient (RCPT)",
            Self::Data => "DATA",
            Self::Body => "the message",
            Self::EndOfData => "the end of the message",
            Self::Quit => "QUIT",
        }
    }

    /// Whether the phase comes before any message: what goes wrong there is never about one.
    pub fn is_setup(self) -> bool {
        self < Self::Reset
    }

    /// Whether another address of the same name may do better. After AUTH it will not, and asking everywhere with a wrong password
    /// locks accounts.
    pub fn is_about_the_address(self) -> bool {
        self < Self::Auth
    }
}

/// What a reply means for the message and the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// What was hoped for.
    Proceed,
    /// This message or recipient: not now.
    Later,
    /// This message or recipient: not at all.
    Never,
    /// This recipient: not in this transaction; there are too many (RFC 5321 §4.5.3.1.10).
    TooMany,
    /// The upstream can't take mail at the moment; the message is innocent.
    Busy,
    /// The upstream, or what we are configured to say to it, is wrong; the message is innocent, an operator must look.
    Broken,
    /// 421: the upstream leaves (RFC 5321 §3.8).
    Over,
    /// A code that has no meaning here: the dialogue can't be trusted any more.
    Unexpected,
}

/// The kinds of success (RFC 5321 §4.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hope {
    /// 2yz.
    Completion,
    /// 3yz.
    GoAhead,
    /// 2yz or 3yz: AUTH, which may ask further.
    Either,
}

/// A line of the table.
struct Row {
    phase: Phase,
    hope: Hope,
    transient: Judgement,
    permanent: Judgement,
}

const fn row(phase: Phase, hope: Hope, transient: Judgement, permanent: Judgement) -> Row {
    Row { phase, hope, transient, permanent }
}

/// What 4yz and 5yz mean, phase by phase. 421 and the codes of [`speaks_of_us`] are judged before.
const TABLE: [Row; 10] = [
    row(Phase::Greeting, Hope::Completion, Judgement::Busy, Judgement::Broken),
    row(Phase::Hello, Hope::Completion, Judgement::Busy, Judgement::Broken),
    row(Phase::StartTls, Hope::Completion, Judgement::Busy, Judgement::Broken),
    row(Phase::Auth, Hope::Either, Judgement::Busy, Judgement::Broken),
    row(Phase::Reset, Hope::Completion, Judgement::Busy, Judgement::Busy),
    row(Phase::Mail, Hope::Completion, Judgement::Later, Judgement::Never),
    row(Phase::Recipient, Hope::Completion, Judgement::Later, Judgement::Never),
    row(Phase::Data, Hope::GoAhead, Judgement::Later, Judgement::Never),
    row(Phase::EndOfData, Hope::Completion, Judgement::Later, Judgement::Never),
    row(Phase::Quit, Hope::Completion, Judgement::Over, Judgement::Over),
];

/// Judges a reply given in a phase. `ours` are the configured patterns.
pub fn judge(phase: Phase, reply: &Reply, ours: &[ReplyPattern]) -> Judgement {
    let code = reply.code();
    if code.number() == 421 {
        return Judgement::Over;
    }
    let refused = code.is_transient() || code.is_permanent();
    let about_us = speaks_of_us(phase, reply) || speaks_of_the_dialogue(phase, code);
    if refused && (about_us || ours.iter().any(|pattern| pattern.matches(reply))) {
        return Judgement::Broken;
    }
    if phase == Phase::Recipient && says_too_many(reply) {
        return Judgement::TooMany;
    }
    let Some(row) = TABLE.iter().find(|row| row.phase == phase) else {
        return Judgement::Unexpected;
    };
    if code.is_transient() {
        row.transient
    } else if code.is_permanent() {
        row.permanent
    } else if row.hope.allows(code) {
        Judgement::Proceed
    } else {
        Judgement::Unexpected
    }
}

impl Hope {
    fn allows(self, code: Code) -> bool {
        match self {
            Self::Completion => code.is_positive(),
            Self::GoAhead => code.is_intermediate(),
            Self::Either => code.is_positive() || code.is_intermediate(),
        }
    }
}

/// Codes that speak of our authentication: in whatever phase 530 required, 534 too weak, 535 wrong, 538 needs TLS (RFC 4954 §6).
///
/// The registry (RFC 5248 §2.4) has 523 and 524 for TLS that is missing (X.7.10, X.7.11), 525 for an account that is disabled (X.7.13) and 432 for a password
/// that has to be changed first (X.7.12). They are older than the registry, and in use for other things as well (a message that is too large, a store
/// that is busy), so that a status of another subject counts more; with 432 nothing but its own status counts. From RCPT on, hosting panels say 525 of the
/// recipient's account (5.7.13 too), and the sender must hear of it; who means ours there is known by saying it to everybody (`refusals`).
fn speaks_of_us(phase: Phase, reply: &Reply) -> bool {
    let status = reply.status().map(|status| (status.subject(), status.detail()));
    let about_security = status.is_none_or(|(subject, _)| subject == 7);
    match reply.code().number() {
        530 | 534 | 535 | 538 => true,
        523 | 524 => about_security,
        525 => about_security && !matches!(phase, Phase::Recipient | Phase::Data | Phase::EndOfData),
        432 => status == Some((7, 12)),
        _ => false,
    }
}

/// 502, 503, 504 to a command of the transaction: the upstream and we are out of step (RFC 5321 §4.2.4, §4.1.4), which is no reason to
/// return the mail. To the final dot such a code can only be meant for the message.
fn speaks_of_the_dialogue(phase: Phase, code: Code) -> bool {
    matches!(phase, Phase::Mail | Phase::Recipient | Phase::Data) && matches!(code.number(), 502..=504)
}

/// RFC 5321 §4.5.3.1.10: 452 to RCPT, and 552 from servers of RFC 821's time, where no status says that it is the mailbox that is full.
fn says_too_many(reply: &Reply) -> bool {
    let about_the_number = reply.status().is_none_or(|status| (status.subject(), status.detail()) == (5, 3));
    matches!(reply.code().number(), 452 | 552) && about_the_number
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::Status;

    fn reply(text: &str) -> Reply {
        let mut words = text.split(' ');
        let code = Code::new(words.next().unwrap().parse().unwrap()).unwrap();
        let status = words.next().map(|word| {
            let numbers: Vec<u16> = word.split('.').map(|n| n.parse().unwrap()).collect();
            Status::new(u8::try_from(numbers[0]).unwrap(), numbers[1], numbers[2]).unwrap()
        });
        Reply::new(code, status, "text")
    }

    /// Rows: phase; columns: 250, 354, 450, 550, 421, 535, 550 5.7.64.
    #[test]
    fn the_table_of_blame_is_as_written() {
        use Judgement::{Broken, Busy, Later, Never, Over, Proceed, Unexpected};
        let replies = ["250", "354", "450 4.2.0", "550 5.1.1", "421 4.3.2", "535 5.7.8", "550 5.7.64"];
        for (phase, expected) in [
            (Phase::Greeting, [Proceed, Unexpected, Busy, Broken, Over, Broken, Broken]),
            (Phase::Hello, [Proceed, Unexpected, Busy, Broken, Over, Broken, Broken]),
            (Phase::StartTls, [Proceed, Unexpected, Busy, Broken, Over, Broken, Broken]),
            (Phase::Auth, [Proceed, Proceed, Busy, Broken, Over, Broken, Broken]),
            (Phase::Reset, [Proceed, Unexpected, Busy, Busy, Over, Broken, Broken]),
            (Phase::Mail, [Proceed, Unexpected, Later, Never, Over, Broken, Broken]),
            (Phase::Recipient, [Proceed, Unexpected, Later, Never, Over, Broken, Broken]),
            (Phase::Data, [Unexpected, Proceed, Later, Never, Over, Broken, Broken]),
            (Phase::EndOfData, [Proceed, Unexpected, Later, Never, Over, Broken, Broken]),
        ] {
            for (text, expected) in replies.iter().zip(expected) {
                assert_eq!(judge(phase, &reply(text), &ReplyPattern::known()), expected, "{phase:?} {text}");
            }
        }
    }

    /// RFC 5321 §4.2: by its first digit; the text counts for nothing.
    #[test]
    fn a_code_that_is_not_in_the_table_counts_by_its_first_digit() {
        use Judgement::{Later, Never, Proceed};
        for (phase, text, expected) in [
            (Phase::Recipient, "251", Proceed),
            (Phase::Recipient, "259", Proceed),
            (Phase::Recipient, "477", Later),
            (Phase::Recipient, "551", Never),
            (Phase::Recipient, "577", Never),
            (Phase::Data, "399", Proceed),
            (Phase::EndOfData, "299", Proceed),
            (Phase::EndOfData, "499", Later),
            (Phase::EndOfData, "599", Never),
        ] {
            assert_eq!(judge(phase, &reply(text), &ReplyPattern::known()), expected, "{phase:?} {text}");
        }
        let says = |code, text: &str| judge(Phase::Mail, &Reply::new(Code::new(code).unwrap(), None, text), &[]);
        assert_eq!((says(250, "550 no"), says(550, "250 ok"), says(451, "")), (Proceed, Never, Later));
    }

    /// RFC 1870 §6.2.
    #[test]
    fn no_room_is_for_now_and_too_large_is_for_good() {
        for phase in [Phase::Mail, Phase::Data, Phase::EndOfData] {
            assert_eq!(judge(phase, &reply("452 4.3.1"), &ReplyPattern::known()), Judgement::Later, "{phase:?}");
            assert_eq!(judge(phase, &reply("552 5.3.4"), &ReplyPattern::known()), Judgement::Never, "{phase:?}");
        }
    }

    #[test]
    fn every_code_about_authentication_is_ours_even_at_end_of_data() {
        for text in ["530 5.7.0", "534 5.7.9", "535 5.7.8", "538 5.7.11"] {
            assert_eq!(judge(Phase::EndOfData, &reply(text), &[]), Judgement::Broken, "{text}");
        }
    }

    /// RFC 5248 §2.4, and what is said of other things by the same numbers. Columns: AUTH, MAIL, RCPT, DATA, end of data.
    #[test]
    fn what_the_registry_has_for_our_account_is_ours_unless_its_status_or_a_recipient_says_otherwise() {
        use Judgement::{Broken, Busy, Later, Never};
        let phases = [Phase::Auth, Phase::Mail, Phase::Recipient, Phase::Data, Phase::EndOfData];
        let ours = [Broken; 5];
        let until_rcpt = [Broken, Broken, Never, Never, Never];
        let the_messages = [Broken, Never, Never, Never, Never];
        let later = [Busy, Later, Later, Later, Later];
        for (text, expected) in [
            ("523", ours),
            ("523 5.7.10", ours),
            ("523 5.3.4", the_messages),
            ("524", ours),
            ("524 5.7.11", ours),
            ("524 5.2.4", the_messages),
            ("525", until_rcpt),
            ("525 5.7.13", until_rcpt),
            ("525 5.2.1", the_messages),
            ("432 4.7.12", ours),
            ("432 4.3.2", later),
            ("432", later),
            ("422 4.2.2", later),
            ("522 5.2.2", the_messages),
            ("526", the_messages),
        ] {
            let judged = phases.map(|phase| judge(phase, &reply(text), &[]));
            assert_eq!(judged, expected, "{text}");
        }
    }

    #[test]
    fn a_dialogue_out_of_step_is_not_the_messages_fault() {
        for text in ["502 5.5.1", "503 5.5.1", "504 5.5.4"] {
            for phase in [Phase::Mail, Phase::Recipient, Phase::Data] {
                assert_eq!(judge(phase, &reply(text), &[]), Judgement::Broken, "{phase:?} {text}");
            }
            assert_eq!(judge(Phase::EndOfData, &reply(text), &[]), Judgement::Never, "{text}");
        }
    }

    #[test]
    fn too_many_recipients_is_told_from_a_full_mailbox() {
        for (text, expected) in [
            ("452 4.5.3", Judgement::TooMany),
            ("452", Judgement::TooMany),
            ("552", Judgement::TooMany),
            ("552 5.5.3", Judgement::TooMany),
            ("552 5.2.2", Judgement::Never),
            ("452 4.2.2", Judgement::Later),
        ] {
            assert_eq!(judge(Phase::Recipient, &reply(text), &[]), expected, "{text}");
        }
        assert_eq!(judge(Phase::EndOfData, &reply("552"), &[]), Judgement::Never);
    }
}
