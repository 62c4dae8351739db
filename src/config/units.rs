//! Durations and sizes as people write them: `"1m"`, `"4h"`, `"5d"`, `"1h30m"`; `"10MiB"`, `"512KiB"`, `"1GB"`.

use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer};

/// The longest duration that a configuration may name: ten years, so that adding it to a moment always gives a moment.
const WAIT_MAX: Duration = Duration::from_secs(10 * 365 * 86_400);

/// A duration as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wait(pub(super) Duration);

/// A number of octets as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size(pub(super) u64);

const WAIT_UNITS: [(&str, u64); 6] =
    [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("w", 604_800_000)];

const SIZE_UNITS: [(&str, u64); 10] = [
    ("B", 1),
    ("K", 1 << 10),
    ("M", 1 << 20),
    ("G", 1 << 30),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

/// Reads a duration: whole numbers, each with its unit (`ms`, `s`, `m`, `h`, `d`, `w`), added up.
pub(super) fn read_wait(text: &str) -> Result<Wait, String> {
    let example = "write a number and its unit, like \"30s\", \"5m\", \"4h\", \"5d\"";
    let mut rest = text.trim();
    let mut millis: u64 = 0;
    if rest.is_empty() {
        return Err(format!("not a duration: {example}"));
    }
    while !rest.is_empty() {
        let (number, after) = split(rest, |letter| letter.is_ascii_digit());
        let (unit, after) = split(after.trim_start(), |letter| letter.is_ascii_alphabetic());
        let number: u64 = number.parse().map_err(|_| format!("not a duration: {example}"))?;
        let Some((_, scale)) = WAIT_UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(match unit {
                "" => format!("a duration needs a unit: {example}"),
                unit => format!("\"{unit}\" is no unit of time: {example}"),
            });
        };
        millis = number.checked_mul(*scale).and_then(|part| millis.checked_add(part)).ok_or("too long a duration")?;
        rest = after.trim_start();
    }
    let wait = Duration::from_millis(millis);
    if wait > WAIT_MAX { Err("longer than ten years".to_owned()) } else { Ok(Wait(wait)) }
}

/// Reads a size: a whole number of octets, with or without a unit.
pub(super) fn read_size(text: &str) -> Result<Size, String> {
    let example = "write a number and its unit, like \"512KiB\", \"10MiB\", \"1GiB\"";
    let (number, rest) = split(text.trim(), |letter| letter.is_ascii_digit());
    let unit = rest.trim_start();
    let number: u64 = number.parse().map_err(|_| format!("not a size: {example}"))?;
    let scale = match unit {
        "" => 1,
        unit => SIZE_UNITS
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(unit))
            .map(|(_, scale)| *scale)
            .ok_or_else(|| format!("\"{unit}\" is no unit of size: {example}"))?,
    };
    number.checked_mul(scale).map(Size).ok_or_else(|| "too large a size".to_owned())
}

fn split(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|letter| !belongs(letter)).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

/// A duration for people: the largest unit that it is a whole number of.
pub(super) fn wait_text(wait: Duration) -> String {
    let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    let fits = |scale: u64| millis != 0 && millis.is_multiple_of(scale);
    let (unit, scale) = WAIT_UNITS.into_iter().rev().find(|(_, scale)| fits(*scale)).unwrap_or(("s", 1000));
    format!("{}{unit}", millis / scale)
}

/// A size for people.
pub(super) fn size_text(octets: u64) -> String {
    let fits = |scale: u64| octets != 0 && octets.is_multiple_of(scale);
    let units = [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.into_iter().find(|(_, scale)| fits(*scale)) {
        Some((unit, scale)) => format!("{} {unit}", octets / scale),
        None => format!("{octets} octets"),
    }
}

impl<'de> Deserialize<'de> for Wait {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read_wait(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read_size(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        let table = [
            ("30s", 30),
            ("1m", 60),
            ("4h", 14_400),
            ("5d", 432_000),
            ("1h30m", 5_400),
            ("1 h 30 m", 5_400),
            ("2w", 1_209_600),
        ];
        for (text, seconds) in table {
            assert_eq!(read_wait(text), Ok(Wait(Duration::from_secs(seconds))), "{text}");
        }
        assert_eq!(read_wait("250ms"), Ok(Wait(Duration::from_millis(250))));
    }

    #[test]
    fn what_is_no_duration_is_told_with_an_example() {
        for text in
            ["", "5", "h", "5 parsecs", "-5s", "1.5h", "99999999999999999999s", "11w9999999999999999w", "4000000h"]
        {
            assert!(read_wait(text).is_err(), "{text}");
        }
        assert!(read_wait("5").unwrap_err().contains("needs a unit"));
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let table = [
            ("0", 0),
            ("10MiB", 10 << 20),
            ("10 mib", 10 << 20),
            ("512K", 512 << 10),
            ("1GB", 1_000_000_000),
            ("64B", 64),
        ];
        for (text, octets) in table {
            assert_eq!(read_size(text), Ok(Size(octets)), "{text}");
        }
        for text in ["", "MiB", "10 stone", "-1", "1.5GiB", "99999999999GiB"] {
            assert!(read_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_told_can_be_written_back() {
        for seconds in [1, 59, 60, 3600, 86_400, 90_000, 604_800] {
            let wait = Duration::from_secs(seconds);
            assert_eq!(read_wait(&wait_text(wait)), Ok(Wait(wait)));
        }
        for octets in [1_u64, 1024, 1025, 10 << 20, 3 << 30] {
            assert_eq!(read_size(&size_text(octets).replace(" octets", "")), Ok(Size(octets)));
        }
    }
}
