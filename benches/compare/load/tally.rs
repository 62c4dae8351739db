//! What came of a load: how many messages were answered how, how long each took, and which of it was in the time that is measured.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use crate::load::session::Said;

/// Refusals and faults that are told one by one; the others are counted.
const TOLD_MAX: usize = 20;

pub struct Tally {
    /// The measured time; its end is the last answer where none is set.
    from: Instant,
    until: Option<Instant>,
    /// The beginning and this moment by the wall clock, which the sink shares.
    clock: (Instant, SystemTime),
    last: Instant,
    opened: Vec<Took>,
    waits: Vec<Took>,
    answered: Vec<u64>,
    said: BTreeMap<String, u64>,
    /// Messages that were not answered 250: refused, or broken off without an answer.
    not_accepted: Vec<u64>,
    /// Sessions that did not open, or did not come to their end.
    broken: u64,
    faults: u64,
}

/// When something was done, and how long it took.
struct Took {
    at: Instant,
    time: Duration,
}

impl Tally {
    pub fn begin() -> Self {
        let now = Instant::now();
        Self {
            from: now,
            until: None,
            clock: (now, SystemTime::now()),
            last: now,
            opened: Vec::new(),
            waits: Vec::new(),
            answered: Vec::new(),
            said: BTreeMap::new(),
            not_accepted: Vec::new(),
            broken: 0,
            faults: 0,
        }
    }

    /// From now on it is measured: what was before has warmed the server up.
    pub fn measure(&mut self) {
        self.from = Instant::now();
        self.last = self.from;
    }

    /// What comes from now on is finished, and not measured.
    pub fn measured(&mut self) {
        self.until = Some(Instant::now());
    }

    /// A session was greeted inside TLS.
    pub fn opened(&mut self, time: Duration) {
        self.last = Instant::now();
        self.opened.push(Took { at: self.last, time });
    }

    /// A message was answered; `time`: from MAIL to the answer.
    pub fn answered(&mut self, number: u64, said: &Said, time: Duration) {
        if said.code == 250 {
            self.last = Instant::now();
            self.waits.push(Took { at: self.last, time });
            self.answered.push(number);
        } else {
            self.not_accepted.push(number);
            self.tell(said.text.clone());
        }
    }

    /// A session did not open, or broke, with this message on its way.
    pub fn broke(&mut self, number: Option<u64>, fault: &std::io::Error) {
        self.broken += 1;
        self.not_accepted.extend(number);
        self.tell(fault.to_string());
    }

    pub fn faults(&self) -> u64 {
        self.faults
    }

    fn tell(&mut self, what: String) {
        self.faults += 1;
        if self.said.len() < TOLD_MAX || self.said.contains_key(&what) {
            *self.said.entry(what).or_default() += 1;
        }
    }

    /// The numbers that were answered 250, one a line.
    pub fn write_answered(&self, file: &Path) {
        let lines: String = self.answered.iter().map(|number| format!("{number}\n")).collect();
        std::fs::write(file, lines).unwrap();
    }

    pub fn figures(&self) -> Value {
        let until = self.until.unwrap_or(self.last);
        let seconds = (until - self.from).as_secs_f64().max(1e-9);
        let within = |took: &[Took]| -> Vec<Duration> {
            took.iter().filter(|one| (self.from..=until).contains(&one.at)).map(|one| one.time).collect()
        };
        let (opened, waits) = (within(&self.opened), within(&self.waits));
        json!({
            "from": self.wall(self.from),
            "until": self.wall(until),
            "seconds": seconds,
            "sessions": self.opened.len(),
            "sessions_per_second": opened.len() as f64 / seconds,
            "opening_ms": percentiles(&opened),
            "accepted": self.answered.len(),
            "accepted_within": waits.len(),
            "accepted_before": self.waits.iter().filter(|one| one.at < self.from).count(),
            "accepted_per_second": waits.len() as f64 / seconds,
            "waits_ms": percentiles(&waits),
            "histogram_ms": histogram(&waits),
            "not_accepted": self.not_accepted.len(),
            "broken": self.broken,
            "said": self.said,
        })
    }

    /// A moment by the wall clock, seconds.
    fn wall(&self, at: Instant) -> f64 {
        let (began, began_at) = self.clock;
        let began_at = began_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        began_at + at.saturating_duration_since(began).as_secs_f64()
    }
}

fn percentiles(waits: &[Duration]) -> Value {
    let mut sorted = waits.to_vec();
    sorted.sort_unstable();
    let at = |thousandths: usize| {
        let place = sorted.len().saturating_sub(1) * thousandths / 1000;
        sorted.get(place).map(|wait| milliseconds(*wait))
    };
    json!({ "p50": at(500), "p90": at(900), "p99": at(990), "max": at(1000) })
}

/// How many waits were at most so long, each step twice the one before.
fn histogram(waits: &[Duration]) -> Value {
    let mut steps: BTreeMap<u64, u64> = BTreeMap::new();
    for wait in waits {
        let millisecond = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        *steps.entry((millisecond + 1).next_power_of_two()).or_default() += 1;
    }
    steps.iter().map(|(at_most, count)| json!({ "at_most": at_most, "count": count })).collect()
}

fn milliseconds(wait: Duration) -> f64 {
    (wait.as_secs_f64() * 100_000.0).round() / 100.0
}
