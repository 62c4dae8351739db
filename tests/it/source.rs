//! The project's own files as text, for the tests that judge their form.

use std::fs;
use std::path::{Path, PathBuf};

/// A file of the project.
pub struct SourceFile {
    /// From the project's top, with `/`: `src/smtp/line.rs`.
    pub path: String,
    pub text: String,
    /// Whether all of it is tests: another file declares it behind `#[cfg(test)]`.
    pub is_tests: bool,
}

/// Where the project is.
pub fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files of src, in the order of their paths.
pub fn rust_sources() -> Vec<SourceFile> {
    let mut paths = Vec::new();
    collect(&top().join("src"), &mut paths);
    paths.sort();
    let texts: Vec<(String, String)> = paths
        .iter()
        .map(|path| (path.strip_prefix(top()).unwrap().to_str().unwrap().to_owned(), fs::read_to_string(path).unwrap()))
        .collect();
    let tests: Vec<String> = texts.iter().flat_map(|(path, text)| test_folders(path, text)).collect();
    let is_tests = |path: &str| {
        tests.iter().any(|test| path.trim_end_matches(".rs") == test || path.starts_with(&format!("{test}/")))
    };
    texts.into_iter().map(|(path, text)| SourceFile { is_tests: is_tests(&path), path, text }).collect()
}

/// The modules that a file declares behind `#[cfg(test)]`, as paths without `.rs`: `src/smtp/tests` for `mod tests;` in src/smtp/mod.rs.
fn test_folders(path: &str, text: &str) -> Vec<String> {
    let folder =
        path.trim_end_matches("mod.rs").trim_end_matches("lib.rs").trim_end_matches(".rs").trim_end_matches('/');
    text.split("#[cfg(test)]")
        .skip(1)
        .filter_map(|rest| {
            rest.lines()
                .find(|line| !line.is_empty() && !line.starts_with("#["))?
                .split_once("mod ")?
                .1
                .strip_suffix(';')
        })
        .map(|name| format!("{folder}/{name}"))
        .collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|end| end == "rs") {
            paths.push(path);
        }
    }
}

impl SourceFile {
    /// The lines of code, numbered from 1: without comments, and up to the tests at the end of the file.
    pub fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let whole = self.is_tests;
        self.text
            .lines()
            .enumerate()
            .take_while(move |(_, line)| !whole && !line.starts_with("mod tests {"))
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
            .map(|(index, line)| (index + 1, line.split(" // ").next().unwrap_or(line)))
    }

    /// The top module it belongs to: `smtp` for `src/smtp/line.rs`, `report` for `src/report.rs`.
    pub fn module(&self) -> &str {
        let inside = self.path.strip_prefix("src/").unwrap_or(&self.path);
        inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs")
    }
}
