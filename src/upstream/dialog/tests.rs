//! The machine without sockets: what is said, line by line, and what comes of what is answered.

use proptest::prelude::*;

use super::*;
use crate::mail::{
    Address, Body, Envelope, ForwardPath, MailParameters, Notify, OriginalRecipient, Recipient, RecipientParameters,
    Ret, ReversePath,
};
use crate::queue::Outcome;
use crate::upstream::attempt::Attempt;
use crate::upstream::settings::{Chunking, Credentials, EightBit, Manner, Mechanism, ReplyPattern, Secret};
use crate::upstream::seven_bit::NotEncodable;

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
        Step::Look(Look::Header) => "look at header".into(),
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

/// RFC 5321 §3.3: whatever else DATA is answered by, not an octet of the message goes.
#[test]
fn the_message_is_sent_behind_354_alone() {
    for (reply, expected) in [
        ("354 go\r\n", "body"),
        ("250 ok\r\n", "done L Data UnexpectedReply free[0]"),
        ("350 go\r\n", "done L Data UnexpectedReply free[0]"),
        ("334 go\r\n", "done L Data UnexpectedReply free[0]"),
        ("355-go\r\n355 go\r\n", "done L Data UnexpectedReply free[0]"),
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
        .on(Event::Begin(order_with("alice@example.com", flagged(), both())), "look at header")
        .on(Event::Seen(Contents::default()), "> MAIL FROM:<alice@example.com>")
        .hear("250 ok\r\n", "> RCPT TO:<bob@example.net>")
        .hear("250 ok\r\n", "> DATA")
        .hear("354 go\r\n", "body")
        .on(Event::BodyAtEnd, "end body")
        .hear("250 ok\r\n", "done DF");
    // The header needs it.
    Talk::ready(PLAIN_EHLO)
        .on(Event::Begin(order_with("alice@example.com", flagged(), both())), "look at header")
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

// BDAT.

const CHUNKS: &str = "250-up.example.net\r\n250-PIPELINING\r\n250 CHUNKING\r\n";

fn large(recipients: usize) -> Order {
    let recipients: Vec<Recipient> = (0..recipients).map(|n| recipient(&format!("r{n}@example.net"))).collect();
    let places: Vec<usize> = (0..recipients.len()).collect();
    let sender = ReversePath::Address(Address::parse("alice@example.com").unwrap());
    Order::new(&Envelope::new(sender, MailParameters::default(), recipients).unwrap(), &places, 1 << 20)
}

#[test]
fn a_small_message_is_one_round_trip_by_bdat() {
    let mut talk = Talk::ready(CHUNKS);
    talk.on(
        Event::Begin(order(2)),
        "> MAIL FROM:<alice@example.com> | RCPT TO:<r0@example.net> | RCPT TO:<r1@example.net> | BDAT 77 LAST body 77",
    )
    .on(Event::BodyAtEnd, "end body")
    .hear("250 ok\r\n250 ok\r\n550 5.1.1 no\r\n", "read")
    .hear("250 2.0.0 taken\r\n", "done DF");
    talk.on(
        Event::Begin(order(1)),
        "> MAIL FROM:<alice@example.com> | RCPT TO:<r0@example.net> | BDAT 77 LAST body 77",
    );
}

#[test]
fn a_large_message_goes_by_bdat_once_somebody_is_taken() {
    let commands = "> MAIL FROM:<alice@example.com> | RCPT TO:<r0@example.net> | RCPT TO:<r1@example.net>";
    Talk::ready(CHUNKS)
        .on(Event::Begin(large(2)), commands)
        .hear("250 ok\r\n250 ok\r\n550 5.1.1 no\r\n", "> BDAT 1048576 LAST body 1048576")
        .on(Event::BodyAtEnd, "end body")
        .hear("250 2.0.0 taken\r\n", "done DF");
    Talk::ready(CHUNKS).on(Event::Begin(large(2)), commands).hear("250 ok\r\n550 no\r\n450 no\r\n", "done FL");
    Talk::ready(CHUNKS).on(Event::Begin(large(2)), commands).hear("550 ok\r\n503 no\r\n503 no\r\n", "done FF");
    // Without PIPELINING nothing goes ahead.
    Talk::ready("250-up\r\n250 CHUNKING\r\n")
        .on(Event::Begin(order(1)), "> MAIL FROM:<alice@example.com>")
        .hear("250 ok\r\n", "> RCPT TO:<r0@example.net>")
        .hear("250 ok\r\n", "> BDAT 77 LAST body 77");
}

/// An upstream that is silent or busy at RSET is left for another: it must not have the message by then.
#[test]
fn no_chunk_goes_ahead_of_the_reply_to_rset() {
    let commands = "> RSET | MAIL FROM:<alice@example.com> | RCPT TO:<r0@example.net>";
    let stained = || {
        let mut talk = Talk::ready(CHUNKS);
        talk.dialog.on(Event::Begin(order(1)));
        talk.on(Event::BodyAtEnd, "end body").hear("250 ok\r\n450 no\r\n503 RCPT?\r\n", "done L");
        talk
    };
    stained().on(Event::Begin(order(1)), commands).hear("451 4.3.0 busy\r\n", "done L Reset Busy free[0]");
    stained()
        .on(Event::Begin(order(1)), commands)
        .hear("250 ok\r\n250 ok\r\n250 ok\r\n", "> BDAT 77 LAST body 77")
        .on(Event::BodyAtEnd, "end body")
        .hear("250 2.0.0 taken\r\n", "done D");
}

#[test]
fn many_recipients_keep_the_chunk_in_the_last_window() {
    let mut talk = Talk::ready(CHUNKS);
    let mut step = talk.dialog.on(Event::Begin(order(49)));
    assert_eq!(show(&step).split(" | ").count(), PIPELINE_WINDOW);
    for _ in 0..50 {
        step = talk.dialog.on(Event::Received(b"250 ok\r\n"));
    }
    assert_eq!(show(&step), "> BDAT 77 LAST body 77");
}

/// What comes of a chunk that went ahead, by the replies to MAIL, to two RCPTs and to BDAT.
#[test]
fn a_refused_chunk_speaks_of_those_who_were_taken() {
    for (replies, expected) in [
        ("250 ok\r\n250 ok\r\n250 ok\r\n552 5.3.4 too large\r\n", "done FF"),
        ("250 ok\r\n250 ok\r\n450 4.2.1 no\r\n554 5.6.0 spam\r\n", "done FL"),
        ("250 ok\r\n250 ok\r\n250 ok\r\n452 4.3.1 full\r\n", "done LL"),
        ("250 ok\r\n550 no\r\n450 no\r\n503 5.5.1 RCPT?\r\n", "done FL"),
        ("250 ok\r\n550 no\r\n450 no\r\n554 5.5.1 RCPT?\r\n", "done FL"),
        // Granted to nobody: nobody has it.
        ("250 ok\r\n550 no\r\n450 no\r\n250 ok\r\n", "done FL"),
        ("550 no\r\n503 MAIL?\r\n503 MAIL?\r\n503 MAIL?\r\n", "done FF"),
        ("250 ok\r\n250 ok\r\n250 ok\r\n421 4.3.2 bye\r\n", "done LL EndOfData Leaves free[0, 1]"),
        ("421 4.3.2 bye\r\n", "done LL Mail Leaves free[0, 1]"),
        ("250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n", "done LL EndOfData UnexpectedReply undetermined[0, 1]"),
        // We are refused at one recipient, and the others are taken: who is, is not sent to again.
        ("250 ok\r\n530 5.7.0 who?\r\n250 ok\r\n250 taken\r\n", "done LD Recipient RefusesUs free[0]"),
        ("250 ok\r\n530 5.7.0 who?\r\n250 ok\r\n452 4.3.1 full\r\n", "done LL Recipient RefusesUs free[0]"),
        ("250 ok\r\n530 5.7.0 who?\r\n530 5.7.0 who?\r\n503 5.5.1 RCPT?\r\n", "done LL Recipient RefusesUs free[0, 1]"),
        (
            "530 5.7.0 who?\r\n503 5.5.1 MAIL?\r\n503 5.5.1 MAIL?\r\n503 5.5.1 RCPT?\r\n",
            "done LL Mail RefusesUs free[0, 1]",
        ),
        // Offered and not known: whatever it says, it is not about the message, which it took for commands.
        ("250 ok\r\n250 ok\r\n250 ok\r\n500 5.5.1 what?\r\n", "done LL EndOfData NoChunking free[0, 1]"),
        ("250 ok\r\n250 ok\r\n250 ok\r\n502 5.5.1 what?\r\n", "done LL EndOfData NoChunking free[0, 1]"),
        ("250 ok\r\n250 ok\r\n250 ok\r\n503 5.5.1 what?\r\n", "done LL EndOfData NoChunking free[0, 1]"),
    ] {
        let mut talk = Talk::ready(CHUNKS);
        talk.dialog.on(Event::Begin(order(2)));
        talk.on(Event::BodyAtEnd, "end body").hear(replies, expected);
        if talk.dialog.is_usable() {
            // RFC 3030 §2: what a refused chunk leaves behind must be reset.
            let again = show(&talk.dialog.on(Event::Begin(order(1))));
            assert!(again.starts_with("> RSET | MAIL"), "{replies}: {again}");
        }
    }
}

/// With all of it sent, whoever was not refused may have been taken.
#[test]
fn a_connection_that_breaks_behind_a_chunk_leaves_those_in_the_dark_who_were_not_refused() {
    for (replies, expected) in [
        ("", "done LLL Mail Closed undetermined[0, 1, 2]"),
        ("250 ok\r\n", "done LLL Recipient Closed undetermined[0, 1, 2]"),
        ("250 ok\r\n250 ok\r\n550 no\r\n", "done LFL Recipient Closed undetermined[0, 2]"),
        ("250 ok\r\n250 ok\r\n550 no\r\n250 ok\r\n", "done LFL EndOfData Closed undetermined[0, 2]"),
    ] {
        let mut talk = Talk::ready(CHUNKS);
        talk.dialog.on(Event::Begin(order(3)));
        talk.on(Event::BodyAtEnd, "end body");
        if !replies.is_empty() {
            talk.hear(replies, "read");
        }
        talk.on(Event::Failed(FaultCause::Closed), expected);
    }
    // Not all of it sent: nobody has it (RFC 3030 §2).
    let mut talk = Talk::ready(CHUNKS);
    talk.dialog.on(Event::Begin(order(2)));
    talk.on(Event::Failed(FaultCause::Closed), "done LL Body Closed free[0, 1]");
}

#[test]
fn a_refusal_while_a_chunk_is_under_way_ends_it() {
    let mut talk = Talk::ready(CHUNKS);
    talk.dialog.on(Event::Begin(order(2)));
    talk.hear("550 5.7.1 no\r\n503 no\r\n503 no\r\n503 no\r\n", "done FF");
    assert!(!talk.dialog.is_usable());
    let mut talk = Talk::ready(CHUNKS);
    talk.on(Event::Begin(large(1)), "> MAIL FROM:<alice@example.com> | RCPT TO:<r0@example.net>")
        .hear("250 ok\r\n250 ok\r\n", "> BDAT 1048576 LAST body 1048576")
        .hear("552 5.3.4 too large\r\n", "done F");
    assert!(!talk.dialog.is_usable());
}

#[test]
fn chunking_can_be_done_without() {
    let manner = Manner { chunking: Chunking::Never, ..Manner::default() };
    let mut talk = Talk::new(Terms { manner, ..terms(TlsTerm::Never) });
    talk.hear(GREETING, "> EHLO relay.example.com")
        .hear(CHUNKS, "ready")
        .on(Event::Begin(order(1)), "> MAIL FROM:<alice@example.com> | RCPT TO:<r0@example.net> | DATA");
}

// What the message is made of.

#[test]
fn smtputf8_is_asked_for_only_when_address_or_header_need_it() {
    let flagged = || MailParameters { smtputf8: true, ..MailParameters::default() };
    let order = || order_with("alice@example.com", flagged(), vec![recipient("bob@example.net")]);
    for (header, expected) in [
        (Characters::Ascii, "> MAIL FROM:<alice@example.com>"),
        (Characters::Beyond, "> MAIL FROM:<alice@example.com> SMTPUTF8"),
    ] {
        Talk::ready("250-up\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n")
            .on(Event::Begin(order()), "look at header")
            .on(Event::Seen(Contents { header, ..Contents::default() }), expected);
    }
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

// TLS and AUTH.

const STARTTLS_EHLO: &str = "250-up.example.net\r\n250-STARTTLS\r\n250 AUTH PLAIN LOGIN\r\n";

fn before_tls(terms: Terms) -> Talk {
    let mut talk = Talk::new(terms);
    talk.hear(GREETING, "> EHLO relay.example.com").hear(STARTTLS_EHLO, "> STARTTLS");
    talk
}

#[test]
fn nothing_learned_before_tls_is_kept() {
    let mut talk = before_tls(terms(TlsTerm::Demanded));
    talk.hear("220 go\r\n", "start tls")
        .on(Event::TlsReady(None), "> EHLO relay.example.com")
        .hear("250 up.example.net\r\n", "ready");
    // STARTTLS and AUTH were offered in plaintext only.
    let mut talk = before_tls(with_password(TlsTerm::Demanded));
    talk.hear("220 go\r\n", "start tls")
        .on(Event::TlsReady(None), "> EHLO relay.example.com")
        .hear("250 up.example.net\r\n", "over Auth NoMechanism");
}

#[test]
fn plaintext_behind_the_go_ahead_for_tls_is_fatal() {
    for injected in ["250 up\r\n", "2", "\r\n", "\0", "421 bye\r\n"] {
        for tls in [TlsTerm::Demanded, TlsTerm::IfOffered] {
            before_tls(terms(tls)).hear(&format!("220 go\r\n{injected}"), "over StartTls Injected");
        }
    }
}

#[test]
fn tls_that_is_demanded_is_never_given_up() {
    let no_starttls = "250 up.example.net\r\n";
    Talk::new(terms(TlsTerm::Demanded))
        .hear(GREETING, "> EHLO relay.example.com")
        .hear(no_starttls, "over StartTls TlsNotOffered");
    Talk::new(terms(TlsTerm::Demanded))
        .hear(GREETING, "> EHLO relay.example.com")
        .hear("502 what?\r\n", "over Hello RefusesUs");
    before_tls(terms(TlsTerm::Demanded)).hear("454 4.7.0 not now\r\n", "over StartTls Busy");
    before_tls(terms(TlsTerm::Demanded)).hear("501 5.5.4 no\r\n", "over StartTls RefusesUs");
    before_tls(terms(TlsTerm::Demanded))
        .hear("220 go\r\n", "start tls")
        .on(Event::Failed(FaultCause::Tls(crate::upstream::TlsCause::Untrusted)), "over Tls Tls");
}

#[test]
fn tls_that_is_hoped_for_is_given_up() {
    before_tls(terms(TlsTerm::IfOffered)).hear("454 4.7.0 not now\r\n", "ready");
    Talk::new(terms(TlsTerm::IfOffered))
        .hear(GREETING, "> EHLO relay.example.com")
        .hear("250 up.example.net\r\n", "ready");
}

#[test]
fn ehlo_unknown_falls_back_to_helo() {
    Talk::new(terms(TlsTerm::Never))
        .hear(GREETING, "> EHLO relay.example.com")
        .hear("500 what?\r\n", "> HELO relay.example.com")
        .hear("250 up.example.net\r\n", "ready")
        .on(Event::Begin(order(1)), "> MAIL FROM:<alice@example.com>");
    Talk::new(with_password(TlsTerm::FromTheStart))
        .hear(GREETING, "> EHLO relay.example.com")
        .hear("500 what?\r\n", "over Hello RefusesUs");
}

fn inside_tls(ehlo: &str, expected: &str) -> Talk {
    let mut talk = Talk::new(with_password(TlsTerm::FromTheStart));
    talk.hear(GREETING, "> EHLO relay.example.com").hear(ehlo, expected);
    talk
}

#[test]
fn auth_plain_is_preferred_and_said_in_one_line() {
    inside_tls("250-up\r\n250 AUTH LOGIN plain\r\n", "> AUTH PLAIN AHJlbGF5AHMzY3JldA==")
        .hear("235 2.7.0 ok\r\n", "ready");
}

#[test]
fn auth_login_answers_two_prompts() {
    inside_tls("250-up\r\n250 AUTH LOGIN\r\n", "> AUTH LOGIN")
        .hear("334 VXNlcm5hbWU6\r\n", "> cmVsYXk=")
        .hear("334 UGFzc3dvcmQ6\r\n", "> czNjcmV0")
        .hear("235 2.7.0 ok\r\n", "ready");
}

#[test]
fn a_long_password_waits_for_its_prompt() {
    let mut terms = with_password(TlsTerm::FromTheStart);
    terms.credentials = Some(Credentials::new("relay", Secret::new("x".repeat(600))).unwrap());
    let mut talk = Talk::new(terms);
    talk.hear(GREETING, "> EHLO relay.example.com").hear("250-up\r\n250 AUTH PLAIN\r\n", "> AUTH PLAIN");
    let Step::Send(octets) = talk.dialog.on(Event::Received(b"334 \r\n")) else { panic!("the response") };
    assert_eq!(octets.len(), 812 + 2);
    talk.hear("235 ok\r\n", "ready");
}

#[test]
fn auth_refused_is_ours_whatever_the_code() {
    for (reply, expected) in [
        ("535 5.7.8 no\r\n", "over Auth RefusesUs"),
        ("550 5.7.1 no\r\n", "over Auth RefusesUs"),
        ("454 4.7.0 later\r\n", "over Auth Busy"),
        ("421 4.7.0 too often\r\n", "over Auth Leaves"),
        ("334 more\r\n", "over Auth UnexpectedReply"),
    ] {
        inside_tls("250-up\r\n250 AUTH PLAIN\r\n", "> AUTH PLAIN AHJlbGF5AHMzY3JldA==").hear(reply, expected);
    }
    inside_tls("250-up\r\n250 AUTH CRAM-MD5\r\n", "over Auth NoMechanism");
}

#[test]
fn a_password_is_not_said_without_demanded_tls() {
    for tls in [TlsTerm::Never, TlsTerm::IfOffered] {
        Talk::new(with_password(tls))
            .hear(GREETING, "> EHLO relay.example.com")
            .hear("250-up\r\n250 AUTH PLAIN\r\n", "over Auth CredentialsInTheClear");
    }
    before_tls(with_password(TlsTerm::IfOffered))
        .hear("220 go\r\n", "start tls")
        .on(Event::TlsReady(None), "> EHLO relay.example.com")
        .hear("250-up\r\n250 AUTH PLAIN\r\n", "over Auth CredentialsInTheClear");
}

fn with(credentials: Credentials) -> Terms {
    let fresh = Fresh { nonce: "rOprNGfwEbeRWgbNEkqO".into(), token: Some(Secret::new("ya29.t0ken")) };
    Terms { credentials: Some(credentials), fresh, ..terms(TlsTerm::FromTheStart) }
}

fn logging_in(terms: Terms, exporter: Option<ExporterValue>, offered: &str, expected: &str) -> Talk {
    let mut talk = Talk { dialog: Dialog::new(terms), last: String::new() };
    talk.on(Event::Connected(exporter), "read").hear(GREETING, "> EHLO relay.example.com");
    talk.hear(&format!("250-up\r\n250 AUTH {offered}\r\n"), expected);
    talk
}

fn password() -> Credentials {
    Credentials::new("user", Secret::new("pencil")).unwrap()
}

fn token() -> Credentials {
    Credentials::with_token_file("relay@example.com", "/token".into()).unwrap()
}

fn bound() -> Option<ExporterValue> {
    Some(ExporterValue([7; 32]))
}

/// What is offered and what we have, and how AUTH begins.
#[test]
fn the_strongest_mechanism_that_serves_is_chosen() {
    let certificate = || Credentials::by_certificate("").unwrap();
    let named = || Credentials::by_certificate("relay@example.com").unwrap();
    let everything = "EXTERNAL LOGIN PLAIN XOAUTH2 OAUTHBEARER SCRAM-SHA-256 SCRAM-SHA-256-PLUS";
    let only = |credentials: Credentials, mechanism| credentials.only_by(Some(mechanism));
    for (credentials, exporter, offered, expected) in [
        (password(), bound(), everything, "> AUTH SCRAM-SHA-256-PLUS p=tls-exporter,,n=user,r=rOprNGfwEbeRWgbNEkqO"),
        (password(), None, everything, "> AUTH SCRAM-SHA-256 n,,n=user,r=rOprNGfwEbeRWgbNEkqO"),
        (password(), bound(), "PLAIN scram-sha-256", "> AUTH SCRAM-SHA-256 y,,n=user,r=rOprNGfwEbeRWgbNEkqO"),
        (password(), bound(), "LOGIN PLAIN XOAUTH2", "> AUTH PLAIN \0user\0pencil"),
        (password(), bound(), "LOGIN EXTERNAL", "> AUTH LOGIN"),
        (password(), bound(), "XOAUTH2 EXTERNAL", "over Auth NoMechanism"),
        (only(password(), Mechanism::Plain), bound(), everything, "> AUTH PLAIN \0user\0pencil"),
        // Told to do without the binding, we don't say that we saw no offer of it.
        (
            only(password(), Mechanism::ScramSha256),
            bound(),
            everything,
            "> AUTH SCRAM-SHA-256 n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
        ),
        (only(password(), Mechanism::ScramSha256Plus), None, everything, "over Auth NoMechanism"),
        (only(password(), Mechanism::ScramSha256), bound(), "PLAIN", "over Auth NoMechanism"),
        (
            token(),
            bound(),
            everything,
            "> AUTH OAUTHBEARER n,a=relay@example.com,\u{1}auth=Bearer ya29.t0ken\u{1}\u{1}",
        ),
        (
            token(),
            bound(),
            "PLAIN XOAUTH2",
            "> AUTH XOAUTH2 user=relay@example.com\u{1}auth=Bearer ya29.t0ken\u{1}\u{1}",
        ),
        (
            only(token(), Mechanism::Xoauth2),
            bound(),
            everything,
            "> AUTH XOAUTH2 user=relay@example.com\u{1}auth=Bearer ya29.t0ken\u{1}\u{1}",
        ),
        (token(), bound(), "PLAIN", "over Auth NoMechanism"),
        (certificate(), bound(), everything, "> AUTH EXTERNAL ="),
        (named(), bound(), everything, "> AUTH EXTERNAL relay@example.com"),
        (certificate(), bound(), "PLAIN", "over Auth NoMechanism"),
    ] {
        let clear = expected.strip_prefix("> AUTH ").and_then(|rest| rest.split_once(' '));
        let expected = match clear {
            Some((name, clear)) if clear != "=" => format!("> AUTH {name} {}", base64(clear)),
            _ => expected.to_owned(),
        };
        logging_in(with(credentials), exporter, offered, &expected);
    }
}

fn base64(clear: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(clear)
}

const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const CLIENT_FINAL: &str =
    "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

/// RFC 7677's example, as far as our final message.
fn scram() -> Talk {
    let first = format!("> AUTH SCRAM-SHA-256 {}", base64("n,,n=user,r=rOprNGfwEbeRWgbNEkqO"));
    let mut talk = logging_in(with(password()), None, "SCRAM-SHA-256", &first);
    let challenge = format!("334 {}\r\n", base64(SERVER_FIRST));
    let Step::Derive(derivation) = talk.dialog.on(Event::Received(challenge.as_bytes())) else { panic!("derive") };
    talk.on(Event::Derived(derivation.run()), &format!("> {}", base64(CLIENT_FINAL)));
    talk
}

#[test]
fn scram_goes_on_only_behind_the_servers_signature() {
    let right = format!("334 {}\r\n", base64(SERVER_FINAL));
    scram().hear(&right, "> ").hear("235 2.7.0 ok\r\n", "ready");
    let wrong = base64("v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    for (reply, expected) in [
        (format!("334 {wrong}\r\n"), "over Auth ServerUnproven"),
        ("334 %%%\r\n".to_owned(), "over Auth ServerUnproven"),
        ("334 \r\n".to_owned(), "over Auth ServerUnproven"),
        ("235 2.7.0 ok\r\n".to_owned(), "over Auth ServerUnproven"),
        ("535 5.7.8 no\r\n".to_owned(), "over Auth RefusesUs"),
        ("454 4.7.0 later\r\n".to_owned(), "over Auth Busy"),
        ("421 4.7.0 bye\r\n".to_owned(), "over Auth Leaves"),
    ] {
        scram().hear(&reply, expected);
    }
    scram().hear(&right, "> ").hear("535 5.7.8 no\r\n", "over Auth RefusesUs");
}

#[test]
fn a_scram_server_that_begins_wrongly_hears_nothing_more() {
    for reply in [
        "235 2.7.0 you are in\r\n".to_owned(),
        format!("334 {}\r\n", base64(&SERVER_FIRST.replace("4096", "1"))),
        format!("334 {}\r\n", base64(&SERVER_FIRST.replace("rOpr", "xxxx"))),
        "334 no base64!\r\n".to_owned(),
    ] {
        let first = format!("> AUTH SCRAM-SHA-256 {}", base64("n,,n=user,r=rOprNGfwEbeRWgbNEkqO"));
        logging_in(with(password()), None, "SCRAM-SHA-256", &first).hear(&reply, "over Auth ServerUnproven");
    }
}

#[test]
fn a_token_that_is_not_taken_is_told_with_its_reason_and_without_the_token() {
    let said = base64("{\"status\":\"401\",\"schemes\":\"Bearer\",\"was\":\"ya29.t0ken\"}\u{7}");
    for (mechanism, response, nothing) in [
        (Mechanism::Xoauth2, "user=relay@example.com\u{1}auth=Bearer ya29.t0ken\u{1}\u{1}", "> "),
        (Mechanism::OauthBearer, "n,a=relay@example.com,\u{1}auth=Bearer ya29.t0ken\u{1}\u{1}", "> AQ=="),
    ] {
        let begun = format!("> AUTH {} {}", mechanism.name(), base64(response));
        let terms = || with(token().only_by(Some(mechanism)));
        let talk = || logging_in(terms(), None, "XOAUTH2 OAUTHBEARER", &begun);
        talk().hear("235 2.7.0 ok\r\n", "ready");
        talk().hear("535 5.7.8 no\r\n", "over Auth RefusesUs");
        let mut talk = talk();
        talk.hear(&format!("334 {said}\r\n"), nothing);
        let Step::Over(fault) = talk.dialog.on(Event::Received(b"535 5.7.8 bad token\r\n")) else { panic!("over") };
        let told = fault.to_string();
        assert!(told.contains(r#"{"status":"401","schemes":"Bearer","was":"[token]"}?"#), "{told}");
        assert!(told.contains("535 5.7.8") && !told.contains("t0ken\""), "{told}");
        assert_eq!(fault.blame(), crate::upstream::Blame::OurSettings);
    }
}

/// Servers repeat a line that they do not know, whole or cut; what they say goes to logs, and to senders.
#[test]
fn what_an_upstream_repeats_of_a_login_is_not_told() {
    let secrets = ["ya29.t0ken".to_owned(), base64("user=relay@example.com\u{1}auth=Bearer ya29.t0ken\u{1}\u{1}")];
    for said in &secrets {
        for echo in [said.as_str(), said.split_at(said.len() - 1).0, said.trim_end_matches('=')] {
            let begun = format!("> AUTH XOAUTH2 {}", secrets[1]);
            let mut talk = logging_in(with(token().only_by(Some(Mechanism::Xoauth2))), None, "XOAUTH2", &begun);
            let reply = format!("500 5.5.1 unrecognized: \"AUTH XOAUTH2 {echo}\"\r\n");
            let Step::Over(fault) = talk.dialog.on(Event::Received(reply.as_bytes())) else { panic!("over") };
            let heard = talk.dialog.take_heard().unwrap().to_string();
            for told in [fault.to_string(), fault.reply().unwrap().to_string(), heard] {
                assert!(told.contains("[secret]") && !told.contains(said.get(..8).unwrap()), "{told}");
            }
        }
    }
}

#[test]
fn a_long_token_waits_for_its_prompt() {
    let mut terms = with(token());
    terms.fresh.token = Some(Secret::new("x".repeat(2000)));
    let mut talk = logging_in(terms, None, "XOAUTH2", "> AUTH XOAUTH2");
    let Step::Send(octets) = talk.dialog.on(Event::Received(b"334 \r\n")) else { panic!("the response") };
    assert!(octets.len() > 2600);
    talk.hear("235 ok\r\n", "ready");
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

// While a client waits.

fn growing(parameters: MailParameters) -> Event<'static> {
    Event::Open(Order::growing(&ReversePath::Address(Address::parse("alice@example.com").unwrap()), &parameters))
}

fn ask(place: usize) -> Event<'static> {
    Event::Recipient(place, recipient(&format!("r{place}@example.net")))
}

fn said(talk: &Talk) -> char {
    match talk.dialog.said_of_last() {
        None => '+',
        Some(Outcome::Failed { .. }) => 'F',
        Some(Outcome::Deferred { .. }) => 'L',
        Some(Outcome::Delivered { .. }) => 'D',
    }
}

#[test]
fn recipients_are_asked_for_one_by_one_and_the_message_goes_behind_all_their_replies() {
    for (ehlo, end) in
        [(PIPELINED, "> DATA"), ("250-up\r\n250-PIPELINING\r\n250 CHUNKING\r\n", "> BDAT 500 LAST body 500")]
    {
        let mut talk = Talk::ready(ehlo);
        talk.on(growing(MailParameters::default()), "asked");
        talk.on(ask(0), "> MAIL FROM:<alice@example.com> | RCPT TO:<r0@example.net>");
        talk.hear("250 ok\r\n", "read").hear("250 ok\r\n", "asked");
        assert_eq!(said(&talk), '+');
        talk.on(ask(1), "> RCPT TO:<r1@example.net>").hear("550 5.1.1 no\r\n", "asked");
        assert_eq!(said(&talk), 'F');
        talk.on(ask(1), "> RCPT TO:<r1@example.net>").hear("250 ok\r\n", "asked");
        // Its size was not known to MAIL.
        talk.on(Event::Send(500), end);
        if ehlo == PIPELINED {
            talk.hear("354 go\r\n", "body");
        }
        talk.on(Event::BodyAtEnd, "end body").hear("250 kept\r\n", "done DFD");
        assert!(talk.dialog.is_usable());
    }
}

#[test]
fn what_was_declared_is_said_and_behind_a_refused_sender_nobody_is_asked_for() {
    let declared = || growing(MailParameters { size: Some(9), ..MailParameters::default() });
    let mut talk = Talk::ready(PIPELINED);
    talk.on(declared(), "asked").on(ask(0), "> MAIL FROM:<alice@example.com> SIZE=9 | RCPT TO:<r0@example.net>");
    talk.hear("550 5.1.8 no\r\n503 5.5.1 MAIL?\r\n", "asked");
    assert_eq!(said(&talk), 'F');
    talk.on(ask(1), "asked");
    assert_eq!(said(&talk), 'F');
    talk.on(Event::Send(9), "done FF");
    assert!(talk.dialog.is_usable());
    talk.on(Event::Begin(order(1)), "> RSET | MAIL FROM:<alice@example.com> SIZE=77 | RCPT TO:<r0@example.net> | DATA");
}

#[test]
fn each_word_on_a_recipient_is_told_apart() {
    for (reply, expected) in [
        ("250 ok", '+'),
        ("251 there", '+'),
        ("450 4.2.0 later", 'L'),
        ("452 4.5.3 many", 'L'),
        ("552 5.2.2 full", 'F'),
    ] {
        let mut talk = Talk::ready(PIPELINED);
        talk.on(growing(MailParameters::default()), "asked");
        talk.dialog.on(ask(0));
        talk.hear(&format!("250 ok\r\n{reply}\r\n"), "asked");
        assert_eq!(said(&talk), expected, "{reply}");
    }
    for (reply, expected) in [
        ("421 4.3.2 bye", "done L Recipient Leaves free[0]"),
        ("530 5.7.0 who?", "done L Recipient RefusesUs free[0]"),
        ("503 5.5.1 MAIL?", "done L Recipient RefusesUs free[0]"),
        ("what?", "done L Recipient Unintelligible free[0]"),
    ] {
        let mut talk = Talk::ready(PIPELINED);
        talk.on(growing(MailParameters::default()), "asked");
        talk.dialog.on(ask(0));
        talk.hear(&format!("250 ok\r\n{reply}\r\n"), expected);
        assert!(!talk.dialog.is_usable());
    }
}

#[test]
fn who_gives_up_at_rest_leaves_a_connection_that_is_reset_and_in_the_middle_none() {
    let mut talk = Talk::ready(PIPELINED);
    talk.on(growing(MailParameters::default()), "asked");
    talk.dialog.on(ask(0));
    talk.hear("250 ok\r\n250 ok\r\n", "asked");
    talk.dialog.forget();
    assert!(talk.dialog.is_usable());
    talk.on(Event::Begin(order(1)), "> RSET | MAIL FROM:<alice@example.com> SIZE=77 | RCPT TO:<r0@example.net> | DATA");

    let mut talk = Talk::ready(PIPELINED);
    talk.on(growing(MailParameters::default()), "asked");
    talk.dialog.on(ask(0));
    talk.hear("250 ok\r\n", "read");
    talk.dialog.forget();
    assert!(!talk.dialog.is_usable(), "a reply is still to come");
    let mut talk = Talk::ready(PIPELINED);
    talk.on(growing(MailParameters::default()), "asked");
    talk.dialog.forget();
    talk.on(Event::Begin(order(1)), "> MAIL FROM:<alice@example.com> SIZE=77 | RCPT TO:<r0@example.net> | DATA");
}

#[test]
fn what_turns_out_too_large_is_not_sent_and_silence_behind_the_dot_is_undetermined() {
    let asked = |ehlo: &str| {
        let mut talk = Talk::ready(ehlo);
        talk.on(growing(MailParameters::default()), "asked");
        talk.dialog.on(ask(0));
        talk.dialog.on(Event::Received(b"250 ok\r\n"));
        talk.hear("250 ok\r\n", "asked");
        talk
    };
    let mut talk = asked("250-up\r\n250 SIZE 99\r\n");
    talk.on(Event::Send(100), "done F");
    assert!(talk.dialog.is_usable());
    talk.on(Event::Begin(order(1)), "> RSET");
    let mut talk = asked(PIPELINED);
    talk.on(Event::Send(100), "> DATA").hear("354 go\r\n", "body").on(Event::BodyAtEnd, "end body");
    talk.on(
        Event::Failed(FaultCause::Silent(std::time::Duration::from_secs(30))),
        "done L EndOfData Silent undetermined[0]",
    );
}
