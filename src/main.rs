//! sealpost: arguments, settings, run.
fn main() {}
