//! What asks a program on a terminal to end: caught, so that it can say what it has done, or leave the terminal as it was.

use std::io;
use std::pin::pin;

use futures_util::poll;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// From its beginning on these end nothing by themselves.
#[derive(Debug)]
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    /// # Errors
    /// The system has no room for them.
    pub(super) fn begin() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for one.
    pub(super) async fn any(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }

    /// Whether one has come.
    pub(super) async fn has_come(&mut self) -> bool {
        poll!(pin!(self.any())).is_ready()
    }
}
