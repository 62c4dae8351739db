//! What is said to an upstream of what the sender asked for, and what does not go to it at all.

use super::*;
use crate::mail::{
    Address, DeliverBy, Envelope, ForwardPath, MailParameters, Notify, OriginalRecipient, RecipientParameters, Ret,
    ReversePath,
};
use crate::smtp::Code;
use crate::sys::WallTime;

const NOW: WallTime = WallTime::from_seconds(1_800_000_000);

fn offered(lines: &[&str]) -> Offered {
    let lines = std::iter::once("up.example.net").chain(lines.iter().copied()).map(str::to_owned);
    Offered::from_ehlo(&Reply::multiline(Code::known(250), None, lines))
}

fn to(address: &str, notify: Option<Notify>, orcpt: Option<(&str, &str)>) -> Recipient {
    let orcpt =
        orcpt.map(|(kind, address)| OriginalRecipient { address_type: kind.to_owned(), address: address.to_owned() });
    Recipient {
        forward_path: ForwardPath::Address(Address::parse(address).unwrap()),
        parameters: RecipientParameters { notify, orcpt },
    }
}

fn order(sender: &str, parameters: MailParameters, recipients: Vec<Recipient>) -> Order {
    let sender =
        if sender.is_empty() { ReversePath::Null } else { ReversePath::Address(Address::parse(sender).unwrap()) };
    let places: Vec<usize> = (0..recipients.len()).collect();
    Order::new(&Envelope::new(sender, parameters, recipients).unwrap(), &places, 77).at(NOW)
}

fn by(seconds: i64, or_return: bool, trace: bool) -> Option<DeliverBy> {
    Some(DeliverBy { deadline: WallTime::from_millis(NOW.millis() + seconds * 1000 + 400), or_return, trace })
}

/// The lines of MAIL and RCPT, or why there are none; of a message in ASCII.
fn said(order: Order, lines: &[&str]) -> Vec<String> {
    said_of(order, lines, Characters::Ascii)
}

/// The same of one whose header holds these.
fn said_of(order: Order, lines: &[&str], header: Characters) -> Vec<String> {
    let (offered, manner) = (offered(lines), Manner::default());
    let mut planned = Transaction::plan(order, &offered, manner);
    if let Planned::Look(transaction, _) = planned {
        let contents = Contents { header, ..Contents::default() };
        planned = transaction.seen(contents, &offered, manner);
    }
    match planned {
        Planned::Settled(attempt) => attempt
            .outcomes
            .iter()
            .map(|(_, outcome)| match outcome {
                Outcome::Failed { reason, .. } => reason.split(' ').next().unwrap().to_owned(),
                Outcome::Delivered { .. } | Outcome::Deferred { .. } => panic!("{outcome:?}"),
            })
            .collect(),
        Planned::Look(..) => panic!("it was looked at"),
        Planned::Go(mut transaction) => {
            transaction.queue_commands(false, &offered, manner);
            transaction.commands.into_iter().map(|(_, line)| line).filter(|line| line != "DATA").collect()
        }
    }
}

/// RFC 3461 §5.2.1: what was asked goes on as it came where DSN is offered, and nothing of it where it is not (§5.2.2).
#[test]
fn what_was_asked_of_reports_goes_on_unchanged_or_not_at_all() {
    let success = Notify { success: true, failure: false, delay: true };
    let parameters =
        || MailParameters { ret: Some(Ret::Headers), envid: Some("QQ+2B1".into()), ..MailParameters::default() };
    let recipients = || {
        vec![
            to("a@example.net", Some(success), Some(("RFC822", "A+2Ba@Example.NET"))),
            to("b@example.net", Some(Notify::NEVER), None),
            to("c@example.net", None, None),
        ]
    };
    let lines = said(order("alice@example.com", parameters(), recipients()), &["DSN"]);
    assert_eq!(
        lines,
        [
            "MAIL FROM:<alice@example.com> RET=HDRS ENVID=QQ+2B1",
            "RCPT TO:<a@example.net> NOTIFY=SUCCESS,DELAY ORCPT=RFC822;A+2Ba@Example.NET",
            "RCPT TO:<b@example.net> NOTIFY=NEVER",
            "RCPT TO:<c@example.net>",
        ]
    );
    let unasked = vec![to("a@example.net", None, None)];
    assert_eq!(
        said(order("alice@example.com", MailParameters::default(), unasked), &["DSN"]),
        ["MAIL FROM:<alice@example.com>", "RCPT TO:<a@example.net>"]
    );
    let lines = said(order("alice@example.com", parameters(), recipients()), &["8BITMIME"]);
    assert_eq!(
        lines,
        [
            "MAIL FROM:<alice@example.com>",
            "RCPT TO:<a@example.net>",
            "RCPT TO:<b@example.net>",
            "RCPT TO:<c@example.net>"
        ]
    );
}

/// RFC 6533 §3: UTF-8 in ORCPT only behind a MAIL with SMTPUTF8.
#[test]
fn an_original_recipient_goes_in_seven_bits_where_the_line_must_be_ascii() {
    let utf8 = MailParameters { smtputf8: true, ..MailParameters::default() };
    let recipient = || vec![to("bob@example.net", None, Some(("utf-8", "jörg\\x{2B}x@example.net")))];
    for (lines, header, expected) in [
        (&["DSN", "SMTPUTF8"][..], Characters::Beyond, "ORCPT=utf-8;jörg\\x{2B}x@example.net"),
        (&["DSN", "SMTPUTF8"][..], Characters::Ascii, "ORCPT=utf-8;j\\x{F6}rg\\x{2B}x@example.net"),
        (&["DSN"][..], Characters::Ascii, "ORCPT=utf-8;j\\x{F6}rg\\x{2B}x@example.net"),
    ] {
        let lines = said_of(order("alice@example.com", utf8.clone(), recipient()), lines, header);
        assert_eq!(lines.last().unwrap(), &format!("RCPT TO:<bob@example.net> {expected}"));
    }
    // In seven bits it would be longer than anybody must take (RFC 3461 §5.4).
    let long = "ö".repeat(150) + "@example.net";
    let recipient = vec![to("bob@example.net", None, Some(("utf-8", &long)))];
    assert_eq!(
        said(order("alice@example.com", utf8, recipient), &["DSN"]).last().unwrap(),
        "RCPT TO:<bob@example.net>"
    );
}

/// RFC 8689 §4.2.1, §5.
#[test]
fn what_demands_tls_goes_only_where_it_is_understood_but_for_mail_from_nobody() {
    let parameters = || MailParameters { require_tls: true, ..MailParameters::default() };
    let bob = || vec![to("bob@example.net", None, None)];
    for (sender, lines, expected) in [
        ("alice@example.com", &["REQUIRETLS"][..], "MAIL FROM:<alice@example.com> REQUIRETLS"),
        ("alice@example.com", &["SIZE"][..], "5.7.30"),
        ("", &["REQUIRETLS"][..], "MAIL FROM:<> REQUIRETLS"),
        ("", &[][..], "MAIL FROM:<>"),
    ] {
        assert_eq!(said(order(sender, parameters(), bob()), lines)[0], expected, "{lines:?}");
    }
}

/// RFC 2852 §4.1.4: what is left of the time goes on; with `R`, only where it can be kept.
#[test]
fn the_time_that_is_left_goes_on_and_what_must_be_in_time_goes_only_where_that_is_promised() {
    let bob = || vec![to("bob@example.net", None, None)];
    for (by, lines, expected) in [
        (by(120, false, false), &["DELIVERBY"][..], "MAIL FROM:<alice@example.com> BY=120;N"),
        (by(-5, false, true), &["DELIVERBY 60"][..], "MAIL FROM:<alice@example.com> BY=-5;NT"),
        (by(120, true, true), &["DELIVERBY 60"][..], "MAIL FROM:<alice@example.com> BY=120;RT"),
        (by(59, true, false), &["DELIVERBY 60"][..], "5.4.7"),
        (by(0, true, false), &["DELIVERBY"][..], "5.4.7"),
        (by(120, true, false), &["DSN"][..], "5.4.7"),
        (by(120, false, false), &["DSN"][..], "MAIL FROM:<alice@example.com>"),
        (by(i64::from(u32::MAX), false, false), &["DELIVERBY"][..], "MAIL FROM:<alice@example.com> BY=999999999;N"),
    ] {
        let parameters = MailParameters { deliver_by: by, ..MailParameters::default() };
        assert_eq!(said(order("alice@example.com", parameters, bob()), lines)[0], expected, "{by:?} {lines:?}");
    }
}

/// RFC 6710 §4: as assigned.
/// RFC 5321 §2.4, §2.3.11: what stands left of the @ goes on as it came.
#[test]
fn letters_of_addresses_go_on_in_their_case() {
    let order = order("Alice.B@Example.com", MailParameters::default(), vec![to("BoB+Tag@Example.NET", None, None)]);
    let said = said(order, &[]);
    assert_eq!(said, ["MAIL FROM:<Alice.B@Example.com>", "RCPT TO:<BoB+Tag@Example.NET>"]);
}

#[test]
fn a_priority_goes_on_where_it_is_understood() {
    let offers = &["MT-PRIORITY STANAG4406"][..];
    for (priority, lines, expected) in [
        (Some(-3), offers, " MT-PRIORITY=-3"),
        // RFC 6710 §4.2: where nobody has asked for any.
        (None, offers, " MT-PRIORITY=0"),
        (Some(-3), &[], ""),
    ] {
        let parameters = MailParameters { priority, ..MailParameters::default() };
        let bob = vec![to("bob@example.net", None, None)];
        let line = &said(order("alice@example.com", parameters, bob), lines)[0];
        assert_eq!(line, &format!("MAIL FROM:<alice@example.com>{expected}"));
    }
}

#[test]
fn who_lacks_an_extension_fails_nobody_for_good_while_another_may_be_asked() {
    let parameters = MailParameters { require_tls: true, ..MailParameters::default() };
    let bob = vec![to("bob@example.net", None, None)];
    let Planned::Settled(attempt) =
        Transaction::plan(order("alice@example.com", parameters, bob), &offered(&[]), Manner::default())
    else {
        panic!("it can't go")
    };
    assert_eq!((attempt.free, attempt.is_unable), (vec![0], true));
}
