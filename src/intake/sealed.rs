//! The client's TLS, which writes when it is flushed or shut down, and not before.
//!
//! tokio-rustls writes each piece as soon as it is sealed. So the last reply and TLS's own goodbye went in two segments, each with a system call
//! and a wake-up of the client; now they go in one.
//!
//! Never: keeps more than rustls takes, 64 KiB; what is beyond is written at once. Fails as the stream in it does.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

/// A TLS stream that gathers what is written.
#[derive(Debug)]
pub(super) struct Sealed<S>(pub(super) TlsStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Sealed<S> {
    fn poll_read(mut self: Pin<&mut Self>, task: &mut Context<'_>, piece: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(task, piece)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Sealed<S> {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let (_, tls) = self.0.get_mut();
        match io::Write::write(&mut tls.writer(), octets)? {
            0 => Pin::new(&mut self.0).poll_write(task, octets),
            sealed => Poll::Ready(Ok(sealed)),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(task)
    }
}

#[cfg(test)]
mod tests;
