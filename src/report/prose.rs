//! What a report says to a person.
//!
//! Recipients of one fate stand together, the worst first, each lot behind a sentence about it. Never: more of the upstream's words than
//! [`DIAGNOSTIC_MAX`] octets.

use mail_parser::MessageParser;

use super::text::{advice, one_line, wrapped};
use super::{DIAGNOSTIC_MAX, Draft, Entry, Fate, IN_FULL_MAX, Reader};

/// Recipients to whom the same has happened; the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lot {
    Failed,
    Unknown,
    Late,
    Relayed,
}

impl Lot {
    const ALL: [Self; 4] = [Self::Failed, Self::Unknown, Self::Late, Self::Relayed];

    fn of(entry: &Entry<'_>) -> Self {
        match entry.reported.fate {
            Fate::GaveUp if entry.is_unknown() => Self::Unknown,
            Fate::Failed | Fate::GaveUp => Self::Failed,
            Fate::Delayed { .. } | Fate::Overdue { .. } => Self::Late,
            Fate::Relayed => Self::Relayed,
        }
    }

    fn subject(self) -> &'static str {
        match self {
            Self::Failed => "Your message could not be delivered",
            Self::Unknown => "It is not known whether your message was delivered",
            Self::Late => "Your message is delayed",
            Self::Relayed => "Your message was handed on",
        }
    }

    fn sentence(self, whom: &str) -> String {
        match self {
            Self::Failed => format!("Your message could not be delivered to {whom} and will not be tried again."),
            Self::Unknown => format!(
                "It is not known whether your message reached {whom}: the next mail server took all of it, and never said what became of it. It \
                 will not be tried again."
            ),
            Self::Late => {
                format!("Your message has not reached {whom} yet. You need not send it again: it is still being tried.")
            }
            Self::Relayed => format!(
                "Your message was handed on to the next mail server for {whom}. Do not wait for more: that server need not say when it is delivered."
            ),
        }
    }

    /// Whether somebody who reads it must be told that the others are well.
    fn leaves_others_in_doubt(self) -> bool {
        matches!(self, Self::Failed | Self::Unknown)
    }
}

impl Draft<'_> {
    /// Of the worst that is told.
    pub(super) fn subject(&self) -> &'static str {
        match (self.reader, self.worst()) {
            (Reader::Postmaster, _) => "Copy for the postmaster: a message could not be delivered",
            (Reader::Sender, lot) => lot.subject(),
        }
    }

    fn worst(&self) -> Lot {
        let there = |lot: &Lot| self.told.iter().any(|entry| Lot::of(entry) == *lot);
        Lot::ALL.into_iter().find(there).unwrap_or(Lot::Relayed)
    }

    pub(super) fn prose(&self) -> String {
        let mut text = String::new();
        let (mut opening, mut left) = (self.greeting(), IN_FULL_MAX);
        for lot in Lot::ALL {
            let entries: Vec<&Entry<'_>> = self.told.iter().filter(|entry| Lot::of(entry) == lot).collect();
            if entries.is_empty() {
                continue;
            }
            if !text.is_empty() {
                text.push('\n');
            }
            let whom = if entries.len() == 1 { "this recipient" } else { "these recipients" };
            opening.push_str(&lot.sentence(whom));
            if lot.leaves_others_in_doubt() && lot == self.worst() {
                opening.push_str(" Recipients that are not named here are not concerned.");
            }
            text.push_str(&wrapped(&opening, ""));
            opening.clear();
            let named = entries.len().min(left);
            left = left.saturating_sub(named);
            for entry in entries.iter().take(named) {
                text.push('\n');
                text.push_str(&self.paragraph(entry));
            }
            if named < entries.len() {
                text.push('\n');
                text.push_str(&wrapped(&others(entries.len().saturating_sub(named), named == 0), "  "));
            }
        }
        text.push('\n');
        text.push_str(&self.closing());
        text
    }

    fn greeting(&self) -> String {
        let host = &self.reporter.hostname;
        let sender = match self.original.envelope.reverse_path().as_str() {
            "" => "<>".to_owned(),
            sender => one_line(sender, DIAGNOSTIC_MAX),
        };
        match self.reader {
            Reader::Sender => format!("This is the mail relay {host}. "),
            Reader::Postmaster => format!(
                "This is the mail relay {host}, with a copy for its postmaster. The words below are meant for the sender, {sender}, who hears them where \
                 that is permitted. "
            ),
        }
    }

    fn closing(&self) -> String {
        let (host, arrived, id) = (&self.reporter.hostname, self.original.arrived.rfc5322(), self.original.id);
        let mut text =
            wrapped(&format!("Your message was accepted by {host} on {arrived} under the reference {id}."), "");
        if let Some(subject) = self.original_subject().filter(|_| !self.is_redacted()) {
            text.push_str(&wrapped(&format!("Its subject: {subject}"), ""));
        }
        text.push('\n');
        let beginning = if self.is_redacted() { "" } else { ", and the beginning of your message" };
        text.push_str(&wrapped(
            &format!(
                "Below are the details for your mail program or your help desk{beginning}. If this does not tell you what to do, show it whole to \
                 the people who run {host}."
            ),
            "",
        ));
        text
    }

    fn paragraph(&self, entry: &Entry<'_>) -> String {
        let mut text = format!("  To:      {}\n", one_line(entry.address(), DIAGNOSTIC_MAX));
        let mut line = |label: &str, value: &str| {
            text.push_str(&wrapped(&format!("{label:<9}{value}"), "  "));
        };
        if entry.reported.fate != Fate::Relayed {
            line("Reason:", &sentence(entry.reason()));
        }
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
            Fate::Overdue { until } => line(
                "Advice:",
                &format!("The time that you gave (BY) is over. Nothing to do; it is tried until {}.", until.rfc5322()),
            ),
            Fate::GaveUp if self.was_to_be_returned() => {
                line("Advice:", "It was tried for as long as you allowed (BY). Reach the recipient another way.")
            }
            Fate::GaveUp => line(
                "Advice:",
                "It was tried for as long as this relay tries. Reach the recipient another way, or send it again later.",
            ),
            Fate::Failed => line("Advice:", advice(entry.status())),
            Fate::Relayed => {}
        }
        text
    }

    fn was_to_be_returned(&self) -> bool {
        self.original.envelope.parameters().deliver_by.is_some_and(|by| by.or_return)
    }

    fn original_subject(&self) -> Option<String> {
        let message = MessageParser::new().parse_headers(self.original.header)?;
        Some(one_line(message.subject()?, 200)).filter(|subject| !subject.is_empty())
    }
}

/// Those of a lot that are not named.
fn others(count: usize, is_all: bool) -> String {
    let more = if is_all { "" } else { "more " };
    let whom = if count == 1 { "recipient" } else { "recipients" };
    format!("{count} {more}{whom}: too many to be named here. The details below name each.")
}

/// What is said to operators and programs, and what a sender understands of it.
const PLAIN: [(&str, &str); 4] = [
    ("the upstream", "the next mail server"),
    ("an upstream", "the next mail server"),
    ("the recipient (RCPT)", "the recipient"),
    ("the sender (MAIL)", "the sender"),
];

/// With a capital and a full stop, in words for people.
fn sentence(reason: &str) -> String {
    let reason = one_line(reason, DIAGNOSTIC_MAX);
    let reason = PLAIN.iter().fold(reason, |reason, (ours, plain)| reason.replace(ours, plain));
    let mut letters = reason.chars();
    let first: String = letters.next().map(|letter| letter.to_uppercase().collect()).unwrap_or_default();
    let stop = if reason.ends_with('.') { "" } else { "." };
    format!("{first}{}{stop}", letters.as_str())
}
