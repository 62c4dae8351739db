//! The headers of `fixtures/header`, each through collector, both readers and the session with an identity that has the case's grant: what is
//! said on the wire is compared. And what passes is read by mail-parser alone: it must see nobody but who was granted.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use sealpost::content::{
    BodyEnd, BodyFacts, Collected, HeaderCollector, HeaderFacts, HeaderLimits, HeaderRules, Utf8Header, take_in,
};
use sealpost::identity::pattern::{ListPurpose, PatternList};
use sealpost::identity::roster::{CaGrant, RosterEntry};
use sealpost::identity::{Identity, Leeway, Resending, Roster};
use sealpost::mail::{Address, LocalPartCase};
use sealpost::policy::SenderField;
use sealpost::session::{Answer, Event, Phase, Session, SessionSettings, Step};
use sealpost::smtp::Reply;
use sealpost::sys::WallTime;
use sealpost::tls::{PeerChain, verify};

use crate::bodies::seeds::unescaped;
use crate::dialog::cast::{Cast, Season, mailbox, mailboxes};
use crate::dialog::rules::set_rule;
use crate::recipe::NOW;
use crate::session::{everywhere, fresh_settings};
use crate::source::top;

const NOW_WALL: WallTime = WallTime::from_seconds(NOW);

/// A header with what is to come of it; the format is told in `fixtures/header/README.md`.
struct Case {
    name: String,
    grant: Vec<String>,
    from: String,
    utf8: Utf8Header,
    resending: Resending,
    rules: HeaderRules,
    verdict: String,
    becomes: Option<String>,
    message: Vec<u8>,
}

fn cases(folder: &str) -> Vec<Case> {
    let mut files: Vec<_> =
        fs::read_dir(top().join("fixtures/header").join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().flat_map(|path| cases_of(path)).collect()
}

/// All messages of the fixtures, by name.
pub(crate) fn messages() -> Vec<(String, Vec<u8>)> {
    let all = ["honest", "forgeries", "rules"].into_iter().flat_map(cases);
    all.map(|case| (case.name, case.message)).collect()
}

fn cases_of(path: &Path) -> Vec<Case> {
    assert!(path.extension().is_some_and(|kind| kind == "txt"), "{}", path.display());
    let text = fs::read_to_string(path).unwrap();
    let text = text.strip_suffix('\n').unwrap();
    format!("\n{text}").split("\n=== ").skip(1).map(|text| case(&format!("{text}\n"))).collect()
}

fn case(text: &str) -> Case {
    let (head, message) = text.split_once("\n---\n").unwrap_or_else(|| panic!("no message in {text}"));
    let mut lines = head.lines();
    let name = lines.next().unwrap().to_owned();
    let mut case = Case {
        name,
        grant: vec!["alice@example.com".to_owned()],
        from: String::new(),
        utf8: Utf8Header::NotDeclared,
        resending: Resending::OwnMail,
        rules: HeaderRules::default(),
        verdict: String::new(),
        becomes: None,
        message: message.lines().flat_map(unescaped).collect(),
    };
    for line in lines.filter(|line| !line.starts_with('#')) {
        match line.split_once(": ").unwrap_or_else(|| panic!("{}: {line}", case.name)) {
            ("grant", list) => case.grant = list.split(", ").map(str::to_owned).collect(),
            ("from", path) => case.from = path.to_owned(),
            ("utf8", "yes") => case.utf8 = Utf8Header::Declared,
            ("resend", "yes") => case.resending = Resending::AnyMail,
            ("verdict", verdict) => case.verdict = verdict.to_owned(),
            ("becomes", sender) => case.becomes = Some(sender.to_owned()),
            (key, value) => assert!(set_rule(&mut case.rules, key, value).unwrap(), "{}: {key}: {value}", case.name),
        }
    }
    case
}

impl Case {
    /// The header as it is judged and goes on, and what was read of it; the message comes in pieces of this size.
    fn taken_in(&self, piece: usize) -> (Vec<u8>, HeaderFacts) {
        let limits = HeaderLimits::default();
        let mut collector = HeaderCollector::new(&limits);
        for octets in self.message.chunks(piece) {
            match collector.push(octets) {
                Ok(Collected::More) => {}
                Ok(Collected::Whole { .. }) => break,
                Err(fault) => return (Vec::new(), HeaderFacts { fault: Some(fault), ..HeaderFacts::default() }),
            }
        }
        take_in(collector.into_section(), &limits, self.utf8, &self.rules)
    }

    fn identity(&self) -> Arc<Identity> {
        let chain = PeerChain(Cast::get().chain("alice").unwrap().unwrap());
        let verified = verify(&chain, &Cast::get().trust(&Season::default()), NOW_WALL).unwrap();
        // Uncapped: some write from other domains than the CA's.
        let ca = |name| CaGrant { domains: None, send_as_email: None, ..mailboxes(name) };
        let send_as = PatternList::read(self.grant.iter().map(String::as_str), ListPurpose::SendAs).unwrap();
        let leeway = Leeway { resending: self.resending, ..Leeway::default() };
        let entry = RosterEntry { send_as, leeway, ..mailbox("test", "alice@example.com", &["alice@example.com"]) };
        let grants: Vec<CaGrant> = ["staff", "workloads", "branch", "strangers"].map(ca).into();
        Arc::new(Roster::new(vec![entry], grants).unwrap().identify(&verified).unwrap())
    }

    /// A session that waits for the header.
    fn session(&self) -> Session {
        let identity = self.identity();
        let settings = SessionSettings { header: self.rules.clone(), ..(*fresh_settings()).clone() };
        let mut session = Session::new(Arc::clone(&identity), Arc::new(settings), everywhere());
        let smtputf8 = if self.utf8 == Utf8Header::Declared { " SMTPUTF8" } else { "" };
        let mail = format!("MAIL FROM:<{}>{smtputf8}", self.from);
        session.on(Event::Line(Ok(b"EHLO client.example")), NOW_WALL);
        session.on(Event::Line(Ok(mail.as_bytes())), NOW_WALL);
        session.on(Event::Answer(Answer::Identified(Ok(identity))), NOW_WALL);
        session.on(Event::Line(Ok(b"RCPT TO:<bob@example.net>")), NOW_WALL);
        session.on(Event::Line(Ok(b"DATA")), NOW_WALL);
        let step = session.on(Event::Answer(Answer::Admitted(Ok(()))), NOW_WALL);
        assert!(matches!(step, Step::Receive { .. }), "{}: {step:?}", self.name);
        session
    }

    /// The reply by which the message is refused; none when its header passes. And what becomes of Sender.
    fn outcome(&self, facts: &HeaderFacts) -> (Option<Reply>, SenderField) {
        let mut session = self.session();
        let reply = match session.on(Event::HeaderRead(facts), NOW_WALL) {
            Step::GoOn => {
                assert_eq!(session.phase(), Phase::Body);
                return (None, session.sender_field(facts));
            }
            Step::Dispute(reply) => reply,
            Step::Discard => {
                let ended = BodyFacts { end: BodyEnd::Complete, octets: 1 };
                match session.on(Event::BodyEnded(ended), NOW_WALL) {
                    Step::Say(reply) => reply,
                    other => panic!("{}: {other:?}", self.name),
                }
            }
            other => panic!("{}: {other:?}", self.name),
        };
        (Some(reply), SenderField::AsItCame)
    }

    /// What is wrong with what came of it.
    fn wrong(&self) -> Option<String> {
        let (section, facts) = self.taken_in(4096);
        assert_eq!(self.taken_in(1), (section, facts.clone()), "{} reads otherwise octet by octet", self.name);
        let (reply, sender) = self.outcome(&facts);
        let came = reply.as_ref().map_or_else(|| "pass".to_owned(), said);
        let becomes = match sender {
            SenderField::AsItCame => None,
            SenderField::Becomes(address) => Some(address.to_string()),
        };
        let expected = &self.verdict;
        let right = if expected == "pass" { came == *expected } else { agrees(&came, expected) };
        if !right {
            return Some(format!("{}: expected {expected}, came {came}", self.name));
        }
        (becomes != self.becomes).then(|| format!("{}: Sender becomes {becomes:?}", self.name))
    }

    fn grants(&self, text: &str) -> bool {
        let Ok(address) = Address::parse(text) else { return false };
        self.identity().grant().send_as.matches(&address.canonical(LocalPartCase::Ignored)).is_some()
    }
}

/// `554 5.6.0 text`.
fn said(reply: &Reply) -> String {
    let mut wire = Vec::new();
    reply.write_to(&mut wire);
    let text = String::from_utf8(wire).unwrap();
    assert!(text.bytes().all(|octet| matches!(octet, b' '..=b'~' | b'\r' | b'\n')), "{text}");
    text.trim_end().to_owned()
}

/// Code and status are the same, and the text stands in what was said.
fn agrees(came: &str, expected: &str) -> bool {
    let parts = |text: &str| {
        let mut parts = text.splitn(3, ' ').map(str::to_owned);
        (parts.next(), parts.next(), parts.next().unwrap_or_default())
    };
    let ((code, status, text), (expected_code, expected_status, expected_text)) = (parts(came), parts(expected));
    code == expected_code && status == expected_status && !expected_text.is_empty() && text.contains(&expected_text)
}

fn wrong_outcomes(folder: &str) -> Vec<String> {
    cases(folder).iter().filter_map(Case::wrong).collect()
}

#[test]
fn every_forgery_is_refused_for_its_own_reason() {
    let wrong = wrong_outcomes("forgeries");
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_honest_message_passes() {
    let wrong = wrong_outcomes("honest");
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn what_the_configuration_asks_or_lets_pass_is_as_written() {
    let wrong = wrong_outcomes("rules");
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn there_are_enough_cases_and_each_is_another() {
    let (forgeries, honest, rules) = (cases("forgeries"), cases("honest"), cases("rules"));
    assert!(forgeries.len() >= 150, "{} forgeries", forgeries.len());
    assert!(honest.len() >= 150, "{} honest messages", honest.len());
    assert!(forgeries.iter().all(|case| case.verdict != "pass") && honest.iter().all(|case| case.verdict == "pass"));
    let (mut names, mut contents) = (BTreeSet::new(), BTreeSet::new());
    for case in forgeries.iter().chain(&honest).chain(&rules) {
        assert!(names.insert(&case.name), "{} stands twice", case.name);
        let settings = format!("{:?} {:?} {:?} {:?} {}", case.grant, case.utf8, case.rules, case.resending, case.from);
        assert!(contents.insert((settings, &case.message)), "{} is as another", case.name);
    }
}

#[test]
fn what_grants_nothing_allows_no_honest_message() {
    for case in cases("honest") {
        let case = Case { grant: vec!["nobody@nowhere.example".to_owned()], ..case };
        let (_, facts) = case.taken_in(4096);
        assert!(case.outcome(&facts).0.is_some(), "{}", case.name);
    }
}

/// The whole parser, as a receiving program uses it, and none of our readers.
#[test]
fn what_passes_is_from_whom_it_was_granted_to_mail_parser_too() {
    let mut compared = 0;
    for case in cases("honest").into_iter().chain(cases("rules")).filter(|case| case.verdict == "pass") {
        let (section, _) = case.taken_in(4096);
        let read = mail_parser::MessageParser::default().parse(&section).unwrap();
        let who = match case.resending {
            Resending::OwnMail => read.from(),
            Resending::AnyMail => read.header("Resent-From").and_then(|value| value.as_address()),
        };
        let seen: Vec<&str> =
            who.unwrap_or_else(|| panic!("{}: nobody", case.name)).iter().filter_map(|one| one.address()).collect();
        assert!(!seen.is_empty(), "{}: nobody", case.name);
        for address in seen {
            assert!(case.grants(address), "{}: mail-parser sees {address}", case.name);
            compared += 1;
        }
    }
    assert!(compared >= 150, "only {compared} were compared");
}
