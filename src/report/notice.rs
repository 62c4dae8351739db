//! A notice to a client whose certificate ends soon (`notices.expiry`): mail of our own, from nobody, so that it is never reported on.

use lettre::message::SinglePart;

use super::Reporter;
use super::text::{one_line, wrapped};
use crate::mail::{Address, Envelope};
use crate::sys::WallTime;

/// Octets of a name that a notice repeats at most.
const NAME_MAX: usize = 200;

/// The certificate that ends.
#[derive(Clone, Copy, Debug)]
pub struct Ending<'a> {
    /// Whose it is.
    pub identity: &'a str,
    /// Where to.
    pub to: &'a Address,
    /// Its serial, hexadecimal.
    pub serial: &'a str,
    /// Its subject, for people.
    pub subject: &'a str,
    /// Its issuer, for people.
    pub issuer: &'a str,
    /// When it ends.
    pub at: WallTime,
    /// Whole days until then.
    pub days_left: i64,
}

/// A notice, ready for the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// From nobody, to the certificate's address.
    pub envelope: Envelope,
    /// The message.
    pub octets: Vec<u8>,
    /// Its Message-ID, in angle brackets.
    pub message_id: String,
}

/// Writes the notice; none when it can't be put together, which is a fault of this program. `now` is its date; `random` makes its Message-ID unique.
pub fn compose(reporter: &Reporter, ending: &Ending<'_>, now: WallTime, random: u128) -> Option<Notice> {
    let message_id = format!("<{random:032x}@{}>", reporter.hostname);
    let fields = [
        ("Date", now.rfc5322()),
        ("From", format!("Mail Delivery System <{}>", reporter.from)),
        ("To", format!("<{}>", ending.to)),
        ("Subject", format!("Your certificate for mail ends {}", when(ending.days_left))),
        ("Message-ID", message_id.clone()),
        // RFC 3834 §5: no answer to anything, and programs are not to answer it.
        ("Auto-Submitted", "auto-generated".to_owned()),
        ("MIME-Version", "1.0".to_owned()),
    ];
    let mut octets: Vec<u8> =
        fields.iter().flat_map(|(name, value)| format!("{name}: {value}\r\n").into_bytes()).collect();
    octets.extend(SinglePart::plain(prose(reporter, ending)).formatted());
    Some(Notice { envelope: reporter.envelope_to(ending.to)?, octets, message_id })
}

fn when(days_left: i64) -> String {
    match days_left {
        ..=0 => "within a day".to_owned(),
        1 => "in 1 day".to_owned(),
        days => format!("in {days} days"),
    }
}

fn prose(reporter: &Reporter, ending: &Ending<'_>) -> String {
    let host = &reporter.hostname;
    let name = |text: &str| one_line(text, NAME_MAX);
    let opening = format!(
        "This is the mail relay {host}. The certificate with which you send mail here ends on {}, {}. From then on your mail is refused.",
        ending.at.rfc5322(),
        when(ending.days_left)
    );
    let advice = "Get a new certificate from whoever gave you this one, put it into your mail program or machine, and send one message with it. If \
        this does not tell you what to do, show it to the people who look after your computer.";
    let rows = [
        ("Known as", name(ending.identity)),
        ("Subject", name(ending.subject)),
        ("Issuer", name(ending.issuer)),
        ("Serial", name(ending.serial)),
    ];
    let mut text = wrapped(&opening, "");
    text.push('\n');
    text.push_str(&wrapped(advice, ""));
    text.push('\n');
    for (label, value) in rows {
        text.push_str(&wrapped(&format!("{label:<10}{value}"), "  "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_says_what_ends_when_and_what_to_do_and_asks_for_no_answer() {
        let reporter = Reporter {
            hostname: "relay.example.com".to_owned(),
            from: Address::parse("postmaster@example.com").unwrap(),
            envelope_sender: crate::mail::ReversePath::Null,
            postmaster: None,
        };
        let to = Address::parse("alice@example.com").unwrap();
        let ending = Ending {
            identity: "staff:alice@example.com",
            to: &to,
            serial: "0a1b",
            subject: "CN=Alice\r\nBcc: eve@example.net",
            issuer: "CN=Staff",
            at: WallTime::from_seconds(1_795_484_880),
            days_left: 7,
        };
        let notice = compose(&reporter, &ending, WallTime::from_seconds(1_794_880_080), 7).unwrap();
        let text = String::from_utf8(notice.octets).unwrap();
        for wanted in [
            "From: Mail Delivery System <postmaster@example.com>\r\n",
            "To: <alice@example.com>\r\n",
            "Subject: Your certificate for mail ends in 7 days\r\n",
            "Auto-Submitted: auto-generated\r\n",
            "Tue, 24 Nov 2026",
            "0a1b",
            "staff:alice@example.com",
        ] {
            assert!(text.contains(wanted), "{wanted:?} in {text}");
        }
        assert!(!text.contains("\nBcc"), "{text}");
        assert!(text.lines().all(|line| line.len() < 80), "{text}");
        assert_eq!(*notice.envelope.reverse_path(), crate::mail::ReversePath::Null);
    }
}
