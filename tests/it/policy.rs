//! Policy's answers, for identities made the only way there is.

use std::sync::Arc;

use sealpost::identity::Identity;
use sealpost::mail::{ForwardPath, ReversePath};
use sealpost::policy::{self, Offence, Verdict};
use sealpost::sys::WallTime;
use sealpost::tls::{PeerChain, verify};

use crate::dialog::cast::{Cast, Season};
use crate::recipe::NOW;

fn identity(persona: &str) -> Arc<Identity> {
    let (cast, season) = (Cast::get(), Season::default());
    let chain = PeerChain(cast.chain(persona).unwrap().unwrap());
    let verified = verify(&chain, &cast.trust(&season), WallTime::from_seconds(NOW)).unwrap();
    Arc::new(cast.roster(&season).identify(&verified).unwrap())
}

fn allowed(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Allowed(_))
}

fn offence(verdict: Verdict) -> Offence {
    match verdict {
        Verdict::Refused(refusal) => refusal.offence,
        Verdict::Allowed(rule) => panic!("allowed by {rule}"),
    }
}

#[test]
fn an_identity_sends_only_as_what_it_is_granted() {
    let cases = [
        ("alice", "alice@example.com", true),
        ("alice", "Alice@EXAMPLE.com", true),
        ("alice", "bob@example.com", false),
        ("alice", "alice@sub.example.com", false),
        ("alice", "alice+tag@example.com", false),
        ("robot", "billing@example.com", true),
        ("robot", "x@invoices.example.com", true),
        ("robot", "x@deep.invoices.example.com", false),
        ("robot", "x@example.com", false),
        ("zoe", "zoë@example.com", true),
        ("zoe", "zoe@example.com", true),
        ("pinned", "printer@example.com", true),
        ("pinned", "alice@example.com", false),
    ];
    for (persona, address, expected) in cases {
        let path = ReversePath::Address(address.parse().unwrap());
        let verdict = policy::sender(&identity(persona), &path);
        assert_eq!(allowed(&verdict), expected, "{persona} as {address}: {verdict:?}");
    }
}

#[test]
fn the_null_sender_is_allowed_unless_the_grant_says_no() {
    assert!(allowed(&policy::sender(&identity("alice"), &ReversePath::Null)));
    assert_eq!(offence(policy::sender(&identity("quiet"), &ReversePath::Null)), Offence::NullSender);
}

#[test]
fn an_identity_writes_only_to_whom_it_is_granted_and_to_the_postmaster() {
    let cases = [
        ("alice", "anyone@anywhere.example", true),
        ("robot", "a@customer.example", true),
        ("robot", "a@sub.customer.example", false),
        ("robot", "a@elsewhere.example", false),
    ];
    for (persona, address, expected) in cases {
        let verdict = policy::recipient(&identity(persona), &ForwardPath::Address(address.parse().unwrap()));
        assert_eq!(allowed(&verdict), expected, "{persona} to {address}: {verdict:?}");
    }
    assert!(allowed(&policy::recipient(&identity("robot"), &ForwardPath::Postmaster)));
}

#[test]
fn limits_are_the_last_number_that_passes() {
    let robot = identity("robot");
    assert!(allowed(&policy::limits::recipients(&robot, 3)));
    assert_eq!(offence(policy::limits::recipients(&robot, 4)), Offence::TooManyRecipients { limit: 3 });
    assert!(allowed(&policy::limits::recipients(&identity("alice"), usize::MAX)));
    assert!(allowed(&policy::limits::size(&robot, 2000)));
    assert_eq!(offence(policy::limits::size(&robot, 2001)), Offence::TooLarge { limit: 2000 });
    assert!(allowed(&policy::limits::size(&identity("alice"), u64::MAX)));
}

#[test]
fn a_refusal_names_the_rule_and_keeps_the_cause_to_itself() {
    let path = ReversePath::Address("ceo@example.com".parse().unwrap());
    let Verdict::Refused(refusal) = policy::sender(&identity("robot"), &path) else { panic!("allowed") };
    assert_eq!(refusal.rule.to_string(), "identity \"billing-robot\" (sealpost.toml:1)");
    assert!(refusal.cause.contains("send_as"), "{}", refusal.cause);
}
