//! Looks at the queue: a listing, a count, one message, the sums. Each page is a transaction of its own, so that no look holds a commit up.
//!
//! What is bounded by "what is here now" is bounded by the names that are here: those up to the present, and those that lie beyond it because they came
//! while the clock was ahead, one by one. What comes meanwhile is named after the present, and is none of them.
//!
//! Never: changes anything; holds more than two pages, of which one is being told while the next is being read, and [`AHEAD_MAX`] names.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use super::breakdown::Tallies;
use super::entry::Entry;
use super::line;
use super::selection::{Filters, Selection};
use super::sums::Sums;
use super::{Action, Answer, Count, Desk, Detail, ListOrder, Obstacle, PAGE};
use crate::mail::QueueId;
use crate::mail::header::EndOfHeader;
use crate::queue::{Brief, Direction, Filter, Listed as Found, Listing, Page, Queue, QueueError, Sketch};
use crate::sys::WallTime;

/// Octets of a header section that are shown at the most.
const HEADERS_MAX: usize = 256 * 1024;

/// Messages that came while the clock was ahead, of which one round is.
const AHEAD_MAX: usize = 100_000;
/// What is said when there are more.
pub(super) const LEFT_OUT: &str =
    "more than 100000 of these messages came while the clock was ahead, and some of them were left out: repeat this";

/// How far a look over part of the queue is.
#[derive(Debug)]
pub(super) struct Walk {
    pub(super) selection: Selection,
    action: Option<Action>,
    order: ListOrder,
    /// Where to go on; none at the beginning.
    place: Option<QueueId>,
    over: bool,
    /// What was here at the beginning; none where what comes meanwhile is meant as well.
    here: Option<Here>,
    ahead: Option<Ahead>,
}

/// What was here at a moment.
#[derive(Clone, Debug)]
struct Here {
    /// All that has a name before this one.
    before: QueueId,
    /// And these, which come behind it, in order.
    later: Vec<QueueId>,
    /// Whether there are more.
    left_out: bool,
}

impl Here {
    fn has(&self, id: QueueId) -> bool {
        id < self.before || self.later.binary_search(&id).is_ok()
    }

    /// From which name on, behind this one, there is something of it; none at its end.
    fn behind(&self, place: QueueId) -> Option<QueueId> {
        if place < self.before {
            return Some(place);
        }
        let next = self.later.get(self.later.partition_point(|id| *id <= place))?;
        Some(QueueId::from_u128(next.to_u128().saturating_sub(1)))
    }
}

/// The first name that a message has that comes after this moment.
fn behind(at: WallTime) -> QueueId {
    QueueId::new(at.after(Duration::from_millis(1)), 0)
}

/// The next page, on its way.
struct Ahead(Pin<Box<dyn Future<Output = Result<Listing<Brief>, QueueError>> + Send>>);

impl fmt::Debug for Ahead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ahead")
    }
}

/// Entries of a page of which a line is told, or a figure; their records have a limit of octets besides.
const MANY: usize = 2048;

impl Walk {
    /// Over what is here `now`, oldest first, but nothing that came after `until` by the clock.
    pub(super) async fn over_what_is_here(
        queue: &Queue,
        selection: Selection,
        action: Option<Action>,
        until: WallTime,
        now: WallTime,
    ) -> Result<Self, QueueError> {
        let mut back = Self::new(selection.clone(), action, ListOrder::NewestFirst, None);
        let (later, left_out) = back.down_to(queue, behind(now), AHEAD_MAX).await?;
        let here = Some(Here { before: behind(until), later, left_out });
        Ok(Self { here, ..Self::new(selection, action, ListOrder::OldestFirst, None) })
    }

    /// Over all up to the newest name that is here `now`, oldest first. Where the clock was ahead, what comes meanwhile has a name before that one, and is
    /// meant as well: for whoever does nothing to it.
    pub(super) async fn up_to_the_newest(
        queue: &Queue,
        selection: Selection,
        now: WallTime,
    ) -> Result<Self, QueueError> {
        let page = Page { after: None, limit: 1 };
        let newest = queue.briefs(Filter::default(), page, Direction::NewestFirst).await?.entries;
        let newest = newest.first().map_or(now, |found| found.id().arrived().max(now));
        let here = Some(Here { before: behind(newest), later: Vec::new(), left_out: false });
        Ok(Self { here, ..Self::new(selection, None, ListOrder::OldestFirst, None) })
    }

    /// The names of those that are meant, from the last one down to this name, in order; and whether there are more than so many. Nearly always one row is
    /// looked at, and none is meant: the newest came before the present.
    pub(super) async fn down_to(
        &mut self,
        queue: &Queue,
        edge: QueueId,
        most: usize,
    ) -> Result<(Vec<QueueId>, bool), QueueError> {
        let (mut names, mut limit) = (Vec::new(), 1);
        while !self.over && self.place.is_none_or(|place| place >= edge) {
            let found = self.page(queue, limit).await?;
            names.extend(found.iter().map(Found::id).filter(|id| *id >= edge));
            limit = PAGE;
            if names.len() > most {
                break;
            }
        }
        let left_out = names.len() > most;
        names.truncate(most);
        names.reverse();
        Ok((names, left_out))
    }

    /// Whether some of what was here is none of it: see [`LEFT_OUT`].
    pub(super) fn has_left_out(&self) -> bool {
        self.here.as_ref().is_some_and(|here| here.left_out)
    }

    pub(super) fn new(selection: Selection, action: Option<Action>, order: ListOrder, after: Option<QueueId>) -> Self {
        let edge = match order {
            ListOrder::OldestFirst => selection.after().max(after),
            ListOrder::NewestFirst => selection.before().into_iter().chain(after).min(),
        };
        Self { selection, action, order, place: edge, over: false, here: None, ahead: None }
    }

    /// The next that are meant, none perhaps, of so many looked at.
    pub(super) async fn page(&mut self, queue: &Queue, limit: usize) -> Result<Vec<Found<Brief>>, QueueError> {
        let listing = self.read(queue, limit).await?;
        Ok(self.meant(listing))
    }

    /// The same of as many as one read gives; what comes behind them is being read when this returns: for whoever changes nothing.
    pub(super) async fn pages(&mut self, queue: &Queue) -> Result<Vec<Found<Brief>>, QueueError> {
        let listing = match self.ahead.take() {
            Some(Ahead(reading)) => reading.await?,
            None => self.read(queue, MANY).await?,
        };
        let meant = self.meant(listing);
        if !self.over {
            let mut reading: Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(self.read(queue, MANY));
            // This begins it. What it gives now it would give later.
            self.ahead = Some(match poll_fn(|context| Poll::Ready(reading.as_mut().poll(context))).await {
                Poll::Ready(read) => Ahead(Box::pin(std::future::ready(read))),
                Poll::Pending => Ahead(reading),
            });
        }
        Ok(meant)
    }

    /// Reads on where this walk is.
    fn read(
        &self,
        queue: &Queue,
        limit: usize,
    ) -> impl Future<Output = Result<Listing<Brief>, QueueError>> + Send + use<> {
        let ((filter, page), queue) = (self.next(limit), queue.clone());
        let direction = match self.order {
            ListOrder::OldestFirst => Direction::OldestFirst,
            ListOrder::NewestFirst => Direction::NewestFirst,
        };
        async move { queue.briefs(filter, page, direction).await }
    }

    /// The same, of each all that is known.
    pub(super) async fn records(&mut self, queue: &Queue, limit: usize) -> Result<Vec<Found>, QueueError> {
        let (filter, page) = self.next(limit);
        let listing = match self.order {
            ListOrder::OldestFirst => queue.list(filter, page).await?,
            ListOrder::NewestFirst => queue.list_back(filter, page).await?,
        };
        Ok(self.meant(listing))
    }

    fn next(&self, limit: usize) -> (Filter, Page) {
        (Filter { state: self.selection.state() }, Page { after: self.place, limit })
    }

    /// Those of a page that are meant; from here on it goes on behind it.
    fn meant<M: Sketch>(&mut self, Listing { mut entries, next }: Listing<M>) -> Vec<Found<M>> {
        self.place = next;
        self.over = next.is_none_or(|next| match self.order {
            ListOrder::OldestFirst => self.selection.before().is_some_and(|before| next >= before),
            ListOrder::NewestFirst => self.selection.after().is_some_and(|after| next <= after),
        });
        entries.retain(|found| self.is_meant(found));
        if let (Some(here), Some(place)) = (&self.here, self.place) {
            self.place = here.behind(place);
            self.over |= self.place.is_none();
        }
        entries
    }

    fn is_meant<M: Sketch>(&self, found: &Found<M>) -> bool {
        self.selection.matches(found)
            && self.action.is_none_or(|action| action.concerns(found.state()))
            && self.here.as_ref().is_none_or(|here| here.has(found.id()))
    }

    /// Whether nothing more comes.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }
}

/// How far a listing is.
#[derive(Debug)]
pub(super) struct Listed {
    walk: Walk,
    detail: Detail,
    left: usize,
}

/// The message that a listing begins behind.
pub(super) fn place(after: Option<&str>) -> Result<Option<QueueId>, String> {
    after.map(|after| after.parse().map_err(|fault| format!("--after {after}: {fault}"))).transpose()
}

impl Listed {
    pub(super) fn new(
        filters: &Filters,
        action: Option<Action>,
        after: Option<&str>,
        order: ListOrder,
        detail: Detail,
        limit: usize,
        now: WallTime,
    ) -> Result<Self, String> {
        let selection = Selection::new(filters, now)?;
        Ok(Self { walk: Walk::new(selection, action, order, place(after)?), detail, left: limit })
    }

    pub(super) async fn page(&mut self, desk: Desk<'_>) -> Result<Vec<Answer>, Obstacle> {
        if self.left == 0 {
            return Ok(Vec::new());
        }
        let active = |id| desk.active(id);
        let told = match self.detail {
            Detail::Json => {
                let found = self.walk.records(desk.queue, PAGE).await?;
                line::objects(self.wanted(&found), active).map_err(|fault| fault.to_string())?
            }
            Detail::Lines => {
                let found = self.walk.pages(desk.queue).await?;
                line::lines(self.wanted(&found), desk.now, active)
            }
        };
        Ok(told.into_iter().map(Answer::Lines).collect())
    }

    /// As many of these as are still asked for.
    fn wanted<'a, M>(&mut self, found: &'a [Found<M>]) -> &'a [Found<M>] {
        let wanted = found.get(..self.left).unwrap_or(found);
        self.left = self.left.saturating_sub(wanted.len());
        wanted
    }

    pub(super) fn is_over(&self) -> bool {
        self.left == 0 || self.walk.is_over()
    }
}

/// How far a count is.
#[derive(Debug)]
pub(super) struct Counting {
    walk: Walk,
    count: Count,
}

impl Counting {
    pub(super) async fn new(filters: Filters, action: Option<Action>, desk: Desk<'_>) -> Result<Self, Obstacle> {
        let until = filters.until.map_or(desk.now, WallTime::from_millis);
        let selection = Selection::new(&Filters { until: None, ..filters }, desk.now)?;
        let walk = Walk::over_what_is_here(desk.queue, selection, action, until, desk.now).await?;
        Ok(Self { walk, count: Count { messages: 0, octets: 0, until: until.millis() } })
    }

    /// The count, when it is made.
    pub(super) async fn page(&mut self, desk: Desk<'_>) -> Result<Option<Count>, QueueError> {
        for found in self.walk.pages(desk.queue).await? {
            self.count.messages = self.count.messages.saturating_add(1);
            self.count.octets = self.count.octets.saturating_add(found.length());
        }
        Ok(self.walk.is_over().then_some(self.count))
    }
}

/// One message, and its header section if it is asked for.
pub(super) async fn show(desk: Desk<'_>, id: String, headers: bool) -> Result<Vec<Answer>, QueueError> {
    let queue = desk.queue;
    let Ok(number) = id.parse::<QueueId>() else { return Ok(vec![Answer::Missing(id)]) };
    let found = match queue.show(number).await {
        Err(QueueError::NotFound(_)) => return Ok(vec![Answer::Missing(id)]),
        found => found?,
    };
    let entry = Entry { active: desk.active(number), ..Entry::of_listed(&found) };
    let mut answers = vec![Answer::Entry(Box::new(entry))];
    if headers {
        answers.push(match header_section(queue, number).await {
            Ok(section) => Answer::Headers(section),
            Err(fault @ (QueueError::Damaged(..) | QueueError::NotFound(_))) => Answer::Unable(id, fault.to_string()),
            Err(fault) => return Err(fault),
        });
    }
    Ok(answers)
}

/// All before the first empty line (RFC 5322 §2.1), and not an octet behind it.
async fn header_section(queue: &Queue, id: QueueId) -> Result<String, QueueError> {
    let mut body = queue.body(id).await?;
    let mut octets = Vec::new();
    let mut end = EndOfHeader::default();
    while let Some(piece) = body.next().await? {
        octets.extend_from_slice(piece.get(..end.take(&piece)).unwrap_or_default());
        if end.is_past() {
            octets.truncate(octets.len().saturating_sub(2));
            break;
        }
        if octets.len() > HEADERS_MAX {
            break;
        }
    }
    let cut = octets.len() > HEADERS_MAX;
    octets.truncate(HEADERS_MAX);
    let mut section = String::from_utf8_lossy(&octets).replace("\r\n", "\n");
    if cut {
        section.push_str("\n(cut here)\n");
    }
    Ok(section)
}

/// How far the sums are.
#[derive(Debug)]
pub(super) struct Summing {
    /// None when no message is looked at.
    walk: Option<Walk>,
    top: usize,
    tallies: Tallies,
}

impl Summing {
    pub(super) async fn new(top: usize, desk: Desk<'_>) -> Result<Self, QueueError> {
        let mut walk = None;
        if top > 0 {
            // What was here when it was asked: mail that comes faster than it is counted must not make this endless.
            walk = Some(Walk::over_what_is_here(desk.queue, Selection::all(), None, desk.now, desk.now).await?);
        }
        Ok(Self { walk, top, tallies: Tallies::default() })
    }

    /// The sums, when they are made.
    pub(super) async fn page(&mut self, desk: Desk<'_>) -> Result<Option<Sums>, QueueError> {
        if let Some(walk) = &mut self.walk {
            for found in walk.pages(desk.queue).await? {
                self.tallies.add(&found, desk.daemon.map(|running| running.routes), desk.now);
            }
            if !walk.is_over() {
                return Ok(None);
            }
        }
        let breakdown = (self.top > 0).then(|| self.tallies.breakdown(self.top, desk.queue.share()));
        Sums::of(desk, breakdown).await.map(Some)
    }
}
