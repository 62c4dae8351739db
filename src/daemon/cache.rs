//! Fetched CRLs on disk, so that a start without a network has them, in a folder of their CA's: of each URL up to [`KINDS_MAX`] files, for a list
//! of each kind that came from there, and one beside them that says where they are from, and which came last, of which version.
//!
//! Written whole: to another name, synced, renamed, the folder synced. Never: takes what is there for verified; the configuration reads and
//! verifies it like any CRL file.

#![expect(clippy::disallowed_methods, reason = "the cache of fetched CRLs is read and written here")]

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::crl_cache_file;
use crate::tls::points::HttpUrl;
use crate::web::http::Validators;

/// Lists of different kinds (issuer, scope, whole or delta) that are kept of one URL.
pub(super) const KINDS_MAX: usize = crate::config::CRL_KINDS_MAX;
/// Octets of the file beside a CRL at most.
const ABOUT_OCTETS_MAX: u64 = 8 * 1024;

/// Where a cached CRL is from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct About {
    /// The URL.
    pub(super) url: String,
    /// The version that the server calls it.
    #[serde(default)]
    pub(super) validators: Validators,
    /// The file of which that is said.
    #[serde(default)]
    pub(super) slot: usize,
}

/// One of the lists that are cached of this URL.
pub(super) fn read(folder: &Path, url: &HttpUrl, slot: usize, octets_max: usize) -> Option<Vec<u8>> {
    bounded(&path_of(folder, url, slot), u64::try_from(octets_max).unwrap_or(u64::MAX)).ok()
}

/// What came last from this URL.
pub(super) fn last(folder: &Path, url: &HttpUrl) -> Option<About> {
    about(&beside(folder, url)).filter(|about| about.url == url.to_string())
}

/// The URLs that something is cached of.
pub(super) fn urls(folder: &Path) -> Vec<HttpUrl> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let abouts = files.filter(|path| path.extension().is_some_and(|end| end == "json"));
    abouts.filter_map(|path| HttpUrl::parse(&about(&path)?.url).ok()).collect()
}

/// Keeps a CRL. The versions are written last: a crash in between costs one fetch.
pub(super) fn write(
    folder: &Path,
    url: &HttpUrl,
    slot: usize,
    octets: &[u8],
    validators: Validators,
) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let (path, beside) = (path_of(folder, url, slot), beside(folder, url));
    // Old versions must not be said of the new CRL.
    match fs::remove_file(&beside) {
        Err(fault) if fault.kind() != io::ErrorKind::NotFound => return Err(fault),
        Ok(()) | Err(_) => {}
    }
    replace(folder, &path, octets)?;
    replace(folder, &beside, &serde_json::to_vec(&About { url: url.to_string(), validators, slot })?)
}

fn path_of(folder: &Path, url: &HttpUrl, slot: usize) -> PathBuf {
    folder.join(crl_cache_file(&url.to_string(), slot))
}

fn beside(folder: &Path, url: &HttpUrl) -> PathBuf {
    path_of(folder, url, 0).with_extension("json")
}

fn about(path: &Path) -> Option<About> {
    serde_json::from_slice(&bounded(path, ABOUT_OCTETS_MAX).ok()?).ok()
}

fn bounded(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    File::open(path)?.take(most).read_to_end(&mut octets)?;
    Ok(octets)
}

fn replace(folder: &Path, path: &Path, octets: &[u8]) -> io::Result<()> {
    // A name with a dot in front is no CRL to whoever reads the folder.
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    let new = folder.join(name);
    let mut file = File::create(&new)?;
    file.write_all(octets)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_damaged_has_no_versions() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("staff");
        let url = HttpUrl::parse("http://pki.example.com/ca.crl").unwrap();
        assert!(read(&place, &url, 0, 100).is_none() && last(&place, &url).is_none() && urls(&place).is_empty());
        let validators = Validators { etag: Some("\"7\"".to_owned()), modified: None };
        write(&place, &url, 0, b"crl", Validators::default()).unwrap();
        write(&place, &url, 1, b"another", validators.clone()).unwrap();
        assert_eq!(read(&place, &url, 0, 100), Some(b"crl".to_vec()));
        assert_eq!(read(&place, &url, 1, 100), Some(b"another".to_vec()));
        assert_eq!(last(&place, &url).map(|about| (about.slot, about.validators)), Some((1, validators)));
        assert_eq!(urls(&place), std::slice::from_ref(&url));
        let json = fs::read_dir(&place)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| path.extension().unwrap() == "json");
        fs::write(json.unwrap(), b"{\"url\":").unwrap();
        assert!(read(&place, &url, 1, 100).is_some() && last(&place, &url).is_none());
    }
}
