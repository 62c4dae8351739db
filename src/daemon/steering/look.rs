//! Looks at the queue: a listing, a count, one message, the sums. Each page is a transaction of its own, so that no look holds a commit up.
//!
//! Never: changes anything; holds more than two pages, of which one is being told while the next is being read.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use super::breakdown::Tallies;
use super::entry::{Entry, Line};
use super::selection::{Filters, Selection};
use super::sums::Sums;
use super::{Action, Answer, Count, Desk, Detail, ListOrder, PAGE};
use crate::mail::QueueId;
use crate::queue::{Brief, Direction, Filter, Listed as Found, Listing, Page, Queue, QueueError, Sketch};
use crate::sys::WallTime;

/// Octets of a header section that are shown at the most.
const HEADERS_MAX: usize = 256 * 1024;

/// How far a look over part of the queue is.
#[derive(Debug)]
pub(super) struct Walk {
    pub(super) selection: Selection,
    action: Option<Action>,
    order: ListOrder,
    /// Where to go on; none at the beginning.
    place: Option<QueueId>,
    over: bool,
    ahead: Option<Ahead>,
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
    pub(super) fn new(selection: Selection, action: Option<Action>, order: ListOrder, after: Option<QueueId>) -> Self {
        let edge = match order {
            ListOrder::OldestFirst => selection.after().max(after),
            ListOrder::NewestFirst => selection.before().into_iter().chain(after).min(),
        };
        Self { selection, action, order, place: edge, over: false, ahead: None }
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
        entries
    }

    fn is_meant<M: Sketch>(&self, found: &Found<M>) -> bool {
        self.selection.matches(found) && self.action.is_none_or(|action| action.concerns(found.state()))
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
        let after = after.map(|after| after.parse().map_err(|fault| format!("--after {after}: {fault}")));
        Ok(Self { walk: Walk::new(selection, action, order, after.transpose()?), detail, left: limit })
    }

    pub(super) async fn page(&mut self, desk: Desk<'_>) -> Result<Vec<Answer>, QueueError> {
        if self.left == 0 {
            return Ok(Vec::new());
        }
        Ok(match self.detail {
            Detail::Whole => {
                let found = self.walk.records(desk.queue, PAGE).await?;
                self.shown(&found, |one| Answer::Entry(Box::new(Entry::of_listed(one))))
            }
            Detail::Line => {
                let found = self.walk.pages(desk.queue).await?;
                self.shown(&found, |one| Answer::Line(Box::new(Line::of_listed(one))))
            }
        })
    }

    /// As many of these as are still asked for.
    fn shown<M>(&mut self, found: &[Found<M>], show: impl Fn(&Found<M>) -> Answer) -> Vec<Answer> {
        let shown: Vec<Answer> = found.iter().take(self.left).map(show).collect();
        self.left = self.left.saturating_sub(shown.len());
        shown
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
    pub(super) fn new(filters: Filters, action: Option<Action>, now: WallTime, here: WallTime) -> Result<Self, String> {
        let until = filters.until.unwrap_or_else(|| here.millis());
        let selection = Selection::new(&Filters { until: Some(until), ..filters }, now)?;
        let walk = Walk::new(selection, action, ListOrder::OldestFirst, None);
        Ok(Self { walk, count: Count { messages: 0, octets: 0, until } })
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
pub(super) async fn show(queue: &Queue, id: String, headers: bool) -> Result<Vec<Answer>, QueueError> {
    let Ok(number) = id.parse::<QueueId>() else { return Ok(vec![Answer::Missing(id)]) };
    let found = match queue.show(number).await {
        Err(QueueError::NotFound(_)) => return Ok(vec![Answer::Missing(id)]),
        found => found?,
    };
    let mut answers = vec![Answer::Entry(Box::new(Entry::of_listed(&found)))];
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
    while let Some(piece) = body.next().await? {
        let from = octets.len().saturating_sub(3);
        octets.extend_from_slice(&piece);
        let end = octets.get(from..).and_then(|new| memchr::memmem::find(new, b"\r\n\r\n"));
        if let Some(end) = end {
            octets.truncate(from.saturating_add(end).saturating_add(2));
            break;
        }
        if octets.len() > HEADERS_MAX {
            break;
        }
    }
    if octets.starts_with(b"\r\n") {
        octets.clear();
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
    walk: Walk,
    top: usize,
    tallies: Tallies,
}

impl Summing {
    pub(super) fn new(top: usize, here: WallTime) -> Self {
        // What was here when it was asked: mail that comes faster than it is counted must not make this endless.
        let walk = Walk::new(Selection::here_by(here), None, ListOrder::OldestFirst, None);
        Self { walk, top, tallies: Tallies::default() }
    }

    /// The sums, when they are made.
    pub(super) async fn page(&mut self, desk: Desk<'_>) -> Result<Option<Sums>, QueueError> {
        if self.top > 0 {
            for found in self.walk.pages(desk.queue).await? {
                self.tallies.add(&found, desk.daemon.map(|running| running.routes), desk.now);
            }
            if !self.walk.is_over() {
                return Ok(None);
            }
        }
        let breakdown = (self.top > 0).then(|| self.tallies.breakdown(self.top, desk.queue.share()));
        Sums::of(desk, breakdown).await.map(Some)
    }
}
