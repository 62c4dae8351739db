//! A disk that fills while messages come: what clients hear, what the audit says, how often an operator is told.

use sealpost::tls::MinVersion;

use super::play::Stage as _;
use super::script::Store;
use super::tls::TlsStage;
use crate::delivery::stage::Log;

/// Octets of a body that does not stay in memory.
const LARGE: usize = 600 * 1024;

#[test]
fn a_disk_that_fills_during_messages_is_told_once_and_the_audit_has_each_with_its_cause() {
    let log = Log::start();
    let mut stage = TlsStage::new(MinVersion::Tls13);
    stage.connect_implicit("alice").unwrap();
    assert_eq!(stage.hear().unwrap().code, 220);
    let say = |stage: &mut TlsStage, line: &str| {
        stage.send(format!("{line}\r\n").as_bytes()).unwrap();
        stage.hear().unwrap().code
    };
    assert_eq!(say(&mut stage, "EHLO client.example.com"), 250);
    let body = format!("From: alice@example.com\r\n\r\n{}.", format!("{}\r\n", "x".repeat(70)).repeat(LARGE / 72));
    for _ in 0..3 {
        assert_eq!(say(&mut stage, "MAIL FROM:<alice@example.com>"), 250);
        assert_eq!(say(&mut stage, "RCPT TO:<bob@example.net>"), 250);
        assert_eq!(say(&mut stage, "DATA"), 354);
        stage.store(Store::Full).unwrap();
        assert_eq!(say(&mut stage, &body), 452);
        stage.store(Store::Fine).unwrap();
    }
    let refused = log.lines("event=\"refused\"");
    assert_eq!(refused.len(), 3, "{refused:?}");
    assert!(refused.iter().all(|line| line.contains("cause=\"no room: ")), "{refused:?}");
    assert_eq!(log.lines("ERROR").len(), 1, "{:?}", log.lines("ERROR"));
    assert!(log.lines("ERROR")[0].contains("mail is refused for want of room"), "{:?}", log.lines("ERROR"));
    assert!(stage.kept().is_empty());
}
