//! Where recipients go: recipients to groups, each with its upstreams in order of preference.
//!
//! One route takes all today; the shape is for routes that ask for identity, CA, sender and recipient domain: a recipient belongs to the first
//! route that wants it, and one that no route wants is told so rather than sent somewhere. Pure. Never: knows whether an upstream is up.

use std::sync::Arc;

use crate::mail::Envelope;
use crate::queue::Custodian;
use crate::upstream::Upstream;

/// A way out.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its name in log and explanation.
    pub name: String,
    /// Whom it takes.
    pub wants: Wants,
    /// Its upstreams, the preferred first; never empty.
    upstreams: Arc<[Arc<Upstream>]>,
}

/// Whom a route takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wants {
    /// Every recipient of every message.
    #[default]
    All,
}

impl Route {
    /// A route for everything; `None` without an upstream.
    pub fn for_all(name: impl Into<String>, upstreams: Vec<Arc<Upstream>>) -> Option<Self> {
        (!upstreams.is_empty()).then(|| Self { name: name.into(), wants: Wants::All, upstreams: upstreams.into() })
    }

    /// Its upstreams, the preferred first; never empty.
    pub fn upstreams(&self) -> &Arc<[Arc<Upstream>]> {
        &self.upstreams
    }
}

/// All routes, in the order in which they are asked.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    routes: Vec<Route>,
    /// That of our own reports and notices, when they have one of their own (`reports.upstream`).
    of_reports: Option<Route>,
}

/// Recipients that go the same way.
#[derive(Clone, Debug)]
pub struct Group {
    /// The route's name.
    pub route: String,
    /// Its upstreams, the preferred first; never empty.
    pub upstreams: Arc<[Arc<Upstream>]>,
    /// Places in the envelope, ascending.
    pub recipients: Vec<usize>,
}

/// What became of the recipients.
#[derive(Clone, Debug, Default)]
pub struct Routed {
    /// Those with a way, one group per route.
    pub groups: Vec<Group>,
    /// Those that no route takes.
    pub nowhere: Vec<usize>,
}

impl Routes {
    /// These routes; the first that wants a recipient has it.
    pub fn new(routes: Vec<Route>) -> Self {
        Self { routes, of_reports: None }
    }

    /// The same, with a route of their own for our reports and notices.
    #[must_use]
    pub fn with_reports_by(self, of_reports: Option<Route>) -> Self {
        Self { of_reports, ..self }
    }

    /// The upstreams of all routes.
    pub fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.routes.iter().chain(&self.of_reports).flat_map(|route| route.upstreams.iter())
    }

    /// The host of the upstream of this name.
    pub fn host_of(&self, name: &str) -> Option<&str> {
        self.upstreams().find(|upstream| upstream.name == name).map(|upstream| upstream.host.as_str())
    }

    /// Parts recipients, given by their places in the envelope, by route.
    pub fn part(&self, envelope: &Envelope, custodian: &Custodian, recipients: &[usize]) -> Routed {
        let mut routed = Routed::default();
        for &place in recipients {
            let of_reports = self.of_reports.as_ref().filter(|_| custodian.is_ours());
            let taken =
                of_reports.or_else(|| self.routes.iter().find(|route| route.wants.takes(envelope, custodian, place)));
            match taken {
                Some(route) => routed.add(route, place),
                None => routed.nowhere.push(place),
            }
        }
        routed
    }
}

impl Wants {
    fn takes(self, envelope: &Envelope, _custodian: &Custodian, place: usize) -> bool {
        match self {
            Self::All => place < envelope.recipients().len(),
        }
    }
}

impl Routed {
    fn add(&mut self, route: &Route, place: usize) {
        if let Some(group) = self.groups.iter_mut().find(|group| group.route == route.name) {
            group.recipients.push(place);
        } else {
            let upstreams = Arc::clone(&route.upstreams);
            self.groups.push(Group { route: route.name.clone(), upstreams, recipients: vec![place] });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{Address, ForwardPath, MailParameters, Recipient, ReversePath};

    fn envelope(recipients: usize) -> Envelope {
        let one = Recipient {
            forward_path: ForwardPath::Address(Address::parse("bob@example.net").unwrap()),
            parameters: Default::default(),
        };
        Envelope::new(ReversePath::Null, MailParameters::default(), vec![one; recipients]).unwrap()
    }

    fn custodian() -> Custodian {
        Custodian {
            identity: "alice".into(),
            ca: None,
            fingerprint: String::new(),
            chain: Vec::new(),
            key: None,
            links: Vec::new(),
        }
    }

    fn upstream(name: &str) -> Arc<Upstream> {
        Arc::new(Upstream::new(name, "localhost", 25, "relay.example.com"))
    }

    #[test]
    fn a_route_for_all_keeps_the_upstreams_in_their_order() {
        let routes = Routes::new(vec![Route::for_all("default", vec![upstream("main"), upstream("spare")]).unwrap()]);
        let routed = routes.part(&envelope(3), &custodian(), &[0, 2]);
        let names: Vec<_> = routed.groups[0].upstreams.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(
            (routed.groups.len(), &routed.groups[0].recipients[..], names),
            (1, &[0, 2][..], vec!["main", "spare"])
        );
        assert!(routed.nowhere.is_empty());
    }

    #[test]
    fn our_own_mail_goes_its_own_way_when_there_is_one_and_nobody_elses_does() {
        let way = |name: &str| Route::for_all(name, vec![upstream(name)]);
        let routes = Routes::new(way("main").into_iter().collect()).with_reports_by(way("bounces"));
        for (custodian, expected) in [(Custodian::ours(), "bounces"), (custodian(), "main")] {
            let routed = routes.part(&envelope(2), &custodian, &[0, 1]);
            assert_eq!((routed.groups.len(), routed.groups[0].route.as_str()), (1, expected));
        }
        assert_eq!(routes.host_of("bounces"), Some("localhost"));
        let without = Routes::new(way("main").into_iter().collect());
        assert_eq!(without.part(&envelope(1), &Custodian::ours(), &[0]).groups[0].route, "main");
    }

    #[test]
    fn without_a_route_a_recipient_goes_nowhere_and_is_named() {
        let routed = Routes::default().part(&envelope(1), &custodian(), &[0]);
        assert_eq!((routed.groups.len(), routed.nowhere), (0, vec![0]));
    }

    #[test]
    fn a_route_without_upstreams_cannot_be_made() {
        assert!(Route::for_all("default", Vec::new()).is_none());
    }
}
