//! Every reply of the catalogue, looked at.

use super::*;
use crate::identity::Rule;
use crate::mail::AddressFault;

const LONG: &str = "a-text-that-is-far-too-long-for-one-line-of-a-reply-";

fn refusals() -> Vec<Reply> {
    let address = LONG.repeat(20);
    let offences = [
        Offence::Sender { address: address.clone() },
        Offence::NullSender,
        Offence::Author { field: "From", address: "zo\u{eb}@example.com".to_owned() },
        Offence::Header { reason: "Field From is there twice".to_owned() },
        Offence::Recipient { address: address.clone() },
        Offence::NoRoute { address },
        Offence::TooManyRecipients { limit: 20 },
        Offence::TooLarge { limit: 2000 },
        too_much(Measure::Messages, Window::Hour),
        too_much(Measure::Recipients, Window::Hour),
        too_much(Measure::Messages, Window::Day),
        too_much(Measure::Recipients, Window::Day),
    ];
    let rule = Rule { name: "identity \"robot\"".into(), place: None };
    let refusal = |offence| Refusal { offence, rule: rule.clone(), cause: "/etc/secret".to_owned() };
    offences.into_iter().map(|offence| refused(&refusal(offence), "robot")).collect()
}

fn upstream_says() -> [Reply; 4] {
    let lines = ["one".to_owned(), "tw\u{f6}".to_owned()];
    [
        Reply::new(Code::known(550), Some(Status::known(5, 1, 1)), "no"),
        Reply::new(Code::known(554), None, LONG.repeat(20)),
        Reply::new(Code::known(571), None, "\u{e9}".repeat(500)),
        Reply::multiline(Code::known(550), None, lines),
    ]
}

#[test]
fn what_an_upstream_says_is_told_on_but_short_and_in_ascii() {
    let told = upstream_says().map(|reply| refused_upstream(Asked::Recipient, &reply).to_string());
    assert_eq!(told[0], "550 5.1.1 Upstream said: no");
    assert_eq!(told[3], "550 5.0.0 Upstream said: one tw\\x{F6}");
    assert!(told.iter().all(|text| text.is_ascii() && text.len() < 240), "{told:?}");
}

fn refusals_of_upstreams() -> Vec<Reply> {
    let asked = [Asked::Recipient, Asked::Message];
    upstream_says().iter().flat_map(|reply| asked.map(|asked| refused_upstream(asked, reply))).collect()
}

fn causes() -> Vec<Unidentified> {
    vec![
        Unidentified::NoCertificate,
        Unidentified::Certificate(CertificateFault::Untrusted { cause: LONG.repeat(20) }),
        Unidentified::Certificate(CertificateFault::Expired { at: WallTime::from_seconds(0) }),
        Unidentified::Certificate(CertificateFault::NotYetValid { from: WallTime::from_seconds(0) }),
        Unidentified::Certificate(CertificateFault::Revoked),
        Unidentified::Certificate(CertificateFault::RevocationUnknown),
        Unidentified::Crowded,
        Unidentified::Roster(NoIdentity::Unknown),
        Unidentified::Roster(NoIdentity::Disabled { name: "secret-name".to_owned() }),
        Unidentified::Roster(NoIdentity::NotVouched { name: Some("secret-name".to_owned()) }),
        Unidentified::Roster(NoIdentity::Ambiguous { names: vec!["secret-name".to_owned()] }),
    ]
}

fn faults() -> Vec<CommandFault> {
    vec![
        CommandFault::Unknown,
        CommandFault::Argument("why"),
        CommandFault::StartTls,
        CommandFault::Sender(PathFault::NoBracket),
        CommandFault::Recipient(PathFault::Address(AddressFault::NoAt)),
        CommandFault::UnknownParameter(LONG.repeat(20)),
        CommandFault::Parameter { keyword: "SIZE".to_owned(), why: "why" },
        CommandFault::Unkept { keyword: "BY".to_owned(), why: "why" },
        CommandFault::Http,
        CommandFault::Bdat,
    ]
}

/// Every reply of the catalogue, by the function that makes it; several where it makes several.
fn catalogue() -> Vec<(&'static str, Vec<Reply>)> {
    let now = WallTime::from_seconds(1_800_000_000);
    let host = "mail.example.com";
    let id = QueueId::from_u128(1);
    let path = PathFault::Unclosed;
    vec![
        ("greeting", vec![greeting(host)]),
        ("ehlo", vec![ehlo(host, ["PIPELINING".to_owned()])]),
        ("helo", vec![helo(host)]),
        ("helo_name", vec![helo_name()]),
        ("bye", vec![bye()]),
        ("from_here", vec![from_here(host, bye()), from_here(host, shutting_down()), from_here(host, noop())]),
        ("noop", vec![noop()]),
        ("reset", vec![reset()]),
        ("verify", vec![verify()]),
        ("help", vec![help()]),
        ("ready_for_tls", vec![ready_for_tls()]),
        ("tls_unavailable", vec![tls_unavailable()]),
        ("starttls_first", vec![starttls_first()]),
        ("tls_already", vec![tls_already()]),
        ("talked_early", vec![talked_early()]),
        ("unidentified", causes().iter().map(|cause| unidentified(cause, now)).collect()),
        ("unidentified_deferred", causes().iter().map(|cause| unidentified_deferred(cause, now)).collect()),
        ("challenge", vec![challenge()]),
        ("challenge_with", vec![challenge_with(b"Username:")]),
        ("authenticated", vec![authenticated()]),
        ("authentication_refused", vec![authentication_refused()]),
        ("mechanism_unknown", vec![mechanism_unknown()]),
        ("authenticated_already", vec![authenticated_already()]),
        ("authentication_in_transaction", vec![authentication_in_transaction()]),
        ("authentication_cancelled", vec![authentication_cancelled()]),
        ("not_base64", vec![not_base64()]),
        ("authentication_too_long", vec![authentication_too_long()]),
        ("authentication_unavailable", vec![authentication_unavailable()]),
        ("authentication_exhausted", vec![authentication_exhausted()]),
        ("authentication_required", vec![authentication_required()]),
        ("unknown_command", vec![unknown_command()]),
        ("not_http", vec![not_http()]),
        ("not_offered", vec![not_offered("EXPN")]),
        ("bad_argument", vec![bad_argument(&LONG.repeat(20))]),
        ("bad_parameter", vec![bad_parameter("SIZE", "why")]),
        ("waits_too_long", vec![waits_too_long(WallTime::from_seconds(1_800_000_000))]),
        ("parameter_not_kept", vec![parameter_not_kept("BY", "why")]),
        ("command_fault", faults().iter().map(command_fault).collect()),
        ("line_too_long", vec![line_too_long()]),
        ("disputed", vec![disputed(&"a NUL")]),
        ("ehlo_first", vec![ehlo_first()]),
        ("mail_first", vec![mail_first()]),
        ("mail_already", vec![mail_already()]),
        ("chunks_under_way", vec![chunks_under_way()]),
        ("no_recipients", vec![no_recipients()]),
        ("unknown_parameter", vec![unknown_parameter(&LONG.repeat(20))]),
        ("too_many_idle_commands", vec![too_many_idle_commands()]),
        ("too_many_refused_recipients", vec![too_many_refused_recipients()]),
        ("sender_taken", vec![sender_taken()]),
        ("sender_taken_at", vec![sender_taken_at(-9)]),
        ("recipient_taken", vec![recipient_taken()]),
        ("sender_syntax", vec![sender_syntax(path)]),
        ("recipient_syntax", vec![recipient_syntax(path)]),
        ("sender_unqualified", vec![sender_unqualified("localhost")]),
        ("recipient_unqualified", vec![recipient_unqualified("localhost")]),
        ("needs_smtputf8", vec![needs_smtputf8()]),
        ("too_many_recipients", vec![too_many_recipients()]),
        ("no_room_for_recipient", vec![no_room_for_recipient()]),
        ("refused", refusals()),
        ("refused_upstream", refusals_of_upstreams()),
        ("lacking", vec![lacking(Need::Utf8Address), lacking(Need::RequireTls)]),
        ("relayed", vec![relayed(id, &Reply::new(Code::known(250), Some(Status::known(2, 0, 0)), LONG.repeat(20)))]),
        (
            "not_for_the_upstream",
            ["5.3.4 too large", "5.6.3 eight bits", "no status: \u{e9}"].map(not_for_the_upstream).into(),
        ),
        ("send_data", vec![send_data()]),
        ("chunk_taken", vec![chunk_taken(0), chunk_taken(u64::MAX)]),
        ("kept", vec![kept(id)]),
        ("waits", vec![waits(id, now)]),
        ("held", vec![held(id)]),
        ("header_unclear", vec![header_unclear("Field From is missing")]),
        ("header_too_large", vec![header_too_large(1)]),
        ("data_line_too_long", vec![data_line_too_long(1)]),
        ("too_large", vec![too_large(1)]),
        ("loops", vec![loops(100)]),
        ("no_room", vec![no_room()]),
        ("share_used_up", vec![share_used_up(LONG)]),
        ("regranted", vec![regranted(LONG)]),
        ("shutting_down", vec![shutting_down()]),
        ("starting", vec![starting()]),
        ("too_many_connections", vec![too_many_connections()]),
        ("timed_out", vec![timed_out("Idle too long")]),
        ("our_fault", vec![our_fault()]),
    ]
}

/// The codes of RFC 5321 §4.2.3, and those of RFC 3207 §4 and RFC 4954 §6.
const CODES: [u16; 25] = [
    214, 220, 221, 235, 250, 252, 334, 354, 421, 450, 451, 452, 454, 500, 501, 502, 503, 504, 530, 535, 550, 552, 553,
    554, 555,
];

/// Subject and detail of the statuses that we use of those registered by RFC 3463, RFC 4954, RFC 6531, RFC 6710 and RFC 8689.
const REGISTERED: [(u16, u16); 29] = [
    (0, 0),
    (1, 0),
    (1, 1),
    (1, 2),
    (1, 3),
    (1, 5),
    (1, 7),
    (1, 8),
    (3, 0),
    (3, 1),
    (3, 2),
    (3, 4),
    (3, 6),
    (4, 2),
    (4, 4),
    (4, 6),
    (5, 0),
    (5, 1),
    (5, 2),
    (5, 3),
    (5, 4),
    (5, 6),
    (6, 0),
    (6, 3),
    (6, 7),
    (7, 0),
    (7, 1),
    (7, 8),
    (7, 30),
];

/// The statuses of an upstream are its own, and so are two codes of a recipient's (`refused_upstream` looks at them).
#[test]
fn codes_and_statuses_of_ours_are_registered_ones() {
    for (name, replies) in catalogue() {
        for reply in replies {
            assert!(CODES.contains(&reply.code().number()), "{name}: {reply:?}");
            assert_ne!(reply.code().number(), 521, "{name}: RFC 6409 §7");
            let status = reply.status().map(|status| (status.subject(), status.detail()));
            assert!(status.is_none_or(|status| REGISTERED.contains(&status)), "{name}: {reply:?}");
        }
    }
    assert_eq!(needs_smtputf8().status(), Status::new(5, 6, 7));
    assert_eq!(sender_taken_at(1).status(), Status::new(2, 3, 6));
    assert_eq!(authentication_refused().status(), Status::new(5, 7, 8));
    assert_eq!(authentication_too_long().status(), Status::new(5, 5, 6));
    assert_eq!(lacking(Need::RequireTls).status(), Status::new(5, 7, 30));
}

/// The greeting and what EHLO and HELO are answered (RFC 2034 §4), and 3yz.
const WITHOUT_STATUS: [&str; 7] = ["greeting", "ehlo", "helo", "helo_name", "challenge", "challenge_with", "send_data"];

#[test]
fn every_reply_of_the_catalogue_is_tested_here() {
    let source = include_str!("../replies.rs");
    let made = source.lines().filter_map(|line| line.strip_prefix("pub fn ")).filter(|line| line.ends_with("Reply {"));
    let names: Vec<&str> = made.filter_map(|line| line.split('(').next()).collect();
    let tested: Vec<&str> = catalogue().iter().map(|(name, _)| *name).collect();
    assert_eq!(names.iter().filter(|name| !tested.contains(name)).collect::<Vec<_>>(), Vec::<&&str>::new());
    assert!(names.len() > 50, "{}", names.len());
}

/// RFC 4954 §4: base64 and nothing else.
#[test]
fn a_challenge_holds_nothing_but_the_challenge() {
    for (reply, line) in [
        (challenge(), &b"334 \r\n"[..]),
        (challenge_with(b""), b"334 \r\n"),
        (challenge_with(b"Username:"), b"334 VXNlcm5hbWU6\r\n"),
    ] {
        let mut wire = Vec::new();
        reply.write_to(&mut wire);
        assert_eq!(wire.escape_ascii().to_string(), line.escape_ascii().to_string());
    }
}

/// RFC 2920 §3.2: a client that has sent ahead can tell what is answered.
#[test]
fn of_the_commands_of_a_group_each_is_answered_in_its_own_words() {
    let said = [
        reset(),
        sender_taken(),
        recipient_taken(),
        mail_first(),
        mail_already(),
        ehlo_first(),
        send_data(),
        noop(),
        bye(),
    ];
    let mut texts: Vec<String> = said.iter().map(Reply::text).collect();
    texts.sort_unstable();
    texts.dedup();
    assert_eq!(texts.len(), said.len(), "{texts:?}");
}

#[test]
fn every_reply_has_a_status_of_its_own_class() {
    for (name, replies) in catalogue() {
        for reply in replies {
            let class = reply.code().number() / 100;
            match reply.status() {
                Some(status) => assert_eq!(u16::from(status.class()), class, "{name}: {reply}"),
                None => assert!(WITHOUT_STATUS.contains(&name), "{name}: {reply}"),
            }
        }
    }
}

#[test]
fn no_line_is_over_512_octets_and_all_are_ascii() {
    for (name, replies) in catalogue() {
        for reply in replies {
            let mut wire = Vec::new();
            reply.write_to(&mut wire);
            assert!(wire.is_ascii(), "{name}: {reply}");
            assert!(wire.split_inclusive(|&octet| octet == b'\n').all(|line| line.len() <= 512), "{name}: {reply}");
        }
    }
}

#[test]
fn the_wire_says_no_secrets() {
    for (name, replies) in catalogue() {
        for reply in replies {
            let text = reply.text();
            assert!(!text.contains("secret") && !text.contains('/'), "{name}: {reply}");
        }
    }
}

#[test]
fn what_passes_by_itself_is_421_in_every_mode_and_the_rest_is_554() {
    let now = WallTime::from_seconds(1_800_000_000);
    for cause in causes() {
        let code = if passes_by_itself(&cause) { 421 } else { 554 };
        assert_eq!(unidentified(&cause, now).code().number(), code, "{cause:?}");
        let deferred = unidentified_deferred(&cause, now);
        assert_eq!(deferred.code().number(), 421, "{cause:?}");
        assert_eq!(deferred.text(), unidentified(&cause, now).text(), "{cause:?}");
    }
}

fn too_much(measure: Measure, window: Window) -> Offence {
    let rate = Rate { measure, window, limit: 500 };
    Offence::TooMuch { rate, until: WallTime::from_millis(1_800_000_000_001) }
}

#[test]
fn a_limit_per_hour_or_day_names_itself_and_the_first_second_with_room() {
    let said: Vec<String> = refusals().iter().map(ToString::to_string).filter(|said| said.contains("Limit")).collect();
    let told = |code: &str, rate: &str| {
        format!("{code} 4.7.0 Limit of 500 {rate} reached for robot, come back at 2027-01-15T08:00:01Z")
    };
    let wanted = [
        told("451", "messages per hour"),
        told("450", "recipients per hour"),
        told("452", "messages per day"),
        told("452", "recipients per day"),
    ];
    assert_eq!(said, wanted);
}
