//! A configuration: the same text says the same; every mistake has its line and is told at once; what nothing obeys never passes.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use sealpost::config::{Loaded, Mistake, Place, differences, load_text};
use sealpost::sys::{Clock, ManualClock, WallTime};

use super::{Broken, Lie, Told, require, same};
use crate::recipe::{CrlRecipe, NOW, Recipe};

/// What reading would take long, or does not end.
const ELSEWHERE: [&str; 3] = ["/dev", "/proc", "/sys"];
/// What no configuration has.
const UNKNOWN_KEY: &str = "no_such_key = 1\n";

/// [`load_text`], see above.
pub(super) fn config(octets: &[u8], _seed: u64, lie: Lie) -> Told {
    let text = String::from_utf8_lossy(octets);
    if ELSEWHERE.iter().any(|place| text.contains(place)) || text.starts_with('\u{feff}') {
        return Ok(());
    }
    let read = read(&text, lie);
    let lines = text.lines().count().max(1);
    for mistake in found(&read) {
        let told = mistake.to_string();
        require(&format!("a mistake that breaks a line: {told:?}"), !told.chars().any(char::is_control))?;
        if let Place::Line { line, .. } = &mistake.place {
            require(&format!("a mistake on line {line} of {lines}"), (1..=lines).contains(line))?;
        }
    }
    match (&read, &super::config::read(&text, lie)) {
        (Ok(one), Ok(other)) => same("differences of the same", &differences(&one.settings, &other.settings), &vec![])?,
        (Err(one), Err(other)) => same("mistakes of the same", other, one)?,
        _ => return Err(Broken("once it is right, and once it is wrong".to_owned())),
    }
    let commented = super::config::read(&format!("# a line more\n{text}"), lie);
    same("mistakes under a comment", &told_of(&commented), &lower(&read))?;
    let wrong = super::config::read(&format!("{UNKNOWN_KEY}{text}"), lie);
    require("a key that nothing obeys passes", wrong.is_err())?;
    let told = told_of(&wrong);
    match lower(&read).into_iter().find(|mistake| !told.contains(mistake)) {
        None => Ok(()),
        Some(untold) => Err(Broken(format!("beside another mistake this is not told: {untold:?}"))),
    }
}

pub(super) type Read = Result<Loaded, Vec<Mistake>>;

fn read(text: &str, lie: Lie) -> Read {
    let text = if lie == Lie::ConfigPassesUnknownKeys { text.replace(UNKNOWN_KEY, "\n") } else { text.to_owned() };
    let mut read = load(&text);
    if let Err(mistakes) = &mut read {
        if lie == Lie::ConfigSaysOne {
            mistakes.truncate(1);
        }
        for mistake in mistakes {
            if let (Lie::ConfigLosesCount, Place::Line { line, .. }) = (lie, &mut mistake.place) {
                *line -= 1;
            }
        }
    }
    read
}

/// As the file of the house.
pub(super) fn load(text: &str) -> Read {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(WallTime::from_seconds(NOW)));
    load_text(&house().join("sealpost.toml"), text, &[], &clock)
}

fn found(read: &Read) -> &[Mistake] {
    match read {
        Ok(loaded) => &loaded.warnings,
        Err(mistakes) => mistakes,
    }
}

/// Mistakes alone: what is unwise is told of a configuration that is right. Lines that one names are left out: of the same, there is another number.
fn told_of(read: &Read) -> Vec<Mistake> {
    let mistakes = found(read).iter().filter(|mistake| !mistake.is_warning());
    let unnumbered = |text: &str| {
        let mut pieces = text.split("sealpost.toml:");
        let first = pieces.next().unwrap_or_default().to_owned();
        pieces
            .fold(first, |told, piece| told + "sealpost.toml" + piece.trim_start_matches(|c: char| c.is_ascii_digit()))
    };
    let mut told: Vec<Mistake> = mistakes.map(|one| Mistake { wrong: unnumbered(&one.wrong), ..one.clone() }).collect();
    told.sort();
    told
}

/// The same, a line lower.
fn lower(read: &Read) -> Vec<Mistake> {
    let mut mistakes = told_of(read);
    for mistake in &mut mistakes {
        if let Place::Line { line, .. } = &mut mistake.place {
            *line += 1;
        }
    }
    mistakes
}

/// A folder with the files that seeds name.
pub(super) fn house() -> &'static Path {
    static HOUSE: OnceLock<tempfile::TempDir> = OnceLock::new();
    HOUSE.get_or_init(furnish).path()
}

fn furnish() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str, mode| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let ca = Recipe::ca("staff CA").self_signed();
    let server = Recipe::server("mail.example.com").signed_by(&ca);
    put("ca.pem", &ca.pem(), 0o644);
    put("ca.crl", &crate::recipe::pem("X509 CRL", &ca.crl(&CrlRecipe::listing(&[]))), 0o644);
    put("server.pem", &server.pem(), 0o644);
    put("server.key", &server.key_pem(), 0o600);
    put("password", "hunter2\n", 0o600);
    folder
}
