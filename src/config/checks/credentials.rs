//! The file of credentials, held against who needs one.

use super::{Checking, Secrecy};
use crate::config::mistake::Remedy;
use crate::config::written::{Written, WrittenSecondFactor};
use crate::credentials::{Credentials, Mechanism, file};
use crate::identity::SecondFactor;

use super::trust::second_factor;

/// Who needs a credential: the key that says so, the name, and what is demanded.
struct Needy {
    key: String,
    name: String,
    factor: WrittenSecondFactor,
}

impl Checking<'_> {
    /// The credentials; `None` when there is a mistake in their file.
    pub(super) fn credentials_file(&mut self, written: &Written) -> Option<Credentials> {
        let Some(name) = &written.credentials.file else {
            self.nobody_can_show_anything(written);
            return Some(Credentials::default());
        };
        let key = "credentials.file";
        let contents = self.read(key, name, Secrecy::Private)?;
        let Ok(text) = std::str::from_utf8(&contents.octets) else {
            self.findings.mistake(key, format!("{name}: is not UTF-8"), ());
            return None;
        };
        match file::read(text) {
            Err(mistakes) => {
                for mistake in mistakes {
                    self.findings.mistake(key, format!("{name}, line {}: {}", mistake.line, mistake.wrong), ());
                }
                None
            }
            Ok(credentials) => {
                self.warn_of_who_lacks_one(written, &credentials);
                self.warn_of_idle_ones(written, &credentials, name);
                Some(credentials)
            }
        }
    }

    /// A second factor is demanded, and there is no file it could be in.
    fn nobody_can_show_anything(&mut self, written: &Written) {
        for needy in needy(written) {
            let wrong = "is demanded, and there is no file of credentials: nobody could ever show it";
            self.findings.mistake(
                &needy.key,
                wrong,
                "write file = \"...\" in [credentials]; see `sealpost passwd --help`",
            );
        }
    }

    /// Fails closed: they can't send until there is one, and others are not troubled by it.
    fn warn_of_who_lacks_one(&mut self, written: &Written, credentials: &Credentials) {
        for Needy { key, name, factor } in needy(written) {
            let remedy = remedy(&name, factor);
            if let Some(ca) = name.strip_suffix(':') {
                if !credentials.names().any(|known| known.starts_with(&name)) {
                    let wrong = format!("no credential begins with \"{ca}:\": nobody can send by it");
                    self.findings.warning(&key, wrong, remedy);
                }
                continue;
            }
            let usable = credentials.means(&name, second_factor(factor), None);
            if usable.mechanisms() == [Mechanism::External] {
                let lacks = if credentials.of(&name).is_none() {
                    "it has no credential"
                } else {
                    "its credential does not show that"
                };
                self.findings.warning(&key, format!("{lacks}: it can't send"), remedy);
            }
        }
    }

    fn warn_of_idle_ones(&mut self, written: &Written, credentials: &Credentials, file: &str) {
        let needy = needy(written);
        let mut idle: Vec<&str> = credentials
            .names()
            .filter(|known| {
                !needy.iter().any(|one| one.name == *known || (one.name.ends_with(':') && known.starts_with(&one.name)))
            })
            .collect();
        idle.sort_unstable();
        for name in idle {
            let wrong = format!("{file}: the credential of {name:?} is never asked for");
            let remedy = "write second_factor = \"password\" for it, or take the line out";
            self.findings.warning("credentials.file", wrong, remedy);
        }
    }
}

/// Identities by name; of a CA whose certificates name themselves, what all their names begin with.
fn needy(written: &Written) -> Vec<Needy> {
    let identities = written.identity.iter().enumerate().filter(|(_, entry)| !entry.disabled);
    let identities = identities.filter_map(|(index, entry)| {
        let key = format!("identity[{index}].second_factor");
        Some(Needy { key, name: entry.name.clone()?, factor: entry.second_factor })
    });
    let cas = written.client_ca.iter().enumerate().filter(|(_, ca)| ca.send_as_email);
    let cas = cas.filter_map(|(index, ca)| {
        let key = format!("client_ca[{index}].second_factor");
        Some(Needy { key, name: format!("{}:", ca.name.as_ref()?), factor: ca.second_factor })
    });
    identities.chain(cas).filter(|one| one.factor != WrittenSecondFactor::None).collect()
}

fn remedy(name: &str, factor: WrittenSecondFactor) -> Remedy {
    let option = if second_factor(factor) == SecondFactor::Totp { "--totp " } else { "" };
    let name = name.strip_suffix(':').map_or_else(|| name.to_owned(), |ca| format!("{ca}:ADDRESS"));
    format!("put the line of `sealpost passwd {option}{name}` into the file of credentials").into()
}
