//! sealpost: arguments, settings, run.

use std::process::ExitCode;

use sealpost::cli;

fn main() -> ExitCode {
    let arguments = match cli::arguments() {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    match cli::run(&arguments) {
        Ok(code) => code,
        Err(fault) => {
            cli::tell_fault(&fault);
            cli::exit::of(&fault).into()
        }
    }
}
