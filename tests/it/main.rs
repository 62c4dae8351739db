//! Integration tests, one binary, in reading order.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::as_conversions,
    clippy::wildcard_enum_match_arm,
    clippy::disallowed_methods,
    reason = "a test that meets something unexpected must fail at once, and it has tasks and sockets of its own"
)]

mod scripted_upstream;
mod upstream;
