//! What the roster says of those it knows, in short: for people who list them. Pure.

use std::sync::Arc;

use super::{EntryState, Roster, Rule, Terms};
use crate::identity::SecondFactor;
use crate::identity::pattern::{PatternEntry, PatternList};

/// Patterns of a list that are shown; a list may have thousands.
const SHOWN_MAX: usize = 8;

/// An identity in short.
#[derive(Clone, Debug)]
pub struct Described {
    /// Its name.
    pub name: String,
    /// Where what it may do is written.
    pub rule: Rule,
    /// The CA that it is tied to.
    pub ca: Option<Arc<str>>,
    /// What it may send as.
    pub send_as: Brief,
    /// Whom it may send to.
    pub send_to: Brief,
    /// What is asked besides a certificate for which that CA vouches.
    pub second_factor: SecondFactor,
    /// The rest.
    pub terms: Arc<Terms>,
}

/// A list in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brief {
    /// The first patterns.
    pub shown: Vec<String>,
    /// How many more there are.
    pub more: usize,
}

impl Brief {
    fn of(list: &PatternList) -> Self {
        let entries = list.entries();
        let shown = entries.iter().take(SHOWN_MAX).map(PatternEntry::to_string).collect();
        Self { shown, more: entries.len().saturating_sub(SHOWN_MAX) }
    }
}

impl Roster {
    /// Some entries from a place on, in the order in which they are written.
    pub fn described(&self, from: usize, count: usize) -> impl Iterator<Item = Described> {
        self.entries.iter().skip(from).take(count).map(|entry| self.of_entry(entry))
    }

    /// The entry of this name.
    pub fn describe(&self, name: &str) -> Option<Described> {
        self.named(name).map(|entry| self.of_entry(entry))
    }

    /// Whether there is an entry of this name.
    pub fn has(&self, name: &str) -> bool {
        self.named(name).is_some()
    }

    /// Somebody whom his certificate alone names, under this CA; none when the CA names nobody so.
    pub fn describe_own(&self, name: &str, ca: &str) -> Option<Described> {
        let ca = self.place_of(ca).and_then(|place| self.ca(place))?;
        let own = ca.grant.send_as_email.as_ref()?;
        let terms = Terms {
            state: EntryState::Enabled,
            second_factor: Some(ca.grant.second_factor),
            limits: own.limits,
            dispatch: own.dispatch,
            null_sender: own.null_sender,
            leeway: own.leeway,
            pin_ignores_expiry: false,
        };
        Some(Described {
            name: name.to_owned(),
            rule: ca.grant.rule.clone(),
            ca: Some(Arc::clone(&ca.grant.ca)),
            send_as: Brief { shown: vec!["@certificate".to_owned()], more: 0 },
            send_to: Brief::of(&own.send_to),
            second_factor: ca.grant.second_factor,
            terms: Arc::new(terms),
        })
    }

    fn of_entry(&self, entry: &super::Compiled) -> Described {
        let ca = entry.tied_to.and_then(|place| self.ca(place));
        Described {
            name: entry.name.to_string(),
            rule: entry.rule(),
            ca: ca.map(|ca| Arc::clone(&ca.grant.ca)),
            send_as: Brief::of(&entry.send_as),
            send_to: Brief::of(&entry.send_to),
            second_factor: self.second_factor(&entry.terms, entry.tied_to),
            terms: Arc::clone(&entry.terms),
        }
    }
}
