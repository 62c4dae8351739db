//! Queued mail and the routes of a new configuration, looked at after a reload that changes them, and after a start: what they take nowhere is counted, while
//! the change can still be taken back; what no route took when it was last tried, and one takes now, is made due.
//!
//! All of the queue is read for it, a page at a time, beside everything else; after a start no more of each message than a listing shows, and whole records only
//! of those that no route took. Never: changes what is held or dead, or waits for anything but a route.

use std::sync::Arc;

use crate::queue::{
    Brief, CHANGES_MAX, Change, Direction, Filter, Listed, NO_UPSTREAM, Page, Queue, QueueError, RecipientState,
    Record, Sketch as _, State,
};
use crate::route::Routes;
use crate::sys::Drain;

/// Messages of which so much as a listing shows is read at once.
const AT_ONCE: usize = 2048;

/// What a look at all of the queue came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Messages with a recipient whom the routes take nowhere.
    pub stranded: u64,
    /// Messages that were made due, because a route takes a recipient whom none took.
    pub woken: u64,
}

/// When it is looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// Behind a reload that changed the routes: what they take nowhere any more is told of all that is queued.
    Reload,
    /// Behind a start: who knows which routes there were before it? Only what none took then is looked at.
    Start,
}

/// Looks, and tells what there is to tell.
pub(super) async fn tell(queue: Queue, routes: Arc<Routes>, at: Moment, mut drain: Drain) {
    let looking = async {
        match at {
            Moment::Reload => look(&queue, &routes).await,
            Moment::Start => look_after_start(&queue, &routes).await,
        }
    };
    let found = tokio::select! {
        found = looking => found,
        () = drain.wait() => return,
    };
    match found {
        Ok(Found { stranded, woken }) => {
            if woken > 0 {
                tracing::info!(
                    messages = woken,
                    "a route of the configuration takes queued messages that none took before: they are tried now"
                );
            }
            if stranded > 0 {
                tracing::error!(
                    messages = stranded,
                    "no route of the configuration takes recipients of messages that are in the queue; they will be returned after `give_up_after`: write a [[route]] that does"
                );
            }
        }
        Err(fault) => tracing::warn!(%fault, "whether the routes take what is in the queue could not be looked up"),
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
        judge(queue, routes, listing.entries, &mut found).await?;
        after = listing.next;
        if after.is_none() {
            return Ok(found);
        }
    }
}

/// The same of those alone that no route took when they were last tried.
///
/// # Errors
///
/// [`QueueError::Broken`] when the disk fails.
pub async fn look_after_start(queue: &Queue, routes: &Routes) -> Result<Found, QueueError> {
    let (mut after, mut found) = (None, Found::default());
    loop {
        let page = Page { after, limit: AT_ONCE };
        let listing = queue.briefs(Filter { state: Some(State::Queued) }, page, Direction::OldestFirst).await?;
        let waiting: Vec<_> = listing.entries.iter().filter(|one| may_wait_for_a_route(one)).map(Listed::id).collect();
        for few in waiting.chunks(CHANGES_MAX) {
            let mut whole = Vec::with_capacity(few.len());
            for &id in few {
                match queue.show(id).await {
                    Ok(listed) => whole.push(listed),
                    // It was quick.
                    Err(QueueError::NotFound(_)) => {}
                    Err(fault) => return Err(fault),
                }
            }
            judge(queue, routes, whole, &mut found).await?;
        }
        after = listing.next;
        if after.is_none() {
            return Ok(found);
        }
    }
}

/// At most [`CHANGES_MAX`] messages.
async fn judge(queue: &Queue, routes: &Routes, entries: Vec<Listed>, found: &mut Found) -> Result<(), QueueError> {
    let mut changes = Vec::new();
    for listed in entries {
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
    Ok(())
}

fn may_wait_for_a_route(found: &Listed<Brief>) -> bool {
    let Listed::Message(message) = found else { return false };
    message.recipients().any(|(_, state)| state.open && was_nowhere(state))
}

/// The places of open recipients whom no route took when they were last tried.
fn waited_for_a_route(record: &Record) -> impl Iterator<Item = usize> {
    let nowhere = |place: &usize| record.recipients.get(*place).is_some_and(was_nowhere);
    record.open_recipients().into_iter().filter(nowhere)
}

fn was_nowhere(state: &RecipientState) -> bool {
    state.last_attempt.as_ref().is_some_and(|(_, upstream)| upstream == NO_UPSTREAM)
}
