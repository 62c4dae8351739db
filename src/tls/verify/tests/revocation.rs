//! Certificates, CRLs and moments against the judge.

use rcgen::{CrlDistributionPoint, CrlIssuingDistributionPoint, CrlScope, Issuer, SigningKey};

use super::super::super::revocation::{CrlCause, CrlFault};
use super::*;
use crate::identity::CertificateFacts;

fn serials(certificates: &[&Made]) -> Vec<Vec<u8>> {
    certificates.iter().map(|made| made.serial()).collect()
}

fn faults(anchors: &[&Made], crls: &[Vec<u8>]) -> Vec<CrlCause> {
    let setting = Setting::of("staff", anchors).with_crls(RevocationMode::Require, crls);
    let (_, faults) = ClientCa::new(setting.cas.into_iter().next().unwrap()).unwrap();
    faults.into_iter().map(|CrlFault { cause, .. }| cause).collect()
}

#[track_caller]
fn faulty(shown: &[&Made], trust: &Trust, at: i64, fault: &CertificateFault) {
    let rejection = judge(&chain(shown), trust, WallTime::from_seconds(at)).unwrap_err();
    assert_eq!(rejection.fault, *fault, "{rejection}");
}

const MODES: [RevocationMode; 3] = [RevocationMode::Require, RevocationMode::IfAvailable, RevocationMode::Off];

#[test]
fn each_mode_means_what_it_says() {
    use CertificateFault::{RevocationUnknown, Revoked};
    let root = Recipe::ca("Root").self_signed();
    let alice = Recipe::client("Alice").signed_by(&root);
    let other = Recipe::client("Other").signed_by(&root);
    let listing = |made: &Made| root.crl(&CrlRecipe::listing(&serials(&[made])));
    let stale = |made: &Made| root.crl(&CrlRecipe::listing(&serials(&[made])).valid(NOW - 9 * DAY, NOW - DAY));
    let no_list: &[Vec<u8>] = &[];
    // What is said of alice: under require, if-available, off.
    let cases = [
        ("no list", no_list.to_vec(), [Some(RevocationUnknown), None, None]),
        ("a fresh list without her", vec![listing(&other)], [None, None, None]),
        ("a fresh list with her", vec![listing(&alice)], [Some(Revoked), Some(Revoked), None]),
        ("a stale list without her", vec![stale(&other)], [Some(RevocationUnknown), None, None]),
        ("a stale list with her", vec![stale(&alice)], [Some(Revoked), Some(Revoked), None]),
    ];
    for (name, crls, said) in cases {
        for (mode, fault) in MODES.into_iter().zip(said) {
            let trust = Setting::of("staff", &[&root]).with_crls(mode, &crls).trust();
            let judged = judge(&chain(&[&alice]), &trust, now()).map_err(|rejection| rejection.fault);
            assert_eq!(judged.err(), fault, "{name}, {mode:?}");
        }
    }
}

#[test]
fn lists_that_went_back_in_time_or_away_are_found() {
    let root = Recipe::ca("Root").self_signed();
    let issuing = Recipe::ca("Issuing").signed_by(&root);
    let with = |crls: &[Vec<u8>]| {
        let setting = Setting::of("staff", &[&root]).with_intermediates(&[&issuing]);
        let setting = setting.with_crls(RevocationMode::Require, crls);
        ClientCa::new(setting.cas.into_iter().next().unwrap()).unwrap().0
    };
    let list = |of: &Made, number: u64| of.crl(&CrlRecipe { number, ..CrlRecipe::listing(&[]) });
    let before = with(&[list(&root, 2), list(&issuing, 2)]);
    // What is there afterwards, and whose went back or away.
    type Case<'a> = (&'a [Vec<u8>], &'a [(&'a str, bool)]);
    let cases: [Case<'_>; 5] = [
        (&[list(&root, 2), list(&issuing, 2)], &[]),
        (&[list(&root, 3), list(&issuing, 2), list(&issuing, 1)], &[]),
        (&[list(&root, 2), list(&issuing, 1)], &[("CN=Issuing", true)]),
        (&[list(&root, 2), list(&root, 2)], &[("CN=Issuing", false)]),
        (&[], &[("CN=Root", false), ("CN=Issuing", false)]),
    ];
    for (after, expected) in cases {
        let found = with(after).crl_setbacks(&before);
        let found: Vec<_> = found.iter().map(|back| (back.issuer.as_str(), back.now.is_some())).collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn whom_one_ca_revokes_no_other_lets_in() {
    let root = Recipe::ca("Root").self_signed();
    let alice = Recipe::client("Alice").signed_by(&root);
    let list = root.crl(&CrlRecipe::listing(&serials(&[&alice])));
    let asking = || Setting::of("asking", &[&root]).with_crls(RevocationMode::Require, std::slice::from_ref(&list));
    let lax = || Setting::of("lax", &[&root]).with_crls(RevocationMode::Off, &[]);
    for (one, other) in [(asking(), lax()), (lax(), asking())] {
        let cas = one.cas.into_iter().chain(other.cas).collect();
        faulty(&[&alice], &Setting { cas, ..lax() }.trust(), NOW, &CertificateFault::Revoked);
    }
}

#[test]
fn a_list_is_stale_from_its_next_update_on() {
    let root = Recipe::ca("Root").self_signed();
    let alice = Recipe::client("Alice").signed_by(&root);
    let crl = root.crl(&CrlRecipe::listing(&[]).valid(NOW - DAY, NOW + DAY));
    let trust = Setting::of("staff", &[&root]).with_crls(RevocationMode::Require, &[crl]).trust();
    let verified = judge(&chain(&[&alice]), &trust, WallTime::from_seconds(NOW + DAY - 1)).unwrap();
    assert_eq!(verified.good_until(), WallTime::from_seconds(NOW + DAY), "it rests on the list");
    faulty(&[&alice], &trust, NOW + DAY, &CertificateFault::RevocationUnknown);
}

#[test]
fn what_rests_on_no_list_does_not_end_with_one() {
    let root = Recipe::ca("Root").self_signed();
    let alice = Recipe::client("Alice").signed_by(&root);
    let stale = root.crl(&CrlRecipe::listing(&[]).valid(NOW - 9 * DAY, NOW - DAY));
    let trust = Setting::of("staff", &[&root]).with_crls(RevocationMode::IfAvailable, &[stale]).trust();
    assert_eq!(good(&[&alice], &trust).good_until(), WallTime::from_seconds(NOW + 90 * DAY));
}

#[test]
fn a_revoked_intermediate_revokes_what_is_below_it() {
    let root = Recipe::ca("Root").self_signed();
    let issuing = Recipe::ca("Issuing").signed_by(&root);
    let alice = Recipe::client("Alice").signed_by(&issuing);
    let of_root = root.crl(&CrlRecipe::listing(&serials(&[&issuing])));
    let of_issuing = issuing.crl(&CrlRecipe::listing(&[]));
    let trust = Setting::of("staff", &[&root])
        .with_intermediates(&[&issuing])
        .with_crls(RevocationMode::Require, &[of_root, of_issuing])
        .trust();
    let rejection = judge(&chain(&[&alice]), &trust, now()).unwrap_err();
    assert_eq!(rejection.fault, CertificateFault::Revoked);
    let culprit = rejection.culprit.unwrap();
    assert_eq!((culprit.depth, culprit.subject.as_str()), (1, "CN=Issuing"));
}

#[test]
fn every_certificate_below_the_anchor_must_be_covered() {
    let root = Recipe::ca("Root").self_signed();
    let issuing = Recipe::ca("Issuing").signed_by(&root);
    let alice = Recipe::client("Alice").signed_by(&issuing);
    let of_root = root.crl(&CrlRecipe::listing(&[]));
    let of_issuing = issuing.crl(&CrlRecipe::listing(&[]).valid(NOW - DAY, NOW + 2 * DAY));
    let with = |crls: &[Vec<u8>]| {
        Setting::of("staff", &[&root]).with_intermediates(&[&issuing]).with_crls(RevocationMode::Require, crls).trust()
    };
    faulty(&[&alice], &with(std::slice::from_ref(&of_root)), NOW, &CertificateFault::RevocationUnknown);
    faulty(&[&alice], &with(std::slice::from_ref(&of_issuing)), NOW, &CertificateFault::RevocationUnknown);
    let verified = good(&[&alice], &with(&[of_root, of_issuing]));
    assert_eq!(verified.good_until(), WallTime::from_seconds(NOW + 2 * DAY));
}

#[test]
fn the_log_names_the_list_that_is_missing() {
    let root = Recipe::ca("Root").self_signed();
    let issuing = Recipe::ca("Issuing").signed_by(&root);
    let alice = Recipe::client("Alice").signed_by(&issuing);
    let of_root = root.crl(&CrlRecipe::listing(&[]));
    let stale = issuing.crl(&CrlRecipe::listing(&[]).valid(NOW - 9 * DAY, NOW - 2 * DAY));
    let staler = issuing.crl(&CrlRecipe::listing(&[]).valid(NOW - 19 * DAY, NOW - 3 * DAY));
    let of_cas_only = scoped(&issuing, None, Some(CrlScope::CaCertsOnly), &[]);
    // Which lists are here, which certificate has none, what is said.
    let cases = [
        ("none", vec![], 0, "no CRL of CN=Issuing is here"),
        ("the issuing CA's only", vec![issuing.crl(&CrlRecipe::listing(&[]))], 1, "no CRL of CN=Root is here"),
        ("the root's only", vec![of_root.clone()], 0, "no CRL of CN=Issuing is here"),
        (
            "the other one is for CAs",
            vec![of_root.clone(), of_cas_only],
            0,
            "no CRL of CN=Issuing that is here covers it",
        ),
        // Files are named by their places: the second one here, which is the newest of two.
        (
            "the other ones are stale",
            vec![of_root, stale, staler],
            0,
            "the CRL of CN=Issuing (1.crl) is stale since 2027-01-13T08:00:00Z",
        ),
    ];
    for (name, crls, depth, lacks) in cases {
        let setting =
            Setting::of("staff", &[&root]).with_intermediates(&[&issuing]).with_crls(RevocationMode::Require, &crls);
        let rejection = judge(&chain(&[&alice]), &setting.trust(), now()).unwrap_err();
        let told = rejection.to_string();
        assert!(
            told.starts_with(&format!("revocation status unknown: {lacks}; client_ca \"staff\"")),
            "{name}: {told}"
        );
        assert_eq!(rejection.culprit.unwrap().depth, depth, "{name}");
    }
}

#[test]
fn an_intermediate_that_is_only_shown_signs_no_list() {
    let root = Recipe::ca("Root").self_signed();
    let issuing = Recipe::ca("Issuing").signed_by(&root);
    let of_issuing = issuing.crl(&CrlRecipe::listing(&[]));
    assert_eq!(faults(&[&root], &[of_issuing]), [CrlCause::UnknownIssuer { issuer: "CN=Issuing".into() }]);
}

#[test]
fn the_newest_list_of_an_issuer_counts_whatever_their_order() {
    let root = Recipe::ca("Root").self_signed();
    let alice = Recipe::client("Alice").signed_by(&root);
    let listed = serials(&[&alice]);
    let old = root.crl(&CrlRecipe::listing(&listed).valid(NOW - 3 * DAY, NOW + 9 * DAY));
    let new = root.crl(&CrlRecipe::listing(&[]).valid(NOW - DAY, NOW + 9 * DAY));
    let expired = root.crl(&CrlRecipe::listing(&listed).valid(NOW - 9 * DAY, NOW - DAY));
    for crls in [[old.clone(), new.clone(), expired.clone()], [expired, new, old]] {
        let trust = Setting::of("staff", &[&root]).with_crls(RevocationMode::Require, &crls).trust();
        good(&[&alice], &trust);
    }
}

#[test]
fn of_two_lists_of_one_moment_the_higher_number_counts() {
    let root = Recipe::ca("Root").self_signed();
    let alice = Recipe::client("Alice").signed_by(&root);
    let listed = serials(&[&alice]);
    // RFC 5280 §5.2.3: numbers have up to 20 octets.
    let longest = [0x7f; 12];
    for number_begins in [&[][..], &longest] {
        let first = root.crl(&CrlRecipe { number: 255, number_begins, ..CrlRecipe::listing(&[]) });
        let second = root.crl(&CrlRecipe { number: 256, number_begins, ..CrlRecipe::listing(&listed) });
        for crls in [[first.clone(), second.clone()], [second, first]] {
            let trust = Setting::of("staff", &[&root]).with_crls(RevocationMode::Require, &crls).trust();
            faulty(&[&alice], &trust, NOW, &CertificateFault::Revoked);
        }
    }
}

#[test]
fn a_forged_list_is_refused_when_loaded_and_troubles_nobody() {
    let root = Recipe::ca("Root").self_signed();
    let imitation = Recipe::ca("Root").self_signed();
    let alice = Recipe::client("Alice").signed_by(&root);
    let forged = imitation.crl(&CrlRecipe::listing(&serials(&[&alice])).valid(NOW, NOW + 9 * DAY));
    let true_list = root.crl(&CrlRecipe::listing(&[]));
    let cause = CrlCause::BadSignature { issuer: "CN=Root".into() };
    assert_eq!(faults(&[&root], &[forged.clone(), true_list.clone()]), [cause]);
    let trust = Setting::of("staff", &[&root]).with_crls(RevocationMode::Require, &[forged, true_list]).trust();
    good(&[&alice], &trust);
}

#[test]
fn a_changed_octet_of_a_list_is_never_taken() {
    let root = Recipe::ca("Root").self_signed();
    let alice = Recipe::client("Alice").signed_by(&root);
    let list = root.crl(&CrlRecipe::listing(&serials(&[&alice])));
    for at in 0..list.len() {
        let mut changed = list.clone();
        changed[at] ^= 0x01;
        assert_eq!(faults(&[&root], &[changed]).len(), 1, "octet {at}");
    }
}

#[test]
fn the_list_of_another_ca_is_refused_when_loaded() {
    let root = Recipe::ca("Root").self_signed();
    let other = Recipe::ca("Other").self_signed();
    let list = other.crl(&CrlRecipe::listing(&[]));
    assert_eq!(faults(&[&root], &[list]), [CrlCause::UnknownIssuer { issuer: "CN=Other".into() }]);
}

#[test]
fn the_list_of_an_older_key_says_nothing_of_the_newer_keys_certificates() {
    let old = Recipe::ca("Root").self_signed();
    let new = Recipe::ca("Root").self_signed();
    let alice = Recipe::client("Alice").serial(&[7]).signed_by(&new);
    let of_old = old.crl(&CrlRecipe::listing(&[vec![7]]));
    let with = |crls: &[Vec<u8>]| Setting::of("staff", &[&old, &new]).with_crls(RevocationMode::Require, crls).trust();
    faulty(&[&alice], &with(std::slice::from_ref(&of_old)), NOW, &CertificateFault::RevocationUnknown);
    good(&[&alice], &with(&[of_old, new.crl(&CrlRecipe::listing(&[]))]));
}

#[test]
fn one_cas_bad_list_is_that_cas_trouble_only() {
    let one = Recipe::ca("One").self_signed();
    let other = Recipe::ca("Other").self_signed();
    let alice = Recipe::client("Alice").signed_by(&one);
    let bob = Recipe::client("Bob").signed_by(&other);
    let trust = Setting::of("one", &[&one])
        .with_crls(RevocationMode::Require, &[b"junk".to_vec()])
        .and("other", &[&other])
        .with_crls(RevocationMode::Require, &[other.crl(&CrlRecipe::listing(&[]))])
        .trust();
    faulty(&[&alice], &trust, NOW, &CertificateFault::RevocationUnknown);
    good(&[&bob], &trust);
}

#[test]
fn a_pin_does_not_bring_back_what_is_revoked_or_unknown() {
    let root = Recipe::ca("Root").self_signed();
    let alice = Recipe::client("Alice").signed_by(&root);
    let list = root.crl(&CrlRecipe::listing(&serials(&[&alice])));
    let setting = || Setting::of("staff", &[&root]);
    let revoked =
        setting().with_crls(RevocationMode::Require, std::slice::from_ref(&list)).pinning(&[&alice], &[]).trust();
    faulty(&[&alice], &revoked, NOW, &CertificateFault::Revoked);
    let unknown = setting().with_crls(RevocationMode::Require, &[]).pinning(&[&alice], &[]).trust();
    faulty(&[&alice], &unknown, NOW, &CertificateFault::RevocationUnknown);
    // Nor what has no path (for another purpose here), and is listed nevertheless.
    let printer = Recipe::client("Printer").purposes(&[]).signed_by(&root);
    let list = root.crl(&CrlRecipe::listing(&serials(&[&printer])));
    let trust = setting().with_crls(RevocationMode::Require, &[list]).pinning(&[&printer], &[&printer]).trust();
    faulty(&[&printer], &trust, NOW, &CertificateFault::Revoked);
}

#[test]
fn a_second_path_around_a_revoked_intermediate_is_taken() {
    let root = Recipe::ca("Root").self_signed();
    let key = KeyPair::generate().unwrap();
    let again = KeyPair::from_pem(&key.serialize_pem()).unwrap();
    let first = Recipe::ca("Issuing").with_key(key, Some(&root));
    let second = Recipe::ca("Issuing").with_key(again, Some(&root));
    let alice = Recipe::client("Alice").signed_by(&first);
    let crls = [root.crl(&CrlRecipe::listing(&serials(&[&first]))), first.crl(&CrlRecipe::listing(&[]))];
    let trust = Setting::of("staff", &[&root])
        .with_intermediates(&[&first, &second])
        .with_crls(RevocationMode::Require, &crls)
        .trust();
    assert_eq!(good(&[&alice], &trust).certificates()[1], second.der);
}

#[test]
fn lists_are_read_as_der_and_as_pem() {
    let root = Recipe::ca("Root").self_signed();
    let alice = Recipe::client("Alice").signed_by(&root);
    let list = root.crl(&CrlRecipe::listing(&serials(&[&alice])));
    let pem = super::super::super::recipe::pem("X509 CRL", &list).into_bytes();
    for octets in [list, pem] {
        let trust = Setting::of("staff", &[&root]).with_crls(RevocationMode::Require, &[octets]).trust();
        faulty(&[&alice], &trust, NOW, &CertificateFault::Revoked);
    }
}

#[test]
fn lists_signed_by_every_common_kind_of_key_are_taken() {
    for algorithm in
        [&rcgen::PKCS_RSA_SHA256, &rcgen::PKCS_RSA_SHA512, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519]
    {
        let root = Recipe::ca("Root").key(algorithm).self_signed();
        let alice = Recipe::client("Alice").signed_by(&root);
        let list = root.crl(&CrlRecipe::listing(&serials(&[&alice])));
        let trust = Setting::of("staff", &[&root]).with_crls(RevocationMode::Require, &[list]).trust();
        faulty(&[&alice], &trust, NOW, &CertificateFault::Revoked);
    }
}

#[test]
fn a_long_list_is_looked_up_and_not_walked() {
    let root = Recipe::ca("Root").self_signed();
    let listed: Vec<Vec<u8>> =
        (1..=20_000_u32).rev().map(|number| [vec![0x40], number.to_be_bytes().to_vec()].concat()).collect();
    let list = root.crl(&CrlRecipe::listing(&listed));
    let alice = Recipe::client("Alice").signed_by(&root);
    let mallory = Recipe::client("Mallory").serial(&listed[12_345]).signed_by(&root);
    let trust = Setting::of("staff", &[&root]).with_crls(RevocationMode::Require, &[list]).trust();
    assert_eq!(trust.cas()[0].revoked(), 20_000);
    good(&[&alice], &trust);
    faulty(&[&mallory], &trust, NOW, &CertificateFault::Revoked);
}

#[test]
fn lists_of_kinds_that_are_not_supported_are_refused_with_the_reason() {
    let root = Recipe::ca("Root").self_signed();
    let oid = |last: u8| vec![0x55, 0x1d, last];
    let point = |field: Vec<u8>| Some((oid(28), true, der(0x30, &field)));
    let next = Some(NOW + DAY);
    #[rustfmt::skip]
    let cases = [
        (RawCrl { next, ..RawCrl::default() }, None),
        (RawCrl { next: None, ..RawCrl::default() }, Some(CrlCause::NoNextUpdate)),
        (RawCrl { next, extension: Some((oid(27), true, der(0x02, &[1]))), entry: None }, Some(CrlCause::DeltaWithoutBase)),
        (RawCrl { next, extension: Some((oid(27), false, der(0x02, &[1]))), entry: None }, Some(CrlCause::DeltaWithoutBase)),
        (RawCrl { next, extension: point(der(0x84, &[0xff])), entry: None }, Some(CrlCause::Indirect)),
        (RawCrl { next, extension: point(der(0x83, &[0, 0x60])), entry: None }, Some(CrlCause::SomeReasons)),
        (RawCrl { next, extension: point(der(0x85, &[0xff])), entry: None }, Some(CrlCause::Attributes)),
        (RawCrl { next, extension: point(der(0xa0, &der(0xa1, &[]))), entry: None }, Some(CrlCause::RelativePoint)),
        (RawCrl { next, extension: point(der(0x9f, &[])), entry: None }, Some(CrlCause::Malformed)),
        (RawCrl { next, extension: point(der(0x81, &[0xff])), entry: None }, None),
        (RawCrl { next, extension: Some((oid(28), true, vec![5, 0])), entry: None }, Some(CrlCause::Malformed)),
        (RawCrl { next, extension: Some((oid(99), false, vec![5, 0])), entry: None }, None),
        (RawCrl { next, extension: Some((oid(99), true, vec![5, 0])), entry: None },
            Some(CrlCause::UnknownCritical { oid: "2.5.29.99".into() })),
        (RawCrl { next, extension: None, entry: Some((oid(29), true, der(0x30, &[]))) }, Some(CrlCause::Indirect)),
        (RawCrl { next, extension: None, entry: Some((oid(99), true, vec![5, 0])) },
            Some(CrlCause::UnknownCritical { oid: "2.5.29.99".into() })),
        (RawCrl { next, extension: None, entry: Some((oid(21), true, der(0x0a, &[1]))) }, None),
    ];
    for (number, (raw, cause)) in cases.into_iter().enumerate() {
        assert_eq!(faults(&[&root], &[raw.signed_by(&root)]), Vec::from_iter(cause), "case {number}");
    }
}

/// A list for one distribution point, or for a kind of certificates.
fn scoped(root: &Made, uri: Option<&str>, scope: Option<CrlScope>, revoked: &[Vec<u8>]) -> Vec<u8> {
    let uris = vec![uri.unwrap_or_default().to_owned()];
    let point = CrlIssuingDistributionPoint { distribution_point: CrlDistributionPoint { uris }, scope };
    root.crl(&CrlRecipe { point: Some(point), ..CrlRecipe::listing(revoked) })
}

#[test]
fn a_list_for_a_part_of_the_certificates_covers_that_part_only() {
    let root = Recipe::ca("Root").self_signed();
    let issuing = Recipe::ca("Issuing").signed_by(&root);
    let at = |uri: &str| Recipe::client("Alice").crl_point(uri).signed_by(&root);
    let (first, second) = (at("http://crl.example.com/1"), at("http://crl.example.com/2"));
    let without = Recipe::client("Alice").signed_by(&root);
    let users =
        |revoked: &[Vec<u8>]| scoped(&root, Some("http://crl.example.com/1"), Some(CrlScope::UserCertsOnly), revoked);
    let cas = scoped(&root, Some("http://crl.example.com/1"), Some(CrlScope::CaCertsOnly), &[]);
    let of_first = scoped(&root, Some("http://crl.example.com/1"), None, &[]);
    let kind = |tag: u8| {
        let point = der(0x30, &der(tag, &[0xff]));
        RawCrl { next: Some(NOW + DAY), extension: Some((vec![0x55, 0x1d, 28], true, point)), entry: None }
            .signed_by(&root)
    };
    // The same point, for some reasons only, and for another issuer's list.
    let partly = |tag: u8, content: &[u8]| {
        let name = der(0xa0, &der(0xa0, &der(0x86, b"http://crl.example.com/1")));
        let point = der(0x30, &der(0x30, &[name, der(tag, content)].concat()));
        Recipe::client("Alice").extension(&[2, 5, 29, 31], false, point).signed_by(&root)
    };
    let (some_reasons, other_issuer) = (partly(0x81, &[1, 0x60]), partly(0xa2, &der(0xa4, &der(0x30, &[]))));
    let unknown = Some(CertificateFault::RevocationUnknown);
    let revoked = Some(CertificateFault::Revoked);
    #[rustfmt::skip]
    let cases = [
        ("its point, for some reasons", vec![of_first.clone()], &some_reasons, unknown.clone()),
        ("its point, of another issuer", vec![of_first.clone()], &other_issuer, unknown.clone()),
        ("its own point", vec![of_first.clone()], &first, None),
        ("another point", vec![of_first.clone()], &second, unknown.clone()),
        ("a certificate without a point", vec![of_first.clone()], &without, unknown.clone()),
        ("its point, users", vec![users(&[])], &first, None),
        ("its point, CAs", vec![cas.clone()], &first, unknown.clone()),
        ("all users", vec![kind(0x81)], &without, None),
        ("all CAs", vec![kind(0x82)], &without, unknown.clone()),
        ("two lists, one covers", vec![cas.clone(), of_first.clone()], &first, None),
        ("listed by what does not cover", vec![users(&serials(&[&second])), kind(0x81)], &second, revoked),
        ("a complete one beside", vec![of_first, root.crl(&CrlRecipe::listing(&[]))], &second, None),
    ];
    for (name, crls, made, fault) in cases {
        let trust = Setting::of("staff", &[&root]).with_crls(RevocationMode::Require, &crls).trust();
        let judged = judge(&chain(&[made]), &trust, now()).map_err(|rejection| rejection.fault);
        assert_eq!(judged.err(), fault, "{name}");
    }
    // A list of CAs covers the intermediate, a list of users the leaf: together the chain.
    let alice = Recipe::client("Alice").signed_by(&issuing);
    let own = issuing.crl(&CrlRecipe::listing(&[]));
    for (tag, fault) in [(0x82, None), (0x81, unknown)] {
        let trust = Setting::of("staff", &[&root])
            .with_intermediates(&[&issuing])
            .with_crls(RevocationMode::Require, &[kind(tag), own.clone()])
            .trust();
        let judged = judge(&chain(&[&alice]), &trust, now()).map_err(|rejection| rejection.fault);
        assert_eq!(judged.err(), fault);
    }
}

#[test]
fn a_delta_counts_on_top_of_its_base() {
    let root = Recipe::ca("Root").self_signed();
    let alice = Recipe::client("Alice").serial(&[1]).signed_by(&root);
    let bob = Recipe::client("Bob").serial(&[2]).signed_by(&root);
    let base = |number: u64| root.crl(&CrlRecipe { number, ..CrlRecipe::listing(&serials(&[&bob])) });
    // Lists 1, since base number 5.
    let delta = RawCrl::delta(7, 5, None).signed_by(&root);
    let said = |crls: &[Vec<u8>], made: &Made| {
        let trust = Setting::of("staff", &[&root]).with_crls(RevocationMode::Require, crls).trust();
        judge(&chain(&[made]), &trust, now()).map_err(|rejection| rejection.fault).err()
    };
    let revoked = Some(CertificateFault::Revoked);
    for crls in [[base(5), delta.clone()], [delta.clone(), base(6)]] {
        assert_eq!((said(&crls, &alice), said(&crls, &bob)), (revoked.clone(), revoked.clone()));
        assert_eq!(faults(&[&root], &crls), []);
    }
    // A base from before the delta's own: what lies between is in neither.
    assert_eq!(faults(&[&root], &[base(4), delta.clone()]), [CrlCause::DeltaWithoutBase]);
    // A complete list that is newer knows better.
    assert_eq!(said(&[base(7), delta.clone()], &alice), None);
    // removeFromCRL: no longer on hold. In a complete list it means nothing: listed is revoked.
    let hold = RawCrl { next: Some(NOW + DAY), extension: Some(number_extension(5)), entry: Some(reason(6)) };
    let lifted = RawCrl::delta(7, 5, Some(8)).signed_by(&root);
    assert_eq!(said(&[hold.signed_by(&root)], &alice), revoked);
    assert_eq!(said(&[hold.signed_by(&root), lifted], &alice), None);
    let odd = RawCrl { next: Some(NOW + DAY), extension: None, entry: Some(reason(8)) };
    assert_eq!(said(&[odd.signed_by(&root)], &alice), revoked);
    // A fresh delta does not make a stale base fresh.
    let stale = root.crl(&CrlRecipe { number: 5, ..CrlRecipe::listing(&[]).valid(NOW - 9 * DAY, NOW - DAY) });
    assert_eq!(
        said(&[stale, delta], &Recipe::client("Zoe").serial(&[9]).signed_by(&root)),
        Some(CertificateFault::RevocationUnknown)
    );
}

#[test]
fn a_stale_list_vouches_for_its_grace_and_no_longer() {
    let root = Recipe::ca("Root").self_signed();
    let alice = Recipe::client("Alice").signed_by(&root);
    let bob = Recipe::client("Bob").signed_by(&root);
    let stale = root.crl(&CrlRecipe::listing(&serials(&[&bob])).valid(NOW - 9 * DAY, NOW - DAY));
    let mut setting = Setting::of("staff", &[&root]).with_crls(RevocationMode::Require, &[stale]);
    setting.cas[0].crl_grace = Duration::from_secs(2 * 86_400);
    let trust = setting.trust();
    assert_eq!(good(&[&alice], &trust).good_until(), WallTime::from_seconds(NOW + DAY));
    faulty(&[&alice], &trust, NOW + DAY, &CertificateFault::RevocationUnknown);
    faulty(&[&bob], &trust, NOW, &CertificateFault::Revoked);
    faulty(&[&bob], &trust, NOW + 9 * DAY, &CertificateFault::Revoked);
    // While it is fresh, grace is no matter.
    let verified = judge(&chain(&[&alice]), &trust, WallTime::from_seconds(NOW - 2 * DAY));
    assert!(verified.is_err(), "alice is from yesterday on");
    let facts = trust.cas()[0].crl_facts();
    assert_eq!((facts.len(), facts[0].next_update, facts[0].revoked), (1, WallTime::from_seconds(NOW - DAY), 1));
}

fn number_extension(number: u8) -> RawExtension {
    (vec![0x55, 0x1d, 20], false, der(0x02, &[number]))
}

fn reason(code: u8) -> RawExtension {
    (vec![0x55, 0x1d, 21], false, der(0x0a, &[code]))
}

#[test]
fn the_issuer_must_be_allowed_to_sign_lists() {
    let root = Recipe::ca("Root").usages(&[Usages::KeyCertSign]).self_signed();
    let list = RawCrl { next: Some(NOW + DAY), ..RawCrl::default() }.signed_by(&root);
    assert_eq!(faults(&[&root], &[list]), [CrlCause::NotACrlSigner]);
}

#[test]
fn what_is_no_list_is_refused_with_a_remedy() {
    let root = Recipe::ca("Root").self_signed();
    for (octets, said) in [
        (vec![], "empty"),
        (b"junk".to_vec(), "-----BEGIN X509 CRL-----"),
        (root.pem().into_bytes(), "-----BEGIN X509 CRL-----"),
        (root.der.to_vec(), "no CRL"),
        (vec![0x30, 0x03, 1, 2, 3], "no CRL"),
        (b"-----BEGIN X509 CRL-----\nMII".to_vec(), "damaged"),
    ] {
        let found = faults(&[&root], &[octets]);
        assert!(matches!(found.as_slice(), [cause] if cause.to_string().contains(said)), "{said}: {found:?}");
    }
}

#[test]
fn only_a_complete_list_of_the_same_name_and_scope_stands_for_another() {
    let (root, renewed) = (Recipe::ca("Root").self_signed(), Recipe::ca("Root").self_signed());
    let other = Recipe::ca("Other").self_signed();
    let ca = ClientCa::new(Setting::of("staff", &[&root, &renewed, &other]).cas.remove(0)).unwrap().0;
    let complete = ca.read_crl(&root.crl(&CrlRecipe::listing(&[]))).unwrap();
    let newer = ca.read_crl(&root.crl(&CrlRecipe { number: 9, ..CrlRecipe::listing(&[]) })).unwrap();
    let delta = ca.read_crl(&RawCrl::delta(9, 1, None).signed_by(&root)).unwrap();
    assert!(newer.stands_for(&complete) && !delta.stands_for(&complete) && delta.stands_for(&delta));
    let of_a_new_key = ca.read_crl(&renewed.crl(&CrlRecipe::listing(&[]))).unwrap();
    let of_another = ca.read_crl(&other.crl(&CrlRecipe::listing(&[]))).unwrap();
    let of_users = ca.read_crl(&scoped(&root, None, Some(CrlScope::UserCertsOnly), &[])).unwrap();
    assert!(of_a_new_key.stands_for(&complete) && !of_another.stands_for(&complete));
    assert!(!of_users.stands_for(&complete) && of_users.stands_for(&of_users));
}

/// An OID's content octets, critical, value.
type RawExtension = (Vec<u8>, bool, Vec<u8>);

/// A CRL that rcgen would not make.
#[derive(Default)]
struct RawCrl {
    next: Option<i64>,
    extension: Option<RawExtension>,
    entry: Option<RawExtension>,
}

impl RawCrl {
    /// A delta of this number since that base, listing serial 1.
    fn delta(number: u8, base: u8, reason_code: Option<u8>) -> RawDelta {
        RawDelta { number, base, reason_code }
    }

    /// RFC 5280 §5.1: version 2, ecdsa-with-SHA256, one certificate listed.
    fn signed_by(&self, ca: &Made) -> Vec<u8> {
        self.with_extensions(ca, self.extension.as_slice())
    }

    fn with_extensions(&self, ca: &Made, list_extensions: &[RawExtension]) -> Vec<u8> {
        self.with_algorithm_inside(ca, list_extensions, ECDSA_WITH_SHA256)
    }

    /// The one outside is always ecdsa-with-SHA256, which it is signed by.
    fn with_algorithm_inside(&self, ca: &Made, list_extensions: &[RawExtension], inside: &[u8]) -> Vec<u8> {
        let [algorithm, inside] = [ECDSA_WITH_SHA256, inside].map(|oid| der(0x30, &der(0x06, oid)));
        let issuer = View::of(&ca.der).unwrap().subject;
        let extension = |(oid, critical, value): &RawExtension| {
            let critical = if *critical { der(0x01, &[0xff]) } else { Vec::new() };
            der(0x30, &[der(0x06, oid), critical, der(0x04, value)].concat())
        };
        let extensions =
            |one: &Option<RawExtension>| one.as_ref().map(|one| der(0x30, &extension(one))).unwrap_or_default();
        let date = time(NOW - DAY);
        let entry = der(0x30, &[der(0x02, &[1]), date.clone(), extensions(&self.entry)].concat());
        let behind = match list_extensions {
            [] => Vec::new(),
            some => der(0xa0, &der(0x30, &some.iter().flat_map(extension).collect::<Vec<u8>>())),
        };
        let next = self.next.map(time).unwrap_or_default();
        let list = [der(0x02, &[1]), inside, issuer, date, next, der(0x30, &entry), behind].concat();
        let signed = der(0x30, &list);
        let issuer: Issuer<'_, &KeyPair> = ca.issuer();
        let signature = issuer.key().sign(&signed).unwrap();
        der(0x30, &[signed, algorithm, der(0x03, &[vec![0], signature].concat())].concat())
    }
}

struct RawDelta {
    number: u8,
    base: u8,
    reason_code: Option<u8>,
}

impl RawDelta {
    fn signed_by(&self, ca: &Made) -> Vec<u8> {
        let indicator = (vec![0x55, 0x1d, 27], true, der(0x02, &[self.base]));
        let raw = RawCrl { next: Some(NOW + DAY), extension: None, entry: self.reason_code.map(reason) };
        raw.with_extensions(ca, &[number_extension(self.number), indicator])
    }
}

const ECDSA_WITH_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const ECDSA_WITH_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03];

/// RFC 5280 §5.1.1.2 and §4.2: though it is signed, and each part by itself is one that counts.
#[test]
fn a_list_that_says_two_things_of_itself_is_refused() {
    let root = Recipe::ca("Root").self_signed();
    let raw = RawCrl { next: Some(NOW + DAY), ..RawCrl::default() };
    let twice = [number_extension(1), number_extension(2)];
    let once = &twice[..1];
    let malformed = &[CrlCause::Malformed][..];
    for (claim, list, causes) in [
        ("as it should be", raw.with_algorithm_inside(&root, once, ECDSA_WITH_SHA256), &[][..]),
        ("another algorithm inside", raw.with_algorithm_inside(&root, once, ECDSA_WITH_SHA384), malformed),
        ("two numbers", raw.with_extensions(&root, &twice), malformed),
    ] {
        assert_eq!(faults(&[&root], &[list]), causes, "{claim}");
    }
}

/// GeneralizedTime.
fn time(seconds: i64) -> Vec<u8> {
    let text = WallTime::from_seconds(seconds).rfc3339();
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    der(0x18, format!("{digits}Z").as_bytes())
}

#[test]
fn what_is_kept_of_a_chain_is_found_on_the_lists_of_its_issuers_and_on_no_other() {
    let root = Recipe::ca("Root").self_signed();
    let issuing = Recipe::ca("Issuing").signed_by(&root);
    let namesake = Recipe::ca("Issuing").signed_by(&root);
    let alice = Recipe::client("Alice").signed_by(&issuing);
    let with = |revocation, crls: &[Vec<u8>]| {
        let setting = Setting::of("staff", &[&root]).with_intermediates(&[&issuing, &namesake]);
        setting.with_crls(revocation, crls).trust()
    };
    let verified = good(&[&alice], &with(RevocationMode::Off, &[]));
    let links = CertificateFacts::of_chain(&verified).unwrap().summary.links;
    assert_eq!(links.len(), 2);
    let listing = |ca: &Made, listed: &[&Made]| ca.crl(&CrlRecipe::listing(&serials(listed)));
    let cases = [
        (listing(&issuing, &[&alice]), Some(0)),
        (listing(&root, &[&issuing]), Some(1)),
        (listing(&issuing, &[]), None),
        // The same name and serial, another key: another certificate.
        (listing(&namesake, &[&alice]), None),
        (listing(&root, &[&alice]), None),
    ];
    for (number, (list, place)) in cases.into_iter().enumerate() {
        let trust = |mode| with(mode, std::slice::from_ref(&list));
        assert_eq!(trust(RevocationMode::IfAvailable).revoked(&links), place, "case {number}");
        assert_eq!(trust(RevocationMode::Off).revoked(&links), None, "case {number}: lists are not asked");
    }
}

#[test]
fn a_pinned_certificate_is_found_on_any_list_under_its_issuers_name() {
    let root = Recipe::ca("Root").self_signed();
    let printer = Recipe::client("Printer").signed_by(&root);
    let pinned = Setting::of("staff", &[&Recipe::ca("Other").self_signed()]).pinning(&[&printer], &[]).trust();
    let links = CertificateFacts::of_chain(&good(&[&printer], &pinned)).unwrap().summary.links;
    let of = |listed: &[&Made]| {
        let crls = [root.crl(&CrlRecipe::listing(&serials(listed)))];
        Setting::of("staff", &[&root]).with_crls(RevocationMode::IfAvailable, &crls).trust()
    };
    assert_eq!(of(&[&printer]).revoked(&links), Some(0));
    assert_eq!(of(&[]).revoked(&links), None);
}
