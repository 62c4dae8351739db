//! Who is known is known by all that the answer depends on: a chain that differs in one thing is looked up anew.

use super::*;
use crate::tls::CrlFile;
use crate::tls::recipe::CrlRecipe;

/// Alice's chain when the CA that vouches for her has this name, judged by a roster without pins.
fn under_ca(name: &str, root: &Made, alice: &Made) -> VerifiedChain {
    with_crls(name, root, alice, &[])
}

/// The same, where these lists are required, if there are any.
fn with_crls(name: &str, root: &Made, alice: &Made, crls: &[Vec<u8>]) -> VerifiedChain {
    let settings = ClientCaSettings {
        name: name.into(),
        certificates: vec![root.der.clone()],
        intermediates: Vec::new(),
        crls: crls.iter().map(|octets| CrlFile { place: "ca.crl".to_owned(), octets: octets.clone() }).collect(),
        revocation: if crls.is_empty() { RevocationMode::Off } else { RevocationMode::Require },
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
    // The same name, key and dates, and another certificate.
    let again = under_ca("staff", &Recipe::ca("Root").with_key(copy(&root), None), &alice);
    assert_eq!(again.good_until(), first.good_until());
    let by_again = roster.recognize(&again).unwrap();
    assert!(!Arc::ptr_eq(&by_again, &roster.recognize(&first).unwrap()));
    // The same certificates, and a CRL that wants a new one sooner.
    let listing = |until| root.crl(&CrlRecipe::listing(&[]).valid(NOW - DAY, until));
    for until in [NOW + 2 * DAY, NOW + 3 * DAY] {
        let listed = with_crls("staff", &root, &alice, &[listing(until)]);
        assert_eq!(roster.recognize(&listed).unwrap().good_until(), WallTime::from_seconds(until));
    }
    // Who was refused in between changes nothing.
    assert!(Arc::ptr_eq(&roster.recognize(&first).unwrap(), &roster.recognize(&first).unwrap()));
}

/// Certificates have places by their hash, and two may have one.
#[test]
fn who_falls_on_the_place_of_another_is_not_taken_for_it() {
    let root = Recipe::ca("Root").self_signed();
    let leaf = |name: &str| Recipe::client(name).email(&format!("{name}@example.com")).signed_by(&root);
    let mut roster = Roster::new(Vec::new(), vec![grant_of("staff", &["example.com"])]).unwrap();
    roster.known = Known::in_one_place();
    for name in ["alice", "bob", "alice", "alice"] {
        let chain = under_ca("staff", &root, &leaf(name));
        assert_eq!(roster.recognize(&chain).unwrap().name(), format!("staff:{name}@example.com"));
        assert_eq!(roster.recognize(&chain).unwrap().name(), format!("staff:{name}@example.com"), "again");
    }
}

/// The same key once more.
fn copy(made: &Made) -> rcgen::KeyPair {
    rcgen::KeyPair::from_pem(&made.key_pem()).unwrap()
}
