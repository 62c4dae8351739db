//! Delivery status notifications: what a sender is told when a message can't be delivered, not yet, or was handed on to somebody who tells nothing
//! (RFC 3464, RFC 6522, RFC 3834).
//!
//! Three parts: prose for a person (`prose`), fields for a program (`fields`), and the header section (or the whole, small, when asked for) of what
//! was sent. All octets are 7-bit, so that a report goes through any upstream; only a sender whose own address is not ASCII gets one by SMTPUTF8.
//!
//! | what has become of a recipient               | told when NOTIFY (RFC 3461 §4.1, §5.2)    | action (RFC 3464 §2.3.3) |
//! |----------------------------------------------|-------------------------------------------|--------------------------|
//! | refused, given up                            | has FAILURE, or is not there              | failed                   |
//! | waits too long (`warn_after`)                | has DELAY, or is not there                | delayed                  |
//! | waits longer than its sender wanted (`BY=N`) | has DELAY, or is not there (RFC 2852 §4.1.3) | delayed               |
//! | taken by an upstream without DSN             | has SUCCESS                               | relayed                  |
//! | taken by one without DELIVERBY; traced (`T`) | is not NEVER (RFC 2852 §4.1.4)            | relayed                  |
//! | taken by an upstream with DSN                | never by us: the upstream knows who wants | -                        |
//!
//! Never: a report for the null sender (RFC 5321 §4.5.5), on a report, or against NOTIFY; the whole of a message that demanded TLS (RFC 8689 §5);
//! reads a clock or random numbers, which are arguments; repeats an octet of the upstream or the message that could end a line.

use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{MultiPart, SinglePart};
use mail_parser::MessageParser;

use crate::mail::{
    Address, Envelope, ForwardPath, MailParameters, Notify, QueueId, Recipient, RecipientParameters, ReversePath,
};
use crate::queue::{Certainty, Outcome};
use crate::smtp::{Reply, Status};
use crate::sys::WallTime;

mod fields;
pub mod notice;
mod prose;
mod text;

/// Octets of the original header section that a report carries at most.
pub const HEADER_MAX: usize = 64 * 1024;

/// Octets of an original message that a report carries whole at most, when `RET=FULL` asks for it (RFC 3461 §6.2 leaves the limit to us).
pub const WHOLE_MAX: usize = 64 * 1024;

/// Octets of an upstream's reply that a report repeats at most.
const DIAGNOSTIC_MAX: usize = 800;

/// Who reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reporter {
    /// This relay's name.
    pub hostname: String,
    /// The address in the From field.
    pub from: Address,
    /// Who a report comes from for SMTP: nobody (RFC 3464 §2), unless an upstream takes no mail from nobody.
    pub envelope_sender: ReversePath,
    /// Who gets a copy of what is told of failures, and is told of those of which nobody may be.
    pub postmaster: Option<Address>,
}

impl Reporter {
    /// The envelope of mail of our own to somebody. What can't be delivered of it is reported to nobody, here by our own care, beyond by the null
    /// reverse path, or where there is another by NOTIFY (RFC 3461 §6.1).
    pub fn envelope_to(&self, to: &Address) -> Option<Envelope> {
        let parameters = MailParameters { smtputf8: !to.is_ascii(), ..MailParameters::default() };
        self.envelope(to, parameters)
    }

    fn envelope(&self, to: &Address, parameters: MailParameters) -> Option<Envelope> {
        let notify = (self.envelope_sender != ReversePath::Null).then_some(Notify::NEVER);
        let recipient = Recipient {
            forward_path: ForwardPath::Address(to.clone()),
            parameters: RecipientParameters { notify, orcpt: None },
        };
        Envelope::new(self.envelope_sender.clone(), parameters, vec![recipient])
    }
}

/// What the report is about.
#[derive(Clone, Debug)]
pub struct Original<'a> {
    /// Its name in the queue.
    pub id: QueueId,
    /// Who sent it, to whom, and what was asked.
    pub envelope: &'a Envelope,
    /// When it was taken into custody.
    pub arrived: WallTime,
    /// Its header section, with or without the empty line behind it.
    pub header: &'a [u8],
    /// The whole message, when it is at hand and no larger than [`WHOLE_MAX`].
    pub whole: Option<&'a [u8]>,
}

/// What there is to say of a recipient.
#[derive(Clone, Debug)]
pub struct Reported<'a> {
    /// Its place in the envelope.
    pub place: usize,
    /// What has become of it.
    pub fate: Fate,
    /// What came of the last attempt.
    pub outcome: &'a Outcome,
    /// Whether the recipient may have it all the same: an upstream got the final dot and never answered.
    pub certainty: Certainty,
    /// The host name of the upstream that was tried last.
    pub upstream: Option<&'a str>,
    /// When it was tried last; none when it never was.
    pub last_attempt: Option<WallTime>,
}

/// What has become of a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was refused for good.
    Failed,
    /// It was tried for too long (`give_up_after`).
    GaveUp,
    /// It is still tried (`warn_after`).
    Delayed {
        /// Until when.
        until: WallTime,
    },
    /// It is still tried, beyond the time that its sender gave (RFC 2852 §4, `N`).
    Overdue {
        /// Until when.
        until: WallTime,
    },
    /// An upstream has it that will not tell what its sender wants to know (RFC 3461 §5.2.2, RFC 2852 §4.1.4).
    Relayed,
}

impl Fate {
    /// Whether it is a failure: what the sender must not miss.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Failed | Self::GaveUp)
    }

    fn until(self) -> Option<WallTime> {
        match self {
            Self::Delayed { until } | Self::Overdue { until } => Some(until),
            Self::Failed | Self::GaveUp | Self::Relayed => None,
        }
    }
}

/// Whether the sender may be told this of a recipient.
pub fn may_be_told(recipient: &Recipient, fate: Fate) -> bool {
    let asked = recipient.parameters.notify;
    let notify = asked.unwrap_or(Notify::DEFAULT);
    match fate {
        Fate::Failed | Fate::GaveUp => notify.failure,
        // RFC 3461 §5.2.5, RFC 2852 §4.1.3.
        Fate::Delayed { .. } | Fate::Overdue { .. } => notify.delay,
        // Of what is told unasked it is enough that nobody forbade it; of the rest see `is_to_be_told_relayed`.
        Fate::Relayed => asked != Some(Notify::NEVER),
    }
}

/// Whether the sender is told that an upstream has the message for a recipient: what it wanted to know, or done in time, and the upstream does not
/// know of it. `reports`, `deadline`: what the upstream has taken over (RFC 3461 §5.2.2, RFC 2852 §4.1.4); `now`: when it was handed on.
pub fn is_to_be_told_relayed(
    envelope: &Envelope,
    recipient: &Recipient,
    (reports, deadline): (bool, bool),
    now: WallTime,
) -> bool {
    let by = envelope.parameters().deliver_by;
    let unheard = recipient.parameters.notify.is_some_and(|notify| notify.success) && !reports;
    let untimed = by.is_some_and(|by| by.trace || (!by.or_return && !deadline && now < by.deadline));
    unheard || (untimed && may_be_told(recipient, Fate::Relayed))
}

/// A report, ready for the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// From nobody (RFC 3464 §2), to the sender.
    pub envelope: Envelope,
    /// The message.
    pub octets: Vec<u8>,
    /// Its Message-ID, in angle brackets.
    pub message_id: String,
    /// Places of the recipients that it tells of.
    pub told: Vec<usize>,
    /// Places of those that NOTIFY keeps it from telling of.
    pub untold: Vec<usize>,
}

/// Why there is no report. With a failure, the message is then set aside as dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoReport {
    /// There is nobody to tell (RFC 5321 §4.5.5).
    #[error("its sender is <>, to whom nothing is reported")]
    NullSender,
    /// NOTIFY forbids it for every recipient (RFC 3461 §4.1).
    #[error("NOTIFY forbids a report")]
    NotWanted,
    /// It could not be put together; a fault of this program.
    #[error("the report could not be composed")]
    NotComposed,
}

/// Writes the report. `now` is its date; `random` makes boundary and Message-ID unique.
pub fn compose(
    reporter: &Reporter,
    original: &Original<'_>,
    recipients: &[Reported<'_>],
    now: WallTime,
    random: u128,
) -> Result<Report, NoReport> {
    let ReversePath::Address(sender) = original.envelope.reverse_path() else {
        return Err(NoReport::NullSender);
    };
    let entries: Vec<Entry<'_>> = recipients.iter().filter_map(|one| Entry::of(original, one)).collect();
    let (told, untold): (Vec<_>, Vec<_>) = entries.into_iter().partition(Entry::is_wanted);
    if told.is_empty() {
        return Err(NoReport::NotWanted);
    }
    let place = |entry: &Entry<'_>| entry.reported.place;
    let untold = untold.iter().map(place).collect();
    let draft = Draft { reporter, original, to: sender, reader: Reader::Sender, told: &told };
    draft.report(now, random, untold).ok_or(NoReport::NotComposed)
}

/// Writes the postmaster's copy: of the failures alone, those included of which the sender may not be told (RFC 3461 §5.2), without anything of the
/// message but its header section. None when there is no postmaster, or no failure.
pub fn compose_copy(
    reporter: &Reporter,
    original: &Original<'_>,
    recipients: &[Reported<'_>],
    now: WallTime,
    random: u128,
) -> Option<Report> {
    let postmaster = reporter.postmaster.as_ref()?;
    let failed = recipients.iter().filter(|one| one.fate.is_failure());
    let told: Vec<Entry<'_>> = failed.filter_map(|one| Entry::of(original, one)).collect();
    if told.is_empty() {
        return None;
    }
    let draft = Draft { reporter, original, to: postmaster, reader: Reader::Postmaster, told: &told };
    draft.report(now, random, Vec::new())
}

/// A recipient of the original with what is to be said of it.
struct Entry<'a> {
    reported: &'a Reported<'a>,
    recipient: &'a Recipient,
}

impl<'a> Entry<'a> {
    fn of(original: &Original<'a>, reported: &'a Reported<'a>) -> Option<Self> {
        Some(Self { reported, recipient: original.envelope.recipients().get(reported.place)? })
    }

    fn is_wanted(&self) -> bool {
        may_be_told(self.recipient, self.reported.fate)
    }

    fn address(&self) -> &str {
        self.recipient.forward_path.as_str()
    }

    fn reply(&self) -> Option<&Reply> {
        match self.reported.outcome {
            Outcome::Delivered { reply } => Some(reply),
            Outcome::Deferred { reply, .. } | Outcome::Failed { reply, .. } => reply.as_ref(),
        }
    }

    /// The reason without the status that may stand before it.
    fn reason(&self) -> &str {
        match self.reported.outcome {
            Outcome::Delivered { .. } => "",
            Outcome::Deferred { reason, .. } | Outcome::Failed { reason, .. } => {
                text::leading_status(reason).map_or(reason.as_str(), |(_, rest)| rest)
            }
        }
    }

    /// Whether it is unknown where the message is, and will stay so. RFC 3464 §2.3.3 has no action for that: "failed" it is, because it also says
    /// that nothing more is tried and no further report comes.
    fn is_unknown(&self) -> bool {
        self.reported.fate == Fate::GaveUp && self.may_have_arrived()
    }

    fn may_have_arrived(&self) -> bool {
        self.reported.certainty == Certainty::Undetermined
    }

    /// RFC 3463: what the upstream said, or what the reason begins with, in the class that the fate demands (RFC 3464 §2.3.4).
    fn status(&self) -> Status {
        let class = match self.reported.fate {
            Fate::Failed => 5,
            // RFC 3463 §2: class 5 says that it can't be delivered, which nobody knows, and has programs strike the address off their lists. Class 4
            // with a failure says that attempts were abandoned.
            Fate::GaveUp if self.is_unknown() => return Status::known(4, 4, 7),
            // RFC 3463 §3.5: delivery time expired.
            Fate::GaveUp => return Status::known(5, 4, 7),
            // RFC 3463 §3.5: the time that the sender gave has expired, and it is tried all the same.
            Fate::Overdue { .. } => return Status::known(4, 4, 7),
            Fate::Delayed { .. } => 4,
            Fate::Relayed => 2,
        };
        let said = self.reply().and_then(Reply::status);
        let ours = || match self.reported.outcome {
            Outcome::Deferred { reason, .. } | Outcome::Failed { reason, .. } => {
                text::leading_status(reason).map(|(status, _)| status)
            }
            Outcome::Delivered { .. } => None,
        };
        said.or_else(ours)
            .and_then(|status| Status::new(class, status.subject(), status.detail()))
            .unwrap_or(Status::known(class, 0, 0))
    }

    fn action(&self) -> &'static str {
        match self.reported.fate {
            Fate::Failed | Fate::GaveUp => "failed",
            Fate::Delayed { .. } | Fate::Overdue { .. } => "delayed",
            Fate::Relayed => "relayed",
        }
    }
}

/// Whom a report is written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    Sender,
    Postmaster,
}

struct Draft<'a> {
    reporter: &'a Reporter,
    original: &'a Original<'a>,
    to: &'a Address,
    reader: Reader,
    told: &'a [Entry<'a>],
}

impl Draft<'_> {
    fn report(&self, now: WallTime, random: u128, untold: Vec<usize>) -> Option<Report> {
        let message_id = format!("<{random:032x}@{}>", self.reporter.hostname);
        let parameters = MailParameters {
            smtputf8: !self.to.is_ascii(),
            // RFC 8689 §5: what is said of such a message is protected as it was; or says nothing of it.
            require_tls: self.original.envelope.parameters().require_tls && !self.is_redacted(),
            // RFC 6710 §4.6.
            priority: self.original.envelope.parameters().priority,
            ..MailParameters::default()
        };
        Some(Report {
            envelope: self.reporter.envelope(self.to, parameters)?,
            octets: self.compose(&message_id, now, random)?,
            message_id,
            told: self.told.iter().map(|entry| entry.reported.place).collect(),
            untold,
        })
    }

    /// RFC 8689 §5 lets only mail from nobody go where REQUIRETLS is not known. A report that comes from somebody could be lost there; so it holds
    /// nothing of a message that demanded TLS.
    fn is_redacted(&self) -> bool {
        self.original.envelope.parameters().require_tls && self.reporter.envelope_sender != ReversePath::Null
    }

    fn compose(&self, message_id: &str, now: WallTime, random: u128) -> Option<Vec<u8>> {
        let kind = format!("multipart/report; report-type=delivery-status; boundary=\"report-{random:032x}\"");
        let mut report = MultiPart::builder()
            .header(ContentType::parse(&kind).ok()?)
            .singlepart(SinglePart::plain(self.prose()))
            .singlepart(self.status_part()?);
        if !self.is_redacted() {
            report = report.singlepart(self.returned()?);
        }
        for (name, value) in [
            ("Date", now.rfc5322()),
            ("From", format!("Mail Delivery System <{}>", self.reporter.from)),
            ("To", format!("<{}>", self.to)),
            ("Subject", self.subject().to_owned()),
            ("Message-ID", message_id.to_owned()),
            // RFC 3834 §3.1.7, §5: programs are not to answer it.
            ("Auto-Submitted", "auto-replied".to_owned()),
            ("MIME-Version", "1.0".to_owned()),
        ] {
            set(&mut report, name, value)?;
        }
        if let Some(original) = self.original_message_id().filter(|_| !self.is_redacted()) {
            set(&mut report, "In-Reply-To", original.clone())?;
            set(&mut report, "References", original)?;
        }
        Some(report.formatted())
    }

    fn original_message_id(&self) -> Option<String> {
        let message = MessageParser::new().parse_headers(self.original.header)?;
        let id = message.message_id()?;
        let clean = id.len() <= 200 && id.bytes().all(|octet| octet.is_ascii_graphic() && !b"<>".contains(&octet));
        clean.then(|| format!("<{id}>"))
    }
}

/// A field whose value is ready for the wire: lettre would encode the sender's UTF-8 address, which RFC 6532 wants as it is.
fn set(report: &mut MultiPart, name: &str, value: String) -> Option<()> {
    let name = HeaderName::new_from_ascii(name.to_owned()).ok()?;
    report.headers_mut().insert_raw(HeaderValue::dangerous_new_pre_encoded(name, value.clone(), value));
    Some(())
}

#[cfg(test)]
mod tests;
