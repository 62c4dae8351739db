//! What an operator can ask of the queue, and the answers: the same whether the daemon is asked or the store is opened without one.
//!
//! Commands and answers travel as JSON over the control socket (see [`super::control`]). What is asked of many messages is done a few at a
//! time, so that neither memory nor the wait of somebody's mail grows with the queue. Never: shows an octet of a body; only an export carries them.

pub mod active;
pub mod answer;
pub mod breakdown;
pub mod entry;
pub mod identities;
pub mod line;
pub mod moving;
pub mod selection;
pub mod sums;

mod look;
mod round;

pub use answer::{Answer, Count, Unavailable};

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use self::active::ActiveListing;
use self::identities::Listing;
use self::look::{Counting, Listed, Summing};
use self::moving::{Back, Exporting, Forgetting};
use self::round::Round;
use self::selection::Filters;
use crate::counts::Counts;
use crate::delivery::active::Active;
use crate::identity::Roster;
use crate::queue::{Compaction, Queue, QueueError, State};
use crate::route::Routes;
use crate::sys::{Backlog, MonoTime, WallTime};
use crate::upstream::Courier;

/// How many entries are fetched at once.
const PAGE: usize = 500;

/// The most that may be kept in the store's file for it to be written anew while the daemon serves, octets: about a second's copying.
const COMPACT_BESIDE_MAX: u64 = 64 * 1024 * 1024;

/// What to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// List.
    List {
        /// Only these.
        #[serde(default)]
        filters: Filters,
        /// Only those to which this can be done.
        #[serde(default)]
        action: Option<Action>,
        /// Begin behind this one.
        #[serde(default)]
        after: Option<String>,
        /// In this order.
        #[serde(default)]
        order: ListOrder,
        /// So much of each.
        #[serde(default)]
        detail: Detail,
        /// At most so many.
        limit: usize,
    },
    /// List what is being tried just now.
    Active {
        /// Only these.
        #[serde(default)]
        filters: Filters,
        /// Begin behind this one.
        #[serde(default)]
        after: Option<String>,
        /// In this order.
        #[serde(default)]
        order: ListOrder,
        /// So much of each.
        #[serde(default)]
        detail: Detail,
        /// At most so many.
        limit: usize,
    },
    /// Say how many there are.
    Count {
        /// Only these.
        filters: Filters,
        /// Only those to which this can be done.
        action: Option<Action>,
    },
    /// Show one.
    Show {
        /// Which.
        id: String,
        /// Its header section too.
        #[serde(default)]
        headers: bool,
    },
    /// Do something to some.
    Steer {
        /// What.
        action: Action,
        /// To which.
        target: Target,
        /// Of those, only these.
        #[serde(default)]
        filters: Filters,
    },
    /// Tell messages as they are, to be brought into another queue.
    Export {
        /// Which.
        filters: Filters,
    },
    /// Take messages of another queue in, which are brought behind this line ([`moving::Brought`]).
    Import {
        /// The export's name.
        export: String,
        /// Whether it may be one that was made here.
        #[serde(default)]
        back: Back,
    },
    /// Remove what was exported and is in another queue now.
    Forget {
        /// The export's name.
        export: String,
        /// Which messages.
        ids: Vec<String>,
    },
    /// Sums.
    Stats {
        /// So many identities, upstreams and domains, by a look at each message; none without that look.
        top: usize,
    },
    /// Give the disk back what the store does not need.
    Compact,
    /// List identities: these, or all.
    Identities {
        /// Their names; none is all.
        names: Vec<String>,
        /// At most so many.
        limit: usize,
    },
}

impl Command {
    /// Whether it changes nothing.
    pub fn only_looks(&self) -> bool {
        match self {
            Self::List { .. }
            | Self::Active { .. }
            | Self::Count { .. }
            | Self::Show { .. }
            | Self::Stats { .. }
            | Self::Identities { .. } => true,
            Self::Steer { .. } | Self::Export { .. } | Self::Import { .. } | Self::Forget { .. } | Self::Compact => {
                false
            }
        }
    }
}

/// Which messages come first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ListOrder {
    /// Those that came first.
    #[default]
    OldestFirst,
    /// Those that came last.
    NewestFirst,
}

/// What a listing tells of each message, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Detail {
    /// All that is known, an object of JSON a line.
    #[default]
    Json,
    /// What people are shown in lines: a list of very many costs a fraction.
    Lines,
}

/// What can be done to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Keep it back.
    Hold,
    /// Keep it back no longer.
    Release,
    /// Try it now.
    Retry,
    /// Forget it.
    Remove,
}

impl Action {
    /// Its word, as the command line has it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Release => "release",
            Self::Retry => "retry",
            Self::Remove => "remove",
        }
    }

    /// Which states are meant when no message is named.
    const fn concerns(self, state: State) -> bool {
        match (self, state) {
            (Self::Hold, State::Queued) | (Self::Release, State::Held) => true,
            (Self::Hold | Self::Release, State::Queued | State::Held | State::Dead) => false,
            (Self::Retry, State::Queued | State::Dead) => true,
            (Self::Retry, State::Held) => false,
            (Self::Remove, State::Queued | State::Held | State::Dead) => true,
        }
    }
}

/// Which messages.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// These.
    Ids(Vec<String>),
    /// All that it can be done to.
    All,
}

/// A state's name outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StateName {
    /// To be tried when due.
    Queued,
    /// Kept back.
    Held,
    /// Can't be delivered nor reported.
    Dead,
}

impl StateName {
    /// Its word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Held => "held",
            Self::Dead => "dead",
        }
    }
}

impl From<State> for StateName {
    fn from(state: State) -> Self {
        match state {
            State::Queued => Self::Queued,
            State::Held => Self::Held,
            State::Dead => Self::Dead,
        }
    }
}

impl From<StateName> for State {
    fn from(name: StateName) -> Self {
        match name {
            StateName::Queued => Self::Queued,
            StateName::Held => Self::Held,
            StateName::Dead => Self::Dead,
        }
    }
}

/// The answers to one command, one at a time, so that a listing of a large queue is never held whole.
#[derive(Debug)]
pub struct Answers {
    by: String,
    left: Left,
    ready: VecDeque<Answer>,
}

/// What answers are made from.
#[derive(Clone, Copy, Debug)]
pub struct Desk<'a> {
    /// The queue.
    pub queue: &'a Queue,
    /// What only a running daemon has.
    pub daemon: Option<Running<'a>>,
    /// Who is known.
    pub roster: &'a Arc<Roster>,
    /// The present.
    pub now: WallTime,
}

/// What only a running daemon has.
#[derive(Clone, Copy, Debug)]
pub struct Running<'a> {
    /// The way to the upstreams.
    pub courier: &'a Courier,
    /// What is being tried just now.
    pub active: &'a Active,
    /// Which of them takes what.
    pub routes: &'a Routes,
    /// `limits.message_size`.
    pub message_size: u64,
    /// The log, in which each deed has its line.
    pub log: &'a Backlog,
    /// What has happened since the start.
    pub counts: &'a Counts,
    /// The present, by the clock that nobody sets.
    pub mono: MonoTime,
}

/// What is left to do.
#[derive(Debug)]
enum Left {
    /// Not begun yet.
    Asked(Command),
    List(Listed),
    Active(Box<ActiveListing>),
    Count(Counting),
    Steer(Box<Round>),
    Export(Box<Exporting>),
    Forget(Forgetting),
    Stats(Box<Summing>),
    Compact,
    Show {
        id: String,
        headers: bool,
    },
    Listed(Box<Listing>),
    Nothing,
    Ended,
}

/// Whether another look may bring something.
enum More {
    Perhaps,
    Never,
}

/// Why a command ends early.
#[derive(Debug)]
enum Obstacle {
    /// The queue failed.
    Queue(QueueError),
    /// What was asked makes no sense, in words.
    Asked(String),
}

impl From<QueueError> for Obstacle {
    fn from(fault: QueueError) -> Self {
        Self::Queue(fault)
    }
}

impl From<String> for Obstacle {
    fn from(why: String) -> Self {
        Self::Asked(why)
    }
}

impl Answers {
    /// The answers to `command`, asked by `by` (for the audit).
    pub fn new(command: Command, by: String) -> Self {
        Self { by, left: Left::Asked(command), ready: VecDeque::new() }
    }

    /// One answer: it can't be done.
    pub fn objecting(answer: Answer) -> Self {
        Self { by: String::new(), left: Left::Nothing, ready: VecDeque::from([answer]) }
    }

    /// The next answer; `None` behind [`Answer::End`].
    pub async fn next(&mut self, desk: Desk<'_>) -> Option<Answer> {
        loop {
            if let Some(answer) = self.ready.pop_front() {
                return Some(answer);
            }
            match self.more(desk).await {
                Ok(More::Perhaps) => {}
                Ok(More::Never) => return None,
                Err(obstacle) => {
                    self.left = Left::Nothing;
                    self.ready.push_back(Answer::Fault(match obstacle {
                        Obstacle::Queue(fault) => fault.to_string(),
                        Obstacle::Asked(why) => why,
                    }));
                }
            }
        }
    }

    /// The next answer, if it is there without a look at the queue: whoever writes them down can write several at once.
    pub fn ready(&mut self) -> Option<Answer> {
        self.ready.pop_front()
    }

    async fn more(&mut self, desk: Desk<'_>) -> Result<More, Obstacle> {
        self.left = match std::mem::replace(&mut self.left, Left::Nothing) {
            Left::Asked(command) => begin(command, self.by.clone(), desk).await?,
            Left::List(mut listed) => {
                self.ready.extend(listed.page(desk).await?);
                if listed.is_over() { Left::Nothing } else { Left::List(listed) }
            }
            Left::Active(mut listing) => {
                self.ready.extend(listing.page(desk).await?);
                if listing.is_over() { Left::Nothing } else { Left::Active(listing) }
            }
            Left::Count(mut counting) => match counting.page(desk).await? {
                Some(count) => {
                    self.ready.push_back(Answer::Count(count));
                    Left::Nothing
                }
                None => Left::Count(counting),
            },
            Left::Steer(mut round) => {
                self.ready.extend(round.step(desk).await?);
                if round.is_over() { Left::Nothing } else { Left::Steer(round) }
            }
            Left::Export(mut exporting) => {
                self.ready.extend(exporting.step(desk).await?);
                if exporting.is_over() { Left::Nothing } else { Left::Export(exporting) }
            }
            Left::Forget(mut forgetting) => {
                self.ready.extend(forgetting.step(desk).await?);
                if forgetting.is_over() { Left::Nothing } else { Left::Forget(forgetting) }
            }
            Left::Stats(mut summing) => match summing.page(desk).await? {
                Some(sums) => {
                    self.ready.push_back(Answer::Stats(Box::new(sums)));
                    Left::Nothing
                }
                None => Left::Stats(summing),
            },
            Left::Compact => {
                let answer = match desk.queue.compact(COMPACT_BESIDE_MAX, |_, _| {}).await? {
                    Compaction::Done { before, after } => {
                        tracing::info!(by = self.by, before, after, "the store's file was written anew");
                        Answer::Compacted(before, after)
                    }
                    Compaction::TooMuch { kept } => Answer::Fault(format!(
                        "{} MiB are kept, and all mail would wait until they are copied; the daemon does so up to {} MiB: \
                         stop it, run this again, and start it",
                        kept >> 20,
                        COMPACT_BESIDE_MAX >> 20
                    )),
                };
                self.ready.push_back(answer);
                Left::Nothing
            }
            Left::Show { id, headers } => {
                self.ready.extend(look::show(desk, id, headers).await?);
                Left::Nothing
            }
            Left::Listed(mut listing) => {
                let (answers, more) = listing.page(desk).await?;
                self.ready.extend(answers);
                if more { Left::Listed(listing) } else { Left::Nothing }
            }
            Left::Nothing => {
                self.ready.push_back(Answer::End);
                Left::Ended
            }
            Left::Ended => {
                self.left = Left::Ended;
                return Ok(More::Never);
            }
        };
        Ok(More::Perhaps)
    }
}

/// What was asked, made ready.
async fn begin(command: Command, by: String, desk: Desk<'_>) -> Result<Left, Obstacle> {
    Ok(match command {
        Command::List { filters, action, after, order, detail, limit } => {
            Left::List(Listed::new(&filters, action, after.as_deref(), order, detail, limit, desk.now)?)
        }
        Command::Active { filters, after, order, detail, limit } => {
            let listing = ActiveListing::new(&filters, after.as_deref(), order, detail, limit, desk)?;
            Left::Active(Box::new(listing))
        }
        Command::Count { filters, action } => Left::Count(Counting::new(filters, action, desk).await?),
        Command::Show { id, headers } => Left::Show { id, headers },
        Command::Steer { action, target, filters } => {
            Left::Steer(Box::new(Round::new(action, target, filters, by, desk).await?))
        }
        Command::Export { filters } => Left::Export(Box::new(Exporting::new(filters, by, desk).await?)),
        Command::Forget { export, ids } => Left::Forget(Forgetting::new(&export, ids, by)?),
        // Whoever can take more than a command takes it: see `control`.
        Command::Import { .. } => return Err("nothing can be brought here".to_owned().into()),
        Command::Compact => Left::Compact,
        Command::Stats { top } => Left::Stats(Box::new(Summing::new(top, desk).await?)),
        Command::Identities { names, limit } => Left::Listed(Box::new(Listing::new(desk.roster, names, limit))),
    })
}

#[cfg(test)]
mod tests;
