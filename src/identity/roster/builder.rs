//! A roster in the making: entry by entry, each made small at once, so that a million need no second copy of everything.
//!
//! Mistakes are gathered and told together, up to a limit. Never: keeps a roster that has one.

use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::sync::Arc;

use super::index::Index;
use super::{CaGrant, Compiled, CompiledCa, EntryState, MatchKeys, Roster, RosterEntry, RosterMistake, Written, lint};
use crate::identity::key::Key;
use crate::identity::pattern::{AddressPatterns, PatternList};
use crate::identity::{Dispatch, Leeway, Limits, Rule, SecondFactor};

/// The most entries of a roster.
const ENTRIES_MAX: usize = 4_000_000;
/// The most mistakes that are told; a list of a million lines may have a million.
pub(super) const TOLD_MAX: usize = 100;

/// What an entry says besides whom it matches and what it may send; many lines of a file share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Whether it lets anybody in.
    pub state: EntryState,
    /// What is asked besides the certificate; where it is not said, what the CA asks that vouches for it.
    pub second_factor: Option<SecondFactor>,
    /// How much.
    pub limits: Limits,
    /// When its messages go out.
    pub dispatch: Dispatch,
    /// Whether `MAIL FROM:<>` is allowed.
    pub null_sender: bool,
    /// What is let pass besides.
    pub leeway: Leeway,
    /// Whether the pin holds beyond the certificate's end.
    pub pin_ignores_expiry: bool,
}

impl Terms {
    /// Whether they ask for more than a certificate, this among it, or allow less.
    pub(super) fn narrows(&self, factor: SecondFactor) -> bool {
        factor != SecondFactor::None || self.dispatch != Dispatch::AtOnce || self.limits != Limits::default()
    }
}

/// An entry from a line of a file; an `[[identity]]` is a [`RosterEntry`].
#[derive(Clone, Debug)]
pub struct RosterLine<'a> {
    /// Its name.
    pub name: &'a str,
    /// Which certificates it is for.
    pub keys: MatchKeys,
    /// Addresses it may send as.
    pub send_as: PatternList,
    /// Addresses it may send to.
    pub send_to: PatternList,
    /// The rest.
    pub terms: Arc<Terms>,
    /// The file.
    pub file: Arc<str>,
    /// The line in it, from 1.
    pub line: u32,
}

/// A roster in the making.
#[derive(Debug)]
pub struct RosterBuilder {
    roster: Roster,
    cas: Vec<CaGrant>,
    mistakes: Mistakes,
}

/// What was found, up to [`TOLD_MAX`].
#[derive(Debug, Default)]
pub(super) struct Mistakes {
    told: Vec<RosterMistake>,
    more: usize,
}

impl Mistakes {
    pub(super) fn add(&mut self, rule: impl FnOnce() -> Rule, sentence: String) {
        if self.told.len() < TOLD_MAX {
            self.told.push(RosterMistake { rule: rule(), sentence });
        } else {
            self.more = self.more.saturating_add(1);
        }
    }

    pub(super) fn into_told(mut self) -> Vec<RosterMistake> {
        if let (more @ 1.., Some(last)) = (self.more, self.told.last_mut()) {
            last.sentence.push_str(&format!(" (and {more} more are not shown)"));
        }
        self.told
    }
}

impl RosterBuilder {
    /// An empty roster under these CAs.
    pub fn new(cas: Vec<CaGrant>) -> Self {
        let mut mistakes = Mistakes::default();
        lint::repeated_cas(&cas, &mut mistakes);
        Self { roster: Roster::default(), cas, mistakes }
    }

    /// Takes an `[[identity]]`.
    pub fn put(&mut self, entry: RosterEntry) {
        let RosterEntry {
            name,
            keys,
            state,
            send_as,
            send_to,
            second_factor,
            limits,
            dispatch,
            null_sender,
            leeway,
            pin_ignores_expiry,
            rule,
        } = entry;
        let terms = Arc::new(Terms { state, second_factor, limits, dispatch, null_sender, leeway, pin_ignores_expiry });
        self.take(&name, &keys, (send_as, send_to), terms, Written::Table(Box::new(rule)));
    }

    /// Takes a line of a file.
    pub fn put_line(&mut self, line: RosterLine<'_>) {
        let RosterLine { name, keys, send_as, send_to, terms, file, line } = line;
        self.take(name, &keys, (send_as, send_to), terms, Written::Line { file, line });
    }

    fn take(
        &mut self,
        name: &str,
        keys: &MatchKeys,
        (send_as, send_to): (PatternList, PatternList),
        terms: Arc<Terms>,
        written: Written,
    ) {
        let place_of = |wanted: &Arc<str>| {
            let place = self.cas.iter().position(|ca| ca.ca == *wanted)?;
            u16::try_from(place).ok()
        };
        let named_ca = keys.ca.as_ref().and_then(place_of);
        let certain = keys.fingerprint.is_some() || keys.spki.is_some();
        let only = (self.cas.len() == 1 && !certain).then_some(0);
        let compiled = Compiled {
            name: name.into(),
            keys: keys.keys(),
            named_ca,
            tied_to: named_ca.or(only),
            send_as,
            send_to,
            terms,
            written,
        };
        let is_pinned = certain && keys.ca.is_none();
        let unsaid = if is_pinned { lint::unsaid_factor(&compiled, &self.cas) } else { None };
        for sentence in lint::entry_mistakes(name, keys, &compiled.keys, &self.cas).into_iter().chain(unsaid) {
            self.mistakes.add(|| compiled.rule(), sentence);
        }
        if self.roster.entries.len() < ENTRIES_MAX {
            self.roster.entries.push(compiled);
        } else {
            self.mistakes.add(|| compiled.rule(), format!("there are more than {ENTRIES_MAX} identities"));
        }
    }

    /// The roster; every mistake, when there is one.
    pub fn finish(self) -> Result<Roster, Vec<RosterMistake>> {
        let Self { mut roster, cas, mut mistakes } = self;
        roster.cas = cas.into_iter().map(CompiledCa::new).collect();
        roster.entries.shrink_to_fit();
        roster.index = Index::of(&roster.entries, |entry, keyed| match entry.keys.first() {
            // One place is enough, by the most certain key: the rest of the keys is compared when it is found.
            Some(key) => key.with_clue(|clue| keyed.hash_one(clue)),
            None => 0,
        });
        roster.names = Index::of(&roster.entries, |entry, keyed| keyed.hash_one(&*entry.name));
        repeated_names(&roster, &mut mistakes);
        same_keys(&roster, &mut mistakes);
        if mistakes.told.is_empty() {
            roster.warm();
            Ok(roster)
        } else {
            Err(mistakes.into_told())
        }
    }
}

/// What an entry of a line is called, and where it is written.
pub(super) fn rule_of_line(name: &str, file: &str, line: u32) -> Rule {
    Rule { name: format!("identity {name:?}").into(), place: Some(format!("{file}:{line}").into()) }
}

fn repeated_names(roster: &Roster, mistakes: &mut Mistakes) {
    for group in roster.names.groups() {
        first_of_each(
            &roster.entries,
            group,
            |entry| entry.name.clone(),
            |entry, first| {
                let sentence = format!(
                    "the name {:?} is taken by {}; give each identity a name of its own",
                    entry.name,
                    first.rule()
                );
                mistakes.add(|| entry.rule(), sentence);
            },
        );
    }
}

/// Two entries that ask for the very same tie at every certificate.
fn same_keys(roster: &Roster, mistakes: &mut Mistakes) {
    for group in roster.index.groups() {
        first_of_each(
            &roster.entries,
            group,
            |entry| roster.normal(entry),
            |entry, first| {
                if !entry.keys.is_empty() {
                    let sentence = format!(
                        "matches the same certificates as {}; leave one out or give it another key",
                        first.rule()
                    );
                    mistakes.add(|| entry.rule(), sentence);
                }
            },
        );
    }
}

/// Within a group, tells each entry that is like one before it.
fn first_of_each<'a, K: std::hash::Hash + Eq>(
    entries: &'a [Compiled],
    group: impl Iterator<Item = u32>,
    likeness: impl Fn(&Compiled) -> K,
    mut tell: impl FnMut(&Compiled, &Compiled),
) {
    let mut seen: HashMap<K, &'a Compiled> = HashMap::new();
    for entry in group.filter_map(|place| entries.get(usize::try_from(place).ok()?)) {
        match seen.entry(likeness(entry)) {
            std::collections::hash_map::Entry::Occupied(first) => tell(entry, first.get()),
            std::collections::hash_map::Entry::Vacant(free) => drop(free.insert(entry)),
        }
    }
}

impl Roster {
    /// The keys of an entry in the form in which two that match the same certificates are equal.
    pub(super) fn normal(&self, entry: &Compiled) -> (Option<u16>, Vec<Key>) {
        let case = self.case_under(entry.tied_to);
        (entry.named_ca, entry.keys.iter().map(|key| key.normal(case)).collect())
    }

    /// Long lists are put into their hashes now, not when the first certificate comes.
    fn warm(&self) {
        for entry in &self.entries {
            let case = self.case_under(entry.tied_to);
            entry.send_as.warm(case);
            entry.send_to.warm(case);
        }
    }
}

impl CompiledCa {
    fn new(grant: CaGrant) -> Self {
        let case = grant.local_part_case;
        let send_to = grant.send_as_email.as_ref().map(|own| own.send_to.compile(case)).unwrap_or_default();
        Self {
            domains: grant.domains.clone().map(Arc::new),
            send_as: AddressPatterns::of_certificate(),
            send_to,
            grant,
        }
    }
}
