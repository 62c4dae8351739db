//! Whether somebody who was known once would still be: for mail that was accepted and waits (`queue.recheck`).
//!
//! Of him there is a name, a CA and two digests, but no certificate any more. So what is asked is what can be known for certain: whether a rule
//! still makes this identity, and whether it is disabled or pinned to something else by now. Pure.

use super::{EntryState, MatchKeys, Roster};
use crate::identity::Digest256;
use crate::mail::{Address, LocalPartCase};

/// Why somebody who was known when he sent something is not any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lapsed {
    /// No rule makes this identity.
    #[error("the configuration does not know this identity any more")]
    Gone,
    /// Its rule is disabled.
    #[error("this identity is disabled")]
    Disabled,
    /// Its rule asks for another certificate or key.
    #[error("the certificate or key that this identity is pinned to is another one now")]
    Unpinned,
}

impl Roster {
    /// Whether an identity of this name, known under this CA by a certificate with these digests, would still be let in. What a certificate's
    /// names say is not asked again: nobody has them any more.
    pub fn standing(
        &self,
        name: &str,
        ca: Option<&str>,
        fingerprint: Option<Digest256>,
        key: Option<Digest256>,
    ) -> Result<(), Lapsed> {
        if ca.is_some_and(|ca| !self.cas.contains_key(ca)) {
            return Err(Lapsed::Gone);
        }
        match self.by_name.get(name).and_then(|&place| self.entries.get(place)) {
            Some(compiled) => {
                let MatchKeys { ca: tied_to, fingerprint: pin, spki, .. } = &compiled.entry.keys;
                let other = |wanted: &Option<Digest256>, found: Option<Digest256>| {
                    wanted.is_some_and(|wanted| found.is_some_and(|found| found != wanted))
                };
                if compiled.entry.state == EntryState::Disabled {
                    Err(Lapsed::Disabled)
                } else if other(pin, fingerprint) || other(spki, key) {
                    Err(Lapsed::Unpinned)
                } else if tied_to.as_deref().is_some_and(|tied_to| ca != Some(tied_to)) {
                    Err(Lapsed::Gone)
                } else if ca.is_none() && pin.is_none() && spki.is_none() {
                    Err(Lapsed::Unpinned)
                } else {
                    Ok(())
                }
            }
            None => self.standing_by_names(name, ca),
        }
    }

    /// Who is called `ca:address`: does the CA still name people so, and is there no rule by now that disables this one?
    fn standing_by_names(&self, name: &str, ca: Option<&str>) -> Result<(), Lapsed> {
        let known = ca.and_then(|name| self.cas.get(name)).filter(|ca| ca.grant.send_as_email.is_some());
        let address = ca.and_then(|ca| name.strip_prefix(ca)).and_then(|rest| rest.strip_prefix(':'));
        let (Some(known), Some(Ok(address))) = (known, address.map(Address::parse)) else { return Err(Lapsed::Gone) };
        let canonical = address.canonical(known.grant.local_part_case);
        if !known.domains.as_ref().is_some_and(|domains| domains.holds(&canonical.host)) {
            return Err(Lapsed::Gone);
        }
        let places = self.by_email.get(&address.canonical(LocalPartCase::Ignored)).into_iter().flatten();
        let mut rules = places.filter_map(|&place| self.entries.get(place)).filter(|rule| {
            let keys = &rule.entry.keys;
            let same =
                keys.email.as_ref().is_some_and(|email| email.canonical(known.grant.local_part_case) == canonical);
            // A rule that asks for more than this name may be for another certificate.
            same && keys.count() == 1 && rule.tied_to.as_deref().is_none_or(|tied_to| ca == Some(tied_to))
        });
        let disabled = rules.any(|rule| rule.entry.state == EntryState::Disabled);
        if disabled { Err(Lapsed::Disabled) } else { Ok(()) }
    }
}
