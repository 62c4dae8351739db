//! The words of SASL that both sides speak: one form of a text (`prep`), SCRAM's keys and names (`scram`), the value that binds a login to
//! its connection.
//!
//! `credentials` holds what a client shows against them, `upstream` shows by them who we are. Values and arithmetic only. Never: decides
//! whether a login is right; chooses a nonce; prints a secret.

use std::fmt;

pub mod prep;
pub mod scram;

/// What tls-exporter gives for a connection (RFC 9266 §2): both ends know it, nobody between them does.
#[derive(Clone, PartialEq, Eq)]
pub struct ExporterValue(pub [u8; 32]);

impl ExporterValue {
    /// The label under which TLS exports it (RFC 9266 §2).
    pub const LABEL: &'static [u8] = b"EXPORTER-Channel-Binding";
}

impl fmt::Debug for ExporterValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[exporter]")
    }
}
