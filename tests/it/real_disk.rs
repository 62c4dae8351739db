//! A real file system of its own, ext4 in a file, that is full, can't be written, is mounted over, or fails: a real daemon on it, real clients, a real kernel.
//!
//! Each daemon has the file system in a mount namespace of its own (`unshare -m`), which ends with it, whoever kills it. Root alone can do that, and not
//! everywhere: where it can't, tests/run says why and counts these as skipped.
//!
//! An administrator can't mount a file system read-only while a daemon has files open on it to be written: the kernel says that it is busy. What does
//! happen is an error that ext4 meets (`errors=remount-ro`): from then on it refuses to be written until it is unmounted and checked.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

use serde_json::Value;

use super::harness::bench::Bench;
use super::harness::client::{Client, Said};
use super::harness::process::{Process, Start, program};
use super::harness::upstream::{Manner, Mood, Upstream};
use super::harness::{PATIENCE, eventually};

/// Octets of the file system: over the 64 MiB that are left to outcomes and reports.
const SIZE: &str = "192M";
/// Bodies that lie in the file of messages, and in files of their own.
const LENGTHS: [usize; 2] = [100, 400_000];

/// A disk of ours, and what uses it.
struct Place {
    bench: Bench,
    upstream: Upstream,
    image: PathBuf,
}

/// How it is mounted.
#[derive(Clone, Copy)]
enum Mounted {
    ToBeWritten,
    ReadOnly,
}

impl Place {
    fn new() -> Self {
        let upstream = Upstream::start(Manner::Polite);
        let bench = Bench::new(&[upstream.address]);
        let image = bench.directory.path().join("disk");
        done(&["truncate", "-s", SIZE, text(&image)]);
        done(&["mkfs.ext4", "-q", "-F", "-m", "0", text(&image)]);
        Self { bench, upstream, image }
    }

    fn data(&self) -> PathBuf {
        self.bench.directory.path().join("data")
    }

    fn spawn(&self, mounted: Mounted) -> Process {
        let options = match mounted {
            Mounted::ToBeWritten => "loop,errors=remount-ro",
            Mounted::ReadOnly => "loop,ro",
        };
        // The daemon takes the shell's place, and with it its number.
        let script = format!("mount -o {options} \"$1\" \"$0\" && shift && exec \"$@\"");
        let (data, image) = (self.data(), &self.image);
        Process::spawn(
            &self.bench.configuration,
            &["unshare", "-m", "--", "sh", "-c", &script, text(&data), text(image)],
        )
    }

    fn start(&self) -> Process {
        let mut process = self.spawn(Mounted::ToBeWritten);
        assert_eq!(process.wait_ready(PATIENCE), Start::Ready, "{}", process.log());
        process
    }

    fn submit(&self, number: usize, length: usize) -> Said {
        let (mut client, _) = Client::starttls(self.bench.starttls, &self.bench.tls(Some(&self.bench.alice))).unwrap();
        let head = format!("From: alice@example.com\r\nMessage-ID: {}\r\n\r\n", id(number));
        let body = "a line of text\r\n".repeat(length / 16);
        client.submit("alice@example.com", &["reader@example.net"], (head + &body).as_bytes()).unwrap()
    }

    /// How many messages the daemon says are queued.
    fn queued(&self, process: &Process) -> u64 {
        let words = ["queue", "stats", "--json", "--top", "0", "--config", self.bench.config_argument()];
        let said = inside(process, &[&[program()], &words[..]].concat());
        let stats: Value = serde_json::from_slice(&said.stdout).unwrap_or_else(|_| panic!("{said:?}"));
        stats["queued"].as_u64().unwrap()
    }

    /// Each arrived, once.
    fn have_arrived(&self, process: &Process, numbers: &[usize]) {
        for &number in numbers {
            self.upstream.wait_for(&id(number));
        }
        assert!(eventually(|| self.queued(process) == 0), "not all was recorded:\n{}", process.log());
        for &number in numbers {
            let times = self.upstream.arrivals().iter().filter(|one| one.message_id() == id(number)).count();
            assert_eq!(times, 1, "{number}");
        }
    }

    /// Waits until nobody has the disk mounted any more; the kernel lets go of it behind the last process.
    fn wait_unmounted(&self) {
        let image = text(&self.image);
        assert!(eventually(|| run(&["losetup", "-j", image]).stdout.is_empty()), "{image} is still in use");
    }
}

fn id(number: usize) -> String {
    format!("<disk.{number}@example.com>")
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn run(words: &[&str]) -> Output {
    // Programs of administrators are not in everybody's path.
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    Command::new(words[0])
        .args(&words[1..])
        .env("PATH", path)
        .output()
        .unwrap_or_else(|fault| panic!("{words:?}: {fault}"))
}

fn done(words: &[&str]) {
    let output = run(words);
    assert!(output.status.success(), "{words:?}: {output:?}");
}

/// Runs this where the daemon sees its disk.
fn inside(process: &Process, words: &[&str]) -> Output {
    run(&[&["nsenter", "-t", &process.id().to_string(), "-m", "--"], words].concat())
}

fn done_inside(process: &Process, words: &[&str]) {
    let output = inside(process, words);
    assert!(output.status.success(), "{words:?}: {output:?}");
}

fn is_told_to_come_again(said: &Said) -> bool {
    said.code == 452 && said.text.starts_with("4.3.1")
}

#[test]
fn a_real_disk_that_fills_up_is_told_and_outlived() {
    let place = Place::new();
    let process = place.start();
    let data = place.data();
    let at_data = |script: &str| inside(&process, &["sh", "-c", &format!("cd '{}' && {script}", text(&data))]);
    // Until there is no room, or is again: what is free is not measured for each message.
    let mut number = 0;
    let mut submit_until = |wanted: fn(&Said) -> bool, kept: &mut Vec<usize>| {
        for length in LENGTHS {
            let end = Instant::now() + PATIENCE;
            loop {
                number += 1;
                let said = place.submit(number, length);
                if said.code == 250 {
                    kept.push(number);
                } else {
                    assert!(is_told_to_come_again(&said), "{said:?}");
                }
                if wanted(&said) {
                    break;
                }
                assert!(Instant::now() < end, "{length} octets: {said:?}\n{}", process.log());
            }
        }
    };
    let is_kept: fn(&Said) -> bool = |said| said.code == 250;
    let mut kept = Vec::new();
    place.upstream.set_mood(Mood::PuttingOff);
    submit_until(is_kept, &mut kept);
    // There is room, but none for mail: what is left is for outcomes, and is enough for them.
    let leaves = |octets: u64| format!("fallocate -l $(( $(stat -f -c '%a * %S' .) - {octets} )) ballast");
    assert!(at_data(&leaves(20 << 20)).status.success());
    submit_until(is_told_to_come_again, &mut kept);
    place.upstream.set_mood(Mood::Well);
    place.have_arrived(&process, &kept);
    // There is none at all; what is under way meanwhile ends when there is some again, and nothing comes twice.
    assert!(at_data("rm ballast").status.success());
    place.upstream.set_mood(Mood::PuttingOff);
    submit_until(is_kept, &mut kept);
    assert!(!at_data("cat /dev/zero > ballast").status.success(), "it is full");
    submit_until(is_told_to_come_again, &mut kept);
    place.upstream.set_mood(Mood::Well);
    submit_until(is_told_to_come_again, &mut kept);
    assert!(at_data("rm ballast").status.success());
    submit_until(is_kept, &mut kept);
    place.have_arrived(&process, &kept);
    assert!(process.stop().success());
}

#[test]
fn a_real_disk_that_can_not_be_written_or_is_mounted_over_is_told_and_outlived() {
    let place = Place::new();
    let process = place.start();
    let data = place.data();
    let mut kept = Vec::new();
    let busy = inside(&process, &["mount", "-o", "remount,ro", text(&data)]);
    assert!(!busy.status.success(), "a disk with files open to be written can be made read-only: {busy:?}");
    // Files that nobody may write, by those who have them open neither; and another disk in the place of ours.
    let of_all = |flag: &str| format!("chattr {flag} '{0}'/store.redb '{0}'/messages-* '{0}'/bodies", text(&data));
    let (mount, umount) = (format!("mount -t tmpfs none '{}'", text(&data)), format!("umount '{}'", text(&data)));
    for (spoil, mend) in [(of_all("+i"), of_all("-i")), (mount, umount)] {
        for length in LENGTHS {
            kept.push(kept.len());
            assert_eq!(place.submit(kept.len() - 1, length).code, 250);
        }
        place.have_arrived(&process, &kept);
        done_inside(&process, &["sh", "-c", &spoil]);
        for length in LENGTHS {
            let said = place.submit(1000, length);
            assert!(is_told_to_come_again(&said), "{spoil}: {said:?}");
        }
        done_inside(&process, &["sh", "-c", &mend]);
        for length in LENGTHS {
            kept.push(kept.len());
            let said = place.submit(kept.len() - 1, length);
            assert_eq!(said.code, 250, "{mend}: {said:?}\n{}", process.log());
        }
        place.have_arrived(&process, &kept);
    }
    assert!(place.upstream.arrivals().iter().all(|one| one.message_id() != id(1000)), "what was refused arrived");
    assert!(process.stop().success());
}

#[test]
fn what_was_answered_250_outlasts_a_real_disk_that_fails() {
    let place = Place::new();
    let process = place.start();
    place.upstream.set_mood(Mood::PuttingOff);
    let kept: Vec<usize> = (0..4).collect();
    for &number in &kept {
        assert_eq!(place.submit(number, LENGTHS[number % 2]).code, 250);
    }
    // As a bad block would: ext4 refuses to be written from now on.
    let device = run(&["losetup", "-n", "-O", "NAME", "-j", text(&place.image)]).stdout;
    let device = String::from_utf8(device).unwrap().trim().trim_start_matches("/dev/").to_owned();
    fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "bad block\n").unwrap();
    for length in LENGTHS {
        let said = place.submit(1000, length);
        assert!(is_told_to_come_again(&said), "{said:?}");
    }
    process.kill();
    place.wait_unmounted();
    let checked = run(&["e2fsck", "-fy", text(&place.image)]);
    assert!(matches!(checked.status.code(), Some(0 | 1)), "{checked:?}");
    // Nobody starts where nothing can be written; it is said why.
    let mut read_only = place.spawn(Mounted::ReadOnly);
    assert_eq!(read_only.wait_ready(PATIENCE), Start::Ended);
    assert!(read_only.log().contains("mounted read-only"), "{}", read_only.log());
    drop(read_only);
    place.wait_unmounted();
    let process = place.start();
    place.upstream.set_mood(Mood::Well);
    place.have_arrived(&process, &kept);
    assert_eq!(place.submit(1001, LENGTHS[1]).code, 250);
    place.have_arrived(&process, &[1001]);
    assert!(process.stop().success());
}
