//! One claim from the queue to an outcome. `deliver` can be read aloud: claim, route, upstream, outcome, record.
//!
//! What is to follow an attempt is decided by [`conclusion`], a pure function. Never: bounces mail for a fault of ours or of the upstream;
//! lets a failed recipient vanish without a report or a place among the dead.

pub mod conclusion;
mod stored;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::audit;
use crate::house::House;
use crate::mail::QueueId;
use crate::queue::{
    Certainty, Claim, Conclusion, Custodian, Deposit, Next, Outcome, QueueError, Record, TraceFacts, Tried,
};
use crate::report::{self, NoReport, Original, Report, Reported};
use crate::snapshot::Snapshot;
use crate::upstream::{Retry, UpstreamFault};
use conclusion::Plan;
use stored::Stored;

/// Deliveries under way at once; each upstream's own limit on connections lies below.
pub const DELIVERIES_MAX: usize = 256;

/// How often a claim is prolonged while its attempt goes on; well within the lease of an hour.
const RENEW_EVERY: Duration = Duration::from_secs(600);

/// On whose authority our own reports are sent, in the queue's listing and the audit.
const REPORTS: &str = "reports";

/// Takes claims from the queue, each into a task of its own, until the drain begins.
pub async fn run(house: Arc<House>) {
    let places = Arc::new(Semaphore::new(DELIVERIES_MAX));
    let mut drain = house.tasks.drain();
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            // Who sent what must be told: nothing new is sent while the log does not keep up.
            house.log.flowing().await;
            (place, house.queue.claim().await)
        };
        let (place, claim) = tokio::select! {
            biased;
            () = drain.wait() => return,
            next = next => next,
        };
        let working = Arc::clone(&house);
        house.tasks.spawn("delivery", async move {
            Box::pin(deliver(claim, &working)).await;
            drop(place);
        });
    }
}

/// Tries one claimed message once: every route, each route's upstreams in order, and records what came of it.
async fn deliver(claim: Claim, house: &House) {
    let snapshot = house.snapshot();
    let tried = tokio::select! {
        tried = hand_over(&claim, &snapshot, house) => tried,
        // Somebody else has the message now; what this attempt did can't be recorded any more.
        () = keep(&claim) => return,
    };
    let now = house.now().wall;
    let mut plan = conclusion::plan(claim.record(), tried, &snapshot.schedule, now, house.entropy.next_u64());
    let report = match compose(&claim, &plan, &snapshot, house).await {
        Ok(report) => report,
        Err(NoReport::NullSender | NoReport::NotWanted) => None,
        Err(fault @ NoReport::NotComposed) => {
            plan.untold(&fault.to_string());
            None
        }
    };
    note_outcomes(claim.record(), &plan);
    let consequence = Consequence::of(claim.record(), &plan, report.as_ref());
    let conclusion = Conclusion {
        outcomes: plan.outcomes,
        next: plan.next,
        report: report.map(|report| deposit(report, claim.record(), &snapshot, house)),
        warned: plan.warned,
    };
    match claim.conclude(conclusion).await {
        Ok(report) => consequence.note(report),
        Err(fault @ (QueueError::Fenced(_) | QueueError::NotFound(_))) => tracing::warn!(
            id = %consequence.id, %fault,
            "nothing is recorded of this attempt: the message was set aside as damaged, removed, or claimed anew meanwhile"
        ),
        // Promise 4: this is one of the windows. The message stays as it was and is tried again when its claim has run out.
        Err(fault) => tracing::error!(
            id = %consequence.id, %fault,
            "the outcome could not be recorded; the message stays queued and may arrive twice"
        ),
    }
}

/// Prolongs the claim as long as the attempt goes on. Ends when the claim is lost.
async fn keep(claim: &Claim) {
    loop {
        tokio::time::sleep(RENEW_EVERY).await;
        if let Err(fault) = claim.renew() {
            tracing::error!(id = %claim.id(), %fault, "the claim is lost; the attempt ends without a record");
            return;
        }
    }
}

async fn hand_over(claim: &Claim, snapshot: &Snapshot, house: &House) -> Vec<Tried> {
    let record = claim.record();
    let routed = snapshot.routes.part(&record.envelope, &record.custodian, &record.open_recipients());
    let mut tried = Vec::new();
    for group in routed.groups {
        let first = record.undetermined_upstream(&group.recipients);
        let mut body = Stored::new(claim);
        let handover =
            house.courier.hand_over(&group.upstreams, first, &record.envelope, &group.recipients, &mut body).await;
        for fault in &handover.faults {
            alarm(fault);
        }
        for (recipient, outcome, upstream) in handover.outcomes {
            let unknown = handover.undetermined.iter().any(|(place, _)| *place == recipient);
            let certainty = if unknown { Certainty::Undetermined } else { Certainty::Known };
            tried.push(Tried { recipient, upstream, outcome, certainty });
        }
    }
    tried.extend(routed.nowhere.into_iter().map(|recipient| Tried {
        recipient,
        upstream: "-".to_owned(),
        outcome: Outcome::Deferred {
            reason: "no route of the configuration takes this recipient".to_owned(),
            reply: None,
        },
        certainty: Certainty::Known,
    }));
    tried
}

/// What is wrong with an upstream is told to the operator, loudly when nothing but a repair helps.
fn alarm(fault: &UpstreamFault) {
    match fault.retry() {
        Retry::HelpsAfterRepair => {
            tracing::error!(upstream = fault.upstream, %fault, "an upstream needs a repair; mail waits")
        }
        Retry::Helps => {
            tracing::warn!(upstream = fault.upstream, %fault, "an upstream can't take mail; it is tried again")
        }
    }
}

/// The report that the plan asks for; none when nobody is to be told.
async fn compose(claim: &Claim, plan: &Plan, snapshot: &Snapshot, house: &House) -> Result<Option<Report>, NoReport> {
    if plan.tell.is_empty() {
        return Ok(None);
    }
    let record = claim.record();
    let excerpt = Stored::new(claim).excerpt(report::WHOLE_MAX).await;
    let original = Original {
        id: record.id,
        envelope: &record.envelope,
        arrived: record.trace.arrived,
        header: excerpt.header(),
        whole: excerpt.whole(record.length),
    };
    let now = house.now().wall;
    let recipients: Vec<Reported<'_>> = plan
        .tell
        .iter()
        .filter_map(|&(place, fate)| {
            let tried = plan.outcomes.iter().find(|one| one.recipient == place)?;
            Some(Reported {
                place,
                fate,
                outcome: &tried.outcome,
                upstream: snapshot.routes.host_of(&tried.upstream),
                last_attempt: now,
            })
        })
        .collect();
    let random = u128::from(house.entropy.next_u64()) << 64 | u128::from(house.entropy.next_u64());
    report::compose(&snapshot.reporter, &original, &recipients, now, random).map(Some)
}

/// A report is mail of our own: from nobody, on the authority of the message it is about.
fn deposit(report: Report, about: &Record, snapshot: &Snapshot, house: &House) -> (Deposit, Vec<u8>) {
    let deposit = Deposit {
        envelope: report.envelope,
        custodian: Custodian { identity: REPORTS.to_owned(), ca: None, fingerprint: String::new(), chain: Vec::new() },
        trace: TraceFacts {
            client: format!("report on {}", about.id),
            helo: snapshot.reporter.hostname.clone(),
            protocol: "local".to_owned(),
            tls: String::new(),
            arrived: house.now().wall,
            message_id: Some(report.message_id),
        },
    };
    (deposit, report.octets)
}

fn note_outcomes(record: &Record, plan: &Plan) {
    for one in &plan.outcomes {
        if let Some(recipient) = record.envelope.recipients().get(one.recipient) {
            audit::attempted(record, &recipient.forward_path, &one.upstream, &one.outcome);
        }
    }
}

/// What the audit tells once it is on stable storage, and not before: a report, a death.
struct Consequence {
    id: QueueId,
    identity: String,
    /// Message-ID of the report, to whom, about whom.
    report: Option<(String, String, String)>,
    dead: Option<String>,
}

impl Consequence {
    fn of(record: &Record, plan: &Plan, report: Option<&Report>) -> Self {
        let about = |report: &Report| {
            let told = report.told.iter().filter_map(|&place| record.envelope.recipients().get(place));
            told.map(|one| one.forward_path.as_str()).collect::<Vec<_>>().join(",")
        };
        let to = record.envelope.reverse_path().as_str();
        Self {
            id: record.id,
            identity: record.custodian.identity.clone(),
            report: report.map(|report| (report.message_id.clone(), to.to_owned(), about(report))),
            dead: match &plan.next {
                Next::Dead(reason) => Some(reason.clone()),
                Next::Retry(_) | Next::Finished => None,
            },
        }
    }

    /// `report_id` is the report's own name in the queue.
    fn note(&self, report_id: Option<QueueId>) {
        if let (Some((report, to, about)), Some(report_id)) = (&self.report, report_id) {
            audit::reported(self.id, report_id, to, about, report);
        }
        if let Some(reason) = &self.dead {
            audit::dead(self.id, &self.identity, reason);
        }
    }
}
