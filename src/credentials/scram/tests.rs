//! RFC 7677's own example, and each way to be wrong.

use proptest::prelude::*;

use aws_lc_rs::pbkdf2;

use super::*;
use crate::credentials::Mark;
use crate::identity::SecondFactor;

const FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const OURS: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const FINAL: &str =
    "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

fn pencil() -> ScramSecret {
    ScramSecret::make("pencil", &STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap(), 4096)
}

fn ground() -> Ground {
    let proof = Proof { factor: SecondFactor::Password, mark: Mark::of(&["pencil"]), code: None };
    Ground { secret: Arc::new(pencil()), proof: Some(proof) }
}

fn exporter(octet: u8) -> ExporterValue {
    ExporterValue([octet; 32])
}

/// The client's side, written against RFC 5802 §3 once more.
fn client_final(exchange: &Exchange, first: &str, binding: &[u8], password: &str) -> String {
    let mut parts = first.splitn(3, ',');
    let gs2 = format!("{},{},", parts.next().unwrap(), parts.next().unwrap());
    let bare = parts.next().unwrap();
    let server_first = exchange.server_first();
    let field = |key: &str| server_first.split(',').find_map(|field| field.strip_prefix(key)).unwrap().to_owned();
    let without_proof = format!("c={},r={}", STANDARD.encode([gs2.as_bytes(), binding].concat()), field("r="));
    let secret = ScramSecret::make(password, &STANDARD.decode(field("s=")).unwrap(), field("i=").parse().unwrap());
    let mut salted = [0; 32];
    let rounds = field("i=").parse().unwrap();
    let salt = STANDARD.decode(field("s=")).unwrap();
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salt, password.as_bytes(), &mut salted);
    let client_key = mac(&salted, b"Client Key");
    let signature = mac(&*secret.stored_key, format!("{bare},{server_first},{without_proof}").as_bytes());
    let proof: Vec<u8> = client_key.iter().zip(signature.iter()).map(|(one, other)| one ^ other).collect();
    format!("{without_proof},p={}", STANDARD.encode(proof))
}

fn begin(first: &str, binding: Binding) -> Result<Exchange, ScramFault> {
    Ok(ClientFirst::read(first.as_bytes(), &binding)?.answer(ground(), binding, OURS))
}

#[test]
fn the_example_of_rfc_7677_comes_out() {
    let first = ClientFirst::read(FIRST.as_bytes(), &Binding::NotOffered).unwrap();
    assert_eq!((first.user.as_str(), first.authzid.as_str()), ("user", ""));
    let exchange = first.answer(ground(), Binding::NotOffered, OURS);
    assert_eq!(exchange.server_first(), SERVER_FIRST);
    let (proof, server_final) = exchange.finish(FINAL.as_bytes()).unwrap();
    assert_eq!((server_final.as_str(), Some(proof)), (SERVER_FINAL, ground().proof));
    assert_eq!(client_final(&exchange, FIRST, b"", "pencil"), FINAL);
}

/// As PostgreSQL and other programs that keep RFC 5803's form write it.
#[test]
fn a_secret_is_read_as_it_was_written() {
    let text = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
    assert_eq!(pencil().written(), text);
    assert_eq!(ScramSecret::read(text).unwrap().written(), text);
    for (wrong, reason) in [
        (text.replace("4096", "4095"), "iterations"),
        (text.replace("4096", "5000001"), "iterations"),
        (text.replace("W22ZaJ0SNY7soEsUEjb6gQ==", "AAAA"), "salt"),
        (text.replace("SHA-256", "SHA-1"), "is not"),
        (text.replace("wfPL", ""), "is not"),
        (format!("{text}:x"), "is not"),
    ] {
        let fault = ScramSecret::read(&wrong).unwrap_err();
        assert!(fault.contains(reason), "{wrong}: {fault}");
    }
}

#[test]
fn channel_binding_is_held_against_the_mechanism_and_the_offer() {
    use Binding::{Bound, Declined, NotOffered};
    for (flag, binding, expected) in [
        ("n", NotOffered, Ok(())),
        ("y", NotOffered, Ok(())),
        ("p=tls-exporter", NotOffered, Err(ScramFault::Flag)),
        ("n", Declined, Ok(())),
        ("y", Declined, Err(ScramFault::Downgrade)),
        ("p=tls-exporter", Declined, Err(ScramFault::Flag)),
        ("n", Bound(exporter(1)), Err(ScramFault::Flag)),
        ("y", Bound(exporter(1)), Err(ScramFault::Flag)),
        ("p=tls-unique", Bound(exporter(1)), Err(ScramFault::Flag)),
        ("p=tls-server-end-point", Bound(exporter(1)), Err(ScramFault::Flag)),
        ("p=", Bound(exporter(1)), Err(ScramFault::Flag)),
        ("p=tls-exporter", Bound(exporter(1)), Ok(())),
        ("x", NotOffered, Err(ScramFault::Grammar)),
        ("", NotOffered, Err(ScramFault::Grammar)),
    ] {
        let first = format!("{flag},,n=user,r=abc");
        assert_eq!(begin(&first, binding.clone()).map(|_| ()), expected, "{flag} {binding:?}");
    }
}

#[test]
fn what_was_bound_to_another_connection_is_refused() {
    let first = "p=tls-exporter,,n=user,r=abc";
    let exchange = begin(first, Binding::Bound(exporter(1))).unwrap();
    let finish = |value: &[u8]| exchange.finish(client_final(&exchange, first, value, "pencil").as_bytes()).map(|_| ());
    assert_eq!(finish(&[1; 32]), Ok(()));
    assert_eq!(finish(&[2; 32]), Err(ScramFault::Binding));
    assert_eq!(finish(&[]), Err(ScramFault::Binding));
    assert_eq!(finish(&[1; 31]), Err(ScramFault::Binding));
    // The header is bound too: what was said first can't be unsaid.
    let said_n = begin("n,,n=user,r=abc", Binding::Declined).unwrap();
    let as_if_y = client_final(&said_n, "y,,n=user,r=abc", b"", "pencil");
    assert_eq!(said_n.finish(as_if_y.as_bytes()).map(|_| ()), Err(ScramFault::Binding));
}

/// RFC 5802 §5.1: prepared only to be looked up.
#[test]
fn the_name_goes_into_the_hash_as_it_came() {
    for first in ["n,,n=us\u{ad}er,r=abc", "n,,n=\u{2168},r=abc", "n,,n=a=2Cb=3Dc,r=abc"] {
        let exchange = begin(first, Binding::NotOffered).unwrap();
        let message = client_final(&exchange, first, b"", "pencil");
        assert_eq!(exchange.finish(message.as_bytes()).map(|_| ()), Ok(()), "{first}");
    }
}

#[test]
fn a_wrong_final_message_is_refused() {
    let exchange = begin(FIRST, Binding::NotOffered).unwrap();
    let good_proof = FINAL.rsplit_once(",p=").unwrap().1;
    for (message, expected) in [
        (client_final(&exchange, FIRST, b"", "pencils"), ScramFault::Proof),
        (FINAL.replace("rOprN", "rOprM"), ScramFault::Nonce),
        (FINAL.replace(OURS, ""), ScramFault::Nonce),
        (FINAL.replace("biws", "eSws"), ScramFault::Binding),
        (FINAL.replace("biws", "%%"), ScramFault::Grammar),
        (FINAL.replace(good_proof, "AAAA"), ScramFault::Proof),
        (FINAL.replace(good_proof, ""), ScramFault::Proof),
        (FINAL.replace(",p=", ",m=1,p="), ScramFault::Grammar),
        (FINAL.replace(",p=", ",x=1,p="), ScramFault::Proof),
        (String::new(), ScramFault::Grammar),
        ("c=biws".to_owned(), ScramFault::Grammar),
    ] {
        assert_eq!(exchange.finish(message.as_bytes()).map(|_| ()), Err(expected), "{message}");
    }
}

#[test]
fn the_first_message_is_read_strictly() {
    for (message, user, authzid) in [
        ("n,,n=user,r=abc", "user", ""),
        ("n,a=alice=40example=2Ccom,n=u,r=abc", "", ""),
        ("n,a=staff:alice,n=a=2Cb=3Dc,r=abc", "a,b=c", "staff:alice"),
        ("n,,n=us\u{ad}er,r=abc,x=later", "user", ""),
        ("n,,n=\u{2168},r=abc", "IX", ""),
        ("n,,m=1,n=user,r=abc", "", ""),
        ("n,,n=user,r=abc,m=1", "", ""),
        ("n,,n=user", "", ""),
        ("n,,n=,r=abc", "", ""),
        ("n,,n=user,r=", "", ""),
        ("n,,n=user,r=a\u{e9}", "", ""),
        ("n,,n=us=er,r=abc", "", ""),
        ("n,,n=us\u{7}er,r=abc", "", ""),
        ("n,b=x,n=user,r=abc", "", ""),
    ] {
        let read = ClientFirst::read(message.as_bytes(), &Binding::NotOffered);
        let read = read.map(|first| (first.user, first.authzid)).unwrap_or_default();
        assert_eq!((read.0.as_str(), read.1.as_str()), (user, authzid), "{message}");
    }
    let long = format!("n,,n=user,r={}", "a".repeat(NONCE_MAX + 1));
    assert_eq!(ClientFirst::read(long.as_bytes(), &Binding::NotOffered), Err(ScramFault::Grammar));
}

#[test]
fn nobodys_secret_looks_like_one_and_lets_nobody_in() {
    let nobody = |user: &str, fake: u8| Ground::of_nobody(user, &[fake; 32], 4096, 16);
    assert_eq!(nobody("bob", 1).secret.salt(), nobody("bob", 1).secret.salt(), "the same each time");
    assert_ne!(nobody("bob", 1).secret.salt(), nobody("eve", 1).secret.salt(), "each user has its own");
    assert_ne!(nobody("bob", 1).secret.salt(), nobody("bob", 2).secret.salt(), "nobody else can tell it");
    assert_eq!(nobody("bob", 1).secret.salt().len(), 16);
    let first = ClientFirst::read(FIRST.as_bytes(), &Binding::NotOffered).unwrap();
    let exchange = first.answer(nobody("user", 1), Binding::NotOffered, OURS);
    let message = client_final(&exchange, FIRST, b"", "pencil");
    assert_eq!(exchange.finish(message.as_bytes()).map(|_| ()), Err(ScramFault::Proof));
}

#[test]
fn nothing_of_a_secret_is_printed() {
    let exchange = begin(FIRST, Binding::Bound(exporter(1))).err().map(|_| begin(FIRST, Binding::NotOffered).unwrap());
    let printed = format!("{:?} {:?}", pencil(), exchange);
    assert!(!printed.contains("stored_key") && !printed.contains("server_key"), "{printed}");
}

proptest! {
    #[test]
    fn any_octets_are_read_or_refused(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = ClientFirst::read(&octets, &Binding::NotOffered);
        let _ = begin(FIRST, Binding::NotOffered).unwrap().finish(&octets);
    }

    #[test]
    fn likely_messages_are_read_or_refused(text in "[nyp]=?(tls-exporter)?,(a=[a-z=]{0,5})?,n=[a-z=,2CD3]{0,9},r=[ -~]{0,20}(,[a-z]=[a-z])?") {
        if let Ok(first) = ClientFirst::read(text.as_bytes(), &Binding::NotOffered) {
            prop_assert!(!first.user.is_empty());
            prop_assert!(text.starts_with(&first.gs2_header) && text.ends_with(&first.bare));
        }
    }

    #[test]
    fn the_right_password_and_no_other_is_right(password in "[ -~]{1,20}", other in "[ -~]{1,20}", ours in "[A-Za-z0-9+/]{8,30}") {
        let proof = ground().proof;
        let made = Ground { secret: Arc::new(ScramSecret::make(&password, b"salt of eight and more", 1)), proof };
        let first = ClientFirst::read(FIRST.as_bytes(), &Binding::NotOffered).unwrap();
        let exchange = first.answer(made, Binding::NotOffered, &ours);
        for shown in [&password, &other] {
            let message = client_final(&exchange, FIRST, b"", shown);
            prop_assert_eq!(exchange.finish(message.as_bytes()).is_ok(), *shown == password);
        }
    }
}
