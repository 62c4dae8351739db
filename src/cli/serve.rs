//! `sealpost serve`: the daemon in the foreground.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use super::ServeArguments;
use crate::daemon::{Daemon, DaemonFault, logging};
use crate::queue::OpenError;
use crate::sys::{Clock, SystemClock};

/// The configuration is wrong (`EX_CONFIG`).
const MISCONFIGURED: u8 = 78;
/// The queue is another user's (`EX_NOPERM`).
const NOT_ALLOWED: u8 = 77;
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
        Err(fault @ DaemonFault::OfAnother { .. }) => {
            eprintln!("sealpost: {fault}");
            ExitCode::from(NOT_ALLOWED)
        }
        Err(fault) => {
            eprint!("sealpost: {fault}");
            if let DaemonFault::Queue(OpenError::Disk(path, fault)) = &fault
                && let Some(remedy) = remedy(path, fault.kind())
            {
                eprint!("; {remedy}");
            }
            eprintln!();
            ExitCode::from(COULD_NOT)
        }
    })
}

/// What to do when the store can't be opened for want of a place for it.
#[expect(clippy::disallowed_methods, reason = "looks whose the data directory is")]
fn remedy(path: &Path, kind: io::ErrorKind) -> Option<String> {
    use io::ErrorKind::{AlreadyExists, NotADirectory, PermissionDenied, ReadOnlyFilesystem};
    if kind == PermissionDenied {
        let folder = path.ancestors().find(|one| one.is_dir())?;
        let owner = |path: &Path| std::fs::metadata(path).ok().map(|found| found.uid());
        let whose = owner(path).or_else(|| owner(folder))?;
        let own = rustix::process::geteuid().as_raw();
        // The directory itself is missing, and what it lies in is for others, too: that is not to be given away.
        if matches!(path.try_exists(), Ok(false)) && path.file_name().is_some_and(|name| name != "lock") {
            return Some(format!(
                "there is no {0}, and uid {own}, as whom this runs, can't make it in {1}: make it as root, install -d -m 700 -o {own} {0}, or leave it to \
                 the unit (StateDirectory)",
                path.display(),
                folder.display()
            ));
        }
        return Some(format!(
            "it belongs to uid {whose}, and this runs as uid {own}: data_dir and all that is in it must belong to the user that the relay runs as. Was it \
             started by another one before, as root by hand? Then give it back: chown -R {own} {}",
            folder.display()
        ));
    }
    if kind == ReadOnlyFilesystem {
        return Some(
            "its file system is mounted read-only: mount it to be written, or set another data_dir".to_owned(),
        );
    }
    let is_file = [AlreadyExists, NotADirectory].contains(&kind);
    is_file.then(|| "data_dir, or what it lies in, is no directory: name one in data_dir".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_will_not_do_is_told_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let (lock, missing) = (folder.path().join("lock"), folder.path().join("sealpost"));
        for (path, kind, words) in [
            (lock.as_path(), io::ErrorKind::PermissionDenied, Some("chown -R")),
            (missing.as_path(), io::ErrorKind::PermissionDenied, Some("install -d -m 700 -o")),
            (lock.as_path(), io::ErrorKind::ReadOnlyFilesystem, Some("read-only")),
            (Path::new("/dev/null"), io::ErrorKind::AlreadyExists, Some("no directory")),
            (Path::new("/dev/null/bodies"), io::ErrorKind::NotADirectory, Some("no directory")),
            (lock.as_path(), io::ErrorKind::StorageFull, None),
        ] {
            let remedy = remedy(path, kind);
            assert_eq!(remedy.is_some(), words.is_some(), "{path:?}: {remedy:?}");
            assert!(words.is_none_or(|words| remedy.as_ref().unwrap().contains(words)), "{path:?}: {remedy:?}");
        }
    }
}
