use mail_parser::{MimeHeaders as _, PartType};
use proptest::prelude::*;

use super::text::is_seven_bit;
use super::*;
use crate::mail::{DeliverBy, ForwardPath, OriginalRecipient, Ret};
use crate::smtp::Code;

const HEADER: &str = "Received: from laptop.example.com by relay.example.com with ESMTPS;\r\n\tTue, 24 Nov 2026 01:48:00 +0000\r\n\
    From: Alice <alice@example.com>\r\nTo: bob@example.net\r\nSubject: =?utf-8?q?Angebot_f=C3=BCr_M=C3=A4rz?=\r\n\
    Message-ID: <42@laptop.example.com>\r\nDate: Tue, 24 Nov 2026 01:47:59 +0000\r\n";

fn reporter() -> Reporter {
    Reporter {
        hostname: "relay.example.com".to_owned(),
        from: Address::parse("MAILER-DAEMON@relay.example.com").unwrap(),
        envelope_sender: ReversePath::Null,
        postmaster: None,
    }
}

fn arrived() -> WallTime {
    WallTime::from_seconds(1_795_484_880)
}

fn to(address: &str) -> Recipient {
    Recipient {
        forward_path: ForwardPath::Address(Address::parse(address).unwrap()),
        parameters: RecipientParameters::default(),
    }
}

fn envelope(sender: &str, parameters: MailParameters, recipients: Vec<Recipient>) -> Envelope {
    Envelope::new(ReversePath::Address(Address::parse(sender).unwrap()), parameters, recipients).unwrap()
}

fn original<'a>(envelope: &'a Envelope, header: &'a str) -> Original<'a> {
    Original { id: QueueId::new(arrived(), 7), envelope, arrived: arrived(), header: header.as_bytes(), whole: None }
}

fn refused(code: u16, status: (u8, u16, u16), text: &str) -> Outcome {
    let reply = Reply::new(Code::new(code).unwrap(), Status::new(status.0, status.1, status.2), text);
    Outcome::Failed { reason: "the upstream refused the recipient (RCPT)".into(), reply: Some(reply) }
}

fn reported(place: usize, fate: Fate, outcome: &Outcome) -> Reported<'_> {
    Reported {
        place,
        fate,
        outcome,
        certainty: Certainty::Known,
        upstream: Some("mx.example.net"),
        last_attempt: Some(arrived().after(MINUTE)),
    }
}

const MINUTE: std::time::Duration = std::time::Duration::from_secs(60);

fn composed(original: &Original<'_>, recipients: &[Reported<'_>]) -> Report {
    compose(&reporter(), original, recipients, arrived().after(MINUTE), 0x5ea1).unwrap()
}

fn no_such_user() -> Outcome {
    refused(550, (5, 1, 1), "<bob@example.net>: Recipient address rejected: User unknown in virtual mailbox table")
}

fn delayed() -> Outcome {
    Outcome::Deferred { reason: "upstream main can't be reached (Connection refused)".into(), reply: None }
}

/// A failure of one of two recipients, with all DSN parameters.
fn failure() -> Report {
    let parameters = MailParameters { envid: Some("QQ+2B314159".into()), ..MailParameters::default() };
    let mut bob = to("bob@example.net");
    bob.parameters.orcpt =
        Some(OriginalRecipient { address_type: "rfc822".into(), address: "Bob+2BWork@example.net".into() });
    let envelope = envelope("alice@example.com", parameters, vec![to("carol@example.net"), bob]);
    composed(&original(&envelope, HEADER), &[reported(1, Fate::Failed, &no_such_user())])
}

fn delay() -> Report {
    let envelope = envelope("alice@example.com", MailParameters::default(), vec![to("bob@example.net")]);
    let fate = Fate::Delayed { until: arrived().after(MINUTE * 60 * 24 * 5) };
    composed(&original(&envelope, HEADER), &[reported(0, fate, &delayed())])
}

/// Given up, for an address and a header that are not ASCII.
fn given_up() -> Report {
    let parameters = MailParameters { smtputf8: true, ..MailParameters::default() };
    let envelope = envelope("älice@example.com", parameters, vec![to("jörg@example.net")]);
    let header = "From: älice@example.com\r\nSubject: Grüße\r\n";
    composed(&original(&envelope, header), &[reported(0, Fate::GaveUp, &delayed())])
}

fn whole() -> Report {
    let parameters = MailParameters { ret: Some(Ret::Full), ..MailParameters::default() };
    let envelope = envelope("alice@example.com", parameters, vec![to("bob@example.net")]);
    let message = format!("{HEADER}\r\nHello Bob.\r\n--report-00000000000000000000000000005ea0\r\n");
    let outcome = Outcome::Failed {
        reason: "5.3.4 the message has 900 octets, and the upstream takes at most 76".into(),
        reply: None,
    };
    let mut original = original(&envelope, HEADER);
    original.whole = Some(message.as_bytes());
    composed(&original, &[reported(0, Fate::Failed, &outcome)])
}

const SUCCESS: Notify = Notify { success: true, failure: true, delay: true };

/// Handed on for one, failed for the second, late for the third, with the whole message asked for.
fn of_all_kinds() -> Report {
    let parameters = MailParameters { ret: Some(Ret::Full), ..MailParameters::default() };
    let mut dora = to("dora@example.net");
    dora.parameters.notify = Some(SUCCESS);
    let envelope =
        envelope("alice@example.com", parameters, vec![dora, to("bob@example.net"), to("carol@example.net")]);
    let taken = Outcome::Delivered {
        reply: Reply::new(Code::new(250).unwrap(), Status::new(2, 0, 0), "Ok: queued as 4Xy1Zq0000z1A"),
    };
    let until = arrived().after(MINUTE * 60 * 24 * 5);
    let (failed, waiting) = (no_such_user(), delayed());
    let mut original = original(&envelope, HEADER);
    let message = format!("{HEADER}\r\nHello all.\r\n");
    original.whole = Some(message.as_bytes());
    composed(
        &original,
        &[
            reported(0, Fate::Relayed, &taken),
            reported(1, Fate::Failed, &failed),
            reported(2, Fate::Delayed { until }, &waiting),
        ],
    )
}

/// Handed on, although the whole was asked for in reports: of no failure it is not given (RFC 3461 §6.2).
fn relayed() -> Report {
    let parameters =
        MailParameters { ret: Some(Ret::Full), envid: Some("QQ314159".into()), ..MailParameters::default() };
    let mut bob = to("bob@example.net");
    bob.parameters.notify = Some(SUCCESS);
    bob.parameters.orcpt = Some(OriginalRecipient { address_type: "rfc822".into(), address: "Bob@example.net".into() });
    let envelope = envelope("alice@example.com", parameters, vec![bob]);
    let taken = Outcome::Delivered {
        reply: Reply::new(
            Code::new(250).unwrap(),
            Status::new(2, 6, 0),
            "<42@laptop.example.com> Queued mail for delivery",
        ),
    };
    let mut original = original(&envelope, HEADER);
    original.whole = Some(HEADER.as_bytes());
    let one = Reported { upstream: Some("192.0.2.25"), ..reported(0, Fate::Relayed, &taken) };
    composed(&original, &[one])
}

/// Late by the sender's own measure, for an internationalized address with an internationalized original.
fn overdue() -> Report {
    let by = DeliverBy { deadline: arrived().after(MINUTE), or_return: false, trace: false };
    let parameters = MailParameters { smtputf8: true, deliver_by: Some(by), ..MailParameters::default() };
    let mut recipient = to("jörg@example.net");
    recipient.parameters.orcpt =
        Some(OriginalRecipient { address_type: "utf-8".into(), address: "jörg.\\x{2B}müller@example.net".into() });
    let envelope = envelope("alice@example.com", parameters, vec![recipient]);
    let until = arrived().after(MINUTE * 60 * 24 * 5);
    composed(&original(&envelope, HEADER), &[reported(0, Fate::Overdue { until }, &delayed())])
}

/// The postmaster's copy: of a message whose sender may be told nothing.
fn copy() -> Report {
    let mut bob = to("bob@example.net");
    bob.parameters.notify = Some(Notify::NEVER);
    let parameters = MailParameters { ret: Some(Ret::Full), ..MailParameters::default() };
    let envelope = envelope("alice@example.com", parameters, vec![bob]);
    let reporter = Reporter { postmaster: Some(Address::parse("postmaster@example.com").unwrap()), ..reporter() };
    let outcome = no_such_user();
    let mut original = original(&envelope, HEADER);
    original.whole = Some(HEADER.as_bytes());
    let failed = [reported(0, Fate::Failed, &outcome)];
    assert_eq!(compose(&reporter, &original, &failed, arrived(), 1), Err(NoReport::NotWanted));
    compose_copy(&reporter, &original, &failed, arrived().after(MINUTE), 0x5ea1).unwrap()
}

#[test]
fn reports_look_as_the_golden_ones_do() {
    let reports = [
        ("failure", failure(), include_str!("../../fixtures/report/failure.eml")),
        ("delay", delay(), include_str!("../../fixtures/report/delay.eml")),
        ("given-up", given_up(), include_str!("../../fixtures/report/given-up.eml")),
        ("whole", whole(), include_str!("../../fixtures/report/whole.eml")),
        ("relayed", relayed(), include_str!("../../fixtures/report/relayed.eml")),
        ("overdue", overdue(), include_str!("../../fixtures/report/overdue.eml")),
        ("of-all-kinds", of_all_kinds(), include_str!("../../fixtures/report/of-all-kinds.eml")),
        ("copy", copy(), include_str!("../../fixtures/report/copy.eml")),
    ];
    let other = reports.into_iter().filter_map(|(name, report, golden)| {
        let text = String::from_utf8(report.octets).unwrap();
        (text != golden).then(|| format!("fixtures/report/{name}.eml should be:\n<<<{name}\n{text}>>>\n"))
    });
    let other: String = other.collect();
    assert!(other.is_empty(), "{other}");
}

#[test]
fn a_reader_finds_the_three_parts_of_rfc_6522() {
    for (report, third) in [
        (failure(), "rfc822-headers"),
        (delay(), "rfc822-headers"),
        (given_up(), "global-headers"),
        (whole(), "rfc822"),
        (relayed(), "rfc822-headers"),
        (overdue(), "rfc822-headers"),
        (of_all_kinds(), "rfc822"),
        (copy(), "rfc822-headers"),
    ] {
        let message = MessageParser::new().parse(&report.octets[..]).unwrap();
        let top = message.content_type().unwrap();
        assert_eq!(
            (top.ctype(), top.subtype(), top.attribute("report-type")),
            ("multipart", Some("report"), Some("delivery-status"))
        );
        let kinds: Vec<_> = message.parts[0]
            .sub_parts()
            .unwrap()
            .iter()
            .map(|&id| {
                let part = message.part(id).unwrap();
                part.content_type().unwrap().subtype().unwrap().to_owned()
            })
            .collect();
        assert_eq!(kinds, ["plain", "delivery-status", third]);
        assert_eq!(message.header("Auto-Submitted").unwrap().as_text(), Some("auto-replied"));
    }
}

#[test]
fn the_whole_message_is_returned_when_asked_for_and_readable() {
    let octets = whole().octets;
    let message = MessageParser::new().parse(&octets[..]).unwrap();
    let mut attached = message.parts.iter().filter(|part| matches!(part.body, PartType::Message(_)));
    let PartType::Message(inner) = &attached.next_back().unwrap().body else { panic!("a message") };
    assert_eq!(inner.body_text(0).unwrap().lines().next(), Some("Hello Bob."));
    let parameters = MailParameters { ret: Some(Ret::Full), ..MailParameters::default() };
    let envelope = envelope("alice@example.com", parameters, vec![to("bob@example.net")]);
    let outcome = no_such_user();
    for (body, is_whole) in
        [("x\r\n".to_owned(), true), ("gr\u{fc}n\r\n".to_owned(), false), ("x\r\n".repeat(WHOLE_MAX / 3), false)]
    {
        let message = format!("{HEADER}\r\n{body}");
        let original = Original { whole: Some(message.as_bytes()), ..original(&envelope, HEADER) };
        let octets = composed(&original, &[reported(0, Fate::Failed, &outcome)]).octets;
        let text = String::from_utf8(octets).unwrap();
        assert_eq!(text.contains("Content-Type: message/rfc822\r\n"), is_whole, "{} octets", message.len());
        assert_ne!(text.contains("Content-Type: text/rfc822-headers\r\n"), is_whole, "{} octets", message.len());
    }
}

#[test]
fn a_report_is_seven_bit_with_lines_that_every_upstream_takes() {
    for report in [failure(), delay(), whole(), relayed(), overdue(), of_all_kinds(), copy()] {
        assert!(is_seven_bit(&report.octets));
        assert!(!report.envelope.parameters().smtputf8);
        assert!(!report.octets.windows(2).any(|pair| (pair[1] == b'\n') != (pair[0] == b'\r')), "bare LF or CR");
    }
    // Only the To of a sender whose address is not ASCII needs more, and asks for it.
    let report = given_up();
    assert!(report.envelope.parameters().smtputf8);
    let lines = report.octets.split(|&octet| octet == b'\n').filter(|line| !line.is_ascii());
    assert_eq!(
        lines.map(|line| String::from_utf8_lossy(line).into_owned()).collect::<Vec<_>>(),
        ["To: <älice@example.com>\r"]
    );
}

#[test]
fn the_report_goes_from_nobody_to_the_sender() {
    let report = failure();
    assert_eq!(*report.envelope.reverse_path(), ReversePath::Null);
    assert_eq!(report.envelope.recipients()[0].forward_path.as_str(), "alice@example.com");
    assert_eq!(report.message_id, "<00000000000000000000000000005ea1@relay.example.com>");
}

#[test]
fn nothing_is_reported_to_the_null_sender() {
    let envelope = Envelope::new(ReversePath::Null, MailParameters::default(), vec![to("bob@example.net")]).unwrap();
    let outcome = no_such_user();
    let fate = reported(0, Fate::Failed, &outcome);
    assert_eq!(compose(&reporter(), &original(&envelope, HEADER), &[fate], arrived(), 1), Err(NoReport::NullSender));
}

#[test]
fn notify_decides_what_is_told() {
    let never = Some(Notify::NEVER);
    let failure_only = Some(Notify { failure: true, ..Notify::NEVER });
    let success_only = Some(Notify { success: true, ..Notify::NEVER });
    let until = Fate::Delayed { until: arrived() };
    for (notify, fate, told) in [
        (None, Fate::Failed, true),
        (None, until, true),
        (never, Fate::Failed, false),
        (never, until, false),
        (failure_only, Fate::GaveUp, true),
        (failure_only, until, false),
        (success_only, Fate::Failed, false),
        (success_only, until, false),
    ] {
        let mut bob = to("bob@example.net");
        bob.parameters.notify = notify;
        let envelope = envelope("alice@example.com", MailParameters::default(), vec![bob, to("carol@example.net")]);
        let outcome = no_such_user();
        let original = original(&envelope, HEADER);
        let alone = compose(&reporter(), &original, &[reported(0, fate, &outcome)], arrived(), 1);
        assert_eq!(alone.is_ok(), told, "{notify:?} {fate:?}");
        let both = composed(&original, &[reported(0, fate, &outcome), reported(1, fate, &outcome)]);
        assert_eq!((both.told.contains(&0), both.untold.contains(&0)), (told, !told), "{notify:?} {fate:?}");
        // RFC 3461 §5.2.8.
        let text = String::from_utf8(both.octets).unwrap();
        assert_eq!(text.contains("rfc822; bob@example.net"), told, "{notify:?} {fate:?}: {text}");
    }
}

#[test]
fn the_status_has_the_class_of_its_fate() {
    let until = Fate::Delayed { until: arrived() };
    let deferred = Outcome::Deferred {
        reason: "no".into(),
        reply: Some(Reply::new(Code::new(535).unwrap(), Status::new(5, 7, 8), "who?")),
    };
    let bare = Outcome::Failed { reason: "no".into(), reply: Some(Reply::new(Code::new(550).unwrap(), None, "no")) };
    let ours = Outcome::Failed { reason: "5.6.7 needs SMTPUTF8".into(), reply: None };
    for (fate, outcome, status) in [
        (Fate::Failed, no_such_user(), "5.1.1"),
        // RFC 3463 §2: a detail that is unknown here means something to whoever said it.
        (Fate::Failed, refused(550, (5, 7, 999), "by rule 999"), "5.7.999"),
        (Fate::Failed, bare, "5.0.0"),
        (Fate::Failed, ours, "5.6.7"),
        (Fate::GaveUp, delayed(), "5.4.7"),
        (until, delayed(), "4.0.0"),
        (until, deferred, "4.7.8"),
    ] {
        let envelope = envelope("alice@example.com", MailParameters::default(), vec![to("bob@example.net")]);
        let report = composed(&original(&envelope, HEADER), &[reported(0, fate, &outcome)]);
        let text = String::from_utf8(report.octets).unwrap();
        assert!(text.contains(&format!("\r\nStatus: {status}\r\n")), "{status} in {text}");
    }
}

#[test]
fn a_long_header_is_cut_at_a_line() {
    let header = format!("Subject: x\r\n{}", "X-Filler: 0123456789\r\n".repeat(10_000));
    let envelope = envelope("alice@example.com", MailParameters::default(), vec![to("bob@example.net")]);
    let outcome = no_such_user();
    let report = composed(&original(&envelope, &header), &[reported(0, Fate::Failed, &outcome)]);
    assert!(report.octets.len() < HEADER_MAX + 8 * 1024);
    assert!(String::from_utf8(report.octets).unwrap().contains("0123456789\r\n\r\n--report-"));
}

proptest! {
    /// Whatever an upstream says, it adds no line, no field and no part to the report.
    #[test]
    fn no_reply_breaks_out_of_its_field(text in "\\PC{0,400}|[\\x20-\\x7e\u{e9}\r\n]{0,1200}", at in 0_usize..3) {
        let envelope = envelope("alice@example.com", MailParameters::default(), vec![to("bob@example.net")]);
        let outcome = match at {
            0 => refused(550, (5, 1, 1), &text),
            1 => Outcome::Failed { reason: text.clone(), reply: None },
            _ => Outcome::Deferred { reason: text.clone(), reply: None },
        };
        let report = composed(&original(&envelope, HEADER), &[reported(0, Fate::Failed, &outcome)]);
        prop_assert!(is_seven_bit(&report.octets));
        let message = MessageParser::new().parse(&report.octets[..]).unwrap();
        prop_assert_eq!(message.parts[0].sub_parts().unwrap().len(), 3);
        let text = String::from_utf8(report.octets.clone()).unwrap();
        prop_assert_eq!(text.matches("\r\nAction: ").count(), 1);
        let fields = text.split("message/delivery-status").nth(1).unwrap().split("--report-").next().unwrap();
        prop_assert!(fields.split("\r\n").all(|line| line.len() <= 998));
    }
}

/// Given up, and the upstream may have it.
fn unknown() -> Report {
    let envelope = envelope("alice@example.com", MailParameters::default(), vec![to("bob@example.net")]);
    let silent = Outcome::Failed {
        reason: "given up after 5days: upstream main was silent for 10m at the end of the message".into(),
        reply: None,
    };
    let one = Reported { certainty: Certainty::Undetermined, ..reported(0, Fate::GaveUp, &silent) };
    composed(&original(&envelope, HEADER), &[one])
}

#[test]
fn a_report_on_a_message_of_unknown_fate_claims_nothing_and_does_not_advise_to_send_it_again() {
    let text = String::from_utf8(unknown().octets).unwrap();
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for said in [
        "Subject: It is not known whether your message was delivered",
        "It is not known whether your message reached this recipient",
        "But: It may have arrived",
        "Advice: Ask the recipient whether it came before you send it again.",
        "Action: failed Status: 4.4.7",
    ] {
        assert!(words.contains(said), "{said}: {text}");
    }
    for unsaid in ["could not be delivered", "Reach the recipient another way", "5.4.7"] {
        assert!(!words.contains(unsaid), "{unsaid}: {text}");
    }
}

#[test]
fn what_may_have_arrived_before_is_said_of_a_failure_and_of_a_delay_too() {
    let envelope = envelope("alice@example.com", MailParameters::default(), vec![to("bob@example.net")]);
    let refused = no_such_user();
    let waiting = delayed();
    let until = arrived().after(MINUTE);
    for (fate, outcome, status) in
        [(Fate::Failed, &refused, "Status: 5.1.1"), (Fate::Delayed { until }, &waiting, "Status: 4.0.0")]
    {
        let one = Reported { certainty: Certainty::Undetermined, ..reported(0, fate, outcome) };
        let text = String::from_utf8(composed(&original(&envelope, HEADER), &[one]).octets).unwrap();
        assert!(text.contains("But:     It may have arrived") && text.contains(status), "{text}");
    }
}

#[test]
fn what_was_never_tried_has_no_date_of_an_attempt() {
    let envelope = envelope("alice@example.com", MailParameters::default(), vec![to("bob@example.net")]);
    let waiting = delayed();
    let one = Reported { last_attempt: None, ..reported(0, Fate::Delayed { until: arrived() }, &waiting) };
    let text = String::from_utf8(composed(&original(&envelope, HEADER), &[one]).octets).unwrap();
    assert!(!text.contains("Last-Attempt-Date"), "{text}");
}

/// RFC 3464 §2.3.5.
#[test]
fn where_no_upstream_was_asked_no_remote_mta_is_named() {
    let envelope = envelope("alice@example.com", MailParameters::default(), vec![to("bob@example.net")]);
    let waiting = delayed();
    for (upstream, named) in [(Some("mx.example.net"), true), (None, false)] {
        let one = Reported { upstream, ..reported(0, Fate::Delayed { until: arrived() }, &waiting) };
        let text = String::from_utf8(composed(&original(&envelope, HEADER), &[one]).octets).unwrap();
        assert!(text.contains("\r\nFinal-Recipient: rfc822; bob@example.net\r\n"), "{text}");
        assert_eq!(text.contains("Remote-MTA:"), named, "{text}");
    }
}

#[test]
fn what_is_told_of_success_and_delay_follows_notify() {
    let until = arrived();
    let failure_only = Notify { failure: true, ..Notify::NEVER };
    for (notify, overdue, relayed) in
        [(None, true, true), (Some(Notify::NEVER), false, false), (Some(failure_only), false, true)]
    {
        let mut bob = to("bob@example.net");
        bob.parameters.notify = notify;
        assert_eq!(may_be_told(&bob, Fate::Overdue { until }), overdue, "{notify:?}");
        assert_eq!(may_be_told(&bob, Fate::Relayed), relayed, "{notify:?}");
    }
}

/// RFC 8689 §5: the report is protected as the message was, and never holds more of it than its header section.
#[test]
fn a_report_on_what_demanded_tls_demands_it_too_or_says_nothing_of_the_message() {
    let parameters = MailParameters { ret: Some(Ret::Full), require_tls: true, ..MailParameters::default() };
    let envelope = envelope("alice@example.com", parameters, vec![to("bob@example.net")]);
    let outcome = no_such_user();
    let message = format!("{HEADER}\r\nsecret words\r\n");
    let mut original = original(&envelope, HEADER);
    original.whole = Some(message.as_bytes());
    let failed = [reported(0, Fate::Failed, &outcome)];
    let report = compose(&reporter(), &original, &failed, arrived(), 1).unwrap();
    let text = String::from_utf8(report.octets).unwrap();
    assert!(report.envelope.parameters().require_tls);
    assert!(text.contains("text/rfc822-headers") && !text.contains("secret words"), "{text}");

    let sender = ReversePath::Address(Address::parse("bounces@example.com").unwrap());
    let from_somebody = Reporter { envelope_sender: sender.clone(), ..reporter() };
    let report = compose(&from_somebody, &original, &failed, arrived(), 1).unwrap();
    let text = String::from_utf8(report.octets).unwrap();
    assert!(!report.envelope.parameters().require_tls && *report.envelope.reverse_path() == sender);
    for of_the_message in ["rfc822-headers", "Angebot", "42@laptop", "beginning of your message", "secret words"] {
        assert!(!text.contains(of_the_message), "{of_the_message}: {text}");
    }
    let message = MessageParser::new().parse(text.as_bytes()).unwrap();
    assert_eq!(message.parts[0].sub_parts().unwrap().len(), 2, "RFC 6522 §3: the third part is optional");
}

#[test]
fn a_report_tells_until_when_the_message_was_to_wait() {
    for (hold_until, is_told) in [(None, false), (Some(WallTime::from_seconds(1_800_000_000)), true)] {
        let parameters = MailParameters { hold_until, ..MailParameters::default() };
        let envelope = envelope("alice@example.com", parameters, vec![to("bob@example.net")]);
        let report = composed(&original(&envelope, HEADER), &[reported(0, Fate::Failed, &no_such_user())]);
        let text = String::from_utf8(report.octets).unwrap();
        assert_eq!(text.contains("\r\nFuture-Release-Request: until;2027-01-15T08:00:00Z\r\n"), is_told, "{text}");
        // RFC 4865 §5.1.2: and since when it did.
        assert!(text.contains("\r\nArrival-Date: Tue, 24 Nov 2026 01:48:00 +0000\r\n"), "{text}");
    }
}

/// RFC 3461 §9.1.
#[test]
fn a_recipient_stands_in_its_report_as_the_envelope_has_it() {
    for address in ["Bob.SMITH@Example.NET", "\"odd  name\"@example.net", "bob%c!d@example.net", "bob@[192.0.2.1]"] {
        let envelope = envelope("alice@example.com", MailParameters::default(), vec![to(address)]);
        let report = composed(&original(&envelope, HEADER), &[reported(0, Fate::Failed, &no_such_user())]);
        let text = String::from_utf8(report.octets).unwrap();
        assert!(text.contains(&format!("\r\nFinal-Recipient: rfc822; {address}\r\n")), "{address}: {text}");
    }
}

/// RFC 3461 §9.2.
#[test]
fn a_diagnostic_is_the_reply_on_one_line_and_not_without_end() {
    let envelope = envelope("alice@example.com", MailParameters::default(), vec![to("bob@example.net")]);
    let lines = (0..200).map(|number| format!("line {number}"));
    let reply = Reply::multiline(Code::new(550).unwrap(), Status::new(5, 1, 1), lines);
    let outcome = Outcome::Failed { reason: "the upstream refused the recipient (RCPT)".into(), reply: Some(reply) };
    let report = composed(&original(&envelope, HEADER), &[reported(0, Fate::Failed, &outcome)]);
    let text = String::from_utf8(report.octets).unwrap().replace("\r\n ", " ");
    let field = text.lines().find(|line| line.starts_with("Diagnostic-Code: ")).unwrap();
    let diagnostic = field.strip_prefix("Diagnostic-Code: smtp; ").unwrap();
    assert!(diagnostic.starts_with("550 5.1.1 line 0 line 1 line 2"), "{diagnostic}");
    assert_eq!(diagnostic.matches("550").count(), 1, "{diagnostic}");
    assert!((DIAGNOSTIC_MAX..=DIAGNOSTIC_MAX + "...".len()).contains(&diagnostic.len()), "{}", diagnostic.len());
}

#[test]
fn a_report_is_as_urgent_as_what_it_is_about() {
    for priority in [None, Some(-4), Some(6)] {
        let parameters = MailParameters { priority, ..MailParameters::default() };
        let envelope = envelope("alice@example.com", parameters, vec![to("bob@example.net")]);
        let report = composed(&original(&envelope, HEADER), &[reported(0, Fate::Failed, &no_such_user())]);
        assert_eq!(report.envelope.parameters().priority, priority);
    }
}

/// RFC 3461 §6.1, and RFC 4865 §5.1.1: whatever was asked of the message, its report asks for nothing of it.
#[test]
fn a_report_that_comes_from_somebody_forbids_reports_on_itself() {
    let sender = ReversePath::Address(Address::parse("bounces@example.com").unwrap());
    let from_somebody = Reporter { envelope_sender: sender.clone(), ..reporter() };
    let asked = MailParameters {
        ret: Some(Ret::Full),
        envid: Some("QQ1".into()),
        hold_until: Some(arrived().after(MINUTE)),
        deliver_by: Some(DeliverBy { deadline: arrived().after(MINUTE), or_return: true, trace: true }),
        ..MailParameters::default()
    };
    let envelope = envelope("alice@example.com", asked, vec![to("bob@example.net")]);
    let outcome = no_such_user();
    for (reporter, sender, notify) in
        [(reporter(), ReversePath::Null, None), (from_somebody, sender, Some(Notify::NEVER))]
    {
        let failed = [reported(0, Fate::Failed, &outcome)];
        let report = compose(&reporter, &original(&envelope, HEADER), &failed, arrived(), 1).unwrap().envelope;
        let notice = reporter.envelope_to(&Address::parse("alice@example.com").unwrap()).unwrap();
        for envelope in [report, notice] {
            assert_eq!(*envelope.reverse_path(), sender);
            assert_eq!(*envelope.parameters(), MailParameters::default());
            assert_eq!(envelope.recipients()[0].parameters.notify, notify);
        }
    }
}

#[test]
fn a_header_that_is_no_utf8_is_given_back_encoded_and_read_the_same() {
    let envelope = envelope("alice@example.com", MailParameters::default(), vec![to("bob@example.net")]);
    let header = b"From: alice@example.com\r\nSubject: Gr\xfc\xdfe\r\n";
    let outcome = no_such_user();
    let original =
        Original { id: QueueId::new(arrived(), 7), envelope: &envelope, arrived: arrived(), header, whole: None };
    let report = composed(&original, &[reported(0, Fate::Failed, &outcome)]);
    assert!(is_seven_bit(&report.octets));
    let message = MessageParser::new().parse(&report.octets[..]).unwrap();
    let last = message.parts.last().unwrap();
    assert_eq!(last.content_type().unwrap().subtype(), Some("rfc822-headers"));
    let text = String::from_utf8(report.octets).unwrap();
    assert!(text.contains("Subject: Gr=FC=DFe"), "{text}");
}

#[test]
fn a_report_on_very_many_names_each_and_tells_all_of_some() {
    let many = IN_FULL_MAX + 50;
    let recipients = (0..many).map(|number| {
        let mut recipient = to(&format!("r{number}@example.net"));
        let address = format!("{}{number}@example.org", "x".repeat(480));
        recipient.parameters.orcpt = Some(OriginalRecipient { address_type: "rfc822".into(), address });
        recipient
    });
    let envelope = envelope("alice@example.com", MailParameters::default(), recipients.collect());
    let outcome = refused(550, (5, 1, 1), &"no such user here ".repeat(40));
    let of = |count| {
        let all: Vec<_> = (0..count).map(|place| reported(place, Fate::Failed, &outcome)).collect();
        composed(&original(&envelope, HEADER), &all)
    };
    let (report, some) = (of(many), of(IN_FULL_MAX));
    assert_eq!(report.told.len(), many, "all have been told of");
    let text = String::from_utf8(report.octets.clone()).unwrap();
    for place in 0..many {
        let group = format!("Final-Recipient: rfc822; r{place}@example.net\r\nAction: failed\r\nStatus: 5.1.1\r\n");
        assert!(text.contains(&group), "{place}");
    }
    assert!(text.contains("50 more recipients: too many to be named here."), "{text}");
    for field in ["Original-Recipient:", "Remote-MTA:", "Diagnostic-Code:"] {
        assert_eq!(text.matches(field).count(), many, "{field}");
    }
    assert_eq!(text.matches("Advice:").count(), IN_FULL_MAX);
    let more = report.octets.len() - some.octets.len();
    assert!(more < 50 * 1000, "{more} octets for 50 more");
}
