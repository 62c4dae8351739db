//! Whose word counts: what a load balancer tells of a certificate, and who asks for it.

use super::*;

/// Alice's own rule.
fn alice(vouching: Vouching) -> RosterEntry {
    RosterEntry {
        leeway: Leeway { vouching, ..Leeway::default() },
        ..entry("alice", MatchKeys { email: email("alice@example.com"), ..under("staff") })
    }
}

/// The grant by which a certificate of the staff's CA sends as its own names.
fn of_staff(vouching: Vouching) -> CaGrant {
    let grant = grant_of("staff", &["example.com"]);
    let leeway = Leeway { vouching, ..Leeway::default() };
    let own = EmailGrant { leeway, ..grant.send_as_email.clone().unwrap() };
    CaGrant { send_as_email: Some(own), ..grant }
}

#[test]
fn of_what_waits_a_load_balancers_word_counts_as_the_rule_says_that_has_taken_over_since() {
    let witness = Witness::Balancer(Digest256([7; 32]));
    for (rule, own_names, wanted) in [
        (Vouching::BalancerToo, Vouching::Handshake, Ok(())),
        (Vouching::Handshake, Vouching::BalancerToo, Err(Lapsed::NotVouched)),
    ] {
        let roster = Roster::new(vec![alice(rule)], vec![of_staff(own_names)]).unwrap();
        assert_eq!(roster.standing("staff:alice@example.com", Some("staff"), None, None, witness), wanted);
    }
}

#[test]
fn a_load_balancers_word_counts_where_the_grant_says_so_and_the_identity_says_whose_it_was() {
    let world = World::new();
    let certificate = Recipe::client("Alice").email("alice@example.com").signed_by(&world.staff);
    let balancer = Digest256([7; 32]);
    let own = |vouching| vec![of_staff(vouching), without_email("guests")];
    let (yes, no) = (Vouching::BalancerToo, Vouching::Handshake);
    for (entries, cas, taken, named) in [
        (vec![alice(yes)], both(), true, Some("alice")),
        (vec![alice(no)], both(), false, Some("alice")),
        // What matches replaces the CA's grant whole.
        (vec![alice(no)], own(yes), false, Some("alice")),
        (vec![], own(yes), true, None),
        (vec![], own(no), false, None),
    ] {
        let roster = Roster::new(entries, cas).unwrap();
        let chain = world.chain(&roster, &certificate);
        let itself = roster.identify(&chain).unwrap();
        assert_eq!(itself.witness(), Witness::Handshake);
        let refused = NoIdentity::NotVouched { name: named.map(str::to_owned) };
        let told = chain.as_if_told_by(balancer);
        match roster.identify(&told) {
            Ok(identity) => assert_eq!((taken, identity.witness()), (true, Witness::Balancer(balancer))),
            Err(cause) => assert_eq!((taken, cause), (false, refused)),
        }
        let notes = roster.examine(&told).unwrap().notes;
        assert_eq!(notes.iter().any(|note| note.contains("accept_vouched is not true")), !taken, "{notes:?}");
        // The same is asked of what waits.
        let standing =
            |witness| roster.standing(named.unwrap_or("staff:alice@example.com"), Some("staff"), None, None, witness);
        assert_eq!(standing(Witness::Handshake), Ok(()));
        assert_eq!(standing(Witness::Balancer(balancer)), if taken { Ok(()) } else { Err(Lapsed::NotVouched) });
    }
}

#[test]
fn the_disabled_are_asked_for_nothing_and_take_nobodys_word() {
    let keys = |name: &str| MatchKeys { email: email(&format!("{name}@example.com")), ..under("staff") };
    let with = |name, second_factor, state, vouching| RosterEntry {
        second_factor: Some(second_factor),
        state,
        leeway: Leeway { vouching, ..Leeway::default() },
        ..entry(name, keys(name))
    };
    use EntryState::{Disabled, Enabled};
    use SecondFactor::{Password, Totp};
    use Vouching::{BalancerToo, Handshake};
    const NOTHING: SecondFactor = SecondFactor::None;
    let roster = |entries| Roster::new(entries, both()).unwrap();
    let all = [("a", NOTHING, Enabled), ("b", Password, Enabled), ("c", Password, Disabled), ("d", Totp, Enabled)];
    let asked = roster(all.map(|(name, factor, state)| with(name, factor, state, Handshake)).into());
    assert_eq!((asked.len(), asked.is_empty()), (4, false));
    assert!(asked.demanding().map(|one| (one.name, one.factor)).eq([("b", Password), ("d", Totp)]));
    for (state, vouching, takes) in [
        (Enabled, BalancerToo, true),
        (Disabled, BalancerToo, false),
        (Enabled, Handshake, false),
        (Disabled, Handshake, false),
    ] {
        assert_eq!(roster(vec![with("a", NOTHING, state, vouching)]).takes_vouched(), takes, "{state:?} {vouching:?}");
    }
    assert!(roster(Vec::new()).is_empty());
}
