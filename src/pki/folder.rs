//! The authority's directory.
//!
//! `ca.pem` is the root, `ca.crl` its list of revoked certificates, `ca.key` its key, which may be taken away and be brought back when it is needed.
//! Below it `issuing.pem`, `issuing.key` and `issuing.crl` are the CA that makes certificates from day to day. A directory without it
//! (quickstart's, and those of the first version) has a root that makes them itself. `NAME.pem`, `NAME.key` and `NAME.p12` are one for each
//! certificate, and `index.toml` knows them all.
//!
//! Each command changes the directory as a whole or not at all ([`super::change`]). Two commands at once wait for each other (a lock on
//! `index.lock`). Never: overwrites a certificate or key; makes a key that others may read.

#![expect(clippy::disallowed_methods, reason = "a directory of files is what this is; only cli and tests use it")]

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rcgen::{KeyPair, SubjectPublicKeyInfo};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use zeroize::Zeroizing;

use super::authority::{Authority, Signed, Validity};
use super::bearer::Bearer;
use super::bundle::{Bundle, pkcs12};
use super::change::{self, Change, Readers};
use super::index::{Entry, Index, Kind, Reason};
use super::key::{KeyKind, Request, acceptable};
use super::{CRL_DAYS, PkiError, ROOT_CRL_DAYS};
use crate::sys::{Entropy, WallTime};

/// An authority's directory, locked for this process.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Who signs what is issued.
    authority: Authority,
    /// The root above it; none, it is the root itself.
    root: Option<CertificateDer<'static>>,
    index: Index,
    /// Held for the sake of the lock; the kernel takes it off when this is closed.
    _lock: File,
}

/// What authority is to be made.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What the root is called.
    pub name: String,
    /// From when to when the root is good.
    pub root: Validity,
    /// The same of the issuing CA; none, the root issues itself.
    pub issuing: Option<Validity>,
}

/// Where the key of a new certificate comes from.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// It is made here.
    New(KeyKind),
    /// Its bearer has it.
    Request(Request),
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
    /// Its key.
    pub key: KeySource,
    /// The PKCS#12 file; none is made for a key that is not here.
    pub bundle: Option<Bundle>,
}

/// What is asked of a renewal.
#[derive(Clone, Debug)]
pub struct Renewal {
    /// From when to when the new certificate is good.
    pub validity: Validity,
    /// The key of the new certificate.
    pub key: RenewedKey,
    /// The PKCS#12 file.
    pub bundle: Option<Bundle>,
    /// When the old certificates are revoked; none, they stay good.
    pub revoke_old: Option<WallTime>,
}

/// The key of a renewed certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenewedKey {
    /// The old one's.
    Same,
    /// A new one of the old one's kind; a key that is its bearer's stays.
    LikeOld,
    /// A new one of this kind.
    New(KeyKind),
}

/// What was made, and where it is.
#[derive(Debug)]
pub struct Made {
    /// The certificate and its entry in the index.
    pub issued: Signed,
    /// The certificate's file; the issuing CA's certificate stands behind it.
    pub certificate: PathBuf,
    /// The key's file, when the key is here.
    pub key: Option<PathBuf>,
    /// The PKCS#12 file.
    pub pkcs12: Option<PathBuf>,
}

/// The key of a certificate to be.
enum Key {
    Held(KeyPair),
    Elsewhere(SubjectPublicKeyInfo),
}

impl Folder {
    /// Makes the directory (mode 0700 when it is new) and in it an authority, with empty CRLs.
    ///
    /// # Errors
    /// [`PkiError::AuthorityExists`] when there is one already; [`PkiError::Unwritten`].
    pub fn create(path: &Path, plan: &Plan, now: WallTime, entropy: &dyn Entropy) -> Result<Self, PkiError> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|fault| unwritten(path, fault))?;
        let lock = lock(path)?;
        for name in ["ca.pem", "index.toml"] {
            if path.join(name).exists() {
                return Err(PkiError::AuthorityExists(path.join(name)));
            }
        }
        let root = Authority::create(&plan.name, plan.root, entropy)?;
        let mut change = Change::default();
        change.write("ca.key", root.key_pem().as_bytes(), Readers::Owner);
        change.write("ca.pem", root.certificate_pem().as_bytes(), Readers::Everyone);
        let mut index = Index::default();
        let (authority, above) = match plan.issuing {
            None => (root, None),
            Some(validity) => {
                let (issuing, entry) =
                    root.create_issuing(&format!("{} Issuing", plan.name), validity, None, entropy)?;
                index.entries.push(Entry { name: ISSUING.to_owned(), ..entry });
                change.write("issuing.key", issuing.key_pem().as_bytes(), Readers::Owner);
                change.write("issuing.pem", issuing.certificate_pem().as_bytes(), Readers::Everyone);
                index.root_crl_number = 1;
                let crl = root.crl(1, Validity::days(now, ROOT_CRL_DAYS), &[])?;
                change.write("ca.crl", crl.as_bytes(), Readers::Everyone);
                let above = root.certificate().clone();
                (issuing, Some(above))
            }
        };
        let mut folder = Self { path: path.to_owned(), authority, root: above, index, _lock: lock };
        folder.write_crl(&mut change, Validity::days(now, CRL_DAYS))?;
        folder.make(&change)?;
        Ok(folder)
    }

    /// Opens the directory of an authority; finishes what a command that was killed had begun.
    ///
    /// # Errors
    /// [`PkiError::NoAuthority`], [`PkiError::File`], [`PkiError::Unwritten`] (its lock), [`PkiError::Index`], [`PkiError::Certificate`].
    pub fn open(path: &Path) -> Result<Self, PkiError> {
        if !path.is_dir() {
            return Err(PkiError::NoAuthority(path.to_owned()));
        }
        let lock = lock(path)?;
        if !path.join("ca.pem").exists() {
            return Err(PkiError::NoAuthority(path.to_owned()));
        }
        let index_path = path.join("index.toml");
        let index: Index = toml::from_str(&read(&index_path)?)
            .map_err(|fault| PkiError::Index { path: index_path, reason: fault.message().to_owned() })?;
        // Not by the file's name: in a directory of the first version a certificate could be called so.
        let (authority, root) = if index.root_crl_number > 0 {
            let root = first_certificate(&path.join("ca.pem"))?;
            (load(&read(&path.join("issuing.pem"))?, &path.join("issuing.key"))?, Some(root))
        } else {
            (load(&read(&path.join("ca.pem"))?, &path.join("ca.key"))?, None)
        };
        Ok(Self { path: path.to_owned(), authority, root, index, _lock: lock })
    }

    /// Who signs what is issued: the issuing CA, or a root that has none.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Whether an issuing CA stands below the root.
    pub fn has_issuing(&self) -> bool {
        self.root.is_some()
    }

    /// What was issued.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Where a file of the directory is.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// What the CRL of whoever issues is called.
    pub fn crl_name(&self) -> &'static str {
        if self.has_issuing() { "issuing.crl" } else { "ca.crl" }
    }

    /// Makes a certificate, with a key unless its bearer has one, and writes their files.
    ///
    /// # Errors
    /// [`PkiError::Exists`] when any of the files is there; those of [`Authority::issue`].
    pub fn issue(&mut self, given: &Given, entropy: &dyn Entropy) -> Result<Made, PkiError> {
        let name = file_name(given.name.as_deref().or_else(|| given.bearer.first_name()).unwrap_or_default())?;
        if let Some(path) = self.files_of(&name).into_iter().map(|file| self.file(&file)).find(|path| path.exists()) {
            return Err(PkiError::Exists(path));
        }
        let key = match &given.key {
            KeySource::New(kind) => Key::Held(kind.generate()?),
            KeySource::Request(request) => Key::Elsewhere(request.key.clone()),
        };
        let mut change = Change::default();
        let made =
            self.put(&mut change, (&name, &given.bearer, given.validity, given.bundle.as_ref()), &key, entropy)?;
        self.write_index(&mut change)?;
        self.make(&change)?;
        Ok(made)
    }

    /// Makes a new certificate for the bearer of an old one, under the same name; the old files are kept as `NAME-SERIAL.*`. The old
    /// certificates stay good until they end or are revoked.
    ///
    /// # Errors
    /// [`PkiError::Unknown`]; those of [`Self::issue`].
    pub fn renew(&mut self, which: &str, renewal: &Renewal, entropy: &dyn Entropy) -> Result<Made, PkiError> {
        let named = self.named(which)?;
        let old = self.index.find(&named).cloned().ok_or_else(|| PkiError::Unknown(which.to_owned()))?;
        let bearer = Bearer::of(&old).ok_or_else(|| PkiError::Unknown(which.to_owned()))?;
        let newest = self.index.entries.iter().rfind(|entry| entry.name == old.name).unwrap_or(&old);
        let is_compromised = newest.revoked.as_ref().is_some_and(|revoked| revoked.reason == Reason::KeyCompromise);
        if matches!(renewal.key, RenewedKey::Same) && is_compromised {
            return Err(PkiError::Compromised(old.name));
        }
        let newest = newest.serial.clone();
        let key = self.key_for(&old.name, renewal.key)?;
        let mut change = Change::default();
        // Mail programs have one; a server never does, as when its certificate was made first.
        let bundle = renewal.bundle.as_ref().filter(|_| !matches!(bearer, Bearer::Server { .. }));
        let wanted = (old.name.as_str(), &bearer, renewal.validity, bundle);
        let made = self.put(&mut change, wanted, &key, entropy)?;
        let new = [Some(&made.certificate), made.key.as_ref(), made.pkcs12.as_ref()];
        for (file, kept) in self.files_of(&old.name).iter().zip(self.files_of(&format!("{}-{newest}", old.name))) {
            let path = self.file(file);
            if new.contains(&Some(&path)) && path.exists() {
                change.keep(file, &kept);
            } else if path.exists() {
                change.put_aside(file, &kept);
            }
        }
        if let Some(now) = renewal.revoke_old {
            let new = &made.issued.entry;
            let old = |entry: &&Entry| entry.name == new.name && entry.serial != new.serial;
            let serials: Vec<String> =
                self.index.entries.iter().filter(old).map(|entry| entry.serial.clone()).collect();
            for serial in serials {
                self.index.revoke(&serial, now, Reason::Superseded);
            }
            self.write_crl(&mut change, Validity::days(now, CRL_DAYS))?;
        } else {
            self.write_index(&mut change)?;
        }
        self.make(&change)?;
        Ok(made)
    }

    /// Makes the issuing CA's certificate anew, for the same key and name, so that what it has signed and its CRL stay good.
    ///
    /// # Errors
    /// [`PkiError::NoIssuing`], [`PkiError::RootKeyAway`], those of [`Authority::create_issuing`].
    pub fn renew_issuing(
        &mut self,
        validity: Validity,
        root_key: Option<&Path>,
        entropy: &dyn Entropy,
    ) -> Result<Entry, PkiError> {
        let root = self.root(root_key)?;
        let key = KeyPair::from_pem(&self.authority.key_pem())?;
        let (issuing, entry) = root.create_issuing(&self.authority.name(), validity, Some(key), entropy)?;
        let entry = Entry { name: ISSUING.to_owned(), ..entry };
        let old =
            self.index.entries.iter().rfind(|entry| entry.kind == Kind::Authority).map(|entry| entry.serial.clone());
        let mut change = Change::default();
        change.keep("issuing.pem", &format!("issuing-{}.pem", old.unwrap_or_default()));
        change.write("issuing.pem", issuing.certificate_pem().as_bytes(), Readers::Everyone);
        self.index.entries.push(entry.clone());
        self.write_index(&mut change)?;
        self.make(&change)?;
        self.authority = issuing;
        Ok(entry)
    }

    /// Those that a name, a serial or a certificate's file stands for and that are not revoked.
    ///
    /// # Errors
    /// [`PkiError::Unknown`], [`PkiError::AlreadyRevoked`].
    pub fn unrevoked(&self, which: &str) -> Result<Vec<Entry>, PkiError> {
        self.index.unrevoked(&self.named(which)?)
    }

    /// Revokes these and makes new CRLs; the root's too when one of them is the issuing CA.
    ///
    /// # Errors
    /// [`PkiError::File`], [`PkiError::RootKeyAway`].
    pub fn revoke(
        &mut self,
        entries: &[Entry],
        reason: Reason,
        now: WallTime,
        root_key: Option<&Path>,
    ) -> Result<(), PkiError> {
        for entry in entries {
            self.index.revoke(&entry.serial, now, reason);
        }
        let mut change = Change::default();
        if entries.iter().any(|entry| entry.kind == Kind::Authority) {
            self.write_root_crl(&mut change, Validity::days(now, ROOT_CRL_DAYS), root_key)?;
        }
        self.write_crl(&mut change, Validity::days(now, CRL_DAYS))?;
        self.make(&change)
    }

    /// Makes a new CRL of whoever issues, with the next number.
    ///
    /// # Errors
    /// [`PkiError::File`], [`PkiError::Certificate`].
    pub fn renew_crl(&mut self, validity: Validity) -> Result<(), PkiError> {
        let mut change = Change::default();
        self.write_crl(&mut change, validity)?;
        self.make(&change)
    }

    /// Makes a new CRL of the root above the issuing CA.
    ///
    /// # Errors
    /// [`PkiError::NoIssuing`], [`PkiError::RootKeyAway`].
    pub fn renew_root_crl(&mut self, validity: Validity, root_key: Option<&Path>) -> Result<(), PkiError> {
        let mut change = Change::default();
        self.write_root_crl(&mut change, validity, root_key)?;
        self.write_index(&mut change)?;
        self.make(&change)
    }

    /// Until when a CRL of the directory is good; `None` when it can't be read.
    pub fn crl_until(&self, name: &str) -> Option<WallTime> {
        use x509_parser::prelude::FromDer as _;
        let der = rustls::pki_types::CertificateRevocationListDer::from_pem_file(self.file(name)).ok()?;
        let (_, list) = x509_parser::revocation_list::CertificateRevocationList::from_der(&der).ok()?;
        Some(WallTime::from_seconds(list.next_update()?.timestamp()))
    }

    /// Signs, and puts the files and the entry into the change.
    fn put(
        &mut self,
        change: &mut Change,
        (name, bearer, validity, bundle): (&str, &Bearer, Validity, Option<&Bundle>),
        key: &Key,
        entropy: &dyn Entropy,
    ) -> Result<Made, PkiError> {
        let issued = match key {
            Key::Held(pair) => self.authority.certify(name, bearer, validity, pair, entropy)?,
            Key::Elsewhere(public) => self.authority.certify(name, bearer, validity, public, entropy)?,
        };
        let [certificate_file, key_file, bundle_file] = self.files_of(name);
        let behind = if self.has_issuing() { self.authority.certificate_pem() } else { "" };
        change.write(&certificate_file, format!("{}{behind}", issued.certificate_pem).as_bytes(), Readers::Everyone);
        let mut made = Made { certificate: self.file(&certificate_file), key: None, pkcs12: None, issued };
        if let Key::Held(pair) = key {
            let pem = Zeroizing::new(pair.serialize_pem());
            change.write(&key_file, pem.as_bytes(), Readers::Owner);
            made.key = Some(self.file(&key_file));
            if let Some(bundle) = bundle {
                let chain: Vec<CertificateDer<'_>> = [&made.issued.certificate, self.authority.certificate()]
                    .into_iter()
                    .chain(&self.root)
                    .map(|one| CertificateDer::from(one.as_ref()))
                    .collect();
                let octets = pkcs12(name, &made.issued.entry.serial, &pem, &chain, bundle)?;
                change.write(&bundle_file, &octets, Readers::Owner);
                made.pkcs12 = Some(self.file(&bundle_file));
            }
        }
        self.index.entries.push(made.issued.entry.clone());
        Ok(made)
    }

    /// The key of a renewed certificate. A key that is not here is its bearer's, and stays.
    fn key_for(&self, name: &str, wanted: RenewedKey) -> Result<Key, PkiError> {
        let [certificate, key, _] = self.files_of(name).map(|file| self.file(&file));
        let public = || {
            let der = first_certificate(&certificate)?;
            let (_, read) = x509_parser::parse_x509_certificate(&der)
                .map_err(|_| PkiError::Certificate(rcgen::Error::CouldNotParseCertificate))?;
            acceptable(read.public_key().raw)
        };
        match wanted {
            RenewedKey::New(kind) => Ok(Key::Held(kind.generate()?)),
            RenewedKey::LikeOld if key.exists() || !certificate.exists() => {
                let kind = if certificate.exists() { KeyKind::of(&public()?) } else { KeyKind::default() };
                Ok(Key::Held(kind.generate()?))
            }
            RenewedKey::Same if key.exists() => Ok(Key::Held(KeyPair::from_pem(&Zeroizing::new(read(&key)?))?)),
            RenewedKey::LikeOld | RenewedKey::Same => Ok(Key::Elsewhere(public()?)),
        }
    }

    /// The serial in a certificate's file, or what was given when it is no file.
    fn named(&self, which: &str) -> Result<String, PkiError> {
        let path = Path::new(which);
        if !path.is_file() {
            return Ok(which.to_owned());
        }
        let der = first_certificate(path)?;
        let (_, read) = x509_parser::parse_x509_certificate(&der)
            .map_err(|_| PkiError::Certificate(rcgen::Error::CouldNotParseCertificate))?;
        Ok(super::authority::hex(read.raw_serial()))
    }

    fn root(&self, key: Option<&Path>) -> Result<Authority, PkiError> {
        if !self.has_issuing() {
            return Err(PkiError::NoIssuing);
        }
        let key = key.map_or_else(|| self.file("ca.key"), Path::to_owned);
        if !key.exists() {
            return Err(PkiError::RootKeyAway(key));
        }
        load(&read(&self.file("ca.pem"))?, &key)
    }

    fn write_root_crl(&mut self, change: &mut Change, validity: Validity, key: Option<&Path>) -> Result<(), PkiError> {
        let root = self.root(key)?;
        self.index.root_crl_number += 1;
        let own: Vec<Entry> =
            self.index.entries.iter().filter(|entry| entry.kind == Kind::Authority).cloned().collect();
        let crl = root.crl(self.index.root_crl_number, validity, &own)?;
        change.write("ca.crl", crl.as_bytes(), Readers::Everyone);
        Ok(())
    }

    /// The CRL of whoever issues, and the index with its number.
    fn write_crl(&mut self, change: &mut Change, validity: Validity) -> Result<(), PkiError> {
        self.index.crl_number += 1;
        let issued: Vec<Entry> =
            self.index.entries.iter().filter(|entry| entry.kind != Kind::Authority).cloned().collect();
        let crl = self.authority.crl(self.index.crl_number, validity, &issued)?;
        change.write(self.crl_name(), crl.as_bytes(), Readers::Everyone);
        self.write_index(change)
    }

    fn write_index(&self, change: &mut Change) -> Result<(), PkiError> {
        let text = toml::to_string(&self.index)
            .map_err(|fault| PkiError::Index { path: self.file("index.toml"), reason: fault.to_string() })?;
        change.write("index.toml", text.as_bytes(), Readers::Everyone);
        Ok(())
    }

    fn make(&self, change: &Change) -> Result<(), PkiError> {
        change.make(&self.path)
    }

    fn files_of(&self, name: &str) -> [String; 3] {
        ["pem", "key", "p12"].map(|ending| format!("{name}.{ending}"))
    }
}

/// What the issuing CA is called in the index and on the command line.
pub(super) const ISSUING: &str = "issuing";
/// What the CAs' own files are called; a certificate may not be called so.
const RESERVED: [&str; 4] = ["ca", "index", ISSUING, "change"];

/// A name that is safe as a file's: letters, digits, and `@.-_+`; what else stands in it becomes `_`.
fn file_name(name: &str) -> Result<String, PkiError> {
    let safe = |letter: char| if letter.is_ascii_alphanumeric() || "@.-_+".contains(letter) { letter } else { '_' };
    let text: String = name.chars().map(safe).collect();
    if text.is_empty() || text.starts_with(['.', '-']) || RESERVED.contains(&text.as_str()) {
        return Err(PkiError::Name { name: name.to_owned(), what: "name for files" });
    }
    Ok(text)
}

/// Waits until nobody else works here, and finishes what a killed command left.
fn lock(path: &Path) -> Result<File, PkiError> {
    let lock = path.join("index.lock");
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&lock)
        .map_err(|fault| unwritten(&lock, fault))?;
    file.lock().map_err(|fault| unwritten(&lock, fault))?;
    change::recover(path)?;
    Ok(file)
}

fn load(certificate: &str, key: &Path) -> Result<Authority, PkiError> {
    let text = Zeroizing::new(read(key)?);
    Authority::load(certificate, &text)
}

fn first_certificate(path: &Path) -> Result<CertificateDer<'static>, PkiError> {
    CertificateDer::from_pem_file(path).map_err(|fault| PkiError::File {
        path: path.to_owned(),
        fault: std::io::Error::other(format!("no certificate can be read from it: {fault}")),
    })
}

fn read(path: &Path) -> Result<String, PkiError> {
    std::fs::read_to_string(path).map_err(|fault| file_fault(path, fault))
}

fn unwritten(path: &Path, fault: std::io::Error) -> PkiError {
    PkiError::Unwritten { path: path.to_owned(), fault }
}

fn file_fault(path: &Path, fault: std::io::Error) -> PkiError {
    PkiError::File { path: path.to_owned(), fault }
}
