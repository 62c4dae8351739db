//! How long a line may be: each kind of line at its limit and one octet over, cut where a reader might miscount: around the limit, before its CR and
//! between CR and LF.

use std::time::Duration;

use sealpost::content::HeaderLimits;
use sealpost::snapshot::Snapshot;
use tokio::time::sleep;

use crate::dialog::memory::routes_to;
use crate::scripted_upstream::Script;
use crate::through::stage::{Client, Stage};

const STARTTLS: usize = 0;
/// Of a message, for these tests; octets without CRLF.
const TEXT_LINE: usize = 3000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    CommandBeforeTls,
    CommandBehindEhlo,
    CommandBehindHelo,
    Response,
    HeaderLine,
    BodyLine,
    StuffedLine,
    LineThatLfEnds,
    HeaderLineInAChunk,
    BodyLineInAChunk,
    LastLineOfAChunkWithoutItsEnd,
}

/// The limit; octets of the line's end, and whether they count; what is said to a line at the limit, and to one over it.
type Row = (Kind, usize, End, &'static str, &'static str);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// CRLF counts (RFC 5321 §4.5.3.1.4).
    Counts,
    /// It does not.
    DoesNotCount,
    /// LF alone.
    Lf,
    /// There is none.
    None,
}

const ROWS: [Row; 11] = [
    // RFC 5321 §4.5.3.1.4, and what 8BITMIME (17) and SMTPUTF8 (10) add to MAIL.
    (Kind::CommandBeforeTls, 512 + 27, End::Counts, "250 2.0.0 ", "500 5.5.2 "),
    // SIZE 26, 8BITMIME 17, SMTPUTF8 10, DSN 116, AUTH 500, REQUIRETLS 11, DELIVERBY 17, FUTURERELEASE 34, MT-PRIORITY 15.
    (Kind::CommandBehindEhlo, 512 + 746, End::Counts, "250 2.0.0 ", "500 5.5.2 "),
    (Kind::CommandBehindHelo, 512, End::Counts, "250 2.0.0 ", "500 5.5.2 "),
    // RFC 4954 §4; so many octets are no base64.
    (Kind::Response, 12_288, End::Counts, "501 5.5.2 ", "500 5.5.6 "),
    (Kind::HeaderLine, TEXT_LINE, End::DoesNotCount, "250 2.0.0 ", "554 5.6.0 "),
    (Kind::BodyLine, TEXT_LINE, End::DoesNotCount, "250 2.0.0 ", "554 5.6.0 "),
    (Kind::StuffedLine, TEXT_LINE, End::DoesNotCount, "250 2.0.0 ", "554 5.6.0 "),
    (Kind::LineThatLfEnds, TEXT_LINE, End::Lf, "250 2.0.0 ", "554 5.6.0 "),
    (Kind::HeaderLineInAChunk, TEXT_LINE, End::DoesNotCount, "250 2.0.0 ", "554 5.6.0 "),
    (Kind::BodyLineInAChunk, TEXT_LINE, End::DoesNotCount, "250 2.0.0 ", "554 5.6.0 "),
    (Kind::LastLineOfAChunkWithoutItsEnd, TEXT_LINE, End::None, "250 2.0.0 ", "554 5.6.0 "),
];

#[tokio::test(start_paused = true)]
async fn a_line_of_just_the_limit_passes_and_one_octet_more_does_not_however_it_is_cut() {
    for (kind, limit, end, at_limit, over) in ROWS {
        for (more, expected) in [(0, at_limit), (1, over)] {
            let line = line(kind, limit + more, end);
            let cuts = [line.len(), line.len() - 1, line.len() - 2, line.len() - 3, limit, limit - 1, limit - 2, 1];
            for cut in cuts.into_iter().filter(|cut| *cut <= line.len()) {
                let story = format!("{kind:?} of {limit} and {more}, cut at {cut} of {}", line.len());
                let said = say(&relay(), kind, &line, cut).await;
                assert!(said.starts_with(expected), "{story}: {said}");
            }
        }
    }
}

/// A new one for each line, since too many failed logins are answered otherwise.
fn relay() -> Stage {
    let stage = Stage::new(Script::default());
    stage.change(|now| Snapshot {
        header: HeaderLimits { section: 3 * TEXT_LINE, line: TEXT_LINE, ..now.header },
        routes: routes_to("*"),
        ..now
    });
    stage
}

/// A line of so many octets, with its end.
fn line(kind: Kind, octets: usize, end: End) -> Vec<u8> {
    let (start, end, counted): (&str, &str, usize) = match (kind, end) {
        (Kind::CommandBeforeTls | Kind::CommandBehindEhlo | Kind::CommandBehindHelo, _) => ("NOOP ", "\r\n", 2),
        (Kind::Response, _) => ("", "\r\n", 2),
        (Kind::HeaderLine | Kind::HeaderLineInAChunk, _) => ("X-A: ", "\r\n", 0),
        (_, End::Lf) => ("", "\n", 0),
        (_, End::None) => ("", "", 0),
        (_, End::Counts | End::DoesNotCount) => ("", "\r\n", 0),
    };
    // The dot that was stuffed in does not count.
    let stuffed = if kind == Kind::StuffedLine { ".." } else { "" };
    let counted = counted + start.len() + stuffed.len().saturating_sub(1);
    format!("{stuffed}{start}{}{end}", "x".repeat(octets - counted)).into_bytes()
}

/// What is said to the line, in two pieces that are read one after the other.
async fn say(stage: &Stage, kind: Kind, line: &[u8], cut: usize) -> String {
    let mut client = begun(stage, kind).await;
    let from = if kind == Kind::LineThatLfEnds { "device" } else { "alice" };
    let header = format!("From: {from}@example.com\r\n");
    let (before, behind): (String, &str) = match kind {
        Kind::HeaderLine => (header, "\r\ntext\r\n.\r\n"),
        Kind::BodyLine | Kind::StuffedLine => (format!("{header}\r\n"), ".\r\n"),
        // Behind LF a dot is text.
        Kind::LineThatLfEnds => (format!("{header}\r\n"), "text\r\n.\r\n"),
        Kind::HeaderLineInAChunk => (header, "\r\ntext\r\n"),
        Kind::BodyLineInAChunk => (format!("{header}\r\n"), "text\r\n"),
        Kind::LastLineOfAChunkWithoutItsEnd => (format!("{header}\r\n"), ""),
        Kind::CommandBeforeTls | Kind::CommandBehindEhlo | Kind::CommandBehindHelo | Kind::Response => {
            (String::new(), "")
        }
    };
    let is_chunk =
        matches!(kind, Kind::HeaderLineInAChunk | Kind::BodyLineInAChunk | Kind::LastLineOfAChunkWithoutItsEnd);
    if is_chunk {
        let octets = before.len() + line.len() + behind.len();
        client.write(format!("BDAT {octets} LAST\r\n").as_bytes()).await;
    }
    client.write(before.as_bytes()).await;
    for piece in [&line[..cut], &line[cut..], behind.as_bytes()] {
        sleep(Duration::from_millis(1)).await;
        client.write(piece).await;
    }
    let said = client.hear().await;
    // Whatever it was, the next line is read as what it is.
    let next = client.try_say("NOOP\r\n").await;
    assert!(next.starts_with("250 2.0.0 "), "{kind:?}: {said}, and then {next}");
    said
}

/// A client for whom such a line is the next to say.
async fn begun(stage: &Stage, kind: Kind) -> Client {
    match kind {
        Kind::CommandBeforeTls => {
            let (mut client, intake) = stage.connection(STARTTLS);
            tokio::spawn(intake);
            assert!(client.hear().await.starts_with("220 "));
            client
        }
        Kind::CommandBehindEhlo => stage.client("alice").await,
        Kind::CommandBehindHelo => {
            let mut client = stage.client("alice").await;
            assert!(client.say("HELO client.example").await.starts_with("250 "));
            client
        }
        Kind::Response => {
            let mut client = stage.client("alice").await;
            assert!(client.say("AUTH EXTERNAL").await.starts_with("334"));
            client
        }
        Kind::HeaderLine | Kind::BodyLine | Kind::StuffedLine => {
            let mut client = stage.client("alice").await;
            client.begin(&["r0@example.net"]).await;
            client
        }
        Kind::LineThatLfEnds => {
            let mut client = stage.client("device").await;
            client.begin(&["r0@example.net"]).await;
            client
        }
        Kind::HeaderLineInAChunk | Kind::BodyLineInAChunk | Kind::LastLineOfAChunkWithoutItsEnd => {
            let mut client = stage.client("alice").await;
            assert!(client.mail("").await.starts_with("250"));
            assert!(client.rcpt("<r0@example.net>").await.starts_with("250"));
            client
        }
    }
}
