//! Who is called away leaves at that very moment, and not at a deadline of its own: by virtual time, which tells the two apart.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use sealpost::doors::{Place, UNDISTURBED};
use sealpost::intake;
use sealpost::snapshot::DoorLimits;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use crate::scripted_upstream::Script;
use crate::through::stage::Stage;

/// One place for all.
const LIMITS: DoorLimits = DoorLimits {
    connections: 1,
    connections_per_address: 10,
    connections_per_minute: 1000,
    connections_per_identity: 1000,
};
const STARTTLS: usize = 0;
const IMPLICIT: usize = 1;
const VOUCHED: usize = 2;

fn client() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 50], 40_000))
}

fn enter(stage: &Stage) -> Place {
    stage.house.doors.enter(IpAddr::from([192, 0, 2, 1]), LIMITS, stage.house.now().mono).unwrap()
}

/// Where a connection is that has no identity yet, or none at all.
#[derive(Clone, Copy, Debug)]
enum At {
    ProxyHeader,
    BalancersHandshake,
    Preamble,
    /// It spoke first, was told to go, and does not.
    PartingBeforeTls,
    Handshake,
    Refused,
}

/// Serves one that is silent there.
async fn serve(stage: &Stage, at: At, place: Place) {
    let house = Arc::clone(&stage.house);
    let (mut silent, mut served) = tokio::io::duplex(64 * 1024);
    match at {
        At::ProxyHeader => drop(intake::introduced(&mut served, client(), &house, &place).await),
        At::BalancersHandshake => drop(intake::by_balancer(served, client(), VOUCHED, &house, &place).await),
        At::Preamble => intake::serve(served, client(), STARTTLS, house, place).await,
        At::PartingBeforeTls => {
            silent.write_all(b"EHLO client.example\r\n").await.unwrap();
            intake::serve(served, client(), STARTTLS, house, place).await;
        }
        At::Handshake => intake::serve(served, client(), IMPLICIT, house, place).await,
        At::Refused => {
            let (_silent, serving) = stage.conversation_in("unknown", place);
            serving.await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_called_away_leaves_at_that_moment_wherever_it_is() {
    for at in [At::ProxyHeader, At::BalancersHandshake, At::Preamble, At::PartingBeforeTls, At::Handshake, At::Refused]
    {
        let stage = Stage::new(Script::default());
        let mut serving = Box::pin(serve(&stage, at, enter(&stage)));
        assert!(timeout(UNDISTURBED, &mut serving).await.is_err(), "{at:?}: it left by itself");
        let _newcomer = enter(&stage);
        assert!(timeout(Duration::from_millis(1), &mut serving).await.is_ok(), "{at:?}: it stays");
        assert_eq!(stage.house.doors.given_away(), 1, "{at:?}");
    }
}

/// The handshake was done in the very moment in which the place was given away: no identity gives it back.
#[tokio::test(start_paused = true)]
async fn whose_place_was_given_away_before_it_was_identified_is_told_so() {
    let stage = Stage::new(Script::default());
    let place = enter(&stage);
    tokio::time::sleep(UNDISTURBED).await;
    let _newcomer = enter(&stage);
    let (mut alice, serving) = stage.conversation_in("alice", place);
    let hearing = async {
        let said = alice.hear().await;
        (said, alice.hear().await)
    };
    let ((said, behind), ()) = tokio::join!(hearing, serving);
    assert!(said.starts_with("421 4.7.0 ") && behind.is_empty(), "{said}, {behind}");
    assert_eq!(stage.house.doors.inside(), 1);
}
