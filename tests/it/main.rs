//! Tests of whole stations, one binary.

mod store;
