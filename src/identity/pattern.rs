//! Address patterns of grants.

/// One pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressPattern {
    /// `*`
    Any,
}

/// A list of patterns; empty grants nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressPatterns {}

impl AddressPatterns {
    /// The pattern that matches.
    pub fn matches(&self, _address: &crate::mail::CanonicalAddress) -> Option<&AddressPattern> {
        None
    }
}
