//! CRLs over HTTP: fetched, verified, kept over a restart without the server, never replaced by older ones.

use std::fs;

use super::harness::bench::Bench;
use super::harness::certificates::{Authority, Leaf};
use super::harness::client::{Client, Said};
use super::harness::process::{Process, Start};
use super::harness::upstream::{Manner, Upstream};
use super::harness::web::{Page, Web};

const MAIL: &str = "MAIL FROM:<alice@example.com>";

/// A bench whose staff CA has its CRLs from the given keys instead of a file.
fn bench(upstream: &Upstream, keys: &str) -> Bench {
    let bench = Bench::new(&[upstream.address]);
    let text = fs::read_to_string(&bench.configuration).unwrap();
    let crls = format!("crls = [\"{}\"]", bench.staff.anchor().with_file_name("ca.crl").display());
    assert!(text.contains(&crls));
    let refresh = if keys.contains("crl_refresh") { "" } else { "\ncrl_refresh = \"1s\"" };
    fs::write(&bench.configuration, text.replace(&crls, &format!("{keys}{refresh}"))).unwrap();
    bench
}

fn first_word(bench: &Bench, leaf: &Leaf) -> (Client, Said) {
    Client::starttls(bench.starttls, &bench.tls(Some(leaf))).unwrap()
}

fn crl(bench: &Bench, number: u64, revoked: &[&Leaf], tag: &'static str) -> Page {
    Page::Octets(bench.staff.crl(number, revoked).into_bytes(), tag)
}

#[test]
fn a_fetched_crl_counts_at_the_next_mail_and_survives_a_restart_without_the_server() {
    let (upstream, web) = (Upstream::start(Manner::Polite), Web::start());
    let bench = bench(&upstream, &format!("crl_urls = [\"{}\"]", web.url("/old/staff.crl")));
    web.put("/old/staff.crl", Page::Moved("/staff.crl".to_owned()));
    let process = Process::start(&bench.configuration);
    // No CRL yet: unknown, and so a later attempt may succeed.
    let (_, said) = first_word(&bench, &bench.alice);
    assert!(said.code == 421 && said.text.starts_with("4.7.0"), "{said:?}");
    web.put("/staff.crl", crl(&bench, 5, &[], "\"5\""));
    process.wait_for_log(0, &["reloaded", "changed files", "crl_urls"]);
    let (mut open, said) = first_word(&bench, &bench.alice);
    assert_eq!(said.code, 250, "{said:?}");
    assert_eq!(open.command(MAIL).unwrap().code, 250);
    // The server is asked for news only.
    web.wait_for(0, |(path, tag)| path == "/staff.crl" && tag.as_deref() == Some("\"5\""));
    let from = process.log_length();
    web.put("/staff.crl", crl(&bench, 6, &[&bench.alice], "\"6\""));
    process.wait_for_log(from, &["a new CRL was fetched", "\"revoked\":1"]);
    process.wait_for_log(from, &["reloaded", "changed files"]);
    assert_eq!(open.command("RSET").unwrap().code, 250);
    let said = open.command(MAIL).unwrap();
    assert!(said.text.contains("revoked"), "{said:?}");
    assert!(process.stop().success());
    web.put("/staff.crl", Page::Broken);
    let process = Process::start(&bench.configuration);
    let (_, said) = first_word(&bench, &bench.alice);
    assert!(said.code == 554 && said.text.contains("revoked"), "{said:?}");
    assert_eq!(first_word(&bench, &bench.bob).1.code, 250);
    process.wait_for_log(0, &["a CRL could not be fetched", "503"]);
    assert!(process.stop().success());
}

#[test]
fn what_is_older_forged_cut_short_or_no_crl_replaces_nothing() {
    let (upstream, web) = (Upstream::start(Manner::Polite), Web::start());
    let bench = bench(&upstream, &format!("crl_urls = [\"{}\"]", web.url("/staff.crl")));
    web.put("/staff.crl", crl(&bench, 5, &[&bench.alice], "\"5\""));
    let process = Process::start(&bench.configuration);
    process.wait_for_log(0, &["reloaded", "crl_urls"]);
    assert!(process.stop().success());
    let forger = Authority::new(&bench.directory.path().join("forger"), "Staff CA");
    let table = [
        (crl(&bench, 4, &[], "\"4\""), "it is older"),
        (Page::Octets(forger.crl(9, &[]).into_bytes(), "\"9\""), "signature"),
        (Page::CutShort, "HTTP"),
        (Page::Octets(b"<html>".to_vec(), "\"html\""), "holds no CRL"),
        (Page::Moved("https://pki.example.com/staff.crl".to_owned()), "redirected"),
        (Page::Moved("/staff.crl".to_owned()), "redirected more than"),
    ];
    for (page, told) in table {
        // A start asks at once; failures are tried again only after a while.
        web.put("/staff.crl", page);
        let process = Process::start(&bench.configuration);
        process.wait_for_log(0, &["a CRL could not be fetched", told]);
        let (_, said) = first_word(&bench, &bench.alice);
        assert!(said.code == 554 && said.text.contains("revoked"), "{told}: {said:?}");
        assert!(process.stop().success());
    }
}

#[test]
fn the_distribution_points_of_clients_certificates_are_fetched_when_asked_for() {
    let (upstream, web) = (Upstream::start(Manner::Polite), Web::start());
    // A certificate's URL may lead to loopback only where the configuration names its host.
    let told = format!("crl_urls = [\"{}\"]\ncrl_distribution_points = true", web.url("/none.crl"));
    let mut bench = bench(&upstream, &told);
    let carol = bench.staff.client_naming("alice@example.com", &web.url("/named.crl"));
    web.put("/named.crl", crl(&bench, 5, &[&bench.bob], "\"5\""));
    let process = Process::start(&bench.configuration);
    assert_eq!(first_word(&bench, &carol).1.code, 421);
    process.wait_for_log(0, &["reloaded", "changed files"]);
    assert_eq!(first_word(&bench, &carol).1.code, 250);
    let (_, said) = first_word(&bench, &bench.bob);
    assert!(said.text.contains("revoked"), "{said:?}");
    // What was learned is known after a restart, and fetched before anybody comes.
    assert!(process.stop().success());
    let from = web.asked().len();
    let process = Process::start(&bench.configuration);
    web.wait_for(from, |(path, tag)| path == "/named.crl" && tag.as_deref() == Some("\"5\""));
    assert_eq!(first_word(&bench, &carol).1.code, 250);
    assert!(process.stop().success());
}

#[test]
fn a_signal_has_crls_fetched_at_once_also_those_that_are_hours_from_their_turn() {
    let (upstream, web) = (Upstream::start(Manner::Polite), Web::start());
    let bench = bench(&upstream, &format!("crl_urls = [\"{}\"]\ncrl_refresh = \"6h\"", web.url("/staff.crl")));
    web.put("/staff.crl", crl(&bench, 5, &[], "\"5\""));
    let mut process = Process::start(&bench.configuration);
    process.wait_for_log(0, &["a new CRL was fetched"]);
    process.wait_for_log(0, &["reloaded", "changed files"]);
    let (mut open, said) = first_word(&bench, &bench.alice);
    assert_eq!(said.code, 250, "{said:?}");
    let (from, asked) = (process.log_length(), web.asked().len());
    web.put("/staff.crl", crl(&bench, 6, &[&bench.alice], "\"6\""));
    process.signal("HUP");
    assert_eq!(process.wait_ready(super::harness::PATIENCE), Start::Ready);
    process.wait_for_log(from, &["a new CRL was fetched", "\"revoked\":1"]);
    process.wait_for_log(from, &["reloaded", "changed files"]);
    assert!(open.command(MAIL).unwrap().text.contains("revoked"));
    // Nothing new is told as well: somebody has asked.
    process.signal("HUP");
    assert_eq!(process.wait_ready(super::harness::PATIENCE), Start::Ready);
    process.wait_for_log(from, &["the CRL at hand is still the newest that is published"]);
    assert_eq!(web.asked().len(), asked + 2, "{:?}", web.asked());
    assert!(process.stop().success());
}
