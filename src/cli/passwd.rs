//! `sealpost passwd`: asks for a password and prints the line for the file of credentials.
//!
//! On a terminal it asks twice, without echo; else it reads one line of standard input. Never: writes a file, takes a password from the
//! arguments (they can be read in the list of processes), prints it, leaves a terminal without echo when it is interrupted.

use std::fmt::Write as _;
use std::io::{BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::runtime::Builder;
use zeroize::Zeroizing;

use super::exit::{self, Exit};
use super::signals::Signals;
use crate::credentials::file::{fit, written_name};
use crate::credentials::{PasswordHash, ScramSecret, TotpSecret, password, prep, scram, totp};
use crate::sys::{Entropy, SystemEntropy};

/// Octets of a password at most: a line of AUTH holds no more in base64, with a user beside it.
const PASSWORD_MAX: u64 = 4096;

/// `sealpost passwd`
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n\n  sealpost passwd billing-robot >> secrets/credentials\n  \
    sealpost passwd --scram staff:alice@example.com >> secrets/credentials\n  \
    sealpost passwd --totp boss >> secrets/credentials     the otpauth:// address for the app goes to standard error\n  \
    pass show robot | sealpost passwd billing-robot       one line of standard input, when that is no terminal\n\n\
    NAME is what the log calls the identity: the name of its [[identity]], or CA:ADDRESS for certificates that send as their own names \
    (sealpost explain tells it). The file is named by [credentials] file and must have mode 0600; a running relay takes it over by itself, or on SIGHUP.\n\
    Without --scram the line serves AUTH PLAIN and LOGIN (argon2id, 19 MiB, 2 passes); with --scram it serves SCRAM-SHA-256 and, over TLS 1.3, \
    SCRAM-SHA-256-PLUS. An identity may have both lines, for programs of both kinds.")]
pub struct PasswdArguments {
    /// Whose
    #[arg(value_name = "NAME")]
    pub name: String,
    /// For SCRAM instead of PLAIN and LOGIN
    #[arg(long, conflicts_with = "totp")]
    pub scram: bool,
    /// With a new secret for codes of one time (second_factor = "totp")
    #[arg(long)]
    pub totp: bool,
    /// How often a client has to hash at each login; so costly is also each guess at a stolen file
    #[arg(long, value_name = "NUMBER", requires = "scram", default_value_t = scram::ITERATIONS,
        value_parser = clap::value_parser!(u32).range(i64::from(scram::ITERATIONS_MIN)..=i64::from(scram::ITERATIONS_MAX)))]
    pub iterations: u32,
}

/// Asks and prints; says what was wrong and ends with 1 when there is no line to print.
pub fn run(arguments: &PasswdArguments) -> ExitCode {
    match ask_and_print(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("sealpost: {fault:#}");
            ExitCode::FAILURE
        }
    }
}

fn ask_and_print(arguments: &PasswdArguments) -> anyhow::Result<()> {
    let name = &arguments.name;
    fit(name).map_err(|wrong| exit::fault(Exit::Usage, format!("NAME {wrong}")))?;
    let typed = ask(name)?;
    let Some(prepared) = prep::prepared(typed.as_bytes()) else {
        bail!(
            "the password is empty or holds what no password may (RFC 4013): control characters, unassigned ones, mixed directions"
        );
    };
    let (line, told) = line(arguments, &prepared, &SystemEntropy);
    println!("{}", *line);
    if let Some(told) = told {
        eprintln!("Scan or type this into the authenticator app; it is shown only now:\n{}", *told);
    }
    Ok(())
}

/// The line for the file, and what the app needs.
fn line(
    arguments: &PasswdArguments,
    password: &str,
    entropy: &dyn Entropy,
) -> (Zeroizing<String>, Option<Zeroizing<String>>) {
    let mut line = Zeroizing::new(written_name(&arguments.name));
    if arguments.scram {
        let mut salt = [0; scram::SALT_OCTETS];
        entropy.fill(&mut salt);
        let _ = write!(line, " {}", ScramSecret::make(password, &salt, arguments.iterations).written());
        return (line, None);
    }
    let mut salt = [0; password::SALT_OCTETS];
    entropy.fill(&mut salt);
    let _ = write!(line, " {}", PasswordHash::make(password, salt).written());
    if !arguments.totp {
        return (line, None);
    }
    let mut octets = Zeroizing::new([0; totp::SECRET_OCTETS]);
    entropy.fill(&mut *octets);
    let secret = TotpSecret::new(*octets).written();
    let _ = write!(line, " totp={}", *secret);
    let label = percent_encoded(&arguments.name);
    let address = format!("otpauth://totp/sealpost:{label}?secret={}&issuer=sealpost", *secret);
    (line, Some(Zeroizing::new(address)))
}

/// What is not unreserved in RFC 3986 §2.3.
fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, octet| {
        if octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(octet));
        } else {
            let _ = write!(encoded, "%{octet:02X}");
        }
        encoded
    })
}

fn ask(name: &str) -> anyhow::Result<Zeroizing<String>> {
    if !std::io::stdin().is_terminal() {
        return read_line();
    }
    let first = prompt(&format!("Password of {name}: "))?;
    let second = prompt("The same again: ")?;
    ensure!(*first == *second, "the two differ; nothing was printed");
    Ok(first)
}

fn prompt(text: &str) -> anyhow::Result<Zeroizing<String>> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let line = runtime.block_on(async {
        // From here on these end nothing by themselves, so that the terminal is as it was when we end.
        let mut signals = Signals::begin()?;
        eprint!("{text}");
        std::io::stderr().flush()?;
        let silence = Silence::begin()?;
        let line = tokio::select! {
            line = tokio::task::spawn_blocking(read_line) => line?,
            _ = signals.any() => Err(anyhow::anyhow!("interrupted; nothing was printed")),
        };
        drop(silence);
        eprintln!();
        line
    });
    // Whoever waits for the rest of a line is not waited for.
    runtime.shutdown_background();
    line
}

/// One line, without its end.
fn read_line() -> anyhow::Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(String::with_capacity(usize::try_from(PASSWORD_MAX).unwrap_or_default()));
    let read = std::io::stdin().lock().take(PASSWORD_MAX).read_line(&mut line).context("the password can't be read")?;
    ensure!(u64::try_from(read).is_ok_and(|read| read < PASSWORD_MAX), "the password is too long");
    while line.ends_with(['\n', '\r']) {
        line.pop();
    }
    Ok(line)
}

/// The terminal says nothing back until this is dropped.
struct Silence {
    before: Termios,
}

impl Silence {
    fn begin() -> anyhow::Result<Self> {
        let before = tcgetattr(std::io::stdin()).context("the terminal can't be asked")?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(std::io::stdin(), OptionalActions::Flush, &silent).context("the terminal can't be silenced")?;
        Ok(Self { before })
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Flush, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::file;
    use crate::identity::SecondFactor;
    use crate::sys::SeededEntropy;

    fn of(name: &str, scram: bool, totp: bool) -> PasswdArguments {
        PasswdArguments { name: name.to_owned(), scram, totp, iterations: scram::ITERATIONS_MIN }
    }

    #[test]
    fn what_is_printed_is_what_the_file_takes() {
        for (scram, totp, factor) in [
            (false, false, SecondFactor::Password),
            (true, false, SecondFactor::Password),
            (false, true, SecondFactor::Totp),
        ] {
            let (line, told) = line(&of("the boss", scram, totp), "correct horse", &SeededEntropy::new(1));
            let credentials = file::read(&line, |_| true).unwrap();
            assert!(!credentials.means("the boss", factor, None).mechanisms().is_empty(), "{scram} {totp}");
            assert!(!line.contains("correct"));
            assert_eq!(told.is_some(), totp);
        }
    }

    #[test]
    fn the_address_for_the_app_has_the_secret_of_the_line() {
        let (line, told) = line(&of("staff:a@b.example", false, true), "correct horse", &SeededEntropy::new(1));
        let told = told.unwrap();
        let secret = line.split_once("totp=").unwrap().1;
        assert_eq!(*told, format!("otpauth://totp/sealpost:staff%3Aa%40b.example?secret={secret}&issuer=sealpost"));
    }
}
