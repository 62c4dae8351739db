//! Looks after what the wall clock does to the queue: it tells when that was set, and makes due what would wait for a moment of a clock that is no more.
//!
//! A message that was put off is due at a moment of the wall clock. Where that was set back, also between two starts, the moment has moved away: what is
//! due later than the schedule ever puts off, and not because its sender asked for it (RFC 4865), is due now. What is nearer waits for one step of the
//! schedule at most, as any mail does.
//!
//! Looked for at the start, when a step of the clock was seen, and every hour: then also what was put off in a moment between two looks. Never: tries or
//! gives up anything.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use crate::house::House;
use crate::queue::{Claim, Conclusion, Late, Next, QueueError};
use crate::sys::{MonoTime, Step};

/// How often it is looked whether the clock was set.
const LOOK: Duration = Duration::from_secs(60);
/// How often mail is looked for that is due too late, where no step was seen.
const ROUND: Duration = Duration::from_secs(3600);
/// Messages that are made due together.
const TOGETHER: usize = 64;

/// Until the drain begins.
pub(super) async fn run(house: Arc<House>) {
    let mut drain = house.tasks.drain();
    let mut next_round = MonoTime::from_start(Duration::ZERO);
    loop {
        let now = house.now();
        house.steps.note(now);
        let steps = house.steps.take_untold();
        for step in &steps {
            tell(*step);
        }
        if !steps.is_empty() || now.mono >= next_round {
            next_round = now.mono.after(ROUND);
            let done = tokio::select! {
                done = make_due(&house) => done,
                () = drain.wait() => return,
            };
            match done {
                Ok(0) => {}
                Ok(messages) => tracing::warn!(
                    messages,
                    "messages were due later than `retry` ever puts off: the clock was set back since, or `retry` was shortened; they are tried now"
                ),
                Err(fault) => {
                    tracing::error!(%fault, "mail that is due too late can't be looked for; it is tried again")
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = drain.wait() => return,
        }
    }
}

fn tell(step: Step) {
    let seconds = |by: Duration| by.as_secs();
    match step {
        Step::Forward(by) => tracing::warn!(
            seconds = seconds(by),
            "the clock of this machine was set forward, or the machine slept: no message counts as older for it"
        ),
        Step::Back(by) => tracing::warn!(
            seconds = seconds(by),
            "the clock of this machine was set back: what is due later than `retry` ever puts off is tried now"
        ),
    }
}

/// Makes due what is astray; how many that were.
async fn make_due(house: &House) -> Result<u64, QueueError> {
    let late = Late::astray(house.snapshot().schedule.furthest(house.now().wall));
    let (mut place, mut count) = (None, 0_u64);
    loop {
        let (mut found, mut failed) = (Vec::new(), None);
        while found.len() < TOGETHER {
            match house.queue.claim_late(late, &mut place).await {
                Ok(Some(claim)) => found.push(claim),
                Ok(None) => break,
                // What is claimed by then must not wait for its lease.
                Err(fault) => {
                    failed = Some(fault);
                    break;
                }
            }
        }
        let is_last = found.len() < TOGETHER;
        for done in join_all(found.into_iter().map(|claim| make_one_due(claim, house))).await {
            match done {
                Ok(()) => count = count.saturating_add(1),
                // An operator changed it at the same moment, and has seen what is due.
                Err(QueueError::Fenced(_) | QueueError::NotFound(_)) => {}
                Err(fault) => failed = failed.or(Some(fault)),
            }
        }
        if let Some(fault) = failed {
            return Err(fault);
        }
        if is_last {
            return Ok(count);
        }
    }
}

/// Nothing was tried, so no attempt is counted.
async fn make_one_due(claim: Claim, house: &House) -> Result<(), QueueError> {
    let due = Conclusion {
        outcomes: Vec::new(),
        next: Next::Retry(house.now().wall),
        report: None,
        warned: claim.record().warned,
    };
    claim.conclude(due).await.map(drop)
}
