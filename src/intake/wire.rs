//! One connection's octets: a line or a piece at a time in, replies gathered out, each wait with its deadline.
//!
//! Replies are written when more octets must be waited for, so that pipelined commands are answered in one write (RFC 2920 §3.2).
//! Never: interprets a line; keeps more than [`LineReader`]'s capacity in and about [`OUT_MAX`] out.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;

use crate::smtp::{LineFault, LineReader, Reply};
use crate::sys::Drain;

/// Octets of replies that may gather before they are written although more commands wait.
const OUT_MAX: usize = 4 * 1024;

/// Octets taken from the socket at once: a record of TLS, at its largest.
const READ_SIZE: usize = 16 * 1024;

/// For telling a client that its place is another's. What is said fits into what the system buffers, so that nobody has ever to be waited for.
const LEAVING: Duration = Duration::from_secs(1);

/// Why nothing more can be read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum Gone {
    /// The client closed its side.
    #[error("the client closed it")]
    Closed,
    /// The wait was longer than allowed.
    #[error("the client was silent")]
    TimedOut,
    /// The client did not take in time what we said: nothing more can be said to it.
    #[error("the client does not read what it is told")]
    Unread,
    /// The connection broke.
    #[error("it broke: {0}")]
    Broken(io::Error),
}

/// What the client is doing when we hang up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    /// Waiting for our word, as far as we know.
    Listening,
    /// In the middle of octets that we do not take.
    Talking,
}

/// How long, and how much, a client that is still talking is listened to after we have hung up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LingerLimits {
    /// How long.
    pub wait: Duration,
    /// How many octets.
    pub octets: usize,
}

/// What came of waiting for a line.
#[derive(Debug)]
pub(super) enum Heard {
    /// A line, to be had from [`Wire::line`], or a fault in its place.
    Line(Result<(), LineFault>),
    /// The daemon is shutting down.
    Draining,
    /// Nothing more comes.
    Gone(Gone),
}

/// A stream with what has been read from it and what is to be written to it.
#[derive(Debug)]
pub(super) struct Wire<S> {
    stream: S,
    reader: LineReader,
    line: Vec<u8>,
    out: Vec<u8>,
    write_deadline: Duration,
    /// Octets read from the stream so far.
    came: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(super) fn new(stream: S, write_deadline: Duration) -> Self {
        Self { stream, reader: LineReader::new(), line: Vec::new(), out: Vec::new(), write_deadline, came: 0 }
    }

    /// Puts the reply behind those not written yet.
    pub(super) fn say(&mut self, reply: &Reply) {
        reply.write_to(&mut self.out);
    }

    /// Writes what has gathered.
    pub(super) async fn flush(&mut self) -> Result<(), Gone> {
        if self.out.is_empty() {
            return Ok(());
        }
        let writing = async {
            self.stream.write_all(&self.out).await?;
            self.stream.flush().await
        };
        let written = timeout(self.write_deadline, writing).await;
        self.out.clear();
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(fault)) => Err(Gone::Broken(fault)),
            Err(_) => Err(Gone::Unread),
        }
    }

    /// Waits for the next line, for at most `wait`. `drain`, where given, ends the wait when the daemon shuts down.
    pub(super) async fn hear(&mut self, limit: usize, wait: Duration, drain: Option<&mut Drain>) -> Heard {
        if let Some(line) = self.take_line(limit) {
            // A thousand pipelined commands are buffered at most; the other connections have their turn between them.
            tokio::task::yield_now().await;
            if self.out.len() > OUT_MAX
                && let Err(gone) = self.flush().await
            {
                return Heard::Gone(gone);
            }
            return Heard::Line(line);
        }
        if let Err(gone) = self.flush().await {
            return Heard::Gone(gone);
        }
        let arriving = timeout(wait, self.arrive(limit));
        let arrived = match drain {
            None => arriving.await,
            Some(drain) => tokio::select! {
                biased;
                arrived = arriving => arrived,
                () = drain.wait() => return Heard::Draining,
            },
        };
        match arrived {
            Ok(Ok(line)) => Heard::Line(line),
            Ok(Err(gone)) => Heard::Gone(gone),
            Err(_) => Heard::Gone(Gone::TimedOut),
        }
    }

    /// Reads until there is a line. Cancel-safe: what was read stays in the reader.
    async fn arrive(&mut self, limit: usize) -> Result<Result<(), LineFault>, Gone> {
        loop {
            self.fill().await?;
            if let Some(line) = self.take_line(limit) {
                return Ok(line);
            }
        }
    }

    fn take_line(&mut self, limit: usize) -> Option<Result<(), LineFault>> {
        let line = self.reader.next_line(limit)?;
        Some(line.map(|octets| {
            self.line.clear();
            self.line.extend_from_slice(octets);
        }))
    }

    /// The line that [`Wire::hear`] found.
    pub(super) fn line(&self) -> &[u8] {
        &self.line
    }

    /// Whether octets have come that nobody asked for: those buffered, and those that lie ready at the socket.
    pub(super) async fn has_spoken(&mut self) -> bool {
        if self.reader.buffered().is_empty() {
            let ready = std::pin::pin!(self.fill());
            // One poll: what is not there now was not said early.
            let _ = futures_util::poll!(ready);
        }
        !self.reader.buffered().is_empty()
    }

    /// Reads at least one octet into the buffer; gives how many came. Cancel-safe.
    pub(super) async fn fill(&mut self) -> Result<usize, Gone> {
        // The piece lives on the stack of one poll, not in the future: an idle session holds no buffer for it.
        let Self { stream, reader, .. } = self;
        let reading = poll_fn(|task| {
            let mut piece = [MaybeUninit::uninit(); READ_SIZE];
            let mut piece = ReadBuf::uninit(&mut piece);
            let room = reader.room();
            let mut piece = piece.take(room);
            ready!(Pin::new(&mut *stream).poll_read(task, &mut piece))?;
            reader.push(piece.filled());
            Poll::Ready(Ok(piece.filled().len()))
        });
        match reading.await {
            Ok(0) => Err(Gone::Closed),
            Ok(count) => {
                self.came = self.came.wrapping_add(count);
                Ok(count)
            }
            Err(fault) => Err(Gone::Broken(fault)),
        }
    }

    /// How many octets have come.
    pub(super) fn came(&self) -> usize {
        self.came
    }

    /// How many octets have come since [`Wire::came`] said this.
    pub(super) fn came_since(&self, came: usize) -> usize {
        self.came.wrapping_sub(came)
    }

    /// What has been read and not been used.
    pub(super) fn buffered(&self) -> &[u8] {
        self.reader.buffered()
    }

    /// The first `count` buffered octets have been used.
    pub(super) fn consume(&mut self, count: usize) {
        self.reader.consume(count);
    }

    /// The stream itself, for TLS. What is buffered is dropped: the caller has seen that there is none (RFC 3207 §4.2).
    pub(super) fn into_stream(self) -> S {
        self.stream
    }

    /// Says goodbye: writes what has gathered and closes our side. When the client is still talking, what it says is read and dropped within
    /// `limits`, because closing on unread octets resets the connection and destroys the reply before the client has read it.
    pub(super) async fn hang_up(&mut self, client: Client, limits: LingerLimits) -> Result<(), Gone> {
        // What closes goes with the last words, where the stream gathers.
        let closing = async {
            self.stream.write_all(&self.out).await?;
            self.stream.shutdown().await
        };
        let closed = timeout(self.write_deadline, closing).await;
        self.out.clear();
        match closed {
            Ok(Ok(())) => {}
            Ok(Err(fault)) => return Err(Gone::Broken(fault)),
            Err(_) => return Err(Gone::Unread),
        }
        if client == Client::Listening && !self.has_spoken().await {
            return Ok(());
        }
        timeout(limits.wait, self.drop_octets(limits.octets)).await.unwrap_or(Ok(()))
    }

    /// Says this and closes our side, without a wait for a client that does not listen; nothing is said in the middle of something else.
    pub(super) async fn leave(&mut self, reply: &Reply) {
        if !self.out.is_empty() {
            return;
        }
        self.say(reply);
        let leaving = async {
            self.flush().await?;
            self.stream.shutdown().await.map_err(Gone::Broken)
        };
        let _ = timeout(LEAVING, leaving).await;
    }

    async fn drop_octets(&mut self, most: usize) -> Result<(), Gone> {
        let mut dropped: usize = 0;
        while dropped < most {
            let waiting = self.buffered().len();
            self.consume(waiting);
            dropped = dropped.saturating_add(self.fill().await?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
