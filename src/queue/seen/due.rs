//! What is to be told of the certificates of one identity before they end. A pure decision.
//!
//! | so long before its end | told |
//! |---|---|
//! | 30, 7 and 1 days | once each; of several at once only the last |
//! | a newer certificate of the identity has been seen | not at all: it has been renewed |
//! | less than twice as long ago it began | not at that stage: such a certificate is renewed by a program, and always ends soon |
//! | it has ended | not any more: its client hears so itself; [`KEEP_ENDED`] later it is forgotten |
//!
//! Never: reads a clock.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Seen;
use crate::sys::WallTime;

const DAY: Duration = Duration::from_secs(86_400);

/// How long a certificate that has ended is remembered.
pub const KEEP_ENDED: Duration = Duration::from_secs(90 * 86_400);

/// How near the end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Stage {
    /// 30 days.
    Month,
    /// 7 days.
    Week,
    /// 1 day.
    Day,
}

impl Stage {
    /// The nearest last.
    pub const ALL: [Self; 3] = [Self::Month, Self::Week, Self::Day];

    /// How long before the end it begins.
    pub fn length(self) -> Duration {
        DAY.saturating_mul(match self {
            Self::Month => 30,
            Self::Week => 7,
            Self::Day => 1,
        })
    }
}

/// What is to be done about the certificates of one identity, by their places: told at a stage, or forgotten.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// To be told.
    pub told: Vec<(usize, Stage)>,
    /// To be forgotten.
    pub forgotten: Vec<usize>,
}

/// The decision about all certificates of one identity.
pub fn due(certificates: &[Seen], now: WallTime) -> Due {
    let newest = certificates.iter().map(|one| one.row.certificate.not_after).max();
    let mut due = Due::default();
    for (place, one) in certificates.iter().enumerate() {
        let ends = one.row.certificate.not_after;
        if now >= ends.after(KEEP_ENDED) {
            due.forgotten.push(place);
        } else if now < ends && Some(ends) == newest {
            due.told.extend(stage(one, now).filter(|stage| one.row.told < Some(*stage)).map(|stage| (place, stage)));
        }
    }
    due
}

/// The nearest stage that has come.
fn stage(one: &Seen, now: WallTime) -> Option<Stage> {
    let certificate = &one.row.certificate;
    let life = certificate.not_after.since(certificate.not_before);
    let reached = |stage: &Stage| now.after(stage.length()) >= certificate.not_after;
    let counts = |stage: &Stage| life >= stage.length().saturating_mul(2);
    Stage::ALL.into_iter().rev().find(|stage| reached(stage) && counts(stage))
}

/// Whole days until then, rounded down; negative when it has passed.
pub fn days_left(ends: WallTime, now: WallTime) -> i64 {
    let days = |span: Duration| i64::try_from(span.as_secs() / DAY.as_secs()).unwrap_or(i64::MAX);
    if ends >= now { days(ends.since(now)) } else { days(now.since(ends)).saturating_add(1).saturating_neg() }
}

#[cfg(test)]
mod tests {
    use super::super::{Certificate, Row};
    use super::*;

    const BEGAN: WallTime = WallTime::from_seconds(1_700_000_000);

    fn lasting(days: u32, told: Option<Stage>) -> Seen {
        Seen {
            identity: "alice".to_owned(),
            fingerprint: [u8::try_from(days % 251).unwrap(); 32],
            row: Row {
                certificate: Certificate {
                    ca: None,
                    serial: String::new(),
                    subject: String::new(),
                    issuer: String::new(),
                    email: None,
                    not_before: BEGAN,
                    not_after: BEGAN.after(DAY * days),
                },
                first: BEGAN,
                last: BEGAN,
                client: String::new(),
                told,
            },
        }
    }

    #[test]
    fn an_end_is_told_thirty_seven_and_one_days_before_once_each() {
        use Stage::{Day, Month, Week};
        for (days, passed, told, wanted) in [
            (365, 0, None, None),
            (365, 334, None, None),
            (365, 335, None, Some(Month)),
            (365, 335, Some(Month), None),
            (365, 358, Some(Month), Some(Week)),
            // Nobody looked for a month: the nearest alone is told.
            (365, 364, None, Some(Day)),
            (365, 364, Some(Day), None),
            (365, 365, None, None),
            (365, 400, None, None),
            // Renewed by a program, every week or every day.
            (59, 40, None, None),
            (60, 40, None, Some(Month)),
            (10, 4, None, None),
            (10, 9, None, Some(Day)),
            (1, 0, None, None),
        ] {
            let one = [lasting(days, told)];
            let due = due(&one, BEGAN.after(DAY * passed));
            let found = due.told.first().map(|(_, stage)| *stage);
            assert_eq!(found, wanted, "{days} days, after {passed}, told {told:?}");
            assert!(due.forgotten.is_empty());
        }
    }

    #[test]
    fn a_newer_certificate_has_nothing_told_of_the_older() {
        let both = [lasting(365, None), lasting(700, None)];
        assert_eq!(due(&both, BEGAN.after(DAY * 360)), Due::default());
        let later = due(&both, BEGAN.after(DAY * 699));
        assert_eq!((later.told, later.forgotten), (vec![(1, Stage::Day)], vec![0]));
    }

    #[test]
    fn days_are_whole() {
        for (ends, now, wanted) in [(2, 0, 2), (0, 0, 0), (0, 1, -2), (1, 0, 1)] {
            assert_eq!(days_left(BEGAN.after(DAY * ends), BEGAN.after(DAY * now)), wanted, "{ends} {now}");
        }
        assert_eq!(days_left(BEGAN, BEGAN.after(Duration::from_secs(1))), -1);
    }
}
