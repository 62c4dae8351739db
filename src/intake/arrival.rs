//! A message whose header stands, on its way into the queue.
//!
//! Never: keeps a body in memory; the queue's `Incoming` takes each piece before the next is read.

use tokio::io::{AsyncRead, AsyncWrite};

use super::message::{Receiving, Stopped};
use super::wire::Wire;
use crate::content::{BodyEnd, BodyFacts, HeaderFacts};
use crate::queue::Incoming;
use crate::sys::Clock;

/// A message between its header and its end.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) receiving: Receiving,
    pub(super) facts: HeaderFacts,
}

impl Arrival {
    pub(super) fn new(receiving: Receiving) -> Self {
        Self { receiving, facts: HeaderFacts::default() }
    }

    /// Hands `front` (our fields), the header and the body to the queue as they come. When the queue can't take them, the rest is read to
    /// its true end all the same (RFC 5321 §4.1.1.4), and the facts say so.
    pub(super) async fn keep_body<S>(
        &mut self,
        front: &[u8],
        incoming: Option<&mut Incoming>,
        wire: &mut Wire<S>,
        clock: &dyn Clock,
    ) -> Result<BodyFacts, Stopped>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let Some(incoming) = incoming else { return self.not_kept(wire, clock).await };
        let section = self.receiving.take_section();
        if incoming.write(front).await.is_err() || incoming.write(&section).await.is_err() {
            return self.not_kept(wire, clock).await;
        }
        drop(section);
        loop {
            if self.receiving.is_over_size() {
                return self.receiving.discard(wire, clock).await;
            }
            if let Err(fault) = incoming.write(self.receiving.decoded()).await {
                tracing::error!(%fault, "the queue did not take a piece of a message; the client is told to come again");
                return self.not_kept(wire, clock).await;
            }
            if let Some(end) = self.receiving.end() {
                return Ok(self.receiving.facts(end));
            }
            self.receiving.piece(wire, clock).await?;
        }
    }

    async fn not_kept<S>(&mut self, wire: &mut Wire<S>, clock: &dyn Clock) -> Result<BodyFacts, Stopped>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let facts = self.receiving.discard(wire, clock).await?;
        Ok(match facts.end {
            BodyEnd::Complete => BodyFacts { end: BodyEnd::NotKept, ..facts },
            BodyEnd::Disputed(_) | BodyEnd::TooLarge | BodyEnd::LineTooLong { .. } | BodyEnd::NotKept => facts,
        })
    }
}
