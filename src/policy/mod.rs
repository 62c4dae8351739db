//! May this identity do that? Pure functions from a grant and a fact to a [`Verdict`].
//!
//! `explain` calls the same functions. Never: chooses a reply, reads a clock, looks anything up.

pub mod author;
pub mod limits;
pub mod recipient;
pub mod sender;
pub mod verdict;

pub use author::author;
pub use verdict::{Offence, Refusal, Verdict};
