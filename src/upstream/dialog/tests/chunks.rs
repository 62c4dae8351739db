//! By BDAT (RFC 3030): one chunk, ahead of the replies or behind them, and what each reply makes of it.

use super::*;

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
fn ahead_of_the_replies_everybody_may_have_it() {
    let mut talk = Talk::ready(CHUNKS);
    talk.dialog.on(Event::Begin(order(2)));
    talk.on(Event::BodyAtEnd, "end body");
    let perhaps = |talk: &Talk| talk.dialog.perhaps().map(|attempt| show_attempt(&attempt));
    assert_eq!(perhaps(&talk).as_deref(), Some("LL undetermined[0, 1]"));
    talk.hear("250 ok\r\n550 5.1.1 no\r\n", "read");
    assert_eq!(perhaps(&talk).as_deref(), Some("L undetermined[1]"), "but who was refused");
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
        ("250 ok\r\n250 ok\r\n250 ok\r\n504 5.5.4 LAST?\r\n", "done LL EndOfData NoChunking free[0, 1]"),
        // Known, and out of step with us: not taken, and nothing is said of the message.
        ("250 ok\r\n250 ok\r\n250 ok\r\n503 5.5.1 RCPT?\r\n", "done LL EndOfData UnexpectedReply free[0, 1]"),
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
