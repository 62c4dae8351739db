//! Settings to a snapshot: what a reload makes anew.
//!
//! Never: reads a file. What can fail: our own TLS settings, which `config` has checked before.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{ListenerMode, Settings, Shown as ShownSetting};
use crate::identity::{CertificateFacts, CertificateSummary};
use crate::intake::{IntakeLimits, LingerLimits, PaceLimits, header_wait};
use crate::report::Reporter;
use crate::session::SessionSettings;
use crate::snapshot::{
    Door, DoorLimits, End, ExpiryNotices, Mode, ReceivedDetail, Recheck, Shown, Snapshot, SoftBounce,
};
use crate::sys::Clock;
use crate::tls::{ListenerFault, ListenerTls, RevocationMode};

/// How long before its end a certificate is told of.
const EARLY_CERTIFICATE: Duration = Duration::from_secs(21 * 86_400);

/// How long, and how much, is read and dropped after a message whose end is in dispute, before the connection is closed.
const LINGER: LingerLimits = LingerLimits { wait: LINGER_WAIT, octets: LINGER_OCTETS_MAX };
const LINGER_WAIT: Duration = Duration::from_secs(10);
const LINGER_OCTETS_MAX: usize = 64 * 1024 * 1024;

/// The snapshot that `settings` ask for.
///
/// # Errors
/// The TLS settings can't be used.
pub fn snapshot(settings: &Settings, generation: u64, clock: &Arc<dyn Clock>) -> Result<Snapshot, ListenerFault> {
    let doors = settings.listeners.iter().map(|listener| {
        let tls = ListenerTls { refusal: listener.refusal, ..settings.tls.clone() };
        let trust = settings.listener_trust(listener);
        let tls = match listener.mode {
            ListenerMode::StartTls | ListenerMode::Implicit => tls.server_config(&trust, clock)?,
            ListenerMode::ProxiedTls => tls.balanced_config(&listener.vouchers, clock)?,
        };
        Ok(Arc::new(Door {
            address: listener.address,
            mode: match listener.mode {
                ListenerMode::StartTls => Mode::StartTls,
                ListenerMode::Implicit => Mode::Implicit,
                ListenerMode::ProxiedTls => Mode::ProxiedTls,
            },
            tls,
            session: Arc::new(SessionSettings { refusal: listener.refusal, ..settings.session.clone() }),
            trust,
            balancers: listener.balancers.clone(),
            vouchers: listener.vouchers.clone(),
        }))
    });
    Ok(Snapshot {
        generation,
        doors: doors.collect::<Result<_, ListenerFault>>()?,
        door_limits: DoorLimits {
            connections: settings.connections.connections,
            connections_per_address: settings.connections.connections_per_address,
            connections_per_identity: settings.connections.connections_per_identity,
            connections_per_minute: settings.connections.connections_per_minute,
        },
        intake: intake_limits(settings),
        header: settings.header,
        received: ReceivedDetail {
            identity: shown(settings.received.identity),
            client_address: shown(settings.received.client_address),
        },
        roster: Arc::clone(&settings.roster),
        credentials: Arc::clone(&settings.credentials),
        routes: Arc::clone(&settings.routes),
        schedule: Arc::new(settings.schedule.clone()),
        soft_bounce: if settings.soft_bounce { SoftBounce::Yes } else { SoftBounce::No },
        recheck: if settings.recheck { Recheck::Yes } else { Recheck::No },
        expiry_notices: if settings.expiry_notices { ExpiryNotices::Yes } else { ExpiryNotices::No },
        ends: ends(settings),
        reporter: Arc::new(Reporter {
            hostname: settings.hostname.clone(),
            from: settings.reports.from.clone(),
            envelope_sender: settings.reports.envelope_sender.clone(),
            postmaster: settings.reports.postmaster.clone(),
        }),
    })
}

fn intake_limits(settings: &Settings) -> IntakeLimits {
    let deadlines = settings.deadlines;
    IntakeLimits {
        handshake: deadlines.handshake,
        proxy_header: header_wait(deadlines.handshake),
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
    let servers = settings.tls.certificates.iter().flat_map(|server| {
        server.chain.iter().enumerate().filter_map(|(depth, der)| {
            let CertificateSummary { subject, not_after: at, .. } = CertificateFacts::of(der).ok()?.summary;
            let (what, remedy) = match depth {
                0 => ("the server certificate".to_owned(), "put a new one in its place and reload"),
                _ => (
                    format!("the intermediate {subject} of the server certificate"),
                    "put the chain that its CA gives out now in its place and reload",
                ),
            };
            Some(End { what: format!("{what} in {}", server.place), at, early: EARLY_CERTIFICATE, remedy })
        })
    });
    let cas = settings.trust.cas().iter().flat_map(|ca| {
        let name = ca.name();
        let crls = ca.crl_facts().into_iter().map(move |list| End {
            what: format!("the CRL {} of client_ca {name:?}", list.place),
            at: list.next_update,
            // From half its life on a newer one should be here.
            early: list.next_update.since(list.this_update) / 2,
            remedy: match ca.revocation() {
                RevocationMode::Require => {
                    "no newer one has come; get it and reload: when it has ended, and crl_grace is over, its clients are refused"
                }
                RevocationMode::IfAvailable => "no newer one has come; get it and reload: who is revoked since gets in",
                RevocationMode::Off => "no newer one has come; but revocation is \"off\": nobody asks it",
            },
        });
        let certificates = ca.ends().map(move |(subject, at)| End {
            what: format!("the CA certificate {subject} of client_ca {name:?}"),
            at,
            early: EARLY_CERTIFICATE,
            remedy: "have the CA renew it, add the new one beside it and reload: clients below it alone are refused from then on",
        });
        crls.chain(certificates).collect::<Vec<_>>()
    });
    servers.chain(cas).collect()
}

const fn shown(setting: ShownSetting) -> Shown {
    match setting {
        ShownSetting::No => Shown::No,
        ShownSetting::Yes => Shown::Yes,
    }
}
