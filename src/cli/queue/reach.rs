//! The way to a queue: the running daemon by its socket, or the store itself when there is no daemon.
//!
//! Never: works on a store that a daemon owns, or that belongs to another user; makes one where there is none.

use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use rustix::fs::FileType;

use super::collected::Collected;
use crate::cli::exit::{self, Exit};
use crate::cli::signals::Interruption;
use crate::daemon::control::{self, Request};
use crate::daemon::peer::Peer;
use crate::daemon::place::{self, STORE};
use crate::daemon::steering::line::Lines;
use crate::daemon::steering::{Answer, Answers, Command, Desk};
use crate::identity::Roster;
use crate::queue::{OpenError, Queue, QueueSettings};
use crate::sys::disk::SystemDisk;
use crate::sys::{Clock as _, SystemClock, SystemEntropy};

/// Octets of answers that are read at once.
const GATHER: usize = 64 * 1024;

/// Octets of the text of one answer at the most: that of a page, were each of its octets escaped.
const TEXT_MAX: usize = 64 * 1024 * 1024;

/// What is told of answers that can't be heard to their end.
#[derive(Clone, Copy, Debug)]
struct Ends {
    unreadable: &'static str,
    early: &'static str,
    exit: Exit,
}

impl Ends {
    fn early(self, fault: Option<&io::Error>) -> anyhow::Error {
        let why = fault.map_or_else(String::new, |fault| format!(" ({fault})"));
        exit::fault(self.exit, format!("{}{why}", self.early))
    }
}

const OF_A_DAEMON: Ends = Ends {
    unreadable: "the daemon's answer can't be read: is it another version?",
    early: "the daemon went away in the middle of its answer: ask again",
    exit: Exit::Unavailable,
};
const AS_GATHERED: Ends = Ends {
    unreadable: "what was gathered of the answer can't be read again",
    early: "the answer was not gathered to its end",
    exit: Exit::Failed,
};

/// What is done with each answer.
pub(in crate::cli) type Print<'a> = &'a mut dyn FnMut(&Answer) -> anyhow::Result<()>;

/// Where a queue is, and who answers for it.
#[derive(Debug)]
pub(in crate::cli) struct Reach {
    settings: QueueSettings,
}

/// What a command comes to that could not be asked.
pub(in crate::cli) type Unreached = Option<ExitCode>;

impl Reach {
    /// The queue of this configuration. Only the one key `data_dir` is read, so that the queue can be looked at while the rest is wrong.
    ///
    /// # Errors
    /// The file can't be read, or has no `data_dir`.
    pub(in crate::cli) fn of(config: &Path) -> anyhow::Result<Self> {
        Ok(Self { settings: QueueSettings::new(data_dir(config)?) })
    }

    /// The daemon, when one runs.
    ///
    /// # Errors
    /// The exit code when it may not be asked, which has been told.
    pub(in crate::cli) fn daemon(&self) -> Result<Option<UnixStream>, ExitCode> {
        let data_dir = &self.settings.data_dir;
        match UnixStream::connect(control::path(data_dir)) {
            Ok(daemon) => Ok(Some(daemon)),
            // Where no daemon runs, too: rights are asked before the socket is.
            Err(fault) if fault.kind() == io::ErrorKind::PermissionDenied => {
                let whose = place::owner(data_dir).map_or_else(String::new, |owner| format!(" (uid {owner})"));
                eprintln!(
                    "sealpost: only root and the user whose it is{whose} may ask about the queue in {}, and this runs as uid {}; \
                     whether a daemon runs can't be told without",
                    data_dir.display(),
                    place::own_uid()
                );
                Err(Exit::NotAllowed.into())
            }
            Err(_) => Ok(None),
        }
    }

    /// Has a command done, by whoever is there. Gives an exit code when nobody could be asked.
    ///
    /// # Errors
    /// What went wrong on the way.
    pub(in crate::cli) fn ask(&self, command: Command, print: Print<'_>) -> anyhow::Result<Unreached> {
        match self.daemon() {
            Ok(Some(daemon)) => ask(daemon, command, print).map(|()| None),
            Ok(None) => self.without_daemon(command, &Arc::default(), print),
            Err(code) => Ok(Some(code)),
        }
    }

    /// The store itself, as its owner: the lock in the data directory keeps a daemon that starts meanwhile out. So the answers are printed when the store is
    /// closed, as far as they came, but those of an export, which go to a file, and of what is done where the output waits for nobody: a terminal, a file. Whoever
    /// ends it in the middle is told what was done by then.
    ///
    /// # Errors
    /// The store can't be opened.
    pub(in crate::cli) fn without_daemon(
        &self,
        command: Command,
        roster: &Arc<Roster>,
        print: Print<'_>,
    ) -> anyhow::Result<Unreached> {
        let is_a_deed = !command.only_looks();
        if matches!(command, Command::Export { .. }) || (is_a_deed && !may_wait()) {
            return self.at_store(command, roster, print);
        }
        let mut collected = if is_a_deed { Collected::in_memory() } else { Collected::default() };
        let unreached = self.at_store(command, roster, &mut |answer| collected.add(answer));
        let printed = collected.read().and_then(|answers| hear_to(AS_GATHERED, answers, print));
        match unreached {
            Ok(None) => printed.map(|()| None),
            // It has said what is wrong, or says it behind what there was.
            Ok(Some(_)) | Err(_) => unreached,
        }
    }

    fn at_store(&self, command: Command, roster: &Arc<Roster>, print: Print<'_>) -> anyhow::Result<Unreached> {
        // Until the store is closed; but nobody need know how far a mere look came.
        let interruption = if command.only_looks() { None } else { Some(Interruption::at_work()?) };
        let is_an_export = matches!(command, Command::Export { .. });
        self.with_store(async |queue, clock| {
            let mut answers = Answers::new(command, format!("{}, without a daemon", Peer::own()));
            let desk = || Desk { queue, daemon: None, roster, now: clock.now().wall };
            while let Some(answer) = answers.next(desk()).await {
                print(&answer)?;
                if interruption.as_ref().is_some_and(Interruption::has_come) {
                    // What is done already, and not told yet.
                    while let Some(answer) = answers.ready() {
                        print(&answer)?;
                    }
                    if is_an_export {
                        bail!("interrupted: no file was written");
                    }
                    bail!("interrupted: what was told is done, and no more");
                }
            }
            Ok(())
        })
    }

    /// Works on the store itself, opened and closed for it.
    ///
    /// # Errors
    /// The store can't be opened; what the work could not do.
    pub(in crate::cli) fn with_store(
        &self,
        work: impl AsyncFnOnce(&Queue, &SystemClock) -> anyhow::Result<()>,
    ) -> anyhow::Result<Unreached> {
        let data_dir = &self.settings.data_dir;
        if let Some(exit) = not_ours(data_dir) {
            return Ok(Some(exit.into()));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let clock = SystemClock::start();
            let readers = QueueSettings::readers_here();
            // With threads of its own: while one page is printed, the next is being read.
            let settings = QueueSettings { readers, ..self.settings.clone() };
            let opened = Queue::open(settings, Arc::new(SystemDisk), Arc::new(clock), Arc::new(SystemEntropy));
            let (queue, recovery) = match opened {
                Err(OpenError::InUse(_)) => {
                    let why = "is in use, and no daemon answers: a daemon is just starting (after a crash that takes seconds) or stopping, or another \
                               `sealpost queue` is at work; ask again";
                    return Err(exit::fault(Exit::Unavailable, format!("{} {why}", data_dir.display())));
                }
                opened => opened.with_context(|| {
                    format!("no daemon answers, and the store in {} can't be opened", data_dir.display())
                })?,
            };
            if let Some(format) = recovery.was_of_format {
                eprintln!(
                    "sealpost: the store was of format {format}; it has been written anew, and only this sealpost and newer ones can read it now"
                );
            }
            if recovery.after_crash {
                eprintln!(
                    "sealpost: the relay was killed, or its machine stopped, and this has put its store right; the next start finds it whole (after_crash=false)"
                );
            }
            for id in &recovery.mended {
                eprintln!("sealpost: what store.redb says of message {id} was damaged; it has been written anew, and nothing is lost");
            }
            if let Some(lost) = &recovery.lost {
                eprintln!("sealpost: {lost}");
            }
            for (id, reason) in &recovery.set_aside {
                eprintln!("sealpost: message {id} was damaged; it is set aside as dead: {reason}");
            }
            let done = work(&queue, &clock).await;
            queue.close().await;
            done.map(|()| None)
        })
    }
}

/// Whether who reads standard output may have it wait: a pipe, a socket.
fn may_wait() -> bool {
    let kind = rustix::fs::fstat(io::stdout()).map(|status| FileType::from_raw_mode(status.st_mode));
    kind.is_ok_and(|kind| matches!(kind, FileType::Fifo | FileType::Socket))
}

fn data_dir(config: &Path) -> anyhow::Result<PathBuf> {
    let text = crate::cli::read_configuration(config)?;
    let wrong = |why: &dyn std::fmt::Display| exit::fault(Exit::Misconfigured, format!("{}: {why}", config.display()));
    let table: toml::Table =
        toml::from_str(&text).map_err(|fault| wrong(&format!("run `sealpost check` on it: {fault}")))?;
    let overridden =
        crate::cli::environment().into_iter().find(|(name, _)| name == "SEALPOST__DATA_DIR").map(|(_, value)| value);
    let written = table.get("data_dir").and_then(toml::Value::as_str).map(str::to_owned);
    let data_dir = overridden.or(written).ok_or_else(|| wrong(&"it has no data_dir"))?;
    Ok(config.parent().unwrap_or(Path::new("")).join(data_dir))
}

/// Asks the daemon.
///
/// # Errors
/// It does not answer, or not to the end.
pub(in crate::cli) fn ask(mut daemon: UnixStream, command: Command, print: Print<'_>) -> anyhow::Result<()> {
    send(&mut daemon, &Request { version: control::VERSION, command })?;
    hear(daemon, print)
}

/// What a command ends with that was told so.
pub(in crate::cli) fn refused(answer: &Answer) -> anyhow::Error {
    refused_with(answer, "")
}

/// The same, with more behind it.
pub(in crate::cli) fn refused_with(answer: &Answer, more: &str) -> anyhow::Error {
    let exit = if matches!(answer, Answer::Unavailable(_)) { Exit::Unavailable } else { Exit::Failed };
    exit::fault(exit, format!("{}{more}", answer.objection().unwrap_or_default()))
}

/// Sends a line.
///
/// # Errors
/// The daemon does not listen.
pub(in crate::cli) fn send(daemon: &mut UnixStream, line: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut octets = serde_json::to_vec(line)?;
    octets.push(b'\n');
    daemon.write_all(&octets).context("the daemon does not listen")
}

/// Reads answers until their end.
///
/// # Errors
/// The daemon goes away before.
pub(in crate::cli) fn hear(daemon: impl Read, print: Print<'_>) -> anyhow::Result<()> {
    hear_to(OF_A_DAEMON, daemon, print)
}

fn hear_to(ends: Ends, from: impl Read, print: Print<'_>) -> anyhow::Result<()> {
    let (mut from, mut line) = (BufReader::with_capacity(GATHER, from), Vec::new());
    while from.read_until(b'\n', &mut line).map_err(|fault| ends.early(Some(&fault)))? > 0 {
        if line.last() != Some(&b'\n') {
            return Err(ends.early(None));
        }
        let mut answer = serde_json::from_slice(&line).context(ends.unreadable)?;
        if let Answer::Lines(lines) = &mut answer {
            read_text(ends, &mut from, lines)?;
        }
        if matches!(answer, Answer::End) {
            return Ok(());
        }
        // So says one that does not know the command at all.
        if let Answer::Fault(why) = &answer
            && why.starts_with("the request can't be read")
        {
            bail!(
                "the running daemon does not understand this command: it is another version of sealpost; restart it after an upgrade ({why})"
            );
        }
        print(&answer)?;
        line.clear();
    }
    Err(ends.early(None))
}

/// Reads what stands behind the line of these.
fn read_text(ends: Ends, from: &mut BufReader<impl Read>, lines: &mut Lines) -> anyhow::Result<()> {
    if lines.octets > TEXT_MAX {
        bail!(ends.unreadable);
    }
    let mut text = Vec::new();
    text.reserve_exact(lines.octets);
    let octets = u64::try_from(lines.octets)?;
    let read = from.take(octets).read_to_end(&mut text).map_err(|fault| ends.early(Some(&fault)))?;
    if read < lines.octets {
        return Err(ends.early(None));
    }
    lines.text = String::from_utf8(text).context(ends.unreadable)?;
    Ok(())
}

/// A store opened by another user (root, say) would get files that its daemon can't read.
#[expect(clippy::disallowed_methods, reason = "looks whether there is a queue")]
fn not_ours(data_dir: &Path) -> Option<Exit> {
    if let Err(fault) = std::fs::metadata(data_dir) {
        eprintln!(
            "sealpost: there is no queue in {}: {fault}; `sealpost serve` makes it when it starts, or data_dir names another place",
            data_dir.display()
        );
        return Some(Exit::Unavailable);
    }
    // Another one would be made, beside the one that is meant: that is not mounted, perhaps, or lies elsewhere.
    if data_dir.join(STORE).symlink_metadata().is_err_and(|fault| fault.kind() == io::ErrorKind::NotFound) {
        eprintln!(
            "sealpost: no daemon answers, and there is no queue in {}: is its file system mounted? `sealpost serve` makes a queue where there is none",
            data_dir.display()
        );
        return Some(Exit::Unavailable);
    }
    if let Err(unfit) = place::are_files(data_dir) {
        eprintln!("sealpost: no daemon answers, and {unfit}");
        return Some(Exit::Unavailable);
    }
    let own = place::own_uid();
    let owner = if own == 0 {
        place::other_than_root(data_dir)?
    } else {
        place::owner(data_dir).filter(|&owner| owner != own)?
    };
    eprintln!(
        "sealpost: no daemon answers, and the store in {}, or the directory, belongs to another user (uid {owner}); run this as that user, \
         for example with: runuser -u $(id -nu {owner}) -- sealpost queue ...",
        data_dir.display()
    );
    Some(Exit::NotAllowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is heard of a daemon that says this and goes away: the texts, and whether it came to its end.
    fn heard(says: &[u8]) -> (Vec<String>, Result<(), String>) {
        let (ours, mut daemon) = UnixStream::pair().unwrap();
        let says = says.to_vec();
        // More than the socket holds while nobody reads; who hears no more goes away.
        std::thread::scope(|scope| {
            scope.spawn(move || daemon.write_all(&says).ok());
            let mut texts = Vec::new();
            let end = hear(ours, &mut |answer| {
                texts.push(String::from_utf8(answer.text_behind().to_vec()).unwrap());
                Ok(())
            });
            (texts, end.map_err(|fault| fault.to_string()))
        })
    }

    fn said(answer: &Answer) -> Vec<u8> {
        let mut octets = serde_json::to_vec(answer).unwrap();
        octets.push(b'\n');
        [octets, answer.text_behind().to_vec()].concat()
    }

    #[test]
    fn a_text_is_heard_to_its_end_and_no_further() {
        // Longer than what is read at once; what looks like an answer within it is none.
        let texts = ["größer\n\"end\"\n".repeat(20_000), String::new(), "\"end\"\n".to_owned()];
        let lines = texts.iter().map(|text| {
            Answer::Lines(Lines { messages: 1, last: "x".to_owned(), octets: text.len(), text: text.clone() })
        });
        let all: Vec<Vec<u8>> = lines.chain([Answer::End]).map(|answer| said(&answer)).collect();
        assert_eq!(heard(&all.concat()), (texts.to_vec(), Ok(())));
    }

    /// Wherever the daemon goes away it is that, and is asked again; what it says otherwise than we know is another version.
    #[test]
    fn an_answer_that_is_cut_is_no_other_version() {
        for (says, early) in [
            (&b""[..], true),
            (b"\"done\"", true),
            (b"{\"entry\":{\"id\":\"01", true),
            ("{\"fault\":\"gr\u{fc}n".as_bytes().split_last().unwrap().1, true),
            (b"\xff\xfe\n", false),
            (b"{\"defragmented\":1}\n", false),
        ] {
            let (_, end) = heard(says);
            let words = if early { OF_A_DAEMON.early } else { OF_A_DAEMON.unreadable };
            assert!(end.as_ref().unwrap_err().starts_with(words), "{says:?}: {end:?}");
        }
    }

    #[test]
    fn a_text_that_is_cut_or_none_or_longer_than_any_is_not_told() {
        const WENT_AWAY: &str = OF_A_DAEMON.early;
        const UNREADABLE: &str = OF_A_DAEMON.unreadable;
        let says = |octets: usize, text: &[u8]| {
            let head = format!("{{\"lines\":{{\"messages\":1,\"last\":\"x\",\"octets\":{octets}}}}}\n");
            [head.as_bytes(), text].concat()
        };
        for (octets, text, why) in [
            (8, &b"short\n"[..], WENT_AWAY),
            (0, b"", WENT_AWAY),
            (3, b"\xff\xfe\n", UNREADABLE),
            (TEXT_MAX + 1, b"x\n", UNREADABLE),
            (usize::MAX, b"x\n", UNREADABLE),
        ] {
            let (_, end) = heard(&says(octets, text));
            assert_eq!(end.unwrap_err(), why, "{octets}");
        }
    }
}
