//! Whom chains stood for that were looked up before.
//!
//! Whom a chain stands for follows from the chain and the roster alone. A client that comes again with the same one, found good anew and until the
//! same time, is given the identity that was made for it, and nothing is read or compared again. A roster that is read anew knows nobody.
//!
//! Never: holds who was refused; grows. Nothing can fail: who is not known is looked up.

use std::sync::Arc;

use crate::identity::Identity;
use crate::tls::{Places, VerifiedChain};

/// How many are held.
const KNOWN: usize = 1024;
/// The longest chain of one, octets.
const CHAIN_OCTETS_MAX: usize = 4096;

/// Chains, and whom each stood for.
#[derive(Debug)]
pub(super) struct Known(Places<(VerifiedChain, Arc<Identity>)>);

impl Default for Known {
    fn default() -> Self {
        Self(Places::new(KNOWN))
    }
}

impl Known {
    /// With one place for all, so that each stands where another stood.
    #[cfg(test)]
    pub(super) fn in_one_place() -> Self {
        Self(Places::new(1))
    }

    /// Whom this very chain stood for.
    pub(super) fn of(&self, chain: &VerifiedChain) -> Option<Arc<Identity>> {
        let place = self.0.at(chain.leaf())?;
        place.as_ref().filter(|(held, _)| held.is_the_same(chain)).map(|(_, identity)| Arc::clone(identity))
    }

    /// Holds it from now on.
    pub(super) fn hold(&self, chain: &VerifiedChain, identity: &Arc<Identity>) {
        if chain.octets() <= CHAIN_OCTETS_MAX
            && let Some(mut place) = self.0.at(chain.leaf())
        {
            *place = Some((chain.clone(), Arc::clone(identity)));
        }
    }
}
