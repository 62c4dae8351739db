//! What commands end with: each number, and what it says at each command. The one table from which `--help` tells it.
//!
//! The numbers are those of sysexits(3), which programs that send mail have always used; 1 is a command's own "no". Never: 2, which the
//! shell and others use for much.

use std::fmt;
use std::io;
use std::path::Path;
use std::process::ExitCode;

/// How a command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// Done.
    Done,
    /// Asked, and the answer is no.
    No,
    /// Yes, but for an OCSP responder that was not asked.
    UpToResponder,
    /// The arguments do not say what is meant (`EX_USAGE`).
    Usage,
    /// A file that was named does not hold what it should (`EX_DATAERR`).
    Data,
    /// A file that was named can't be read (`EX_NOINPUT`).
    NoInput,
    /// What is to be used is not there, or is in use (`EX_UNAVAILABLE`).
    Unavailable,
    /// Something failed, as is said (`EX_SOFTWARE`).
    Failed,
    /// A file can't be made (`EX_CANTCREAT`).
    CantCreate,
    /// What was to be said could not be written (`EX_IOERR`).
    Unsaid,
    /// Not now (`EX_TEMPFAIL`).
    NotNow,
    /// Who was spoken to does not speak as he should (`EX_PROTOCOL`).
    Nonsense,
    /// Not allowed (`EX_NOPERM`).
    NotAllowed,
    /// The configuration is wrong or missing (`EX_CONFIG`).
    Misconfigured,
}

impl Exit {
    /// As the shell sees it.
    pub const fn number(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::No => 1,
            Self::UpToResponder => 3,
            Self::Usage => 64,
            Self::Data => 65,
            Self::NoInput => 66,
            Self::Unavailable => 69,
            Self::Failed => 70,
            Self::CantCreate => 73,
            Self::Unsaid => 74,
            Self::NotNow => 75,
            Self::Nonsense => 76,
            Self::NotAllowed => 77,
            Self::Misconfigured => 78,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.number())
    }
}

/// What every command may end with besides.
const OF_ALL: [(Exit, &str); 3] = [
    (Exit::Usage, "the arguments do not say what is meant"),
    (Exit::Failed, "it failed, as is said"),
    (Exit::Unsaid, "what it had to say could not be written"),
];

const MISCONFIGURED: (Exit, &str) = (Exit::Misconfigured, "the configuration is wrong, or can't be read");
const UNREACHED: (Exit, &str) = (Exit::Unavailable, "neither daemon nor store can be reached");
const NOT_ALLOWED: (Exit, &str) = (Exit::NotAllowed, "the queue is another user's");
const UNTAKEN: (Exit, &str) = (Exit::No, "no such message, or it could not be done to one");

/// What each command ends with, in the order of the numbers.
const TOLD: &[(&str, &[(Exit, &str)])] = &[
    (
        "serve",
        &[
            (Exit::Done, "stopped when asked"),
            (Exit::Unavailable, "an address can't be listened on, or another process has the queue"),
            (Exit::Failed, "it could not start or go on, as is said or logged"),
            (Exit::CantCreate, "no queue can be in data_dir"),
            (Exit::NotAllowed, "the queue is another user's, or a port wants more rights"),
            MISCONFIGURED,
        ],
    ),
    (
        "quickstart",
        &[
            (Exit::Done, "stopped when asked, after all went as it should"),
            (Exit::Unavailable, "one of its ports is in use"),
            (Exit::CantCreate, "no queue can be in the folder"),
            NOT_ALLOWED,
            MISCONFIGURED,
        ],
    ),
    (
        "check",
        &[(Exit::Done, "it can be used; there may be warnings"), (Exit::No, "it can't be used, or can't be read")],
    ),
    (
        "explain",
        &[
            (Exit::Done, "all of it would be allowed"),
            (Exit::No, "something would be refused"),
            (Exit::UpToResponder, "all would be allowed, but for an OCSP answer that is required"),
            (Exit::Data, "the certificate's file holds no certificate"),
            (Exit::NoInput, "a file that was named can't be read"),
            MISCONFIGURED,
        ],
    ),
    (
        "upstream test",
        &[
            (Exit::Done, "each of them would take mail now"),
            (Exit::No, "at least one would not, or there is none of that name"),
            MISCONFIGURED,
        ],
    ),
    ("queue list", &[(Exit::Done, "done, also when there is none"), UNREACHED, NOT_ALLOWED, MISCONFIGURED]),
    ("queue show", &[(Exit::Done, "done"), (Exit::No, "no such message"), UNREACHED, NOT_ALLOWED, MISCONFIGURED]),
    ("queue hold", &[(Exit::Done, "done"), UNTAKEN, UNREACHED, NOT_ALLOWED, MISCONFIGURED]),
    ("queue release", &[(Exit::Done, "done"), UNTAKEN, UNREACHED, NOT_ALLOWED, MISCONFIGURED]),
    ("queue retry", &[(Exit::Done, "done"), UNTAKEN, UNREACHED, NOT_ALLOWED, MISCONFIGURED]),
    (
        "queue remove",
        &[
            (Exit::Done, "done"),
            (Exit::No, "no such message, it could not be done to one, or the answer was no"),
            UNREACHED,
            NOT_ALLOWED,
            MISCONFIGURED,
        ],
    ),
    ("queue stats", &[(Exit::Done, "done"), UNREACHED, NOT_ALLOWED, MISCONFIGURED]),
    ("queue compact", &[(Exit::Done, "done"), UNREACHED, NOT_ALLOWED, MISCONFIGURED]),
    (
        "queue export",
        &[
            (Exit::Done, "all that was meant is in the file; all of the receipt is removed"),
            (Exit::No, "some was left out, or stays, as is said"),
            (Exit::Data, "the receipt is none, or is damaged"),
            (Exit::NoInput, "the receipt can't be read"),
            UNREACHED,
            (Exit::CantCreate, "the file is there already, or can't be made"),
            NOT_ALLOWED,
            MISCONFIGURED,
        ],
    ),
    (
        "queue import",
        &[
            (Exit::Done, "all is here"),
            (Exit::No, "something was damaged and left out"),
            (Exit::Data, "the file is no export"),
            (Exit::NoInput, "the file can't be read"),
            UNREACHED,
            (Exit::CantCreate, "the receipt can't be made"),
            NOT_ALLOWED,
            MISCONFIGURED,
        ],
    ),
    ("identities", &[(Exit::Done, "done"), (Exit::No, "nobody of that name"), UNREACHED, NOT_ALLOWED, MISCONFIGURED]),
    (
        "pki init",
        &[(Exit::Done, "made"), (Exit::CantCreate, "there is one already, or the directory can't be written")],
    ),
    ("pki server", MAKING),
    ("pki issue", MAKING),
    ("pki revoke", NAMING),
    ("pki crl", &[(Exit::Done, "made"), NO_AUTHORITY, UNWRITTEN]),
    ("pki renew", NAMING),
    ("pki list", &[(Exit::Done, "done"), NO_AUTHORITY, UNWRITTEN]),
    (
        "passwd",
        &[
            (Exit::Done, "the line was printed"),
            (Exit::No, "it was not: passwords differ, or hold what no password may"),
        ],
    ),
    (
        "submit",
        &[
            (Exit::Done, "sent"),
            (Exit::Data, "the message can't be sent as it is"),
            (Exit::NoInput, "the message can't be read"),
            (Exit::Unavailable, "refused by the server, or the server can't be trusted"),
            (Exit::NotNow, "not now: try again"),
            (Exit::Nonsense, "the server does not speak SMTP as it should"),
            (Exit::NotAllowed, "refused for who you are or what you may"),
            (Exit::Misconfigured, "certificate, key or CA can't be used"),
        ],
    ),
];

const NO_AUTHORITY: (Exit, &str) = (Exit::NoInput, "the directory has no authority, or a file can't be read");
const UNWRITTEN: (Exit, &str) = (Exit::CantCreate, "the directory can't be written");
const MAKING: &[(Exit, &str)] = &[
    (Exit::Done, "made"),
    (Exit::Data, "the request can't be used"),
    NO_AUTHORITY,
    (Exit::CantCreate, "a file of that name is there already, or the directory can't be written"),
];
const NAMING: &[(Exit, &str)] = &[
    (Exit::Done, "done"),
    (Exit::No, "no such certificate, several of that name, or it is revoked already"),
    NO_AUTHORITY,
    UNWRITTEN,
];

/// The numbers of a command, with what they say: `queue list`. None where the table has no such command.
fn told(command: &str) -> Option<Vec<(Exit, &'static str)>> {
    let (_, own) = TOLD.iter().find(|(name, _)| *name == command)?;
    let mut all = own.to_vec();
    all.extend(OF_ALL.into_iter().filter(|(exit, _)| !own.iter().any(|(own, _)| own == exit)));
    all.sort_by_key(|(exit, _)| *exit);
    Some(all)
}

/// The commands with their exit codes at the end of their help.
pub(super) fn with_exits(command: clap::Command) -> clap::Command {
    command.mut_subcommands(|one| with_exits_below("", one))
}

fn with_exits_below(above: &str, command: clap::Command) -> clap::Command {
    let name = format!("{above}{}", command.get_name());
    let Some(told) = told(&name) else {
        let above = format!("{name} ");
        return command.mut_subcommands(|one| with_exits_below(&above, one));
    };
    let before = command.get_after_help().map(|help| format!("{help}\n\n")).unwrap_or_default();
    let lines: Vec<String> = told.iter().map(|(exit, words)| format!("  {:>2}  {words}", exit.number())).collect();
    command.after_help(format!("{before}Exit codes:\n\n{}", lines.join("\n")))
}

/// A fault that has a number of its own.
#[derive(Debug)]
struct Numbered {
    exit: Exit,
    why: String,
}

impl fmt::Display for Numbered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for Numbered {}

/// A fault with its number; in words that say all of it.
pub(super) fn fault(exit: Exit, why: impl fmt::Display) -> anyhow::Error {
    anyhow::Error::from(Numbered { exit, why: why.to_string() })
}

/// A file that was named on the command line can't be read.
pub(super) fn unread(path: &Path, why: &io::Error) -> anyhow::Error {
    fault(Exit::NoInput, format!("{}: {why}", path.display()))
}

/// What a command ends with that failed so.
pub fn of(fault: &anyhow::Error) -> Exit {
    fault.chain().find_map(|cause| cause.downcast_ref::<Numbered>()).map_or(Exit::Failed, |numbered| numbered.exit)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn leaves(above: &str, command: &clap::Command, found: &mut Vec<(String, String)>) {
        for one in command.get_subcommands() {
            let name = format!("{above}{}", one.get_name());
            if one.has_subcommands() {
                leaves(&format!("{name} "), one, found);
            } else {
                found.push((name, one.get_after_help().map(ToString::to_string).unwrap_or_default()));
            }
        }
    }

    #[test]
    fn each_command_tells_its_exit_codes_once_and_gives_an_example() {
        let mut found = Vec::new();
        leaves("", &with_exits(super::super::Arguments::command()), &mut found);
        for (name, help) in &found {
            assert_eq!(help.matches("Exit codes").count(), 1, "{name}");
            assert!(help.contains("\n   0  "), "{name}: {help}");
            assert!(help.contains(&format!("sealpost {name}")), "{name} has no example: {help}");
        }
        let mut of_table: Vec<&str> = TOLD.iter().map(|(name, _)| *name).collect();
        let mut of_commands: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        of_table.sort_unstable();
        of_commands.sort_unstable();
        assert_eq!(of_table, of_commands);
    }

    #[test]
    fn the_numbers_of_a_command_stand_in_their_order_and_once() {
        for (name, own) in TOLD {
            assert!(own.is_sorted_by(|(one, _), (next, _)| one < next), "{name}");
            assert!(told(name).unwrap().is_sorted_by(|(one, _), (next, _)| one.number() < next.number()), "{name}");
        }
    }

    #[test]
    fn a_number_is_found_below_what_is_said_around_it() {
        let fault = fault(Exit::NoInput, "x.pem: gone").context("reading");
        assert_eq!((of(&fault), format!("{fault:#}").as_str()), (Exit::NoInput, "reading: x.pem: gone"));
        assert_eq!(of(&anyhow::anyhow!("x")), Exit::Failed);
    }
}
