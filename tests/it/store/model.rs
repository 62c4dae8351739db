//! What the queue ought to hold, in the simplest words.

use std::collections::BTreeMap;
use std::time::Duration;

use sealpost::mail::QueueId;
use sealpost::queue::{Filter, Listed, Next, Outcome, Page, Queue, QueueError, Record, State, Tried};
use sealpost::sys::{Clock, Disk, ManualClock, MonoTime, SimulatedDisk, WallTime};

use super::bodies;

/// A message as the model sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) body: Vec<u8>,
    pub(super) state: State,
    pub(super) due: WallTime,
    pub(super) attempts: u32,
    /// Open or not, and how often tried.
    pub(super) recipients: Vec<(bool, u32)>,
    pub(super) delivered: Vec<bool>,
}

impl Message {
    pub(super) fn new(body: Vec<u8>, recipients: usize, due: WallTime) -> Self {
        Self {
            body,
            state: State::Queued,
            due,
            attempts: 0,
            recipients: vec![(true, 0); recipients],
            delivered: vec![false; recipients],
        }
    }

    pub(super) fn conclude(&mut self, tried: &[Tried], next: &Next) {
        for Tried { recipient, outcome, .. } in tried {
            let delivered = matches!(outcome, Outcome::Delivered { .. });
            // Who has it has it, whatever is said behind that.
            if self.delivered[*recipient] {
                continue;
            }
            let (open, attempts) = &mut self.recipients[*recipient];
            *open = matches!(outcome, Outcome::Deferred { .. });
            *attempts += 1;
            self.delivered[*recipient] = delivered;
        }
        self.attempts += u32::from(!tried.is_empty());
        match next {
            Next::Retry(at) => self.due = *at,
            Next::Dead(_) => self.state = State::Dead,
            Next::Held(_) => self.state = State::Held,
            Next::Finished => unreachable!("it is gone then"),
        }
    }

    pub(super) fn retry(&mut self, now: WallTime) {
        if self.state == State::Dead {
            for ((open, _), delivered) in self.recipients.iter_mut().zip(&self.delivered) {
                *open = !delivered;
            }
        }
        self.state = State::Queued;
        self.due = now;
    }

    fn agrees(&self, record: &Record) -> bool {
        let recipients: Vec<_> = record.recipients.iter().map(|one| (one.open, one.attempts)).collect();
        record.state == self.state
            && record.due == self.due
            && record.attempts == self.attempts
            && recipients == self.recipients
            && record.length == u64::try_from(self.body.len()).unwrap()
    }
}

/// What there may be under one id.
type Possible = Vec<Option<Message>>;

#[derive(Debug, Default)]
pub(super) struct Model {
    /// Almost always one possibility; more when the last thing asked was answered with a failure.
    pub(super) messages: BTreeMap<QueueId, Possible>,
    /// Ids that were given to messages that are being received, committed later or not.
    pub(super) admitted: Vec<QueueId>,
    pub(super) leases: BTreeMap<QueueId, MonoTime>,
    conclusion: Option<Undetermined>,
}

/// A conclusion that was answered with a failure: it is there with its report, or neither is.
#[derive(Debug)]
struct Undetermined {
    id: QueueId,
    concluded: Option<Message>,
    report: Message,
}

impl Model {
    pub(super) fn set(&mut self, id: QueueId, message: Option<Message>) {
        self.messages.insert(id, vec![message]);
    }

    /// It was answered with a failure: it may be so, or as it was.
    pub(super) fn maybe(&mut self, id: QueueId, message: Option<Message>) {
        self.messages.entry(id).or_insert_with(|| vec![None]).push(message);
    }

    pub(super) fn maybe_concluded(&mut self, id: QueueId, after: Option<Message>, report: Option<Message>) {
        self.maybe(id, after.clone());
        self.conclusion = report.map(|report| Undetermined { id, concluded: after, report });
    }

    pub(super) fn get(&self, id: QueueId) -> Option<&Message> {
        self.messages.get(&id).and_then(|possible| possible.first()).and_then(Option::as_ref)
    }

    pub(super) fn ids(&self) -> Vec<QueueId> {
        self.messages.iter().filter(|(_, possible)| possible.iter().any(Option::is_some)).map(|(id, _)| *id).collect()
    }

    /// The messages that a claim may give out.
    pub(super) fn claimable(&self, clock: &ManualClock) -> Vec<QueueId> {
        let now = clock.now();
        let free = |id: &QueueId| self.leases.get(id).is_none_or(|until| *until <= now.mono);
        let due = |message: &Message| message.state == State::Queued && message.due <= now.wall;
        self.ids().into_iter().filter(|id| free(id) && self.get(*id).is_some_and(due)).collect()
    }

    pub(super) fn lease(&mut self, id: QueueId, clock: &ManualClock, lease: Duration) {
        self.leases.insert(id, clock.now().mono.after(lease));
    }

    /// Compares the whole queue with the model; what was uncertain is certain afterwards.
    pub(super) async fn verify(&mut self, queue: &Queue) -> Result<(), String> {
        let mut found = everything(queue).await.map_err(|fault| format!("can't list: {fault}"))?;
        for (id, possible) in &mut self.messages {
            let seen = found.remove(id);
            let fits = |message: &Option<Message>| match (message, &seen) {
                (None, None) => true,
                (Some(message), Some(record)) => message.agrees(record),
                _ => false,
            };
            let Some(fit) = possible.iter().find(|message| fits(message)).cloned() else {
                return Err(format!("{id}: expected one of {}, found {seen:?}", summary(possible)));
            };
            if let Some(message) = &fit {
                let body = read(queue, *id).await.map_err(|fault| format!("{id}: {fault}"))?;
                if body != message.body {
                    return Err(format!("{id}: another body"));
                }
            }
            *possible = vec![fit];
        }
        if let Some(Undetermined { id, concluded, report }) = self.conclusion.take()
            && self.get(id) == concluded.as_ref()
        {
            let kept = found.iter().find(|(_, record)| report.agrees(record)).map(|(id, _)| *id);
            let Some(kept) = kept else { return Err(format!("{id} is concluded, and its report is missing")) };
            found.remove(&kept);
            self.set(kept, Some(report));
        }
        if let Some(id) = found.keys().next() {
            let kind = if self.admitted.contains(id) { "never committed" } else { "unknown" };
            return Err(format!("{id} appeared, {kind}"));
        }
        self.verify_sums(queue).await
    }

    /// The same, and what the disk has besides; for moments after a start, or when no removal can have failed.
    pub(super) async fn verify_all(&mut self, queue: &Queue, disk: &SimulatedDisk) -> Result<(), String> {
        self.verify(queue).await?;
        self.verify_files(disk)
    }

    async fn verify_sums(&self, queue: &Queue) -> Result<(), String> {
        let stats = queue.stats().await.map_err(|fault| fault.to_string())?;
        let messages = || self.messages.values().filter_map(|possible| possible.first()?.as_ref());
        for (state, tally) in
            [(State::Queued, stats.totals.queued), (State::Held, stats.totals.held), (State::Dead, stats.totals.dead)]
        {
            let of_state = || messages().filter(move |message| message.state == state);
            let octets: usize = of_state().map(|message| message.body.len()).sum();
            if (tally.count, tally.octets) != (of_state().count() as u64, octets as u64) {
                return Err(format!("{state:?}: the sums say {tally:?}"));
            }
        }
        Ok(())
    }

    /// No body file without its record.
    fn verify_files(&self, disk: &SimulatedDisk) -> Result<(), String> {
        for entry in disk.list(bodies()).unwrap() {
            let id: QueueId = entry.name.parse().map_err(|_| format!("{} in bodies/", entry.name))?;
            if self.get(id).is_none() {
                return Err(format!("{id} is left over in bodies/"));
            }
        }
        Ok(())
    }
}

fn summary(possible: &Possible) -> String {
    let one = |message: &Option<Message>| match message {
        None => "nothing".to_owned(),
        Some(message) => format!("{:?} due {:?} {:?}", message.state, message.due, message.recipients),
    };
    possible.iter().map(one).collect::<Vec<_>>().join(" | ")
}

async fn everything(queue: &Queue) -> Result<BTreeMap<QueueId, Record>, QueueError> {
    let mut all = BTreeMap::new();
    let mut after = None;
    loop {
        let listing = queue.list(Filter::default(), Page { after, limit: 3 }).await?;
        for listed in listing.entries {
            match listed {
                Listed::Message(record) => all.insert(record.id, *record),
                Listed::Unreadable(id, reason) => return Err(QueueError::Damaged(id, reason)),
            };
        }
        after = listing.next;
        if after.is_none() {
            return Ok(all);
        }
    }
}

pub(super) async fn read(queue: &Queue, id: QueueId) -> Result<Vec<u8>, QueueError> {
    let mut body = queue.body(id).await?;
    let mut octets = Vec::new();
    while let Some(piece) = body.next().await? {
        octets.extend_from_slice(&piece);
    }
    Ok(octets)
}
