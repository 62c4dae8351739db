//! What is told of a store, gathered before any of it is printed: a pager that waits for its reader would hold the store, and keep the relay from starting.
//!
//! In memory up to [`MEMORY_MAX`], beyond in a file that has no name. Never: leaves anything behind; is read by another user.

use std::fs::File;
use std::io::{self, Cursor, Read, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;

use anyhow::Context as _;

use crate::daemon::steering::Answer;
use crate::sys::{Entropy as _, SystemEntropy};

/// Octets that are held in memory.
const MEMORY_MAX: usize = 4 * 1024 * 1024;

/// Answers, as the daemon would write them.
#[derive(Debug, Default)]
pub(super) struct Collected {
    last: Vec<u8>,
    /// All before.
    file: Option<File>,
}

impl Collected {
    /// One more.
    ///
    /// # Errors
    /// The disk of the temporary folder has no room for it.
    pub(super) fn add(&mut self, answer: &Answer) -> anyhow::Result<()> {
        serde_json::to_writer(&mut self.last, answer)?;
        self.last.push(b'\n');
        self.last.extend_from_slice(answer.text_behind());
        if self.last.len() > MEMORY_MAX { self.spill() } else { Ok(()) }
    }

    fn spill(&mut self) -> anyhow::Result<()> {
        let file = match self.file.take() {
            Some(file) => Ok(file),
            None => without_a_name(),
        };
        let written = file.and_then(|mut file| file.write_all(&self.last).map(|()| file));
        let place = || format!("the answer is gathered in {} before it is printed", std::env::temp_dir().display());
        self.file = Some(written.with_context(place)?);
        self.last.clear();
        Ok(())
    }

    /// All of them, from the first on.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub(super) fn read(mut self) -> anyhow::Result<Box<dyn Read>> {
        if self.file.is_some() {
            self.spill()?;
        }
        let Some(mut file) = self.file else { return Ok(Box::new(Cursor::new(self.last))) };
        file.rewind()?;
        Ok(Box::new(file))
    }
}

#[expect(clippy::disallowed_methods, reason = "the name goes as soon as the file is there")]
fn without_a_name() -> io::Result<File> {
    let mut random = [0; 16];
    SystemEntropy.fill(&mut random);
    let path = std::env::temp_dir().join(format!("sealpost-{:032x}", u128::from_be_bytes(random)));
    let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gathered_comes_back_as_it_was_however_much_it_is() {
        for count in [0, 1, 5, 50] {
            let mut collected = Collected::default();
            let answers: Vec<Answer> =
                (0..count).map(|n| Answer::Headers(format!("{n}{}", "x".repeat(1 << 20)))).collect();
            for answer in &answers {
                collected.add(answer).unwrap();
                assert!(collected.last.len() <= MEMORY_MAX);
            }
            assert_eq!(collected.file.is_some(), count > 3, "{count}");
            let mut text = String::new();
            collected.read().unwrap().read_to_string(&mut text).unwrap();
            let expected: String = answers.iter().map(|answer| serde_json::to_string(answer).unwrap() + "\n").collect();
            assert!(text == expected, "{count}");
        }
    }
}
