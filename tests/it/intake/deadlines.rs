//! How long intake waits: each of its deadlines with a client that outstays it, in virtual time.
//!
//! Every row is played under two settings of all deadlines, and must take what its own one says under each: a deadline that is not looked at, or is
//! another's, shows in one of them.

use std::net::SocketAddr;
use std::time::Duration;

use sealpost::doors::Place;
use sealpost::intake::{self, IntakeLimits, LingerLimits, PaceLimits};
use sealpost::snapshot::Snapshot;
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, sleep};

use crate::dialog::memory::routes_to;
use crate::dialog::tls::IMPLICIT;
use crate::scripted_upstream::Script;
use crate::through::stage::{Client, Stage};

const STARTTLS: usize = 0;
/// What intake allows itself to say goodbye before TLS, beyond the handshake's deadline.
const FAREWELL: Duration = Duration::from_secs(5);
/// What the PROXY header has, whatever the handshake has.
const HEADER_WAIT: Duration = Duration::from_secs(10);
/// Virtual time goes in milliseconds, and a row in several steps.
const ROUNDING: Duration = Duration::from_millis(50);

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const SETTINGS: [IntakeLimits; 2] = [
    IntakeLimits {
        handshake: seconds(61),
        proxy_header: seconds(10),
        command: seconds(301),
        write: seconds(31),
        session_max: seconds(1000),
        pace: PaceLimits { rate_min: 10, window: seconds(20), total_max: seconds(200) },
        linger: LingerLimits { wait: seconds(7), octets: 1_000_000 },
    },
    IntakeLimits {
        handshake: seconds(8),
        proxy_header: seconds(8),
        command: seconds(97),
        write: seconds(12),
        session_max: seconds(500),
        pace: PaceLimits { rate_min: 20, window: seconds(9), total_max: seconds(50) },
        linger: LingerLimits { wait: seconds(3), octets: 1_000_000 },
    },
];

/// What a client does, or does not.
#[derive(Clone, Copy, Debug)]
enum Does {
    NothingBeforeTls,
    EhloBeforeTlsAndNothing,
    StartTlsAndNothing,
    HalfAClientHello,
    NothingAtTheImplicitDoor,
    HalfAProxyHeader,
    NothingInSession,
    NothingInAuth,
    NoopsForEver,
    NoopsWithoutIdentity,
    NothingInData,
    TooLittleInData,
    JustEnoughInData,
    TooLittleInARefusedMessage,
    NothingInAChunk,
    NothingBetweenChunks,
    NoopsBetweenChunks,
    ReadsNothingBetweenChunks,
    ReadsNothingOfEhlo,
    ReadsNothingOfQuit,
    TalksOnBehindADispute,
    ClosesBehindADispute,
}

type Row = (Does, &'static str, fn(&IntakeLimits) -> Duration);

const ROWS: [Row; 22] = [
    (Does::NothingBeforeTls, "421 4.4.2 ", |limits| limits.handshake),
    (Does::EhloBeforeTlsAndNothing, "421 4.4.2 ", |limits| limits.handshake),
    (Does::StartTlsAndNothing, "", |limits| limits.handshake + FAREWELL),
    (Does::HalfAClientHello, "", |limits| limits.handshake + FAREWELL),
    (Does::NothingAtTheImplicitDoor, "", |limits| limits.handshake + FAREWELL),
    (Does::HalfAProxyHeader, "", |limits| limits.handshake.min(HEADER_WAIT)),
    (Does::NothingInSession, "421 4.4.2 ", |limits| limits.command),
    (Does::NothingInAuth, "421 4.4.2 ", |limits| limits.command),
    (Does::NoopsForEver, "421 4.4.2 mail.example.com The session is too old", |limits| limits.session_max),
    (Does::NoopsWithoutIdentity, "421 4.4.2 ", |limits| limits.command),
    (Does::NothingInData, "421 4.4.2 ", |limits| limits.pace.window),
    (Does::TooLittleInData, "421 4.4.2 ", |limits| limits.pace.window),
    (Does::JustEnoughInData, "421 4.4.2 ", |limits| limits.pace.total_max),
    (Does::TooLittleInARefusedMessage, "421 4.4.2 ", |limits| limits.pace.window),
    (Does::NothingInAChunk, "421 4.4.2 ", |limits| limits.pace.window),
    (Does::NothingBetweenChunks, "421 4.4.2 ", |limits| limits.pace.window),
    (Does::NoopsBetweenChunks, "421 4.4.2 ", |limits| limits.pace.window),
    (Does::ReadsNothingBetweenChunks, "", |limits| limits.write),
    (Does::ReadsNothingOfEhlo, "", |limits| limits.write),
    (Does::ReadsNothingOfQuit, "", |limits| limits.write),
    (Does::TalksOnBehindADispute, "550 5.5.2 ", |limits| limits.linger.wait),
    (Does::ClosesBehindADispute, "550 5.5.2 ", |_| Duration::ZERO),
];

#[tokio::test(start_paused = true)]
async fn every_wait_ends_when_its_own_deadline_says_so() {
    for limits in SETTINGS {
        let stage = Stage::new(Script::default());
        stage.change(|now| Snapshot { intake: limits, routes: routes_to("*"), ..now });
        for (does, expected, deadline) in ROWS {
            let (said, took) = outstay(&stage, does, &limits).await;
            let deadline = deadline(&limits);
            assert!(said.starts_with(expected) && said.is_empty() == expected.is_empty(), "{does:?}: {said:?}");
            assert!(
                took >= deadline && took < deadline + ROUNDING,
                "{does:?}: {took:?} and not {deadline:?} under {limits:?}"
            );
        }
        assert!(stage.records().await.is_empty(), "nothing of it is kept");
        assert_eq!(stage.house.queue.memory_given_out(), 0);
    }
}

/// What the client hears last before the server has gone, and how long that took from when the client did its last, or its first of many.
async fn outstay(stage: &Stage, does: Does, limits: &IntakeLimits) -> (String, Duration) {
    match does {
        Does::NothingBeforeTls
        | Does::EhloBeforeTlsAndNothing
        | Does::StartTlsAndNothing
        | Does::HalfAClientHello
        | Does::NothingAtTheImplicitDoor => before_tls(stage, does, limits).await,
        Does::HalfAProxyHeader => {
            let (mut ours, mut theirs) = tokio::io::duplex(4096);
            ours.write_all(b"PROXY TCP4 192.0.2.7 ").await.unwrap();
            let (began, balancer) = (Instant::now(), SocketAddr::from(([192, 0, 2, 99], 40_000)));
            assert_eq!(intake::introduced(&mut theirs, balancer, &stage.house, &Place::apart()).await, None);
            (String::new(), began.elapsed())
        }
        Does::ReadsNothingOfEhlo | Does::ReadsNothingOfQuit | Does::ReadsNothingBetweenChunks => {
            // No reply fits; those before are still taken.
            let (mut client, intake) = stage.conversation_over(16, "alice");
            let served = tokio::spawn(intake);
            assert!(client.hear().await.starts_with("220 "));
            match does {
                Does::ReadsNothingOfEhlo => client.write(b"EHLO a\r\n").await,
                Does::ReadsNothingOfQuit => client.write(b"QUIT\r\n").await,
                _ => {
                    assert!(client.say("EHLO client.example").await.starts_with("250"));
                    client.begin_chunks().await;
                    client.write(b"NOOP\r\n").await;
                }
            }
            let began = Instant::now();
            served.await.unwrap();
            (String::new(), began.elapsed())
        }
        Does::TalksOnBehindADispute | Does::ClosesBehindADispute => {
            let (mut client, intake) = stage.conversation("alice");
            let served = tokio::spawn(intake);
            greet(&mut client).await;
            client.begin(&["r0@example.net"]).await;
            client.write(b"bare\n").await;
            let (said, began) = (client.hear().await, Instant::now());
            if let Does::ClosesBehindADispute = does {
                drop(client);
            } else {
                tokio::spawn(async move {
                    while client.try_write(b"x").await {
                        sleep(seconds(1)).await;
                    }
                });
            }
            served.await.unwrap();
            (said, began.elapsed())
        }
        Does::NoopsWithoutIdentity => {
            let (mut client, intake) = stage.conversation("stranger");
            tokio::spawn(intake);
            let began = Instant::now();
            assert!(client.hear().await.starts_with("554 "));
            repeat(&mut client, "NOOP", limits.command / 3, began).await
        }
        Does::NothingInSession
        | Does::NothingInAuth
        | Does::NoopsForEver
        | Does::NothingInData
        | Does::TooLittleInData
        | Does::JustEnoughInData
        | Does::TooLittleInARefusedMessage
        | Does::NothingInAChunk
        | Does::NothingBetweenChunks
        | Does::NoopsBetweenChunks => in_session(stage, does, limits).await,
    }
}

async fn greet(client: &mut Client) {
    assert!(client.hear().await.starts_with("220 "));
    assert!(client.say("EHLO client.example").await.starts_with("250"));
}

/// The last words, and how long they and the end took.
async fn ends(client: &mut Client, began: Instant) -> (String, Duration) {
    let said = client.hear().await;
    assert!(said.is_empty() || client.hear().await.is_empty(), "it says more: {said}");
    (said, began.elapsed())
}

/// Says it again and again, until another answer comes than at first.
async fn repeat(client: &mut Client, line: &str, pause: Duration, began: Instant) -> (String, Duration) {
    let usual = client.say(line).await;
    loop {
        let said = tokio::select! {
            biased;
            said = client.hear() => said,
            () = sleep(pause) => client.say(line).await,
        };
        if said != usual {
            assert!(client.hear().await.is_empty());
            return (said, began.elapsed());
        }
    }
}

async fn before_tls(stage: &Stage, does: Does, limits: &IntakeLimits) -> (String, Duration) {
    let door = if let Does::NothingAtTheImplicitDoor = does { IMPLICIT } else { STARTTLS };
    let (mut client, intake) = stage.connection(door);
    tokio::spawn(intake);
    let began = Instant::now();
    if door == STARTTLS {
        assert!(client.hear().await.starts_with("220 "));
    }
    if !matches!(does, Does::NothingBeforeTls | Does::NothingAtTheImplicitDoor) {
        sleep(limits.handshake / 2).await;
        assert!(client.say("EHLO client.example").await.starts_with("250"));
    }
    if let Does::StartTlsAndNothing | Does::HalfAClientHello = does {
        assert!(client.say("STARTTLS").await.starts_with("220"));
    }
    if let Does::HalfAClientHello = does {
        client.write(b"\x16\x03\x01\x02\x00\x01\x00").await;
    }
    ends(&mut client, began).await
}

async fn in_session(stage: &Stage, does: Does, limits: &IntakeLimits) -> (String, Duration) {
    let persona = if let Does::NothingInAuth = does { "guarded" } else { "alice" };
    let (mut client, intake) = stage.conversation(persona);
    tokio::spawn(intake);
    let mut began = Instant::now();
    greet(&mut client).await;
    match does {
        Does::NothingInAuth => assert!(client.say("AUTH LOGIN").await.starts_with("334")),
        Does::NoopsForEver => return repeat(&mut client, "NOOP", limits.command * 9 / 10, began).await,
        Does::NothingInData | Does::TooLittleInData | Does::JustEnoughInData | Does::TooLittleInARefusedMessage => {
            client.begin(&["r0@example.net"]).await;
            let from = if let Does::TooLittleInARefusedMessage = does { "bob" } else { "alice" };
            began = Instant::now();
            client.write(format!("From: {from}@example.com\r\n\r\n").as_bytes()).await;
        }
        Does::NothingInAChunk => {
            assert!(client.mail("").await.starts_with("250"));
            assert!(client.rcpt("<r0@example.net>").await.starts_with("250"));
            began = Instant::now();
            client.write(b"BDAT 100\r\nFrom: ").await;
        }
        Does::NothingBetweenChunks => client.begin_chunks().await,
        Does::NoopsBetweenChunks => {
            client.begin_chunks().await;
            return repeat(&mut client, "NOOP", limits.pace.window / 4, began).await;
        }
        _ => {}
    }
    let window = limits.pace.window;
    let due = usize::try_from(limits.pace.rate_min * window.as_secs()).unwrap();
    let drips = match does {
        Does::TooLittleInData | Does::TooLittleInARefusedMessage => Some((window / 3, 10)),
        Does::JustEnoughInData => Some((window / 2, due / 2 + 2)),
        _ => None,
    };
    let Some((pause, octets)) = drips else { return ends(&mut client, began).await };
    loop {
        tokio::select! {
            biased;
            said = client.hear() => return (said, began.elapsed()),
            () = sleep(pause) => {}
        }
        // In lines of a harmless length.
        if !client.try_write(&[vec![b'x'; octets - 2], b"\r\n".to_vec()].concat()).await {
            return ends(&mut client, began).await;
        }
    }
}

/// Behind a disputed end so many octets are thrown away, and no more: who sends them at once is not listened to for the rest of the time.
#[tokio::test(start_paused = true)]
async fn a_client_that_talks_on_is_listened_to_for_so_many_octets() {
    for octets in [100_000, 400_000] {
        let stage = Stage::new(Script::default());
        let linger = LingerLimits { wait: seconds(10), octets };
        stage.change(|now| Snapshot { intake: IntakeLimits { linger, ..now.intake }, routes: routes_to("*"), ..now });
        let mut client = stage.client("alice").await;
        client.begin(&["r0@example.net"]).await;
        client.write(b"bare\n").await;
        assert!(client.hear().await.starts_with("550 5.5.2 "));
        let (began, mut taken) = (Instant::now(), 0);
        while client.try_write(&[b'x'; 1000]).await {
            taken += 1000;
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
        // What lies in the pipe was taken by nobody.
        assert!((octets..octets + 100_000).contains(&taken), "{taken} of {octets}");
    }
}
