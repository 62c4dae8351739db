//! The queue against a small model of itself, on a simulated disk that crashes and fails.
//!
//! A failure prints its seed; `SEALPOST_SEED=n` runs that one alone.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::wildcard_enum_match_arm,
    reason = "a test stops at the first surprise"
)]

mod crash;
mod fixture;
mod model;
mod script;
mod steered;

use std::path::Path;
use std::sync::Arc;

use sealpost::mail::{Address, Envelope, ForwardPath, MailParameters, Recipient, RecipientParameters, ReversePath};
use sealpost::queue::{Custodian, Deposit, Driving, Link, OpenError, Queue, QueueSettings, Recovery, TraceFacts};
use sealpost::sys::{Clock, Disk, ManualClock, SeededEntropy, SimulatedDisk, WallTime};

/// The queue's own page on its states and on what a crash leaves names a test for each row.
#[test]
fn every_row_of_the_contract_names_a_test_that_is_there() {
    let contract = include_str!("../../src/queue/mod.rs");
    let tests = [
        include_str!("../../src/daemon/steering/tests/moving.rs"),
        include_str!("../../src/queue/tests.rs"),
        include_str!("../../src/queue/tests/claims.rs"),
        include_str!("../../src/queue/tests/compact.rs"),
        include_str!("../../src/queue/tests/damage.rs"),
        include_str!("../../src/queue/tests/rot.rs"),
        include_str!("../../src/queue/tests/shelf.rs"),
        include_str!("../../src/queue/tests/transfer.rs"),
        include_str!("store/crash.rs"),
        include_str!("store/fixture.rs"),
    ]
    .concat();
    let tables = contract.lines().filter_map(|line| line.strip_prefix("//! "));
    let named: Vec<&str> =
        tables.filter_map(|line| line.rsplit("  ").next()).filter(|last| last.contains('_')).collect();
    assert!(named.len() >= 20, "{named:?}");
    for name in named.into_iter().map(str::trim).filter(|name| !name.contains([' ', '[', '`', '/'])) {
        assert!(tests.contains(&format!("fn {name}()")), "{name}");
    }
}

/// Where the simulated queue lives.
const HOME: &str = "/data";

/// When every test begins.
const START: WallTime = WallTime::from_seconds(1_800_000_000);

fn settings() -> QueueSettings {
    QueueSettings { driving: Driving::Inline, cache: 1 << 20, ..QueueSettings::new(HOME) }
}

fn open(disk: &SimulatedDisk, clock: &Arc<ManualClock>, seed: u64) -> Result<(Queue, Recovery), OpenError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let clock = Arc::clone(clock);
    Queue::open(settings(), disk, clock, Arc::new(SeededEntropy::new(seed)))
}

/// Virtual time: a wait costs nothing.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(work)
}

fn deposit(clock: &dyn Clock, recipients: usize) -> Deposit {
    let recipient = |number: usize| Recipient {
        forward_path: ForwardPath::Address(Address::parse(&format!("to{number}@example.net")).unwrap()),
        parameters: RecipientParameters::default(),
    };
    Deposit {
        envelope: Envelope::new(
            ReversePath::Address(Address::parse("alice@example.com").unwrap()),
            MailParameters::default(),
            (0..recipients).map(recipient).collect(),
        )
        .unwrap(),
        custodian: Custodian {
            identity: "staff:alice@example.com".to_owned(),
            ca: Some("staff".to_owned()),
            fingerprint: "ab".repeat(32),
            chain: vec![("CN=Staff issuing".to_owned(), "01af".to_owned())],
            key: Some([7; 32]),
            links: vec![Link { issuer: [8; 32], issuer_key: Some([9; 32]), serial: vec![1, 0xaf] }],
            vouched: None,
            ends: None,
        },
        trace: TraceFacts {
            client: "192.0.2.1:40000".to_owned(),
            helo: "laptop.example.com".to_owned(),
            protocol: "ESMTPS".to_owned(),
            tls: "TLS1.3 TLS_AES_256_GCM_SHA384".to_owned(),
            arrived: clock.now().wall,
            message_id: None,
        },
    }
}

fn bodies() -> &'static Path {
    Path::new("/data/bodies")
}

/// The seeds to run: `count` of them, or the one that is asked for.
#[expect(clippy::disallowed_methods, reason = "the seed to replay is given by hand")]
fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("SEALPOST_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => vec![seed],
        None => (0..count).collect(),
    }
}
