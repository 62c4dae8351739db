//! How much mail in how much time: the words of limits per identity.
//!
//! What was spent is counted by `queue::ledger`; what is said about it, by `session::replies`.

use std::fmt;
use std::time::Duration;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Measure {
    /// Messages that were accepted.
    Messages,
    /// Their recipients.
    Recipients,
}

/// Over which time. It slides: it ends now, always.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Window {
    /// The last 60 minutes.
    Hour,
    /// The last 24 hours.
    Day,
}

impl Window {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Hour, Self::Day];

    /// How long it is.
    pub const fn length(self) -> Duration {
        Duration::from_secs(match self {
            Self::Hour => 3_600,
            Self::Day => 86_400,
        })
    }
}

/// A limit: at most so many in any window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    /// Of what.
    pub measure: Measure,
    /// In which time.
    pub window: Window,
    /// How many.
    pub limit: u32,
}

/// `500 messages per hour`.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (one, many) = match self.measure {
            Measure::Messages => ("message", "messages"),
            Measure::Recipients => ("recipient", "recipients"),
        };
        let window = match self.window {
            Window::Hour => "hour",
            Window::Day => "day",
        };
        write!(f, "{} {} per {window}", self.limit, if self.limit == 1 { one } else { many })
    }
}

/// The limits of one identity. `None` means: not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rates {
    /// Messages in an hour.
    pub messages_per_hour: Option<u32>,
    /// Messages in a day.
    pub messages_per_day: Option<u32>,
    /// Recipients of all messages in an hour.
    pub recipients_per_hour: Option<u32>,
    /// Recipients of all messages in a day.
    pub recipients_per_day: Option<u32>,
}

impl Rates {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Those that there are.
    pub fn each(&self) -> impl Iterator<Item = Rate> {
        [
            (Measure::Messages, Window::Hour, self.messages_per_hour),
            (Measure::Messages, Window::Day, self.messages_per_day),
            (Measure::Recipients, Window::Hour, self.recipients_per_hour),
            (Measure::Recipients, Window::Day, self.recipients_per_day),
        ]
        .into_iter()
        .filter_map(|(measure, window, limit)| limit.map(|limit| Rate { measure, window, limit }))
    }
}

/// What a message costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Messages.
    pub messages: u32,
    /// Recipients.
    pub recipients: u32,
}

impl Cost {
    /// Of this measure.
    pub const fn of(self, measure: Measure) -> u32 {
        match measure {
            Measure::Messages => self.messages,
            Measure::Recipients => self.recipients,
        }
    }

    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            messages: self.messages.saturating_add(other.messages),
            recipients: self.recipients.saturating_add(other.recipients),
        }
    }

    /// This without the other, never below nothing.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self {
            messages: self.messages.saturating_sub(other.messages),
            recipients: self.recipients.saturating_sub(other.recipients),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_reads_as_people_say_it() {
        let rate = |measure, window, limit| Rate { measure, window, limit }.to_string();
        assert_eq!(rate(Measure::Messages, Window::Hour, 500), "500 messages per hour");
        assert_eq!(rate(Measure::Recipients, Window::Day, 1), "1 recipient per day");
    }

    #[test]
    fn each_limit_is_there_once() {
        let rates = Rates {
            messages_per_hour: Some(1),
            messages_per_day: Some(2),
            recipients_per_hour: Some(3),
            recipients_per_day: Some(4),
        };
        assert_eq!(rates.each().map(|rate| rate.limit).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert!(Rates::default().is_empty() && !rates.is_empty());
    }

    #[test]
    fn costs_add_up_by_measure_and_never_fall_below_nothing() {
        let small = Cost { messages: 1, recipients: 3 };
        let large = Cost { messages: 2, recipients: u32::MAX };
        assert_eq!([Measure::Messages, Measure::Recipients].map(|measure| small.of(measure)), [1, 3]);
        assert_eq!(small.plus(large), Cost { messages: 3, recipients: u32::MAX });
        assert_eq!(large.minus(small), Cost { messages: 1, recipients: u32::MAX - 3 });
        assert_eq!(small.minus(large), Cost::default());
        assert_eq!(Window::ALL.map(|window| window.length().as_secs()), [60 * 60, 24 * 60 * 60]);
    }
}
