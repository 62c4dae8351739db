//! What any store must do. The embedded one (`embedded`) keeps everything in one folder of one machine; a shared one may follow.
//!
//! A store is synchronous: it has no opinion on threads. [`Store::apply`] is the only way to change it, and what it answers is on stable
//! storage. Never: waits for a budget or a due time, asks a clock, draws a random number: these come as arguments.

use std::fmt;
use std::time::Duration;

use super::QueueError;
use super::accounts::Spending;
use super::at_hand::BodyAtHand;
use super::brief::{Brief, Sketch};
use super::compact::{Compaction, Progress};
use super::record::{NO_UPSTREAM, Outcome, Record, State, UNHEARD};
use super::seen::{Mark, Seen, Sighting};
use super::sweeper::BodyFile;
use super::transfer::Adoption;
use super::turns::Place;
use crate::mail::{Cost, QueueId, Rate, Rates};
use crate::sys::{MonoTime, Now, WallTime};

/// A message to be kept.
#[derive(Debug)]
pub struct NewMessage {
    /// What is known of it.
    pub record: Record,
    /// Its octets.
    pub body: NewBody,
    /// What it costs its sender; written with it, or given back.
    pub spending: Option<Spending>,
    /// The certificate that it was sent with; noted with it.
    pub sighting: Option<Sighting>,
    /// What this message tells of a certificate; noted with it.
    pub mark: Option<Mark>,
    /// Whose share and turn it takes, when that is not its custodian's: mail of our own takes those of whom it is about.
    pub account: Option<String>,
}

impl NewMessage {
    /// Whose share and turn it takes.
    pub(super) fn whose(&self) -> &str {
        self.account.as_deref().unwrap_or(&self.record.custodian.identity)
    }
}

/// A message that another queue had.
#[derive(Debug)]
pub struct Adopted {
    /// The message.
    pub message: NewMessage,
    /// The name of the export that brings it.
    pub export: QueueId,
    /// Its place in the export.
    pub place: u64,
}

/// The octets of a message to be kept.
#[derive(Debug)]
pub enum NewBody {
    /// These.
    Octets(Vec<u8>),
    /// In a file of their own, synced with its folder.
    File(BodyFile),
}

/// The right to record what came of a message: of all that were ever given for it, the one with the highest number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Which message.
    pub id: QueueId,
    /// The fencing number.
    pub fence: u64,
}

/// One attempt at one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// Its place in the envelope.
    pub recipient: usize,
    /// By which upstream.
    pub upstream: String,
    /// What came of it.
    pub outcome: Outcome,
    /// Whether that is all there is to know.
    pub certainty: Certainty,
}

impl Tried {
    /// One whom no route takes: put off, and due at once when one does.
    pub fn nowhere(recipient: usize) -> Self {
        let reason = "no route of the configuration takes this recipient";
        Self { upstream: NO_UPSTREAM.to_owned(), ..Self::by_nobody(recipient, reason) }
    }

    /// One of whom no upstream was heard, and why: put off. Which routes there are changes nothing of that.
    pub fn by_nobody(recipient: usize, reason: impl Into<String>) -> Self {
        Self {
            recipient,
            upstream: UNHEARD.to_owned(),
            outcome: Outcome::Deferred { reason: reason.into(), reply: None },
            certainty: Certainty::Known,
        }
    }
}

/// Whether it is known what the upstream did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Certainty {
    /// It is.
    #[default]
    Known,
    /// It got the final dot and was silent: it may have the message.
    Undetermined,
    /// It was noted while this attempt went on that it may have the message, and it has said since that it has not.
    Answered,
}

/// What is to become of a message after an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is tried again at this moment.
    Retry(WallTime),
    /// Nothing is left to do: record and body go.
    Finished,
    /// It can be neither delivered nor reported, for this reason: it is kept for the operator.
    Dead(String),
    /// Its sender may not send any more, for this reason: it is kept back until an operator decides.
    Held(String),
}

/// One change.
#[derive(Debug)]
pub enum Order {
    /// Keep this message.
    Deposit(Box<NewMessage>),
    /// Record what came of an attempt, and keep the report on it, both or neither.
    Conclude {
        /// By this right.
        ticket: Ticket,
        /// For these recipients.
        outcomes: Vec<Tried>,
        /// And then.
        next: Next,
        /// Whether the sender has now been told of the delay.
        warned: bool,
        /// The report. Its body is never a file: after a failure it may be there all the same, while a file would be gone.
        report: Option<Box<NewMessage>>,
    },
    /// Note, while an attempt goes on, that these recipients have the message, and keep the report on it, both or neither. What stands there already
    /// is not noted again. Of others who are open, that an upstream may have it; as an attempt that counts by its conclusion alone. The claim stays.
    Note {
        /// By this right.
        ticket: Ticket,
        /// For these recipients.
        outcomes: Vec<Tried>,
        /// The report; as of a conclusion.
        report: Option<Box<NewMessage>>,
    },
    /// This message is damaged: nobody tries it any more.
    SetAside {
        /// By this right.
        ticket: Ticket,
        /// What is wrong with it, for the operator.
        reason: String,
    },
    /// Try it now; a dead or held one too.
    Retry(QueueId),
    /// Keep it back.
    Hold(QueueId),
    /// Keep it back no longer.
    Release(QueueId),
    /// Due now, if it is queued; no other is changed.
    Wake(QueueId),
    /// Forget it, whatever its state.
    Remove(QueueId),
    /// These recipients, by their places in the envelope, are not to have it; forget it when nobody is left.
    TakeOut(QueueId, Vec<usize>),
    /// Keep this message, which another queue had, as it was there: once, however often it is brought.
    Adopt(Box<Adopted>),
    /// Note that a message of an export is here already, if it is: it is not to be brought in once it has gone.
    Present {
        /// Which.
        id: QueueId,
        /// The name of the export.
        export: QueueId,
        /// Its place in the export.
        place: u64,
    },
    /// Note that an export of this name begins.
    BeginExport(QueueId),
    /// This message has arrived elsewhere, by an export of ours: forget it, unless another queue was told after the export had begun that it is here.
    Leave {
        /// Which.
        id: QueueId,
        /// The name of the export.
        export: QueueId,
    },
    /// Note that all of an export has arrived elsewhere, and has been removed here.
    Settle(QueueId),
    /// Note what a message has cost that others have kept.
    Charge(Spending),
    /// Note a certificate that was seen.
    See(Box<Sighting>),
    /// Note what was told of certificates, and forget some.
    Mark(Vec<Mark>),
    /// Change nothing, but open the store again if it has failed.
    Mend,
}

/// Whether an identity may spend what it asked for.
#[derive(Debug)]
pub enum Spent {
    /// It may; dropped before it was written, it is given back.
    Granted(Spending),
    /// Not before a moment.
    Until {
        /// The limit that is reached.
        rate: Rate,
        /// When it has room again.
        at: WallTime,
    },
}

/// What a store has to give to somebody who asks for work.
#[derive(Debug)]
pub enum Work {
    /// This message is due, and yours.
    Claimed(Ticket, Box<Record>),
    /// This message is due and yours, but what was kept of it can't be read: set it aside.
    Unreadable(Ticket, String),
    /// Nothing is due; the next thing may be after so long; none when nothing at all is waiting.
    Nothing(Option<Duration>),
}

/// What is read of a message that is given out and is not at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Its octets with its record, where they are one piece: it goes at once.
    Whole,
    /// It may have to wait.
    RecordAlone,
}

/// The same, as far as memory knows.
#[derive(Debug)]
pub enum AtHand {
    /// It takes a wait to know.
    Unknown,
    /// This.
    Work(Work),
    /// This message is due, and yours; what is known of it has to be read.
    Unread(Ticket),
}

/// Messages that are due and about whose delay something is to be told, though nobody tries them; and those whose due time can't be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Late {
    /// Who came by then is told of the delay once; none when nobody is.
    pub warn: Option<WallTime>,
    /// What came by then is given up.
    pub give_up: WallTime,
    /// What is due after then is astray, unless its sender asked for it; none when that is not looked for.
    pub astray: Option<WallTime>,
    /// What an earlier round has looked at, which is passed over; none when all is looked at.
    pub behind: Option<Looked>,
}

/// What a round over late messages has looked at: all that was late and due for a while when it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Looked {
    at: WallTime,
    warn: Option<WallTime>,
    give_up: WallTime,
}

/// What became late or due in so long a time before a round is looked at by the next one again: a message has its name, which tells a round its age, before it
/// has come; and what has just become due may have been about to be tried.
const AGAIN: Duration = Duration::from_secs(15 * 60);

impl Late {
    /// What is astray, and nothing else.
    pub fn astray(after: WallTime) -> Self {
        Self { warn: None, give_up: WallTime::from_millis(i64::MIN), astray: Some(after), behind: None }
    }

    /// What a round that begins now will have looked at.
    pub fn looked(self, now: WallTime) -> Looked {
        let older = |limit: WallTime| limit.before(AGAIN);
        Looked { at: older(now), warn: self.warn.map(older), give_up: older(self.give_up) }
    }

    /// The same without what was looked at.
    #[must_use]
    pub fn behind(self, looked: Option<Looked>) -> Self {
        Self { behind: looked, ..self }
    }

    /// Whether it may concern a queued message that came then and is due then. One that was held waits since its release, which is later unless the
    /// clock was set back: when this says no, it is no, or was looked at.
    pub fn may_concern(self, arrived: WallTime, due: WallTime, now: WallTime) -> bool {
        self.is_beyond(due) || (due <= now && self.is_late(arrived) && !self.was_looked_at(arrived, due))
    }

    /// Whether it was due before, and late as it is now.
    fn was_looked_at(self, arrived: WallTime, due: WallTime) -> bool {
        self.behind.is_some_and(|looked| {
            let had_to_be_told = looked.warn.is_some_and(|limit| arrived <= limit);
            due <= looked.at && (arrived <= looked.give_up || (arrived > self.give_up && had_to_be_told))
        })
    }

    /// Whether it concerns this queued message.
    pub fn concerns(self, record: &Record, now: WallTime) -> bool {
        let since = record.waits_since();
        if self.is_beyond(record.due) {
            // RFC 4865 §4: it is to wait until then, by its sender's own wish.
            return record.envelope.parameters().hold_until != Some(record.due);
        }
        record.due <= now && (since <= self.give_up || (!record.warned && self.is_late(since)))
    }

    fn is_beyond(self, due: WallTime) -> bool {
        self.astray.is_some_and(|after| due > after)
    }

    fn is_late(self, since: WallTime) -> bool {
        since <= self.give_up || self.warn.is_some_and(|limit| since <= limit)
    }
}

/// How far a round over the due messages has come: behind this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DuePlace(pub(super) String, pub(super) Place);

/// Which messages a listing shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only those in this state.
    pub state: Option<State>,
}

/// Which part of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Start after this message; at the oldest when none.
    pub after: Option<QueueId>,
    /// At most so many; never more than [`super::settings::PAGE_MAX`] records or [`super::settings::BRIEFS_MAX`] briefs, and fewer where records are large.
    pub limit: usize,
}

/// In which order a listing goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// What came first, first.
    OldestFirst,
    /// What came last, first: [`Page::after`] is the one before which it goes on.
    NewestFirst,
}

/// One entry of a listing: a record, or what is shown of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listed<M = Box<Record>> {
    /// A message.
    Message(M),
    /// Something that was a message and can't be read any more; it counts as dead.
    Unreadable(QueueId, String),
}

impl<M: Sketch> Listed<M> {
    /// Which one.
    pub fn id(&self) -> QueueId {
        match self {
            Self::Message(message) => message.id(),
            Self::Unreadable(id, _) => *id,
        }
    }

    /// In which state.
    pub fn state(&self) -> State {
        match self {
            Self::Message(message) => message.state(),
            Self::Unreadable(..) => State::Dead,
        }
    }

    /// Octets of it; nobody knows of what can't be read.
    pub fn length(&self) -> u64 {
        match self {
            Self::Message(message) => message.length(),
            Self::Unreadable(..) => 0,
        }
    }
}

impl Listed {
    /// No more of it than a listing shows.
    pub fn brief(&self) -> Listed<Brief> {
        match self {
            Self::Message(record) => Listed::Message(Brief::of(record)),
            Self::Unreadable(id, reason) => Listed::Unreadable(*id, reason.clone()),
        }
    }
}

/// Part of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing<M = Box<Record>> {
    /// The entries; there may be more even when there are fewer than were asked for.
    pub entries: Vec<Listed<M>>,
    /// Where to go on; none at the end.
    pub next: Option<QueueId>,
}

/// How many, how large.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Tally {
    /// Messages.
    pub count: u64,
    /// Octets of their bodies; where room is measured, of their records too.
    pub octets: u64,
}

impl Tally {
    /// One message more.
    pub(super) fn add(&mut self, octets: u64) {
        self.count = self.count.saturating_add(1);
        self.octets = self.octets.saturating_add(octets);
    }

    /// One message less.
    pub(super) fn subtract(&mut self, octets: u64) {
        self.count = self.count.saturating_sub(1);
        self.octets = self.octets.saturating_sub(octets);
    }
}

/// Sums over the whole store, kept up with every change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Totals {
    /// To be tried when due.
    pub queued: Tally,
    /// Kept back.
    pub held: Tally,
    /// Set aside.
    pub dead: Tally,
    /// Octets of the records of all.
    pub records: u64,
}

impl Totals {
    /// The sum for a state.
    pub fn of(&mut self, state: State) -> &mut Tally {
        match state {
            State::Queued => &mut self.queued,
            State::Held => &mut self.held,
            State::Dead => &mut self.dead,
        }
    }

    /// Of all states, bodies and records.
    pub fn all(&self) -> Tally {
        let sum = |pick: fn(&Tally) -> u64| {
            pick(&self.queued).saturating_add(pick(&self.held)).saturating_add(pick(&self.dead))
        };
        let octets = sum(|tally| tally.octets).saturating_add(self.records);
        Tally { count: sum(|tally| tally.count), octets }
    }

    pub(super) fn add(&mut self, state: State, octets: u64) {
        self.of(state).add(octets);
    }

    pub(super) fn subtract(&mut self, state: State, octets: u64) {
        self.of(state).subtract(octets);
    }
}

/// Octets that may still be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Free {
    /// To the disk.
    pub disk: u64,
    /// Besides, within the store's own file, by what fits there.
    pub within: u64,
}

/// The figures of `queue stats`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// By state.
    pub totals: Totals,
    /// Of the queued, how many are being tried now, or were by somebody who went away.
    pub claimed: u64,
    /// Of the queued, how many were tried, and what came of it is not on the disk yet.
    pub unrecorded: u64,
    /// When the oldest of all came.
    pub oldest: Option<WallTime>,
    /// Octets of the store's own file.
    pub file: u64,
}

/// A store.
pub trait Store: Send + Sync + fmt::Debug {
    /// Makes these changes in one transaction, on stable storage when this returns; one answer for each, in order. An order that can't be
    /// obeyed changes nothing and hinders no other. When the disk fails, none is made, and all answers say so.
    fn apply(&self, batch: Vec<Order>, now: Now) -> Vec<Result<(), QueueError>>;

    /// Grants `cost` to an identity, unless a limit is reached. What was granted is written by [`Self::apply`] in the transaction that keeps the
    /// message it is for: a restart forgets nothing, and a refused message costs nothing.
    fn spend(&self, identity: &str, rates: &Rates, cost: Cost, now: Now) -> Result<Spent, QueueError>;

    /// Gives out a message that is due, for as long as the lease says: of the identity whose turn it is, round and round, the one of highest
    /// priority that is due longest. Of one identity no more than the settings say at once. What others have waiting costs nothing.
    fn claim(&self, now: Now, reading: Reading) -> Result<Work, QueueError>;

    /// The same as far as memory knows, without a wait and without a look at the disk.
    fn claim_at_hand(&self, _now: Now) -> AtHand {
        AtHand::Unknown
    }

    /// Reads what was claimed by [`Self::claim_at_hand`]; none when it stands elsewhere now, and the claim has ended. After an error it has, too.
    fn read_claimed(&self, _ticket: Ticket, _now: Now, _reading: Reading) -> Result<Option<Work>, QueueError> {
        Ok(None)
    }

    /// The octets of a message that was just claimed, where they are in memory still: they are what the disk has.
    fn body_at_hand(&self, _id: QueueId) -> Option<BodyAtHand> {
        None
    }

    /// Whether this claim still counts: nobody else has claimed the message, and nobody has taken it away.
    fn is_current(&self, _ticket: Ticket) -> bool {
        true
    }

    /// Gives out the next message behind `after`, in an order of the store's own, that is late, also one that is put off; and where to go on: none
    /// at the end of the round.
    fn claim_late(&self, now: Now, late: Late, after: Option<DuePlace>)
    -> Result<(Work, Option<DuePlace>), QueueError>;

    /// Gives out this message, if it is due and nobody tries it; also one that is put off.
    fn claim_one(&self, id: QueueId, now: Now) -> Result<Work, QueueError>;

    /// Gives a claim back for so long: nobody is to try the message now. Nothing is written.
    fn put_off(&self, ticket: Ticket, until: MonoTime);

    /// What was put off may be tried now.
    fn recall(&self);

    /// The attempt is over, and what came of it will be recorded: another message of the identity may be tried.
    /// Its lease does not run out before [`Self::lay_down`].
    fn over(&self, ticket: Ticket);

    /// Nobody has any more what came of it: what is not recorded by now is tried again when its lease runs out.
    fn lay_down(&self, ticket: Ticket);

    /// Prolongs a claim by a whole lease from now.
    fn renew(&self, ticket: Ticket, now: Now) -> Result<(), QueueError>;

    /// Takes a claim back of which nobody has seen anything.
    fn unclaim(&self, ticket: Ticket);

    /// Whether an attempt at it is under way.
    fn is_tried(&self, id: QueueId, now: Now) -> bool;

    /// What is known of a message.
    fn show(&self, id: QueueId) -> Result<Listed, QueueError>;

    /// Octets of a body from `offset`, which is 0 or where the last piece ended; empty at its end.
    fn piece(&self, id: QueueId, offset: u64) -> Result<Vec<u8>, QueueError>;

    /// Part of the list of all messages, by id and so by age.
    fn list(&self, filter: Filter, page: Page) -> Result<Listing, QueueError>;

    /// The same, newest first: `page.after` is the one before which it goes on.
    fn list_back(&self, filter: Filter, page: Page) -> Result<Listing, QueueError>;

    /// The same, of each message no more than a listing shows: for a look at very many.
    fn briefs(&self, filter: Filter, page: Page, direction: Direction) -> Result<Listing<Brief>, QueueError>;

    /// Which messages of this export are here, or were.
    fn adopted(&self, export: QueueId) -> Result<Adoption, QueueError>;

    /// Whether an export of this name is known to have begun here.
    fn exported(&self, export: QueueId) -> Result<bool, QueueError>;

    /// Whether what was exported under this name has been removed, because it had arrived elsewhere.
    fn settled(&self, export: QueueId) -> Result<bool, QueueError>;

    /// The certificates seen of the next identities behind `after`, of each all; a few more than `limit` at the most.
    fn seen(&self, after: Option<&str>, limit: usize) -> Result<Vec<Seen>, QueueError>;

    /// The certificates seen of each of these identities.
    fn seen_of(&self, identities: &[String]) -> Result<Vec<Vec<Seen>>, QueueError>;

    /// How many certificates are remembered.
    fn seen_count(&self) -> Result<u64, QueueError>;

    /// The sums, without a look at the disk.
    fn totals(&self) -> Totals;

    /// What is kept of this identity's messages, bodies and records; kept up with every change.
    fn held_by(&self, identity: &str) -> Result<Tally, QueueError>;

    /// The sums, those of an identity, and the octets free within the store's own file, without a wait and without a look at the disk; none when it takes
    /// one of these to know.
    fn sums_at_hand(&self, _identity: &str) -> Option<(Totals, Tally, u64)> {
        None
    }

    /// The figures.
    fn stats(&self) -> Result<Stats, QueueError>;

    /// Octets that may still be written, measured now.
    fn space_left(&self, now: Now) -> Result<Free, QueueError>;

    /// Gives back to the disk what the store does not need, unless more than `most` octets are kept in its file; nothing else is done meanwhile.
    /// `told` is told how far it is. A store whose file gives space back by itself has nothing to do.
    fn compact(&self, most: u64, told: Progress<'_>) -> Result<Compaction, QueueError>;

    /// Closes it; everything asked of it afterwards fails.
    fn close(&self);
}
