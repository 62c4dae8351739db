//! The file of credentials, held against who needs one.

use std::collections::{HashMap, HashSet};

use super::{Checking, Secrecy};
use crate::config::files;
use crate::config::mistake::Remedy;
use crate::config::text::pasteable;
use crate::config::written::Written;
use crate::credentials::{Credentials, file};
use crate::identity::roster::Demand;
use crate::identity::{Roster, SecondFactor};
use crate::mail::Address;

use super::trust::second_factor;

/// Who needs a credential, and what is demanded.
struct Needy<'a> {
    who: Who<'a>,
    /// The key that says so.
    key: String,
    factor: SecondFactor,
}

/// Whose credential it is.
enum Who<'a> {
    /// An identity's; with the CA that asks, where it says nothing of it.
    Identity { name: &'a str, asked_by: Option<&'a str>, is_a_line: bool },
    /// Of all whom the certificates of this CA name themselves.
    OwnNames { ca: &'a str },
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
        // A name that is configured, or may be that of a CA's certificate, is one, whatever it looks like.
        let is_known = |name: &str| {
            let is_written = || written.identity.iter().any(|entry| entry.name.as_deref() == Some(name));
            let is_of_a_ca = || {
                let of = |(ca, rest): (&str, &str)| {
                    written.client_ca.iter().any(|one| one.name.as_deref() == Some(ca)) && Address::parse(rest).is_ok()
                };
                name.split_once(':').is_some_and(of)
            };
            roster.is_some_and(|roster| roster.has(name)) || is_written() || is_of_a_ca()
        };
        match file::read(text, is_known) {
            Err(mistakes) => {
                for mistake in mistakes {
                    self.findings.mistake(key, format!("{name}, line {}: {}", mistake.line, mistake.wrong), ());
                }
                None
            }
            Ok(credentials) => {
                self.warn_of_who_lacks_one(&needy, &credentials);
                self.warn_of_idle_codes(&needy, &credentials);
                // Where the identities are not known, nobody can tell whose is nobody's.
                if roster.is_some() {
                    self.warn_of_idle_ones(&needy, &credentials, name);
                }
                Some(credentials)
            }
        }
    }

    /// A second factor is demanded, and there is no file it could be in.
    fn nobody_can_show_anything(&mut self, needy: &[Needy<'_>]) {
        let told: HashSet<&str> = needy.iter().filter_map(|one| one.who.own_names()).collect();
        // Of whom it is asked by a CA that is told of itself, nothing more is said.
        let is_told = |one: &&Needy<'_>| one.who.asked_by().is_some_and(|ca| told.contains(ca));
        for needy in needy.iter().filter(|one| !is_told(one)).take(NAMED_MAX) {
            let wrong = match needy.who {
                Who::Identity { is_a_line: true, .. } => "a second factor is demanded",
                Who::Identity { .. } | Who::OwnNames { .. } => "is demanded",
            };
            self.findings.mistake(
                &needy.key,
                format!(
                    "{}{wrong}, and there is no file of credentials: nobody could ever show it{}",
                    needy.who.beginning(),
                    needy.who.end()
                ),
                "write file = \"...\" in [credentials]; see `sealpost passwd --help`",
            );
        }
    }

    /// Fails closed: they can't send until there is one, and others are not troubled by it.
    fn warn_of_who_lacks_one(&mut self, needy: &[Needy<'_>], credentials: &Credentials) {
        let lacking = needy.iter().filter_map(|one| Some((one, lack(one, credentials)?)));
        let lacking: Vec<(&Needy<'_>, String)> = lacking.collect();
        for (Needy { key, who, factor }, lacks) in lacking.iter().take(NAMED_MAX) {
            self.findings.warning(key, format!("{}{lacks}{}", who.beginning(), who.end()), remedy(who, *factor));
        }
        if let more @ 1.. = lacking.len().saturating_sub(NAMED_MAX) {
            self.findings.warning("credentials.file", format!("{more} more identities lack a credential"), ());
        }
    }

    /// A code that is never asked for protects nobody, and whoever set it up believes otherwise.
    fn warn_of_idle_codes(&mut self, needy: &[Needy<'_>], credentials: &Credentials) {
        for Needy { key, who, .. } in needy.iter().filter(|one| one.factor == SecondFactor::Password) {
            let mut with_code: Vec<&str> = who
                .credentials(credentials)
                .filter(|known| credentials.of(known).is_some_and(|credential| credential.totp.is_some()))
                .collect();
            with_code.sort_unstable();
            let Some(first) = with_code.first() else { continue };
            let more = match with_code.len() {
                1 => String::new(),
                count => format!(" (and {} more)", count.saturating_sub(1)),
            };
            let wrong = format!("the credential of {first:?}{more} has a secret for codes, and no code is asked for");
            let remedy = "write second_factor = \"totp\", or take the totp=... word out of the file of credentials";
            self.findings.warning(key, wrong, remedy);
        }
    }

    fn warn_of_idle_ones(&mut self, needy: &[Needy<'_>], credentials: &Credentials, file: &str) {
        let names: HashSet<&str> = needy.iter().filter_map(|one| one.who.name()).collect();
        let cas: Vec<&str> = needy.iter().filter_map(|one| one.who.own_names()).collect();
        let asked_for = |known: &str| names.contains(known) || cas.iter().any(|ca| is_below(known, ca));
        let mut idle: Vec<&str> = credentials.names().filter(|known| !asked_for(known)).collect();
        idle.sort_unstable();
        for line in credentials.untold() {
            let wrong = format!(
                "{file}, line {line}: nobody is called what stands first there, which is not told: it may be a credential whose name was forgotten"
            );
            let remedy = "write the name of an identity first, or take the line out where nobody is called so any more";
            self.findings.warning("credentials.file", wrong, remedy);
        }
        for name in idle {
            let wrong = format!("{file}: the credential of {name:?} is never asked for");
            let remedy = "write second_factor = \"password\" for it, or take the line out";
            self.findings.warning("credentials.file", wrong, remedy);
        }
    }
}

/// Whether a certificate of this CA may be called so that names itself.
fn is_below(name: &str, ca: &str) -> bool {
    name.strip_prefix(ca).is_some_and(|rest| rest.starts_with(':'))
}

impl<'a> Who<'a> {
    fn name(&self) -> Option<&'a str> {
        match self {
            Self::Identity { name, .. } => Some(name),
            Self::OwnNames { .. } => None,
        }
    }

    fn own_names(&self) -> Option<&'a str> {
        match self {
            Self::Identity { .. } => None,
            Self::OwnNames { ca } => Some(ca),
        }
    }

    fn asked_by(&self) -> Option<&'a str> {
        match self {
            Self::Identity { asked_by, .. } => *asked_by,
            Self::OwnNames { .. } => None,
        }
    }

    /// Whom a sentence is about, where its key does not say.
    fn beginning(&self) -> String {
        match self {
            Self::Identity { name, is_a_line: true, .. } => format!("{name:?}: "),
            Self::Identity { .. } | Self::OwnNames { .. } => String::new(),
        }
    }

    /// Who asks, where the identity says nothing of it.
    fn end(&self) -> String {
        self.asked_by().map_or_else(String::new, |ca| format!(" (client_ca {ca:?} asks for it)"))
    }

    /// The credentials that are its own, or theirs.
    fn credentials<'c>(&self, credentials: &'c Credentials) -> impl Iterator<Item = &'c str> {
        credentials.names().filter(move |known| match self {
            Self::Identity { name, .. } => known == name,
            Self::OwnNames { ca } => is_below(known, ca),
        })
    }
}

/// What somebody lacks of a credential.
fn lack(Needy { who, factor, .. }: &Needy<'_>, credentials: &Credentials) -> Option<String> {
    let lacks = |name: &str| credentials.means(name, *factor, None).mechanisms().is_empty();
    match who {
        Who::OwnNames { ca } => {
            let (mut lacking, able): (Vec<&str>, Vec<&str>) =
                who.credentials(credentials).partition(|known| lacks(known));
            lacking.sort_unstable();
            match (lacking.first(), able.is_empty()) {
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
            }
        }
        Who::Identity { name, .. } => lacks(name).then(|| {
            let lacks = if credentials.of(name).is_none() {
                "it has no credential"
            } else {
                "its credential does not show that"
            };
            format!("{lacks}: it can't send")
        }),
    }
}

/// Identities by name, and CAs whose certificates name themselves.
fn needy<'a>(written: &'a Written, roster: Option<&'a Roster>) -> Vec<Needy<'a>> {
    let of_tables: HashSet<&str> = written.identity.iter().filter_map(|entry| entry.name.as_deref()).collect();
    let (tables, lines): (Vec<Demand<'_>>, Vec<_>) =
        roster.into_iter().flat_map(Roster::demanding).partition(|demand| of_tables.contains(demand.name));
    let demanded: HashMap<&str, Demand<'_>> = tables.into_iter().map(|demand| (demand.name, demand)).collect();
    let tables = written.identity.iter().enumerate().filter(|(_, entry)| !entry.disabled);
    let tables = tables.filter_map(|(index, entry)| {
        let name = entry.name.as_deref()?;
        // Where it says nothing, its CA does.
        let (factor, asked_by) = match (entry.second_factor, demanded.get(name)) {
            (Some(said), _) => (second_factor(said), None),
            (None, Some(demand)) => (demand.factor, demand.by),
            (None, None) => (SecondFactor::None, None),
        };
        let who = Who::Identity { name, asked_by, is_a_line: false };
        Some(Needy { who, key: format!("identity[{index}].second_factor"), factor })
    });
    let cas = written.client_ca.iter().enumerate().filter(|(_, ca)| ca.send_as_email || ca.send_as_upn);
    let cas = cas.filter_map(|(index, ca)| {
        let who = Who::OwnNames { ca: ca.name.as_deref()? };
        Some(Needy { who, key: format!("client_ca[{index}].second_factor"), factor: second_factor(ca.second_factor) })
    });
    let lines = lines.into_iter().map(|Demand { name, factor, by }| {
        let who = Who::Identity { name, asked_by: by, is_a_line: true };
        Needy { who, key: "identities".to_owned(), factor }
    });
    tables.chain(cas).chain(lines).filter(|one| one.factor != SecondFactor::None).collect()
}

fn remedy(who: &Who<'_>, factor: SecondFactor) -> Remedy {
    let option = if factor == SecondFactor::Totp { "--totp " } else { "" };
    let name = match who {
        Who::Identity { name, .. } => pasteable(name),
        Who::OwnNames { ca } => pasteable(&format!("{ca}:ADDRESS")),
    };
    let dashes = if name.starts_with('-') { "-- " } else { "" };
    format!("put the line of `sealpost passwd {option}{dashes}{name}` into the file of credentials").into()
}
