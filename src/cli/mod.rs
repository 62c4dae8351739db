//! The command line: what can be asked of the program, and who answers. `--help` is written to teach.
//!
//! Exit codes are told by each command's help, from the table in [`exit`]. Never: decides anything about mail.

// First: what it says of `println!` is for all of them.
#[macro_use]
mod output;

pub mod catcher;
pub mod check;
mod compact;
pub mod exit;
pub mod explain;
pub mod identities;
pub mod passwd;
pub mod pki;
pub mod queue;
pub mod quickstart;
pub mod serve;
mod signals;
pub mod submit;
pub mod upstream;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use self::exit::Exit;
use crate::config::Mistake;
use crate::sys::{Clock, SystemClock};

/// A mail submission relay where the TLS client certificate is the login.
///
/// A client must present a certificate; the certificate decides which addresses it may send as and to whom. Approved mail goes to an upstream
/// mail server, the rest is refused with a reason.
#[derive(Debug, Parser)]
#[command(
    name = "sealpost",
    version,
    arg_required_else_help = true,
    after_help = "To see it work on this machine, with certificates made for you:\n\n  sealpost quickstart\n\n\
        To set up your own:\n\n  sealpost pki init --dir pki\n  sealpost pki server --dir pki mail.example.com\n  \
        sealpost pki issue --dir pki --email alice@example.com\n  sealpost check --config sealpost.toml\n  \
        sealpost serve --config sealpost.toml\n\n\
        Every command has its own --help with examples; conf/sealpost.toml explains every key of the configuration."
)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be asked.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the relay in the foreground until SIGTERM; SIGHUP reloads the configuration
    Serve(ServeArguments),
    /// Make a CA, certificates and a configuration, start relay and a catching upstream, and show one mail go through and one refused
    Quickstart(QuickstartArguments),
    /// Read the configuration and tell every mistake at once, with file, line and remedy
    Check(check::CheckArguments),
    /// Say what would be decided about a certificate and a mail, by which rule, and where that rule is written
    Explain(ExplainArguments),
    /// Try the upstreams out, without sending anything
    Upstream(upstream::UpstreamArguments),
    /// Look at the queue and act on it
    Queue(queue::arguments::QueueArguments),
    /// List who may send, who was here last, and how long their certificates last
    Identities(identities::IdentitiesArguments),
    /// Keep a small certificate authority: certificates for the server and its clients, and the CRL
    Pki(pki::PkiArguments),
    /// Ask for a password and print its line for the file of credentials
    Passwd(passwd::PasswdArguments),
    /// Submit one message from standard input with a client certificate
    Submit(submit::SubmitArguments),
}

/// The configuration file, for all commands that take one.
#[derive(Clone, Debug, Args)]
pub struct ConfigArgument {
    /// The configuration file; any key outside [[...]] lists can also be set by the environment, like SEALPOST__TLS__MIN_VERSION=1.3
    #[arg(long, short, value_name = "FILE")]
    pub config: PathBuf,
}

/// `sealpost serve`
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n\n  sealpost serve --config /etc/sealpost/sealpost.toml\n  \
    kill -HUP $(pidof sealpost)       new configuration, certificates and CRLs; a wrong one is refused and the old kept\n  \
    kill -TERM $(pidof sealpost)      finish what is under way, then stop; a second TERM does not wait")]
pub struct ServeArguments {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgument,
}

/// `sealpost quickstart`
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n\n  sealpost quickstart\n  \
    sealpost quickstart --dir other --port-offset 1000     beside the first: ports 2587, 2465 and 2025\n\n\
    It listens on 127.0.0.1:1587 (STARTTLS) and :1465 (implicit TLS); the catching upstream is on 127.0.0.1:1025 and puts mail into outbox/. \
    Run again, it keeps what is there.")]
pub struct QuickstartArguments {
    /// Where to put everything
    #[arg(long, value_name = "DIR", default_value = "sealpost-quickstart")]
    pub dir: PathBuf,
    /// Move all three ports up by so much; a folder that is there keeps its own
    #[arg(long, value_name = "NUMBER")]
    pub port_offset: Option<u16>,
}

/// `sealpost explain`
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n\n  sealpost explain --config sealpost.toml --cert alice.pem\n  \
    sealpost explain --config sealpost.toml --cert alice.pem --from ceo@example.com --to bob@example.net\n  \
    sealpost explain --config sealpost.toml --cert alice.pem --message draft.eml\n\n\
    OCSP responders are not asked. Where the CA has ocsp = \"require\", what is told holds if the responder says that the certificate is good.")]
pub struct ExplainArguments {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgument,
    /// The client's certificate, and its intermediates behind it
    #[arg(long, value_name = "PEM")]
    pub cert: PathBuf,
    /// At which listener? Without, every CA that counts at any of them counts
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listener: Option<std::net::SocketAddr>,
    /// Would it be allowed to send as this address? (`<>` is the null sender)
    #[arg(long, value_name = "ADDRESS")]
    pub from: Option<String>,
    /// Would it be allowed to send to this address? May be given more than once
    #[arg(long, value_name = "ADDRESS")]
    pub to: Vec<String>,
    /// Would this message's header be allowed?
    #[arg(long, value_name = "FILE")]
    pub message: Option<PathBuf>,
}

/// Does what was asked; errors that are no part of a command's own output come back for `main` to print.
///
/// # Errors
/// What the command could not do.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    output::ended(carry_out(&arguments.command))
}

/// Says why a command could not be carried out.
pub fn tell_fault(fault: &anyhow::Error) {
    eprintln!("sealpost: {fault:#}");
}

fn carry_out(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Check(arguments) => Ok(check::run(arguments, &environment(), &clock())),
        Command::Pki(arguments) => pki::run(arguments, clock().now().wall),
        Command::Passwd(arguments) => Ok(passwd::run(arguments)),
        Command::Submit(arguments) => submit::run(arguments),
        Command::Serve(arguments) => serve::run(arguments),
        Command::Quickstart(arguments) => quickstart::run(arguments),
        Command::Queue(arguments) => queue::run(arguments),
        Command::Identities(arguments) => identities::run(arguments),
        Command::Upstream(arguments) => upstream::run(arguments),
        Command::Explain(arguments) => explain::run(arguments),
    }
}

/// Prints every mistake of a configuration; gives the exit code for it (`EX_CONFIG`).
pub fn tell_mistakes(mistakes: &[Mistake]) -> ExitCode {
    for mistake in mistakes {
        eprintln!("{mistake}");
    }
    Exit::Misconfigured.into()
}

/// The environment's variables that are text; others can't name a key.
pub fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// A text file that was named on the command line.
#[expect(clippy::disallowed_methods, reason = "files named on the command line are read here")]
pub(crate) fn read_text(path: &std::path::Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).map_err(|fault| exit::unread(path, &fault))
}

/// The configuration, as text; every command ends alike where it can't be read.
fn read_configuration(path: &std::path::Path) -> anyhow::Result<String> {
    crate::config::read_text(path).map_err(|mistakes| {
        let told: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        exit::fault(Exit::Misconfigured, told.join("\n"))
    })
}

/// The arguments, or what is to be said of them: help, the version, what was not understood.
///
/// # Errors
/// The exit code, when there is nothing more to do.
pub fn arguments() -> Result<Arguments, ExitCode> {
    let command = exit::with_exits(Arguments::command());
    let told = command.try_get_matches().and_then(|matches| Arguments::from_arg_matches(&matches));
    told.map_err(|said| {
        let is_mistaken = said.use_stderr();
        // Nobody reads on: as with all that is said.
        drop(said.print());
        if is_mistaken { Exit::Usage.into() } else { ExitCode::SUCCESS }
    })
}

/// The machine's clocks, for commands.
pub fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_fit_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_teaches_by_example() {
        for command in Arguments::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains(&format!("sealpost {}", command.get_name())), "{}", command.get_name());
        }
    }

    #[test]
    fn the_lines_of_the_design_are_understood() {
        for line in [
            "serve --config f",
            "quickstart",
            "quickstart --dir d --port-offset 1000",
            "check --config f",
            "explain --config f --cert c --from a@b --to c@d --to e@f --message m",
            "queue list --config f --json",
            "queue show --config f ID",
            "queue hold --config f ID ID",
            "queue release --config f --all",
            "queue retry --config f ID",
            "queue remove --config f ID",
            "queue stats --config f --top 3",
            "queue compact --config f",
            "upstream test --config f",
            "upstream test --config f --json main spare",
            "queue list --config f --sender *@a.example --older-than 2h --newest-first --after 01jdkz3n7q8w0x2y4z6a8b0c1d --limit 5",
            "queue remove --config f --sender <> --recipient a@b --upstream u --identity i --state dead --yes",
            "queue hold --config f --newer-than 1h30m --dry-run",
            "queue show --config f ID --headers",
            "identities --config f",
            "identities --config f --json --limit 5 alice staff:bob@example.com",
            "passwd alice",
            "passwd --scram --iterations 10000 alice",
            "passwd --totp staff:alice@example.com",
            "pki init --dir d",
            "pki server --dir d mail.example.com",
            "pki issue --dir d --email a@b.example",
            "pki issue --dir d --dns robot.example --uri spiffe://a/b",
            "pki revoke --dir d alice",
            "pki crl --dir d",
            "pki renew --dir d alice",
            "pki list --dir d",
            "submit --server h:587 --cert c --key k --ca a -f a@b c@d e@f",
        ] {
            let words = std::iter::once("sealpost").chain(line.split(' '));
            assert!(Arguments::try_parse_from(words).is_ok(), "{line}");
        }
    }
}
