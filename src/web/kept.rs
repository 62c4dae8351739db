//! OCSP answers that say "revoked", on disk: a restart, in which nobody can be asked, must let nobody in whom it knew to be revoked.
//!
//! One plain file for each certificate, the answer as it came; its name is the question's key and when the certificate ends. It is verified again
//! when it is read. Written whole: to another name, synced, renamed, the folder synced.
//!
//! Never: takes what is there for verified; keeps more than [`FILES_MAX`], or what is about a certificate that has ended.

#![expect(clippy::disallowed_methods, reason = "the answers that are kept are read and written here")]

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use crate::sys::WallTime;
use crate::tls::ocsp::{ANSWER_OCTETS_MAX, Query};

/// Files at most. Revoked certificates that still come are few.
const FILES_MAX: usize = 10_000;

/// The file of a question.
pub(super) fn path(folder: &Path, query: &Query) -> PathBuf {
    folder.join(format!("{}-{}.ocsp", query.key(), query.ends().seconds()))
}

/// What is kept; nothing where nothing is, or more than an answer may be.
pub(super) fn read(path: &Path) -> Option<Vec<u8>> {
    let most = u64::try_from(ANSWER_OCTETS_MAX).unwrap_or(u64::MAX);
    let mut octets = Vec::new();
    File::open(path).ok()?.take(most.saturating_add(1)).read_to_end(&mut octets).ok()?;
    (octets.len() <= ANSWER_OCTETS_MAX).then_some(octets)
}

/// Keeps an answer in the place of an older one.
pub(super) fn write(path: &Path, octets: &[u8], now: WallTime) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    if !path.exists() && forget_ended(folder, now)? >= FILES_MAX {
        return Err(io::Error::other(format!("{FILES_MAX} of them are kept already")));
    }
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(octets)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(folder)?.sync_all()
}

/// The certificate is good again.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(fault) if fault.kind() != io::ErrorKind::NotFound => Err(fault),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Removes what is about certificates that have ended; how many are left.
fn forget_ended(folder: &Path, now: WallTime) -> io::Result<usize> {
    let mut left: usize = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let ends = name.rsplit_once('-').and_then(|(_, ends)| ends.parse().ok()).map(WallTime::from_seconds);
        if ends.is_some_and(|ends| ends <= now) {
            remove(&path)?;
        } else {
            left = left.saturating_add(1);
        }
    }
    Ok(left)
}
