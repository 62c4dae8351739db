//! Ends of clients' certificates: told once each, and by mail where that is wanted.

use std::time::Duration;

use sealpost::daemon::ending;
use sealpost::queue::seen::{Certificate, Sighting, Stage as End};
use sealpost::snapshot::{ExpiryNotices, Snapshot};

use super::stage::{Log, Stage, upstream};
use crate::scripted_upstream::Script;

const DAY: Duration = Duration::from_secs(86_400);

/// A certificate of a year that ends in so many days.
async fn see(stage: &Stage, identity: &str, number: u8, days: u32, email: Option<&str>) {
    let now = stage.house.now().wall;
    let certificate = Certificate {
        ca: Some("staff".to_owned()),
        serial: format!("{number:02x}"),
        subject: format!("CN={identity}"),
        issuer: "CN=Staff".to_owned(),
        email: email.map(str::to_owned),
        not_before: now.after(DAY * days).before(DAY * 365),
        not_after: now.after(DAY * days),
    };
    let sighting = Sighting {
        identity: identity.to_owned(),
        fingerprint: [number; 32],
        certificate,
        client: "192.0.2.9".to_owned(),
        at: now,
    };
    stage.house.queue.see(&sighting.identity.clone(), sighting.fingerprint, || sighting).await.unwrap();
}

fn with_notices(stage: &Stage) {
    let snapshot = stage.house.snapshot();
    stage.house.swap(Snapshot { expiry_notices: ExpiryNotices::Yes, ..(*snapshot).clone() });
}

async fn told(stage: &Stage, identity: &str) -> Option<End> {
    stage.house.queue.seen_of(vec![identity.to_owned()]).await.unwrap()[0][0].row.told
}

#[tokio::test(start_paused = true)]
async fn each_stage_is_told_once_and_none_of_a_certificate_that_was_renewed() {
    let (stage, log) = (Stage::new(Script::default(), upstream()), Log::start());
    see(&stage, "alice", 1, 40, None).await;
    see(&stage, "bob", 2, 40, Some("bob@example.com")).await;
    see(&stage, "bob", 3, 400, Some("bob@example.com")).await;
    let lines = || log.lines("certificate-ends");
    let mut counts = Vec::new();
    for _ in 0..42 {
        ending::look(&stage.house).await.unwrap();
        ending::look(&stage.house).await.unwrap();
        counts.push(lines().len());
        stage.pass(DAY).await;
    }
    assert_eq!(
        (counts[9], counts[10], counts[32], counts[33], counts[38], counts[39], counts[41]),
        (0, 1, 1, 2, 2, 3, 3)
    );
    assert!(lines().iter().all(|line| line.contains("identity=\"alice\"")), "{:?}", lines());
    assert_eq!(told(&stage, "alice").await, Some(End::Day));
    assert_eq!(stage.count().await, 0, "nobody asked for mail");
    // What has ended is forgotten after a while.
    stage.pass(DAY * 100).await;
    ending::look(&stage.house).await.unwrap();
    assert_eq!(stage.house.queue.seen_count().await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_notice_goes_to_the_address_of_the_certificate_from_nobody() {
    let stage = Stage::new(Script::default(), upstream());
    with_notices(&stage);
    see(&stage, "alice", 1, 6, Some("alice@example.com")).await;
    see(&stage, "robot", 2, 6, None).await;
    let log = Log::start();
    for _ in 0..3 {
        ending::look(&stage.house).await.unwrap();
    }
    assert_eq!(log.lines("certificate-ends").len(), 2);
    assert_eq!((told(&stage, "alice").await, told(&stage, "robot").await), (Some(End::Week), Some(End::Week)));
    let bodies = stage.bodies().await;
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    for wanted in ["To: <alice@example.com>", "Subject: Your certificate for mail ends in 6 days", "Known as  alice"] {
        assert!(bodies[0].contains(wanted), "{wanted}: {}", bodies[0]);
    }
    let record = stage.records().await.remove(0);
    assert!(record.envelope.reverse_path().as_str().is_empty());
    stage.run();
    stage.pass(Duration::from_secs(5)).await;
    assert_eq!(stage.up.taken().len(), 1);
    assert_eq!(stage.count().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_a_program_renews_every_day_is_not_told_of() {
    let (stage, log) = (Stage::new(Script::default(), upstream()), Log::start());
    let now = stage.house.now().wall;
    let certificate = Certificate {
        ca: Some("workloads".to_owned()),
        serial: "01".to_owned(),
        subject: String::new(),
        issuer: "CN=SPIRE".to_owned(),
        email: None,
        not_before: now,
        not_after: now.after(DAY),
    };
    let sighting = Sighting {
        identity: "billing".to_owned(),
        fingerprint: [1; 32],
        certificate,
        client: "192.0.2.9".to_owned(),
        at: now,
    };
    stage.house.queue.see(&sighting.identity.clone(), sighting.fingerprint, || sighting).await.unwrap();
    ending::look(&stage.house).await.unwrap();
    assert!(log.lines("certificate-ends").is_empty());
}
