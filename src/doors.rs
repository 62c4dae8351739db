//! How many may be inside: connections in all, and per client address.
//!
//! An IPv6 client counts by its /64, which one host owns whole. Never: waits; looks up a name.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use crate::snapshot::DoorLimits;

/// Which limit was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// Connections in all.
    Everywhere,
    /// Connections from this address.
    ForAddress,
}

/// Counts who is inside.
#[derive(Clone, Debug, Default)]
pub struct Doors {
    inside: Arc<Mutex<Inside>>,
}

#[derive(Debug, Default)]
struct Inside {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// One connection's place; given back when dropped.
#[derive(Debug)]
pub struct Place {
    inside: Arc<Mutex<Inside>>,
    address: IpAddr,
}

impl Doors {
    /// A place for a client at `address`, if there is one.
    pub fn enter(&self, address: IpAddr, limits: DoorLimits) -> Result<Place, Full> {
        let address = counted_as(address);
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        if inside.total >= limits.connections {
            return Err(Full::Everywhere);
        }
        let here = inside.by_address.entry(address).or_insert(0);
        if *here >= limits.connections_per_address {
            return Err(Full::ForAddress);
        }
        *here += 1;
        inside.total += 1;
        Ok(Place { inside: Arc::clone(&self.inside), address })
    }

    /// How many are inside.
    pub fn inside(&self) -> usize {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner).total
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        inside.total = inside.total.saturating_sub(1);
        if let Some(here) = inside.by_address.get_mut(&self.address) {
            *here = here.saturating_sub(1);
            if *here == 0 {
                inside.by_address.remove(&self.address);
            }
        }
    }
}

/// IPv4 written as IPv6 counts as IPv4; IPv6 counts by its first 64 bits.
pub(crate) fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: DoorLimits = DoorLimits { connections: 3, connections_per_address: 2 };

    fn at(address: &str) -> IpAddr {
        address.parse().unwrap()
    }

    #[test]
    fn each_address_has_its_own_count_and_places_come_back() {
        let doors = Doors::default();
        let first = doors.enter(at("127.0.0.1"), LIMITS).unwrap();
        let _second = doors.enter(at("::ffff:127.0.0.1"), LIMITS).unwrap();
        assert_eq!(doors.enter(at("127.0.0.1"), LIMITS).unwrap_err(), Full::ForAddress);
        let _other = doors.enter(at("127.0.0.2"), LIMITS).unwrap();
        assert_eq!(doors.enter(at("127.0.0.3"), LIMITS).unwrap_err(), Full::Everywhere);
        drop(first);
        assert!(doors.enter(at("127.0.0.3"), LIMITS).is_ok());
        assert_eq!(doors.inside(), 2);
    }

    #[test]
    fn one_host_does_not_become_many_by_its_ipv6_prefix() {
        let doors = Doors::default();
        let _a = doors.enter(at("2001:db8:0:1::1"), LIMITS).unwrap();
        let _b = doors.enter(at("2001:db8:0:1::2"), LIMITS).unwrap();
        assert_eq!(doors.enter(at("2001:db8:0:1:ffff::3"), LIMITS).unwrap_err(), Full::ForAddress);
        assert!(doors.enter(at("2001:db8:0:2::1"), LIMITS).is_ok());
    }
}
