//! One claim from the queue to an outcome. `deliver` can be read aloud: claim, route, upstream, outcome, record.
//!
//! What is to follow an attempt is decided by [`conclusion`], a pure function. While every upstream of a route is left alone, its mail waits in a lane: one
//! message is taken as the probe when its time comes, and those whose senders must be told that they wait too long. A hundred thousand of them cost a look
//! every hour, none of them an attempt, and no other route's mail a wait. See `turn` and `rounds`. What a panic of ours leaves behind is `defect`'s.
//!
//! Never: bounces mail for a fault of ours or of the upstream; lets a failed recipient vanish without a report or a place among the dead.

pub mod active;
mod astray;
pub mod conclusion;
mod defect;
mod lanes;
mod meanwhile;
mod rounds;
mod standing;
mod stored;
mod turn;

use std::sync::Arc;
use std::time::Duration;

use crate::audit;
use crate::house::House;
use crate::mail::QueueId;
use crate::queue::{Claim, Conclusion, Custodian, Deposit, Next, QueueError, Record, TraceFacts, Tried};
use crate::report::{self, NoReport, Original, Report, Reported};
use crate::route::Group;
use crate::snapshot::{Snapshot, SoftBounce};
use crate::upstream::{Course, LeftAlone, Parcel, Probe, Progress};
use active::Trying;
use conclusion::{Brought, Plan};
use meanwhile::{Meanwhile, Noted};
use stored::Stored;
use turn::{Purpose, Turn, Turns, UnderWay};

/// How long a message is put off at most that found its upstreams left alone when its turn came, and at least.
const PUT_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// How often a claim is prolonged while its attempt goes on; well within the lease of an hour.
const RENEW_EVERY: Duration = Duration::from_secs(600);

/// Takes claims from the queue, each into a task of its own, until the drain begins.
pub async fn run(house: Arc<House>) {
    let mut drain = house.tasks.drain();
    house.tasks.spawn_vital("times of the queue", astray::run(Arc::clone(&house)));
    let mut turns = Turns::new(&house);
    let defects = Arc::new(defect::Defects::default());
    loop {
        let next = async {
            // Who sent what must be told: nothing new is sent while the log does not keep up.
            house.log.flowing().await;
            Box::pin(turns.next(&house)).await
        };
        let turn = tokio::select! {
            biased;
            () = drain.wait() => return,
            turn = next => turn,
        };
        let (working, defects) = (Arc::clone(&house), Arc::clone(&defects));
        house.tasks.spawn("delivery", async move {
            defect::deliver_or_put_off(turn, &working, &defects).await;
        });
    }
}

/// Tries one claimed message once: every route, each route's upstreams in order, and records what came of it.
async fn deliver(turn: Turn, house: &House) {
    let Turn { claim, purpose, probe, under_way } = turn;
    let snapshot = house.snapshot();
    if let Some(reason) = standing::lapsed(claim.record(), &snapshot, house.now().wall) {
        // What this message does not need to find out, another may: the probe goes back.
        drop(probe);
        return stop(claim, reason).await;
    }
    let since = claim.record().waits_since();
    if let Some(reason) = conclusion::is_too_late(claim.record(), house.moment(since)) {
        drop(probe);
        let _concluding = under_way.over().await;
        return expire(claim, reason, &snapshot, house).await;
    }
    if purpose == Purpose::Tell {
        let _concluding = under_way.over().await;
        return match conclusion::plan_in_line(claim.record(), &snapshot.schedule, house.moment(since)) {
            Some(plan) => conclude(claim, plan, &Noted::default(), &snapshot, house).await,
            None => claim.give_back(),
        };
    }
    // Until what came of it is recorded.
    let trying = house.active.begin(claim.id(), house.now());
    let handed_over = hand_over(&claim, probe, &under_way, &trying, &snapshot, house);
    let Some((handed, meanwhile)) = keeping(&claim, handed_over).await else {
        return;
    };
    // Its connection is free: the next may begin while this one is recorded. Where the disk hangs, the claim must outlast it.
    let is_open = meanwhile.is_open();
    let over = async { (under_way.over().await, is_open.then(|| claim.attempt_is_over())) };
    let ended = async { tokio::join!(over, meanwhile.end()) };
    let Some(((_concluding, _is_over), noted)) = keeping(&claim, ended).await else { return };
    let now = house.moment(since);
    let plan = match handed {
        Handed::Tried(mut brought) => {
            if snapshot.soft_bounce == SoftBounce::Yes {
                brought.tried = conclusion::softened(claim.record(), brought.tried, now);
            }
            conclusion::plan(claim.record(), brought, &snapshot.schedule, now, house.entropy.next_u64())
        }
        Handed::LeftAlone(LeftAlone { wait }, untried) => {
            match conclusion::plan_without_attempt(claim.record(), untried, &snapshot.schedule, now) {
                Some(plan) => plan,
                None => return claim.put_off(wait.clamp(PUT_OFF.0, PUT_OFF.1)),
            }
        }
    };
    conclude(claim, plan.without_telling(&noted.told), &noted, &snapshot, house).await;
}

/// Gives up what can't be delivered in the time that its sender gave, without an attempt.
async fn expire(claim: Claim, reason: &str, snapshot: &Snapshot, house: &House) {
    let untried = |recipient| Tried::by_nobody(recipient, reason);
    let open = claim.record().open_recipients().into_iter().map(untried).collect();
    let now = house.moment(claim.record().waits_since());
    match conclusion::plan_without_attempt(claim.record(), open, &snapshot.schedule, now) {
        Some(plan) => conclude(claim, plan, &Noted::default(), snapshot, house).await,
        // It was kept before this process began, whose clock may be wrong; or the clock was set between two looks at it.
        None => claim.put_off(RENEW_EVERY),
    }
}

/// Records what came of the attempt, with the report on it.
async fn conclude(claim: Claim, mut plan: Plan, noted: &Noted, snapshot: &Snapshot, house: &House) {
    let composed = async {
        match compose(&claim, &plan, snapshot, house).await {
            Ok(reports) => with_room(reports, claim.record(), house).await,
            Err(fault) => Err(fault.to_string()),
        }
    };
    let Some(reports) = keeping(&claim, composed).await else { return };
    let Reports { report, copy } = reports.unwrap_or_else(|why| {
        plan.untold(&why);
        Reports::default()
    });
    let consequence = Consequence::of(claim.record(), &plan, report.as_ref());
    let fresh = plan.outcomes.iter().filter(|one| !noted.is_logged(one.recipient));
    note_outcomes(claim.record(), fresh, house);
    plan.leave_out(&noted.recorded);
    plan.take_back(claim.record(), |place| noted.perhaps.contains_key(&place));
    let copy = copy.map(|copy| deposit(copy, claim.record(), snapshot, house));
    let conclusion = Conclusion {
        outcomes: plan.outcomes,
        next: plan.next,
        report: report.map(|report| deposit(report, claim.record(), snapshot, house)),
        warned: plan.warned,
    };
    match claim.conclude_surely(conclusion).await {
        Ok(report) => {
            consequence.note(report, house);
            if let Some(copy) = copy {
                send_copy(copy, &consequence, house).await;
            }
        }
        Err(QueueError::NotFound(_)) => tracing::info!(
            id = %consequence.id, "nothing is recorded of this attempt: the message was removed meanwhile"
        ),
        Err(fault @ QueueError::Fenced(_)) => tracing::warn!(
            id = %consequence.id, %fault, "nothing is recorded of this attempt: the message was set aside as damaged, or claimed anew, meanwhile"
        ),
        // Promise 4: this is one of the windows. The queue is closed; after the next start the message is tried again.
        Err(fault) => tracing::error!(
            id = %consequence.id, %fault,
            "the outcome could not be recorded; the message stays queued and may arrive twice"
        ),
    }
}

/// Keeps back what was sent by somebody who may not send any more. It is not lost, and nobody is told but the operator.
async fn stop(claim: Claim, reason: String) {
    let (id, identity) = (claim.id(), claim.record().custodian.identity.clone());
    let held = Conclusion { outcomes: Vec::new(), next: Next::Held(reason.clone()), report: None, warned: false };
    match claim.conclude(held).await {
        Ok(_) => audit::stopped(id, &identity, &reason),
        Err(fault) => {
            tracing::error!(%id, %fault, "a message could not be held; it is looked at again when its claim has run out")
        }
    }
}

/// Does this while the claim is kept; none when it is lost: somebody else has the message then, and what this attempt did can't be recorded any more.
async fn keeping<T>(claim: &Claim, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        done = work => Some(done),
        () = keep(claim) => None,
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

/// What came of handing a message over.
enum Handed {
    /// It was tried, for some recipients at least.
    Tried(Brought),
    /// Nobody tried it, and why, per recipient.
    LeftAlone(LeftAlone, Vec<Tried>),
}

/// Each route by itself, all at the same time: one that hangs delays no other.
async fn hand_over<'a>(
    claim: &'a Claim,
    probe: Option<Probe>,
    under_way: &UnderWay,
    trying: &Trying<'_>,
    snapshot: &'a Snapshot,
    house: &'a House,
) -> (Handed, Meanwhile<'a>) {
    let record = claim.record();
    let routed = snapshot.routes.part(&record.envelope, &record.custodian, &record.open_recipients());
    let (mut probe, progress) = (probe, Progress::default());
    let told = &progress;
    let courses = trying.goes_by(routed.groups.iter().map(|group| &group.route.name));
    let ways = routed.groups.into_iter().zip(courses).map(|(group, course)| {
        let own = probe.take_if(|probe| probe.is_for(group.route.upstreams()));
        let route = Arc::clone(&group.route.name);
        Box::pin(async move {
            let brought = hand_over_group(claim, group, own, &course, told, house).await;
            course.ends();
            under_way.has_brought(&route);
            brought
        })
    });
    let gathered = meanwhile::gather(ways.collect(), told, claim, snapshot, house).await;
    let meanwhile::Gathered { mut brought, left_alone, meanwhile } = gathered;
    if !routed.nowhere.is_empty()
        && let Some(unsaid) = house.no_route.say(house.now().mono)
    {
        tracing::error!(
            id = %claim.id(),
            recipients = routed.nowhere.len(),
            unsaid,
            "no route of the configuration takes recipients of a queued message, and it will be returned after `give_up_after`: write a [[route]] that does, or see `sealpost queue stats`"
        );
    }
    brought.tried.extend(routed.nowhere.into_iter().map(Tried::nowhere));
    let handed = match left_alone {
        Some(left_alone) if brought.tried.is_empty() => Handed::LeftAlone(left_alone, brought.untried),
        Some(_) | None => Handed::Tried(brought),
    };
    (handed, meanwhile)
}

async fn hand_over_group(
    claim: &Claim,
    group: Group,
    probe: Option<Probe>,
    course: &Course,
    progress: &Progress,
    house: &House,
) -> (Brought, Option<LeftAlone>) {
    let record = claim.record();
    let upstreams = group.route.arranged(&mut || house.entropy.next_u64());
    let first = record.undetermined_upstream(&group.recipients);
    let mut body = Stored::new(claim).noting(course);
    let parcel = Parcel::new(&record.envelope, &group.recipients).telling(progress);
    let handover = house.courier.hand_over(&upstreams, first, parcel, &mut body, probe).await;
    for fault in handover.faults.iter().filter(|fault| fault.was_tried()) {
        house.courier.alarm(&group.route.name, record.id, fault);
    }
    let outcomes = handover.tried();
    let brought = match handover.left_alone {
        None => Brought { tried: outcomes, undertakings: handover.undertakings, ..Brought::default() },
        Some(_) => Brought { untried: outcomes, ..Brought::default() },
    };
    (brought, handover.left_alone)
}

/// What is told of an attempt.
#[derive(Default)]
struct Reports {
    /// To the sender.
    report: Option<Report>,
    /// To the postmaster, of failures.
    copy: Option<Report>,
}

/// The reports that the plan asks for; none when nobody is to be told.
///
/// # Errors
/// The sender is to be told, and the report can't be written.
async fn compose(claim: &Claim, plan: &Plan, snapshot: &Snapshot, house: &House) -> Result<Reports, NoReport> {
    if plan.tell.is_empty() {
        return Ok(Reports::default());
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
            let (outcome, upstream) = plan.said_of(record, place)?;
            Some(Reported {
                place,
                fate,
                outcome,
                certainty: plan.certainty(record, place),
                upstream: snapshot.routes.host_of(upstream),
                last_attempt: plan.last_tried(record, place, now),
            })
        })
        .collect();
    let random = || u128::from(house.entropy.next_u64()) << 64 | u128::from(house.entropy.next_u64());
    let report = match report::compose(&snapshot.reporter, &original, &recipients, now, random()) {
        Ok(report) => Some(report),
        Err(NoReport::NullSender | NoReport::NotWanted) => None,
        Err(fault @ NoReport::NotComposed) => return Err(fault),
    };
    let copy = report::compose_copy(&snapshot.reporter, &original, &recipients, now, random());
    Ok(Reports { report, copy })
}

/// The same, when there is room for what the sender is told; else why there is none. Whoever has reports written that nobody takes fills nobody's room
/// but its own.
async fn with_room(reports: Reports, about: &Record, house: &House) -> Result<Reports, String> {
    let Some(report) = &reports.report else { return Ok(reports) };
    let octets = u64::try_from(report.octets.len()).unwrap_or(u64::MAX);
    match house.queue.has_room_for_report(&about.custodian.identity, octets).await {
        Err(fault @ (QueueError::Share(_) | QueueError::Full(_))) => Err(format!("no report is kept on it: {fault}")),
        // Where the store fails, that is told when the outcome is recorded.
        Ok(()) | Err(_) => Ok(reports),
    }
}

/// Puts the postmaster's copy into the queue. It is a courtesy, and not of one transaction with the report: killed just now, or without room, it is
/// missing, and the audit has it all the same. It takes room of whoever sent what it is about.
async fn send_copy((deposit, octets): (Deposit, Vec<u8>), about: &Consequence, house: &House) {
    let sending = async {
        let mut incoming = house.queue.admit(&about.identity, u64::try_from(octets.len()).ok()).await?;
        incoming.write(&octets).await?;
        incoming.commit(deposit).await
    };
    if let Err(fault) = sending.await {
        tracing::warn!(id = %about.id, %fault, "the postmaster's copy of a report could not be queued");
    }
}

/// A report is mail of our own: from nobody, on the authority of the message it is about.
fn deposit(report: Report, about: &Record, snapshot: &Snapshot, house: &House) -> (Deposit, Vec<u8>) {
    let deposit = Deposit {
        envelope: report.envelope,
        custodian: Custodian::ours(),
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

fn note_outcomes<'a>(record: &Record, outcomes: impl Iterator<Item = &'a Tried>, house: &House) {
    // None where nothing was tried: what is given up in line.
    let began = house.active.of(record.id).map(|trial| trial.began.wall.rfc3339());
    for one in outcomes {
        house.counts.attempted(&one.outcome);
        if let Some(recipient) = record.envelope.recipients().get(one.recipient) {
            audit::attempted(record, &recipient.forward_path, one, began.as_deref());
        }
    }
}

/// Tells who may have it by now. That is no outcome, and counts as none.
fn note_unanswered<'a>(record: &Record, perhaps: impl Iterator<Item = &'a Tried>, house: &House) {
    let began = house.active.of(record.id).map(|trial| trial.began.wall.rfc3339());
    for one in perhaps {
        if let Some(recipient) = record.envelope.recipients().get(one.recipient) {
            audit::unanswered(record, &recipient.forward_path, one, began.as_deref());
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
                Next::Retry(_) | Next::Finished | Next::Held(_) => None,
            },
        }
    }

    /// `report_id` is the report's own name in the queue.
    fn note(&self, report_id: Option<QueueId>, house: &House) {
        if let (Some((report, to, about)), Some(report_id)) = (&self.report, report_id) {
            audit::reported(self.id, report_id, to, about, report);
            house.counts.reported();
        }
        if let Some(reason) = &self.dead {
            audit::dead(self.id, &self.identity, reason);
            house.counts.dead();
        }
    }
}
