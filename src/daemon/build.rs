//! Settings to a snapshot: what a reload makes anew.
//!
//! Never: reads a file. What can fail: our own TLS settings, which `config` has checked before.

use std::sync::Arc;

use crate::config::{ListenerMode, Settings, Shown as ShownSetting};
use crate::content::HeaderLimits;
use crate::intake::{IntakeLimits, PaceLimits};
use crate::route::{Route, Routes};
use crate::session::SessionSettings;
use crate::snapshot::{Door, DoorLimits, Mode, ReceivedDetail, Shown, Snapshot};
use crate::sys::Clock;
use crate::tls::listener::{self, TlsFault};

/// How long, and how much, a message whose end is in dispute is read on before the connection is closed (DESIGN: at most 10 s or 64 MiB).
const DISPUTE_WAIT: std::time::Duration = std::time::Duration::from_secs(10);
const DISPUTE_OCTETS: usize = 64 * 1024 * 1024;

/// The snapshot that `settings` ask for.
///
/// # Errors
/// The TLS settings can't be used.
pub fn snapshot(settings: &Settings, generation: u64, clock: &Arc<dyn Clock>) -> Result<Snapshot, TlsFault> {
    let doors = settings.listeners.iter().map(|listener| {
        let tls = listener::server_config(&settings.tls, &settings.trust, listener.refusal, Arc::clone(clock))?;
        Ok(Arc::new(Door {
            address: listener.address,
            mode: match listener.mode {
                ListenerMode::StartTls => Mode::StartTls,
                ListenerMode::Implicit => Mode::Implicit,
            },
            tls,
            session: Arc::new(SessionSettings { refusal: listener.refusal, ..settings.session.clone() }),
            trust: Arc::clone(&settings.trust),
        }))
    });
    let route = Route::for_all("default", settings.upstreams.clone());
    Ok(Snapshot {
        generation,
        doors: doors.collect::<Result<_, TlsFault>>()?,
        door_limits: DoorLimits {
            connections: settings.connections.connections,
            connections_per_address: settings.connections.connections_per_address,
        },
        intake: intake_limits(settings),
        header: HeaderLimits::clone(&settings.header),
        received: ReceivedDetail {
            identity: shown(settings.received.identity),
            client_address: shown(settings.received.client_address),
        },
        roster: Arc::clone(&settings.roster),
        routes: Arc::new(Routes::new(route.into_iter().collect())),
        schedule: Arc::new(settings.schedule.clone()),
        hostname: settings.hostname.as_str().into(),
    })
}

fn intake_limits(settings: &Settings) -> IntakeLimits {
    let deadlines = settings.deadlines;
    IntakeLimits {
        handshake: deadlines.handshake,
        command: deadlines.command,
        write: deadlines.write,
        session_max: deadlines.session_max,
        pace: PaceLimits {
            rate_min: deadlines.rate_min,
            window: deadlines.rate_window,
            total_max: deadlines.transaction,
        },
        dispute_wait: DISPUTE_WAIT,
        dispute_octets: DISPUTE_OCTETS,
    }
}

const fn shown(setting: ShownSetting) -> Shown {
    match setting {
        ShownSetting::No => Shown::No,
        ShownSetting::Yes => Shown::Yes,
    }
}
