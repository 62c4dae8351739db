//! Fetched CRLs on disk, so that a start without a network has them: one file each in a folder of their CA's, and beside it where it is from
//! and which version it is.
//!
//! Written whole: to another name, synced, renamed, the folder synced. Never: takes what is there for verified; the configuration reads and
//! verifies it like any CRL file.

#![expect(clippy::disallowed_methods, reason = "the cache of fetched CRLs is read and written here")]

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::crl_cache_name;
use crate::tls::points::HttpUrl;
use crate::web::http::Validators;

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
}

/// What is cached of this URL; nothing where nothing whole is.
pub(super) fn read(folder: &Path, url: &HttpUrl, octets_max: usize) -> Option<(Vec<u8>, Validators)> {
    let path = path_of(folder, url);
    let octets = bounded(&path, u64::try_from(octets_max).unwrap_or(u64::MAX)).ok()?;
    let about = about(&path.with_extension("json")).filter(|about| about.url == url.to_string());
    Some((octets, about.map(|about| about.validators).unwrap_or_default()))
}

/// The URLs that something is cached of.
pub(super) fn urls(folder: &Path) -> Vec<HttpUrl> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let abouts = files.filter(|path| path.extension().is_some_and(|end| end == "json"));
    abouts.filter_map(|path| HttpUrl::parse(&about(&path)?.url).ok()).collect()
}

/// Keeps a CRL. The versions are written last: a crash in between costs one fetch.
pub(super) fn write(folder: &Path, url: &HttpUrl, octets: &[u8], validators: Validators) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let path = path_of(folder, url);
    let beside = path.with_extension("json");
    // Old versions must not be said of the new CRL.
    match fs::remove_file(&beside) {
        Err(fault) if fault.kind() != io::ErrorKind::NotFound => return Err(fault),
        Ok(()) | Err(_) => {}
    }
    replace(folder, &path, octets)?;
    replace(folder, &beside, &serde_json::to_vec(&About { url: url.to_string(), validators })?)
}

fn path_of(folder: &Path, url: &HttpUrl) -> PathBuf {
    folder.join(crl_cache_name(&url.to_string())).with_extension("crl")
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
        assert!(read(&place, &url, 100).is_none() && urls(&place).is_empty());
        let validators = Validators { etag: Some("\"7\"".to_owned()), modified: None };
        write(&place, &url, b"crl", validators.clone()).unwrap();
        assert_eq!(read(&place, &url, 100), Some((b"crl".to_vec(), validators)));
        assert_eq!(urls(&place), std::slice::from_ref(&url));
        let json = fs::read_dir(&place)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| path.extension().unwrap() == "json");
        fs::write(json.unwrap(), b"{\"url\":").unwrap();
        assert_eq!(read(&place, &url, 100), Some((b"crl".to_vec(), Validators::default())));
    }
}
