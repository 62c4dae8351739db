//! `sealpost check`: every mistake of a configuration at once; and whether the place of the queue will do, without leaving anything there.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use rustix::fs::{Access, AtFlags, CWD, accessat};

use super::{ConfigArgument, output};
use crate::config::{self, Mistake};
use crate::daemon::control;
use crate::sys::Clock;

/// `sealpost check`
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n\n  sealpost check --config sealpost.toml\n  \
    sealpost.toml:31: identity \"robot\": send_as: \"*@\": not a domain name; write \"*@example.com\"\n  1 mistake\n\n\
    Files that the configuration names are read too: certificates, keys and CRLs must fit together. What can never apply is told as a warning, \
    and so is what keeps certificates out; then the last line does not say that it is right.\n\n\
    Whether data_dir can be made and written is tried for the user who runs this; nothing is left there.\n\n\
    Exit codes: 0 it can be used, 1 it can't.")]
pub struct CheckArguments {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgument,
}

/// Checks, tells, and ends with 0 or 1. Mistakes and warnings go to standard error, the last line to standard output.
pub fn run(arguments: &CheckArguments, environment: &[(String, String)], clock: &Arc<dyn Clock>) -> ExitCode {
    let file = &arguments.config.config;
    match config::load(file, environment, clock) {
        Ok(loaded) => {
            tell(&loaded.warnings);
            let place = Place::of(&loaded.settings.data_dir);
            for warning in &place.doubts {
                eprintln!("{}: warning: data_dir: {warning}", file.display());
            }
            if let Some(wrong) = place.wrong {
                eprintln!("{}: data_dir: {wrong}", file.display());
                println!("1 mistake");
                return ExitCode::FAILURE;
            }
            let warnings = loaded.warnings.len().saturating_add(place.doubts.len());
            println!("{} {}: {}", file.display(), verdict(warnings), loaded.settings.census);
            ExitCode::SUCCESS
        }
        Err(found) => {
            tell(&found);
            println!("{}", counted(&found));
            ExitCode::FAILURE
        }
    }
}

/// Whether the queue and the control socket can be where they are to be.
#[derive(Debug, Default, PartialEq, Eq)]
struct Place {
    /// What nobody can use.
    wrong: Option<String>,
    /// What whoever runs the check can't; the daemon may be another user.
    doubts: Vec<String>,
}

impl Place {
    fn of(data_dir: &Path) -> Self {
        let mut place = Self::default();
        let socket = control::path(data_dir);
        let length = socket.as_os_str().as_bytes().len();
        if length > control::PATH_MAX {
            place.wrong = Some(format!(
                "the control socket would be {}, which has {length} octets, and a socket's path has at most {}; choose a shorter path",
                socket.display(),
                control::PATH_MAX
            ));
        }
        let Some(there) = nearest(data_dir) else { return place };
        if !there.is_dir() {
            place.wrong = Some(format!("{} is no directory", there.display()));
        } else if let Some(why) = not_writable(there) {
            let what = if there == data_dir { "can't be written" } else { "can't be made" };
            place.doubts.push(format!(
                "{} {what} by you (uid {}): {why}; the daemon must run as a user that can",
                data_dir.display(),
                rustix::process::geteuid().as_raw()
            ));
        }
        place
    }
}

/// The folder itself, or the nearest above it that is there.
fn nearest(folder: &Path) -> Option<&Path> {
    folder.ancestors().map(|one| if one.as_os_str().is_empty() { Path::new(".") } else { one }).find(|one| one.exists())
}

#[expect(clippy::disallowed_methods, reason = "looks whose the data directory is")]
fn not_writable(folder: &Path) -> Option<String> {
    let fault = accessat(CWD, folder, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS).err()?;
    let owner = std::fs::metadata(folder).map(|found| found.uid());
    let whose = owner.map_or_else(|_| String::new(), |owner| format!(", whose owner is uid {owner}"));
    Some(format!("{}{whose}: {fault}", folder.display()))
}

/// How a configuration is that has no mistake. Behind a warning there may be mail that nobody can send: nobody is to read that all is right.
fn verdict(warnings: usize) -> String {
    match warnings {
        0 => "is right".to_owned(),
        1 => "can be used, but see the warning".to_owned(),
        warnings => format!("can be used, but see the {warnings} warnings"),
    }
}

/// Every mistake on a line of its own, on standard error.
pub fn tell(found: &[Mistake]) {
    for mistake in found {
        eprintln!("{mistake}");
    }
}

/// `3 mistakes`, `1 mistake, 2 warnings`.
pub fn counted(found: &[Mistake]) -> String {
    let warnings = found.iter().filter(|one| one.is_warning()).count();
    let mistakes = output::counted(found.len().saturating_sub(warnings), "mistake");
    if warnings == 0 { mistakes } else { format!("{mistakes}, {}", output::counted(warnings, "warning")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_warning_is_not_called_right() {
        for (warnings, words) in
            [(0, "is right"), (1, "can be used, but see the warning"), (3, "can be used, but see the 3 warnings")]
        {
            assert_eq!(verdict(warnings), words);
        }
    }

    #[test]
    fn a_place_that_will_not_do_is_told_and_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::File::options().create_new(true).write(true).open(&file).unwrap();
        let long = folder.path().join("x".repeat(control::PATH_MAX));
        for (data_dir, wrong, doubts) in [
            (folder.path().join("a/b/data"), None, 0),
            (folder.path().to_owned(), None, 0),
            (file.clone(), Some("is no directory"), 0),
            (file.join("data"), Some("is no directory"), 0),
            (long, Some("a socket's path has at most 107"), 0),
            ("/proc/sys/data".into(), None, 1),
        ] {
            let place = Place::of(&data_dir);
            assert_eq!(place.wrong.is_some(), wrong.is_some(), "{place:?}");
            assert!(wrong.is_none_or(|text| place.wrong.as_ref().unwrap().contains(text)), "{place:?}");
            assert_eq!(place.doubts.len(), doubts, "{place:?}");
        }
        assert_eq!(folder.path().read_dir().unwrap().count(), 1);
    }
}
