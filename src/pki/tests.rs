//! What the authority makes, read by other libraries than the one that wrote it.

#![expect(clippy::disallowed_methods, reason = "tests look at the files that were made")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

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
    Folder::create(path, "test CA", Validity::days(NOW, ROOT_DAYS), NOW, &entropy()).unwrap()
}

fn person(email: &str, name: &str) -> Given {
    Given {
        name: Some(name.to_owned()),
        bearer: Bearer::Person { emails: vec![email.to_owned()], common_name: None },
        validity: Validity::days(NOW, 90),
        password: None,
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
    let made = folder.issue(&Given { password: Some("p".into()), ..person("a@example.com", "a") }, &entropy()).unwrap();
    assert_eq!(
        [mode(&path), mode(&path.join("ca.key")), mode(&made.key), mode(&made.pkcs12.unwrap())],
        [0o700, 0o600, 0o600, 0o600]
    );
    let before = std::fs::read(&made.key).unwrap();
    assert!(matches!(folder.issue(&person("a@example.com", "a"), &entropy()), Err(PkiError::Exists(_))));
    assert_eq!(std::fs::read(&made.key).unwrap(), before);
    drop(folder);
    let again = Folder::create(&path, "x", Validity::days(NOW, 1), NOW, &entropy());
    assert!(matches!(again, Err(PkiError::Exists(_))));
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
    folder.revoke("alice", Reason::KeyCompromise, NOW, Validity::days(NOW, 7)).unwrap();
    let (number, _, next, revoked) = read_crl(&crl);
    assert_eq!((number, next - NOW.seconds(), revoked), (2, 7 * 86_400, 1));
    let der = CertificateRevocationListDer::from_pem_file(&crl).unwrap();
    let (_, list) = CertificateRevocationList::from_der(&der).unwrap();
    let (_, leaf) = x509_parser::parse_x509_certificate(&made.issued.certificate).unwrap();
    assert_eq!(list.iter_revoked_certificates().next().unwrap().raw_serial(), leaf.raw_serial());
    let (_, root) = x509_parser::parse_x509_certificate(folder.authority().certificate()).unwrap();
    list.verify_signature(root.public_key()).unwrap();
    assert!(matches!(
        folder.revoke("alice", Reason::Unspecified, NOW, Validity::days(NOW, 7)),
        Err(PkiError::AlreadyRevoked(_))
    ));
    assert!(matches!(
        folder.revoke("nobody", Reason::Unspecified, NOW, Validity::days(NOW, 7)),
        Err(PkiError::Unknown(_))
    ));
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
fn renewing_keeps_the_old_files_and_the_names() {
    let dir = tempfile::tempdir().unwrap();
    let mut folder = folder(&dir.path().join("pki"));
    let old = folder.issue(&person("alice@example.com", "alice"), &SeededEntropy::new(1)).unwrap();
    let serial = old.issued.entry.serial.clone();
    let new = folder.renew("alice", Validity::days(NOW, 180), None, &SeededEntropy::new(2)).unwrap();
    assert_eq!(new.certificate, old.certificate);
    assert_ne!(new.issued.entry.serial, serial);
    assert_eq!(new.issued.entry.names, ["alice@example.com"]);
    assert_eq!(
        CertificateDer::from_pem_file(folder.file(&format!("alice-{serial}.pem"))).unwrap(),
        old.issued.certificate
    );
    assert!(folder.file(&format!("alice-{serial}.key")).exists());
    assert_eq!(folder.index().find("alice").unwrap().serial, new.issued.entry.serial);
    assert_eq!(folder.index().find(&serial).unwrap().until, old.issued.entry.until);
}

#[test]
fn a_pkcs12_file_holds_key_certificate_and_authority() {
    let dir = tempfile::tempdir().unwrap();
    let mut folder = folder(&dir.path().join("pki"));
    let given = Given { password: Some("open sesame".into()), ..person("alice@example.com", "alice") };
    let made = folder.issue(&given, &entropy()).unwrap();
    let octets = std::fs::read(made.pkcs12.unwrap()).unwrap();
    let read =
        |password| p12_keystore::KeyStore::from_pkcs12(&octets, password, p12_keystore::Pkcs12ImportPolicy::Strict);
    assert!(read("wrong").is_err());
    let store = read("open sesame").unwrap();
    let (_, chain) = store.private_key_chain().unwrap();
    assert_eq!(chain.certs()[0].as_der(), made.issued.certificate.as_ref());
    assert_eq!(chain.certs()[1].as_der(), folder.authority().certificate().as_ref());
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
        person("älice@example.com"),
        person("a@example.com\0"),
        robot(&["-x.example"], &[]),
        robot(&["a b.example"], &[]),
        robot(&[], &["no-scheme"]),
        robot(&[], &["spiffe://a b"]),
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
    for name in ["../evil", "", ".hidden", "-x", "ca"] {
        let made = folder.issue(&person("a@example.com", name), &entropy());
        assert!(matches!(made, Err(PkiError::Name { .. })), "{name}");
    }
    let uri = Given {
        name: None,
        bearer: Bearer::Robot { dns: vec![], uris: vec!["spiffe://a/b".into()] },
        ..person("x@y.example", "x")
    };
    let made = folder.issue(&uri, &entropy()).unwrap();
    assert_eq!(made.key.file_name().unwrap(), "spiffe___a_b.key");
}
