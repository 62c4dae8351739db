//! sealpost: arguments, settings, run.

use std::process::ExitCode;

use clap::Parser as _;
use sealpost::cli;

/// What a command that could not be carried out ends with (`EX_SOFTWARE`).
const COULD_NOT: u8 = 70;

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    match cli::run(&arguments) {
        Ok(code) => code,
        Err(fault) => {
            cli::tell_fault(&fault);
            ExitCode::from(COULD_NOT)
        }
    }
}
