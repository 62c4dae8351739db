//! Random things to do to a queue and its model, drawn from a seed.

use std::sync::Arc;
use std::time::Duration;

use sealpost::mail::{Cost, QueueId, Rates};
use sealpost::queue::{Certainty, Claim, Conclusion, Next, Outcome, Queue, QueueError, Spent, State, Tried};
use sealpost::sys::{Clock, Entropy, ManualClock, MonoTime, SeededEntropy, SimulatedDisk};

use super::model::{Message, Model};
use super::{START, deposit, open, settings};

const RECIPIENTS: usize = 3;

/// Messages per hour of the one who has a limit.
const LIMIT: u32 = 4;

/// Sizes about which something changes: nothing, small, a row, several, the largest gathered, files.
const SIZES: [usize; 10] = [0, 1, 2_000, 31_999, 32_000, 32_001, 130_000, 262_144, 262_145, 400_000];

/// A queue, its model, its disk and its dice.
pub(super) struct World {
    pub(super) disk: SimulatedDisk,
    pub(super) clock: Arc<ManualClock>,
    pub(super) queue: Queue,
    pub(super) model: Model,
    /// When a message was accepted of the one who has a limit, or may have been.
    spent: Vec<(MonoTime, Answered)>,
    after_failure: AfterFailure,
    dice: SeededEntropy,
    seed: u64,
}

/// What follows a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AfterFailure {
    /// The power goes.
    PowerCut,
    /// The disk works again.
    GoOn,
}

/// Whether the store still answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answered {
    Yes,
    WithFailure,
}

impl World {
    pub(super) fn new(seed: u64, after_failure: AfterFailure) -> Self {
        let disk = SimulatedDisk::new(seed);
        let clock = Arc::new(ManualClock::at(START));
        let (queue, _) = open(&disk, &clock, seed).unwrap();
        Self {
            disk,
            clock,
            queue,
            model: Model::default(),
            spent: Vec::new(),
            after_failure,
            dice: SeededEntropy::new(seed ^ 0x5ea1),
            seed,
        }
    }

    pub(super) fn draw(&self, below: u64) -> u64 {
        self.dice.next_u64() % below
    }

    fn chance(&self, percent: u64) -> bool {
        self.draw(100) < percent
    }

    /// Opens the queue on what the disk has; all claims are over.
    pub(super) fn reopen(&mut self) -> Result<(), String> {
        let fresh = self.seed ^ self.dice.next_u64();
        self.queue = open(&self.disk, &self.clock, fresh).map_err(|fault| format!("can't open: {fault}"))?.0;
        self.model.leases.clear();
        Ok(())
    }

    /// Does one random thing. An error is a broken promise.
    pub(super) async fn step(&mut self) -> Result<Answered, String> {
        match self.draw(12) {
            0..=4 => self.receive().await,
            5..=7 => self.deliver().await,
            8 => self.steer().await,
            9 => {
                self.clock.advance(Duration::from_secs(self.draw(4000)));
                Ok(Answered::Yes)
            }
            10 => self.steer().await,
            _ => {
                self.model.verify(&self.queue).await?;
                Ok(Answered::Yes)
            }
        }
    }

    fn body(&self) -> Vec<u8> {
        let size = SIZES[usize::try_from(self.draw(SIZES.len() as u64)).unwrap()];
        let mut body = vec![0; size];
        self.dice.fill(&mut body);
        body
    }

    async fn receive(&mut self) -> Result<Answered, String> {
        let body = self.body();
        let mut incoming = match self.queue.admit("alice", self.chance(50).then_some(body.len() as u64)).await {
            Ok(incoming) => incoming,
            Err(fault) => return failed(&fault),
        };
        let id = incoming.id();
        self.model.admitted.push(id);
        let limited = self.chance(50);
        if limited {
            match self.spend().await? {
                Spent::Granted(spending) => incoming.charge(spending),
                Spent::Until { .. } => return Ok(Answered::Yes),
            }
        }
        let piece = usize::try_from(1 + self.draw(90_000)).unwrap();
        for piece in body.chunks(piece) {
            if let Err(fault) = incoming.write(piece).await {
                return failed(&fault);
            }
        }
        if self.chance(10) {
            return Ok(Answered::Yes); // RSET, or the client went away
        }
        let kept = Message::new(body, RECIPIENTS, self.clock.now().wall);
        let now = self.clock.now().mono;
        match incoming.commit(deposit(&*self.clock, RECIPIENTS)).await {
            Ok(custody) => {
                assert_eq!(custody.id(), id);
                self.spent.extend(limited.then_some((now, Answered::Yes)));
                self.model.set(id, Some(kept));
                Ok(Answered::Yes)
            }
            Err(fault) => {
                self.spent.extend(limited.then_some((now, Answered::WithFailure)));
                match self.after_failure {
                    AfterFailure::PowerCut => self.model.maybe(id, Some(kept)),
                    // Its client heard 452 and comes again: it must not be here too.
                    AfterFailure::GoOn => self.model.set(id, None),
                }
                failed(&fault)
            }
        }
    }

    /// Asks for one message of an identity that has a limit. Whatever has happened to the disk, those that were accepted are never more than the
    /// limit in any hour; and whoever is refused has sent, or may have sent, as many within an hour and a minute.
    async fn spend(&mut self) -> Result<Spent, String> {
        let rates = Rates { messages_per_hour: Some(LIMIT), ..Rates::default() };
        let cost = Cost { messages: 1, recipients: 1 };
        let spent = match self.queue.spend("limited", rates, cost).await {
            Ok(spent) => spent,
            // Unknown means no.
            Err(_) => return Ok(Spent::Until { rate: rates.each().next().unwrap(), at: self.clock.now().wall }),
        };
        let now = self.clock.now().mono;
        let within = |wait: u64| {
            let wait = Duration::from_secs(wait);
            self.spent.iter().filter(move |(at, _)| now.since(*at) < wait)
        };
        let sure = within(3_600).filter(|(_, answered)| *answered == Answered::Yes).count();
        let limit = usize::try_from(LIMIT).unwrap();
        match &spent {
            Spent::Granted(_) if sure >= limit => Err(format!("{sure} were accepted within an hour, and one more is")),
            Spent::Until { .. } if within(3_660).count() < limit => Err("refused, and there is room".to_owned()),
            Spent::Granted(_) | Spent::Until { .. } => Ok(spent),
        }
    }

    async fn deliver(&mut self) -> Result<Answered, String> {
        let claimable = self.model.claimable(&self.clock);
        let claimed = tokio::time::timeout(Duration::ZERO, self.queue.claim()).await;
        let Ok(claim) = claimed else {
            // With a failing disk nothing is given out, and that is no lie.
            let idle = claimable.is_empty() || self.queue.stats().await.is_err();
            return if idle { Ok(Answered::Yes) } else { Err(format!("{claimable:?} are due, none was given out")) };
        };
        if !claimable.contains(&claim.id()) {
            return Err(format!("{} was given out, free are {claimable:?}", claim.id()));
        }
        self.model.lease(claim.id(), &self.clock, settings().lease);
        if self.chance(20) {
            return Ok(Answered::Yes); // the delivery went away
        }
        self.conclude(claim).await
    }

    async fn conclude(&mut self, claim: Claim) -> Result<Answered, String> {
        let id = claim.id();
        let mut after = self.model.get(id).cloned().ok_or("a claim on nothing")?;
        let outcomes = self.outcomes();
        let next = match self.draw(5) {
            0 => Next::Finished,
            2 => Next::Held("its sender may not send any more".to_owned()),
            1 => Next::Dead("no report is allowed".to_owned()),
            _ => Next::Retry(self.clock.now().wall.after(Duration::from_secs(self.draw(3000)))),
        };
        let after = if next == Next::Finished {
            None
        } else {
            after.conclude(&outcomes, &next);
            Some(after)
        };
        let report = self.chance(40).then(|| (deposit(&*self.clock, 1), b"Subject: undelivered\r\n\r\n".repeat(2000)));
        let said = report.as_ref().map(|(_, body)| Message::new(body.clone(), 1, self.clock.now().wall));
        match claim.conclude(Conclusion { outcomes, next, report, warned: false }).await {
            Ok(report) => {
                self.model.leases.remove(&id);
                self.model.set(id, after);
                if let (Some(id), Some(said)) = (report, said) {
                    self.model.set(id, Some(said));
                }
                Ok(Answered::Yes)
            }
            Err(fault) => {
                self.model.maybe_concluded(id, after, said);
                failed(&fault)
            }
        }
    }

    fn outcomes(&self) -> Vec<Tried> {
        let outcome = || match self.draw(3) {
            0 => Outcome::Failed { reason: "550".to_owned(), reply: None },
            1 => Outcome::Deferred { reason: "450".to_owned(), reply: None },
            _ => Outcome::Delivered { reply: accepted() },
        };
        let all = (0..1).map(|recipient| Tried {
            recipient,
            upstream: "main".to_owned(),
            outcome: outcome(),
            certainty: Certainty::Known,
        });
        all.collect()
    }

    async fn steer(&mut self) -> Result<Answered, String> {
        let ids = self.model.ids();
        if ids.is_empty() {
            return Ok(Answered::Yes);
        }
        let id = ids[usize::try_from(self.draw(ids.len() as u64)).unwrap()];
        let now = self.clock.now().wall;
        let mut after = self.model.get(id).cloned();
        let was = after.as_ref().map(|message| message.state);
        let answer = match (self.draw(4), after.as_mut()) {
            (0, Some(message)) => {
                message.retry(now);
                self.queue.retry(id).await
            }
            (1, Some(message)) => {
                if was == Some(State::Queued) {
                    message.state = State::Held;
                }
                self.queue.hold(id).await
            }
            (2, Some(message)) => {
                if was == Some(State::Held) {
                    message.retry(now);
                }
                self.queue.release(id).await
            }
            _ => {
                after = None;
                self.queue.remove(id).await
            }
        };
        self.note(id, after, answer)
    }

    fn note(
        &mut self,
        id: QueueId,
        after: Option<Message>,
        answer: Result<(), QueueError>,
    ) -> Result<Answered, String> {
        match answer {
            Ok(()) => {
                if after.is_none() {
                    self.model.leases.remove(&id);
                }
                self.model.set(id, after);
                Ok(Answered::Yes)
            }
            Err(fault) => {
                self.model.maybe(id, after);
                failed(&fault)
            }
        }
    }
}

fn accepted() -> sealpost::smtp::Reply {
    sealpost::smtp::Reply::new(sealpost::smtp::Code::new(250).unwrap(), None, "queued")
}

/// Only "come again" is an honest answer here.
fn failed(fault: &QueueError) -> Result<Answered, String> {
    match fault {
        QueueError::Full(_) | QueueError::Share(_) | QueueError::Broken(_) => Ok(Answered::WithFailure),
        QueueError::NotFound(_)
        | QueueError::Fenced(_)
        | QueueError::Damaged(..)
        | QueueError::Known(_)
        | QueueError::Closed => Err(fault.to_string()),
    }
}
