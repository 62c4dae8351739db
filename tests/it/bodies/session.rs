//! A whole session: what a client sends inside TLS, through the pure machine, with identities that a roster made of verified chains.
//!
//! The first octet says who the client is, and what befalls the relay. The rest is the wire. It is read here as intake reads it, without sockets and
//! waits: octets that come early are never told of, for whether they do depends on when they come. What is kept is held against the wire, by DATA and in
//! chunks alike, the grant and mail-parser; what is said, against what was kept. The same messages in other chunks are kept the same.

mod kept;
mod wire;
mod world;

use std::sync::Arc;

use sealpost::content::{
    BodyEnd, BodyFacts, Collected, HeaderCollector, HeaderFacts, HeaderFault, HeaderRules, take_in,
};
use sealpost::credentials::{self as credential, Judged, Wrong};
use sealpost::identity::Identity;
use sealpost::mail::{Custody, Envelope, ForwardPath, QueueId, Recipient};
use sealpost::session::{
    Answer, Attempt, Attempted, Deadline, Event, NoRoom, NotGranted, Phase, Prospect, Question, Ruling, Session, Step,
    Unidentified, replies,
};
use sealpost::smtp::data::{BareLf, Chunk};
use sealpost::smtp::{Command, DotState, Framing, LineFault, LineReader, MessageReader, Reply, ReplyReader};
use sealpost::tls::CertificateFault;

use super::command::everything_offered;
use super::wire::WholeEnds;
use super::{Broken, Lie, Told, pieces, require, same};
use crate::proof;
use kept::Kept;
use wire::{Behind, Turn};
pub(super) use world::PERSONAS;
use world::{HEADER_LIMITS, LINE_MAX, MISHAPS, Mishap, NOW_WALL, begun, credentials, identities, upstreams};

pub(super) const LIES: [Lie; 11] = [
    Lie::SessionKeepsNothing,
    Lie::SessionSkipsTheJudge,
    Lie::SessionAddsRefused,
    Lie::SessionIgnoresRset,
    Lie::SessionEndsAtLf,
    Lie::SessionStays,
    Lie::SessionLooksOnce,
    Lie::SessionReadsRefusedChunks,
    Lie::SessionTakesOneMore,
    Lie::SessionForgetsChunks,
    Lie::SessionForgetsCr,
];

/// [`Session`], see above.
pub(super) fn session(octets: &[u8], seed: u64, lie: Lie) -> Told {
    let Some((&first, wire)) = octets.split_first() else { return Ok(()) };
    let play = |all: &mut dyn Iterator<Item = &[u8]>| {
        let mut dialogue = Dialogue::new(first, lie);
        for piece in all {
            dialogue.receive(piece);
        }
        dialogue.happen(Event::TimedOut(Deadline::Idle));
        dialogue
    };
    let whole = play(&mut std::iter::once(wire));
    let cut = play(&mut pieces(wire, seed));
    same("replies to the wire in pieces", &cut.said, &whole.said)?;
    same("messages of the wire in pieces", &cut.kept, &whole.kept)?;
    match whole.broken {
        Some(broken) => return Err(broken),
        None => same("messages kept, by the audit", &whole.audited, &whole.kept.len())?,
    }
    let bare_lf = whole.identity.grant().leeway.bare_lf;
    let stand: Vec<Vec<u8>> = wire::messages(wire, &whole.turns, bare_lf)?;
    let kept: Vec<Vec<u8>> = whole.kept.iter().map(|kept| kept.message.clone()).collect();
    same("messages kept, and those on the wire", &shown(&kept), &shown(&stand))?;
    for kept in &whole.kept {
        kept.judge(&whole.identity)?;
    }
    // Of one who leaves at the fifth line other lines would be heard.
    let Some(other) = wire::cut_otherwise(wire, &whole.turns, bare_lf, seed).filter(|_| whole.mishap != Mishap::Drains)
    else {
        return Ok(());
    };
    let again = play(&mut std::iter::once(other.as_slice()));
    same("messages cut into other chunks", &again.kept, &whole.kept)
}

fn shown(messages: &[Vec<u8>]) -> Vec<String> {
    messages.iter().map(|message| message.escape_ascii().to_string()).collect()
}

/// What the octets at hand are.
enum Reading {
    Lines,
    Message(Box<Receiving>),
    /// To be thrown away.
    Over(MessageReader),
}

struct Receiving {
    reader: MessageReader,
    /// Until the header is whole.
    collector: Option<HeaderCollector>,
    message: Vec<u8>,
}

struct Dialogue {
    session: Session,
    identity: Arc<Identity>,
    mishap: Mishap,
    lie: Lie,
    lines: LineReader,
    ends: WholeEnds,
    reading: Reading,
    /// Octets that came so far.
    came: usize,
    /// What was made of it, line by line.
    turns: Vec<Turn>,
    said: Vec<String>,
    kept: Vec<Kept>,
    audited: usize,
    closed: bool,
    /// Nobody knows where the next command begins.
    disputed: bool,
    broken: Option<Broken>,
    looks: usize,
    admitted: usize,
    commands: usize,
    /// What the relay's books have of the transaction: the recipients that were answered 250, and those refused.
    taken: Vec<ForwardPath>,
    refused: Vec<Recipient>,
    /// The recipient whose reply is due.
    asked: Option<Recipient>,
    whole: Option<(Envelope, Vec<u8>)>,
    /// What came of a message in chunks, between two of them.
    arrival: Option<Box<Receiving>>,
    envelope: Option<Envelope>,
}

impl Dialogue {
    fn new(first: u8, lie: Lie) -> Self {
        let persona = usize::from(first) % PERSONAS.len();
        let mishap = MISHAPS[usize::from(first) / PERSONAS.len() % MISHAPS.len()];
        let identity = Arc::clone(&identities()[persona]);
        Self {
            session: begun(&identity, mishap),
            identity,
            mishap,
            lie,
            lines: LineReader::new(),
            ends: WholeEnds::default(),
            reading: Reading::Lines,
            came: 0,
            turns: Vec::new(),
            said: Vec::new(),
            kept: Vec::new(),
            audited: 0,
            closed: false,
            disputed: false,
            broken: None,
            looks: 0,
            admitted: 0,
            commands: 0,
            taken: Vec::new(),
            refused: Vec::new(),
            asked: None,
            whole: None,
            arrival: None,
            envelope: None,
        }
    }

    // --- Octets.

    fn receive(&mut self, octets: &[u8]) {
        let octets = if self.lie == Lie::SessionEndsAtLf { self.ends.made_of(octets) } else { octets.to_vec() };
        let mut rest = octets.as_slice();
        while !self.closed && !rest.is_empty() {
            let (piece, behind) = rest.split_at(self.lines.room().min(rest.len()));
            self.hold(require("no room is left", !piece.is_empty()));
            self.lines.push(piece);
            self.came += piece.len();
            rest = behind;
            while !self.closed && self.turn() {}
        }
    }

    /// One line or one piece of a message; false when more octets are needed.
    fn turn(&mut self) -> bool {
        match std::mem::replace(&mut self.reading, Reading::Lines) {
            Reading::Lines => self.line(),
            Reading::Message(receiving) => self.message(receiving),
            Reading::Over(mut reader) => {
                let progress = reader.discard(self.lines.buffered());
                self.lines.consume(progress.consumed);
                match progress.state {
                    DotState::More => {
                        self.reading = Reading::Over(reader);
                        return false;
                    }
                    DotState::End => self.body_ended(BodyEnd::Complete, 0),
                    DotState::Fault(fault) => self.body_ended(BodyEnd::Disputed(fault), 0),
                }
                true
            }
        }
    }

    fn line(&mut self) -> bool {
        let Some(line) = self.lines.next_line(self.session.line_limit()) else { return false };
        let line = line.map(<[u8]>::to_vec);
        let has_end = matches!(line, Ok(_) | Err(LineFault::TooLong(_)));
        let end = has_end.then(|| self.came - self.lines.buffered().len());
        self.commands += 1;
        if self.mishap == Mishap::Drains && self.commands == 5 {
            self.happen(Event::Draining);
        }
        if self.closed {
            return false;
        }
        let phase = self.session.phase();
        let command = line.as_ref().ok().filter(|_| phase != Phase::Challenged);
        let command = command.and_then(|line| Command::parse(line, &everything_offered(), NOW_WALL).ok());
        let mut shown = line;
        match command {
            Some(Command::Rcpt { forward_path, parameters }) if matches!(phase, Phase::Opened | Phase::Addressed) => {
                self.asked = Some(Recipient { forward_path, parameters });
            }
            Some(Command::Rset | Command::Ehlo(_) | Command::Helo(_)) => self.forget(),
            Some(Command::Mail { .. }) if phase == Phase::Ready => self.forget(),
            _ => {}
        }
        if self.lie == Lie::SessionIgnoresRset && matches!(&shown, Ok(line) if line.eq_ignore_ascii_case(b"RSET")) {
            shown = Ok(b"NOOP".to_vec());
        }
        self.turns.push(Turn { end, behind: Behind::Line, codes: Vec::new() });
        self.happen(Event::Line(shown.as_deref().map_err(|fault| *fault)));
        true
    }

    fn forget(&mut self) {
        self.taken.clear();
        self.refused.clear();
    }

    fn message(&mut self, mut receiving: Box<Receiving>) -> bool {
        let mut octets = Vec::new();
        let progress = receiving.reader.read(self.lines.buffered(), &mut octets);
        self.lines.consume(progress.consumed);
        receiving.message.extend_from_slice(&octets);
        if let Some(mut collector) = receiving.collector.take() {
            let collected = collector.push(&octets);
            let all_came = progress.state == DotState::End && receiving.reader.is_last();
            let section = match (collected, progress.state) {
                (Err(fault), _) => Some(Err(fault)),
                (Ok(Collected::Whole { .. }), _) => Some(Ok(collector.into_section())),
                (Ok(Collected::More), _) if all_came => Some(Ok(collector.into_section())),
                (Ok(Collected::More), DotState::Fault(fault)) => Some(Err(HeaderFault::Octets(fault))),
                (Ok(Collected::More), DotState::More | DotState::End) => {
                    receiving.collector = Some(collector);
                    None
                }
            };
            if let Some(section) = section {
                let facts = match section {
                    // A section that ends within its last field is given that field's line end: so it goes on.
                    Ok(section) => {
                        let came = section.len();
                        let (section, facts) =
                            take_in(section, &HEADER_LIMITS, self.session.utf8(), &HeaderRules::default());
                        receiving.message.splice(..came, section);
                        facts
                    }
                    Err(fault) => HeaderFacts { fault: Some(fault), ..HeaderFacts::default() },
                };
                self.header(facts);
            }
        }
        if self.closed {
            return false;
        }
        let goes_on = matches!(self.session.phase(), Phase::Header | Phase::Body);
        match progress.state {
            DotState::More => {
                self.reading = if goes_on { Reading::Message(receiving) } else { Reading::Over(receiving.reader) };
                return false;
            }
            DotState::Fault(fault) => self.body_ended(BodyEnd::Disputed(fault), 0),
            DotState::End if !goes_on => self.body_ended(BodyEnd::Complete, 0),
            DotState::End => self.message_ended(receiving),
        }
        true
    }

    fn header(&mut self, mut facts: HeaderFacts) {
        if self.lie == Lie::SessionSkipsTheJudge {
            let own = self.identity.certificate().email.clone().into_iter().collect();
            facts = HeaderFacts { from: own, ..HeaderFacts::default() };
        }
        self.happen(Event::HeaderRead(&facts));
    }

    fn message_ended(&mut self, receiving: Box<Receiving>) {
        let octets = u64::try_from(receiving.message.len()).unwrap_or(u64::MAX);
        let end = if octets > self.session.message_size_max() {
            BodyEnd::TooLarge
        } else if receiving.reader.longest_line() > LINE_MAX {
            BodyEnd::LineTooLong { limit: LINE_MAX }
        } else {
            BodyEnd::Complete
        };
        if receiving.reader.is_last() {
            self.whole = self.envelope.take().map(|envelope| (envelope, receiving.message));
        } else {
            self.arrival = Some(receiving);
        }
        if self.mishap == Mishap::NotKept {
            self.happen(Event::NotKept(BodyFacts { end, octets }, NoRoom::Broken));
        } else {
            self.body_ended(end, octets);
        }
    }

    fn body_ended(&mut self, end: BodyEnd, octets: u64) {
        self.happen(Event::BodyEnded(BodyFacts { end, octets }));
    }

    // --- Events and steps.

    fn happen(&mut self, event: Event<'_>) {
        if self.closed {
            return;
        }
        let before = self.session.phase();
        let given = matches!(event, Event::Answer(Answer::Committed(Ok(_))));
        let step = self.session.on(event, NOW_WALL);
        if matches!(self.session.phase(), Phase::Start | Phase::Ready | Phase::Discarding | Phase::Closed) {
            self.arrival = None;
        }
        let decision = self.session.take_decision();
        if matches!(
            decision.map(|decision| decision.ruling),
            Some(Ruling::Kept(_) | Ruling::Held(_) | Ruling::Relayed(..))
        ) {
            self.audited += 1;
            self.hold(require("the audit has a message that nobody has", given));
        }
        self.obey(step, before, given);
    }

    fn obey(&mut self, step: Step, before: Phase, given: bool) {
        match step {
            Step::Say(reply) | Step::Challenge(reply) => self.answer_to(&reply, before, given),
            Step::Receive { prompt, framing } => {
                if let Some(prompt) = prompt {
                    self.say(&prompt);
                }
                self.turn_into(Behind::Message(framing));
                self.reading = Reading::Message(self.begin_message(framing));
            }
            Step::Skip(_) if self.lie == Lie::SessionReadsRefusedChunks => self.body_ended(BodyEnd::Complete, 0),
            Step::Skip(count) => {
                self.turn_into(Behind::Over(count));
                let framing = Framing::Octets { count, chunk: Chunk::Last };
                self.reading = Reading::Over(MessageReader::new(framing, BareLf::Refused));
            }
            Step::GoOn | Step::Discard | Step::Proceed => {}
            Step::Ask(question) => {
                if let Some(answer) = self.answer(question) {
                    self.happen(Event::Answer(answer));
                }
            }
            Step::Close(reply) => {
                self.answer_to(&reply, before, given);
                self.closed = true;
            }
            Step::Leave { reply, farewell } => {
                self.answer_to(&reply, before, given);
                self.say(&farewell);
                self.closed = true;
            }
            Step::Dispute(reply) => {
                self.answer_to(&reply, before, given);
                self.disputed = true;
                if self.lie == Lie::SessionStays {
                    self.session = begun(&self.identity, self.mishap);
                } else {
                    self.closed = true;
                }
            }
        }
    }

    fn turn_into(&mut self, behind: Behind) {
        if let Some(turn) = self.turns.last_mut() {
            turn.behind = behind;
        }
    }

    /// What reads the message, or its next chunk.
    fn begin_message(&mut self, framing: Framing) -> Box<Receiving> {
        let bare_lf = self.identity.grant().leeway.bare_lf;
        let framing = match framing {
            Framing::Octets { count, chunk } if self.lie == Lie::SessionTakesOneMore => {
                Framing::Octets { count: count.saturating_add(1), chunk }
            }
            framing => framing,
        };
        if let Some(mut receiving) = self.arrival.take() {
            match self.lie {
                Lie::SessionForgetsChunks if receiving.collector.is_none() => receiving.message.clear(),
                Lie::SessionForgetsCr => receiving.reader = MessageReader::new(framing, bare_lf),
                _ => {}
            }
            receiving.reader.go_on(framing);
            return receiving;
        }
        Box::new(Receiving {
            reader: MessageReader::new(framing, bare_lf),
            collector: Some(HeaderCollector::new(&HEADER_LIMITS)),
            message: Vec::new(),
        })
    }

    /// A reply to what came in this phase.
    fn answer_to(&mut self, reply: &Reply, before: Phase, given: bool) {
        // A chunk that others follow is answered 250 too, and that promises nothing (RFC 3030 §2).
        let of_message = matches!(before, Phase::Header | Phase::Body | Phase::Discarding | Phase::Committing)
            && self.session.phase() != Phase::Chunked;
        if of_message {
            self.hold(same("said 250 to a message, and custody", &reply.code().is_positive(), &given));
            self.forget();
        }
        if let Some(recipient) = self.asked.take() {
            if reply.code().is_positive() {
                self.taken.push(recipient.forward_path);
            } else {
                self.refused.push(recipient);
            }
        }
        self.say(reply);
    }

    fn say(&mut self, reply: &Reply) {
        let mut wire = Vec::new();
        reply.write_to(&mut wire);
        let text = String::from_utf8_lossy(&wire).into_owned();
        let mut reader = ReplyReader::default();
        let (mut read, mut fits) = (Ok(None), true);
        for line in text.split_terminator("\r\n") {
            fits &= line.len() <= 510 && line.is_ascii();
            read = reader.line(line.as_bytes());
        }
        let code = read.ok().flatten().map(|reply| reply.code());
        self.hold(require("a reply that is not 7-bit, or has a line over 512 octets", fits));
        self.hold(same("code of a reply that was read", &code, &Some(reply.code())));
        self.hold(require("something is said after the end, or after a dispute", !self.closed && !self.disputed));
        if let Some(turn) = self.turns.last_mut() {
            turn.codes.push(reply.code().number());
        }
        self.said.push(text);
    }

    fn hold(&mut self, told: Told) {
        if let Err(broken) = told {
            self.broken.get_or_insert(broken);
        }
    }

    // --- The world.

    fn answer(&mut self, question: Question) -> Option<Answer> {
        Some(match question {
            Question::Reidentify => {
                self.looks += 1;
                let revoked = self.mishap == Mishap::Revoked && self.looks > 1 && self.lie != Lie::SessionLooksOnce;
                if revoked {
                    Answer::Identified(Err(Unidentified::Certificate(CertificateFault::Revoked)))
                } else {
                    Answer::Identified(Ok(Arc::clone(&self.identity)))
                }
            }
            Question::Admit(envelope) => {
                self.admitted += 1;
                if self.mishap == Mishap::NoRoom && self.admitted == 2 {
                    return Some(Answer::Admitted(Err(NoRoom::Full("the second".to_owned()))));
                }
                self.envelope = Some(self.with_refused(*envelope));
                Answer::Admitted(Ok(()))
            }
            Question::Commit if self.lie == Lie::SessionKeepsNothing => {
                self.answer_to(&replies::kept(QueueId::from_u128(1)), Phase::Committing, false);
                self.session = begun(&self.identity, self.mishap);
                return None;
            }
            Question::Commit => Answer::Committed(self.commit()),
            Question::Spend(_) if self.mishap == Mishap::NoLedger => Answer::Spent(Err(NotGranted::Unknown)),
            Question::Spend(_) => Answer::Spent(Ok(())),
            Question::Offer(_) if self.mishap == Mishap::Through && self.taken.len() == 1 => {
                Answer::Offered(Prospect::Refused(upstreams(550)))
            }
            Question::Offer(_) => Answer::Offered(Prospect::Open),
            Question::ScramGround { named, user } => {
                let known = credentials().of(self.identity.name());
                Answer::ScramGround(credential::ground(known, named, &user, &[7; 32]), "nonce".to_owned())
            }
            Question::Authenticate(attempt) => Answer::Attempted(self.attempt(attempt)),
        })
    }

    fn with_refused(&self, envelope: Envelope) -> Envelope {
        if self.lie != Lie::SessionAddsRefused {
            return envelope;
        }
        let recipients = [envelope.recipients(), &self.refused].concat();
        let (path, parameters) = (envelope.reverse_path().clone(), envelope.parameters().clone());
        Envelope::new(path, parameters, recipients).unwrap_or(envelope)
    }

    fn attempt(&self, attempt: Attempt) -> Attempted {
        match attempt {
            Attempt::Scram { outcome: Ok(proof), .. } => Attempted::Right(proof),
            Attempt::Scram { outcome: Err(fault), .. } => Attempted::Wrong(Wrong::Scram(fault)),
            Attempt::Password { named, password, .. } => {
                let (known, factor) = (credentials().of(self.identity.name()), self.identity.grant().second_factor);
                match credential::judge(known, factor, named, password.expose(), NOW_WALL) {
                    Judged::Right(proof) | Judged::RightWith(proof, _) => Attempted::Right(proof),
                    Judged::Wrong(wrong) => Attempted::Wrong(wrong),
                }
            }
        }
    }

    fn commit(&mut self) -> Result<Custody, NoRoom> {
        let Some((envelope, message)) = self.whole.take() else {
            self.hold(require("custody of nothing is asked for", false));
            return Err(NoRoom::Broken);
        };
        if self.mishap == Mishap::NoCommit {
            return Err(NoRoom::Broken);
        }
        let of: Vec<&ForwardPath> = envelope.recipients().iter().map(|one| &one.forward_path).collect();
        let books: Vec<&ForwardPath> = self.taken.iter().collect();
        self.hold(same("recipients of the envelope, and those answered 250", &of, &books));
        let again = self.mishap == Mishap::Revoked && self.looks > 1;
        self.hold(require("a message of a revoked certificate is kept", !again));
        self.kept.push(Kept { envelope, message });
        match self.mishap {
            Mishap::Through => Ok(Custody::with_upstream(QueueId::from_u128(1), 1, &upstreams(250))),
            _ => Ok(proof::custody()),
        }
    }
}
