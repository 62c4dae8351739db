//! The queue's budgets and its schedule.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::Checking;
use crate::config::units::{size_text, wait_text};
use crate::config::written::WrittenQueue;
use crate::queue::QueueSettings;
use crate::queue::schedule::Schedule;
use crate::queue::settings::DELIVERIES_MAX;
use crate::upstream::Upstream;

/// The shortest wait between two attempts.
const RETRY_LEAST: Duration = Duration::from_secs(1);
/// The smallest memory budget, octets: some messages at once.
pub(super) const MEMORY_LEAST: u64 = 1024 * 1024;
/// The smallest queue, octets: over the reserve that reports need.
const SIZE_LEAST: u64 = 256 * 1024 * 1024;
/// The smallest queue, messages.
const COUNT_LEAST: u32 = 2000;
/// The most attempts of one identity at once: another must always find a place among all deliveries.
const PER_IDENTITY_MOST: usize = DELIVERIES_MAX / 2;

impl Checking<'_> {
    pub(super) fn schedule(&mut self, written: &WrittenQueue) -> Option<Schedule> {
        if written.retry.is_empty() && !self.findings.origins().is_spoiled("queue.retry") {
            self.findings.mistake(
                "queue.retry",
                "is empty: nothing would be tried again",
                "write [\"1m\", \"5m\", \"15m\", \"1h\"]",
            );
        }
        for (index, wait) in written.retry.iter().enumerate() {
            if wait.0 < RETRY_LEAST {
                let wrong = format!("{}: under one second", wait_text(wait.0));
                self.findings.mistake(&format!("queue.retry[{index}]"), wrong, ());
            }
        }
        let (first, warn, give_up) =
            (written.retry.first().map(|wait| wait.0), written.warn_after.0, written.give_up_after.0);
        if first.is_some_and(|first| first > give_up) {
            let wrong = format!("{}: gives up before the first retry", wait_text(give_up));
            self.findings.mistake("queue.give_up_after", wrong, "RFC 5321 section 4.5.4.1 asks for four to five days");
        }
        if warn >= give_up {
            let wrong =
                format!("{}: never happens, since mail is given up after {}", wait_text(warn), wait_text(give_up));
            self.findings.warning("queue.warn_after", wrong, ());
        }
        self.at_least_octets("queue.memory", written.memory.0, MEMORY_LEAST);
        self.at_least_octets("queue.size", written.size.0, SIZE_LEAST);
        self.at_least("queue.count", written.count, COUNT_LEAST, "too few: some are kept for reports");
        self.at_least("queue.receiving_per_identity", written.receiving_per_identity, 1, "nobody could send");
        if let Some(number) = written.per_identity
            && !(1..=PER_IDENTITY_MOST).contains(&usize::try_from(number).unwrap_or(usize::MAX))
        {
            let wrong = format!("{number}: not between 1 and {PER_IDENTITY_MOST}, half of all deliveries at once");
            self.findings.mistake(
                "queue.per_identity",
                wrong,
                "write 10, or leave it out: then it follows the upstreams' `connections`",
            );
        }
        for (key, share, remedy) in [
            (
                "queue.share_per_identity",
                written.share_per_identity,
                "write 50; 100 leaves the whole queue to whoever comes first",
            ),
            (
                "queue.memory_share_per_identity",
                written.memory_share_per_identity,
                "write 25; 100 leaves all memory to whoever comes first",
            ),
        ] {
            if !(1..=100).contains(&share) {
                self.findings.mistake(key, format!("{share}: not between 1 and 100 per cent"), remedy);
            }
        }
        let retry: Vec<Duration> = written.retry.iter().map(|wait| wait.0).collect();
        Schedule::new(&retry, Some(warn), give_up)
    }

    fn at_least_octets(&mut self, key: &str, octets: u64, least: u64) {
        if octets < least {
            self.findings.mistake(
                key,
                format!("{}: too small", size_text(octets)),
                format!("write {} or more", size_text(least)),
            );
        }
    }
}

pub(super) fn settings(written: &WrittenQueue, upstreams: &[Arc<Upstream>], data_dir: &Path) -> QueueSettings {
    let mut settings = QueueSettings::new(data_dir);
    settings.memory = written.memory.0;
    settings.size = written.size.0;
    settings.count = written.count.into();
    settings.share_per_identity = written.share_per_identity.into();
    settings.memory_share_per_identity = written.memory_share_per_identity.into();
    settings.receiving_per_identity = written.receiving_per_identity.into();
    let connections = upstreams.iter().map(|upstream| upstream.connections).max().unwrap_or(1);
    let asked = written.per_identity.map_or(connections, |number| usize::try_from(number).unwrap_or(usize::MAX));
    settings.per_identity = asked.clamp(1, PER_IDENTITY_MOST);
    settings
}
