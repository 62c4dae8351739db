//! What is being tried just now, as an operator sees it while it goes on.

use sealpost::daemon::steering::active::{ActiveEntry, LongestAttempt, StepName};
use sealpost::daemon::steering::selection::Filters;
use sealpost::daemon::steering::{Answer, Command, Detail, ListOrder};
use sealpost::mail::QueueId;
use sealpost::upstream::{Anchors, Credentials, Mode, Phase, Secret, Security, TlsDemand, TlsMaterial, Upstream};

use super::stage::{Stage, upstream};
use super::{HOUR, ask, seconds, silent_at};
use crate::scripted_upstream::{Days, Script, TestCa};

const NAME: &str = "smtp.example.net";

const LIST: Command = Command::Active {
    filters: Filters {
        state: None,
        identity: None,
        sender: None,
        recipient: None,
        upstream: None,
        older_than: None,
        newer_than: None,
        until: None,
    },
    after: None,
    order: ListOrder::OldestFirst,
    detail: Detail::Lines,
    limit: usize::MAX,
};

async fn shown(stage: &Stage, id: QueueId) -> Option<ActiveEntry> {
    let answers = ask(stage, Command::Show { id: id.to_string(), headers: false }).await;
    let [Answer::Entry(entry), Answer::End] = &answers[..] else { panic!("{answers:?}") };
    entry.active.clone()
}

/// The lines of a listing.
async fn lines(stage: &Stage, command: Command) -> Vec<String> {
    let answers = ask(stage, command).await;
    let text = |answer: &Answer| match answer {
        Answer::Lines(lines) => lines.text.clone(),
        Answer::End => String::new(),
        other => panic!("{other:?}"),
    };
    answers.iter().map(text).collect::<String>().lines().map(str::to_owned).collect()
}

/// The names of the messages that a listing of what is being tried has; below each stands how far it is.
async fn listed(stage: &Stage, command: Command) -> Vec<QueueId> {
    let lines = lines(stage, command).await;
    let (pairs, rest) = lines.as_chunks::<2>();
    assert!(rest.is_empty() && pairs.iter().all(|[_, far]| far.starts_with("    being tried for ")), "{lines:?}");
    pairs.iter().map(|[first, _]| first.split(' ').next().unwrap().parse().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn every_place_to_hang_in_is_seen_while_it_hangs_and_nothing_behind_it() {
    let ca = TestCa::new("ca");
    let tls = Some(ca.server(NAME, Days(-1, 30)));
    let secured = |script| Script { tls: tls.clone(), extensions: vec!["AUTH PLAIN"], ..script };
    for (phase, step) in [
        (Phase::Greeting, StepName::Greeting),
        (Phase::Hello, StepName::Ehlo),
        (Phase::StartTls, StepName::Starttls),
        (Phase::Auth, StepName::Auth),
        (Phase::Mail, StepName::Mail),
        (Phase::Recipient, StepName::Rcpt),
        (Phase::Data, StepName::Data),
        (Phase::EndOfData, StepName::EndOfData),
    ] {
        let stage = Stage::new(secured(silent_at(phase)), upstream());
        let anchors = Anchors::Given(vec![ca.certificate.clone()]);
        let material = TlsMaterial { anchors, pins: Vec::new(), server_name: None, identity: None };
        let clock = stage.house.clock.clone();
        let security = Security::new(Mode::StartTls, TlsDemand::Verify, NAME, material, clock).unwrap();
        let credentials = Some(Credentials::new("relay", Secret::new("secret")).unwrap());
        stage.reload(vec![Upstream { security, credentials, ..upstream() }]);
        let id = stage.submit(1).await[0];
        assert_eq!(shown(&stage, id).await, None, "{phase:?}");
        stage.run();
        stage.pass(seconds(90)).await;
        let active = shown(&stage, id).await.unwrap();
        let [route] = &active.routes[..] else { panic!("{active:?}") };
        assert_eq!((route.upstream.as_deref(), route.step), (Some("main"), step), "{active:?}");
        for lasts in [active.seconds, route.seconds, route.silent_seconds.unwrap()] {
            assert!((89..=90).contains(&lasts), "{active:?}");
        }
        stage.up.turn_into(secured(Script::default()));
        stage.pass(2 * HOUR).await;
        assert_eq!((stage.count().await, stage.house.active.ids()), (0, Vec::new()), "{phase:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn how_much_of_a_large_message_is_sent_is_seen() {
    const OCTETS: usize = 4 << 20;
    let stage = Stage::new(Script { stops_reading: true, ..Script::default() }, upstream());
    let line = format!("{}\r\n", "x".repeat(70));
    let id = stage.send_octets(format!("Subject: x\r\n\r\n{}", line.repeat(OCTETS / line.len())).as_bytes()).await;
    stage.run();
    stage.pass(seconds(30)).await;
    let active = shown(&stage, id).await.unwrap();
    assert_eq!(active.routes[0].step, StepName::Body, "{active:?}");
    let sent = usize::try_from(active.routes[0].octets_sent.unwrap()).unwrap();
    assert!((1..OCTETS).contains(&sent), "{active:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_being_tried_is_listed_and_so_is_what_waits_for_a_connection() {
    let stage = Stage::new(silent_at(Phase::EndOfData), Upstream { connections: 1, ..upstream() });
    stage.run();
    let first = stage.submit(1).await[0];
    stage.pass(seconds(10)).await;
    let ids = stage.submit(5).await;
    stage.pass(seconds(20)).await;
    // Two for each connection; the others wait for their turn.
    let tried = listed(&stage, LIST).await;
    let [_, second] = tried[..] else { panic!("{tried:?}") };
    assert!(tried[0] == first && ids.contains(&second), "{tried:?}");
    let active = shown(&stage, second).await.unwrap();
    let waits = &active.routes[0];
    assert_eq!((waits.upstream.as_deref(), waits.step), (Some("main"), StepName::WaitsForConnection), "{active:?}");
    assert!((19..=20).contains(&waits.seconds) && waits.silent_seconds.is_none(), "{active:?}");
    let waits = ids.iter().find(|id| **id != second).unwrap();
    assert_eq!(shown(&stage, *waits).await, None);
    let Command::Active { filters, detail, limit, .. } = LIST else { unreachable!() };
    let (order, after) = (ListOrder::NewestFirst, None);
    let back = Command::Active { filters: filters.clone(), after, order, detail, limit };
    assert_eq!(listed(&stage, back).await, [second, first]);
    let (order, after) = (ListOrder::OldestFirst, Some(first.to_string()));
    let behind = Command::Active { filters: filters.clone(), after, order, detail, limit };
    assert_eq!(listed(&stage, behind).await, [second]);
    let one = Command::Active { filters, after: None, order, detail, limit: 1 };
    assert_eq!(listed(&stage, one).await, [first]);
    let of_bob = Filters { identity: Some("bob".to_owned()), ..Filters::default() };
    let none = Command::Active { filters: of_bob, after: None, order, detail, limit };
    assert_eq!(listed(&stage, none).await, []);
    // The listing of all tells it of those alone.
    let filters = Filters::default();
    let all =
        lines(&stage, Command::List { filters, action: None, after: None, order, detail, limit: usize::MAX }).await;
    let told = all.iter().filter(|line| line.starts_with("    being tried for ")).count();
    assert_eq!((told, all.len()), (2, 12), "{all:?}");
    let Answer::Stats(sums) = &ask(&stage, Command::Stats { top: 0 }).await[0] else { panic!("no sums") };
    let LongestAttempt { id, active } = sums.longest_attempt.as_ref().unwrap();
    assert_eq!((id, active.routes[0].step), (&first.to_string(), StepName::EndOfData));
    assert!((29..=30).contains(&active.seconds), "{active:?}");
}

#[tokio::test(start_paused = true)]
async fn of_several_routes_it_is_seen_which_one_hangs() {
    let stage = Stage::with_routes(Script::default(), silent_at(Phase::EndOfData));
    stage.run();
    let id = stage.submit_to("alice", 1, &["r0@example.net", "r0@example.org"]).await[0];
    stage.pass(seconds(60)).await;
    let active = shown(&stage, id).await.unwrap();
    let mut steps: Vec<_> = active.routes.iter().map(|at| (at.upstream.as_deref(), at.step)).collect();
    steps.sort_by_key(|(upstream, _)| *upstream);
    assert_eq!(steps, [(None, StepName::Over), (Some("spare"), StepName::EndOfData)], "{active:?}");
}
