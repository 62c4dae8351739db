//! Octets to events: lines, the header when it is whole, the body to its end; as intake does it.

use sealpost::content::{
    BodyEnd, BodyFacts, Collected, FixUps, HeaderCollector, HeaderFacts, HeaderFault, Proved, Results, fix_ups, take_in,
};
use sealpost::mail::QueueId;
use sealpost::mail::trace::{TlsEnd, Trace};
use sealpost::policy::SenderField;
use sealpost::session::{Event, NoRoom, Phase, PreambleEvent, Session};
use sealpost::smtp::data::BareLf;
use sealpost::smtp::{DotState, Framing, MessageReader};

use super::super::rules::as_sent;
use super::{Connection, Kept, Machine, MemoryStage, Mutant, Reading, Receiving, now};

impl MemoryStage {
    pub(super) fn receive(&mut self, octets: &[u8]) {
        let mut rest = octets;
        while let Some(connection) = self.connection.as_mut().filter(|one| !one.closed && !rest.is_empty()) {
            let (piece, behind) = rest.split_at(connection.lines.room().min(rest.len()));
            assert!(!piece.is_empty(), "no room and nothing read");
            connection.lines.push(piece);
            rest = behind;
            while self.turn() {}
        }
    }

    /// One line or one piece of a message; false when more octets are needed.
    pub(super) fn turn(&mut self) -> bool {
        let Some(mut connection) = self.connection.take() else { return false };
        let more = !connection.closed && self.read_on(&mut connection);
        let closed = connection.closed;
        self.connection = Some(connection);
        more && !closed
    }

    pub(super) fn read_on(&mut self, connection: &mut Connection) -> bool {
        match std::mem::replace(&mut connection.reading, Reading::Lines) {
            Reading::Lines => self.read_line(connection),
            Reading::Message(receiving) => self.read_message(connection, receiving),
            Reading::Over(mut reader) => {
                let progress = reader.discard(connection.lines.buffered());
                connection.lines.consume(progress.consumed);
                match progress.state {
                    DotState::More => {
                        connection.reading = Reading::Over(reader);
                        false
                    }
                    DotState::End => self.end_body(connection, BodyEnd::Complete, 0),
                    DotState::Fault(fault) => self.end_body(connection, BodyEnd::Disputed(fault), 0),
                }
            }
        }
    }

    pub(super) fn read_line(&mut self, connection: &mut Connection) -> bool {
        let limit = match &connection.machine {
            Machine::Preamble(preamble) => preamble.line_limit(),
            Machine::AwaitingHandshake => return false,
            Machine::Session(session) => session.line_limit(),
            Machine::Refused(refused) => refused.line_limit(),
        };
        let Some(line) = connection.lines.next_line(limit) else { return false };
        let line = line.map(<[u8]>::to_vec);
        match &mut connection.machine {
            Machine::Preamble(preamble) => {
                let step = preamble.on(PreambleEvent::Line(line.as_deref().map_err(|fault| *fault)), now(self.wall));
                self.preamble_step(connection, step, line.as_deref().unwrap_or_default());
            }
            Machine::AwaitingHandshake => return false,
            Machine::Session(session) => {
                let in_transaction = session.transaction().is_some();
                let line = line.map(|line| self.mutant.command(&line, in_transaction));
                self.feed(connection, Event::Line(line.as_deref().map_err(|fault| *fault)));
            }
            Machine::Refused(_) => self.feed(connection, Event::Line(line.as_deref().map_err(|fault| *fault))),
        }
        true
    }

    pub(super) fn begin_message(&mut self, connection: &mut Connection, framing: Framing) -> Box<Receiving> {
        if let Some(mut receiving) = connection.arrival.take() {
            if self.mutant == Mutant::ForgetsTheCrBetweenChunks {
                receiving.reader = MessageReader::new(framing, BareLf::Refused);
            }
            receiving.reader.go_on(framing);
            return receiving;
        }
        let bare_lf = match &connection.machine {
            Machine::Session(session) => session.identity().grant().leeway.bare_lf,
            _ => BareLf::Refused,
        };
        let bare_lf = if self.mutant == Mutant::NormalizesForAll { BareLf::Normalized } else { bare_lf };
        Box::new(Receiving {
            reader: MessageReader::new(framing, bare_lf),
            collector: Some(HeaderCollector::new(&self.header_limits)),
            octets: 0,
            kept: Kept::Well,
        })
    }

    pub(super) fn read_message(&mut self, connection: &mut Connection, mut receiving: Box<Receiving>) -> bool {
        let mut octets = Vec::new();
        let progress = receiving.reader.read(connection.lines.buffered(), &mut octets);
        connection.lines.consume(progress.consumed);
        if self.mutant == Mutant::KeepsDots && octets.starts_with(b".") {
            octets.insert(0, b'.');
        }
        let is_chunk = matches!(receiving.reader, MessageReader::Chunks(_));
        if self.mutant == Mutant::UnstuffsChunks && is_chunk && octets.starts_with(b".") {
            octets.remove(0);
        }
        receiving.octets += u64::try_from(octets.len()).unwrap();
        let body = self.read_header(connection, &mut receiving, &octets, progress.state);
        let Some(body) = body else {
            return self.header_refused(connection, *receiving, progress.state);
        };
        self.write(connection, &mut receiving, &body);
        match progress.state {
            DotState::More => {
                connection.reading = Reading::Message(receiving);
                false
            }
            DotState::Fault(fault) => self.end_body(connection, BodyEnd::Disputed(fault), receiving.octets),
            DotState::End => self.end_message(connection, receiving),
        }
    }

    /// The octets to write; none when the header was refused.
    pub(super) fn read_header(
        &mut self,
        connection: &mut Connection,
        receiving: &mut Receiving,
        octets: &[u8],
        state: DotState,
    ) -> Option<Vec<u8>> {
        let Some(mut collector) = receiving.collector.take() else { return Some(octets.to_vec()) };
        let collected = collector.push(octets);
        let all_came = state == DotState::End && receiving.reader.is_last();
        let whole = matches!(collected, Ok(Collected::Whole { .. })) || all_came;
        let body = match collected {
            Ok(Collected::Whole { consumed }) => octets[consumed..].to_vec(),
            Ok(Collected::More) | Err(_) => Vec::new(),
        };
        let (section, mut facts) = match collected {
            Err(fault) => (Vec::new(), HeaderFacts { fault: Some(fault), ..HeaderFacts::default() }),
            Ok(_) if whole => self.taken_in(connection, collector.into_section()),
            Ok(_) => match state {
                DotState::Fault(fault) => {
                    (Vec::new(), HeaderFacts { fault: Some(HeaderFault::Octets(fault)), ..HeaderFacts::default() })
                }
                DotState::More | DotState::End => {
                    receiving.collector = Some(collector);
                    return Some(Vec::new());
                }
            },
        };
        self.mutant.header(&mut facts);
        self.feed(connection, Event::HeaderRead(&facts));
        let Machine::Session(session) = &connection.machine else { return None };
        match session.phase() {
            Phase::Body => Some([self.mended(session, &section, &facts), body].concat()),
            _ => None,
        }
    }

    fn taken_in(&self, connection: &Connection, section: Vec<u8>) -> (Vec<u8>, HeaderFacts) {
        let Machine::Session(session) = &connection.machine else { return (section, HeaderFacts::default()) };
        take_in(section, &self.header_limits, session.utf8(), session.header_rules())
    }

    /// The header that goes on, without what stands in front of every message.
    fn mended(&self, session: &Session, section: &[u8], facts: &HeaderFacts) -> Vec<u8> {
        let trace = Trace {
            hostname: &self.settings.hostname,
            client: None,
            identity: None,
            protocol: session.trace().protocol,
            tls_version: "TLSv1.3",
            tls_cipher: "TLS_AES_128_GCM_SHA256",
            tls_end: TlsEnd::Client,
            id: QueueId::from_u128(7),
            priority: None,
            recipient: None,
            arrived: self.now(),
        };
        let sender = match session.sender_field(facts) {
            SenderField::AsItCame => None,
            SenderField::Becomes(address) => Some(address),
        };
        let proved = (session.header_rules().results == Results::Written)
            .then(|| Proved { identity: session.identity().name(), mechanism: session.mechanism() });
        if self.mutant == Mutant::KeepsBcc {
            return section.to_vec();
        }
        let wanted = FixUps { trace: &trace, unique: "7", sender: sender.as_ref(), proved };
        as_sent(&self.settings.hostname, &fix_ups(section, facts, &wanted).header)
    }

    pub(super) fn header_refused(
        &mut self,
        connection: &mut Connection,
        receiving: Receiving,
        state: DotState,
    ) -> bool {
        if connection.closed || matches!(self.mutant, Mutant::AnswersBeforeTheEnd) {
            return !connection.closed;
        }
        match state {
            DotState::More => {
                connection.reading = Reading::Over(receiving.reader);
                false
            }
            DotState::End => self.end_body(connection, BodyEnd::Complete, receiving.octets),
            DotState::Fault(fault) => self.end_body(connection, BodyEnd::Disputed(fault), receiving.octets),
        }
    }

    pub(super) fn write(&mut self, connection: &Connection, receiving: &mut Receiving, octets: &[u8]) {
        let Machine::Session(session) = &connection.machine else { return };
        if receiving.octets > session.message_size_max() && self.mutant != Mutant::IgnoresSize {
            return;
        }
        if self.queue.write(octets).is_err() {
            receiving.kept = Kept::Failed;
        }
    }

    pub(super) fn end_message(&mut self, connection: &mut Connection, receiving: Box<Receiving>) -> bool {
        let Machine::Session(session) = &connection.machine else { return false };
        let end = if receiving.octets > session.message_size_max() {
            BodyEnd::TooLarge
        } else if receiving.reader.longest_line() > self.line_max {
            BodyEnd::LineTooLong { limit: self.line_max }
        } else {
            BodyEnd::Complete
        };
        let (kept, octets) = (receiving.kept, receiving.octets);
        connection.arrival = Some(receiving);
        if kept == Kept::Failed {
            self.feed(connection, Event::NotKept(BodyFacts { end, octets }, NoRoom::Broken));
            return true;
        }
        self.end_body(connection, end, octets)
    }

    pub(super) fn end_body(&mut self, connection: &mut Connection, end: BodyEnd, octets: u64) -> bool {
        let mut facts = BodyFacts { end, octets };
        self.mutant.body(&mut facts);
        self.feed(connection, Event::BodyEnded(facts));
        true
    }
}
