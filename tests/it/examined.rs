//! `sealpost upstream test`: what is shown of an upstream, in memory; and the command, on a real configuration.

use std::sync::Arc;

use sealpost::sys::{Clock, ManualClock};
use sealpost::upstream::examination::{Examination, examine};
use sealpost::upstream::{
    Anchors, Credentials, Dane, FaultCause, Mode, Phase, Pin, Secret, Security, SourceAddresses, TlsCause, TlsDemand,
    TlsMaterial, Upstream,
};

use super::harness::bench::Bench;
use super::harness::process::{Process, sealpost};
use super::harness::upstream::{Manner, Upstream as Catcher};
use super::scripted_upstream::{Days, Misdeed, Net, PRESENT, Script, Scripted, TestCa, Zeros};

const NAME: &str = "smtp.example.net";

struct Scene {
    up: Arc<Scripted>,
    net: Net,
    clock: Arc<dyn Clock>,
    upstream: Upstream,
}

impl Scene {
    /// An upstream with TLS whose certificate `ca` vouches for, looked at by `demand`, with a password.
    fn new(ca: &TestCa, trusted: &TestCa, demand: TlsDemand, change: impl FnOnce(&mut Script)) -> Self {
        let extensions = vec!["PIPELINING", "AUTH PLAIN"];
        let mut script = Script { tls: Some(ca.server(NAME, Days(-1, 30))), extensions, ..Script::default() };
        change(&mut script);
        let up = Scripted::new(script);
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(PRESENT));
        let material = TlsMaterial {
            anchors: Anchors::Given(vec![trusted.certificate.clone()]),
            pins: Vec::new(),
            server_name: None,
            identity: None,
        };
        let security = Security::new(Mode::StartTls, demand, NAME, material, Arc::clone(&clock)).unwrap();
        let credentials = Some(Credentials::new("relay", Secret::new("hunter2")).unwrap());
        let upstream = Upstream { security, credentials, ..Upstream::new("main", NAME, 25, "relay.example.com") };
        let net = Net::default().name(NAME, &[7, 1]).host(1, &up);
        Self { up, net, clock, upstream }
    }

    async fn examine(&self) -> Examination {
        let examination = examine(&self.net, &self.upstream, &self.clock, &Zeros).await;
        let heard = self.up.heard();
        assert!(!heard.iter().any(|line| line.starts_with("MAIL")), "{heard:?}");
        examination
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_good_upstream_all_is_shown_and_nothing_is_sent() {
    let ca = TestCa::new("ca");
    let scene = Scene::new(&ca, &ca, TlsDemand::Verify, |_| {});
    let examination = scene.examine().await;
    assert!(examination.is_ready());
    assert_eq!(examination.addresses.as_ref().unwrap().len(), 2);
    let [first, second] = &examination.visits[..] else { panic!("{examination:?}") };
    assert!(matches!(first.fault.as_ref().unwrap().cause, FaultCause::Unreachable(_)), "{first:?}");
    let phases: Vec<Phase> = second.replies.iter().map(|(phase, _)| *phase).collect();
    let all = [Phase::Greeting, Phase::Hello, Phase::StartTls, Phase::Hello, Phase::Auth, Phase::Quit];
    assert_eq!(phases, all);
    let tls = second.tls.as_ref().unwrap();
    assert_eq!((tls.version.as_str(), tls.certificates.len()), ("TLSv1.3", 1));
    // As in Received and in the log: the name in IANA's registry.
    assert!(tls.cipher.starts_with("TLS_"), "{}", tls.cipher);
    assert!(second.fault.is_none() && second.refused.is_empty());
    assert_eq!(scene.up.heard().last().unwrap(), "QUIT");
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_is_refused_is_shown_and_no_password_is_said() {
    let (ca, other) = (TestCa::new("ca"), TestCa::new("other"));
    let scene = Scene::new(&ca, &other, TlsDemand::Verify, |_| {});
    let examination = scene.examine().await;
    let last = examination.visits.last().unwrap();
    assert!(matches!(last.fault.as_ref().unwrap().cause, FaultCause::Tls(TlsCause::Untrusted)), "{last:?}");
    assert_eq!((last.refused.len(), last.tls.is_none(), examination.is_ready()), (1, true, false));
    assert!(!scene.up.heard().iter().any(|line| line.starts_with("AUTH")), "{:?}", scene.up.heard());
}

#[tokio::test(start_paused = true)]
async fn pins_and_tlsa_records_count_and_a_certificate_that_is_not_pinned_is_shown() {
    let (ca, other) = (TestCa::new("ca"), TestCa::new("other"));
    let (server, leaf) = ca.server_and_leaf(NAME, Days(-1, 30));
    let mut scene = Scene::new(&ca, &ca, TlsDemand::Verify, |script| script.tls = Some(server));
    for (pinned, expected) in [(&leaf, Some("by its pin")), (&other.certificate, None)] {
        let pins = vec![Pin::of_key(pinned).unwrap()];
        let material = TlsMaterial { anchors: Anchors::Nobody, pins, server_name: None, identity: None };
        let clock = Arc::clone(&scene.clock);
        scene.upstream.security = Security::new(Mode::StartTls, TlsDemand::Verify, NAME, material, clock).unwrap();
        let before = scene.up.heard().len();
        let examination = scene.examine().await;
        let last = examination.visits.last().unwrap();
        assert_eq!(examination.is_ready(), expected.is_some(), "{last:?}");
        match expected {
            Some(proof) => assert_eq!(last.proof.as_deref(), Some(proof)),
            None => {
                let cause = &last.fault.as_ref().unwrap().cause;
                assert!(matches!(cause, FaultCause::Tls(TlsCause::NotPinned(_))), "{last:?}");
                assert_eq!(last.refused, std::slice::from_ref(&leaf));
                assert!(!scene.up.heard()[before..].iter().any(|line| line.starts_with("AUTH")));
            }
        }
    }
    // What is not known of TLSA records keeps everything from going out.
    let before = scene.up.heard().len();
    scene.upstream.dane = Some(Dane::by_word_of(Vec::new()));
    let unknown = scene.examine().await;
    assert!(matches!(unknown.addresses.unwrap_err().cause, FaultCause::TlsaUnknown(_)));
    assert!(unknown.visits.is_empty() && scene.up.heard().len() == before);
}

#[tokio::test(start_paused = true)]
async fn a_password_that_is_refused_is_told_and_tried_at_no_other_address() {
    let ca = TestCa::new("ca");
    let mut scene = Scene::new(&ca, &ca, TlsDemand::Require, |script| {
        script.misdeed = Some((Phase::Auth, Misdeed::Say(b"535 5.7.8 no\r\n")));
    });
    scene.net = Net::default().name(NAME, &[1, 2]).host(1, &scene.up).host(2, &scene.up);
    let examination = scene.examine().await;
    assert_eq!((examination.visits.len(), examination.is_ready()), (1, false));
    let (phase, reply) = examination.visits[0].replies.last().unwrap();
    assert_eq!((*phase, reply.code().number()), (Phase::Auth, 535));
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_is_silent_or_cannot_be_found_is_told_of_soon() {
    let ca = TestCa::new("ca");
    let mut scene = Scene::new(&ca, &ca, TlsDemand::Verify, |script| {
        script.misdeed = Some((Phase::Greeting, Misdeed::SayAndHang(b"", 1)));
    });
    let begun = tokio::time::Instant::now();
    assert!(!scene.examine().await.is_ready());
    assert!(begun.elapsed().as_secs() <= 31, "{:?}", begun.elapsed());
    scene.upstream.source = SourceAddresses { v4: None, v6: Some(std::net::Ipv6Addr::LOCALHOST) };
    let nowhere = scene.examine().await;
    assert!(nowhere.visits.is_empty() && nowhere.addresses.unwrap_err().to_string().contains("source_address"));
    scene.upstream.host = "nowhere.example.net".into();
    assert!(scene.examine().await.addresses.is_err());
}

/// What the command says, and how it ends.
fn says(words: &[&str]) -> (String, Option<i32>) {
    let out = sealpost(words);
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    (text, out.status.code())
}

#[test]
fn the_command_tells_each_upstream_of_its_routes_beside_a_running_daemon() {
    let catcher = Catcher::start(Manner::Polite);
    let bench = Bench::new(&[catcher.address]);
    let [dead] = super::harness::free_addresses();
    let routes = "[[route]]\nname = \"org\"\nrecipient_domains = [\"example.org\"]\nupstreams = [\"upstream-1\"]\n\n\
                  [[route]]\nname = \"net\"\nrecipient_domains = [\"example.net\"]\nupstreams = [\"upstream-0\"]\n\n\
                  [[route]]\nname = \"ours\"\nidentities = [\"reports\"]\nupstreams = [\"upstream-0\"]\n";
    bench.configure(&[catcher.address, dead], routes);
    let process = Process::start(&bench.configuration);
    let config = bench.config_argument();
    let (text, code) = says(&["upstream", "test", "--config", config]);
    assert_eq!(code, Some(1), "{text}");
    for wanted in [
        "upstream upstream-0 of route net, ours: 127.0.0.1:",
        "    greeting: 220 upstream.test ESMTP",
        "    verified: no TLS was made",
        "        AUTH: no credentials are configured",
        "       ready: it would take mail now; nothing was sent",
        "upstream upstream-1 of route org: 127.0.0.1:",
        "   not ready: upstream upstream-1 (127.0.0.1:",
        "      remedy: check that it runs",
    ] {
        assert!(text.contains(wanted), "{wanted:?} in {text}");
    }
    let (text, code) = says(&["upstream", "test", "--config", config, "--json", "upstream-0"]);
    let told: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, told["ready"].as_bool(), told["tried"][0]["tls"].is_null()), (Some(0), Some(true), true));
    let (text, code) = says(&["upstream", "test", "--config", config, "nobody"]);
    assert!(code == Some(1) && text.contains("there is no upstream \"nobody\"; there are: upstream-0, upstream-1"));
    assert!(catcher.arrivals().is_empty());

    // The same routes, as `explain` and a client see them.
    let alice = bench.alice.certificate.to_str().unwrap();
    let explain = |to: &str| says(&["explain", "--config", config, "--cert", alice, "--to", to]);
    let (text, _) = explain("x@example.org");
    assert!(text.contains("route \"org\" takes it, to upstream-1; by route \"org\" ("), "{text}");
    let (text, code) = explain("x@elsewhere.example");
    assert!(code == Some(1) && text.contains("refused: 550 5.4.4 No route here"), "{text}");
    drop(process);
}
