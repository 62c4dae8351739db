//! Of what the queue consists: by identity, upstream, recipient domain and age. One pass, in bounded memory.
//!
//! Pure. Of more than `NAMES_MAX` different names the later ones are counted together.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::mail::{Address, ForwardPath, ReversePath};
use crate::queue::{Listed, NO_UPSTREAM, Sketch, Tally, UNHEARD};
use crate::route::{Errand, Routes};
use crate::sys::WallTime;

/// Different names of one kind that are told apart.
const NAMES_MAX: usize = 10_000;

/// Where mail stands that no upstream has been asked about.
const NOT_TRIED: &str = "(not tried yet)";

/// Where mail stands that no route of the configuration takes.
const NO_ROUTE: &str = "(no route takes it: write a [[route]], or take it out)";

/// The same that a route takes, since the configuration changed.
const ROUTED_NOW: &str = "(a route takes it now: not tried by it yet)";

/// The same where nobody knows what the routes take: no daemon runs.
const WAS_NOWHERE: &str = "(no route took it when it was last tried)";

/// Where mail stands of which no upstream was heard, though one may have been asked.
const NOT_HEARD: &str =
    "(no upstream was heard: its turn did not come, or sealpost failed; `sealpost queue show` says it)";

/// The ages that are told apart, and their names in `--json`.
const AGES: [(&str, Duration); 5] = [
    ("5m", Duration::from_secs(5 * 60)),
    ("1h", Duration::from_secs(3600)),
    ("4h", Duration::from_secs(4 * 3600)),
    ("1d", Duration::from_secs(86_400)),
    ("5d", Duration::from_secs(5 * 86_400)),
];

/// Of what the queue consists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breakdown {
    /// By who sent it.
    pub identities: Vec<Row>,
    /// By the upstream that was last asked about a recipient who does not have it. A message of several counts for each.
    pub upstreams: Vec<Row>,
    /// By the domains of such recipients; as above.
    pub domains: Vec<Row>,
    /// By age: under 5m, under 1h, under 4h, under 1d, under 5d, and older.
    pub ages: Vec<Row>,
    /// Identities that have their share of the queue (`queue.share_per_identity`) and hear `452 4.3.1`.
    pub shares_used_up: Vec<String>,
}

/// Messages of one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The name; `(others)` for those behind.
    pub name: String,
    /// Messages.
    pub messages: u64,
    /// Octets of them.
    pub octets: u64,
}

/// What has been counted so far.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    identities: Tops,
    upstreams: Tops,
    domains: Tops,
    ages: [Tally; AGES.len() + 1],
}

impl Tallies {
    /// One message more.
    pub(super) fn add<M: Sketch>(&mut self, found: &Listed<M>, routes: Option<&Routes>, now: WallTime) {
        let octets = found.length();
        let age = now.since(found.id().arrived());
        let class = AGES.iter().position(|(_, limit)| age < *limit).unwrap_or(AGES.len());
        if let Some(tally) = self.ages.get_mut(class) {
            more(tally, octets);
        }
        let Listed::Message(message) = found else { return };
        self.identities.add(message.identity(), octets);
        for upstream in upstreams(message, routes) {
            self.upstreams.add(upstream, octets);
        }
        for domain in domains(message) {
            self.domains.add(&domain, octets);
        }
    }

    /// The first so many of each, those with the most messages first.
    pub(super) fn breakdown(&self, top: usize, share: Tally) -> Breakdown {
        let names = AGES.iter().map(|(name, _)| format!("under {name}")).chain(["5d and older".to_owned()]);
        let ages = names.zip(&self.ages).map(|(name, tally)| Row::of(name, *tally));
        Breakdown {
            identities: self.identities.rows(top),
            upstreams: self.upstreams.rows(top),
            domains: self.domains.rows(top),
            ages: ages.collect(),
            shares_used_up: self.identities.at_least(share),
        }
    }
}

fn upstreams<'a>(message: &'a impl Sketch, routes: Option<&Routes>) -> BTreeSet<&'a str> {
    let owed = message.recipients().filter(|(_, state)| state.is_owed(message.state()));
    owed.map(|(to, state)| match &state.last_attempt {
        None => NOT_TRIED,
        Some((_, upstream)) if upstream == NO_UPSTREAM => {
            routes.map_or(WAS_NOWHERE, |routes| if has_route(message, to, routes) { ROUTED_NOW } else { NO_ROUTE })
        }
        Some((_, upstream)) if upstream == UNHEARD => NOT_HEARD,
        Some((_, upstream)) => upstream.as_str(),
    })
    .collect()
}

/// Whether a route takes this recipient as the configuration is now.
pub(in crate::daemon) fn has_route(message: &impl Sketch, to: &str, routes: &Routes) -> bool {
    // Who is neither an address nor nobody was none when it was kept, either.
    let sender = Address::parse(message.sender()).map_or(ReversePath::Null, ReversePath::Address);
    let recipient = Address::parse(to).map_or(ForwardPath::Postmaster, ForwardPath::Address);
    let errand = Errand { identity: message.identity(), ca: message.ca(), sender: &sender, recipient: &recipient };
    routes.find(&errand).is_some()
}

fn domains(message: &impl Sketch) -> BTreeSet<String> {
    let owed = message.recipients().filter(|(_, state)| state.is_owed(message.state()));
    // Without a domain is the bare postmaster alone.
    owed.map(|(to, _)| {
        Address::parse(to).map_or_else(|_| "(postmaster)".to_owned(), |address| address.host().to_string())
    })
    .collect()
}

/// Counts by name.
#[derive(Debug, Default)]
struct Tops {
    named: HashMap<String, Tally>,
    others: Tally,
}

impl Tops {
    fn add(&mut self, name: &str, octets: u64) {
        if let Some(tally) = self.named.get_mut(name) {
            more(tally, octets);
        } else if self.named.len() < NAMES_MAX {
            self.named.insert(name.to_owned(), Tally { count: 1, octets });
        } else {
            more(&mut self.others, octets);
        }
    }

    fn rows(&self, top: usize) -> Vec<Row> {
        let mut sorted: Vec<(&String, &Tally)> = self.named.iter().collect();
        sorted.sort_by(|(one, of_one), (other, of_other)| of_other.count.cmp(&of_one.count).then(one.cmp(other)));
        let mut rows: Vec<Row> =
            sorted.iter().take(top).map(|(name, tally)| Row::of((*name).clone(), **tally)).collect();
        let others = sorted.iter().skip(top).fold(self.others, |sum, (_, tally)| Tally {
            count: sum.count.saturating_add(tally.count),
            octets: sum.octets.saturating_add(tally.octets),
        });
        if others.count > 0 {
            rows.push(Row::of("(others)".to_owned(), others));
        }
        rows
    }

    fn at_least(&self, share: Tally) -> Vec<String> {
        let used_up = self.named.iter().filter(|(_, own)| own.count >= share.count || own.octets >= share.octets);
        let mut names: Vec<String> = used_up.map(|(name, _)| name.clone()).collect();
        names.sort();
        names
    }
}

impl Row {
    fn of(name: String, Tally { count, octets }: Tally) -> Self {
        Self { name, messages: count, octets }
    }
}

fn more(tally: &mut Tally, octets: u64) {
    tally.count = tally.count.saturating_add(1);
    tally.octets = tally.octets.saturating_add(octets);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::identity::{DomainSet, Rule};
    use crate::mail::QueueId;
    use crate::queue::Brief;
    use crate::queue::record::samples;
    use crate::route::{Route, Wants};
    use crate::upstream::Upstream;
    use crate::upstream::preference::Ranked;

    const NOW: WallTime = WallTime::from_seconds(1_000_000);
    const NO_SHARE: Tally = Tally { count: u64::MAX, octets: u64::MAX };

    fn message(seconds_ago: u64, identity: &str) -> Listed {
        let mut record = samples::record(QueueId::new(NOW.before(Duration::from_secs(seconds_ago)), 1).to_u128());
        record.custodian.identity = identity.to_owned();
        Listed::Message(Box::new(record))
    }

    fn row(name: &str, messages: u64) -> Row {
        Row { name: name.to_owned(), messages, octets: messages * 3 }
    }

    #[test]
    fn those_with_the_most_come_first_and_the_rest_is_summed_up() {
        let mut tallies = Tallies::default();
        for (identity, count) in [("a", 1), ("b", 3), ("c", 2), ("d", 1)] {
            (0..count).for_each(|_| tallies.add(&message(60, identity), None, NOW));
        }
        let breakdown = tallies.breakdown(2, Tally { count: 3, octets: u64::MAX });
        assert_eq!(breakdown.identities, [row("b", 3), row("c", 2), row("(others)", 2)]);
        assert_eq!(breakdown.upstreams, [row(NOT_TRIED, 7)]);
        assert_eq!(breakdown.domains, [row("example.net", 7), row("example.org", 7)]);
        assert_eq!(breakdown.shares_used_up, ["b"]);
    }

    #[test]
    fn a_recipient_who_has_it_counts_no_more() {
        let Listed::Message(mut record) = message(60, "a") else { unreachable!() };
        record.recipients[0].last_attempt = Some((NOW, "main".to_owned()));
        record.recipients[1].open = false;
        let mut tallies = Tallies::default();
        tallies.add(&Listed::Message(record), None, NOW);
        let breakdown = tallies.breakdown(10, NO_SHARE);
        assert_eq!((breakdown.upstreams, breakdown.domains), (vec![row("main", 1)], vec![row("example.net", 1)]));
    }

    #[test]
    fn that_no_route_took_it_is_said_in_words() {
        let Listed::Message(mut record) = message(60, "a") else { unreachable!() };
        for state in &mut record.recipients {
            state.last_attempt = Some((NOW, NO_UPSTREAM.to_owned()));
        }
        let (message, upstream) = (Listed::Message(record), Arc::new(Upstream::new("main", "h", 25, "r")));
        let routes = |domain: &str| {
            let wants = Wants { recipients: Some(DomainSet::read([domain]).unwrap()), ..Wants::default() };
            let upstream = Ranked { order: 1, weight: 1, what: Arc::clone(&upstream) };
            let rule = Rule { name: "route".into(), place: None };
            Routes::new(vec![Route::new(domain, wants, rule, vec![upstream]).unwrap()])
        };
        // The message is to example.org and example.net.
        for (routes, shown) in [
            (Some(Routes::default()), vec![row(NO_ROUTE, 1)]),
            (Some(routes("example.com")), vec![row(NO_ROUTE, 1)]),
            (Some(routes("example.net")), vec![row(ROUTED_NOW, 1), row(NO_ROUTE, 1)]),
            (None, vec![row(WAS_NOWHERE, 1)]),
        ] {
            let mut tallies = Tallies::default();
            tallies.add(&message, routes.as_ref(), NOW);
            assert_eq!(tallies.breakdown(10, NO_SHARE).upstreams, shown, "{routes:?}");
        }
    }

    #[test]
    fn what_was_put_off_after_a_defect_waits_for_no_route() {
        let Listed::Message(mut record) = message(60, "a") else { unreachable!() };
        for state in &mut record.recipients {
            state.last_attempt = Some((NOW, UNHEARD.to_owned()));
        }
        for routes in [None, Some(Routes::default())] {
            let mut tallies = Tallies::default();
            tallies.add(&Listed::Message(record.clone()), routes.as_ref(), NOW);
            assert_eq!(tallies.breakdown(10, NO_SHARE).upstreams, [row(NOT_HEARD, 1)]);
        }
    }

    #[test]
    fn ages_are_classes_and_what_can_not_be_read_has_one_too() {
        let mut tallies = Tallies::default();
        for seconds in [0, 299, 300, 3_599, 3_600, 86_400, 432_000] {
            tallies.add(&message(seconds, "a"), None, NOW);
        }
        tallies.add(&Listed::<Brief>::Unreadable(QueueId::new(NOW, 0), "damaged".to_owned()), None, NOW);
        let ages: Vec<u64> = tallies.breakdown(1, NO_SHARE).ages.iter().map(|row| row.messages).collect();
        assert_eq!(ages, [3, 2, 1, 0, 1, 1]);
    }

    #[test]
    fn a_million_names_take_no_more_memory_than_ten_thousand() {
        let mut tops = Tops::default();
        for number in 0..NAMES_MAX + 5 {
            tops.add(&number.to_string(), 1);
        }
        assert_eq!((tops.named.len(), tops.others.count), (NAMES_MAX, 5));
        tops.add("0", 1);
        assert_eq!(
            tops.rows(1),
            [Row { name: "0".to_owned(), messages: 2, octets: 2 }, {
                let others = u64::try_from(NAMES_MAX).unwrap() + 4;
                Row { name: "(others)".to_owned(), messages: others, octets: others }
            }]
        );
    }
}
