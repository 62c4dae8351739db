//! Delivery status notifications: what a sender is told when a message can't be delivered, or not yet (RFC 3464, RFC 6522, RFC 3834).
//!
//! Three parts: prose for a person, fields for a program, and the header section (or the whole, small, when asked for) of what was sent.
//! All octets are 7-bit, so that a report goes through any upstream; only a sender whose own address is not ASCII gets one by SMTPUTF8.
//!
//! Never: a report for the null sender (RFC 5321 §4.5.5) or against NOTIFY (RFC 3461 §4.1); reads a clock or random numbers, which are
//! arguments; repeats an octet of the upstream or the message that could end a line.

use lettre::message::header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue};
use lettre::message::{Body, MultiPart, SinglePart};
use mail_parser::MessageParser;

use crate::mail::{
    Address, Envelope, MailParameters, Notify, QueueId, Recipient, RecipientParameters, Ret, ReversePath,
};
use crate::queue::{Certainty, Outcome};
use crate::smtp::{Reply, Status};
use crate::sys::WallTime;

pub mod notice;
mod text;

use text::{advice, cut_at_line, field, from_xtext, is_seven_bit, one_line, utf8_as_ascii, wrapped};

/// Octets of the original header section that a report carries at most.
pub const HEADER_MAX: usize = 64 * 1024;

/// Octets of an original message that a report carries whole at most, when `RET=FULL` asks for it (RFC 3461 §4.3 leaves the limit to us).
pub const WHOLE_MAX: usize = 64 * 1024;

/// Octets of an upstream's reply that a report repeats at most.
const DIAGNOSTIC_MAX: usize = 800;

/// Who reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reporter {
    /// This relay's name.
    pub hostname: String,
    /// The address in the From field; the envelope's sender is always `<>`.
    pub from: Address,
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
    let message_id = format!("<{random:032x}@{}>", reporter.hostname);
    let draft = Draft { hostname: &reporter.hostname, from: &reporter.from, original, sender, told: &told };
    let octets = draft.compose(&message_id, now, random).ok_or(NoReport::NotComposed)?;
    let place = |entry: &Entry<'_>| entry.reported.place;
    Ok(Report {
        envelope: envelope_to(sender).ok_or(NoReport::NotComposed)?,
        octets,
        message_id,
        told: told.iter().map(place).collect(),
        untold: untold.iter().map(place).collect(),
    })
}

/// Null reverse path: what can't be delivered of a report is never reported.
fn envelope_to(sender: &Address) -> Option<Envelope> {
    let parameters = MailParameters { smtputf8: !sender.is_ascii(), ..MailParameters::default() };
    let recipient = Recipient {
        forward_path: crate::mail::ForwardPath::Address(sender.clone()),
        parameters: RecipientParameters::default(),
    };
    Envelope::new(ReversePath::Null, parameters, vec![recipient])
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
        let notify = self.recipient.parameters.notify.unwrap_or(Notify::DEFAULT);
        match self.reported.fate {
            Fate::Failed | Fate::GaveUp => notify.failure,
            Fate::Delayed { .. } => notify.delay,
        }
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
            Fate::Delayed { .. } => 4,
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
            Fate::Delayed { .. } => "delayed",
        }
    }
}

struct Draft<'a> {
    hostname: &'a str,
    from: &'a Address,
    original: &'a Original<'a>,
    sender: &'a Address,
    told: &'a [Entry<'a>],
}

impl Draft<'_> {
    fn compose(&self, message_id: &str, now: WallTime, random: u128) -> Option<Vec<u8>> {
        let kind = format!("multipart/report; report-type=delivery-status; boundary=\"report-{random:032x}\"");
        let mut report = MultiPart::builder()
            .header(ContentType::parse(&kind).ok()?)
            .singlepart(SinglePart::plain(self.prose()))
            .singlepart(part("message/delivery-status", self.fields().into_bytes())?)
            .singlepart(self.returned()?);
        let subject = if self.is_delay() {
            "Your message is delayed"
        } else if self.is_unknown() {
            "It is not known whether your message was delivered"
        } else {
            "Your message could not be delivered"
        };
        for (name, value) in [
            ("Date", now.rfc5322()),
            ("From", format!("Mail Delivery System <{}>", self.from)),
            ("To", format!("<{}>", self.sender)),
            ("Subject", subject.to_owned()),
            ("Message-ID", message_id.to_owned()),
            // RFC 3834 §3.1.7, §5: programs are not to answer it.
            ("Auto-Submitted", "auto-replied".to_owned()),
            ("MIME-Version", "1.0".to_owned()),
        ] {
            set(&mut report, name, value)?;
        }
        if let Some(original) = self.original_message_id() {
            set(&mut report, "In-Reply-To", original.clone())?;
            set(&mut report, "References", original)?;
        }
        Some(report.formatted())
    }

    fn is_delay(&self) -> bool {
        self.told.iter().all(|entry| matches!(entry.reported.fate, Fate::Delayed { .. }))
    }

    fn is_unknown(&self) -> bool {
        self.told.iter().all(Entry::is_unknown)
    }

    fn original_message_id(&self) -> Option<String> {
        let message = MessageParser::new().parse_headers(self.original.header)?;
        let id = message.message_id()?;
        let clean = id.len() <= 200 && id.bytes().all(|octet| octet.is_ascii_graphic() && !b"<>".contains(&octet));
        clean.then(|| format!("<{id}>"))
    }

    // For a person.

    fn prose(&self) -> String {
        let mut text = wrapped(&self.opening(), "");
        for entry in self.told {
            text.push('\n');
            text.push_str(&self.paragraph(entry));
        }
        let (host, arrived, id) = (self.hostname, self.original.arrived.rfc5322(), self.original.id);
        text.push('\n');
        text.push_str(&wrapped(
            &format!("Your message was accepted by {host} on {arrived} under the reference {id}."),
            "",
        ));
        if let Some(subject) = self.original_subject() {
            text.push_str(&wrapped(&format!("Its subject: {subject}"), ""));
        }
        text.push('\n');
        text.push_str(&wrapped(
            &format!(
                "Below are the details for your mail program or your help desk, and the beginning of your message. If this does not tell \
                 you what to do, show it whole to the people who run {}.",
                self.hostname
            ),
            "",
        ));
        text
    }

    fn opening(&self) -> String {
        let host = self.hostname;
        let whom = if self.told.len() == 1 { "this recipient" } else { "these recipients" };
        if self.is_delay() {
            format!(
                "This is the mail relay {host}. Your message has not reached {whom} yet. You need not send it again: it is still \
                 being tried."
            )
        } else if self.is_unknown() {
            format!(
                "This is the mail relay {host}. It is not known whether your message reached {whom}: the next mail server took all of it, and never \
                 said what became of it. It will not be tried again. Recipients that are not named here are not concerned."
            )
        } else {
            format!(
                "This is the mail relay {host}. Your message could not be delivered to {whom} and will not be tried again. Recipients \
                 that are not named here are not concerned."
            )
        }
    }

    fn paragraph(&self, entry: &Entry<'_>) -> String {
        let mut text = format!("  To:      {}\n", one_line(entry.address(), DIAGNOSTIC_MAX));
        let mut line = |label: &str, value: &str| {
            text.push_str(&wrapped(&format!("{label:<9}{value}"), "  "));
        };
        line("Reason:", &sentence(entry.reason()));
        if let Some(reply) = entry.reply() {
            line("It said:", &one_line(&reply.to_string(), DIAGNOSTIC_MAX));
        }
        if entry.may_have_arrived() {
            line("But:", "It may have arrived: in one attempt the next mail server took all of it and never answered.");
        }
        match entry.reported.fate {
            Fate::GaveUp if entry.is_unknown() => {
                line("Advice:", "Ask the recipient whether it came before you send it again.")
            }
            Fate::Delayed { until } => {
                line("Advice:", &format!("Nothing to do; it is tried until {}.", until.rfc5322()))
            }
            Fate::GaveUp => line(
                "Advice:",
                "It was tried for as long as this relay tries. Reach the recipient another way, or send it again later.",
            ),
            Fate::Failed => line("Advice:", advice(entry.status())),
        }
        text
    }

    fn original_subject(&self) -> Option<String> {
        let message = MessageParser::new().parse_headers(self.original.header)?;
        Some(one_line(message.subject()?, 200)).filter(|subject| !subject.is_empty())
    }

    // For a program: RFC 3464 §2.

    fn fields(&self) -> String {
        let mut fields = field("Reporting-MTA", &format!("dns; {}", self.hostname));
        // RFC 3464 §2.2.1: the envelope id as the sender wrote it, before xtext.
        if let Some(envid) = self.original.envelope.parameters().envid.as_deref().and_then(from_xtext) {
            fields.push_str(&field("Original-Envelope-Id", &envid));
        }
        fields.push_str(&field("X-Sealpost-Queue-ID", &self.original.id.to_string()));
        fields.push_str(&field("Arrival-Date", &self.original.arrived.rfc5322()));
        for entry in self.told {
            fields.push_str("\r\n");
            fields.push_str(&recipient_fields(entry));
        }
        fields
    }

    // What was sent: the third part of RFC 6522 §3.

    fn returned(&self) -> Option<SinglePart> {
        let wants_whole = self.original.envelope.parameters().ret == Some(Ret::Full);
        if let Some(whole) =
            self.original.whole.filter(|whole| wants_whole && whole.len() <= WHOLE_MAX && is_seven_bit(whole))
        {
            return part("message/rfc822", whole.to_vec());
        }
        let header = cut_at_line(self.original.header, HEADER_MAX);
        if is_seven_bit(header) {
            return part("text/rfc822-headers", header.to_vec());
        }
        // RFC 6533 §6: headers with UTF-8, in an encoding that is 7-bit on the way.
        let kind = ContentType::parse("message/global-headers; charset=utf-8").ok()?;
        Some(SinglePart::builder().content_type(kind).body(Body::new(header.to_vec())))
    }
}

fn recipient_fields(entry: &Entry<'_>) -> String {
    let mut fields = String::new();
    if let Some(original) = &entry.recipient.parameters.orcpt
        && let Some(address) = from_xtext(&original.address)
    {
        fields.push_str(&field("Original-Recipient", &format!("{}; {address}", original.address_type)));
    }
    fields.push_str(&field("Final-Recipient", &typed(entry.address())));
    fields.push_str(&field("Action", entry.action()));
    fields.push_str(&field("Status", &entry.status().to_string()));
    if let Some(upstream) = entry.reported.upstream {
        fields.push_str(&field("Remote-MTA", &format!("dns; {upstream}")));
    }
    if let Some(reply) = entry.reply() {
        fields.push_str(&field("Diagnostic-Code", &format!("smtp; {}", one_line(&reply.to_string(), DIAGNOSTIC_MAX))));
    }
    if let Some(at) = entry.reported.last_attempt {
        fields.push_str(&field("Last-Attempt-Date", &at.rfc5322()));
    }
    if let Fate::Delayed { until } = entry.reported.fate {
        fields.push_str(&field("Will-Retry-Until", &until.rfc5322()));
    }
    fields
}

/// The address with its type: `rfc822`, or `utf-8` in the 7-bit form of RFC 6533 §3.
fn typed(address: &str) -> String {
    if address.is_ascii() { format!("rfc822; {address}") } else { format!("utf-8; {}", utf8_as_ascii(address)) }
}

/// With a capital and a full stop.
fn sentence(reason: &str) -> String {
    let reason = one_line(reason, DIAGNOSTIC_MAX);
    let mut letters = reason.chars();
    let first: String = letters.next().map(|letter| letter.to_uppercase().collect()).unwrap_or_default();
    let stop = if reason.ends_with('.') { "" } else { "." };
    format!("{first}{}{stop}", letters.as_str())
}

fn part(kind: &str, octets: Vec<u8>) -> Option<SinglePart> {
    let body = Body::dangerous_pre_encoded(octets, ContentTransferEncoding::SevenBit);
    Some(SinglePart::builder().content_type(ContentType::parse(kind).ok()?).body(body))
}

/// A field whose value is ready for the wire: lettre would encode the sender's UTF-8 address, which RFC 6532 wants as it is.
fn set(report: &mut MultiPart, name: &str, value: String) -> Option<()> {
    let name = HeaderName::new_from_ascii(name.to_owned()).ok()?;
    report.headers_mut().insert_raw(HeaderValue::dangerous_new_pre_encoded(name, value.clone(), value));
    Some(())
}

#[cfg(test)]
mod tests;
