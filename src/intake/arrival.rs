//! A message on its way into the queue; one that comes in chunks stays here between them.
//!
//! Never: keeps a body in memory; the queue's `Incoming` takes each piece before the next is read.

use tokio::io::{AsyncRead, AsyncWrite};

use super::message::{Receiving, Stopped};
use super::wire::Wire;
use crate::content::{BodyFacts, HeaderFacts};
use crate::queue::{Incoming, QueueError};
use crate::sys::Clock;

/// A message between its beginning and its end.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) receiving: Receiving,
    pub(super) facts: HeaderFacts,
}

impl Arrival {
    pub(super) fn new(receiving: Receiving) -> Self {
        Self { receiving, facts: HeaderFacts::default() }
    }

    /// Hands `header`, with our fields in front, and the body to the queue as they come; nothing is left of the header where a further chunk of the
    /// body begins. When the queue can't take them, the rest is read to its true end all the same (RFC 5321 §4.1.1.4), and the queue's fault is given
    /// besides; what it had taken is let go before.
    pub(super) async fn keep_body<S>(
        &mut self,
        header: Vec<u8>,
        incoming: &mut Option<Incoming>,
        wire: &mut Wire<S>,
        clock: &dyn Clock,
    ) -> Result<(BodyFacts, Result<(), QueueError>), Stopped>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let Some(taking) = incoming else {
            let fault = QueueError::Broken("a message came that the queue had not admitted".to_owned());
            return Ok((self.receiving.discard(wire, clock).await?, Err(fault)));
        };
        let mut kept = taking.begin(header).await;
        loop {
            if kept.is_err() || self.receiving.is_over_size() {
                *incoming = None;
                return Ok((self.receiving.discard(wire, clock).await?, kept));
            }
            kept = taking.write(self.receiving.decoded()).await;
            if kept.is_ok() {
                if let Some(end) = self.receiving.end() {
                    return Ok((self.receiving.facts(end), kept));
                }
                self.receiving.piece(wire, clock).await?;
            }
        }
    }
}
