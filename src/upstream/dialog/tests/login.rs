//! TLS and AUTH: what is demanded is never given up, and no password is said too early.

use super::*;

const STARTTLS_EHLO: &str = "250-up.example.net\r\n250-STARTTLS\r\n250 AUTH PLAIN LOGIN\r\n";

fn before_tls(terms: Terms) -> Talk {
    let mut talk = Talk::new(terms);
    talk.hear(GREETING, "> EHLO relay.example.com").hear(STARTTLS_EHLO, "> STARTTLS");
    talk
}

#[test]
fn nothing_learned_before_tls_is_kept() {
    let mut talk = before_tls(terms(TlsTerm::Demanded));
    talk.hear("220 go\r\n", "start tls")
        .on(Event::TlsReady(None), "> EHLO relay.example.com")
        .hear("250 up.example.net\r\n", "ready");
    // STARTTLS and AUTH were offered in plaintext only.
    let mut talk = before_tls(with_password(TlsTerm::Demanded));
    talk.hear("220 go\r\n", "start tls")
        .on(Event::TlsReady(None), "> EHLO relay.example.com")
        .hear("250 up.example.net\r\n", "over Auth NoMechanism");
}

#[test]
fn plaintext_behind_the_go_ahead_for_tls_is_fatal() {
    for injected in ["250 up\r\n", "2", "\r\n", "\0", "421 bye\r\n"] {
        for tls in [TlsTerm::Demanded, TlsTerm::IfOffered] {
            before_tls(terms(tls)).hear(&format!("220 go\r\n{injected}"), "over StartTls Injected");
        }
    }
}

#[test]
fn tls_that_is_demanded_is_never_given_up() {
    let no_starttls = "250 up.example.net\r\n";
    Talk::new(terms(TlsTerm::Demanded))
        .hear(GREETING, "> EHLO relay.example.com")
        .hear(no_starttls, "over StartTls TlsNotOffered");
    Talk::new(terms(TlsTerm::Demanded))
        .hear(GREETING, "> EHLO relay.example.com")
        .hear("502 what?\r\n", "over Hello RefusesUs");
    before_tls(terms(TlsTerm::Demanded)).hear("454 4.7.0 not now\r\n", "over StartTls Busy");
    before_tls(terms(TlsTerm::Demanded)).hear("501 5.5.4 no\r\n", "over StartTls RefusesUs");
    before_tls(terms(TlsTerm::Demanded))
        .hear("220 go\r\n", "start tls")
        .on(Event::Failed(FaultCause::Tls(crate::upstream::TlsCause::Untrusted)), "over Tls Tls");
}

#[test]
fn tls_that_is_hoped_for_is_given_up() {
    before_tls(terms(TlsTerm::IfOffered)).hear("454 4.7.0 not now\r\n", "ready");
    Talk::new(terms(TlsTerm::IfOffered))
        .hear(GREETING, "> EHLO relay.example.com")
        .hear("250 up.example.net\r\n", "ready");
}

#[test]
fn ehlo_unknown_falls_back_to_helo() {
    Talk::new(terms(TlsTerm::Never))
        .hear(GREETING, "> EHLO relay.example.com")
        .hear("500 what?\r\n", "> HELO relay.example.com")
        .hear("250 up.example.net\r\n", "ready")
        .on(Event::Begin(order(1)), "> MAIL FROM:<alice@example.com>");
    Talk::new(with_password(TlsTerm::FromTheStart))
        .hear(GREETING, "> EHLO relay.example.com")
        .hear("500 what?\r\n", "over Hello RefusesUs");
}

fn inside_tls(ehlo: &str, expected: &str) -> Talk {
    let mut talk = Talk::new(with_password(TlsTerm::FromTheStart));
    talk.hear(GREETING, "> EHLO relay.example.com").hear(ehlo, expected);
    talk
}

#[test]
fn auth_plain_is_preferred_and_said_in_one_line() {
    inside_tls("250-up\r\n250 AUTH LOGIN plain\r\n", "> AUTH PLAIN AHJlbGF5AHMzY3JldA==")
        .hear("235 2.7.0 ok\r\n", "ready");
}

#[test]
fn auth_login_answers_two_prompts() {
    inside_tls("250-up\r\n250 AUTH LOGIN\r\n", "> AUTH LOGIN")
        .hear("334 VXNlcm5hbWU6\r\n", "> cmVsYXk=")
        .hear("334 UGFzc3dvcmQ6\r\n", "> czNjcmV0")
        .hear("235 2.7.0 ok\r\n", "ready");
}

#[test]
fn a_long_password_waits_for_its_prompt() {
    let mut terms = with_password(TlsTerm::FromTheStart);
    terms.credentials = Some(Credentials::new("relay", Secret::new("x".repeat(600))).unwrap());
    let mut talk = Talk::new(terms);
    talk.hear(GREETING, "> EHLO relay.example.com").hear("250-up\r\n250 AUTH PLAIN\r\n", "> AUTH PLAIN");
    let Step::Send(octets) = talk.dialog.on(Event::Received(b"334 \r\n")) else { panic!("the response") };
    assert_eq!(octets.len(), 812 + 2);
    talk.hear("235 ok\r\n", "ready");
}

#[test]
fn auth_refused_is_ours_whatever_the_code() {
    for (reply, expected) in [
        ("535 5.7.8 no\r\n", "over Auth RefusesUs"),
        ("550 5.7.1 no\r\n", "over Auth RefusesUs"),
        ("454 4.7.0 later\r\n", "over Auth Busy"),
        ("421 4.7.0 too often\r\n", "over Auth Leaves"),
        ("334 more\r\n", "over Auth UnexpectedReply"),
    ] {
        inside_tls("250-up\r\n250 AUTH PLAIN\r\n", "> AUTH PLAIN AHJlbGF5AHMzY3JldA==").hear(reply, expected);
    }
    inside_tls("250-up\r\n250 AUTH CRAM-MD5\r\n", "over Auth NoMechanism");
}

#[test]
fn a_password_is_not_said_without_demanded_tls() {
    for tls in [TlsTerm::Never, TlsTerm::IfOffered] {
        Talk::new(with_password(tls))
            .hear(GREETING, "> EHLO relay.example.com")
            .hear("250-up\r\n250 AUTH PLAIN\r\n", "over Auth CredentialsInTheClear");
    }
    before_tls(with_password(TlsTerm::IfOffered))
        .hear("220 go\r\n", "start tls")
        .on(Event::TlsReady(None), "> EHLO relay.example.com")
        .hear("250-up\r\n250 AUTH PLAIN\r\n", "over Auth CredentialsInTheClear");
}

fn with(credentials: Credentials) -> Terms {
    let fresh = Fresh { nonce: "rOprNGfwEbeRWgbNEkqO".into(), token: Some(Secret::new("ya29.t0ken")) };
    Terms { credentials: Some(credentials), fresh, ..terms(TlsTerm::FromTheStart) }
}

fn logging_in(terms: Terms, exporter: Option<ExporterValue>, offered: &str, expected: &str) -> Talk {
    let mut talk = Talk { dialog: Dialog::new(terms), last: String::new() };
    talk.on(Event::Connected(exporter), "read").hear(GREETING, "> EHLO relay.example.com");
    talk.hear(&format!("250-up\r\n250 AUTH {offered}\r\n"), expected);
    talk
}

fn password() -> Credentials {
    Credentials::new("user", Secret::new("pencil")).unwrap()
}

fn token() -> Credentials {
    Credentials::with_token_file("relay@example.com", "/token".into()).unwrap()
}

fn bound() -> Option<ExporterValue> {
    Some(ExporterValue([7; 32]))
}

/// What is offered and what we have, and how AUTH begins.
#[test]
fn the_strongest_mechanism_that_serves_is_chosen() {
    let certificate = || Credentials::by_certificate("").unwrap();
    let named = || Credentials::by_certificate("relay@example.com").unwrap();
    let everything = "EXTERNAL LOGIN PLAIN XOAUTH2 OAUTHBEARER SCRAM-SHA-256 SCRAM-SHA-256-PLUS";
    let only = |credentials: Credentials, mechanism| credentials.only_by(Some(mechanism));
    for (credentials, exporter, offered, expected) in [
        (password(), bound(), everything, "> AUTH SCRAM-SHA-256-PLUS p=tls-exporter,,n=user,r=rOprNGfwEbeRWgbNEkqO"),
        (password(), None, everything, "> AUTH SCRAM-SHA-256 n,,n=user,r=rOprNGfwEbeRWgbNEkqO"),
        (password(), bound(), "PLAIN scram-sha-256", "> AUTH SCRAM-SHA-256 y,,n=user,r=rOprNGfwEbeRWgbNEkqO"),
        (password(), bound(), "LOGIN PLAIN XOAUTH2", "> AUTH PLAIN \0user\0pencil"),
        (password(), bound(), "LOGIN EXTERNAL", "> AUTH LOGIN"),
        (password(), bound(), "XOAUTH2 EXTERNAL", "over Auth NoMechanism"),
        (only(password(), Mechanism::Plain), bound(), everything, "> AUTH PLAIN \0user\0pencil"),
        // Told to do without the binding, we don't say that we saw no offer of it.
        (
            only(password(), Mechanism::ScramSha256),
            bound(),
            everything,
            "> AUTH SCRAM-SHA-256 n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
        ),
        (only(password(), Mechanism::ScramSha256Plus), None, everything, "over Auth NoMechanism"),
        (only(password(), Mechanism::ScramSha256), bound(), "PLAIN", "over Auth NoMechanism"),
        (
            token(),
            bound(),
            everything,
            "> AUTH OAUTHBEARER n,a=relay@example.com,\u{1}auth=Bearer ya29.t0ken\u{1}\u{1}",
        ),
        (
            token(),
            bound(),
            "PLAIN XOAUTH2",
            "> AUTH XOAUTH2 user=relay@example.com\u{1}auth=Bearer ya29.t0ken\u{1}\u{1}",
        ),
        (
            only(token(), Mechanism::Xoauth2),
            bound(),
            everything,
            "> AUTH XOAUTH2 user=relay@example.com\u{1}auth=Bearer ya29.t0ken\u{1}\u{1}",
        ),
        (token(), bound(), "PLAIN", "over Auth NoMechanism"),
        (certificate(), bound(), everything, "> AUTH EXTERNAL ="),
        (named(), bound(), everything, "> AUTH EXTERNAL relay@example.com"),
        (certificate(), bound(), "PLAIN", "over Auth NoMechanism"),
    ] {
        let clear = expected.strip_prefix("> AUTH ").and_then(|rest| rest.split_once(' '));
        let expected = match clear {
            Some((name, clear)) if clear != "=" => format!("> AUTH {name} {}", base64(clear)),
            _ => expected.to_owned(),
        };
        logging_in(with(credentials), exporter, offered, &expected);
    }
}

fn base64(clear: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(clear)
}

const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const CLIENT_FINAL: &str =
    "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

/// RFC 7677's example, as far as our final message.
fn scram() -> Talk {
    let first = format!("> AUTH SCRAM-SHA-256 {}", base64("n,,n=user,r=rOprNGfwEbeRWgbNEkqO"));
    let mut talk = logging_in(with(password()), None, "SCRAM-SHA-256", &first);
    let challenge = format!("334 {}\r\n", base64(SERVER_FIRST));
    let Step::Derive(derivation) = talk.dialog.on(Event::Received(challenge.as_bytes())) else { panic!("derive") };
    talk.on(Event::Derived(derivation.run()), &format!("> {}", base64(CLIENT_FINAL)));
    talk
}

#[test]
fn scram_goes_on_only_behind_the_servers_signature() {
    let right = format!("334 {}\r\n", base64(SERVER_FINAL));
    scram().hear(&right, "> ").hear("235 2.7.0 ok\r\n", "ready");
    let wrong = base64("v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    for (reply, expected) in [
        (format!("334 {wrong}\r\n"), "over Auth ServerUnproven"),
        ("334 %%%\r\n".to_owned(), "over Auth ServerUnproven"),
        ("334 \r\n".to_owned(), "over Auth ServerUnproven"),
        ("235 2.7.0 ok\r\n".to_owned(), "over Auth ServerUnproven"),
        ("535 5.7.8 no\r\n".to_owned(), "over Auth RefusesUs"),
        ("454 4.7.0 later\r\n".to_owned(), "over Auth Busy"),
        ("421 4.7.0 bye\r\n".to_owned(), "over Auth Leaves"),
    ] {
        scram().hear(&reply, expected);
    }
    scram().hear(&right, "> ").hear("535 5.7.8 no\r\n", "over Auth RefusesUs");
}

#[test]
fn a_scram_server_that_begins_wrongly_hears_nothing_more() {
    for reply in [
        "235 2.7.0 you are in\r\n".to_owned(),
        format!("334 {}\r\n", base64(&SERVER_FIRST.replace("4096", "1"))),
        format!("334 {}\r\n", base64(&SERVER_FIRST.replace("rOpr", "xxxx"))),
        "334 no base64!\r\n".to_owned(),
    ] {
        let first = format!("> AUTH SCRAM-SHA-256 {}", base64("n,,n=user,r=rOprNGfwEbeRWgbNEkqO"));
        logging_in(with(password()), None, "SCRAM-SHA-256", &first).hear(&reply, "over Auth ServerUnproven");
    }
}

#[test]
fn a_token_that_is_not_taken_is_told_with_its_reason_and_without_the_token() {
    let said = base64("{\"status\":\"401\",\"schemes\":\"Bearer\",\"was\":\"ya29.t0ken\"}\u{7}");
    for (mechanism, response, nothing) in [
        (Mechanism::Xoauth2, "user=relay@example.com\u{1}auth=Bearer ya29.t0ken\u{1}\u{1}", "> "),
        (Mechanism::OauthBearer, "n,a=relay@example.com,\u{1}auth=Bearer ya29.t0ken\u{1}\u{1}", "> AQ=="),
    ] {
        let begun = format!("> AUTH {} {}", mechanism.name(), base64(response));
        let terms = || with(token().only_by(Some(mechanism)));
        let talk = || logging_in(terms(), None, "XOAUTH2 OAUTHBEARER", &begun);
        talk().hear("235 2.7.0 ok\r\n", "ready");
        talk().hear("535 5.7.8 no\r\n", "over Auth RefusesUs");
        let mut talk = talk();
        talk.hear(&format!("334 {said}\r\n"), nothing);
        let Step::Over(fault) = talk.dialog.on(Event::Received(b"535 5.7.8 bad token\r\n")) else { panic!("over") };
        let told = fault.to_string();
        assert!(told.contains(r#"{"status":"401","schemes":"Bearer","was":"[token]"}?"#), "{told}");
        assert!(told.contains("535 5.7.8") && !told.contains("t0ken\""), "{told}");
        assert_eq!(fault.blame(), crate::upstream::Blame::OurSettings);
    }
}

/// Servers repeat a line that they do not know, whole or cut; what they say goes to logs, and to senders.
#[test]
fn what_an_upstream_repeats_of_a_login_is_not_told() {
    let secrets = ["ya29.t0ken".to_owned(), base64("user=relay@example.com\u{1}auth=Bearer ya29.t0ken\u{1}\u{1}")];
    for said in &secrets {
        for echo in [said.as_str(), said.split_at(said.len() - 1).0, said.trim_end_matches('=')] {
            let begun = format!("> AUTH XOAUTH2 {}", secrets[1]);
            let mut talk = logging_in(with(token().only_by(Some(Mechanism::Xoauth2))), None, "XOAUTH2", &begun);
            let reply = format!("500 5.5.1 unrecognized: \"AUTH XOAUTH2 {echo}\"\r\n");
            let Step::Over(fault) = talk.dialog.on(Event::Received(reply.as_bytes())) else { panic!("over") };
            let heard = talk.dialog.take_heard().unwrap().to_string();
            for told in [fault.to_string(), fault.reply().unwrap().to_string(), heard] {
                assert!(told.contains("[secret]") && !told.contains(said.get(..8).unwrap()), "{told}");
            }
        }
    }
}

#[test]
fn a_long_token_waits_for_its_prompt() {
    let mut terms = with(token());
    terms.fresh.token = Some(Secret::new("x".repeat(2000)));
    let mut talk = logging_in(terms, None, "XOAUTH2", "> AUTH XOAUTH2");
    let Step::Send(octets) = talk.dialog.on(Event::Received(b"334 \r\n")) else { panic!("the response") };
    assert!(octets.len() > 2600);
    talk.hear("235 ok\r\n", "ready");
}
