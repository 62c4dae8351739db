//! The time between listening and an open queue: milliseconds after a close, seconds after a crash with a million messages; as long as something has the data
//! directory for a moment: a command that works on the store while no daemon runs, or a daemon that ends, whose the control socket is until then.
//!
//! ```text
//! who comes                  is told
//! at a STARTTLS listener     421 in the place of the greeting (RFC 5321 §4.2.3)
//! at an implicit TLS one     the same, behind a handshake: before it there are no words
//! behind a load balancer     the same, behind its header
//! of one that vouches        the same, behind its handshake and the header inside that
//! at the control socket      that the queue is being opened
//! systemd                    the same, and to wait longer
//! ```
//!
//! There is no session here, and no house: nothing can be taken that could not be kept. Never: waits for a client; serves more than
//! [`HANDSHAKES_MAX`] handshakes at once, who comes besides is closed.

use std::future::{Future, pending};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select_all;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::{ACCEPT_PAUSE, control, ready};
use crate::intake;
use crate::queue::{OpenError, Owned, QueueSettings};
use crate::session::replies;
use crate::snapshot::{Door, Mode};
use crate::sys::Tasks;
use crate::sys::disk::SystemDisk;

/// Handshakes under way at once, for clients that are then sent away.
const HANDSHAKES_MAX: usize = 64;
/// How long such a client may take.
const CLIENT_MAX: Duration = Duration::from_secs(10);
/// So long a start waits for whatever has the data directory, beyond what a daemon that ends takes from its signal on, and so often it looks: such a daemon
/// closes its store then, or a command has it, with a million messages for some seconds.
const LET_GO: Duration = Duration::from_secs(5);
const LET_GO_LOOK: Duration = Duration::from_millis(50);
/// How often systemd is asked to wait longer, and for how long beyond that.
const PATIENCE_EVERY: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(60);

/// Takes the data directory. What has it is waited for, unless it is a daemon that serves: that one answers at its socket.
///
/// # Errors
/// [`OpenError::InUse`], or the disk fails.
pub(super) async fn owned(settings: QueueSettings, shutdown_grace: Duration) -> Result<Owned, OpenError> {
    let socket = control::path(&settings.data_dir);
    let most = super::stop_lasts(shutdown_grace).saturating_add(LET_GO);
    let wait = tokio::time::sleep(most);
    tokio::pin!(wait);
    let mut is_told = false;
    loop {
        match Owned::take(settings.clone(), Arc::new(SystemDisk)) {
            Err(OpenError::InUse(_)) if !wait.is_elapsed() && !control::is_served(&socket).await => {
                if !std::mem::replace(&mut is_told, true) {
                    tracing::info!(
                        data_dir = %settings.data_dir.display(),
                        seconds = most.as_secs(),
                        "data_dir is in use, by a command or by a daemon that ends: waiting for it to let go; clients are told to come again"
                    );
                }
                tokio::select! {
                    () = &mut wait => {}
                    () = tokio::time::sleep(LET_GO_LOOK) => {}
                }
            }
            taken => return taken,
        }
    }
}

/// Waits for the data directory, or for the queue, and sends away who comes meanwhile; also at the control socket, where that is ours by then.
pub(super) async fn until<T>(
    done: impl Future<Output = T>,
    listeners: &[(TcpListener, SocketAddr)],
    doors: &[Arc<Door>],
    control: Option<&UnixListener>,
    tasks: &Tasks,
) -> T {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let porters = listeners.iter().zip(doors).map(|((listener, _), door)| {
        let (door, handshakes) = (Arc::clone(door), Arc::clone(&handshakes));
        Box::pin(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, client)) => send_away(stream, client, &door, &handshakes, tasks),
                    Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                }
            }
        })
    });
    let porters: Vec<_> = porters.collect();
    let at_doors = async { if porters.is_empty() { pending().await } else { select_all(porters).await.0 } };
    let status = match control {
        Some(_) => "recovering the queue; clients are told to come again",
        None => "waiting for data_dir; clients are told to come again",
    };
    let at_socket = async {
        match control {
            Some(control) => at_control(control, tasks).await,
            None => pending().await,
        }
    };
    tokio::select! {
        biased;
        done = done => done,
        () = at_doors => pending().await,
        () = at_socket => pending().await,
        () = ask_for_patience(status) => pending().await,
    }
}

fn send_away(stream: TcpStream, client: SocketAddr, door: &Arc<Door>, handshakes: &Arc<Semaphore>, tasks: &Tasks) {
    if !door.takes_from(client.ip()) {
        return;
    }
    let mut reply = Vec::new();
    replies::from_here(&door.session.hostname, replies::starting()).write_to(&mut reply);
    tracing::debug!(%client, "sent away: the queue is not open yet");
    if door.mode == Mode::StartTls && door.balancers.is_none() {
        // One write into an empty buffer never waits.
        return drop(stream.try_write(&reply));
    }
    let Ok(place) = Arc::clone(handshakes).try_acquire_owned() else { return };
    let door = Arc::clone(door);
    tasks.spawn("connection", async move {
        // Who does not want to hear it comes again all the same.
        drop(timeout(CLIENT_MAX, say_late(stream, &door, &reply)).await);
        drop(place);
    });
}

/// Says `reply` behind what must come before it: a load balancer's header, a handshake.
async fn say_late(mut stream: TcpStream, door: &Door, reply: &[u8]) -> io::Result<()> {
    if door.balancers.is_some() && door.mode != Mode::ProxiedTls && !intake::has_header(&mut stream).await {
        return Ok(());
    }
    match door.mode {
        Mode::StartTls => {
            stream.write_all(reply).await?;
            stream.shutdown().await
        }
        Mode::Implicit | Mode::ProxiedTls => {
            let mut stream = tokio_rustls::TlsAcceptor::from(Arc::clone(&door.tls)).accept(stream).await?;
            if door.mode == Mode::ProxiedTls && !intake::has_header(&mut stream).await {
                return Ok(());
            }
            stream.write_all(reply).await?;
            stream.shutdown().await
        }
    }
}

async fn at_control(control: &UnixListener, tasks: &Tasks) {
    loop {
        match control.accept().await {
            Ok((stream, _)) => tasks.spawn("control connection", control::say_opening(stream)),
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn ask_for_patience(status: &str) {
    loop {
        ready::opening(status, PATIENCE_EVERY.saturating_add(PATIENCE));
        tokio::time::sleep(PATIENCE_EVERY).await;
    }
}
