//! The commands as they are typed.

#![expect(clippy::disallowed_methods, reason = "tests move files as an operator would")]

use clap::Parser as _;

use super::*;
use crate::sys::SeededEntropy;

/// 2026-11-24T01:48:00Z
const NOW: WallTime = WallTime::from_seconds(1_795_484_880);

fn say(line: &str, now: WallTime) -> anyhow::Result<String> {
    static SEED: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    let words = ["sealpost", "pki"].into_iter().chain(line.split(' '));
    let arguments = crate::cli::Arguments::try_parse_from(words)?;
    let crate::cli::Command::Pki(arguments) = arguments.command else { panic!("{line}") };
    let seed = SEED.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    answer(&arguments.command, now, &SeededEntropy::new(seed))
}

fn fails(line: &str, words: &[&str]) {
    let told = say(line, NOW).unwrap_err().to_string();
    assert!(words.iter().all(|word| told.contains(word)), "{line}: {told}");
}

#[test]
fn from_nothing_to_a_revoked_certificate() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("pki").display().to_string();
    let said = say(&format!("init --dir {dir} --name Test"), NOW).unwrap();
    for word in ["intermediates = ", "issuing.crl", "ca.key", "--root-key"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let issue = format!("issue --dir {dir} --file alice --email alice@example.com");
    let said = say(&issue, NOW).unwrap();
    assert!(said.contains("alice.p12") && said.contains("password    "), "{said}");
    fails(&issue, &["alice.pem", "renew"]);
    let said = say(&format!("renew --dir {dir} alice --key rsa"), NOW).unwrap();
    assert!(!said.contains("remark"), "{said}");
    fails(&format!("revoke --dir {dir} alice@example.com"), &["2 certificates", "--all"]);
    let said = say(&format!("revoke --dir {dir} alice@example.com --all --reason key-compromise"), NOW).unwrap();
    assert!(said.matches("revoked     alice").count() == 2 && said.contains("number 2"), "{said}");
    let said = say(&format!("list --dir {dir} --json"), NOW).unwrap();
    let lines: Vec<serde_json::Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let states: Vec<&str> = lines.iter().map(|line| line["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["good", "revoked", "revoked"]);
    assert_eq!(
        (lines[1]["days_left"].as_i64(), lines[1]["revoked"]["reason"].as_str()),
        (Some(397), Some("key-compromise"))
    );
    // Who was revoked gets a new one, and whoever gives it is told.
    let said = say(&format!("renew --dir {dir} alice --no-p12"), NOW).unwrap();
    assert!(
        said.contains("remark      the last certificate of alice") && said.contains("was revoked on 2026-11-24"),
        "{said}"
    );
}

#[test]
fn what_ends_soon_is_listed_and_warned_of() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("pki").display().to_string();
    say(&format!("init --dir {dir}"), NOW).unwrap();
    say(&format!("issue --dir {dir} --email a@example.com --file a --days 20 --no-p12"), NOW).unwrap();
    say(&format!("issue --dir {dir} --email b@example.com --file b --days 40 --no-p12"), NOW).unwrap();
    let expiring = format!("list --dir {dir} --expiring 30 --json");
    assert!(say(&expiring, NOW).unwrap().contains("a@example.com"));
    assert_eq!(say(&expiring, NOW).unwrap().lines().count(), 1);
    let said = say(&format!("renew --dir {dir} a"), NOW).unwrap();
    assert!(!said.contains("warning"), "{said}");
    assert_eq!(say(&expiring, NOW).unwrap(), "");
    std::fs::rename(format!("{dir}/ca.key"), format!("{dir}/away.key")).unwrap();
    let later = NOW.after(std::time::Duration::from_secs(370 * 86_400));
    let said = say(&format!("crl --dir {dir}"), later).unwrap();
    assert!(
        said.contains("warning") && said.contains("ca.crl ends in 27 days") && !said.contains("root's CRL"),
        "{said}"
    );
    let said = say(&format!("crl --dir {dir} --root-key {dir}/away.key"), later).unwrap();
    assert!(said.contains("root's CRL") && said.contains("number 2") && !said.contains("warning"), "{said}");
    fails(&format!("renew --dir {dir} issuing"), &["--root-key"]);
}

#[test]
fn every_refusal_names_the_remedy() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("pki").display().to_string();
    fails(&format!("list --dir {dir}"), &["pki init"]);
    say(&format!("init --dir {dir} --single"), NOW).unwrap();
    fails(&format!("init --dir {dir}"), &["--dir"]);
    fails(&format!("renew --dir {dir} issuing"), &["pki init"]);
    fails(&format!("revoke --dir {dir} nobody"), &["pki list"]);
    fails(&format!("issue --dir {dir} --email a@example.com --days 9999"), &["--days"]);
    fails(&format!("issue --dir {dir} --email a@example.com --print-config curl"), &["--server"]);
    fails(&format!("issue --dir {dir} --email a@example.com --print-config curl --server x"), &["HOST:PORT"]);
    let request = place.path().join("r.csr");
    let pair = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["asked.example".to_owned()]).unwrap();
    std::fs::write(&request, params.serialize_request(&pair).unwrap().pem().unwrap()).unwrap();
    fails(
        &format!("issue --dir {dir} --csr {}", request.display()),
        &["--dns \"asked.example\"", "nothing is taken over"],
    );
    let said = say(&format!("issue --dir {dir} --dns asked.example --csr {}", request.display()), NOW).unwrap();
    assert!(said.contains("with whoever asked") && !said.contains("PKCS#12"), "{said}");
}

#[test]
fn settings_name_real_paths_and_the_port_decides_how_tls_begins() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("pki").display().to_string();
    say(&format!("init --dir {dir}"), NOW).unwrap();
    for (program, implicit, starttls) in [
        ("thunderbird", "SSL/TLS", "STARTTLS"),
        ("msmtp", "tls_starttls off", "tls_starttls on"),
        ("mutt", "smtps://mail.example.com:465", "smtp://mail.example.com:587"),
        ("postfix", "smtp_tls_wrappermode = yes", "relayhost = [mail.example.com]:587"),
        ("git", "tls_starttls off", "sendemail.sendmailCmd"),
        ("curl", "smtps://", "--ssl-reqd"),
        ("python", "SMTP_SSL", "starttls(context=context)"),
    ] {
        for (port, word) in [(465, implicit), (587, starttls)] {
            let line = format!(
                "issue --dir {dir} --email a@example.com --file {program}{port} --print-config {program} --server mail.example.com:{port}"
            );
            let said = say(&line, NOW).unwrap();
            let settings = said.split_once("\n\n").unwrap().1;
            assert!(settings.contains(word), "{program} {port}: {settings}");
            let files = if program == "thunderbird" { vec![".p12"] } else { vec![".pem", ".key"] };
            for ending in files {
                assert!(settings.contains(&format!("{dir}/{program}{port}{ending}")), "{program}: {settings}");
            }
            assert!(settings.contains(&format!("{dir}/ca.pem")));
        }
    }
}
