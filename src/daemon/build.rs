//! Settings to a snapshot: what a reload makes anew.
//!
//! Never: reads a file. What can fail: our own TLS settings, which `config` has checked before.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{ListenerMode, Settings, Shown as ShownSetting};
use crate::identity::CertificateFacts;
use crate::intake::{IntakeLimits, LingerLimits, PaceLimits};
use crate::report::Reporter;
use crate::route::{Route, Routes};
use crate::session::SessionSettings;
use crate::snapshot::{Door, DoorLimits, End, Mode, ReceivedDetail, Shown, Snapshot};
use crate::sys::Clock;
use crate::tls::{ListenerFault, ListenerTls};

/// How long before its end a certificate is told of.
const EARLY_CERTIFICATE: Duration = Duration::from_secs(21 * 86_400);
/// How long before its nextUpdate a CRL is told of.
const EARLY_CRL: Duration = Duration::from_secs(2 * 86_400);

/// How long, and how much, is read and dropped after a message whose end is in dispute, before the connection is closed.
const LINGER: LingerLimits = LingerLimits { wait: Duration::from_secs(10), octets: 64 * 1024 * 1024 };

/// The snapshot that `settings` ask for.
///
/// # Errors
/// The TLS settings can't be used.
pub fn snapshot(settings: &Settings, generation: u64, clock: &Arc<dyn Clock>) -> Result<Snapshot, ListenerFault> {
    let doors = settings.listeners.iter().map(|listener| {
        let tls = ListenerTls { refusal: listener.refusal, ..settings.tls.clone() };
        let tls = tls.server_config(&settings.trust, clock)?;
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
        doors: doors.collect::<Result<_, ListenerFault>>()?,
        door_limits: DoorLimits {
            connections: settings.connections.connections,
            connections_per_address: settings.connections.connections_per_address,
        },
        intake: intake_limits(settings),
        header: settings.header,
        received: ReceivedDetail {
            identity: shown(settings.received.identity),
            client_address: shown(settings.received.client_address),
        },
        roster: Arc::clone(&settings.roster),
        credentials: Arc::clone(&settings.credentials),
        routes: Arc::new(Routes::new(route.into_iter().collect())),
        schedule: Arc::new(settings.schedule.clone()),
        ends: ends(settings),
        reporter: Arc::new(Reporter { hostname: settings.hostname.clone(), from: settings.reports.from.clone() }),
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
        linger: LINGER,
    }
}

/// What ends some day, of what the configuration names.
fn ends(settings: &Settings) -> Vec<End> {
    let servers = settings.tls.certificates.iter().filter_map(|server| {
        let facts = CertificateFacts::of(server.chain.first()?).ok()?;
        let remedy = "put a new one in its place and reload";
        Some(End {
            what: format!("the server certificate {}", server.place),
            at: facts.summary.not_after,
            early: EARLY_CERTIFICATE,
            remedy,
        })
    });
    let cas = settings.trust.cas().iter().flat_map(|ca| {
        let crls = ca.crls_fresh_until().map(|at| End {
            what: format!("the CRL of client_ca {:?}", ca.name()),
            at,
            early: EARLY_CRL,
            remedy: "fetch a new one and reload; with revocation = \"require\" its clients are refused from then on",
        });
        let anchors = ca.certificates_good_until().map(|at| End {
            what: format!("a CA certificate of client_ca {:?}", ca.name()),
            at,
            early: EARLY_CERTIFICATE,
            remedy: "its clients are refused from then on",
        });
        [crls, anchors].into_iter().flatten()
    });
    servers.chain(cas).collect()
}

const fn shown(setting: ShownSetting) -> Shown {
    match setting {
        ShownSetting::No => Shown::No,
        ShownSetting::Yes => Shown::Yes,
    }
}
