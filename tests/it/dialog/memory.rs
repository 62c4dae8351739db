//! The stage in memory: the pure machines, the real judge of chains and roster, the real queue on a simulated disk; no socket, no TLS octets.
//!
//! It does what intake does, and decides as little. What it can't show: the handshake itself, and time in which nothing happens.

mod reading;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use sealpost::attempts::Attempts;
use sealpost::content::{BodyEnd, HeaderCollector, HeaderLimits, HeaderRules};
use sealpost::credentials::{self, ExporterValue, Judged, Means, Wrong};
use sealpost::identity::{Digest256, DomainSet, Identity, Rule};
use sealpost::mail::Custody;
use sealpost::route::{Delivery, Route, Routes, Wants};
use sealpost::session::{
    Answer, AskedTls, Attempt, Attempted, Deadline, Decision, Event, Need as Lacked, NoRoom, Onward, Phase, Preamble,
    PreambleEvent, PreambleStep, Promises, Prospect, Question, Refused, Ruling, Session, SessionSettings, Step,
    TlsReadiness, Unidentified, replies,
};
use sealpost::smtp::data::{BareLf, Chunk};
use sealpost::smtp::{Code, Command, Framing, LineReader, MessageReader, Offered, Reply, ReplyReader, Status};
use sealpost::sys::{MonoTime, WallTime};
use sealpost::tls::{CertificateFault, PeerChain, RefusalMode, verify};

use sealpost::upstream::Upstream;
use sealpost::upstream::preference::Ranked;

use super::cast::{Cast, Season};
use super::custody::MemoryQueue;
use super::mutants::Mutant;
use super::play::{Heard, KeptMessage, Stage};
use super::rules::set_rule;
use super::script::{Store, Wait};
use crate::recipe::NOW;

/// What would bind SCRAM to the connection, if there were TLS.
const EXPORTER: [u8; 32] = [9; 32];

/// How octets of one write arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Together.
    Whole,
    /// One by one.
    ByOctets,
}

/// Who has the word on the server's side.
enum Machine {
    Preamble(Preamble),
    /// STARTTLS was answered; what comes next is TLS.
    AwaitingHandshake,
    Session(Box<Session>),
    Refused(Box<Refused>),
}

/// What the octets at hand are.
enum Reading {
    Lines,
    Message(Box<Receiving>),
    /// To be thrown away.
    Over(MessageReader),
}

/// A message being read.
struct Receiving {
    reader: MessageReader,
    /// Until the header is whole.
    collector: Option<HeaderCollector>,
    octets: u64,
    kept: Kept,
}

/// Whether the queue could take what came so far.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    Well,
    Failed,
}

struct Connection {
    persona: String,
    machine: Machine,
    lines: LineReader,
    reading: Reading,
    /// What came of a message in chunks, between two of them.
    arrival: Option<Box<Receiving>>,
    closed: bool,
}

/// See the module.
pub(crate) struct MemoryStage {
    queue: MemoryQueue,
    settings: SessionSettings,
    routes: Arc<Routes>,
    upstream: UpstreamSays,
    readiness: TlsReadiness,
    header_limits: HeaderLimits,
    line_max: usize,
    wall: i64,
    season: Season,
    connection: Option<Connection>,
    /// Whether a load balancer tells of the persona's certificate.
    vouched: bool,
    heard: VecDeque<Heard>,
    audited: Option<String>,
    arrival: Arrival,
    mutant: Mutant,
    attempts: Attempts,
}

impl MemoryStage {
    /// A fresh server.
    pub(crate) fn new(arrival: Arrival, mutant: Mutant) -> Self {
        Self {
            queue: MemoryQueue::new(),
            settings: settings(),
            routes: routes_to("*"),
            upstream: UpstreamSays::Nothing,
            readiness: TlsReadiness::Ready,
            header_limits: HeaderLimits::default(),
            line_max: 64 * 1024,
            wall: NOW,
            season: Season { laxity: mutant.laxity(), ..Season::default() },
            connection: None,
            vouched: false,
            heard: VecDeque::new(),
            audited: None,
            arrival,
            mutant,
            attempts: Attempts::default(),
        }
    }

    fn now(&self) -> WallTime {
        WallTime::from_seconds(self.wall)
    }

    /// As intake does it after the handshake and at MAIL: verify, then identify.
    fn identify(&self, persona: &str) -> Result<Arc<Identity>, Unidentified> {
        let cast = Cast::get();
        let Some(chain) = cast.chain(persona).unwrap() else { return Err(Unidentified::NoCertificate) };
        let trust = cast.trust(&self.season);
        let chain = PeerChain(chain);
        let verified = match (self.mutant, verify(&chain, &trust, self.now())) {
            (Mutant::IgnoresDates, Err(CertificateFault::Expired { at })) => {
                verify(&chain, &trust, WallTime::from_seconds(at.seconds() - 1))
            }
            (Mutant::IgnoresDates, Err(CertificateFault::NotYetValid { from })) => verify(&chain, &trust, from),
            (_, verified) => verified,
        };
        let mut verified = verified.map_err(Unidentified::Certificate)?;
        if self.vouched && self.mutant != Mutant::TakesAnyWord {
            verified = verified.as_if_told_by(Digest256(cast.made("balancer").unwrap().fingerprint()));
        }
        cast.roster(&self.season).identify(&verified).map(Arc::new).map_err(Unidentified::Roster)
    }

    fn say(&mut self, reply: &Reply) {
        let mut wire = Vec::new();
        reply.write_to(&mut wire);
        let text = String::from_utf8(wire).unwrap();
        let mut reader = ReplyReader::default();
        let mut lines = Vec::new();
        for line in text.split_terminator("\r\n") {
            assert!(line.len() <= 510, "a reply line over 512 octets: {line}");
            assert!(line.is_ascii(), "a reply that is not ASCII: {line}");
            reader.line(line.as_bytes()).unwrap();
            lines.push(self.shown(reply, line.get(4..).unwrap_or_default()));
        }
        self.heard.push_back(Heard { code: reply.code().number(), lines });
    }

    fn shown(&self, reply: &Reply, line: &str) -> String {
        match reply.status() {
            Some(status) if self.mutant == Mutant::DropsStatus => line.replacen(&format!("{status} "), "", 1),
            _ => line.to_owned(),
        }
    }

    fn close(&mut self, reply: &Reply) {
        self.say(reply);
        let stays = self.mutant == Mutant::StaysAfter421 && reply.code().is_transient();
        if let Some(connection) = &mut self.connection {
            connection.closed = !stays;
        }
    }

    fn open(&mut self, persona: &str, machine: Machine) {
        self.heard.clear();
        self.queue.forget();
        let persona = persona.to_owned();
        let (lines, reading) = (LineReader::new(), Reading::Lines);
        self.connection = Some(Connection { persona, machine, lines, reading, arrival: None, closed: false });
    }

    fn shared_settings(&self) -> Arc<SessionSettings> {
        Arc::new(self.settings.clone())
    }

    /// Who the handshake shows.
    fn secured(&mut self, persona: &str) -> Machine {
        match self.identify(persona) {
            Ok(identity) => Machine::Session(Box::new(self.equipped(identity))),
            Err(cause) => Machine::Refused(Box::new(Refused::new(cause, self.shared_settings(), self.now()))),
        }
    }

    fn preamble_step(&mut self, connection: &mut Connection, step: PreambleStep, line: &[u8]) {
        if self.mutant == Mutant::TakesMailBeforeTls && line.starts_with(b"MAIL") {
            return self.say(&replies::sender_taken());
        }
        match step {
            PreambleStep::Say(reply) => self.say(&reply),
            PreambleStep::Close(reply) => self.end(connection, &reply),
            PreambleStep::StartTls(reply) => self.start_tls(connection, &reply),
        }
    }

    fn start_tls(&mut self, connection: &mut Connection, reply: &Reply) {
        let patient = matches!(self.mutant, Mutant::KeepsPlaintext | Mutant::LetsTalkEarly);
        if !connection.lines.buffered().is_empty() && !patient {
            let Machine::Preamble(preamble) = &mut connection.machine else { return };
            let step = preamble.on(PreambleEvent::TalkedEarly, now(self.wall));
            return self.preamble_step(connection, step, b"");
        }
        self.say(reply);
        connection.machine = Machine::AwaitingHandshake;
    }

    // --- Events and steps.

    fn feed(&mut self, connection: &mut Connection, event: Event<'_>) {
        if self.mutant == Mutant::ReadsBase64First && is_malformed_auth(&event) {
            return self.say(&replies::not_base64());
        }
        let (step, decision) = match &mut connection.machine {
            Machine::Session(session) => (session.on(event, now(self.wall)), session.take_decision()),
            Machine::Refused(refused) => (refused.on(event, now(self.wall)), refused.take_decision()),
            Machine::Preamble(_) | Machine::AwaitingHandshake => return,
        };
        if let Machine::Session(session) = &connection.machine
            && is_over(session.phase())
        {
            connection.arrival = None;
            if self.mutant != Mutant::GivesNothingBack {
                self.queue.give_back();
            }
        }
        if let Some(decision) = decision {
            self.audited = Some(audit_line(&decision));
        }
        self.obey(connection, step);
    }

    fn obey(&mut self, connection: &mut Connection, step: Step) {
        match step {
            Step::Say(reply) => match self.upstream {
                UpstreamSays::NoToTheRecipient(words)
                    if self.mutant == Mutant::TellsCodesOn && reply.text().starts_with("Upstream said") =>
                {
                    self.say(&upstream_reply(words));
                }
                _ => self.say(&reply),
            },
            Step::Challenge(reply) => self.prompt(connection, &reply),
            Step::Receive { prompt, framing } => {
                connection.reading = Reading::Message(self.begin_message(connection, framing));
                if let Some(reply) = prompt {
                    self.prompt(connection, &reply);
                }
            }
            Step::GoOn | Step::Proceed => {}
            Step::Discard => self.discard(connection),
            Step::Skip(count) => self.skip(connection, count),
            Step::Ask(question) => {
                let answer = self.answer(connection, question);
                if let (Machine::Session(session), Some(Answer::Identified(Ok(identity)))) =
                    (&mut connection.machine, &answer)
                {
                    let means = self.means(identity);
                    session.equip(means);
                    session.redirect(Arc::clone(&self.routes));
                }
                if let Some(answer) = answer {
                    self.feed(connection, Event::Answer(answer));
                }
            }
            Step::Close(reply) => self.end(connection, &reply),
            Step::Leave { reply, farewell } => {
                self.say(&reply);
                self.end(connection, &farewell);
            }
            Step::Dispute(reply) if self.mutant == Mutant::GoesOnAfterDispute => {
                self.say(&reply);
                if let Ok(identity) = self.identify(&connection.persona) {
                    connection.machine = Machine::Session(Box::new(Session::new(
                        identity,
                        self.shared_settings(),
                        Arc::clone(&self.routes),
                    )));
                }
            }
            Step::Dispute(reply) => self.end(connection, &reply),
        }
    }

    fn end(&mut self, connection: &mut Connection, reply: &Reply) {
        self.say(reply);
        connection.closed = !(self.mutant == Mutant::StaysAfter421 && reply.code().is_transient());
    }

    /// Words for which the client had to wait.
    fn prompt(&mut self, connection: &mut Connection, reply: &Reply) {
        if connection.lines.buffered().is_empty() || self.mutant == Mutant::LetsTalkEarly {
            self.say(reply);
        } else {
            self.feed(connection, Event::TalkedEarly);
        }
    }

    /// What is being read is let go by whoever reads it (`header_refused`).
    fn discard(&mut self, connection: &mut Connection) {
        if self.mutant == Mutant::AnswersBeforeTheEnd {
            self.end_body(connection, BodyEnd::Complete, 0);
        }
    }

    fn skip(&mut self, connection: &mut Connection, count: u64) {
        if self.mutant == Mutant::ReadsChunksAsCommands {
            self.end_body(connection, BodyEnd::Complete, 0);
            return;
        }
        let framing = Framing::Octets { count, chunk: Chunk::Last };
        connection.reading = Reading::Over(MessageReader::new(framing, BareLf::Refused));
    }

    fn answer(&mut self, connection: &mut Connection, question: Question) -> Option<Answer> {
        let Machine::Session(session) = &connection.machine else { return None };
        match question {
            Question::Reidentify if self.mutant == Mutant::NeverLooksAgain => {
                Some(Answer::Identified(Ok(Arc::clone(session.identity()))))
            }
            Question::Reidentify => Some(Answer::Identified(self.identify(&connection.persona))),
            Question::Admit(envelope) => {
                let patient = self.mutant == Mutant::Says354WithoutRoom;
                let admitted = self.queue.admit(session.identity().name(), *envelope);
                Some(Answer::Admitted(if patient { Ok(()) } else { admitted }))
            }
            Question::Commit if self.mutant == Mutant::Says250BeforeCommit => {
                self.say(&replies::kept(sealpost::mail::QueueId::from_u128(1)));
                connection.machine = Machine::Session(Box::new(Session::new(
                    Arc::clone(session.identity()),
                    self.shared_settings(),
                    Arc::clone(&self.routes),
                )));
                None
            }
            Question::Commit => Some(Answer::Committed(self.commit(connection))),
            Question::Spend(_) if self.mutant == Mutant::CountsNothing => Some(Answer::Spent(Ok(()))),
            Question::Spend(cost) => Some(Answer::Spent(self.queue.spend(session, cost))),
            Question::ScramGround { named, user } => {
                let credentials = Cast::get().credentials(&self.season);
                let ground = credentials::ground(credentials.of(session.identity().name()), named, &user, &[7; 32]);
                Some(Answer::ScramGround(ground, "servernonceservernonce".to_owned()))
            }
            Question::Authenticate(attempt) => Some(Answer::Attempted(self.attempt(session.identity(), attempt))),
            Question::Offer(_) if self.mutant == Mutant::AsksNobody => Some(Answer::Offered(Prospect::Open)),
            Question::Offer(_) => Some(Answer::Offered(self.upstream.prospect())),
        }
    }

    /// As intake does it, but without waiting and without a pool.
    fn attempt(&self, identity: &Identity, attempt: Attempt) -> Attempted {
        let key = identity.certificate().spki;
        let mono = MonoTime::from_start(Duration::from_secs(u64::try_from(self.wall - NOW).unwrap()));
        let address = "192.0.2.1".parse().unwrap();
        let Ok(ticket) = self.attempts.begin(identity.name(), key, address, mono) else {
            return Attempted::TooMany;
        };
        let judged = match attempt {
            Attempt::Scram { outcome, .. } => {
                outcome.map_or_else(|fault| Judged::Wrong(Wrong::Scram(fault)), Judged::Right)
            }
            Attempt::Password { named, password, .. } => {
                let credentials = Cast::get().credentials(&self.season);
                let credential = credentials.of(identity.name());
                credentials::judge(credential, identity.grant().second_factor, named, password.expose(), self.now())
            }
        };
        let proof = match judged {
            Judged::Right(proof) => Ok(proof),
            Judged::RightWith(proof, step) if ticket.takes_code(step, self.now()) => Ok(proof),
            Judged::RightWith(..) => Err(Wrong::UsedCode),
            Judged::Wrong(wrong) => Err(wrong),
        };
        match proof {
            Ok(proof) => {
                ticket.right(mono);
                Attempted::Right(proof)
            }
            Err(wrong) => Attempted::Wrong(wrong),
        }
    }

    fn means(&self, identity: &Identity) -> Means {
        let factor = identity.grant().second_factor;
        let bound = (!self.vouched).then_some(ExporterValue(EXPORTER));
        Cast::get().credentials(&self.season).means(identity.name(), factor, bound)
    }

    fn equipped(&self, identity: Arc<Identity>) -> Session {
        let means = self.means(&identity);
        let mut session = Session::new(identity, self.shared_settings(), Arc::clone(&self.routes));
        session.equip(means);
        session
    }

    fn commit(&mut self, connection: &Connection) -> Result<Custody, NoRoom> {
        let Machine::Session(session) = &connection.machine else { return Err(NoRoom::Broken) };
        if !matches!(self.mutant, Mutant::NeverLooksAgain | Mutant::LooksAtMailOnly) {
            let now = self.identify(&connection.persona).map_err(NoRoom::Lost)?;
            session.still_allows(&now, &self.means(&now))?;
        }
        let id = sealpost::mail::QueueId::from_u128(1);
        match self.upstream {
            UpstreamSays::YesToTheMessage => Ok(Custody::with_upstream(id, 1, &upstream_reply("250 2.0.0 kept as 42"))),
            UpstreamSays::NoToTheMessage(words) => {
                Err(NoRoom::Refused { reason: "no".to_owned(), reply: Some(upstream_reply(words)) })
            }
            UpstreamSays::TooLarge => Err(NoRoom::Refused { reason: too_large().to_owned(), reply: None }),
            _ => self.queue.commit(session, self.now()),
        }
    }

    /// Inside TLS, where the server has the next word.
    fn begin_inside(&mut self, persona: &str) -> Result<(), String> {
        Cast::get().chain(persona)?;
        let machine = self.secured(persona);
        let greeting = match &machine {
            Machine::Session(session) => Step::Say(session.greeting()),
            Machine::Refused(refused) => refused.greeting(self.now()),
            Machine::Preamble(_) | Machine::AwaitingHandshake => return Err("no machine".to_owned()),
        };
        self.open(persona, machine);
        let Some(mut connection) = self.connection.take() else { return Err("nothing is connected".to_owned()) };
        self.obey(&mut connection, greeting);
        self.connection = Some(connection);
        Ok(())
    }

    /// Something that is not an octet.
    fn happen(&mut self, event: Event<'_>, before: PreambleEvent<'_>) {
        let Some(mut connection) = self.connection.take() else { return };
        if let Machine::Preamble(preamble) = &mut connection.machine {
            let step = preamble.on(before, now(self.wall));
            self.preamble_step(&mut connection, step, b"");
        } else {
            self.feed(&mut connection, event);
        }
        self.connection = Some(connection);
    }
}

impl Stage for MemoryStage {
    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let number = || value.parse::<u32>().map_err(|fault| fault.to_string());
        let size = || value.parse::<usize>().map_err(|fault| fault.to_string());
        match key {
            "refusal" => self.settings.refusal = refusal(value)?,
            "tls" if value == "unavailable" => self.readiness = TlsReadiness::Unavailable,
            "message_size_max" => self.settings.message_size_max = u64::from(number()?),
            "recipients_max" => self.settings.recipients_max = size()?,
            "idle_commands_max" => self.settings.idle_commands_max = number()?,
            "auth_failures_max" => self.settings.auth_failures_max = number()?,
            "postmaster" => self.settings.postmaster = Some(value.parse().map_err(|_| "no address")?),
            "routes" if self.mutant == Mutant::RoutesEverybody => {}
            "routes" => self.routes = routes_to(value),
            "upstream" => {
                self.upstream = UpstreamSays::read(value)?;
                self.routes = self.upstream.routes();
            }
            // A mutant that promises too much.
            "onward" if self.mutant == Mutant::PromisesTooMuch => {}
            "onward" | "hold_max" => promise(&mut self.settings.promises, key, value)?,
            "line_max" => self.line_max = size()?,
            "header_max" => self.header_limits.section = size()?,
            "together" => {}
            _ if self.mutant == Mutant::IgnoresHeaderRules && set_rule(&mut HeaderRules::default(), key, value)? => {}
            _ if set_rule(&mut self.settings.header, key, value)? => {}
            _ => return Err(format!("no setting {key:?}")),
        }
        Ok(())
    }

    fn clock(&mut self, seconds: i64) -> Result<(), String> {
        self.wall += seconds;
        Ok(())
    }

    fn connect(&mut self, early: &[u8]) -> Result<(), String> {
        self.vouched = false;
        let preamble = Preamble::new(self.shared_settings(), self.readiness);
        let greeting = preamble.greeting();
        self.open("", Machine::Preamble(preamble));
        if early.is_empty() || self.mutant == Mutant::LetsTalkEarly {
            self.say(&greeting);
            self.receive(early);
        } else {
            self.happen(Event::TalkedEarly, PreambleEvent::TalkedEarly);
        }
        Ok(())
    }

    fn handshake(&mut self, persona: &str) -> Result<(), String> {
        Cast::get().chain(persona)?;
        let machine = self.secured(persona);
        let connection = self.connection.as_mut().ok_or("nothing is connected")?;
        if !matches!(connection.machine, Machine::AwaitingHandshake) {
            return Err("the server does not expect a handshake now".to_owned());
        }
        connection.machine = machine;
        persona.clone_into(&mut connection.persona);
        // RFC 3207 §4.2: a new parser inside TLS.
        if self.mutant != Mutant::KeepsPlaintext {
            connection.lines = LineReader::new();
        }
        while self.turn() {}
        Ok(())
    }

    fn connect_implicit(&mut self, persona: &str) -> Result<(), String> {
        self.vouched = false;
        self.begin_inside(persona)
    }

    fn connect_vouched(&mut self, persona: &str) -> Result<(), String> {
        self.vouched = true;
        self.begin_inside(persona)
    }

    fn send(&mut self, octets: &[u8]) -> Result<(), String> {
        let octets = self.mutant.octets(octets);
        match self.arrival {
            Arrival::Whole => self.receive(&octets),
            Arrival::ByOctets => octets.chunks(1).for_each(|octet| self.receive(octet)),
        }
        Ok(())
    }

    fn hear(&mut self) -> Option<Heard> {
        self.heard.pop_front()
    }

    fn unhear(&mut self, heard: Heard) {
        self.heard.push_front(heard);
    }

    fn is_closed(&mut self) -> bool {
        self.connection.as_ref().is_none_or(|connection| connection.closed)
    }

    fn revoke(&mut self, persona: &str) -> Result<(), String> {
        Cast::get().made(persona)?;
        self.season.revoked.push(persona.to_owned());
        Ok(())
    }

    fn forget(&mut self, persona: &str) -> Result<(), String> {
        Cast::get().made(persona)?;
        self.season.forgotten.push(persona.to_owned());
        Ok(())
    }

    fn rekey(&mut self) -> Result<(), String> {
        self.season.rekeyed = true;
        Ok(())
    }

    fn exporter(&mut self) -> Result<[u8; 32], String> {
        Ok(EXPORTER)
    }

    fn wall(&mut self) -> i64 {
        self.wall
    }

    fn store(&mut self, store: Store) -> Result<(), String> {
        self.queue.state = store;
        Ok(())
    }

    fn drain(&mut self) -> Result<(), String> {
        match self.mutant {
            Mutant::IgnoresDraining => {}
            Mutant::DrainsAtOnce => self.close(&replies::shutting_down()),
            _ => self.happen(Event::Draining, PreambleEvent::Draining),
        }
        Ok(())
    }

    fn wait(&mut self, wait: Wait) -> Result<(), String> {
        let deadline = match wait {
            Wait::Idle => Deadline::Idle,
            Wait::Transaction => Deadline::Transaction,
            Wait::Session => Deadline::Session,
        };
        self.happen(Event::TimedOut(deadline), PreambleEvent::TimedOut(deadline));
        Ok(())
    }

    fn kept(&mut self) -> Vec<KeptMessage> {
        self.queue.kept()
    }

    fn audit(&mut self) -> Result<String, String> {
        self.audited.clone().ok_or_else(|| "nothing has been audited".to_owned())
    }
}

/// Whether no transaction is open, as intake tells.
fn is_over(phase: Phase) -> bool {
    matches!(
        phase,
        Phase::Start | Phase::Ready | Phase::Challenged | Phase::Identifying | Phase::Discarding | Phase::Closed
    )
}

/// What every script starts from.
pub(super) fn settings() -> SessionSettings {
    SessionSettings {
        header: HeaderRules::default(),
        hostname: "mail.example.com".to_owned(),
        message_size_max: 50 * 1024 * 1024,
        recipients_max: 100,
        postmaster: None,
        refusal: RefusalMode::Reply,
        auth_failures_max: 5,
        idle_commands_max: 100,
        promises: Promises { onward: Onward::Proved, hold_max: Duration::from_secs(432_000) },
    }
}

/// One route to these domains; `*` is everywhere, the bare postmaster included.
pub(crate) fn routes_to(domains: &str) -> Arc<Routes> {
    let upstream = Arc::new(Upstream::new("main", "smtp.example.net", 25, "mail.example.com"));
    let recipients = (domains != "*").then(|| DomainSet::read(domains.split(' ')).unwrap());
    let rule = Rule { name: "route \"default\"".into(), place: None };
    let ranked = Ranked { order: 1, weight: 1, what: upstream };
    let route = Route::new("default", Wants { recipients, ..Wants::default() }, rule, vec![ranked]);
    Arc::new(Routes::new(route.into_iter().collect()))
}

/// What an upstream is asked while the client waits, and says; or what it is known to lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UpstreamSays {
    Nothing,
    YesToTheMessage,
    /// With its words.
    NoToTheRecipient(&'static str),
    /// The same.
    NoToTheMessage(&'static str),
    TooLarge,
    LacksUtf8,
    LacksTls,
}

impl UpstreamSays {
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let (word, words) = text.split_once(' ').map_or((text, None), |(word, words)| (word, Some(words)));
        // A script has few of them, and the scripted upstream says them as long as it likes.
        let said = |usual: &'static str| words.map_or(usual, |words| &*String::leak(words.to_owned()));
        Ok(match word {
            "refuses-recipient" => Self::NoToTheRecipient(said("550 5.1.1 no such user")),
            "refuses-message" => Self::NoToTheMessage(said("554 5.7.1 this is spam")),
            _ if words.is_some() => return Err(format!("upstream can't be {text:?}")),
            "takes" => Self::YesToTheMessage,
            "finds-it-too-large" => Self::TooLarge,
            "lacks-smtputf8" => Self::LacksUtf8,
            "lacks-requiretls" => Self::LacksTls,
            _ => return Err(format!("upstream can't be {word:?}")),
        })
    }

    /// A way to it for everything.
    pub(super) fn routes(self) -> Arc<Routes> {
        let through = !matches!(self, Self::Nothing | Self::LacksUtf8 | Self::LacksTls);
        let delivery = if through { Delivery::Through(Duration::from_secs(30)) } else { Delivery::Queued };
        Arc::new(Routes::new(routes_to("*").iter().map(|route| (**route).clone().delivered(delivery)).collect()))
    }

    fn prospect(self) -> Prospect {
        match self {
            Self::NoToTheRecipient(words) => Prospect::Refused(upstream_reply(words)),
            Self::LacksUtf8 => Prospect::Lacking(Lacked::Utf8Address),
            Self::LacksTls => Prospect::Lacking(Lacked::RequireTls),
            Self::Nothing | Self::YesToTheMessage | Self::NoToTheMessage(_) | Self::TooLarge => Prospect::Open,
        }
    }
}

/// AUTH with an initial response that is no base64.
fn is_malformed_auth(event: &Event<'_>) -> bool {
    let Event::Line(Ok(line)) = event else { return false };
    let command = Command::parse(line, &Offered::default(), WallTime::from_seconds(0));
    matches!(command, Ok(Command::Auth { initial: Some(initial), .. }) if initial.read().is_err())
}

/// Code, status when there is one, text.
fn upstream_reply(words: &str) -> Reply {
    let (code, rest) = words.split_once(' ').unwrap();
    let (status, text) = match rest.split_once(' ').map(|(status, text)| (status.parse::<Status>(), text)) {
        Some((Ok(status), text)) => (Some(status), text),
        Some((Err(_), _)) | None => (None, rest),
    };
    Reply::new(Code::new(code.parse().unwrap()).unwrap(), status, text)
}

fn too_large() -> &'static str {
    "5.3.4 the message has 300 octets, and the upstream takes at most 99"
}

/// What the script says can be promised.
pub(super) fn promise(promises: &mut Promises, key: &str, value: &str) -> Result<(), String> {
    match (key, value) {
        ("onward", "unproved") => promises.onward = Onward::Unproved,
        ("hold_max", seconds) => {
            promises.hold_max = Duration::from_secs(seconds.parse().map_err(|_| "no number")?);
        }
        _ => return Err(format!("{key} can't be {value:?}")),
    }
    Ok(())
}

pub(super) fn refusal(word: &str) -> Result<RefusalMode, String> {
    match word {
        "reply" => Ok(RefusalMode::Reply),
        "defer" => Ok(RefusalMode::Defer),
        "alert" => Ok(RefusalMode::Alert),
        _ => Err("refusal = reply|defer|alert".to_owned()),
    }
}

fn now(seconds: i64) -> WallTime {
    WallTime::from_seconds(seconds)
}

/// The decision as the audit might write it.
fn audit_line(decision: &Decision) -> String {
    let ruling = match &decision.ruling {
        Ruling::Kept(id) => format!("kept {} id={id}", decision.subject.word()),
        Ruling::Held(id) => format!("held {} id={id}", decision.subject.word()),
        Ruling::Relayed(id, reply) => format!("relayed {} id={id} reply={reply:?}", decision.subject.word()),
        Ruling::Authenticated(mechanism) => format!("authenticated {mechanism}"),
        Ruling::Refused(reply) => format!("refused {} reply={reply:?}", decision.subject.word()),
    };
    let whose = decision.identity.as_ref().map_or("nobody".to_owned(), |identity| {
        format!("{} serial={}", identity.name(), identity.certificate().serial)
    });
    let sender = decision.sender.as_ref().map_or(String::new(), |path| format!("from=<{}>", path.as_str()));
    let recipients: Vec<String> = decision.recipients.iter().map(|path| format!("<{}>", path.as_str())).collect();
    let rule = decision.rule.as_ref().map_or(String::new(), ToString::to_string);
    format!(
        "{ruling} {whose} {sender} to={} rule={rule} auth={} asked_priority={} asked_tls={} cause={}",
        recipients.join(","),
        decision.mechanism.unwrap_or("-"),
        decision.asked_priority.map_or("-".to_owned(), |priority| priority.to_string()),
        decision.asked_tls.map_or("-", AskedTls::word),
        decision.cause
    )
}
