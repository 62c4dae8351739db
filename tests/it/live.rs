//! What a running daemon takes over from its files, by itself, without a signal and without dropping anybody.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use super::harness::bench::Bench;
use super::harness::certificates::Leaf;
use super::harness::client::{self, Client, Said};
use super::harness::process::{Process, Start};
use super::harness::upstream::{Manner, Upstream};

const ALICE: &str = "staff:alice@example.com";
const MAIL: &str = "MAIL FROM:<alice@example.com>";
/// Sessions that are open when alice is revoked.
const SESSIONS: usize = 100;

fn running(more: &str) -> (Upstream, Bench, Process) {
    let upstream = Upstream::start(Manner::Polite);
    let bench = Bench::new(&[upstream.address]);
    bench.configure(&[upstream.address], more);
    let process = Process::start(&bench.configuration);
    (upstream, bench, process)
}

fn session(bench: &Bench, leaf: &Leaf) -> Client {
    let (client, greeted) = Client::starttls(bench.starttls, &bench.tls(Some(leaf))).unwrap();
    assert_eq!(greeted.code, 250, "{greeted:?}");
    client
}

/// Says MAIL, and takes it back when it was accepted.
fn mail(client: &mut Client, line: &str) -> Said {
    let said = client.command(line).unwrap();
    if said.code == 250 {
        assert_eq!(client.command("RSET").unwrap().code, 250);
    }
    said
}

/// Replaces a file by rename, as careful programs do.
fn replace(path: &Path, octets: &[u8]) {
    let new = path.with_extension("new");
    fs::write(&new, octets).unwrap();
    fs::rename(&new, path).unwrap();
}

fn crl_of(bench: &Bench) -> std::path::PathBuf {
    bench.staff.anchor().with_file_name("ca.crl")
}

/// The staff CRL that revokes these, without putting it in place.
fn crl(bench: &Bench, number: u64, revoked: &[&Leaf]) -> Vec<u8> {
    bench.staff.crl(number, revoked).into_bytes()
}

#[test]
fn not_one_mail_of_a_hundred_open_sessions_is_accepted_once_the_reload_is_told() {
    let (_upstream, bench, process) = running("[limits]\nconnections_per_address = 500\nidle_commands = 1000000\n");
    let mut of_bob = session(&bench, &bench.bob);
    let sessions: Vec<Client> = (0..SESSIONS).map(|_| session(&bench, &bench.alice)).collect();
    let (revoked, late) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let talking: Vec<_> = sessions
        .into_iter()
        .map(|mut client| {
            let (revoked, late) = (Arc::clone(&revoked), Arc::clone(&late));
            std::thread::spawn(move || {
                let mut accepted = 0_usize;
                loop {
                    // Whether the reload had been told before MAIL was said.
                    let told = revoked.load(Ordering::SeqCst);
                    let said = mail(&mut client, MAIL);
                    if said.code != 250 {
                        return (accepted, said);
                    }
                    if told {
                        late.store(true, Ordering::SeqCst);
                        return (accepted, said);
                    }
                    accepted += 1;
                }
            })
        })
        .collect();
    let from = process.log_length();
    replace(&crl_of(&bench), &crl(&bench, 2, &[&bench.alice]));
    process.wait_for_log(from, &["reloaded", "changed files", "content of"]);
    revoked.store(true, Ordering::SeqCst);
    let mut accepted_before = 0;
    for talk in talking {
        let (accepted, said) = talk.join().unwrap();
        accepted_before += accepted;
        assert!(said.code >= 400 && said.text.contains("revoked"), "{said:?}");
    }
    assert!(!late.load(Ordering::SeqCst), "MAIL was accepted after the reload had been told");
    assert!(accepted_before > 0, "the sessions did not work before");
    assert_eq!(mail(&mut of_bob, "MAIL FROM:<bob@example.com>").code, 250, "nobody else is dropped");
    assert!(process.stop().success());
}

#[test]
fn a_half_written_crl_keeps_the_old_one_is_told_once_and_is_taken_when_whole() {
    let (_upstream, bench, process) = running("");
    let mut open = session(&bench, &bench.alice);
    let whole = crl(&bench, 2, &[&bench.alice]);
    let from = process.log_length();
    fs::write(crl_of(&bench), &whole[..whole.len() / 2]).unwrap();
    process.wait_for_log(from, &["ERROR", "client_ca", "staff", "stay as they were"]);
    assert_eq!(mail(&mut open, MAIL).code, 250);
    assert_eq!(mail(&mut session(&bench, &bench.alice), MAIL).code, 250);
    fs::write(crl_of(&bench), &whole).unwrap();
    process.wait_for_log(from, &["reloaded", "content of"]);
    assert!(mail(&mut open, MAIL).text.contains("revoked"));
    assert_eq!(process.log().matches("stay as they were").count(), 1, "{}", process.log());
}

#[test]
fn after_a_remark_in_the_configuration_a_part_that_is_wrong_stays_as_it_was_all_the_same() {
    let (_upstream, bench, process) = running("[reload]\nwatch = \"all\"\npoll = \"1s\"\n[log]\nlevel = \"debug\"\n");
    let before = fs::read_to_string(&bench.configuration).unwrap();
    let from = process.log_length();
    replace(&bench.configuration, format!("{before}# a remark\n").as_bytes());
    process.wait_for_log(from, &["files were touched"]);
    let from = process.log_length();
    replace(&bench.server.certificate, b"-----BEGIN CERTIFICATE-----\nAAAA\n");
    process.wait_for_log(from, &["ERROR", "tls", "stay as they were"]);
}

#[test]
fn a_typo_in_a_watched_configuration_is_told_and_keeps_no_crl_from_counting() {
    let (_upstream, bench, process) = running("[reload]\nwatch = \"all\"\n");
    let mut open = session(&bench, &bench.alice);
    let before = fs::read_to_string(&bench.configuration).unwrap();
    let from = process.log_length();
    replace(&bench.configuration, format!("{before}[limits]\nno_such_key = 1\n").as_bytes());
    process.wait_for_log(from, &["no_such_key"]);
    process.wait_for_log(from, &["ERROR", "the configuration file", "stay as they were"]);
    assert_eq!(mail(&mut open, MAIL).code, 250);
    let from = process.log_length();
    replace(&crl_of(&bench), &crl(&bench, 2, &[&bench.alice]));
    process.wait_for_log(from, &["reloaded", "ca.crl"]);
    assert!(mail(&mut open, MAIL).text.contains("revoked"));
    let from = process.log_length();
    replace(&bench.configuration, before.as_bytes());
    process.wait_for_log(from, &["all files are right again"]);
    assert_eq!(process.log().matches("there is no such key").count(), 1, "{}", process.log());
}

#[test]
fn a_crl_that_goes_back_in_time_is_told_once() {
    let (_upstream, bench, mut process) = running("[reload]\nwatch = \"off\"\n");
    let with = |number: u64, revoked: &[&Leaf]| replace(&crl_of(&bench), &crl(&bench, number, revoked));
    let reload = |process: &mut Process| {
        let from = process.log_length();
        process.signal("HUP");
        process.wait_for_log(from, &["reloaded", "SIGHUP"]);
        // What nobody reads of what systemd is told would fill the socket in the end.
        assert_eq!(process.wait_ready(super::harness::PATIENCE), Start::Ready);
        process.log().lines().skip(from).collect::<Vec<_>>().join("\n")
    };
    with(3, &[&bench.alice]);
    assert!(!reload(&mut process).contains("older than"));
    with(2, &[]);
    let told = reload(&mut process);
    assert!(told.contains("a CRL is older than the one whose place it took") && told.contains("WARN"), "{told}");
    assert!(!reload(&mut process).contains("older than"), "it is told once");
    with(4, &[]);
    assert!(!reload(&mut process).contains("older than"));
    assert!(process.stop().success());
}

#[test]
fn who_asks_for_a_reload_hears_of_a_faulty_file_and_gets_nothing_of_the_rest() {
    let (_upstream, bench, mut process) = running("[reload]\nwatch = \"off\"\n");
    let mut open = session(&bench, &bench.alice);
    replace(&bench.server.certificate, b"-----BEGIN CERTIFICATE-----\nAAAA\n");
    replace(&crl_of(&bench), &crl(&bench, 2, &[&bench.alice]));
    let from = process.log_length();
    process.signal("HUP");
    process.wait_for_log(from, &["ERROR", "the old one stays in force"]);
    assert_eq!(process.wait_ready(super::harness::PATIENCE), Start::Ready);
    assert_eq!(mail(&mut open, MAIL).code, 250);
}

#[test]
fn a_listener_taken_out_of_the_configuration_takes_nobody_new_until_it_is_closed() {
    let (upstream, bench, mut process) = running("");
    let strangers = bench.directory.path().join("strangers/ca.pem");
    let more = format!(
        "[[client_ca]]\nname = \"strangers\"\ncertificates = \"{}\"\nrevocation = \"off\"\n\
         domains = [\"example.com\"]\nsend_as_email = true\nsend_to = [\"*\"]\n",
        strangers.display()
    );
    bench.configure(&[upstream.address], &more);
    let text = fs::read_to_string(&bench.configuration).unwrap();
    let gone = format!("[[listener]]\naddress = \"{}\"\nmode = \"starttls\"\n", bench.starttls);
    let text = text.replace(&gone, "").replace("data_dir = \"data\"", "data_dir = \"elsewhere\"");
    assert!(!text.contains("starttls"), "{text}");
    fs::create_dir_all(bench.directory.path().join("elsewhere")).unwrap();
    fs::write(&bench.configuration, text).unwrap();
    let from = process.log_length();
    process.signal("HUP");
    assert_eq!(process.wait_ready(super::harness::PATIENCE), Start::Ready);
    process.wait_for_log(from, &["WARN", "listeners change with the next start"]);
    process.wait_for_log(from, &["WARN", "data_dir changes with the next start"]);
    // Also after one more reload.
    process.signal("HUP");
    assert_eq!(process.wait_ready(super::harness::PATIENCE), Start::Ready);
    let at_starttls = |leaf: &Leaf| Client::starttls(bench.starttls, &bench.tls(Some(leaf))).unwrap().1;
    assert_eq!(at_starttls(&bench.alice).code, 250);
    let said = at_starttls(&bench.stranger);
    assert!(said.code == 554 && said.text.contains("not trusted"), "{said:?}");
    let (mut at_implicit, _) = Client::implicit(bench.implicit, &bench.tls(Some(&bench.stranger))).unwrap();
    assert_eq!(at_implicit.command("EHLO client.example.com").unwrap().code, 250);
}

#[test]
fn a_listener_taken_out_of_the_configuration_takes_pins_only_while_they_are_what_they_were() {
    let upstream = Upstream::start(Manner::Polite);
    let bench = Bench::new(&[upstream.address]);
    let configure = |pins: &[(&str, &str)], without_starttls: bool| {
        let pinned = |(name, fingerprint): &(&str, &str)| {
            format!(
                "[[identity]]\nname = \"{name}\"\nmatch = {{ fingerprint = \"{fingerprint}\" }}\n\
                 send_as = [\"alice@example.com\"]\nsend_to = [\"*\"]\n"
            )
        };
        bench.configure(&[upstream.address], &pins.iter().map(pinned).collect::<String>());
        if without_starttls {
            let text = fs::read_to_string(&bench.configuration).unwrap();
            let gone = format!("[[listener]]\naddress = \"{}\"\nmode = \"starttls\"\n", bench.starttls);
            assert!(text.contains(&gone), "{text}");
            fs::write(&bench.configuration, text.replace(&gone, "")).unwrap();
        }
    };
    let pem = fs::read_to_string(&bench.stranger.certificate).unwrap();
    let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let digest = Sha256::digest(STANDARD.decode(base64).unwrap());
    let fingerprint: String = digest.iter().map(|octet| format!("{octet:02x}")).collect();
    let another = "ab".repeat(32);
    let (known, more) = (("pinned", fingerprint.as_str()), ("another", another.as_str()));
    configure(&[known], false);
    let mut process = Process::start(&bench.configuration);
    let at_starttls = |leaf: &Leaf| Client::starttls(bench.starttls, &bench.tls(Some(leaf))).unwrap().1.code;
    let at_implicit = |leaf: &Leaf| {
        let (mut client, _) = Client::implicit(bench.implicit, &bench.tls(Some(leaf))).unwrap();
        client.command("EHLO client.example.com").unwrap().code
    };
    for (pins, gone, pinned) in [
        (&[known][..], false, 250),
        (&[known], true, 250),
        // Neither configuration says that these pins count there.
        (&[known, more], true, 554),
        // Nor does it come back with the pins of before.
        (&[known], true, 554),
    ] {
        configure(pins, gone);
        process.signal("HUP");
        assert_eq!(process.wait_ready(super::harness::PATIENCE), Start::Ready);
        assert_eq!((at_starttls(&bench.stranger), at_implicit(&bench.stranger)), (pinned, 250), "{pins:?}");
        assert_eq!((at_starttls(&bench.alice), at_implicit(&bench.alice)), (250, 250), "{pins:?}");
    }
    assert!(process.stop().success());
}

#[test]
fn a_part_that_is_wrong_keeps_no_other_part_from_counting() {
    let (_upstream, bench, process) = running("");
    let mut open = session(&bench, &bench.alice);
    let from = process.log_length();
    replace(&bench.server.certificate, b"-----BEGIN CERTIFICATE-----\nAAAA\n");
    process.wait_for_log(from, &["ERROR", "tls", "stay as they were"]);
    let from = process.log_length();
    replace(&crl_of(&bench), &crl(&bench, 2, &[&bench.alice]));
    process.wait_for_log(from, &["reloaded", "ca.crl"]);
    assert!(mail(&mut open, MAIL).text.contains("revoked"));
    assert_eq!(mail(&mut session(&bench, &bench.bob), "MAIL FROM:<bob@example.com>").code, 250);
}

#[test]
fn a_server_certificate_is_replaced_under_open_sessions() {
    let (_upstream, mut bench, process) = running("");
    let mut open = session(&bench, &bench.alice);
    let before = client::server_certificate(bench.implicit, &bench.tls(Some(&bench.alice)));
    let from = process.log_length();
    // Certificate and key are two files, so for a moment they do not belong together.
    bench.staff.server();
    process.wait_for_log(from, &["reloaded", "content of", "localhost"]);
    assert!(super::harness::eventually(|| {
        client::server_certificate(bench.implicit, &bench.tls(Some(&bench.alice))) != before
    }));
    assert_eq!(mail(&mut open, MAIL).code, 250);
}

#[test]
fn a_directory_swapped_behind_a_link_is_taken_over() {
    let upstream = Upstream::start(Manner::Polite);
    let bench = Bench::new(&[upstream.address]);
    let mount = bench.directory.path().join("mount");
    for (version, revoked) in [("..1", vec![]), ("..2", vec![&bench.alice])] {
        fs::create_dir_all(mount.join(version)).unwrap();
        fs::write(mount.join(version).join("ca.crl"), crl(&bench, 2, &revoked)).unwrap();
    }
    symlink("..1", mount.join("..data")).unwrap();
    symlink("..data/ca.crl", mount.join("ca.crl")).unwrap();
    let text = fs::read_to_string(&bench.configuration).unwrap();
    let text = text.replace(&crl_of(&bench).display().to_string(), "mount/ca.crl");
    fs::write(&bench.configuration, text).unwrap();
    let process = Process::start(&bench.configuration);
    let mut open = session(&bench, &bench.alice);
    assert_eq!(mail(&mut open, MAIL).code, 250);
    let from = process.log_length();
    symlink("..2", mount.join("..next")).unwrap();
    fs::rename(mount.join("..next"), mount.join("..data")).unwrap();
    process.wait_for_log(from, &["reloaded", "mount/ca.crl"]);
    assert!(mail(&mut open, MAIL).text.contains("revoked"));
}

#[test]
fn what_the_system_does_not_tell_the_slow_look_finds() {
    let upstream = Upstream::start(Manner::Polite);
    let bench = Bench::new(&[upstream.address]);
    let top = bench.directory.path();
    // Directories are listened to where files lie; that the one above is another now, nobody says.
    for (name, revoked) in [("now", vec![]), ("next", vec![&bench.alice])] {
        fs::create_dir_all(top.join(name).join("crls")).unwrap();
        fs::write(top.join(name).join("crls/ca.crl"), crl(&bench, 2, &revoked)).unwrap();
    }
    let text = fs::read_to_string(&bench.configuration).unwrap();
    let text = text.replace(&crl_of(&bench).display().to_string(), "now/crls/ca.crl");
    fs::write(&bench.configuration, text + "\n[reload]\npoll = \"1s\"\n").unwrap();
    let process = Process::start(&bench.configuration);
    let mut open = session(&bench, &bench.alice);
    assert_eq!(mail(&mut open, MAIL).code, 250);
    let from = process.log_length();
    fs::rename(top.join("now"), top.join("old")).unwrap();
    fs::rename(top.join("next"), top.join("now")).unwrap();
    process.wait_for_log(from, &["reloaded", "now/crls/ca.crl"]);
    assert!(mail(&mut open, MAIL).text.contains("revoked"));
}

#[test]
fn with_watch_off_only_a_signal_counts_and_with_all_the_configuration_too() {
    let (upstream, bench, process) = running("[reload]\nwatch = \"off\"\n");
    let mut open = session(&bench, &bench.alice);
    replace(&crl_of(&bench), &crl(&bench, 2, &[&bench.alice]));
    assert_eq!(mail(&mut open, MAIL).code, 250);
    let from = process.log_length();
    bench.configure(&[upstream.address], "[reload]\nwatch = \"all\"\n");
    process.signal("HUP");
    process.wait_for_log(from, &["reloaded", "SIGHUP", "ca.crl"]);
    assert!(mail(&mut open, MAIL).text.contains("revoked"));
    let from = process.log_length();
    bench.configure(&[upstream.address], "[reload]\nwatch = \"all\"\n[limits]\nidle_commands = 49\n");
    process.wait_for_log(from, &["reloaded", "changed files", "idle_commands"]);
}

#[test]
fn a_session_that_outlives_its_certificate_is_refused_at_the_next_mail() {
    let upstream = Upstream::start(Manner::Polite);
    let mut bench = Bench::new(&[upstream.address]);
    bench.configure(&[upstream.address], "[limits]\nidle_commands = 1000000\n");
    let process = Process::start(&bench.configuration);
    let short = bench.staff.client_for("alice@example.com", 8);
    let mut open = session(&bench, &short);
    assert_eq!(mail(&mut open, MAIL).code, 250);
    let refused = std::cell::RefCell::new(None);
    let open = std::cell::RefCell::new(open);
    assert!(super::harness::eventually(|| {
        let said = mail(&mut open.borrow_mut(), MAIL);
        let is_refused = said.code != 250;
        *refused.borrow_mut() = is_refused.then_some(said);
        is_refused
    }));
    let said = refused.into_inner().unwrap();
    assert!(said.text.contains("expired"), "{said:?}");
    process.wait_for_log(0, &["the identity of an open session is gone"]);
}

#[test]
fn a_new_password_counts_at_the_next_auth_and_the_old_one_no_more() {
    let upstream = Upstream::start(Manner::Polite);
    let bench = Bench::new(&[upstream.address]);
    let file = bench.directory.path().join("credentials");
    bench.write_credential(&file, ALICE, "correct horse");
    bench.configure(&[upstream.address], "[credentials]\nfile = \"credentials\"\n");
    let text = fs::read_to_string(&bench.configuration).unwrap();
    let text = text.replace("send_as_email = true\n", "send_as_email = true\nsecond_factor = \"password\"\n");
    fs::write(&bench.configuration, text).unwrap();
    let process = Process::start(&bench.configuration);
    let auth = |client: &mut Client, password: &str| {
        let initial = STANDARD.encode(format!("\0{ALICE}\0{password}"));
        client.command(&format!("AUTH PLAIN {initial}")).unwrap().code
    };
    let (mut inside, mut before) = (session(&bench, &bench.alice), session(&bench, &bench.alice));
    assert_eq!(mail(&mut inside, MAIL).code, 530);
    assert_eq!((auth(&mut inside, "correct horse"), mail(&mut inside, MAIL).code), (235, 250));
    let from = process.log_length();
    bench.write_credential(&file, ALICE, "battery staple");
    process.wait_for_log(from, &["reloaded", "changed files", "credentials"]);
    // Sessions from before the change, and one from behind it.
    assert_eq!((auth(&mut before, "correct horse"), auth(&mut before, "battery staple")), (535, 235));
    assert_eq!(mail(&mut before, MAIL).code, 250);
    assert_eq!(mail(&mut inside, MAIL).code, 530, "what was shown does not count any more");
    let mut behind = session(&bench, &bench.alice);
    assert_eq!((auth(&mut behind, "correct horse"), auth(&mut behind, "battery staple")), (535, 235));
    drop((inside, before, behind));
    assert!(process.stop().success());
}

#[test]
fn a_roster_of_lines_is_taken_over_while_sessions_are_open() {
    let upstream = Upstream::start(Manner::Polite);
    let bench = Bench::new(&[upstream.address]);
    let roster = bench.directory.path().join("people.csv");
    let lines = |of_bob: &str| {
        let head = "name,ca,email,send_as,send_to";
        format!("{head}\nalice,staff,alice@example.com,@certificate,*\n{of_bob}").into_bytes()
    };
    let bob = |sends_as: &str| format!("bob,staff,bob@example.com,{sends_as},*\n");
    replace(&roster, &lines(&bob("team@example.com")));
    let text = fs::read_to_string(&bench.configuration).unwrap();
    let text = text.replace("send_as_email = true\nsend_to = [\"*\"]\n", "");
    fs::write(&bench.configuration, format!("identities = \"people.csv\"\n{text}")).unwrap();
    let process = Process::start(&bench.configuration);
    let (mut alice, mut of_bob) = (session(&bench, &bench.alice), session(&bench, &bench.bob));
    let (as_bob, as_team) = ("MAIL FROM:<bob@example.com>", "MAIL FROM:<team@example.com>");
    assert_eq!((mail(&mut of_bob, as_team).code, mail(&mut of_bob, as_bob).code), (250, 550));
    let from = process.log_length();
    replace(&roster, &lines(&bob("@certificate")));
    process.wait_for_log(from, &["reloaded", "changed files", "people.csv"]);
    assert_eq!((mail(&mut of_bob, as_team).code, mail(&mut of_bob, as_bob).code), (550, 250));
    // A roster that is wrong changes nothing.
    let from = process.log_length();
    replace(&roster, &lines("bob,staff,bob@example.com\n"));
    process.wait_for_log(from, &["ERROR", "identities", "stay as they were"]);
    assert_eq!(mail(&mut of_bob, as_bob).code, 250);
    let from = process.log_length();
    replace(&roster, &lines(""));
    process.wait_for_log(from, &["reloaded", "changed files", "people.csv"]);
    let said = mail(&mut of_bob, as_bob);
    assert!(said.code == 554, "{said:?}");
    let (_, greeted) = Client::starttls(bench.starttls, &bench.tls(Some(&bench.bob))).unwrap();
    assert_eq!(greeted.code, 554, "{greeted:?}");
    assert_eq!(mail(&mut alice, MAIL).code, 250, "nobody else is dropped");
    drop((alice, of_bob));
    assert!(process.stop().success());
}

#[test]
fn sigterm_during_a_reload_is_obeyed_at_once() {
    let (_upstream, bench, mut process) = running("");
    // A reload that never ends: the configuration is a pipe that nobody writes to.
    let fifo = bench.directory.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    fs::rename(&fifo, &bench.configuration).unwrap();
    let from = process.log_length();
    process.signal("HUP");
    process.wait_told("RELOADING=1");
    // Clients are served meanwhile.
    assert_eq!(mail(&mut session(&bench, &bench.alice), MAIL).code, 250);
    process.signal("TERM");
    process.wait_for_log(from, &["stopped"]);
    assert!(process.wait_ended().success());
}
