//! `sealpost check`: every mistake of a configuration at once; and whether the place of the queue will do, without leaving anything there.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use super::exit::Exit;
use super::{ConfigArgument, output};
use crate::config::{self, Mistake};
use crate::daemon::place::{self, Unfit};
use crate::sys::Clock;

/// `sealpost check`
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n\n  sealpost check --config sealpost.toml\n  \
    sealpost.toml:31: identity \"robot\": send_as: \"*@\": not a domain name; write \"*@example.com\"\n  1 mistake\n\n\
    Files that the configuration names are read too: certificates, keys and CRLs must fit together. What can never apply is told as a warning, \
    and so is what keeps certificates out; then the last line does not say that it is right.\n\n\
    Whether data_dir can be made and written is tried for the user who runs this; nothing is left there. \
    Root is told whose it is: `serve` must run as that user.\n\n\
    All of it goes to standard output, mistakes and warnings line by line before the last.")]
pub struct CheckArguments {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgument,
}

/// Checks, tells, and ends with 0 or 1. What was found and the line that counts it are one text on standard output: it is what was asked for.
pub fn run(arguments: &CheckArguments, environment: &[(String, String)], clock: &Arc<dyn Clock>) -> ExitCode {
    let file = &arguments.config.config;
    match config::load(file, environment, clock) {
        Ok(loaded) => {
            tell(&loaded.warnings);
            let place = Place::of(&loaded.settings.data_dir);
            for warning in &place.doubts {
                println!("{}: warning: data_dir: {warning}", file.display());
            }
            if let Some(wrong) = place.wrong {
                println!("{}: data_dir: {wrong}", file.display());
                println!("1 mistake");
                return Exit::No.into();
            }
            let warnings = loaded.warnings.len().saturating_add(place.doubts.len());
            let whose = place
                .whose
                .map(|owner| format!("; to be run as uid {owner}, to whom data_dir belongs: check as that user, too, since root can read every file: runuser -u $(id -nu {owner}) -- sealpost check ..."))
                .unwrap_or_default();
            println!("{} {}: {}{whose}", file.display(), verdict(warnings), loaded.settings.census);
            ExitCode::SUCCESS
        }
        Err(found) => {
            tell(&found);
            println!("{}", counted(&found));
            Exit::No.into()
        }
    }
}

/// Whether the queue and the control socket can be where they are to be: what `serve` would say of it, as whoever runs the check.
#[derive(Debug, Default, PartialEq, Eq)]
struct Place {
    /// What nobody can use.
    wrong: Option<String>,
    /// What whoever runs the check can't; the daemon may be another user.
    doubts: Vec<String>,
    /// Another user's it is, and root looks: `serve` must run as that one.
    whose: Option<u32>,
}

impl Place {
    fn of(data_dir: &Path) -> Self {
        Self::said(place::will_do(data_dir, place::own_uid()).err())
    }

    fn said(unfit: Option<Unfit>) -> Self {
        match unfit {
            None => Self::default(),
            Some(Unfit::OfAnother { owner, .. }) => Self { whose: Some(owner), ..Self::default() },
            Some(Unfit::Denied { data_dir, there, fault }) => {
                let what = if there == data_dir { "can't be written" } else { "can't be made" };
                let whose =
                    place::owner(&there).map(|owner| format!(", whose owner is uid {owner}")).unwrap_or_default();
                let doubt = format!(
                    "{} {what} by you (uid {}): {}{whose}: {fault}; the daemon must run as a user that can",
                    data_dir.display(),
                    place::own_uid(),
                    there.display()
                );
                Self { doubts: vec![doubt], ..Self::default() }
            }
            Some(unfit) => Self { wrong: Some(unfit.to_string()), ..Self::default() },
        }
    }
}

/// How a configuration is that has no mistake. Behind a warning there may be mail that nobody can send: nobody is to read that all is right.
fn verdict(warnings: usize) -> String {
    match warnings {
        0 => "is right".to_owned(),
        1 => "can be used, but see the warning".to_owned(),
        warnings => format!("can be used, but see the {warnings} warnings"),
    }
}

/// Every mistake on a line of its own.
fn tell(found: &[Mistake]) {
    for mistake in found {
        println!("{mistake}");
    }
}

/// `3 mistakes`, `1 mistake, 2 warnings`.
fn counted(found: &[Mistake]) -> String {
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
    fn root_is_told_whose_the_place_is_and_only_what_nobody_can_use_is_a_mistake() {
        let (data_dir, there) = (Path::new("/var/lib/x"), Path::new("/var/lib"));
        let fault = || std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        let (to, at) = (|| data_dir.to_owned(), || there.to_owned());
        for (unfit, wrong, doubts, whose) in [
            (None, false, 0, None),
            (Some(Unfit::OfAnother { data_dir: to(), owner: 992 }), false, 0, Some(992)),
            (Some(Unfit::Denied { data_dir: to(), there: at(), fault: fault() }), false, 1, None),
            (Some(Unfit::Unwritable { data_dir: to(), there: at(), fault: fault() }), true, 0, None),
            (Some(Unfit::NoDirectory(to())), true, 0, None),
            (Some(Unfit::TooLong(to())), true, 0, None),
        ] {
            let place = Place::said(unfit);
            assert_eq!((place.wrong.is_some(), place.doubts.len(), place.whose), (wrong, doubts, whose), "{place:?}");
        }
    }
}
