//! May this identity do that? Pure functions from an identity and a fact to a [`Verdict`].
//!
//! | question | function | source |
//! |---|---|---|
//! | may it be the envelope sender? | [`sender()`] | RFC 6409 §6.1 |
//! | may it be in From, Sender, Resent-From, Resent-Sender? | [`author()`] | RFC 6409 §8.1, RFC 5322 §3.6.2 |
//! | may it be written to? | [`recipient()`] | RFC 6409 §6.2 |
//! | is there a way to it? | [`way()`] | RFC 3463 §3.5 (X.4.4) |
//! | so many recipients, so large a message? | [`limits`] | RFC 5321 §4.5.3.1 |
//!
//! An empty grant grants nothing. `explain` calls the same functions. Never: chooses a reply, reads a clock, looks anything up. Nothing
//! here can fail: what is not allowed is refused, with the rule and a cause.

pub mod author;
pub mod limits;
pub mod recipient;
pub mod reports;
pub mod sender;
pub mod verdict;
pub mod way;

pub use author::{SenderField, author, sender_field};
pub use recipient::recipient;
pub use reports::returned;
pub use sender::sender;
pub use verdict::{Offence, Refusal, Verdict};
pub use way::way;
