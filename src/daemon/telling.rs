//! What of a reload's findings is told, and when: once when they are new, again each hour while anything stays as it was because of them, and
//! once when all is right again.
//!
//! Pure: the time is an argument. Never: silent for longer than an hour while a file that is wrong waits, for a restart would fail over it.

use std::time::Duration;

use crate::config::{Gravity, Mistake};
use crate::sys::MonoTime;

/// After so long what is still wrong is told again.
const AGAIN: Duration = Duration::from_secs(3600);

/// One thing to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) weight: Weight,
    pub(super) text: String,
}

/// Whether it keeps anything from being taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    Blocks,
    Remark,
}

impl From<&Mistake> for Finding {
    fn from(found: &Mistake) -> Self {
        let weight = match found.gravity {
            Gravity::Mistake | Gravity::HeldBack => Weight::Blocks,
            Gravity::Warning => Weight::Remark,
        };
        Self { weight, text: found.to_string() }
    }
}

impl Finding {
    pub(super) fn tell(&self) {
        match self.weight {
            Weight::Blocks => tracing::error!("{}", self.text),
            Weight::Remark => tracing::warn!("{}", self.text),
        }
    }
}

/// What to do with findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// They were told, and not long ago.
    Known,
    /// They are to be told.
    Tell,
    /// What was wrong is right; what is left are remarks, to be told.
    RightAgain,
}

/// What was told last.
#[derive(Debug, Default)]
pub(super) struct Telling {
    told: Vec<Finding>,
    /// Since when, and only while something waits.
    waiting: Option<MonoTime>,
}

impl Telling {
    /// What is to be done with what was found by ourselves.
    pub(super) fn hear(&mut self, found: &[Finding], now: MonoTime) -> News {
        let blocked = found.iter().any(|one| one.weight == Weight::Blocks);
        let is_known = self.told == found;
        let is_fresh = self.waiting.is_some_and(|since| now.since(since) < AGAIN);
        match (blocked, self.waiting.is_some()) {
            (true, _) if is_known && is_fresh => News::Known,
            (true, _) => {
                self.told = found.to_vec();
                self.waiting = Some(now);
                News::Tell
            }
            (false, true) => {
                self.told = found.to_vec();
                self.waiting = None;
                News::RightAgain
            }
            (false, false) if is_known => News::Known,
            (false, false) => {
                self.told = found.to_vec();
                News::Tell
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(weight: Weight, text: &str) -> Vec<Finding> {
        vec![Finding { weight, text: text.to_owned() }]
    }

    #[test]
    fn what_stays_wrong_is_told_each_hour_and_its_mending_once() {
        let (wrong, other) = (found(Weight::Blocks, "ca.crl is cut short"), found(Weight::Blocks, "ca.crl is empty"));
        let (remark, nothing) = (found(Weight::Remark, "a CRL ends soon"), Vec::new());
        let minute = |count: u64| MonoTime::from_start(Duration::from_secs(60 * count));
        let mut telling = Telling::default();
        for (at, found, news) in [
            (0, &nothing, News::Known),
            (1, &remark, News::Tell),
            // A remark keeps nothing back, and is told once.
            (200, &remark, News::Known),
            (201, &wrong, News::Tell),
            (206, &wrong, News::Known),
            (260, &wrong, News::Known),
            (261, &wrong, News::Tell),
            (320, &wrong, News::Known),
            (321, &wrong, News::Tell),
            (322, &other, News::Tell),
            (323, &remark, News::RightAgain),
            (324, &remark, News::Known),
            (325, &wrong, News::Tell),
            (326, &nothing, News::RightAgain),
            (400, &nothing, News::Known),
        ] {
            assert_eq!(telling.hear(found, minute(at)), news, "minute {at}");
        }
    }
}
