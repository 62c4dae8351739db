//! Integration tests, one binary, in reading order: what the source looks like, the daemon as a process, the daemon killed.
//!
//! Real peers (Postfix, swaks, curl, ..) are in tests/peers; `tests/run` runs everything.

#![allow(
    unreachable_pub,
    missing_docs,
    missing_debug_implementations,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::as_conversions,
    clippy::wildcard_enum_match_arm,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test that meets something unexpected must fail at once, and it has files, processes and sockets of its own"
)]

mod bodies;
mod harness;
mod proof;
mod recipe;
mod source;

mod rfc;
mod structure;

mod chains;

mod policy;
mod polled;
mod session;
mod header;
mod dialog;
mod fuzz;
mod mutants;
mod chunks;
mod store;

mod scripted_login;
mod scripted_upstream;
mod upstream;
mod upstream_dane;
mod upstream_login;
mod upstream_trust;
mod names;
mod examined;
mod blame;
mod waits;
mod delivery;
mod through;
mod intake;

mod simulation;
mod faults;

mod daemon;
mod balanced;
mod vouched;
mod explained;
mod fetched;
mod exits;
mod identities;
mod kill;
mod limits;
mod live;
mod moving;
mod ocsp;
mod real_disk;
mod soak;
mod steer;
mod strace;
