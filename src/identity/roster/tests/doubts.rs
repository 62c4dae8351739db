//! What is no mistake and can hardly be meant: rules that never apply, and fingerprints that hold nobody.

use super::*;

#[test]
fn grants_that_can_never_apply_are_doubted() {
    let keys = |text: &str| MatchKeys { uri: uri(text), ..under("staff") };
    let list = |texts: &[&str]| patterns(texts);
    let entries = vec![
        RosterEntry {
            send_as: list(&["a@other.example", "*@other.example", "a@example.com"]),
            ..entry("a", keys("urn:a"))
        },
        RosterEntry { send_as: list(&[]), ..entry("b", keys("urn:b")) },
        RosterEntry { send_to: list(&["!x@example.org"]), ..entry("c", keys("urn:c")) },
        RosterEntry { send_as: list(&["d@example.com", "!*@example.com"]), ..entry("d", keys("urn:d")) },
        RosterEntry { state: EntryState::Disabled, send_as: list(&[]), ..entry("e", keys("urn:e")) },
    ];
    let cas = vec![grant_of("staff", &["example.com"]), CaGrant { domains: None, ..grant_of("guests", &[]) }];
    let doubts = Roster::new(entries, cas).unwrap().lint();
    let wanted = [
        ("identity \"a\"", "a@other.example, which lies beyond"),
        ("identity \"a\"", "*@other.example, which lies beyond"),
        ("identity \"b\"", "send_as is empty"),
        ("identity \"c\"", "send_to is empty"),
        ("identity \"d\"", "!*@example.com excludes"),
        ("client_ca \"guests\"", "grants nothing without domains"),
    ];
    for (rule, said) in wanted {
        assert!(
            doubts.iter().any(|doubt| doubt.to_string().starts_with(rule) && doubt.sentence.contains(said)),
            "{said}: {doubts:#?}"
        );
    }
    assert_eq!(doubts.len(), wanted.len(), "{doubts:#?}");
}

#[test]
fn a_fingerprint_holds_nobody_to_narrower_terms_and_that_is_said() {
    let leaf = Recipe::client("Alice").email("alice@example.com").signed_by(&World::new().staff);
    let whole = || MatchKeys { fingerprint: Some(Digest256(leaf.fingerprint())), ..under("staff") };
    let key = || MatchKeys { spki: Some(Digest256(leaf.spki())), ..under("staff") };
    let held = Dispatch::OnApproval;
    let nothing = Some(SecondFactor::None);
    for (title, keys, dispatch, second_factor, said) in [
        ("held by its fingerprint", whole(), held, nothing, true),
        ("held by its key", key(), held, nothing, false),
        ("asked for nothing more", whole(), Dispatch::AtOnce, nothing, false),
        ("asked for what its CA asks", whole(), Dispatch::AtOnce, None, true),
        ("the same by its key", key(), Dispatch::AtOnce, None, false),
    ] {
        let rule = RosterEntry { dispatch, second_factor, ..entry("alice", keys) };
        let cas = vec![grant_of("staff", &["example.com"]), without_email("guests")];
        let doubts = Roster::new(vec![rule], cas).unwrap().lint();
        assert_eq!(doubts.iter().any(|doubt| doubt.sentence.contains("holds nobody for certain")), said, "{title}");
    }
}

#[test]
fn a_fingerprint_shuts_nobody_out_and_that_is_said() {
    let world = World::new();
    let alice = Recipe::client("Alice").email("alice@example.com").signed_by(&world.staff);
    let der = alice.with_the_other_signature();
    let fingerprint = Some(Digest256(alice.fingerprint()));
    let spki = Some(Digest256(alice.spki()));
    let other = Made { der, params: alice.params.clone(), key: alice.key };
    let whole = MatchKeys { fingerprint, ..under("staff") };
    let key = MatchKeys { spki, ..under("staff") };
    for (keys, shuts_out) in [(whole, false), (key, true)] {
        let stolen = RosterEntry { state: EntryState::Disabled, ..entry("stolen", keys) };
        let cas = vec![grant_of("staff", &["example.com"]), without_email("guests")];
        let roster = Roster::new(vec![stolen], cas).unwrap();
        assert_eq!(world.identify(&roster, &other).is_err(), shuts_out);
        let is_said = roster.lint().iter().any(|doubt| doubt.sentence.contains("shuts nobody out"));
        assert_eq!(is_said, !shuts_out);
    }
}

#[test]
fn of_a_list_that_many_share_one_doubt_is_enough() {
    let shared = patterns(&["a@other.example"]);
    let sharing = |name: &str, ca: &str| RosterEntry {
        send_as: shared.clone(),
        ..entry(name, MatchKeys { email: email(&format!("{name}@example.com")), ..under(ca) })
    };
    let cas = || vec![grant_of("staff", &["example.com"]), grant_of("guests", &["guests.example"])];
    let doubts = |entries| {
        let doubts = Roster::new(entries, cas()).unwrap().lint();
        doubts.iter().filter(|doubt| doubt.sentence.contains("a@other.example")).count()
    };
    assert_eq!(doubts(vec![sharing("a", "staff"), sharing("b", "staff")]), 1);
    // Under another CA it is another doubt, and so is a list that only reads the same.
    assert_eq!(doubts(vec![sharing("a", "staff"), sharing("b", "guests"), sharing("c", "staff")]), 2);
    let alike = RosterEntry { send_as: patterns(&["a@other.example"]), ..sharing("b", "staff") };
    assert_eq!(doubts(vec![sharing("a", "staff"), alike]), 2);
}

#[test]
fn what_is_said_of_keys_alone_is_said_of_no_others() {
    let (fingerprint, spki) = (Some(Digest256([1; 32])), Some(Digest256([2; 32])));
    let named = || MatchKeys { email: email("a@example.com"), ..MatchKeys::default() };
    for (keys, said) in [
        (MatchKeys { spki, ..named() }, true),
        (named(), false),
        (MatchKeys { spki, ca: Some("staff".into()), ..named() }, false),
        (MatchKeys { spki, fingerprint, ..named() }, false),
    ] {
        let one = RosterEntry { send_as: patterns(&["@certificate"]), ..entry("a", keys.clone()) };
        let doubts = Roster::new(vec![one], vec![without_email("staff")]).unwrap().lint();
        let is_said = |words: &str| doubts.iter().any(|doubt| doubt.sentence.contains(words));
        assert_eq!((is_said("beside spki"), is_said("(spki) alone")), (said, said), "{keys:?}");
    }
    for (own_names, key) in [(OwnNames::Emails, "send_as_email"), (OwnNames::Upns, "send_as_upn")] {
        let ca = CaGrant { domains: None, own_names, ..grant_of("staff", &[]) };
        let doubts = Roster::new(Vec::new(), vec![ca]).unwrap().lint();
        assert!(doubts.iter().any(|doubt| doubt.sentence.starts_with(key)), "{doubts:?}");
    }
}
