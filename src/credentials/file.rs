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

use std::sync::Arc;

use super::{Credential, Credentials, Mark, PasswordHash, ScramSecret, TotpSecret};

/// Octets of a name at most.
const NAME_MAX: usize = 1024;
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

/// Reads the text of a file. `is_known` says which names somebody has. Only these are told: what is nobody's name may be a credential, whose own name was
/// forgotten or is parted from it by nothing, and such a line is told by its number.
///
/// # Errors
/// Every mistake, in the order of the file.
pub fn read(text: &str, is_known: impl Fn(&str) -> bool) -> Result<Credentials, Vec<LineMistake>> {
    let (mut credentials, mut mistakes) = (Credentials::default(), Vec::new());
    // Editors of Windows write this first.
    for (index, line) in text.strip_prefix('\u{feff}').unwrap_or(text).lines().enumerate() {
        if mistakes.len() >= MISTAKES_MAX {
            break;
        }
        let line_number = index.saturating_add(1);
        let mut mistake = |wrong: String| mistakes.push(LineMistake { line: line_number, wrong });
        match split(line) {
            Err(wrong) => mistake(wrong.to_owned()),
            Ok(None) => {}
            Ok(Some((_, words))) if words.trim_ascii().is_empty() => mistake(NOTHING_BEHIND.to_owned()),
            Ok(Some((name, words))) => {
                let is_known = is_known(&name);
                let mut nobodys = Credential::default();
                let credential = if is_known {
                    credentials.by_identity.entry(name.as_str().into()).or_default()
                } else {
                    credentials.untold.push(line_number);
                    &mut nobodys
                };
                for word in words.split_ascii_whitespace() {
                    if let Err(wrong) = credential.add(word) {
                        mistake(if is_known { format!("{name:?} {wrong}") } else { format!("{wrong}; {NOBODYS}") });
                    }
                }
            }
        }
    }
    if mistakes.is_empty() { Ok(credentials) } else { Err(mistakes) }
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

const NOBODYS: &str =
    "and what stands first is no name that somebody has: write that first, and a space or a tab behind it";
const NOTHING_BEHIND: &str = "has a name and no credential behind it; write what `sealpost passwd` prints";

/// The name and the words behind it; nothing for an empty line and a comment.
fn split(line: &str) -> Result<Option<(String, &str)>, &'static str> {
    if line.trim_end_matches('\r').contains('\r') {
        return Err(
            "holds a CR that no LF follows, behind which an editor may show another line; save the file with LF or CRLF",
        );
    }
    let line = line.trim_ascii();
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
    fit(&name)
        .map(|()| Some((name, words)))
        .map_err(|_| "has a name that is empty, too long, or holds control characters")
}

/// Whether a line can be written with this name.
///
/// # Errors
/// Why it can't; the end of a sentence.
pub fn fit(name: &str) -> Result<(), &'static str> {
    match name.len() {
        0 => Err("is empty"),
        1..=NAME_MAX if name.chars().any(char::is_control) => Err("holds control characters"),
        1..=NAME_MAX => Ok(()),
        _ => Err("is longer than 1,024 octets"),
    }
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
        let credentials = read(&text, |_| true).unwrap();
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
        let mistakes = read(&text, |_| true).unwrap_err();
        let told: Vec<(usize, &str)> = mistakes.iter().map(|one| (one.line, one.wrong.as_str())).collect();
        assert_eq!(told.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 4, 5, 6, 7, 8]);
        for ((_, wrong), expected) in
            told.iter().zip(["twice", "no credential", "no credential behind", "never closed", "base32", "SCRAM"])
        {
            assert!(wrong.contains(expected), "{wrong}");
        }
        assert!(!format!("{mistakes:?}").contains("hunter2"));
    }

    /// The name was forgotten, or is parted from the credential by nothing, or by a space that is none here. What is behind it is no credential, or is one.
    #[test]
    fn a_credential_in_the_place_of_the_name_is_not_told() {
        let no_break = "\u{a0}";
        for name in [
            HASH.to_owned(),
            SCRAM.to_owned(),
            TOTP.to_owned(),
            format!("alice{HASH}"),
            format!("alice{no_break}{SCRAM}"),
            format!("\"alice {HASH}\""),
            "{SCRAM-SHA-256}4096,salt,stored,server".to_owned(),
            "otpauth://totp/alice?secret=JBSWY3DPEHPK3PXP".to_owned(),
            "JBSW-Y3DP-EHPK-3PXP".to_owned(),
            "alice@example.com:JBSWY3DPEHPK3PXP".to_owned(),
            "hunter2".to_owned(),
        ] {
            let mistakes = read(&format!("{name} junk"), nobody).map(|_| ()).unwrap_err();
            let told: Vec<&str> = mistakes.iter().map(|one| one.wrong.as_str()).collect();
            assert_eq!(
                told,
                [format!("has a word that is no credential; write what `sealpost passwd` prints; {NOBODYS}")]
            );
            let credentials = read(&format!("{name} {HASH}"), nobody).unwrap();
            assert_eq!((credentials.names().count(), credentials.untold()), (0, &[1][..]), "{name}");
        }
        for odd in ["$argon2c29tZXNhbHRz$v=19$m=8,t=1,p=1$AAAA$BBBB", "$argon2i$v=19$m=8,t=1,p=1$AAAA$BBBB"] {
            let told = format!("{:?}", read(&format!("alice {odd}"), |_| true).map(|_| ()).unwrap_err());
            assert!(
                told.contains("only argon2id is taken") && !told.contains("c29t") && !told.contains("AAAA"),
                "{told}"
            );
        }
    }

    /// Such names were once refused, though `check` took them for identities and `passwd` printed their lines.
    #[test]
    fn a_name_that_only_looks_like_a_credential_is_one_where_somebody_is_called_so() {
        for name in [
            "PRODUCTIONSERVER",
            "argon2-bench",
            "staff:bob+totp=x@example.com",
            "secret=santaclausoffice",
            "JBSWY3DPEHPK3PXP",
        ] {
            let line = format!("{name} {HASH}\n");
            assert!(read(&line, |known| known == name).is_ok_and(|known| known.of(name).is_some()), "{name}");
            assert_eq!(read(&line, nobody).unwrap().untold(), [1], "{name}");
        }
    }

    /// An editor may show the rest as a line of its own: behind a remark, one that counts.
    #[test]
    fn a_cr_that_no_lf_follows_is_a_mistake() {
        for text in [format!("# remark\ralice {HASH}\n"), format!("alice {HASH}\rbob {HASH}\n")] {
            let told = format!("{:?}", read(&text, |_| true).map(|_| ()).unwrap_err());
            assert!(told.contains("line: 1, wrong: \"holds a CR that no LF follows"), "{told}");
        }
        assert_eq!(read(&format!("\u{feff}# remark\r\nalice {HASH}\r\r\n"), |_| true).unwrap().names().count(), 1);
    }

    #[test]
    fn a_file_of_another_kind_does_not_drown_the_reader() {
        assert_eq!(read(&"junk\n".repeat(10_000), nobody).unwrap_err().len(), MISTAKES_MAX);
    }

    #[test]
    fn nothing_of_a_credential_is_printed() {
        let printed = format!("{:?}", read(&format!("robot {HASH} {SCRAM} {TOTP}\n"), |_| true).unwrap());
        for secret in ["AAAA", "c29tZX", "WG5d8", "wfPL", "GEZD"] {
            assert!(!printed.contains(secret), "{printed}");
        }
    }

    proptest! {
        #[test]
        fn any_name_is_read_as_it_was_written(name in "[^\\p{Cc}\u{feff}]{1,40}") {
            let credentials = read(&format!("{} {HASH}\n", written_name(&name)), |_| true).unwrap();
            prop_assert!(credentials.of(&name).is_some());
        }

        #[test]
        fn any_text_is_read_or_refused(text in "(\\PC|\n){0,300}") {
            let _ = read(&text, nobody);
        }
    }
}
