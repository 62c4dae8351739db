//! The roster.

/// Everyone known.
#[derive(Debug, Default)]
pub struct Roster {}

/// Why a good certificate stands for nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoIdentity {
    /// Nobody matches.
    Unknown,
    /// The matching identity is disabled.
    Disabled {
        /// Its name.
        name: String,
    },
    /// Two of equal rank match.
    Ambiguous {
        /// Their names.
        names: Vec<String>,
    },
}
