//! Files that the configuration names: read whole and bounded; what is in them `tls::read` knows.
//!
//! What can be wrong comes back as the end of a sentence that began with the file's name. Never: writes; holds the text of a key longer than
//! it takes to read it.

#![expect(clippy::disallowed_methods, reason = "the configuration's files are read here and nowhere else in config")]

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// Octets of a PEM file at most; CRLs of large authorities have some megabytes.
const FILE_MAX: u64 = 64 * 1024 * 1024;
/// Octets of a password file at most.
const PASSWORD_FILE_MAX: usize = 4096;
/// Files of a CRL directory at most.
const DIRECTORY_FILES_MAX: usize = 1000;
/// Mode bits that let others than the owner and the group read.
const READABLE_BY_OTHERS: u32 = 0o004;
/// Mode bits that let everybody write.
const WRITABLE_BY_EVERYBODY: u32 = 0o002;

/// A file's octets; wiped when dropped, since it may be a key.
pub(crate) struct Contents {
    pub(crate) octets: Zeroizing<Vec<u8>>,
    pub(crate) mode: u32,
}

impl Contents {
    /// Whether others than owner and group may read it.
    pub(crate) fn is_readable_by_others(&self) -> bool {
        self.mode & READABLE_BY_OTHERS != 0
    }

    /// Whether everybody may write it.
    pub(crate) fn is_writable_by_everybody(&self) -> bool {
        self.mode & WRITABLE_BY_EVERYBODY != 0
    }

    /// The mode as `ls` and `chmod` know it.
    pub(crate) fn mode_text(&self) -> String {
        format!("{:04o}", self.mode & 0o7777)
    }
}

/// Reads a file that the configuration names. A pipe, which would have a reload wait for its writer, is none.
pub(crate) fn read_named(path: &Path) -> Result<Contents, String> {
    match std::fs::metadata(path) {
        Ok(facts) if facts.file_type().is_fifo() => Err("is a pipe, not a file".to_owned()),
        Ok(_) | Err(_) => read(path),
    }
}

/// Reads a file whole.
pub(crate) fn read(path: &Path) -> Result<Contents, String> {
    let told = |fault: std::io::Error| format!("can't be read: {}", plain(&fault));
    let file = File::open(path).map_err(told)?;
    let facts = file.metadata().map_err(told)?;
    if facts.is_dir() {
        return Err("is a directory, not a file".to_owned());
    }
    let mut octets = Zeroizing::new(Vec::new());
    file.take(FILE_MAX + 1).read_to_end(&mut octets).map_err(told)?;
    if u64::try_from(octets.len()).unwrap_or(u64::MAX) > FILE_MAX {
        return Err("has more than 64 MiB".to_owned());
    }
    Ok(Contents { octets, mode: facts.mode() })
}

/// The text of a configuration file.
pub(crate) fn read_text(path: &Path) -> Result<String, String> {
    let contents = read(path)?;
    String::from_utf8(contents.octets.to_vec()).map_err(|_| "is not UTF-8".to_owned())
}

/// The first line of a password file.
pub(crate) fn password(contents: &Contents) -> Result<Zeroizing<String>, String> {
    if contents.octets.len() > PASSWORD_FILE_MAX {
        return Err(format!("has more than {PASSWORD_FILE_MAX} octets; it should hold the password on its first line"));
    }
    let text = std::str::from_utf8(&contents.octets).map_err(|_| "is not UTF-8".to_owned())?;
    match text.lines().next() {
        Some(line) if !line.trim().is_empty() => Ok(Zeroizing::new(line.to_owned())),
        _ => Err("is empty; it should hold the password on its first line".to_owned()),
    }
}

/// The files of a directory in the order of their names; a file stands for itself. Names that begin with a dot are left out.
pub(crate) fn files_of(path: &Path) -> Result<Vec<PathBuf>, String> {
    let told = |fault: std::io::Error| format!("can't be read: {}", plain(&fault));
    if !std::fs::metadata(path).map_err(told)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(told)? {
        let entry = entry.map_err(told)?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") && entry.path().is_file() {
            files.push(entry.path());
        }
        if files.len() > DIRECTORY_FILES_MAX {
            return Err(format!("holds more than {DIRECTORY_FILES_MAX} files"));
        }
    }
    files.sort();
    Ok(files)
}

/// The system's words for a fault, plainer for the two that are common.
fn plain(fault: &std::io::Error) -> String {
    let kind = fault.kind();
    if kind == std::io::ErrorKind::NotFound {
        "there is no such file".to_owned()
    } else if kind == std::io::ErrorKind::PermissionDenied {
        "permission denied".to_owned()
    } else {
        fault.to_string()
    }
}
