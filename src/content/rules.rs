//! What the configuration asks of every header, whoever sends it (`[header]`).
//!
//! Read by the reader (what to complete), the judge (what to refuse, what to let pass) and the fix-ups (what to put in). Never: a default that
//! lets a forgery through; as it stands, a header is judged as strictly as the RFCs allow honest mail to be.

use crate::mail::Domain;

/// Which fields may hold octets over 127 when MAIL did not say SMTPUTF8 (RFC 6531 §3.4 has them declared).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EightBit {
    /// All but those that say who a message is from: raw Latin-1 subjects are honest.
    #[default]
    Passed,
    /// None (`strict_8bit = true`).
    Refused,
}

/// What becomes of a Sender that is not granted (RFC 6409 §8.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForeignSender {
    /// The message is refused.
    #[default]
    Refused,
    /// It is replaced (`sender = "rewrite"`).
    Replaced,
}

/// What becomes of a message whose From does not name who submits it, and that has no Sender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissingSender {
    /// It stays so.
    #[default]
    LeftOut,
    /// One is added (`add_sender = true`).
    Added,
}

/// What becomes of addresses in the header without a fully qualified domain (RFC 6409 §4.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Unqualified {
    /// They go on as they are.
    #[default]
    Passed,
    /// The message is refused.
    Refused,
    /// This domain completes them.
    Completed(Domain),
}

/// Whether an Authentication-Results field tells who was authenticated (RFC 8601).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Results {
    /// None does.
    #[default]
    LeftOut,
    /// One is put in front.
    Written,
}

/// What is asked of every header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderRules {
    /// Octets over 127.
    pub eight_bit: EightBit,
    /// A Sender that is not granted.
    pub foreign_sender: ForeignSender,
    /// A Sender that is not there.
    pub missing_sender: MissingSender,
    /// Domains that are not whole.
    pub unqualified: Unqualified,
    /// Authentication-Results.
    pub results: Results,
}
