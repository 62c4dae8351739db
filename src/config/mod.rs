//! Configuration.

mod environment;
mod mistake;
mod nearest;
mod origin;
mod schema;
mod text;
mod units;
mod written;
