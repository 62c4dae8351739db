//! The disk as an argument: what the store and its body files need of a file system, and no more.
//!
//! Nothing is promised by a write: octets are on stable storage when [`DiskFile::sync`] has returned, names (created, renamed, removed) when
//! [`Disk::sync_folder`] has. [`SystemDisk`] is the machine's; [`SimulatedDisk`] lives in memory, replays from a seed, and loses what it may lose.
//!
//! After a failed sync nobody knows what is on the disk, and Linux calls the lost pages clean: a second sync of the same handle would succeed
//! and mean nothing. So: never sync such a handle again; open the file anew with [`Open::Afresh`], which reads what the disk really has.
//!
//! Never: decides what is kept, or retries. Every operation can fail with an [`io::Error`].

mod simulated;

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

pub use simulated::{Fault, Operation, SimulatedDisk, SyncHonesty};

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// It must not exist; it is made for its owner alone (mode 0600).
    New,
    /// It must exist.
    Existing,
    /// It must exist, and what is read is what the disk has: nothing cached of writes that failed to reach it.
    Afresh,
}

/// One name in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name without its folder; names that are no UTF-8 are not ours and are left out.
    pub name: String,
    /// Octets in it.
    pub length: u64,
}

/// An exclusive lock, held until dropped; given back by the kernel when the process ends, however it ends.
pub trait Lock: Send + Sync + fmt::Debug {
    /// Whether its file still has its name: a folder that was removed, moved or mounted over is not ours any more, though its open files go on.
    fn is_in_place(&self) -> io::Result<bool>;
}

/// A file, read and written by place.
pub trait DiskFile: Send + Sync + fmt::Debug {
    /// Octets in it.
    fn length(&self) -> io::Result<u64>;

    /// Fills `into` whole from `offset`; `UnexpectedEof` when the file ends before.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;

    /// Writes all of `octets` at `offset`.
    fn write_at(&self, offset: u64, octets: &[u8]) -> io::Result<()>;

    /// Cuts it, or lengthens it with zeros.
    fn set_length(&self, length: u64) -> io::Result<()>;

    /// Returns when octets and length are on stable storage. After an error: never again on this handle.
    fn sync(&self) -> io::Result<()>;
}

/// A file system.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Makes a folder with its parents, for its owner alone (mode 0700), on stable storage; an existing one is closed to others.
    fn create_folder(&self, folder: &Path) -> io::Result<()>;

    /// Takes the lock file at `path` or fails with `WouldBlock` when another has it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>>;

    /// Opens a file.
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>>;

    /// Renames within one folder; an existing `to` is replaced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// The files of a folder, sorted by name.
    fn list(&self, folder: &Path) -> io::Result<Vec<Entry>>;

    /// Returns when what was created, renamed and removed in `folder` is on stable storage.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;

    /// Octets that may still be written below `folder` without privileges.
    fn space_left(&self, folder: &Path) -> io::Result<u64>;
}

/// The machine's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemDisk;

const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// A link in the place of a file is not followed: who put it there would choose what is written.
fn no_links() -> i32 {
    rustix::fs::OFlags::NOFOLLOW.bits().cast_signed()
}

#[expect(clippy::disallowed_methods, reason = "this is the seam through which the rest of the program sees files")]
impl Disk for SystemDisk {
    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        if !folder.is_dir() {
            let above = folder.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
            if !above.is_dir() {
                self.create_folder(above)?;
            }
            std::fs::DirBuilder::new().mode(FOLDER_MODE).create(folder)?;
            self.sync_folder(above)?;
        }
        let mut permissions = std::fs::metadata(folder)?.permissions();
        if permissions.mode() & 0o777 != FOLDER_MODE {
            permissions.set_mode(FOLDER_MODE);
            std::fs::set_permissions(folder, permissions)?;
        }
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(FILE_MODE)
            .custom_flags(no_links())
            .open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(SystemLock { held: file, path: path.to_owned() })),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(fault)) => Err(fault),
        }
    }

    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(FILE_MODE).custom_flags(no_links());
        if how == Open::New {
            options.create_new(true);
        }
        let file = options.open(path)?;
        if how == Open::Afresh {
            // Drops the clean pages of the file: after a failed sync these are the ones that never reached the disk.
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
        }
        Ok(Box::new(SystemFile { file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if let (true, Ok(name)) = (metadata.is_file(), entry.file_name().into_string()) {
                entries.push(Entry { name, length: metadata.len() });
            }
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    fn space_left(&self, folder: &Path) -> io::Result<u64> {
        let figures = rustix::fs::statvfs(folder)?;
        Ok(figures.f_bavail.saturating_mul(figures.f_frsize))
    }
}

#[derive(Debug)]
struct SystemLock {
    held: File,
    path: PathBuf,
}

#[expect(clippy::disallowed_methods, reason = "this is the seam through which the rest of the program sees files")]
impl Lock for SystemLock {
    fn is_in_place(&self) -> io::Result<bool> {
        let held = self.held.metadata()?;
        match std::fs::metadata(&self.path) {
            Ok(there) => Ok((there.dev(), there.ino()) == (held.dev(), held.ino())),
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(fault) => Err(fault),
        }
    }
}

#[derive(Debug)]
struct SystemFile {
    file: File,
}

impl DiskFile for SystemFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(into, offset)
    }

    fn write_at(&self, offset: u64, octets: &[u8]) -> io::Result<()> {
        self.file.write_all_at(octets, offset)
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    // fdatasync: the length is among what it keeps, the time of change is not.
    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests;
