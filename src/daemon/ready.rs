//! What systemd is told: ready, reloading, stopping, a word on the state (sd_notify). Without systemd nothing happens.

use std::time::Duration;

use sd_notify::NotifyState;

/// Listening, and the queue is open.
pub(super) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Listening, and the queue is not open yet. systemd waits so much longer for [`ready`].
pub(super) fn opening(status: &str, longer: Duration) {
    let longer = u32::try_from(longer.as_micros()).unwrap_or(u32::MAX);
    tell(&[NotifyState::Status(status), NotifyState::ExtendTimeoutUsec(longer)]);
}

/// A reload has begun; [`ready`] ends it.
pub(super) fn reloading() {
    // Type=notify-reload wants the monotonic time of the reload beside it.
    match NotifyState::monotonic_usec_now() {
        Ok(moment) => tell(&[NotifyState::Reloading, moment]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// The drain has begun.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(fault) = sd_notify::notify(states) {
        tracing::warn!(%fault, "systemd could not be told");
    }
}
