//! `sealpost check`: every mistake of a configuration at once.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use super::ConfigArgument;
use crate::config::{self, Mistake};
use crate::sys::Clock;

/// `sealpost check`
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n\n  sealpost check --config sealpost.toml\n  \
    sealpost.toml:31: identity \"robot\": send_as: \"*@\": not a domain name; write \"*@example.com\"\n  1 mistake\n\n\
    Files that the configuration names are read too: certificates, keys and CRLs must fit together. What can never apply is told as a warning.\n\n\
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
            println!("{} is right: {}", file.display(), loaded.settings.census);
            ExitCode::SUCCESS
        }
        Err(found) => {
            tell(&found);
            println!("{}", counted(&found));
            ExitCode::FAILURE
        }
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
    let plural = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    let mistakes = plural(found.len().saturating_sub(warnings), "mistake");
    if warnings == 0 { mistakes } else { format!("{mistakes}, {}", plural(warnings, "warning")) }
}
