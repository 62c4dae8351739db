//! What is told of a store, gathered before any of it is printed: a pager that waits for its reader would hold the store, and keep the relay from starting.
//!
//! In memory up to [`MEMORY_MAX`], beyond in a file that has no name. Never: leaves anything behind; is read by another user; loses what it has when the disk
//! has no room for more.

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
    /// All before, and how many octets that is.
    file: Option<(File, u64)>,
    /// Names of what was done: these are short, and no disk may lose them.
    stays: bool,
}

impl Collected {
    /// All of it in memory, which can't fail.
    pub(super) fn in_memory() -> Self {
        Self { stays: true, ..Self::default() }
    }

    /// One more.
    ///
    /// # Errors
    /// The disk of the temporary folder has no room for it.
    pub(super) fn add(&mut self, answer: &Answer) -> anyhow::Result<()> {
        serde_json::to_writer(&mut self.last, answer)?;
        self.last.push(b'\n');
        self.last.extend_from_slice(answer.text_behind());
        if self.last.len() > MEMORY_MAX && !self.stays { self.spill() } else { Ok(()) }
    }

    fn spill(&mut self) -> anyhow::Result<()> {
        let place = || {
            let temporary = std::env::temp_dir();
            format!(
                "the answer is gathered in {} before it is printed; set TMPDIR to a folder with more room, or ask for less (--limit, --after)",
                temporary.display()
            )
        };
        let (file, length) = match &mut self.file {
            Some(file) => file,
            none @ None => none.insert((without_a_name().with_context(place)?, 0)),
        };
        file.write_all(&self.last).with_context(place)?;
        *length = length.saturating_add(u64::try_from(self.last.len())?);
        self.last.clear();
        Ok(())
    }

    /// All of them, from the first on.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub(super) fn read(self) -> anyhow::Result<Box<dyn Read>> {
        let last = Cursor::new(self.last);
        let Some((mut file, length)) = self.file else { return Ok(Box::new(last)) };
        file.rewind()?;
        Ok(Box::new(file.take(length).chain(last)))
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

    /// What had been gathered until then was once not told.
    #[test]
    fn what_there_was_before_the_disk_had_no_room_is_told() {
        let full = File::options().read(true).write(true).open("/dev/full").unwrap();
        let mut collected = Collected { file: Some((full, 0)), ..Collected::default() };
        let answer = Answer::Headers("x".repeat(3 << 20));
        collected.add(&answer).unwrap();
        let why = collected.add(&answer).unwrap_err().to_string();
        assert!(why.contains("is gathered in"), "{why}");
        let mut text = String::new();
        collected.read().map(|mut all| all.read_to_string(&mut text)).unwrap_or(Ok(0)).unwrap();
        assert_eq!(text.lines().count(), 2);
    }
}
