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
use crate::queue::Claim;
use crate::snapshot::Snapshot;
use crate::upstream::LeftAlone;

/// How long what a route has brought waits for the other routes.
const AFTER: Duration = Duration::from_secs(1);

/// What the routes have brought, all together.
#[derive(Default)]
pub(super) struct Gathered<'a> {
    pub(super) brought: Brought,
    /// Of one of the routes.
    pub(super) left_alone: Option<LeftAlone>,
    pub(super) meanwhile: Meanwhile<'a>,
}

/// What was recorded on the way, and what is still being recorded.
#[derive(Default)]
pub(super) struct Meanwhile<'a> {
    noted: Noted,
    noting: Option<Noting<'a>>,
}

/// Of whom it is recorded, and told, what came of this attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Noted {
    pub(super) recorded: BTreeSet<usize>,
    /// Those of them of whom nothing is left to tell.
    pub(super) told: BTreeSet<usize>,
}

/// A recording under way.
type Noting<'a> = Pin<Box<dyn Future<Output = Noted> + Send + 'a>>;

impl Meanwhile<'_> {
    /// Whether something is waited for that the store has still to do.
    pub(super) fn is_open(&self) -> bool {
        self.noting.is_some()
    }

    /// What was recorded, when nothing is waited for any more: what comes of the rest is recorded behind it.
    pub(super) async fn end(self) -> Noted {
        let Self { mut noted, noting } = self;
        if let Some(noting) = noting {
            noted.add(noting.await);
        }
        noted
    }
}

impl Noted {
    fn add(&mut self, other: Self) {
        self.recorded.extend(other.recorded);
        self.told.extend(other.told);
    }
}

/// Waits for all of these ways, and records meanwhile who has the message.
pub(super) async fn gather<'a, W>(
    mut ways: Vec<W>,
    claim: &'a Claim,
    snapshot: &'a Snapshot,
    house: &'a House,
) -> Gathered<'a>
where
    W: Future<Output = (Brought, Option<LeftAlone>)> + Send,
{
    if ways.len() <= 1
        && let Some(only) = ways.pop()
    {
        let (brought, left_alone) = only.await;
        return Gathered { brought, left_alone, ..Gathered::default() };
    }
    let mut ways: FuturesUnordered<W> = ways.into_iter().collect();
    let (mut gathered, mut fresh) = (Gathered::default(), Brought::default());
    let (mut noting, mut wait): (Option<Noting<'a>>, _) = (None, Box::pin(tokio::time::sleep(AFTER)));
    loop {
        tokio::select! {
            biased;
            way = ways.next() => {
                let Some((one, alone)) = way else { break };
                if fresh.tried.is_empty() {
                    wait.set(tokio::time::sleep(AFTER));
                }
                fresh.add(one.clone());
                gathered.brought.add(one);
                gathered.left_alone = gathered.left_alone.take().or(alone);
            }
            noted = end_of(&mut noting) => {
                gathered.meanwhile.noted.add(noted);
                noting = None;
            }
            () = &mut wait, if noting.is_none() && !fresh.tried.is_empty() => {
                let plan = conclusion::plan_meanwhile(claim.record(), &std::mem::take(&mut fresh), house.now().wall);
                noting = match plan {
                    Some(plan) => Some(Box::pin(note(claim, plan, snapshot, house))),
                    None => None,
                };
            }
        }
    }
    gathered.meanwhile.noting = noting;
    gathered
}

/// What comes of it; nothing when there is nothing to come.
async fn end_of(noting: &mut Option<Noting<'_>>) -> Noted {
    match noting {
        Some(noting) => noting.await,
        None => std::future::pending().await,
    }
}

/// Records who has it. What can't be told yet, since there is no room for the report, is told at the end of the attempt.
async fn note(claim: &Claim, plan: Plan, snapshot: &Snapshot, house: &House) -> Noted {
    let reports = match compose(claim, &plan, snapshot, house).await {
        Ok(reports) => with_room(reports, claim.record(), house).await.ok(),
        Err(_) => None,
    };
    let recorded: BTreeSet<usize> = plan.outcomes.iter().map(|one| one.recipient).collect();
    let told = if reports.is_some() { recorded.clone() } else { BTreeSet::new() };
    let report = reports.and_then(|reports| reports.report);
    let consequence = Consequence::of(claim.record(), &plan, report.as_ref());
    let report = report.map(|report| deposit(report, claim.record(), snapshot, house));
    // Before it is on the disk, as at the end of an attempt: a kill behind the commit must not have it in no log.
    note_outcomes(claim.record(), plan.outcomes.iter(), house);
    match claim.note(plan.outcomes, report).await {
        Ok(report) => consequence.note(report, house),
        // The claim is lost, the message gone, or the queue closed: the end of the attempt comes to nothing as well, and tells.
        Err(fault) => {
            tracing::debug!(id = %claim.id(), %fault, "who has the message could not be recorded while it is tried for others")
        }
    }
    Noted { recorded, told }
}
