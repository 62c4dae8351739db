//! Where each key was written, and how people call it.
//!
//! A path is `tls.min_version`, `identity[2].send_as`. What is not written itself (a missing key) belongs to the table that lacks it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::mistake::Place;

/// The places of all keys of one configuration.
#[derive(Clone, Debug)]
pub(super) struct Origins {
    file: Arc<str>,
    line_starts: Vec<usize>,
    places: BTreeMap<String, Place>,
    names: BTreeMap<String, String>,
    spoiled: Vec<String>,
    /// Lists of tables; other lists hold values, which are told by themselves.
    entries: Vec<String>,
}

impl Origins {
    pub(super) fn new(file: &str, text: &str) -> Self {
        let after_line_ends = text.bytes().enumerate().filter(|(_, octet)| *octet == b'\n').map(|(at, _)| at + 1);
        let line_starts = std::iter::once(0).chain(after_line_ends).collect();
        Self {
            file: file.into(),
            line_starts,
            places: BTreeMap::new(),
            names: BTreeMap::new(),
            spoiled: Vec::new(),
            entries: Vec::new(),
        }
    }

    /// The place of an octet of the file.
    pub(super) fn at_octet(&self, octet: usize) -> Place {
        let line = self.line_starts.partition_point(|start| *start <= octet);
        Place::Line { file: Arc::clone(&self.file), line }
    }

    /// For what has no place in the file: the file as a whole.
    pub(super) fn nowhere(&self) -> Place {
        Place::File { file: Arc::clone(&self.file) }
    }

    /// Notes that the key of this path stands at this octet.
    pub(super) fn stands_at(&mut self, path: &str, octet: usize) {
        let place = self.at_octet(octet);
        self.places.insert(path.to_owned(), place);
    }

    /// Notes that the key of this path comes from the environment.
    pub(super) fn comes_from(&mut self, path: &str, variable: &str) {
        self.places.insert(path.to_owned(), Place::Environment { variable: variable.into() });
        self.spoiled.retain(|spoiled| spoiled != path);
    }

    /// Notes the name of an entry of a list of tables: `identity[2]` is called `billing-robot`.
    pub(super) fn is_called(&mut self, path: &str, name: &str) {
        self.names.insert(path.to_owned(), name.to_owned());
    }

    /// Notes that something was written here, but it could not be used: it is not missing.
    pub(super) fn spoil(&mut self, path: &str) {
        self.spoiled.push(path.to_owned());
    }

    /// Whether something was written here that could not be used.
    pub(super) fn is_spoiled(&self, path: &str) -> bool {
        self.spoiled.iter().any(|spoiled| spoiled == path)
    }

    /// Whether anything in the table of this path could not be used.
    pub(super) fn is_spoiled_within(&self, path: &str) -> bool {
        self.spoiled.iter().any(|spoiled| spoiled.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
    }

    /// Notes that this is a list of tables.
    pub(super) fn holds_entries(&mut self, path: &str) {
        self.entries.push(path.to_owned());
    }

    /// Where the key of this path is written; else where the table that should hold it is.
    pub(super) fn place(&self, path: &str) -> Place {
        let mut path = path;
        loop {
            if let Some(place) = self.places.get(path) {
                return place.clone();
            }
            match parent(path) {
                Some(above) => path = above,
                None => return Place::File { file: Arc::clone(&self.file) },
            }
        }
    }

    /// How people call it: `identity[2].match.uri` is `identity "billing-robot": match.uri`, or `identity 3: match.uri` without a name.
    pub(super) fn spoken(&self, path: &str) -> String {
        let Some((list, rest)) = path.split_once('[') else { return path.to_owned() };
        let Some((index, rest)) = rest.split_once(']') else { return path.to_owned() };
        if !self.entries.iter().any(|entries| entries == list) {
            return list.to_owned();
        }
        let entry = match self.names.get(&format!("{list}[{index}]")) {
            Some(name) => format!("{list} {name:?}"),
            None => format!("{list} {}", index.parse::<usize>().map_or(0, |index| index + 1)),
        };
        match rest.trim_start_matches('.') {
            "" => entry,
            rest => format!("{entry}: {}", without_index(rest)),
        }
    }
}

/// A value of a list is told by itself, not by its number.
fn without_index(path: &str) -> &str {
    path.split_once('[').map_or(path, |(key, _)| key)
}

fn parent(path: &str) -> Option<&str> {
    if let Some((list, _)) = path.strip_suffix(']').and_then(|open| open.rsplit_once('[')) {
        return Some(list);
    }
    path.rsplit_once('.').map(|(table, _)| table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_key_belongs_to_the_table_that_lacks_it() {
        let mut origins = Origins::new("x.toml", "a = 1\n\n[tls]\nb = 2\n");
        origins.stands_at("tls", 7);
        assert_eq!(origins.place("tls.certificate").to_string(), "x.toml:3");
        assert_eq!(origins.place("hostname").to_string(), "x.toml");
    }

    #[test]
    fn entries_are_called_by_their_name_or_their_number() {
        let mut origins = Origins::new("x.toml", "");
        origins.holds_entries("identity");
        origins.is_called("identity[1]", "robot");
        assert_eq!(origins.spoken("identity[1].match.uri"), "identity \"robot\": match.uri");
        assert_eq!(origins.spoken("identity[0].send_as[2]"), "identity 1: send_as");
        assert_eq!(origins.spoken("queue.retry"), "queue.retry");
        assert_eq!(origins.spoken("queue.retry[2]"), "queue.retry");
    }
}
