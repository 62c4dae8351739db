//! Routes: which upstreams take whose mail to whom.
//!
//! Without any `[[route]]` one takes everything, by all upstreams. What can never apply is told as a warning: a route below one that takes all that it
//! wants, an upstream that no route names, a weight that is never drawn.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::Checking;
use crate::config::nearest::nearest;
use crate::config::written::{Written, WrittenRoute, WrittenUpstream};
use crate::identity::{DomainSet, Roster};
use crate::mail::{Address, ForwardPath, ReversePath};
use crate::queue::REPORTS;
use crate::route::{Errand, NamePattern, NullSender, Route, Routes, Senders, Wants};
use crate::upstream::Upstream;
use crate::upstream::preference::Ranked;

/// How the null sender is written in `sender_domains`.
const NULL: &str = "<>";
/// The largest weight, as in an SRV record (RFC 2782).
const WEIGHT_MOST: u32 = 65_535;
/// The largest order.
const ORDER_MOST: u32 = 65_535;

impl Checking<'_> {
    pub(super) fn routes(
        &mut self,
        written: &Written,
        upstreams: Option<&[Arc<Upstream>]>,
        roster: Option<&Roster>,
    ) -> Option<Arc<Routes>> {
        self.check_preferences(&written.upstream);
        if written.route.is_empty() {
            let all: Vec<&str> = written.upstream.iter().filter_map(|one| one.name.as_deref()).collect();
            self.check_orders("upstream", &all, &written.upstream);
            let ranked = ranked(&all, &written.upstream, upstreams?);
            let plain = Route::for_all("default", ranked.iter().map(|one| Arc::clone(&one.what)).collect())?;
            let (wants, rule) = (Wants::default(), plain.rule);
            let of_reports = self.route_of_reports(written, upstreams);
            let routes = of_reports.into_iter().chain(Route::new("default", wants, rule, ranked));
            return Some(Arc::new(Routes::new(routes.collect())));
        }
        let mut names = HashSet::new();
        let mut routes: Vec<Route> = self.route_of_reports(written, upstreams).into_iter().collect();
        names.extend(routes.iter().map(|route| (*route.name).to_owned()));
        for (index, entry) in written.route.iter().enumerate() {
            let path = format!("route[{index}]");
            let name = self.unique_name(&path, entry.name.as_ref(), &mut names);
            let wants = self.wants(&path, entry, written, roster);
            let serving = self.serving(&path, entry, &written.upstream);
            self.warn_if_unreachable(&path, wants.as_ref(), &routes);
            let rule = self.rule(&path);
            let ranked = upstreams.map(|known| ranked(&serving, &written.upstream, known)).unwrap_or_default();
            if let (Some(name), Some(wants)) = (name, wants) {
                routes.extend(Route::new(name, wants, rule, ranked));
            }
        }
        self.warn_of_unused_upstreams(written);
        let routes = Routes::new(routes);
        self.warn_of_reports_without_a_way(&routes);
        Some(Arc::new(routes))
    }

    /// That of our own reports and notices, when they have one of their own (`reports.upstream`): it is asked before all others.
    fn route_of_reports(&mut self, written: &Written, upstreams: Option<&[Arc<Upstream>]>) -> Option<Route> {
        let name = written.reports.upstream.as_deref()?;
        let wants = Wants { identities: Some(vec![NamePattern::new(REPORTS)]), ..Wants::default() };
        Route::new(REPORTS, wants, self.rule("reports.upstream"), ranked(&[name], &written.upstream, upstreams?))
    }

    fn wants(&mut self, path: &str, written: &WrittenRoute, all: &Written, roster: Option<&Roster>) -> Option<Wants> {
        let identities = written.identities.as_ref().map(|names| self.route_identities(path, names, all, roster));
        let cas = written.client_cas.as_ref().map(|names| self.route_cas(path, names, all));
        let senders = written.sender_domains.as_ref().map(|domains| self.route_senders(path, domains));
        let recipients =
            written.recipient_domains.as_ref().map(|domains| self.route_domains(path, "recipient_domains", domains));
        Some(Wants {
            identities,
            cas,
            senders: senders.map_or(Some(None), |read| read.map(Some))?,
            recipients: recipients.map_or(Some(None), |read| read.map(Some))?,
        })
    }

    fn refuse_empty(&mut self, path: &str, key: &str, list: &[String]) {
        let key = format!("{path}.{key}");
        if list.is_empty() && !self.findings.origins().is_spoiled(&key) {
            self.findings.mistake(&key, "is empty: the route would take nobody", "leave it out to take all");
        }
    }

    fn route_identities(
        &mut self,
        path: &str,
        names: &[String],
        written: &Written,
        roster: Option<&Roster>,
    ) -> Vec<NamePattern> {
        self.refuse_empty(path, "identities", names);
        for (index, name) in names.iter().enumerate() {
            let known = |roster: &Roster| roster.has(name) || roster.names().any(|known| known == name);
            // Whom his certificate alone names is called after its CA, and is written nowhere.
            let of_a_ca = written.client_ca.iter().filter_map(|ca| ca.name.as_deref()).any(|ca| {
                name.strip_prefix(ca)
                    .and_then(|rest| rest.strip_prefix(':'))
                    .is_some_and(|rest| Address::parse(rest).is_ok())
            });
            let is_exact = NamePattern::new(name.clone()).is_exact();
            if is_exact && name != REPORTS && !of_a_ca && roster.is_some_and(|roster| !known(roster)) {
                self.findings.warning(
                    &format!("{path}.identities[{index}]"),
                    format!("{name:?}: there is no identity of this name"),
                    "write names as `sealpost identities` lists them; * stands for any text, as in \"staff:*\"",
                );
            }
        }
        names.iter().map(|name| NamePattern::new(name.clone())).collect()
    }

    fn route_cas(&mut self, path: &str, names: &[String], written: &Written) -> BTreeSet<String> {
        self.refuse_empty(path, "client_cas", names);
        let known: Vec<&str> = written.client_ca.iter().filter_map(|ca| ca.name.as_deref()).collect();
        for (index, name) in names.iter().enumerate().filter(|(_, name)| !known.contains(&name.as_str())) {
            self.unknown_name(&format!("{path}.client_cas[{index}]"), name, "client_ca", &known);
        }
        names.iter().cloned().collect()
    }

    fn unknown_name(&mut self, key: &str, name: &str, what: &str, known: &[&str]) {
        let wrong = format!("{name:?}: there is no {what} of this name");
        let remedy = match nearest(name, known.iter().copied()) {
            Some(meant) => format!("did you mean {meant:?}?"),
            None => format!("there are: {}", known.join(", ")),
        };
        self.findings.mistake(key, wrong, remedy);
    }

    fn route_senders(&mut self, path: &str, written: &[String]) -> Option<Senders> {
        let null = if written.iter().any(|one| one == NULL) { NullSender::Taken } else { NullSender::NotTaken };
        let domains = self.route_domains(path, "sender_domains", written)?;
        Some(Senders { domains, null })
    }

    fn route_domains(&mut self, path: &str, key: &str, written: &[String]) -> Option<DomainSet> {
        self.refuse_empty(path, key, written);
        let takes_null = key == "sender_domains";
        let domains: Vec<(usize, &str)> = written
            .iter()
            .enumerate()
            .filter(|(_, text)| !(takes_null && *text == NULL))
            .map(|(index, text)| (index, text.as_str()))
            .collect();
        match DomainSet::read(domains.iter().map(|(_, text)| *text)) {
            Ok(set) => Some(set),
            Err(faults) => {
                for (place, fault) in faults {
                    let Some((index, text)) = domains.get(place) else { continue };
                    self.findings.mistake(&format!("{path}.{key}[{index}]"), format!("{text:?}: {fault}"), ());
                }
                None
            }
        }
    }

    /// The upstreams that a route names.
    fn serving<'w>(&mut self, path: &str, written: &'w WrittenRoute, upstreams: &[WrittenUpstream]) -> Vec<&'w str> {
        let key = format!("{path}.upstreams");
        let names = written.upstreams.as_deref().unwrap_or_default();
        if names.is_empty() && !self.findings.origins().is_spoiled(&key) {
            let wrong = if written.upstreams.is_some() { "is empty" } else { "is missing" };
            let remedy = "name the [[upstream]] tables that take this mail, like upstreams = [\"main\"]";
            self.findings.mistake(&key, format!("{wrong}: no upstream would take this mail"), remedy);
        }
        let known: Vec<&str> = upstreams.iter().filter_map(|one| one.name.as_deref()).collect();
        let mut serving = Vec::new();
        for (index, name) in names.iter().enumerate() {
            let key = format!("{key}[{index}]");
            if !known.contains(&name.as_str()) {
                self.unknown_name(&key, name, "upstream", &known);
            } else if serving.contains(&name.as_str()) {
                self.findings.mistake(&key, format!("{name:?}: is named twice"), "leave one out");
            } else {
                serving.push(name.as_str());
            }
        }
        self.check_orders(&key, &serving, upstreams);
        serving
    }

    /// Orders are written for all or for none: else nobody could tell where the others stand.
    fn check_orders(&mut self, key: &str, serving: &[&str], upstreams: &[WrittenUpstream]) {
        let of = |name: &&str| upstreams.iter().find(|one| one.name.as_deref() == Some(*name));
        let all: Vec<&WrittenUpstream> = serving.iter().filter_map(of).collect();
        let with = all.iter().filter(|one| one.order.is_some()).count();
        if with > 0 && with < all.len() {
            let without: Vec<&str> =
                all.iter().filter(|one| one.order.is_none()).filter_map(|one| one.name.as_deref()).collect();
            let wrong = format!("only some of these upstreams have an order, and {} have none", without.join(", "));
            self.findings.mistake(key, wrong, "write order in each of their [[upstream]] tables, or in none");
        }
    }

    fn check_preferences(&mut self, upstreams: &[WrittenUpstream]) {
        for (index, one) in upstreams.iter().enumerate() {
            if let Some(weight) = one.weight.filter(|weight| !(1..=WEIGHT_MOST).contains(weight)) {
                let wrong = format!("{weight}: not between 1 and {WEIGHT_MOST}");
                self.findings.mistake(&format!("upstream[{index}].weight"), wrong, ());
            }
            if let Some(order) = one.order.filter(|order| *order > ORDER_MOST) {
                let wrong = format!("{order}: not between 0 and {ORDER_MOST}");
                self.findings.mistake(&format!("upstream[{index}].order"), wrong, ());
            }
            let shares = |other: &WrittenUpstream| other.order.is_some() && other.order == one.order;
            let others = upstreams.iter().enumerate().filter(|(other, _)| *other != index);
            if one.weight.is_some() && !others.into_iter().any(|(_, other)| shares(other)) {
                self.findings.warning(
                    &format!("upstream[{index}].weight"),
                    "never applies: no other upstream has the same order",
                    "write the same order for those that are to share the mail",
                );
            }
        }
    }

    fn warn_if_unreachable(&mut self, path: &str, wants: Option<&Wants>, above: &[Route]) {
        let Some(wants) = wants else { return };
        if let Some(route) = above.iter().find(|route| route.wants.covers(wants)) {
            let wrong = format!("never applies: route {:?} above takes all that it wants", &*route.name);
            self.findings.warning(path, wrong, "put the narrower route first");
        }
    }

    fn warn_of_unused_upstreams(&mut self, written: &Written) {
        let used = |name: &String| {
            let takes_reports = written.reports.upstream.as_ref() == Some(name);
            takes_reports
                || written.route.iter().any(|route| route.upstreams.as_ref().is_some_and(|names| names.contains(name)))
        };
        for (index, one) in written.upstream.iter().enumerate() {
            if one.name.as_ref().is_some_and(|name| !used(name)) {
                let remedy = "name it in the upstreams of a [[route]], or take it out";
                self.findings.warning(&format!("upstream[{index}]"), "never applies: no route names it", remedy);
            }
        }
    }

    /// A report that no route takes reaches nobody, and its message ends among the dead.
    fn warn_of_reports_without_a_way(&mut self, routes: &Routes) {
        let anybody = Address::parse("anybody@reports.invalid").ok().map(ForwardPath::Address);
        let Some(recipient) = &anybody else { return };
        let report = Errand { identity: REPORTS, ca: None, sender: &ReversePath::Null, recipient };
        if routes.iter().next().is_some() && routes.find(&report).is_none() {
            self.findings.warning(
                "route",
                "no route takes our own reports to every sender: some of them could not be told of failures",
                "write a last [[route]] with upstreams alone, or one with identities = [\"reports\"]",
            );
        }
    }
}

/// These upstreams with their places: those that are written, else in the order in which they are named.
fn ranked(names: &[&str], written: &[WrittenUpstream], known: &[Arc<Upstream>]) -> Vec<Ranked<Arc<Upstream>>> {
    let mut ranked = Vec::new();
    for (place, name) in (1..).zip(names) {
        let entry = written.iter().find(|one| one.name.as_deref() == Some(name));
        let Some(what) = known.iter().find(|one| one.name == **name).map(Arc::clone) else { continue };
        let order = entry.and_then(|one| one.order).unwrap_or(place);
        let weight = entry.and_then(|one| one.weight).unwrap_or(1);
        ranked.push(Ranked { order, weight, what });
    }
    ranked
}
