//! sealpost as a process, with everything around it made when the test runs: certificates, a configuration, free ports, an upstream.
//!
//! Whatever is waited for is an event (a datagram, a line of the log, an arrival), and every wait has an end.

pub mod bench;
pub mod certificates;
pub mod client;
pub mod process;
pub mod upstream;
pub mod web;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How long one event may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Ports below those that Linux gives to whoever connects (`net.ipv4.ip_local_port_range`): between two lives of a server no client takes its port.
const PORTS: std::ops::Range<u32> = 20_000..32_000;

/// Addresses of this machine with ports that nobody listens on, each told once.
pub fn free_addresses<const N: usize>() -> [SocketAddr; N] {
    static TOLD: AtomicU32 = AtomicU32::new(0);
    // Another process of tests beside this one begins elsewhere.
    let first = std::process::id().wrapping_mul(997);
    std::array::from_fn(|_| {
        let mut ports = (0..PORTS.len()).map(|_| {
            let number = first.wrapping_add(TOLD.fetch_add(1, Ordering::Relaxed)) % (PORTS.end - PORTS.start);
            u16::try_from(PORTS.start + number).unwrap()
        });
        let free = ports.find(|port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok());
        SocketAddr::from((Ipv4Addr::LOCALHOST, free.expect("no port is free")))
    })
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
