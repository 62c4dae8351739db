//! What in a text a person could take for an address.
//!
//! An `@` between two words, of which the right one has a dot or is an address literal, is an address, or looks like one: white space, quotes and
//! brackets about it change nothing. One that is read is an address, to be granted; of one that can't be read nobody can say whose it is, and it is a
//! lookalike. `Meet @ Noon`, `root@localhost` and a handle in brackets or without a word before it (`Alice (@alice.example)`) are neither.
//!
//! Seen is a text without what shows nothing, with full-width, small and mathematical letters as the plain ones (Unicode's compatibility forms), signs
//! that show as a full stop as one, and each gap as one space; a gap so narrow that nobody sees it is none. Where marks make letters run from right to
//! left, they are read so too. Never: asks whether an address is granted.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use super::{DisplayFault, Effort};
use crate::mail::Address;
use crate::mail::address::{is_atext, is_unseen};

/// The most that is told of one text: whoever asks refuses more.
pub(super) const SEEN_MAX: usize = 65;
/// How much of a lookalike is told, characters.
const LOOKALIKE_SHOWN: usize = 80;
/// What has an `@` for its compatibility form, first of all itself.
const AT_SIGNS: [char; 3] = ['@', '\u{ff20}', '\u{fe6b}'];
/// Behind these all letters run the other way, until a mark ends it: the overrides of Unicode, which no name needs.
const OVERRIDES: [char; 2] = ['\u{202d}', '\u{202e}'];
/// Between words that these part, the one behind may stand in front: marks, embeddings and isolates from right to left.
const FROM_RIGHT_TO_LEFT: [char; 5] = ['\u{200f}', '\u{61c}', '\u{202b}', '\u{2067}', '\u{2068}'];
/// What begins a run that keeps its order, embedding and isolate; in a run from right to left, or a paragraph of one, such runs stand the other way round.
const FROM_LEFT_TO_RIGHT: [char; 2] = ['\u{202a}', '\u{2066}'];
/// What parts such runs.
const RUNS: [char; 9] =
    ['\u{200f}', '\u{61c}', '\u{202b}', '\u{2067}', '\u{2068}', '\u{202a}', '\u{202c}', '\u{2066}', '\u{2069}'];

/// What is seen in one text or more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::content) struct Sight {
    /// Addresses.
    pub(in crate::content) addresses: Vec<Address>,
    /// What looks like one.
    pub(in crate::content) lookalikes: Vec<String>,
}

impl Sight {
    /// Adds what is seen in this text.
    pub(super) fn look(&mut self, text: &str, effort: &mut Effort) -> Result<(), DisplayFault> {
        if !text.contains(AT_SIGNS) {
            return Ok(());
        }
        self.read(text, effort)?;
        if text.contains(OVERRIDES) {
            self.read(&text.chars().rev().collect::<String>(), effort)?;
            self.add(Some(Found::Lookalike(text.chars().take(LOOKALIKE_SHOWN).collect())));
        }
        if text.contains(FROM_RIGHT_TO_LEFT) {
            self.read(&text.split(FROM_RIGHT_TO_LEFT).rev().collect::<String>(), effort)?;
        }
        if text.contains(FROM_LEFT_TO_RIGHT) {
            self.read(&text.split(RUNS).rev().collect::<String>(), effort)?;
        }
        Ok(())
    }

    fn read(&mut self, text: &str, effort: &mut Effort) -> Result<(), DisplayFault> {
        let seen = seen(text);
        effort.spend(text.len().saturating_add(seen.len()))?;
        for (at, _) in seen.match_indices('@') {
            let (before, rest) = seen.split_at_checked(at).unwrap_or_default();
            let after = rest.strip_prefix('@').unwrap_or_default();
            let Some(host) = host_in(after) else { continue };
            // The word to the left is looked for past all of these, for each sign anew.
            let without_word = before.trim_end_matches(|letter: char| !is_of_word(letter));
            effort.spend(before.len().saturating_sub(without_word.len()))?;
            self.add(address_at(before, after, &host));
            if self.is_full() {
                break;
            }
        }
        Ok(())
    }

    /// Whether no more is told.
    pub(in crate::content) fn is_full(&self) -> bool {
        self.addresses.len().saturating_add(self.lookalikes.len()) >= SEEN_MAX
    }

    fn add(&mut self, found: Option<Found>) {
        match found {
            Some(Found::Address(address)) if !self.addresses.contains(&address) => self.addresses.push(address),
            Some(Found::Lookalike(text)) if !self.lookalikes.contains(&text) => self.lookalikes.push(text),
            Some(Found::Address(_) | Found::Lookalike(_)) | None => {}
        }
    }
}

enum Found {
    Address(Address),
    Lookalike(String),
}

/// The text as it is seen.
fn seen(text: &str) -> String {
    let shows = |letter: &char| !is_unseen(*letter) && !is_narrow(*letter);
    let letters = text.chars().filter(shows).nfkc().filter(shows).map(as_seen);
    let mut seen = String::with_capacity(text.len());
    for letter in letters.filter(|letter| !letter.is_control() || letter.is_whitespace()) {
        match (letter.is_whitespace(), seen.ends_with(' ')) {
            (true, true) => {}
            (true, false) => seen.push(' '),
            (false, after_space) => {
                // Some programs put no space before a part of a name that begins with a dot.
                if after_space && letter == '.' {
                    seen.pop();
                }
                seen.push(letter);
            }
        }
    }
    seen
}

/// Spaces of less than a fifth of an em: an address with one in it looks whole.
fn is_narrow(letter: char) -> bool {
    matches!(letter, '\u{2006}' | '\u{2008}'..='\u{200a}' | '\u{202f}')
}

/// The signs that Unicode's list of confusable characters (UTS 39) has for a full stop, and the ideographic one, which IDNA takes for it.
fn as_seen(letter: char) -> char {
    match letter {
        '\u{3002}' | '\u{660}' | '\u{6f0}' | '\u{6d4}' | '\u{701}' | '\u{702}' | '\u{a4f8}' | '\u{a60e}'
        | '\u{10a50}' | '\u{1d16d}' => '.',
        _ => letter,
    }
}

/// What an `@` between these two makes.
fn address_at(before: &str, after: &str, host: &HostSeen<'_>) -> Option<Found> {
    let handle = after.starts_with(host.run) && before.ends_with(['(', '[', '{', '<']);
    let local = if handle { None } else { local_in(before) }?;
    let address = Some(format!("{local}@{}", host.word)).filter(|_| host.is_whole);
    Some(match address.as_deref().map(Address::parse) {
        Some(Ok(address)) => Found::Address(address),
        Some(Err(_)) | None => {
            Found::Lookalike(format!("{local}@{}", host.run).chars().take(LOOKALIKE_SHOWN).collect())
        }
    })
}

/// What could be a host right of an `@`.
struct HostSeen<'a> {
    /// All up to the next gap.
    run: &'a str,
    /// As much of it as may stand in a host's name.
    word: &'a str,
    /// Whether the word alone looks like a host.
    is_whole: bool,
}

fn host_in(after: &str) -> Option<HostSeen<'_>> {
    let after = after.split('@').next().unwrap_or_default();
    if let Some(literal) = literal_in(after) {
        return Some(HostSeen { run: literal, word: literal, is_whole: true });
    }
    let from_word = after.trim_start_matches(|letter: char| !is_of_word(letter));
    let gap = from_word.len() < after.len();
    let ends_run = |letter: char| letter.is_whitespace() || matches!(letter, ',' | ';');
    let run = from_word.split(ends_run).next().unwrap_or_default();
    let ends_word = |letter: char| letter.is_ascii() && !letter.is_ascii_alphanumeric() && !"-._".contains(letter);
    let word = run.split(ends_word).next().unwrap_or_default().trim_end_matches(|letter: char| !is_of_word(letter));
    let is_whole = looks_like_host(word, gap);
    (is_whole || looks_like_host(run, gap)).then_some(HostSeen { run, word, is_whole })
}

/// `[192.0.2.1]`, and whatever else in brackets is no plain word.
fn literal_in(after: &str) -> Option<&str> {
    let after = after.trim_start();
    let inner = after.strip_prefix('[')?;
    let end = inner.find(']')?;
    let text = inner.get(..end)?;
    text.contains(['.', ':']).then(|| after.get(..end.saturating_add(2))).flatten()
}

/// Whether a label with a letter in front stands behind a dot, or it is an IP address. `10.30`, `2.0` and `Noon...` have none; behind a gap, one letter
/// (`V.I.P.`) is none either: no top-level domain is as short.
fn looks_like_host(text: &str, gap: bool) -> bool {
    let mut labels = text.split('.').skip(1);
    let least = if gap { 2 } else { 1 };
    let is_label = |label: &str| {
        label.chars().filter(|letter| letter.is_alphanumeric()).count() >= least
            && label.chars().find(|letter| letter.is_alphanumeric()).is_some_and(|first| !first.is_numeric())
    };
    labels.any(is_label) || text.parse::<std::net::Ipv4Addr>().is_ok()
}

/// The word left of an `@`: what stands right before it, or else the last word before quotes, brackets and gaps.
fn local_in(before: &str) -> Option<String> {
    let near = before.trim_end();
    if let Some(quoted) = quoted_in(near) {
        return Some(quoted.to_owned());
    }
    let adjacent = without_ornaments(atoms_in(near));
    let local = if adjacent.is_empty() {
        without_ornaments(atoms_in(near.trim_end_matches(|letter: char| !is_of_word(letter))))
    } else {
        adjacent
    };
    (!local.is_empty()).then(|| local.to_owned())
}

/// A quoted local part that stands there whole.
fn quoted_in(before: &str) -> Option<&str> {
    let inner = before.strip_suffix('"')?;
    let start = inner.rfind('"')?;
    let quoted = before.get(start..)?;
    Address::parse(&format!("{quoted}@example.com")).is_ok().then_some(quoted)
}

/// The atoms and dots at the end of a text.
fn atoms_in(before: &str) -> &str {
    let ends = |letter: char| letter.is_whitespace() || letter == '?' || (!is_atext(letter) && letter != '.');
    before.rsplit(ends).next().unwrap_or_default()
}

/// Without the signs in front that people see apart from the word: quotes, marks of emphasis, dashes and other signs beyond ASCII.
fn without_ornaments(atoms: &str) -> &str {
    atoms.trim_start_matches(|letter: char| match letter {
        '.' | '\'' | '`' | '=' | '*' | '_' | '~' | '|' | '{' | '/' | '!' => true,
        _ => !letter.is_ascii() && !is_of_word(letter),
    })
}

fn is_of_word(letter: char) -> bool {
    letter.is_alphanumeric() || is_combining_mark(letter)
}

#[cfg(test)]
mod tests;
