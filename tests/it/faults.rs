//! Faults by force: a future dropped at each of its polls, a client gone at each octet, a disk that is full, dead or gone.
//!
//! After each the relay must be as if that client had never been, or have its message whole: no place, budget, limit, body file or task is left
//! behind. The queue here has room for exactly one message being received, so that whatever is left behind keeps the next one out.

mod disconnected;
mod dropped;
mod full;
mod relay;
