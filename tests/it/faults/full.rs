//! A disk that is full, refuses to be written, or is gone: told to the client, survived without a restart.

use std::fs;
use std::path::Path;

use sealpost::queue::Driving;
use sealpost::sys::disk::{Disk as _, Fault};

use super::relay::{Dialog, How, LARGE, Relay, virtual_time};
use crate::harness::bench::Bench;
use crate::harness::client::Client;
use crate::harness::process::Process;
use crate::harness::upstream::{Manner, Upstream};
use crate::scripted_upstream::{Script, Scripted};

/// Octets of a simulated disk.
const SPACE: u64 = 1 << 34;

/// The disk goes bad, each submission meanwhile is told to come again, and the first one afterwards is kept.
fn check(story: &str, goes_bad: fn(&Relay), gets_well: fn(&Relay)) {
    virtual_time().block_on(async {
        let relay = Relay::new(Driving::Inline, &Scripted::new(Script::default()));
        let mut kept = 0;
        for how in [How::Data, How::Guarded] {
            for length in [200, LARGE] {
                let dialog = Dialog::new(how, length);
                assert_eq!(relay.submit(&dialog).await, 250, "{story}: at first");
                kept += 1;
                goes_bad(&relay);
                for _ in 0..2 {
                    let said = relay.submit(&dialog).await;
                    assert_eq!(said, 452, "{story}, {how:?}, {length} octets");
                }
                gets_well(&relay);
                assert_eq!(relay.submit(&dialog).await, 250, "{story}: without a restart");
                kept += 1;
                assert_eq!(relay.records().await.len(), kept, "{story}");
            }
        }
    });
}

#[test]
fn a_full_disk_is_told_and_outlived() {
    check(
        "a full disk",
        |relay| {
            let left = relay.disk.space_left(Path::new("/queue")).unwrap();
            relay.disk.set_space(SPACE - left);
        },
        |relay| relay.disk.set_space(SPACE),
    );
}

#[test]
fn a_disk_that_can_be_read_only_is_told_and_outlived() {
    check("a read-only disk", |relay| relay.disk.fail(1, u64::MAX, Fault::Error), |relay| relay.disk.mend());
}

/// The folder is moved away under a running daemon, as by a mount that is lost, and comes back.
#[test]
fn a_data_directory_that_vanishes_is_told_and_outlived() {
    let upstream = Upstream::start(Manner::Polite);
    let bench = Bench::new(&[upstream.address]);
    let process = Process::start(&bench.configuration);
    let (data, away) = (bench.directory.path().join("data"), bench.directory.path().join("away"));
    let tls = bench.tls(Some(&bench.alice));
    let submit = |number: usize, length: usize| {
        let (mut client, _) = Client::starttls(bench.starttls, &tls).unwrap();
        let head = format!("From: alice@example.com\r\nMessage-ID: <gone.{number}@example.com>\r\n\r\n");
        let body = "a line of text\r\n".repeat(length / 16);
        client.submit("alice@example.com", &["reader@example.net"], (head + &body).as_bytes()).unwrap()
    };
    assert_eq!(submit(1, 100).code, 250);
    upstream.wait_for("<gone.1@example.com>");
    fs::rename(&data, &away).unwrap();
    for length in [100, 400_000] {
        let said = submit(2, length);
        assert_eq!((said.code, &said.text[..5]), (452, "4.3.1"), "{said:?}");
    }
    fs::rename(&away, &data).unwrap();
    for (number, length) in [(3, 100), (4, 400_000)] {
        let said = submit(number, length);
        assert_eq!(said.code, 250, "{said:?}\n{}", process.log());
        upstream.wait_for(&format!("<gone.{number}@example.com>"));
    }
    assert!(process.stop().success());
}
