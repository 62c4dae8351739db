//! User principal names and international mailboxes: names that stand in other names of a certificate (RFC 5280 §4.2.1.6, RFC 9598).

use super::*;

/// subjectAltName with these GeneralNames, DER each.
fn names_of(names: &[Vec<u8>]) -> Vec<u8> {
    crate::tls::recipe::der(0x30, &names.concat())
}

/// otherName of this type (its OID's content octets): a string of this tag.
fn other_name(kind: &[u8], tag: u8, text: &[u8]) -> Vec<u8> {
    use crate::tls::recipe::der;
    der(0xa0, &[der(6, kind), der(0xa0, &der(tag, text))].concat())
}

const UPN: &[u8] = &[0x2b, 6, 1, 4, 1, 0x82, 0x37, 20, 2, 3];
const SMTP_UTF8: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 8, 9];
const UTF8: u8 = 12;

impl World {
    /// A certificate of the staff CA with these GeneralNames.
    fn with_names(&self, names: &[Vec<u8>]) -> Made {
        Recipe::client("Alice").extension(&[2, 5, 29, 17], false, names_of(names)).signed_by(&self.staff)
    }
}

#[test]
fn user_principal_names_and_international_mailboxes_are_names() {
    let world = World::new();
    let alice = world.with_names(&[
        other_name(UPN, UTF8, b"Alice@Corp.example"),
        other_name(SMTP_UTF8, UTF8, "zoë@example.com".as_bytes()),
    ]);
    for keys in [
        MatchKeys { upn: upn("alice@corp.example"), ..under("staff") },
        MatchKeys { upn: upn("*@corp.example"), ..under("staff") },
        MatchKeys { email: email("zoë@example.com"), ..under("staff") },
        MatchKeys { email: email("*@example.com"), ..under("staff") },
        MatchKeys { email: email("zoë@example.com"), upn: upn("alice@corp.example"), ..under("staff") },
    ] {
        let roster = Roster::new(vec![entry("alice", keys.clone())], both()).unwrap();
        assert_eq!(world.name(&roster, &alice), Ok("alice".into()), "{keys:?}");
    }
    // The one is not the other, and neither is a look-alike.
    for keys in [
        MatchKeys { email: email("alice@corp.example"), ..under("staff") },
        MatchKeys { upn: upn("zoë@example.com"), ..under("staff") },
        MatchKeys { email: email("zoe@example.com"), ..under("staff") },
        MatchKeys { upn: upn("*@sub.corp.example"), ..under("staff") },
        MatchKeys { upn: upn("*@example"), ..under("staff") },
        MatchKeys { upn: upn("alice@corp.example"), ..under("guests") },
    ] {
        let roster = Roster::new(vec![entry("alice", keys.clone())], both()).unwrap();
        assert_eq!(world.name(&roster, &alice), Err(NoIdentity::Unknown), "{keys:?}");
    }
    // RFC 9598 §5: a name is no pattern.
    let anybody = world.with_names(&[other_name(SMTP_UTF8, UTF8, "*ë@example.com".as_bytes())]);
    for (key, named) in [("zoë@example.com", Err(NoIdentity::Unknown)), ("*@example.com", Ok("alice".into()))] {
        let keys = MatchKeys { email: email(key), ..under("staff") };
        let roster = Roster::new(vec![entry("alice", keys)], both()).unwrap();
        assert_eq!(world.name(&roster, &anybody), named, "{key}");
    }
}

#[test]
fn what_is_wrong_with_an_other_name_is_told_and_it_counts_for_nothing() {
    let world = World::new();
    for (name, said) in [
        (
            other_name(SMTP_UTF8, UTF8, b"alice@example.com"),
            "email:alice@example.com counts for nothing: its local part is all ASCII",
        ),
        (other_name(SMTP_UTF8, UTF8, "zoë@exämple.com".as_bytes()), "its domain is not in A-labels"),
        (other_name(SMTP_UTF8, UTF8, "zoë\0@example.com".as_bytes()), "holds NUL"),
        (other_name(SMTP_UTF8, UTF8, b"zo\xeb@example.com"), "not one UTF8String"),
        (other_name(SMTP_UTF8, 22, b"zoe@example.com"), "not one UTF8String"),
        (other_name(UPN, UTF8, b"alice@corp.example\0"), "upn:alice@corp.example\\u{0} counts for nothing: holds NUL"),
        (other_name(UPN, UTF8, b"alice@corp.example\r\nX"), "holds control"),
        (other_name(UPN, 19, b"alice@corp.example"), "not one UTF8String"),
        (other_name(UPN, UTF8, b"CORP\\alice"), "not a user principal name"),
        (crate::tls::recipe::der(0xa0, &crate::tls::recipe::der(6, UPN)), "not one UTF8String"),
    ] {
        let leaf = world.with_names(&[name]);
        let roster = Roster::new(
            Vec::new(),
            vec![CaGrant { own_names: OwnNames::Both, ..grant_of("staff", &["*"]) }, without_email("guests")],
        )
        .unwrap();
        let examination = roster.examine(&world.chain(&roster, &leaf)).unwrap();
        assert!(examination.identity.is_err(), "{said}");
        assert!(examination.notes.iter().any(|note| note.contains(said)), "{said}: {:?}", examination.notes);
        assert_eq!(examination.facts.unusable.len(), 1);
    }
    // Another kind of otherName is nobody's business.
    let leaf = world.with_names(&[other_name(&[0x2a, 3, 4], UTF8, b"alice@corp.example")]);
    let facts = CertificateFacts::of(&leaf.der).unwrap();
    assert!(facts.unusable.is_empty() && facts.upns.is_empty());
}

#[test]
fn a_ca_may_let_certificates_send_as_their_user_principal_names() {
    let world = World::new();
    let rfc822 = crate::tls::recipe::der(0x81, b"alice.smith@example.com");
    let alice = world.with_names(&[
        rfc822,
        other_name(UPN, UTF8, b"alice@example.com"),
        other_name(UPN, UTF8, b"alice@CORP"),
        other_name(UPN, UTF8, b"alice@other.example"),
    ]);
    let cas = |own_names| vec![CaGrant { own_names, ..grant_of("staff", &["example.com"]) }, without_email("guests")];
    for (own_names, name, mail, upn) in [
        (OwnNames::Emails, "staff:alice.smith@example.com", true, false),
        (OwnNames::Upns, "staff:alice@example.com", false, true),
        (OwnNames::Both, "staff:alice.smith@example.com", true, true),
    ] {
        let identity = world.identify(&Roster::new(Vec::new(), cas(own_names)).unwrap(), &alice).unwrap();
        assert_eq!(identity.name(), name);
        assert_eq!(may_send_as(&identity, "alice.smith@example.com"), mail, "{own_names:?}");
        assert_eq!(may_send_as(&identity, "ALICE@example.com"), upn, "{own_names:?}");
        assert!(!may_send_as(&identity, "alice@other.example"), "beyond the domains");
        // And for an identity of its own, by @certificate.
        let keys = MatchKeys { subject: subject("CN=Alice"), ..under("staff") };
        let own = RosterEntry { send_as: patterns(&["@certificate"]), ..entry("alice", keys) };
        let identity = world.identify(&Roster::new(vec![own], cas(own_names)).unwrap(), &alice).unwrap();
        assert!(may_send_as(&identity, "alice.smith@example.com"), "{own_names:?}");
        assert_eq!(may_send_as(&identity, "alice@example.com"), upn, "{own_names:?}");
    }
}
