//! preamble
