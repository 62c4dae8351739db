//! What the Received field says, and what it keeps to itself.

use proptest::prelude::*;

use super::*;
use crate::mail::Address;

fn trace() -> Trace<'static> {
    Trace {
        hostname: "mail.example.com",
        client: None,
        identity: None,
        priority: None,
        protocol: Protocol::Esmtps,
        tls_version: "TLSv1.3",
        tls_cipher: "TLS_AES_256_GCM_SHA384",
        tls_end: TlsEnd::Client,
        id: QueueId::from_u128(1),
        recipient: None,
        arrived: WallTime::from_seconds(1_795_484_880),
    }
}

fn path(text: &str) -> ForwardPath {
    ForwardPath::Address(Address::parse(text).unwrap())
}

#[test]
fn client_and_identity_are_left_out_unless_wanted() {
    assert_eq!(
        trace().received(),
        "Received: from client.invalid by mail.example.com with ESMTPS\r\n\
         \tid 00000000000000000000000001 tls TLS_AES_256_GCM_SHA384 (TLSv1.3);\r\n\
         \tTue, 24 Nov 2026 01:48:00 +0000\r\n"
    );
    let named = Trace { identity: Some("alice"), ..trace() }.received();
    assert!(named.starts_with("Received: from client.invalid by mail.example.com (identity alice) with "), "{named}");
}

#[test]
fn a_full_stamp_has_every_clause_in_the_order_of_the_grammar() {
    let bob = path("bob@example.net");
    let full = Trace {
        client: Some(ShownClient { helo: "laptop.example", address: "192.0.2.1".parse().unwrap() }),
        identity: Some("staff:alice@example.com"),
        protocol: Protocol::of(Authentication::Auth, Utf8Header::NotDeclared),
        tls_cipher: "TLS13_AES_128_GCM_SHA256",
        priority: Some(-3),
        recipient: Some(&bob),
        ..trace()
    };
    assert_eq!(
        full.received().replace("\r\n\t", " "),
        "Received: from laptop.example ([192.0.2.1]) by mail.example.com (identity staff:alice@example.com) with ESMTPSA \
         id 00000000000000000000000001 for <bob@example.net> PRIORITY -3 tls TLS_AES_128_GCM_SHA256 (TLSv1.3); \
         Tue, 24 Nov 2026 01:48:00 +0000\r\n"
    );
}

#[test]
fn tls_that_ended_at_a_load_balancer_is_not_told_as_the_clients() {
    let said = Trace { tls_end: TlsEnd::Balancer, ..trace() }.received();
    assert_eq!(
        said.replace("\r\n\t", " "),
        "Received: from client.invalid by mail.example.com with ESMTPS id 00000000000000000000000001 tls TLS_AES_256_GCM_SHA384 \
         (TLSv1.3, with a load balancer where the client's TLS ended); Tue, 24 Nov 2026 01:48:00 +0000\r\n"
    );
    assert!(said.lines().all(|line| line.len() <= 78), "{said}");
}

#[test]
fn the_four_protocols_have_their_registered_names() {
    for (authentication, utf8, name) in [
        (Authentication::Certificate, Utf8Header::NotDeclared, "ESMTPS"),
        (Authentication::Auth, Utf8Header::NotDeclared, "ESMTPSA"),
        (Authentication::Certificate, Utf8Header::Declared, "UTF8SMTPS"),
        (Authentication::Auth, Utf8Header::Declared, "UTF8SMTPSA"),
    ] {
        assert_eq!(Protocol::of(authentication, utf8).as_str(), name);
    }
}

#[test]
fn a_name_in_ehlo_that_is_no_host_gives_way_to_the_address() {
    for helo in ["", "a b", "x\r\nBcc: y", "(evil)", "under_score", "пример.рф"] {
        let client = Some(ShownClient { helo, address: "2001:db8::1".parse().unwrap() });
        let said = Trace { client, ..trace() }.received();
        assert!(said.starts_with("Received: from [IPv6:2001:db8::1] by"), "{said}");
    }
    let client = Some(ShownClient { helo: "[127.0.0.1]", address: "192.0.2.1".parse().unwrap() });
    assert!(Trace { client, ..trace() }.received().starts_with("Received: from [127.0.0.1] ([192.0.2.1]) "));
}

#[test]
fn an_international_recipient_is_named_only_in_an_international_message() {
    let zhora = path("жора@пример.рф");
    assert!(!Trace { recipient: Some(&zhora), ..trace() }.received().contains("for <"));
    let utf8 = Trace { recipient: Some(&zhora), protocol: Protocol::Utf8Smtps, ..trace() };
    assert!(utf8.received().contains("for <жора@пример.рф>"));
}

proptest! {
    #[test]
    fn whatever_the_parts_are_it_is_one_printable_field(
        helo in "\\PC{0,60}|[a-z]{1,60}\\.example",
        identity in any::<String>(),
        version in any::<String>(),
        cipher in any::<String>(),
        local in "[a-z]{1,64}",
    ) {
        let recipient = path(&format!("{local}@example.com"));
        let client = Some(ShownClient { helo: &helo, address: "192.0.2.1".parse().unwrap() });
        let field = Trace {
            client, identity: Some(&identity), tls_version: &version, tls_cipher: &cipher, recipient: Some(&recipient), ..trace()
        }.received();
        let body = field.strip_suffix("\r\n").unwrap();
        for (place, line) in body.split("\r\n").enumerate() {
            prop_assert_eq!(line.starts_with('\t'), place > 0);
            prop_assert!(line.len() <= 998);
            prop_assert!(line.trim_start_matches('\t').bytes().all(|octet| matches!(octet, b' '..=b'~')), "{}", line);
            prop_assert!(!line.trim().is_empty());
        }
        prop_assert_eq!(body.matches('(').count(), body.matches(')').count());
    }
}

#[test]
fn a_priority_stands_in_a_clause_of_its_own() {
    let said = Trace { priority: Some(-3), ..trace() }.received().replace("\r\n\t", " ");
    assert!(said.contains(" PRIORITY -3 "), "{said}");
    assert!(!trace().received().contains("PRIORITY"));
}
