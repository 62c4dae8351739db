//! Places through reloads: whose word still counts, how many may be inside, who may probe.

use futures_util::FutureExt as _;

use super::super::attempt::FaultCause;
use super::super::blame::Phase;
use super::super::health::{FAILURES_TO_OPEN, FIRST_PAUSE};
use super::*;
use crate::sys::ManualClock;

/// Pauses are as long as they are written.
#[derive(Debug)]
struct Zeros;

impl crate::sys::Entropy for Zeros {
    fn fill(&self, octets: &mut [u8]) {
        octets.fill(0);
    }
}

struct Stage {
    clock: Arc<ManualClock>,
    places: Arc<Places>,
}

/// The settings: so many connections, and something that makes them others.
fn settings(connections: usize, helo: &str) -> Arc<Upstream> {
    Arc::new(Upstream { connections, ..Upstream::new("main", "smtp.example.net", 25, helo) })
}

impl Stage {
    fn new(upstream: &Arc<Upstream>) -> Self {
        let clock = Arc::new(ManualClock::at(WallTime::from_seconds(1_800_000_000)));
        let shared: Arc<dyn Clock> = clock.clone();
        let places = Arc::new(Places::new(shared, Arc::new(Zeros)));
        places.configure(std::slice::from_ref(upstream));
        Self { clock, places }
    }

    fn configure(&self, upstream: &Arc<Upstream>) {
        self.places.configure(std::slice::from_ref(upstream));
    }

    /// Somebody who gets a connection at once, or nobody.
    fn enter(&self, upstream: &Arc<Upstream>) -> Option<Slot> {
        self.places.enter(upstream).now_or_never().flatten()
    }

    fn fails(&self, upstream: &Arc<Upstream>) -> Option<Condition> {
        let fault =
            UpstreamFault { upstream: "main".into(), address: None, phase: Phase::Connect, cause: FaultCause::Closed };
        let begun = self.clock.now().mono;
        self.places.report(upstream, Some(&fault), None, Finder::Ordinary, begun)
    }

    /// It has failed until it is left alone, and the pause is over.
    fn makes_due(&self, upstream: &Arc<Upstream>) {
        for _ in 0..FAILURES_TO_OPEN {
            self.fails(upstream);
        }
        self.clock.advance(FIRST_PAUSE);
    }

    fn standing(&self) -> Standing {
        self.places.standings().remove(0)
    }

    fn outlook(&self, upstream: &Arc<Upstream>) -> Outlook {
        self.places.outlook(std::iter::once(upstream))
    }

    fn probe(&self, upstream: &Arc<Upstream>) -> Option<Probe> {
        self.places.probe(std::iter::once(upstream))
    }
}

#[test]
fn what_was_found_with_old_settings_says_nothing_of_new_ones() {
    let (old, new) = (settings(4, "old.example.com"), settings(4, "new.example.com"));
    let stage = Stage::new(&old);
    stage.configure(&new);
    for _ in 0..FAILURES_TO_OPEN * 2 {
        assert_eq!(stage.fails(&old), None);
    }
    assert_eq!((stage.standing().condition, stage.standing().failures), (Condition::Closed, 0));
    // Nor does it make well what the new ones found broken.
    stage.makes_due(&new);
    assert_eq!(stage.places.report(&old, None, None, Finder::Ordinary, stage.clock.now().mono), None);
    assert_eq!(stage.standing().failures, FAILURES_TO_OPEN);
}

#[test]
fn that_a_probe_is_due_is_no_probe_and_one_that_is_dropped_gives_its_right_back() {
    let upstream = settings(4, "relay.example.com");
    let stage = Stage::new(&upstream);
    stage.makes_due(&upstream);
    let news = stage.places.news.subscribe();
    assert_eq!(stage.outlook(&upstream), Outlook::Due);
    assert_eq!(stage.standing().condition, Condition::Open(Duration::ZERO), "nobody probes yet");
    let probe = stage.probe(&upstream).unwrap();
    assert_eq!(stage.standing().condition, Condition::HalfOpen);
    assert!(stage.probe(&upstream).is_none(), "one only");
    assert!(matches!(stage.outlook(&upstream), Outlook::LeftAlone(_)));
    assert!(!news.has_changed().unwrap());
    drop(probe);
    assert!(news.has_changed().unwrap(), "whoever waits hears of it");
    assert_eq!((stage.outlook(&upstream), stage.standing().condition), (Outlook::Due, Condition::Open(Duration::ZERO)));
    // What a probe has found stays so when it is dropped afterwards.
    let probe = stage.probe(&upstream).unwrap();
    assert_eq!(probe.report(None, None, stage.clock.now().mono), Some(Condition::Closed));
    assert_eq!(stage.outlook(&upstream), Outlook::Clear);
}

#[test]
fn a_probe_of_old_settings_gives_back_nothing_of_the_new_ones() {
    let (old, new) = (settings(4, "old.example.com"), settings(4, "new.example.com"));
    let stage = Stage::new(&old);
    stage.makes_due(&old);
    let of_old = stage.probe(&old).unwrap();
    stage.configure(&new);
    stage.makes_due(&new);
    let of_new = stage.probe(&new).unwrap();
    drop(of_old);
    assert_eq!(stage.standing().condition, Condition::HalfOpen, "the new one's probe is under way still");
    drop(of_new);
    assert_eq!(stage.outlook(&new), Outlook::Due);
}

#[test]
fn a_limit_that_a_reload_changes_holds_for_those_who_are_inside_too() {
    // The limit before; those inside then; the limits that reloads set; how many more get in at the end.
    for (before, inside, reloads, more) in [
        (3, 3, vec![1], 0),
        (3, 2, vec![1], 0),
        (3, 0, vec![1], 1),
        (1, 1, vec![3], 2),
        // What is owed to a lower limit is paid by a higher one.
        (4, 4, vec![1, 3], 0),
        (4, 4, vec![1, 5], 1),
        (4, 2, vec![3, 1, 4], 2),
    ] {
        let first = settings(before, "0.example.com");
        let stage = Stage::new(&first);
        let mut slots: Vec<Slot> = (0..inside).map(|_| stage.enter(&first).unwrap()).collect();
        let name = format!("{before}, {inside} inside, then {reloads:?}");
        let mut newest = first;
        for (turn, &limit) in reloads.iter().enumerate() {
            newest = settings(limit, &format!("{}.example.com", turn + 1));
            stage.configure(&newest);
        }
        let limit = newest.connections;
        let mut entered: Vec<Slot> = std::iter::from_fn(|| stage.enter(&newest)).take(9).collect();
        assert_eq!(entered.len(), more, "{name}");
        assert_eq!((stage.standing().busy, stage.standing().limit), (inside + more, limit), "{name}");
        // As they leave one by one, others get in only up to the limit.
        while slots.pop().is_some() {
            entered.extend(std::iter::from_fn(|| stage.enter(&newest)).take(9));
            assert!(slots.len() + entered.len() <= limit.max(slots.len() + more), "{name}");
        }
        assert_eq!(entered.len(), limit, "{name}: in the end all may be used");
        drop(entered);
        assert_eq!(stage.standing().busy, 0, "{name}");
    }
}
