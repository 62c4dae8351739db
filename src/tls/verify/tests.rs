//! Certificates by recipe against the judge. Each case is a chain, a trust, a moment, and what must be said.

use rcgen::{ExtendedKeyUsagePurpose as Purposes, KeyPair, KeyUsagePurpose as Usages};

use super::super::recipe::{CrlRecipe, DAY, ForeignKey, Made, NOW, Recipe, der};
use super::super::trust::{CaFault, ClientCaSettings, CrlFile, Pins};
use super::super::vouched::ToldTls;
use super::*;
use crate::identity::facts::{CertificateFacts, Digest256};

mod revocation;

fn now() -> WallTime {
    WallTime::from_seconds(NOW)
}

/// The CAs of a test, built as the configuration would.
struct Setting {
    cas: Vec<ClientCaSettings>,
    pins: Pins,
}

impl Setting {
    fn of(name: &str, anchors: &[&Made]) -> Self {
        Self { cas: Vec::new(), pins: Pins::default() }.and(name, anchors)
    }

    fn and(mut self, name: &str, anchors: &[&Made]) -> Self {
        self.cas.push(ClientCaSettings {
            name: name.into(),
            certificates: anchors.iter().map(|made| made.der.clone()).collect(),
            intermediates: Vec::new(),
            crls: Vec::new(),
            revocation: RevocationMode::Off,
            crl_grace: Duration::ZERO,
            rules: CaRules::default(),
        });
        self
    }

    fn with_intermediates(mut self, intermediates: &[&Made]) -> Self {
        self.cas.last_mut().unwrap().intermediates = intermediates.iter().map(|made| made.der.clone()).collect();
        self
    }

    fn with_crls(mut self, revocation: RevocationMode, crls: &[Vec<u8>]) -> Self {
        let ca = self.cas.last_mut().unwrap();
        ca.revocation = revocation;
        ca.crls = crls
            .iter()
            .enumerate()
            .map(|(number, octets)| CrlFile { place: format!("{number}.crl"), octets: octets.clone() })
            .collect();
        self
    }

    fn pinning(mut self, certificates: &[&Made], keys: &[&Made]) -> Self {
        self.pins = Pins {
            certificates: certificates.iter().map(|made| Digest256(made.fingerprint())).collect(),
            keys: keys.iter().map(|made| Digest256(made.spki())).collect(),
            ignoring_expiry: HashSet::new(),
        };
        self
    }

    fn trust(self) -> Trust {
        let cas = self.cas.into_iter().map(|settings| Arc::new(ClientCa::new(settings).unwrap().0)).collect();
        Trust::new(cas, self.pins)
    }
}

fn chain(shown: &[&Made]) -> PeerChain {
    PeerChain(shown.iter().map(|made| made.der.clone()).collect())
}

fn anchor_of(judged: Result<VerifiedChain, Rejection>) -> Result<Anchor, Rejection> {
    judged.map(|verified| verified.anchor().clone())
}

#[track_caller]
fn good(shown: &[&Made], trust: &Trust) -> VerifiedChain {
    judge(&chain(shown), trust, now()).unwrap_or_else(|rejection| panic!("refused: {rejection}"))
}

#[track_caller]
fn flawed(shown: &[&Made], trust: &Trust, flaw: Flaw) {
    flawed_der(PeerChain(shown.iter().map(|made| made.der.clone()).collect()), trust, flaw);
}

#[track_caller]
fn flawed_der(shown: PeerChain, trust: &Trust, flaw: Flaw) {
    let rejection = judge(&shown, trust, now()).unwrap_err();
    assert_eq!(rejection.flaw, Some(flaw), "{rejection}");
    assert_eq!(rejection.fault, CertificateFault::Untrusted { cause: flaw.to_string() });
    assert_eq!(verify(&shown, trust, now()).unwrap_err(), rejection.fault);
}

fn staff() -> (Made, Trust) {
    let root = Recipe::ca("Staff Root").self_signed();
    let trust = Setting::of("staff", &[&root]).trust();
    (root, trust)
}

#[test]
fn a_good_leaf_is_verified_to_its_ca_by_name() {
    let (root, trust) = staff();
    let alice = Recipe::client("Alice").email("alice@example.com").signed_by(&root);
    let verified = good(&[&alice], &trust);
    assert_eq!(*verified.anchor(), Anchor::Ca("staff".into()));
    assert_eq!(verified.leaf(), &alice.der);
    assert_eq!(verified.certificates(), std::slice::from_ref(&alice.der));
    assert_eq!(verified.good_until(), WallTime::from_seconds(NOW + 90 * DAY));
}

#[test]
fn who_comes_again_is_judged_again() {
    let (root, trust) = staff();
    let alice = Recipe::client("Alice").email("alice@example.com").signed_by(&root);
    let first = good(&[&alice], &trust);
    let again = good(&[&alice], &trust);
    assert!(Arc::ptr_eq(&first.links()[0].view, &again.links()[0].view), "it is read once");
    assert!(again.is_the_same(&first));
    let late = WallTime::from_seconds(NOW + 91 * DAY);
    let rejection = judge(&chain(&[&alice]), &trust, late).unwrap_err();
    assert_eq!(rejection.fault, CertificateFault::Expired { at: WallTime::from_seconds(NOW + 90 * DAY) });
    // What a stranger shows is not held: neither the reading, nor in the place of somebody good.
    let stranger = Recipe::client("Alice").self_signed();
    flawed(&[&stranger], &trust, Flaw::UnknownIssuer);
    assert!(trust.readings().of(&stranger.der).is_none());
    // The same octets but for the signature's last.
    let mut forged = alice.der.to_vec();
    *forged.last_mut().unwrap() ^= 1;
    assert!(judge(&PeerChain(vec![forged.into()]), &trust, now()).is_err());
}

#[test]
fn what_a_balancer_tells_of_is_judged_as_any_and_relied_on_no_longer_than_it() {
    let root = Recipe::ca("Root").self_signed();
    let issuing = Recipe::ca("Issuing").signed_by(&root);
    let alice = Recipe::client("Alice").email("alice@example.com").signed_by(&issuing);
    let balancer = Recipe::client("Balancer").valid(NOW - DAY, NOW + 9 * DAY).self_signed();
    let pins = BalancerPins::new(vec![Digest256(balancer.spki())]);
    let vouched = |leaf: &Made| pins.admit(&balancer.der, now()).unwrap().vouch(leaf.der.clone(), ToldTls::default());
    let nobody = |_: &Query| None;
    let judge =
        |leaf: &Made, pins: &BalancerPins, trust: &Trust, now| judge_vouched(&vouched(leaf), pins, trust, &nobody, now);
    // Balancers pass the leaf on, so the rest must be configured.
    let alone = Setting::of("staff", &[&root]).trust();
    assert_eq!(judge(&alice, &pins, &alone, now()).unwrap_err().flaw, Some(Flaw::UnknownIssuerOrGap));
    let trust = Setting::of("staff", &[&root]).with_intermediates(&[&issuing]).trust();
    let verified = judge(&alice, &pins, &trust, now()).unwrap();
    assert_eq!(verified.witness(), Witness::Balancer(Digest256(balancer.fingerprint())));
    assert_eq!(verified.good_until(), WallTime::from_seconds(NOW + 9 * DAY));
    assert_eq!(good(&[&alice], &trust).witness(), Witness::Handshake);
    // Pinned clients too; and whoever is no balancer any more has nothing to say.
    let printer = Recipe::client("Printer").self_signed();
    let pinning = Setting::of("staff", &[&root]).pinning(&[&printer], &[]).trust();
    let verified = judge(&printer, &pins, &pinning, now()).unwrap();
    assert!(matches!((verified.anchor(), verified.witness()), (Anchor::Pin, Witness::Balancer(_))));
    for (pins, now) in [(&BalancerPins::default(), NOW), (&pins, NOW + 9 * DAY + 1)] {
        for leaf in [&alice, &printer] {
            let rejection = judge(leaf, pins, &pinning, WallTime::from_seconds(now)).unwrap_err();
            assert_eq!(rejection.flaw, Some(Flaw::NotVouched), "{rejection}");
        }
    }
    let rejection = judge(&alice, &BalancerPins::default(), &trust, now()).unwrap_err();
    assert!(rejection.to_string().contains("is not in balancer_pin"), "{rejection}");
}

#[test]
fn every_common_kind_of_key_is_taken() {
    for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
        let root = Recipe::ca("Root").key(algorithm).self_signed();
        let trust = Setting::of("staff", &[&root]).trust();
        let alice = Recipe::client("Alice").key(algorithm).signed_by(&root);
        good(&[&alice], &trust);
    }
}

#[test]
fn rsa_from_2048_bits_is_taken_and_less_is_not() {
    let root = Recipe::ca("Root").key(&rcgen::PKCS_RSA_SHA256).self_signed();
    let trust = Setting::of("staff", &[&root]).trust();
    let alice = Recipe::client("Alice").key(&rcgen::PKCS_RSA_SHA256).signed_by(&root);
    good(&[&alice], &trust);
    let weak = Recipe::client("Alice").for_public_key(&ForeignKey::rsa(128), &root);
    flawed_der(PeerChain(vec![weak]), &trust, Flaw::WeakKey(2048));
    let barely = Recipe::client("Alice").for_public_key(&ForeignKey::rsa(255), &root);
    flawed_der(PeerChain(vec![barely]), &trust, Flaw::WeakKey(2048));
}

#[test]
fn dates_of_the_leaf_count_to_the_second_and_both_ends_are_in() {
    let (root, trust) = staff();
    let alice = Recipe::client("Alice").valid(NOW, NOW + DAY).signed_by(&root);
    let at = |millis: i64| judge(&chain(&[&alice]), &trust, WallTime::from_millis(NOW * 1000 + millis));
    let from = WallTime::from_seconds(NOW);
    let to = WallTime::from_seconds(NOW + DAY);
    assert_eq!(at(-1).unwrap_err().fault, CertificateFault::NotYetValid { from });
    assert!(at(0).is_ok());
    assert!(at(DAY * 1000).is_ok());
    assert!(at(DAY * 1000 + 999).is_ok());
    let rejection = at(DAY * 1000 + 1000).unwrap_err();
    assert_eq!(rejection.fault, CertificateFault::Expired { at: to });
    let culprit = rejection.culprit.unwrap();
    assert_eq!((culprit.depth, culprit.subject.as_str(), culprit.issuer.as_str()), (0, "CN=Alice", "CN=Staff Root"));
    assert_eq!(rejection.ca.as_deref(), Some("staff"));
}

/// RFC 5280 §4.1.2.5: UTCTime before 2050, GeneralizedTime from then on.
#[test]
fn dates_before_and_behind_2050_are_read() {
    let then = WallTime::from_seconds(2_550_000_000);
    let root = Recipe::ca("Root").valid(NOW, then.seconds() + DAY).self_signed();
    let trust = Setting::of("staff", &[&root]).trust();
    let alice = Recipe::client("Alice").valid(NOW, then.seconds()).signed_by(&root);
    assert!(judge(&chain(&[&alice]), &trust, then).is_ok());
    let rejection = judge(&chain(&[&alice]), &trust, WallTime::from_seconds(then.seconds() + 1)).unwrap_err();
    assert_eq!(rejection.fault, CertificateFault::Expired { at: then });
}

#[test]
fn dates_of_an_intermediate_count_and_it_is_named() {
    let root = Recipe::ca("Root").self_signed();
    for (from, to, fault) in [
        (NOW - 9 * DAY, NOW - DAY, CertificateFault::Expired { at: WallTime::from_seconds(NOW - DAY) }),
        (NOW + DAY, NOW + 9 * DAY, CertificateFault::NotYetValid { from: WallTime::from_seconds(NOW + DAY) }),
    ] {
        let issuing = Recipe::ca("Issuing").valid(from, to).signed_by(&root);
        let alice = Recipe::client("Alice").signed_by(&issuing);
        for (shown, trust) in [
            (vec![&alice, &issuing], Setting::of("staff", &[&root]).trust()),
            (vec![&alice], Setting::of("staff", &[&root]).with_intermediates(&[&issuing]).trust()),
        ] {
            let rejection = judge(&chain(&shown), &trust, now()).unwrap_err();
            assert_eq!(rejection.fault, fault);
            let culprit = rejection.culprit.unwrap();
            assert_eq!((culprit.depth, culprit.subject.as_str()), (1, "CN=Issuing"));
        }
    }
}

#[test]
fn dates_of_the_anchor_count_too() {
    let old = Recipe::ca("Root").valid(NOW - 9 * DAY, NOW - DAY).self_signed();
    let trust = Setting::of("staff", &[&old]).trust();
    let alice = Recipe::client("Alice").signed_by(&old);
    let rejection = judge(&chain(&[&alice]), &trust, now()).unwrap_err();
    assert_eq!(rejection.fault, CertificateFault::Expired { at: WallTime::from_seconds(NOW - DAY) });
    assert_eq!(rejection.culprit.unwrap().depth, 1);
}

#[test]
fn a_renewed_anchor_of_the_same_name_and_key_vouches_when_the_old_one_has_ended() {
    let key = KeyPair::generate().unwrap();
    let again = KeyPair::from_pem(&key.serialize_pem()).unwrap();
    let old = Recipe::ca("Root").valid(NOW - 9 * DAY, NOW - DAY).with_key(key, None);
    let renewed = Recipe::ca("Root").valid(NOW - 2 * DAY, NOW + 30 * DAY).with_key(again, None);
    let trust = Setting::of("staff", &[&old, &renewed]).trust();
    let alice = Recipe::client("Alice").signed_by(&old);
    assert_eq!(good(&[&alice], &trust).good_until(), WallTime::from_seconds(NOW + 30 * DAY));
}

#[test]
fn the_chain_is_good_until_its_first_end_and_a_list_that_is_due_is_no_end() {
    let root = Recipe::ca("Root").self_signed();
    let issuing = Recipe::ca("Issuing").valid(NOW - DAY, NOW + 5 * DAY).signed_by(&root);
    let alice = Recipe::client("Alice").signed_by(&issuing);
    let trust = Setting::of("staff", &[&root]).trust();
    let until = |verified: &VerifiedChain| (verified.good_until(), verified.summary().unwrap().ends);
    let day = |number| WallTime::from_seconds(NOW + number * DAY);
    assert_eq!(until(&good(&[&alice, &issuing], &trust)), (day(5), day(5)));
    let list = root.crl(&CrlRecipe::listing(&[]).valid(NOW - DAY, NOW + 2 * DAY));
    let carol = Recipe::client("Carol").valid(NOW - DAY, NOW + 7 * DAY).signed_by(&root);
    let listed = Setting::of("staff", &[&root]).with_crls(RevocationMode::Require, &[list]).trust();
    assert_eq!(until(&good(&[&carol], &listed)), (day(2), day(7)));
    // An anchor's end is one, too.
    let brief = Recipe::ca("Brief Root").valid(NOW - DAY, NOW + 3 * DAY).self_signed();
    let trust = Setting::of("staff", &[&brief]).trust();
    assert_eq!(until(&good(&[&Recipe::client("Dave").signed_by(&brief)], &trust)), (day(3), day(3)));
}

#[test]
fn the_leaf_must_say_that_it_is_for_clients() {
    let (root, trust) = staff();
    for purposes in [
        &[][..],
        &[Purposes::ServerAuth],
        &[Purposes::EmailProtection],
        &[Purposes::Any],
        &[Purposes::ServerAuth, Purposes::EmailProtection],
    ] {
        let alice = Recipe::client("Alice").purposes(purposes).signed_by(&root);
        flawed(&[&alice], &trust, Flaw::NotForClients);
    }
    let both = Recipe::client("Alice").purposes(&[Purposes::EmailProtection, Purposes::ClientAuth]).signed_by(&root);
    good(&[&both], &trust);
}

#[test]
fn a_key_that_may_not_sign_is_refused_and_one_without_usages_is_not() {
    let (root, trust) = staff();
    let encrypting = Recipe::client("Alice").usages(&[Usages::KeyEncipherment]).signed_by(&root);
    flawed(&[&encrypting], &trust, Flaw::NotForSignatures);
    good(&[&Recipe::client("Alice").usages(&[]).signed_by(&root)], &trust);
}

#[test]
fn an_intermediate_for_other_purposes_is_refused() {
    let root = Recipe::ca("Root").self_signed();
    let trust = Setting::of("staff", &[&root]).trust();
    for (purposes, taken) in [
        (&[][..], true),
        (&[Purposes::ClientAuth], true),
        (&[Purposes::Any], true),
        (&[Purposes::EmailProtection], false),
    ] {
        let issuing = Recipe::ca("Issuing").purposes(purposes).signed_by(&root);
        let alice = Recipe::client("Alice").signed_by(&issuing);
        if taken {
            good(&[&alice, &issuing], &trust);
        } else {
            flawed(&[&alice, &issuing], &trust, Flaw::CaNotForClients);
        }
    }
}

#[test]
fn a_stranger_is_told_that_its_issuer_is_none_of_ours() {
    let (_, trust) = staff();
    let other = Recipe::ca("Other Root").self_signed();
    let mallory = Recipe::client("Mallory").signed_by(&other);
    flawed(&[&mallory], &trust, Flaw::UnknownIssuerOrGap);
    flawed(&[&mallory, &other], &trust, Flaw::UnknownIssuer);
    flawed(&[&Recipe::client("Mallory").self_signed()], &trust, Flaw::UnknownIssuer);
    flawed(&[&mallory], &Trust::default(), Flaw::UnknownIssuerOrGap);
}

#[test]
fn a_strangers_dates_and_purposes_are_not_what_is_told() {
    let (_, trust) = staff();
    let other = Recipe::ca("Other Root").self_signed();
    let old = Recipe::client("Mallory").valid(NOW - 9 * DAY, NOW - DAY).purposes(&[]).signed_by(&other);
    flawed(&[&old, &other], &trust, Flaw::UnknownIssuer);
}

#[test]
fn another_ca_of_the_same_name_gives_a_bad_signature() {
    let (_, trust) = staff();
    let imitation = Recipe::ca("Staff Root").self_signed();
    let mallory = Recipe::client("Mallory").signed_by(&imitation);
    flawed(&[&mallory], &trust, Flaw::BadSignature);
    flawed(&[&mallory, &imitation], &trust, Flaw::BadSignature);
}

#[test]
fn two_cas_of_the_same_name_are_told_apart() {
    let one = Recipe::ca("Root").self_signed();
    let other = Recipe::ca("Root").self_signed();
    let trust = Setting::of("one", &[&one]).and("other", &[&other]).trust();
    let alice = Recipe::client("Alice").signed_by(&one);
    let bob = Recipe::client("Bob").signed_by(&other);
    assert_eq!(*good(&[&alice], &trust).anchor(), Anchor::Ca("one".into()));
    assert_eq!(*good(&[&bob], &trust).anchor(), Anchor::Ca("other".into()));
}

#[test]
fn another_ca_that_mints_a_name_is_known_as_itself() {
    let staff = Recipe::ca("Staff Root").self_signed();
    let guests = Recipe::ca("Guests Root").self_signed();
    let trust = Setting::of("staff", &[&staff]).and("guests", &[&guests]).trust();
    let minted = Recipe::client("Alice").email("ceo@example.com").signed_by(&guests);
    assert_eq!(*good(&[&minted], &trust).anchor(), Anchor::Ca("guests".into()));
}

#[test]
fn a_missing_intermediate_is_supplied_from_the_configuration() {
    let root = Recipe::ca("Root").self_signed();
    let issuing = Recipe::ca("Issuing").signed_by(&root);
    let alice = Recipe::client("Alice").signed_by(&issuing);
    flawed(&[&alice], &Setting::of("staff", &[&root]).trust(), Flaw::UnknownIssuerOrGap);
    let trust = Setting::of("staff", &[&root]).with_intermediates(&[&issuing]).trust();
    let verified = good(&[&alice], &trust);
    assert_eq!(verified.certificates(), [alice.der.clone(), issuing.der.clone()]);
}

#[test]
fn a_configured_intermediate_is_trusted_for_nothing_by_itself() {
    let root = Recipe::ca("Root").self_signed();
    let foreign_root = Recipe::ca("Foreign Root").self_signed();
    let foreign = Recipe::ca("Foreign Issuing").signed_by(&foreign_root);
    let mallory = Recipe::client("Mallory").signed_by(&foreign);
    let trust = Setting::of("staff", &[&root]).with_intermediates(&[&foreign]).trust();
    flawed(&[&mallory], &trust, Flaw::UnknownIssuerOrGap);
}

#[test]
fn the_intermediates_of_one_ca_do_not_help_another() {
    let one = Recipe::ca("One Root").self_signed();
    let issuing = Recipe::ca("Issuing").signed_by(&one);
    let other = Recipe::ca("Other Root").self_signed();
    let alice = Recipe::client("Alice").signed_by(&issuing);
    let trust = Setting::of("one", &[&one]).and("other", &[&other]).with_intermediates(&[&issuing]).trust();
    flawed(&[&alice], &trust, Flaw::UnknownIssuerOrGap);
}

#[test]
fn what_the_client_sends_beside_the_path_does_not_matter() {
    let root = Recipe::ca("Root").self_signed();
    let issuing = Recipe::ca("Issuing").signed_by(&root);
    let alice = Recipe::client("Alice").signed_by(&issuing);
    let stray = Recipe::ca("Stray").self_signed();
    let trust = Setting::of("staff", &[&root]).trust();
    let verified = good(&[&alice, &stray, &root, &issuing, &issuing], &trust);
    assert_eq!(verified.certificates(), [alice.der.clone(), issuing.der.clone()]);
    let mut with_junk = chain(&[&alice, &issuing]);
    with_junk.0.push(vec![0x30, 0x00].into());
    assert!(judge(&with_junk, &trust, now()).is_ok());
}

#[test]
fn an_intermediate_may_be_an_anchor() {
    let root = Recipe::ca("Root").self_signed();
    let issuing = Recipe::ca("Issuing").signed_by(&root);
    let trust = Setting::of("staff", &[&issuing]).trust();
    good(&[&Recipe::client("Alice").signed_by(&issuing)], &trust);
    flawed(&[&Recipe::client("Bob").signed_by(&root)], &trust, Flaw::UnknownIssuerOrGap);
}

#[test]
fn a_leaf_cannot_issue() {
    let (root, trust) = staff();
    let alice = Recipe::client("Alice").signed_by(&root);
    let minted = Recipe::client("Minted").signed_by(&alice);
    flawed(&[&minted, &alice], &trust, Flaw::IssuerNotACa);
}

#[test]
fn a_ca_without_cert_sign_cannot_issue() {
    let root = Recipe::ca("Root").self_signed();
    let trust = Setting::of("staff", &[&root]).trust();
    let issuing = Recipe::ca("Issuing").usages(&[Usages::CrlSign]).signed_by(&root);
    let alice = Recipe::client("Alice").signed_by(&issuing);
    flawed(&[&alice, &issuing], &trust, Flaw::IssuerNotACa);
}

#[test]
fn a_ca_certificate_is_no_client_certificate() {
    let (root, trust) = staff();
    let issuing = Recipe::ca("Issuing").purposes(&[Purposes::ClientAuth]).signed_by(&root);
    flawed(&[&issuing], &trust, Flaw::CaAsLeaf);
    flawed(&[&root], &trust, Flaw::CaAsLeaf);
}

#[test]
fn a_path_length_is_kept() {
    let root = Recipe::ca("Root").path_length(0).self_signed();
    let first = Recipe::ca("First").path_length(0).signed_by(&root);
    let second = Recipe::ca("Second").signed_by(&first);
    let alice = Recipe::client("Alice").signed_by(&second);
    let trust = Setting::of("staff", &[&root]).trust();
    flawed(&[&alice, &second, &first], &trust, Flaw::PathLength);
}

/// RFC 5280 §4.2.1.9 has self-issued certificates not counted. We don't; webpki, which looks at all but the anchor, does.
#[test]
fn a_self_issued_certificate_counts_to_the_path_length_of_an_intermediate_and_not_of_an_anchor() {
    let root = Recipe::ca("Root").path_length(0).self_signed();
    let rolled = Recipe::ca("Root").signed_by(&root);
    let alice = Recipe::client("Alice").signed_by(&rolled);
    good(&[&alice, &rolled], &Setting::of("staff", &[&root]).trust());

    let root = Recipe::ca("Root").self_signed();
    for (length, counts) in [(0, false), (1, true)] {
        let issuing = Recipe::ca("Issuing").path_length(length).signed_by(&root);
        let rolled = Recipe::ca("Issuing").signed_by(&issuing);
        let alice = Recipe::client("Alice").signed_by(&rolled);
        let judged = judge(&chain(&[&alice, &rolled, &issuing]), &Setting::of("staff", &[&root]).trust(), now());
        assert_eq!(judged.is_ok(), counts, "{length}: {:?}", judged.err());
    }
}

#[test]
fn six_intermediates_are_taken_and_nine_are_not() {
    let root = Recipe::ca("Root").self_signed();
    let trust = Setting::of("staff", &[&root]).trust();
    let mut cas = vec![root];
    for number in 1..=9 {
        let next = Recipe::ca(&format!("CA {number}")).signed_by(cas.last().unwrap());
        cas.push(next);
    }
    let under = |depth: usize| {
        let leaf = Recipe::client("Alice").signed_by(&cas[depth]);
        let above: Vec<CertificateDer<'static>> = cas[1..=depth].iter().rev().map(|made| made.der.clone()).collect();
        PeerChain([vec![leaf.der.clone()], above].concat())
    };
    assert_eq!(judge(&under(6), &trust, now()).unwrap().certificates().len(), 7);
    // A chain of ten: within what may be shown, beyond what is followed.
    assert_eq!(under(9).0.len(), CHAIN_CERTIFICATES_MAX);
    flawed_der(under(9), &trust, Flaw::TooManyCertificates);
}

#[test]
fn a_chain_beyond_the_limits_is_refused_unread() {
    let (root, trust) = staff();
    let alice = Recipe::client("Alice").signed_by(&root);
    flawed_der(PeerChain(vec![alice.der.clone(); CHAIN_CERTIFICATES_MAX + 1]), &trust, Flaw::TooManyCertificates);
    let padding =
        |octets: usize| Recipe::ca("Big").extension(&[1, 3, 9999, 1], false, vec![4; octets]).signed_by(&root);
    let huge = padding(CERTIFICATE_OCTETS_MAX);
    flawed_der(PeerChain(vec![alice.der.clone(), huge.der.clone()]), &trust, Flaw::TooLarge);
    let large = padding(20_000);
    flawed_der(PeerChain([vec![alice.der.clone()], vec![large.der.clone(); 4]].concat()), &trust, Flaw::TooLarge);
    good(&[&alice, &large, &large], &trust);
}

#[test]
fn no_certificate_and_junk_are_malformed() {
    let (root, trust) = staff();
    let alice = Recipe::client("Alice").signed_by(&root);
    let mut trailing = alice.der.to_vec();
    trailing.push(0);
    let mut truncated = alice.der.to_vec();
    truncated.pop();
    flawed_der(PeerChain(Vec::new()), &trust, Flaw::Malformed);
    for junk in [vec![], vec![0x30], b"-----BEGIN".to_vec(), trailing, truncated] {
        flawed_der(PeerChain(vec![junk.into()]), &trust, Flaw::Malformed);
    }
}

#[test]
fn a_changed_octet_is_never_good() {
    let (root, trust) = staff();
    let alice = Recipe::client("Alice").email("alice@example.com").signed_by(&root);
    for at in 0..alice.der.len() {
        let mut changed = alice.der.to_vec();
        changed[at] ^= 0x01;
        assert!(judge(&PeerChain(vec![changed.into()]), &trust, now()).is_err(), "octet {at}");
    }
}

#[test]
fn a_sha1_signature_is_weak() {
    let root = Recipe::ca("Root").key(&rcgen::PKCS_RSA_SHA256).self_signed();
    let trust = Setting::of("staff", &[&root]).trust();
    let alice = Recipe::client("Alice").signed_by(&root);
    // sha256WithRSAEncryption (1.2.840.113549.1.1.11) to sha1WithRSAEncryption (.5), in both places.
    let sha256_with_rsa = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
    let mut changed = alice.der.to_vec();
    let places: Vec<usize> = (0..changed.len()).filter(|&at| changed[at..].starts_with(&sha256_with_rsa)).collect();
    assert_eq!(places.len(), 2);
    places.iter().for_each(|&at| changed[at + 8] = 0x05);
    flawed_der(PeerChain(vec![changed.into()]), &trust, Flaw::WeakSignature);
}

#[test]
fn an_unknown_critical_extension_is_refused_and_an_uncritical_one_is_not() {
    let (root, trust) = staff();
    let content = || der(0x04, b"x");
    let critical = Recipe::client("Alice").extension(&[1, 3, 9999, 1], true, content()).signed_by(&root);
    flawed(&[&critical], &trust, Flaw::CriticalExtension);
    good(&[&Recipe::client("Alice").extension(&[1, 3, 9999, 1], false, content()).signed_by(&root)], &trust);
    // RFC 5280 §4.2.1.11: requireExplicitPolicy, which is not processed.
    let explicit = der(0x30, &der(0x80, &[0]));
    let issuing = Recipe::ca("Issuing").extension(&[2, 5, 29, 36], true, explicit).signed_by(&root);
    let alice = Recipe::client("Alice").signed_by(&issuing);
    flawed(&[&alice, &issuing], &trust, Flaw::CriticalExtension);
}

#[test]
fn email_name_constraints_of_a_ca_that_only_the_client_sends_fail_closed_and_name_the_remedy() {
    let root = Recipe::ca("Root").self_signed();
    let issuing = Recipe::ca("Issuing").permits_email("example.com").signed_by(&root);
    let alice = Recipe::client("Alice").email("alice@example.com").signed_by(&issuing);
    let trust = Setting::of("staff", &[&root]).trust();
    flawed(&[&alice, &issuing], &trust, Flaw::UnlistedConstraints);
    good(&[&Recipe::client("Printer").dns("printer.example.com").signed_by(&issuing), &issuing], &trust);
    // And no pin overrides what our own CA forbids.
    let pinning = Setting::of("staff", &[&root]).pinning(&[&alice], &[&alice]).trust();
    flawed(&[&alice, &issuing], &pinning, Flaw::UnlistedConstraints);
}

/// RFC 5280 §4.2.1.10: what is not compared refuses, whatever it would permit.
#[test]
fn below_constraints_on_directory_names_and_uris_nobody_is_good() {
    let name = der(0x31, &der(0x30, &[der(0x06, &[0x55, 0x04, 0x03]), der(0x0c, b"Alice")].concat()));
    for (form, base) in [("directoryName", der(0xa4, &der(0x30, &name))), ("URI", der(0x86, b"example.com"))] {
        let permitted = der(0x30, &der(0xa0, &der(0x30, &base)));
        let root = Recipe::ca("Root").self_signed();
        let issuing = Recipe::ca("Issuing").extension(&[2, 5, 29, 30], true, permitted).signed_by(&root);
        let alice = Recipe::client("Alice").uri("spiffe://example.com/alice").signed_by(&issuing);
        let trust = Setting::of("staff", &[&root]).with_intermediates(&[&issuing]).trust();
        let judged = judge(&chain(&[&alice]), &trust, now());
        assert_eq!(judged.unwrap_err().flaw, Some(Flaw::NameConstraints), "{form}");
    }
}

#[test]
fn a_name_beyond_the_constraints_is_none_in_any_encoding() {
    let root = Recipe::ca("Root").self_signed();
    let issuing = Recipe::ca("Issuing").permits_email("example.org").signed_by(&root);
    let trust = Setting::of("staff", &[&root]).with_intermediates(&[&issuing]).trust();
    let mailbox = |oid: &[u8]| [der(0x06, oid), der(0xa0, &der(0x0c, "zo\u{eb}@example.com".as_bytes()))].concat();
    let known: &[u8] = &[43, 6, 1, 5, 5, 7, 8, 9];
    let padded: &[u8] = &[43, 6, 1, 5, 5, 7, 8, 0x80, 9];
    let inside = der(0x81, b"bob@example.org");
    for (title, names, flaw) in [
        ("inside", vec![inside.clone()], None),
        ("outside", vec![der(0x81, b"bob@example.com")], Some(Flaw::NameConstraints)),
        ("rfc822Name as constructed", vec![inside, der(0xa1, b"bob@example.com")], Some(Flaw::Malformed)),
        ("SmtpUTF8Mailbox", vec![der(0xa0, &mailbox(known))], Some(Flaw::NameConstraints)),
        ("otherName as primitive", vec![der(0x80, &mailbox(known))], Some(Flaw::Malformed)),
        ("a padded identifier, which is nobody's", vec![der(0xa0, &mailbox(padded))], None),
    ] {
        let names = der(0x30, &names.concat());
        let bob = Recipe::client("Bob").extension(&[2, 5, 29, 17], false, names).signed_by(&issuing);
        let judged = judge(&chain(&[&bob]), &trust, now());
        assert_eq!(judged.as_ref().err().and_then(|rejection| rejection.flaw), flaw, "{title}");
        let facts = CertificateFacts::of(&bob.der).unwrap();
        let beyond = facts.emails.iter().any(|email| email.host().to_string() == "example.com");
        assert!(judged.is_err() || !beyond, "{title}: {:?}", facts.emails);
    }
}

#[test]
fn a_upn_is_held_to_the_constraints_of_its_anchor_too() {
    let root = Recipe::ca("Root").permits_email("example.org").self_signed();
    let trust = Setting::of("staff", &[&root]).trust();
    let kind: &[u8] = &[43, 6, 1, 4, 1, 0x82, 0x37, 20, 2, 3];
    for (text, counts) in [("bob@example.org", 1), ("bob@example.com", 0)] {
        let upn = [der(0x06, kind), der(0xa0, &der(0x0c, text.as_bytes()))].concat();
        let bob = Recipe::client("Bob").extension(&[2, 5, 29, 17], false, der(0x30, &der(0xa0, &upn)));
        let facts = CertificateFacts::of_chain(&good(&[&bob.signed_by(&root)], &trust)).unwrap();
        assert_eq!(facts.upns.len(), counts, "{text}");
    }
}

#[test]
fn an_extension_that_is_there_twice_makes_no_certificate() {
    let (root, trust) = staff();
    let point = der(0x30, &der(0x30, &der(0xa0, &der(0xa0, &der(0x86, b"http://crl.example.com")))));
    let with = |recipe: Recipe| recipe.extension(&[2, 5, 29, 31], false, point.clone());
    good(&[&with(Recipe::client("Alice")).signed_by(&root)], &trust);
    flawed(&[&with(with(Recipe::client("Alice"))).signed_by(&root)], &trust, Flaw::Malformed);
}

#[test]
fn a_hundred_names_are_no_trouble() {
    let (root, trust) = staff();
    let alice =
        (0..100).fold(Recipe::client("Alice"), |recipe, number| recipe.email(&format!("alice{number}@example.com")));
    good(&[&alice.signed_by(&root)], &trust);
}

#[test]
fn a_serial_of_over_twenty_octets_is_refused() {
    let (root, trust) = staff();
    good(&[&Recipe::client("Alice").serial(&[0x7f; 20]).signed_by(&root)], &trust);
    flawed(&[&Recipe::client("Alice").serial(&[0x7f; 21]).signed_by(&root)], &trust, Flaw::LongSerial);
}

#[test]
fn a_pinned_certificate_needs_no_ca() {
    let printer = Recipe::client("Printer").self_signed();
    let trust = Setting { cas: Vec::new(), pins: Pins::default() }.pinning(&[&printer], &[]).trust();
    let verified = good(&[&printer], &trust);
    assert_eq!(*verified.anchor(), Anchor::Pin);
    assert_eq!(verified.certificates(), std::slice::from_ref(&printer.der));
    assert_eq!(verified.good_until(), WallTime::from_seconds(NOW + 90 * DAY));
    flawed(&[&Recipe::client("Printer").self_signed()], &trust, Flaw::UnknownIssuer);
}

#[test]
fn what_tls_itself_refuses_is_refused_even_when_pinned() {
    let old = Recipe::client("Printer").self_signed_of_version_1();
    let strange = Recipe::client("Printer").extension(&[1, 3, 9999, 1], true, vec![5, 0]).self_signed();
    let (root, _) = staff();
    for (made, flaw) in [(&old, Flaw::OldVersion), (&strange, Flaw::CriticalExtension)] {
        let trust = Setting::of("staff", &[&root]).pinning(&[made], &[made]).trust();
        flawed(&[made], &trust, flaw);
        let culprit = judge(&chain(&[made]), &trust, now()).unwrap_err().culprit.unwrap();
        assert_eq!((culprit.depth, culprit.subject.as_str()), (0, "CN=Printer"));
    }
}

#[test]
fn what_openssl_makes_by_default_can_be_pinned() {
    // openssl req -x509: a CA certificate without extended key usage.
    let printer = Recipe::ca("Printer").self_signed();
    let (root, _) = staff();
    let trust = Setting::of("staff", &[&root]).pinning(&[&printer], &[]).trust();
    assert_eq!(*good(&[&printer], &trust).anchor(), Anchor::Pin);
}

#[test]
fn a_pinned_key_stands_for_every_certificate_around_it() {
    let key = KeyPair::generate().unwrap();
    let again = KeyPair::from_pem(&key.serialize_pem()).unwrap();
    let first = Recipe::client("Printer").with_key(key, None);
    let renewed = Recipe::client("Printer").with_key(again, None);
    let trust = Setting { cas: Vec::new(), pins: Pins::default() }.pinning(&[], &[&first]).trust();
    assert_eq!(*good(&[&renewed], &trust).anchor(), Anchor::Pin);
}

#[test]
fn a_pin_keeps_the_dates() {
    let old = Recipe::client("Printer").valid(NOW - 9 * DAY, NOW - DAY).self_signed();
    let early = Recipe::client("Printer").valid(NOW + DAY, NOW + 9 * DAY).self_signed();
    let trust = Setting { cas: Vec::new(), pins: Pins::default() }.pinning(&[&old, &early], &[]).trust();
    let fault = |made| judge(&chain(&[made]), &trust, now()).unwrap_err().fault;
    assert_eq!(fault(&old), CertificateFault::Expired { at: WallTime::from_seconds(NOW - DAY) });
    assert_eq!(fault(&early), CertificateFault::NotYetValid { from: WallTime::from_seconds(NOW + DAY) });
}

#[test]
fn a_pin_outlives_the_end_only_when_it_says_so_and_the_fingerprint_speaks_first() {
    let old = Recipe::client("Printer").valid(NOW - 9 * DAY, NOW - DAY).self_signed();
    let (print, key) = (Digest256(old.fingerprint()), Digest256(old.spki()));
    let setting = || Setting { cas: Vec::new(), pins: Pins::default() };
    for (certificates, keys, ignoring, taken) in [
        (&[&old][..], &[][..], print, true),
        (&[], &[&old], key, true),
        (&[&old], &[&old], print, true),
        // The entry of the fingerprint is the one that counts, and it does not say so.
        (&[&old], &[&old], key, false),
        (&[&old], &[], key, false),
    ] {
        let mut setting = setting().pinning(certificates, keys);
        setting.pins.ignoring_expiry.insert(ignoring);
        let judged = judge(&chain(&[&old]), &setting.trust(), now());
        assert_eq!(judged.as_ref().map(VerifiedChain::good_until).ok(), taken.then_some(WallTime::MAX));
        let ends = judged.ok().and_then(|verified| verified.summary()).map(|summary| summary.ends);
        assert_eq!(ends, taken.then_some(WallTime::MAX));
    }
}

#[test]
fn a_pin_that_outlives_the_end_does_not_outlive_revocation_even_of_a_ca_that_counts_elsewhere() {
    let root = Recipe::ca("Root").self_signed();
    let old = Recipe::client("Printer").valid(NOW - 9 * DAY, NOW - DAY).signed_by(&root);
    let list = |revoked: &[Vec<u8>]| root.crl(&CrlRecipe::listing(revoked));
    for (crl, fault) in [(list(&[]), None), (list(&[old.serial()]), Some(CertificateFault::Revoked))] {
        let mut setting =
            Setting::of("staff", &[&root]).with_crls(RevocationMode::Require, &[crl]).pinning(&[&old], &[]);
        setting.pins.ignoring_expiry.insert(Digest256(old.fingerprint()));
        let trust = setting.trust();
        for trust in [trust.limited(&[], super::super::TakenPins::All), trust] {
            let judged = judge(&chain(&[&old]), &trust, now()).map_err(|rejection| rejection.fault);
            assert_eq!(judged.err(), fault);
        }
    }
}

#[test]
fn a_pin_gives_way_to_the_ca_that_verifies() {
    let root = Recipe::ca("Root").self_signed();
    let alice = Recipe::client("Alice").signed_by(&root);
    let trust = Setting::of("staff", &[&root]).pinning(&[&alice], &[&alice]).trust();
    assert_eq!(*good(&[&alice], &trust).anchor(), Anchor::Ca("staff".into()));
}

#[test]
fn a_pin_lets_in_what_our_ca_issued_for_another_purpose() {
    let root = Recipe::ca("Root").self_signed();
    let printer = Recipe::client("Printer").purposes(&[Purposes::ServerAuth]).signed_by(&root);
    let trust = Setting::of("staff", &[&root]).pinning(&[&printer], &[]).trust();
    assert_eq!(anchor_of(judge(&chain(&[&printer]), &trust, now())), Ok(Anchor::Pin));
}

#[test]
fn a_configured_ca_must_be_one() {
    let root = Recipe::ca("Root").self_signed();
    let leaf = Recipe::client("Alice").signed_by(&root);
    let weak_key = ForeignKey::rsa(128);
    let weak = Recipe::ca("Weak").params.self_signed(&weak_key).unwrap().der().clone();
    let build = |certificates: Vec<CertificateDer<'static>>, intermediates: Vec<CertificateDer<'static>>| {
        let settings = ClientCaSettings {
            name: "staff".into(),
            certificates,
            intermediates,
            crls: Vec::new(),
            revocation: RevocationMode::Off,
            crl_grace: Duration::ZERO,
            rules: CaRules::default(),
        };
        ClientCa::new(settings).map(|_| ()).unwrap_err()
    };
    let name: Arc<str> = "staff".into();
    let good = || root.der.clone();
    assert_eq!(build(vec![], vec![]), CaFault::NoAnchor { name: name.clone() });
    assert_eq!(build(vec![good(), vec![1].into()], vec![]), CaFault::Malformed { name: name.clone(), number: 2 });
    let subject = "CN=Alice".to_owned();
    assert_eq!(build(vec![good()], vec![leaf.der.clone()]), CaFault::NotACa { name: name.clone(), number: 2, subject });
    let subject = "CN=Weak".to_owned();
    assert_eq!(build(vec![weak], vec![]), CaFault::WeakKey { name, number: 1, subject, bits_min: 2048 });
}

#[test]
fn what_a_client_hears_is_short_printable_and_has_no_text_of_its_certificate() {
    let (root, trust) = staff();
    let evil = Recipe::client("Evil\r\n250 2.0.0 OK").purposes(&[]).signed_by(&root);
    let rejection = judge(&chain(&[&evil]), &trust, now()).unwrap_err();
    let CertificateFault::Untrusted { cause } = &rejection.fault else { panic!("{rejection}") };
    assert!(!cause.contains("Evil"));
    assert!(cause.len() <= 100 && cause.chars().all(|letter| (' '..='~').contains(&letter)), "{cause}");
    let logged = rejection.to_string();
    assert!(logged.contains("Evil") && !logged.contains('\r') && !logged.contains('\n'), "{logged}");
}

#[test]
fn the_names_hinted_are_those_of_anchors_and_intermediates_each_once() {
    let root = Recipe::ca("Root").self_signed();
    let issuing = Recipe::ca("Issuing").signed_by(&root);
    let again = Recipe::ca("Root").self_signed();
    let setting = || Setting::of("a", &[&root, &again]).with_intermediates(&[&issuing]).and("b", &[&root]);
    assert_eq!(setting().trust().hints().len(), 2);
    assert!(setting().pinning(&[&root], &[]).trust().hints().is_empty());
}
