use proptest::prelude::*;

use super::*;
use crate::mail::{Address, Body, DeliverBy, Notify, Ret};
use crate::smtp::extension::{Extension, HoldLimits, everything_offered};

const NOW: WallTime = WallTime::from_seconds(1_800_000_000);

fn parse(line: &str) -> Result<Command, CommandFault> {
    Command::parse(line.as_bytes(), &everything_offered(), NOW)
}

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn mail_to(text: &str, parameters: MailParameters) -> Result<Command, CommandFault> {
    Ok(Command::Mail { reverse_path: ReversePath::Address(address(text)), parameters })
}

fn rcpt_to(text: &str) -> Result<Command, CommandFault> {
    let forward_path = ForwardPath::Address(address(text));
    Ok(Command::Rcpt { forward_path, parameters: RecipientParameters::default() })
}

fn auth_of(mechanism: &str, initial: Option<&[u8]>) -> Result<Command, CommandFault> {
    let initial = initial.map(|octets| InitialResponse::new(octets.to_vec()));
    Ok(Command::Auth { mechanism: mechanism.to_owned(), initial })
}

/// What is in the initial response.
fn initial_of(line: &str) -> Result<AuthOctets, NotBase64> {
    let Ok(Command::Auth { initial: Some(initial), .. }) = parse(line) else { panic!("{line}") };
    initial.read()
}

fn wrong(keyword: &str) -> Result<MailParameters, String> {
    Err(keyword.to_owned())
}

#[test]
fn each_command_is_read_in_any_case_and_with_white_space_at_its_end() {
    let table = [
        ("DATA", Command::Data),
        ("RSET", Command::Rset),
        ("NOOP", Command::Noop),
        ("NOOP are you there", Command::Noop),
        ("HELP", Command::Help),
        ("HELP MAIL", Command::Help),
        ("QUIT", Command::Quit),
        ("STARTTLS", Command::StartTls),
        ("VRFY alice", Command::Vrfy("alice".to_owned())),
        ("EXPN staff", Command::Expn),
        ("BDAT 0 LAST", Command::Bdat { count: 0, last: true }),
        ("BDAT 18446744073709551615", Command::Bdat { count: u64::MAX, last: false }),
    ];
    for (line, command) in table {
        assert_eq!(parse(line), Ok(command.clone()), "{line}");
        assert_eq!(parse(&format!("{line} \t ")), Ok(command.clone()), "{line}");
        let (verb, argument) = line.split_once(' ').map_or((line, ""), |(verb, argument)| (verb, argument));
        assert_eq!(parse(&format!("{} {argument}", verb.to_ascii_lowercase())), Ok(command), "{line}");
    }
}

#[test]
fn what_is_no_command_is_unknown() {
    for line in ["", " ", "QUIT\t\t.", "FOO", "MAILFROM:<a@example.com>", "ETRN x", "BINARY", "\u{e9}", " QUIT"] {
        assert_eq!(parse(line), Err(CommandFault::Unknown), "{line}");
    }
    assert_eq!(Command::parse(b"\xff\xfe", &Offered::default(), NOW), Err(CommandFault::Unknown));
}

#[test]
fn a_request_of_http_is_none_of_ours() {
    for line in [
        "POST / HTTP/1.1",
        "get /",
        "OPTIONS * HTTP/1.1",
        "PRI * HTTP/2.0",
        "CONNECT mx.example.net:25 HTTP/1.1",
        "POST",
    ] {
        assert_eq!(parse(line), Err(CommandFault::Http), "{line}");
    }
    for line in ["POSTMASTER", "Host: mail.example.com", "POST:"] {
        assert_eq!(parse(line), Err(CommandFault::Unknown), "{line}");
    }
}

#[test]
fn an_argument_that_does_not_belong_is_a_fault() {
    assert_eq!(parse("STARTTLS now"), Err(CommandFault::StartTls));
    for line in [
        "DATA now",
        "RSET x",
        "QUIT x",
        "VRFY",
        "MAIL",
        "MAIL FROM",
        "MAIL TO:<a@example.com>",
        "RCPT FROM:<a@example.com>",
        "MAIL FROM <a@example.com>",
        "MAIL FROM :<a@example.com>",
        "AUTH",
        "AUTH  PLAIN",
        "AUTH PL\u{e9}IN",
        "AUTH A123456789B123456789C",
    ] {
        assert!(matches!(parse(line), Err(CommandFault::Argument(_))), "{line}: {:?}", parse(line));
    }
}

#[test]
fn a_chunk_that_cannot_be_counted_is_a_fault() {
    for line in [
        "BDAT",
        "BDAT LAST",
        "BDAT -1",
        "BDAT +1",
        "BDAT 1 FIRST",
        "BDAT 1  LAST",
        "BDAT 18446744073709551616",
        "BDAT 000000000000000000001",
        "BDAT 0x10",
        "BDAT 1LAST",
        "BDAT \u{661}",
        // What another reader may take for one.
        "\tBDAT 124",
        " bdat 124 LAST",
        "BDAT\t124",
        "BDAT124",
        "\u{a0}BDAT 5",
        "BDAT:5",
    ] {
        assert_eq!(parse(line), Err(CommandFault::Bdat), "{line}");
    }
    for line in ["BDATA 5", "NOBDAT 5", "X BDAT 5"] {
        assert_eq!(parse(line), Err(CommandFault::Unknown), "{line}");
    }
}

#[test]
fn of_a_line_that_is_too_long_its_beginning_tells_what_is_behind_it() {
    let table = [
        ("POST /a?xxxxxxxxxxxxxxxx", Some(CommandFault::Http)),
        ("get /xxxxxxxxxxxxxxxxxxx", Some(CommandFault::Http)),
        ("OPTIONS /xxxxxxxxxxxxxxx", Some(CommandFault::Http)),
        ("BDAT 000000000000000000005", Some(CommandFault::Bdat)),
        ("\tbdat 5               ", Some(CommandFault::Bdat)),
        ("POSTxxxxxxxxxxxxxxxxxxxxxxx", None),
        ("BDATxxxxxxxxxxxxxxxxxxxxxxx", None),
        ("MAIL FROM:<xxxxxxxxxxxxxxxx", None),
        ("                        ", Some(CommandFault::Bdat)),
    ];
    for (line, fault) in table {
        assert_eq!(CommandFault::of_long(&Head::of(line.as_bytes())), fault, "{line}");
    }
}

#[test]
fn names_that_real_clients_send_are_read_and_made_harmless() {
    let table: [(&[u8], &str); 9] = [
        (b"EHLO mail.example.com", "mail.example.com"),
        (b"EHLO [192.0.2.1]", "[192.0.2.1]"),
        (b"ehlo [IPv6:2001:db8::1]", "[IPv6:2001:db8::1]"),
        (b"EHLO desktop_7", "desktop_7"),
        (b"EHLO localhost ", "localhost"),
        (b"EHLO Alice's PC", "Alice's?PC"),
        (b"EHLO M\xfcller", "M?ller"),
        (b"EHLO x)(by evil;\"\\<a@b>,", "x??by?evil????a?b??"),
        (b"EHLO a\tb\x7f\x1b[31m", "a?b??[31m"),
    ];
    for (line, name) in table {
        let Ok(Command::Ehlo(read)) = Command::parse(line, &Offered::default(), NOW) else {
            panic!("{}", line.escape_ascii())
        };
        assert_eq!((read.as_str(), read.to_string().as_str()), (name, name));
    }
}

#[test]
fn a_name_is_needed_and_bounded() {
    let long = "x".repeat(HELO_NAME_MAX);
    assert!(matches!(parse(&format!("HELO {long}")), Ok(Command::Helo(_))));
    for line in ["EHLO", "HELO ", &format!("EHLO {long}x")] {
        assert_eq!(parse(line), Err(CommandFault::HeloName), "{line}");
    }
}

#[test]
fn paths_are_read_with_the_leniencies_that_are_written_down() {
    let table = [
        ("RCPT TO:<bob@example.net>", "bob@example.net"),
        ("rcpt to:<bob@example.net>", "bob@example.net"),
        ("RCPT TO: <bob@example.net>", "bob@example.net"),
        ("RCPT TO:<bob@example.net>  ", "bob@example.net"),
        ("RCPT TO:<\"a>b\"@example.net>", "\"a>b\"@example.net"),
        ("RCPT TO:<\"a\\\">b\"@example.net>", "\"a\\\">b\"@example.net"),
        ("RCPT TO:<@a.example,@b.example:bob@example.net>", "bob@example.net"),
        ("RCPT TO:<bob@[192.0.2.7]>", "bob@[192.0.2.7]"),
        ("RCPT TO:<b\u{f6}b@ex\u{e4}mple.net>", "b\u{f6}b@ex\u{e4}mple.net"),
        ("RCPT TO:<postmaster@example.net>", "postmaster@example.net"),
    ];
    for (line, expected) in table {
        assert_eq!(parse(line), rcpt_to(expected), "{line}");
        let (_, path) = line.split_once(':').unwrap();
        let line = format!("MAIL FROM:{path}");
        assert_eq!(parse(&line), mail_to(expected, MailParameters::default()), "{line}");
    }
}

#[test]
fn the_null_path_and_the_bare_postmaster_are_read() {
    let null = Command::Mail { reverse_path: ReversePath::Null, parameters: MailParameters::default() };
    assert_eq!(parse("MAIL FROM:<>"), Ok(null));
    let postmaster =
        Command::Rcpt { forward_path: ForwardPath::Postmaster, parameters: RecipientParameters::default() };
    assert_eq!(parse("RCPT TO:<PostMaster>"), Ok(postmaster));
    assert_eq!(parse("RCPT TO:<>"), Err(CommandFault::Recipient(PathFault::NoRecipient)));
}

#[test]
fn a_malformed_path_says_what_is_wrong_with_it() {
    let table = [
        ("bob@example.net", PathFault::NoBracket),
        ("  <bob@example.net>", PathFault::NoBracket),
        ("", PathFault::NoBracket),
        ("<bob@example.net", PathFault::Unclosed),
        ("<\"bob>@example.net", PathFault::Unclosed),
        ("<bob@example.net>SIZE=1", PathFault::Behind),
        ("<bob@example.net>>", PathFault::Behind),
        ("<bob@example.net>\tSIZE=1", PathFault::Behind),
        ("<@a.example bob@example.net>", PathFault::Route),
        ("<@a.example,b.example:bob@example.net>", PathFault::Route),
        ("<@:bob@example.net>", PathFault::Route),
    ];
    for (path, fault) in table {
        assert_eq!(parse(&format!("MAIL FROM:{path}")), Err(CommandFault::Sender(fault)), "{path}");
        assert_eq!(parse(&format!("RCPT TO:{path}")), Err(CommandFault::Recipient(fault)), "{path}");
    }
    for path in [
        "<bob>",
        "< bob@example.net>",
        "<bob@example.net\u{1}>",
        "<a@b@c>",
        "<<bob@example.net>>",
        "<Bob <bob@example.net>",
    ] {
        let line = format!("RCPT TO:{path}");
        let is_refused =
            matches!(parse(&line), Err(CommandFault::Recipient(PathFault::Address(_) | PathFault::Behind)));
        assert!(is_refused, "{line}: {:?}", parse(&line));
    }
    let latin = Command::parse(b"MAIL FROM:<b\xf6b@example.net>", &Offered::default(), NOW);
    assert_eq!(latin, Err(CommandFault::Sender(PathFault::NotUtf8)));
}

#[test]
fn parameters_are_read_in_any_case_and_order() {
    let line = "MAIL FROM:<a@example.com> smtputf8 Size=1000  body=8bitmime RET=hdrs ENVID=QQ+2B314 requiretls BY=120;rt HOLDFOR=60 MT-PRIORITY=-3 AUTH=a+3Db@example.com";
    let expected = MailParameters {
        size: Some(1000),
        body: Body::EightBitMime,
        smtputf8: true,
        ret: Some(Ret::Headers),
        envid: Some("QQ+2B314".to_owned()),
        require_tls: true,
        deliver_by: Some(DeliverBy {
            deadline: NOW.after(std::time::Duration::from_secs(120)),
            or_return: true,
            trace: true,
        }),
        hold_until: Some(NOW.after(std::time::Duration::from_secs(60))),
        priority: Some(-3),
    };
    assert_eq!(parse(line), mail_to("a@example.com", expected));
    let Ok(Command::Rcpt { parameters, .. }) =
        parse("RCPT TO:<b@example.net> NOTIFY=success,Delay ORCPT=rfc822;B+2Bx@example.net")
    else {
        panic!()
    };
    assert_eq!(parameters.notify, Some(Notify { success: true, failure: false, delay: true }));
    let original = parameters.orcpt.unwrap();
    assert_eq!((original.address_type.as_str(), original.address.as_str()), ("rfc822", "B+2Bx@example.net"));
}

/// Value of one MAIL parameter, or the parameter at fault.
fn mail_with(parameter: &str) -> Result<MailParameters, String> {
    match parse(&format!("MAIL FROM:<a@example.com> {parameter}")) {
        Ok(Command::Mail { parameters, .. }) => Ok(parameters),
        Err(CommandFault::Parameter { keyword, .. }) => Err(keyword),
        other => Err(format!("{other:?}")),
    }
}

#[test]
fn right_values_are_read() {
    let size = |size| Ok(MailParameters { size: Some(size), ..MailParameters::default() });
    let priority = |priority| Ok(MailParameters { priority: Some(priority), ..MailParameters::default() });
    let by = |seconds: i64, or_return, trace| {
        let deadline = WallTime::from_millis(NOW.millis() + seconds * 1000);
        Ok(MailParameters { deliver_by: Some(DeliverBy { deadline, or_return, trace }), ..MailParameters::default() })
    };
    let hold =
        |moment| Ok(MailParameters { hold_until: Some(WallTime::from_seconds(moment)), ..MailParameters::default() });
    let nothing = || Ok(MailParameters::default());
    // RFC 3461 §5.4.
    let longest = "x".repeat(100);
    let envid = Ok(MailParameters { envid: Some(longest.clone()), ..MailParameters::default() });
    let longest = format!("ENVID={longest}");
    let table = [
        (longest.as_str(), envid),
        ("SIZE=0", size(0)),
        ("SIZE=18446744073709551615", size(u64::MAX)),
        ("SIZE=99999999999999999999", size(u64::MAX)),
        ("BODY=7BIT", nothing()),
        ("AUTH=<>", nothing()),
        ("AUTH=alice@example.com", nothing()),
        ("MT-PRIORITY=0", priority(0)),
        ("MT-PRIORITY=9", priority(9)),
        ("BY=-999999999;N", by(-999_999_999, false, false)),
        ("BY=+5;NT", by(5, false, true)),
        ("BY=1;R", by(1, true, false)),
        ("HOLDFOR=1", hold(1_800_000_001)),
        ("HOLDUNTIL=2027-01-15T08:00:01Z", hold(1_800_000_001)),
        ("HOLDUNTIL=2027-01-15t08:00:01.000+00:00", hold(1_800_000_001)),
        ("HOLDUNTIL=2027-01-15T08:00:00.999000001-00:00", hold(1_800_000_001)),
    ];
    for (parameter, expected) in table {
        assert_eq!(mail_with(parameter), expected, "{parameter}");
    }
}

#[test]
fn wrong_values_are_faults() {
    let long_envid = format!("ENVID={}", "x".repeat(101));
    let table: [(&str, &[&str]); 11] = [
        (
            "SIZE",
            &[
                "SIZE",
                "SIZE=",
                "SIZE=-1",
                "SIZE=1k",
                "SIZE=000000000000000000001",
                "SIZE=1=2",
                "SIZE=1 SIZE=1",
                "SIZE=1 size=2",
            ],
        ),
        ("BODY", &["BODY", "BODY=BINARYMIME", "BODY=9BIT", "BODY=7BIT BODY=7BIT"]),
        ("SMTPUTF8", &["SMTPUTF8=", "SMTPUTF8=1", "SMTPUTF8 SMTPUTF8"]),
        ("REQUIRETLS", &["REQUIRETLS=yes"]),
        ("AUTH", &["AUTH", "AUTH=", "AUTH=a+b", "AUTH=a+3d", "AUTH=\u{e9}"]),
        ("RET", &["RET", "RET=ALL", "RET=FULL RET=FULL"]),
        ("ENVID", &["ENVID", "ENVID=", "ENVID=+", "ENVID=+0", "ENVID=+0G", "ENVID=+0A", "ENVID=a=b", &long_envid]),
        ("BY", &["BY", "BY=1", "BY=;R", "BY=0;R", "BY=-1;R", "BY=1;X", "BY=1;RTT", "BY=1234567890;N", "BY=--1;N"]),
        ("HOLDFOR", &["HOLDFOR", "HOLDFOR=-1", "HOLDFOR=0", "HOLDFOR=01", "HOLDFOR=1234567890", "HOLDFOR=1 HOLDFOR=1"]),
        (
            "HOLDUNTIL",
            &[
                "HOLDUNTIL=2027-01-15",
                "HOLDUNTIL=2027-13-15T08:00:01Z",
                "HOLDUNTIL=2027-01-15T08:00:01+01",
                "HOLDUNTIL=2027-01-15T08:00:01Z[UTC]",
                "HOLDUNTIL=20270115T080001.000Z",
                "HOLDUNTIL=2027-01-15T08:00:01+01:00",
                "HOLDUNTIL=2027-01-15T08:00:01",
                "HOLDUNTIL=2027-01-15T08:00:01.Z",
                "HOLDUNTIL=2027-01-15T08:00:01.1234567890Z",
                "HOLDUNTIL=2027-01-15T08:00:\u{e9}1Z",
                "HOLDFOR=1 HOLDUNTIL=2027-01-15T08:00:01Z",
            ],
        ),
        (
            "MT-PRIORITY",
            &["MT-PRIORITY", "MT-PRIORITY=10", "MT-PRIORITY=-10", "MT-PRIORITY=+1", "MT-PRIORITY=01", "MT-PRIORITY=-0"],
        ),
    ];
    for (keyword, values) in table {
        for value in values {
            assert_eq!(mail_with(value), wrong(keyword), "{value}");
        }
    }
}

/// RFC 2852 §4: with `R` the time must lie ahead, whatever is the least that EHLO promises.
#[test]
fn a_time_that_is_over_cannot_be_asked_for_with_r() {
    let offered = everything_offered().with_deliver_by(None);
    for (value, right) in
        [("0;R", false), ("-0;R", false), ("-1;R", false), ("1;R", true), ("0;N", true), ("-1;N", true)]
    {
        let line = format!("MAIL FROM:<> BY={value}");
        assert_eq!(Command::parse(line.as_bytes(), &offered, NOW).is_ok(), right, "{value}");
    }
}

#[test]
fn wrong_values_of_a_recipient_are_faults() {
    let long = format!("ORCPT=rfc822;{}", "x".repeat(500));
    let table: [(&str, &[&str]); 2] = [
        (
            "NOTIFY",
            &[
                "NOTIFY",
                "NOTIFY=",
                "NOTIFY=NEVER,FAILURE",
                "NOTIFY=FAILURE,",
                "NOTIFY=ALWAYS",
                "NOTIFY=NEVER NOTIFY=NEVER",
            ],
        ),
        (
            "ORCPT",
            &[
                "ORCPT",
                "ORCPT=a@example.net",
                "ORCPT=;a",
                "ORCPT=rfc822;",
                "ORCPT=rfc822;a+0D+0Ab",
                "ORCPT=rf_c822;a",
                "ORCPT=rfc822;\u{e9}",
                "ORCPT=utf-8;a+b@example.net",
                "ORCPT=utf-8;a\\b@example.net",
                "ORCPT=utf-8;\\x{f6}@example.net",
                "ORCPT=utf-8;\\x{F6",
                "ORCPT=utf-8;\\x{F6}+@example.net",
                "ORCPT=utf-8;a\u{1}b@example.net",
                "ORCPT=utf-8;a\u{85}b@example.net",
                &long,
            ],
        ),
    ];
    for (keyword, values) in table {
        for value in values {
            let read = parse(&format!("RCPT TO:<b@example.net> {value}"));
            let is_fault = matches!(&read, Err(CommandFault::Parameter { keyword: found, .. }) if found == keyword);
            assert!(is_fault, "{value}: {read:?}");
        }
    }
    assert!(parse("RCPT TO:<b@example.net> ORCPT=utf-8;\u{e9}@ex\u{e4}mple.net").is_ok());
    // RFC 3461 §5.4: 500 characters.
    assert!(parse(&format!("RCPT TO:<b@example.net> ORCPT=rfc822;{}", "x".repeat(493))).is_ok());
    assert!(parse(&format!("RCPT TO:<b@example.net> ORCPT=rfc822;{}", "x".repeat(494))).is_err());
    assert!(parse("RCPT TO:<b@example.net> ORCPT=utf-8;j\\x{F6}\u{e9}\\x{2B}@example.net").is_ok());
    assert!(parse("RCPT TO:<b@example.net> NOTIFY=NEVER").is_ok());
}

#[test]
fn what_is_not_offered_is_not_known() {
    let unknown = |line: &str, offered: &Offered| match Command::parse(line.as_bytes(), offered, NOW) {
        Err(CommandFault::UnknownParameter(keyword)) => keyword,
        other => panic!("{line}: {other:?}"),
    };
    let table = [
        (Extension::Size, "SIZE=1", "SIZE"),
        (Extension::EightBitMime, "BODY=7BIT", "BODY"),
        (Extension::SmtpUtf8, "SMTPUTF8", "SMTPUTF8"),
        (Extension::Dsn, "RET=FULL", "RET"),
        (Extension::Dsn, "ENVID=x", "ENVID"),
        (Extension::RequireTls, "REQUIRETLS", "REQUIRETLS"),
        (Extension::DeliverBy, "BY=1;R", "BY"),
        (Extension::FutureRelease, "HOLDFOR=1", "HOLDFOR"),
        (Extension::FutureRelease, "HOLDUNTIL=2027-01-15T08:00:01Z", "HOLDUNTIL"),
        (Extension::MtPriority, "MT-PRIORITY=1", "MT-PRIORITY"),
    ];
    for (extension, parameter, keyword) in table {
        let line = format!("MAIL FROM:<a@example.com> {parameter}");
        assert!(parse(&line).is_ok(), "{line}");
        assert_eq!(unknown(&line, &everything_offered().without(extension)), keyword);
        assert_eq!(unknown(&format!("RCPT TO:<a@example.com> {parameter}"), &everything_offered()), keyword);
    }
    for parameter in ["NOTIFY=NEVER", "ORCPT=rfc822;a"] {
        unknown(&format!("RCPT TO:<a@example.com> {parameter}"), &everything_offered().without(Extension::Dsn));
        unknown(&format!("MAIL FROM:<a@example.com> {parameter}"), &everything_offered());
    }
    assert_eq!(unknown("MAIL FROM:<a@example.com> XYZ=1", &everything_offered()), "XYZ");
    assert!(Command::parse(b"MAIL FROM:<a@example.com> AUTH=<>", &Offered::default(), NOW).is_ok());
}

#[test]
fn a_word_that_is_no_parameter_is_a_fault() {
    for word in ["=", "=1", "-A", "A_B=1", "S\u{e9}=1", "<b@example.com>", "SI;ZE", "\u{1b}[31m"] {
        let line = format!("MAIL FROM:<a@example.com> {word}");
        assert!(matches!(parse(&line), Err(CommandFault::Argument(_))), "{line}: {:?}", parse(&line));
    }
}

#[test]
fn auth_takes_strict_base64_and_tells_empty_from_absent() {
    assert_eq!(parse("AUTH EXTERNAL"), auth_of("EXTERNAL", None));
    assert_eq!(parse("auth external ="), auth_of("EXTERNAL", Some(b"=")));
    assert_eq!(initial_of("auth external ="), Ok(AuthOctets::new(Vec::new())));
    assert_eq!(parse("AUTH PLAIN AGEAYg=="), auth_of("PLAIN", Some(b"AGEAYg==")));
    assert_eq!(initial_of("AUTH PLAIN AGEAYg=="), Ok(AuthOctets::new(b"\0a\0b".to_vec())));
    // RFC 4422 §3.1: a mechanism has up to 20 letters.
    let longest = "M".repeat(MECHANISM_MAX);
    assert_eq!(parse(&format!("AUTH {longest}")), auth_of(&longest, None));
    assert_eq!(parse(&format!("AUTH {longest}M")), Err(CommandFault::Argument("AUTH takes a mechanism")));
    assert_eq!(parse("AUTH SCRAM-SHA-256 AGEAYg=="), auth_of("SCRAM-SHA-256", Some(b"AGEAYg==")));
    for initial in [
        "AGEAYg=",
        "AGEAYg",
        "AGEAYh==",
        "AG EAYg==",
        "AGEA*g==",
        "==",
        "A",
        "AGEA Yg==",
        "AGEAYg== x",
        "-_-_",
        " AGEAYg==",
    ] {
        assert_eq!(initial_of(&format!("AUTH PLAIN {initial}")), Err(NotBase64), "{initial}");
    }
}

#[test]
fn the_answer_to_a_challenge_is_a_response_or_a_cancel() {
    let response = |octets: &[u8]| Ok(AuthAnswer::Response(AuthOctets::new(octets.to_vec())));
    assert_eq!(AuthAnswer::parse(b"*"), Ok(AuthAnswer::Cancel));
    assert_eq!(AuthAnswer::parse(b""), response(b""));
    assert_eq!(AuthAnswer::parse(b"AGEAYg=="), response(b"\0a\0b"));
    for line in [&b"="[..], b"**", b"AGEAYg", b"\xff"] {
        assert_eq!(AuthAnswer::parse(line), Err(NotBase64));
    }
}

#[test]
fn what_is_said_in_auth_is_not_printed() {
    let command = parse("AUTH PLAIN AHNlY3JldABzZWNyZXQ=").unwrap();
    assert_eq!(format!("{command:?}"), "Auth { mechanism: \"PLAIN\", initial: Some(InitialResponse([secret])) }");
}

#[test]
fn xtext_takes_upper_case_only_and_nothing_unprintable() {
    assert_eq!(xtext::encode("a+b=c d\u{e9}".as_bytes()), "a+2Bb+3Dc+20d+C3+A9");
    assert_eq!(xtext::decode("a+2Bb"), Some(b"a+b".to_vec()));
    for text in ["+2b", "+", "+2", "a=b", "a b", "\u{e9}", "+ 2B"] {
        assert_eq!(xtext::decode(text), None, "{text}");
    }
}

/// MAIL as a client writes it.
fn mail_line(parameters: &MailParameters) -> String {
    let mut words = vec!["MAIL FROM:<a@example.com>".to_owned()];
    words.extend(parameters.size.map(|octets| format!("SIZE={octets}")));
    words.extend((parameters.body == Body::EightBitMime).then(|| "BODY=8BITMIME".to_owned()));
    words.extend(parameters.smtputf8.then(|| "SMTPUTF8".to_owned()));
    words.extend(parameters.ret.map(|ret| format!("RET={}", if ret == Ret::Full { "FULL" } else { "HDRS" })));
    words.extend(parameters.envid.as_ref().map(|envid| format!("ENVID={envid}")));
    words.extend(parameters.require_tls.then(|| "REQUIRETLS".to_owned()));
    words.extend(parameters.deliver_by.map(|by| {
        let seconds = (by.deadline.millis() - NOW.millis()) / 1000;
        format!("BY={seconds};{}{}", if by.or_return { "R" } else { "N" }, if by.trace { "T" } else { "" })
    }));
    words.extend(parameters.hold_until.map(|until| format!("HOLDUNTIL={}", until.rfc3339())));
    words.extend(parameters.priority.map(|priority| format!("MT-PRIORITY={priority}")));
    words.join(" ")
}

fn parameters() -> impl Strategy<Value = MailParameters> {
    let deliver_by = (1_i64..999_999_999, any::<bool>(), any::<bool>())
        .prop_map(|(seconds, or_return, trace)| (seconds, or_return, trace));
    let envid = "[ -~]{1,30}".prop_map(|text| xtext::encode(text.as_bytes()));
    let ret = prop_oneof![Just(Ret::Full), Just(Ret::Headers)];
    let body = prop_oneof![Just(Body::SevenBit), Just(Body::EightBitMime)];
    (
        (any::<Option<u64>>(), body, any::<bool>(), any::<bool>()),
        (prop::option::of(ret), prop::option::of(envid), prop::option::of(deliver_by)),
        (prop::option::of(0_i64..5_000_000_000), prop::option::of(-9_i8..=9)),
    )
        .prop_map(|((size, body, smtputf8, require_tls), (ret, envid, deliver_by), (hold, priority))| {
            let deliver_by = deliver_by.map(|(seconds, or_return, trace)| DeliverBy {
                deadline: WallTime::from_seconds(NOW.seconds() + seconds),
                or_return,
                trace,
            });
            let wanted = hold.map(WallTime::from_seconds);
            let hold_until = wanted.map(|until| deliver_by.map_or(until, |by| until.min(by.deadline)));
            MailParameters { size, body, smtputf8, ret, envid, require_tls, deliver_by, hold_until, priority }
        })
}

proptest! {
    #[test]
    fn parameters_come_back_as_they_were_written(parameters in parameters()) {
        let line = mail_line(&parameters);
        prop_assert_eq!(parse(&line), mail_to("a@example.com", parameters), "{}", line);
    }
}

#[test]
fn what_is_beyond_the_offer_is_a_fault() {
    let offered = Offered::default().with_deliver_by(Some(60)).with_future_release(HoldLimits {
        interval_max: 3600,
        latest: NOW.after(std::time::Duration::from_secs(1800)),
    });
    for (parameter, right) in [
        ("BY=60;R", true),
        ("BY=59;R", false),
        ("BY=59;N", true),
        ("BY=-60;N", true),
        // RFC 4865 §5.2.2: not to be sent on after it was to be delivered, in either order.
        ("BY=60;R HOLDFOR=60", true),
        ("BY=60;R HOLDFOR=61", false),
        ("HOLDUNTIL=2027-01-15T08:01:01Z BY=60;N", false),
        ("BY=-60;N HOLDFOR=1", false),
        ("HOLDFOR=1800", true),
        ("HOLDFOR=1801", false),
        ("HOLDUNTIL=2027-01-15T08:30:00Z", true),
        ("HOLDUNTIL=2027-01-15T08:30:01Z", false),
        ("HOLDUNTIL=1999-01-01T00:00:00Z", true),
    ] {
        let line = format!("MAIL FROM:<a@example.com> {parameter}");
        assert_eq!(Command::parse(line.as_bytes(), &offered, NOW).is_ok(), right, "{parameter}");
    }
}
