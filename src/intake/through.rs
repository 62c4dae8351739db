//! Cut-through: while the client waits, the upstream is asked, and the message is offered to it before it is kept here.
//!
//! | the upstream                          | the client hears                          | the message                                        |
//! |---------------------------------------|-------------------------------------------|----------------------------------------------------|
//! | takes all recipients and the message  | 250, and what the upstream said           | is the upstream's; what was read of it goes         |
//! | refuses a recipient, or the message   | the refusal, with the upstream's words    | goes                                               |
//! | anything else, and nothing at all     | 250 once it is kept, as without cut-through | is in the queue, with what is known of the attempt |
//!
//! A message goes through whole or not at all: one recipient that can't be asked, or is put off, sends all to the queue, where nobody has it yet. What is
//! held for approval, is to wait, or to be delivered by a certain time, is not offered.
//!
//! Never: judges a reply (`upstream` does), says anything to the client (`session` does), keeps a message from the queue that nobody has.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::answers::Answers;
use crate::audit;
use crate::identity::{Dispatch, Identity};
use crate::mail::{Custody, Envelope, MailParameters, Recipient, ReversePath};
use crate::queue::schedule::{Plan, Warned};
use crate::queue::{Certainty, Incoming, Outcome, Tried, Unsent};
use crate::route::{Delivery, Errand, Route};
use crate::session::{Need, NoRoom, Prospect, Session, Transaction};
use crate::smtp::Extension;
use crate::snapshot::{Snapshot, SoftBounce};
use crate::sys::WallTime;
use crate::upstream::{Begun, BodyFault, MessageBody, Passage, Sending, Word};

/// For so long a client whose message the upstream has waits until what it cost is written down.
const CHARGE_MAX: Duration = Duration::from_secs(5);

/// Where the transaction at hand stands on its way out.
#[derive(Debug, Default)]
pub(super) enum Through {
    /// Nobody has been asked.
    #[default]
    NotAsked,
    /// All recipients so far are taken.
    Open(Way),
    /// It goes to the queue.
    Queued,
}

/// The way of a message that goes through.
#[derive(Debug)]
pub(super) struct Way {
    route: Arc<str>,
    wait: Duration,
    /// When the upstreams were first asked.
    began: WallTime,
    passage: Passage,
}

impl Answers {
    /// What is known of a recipient's further way; where it is to be asked now, what the upstream says.
    pub(super) async fn offer(&mut self, recipient: &Recipient, session: &Session) -> Prospect {
        let Some(transaction) = session.transaction() else { return Prospect::Open };
        let (snapshot, identity) = (self.house.snapshot(), Arc::clone(session.identity()));
        let errand = Errand {
            identity: identity.name(),
            ca: identity.ca(),
            sender: transaction.reverse_path(),
            recipient: &recipient.forward_path,
        };
        // It had one when the session looked; the queue finds out what became of it.
        let Some(route) = snapshot.routes.find(&errand).map(Arc::clone) else { return Prospect::Open };
        if let Some(need) = self.lacking(transaction, recipient, &route) {
            return Prospect::Lacking(need);
        }
        let before = std::mem::replace(&mut self.through, Through::Queued);
        let Delivery::Through(wait) = route.delivery else { return Prospect::Open };
        if !may_go_through(&identity, transaction.parameters()) {
            return Prospect::Open;
        }
        let asked = match before {
            Through::NotAsked if transaction.recipients().is_empty() => {
                self.begin(transaction, recipient, &identity, &route, wait).await
            }
            Through::Open(way) if way.route == route.name => {
                self.ask(way, transaction.recipients().len(), recipient).await
            }
            // Another route, or one before it is in the queue already.
            Through::NotAsked | Through::Open(_) | Through::Queued => None,
        };
        match asked {
            Some((way, Word::Taken)) => self.through = Through::Open(way),
            Some((way, Word::Refused(outcome))) if snapshot.soft_bounce == SoftBounce::No => {
                self.through = Through::Open(way);
                if let Outcome::Failed { reply: Some(reply), .. } = outcome {
                    return Prospect::Refused(reply);
                }
            }
            // With soft_bounce, nothing is refused for good before its time is over.
            Some((_, Word::Refused(_) | Word::NotNow)) | None => {}
        }
        Prospect::Open
    }

    fn lacking(&self, transaction: &Transaction, recipient: &Recipient, route: &Route) -> Option<Need> {
        let (sender, to) = (transaction.reverse_path(), recipient.forward_path.as_str());
        let all_lack = |what| self.house.courier.all_lack(route.upstreams(), what);
        if !(sender.as_str().is_ascii() && to.is_ascii()) && all_lack(Extension::SmtpUtf8) {
            return Some(Need::Utf8Address);
        }
        // RFC 8689 §5: what has no reverse path is not lost over it.
        let demands_tls = transaction.parameters().require_tls && *sender != ReversePath::Null;
        (demands_tls && all_lack(Extension::RequireTls)).then_some(Need::RequireTls)
    }

    async fn begin(
        &self,
        transaction: &Transaction,
        recipient: &Recipient,
        identity: &Identity,
        route: &Route,
        wait: Duration,
    ) -> Option<(Way, Word)> {
        let upstreams = route.arranged(&mut || self.house.entropy.next_u64());
        let sending = Sending {
            identity: identity.name(),
            reverse_path: transaction.reverse_path(),
            parameters: transaction.parameters(),
        };
        let began = self.house.now().wall;
        match Box::pin(self.house.courier.begin(&upstreams, sending, recipient, wait)).await {
            Begun::Open(passage, word) => Some((Way { route: Arc::clone(&route.name), wait, began, passage }, word)),
            Begun::Nowhere => None,
        }
    }

    async fn ask(&self, mut way: Way, place: usize, recipient: &Recipient) -> Option<(Way, Word)> {
        let word = Box::pin(self.house.courier.ask(&mut way.passage, place, recipient, way.wait)).await;
        Some((way, word))
    }

    /// Offers the message to the upstream that has taken its recipients. None: it is to be kept, and `incoming` knows what is known of the attempt.
    ///
    /// # Errors
    /// The upstream refuses it.
    pub(super) async fn relay(
        &mut self,
        incoming: &mut Incoming,
        envelope: &Envelope,
        session: &Session,
    ) -> Result<Option<Custody>, NoRoom> {
        let Through::Open(way) = std::mem::take(&mut self.through) else { return Ok(None) };
        if !way.passage.is_for_all(envelope.recipients().len()) {
            return Ok(None);
        }
        let (id, identity) = (incoming.id(), session.identity().name());
        let mut body = Unkept::new(incoming, identity);
        let sent = Box::pin(self.house.courier.send_through(way.passage, &mut body, way.wait)).await;
        let Some(handover) = sent else { return Ok(None) };
        for fault in handover.faults.iter().filter(|fault| fault.was_tried()) {
            self.house.courier.alarm(&way.route, id, fault);
        }
        let (snapshot, now) = (self.house.snapshot(), self.house.now().wall);
        let (tried, began) = (handover.tried(), way.began.rfc3339());
        if snapshot.soft_bounce == SoftBounce::No
            && let Some((reason, reply)) = refused_by_all(&tried)
        {
            return Err(NoRoom::Refused { reason, reply });
        }
        for one in &tried {
            self.house.counts.attempted(&one.outcome);
            if let Some(recipient) = envelope.recipients().get(one.recipient) {
                audit::attempted_for(id, identity, &recipient.forward_path, one, Some(&began));
            }
        }
        if let Some(reply) = taken_by_all(&tried, envelope.recipients().len()) {
            self.charge_for_what_is_kept_elsewhere(identity).await;
            return Ok(Some(Custody::with_upstream(id, envelope.recipients().len(), &reply)));
        }
        let due = self.due_again(&tried, &snapshot, now);
        // Who has failed beside others is asked for once more, and told of then.
        let known = tried.into_iter().filter(|one| !matches!(one.outcome, Outcome::Failed { .. }));
        incoming.tried(known.collect(), due);
        Ok(None)
    }

    /// When the queue is to try it: as after any attempt; at once when nothing was said of the message, since another upstream may take it.
    fn due_again(&self, tried: &[Tried], snapshot: &Snapshot, now: WallTime) -> WallTime {
        let was_answered = tried.iter().any(|one| {
            one.certainty == Certainty::Undetermined || !matches!(one.outcome, Outcome::Deferred { reply: None, .. })
        });
        if !was_answered {
            return now;
        }
        match snapshot.schedule.next(self.house.moment(now), 1, Warned::from(false), self.house.entropy.next_u64()) {
            Plan::Retry { at, .. } => at,
            Plan::GiveUp => now,
        }
    }

    /// The client has waited for the upstream, which has the message: that a disk hangs is no reason to let it send again. It is written all the same when
    /// the disk does, and counts meanwhile.
    async fn charge_for_what_is_kept_elsewhere(&mut self, identity: &str) {
        let Some(spending) = self.take_spending() else { return };
        let (queue, identity) = (self.house.queue.clone(), identity.to_owned());
        let (done, is_done) = tokio::sync::oneshot::channel::<()>();
        self.house.tasks.spawn("charge", async move {
            if let Err(fault) = queue.charge(spending).await {
                tracing::error!(identity, %fault, "what a message has cost could not be written; it counts for nothing");
            }
            // Whoever waited has perhaps gone on.
            done.send(()).ok();
        });
        tokio::time::timeout(CHARGE_MAX, is_done).await.ok();
    }
}

/// Whether nothing is to be decided or told of it later, that an upstream would not do.
fn may_go_through(identity: &Identity, parameters: &MailParameters) -> bool {
    identity.grant().dispatch == Dispatch::AtOnce && parameters.hold_until.is_none() && parameters.deliver_by.is_none()
}

/// Why nobody is to have it.
fn refused_by_all(tried: &[Tried]) -> Option<(String, Option<crate::smtp::Reply>)> {
    let mut refusals = tried.iter().map(|one| match &one.outcome {
        Outcome::Failed { reason, reply } => Some((reason.clone(), reply.clone())),
        Outcome::Delivered { .. } | Outcome::Deferred { .. } => None,
    });
    let first = refusals.next()??;
    refusals.all(|other| other.is_some()).then_some(first)
}

/// What the upstream said that has it for everybody.
fn taken_by_all(tried: &[Tried], recipients: usize) -> Option<crate::smtp::Reply> {
    let mut replies = tried.iter().map(|one| match &one.outcome {
        Outcome::Delivered { reply } => Some(reply),
        Outcome::Deferred { .. } | Outcome::Failed { .. } => None,
    });
    let first = replies.next()??;
    (tried.len() == recipients && replies.all(|other| other.is_some())).then(|| first.clone())
}

/// The octets of a message that is not kept yet, as the upstream wants them.
struct Unkept<'a> {
    incoming: &'a Incoming,
    reader: Unsent<'a>,
    identity: &'a str,
}

impl<'a> Unkept<'a> {
    fn new(incoming: &'a Incoming, identity: &'a str) -> Self {
        Self { incoming, reader: incoming.unsent(), identity }
    }
}

impl MessageBody for Unkept<'_> {
    fn octets(&self) -> u64 {
        self.incoming.length()
    }

    fn name(&self) -> String {
        self.incoming.id().to_string()
    }

    fn identity(&self) -> Option<&str> {
        Some(self.identity)
    }

    async fn rewind(&mut self) -> Result<(), BodyFault> {
        self.reader = self.incoming.unsent();
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Bytes>, BodyFault> {
        self.reader.next().await.map_err(|fault| BodyFault::Unreadable(fault.to_string()))
    }
}
