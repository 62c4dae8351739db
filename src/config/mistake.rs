//! What is wrong with a configuration, as a sentence that can be acted on: where, which key, what, and the remedy.
//!
//! Never: holds a secret (values of password files are not read into messages).

use std::fmt;
use std::sync::Arc;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// In the file as a whole: something is missing from it.
    File {
        /// The file, as it was named.
        file: Arc<str>,
    },
    /// On a line of the file.
    Line {
        /// The file, as it was named.
        file: Arc<str>,
        /// The line, the first is 1.
        line: usize,
    },
    /// In a variable of the environment.
    Environment {
        /// The variable's name.
        variable: Arc<str>,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file } => f.write_str(file),
            Self::Line { file, line } => write!(f, "{file}:{line}"),
            Self::Environment { variable } => write!(f, "environment {variable}"),
        }
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gravity {
    /// The configuration cannot be used.
    Mistake,
    /// It can be used, for what this is about stays as it was.
    HeldBack,
    /// It can be used, but part of it can never apply, or is unwise.
    Warning,
}

/// One thing that is wrong.
///
/// Prints as `sealpost.toml:31: identity "billing-robot": send_as: "*@": a pattern needs a domain after the @; write "*@example.com"`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// Where it is written.
    pub place: Place,
    /// Whether it forbids to start.
    pub gravity: Gravity,
    /// The key, as people would say it: `identity "billing-robot": send_as`; empty when the file as a whole is meant.
    pub key: String,
    /// What is wrong.
    pub wrong: String,
    /// What to do about it, where that is known.
    pub remedy: Option<String>,
}

impl Mistake {
    /// Whether it forbids nothing.
    pub fn is_warning(&self) -> bool {
        match self.gravity {
            Gravity::Mistake => false,
            Gravity::HeldBack | Gravity::Warning => true,
        }
    }

    /// The same with controls escaped: it tells what was written, and goes to terminals and logs.
    fn on_one_line(self) -> Self {
        Self { key: printable(self.key), wrong: printable(self.wrong), remedy: self.remedy.map(printable), ..self }
    }

    /// Whether nothing that it is about can be used.
    fn forbids(&self) -> bool {
        self.gravity == Gravity::Mistake
    }
}

impl Mistake {
    /// The part of the configuration within which one thing may follow from another. CAs, identities and limits are judged together.
    fn section(&self) -> &str {
        let name = self.key.split([' ', ':', '.']).next().unwrap_or_default();
        if matches!(name, "client_ca" | "identity" | "limits") { "client_ca" } else { name }
    }
}

fn printable(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    let escaped = |letter: char| {
        let control = letter.is_control().then(|| letter.escape_default().to_string());
        control.unwrap_or_else(|| letter.to_string())
    };
    text.chars().map(escaped).collect()
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if self.gravity == Gravity::Warning {
            f.write_str("warning: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.wrong)?;
        if let Some(remedy) = &self.remedy {
            write!(f, "; {remedy}")?;
        }
        Ok(())
    }
}

/// Everything that was found wrong so far, and where each key was written.
///
/// Checks add to it and go on: all mistakes are told at once.
#[derive(Debug)]
pub(super) struct Findings {
    origins: super::origin::Origins,
    found: Vec<Mistake>,
}

impl Findings {
    pub(super) fn new(origins: super::origin::Origins) -> Self {
        Self { origins, found: Vec::new() }
    }

    pub(super) fn origins(&self) -> &super::origin::Origins {
        &self.origins
    }

    pub(super) fn origins_mut(&mut self) -> &mut super::origin::Origins {
        &mut self.origins
    }

    /// A mistake at the key of this path.
    pub(super) fn mistake(&mut self, path: &str, wrong: impl Into<String>, remedy: impl Into<Remedy>) {
        self.add(Gravity::Mistake, path, wrong.into(), remedy.into());
    }

    /// A warning at the key of this path.
    pub(super) fn warning(&mut self, path: &str, wrong: impl Into<String>, remedy: impl Into<Remedy>) {
        self.add(Gravity::Warning, path, wrong.into(), remedy.into());
    }

    /// A mistake at a place that has no key: syntax.
    pub(super) fn at(&mut self, place: Place, wrong: impl Into<String>) {
        let wrong = wrong.into();
        self.found.push(Mistake { place, gravity: Gravity::Mistake, key: String::new(), wrong, remedy: None });
    }

    /// Something at a place of another file, whose key has a name already.
    pub(super) fn tell(
        &mut self,
        gravity: Gravity,
        place: Place,
        key: String,
        wrong: String,
        remedy: impl Into<Remedy>,
    ) {
        let Remedy(remedy) = remedy.into();
        self.found.push(Mistake { place, gravity, key, wrong, remedy });
    }

    /// Takes what was found in another file.
    pub(super) fn take(&mut self, other: Self) -> super::origin::Origins {
        self.found.extend(other.found);
        other.origins
    }

    fn add(&mut self, gravity: Gravity, path: &str, wrong: String, Remedy(remedy): Remedy) {
        let (place, key) = (self.origins.place(path), self.origins.spoken(path));
        self.found.push(Mistake { place, gravity, key, wrong, remedy });
    }

    /// Whether there is a mistake among them; warnings don't count.
    pub(super) fn any_mistake(&self) -> bool {
        self.found.iter().any(Mistake::forbids)
    }

    /// How many there are, warnings included: a place to count from.
    pub(super) fn count(&self) -> usize {
        self.found.len()
    }

    /// Whether there is a mistake among those found since.
    pub(super) fn any_mistake_since(&self, count: usize) -> bool {
        self.found.iter().skip(count).any(Mistake::forbids)
    }

    /// The mistakes found since forbid nothing any more: what they are about is not taken over.
    pub(super) fn demote_since(&mut self, count: usize) {
        let since = self.found.iter_mut().skip(count).filter(|one| one.gravity == Gravity::Mistake);
        since.for_each(|one| one.gravity = Gravity::HeldBack);
    }

    /// All of them in the order of the file. A warning beside a mistake is left out: it may follow from it, and is told when the mistake is mended.
    pub(super) fn into_sorted(self) -> Vec<Mistake> {
        let mut found = self.found;
        let spoilt: Vec<String> =
            found.iter().filter(|one| one.forbids()).map(|one| one.section().to_owned()).collect();
        // Each deadline is judged by itself.
        let may_follow =
            |one: &Mistake| one.section() != "deadlines" && spoilt.iter().any(|section| section == one.section());
        found.retain(|one| !one.is_warning() || !may_follow(one));
        let mut found: Vec<Mistake> = found.into_iter().map(Mistake::on_one_line).collect();
        found.sort();
        found.dedup();
        found
    }
}

/// What to do about a mistake; `()` where nothing can be said.
#[derive(Clone, Debug)]
pub(super) struct Remedy(Option<String>);

impl From<()> for Remedy {
    fn from((): ()) -> Self {
        Self(None)
    }
}

impl From<&str> for Remedy {
    fn from(text: &str) -> Self {
        Self(Some(text.to_owned()))
    }
}

impl From<String> for Remedy {
    fn from(text: String) -> Self {
        Self(Some(text))
    }
}

impl From<Option<String>> for Remedy {
    fn from(text: Option<String>) -> Self {
        Self(text)
    }
}
