//! Certificates by recipe against rosters.

use super::super::pattern::{AddressPattern, ListPurpose};
use super::*;
use crate::tls::recipe::{DAY, Made, NOW, Recipe};
use crate::tls::{ClientCa, ClientCaSettings, PeerChain, RevocationMode, Trust, judge};

fn rule(name: &str) -> Rule {
    Rule { name: name.into(), place: None }
}

fn patterns(texts: &[&str]) -> PatternList {
    PatternList::read(texts.iter().copied(), ListPurpose::SendAs).unwrap()
}

fn email(text: &str) -> Option<Address> {
    Some(Address::parse(text).unwrap())
}

/// An entry that sends as `name@example.com`, to everybody.
fn entry(name: &str, keys: MatchKeys) -> RosterEntry {
    RosterEntry {
        name: name.into(),
        keys,
        pin_ignores_expiry: false,
        state: EntryState::Enabled,
        send_as: patterns(&[&format!("{}@example.com", if name.is_empty() { "nobody" } else { name })]),
        send_to: patterns(&["*"]),
        second_factor: SecondFactor::None,
        limits: Limits::default(),
        null_sender: true,
        rule: rule(&format!("identity {name:?}")),
    }
}

fn grant_of(ca: &str, domains: &[&str]) -> CaGrant {
    CaGrant {
        ca: ca.into(),
        domains: Some(DomainSet::read(domains.iter().copied()).unwrap()),
        local_part_case: LocalPartCase::Ignored,
        send_as_email: Some(EmailGrant {
            send_to: patterns(&["*@customer.example"]),
            second_factor: SecondFactor::Password,
            limits: Limits { recipients_per_message: Some(7), message_size: None },
            null_sender: false,
        }),
        rule: rule(&format!("client_ca {ca:?}")),
    }
}

fn without_email(ca: &str) -> CaGrant {
    CaGrant { domains: None, send_as_email: None, ..grant_of(ca, &[]) }
}

struct World {
    staff: Made,
    guests: Made,
}

impl World {
    fn new() -> Self {
        Self { staff: Recipe::ca("Staff Root").self_signed(), guests: Recipe::ca("Guests Root").self_signed() }
    }

    fn chain(&self, roster: &Roster, leaf: &Made) -> VerifiedChain {
        let ca = |name: &str, made: &Made| {
            let settings = ClientCaSettings {
                name: name.into(),
                certificates: vec![made.der.clone()],
                intermediates: Vec::new(),
                crls: Vec::new(),
                revocation: RevocationMode::Off,
                crl_grace: std::time::Duration::ZERO,
                rules: crate::tls::CaRules::default(),
            };
            Arc::new(ClientCa::new(settings).unwrap().0)
        };
        let trust = Trust::new(vec![ca("staff", &self.staff), ca("guests", &self.guests)], roster.pins());
        judge(&PeerChain(vec![leaf.der.clone()]), &trust, WallTime::from_seconds(NOW)).unwrap()
    }

    fn identify(&self, roster: &Roster, leaf: &Made) -> Result<Identity, NoIdentity> {
        roster.identify(&self.chain(roster, leaf))
    }

    fn name(&self, roster: &Roster, leaf: &Made) -> Result<String, NoIdentity> {
        self.identify(roster, leaf).map(|identity| identity.name().to_owned())
    }
}

fn both() -> Vec<CaGrant> {
    vec![without_email("staff"), without_email("guests")]
}

fn under(ca: &str) -> MatchKeys {
    MatchKeys { ca: Some(ca.into()), ..MatchKeys::default() }
}

fn may_send_as(identity: &Identity, address: &str) -> bool {
    let address = Address::parse(address).unwrap();
    identity.grant().send_as.matches(&address.canonical(identity.grant().local_part_case)).is_some()
}

#[test]
fn each_key_matches_what_the_certificate_has_and_nothing_else() {
    let world = World::new();
    let alice = Recipe::client("Alice").email("Alice@Example.com").dns("alice.example.com").uri("urn:alice");
    let alice = alice.signed_by(&world.staff);
    let other = Recipe::client("Alice").email("bob@example.com").dns("bob.example.com").uri("urn:bob");
    let other = other.signed_by(&world.staff);
    let keys = [
        MatchKeys { email: email("alice@EXAMPLE.com"), ..under("staff") },
        MatchKeys { dns: Some("Alice.example.com".into()), ..under("staff") },
        MatchKeys { uri: Some("urn:alice".into()), ..under("staff") },
        MatchKeys { fingerprint: Some(Digest256(alice.fingerprint())), ..under("staff") },
        MatchKeys { spki: Some(Digest256(alice.spki())), ..under("staff") },
        MatchKeys { fingerprint: Some(Digest256(alice.fingerprint())), ..MatchKeys::default() },
        MatchKeys { spki: Some(Digest256(alice.spki())), ..MatchKeys::default() },
        MatchKeys { email: email("alice@example.com"), uri: Some("urn:alice".into()), ..under("staff") },
    ];
    for keys in keys {
        let roster = Roster::new(vec![entry("alice", keys.clone())], both()).unwrap();
        assert_eq!(world.name(&roster, &alice), Ok("alice".into()), "{keys:?}");
        assert_eq!(world.name(&roster, &other), Err(NoIdentity::Unknown), "{keys:?}");
    }
}

#[test]
fn all_keys_must_hold() {
    let world = World::new();
    let alice = Recipe::client("Alice").email("alice@example.com").uri("urn:alice").signed_by(&world.staff);
    for keys in [
        MatchKeys { email: email("alice@example.com"), uri: Some("urn:other".into()), ..under("staff") },
        MatchKeys { email: email("bob@example.com"), uri: Some("urn:alice".into()), ..under("staff") },
        MatchKeys {
            fingerprint: Some(Digest256(alice.fingerprint())),
            dns: Some("a.example".into()),
            ..MatchKeys::default()
        },
        MatchKeys { spki: Some(Digest256(alice.spki())), ..under("guests") },
        MatchKeys {
            fingerprint: Some(Digest256(alice.fingerprint())),
            spki: Some(Digest256([0; 32])),
            ..under("staff")
        },
    ] {
        let roster = Roster::new(vec![entry("alice", keys.clone())], both()).unwrap();
        assert_eq!(world.name(&roster, &alice), Err(NoIdentity::Unknown), "{keys:?}");
    }
}

#[test]
fn a_name_minted_by_another_ca_is_nobody() {
    let world = World::new();
    let keys = MatchKeys { email: email("ceo@example.com"), ..under("staff") };
    let roster = Roster::new(vec![entry("ceo", keys)], both()).unwrap();
    let minted = Recipe::client("CEO").email("ceo@example.com").signed_by(&world.guests);
    assert_eq!(world.name(&roster, &minted), Err(NoIdentity::Unknown));
    let real = Recipe::client("CEO").email("ceo@example.com").signed_by(&world.staff);
    assert_eq!(world.name(&roster, &real), Ok("ceo".into()));
}

#[test]
fn a_name_without_a_ca_is_a_mistake_unless_there_is_exactly_one() {
    let keys = || MatchKeys { email: email("a@example.com"), ..MatchKeys::default() };
    assert!(Roster::new(vec![entry("a", keys())], vec![without_email("staff")]).is_ok());
    for cas in [both(), Vec::new()] {
        let mistakes = Roster::new(vec![entry("a", keys())], cas).unwrap_err();
        assert!(mistakes[0].sentence.contains("needs `ca`"), "{}", mistakes[0]);
    }
    for keys in [
        MatchKeys { fingerprint: Some(Digest256([1; 32])), ..keys() },
        MatchKeys { spki: Some(Digest256([1; 32])), ..keys() },
    ] {
        assert!(Roster::new(vec![entry("a", keys)], both()).is_ok());
    }
}

#[test]
fn every_mistake_is_told_with_its_rule() {
    let twice = MatchKeys { uri: Some("urn:a".into()), ..under("staff") };
    let entries = vec![
        entry("no-keys", under("staff")),
        entry("no-ca", MatchKeys { dns: Some("a.example".into()), ..under("partners") }),
        entry("twin", twice.clone()),
        entry("other-twin", twice),
        entry("twin", MatchKeys { dns: Some("b.example".into()), ..under("staff") }),
        entry("", MatchKeys { dns: Some("c.example".into()), ..under("staff") }),
    ];
    let cas = vec![without_email("staff"), without_email("guests"), without_email("staff")];
    let told: Vec<String> = Roster::new(entries, cas).unwrap_err().iter().map(ToString::to_string).collect();
    for (rule, said) in [
        ("client_ca \"staff\"", "taken by"),
        ("identity \"twin\"", "taken by"),
        ("identity \"no-keys\"", "at least one of"),
        ("identity \"no-ca\"", "there are: staff, guests"),
        ("identity \"\"", "its name is empty"),
        ("identity \"other-twin\"", "the same certificates as identity \"twin\""),
    ] {
        assert!(told.iter().any(|line| line.starts_with(rule) && line.contains(said)), "{rule} {said}: {told:#?}");
    }
    assert_eq!(told.len(), 6, "{told:#?}");
}

#[test]
fn the_more_certain_key_wins_and_a_tie_is_refused() {
    let world = World::new();
    let alice = Recipe::client("Alice").email("alice@example.com").dns("alice.example.com").signed_by(&world.staff);
    let by_name = || entry("by-name", MatchKeys { email: email("alice@example.com"), ..under("staff") });
    let by_dns = || entry("by-dns", MatchKeys { dns: Some("alice.example.com".into()), ..under("staff") });
    let by_both = || {
        let keys =
            MatchKeys { email: email("alice@example.com"), dns: Some("alice.example.com".into()), ..under("staff") };
        entry("by-both", keys)
    };
    let by_spki = || entry("by-spki", MatchKeys { spki: Some(Digest256(alice.spki())), ..MatchKeys::default() });
    let by_fingerprint = || {
        let keys = MatchKeys { fingerprint: Some(Digest256(alice.fingerprint())), ..MatchKeys::default() };
        entry("by-fingerprint", keys)
    };
    let named = |entries: Vec<RosterEntry>| world.name(&Roster::new(entries, both()).unwrap(), &alice);
    assert_eq!(named(vec![by_name(), by_both(), by_spki(), by_fingerprint()]), Ok("by-fingerprint".into()));
    assert_eq!(named(vec![by_spki(), by_name(), by_both()]), Ok("by-spki".into()));
    assert_eq!(named(vec![by_name(), by_both(), by_dns()]), Ok("by-both".into()));
    let tie = NoIdentity::Ambiguous { names: vec!["by-name".into(), "by-dns".into()] };
    assert_eq!(named(vec![by_name(), by_dns()]), Err(tie));
}

#[test]
fn a_disabled_identity_refuses_and_does_not_fall_back() {
    let world = World::new();
    let alice = Recipe::client("Alice").email("alice@example.com").signed_by(&world.staff);
    let keys = MatchKeys { email: email("alice@example.com"), ..under("staff") };
    let disabled = RosterEntry { state: EntryState::Disabled, ..entry("alice", keys) };
    let roster = Roster::new(vec![disabled], vec![grant_of("staff", &["example.com"])]).unwrap();
    assert_eq!(world.name(&roster, &alice), Err(NoIdentity::Disabled { name: "alice".into() }));
}

#[test]
fn a_certificate_alone_sends_as_its_own_names_within_the_domains() {
    let world = World::new();
    let roster = Roster::new(Vec::new(), vec![grant_of("staff", &["example.com", ".example.com"])]).unwrap();
    let alice = Recipe::client("Alice")
        .email("alice@other.example")
        .email("Alice@Example.com")
        .email("alice@mail.example.com")
        .signed_by(&world.staff);
    let identity = world.identify(&roster, &alice).unwrap();
    assert_eq!(identity.name(), "staff:alice@example.com");
    assert_eq!(identity.ca(), Some("staff"));
    assert!(may_send_as(&identity, "ALICE@example.com"));
    assert!(may_send_as(&identity, "alice@mail.example.com"));
    assert!(!may_send_as(&identity, "alice@other.example"));
    assert!(!may_send_as(&identity, "bob@example.com"));
    let grant = identity.grant();
    assert_eq!(grant.second_factor, SecondFactor::Password);
    assert_eq!(grant.limits.recipients_per_message, Some(7));
    assert!(!grant.null_sender);
    let to =
        |text: &str| grant.send_to.matches(&Address::parse(text).unwrap().canonical(LocalPartCase::Ignored)).is_some();
    assert!(to("x@customer.example") && !to("x@example.com"));
    assert_eq!(identity.certificate().fingerprint, Digest256(alice.fingerprint()));
    assert_eq!(identity.good_until(), WallTime::from_seconds(NOW + 90 * DAY));
}

#[test]
fn without_a_usable_name_there_is_no_identity_and_the_reason_is_told() {
    let world = World::new();
    let staff = |domains: &[&str]| vec![grant_of("staff", domains)];
    let no_domains = || vec![CaGrant { domains: None, ..grant_of("staff", &[]) }];
    let nul = Recipe::client("A").email("alice@example.com\0.evil.example").signed_by(&world.staff);
    let outside = Recipe::client("A").email("alice@evil.example").signed_by(&world.staff);
    let subject_only = Recipe::client("alice@example.com").signed_by(&world.staff);
    let good = Recipe::client("A").email("alice@example.com").signed_by(&world.staff);
    let guest = Recipe::client("A").email("alice@example.com").signed_by(&world.guests);
    for (leaf, cas, said) in [
        (&nul, staff(&["example.com"]), "holds NUL"),
        (&outside, staff(&["example.com"]), "beyond the domains"),
        (&outside, staff(&["example.com"]), "no usable e-mail name"),
        (&subject_only, staff(&["example.com"]), "no usable e-mail name"),
        (&good, staff(&[]), "beyond the domains"),
        (&good, no_domains(), "has no domains"),
        (&good, vec![without_email("staff")], "has no send_as_email"),
        (&guest, staff(&["example.com"]), "no [[identity]] matches"),
    ] {
        let roster = Roster::new(Vec::new(), cas).unwrap();
        let examination = roster.examine(&world.chain(&roster, leaf)).unwrap();
        assert_eq!(examination.identity.map(|identity| identity.name().to_owned()), Err(NoIdentity::Unknown));
        assert!(examination.notes.iter().any(|note| note.contains(said)), "{said}: {:?}", examination.notes);
    }
}

#[test]
fn an_identity_replaces_the_grant_of_its_ca_whole() {
    let world = World::new();
    let alice = Recipe::client("Alice").email("alice@example.com").signed_by(&world.staff);
    let keys = || MatchKeys { email: email("alice@example.com"), ..under("staff") };
    let cas = || vec![grant_of("staff", &["example.com"])];
    let plain = RosterEntry { send_as: patterns(&["robot@example.com"]), ..entry("alice", keys()) };
    let identity = world.identify(&Roster::new(vec![plain], cas()).unwrap(), &alice).unwrap();
    assert!(may_send_as(&identity, "robot@example.com"));
    assert!(!may_send_as(&identity, "alice@example.com"));
    assert_eq!(identity.grant().second_factor, SecondFactor::None);
    let with = RosterEntry { send_as: patterns(&["robot@example.com", "@certificate"]), ..entry("alice", keys()) };
    let identity = world.identify(&Roster::new(vec![with], cas()).unwrap(), &alice).unwrap();
    assert!(may_send_as(&identity, "robot@example.com") && may_send_as(&identity, "alice@example.com"));
}

#[test]
fn the_domains_cap_what_an_identity_is_granted_too() {
    let world = World::new();
    let alice = Recipe::client("Alice").email("alice@example.com").signed_by(&world.staff);
    let cas = || vec![grant_of("staff", &["example.com"])];
    for keys in [
        MatchKeys { email: email("alice@example.com"), ..under("staff") },
        MatchKeys { fingerprint: Some(Digest256(alice.fingerprint())), ..MatchKeys::default() },
    ] {
        let star = RosterEntry { send_as: patterns(&["*"]), ..entry("alice", keys) };
        let identity = world.identify(&Roster::new(vec![star], cas()).unwrap(), &alice).unwrap();
        assert!(may_send_as(&identity, "anybody@example.com"));
        assert!(!may_send_as(&identity, "anybody@other.example"));
    }
}

#[test]
fn local_parts_compare_as_the_ca_says() {
    let world = World::new();
    let exact = || CaGrant { local_part_case: LocalPartCase::Exact, ..grant_of("staff", &["example.com"]) };
    let alice = Recipe::client("A").email("Alice@example.com").signed_by(&world.staff);
    let roster = Roster::new(Vec::new(), vec![exact()]).unwrap();
    let identity = world.identify(&roster, &alice).unwrap();
    assert!(may_send_as(&identity, "Alice@EXAMPLE.com") && !may_send_as(&identity, "alice@example.com"));
    for (wanted, found) in [("Alice@example.com", true), ("alice@example.com", false)] {
        let keys = MatchKeys { email: email(wanted), ..under("staff") };
        let cas = vec![CaGrant { send_as_email: None, ..exact() }];
        let roster = Roster::new(vec![entry("alice", keys)], cas).unwrap();
        assert_eq!(world.name(&roster, &alice).is_ok(), found, "{wanted}");
    }
    // By fingerprint alone the CA that verified it decides, and each has its own rule.
    let send_as = patterns(&["Alice@example.com"]);
    for (made, small_letters) in [(&alice, false), (&Recipe::client("A").signed_by(&world.guests), true)] {
        let keys = MatchKeys { fingerprint: Some(Digest256(made.fingerprint())), ..MatchKeys::default() };
        let one = RosterEntry { send_as: send_as.clone(), ..entry("one", keys) };
        let roster = Roster::new(vec![one], vec![exact(), without_email("guests")]).unwrap();
        let identity = world.identify(&roster, made).unwrap();
        assert_eq!(may_send_as(&identity, "alice@example.com"), small_letters);
        assert!(may_send_as(&identity, "Alice@example.com"));
    }
}

#[test]
fn only_entries_without_a_ca_are_pinned() {
    let digest = |number: u8| Some(Digest256([number; 32]));
    let entries = vec![
        entry("a", MatchKeys { fingerprint: digest(1), ..MatchKeys::default() }),
        entry("b", MatchKeys { spki: digest(2), ..MatchKeys::default() }),
        entry("c", MatchKeys { fingerprint: digest(3), ..under("staff") }),
        entry("d", MatchKeys { spki: digest(4), ..under("staff") }),
        entry("e", MatchKeys { fingerprint: digest(5), spki: digest(6), ..MatchKeys::default() }),
        entry("f", MatchKeys { dns: Some("f.example".into()), ..under("staff") }),
    ];
    let pins = Roster::new(entries, both()).unwrap().pins();
    assert_eq!(pins.certificates, [1, 5].map(|number| Digest256([number; 32])).into());
    assert_eq!(pins.keys, [Digest256([2; 32])].into());
}

#[test]
fn a_pinned_certificate_is_its_identity_without_a_ca() {
    let world = World::new();
    let printer = Recipe::client("Printer").email("printer@example.com").self_signed();
    let keys = MatchKeys { fingerprint: Some(Digest256(printer.fingerprint())), ..MatchKeys::default() };
    let one = RosterEntry { send_as: patterns(&["@certificate"]), ..entry("printer", keys) };
    let identity = world.identify(&Roster::new(vec![one], both()).unwrap(), &printer).unwrap();
    assert_eq!((identity.name(), identity.ca()), ("printer", None));
    // The whole certificate was enrolled, its names with it.
    assert!(may_send_as(&identity, "printer@example.com"));
}

#[test]
fn who_holds_a_pinned_key_cannot_write_names_around_it() {
    let world = World::new();
    let forged = Recipe::client("Printer").email("ceo@example.com").dns("ceo.example.com").self_signed();
    let spki = Some(Digest256(forged.spki()));
    let keys = MatchKeys { spki, ..MatchKeys::default() };
    let one = RosterEntry { send_as: patterns(&["printer@example.com", "@certificate"]), ..entry("printer", keys) };
    let ceo = entry("ceo", MatchKeys { email: email("ceo@example.com"), spki, ..MatchKeys::default() });
    let roster = Roster::new(vec![one, ceo], both()).unwrap();
    let identity = world.identify(&roster, &forged).unwrap();
    assert_eq!(identity.name(), "printer");
    assert!(may_send_as(&identity, "printer@example.com") && !may_send_as(&identity, "ceo@example.com"));
    let doubts = roster.lint();
    assert!(doubts.iter().any(|doubt| doubt.contains("@certificate grants nothing")), "{doubts:?}");
    assert!(doubts.iter().any(|doubt| doubt.contains("beside spki, a name counts only")), "{doubts:?}");
}

#[test]
fn a_subject_is_never_a_name() {
    let world = World::new();
    let mallory = Recipe::client("alice@example.com, CN=alice").dns("mallory.example.com").signed_by(&world.staff);
    let keys = MatchKeys { email: email("alice@example.com"), ..under("staff") };
    let roster = Roster::new(vec![entry("alice", keys)], vec![grant_of("staff", &["*"])]).unwrap();
    assert_eq!(world.name(&roster, &mallory), Err(NoIdentity::Unknown));
}

#[test]
fn of_several_uris_a_spiffe_id_is_none() {
    let world = World::new();
    let id = "spiffe://example.com/billing";
    let keys = || MatchKeys { uri: Some(id.into()), ..under("staff") };
    let roster = Roster::new(vec![entry("billing", keys())], both()).unwrap();
    let one = Recipe::client("Billing").uri(id).dns("billing.example.com").signed_by(&world.staff);
    let two = Recipe::client("Billing").uri(id).uri("spiffe://example.com/payroll").signed_by(&world.staff);
    let mixed = Recipe::client("Billing").uri("https://example.com/").uri(id).signed_by(&world.staff);
    assert_eq!(world.name(&roster, &one), Ok("billing".into()));
    assert_eq!(world.name(&roster, &two), Err(NoIdentity::Unknown));
    assert_eq!(world.name(&roster, &mixed), Err(NoIdentity::Unknown));
}

#[test]
fn octets_beyond_ascii_in_a_name_are_told_and_grant_nothing() {
    let world = World::new();
    // subjectAltName (2.5.29.17): one rfc822Name [1] in Latin-1, one good one.
    let names = crate::tls::recipe::der(0x30, b"\x81\x11\xe4lice@example.com\x81\x0fbob@example.com");
    let leaf = Recipe::client("A").extension(&[2, 5, 29, 17], false, names).signed_by(&world.staff);
    let facts = CertificateFacts::of(&leaf.der).unwrap();
    assert_eq!(facts.emails, [Address::parse("bob@example.com").unwrap()]);
    assert_eq!(facts.unusable.len(), 1);
    assert!(facts.unusable[0].name.starts_with("email:"), "{:?}", facts.unusable);
}

#[test]
fn the_summary_names_every_certificate_of_the_chain() {
    let world = World::new();
    let roster = Roster::new(Vec::new(), vec![grant_of("staff", &["*"])]).unwrap();
    let alice = Recipe::client("Alice").email("a@example.com").serial(&[0x0a, 0xbc]).signed_by(&world.staff);
    let identity = world.identify(&roster, &alice).unwrap();
    let summary = identity.certificate();
    assert_eq!((summary.subject.as_str(), summary.issuer.as_str()), ("CN=Alice", "CN=Staff Root"));
    assert_eq!(summary.serial, "abc");
    assert_eq!(summary.chain, [("CN=Staff Root".to_owned(), "abc".to_owned())]);
}

#[test]
fn grants_that_can_never_apply_are_doubted() {
    let keys = |uri: &str| MatchKeys { uri: Some(uri.into()), ..under("staff") };
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
        assert!(doubts.iter().any(|doubt| doubt.starts_with(rule) && doubt.contains(said)), "{said}: {doubts:#?}");
    }
    assert_eq!(doubts.len(), wanted.len(), "{doubts:#?}");
}

#[test]
fn ten_thousand_identities_are_found_by_hash() {
    let world = World::new();
    let keys = |number: usize| MatchKeys { email: email(&format!("user{number}@example.com")), ..under("staff") };
    let entries = (0..10_000).map(|number| entry(&format!("user{number}"), keys(number))).collect();
    let roster = Roster::new(entries, both()).unwrap();
    let leaf = Recipe::client("A").email("user7777@example.com").signed_by(&world.staff);
    assert_eq!(world.name(&roster, &leaf), Ok("user7777".into()));
    assert_eq!(
        world.identify(&roster, &leaf).unwrap().grant().send_as.granted().collect::<Vec<_>>(),
        [AddressPattern::Address(Address::parse("user7777@example.com").unwrap()).to_string()]
    );
}
