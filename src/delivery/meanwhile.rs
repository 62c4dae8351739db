//! What one route of a message has brought, recorded while another still hangs.
//!
//! An upstream may be silent for ten minutes behind the end of a message. Were the outcomes of all routes recorded together, a crash in these minutes would
//! send the message again to everybody whom another upstream has long taken it for. So who has it is noted after [`AFTER`], and what is to be told of it with
//! it; the routes that end within that time are recorded once, as one attempt.
//!
//! Never: decides what becomes of the message; waits for the store while a route has something to say.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use super::conclusion::{self, Brought, Plan};
use super::{Consequence, compose, deposit, note_outcomes, with_room};
use crate::house::House;
use crate::queue::{Claim, QueueError};
use crate::snapshot::Snapshot;
use crate::upstream::LeftAlone;

/// How long what a route has brought waits for the other routes.
const AFTER: Duration = Duration::from_secs(1);

/// What the routes have brought, all together.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) brought: Brought,
    /// Of one of the routes.
    pub(super) left_alone: Option<LeftAlone>,
    /// The recipients that were recorded on the way.
    pub(super) noted: BTreeSet<usize>,
}

/// A recording under way, and whom it is about.
type Noting<'a> = Pin<Box<dyn Future<Output = BTreeSet<usize>> + Send + 'a>>;

/// Waits for all of these ways, and records meanwhile who has the message.
pub(super) async fn gather<W>(mut ways: Vec<W>, claim: &Claim, snapshot: &Snapshot, house: &House) -> Gathered
where
    W: Future<Output = (Brought, Option<LeftAlone>)> + Send,
{
    if ways.len() <= 1
        && let Some(only) = ways.pop()
    {
        let (brought, left_alone) = only.await;
        return Gathered { brought, left_alone, noted: BTreeSet::new() };
    }
    let mut ways: FuturesUnordered<W> = ways.into_iter().collect();
    let (mut gathered, mut fresh) = (Gathered::default(), Brought::default());
    let (mut noting, mut wait): (Option<Noting<'_>>, _) = (None, Box::pin(tokio::time::sleep(AFTER)));
    loop {
        tokio::select! {
            biased;
            way = ways.next() => {
                let Some((one, alone)) = way else { break };
                if fresh.tried.is_empty() {
                    wait.as_mut().reset(tokio::time::Instant::now() + AFTER);
                }
                fresh.add(one.clone());
                gathered.brought.add(one);
                gathered.left_alone = gathered.left_alone.take().or(alone);
            }
            noted = end_of(&mut noting) => {
                gathered.noted.extend(noted);
                noting = None;
            }
            () = &mut wait, if noting.is_none() && !fresh.tried.is_empty() => {
                let plan = conclusion::plan_meanwhile(claim.record(), &std::mem::take(&mut fresh), house.now().wall);
                noting = plan.map(|plan| Box::pin(note(claim, plan, snapshot, house)) as Noting<'_>);
            }
        }
    }
    // What comes of the rest is recorded behind it, whatever the store does.
    if let Some(noting) = noting {
        gathered.noted.extend(noting.await);
    }
    gathered
}

/// What comes of it; nothing when there is nothing to come.
async fn end_of(noting: &mut Option<Noting<'_>>) -> BTreeSet<usize> {
    match noting {
        Some(noting) => noting.await,
        None => std::future::pending().await,
    }
}

/// Records who has it; whom that is about, when it stands on the disk. What can't be told yet is recorded with all the rest.
async fn note(claim: &Claim, plan: Plan, snapshot: &Snapshot, house: &House) -> BTreeSet<usize> {
    let reports = match compose(claim, &plan, snapshot, house).await {
        Ok(reports) => with_room(reports, claim.record(), house).await.ok(),
        Err(_) => None,
    };
    let Some(reports) = reports else { return BTreeSet::new() };
    let consequence = Consequence::of(claim.record(), &plan, reports.report.as_ref());
    let report = reports.report.map(|report| deposit(report, claim.record(), snapshot, house));
    match claim.note(plan.outcomes.clone(), report).await {
        Ok(report) => {
            note_outcomes(claim.record(), &plan, house);
            consequence.note(report, house);
            plan.outcomes.iter().map(|one| one.recipient).collect()
        }
        // The end of the attempt tells.
        Err(QueueError::Fenced(_) | QueueError::NotFound(_)) => BTreeSet::new(),
        Err(fault) => {
            tracing::warn!(id = %claim.id(), %fault, "who has the message could not be recorded while it is tried for others; it is recorded with them");
            BTreeSet::new()
        }
    }
}
