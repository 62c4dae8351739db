//! Who waits for an identity's share of memory stands in line: the first alone is woken when some is given back, and who comes is behind all others.
//!
//! Others' lines are their own. Never: holds memory; has more than [`WAITING_MAX`] in it; is left behind by who goes away.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::super::settings::WAITING_MAX;
use super::super::shortage::Shortage;
use super::Room;

/// The line of one identity.
#[derive(Debug)]
pub(super) struct Line {
    /// Whose turn it is; given on in the order in which it was asked for.
    turn: Arc<Semaphore>,
    waiting: u64,
}

/// A place in a line; dropped, it is left.
#[derive(Debug)]
pub(in crate::queue) struct InLine {
    room: Arc<Room>,
    identity: Arc<str>,
    turn: Arc<Semaphore>,
    mine: Option<OwnedSemaphorePermit>,
    waiting: u64,
}

impl Room {
    /// The last place in the line of `identity`, when others wait there already.
    pub(in crate::queue) fn behind_others(self: &Arc<Self>, identity: &Arc<str>) -> Result<Option<InLine>, Shortage> {
        let is_waited_for = self.reserved().lines.contains_key(identity);
        if is_waited_for { self.line_up(identity).map(Some) } else { Ok(None) }
    }

    /// The last place in the line of `identity`.
    pub(in crate::queue) fn line_up(self: &Arc<Self>, identity: &Arc<str>) -> Result<InLine, Shortage> {
        let mut reserved = self.reserved();
        let begin = || Line { turn: Arc::new(Semaphore::new(1)), waiting: 0 };
        let line = reserved.lines.entry(Arc::clone(identity)).or_insert_with(begin);
        if line.waiting >= WAITING_MAX {
            return Err(Shortage::Line { now: line.waiting });
        }
        line.waiting = line.waiting.saturating_add(1);
        let (turn, waiting) = (Arc::clone(&line.turn), line.waiting);
        Ok(InLine { room: Arc::clone(self), identity: Arc::clone(identity), turn, mine: None, waiting })
    }
}

impl InLine {
    /// Waits until all before have what they waited for, or have gone away. Cancel-safe.
    pub(in crate::queue) async fn turn(&mut self) {
        if self.mine.is_none() {
            // It is never closed.
            self.mine = Arc::clone(&self.turn).acquire_owned().await.ok();
        }
    }

    /// What there is not enough of, as long as nothing more is known.
    pub(in crate::queue) fn shortage(&self) -> Shortage {
        Shortage::Line { now: self.waiting }
    }
}

impl Drop for InLine {
    fn drop(&mut self) {
        let mut reserved = self.room.reserved();
        let Some(line) = reserved.lines.get_mut(&self.identity) else { return };
        line.waiting = line.waiting.saturating_sub(1);
        if line.waiting == 0 {
            reserved.lines.remove(&self.identity);
        }
    }
}
