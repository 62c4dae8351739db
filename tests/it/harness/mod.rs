//! sealpost as a process, with everything around it made when the test runs: certificates, a configuration, free ports, an upstream.
//!
//! Whatever is waited for is an event (a datagram, a line of the log, an arrival), and every wait has an end.

pub mod bench;
pub mod certificates;
pub mod client;
pub mod process;
pub mod upstream;
pub mod web;

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

/// How long one event may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Addresses of this machine with ports that nobody listens on, all different.
pub fn free_addresses<const N: usize>() -> [SocketAddr; N] {
    let held: [TcpListener; N] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    held.each_ref().map(|listener| listener.local_addr().unwrap())
}

/// Looks until it is so; the disk tells nobody of a file that has gone.
pub fn eventually(is_so: impl Fn() -> bool) -> bool {
    let start = std::time::Instant::now();
    while !is_so() {
        if start.elapsed() > PATIENCE {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}
