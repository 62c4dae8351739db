//! Certificates by recipe against rosters.

use super::super::distinguished::{DistinguishedName, SerialNumber};
use super::super::facts::Digest256;
use super::super::key::{DnsKey, MailboxKey, UriKey};
use super::super::pattern::{AddressPattern, ListPurpose};
use super::*;
use crate::sys::WallTime;
use crate::tls::recipe::{self, DAY, Made, NOW, Recipe};
use crate::tls::{ClientCa, ClientCaSettings, PeerChain, RevocationMode, Trust, Witness, judge};

mod against_a_scan;
mod doubts;
mod known;
mod other_names;
mod vouching;

fn rule(name: &str) -> Rule {
    Rule { name: name.into(), place: None }
}

fn patterns(texts: &[&str]) -> PatternList {
    PatternList::read(texts.iter().copied(), ListPurpose::SendAs).unwrap()
}

fn email(text: &str) -> Option<MailboxKey> {
    Some(MailboxKey::email(text).unwrap())
}

fn upn(text: &str) -> Option<MailboxKey> {
    Some(MailboxKey::upn(text).unwrap())
}

fn dns(text: &str) -> Option<DnsKey> {
    Some(text.parse().unwrap())
}

fn uri(text: &str) -> Option<UriKey> {
    Some(text.parse().unwrap())
}

fn subject(text: &str) -> Option<Arc<DistinguishedName>> {
    Some(Arc::new(DistinguishedName::parse(text).unwrap()))
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
        second_factor: Some(SecondFactor::None),
        limits: Limits::default(),
        dispatch: Dispatch::AtOnce,
        null_sender: true,
        leeway: Leeway::default(),
        rule: rule(&format!("identity {name:?}")),
    }
}

fn grant_of(ca: &str, domains: &[&str]) -> CaGrant {
    CaGrant {
        ca: ca.into(),
        domains: Some(DomainSet::read(domains.iter().copied()).unwrap()),
        local_part_case: LocalPartCase::Ignored,
        second_factor: SecondFactor::Password,
        send_as_email: Some(EmailGrant {
            send_to: patterns(&["*@customer.example"]),
            limits: Limits { recipients_per_message: Some(7), ..Limits::default() },
            dispatch: Dispatch::AtOnce,
            null_sender: false,
            leeway: Leeway::default(),
        }),
        own_names: OwnNames::Emails,
        trust_domain: None,
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
        let chain = self.chain(roster, leaf);
        let identity = roster.identify(&chain);
        for _ in 0..2 {
            assert_eq!(
                told(&roster.recognize(&chain)),
                told(&identity.clone().map(Arc::new)),
                "who comes again is the same"
            );
        }
        identity
    }

    fn name(&self, roster: &Roster, leaf: &Made) -> Result<String, NoIdentity> {
        self.identify(roster, leaf).map(|identity| identity.name().to_owned())
    }
}

/// What of an identity has one form.
fn told(identity: &Result<Arc<Identity>, NoIdentity>) -> String {
    let told = |one: &Arc<Identity>| {
        let Grant { second_factor, limits, rule, .. } = one.grant();
        format!(
            "{} {:?} {:?} {:?} {:?} {second_factor:?} {limits:?} {rule}",
            one.name(),
            one.ca(),
            one.witness(),
            one.good_until(),
            one.certificate()
        )
    };
    format!("{:?}", identity.as_ref().map(told))
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
        MatchKeys { dns: dns("Alice.example.com"), ..under("staff") },
        MatchKeys { uri: uri("urn:alice"), ..under("staff") },
        MatchKeys { fingerprint: Some(Digest256(alice.fingerprint())), ..under("staff") },
        MatchKeys { spki: Some(Digest256(alice.spki())), ..under("staff") },
        MatchKeys { fingerprint: Some(Digest256(alice.fingerprint())), ..MatchKeys::default() },
        MatchKeys { spki: Some(Digest256(alice.spki())), ..MatchKeys::default() },
        MatchKeys { email: email("alice@example.com"), uri: uri("urn:alice"), ..under("staff") },
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
    let alice =
        Recipe::client("Alice").email("alice@example.com").uri("urn:alice").serial(&[7]).signed_by(&world.staff);
    let certificate = |issuer: &str, serial: &str| MatchKeys {
        fingerprint: Some(Digest256(alice.fingerprint())),
        issuer_serial: Some((subject(issuer).unwrap(), SerialNumber::parse(serial).unwrap())),
        ..under("staff")
    };
    let roster = Roster::new(vec![entry("alice", certificate("CN=Staff Root", "7"))], both()).unwrap();
    assert_eq!(world.name(&roster, &alice), Ok("alice".into()));
    for keys in [
        certificate("CN=Staff Root", "8"),
        certificate("CN=Guests Root", "7"),
        MatchKeys { email: email("alice@example.com"), uri: uri("urn:other"), ..under("staff") },
        MatchKeys { email: email("bob@example.com"), uri: uri("urn:alice"), ..under("staff") },
        MatchKeys { fingerprint: Some(Digest256(alice.fingerprint())), dns: dns("a.example"), ..MatchKeys::default() },
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
    let world = World::new();
    let leaf = Recipe::client("A").email("a@example.com").signed_by(&world.staff);
    let one = RosterEntry { send_as: patterns(&["@certificate"]), ..entry("a", keys()) };
    let identity = world.identify(&Roster::new(vec![one], vec![without_email("staff")]).unwrap(), &leaf).unwrap();
    assert!(may_send_as(&identity, "a@example.com"), "the only CA vouches for the names");
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
    let twice = MatchKeys { uri: uri("urn:a"), ..under("staff") };
    let entries = vec![
        entry("no-keys", under("staff")),
        entry("no-ca", MatchKeys { dns: dns("a.example"), ..under("partners") }),
        entry("twin", twice.clone()),
        entry("other-twin", twice),
        entry("twin", MatchKeys { dns: dns("b.example"), ..under("staff") }),
        entry("", MatchKeys { dns: dns("c.example"), ..under("staff") }),
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
    let by_dns = || entry("by-dns", MatchKeys { dns: dns("alice.example.com"), ..under("staff") });
    let by_both = || {
        let keys = MatchKeys { email: email("alice@example.com"), dns: dns("alice.example.com"), ..under("staff") };
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
        entry("f", MatchKeys { dns: dns("f.example"), ..under("staff") }),
    ];
    let pins = Roster::new(entries, both()).unwrap().pins();
    assert_eq!(pins.certificates, [1, 5].map(|number| Digest256([number; 32])).into());
    assert_eq!(pins.keys, [Digest256([2; 32])].into());
}

#[test]
fn a_pinned_certificate_is_its_identity_without_a_ca() {
    let world = World::new();
    let printer = Recipe::client("Printer").email("printer@example.com").self_signed();
    let fingerprint = Some(Digest256(printer.fingerprint()));
    let by_certificate = || MatchKeys { fingerprint, ..MatchKeys::default() };
    let by_key = || MatchKeys { spki: Some(Digest256(printer.spki())), ..MatchKeys::default() };
    // The one CA that there is ties names to itself, and no pin.
    for cas in [both, || vec![without_email("staff")], Vec::new] {
        for (keys, has_its_names) in [(by_certificate(), true), (by_key(), false)] {
            let one = RosterEntry { send_as: patterns(&["@certificate"]), ..entry("printer", keys) };
            let identity = world.identify(&Roster::new(vec![one], cas()).unwrap(), &printer).unwrap();
            assert_eq!((identity.name(), identity.ca()), ("printer", None));
            // The whole certificate was enrolled, its names with it; a key alone has none.
            assert_eq!(may_send_as(&identity, "printer@example.com"), has_its_names);
        }
    }
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
    assert!(doubts.iter().any(|doubt| doubt.sentence.contains("@certificate grants nothing")), "{doubts:?}");
    assert!(doubts.iter().any(|doubt| doubt.sentence.contains("beside spki, a name counts only")), "{doubts:?}");
}

#[test]
fn no_ca_that_the_rule_does_not_name_writes_names_around_a_pinned_key() {
    let world = World::new();
    let printer = Recipe::client("Printer").email("ceo@example.com").signed_by(&world.guests);
    let spki = Some(Digest256(printer.spki()));
    for (keys, granted) in [
        (MatchKeys { spki, ..MatchKeys::default() }, false),
        (MatchKeys { spki, ..under("guests") }, true),
        (MatchKeys { fingerprint: Some(Digest256(printer.fingerprint())), ..MatchKeys::default() }, true),
    ] {
        let entry =
            RosterEntry { send_as: patterns(&["printer@example.com", "@certificate"]), ..entry("printer", keys) };
        let identity = world.identify(&Roster::new(vec![entry], both()).unwrap(), &printer).unwrap();
        assert_eq!(identity.ca(), Some("guests"));
        assert!(may_send_as(&identity, "printer@example.com"));
        assert_eq!(may_send_as(&identity, "ceo@example.com"), granted);
    }
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
    let keys = || MatchKeys { uri: uri(id), ..under("staff") };
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
    for (tag, kind) in [(0x81, "email:"), (0x82, "dns:"), (0x86, "uri:")] {
        // subjectAltName (2.5.29.17): one name of the kind in Latin-1, one good rfc822Name [1].
        let names = [recipe::der(tag, b"\xe4lice@example.com"), recipe::der(0x81, b"bob@example.com")].concat();
        let leaf = Recipe::client("A").extension(&[2, 5, 29, 17], false, recipe::der(0x30, &names));
        let facts = CertificateFacts::of(&leaf.signed_by(&world.staff).der).unwrap();
        assert_eq!(facts.emails, [Address::parse("bob@example.com").unwrap()]);
        assert_eq!(facts.unusable.len(), 1);
        assert!(facts.unusable[0].name.starts_with(kind), "{:?}", facts.unusable);
    }
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

#[test]
fn who_was_known_once_is_known_still_or_it_is_told_why_not() {
    let pin = |number: u8| Some(Digest256([number; 32]));
    let keys = |uri: &str| MatchKeys { uri: Some(uri.parse().unwrap()), ..under("staff") };
    let disabled = |name: &str, keys| RosterEntry { state: EntryState::Disabled, ..entry(name, keys) };
    let entries = vec![
        entry("robot", keys("urn:robot")),
        disabled("retired", keys("urn:retired")),
        entry("printer", MatchKeys { fingerprint: pin(1), ..MatchKeys::default() }),
        entry("scanner", MatchKeys { spki: pin(2), ..MatchKeys::default() }),
        disabled("ex-eve", MatchKeys { email: email("eve@example.com"), ..under("staff") }),
        // Another certificate of bob's, so it says nothing of this one.
        disabled("bobs-old-key", MatchKeys { email: email("bob@example.com"), spki: pin(9), ..under("staff") }),
        entry("boss", MatchKeys { email: email("carol@example.com"), ..under("staff") }),
    ];
    let roster = Roster::new(entries, vec![grant_of("staff", &["example.com"]), without_email("guests")]).unwrap();
    let staff = Some("staff");
    for (name, ca, fingerprint, key, wanted) in [
        ("robot", staff, pin(7), pin(8), Ok(())),
        ("robot", Some("guests"), pin(7), pin(8), Err(Lapsed::Gone)),
        ("robot", Some("closed"), pin(7), pin(8), Err(Lapsed::Gone)),
        ("retired", staff, pin(7), pin(8), Err(Lapsed::Disabled)),
        ("forgotten", staff, pin(7), pin(8), Err(Lapsed::Gone)),
        ("printer", None, pin(1), pin(8), Ok(())),
        ("printer", None, pin(7), pin(8), Err(Lapsed::Unpinned)),
        ("scanner", None, pin(7), pin(2), Ok(())),
        ("scanner", None, pin(7), pin(8), Err(Lapsed::Unpinned)),
        // Pinned once, by a CA now: the certificate that had no CA is not let in any more.
        ("robot", None, pin(7), pin(8), Err(Lapsed::Gone)),
        ("staff:alice@example.com", staff, pin(7), pin(8), Ok(())),
        ("staff:alice@elsewhere.example", staff, pin(7), pin(8), Err(Lapsed::Gone)),
        ("staff:eve@example.com", staff, pin(7), pin(8), Err(Lapsed::Disabled)),
        ("staff:bob@example.com", staff, pin(7), pin(8), Ok(())),
        // A rule has taken over; it sends under another name, and sends.
        ("staff:carol@example.com", staff, pin(7), pin(8), Ok(())),
        ("guests:alice@example.com", Some("guests"), pin(7), pin(8), Err(Lapsed::Gone)),
    ] {
        assert_eq!(roster.standing(name, ca, fingerprint, key, Witness::Handshake), wanted, "{name} under {ca:?}");
    }
}

#[test]
fn a_wildcard_that_disables_a_domain_disables_who_was_known_by_an_address_of_it() {
    let disabled = |name: &str, keys| RosterEntry { state: EntryState::Disabled, ..entry(name, keys) };
    let entries = vec![
        disabled("all-of-old", MatchKeys { email: email("*@old.example.com"), ..under("staff") }),
        entry("dora", MatchKeys { email: email("Dora@old.example.com"), ..under("staff") }),
        disabled("guests-only", MatchKeys { email: email("*@new.example.com"), ..under("guests") }),
        disabled("corp", MatchKeys { upn: upn("*@corp.example"), ..under("staff") }),
    ];
    let staff = CaGrant { own_names: OwnNames::Both, ..grant_of("staff", &["*"]) };
    let roster = Roster::new(entries, vec![staff, without_email("guests")]).unwrap();
    for (name, wanted) in [
        ("staff:carl@old.example.com", Err(Lapsed::Disabled)),
        // The exact rule is the more certain one.
        ("staff:dora@old.example.com", Ok(())),
        ("staff:carl@new.example.com", Ok(())),
        ("staff:carl@corp.example", Err(Lapsed::Disabled)),
    ] {
        assert_eq!(roster.standing(name, Some("staff"), None, None, Witness::Handshake), wanted, "{name}");
    }
}

#[test]
fn subject_and_issuer_match_as_values_under_their_ca_only() {
    let world = World::new();
    let smith = Recipe::client("Smith, Al").serial(&[0x0a, 0x1b]).signed_by(&world.staff);
    let issuer = |name: &str| Arc::new(DistinguishedName::parse(name).unwrap());
    let serial = |text: &str| SerialNumber::parse(text).unwrap();
    for (keys, holds) in [
        (MatchKeys { subject: subject("CN=Smith\\, Al"), ..under("staff") }, true),
        (MatchKeys { subject: subject("CN=smith\\, al"), ..under("staff") }, false),
        (MatchKeys { subject: subject("CN=Smith\\, Al"), ..under("guests") }, false),
        (MatchKeys { subject: subject("CN=Smith"), ..under("staff") }, false),
        (MatchKeys { issuer_serial: Some((issuer("CN=Staff Root"), serial("0a:1b"))), ..under("staff") }, true),
        (MatchKeys { issuer_serial: Some((issuer("CN=Staff Root"), serial("decimal:2587"))), ..under("staff") }, true),
        (MatchKeys { issuer_serial: Some((issuer("CN=Staff Root"), serial("0x0a1c"))), ..under("staff") }, false),
        (MatchKeys { issuer_serial: Some((issuer("CN=Guests Root"), serial("0a:1b"))), ..under("staff") }, false),
    ] {
        let roster = Roster::new(vec![entry("smith", keys.clone())], both()).unwrap();
        assert_eq!(world.name(&roster, &smith).is_ok(), holds, "{keys:?}");
    }
    // Without a CA anybody could write them.
    for keys in [
        MatchKeys { subject: subject("CN=Smith"), ..MatchKeys::default() },
        MatchKeys { issuer_serial: Some((issuer("CN=Staff Root"), serial("1a"))), ..MatchKeys::default() },
        MatchKeys { upn: upn("a@b.example"), ..MatchKeys::default() },
    ] {
        assert!(Roster::new(vec![entry("x", keys)], both()).unwrap_err()[0].sentence.contains("needs `ca`"));
    }
}

#[test]
fn exact_wins_over_wildcard_and_issuer_with_serial_over_names() {
    let world = World::new();
    let leaf = Recipe::client("Node").serial(&[7]).dns("n1.eu.build.example.com").email("n1@example.com");
    let leaf = leaf.signed_by(&world.staff);
    let issuer = Arc::new(DistinguishedName::parse("CN=Staff Root").unwrap());
    let wide = || entry("wide", MatchKeys { dns: dns("*.build.example.com"), ..under("staff") });
    let exact = || entry("exact", MatchKeys { dns: dns("n1.eu.build.example.com"), ..under("staff") });
    let both_wide =
        || entry("both-wide", MatchKeys { dns: dns("*.example.com"), email: email("*@example.com"), ..under("staff") });
    let serial = || {
        let issuer_serial = Some((Arc::clone(&issuer), SerialNumber::parse("7").unwrap()));
        entry("serial", MatchKeys { issuer_serial, ..under("staff") })
    };
    let narrow = || entry("narrow", MatchKeys { dns: dns("*.eu.build.example.com"), ..under("staff") });
    let named = |entries: Vec<RosterEntry>| world.name(&Roster::new(entries, both()).unwrap(), &leaf);
    assert_eq!(named(vec![wide()]), Ok("wide".into()));
    assert_eq!(named(vec![wide(), exact()]), Ok("exact".into()));
    assert_eq!(named(vec![wide(), exact(), both_wide()]), Ok("both-wide".into()), "more keys come before exact ones");
    assert_eq!(named(vec![wide(), both_wide(), serial()]), Ok("serial".into()));
    let tie = NoIdentity::Ambiguous { names: vec!["wide".into(), "narrow".into()] };
    assert_eq!(named(vec![wide(), narrow()]), Err(tie));
    let doubts = Roster::new(vec![wide(), narrow()], both()).unwrap().lint();
    assert!(
        doubts
            .iter()
            .any(|doubt| *doubt.rule.name == *"identity \"narrow\"" && doubt.sentence.contains("never applies")),
        "{doubts:?}"
    );
    let itself = Recipe::client("Node").dns("build.example.com").signed_by(&world.staff);
    assert_eq!(world.name(&Roster::new(vec![wide()], both()).unwrap(), &itself), Err(NoIdentity::Unknown));
}

#[test]
fn a_ca_mints_spiffe_ids_of_its_own_trust_domain_only() {
    let world = World::new();
    let cas = || {
        vec![CaGrant { trust_domain: Some("example.com".into()), ..without_email("staff") }, without_email("guests")]
    };
    let any = |text: &str| entry("any", MatchKeys { uri: uri(text), ..under("staff") });
    let made = |id: &str| Recipe::client("W").uri(id).signed_by(&world.staff);
    for (id, rule, holds) in [
        ("spiffe://example.com/ns/prod/api", "spiffe://example.com/ns/prod/*", true),
        ("spiffe://example.com/ns/prod/a/b", "spiffe://example.com/ns/prod/*", true),
        ("spiffe://example.com/ns/prod", "spiffe://example.com/ns/prod/*", false),
        ("spiffe://example.com/ns/production", "spiffe://example.com/ns/prod/*", false),
        ("spiffe://example.com/x", "spiffe://example.com/*", true),
        ("spiffe://example.org/ns/prod/api", "spiffe://example.org/ns/prod/*", false),
        ("spiffe://example.org/x", "spiffe://example.org/x", false),
        ("spiffe://example.com.evil.example/x", "spiffe://example.com.evil.example/x", false),
        ("https://example.org/x", "https://example.org/x", true),
    ] {
        let roster = Roster::new(vec![any(rule)], cas()).unwrap();
        assert_eq!(world.name(&roster, &made(id)).is_ok(), holds, "{id} {rule}");
    }
    let roster = Roster::new(vec![any("spiffe://example.org/x")], cas()).unwrap();
    let examination = roster.examine(&world.chain(&roster, &made("spiffe://example.org/x"))).unwrap();
    assert!(examination.notes.iter().any(|note| note.contains("is not the one of its CA")), "{:?}", examination.notes);
    assert!(roster.lint().iter().any(|doubt| doubt.sentence.contains("trust_domain of its CA is")));
}

#[test]
fn an_entry_of_a_large_roster_is_small() {
    // Of a million lines the entries alone; what stands on the heap for each is measured by `tests/long`.
    assert!(std::mem::size_of::<Compiled>() <= 88, "{}", std::mem::size_of::<Compiled>());
    assert!(std::mem::size_of::<Key>() <= 40, "{}", std::mem::size_of::<Key>());
}

#[test]
fn the_address_to_write_to_is_one_that_somebody_vouches_for() {
    let world = World::new();
    let two = Recipe::client("Alice").email("victim@elsewhere.example").email("alice@example.com");
    let alice = two.signed_by(&world.staff);
    let printer = Recipe::client("Printer").email("victim@elsewhere.example").self_signed();
    let pinned = |keys| Roster::new(vec![entry("printer", keys)], both()).unwrap();
    let of_key = pinned(MatchKeys { spki: Some(Digest256(printer.spki())), ..MatchKeys::default() });
    let of_whole = pinned(MatchKeys { fingerprint: Some(Digest256(printer.fingerprint())), ..MatchKeys::default() });
    let by_names = Roster::new(vec![], vec![grant_of("staff", &["example.com"]), without_email("guests")]).unwrap();
    let by_entry = |domains: &[&str]| {
        let keys = MatchKeys { subject: subject("CN=Alice"), ..under("staff") };
        Roster::new(vec![entry("alice", keys)], vec![grant_of("staff", domains), without_email("guests")]).unwrap()
    };
    for (title, roster, leaf, wanted) in [
        ("beyond the domains", by_names, &alice, Some("alice@example.com")),
        ("beyond the domains, by an entry", by_entry(&["example.com"]), &alice, Some("alice@example.com")),
        ("within the domains", by_entry(&["elsewhere.example"]), &alice, Some("victim@elsewhere.example")),
        ("around a pinned key anybody's", of_key, &printer, None),
        ("of a pinned certificate", of_whole, &printer, Some("victim@elsewhere.example")),
    ] {
        let identity = world.identify(&roster, leaf).unwrap();
        let found = identity.certificate().email.as_ref().map(ToString::to_string);
        assert_eq!(found.as_deref(), wanted, "{title}");
    }
}

#[test]
fn who_stands_for_nobody_is_told_why() {
    let name = || "a".to_owned();
    for (cause, said) in [
        (NoIdentity::Unknown, "no identity is granted to it"),
        (NoIdentity::Disabled { name: name() }, "its identity \"a\" is disabled"),
        (NoIdentity::NotVouched { name: Some(name()) }, "its identity \"a\" takes no load balancer's word"),
        (NoIdentity::NotVouched { name: None }, "its CA's grant takes no load balancer's word"),
        (NoIdentity::Ambiguous { names: vec![name(), "b".to_owned()] }, "match it: \"a\", \"b\""),
    ] {
        assert!(cause.to_string().contains(said), "{cause}");
    }
}

#[test]
fn whoever_is_known_is_described() {
    let keys = |name: &str| MatchKeys { email: email(&format!("{name}@example.com")), ..under("staff") };
    let entries = ["a", "b", "c"].map(|name| entry(name, keys(name))).into();
    let roster = Roster::new(entries, vec![grant_of("staff", &["*"]), without_email("guests")]).unwrap();
    let names = |from, count| roster.described(from, count).map(|one| one.name).collect::<Vec<_>>();
    assert_eq!(names(0, 9), ["a", "b", "c"]);
    assert_eq!(names(1, 1), ["b"]);
    assert!(roster.has("b") && !roster.has("d"));
    let own = roster.describe_own("staff:x@example.com", "staff").unwrap();
    assert_eq!(
        (own.name.as_str(), own.send_as.shown.as_slice()),
        ("staff:x@example.com", &["@certificate".to_owned()][..])
    );
    assert_eq!((own.second_factor, own.terms.null_sender), (SecondFactor::Password, false));
    assert!(roster.describe_own("guests:x@example.com", "guests").is_none(), "its CA names nobody");
    assert!(roster.describe_own("x", "nobody").is_none());
}

/// A line in a roster once took away the second factor that the CA asks for; and a pinned certificate was free of it when it was shown without its chain.
#[test]
fn what_an_identity_does_not_say_of_a_second_factor_its_ca_says_and_a_pin_must_say_it() {
    let world = World::new();
    let of_staff = Recipe::client("Alice").email("alice@example.com").signed_by(&world.staff);
    let of_nobody = Recipe::client("Printer").email("alice@example.com").self_signed();
    let guests = || CaGrant { second_factor: SecondFactor::None, ..without_email("guests") };
    let pin = |made: &Made| MatchKeys { spki: Some(Digest256(made.spki())), ..MatchKeys::default() };
    let named = |ca| MatchKeys { email: email("alice@example.com"), ..under(ca) };
    use SecondFactor::{None as Nothing, Password, Totp};
    for (keys, said, made, asked) in [
        (named("staff"), None, &of_staff, Some(Password)),
        (named("staff"), Some(Nothing), &of_staff, Some(Nothing)),
        (named("staff"), Some(Totp), &of_staff, Some(Totp)),
        (MatchKeys { ca: Some("staff".into()), ..pin(&of_staff) }, None, &of_staff, Some(Password)),
        (pin(&of_staff), None, &of_staff, None),
        (pin(&of_staff), Some(Nothing), &of_staff, Some(Nothing)),
        (pin(&of_nobody), None, &of_nobody, None),
        (pin(&of_nobody), Some(Totp), &of_nobody, Some(Totp)),
    ] {
        let one = RosterEntry { second_factor: said, ..entry("alice", keys.clone()) };
        match (Roster::new(vec![one], vec![without_email("staff"), guests()]), asked) {
            (Ok(roster), asked) => {
                let identity = world.identify(&roster, made).unwrap();
                assert_eq!(Some(identity.grant().second_factor), asked, "{keys:?} {said:?}");
                let notes = roster.examine(&world.chain(&roster, made)).unwrap().notes;
                let told =
                    notes.iter().any(|note| note.contains("says nothing of second_factor, and client_ca \"staff\""));
                assert_eq!(told, said.is_none(), "{notes:?}");
            }
            (Err(mistakes), None) => {
                let told: Vec<&str> = mistakes.iter().map(|one| one.sentence.as_str()).collect();
                assert!(told.len() == 1 && told[0].contains("says nothing of a second factor"), "{told:?}");
            }
            (Err(mistakes), Some(_)) => panic!("{keys:?} {said:?}: {mistakes:?}"),
        }
    }
    // A name without a CA is another mistake, which "none" does not mend.
    let nameless = RosterEntry {
        second_factor: None,
        ..entry("alice", MatchKeys { email: email("a@example.com"), ..MatchKeys::default() })
    };
    let mistakes = Roster::new(vec![nameless], vec![without_email("staff"), guests()]).unwrap_err();
    assert!(mistakes.len() == 1 && mistakes[0].sentence.contains("match needs `ca`"), "{mistakes:?}");
    // Where no CA asks, a pin need say nothing; nor who is disabled.
    let unsaid = || RosterEntry { second_factor: None, ..entry("alice", pin(&of_nobody)) };
    assert!(Roster::new(vec![unsaid()], vec![guests()]).is_ok());
    let of_guests = Recipe::client("Alice").email("alice@example.com").signed_by(&world.guests);
    let one = RosterEntry { second_factor: None, ..entry("alice", named("guests")) };
    let roster = Roster::new(vec![one], vec![without_email("staff"), guests()]).unwrap();
    let notes = roster.examine(&world.chain(&roster, &of_guests)).unwrap().notes;
    assert!(!notes.iter().any(|note| note.contains("second_factor")), "{notes:?}");
    let disabled = RosterEntry { state: EntryState::Disabled, ..unsaid() };
    assert!(Roster::new(vec![disabled], vec![without_email("staff")]).is_ok());
}
