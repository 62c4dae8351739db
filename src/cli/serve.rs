//! `sealpost serve`: the daemon in the foreground.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use super::ServeArguments;
use super::exit::Exit;
use crate::daemon::place::{self, Unfit};
use crate::daemon::{Daemon, DaemonFault, logging};
use crate::queue::OpenError;
use crate::sys::{Clock, SystemClock};

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// The asynchronous runtime can't be made.
pub fn run(arguments: &ServeArguments) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    logging::take_panics();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let served = runtime.block_on(async {
        let daemon = Daemon::start(&arguments.config.config, super::environment(), clock).await?;
        daemon.run().await
    });
    // A task that is still at work when the grace has passed must not hold the process.
    runtime.shutdown_background();
    logging::flush();
    Ok(match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(DaemonFault::Configuration(mistakes)) => super::tell_mistakes(&mistakes),
        Err(fault) => {
            eprintln!("sealpost: {}", in_words(&fault));
            exit_of(&fault).into()
        }
    })
}

/// The fault, and what to do, where the disk would not have the queue.
fn in_words(fault: &DaemonFault) -> String {
    match fault {
        DaemonFault::Queue(OpenError::Disk(path, disk)) => match place::remedy(path, disk.kind()) {
            Some(remedy) => format!("{fault}; {remedy}"),
            None => fault.to_string(),
        },
        DaemonFault::Configuration(_)
        | DaemonFault::Tls(_)
        | DaemonFault::Listen { .. }
        | DaemonFault::Place(_)
        | DaemonFault::Queue(_)
        | DaemonFault::Control { .. }
        | DaemonFault::Fallen(_)
        | DaemonFault::Signals(_) => fault.to_string(),
    }
}

/// What a daemon that could not start, or go on, ends with.
pub(super) fn exit_of(fault: &DaemonFault) -> Exit {
    let by_rights = |fault: &io::Error, other| {
        if fault.kind() == io::ErrorKind::PermissionDenied { Exit::NotAllowed } else { other }
    };
    match fault {
        DaemonFault::Configuration(_) => Exit::Misconfigured,
        DaemonFault::Place(Unfit::OfAnother { .. } | Unfit::Denied { .. }) => Exit::NotAllowed,
        DaemonFault::Place(
            Unfit::NoFile { .. } | Unfit::NoDirectory(_) | Unfit::Unwritable { .. } | Unfit::TooLong(_),
        ) => Exit::CantCreate,
        DaemonFault::Listen { fault, .. } => by_rights(fault, Exit::Unavailable),
        DaemonFault::Queue(OpenError::InUse(_)) => Exit::Unavailable,
        DaemonFault::Queue(OpenError::Disk(_, fault)) => by_rights(fault, Exit::Failed),
        DaemonFault::Queue(
            OpenError::Newer { .. }
            | OpenError::StoreMissing(..)
            | OpenError::ShelfMissing(_)
            | OpenError::Store(_)
            | OpenError::Damaged(..)
            | OpenError::Closed,
        )
        | DaemonFault::Tls(_)
        | DaemonFault::Control { .. }
        | DaemonFault::Fallen(_)
        | DaemonFault::Signals(_) => Exit::Failed,
    }
}
