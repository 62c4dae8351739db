//! What asks a program on a terminal to end: caught, so that it can say what it has done, or leave the terminal as it was.
//!
//! Never: hears what it was told to ignore, as `nohup` and a shell's background have it.

use std::io;
use std::pin::pin;

use futures_util::poll;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// From its beginning on these end nothing by themselves.
#[derive(Debug)]
pub(super) struct Signals {
    heard: Vec<Signal>,
}

impl Signals {
    /// # Errors
    /// The system has no room for them.
    pub(super) fn begin() -> io::Result<Self> {
        let ignored = ignored();
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup(), SignalKind::quit()];
        let heard = kinds.into_iter().filter(|kind| !is_within(ignored, *kind)).map(signal);
        Ok(Self { heard: heard.collect::<io::Result<_>>()? })
    }

    /// Waits for one.
    pub(super) async fn any(&mut self) {
        std::future::poll_fn(|context| {
            let ready = self.heard.iter_mut().any(|signal| signal.poll_recv(context).is_ready());
            if ready { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    }

    /// Whether one has come.
    pub(super) async fn has_come(&mut self) -> bool {
        poll!(pin!(self.any())).is_ready()
    }
}

/// The mask of what this process was begun to ignore, as the system tells it (proc_pid_status(5)).
#[expect(clippy::disallowed_methods, reason = "no call tells it without changing it")]
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}

/// Signal 1 is the lowest bit.
fn is_within(mask: u64, kind: SignalKind) -> bool {
    let bit = kind.as_raw_value().checked_sub(1).and_then(|place| u32::try_from(place).ok());
    bit.and_then(|place| 1_u64.checked_shl(place)).is_some_and(|bit| mask & bit != 0)
}
