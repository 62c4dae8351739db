//! What goes on of a header, octet for octet.

use proptest::prelude::*;

use super::*;
use crate::content::{Utf8Header, read_header};
use crate::mail::trace::TlsEnd;
use crate::mail::{Protocol, QueueId};
use crate::sys::WallTime;

const DATE: &str = "Date: Tue, 24 Nov 2026 01:48:00 +0000\r\n";
const ID: &str = "Message-ID: <07-abc@mail.example.com>\r\n";
/// A DKIM signature but for what it covers.
const SIGNATURE: &str = "DKIM-Signature: v=1; a=rsa-sha256; d=x.example; s=x; bh=x; b=x;";
/// Enough that nothing is missing.
const WHOLE: &str = "Date: x\r\nMessage-ID: y\r\nFrom: a@x.example\r\n";

fn mended(header: &[u8], sender: Option<&str>, proved: Option<Proved<'_>>) -> Mended {
    let facts = read_header(header, &HeaderLimits::default(), Utf8Header::NotDeclared);
    let trace = Trace {
        hostname: "mail.example.com",
        client: None,
        identity: None,
        protocol: Protocol::Esmtps,
        tls_version: "TLSv1.3",
        tls_cipher: "TLS_AES_128_GCM_SHA256",
        tls_end: TlsEnd::Client,
        id: QueueId::from_u128(7),
        priority: None,
        recipient: None,
        arrived: WallTime::from_seconds(1_795_484_880),
    };
    let sender: Option<Address> = sender.map(|text| text.parse().unwrap());
    let wanted = FixUps { trace: &trace, unique: "07-a b<>@c", sender: sender.as_ref(), proved };
    fix_ups(header, &facts, &wanted)
}

/// What stands behind the Received field.
fn behind_received(mended: &Mended) -> String {
    let text = String::from_utf8(mended.header.clone()).unwrap();
    let (received, rest) = text.split_once("+0000\r\n").unwrap();
    assert!(received.starts_with("Received: "));
    assert_eq!(mended.message_id.is_some(), rest.contains(ID));
    rest.to_owned()
}

fn fixed(header: &str) -> String {
    behind_received(&mended(header.as_bytes(), None, None))
}

#[test]
fn what_is_missing_is_added_and_nothing_else() {
    for (header, expected) in [
        ("From: a@x.example\r\n\r\n", format!("{DATE}{ID}")),
        ("From: a@x.example\r\ndate: yesterday\r\n\r\n", ID.to_owned()),
        ("From: a@x.example\r\nMESSAGE-ID:\r\n <1@x>\r\n\r\n", DATE.to_owned()),
        ("Date: x\r\nMessage-ID: y\r\nFrom: a@x.example\r\n\r\n", String::new()),
        ("From: a@x.example\r\n", format!("{DATE}{ID}")),
        (
            "Received: by x; y\r\nReceived: by z; y\r\nFrom: a@x.example\r\nSubject:\r\n  \t x\r\n\r\n",
            format!("{DATE}{ID}"),
        ),
    ] {
        assert_eq!(fixed(header), format!("{expected}{header}"), "{header}");
    }
}

#[test]
fn what_a_signature_names_is_not_added() {
    let signed = format!("{SIGNATURE} h=From:\r\n\tDate : date:Message-ID\r\nFrom: a@x.example\r\n\r\n");
    assert_eq!(fixed(&signed), signed);
    let signed = format!("{SIGNATURE} h=from:authentication-results\r\n{WHOLE}\r\n");
    let proved = Proved { identity: "alice", mechanism: None };
    assert_eq!(behind_received(&mended(signed.as_bytes(), None, Some(proved))), signed);
}

/// RFC 6376 §6.1.1: no verifier believes it, so it says nothing about what was there.
#[test]
fn a_signature_that_nobody_made_keeps_no_fix_up_off() {
    let unsigned = "DKIM-Signature: h=date:message-id:return-path\r\nFrom: a@x.example\r\n\r\n";
    assert_eq!(fixed(unsigned), format!("{DATE}{ID}{unsigned}"));
}

#[test]
fn what_must_not_travel_is_taken_out() {
    let removed = |names: &[&str]| -> Vec<Change> {
        let change = |name: &&str| Change { field: (*name).to_owned(), deed: Deed::Removed, signed: false };
        names.iter().map(change).collect()
    };
    for (before, after, names) in [
        ("Bcc: b@x.example,\r\n c@x.example\r\nTo: d@x.example\r\n", "To: d@x.example\r\n", &["Bcc"][..]),
        ("To: d@x.example\r\nbcc:\r\n", "To: d@x.example\r\n", &["bcc"]),
        (
            "Resent-From: a@x.example\r\nResent-Bcc: b@x.example\r\nRESENT-BCC: c@x.example\r\n",
            "Resent-From: a@x.example\r\n",
            &["Resent-Bcc", "RESENT-BCC"],
        ),
        ("Return-Path: <a@x.example>\r\nReturn-path: <>\r\n", "", &["Return-Path", "Return-path"]),
        ("Authentication-Results: mail.example.com;\r\n\tspf=pass\r\n", "", &["Authentication-Results"]),
        (
            "Authentication-Results: mx.example.net; spf=pass\r\nauthentication-results: MAIL.example.com; dkim=pass\r\n",
            "Authentication-Results: mx.example.net; spf=pass\r\n",
            &["authentication-results"],
        ),
        (
            "ARC-Authentication-Results: i=1; mail.example.com; spf=pass\r\nARC-Authentication-Results: i=2; mx.example.net; spf=pass\r\n",
            "ARC-Authentication-Results: i=2; mx.example.net; spf=pass\r\n",
            &["ARC-Authentication-Results"],
        ),
        ("X-Bcc: b@x.example\r\nBccs: b\r\n", "X-Bcc: b@x.example\r\nBccs: b\r\n", &[]),
    ] {
        let mended = mended(format!("{before}{WHOLE}\r\n").as_bytes(), None, None);
        assert_eq!(behind_received(&mended), format!("{after}{WHOLE}\r\n"), "{before}");
        assert_eq!(mended.changes, removed(names), "{before}");
    }
    assert_eq!(fixed(&format!("{WHOLE}Bcc: b@x.example\r\n")), WHOLE, "the last field of a message without a body");
    assert_eq!(fixed(&format!("{WHOLE}Bcc: b@x.example\r\n\r\n")), format!("{WHOLE}\r\n"));
}

#[test]
fn of_what_a_signature_names_only_what_does_harm_is_taken_out_and_that_is_told() {
    let header = format!(
        "{SIGNATURE} h=from:bcc:return-path:authentication-results\r\nBcc: b@x.example\r\nReturn-Path: <a@x.example>\r\n\
         Authentication-Results: mail.example.com; auth=pass\r\n{WHOLE}\r\n"
    );
    let mended = mended(header.as_bytes(), None, None);
    let expected = header.replace("Bcc: b@x.example\r\nReturn-Path: <a@x.example>\r\n", "");
    let expected = expected.replace("Authentication-Results: mail.example.com; auth=pass\r\n", "");
    assert_eq!(behind_received(&mended), expected);
    let told: Vec<_> = mended.changes.iter().map(|change| (change.field.as_str(), change.signed)).collect();
    assert_eq!(told, [("Bcc", true), ("Return-Path", true), ("Authentication-Results", true)]);
}

#[test]
fn a_sender_takes_the_place_of_the_one_that_is_there_or_comes_in_front() {
    let replaced = mended(format!("Sender: root\r\n{WHOLE}\r\n").as_bytes(), Some("alice@example.com"), None);
    assert_eq!(behind_received(&replaced), format!("Sender: alice@example.com\r\n{WHOLE}\r\n"));
    assert_eq!(replaced.changes, [Change { field: "Sender".to_owned(), deed: Deed::Replaced, signed: false }]);
    let added = mended(format!("{WHOLE}\r\n").as_bytes(), Some("alice@example.com"), None);
    assert_eq!(
        (behind_received(&added), added.changes.len()),
        (format!("Sender: alice@example.com\r\n{WHOLE}\r\n"), 0)
    );
    let left = format!("Sender: root\r\n{WHOLE}\r\n");
    assert_eq!(fixed(&left), left);
}

#[test]
fn who_was_authenticated_is_told_when_asked_for_and_no_other_word_of_ours_stays() {
    let claimed = format!("Authentication-Results: mail.example.com; auth=pass smtp.auth=ceo\r\n{WHOLE}\r\n");
    for (mechanism, result) in
        [(Some("EXTERNAL"), "auth=pass (EXTERNAL over mutual TLS)"), (None, "x-client-certificate=pass")]
    {
        let proved = Proved { identity: "staff:alice@example.com", mechanism };
        assert_eq!(
            behind_received(&mended(claimed.as_bytes(), None, Some(proved))),
            format!(
                "Authentication-Results: mail.example.com;\r\n\t{result}\r\n\tsmtp.auth=\"staff:alice@example.com\"\r\n{WHOLE}\r\n"
            )
        );
    }
}

#[test]
fn changes_have_a_limit_and_removals_have_none() {
    let header = format!("{}{WHOLE}\r\n", "Bcc: b@x.example\r\n".repeat(CHANGES_MAX + 9));
    let mended = mended(header.as_bytes(), None, None);
    assert_eq!((behind_received(&mended), mended.changes.len()), (format!("{WHOLE}\r\n"), CHANGES_MAX));
}

proptest! {
    /// Taking out touches no other field, wherever they stand.
    #[test]
    fn the_rest_follows_octet_for_octet(
        fields in prop::collection::vec(("Bcc|Return-Path|To|Bccc|X", "[ -~\\xff]{0,20}(\r\n [!-~]{1,9}){0,2}"), 0..9),
        ended: bool,
    ) {
        let all: Vec<(String, String)> = fields.into_iter().map(|(name, value)| (name.clone(), format!("{name}:{value}\r\n"))).collect();
        let join = |kept: &dyn Fn(&str) -> bool| -> String {
            let kept = all.iter().filter(|(name, _)| kept(name)).map(|(_, field)| field.as_str());
            kept.chain([WHOLE, if ended { "\r\n" } else { "" }]).collect()
        };
        let expected = join(&|name| !matches!(name, "Bcc" | "Return-Path"));
        prop_assert_eq!(fixed(&join(&|_| true)), expected);
    }
}
