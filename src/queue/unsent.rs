//! The octets of a message that is received whole and not kept yet, for who may take it over before it has to be.
//!
//! They are read back as they were written; the last piece is given only when the whole agrees with its checksum. Never: changes or keeps anything.

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use super::QueueError;
use super::incoming::Incoming;
use super::settings::PIECE;

/// Reads a message that is being received, from its first octet.
pub struct Unsent<'a> {
    incoming: &'a Incoming,
    at: u64,
    sum: Box<Xxh3>,
}

impl Incoming {
    /// Its octets so far, from the first on.
    pub fn unsent(&self) -> Unsent<'_> {
        Unsent { incoming: self, at: 0, sum: Box::new(Xxh3::new()) }
    }
}

impl std::fmt::Debug for Unsent<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unsent").field("id", &self.incoming.id()).field("at", &self.at).finish_non_exhaustive()
    }
}

impl Unsent<'_> {
    /// The next piece; none at the end.
    ///
    /// # Errors
    ///
    /// [`QueueError::Broken`]: the disk fails, or what comes back is not what was written.
    pub async fn next(&mut self) -> Result<Option<Bytes>, QueueError> {
        let Some(whole) = self.incoming.sum() else {
            return Err(QueueError::Broken("a write of this message failed".to_owned()));
        };
        let piece = match &self.incoming.file {
            Some(body) if self.at < body.written => {
                let (file, at) = (std::sync::Arc::clone(&body.file), self.at);
                let most = usize::try_from(body.written.saturating_sub(at)).unwrap_or(PIECE).min(PIECE);
                let read = self.incoming.queue.work_on(move || {
                    let mut piece = vec![0; most];
                    file.read_at(at, &mut piece).map(|()| piece)
                });
                read.await?.map_err(|fault| QueueError::from_io(&fault))?
            }
            file => {
                let in_file = file.as_ref().map_or(0, |body| body.written);
                let from = usize::try_from(self.at.saturating_sub(in_file)).unwrap_or(usize::MAX);
                let rest = self.incoming.gathered.get(from..).unwrap_or_default();
                rest.get(..PIECE).unwrap_or(rest).to_vec()
            }
        };
        if piece.is_empty() {
            return Ok(None);
        }
        self.sum.update(&piece);
        self.at = self.at.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        if self.at >= self.incoming.length() && self.sum.digest() != whole {
            return Err(QueueError::Broken("a message that was written came back otherwise".to_owned()));
        }
        Ok(Some(piece.into()))
    }
}
