//! Identities as lines of a CSV file (RFC 4180): for rosters that a program writes, up to millions.
//!
//! ```text
//! name,ca,email,send_as,send_to
//! alice,staff,alice@example.com,@certificate,*
//! bob,staff,bob@example.com,@certificate !ceo@example.com,*@example.com *@example.net
//! ```
//!
//! The first line names the columns, in any order: the keys of `[[identity]]`, its `match` and its `limits`, and `issuer` and `serial` for
//! `issuer_serial`. `name` must be there; an empty cell is a key that is not written. A list has spaces between its patterns. Lines that begin
//! with `#` are passed over.
//!
//! The file is read piece by piece and each line made small at once: equal lists, terms and names of issuers are kept once. Each mistake is told
//! with its line, up to a limit; then the rest of the file is not read.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use csv::{ByteRecord, Reader, ReaderBuilder, Terminator};

use super::super::trust::priorities;
use super::Gathering;
use super::keys::{KeyTexts, Wrong, known_ca, name_of_line};
use crate::config::checks::Checking;
use crate::config::checks::trust::{Cas, dispatch, leeway};
use crate::config::files::{self, Stream};
use crate::config::mistake::{Gravity, Place};
use crate::config::nearest::nearest;
use crate::config::units::read_size;
use crate::identity::pattern::{ListPurpose, PatternList};
use crate::identity::roster::{EntryState, RosterLine, Terms};
use crate::identity::{DistinguishedName, Limits, MatchKeys, Priorities, SecondFactor};
use crate::mail::Rates;
use crate::smtp::data::BareLf;

/// Mistakes of one file that are told.
const MISTAKES_MAX: usize = 20;
/// Octets of one line at most, with the remarks and empty lines before it: what a quote that is never closed may take into memory.
const LINE_OCTETS_MAX: usize = 4 * 1024 * 1024;
/// Different lists, terms and issuers that are remembered, so that later lines can share them.
const SHARED_MAX: usize = 10_000;

/// Every column there may be.
const COLUMNS: [&str; COLUMN_COUNT] = [
    "name",
    "ca",
    "email",
    "upn",
    "dns",
    "uri",
    "subject",
    "issuer",
    "serial",
    "fingerprint",
    "spki",
    "send_as",
    "send_to",
    "null_sender",
    "disabled",
    "pin_ignores_expiry",
    "second_factor",
    "recipients_per_message",
    "message_size",
    "messages_per_hour",
    "messages_per_day",
    "recipients_per_hour",
    "recipients_per_day",
    "priority_min",
    "priority_max",
    "hold",
    "resend",
    "bare_lf",
    "accept_vouched",
];
const COLUMN_COUNT: usize = 29;

/// What is wrong in a line: the column where it is one's, and the sentence.
type LineFault = (Option<&'static str>, Wrong);

impl Checking<'_> {
    /// Reads the lines of a file.
    pub(super) fn identity_lines(&mut self, key: &str, path: &Path, cas: &Cas, gathering: &mut Gathering) {
        let Some(stream) = self.open_stream(key, path) else { return };
        let mut reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .comment(Some(b'#'))
            // Unless told so it takes a CR for a line end too, and counts none for it: mistakes would stand on other lines than an editor shows.
            .terminator(Terminator::Any(b'\n'))
            .from_reader(LineEnds::of(stream));
        let mut lines = Lines::new(path, cas);
        let mut record = ByteRecord::new();
        let read = lines.header(&mut reader, &mut record, self);
        while read && lines.mistakes < MISTAKES_MAX {
            let begins = reader.position().line();
            reader.get_mut().left = LINE_OCTETS_MAX;
            match reader.read_byte_record(&mut record) {
                Ok(true) => lines.take(&record, line_of(&reader, &record), self, gathering),
                Ok(false) => break,
                Err(fault) => {
                    lines.tell_unread(&fault, begins, self);
                    break;
                }
            }
        }
        if lines.mistakes >= MISTAKES_MAX {
            let wrong = "has more mistakes than are told; the rest of it was not read".to_owned();
            self.findings.tell(Gravity::Mistake, Place::File { file: lines.file }, String::new(), wrong, ());
        }
        self.note_stream(key, path, reader.into_inner().inner);
    }
}

/// One file's lines.
struct Lines<'c> {
    file: Arc<str>,
    cas: &'c Cas,
    /// The cell of each column of [`COLUMNS`].
    cells: [Option<usize>; COLUMN_COUNT],
    width: usize,
    mistakes: usize,
    send_as: HashMap<Box<str>, PatternList>,
    send_to: HashMap<Box<str>, PatternList>,
    names: HashMap<Box<str>, Arc<DistinguishedName>>,
    terms: Vec<Arc<Terms>>,
}

impl<'c> Lines<'c> {
    fn new(path: &Path, cas: &'c Cas) -> Self {
        Self {
            file: path.display().to_string().into(),
            cas,
            cells: [None; COLUMN_COUNT],
            width: 0,
            mistakes: 0,
            send_as: HashMap::new(),
            send_to: HashMap::new(),
            names: HashMap::new(),
            terms: Vec::new(),
        }
    }

    /// Reads the first line; whether the others can be understood by it.
    fn header(
        &mut self,
        reader: &mut Reader<LineEnds<Stream>>,
        record: &mut ByteRecord,
        checking: &mut Checking<'_>,
    ) -> bool {
        let before = self.mistakes;
        match reader.read_byte_record(record) {
            Err(fault) => self.tell_unread(&fault, 1, checking),
            Ok(false) => {
                let wrong = "is empty; its first line names the columns: name,ca,email,send_as,send_to".to_owned();
                self.tell(1, String::new(), (wrong, None), checking);
            }
            Ok(true) => {
                self.width = record.len();
                if unclosed(record).is_none() && names_nothing(record) {
                    let wrong = "names no column: it has no header line".to_owned();
                    let remedy = "begin the file with a line like name,ca,email,send_as,send_to".to_owned();
                    self.tell(line_of(reader, record), String::new(), (wrong, Some(remedy)), checking);
                    return false;
                }
                for (cell, name) in record.iter().enumerate() {
                    let name = String::from_utf8_lossy(name).trim_start_matches('\u{feff}').to_owned();
                    if let Err(wrong) = self.column(cell, &name) {
                        self.tell(
                            line_of(reader, record),
                            format!("column {}", cell.saturating_add(1)),
                            wrong,
                            checking,
                        );
                    }
                }
                if self.mistakes == before && self.cells.first().is_none_or(Option::is_none) {
                    let wrong = "there is no column name".to_owned();
                    let remedy = "begin the file with a line like name,ca,email,send_as,send_to".to_owned();
                    self.tell(line_of(reader, record), String::new(), (wrong, Some(remedy)), checking);
                }
            }
        }
        self.mistakes == before
    }

    fn column(&mut self, cell: usize, name: &str) -> Result<(), Wrong> {
        let Some(column) = COLUMNS.iter().position(|known| *known == name) else {
            let remedy = match nearest(name, COLUMNS) {
                Some(meant) => format!("did you mean {meant:?}?"),
                None => format!(
                    "the first line names the columns, with commas between; there may be {}",
                    COLUMNS.join(", ")
                ),
            };
            return Err((format!("{name:?}: there is no such column"), Some(remedy)));
        };
        match self.cells.get_mut(column) {
            Some(free @ None) => *free = Some(cell),
            Some(Some(_)) | None => return Err((format!("{name:?} is there twice"), Some("leave one out".to_owned()))),
        }
        Ok(())
    }

    fn take(&mut self, record: &ByteRecord, line: u32, checking: &mut Checking<'_>, gathering: &mut Gathering) {
        if let Some((cell, above)) = unclosed(record) {
            let wrong = format!("cell {} begins with a quote that is never closed", cell.saturating_add(1));
            let remedy = "close it, and write two quotes (\"\") for one within a cell".to_owned();
            // The remark behind the file was counted as one of its lines.
            let line = line.saturating_add(above).saturating_add(1);
            return self.tell(line, String::new(), (wrong, Some(remedy)), checking);
        }
        match self.entry(record, line) {
            Ok(entry) => {
                gathering.note_ca(entry.keys.ca.as_ref());
                gathering.builder.put_line(entry);
            }
            Err((column, wrong)) => {
                gathering.entries = gathering.entries.saturating_add(1);
                let name = self.text(record, "name").unwrap_or_default();
                let entry = if name.is_empty() { String::new() } else { format!("identity {name:?}") };
                let key = match (entry.as_str(), column) {
                    (_, None) => entry,
                    ("", Some(column)) => column.to_owned(),
                    (_, Some(column)) => format!("{entry}: {column}"),
                };
                self.tell(line, key, wrong, checking);
            }
        }
    }

    fn entry<'r>(&mut self, record: &'r ByteRecord, line: u32) -> Result<RosterLine<'r>, LineFault> {
        // No key and no list has a line end in it.
        if record.iter().any(|cell| cell.contains(&b'\n')) {
            let wrong = "a quote that opens on this line is closed only lines below".to_owned();
            return Err((None, (wrong, Some("close it where its cell ends".to_owned()))));
        }
        if record.len() != self.width {
            let wrong = format!("has {} cells, the first line has {}", record.len(), self.width);
            let remedy = if record.len() < self.width {
                "write a comma for each cell that is missing; an empty cell is a key that is not written"
            } else {
                "put a cell that holds a comma in double quotes"
            };
            return Err((None, (wrong, Some(remedy.to_owned()))));
        }
        let name = self.text(record, "name")?;
        if name.is_empty() {
            return Err((Some("name"), ("is empty".to_owned(), Some("log and queue call it so".to_owned()))));
        }
        if let Some((ca, _)) = name.split_once(':').filter(|(ca, _)| self.cas.names.contains(*ca)) {
            let wrong = format!(
                "begins with the name of the client_ca {ca:?} and a colon, as its certificates are called in the log"
            );
            return Err((Some("name"), (wrong, Some("write another name".to_owned()))));
        }
        let keys = self.keys(record)?;
        let (send_as, send_to) = (self.text(record, "send_as")?, self.text(record, "send_to")?);
        Ok(RosterLine {
            name,
            send_as: list(&mut self.send_as, send_as, ListPurpose::SendAs).map_err(|wrong| (Some("send_as"), wrong))?,
            send_to: list(&mut self.send_to, send_to, ListPurpose::SendTo).map_err(|wrong| (Some("send_to"), wrong))?,
            terms: self.terms(record)?,
            keys,
            file: Arc::clone(&self.file),
            line,
        })
    }

    fn keys(&mut self, record: &ByteRecord) -> Result<MatchKeys, LineFault> {
        let texts = KeyTexts {
            email: self.text(record, "email")?,
            upn: self.text(record, "upn")?,
            dns: self.text(record, "dns")?,
            uri: self.text(record, "uri")?,
            subject: self.text(record, "subject")?,
            issuer: self.text(record, "issuer")?,
            serial: self.text(record, "serial")?,
            fingerprint: self.text(record, "fingerprint")?,
            spki: self.text(record, "spki")?,
        };
        let ca = match self.text(record, "ca")? {
            "" => None,
            ca => Some(known_ca(ca, self.cas).map_err(|wrong| (Some("ca"), wrong))?),
        };
        let names = &mut self.names;
        let read = texts.read(&mut |text: &str| shared(names, text, name_of_line));
        read.map(|keys| MatchKeys { ca, ..keys }).map_err(|(column, wrong)| (Some(column), wrong))
    }

    fn terms(&mut self, record: &ByteRecord) -> Result<Arc<Terms>, LineFault> {
        let at = |column: &'static str| move |wrong: Wrong| (Some(column), wrong);
        let flag = |column, unwritten| {
            self.text(record, column).and_then(|text| read_flag(text, unwritten).map_err(at(column)))
        };
        let count = |column| self.text(record, column).and_then(|text| read_count(text).map_err(at(column)));
        let priority = |column| self.text(record, column).and_then(|text| read_priority(text).map_err(at(column)));
        let priorities = priorities(priority("priority_min")?, priority("priority_max")?);
        let terms = Terms {
            state: if flag("disabled", false)? { EntryState::Disabled } else { EntryState::Enabled },
            second_factor: read_second_factor(self.text(record, "second_factor")?).map_err(at("second_factor"))?,
            limits: Limits {
                priorities: priorities.map_err(|wrong| (Some("priority_max"), (wrong, None)))?,
                recipients_per_message: count("recipients_per_message")?,
                message_size: read_octets(self.text(record, "message_size")?).map_err(at("message_size"))?,
                rates: Rates {
                    messages_per_hour: count("messages_per_hour")?,
                    messages_per_day: count("messages_per_day")?,
                    recipients_per_hour: count("recipients_per_hour")?,
                    recipients_per_day: count("recipients_per_day")?,
                },
            },
            dispatch: dispatch(flag("hold", false)?),
            null_sender: flag("null_sender", true)?,
            leeway: leeway(
                flag("resend", false)?,
                read_bare_lf(self.text(record, "bare_lf")?).map_err(at("bare_lf"))? == BareLf::Normalized,
                flag("accept_vouched", false)?,
            ),
            pin_ignores_expiry: flag("pin_ignores_expiry", false)?,
        };
        if let Some(known) = self.terms.iter().find(|known| ***known == terms) {
            return Ok(Arc::clone(known));
        }
        let terms = Arc::new(terms);
        if self.terms.len() < TERMS_MAX {
            self.terms.push(Arc::clone(&terms));
        }
        Ok(terms)
    }

    /// The text of a column's cell; a column that is not there is empty in every line.
    fn text<'r>(&self, record: &'r ByteRecord, column: &'static str) -> Result<&'r str, LineFault> {
        let place = COLUMNS.iter().position(|known| *known == column);
        let cell = place.and_then(|place| self.cells.get(place).copied().flatten());
        let octets = cell.and_then(|cell| record.get(cell)).unwrap_or_default();
        let text = std::str::from_utf8(octets)
            .map_err(|_| (Some(column), ("is not UTF-8".to_owned(), Some("save the file as UTF-8".to_owned()))))?;
        Ok(text.trim_matches(' '))
    }

    fn tell(&mut self, line: u32, key: String, (wrong, remedy): Wrong, checking: &mut Checking<'_>) {
        self.mistakes = self.mistakes.saturating_add(1);
        let place = Place::Line { file: Arc::clone(&self.file), line: usize::try_from(line).unwrap_or(usize::MAX) };
        checking.findings.tell(Gravity::Mistake, place, key, wrong, remedy);
    }

    /// `begins`: where the line begins that was being read, with the remarks before it.
    fn tell_unread(&mut self, fault: &csv::Error, begins: u64, checking: &mut Checking<'_>) {
        let wrong = if let csv::ErrorKind::Io(fault) = fault.kind() {
            if fault.get_ref().is_some_and(|inner| inner.is::<TooLong>()) {
                let line = u32::try_from(begins).unwrap_or(u32::MAX);
                let remedy = "close the quote that opens here or below, or take remarks out".to_owned();
                return self.tell(line, String::new(), (TooLong.to_string(), Some(remedy)), checking);
            }
            if let Some(LoneCr { line }) = fault.get_ref().and_then(|inner| inner.downcast_ref()) {
                let remedy = "save the file with LF or CRLF behind each line".to_owned();
                return self.tell(*line, String::new(), (LoneCr { line: *line }.to_string(), Some(remedy)), checking);
            }
            files::unreadable(fault)
        } else {
            format!("can't be read: {fault}")
        };
        self.mistakes = self.mistakes.saturating_add(1);
        let place = Place::File { file: Arc::clone(&self.file) };
        checking.findings.tell(Gravity::Mistake, place, String::new(), wrong, ());
    }
}

/// A line takes more than [`LINE_OCTETS_MAX`].
#[derive(Debug, thiserror::Error)]
#[error("no line ends within {} MiB from here on", LINE_OCTETS_MAX / (1024 * 1024))]
struct TooLong;

/// An editor shows a line end there, behind which an entry might stand, or a remark end.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("holds a CR that no LF follows")]
struct LoneCr {
    line: u32,
}

/// Different terms that are remembered: they are sought one by one.
const TERMS_MAX: usize = 32;

/// The line that a record begins on. Its own position would be that of the empty lines and remarks before it; where it ends is sure.
fn line_of(reader: &Reader<LineEnds<Stream>>, record: &ByteRecord) -> u32 {
    let within = memchr::memchr_iter(b'\n', record.as_slice()).count();
    let within = u64::try_from(within).unwrap_or(u64::MAX).saturating_add(1);
    u32::try_from(reader.position().line().saturating_sub(within).max(1)).unwrap_or(u32::MAX)
}

/// Whether no cell of the first line is a column, or was meant as one.
fn names_nothing(record: &ByteRecord) -> bool {
    record.iter().all(|cell| {
        let name = String::from_utf8_lossy(cell);
        let name = name.trim_start_matches('\u{feff}');
        !COLUMNS.contains(&name) && nearest(name, COLUMNS).is_none()
    })
}

/// The remark behind the last line. It is passed over like any, unless a quote is open: then it is the end of the last cell.
const END: &[u8] = b"#\0\n";

/// The cell whose quote is never closed, and the line ends of the record before it.
fn unclosed(record: &ByteRecord) -> Option<(usize, u32)> {
    let (cell, last) = record.iter().enumerate().next_back()?;
    if !last.ends_with(END) {
        return None;
    }
    let before = record.as_slice().len().saturating_sub(last.len());
    let above = memchr::memchr_iter(b'\n', record.as_slice().get(..before).unwrap_or_default()).count();
    Some((cell, u32::try_from(above).unwrap_or(u32::MAX)))
}

/// The same octets with LF for CRLF, and behind the last line its end and a remark, so that lines can be counted and an open quote is seen. A CR elsewhere is a
/// mistake.
struct LineEnds<R> {
    inner: R,
    /// A CR was the last octet: LF must follow, or the end.
    held: bool,
    last: u8,
    /// The line at hand, from 1.
    line: u32,
    /// A CR that no LF follows, behind what was given.
    spoiled: Option<LoneCr>,
    /// What is still to be given behind the last octet; none before that was reached.
    rest: Option<Vec<u8>>,
    /// Octets that the line at hand may still take.
    left: usize,
}

impl<R: Read> LineEnds<R> {
    fn of(inner: R) -> Self {
        Self { inner, held: false, last: b'\n', line: 1, spoiled: None, rest: None, left: LINE_OCTETS_MAX }
    }

    /// What is still to come when there is no more.
    fn end(&mut self, buffer: &mut [u8]) -> usize {
        let last = self.last;
        let rest = self.rest.get_or_insert_with(|| {
            let line_end: &[u8] = if last == b'\n' { b"" } else { b"\n" };
            [line_end, END].concat()
        });
        let count = rest.len().min(buffer.len());
        buffer.iter_mut().zip(rest.drain(..count)).for_each(|(place, octet)| *place = octet);
        count
    }
}

impl<R: Read> Read for LineEnds<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.left == 0 {
            return Err(std::io::Error::other(TooLong));
        }
        if let Some(spoiled) = self.spoiled {
            return Err(std::io::Error::other(spoiled));
        }
        let mut octets = vec![0; buffer.len().min(CHUNK)];
        let count = self.inner.read(&mut octets)?;
        if count == 0 {
            return Ok(self.end(buffer));
        }
        self.left = self.left.saturating_sub(count);
        let mut written = 0;
        let mut free = buffer.iter_mut();
        for &octet in octets.get(..count).unwrap_or_default() {
            if std::mem::replace(&mut self.held, octet == b'\r') && !matches!(octet, b'\n' | b'\r') {
                self.spoiled = Some(LoneCr { line: self.line });
                break;
            }
            if octet != b'\r' {
                put(&mut free, octet, &mut written);
                self.last = octet;
            }
            if octet == b'\n' {
                self.line = self.line.saturating_add(1);
            }
        }
        // Nothing but a CR came: it waits, or is a mistake.
        if written == 0 { self.read(buffer) } else { Ok(written) }
    }
}

/// Octets taken at once.
const CHUNK: usize = 64 * 1024;

fn put(free: &mut std::slice::IterMut<'_, u8>, octet: u8, written: &mut usize) {
    if let Some(place) = free.next() {
        *place = octet;
        *written = written.saturating_add(1);
    }
}

/// What was made of the same text before, or is made now.
fn shared<V: Clone>(
    known: &mut HashMap<Box<str>, V>,
    text: &str,
    make: impl FnOnce(&str) -> Result<V, Wrong>,
) -> Result<V, Wrong> {
    if let Some(value) = known.get(text) {
        return Ok(value.clone());
    }
    let value = make(text)?;
    if known.len() < SHARED_MAX {
        known.insert(text.into(), value.clone());
    }
    Ok(value)
}

fn list(known: &mut HashMap<Box<str>, PatternList>, text: &str, purpose: ListPurpose) -> Result<PatternList, Wrong> {
    shared(known, text, |text| {
        PatternList::read(text.split_ascii_whitespace(), purpose).map_err(|faults| {
            let (place, fault) = match faults.first() {
                Some((place, fault)) => (*place, fault.to_string()),
                None => (0, String::new()),
            };
            let pattern = text.split_ascii_whitespace().nth(place).unwrap_or_default();
            (format!("{pattern:?}: {fault}"), Some("patterns have spaces between them".to_owned()))
        })
    })
}

fn read_flag(text: &str, unwritten: bool) -> Result<bool, Wrong> {
    match text {
        "" => Ok(unwritten),
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err((format!("{text:?}: not true or false"), None)),
    }
}

fn read_second_factor(text: &str) -> Result<Option<SecondFactor>, Wrong> {
    match text {
        "" => Ok(None),
        "none" => Ok(Some(SecondFactor::None)),
        "password" => Ok(Some(SecondFactor::Password)),
        "totp" => Ok(Some(SecondFactor::Totp)),
        _ => {
            let remedy = "write \"none\", \"password\" or \"totp\"".to_owned();
            Err((format!("{text:?}: there is no such choice"), Some(remedy)))
        }
    }
}

fn read_count(text: &str) -> Result<Option<u32>, Wrong> {
    match text.parse() {
        _ if text.is_empty() => Ok(None),
        Ok(0) => Err(("0: nothing could be sent".to_owned(), Some("write 1 or more".to_owned()))),
        Ok(count) => Ok(Some(count)),
        Err(_) => Err((format!("{text:?}: not a whole number"), None)),
    }
}

fn read_bare_lf(text: &str) -> Result<BareLf, Wrong> {
    match text {
        "" | "refuse" => Ok(BareLf::Refused),
        "normalize" => Ok(BareLf::Normalized),
        _ => {
            let remedy = "write \"refuse\" or \"normalize\"".to_owned();
            Err((format!("{text:?}: there is no such choice"), Some(remedy)))
        }
    }
}

fn read_priority(text: &str) -> Result<Option<i8>, Wrong> {
    match text.parse() {
        _ if text.is_empty() => Ok(None),
        Ok(number) if (Priorities::LEAST..=Priorities::MOST).contains(&number) => Ok(Some(number)),
        Ok(_) | Err(_) => Err((format!("{text:?}: not a priority"), Some("write a number from -9 to 9".to_owned()))),
    }
}

fn read_octets(text: &str) -> Result<Option<u64>, Wrong> {
    if text.is_empty() {
        return Ok(None);
    }
    read_size(text).map(|size| Some(size.0)).map_err(|fault| (format!("{text:?}: {fault}"), None))
}
