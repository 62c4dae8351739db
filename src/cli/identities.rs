//! `sealpost identities`: who may send, who was here last and when, and whose certificate ends soon.
//!
//! Asks the running daemon, or reads the configuration and opens the store when there is none. Never: shows a secret; changes anything.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;

use super::ConfigArgument;
use super::exit::Exit;
use super::output::{self, Output};
use super::queue::reach::{self, Reach};
use crate::config;
use crate::daemon::steering::identities::{BareLfWord, CertificateEntry, IdentityEntry, IdentityKind, IdentityLimits};
use crate::daemon::steering::{Answer, Command};
use crate::identity::Roster;
use crate::plain;

/// `sealpost identities`
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n\n  sealpost identities --config sealpost.toml\n  \
    sealpost identities --config sealpost.toml billing-robot staff:alice@example.com\n  \
    sealpost identities --config sealpost.toml --json | jq 'select(.certificates[0].days_left < 30) | .name'\n\n\
    First those of the configuration, then those whom their certificates alone name, as far as they were seen.\n\
    While the daemon runs, it is asked; else the store is opened, by its owner only.")]
pub struct IdentitiesArguments {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgument,
    /// One JSON object for each identity
    #[arg(long)]
    pub json: bool,
    /// At most so many
    #[arg(long, value_name = "NUMBER", default_value_t = 1000)]
    pub limit: usize,
    /// Only these
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
}

/// Does what was asked.
///
/// # Errors
/// The configuration can't be read, or neither daemon nor store could be reached.
pub fn run(arguments: &IdentitiesArguments) -> anyhow::Result<ExitCode> {
    answer(arguments)
}

fn answer(arguments: &IdentitiesArguments) -> anyhow::Result<ExitCode> {
    let file = &arguments.config.config;
    let reach = Reach::of(file)?;
    let command = Command::Identities { names: arguments.names.clone(), limit: arguments.limit };
    let mut printer = Printer { json: arguments.json, out: Output::new(), missing: Vec::new() };
    let mut print = |answer: &Answer| printer.print(answer);
    let mut roster = Arc::default();
    match reach.daemon() {
        Err(code) => return Ok(code),
        Ok(Some(daemon)) => reach::ask(daemon, command, &mut print)?,
        Ok(None) => {
            let text = super::read_configuration(file)?;
            let loaded = match config::load_text(file, &text, &super::environment(), &super::clock()) {
                Ok(loaded) => loaded,
                Err(mistakes) => return Ok(super::tell_mistakes(&mistakes)),
            };
            roster = Arc::clone(&loaded.settings.roster);
            if let Some(code) = reach.without_daemon(command, &roster, &mut print)? {
                return Ok(code);
            }
        }
    }
    printer.out.flush()?;
    for name in &printer.missing {
        let perhaps = perhaps(&near(&reach, &roster, name));
        eprintln!("sealpost: no identity {name} in the configuration, nor was such a one seen{perhaps}");
    }
    Ok(if printer.missing.is_empty() { ExitCode::SUCCESS } else { Exit::No.into() })
}

/// Names that are told as near ones, at the most.
const NEAR_MAX: usize = 3;
/// Identities among which a near name is looked for.
const LOOKED_MAX: usize = 10_000;

/// Names of identities that somebody may have meant who wrote this one: those that hold it, `staff:alice@example.com` for `alice`. None when there is
/// one of exactly this name, or when nobody can be asked.
pub(super) fn near(reach: &Reach, roster: &Arc<Roster>, name: &str) -> Vec<String> {
    let (mut near, mut exact) = (Vec::new(), false);
    let mut hear = |answer: &Answer| {
        if let Answer::Identity(entry) = answer {
            exact |= entry.name == name;
            if near.len() < NEAR_MAX && is_near(name, &entry.name) {
                near.push(entry.name.clone());
            }
        }
        Ok(())
    };
    let command = Command::Identities { names: Vec::new(), limit: LOOKED_MAX };
    let asked = match reach.daemon() {
        Ok(Some(daemon)) => reach::ask(daemon, command, &mut hear),
        Ok(None) => reach.without_daemon(command, roster, &mut hear).map(drop),
        Err(_) => return Vec::new(),
    };
    if exact || asked.is_err() { Vec::new() } else { near }
}

fn is_near(name: &str, known: &str) -> bool {
    !name.is_empty() && known.to_lowercase().contains(&name.to_lowercase())
}

/// The question that follows.
pub(super) fn perhaps(near: &[String]) -> String {
    if near.is_empty() { String::new() } else { format!("; did you mean {}?", plain::clean(&near.join(" or "))) }
}

struct Printer<W> {
    json: bool,
    out: W,
    missing: Vec<String>,
}

impl<W: Write> Printer<W> {
    fn print(&mut self, answer: &Answer) -> anyhow::Result<()> {
        match answer {
            Answer::Identity(entry) if self.json => {
                let line = plain::json(entry).context("an identity can't be written as JSON")?;
                writeln!(self.out, "{line}")?;
            }
            Answer::Identity(entry) => self.whole(entry)?,
            Answer::Missing(name) => self.missing.push(name.clone()),
            Answer::Fault(_) | Answer::Unavailable(_) => return Err(reach::refused(answer)),
            // Not asked for here.
            Answer::Entry(_)
            | Answer::Lines(_)
            | Answer::Headers(_)
            | Answer::Done(_)
            | Answer::Gone(_)
            | Answer::Unmatched(_)
            | Answer::Unable(..)
            | Answer::Count(_)
            | Answer::Begun(_)
            | Answer::Parcel(_)
            | Answer::Piece(_)
            | Answer::Spoiled(..)
            | Answer::Adopted(_)
            | Answer::Present(_)
            | Answer::Stats(_)
            | Answer::Compacted(..)
            | Answer::End => {}
        }
        Ok(())
    }

    fn whole(&mut self, entry: &IdentityEntry) -> io::Result<()> {
        let made = match (entry.kind, &entry.rule) {
            (IdentityKind::Gone, _) => "the configuration does not know it any more".to_owned(),
            (_, Some(rule)) if entry.enabled => rule.clone(),
            (_, Some(rule)) => format!("{rule}, disabled"),
            (_, None) => String::new(),
        };
        writeln!(self.out, "{}: {made}", entry.name)?;
        if entry.kind != IdentityKind::Gone {
            let send_as = list(&entry.send_as, entry.send_as_more);
            writeln!(self.out, "    sends as {send_as} to {}", list(&entry.send_to, entry.send_to_more))?;
            let terms = terms(entry);
            if !terms.is_empty() {
                writeln!(self.out, "    {}", terms.join(", "))?;
            }
        }
        match &entry.last_used {
            Some(at) => writeln!(self.out, "    last used {at}")?,
            None => writeln!(self.out, "    not seen yet")?,
        }
        entry.certificates.iter().try_for_each(|one| self.certificate(one))
    }

    fn certificate(&mut self, one: &CertificateEntry) -> io::Result<()> {
        let left = match one.days_left {
            ..=-1 => "it has ended".to_owned(),
            days => format!("{} left", output::counted(days, "day")),
        };
        let CertificateEntry { serial, subject, issuer, ends, last_seen, last_client, .. } = one;
        let (subject, issuer) = (plain::clean(subject), plain::clean(issuer));
        writeln!(self.out, "    certificate {serial} ({subject}) by {issuer}: until {ends}, {left}")?;
        writeln!(self.out, "        seen {last_seen} from {last_client}")
    }
}

fn list(shown: &[String], more: u64) -> String {
    match (shown, more) {
        ([], _) => "nothing".to_owned(),
        (shown, 0) => shown.join(", "),
        (shown, more) => format!("{}, and {more} more", shown.join(", ")),
    }
}

/// What besides the grant is worth a word.
fn terms(entry: &IdentityEntry) -> Vec<String> {
    let IdentityLimits { messages_per_hour, messages_per_day, recipients_per_hour, recipients_per_day, .. } =
        entry.limits;
    let rates = [
        (messages_per_hour, ("message", "an hour")),
        (messages_per_day, ("message", "a day")),
        (recipients_per_hour, ("recipient", "an hour")),
        (recipients_per_day, ("recipient", "a day")),
    ];
    let mut terms: Vec<String> = rates
        .into_iter()
        .filter_map(|(limit, (what, per))| Some(format!("{} {per}", output::counted(limit?, what))))
        .collect();
    if entry.second_factor != "none" {
        terms.push(format!("second factor {}", entry.second_factor));
    }
    if entry.hold {
        terms.push("held for approval".to_owned());
    }
    if entry.accept_vouched {
        terms.push("load balancers may vouch for it".to_owned());
    }
    if entry.resend {
        terms.push("may send others' mail again (resend)".to_owned());
    }
    if entry.bare_lf == BareLfWord::Normalize {
        terms.push("LF without CR is made CRLF (bare_lf)".to_owned());
    }
    terms
}
