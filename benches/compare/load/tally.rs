//! What came of a load: how many messages were answered how, and how long each took.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use crate::load::session::Said;

/// Refusals and faults that are told one by one; the others are counted.
const TOLD_MAX: usize = 20;

pub struct Tally {
    began: Instant,
    /// By the wall clock, which the sink shares.
    began_at: SystemTime,
    last: Instant,
    opened: Vec<Duration>,
    waits: Vec<Duration>,
    said: BTreeMap<String, u64>,
    /// Messages that were not answered 250: refused, or broken off without an answer.
    not_accepted: Vec<u64>,
    faults: u64,
}

impl Tally {
    pub fn begin() -> Self {
        let now = Instant::now();
        Self {
            began: now,
            began_at: SystemTime::now(),
            last: now,
            opened: Vec::new(),
            waits: Vec::new(),
            said: BTreeMap::new(),
            not_accepted: Vec::new(),
            faults: 0,
        }
    }

    /// A session was greeted inside TLS.
    pub fn opened(&mut self, took: Duration) {
        self.opened.push(took);
        self.last = Instant::now();
    }

    /// A message was answered; `took`: from MAIL to the answer.
    pub fn answered(&mut self, number: u64, said: &Said, took: Duration) {
        if said.code == 250 {
            self.waits.push(took);
            self.last = Instant::now();
        } else {
            self.not_accepted.push(number);
            self.tell(said.text.clone());
        }
    }

    /// A session broke, with this message on its way.
    pub fn broke(&mut self, number: Option<u64>, fault: &std::io::Error) {
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

    pub fn figures(&self) -> Value {
        let seconds = (self.last - self.began).as_secs_f64().max(1e-9);
        let began = self.began_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        json!({
            "began": began,
            "seconds": seconds,
            "sessions": self.opened.len(),
            "sessions_per_second": self.opened.len() as f64 / seconds,
            "opening_ms": percentiles(&self.opened),
            "accepted": self.waits.len(),
            "accepted_per_second": self.waits.len() as f64 / seconds,
            "waits_ms": percentiles(&self.waits),
            "histogram_ms": histogram(&self.waits),
            "not_accepted": self.not_accepted,
            "said": self.said,
        })
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
