//! How many may be inside: connections in all, and per client address; and how many may come in a minute.
//!
//! A TLS handshake costs the server more than the client, so that the number of those inside is not enough: who comes and goes at once is
//! never many. An IPv6 client counts by its /64, which one host owns whole. A load balancer's connection counts among all, and as its client's
//! once it has said whose it is. Never: waits; reads a clock; looks up a name; keeps more
//! addresses than [`ADDRESSES_MAX`].

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::snapshot::DoorLimits;
use crate::sys::{MonoTime, Throttle};

/// Addresses whose pace is remembered. Who comes from more than these at once is not slowed down, but does not fill the memory either.
pub const ADDRESSES_MAX: usize = 65_536;

/// The time over which new connections are counted.
const MINUTE: Duration = Duration::from_secs(60);

/// How often the list of addresses is searched for those that need not be remembered, when it is full.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// How often it is said that clients are turned away.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// Which limit was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// Connections in all.
    Everywhere,
    /// Connections from this address.
    ForAddress,
    /// New connections in a minute from this address.
    TooOften,
}

impl Full {
    /// The key of the limit.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Everywhere => "limits.connections",
            Self::ForAddress => "limits.connections_per_address",
            Self::TooOften => "limits.connections_per_minute",
        }
    }
}

/// Counts who is inside, and who comes.
#[derive(Clone, Debug)]
pub struct Doors {
    inside: Arc<Mutex<Inside>>,
    /// Says now and then that clients are turned away: a flood of connections must not become a flood of lines.
    pub turned_away: Arc<Throttle>,
    /// So too that somebody connects directly where only load balancers may.
    pub strangers: Arc<Throttle>,
    /// So too that a load balancer sends no PROXY header, or a wrong one.
    pub headless: Arc<Throttle>,
    /// So too that a load balancer tells no certificate of its clients.
    pub untold: Arc<Throttle>,
    probes: Arc<AtomicU64>,
}

impl Default for Doors {
    fn default() -> Self {
        let throttle = || Arc::new(Throttle::new(TOLD_EVERY));
        Self {
            inside: Arc::default(),
            turned_away: throttle(),
            strangers: throttle(),
            headless: throttle(),
            untold: throttle(),
            probes: Arc::default(),
        }
    }
}

#[derive(Debug, Default)]
struct Inside {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
    paces: Paces,
}

/// How fast addresses come: for each the moment at which it would have come if it had kept the pace exactly. One that is not ahead of now
/// need not be remembered.
#[derive(Debug, Default)]
struct Paces {
    due: HashMap<IpAddr, MonoTime>,
    swept: Option<MonoTime>,
}

impl Paces {
    /// Counts one more; false when it comes too soon.
    fn come(&mut self, address: IpAddr, per_minute: u32, now: MonoTime) -> bool {
        let interval = MINUTE / per_minute.max(1);
        let due = self.due.get(&address).copied().filter(|due| *due > now).unwrap_or(now);
        let next = due.after(interval);
        // A whole minute's worth may come at once.
        if next.since(now) > MINUTE {
            return false;
        }
        self.make_place(now);
        self.due.insert(address, next);
        true
    }

    fn make_place(&mut self, now: MonoTime) {
        if self.due.len() < ADDRESSES_MAX {
            return;
        }
        if self.swept.is_none_or(|swept| now.since(swept) >= SWEEP_EVERY) {
            self.swept = Some(now);
            self.due.retain(|_, due| *due > now);
        }
        // Still full: some address or other is forgotten, and so may come anew.
        if self.due.len() >= ADDRESSES_MAX
            && let Some(&any) = self.due.keys().next()
        {
            self.due.remove(&any);
        }
    }
}

impl Inside {
    fn has_room(&self, limits: DoorLimits) -> Result<(), Full> {
        if self.total >= limits.connections { Err(Full::Everywhere) } else { Ok(()) }
    }

    /// Counts one more of this address; what it counts as.
    fn count(&mut self, address: IpAddr, limits: DoorLimits, now: MonoTime) -> Result<IpAddr, Full> {
        let address = counted_as(address);
        if self.by_address.get(&address).is_some_and(|here| *here >= limits.connections_per_address) {
            return Err(Full::ForAddress);
        }
        // Last, so that who is not let in for another reason has not come.
        if !self.paces.come(address, limits.connections_per_minute, now) {
            return Err(Full::TooOften);
        }
        *self.by_address.entry(address).or_insert(0) += 1;
        Ok(address)
    }
}

/// One connection's place; given back when dropped.
#[derive(Debug)]
pub struct Place {
    inside: Arc<Mutex<Inside>>,
    /// Nobody's while a load balancer has not said whose.
    address: Option<IpAddr>,
}

impl Doors {
    /// A place for a client at `address`, if there is one.
    pub fn enter(&self, address: IpAddr, limits: DoorLimits, now: MonoTime) -> Result<Place, Full> {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        inside.has_room(limits)?;
        let address = inside.count(address, limits, now)?;
        inside.total += 1;
        Ok(Place { inside: Arc::clone(&self.inside), address: Some(address) })
    }

    /// A place for a connection that a load balancer passes on, if there is one; [`Place::belongs_to`] says whose.
    pub fn enter_behind_balancer(&self, limits: DoorLimits) -> Result<Place, Full> {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        inside.has_room(limits)?;
        inside.total += 1;
        Ok(Place { inside: Arc::clone(&self.inside), address: None })
    }

    /// Counts a load balancer's look whether we are here; how many there were.
    pub fn count_probe(&self) -> u64 {
        self.probes.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// How many are inside.
    pub fn inside(&self) -> usize {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner).total
    }
}

impl Place {
    /// It is a connection of this client, who must have room for it.
    pub fn belongs_to(&mut self, address: IpAddr, limits: DoorLimits, now: MonoTime) -> Result<(), Full> {
        if self.address.is_none() {
            let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
            self.address = Some(inside.count(address, limits, now)?);
        }
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        inside.total = inside.total.saturating_sub(1);
        let Some(address) = self.address else { return };
        if let Some(here) = inside.by_address.get_mut(&address) {
            *here = here.saturating_sub(1);
            if *here == 0 {
                inside.by_address.remove(&address);
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

    const LIMITS: DoorLimits = DoorLimits { connections: 3, connections_per_address: 2, connections_per_minute: 100 };

    fn at(address: &str) -> IpAddr {
        address.parse().unwrap()
    }

    fn after(seconds: u64) -> MonoTime {
        MonoTime::from_start(Duration::from_secs(seconds))
    }

    #[test]
    fn each_address_has_its_own_count_and_places_come_back() {
        let doors = Doors::default();
        let enter = |address| doors.enter(at(address), LIMITS, after(0));
        let first = enter("127.0.0.1").unwrap();
        let _second = enter("::ffff:127.0.0.1").unwrap();
        assert_eq!(enter("127.0.0.1").unwrap_err(), Full::ForAddress);
        let _other = enter("127.0.0.2").unwrap();
        assert_eq!(enter("127.0.0.3").unwrap_err(), Full::Everywhere);
        drop(first);
        assert!(enter("127.0.0.3").is_ok());
        assert_eq!(doors.inside(), 2);
    }

    #[test]
    fn a_balancer_counts_among_all_and_its_clients_as_themselves() {
        let doors = Doors::default();
        let mut places: Vec<Place> = (0..3).map(|_| doors.enter_behind_balancer(LIMITS).unwrap()).collect();
        assert_eq!(doors.enter_behind_balancer(LIMITS).unwrap_err(), Full::Everywhere);
        let said: Vec<_> = places.iter_mut().map(|place| place.belongs_to(at("192.0.2.7"), LIMITS, after(0))).collect();
        assert_eq!(said, [Ok(()), Ok(()), Err(Full::ForAddress)]);
        drop(places);
        assert_eq!(doors.inside(), 0);
        // Who was counted is counted no more; who was never counted took nothing from anybody.
        let _direct = doors.enter(at("192.0.2.7"), LIMITS, after(0)).unwrap();
        assert!(doors.enter(at("192.0.2.7"), LIMITS, after(0)).is_ok());
    }

    #[test]
    fn one_host_does_not_become_many_by_its_ipv6_prefix() {
        let doors = Doors::default();
        let enter = |address| doors.enter(at(address), LIMITS, after(0));
        let _a = enter("2001:db8:0:1::1").unwrap();
        let _b = enter("2001:db8:0:1::2").unwrap();
        assert_eq!(enter("2001:db8:0:1:ffff::3").unwrap_err(), Full::ForAddress);
        assert!(enter("2001:db8:0:2::1").is_ok());
    }

    #[test]
    fn who_comes_and_goes_may_do_so_at_a_pace_and_so_often_at_once() {
        let doors = Doors::default();
        let limits = DoorLimits { connections_per_minute: 6, ..LIMITS };
        let come = |address, seconds| doors.enter(at(address), limits, after(seconds)).map(drop);
        (0..6).for_each(|_| come("192.0.2.1", 100).unwrap());
        for (address, seconds, expected) in [
            ("192.0.2.1", 100, Err(Full::TooOften)),
            ("192.0.2.2", 100, Ok(())),
            ("192.0.2.1", 109, Err(Full::TooOften)),
            ("192.0.2.1", 110, Ok(())),
            ("192.0.2.1", 110, Err(Full::TooOften)),
            ("192.0.2.1", 130, Ok(())),
            ("192.0.2.1", 130, Ok(())),
            ("192.0.2.1", 130, Err(Full::TooOften)),
        ] {
            assert_eq!(come(address, seconds), expected, "{address} at {seconds}");
        }
        // After a quiet minute it is as if it had never come.
        (0..6).for_each(|_| come("192.0.2.1", 300).unwrap());
    }

    #[test]
    fn a_flood_of_addresses_fills_no_memory_and_shuts_nobody_out() {
        let mut paces = Paces::default();
        let from = |number: usize| IpAddr::V4(u32::try_from(number).unwrap().into());
        for number in 0..ADDRESSES_MAX + 1000 {
            assert!(paces.come(from(number), 1, after(0)));
        }
        assert_eq!(paces.due.len(), ADDRESSES_MAX);
        assert!(paces.come(from(ADDRESSES_MAX * 2), 1, after(61)));
        assert_eq!(paces.due.len(), 1, "what is past is forgotten");
    }
}
