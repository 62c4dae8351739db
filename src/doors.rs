//! How many may be inside: connections in all, per client address and per identity; and how many may come in a minute.
//!
//! A TLS handshake costs the server more than the client, so that the number of those inside is not enough: who comes and goes at once is
//! never many. An IPv6 client counts by its /64, which one host owns whole. A load balancer's connection counts among all, and as its client's
//! once it has said whose it is.
//!
//! Places are few and silence costs nothing, so a place is one's own only with an identity. When all are taken, whoever has been here longest without one is
//! asked to leave for the newcomer ([`Place::given_away`]), first those who are known to have none; but nobody within [`UNDISTURBED`] of coming, in which an
//! honest client is done with its handshake, nor whom we are about to identify, for which its CA's responder may take its time
//! ([`Place::is_being_identified`]). It goes by the time of coming, since that alone can't be feigned: an octet now and then costs an attacker nothing,
//! and a client on a long way is silent between its own. Who fills the places with silence must so bring all of them anew every [`UNDISTURBED`], and an
//! honest client among them has all that time to itself. If only newcomers are here, one more is turned away.
//!
//! Who has an identity keeps its place, so that one certificate from many addresses could take them all: of one identity no more are kept than
//! [`DoorLimits::connections_per_identity`]. One more of its connections is nobody's ([`Place::is_nobodys`]), and so among the first to leave for a newcomer.
//! Never: has who comes wait; reads a clock; looks up a name; keeps more addresses than [`ADDRESSES_MAX`]; asks anybody to leave who has an identity.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::snapshot::DoorLimits;
use crate::sys::{MonoTime, Throttle};

/// Addresses whose pace is remembered. Who comes from more than these at once is not slowed down, but does not fill the memory either.
pub const ADDRESSES_MAX: usize = 65_536;

/// For so long from its coming nobody is asked to leave: a handshake over a long way, with a packet lost on it.
pub const UNDISTURBED: Duration = Duration::from_secs(3);

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
    /// So too that who was here without an identity had to leave for others.
    pub called_away: Arc<Throttle>,
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
            called_away: throttle(),
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
    /// An identity is in the list while it is here: it grows no longer than the places are many.
    by_identity: HashMap<Arc<str>, usize>,
    paces: Paces,
    /// The number of the next place.
    next: u64,
    /// Who is known to have no identity, by their places: in the order in which they came.
    nobodies: BTreeMap<u64, Stranger>,
    /// Of whom it is not known yet, in the same order.
    strangers: BTreeMap<u64, Stranger>,
    /// About whom we are asking: it is not they who take their time, so that they are asked to leave for nobody.
    asked_about: BTreeMap<u64, Stranger>,
    /// How many have had to leave for others.
    given_away: u64,
    /// Rung when one more is inside, or one less.
    changed: Arc<Notify>,
}

/// Who has no identity, or none yet.
#[derive(Debug)]
struct Stranger {
    came: MonoTime,
    /// What it counts as.
    address: Option<IpAddr>,
    leave: CancellationToken,
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

impl Stranger {
    fn may_go(&self, now: MonoTime) -> bool {
        now.since(self.came) >= UNDISTURBED
    }
}

/// Takes out who has been here longest, when that is long enough.
fn first_to_go(strangers: &mut BTreeMap<u64, Stranger>, now: MonoTime) -> Option<Stranger> {
    strangers.first_entry().filter(|longest| longest.get().may_go(now)).map(|longest| longest.remove())
}

impl Inside {
    /// Whether there is room, or can be made.
    fn has_room(&self, limits: DoorLimits, now: MonoTime) -> Result<(), Full> {
        let may_go = |stranger: &&Stranger| stranger.may_go(now);
        match self.total.checked_sub(limits.connections) {
            None => Ok(()),
            // They are in the order of their coming, so that no more are looked at than must go.
            Some(over) => {
                let mut leaving =
                    self.nobodies.values().take_while(may_go).chain(self.strangers.values().take_while(may_go));
                leaving.nth(over).map(|_| ()).ok_or(Full::Everywhere)
            }
        }
    }

    /// A place; who has been here longest without an identity leaves, where there is no other.
    fn take(&mut self, address: Option<IpAddr>, limits: DoorLimits, now: MonoTime) -> (u64, CancellationToken) {
        while self.total >= limits.connections {
            let longest = first_to_go(&mut self.nobodies, now).or_else(|| first_to_go(&mut self.strangers, now));
            let Some(longest) = longest else { break };
            longest.leave.cancel();
            self.leave(longest.address);
            self.given_away = self.given_away.saturating_add(1);
        }
        let (number, leave) = (self.next, CancellationToken::new());
        self.next = self.next.wrapping_add(1);
        self.total += 1;
        self.changed.notify_waiters();
        self.strangers.insert(number, Stranger { came: now, address, leave: leave.clone() });
        (number, leave)
    }

    fn stranger(&mut self, number: u64) -> Option<&mut Stranger> {
        let Self { strangers, nobodies, asked_about, .. } = self;
        strangers.get_mut(&number).or_else(|| nobodies.get_mut(&number)).or_else(|| asked_about.get_mut(&number))
    }

    fn remove_stranger(&mut self, number: u64) -> Option<Stranger> {
        let Self { strangers, nobodies, asked_about, .. } = self;
        strangers.remove(&number).or_else(|| nobodies.remove(&number)).or_else(|| asked_about.remove(&number))
    }

    /// One less.
    fn leave(&mut self, address: Option<IpAddr>) {
        self.total = self.total.saturating_sub(1);
        self.changed.notify_waiters();
        let Some(address) = address else { return };
        if let Some(here) = self.by_address.get_mut(&address) {
            *here = here.saturating_sub(1);
            if *here == 0 {
                self.by_address.remove(&address);
            }
        }
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

    /// Counts one more of this identity.
    fn count_identity(&mut self, identity: &Arc<str>) {
        *self.by_identity.entry(Arc::clone(identity)).or_insert(0) += 1;
    }

    /// One less.
    fn leave_identity(&mut self, identity: &str) {
        if let Some(here) = self.by_identity.get_mut(identity) {
            *here = here.saturating_sub(1);
            if *here == 0 {
                self.by_identity.remove(identity);
            }
        }
    }
}

/// One connection's place; given back when dropped. Without an identity it may be given away before.
#[derive(Debug)]
pub struct Place(Option<Held>);

/// A place that counts.
#[derive(Debug)]
struct Held {
    inside: Arc<Mutex<Inside>>,
    number: u64,
    /// Nobody's while a load balancer has not said whose.
    address: Option<IpAddr>,
    whose: Whose,
}

/// Whether a place may be given away.
#[derive(Debug)]
enum Whose {
    /// It may; this says that it was.
    Strangers(CancellationToken),
    /// It is this identity's.
    Identitys(Arc<str>),
}

/// Why a client with an identity can't keep its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotKept {
    /// It was given to another before.
    GivenAway,
    /// The identity has as many as one may have (`limits.connections_per_identity`).
    Crowded,
}

impl Doors {
    /// A place for a client at `address`, if there is one.
    pub fn enter(&self, address: IpAddr, limits: DoorLimits, now: MonoTime) -> Result<Place, Full> {
        let mut inside = self.lock();
        inside.has_room(limits, now)?;
        let address = inside.count(address, limits, now)?;
        Ok(self.place(&mut inside, Some(address), limits, now))
    }

    /// A place for a connection that a load balancer passes on, if there is one; [`Place::belongs_to`] says whose.
    pub fn enter_behind_balancer(&self, limits: DoorLimits, now: MonoTime) -> Result<Place, Full> {
        let mut inside = self.lock();
        inside.has_room(limits, now)?;
        Ok(self.place(&mut inside, None, limits, now))
    }

    fn place(&self, inside: &mut Inside, address: Option<IpAddr>, limits: DoorLimits, now: MonoTime) -> Place {
        let (number, leave) = inside.take(address, limits, now);
        Place(Some(Held { inside: Arc::clone(&self.inside), number, address, whose: Whose::Strangers(leave) }))
    }

    /// Counts a load balancer's look whether we are here; how many there were.
    pub fn count_probe(&self) -> u64 {
        self.probes.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// How many are inside.
    pub fn inside(&self) -> usize {
        self.lock().total
    }

    /// Waits until so many are inside. Cancel-safe.
    pub async fn until_inside(&self, count: usize) {
        let changed = Arc::clone(&self.lock().changed);
        loop {
            let mut rung = pin!(changed.notified());
            // From here on no change is missed.
            rung.as_mut().enable();
            if self.inside() == count {
                return;
            }
            rung.await;
        }
    }

    /// How many places were given away since the start.
    pub fn given_away(&self) -> u64 {
        self.lock().given_away
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// One that counts nowhere, and is never given away: for who brings a stream of his own.
    pub fn apart() -> Self {
        Self(None)
    }

    /// It is a connection of this client, who must have room for it.
    pub fn belongs_to(&mut self, address: IpAddr, limits: DoorLimits, now: MonoTime) -> Result<(), Full> {
        let Some(held) = &mut self.0 else { return Ok(()) };
        let mut inside = held.inside.lock().unwrap_or_else(PoisonError::into_inner);
        // Of who has to leave nothing is counted any more.
        if held.address.is_none() && inside.stranger(held.number).is_some() {
            let address = inside.count(address, limits, now)?;
            held.address = Some(address);
            if let Some(stranger) = inside.stranger(held.number) {
                stranger.address = Some(address);
            }
        }
        Ok(())
    }

    /// Its client has an identity, of this name: the place is its own until it ends.
    ///
    /// # Errors
    /// It was given away before, or the identity has enough of them; then it is as it was.
    pub fn keep(&mut self, identity: &Arc<str>, limits: DoorLimits) -> Result<(), NotKept> {
        let Some(held) = &mut self.0 else { return Ok(()) };
        let mut inside = held.inside.lock().unwrap_or_else(PoisonError::into_inner);
        if inside.stranger(held.number).is_none() {
            return Err(NotKept::GivenAway);
        }
        if inside.by_identity.get(identity).is_some_and(|here| *here >= limits.connections_per_identity) {
            return Err(NotKept::Crowded);
        }
        inside.remove_stranger(held.number);
        inside.count_identity(identity);
        held.whose = Whose::Identitys(Arc::clone(identity));
        Ok(())
    }

    /// The identity has another name since a reload, and counts by that; who is here stays, however many they have become.
    pub fn follow(&mut self, identity: &Arc<str>) {
        let Some(Held { inside, whose: Whose::Identitys(before), .. }) = &mut self.0 else { return };
        if before == identity {
            return;
        }
        let mut inside = inside.lock().unwrap_or_else(PoisonError::into_inner);
        inside.leave_identity(before);
        inside.count_identity(identity);
        *before = Arc::clone(identity);
    }

    /// Its client has shown all that it has, and waits for us: until [`Self::keep`] or [`Self::is_nobodys`] the place is given to nobody. What was given
    /// away before stays so.
    pub fn is_being_identified(&self) {
        let Some(held) = &self.0 else { return };
        let mut inside = held.inside.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stranger) = inside.strangers.remove(&held.number) {
            inside.asked_about.insert(held.number, stranger);
        }
    }

    /// Its client has no identity, and will have none.
    pub fn is_nobodys(&self) {
        let Some(held) = &self.0 else { return };
        let mut inside = held.inside.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stranger) = inside.remove_stranger(held.number) {
            inside.nobodies.insert(held.number, stranger);
        }
    }

    /// Waits until it is given to another: then its client is to leave. Never of who has an identity. Cancel-safe.
    pub async fn given_away(&self) {
        match &self.0 {
            Some(Held { whose: Whose::Strangers(leave), .. }) => leave.cancelled().await,
            Some(Held { whose: Whose::Identitys(_), .. }) | None => std::future::pending().await,
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = match &self.whose {
            // What was given away counts as another's already.
            Whose::Strangers(_) => inside.remove_stranger(self.number).is_some(),
            Whose::Identitys(identity) => {
                inside.leave_identity(identity);
                true
            }
        };
        if counts {
            inside.leave(self.address);
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
    use futures_util::FutureExt as _;

    use super::*;

    const LIMITS: DoorLimits = DoorLimits {
        connections: 3,
        connections_per_address: 2,
        connections_per_identity: 3,
        connections_per_minute: 100,
    };

    /// The same, without limits of an address.
    const EACH: DoorLimits = DoorLimits { connections_per_address: 100, ..LIMITS };

    fn at(address: &str) -> IpAddr {
        address.parse().unwrap()
    }

    fn named(identity: &str) -> Arc<str> {
        identity.into()
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
        let mut places: Vec<Place> = (0..3).map(|_| doors.enter_behind_balancer(LIMITS, after(0)).unwrap()).collect();
        assert_eq!(doors.enter_behind_balancer(LIMITS, after(0)).unwrap_err(), Full::Everywhere);
        let said: Vec<_> = places.iter_mut().map(|place| place.belongs_to(at("192.0.2.7"), LIMITS, after(0))).collect();
        assert_eq!(said, [Ok(()), Ok(()), Err(Full::ForAddress)]);
        drop(places);
        assert_eq!(doors.inside(), 0);
        // Who was counted is counted no more; who was never counted took nothing from anybody.
        let _direct = doors.enter(at("192.0.2.7"), LIMITS, after(0)).unwrap();
        assert!(doors.enter(at("192.0.2.7"), LIMITS, after(0)).is_ok());
    }

    /// What becomes of those inside, by what is known of each; all came in this order, one a second.
    #[test]
    fn who_has_been_here_longest_without_an_identity_leaves_for_a_newcomer() {
        #[derive(Clone, Copy)]
        enum Known {
            Nothing,
            Nobody,
            Identity,
            /// It is asked about, by the newcomer's time still.
            Asked,
            /// It was, and nobody knows it.
            AskedInVain,
        }
        use Known::{Asked, AskedInVain, Identity, Nobody, Nothing};
        // When the newcomer comes, and who leaves for it; nobody: it is turned away.
        let table: [([Known; 3], u64, Option<usize>); 12] = [
            ([Nothing, Nothing, Nothing], 2, None),
            ([Nothing, Nothing, Nothing], 3, Some(0)),
            ([Identity, Nothing, Nothing], 3, None),
            ([Identity, Nothing, Nothing], 4, Some(1)),
            ([Nothing, Nobody, Nothing], 4, Some(1)),
            ([Nothing, Nobody, Nothing], 3, Some(0)),
            ([Nobody, Nobody, Nothing], 9, Some(0)),
            ([Identity, Identity, Identity], 1000, None),
            ([Identity, Identity, Nobody], 1000, Some(2)),
            ([Asked, Nothing, Nothing], 4, Some(1)),
            ([Asked, Asked, Asked], 1000, None),
            ([Nothing, AskedInVain, Asked], 9, Some(1)),
        ];
        for (row, (known, comes, leaves)) in table.into_iter().enumerate() {
            let doors = Doors::default();
            let mut places = Vec::new();
            for (number, known) in (0..).zip(known) {
                let mut place = doors.enter(at("192.0.2.1"), EACH, after(number)).unwrap();
                match known {
                    Nothing => {}
                    Nobody => place.is_nobodys(),
                    Identity => place.keep(&named("alice"), EACH).unwrap(),
                    Asked => place.is_being_identified(),
                    AskedInVain => {
                        place.is_being_identified();
                        place.is_nobodys();
                    }
                }
                places.push(place);
            }
            let came = doors.enter(at("192.0.2.2"), EACH, after(comes));
            let left = places.iter().position(|place| place.given_away().now_or_never().is_some());
            assert_eq!((came.is_ok(), left), (leaves.is_some(), leaves), "row {row}");
            assert_eq!(doors.inside(), 3, "row {row}");
            if let Some(left) = left {
                assert_eq!(places[left].keep(&named("alice"), EACH), Err(NotKept::GivenAway), "row {row}");
            }
            // Who left counts no more, neither in all nor for its address.
            drop(came);
            assert_eq!(doors.inside(), 3 - usize::from(leaves.is_some()), "row {row}");
            drop(places);
            assert_eq!(doors.inside(), 0, "row {row}");
            let inside = doors.lock();
            assert!(inside.by_address.is_empty() && inside.by_identity.is_empty());
            assert!(inside.strangers.is_empty() && inside.nobodies.is_empty());
            assert!(inside.asked_about.is_empty(), "row {row}");
        }
    }

    #[test]
    fn of_one_identity_so_many_are_kept_and_one_more_is_a_stranger_still() {
        let (doors, [alice, bob]) = (Doors::default(), ["alice", "bob"].map(named));
        let limits = DoorLimits { connections: 5, connections_per_identity: 2, ..EACH };
        let enter = |number| doors.enter(at("192.0.2.1"), limits, after(number)).unwrap();
        let mut places: Vec<Place> = (0..5).map(enter).collect();
        let mut keep = |place: usize, identity| places[place].keep(identity, limits);
        assert_eq!([keep(0, &alice), keep(1, &alice), keep(3, &bob)], [Ok(()); 3]);
        assert_eq!(keep(2, &alice), Err(NotKept::Crowded));
        // Who is known to have none goes before whoever came later.
        places[2].is_nobodys();
        let newcomer = doors.enter(at("192.0.2.2"), limits, after(5)).unwrap();
        let left: Vec<bool> = places.iter().map(|place| place.given_away().now_or_never().is_some()).collect();
        assert_eq!(left, [false, false, true, false, false]);
        drop((newcomer, places.remove(0)));
        assert_eq!(places[3].keep(&alice, limits), Ok(()), "one of them has left");
        // A reload gives bob another name: he is not asked to leave for being one too many.
        places[2].follow(&alice);
        assert_eq!(doors.lock().by_identity, HashMap::from([(alice, 3)]));
        drop(places);
        assert!(doors.lock().by_identity.is_empty());
        assert_eq!(doors.inside(), 0);
    }

    #[test]
    fn who_is_turned_away_for_itself_has_nobody_leave() {
        let doors = Doors::default();
        let places: Vec<Place> = ["192.0.2.1", "192.0.2.1", "192.0.2.2"]
            .map(|address| doors.enter(at(address), LIMITS, after(0)).unwrap())
            .into();
        assert_eq!(doors.enter(at("192.0.2.1"), LIMITS, after(9)).unwrap_err(), Full::ForAddress);
        assert!(places.iter().all(|place| place.given_away().now_or_never().is_none()));
    }

    #[test]
    fn of_a_balancers_connection_that_was_given_away_nothing_is_counted() {
        let doors = Doors::default();
        let mut places: Vec<Place> = (0..3).map(|_| doors.enter_behind_balancer(LIMITS, after(0)).unwrap()).collect();
        let newcomer = doors.enter_behind_balancer(LIMITS, after(3)).unwrap();
        for place in &mut places {
            assert_eq!(place.belongs_to(at("192.0.2.7"), LIMITS, after(3)), Ok(()));
        }
        assert_eq!(doors.lock().by_address[&at("192.0.2.7")], 2);
        drop((places, newcomer));
        assert_eq!((doors.inside(), doors.lock().by_address.len()), (0, 0));
    }

    /// A reload may make the limit smaller than the crowd.
    #[test]
    fn where_more_are_here_than_may_be_as_many_leave_as_must_or_none() {
        let doors = Doors::default();
        let wide = DoorLimits { connections: 10, ..EACH };
        let places: Vec<Place> =
            (0..10).map(|number| doors.enter(at("192.0.2.1"), wide, after(number)).unwrap()).collect();
        let left = || places.iter().filter(|place| place.given_away().now_or_never().is_some()).count();
        assert_eq!(doors.enter(at("192.0.2.2"), EACH, after(9)).unwrap_err(), Full::Everywhere);
        assert_eq!(left(), 0);
        let _newcomer = doors.enter(at("192.0.2.2"), EACH, after(10)).unwrap();
        assert_eq!((left(), doors.inside()), (8, 3));
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
