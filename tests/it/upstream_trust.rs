//! Whom an upstream must be where no CA says so: pins.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use sealpost::sys::ManualClock;
use sealpost::upstream::{Anchors, Courier, Mode, Pin, Security, TlsDemand, TlsMaterial, Upstream};

use super::scripted_upstream::{Days, Net, PRESENT, Script, Scripted, TestCa, Zeros};

const NAME: &str = "smtp.example.net";

/// What it shows, by `server`; "in", or why not.
async fn try_out(server: &Arc<rustls::ServerConfig>, anchors: Anchors, pins: Vec<Pin>, mode: Mode) -> String {
    let clock = Arc::new(ManualClock::at(PRESENT));
    let implicit = mode == Mode::Implicit;
    let up = Scripted::new(Script { tls: Some(Arc::clone(server)), implicit, ..Script::default() });
    let material = TlsMaterial { anchors, pins, server_name: None, identity: None };
    let mut settings = Upstream::new("main", NAME, 25, "relay.example.com");
    settings.security = Security::new(mode, TlsDemand::Verify, NAME, material, clock.clone()).unwrap();
    let courier = Courier::new(Arc::new(Net::default().name(NAME, &[1]).host(1, &up)), clock, Arc::new(Zeros));
    match courier.try_out(&Arc::new(settings)).await {
        Ok(()) => "in".to_owned(),
        Err(fault) => {
            let mail = up.heard().iter().any(|line| line.starts_with("MAIL"));
            assert!(!mail);
            format!("{:?}", fault.cause).split(['{', ' ']).next().unwrap().to_owned()
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_pin_stands_for_a_ca_or_beside_one() {
    let (ca, other) = (TestCa::new("ca"), TestCa::new("other"));
    let (server, leaf) = ca.server_and_leaf(NAME, Days(-1, 1));
    let (expired, expired_leaf) = ca.server_and_leaf("elsewhere.example.org", Days(-30, -1));
    let given = |ca: &TestCa| Anchors::Given(vec![ca.certificate.clone()]);
    let key = |leaf: &CertificateDer<'_>| Pin::of_key(leaf).unwrap();
    let whole = |leaf: &CertificateDer<'_>| -> Pin {
        use sha2::Digest as _;
        let digest: String = sha2::Sha256::digest(leaf).iter().map(|octet| format!("{octet:02x}")).collect();
        format!("sha256/{digest}").parse().unwrap()
    };
    for mode in [Mode::StartTls, Mode::Implicit] {
        for (what, server, anchors, pins, expected) in [
            ("its key", &server, Anchors::Nobody, vec![key(&leaf)], "in"),
            ("its certificate", &server, Anchors::Nobody, vec![whole(&leaf)], "in"),
            ("another, and its key", &server, Anchors::Nobody, vec![key(&expired_leaf), key(&leaf)], "in"),
            ("another", &server, Anchors::Nobody, vec![key(&expired_leaf)], "Tls(NotPinned(\"sha256/"),
            ("the CA's key is not its own", &server, Anchors::Nobody, vec![key(&ca.certificate)], "Tls(NotPinned("),
            ("neither name nor date count", &expired, Anchors::Nobody, vec![key(&expired_leaf)], "in"),
            ("unless a CA does", &expired, given(&ca), vec![key(&expired_leaf)], "Tls(OutOfTime)"),
            ("both right", &server, given(&ca), vec![key(&leaf)], "in"),
            ("pin right, CA wrong", &server, given(&other), vec![key(&leaf)], "Tls(Untrusted)"),
            ("CA right, pin wrong", &server, given(&ca), vec![key(&expired_leaf)], "Tls(NotPinned("),
        ] {
            let came = try_out(server, anchors, pins, mode).await;
            assert!(came.starts_with(expected), "{what} {mode:?}: {came}");
        }
    }
}
