//! One claim from the queue to an outcome. [`deliver`] can be read aloud: claim, route, upstream, outcome, record.
//!
//! What is to follow an attempt is decided by [`conclusion`], a pure function. Never: bounces mail for a fault of ours or of the upstream;
//! lets a failed recipient vanish without a report or a place among the dead.

pub mod conclusion;

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::audit;
use crate::house::House;
use crate::mail::Envelope;
use crate::queue::{BodyReader, Claim, Outcome};
use crate::route::Group;
use crate::snapshot::Snapshot;
use crate::upstream::{Attempt, MessageBody, Upstream};

/// Deliveries under way at once; the upstreams' own connection limits lie below.
pub const DELIVERIES_MAX: usize = 256;

/// Takes claims from the queue, each into a task of its own, until the drain begins.
pub async fn run(house: Arc<House>) {
    let places = Arc::new(Semaphore::new(DELIVERIES_MAX));
    let mut drain = house.tasks.drain();
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, house.queue.claim().await)
        };
        let (place, claim) = tokio::select! {
            biased;
            () = drain.wait() => return,
            next = next => next,
        };
        let working = Arc::clone(&house);
        house.tasks.spawn("delivery", async move {
            deliver(claim, &working).await;
            drop(place);
        });
    }
}

/// Tries one claimed message once: every route, each route's upstreams in order, and records what came of it.
async fn deliver(claim: Claim, house: &House) {
    let snapshot = house.snapshot();
    let open = claim.record().open_recipients();
    let mut attempt = Attempt::default();
    for group in snapshot.routes.groups(&claim.record().envelope, &open) {
        attempt.followed_by(try_group(&claim, &group, house).await);
    }
    note_outcomes(&claim, &attempt);
    let conclusion = conclusion::conclude(claim.record(), &attempt, &snapshot.schedule, &reporter(house, &snapshot));
    note_conclusion(&claim, &conclusion);
    let id = claim.record().id;
    if let Err(fault) = claim.conclude(conclusion.into_queue()).await {
        // The message stays as it was: it will be tried again, which may deliver it twice (promise 4: a crash between the upstream's 250 and
        // our record of it is one of the windows).
        tracing::error!(%id, %fault, "the outcome could not be recorded; the message stays queued and may arrive twice");
    }
}
