//! `sealpost queue export` and `import`: messages move from one queue to another through a file.
//!
//! A file has its name only when it is whole and on stable storage; before, it ends in `.part`, and a command that was killed is simply
//! repeated. Never: removes a message for which there is no receipt.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, IsTerminal as _, Seek as _, Write as _};
use std::net::Shutdown;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::thread::ScopedJoinHandle;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;

use super::arguments::{QueueExport, QueueImport};
use super::export::{First, Item, Message, Piece, Reader, VERSION, Writer};
use super::reach::{self, Reach};
use super::receipt::{Receipt, Written};
use crate::cli::exit::{self, Exit};
use crate::cli::output;
use crate::daemon::control::{self, Request};
use crate::daemon::peer::Peer;
use crate::daemon::steering::moving::{Back, Brought, Importing};
use crate::daemon::steering::{Answer, Command, Desk};
use crate::plain::size;
use crate::queue::transfer::Adoption;
use crate::sys::Clock as _;

/// Names that are asked about in one request; it has a limit of octets.
const IDS_MAX: usize = 10_000;
/// How often progress is told, messages.
const PROGRESS_EVERY: u64 = 100;

/// The path with one more ending.
pub(super) fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

/// A new file for its owner alone; what an earlier attempt left under this name is gone. What somebody else put there is neither written to nor followed:
/// its mode and its owner would be his.
#[expect(clippy::disallowed_methods, reason = "a file that was named on the command line")]
pub(super) fn make(path: &Path) -> io::Result<File> {
    match std::fs::remove_file(path) {
        Err(fault) if fault.kind() != io::ErrorKind::NotFound => return Err(fault),
        Ok(()) | Err(_) => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Puts a file that was made as `path.part` on stable storage, and gives it its name.
#[expect(clippy::disallowed_methods, reason = "a file that was named on the command line")]
pub(super) fn name_it(file: &File, path: &Path) -> anyhow::Result<()> {
    let place = || path.display().to_string();
    file.sync_all().with_context(place)?;
    std::fs::rename(with_ending(path, "part"), path).with_context(place)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).with_context(place)
}

fn progress(count: u64, done: &str) {
    if count.is_multiple_of(PROGRESS_EVERY) && io::stderr().is_terminal() {
        eprint!("\r{} {done} ", output::counted(count, "message"));
    }
}

fn end_progress(count: u64) {
    if count >= PROGRESS_EVERY && io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
}

pub(super) fn run_export(export: &QueueExport) -> anyhow::Result<ExitCode> {
    let reach = Reach::of(&export.common.config.config)?;
    match (&export.file, &export.remove_after) {
        (_, Some(receipt)) => forget(&reach, receipt, export.common.json),
        (Some(file), None) => write(&reach, export, file),
        (None, None) => bail!("name the file to export to"),
    }
}

/// What has been written of an export.
struct Export {
    writer: Option<Writer<BufWriter<File>>>,
    name: String,
    held_only: bool,
    octets: u64,
    count: u64,
    spoiled: u64,
    /// Those that were meant and are not held.
    passed: u64,
}

fn write(reach: &Reach, asked: &QueueExport, path: &Path) -> anyhow::Result<ExitCode> {
    if path.exists() {
        let why = format!("{} is there already: name another file, or remove it", path.display());
        return Err(exit::fault(Exit::CantCreate, why));
    }
    let part = with_ending(path, "part");
    let mut file = Some(make(&part).map_err(|fault| unmade(&part, &fault))?);
    let mut export =
        Export { writer: None, name: String::new(), held_only: false, octets: 0, count: 0, spoiled: 0, passed: 0 };
    let command = Command::Export { filters: asked.filters.filters() };
    let asked_for = reach.ask(command, &mut |answer| export.hear(answer, &mut file));
    let unreached = match asked_for {
        Ok(unreached) => unreached,
        Err(fault) => {
            discard(&part);
            return Err(in_words(fault, path));
        }
    };
    if let Some(code) = unreached {
        discard(&part);
        return Ok(code);
    }
    export.end(path, asked.common.json).map_err(|fault| {
        discard(&part);
        in_words(fault, path)
    })
}

/// A file that can't be made.
pub(super) fn unmade(path: &Path, fault: &io::Error) -> anyhow::Error {
    exit::fault(Exit::CantCreate, format!("{}: {fault}", path.display()))
}

/// The words of the disk do not tell which file they are about.
fn in_words(fault: anyhow::Error, path: &Path) -> anyhow::Error {
    if fault.is::<io::Error>() { fault.context(format!("{} can't be written", path.display())) } else { fault }
}

/// What is not whole is for nobody.
#[expect(clippy::disallowed_methods, reason = "a file that this command has made")]
fn discard(part: &Path) {
    std::fs::remove_file(part).ok();
}

impl Export {
    fn hear(&mut self, answer: &Answer, file: &mut Option<File>) -> anyhow::Result<()> {
        match answer {
            Answer::Begun(begun) => {
                let first = First {
                    sealpost_export: VERSION,
                    export: begun.export.clone(),
                    made: crate::cli::clock().now().wall.rfc3339(),
                    sealpost: env!("CARGO_PKG_VERSION").to_owned(),
                };
                (self.name, self.held_only) = (begun.export.clone(), begun.held_only);
                let file = file.take().context("an export begins twice")?;
                self.writer = Some(Writer::begin(BufWriter::new(file), &first)?);
            }
            Answer::Parcel(parcel) => {
                self.writer()?.message(parcel)?;
                self.octets = self.octets.saturating_add(parcel.octets);
                self.count = self.count.saturating_add(1);
                progress(self.count, "exported");
            }
            Answer::Piece(piece) => self.writer()?.piece(&BASE64.decode(piece)?)?,
            Answer::Spoiled(id, why) => {
                self.spoiled = self.spoiled.saturating_add(1);
                eprintln!("sealpost: message {id} is not exported, and stays: {why}");
                self.cut_off()?;
            }
            Answer::Gone(_) => self.cut_off()?,
            Answer::Count(passed) => self.passed = passed.messages,
            Answer::Fault(_) | Answer::Unavailable(_) => return Err(reach::refused(answer)),
            // Not asked for here.
            Answer::Entry(_)
            | Answer::Lines(_)
            | Answer::Headers(_)
            | Answer::Done(_)
            | Answer::Missing(_)
            | Answer::Unmatched(_)
            | Answer::Unable(..)
            | Answer::Adopted(_)
            | Answer::Present(_)
            | Answer::Stats(_)
            | Answer::Compacted(..)
            | Answer::Identity(_)
            | Answer::End => {}
        }
        Ok(())
    }

    fn writer(&mut self) -> anyhow::Result<&mut Writer<BufWriter<File>>> {
        self.writer.as_mut().context("the export has not begun")
    }

    /// A message that was begun does not come to its end.
    fn cut_off(&mut self) -> anyhow::Result<()> {
        let writer = self.writer()?;
        if writer.is_within() {
            let (to, length) = writer.give_up();
            to.flush()?;
            to.get_mut().set_len(length)?;
            to.seek(io::SeekFrom::Start(length))?;
            self.count = self.count.saturating_sub(1);
        }
        Ok(())
    }

    fn end(mut self, path: &Path, as_json: bool) -> anyhow::Result<ExitCode> {
        end_progress(self.count);
        let writer = self.writer.take().context("the daemon did not begin the export")?;
        let (to, count) = writer.end()?;
        let file = to.into_inner().map_err(|fault| fault.into_error())?;
        if count == 0 {
            discard(&with_ending(path, "part"));
            let held = if self.held_only {
                "held message that these filters mean (a daemon runs: hold what is to move)"
            } else {
                "such message"
            };
            eprintln!("sealpost: there is no {held}; no file was written");
        } else {
            name_it(&file, path)?;
            let told = json!({ "export": self.name, "messages": count, "octets": self.octets, "left_out": self.spoiled, "not_held": self.passed });
            if as_json {
                println!("{told}");
            } else {
                println!(
                    "{} ({}) exported to {}, as export {}; in this queue as well, until `queue export --remove-after` gets the receipt of the import; \
                     import them into one queue only: two would both deliver them",
                    output::counted(count, "message"),
                    size(self.octets),
                    path.display(),
                    self.name
                );
            }
        }
        if self.passed > 0 {
            eprintln!(
                "sealpost: not exported: {}, queued or dead: a running relay exports only what is held; hold them first (or stop the relay), or \
                 say --state held",
                output::counted(self.passed, "message")
            );
        }
        Ok(if self.spoiled > 0 || self.passed > 0 { Exit::No.into() } else { ExitCode::SUCCESS })
    }
}

/// Removes what a receipt says has arrived.
fn forget(reach: &Reach, path: &Path, as_json: bool) -> anyhow::Result<ExitCode> {
    let receipt = Written::open(path)?;
    let (mut removed, mut gone, mut stay) = (0_u64, 0_u64, 0_u64);
    let unreached = receipt.each(IDS_MAX, |ids| {
        reach.ask(Command::Forget { export: receipt.export.clone(), ids }, &mut |answer| {
            if answer.objection().is_some() {
                return Err(reach::refused(answer));
            }
            removed = removed.saturating_add(u64::from(matches!(answer, Answer::Done(_))));
            gone = gone.saturating_add(u64::from(matches!(answer, Answer::Gone(_))));
            stay = stay.saturating_add(u64::from(matches!(answer, Answer::Present(_))));
            progress(removed, "removed");
            Ok(())
        })
    })?;
    if let Some(code) = unreached {
        return Ok(code);
    }
    end_progress(removed);
    if as_json {
        println!("{}", json!({ "export": receipt.export, "removed": removed, "not_here": gone, "stay": stay }));
    } else {
        println!(
            "{} of export {} removed from this queue; {gone} not here any more",
            output::counted(removed, "message"),
            receipt.export
        );
    }
    if stay > 0 {
        eprintln!(
            "sealpost: {stay} of them stay: since export {} was begun this queue has told another one that it has them, and who wrote the receipt may have \
             removed them for that. If they are to move, export them again, import that, and show its receipt",
            receipt.export
        );
        return Ok(Exit::No.into());
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn run_import(import: &QueueImport) -> anyhow::Result<ExitCode> {
    let reach = Reach::of(&import.common.config.config)?;
    let file = open(&import.file).map_err(|fault| exit::unread(&import.file, &fault))?;
    let no_export = |fault| exit::fault(Exit::Data, format!("{}: {fault:#}", import.file.display()));
    let reader = Reader::begin(BufReader::new(file)).map_err(no_export)?;
    let path = import.receipt.clone().unwrap_or_else(|| with_ending(&import.file, "receipt"));
    let export = reader.first.export.clone();
    let back = if import.take_back { Back::Taken } else { Back::Refused };
    let account = Account { receipt: Receipt::begin(&path, &export)?, imported: 0, present: 0, left_out: 0 };
    let account = Mutex::new(account);
    let unreached = match reach.daemon() {
        Ok(Some(daemon)) => {
            bring_to_daemon(daemon, reader, back, &account)?;
            None
        }
        Ok(None) => reach.with_store(async |queue, clock| {
            let by = format!("{}, without a daemon", Peer::own());
            let begun = Importing::begin(&export, back, by, queue).await.map_err(anyhow::Error::msg)?;
            let (mut importing, adopted) = begun;
            let mut feed = Feed { reader, adopted, within: None, over: false, account: &account };
            while let Some(brought) = feed.next()? {
                let roster = std::sync::Arc::default();
                let desk = Desk { queue, daemon: None, roster: &roster, now: clock.now().wall };
                for answer in importing.take(desk, brought).await? {
                    hear(&account, &answer)?;
                }
            }
            Ok(())
        })?,
        Err(code) => Some(code),
    };
    if let Some(code) = unreached {
        discard(&with_ending(&path, "part"));
        return Ok(code);
    }
    account.into_inner().unwrap_or_else(PoisonError::into_inner).end(&export, &path, import.common.json)
}

#[expect(clippy::disallowed_methods, reason = "a file that was named on the command line")]
fn open(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// One brings, one listens: neither waits for the other while the socket is full.
fn bring_to_daemon(
    mut daemon: UnixStream,
    reader: Reader<BufReader<File>>,
    back: Back,
    account: &Mutex<Account>,
) -> anyhow::Result<()> {
    let command = Command::Import { export: reader.first.export.clone(), back };
    reach::send(&mut daemon, &Request { version: control::VERSION, command })?;
    let sending = daemon.try_clone()?;
    std::thread::scope(|scope| {
        let (mut reader, mut bringing) = (Some(reader), None);
        let heard = reach::hear(daemon, &mut |answer| {
            let Answer::Adopted(adopted) = answer else { return hear(account, answer) };
            let reader = reader.take().context("the daemon begins the import twice")?;
            let feed = Feed { reader, adopted: adopted.clone(), within: None, over: false, account };
            let sending = sending.try_clone()?;
            bringing = Some(scope.spawn(move || bring(feed, sending)));
            Ok(())
        });
        // Whatever ended the answers: what would still be sent is for nobody.
        sending.shutdown(Shutdown::Both).ok();
        match bringing.map(ScopedJoinHandle::join) {
            Some(Ok(Err(fault))) => Err(fault.context("the export can't be read to its end")),
            Some(Err(_)) => bail!("the export can't be read to its end"),
            Some(Ok(Ok(()))) | None => heard,
        }
    })
}

/// Sends all that the file has; that nobody listens is told by what was heard.
fn bring(mut feed: Feed<'_>, mut sending: UnixStream) -> anyhow::Result<()> {
    loop {
        let brought = match feed.next() {
            Ok(Some(brought)) => brought,
            Ok(None) => return Ok(()),
            Err(fault) => {
                sending.shutdown(Shutdown::Both).ok();
                return Err(fault);
            }
        };
        if reach::send(&mut sending, &brought).is_err() {
            return Ok(());
        }
    }
}

/// What became of an import.
struct Account {
    receipt: Receipt,
    imported: u64,
    present: u64,
    left_out: u64,
}

fn hear(account: &Mutex<Account>, answer: &Answer) -> anyhow::Result<()> {
    let mut account = account.lock().unwrap_or_else(PoisonError::into_inner);
    match answer {
        Answer::Done(id) => {
            account.imported = account.imported.saturating_add(1);
            account.receipt.add(id)?;
            progress(account.imported, "imported");
        }
        Answer::Present(id) => account.is_here(id)?,
        Answer::Unable(id, why) => account.leave_out(&format!("message {id}: {why}")),
        // Nothing has begun: it can't be done at all.
        Answer::Fault(_) | Answer::Unavailable(_) if account.imported == 0 && account.present == 0 => {
            return Err(reach::refused(answer));
        }
        Answer::Fault(_) | Answer::Unavailable(_) => {
            let kept = "; what was imported is kept: repeat this then, and it goes on where it was";
            return Err(reach::refused_with(answer, kept));
        }
        // Not asked for here.
        Answer::Entry(_)
        | Answer::Lines(_)
        | Answer::Headers(_)
        | Answer::Missing(_)
        | Answer::Gone(_)
        | Answer::Unmatched(_)
        | Answer::Count(_)
        | Answer::Begun(_)
        | Answer::Parcel(_)
        | Answer::Piece(_)
        | Answer::Spoiled(..)
        | Answer::Adopted(_)
        | Answer::Stats(_)
        | Answer::Compacted(..)
        | Answer::Identity(_)
        | Answer::End => {}
    }
    Ok(())
}

impl Account {
    fn is_here(&mut self, id: &str) -> io::Result<()> {
        self.present = self.present.saturating_add(1);
        self.receipt.add(id)
    }

    fn leave_out(&mut self, what: &str) {
        self.left_out = self.left_out.saturating_add(1);
        eprintln!("sealpost: left out, and still in the file: {what}");
    }

    fn end(self, export: &str, path: &Path, as_json: bool) -> anyhow::Result<ExitCode> {
        end_progress(self.imported);
        let Self { receipt, imported, present, left_out } = self;
        receipt.end()?;
        if as_json {
            println!("{}", json!({ "export": export, "imported": imported, "present": present, "left_out": left_out }));
        } else {
            println!(
                "{} of export {export} imported, {present} brought before; the receipt is {}",
                output::counted(imported, "message"),
                path.display()
            );
        }
        if left_out > 0 {
            eprintln!(
                "sealpost: left out: {} of the file; what was there is not in the receipt, and stays where it came from; if this copy is damaged, copy \
                 the file again and import that: its receipt will have the rest",
                output::counted(left_out, "part")
            );
            return Ok(Exit::No.into());
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The file, as what is to be brought.
struct Feed<'a> {
    reader: Reader<BufReader<File>>,
    /// These were brought before.
    adopted: Adoption,
    /// The message whose octets come next.
    within: Option<Message>,
    over: bool,
    account: &'a Mutex<Account>,
}

impl Feed<'_> {
    /// What is to be brought next; none behind the end.
    fn next(&mut self) -> anyhow::Result<Option<Brought>> {
        while !self.over {
            let brought = match self.within.take() {
                Some(message) => self.piece(message)?,
                None => self.item()?,
            };
            if brought.is_some() {
                return Ok(brought);
            }
        }
        Ok(None)
    }

    fn piece(&mut self, message: Message) -> anyhow::Result<Option<Brought>> {
        let is_new = !self.adopted.has(message.place);
        match self.reader.piece()? {
            Piece::Octets(octets) => {
                self.within = Some(message);
                Ok(is_new.then(|| Brought::Piece(BASE64.encode(octets))))
            }
            Piece::Whole if !is_new => Ok(Some(Brought::Before { place: message.place, id: message.id })),
            Piece::Damaged(why) if !is_new => {
                let mut account = self.account.lock().unwrap_or_else(PoisonError::into_inner);
                account.leave_out(&format!("message {}: {why}", message.id));
                Ok(None)
            }
            // Whoever takes it in holds it against its record.
            Piece::Whole | Piece::Damaged(_) => Ok(None),
        }
    }

    fn item(&mut self) -> anyhow::Result<Option<Brought>> {
        match self.reader.next()? {
            None => {
                self.over = true;
                return Ok(Some(Brought::End));
            }
            Some(Item::End(_)) => {}
            Some(Item::Damage(why)) => {
                self.account.lock().unwrap_or_else(PoisonError::into_inner).leave_out(&why);
            }
            Some(Item::Message(message)) => {
                let (place, record) = (message.place, message.record.clone());
                let is_new = !self.adopted.has(place);
                self.within = Some(message);
                return Ok(is_new.then_some(Brought::Message { place, record }));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test puts files there")]
    fn what_stands_under_the_name_is_neither_written_to_nor_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (part, other) = (folder.path().join("queue.export.part"), folder.path().join("other"));
        let make_over = |what: &str| {
            make(&part).unwrap().write_all(b"mail").unwrap();
            let metadata = std::fs::symlink_metadata(&part).unwrap();
            assert!(metadata.is_file() && metadata.permissions().mode() & 0o777 == 0o600, "{what}: {metadata:?}");
            assert_eq!(std::fs::read(&other).unwrap(), b"precious", "{what}");
        };
        std::fs::write(&other, b"precious").unwrap();
        make_over("nothing");
        std::fs::set_permissions(&part, Permissions::from_mode(0o666)).unwrap();
        make_over("a file that all may read");
        std::fs::remove_file(&part).unwrap();
        symlink(&other, &part).unwrap();
        make_over("a link");
    }
}
