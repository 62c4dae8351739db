//! The authority's directory: `ca.pem`, `ca.key`, `ca.crl`, `index.toml`, and `NAME.pem`, `NAME.key`, `NAME.p12` for each certificate.
//!
//! The index is written before the certificate's files, so that nothing is in use which the index does not know; `ca.crl` and `index.toml`
//! are replaced whole (written beside, synced, renamed). Two commands at once wait for each other (a lock on `index.lock`).
//! Never: overwrites a certificate or key; makes a key that others may read.

#![expect(clippy::disallowed_methods, reason = "a directory of files is what this is; only cli and tests use it")]

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::authority::{Authority, Bearer, Issued, Validity, pkcs12};
use super::index::{Index, Reason};
use super::{CRL_DAYS, PkiError};
use crate::sys::{Entropy, WallTime};

/// Who may read what is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readers {
    Owner,
    Everyone,
}

/// An authority's directory, locked for this process.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    authority: Authority,
    index: Index,
    /// Held for the sake of the lock; the kernel takes it off when this is closed.
    _lock: File,
}

/// What is asked of a new certificate.
#[derive(Clone, Debug)]
pub struct Given {
    /// What its files are called; from the bearer's first name when nothing is said.
    pub name: Option<String>,
    /// Who it is for.
    pub bearer: Bearer,
    /// From when to when it is good.
    pub validity: Validity,
    /// The password of the PKCS#12 file; none, no file.
    pub password: Option<String>,
}

/// What was made, and where it is.
#[derive(Debug)]
pub struct Made {
    /// The certificate and its entry in the index.
    pub issued: Issued,
    /// The certificate's file.
    pub certificate: PathBuf,
    /// The key's file.
    pub key: PathBuf,
    /// The PKCS#12 file.
    pub pkcs12: Option<PathBuf>,
}

impl Folder {
    /// Makes the directory (mode 0700 when it is new) and in it an authority of this name, with an empty CRL.
    ///
    /// # Errors
    /// [`PkiError::Exists`] when there is one already; [`PkiError::File`].
    pub fn create(
        path: &Path,
        name: &str,
        validity: Validity,
        now: WallTime,
        entropy: &dyn Entropy,
    ) -> Result<Self, PkiError> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|fault| file_fault(path, fault))?;
        let lock = lock(path)?;
        let (certificate, key) = (path.join("ca.pem"), path.join("ca.key"));
        refuse_if_any_exists(&[&certificate, &key])?;
        let authority = Authority::create(name, validity, entropy)?;
        write_new(&key, authority.key_pem().as_bytes(), Readers::Owner)?;
        write_new(&certificate, authority.certificate_pem().as_bytes(), Readers::Everyone)?;
        let mut folder = Self { path: path.to_owned(), authority, index: Index::default(), _lock: lock };
        folder.renew_crl(Validity::days(now, CRL_DAYS))?;
        Ok(folder)
    }

    /// Opens the directory of an authority.
    ///
    /// # Errors
    /// [`PkiError::NoAuthority`], [`PkiError::File`], [`PkiError::Index`], [`PkiError::Certificate`].
    pub fn open(path: &Path) -> Result<Self, PkiError> {
        let certificate = path.join("ca.pem");
        if !certificate.exists() {
            return Err(PkiError::NoAuthority(path.to_owned()));
        }
        let lock = lock(path)?;
        let key = zeroize::Zeroizing::new(read(&path.join("ca.key"))?);
        let authority = Authority::load(&read(&certificate)?, &key)?;
        let index_path = path.join("index.toml");
        let index = toml::from_str(&read(&index_path)?)
            .map_err(|fault| PkiError::Index { path: index_path, reason: fault.message().to_owned() })?;
        Ok(Self { path: path.to_owned(), authority, index, _lock: lock })
    }

    /// The authority.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// What was issued.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Where a file of the directory is.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes a key and a certificate, and writes their files.
    ///
    /// # Errors
    /// [`PkiError::Exists`] when any of the files is there; those of [`Authority::issue`].
    pub fn issue(&mut self, given: &Given, entropy: &dyn Entropy) -> Result<Made, PkiError> {
        let name = file_name(given.name.as_deref().or_else(|| given.bearer.first_name()).unwrap_or_default())?;
        let [certificate, key, bundle] = self.files_of(&name);
        refuse_if_any_exists(&[&certificate, &key, &bundle])?;
        let issued = self.authority.issue(&name, &given.bearer, given.validity, entropy)?;
        let bundled =
            given.password.as_deref().map(|password| pkcs12(&issued, &self.authority, password)).transpose()?;
        self.index.entries.push(issued.entry.clone());
        self.write_index()?;
        write_new(&key, issued.key_pem.as_bytes(), Readers::Owner)?;
        write_new(&certificate, issued.certificate_pem.as_bytes(), Readers::Everyone)?;
        let pkcs12 = match bundled {
            Some(octets) => write_new(&bundle, &octets, Readers::Owner).map(|()| Some(bundle))?,
            None => None,
        };
        Ok(Made { issued, certificate, key, pkcs12 })
    }

    /// Makes a new key and certificate for the bearer of an old one, under the same name; the old files are kept as `NAME-SERIAL.*`. The old
    /// certificate stays good until it ends or is revoked.
    ///
    /// # Errors
    /// [`PkiError::Unknown`]; those of [`Self::issue`].
    pub fn renew(
        &mut self,
        which: &str,
        validity: Validity,
        password: Option<String>,
        entropy: &dyn Entropy,
    ) -> Result<Made, PkiError> {
        let old = self.index.find(which).cloned().ok_or_else(|| PkiError::Unknown(which.to_owned()))?;
        let given = Given { name: Some(old.name.clone()), bearer: Bearer::of(&old), validity, password };
        // What would fail is tried before the old files are moved out of the way.
        self.authority.issue(&old.name, &given.bearer, validity, entropy)?;
        let newest = self.index.find(&old.name).map_or(old.serial.clone(), |entry| entry.serial.clone());
        let kept = self.files_of(&format!("{}-{newest}", old.name));
        for (from, to) in self.files_of(&old.name).iter().zip(&kept) {
            if from.exists() {
                refuse_if_any_exists(&[to])?;
                std::fs::rename(from, to).map_err(|fault| file_fault(from, fault))?;
            }
        }
        self.issue(&given, entropy)
    }

    /// Revokes the certificate of this name or serial and makes a new CRL.
    ///
    /// # Errors
    /// [`PkiError::Unknown`], [`PkiError::AlreadyRevoked`], [`PkiError::File`].
    pub fn revoke(&mut self, which: &str, reason: Reason, now: WallTime, crl: Validity) -> Result<(), PkiError> {
        self.index.revoke(which, now, reason)?;
        self.renew_crl(crl)
    }

    /// Makes a new CRL with the next number.
    ///
    /// # Errors
    /// [`PkiError::File`], [`PkiError::Certificate`].
    pub fn renew_crl(&mut self, validity: Validity) -> Result<(), PkiError> {
        self.index.crl_number += 1;
        let crl = self.authority.crl(self.index.crl_number, validity, &self.index.entries)?;
        self.write_index()?;
        replace(&self.path.join("ca.crl"), crl.as_bytes())
    }

    fn files_of(&self, name: &str) -> [PathBuf; 3] {
        ["pem", "key", "p12"].map(|ending| self.path.join(format!("{name}.{ending}")))
    }

    fn write_index(&self) -> Result<(), PkiError> {
        let path = self.path.join("index.toml");
        let text = toml::to_string(&self.index)
            .map_err(|fault| PkiError::Index { path: path.clone(), reason: fault.to_string() })?;
        replace(&path, text.as_bytes())
    }
}

/// What the CA's own files are called; a certificate may not be called so.
const RESERVED: [&str; 2] = ["ca", "index"];

/// A name that is safe as a file's: letters, digits, and `@.-_+`; what else stands in it becomes `_`.
fn file_name(name: &str) -> Result<String, PkiError> {
    let safe = |letter: char| if letter.is_ascii_alphanumeric() || "@.-_+".contains(letter) { letter } else { '_' };
    let text: String = name.chars().map(safe).collect();
    if text.is_empty() || text.starts_with(['.', '-']) || RESERVED.contains(&text.as_str()) {
        return Err(PkiError::Name { name: name.to_owned(), what: "name for files" });
    }
    Ok(text)
}

fn lock(path: &Path) -> Result<File, PkiError> {
    let path = path.join("index.lock");
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&path)
        .map_err(|fault| file_fault(&path, fault))?;
    file.lock().map_err(|fault| file_fault(&path, fault))?;
    Ok(file)
}

fn refuse_if_any_exists(paths: &[&PathBuf]) -> Result<(), PkiError> {
    match paths.iter().find(|path| path.exists()) {
        Some(path) => Err(PkiError::Exists((*path).clone())),
        None => Ok(()),
    }
}

/// A new file; an old one is never opened for writing (`O_EXCL`), and the mode holds from the first moment.
fn write_new(path: &Path, octets: &[u8], readers: Readers) -> Result<(), PkiError> {
    let mode = match readers {
        Readers::Owner => 0o600,
        Readers::Everyone => 0o644,
    };
    let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = opened.map_err(|fault| {
        let exists = fault.kind() == std::io::ErrorKind::AlreadyExists;
        if exists { PkiError::Exists(path.to_owned()) } else { file_fault(path, fault) }
    })?;
    file.write_all(octets).and_then(|()| file.sync_all()).map_err(|fault| file_fault(path, fault))
}

/// Puts a file in the place of another, whole or not at all.
fn replace(path: &Path, octets: &[u8]) -> Result<(), PkiError> {
    let beside = path.with_extension("new");
    if beside.exists() {
        // Left by a command that was killed half-way.
        std::fs::remove_file(&beside).map_err(|fault| file_fault(&beside, fault))?;
    }
    write_new(&beside, octets, Readers::Everyone)?;
    std::fs::rename(&beside, path).map_err(|fault| file_fault(path, fault))
}

fn read(path: &Path) -> Result<String, PkiError> {
    std::fs::read_to_string(path).map_err(|fault| file_fault(path, fault))
}

fn file_fault(path: &Path, fault: std::io::Error) -> PkiError {
    PkiError::File { path: path.to_owned(), fault }
}
