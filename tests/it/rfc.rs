//! docs/rfc.md is true in both directions: what it names is in the source, and what the source cites has a row there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::source::{rust_sources, top};

/// A row of a table in docs/rfc.md.
struct Row {
    id: String,
    section: String,
    level: String,
    held: String,
    code: String,
    test: String,
    line: usize,
}

impl Row {
    fn rfc(&self) -> &str {
        self.id.split('-').next().unwrap()
    }
}

fn text() -> String {
    fs::read_to_string(top().join("docs/rfc.md")).unwrap()
}

fn rows() -> Vec<Row> {
    let rows: Vec<Row> = text().lines().enumerate().filter_map(|(index, line)| row(index + 1, line)).collect();
    assert!(rows.len() > 100, "the tables were not found");
    rows
}

fn row(line: usize, text: &str) -> Option<Row> {
    let inside = text.strip_prefix("| ")?.strip_suffix(" |")?;
    (inside.starts_with(|first: char| first.is_ascii_digit()) || inside.starts_with("PROXY-")).then_some(())?;
    let cells: Vec<&str> = inside.split(" | ").map(str::trim).collect();
    let [id, section, _sentence, level, held, code, test] = cells.as_slice() else {
        panic!("docs/rfc.md:{line}: {} cells, not 7", cells.len());
    };
    let [id, section, level, held, code, test] = [id, section, level, held, code, test].map(|cell| (*cell).to_owned());
    Some(Row { id, section, level, held, code, test, line })
}

#[test]
fn every_row_is_whole_and_named_once() {
    let mut ids = BTreeSet::new();
    for row in rows() {
        assert!(ids.insert(row.id.clone()), "docs/rfc.md:{}: {} stands twice", row.line, row.id);
        assert!(
            ["MUST", "MUST NOT", "SHOULD", "SHOULD NOT", "MAY", "-"].contains(&row.level.as_str()),
            "docs/rfc.md:{}: level {}",
            row.line,
            row.level
        );
        let reasoned = ["no: ", "partly: "].iter().any(|word| row.held.starts_with(word));
        assert!(row.held.starts_with("yes") || reasoned, "docs/rfc.md:{}: held {:?}", row.line, row.held);
    }
}

#[test]
fn what_the_table_names_is_in_the_source() {
    let rows = rows();
    let mut faults = Vec::new();
    for row in &rows {
        for name in [&row.code, &row.test].into_iter().flat_map(|cell| cell.split("; ")).filter(|name| *name != "-") {
            if let Err(fault) = find(name) {
                faults.push(format!("docs/rfc.md:{}: {}: {fault}", row.line, row.id));
            }
        }
        // A dialog is short; of another file nobody could say what in it shows the sentence.
        for name in row.test.split("; ").map(|name| name.trim_matches('`')) {
            if name != "-" && !name.contains(' ') && !name.ends_with(".dialog") {
                faults.push(format!("docs/rfc.md:{}: {}: {name} names no test", row.line, row.id));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn what_is_held_names_its_code_and_its_test() {
    let held = rows().into_iter().filter(|row| row.held.starts_with("yes"));
    let bare: Vec<String> = held
        .filter(|row| row.code == "-" || row.test == "-")
        .map(|row| {
            format!("docs/rfc.md:{}: {} is said to be held, but by which code and which test?", row.line, row.id)
        })
        .collect();
    assert!(bare.is_empty(), "\n{}", bare.join("\n"));
}

#[test]
fn what_holds_each_attack_off_is_in_the_source() {
    let text = fs::read_to_string(top().join("docs/attacks.md")).unwrap();
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() > 10, "{} rows", rows.len());
    for row in rows {
        let tests = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        for name in tests.split("; ") {
            assert!(name.contains(' '), "docs/attacks.md: {name} names no test");
            find(name).unwrap_or_else(|fault| panic!("docs/attacks.md: {fault}"));
        }
    }
}

/// `src/smtp/line.rs next_line`: the file is there, and the word stands in it. Without a word, the file is enough.
fn find(name: &str) -> Result<(), String> {
    let name = name.trim_matches('`');
    let (path, word) = name.split_once(' ').unwrap_or((name, ""));
    let text = fs::read_to_string(top().join(path)).map_err(|fault| format!("{path}: {fault}"))?;
    if text.contains(word) { Ok(()) } else { Err(format!("{word:?} does not stand in {path}")) }
}

#[test]
fn what_the_source_cites_has_a_row() {
    let mut sections: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in rows() {
        sections.entry(row.rfc().to_owned()).or_default().push(row.section);
    }
    let mut missing = BTreeSet::new();
    for (path, text) in who_cites() {
        for (rfc, section) in citations(&text) {
            let Some(listed) = sections.get(&rfc) else { continue };
            if !listed.iter().any(|row| covers(row, &section)) {
                missing.insert(format!("{path} cites RFC {rfc} §{section}, which has no row in docs/rfc.md"));
            }
        }
    }
    assert!(missing.is_empty(), "\n{}", missing.into_iter().collect::<Vec<_>>().join("\n"));
}

#[test]
fn each_rfc_that_the_source_names_has_rows_or_is_named_for_a_fact_and_none_is_named_in_vain() {
    let with_rows: BTreeSet<String> = rows().iter().map(|row| row.rfc().to_owned()).collect();
    let for_facts: BTreeSet<String> = text().lines().filter_map(for_a_fact).collect();
    assert!(for_facts.len() > 20, "the list of RFCs that are cited for a fact was not found");
    let twice: Vec<&String> = for_facts.intersection(&with_rows).collect();
    assert!(twice.is_empty(), "docs/rfc.md has rows of these, so they are not cited for a fact alone: {twice:?}");
    let named: BTreeSet<String> = who_cites().iter().flat_map(|(_, text)| named(text)).collect();
    let unknown: Vec<&String> =
        named.iter().filter(|rfc| !with_rows.contains(*rfc) && !for_facts.contains(*rfc)).collect();
    assert!(
        unknown.is_empty(),
        "src or fixtures/dialog name these RFCs, of which docs/rfc.md says nothing: {unknown:?}"
    );
    let in_vain: Vec<&String> = for_facts.difference(&named).collect();
    assert!(in_vain.is_empty(), "docs/rfc.md says that these are cited, and nothing cites them: {in_vain:?}");
}

/// `| RFC 1918 | which addresses are private |`: `1918`.
fn for_a_fact(line: &str) -> Option<String> {
    let (rfc, _fact) = line.strip_prefix("| RFC ")?.strip_suffix(" |")?.split_once(" | ")?;
    Some(rfc.to_owned())
}

/// Each file of src and each dialog script, with its text.
fn who_cites() -> Vec<(String, String)> {
    let sources = rust_sources().into_iter().map(|file| (file.path, file.text));
    sources.chain(texts_below("fixtures/dialog")).collect()
}

fn texts_below(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(top().join(folder)).unwrap() {
        let path = format!("{folder}/{}", entry.unwrap().file_name().into_string().unwrap());
        if top().join(&path).is_dir() {
            found.extend(texts_below(&path));
        } else {
            found.push((path.clone(), fs::read_to_string(top().join(&path)).unwrap()));
        }
    }
    found
}

/// The number of each RFC that a text names, with a section or without.
fn named(text: &str) -> Vec<String> {
    let number = |rest: &str| rest.chars().take_while(char::is_ascii_digit).collect::<String>();
    text.split("RFC ").skip(1).map(number).filter(|number| !number.is_empty()).collect()
}

/// A row speaks of the section that is cited, of a part of it, or of the section it is a part of.
fn covers(row: &str, cited: &str) -> bool {
    let within =
        |part: &str, whole: &str| part == whole || part.strip_prefix(whole).is_some_and(|rest| rest.starts_with('.'));
    within(row, cited) || within(cited, row)
}

/// Each `RFC 5321 §4.2` of a text, as (`5321`, `4.2`); `RFC 5321 §4.2, §4.3` gives both. An appendix is its letter.
fn citations(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for rest in text.split("RFC ").skip(1) {
        let rfc: String = rest.chars().take_while(char::is_ascii_digit).collect();
        let mut rest = &rest[rfc.len()..];
        while let Some(section) =
            [" §", ", §", " and §", " to §", " section ", " appendix "].iter().find_map(|word| rest.strip_prefix(word))
        {
            let length = section
                .find(|letter: char| !letter.is_ascii_digit() && !letter.is_ascii_uppercase() && letter != '.')
                .unwrap_or(section.len());
            found.push((rfc.clone(), section[..length].trim_end_matches('.').to_owned()));
            rest = &section[length..];
        }
    }
    found
}

#[test]
fn citations_are_found_in_every_form() {
    let text = "see RFC 5321 §4.2. And (RFC 2034 §4, RFC 3463), RFC 3461 §4.1 and §4.2: RFC 8446 §B.4, RFC 4422 appendix A, RFC 1 section 2.1";
    let found = citations(text);
    let found: Vec<_> = found.iter().map(|(rfc, section)| (rfc.as_str(), section.as_str())).collect();
    let sections = [
        ("5321", "4.2"),
        ("2034", "4"),
        ("3461", "4.1"),
        ("3461", "4.2"),
        ("8446", "B.4"),
        ("4422", "A"),
        ("1", "2.1"),
    ];
    assert_eq!(found, sections);
    assert_eq!(named(text), ["5321", "2034", "3463", "3461", "8446", "4422", "1"]);
    assert!(covers("4.1.1.4", "4.1.1") && covers("4.2", "4.2.1") && !covers("4.2", "4.21") && !covers("4.1", "4.2"));
}
