//! What an upstream refuses while the client waits (`delivery = "through"`), as a reply of ours.
//!
//! A code speaks of who says it, and to whom: 521 of a host that takes no mail (RFC 7504 §3; RFC 6409 §7 keeps it from submission), 503 of commands out of order (RFC 5321 §4.2.4), 535 of
//! a login (RFC 4954 §6). From us, the client would take it for its own dialogue with us. So the table says which codes go on; in the place of
//! every other stands the plainest refusal, and the upstream's own code goes into the text. Never: makes a refusal for good of one for now, or the other way round.

use super::{Code, Reply, Status, quoted};

/// What the upstream refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The recipient, or the sender before it: said to RCPT.
    Recipient,
    /// The message: said at its end.
    Message,
}

/// How codes go on.
#[derive(Clone, Copy)]
enum Told {
    AsItIs,
    As(u16),
}

/// These codes, how they go on to RCPT, and how at the end of the message.
type Row = (&'static [std::ops::RangeInclusive<u16>], Told, Told);

/// The first row that holds a code counts. RFC 5321 §4.3.2 lists what each command may be answered; RFC 7504 §4 has 556 for the domain of a recipient.
const TABLE: [Row; 5] = [
    (&[450..=452], Told::AsItIs, Told::AsItIs),
    (&[400..=499], Told::As(451), Told::As(451)),
    (&[550..=550, 552..=552, 554..=554], Told::AsItIs, Told::AsItIs),
    (&[551..=551, 553..=553, 556..=556], Told::AsItIs, Told::As(554)),
    (&[500..=599], Told::As(550), Told::As(554)),
];

/// What an upstream refuses while the client waits: its words, and its code and status as far as they mean the same here.
pub fn refused_upstream(asked: Asked, reply: &Reply) -> Reply {
    let theirs = reply.code();
    let row = TABLE.iter().find(|(codes, ..)| codes.iter().any(|some| some.contains(&theirs.number())));
    let told = match (row, asked) {
        (Some((_, told, _)), Asked::Recipient) | (Some((.., told)), Asked::Message) => *told,
        // It is no refusal, and nobody has the mail.
        (None, _) => Told::As(451),
    };
    let (code, words) = match told {
        Told::AsItIs => (theirs, quoted(reply)),
        Told::As(number) => (Code::known(number), format!("{theirs} {}", quoted(reply))),
    };
    Reply::new(code, Some(status(code, reply.status())), format!("Upstream said: {words}"))
}

/// The upstream's status in the class of our code (RFC 2034 §4), where it speaks of the mail. What speaks of the dialogue (RFC 3463 §3.6: X.5.Z) or of a
/// login (RFC 4954 §6, RFC 5248: X.7.8 to X.7.14) speaks of us there.
fn status(code: Code, theirs: Option<Status>) -> Status {
    let class = if code.is_transient() { 4 } else { 5 };
    let (subject, detail) = match theirs.map(|status| (status.subject(), status.detail())) {
        None | Some((5, _)) => (0, 0),
        Some((7, 8..=14)) => (7, 0),
        Some(about_the_mail) => about_the_mail,
    };
    Status::known(class, subject, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Reply {
        let (code, rest) = text.split_once(' ').unwrap();
        let code = Code::new(code.parse().unwrap()).unwrap();
        match rest.split_once(' ').and_then(|(status, words)| Some((status.parse::<Status>().ok()?, words))) {
            Some((status, words)) => Reply::new(code, Some(status), words),
            None => Reply::new(code, None, rest),
        }
    }

    #[test]
    fn what_means_the_same_here_goes_on_and_what_speaks_of_our_dialogue_is_a_plain_refusal() {
        for (upstream, to_rcpt, at_the_end) in [
            // Of the recipient and of the message.
            ("550 5.1.1 no", "550 5.1.1 Upstream said: no", "550 5.1.1 Upstream said: no"),
            ("552 5.2.2 full", "552 5.2.2 Upstream said: full", "552 5.2.2 Upstream said: full"),
            ("554 5.7.1 spam", "554 5.7.1 Upstream said: spam", "554 5.7.1 Upstream said: spam"),
            ("550 no", "550 5.0.0 Upstream said: no", "550 5.0.0 Upstream said: no"),
            ("451 4.3.0 later", "451 4.3.0 Upstream said: later", "451 4.3.0 Upstream said: later"),
            // Of a recipient alone.
            ("551 5.1.6 moved", "551 5.1.6 Upstream said: moved", "554 5.1.6 Upstream said: 551 moved"),
            ("553 5.1.3 odd", "553 5.1.3 Upstream said: odd", "554 5.1.3 Upstream said: 553 odd"),
            ("556 5.1.10 null MX", "556 5.1.10 Upstream said: null MX", "554 5.1.10 Upstream said: 556 null MX"),
            // Of commands.
            ("500 5.5.2 what", "550 5.0.0 Upstream said: 500 what", "554 5.0.0 Upstream said: 500 what"),
            ("501 5.1.3 odd", "550 5.1.3 Upstream said: 501 odd", "554 5.1.3 Upstream said: 501 odd"),
            ("502 5.5.1 no", "550 5.0.0 Upstream said: 502 no", "554 5.0.0 Upstream said: 502 no"),
            ("503 5.5.1 order", "550 5.0.0 Upstream said: 503 order", "554 5.0.0 Upstream said: 503 order"),
            ("504 5.5.4 no", "550 5.0.0 Upstream said: 504 no", "554 5.0.0 Upstream said: 504 no"),
            ("555 5.5.4 RET", "550 5.0.0 Upstream said: 555 RET", "554 5.0.0 Upstream said: 555 RET"),
            ("455 4.5.4 RET", "451 4.0.0 Upstream said: 455 RET", "451 4.0.0 Upstream said: 455 RET"),
            ("550 5.5.1 order", "550 5.0.0 Upstream said: order", "550 5.0.0 Upstream said: order"),
            // Of who we are to it, and how we came.
            ("530 5.7.0 log in", "550 5.7.0 Upstream said: 530 log in", "554 5.7.0 Upstream said: 530 log in"),
            ("535 5.7.8 who", "550 5.7.0 Upstream said: 535 who", "554 5.7.0 Upstream said: 535 who"),
            ("538 5.7.11 TLS", "550 5.7.0 Upstream said: 538 TLS", "554 5.7.0 Upstream said: 538 TLS"),
            ("525 5.7.13 off", "550 5.7.0 Upstream said: 525 off", "554 5.7.0 Upstream said: 525 off"),
            ("554 5.7.14 trust", "554 5.7.0 Upstream said: trust", "554 5.7.0 Upstream said: trust"),
            ("432 4.7.12 new", "451 4.7.0 Upstream said: 432 new", "451 4.7.0 Upstream said: 432 new"),
            // Of its host, and of its leaving.
            ("521 5.3.2 no mail", "550 5.3.2 Upstream said: 521 no mail", "554 5.3.2 Upstream said: 521 no mail"),
            ("421 4.3.2 bye", "451 4.3.2 Upstream said: 421 bye", "451 4.3.2 Upstream said: 421 bye"),
            // Of nothing that an RFC knows (RFC 5321 §4.2.1: the first digit counts).
            ("571 5.7.1 blocked", "550 5.7.1 Upstream said: 571 blocked", "554 5.7.1 Upstream said: 571 blocked"),
            ("599 no", "550 5.0.0 Upstream said: 599 no", "554 5.0.0 Upstream said: 599 no"),
            // No refusals: nobody calls them so.
            ("252 2.5.0 maybe", "451 4.0.0 Upstream said: 252 maybe", "451 4.0.0 Upstream said: 252 maybe"),
            ("354 go", "451 4.0.0 Upstream said: 354 go", "451 4.0.0 Upstream said: 354 go"),
            // The code counts, not the class of the status.
            ("550 4.2.2 full", "550 5.2.2 Upstream said: full", "550 5.2.2 Upstream said: full"),
        ] {
            assert_eq!(refused_upstream(Asked::Recipient, &said(upstream)).to_string(), to_rcpt);
            assert_eq!(refused_upstream(Asked::Message, &said(upstream)).to_string(), at_the_end);
        }
    }

    /// RFC 6409 §7, and the codes of RFC 5321 §4.3.2 for RCPT and for the end of the data: whatever an upstream says.
    #[test]
    fn no_code_of_any_upstream_says_more_than_that_the_mail_is_refused() {
        for number in 200..=599 {
            let theirs = Reply::new(Code::known(number), None, "x");
            let to_rcpt = refused_upstream(Asked::Recipient, &theirs).code();
            let at_the_end = refused_upstream(Asked::Message, &theirs).code();
            assert!([450, 451, 452, 550, 551, 552, 553, 554, 556].contains(&to_rcpt.number()), "{number}: {to_rcpt}");
            assert!([450, 451, 452, 550, 552, 554].contains(&at_the_end.number()), "{number}: {at_the_end}");
            for told in [to_rcpt, at_the_end] {
                assert_eq!(told.is_permanent(), theirs.code().is_permanent(), "{number}: {told}");
            }
        }
    }
}
