//! Extensions by their EHLO keyword.

/// An extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    /// PIPELINING (RFC 2920).
    Pipelining,
}
