//! What has come of a message so far, told while it is still being tried.
//!
//! An attempt may last: another upstream is asked for those whom the first did not take, a second transaction carries those who were too many for one, and
//! behind the final dot an upstream may be silent for ten minutes. Who has the message by then, and where it may have arrived, is known here before the
//! attempt ends.
//!
//! Never: holds more than one word of each recipient, the last; waits for whoever listens.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::attempt::{Attempt, Undertaking};
use super::courier::Handover;
use crate::queue::{Certainty, Outcome, Tried};

/// What has come of a message for a recipient so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SoFar {
    /// Its last word.
    pub tried: Tried,
    /// What has been taken over with the message, where it has been taken.
    pub undertaking: Option<Undertaking>,
}

/// Recipients, by their places in the envelope, and what has come of the message for them.
pub type Told = BTreeMap<usize, SoFar>;

/// Told by those who try a message, heard by whoever waits for them; clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    told: Arc<Mutex<Told>>,
    bell: Arc<Notify>,
}

impl Progress {
    /// What a transaction has come to, or may.
    pub(super) fn tell(&self, upstream: &str, attempt: &Attempt) {
        let told = attempt.outcomes.iter().map(|(place, outcome)| {
            let certainty =
                if attempt.undetermined.contains(place) { Certainty::Undetermined } else { Certainty::Known };
            let is_taken = matches!(outcome, Outcome::Delivered { .. });
            let tried = Tried { recipient: *place, upstream: upstream.to_owned(), outcome: outcome.clone(), certainty };
            (*place, SoFar { tried, undertaking: is_taken.then_some(attempt.undertaking) })
        });
        self.add(told);
    }

    /// What all upstreams of a route have come to that were asked by now.
    pub(super) fn tell_all(&self, handover: &Handover) {
        let undertakings: BTreeMap<usize, Undertaking> = handover.undertakings.iter().copied().collect();
        let told = handover.tried().into_iter().map(|tried| {
            let undertaking = undertakings.get(&tried.recipient).copied();
            (tried.recipient, SoFar { tried, undertaking })
        });
        self.add(told);
    }

    fn add(&self, told: impl Iterator<Item = (usize, SoFar)>) {
        self.lock().extend(told);
        self.bell.notify_one();
    }

    /// What was told since somebody asked.
    pub fn take(&self) -> Told {
        std::mem::take(&mut *self.lock())
    }

    /// The same, once something may have been told. Cancel-safe.
    pub async fn news(&self) -> Told {
        self.bell.notified().await;
        self.take()
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
