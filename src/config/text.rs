//! The file's text, read with the line of each key, and held against the list of all keys.
//!
//! Gives back what is usable of it, cleaned of what is not, so that the checks after this one can go on and all mistakes are told at once.
//! Never: decides what values mean together.

use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::mistake::Findings;
use super::nearest::nearest;
use super::schema::{self, Key, Kind};
use super::units::{read_size, read_wait};
use crate::identity::Priorities;

/// Reads a TOML text; what is wrong with it goes to `findings`. `None`: the grammar is broken, and nothing can be said of its keys.
pub(super) fn read(text: &str, keys: &'static [Key], findings: &mut Findings) -> Option<Table> {
    let (table, faults) = DeTable::parse_recoverable(text);
    let mut in_another = false;
    for fault in &faults {
        let place = match fault.span() {
            Some(span) => findings.origins().at_octet(span.start.min(text.len().saturating_sub(1))),
            // What is nested too deeply has no place: its reader gave up.
            None => findings.origins().nowhere(),
        };
        // The grammar says that a key is there twice, not which.
        let span = fault.span().filter(|_| fault.message() == "duplicate key");
        match span.clone().and_then(|span| header(text, span.start, keys)) {
            Some(Header { name, kind: Kind::Tables(_), is_of_a_list }) => {
                let above = if is_of_a_list { "it is above in another way, and " } else { "" };
                findings.at(place, format!("{name}: {above}this is a list of tables; write [[{name}]] each time"));
                // What stands in it counts to the one before, of which some keys would be there twice.
                in_another = true;
                continue;
            }
            Some(Header { name, kind: Kind::Table(_), .. }) => {
                findings.at(place, format!("{name}: is there above already; put them together in one [{name}]"));
                continue;
            }
            Some(_) | None => {}
        }
        if in_another && span.is_some() {
            continue;
        }
        let key = span.and_then(|span| text.get(span));
        let key = key.map(|key| format!(" {key:?}; leave one out")).unwrap_or_default();
        findings.at(place, format!("not TOML: {}{key}", fault.message()));
    }
    faults.is_empty().then(|| Reading { findings }.table("", table.get_ref(), keys))
}

/// The line above the keys of a table.
struct Header<'t> {
    name: &'t str,
    kind: &'static Kind,
    /// It is written as `[[name]]`.
    is_of_a_list: bool,
}

/// The header in the line with this octet, when there is one and its name is known.
fn header<'t>(text: &'t str, octet: usize, mut keys: &'static [Key]) -> Option<Header<'t>> {
    let (before, behind) = text.split_at_checked(octet)?;
    let begin = before.rfind('\n').map_or(0, |end| end.saturating_add(1));
    let end = behind.find('\n').map_or(text.len(), |end| octet.saturating_add(end));
    let line = text.get(begin..end)?.trim().strip_prefix('[')?;
    let listed = line.strip_prefix('[');
    let name = listed.unwrap_or(line).split_once(']')?.0.trim();
    let mut words = name.split('.').map(str::trim).peekable();
    while let Some(word) = words.next() {
        match (&schema::find(keys, word)?.kind, words.peek()) {
            (kind, None) => return Some(Header { name, kind, is_of_a_list: listed.is_some() }),
            (Kind::Table(below) | Kind::Tables(below), Some(_)) => keys = below,
            _ => return None,
        }
    }
    None
}

struct Reading<'f> {
    findings: &'f mut Findings,
}

/// Shorter words are too near to everything.
const GUESSED_LEAST: usize = 4;

type Written<'t> = Spanned<DeValue<'t>>;

impl Reading<'_> {
    fn table(&mut self, path: &str, table: &DeTable<'_>, keys: &'static [Key]) -> Table {
        let mut usable = Table::new();
        for (name, value) in table {
            let (here, written) = (join(path, name.get_ref()), name.get_ref().as_ref());
            self.findings.origins_mut().stands_at(&here, name.span().start);
            let Some(key) = schema::find(keys, written) else {
                self.unknown(&here, written, keys);
                continue;
            };
            match self.value(&here, value, &key.kind) {
                Some(value) => drop(usable.insert(written.to_owned(), value)),
                None => self.findings.origins_mut().spoil(&here),
            }
        }
        usable
    }

    fn unknown(&mut self, path: &str, written: &str, keys: &'static [Key]) {
        let remedy = match nearest(written, schema::names(keys)) {
            Some(meant) => {
                // It is misspelt, not missing too.
                let above = path.strip_suffix(written).unwrap_or_default();
                self.findings.origins_mut().spoil(&format!("{above}{meant}"));
                format!("did you mean \"{meant}\"?")
            }
            None => format!("known here: {}", schema::names(keys).collect::<Vec<_>>().join(", ")),
        };
        self.findings.mistake(path, "there is no such key", remedy);
    }

    fn value(&mut self, path: &str, value: &Written<'_>, kind: &Kind) -> Option<Value> {
        match (kind, value.get_ref()) {
            (Kind::Later, _) => self.wrong(path, "not supported yet by this version", "remove it"),
            (Kind::Secret(file_key), _) => {
                let above = path.rsplit_once('.').map_or("", |(above, _)| above);
                self.findings.origins_mut().spoil(&join(above, file_key));
                self.wrong(
                    path,
                    "must not be written here: secrets come from files",
                    format!("write {file_key} = \"FILE\""),
                )
            }
            (Kind::Table(keys), DeValue::Table(table)) => Some(Value::Table(self.table(path, table, keys))),
            (Kind::Tables(keys), DeValue::Array(list)) => Some(Value::Array(self.tables(path, list.iter(), keys))),
            (Kind::Tables(_), DeValue::Table(_)) => {
                let remedy = format!("write [[{path}]]");
                self.wrong(path, "this is a list of tables", remedy)
            }
            (Kind::Texts, DeValue::String(_)) => {
                self.scalar(path, value, &Kind::Text).map(|one| Value::Array(vec![one]))
            }
            (Kind::Texts, DeValue::Array(list)) => Some(self.list(path, list.iter(), &Kind::Text)),
            (Kind::Waits, DeValue::Array(list)) => Some(self.list(path, list.iter(), &Kind::Wait)),
            _ => self.scalar(path, value, kind),
        }
    }

    fn tables<'v, 't: 'v>(
        &mut self,
        path: &str,
        list: impl Iterator<Item = &'v Written<'t>>,
        keys: &'static [Key],
    ) -> Vec<Value> {
        let mut usable = Vec::new();
        self.findings.origins_mut().holds_entries(path);
        for (index, entry) in list.enumerate() {
            let here = format!("{path}[{index}]");
            self.findings.origins_mut().stands_at(&here, entry.span().start);
            let Some(table) = entry.get_ref().as_table() else {
                self.wrong::<()>(&here, "must be a table", ());
                self.findings.origins_mut().spoil(&here);
                usable.push(Value::Table(Table::new()));
                continue;
            };
            if let Some(name) = table.get("name").and_then(|name| name.get_ref().as_str()) {
                self.findings.origins_mut().is_called(&here, name);
            }
            usable.push(Value::Table(self.table(&here, table, keys)));
        }
        usable
    }

    fn list<'v, 't: 'v>(&mut self, path: &str, list: impl Iterator<Item = &'v Written<'t>>, kind: &Kind) -> Value {
        let mut usable = Vec::new();
        for (index, entry) in list.enumerate() {
            let here = format!("{path}[{index}]");
            self.findings.origins_mut().stands_at(&here, entry.span().start);
            match self.scalar(&here, entry, kind) {
                Some(value) => usable.push(value),
                None => self.findings.origins_mut().spoil(path),
            }
        }
        Value::Array(usable)
    }

    fn scalar(&mut self, path: &str, value: &Written<'_>, kind: &Kind) -> Option<Value> {
        let text = match (kind, value.get_ref()) {
            (Kind::Flag, DeValue::Boolean(flag)) => return Some(Value::Boolean(*flag)),
            (Kind::Text | Kind::Wait | Kind::Choice(..), DeValue::String(text)) => text.to_string(),
            (Kind::Size, DeValue::String(text)) => text.to_string(),
            (Kind::Count | Kind::Size | Kind::Priority, DeValue::Integer(number)) => {
                i64::from_str_radix(number.as_str(), number.radix())
                    .map(|number| number.to_string())
                    .unwrap_or_default()
            }
            (Kind::Count | Kind::Priority, DeValue::Float(_)) => {
                return self.wrong(path, format!("must be {}, not one with a fraction", kind.wanted()), ());
            }
            (_, other) => {
                return self.wrong(path, format!("must be {}, not {}", kind.wanted(), article(other)), ());
            }
        };
        match read_scalar(&text, kind) {
            Ok(value) => Some(value),
            Err((wrong, remedy)) => self.wrong(path, wrong, remedy),
        }
    }

    fn wrong<T>(
        &mut self,
        path: &str,
        wrong: impl Into<String>,
        remedy: impl Into<super::mistake::Remedy>,
    ) -> Option<T> {
        self.findings.mistake(path, wrong, remedy);
        None
    }
}

/// Reads what was written as text, in the file or in the environment, for a key of this kind; else says what is wrong and what to write.
pub(super) fn read_scalar(text: &str, kind: &Kind) -> Result<Value, (String, Option<String>)> {
    let as_text = || Value::String(text.to_owned());
    let wanted = || Some(format!("write {}", kind.wanted()));
    match kind {
        Kind::Text if text.trim().is_empty() => Err(("is empty".to_owned(), None)),
        Kind::Text => Ok(as_text()),
        Kind::Wait => read_wait(text).map(|_| as_text()).map_err(|fault| (format!("{text:?}: {fault}"), None)),
        Kind::Size => read_size(text).map(|_| as_text()).map_err(|fault| (format!("{text:?}: {fault}"), None)),
        Kind::Count => match text.parse::<u32>() {
            Ok(number) => Ok(Value::Integer(number.into())),
            Err(_) => Err((format!("{text:?}: not a whole number from 0 to {}", u32::MAX), wanted())),
        },
        Kind::Priority => match text.parse::<i8>() {
            Ok(number) if (Priorities::LEAST..=Priorities::MOST).contains(&number) => Ok(Value::Integer(number.into())),
            Ok(_) | Err(_) => Err((format!("{text:?}: not a priority"), wanted())),
        },
        Kind::Flag => text.parse().map(Value::Boolean).map_err(|_| (format!("{text:?}: not true or false"), wanted())),
        Kind::Choice(now, _) if now.contains(&text) => Ok(as_text()),
        Kind::Choice(now, later) if later.contains(&text) => Err((
            format!("{text:?}: not supported yet by this version"),
            Some(format!("write {}", schema::quoted(now))),
        )),
        Kind::Choice(now, _) => {
            let meant = nearest(text, now.iter().copied()).filter(|_| text.len() >= GUESSED_LEAST);
            let remedy = match meant {
                Some(meant) => format!("did you mean \"{meant}\"?"),
                None => format!("write one of {}", schema::quoted(now)),
            };
            Err((format!("{text:?}: there is no such choice"), Some(remedy)))
        }
        Kind::Texts | Kind::Waits | Kind::Table(_) | Kind::Tables(_) | Kind::Later | Kind::Secret(_) => {
            Err((format!("must be {}", kind.wanted()), None))
        }
    }
}

pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn article(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// A word as a shell takes it.
pub(crate) fn pasteable(text: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+=:@%".contains(letter);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
