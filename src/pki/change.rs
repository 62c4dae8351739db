//! One change of the authority's directory: several files, all or none, whenever the machine stops.
//!
//! The new files are written and synced in `change.new`, which is renamed to `change`: from then on the change counts. Its files are moved up into
//! the directory one by one, what it lists as gone is removed, and `change` itself goes. Whoever takes the directory's lock first finishes a `change` that stands there, and throws
//! away a `change.new`. Old keys and certificates are kept: the change holds them under a second name before anything takes their place.
//!
//! Never: takes the place of a file that is neither kept nor one of those made anew each time; leaves a key readable by others.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::PkiError;

/// Where a change is prepared.
const PREPARED: &str = "change.new";
/// Where a change that counts is until all its files are in place.
const DECIDED: &str = "change";
/// In it: the names that go, each with a NUL behind it.
const GONE: &str = ".gone";
/// Files that each change may write anew.
const MADE_ANEW: [&str; 3] = ["index.toml", "ca.crl", "issuing.crl"];

/// Who may read what is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readers {
    /// Keys.
    Owner,
    /// Certificates, CRLs.
    Everyone,
}

/// What is to change.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// Name, octets, readers.
    files: Vec<(String, zeroize::Zeroizing<Vec<u8>>, Readers)>,
    /// What stands under the first name is kept under the second.
    kept: Vec<(String, String)>,
    /// Names that go when all is done; each must be kept too.
    gone: Vec<String>,
}

impl Change {
    pub(super) fn write(&mut self, name: &str, octets: &[u8], readers: Readers) {
        self.files.push((name.to_owned(), zeroize::Zeroizing::new(octets.to_vec()), readers));
    }

    pub(super) fn keep(&mut self, name: &str, under: &str) {
        self.kept.push((name.to_owned(), under.to_owned()));
    }

    /// Keeps it under another name, and takes it from its place.
    pub(super) fn put_aside(&mut self, name: &str, under: &str) {
        self.keep(name, under);
        self.gone.push(name.to_owned());
    }

    /// Makes the change.
    pub(super) fn make(&self, directory: &Path) -> Result<(), PkiError> {
        self.refuse_to_overwrite(directory)?;
        let prepared = directory.join(PREPARED);
        std::fs::DirBuilder::new().mode(0o700).create(&prepared).map_err(told(&prepared))?;
        for (name, octets, readers) in &self.files {
            write_new(&prepared.join(name), octets, *readers)?;
        }
        for (name, under) in &self.kept {
            let (from, to) = (directory.join(name), prepared.join(under));
            // A second name of the same file; a file system that has none gets a copy, with its mode.
            std::fs::hard_link(&from, &to).or_else(|_| std::fs::copy(&from, &to).map(drop)).map_err(told(&from))?;
        }
        if !self.gone.is_empty() {
            let list: String = self.gone.iter().flat_map(|name| [name.as_str(), "\0"]).collect();
            write_new(&prepared.join(GONE), list.as_bytes(), Readers::Owner)?;
        }
        sync(&prepared)?;
        std::fs::rename(&prepared, directory.join(DECIDED)).map_err(told(&prepared))?;
        finish(directory)
    }

    fn refuse_to_overwrite(&self, directory: &Path) -> Result<(), PkiError> {
        let is_kept = |name: &str| self.kept.iter().any(|(kept, _)| kept == name);
        let new = self.files.iter().map(|(name, ..)| name).filter(|name| !is_kept(name));
        let mut refused =
            new.chain(self.kept.iter().map(|(_, under)| under)).filter(|name| !MADE_ANEW.contains(&name.as_str()));
        match refused.find(|name| directory.join(name).symlink_metadata().is_ok()) {
            Some(name) => Err(PkiError::Exists(directory.join(name))),
            None => Ok(()),
        }
    }
}

/// Finishes what a killed command had decided, and throws away what one had only prepared. To be called under the lock.
pub(super) fn recover(directory: &Path) -> Result<(), PkiError> {
    let prepared = directory.join(PREPARED);
    if prepared.is_dir() {
        std::fs::remove_dir_all(&prepared).map_err(told(&prepared))?;
    }
    if directory.join(DECIDED).is_dir() { finish(directory) } else { Ok(()) }
}

fn finish(directory: &Path) -> Result<(), PkiError> {
    let decided = directory.join(DECIDED);
    sync(directory)?;
    for entry in std::fs::read_dir(&decided).map_err(told(&decided))? {
        let entry = entry.map_err(told(&decided))?;
        if entry.file_name() == GONE {
            continue;
        }
        let (from, to) = (entry.path(), directory.join(entry.file_name()));
        std::fs::rename(&from, &to).map_err(told(&from))?;
        // rename(2) does nothing when both are names of one file.
        if from.symlink_metadata().is_ok() {
            std::fs::remove_file(&from).map_err(told(&from))?;
        }
    }
    // What goes is kept under its other name by now, for good.
    sync(directory)?;
    remove_gone(directory, &decided.join(GONE))?;
    std::fs::remove_dir(&decided).map_err(told(&decided))?;
    sync(directory)
}

/// Removes what the list names, then the list: killed in between, this is done again.
fn remove_gone(directory: &Path, list: &Path) -> Result<(), PkiError> {
    if list.symlink_metadata().is_err() {
        return Ok(());
    }
    let names = std::fs::read_to_string(list).map_err(told(list))?;
    for name in names.split_terminator('\0') {
        remove_if_there(&directory.join(name))?;
    }
    sync(directory)?;
    remove_if_there(list)
}

fn remove_if_there(path: &Path) -> Result<(), PkiError> {
    match std::fs::remove_file(path) {
        Err(fault) if fault.kind() != std::io::ErrorKind::NotFound => Err(told(path)(fault)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// A new file; an old one is never opened for writing (`O_EXCL`), and the mode holds from the first moment.
fn write_new(path: &Path, octets: &[u8], readers: Readers) -> Result<(), PkiError> {
    let mode = match readers {
        Readers::Owner => 0o600,
        Readers::Everyone => 0o644,
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(told(path))?;
    file.write_all(octets).and_then(|()| file.sync_all()).map_err(told(path))
}

/// Makes names in a directory last.
fn sync(directory: &Path) -> Result<(), PkiError> {
    File::open(directory).and_then(|opened| opened.sync_all()).map_err(told(directory))
}

fn told(path: &Path) -> impl FnOnce(std::io::Error) -> PkiError {
    let path: PathBuf = path.to_owned();
    move |fault| PkiError::Unwritten { path, fault }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_change_that_was_decided_is_finished_and_one_that_was_only_prepared_is_forgotten() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path();
        std::fs::write(directory.join("a.key"), "old").unwrap();
        for (folder, name) in [(PREPARED, "b.key"), (DECIDED, "a.key")] {
            std::fs::create_dir(directory.join(folder)).unwrap();
            std::fs::write(directory.join(folder).join(name), "new").unwrap();
        }
        // As `make` left it when it was killed in the middle of moving: the kept name is up already, the new key is not.
        std::fs::hard_link(directory.join("a.key"), directory.join("a-1.key")).unwrap();
        recover(directory).unwrap();
        assert_eq!((text(&directory.join("a.key")), text(&directory.join("a-1.key"))), ("new".into(), "old".into()));
        assert!(
            !directory.join("b.key").exists()
                && !directory.join(PREPARED).exists()
                && !directory.join(DECIDED).exists()
        );
    }

    #[test]
    fn what_goes_with_a_change_goes_whenever_the_machine_stops() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path();
        let stands = |name: &str| directory.join(name).exists();
        // Killed when it was decided, and again when the old file was gone but the list was not.
        for is_removed in [false, true] {
            std::fs::write(directory.join("alice.p12"), "old").unwrap();
            std::fs::create_dir(directory.join(DECIDED)).unwrap();
            std::fs::write(directory.join(DECIDED).join("alice.pem"), "new").unwrap();
            std::fs::hard_link(directory.join("alice.p12"), directory.join(DECIDED).join("alice-1.p12")).unwrap();
            std::fs::write(directory.join(DECIDED).join(GONE), "alice.p12\0").unwrap();
            if is_removed {
                std::fs::remove_file(directory.join("alice.p12")).unwrap();
            }
            recover(directory).unwrap();
            assert!(!stands("alice.p12") && !stands(DECIDED) && !stands(GONE));
            assert_eq!(text(&directory.join("alice-1.p12")), "old");
            std::fs::remove_file(directory.join("alice-1.p12")).unwrap();
        }
        // The change itself writes that list.
        std::fs::write(directory.join("bob.p12"), "old").unwrap();
        let mut change = Change::default();
        change.put_aside("bob.p12", "bob-1.p12");
        change.make(directory).unwrap();
        assert!(!stands("bob.p12") && !stands(GONE) && stands("bob-1.p12"));
    }

    #[test]
    fn what_could_not_go_goes_the_next_time_and_nothing_goes_before_its_second_name_is_up() {
        let place = tempfile::tempdir().unwrap();
        let (directory, decided) = (place.path(), place.path().join(DECIDED));
        std::fs::write(directory.join("alice.p12"), "old").unwrap();
        std::fs::create_dir(&decided).unwrap();
        std::fs::write(decided.join(GONE), "stuck\0alice.p12\0").unwrap();
        std::fs::hard_link(directory.join("alice.p12"), decided.join("alice-1.p12")).unwrap();
        // A directory is no file that can be removed, nor can a file take the place of one.
        std::fs::create_dir_all(directory.join("alice-1.p12/in the way")).unwrap();
        recover(directory).unwrap_err();
        assert!(directory.join("alice.p12").exists(), "its second name is not up yet");
        std::fs::remove_dir_all(directory.join("alice-1.p12")).unwrap();
        std::fs::create_dir(directory.join("stuck")).unwrap();
        recover(directory).unwrap_err();
        assert!(decided.join(GONE).exists(), "the list stays as long as it is needed");
        std::fs::remove_dir(directory.join("stuck")).unwrap();
        recover(directory).unwrap();
        assert!(!directory.join("alice.p12").exists() && !decided.exists());
        assert_eq!(text(&directory.join("alice-1.p12")), "old");
    }

    #[test]
    fn nothing_takes_the_place_of_a_file_that_is_not_kept() {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("a.key"), "old").unwrap();
        std::fs::write(place.path().join("ca.crl"), "old").unwrap();
        let mut change = Change::default();
        change.write("ca.crl", b"new", Readers::Everyone);
        change.write("a.key", b"new", Readers::Owner);
        assert!(matches!(change.make(place.path()), Err(PkiError::Exists(path)) if path.ends_with("a.key")));
        assert_eq!(
            (text(&place.path().join("a.key")), text(&place.path().join("ca.crl"))),
            ("old".into(), "old".into())
        );
        change.keep("a.key", "a-1.key");
        change.make(place.path()).unwrap();
        let read = ["a.key", "a-1.key", "ca.crl"].map(|name| text(&place.path().join(name)));
        assert_eq!(read, ["new", "old", "new"]);
    }
}
