//! Cut-through: a transaction that is open at an upstream while its client waits.
//!
//! A recipient is asked for when the client names it, the message is sent when the client has sent it whole. What the upstream refuses reaches the client,
//! what it takes is its own; whatever else comes of it, the message goes to the queue as if the upstream had not been asked.
//!
//! | found                                                            | then                                                               |
//! |------------------------------------------------------------------|--------------------------------------------------------------------|
//! | no upstream of the route is up and has a connection free at once | the queue                                                          |
//! | it can't be reached, does not suit the message                   | the next upstream of the route; else the queue                     |
//! | it puts a recipient off, has too many, or is at fault behind MAIL | the queue, for all: a message goes through whole or not at all      |
//! | it refuses a recipient or the message                            | so it is told, unless it refuses everybody alike (`refusals`)      |
//! | the client takes its time for [`HELD_MAX`]                       | the connection goes to somebody else; the queue                    |
//! | it is silent for as long as the client is to wait                | the queue; no further client waits for it until it answers there   |
//! | its settings are no more when the message is there               | the queue                                                          |
//! | silence behind the final dot                                     | undetermined: the queue begins with the same upstream              |
//!
//! Connections, limits, health are those of the queue's own attempts (`places`). Never: probes an upstream that is left alone; asks a second upstream once
//! the first has heard MAIL; sends a message that its client has not sent whole.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::attempt::{Attempt, FaultCause};
use super::body::{InMemory, MessageBody};
use super::connection::Connection;
use super::courier::{Courier, Handover};
use super::places::{Places, Slot};
use super::settings::Upstream;
use super::transaction::Order;
use super::vigil::Signs;
use crate::mail::{MailParameters, Notify, Recipient, ReversePath};
use crate::queue::Outcome;
use crate::smtp::Extension;
use crate::sys::MonoTime;

/// How long an upstream is kept waiting for a client, from its first word about the message to the message. Servers wait 5 minutes for the next command
/// (RFC 5321 §4.5.3.2.7), and a connection that carries nothing keeps others from theirs.
pub const HELD_MAX: Duration = Duration::from_secs(120);

/// Whose message it is.
#[derive(Clone, Copy, Debug)]
pub struct Sending<'a> {
    /// The identity.
    pub identity: &'a str,
    /// The envelope sender.
    pub reverse_path: &'a ReversePath,
    /// What was said with it.
    pub parameters: &'a MailParameters,
}

/// What was said of a recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// It is taken.
    Taken,
    /// It is refused, and this is why.
    Refused(Outcome),
    /// Neither: the passage is over, and the message goes to the queue.
    NotNow,
}

/// What came of asking for the first recipient.
#[derive(Debug)]
pub enum Begun {
    /// There is a transaction, and this was said of the recipient.
    Open(Passage, Word),
    /// There is none.
    Nowhere,
}

/// A transaction that is open at an upstream. Dropped, the upstream gets no message by it.
pub struct Passage {
    cell: Arc<Cell>,
    name: String,
    identity: String,
    /// Those who are taken, by their places in the envelope.
    taken: Vec<usize>,
}

/// What may be taken away from a client that is too slow.
type Cell = Mutex<Option<Held>>;

/// A connection with a transaction in which nothing is expected.
struct Held {
    slot: Slot,
    places: Arc<Places>,
    /// None once it is over.
    connection: Option<Connection>,
}

/// All that are open, and since when.
#[derive(Default)]
pub(super) struct HeldOpen(Mutex<Vec<(MonoTime, Weak<Cell>)>>);

impl Courier {
    /// Whether each of these is known not to offer this, so that mail that needs it would only come back.
    pub fn all_lack<'a>(&self, mut upstreams: impl Iterator<Item = &'a Arc<Upstream>>, what: Extension) -> bool {
        upstreams.all(|upstream| self.places.lacks(upstream, what))
    }

    /// Begins a transaction with the first of these upstreams that is there at once, and asks it for one recipient; all of it in `wait`.
    pub async fn begin(
        &self,
        upstreams: &[Arc<Upstream>],
        of: Sending<'_>,
        first: &Recipient,
        wait: Duration,
    ) -> Begun {
        let until = from_now(wait);
        for upstream in upstreams {
            let Some(slot) = self.places.enter_at_once(upstream) else { continue };
            let Some(held) = self.held_at(slot, of, first, until).await else { continue };
            let name = format!("{}/{:08x}", of.identity, self.entropy.next_u64() >> 32);
            let mut passage =
                Passage { cell: self.held.keep(held), name, identity: of.identity.to_owned(), taken: Vec::new() };
            let word =
                self.ask(&mut passage, 0, first, until.saturating_duration_since(from_now(Duration::ZERO))).await;
            return Begun::Open(passage, word);
        }
        Begun::Nowhere
    }

    /// A connection on which this mail may begin: one from before, or a new one.
    async fn held_at(&self, slot: Slot, of: Sending<'_>, first: &Recipient, until: Instant) -> Option<Held> {
        let order = Order::growing(of.reverse_path, of.parameters).at(self.places.now().wall);
        let signs = Signs::new().until(self.places.last_call.subscribe());
        // Also one that has carried all it may, and is silent at QUIT, is waited for no longer.
        let Ok(kept) = tokio::time::timeout_at(until, self.kept_connection(&slot)).await else {
            return self.waited_in_vain(&slot);
        };
        let mut connection = match kept {
            Some(kept) => kept,
            None => match tokio::time::timeout_at(until, self.open(&slot.upstream, &signs)).await {
                Ok(Ok(connection)) => connection,
                Ok(Err(fault)) => {
                    self.noted(
                        &slot,
                        None,
                        &InMemory::new("").called("-", of.identity),
                        &[],
                        Attempt::deferred(&[], fault),
                    );
                    return None;
                }
                // It may do better for mail that nobody waits for; until it has, no further client waits for it.
                Err(_) => return self.waited_in_vain(&slot),
            },
        };
        let needs_proof = of.parameters.require_tls && !slot.upstream.security.proves_the_upstream();
        let suits = !needs_proof && order.goes_through(connection.offered()) && suits(first, &connection);
        connection.begin(order, &signs);
        let held = Held { slot, places: Arc::clone(&self.places), connection: Some(connection) };
        // Dropped, the connection is kept for others.
        suits.then_some(held)
    }

    /// Asks for a recipient, by its place in the envelope.
    pub async fn ask(&self, passage: &mut Passage, place: usize, recipient: &Recipient, wait: Duration) -> Word {
        let Some(mut held) = passage.take() else { return Word::NotNow };
        let Some(connection) = held.connection.as_mut().filter(|one| suits(recipient, one)) else {
            return Word::NotNow;
        };
        let body = InMemory::new("").called(&passage.name, &passage.identity);
        let (attempt, refused) = match connection.ask(place, recipient.clone(), from_now(wait)).await {
            Ok(None) => {
                passage.taken.push(place);
                passage.put_back(held);
                return Word::Taken;
            }
            Ok(Some(outcome)) => {
                let (outcomes, opened) = (vec![(place, outcome.clone())], Some(connection.opened()));
                (Attempt { outcomes, opened, ..Attempt::default() }, Some(outcome))
            }
            Err(attempt) => (attempt, None),
        };
        self.note_silence(&held.slot, &attempt);
        let attempt = self.noted(&held.slot, None, &body, &[place], attempt);
        // What everybody is told is not told as if it were about this one.
        let is_about_it = attempt.fault.is_none();
        match refused {
            Some(outcome @ Outcome::Failed { .. }) if is_about_it => {
                passage.put_back(held);
                Word::Refused(outcome)
            }
            Some(_) | None => Word::NotNow,
        }
    }

    /// Sends the message to those who were taken, and waits for what comes of it no longer than `wait`. None: nothing was tried.
    pub async fn send_through(
        &self,
        passage: Passage,
        body: &mut impl MessageBody,
        wait: Duration,
    ) -> Option<Handover> {
        let mut held = passage.take()?;
        if !self.places.is_current(&held.slot) {
            return None;
        }
        let mut connection = held.connection.take()?;
        // It may have said 421 meanwhile, or hung up: then nobody need wonder whether it has the message.
        if !connection.is_quiet().await {
            return None;
        }
        let attempt = Box::pin(connection.send_on(&passage.taken, body, from_now(wait))).await;
        held.connection = Some(connection);
        self.note_silence(&held.slot, &attempt);
        let attempt = self.noted(&held.slot, None, body, &passage.taken, attempt);
        let mut handover = Handover::default();
        handover.add(&held.slot.upstream, attempt);
        Some(handover)
    }

    fn waited_in_vain(&self, slot: &Slot) -> Option<Held> {
        self.places.kept_a_client_waiting(&slot.upstream);
        None
    }

    /// Who was waited for in vain has no further client wait, until it has answered for mail of the queue.
    fn note_silence(&self, slot: &Slot, attempt: &Attempt) {
        if attempt.fault.as_ref().is_some_and(|fault| matches!(fault.cause, FaultCause::Silent(_))) {
            self.places.kept_a_client_waiting(&slot.upstream);
        }
    }
}

/// Whether an upstream that offers this does all that is to be done for a recipient. Who wants to know that it was handed on (RFC 3461 §5.2.2), is told by us
/// where the upstream has no DSN, from the queue.
fn suits(recipient: &Recipient, connection: &Connection) -> bool {
    let offered = connection.offered();
    let wants_to_know = recipient.parameters.notify.unwrap_or(Notify::DEFAULT).success;
    (!wants_to_know || offered.has(Extension::Dsn))
        && (recipient.forward_path.as_str().is_ascii() || offered.has(Extension::SmtpUtf8))
}

impl Passage {
    /// Whether these, and nobody else, were taken: the places from 0 on.
    pub fn is_for_all(&self, recipients: usize) -> bool {
        self.taken.iter().copied().eq(0..recipients)
    }

    fn take(&self) -> Option<Held> {
        self.cell.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put_back(&self, held: Held) {
        *self.cell.lock().unwrap_or_else(PoisonError::into_inner) = Some(held);
    }
}

impl fmt::Debug for Passage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passage").field("taken", &self.taken).finish_non_exhaustive()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(mut connection) = self.connection.take() {
            connection.forget();
            if connection.is_usable() {
                self.places.keep(connection);
            }
        }
    }
}

impl HeldOpen {
    fn keep(&self, held: Held) -> Arc<Cell> {
        let since = held.slot.begun;
        let cell = Arc::new(Mutex::new(Some(held)));
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(_, cell)| cell.strong_count() > 0);
        all.push((since, Arc::downgrade(&cell)));
        cell
    }

    /// Takes the connections back from those who have had them too long. One on which an answer is being waited for is not here.
    pub(super) fn let_go(&self, now: MonoTime) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(_, cell)| cell.strong_count() > 0);
        let late = all.iter().filter(|(since, _)| now.since(*since) >= HELD_MAX);
        let late: Vec<_> = late.filter_map(|(_, cell)| cell.upgrade()).collect();
        drop(all);
        for cell in late {
            let held = cell.lock().unwrap_or_else(PoisonError::into_inner).take();
            drop(held);
        }
    }
}

/// The moment so long from now, by tokio's clock, which a test may hold or push on.
fn from_now(wait: Duration) -> Instant {
    tokio::time::sleep(wait).deadline()
}
