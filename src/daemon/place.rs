//! The place of the queue: whose it is, and whether it will do. `serve`, `check` and `queue` all ask here, so that none calls right what another refuses.
//!
//! A queue is the user's whose store it is, and where there is no store yet, the user's whose data_dir is: what another one, root above all, makes there
//! that user could not use. Root works only where store and data_dir are both root's: links that another one puts there would lead it anywhere. Never: leaves anything behind; says that a full disk will not do, for a relay must start on it to make it less full.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::control;

/// The file whose owner has the queue.
pub(crate) const STORE: &str = "store.redb";

/// Why a queue can't be in a place, with what to do.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// Root was to use what is another user's, who could not use afterwards what root makes in it.
    #[error(
        "{} belongs to another user (uid {owner}), and this runs as root: what root makes there that user could not use. Run it as that \
         user, for example with: runuser -u $(id -nu {owner}) -- sealpost serve ...; or, if root is to have it from now on: chown -R 0 {}",
        .data_dir.display(), .data_dir.display()
    )]
    OfAnother {
        /// Where.
        data_dir: PathBuf,
        /// Whose.
        owner: u32,
    },
    /// Whoever this runs as can't write there; another user perhaps can.
    #[error("{}: {fault}{}", .data_dir.display(), remedy(.data_dir, .fault.kind()).map(|words| format!("; {words}")).unwrap_or_default())]
    Denied {
        /// Where.
        data_dir: PathBuf,
        /// The directory itself, or the nearest above it that is there.
        there: PathBuf,
        /// The system's word for it.
        fault: io::Error,
    },
    /// What has the name of a file of the queue is none: a new queue in its place would hide the one that is meant.
    #[error(
        "{} is {what}, and no file: the queue's files lie in data_dir itself, and links are not followed; set data_dir to where they are, or move it away",
        .path.display()
    )]
    NoFile {
        /// Which.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// There is something else.
    #[error("{} is no directory: name one in data_dir", .0.display())]
    NoDirectory(PathBuf),
    /// Nobody can make files there.
    #[error("{} can't be used: no file can be made in {}: {fault}; {}", .data_dir.display(), .there.display(), remedy(.there, .fault.kind()).unwrap_or_else(|| "name another place in data_dir".to_owned()))]
    Unwritable {
        /// Where.
        data_dir: PathBuf,
        /// The directory itself, or the nearest above it that is there.
        there: PathBuf,
        /// The system's word for it.
        fault: io::Error,
    },
    /// The control socket would have too long a path.
    #[error(
        "the control socket would be {}, which has {} octets, and a socket's path has at most {}; choose a shorter path",
        .0.display(), .0.as_os_str().as_bytes().len(), control::PATH_MAX
    )]
    TooLong(PathBuf),
}

/// Whose the queue in this folder is, or will be; none where there is no folder.
pub(crate) fn owner(data_dir: &Path) -> Option<u32> {
    store_owner(data_dir).or_else(|| folder_owner(data_dir))
}

/// Whose the store itself is, or the link that has its name.
fn store_owner(data_dir: &Path) -> Option<u32> {
    data_dir.join(STORE).symlink_metadata().ok().map(|found| found.uid())
}

#[expect(clippy::disallowed_methods, reason = "looks whose the data directory is")]
fn folder_owner(data_dir: &Path) -> Option<u32> {
    std::fs::metadata(data_dir).ok().map(|found| found.uid())
}

/// Who besides root has a hand in this folder: he could put links there, and root would make files where they lead.
pub(crate) fn other_than_root(data_dir: &Path) -> Option<u32> {
    [store_owner(data_dir), folder_owner(data_dir)].into_iter().flatten().find(|&owner| owner != 0)
}

/// Whether all that has the name of a file of the queue is a file.
///
/// # Errors
/// Which is none.
#[expect(clippy::disallowed_methods, reason = "looks what lies in the data directory")]
pub(crate) fn are_files(data_dir: &Path) -> Result<(), Unfit> {
    // A folder that can't be read is told by who opens it.
    for entry in std::fs::read_dir(data_dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_ours = name.to_str().is_some_and(|name| {
            [STORE, "store.redb.new", "store.last", "lock"].contains(&name) || name.starts_with("messages-")
        });
        let Some(kind) = entry.file_type().ok().filter(|kind| is_ours && !kind.is_file()) else { continue };
        let what = if kind.is_symlink() {
            "a symbolic link"
        } else if kind.is_dir() {
            "a directory"
        } else {
            "a device, a pipe or a socket"
        };
        return Err(Unfit::NoFile { path: entry.path(), what });
    }
    Ok(())
}

/// As whom we run.
pub(crate) fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Whether a daemon that runs as the user `own` can have its queue in this folder.
///
/// # Errors
/// Why not.
pub(crate) fn will_do(data_dir: &Path, own: u32) -> Result<(), Unfit> {
    let socket = control::path(data_dir);
    if socket.as_os_str().as_bytes().len() > control::PATH_MAX {
        return Err(Unfit::TooLong(socket));
    }
    let Some(there) = nearest(data_dir) else { return Ok(()) };
    if !there.is_dir() {
        return Err(Unfit::NoDirectory(there.to_owned()));
    }
    are_files(data_dir)?;
    // Anybody else is told by the disk.
    if let Some(owner) = other_than_root(data_dir).filter(|_| own == 0) {
        return Err(Unfit::OfAnother { data_dir: data_dir.to_owned(), owner });
    }
    let Err(fault) = try_out(there) else { return Ok(()) };
    let (data_dir, there) = (data_dir.to_owned(), there.to_owned());
    if matches!(fault.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        return Ok(());
    }
    if fault.kind() == io::ErrorKind::PermissionDenied {
        return Err(Unfit::Denied { data_dir, there, fault });
    }
    Err(Unfit::Unwritable { data_dir, there, fault })
}

/// Makes something and takes it away again: what rights and the file system permit shows in nothing else (/proc lets root do everything, and makes nothing).
fn try_out(folder: &Path) -> io::Result<()> {
    use io::ErrorKind::{AlreadyExists, DirectoryNotEmpty, NotADirectory, NotFound};
    let mut name = OsString::from(".sealpost-tries-");
    name.push(std::process::id().to_string());
    let trial = folder.join(name);
    match std::fs::DirBuilder::new().mode(0o700).create(&trial) {
        Ok(()) => std::fs::remove_dir(&trial),
        // One was killed here that had this process's number (in a container all have 1). A disk that can't be written says so at the removal.
        Err(fault) if fault.kind() == AlreadyExists => match std::fs::remove_dir(&trial) {
            Err(fault) if [NotFound, NotADirectory, DirectoryNotEmpty].contains(&fault.kind()) => Ok(()),
            done => done,
        },
        Err(fault) => Err(fault),
    }
}

/// The folder itself, or the nearest above it that is there.
fn nearest(folder: &Path) -> Option<&Path> {
    folder.ancestors().map(|one| if one.as_os_str().is_empty() { Path::new(".") } else { one }).find(|one| one.exists())
}

/// What to do when the store can't be opened for want of a place for it.
#[expect(clippy::disallowed_methods, reason = "looks whose the data directory is")]
pub(crate) fn remedy(path: &Path, kind: io::ErrorKind) -> Option<String> {
    use io::ErrorKind::{AlreadyExists, NotADirectory, PermissionDenied, ReadOnlyFilesystem};
    if kind == PermissionDenied {
        let folder = path.ancestors().find(|one| one.is_dir())?;
        let owner = |path: &Path| std::fs::metadata(path).ok().map(|found| found.uid());
        let whose = owner(path).or_else(|| owner(folder))?;
        let own = own_uid();
        // The directory itself is missing, and what it lies in is for others, too: that is not to be given away.
        if matches!(path.try_exists(), Ok(false)) && path.file_name().is_some_and(|name| name != "lock") {
            return Some(format!(
                "there is no {0}, and uid {own}, as whom this runs, can't make it in {1}: make it as root, install -d -m 700 -o {own} {0}, or leave it to \
                 the unit (StateDirectory)",
                path.display(),
                folder.display()
            ));
        }
        return Some(format!(
            "it belongs to uid {whose}, and this runs as uid {own}: data_dir and all that is in it must belong to the user that the relay runs as. Was it \
             started by another one before, as root by hand? Then give it back: chown -R {own} {}",
            folder.display()
        ));
    }
    if kind == ReadOnlyFilesystem {
        return Some(
            "its file system is mounted read-only: mount it to be written, or set another data_dir".to_owned(),
        );
    }
    let is_file = [AlreadyExists, NotADirectory].contains(&kind);
    is_file.then(|| "data_dir, or what it lies in, is no directory: name one in data_dir".to_owned())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "tests furnish a folder of files")]

    use super::*;

    #[test]
    fn root_is_told_whose_the_queue_is_and_nobody_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("data");
        std::fs::create_dir(&data_dir).unwrap();
        let check = |own, another: Option<u32>| {
            let told = match will_do(&data_dir, own) {
                Err(Unfit::OfAnother { owner, .. }) => Some(owner),
                Ok(()) | Err(_) => None,
            };
            assert_eq!(told, another, "to {own}");
        };
        let own = own_uid();
        let give = |path: &Path, to| {
            if own == 0 {
                std::os::unix::fs::chown(path, Some(to), None).unwrap()
            }
        };
        give(&data_dir, 992);
        let another = if own == 0 { 992 } else { own };
        check(0, Some(another));
        assert_eq!(
            data_dir.read_dir().unwrap().count(),
            0,
            "the first start of root leaves nothing in another's directory"
        );
        check(another, None);
        check(993, None);
        let store = data_dir.join(STORE);
        std::fs::write(&store, "").unwrap();
        if own == 0 {
            check(0, Some(992));
            give(&data_dir, 0);
            check(0, None);
        }
        give(&store, 992);
        check(0, Some(another));
        assert_eq!(owner(&data_dir), Some(another));
        assert_eq!(owner(&data_dir.join("nothing")), None);
    }

    #[test]
    fn a_place_that_will_not_do_is_told_and_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::File::options().create_new(true).write(true).open(&file).unwrap();
        let long = folder.path().join("x".repeat(control::PATH_MAX));
        for (data_dir, unfit) in [
            (folder.path().join("a/b/data"), None),
            (folder.path().to_owned(), None),
            (file.clone(), Some("file is no directory")),
            (file.join("data"), Some("file is no directory")),
            (long, Some("a socket's path has at most 107")),
            // Root could write there, and can make nothing; others are denied.
            ("/proc/sys/data".into(), Some("/proc/sys")),
            ("/proc".into(), Some("/proc")),
        ] {
            let told = will_do(&data_dir, own_uid()).err().map(|unfit| unfit.to_string());
            assert_eq!(told.is_some(), unfit.is_some(), "{data_dir:?}: {told:?}");
            assert!(unfit.is_none_or(|words| told.as_ref().unwrap().contains(words)), "{data_dir:?}: {told:?}");
        }
        assert_eq!(folder.path().read_dir().unwrap().count(), 1);
    }

    #[test]
    fn what_has_the_name_of_a_file_of_the_queue_and_is_none_is_told() {
        for name in [STORE, "store.redb.new", "store.last", "messages-0", "lock"] {
            let folder = tempfile::tempdir().unwrap();
            let (path, elsewhere) = (folder.path().join(name), folder.path().join("elsewhere"));
            let told = || will_do(folder.path(), own_uid()).err().map(|unfit| unfit.to_string()).unwrap_or_default();
            std::fs::write(&elsewhere, "").unwrap();
            std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
            assert!(told().contains(&format!("{name} is a symbolic link")), "{}", told());
            std::fs::remove_file(&path).unwrap();
            std::fs::create_dir(&path).unwrap();
            assert!(told().contains(&format!("{name} is a directory")), "{}", told());
            std::fs::remove_dir(&path).unwrap();
            std::fs::write(&path, "").unwrap();
            assert_eq!(told(), "");
        }
    }

    #[test]
    fn what_one_left_that_was_killed_stops_nobody() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(format!(".sealpost-tries-{}", std::process::id()))).unwrap();
        will_do(folder.path(), own_uid()).unwrap();
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn what_to_do_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let (lock, missing) = (folder.path().join("lock"), folder.path().join("sealpost"));
        for (path, kind, words) in [
            (lock.as_path(), io::ErrorKind::PermissionDenied, Some("chown -R")),
            (missing.as_path(), io::ErrorKind::PermissionDenied, Some("install -d -m 700 -o")),
            (lock.as_path(), io::ErrorKind::ReadOnlyFilesystem, Some("read-only")),
            (Path::new("/dev/null"), io::ErrorKind::AlreadyExists, Some("no directory")),
            (Path::new("/dev/null/bodies"), io::ErrorKind::NotADirectory, Some("no directory")),
            (lock.as_path(), io::ErrorKind::StorageFull, None),
        ] {
            let remedy = remedy(path, kind);
            assert_eq!(remedy.is_some(), words.is_some(), "{path:?}: {remedy:?}");
            assert!(words.is_none_or(|words| remedy.as_ref().unwrap().contains(words)), "{path:?}: {remedy:?}");
        }
    }
}
