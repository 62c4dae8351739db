//! The machine without sockets: what is said, line by line, and what comes of what is answered.

use proptest::prelude::*;

use super::*;
use crate::mail::{
    Address, Body, Envelope, ForwardPath, MailParameters, Notify, OriginalRecipient, Recipient, RecipientParameters,
    Ret, ReversePath,
};
use crate::queue::Outcome;
use crate::smtp::reply::REPLY_KEPT_MAX;
use crate::upstream::attempt::Attempt;
use crate::upstream::settings::{Chunking, Credentials, EightBit, Manner, Mechanism, ReplyPattern, Secret, Submitter};
use crate::upstream::seven_bit::NotEncodable;

mod chunks;
mod login;
mod waiting;

const GREETING: &str = "220 up.example.net ESMTP\r\n";
const PLAIN_EHLO: &str = "250-up.example.net\r\n250 8BITMIME\r\n";
const PIPELINED: &str =
    "250-up.example.net\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 DSN\r\n";

fn terms(tls: TlsTerm) -> Terms {
    Terms {
        upstream: "main".into(),
        address: None,
        helo: "relay.example.com".into(),
        tls,
        credentials: None,
        fresh: Fresh::default(),
        ours: ReplyPattern::known(),
        manner: Manner::default(),
    }
}

fn with_password(tls: TlsTerm) -> Terms {
    Terms { credentials: Some(Credentials::new("relay", Secret::new("s3cret")).unwrap()), ..terms(tls) }
}

fn recipient(address: &str) -> Recipient {
    Recipient {
        forward_path: ForwardPath::Address(Address::parse(address).unwrap()),
        parameters: RecipientParameters::default(),
    }
}

fn order_with(sender: &str, parameters: MailParameters, recipients: Vec<Recipient>) -> Order {
    let places: Vec<usize> = (0..recipients.len()).collect();
    let sender = ReversePath::Address(Address::parse(sender).unwrap());
    Order::new(&Envelope::new(sender, parameters, recipients).unwrap(), &places, 77)
}

fn order(recipients: usize) -> Order {
    let recipients = (0..recipients).map(|n| recipient(&format!("r{n}@example.net"))).collect();
    order_with("alice@example.com", MailParameters::default(), recipients)
}

/// A step in a line: what is sent with its lines joined by `|`, or what is asked for.
fn show(step: &Step) -> String {
    match step {
        Step::Send(octets) => format!("> {}", String::from_utf8_lossy(octets).trim_end().replace("\r\n", " | ")),
        Step::Read(_) => "read".into(),
        Step::StartTls => "start tls".into(),
        Step::Derive(_) => "derive".into(),
        Step::Ready => "ready".into(),
        Step::Asked => "asked".into(),
        Step::Look(Look::Headers) => "look at headers".into(),
        Step::Look(look) => format!("look {look:?}"),
        Step::SendBody { ahead, form, framing } => {
            let ahead = String::from_utf8_lossy(ahead).trim_end().replace("\r\n", " | ");
            let form = if *form == Form::SevenBit { " in seven bits" } else { "" };
            match framing {
                Framing::Dots => format!("body{form}"),
                Framing::Count(octets) => format!("> {ahead} body{form} {octets}"),
            }
        }
        Step::EndBody => "end body".into(),
        Step::Done(attempt) => format!("done {}", show_attempt(attempt)),
        Step::Over(fault) => format!("over {:?} {}", fault.phase, name_of(&fault.cause)),
        Step::Left => "left".into(),
    }
}

fn name_of(cause: &FaultCause) -> String {
    let text = format!("{cause:?}");
    text.split(['(', ' ']).next().unwrap().to_owned()
}

fn show_attempt(attempt: &Attempt) -> String {
    let letter = |outcome: &Outcome| match outcome {
        Outcome::Delivered { .. } => 'D',
        Outcome::Deferred { .. } => 'L',
        Outcome::Failed { .. } => 'F',
    };
    let mut text: String = attempt.outcomes.iter().map(|(_, outcome)| letter(outcome)).collect();
    if let Some(fault) = &attempt.fault {
        text += &format!(" {:?} {}", fault.phase, name_of(&fault.cause));
    }
    if !attempt.free.is_empty() {
        text += &format!(" free{:?}", attempt.free);
    }
    if !attempt.undetermined.is_empty() {
        text += &format!(" undetermined{:?}", attempt.undetermined);
    }
    text
}

/// A dialogue, and how its last step looked.
struct Talk {
    dialog: Dialog,
    last: String,
}

impl Talk {
    fn new(terms: Terms) -> Self {
        let mut talk = Self { dialog: Dialog::new(terms), last: String::new() };
        talk.on(Event::Connected(None), "read");
        talk
    }

    /// A session that is ready, after an EHLO answered like this.
    fn ready(ehlo: &str) -> Self {
        let mut talk = Self::new(terms(TlsTerm::Never));
        talk.hear(GREETING, "> EHLO relay.example.com");
        talk.hear(ehlo, "ready");
        talk
    }

    #[track_caller]
    fn on(&mut self, event: Event<'_>, expected: &str) -> &mut Self {
        let shown = format!("{event:?}");
        self.last = show(&self.dialog.on(event));
        assert_eq!(self.last, expected, "after {shown}");
        self
    }

    #[track_caller]
    fn hear(&mut self, octets: &str, expected: &str) -> &mut Self {
        self.last = show(&self.dialog.on(Event::Received(octets.as_bytes())));
        assert_eq!(self.last, expected, "after {octets:?}");
        self
    }
}

/// Which fault is told hung on the pieces in which the octets came (RFC 5321 §4.5.3.1.5; `fixtures/fuzz/upstream`).
#[test]
fn a_line_over_the_limit_is_told_as_that_whatever_stands_behind_it() {
    let most = REPLY_LINE_READ_MAX - 2;
    for (text, behind, told) in [
        (most, "\0", "a NUL"),
        (most, "\n", "a LF that no CR precedes"),
        (most + 1, "\0", "a line longer than allowed"),
        (most + 1, "\n", "a line longer than allowed"),
        (most + 1, "\rx", "a line longer than allowed"),
        (most + 1, "\r\n", "a line longer than allowed"),
    ] {
        let line = "2".repeat(text) + behind;
        for cut in [0, 1, most, most + 1, line.len() - 1] {
            let mut dialog = Dialog::new(terms(TlsTerm::Never));
            let (first, second) = line.split_at(cut);
            dialog.on(Event::Connected(None));
            let mut step = dialog.on(Event::Received(first.as_bytes()));
            if let Step::Read(_) = step {
                step = dialog.on(Event::Received(second.as_bytes()));
            }
            assert!(
                format!("{step:?}").contains(&format!("Unintelligible({told:?})")),
                "{text} {behind:?} {cut}: {step:?}"
            );
        }
    }
}

/// 16 GB went by while the end of the line was waited for, and then it was called silent.
#[test]
fn a_reply_whose_line_never_ends_is_none_once_it_is_over_the_limit() {
    for (begin, so_far) in [("220 ", 4), ("", 0)] {
        let mut talk = Talk::new(terms(TlsTerm::Never));
        talk.hear(begin, "read").hear(&"x".repeat(REPLY_LINE_READ_MAX - 2 - so_far), "read");
        talk.hear("x", "over Greeting Unintelligible");
        assert!(!talk.dialog.is_usable());
    }
    let mut talk = Talk::ready(PLAIN_EHLO);
    talk.on(Event::Begin(order(1)), "> MAIL FROM:<alice@example.com>")
        .hear(&"2".repeat(2 * REPLY_LINE_READ_MAX), "done L Mail Unintelligible free[0]");
}

#[test]
fn a_message_goes_command_by_command_without_pipelining() {
    let mut talk = Talk::ready(PLAIN_EHLO);
    talk.on(Event::Begin(order(2)), "> MAIL FROM:<alice@example.com>")
        .hear("250 ok\r\n", "> RCPT TO:<r0@example.net>")
        .hear("250 ok\r\n", "> RCPT TO:<r1@example.net>")
        .hear("251 forwarding\r\n", "> DATA")
        .hear("354 go\r\n", "body")
        .on(Event::BodyAtEnd, "end body")
        .hear("250 2.0.0 kept as 42\r\n", "done DD");
    assert!(talk.dialog.is_usable());
    talk.on(Event::Leave, "> QUIT").hear("221 bye\r\n", "left");
}

#[test]
fn a_message_goes_in_one_write_when_pipelining_is_offered() {
    let mut talk = Talk::ready(PIPELINED);
    let all = "> MAIL FROM:<alice@example.com> SIZE=77 | RCPT TO:<r0@example.net> | RCPT TO:<r1@example.net> | DATA";
    talk.on(Event::Begin(order(2)), all)
        .hear("250 ok\r\n250 ok\r\n550 5.1.1 no such user\r\n", "read")
        .hear("354 go\r\n", "body")
        .on(Event::BodyAtEnd, "end body")
        .hear("250 ok\r\n", "done DF");
}

#[test]
fn a_second_message_needs_rset_only_after_a_failure() {
    let mut talk = Talk::ready(PLAIN_EHLO);
    talk.on(Event::Begin(order(1)), "> MAIL FROM:<alice@example.com>").hear("550 5.7.1 no\r\n", "done F");
    talk.on(Event::Begin(order(1)), "> RSET")
        .hear("250 ok\r\n", "> MAIL FROM:<alice@example.com>")
        .hear("250 ok\r\n", "> RCPT TO:<r0@example.net>")
        .hear("250 ok\r\n", "> DATA")
        .hear("354 go\r\n", "body")
        .on(Event::BodyAtEnd, "end body")
        .hear("250 ok\r\n", "done D");
    talk.on(Event::Begin(order(1)), "> MAIL FROM:<alice@example.com>");
    let mut talk = brought_to(Phase::EndOfData);
    talk.hear("554 5.7.1 spam\r\n", "done FF").on(Event::Begin(order(1)), "> RSET");
}

#[test]
fn all_recipients_refused_ends_without_data() {
    Talk::ready(PLAIN_EHLO)
        .on(Event::Begin(order(1)), "> MAIL FROM:<alice@example.com>")
        .hear("250 ok\r\n", "> RCPT TO:<r0@example.net>")
        .hear("550 5.1.1 no\r\n", "done F");
}

/// RFC 2920 §3.1: DATA was sent ahead and granted, though nobody receives.
#[test]
fn all_recipients_refused_and_data_granted_ends_with_a_lone_dot() {
    let mut talk = Talk::ready(PIPELINED);
    talk.dialog.on(Event::Begin(order(2)));
    talk.hear("250 ok\r\n550 5.1.1 no\r\n450 4.2.1 later\r\n354 go\r\n", "> .")
        .hear("554 5.5.1 no valid recipients\r\n", "done FL");
    assert!(talk.dialog.is_usable());
}

/// Once 303 octets to a thousand recipients made a record of 92 MB, of what the upstream had said to each.
#[test]
fn of_what_is_said_to_a_recipient_little_is_kept() {
    let said = |code: &str| {
        let line = [format!("{code}-").as_bytes(), &[0xff; 300], b"\r\n"].concat();
        [line.repeat(99), format!("{code} 5.1.1 end\r\n").into_bytes()].concat()
    };
    for (code, letter) in [("550", 'F'), ("450", 'L'), ("354", 'L')] {
        let mut talk = Talk::ready(PLAIN_EHLO);
        talk.on(Event::Begin(order(1)), "> MAIL FROM:<alice@example.com>")
            .hear("250 ok\r\n", "> RCPT TO:<r0@example.net>");
        let Step::Done(attempt) = talk.dialog.on(Event::Received(&said(code))) else { panic!("done") };
        assert_eq!(show_attempt(&attempt).chars().next(), Some(letter));
        let (_, Outcome::Failed { reply, .. } | Outcome::Deferred { reply, .. }) = &attempt.outcomes[0] else {
            panic!("{attempt:?}")
        };
        let fault = attempt.fault.as_ref().map(ToString::to_string).unwrap_or_default();
        assert!(fault.len() < 2 * REPLY_KEPT_MAX, "{fault}");
        let Some(reply) = reply else { continue };
        assert_eq!(reply.code().to_string(), code);
        assert!(reply.text().len() <= REPLY_KEPT_MAX && reply.text().ends_with("[...]"), "{reply}");
    }
}

/// A refusal answers what was sent ahead of it too; the 503s behind it are nobody's fault.
#[test]
fn replies_behind_a_refusal_say_nothing() {
    for (replies, expected) in [
        ("550 5.7.1 no\r\n503 5.5.1 MAIL?\r\n503 5.5.1 MAIL?\r\n503 5.5.1 RCPT?\r\n", "done FF"),
        ("451 4.7.1 no\r\n503 5.5.1 MAIL?\r\n530 5.7.0 who?\r\n554 5.5.1 RCPT?\r\n", "done LL"),
        ("250 ok\r\n550 5.1.1 no\r\n450 4.2.1 later\r\n503 5.5.1 RCPT?\r\n", "done FL"),
        ("250 ok\r\n550 5.1.1 no\r\n450 4.2.1 later\r\n421 4.3.2 bye\r\n", "done FL Data Leaves"),
    ] {
        let mut talk = Talk::ready(PIPELINED);
        talk.dialog.on(Event::Begin(order(2)));
        talk.hear(replies, expected);
    }
}

#[test]
fn data_granted_without_a_sender_ends_the_connection_and_sends_nothing() {
    let mut talk = Talk::ready(PIPELINED);
    talk.dialog.on(Event::Begin(order(1)));
    talk.hear("550 5.7.1 no\r\n250 ok\r\n354 go\r\n", "done F Data UnexpectedReply");
    assert!(!talk.dialog.is_usable());
}

/// RFC 5321 §3.3: not an octet of the message goes but behind 354, or a 3yz that nobody knows, which counts by its first digit (§4.2).
#[test]
fn the_message_is_sent_behind_a_3yz_alone() {
    for (reply, expected) in [
        ("354 go\r\n", "body"),
        ("250 ok\r\n", "done L Data UnexpectedReply free[0]"),
        ("355-go\r\n355 go\r\n", "body"),
        ("251 go\r\n", "done L Data UnexpectedReply free[0]"),
    ] {
        let mut talk = Talk::ready(PLAIN_EHLO);
        talk.on(Event::Begin(order(1)), "> MAIL FROM:<alice@example.com>")
            .hear("250 ok\r\n", "> RCPT TO:<r0@example.net>")
            .hear("250 ok\r\n", "> DATA")
            .hear(reply, expected);
    }
}

#[test]
fn parameters_are_said_only_when_offered() {
    let parameters = MailParameters {
        body: Body::EightBitMime,
        ret: Some(Ret::Headers),
        envid: Some("QQ314159".into()),
        ..MailParameters::default()
    };
    let mut to = recipient("bob@example.net");
    to.parameters.notify = Some(Notify { success: true, failure: true, delay: false });
    to.parameters.orcpt = Some(OriginalRecipient { address_type: "rfc822".into(), address: "Bob+40b".into() });
    let order = order_with("alice@example.com", parameters, vec![to]);
    let all = "> MAIL FROM:<alice@example.com> SIZE=77 BODY=8BITMIME RET=HDRS ENVID=QQ314159 \
               | RCPT TO:<bob@example.net> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Bob+40b | DATA";
    Talk::ready(PIPELINED).on(Event::Begin(order.clone()), all);
    Talk::ready("250-up\r\n250 PIPELINING\r\n")
        .on(Event::Begin(order), "> MAIL FROM:<alice@example.com> | RCPT TO:<bob@example.net> | DATA");
}

/// RFC 4954 §5: only where we have authenticated, and only for an upstream that is set so.
#[test]
fn nobody_vouches_for_the_submitter_where_that_is_to_be_said() {
    let ehlo = "250-up.example.net\r\n250 AUTH PLAIN\r\n";
    for (submitter, expected) in [
        (Submitter::Unsaid, "> MAIL FROM:<alice@example.com>"),
        (Submitter::Nobody, "> MAIL FROM:<alice@example.com> AUTH=<>"),
    ] {
        let manner = Manner { submitter, ..Manner::default() };
        let with = |terms| Talk::new(Terms { manner, ..terms });
        with(with_password(TlsTerm::FromTheStart))
            .hear(GREETING, "> EHLO relay.example.com")
            .hear(ehlo, "> AUTH PLAIN AHJlbGF5AHMzY3JldA==")
            .hear("235 2.7.0 in\r\n", "ready")
            .on(Event::Begin(order(1)), expected);
        with(terms(TlsTerm::Never))
            .hear(GREETING, "> EHLO relay.example.com")
            .hear(ehlo, "ready")
            .on(Event::Begin(order(1)), "> MAIL FROM:<alice@example.com>");
    }
}

#[test]
fn a_parameter_that_could_inject_a_command_is_not_said() {
    let parameters =
        MailParameters { envid: Some("x\r\nRCPT TO:<eve@example.org>".into()), ..MailParameters::default() };
    let order = order_with("alice@example.com", parameters, vec![recipient("bob@example.net")]);
    let all = "> MAIL FROM:<alice@example.com> SIZE=77 | RCPT TO:<bob@example.net> | DATA";
    Talk::ready(PIPELINED).on(Event::Begin(order), all);
}

#[test]
fn bare_postmaster_and_null_sender_are_said_as_such() {
    let to = Recipient { forward_path: ForwardPath::Postmaster, parameters: RecipientParameters::default() };
    let envelope = Envelope::new(ReversePath::Null, MailParameters::default(), vec![to]).unwrap();
    Talk::ready("250-up\r\n250 PIPELINING\r\n")
        .on(Event::Begin(Order::new(&envelope, &[0], 1)), "> MAIL FROM:<> | RCPT TO:<postmaster> | DATA");
}

#[test]
fn what_is_too_large_for_the_upstream_fails_without_being_sent() {
    let mut talk = Talk::ready("250-up\r\n250 SIZE 76\r\n");
    talk.on(Event::Begin(order(2)), "done FF");
    assert!(talk.dialog.is_usable());
    Talk::ready("250-up\r\n250 SIZE 0\r\n").on(Event::Begin(order(1)), "> MAIL FROM:<alice@example.com> SIZE=77");
}

#[test]
fn smtputf8_is_asked_for_when_offered_and_fails_only_who_needs_it_when_not() {
    let flagged = || MailParameters { smtputf8: true, ..MailParameters::default() };
    let both = || vec![recipient("bob@example.net"), recipient("jörg@example.net")];
    Talk::ready("250-up\r\n250 SMTPUTF8\r\n").on(
        Event::Begin(order_with("alice@example.com", flagged(), both())),
        "> MAIL FROM:<alice@example.com> SMTPUTF8",
    );
    // The address of one recipient needs it: the other is served.
    Talk::ready(PLAIN_EHLO)
        .on(Event::Begin(order_with("alice@example.com", flagged(), both())), "look at headers")
        .on(Event::Seen(Contents::default()), "> MAIL FROM:<alice@example.com>")
        .hear("250 ok\r\n", "> RCPT TO:<bob@example.net>")
        .hear("250 ok\r\n", "> DATA")
        .hear("354 go\r\n", "body")
        .on(Event::BodyAtEnd, "end body")
        .hear("250 ok\r\n", "done DF");
    // The header needs it.
    Talk::ready(PLAIN_EHLO)
        .on(Event::Begin(order_with("alice@example.com", flagged(), both())), "look at headers")
        .on(Event::Seen(Contents { header: Characters::Beyond, ..Contents::default() }), "done FF");
    // The sender needs it.
    Talk::ready(PLAIN_EHLO).on(Event::Begin(order_with("älice@example.com", flagged(), both())), "done FF");
}

#[test]
fn recipients_too_many_for_one_transaction_get_another() {
    let mut talk = Talk::ready(PIPELINED);
    talk.dialog.on(Event::Begin(order(3)));
    talk.hear("250 ok\r\n250 ok\r\n452 4.5.3 too many\r\n552 too many\r\n354 go\r\n", "body")
        .on(Event::BodyAtEnd, "end body")
        .hear(
            "250 ok\r\n",
            "> MAIL FROM:<alice@example.com> SIZE=77 | RCPT TO:<r1@example.net> | RCPT TO:<r2@example.net> | DATA",
        )
        .hear("250 ok\r\n250 ok\r\n550 5.1.1 no\r\n354 go\r\n", "body")
        .on(Event::BodyAtEnd, "end body")
        .hear("250 ok\r\n", "done DDF");
}

/// What is known before it is all over: who is done, and who may have it by then.
#[test]
fn what_a_transaction_came_to_is_told_when_the_next_begins_and_who_may_have_it_at_its_end() {
    let perhaps = |talk: &Talk| talk.dialog.perhaps().map(|attempt| show_attempt(&attempt));
    let mut talk = Talk::ready(PIPELINED);
    talk.dialog.on(Event::Begin(order(4)));
    talk.hear("250 ok\r\n250 ok\r\n550 no\r\n452 4.5.3 too many\r\n452 4.5.3 too many\r\n354 go\r\n", "body");
    assert_eq!((talk.dialog.take_brought(), perhaps(&talk)), (None, None));
    talk.on(Event::BodyAtEnd, "end body");
    assert_eq!(perhaps(&talk).as_deref(), Some("L undetermined[0]"), "nobody else was taken");
    talk.dialog.on(Event::Received(b"250 2.0.0 taken\r\n"));
    let brought = talk.dialog.take_brought().map(|attempt| show_attempt(&attempt));
    assert_eq!((brought.as_deref(), talk.dialog.take_brought(), perhaps(&talk)), (Some("DFLL"), None, None));
    talk.hear("250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n", "body").on(Event::BodyAtEnd, "end body");
    assert_eq!(perhaps(&talk).as_deref(), Some("LL undetermined[2, 3]"));
    talk.hear("250 2.0.0 taken\r\n", "done DFDD");
    assert_eq!((talk.dialog.take_brought(), perhaps(&talk)), (None, None), "the end says it all");
}

#[test]
fn too_many_without_any_delivery_is_deferred_and_not_tried_for_ever() {
    let mut talk = Talk::ready(PLAIN_EHLO);
    talk.on(Event::Begin(order(1)), "> MAIL FROM:<alice@example.com>")
        .hear("250 ok\r\n", "> RCPT TO:<r0@example.net>")
        .hear("452 4.5.3 too many\r\n", "done L");
}

#[test]
fn many_recipients_are_sent_ahead_by_windows() {
    let mut talk = Talk::ready(PIPELINED);
    let count = 120;
    let mut step = talk.dialog.on(Event::Begin(order(count)));
    let (mut commands, mut windows) = (0, 0);
    while let Step::Send(octets) = &step {
        let lines = octets.split(|&octet| octet == b'\n').count() - 1;
        assert!(lines <= PIPELINE_WINDOW, "{lines}");
        (commands, windows) = (commands + lines, windows + 1);
        for n in 0..lines {
            let is_data = commands == count + 2 && n == lines - 1;
            step = talk.dialog.on(Event::Received(if is_data { b"354 go\r\n" } else { b"250 ok\r\n" }));
        }
    }
    assert_eq!((commands, windows, show(&step)), (count + 2, 3, "body".to_owned()));
}

// What the message is made of.

#[test]
fn smtputf8_is_asked_for_only_when_address_or_header_need_it() {
    let flagged = || MailParameters { smtputf8: true, ..MailParameters::default() };
    let order = || order_with("alice@example.com", flagged(), vec![recipient("bob@example.net")]);
    use Characters::{Ascii, Beyond};
    for (header, parts, expected) in [
        (Ascii, Ascii, "> MAIL FROM:<alice@example.com>"),
        (Beyond, Ascii, "> MAIL FROM:<alice@example.com> SMTPUTF8"),
        (Ascii, Beyond, "> MAIL FROM:<alice@example.com> SMTPUTF8"),
    ] {
        Talk::ready("250-up\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n")
            .on(Event::Begin(order()), "look at headers")
            .on(Event::Seen(Contents { header, parts, ..Contents::default() }), expected);
    }
    // Not offered: it is not sent (RFC 6531 §3.2).
    let parts = || Contents { parts: Beyond, body: Beyond, ..Contents::default() };
    Talk::ready(PLAIN_EHLO).on(Event::Begin(order()), "look at headers").on(Event::Seen(parts()), "done F");
    // Nobody has said that it is UTF-8: it goes as octets over 127 do (RFC 6152).
    Talk::ready(PLAIN_EHLO).on(
        Event::Begin(order_with("alice@example.com", MailParameters::default(), vec![recipient("bob@example.net")])),
        "> MAIL FROM:<alice@example.com>",
    );
}

#[test]
fn octets_over_127_go_as_the_upstream_is_set() {
    let body = || Contents { body: Characters::Beyond, ..Contents::default() };
    let encoded = |encoded| Contents { encoded: Some(encoded), ..body() };
    let header = || Contents { header: Characters::Beyond, ..Contents::default() };
    let begun = "> MAIL FROM:<alice@example.com>";
    let sevens = "250-up\r\n250 SIZE 100\r\n";
    for (eight_bit, ehlo, look, contents, expected) in [
        (EightBit::SendAnyway, sevens, "> MAIL FROM:<alice@example.com> SIZE=77", None, ""),
        (EightBit::Report, PLAIN_EHLO, begun, None, ""),
        (EightBit::Encode, PLAIN_EHLO, begun, None, ""),
        (EightBit::Report, sevens, "look Whole", Some(Contents::default()), "> MAIL FROM:<alice@example.com> SIZE=77"),
        (EightBit::Report, sevens, "look Whole", Some(body()), "done F"),
        (EightBit::Report, sevens, "look Whole", Some(header()), "done F"),
        (EightBit::Encode, sevens, "look Encoding", Some(header()), "done F"),
        (
            EightBit::Encode,
            sevens,
            "look Encoding",
            Some(Contents::default()),
            "> MAIL FROM:<alice@example.com> SIZE=77",
        ),
        (EightBit::Encode, sevens, "look Encoding", Some(encoded(Ok(99))), "> MAIL FROM:<alice@example.com> SIZE=99"),
        // Encoded it is too large.
        (EightBit::Encode, sevens, "look Encoding", Some(encoded(Ok(101))), "done F"),
        (EightBit::Encode, sevens, "look Encoding", Some(encoded(Err(NotEncodable("it is signed")))), "done F"),
    ] {
        let manner = Manner { eight_bit, ..Manner::default() };
        let mut talk = Talk::new(Terms { manner, ..terms(TlsTerm::Never) });
        talk.hear(GREETING, "> EHLO relay.example.com").hear(ehlo, "ready").on(Event::Begin(order(1)), look);
        if let Some(contents) = contents {
            talk.on(Event::Seen(contents), expected);
        }
    }
}

#[test]
fn a_report_says_why_octets_over_127_were_not_sent() {
    let manner = Manner { eight_bit: EightBit::Encode, ..Manner::default() };
    let mut talk = Talk::new(Terms { manner, ..terms(TlsTerm::Never) });
    talk.hear(GREETING, "> EHLO relay.example.com").hear("250 up\r\n", "ready");
    talk.on(Event::Begin(order(1)), "look Encoding");
    let contents =
        Contents { body: Characters::Beyond, encoded: Some(Err(NotEncodable("it is signed"))), ..Contents::default() };
    let Step::Done(attempt) = talk.dialog.on(Event::Seen(contents)) else { panic!("done") };
    let Outcome::Failed { reason, .. } = &attempt.outcomes[0].1 else { panic!("{attempt:?}") };
    assert_eq!(
        reason,
        "5.6.3 the message holds octets over 127, which need 8BITMIME, which the upstream does not offer, and can't be encoded: it is signed"
    );
}

// Whose fault.

/// Where a session is brought before something goes wrong; the last row's reply is still owed.
fn brought_to(phase: Phase) -> Talk {
    if phase == Phase::Greeting {
        return Talk::new(terms(TlsTerm::Never));
    }
    let mut talk = Talk::new(terms(TlsTerm::Never));
    talk.hear(GREETING, "> EHLO relay.example.com");
    if phase == Phase::Hello {
        return talk;
    }
    talk.hear(PLAIN_EHLO, "ready").on(Event::Begin(order(2)), "> MAIL FROM:<alice@example.com>");
    for (at, reply, expected) in [
        (Phase::Mail, "250 ok\r\n", "> RCPT TO:<r0@example.net>"),
        (Phase::Recipient, "250 ok\r\n", "> RCPT TO:<r1@example.net>"),
        (Phase::Recipient, "550 5.1.1 no\r\n", "> DATA"),
        (Phase::Data, "354 go\r\n", "body"),
    ] {
        if at == phase && talk.dialog.phase() == phase {
            return talk;
        }
        talk.hear(reply, expected);
    }
    if phase == Phase::EndOfData {
        talk.on(Event::BodyAtEnd, "end body");
    }
    talk
}

/// Rows: the phase; columns: 450, 550, 421, 535, 550 5.7.64, a code without meaning, garbage, the end, silence. At RCPT it is the first
/// of two; from DATA on the second recipient has been refused.
#[test]
fn each_phase_blames_as_the_design_says() {
    let unexpected = |phase| if phase == Phase::Data { "250 ok\r\n" } else { "354 go\r\n" };
    for (phase, expected) in [
        (
            Phase::Greeting,
            [
                "over Greeting Busy",
                "over Greeting RefusesUs",
                "over Greeting Leaves",
                "over Greeting RefusesUs",
                "over Greeting RefusesUs",
                "over Greeting UnexpectedReply",
                "over Greeting Unintelligible",
                "over Greeting Closed",
                "over Greeting Silent",
            ],
        ),
        (
            Phase::Hello,
            [
                "over Hello Busy",
                "over Hello RefusesUs",
                "over Hello Leaves",
                "over Hello RefusesUs",
                "over Hello RefusesUs",
                "over Hello UnexpectedReply",
                "over Hello Unintelligible",
                "over Hello Closed",
                "over Hello Silent",
            ],
        ),
        (
            Phase::Mail,
            [
                "done LL",
                "done FF",
                "done LL Mail Leaves free[0, 1]",
                "done LL Mail RefusesUs free[0, 1]",
                "done LL Mail RefusesUs free[0, 1]",
                "done LL Mail UnexpectedReply free[0, 1]",
                "done LL Mail Unintelligible free[0, 1]",
                "done LL Mail Closed free[0, 1]",
                "done LL Mail Silent free[0, 1]",
            ],
        ),
        (
            Phase::Recipient,
            [
                "> RCPT TO:<r1@example.net>",
                "> RCPT TO:<r1@example.net>",
                "done LL Recipient Leaves free[0, 1]",
                "done LL Recipient RefusesUs free[0, 1]",
                "done LL Recipient RefusesUs free[0, 1]",
                "done LL Recipient UnexpectedReply free[0, 1]",
                "done LL Recipient Unintelligible free[0, 1]",
                "done LL Recipient Closed free[0, 1]",
                "done LL Recipient Silent free[0, 1]",
            ],
        ),
        (
            Phase::Data,
            [
                "done LF",
                "done FF",
                "done LF Data Leaves free[0]",
                "done LF Data RefusesUs free[0]",
                "done LF Data RefusesUs free[0]",
                "done LF Data UnexpectedReply free[0]",
                "done LF Data Unintelligible free[0]",
                "done LF Data Closed free[0]",
                "done LF Data Silent free[0]",
            ],
        ),
        (
            Phase::Body,
            [
                "done LF",
                "done FF",
                "done LF Body Leaves free[0]",
                "done LF Body RefusesUs free[0]",
                "done LF Body RefusesUs free[0]",
                "done LF Body UnexpectedReply free[0]",
                "done LF Body Unintelligible free[0]",
                "done LF Body Closed free[0]",
                "done LF Body Silent free[0]",
            ],
        ),
        (
            Phase::EndOfData,
            [
                "done LF",
                "done FF",
                "done LF EndOfData Leaves free[0]",
                "done LF EndOfData RefusesUs free[0]",
                "done LF EndOfData RefusesUs free[0]",
                "done LF EndOfData UnexpectedReply undetermined[0]",
                "done LF EndOfData Unintelligible undetermined[0]",
                "done LF EndOfData Closed undetermined[0]",
                "done LF EndOfData Silent undetermined[0]",
            ],
        ),
    ] {
        let said = [
            "450 4.2.0 later\r\n",
            "550 5.1.1 no\r\n",
            "421 4.3.2 bye\r\n",
            "535 5.7.8 who?\r\n",
            "550 5.7.64 TenantAttribution\r\n",
            unexpected(phase),
            "HTTP/1.1 400 Bad Request\r\n",
        ];
        let (replies, endings) = expected.split_at(said.len());
        for (said, expected) in said.iter().zip(replies) {
            let mut talk = brought_to(phase);
            talk.hear(said, expected);
        }
        let ends = [FaultCause::Closed, FaultCause::Silent(std::time::Duration::from_secs(1))];
        for (cause, expected) in ends.into_iter().zip(endings) {
            let mut talk = brought_to(phase);
            talk.on(Event::Failed(cause), expected);
            assert!(!talk.dialog.is_usable());
        }
    }
}

#[test]
fn octets_that_nobody_asked_for_end_the_dialogue() {
    Talk::new(terms(TlsTerm::Never)).hear("220 up\r\n250 up\r\n", "over Hello Unasked");
    Talk::ready(PLAIN_EHLO)
        .on(Event::Begin(order(1)), "> MAIL FROM:<alice@example.com>")
        .hear("250 ok\r\n250 ok\r\n", "done L Recipient Unasked free[0]");
    Talk::new(terms(TlsTerm::Never)).hear("220 up\r\n421 bye\r\n", "over Hello Leaves");
    // A second reply behind the one to the final dot: the message is there, the connection can't be used.
    let mut talk = brought_to(Phase::EndOfData);
    talk.hear("250 ok\r\n250 ok\r\n", "done DF");
    assert!(!talk.dialog.is_usable());
}

#[test]
fn a_success_while_the_message_is_under_way_is_no_success() {
    brought_to(Phase::Body).hear("250 ok\r\n", "done LF Body UnexpectedReply free[0]");
}

#[test]
fn a_kept_connection_that_ends_before_it_answers_is_known() {
    let mut talk = Talk::ready(PLAIN_EHLO);
    talk.on(Event::Begin(order(1)), "> MAIL FROM:<alice@example.com>").hear("550 no\r\n", "done F");
    assert!(talk.dialog.has_answered());
    talk.on(Event::Begin(order(1)), "> RSET").hear("421 idle too long\r\n", "done L Reset Leaves free[0]");
    assert!(!talk.dialog.has_answered());
}

proptest! {
    /// However the octets of the replies are cut, the dialogue is the same.
    #[test]
    fn any_split_of_the_replies_gives_the_same_outcome(cuts in prop::collection::vec(0_usize..120, 0..6)) {
        let replies = b"250-ok\r\n250 2.1.0 ok\r\n250 ok\r\n550-5.1.1 no\r\n550 5.1.1 such user\r\n354 go\r\n";
        let mut talk = Talk::ready(PIPELINED);
        talk.dialog.on(Event::Begin(order(2)));
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(replies.len())).collect();
        cuts.extend([0, replies.len()]);
        cuts.sort_unstable();
        let mut step = Step::Ready;
        for pair in cuts.windows(2).filter(|pair| pair[0] < pair[1]) {
            step = talk.dialog.on(Event::Received(&replies[pair[0]..pair[1]]));
        }
        prop_assert_eq!(show(&step), "body");
        talk.dialog.on(Event::BodyAtEnd);
        prop_assert_eq!(show(&talk.dialog.on(Event::Received(b"250 ok\r\n"))), "done DF");
    }

    /// Whatever octets come, the machine ends or asks for more; it never panics, and never delivers without a 2yz to the final dot.
    #[test]
    fn no_octets_bring_it_out_of_step(octets in prop::collection::vec(any::<u8>(), 0..600), seed in 0_usize..4) {
        let phases = [Phase::Greeting, Phase::Mail, Phase::Recipient, Phase::Data];
        let mut talk = brought_to(phases[seed]);
        let step = talk.dialog.on(Event::Received(&octets));
        if let Step::Done(attempt) = step {
            let delivered = |(_, outcome): &(usize, Outcome)| matches!(outcome, Outcome::Delivered { .. });
            prop_assert!(!attempt.outcomes.iter().any(delivered));
        }
    }
}
