//! What a reload changes, in words: each key's old and new value, entries that came and went, files with new content.

use std::collections::BTreeMap;

use toml::Value;

use super::origin::Origins;
use super::settings::Settings;
use super::text::join;
use super::written::Layered;

/// Keys that are read when the daemon starts, and then no more.
const AT_START: [&str; 9] = [
    "data_dir",
    "queue.size",
    "queue.count",
    "queue.memory",
    "queue.share_per_identity",
    "queue.memory_share_per_identity",
    "queue.receiving_per_identity",
    "queue.per_identity",
    "log",
];
/// Longer values are not told, only that they changed.
const VALUE_MAX: usize = 60;

/// Every key and value of a configuration, by the name that people use for the key.
pub(super) fn told(written: &Layered, origins: &Origins) -> BTreeMap<String, String> {
    let mut told = BTreeMap::new();
    flatten("", &written.told, origins, &mut told);
    told
}

fn flatten(path: &str, value: &Value, origins: &Origins, told: &mut BTreeMap<String, String>) {
    match value {
        Value::Table(table) => table.iter().for_each(|(key, value)| flatten(&join(path, key), value, origins, told)),
        Value::Array(list) if list.iter().any(Value::is_table) => {
            for (index, value) in list.iter().enumerate() {
                let path = format!("{path}[{index}]");
                told.insert(origins.spoken(&path), String::new());
                flatten(&path, value, origins, told);
            }
        }
        Value::String(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Datetime(_)
        | Value::Array(_) => drop(told.insert(origins.spoken(path), value.to_string())),
    }
}

/// What is different between two configurations, a line each; empty when nothing is. What takes effect only with the next start says so.
pub fn differences(old: &Settings, new: &Settings) -> Vec<String> {
    let mut lines = Vec::new();
    let mut whole: Option<&str> = None;
    for key in old.told.keys().chain(new.told.keys().filter(|key| !old.told.contains_key(*key))) {
        // Of an entry that came or went its keys need no line each.
        if whole.is_some_and(|entry| key.strip_prefix(entry).is_some_and(|rest| rest.starts_with(": "))) {
            continue;
        }
        let change = match (old.told.get(key), new.told.get(key)) {
            (Some(before), Some(now)) if before == now => continue,
            (Some(before), None) if before.is_empty() => "removed".to_owned(),
            (None, Some(now)) if now.is_empty() => "added".to_owned(),
            (Some(before), Some(now)) => changed(key, before, now),
            (Some(_), None) if is_content(key) => "no longer read".to_owned(),
            (None, Some(_)) if is_content(key) => "read now".to_owned(),
            (Some(before), None) => format!("was {}, now not set", shown(before)),
            (None, Some(now)) => format!("now {}", shown(now)),
            (None, None) => continue,
        };
        if change == "removed" || change == "added" {
            whole = Some(key);
        }
        let later = if is_read_at_start(key) { " (from the next start on)" } else { "" };
        lines.push(format!("{key}: {change}{later}"));
    }
    lines.sort();
    lines
}

fn changed(key: &str, before: &str, now: &str) -> String {
    if is_content(key) || before.len().max(now.len()) > VALUE_MAX {
        "changed".to_owned()
    } else {
        format!("{before} -> {now}")
    }
}

fn shown(value: &str) -> &str {
    if value.len() > VALUE_MAX { "set" } else { value }
}

/// What of a listener a reload changes: it is bound at start, but neither what it says to clients, nor whom it trusts, nor who may connect.
const LISTENER_NOW: [&str; 5] = ["refusal", "client_cas", "pins", "proxy", "balancer_pin"];

fn is_read_at_start(key: &str) -> bool {
    let begins = |start: &str| key.strip_prefix(start).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    AT_START.iter().any(|start| begins(start))
        || (key.starts_with("listener ") && !LISTENER_NOW.iter().any(|now| key.ends_with(&format!(": {now}"))))
}

/// Whether this is no key but a file that a key names.
pub(super) fn is_content(key: &str) -> bool {
    key.contains(": content of ")
}
