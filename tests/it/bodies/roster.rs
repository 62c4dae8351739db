//! Identities as lines of a file that a directory exports: the same file says the same, each mistake has its line, and no column is passed over.

use std::sync::atomic::{AtomicUsize, Ordering};

use sealpost::config::{Mistake, Place};

use super::config::{house, load};
use super::seeds::RIGHT;
use super::{Broken, Lie, Told, require, same};

const UNKNOWN_COLUMN: &str = "no_such_column";

/// The lines of a CSV, through [`sealpost::config::load_text`] with a configuration that names them.
pub(super) fn roster(octets: &[u8], _seed: u64, lie: Lie) -> Told {
    // Each has a file of its own: tests run side by side.
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("roster-{}.csv", NEXT.fetch_add(1, Ordering::Relaxed));
    let told = judge(&name, octets, lie);
    let gone = std::fs::remove_file(house().join(name));
    told.and(gone.map_err(|fault| Broken(fault.to_string())))
}

fn judge(name: &str, octets: &[u8], lie: Lie) -> Told {
    let first = read(name, octets, lie)?;
    let lines = octets.iter().filter(|octet| **octet == b'\n').count() + 1;
    for mistake in first.iter().flatten() {
        let told = mistake.to_string();
        require(&format!("a mistake that breaks a line: {told:?}"), !told.chars().any(char::is_control))?;
        if let Some(line) = line_of(mistake, name) {
            require(&format!("a mistake on line {line} of {lines}"), (1..=lines).contains(&line))?;
        }
    }
    same("mistakes of the same", &read(name, octets, lie)?, &first)?;
    // The columns, where they are plainly to be seen.
    let Some(end) = octets.iter().position(|octet| *octet == b'\n') else { return Ok(()) };
    let (columns, behind) = octets.split_at(end);
    let plain = |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b',' | b'_');
    if columns.is_empty() || !columns.iter().all(plain) {
        return Ok(());
    }
    let wrong = [columns, b",", UNKNOWN_COLUMN.as_bytes(), behind].concat();
    require("a column that nobody knows passes", read(name, &wrong, lie)?.is_some())?;
    let lower = [columns, b"\n# a remark", behind].concat();
    let places = |told: &Option<Vec<Mistake>>, by: usize| -> Vec<Option<usize>> {
        let line = |mistake: &Mistake| line_of(mistake, name).map(|line| if line > 1 { line + by } else { line });
        told.iter().flatten().map(line).collect()
    };
    let lower = read(name, &lower, lie)?;
    same("mistakes under a remark", &places(&lower, 0), &places(&first, 1))
}

/// The mistakes; none where it is right.
fn read(name: &str, octets: &[u8], lie: Lie) -> Result<Option<Vec<Mistake>>, Broken> {
    let octets = match (lie, str::from_utf8(octets)) {
        (Lie::RosterPassesUnknownColumns, Ok(text)) => text.replace(&format!(",{UNKNOWN_COLUMN}"), "").into_bytes(),
        _ => octets.to_vec(),
    };
    std::fs::write(house().join(name), octets).map_err(|fault| Broken(fault.to_string()))?;
    let mut told = load(&RIGHT.replace("data_dir", &format!("identities = [\"{name}\"]\ndata_dir"))).err();
    if lie == Lie::RosterForgetsRemarks {
        for mistake in told.iter_mut().flatten() {
            if let Place::Line { line, .. } = &mut mistake.place {
                *line = (*line).min(2);
            }
        }
    }
    Ok(told)
}

fn line_of(mistake: &Mistake, name: &str) -> Option<usize> {
    match &mistake.place {
        Place::Line { file, line, .. } if file.ends_with(name) => Some(*line),
        _ => None,
    }
}
