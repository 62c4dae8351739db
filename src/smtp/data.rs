//! Dot-stuffing, both ways (RFC 5321 §4.5.2).

/// What is wrong with the octets themselves, wherever they stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OctetFault {
    /// CR without LF.
    BareCr,
    /// LF without CR.
    BareLf,
    /// NUL.
    Nul,
}

/// Undoes dot-stuffing and finds the end.
#[derive(Debug, Default)]
pub struct DotReader {}

/// Stuffs dots and ends the data.
#[derive(Debug, Default)]
pub struct DotWriter {}
