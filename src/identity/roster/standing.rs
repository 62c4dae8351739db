//! Whether somebody who was known once would still be: for mail that was accepted and waits (`queue.recheck`).
//!
//! Of him there is a name, a CA and two digests, but no certificate any more. So what is asked is what can be known for certain: whether a rule
//! still makes this identity, and whether it is disabled or pinned to something else by now. Pure.

use super::{Compiled, EntryState, OwnNames, Roster};
use crate::identity::Digest256;
use crate::identity::key::{Key, MailboxKey, MatchKeys};
use crate::mail::Address;
use crate::tls::Witness;

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
    /// A load balancer vouched for the certificate, and that does not count for this identity.
    #[error(
        "a load balancer vouched for the certificate of this identity, and no such word counts for it now (accept_vouched is not true)"
    )]
    NotVouched,
}

impl Roster {
    /// Whether an identity of this name, known under this CA by a certificate with these digests, whose key `witness` has seen, would still be let in.
    /// What a certificate's names say is not asked again: nobody has them any more.
    pub fn standing(
        &self,
        name: &str,
        ca: Option<&str>,
        fingerprint: Option<Digest256>,
        key: Option<Digest256>,
        witness: Witness,
    ) -> Result<(), Lapsed> {
        let under = match ca {
            Some(ca) => Some(self.place_of(ca).ok_or(Lapsed::Gone)?),
            None => None,
        };
        match (self.named(name), under) {
            (Some(compiled), under) => compiled.standing(under, fingerprint, key, witness),
            (None, Some(under)) => self.standing_by_names(name, under, witness),
            (None, None) => Err(Lapsed::Gone),
        }
    }

    /// Who is called `ca:address`: does the CA still name people so, and is there no rule by now that disables this one?
    fn standing_by_names(&self, name: &str, under: u16, witness: Witness) -> Result<(), Lapsed> {
        let known = self.ca(under).ok_or(Lapsed::Gone)?;
        let own = known.grant.send_as_email.as_ref().ok_or(Lapsed::Gone)?;
        let address = name.strip_prefix(&*known.grant.ca).and_then(|rest| rest.strip_prefix(':'));
        let Some(Ok(address)) = address.map(Address::parse) else { return Err(Lapsed::Gone) };
        let canonical = address.canonical(known.grant.local_part_case);
        if !known.domains.as_ref().is_some_and(|domains| domains.holds(&canonical.host)) {
            return Err(Lapsed::Gone);
        }
        let rules: Vec<&Compiled> = self.rules_for(&address, known.grant.own_names, under);
        let best = rules.iter().map(|rule| rule.rank()).max();
        let best: Vec<&&Compiled> = rules.iter().filter(|rule| Some(rule.rank()) == best).collect();
        // What matches replaces the CA's own grant whole.
        let is_taken = if best.is_empty() {
            own.leeway.takes(witness)
        } else {
            best.iter().all(|rule| rule.terms.leeway.takes(witness))
        };
        if best.iter().any(|rule| rule.terms.state == EntryState::Disabled) {
            Err(Lapsed::Disabled)
        } else if is_taken {
            Ok(())
        } else {
            Err(Lapsed::NotVouched)
        }
    }

    /// The rules that match every certificate with this name under this CA, by the name or by a wildcard. One that asks for more than the name
    /// may be for another certificate, and says nothing of this one.
    fn rules_for(&self, address: &Address, own: OwnNames, under: u16) -> Vec<&Compiled> {
        let case = self.case_under(Some(under));
        let exact = || Some(MailboxKey::Exact(address.clone()));
        let domain = || address.host().domain().cloned().map(MailboxKey::Domain);
        let emails = [exact(), domain()].map(|email| MatchKeys { email, ..MatchKeys::default() });
        let upns = [exact(), domain()].map(|upn| MatchKeys { upn, ..MatchKeys::default() });
        let asked = match own {
            OwnNames::Emails => emails.to_vec(),
            OwnNames::Upns => upns.to_vec(),
            OwnNames::Both => emails.into_iter().chain(upns).collect(),
        };
        let wanted: Vec<Key> = asked.iter().flat_map(|keys| keys.keys()).map(|key| key.normal(case)).collect();
        let places = wanted.iter().flat_map(|key| key.with_clue(|clue| self.index.at(clue).collect::<Vec<u32>>()));
        let found = places.filter_map(|place| self.entries.get(usize::try_from(place).ok()?));
        found
            .filter(|rule| rule.tied_to.is_none_or(|tied_to| tied_to == under))
            .filter(|rule| matches!(&*rule.keys, [one] if wanted.contains(&one.normal(case))))
            .collect()
    }
}

impl Compiled {
    fn standing(
        &self,
        under: Option<u16>,
        fingerprint: Option<Digest256>,
        key: Option<Digest256>,
        witness: Witness,
    ) -> Result<(), Lapsed> {
        let pinned = self.keys.iter().filter_map(|wanted| match wanted {
            Key::Fingerprint(wanted) => Some((wanted, fingerprint)),
            Key::Spki(wanted) => Some((wanted, key)),
            Key::IssuerSerial(..)
            | Key::Subject(_)
            | Key::Uri(_)
            | Key::UriBelow(_)
            | Key::Dns(_)
            | Key::DnsBelow(_)
            | Key::Upn(_)
            | Key::UpnAt(_)
            | Key::Email(_)
            | Key::EmailAt(_) => None,
        });
        let pins: Vec<(&Digest256, Option<Digest256>)> = pinned.collect();
        if self.terms.state == EntryState::Disabled {
            Err(Lapsed::Disabled)
        } else if pins.iter().any(|(wanted, found)| found.is_some_and(|found| found != **wanted)) {
            Err(Lapsed::Unpinned)
        } else if self.named_ca.is_some() && self.named_ca != under {
            Err(Lapsed::Gone)
        } else if under.is_none() && pins.is_empty() {
            Err(Lapsed::Unpinned)
        } else if !self.terms.leeway.takes(witness) {
            Err(Lapsed::NotVouched)
        } else {
            Ok(())
        }
    }
}
