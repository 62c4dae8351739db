//! The Received field (RFC 5321 §4.4).
