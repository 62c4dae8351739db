//! What follows when a delivery panics: a defect of ours, at which one message must not stand still for ever, nor what its identity sends behind it.
//!
//! | it has panicked                                                | the message                                                                   |
//! |----------------------------------------------------------------|-------------------------------------------------------------------------------|
//! | once or twice in a row                                         | is put off as by any attempt that came to nothing, and counted                |
//! | [`DEADLY`] times                                               | is dead: an upstream may have it each time                                    |
//! | as often, while more than [`PECULIAR_MAX`] other messages do so too | is put off: no message is to blame, and all mail would be among the dead |
//! | when the schedule gives it up                                  | is dead                                                                       |
//!
//! Dead is kept, listed, counted, told in the log. No report is made of it here: making one may be the very thing that panics. Panics are counted in memory,
//! for a start is often what mends them. Never: panics itself; gives out at once what an upstream may have (the wait is the schedule's).

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;

use super::deliver;
use super::turn::{Purpose, Turn};
use crate::audit;
use crate::house::House;
use crate::mail::QueueId;
use crate::queue::schedule::{Plan, Warned};
use crate::queue::{Claim, Conclusion, Next, QueueError, Record, Tried};
use crate::sys::tasks::said;

/// Panics in a row after which a message is dead.
const DEADLY: u32 = 3;

/// Messages at which deliveries panic at the same time, and each may be to blame for itself; where there are more, it is what all have in common.
const PECULIAR_MAX: usize = 16;

/// Messages whose panics are counted.
const COUNTED_MAX: usize = 1024;

/// The messages at which the last delivery panicked, and how many have in a row.
#[derive(Debug, Default)]
pub(super) struct Defects(Mutex<BTreeMap<QueueId, u32>>);

/// What follows a panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    PutOff,
    Dead,
}

impl Defects {
    fn counts(&self) -> MutexGuard<'_, BTreeMap<QueueId, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, id: QueueId) -> Verdict {
        let mut counts = self.counts();
        if counts.len() >= COUNTED_MAX && !counts.contains_key(&id) {
            return Verdict::PutOff;
        }
        let count = counts.entry(id).or_default();
        *count = count.saturating_add(1);
        if *count < DEADLY || counts.len() > PECULIAR_MAX { Verdict::PutOff } else { Verdict::Dead }
    }

    /// It did not panic; or there is nothing left that could.
    fn forget(&self, id: QueueId) {
        self.counts().remove(&id);
    }
}

/// Delivers, and survives it.
pub(super) async fn deliver_or_put_off(turn: Turn, house: &House, defects: &Defects) {
    let (stand_in, purpose) = (turn.claim.stand_in(), turn.purpose);
    let id = stand_in.id();
    let Err(panic) = AssertUnwindSafe(Box::pin(deliver(turn, house))).catch_unwind().await else {
        if purpose == Purpose::Try {
            defects.forget(id);
        }
        return;
    };
    let why = format!("sealpost failed while it tried this message, which is a defect of it: {}", words(&*panic));
    tracing::error!(%id, panic = words(&*panic), "a delivery panicked: this is a defect of sealpost, please report it; the message is put off");
    match stand_in.claim().await {
        Ok(Some(claim)) => put_off(claim, why, house, defects).await,
        // It was recorded before, or somebody has removed it.
        Ok(None) => defects.forget(id),
        Err(fault) => {
            tracing::error!(%id, %fault, "its message can't be put off; it is tried again when its claim has run out")
        }
    }
}

async fn put_off(claim: Claim, why: String, house: &House, defects: &Defects) {
    let record = claim.record();
    let (id, identity) = (claim.id(), record.custodian.identity.clone());
    let next = match defects.note(id) {
        Verdict::PutOff => next(record, &why, house),
        Verdict::Dead => Next::Dead(why.clone()),
    };
    let dead = matches!(next, Next::Dead(_));
    if dead {
        defects.forget(id);
    }
    let tried = |recipient| {
        let put_off = Tried::by_nobody(recipient, why.clone());
        // Who may have it from an attempt before is still asked first.
        match record.undetermined_upstream(&[recipient]) {
            Some(upstream) => Tried { upstream: upstream.to_owned(), ..put_off },
            None => put_off,
        }
    };
    let outcomes = record.open_recipients().into_iter().map(tried).collect();
    let conclusion = Conclusion { outcomes, next, report: None, warned: record.warned };
    match claim.conclude_surely(conclusion).await {
        Ok(_) if dead => {
            audit::dead(id, &identity, &why);
            house.counts.dead();
        }
        Ok(_) | Err(QueueError::Fenced(_) | QueueError::NotFound(_)) => {}
        Err(fault) => {
            tracing::error!(%id, %fault, "its message can't be put off; it is tried again when its claim has run out")
        }
    }
}

/// When it is tried again, if ever.
fn next(record: &Record, why: &str, house: &House) -> Next {
    let (at, attempts) = (house.moment(record.waits_since()), record.attempts.saturating_add(1));
    match house.snapshot().schedule.next(at, attempts, Warned::from(record.warned), house.entropy.next_u64()) {
        Plan::Retry { at, .. } => Next::Retry(at),
        Plan::GiveUp => Next::Dead(why.to_owned()),
    }
}

/// What it said, without what could make a line of many.
fn words(panic: &(dyn Any + Send)) -> &str {
    said(panic).lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> QueueId {
        QueueId::from_u128(u128::try_from(number).unwrap())
    }

    fn verdicts(defects: &Defects, number: usize, times: usize) -> Vec<Verdict> {
        (0..times).map(|_| defects.note(id(number))).collect()
    }

    #[test]
    fn the_third_panic_in_a_row_is_deadly_and_not_the_third_of_all() {
        use Verdict::{Dead, PutOff};
        let defects = Defects::default();
        assert_eq!(verdicts(&defects, 1, 2), [PutOff, PutOff]);
        defects.forget(id(1));
        assert_eq!(verdicts(&defects, 1, 4), [PutOff, PutOff, Dead, Dead]);
        assert_eq!(verdicts(&defects, 2, 3), [PutOff, PutOff, Dead], "each for itself");
    }

    #[test]
    fn where_very_many_panic_none_is_to_blame_until_few_are_left() {
        let defects = Defects::default();
        (0..=PECULIAR_MAX).for_each(|number| drop(verdicts(&defects, number, 2)));
        assert_eq!(defects.note(id(0)), Verdict::PutOff);
        defects.forget(id(1));
        assert_eq!(defects.note(id(0)), Verdict::Dead);
    }

    #[test]
    fn however_many_panic_no_more_are_counted_than_there_is_room_for() {
        let defects = Defects::default();
        (0..COUNTED_MAX + 100).for_each(|number| assert_eq!(defects.note(id(number)), Verdict::PutOff));
        assert_eq!(defects.counts().len(), COUNTED_MAX);
    }
}
