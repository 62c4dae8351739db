//! The queue's body as the upstream wants it, and as a report wants it.
//!
//! Never: holds more than a piece, or than the excerpt's limit.

use std::time::Duration;

use bytes::Bytes;

use crate::mail::header::section_of;
use crate::queue::{BodyReader, Claim, QueueError};
use crate::upstream::{BodyFault, Course, MessageBody};

/// How long an excerpt waits while the store can't be read. Nothing that is told could be recorded meanwhile either.
const READABLE_WITHIN: Duration = Duration::from_secs(5 * 60);
/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A claimed message's octets.
#[derive(Debug)]
pub(super) struct Stored<'a> {
    claim: &'a Claim,
    reader: Option<BodyReader>,
    course: Option<&'a Course>,
}

impl<'a> Stored<'a> {
    pub(super) fn new(claim: &'a Claim) -> Self {
        Self { claim, reader: None, course: None }
    }

    /// The same, of which it is noted how far it is.
    pub(super) fn noting(self, course: &'a Course) -> Self {
        Self { course: Some(course), ..self }
    }

    /// The first octets, at most `most`. Waits while the store is being opened again. What is damaged or gone is left out: a report without an
    /// excerpt is better than none.
    pub(super) async fn excerpt(self, most: usize) -> Excerpt {
        let mut octets = Vec::new();
        // What was read before the time is over counts.
        tokio::time::timeout(READABLE_WITHIN, gather(self.claim.body(), most, &mut octets)).await.ok();
        octets.truncate(most);
        Excerpt { octets }
    }
}

async fn gather(mut reader: BodyReader, most: usize, octets: &mut Vec<u8>) {
    while octets.len() < most {
        match reader.next().await {
            Ok(Some(piece)) => octets.extend_from_slice(&piece),
            Err(QueueError::Broken(_) | QueueError::Full(_)) => tokio::time::sleep(LOOK_EVERY).await,
            Ok(None)
            | Err(
                QueueError::Damaged(..)
                | QueueError::NotFound(_)
                | QueueError::Fenced(_)
                | QueueError::Share(_)
                | QueueError::Known(_)
                | QueueError::Closed,
            ) => break,
        }
    }
}

impl MessageBody for Stored<'_> {
    fn octets(&self) -> u64 {
        self.claim.record().length
    }

    fn name(&self) -> String {
        self.claim.id().to_string()
    }

    fn identity(&self) -> Option<&str> {
        let custodian = &self.claim.record().custodian;
        (!custodian.is_ours()).then_some(custodian.identity.as_str())
    }

    fn course(&self) -> Option<&Course> {
        self.course
    }

    async fn rewind(&mut self) -> Result<(), BodyFault> {
        self.reader = None;
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Bytes>, BodyFault> {
        let reader = self.reader.get_or_insert_with(|| self.claim.body());
        reader.next().await.map_err(|fault| match fault {
            QueueError::NotFound(_) | QueueError::Fenced(_) => BodyFault::Gone,
            fault @ (QueueError::Broken(_)
            | QueueError::Full(_)
            | QueueError::Damaged(..)
            | QueueError::Share(_)
            | QueueError::Known(_)
            | QueueError::Closed) => BodyFault::Unreadable(fault.to_string()),
        })
    }
}

/// The beginning of a message.
#[derive(Debug)]
pub(super) struct Excerpt {
    octets: Vec<u8>,
}

impl Excerpt {
    /// Its header section, as far as it is there.
    pub(super) fn header(&self) -> &[u8] {
        section_of(&self.octets)
    }

    /// All of it, when it is all.
    pub(super) fn whole(&self, length: u64) -> Option<&[u8]> {
        (u64::try_from(self.octets.len()) == Ok(length)).then_some(self.octets.as_slice())
    }
}
