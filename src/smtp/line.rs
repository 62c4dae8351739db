//! The strict line codec: octets in, lines out (RFC 5321 §2.3.8: only CRLF ends a line).

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineFault {
    /// CR not followed by LF.
    BareCr,
    /// LF not preceded by CR.
    BareLf,
    /// NUL.
    Nul,
    /// Longer than the limit. The line has been skipped to its CRLF.
    TooLong,
}

/// Collects octets as they come and gives out whole lines.
#[derive(Debug, Default)]
pub struct LineReader {}
