//! What waits for its route, and what is under way on each: in memory, because it ends with the process, like claims.
//!
//! A message is put into the lane of each route that it has an open recipient for, when none of them can take it now: because its upstreams are left
//! alone, or have enough to do. It stays in the store as it was; here is only its name. So a hundred thousand of them are looked at once each, and then
//! cost nothing until their route is open again.
//!
//! | a route has room for another delivery while | because                                                                |
//! |---------------------------------------------|------------------------------------------------------------------------|
//! | fewer than twice its connections are under way | half of them wait for a connection, so that none stands idle         |
//! | and fewer than [`GUARANTEED`] are, or the pool of [`POOL`] that all routes share has room | no route keeps another from its share |
//!
//! Within a lane, identities have turns: who sends much does not keep the others waiting. Of one identity's mail the more urgent goes first
//! (RFC 6710 §4), as in the queue. Pure. Never: claims; asks a clock.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use crate::mail::QueueId;
use crate::queue::settings::DELIVERIES_MAX;
use crate::route::{Route, Routes};

/// Deliveries under way on a route that count against nobody else.
pub(super) const GUARANTEED: usize = 8;
/// Deliveries under way beyond those, of all routes together.
pub(super) const POOL: usize = DELIVERIES_MAX;

/// The lane of mail that no route takes: it is looked at as the schedule says, so many at a time. No route can be called so.
pub(super) const NOWHERE: &str = "";
/// Deliveries under way without a route.
const NOWHERE_MOST: usize = 8;

/// The lanes of all routes.
#[derive(Debug, Default)]
pub(super) struct Lanes(BTreeMap<Arc<str>, Lane>);

#[derive(Debug, Default)]
struct Lane {
    most: usize,
    under_way: usize,
    waiting: Waiting,
}

/// The higher priority is the lesser, so that it comes first.
type Urgency = Reverse<i8>;

/// Messages that wait, by identity; the identities in turn.
#[derive(Debug, Default)]
struct Waiting {
    turns: VecDeque<Arc<str>>,
    of: HashMap<Arc<str>, BTreeSet<(Urgency, QueueId)>>,
}

impl Lanes {
    /// These are the routes now. Who waited is forgotten: where he belongs is to be found out anew.
    pub(super) fn follow(&mut self, routes: &Routes) {
        self.0.retain(|name, lane| lane.under_way > 0 || routes.iter().any(|route| route.name == *name));
        for lane in self.0.values_mut() {
            lane.waiting = Waiting::default();
        }
        self.0.entry(NOWHERE.into()).or_default().most = NOWHERE_MOST;
        for route in routes.iter() {
            self.0.entry(Arc::clone(&route.name)).or_default().most = most(route);
        }
    }

    /// Whether another delivery may begin on this route.
    pub(super) fn has_room(&self, route: &str) -> bool {
        let pooled: usize = self.0.values().map(|lane| lane.under_way.saturating_sub(GUARANTEED)).sum();
        self.0
            .get(route)
            .is_some_and(|lane| lane.under_way < lane.most && (lane.under_way < GUARANTEED || pooled < POOL))
    }

    /// Whether messages wait for this route.
    pub(super) fn has_waiting(&self, route: &str) -> bool {
        self.0.get(route).is_some_and(|lane| !lane.waiting.turns.is_empty())
    }

    /// Whether nobody waits anywhere.
    pub(super) fn is_empty(&self) -> bool {
        self.0.values().all(|lane| lane.waiting.turns.is_empty())
    }

    /// A message of this priority waits for these routes.
    pub(super) fn wait(&mut self, routes: &[Arc<str>], identity: &str, priority: i8, id: QueueId) {
        for route in routes {
            if let Some(lane) = self.0.get_mut(route) {
                lane.waiting.put(identity, (Reverse(priority), id));
            }
        }
    }

    /// The message whose turn it is on this route. It may wait in other lanes too, and be no more.
    pub(super) fn next(&mut self, route: &str) -> Option<QueueId> {
        self.0.get_mut(route)?.waiting.next()
    }

    /// A delivery begins on these routes.
    pub(super) fn begin(&mut self, routes: &[Arc<str>]) {
        for route in routes {
            let lane = self.0.entry(Arc::clone(route)).or_default();
            lane.under_way = lane.under_way.saturating_add(1);
        }
    }

    /// It has ended.
    pub(super) fn end(&mut self, routes: &[Arc<str>]) {
        for route in routes {
            if let Some(lane) = self.0.get_mut(route) {
                lane.under_way = lane.under_way.saturating_sub(1);
            }
        }
    }
}

/// Deliveries under way on a route at most.
fn most(route: &Route) -> usize {
    let connections: usize = route.upstreams().map(|upstream| upstream.connections.max(1)).sum();
    connections.saturating_mul(2)
}

impl Waiting {
    fn put(&mut self, identity: &str, message: (Urgency, QueueId)) {
        if let Some(messages) = self.of.get_mut(identity) {
            messages.insert(message);
            return;
        }
        let identity: Arc<str> = identity.into();
        self.turns.push_back(Arc::clone(&identity));
        self.of.insert(identity, BTreeSet::from([message]));
    }

    fn next(&mut self) -> Option<QueueId> {
        let identity = self.turns.pop_front()?;
        let messages = self.of.get_mut(&identity)?;
        let first = messages.pop_first();
        if messages.is_empty() {
            self.of.remove(&identity);
        } else {
            self.turns.push_back(identity);
        }
        first.map(|(_, id)| id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Upstream;

    fn routes(all: &[(&str, usize)]) -> Routes {
        let route = |&(name, connections): &(&str, usize)| {
            let upstream = Upstream { connections, ..Upstream::new(name, "h", 25, "r") };
            Route::for_all(name, vec![Arc::new(upstream)]).unwrap()
        };
        Routes::new(all.iter().map(route).collect())
    }

    fn lanes(all: &[(&str, usize)]) -> Lanes {
        let mut lanes = Lanes::default();
        lanes.follow(&routes(all));
        lanes
    }

    fn names(all: &[&str]) -> Vec<Arc<str>> {
        all.iter().map(|&name| name.into()).collect()
    }

    fn id(number: u128) -> QueueId {
        QueueId::from_u128(number)
    }

    #[test]
    fn identities_have_turns_and_each_its_oldest_first() {
        let mut lanes = lanes(&[("a", 1)]);
        let a = names(&["a"]);
        for number in [5, 3, 4, 3] {
            lanes.wait(&a, "alice", 0, id(number));
        }
        lanes.wait(&a, "bob", 0, id(9));
        let order: Vec<_> = std::iter::from_fn(|| lanes.next("a")).collect();
        assert_eq!(order, [id(3), id(9), id(4), id(5)], "each once");
        assert!(lanes.is_empty());
    }

    #[test]
    fn of_one_identity_the_more_urgent_goes_first_and_keeps_nobody_else_waiting() {
        let mut lanes = lanes(&[("a", 1)]);
        let a = names(&["a"]);
        for (identity, priority, number) in [("alice", -9, 1), ("alice", 0, 2), ("bob", -9, 3), ("alice", 9, 4)] {
            lanes.wait(&a, identity, priority, id(number));
        }
        let order: Vec<_> = std::iter::from_fn(|| lanes.next("a")).collect();
        assert_eq!(order, [id(4), id(3), id(2), id(1)]);
    }

    #[test]
    fn a_message_waits_in_the_lane_of_each_of_its_routes_and_nowhere_else() {
        let mut lanes = lanes(&[("a", 1), ("b", 1), ("c", 1)]);
        lanes.wait(&names(&["a", "b", "unknown"]), "alice", 0, id(1));
        assert!(lanes.has_waiting("a") && lanes.has_waiting("b") && !lanes.has_waiting("c"));
        assert_eq!((lanes.next("a"), lanes.next("b"), lanes.next("unknown")), (Some(id(1)), Some(id(1)), None));
    }

    #[test]
    fn a_route_has_as_many_under_way_as_twice_its_connections() {
        let mut lanes = lanes(&[("a", 2), ("b", 1)]);
        for _ in 0..4 {
            assert!(lanes.has_room("a"));
            lanes.begin(&names(&["a"]));
        }
        assert!(!lanes.has_room("a") && lanes.has_room("b"));
        lanes.end(&names(&["a"]));
        assert!(lanes.has_room("a") && !lanes.has_room("unknown"));
    }

    #[test]
    fn a_route_that_takes_the_whole_pool_leaves_each_other_its_share() {
        let mut lanes = lanes(&[("hungry", 1000), ("greedy", 1000), ("modest", 10)]);
        let begun = |lanes: &mut Lanes, name: &str| {
            let mut count = 0;
            while lanes.has_room(name) {
                lanes.begin(&names(&[name]));
                count += 1;
            }
            count
        };
        assert_eq!(begun(&mut lanes, "hungry"), POOL + GUARANTEED);
        assert_eq!((begun(&mut lanes, "greedy"), begun(&mut lanes, "modest")), (GUARANTEED, GUARANTEED));
    }

    #[test]
    fn mail_without_a_route_has_a_lane_of_its_own() {
        let mut lanes = lanes(&[]);
        let nowhere = names(&[NOWHERE]);
        for number in 0..NOWHERE_MOST {
            assert!(lanes.has_room(NOWHERE), "{number}");
            lanes.begin(&nowhere);
        }
        lanes.wait(&nowhere, "alice", 0, id(1));
        assert!(!lanes.has_room(NOWHERE) && lanes.has_waiting(NOWHERE));
        lanes.end(&nowhere);
        assert!(lanes.has_room(NOWHERE));
    }

    #[test]
    fn new_routes_forget_who_waited_and_not_what_is_under_way() {
        let mut lanes = lanes(&[("a", 1), ("gone", 1)]);
        lanes.wait(&names(&["a"]), "alice", 0, id(1));
        lanes.begin(&names(&["a", "gone"]));
        lanes.follow(&routes(&[("a", 1), ("new", 1)]));
        assert!(lanes.is_empty() && lanes.has_room("new"));
        lanes.begin(&names(&["a"]));
        assert!(!lanes.has_room("a"), "the old one counts");
        lanes.end(&names(&["gone"]));
        lanes.follow(&routes(&[("a", 1)]));
        assert!(!lanes.has_room("gone"));
    }
}
