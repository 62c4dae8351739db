//! Memory that a transaction holds for its recipients while it is open.
//!
//! It is asked for in pieces, never waited for, and held for as long as the client likes: a session lives for hours. So it is room that cannot be got back, and nobody who is being
//! received may depend on it: all open transactions together hold no more than half of `queue.memory`, and one identity's no more than half of its share.
//! The other half goes round: whoever holds of it is being received, which has an end. So a message that waits for memory while its own envelope holds some waits for those alone, and
//! nothing can stand still; where it waits in vain, it is for five seconds. The identity's only transaction may hold what it needs: a hundred recipients
//! must be taken of everybody (RFC 5321 §4.5.3.1.8), and how many at most, other limits say.
//!
//! Never: waits; takes what was given back to it from a transaction that has it.

use std::sync::Arc;

use super::super::QueueError;
use super::super::octets::{Octets, Share};
use super::super::shortage::Shortage;
use super::{Budgets, Room};

/// What one open transaction holds; dropped, it is given back.
#[derive(Debug)]
pub struct EnvelopeRoom {
    room: Arc<Room>,
    identity: Arc<str>,
    memory: Octets,
    held: Share,
}

impl Budgets {
    /// For a transaction of `identity` that begins.
    pub(in crate::queue) fn envelope(&self, identity: &Arc<str>) -> EnvelopeRoom {
        let (room, memory) = (Arc::clone(&self.room), self.memory.clone());
        EnvelopeRoom { room, identity: Arc::clone(identity), held: memory.nothing(), memory }
    }
}

impl EnvelopeRoom {
    /// Octets that it holds.
    pub fn octets(&self) -> u64 {
        self.held.octets()
    }

    /// Makes it as large as this, when that can be had now.
    ///
    /// # Errors
    ///
    /// [`QueueError::Full`], or of its identity's share [`QueueError::Share`]: it is as it was.
    pub fn enlarge(&mut self, octets: u64) -> Result<(), QueueError> {
        self.hold(octets).map_err(Shortage::refusal)
    }

    fn hold(&mut self, octets: u64) -> Result<(), Shortage> {
        let before = self.held.octets();
        let more = octets.saturating_sub(before);
        let mut reserved = self.room.reserved();
        let own = reserved.of(&self.identity);
        // Another message, or another transaction.
        let is_alone = own.memory <= before;
        if !is_alone && own.envelopes.saturating_add(more) > self.room.envelope_share {
            let limit = self.room.envelope_share;
            return Err(Shortage::ShareOfEnvelopes { now: own.envelopes, more, limit });
        }
        if !is_alone && own.memory.saturating_add(more) > self.room.memory_share {
            return Err(Shortage::ShareOfMemory { now: own.memory, more, limit: self.room.memory_share });
        }
        if reserved.envelopes.saturating_add(more) > self.room.envelope_limit {
            return Err(Shortage::Envelopes { now: reserved.envelopes, more, limit: self.room.envelope_limit });
        }
        if !self.memory.enlarge(&mut self.held, octets) {
            return Err(Shortage::EnvelopesBesideMessages);
        }
        reserved.envelopes = reserved.envelopes.saturating_add(more);
        let own = reserved.by_identity.entry(Arc::clone(&self.identity)).or_default();
        own.envelopes = own.envelopes.saturating_add(more);
        own.memory = own.memory.saturating_add(more);
        Ok(())
    }
}

impl Drop for EnvelopeRoom {
    fn drop(&mut self) {
        let held = self.held.octets();
        if held == 0 {
            return;
        }
        // First the share, then the memory itself: who waits for memory looks at both when memory comes back.
        let mut reserved = self.room.reserved();
        reserved.envelopes = reserved.envelopes.saturating_sub(held);
        if let Some(own) = reserved.by_identity.get_mut(&self.identity) {
            own.envelopes = own.envelopes.saturating_sub(held);
            own.memory = own.memory.saturating_sub(held);
        }
        reserved.forget(&self.identity);
        drop(reserved);
        self.room.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{NOTHING_KEPT, granted, identity, settings};
    use super::*;
    use crate::queue::octets::BLOCK;
    use crate::queue::settings::QueueSettings;

    fn budgets(memory: u64, share: u64) -> Budgets {
        Budgets::new(&QueueSettings { memory, memory_share_per_identity: share, ..settings(100, 1 << 30) })
    }

    #[tokio::test]
    async fn open_transactions_hold_half_of_memory_and_one_identitys_half_of_its_share() {
        // A share of fifty blocks, of which envelopes have twenty-five.
        let budgets = budgets(200 * BLOCK, 25);
        let [alice, bob, carol] = ["alice", "bob", "carol"].map(identity);
        let mut first = budgets.envelope(&alice);
        assert_eq!(first.hold(60 * BLOCK), Ok(()), "alone it has what it needs");
        let mut second = budgets.envelope(&alice);
        let refused = Shortage::ShareOfEnvelopes { now: 60 * BLOCK, more: BLOCK, limit: 25 * BLOCK };
        assert_eq!((second.hold(BLOCK), second.octets()), (Err(refused), 0));
        assert!(refused.is_of_the_identity());
        let mut of_bob = budgets.envelope(&bob);
        assert_eq!(of_bob.hold(40 * BLOCK), Ok(()));
        let mut of_carol = budgets.envelope(&carol);
        let refused = Shortage::Envelopes { now: 100 * BLOCK, more: BLOCK, limit: 100 * BLOCK };
        assert_eq!(of_carol.hold(BLOCK), Err(refused));
        assert!(!refused.is_of_the_identity());
        // The other half is there for messages.
        let message = granted(&budgets.room, &budgets.memory, "dave", 100 * BLOCK).await;
        drop(of_bob);
        assert_eq!(of_carol.hold(BLOCK), Ok(()), "what is given back is had by others");
        drop((of_carol, first));
        let full = granted(&budgets.room, &budgets.memory, "bob", 100 * BLOCK).await;
        assert_eq!(second.hold(BLOCK), Err(Shortage::EnvelopesBesideMessages));
        drop((second, message, full));
        assert!(budgets.room.reserved().by_identity.is_empty());
        assert_eq!((budgets.memory.given_out(), budgets.room.reserved().envelopes), (0, 0));
    }

    #[tokio::test]
    async fn what_envelopes_hold_is_of_the_identitys_share() {
        let budgets = budgets(200 * BLOCK, 25);
        let alice = identity("alice");
        let mut open = budgets.envelope(&alice);
        assert_eq!(open.hold(20 * BLOCK), Ok(()));
        let message = granted(&budgets.room, &budgets.memory, "alice", 28 * BLOCK).await;
        let full = Shortage::ShareOfMemory { now: 48 * BLOCK, more: 3 * BLOCK, limit: 50 * BLOCK };
        assert_eq!(open.hold(23 * BLOCK), Err(full));
        assert_eq!(budgets.room.place(&alice, 0, 3 * BLOCK, NOTHING_KEPT).err(), Some(full));
        drop(open);
        assert!(budgets.room.place(&alice, 0, 3 * BLOCK, NOTHING_KEPT).is_ok());
        drop(message);
        assert!(budgets.room.reserved().by_identity.is_empty());
    }
}
