//! What has come of a message by now, recorded while its attempt goes on.
//!
//! An attempt may last: one route hangs while another is done, a second upstream is asked for those whom the first did not take, a second transaction carries
//! those who were too many for one, and behind the final dot an upstream may be silent for ten minutes. Were all of it recorded at the end, a crash in these
//! minutes would send the message again to everybody who has it, and to whichever upstream comes first where one may have it. So these are noted after
//! [`AFTER`], or a little later where there was something to note before, and what is to be told of those who have it with them; an attempt that ends within that
//! time is recorded once.
//!
//! | known by now                                  | noted                                                               |
//! |-----------------------------------------------|---------------------------------------------------------------------|
//! | somebody has it                               | that, once and for all, and the report on it where one is wanted    |
//! | an upstream was given its end and is silent   | that it may have it; the outcome of the attempt is noted over that  |
//! | anything else                                 | nothing: it may still come otherwise                                |
//!
//! Never: decides what becomes of the message; waits for the store while somebody who tries it has something to say.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::{Pin, pin};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep};

use super::conclusion::{self, Brought, Plan};
use super::{Consequence, compose, deposit, note_outcomes, note_unanswered, with_room};
use crate::house::House;
use crate::queue::{Certainty, Claim, Outcome, Record, Tried};
use crate::snapshot::Snapshot;
use crate::upstream::{LeftAlone, Progress, SoFar, Told};

/// How long what has come of a message waits for the end of the attempt; after each recording twice as long, up to [`AFTER_MOST`]. Each writes the whole
/// record and tells of success: an upstream that takes one recipient in a transaction would have a thousand of them.
const AFTER: Duration = Duration::from_secs(1);
const AFTER_MOST: Duration = Duration::from_secs(8);

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

/// What is recorded of this attempt although it went on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Noted {
    /// Of whom the log tells that he has the message, recorded or not; and of whom that this upstream may have it.
    logged: BTreeMap<usize, Option<String>>,
    /// Who has the message.
    pub(super) recorded: BTreeSet<usize>,
    /// Those of them of whom nothing is left to tell.
    pub(super) told: BTreeSet<usize>,
    /// Whose message an upstream may have, and which.
    pub(super) perhaps: BTreeMap<usize, String>,
}

/// A recording under way; none when it came to nothing.
type Noting<'a> = Pin<Box<dyn Future<Output = Option<Noted>> + Send + 'a>>;

impl Meanwhile<'_> {
    /// Whether something is waited for that the store has still to do.
    pub(super) fn is_open(&self) -> bool {
        self.noting.is_some()
    }

    /// What was recorded, when nothing is waited for any more: what comes of the rest is recorded behind it.
    pub(super) async fn end(mut self) -> Noted {
        if let Some(noting) = self.noting.take() {
            self.noted.add(noting.await.unwrap_or_default());
        }
        self.noted
    }
}

impl Noted {
    /// Whether the log tells already that he has it.
    pub(super) fn is_logged(&self, recipient: usize) -> bool {
        self.logged.get(&recipient) == Some(&None)
    }

    /// Tells the log of those of whom it does not tell so yet. Before it is on the disk, as at the end of an attempt: a kill behind the commit must not have it in
    /// no log.
    fn log(&mut self, outcomes: &[Tried], record: &Record, house: &House) {
        let mut news = |one: &&Tried| {
            let what = (!has_it(one)).then(|| one.upstream.clone());
            self.logged.insert(one.recipient, what.clone()) != Some(what)
        };
        let (taken, unanswered): (Vec<&Tried>, Vec<&Tried>) =
            outcomes.iter().filter(&mut news).partition(|one| has_it(one));
        note_unanswered(record, unanswered.into_iter(), house);
        note_outcomes(record, taken.into_iter(), house);
    }

    fn add(&mut self, other: Self) {
        self.recorded.extend(other.recorded);
        self.told.extend(other.told);
        self.perhaps.extend(other.perhaps);
    }

    /// Whether this is to be recorded, and is not. What was taken over with the message must be known: by that it is told, once.
    fn lacks(&self, SoFar { tried, undertaking }: &SoFar) -> bool {
        if has_it(tried) {
            return undertaking.is_some() && !self.recorded.contains(&tried.recipient);
        }
        tried.certainty == Certainty::Undetermined && self.perhaps.get(&tried.recipient) != Some(&tried.upstream)
    }

    /// What of this is to be recorded, and is not; none when there is nothing.
    fn missing_of(&self, so_far: &Told) -> Option<Brought> {
        let missing: Vec<&SoFar> = so_far.values().filter(|one| self.lacks(one)).collect();
        if missing.is_empty() {
            return None;
        }
        let undertaking = |one: &&SoFar| Some((one.tried.recipient, one.undertaking?));
        let undertakings = missing.iter().filter_map(undertaking).collect();
        let tried = missing.iter().map(|one| one.tried.clone()).collect();
        Some(Brought { tried, undertakings, ..Brought::default() })
    }
}

/// Waits for all of these ways, and records meanwhile who has the message, and who may have it.
pub(super) async fn gather<'a, W>(
    ways: Vec<W>,
    progress: &Progress,
    claim: &'a Claim,
    snapshot: &'a Snapshot,
    house: &'a House,
) -> Gathered<'a>
where
    W: Future<Output = (Brought, Option<LeftAlone>)> + Send,
{
    let mut ways: FuturesUnordered<W> = ways.into_iter().collect();
    let (mut gathered, mut so_far) = (Gathered::default(), Told::new());
    let mut noting: Option<Noting<'a>> = None;
    // Since the first of what was not looked at yet was told.
    let (mut wait, mut is_news, mut pause) = (pin!(sleep(AFTER)), false, AFTER);
    loop {
        tokio::select! {
            biased;
            way = ways.next() => {
                let Some((one, alone)) = way else { break };
                // What was told before it was all over, first: its end is the last word.
                so_far.extend(progress.take());
                if !ways.is_empty() {
                    so_far.extend(told_by(&one));
                }
                gathered.brought.add(one);
                gathered.left_alone = gathered.left_alone.take().or(alone);
            }
            told = progress.news() => so_far.extend(told),
            noted = end_of(&mut noting) => {
                noting = None;
                match noted {
                    Some(noted) => {
                        gathered.meanwhile.noted.add(noted);
                        continue;
                    }
                    // A disk that did not read just then may do so later.
                    None => is_news = false,
                }
            }
            () = &mut wait, if is_news && noting.is_none() => {
                is_news = false;
                if let Some(brought) = gathered.meanwhile.noted.missing_of(&so_far) {
                    let plan = conclusion::plan_meanwhile(claim.record(), brought, house.now().wall);
                    gathered.meanwhile.noted.log(&plan.outcomes, claim.record(), house);
                    noting = Some(Box::pin(note(claim, plan, snapshot, house)));
                    pause = pause.saturating_mul(2).min(AFTER_MOST);
                }
                continue;
            }
        }
        if !is_news {
            wait.as_mut().reset(behind(pause));
            is_news = true;
        }
    }
    gathered.meanwhile.noting = noting;
    gathered
}

/// What a route brought at its end, recipient by recipient.
fn told_by(brought: &Brought) -> Told {
    let undertakings: BTreeMap<_, _> = brought.undertakings.iter().copied().collect();
    let told = brought.tried.iter().map(|tried| {
        let undertaking = undertakings.get(&tried.recipient).copied();
        (tried.recipient, SoFar { tried: tried.clone(), undertaking })
    });
    told.collect()
}

fn has_it(one: &Tried) -> bool {
    matches!(one.outcome, Outcome::Delivered { .. })
}

/// So long from now, by tokio's clock, which a test may hold or push on.
fn behind(pause: Duration) -> Instant {
    sleep(pause).deadline()
}

/// What comes of it; nothing when there is nothing to come.
async fn end_of(noting: &mut Option<Noting<'_>>) -> Option<Noted> {
    match noting {
        Some(noting) => noting.await,
        None => std::future::pending().await,
    }
}

/// Records who has it, and who may have it. What can't be told yet, since there is no room for the report, is told at the end of the attempt; what could not be
/// recorded is none.
async fn note(claim: &Claim, plan: Plan, snapshot: &Snapshot, house: &House) -> Option<Noted> {
    let record = claim.record();
    let reports = match compose(claim, &plan, snapshot, house).await {
        Ok(reports) => with_room(reports, record, house).await.ok(),
        Err(_) => None,
    };
    let (taken, perhaps): (Vec<&Tried>, Vec<&Tried>) = plan.outcomes.iter().partition(|one| has_it(one));
    let recorded: BTreeSet<usize> = taken.iter().map(|one| one.recipient).collect();
    let told = if reports.is_some() { recorded.clone() } else { BTreeSet::new() };
    let perhaps = perhaps.iter().map(|one| (one.recipient, one.upstream.clone())).collect();
    let report = reports.and_then(|reports| reports.report);
    let consequence = Consequence::of(record, &plan, report.as_ref());
    let report = report.map(|report| deposit(report, record, snapshot, house));
    match claim.note(plan.outcomes, report).await {
        Ok(report) => {
            consequence.note(report, house);
            Some(Noted { recorded, told, perhaps, ..Noted::default() })
        }
        // The claim is lost, the message gone, or the queue closed: the end of the attempt comes to nothing as well, and tells. Or the disk could not read the
        // record just now: it is tried again, and recorded at the end at the latest.
        Err(fault) => {
            tracing::debug!(id = %claim.id(), %fault, "what had come of the message by then could not be recorded while it was tried");
            None
        }
    }
}
