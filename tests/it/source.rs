//! The project's own files as text, for the tests that judge their form.

use std::fs;
use std::path::{Path, PathBuf};

/// A file of the project.
pub struct SourceFile {
    /// From the project's top, with `/`: `src/smtp/line.rs`.
    pub path: String,
    pub text: String,
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
    paths
        .into_iter()
        .map(|path| SourceFile {
            path: path.strip_prefix(top()).unwrap().to_str().unwrap().to_owned(),
            text: fs::read_to_string(&path).unwrap(),
        })
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
    /// Whether the whole file is tests, as `tests.rs` and `address_tests.rs` are.
    pub fn is_tests(&self) -> bool {
        self.path.ends_with("tests.rs") || self.path.contains("/tests/")
    }

    /// The lines of code, numbered from 1: without comments, and up to the tests at the end of the file.
    pub fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let whole = self.is_tests();
        self.text
            .lines()
            .enumerate()
            .take_while(move |(_, line)| !whole && !line.starts_with("#[cfg(test)]"))
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
            .map(|(index, line)| (index + 1, line.split(" // ").next().unwrap_or(line)))
    }

    /// The top module it belongs to: `smtp` for `src/smtp/line.rs`, `report` for `src/report.rs`.
    pub fn module(&self) -> &str {
        let inside = self.path.strip_prefix("src/").unwrap_or(&self.path);
        inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs")
    }
}
