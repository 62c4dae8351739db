//! Taking messages out of a queue as they are, and bringing them into another: what `queue export` and `queue import` ask for.
//!
//! An export changes nothing: each message is told with its record, as it is stored, and its octets in pieces. While a daemon runs, only what is held
//! and not being tried is exported: anything else could be delivered here and there. An import keeps a few messages in each transaction, and says so of
//! each when it is on stable storage: the receipt names what it says, and nothing else. Here, and only here, octets of bodies pass through: to be kept,
//! not to be shown.
//!
//! # Whose a message is
//!
//! ```text
//! message M moves from queue A to queue B              A has, and remembers     B has, and remembers          who answers for M
//! A begins export E                                    M, E's number            nothing                       A
//! the file of E has its name                           the same                 nothing                       A: a file proves nothing
//! B imports it: it keeps M, or finds that it has M     the same                 M, its place in E, a pledge   A and B: both would deliver it
//! the receipt is shown at A                            E's number               the same                      B
//! the same, but A has pledged M since E began          M, the pledge            M, or not any more            A, and B if it has M still
//! B delivers M                                         M, or not any more       its place in E, the pledge    nobody: no export brings it to B again
//! an operator removes M at B                           M, or not any more       its place in E                nobody: another export may bring it
//! ```
//!
//! A pledge is what a queue says in an import, of a message that it has at that moment, and what stands in a receipt (`queue::pledges`); it is numbered by
//! the exports of the queue itself. A receipt says that a pledge was made after its export had begun, and nothing of what came later: whoever made it may
//! have let the message go since, on a younger pledge. So A lets M go only on pledges that are younger than all its own, by the number of the export. Of
//! the queues that had M, then, the one with the youngest pledge has it still, or delivered it, or was told by an operator to remove it.
//!
//! It arrives twice when two queues have it and both may deliver it: one was started that had been exported and not removed; or one message was imported
//! in two queues, by one export or by two; or an operator said `--take-back`. The command says so before. What is remembered has limits: pledges of a
//! million messages, places and numbers of a thousand exports each.
//!
//! Never: removes what was exported, before somebody shows the receipt of its import, nor on a receipt that this queue's own word has overtaken; brings
//! in what this queue has taken in and delivered; says of a message that it is here, or was, which the queue does not say.

use std::collections::VecDeque;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use super::entry::Entry;
use super::look::Walk;
use super::selection::{Filters, Selection};
use super::{Answer, Count, Desk, ListOrder, Obstacle, StateName};
use crate::audit::{self, Steered};
use crate::mail::QueueId;
use crate::queue::transfer::{ADOPTED_MAX, Adoption, Arrived, Arriving, Received};
use crate::queue::{BodyReader, Listed, Queue, QueueError, Record, State};

/// Messages that are looked up at once.
const PAGE: usize = 100;
/// Octets of messages that are kept in one go, about.
const TOGETHER: u64 = 1024 * 1024;

/// The beginning of an export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// Its name.
    pub export: String,
    /// Whether a daemon runs, so that only held messages are exported.
    pub held_only: bool,
}

/// A message that moves.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Parcel {
    /// What people may read of it.
    pub entry: Box<Entry>,
    /// Its record as it is stored, in base64.
    pub record: String,
    /// Octets of its body.
    pub octets: u64,
    /// XXH3-64 of its body.
    pub checksum: u64,
}

/// What is brought to an import, in this order: a message, its pieces, the next message. Of those that were imported before only the place is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Brought {
    /// A message.
    Message {
        /// Its place in the export.
        place: u64,
        /// Its record as it was stored, in base64.
        record: String,
    },
    /// Octets of its body, in base64.
    Piece(String),
    /// A message that was imported before, as [`Answer::Adopted`] says.
    Before {
        /// Its place in the export.
        place: u64,
        /// Its name.
        id: String,
    },
    /// All has been brought.
    End,
}

/// How far an export is.
#[derive(Debug)]
pub(super) struct Exporting {
    by: String,
    asked: String,
    begun: Option<Begun>,
    walk: Walk,
    /// Those that were meant and are not held, until that is told; none when all that was meant is exported.
    passed: Option<Count>,
    ids: VecDeque<QueueId>,
    /// The message whose body is being told.
    current: Option<(QueueId, BodyReader)>,
}

impl Exporting {
    pub(super) async fn new(filters: Filters, by: String, desk: Desk<'_>) -> Result<Self, Obstacle> {
        let held_only = desk.daemon.is_some();
        let state = if held_only { Some(StateName::Held) } else { filters.state };
        if held_only && !matches!(filters.state, None | Some(StateName::Held)) {
            return Err("a daemon runs, and then only what is held can be exported: what it may deliver meanwhile would arrive twice; hold it \
                        first, or stop the daemon"
                .to_owned()
                .into());
        }
        let passed = (state != filters.state).then_some(Count { messages: 0, octets: 0, until: desk.now.millis() });
        let selection = Selection::new(&filters, desk.now)?;
        let filters = Filters { state, ..filters };
        let export = desk.queue.new_export();
        if let Err(fault) = desk.queue.begin_export(export).await {
            // Where nothing can be written any more, messages must be got out all the same. Then the receipt leaves here what has come by an import.
            tracing::warn!(%export, %fault, "that the export begins could not be noted");
        }
        let begun = Begun { export: export.to_string(), held_only };
        let asked = format!("export {}, {}", begun.export, filters.words());
        audit::steering("export", &asked, &by);
        // Without a daemon nothing comes meanwhile.
        let walk = if held_only {
            Walk::up_to_the_newest(desk.queue, selection, desk.now).await?
        } else {
            Walk::new(selection, None, ListOrder::OldestFirst, None)
        };
        Ok(Self { by, asked, begun: Some(begun), walk, passed, ids: VecDeque::new(), current: None })
    }

    /// What there is to say next.
    pub(super) async fn step(&mut self, desk: Desk<'_>) -> Result<Vec<Answer>, QueueError> {
        if let Some(begun) = self.begun.take() {
            return Ok(vec![Answer::Begun(begun)]);
        }
        if let Some((id, mut body)) = self.current.take() {
            let answer = match body.next().await {
                Ok(None) => return Ok(Vec::new()),
                Ok(Some(piece)) => {
                    self.current = Some((id, body));
                    Answer::Piece(BASE64.encode(&piece))
                }
                Err(fault) => spoiled(id, fault)?,
            };
            return Ok(vec![answer]);
        }
        if let Some(id) = self.ids.pop_front() {
            return Ok(vec![self.begin(desk, id).await?]);
        }
        if self.walk.is_over() {
            return Ok(self
                .passed
                .take()
                .filter(|passed| passed.messages > 0)
                .map(Answer::Count)
                .into_iter()
                .collect());
        }
        for found in self.walk.page(desk.queue, PAGE).await? {
            match &mut self.passed {
                Some(passed) if found.state() != State::Held => {
                    passed.messages = passed.messages.saturating_add(1);
                    passed.octets = passed.octets.saturating_add(found.length());
                }
                Some(_) | None => self.ids.push_back(found.id()),
            }
        }
        Ok(Vec::new())
    }

    pub(super) fn is_over(&self) -> bool {
        let told = self.begun.is_none() && self.current.is_none() && self.ids.is_empty();
        told && self.walk.is_over() && self.passed.is_none()
    }

    async fn begin(&mut self, desk: Desk<'_>, id: QueueId) -> Result<Answer, QueueError> {
        if let Some(running) = desk.daemon {
            running.log.flowing().await;
            if desk.queue.is_being_tried(id) {
                let why = "it is being tried just now; export it when that is over".to_owned();
                return Ok(Answer::Spoiled(id.to_string(), why));
            }
        }
        let record = match desk.queue.show(id).await {
            // Released meanwhile: it is delivered here.
            Ok(Listed::Message(record)) if desk.daemon.is_some() && record.state != State::Held => {
                return Ok(Answer::Gone(id.to_string()));
            }
            Ok(Listed::Message(record)) => record,
            Ok(Listed::Unreadable(_, reason)) => return Ok(Answer::Spoiled(id.to_string(), reason)),
            Err(fault) => return spoiled(id, fault),
        };
        let body = match desk.queue.body(id).await {
            Ok(body) => body,
            Err(fault) => return spoiled(id, fault),
        };
        let packed = match Queue::pack(&record) {
            Ok(packed) => packed,
            Err(fault) => return spoiled(id, fault),
        };
        self.current = Some((id, body));
        audit::steered(&Steered { action: "export", id, recipients: None, asked: &self.asked, by: &self.by });
        Ok(Answer::Parcel(Parcel {
            entry: Box::new(Entry::of(&record)),
            record: BASE64.encode(packed),
            octets: record.length,
            checksum: record.checksum,
        }))
    }
}

/// One message can't be exported; that stops no other.
fn spoiled(id: QueueId, fault: QueueError) -> Result<Answer, QueueError> {
    match fault {
        QueueError::Damaged(_, why) => Ok(Answer::Spoiled(id.to_string(), why)),
        QueueError::NotFound(_) => Ok(Answer::Gone(id.to_string())),
        fault @ (QueueError::Full(_)
        | QueueError::Share(_)
        | QueueError::Broken(_)
        | QueueError::Fenced(_)
        | QueueError::Known(_)
        | QueueError::Closed) => Err(fault),
    }
}

/// Whether an export may come back to the queue that made it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Back {
    /// It may not: the messages are here, or another one delivers them.
    #[default]
    Refused,
    /// An operator says so.
    Taken,
}

/// How far an import is.
#[derive(Debug)]
pub struct Importing {
    by: String,
    export: QueueId,
    asked: String,
    /// What was here, or had been, at the beginning.
    adoption: Adoption,
    /// The message whose octets are being brought; none while those of one come that is not taken.
    current: Option<(u64, Arriving)>,
    arrived: Vec<(u64, QueueId, Arrived)>,
    octets: u64,
}

impl Importing {
    /// An import of this export, asked by `by`, one that was made here as `back` says; and which of its messages have been imported before, which need not be
    /// brought again.
    ///
    /// # Errors
    /// The export has no name, or was made here, or the queue can't be used; in words.
    pub async fn begin(export: &str, back: Back, by: String, queue: &Queue) -> Result<(Self, Adoption), String> {
        let export: QueueId = export.parse().map_err(|fault| format!("the export's name {export}: {fault}"))?;
        if back == Back::Refused && queue.settled(export).await.map_err(|fault| fault.to_string())? {
            return Err(format!(
                "export {export} was made here, and a receipt has removed it: another queue has these messages, and both would deliver them; if that \
                 one is lost, or has not delivered them and never will, say --take-back"
            ));
        }
        if back == Back::Refused && queue.exported(export).await.map_err(|fault| fault.to_string())? {
            return Err(format!(
                "export {export} was made here: its messages are here still, but for those that were delivered or removed since, and these would \
                 come back and be delivered once more; if that is meant, say --take-back"
            ));
        }
        let adoption = queue.adopted(export).await.map_err(|fault| fault.to_string())?;
        let asked = match back {
            Back::Refused => format!("import of {export}"),
            Back::Taken => format!("import of {export}, --take-back"),
        };
        audit::steering("import", &asked, &by);
        let told = adoption.clone();
        Ok((Self { by, export, asked, adoption, current: None, arrived: Vec::new(), octets: 0 }, told))
    }

    /// Takes what was brought; answers of messages that are settled by it.
    ///
    /// # Errors
    /// Nothing more can be taken: there is no room, or the disk fails. What was answered is kept.
    pub async fn take(&mut self, desk: Desk<'_>, brought: Brought) -> Result<Vec<Answer>, QueueError> {
        if let Some(running) = desk.daemon {
            running.log.flowing().await;
        }
        let mut answers = Vec::new();
        match brought {
            Brought::Message { place, record } => {
                self.finish(&mut answers).await?;
                if self.arrived.len() >= ADOPTED_MAX || self.octets >= TOGETHER {
                    self.keep(desk, &mut answers).await?;
                }
                match BASE64.decode(record).map_err(|fault| fault.to_string()).and_then(|octets| Queue::unpack(&octets))
                {
                    Ok(record) => self.begin_message(desk, place, record, &mut answers).await?,
                    Err(why) => answers.push(Answer::Unable(format!("at place {place}"), why)),
                }
            }
            Brought::Piece(text) => self.write(&text, &mut answers).await?,
            Brought::Before { place, id } if self.adoption.has(place) => answers.push(Answer::Present(id)),
            Brought::Before { id, .. } => answers.push(Answer::Unable(id, "it was not imported before".to_owned())),
            Brought::End => {
                self.finish(&mut answers).await?;
                self.keep(desk, &mut answers).await?;
                answers.push(Answer::End);
            }
        }
        Ok(answers)
    }

    async fn begin_message(
        &mut self,
        desk: Desk<'_>,
        place: u64,
        record: Record,
        answers: &mut Vec<Answer>,
    ) -> Result<(), QueueError> {
        let id = record.id;
        // The same again: it is here only when the other one is kept.
        if self.arrived.iter().any(|(_, waiting, _)| *waiting == id) {
            self.keep(desk, answers).await?;
        }
        let received = match desk.queue.receive(record.clone()).await {
            // What waits to be kept holds room as well.
            Err(QueueError::Full(_)) if !self.arrived.is_empty() => {
                self.keep(desk, answers).await?;
                desk.queue.receive(record).await
            }
            received => received,
        };
        match received {
            Ok(Received::Awaited(arriving)) => self.current = Some((place, *arriving)),
            Ok(Received::Here(arrived)) => self.arrived.push((place, id, arrived)),
            Err(QueueError::Damaged(_, why)) => answers.push(Answer::Unable(id.to_string(), why)),
            Err(QueueError::Fenced(_)) => {
                let why = "another import brings it just now; repeat this when that is over".to_owned();
                answers.push(Answer::Unable(id.to_string(), why));
            }
            Err(fault) => return Err(fault),
        }
        Ok(())
    }

    async fn write(&mut self, text: &str, answers: &mut Vec<Answer>) -> Result<(), QueueError> {
        let Some((place, mut arriving)) = self.current.take() else { return Ok(()) };
        match BASE64.decode(text) {
            Ok(octets) => {
                arriving.write(&octets).await?;
                self.octets = self.octets.saturating_add(u64::try_from(octets.len()).unwrap_or(u64::MAX));
                self.current = Some((place, arriving));
            }
            Err(fault) => answers.push(Answer::Unable(arriving.id().to_string(), fault.to_string())),
        }
        Ok(())
    }

    async fn finish(&mut self, answers: &mut Vec<Answer>) -> Result<(), QueueError> {
        let Some((place, arriving)) = self.current.take() else { return Ok(()) };
        let id = arriving.id();
        match arriving.finish().await {
            Ok(arrived) => self.arrived.push((place, id, arrived)),
            Err(QueueError::Damaged(_, why)) => answers.push(Answer::Unable(id.to_string(), why)),
            Err(fault) => return Err(fault),
        }
        Ok(())
    }

    async fn keep(&mut self, desk: Desk<'_>, answers: &mut Vec<Answer>) -> Result<(), QueueError> {
        self.octets = 0;
        let (mut ids, mut arrived) = (Vec::new(), Vec::new());
        for (place, id, one) in self.arrived.drain(..) {
            ids.push(id);
            arrived.push((place, one));
        }
        if ids.is_empty() {
            return Ok(());
        }
        let kept = desk.queue.adopt(self.export, arrived).await;
        // One that fails fails for itself: those behind it are kept, and the audit tells of them.
        let mut failed = Ok(());
        for (id, kept) in ids.into_iter().zip(kept) {
            match kept {
                Ok(()) => {
                    let (asked, by) = (self.asked.as_str(), self.by.as_str());
                    audit::steered(&Steered { action: "import", id, recipients: None, asked, by });
                    answers.push(Answer::Done(id.to_string()));
                }
                Err(QueueError::Known(_)) => answers.push(Answer::Present(id.to_string())),
                Err(QueueError::Damaged(_, why)) => answers.push(Answer::Unable(id.to_string(), why)),
                Err(QueueError::NotFound(_)) => {
                    let why = "it was here, and has just gone: see in the log whether it was delivered, before you repeat this";
                    answers.push(Answer::Unable(id.to_string(), why.to_owned()));
                }
                Err(fault) => failed = failed.and(Err(fault)),
            }
        }
        failed
    }
}

/// How far the removal of what another queue has now is.
#[derive(Debug)]
pub(super) struct Forgetting {
    by: String,
    export: QueueId,
    ids: VecDeque<String>,
    has_removed: bool,
}

impl Forgetting {
    pub(super) fn new(export: &str, ids: Vec<String>, by: String) -> Result<Self, String> {
        let export = export.parse().map_err(|fault| format!("the export's name {export}: {fault}"))?;
        Ok(Self { by, export, ids: ids.into(), has_removed: false })
    }

    /// Whoever has taken the export in has itself written such receipts: what it has stays. (What it has stays by its pledges, too; this has better words.)
    async fn objection(&self, queue: &Queue) -> Result<Option<String>, QueueError> {
        let export = self.export;
        Ok((queue.adopted(export).await?.count > 0).then(|| {
            format!(
                "this queue is the one that took export {export} in: nothing is removed; the receipt is for the queue that it came from"
            )
        }))
    }

    /// The next few.
    pub(super) async fn step(&mut self, desk: Desk<'_>) -> Result<Vec<Answer>, QueueError> {
        if let Some(running) = desk.daemon {
            running.log.flowing().await;
        }
        if let Some(objection) = self.objection(desk.queue).await? {
            self.ids.clear();
            return Ok(vec![Answer::Fault(objection)]);
        }
        let few: Vec<String> = self.ids.drain(..self.ids.len().min(PAGE)).collect();
        let ids: Vec<QueueId> = few.iter().filter_map(|id| id.parse().ok()).collect();
        let done = desk.queue.leave(self.export, ids.clone()).await;
        let asked = format!("export {} has arrived elsewhere", self.export);
        let mut answers = Vec::with_capacity(ids.len());
        for (id, done) in ids.into_iter().zip(done) {
            match done {
                Ok(()) => {
                    audit::steered(&Steered { action: "remove", id, recipients: None, asked: &asked, by: &self.by });
                    answers.push(Answer::Done(id.to_string()));
                    self.has_removed = true;
                }
                Err(QueueError::NotFound(_)) => answers.push(Answer::Gone(id.to_string())),
                Err(QueueError::Known(_)) => answers.push(Answer::Present(id.to_string())),
                Err(fault) => return Err(fault),
            }
        }
        // A queue that had none of its messages may be the one that is to take them in.
        if self.ids.is_empty() && self.has_removed {
            desk.queue.settle(self.export).await?;
        }
        Ok(answers)
    }

    pub(super) fn is_over(&self) -> bool {
        self.ids.is_empty()
    }
}
