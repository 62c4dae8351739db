//! Where recipients go: recipients to groups, each with its upstreams.
//!
//! A recipient belongs to the first route that wants it ([`Wants`]), and one that no route wants is told so at RCPT rather than sent somewhere. Within a
//! route, upstreams are asked in their order; those of the same order share the mail by weight. Pure. Never: knows whether an upstream is up.

mod wants;

use std::sync::Arc;
use std::time::Duration;

pub use wants::{Errand, NamePattern, NullSender, Senders, Wants};

use crate::identity::Rule;
use crate::mail::Envelope;
use crate::queue::Custodian;
use crate::upstream::Upstream;
use crate::upstream::preference::{Ranked, arrange};

/// A way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its name in log and explanation.
    pub name: Arc<str>,
    /// Whom it takes.
    pub wants: Wants,
    /// Where it is written.
    pub rule: Rule,
    /// When its upstreams are asked.
    pub delivery: Delivery,
    /// Its upstreams; never empty.
    upstreams: Arc<[Ranked<Arc<Upstream>>]>,
}

impl Route {
    /// This route; `None` without an upstream.
    pub fn new(
        name: impl Into<Arc<str>>,
        wants: Wants,
        rule: Rule,
        upstreams: Vec<Ranked<Arc<Upstream>>>,
    ) -> Option<Self> {
        let delivery = Delivery::Queued;
        (!upstreams.is_empty()).then(|| Self { name: name.into(), wants, rule, delivery, upstreams: upstreams.into() })
    }

    /// A route for everything, its upstreams in this order of preference; `None` without an upstream.
    pub fn for_all(name: impl Into<Arc<str>>, upstreams: Vec<Arc<Upstream>>) -> Option<Self> {
        let ranked = (1..).zip(upstreams).map(|(order, what)| Ranked { order, weight: 1, what });
        let rule = Rule { name: "the upstreams, without any [[route]]".into(), place: None };
        Self::new(name, Wants::default(), rule, ranked.collect())
    }

    /// The same route, whose upstreams are asked then.
    #[must_use]
    pub fn delivered(self, delivery: Delivery) -> Self {
        Self { delivery, ..self }
    }

    /// Its upstreams, as they are written; never empty.
    pub fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.upstreams.iter().map(|ranked| &ranked.what)
    }

    /// Its upstreams in the order in which one message asks them; `draw` gives random numbers.
    pub fn arranged(&self, draw: &mut dyn FnMut() -> u64) -> Vec<Arc<Upstream>> {
        arrange(self.upstreams.to_vec(), draw)
    }
}

/// When the upstreams of a route are asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// When the message is in the queue.
    #[default]
    Queued,
    /// While its client waits, each answer for so long at most; what comes to nothing by then goes to the queue.
    Through(Duration),
}

/// All routes, in the order in which they are asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes(Vec<Arc<Route>>);

/// Recipients that go the same way.
#[derive(Clone, Debug)]
pub struct Group {
    /// The route.
    pub route: Arc<Route>,
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
        Self(routes.into_iter().map(Arc::new).collect())
    }

    /// All, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.0.iter()
    }

    /// The upstreams of all routes; one that serves several comes several times.
    pub fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.0.iter().flat_map(|route| route.upstreams())
    }

    /// The names of the routes that an upstream serves.
    pub fn served_by<'a>(&'a self, upstream: &'a str) -> impl Iterator<Item = &'a str> {
        let serves = move |route: &&Arc<Route>| route.upstreams().any(|one| one.name == upstream);
        self.0.iter().filter(serves).map(|route| &*route.name)
    }

    /// The host of the upstream of this name.
    pub fn host_of(&self, name: &str) -> Option<&str> {
        self.upstreams().find(|upstream| upstream.name == name).map(|upstream| upstream.host.as_str())
    }

    /// The route that takes a recipient.
    pub fn find(&self, errand: &Errand<'_>) -> Option<&Arc<Route>> {
        self.0.iter().find(|route| route.wants.takes(errand))
    }

    /// Parts recipients, given by their places in the envelope, by route.
    pub fn part(&self, envelope: &Envelope, custodian: &Custodian, recipients: &[usize]) -> Routed {
        let mut routed = Routed::default();
        for &place in recipients {
            let Some(recipient) = envelope.recipients().get(place) else { continue };
            let errand = Errand {
                identity: &custodian.identity,
                ca: custodian.ca.as_deref(),
                sender: envelope.reverse_path(),
                recipient: &recipient.forward_path,
            };
            match self.find(&errand) {
                Some(route) => routed.add(route, place),
                None => routed.nowhere.push(place),
            }
        }
        routed
    }
}

impl Routed {
    fn add(&mut self, route: &Arc<Route>, place: usize) {
        match self.groups.iter_mut().find(|group| group.route.name == route.name) {
            Some(group) => group.recipients.push(place),
            None => self.groups.push(Group { route: Arc::clone(route), recipients: vec![place] }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::DomainSet;
    use crate::mail::{Address, ForwardPath, MailParameters, Recipient, ReversePath};
    use crate::queue::REPORTS;

    fn envelope(recipients: usize) -> Envelope {
        to(&vec!["bob@example.net"; recipients])
    }

    fn to(recipients: &[&str]) -> Envelope {
        let one = |text: &&str| Recipient {
            forward_path: ForwardPath::Address(Address::parse(text).unwrap()),
            parameters: Default::default(),
        };
        let all = recipients.iter().map(one).collect();
        Envelope::new(ReversePath::Null, MailParameters::default(), all).unwrap()
    }

    fn custodian() -> Custodian {
        Custodian {
            identity: "alice".into(),
            ca: None,
            fingerprint: String::new(),
            chain: Vec::new(),
            key: None,
            links: Vec::new(),
            vouched: None,
            ends: None,
        }
    }

    fn upstream(name: &str) -> Arc<Upstream> {
        Arc::new(Upstream::new(name, "localhost", 25, "relay.example.com"))
    }

    #[test]
    fn a_route_for_all_keeps_the_upstreams_in_their_order() {
        let routes = Routes::new(vec![Route::for_all("default", vec![upstream("main"), upstream("spare")]).unwrap()]);
        let routed = routes.part(&envelope(3), &custodian(), &[0, 2]);
        let arranged = routed.groups[0].route.arranged(&mut || panic!("nothing to choose"));
        let names: Vec<_> = arranged.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(
            (routed.groups.len(), &routed.groups[0].recipients[..], names),
            (1, &[0, 2][..], vec!["main", "spare"])
        );
        assert!(routed.nowhere.is_empty());
    }

    #[test]
    fn our_own_mail_goes_its_own_way_when_there_is_one_and_nobody_elses_does() {
        let rule = || Rule { name: "route".into(), place: None };
        let one = |name: &str, wants| {
            Route::new(name, wants, rule(), vec![Ranked { order: 1, weight: 1, what: upstream(name) }]).unwrap()
        };
        let of_reports = Wants { identities: Some(vec![NamePattern::new(REPORTS)]), ..Wants::default() };
        let routes = Routes::new(vec![one("bounces", of_reports), one("main", Wants::default())]);
        for (custodian, expected) in [(Custodian::ours(), "bounces"), (custodian(), "main")] {
            let routed = routes.part(&envelope(2), &custodian, &[0, 1]);
            assert_eq!((routed.groups.len(), &*routed.groups[0].route.name), (1, expected));
        }
        assert_eq!(routes.host_of("bounces"), Some("localhost"));
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

    #[test]
    fn the_first_route_that_wants_a_recipient_has_it() {
        let domain = |name: &str| Wants { recipients: Some(DomainSet::read([name]).unwrap()), ..Wants::default() };
        let rule = || Rule { name: "route".into(), place: None };
        let route = |name: &str, wants| {
            let upstream = Ranked { order: 1, weight: 1, what: upstream(name) };
            Route::new(name, wants, rule(), vec![upstream]).unwrap()
        };
        let routes = Routes::new(vec![
            route("net", domain("example.net")),
            route("org", domain("example.org")),
            route("net too", domain("example.net")),
        ]);
        let envelope = to(&["a@example.org", "b@example.net", "c@example.com", "d@example.org"]);
        let routed = routes.part(&envelope, &custodian(), &[0, 1, 2, 3, 9]);
        let groups: Vec<_> = routed.groups.iter().map(|group| (&*group.route.name, group.recipients.clone())).collect();
        assert_eq!(groups, [("org", vec![0, 3]), ("net", vec![1])]);
        assert_eq!(routed.nowhere, [2]);
        assert_eq!(routes.served_by("org").collect::<Vec<_>>(), ["org"]);
    }
}
