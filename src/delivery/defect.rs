//! What follows when a delivery panics: a defect of ours, at which one message must not stand still for ever, nor what its identity sends behind it.
//!
//! The message is put off as by any attempt that came to nothing, and counted; when the schedule gives it up it is dead: kept, listed, counted, told
//! in the log. No report is made of it here: making one may be the very thing that panics. Never: panics itself; gives out at once what an upstream may
//! have (the wait is the schedule's).

use std::any::Any;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;

use super::deliver;
use super::turn::Turn;
use crate::audit;
use crate::house::House;
use crate::queue::schedule::{Plan, Warned};
use crate::queue::{Certainty, Claim, Conclusion, NO_UPSTREAM, Next, Outcome, QueueError, Record, Tried};
use crate::sys::tasks::said;

/// Delivers, and survives it.
pub(super) async fn deliver_or_put_off(turn: Turn, house: &House) {
    let stand_in = turn.claim.stand_in();
    let Err(panic) = AssertUnwindSafe(Box::pin(deliver(turn, house))).catch_unwind().await else { return };
    let id = stand_in.id();
    let why = format!("sealpost failed while it tried this message, which is a defect of it: {}", words(&*panic));
    tracing::error!(%id, panic = words(&*panic), "a delivery panicked: this is a defect of sealpost, please report it; the message is put off");
    match stand_in.claim().await {
        Ok(Some(claim)) => put_off(claim, why, house).await,
        // It was recorded before, or somebody has removed it.
        Ok(None) => {}
        Err(fault) => {
            tracing::error!(%id, %fault, "its message can't be put off; it is tried again when its claim has run out")
        }
    }
}

async fn put_off(claim: Claim, why: String, house: &House) {
    let record = claim.record();
    let (id, identity) = (claim.id(), record.custodian.identity.clone());
    let next = next(record, &why, house);
    let dead = matches!(next, Next::Dead(_));
    let tried = |recipient| Tried {
        recipient,
        upstream: NO_UPSTREAM.to_owned(),
        outcome: Outcome::Deferred { reason: why.clone(), reply: None },
        certainty: Certainty::Known,
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
