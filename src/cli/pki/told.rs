//! What `sealpost pki` says of what it did, and what it warns of.

use std::fmt::Write as _;

use crate::cli::output;
use crate::pki::{Entry, Folder, Kind, Made, Reason};
use crate::sys::WallTime;

/// A root's CRL or a CA that ends within so many days is warned of, with every command.
const WARNING_DAYS: i64 = 60;

/// A directory just made.
pub(super) fn init(folder: &Folder) -> String {
    let shown = |name: &str| folder.file(name).display().to_string();
    let mut text =
        format!("root          {}, its CRL {}\nroot's key    {}\n", shown("ca.pem"), shown("ca.crl"), shown("ca.key"));
    if folder.has_issuing() {
        let _ = write!(
            text,
            "issuing CA    {}, its CRL {}\nits key       {} (keep it; who has it can make certificates)\n\n\
             Now take the root's key offline: move {} to a medium that lies in a safe. It is needed once a year, for\n\
             `sealpost pki crl --root-key FILE`, and to renew or revoke the issuing CA.\n",
            shown("issuing.pem"),
            shown("issuing.crl"),
            shown("issuing.key"),
            shown("ca.key"),
        );
    } else {
        text += "              (keep it; who has it can make any certificate)\n";
    }
    text += "\nFor the configuration, with these files copied to the relay:\n\n[[client_ca]]\nname = \"staff\"\n";
    let _ = writeln!(text, "certificates = {:?}", shown("ca.pem"));
    if folder.has_issuing() {
        let _ = writeln!(text, "intermediates = {:?}", shown("issuing.pem"));
        let _ = writeln!(text, "crls = [{:?}, {:?}]", shown("ca.crl"), shown("issuing.crl"));
    } else {
        let _ = writeln!(text, "crls = [{:?}]", shown("ca.crl"));
    }
    text += "revocation = \"require\"\ndomains = [\"example.com\"]    # what its certificates may speak for\n\
             send_as_email = true         # each may send as the addresses in it\nsend_to = [\"*\"]\n";
    text
}

/// A certificate just made.
pub(super) fn made(made: &Made, password: Option<&str>) -> String {
    let entry = &made.issued.entry;
    let mut text = format!("certificate {}\n", made.certificate.display());
    match &made.key {
        Some(key) => {
            let _ = writeln!(text, "key         {}", key.display());
        }
        None => text += "key         with whoever asked\n",
    }
    if let Some(bundle) = &made.pkcs12 {
        let _ = writeln!(text, "PKCS#12     {}", bundle.display());
    }
    if let Some(password) = password {
        let _ = writeln!(text, "password    {password} (of the PKCS#12 file; it is kept nowhere)");
    }
    let _ = writeln!(
        text,
        "for         {}\nserial      {}\ngood until  {}",
        entry.names.join(", "),
        entry.serial,
        entry.until
    );
    text
}

/// That who is given a new certificate had the last one revoked, and not because another took its place.
pub(super) fn was_revoked(folder: &Folder, which: &str) -> String {
    let entries = &folder.index().entries;
    let newest = folder.index().find(which).and_then(|found| entries.iter().rfind(|entry| entry.name == found.name));
    let revoked = newest.and_then(|entry| Some((entry, entry.revoked.as_ref()?)));
    revoked.filter(|(_, revoked)| revoked.reason != Reason::Superseded).map_or_else(String::new, |(entry, revoked)| {
        format!(
            "remark      the last certificate of {0}, {1}, was revoked on {2}; this one is good. If {0} is not to have one: `sealpost pki revoke {0}`\n",
            entry.name, entry.serial, revoked.at
        )
    })
}

/// The issuing CA's new certificate.
pub(super) fn renewed_issuing(folder: &Folder, entry: &Entry) -> String {
    format!(
        "issuing CA    {}\nserial        {}\ngood until    {}\n\
         Its key is the old one, and what it has signed stays good. Copy {} to the relay's `intermediates` and reload it.\n",
        folder.file("issuing.pem").display(),
        entry.serial,
        entry.until,
        folder.file("issuing.pem").display(),
    )
}

/// What was revoked.
pub(super) fn revoked(entries: &[Entry]) -> String {
    entries.iter().fold(String::new(), |mut text, entry| {
        let _ = writeln!(text, "revoked     {} {} ({})", entry.name, entry.serial, entry.names.join(", "));
        text
    })
}

/// A new CRL of whoever issues.
pub(super) fn crl(folder: &Folder) -> String {
    let file = folder.file(folder.crl_name());
    let until = folder.crl_until(folder.crl_name()).map_or_else(String::new, WallTime::rfc3339);
    format!(
        "CRL         {} number {}, good until {until}; copy it to the relay, which notices by itself\n",
        file.display(),
        folder.index().crl_number
    )
}

/// A new CRL of the root.
pub(super) fn root_crl(folder: &Folder) -> String {
    let until = folder.crl_until("ca.crl").map_or_else(String::new, WallTime::rfc3339);
    format!(
        "root's CRL  {} number {}, good until {until}; copy it too\n",
        folder.file("ca.crl").display(),
        folder.index().root_crl_number
    )
}

/// What ends soon and takes everything with it.
pub(super) fn warnings(folder: &Folder, now: WallTime) -> String {
    let mut text = String::new();
    if folder.has_issuing()
        && let Some(left) = folder.crl_until("ca.crl").map(|until| days(until, now)).filter(|left| *left < WARNING_DAYS)
    {
        let _ = writeln!(
            text,
            "warning     {} {}: bring the root's key, `sealpost pki crl --root-key FILE`; a relay that requires CRLs refuses everybody without it",
            folder.file("ca.crl").display(),
            left_in_words(left)
        );
    }
    let left = days(folder.authority().until(), now);
    if left < WARNING_DAYS {
        let remedy =
            if folder.has_issuing() { "`sealpost pki renew issuing`" } else { "make another in another directory" };
        let _ = writeln!(text, "warning     the CA that issues {}: {remedy}", left_in_words(left));
    }
    text
}

/// When the CAs and their CRLs end: the last lines of a list.
pub(super) fn ends(folder: &Folder, now: WallTime) -> String {
    let mut text = String::from("\n");
    let _ = writeln!(text, "the CA that issues {}", left_in_words(days(folder.authority().until(), now)));
    let mut lists = vec![folder.crl_name()];
    if folder.has_issuing() {
        lists.push("ca.crl");
    }
    for name in lists {
        let left =
            folder.crl_until(name).map_or_else(|| "can't be read".to_owned(), |until| left_in_words(days(until, now)));
        let _ = writeln!(text, "{name} {left}");
    }
    text
}

fn days(until: WallTime, now: WallTime) -> i64 {
    (until.seconds() - now.seconds()).div_euclid(86_400)
}

fn left_in_words(days: i64) -> String {
    if days < 0 { "has ended".to_owned() } else { format!("ends in {}", output::counted(days, "day")) }
}

/// Those that are asked for: all, or those that are good, end within so many days and have no newer one of their name.
pub(super) fn chosen(entries: &[Entry], expiring: Option<u32>, now: WallTime) -> Vec<Entry> {
    let Some(within) = expiring else { return entries.to_vec() };
    let soon = |entry: &Entry| entry.days_left(now).is_none_or(|left| left <= i64::from(within));
    let newest = |at: usize, entry: &Entry| entries.iter().skip(at + 1).all(|later| later.name != entry.name);
    let wanted = |at: usize, entry: &Entry| entry.revoked.is_none() && soon(entry) && newest(at, entry);
    entries.iter().enumerate().filter(|(at, entry)| wanted(*at, entry)).map(|(_, entry)| entry.clone()).collect()
}

fn state(entry: &Entry, now: WallTime) -> String {
    match (&entry.revoked, entry.days_left(now)) {
        (Some(revocation), _) => format!("revoked {}", revocation.at),
        (None, Some(days)) if days < 0 => "ended".to_owned(),
        (None, Some(days)) => format!("{} left", output::counted(days, "day")),
        (None, None) => "unreadable date".to_owned(),
    }
}

/// One line for each.
pub(super) fn listed(entries: &[Entry], now: WallTime) -> String {
    if entries.is_empty() {
        return "no certificates\n".to_owned();
    }
    let width = entries.iter().map(|entry| entry.name.chars().count()).max().unwrap_or(0);
    entries.iter().fold(String::new(), |mut text, entry| {
        let (name, names) = (&entry.name, entry.names.join(", "));
        let kind = match entry.kind {
            Kind::Person => "person",
            Kind::Robot => "robot",
            Kind::Server => "server",
            Kind::Authority => "CA",
        };
        let _ = writeln!(
            text,
            "{name:width$}  {kind:6}  {}  {}  {}  {names}",
            entry.serial,
            entry.until,
            state(entry, now)
        );
        text
    })
}

/// One object on a line for each.
pub(super) fn listed_as_json(entries: &[Entry], now: WallTime) -> anyhow::Result<String> {
    let mut text = String::new();
    for entry in entries {
        let mut object = serde_json::to_value(entry)?;
        let days = entry.days_left(now);
        let state = match (&entry.revoked, days) {
            (Some(_), _) => "revoked",
            (None, Some(days)) if days < 0 => "ended",
            (None, Some(_)) => "good",
            (None, None) => "unreadable",
        };
        if let Some(fields) = object.as_object_mut() {
            fields.insert("days_left".to_owned(), days.into());
            fields.insert("state".to_owned(), state.into());
        }
        let _ = writeln!(text, "{object}");
    }
    Ok(text)
}
