//! `sealpost queue`: asks the running daemon, or opens the store when there is none.
//!
//! Never: works on a store that a daemon owns; shows an octet of a body.

use std::io::{self, BufRead as _, BufReader, Write};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};

use super::{QueueArguments, QueueCommand, QueueCommon, QueueSelection, QueueStateArgument};
use crate::daemon::control::{self, Request};
use crate::daemon::steering::{
    Action, Answer, Answers, Command, Desk, Entry, EntryRecipient, StateName, Sums, Target, UpstreamSums,
};
use crate::identity::Roster;
use crate::queue::{Driving, Queue, QueueSettings};
use crate::sys::disk::SystemDisk;
use crate::sys::{Clock as _, SystemClock, SystemEntropy};

/// No such message.
const MISSING: u8 = 1;
/// Neither daemon nor store can be reached (`EX_UNAVAILABLE`).
const UNREACHABLE: u8 = 69;
/// Not allowed (`EX_NOPERM`).
const NOT_ALLOWED: u8 = 77;

/// How answers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Lines,
    Whole,
    Json,
}

/// Does what was asked.
///
/// # Errors
/// The configuration can't be read, or neither daemon nor store could be reached.
pub fn run(arguments: &QueueArguments) -> anyhow::Result<ExitCode> {
    let (common, command, form) = asked(&arguments.command);
    let settings = QueueSettings::new(data_dir(&common.config.config)?);
    let form = if common.json { Form::Json } else { form };
    let mut printer = Printer { form, out: io::stdout().lock(), missing: 0, entries: 0 };
    match UnixStream::connect(control::path(&settings.data_dir)) {
        Ok(daemon) => ask(daemon, command, &mut |answer| printer.print(answer))?,
        Err(fault) if fault.kind() == io::ErrorKind::PermissionDenied => {
            return Ok(not_allowed(&settings.data_dir));
        }
        Err(_) if matches!(command, Command::Compact) => return super::compact::without_daemon(settings),
        Err(_) => {
            if let Some(code) = without_daemon(settings, command, &Arc::default(), &mut |answer| printer.print(answer))?
            {
                return Ok(code);
            }
        }
    }
    printer.tell_if_empty(&arguments.command);
    Ok(printer.code())
}

/// The socket is there, and is not ours.
pub(super) fn not_allowed(data_dir: &Path) -> ExitCode {
    eprintln!("sealpost: only root and the daemon's own user may ask about its queue ({})", data_dir.display());
    ExitCode::from(NOT_ALLOWED)
}

/// Where the queue is. Only this one key is read, so that the queue can be looked at while the rest of the configuration is wrong.
pub(super) fn data_dir(config: &Path) -> anyhow::Result<PathBuf> {
    let text = super::read_text(config)?;
    let place = || config.display().to_string();
    let table: toml::Table =
        toml::from_str(&text).with_context(|| format!("{}: run `sealpost check` on it", place()))?;
    let overridden =
        super::environment().into_iter().find(|(name, _)| name == "SEALPOST__DATA_DIR").map(|(_, value)| value);
    let written = table.get("data_dir").and_then(toml::Value::as_str).map(str::to_owned);
    let data_dir = overridden.or(written).with_context(|| format!("{} has no data_dir", place()))?;
    Ok(config.parent().unwrap_or(Path::new("")).join(data_dir))
}

fn asked(command: &QueueCommand) -> (&QueueCommon, Command, Form) {
    let steer = |selection: &QueueSelection, action| {
        let target = if selection.all { Target::All } else { Target::Ids(selection.ids.clone()) };
        Command::Steer { action, target }
    };
    match command {
        QueueCommand::List { common, state, limit } => {
            (common, Command::List { state: state.map(state_name), limit: *limit }, Form::Lines)
        }
        QueueCommand::Show { common, id } => (common, Command::Show { id: id.clone() }, Form::Whole),
        QueueCommand::Stats { common } => (common, Command::Stats, Form::Whole),
        QueueCommand::Compact { common } => (common, Command::Compact, Form::Whole),
        QueueCommand::Hold(selection) => (&selection.common, steer(selection, Action::Hold), Form::Lines),
        QueueCommand::Release(selection) => (&selection.common, steer(selection, Action::Release), Form::Lines),
        QueueCommand::Retry(selection) => (&selection.common, steer(selection, Action::Retry), Form::Lines),
        QueueCommand::Remove(selection) => (&selection.common, steer(selection, Action::Remove), Form::Lines),
    }
}

const fn state_name(state: QueueStateArgument) -> StateName {
    match state {
        QueueStateArgument::Queued => StateName::Queued,
        QueueStateArgument::Held => StateName::Held,
        QueueStateArgument::Dead => StateName::Dead,
    }
}

/// What is done with each answer.
pub(super) type Print<'a> = &'a mut dyn FnMut(&Answer) -> anyhow::Result<()>;

/// Asks the daemon.
pub(super) fn ask(mut daemon: UnixStream, command: Command, print: Print<'_>) -> anyhow::Result<()> {
    let mut request = serde_json::to_vec(&Request { version: control::VERSION, command })?;
    request.push(b'\n');
    daemon.write_all(&request).context("the daemon does not listen")?;
    for line in BufReader::new(daemon).lines() {
        let line = line.context("the daemon went away in the middle of its answer")?;
        match serde_json::from_str(&line).context("the daemon's answer can't be read: is it another version?")? {
            Answer::End => return Ok(()),
            answer @ (Answer::Entry(_)
            | Answer::Done(_)
            | Answer::Missing(_)
            | Answer::Unable(..)
            | Answer::Stats(_)
            | Answer::Compacted(..)
            | Answer::Identity(_)
            | Answer::Fault(_)) => {
                print(&answer)?;
            }
        }
    }
    bail!("the daemon went away in the middle of its answer")
}

/// The store itself, as its owner: the lock in the data directory keeps a daemon that starts meanwhile out. Gives an exit code when it can't be
/// done.
pub(super) fn without_daemon(
    settings: QueueSettings,
    command: Command,
    roster: &Arc<Roster>,
    print: Print<'_>,
) -> anyhow::Result<Option<ExitCode>> {
    if let Some(code) = not_ours(&settings.data_dir)? {
        return Ok(Some(code));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let clock = SystemClock::start();
        let settings = QueueSettings { driving: Driving::Inline, ..settings };
        let data_dir = settings.data_dir.clone();
        let opened = Queue::open(settings, Arc::new(SystemDisk), Arc::new(clock), Arc::new(SystemEntropy));
        let (queue, recovery) = opened
            .with_context(|| format!("no daemon answers, and the store in {} can't be opened", data_dir.display()))?;
        for (id, reason) in &recovery.set_aside {
            eprintln!("sealpost: message {id} was damaged; it is set aside as dead: {reason}");
        }
        let mut answers = Answers::new(command, "the store's owner, without a daemon".to_owned());
        while let Some(answer) =
            answers.next(Desk { queue: &queue, upstreams: None, roster, now: clock.now().wall }).await
        {
            print(&answer)?;
        }
        queue.close().await;
        Ok(None)
    })
}

/// A store opened by another user (root, say) would get files that its daemon can't read.
#[expect(clippy::disallowed_methods, reason = "looks who owns the data directory")]
pub(super) fn not_ours(data_dir: &Path) -> anyhow::Result<Option<ExitCode>> {
    let owner = match std::fs::metadata(data_dir) {
        Ok(metadata) => metadata.uid(),
        Err(fault) => {
            eprintln!(
                "sealpost: there is no queue in {}: {fault}; `sealpost serve` makes it when it starts, or data_dir names another place",
                data_dir.display()
            );
            return Ok(Some(ExitCode::from(UNREACHABLE)));
        }
    };
    if owner == rustix::process::geteuid().as_raw() {
        return Ok(None);
    }
    eprintln!(
        "sealpost: no daemon answers, and the store in {} belongs to another user (uid {owner}); run this as that user, \
         for example with: setpriv --reuid {owner} sealpost queue ...",
        data_dir.display()
    );
    Ok(Some(ExitCode::from(NOT_ALLOWED)))
}

struct Printer<W> {
    form: Form,
    out: W,
    missing: usize,
    entries: usize,
}

impl<W: Write> Printer<W> {
    fn print(&mut self, answer: &Answer) -> anyhow::Result<()> {
        match answer {
            // Asked for by `sealpost identities` only.
            Answer::End | Answer::Identity(_) => {}
            Answer::Fault(why) => bail!("{why}"),
            Answer::Missing(id) => {
                self.missing += 1;
                eprintln!("sealpost: no message {id} in the queue");
            }
            Answer::Unable(_, why) => {
                self.missing += 1;
                eprintln!("sealpost: {why}; it can only be removed");
            }
            Answer::Done(id) => writeln!(self.out, "{id}")?,
            Answer::Compacted(before, after) => super::compact::tell(&mut self.out, *before, *after)?,
            Answer::Stats(sums) if self.form == Form::Json => writeln!(self.out, "{}", serde_json::to_string(sums)?)?,
            Answer::Stats(sums) => self.sums(sums)?,
            Answer::Entry(entry) => {
                self.entries += 1;
                match self.form {
                    Form::Json => writeln!(self.out, "{}", serde_json::to_string(entry)?)?,
                    Form::Lines => self.line(entry)?,
                    Form::Whole => self.whole(entry)?,
                }
            }
        }
        Ok(())
    }

    /// Silence could be a fault as well. Not among the answers, which programs may read.
    fn tell_if_empty(&self, asked: &QueueCommand) {
        let QueueCommand::List { state, .. } = asked else { return };
        match (self.entries, self.form, state) {
            (1.., _, _) | (_, Form::Json, _) => {}
            (0, _, None) => eprintln!("sealpost: the queue is empty"),
            (0, _, Some(state)) => eprintln!("sealpost: no message is {}", word(state_name(*state))),
        }
    }

    fn code(&self) -> ExitCode {
        if self.missing > 0 { ExitCode::from(MISSING) } else { ExitCode::SUCCESS }
    }

    fn line(&mut self, entry: &Entry) -> io::Result<()> {
        let state = word(entry.state);
        let sender = if entry.sender.is_empty() { "<>" } else { &entry.sender };
        writeln!(
            self.out,
            "{}  {:6}  {:>10}  {}  {} (as {}) -> {}",
            entry.id,
            state,
            size(entry.octets),
            entry.arrived,
            sender,
            entry.identity,
            entry.recipients.iter().map(|to| to.address.as_str()).collect::<Vec<_>>().join(", ")
        )?;
        if let Some(reason) = &entry.reason {
            writeln!(self.out, "    {reason}")?;
        }
        for to in entry.recipients.iter().filter(|to| to.attempts > 0) {
            writeln!(self.out, "    {}: {}{}", to.address, to.outcome, said(to))?;
        }
        Ok(())
    }

    fn whole(&mut self, entry: &Entry) -> io::Result<()> {
        let sender = if entry.sender.is_empty() { "<>" } else { &entry.sender };
        let mut rows = vec![
            ("id", entry.id.clone()),
            ("state", word(entry.state).to_owned()),
            ("reason", entry.reason.clone().unwrap_or_default()),
            ("sent by", entry.identity.clone()),
            ("vouched by", vouched(entry)),
            ("certificate", entry.fingerprint.clone()),
        ];
        for (issuer, serial) in &entry.chain {
            rows.push(("issued", format!("serial {serial} by {issuer}")));
        }
        rows.extend([
            ("from", sender.to_owned()),
            ("Message-ID", entry.message_id.clone().unwrap_or_default()),
            ("arrived", entry.arrived.clone()),
            ("client", format!("{} ({}), {}", entry.client, entry.helo, entry.tls)),
            ("octets", entry.octets.to_string()),
            ("attempts", entry.attempts.to_string()),
            ("next attempt", if entry.state == StateName::Queued { entry.due.clone() } else { String::new() }),
        ]);
        for (name, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
            writeln!(self.out, "{name:>13}: {value}")?;
        }
        for to in &entry.recipients {
            writeln!(self.out, "{:>13}: {}: {}{}", "to", to.address, to.outcome, said(to))?;
            if let (Some(upstream), Some(at)) = (&to.upstream, &to.last_attempt) {
                writeln!(self.out, "{:>13}  attempt {} at {at} by upstream {upstream}", "", to.attempts)?;
            }
        }
        Ok(())
    }

    fn sums(&mut self, sums: &Sums) -> io::Result<()> {
        for (name, count, octets) in [
            ("queued", sums.queued, sums.queued_octets),
            ("held", sums.held, sums.held_octets),
            ("dead", sums.dead, sums.dead_octets),
        ] {
            writeln!(self.out, "{name:>7}: {count} messages, {}", size(octets))?;
        }
        writeln!(self.out, "{:>7}: {} messages being tried now", "claimed", sums.claimed)?;
        if let Some(seconds) = sums.oldest_seconds {
            let age = humantime::format_duration(std::time::Duration::from_secs(seconds));
            writeln!(self.out, "{:>7}: {age}", "oldest")?;
        }
        writeln!(self.out, "{:>7}: {}", "file", size(sums.file_octets))?;
        match &sums.upstreams {
            Some(upstreams) => upstreams.iter().try_for_each(|one| self.upstream(one)),
            None => writeln!(self.out, "upstreams: no daemon runs, and only a running one knows how they stand"),
        }
    }

    fn upstream(&mut self, one: &UpstreamSums) -> io::Result<()> {
        let health = match &one.open_until {
            Some(until) => format!("left alone until {until}, then one message probes it"),
            None if one.health == "half-open" => "being tried: one message probes it, the others wait".to_owned(),
            None => "in service".to_owned(),
        };
        writeln!(
            self.out,
            "upstream {}: {health}; {} of {} connections in use, {} idle, {} messages wait for one",
            one.name, one.connections_in_use, one.connections_limit, one.connections_idle, one.waiting
        )?;
        if one.routes != ["default"] {
            writeln!(self.out, "    of route {}", one.routes.join(", "))?;
        }
        if one.unanswered_in_a_row > 0 {
            let row = one.unanswered_in_a_row;
            writeln!(self.out, "    attempts in a row without an answer for a minute: {row}")?;
        }
        if let Some(since) = &one.nothing_delivered_since {
            writeln!(
                self.out,
                "    answers, and puts off all messages since {since}: nothing was delivered through it"
            )?;
        }
        if let (Some(fault), Some(at)) = (&one.last_fault, &one.last_fault_at) {
            writeln!(self.out, "    last fault, {at} ({} in a row): {fault}", one.faults_in_a_row)?;
        }
        Ok(())
    }
}

/// What happened to a recipient, and what the upstream said, where the one does not hold the other.
fn said(to: &EntryRecipient) -> String {
    let happened = if to.detail.is_empty() { String::new() } else { format!(": {}", to.detail) };
    match &to.reply {
        Some(reply) if !to.detail.contains(reply.as_str()) => format!("{happened}: {reply}"),
        Some(_) | None => happened,
    }
}

/// Who vouched for the certificate; our own reports have none.
fn vouched(entry: &Entry) -> String {
    let by_pin = || if entry.fingerprint.is_empty() { String::new() } else { "a pin".to_owned() };
    entry.ca.clone().unwrap_or_else(by_pin)
}

const fn word(state: StateName) -> &'static str {
    match state {
        StateName::Queued => "queued",
        StateName::Held => "held",
        StateName::Dead => "dead",
    }
}

/// Octets for people: three figures are enough.
pub(super) fn size(octets: u64) -> String {
    let mut whole = octets;
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    let mut tenth = 0;
    for next in units {
        if whole < 1024 {
            break;
        }
        tenth = whole % 1024 * 10 / 1024;
        whole /= 1024;
        unit = next;
    }
    if unit == "B" || whole >= 100 { format!("{whole} {unit}") } else { format!("{whole}.{tenth} {unit}") }
}
