//! Files of identities: `.toml` with the same tables as the configuration, `.csv` with a line for each (`lines`).

use std::path::Path;

use super::Gathering;
use crate::config::checks::trust::Cas;
use crate::config::checks::{Checking, Secrecy};
use crate::config::mistake::Findings;
use crate::config::origin::Origins;
use crate::config::written::{WrittenIdentities, WrittenServerLimits};
use crate::config::{files, schema, text};

/// Whether a file was named, or found in a directory that was.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Named {
    Itself,
    InDirectory,
}

impl Checking<'_> {
    /// Reads a file, or the `.toml` and `.csv` files of a directory.
    pub(super) fn identity_files(
        &mut self,
        key: &str,
        named: &str,
        cas: &Cas,
        server: &WrittenServerLimits,
        gathering: &mut Gathering,
    ) {
        let path = self.resolve(named);
        self.watched.insert(path.clone());
        match files::files_of(&path) {
            Err(wrong) => self.findings.mistake(key, format!("{}: {wrong}", path.display()), ()),
            Ok(found) => {
                for file in found {
                    let how = if file == path { Named::Itself } else { Named::InDirectory };
                    match file.extension().and_then(|extension| extension.to_str()) {
                        Some("toml") => self.identity_tables(key, named, &file, (cas, server), gathering),
                        Some("csv") => self.identity_lines(key, &file, cas, gathering),
                        // A directory may hold a README, and what editors leave behind.
                        _ if how == Named::InDirectory => {}
                        _ => {
                            let wrong = format!("{}: its name ends in neither .toml nor .csv", file.display());
                            self.findings.mistake(key, wrong, "name the file by what is in it");
                        }
                    }
                }
            }
        }
    }

    fn identity_tables(
        &mut self,
        key: &str,
        named: &str,
        file: &Path,
        (cas, server): (&Cas, &WrittenServerLimits),
        gathering: &mut Gathering,
    ) {
        let Some(contents) = self.read_found(key, named, file) else { return };
        let text = match files::text_of(&contents.octets) {
            Ok(text) => text,
            Err(wrong) => return self.findings.mistake(key, format!("{}: {wrong}", file.display()), ()),
        };
        let of_file = Findings::new(Origins::new(&file.display().to_string(), text));
        let of_configuration = std::mem::replace(&mut self.findings, of_file);
        if let Some(tables) = self.tables_of(text) {
            self.gather(&tables.identity, Some(gathering.files.len()), cas, server, gathering);
        }
        let of_file = std::mem::replace(&mut self.findings, of_configuration);
        gathering.files.push(self.findings.take(of_file));
    }

    fn tables_of(&mut self, text: &str) -> Option<WrittenIdentities> {
        let usable = text::read(text, schema::IDENTITIES, &mut self.findings)?;
        match usable.try_into() {
            Ok(tables) => Some(tables),
            Err(fault) => {
                // What passed the list of keys fits the types; should it not, nobody is to be left without a word.
                self.findings.mistake("", format!("can't be read: {fault}"), ());
                None
            }
        }
    }

    /// Notes a file that was read piece by piece.
    pub(super) fn note_stream(&mut self, key: &str, file: &Path, stream: files::Stream) {
        let digest: String = stream.digest().iter().map(|octet| format!("{octet:02x}")).collect();
        self.digests.insert(format!("{key} {}", file.display()), digest);
    }

    /// Opens a file that is read piece by piece.
    pub(super) fn open_stream(&mut self, key: &str, file: &Path) -> Option<files::Stream> {
        self.watched.insert(file.to_owned());
        match files::stream(file) {
            Err(wrong) => {
                self.findings.mistake(key, format!("{}: {wrong}", file.display()), ());
                None
            }
            Ok((stream, contents)) => {
                self.check_mode(key, file, &contents, Secrecy::Public);
                Some(stream)
            }
        }
    }
}
