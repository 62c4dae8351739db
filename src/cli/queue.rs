//! `sealpost queue`: asks the running daemon, or opens the store when there is none.
//!
//! Never: works on a store that a daemon owns; shows an octet of a body; removes by filter what nobody has confirmed.

pub mod arguments;
mod collected;
mod export;
mod moving;
pub(super) mod print;
pub(super) mod reach;
mod receipt;
mod steer;

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use self::arguments::{QueueArguments, QueueCommand, QueueCommon, QueueList, QueueShow, QueueStats};
use self::print::{Form, Printer};
use self::reach::Reach;
use self::steer::Consent;
use super::exit::Exit;
use super::{compact, identities};
use crate::daemon::steering::selection::{Filters, Selection};
use crate::daemon::steering::{Action, Answer, Command, Detail, ListOrder};
use crate::mail::QueueId;

/// Does what was asked.
///
/// # Errors
/// The configuration can't be read, or neither daemon nor store could be reached.
pub fn run(arguments: &QueueArguments) -> anyhow::Result<ExitCode> {
    if let Some(filters) = arguments.command.filters()
        && let Err(why) = Selection::new(&filters, super::clock().now().wall)
    {
        eprintln!("sealpost: {why}");
        return Ok(Exit::Usage.into());
    }
    match &arguments.command {
        QueueCommand::List(list) => run_list(list),
        QueueCommand::Show(show) => run_show(show),
        QueueCommand::Stats(stats) => run_stats(stats),
        QueueCommand::Hold(selection) => steer::run(selection, Action::Hold, Consent::Needless),
        QueueCommand::Release(selection) => steer::run(selection, Action::Release, Consent::Needless),
        QueueCommand::Retry(selection) => steer::run(selection, Action::Retry, Consent::Needless),
        QueueCommand::Remove(removal) => {
            let consent = if removal.yes { Consent::Given } else { Consent::ToBeAsked };
            steer::run(&removal.selection, Action::Remove, consent)
        }
        QueueCommand::Compact { common } => run_compact(common),
        QueueCommand::Export(export) => moving::run_export(export),
        QueueCommand::Import(import) => moving::run_import(import),
    }
}

fn run_list(list: &QueueList) -> anyhow::Result<ExitCode> {
    let order = if list.newest_first { ListOrder::NewestFirst } else { ListOrder::OldestFirst };
    let filters = list.filters.filters();
    let mut session = Session::new(&list.common, Form::Lines)?;
    let detail = if session.printer.form == Form::Json { Detail::Json } else { Detail::Lines };
    let (filters_meant, after, limit) = (filters.clone(), list.after.clone(), list.limit);
    let command = if list.active {
        Command::Active { filters: filters_meant, after, order, detail, limit }
    } else {
        Command::List { filters: filters_meant, action: None, after, order, detail, limit }
    };
    if let Some(code) = session.ask(command)? {
        return Ok(code);
    }
    // With --json too: the answers are on standard output, and whoever filters them there would search the first thousand for all.
    session.printer.out.flush()?;
    if session.entries >= list.limit
        && let Some(last) = &session.last
    {
        eprintln!("sealpost: there may be more: --after {last}, or a larger --limit");
    }
    if session.entries == 0 && list.limit > 0 {
        if list.active {
            session.tell_idle(&filters);
        } else {
            session.tell_empty(&filters);
        }
    }
    session.end()
}

fn run_show(show: &QueueShow) -> anyhow::Result<ExitCode> {
    let mut session = Session::new(&show.common, Form::Whole)?;
    let command = Command::Show { id: show.id.clone(), headers: show.headers };
    match session.ask(command)? {
        Some(code) => Ok(code),
        None => session.end(),
    }
}

fn run_stats(stats: &QueueStats) -> anyhow::Result<ExitCode> {
    let mut session = Session::new(&stats.common, Form::Whole)?;
    match session.ask(Command::Stats { top: stats.top })? {
        Some(code) => Ok(code),
        None => session.end(),
    }
}

fn run_compact(common: &QueueCommon) -> anyhow::Result<ExitCode> {
    let mut session = Session::new(common, Form::Whole)?;
    match session.reach.daemon() {
        Err(code) => return Ok(code),
        // Without a daemon there is no limit, and a terminal sees how far it is.
        Ok(None) => return Ok(compact::without_daemon(&session.reach)?.unwrap_or(ExitCode::SUCCESS)),
        Ok(Some(_)) => {}
    }
    match session.ask(Command::Compact)? {
        Some(code) => Ok(code),
        None => session.end(),
    }
}

/// One question, and what came back.
#[derive(Debug)]
struct Session {
    reach: Reach,
    printer: Printer,
    entries: usize,
    last: Option<QueueId>,
    missing: usize,
}

impl Session {
    fn new(common: &QueueCommon, form: Form) -> anyhow::Result<Self> {
        let form = if common.json { Form::Json } else { form };
        let printer = Printer::new(form, super::clock().now().wall);
        Ok(Self { reach: Reach::of(&common.config.config)?, printer, entries: 0, last: None, missing: 0 })
    }

    fn ask(&mut self, command: Command) -> anyhow::Result<reach::Unreached> {
        let Self { reach, printer, entries, last, missing } = self;
        reach.ask(command, &mut |answer| {
            match answer {
                Answer::Entry(entry) => {
                    *entries += 1;
                    *last = entry.id.parse().ok();
                    printer.entry(entry)?;
                }
                Answer::Lines(lines) => {
                    *entries += lines.messages;
                    *last = lines.last.parse().ok();
                    printer.lines(&lines.text)?;
                }
                Answer::Headers(section) => printer.headers(section)?,
                Answer::Stats(sums) => printer.sums(sums)?,
                Answer::Compacted(before, after) if printer.form == Form::Json => {
                    let files = serde_json::json!({ "octets_before": before, "octets_after": after });
                    writeln!(printer.out, "{}", crate::plain::json(&files)?)?;
                }
                Answer::Compacted(before, after) => compact::tell(*before, *after),
                Answer::Fault(_) | Answer::Unavailable(_) => return Err(reach::refused(answer)),
                Answer::Missing(id) => {
                    *missing += 1;
                    eprintln!("sealpost: no message {id} in the queue");
                }
                Answer::Unable(_, why) => {
                    *missing += 1;
                    eprintln!("sealpost: {why}");
                }
                // Not asked for here.
                Answer::Done(_)
                | Answer::Gone(_)
                | Answer::Unmatched(_)
                | Answer::Count(_)
                | Answer::Begun(_)
                | Answer::Parcel(_)
                | Answer::Piece(_)
                | Answer::Spoiled(..)
                | Answer::Adopted(_)
                | Answer::Present(_)
                | Answer::Identity(_)
                | Answer::End => {}
            }
            Ok(())
        })
    }

    /// Silence could be a fault as well. Not among the answers, which programs may read.
    fn tell_empty(&self, filters: &Filters) {
        if self.printer.form == Form::Json {
            return;
        }
        match filters {
            filters if filters.is_empty() => eprintln!("sealpost: the queue is empty"),
            filters => {
                let near = |name| identities::near(&self.reach, &Arc::default(), name);
                let near = filters.identity.as_deref().map(near).unwrap_or_default();
                eprintln!(
                    "sealpost: no message is in the queue with {}{}",
                    filters.words(),
                    identities::perhaps(&near)
                );
            }
        }
    }

    /// The same of what is being tried.
    fn tell_idle(&self, filters: &Filters) {
        if self.printer.form == Form::Json {
            return;
        }
        let meant = if filters.is_empty() { String::new() } else { format!(" of those with {}", filters.words()) };
        let why = if let Ok(None) = self.reach.daemon() { ": no daemon runs" } else { "" };
        eprintln!("sealpost: no message{meant} is being tried now{why}");
    }

    fn end(mut self) -> anyhow::Result<ExitCode> {
        self.printer.out.flush()?;
        Ok(if self.missing > 0 { Exit::No.into() } else { ExitCode::SUCCESS })
    }
}
