//! What is demanded of an upstream's TLS stays demanded, whatever a message says: `TLS-Required: No` (RFC 8689 §3) goes on, and weakens nothing of it.

use std::sync::Arc;

use rustls::ServerConfig;
use sealpost::queue::State;
use sealpost::upstream::{Anchors, Mode, Security, TlsDemand, TlsMaterial, Upstream};

use super::stage::{Stage, upstream};
use super::{HOUR, Script};
use crate::scripted_upstream::{Days, TestCa};

const NAME: &str = "smtp.example.net";
const WAIVED: &[u8] = b"From: alice@example.com\r\nTLS-Required: No\r\nSubject: x\r\n\r\ntext\r\n";

fn offering(tls: Option<&Arc<ServerConfig>>) -> Script {
    Script { tls: tls.cloned(), ..Script::default() }
}

/// An upstream of which `ca` is to say who it is.
fn demanding(stage: &Stage, demand: TlsDemand, ca: &TestCa) -> Upstream {
    let anchors = Anchors::Given(vec![ca.certificate.clone()]);
    let material = TlsMaterial { anchors, pins: Vec::new(), server_name: None, identity: None };
    let clock = Arc::clone(&stage.house.clock);
    Upstream { security: Security::new(Mode::StartTls, demand, NAME, material, clock).unwrap(), ..upstream() }
}

#[tokio::test(start_paused = true)]
async fn a_wish_for_no_tls_sends_no_message_where_the_upstreams_tls_is_not_as_the_operator_wants_it() {
    let (ca, other) = (TestCa::new("ca"), TestCa::new("other"));
    let right = ca.server(NAME, Days(-1, 30));
    let (foreign, misnamed, ended) =
        (other.server(NAME, Days(-1, 30)), ca.server("mx.example.org", Days(-1, 30)), ca.server(NAME, Days(-30, -1)));
    for (what, demand, shown, goes) in [
        ("of another CA", TlsDemand::Verify, Some(&foreign), false),
        ("for another name", TlsDemand::Verify, Some(&misnamed), false),
        ("ended", TlsDemand::Verify, Some(&ended), false),
        ("no STARTTLS, proof demanded", TlsDemand::Verify, None, false),
        ("no STARTTLS, TLS demanded", TlsDemand::Require, None, false),
        ("right", TlsDemand::Verify, Some(&right), true),
        // What the operator does not demand, nobody does.
        ("any certificate will do", TlsDemand::Require, Some(&foreign), true),
    ] {
        let stage = Stage::new(offering(shown), upstream());
        stage.reload(vec![demanding(&stage, demand, &ca)]);
        let id = stage.send_octets(WAIVED).await;
        stage.run();
        stage.pass(HOUR * 2).await;
        if !goes {
            assert!(stage.up.connections() > 0, "{what}: it was asked");
            assert!(stage.up.taken().is_empty(), "{what}");
            assert!(!stage.up.heard().iter().any(|line| line.starts_with("MAIL")), "{what}: {:?}", stage.up.heard());
            assert_eq!(stage.record(id).await.unwrap().state, State::Queued, "{what}: it waits");
            // When the upstream is mended, it goes.
            stage.up.turn_into(offering(Some(&right)));
            stage.pass(HOUR * 3).await;
        }
        let taken = stage.up.taken();
        assert_eq!((taken.len(), stage.count().await), (1, 0), "{what}");
        assert_eq!(taken[0].octets, WAIVED, "{what}: the wish goes on to who may obey it");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wish_for_no_tls_is_given_up_as_any_other_message_is() {
    let (ca, other) = (TestCa::new("ca"), TestCa::new("other"));
    let stage = Stage::new(offering(Some(&other.server(NAME, Days(-1, 90)))), upstream());
    stage.reload(vec![demanding(&stage, TlsDemand::Verify, &ca)]);
    let id = stage.send_octets(WAIVED).await;
    stage.run();
    stage.pass(HOUR * 24 * 12).await;
    assert!(stage.record(id).await.is_none(), "given up");
    let left = stage.records().await;
    assert!(!left.is_empty() && left.iter().all(|record| record.custodian.is_ours()), "its report waits: {left:?}");
    assert!(stage.up.taken().is_empty());
}
