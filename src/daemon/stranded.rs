//! Queued mail and the routes of a new configuration, looked at after a reload that changes them: what they take nowhere is counted, while the change can
//! still be taken back; what no route took when it was last tried, and one takes now, is made due.
//!
//! All of the queue is read for it, a page at a time, beside everything else. Never: changes what is held or dead, or waits for anything but a route.

use std::sync::Arc;

use crate::queue::{CHANGES_MAX, Change, Filter, Listed, NO_UPSTREAM, Page, Queue, QueueError, Record, State};
use crate::route::Routes;
use crate::sys::Drain;

/// What a look at all of the queue came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Messages with a recipient whom the routes take nowhere.
    pub stranded: u64,
    /// Messages that were made due, because a route takes a recipient whom none took.
    pub woken: u64,
}

/// Looks, and tells what there is to tell.
pub(super) async fn tell(queue: Queue, routes: Arc<Routes>, mut drain: Drain) {
    let found = tokio::select! {
        found = look(&queue, &routes) => found,
        () = drain.wait() => return,
    };
    match found {
        Ok(Found { stranded, woken }) => {
            if woken > 0 {
                tracing::info!(
                    messages = woken,
                    "a route of the new configuration takes queued messages that none took: they are tried now"
                );
            }
            if stranded > 0 {
                tracing::error!(
                    messages = stranded,
                    "no route of the new configuration takes recipients of messages that are in the queue; they will be returned after `give_up_after`: write a [[route]] that does"
                );
            }
        }
        Err(fault) => tracing::warn!(%fault, "whether the new routes take what is in the queue could not be looked up"),
    }
}

/// Makes due what waits for a route and has one, and counts what has none.
///
/// # Errors
///
/// [`QueueError::Broken`] when the disk fails.
pub async fn look(queue: &Queue, routes: &Routes) -> Result<Found, QueueError> {
    let (mut after, mut found) = (None, Found::default());
    loop {
        let listing = queue.list(Filter { state: Some(State::Queued) }, Page { after, limit: CHANGES_MAX }).await?;
        let mut changes = Vec::new();
        for listed in listing.entries {
            let Listed::Message(record) = listed else { continue };
            let nowhere = routes.part(&record.envelope, &record.custodian, &record.open_recipients()).nowhere;
            found.stranded = found.stranded.saturating_add(u64::from(!nowhere.is_empty()));
            if waited_for_a_route(&record).any(|place| !nowhere.contains(&place)) {
                changes.push((record.id, Change::Wake));
            }
        }
        for done in queue.change(changes).await {
            match done {
                Ok(()) => found.woken = found.woken.saturating_add(1),
                // It was quick, or can't be read.
                Err(QueueError::NotFound(_) | QueueError::Damaged(..)) => {}
                Err(fault) => return Err(fault),
            }
        }
        after = listing.next;
        if after.is_none() {
            return Ok(found);
        }
    }
}

/// The places of open recipients whom no route took when they were last tried.
fn waited_for_a_route(record: &Record) -> impl Iterator<Item = usize> {
    let was_nowhere = |place: &usize| {
        let last = record.recipients.get(*place).and_then(|state| state.last_attempt.as_ref());
        last.is_some_and(|(_, upstream)| upstream == NO_UPSTREAM)
    };
    record.open_recipients().into_iter().filter(was_nowhere)
}
