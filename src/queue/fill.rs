//! How full the queue is, and when an operator is told: before anybody is refused.
//!
//! A pure decision: what was told is in [`Watch`], the rest comes as arguments. Never: measures; writes the log.

use std::fmt;
use std::time::Duration;

use super::shortage::Messages;
use super::store::Tally;
use crate::sys::MonoTime;

/// The disk is told of when less than so many times the reserve is free.
const DISK_EARLY: u64 = 10;
/// `queue.count`, and `queue.size` but for the reserve, which intake leaves alone, are told of when so much of them is used, per cent.
const FULL_EARLY: u64 = 80;
/// What was told counts as over when it is better than that by so much, per cent; so that it does not flicker.
const BETTER_BY: u64 = 10;
/// How often it is told again while it lasts.
const REPEAT: Duration = Duration::from_secs(3600);

/// How full the queue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// What is kept.
    pub kept: Tally,
    /// What may be kept: `queue.count` and `queue.size`.
    pub limit: Tally,
    /// Octets that may still be written to the disk.
    pub free: u64,
    /// Octets of those that are left to outcomes and reports.
    pub reserve: u64,
}

/// What there may be little of.
const KINDS: [Kind; 3] = [Kind::Disk, Kind::Size, Kind::Count];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Disk,
    Size,
    Count,
}

/// Something to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// There is little left.
    Low(String),
    /// There is enough again.
    Over(String),
    /// The queue can't be used.
    Broken(String),
    /// It can be used again.
    Mended,
}

/// What has been told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Watch {
    told: [Option<MonoTime>; KINDS.len()],
    broken: Option<MonoTime>,
}

impl Watch {
    /// What is to be told when it could not even be looked how full the queue is: once, and again each hour. Nobody else may notice: who brings mail hears it,
    /// and perhaps nobody does.
    pub fn look_failed(&mut self, fault: &str, now: MonoTime) -> Option<Notice> {
        let due = self.broken.is_none_or(|at| now.since(at) >= REPEAT);
        due.then(|| {
            self.broken = Some(now);
            Notice::Broken(fault.to_owned())
        })
    }

    /// What is to be told of this: each crossing once, and what lasts again each hour.
    pub fn look(&mut self, fill: &Fill, now: MonoTime) -> Vec<Notice> {
        let mut notices: Vec<Notice> = self.broken.take().map(|_| Notice::Mended).into_iter().collect();
        for (kind, told) in KINDS.into_iter().zip(&mut self.told) {
            let due = told.is_none_or(|at| now.since(at) >= REPEAT);
            if fill.is_low(kind, 0) && due {
                *told = Some(now);
                notices.push(Notice::Low(fill.words(kind)));
            } else if told.is_some() && !fill.is_low(kind, BETTER_BY) {
                *told = None;
                notices.push(Notice::Over(fill.words(kind)));
            }
        }
        notices
    }
}

impl Fill {
    /// Whether there is little left, or would be if the threshold were so many per cent stricter.
    fn is_low(&self, kind: Kind, stricter: u64) -> bool {
        let used = |now: u64, limit: u64| now >= percent(limit, FULL_EARLY.saturating_sub(stricter));
        match kind {
            Kind::Disk => self.free < percent(self.reserve.saturating_mul(DISK_EARLY), 100 + stricter),
            Kind::Size => used(self.kept.octets, self.limit.octets.saturating_sub(self.reserve)),
            Kind::Count => used(self.kept.count, self.limit.count),
        }
    }

    fn words(&self, kind: Kind) -> String {
        match kind {
            Kind::Disk => format!(
                "the disk of data_dir has {} free; under {} no mail is taken",
                Size(self.free),
                Size(self.reserve)
            ),
            Kind::Size => {
                format!("{} are kept, and queue.size is {}", Size(self.kept.octets), Size(self.limit.octets))
            }
            Kind::Count => format!("{} kept, and queue.count is {}", Messages(self.kept.count), self.limit.count),
        }
    }
}

fn percent(all: u64, part: u64) -> u64 {
    u64::try_from(u128::from(all) * u128::from(part) / 100).unwrap_or(u64::MAX)
}

/// A number of octets, for people.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size(pub(super) u64);

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

impl Size {
    /// Of the units up to `largest`, the one that it is said in, and its name.
    fn unit(self, largest: u64) -> (u64, &'static str) {
        match self.0.min(largest) {
            ..KIB => (1, "octets"),
            KIB..MIB => (KIB, "KiB"),
            MIB.. => (MIB, "MiB"),
        }
    }

    fn said(self, largest: u64) -> String {
        let (unit, name) = self.unit(largest);
        format!("{} {name}", self.0 / unit)
    }

    /// What is left of it when it is said so.
    fn rounded(self, largest: u64) -> u64 {
        let (unit, _) = self.unit(largest);
        self.0 - self.0 % unit
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.said(MIB))
    }
}

/// Two numbers of octets that come to more than a third, each in a unit in which this is seen: 960 KiB and 64 KiB do not come to more than 1 MiB.
pub(super) fn beyond(one: u64, other: u64, limit: u64) -> [String; 3] {
    let is_seen = |&largest: &u64| {
        let [one, other, limit] = [one, other, limit].map(|octets| Size(octets).rounded(largest));
        one.saturating_add(other) > limit
    };
    let largest = [MIB, KIB].into_iter().find(is_seen).unwrap_or(1);
    [one, other, limit].map(|octets| Size(octets).said(largest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(count: u64, octets: u64, free: u64) -> Fill {
        let limit = Tally { count: 1000, octets: 1000 * MIB };
        Fill { kept: Tally { count, octets: octets * MIB }, limit, free: free * MIB, reserve: 64 * MIB }
    }

    fn after(seconds: u64) -> MonoTime {
        MonoTime::from_start(Duration::from_secs(seconds))
    }

    fn low(text: &str) -> Vec<Notice> {
        vec![Notice::Low(text.to_owned())]
    }

    #[test]
    fn one_is_no_plural() {
        assert_eq!(
            [0, 1, 2].map(|count| Messages(count).to_string()),
            ["0 messages are", "1 message is", "2 messages are"]
        );
    }

    #[test]
    fn what_is_too_much_is_seen_to_be() {
        for (one, other, limit, said) in [
            (3 * MIB, 2 * MIB, 4 * MIB, ["3 MiB", "2 MiB", "4 MiB"]),
            (0, 2 * MIB, MIB, ["0 octets", "2 MiB", "1 MiB"]),
            (3 * MIB + 512 * KIB, MIB, 4 * MIB, ["3584 KiB", "1024 KiB", "4096 KiB"]),
            (960 * KIB + 1, 64 * KIB, MIB, ["983041 octets", "65536 octets", "1048576 octets"]),
            (u64::MAX, u64::MAX, MIB, ["17592186044415 MiB", "17592186044415 MiB", "1 MiB"]),
        ] {
            assert_eq!(beyond(one, other, limit), said);
        }
    }

    #[test]
    fn each_limit_is_told_of_before_it_is_reached() {
        for (fill, said) in [
            (fill(799, 748, 640), None),
            (fill(800, 0, 640), Some("800 messages are kept, and queue.count is 1000")),
            (fill(0, 749, 640), Some("749 MiB are kept, and queue.size is 1000 MiB")),
            (fill(0, 0, 639), Some("the disk of data_dir has 639 MiB free; under 64 MiB no mail is taken")),
        ] {
            assert_eq!(Watch::default().look(&fill, after(0)), said.map_or_else(Vec::new, low), "{fill:?}");
        }
    }

    #[test]
    fn a_small_queue_is_told_of_before_intake_stops_at_its_reserve() {
        let small = |octets| Fill { limit: Tally { count: 1000, octets: 100 * MIB }, ..fill(0, octets, 640) };
        assert_eq!(Watch::default().look(&small(28), after(0)), []);
        assert_eq!(Watch::default().look(&small(29), after(0)), low("29 MiB are kept, and queue.size is 100 MiB"));
    }

    #[test]
    fn size_and_count_are_over_when_ten_per_cent_better() {
        for (tight, better, good) in [
            (fill(0, 749, 640), fill(0, 656, 640), fill(0, 655, 640)),
            (fill(800, 0, 640), fill(700, 0, 640), fill(699, 0, 640)),
        ] {
            let mut watch = Watch::default();
            assert_eq!(watch.look(&tight, after(0)).len(), 1);
            assert_eq!(watch.look(&better, after(60)), [], "{better:?}");
            assert!(matches!(watch.look(&good, after(120)).as_slice(), [Notice::Over(_)]), "{good:?}");
        }
    }

    #[test]
    fn a_queue_that_cant_be_looked_at_is_told_of_once_and_again_each_hour_and_when_it_can() {
        let mut watch = Watch::default();
        let broken = || Some(Notice::Broken("gone".to_owned()));
        for (at, told) in [(0, broken()), (60, None), (3599, None), (3600, broken()), (3660, None)] {
            assert_eq!(watch.look_failed("gone", after(at)), told, "{at}");
        }
        assert_eq!(watch.look(&fill(0, 0, 640), after(3720)), [Notice::Mended]);
        assert_eq!(watch.look(&fill(0, 0, 640), after(3780)), []);
        assert_eq!(watch.look_failed("gone", after(3840)), broken());
    }

    #[test]
    fn a_crossing_is_told_once_and_again_each_hour_and_its_end_when_it_is_sure() {
        let mut watch = Watch::default();
        let (tight, better, good) = (fill(0, 0, 600), fill(0, 0, 650), fill(0, 0, 710));
        assert_eq!(watch.look(&tight, after(0)).len(), 1);
        for (fill, at) in [(&tight, 60), (&better, 120), (&tight, 3599)] {
            assert_eq!(watch.look(fill, after(at)), [], "{at}");
        }
        assert_eq!(watch.look(&tight, after(3600)).len(), 1);
        assert!(matches!(watch.look(&good, after(3660)).as_slice(), [Notice::Over(_)]));
        assert_eq!(watch.look(&good, after(9999)), []);
    }
}
