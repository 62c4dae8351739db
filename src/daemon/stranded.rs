//! Queued mail that the routes of a new configuration take nowhere: counted after a reload that changes them, while the change can still be taken back.
//!
//! All of the queue is read for it, a page at a time, beside everything else. Never: changes anything.

use std::sync::Arc;

use crate::queue::{Filter, Listed, Page, Queue, QueueError, State};
use crate::route::Routes;
use crate::sys::Drain;

/// Messages that are read together.
const PAGE: usize = 100;

/// Tells how many there are, when there are some.
pub(super) async fn tell(queue: Queue, routes: Arc<Routes>, mut drain: Drain) {
    let counted = tokio::select! {
        counted = count(&queue, &routes) => counted,
        () = drain.wait() => return,
    };
    match counted {
        Ok(0) => {}
        Ok(messages) => tracing::error!(
            messages,
            "no route of the new configuration takes recipients of messages that are in the queue; they will be returned after `give_up_after`: write a [[route]] that does"
        ),
        Err(fault) => tracing::warn!(%fault, "whether the new routes take what is in the queue could not be looked up"),
    }
}

/// How many messages have a recipient whom these routes take nowhere.
///
/// # Errors
///
/// [`QueueError::Broken`] when the disk fails.
pub async fn count(queue: &Queue, routes: &Routes) -> Result<u64, QueueError> {
    let (mut after, mut stranded) = (None, 0_u64);
    loop {
        let listing = queue.list(Filter { state: Some(State::Queued) }, Page { after, limit: PAGE }).await?;
        for listed in listing.entries {
            let Listed::Message(record) = listed else { continue };
            let routed = routes.part(&record.envelope, &record.custodian, &record.open_recipients());
            stranded = stranded.saturating_add(u64::from(!routed.nowhere.is_empty()));
        }
        after = listing.next;
        if after.is_none() {
            return Ok(stranded);
        }
    }
}
