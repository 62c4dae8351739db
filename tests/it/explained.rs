//! `sealpost explain` where it can't know all, or where more than a certificate is wanted: its words and its exit code.

use std::fs;

use super::harness::bench::Bench;
use super::harness::free_addresses;
use super::harness::process::sealpost;

const ALICE: &str = "staff:alice@example.com";

/// What `explain` says of alice and a mail of hers, and how it ends, with these keys for her CA and these tables behind all.
fn explained(bench: &Bench, of_ca: &str, more: &str) -> (String, Option<i32>) {
    bench.configure(&free_addresses::<1>(), more);
    let text = fs::read_to_string(&bench.configuration).unwrap();
    fs::write(
        &bench.configuration,
        text.replace("send_as_email = true\n", &format!("send_as_email = true\n{of_ca}\n")),
    )
    .unwrap();
    let certificate = bench.alice.certificate.to_str().unwrap();
    let said = sealpost(&[
        "explain",
        "--config",
        bench.config_argument(),
        "--cert",
        certificate,
        "--from",
        "alice@example.com",
        "--to",
        "reader@example.net",
    ]);
    assert!(said.stderr.is_empty() || said.status.code() != Some(1), "{}", String::from_utf8_lossy(&said.stderr));
    (String::from_utf8(said.stdout).unwrap(), said.status.code())
}

#[test]
fn what_only_an_ocsp_answer_is_wanting_for_ends_with_3_and_what_is_refused_besides_with_1() {
    let bench = Bench::new(&free_addresses::<1>());
    let asking = |mode: &str| format!("ocsp = \"{mode}\"\nocsp_url = \"http://127.0.0.1:9/\"");
    let (told, code) = explained(&bench, &asking("require"), "");
    assert_eq!(code, Some(3), "{told}");
    for words in ["ocsp: unknown", "identity: staff:alice@example.com", "RCPT TO:<reader@example.net>: allowed by"] {
        assert!(told.contains(words), "{words}: {told}");
    }
    let (told, code) = explained(&bench, &asking("if-available"), "");
    assert_eq!(code, Some(0), "{told}");
    // What no answer helps.
    bench.write_credential(&bench.directory.path().join("credentials"), "somebody else", "correct horse");
    let demanding = format!("{}\nsecond_factor = \"password\"", asking("require"));
    let (told, code) = explained(&bench, &demanding, "[credentials]\nfile = \"credentials\"\n");
    assert_eq!(code, Some(1), "{told}");
}

#[test]
fn mail_without_a_demanded_second_factor_hears_530() {
    let bench = Bench::new(&free_addresses::<1>());
    let credentials = bench.directory.path().join("credentials");
    let explain = |of_whom: &str| {
        bench.write_credential(&credentials, of_whom, "correct horse");
        explained(&bench, "second_factor = \"password\"", "[credentials]\nfile = \"credentials\"\n")
    };
    let (told, code) = explain("somebody else");
    assert_eq!(code, Some(1), "{told}");
    for words in [
        "MAIL FROM:<alice@example.com>: refused: 530 5.7.0 Authentication required: a password besides the certificate",
        "the second factor is missing",
        "no credential shows that: it can't send; see `sealpost passwd staff:alice@example.com`",
        "it never comes to that, because MAIL is refused",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    let (told, code) = explain(ALICE);
    assert_eq!(code, Some(0), "{told}");
    for words in ["AUTH: PLAIN LOGIN", "once AUTH has succeeded", "RCPT TO:<reader@example.net>: allowed by"] {
        assert!(told.contains(words), "{words}: {told}");
    }
}
