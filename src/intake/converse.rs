//! The dialogue inside TLS: identity first, then the session, or the refusal.
//!
//! [`converse`] takes any stream, so that a simulation can skip TLS; it cannot skip `tls::verify`. Never: decides.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use super::answers::{Answers, identify, sighting};
use super::arrival::Arrival;
use super::message::{HeaderEnd, Receiving, Stopped, skip};
use super::wire::{Client, Gone, Heard, Wire};
use super::{IntakeLimits, LingerLimits, Peer, Presented, called_away, no_place};
use crate::audit;
use crate::content::{BodyEnd, HeaderFacts};
use crate::doors::{NotKept, Place};
use crate::house::House;
use crate::identity::Identity;
use crate::queue::QueueError;
use crate::session::{Answer, Deadline, Decision, Event, Phase, Refused, Ruling, Session, Step, Unidentified};
use crate::smtp::{Framing, Reply};
use crate::snapshot::{Door, Mode};
use crate::sys::{Drain, MonoTime};
use crate::tls::ToldTls;

/// Talks with whoever is behind `peer` until the connection ends, or its place is given away.
pub async fn converse<S>(stream: S, peer: Peer, house: Arc<House>, drain: Drain, mut place: Place)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let snapshot = house.snapshot();
    let Some(door) = snapshot.doors.get(peer.door).map(Arc::clone) else { return };
    let mut wire = Wire::new(stream, snapshot.intake.write);
    let now = house.now();
    let peer = Arc::new(peer);
    // Whatever is done once, or now and then, has its memory for that time alone (here, and in `act`): a session that waits holds little.
    // Nobody is called away from this: the answer of a CA's responder would be lost each time, and he would never be let in. Nor is his place given away
    // meanwhile: it is we who take our time, no longer than a `Round` lasts.
    place.is_being_identified();
    let identified = Box::pin(identify(&peer, &house, &snapshot)).await;
    let let_in = identified.map(|identity| {
        let kept = place.keep(identity.shared_name(), snapshot.door_limits);
        (identity, kept)
    });
    if !matches!(let_in, Ok((_, Ok(()) | Err(NotKept::GivenAway)))) {
        place.is_nobodys();
    }
    match let_in {
        Ok((_, Err(NotKept::GivenAway))) => {
            called_away(&place, peer.client, &house).await;
            wire.leave(&no_place(&door)).await;
        }
        Ok((identity, Err(NotKept::Crowded))) => {
            let mut machine = Refused::new(Unidentified::Crowded, Arc::clone(&door.session), now.wall);
            if let Some(decision) = machine.take_decision() {
                house.counts.decided(&decision.ruling);
                audit::decided(peer.client, &Decision { identity: Some(identity), ..decision });
            }
            drop(snapshot);
            Box::pin(refuse(wire, machine, &peer, &house, &door, drain, &place)).await;
        }
        Ok((identity, Ok(()))) => {
            audit::identified(peer.client, &peer.tls, told(&peer), &identity);
            let routes = Arc::clone(&snapshot.routes);
            let mut session = Session::new(Arc::clone(&identity), Arc::clone(&door.session), routes);
            let answers =
                Answers::new(Arc::clone(&house), Arc::clone(&peer), Arc::clone(&identity), snapshot.generation);
            session.equip(answers.means());
            let mut conversation = Conversation {
                wire,
                session,
                answers,
                house: Arc::clone(&house),
                peer,
                limits: snapshot.intake,
                drain: Some(drain),
                began: now.mono,
                place,
            };
            drop(snapshot);
            conversation.run(door.mode).await;
            // With a message it was noted already. Nobody waits for this: the client is gone.
            let fingerprint = identity.certificate().fingerprint.0;
            let seen = || sighting(&identity, &conversation.peer, now.wall);
            if let Err(fault) = house.queue.see(identity.name(), fingerprint, seen).await {
                tracing::warn!(%fault, "a certificate that was seen could not be noted");
            }
        }
        Err(no_one) => {
            let mut machine = Refused::new(no_one.cause, Arc::clone(&door.session), now.wall);
            if let Some(decision) = machine.take_decision() {
                audit::unidentified(peer.client, &peer.tls, &decision, &no_one.detail);
            }
            Box::pin(refuse(wire, machine, &peer, &house, &door, drain, &place)).await;
        }
    }
}

/// What a load balancer says of the client's own TLS, where one stands between.
fn told(peer: &Peer) -> Option<&ToldTls> {
    match &peer.chain {
        Presented::ToBalancer(chain) => Some(chain.told()),
        Presented::Nothing | Presented::ToUs(_) | Presented::Unvouched(_) => None,
    }
}

/// One text to everything but QUIT.
async fn refuse<S>(
    mut wire: Wire<S>,
    mut machine: Refused,
    peer: &Peer,
    house: &House,
    door: &Door,
    mut drain: Drain,
    place: &Place,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let limits = house.snapshot().intake;
    let began = house.now().mono;
    let away = || called_away(place, peer.client, house);
    let mut next = match door.mode {
        Mode::Implicit | Mode::ProxiedTls => Some(machine.greeting(house.now().wall)),
        Mode::StartTls => None,
    };
    loop {
        match next.take() {
            Some(Step::Say(reply)) => wire.say(&reply),
            Some(Step::Dispute(reply)) => return part(&mut wire, &reply, Client::Talking, limits.linger, away()).await,
            Some(Step::Close(reply)) => return part(&mut wire, &reply, Client::Listening, limits.linger, away()).await,
            // A machine without MAIL has nothing to receive and nothing to ask.
            Some(
                Step::Challenge(_)
                | Step::Receive { .. }
                | Step::GoOn
                | Step::Discard
                | Step::Skip(_)
                | Step::Ask(_)
                | Step::Proceed
                | Step::Leave { .. },
            ) => {
                tracing::error!(
                    client = %peer.client,
                    "a client without an identity was about to be heard: this is a defect of sealpost, please report it; the connection is closed"
                );
                return;
            }
            None => {}
        }
        // Nobody is there, so the place is not kept for long: one command's time in all.
        let left = limits.command.saturating_sub(house.now().mono.since(began));
        let heard = tokio::select! {
            biased;
            () = away() => return wire.leave(&no_place(door)).await,
            heard = wire.hear(machine.line_limit(), left, Some(&mut drain)) => heard,
        };
        let event = match heard {
            Heard::Line(line) => Event::Line(line.map(|()| wire.line())),
            Heard::Draining => Event::Draining,
            Heard::Gone(Gone::TimedOut) => Event::TimedOut(Deadline::Idle),
            Heard::Gone(Gone::Closed | Gone::Unread | Gone::Broken(_)) => return,
        };
        next = Some(machine.on(event, house.now().wall));
    }
}

/// Says goodbye; whose place is given away has no time for more.
pub(super) async fn part<S>(
    wire: &mut Wire<S>,
    reply: &Reply,
    client: Client,
    linger: LingerLimits,
    away: impl Future<Output = ()>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    wire.say(reply);
    tokio::select! {
        _ = wire.hang_up(client, linger) => {}
        () = away => {}
    }
}

/// A session with what it needs.
struct Conversation<S> {
    wire: Wire<S>,
    session: Session,
    answers: Answers,
    house: Arc<House>,
    peer: Arc<Peer>,
    limits: IntakeLimits,
    /// Gone once the session has been told.
    drain: Option<Drain>,
    began: MonoTime,
    place: Place,
}

/// The connection is over.
struct Over;

impl<S: AsyncRead + AsyncWrite + Unpin> Conversation<S> {
    async fn run(&mut self, mode: Mode) {
        let greeting = self.session.greeting();
        let first = match mode {
            Mode::Implicit | Mode::ProxiedTls if self.wire.has_spoken().await => Ok(self.feed(Event::TalkedEarly)),
            Mode::Implicit | Mode::ProxiedTls => self.say_and_hear(&greeting).await,
            Mode::StartTls => self.hear().await,
        };
        let mut next = first;
        while let Ok(step) = next {
            self.audit();
            self.answers.follow(&self.session);
            let (octets, short) = self.answers.hold_recipients(&self.session);
            self.session.confine(octets, short);
            next = self.act(step).await;
        }
    }

    /// Does one step; gives the next.
    async fn act(&mut self, step: Step) -> Result<Step, Over> {
        match step {
            Step::Say(reply) => self.say_and_hear(&reply).await,
            Step::Challenge(reply) => {
                if self.wire.has_spoken().await {
                    return Ok(self.feed(Event::TalkedEarly));
                }
                self.wire.say(&reply);
                self.hear().await
            }
            Step::Receive { prompt, framing } => Box::pin(self.receive(prompt, framing)).await,
            Step::GoOn => Box::pin(self.keep_header()).await,
            Step::Discard => Box::pin(self.discard()).await,
            Step::Skip(count) => Box::pin(self.skip(count)).await,
            Step::Ask(question) => {
                let answer = Box::pin(self.answers.find(question, &self.session)).await;
                if let Answer::Identified(found) = &answer {
                    if let Ok(identity) = found {
                        self.place.follow(identity.shared_name());
                    }
                    self.session.equip(self.answers.means());
                    self.session.redirect(Arc::clone(&self.house.snapshot().routes));
                }
                Ok(self.feed(Event::Answer(answer)))
            }
            Step::Proceed => self.hear().await,
            Step::Close(reply) => self.hang_up(&[&reply]).await,
            Step::Leave { reply, farewell } => self.hang_up(&[&reply, &farewell]).await,
            Step::Dispute(reply) => {
                self.wire.say(&reply);
                let _ = self.wire.hang_up(Client::Talking, self.limits.linger).await;
                Err(Over)
            }
        }
    }

    fn feed(&mut self, event: Event<'_>) -> Step {
        self.session.on(event, self.house.now().wall)
    }

    async fn say_and_hear(&mut self, reply: &Reply) -> Result<Step, Over> {
        self.wire.say(reply);
        self.hear().await
    }

    /// Waits for the next line, no longer than the session may live.
    async fn hear(&mut self) -> Result<Step, Over> {
        let left = self.limits.session_max.saturating_sub(self.house.now().mono.since(self.began));
        if left == Duration::ZERO {
            return Ok(self.feed(Event::TimedOut(Deadline::Session)));
        }
        let heard = match self.listen(left).await {
            Ok(heard) => heard,
            Err(stopped) => return self.stopped(stopped),
        };
        let now = self.house.now().wall;
        Ok(match heard {
            Heard::Line(line) => self.session.on(Event::Line(line.map(|()| self.wire.line())), now),
            Heard::Draining => {
                self.drain = None;
                self.session.on(Event::Draining, now)
            }
            Heard::Gone(Gone::TimedOut) => self.session.on(Event::TimedOut(self.passed()), now),
            Heard::Gone(gone @ (Gone::Closed | Gone::Unread | Gone::Broken(_))) => return Err(self.over(&gone)),
        })
    }

    /// Which deadline it was that a client in silence has outstayed.
    fn passed(&self) -> Deadline {
        match self.house.now().mono.since(self.began) >= self.limits.session_max {
            true => Deadline::Session,
            false => Deadline::Idle,
        }
    }

    /// The same. Between the chunks of a message its pace counts on, whatever else is said there: nobody holds what has come of it for ever.
    async fn listen(&mut self, left: Duration) -> Result<Heard, Stopped> {
        let most = self.limits.command.min(left);
        loop {
            let patience = self.answers.arrival.as_ref().map_or(most, |arrival| arrival.receiving.patience());
            let (began, came) = (self.house.now().mono, self.wire.came());
            let heard = self.wire.hear(self.session.line_limit(), most.min(patience), self.drain.as_mut()).await;
            let Some(arrival) = &mut self.answers.arrival else { return Ok(heard) };
            // Of who is gone no pace is asked: nothing could be said about it.
            if let Heard::Gone(Gone::Closed | Gone::Unread | Gone::Broken(_)) = heard {
                return Ok(heard);
            }
            let waited = self.house.now().mono.since(began);
            arrival.receiving.wait(waited, self.wire.came_since(came)).map_err(|_| Stopped::TooSlow)?;
            match heard {
                // It has kept its pace so far.
                Heard::Gone(Gone::TimedOut) if patience < most => {}
                Heard::Gone(_) | Heard::Line(_) | Heard::Draining => return Ok(heard),
            }
        }
    }

    /// Reads a message, or its next chunk: its header, then, when the session lets it, its body.
    async fn receive(&mut self, prompt: Option<Reply>, framing: Framing) -> Result<Step, Over> {
        if let Some(prompt) = prompt {
            // RFC 2920 §3.1: the client must wait for the 354 before it sends the message.
            if self.wire.has_spoken().await {
                return Ok(self.feed(Event::TalkedEarly));
            }
            self.wire.say(&prompt);
            if let Err(gone) = self.wire.flush().await {
                return Err(self.over(&gone));
            }
        }
        let arrival = match self.answers.arrival.take() {
            Some(mut arrival) => {
                arrival.receiving.go_on(framing);
                arrival
            }
            None => Box::new(Arrival::new(self.receiving(framing))),
        };
        if self.session.phase() == Phase::Body {
            return self.keep_body(arrival, Vec::new()).await;
        }
        self.read_header(arrival).await
    }

    fn receiving(&self, framing: Framing) -> Receiving {
        let bare_lf = self.session.identity().grant().leeway.bare_lf;
        let header = self.house.snapshot().header;
        Receiving::new(framing, header, self.limits.pace, self.session.message_size_max(), bare_lf)
    }

    async fn read_header(&mut self, mut arrival: Box<Arrival>) -> Result<Step, Over> {
        let (utf8, rules) = (self.session.utf8(), self.session.header_rules());
        let incoming = self.answers.incoming.as_mut();
        let read = arrival.receiving.header(&mut self.wire, &*self.house.clock, utf8, rules, incoming);
        let step = match read.await {
            Ok(HeaderEnd::Read(facts)) => {
                let step = self.feed(Event::HeaderRead(&facts));
                arrival.facts = *facts;
                step
            }
            Ok(HeaderEnd::GoesOn) => {
                let end = arrival.receiving.end().unwrap_or(BodyEnd::Complete);
                self.feed(Event::BodyEnded(arrival.receiving.facts(end)))
            }
            Ok(HeaderEnd::NoRoom(fault)) => return self.no_room(arrival, fault).await,
            Err(stopped) => return self.stopped(stopped),
        };
        self.answers.arrival = Some(arrival);
        Ok(step)
    }

    /// What there is no memory for is read to its true end all the same (RFC 5321 §4.1.1.4), and holds none meanwhile.
    async fn no_room(&mut self, mut arrival: Box<Arrival>, fault: QueueError) -> Result<Step, Over> {
        self.answers.incoming = None;
        match arrival.receiving.discard(&mut self.wire, &*self.house.clock).await {
            Ok(facts) => {
                let cause = self.answers.no_room(fault);
                Ok(self.feed(Event::NotKept(facts, cause)))
            }
            Err(stopped) => self.stopped(stopped),
        }
    }

    /// The header stands: what goes on of it goes first.
    async fn keep_header(&mut self) -> Result<Step, Over> {
        let Some(mut arrival) = self.answers.arrival.take() else {
            return Err(self.our_fault("a body was to be received whose header was not read"));
        };
        let section = arrival.receiving.take_section();
        let facts = std::mem::take(&mut arrival.facts);
        let header = self.answers.header(&self.session, &facts, section);
        drop(facts);
        self.keep_body(arrival, header).await
    }

    async fn keep_body(&mut self, mut arrival: Box<Arrival>, header: Vec<u8>) -> Result<Step, Over> {
        let read = arrival.keep_body(header, &mut self.answers.incoming, &mut self.wire, &*self.house.clock).await;
        let (facts, kept) = match read {
            Ok(read) => read,
            Err(stopped) => return self.stopped(stopped),
        };
        // What is not whole is refused: its place on disk and in the budgets must not wait for the client's next word.
        if facts.end != BodyEnd::Complete || kept.is_err() {
            self.answers.incoming = None;
        }
        let step = self.feed(match kept {
            Ok(()) => Event::BodyEnded(facts),
            Err(fault) => Event::NotKept(facts, self.answers.no_room(fault)),
        });
        if self.session.phase() == Phase::Chunked {
            self.answers.arrival = Some(arrival);
        }
        Ok(step)
    }

    /// Reads what is refused to its true end, and keeps nothing.
    async fn discard(&mut self) -> Result<Step, Over> {
        self.answers.incoming = None;
        let Some(mut arrival) = self.answers.arrival.take() else {
            return Err(self.our_fault("a message was to be discarded of which nothing was read"));
        };
        arrival.facts = HeaderFacts::default();
        match arrival.receiving.discard(&mut self.wire, &*self.house.clock).await {
            Ok(facts) => Ok(self.feed(Event::BodyEnded(facts))),
            Err(stopped) => self.stopped(stopped),
        }
    }

    /// Reads over a chunk that is refused, and drops what came before it.
    async fn skip(&mut self, count: u64) -> Result<Step, Over> {
        self.answers.incoming = None;
        self.answers.arrival = None;
        match skip(&mut self.wire, &*self.house.clock, self.limits.pace, count).await {
            Ok(facts) => Ok(self.feed(Event::BodyEnded(facts))),
            Err(stopped) => self.stopped(stopped),
        }
    }

    fn stopped(&mut self, stopped: Stopped) -> Result<Step, Over> {
        self.answers.incoming = None;
        match stopped {
            Stopped::TooSlow => Ok(self.feed(Event::TimedOut(Deadline::Transaction))),
            Stopped::Gone(gone) => Err(self.over(&gone)),
        }
    }

    async fn hang_up(&mut self, replies: &[&Reply]) -> Result<Step, Over> {
        for reply in replies {
            self.wire.say(reply);
        }
        let _ = self.wire.hang_up(Client::Listening, self.limits.linger).await;
        Err(Over)
    }

    /// What can't come came: nothing is kept, and it is told.
    fn our_fault(&self, what: &'static str) -> Over {
        tracing::error!(
            client = %self.peer.client, what,
            "a session went where it can't go: this is a defect of sealpost, please report it; the connection is closed"
        );
        Over
    }

    fn over(&self, gone: &Gone) -> Over {
        let identity: &Identity = self.session.identity();
        tracing::debug!(client = %self.peer.client, identity = identity.name(), %gone, "the connection ended without QUIT");
        Over
    }

    fn audit(&mut self) {
        if let Some(mut decision) = self.session.take_decision() {
            // The session has read the header as it came; what was put in front of it is known here.
            if decision.message_id.is_none()
                && matches!(decision.ruling, Ruling::Kept(_) | Ruling::Held(_) | Ruling::Relayed(..))
            {
                decision.message_id = self.answers.message_id().map(str::to_owned);
            }
            audit::decided(self.peer.client, &decision);
            self.house.counts.decided(&decision.ruling);
        }
    }
}
