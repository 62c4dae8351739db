//! The configuration: as written, and checked.
//!
//! One way for `check`, `serve` and reload: [`load`]. The text is read once with the line of each key and held against the list of all keys;
//! `config` layers defaults, the usable part of the file and the environment into one value; the checks make [`Settings`] of it, values of the
//! stations' own types, or tell *every* mistake, each with its place and remedy. Never: stops at the first mistake; lets a key that nothing
//! obeys pass; reads a secret from anything but a file of its own.

mod before;
mod checks;
mod difference;
mod environment;
pub(crate) mod files;
mod mistake;
mod nearest;
mod origin;
mod schema;
pub mod settings;
#[cfg(test)]
mod tests;
pub(crate) mod text;
mod units;
mod written;

use std::path::Path;
use std::sync::Arc;

pub use before::{Before, FaultyPart};
pub use difference::differences;
pub use mistake::{Gravity, Mistake, Place};
pub use settings::{
    CRL_KINDS_MAX, CRL_URLS_MAX, Census, ConnectionLimits, CrlSource, Deadlines, ListenerMode, ListenerSettings,
    LogFormat, LogLevel, LogSettings, ReceivedSettings, ReloadSettings, ReportSettings, Settings, Shown, Watching,
    crl_cache_file,
};

use crate::sys::Clock;
use checks::Checking;
use mistake::Findings;
use origin::Origins;

/// A configuration without mistakes.
#[derive(Debug)]
pub struct Loaded {
    /// What it says.
    pub settings: Settings,
    /// What can never apply, or is unwise.
    pub warnings: Vec<Mistake>,
    /// The parts that stay as they were, see [`FaultyPart::StaysAsItWas`].
    pub held_back: Vec<String>,
}

/// Reads a configuration file and everything that it names.
///
/// `environment` holds the variables that may set keys (`SEALPOST__TLS__MIN_VERSION`). `clock` is for the dates of certificates and CRLs, and
/// goes into the TLS settings of upstreams.
///
/// # Errors
/// Every mistake, in the order of the file; warnings among them.
pub fn load(file: &Path, environment: &[(String, String)], clock: &Arc<dyn Clock>) -> Result<Loaded, Vec<Mistake>> {
    load_text(file, &read_text(file)?, environment, clock)
}

/// The text of a configuration file.
///
/// # Errors
/// One mistake: it can't be read.
pub fn read_text(file: &Path) -> Result<String, Vec<Mistake>> {
    files::read_text(file).map_err(|wrong| {
        let mut findings = Findings::new(Origins::new(&file.display().to_string(), ""));
        findings.mistake("", wrong, ());
        findings.into_sorted()
    })
}

/// The same from a text; relative paths are relative to `file`, which is also named in mistakes.
///
/// # Errors
/// Every mistake, in the order of the file; warnings among them.
pub fn load_text(
    file: &Path,
    text: &str,
    environment: &[(String, String)],
    clock: &Arc<dyn Clock>,
) -> Result<Loaded, Vec<Mistake>> {
    reload_text(file, text, environment, clock, None)
}

/// The same while other settings are in force.
///
/// # Errors
/// Every mistake, in the order of the file; warnings among them.
pub fn reload_text(
    file: &Path,
    text: &str,
    environment: &[(String, String)],
    clock: &Arc<dyn Clock>,
    before: Option<Before<'_>>,
) -> Result<Loaded, Vec<Mistake>> {
    let mut findings = Findings::new(Origins::new(&file.display().to_string(), text));
    let Some(usable) = text::read(text, schema::TOP, &mut findings) else { return Err(findings.into_sorted()) };
    let overrides = environment::read(environment, &mut findings);
    let written = match written::layer(&usable, overrides) {
        Ok(written) => written,
        Err(fault) => {
            // What passed the list of keys fits the types; should it not, nobody is to be left without a word.
            findings.mistake("", format!("can't be read: {fault}"), ());
            return Err(findings.into_sorted());
        }
    };
    let told = difference::told(&written, findings.origins());
    let mut checking = Checking::new(findings, file, clock, before);
    let settings = checking.settings(&written.value, told);
    let held_back = checking.held_back();
    let found = checking.findings.into_sorted();
    match settings {
        Some(settings) => Ok(Loaded { settings, warnings: found, held_back }),
        None => Err(found),
    }
}
