//! The bodies of the fuzz targets as a library of their own: the root that `fuzz/Cargo.toml` names. `tests/it/main.rs` is the other root that has them.

#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "what the bodies stand on is made for the tests, which use more of it"
)]

pub mod bodies;
mod proof;
mod recipe;

mod dialog {
    pub(crate) mod cast;
    pub(crate) mod script;
}
