//! One connection to an upstream: does what the [`Dialog`] says, and tells it what happened.
//!
//! Decides nothing but time: each reply has its phase's deadline, each message one in all. Never: holds a message whole; keeps a connection
//! whose dialogue is not usable.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use super::attempt::{Attempt, FaultCause, UpstreamFault};
use super::blame::Phase;
use super::body::{BodyFault, InMemory, MessageBody};
use super::dialog::{Derivation, Dialog, Event, Fresh, Look, Patience, Step, Terms, TlsTerm};
use super::examination::Negotiated;
use super::network::{Network, Stream};
use super::outgoing::{self, Outgoing};
use super::settings::{Security, Upstream};
use super::seven_bit::Plan;
use super::tls::{ClientTls, exporter, tls_cause};
use super::transaction::Order;
use super::vigil::{Signs, present};
use crate::mail::{Recipient, registered_cipher};
use crate::queue::Outcome;
use crate::sasl::ExporterValue;
use crate::smtp::extension::Offered;
use crate::sys::MonoTime;

/// Octets read from an upstream at once.
const READ_PIECE: usize = 4096;

/// Octets of a message gathered before they are written.
const WRITE_PIECE: usize = 32 * 1024;

/// A connection with its dialogue.
pub(super) struct Connection {
    upstream: Arc<Upstream>,
    /// How this connection is protected: as configured, or as TLSA records demand.
    security: Security,
    /// None only while TLS is being made, and after that failed.
    stream: Option<Box<dyn Stream>>,
    dialog: Dialog,
    piece: Box<[u8]>,
    /// The message's octets that are not written yet.
    outgoing: Outgoing,
    /// What was found of the message that is to be encoded.
    plan: Plan,
    reply_until: Instant,
    message_until: Instant,
    /// When the message was sent whole: until when its own reply would be waited for.
    sent_until: Instant,
    /// Until when a client waits for what comes of it, where one does: also for the reply to the final dot.
    client_until: Option<Instant>,
    /// How long that was when the last reply was begun to be waited for.
    client_wait: Duration,
    /// What is heard in the attempt under way.
    signs: Signs,
    /// Since when it is open.
    opened: MonoTime,
    /// Since when it is idle; for the pool.
    pub(super) idle_since: MonoTime,
}

/// Where a run of the dialogue ended.
enum Ending {
    Ready,
    Asked,
    Done(Attempt),
    Over(UpstreamFault),
    Left,
}

impl Connection {
    /// Connects to one address and goes as far as the session being ready for mail.
    pub(super) async fn open(
        network: &dyn Network,
        upstream: &Arc<Upstream>,
        address: SocketAddr,
        security: &Security,
        fresh: Fresh,
        signs: &Signs,
    ) -> Result<Self, UpstreamFault> {
        let terms = Terms::of(upstream, Some(address), security, fresh);
        match Self::open_on(network, upstream, address, security, terms.clone(), signs).await {
            // What was only hoped for is not insisted on: the handshake has spoilt this connection, a new one goes without.
            Err(UpstreamFault { cause: FaultCause::Tls(_), .. }) if terms.tls == TlsTerm::IfOffered => {
                Self::open_on(network, upstream, address, security, Terms { tls: TlsTerm::Never, ..terms }, signs).await
            }
            done => done,
        }
    }

    async fn open_on(
        network: &dyn Network,
        upstream: &Arc<Upstream>,
        address: SocketAddr,
        security: &Security,
        terms: Terms,
        signs: &Signs,
    ) -> Result<Self, UpstreamFault> {
        let at = |phase, cause| UpstreamFault { upstream: upstream.name.clone(), address: Some(address), phase, cause };
        let limits = upstream.deadlines;
        signs.waits_at(Phase::Connect);
        let mut stream =
            match timeout_at(from_now(limits.connect), network.connect(address, upstream.source.towards(address.ip())))
                .await
            {
                Ok(Ok(stream)) => stream,
                Ok(Err(fault)) => return Err(at(Phase::Connect, FaultCause::Unreachable(fault.to_string()))),
                Err(_) => return Err(at(Phase::Connect, FaultCause::Silent(limits.connect))),
            };
        signs.heard();
        let mut exporter = None;
        if let Security::Implicit(tls) = security {
            signs.waits_at(Phase::Tls);
            (stream, exporter) =
                handshake(tls, stream, limits.tls, signs).await.map_err(|cause| at(Phase::Tls, cause))?;
        }
        let now = from_now(Duration::ZERO);
        let mut connection = Self {
            upstream: Arc::clone(upstream),
            security: security.clone(),
            stream: Some(stream),
            dialog: Dialog::new(terms),
            piece: vec![0; READ_PIECE].into_boxed_slice(),
            outgoing: Outgoing::default(),
            plan: Plan::default(),
            reply_until: now,
            message_until: now,
            sent_until: now,
            client_until: None,
            client_wait: Duration::ZERO,
            signs: signs.clone(),
            opened: MonoTime::from_start(Duration::ZERO),
            idle_since: MonoTime::from_start(Duration::ZERO),
        };
        // Setup has its own deadlines per reply; their number is fixed.
        connection.message_until = from_now(limits.transaction);
        match connection.run(Event::Connected(exporter), &mut InMemory::new("")).await {
            Ending::Over(fault) => Err(fault),
            Ending::Ready | Ending::Asked | Ending::Done(_) | Ending::Left => Ok(connection),
        }
    }

    /// Sends one message.
    pub(super) async fn send(
        &mut self,
        order: Order,
        places: &[usize],
        body: &mut impl MessageBody,
        signs: &Signs,
    ) -> Attempt {
        self.signs = signs.clone();
        self.message_until = from_now(self.upstream.deadlines.transaction);
        let ending = self.run(Event::Begin(order), body).await;
        self.attempt(ending, places)
    }

    fn attempt(&self, ending: Ending, places: &[usize]) -> Attempt {
        let attempt = match ending {
            Ending::Done(attempt) => attempt,
            Ending::Over(fault) => Attempt::deferred(places, fault),
            Ending::Ready | Ending::Asked | Ending::Left => Attempt::deferred(places, self.fault(FaultCause::Closed)),
        };
        Attempt { opened: Some(self.opened), ..attempt }
    }

    // While a client waits.

    /// Begins a transaction whose recipients come one by one; says nothing yet.
    pub(super) fn begin(&mut self, order: Order, signs: &Signs) {
        self.signs = signs.clone();
        self.dialog.on(Event::Open(order));
    }

    /// Asks for one recipient, by its place in the envelope, no longer than until `until`: what was said of it, unless it was taken.
    ///
    /// # Errors
    /// The transaction is over, and everybody asked for so far has this outcome.
    pub(super) async fn ask(
        &mut self,
        place: usize,
        recipient: Recipient,
        until: Instant,
    ) -> Result<Option<Outcome>, Attempt> {
        self.message_until = until;
        self.client_until = Some(until);
        let ending = self.run(Event::Recipient(place, recipient), &mut InMemory::new("")).await;
        self.client_until = None;
        match ending {
            Ending::Asked => Ok(self.dialog.said_of_last()),
            Ending::Ready | Ending::Done(_) | Ending::Over(_) | Ending::Left => Err(self.attempt(ending, &[place])),
        }
    }

    /// Sends the message to those who were taken; what is not known by then is broken off.
    pub(super) async fn send_on(&mut self, places: &[usize], body: &mut impl MessageBody, until: Instant) -> Attempt {
        self.message_until = until;
        self.client_until = Some(until);
        let ending = self.run(Event::Send(body.octets()), body).await;
        self.client_until = None;
        self.attempt(ending, places)
    }

    /// Gives up what was asked for; whether the connection is of use still, [`Self::is_usable`] says.
    pub(super) fn forget(&mut self) {
        self.dialog.forget();
    }

    /// What the upstream offers.
    pub(super) fn offered(&self) -> &Offered {
        self.dialog.offered()
    }

    /// QUIT, and its reply (RFC 5321 §4.1.1.10); then the end of TLS is said (RFC 8314 §3.4).
    pub(super) async fn leave(mut self) {
        self.message_until = from_now(self.upstream.deadlines.quit);
        self.run(Event::Leave, &mut InMemory::new("")).await;
        if let Some(mut stream) = self.stream.take() {
            // Who does not take it any more is left all the same.
            let _taken = timeout_at(self.message_until, stream.shutdown()).await;
        }
    }

    /// Whether it may carry a further message.
    pub(super) fn is_usable(&self) -> bool {
        self.dialog.is_usable() && self.stream.is_some()
    }

    /// Whether it has carried as many as it may.
    pub(super) fn is_spent(&self) -> bool {
        self.dialog.messages() >= self.upstream.messages_per_connection
    }

    /// See [`Dialog::has_answered`].
    pub(super) fn has_answered(&self) -> bool {
        self.dialog.has_answered()
    }

    /// The same, open since then.
    pub(super) fn since(self, opened: MonoTime) -> Self {
        Self { opened, ..self }
    }

    /// Since when it is open.
    pub(super) fn opened(&self) -> MonoTime {
        self.opened
    }

    pub(super) fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    /// Whether an idle connection is still silent and open: an upstream that has ended it, or speaks unasked, is not gone back to.
    pub(super) async fn is_quiet(&mut self) -> bool {
        let Some(stream) = &mut self.stream else {
            return false;
        };
        let mut reading = std::pin::pin!(stream.read(&mut self.piece));
        // Twice, between which the runtime looks at its sockets. A wait of no time would be one of a millisecond, by tokio's timers.
        if futures_util::poll!(reading.as_mut()).is_ready() {
            return false;
        }
        tokio::task::yield_now().await;
        futures_util::poll!(reading).is_pending()
    }

    fn fault(&self, cause: FaultCause) -> UpstreamFault {
        UpstreamFault { upstream: self.upstream.name.clone(), address: None, phase: self.dialog.phase(), cause }
    }

    async fn run(&mut self, event: Event<'_>, body: &mut impl MessageBody) -> Ending {
        let mut step = self.dialog.on(event);
        loop {
            self.tell_progress(&step);
            step = match step {
                Step::Send(octets) => self.send_octets(&octets).await,
                Step::Read(patience) => self.read(patience).await,
                Step::StartTls => self.start_tls().await,
                Step::Derive(derivation) => self.derive(derivation).await,
                Step::Look(look) => self.look(look, body).await,
                Step::SendBody { ahead, form, framing } => {
                    self.outgoing = Outgoing::new(&ahead, form, framing, &self.plan);
                    self.send_body(body).await
                }
                Step::EndBody => self.end_body().await,
                Step::Ready => return Ending::Ready,
                Step::Asked => return Ending::Asked,
                Step::Done(attempt) => return Ending::Done(attempt),
                Step::Over(fault) => return Ending::Over(fault),
                Step::Left => return Ending::Left,
            };
        }
    }

    /// Whoever wants to know hears what an ended transaction has brought, and, before the message's last octets go, where it may be from then on.
    fn tell_progress(&mut self, step: &Step) {
        let brought = self.dialog.take_brought();
        let Some(progress) = self.signs.progress() else { return };
        let perhaps = if matches!(step, Step::EndBody) { self.dialog.perhaps() } else { None };
        for told in brought.iter().chain(&perhaps) {
            progress.tell(&self.upstream.name, told);
        }
    }

    async fn send_octets(&mut self, octets: &[u8]) -> Step {
        match self.write(octets).await {
            Ok(()) => self.read(Patience::Anew).await,
            Err(cause) => self.last_words(cause).await,
        }
    }

    async fn read(&mut self, patience: Patience) -> Step {
        if patience == Patience::Anew {
            self.start_reply_clock();
        }
        let wait = if self.client_until.is_some() { self.client_wait.min(self.wait()) } else { self.wait() };
        self.read_until(self.reply_until, FaultCause::Silent(wait)).await
    }

    async fn read_until(&mut self, until: Instant, silence: FaultCause) -> Step {
        let room = self.dialog.room().min(READ_PIECE);
        let (phase, began) = (self.dialog.phase(), present());
        self.signs.waits_at(phase);
        // It may have the message: who waits for its word must be able to say so.
        let may_have_it = phase == Phase::EndOfData || self.dialog.is_ahead_of_replies();
        let (Some(stream), Some(piece)) = (&mut self.stream, self.piece.get_mut(..room)) else {
            return self.dialog.on(Event::Failed(FaultCause::Closed));
        };
        let read = tokio::select! {
            biased;
            read = timeout_at(until, stream.read(piece)) => read.ok(),
            () = self.signs.last_call(), if may_have_it => None,
        };
        let event = match read {
            Some(Ok(0)) => Event::Failed(FaultCause::Closed),
            Some(Ok(count)) => Event::Received(piece.get(..count).unwrap_or_default()),
            Some(Err(fault)) => Event::Failed(lost(&fault)),
            None if present() < until => {
                let waited = present().duration_since(began);
                Event::Failed(FaultCause::Silent(Duration::from_secs(waited.as_secs())))
            }
            None => Event::Failed(silence),
        };
        let step = self.dialog.on(event);
        if let Some(reply) = self.dialog.take_heard() {
            self.signs.said(Some(&reply));
        }
        step
    }

    /// What could not be written may have been refused with words that still stand in our buffer: 421, 552.
    async fn last_words(&mut self, cause: FaultCause) -> Step {
        let until = from_now(self.upstream.deadlines.quit).min(self.message_until);
        self.read_until(until, cause).await
    }

    async fn write(&mut self, octets: &[u8]) -> Result<(), FaultCause> {
        let wait = self.upstream.deadlines.of(self.dialog.phase());
        let until = from_now(wait).min(self.message_until);
        self.signs.waits_at(self.dialog.phase());
        let Some(stream) = &mut self.stream else {
            return Err(FaultCause::Closed);
        };
        let written = timeout_at(until, async {
            stream.write_all(octets).await?;
            stream.flush().await
        });
        match written.await {
            Ok(Ok(())) => {
                self.signs.took(octets.len());
                Ok(())
            }
            Ok(Err(fault)) => Err(lost(&fault)),
            Err(_) => Err(FaultCause::Silent(wait)),
        }
    }

    /// How long the next reply is waited for. Replies that an upstream gathers come when it has looked at the message, so those to the commands
    /// before a message that is sent have as long as the one to its end.
    fn wait(&self) -> Duration {
        let deadlines = &self.upstream.deadlines;
        let own = deadlines.of(self.dialog.phase());
        if self.dialog.is_ahead_of_replies() { own.max(deadlines.of(Phase::EndOfData)) } else { own }
    }

    fn start_reply_clock(&mut self) {
        let until = from_now(self.wait());
        // The final dot has its own time whole, however long the message took: to be impatient here makes duplicates (RFC 5321 §4.5.3.2.6). A
        // client that waits is answered in its own time all the same.
        self.reply_until = if self.dialog.phase() == Phase::EndOfData {
            until
        } else if self.dialog.is_ahead_of_replies() {
            until.min(self.message_until.max(self.sent_until))
        } else {
            until.min(self.message_until)
        };
        if let Some(client) = self.client_until {
            self.reply_until = self.reply_until.min(client);
            let left = client.saturating_duration_since(from_now(Duration::ZERO));
            self.client_wait = Duration::from_secs(left.saturating_add(Duration::from_millis(999)).as_secs());
        }
    }

    async fn start_tls(&mut self) -> Step {
        self.signs.waits_at(Phase::Tls);
        let made = match (self.security.tls(), self.stream.take()) {
            (Some(tls), Some(stream)) => handshake(tls, stream, self.upstream.deadlines.tls, &self.signs).await,
            _ => Err(FaultCause::Closed),
        };
        match made {
            Ok((stream, exporter)) => {
                self.signs.heard();
                self.stream = Some(stream);
                self.dialog.on(Event::TlsReady(exporter))
            }
            Err(cause) => self.dialog.on(Event::Failed(cause)),
        }
    }

    /// What takes a processor some tenths of a second takes no thread of the runtime.
    async fn derive(&mut self, derivation: Derivation) -> Step {
        match tokio::task::spawn_blocking(move || derivation.run()).await {
            Ok(derived) => self.dialog.on(Event::Derived(derived)),
            Err(fault) => self.dialog.on(Event::Failed(FaultCause::Lost(fault.to_string()))),
        }
    }

    // The message.

    async fn look(&mut self, look: Look, body: &mut impl MessageBody) -> Step {
        let event = match timeout_at(self.message_until, outgoing::look(look, body)).await {
            Ok(Ok((contents, plan))) => {
                self.plan = plan;
                Event::Seen(contents)
            }
            Ok(Err(fault)) => Event::Failed(fault.into()),
            Err(_) => Event::Failed(FaultCause::BodyUnreadable("it took too long".to_owned())),
        };
        self.dialog.on(event)
    }

    async fn send_body(&mut self, body: &mut impl MessageBody) -> Step {
        let sent = self.stream_body(body).await.and_then(|()| {
            // Nobody would hear what comes of it.
            let stopped = || FaultCause::BodyUnreadable("the relay was stopped before its end".to_owned());
            if self.signs.is_last_called() { Err(stopped()) } else { Ok(()) }
        });
        match sent {
            Ok(()) => match self.heard_early().await {
                Some(step) => step,
                None => self.dialog.on(Event::BodyAtEnd),
            },
            Err(cause @ (FaultCause::BodyUnreadable(_) | FaultCause::Gone)) => {
                // Without the final dot, or the last octet that was counted, nothing was sent (RFC 5321 §4.1.1.4, RFC 3030 §2); the connection
                // can't be used to say so.
                self.stream = None;
                self.dialog.on(Event::Failed(cause))
            }
            Err(cause) => self.last_words(cause).await,
        }
    }

    /// What was said while the message was on its way, when it ends the matter. Its last octets are still here: who has "taken" it has taken
    /// something else.
    async fn heard_early(&mut self) -> Option<Step> {
        let room = self.dialog.room().min(READ_PIECE);
        let (stream, piece) = (self.stream.as_mut()?, self.piece.get_mut(..room)?);
        // An end, or a fault, is met by what is written next.
        let Ok(Ok(count @ 1..)) = timeout_at(from_now(Duration::ZERO), stream.read(piece)).await else { return None };
        let step = self.dialog.on(Event::Received(piece.get(..count)?));
        if let Some(reply) = self.dialog.take_heard() {
            self.signs.said(Some(&reply));
        }
        if let Step::Read(_) = step { None } else { Some(step) }
    }

    async fn stream_body(&mut self, body: &mut impl MessageBody) -> Result<(), FaultCause> {
        let until = self.message_until;
        let too_slow = || FaultCause::BodyUnreadable("it took too long".to_owned());
        let unreadable = |fault: BodyFault| FaultCause::from(fault);
        timeout_at(until, body.rewind()).await.map_err(|_| too_slow())?.map_err(unreadable)?;
        while let Some(piece) = timeout_at(until, body.next()).await.map_err(|_| too_slow())?.map_err(unreadable)? {
            // What is gathered stays behind until more comes: the last piece and the final dot go in one write, and of a message that is
            // counted the last octets go only once the dialogue knows that it is at its end.
            self.write_outgoing(WRITE_PIECE).await?;
            for part in piece.chunks(WRITE_PIECE) {
                self.write_outgoing(WRITE_PIECE).await?;
                self.outgoing.add(part).map_err(unreadable)?;
            }
        }
        self.outgoing.end().map_err(unreadable)
    }

    /// Writes what is gathered when it is at least so much.
    async fn write_outgoing(&mut self, least: usize) -> Result<(), FaultCause> {
        if self.outgoing.octets.len() < least {
            return Ok(());
        }
        let mut octets = std::mem::take(&mut self.outgoing.octets);
        self.write(&octets).await?;
        octets.clear();
        self.outgoing.octets = octets;
        Ok(())
    }

    /// The last octets and the end in one write.
    async fn end_body(&mut self) -> Step {
        let outgoing = std::mem::take(&mut self.outgoing);
        self.sent_until = from_now(self.upstream.deadlines.of(Phase::EndOfData));
        self.send_octets(&outgoing.octets).await
    }
}

async fn handshake(
    tls: &ClientTls,
    stream: Box<dyn Stream>,
    wait: Duration,
    signs: &Signs,
) -> Result<(Box<dyn Stream>, Option<ExporterValue>), FaultCause> {
    let connector = TlsConnector::from(Arc::clone(&tls.config));
    match timeout_at(from_now(wait), connector.connect(tls.server_name.clone(), stream)).await {
        Ok(Ok(stream)) => {
            signs.secured(|| negotiated(stream.get_ref().1));
            let exporter = exporter(stream.get_ref().1);
            Ok((Box::new(stream), exporter))
        }
        Ok(Err(fault)) => Err(FaultCause::Tls(tls_cause(&fault))),
        Err(_) => Err(FaultCause::Silent(wait)),
    }
}

fn negotiated(connection: &rustls::ClientConnection) -> Negotiated {
    let text = |known: Option<String>| known.unwrap_or_default();
    Negotiated {
        version: text(
            connection.protocol_version().and_then(|version| version.as_str()).map(|it| it.replace('_', ".")),
        ),
        cipher: text(
            connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str().map(registered_cipher)),
        ),
        certificates: connection
            .peer_certificates()
            .unwrap_or_default()
            .iter()
            .map(|one| one.clone().into_owned())
            .collect(),
    }
}

fn lost(fault: &io::Error) -> FaultCause {
    if fault.kind() == io::ErrorKind::UnexpectedEof { FaultCause::Closed } else { FaultCause::Lost(fault.to_string()) }
}

/// The moment so long from now, by tokio's clock, which a test may hold or push on.
fn from_now(wait: Duration) -> Instant {
    tokio::time::sleep(wait).deadline()
}
