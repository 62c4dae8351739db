//! While a client waits: recipients asked for one by one, the message behind all their replies.

use super::*;

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
