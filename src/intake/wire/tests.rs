//! RFC 2920 §3.2: replies to commands that came together go out together, and nothing is kept back while we wait.

use std::sync::{Arc, Mutex};
use std::task::Context;

use super::*;
use crate::session::replies;

/// A stream that gives what it is given in pieces, and remembers each write.
#[derive(Clone, Debug, Default)]
struct Tape {
    pieces: Vec<&'static [u8]>,
    written: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl AsyncRead for Tape {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.pieces.is_empty() {
            return Poll::Pending;
        }
        buffer.put_slice(self.pieces.remove(0));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tape {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        self.written.lock().unwrap().push(octets.to_vec());
        Poll::Ready(Ok(octets.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Answers each line with a reply until nothing more comes; how many replies were in each write.
async fn replies_per_write(pieces: Vec<&'static [u8]>) -> Vec<usize> {
    let tape = Tape { pieces, ..Tape::default() };
    let written = Arc::clone(&tape.written);
    let mut wire = Wire::new(tape, Duration::from_secs(60));
    while let Heard::Line(Ok(())) = wire.hear(512, Duration::from_secs(300), None).await {
        wire.say(&replies::recipient_taken());
    }
    let written = written.lock().unwrap();
    written.iter().map(|octets| octets.iter().filter(|&&octet| octet == b'\n').count()).collect()
}

#[tokio::test(start_paused = true)]
async fn replies_to_commands_that_came_together_are_one_write() {
    let cases: [(Vec<&'static [u8]>, &[usize]); 4] = [
        (vec![b"RSET\r\nMAIL\r\nRCPT\r\n"], &[3]),
        (vec![b"RSET\r\n", b"MAIL\r\nRCPT\r\n"], &[1, 2]),
        // The last command is not whole: nothing is kept back until it is.
        (vec![b"RSET\r\nMAIL\r\nRC", b"PT\r\n"], &[2, 1]),
        (vec![b"RS", b"ET\r\n"], &[1]),
    ];
    for (pieces, writes) in cases {
        assert_eq!(replies_per_write(pieces.clone()).await, writes, "{pieces:?}");
    }
}
