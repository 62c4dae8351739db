//! The domains that a CA may speak for.
//!
//! Nothing beyond them is granted to its certificates, whatever else is written. Pure; reading fails with a sentence that says what to write
//! instead.

use std::collections::HashSet;

use super::{AddressPattern, parents};
use crate::mail::{AddressFault, Domain};

/// The domains a CA may speak for: `example.com` exactly, `.example.com` its subdomains, `*` all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DomainSet {
    exact: HashSet<String>,
    subdomains: HashSet<String>,
    every: Every,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Every {
    #[default]
    Listed,
    All,
}

/// Why a text is no domain of a CA.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DomainFault {
    /// An address or pattern.
    #[error("a domain is wanted, not an address; write {0}")]
    Address(String),
    /// `*.example.com`
    #[error("for the subdomains of a domain write .{0}")]
    Wildcard(String),
    /// Not a domain.
    #[error("{0}")]
    Syntax(#[from] AddressFault),
}

impl DomainSet {
    /// Reads a list; the faults carry the place in it, from 0.
    pub fn read<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, Vec<(usize, DomainFault)>> {
        let mut set = Self::default();
        let mut faults = Vec::new();
        for (place, text) in texts.into_iter().enumerate() {
            if let Err(fault) = set.put(text) {
                faults.push((place, fault));
            }
        }
        if faults.is_empty() { Ok(set) } else { Err(faults) }
    }

    fn put(&mut self, text: &str) -> Result<(), DomainFault> {
        if text == "*" {
            self.every = Every::All;
        } else if let Some((_, domain)) = text.split_once('@') {
            return Err(DomainFault::Address(domain.to_owned()));
        } else if let Some(domain) = text.strip_prefix("*.") {
            return Err(DomainFault::Wildcard(domain.to_owned()));
        } else if let Some(domain) = text.strip_prefix('.') {
            self.subdomains.insert(Domain::parse(domain)?.ascii().to_owned());
        } else {
            self.exact.insert(Domain::parse(text)?.ascii().to_owned());
        }
        Ok(())
    }

    /// Whether a host (lower-case A-labels) is one of them. An address literal never is, but under `*`.
    pub fn holds(&self, host: &str) -> bool {
        self.every == Every::All
            || self.exact.contains(host)
            || parents(host).any(|parent| self.subdomains.contains(parent))
    }

    /// Whether every host of the other set is one of this.
    pub fn covers(&self, other: &Self) -> bool {
        let all_below = |domain: &String| {
            self.subdomains.contains(domain) || parents(domain).any(|parent| self.subdomains.contains(parent))
        };
        self.every == Every::All
            || (other.every == Every::Listed
                && other.exact.iter().all(|host| self.holds(host))
                && other.subdomains.iter().all(all_below))
    }

    /// Whether any address that the pattern names may be in them.
    pub(in crate::identity) fn touches(&self, pattern: &AddressPattern) -> bool {
        match pattern {
            AddressPattern::Any | AddressPattern::Certificate => true,
            AddressPattern::Address(address) => self.holds(&address.host().to_string()),
            AddressPattern::Tagged { host, .. } | AddressPattern::Host(host) => self.holds(&host.to_string()),
            AddressPattern::Subdomains(domain) => {
                let domain = domain.ascii();
                let below = |other: &String| parents(other).any(|parent| parent == domain);
                self.every == Every::All
                    || self.subdomains.contains(domain)
                    || parents(domain).any(|parent| self.subdomains.contains(parent))
                    || self.exact.iter().any(below)
                    || self.subdomains.iter().any(below)
            }
        }
    }
}
