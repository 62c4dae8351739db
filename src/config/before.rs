//! What is in force when the configuration is read again: parts whose files are the same are taken over, not made anew.

use std::sync::Arc;

use super::settings::Settings;
use crate::tls::ClientCa;

/// What becomes of a part whose files are wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultyPart {
    /// The whole configuration is refused: somebody asked for it, and waits for the answer.
    IsAMistake,
    /// The part stays as it was, and the others are taken over: files changed, and one may be half written.
    StaysAsItWas,
}

/// What is in force.
#[derive(Clone, Copy, Debug)]
pub struct Before<'a> {
    /// The settings.
    pub settings: &'a Settings,
    /// What becomes of a part whose files are wrong.
    pub faulty: FaultyPart,
}

impl Before<'_> {
    /// The CA of this name, if it was made of the same.
    pub(super) fn ca_of(&self, name: &str, recipe: &str) -> Option<Arc<ClientCa>> {
        let (made_of, ca) = self.settings.made.get(name)?;
        (made_of == recipe).then(|| Arc::clone(ca))
    }
}
