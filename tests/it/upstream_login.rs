//! Logging in at an upstream, over real TLS in memory: each mechanism, with the right and with the wrong thing in hand.

use std::sync::Arc;

use sealpost::sys::ManualClock;
use sealpost::upstream::{
    Anchors, Courier, Credentials, Mechanism, Mode, Secret, Security, TlsDemand, TlsMaterial, Upstream, UpstreamFault,
};

use super::scripted_login::Login;
use super::scripted_upstream::{Days, Net, PRESENT, Script, Scripted, TestCa, Zeros};

const NAME: &str = "smtp.example.net";
const LOGIN: Login = Login::new("relay", "p\u{e4}ssword", "t0ken");

struct Scene {
    up: Arc<Scripted>,
    courier: Courier,
    settings: Arc<Upstream>,
}

impl Scene {
    fn new(ca: &TestCa, mode: Mode, script: Script, credentials: Credentials) -> Self {
        let clock = Arc::new(ManualClock::at(PRESENT));
        let implicit = mode == Mode::Implicit;
        let tls = script.tls.clone().or_else(|| Some(ca.server(NAME, Days(-1, 1))));
        let up = Scripted::new(Script { tls, implicit, ..script });
        let material = TlsMaterial {
            anchors: Anchors::Given(vec![ca.certificate.clone()]),
            pins: Vec::new(),
            server_name: None,
            identity: None,
        };
        let security = Security::new(mode, TlsDemand::Verify, NAME, material, clock.clone()).unwrap();
        let mut settings = Upstream::new("main", NAME, 25, "relay.example.com");
        (settings.security, settings.credentials) = (security, Some(credentials));
        let net = Net::default().name(NAME, &[1]).host(1, &up);
        Self { courier: Courier::new(Arc::new(net), clock, Arc::new(Zeros)), settings: Arc::new(settings), up }
    }

    async fn try_out(&self) -> Result<(), UpstreamFault> {
        self.courier.try_out(&self.settings).await
    }

    fn auth_line(&self) -> String {
        let heard = self.up.heard();
        let line = heard.iter().find(|line| line.starts_with("AUTH")).expect("AUTH");
        line.split(' ').take(2).collect::<Vec<_>>().join(" ")
    }
}

fn password(password: &str) -> Credentials {
    Credentials::new("relay", Secret::new(password)).unwrap()
}

fn script(offers: &'static str) -> Script {
    Script { extensions: vec![offers], login: Some(LOGIN), ..Script::default() }
}

fn cause(outcome: Result<(), UpstreamFault>) -> String {
    match outcome {
        Ok(()) => "in".to_owned(),
        Err(fault) => format!("{:?}", fault.cause).split(['(', ' ']).next().unwrap().to_owned(),
    }
}

#[tokio::test(start_paused = true)]
async fn each_mechanism_logs_in_with_the_right_password_only() {
    let ca = TestCa::new("ca");
    for (offers, said) in [
        ("AUTH LOGIN", "AUTH LOGIN"),
        ("AUTH PLAIN LOGIN", "AUTH PLAIN"),
        ("AUTH PLAIN SCRAM-SHA-256 LOGIN", "AUTH SCRAM-SHA-256"),
        ("AUTH PLAIN SCRAM-SHA-256 SCRAM-SHA-256-PLUS", "AUTH SCRAM-SHA-256-PLUS"),
    ] {
        for mode in [Mode::StartTls, Mode::Implicit] {
            for (ours, expected) in [("p\u{e4}ssword", "in"), ("Password", "RefusesUs")] {
                let scene = Scene::new(&ca, mode, script(offers), password(ours));
                assert_eq!(cause(scene.try_out().await), expected, "{offers} {mode:?}");
                assert_eq!(scene.auth_line(), said, "{offers} {mode:?}");
            }
        }
    }
}

/// RFC 9266 §4.2: rustls does not tell whether TLS 1.2 may be bound to.
#[tokio::test(start_paused = true)]
async fn under_tls_1_2_scram_goes_without_its_binding() {
    let ca = TestCa::new("ca");
    let tls = Some(ca.server_by(NAME, Days(-1, 1), &[&rustls::version::TLS12]));
    let offers = "AUTH SCRAM-SHA-256 SCRAM-SHA-256-PLUS";
    let scene =
        Scene::new(&ca, Mode::StartTls, Script { tls: tls.clone(), ..script(offers) }, password(LOGIN.password));
    assert_eq!(cause(scene.try_out().await), "in");
    assert_eq!(scene.auth_line(), "AUTH SCRAM-SHA-256");
    let plus = password(LOGIN.password).only_by(Some(Mechanism::ScramSha256Plus));
    let scene = Scene::new(&ca, Mode::StartTls, Script { tls, ..script(offers) }, plus);
    let told = scene.try_out().await.unwrap_err().to_string();
    assert!(told.contains("which needs TLS 1.3"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_know_the_password_is_found_out() {
    let ca = TestCa::new("ca");
    let login = Some(Login { signs_wrongly: true, ..LOGIN });
    let scene =
        Scene::new(&ca, Mode::StartTls, Script { login, ..script("AUTH SCRAM-SHA-256") }, password(LOGIN.password));
    let fault = scene.try_out().await.unwrap_err();
    assert!(fault.to_string().contains("did not prove at AUTH that it knows our password"), "{fault}");
    assert!(!scene.up.heard().iter().any(|line| line.starts_with("MAIL")));
}

#[tokio::test(start_paused = true)]
async fn a_token_is_read_anew_for_each_connection() {
    let ca = TestCa::new("ca");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let credentials = || Credentials::with_token_file("relay", file.clone()).unwrap();
    for (offers, said) in [("AUTH XOAUTH2", "AUTH XOAUTH2"), ("AUTH XOAUTH2 OAUTHBEARER", "AUTH OAUTHBEARER")] {
        let scene = Scene::new(&ca, Mode::StartTls, script(offers), credentials());
        let _ = std::fs::remove_file(&file);
        assert_eq!(cause(scene.try_out().await), "TokenUnreadable");
        std::fs::write(&file, "old\n").unwrap();
        let fault = scene.try_out().await.unwrap_err();
        assert!(fault.to_string().contains("invalid_token"), "{fault}");
        assert_eq!(cause(Err(fault)), "TokenRefused");
        std::fs::write(&file, "t0ken\n").unwrap();
        assert_eq!(cause(scene.try_out().await), "in", "{offers}");
        assert_eq!(scene.auth_line(), said);
    }
}

#[tokio::test(start_paused = true)]
async fn external_says_whom_the_certificate_is_for_or_nobody() {
    let ca = TestCa::new("ca");
    for (acting_as, expected) in [("", "in"), ("relay", "in"), ("root", "RefusesUs")] {
        let credentials = Credentials::by_certificate(acting_as).unwrap();
        let scene = Scene::new(&ca, Mode::StartTls, script("AUTH PLAIN EXTERNAL"), credentials);
        assert_eq!(cause(scene.try_out().await), expected, "{acting_as:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn long_responses_go_behind_a_prompt() {
    let ca = TestCa::new("ca");
    let long: &'static str = Box::leak("x".repeat(900).into_boxed_str());
    for offers in ["AUTH PLAIN", "AUTH LOGIN", "AUTH SCRAM-SHA-256"] {
        let login = Some(Login { password: long, ..LOGIN });
        let scene = Scene::new(&ca, Mode::StartTls, Script { login, ..script(offers) }, password(long));
        assert_eq!(cause(scene.try_out().await), "in", "{offers}");
    }
}
