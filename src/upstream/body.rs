//! Where the octets of a message come from, piece by piece: the queue's reader, or a report in memory.

use bytes::Bytes;

use super::course::Course;

/// A message as it is to leave, CRLF lines throughout; read from its beginning as often as needed, never held whole.
pub trait MessageBody: Send {
    /// Its octets in all, for SIZE (RFC 1870).
    fn octets(&self) -> u64;

    /// The message's name in the log.
    fn name(&self) -> String {
        "-".to_owned()
    }

    /// The identity that sent it; none for a report of our own, of which others choose what is in it.
    fn identity(&self) -> Option<&str> {
        None
    }

    /// Where it is noted how far it is, where somebody may want to see that.
    fn course(&self) -> Option<&Course> {
        None
    }

    /// Starts again at the beginning.
    fn rewind(&mut self) -> impl Future<Output = Result<(), BodyFault>> + Send;

    /// The next piece; `None` at the end.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, BodyFault>> + Send;
}

/// The store did not give the message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyFault {
    /// It can't be read; what the store said, for the log.
    #[error("{0}")]
    Unreadable(String),
    /// It is there no more, or no more this attempt's: removed, set aside, claimed anew.
    #[error("it is gone")]
    Gone,
}

/// A small message in memory: a report, or a test's.
#[derive(Clone, Debug)]
pub struct InMemory {
    octets: Bytes,
    given: bool,
    name: String,
    identity: Option<String>,
}

impl InMemory {
    /// A body of these octets.
    pub fn new(octets: impl Into<Bytes>) -> Self {
        Self { octets: octets.into(), given: false, name: "-".to_owned(), identity: None }
    }

    /// With the message's name and the identity that sent it.
    #[must_use]
    pub fn called(self, name: &str, identity: &str) -> Self {
        Self { name: name.to_owned(), identity: Some(identity.to_owned()), ..self }
    }
}

impl MessageBody for InMemory {
    fn octets(&self) -> u64 {
        u64::try_from(self.octets.len()).unwrap_or(u64::MAX)
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    fn identity(&self) -> Option<&str> {
        self.identity.as_deref()
    }

    async fn rewind(&mut self) -> Result<(), BodyFault> {
        self.given = false;
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Bytes>, BodyFault> {
        let first = !std::mem::replace(&mut self.given, true);
        Ok((first && !self.octets.is_empty()).then(|| self.octets.clone()))
    }
}
