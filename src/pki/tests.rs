//! What the authority makes, read by other libraries than the one that wrote it.

#![expect(clippy::disallowed_methods, reason = "tests look at the files that were made")]

use std::os::unix::fs::PermissionsExt as _;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;

use super::*;
use crate::sys::{SeededEntropy, WallTime};

/// 2026-11-24T01:48:00Z
const NOW: WallTime = WallTime::from_seconds(1_795_484_880);

fn entropy() -> SeededEntropy {
    SeededEntropy::new(7)
}

fn folder(path: &Path) -> Folder {
    Folder::create(path, &plan(None), NOW, &entropy()).unwrap()
}

/// With an issuing CA.
fn tiered(path: &Path) -> Folder {
    Folder::create(path, &plan(Some(Validity::days(NOW, ISSUING_DAYS))), NOW, &entropy()).unwrap()
}

fn plan(issuing: Option<Validity>) -> Plan {
    Plan { name: "test CA".into(), root: Validity::days(NOW, ROOT_DAYS), issuing }
}

fn renewal(key: RenewedKey, revoke_old: Option<WallTime>) -> Renewal {
    Renewal { validity: Validity::days(NOW, 180), key, bundle: None, revoke_old }
}

fn bundle(age: Age, password: &str) -> Option<Bundle> {
    Some(Bundle { age, password: password.into() })
}

fn revoke(folder: &mut Folder, which: &str, reason: Reason) -> Result<(), PkiError> {
    let entries = folder.unrevoked(which)?;
    folder.revoke(&entries, reason, NOW, None)
}

fn public_key(certificate: &CertificateDer<'_>) -> Vec<u8> {
    x509_parser::parse_x509_certificate(certificate).unwrap().1.public_key().raw.to_vec()
}

fn person(email: &str, name: &str) -> Given {
    Given {
        name: Some(name.to_owned()),
        bearer: Bearer::Person { emails: vec![email.to_owned()], common_name: None },
        validity: Validity::days(NOW, 90),
        key: KeySource::New(KeyKind::P256),
        bundle: None,
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn read_crl(path: &Path) -> (u64, i64, i64, usize) {
    let der = CertificateRevocationListDer::from_pem_file(path).unwrap();
    let (_, list) = CertificateRevocationList::from_der(&der).unwrap();
    let number = list.crl_number().unwrap().to_string().parse().unwrap();
    let (this, next) = (list.last_update().timestamp(), list.next_update().unwrap().timestamp());
    (number, this, next, list.iter_revoked_certificates().count())
}

#[test]
fn a_persons_certificate_holds_the_address_and_is_signed_by_the_authority() {
    let dir = tempfile::tempdir().unwrap();
    let mut folder = folder(&dir.path().join("pki"));
    let made = folder.issue(&person("alice@example.com", "alice"), &SeededEntropy::new(1)).unwrap();
    let (_, leaf) = x509_parser::parse_x509_certificate(&made.issued.certificate).unwrap();
    let (_, root) = x509_parser::parse_x509_certificate(folder.authority().certificate()).unwrap();
    leaf.verify_signature(Some(root.public_key())).unwrap();
    assert!(root.is_ca() && !leaf.is_ca());
    let names = &leaf.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(names.as_slice(), [GeneralName::RFC822Name("alice@example.com")]);
    assert!(leaf.extended_key_usage().unwrap().unwrap().value.client_auth);
    assert_eq!(leaf.validity().not_after.timestamp(), NOW.seconds() + 90 * 86_400);
    assert!(leaf.validity().not_before.timestamp() < NOW.seconds());
}

#[test]
fn keys_are_the_owners_alone_and_nothing_is_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pki");
    let mut folder = folder(&path);
    let made =
        folder.issue(&Given { bundle: bundle(Age::Modern, "p"), ..person("a@example.com", "a") }, &entropy()).unwrap();
    assert_eq!(
        [mode(&path), mode(&path.join("ca.key")), mode(made.key.as_ref().unwrap()), mode(&made.pkcs12.unwrap())],
        [0o700, 0o600, 0o600, 0o600]
    );
    let key = made.key.unwrap();
    let before = std::fs::read(&key).unwrap();
    assert!(matches!(folder.issue(&person("a@example.com", "a"), &entropy()), Err(PkiError::Exists(_))));
    assert_eq!(std::fs::read(&key).unwrap(), before);
    drop(folder);
    let again = Folder::create(&path, &plan(None), NOW, &entropy());
    assert!(matches!(again, Err(PkiError::AuthorityExists(_))));
}

#[test]
fn a_revoked_certificate_stands_in_the_next_crl_and_its_number_grows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pki");
    let mut folder = folder(&path);
    let crl = path.join("ca.crl");
    let made = folder.issue(&person("alice@example.com", "alice"), &SeededEntropy::new(3)).unwrap();
    let (number, this, next, revoked) = read_crl(&crl);
    assert_eq!((number, next - NOW.seconds(), revoked), (1, 30 * 86_400, 0));
    assert!(this <= NOW.seconds());
    revoke(&mut folder, "alice", Reason::KeyCompromise).unwrap();
    let (number, _, next, revoked) = read_crl(&crl);
    assert_eq!((number, next - NOW.seconds(), revoked), (2, 30 * 86_400, 1));
    let der = CertificateRevocationListDer::from_pem_file(&crl).unwrap();
    let (_, list) = CertificateRevocationList::from_der(&der).unwrap();
    let (_, leaf) = x509_parser::parse_x509_certificate(&made.issued.certificate).unwrap();
    assert_eq!(list.iter_revoked_certificates().next().unwrap().raw_serial(), leaf.raw_serial());
    let (_, root) = x509_parser::parse_x509_certificate(folder.authority().certificate()).unwrap();
    list.verify_signature(root.public_key()).unwrap();
    assert!(matches!(revoke(&mut folder, "alice", Reason::Unspecified), Err(PkiError::AlreadyRevoked(_))));
    assert!(matches!(revoke(&mut folder, "nobody", Reason::Unspecified), Err(PkiError::Unknown(_))));
}

#[test]
fn a_folder_opened_again_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pki");
    let root = folder(&path).authority().certificate().clone();
    let mut folder = Folder::open(&path).unwrap();
    assert_eq!(folder.authority().certificate(), &root);
    let made = folder.issue(&person("alice@example.com", "alice"), &SeededEntropy::new(5)).unwrap();
    let (_, leaf) = x509_parser::parse_x509_certificate(&made.issued.certificate).unwrap();
    let (_, root) = x509_parser::parse_x509_certificate(&root).unwrap();
    leaf.verify_signature(Some(root.public_key())).unwrap();
    assert_eq!(leaf.issuer().as_raw(), root.subject().as_raw());
    drop(folder);
    let folder = Folder::open(&path).unwrap();
    assert_eq!(folder.index().find("alice").unwrap(), &made.issued.entry);
    assert_eq!(folder.index().find("alice").unwrap().days_left(NOW), Some(90));
}

#[test]
fn a_renewed_server_has_no_pkcs12_file_either() {
    let dir = tempfile::tempdir().unwrap();
    let mut folder = folder(&dir.path().join("pki"));
    let bearer = Bearer::Server { names: vec!["mail.example.com".to_owned()] };
    folder.issue(&Given { bearer, ..person("a@example.com", "server") }, &entropy()).unwrap();
    folder.issue(&Given { bundle: bundle(Age::Modern, "p"), ..person("a@example.com", "a") }, &entropy()).unwrap();
    for (which, has) in [("server", false), ("a", true)] {
        let renewal = Renewal { bundle: bundle(Age::Modern, "p"), ..renewal(RenewedKey::LikeOld, None) };
        let made = folder.renew(which, &renewal, &SeededEntropy::new(2)).unwrap();
        assert_eq!(made.pkcs12.is_some(), has, "{which}");
    }
}

#[test]
fn renewing_keeps_the_old_files_and_the_names() {
    let dir = tempfile::tempdir().unwrap();
    let mut folder = folder(&dir.path().join("pki"));
    let old = folder.issue(&person("alice@example.com", "alice"), &SeededEntropy::new(1)).unwrap();
    let serial = old.issued.entry.serial.clone();
    let new = folder.renew("alice", &renewal(RenewedKey::LikeOld, None), &SeededEntropy::new(2)).unwrap();
    assert_eq!(new.certificate, old.certificate);
    assert_ne!(new.issued.entry.serial, serial);
    assert_eq!(new.issued.entry.names, ["alice@example.com"]);
    assert_eq!(
        CertificateDer::from_pem_file(folder.file(&format!("alice-{serial}.pem"))).unwrap(),
        old.issued.certificate
    );
    assert!(folder.file(&format!("alice-{serial}.key")).exists());
    assert_ne!(public_key(&new.issued.certificate), public_key(&old.issued.certificate));
    assert_eq!(folder.index().find("alice").unwrap().serial, new.issued.entry.serial);
    assert_eq!(folder.index().find(&serial).unwrap().until, old.issued.entry.until);
}

#[test]
fn a_pkcs12_file_holds_key_certificate_and_authorities() {
    let dir = tempfile::tempdir().unwrap();
    let mut folder = tiered(&dir.path().join("pki"));
    for (name, age, key) in [("a", Age::Modern, KeyKind::P256), ("b", Age::Legacy, KeyKind::Ed25519)] {
        let key = KeySource::New(key);
        let given = Given { bundle: bundle(age, "open sesame"), key, ..person("alice@example.com", name) };
        let made = folder.issue(&given, &SeededEntropy::new(u64::from(name.as_bytes()[0]))).unwrap();
        let octets = std::fs::read(made.pkcs12.unwrap()).unwrap();
        let read =
            |password| p12_keystore::KeyStore::from_pkcs12(&octets, password, p12_keystore::Pkcs12ImportPolicy::Strict);
        assert!(read("wrong").is_err());
        let store = read("open sesame").unwrap();
        let (_, chain) = store.private_key_chain().unwrap();
        let root = CertificateDer::from_pem_file(folder.file("ca.pem")).unwrap();
        let certificates: Vec<&[u8]> = chain.certs().iter().map(p12_keystore::Certificate::as_der).collect();
        assert_eq!(certificates, [&*made.issued.certificate, &**folder.authority().certificate(), &*root]);
    }
}

#[test]
fn below_a_root_the_issuing_authority_signs_and_the_roots_key_may_be_away() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pki");
    let mut folder = tiered(&path);
    let away = dir.path().join("safe.key");
    std::fs::rename(path.join("ca.key"), &away).unwrap();
    let made = folder.issue(&person("alice@example.com", "alice"), &SeededEntropy::new(1)).unwrap();
    let chain: Vec<_> = CertificateDer::pem_file_iter(&made.certificate).unwrap().collect::<Result<_, _>>().unwrap();
    let root = CertificateDer::from_pem_file(path.join("ca.pem")).unwrap();
    let read = |der| x509_parser::parse_x509_certificate(der).unwrap().1;
    assert_eq!(chain.len(), 2);
    read(&chain[0]).verify_signature(Some(read(&chain[1]).public_key())).unwrap();
    read(&chain[1]).verify_signature(Some(read(&root).public_key())).unwrap();
    assert_ne!(read(&chain[1]).subject().as_raw(), read(&root).subject().as_raw());
    revoke(&mut folder, "alice@example.com", Reason::KeyCompromise).unwrap();
    assert_eq!((read_crl(&path.join("issuing.crl")).3, read_crl(&path.join("ca.crl")).3), (1, 0));
    assert!(matches!(folder.renew_root_crl(Validity::days(NOW, 9), None), Err(PkiError::RootKeyAway(_))));
    folder.renew_root_crl(Validity::days(NOW, 9), Some(&away)).unwrap();
    assert_eq!(read_crl(&path.join("ca.crl")).0, 2);
    let wrong = folder.renew_root_crl(Validity::days(NOW, 9), Some(&path.join("issuing.key")));
    assert!(matches!(wrong, Err(PkiError::ForeignKey)));
    drop(folder);
    assert_eq!(Folder::open(&path).unwrap().index().root_crl_number, 2);
}

#[test]
fn the_issuing_authority_is_renewed_with_its_key_and_revoked_by_the_root() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pki");
    let mut folder = tiered(&path);
    let made = folder.issue(&person("alice@example.com", "alice"), &SeededEntropy::new(1)).unwrap();
    let old = folder.authority().certificate().clone();
    folder.renew_issuing(Validity::days(NOW, 2000), None, &SeededEntropy::new(2)).unwrap();
    drop(folder);
    let mut folder = Folder::open(&path).unwrap();
    let new = folder.authority().certificate().clone();
    assert_ne!(new, old);
    assert_eq!(public_key(&new), public_key(&old));
    let (_, leaf) = x509_parser::parse_x509_certificate(&made.issued.certificate).unwrap();
    leaf.verify_signature(Some(x509_parser::parse_x509_certificate(&new).unwrap().1.public_key())).unwrap();
    assert!(matches!(folder.unrevoked("issuing").as_deref(), Ok([_, _])));
    revoke(&mut folder, "issuing", Reason::CaCompromise).unwrap();
    assert_eq!((read_crl(&path.join("ca.crl")).3, read_crl(&path.join("issuing.crl")).3), (2, 0));
}

#[test]
fn a_renewal_may_keep_the_key_and_revoke_what_was_before() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pki");
    let mut folder = folder(&path);
    for (at, kind) in [KeyKind::P256, KeyKind::Ed25519, KeyKind::Rsa].into_iter().enumerate() {
        let name = format!("x{at}");
        let given =
            Given { key: KeySource::New(kind), bundle: bundle(Age::Modern, "p"), ..person("a@example.com", &name) };
        let old = folder.issue(&given, &SeededEntropy::new(u64::try_from(at).unwrap())).unwrap();
        let same = folder.renew(&name, &renewal(RenewedKey::Same, None), &SeededEntropy::new(50)).unwrap();
        assert_eq!(public_key(&same.issued.certificate), public_key(&old.issued.certificate));
        // The old bundle does not stay where it would pass for the new one's.
        assert!(!old.pkcs12.unwrap().exists());
        assert!(folder.file(&format!("{name}-{}.p12", old.issued.entry.serial)).exists());
        let new = folder.renew(&name, &renewal(RenewedKey::LikeOld, Some(NOW)), &SeededEntropy::new(60)).unwrap();
        assert_ne!(public_key(&new.issued.certificate), public_key(&old.issued.certificate));
        assert_eq!(public_key(&new.issued.certificate).len(), public_key(&old.issued.certificate).len(), "{kind:?}");
        assert_eq!(read_crl(&path.join("ca.crl")).3, 2 * (at + 1));
        assert!(folder.index().find(&name).unwrap().revoked.is_none());
    }
}

#[test]
fn a_key_that_was_revoked_as_compromised_is_certified_by_no_renewal() {
    let dir = tempfile::tempdir().unwrap();
    let mut folder = folder(&dir.path().join("pki"));
    folder.issue(&person("a@example.com", "a"), &SeededEntropy::new(1)).unwrap();
    let entries = folder.unrevoked("a").unwrap();
    folder.revoke(&entries, Reason::KeyCompromise, NOW, None).unwrap();
    let same = folder.renew("a", &renewal(RenewedKey::Same, None), &SeededEntropy::new(2));
    assert!(matches!(same, Err(PkiError::Compromised(_))), "{same:?}");
    folder.renew("a", &renewal(RenewedKey::LikeOld, None), &SeededEntropy::new(3)).unwrap();
    folder.renew("a", &renewal(RenewedKey::Same, None), &SeededEntropy::new(4)).unwrap();
}

#[test]
fn a_name_a_serial_as_openssl_prints_it_and_a_file_all_name_a_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let mut folder = folder(&dir.path().join("pki"));
    let made = folder.issue(&person("alice@example.com", "alice"), &entropy()).unwrap();
    let serial = made.issued.entry.serial.to_ascii_uppercase();
    let colons: Vec<&str> = serial.as_bytes().chunks(2).map(|two| std::str::from_utf8(two).unwrap()).collect();
    let file = made.certificate.to_str().unwrap();
    for which in ["alice", "alice@example.com", &serial, &colons.join(":"), file] {
        assert_eq!(folder.unrevoked(which).unwrap(), std::slice::from_ref(&made.issued.entry), "{which}");
    }
    let foreign = dir.path().join("foreign.pem");
    let other = Authority::create("x", Validity::days(NOW, 10), &SeededEntropy::new(99)).unwrap();
    std::fs::write(&foreign, other.certificate_pem()).unwrap();
    assert!(matches!(folder.unrevoked(foreign.to_str().unwrap()), Err(PkiError::Unknown(_))));
}

#[test]
fn of_a_request_only_the_key_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let mut folder = folder(&dir.path().join("pki"));
    let pair = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["evil.example".to_owned()]).unwrap();
    // One that rcgen itself refuses to read.
    params.custom_extensions =
        vec![rcgen::CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 311, 20, 2], vec![4, 1, 0])];
    let text = params.serialize_request(&pair).unwrap().pem().unwrap();
    let request = Request::read(text.as_bytes()).unwrap();
    assert!(request.asked().iter().any(|name| name.contains("evil.example")), "{:?}", request.asked());
    let given = Given { key: KeySource::Request(request), ..person("alice@example.com", "alice") };
    let made = folder.issue(&given, &entropy()).unwrap();
    assert!(made.key.is_none() && !folder.file("alice.key").exists());
    let (_, leaf) = x509_parser::parse_x509_certificate(&made.issued.certificate).unwrap();
    let names = &leaf.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(names.as_slice(), [GeneralName::RFC822Name("alice@example.com")]);
    assert_eq!(leaf.public_key().raw, rcgen::PublicKeyData::subject_public_key_info(&pair));
    let renewed = folder.renew("alice", &renewal(RenewedKey::LikeOld, None), &SeededEntropy::new(8)).unwrap();
    assert_eq!(public_key(&renewed.issued.certificate), public_key(&made.issued.certificate));
    let newlines = text.replacen("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST", 2);
    assert!(Request::read(newlines.as_bytes()).is_ok());
}

#[test]
fn a_request_that_is_none_or_proves_nothing_is_refused() {
    let pair = rcgen::KeyPair::generate().unwrap();
    let mut forged = rcgen::CertificateParams::default().serialize_request(&pair).unwrap().der().to_vec();
    assert!(Request::read(&forged).is_ok());
    *forged.last_mut().unwrap() ^= 1;
    let certificate = Authority::create("x", Validity::days(NOW, 10), &entropy()).unwrap();
    let long = vec![b' '; REQUEST_MAX + 1];
    for octets in [&forged, certificate.certificate_pem().as_bytes(), b"", b"\x30\x00", &long] {
        assert!(matches!(Request::read(octets), Err(PkiError::Request(_))));
    }
}

#[test]
fn an_address_beyond_ascii_is_a_smtputf8mailbox_only_where_its_local_part_is() {
    let authority = Authority::create("x", Validity::days(NOW, 10), &entropy()).unwrap();
    let issue = |email: &str| {
        let bearer = Bearer::Person { emails: vec![email.into()], common_name: None };
        authority.issue("x", &bearer, Validity::days(NOW, 1), &entropy()).unwrap().certificate
    };
    let der = issue("jörg@köln.example");
    let (_, leaf) = x509_parser::parse_x509_certificate(&der).unwrap();
    match leaf.subject_alternative_name().unwrap().unwrap().value.general_names.as_slice() {
        [GeneralName::OtherName(oid, value)] => {
            assert_eq!(oid.to_id_string(), "1.3.6.1.5.5.7.8.9");
            let text = "jörg@xn--kln-sna.example".as_bytes();
            assert!(value.ends_with(text) && value[value.len() - text.len() - 2] == 0x0c, "{value:02x?}");
        }
        other => panic!("{other:?}"),
    }
    let der = issue("joe@köln.example");
    let (_, leaf) = x509_parser::parse_x509_certificate(&der).unwrap();
    let names = &leaf.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(names.as_slice(), [GeneralName::RFC822Name("joe@xn--kln-sna.example")]);
}

#[test]
fn serials_are_random_positive_and_of_one_length() {
    let authority = Authority::create("x", Validity::days(NOW, 10), &entropy()).unwrap();
    let bearer = Bearer::Server { names: vec!["localhost".into()] };
    let random = SeededEntropy::new(11);
    let mut serials: Vec<String> =
        (0..50).map(|_| authority.issue("x", &bearer, Validity::days(NOW, 1), &random).unwrap().entry.serial).collect();
    assert!(serials.iter().all(|serial| serial.len() == 32 && ('4'..='7').contains(&serial.chars().next().unwrap())));
    serials.sort();
    serials.dedup();
    assert_eq!(serials.len(), 50);
}

#[test]
fn names_that_no_certificate_may_carry_are_refused() {
    let authority = Authority::create("x", Validity::days(NOW, 10), &entropy()).unwrap();
    let validity = Validity::days(NOW, 1);
    let person = |email: &str| Bearer::Person { emails: vec![email.into()], common_name: None };
    let robot = |dns: &[&str], uris: &[&str]| Bearer::Robot {
        dns: dns.iter().map(ToString::to_string).collect(),
        uris: uris.iter().map(ToString::to_string).collect(),
    };
    let bad = [
        person("alice"),
        person("alice@[127.0.0.1]"),
        person("a@example.com\0"),
        robot(&["-x.example"], &[]),
        robot(&["a b.example"], &[]),
        robot(&[], &["no-scheme"]),
        robot(&[], &["spiffe://a b"]),
        robot(&["*.example.com"], &[]),
        robot(&[], &["spiffe://Example.com/a"]),
        robot(&[], &["spiffe://example.com/a", "spiffe://example.com/b"]),
        robot(&[], &[]),
        Bearer::Server { names: vec!["".into()] },
    ];
    for bearer in bad {
        assert!(authority.issue("x", &bearer, validity, &entropy()).is_err(), "{bearer:?}");
    }
    for bearer in
        [robot(&["a.example"], &["spiffe://a/b"]), Bearer::Server { names: vec!["*.a.example".into(), "::1".into()] }]
    {
        assert!(authority.issue("x", &bearer, validity, &entropy()).is_ok(), "{bearer:?}");
    }
}

#[test]
fn nothing_outlives_its_authority() {
    let authority = Authority::create("x", Validity::days(NOW, 10), &entropy()).unwrap();
    let bearer = Bearer::Server { names: vec!["localhost".into()] };
    assert!(matches!(
        authority.issue("x", &bearer, Validity::days(NOW, 11), &entropy()),
        Err(PkiError::BeyondAuthority(_))
    ));
}

#[test]
fn a_key_of_another_authority_is_refused() {
    let one = Authority::create("x", Validity::days(NOW, 10), &entropy()).unwrap();
    let other = Authority::create("x", Validity::days(NOW, 10), &entropy()).unwrap();
    assert!(Authority::load(one.certificate_pem(), &one.key_pem()).is_ok());
    assert!(Authority::load(one.certificate_pem(), &other.key_pem()).is_err());
}

#[test]
fn file_names_stay_in_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let mut folder = folder(&dir.path().join("pki"));
    for name in ["../evil", "", ".hidden", "-x", "ca", "issuing", "index", "change"] {
        let made = folder.issue(&person("a@example.com", name), &entropy());
        assert!(matches!(made, Err(PkiError::Name { .. })), "{name}");
    }
    let uri = Given {
        name: None,
        bearer: Bearer::Robot { dns: vec![], uris: vec!["spiffe://a/b".into()] },
        ..person("x@y.example", "x")
    };
    let made = folder.issue(&uri, &entropy()).unwrap();
    assert_eq!(made.key.unwrap().file_name().unwrap(), "spiffe___a_b.key");
}

#[test]
fn what_cannot_be_written_is_said_with_its_whole_path_and_a_remedy() {
    for (kind, words) in [
        (ErrorKind::PermissionDenied, "do this as the owner of the directory, or choose another with --dir"),
        (ErrorKind::ReadOnlyFilesystem, "choose another directory with --dir"),
        (ErrorKind::StorageFull, "make room there first"),
        (ErrorKind::NotADirectory, "choose another directory with --dir"),
    ] {
        let said = PkiError::Unwritten { path: "pki/index.lock".into(), fault: kind.into() }.to_string();
        let here = std::env::current_dir().unwrap().join("pki/index.lock");
        assert!(said.starts_with(&format!("{} can't be written: ", here.display())) && said.ends_with(words), "{said}");
    }
}
