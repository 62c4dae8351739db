//! Doing something to many messages: a few in each transaction, each few only while the log takes lines, since each deed has its line there.
//!
//! Messages that nobody named are meant as they stand when their turn comes: one that left the queue meanwhile, or changed its state, is no fault.
//! What came after the command is not meant, so that a round ends however much mail comes; what was here is, whatever the clock said when it came. Whoever
//! asked and goes away ends it where it is; the audit says of each round that was begun how far it came.
//!
//! Never: does anything to a message that was not asked for.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::look::{LEFT_OUT, Walk};
use super::selection::{Filters, Selection};
use super::{Action, Answer, Desk, Obstacle, Target};
use crate::audit::{self, Extent, Steered};
use crate::mail::QueueId;
use crate::queue::steer::CHANGES_MAX;
use crate::queue::{Brief, Change, Listed, QueueError, Sketch as _, State};
use crate::sys::WallTime;

/// How far it is.
#[derive(Debug)]
pub(super) struct Round {
    action: Action,
    by: String,
    /// What was asked for, in words.
    asked: String,
    /// Whether `--recipient` was given: then a removal takes recipients out, not messages.
    recipients_only: bool,
    left: Left,
    done: u64,
    /// What the audit says when it is dropped.
    extent: Extent,
    /// The routes whose upstreams this command has had probed: once each is enough, however many messages it names.
    probed: BTreeSet<Arc<str>>,
}

#[derive(Debug)]
enum Left {
    /// These were named; with filters besides, perhaps.
    Named(VecDeque<String>, Option<Selection>),
    All(Walk),
}

/// One message whose turn it is.
struct Turn {
    id: QueueId,
    /// What is known of it, when recipients are taken out of it.
    message: Option<Brief>,
    change: Change,
}

impl Round {
    pub(super) async fn new(
        action: Action,
        target: Target,
        filters: Filters,
        by: String,
        desk: Desk<'_>,
    ) -> Result<Self, Obstacle> {
        let now = desk.now;
        let (asked, left) = match target {
            Target::Ids(ids) if filters.is_empty() => ("by name".to_owned(), Left::Named(ids.into(), None)),
            Target::Ids(ids) => {
                let selection = Selection::new(&filters, now)?;
                (format!("by name, {}", filters.words()), Left::Named(ids.into(), Some(selection)))
            }
            Target::All => {
                let until = filters.until.map_or(now, WallTime::from_millis);
                let selection = Selection::new(&Filters { until: None, ..filters.clone() }, now)?;
                let walk = Walk::over_what_is_here(desk.queue, selection, Some(action), until, now).await?;
                (filters.words(), Left::All(walk))
            }
        };
        audit::steering(action.word(), &asked, &by);
        let recipients_only = filters.recipient.is_some() && action == Action::Remove;
        Ok(Self { action, by, asked, recipients_only, left, done: 0, extent: Extent::Part, probed: BTreeSet::new() })
    }

    /// The next few.
    pub(super) async fn step(&mut self, desk: Desk<'_>) -> Result<Vec<Answer>, QueueError> {
        if let Some(running) = desk.daemon {
            running.log.flowing().await;
        }
        let mut answers = Vec::new();
        let turns = match &mut self.left {
            Left::Named(ids, selection) => {
                let few: Vec<String> = ids.drain(..ids.len().min(CHANGES_MAX)).collect();
                named(desk, few, selection.as_ref(), self.action, self.recipients_only, &mut answers).await?
            }
            Left::All(walk) => {
                let found = walk.page(desk.queue, CHANGES_MAX).await?;
                let is_meant = |one: &Listed<Brief>| self.action != Action::Retry || !waits_as_asked(one, desk.now);
                found
                    .into_iter()
                    .filter(is_meant)
                    .map(|one| turn(one, &walk.selection, self.action, self.recipients_only))
                    .collect()
            }
        };
        self.change(desk, turns, &mut answers).await?;
        if self.is_over() {
            self.extent = Extent::Whole;
            if matches!(&self.left, Left::All(walk) if walk.has_left_out()) {
                answers.push(Answer::Fault(LEFT_OUT.to_owned()));
            }
        }
        Ok(answers)
    }

    pub(super) fn is_over(&self) -> bool {
        match &self.left {
            Left::Named(ids, _) => ids.is_empty(),
            Left::All(walk) => walk.is_over(),
        }
    }

    async fn change(&mut self, desk: Desk<'_>, turns: Vec<Turn>, answers: &mut Vec<Answer>) -> Result<(), QueueError> {
        let changes = turns.iter().map(|turn| (turn.id, turn.change.clone())).collect();
        let done = desk.queue.change(changes).await;
        for (turn, done) in turns.into_iter().zip(done) {
            answers.push(self.note(desk, turn, done).await?);
        }
        Ok(())
    }

    async fn note(&mut self, desk: Desk<'_>, turn: Turn, done: Result<(), QueueError>) -> Result<Answer, QueueError> {
        let id = turn.id.to_string();
        match done {
            Ok(()) => {}
            Err(QueueError::NotFound(_)) => {
                return Ok(match self.left {
                    Left::Named(..) => Answer::Missing(id),
                    Left::All(_) => Answer::Gone(id),
                });
            }
            Err(fault @ QueueError::Damaged(..)) => return Ok(unable(id, &fault.to_string())),
            Err(fault) => return Err(fault),
        }
        self.done = self.done.saturating_add(1);
        let recipients = match (&turn.change, &turn.message) {
            (Change::TakeOut(places), Some(message)) => {
                let paths: Vec<&str> = message.recipients().map(|(path, _)| path).collect();
                let paths = places.iter().filter_map(|&place| paths.get(place).copied());
                Some(paths.collect::<Vec<_>>().join(","))
            }
            (
                Change::Hold | Change::Release | Change::Retry | Change::Wake | Change::Remove | Change::TakeOut(_),
                _,
            ) => None,
        };
        audit::steered(&Steered {
            action: self.action.word(),
            id: turn.id,
            recipients: recipients.as_deref(),
            asked: &self.asked,
            by: &self.by,
        });
        if self.action == Action::Retry {
            self.probe(desk, turn.id).await?;
        }
        Ok(Answer::Done(id))
    }

    /// Due now; and whoever asks for that wants to know now whether its upstreams are up again, on each of its routes.
    async fn probe(&mut self, desk: Desk<'_>, id: QueueId) -> Result<(), QueueError> {
        let Some(running) = desk.daemon else { return Ok(()) };
        if running.routes.iter().all(|route| self.probed.contains(&route.name)) {
            return Ok(());
        }
        // What a listing shows does not tell the route; and of a dead one it is known now who is to have it.
        let record = match desk.queue.show(id).await {
            Ok(Listed::Message(record)) => record,
            // It was quick.
            Ok(Listed::Unreadable(..)) | Err(QueueError::NotFound(_)) => return Ok(()),
            Err(fault) => return Err(fault),
        };
        let routed = running.routes.part(&record.envelope, &record.custodian, &record.open_recipients());
        for group in routed.groups {
            if self.probed.insert(Arc::clone(&group.route.name)) {
                running.courier.probe_now(group.route.upstreams());
            }
        }
        Ok(())
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        audit::steering_ended(self.action.word(), &self.asked, self.done, self.extent, &self.by);
    }
}

/// Whether its sender wants it to wait (RFC 4865 §4.2: it must not be sent before): who makes all due means what waits for its upstream. Named, it is sent.
fn waits_as_asked(found: &Listed<Brief>, now: WallTime) -> bool {
    let Listed::Message(message) = found else { return false };
    message.state == State::Queued && message.hold_until.is_some_and(|until| until > now)
}

/// The turns of those that were named; of those that are not meant the answer says so.
async fn named(
    desk: Desk<'_>,
    ids: Vec<String>,
    selection: Option<&Selection>,
    action: Action,
    recipients_only: bool,
    answers: &mut Vec<Answer>,
) -> Result<Vec<Turn>, QueueError> {
    let mut turns = Vec::with_capacity(ids.len());
    for id in ids {
        let Ok(number) = id.parse::<QueueId>() else {
            answers.push(Answer::Missing(id));
            continue;
        };
        // Whatever its state, it can be retried or removed.
        let looks = selection.is_some() || matches!(action, Action::Hold | Action::Release);
        if !looks {
            turns.push(Turn { id: number, message: None, change: change_for(action) });
            continue;
        }
        match desk.queue.show(number).await {
            Ok(found) if selection.is_none_or(|selection| selection.matches(&found)) => {
                if let Some(why) = obstacle(action, &found) {
                    answers.push(Answer::Unable(id, why));
                    continue;
                }
                let Some(selection) = selection else {
                    turns.push(Turn { id: number, message: None, change: change_for(action) });
                    continue;
                };
                turns.push(turn(found.brief(), selection, action, recipients_only));
            }
            Ok(_) => answers.push(Answer::Unmatched(id)),
            Err(QueueError::NotFound(_)) => answers.push(Answer::Missing(id)),
            Err(fault) => return Err(fault),
        }
    }
    Ok(turns)
}

fn unable(id: String, fault: &str) -> Answer {
    Answer::Unable(id, format!("{fault}; it can only be removed"))
}

/// Why that can't be done to a message in this state. What is held may be held: so it stays.
fn obstacle(action: Action, found: &Listed) -> Option<String> {
    let Listed::Message(message) = found else { return None };
    let id = message.id;
    match (action, message.state) {
        (Action::Hold, State::Dead) => Some(format!("message {id} is dead: nobody tries it, held or not")),
        (Action::Release, State::Dead) => {
            Some(format!("message {id} is dead, not held: `sealpost queue retry` has it tried"))
        }
        (Action::Release, State::Queued) => {
            Some(format!("message {id} is queued, not held: `sealpost queue retry` has it tried now"))
        }
        (Action::Hold, State::Queued | State::Held)
        | (Action::Release, State::Held)
        | (Action::Retry | Action::Remove, State::Queued | State::Held | State::Dead) => None,
    }
}

fn turn(found: Listed<Brief>, selection: &Selection, action: Action, recipients_only: bool) -> Turn {
    let id = found.id();
    match found {
        Listed::Message(message) if recipients_only => {
            let change = Change::TakeOut(selection.recipients(&message));
            Turn { id, message: Some(message), change }
        }
        Listed::Message(message) => Turn { id, message: Some(message), change: change_for(action) },
        Listed::Unreadable(..) => Turn { id, message: None, change: change_for(action) },
    }
}

const fn change_for(action: Action) -> Change {
    match action {
        Action::Hold => Change::Hold,
        Action::Release => Change::Release,
        Action::Retry => Change::Retry,
        Action::Remove => Change::Remove,
    }
}
