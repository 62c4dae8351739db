//! Files that the configuration names: read whole and bounded; what is in them `tls::read` knows.
//!
//! What can be wrong comes back as the end of a sentence that began with the file's name. Never: writes; holds the text of a key longer than
//! it takes to read it.

#![expect(clippy::disallowed_methods, reason = "the configuration's files are read here and nowhere else in config")]

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// Octets of a PEM file at most; CRLs of large authorities have some megabytes.
const FILE_MAX: u64 = 64 * 1024 * 1024;
/// Octets of a password file at most.
const PASSWORD_FILE_MAX: usize = 4096;
/// Files of a directory of CRLs or identities at most.
const DIRECTORY_FILES_MAX: usize = 1000;
/// Mode bits that let others than the owner and the group read.
const READABLE_BY_OTHERS: u32 = 0o004;
/// Mode bits that let anybody but the owner do anything.
const OPEN_TO_OTHERS: u32 = 0o077;
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

    /// Whether anybody but the owner may do anything with it.
    pub(crate) fn is_open_to_others(&self) -> bool {
        self.mode & OPEN_TO_OTHERS != 0
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

/// Reads a file that the configuration names; no pipe, which would have a reload wait for its writer.
pub(crate) fn read_named(path: &Path) -> Result<Contents, String> {
    whole(open(path, Pipes::Refused)?)
}

/// Whether a file may be a pipe.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pipes {
    /// What a command is given may come from another one.
    Taken,
    Refused,
}

/// A file that is read piece by piece: its digest is taken on the way, and it ends with a fault where it is too large.
pub(crate) struct Stream {
    file: BufReader<File>,
    digest: Sha256,
    left: u64,
}

/// Octets of a file that is read piece by piece, at most.
const STREAM_MAX: u64 = 1024 * 1024 * 1024;

impl Stream {
    /// SHA-256 of what was read.
    pub(crate) fn digest(self) -> [u8; 32] {
        self.digest.finalize().into()
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.digest.update(buffer.get(..count).unwrap_or_default());
        self.left = u64::try_from(count)
            .ok()
            .and_then(|count| self.left.checked_sub(count))
            .ok_or_else(|| std::io::Error::other("it has more than 1 GiB"))?;
        Ok(count)
    }
}

/// Opens a file to read it piece by piece; the contents have its mode and nothing else.
pub(crate) fn stream(path: &Path) -> Result<(Stream, Contents), String> {
    let (file, mode) = open(path, Pipes::Refused)?;
    let stream = Stream { file: BufReader::new(file), digest: Sha256::new(), left: STREAM_MAX };
    Ok((stream, Contents { octets: Zeroizing::default(), mode }))
}

/// What a fault of reading is told as.
pub(crate) fn unreadable(fault: &std::io::Error) -> String {
    format!("can't be read: {}", plain(fault))
}

/// What is open is looked at, not what the name stood for before: it may be another file by then. Without O_NONBLOCK a pipe would have us wait for
/// its writer in the opening already; files know no such flag.
fn open(path: &Path, pipes: Pipes) -> Result<(File, u32), String> {
    let told = |fault: std::io::Error| unreadable(&fault);
    let flags = match pipes {
        Pipes::Taken => OFlags::empty(),
        Pipes::Refused => OFlags::NONBLOCK,
    };
    let flags = i32::try_from(flags.bits()).unwrap_or(0);
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(told)?;
    let facts = file.metadata().map_err(told)?;
    if facts.is_dir() {
        return Err("is a directory, not a file".to_owned());
    }
    if pipes == Pipes::Refused && facts.file_type().is_fifo() {
        return Err("is a pipe, not a file".to_owned());
    }
    Ok((file, facts.mode()))
}

/// Reads a file whole.
pub(crate) fn read(path: &Path) -> Result<Contents, String> {
    whole(open(path, Pipes::Taken)?)
}

fn whole((file, mode): (File, u32)) -> Result<Contents, String> {
    let mut octets = Zeroizing::new(Vec::new());
    file.take(FILE_MAX + 1).read_to_end(&mut octets).map_err(|fault| unreadable(&fault))?;
    if u64::try_from(octets.len()).unwrap_or(u64::MAX) > FILE_MAX {
        return Err("has more than 64 MiB".to_owned());
    }
    Ok(Contents { octets, mode })
}

/// The text of a configuration file.
pub(crate) fn read_text(path: &Path) -> Result<String, String> {
    let contents = read(path)?;
    text_of(&contents.octets).map(str::to_owned)
}

/// The first line of a password file.
pub(crate) fn password(contents: &Contents) -> Result<Zeroizing<String>, String> {
    if contents.octets.len() > PASSWORD_FILE_MAX {
        return Err(format!("has more than {PASSWORD_FILE_MAX} octets; it should hold the password on its first line"));
    }
    let text = text_of(&contents.octets)?;
    match text.lines().next() {
        Some(line) if !line.trim().is_empty() => Ok(Zeroizing::new(line.to_owned())),
        _ => Err("is empty; it should hold the password on its first line".to_owned()),
    }
}

/// The files of a directory in the order of their names; a file stands for itself. Names that begin with a dot are left out.
pub(crate) fn files_of(path: &Path) -> Result<Vec<PathBuf>, String> {
    let told = |fault: std::io::Error| unreadable(&fault);
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

/// Nobody but root may read what is not theirs; who tries is seldom who was meant to.
fn denied(user: &str) -> String {
    format!(
        "permission denied to {user}, as whom this runs; let that user read it (chgrp and chmod g+r, and g+x on the directories above it), or run this as the user it belongs to"
    )
}

/// As whom we run.
fn user() -> String {
    let uid = rustix::process::geteuid().as_raw();
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    match name_of(uid, &users) {
        Some(name) => format!("the user {name}"),
        None => format!("the user with the id {uid}"),
    }
}

/// passwd(5): `name:password:uid:...`
fn name_of(uid: u32, users: &str) -> Option<&str> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

/// Octets as text; where they are none, the end of the sentence says where.
pub(crate) fn text_of(octets: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(octets).map_err(|fault| {
        let before = octets.get(..fault.valid_up_to()).unwrap_or_default();
        let line = memchr::memchr_iter(b'\n', before).count().saturating_add(1);
        format!("is not UTF-8 (line {line}); save it as UTF-8")
    })
}

/// The system's words for a fault, plainer for the two that are common.
fn plain(fault: &std::io::Error) -> String {
    let kind = fault.kind();
    if kind == std::io::ErrorKind::NotFound {
        "there is no such file".to_owned()
    } else if kind == std::io::ErrorKind::PermissionDenied {
        denied(&user())
    } else {
        fault.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_is_refused_by_what_is_open_and_nobody_waits_for_its_writer() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("list.pem");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert_eq!(read_named(&pipe).err().as_deref(), Some("is a pipe, not a file"));
        assert_eq!(stream(&pipe).err().as_deref(), Some("is a pipe, not a file"));
        // There is no time between asking and opening in which a file could become a pipe: the refusal comes from the opened file itself.
        assert_eq!(open(&pipe, Pipes::Refused).err().as_deref(), Some("is a pipe, not a file"));
    }

    #[test]
    fn who_may_not_read_is_named() {
        let users = "root:x:0:0:root:/root:/bin/sh\nbroken\nsealpost:x:998:998::/nonexistent:/usr/sbin/nologin\n";
        for (uid, name) in [(0, Some("root")), (998, Some("sealpost")), (99, None)] {
            assert_eq!(name_of(uid, users), name);
        }
        assert!(denied("the user sealpost").starts_with("permission denied to the user sealpost, as whom"));
    }

    #[test]
    fn the_line_that_is_no_text_is_told() {
        assert_eq!(text_of(b"a\nb\n\xff"), Err("is not UTF-8 (line 3); save it as UTF-8".to_owned()));
        assert_eq!(text_of("\u{e4}".as_bytes()), Ok("\u{e4}"));
    }
}
