//! The courier against upstreams that misbehave in every way we could think of, in memory and in virtual time: a silence of ten minutes takes
//! none, and nothing here sleeps.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use sealpost::mail::{Address, Envelope, ForwardPath, MailParameters, Recipient, ReversePath};
use sealpost::queue::Outcome;
use sealpost::sys::{Clock, ManualClock};
use sealpost::upstream::attempt::{Bearing, Blame, Retry};
use sealpost::upstream::health::Condition;
use sealpost::upstream::{
    Anchors, Attempt, BodyFault, Courier, Credentials, Deadlines, InMemory, MessageBody, Mode, Parcel, Phase, Secret,
    Security, SystemNetwork, TlsDemand, TlsMaterial, Upstream,
};

use super::scripted_upstream::{Days, Misdeed, Net, PRESENT, Script, Scripted, Taken, TestCa, Zeros};

const NAME: &str = "smtp.example.net";
const MESSAGE: &[u8] = b"Subject: x\r\n\r\n.\r\n..dots\r\nno line end";

pub(crate) fn envelope(recipients: usize) -> Envelope {
    let recipient = |n| Recipient {
        forward_path: ForwardPath::Address(Address::parse(&format!("r{n}@example.net")).unwrap()),
        parameters: Default::default(),
    };
    let sender = ReversePath::Address(Address::parse("alice@example.com").unwrap());
    Envelope::new(sender, MailParameters::default(), (0..recipients).map(recipient).collect()).unwrap()
}

fn plain(name: &str) -> Upstream {
    Upstream::new(name, NAME, 25, "relay.example.com")
}

/// One upstream on a network of its own, and a courier to it.
struct Scene {
    clock: Arc<ManualClock>,
    courier: Courier,
    up: Arc<Scripted>,
    settings: Arc<Upstream>,
}

impl Scene {
    fn new(script: Script) -> Self {
        Self::with(script, |upstream, _| upstream)
    }

    fn with(script: Script, change: impl FnOnce(Upstream, Arc<ManualClock>) -> Upstream) -> Self {
        let up = Scripted::new(script);
        let net = Net::default().name(NAME, &[1]).host(1, &up);
        Self::on(net, up, change)
    }

    fn on(net: Net, up: Arc<Scripted>, change: impl FnOnce(Upstream, Arc<ManualClock>) -> Upstream) -> Self {
        let clock = Arc::new(ManualClock::at(PRESENT));
        let courier = Courier::new(Arc::new(net), clock.clone(), Arc::new(Zeros));
        Self { settings: Arc::new(change(plain("main"), clock.clone())), clock, courier, up }
    }

    async fn send(&self, recipients: usize) -> Attempt {
        let places: Vec<usize> = (0..recipients).collect();
        self.courier.deliver(&self.settings, &envelope(recipients), &places, &mut InMemory::new(MESSAGE)).await
    }
}

/// Letters per recipient (delivered, later, failed), where and what is wrong, and who is undetermined or free.
fn show(attempt: &Attempt) -> String {
    let mut text: String = attempt.outcomes.iter().map(|(_, outcome)| letter(outcome)).collect();
    if let Some(fault) = &attempt.fault {
        let cause = format!("{:?}", fault.cause);
        text += &format!(" {:?} {}", fault.phase, cause.split(['(', ' ']).next().unwrap());
    }
    if !attempt.undetermined.is_empty() {
        text += &format!(" undetermined{:?}", attempt.undetermined);
    }
    text
}

fn letter(outcome: &Outcome) -> char {
    match outcome {
        Outcome::Delivered { .. } => 'D',
        Outcome::Deferred { .. } => 'L',
        Outcome::Failed { .. } => 'F',
    }
}

/// What an upstream offers, as far as it changes the order of things.
const OFFERS: [&[&str]; 4] = [&[], &["PIPELINING"], &["CHUNKING"], &["PIPELINING", "CHUNKING"]];

/// The settings and the script with which a phase is reached.
fn towards(phase: Phase, offers: &[&'static str], ca: &TestCa) -> (Script, bool) {
    let extensions = [offers, &["AUTH PLAIN"]].concat();
    let needs_tls = matches!(phase, Phase::StartTls | Phase::Tls | Phase::Auth);
    let tls = needs_tls.then(|| ca.server(NAME, Days(-1, 1)));
    (Script { extensions, tls, ..Script::default() }, needs_tls)
}

fn starttls(demand: TlsDemand, ca: &TestCa, clock: Arc<dyn Clock>) -> Security {
    security(Mode::StartTls, demand, ca, None, clock)
}

fn security(mode: Mode, demand: TlsDemand, ca: &TestCa, name: Option<&str>, clock: Arc<dyn Clock>) -> Security {
    let material = TlsMaterial {
        anchors: Anchors::Given(vec![ca.certificate.clone()]),
        pins: Vec::new(),
        server_name: name.map(str::to_owned),
        identity: None,
    };
    Security::new(mode, demand, NAME, material, clock).unwrap()
}

fn password() -> Option<Credentials> {
    Some(Credentials::new("relay", Secret::new("s3cret-word")).unwrap())
}

/// Each misdeed, with what must come of it: before any message; at MAIL; at the first of two RCPT; at DATA; at the final dot.
const MISDEEDS: [(Misdeed, [&str; 5]); 19] = [
    (Misdeed::Strange(b"CODE\r\n"), ["DD"; 5]),
    (Misdeed::Strange(b"CODE-one\r\nCODE-two\r\nCODE three\r\n"), ["DD"; 5]),
    (Misdeed::Strange(b"CODE \xff\xfe gr\xfc\xdfe\r\n"), ["DD"; 5]),
    (
        Misdeed::Dribble(b"CODE all in good time\r\n"),
        ["LL Silent", "LL Silent", "LL Silent", "LL Silent", "LL Silent undetermined"],
    ),
    (Misdeed::Say(b"450 4.2.0 later\r\n"), ["LL Busy", "LL", "LD", "LL", "LL"]),
    (Misdeed::Say(b"450-4.2.0 later\r\n450 4.2.0 still\r\n"), ["LL Busy", "LL", "LD", "LL", "LL"]),
    (Misdeed::Say(b"550 5.7.1 no\r\n"), ["LL RefusesUs", "FF", "FD", "FF", "FF"]),
    (Misdeed::Say(b"550\r\n"), ["LL RefusesUs", "FF", "FD", "FF", "FF"]),
    (Misdeed::Say(b"530 5.7.0 who are you?\r\n"), ["LL RefusesUs"; 5]),
    (Misdeed::Say(b"550 5.7.64 TenantAttribution\r\n"), ["LL RefusesUs"; 5]),
    (Misdeed::SayAndClose(b"421 4.3.2 bye\r\n"), ["LL Leaves"; 5]),
    (Misdeed::SayAndClose(b""), ["LL Closed", "LL Closed", "LL Closed", "LL Closed", "LL Closed undetermined"]),
    (
        Misdeed::SayAndClose(b"CODE-half"),
        ["LL Closed", "LL Closed", "LL Closed", "LL Closed", "LL Closed undetermined"],
    ),
    (Misdeed::SayAndHang(b"", 1), ["LL Silent", "LL Silent", "LL Silent", "LL Silent", "LL Silent undetermined"]),
    (
        Misdeed::SayAndHang(b"CODE half", 1),
        ["LL Silent", "LL Silent", "LL Silent", "LL Silent", "LL Silent undetermined"],
    ),
    (
        Misdeed::Say(b"HTTP/1.1 400 Bad Request\r\n"),
        [
            "LL Unintelligible",
            "LL Unintelligible",
            "LL Unintelligible",
            "LL Unintelligible",
            "LL Unintelligible undetermined",
        ],
    ),
    (
        Misdeed::Say(b"CODE-one\r\n550 two\r\n"),
        [
            "LL Unintelligible",
            "LL Unintelligible",
            "LL Unintelligible",
            "LL Unintelligible",
            "LL Unintelligible undetermined",
        ],
    ),
    (
        Misdeed::Say(b"CODE ok\n"),
        [
            "LL Unintelligible",
            "LL Unintelligible",
            "LL Unintelligible",
            "LL Unintelligible",
            "LL Unintelligible undetermined",
        ],
    ),
    (
        Misdeed::SayAndHang(b"CODE-on and on\r\n", 3000),
        [
            "LL Unintelligible",
            "LL Unintelligible",
            "LL Unintelligible",
            "LL Unintelligible",
            "LL Unintelligible undetermined",
        ],
    ),
];

#[tokio::test(start_paused = true)]
async fn every_misdeed_in_every_phase_comes_out_as_the_table_says() {
    let ca = TestCa::new("ca");
    let phases = [
        (Phase::Greeting, 0),
        (Phase::Hello, 0),
        (Phase::StartTls, 0),
        (Phase::Auth, 0),
        (Phase::Mail, 1),
        (Phase::Recipient, 2),
        (Phase::Data, 3),
        (Phase::EndOfData, 4),
    ];
    for (misdeed, outcomes) in MISDEEDS {
        for (phase, column) in phases {
            for offers in OFFERS {
                let by_chunk = offers.contains(&"CHUNKING");
                if by_chunk && phase == Phase::Data {
                    continue;
                }
                let case = format!("{misdeed:?} at {phase:?}, offering {offers:?}");
                let (script, tls) = towards(phase, offers, &ca);
                let scene =
                    Scene::with(Script { misdeed: Some((phase, misdeed)), ..script }, |upstream, clock| Upstream {
                        security: if tls { starttls(TlsDemand::Verify, &ca, clock) } else { Security::Plaintext },
                        credentials: if tls { password() } else { None },
                        ..upstream
                    });
                let attempt = tokio::time::timeout(Duration::from_secs(24 * 3600), scene.send(2)).await.expect(&case);
                // The chunk that went ahead of the replies to MAIL and RCPT may have been taken as far as we know.
                let is_ahead = offers.len() == 2 && matches!(phase, Phase::Mail | Phase::Recipient);
                let in_the_dark =
                    is_ahead && ["Silent", "Closed", "Unintelligible"].iter().any(|it| outcomes[column].ends_with(it));
                // And who was taken stays so, though another reply refused us.
                let one_is_taken = is_ahead && phase == Phase::Recipient && outcomes[column] == "LL RefusesUs";
                let expected = if one_is_taken {
                    "LD RefusesUs".to_owned()
                } else if in_the_dark {
                    format!("{} undetermined", outcomes[column])
                } else {
                    outcomes[column].to_owned()
                };
                let was_chunk = scene.up.heard().iter().any(|line| line.starts_with("BDAT"));
                let octets = if was_chunk { MESSAGE.to_vec() } else { with_line_end(MESSAGE) };
                check(&attempt, phase, &expected, &scene.up.taken(), &octets, &case);
            }
        }
    }
}

fn check(attempt: &Attempt, phase: Phase, expected: &str, taken: &[Taken], octets: &[u8], case: &str) {
    let shown = show(attempt);
    let mut words = expected.split(' ');
    let (letters, cause) = (words.next().unwrap(), words.next());
    let undetermined = words.next().is_some();
    assert!(shown.starts_with(letters), "{case}: {shown}");
    let fault = attempt.fault.as_ref().map(|fault| (fault.phase, format!("{:?}", fault.cause)));
    match cause {
        None => assert_eq!(fault, None, "{case}: {shown}"),
        Some(cause) => {
            let (at, what) = fault.unwrap_or_else(|| panic!("{case}: {shown}"));
            assert!(what.starts_with(cause) && at == phase, "{case}: {shown}");
        }
    }
    let accepted: Vec<usize> = if undetermined { vec![0, 1] } else { Vec::new() };
    assert_eq!(attempt.undetermined, accepted, "{case}: {shown}");
    // Promise 4: nobody is told "delivered" of a message that was not taken, and who may be tried elsewhere was not delivered.
    let delivered = attempt.outcomes.iter().filter(|(_, outcome)| letter(outcome) == 'D').count();
    let recipients = taken.iter().map(|message| message.recipients.len()).sum::<usize>();
    let in_the_dark = attempt.undetermined.len();
    assert!(delivered <= recipients && recipients <= delivered + in_the_dark, "{case}: {shown} {taken:?}");
    assert!(taken.iter().all(|message| message.octets == octets), "{case}");
    assert_eq!(attempt.outcomes.iter().map(|(place, _)| *place).collect::<Vec<_>>(), [0, 1], "{case}");
}

fn with_line_end(message: &[u8]) -> Vec<u8> {
    [message, b"\r\n"].concat()
}

// TLS.

/// What a certificate is like, and what each demand makes of it.
#[tokio::test(start_paused = true)]
async fn a_certificate_must_be_right_where_verify_demands_it() {
    let (ca, other) = (TestCa::new("ca"), TestCa::new("other"));
    let impostor = TestCa::new("ca");
    for (what, server, name, verified) in [
        ("right", ca.server(NAME, Days(-1, 1)), None, "D"),
        ("wrong name", ca.server("mx.example.org", Days(-1, 1)), None, "L Tls Tls(WrongName"),
        ("wrong name, set", ca.server("mx.example.org", Days(-1, 1)), Some("mx.example.org"), "D"),
        ("a common name alone", ca.server("CN=smtp.example.net", Days(-1, 1)), None, "L Tls Tls(WrongName"),
        ("in capitals", ca.server("SMTP.Example.NET", Days(-1, 1)), None, "D"),
        ("a wildcard", ca.server("*.example.net", Days(-1, 1)), None, "D"),
        ("a wildcard for two labels", ca.server("*.net", Days(-1, 1)), None, "L Tls Tls(WrongName"),
        ("a wildcard within a label", ca.server("s*.example.net", Days(-1, 1)), None, "L Tls Tls(WrongName"),
        ("an address", ca.server("192.0.2.1", Days(-1, 1)), Some("192.0.2.1"), "D"),
        ("another address", ca.server("192.0.2.2", Days(-1, 1)), Some("192.0.2.1"), "L Tls Tls(WrongName"),
        ("untrusted", other.server(NAME, Days(-1, 1)), None, "L Tls Tls(Untrusted"),
        ("same CA name", impostor.server(NAME, Days(-1, 1)), None, "L Tls Tls(Untrusted"),
        ("expired", ca.server(NAME, Days(-30, -1)), None, "L Tls Tls(OutOfTime"),
        ("not yet", ca.server(NAME, Days(2, 30)), None, "L Tls Tls(OutOfTime"),
    ] {
        for mode in [Mode::StartTls, Mode::Implicit] {
            for (demand, expected) in [(TlsDemand::Verify, verified), (TlsDemand::Require, "D")] {
                let implicit = mode == Mode::Implicit;
                let extensions = vec!["AUTH LOGIN"];
                let script = Script { tls: Some(Arc::clone(&server)), implicit, extensions, ..Script::default() };
                let scene = Scene::with(script, |upstream, clock| Upstream {
                    security: security(mode, demand, &ca, name, clock),
                    credentials: password(),
                    ..upstream
                });
                let attempt = scene.send(1).await;
                let fault = attempt.fault.as_ref().map(|fault| format!(" {:?} {:?}", fault.phase, fault.cause));
                let shown = format!("{}{}", letter(&attempt.outcomes[0].1), fault.unwrap_or_default());
                assert!(shown.starts_with(expected), "{what} {mode:?} {demand:?}: {shown}");
                let said_password = scene.up.heard().iter().any(|line| line == "czNjcmV0LXdvcmQ=");
                assert_eq!(said_password, expected == "D", "{what} {mode:?} {demand:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn plaintext_injected_behind_the_go_ahead_is_fatal_even_when_tls_is_only_hoped_for() {
    let ca = TestCa::new("ca");
    for demand in [TlsDemand::Opportunistic, TlsDemand::Require, TlsDemand::Verify] {
        let injected = Misdeed::Say(b"CODE go\r\n250 injected\r\n");
        let tls = Some(ca.server(NAME, Days(-1, 1)));
        let script = Script { misdeed: Some((Phase::StartTls, injected)), tls, ..Script::default() };
        let scene = Scene::with(script, |up, clock| Upstream { security: starttls(demand, &ca, clock), ..up });
        assert_eq!(show(&scene.send(1).await), "L StartTls Injected", "{demand:?}");
        assert_eq!((scene.up.connections(), scene.up.taken().len()), (1, 0), "{demand:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn only_tls_that_is_hoped_for_gives_way_to_plaintext() {
    let ca = TestCa::new("ca");
    let broken = Some((Phase::Tls, Misdeed::SayAndHang(b"220 what?\r\n", 1)));
    let refused = Some((Phase::StartTls, Misdeed::Say(b"454 4.7.0 not now\r\n")));
    for (what, has_tls, misdeed) in [("none", false, None), ("refused", true, refused), ("broken", true, broken)] {
        for (demand, expected) in [(TlsDemand::Opportunistic, 'D'), (TlsDemand::Require, 'L'), (TlsDemand::Verify, 'L')]
        {
            let tls = has_tls.then(|| ca.server(NAME, Days(-1, 1)));
            let scene = Scene::with(Script { misdeed, tls, ..Script::default() }, |up, clock| Upstream {
                security: starttls(demand, &ca, clock),
                ..up
            });
            let attempt = scene.send(1).await;
            assert_eq!(letter(&attempt.outcomes[0].1), expected, "{what} {demand:?}: {}", show(&attempt));
            let mail_was_said = scene.up.heard().iter().any(|line| line.starts_with("MAIL"));
            assert_eq!(mail_was_said, expected == 'D', "{what} {demand:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_password_is_never_said_where_tls_is_not_demanded() {
    let ca = TestCa::new("ca");
    for demand in [TlsDemand::None, TlsDemand::Opportunistic] {
        let tls = Some(ca.server(NAME, Days(-1, 1)));
        let scene =
            Scene::with(Script { tls, extensions: vec!["AUTH PLAIN LOGIN"], ..Script::default() }, |up, clock| {
                Upstream { security: starttls(demand, &ca, clock), credentials: password(), ..up }
            });
        assert_eq!(show(&scene.send(1).await), "L Auth CredentialsInTheClear", "{demand:?}");
        assert!(!scene.up.heard().iter().any(|line| line.starts_with("AUTH")), "{demand:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wrong_password_is_tried_at_one_address_only_and_shown_nowhere() {
    let ca = TestCa::new("ca");
    let up = Scripted::new(Script {
        misdeed: Some((Phase::Auth, Misdeed::Say(b"535 5.7.8 no\r\n"))),
        tls: Some(ca.server(NAME, Days(-1, 1))),
        extensions: vec!["AUTH PLAIN"],
        ..Script::default()
    });
    let net = Net::default().name(NAME, &[1, 2]).host(1, &up).host(2, &up);
    let scene = Scene::on(net, up, |upstream, clock| Upstream {
        security: starttls(TlsDemand::Verify, &ca, clock),
        credentials: password(),
        ..upstream
    });
    let attempt = scene.send(1).await;
    assert_eq!((show(&attempt).as_str(), scene.up.connections()), ("L Auth RefusesUs", 1));
    let fault = attempt.fault.unwrap();
    assert_eq!(
        (fault.blame(), fault.retry(), fault.bearing()),
        (Blame::OurSettings, Retry::HelpsAfterRepair, Bearing::Upstream)
    );
    let everything = format!("{fault} {fault:?} {:?} {:?}", scene.settings, scene.courier);
    assert!(!everything.contains("s3cret-word") && !everything.contains("AHJlbGF5"), "{everything}");
    assert!(fault.to_string().contains("remedy: check `username`, `password_file`"), "{fault}");
}

// Addresses, connections, messages.

#[tokio::test(start_paused = true)]
async fn all_addresses_of_a_name_are_tried() {
    let up = Scripted::new(Script::default());
    let silent =
        Scripted::new(Script { misdeed: Some((Phase::Greeting, Misdeed::SayAndHang(b"", 1))), ..Script::default() });
    let closed =
        Scripted::new(Script { misdeed: Some((Phase::Hello, Misdeed::SayAndClose(b""))), ..Script::default() });
    let net = Net::default().name(NAME, &[1, 2, 3, 4, 5]).black_hole(2).host(3, &silent).host(4, &closed).host(5, &up);
    let scene = Scene::on(net, up, |upstream, _| upstream);
    assert_eq!(show(&scene.send(1).await), "D");
}

#[tokio::test(start_paused = true)]
async fn the_fault_told_is_the_one_that_came_furthest() {
    let closed =
        Scripted::new(Script { misdeed: Some((Phase::Hello, Misdeed::SayAndClose(b""))), ..Script::default() });
    let net = Net::default().name(NAME, &[1, 2, 3]).host(2, &closed).black_hole(3);
    let scene = Scene::on(net, closed, |upstream, _| upstream);
    let fault = scene.send(1).await.fault.unwrap();
    assert_eq!((fault.phase, fault.address), (Phase::Hello, Some(Net::address(2))));
    for (net, expected) in
        [(Net::default(), "L Lookup NoAddress"), (Net::default().name(NAME, &[]), "L Lookup NoAddress")]
    {
        let scene = Scene::on(net, Scripted::new(Script::default()), |upstream, _| upstream);
        assert_eq!(show(&scene.send(1).await), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn each_recipient_has_its_own_outcome() {
    for extensions in [vec![], vec!["PIPELINING"]] {
        let recipients = vec![("r1@", "550 5.1.1 no such user\r\n"), ("r3@", "451 4.7.1 greylisted\r\n")];
        let scene = Scene::new(Script { recipients, extensions, ..Script::default() });
        assert_eq!(show(&scene.send(4).await), "DFDL");
        assert_eq!(scene.up.taken()[0].recipients, ["RCPT TO:<r0@example.net>", "RCPT TO:<r2@example.net>"]);
    }
}

#[tokio::test(start_paused = true)]
async fn recipients_beyond_the_upstreams_limit_are_sent_at_once_after() {
    for extensions in [vec![], vec!["PIPELINING"]] {
        let scene = Scene::new(Script { recipients_max: Some(100), extensions, ..Script::default() });
        assert_eq!(show(&scene.send(250).await), "D".repeat(250));
        assert_eq!(scene.up.taken().iter().map(|message| message.recipients.len()).collect::<Vec<_>>(), [100, 100, 50]);
    }
}

#[tokio::test(start_paused = true)]
async fn data_granted_to_nobody_delivers_nothing_and_keeps_the_connection() {
    let recipients = vec![("@example.net", "550 5.1.1 no\r\n")];
    let script =
        Script { recipients, extensions: vec!["PIPELINING"], grants_data_to_nobody: true, ..Script::default() };
    let scene = Scene::new(script);
    assert_eq!((show(&scene.send(2).await), show(&scene.send(1).await)), ("FF".into(), "F".into()));
    assert_eq!((scene.up.connections(), scene.up.taken().len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn commands_go_ahead_only_when_pipelining_is_offered() {
    for (extensions, pipelined) in [(vec![], false), (vec!["pipelining"], true)] {
        let scene = Scene::new(Script { extensions, ..Script::default() });
        assert_eq!(show(&scene.send(3).await), "DDD");
        assert_eq!(scene.up.most_at_once.load(Ordering::SeqCst) > 1, pipelined);
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_carries_the_next_message_until_spent_or_idle_for_too_long() {
    let scene = Scene::with(Script::default(), |upstream, _| Upstream { messages_per_connection: 3, ..upstream });
    for (message, connections) in [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2)] {
        assert_eq!(
            (show(&scene.send(1).await).as_str(), scene.up.connections()),
            ("D", connections),
            "message {message}"
        );
    }
    scene.courier.close_idle().await;
    assert_eq!(scene.up.heard().iter().filter(|line| *line == "QUIT").count(), 1, "the spent one");
    scene.clock.advance(scene.settings.idle_timeout);
    scene.courier.close_idle().await;
    assert_eq!((show(&scene.send(1).await).as_str(), scene.up.connections()), ("D", 3));
    scene.courier.close().await;
    assert_eq!(scene.up.heard().iter().filter(|line| *line == "QUIT").count(), 3);
}

/// RFC 8314 §3.4: behind the reply to QUIT we say that TLS ends.
#[tokio::test(start_paused = true)]
async fn the_end_of_a_connection_is_said_before_it_is_closed() {
    let ca = TestCa::new("ca");
    for mode in [Mode::StartTls, Mode::Implicit] {
        let tls = Some(ca.server(NAME, Days(-1, 1)));
        let script = Script { tls, implicit: mode == Mode::Implicit, ..Script::default() };
        let scene = Scene::with(script, |upstream, clock| Upstream {
            security: security(mode, TlsDemand::Verify, &ca, None, clock),
            ..upstream
        });
        assert_eq!(show(&scene.send(1).await), "D");
        scene.courier.close().await;
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(scene.up.ended.load(Ordering::SeqCst), 1, "{mode:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_kept_connection_that_ended_meanwhile_is_replaced_without_a_fault() {
    let scene = Scene::new(Script { closes_after_message: true, ..Script::default() });
    for connections in 1..4 {
        assert_eq!((show(&scene.send(1).await).as_str(), scene.up.connections()), ("D", connections));
    }
    // The same, when it is noticed only by the first reply.
    for misdeed in [Misdeed::SayAndClose(b"421 4.4.2 idle too long\r\n"), Misdeed::SayAndClose(b"")] {
        let recipients = vec![("@example.net", "550 5.1.1 no\r\n")];
        let script = Script { misdeed: Some((Phase::Reset, misdeed)), recipients, ..Script::default() };
        let scene = Scene::new(script);
        assert_eq!((show(&scene.send(1).await).as_str(), show(&scene.send(1).await).as_str()), ("F", "F"));
        assert_eq!(scene.up.connections(), 2);
    }
}

/// All of it was sent ahead, by BDAT: an upstream that gathers its replies may have taken it.
#[tokio::test(start_paused = true)]
async fn a_kept_connection_that_ends_behind_a_chunk_leaves_its_message_in_the_dark() {
    let misdeed = Some((Phase::Mail, Misdeed::SayAndClose(b"")));
    for (extensions, undetermined, connections) in
        [(vec!["PIPELINING", "CHUNKING"], vec![0], 1), (vec!["PIPELINING"], vec![], 2)]
    {
        let scene = Scene::new(Script { misdeed, at_message: 1, extensions, ..Script::default() });
        assert_eq!(show(&scene.send(1).await), "D");
        assert_eq!((scene.send(1).await.undetermined, scene.up.connections()), (undetermined, connections));
    }
}

#[tokio::test(start_paused = true)]
async fn changed_settings_are_not_got_round_by_a_kept_connection() {
    let mut scene = Scene::new(Script::default());
    scene.send(1).await;
    scene.settings = Arc::new(Upstream { helo: "other.example.com".into(), ..plain("main") });
    assert_eq!((show(&scene.send(1).await).as_str(), scene.up.connections()), ("D", 2));
}

#[tokio::test(start_paused = true)]
async fn no_more_connections_than_allowed_are_open_at_once() {
    let scene = Scene::with(Script::default(), |upstream, _| Upstream { connections: 3, ..upstream });
    let scene = Arc::new(scene);
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let scene = Arc::clone(&scene);
        all.spawn(async move { show(&scene.send(1).await) });
    }
    assert!(all.join_all().await.iter().all(|shown| shown == "D"));
    assert_eq!((scene.up.taken().len(), scene.up.most_open.load(Ordering::SeqCst)), (20, 3));
}

#[tokio::test(start_paused = true)]
async fn an_early_refusal_of_the_message_is_heard_while_sending() {
    let large = Bytes::from(b"0123456789abcde\r\n".repeat(200_000));
    for (reply, expected) in [
        (&b"552 5.3.4 too big\r\n"[..], "F"),
        (b"451 4.3.0 later\r\n", "L"),
        (b"421 4.3.2 bye\r\n", "L Body Leaves"),
        (b"250 2.0.0 thanks\r\n", "L Body UnexpectedReply"),
        (b"", "L Body Closed"),
    ] {
        let scene = Scene::new(Script { early: Some((64 * 1024, reply)), ..Script::default() });
        let mut body = InMemory::new(large.clone());
        let attempt = scene.courier.deliver(&scene.settings, &envelope(1), &[0], &mut body).await;
        let shown = show(&attempt);
        let same = shown == expected || (expected == "L Body Closed" && shown == "L Body Lost");
        assert!(same, "{}: {shown}", String::from_utf8_lossy(reply));
        assert!(attempt.undetermined.is_empty());
    }
}

/// Whoever says that it has a message of which it can't have the last octets has not read it.
#[tokio::test(start_paused = true)]
async fn a_chunk_that_is_taken_before_it_was_sent_is_not_taken() {
    let scene = Scene::new(Script { hasty: true, extensions: vec!["PIPELINING", "CHUNKING"], ..Script::default() });
    let mut body = InMemory::new(Bytes::from(b"0123456789abcde\r\n".repeat(200_000)));
    let attempt = scene.courier.deliver(&scene.settings, &envelope(1), &[0], &mut body).await;
    assert_eq!(show(&attempt), "L Body UnexpectedReply");
}

/// An upstream may look at the message before it says anything at all (RFC 2920 §3.2): it has as long for that as where it answers each command.
#[tokio::test(start_paused = true)]
async fn replies_that_are_gathered_behind_a_chunk_have_the_time_of_its_end() {
    for (minutes, expected) in [(1, "DD"), (9, "DD"), (11, "LL Mail Silent undetermined[0, 1]")] {
        let gathers = Some(Duration::from_secs(minutes * 60));
        let script = Script { gathers, extensions: vec!["PIPELINING", "CHUNKING"], ..Script::default() };
        let attempt = Scene::new(script).send(2).await;
        assert_eq!(show(&attempt), expected, "{minutes} minutes");
    }
}

/// Gives so many pieces, then the end or a fault; counts what it gave.
struct Pieces {
    piece: Bytes,
    count: usize,
    given: usize,
    fails_at: Option<usize>,
}

impl MessageBody for Pieces {
    fn octets(&self) -> u64 {
        (self.piece.len() * self.count) as u64
    }

    async fn rewind(&mut self) -> Result<(), BodyFault> {
        self.given = 0;
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Bytes>, BodyFault> {
        if self.fails_at == Some(self.given) {
            return Err(BodyFault::Unreadable("checksum mismatch".into()));
        }
        self.given += 1;
        Ok((self.given <= self.count).then(|| self.piece.clone()))
    }
}

/// Takes ten seconds for each piece.
struct Slowly(Pieces);

impl MessageBody for Slowly {
    fn octets(&self) -> u64 {
        self.0.octets()
    }

    async fn rewind(&mut self) -> Result<(), BodyFault> {
        self.0.rewind().await
    }

    async fn next(&mut self) -> Result<Option<Bytes>, BodyFault> {
        tokio::time::sleep(Duration::from_secs(10)).await;
        self.0.next().await
    }
}

/// Once the final dot went out behind the last call, and the relay hung up before the 250 that came at once: the upstream had it, and got it again.
#[tokio::test(start_paused = true)]
async fn behind_the_last_call_no_message_is_ended_and_one_that_was_has_its_answer() {
    for extensions in OFFERS.map(Vec::from) {
        for (called_after, expected, taken) in [(25, "L", 0), (60, "D", 1)] {
            let script =
                Script { extensions: extensions.clone(), service: Duration::from_secs(21), ..Script::default() };
            let scene = Scene::new(script);
            let piece = Bytes::from(b"twenty octets it is\r\n".repeat(5_000));
            let to_one = envelope(1);
            let mut body = Slowly(Pieces { piece, count: 3, given: 0, fails_at: None });
            let (attempt, ()) = tokio::join!(scene.courier.deliver(&scene.settings, &to_one, &[0], &mut body), async {
                tokio::time::sleep(Duration::from_secs(called_after)).await;
                scene.courier.break_off();
            });
            let story = format!("{extensions:?}, called after {called_after} s: {}", show(&attempt));
            assert!(show(&attempt).starts_with(expected) && attempt.undetermined.is_empty(), "{story}");
            assert_eq!(scene.up.taken().len(), taken, "{story}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_message_arrives_octet_for_octet_whatever_its_pieces() {
    for piece in [&b".\r\n"[..], b"..\r\n\r", b"\n.\r\n", b"\xff\xfe 8-bit \r\n.x"] {
        let piece = Bytes::from(piece.repeat(20_000));
        let scene = Scene::new(Script::default());
        let mut body = Pieces { piece: piece.clone(), count: 20, given: 0, fails_at: None };
        let attempt = scene.courier.deliver(&scene.settings, &envelope(1), &[0], &mut body).await;
        assert_eq!(show(&attempt), "D");
        let sent = piece.repeat(20);
        let taken = &scene.up.taken()[0].octets;
        // Bare CR and LF can't be in the queue; sent all the same, they leave as CRLF.
        let is_clean = sent.windows(2).all(|pair| (pair[0] == b'\r') == (pair[1] == b'\n'));
        if is_clean {
            assert!(taken.starts_with(&sent) && taken.len() <= sent.len() + 2);
        }
        assert!(taken.windows(2).all(|pair| (pair[0] == b'\r') == (pair[1] == b'\n')), "{:?}", &piece[..8]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_the_store_does_not_give_is_not_ended() {
    let scene = Scene::new(Script::default());
    let mut body = Pieces { piece: Bytes::from_static(b"line\r\n"), count: 9, given: 0, fails_at: Some(5) };
    let attempt = scene.courier.deliver(&scene.settings, &envelope(1), &[0], &mut body).await;
    assert_eq!((show(&attempt).as_str(), scene.up.taken().len()), ("L Body BodyUnreadable", 0));
    let fault = attempt.fault.unwrap();
    assert_eq!((fault.blame(), fault.bearing()), (Blame::OurStore, Bearing::Neither));
    assert_eq!(show(&scene.send(1).await), "D");
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_stops_reading_holds_nothing_for_ever() {
    let scene = Scene::new(Script { stops_reading: true, ..Script::default() });
    let mut body = InMemory::new(vec![b'x'; 1024 * 1024]);
    let attempt = scene.courier.deliver(&scene.settings, &envelope(1), &[0], &mut body).await;
    assert_eq!(show(&attempt), "L Body Silent");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_takes_too_long_in_all_ends_and_is_not_hurried_at_the_dot() {
    // Each reply keeps its deadline; the message as a whole does not.
    let slow = Script { misdeed: Some((Phase::Mail, Misdeed::Dribble(b"250\r\n"))), ..Script::default() };
    let mut deadlines = Deadlines { transaction: Duration::from_secs(4 * 60), ..Deadlines::default() };
    let scene = Scene::with(slow, |upstream, _| Upstream { deadlines, ..upstream });
    assert_eq!(show(&scene.send(1).await), "L Mail Silent");
    // A dot that is answered after that is waited for.
    deadlines.transaction = Duration::from_secs(60);
    let slow = Script { misdeed: Some((Phase::EndOfData, Misdeed::Dribble(b"250 \r\n"))), ..Script::default() };
    let scene = Scene::with(slow, |upstream, _| Upstream { deadlines, ..upstream });
    assert_eq!(show(&scene.send(1).await), "D");
}

// Several upstreams.

/// Two upstreams, and what handing over two recipients makes of them.
async fn hand_over(main: Script, spare: Script, first: Option<&str>) -> (String, usize, usize) {
    let (one, two) = (Scripted::new(main), Scripted::new(spare));
    let net = Net::default().name(NAME, &[1]).name("spare.example.net", &[2]).host(1, &one).host(2, &two);
    let courier = Courier::new(Arc::new(net), Arc::new(ManualClock::at(PRESENT)), Arc::new(Zeros));
    let upstreams = [plain("main"), Upstream { host: "spare.example.net".into(), ..plain("spare") }].map(Arc::new);
    let handover = courier
        .hand_over(&upstreams, first, Parcel::new(&envelope(2), &[0, 1]), &mut InMemory::new(MESSAGE), None)
        .await;
    let outcomes = handover.outcomes.iter().map(|(_, outcome, by)| format!("{}:{by}", letter(outcome)));
    (outcomes.collect::<Vec<_>>().join(" "), one.connections(), two.connections())
}

#[tokio::test(start_paused = true)]
async fn the_next_upstream_is_asked_only_where_no_duplicate_can_come_of_it() {
    let wrong = |phase, misdeed| Script { misdeed: Some((phase, misdeed)), ..Script::default() };
    for (what, main, first, expected) in [
        ("well", Script::default(), None, ("D:main D:main", 1, 0)),
        ("greeting refused", wrong(Phase::Greeting, Misdeed::Say(b"554 no\r\n")), None, ("D:spare D:spare", 1, 1)),
        ("lost at DATA", wrong(Phase::Data, Misdeed::SayAndClose(b"")), None, ("D:spare D:spare", 1, 1)),
        (
            "421 at the dot",
            wrong(Phase::EndOfData, Misdeed::SayAndClose(b"421 bye\r\n")),
            None,
            ("D:spare D:spare", 1, 1),
        ),
        ("silent at the dot", wrong(Phase::EndOfData, Misdeed::SayAndHang(b"", 1)), None, ("L:main L:main", 1, 0)),
        (
            "message refused",
            wrong(Phase::EndOfData, Misdeed::Say(b"554 5.7.1 spam\r\n")),
            None,
            ("F:main F:main", 1, 0),
        ),
        ("message deferred", wrong(Phase::Mail, Misdeed::Say(b"451 4.7.1 grey\r\n")), None, ("L:main L:main", 1, 0)),
        (
            "one refused, then lost",
            Script { recipients: vec![("r1@", "550 5.1.1 no\r\n")], ..wrong(Phase::Data, Misdeed::SayAndClose(b"")) },
            None,
            ("D:spare F:main", 1, 1),
        ),
        ("the other knows", Script::default(), Some("spare"), ("D:spare D:spare", 0, 1)),
    ] {
        let (outcomes, one, two) = hand_over(main, Script::default(), first).await;
        assert_eq!((outcomes.as_str(), one, two), expected, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_keeps_failing_is_left_alone_and_probed() {
    let refusing = Script { misdeed: Some((Phase::Greeting, Misdeed::Say(b"554 no\r\n"))), ..Script::default() };
    let scene = Scene::new(refusing);
    for _ in 0..5 {
        assert_eq!(show(&scene.send(1).await), "L Greeting RefusesUs");
    }
    assert_eq!(scene.courier.standings()[0].condition, Condition::Open(Duration::from_secs(30)));
    assert_eq!((show(&scene.send(1).await).as_str(), scene.up.connections()), ("L Connect LeftAlone", 5));
    scene.clock.advance(Duration::from_secs(30));
    scene.up.turn_into(Script::default());
    assert_eq!((show(&scene.send(1).await).as_str(), scene.up.connections()), ("D", 6));
    assert_eq!(scene.courier.standings()[0].condition, Condition::Closed);
}

#[tokio::test(start_paused = true)]
async fn refusals_of_messages_never_count_against_an_upstream() {
    let scene = Scene::new(Script { recipients: vec![("@", "550 5.7.1 no\r\n")], ..Script::default() });
    for _ in 0..10 {
        assert_eq!(show(&scene.send(1).await), "F");
    }
    assert_eq!(scene.courier.standings()[0].condition, Condition::Closed);
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_refuses_everybody_alike_bounces_no_more_than_four_and_another_is_asked() {
    let locked = || Script { misdeed: Some((Phase::Mail, Misdeed::Say(b"550 5.7.1 locked\r\n"))), ..Script::default() };
    for refusing in [locked(), Script { recipients: vec![("@", "554 5.7.1 no relaying\r\n")], ..Script::default() }] {
        let (one, two) = (Scripted::new(refusing.clone()), Scripted::new(Script::default()));
        let net = Net::default().name(NAME, &[1]).name("spare.example.net", &[2]).host(1, &one).host(2, &two);
        let courier = Courier::new(Arc::new(net), Arc::new(ManualClock::at(PRESENT)), Arc::new(Zeros));
        let upstreams = [plain("main"), Upstream { host: "spare.example.net".into(), ..plain("spare") }].map(Arc::new);
        let mut outcomes = String::new();
        for n in 0..7 {
            one.turn_into(refusing.clone());
            let mut body = InMemory::new(MESSAGE).called(&n.to_string(), "alice");
            // Always the same sender and recipient: a site of one program.
            let attempt = courier.deliver(&upstreams[0], &envelope(1), &[0], &mut body).await;
            outcomes.push_str(&show(&attempt));
            outcomes.push(';');
        }
        assert_eq!(outcomes, "F;F;F;F;L Mail RefusesAll;L Mail RefusesAll;L Mail RefusesAll;");
        assert_eq!(courier.standings()[0].condition, Condition::Closed, "the next accepted message ends it");
        // What the filter of the first refuses of one identity gets not round it by way of the second.
        let mut body = InMemory::new(MESSAGE).called("8", "alice");
        let handover = courier.hand_over(&upstreams, None, Parcel::new(&envelope(1), &[0]), &mut body, None).await;
        assert_eq!((handover.outcomes[0].2.as_str(), two.connections()), ("main", 0));
        let mut body = InMemory::new(MESSAGE).called("9", "bob");
        let handover = courier.hand_over(&upstreams, None, Parcel::new(&envelope(1), &[0]), &mut body, None).await;
        assert_eq!((handover.outcomes[0].2.as_str(), two.taken().len()), ("spare", 1));
        assert_eq!(
            (handover.faults[0].blame(), handover.faults[0].retry()),
            (Blame::OurSettings, Retry::HelpsAfterRepair)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn with_other_settings_refusals_are_counted_from_the_beginning() {
    let locked = Script { misdeed: Some((Phase::Mail, Misdeed::Say(b"550 5.7.1 locked\r\n"))), ..Script::default() };
    let one = Scripted::new(locked.clone());
    let net = Net::default().name(NAME, &[1]).host(1, &one);
    let courier = Courier::new(Arc::new(net), Arc::new(ManualClock::at(PRESENT)), Arc::new(Zeros));
    let mut outcomes = String::new();
    for n in 0..7 {
        one.turn_into(locked.clone());
        // Before the sixth.
        let upstream = Arc::new(Upstream { connections: if n < 5 { 3 } else { 4 }, ..plain("main") });
        courier.configure(std::slice::from_ref(&upstream));
        let mut body = InMemory::new(MESSAGE).called(&n.to_string(), "alice");
        let attempt = courier.deliver(&upstream, &envelope(1), &[0], &mut body).await;
        outcomes.push_str(&show(&attempt));
        outcomes.push(';');
    }
    assert_eq!(outcomes, "F;F;F;F;L Mail RefusesAll;F;F;");
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_is_dropped_gives_its_place_back() {
    let script = Script { misdeed: Some((Phase::Mail, Misdeed::SayAndHang(b"", 1))), ..Script::default() };
    let scene = Scene::with(script, |upstream, _| Upstream { connections: 1, ..upstream });
    assert!(tokio::time::timeout(Duration::from_secs(1), scene.send(1)).await.is_err());
    scene.up.turn_into(Script::default());
    assert_eq!(show(&scene.send(1).await), "D");
}

#[tokio::test(start_paused = true)]
async fn trying_an_upstream_out_sends_no_mail() {
    let scene = Scene::new(Script::default());
    assert!(scene.courier.try_out(&scene.settings).await.is_ok());
    assert_eq!(scene.up.heard(), ["EHLO relay.example.com", "QUIT"]);
}

/// The one test with sockets: the machine's resolver and TCP.
#[tokio::test]
async fn a_message_goes_over_real_tcp() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let up = Scripted::new(Script { extensions: vec!["PIPELINING"], ..Script::default() });
    let serving = Arc::clone(&up);
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        serving.serve(stream).await;
    });
    let courier = Courier::new(
        Arc::new(SystemNetwork::new(Arc::new(Zeros))),
        Arc::new(ManualClock::at(PRESENT)),
        Arc::new(Zeros),
    );
    let upstream = Arc::new(Upstream::new("main", "127.0.0.1", port, "relay.example.com"));
    for _ in 0..2 {
        let attempt = courier.deliver(&upstream, &envelope(1), &[0], &mut InMemory::new(MESSAGE)).await;
        assert_eq!(show(&attempt), "D");
    }
    assert_eq!((up.taken().len(), up.connections()), (2, 1));
}
