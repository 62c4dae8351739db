//! What is asked of each claim, and what the configuration lets pass. The table of whole headers is `tests/it/header.rs`.

use super::*;
use crate::content::DisplayAddress;

fn rule() -> Rule {
    Rule { name: "identity \"test\"".into(), place: None }
}

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

/// A header that claims seven addresses.
fn claims() -> HeaderFacts {
    HeaderFacts {
        from: vec![address("a@x.example"), address("b@x.example")],
        sender: Some(address("c@x.example")),
        has_sender: true,
        resent_from: vec![address("d@x.example"), address("e@x.example")],
        resent_sender: Some(address("f@x.example")),
        display_addresses: vec![DisplayAddress { field: Originator::From, address: address("g@x.example") }],
        ..HeaderFacts::default()
    }
}

fn judged(facts: &HeaderFacts, resending: Resending, sender: &SenderField, without: &str) -> Option<&'static str> {
    let rules = HeaderRules::default();
    let terms = Terms { rules: &rules, resending, sender };
    match judge(&rule(), facts, terms, |address| address.local_part() != without) {
        Verdict::Allowed(_) => None,
        Verdict::Refused(Refusal { offence: Offence::Author { field, address }, .. }) => {
            assert_eq!(address, format!("{without}@x.example"));
            Some(field)
        }
        Verdict::Refused(other) => panic!("{other:?}"),
    }
}

#[test]
fn each_claim_is_asked_for() {
    // Taking any one granted address away must refuse the message that needs them all.
    let facts = claims();
    for (name, field) in [
        ("a", Some("From")),
        ("b", Some("From")),
        ("c", Some("Sender")),
        ("d", Some("Resent-From")),
        ("e", Some("Resent-From")),
        ("f", Some("Resent-Sender")),
        ("g", Some("From (display name)")),
        ("nobody", None),
    ] {
        assert_eq!(judged(&facts, Resending::OwnMail, &SenderField::AsItCame, name), field, "{name}");
    }
}

#[test]
fn who_may_resend_answers_for_the_resent_fields_alone() {
    let facts = claims();
    for (name, field) in
        [("a", None), ("b", None), ("c", None), ("g", None), ("d", Some("Resent-From")), ("f", Some("Resent-Sender"))]
    {
        assert_eq!(judged(&facts, Resending::AnyMail, &SenderField::AsItCame, name), field, "{name}");
    }
    let not_resent = HeaderFacts { resent_from: Vec::new(), resent_sender: None, ..claims() };
    assert_eq!(judged(&not_resent, Resending::AnyMail, &SenderField::AsItCame, "a"), Some("From"));
}

#[test]
fn a_sender_that_is_replaced_is_not_asked_for_and_nothing_else_is_spared() {
    let facts = HeaderFacts { sender_fault: Some("Field Sender is empty".to_owned()), sender: None, ..claims() };
    let becomes = SenderField::Becomes(address("h@x.example"));
    assert_eq!(judged(&facts, Resending::OwnMail, &becomes, "nobody"), None);
    assert_eq!(judged(&claims(), Resending::OwnMail, &becomes, "c"), None);
    assert_eq!(judged(&facts, Resending::OwnMail, &becomes, "a"), Some("From"));
    let shown = HeaderFacts {
        display_addresses: vec![DisplayAddress { field: Originator::Sender, address: address("g@x.example") }],
        ..claims()
    };
    assert_eq!(judged(&shown, Resending::OwnMail, &becomes, "g"), None);
    assert_eq!(judged(&shown, Resending::OwnMail, &SenderField::AsItCame, "g"), Some("Sender (display name)"));
}

/// RFC 5322 §3.6.2 and §3.6.6: of several who wrote, or sent again, one is named as the one who sent.
#[test]
fn several_authors_need_a_sender_and_one_needs_none() {
    let (one, two) = (vec![address("a@x.example")], vec![address("a@x.example"), address("b@x.example")]);
    let becomes = SenderField::Becomes(address("h@x.example"));
    let no_sender = Some("Field From names several mailboxes, and there is no Sender");
    let no_resent_sender = Some("Field Resent-From names several mailboxes, and there is no Resent-Sender");
    for (from, resent_from, named, sender, expected) in [
        (&one, &one, None, &SenderField::AsItCame, None),
        (&two, &one, None, &SenderField::AsItCame, no_sender),
        (&two, &one, None, &becomes, None),
        (&one, &two, None, &SenderField::AsItCame, no_resent_sender),
        (&one, &two, None, &becomes, no_resent_sender),
        (&two, &two, Some("c@x.example"), &SenderField::AsItCame, None),
        (&Vec::new(), &one, None, &SenderField::AsItCame, Some("Field From is missing")),
    ] {
        let named = named.map(address);
        let facts = HeaderFacts {
            from: from.clone(),
            resent_from: resent_from.clone(),
            sender: named.clone(),
            resent_sender: named,
            ..HeaderFacts::default()
        };
        let terms = Terms { rules: &HeaderRules::default(), resending: Resending::OwnMail, sender };
        assert_eq!(header_offence(&facts, terms).as_deref(), expected, "{from:?} {resent_from:?} {sender:?}");
    }
}
