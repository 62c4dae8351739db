//! `sealpost serve`: the daemon in the foreground.

use std::process::ExitCode;
use std::sync::Arc;

use super::ServeArguments;
use crate::daemon::{Daemon, DaemonFault, logging};
use crate::sys::{Clock, SystemClock};

/// The configuration is wrong (`EX_CONFIG`).
const MISCONFIGURED: u8 = 78;
/// The daemon could not start or go on (`EX_SOFTWARE`).
const COULD_NOT: u8 = 70;

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
        Err(DaemonFault::Configuration(mistakes)) => {
            super::tell_mistakes(&mistakes);
            ExitCode::from(MISCONFIGURED)
        }
        Err(fault) => {
            eprintln!("sealpost: {fault}");
            ExitCode::from(COULD_NOT)
        }
    })
}
