//! `sealpost queue hold|release|retry|remove`: to these messages, or to all that filters mean.
//!
//! Never: removes by filter what nobody has confirmed; stops halfway because nobody reads on; calls a message missing that only left before its turn.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::process::ExitCode;

use anyhow::bail;
use serde_json::json;

use super::Session;
use super::arguments::QueueSelection;
use super::print::{Form, Printer};
use super::reach::{self, Reach};
use crate::cli::exit::Exit;
use crate::cli::output;
use crate::daemon::steering::selection::Filters;
use crate::daemon::steering::{Action, Answer, Command, Count, Detail, ListOrder, Target};
use crate::plain::{self, size};

/// Names that are asked about in one request; it has a limit of octets.
const IDS_MAX: usize = 10_000;
/// How often progress is told, messages.
const PROGRESS_EVERY: u64 = 100;

/// Whether who asked has said that it is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Consent {
    /// Nothing is lost by it.
    Needless,
    /// With `--yes`.
    Given,
    ToBeAsked,
}

pub(super) fn run(selection: &QueueSelection, action: Action, consent: Consent) -> anyhow::Result<ExitCode> {
    let filters = selection.filters.filters();
    if selection.ids.is_empty() && filters.is_empty() && !selection.all {
        eprintln!("sealpost: name messages, or say which with filters like --sender, or say --all");
        return Ok(Exit::Usage.into());
    }
    if !selection.ids.is_empty() {
        return run_named(selection, action, &filters);
    }
    if selection.dry_run {
        return rehearse(selection, action, filters);
    }
    let reach = Reach::of(&selection.common.config.config)?;
    let until = if consent == Consent::ToBeAsked {
        match confirm(&reach, &filters)? {
            Confirmed::Yes(count) => Some(count.until),
            Confirmed::No(code) => return Ok(code),
        }
    } else {
        None
    };
    let filters = Filters { until, ..filters };
    let mut tale = Tale::new(selection, action, Meant::ByFilter);
    if let Some(code) = tale.steer(&reach, Target::All, &filters)? {
        return Ok(code);
    }
    tale.end()
}

fn run_named(selection: &QueueSelection, action: Action, filters: &Filters) -> anyhow::Result<ExitCode> {
    if selection.dry_run {
        eprintln!("sealpost: --dry-run goes with filters; of named messages `sealpost queue show` tells");
        return Ok(Exit::Usage.into());
    }
    let reach = Reach::of(&selection.common.config.config)?;
    let mut tale = Tale::new(selection, action, Meant::ByName);
    let mut ids = Ids::new(&selection.ids);
    loop {
        let some = ids.next(IDS_MAX)?;
        if some.is_empty() {
            return tale.end();
        }
        if let Some(code) = tale.steer(&reach, Target::Ids(some), filters)? {
            return Ok(code);
        }
    }
}

/// Names from the command line, and from standard input where `-` stands.
struct Ids<'a> {
    words: std::slice::Iter<'a, String>,
    reading: bool,
}

impl<'a> Ids<'a> {
    fn new(words: &'a [String]) -> Self {
        Self { words: words.iter(), reading: false }
    }

    /// The next so many; none at the end.
    fn next(&mut self, most: usize) -> io::Result<Vec<String>> {
        let mut ids = Vec::new();
        while ids.len() < most {
            if self.reading {
                let mut line = String::new();
                if io::stdin().lock().read_line(&mut line)? == 0 {
                    self.reading = false;
                } else if !line.trim().is_empty() {
                    ids.push(line.trim().to_owned());
                }
                continue;
            }
            match self.words.next().map(String::as_str) {
                None => break,
                Some("-") => self.reading = true,
                Some(id) => ids.push(id.to_owned()),
            }
        }
        Ok(ids)
    }
}

/// What would be done.
fn rehearse(selection: &QueueSelection, action: Action, filters: Filters) -> anyhow::Result<ExitCode> {
    let mut session = Session::new(&selection.common, Form::Lines)?;
    let list = Command::List {
        filters: filters.clone(),
        action: Some(action),
        after: None,
        order: ListOrder::OldestFirst,
        detail: if session.printer.form == Form::Json { Detail::Json } else { Detail::Lines },
        limit: usize::MAX,
    };
    if let Some(code) = session.ask(list)? {
        return Ok(code);
    }
    session.printer.out.flush()?;
    let count = messages(session.entries);
    match taken_out(action, &filters) {
        Some(recipient) => eprintln!(
            "sealpost: {recipient} would be taken out of {count}, and what has no other recipient would go; nothing was done"
        ),
        None => eprintln!("sealpost: {count} would be {}; nothing was done", past(action)),
    }
    session.end()
}

/// Who is taken out of messages, where not whole messages are removed.
fn taken_out(action: Action, filters: &Filters) -> Option<&str> {
    filters.recipient.as_deref().filter(|_| action == Action::Remove)
}

fn messages(count: impl TryInto<u64>) -> String {
    output::counted(count, "message")
}

const fn past(action: Action) -> &'static str {
    match action {
        Action::Hold => "held",
        Action::Release => "released",
        Action::Retry => "made due now",
        Action::Remove => "removed",
    }
}

enum Confirmed {
    /// What was counted is meant, and nothing that came later.
    Yes(Count),
    No(ExitCode),
}

/// Asks before something is removed by filter; where nobody can be asked, `--yes` must say it.
fn confirm(reach: &Reach, filters: &Filters) -> anyhow::Result<Confirmed> {
    let mut counted = None;
    let command = Command::Count { filters: filters.clone(), action: Some(Action::Remove) };
    let unreached = reach.ask(command, &mut |answer| {
        if let Answer::Count(count) = answer {
            counted = Some(*count);
        }
        if answer.objection().is_some() {
            return Err(reach::refused(answer));
        }
        Ok(())
    })?;
    if let Some(code) = unreached {
        return Ok(Confirmed::No(code));
    }
    let Some(count) = counted else { bail!("the daemon did not say how many messages there are") };
    if count.messages == 0 {
        eprintln!("sealpost: no message is in the queue with {}", filters.words());
        return Ok(Confirmed::No(ExitCode::SUCCESS));
    }
    let what = match &filters.recipient {
        Some(recipient) => format!("{recipient} from {}", messages(count.messages)),
        None => format!("{} ({})", messages(count.messages), size(count.octets)),
    };
    if !io::stdin().is_terminal() {
        eprintln!(
            "sealpost: this would remove {what}, and nobody would be told: say --yes if that is meant, or --dry-run to see them"
        );
        return Ok(Confirmed::No(Exit::Usage.into()));
    }
    eprint!("Remove {what}, selected by {}? Nobody is told. [y/N] ", filters.words());
    io::stderr().flush()?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    if matches!(line.trim(), "y" | "Y" | "yes") {
        return Ok(Confirmed::Yes(count));
    }
    eprintln!("sealpost: nothing was removed");
    Ok(Confirmed::No(Exit::No.into()))
}

/// Whether messages were named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meant {
    ByName,
    ByFilter,
}

/// What became of it, told as it comes.
#[derive(Debug)]
struct Tale {
    action: Action,
    /// Who is taken out of them, where they are not removed.
    taken_out: Option<String>,
    meant: Meant,
    printer: Printer,
    /// Whether somebody looks on who wants figures, not names.
    progress: bool,
    done: u64,
    gone: u64,
    failed: u64,
}

impl Tale {
    fn new(selection: &QueueSelection, action: Action, meant: Meant) -> Self {
        let form = if selection.common.json { Form::Json } else { Form::Lines };
        let printer = Printer::new(form, crate::cli::clock().now().wall);
        let progress = meant == Meant::ByFilter && form != Form::Json && printer.out.width().is_some();
        let taken_out = taken_out(action, &selection.filters.filters()).map(str::to_owned);
        Self { action, taken_out, meant, printer, progress, done: 0, gone: 0, failed: 0 }
    }

    fn steer(&mut self, reach: &Reach, target: Target, filters: &Filters) -> anyhow::Result<super::reach::Unreached> {
        let command = Command::Steer { action: self.action, target, filters: filters.clone() };
        let told = reach.ask(command, &mut |answer| self.hear(answer));
        if self.progress && self.done >= PROGRESS_EVERY {
            eprint!("\r\x1b[K");
        }
        // Whoever ends it between two portions of names has these.
        self.printer.out.tell_all();
        if told.is_err() && self.done > 0 {
            eprintln!("sealpost: {} by then", self.so_far());
        }
        told
    }

    fn hear(&mut self, answer: &Answer) -> anyhow::Result<()> {
        let (id, word, why) = match answer {
            Answer::Done(id) => {
                self.done += 1;
                (id, "done", None)
            }
            Answer::Gone(id) => {
                self.gone += 1;
                (id, "gone", None)
            }
            Answer::Missing(id) => {
                self.failed += 1;
                (id, "missing", Some(format!("no message {id} in the queue")))
            }
            Answer::Unmatched(id) => {
                self.failed += 1;
                (id, "unmatched", Some(format!("message {id} is in the queue, but not one that the filters mean")))
            }
            Answer::Unable(id, why) => {
                self.failed += 1;
                (id, "unable", Some(why.clone()))
            }
            Answer::Fault(_) | Answer::Unavailable(_) => return Err(reach::refused(answer)),
            // Not asked for here.
            Answer::Entry(_)
            | Answer::Lines(_)
            | Answer::Headers(_)
            | Answer::Count(_)
            | Answer::Begun(_)
            | Answer::Parcel(_)
            | Answer::Piece(_)
            | Answer::Spoiled(..)
            | Answer::Adopted(_)
            | Answer::Present(_)
            | Answer::Stats(_)
            | Answer::Compacted(..)
            | Answer::Identity(_)
            | Answer::End => return Ok(()),
        };
        if self.printer.form == Form::Json {
            let line = json!({ "id": id, "action": self.action.word(), "outcome": word, "why": why });
            self.printer.out.tell(format_args!("{}", plain::json(&line)?));
            return Ok(());
        }
        match why {
            Some(why) => eprintln!("sealpost: {why}"),
            None if word == "done" && !self.progress => {
                self.printer.out.tell(format_args!("{id}"));
                if self.done.is_multiple_of(PROGRESS_EVERY) {
                    self.printer.out.tell_all();
                }
            }
            None if self.done.is_multiple_of(PROGRESS_EVERY) => {
                eprint!("\r{} ", self.so_far())
            }
            None => {}
        }
        Ok(())
    }

    fn so_far(&self) -> String {
        match &self.taken_out {
            Some(recipient) => format!("{recipient} taken out of {}", messages(self.done)),
            None => format!("{} {}", messages(self.done), past(self.action)),
        }
    }

    fn end(mut self) -> anyhow::Result<ExitCode> {
        self.printer.out.tell_all();
        if self.meant == Meant::ByFilter && self.printer.form != Form::Json {
            let gone = match self.gone {
                0 => String::new(),
                gone => format!("; {} had left the queue before its turn", messages(gone)),
            };
            eprintln!("sealpost: {}{gone}", self.so_far());
        }
        Ok(if self.failed > 0 { Exit::No.into() } else { ExitCode::SUCCESS })
    }
}
