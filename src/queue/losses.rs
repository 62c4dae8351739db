//! Messages that were found to be damaged and set aside while the queue is open: kept here until whoever tells and counts them asks.
//!
//! What the opening itself found is in its `Recovery`. Never: holds more than [`LOSSES_MAX`]; the log has them all.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::Recovery;
use super::witness::LostCommit;
use crate::mail::QueueId;

/// Those that nobody has asked for yet.
const LOSSES_MAX: usize = 65_536;

/// Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Losses(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    untold: Mutex<Vec<(QueueId, String)>>,
    bell: Notify,
}

impl Losses {
    /// One was set aside.
    pub(super) fn note(&self, id: QueueId, reason: &str) {
        let mut untold = self.0.untold.lock().unwrap_or_else(PoisonError::into_inner);
        if untold.len() < LOSSES_MAX {
            untold.push((id, reason.to_owned()));
        }
        drop(untold);
        self.0.bell.notify_one();
    }

    /// What was found when the files were opened again.
    pub(super) fn note_all(&self, found: Recovery) {
        if let Some(lost) = found.lost {
            tracing::error!("{lost}");
            lost.kept.iter().for_each(|id| self.note(*id, LostCommit::OF_ONE));
        }
        for id in found.mended {
            tracing::warn!(%id, "what store.redb says of a message was damaged; it has been written anew, and nothing is lost");
        }
        for (id, reason) in found.set_aside {
            tracing::error!(%id, reason, "a message is damaged; it is set aside as dead");
            self.note(id, &reason);
        }
    }

    /// Waits for some. Cancel-safe.
    pub(super) async fn next(&self) -> Vec<(QueueId, String)> {
        loop {
            let untold = std::mem::take(&mut *self.0.untold.lock().unwrap_or_else(PoisonError::into_inner));
            if !untold.is_empty() {
                return untold;
            }
            self.0.bell.notified().await;
        }
    }
}
