//! Queued mail and the routes of a new configuration, looked at after a reload that changes them, and after a start: what they take nowhere is counted, while
//! the change can still be taken back; what no route took when it was last tried, and one takes now, is made due.
//!
//! All of the queue is passed for it, a page at a time, beside everything else, and of each message no more is read than a listing shows: a million that wait
//! for a route cost what a listing of them costs, and a change of each that is not due yet. Never: holds more than a page; changes what is held or dead, or waits
//! for anything but a route.

use std::sync::Arc;

use super::steering::breakdown::has_route;
use crate::mail::QueueId;
use crate::queue::{
    Brief, CHANGES_MAX, Change, Direction, Filter, Listed, NO_UPSTREAM, Page, Queue, QueueError, RecipientState,
    Sketch as _, State,
};
use crate::route::Routes;
use crate::sys::{Drain, WallTime};

/// Messages of which so much as a listing shows is read at once.
const AT_ONCE: usize = 2048;

/// Recipients that are looked at before others have their turn.
const LOOKED_AT_ONCE: usize = 128;

/// What a look at all of the queue came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Messages with a recipient whom the routes take nowhere.
    pub stranded: u64,
    /// Messages that are due, or were made so, because a route takes a recipient whom none took.
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
pub(super) async fn tell(queue: Queue, routes: Arc<Routes>, at: Moment, now: WallTime, mut drain: Drain) {
    let looking = async {
        match at {
            Moment::Reload => look(&queue, &routes, now).await,
            Moment::Start => look_after_start(&queue, &routes, now).await,
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
pub async fn look(queue: &Queue, routes: &Routes, now: WallTime) -> Result<Found, QueueError> {
    pass(queue, routes, now, |_| true).await
}

/// The same of those alone that no route took when they were last tried.
///
/// # Errors
///
/// [`QueueError::Broken`] when the disk fails.
pub async fn look_after_start(queue: &Queue, routes: &Routes, now: WallTime) -> Result<Found, QueueError> {
    pass(queue, routes, now, |message| waited_for_a_route(message).next().is_some()).await
}

async fn pass(
    queue: &Queue,
    routes: &Routes,
    now: WallTime,
    is_meant: fn(&Brief) -> bool,
) -> Result<Found, QueueError> {
    let (mut after, mut found) = (None, Found::default());
    loop {
        let page = Page { after, limit: AT_ONCE };
        let listing = queue.briefs(Filter { state: Some(State::Queued) }, page, Direction::OldestFirst).await?;
        for few in listing.entries.chunks(CHANGES_MAX) {
            let messages = few.iter().filter_map(|one| if let Listed::Message(one) = one { Some(one) } else { None });
            let asleep = judge(messages.filter(|one| is_meant(one)), routes, now, &mut found).await;
            wake(queue, asleep, &mut found).await?;
        }
        after = listing.next;
        if after.is_none() {
            return Ok(found);
        }
    }
}

/// Counts; and names those that a route takes now, and are not due of themselves. Lets others go on meanwhile: how many recipients a message has is its
/// sender's choice.
async fn judge(
    messages: impl Iterator<Item = &Brief>,
    routes: &Routes,
    now: WallTime,
    found: &mut Found,
) -> Vec<QueueId> {
    let (mut asleep, mut looked_at) = (Vec::new(), 0_usize);
    for message in messages {
        let (mut strands, mut goes_now) = (false, false);
        for (to, state) in message.recipients().filter(|(_, state)| state.open) {
            let has_route = has_route(message, to, routes);
            strands |= !has_route;
            goes_now |= has_route && was_nowhere(state);
            looked_at = looked_at.saturating_add(1);
            if looked_at.is_multiple_of(LOOKED_AT_ONCE) {
                tokio::task::yield_now().await;
            }
        }
        found.stranded = found.stranded.saturating_add(u64::from(strands));
        if goes_now {
            if message.due > now {
                asleep.push(message.id);
            } else {
                found.woken = found.woken.saturating_add(1);
            }
        }
    }
    asleep
}

/// At most [`CHANGES_MAX`] messages.
async fn wake(queue: &Queue, ids: Vec<QueueId>, found: &mut Found) -> Result<(), QueueError> {
    if ids.is_empty() {
        // Of a page of which nobody is woken other tasks have their turn, too.
        tokio::task::yield_now().await;
        return Ok(());
    }
    for done in queue.change(ids.into_iter().map(|id| (id, Change::Wake)).collect()).await {
        match done {
            Ok(()) => found.woken = found.woken.saturating_add(1),
            // It was quick, or can't be read.
            Err(QueueError::NotFound(_) | QueueError::Damaged(..)) => {}
            Err(fault) => return Err(fault),
        }
    }
    Ok(())
}

/// The open recipients whom no route took when they were last tried.
fn waited_for_a_route(message: &Brief) -> impl Iterator<Item = &str> {
    message.recipients().filter(|(_, state)| state.open && was_nowhere(state)).map(|(to, _)| to)
}

fn was_nowhere(state: &RecipientState) -> bool {
    state.last_attempt.as_ref().is_some_and(|(_, upstream)| upstream == NO_UPSTREAM)
}
