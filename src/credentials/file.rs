//! The file of credentials: text to values, every mistake with its line.
//!
//! ```text
//! # who                      what it may show
//! billing-robot              $argon2id$v=19$m=19456,t=2,p=1$...$...
//! staff:alice@example.com    SCRAM-SHA-256$100000:...$...:...
//! "the boss"                 $argon2id$...  totp=GEZDGNBVGY3TQOJQ...
//! ```
//!
//! A line names an identity and what it may show, a word each; an identity may have several lines, but each kind once. Names with spaces stand in
//! quotes. `sealpost passwd` prints such lines. Never: puts a word of a credential into a mistake, or takes one for a name, which is told.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Credential, Credentials, Mark, PasswordHash, ScramSecret, TotpSecret};

/// Octets of a line at most.
const LINE_MAX: usize = 4096;
/// Mistakes that are told at most; a file of another kind has one on every line.
const MISTAKES_MAX: usize = 50;

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineMistake {
    /// The line; the first is 1.
    pub line: usize,
    /// What is wrong; a whole clause, `has a credential that ...`.
    pub wrong: String,
}

/// Reads the text of a file. `is_known` says which names somebody has in the configuration: these are names, though they look like a secret.
///
/// # Errors
/// Every mistake, in the order of the file.
pub fn read(text: &str, is_known: impl Fn(&str) -> bool) -> Result<Credentials, Vec<LineMistake>> {
    let mut by_identity: HashMap<Arc<str>, Credential> = HashMap::new();
    let mut mistakes = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if mistakes.len() >= MISTAKES_MAX {
            break;
        }
        let line_number = index.saturating_add(1);
        let mut mistake = |wrong: String| mistakes.push(LineMistake { line: line_number, wrong });
        match split(line, &is_known) {
            Err(wrong) => mistake(wrong.to_owned()),
            Ok(None) => {}
            Ok(Some((name, words))) => {
                let credential = by_identity.entry(name.as_str().into()).or_default();
                for word in words.split_ascii_whitespace() {
                    if let Err(wrong) = credential.add(word) {
                        mistake(format!("{name:?} {wrong}"));
                    }
                }
            }
        }
    }
    if mistakes.is_empty() { Ok(Credentials { by_identity }) } else { Err(mistakes) }
}

impl Credential {
    fn add(&mut self, word: &str) -> Result<(), String> {
        let twice = |kind: &str| Err(format!("has {kind} twice; leave one out"));
        if word.starts_with("$argon2") {
            if self.password.is_some() {
                return twice("a password");
            }
            let hash = PasswordHash::read(word).map_err(|fault| format!("has a password hash that {fault}"))?;
            self.password = Some((Arc::new(hash), Mark::of(&[word])));
        } else if word.starts_with("SCRAM-") {
            if self.scram.is_some() {
                return twice("a SCRAM secret");
            }
            let secret = ScramSecret::read(word).map_err(|fault| format!("has a SCRAM secret that {fault}"))?;
            self.scram = Some((Arc::new(secret), Mark::of(&[word])));
        } else if let Some(secret) = word.strip_prefix("totp=") {
            if self.totp.is_some() {
                return twice("a totp secret");
            }
            let secret = TotpSecret::read(secret).map_err(|fault| format!("has a totp= that {fault}"))?;
            self.totp = Some((Arc::new(secret), Mark::of(&[word])));
        } else {
            // Perhaps a password in plain text: it is not repeated.
            return Err("has a word that is no credential; write what `sealpost passwd` prints".to_owned());
        }
        Ok(())
    }

    /// KiB that it takes to verify a password.
    pub fn memory_kib(&self) -> u32 {
        self.password.as_ref().map_or(PasswordHash::memory_kib_of_nobody(), |(hash, _)| hash.memory_kib())
    }

    /// Whether a password can be verified.
    pub fn has_password(&self) -> bool {
        self.password.is_some()
    }

    /// Whether there is a secret for codes.
    pub fn has_totp(&self) -> bool {
        self.totp.is_some()
    }
}

/// The name and the words behind it; nothing for an empty line and a comment.
fn split<'l>(line: &'l str, is_known: &impl Fn(&str) -> bool) -> Result<Option<(String, &'l str)>, &'static str> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    if line.len() > LINE_MAX {
        return Err("is longer than 4,096 octets");
    }
    let (name, words) = match line.strip_prefix('"') {
        Some(rest) => quoted(rest).ok_or("has a name whose quotation mark is never closed")?,
        None => {
            let end = line.find(|letter: char| letter.is_ascii_whitespace()).unwrap_or(line.len());
            let (name, words) = line.split_at(end);
            (name.to_owned(), words)
        }
    };
    fit_name(&name)?;
    // Names are told, in mistakes and in warnings.
    if looks_secret(&name) && !is_known(&name) {
        return Err(CREDENTIAL_FOR_NAME);
    }
    if words.trim().is_empty() {
        return Err("has a name and no credential behind it; write what `sealpost passwd` prints");
    }
    Ok(Some((name, words)))
}

const CREDENTIAL_FOR_NAME: &str =
    "has a credential in the place of the name; write the name first, and a space or a tab behind it";

/// Whether a line can be written with this name.
///
/// # Errors
/// Why it can't; the end of a sentence. That a credential stands in it, where the name was forgotten or nothing parts them, is one reason: names are told.
pub fn fit_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err("has a name that is empty or holds control characters");
    }
    let lower = name.to_ascii_lowercase();
    // As they are written: `argon2id$v=19$...`, `scram-sha-256$4096:...`, `totp=GEZD...`.
    let hash = |begin: &str| {
        let mut rests =
            lower.match_indices(begin).filter_map(|(at, found)| lower.get(at.saturating_add(found.len())..));
        rests.any(|rest| {
            rest.trim_start_matches(|letter: char| letter.is_ascii_alphanumeric() || letter == '-').starts_with('$')
        })
    };
    let secret = |begin: &str| {
        let mut rests =
            lower.match_indices(begin).filter_map(|(at, found)| lower.get(at.saturating_add(found.len())..));
        rests.any(|rest| rest.bytes().take_while(|octet| is_base32(octet.to_ascii_uppercase())).count() >= SECRET_LEAST)
    };
    let holds_one = hash("argon2") || hash("scram-sha-") || secret("totp=") || secret("secret=");
    if holds_one { Err(CREDENTIAL_FOR_NAME) } else { Ok(()) }
}

/// Letters of a secret for codes at the least that anybody's app makes.
const SECRET_LEAST: usize = 16;

/// Whether it may be a secret for codes, in base32, whose name was forgotten.
fn looks_secret(name: &str) -> bool {
    let letters = name.trim_end_matches('=');
    letters.len() >= SECRET_LEAST
        && letters.bytes().all(is_base32)
        && letters.bytes().any(|octet| octet.is_ascii_digit())
}

fn is_base32(octet: u8) -> bool {
    octet.is_ascii_uppercase() || matches!(octet, b'2'..=b'7')
}

/// A name in quotes, where `\"` and `\\` stand for themselves; and what is behind it.
fn quoted(rest: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut letters = rest.char_indices();
    while let Some((place, letter)) = letters.next() {
        match letter {
            '"' => return rest.get(place.saturating_add(1)..).map(|words| (name, words)),
            '\\' => name.push(letters.next()?.1),
            letter => name.push(letter),
        }
    }
    None
}

/// A name as [`read`] reads it.
pub fn written_name(name: &str) -> String {
    let plain = !name.starts_with(['"', '#']) && !name.contains(|letter: char| letter.is_ascii_whitespace());
    if plain && !name.is_empty() {
        return name.to_owned();
    }
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HASH: &str = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    const SCRAM: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
    const TOTP: &str = "totp=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

    fn nobody(_: &str) -> bool {
        false
    }

    #[test]
    fn several_lines_make_one_credential() {
        let text = format!("# who\n\nrobot {HASH}\nrobot\t{SCRAM}\n  \"the boss\"   {HASH}  {TOTP}\r\n");
        let credentials = read(&text, nobody).unwrap();
        let robot = credentials.of("robot").unwrap();
        assert!(robot.password.is_some() && robot.scram.is_some() && robot.totp.is_none());
        let boss = credentials.of("the boss").unwrap();
        assert!(boss.has_password() && boss.has_totp() && boss.scram.is_none());
        assert!(credentials.of("nobody").is_none());
    }

    #[test]
    fn every_mistake_is_told_with_its_line_and_without_the_secret() {
        let text = format!(
            "robot {HASH}\nrobot {HASH}\n\nalice hunter2\nbob\n\"carol {HASH}\ndave totp=AAAA\neve SCRAM-SHA-1$4096:a$b:c\n"
        );
        let mistakes = read(&text, nobody).unwrap_err();
        let told: Vec<(usize, &str)> = mistakes.iter().map(|one| (one.line, one.wrong.as_str())).collect();
        assert_eq!(told.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 4, 5, 6, 7, 8]);
        for ((_, wrong), expected) in
            told.iter().zip(["twice", "no credential", "no credential behind", "never closed", "base32", "SCRAM"])
        {
            assert!(wrong.contains(expected), "{wrong}");
        }
        assert!(!format!("{mistakes:?}").contains("hunter2"));
    }

    /// The name was forgotten, or is parted from the credential by nothing, or by a space that is none here.
    #[test]
    fn a_credential_in_the_place_of_the_name_is_refused_and_not_told() {
        let no_break = "\u{a0}";
        for line in [
            format!("{HASH} {TOTP}"),
            format!("{SCRAM} {HASH}"),
            format!("{TOTP} junk"),
            format!("alice{HASH} {TOTP}"),
            format!("alice{no_break}{SCRAM} junk"),
            format!("\"alice {HASH}\" {TOTP}"),
            format!("{} junk", HASH.trim_start_matches('$')),
            format!("{} junk", SCRAM.to_ascii_lowercase()),
            format!("{} junk", TOTP.to_ascii_uppercase()),
            "otpauth://totp/alice?secret=JBSWY3DPEHPK3PXP junk".to_owned(),
            "JBSWY3DPEHPK3PXP junk".to_owned(),
        ] {
            let mistakes = read(&line, nobody).map(|_| ()).unwrap_err();
            let told: Vec<&str> = mistakes.iter().map(|one| one.wrong.as_str()).collect();
            assert_eq!(
                told,
                ["has a credential in the place of the name; write the name first, and a space or a tab behind it"]
            );
        }
        for odd in ["$argon2c29tZXNhbHRz$v=19$m=8,t=1,p=1$AAAA$BBBB", "$argon2i$v=19$m=8,t=1,p=1$AAAA$BBBB"] {
            let told = format!("{:?}", read(&format!("alice {odd}"), nobody).map(|_| ()).unwrap_err());
            assert!(
                told.contains("only argon2id is taken") && !told.contains("c29t") && !told.contains("AAAA"),
                "{told}"
            );
        }
    }

    /// Such names were once refused, though `check` took them for identities and `passwd` printed their lines.
    #[test]
    fn a_name_that_only_looks_like_a_credential_is_one() {
        for name in [
            "PRODUCTIONSERVER",
            "argon2-bench",
            "argon2id",
            "SCRAM-SHA-256-tester",
            "staff:bob+totp=x@example.com",
            "secret=santa",
            "otpauth:desk",
        ] {
            assert!(read(&format!("{name} {HASH}\n"), nobody).is_ok_and(|known| known.of(name).is_some()), "{name}");
        }
        // Whoever is called so in the configuration is no secret.
        let line = format!("PRODUCTIONSERVER23 {HASH}\n");
        assert_eq!(
            (read(&line, nobody).is_ok(), read(&line, |name| name == "PRODUCTIONSERVER23").is_ok()),
            (false, true)
        );
    }

    #[test]
    fn a_file_of_another_kind_does_not_drown_the_reader() {
        assert_eq!(read(&"junk\n".repeat(10_000), nobody).unwrap_err().len(), MISTAKES_MAX);
    }

    #[test]
    fn nothing_of_a_credential_is_printed() {
        let printed = format!("{:?}", read(&format!("robot {HASH} {SCRAM} {TOTP}\n"), nobody).unwrap());
        for secret in ["AAAA", "c29tZX", "WG5d8", "wfPL", "GEZD"] {
            assert!(!printed.contains(secret), "{printed}");
        }
    }

    proptest! {
        #[test]
        fn any_name_is_read_as_it_was_written(name in "[^\\p{Cc}]{1,40}") {
            prop_assume!(name.trim() == name);
            let credentials = read(&format!("{} {HASH}\n", written_name(&name)), |_| true).unwrap();
            prop_assert!(credentials.of(&name).is_some());
        }

        #[test]
        fn any_text_is_read_or_refused(text in "(\\PC|\n){0,300}") {
            let _ = read(&text, nobody);
        }
    }
}
