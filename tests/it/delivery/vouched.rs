//! `queue.recheck` of mail that was taken on a load balancer's word: it goes out as long as that word counts.

use std::sync::Arc;

use sealpost::identity::{Digest256, Leeway, Roster, Vouching};
use sealpost::queue::{Custodian, State, Vouched};
use sealpost::snapshot::{Door, Recheck, Snapshot};
use sealpost::sys::{Clock, ManualClock, WallTime};
use sealpost::tls::BalancerPins;

use super::stage::{Stage, upstream};
use super::{MINUTE, Script};
use crate::dialog::cast::mailboxes;
use crate::dialog::tls::bare_snapshot;
use crate::recipe::NOW;

const BALANCER: Vouched = Vouched { fingerprint: [1; 32], key: [2; 32] };

/// What counts when the message is tried: these pins of balancers at the listener, and such words under the CA.
fn counting(stage: &Stage, door: &Door, pins: &[[u8; 32]], vouching: Vouching) {
    let now = stage.house.snapshot();
    let vouchers = BalancerPins::new(pins.iter().map(|pin| Digest256(*pin)).collect());
    let door = Door { vouchers, ..door.clone() };
    let mut grant = mailboxes("staff");
    if let Some(own) = &mut grant.send_as_email {
        own.leeway = Leeway { vouching, ..Leeway::default() };
    }
    let roster = Arc::new(Roster::new(Vec::new(), vec![grant]).unwrap());
    let doors = vec![Arc::new(door)];
    stage.house.swap(Snapshot { roster, doors, recheck: Recheck::Yes, ..Snapshot::clone(&now) });
}

#[test]
fn mail_taken_on_a_balancers_word_waits_for_an_operator_when_that_word_counts_no_more() {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(WallTime::from_seconds(NOW)));
    // Made where no runtime is: it has one of its own.
    let door = Door::clone(&bare_snapshot(&clock).doors[0]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(held_or_sent(&door));
}

async fn held_or_sent(door: &Door) {
    let (yes, no) = (Vouching::BalancerToo, Vouching::Handshake);
    for (vouched, pins, vouching, why) in [
        (Some(BALANCER), vec![[9; 32], [1; 32]], yes, None),
        (Some(BALANCER), vec![[2; 32]], yes, None),
        (Some(BALANCER), vec![[9; 32]], yes, Some("counts at no listener now")),
        (Some(BALANCER), vec![], yes, Some("counts at no listener now")),
        (Some(BALANCER), vec![[1; 32]], no, Some("accept_vouched is not true")),
        // Who has shown us his certificate himself needs nobody's word.
        (None, vec![], no, None),
    ] {
        let stage = Stage::new(Script::default(), upstream());
        let id = stage.submit(1).await[0];
        let known = stage.record(id).await.unwrap();
        stage.house.queue.remove(id).await.unwrap();
        let custodian = Custodian {
            identity: "staff:alice@example.com".to_owned(),
            ca: Some("staff".to_owned()),
            vouched,
            ..known.custodian
        };
        let id = stage.send_as(custodian, known.envelope).await;
        counting(&stage, door, &pins, vouching);
        stage.run();
        stage.pass(MINUTE).await;
        match why {
            None => assert_eq!((stage.up.taken().len(), stage.count().await), (1, 0), "{pins:?}"),
            Some(why) => {
                let held = stage.record(id).await.unwrap();
                assert_eq!((held.state, stage.up.taken().len()), (State::Held, 0), "{pins:?}");
                assert!(held.reason.as_ref().is_some_and(|reason| reason.contains(why)), "{:?}", held.reason);
            }
        }
    }
}
