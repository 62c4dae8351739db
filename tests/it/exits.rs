//! What commands end with when something is not there, and that their help tells it.

use std::fs;

use super::harness::bench::Bench;
use super::harness::free_addresses;
use super::harness::process::{Process, sealpost};

/// Numbers that a command's help tells, `queue list`.
fn told(command: &str) -> Vec<i32> {
    let words: Vec<&str> = command.split(' ').chain(["--help"]).collect();
    let help = String::from_utf8(sealpost(&words).stdout).unwrap();
    let (_, exits) = help.split_once("Exit codes:\n\n").unwrap_or_else(|| panic!("{command}: {help}"));
    exits.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect()
}

#[test]
fn what_is_not_there_has_one_number_at_every_command() {
    let bench = Bench::new(&free_addresses::<1>());
    let (config, certificate) = (bench.config_argument(), bench.alice.certificate.to_str().unwrap());
    let text = bench.directory.path().join("text");
    fs::write(&text, "x\n").unwrap();
    let text = text.to_str().unwrap();
    let empty = bench.directory.path().join("empty.toml");
    fs::write(&empty, "x = 1\n").unwrap();
    let empty = empty.to_str().unwrap();
    let pki = bench.directory.path().join("pki");
    let pki = pki.to_str().unwrap();
    assert!(sealpost(&["pki", "init", "--dir", pki]).status.success());
    for (command, rest, number) in [
        ("serve", &["--config", "/nowhere"][..], 78),
        ("check", &["--config", "/nowhere"], 1),
        ("explain", &["--config", "/nowhere", "--cert", certificate], 78),
        ("explain", &["--config", config, "--cert", "/nowhere"], 66),
        ("explain", &["--config", config, "--cert", text], 65),
        ("explain", &["--config", config, "--cert", certificate, "--message", "/nowhere"], 66),
        ("explain", &["--config", config, "--cert", certificate, "--from", "@"], 64),
        ("explain", &["--config", config, "--cert", certificate, "--listener", "192.0.2.1:1"], 64),
        ("upstream test", &["--config", "/nowhere"], 78),
        ("upstream test", &["--config", config, "nobody"], 1),
        ("identities", &["--config", "/nowhere"], 78),
        ("identities", &["--config", config], 69),
        ("queue list", &["--config", "/nowhere"], 78),
        ("queue list", &["--config", empty], 78),
        ("queue list", &["--config", config], 69),
        ("queue list", &["--config", config, "--after", "x"], 64),
        ("queue show", &["--config", config, "x"], 69),
        ("queue hold", &["--config", config], 64),
        ("queue hold", &["--config", config, "--yes"], 64),
        ("queue release", &["--config", config, "--all"], 69),
        ("queue retry", &["--config", config, "--sender", "x@"], 64),
        ("queue remove", &["--config", config, "--all", "--yes"], 69),
        ("queue stats", &["--config", config], 69),
        ("queue compact", &["--config", config], 69),
        ("queue export", &["--config", config, text], 73),
        ("queue export", &["--config", config, "--remove-after", "/nowhere"], 66),
        ("queue export", &["--config", config, "--remove-after", text], 65),
        ("queue import", &["--config", config, "/nowhere"], 66),
        ("queue import", &["--config", config, text], 65),
        ("pki init", &["--dir", pki], 73),
        ("pki init", &["--dir", "/proc/sealpost"], 73),
        ("pki init", &["--dir", text], 73),
        ("pki server", &["--dir", "/nowhere", "a.example"], 66),
        ("pki issue", &["--dir", pki], 64),
        ("pki issue", &["--dir", pki, "--email", "a@example.com", "--csr", "/nowhere"], 66),
        ("pki revoke", &["--dir", pki, "nobody"], 1),
        ("pki renew", &["--dir", pki, "nobody"], 1),
        ("pki crl", &["--dir", "/nowhere"], 66),
        ("pki list", &["--dir", "/nowhere"], 66),
        (
            "submit",
            &["--server", "127.0.0.1:1", "--cert", "/nowhere", "--key", "/nowhere", "--ca", "/nowhere", "a@b.example"],
            78,
        ),
    ] {
        let words: Vec<&str> = command.split(' ').chain(rest.iter().copied()).collect();
        let ended = sealpost(&words);
        assert_eq!(ended.status.code(), Some(number), "{words:?}: {ended:?}");
        assert!(told(command).contains(&number), "{command}: {number} is not in its help");
    }
}

/// One file of it, whichever.
#[test]
fn a_damaged_trial_is_told_of_with_its_remedy() {
    let made = tempfile::tempdir().unwrap();
    let dir = made.path().to_str().unwrap();
    assert!(sealpost(&["pki", "init", "--dir", dir, "--single"]).status.success());
    for (file, name) in [("server", "localhost"), ("alice", "alice@example.com"), ("bob", "bob@example.com")] {
        let kind = if file == "server" { ["server", name].to_vec() } else { ["issue", "--email", name].to_vec() };
        let issued = sealpost(&[&["pki"], &kind[..], &["--dir", dir, "--file", file]].concat());
        assert!(issued.status.success(), "{issued:?}");
    }
    for damaged in ["ca.pem", "alice.pem", "bob.key", "server.pem"] {
        let folder = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(made.path()).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
        fs::write(folder.path().join(damaged), "damaged\n").unwrap();
        let tried = || {
            let [free] = free_addresses();
            let offset = (free.port() - 1587).to_string();
            sealpost(&["quickstart", "--dir", folder.path().to_str().unwrap(), "--port-offset", &offset])
        };
        // Its other two ports may be somebody's.
        let ended = std::iter::repeat_with(tried).take(20).find(|ended| ended.status.code() != Some(69)).unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert!(!ended.status.success() && said.contains("remove it, or choose another with --dir"), "{said}");
        assert!(damaged == "ca.pem" || said.contains(damaged), "{said}");
    }
}

#[test]
fn what_check_finds_and_how_much_it_is_stand_in_one_text() {
    let bench = Bench::new(&free_addresses::<1>());
    let right = sealpost(&["check", "--config", bench.config_argument()]);
    assert!(right.status.success() && right.stderr.is_empty(), "{right:?}");
    bench.configure(&free_addresses::<1>(), "colour = 1\nshape = 2\n");
    let wrong = sealpost(&["check", "--config", bench.config_argument()]);
    let text = String::from_utf8(wrong.stdout).unwrap();
    assert!(wrong.stderr.is_empty(), "{:?}", String::from_utf8_lossy(&wrong.stderr));
    assert!(text.contains("colour") && text.contains("shape") && text.ends_with("\n2 mistakes\n"), "{text}");
}

/// What `serve` refuses is no right configuration to `check`: both ask one function.
#[test]
fn check_and_serve_say_the_same_of_a_place() {
    let bench = Bench::new(&free_addresses::<1>());
    let text = fs::read_to_string(&bench.configuration).unwrap();
    let at = |place: &str| {
        let lines = text.lines().map(|line| match line.split_once(" = ") {
            Some(("data_dir", _)) => format!("data_dir = {place:?}\n"),
            _ => format!("{line}\n"),
        });
        fs::write(&bench.configuration, lines.collect::<String>()).unwrap();
    };
    let is_root = rustix::process::geteuid().is_root();
    // Others are denied, and another user may be let.
    let number = if is_root { 73 } else { 77 };
    for place in ["/proc/sealpost", "/proc/sys/sealpost"] {
        at(place);
        let words = "/proc";
        let checked = sealpost(&["check", "--config", bench.config_argument()]);
        let said = String::from_utf8(checked.stdout).unwrap();
        assert!(said.contains(words) && !said.contains("is right"), "{said}");
        assert_eq!(checked.status.success(), number == 77, "{said}");
        let served = sealpost(&["serve", "--config", bench.config_argument()]);
        assert_eq!(served.status.code(), Some(number), "{served:?}");
        assert!(String::from_utf8_lossy(&served.stderr).contains(words), "{served:?}");
    }
    if is_root {
        let theirs = bench.directory.path().join("theirs");
        fs::create_dir(&theirs).unwrap();
        std::os::unix::fs::chown(&theirs, Some(992), None).unwrap();
        at(theirs.to_str().unwrap());
        let checked = sealpost(&["check", "--config", bench.config_argument()]);
        assert!(String::from_utf8_lossy(&checked.stdout).contains("to be run as uid 992"), "{checked:?}");
        let served = sealpost(&["serve", "--config", bench.config_argument()]);
        let said = String::from_utf8_lossy(&served.stderr).into_owned();
        assert_eq!(served.status.code(), Some(77), "{said}");
        assert!(said.contains("runuser -u $(id -nu 992)") && said.contains("chown -R 0"), "{said}");
        assert_eq!(fs::read_dir(&theirs).unwrap().count(), 0, "nothing was made there");
        std::os::unix::fs::chown(&theirs, Some(0), None).unwrap();
        Process::start(&bench.configuration).kill();
    }
}
