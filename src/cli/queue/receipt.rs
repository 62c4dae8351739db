//! The receipt of an import: which messages of an export are, or were, in another queue. With it the first queue may forget them.
//!
//! ```text
//! {"sealpost_receipt":1,"export":ID}
//! {"id":ID}                              for each message
//! {"end":COUNT,"sum":SUM}                XXH3-64 of all lines before
//! ```
//!
//! It has its name only when it is whole and on stable storage. Never: names a message that is not kept.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use super::moving::{make, name_it, unmade, with_ending};
use crate::cli::exit::{self, Exit};

/// The version that this program writes and reads.
const VERSION: u32 = 1;
/// The longest line, octets.
const LINE_MAX: u64 = 1024;

#[derive(Debug, Serialize, Deserialize)]
struct First {
    sealpost_receipt: u32,
    export: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Message { id: String },
    End { end: u64, sum: String },
}

/// A receipt that is being written.
pub(super) struct Receipt {
    path: PathBuf,
    to: BufWriter<File>,
    sum: Xxh3,
    count: u64,
}

impl Receipt {
    pub(super) fn begin(path: &Path, export: &str) -> anyhow::Result<Self> {
        let part = with_ending(path, "part");
        let file = make(&part).map_err(|fault| unmade(&part, &fault))?;
        let mut receipt = Self { path: path.to_owned(), to: BufWriter::new(file), sum: Xxh3::new(), count: 0 };
        receipt.line(&First { sealpost_receipt: VERSION, export: export.to_owned() })?;
        Ok(receipt)
    }

    /// This message is kept.
    pub(super) fn add(&mut self, id: &str) -> io::Result<()> {
        self.count = self.count.saturating_add(1);
        self.line(&Line::Message { id: id.to_owned() })
    }

    /// It is whole.
    pub(super) fn end(mut self) -> anyhow::Result<u64> {
        let sum = format!("{:016x}", self.sum.digest());
        self.line(&Line::End { end: self.count, sum })?;
        let file = self.to.into_inner().map_err(|fault| fault.into_error())?;
        name_it(&file, &self.path)?;
        Ok(self.count)
    }

    fn line(&mut self, line: &impl Serialize) -> io::Result<()> {
        let mut octets = serde_json::to_vec(line)?;
        octets.push(b'\n');
        self.sum.update(&octets);
        self.to.write_all(&octets)
    }
}

/// A receipt that was written, and is whole.
#[derive(Debug)]
pub(super) struct Written {
    path: PathBuf,
    pub(super) export: String,
}

impl Written {
    /// Reads it through once, to its last octet.
    ///
    /// # Errors
    /// It is none, or not whole: then nothing may be removed.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let place = || path.display().to_string();
        let wrong = |why: &str| exit::fault(Exit::Data, format!("{}: {why}", place()));
        let mut lines = Lines::open(path).map_err(|fault| exit::unread(path, &fault))?;
        let first: First = serde_json::from_slice(&lines.next().with_context(place)?)
            .map_err(|fault| wrong(&format!("this is no receipt of an import: {fault}")))?;
        if first.sealpost_receipt != VERSION {
            let version = first.sealpost_receipt;
            return Err(wrong(&format!("this receipt has version {version}, and this sealpost knows {VERSION}")));
        }
        let mut count = 0_u64;
        loop {
            let before = lines.sum.digest();
            match serde_json::from_slice(&lines.next().with_context(place)?) {
                Ok(Line::Message { .. }) => count = count.saturating_add(1),
                Ok(Line::End { end, sum }) if end == count && sum == format!("{before:016x}") => break,
                Ok(Line::End { .. }) | Err(_) => {
                    return Err(wrong("this receipt is damaged or cut off; nothing is removed"));
                }
            }
        }
        Ok(Self { path: path.to_owned(), export: first.export })
    }

    /// Hands the names on, so many at a time.
    ///
    /// # Errors
    /// It can't be read any more; what was to be done with them.
    pub(super) fn each(
        &self,
        most: usize,
        mut with: impl FnMut(Vec<String>) -> anyhow::Result<Option<std::process::ExitCode>>,
    ) -> anyhow::Result<Option<std::process::ExitCode>> {
        let mut lines = Lines::open(&self.path)?;
        lines.next()?;
        let mut ids = Vec::new();
        loop {
            let over = match serde_json::from_slice(&lines.next()?)? {
                Line::Message { id } => {
                    ids.push(id);
                    false
                }
                Line::End { .. } => true,
            };
            if over || ids.len() >= most {
                let code = with(std::mem::take(&mut ids))?;
                if code.is_some() {
                    return Ok(code);
                }
            }
            if over {
                return Ok(None);
            }
        }
    }
}

struct Lines {
    from: BufReader<File>,
    sum: Xxh3,
}

impl Lines {
    #[expect(clippy::disallowed_methods, reason = "a file that was named on the command line")]
    fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { from: BufReader::new(File::open(path)?), sum: Xxh3::new() })
    }

    /// The next line; empty at the end of the file.
    fn next(&mut self) -> io::Result<Vec<u8>> {
        use io::Read as _;
        let mut line = Vec::new();
        (&mut self.from).take(LINE_MAX).read_until(b'\n', &mut line)?;
        self.sum.update(&line);
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(path: &Path) -> Vec<String> {
        let mut all = Vec::new();
        Written::open(path)
            .unwrap()
            .each(2, |ids| {
                assert!(ids.len() <= 2);
                all.extend(ids);
                Ok(None)
            })
            .unwrap();
        all
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test damages the file")]
    fn a_receipt_reads_back_and_half_of_one_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.receipt");
        let mut receipt = Receipt::begin(&path, "01jdkz3n7q8w0x2y4z6a8b0c1d").unwrap();
        for id in ["a", "b", "c"] {
            receipt.add(id).unwrap();
        }
        assert!(!path.exists(), "not before it is whole");
        assert_eq!(receipt.end().unwrap(), 3);
        assert_eq!(written(&path), ["a", "b", "c"]);
        let whole = std::fs::read(&path).unwrap();
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let read = Written::open(&path);
            // All but the end of the last line may be missing.
            assert!(read.is_err() || length == whole.len() - 1, "{length}");
        }
        for place in 0..whole.len() - 1 {
            let mut damaged = whole.clone();
            damaged[place] ^= 1;
            std::fs::write(&path, &damaged).unwrap();
            assert!(Written::open(&path).is_err(), "{place}: {}", String::from_utf8_lossy(&damaged));
        }
    }
}
