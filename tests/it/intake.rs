//! What intake bounds: memory, waits, lines and places; each limit with something that goes past it, and all of them with what the manual says.

mod called_away;
mod crowd;
mod deadlines;
mod documented;
mod envelopes;
mod half_open;
mod lines;
mod memory;
