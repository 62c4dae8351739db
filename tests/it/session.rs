//! The machine inside TLS against its table: every cell, and random dialogues.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use proptest::prelude::*;
use sealpost::content::{BodyEnd, BodyFacts, HeaderFacts, HeaderFault, HeaderRules, OctetFault};
use sealpost::credentials::{self, Credentials, ExporterValue, Ground, Judged, Means, Named, Proof, Wrong};
use sealpost::identity::roster::{CaGrant, RosterEntry};
use sealpost::identity::{Identity, Limits, NoIdentity, Roster, SecondFactor};
use sealpost::mail::{Custody, Measure, Rate, Ret, Window};
use sealpost::route::{Delivery, Route, Routes};
use sealpost::session::transaction::RECIPIENTS_REFUSED_MAX;
use sealpost::session::{
    Answer, Attempted, Deadline, Event, Need, NoRoom, NotGranted, Onward, Phase, Promises, Prospect, Question, Ruling,
    Session, SessionSettings, Step, TABLE, Trigger, Turn, Unidentified, turn,
};
use sealpost::smtp::{Head, LineFault};
use sealpost::sys::WallTime;
use sealpost::tls::{CertificateFault, PeerChain, RefusalMode, verify};
use sealpost::upstream::Upstream;

use crate::dialog::cast::{Cast, Season, mailbox, mailboxes};
use crate::proof::custody;
use crate::recipe::NOW;

/// `n,,n=user,r=abc`, and the final message for "hunter2" on `ground()` with the nonce "nonce".
const SCRAM_BEGIN: &str = "AUTH SCRAM-SHA-256 biwsbj11c2VyLHI9YWJj";
const SCRAM_FIRST: &str = "biwsbj11c2VyLHI9YWJj";
const SCRAM_FINAL: &str = "Yz1iaXdzLHI9YWJjbm9uY2UscD10MWhLdHZ6WUd0M2JYT1MvZ1o5dEl1TVZSRHNCOXN4RFBTbit6RWlva0t3PQ==";

const NOW_WALL: WallTime = WallTime::from_seconds(NOW);

/// An event that owns what it holds.
#[derive(Clone, Debug)]
enum Move {
    Line(&'static [u8]),
    FaultyLine(LineFault),
    TalkedEarly,
    Header(Box<HeaderFacts>),
    Body(BodyEnd),
    NotKept(NoRoom),
    Identified(Result<Arc<Identity>, Unidentified>),
    Admitted(Result<(), NoRoom>),
    Committed(Result<Custody, NoRoom>),
    Founded,
    Attempted(Attempted),
    Spent(Result<(), NotGranted>),
    Offered(Prospect),
    TimedOut(Deadline),
    Draining,
}

impl Move {
    fn feed(&self, session: &mut Session) -> Step {
        let body = |end| BodyFacts { end, octets: 100 };
        let event = match self {
            Self::Line(line) => Event::Line(Ok(line)),
            Self::FaultyLine(fault) => Event::Line(Err(*fault)),
            Self::TalkedEarly => Event::TalkedEarly,
            Self::Header(facts) => Event::HeaderRead(facts),
            Self::Body(end) => Event::BodyEnded(body(*end)),
            Self::NotKept(cause) => Event::NotKept(body(BodyEnd::Complete), cause.clone()),
            Self::Identified(answer) => Event::Answer(Answer::Identified(answer.clone())),
            Self::Admitted(answer) => Event::Answer(Answer::Admitted(answer.clone())),
            Self::Committed(answer) => Event::Answer(Answer::Committed(answer.clone())),
            Self::Founded => Event::Answer(Answer::ScramGround(ground(), "nonce".to_owned())),
            Self::Attempted(outcome) => Event::Answer(Answer::Attempted(*outcome)),
            Self::Spent(answer) => Event::Answer(Answer::Spent(*answer)),
            Self::Offered(prospect) => Event::Answer(Answer::Offered(prospect.clone())),
            Self::TimedOut(deadline) => Event::TimedOut(*deadline),
            Self::Draining => Event::Draining,
        };
        session.on(event, NOW_WALL)
    }
}

fn upstream_says() -> sealpost::smtp::Reply {
    sealpost::smtp::Reply::new(sealpost::smtp::Code::new(550).unwrap(), None, "no")
}

/// Every trigger, with the events that make it; AUTH's answers are lines that only `Challenged` reads so.
fn moves() -> Vec<(Trigger, Vec<Move>)> {
    let line = |text: &'static str| Move::Line(text.as_bytes());
    let alice: HeaderFacts = HeaderFacts { from: vec!["alice@example.com".parse().unwrap()], ..HeaderFacts::default() };
    let forged = HeaderFacts { from: vec!["bob@example.com".parse().unwrap()], ..HeaderFacts::default() };
    let faulty = |fault| Box::new(HeaderFacts { fault: Some(fault), ..HeaderFacts::default() });
    vec![
        (Trigger::Ehlo, vec![line("EHLO client.example")]),
        (Trigger::Helo, vec![line("HELO client.example")]),
        (Trigger::StartTls, vec![line("STARTTLS")]),
        (
            Trigger::Auth,
            vec![
                line("AUTH PLAIN"),
                line("AUTH EXTERNAL ="),
                line("AUTH PLAIN AAAA"),
                line("AUTH PLAIN AGEAYg=="),
                line(SCRAM_BEGIN),
            ],
        ),
        (Trigger::Mail, vec![line("MAIL FROM:<alice@example.com>"), line("MAIL FROM:<bob@example.com>")]),
        (Trigger::Rcpt, vec![line("RCPT TO:<bob@example.net>"), line("RCPT TO:<bob@localhost>")]),
        (Trigger::Data, vec![line("DATA")]),
        (Trigger::Bdat, vec![line("BDAT 10 LAST"), line("BDAT 10"), line("BDAT 0"), line("BDAT 2000000")]),
        (Trigger::Rset, vec![line("RSET")]),
        (Trigger::Noop, vec![line("NOOP")]),
        (Trigger::Vrfy, vec![line("VRFY alice")]),
        (Trigger::Expn, vec![line("EXPN staff")]),
        (Trigger::Help, vec![line("HELP")]),
        (Trigger::Quit, vec![line("QUIT")]),
        (
            Trigger::Faulty,
            vec![
                line("XYZZY"),
                line(""),
                line("MAIL FROM:<a@@b>"),
                Move::FaultyLine(LineFault::TooLong(Head::of(b"MAIL"))),
            ],
        ),
        (
            Trigger::Response,
            vec![
                line(""),
                line("*"),
                line("%%%"),
                line("Ym9iQGV4YW1wbGUuY29t"),
                line("AGEAYg=="),
                line(SCRAM_FIRST),
                line(SCRAM_FINAL),
                Move::FaultyLine(LineFault::TooLong(Head::of(b"MAIL"))),
            ],
        ),
        (
            Trigger::Disputed,
            vec![
                Move::FaultyLine(LineFault::BareLf),
                Move::FaultyLine(LineFault::BareCr),
                Move::FaultyLine(LineFault::Nul),
                Move::Line(b"POST / HTTP/1.1"),
            ],
        ),
        (Trigger::TalkedEarly, vec![Move::TalkedEarly]),
        (
            Trigger::HeaderRead,
            vec![
                Move::Header(Box::new(alice)),
                Move::Header(Box::new(forged)),
                Move::Header(Box::default()),
                Move::Header(faulty(HeaderFault::Field("why".to_owned()))),
                Move::Header(faulty(HeaderFault::Octets(OctetFault::BareLf))),
            ],
        ),
        (
            Trigger::BodyEnded,
            vec![
                Move::Body(BodyEnd::Complete),
                Move::Body(BodyEnd::TooLarge),
                Move::Body(BodyEnd::Endless),
                Move::NotKept(NoRoom::Full("disk".to_owned())),
                Move::NotKept(NoRoom::Broken),
                Move::Body(BodyEnd::LineTooLong { limit: 10 }),
                Move::Body(BodyEnd::Disputed(OctetFault::Nul)),
            ],
        ),
        (
            Trigger::Identified,
            vec![
                Move::Identified(Ok(alice_identity())),
                Move::Identified(Ok(metered_identity())),
                Move::Identified(Err(Unidentified::Certificate(CertificateFault::Revoked))),
                Move::Identified(Err(Unidentified::Certificate(CertificateFault::RevocationUnknown))),
                Move::Identified(Err(Unidentified::Roster(NoIdentity::Unknown))),
            ],
        ),
        (Trigger::Admitted, vec![Move::Admitted(Ok(())), Move::Admitted(Err(NoRoom::Full(String::new())))]),
        (
            Trigger::Committed,
            vec![
                Move::Committed(Ok(custody())),
                Move::Committed(Err(NoRoom::Broken)),
                Move::Committed(Err(NoRoom::Refused { reason: "no".to_owned(), reply: Some(upstream_says()) })),
                Move::Committed(Err(NoRoom::Refused { reason: "5.3.4 too large".to_owned(), reply: None })),
            ],
        ),
        (Trigger::Founded, vec![Move::Founded]),
        (
            Trigger::Attempted,
            vec![
                Move::Attempted(Attempted::Right(proof())),
                Move::Attempted(Attempted::Wrong(Wrong::Password)),
                Move::Attempted(Attempted::Busy),
                Move::Attempted(Attempted::TooMany),
            ],
        ),
        (
            Trigger::Spent,
            vec![
                Move::Spent(Ok(())),
                Move::Spent(Err(NotGranted::Unknown)),
                Move::Spent(Err(NotGranted::Until { rate: A_RATE, at: NOW_WALL })),
            ],
        ),
        (
            Trigger::Offered,
            vec![
                Move::Offered(Prospect::Open),
                Move::Offered(Prospect::Lacking(Need::Utf8Address)),
                Move::Offered(Prospect::Lacking(Need::RequireTls)),
                Move::Offered(Prospect::Refused(upstream_says())),
            ],
        ),
        (Trigger::TimedOut, vec![Move::TimedOut(Deadline::Idle), Move::TimedOut(Deadline::Transaction)]),
        (Trigger::Draining, vec![Move::Draining]),
    ]
}

/// What is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reads {
    /// Up to the dot.
    Data,
    /// A chunk behind which more come.
    Middle,
    /// The last chunk.
    Last,
}

impl Reads {
    /// What these lines have last begun.
    fn behind(self, event: &Move) -> Self {
        match event {
            Move::Line(b"DATA") => Self::Data,
            Move::Line(line) if line.starts_with(b"BDAT") && line.ends_with(b"LAST") => Self::Last,
            Move::Line(line) if line.starts_with(b"BDAT") => Self::Middle,
            _ => self,
        }
    }
}

/// Whether in this phase these events make this trigger: after 334 each sure line is a response.
fn applies(phase: Phase, reads: Reads, trigger: Trigger, event: &Move) -> bool {
    let is_line = matches!(event, Move::Line(_) | Move::FaultyLine(LineFault::TooLong(_)));
    match (phase, trigger) {
        // Intake owes the header before the body's end; only an end in dispute can come first, the end of a chunk that is not the last, and that of
        // a message for whose header there was no memory.
        (Phase::Header, Trigger::BodyEnded) => match reads {
            Reads::Data => matches!(event, Move::Body(BodyEnd::Disputed(_)) | Move::NotKept(_)),
            Reads::Middle => true,
            Reads::Last => matches!(event, Move::NotKept(_)),
        },
        (Phase::Challenged, trigger) => !is_line || trigger == Trigger::Response,
        (_, Trigger::Response) => false,
        _ => true,
    }
}

const A_RATE: Rate = Rate { measure: Measure::Messages, window: Window::Hour, limit: 2 };

fn alice_identity() -> Arc<Identity> {
    static ALICE: OnceLock<Arc<Identity>> = OnceLock::new();
    Arc::clone(ALICE.get_or_init(|| identity("alice")))
}

/// Somebody with limits per hour, who may also send as alice in this test.
fn metered_identity() -> Arc<Identity> {
    static METERED: OnceLock<Arc<Identity>> = OnceLock::new();
    Arc::clone(METERED.get_or_init(|| identity("metered")))
}

fn identity(persona: &str) -> Arc<Identity> {
    let cast = Cast::get();
    let season = Season::default();
    let chain = PeerChain(cast.chain(persona).unwrap().unwrap());
    let verified = verify(&chain, &cast.trust(&season), NOW_WALL).unwrap();
    Arc::new(cast.roster(&season).identify(&verified).unwrap())
}

fn credentials() -> Credentials {
    Cast::get().credentials(&Season::default())
}

/// What `guarded` knows, although it is alice who speaks: the table does not mind.
fn ground() -> Ground {
    credentials::ground(credentials().of("guarded"), Named::Itself, "guarded", &[0; 32])
}

fn proof() -> Proof {
    let credentials = credentials();
    match credentials::judge(credentials.of("guarded"), SecondFactor::Password, Named::Itself, b"hunter2", NOW_WALL) {
        Judged::Right(proof) => proof,
        other => panic!("{other:?}"),
    }
}

/// One route that takes everybody.
pub(crate) fn everywhere() -> Arc<Routes> {
    by(Delivery::Queued)
}

fn by(delivery: Delivery) -> Arc<Routes> {
    let upstream = Arc::new(Upstream::new("main", "smtp.example.net", 25, "mail.example.com"));
    let route = Route::for_all("default", vec![upstream]).map(|route| route.delivered(delivery));
    Arc::new(Routes::new(route.into_iter().collect()))
}

pub(crate) fn fresh_settings() -> Arc<SessionSettings> {
    Arc::new(SessionSettings {
        header: HeaderRules::default(),
        hostname: "mail.example.com".to_owned(),
        message_size_max: 1_000_000,
        recipients_max: 100,
        postmaster: None,
        refusal: RefusalMode::Reply,
        auth_failures_max: u32::MAX,
        idle_commands_max: u32::MAX,
        promises: Promises { onward: Onward::Proved, hold_max: Duration::from_secs(432_000) },
    })
}

fn fresh() -> Session {
    static MEANS: OnceLock<Means> = OnceLock::new();
    let mut session = Session::new(alice_identity(), fresh_settings(), everywhere());
    session.equip(MEANS.get_or_init(|| credentials().means("guarded", SecondFactor::Password, None)).clone());
    session
}

/// The same, whose recipients the upstream is asked for.
fn fresh_through() -> Session {
    let mut session = fresh();
    session.redirect(by(Delivery::Through(Duration::from_secs(30))));
    session
}

/// Whom alice's certificate stands for, where this is all that the roster has.
fn alice_by(entry: RosterEntry) -> Arc<Identity> {
    let cast = Cast::get();
    let chain = PeerChain(cast.chain("alice").unwrap().unwrap());
    let verified = verify(&chain, &cast.trust(&Season::default()), NOW_WALL).unwrap();
    let grants: Vec<CaGrant> = ["staff", "workloads", "branch", "strangers"].map(mailboxes).into();
    Arc::new(Roster::new(vec![entry], grants).unwrap().identify(&verified).unwrap())
}

#[test]
fn the_second_look_keeps_only_what_the_same_identity_may_certainly_send_still() {
    let entry = |name: &str| mailbox(name, "alice@example.com", &["alice@example.com"]);
    let (credentials, none) = (credentials(), SecondFactor::None);
    let known = |factor| credentials.means("guarded", factor, None);
    let judged = alice_by(entry("alice"));
    let limited = Limits { message_size: Some(9), ..Limits::default() };
    for (what, now, factor, expected) in [
        ("the same", entry("alice"), none, Ok(())),
        ("another name", entry("alicia"), none, Err(NoRoom::Regranted)),
        ("a smaller grant", RosterEntry { limits: limited, ..entry("alice") }, none, Err(NoRoom::Regranted)),
        (
            "a second factor that was not shown",
            RosterEntry { second_factor: Some(SecondFactor::Password), ..entry("alice") },
            SecondFactor::Password,
            Err(NoRoom::Unauthenticated),
        ),
    ] {
        let session = Session::new(Arc::clone(&judged), fresh_settings(), everywhere());
        assert_eq!(session.still_allows(&alice_by(now), &known(factor)), expected, "{what}");
    }
}

/// A report is a message to the address that was sent as; who may not write there does not have one written with what he likes.
#[test]
fn a_report_to_who_may_not_be_written_to_has_the_header_alone() {
    for (persona, mail, expected) in [
        ("alice", &b"MAIL FROM:<alice@example.com> RET=FULL"[..], Some(Ret::Full)),
        ("alice", b"MAIL FROM:<alice@example.com>", None),
        ("robot", b"MAIL FROM:<billing@example.com> RET=FULL", Some(Ret::Headers)),
        ("robot", b"MAIL FROM:<billing@example.com>", Some(Ret::Headers)),
        ("robot", b"MAIL FROM:<> RET=FULL", Some(Ret::Full)),
    ] {
        let mut session = Session::new(identity(persona), fresh_settings(), everywhere());
        for said in [&b"EHLO client.example"[..], mail] {
            session.on(Event::Line(Ok(said)), NOW_WALL);
        }
        session.on(Event::Answer(Answer::Identified(Ok(identity(persona)))), NOW_WALL);
        let transaction = session.transaction().unwrap();
        assert_eq!(transaction.parameters().ret, expected, "{persona}");
    }
}

/// Who goes the way: without limits, and with.
const WALKERS: [fn() -> Arc<Identity>; 2] = [alice_identity, metered_identity];

/// Those who come by this phase: nobody asks the ledger about somebody without limits.
fn walkers(phase: Phase) -> Vec<fn() -> Arc<Identity>> {
    let counted = matches!(phase, Phase::Charging | Phase::Counting);
    WALKERS.into_iter().skip(usize::from(counted)).collect()
}

/// Sessions that have come so far, by each way that makes a difference, of everybody who comes by.
fn at(phase: Phase) -> Vec<(Session, Reads)> {
    walkers(phase).into_iter().flat_map(|who| at_as(phase, who)).collect()
}

fn at_as(phase: Phase, who: fn() -> Arc<Identity>) -> Vec<(Session, Reads)> {
    let header = HeaderFacts { from: vec!["alice@example.com".parse().unwrap()], ..HeaderFacts::default() };
    let envelope = [
        Move::Line(b"EHLO client.example"),
        Move::Line(b"MAIL FROM:<alice@example.com>"),
        Move::Identified(Ok(who())),
        Move::Line(b"RCPT TO:<bob@example.net>"),
    ];
    let (admitted, header, read) =
        (Move::Admitted(Ok(())), Move::Header(Box::new(header)), Move::Body(BodyEnd::Complete));
    let way = |moves: &[Move]| [&envelope[..], moves].concat();
    let data = way(&[Move::Line(b"DATA"), admitted.clone(), header.clone(), read.clone()]);
    let whole = way(&[Move::Line(b"BDAT 10 LAST"), admitted.clone(), header.clone(), read.clone()]);
    let part = way(&[Move::Line(b"BDAT 10"), admitted.clone(), header, read.clone()]);
    let part_of_the_header = way(&[Move::Line(b"BDAT 10"), admitted, read]);
    let auth = |moves: &[Move]| [&[Move::Line(b"EHLO client.example")], moves].concat();
    let scram = || [Move::Line(SCRAM_BEGIN.as_bytes()), Move::Founded];
    let detours: Vec<Vec<Move>> = match phase {
        Phase::Challenged => vec![
            auth(&[Move::Line(b"AUTH PLAIN")]),
            auth(&[Move::Line(b"AUTH LOGIN")]),
            auth(&[Move::Line(b"AUTH LOGIN YQ==")]),
            auth(&[Move::Line(b"AUTH SCRAM-SHA-256")]),
            auth(&scram()),
            auth(
                &[&scram()[..], &[Move::Line(SCRAM_FINAL.as_bytes()), Move::Attempted(Attempted::Right(proof()))]]
                    .concat(),
            ),
        ],
        Phase::Founding => vec![auth(&scram()[..1])],
        Phase::Checking => vec![
            auth(&[Move::Line(b"AUTH PLAIN AGEAYg==")]),
            auth(&[Move::Line(b"AUTH LOGIN YQ=="), Move::Line(b"Yg==")]),
            auth(&[&scram()[..], &[Move::Line(SCRAM_FINAL.as_bytes())]].concat()),
            auth(&[&scram()[..], &[Move::Line(b"AAAA")]].concat()),
        ],
        Phase::Discarding => {
            let no_from = way(&[Move::Line(b"DATA"), Move::Admitted(Ok(())), Move::Header(Box::default())]);
            vec![no_from, auth(&[Move::Line(b"BDAT 10")]), vec![Move::Line(b"BDAT 10")]]
        }
        Phase::Admitting | Phase::Header | Phase::Body => vec![data, whole, part],
        Phase::Committing => vec![data, whole],
        Phase::Chunked => vec![part, part_of_the_header],
        Phase::Closed => vec![vec![Move::Line(b"QUIT")]],
        Phase::Start => vec![vec![]],
        _ => vec![data],
    };
    let come = |(mut session, detour): (Session, Vec<Move>)| {
        let whole = matches!(phase, Phase::Challenged | Phase::Founding | Phase::Checking);
        let mut reads = Reads::Data;
        for step in detour {
            if session.phase() == phase && !whole {
                break;
            }
            step.feed(&mut session);
            reads = reads.behind(&step);
            if session.phase() != phase && matches!(session.phase(), Phase::Charging | Phase::Counting) {
                Move::Spent(Ok(())).feed(&mut session);
            }
            if session.phase() != phase && session.phase() == Phase::Offering {
                Move::Offered(Prospect::Open).feed(&mut session);
            }
        }
        assert_eq!(session.phase(), phase, "the way to {phase:?}");
        (session, reads)
    };
    // The upstream is asked of only where its route says so.
    let queued = detours.iter().filter(|_| phase != Phase::Offering).map(|detour| (fresh(), detour.clone()));
    let goes_through = matches!(phase, Phase::Opened | Phase::Addressed | Phase::Counting | Phase::Offering);
    let through = detours.iter().filter(|_| goes_through).map(|detour| (fresh_through(), detour.clone()));
    queued.chain(through).map(come).collect()
}

fn is_out_of_order(step: &Step) -> bool {
    matches!(step, Step::Say(reply) if matches!(reply.code().number(), 503 | 554))
}

fn is_our_fault(step: &Step) -> bool {
    matches!(step, Step::Close(reply) if reply.to_string().starts_with("421 4.3.0"))
}

/// Whether the step and the phase after it are what the table says.
fn agrees(phase: Phase, trigger: Trigger, step: &Step, next: Phase) -> bool {
    match turn(phase, trigger) {
        Turn::To(phases) => phases.contains(&next) && !is_our_fault(step),
        Turn::OutOfOrder => next == phase && is_out_of_order(step),
        Turn::Never => next == Phase::Closed && is_our_fault(step),
    }
}

#[test]
fn the_machine_does_in_every_phase_what_the_table_says_of_every_trigger() {
    let mut walked = 0;
    for phase in Phase::ALL {
        for (trigger, events) in moves() {
            for event in events {
                for (mut session, _) in
                    at(phase).into_iter().filter(|(_, reads)| applies(phase, *reads, trigger, &event))
                {
                    let step = event.feed(&mut session);
                    let next = session.phase();
                    assert!(agrees(phase, trigger, &step, next), "{phase:?}, {event:?}: {step:?}, then {next:?}");
                    walked += 1;
                }
            }
        }
    }
    assert!(walked > 500, "{walked}");
}

#[test]
fn every_way_that_the_table_allows_is_gone_by_some_event() {
    for (trigger, turns) in TABLE {
        for (phase, cell) in Phase::ALL.into_iter().zip(turns) {
            let Turn::To(phases) = cell else { continue };
            let (_, events) = moves().into_iter().find(|(known, _)| *known == trigger).unwrap();
            for expected in phases {
                let reached = events.iter().any(|event| {
                    at(phase).into_iter().filter(|(_, reads)| applies(phase, *reads, trigger, event)).any(
                        |(mut session, _)| {
                            event.feed(&mut session);
                            session.phase() == *expected
                        },
                    )
                });
                assert!(
                    reached || is_by_limit(trigger, *expected),
                    "{phase:?}, {trigger:?} never leads to {expected:?}"
                );
            }
        }
    }
}

/// Ways that only a limit of this test's session opens: too many failures of AUTH.
fn is_by_limit(trigger: Trigger, expected: Phase) -> bool {
    matches!((trigger, expected), (Trigger::Auth | Trigger::Response | Trigger::Committed, Phase::Closed))
}

#[test]
fn the_table_has_each_trigger_once() {
    let known = moves();
    assert_eq!(known.len(), TABLE.len());
    for (trigger, _) in known {
        assert_eq!(TABLE.iter().filter(|(row, _)| *row == trigger).count(), 1, "{trigger:?}");
    }
}

/// What a transaction must be, kept the simple way.
#[derive(Default)]
struct Model {
    sender: Option<String>,
    recipients: Vec<String>,
    /// The one about whom the ledger, or the upstream, is being asked.
    counted: Option<String>,
}

impl Model {
    fn follow(&mut self, trigger: Trigger, event: &Move, step: &Step, before: Phase, next: Phase) {
        let said = |code: &str| matches!(step, Step::Say(reply) if reply.to_string().starts_with(code));
        match trigger {
            Trigger::Identified | Trigger::Spent if said("250 2.1.0") => {
                self.sender = Some("alice@example.com".to_owned())
            }
            Trigger::Rcpt if said("250 2.1.5") || matches!(next, Phase::Counting | Phase::Offering) => {
                let Move::Line(line) = event else { return };
                let line = std::str::from_utf8(line).unwrap();
                let recipient = line.split(['<', '>']).nth(1).unwrap().to_owned();
                if matches!(next, Phase::Counting | Phase::Offering) {
                    self.counted = Some(recipient);
                } else {
                    self.recipients.push(recipient);
                }
            }
            Trigger::Spent if next == Phase::Offering => {}
            Trigger::Spent | Trigger::Offered => {
                let counted = self.counted.take();
                self.recipients.extend(counted.filter(|_| said("250 2.1.5")));
            }
            _ => {}
        }
        let over = matches!(next, Phase::Start | Phase::Ready | Phase::Discarding | Phase::Closed);
        if over && before != next {
            *self = Self::default();
        }
    }

    fn agrees(&self, session: &Session) -> bool {
        match session.transaction() {
            None => self.recipients.is_empty() && self.sender.is_none(),
            Some(transaction) => {
                let recipients = transaction.recipients().unpacked().unwrap();
                let recipients: Vec<&str> = recipients.iter().map(|one| one.forward_path.as_str()).collect();
                self.sender.as_deref() == Some(transaction.reverse_path().as_str()) && recipients == self.recipients
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn random_dialogues_keep_to_the_table(through: bool, choices in proptest::collection::vec((0..100_usize, 0..100_usize), 1..120)) {
        let moves = moves();
        let mut session = if through { fresh_through() } else { fresh() };
        let mut model = Model::default();
        let (mut draining, mut reads) = (false, Reads::Data);
        for (first, second) in choices {
            let phase = session.phase();
            // Mostly what may happen now; one in twenty times anything.
            let fitting: Vec<&(Trigger, Vec<Move>)> = moves
                .iter()
                .filter(|(trigger, _)| second % 20 == 0 || !matches!(turn(phase, *trigger), Turn::Never))
                .collect();
            prop_assume!(!fitting.is_empty());
            let (trigger, events) = fitting[first % fitting.len()];
            let Some(event) = events.iter().cycle().skip(second).take(events.len()).find(|event| applies(phase, reads, *trigger, event))
            else { continue };
            let step = event.feed(&mut session);
            reads = reads.behind(event);
            let next = session.phase();
            let left = draining && next == Phase::Closed && matches!(step, Step::Leave { .. });
            prop_assert!(left || agrees(phase, *trigger, &step, next), "{phase:?}, {event:?}: {step:?}, then {next:?}");
            draining |= *trigger == Trigger::Draining;
            model.follow(*trigger, event, &step, phase, next);
            prop_assert!(model.agrees(&session), "{phase:?}, {event:?}: {:?}", session.transaction());
            let promised = step_replies(&step).iter().any(|reply| reply.contains(" id="));
            prop_assert!(!promised || matches!(event, Move::Committed(Ok(_))), "{event:?} made a promise: {step:?}");
            if let Some(decision) = session.take_decision() {
                prop_assert_eq!(matches!(decision.ruling, Ruling::Kept(_)), promised);
            }
            if next == Phase::Closed {
                break;
            }
        }
    }
}

fn step_replies(step: &Step) -> Vec<String> {
    match step {
        Step::Say(reply) | Step::Challenge(reply) | Step::Close(reply) | Step::Dispute(reply) => {
            vec![reply.to_string()]
        }
        Step::Leave { reply, farewell } => vec![reply.to_string(), farewell.to_string()],
        Step::Receive { prompt, .. } => prompt.iter().map(ToString::to_string).collect(),
        Step::GoOn | Step::Discard | Step::Skip(_) | Step::Ask(_) | Step::Proceed => Vec::new(),
    }
}

#[test]
fn the_priority_that_the_grant_allows_is_the_one_that_is_kept() {
    for (asked, kept, code) in
        [("MT-PRIORITY=5", Some(0), "2.3.6"), ("MT-PRIORITY=-4", Some(-4), "2.1.0"), ("", None, "2.1.0")]
    {
        let mut session = fresh();
        session.on(Event::Line(Ok(b"EHLO client.example")), NOW_WALL);
        session.on(Event::Line(Ok(format!("MAIL FROM:<alice@example.com> {asked}").as_bytes())), NOW_WALL);
        let Step::Say(reply) = session.on(Event::Answer(Answer::Identified(Ok(alice_identity()))), NOW_WALL) else {
            panic!("{asked}")
        };
        assert_eq!(reply.status().unwrap().to_string(), code, "{asked}");
        assert_eq!(session.transaction().unwrap().parameters().priority, kept, "{asked}");
    }
}

/// RFC 1870 §6.3: what is too large all told is refused before its last chunk is received, and not after.
#[test]
fn chunks_that_are_too_large_together_are_not_received() {
    // 100 octets of a million are there.
    for (line, is_received) in [(&b"BDAT 999900 LAST"[..], true), (b"BDAT 999901 LAST", false)] {
        let (mut session, _) = at(Phase::Chunked).remove(0);
        let step = session.on(Event::Line(Ok(line)), NOW_WALL);
        assert_eq!(matches!(step, Step::Receive { .. }), is_received, "{step:?}");
        assert_eq!(matches!(step, Step::Skip(_)), !is_received, "{step:?}");
    }
}

/// RFC 5802 §6: `y` says that the client could bind and saw no PLUS. Where PLUS was offered somebody between has taken it away; where it was not, all is well.
#[test]
fn a_client_that_could_bind_and_saw_no_plus_is_taken_where_there_was_none() {
    // y,,n=guarded,r=fyko+d2lbbFgONRv9qkxdawL
    let begin = b"AUTH SCRAM-SHA-256 eSwsbj1ndWFyZGVkLHI9ZnlrbytkMmxiYkZnT05Sdjlxa3hkYXdM";
    for (exporter, is_taken) in [(None, true), (Some(ExporterValue([7; 32])), false)] {
        let mut session = Session::new(alice_identity(), fresh_settings(), everywhere());
        session.equip(credentials().means("guarded", SecondFactor::Password, exporter));
        session.on(Event::Line(Ok(b"EHLO client.example")), NOW_WALL);
        let step = session.on(Event::Line(Ok(begin)), NOW_WALL);
        assert_eq!(matches!(step, Step::Ask(Question::ScramGround { .. })), is_taken, "{step:?}");
    }
}

/// RFC 4954 §6: what could not be looked at in time is refused for now.
#[test]
fn a_password_that_nobody_could_look_at_is_told_to_come_again() {
    let mut seen = 0;
    for (mut session, _) in at(Phase::Checking) {
        let told = step_replies(&Move::Attempted(Attempted::Busy).feed(&mut session));
        assert!(told.len() == 1 && told[0].starts_with("454 4.7.0 "), "{told:?}");
        seen += 1;
    }
    assert!(seen > 0);
}

#[test]
fn what_is_out_of_order_is_refused_with_what_to_do() {
    for (phase, line, said) in [
        (Phase::Ready, &b"STARTTLS"[..], "TLS is active already"),
        (Phase::Addressed, b"STARTTLS", "TLS is active already"),
        (Phase::Opened, b"AUTH EXTERNAL", "No AUTH in a mail transaction"),
        (Phase::Chunked, b"AUTH EXTERNAL", "No AUTH in a mail transaction"),
        (Phase::Opened, b"MAIL FROM:<alice@example.com>", "RSET drops it"),
        (Phase::Addressed, b"MAIL FROM:<alice@example.com>", "RSET drops it"),
        (Phase::Chunked, b"MAIL FROM:<alice@example.com>", "RSET drops it"),
    ] {
        for (mut session, _) in at(phase) {
            let told = step_replies(&session.on(Event::Line(Ok(line)), NOW_WALL));
            assert!(told.iter().any(|reply| reply.contains(said)), "{phase:?} {told:?}");
        }
    }
}

/// RFC 4954 §4: what answers a challenge may be 12,288 octets long; a command may not.
#[test]
fn only_an_answer_to_a_challenge_may_be_as_long_as_auth_needs() {
    let limit = |phase| at(phase).first().unwrap().0.line_limit();
    assert_eq!(limit(Phase::Challenged), 12_288);
    assert!(limit(Phase::Start) < 4096 && limit(Phase::Opened) < 4096);
}

/// Where the end of what is read is the end of the message, the body is not over before the header was judged.
#[test]
fn no_message_ends_before_its_header_was_judged() {
    for (mut session, reads) in at(Phase::Header) {
        let step = Move::Body(BodyEnd::Complete).feed(&mut session);
        assert_eq!(is_our_fault(&step), reads != Reads::Middle, "{reads:?} {step:?}");
    }
}

#[test]
fn a_message_is_known_by_its_message_id_from_its_header_on() {
    let named = HeaderFacts {
        from: vec!["alice@example.com".parse().unwrap()],
        message_id: Some("<1@example.com>".to_owned()),
        ..HeaderFacts::default()
    };
    let (mut session, _) = at(Phase::Header).remove(0);
    assert_eq!(session.transaction().unwrap().message_id(), None);
    Move::Header(Box::new(named)).feed(&mut session);
    assert_eq!(session.transaction().unwrap().message_id(), Some("<1@example.com>"));
}

/// Commands that come to nothing are forgiven to whoever brings a message.
#[test]
fn who_brings_a_message_may_ask_for_nothing_again() {
    let settings = SessionSettings { idle_commands_max: 3, ..SessionSettings::clone(&fresh_settings()) };
    let mut session = Session::new(alice_identity(), Arc::new(settings), everywhere());
    let header = HeaderFacts { from: vec!["alice@example.com".parse().unwrap()], ..HeaderFacts::default() };
    let noop = Move::Line(b"NOOP");
    let id = sealpost::mail::QueueId::from_u128(1);
    let said = sealpost::smtp::Reply::new(sealpost::smtp::Code::new(250).unwrap(), None, "kept");
    let message = [
        Move::Line(b"MAIL FROM:<alice@example.com>"),
        Move::Identified(Ok(alice_identity())),
        Move::Line(b"RCPT TO:<bob@example.net>"),
        Move::Line(b"DATA"),
        Move::Admitted(Ok(())),
        Move::Header(Box::new(header)),
        Move::Body(BodyEnd::Complete),
        Move::Committed(Ok(Custody::with_upstream(id, 1, &said))),
    ];
    Move::Line(b"EHLO client.example").feed(&mut session);
    for _ in 0..3 {
        for event in [&noop, &noop].into_iter().chain(&message) {
            event.feed(&mut session);
        }
        assert_eq!(session.phase(), Phase::Ready, "a message was brought");
    }
    for _ in 0..3 {
        noop.feed(&mut session);
    }
    assert_eq!(session.phase(), Phase::Ready);
    noop.feed(&mut session);
    assert_eq!(session.phase(), Phase::Closed);
}

/// Each refusal has a line of the log, so whatever a client says again and again comes to an end, whether or not it begins anew between.
#[test]
fn whatever_is_refused_again_and_again_ends_the_session() {
    let alice: HeaderFacts = HeaderFacts { from: vec!["alice@example.com".parse().unwrap()], ..HeaderFacts::default() };
    let forged = HeaderFacts { from: vec!["bob@example.com".parse().unwrap()], ..HeaderFacts::default() };
    let line = |text: &'static str| Move::Line(text.as_bytes());
    let (full, lost) = (NoRoom::Full("the disk".to_owned()), Unidentified::NoCertificate);
    let mail = [line("MAIL FROM:<alice@example.com>"), Move::Identified(Ok(alice_identity()))];
    let envelope = [&mail[..], &[line("RCPT TO:<bob@example.net>")]].concat();
    let of_message = |moves: &[Move]| [&envelope[..], moves].concat();
    let data = [line("DATA"), Move::Admitted(Ok(()))];
    let (header, read) = (Move::Header(Box::new(alice)), Move::Body(BodyEnd::Complete));
    let to_commit = of_message(&[&data[..], &[header.clone(), read.clone()]].concat());
    let committed = |cause| [&to_commit[..], &[Move::Committed(Err(cause))]].concat();
    let refused = [&data[..], &[Move::Header(Box::new(forged)), read.clone()]].concat();
    let not_kept = [&data[..], &[header.clone(), Move::NotKept(full.clone())]].concat();
    let too_large = [&data[..], &[header, Move::Body(BodyEnd::TooLarge)]].concat();
    for (what, first, again) in [
        ("DATA without room", envelope.clone(), vec![line("DATA"), Move::Admitted(Err(full.clone()))]),
        (
            "DATA without room, and RSET",
            vec![],
            of_message(&[line("DATA"), Move::Admitted(Err(full.clone())), line("RSET")]),
        ),
        ("BDAT without room", vec![], of_message(&[line("BDAT 10"), Move::Admitted(Err(full.clone())), read.clone()])),
        ("a chunk that is too large", vec![], of_message(&[line("BDAT 2000000"), read.clone()])),
        ("a chunk without MAIL", vec![], vec![line("BDAT 10"), read.clone()]),
        ("a header that is refused", vec![], of_message(&refused)),
        ("a body that is refused", vec![], of_message(&too_large)),
        ("a body that can't be kept", vec![], of_message(&not_kept)),
        ("a commit that fails", vec![], committed(NoRoom::Broken)),
        (
            "a message that the upstream refuses",
            vec![],
            committed(NoRoom::Refused { reason: "no".to_owned(), reply: None }),
        ),
        ("a factor that counts no more", vec![], committed(NoRoom::Unauthenticated)),
        ("MAIL of somebody else", vec![], vec![line("MAIL FROM:<bob@example.com>"), mail[1].clone()]),
        ("MAIL without an identity", vec![], vec![mail[0].clone(), Move::Identified(Err(lost))]),
        (
            "passwords that nobody has time for",
            vec![],
            vec![line("AUTH PLAIN AGEAYg=="), Move::Attempted(Attempted::Busy)],
        ),
        ("AUTH that fails", vec![], vec![line("AUTH EXTERNAL Ym9i")]),
    ] {
        let settings = SessionSettings {
            idle_commands_max: 10,
            auth_failures_max: 10,
            ..SessionSettings::clone(&fresh_settings())
        };
        let mut session = Session::new(alice_identity(), Arc::new(settings), everywhere());
        session.equip(credentials().means("guarded", SecondFactor::Password, None));
        let mut told = 0;
        let begun = [line("EHLO client.example")].into_iter().chain(first);
        let many = std::iter::repeat_n(again, 200).flatten();
        for event in begun.chain(many) {
            event.feed(&mut session);
            told += usize::from(session.take_decision().is_some());
            if session.phase() == Phase::Closed {
                break;
            }
        }
        assert_eq!((session.phase(), told <= 12), (Phase::Closed, true), "{what}: {told} lines");
    }
}

/// Recipients have counters of their own, which end it however many commands may come to nothing.
#[test]
fn recipients_that_are_not_taken_end_the_session_by_their_own_counters() {
    let line = |text: &'static str| Move::Line(text.as_bytes());
    let opened = |identity: Arc<Identity>| [line("MAIL FROM:<alice@example.com>"), Move::Identified(Ok(identity))];
    let refused = [&opened(alice_identity())[..], &[line("RCPT TO:<bob@nowhere>"), line("RSET")]].concat();
    let put_off = [
        &opened(metered_identity())[..],
        &[Move::Spent(Ok(())), line("RCPT TO:<bob@example.net>"), Move::Spent(Err(NotGranted::Unknown)), line("RSET")],
    ];
    let settings = SessionSettings {
        idle_commands_max: 1_000_000,
        recipients_max: 7,
        ..SessionSettings::clone(&fresh_settings())
    };
    for (what, again, most) in [
        ("refused", refused, RECIPIENTS_REFUSED_MAX),
        ("put off", put_off.concat(), u32::try_from(settings.recipients_max).unwrap()),
    ] {
        let mut session = Session::new(alice_identity(), Arc::new(settings.clone()), everywhere());
        line("EHLO client.example").feed(&mut session);
        let mut causes = Vec::new();
        let last = (0_u32..).find_map(|round| {
            let mut fed = |event: &Move| {
                let step = event.feed(&mut session);
                causes.extend(
                    session.take_decision().map(|decision| format!("{:?} {}", decision.ruling, decision.cause)),
                );
                step
            };
            let steps = again.iter().map(&mut fed).collect::<Vec<_>>();
            steps.into_iter().find_map(|step| if let Step::Close(reply) = step { Some((round, reply)) } else { None })
        });
        let (round, reply) = last.unwrap();
        assert_eq!(
            (round, reply.to_string().as_str()),
            (most, "421 4.7.0 mail.example.com Too many refused recipients"),
            "{what}"
        );
        let closing = |cause: &&String| cause.contains("the session is closed") && cause.contains("421");
        assert_eq!(causes.iter().filter(closing).count(), 1, "{what}: {causes:?}");
        // One for each, since each has a transaction of its own.
        assert_eq!(u32::try_from(causes.len()).unwrap(), most + 1, "{what}: {causes:?}");
    }
}

/// The recipients of a message are in each line that speaks of it.
#[test]
fn that_there_is_no_room_for_a_message_is_told_once_for_each_cause() {
    let (mut session, _) = at(Phase::Addressed).remove(0);
    let (full, share) = (NoRoom::Full("the disk".to_owned()), NoRoom::Share("memory".to_owned()));
    for (cause, is_told) in [(&full, true), (&full, false), (&share, true), (&share, false)] {
        Move::Line(b"DATA").feed(&mut session);
        Move::Admitted(Err(cause.clone())).feed(&mut session);
        assert_eq!(session.take_decision().is_some(), is_told, "{cause:?}");
    }
}

#[test]
fn a_hundred_refused_recipients_are_answered_and_the_next_one_ends_it() {
    let (mut session, _) = at(Phase::Opened).remove(0);
    for count in 1..=RECIPIENTS_REFUSED_MAX + 1 {
        let step = session.on(Event::Line(Ok(b"RCPT TO:<bob@nowhere>")), NOW_WALL);
        let is_closed = matches!(step, Step::Close(_));
        assert_eq!(is_closed, count > RECIPIENTS_REFUSED_MAX, "{count}: {step:?}");
    }
}
