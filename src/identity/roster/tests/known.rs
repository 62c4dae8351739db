//! Who is known is known by all that the answer depends on: a chain that differs in one thing is looked up anew.

use super::*;

/// Alice's chain when the CA that vouches for her has this name, judged by a roster without pins.
fn under_ca(name: &str, root: &Made, alice: &Made) -> VerifiedChain {
    let settings = ClientCaSettings {
        name: name.into(),
        certificates: vec![root.der.clone()],
        intermediates: Vec::new(),
        crls: Vec::new(),
        revocation: RevocationMode::Off,
        crl_grace: std::time::Duration::ZERO,
        rules: crate::tls::CaRules::default(),
    };
    let trust = Trust::new(vec![Arc::new(ClientCa::new(settings).unwrap().0)], Pins::default());
    judge(&PeerChain(vec![alice.der.clone()]), &trust, WallTime::from_seconds(NOW)).unwrap()
}

#[test]
fn a_chain_that_differs_in_one_thing_is_looked_up_anew() {
    // The same name, key and leaf under a root that ends sooner: only the time until which it holds differs, and the anchor's octets.
    let root = Recipe::ca("Root").self_signed();
    let alice = Recipe::client("Alice").email("alice@example.com").signed_by(&root);
    let roster = Roster::new(Vec::new(), vec![grant_of("staff", &["example.com"]), without_email("guests")]).unwrap();
    let first = under_ca("staff", &root, &alice);
    let known = roster.recognize(&first).unwrap();
    assert!(
        Arc::ptr_eq(&known, &roster.recognize(&under_ca("staff", &root, &alice)).unwrap()),
        "the same chain, judged anew"
    );

    let shorter = Recipe::ca("Root").valid(NOW - DAY, NOW + DAY).with_key(copy(&root), None);
    let sooner = under_ca("staff", &shorter, &alice);
    assert_eq!(roster.recognize(&sooner).unwrap().good_until(), WallTime::from_seconds(NOW + DAY));
    assert_eq!(roster.recognize(&first).unwrap().good_until(), WallTime::from_seconds(NOW + 90 * DAY));
    assert_eq!(roster.recognize(&under_ca("guests", &root, &alice)).unwrap_err(), NoIdentity::Unknown);
    let told = first.clone().as_if_told_by(Digest256([7; 32]));
    assert_eq!(roster.recognize(&told).unwrap_err(), NoIdentity::NotVouched { name: None });
    // Who was refused in between changes nothing.
    assert!(Arc::ptr_eq(&roster.recognize(&first).unwrap(), &roster.recognize(&first).unwrap()));
}

/// The same key once more.
fn copy(made: &Made) -> rcgen::KeyPair {
    rcgen::KeyPair::from_pem(&made.key_pem()).unwrap()
}
