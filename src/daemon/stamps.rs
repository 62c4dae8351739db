//! What a file looks like from outside: date, size and number. Files that look the same are taken to be the same; whether one that looks
//! different is different, the digest of what is in it says, when it is read.
//!
//! Never: reads what is in a file.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::sys::WallTime;

/// Entries of a directory that are looked at; the configuration takes no directory with more files.
const ENTRIES_MAX: usize = 2000;

/// How coarse the dates of files may be: a file changed so shortly before it was read may have been changed after.
const COARSENESS: Duration = Duration::from_secs(2);

/// One file from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    place: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(facts: &Metadata) -> Self {
        Self {
            place: (facts.dev(), facts.ino()),
            size: facts.size(),
            modified: (facts.mtime(), facts.mtime_nsec()),
            changed: (facts.ctime(), facts.ctime_nsec()),
        }
    }

    /// Whether the file was last touched so long before `moment` that whoever read it then read what is there now.
    fn is_older_than(&self, moment: WallTime) -> bool {
        let touched = WallTime::from_seconds(self.modified.0.max(self.changed.0).saturating_add(1));
        touched.after(COARSENESS) < moment
    }
}

/// A file, or a directory with the files in it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Look {
    /// It is not there, or can't be looked at.
    Absent,
    /// It was touched while it was read: not known.
    Unsure,
    File(Stamp),
    Directory(Stamp, BTreeMap<PathBuf, Stamp>),
}

impl Look {
    #[expect(clippy::disallowed_methods, reason = "watching files is looking at them")]
    fn at(path: &Path) -> Self {
        let Ok(facts) = std::fs::metadata(path) else { return Self::Absent };
        if !facts.is_dir() {
            return Self::File(Stamp::of(&facts));
        }
        let Ok(entries) = std::fs::read_dir(path) else { return Self::Absent };
        let stamped = entries.take(ENTRIES_MAX).filter_map(|entry| {
            let path = entry.ok()?.path();
            let facts = std::fs::metadata(&path).ok()?;
            Some((path, Stamp::of(&facts)))
        });
        Self::Directory(Stamp::of(&facts), stamped.collect())
    }

    fn is_older_than(&self, moment: WallTime) -> bool {
        match self {
            Self::Absent => true,
            Self::Unsure => false,
            Self::File(stamp) => stamp.is_older_than(moment),
            Self::Directory(stamp, entries) => {
                stamp.is_older_than(moment) && entries.values().all(|entry| entry.is_older_than(moment))
            }
        }
    }
}

/// How files looked at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamps(BTreeMap<PathBuf, Look>);

impl Stamps {
    /// How these look now. Symbolic links are followed.
    pub(super) fn of(paths: &[PathBuf]) -> Self {
        Self(paths.iter().map(|path| (path.clone(), Look::at(path))).collect())
    }

    /// How `paths` looked when they were read, by these looks from before it, and for those that were not looked at, by how they look now;
    /// what was touched since the reading began at `began` is unsure, and so looks different at the next look.
    pub(super) fn once_read(mut self, paths: &[PathBuf], began: WallTime) -> Self {
        let looks = paths.iter().map(|path| {
            let look = self.0.remove(path).unwrap_or_else(|| {
                let look = Look::at(path);
                if look.is_older_than(began) { look } else { Look::Unsure }
            });
            (path.clone(), look)
        });
        Self(looks.collect())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "tests furnish a folder of files")]

    use super::*;
    use std::fs;

    /// How a file is changed.
    type Change = fn(&Path);

    #[test]
    fn each_way_to_change_a_file_shows() {
        let changes: [(&str, Change); 6] = [
            ("written over", |folder| fs::write(folder.join("crls/a.crl"), "longer than before").unwrap()),
            ("replaced by another", |folder| {
                fs::write(folder.join("new"), "first").unwrap();
                fs::rename(folder.join("new"), folder.join("crls/a.crl")).unwrap();
            }),
            ("removed", |folder| fs::remove_file(folder.join("crls/a.crl")).unwrap()),
            ("one more", |folder| fs::write(folder.join("crls/b.crl"), "second").unwrap()),
            ("the directory replaced", |folder| {
                fs::rename(folder.join("crls"), folder.join("old")).unwrap();
                fs::create_dir(folder.join("crls")).unwrap();
                fs::rename(folder.join("old/a.crl"), folder.join("crls/a.crl")).unwrap();
            }),
            ("the link behind it swapped", |folder| {
                std::os::unix::fs::symlink("two", folder.join("next")).unwrap();
                fs::rename(folder.join("next"), folder.join("current")).unwrap();
            }),
        ];
        for (name, change) in changes {
            let folder = tempfile::tempdir().unwrap();
            for one in ["crls", "one", "two"] {
                fs::create_dir(folder.path().join(one)).unwrap();
            }
            fs::write(folder.path().join("crls/a.crl"), "first").unwrap();
            fs::write(folder.path().join("one/server.pem"), "same").unwrap();
            fs::write(folder.path().join("two/server.pem"), "same").unwrap();
            std::os::unix::fs::symlink("one", folder.path().join("current")).unwrap();
            let paths = ["crls", "crls/a.crl", "current/server.pem"].map(|path| folder.path().join(path));
            let before = Stamps::of(&paths);
            assert_eq!(before, Stamps::of(&paths), "{name}");
            change(folder.path());
            assert_ne!(before, Stamps::of(&paths), "{name}");
        }
    }

    #[test]
    fn a_file_touched_while_it_was_read_is_looked_at_again() {
        let folder = tempfile::tempdir().unwrap();
        let paths = [folder.path().join("a")];
        fs::write(&paths[0], "x").unwrap();
        let touched = WallTime::from_seconds(fs::metadata(&paths[0]).unwrap().mtime());
        for (seconds, settled) in [(0, false), (2, false), (60, true)] {
            let began = touched.after(Duration::from_secs(seconds));
            let read = Stamps::default().once_read(&paths, began);
            assert_eq!(read == Stamps::of(&paths), settled, "{seconds} s after");
        }
        // Looked at before it was read, it needs no guess.
        assert_eq!(Stamps::of(&paths).once_read(&paths, touched), Stamps::of(&paths));
    }
}
