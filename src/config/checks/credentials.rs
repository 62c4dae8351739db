//! The file of credentials, held against who needs one.

use std::collections::{HashMap, HashSet};

use super::{Checking, Secrecy};
use crate::config::files;
use crate::config::mistake::Remedy;
use crate::config::written::Written;
use crate::credentials::{Credentials, file};
use crate::identity::{Roster, SecondFactor};

use super::trust::second_factor;

/// Who needs a credential: the key that says so, the name, and what is demanded.
struct Needy {
    key: String,
    name: String,
    factor: SecondFactor,
    /// Perhaps by its CA.
    is_said_elsewhere: bool,
}

/// How many identities of one file without a credential are named; a list of a million may have a million.
const NAMED_MAX: usize = 20;

impl Checking<'_> {
    /// The credentials; `None` when there is a mistake in their file.
    pub(super) fn credentials_file(&mut self, written: &Written, roster: Option<&Roster>) -> Option<Credentials> {
        let needy = needy(written, roster);
        let Some(name) = &written.credentials.file else {
            self.nobody_can_show_anything(&needy);
            return Some(Credentials::default());
        };
        let key = "credentials.file";
        let contents = self.read(key, name, Secrecy::Private)?;
        let text = match files::text_of(&contents.octets) {
            Ok(text) => text,
            Err(wrong) => {
                self.findings.mistake(key, format!("{name}: {wrong}"), ());
                return None;
            }
        };
        match file::read(text) {
            Err(mistakes) => {
                for mistake in mistakes {
                    self.findings.mistake(key, format!("{name}, line {}: {}", mistake.line, mistake.wrong), ());
                }
                None
            }
            Ok(credentials) => {
                self.warn_of_who_lacks_one(&needy, &credentials);
                self.warn_of_idle_codes(&needy, &credentials);
                self.warn_of_idle_ones(&needy, &credentials, name);
                Some(credentials)
            }
        }
    }

    /// A second factor is demanded, and there is no file it could be in.
    fn nobody_can_show_anything(&mut self, needy: &[Needy]) {
        // Who has it of a CA is not told beside the CA.
        let is_of_a_ca = needy.iter().any(|one| one.name.ends_with(':'));
        for needy in needy.iter().filter(|one| !(is_of_a_ca && one.is_said_elsewhere)).take(NAMED_MAX) {
            let wrong = "is demanded, and there is no file of credentials: nobody could ever show it";
            self.findings.mistake(
                &needy.key,
                wrong,
                "write file = \"...\" in [credentials]; see `sealpost passwd --help`",
            );
        }
    }

    /// Fails closed: they can't send until there is one, and others are not troubled by it.
    fn warn_of_who_lacks_one(&mut self, needy: &[Needy], credentials: &Credentials) {
        let lacking = needy.iter().filter_map(|one| Some((one, lack(one, credentials)?)));
        let lacking: Vec<(&Needy, String)> = lacking.collect();
        for (Needy { key, name, factor, .. }, lacks) in lacking.iter().take(NAMED_MAX) {
            let lacks = if key == "identities" { format!("{name:?}: {lacks}") } else { lacks.clone() };
            self.findings.warning(key, lacks, remedy(name, *factor));
        }
        if let more @ 1.. = lacking.len().saturating_sub(NAMED_MAX) {
            self.findings.warning("credentials.file", format!("{more} more identities lack a credential"), ());
        }
    }

    /// A code that is never asked for protects nobody, and whoever set it up believes otherwise.
    fn warn_of_idle_codes(&mut self, needy: &[Needy], credentials: &Credentials) {
        for Needy { key, name, .. } in needy.iter().filter(|one| one.factor == SecondFactor::Password) {
            let mut with_code: Vec<&str> = below(name, credentials)
                .filter(|known| credentials.of(known).is_some_and(|credential| credential.totp.is_some()))
                .collect();
            with_code.sort_unstable();
            let Some(first) = with_code.first() else { continue };
            let more = match with_code.len() {
                1 => String::new(),
                count => format!(" (and {} more)", count.saturating_sub(1)),
            };
            let wrong = format!("the credential of {first:?}{more} has a secret for codes, and no code is asked for");
            let remedy = "write second_factor = \"totp\", or take the totp:... word out of the file of credentials";
            self.findings.warning(key, wrong, remedy);
        }
    }

    fn warn_of_idle_ones(&mut self, needy: &[Needy], credentials: &Credentials, file: &str) {
        let (beginnings, names): (Vec<_>, Vec<_>) =
            needy.iter().map(|one| one.name.as_str()).partition(|name| name.ends_with(':'));
        let names: HashSet<&str> = names.into_iter().collect();
        let asked_for =
            |known: &str| names.contains(known) || beginnings.iter().any(|beginning| known.starts_with(beginning));
        let mut idle: Vec<&str> = credentials.names().filter(|known| !asked_for(known)).collect();
        idle.sort_unstable();
        for name in idle {
            let wrong = format!("{file}: the credential of {name:?} is never asked for");
            let remedy = "write second_factor = \"password\" for it, or take the line out";
            self.findings.warning("credentials.file", wrong, remedy);
        }
    }
}

/// The credentials of a name; of what names of a CA begin with, all that begin so.
fn below<'c>(name: &'c str, credentials: &'c Credentials) -> impl Iterator<Item = &'c str> {
    credentials.names().filter(move |known| if name.ends_with(':') { known.starts_with(name) } else { *known == name })
}

/// What somebody lacks of a credential.
fn lack(Needy { name, factor, .. }: &Needy, credentials: &Credentials) -> Option<String> {
    let lacks = |name: &str| credentials.means(name, *factor, None).mechanisms().is_empty();
    if let Some(ca) = name.strip_suffix(':') {
        let (mut lacking, able): (Vec<&str>, Vec<&str>) = below(name, credentials).partition(|known| lacks(known));
        lacking.sort_unstable();
        return match (lacking.first(), able.is_empty()) {
            (None, true) => Some(format!("no credential begins with \"{ca}:\": nobody can send by it")),
            (Some(_), true) => {
                Some(format!("no credential that begins with \"{ca}:\" shows that: nobody can send by it"))
            }
            (Some(first), false) => {
                let count = lacking.len();
                Some(format!(
                    "of the credentials that begin with \"{ca}:\", {count} do not show that, like {first:?}: these can't send"
                ))
            }
            (None, false) => None,
        };
    }
    lacks(name).then(|| {
        let lacks =
            if credentials.of(name).is_none() { "it has no credential" } else { "its credential does not show that" };
        format!("{lacks}: it can't send")
    })
}

/// Identities by name; of a CA whose certificates name themselves, what all their names begin with.
fn needy(written: &Written, roster: Option<&Roster>) -> Vec<Needy> {
    let of_tables: HashSet<&str> = written.identity.iter().filter_map(|entry| entry.name.as_deref()).collect();
    let (demanded, others): (HashMap<&str, SecondFactor>, Vec<_>) = {
        let all = roster.into_iter().flat_map(Roster::demanding);
        let (tables, others): (Vec<_>, Vec<_>) = all.partition(|(name, _)| of_tables.contains(name));
        (tables.into_iter().collect(), others)
    };
    let tables = written.identity.iter().enumerate().filter(|(_, entry)| !entry.disabled);
    let tables = tables.filter_map(|(index, entry)| {
        let key = format!("identity[{index}].second_factor");
        let name = entry.name.clone()?;
        // Where it says nothing, its CA does.
        let factor = entry.second_factor.map(second_factor).or_else(|| demanded.get(name.as_str()).copied());
        let is_said_elsewhere = entry.second_factor.is_none();
        Some(Needy { key, name, factor: factor.unwrap_or(SecondFactor::None), is_said_elsewhere })
    });
    let cas = written.client_ca.iter().enumerate().filter(|(_, ca)| ca.send_as_email || ca.send_as_upn);
    let cas = cas.filter_map(|(index, ca)| {
        let key = format!("client_ca[{index}].second_factor");
        Some(Needy {
            key,
            name: format!("{}:", ca.name.as_ref()?),
            factor: second_factor(ca.second_factor),
            is_said_elsewhere: false,
        })
    });
    let others = others.into_iter();
    let others = others.map(|(name, factor)| Needy {
        key: "identities".to_owned(),
        name: name.to_owned(),
        factor,
        is_said_elsewhere: true,
    });
    tables.chain(cas).chain(others).filter(|one| one.factor != SecondFactor::None).collect()
}

fn remedy(name: &str, factor: SecondFactor) -> Remedy {
    let option = if factor == SecondFactor::Totp { "--totp " } else { "" };
    let name = name.strip_suffix(':').map_or_else(|| name.to_owned(), |ca| format!("{ca}:ADDRESS"));
    format!("put the line of `sealpost passwd {option}{name}` into the file of credentials").into()
}
