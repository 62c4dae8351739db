//! Dot-stuffing, both ways (RFC 5321 §4.5.2).

/// Undoes dot-stuffing and finds the end.
#[derive(Debug, Default)]
pub struct DotReader {}

/// Stuffs dots and ends the data.
#[derive(Debug, Default)]
pub struct DotWriter {}
