//! OCSP about clients' certificates, asked of a real responder: `openssl ocsp`.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rcgen::KeyPair;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::harness::bench::Bench;
use super::harness::certificates::Leaf;
use super::harness::client::{Client, Said};
use super::harness::process::{Process, list_queue};
use super::harness::upstream::{Manner, Upstream};
use super::harness::web::{Page, Web};
use super::harness::{eventually, free_addresses};
use super::recipe::{self, OcspStatus, ocsp_answer};

const MAIL: &str = "MAIL FROM:<alice@example.com>";

/// `openssl ocsp`, answering for the staff CA.
struct Responder(Child);

impl Responder {
    /// Answers from this index with the key of this certificate; ready when this returns.
    fn start(bench: &Bench, address: SocketAddr, index: &Path, signer: &Leaf) -> Self {
        let mut child = Command::new("openssl")
            .args(["ocsp", "-port", &address.port().to_string(), "-nmin", "10", "-index"])
            .arg(index)
            .arg("-CA")
            .arg(bench.staff.anchor())
            .arg("-rsigner")
            .arg(&signer.certificate)
            .arg("-rkey")
            .arg(&signer.key)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A connection without a request would end it, so that its own word is waited for.
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let ready = lines.by_ref().map_while(Result::ok).any(|line| line.contains("waiting for OCSP client"));
        assert!(ready, "openssl ocsp does not listen");
        std::thread::spawn(move || lines.count());
        Self(child)
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A database as `openssl ca` keeps it.
fn index(bench: &Bench, good: &[&Leaf], revoked: &[&Leaf]) -> PathBuf {
    let line = |state: &str, when: &str, leaf: &Leaf| {
        format!("{state}\t21250101000000Z\t{when}\t{}\tunknown\t/CN=x\n", leaf.serial_hexadecimal())
    };
    let good = good.iter().map(|leaf| line("V", "", leaf));
    let revoked = revoked.iter().map(|leaf| line("R", "250601000000Z", leaf));
    let path = bench.directory.path().join("index.txt");
    fs::write(&path, good.chain(revoked).collect::<String>()).unwrap();
    path
}

/// A bench whose staff CA has this said of OCSP, and no CRLs.
fn bench(upstream: &Upstream, keys: &str, refusal: &str) -> Bench {
    let bench = Bench::new(&[upstream.address]);
    let text = fs::read_to_string(&bench.configuration).unwrap();
    let crls =
        format!("crls = [\"{}\"]\nrevocation = \"require\"", bench.staff.anchor().with_file_name("ca.crl").display());
    assert!(text.contains(&crls));
    let text = text.replace(&crls, &format!("revocation = \"off\"\n{keys}"));
    fs::write(&bench.configuration, text.replace("[tls]", &format!("[tls]\nrefusal = \"{refusal}\""))).unwrap();
    bench
}

fn said(bench: &Bench, leaf: &Leaf) -> (Client, Said) {
    Client::starttls(bench.starttls, &bench.tls(Some(leaf))).unwrap()
}

fn asked(mode: &str, address: SocketAddr) -> String {
    format!("ocsp = \"{mode}\"\nocsp_url = \"http://{address}\"")
}

#[test]
fn a_responder_says_who_is_good_who_is_revoked_and_whom_it_does_not_know() {
    let upstream = Upstream::start(Manner::Polite);
    for refusal in ["reply", "alert"] {
        let [address] = free_addresses();
        let mut bench = bench(&upstream, &asked("require", address), refusal);
        let (stranger, signer) = (bench.staff.client("alice@example.com.two"), bench.staff.responder());
        let listed = index(&bench, &[&bench.alice], &[&bench.bob]);
        let responder = Responder::start(&bench, address, &listed, &signer);
        let process = Process::start(&bench.configuration);
        let (mut alice, greeted) = said(&bench, &bench.alice);
        assert_eq!((greeted.code, alice.command(MAIL).unwrap().code), (250, 250), "{refusal}: {greeted:?}");
        // Where certificates are judged in the handshake, too, an OCSP answer is told in words.
        let (_, refused) = said(&bench, &bench.bob);
        assert!(refused.code == 554 && refused.text.contains("revoked"), "{refusal}: {refused:?}");
        let (_, unknown) = said(&bench, &stranger);
        assert!(unknown.code == 421 && unknown.text.starts_with("4.7.0"), "{refusal}: {unknown:?}");
        // An answer that still counts needs no responder.
        drop(responder);
        assert_eq!(said(&bench, &bench.alice).1.code, 250, "{refusal}");
        // A transaction under way would hold the end for a while.
        drop(alice);
        assert!(process.stop().success());
    }
}

#[test]
fn who_is_revoked_is_nobody_new_by_another_signature() {
    let upstream = Upstream::start(Manner::Polite);
    let [address] = free_addresses();
    let mut bench = bench(&upstream, &asked("if-available", address), "reply");
    let signer = bench.staff.responder();
    let responder = Responder::start(&bench, address, &index(&bench, &[], &[&bench.bob]), &signer);
    let process = Process::start(&bench.configuration);
    assert_eq!(said(&bench, &bench.bob).1.code, 554);
    drop(responder);
    let der = CertificateDer::from_pem_file(&bench.bob.certificate).unwrap();
    let mut other = bench.bob.clone();
    other.certificate = bench.directory.path().join("other.pem");
    fs::write(&other.certificate, recipe::pem("CERTIFICATE", &recipe::with_the_other_signature(&der))).unwrap();
    let (_, refused) = said(&bench, &other);
    assert!(refused.code == 554 && refused.text.contains("revoked"), "{refused:?}");
    assert!(process.stop().success());
}

#[test]
fn the_ca_may_answer_itself_and_nobody_whom_it_has_not_authorized() {
    let upstream = Upstream::start(Manner::Polite);
    for (authorized, code) in [(true, 250), (false, 421)] {
        let [address] = free_addresses();
        let mut bench = bench(&upstream, &asked("require", address), "reply");
        let listed = index(&bench, &[&bench.alice], &[]);
        let signer = if authorized { bench.staff.itself() } else { bench.staff.client("no responder") };
        let _responder = Responder::start(&bench, address, &listed, &signer);
        let process = Process::start(&bench.configuration);
        assert_eq!(said(&bench, &bench.alice).1.code, code);
        if !authorized {
            process.wait_for_log(0, &["an OCSP responder gave no answer that counts", "signed neither by"]);
        }
        assert!(process.stop().success());
    }
}

#[test]
fn without_an_answer_if_available_lets_in_and_require_does_not() {
    let upstream = Upstream::start(Manner::Polite);
    for (mode, code) in [("if-available", 250), ("require", 421)] {
        let [nobody] = free_addresses();
        let bench = bench(&upstream, &asked(mode, nobody), "reply");
        let process = Process::start(&bench.configuration);
        assert_eq!(said(&bench, &bench.alice).1.code, code, "{mode}");
        process.wait_for_log(0, &["an OCSP responder gave no answer that counts", "no connection"]);
        assert!(process.stop().success());
    }
}

#[test]
fn one_certificate_is_asked_about_once_however_many_come_with_it() {
    let (upstream, web) = (Upstream::start(Manner::Polite), Web::start());
    let bench = bench(&upstream, &asked("if-available", web.address), "reply");
    // No answer counts too, for a while.
    web.put("/", Page::Broken);
    let process = Process::start(&bench.configuration);
    std::thread::scope(|threads| {
        for _ in 0..20 {
            threads.spawn(|| assert_eq!(said(&bench, &bench.alice).1.code, 250));
        }
    });
    assert_eq!(web.asked().len(), 1, "{:?}", web.asked());
    assert_eq!(said(&bench, &bench.bob).1.code, 250);
    assert_eq!(web.asked().len(), 2, "{:?}", web.asked());
    assert!(process.stop().success());
}

#[test]
fn a_responder_that_takes_no_post_is_asked_by_get() {
    let (upstream, web) = (Upstream::start(Manner::Polite), Web::start());
    let bench = bench(&upstream, &asked("require", web.address), "reply");
    // Nothing is there: 404 to the POST, and to the GET.
    let process = Process::start(&bench.configuration);
    assert_eq!(said(&bench, &bench.alice).1.code, 421);
    let paths: Vec<String> = web.asked().into_iter().map(|(path, _)| path).collect();
    assert!(matches!(paths.as_slice(), [post, get] if post == "/" && get.len() > 80), "{paths:?}");
    assert!(process.stop().success());
}

/// The present in whole seconds, as an answer's dates are written.
fn present() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// What the staff CA itself says of a certificate until that second.
fn answer(bench: &Bench, about: &Leaf, status: OcspStatus, until: i64) -> Page {
    let itself = bench.staff.itself();
    let key = KeyPair::from_pem(&fs::read_to_string(&itself.key).unwrap()).unwrap();
    let [issuer, about] =
        [&itself.certificate, &about.certificate].map(|path| CertificateDer::from_pem_file(path).unwrap());
    Page::Octets(ocsp_answer(&issuer, &key, &about, status, (present() - 60, until)), "\"answer\"")
}

/// So long an answer counts that is to run out within a test: time for a session to get as far as its message.
const SHORT: i64 = 5;

/// A daemon that asks this server, and a session of alice that rests on an answer that runs out at the second that comes back.
fn on_a_short_answer(web: &Web) -> (Upstream, Bench, Process, Client, i64) {
    let upstream = Upstream::start(Manner::Polite);
    let bench = bench(&upstream, &asked("require", web.address), "reply");
    let text = fs::read_to_string(&bench.configuration).unwrap();
    fs::write(&bench.configuration, format!("{text}\n[limits]\nidle_commands = 1000000\n")).unwrap();
    let process = Process::start(&bench.configuration);
    let until = present() + SHORT;
    web.put("/", answer(&bench, &bench.alice, OcspStatus::Good, until));
    let (client, greeted) = said(&bench, &bench.alice);
    assert_eq!(greeted.code, 250, "{greeted:?}");
    (upstream, bench, process, client, until)
}

#[test]
fn an_answer_that_runs_out_is_asked_for_anew_at_mail_and_not_before() {
    let web = Web::start();
    let (_upstream, bench, process, mut client, until) = on_a_short_answer(&web);
    let mail = |client: &mut Client| {
        let said = client.command(MAIL).unwrap();
        assert!(said.code != 250 || client.command("RSET").unwrap().code == 250);
        said
    };
    // As long as it counts, nobody is asked, whatever would be said now.
    web.put("/", answer(&bench, &bench.alice, OcspStatus::Good, until + 3600));
    assert_eq!(mail(&mut client).code, 250);
    assert_eq!(web.asked().len(), 1, "{:?}", web.asked());
    assert!(eventually(|| present() >= until));
    assert_eq!(mail(&mut client).code, 250);
    assert_eq!(web.asked().len(), 2, "{:?}", web.asked());
    assert_eq!(mail(&mut client).code, 250);
    assert_eq!(web.asked().len(), 2, "{:?}", web.asked());
    drop(client);
    assert!(process.stop().success());
}

#[test]
fn who_is_revoked_when_an_answer_runs_out_is_refused_at_mail() {
    let web = Web::start();
    let (_upstream, bench, process, mut client, until) = on_a_short_answer(&web);
    web.put("/", answer(&bench, &bench.alice, OcspStatus::Revoked, until + 3600));
    assert!(eventually(|| present() >= until));
    let said = client.command(MAIL).unwrap();
    assert!(said.code == 554 && said.text.contains("revoked"), "{said:?}");
    process.wait_for_log(0, &["the identity of an open session is gone"]);
    assert!(process.stop().success());
}

#[test]
fn a_responder_that_hangs_at_the_end_of_data_is_waited_for_a_while_and_the_message_is_not_kept() {
    let web = Web::start();
    let (_upstream, bench, process, mut client, until) = on_a_short_answer(&web);
    for line in [MAIL, "RCPT TO:<reader@example.net>", "DATA"] {
        assert!(client.command(line).unwrap().code < 400, "{line}");
    }
    web.put("/", Page::Silence);
    assert!(eventually(|| present() >= until));
    let asked = Instant::now();
    client.send(b"From: alice@example.com\r\nSubject: x\r\n\r\ntext\r\n.\r\n").unwrap();
    let said = client.read_reply().unwrap();
    assert!(said.code == 421 && said.text.starts_with("4.7.0"), "{said:?}");
    let took = asked.elapsed();
    assert!((Duration::from_secs(4)..Duration::from_secs(25)).contains(&took), "{took:?}");
    assert!(list_queue(&bench).is_empty());
    process.wait_for_log(0, &["an OCSP responder gave no answer that counts", "answer within"]);
    assert!(process.stop().success());
}

#[test]
fn who_is_known_to_be_revoked_stays_so_through_a_restart_without_the_responder_until_it_says_otherwise() {
    let (upstream, web) = (Upstream::start(Manner::Polite), Web::start());
    let bench = bench(&upstream, &asked("if-available", web.address), "reply");
    let restarted = |page: Page| {
        web.put("/", page);
        let process = Process::start(&bench.configuration);
        let code = said(&bench, &bench.alice).1.code;
        assert!(process.stop().success());
        code
    };
    let until = present() + 3600;
    assert_eq!(restarted(Page::Broken), 250, "nothing is known of her");
    assert_eq!(restarted(answer(&bench, &bench.alice, OcspStatus::Revoked, until)), 554);
    assert_eq!(restarted(Page::Broken), 554);
    let folder = bench.directory.path().join("data/ocsp");
    let kept: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    // What does not verify counts for nothing.
    let whole = fs::read(&kept[0]).unwrap();
    let mut forged = whole.clone();
    *forged.last_mut().unwrap() ^= 1;
    fs::write(&kept[0], forged).unwrap();
    assert_eq!(restarted(Page::Broken), 250);
    fs::write(&kept[0], whole).unwrap();
    assert_eq!(restarted(Page::Broken), 554);
    // She was on hold. An answer as old as the other one takes nothing back: the next second's does.
    assert!(eventually(|| present() > until - 3600 + 1));
    assert_eq!(restarted(answer(&bench, &bench.alice, OcspStatus::Good, until)), 250);
    assert_eq!(restarted(Page::Broken), 250);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
}
