//! Whose turn it is: the next message to be tried, and on which routes.
//!
//! | a route's upstreams                    | a message for it                                                                        |
//! |----------------------------------------|-----------------------------------------------------------------------------------------|
//! | one is up, and the route has room      | goes: those that wait in its lane and those that come due, by turns                     |
//! | one is up, and enough is under way     | waits in the lane                                                                       |
//! | all left alone, one may be probed      | goes as the probe; nobody else until it has found out                                   |
//! | all left alone                         | waits in the lane; every [`LATE_EVERY`] who must be told of the delay or the end is      |
//!
//! Who is late is looked for every [`LATE_EVERY`] whatever the routes do: behind a slow upstream, or among very many messages of one identity, a turn may not come
//! for days. There, only the sender is told; what can be tried waits for its turn.
//!
//! While no route is open, nothing is claimed. While one is, messages of the others are claimed once, found to have no way, and put into their lane, which
//! writes nothing; from then on only the lane knows of them. A message with recipients on several routes goes when one of them is open, and waits for all.
//!
//! Never: claims a message again and again that nothing can be done for; loses a claim when dropped.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};

use super::conclusion;
use super::lanes::{Lanes, NOWHERE};
use super::rounds::{Ended, LATE_EVERY, Rounds};
use crate::house::House;
use crate::queue::{Claim, DuePlace, QueueError, Reading};
use crate::route::{Route, Routes};
use crate::upstream::{Outlook, Probe};

/// Late messages that are told of at the same time.
const LATE_MAX: usize = 16;
/// Attempts that are over and wait for the store at the same time; beyond, they go on counting against their routes. So many messages, and those being tried, are
/// sent again when the process is killed while the store can't record.
const CONCLUDING_MAX: usize = 256;
/// How long a message waits in a lane before the store may give it out again: should a lane ever forget it, it does not wait for ever.
const IN_LANE: Duration = Duration::from_secs(3600);
/// How long nothing is taken from a lane after the store failed.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// A claim that comes some time.
type Coming<T> = Pin<Box<dyn Future<Output = T> + Send>>;
/// A look for late messages: what it found, and where to go on.
type LateLook = (Result<Option<Claim>, QueueError>, Option<DuePlace>);

/// A message whose turn it is.
pub(super) struct Turn {
    pub(super) claim: Claim,
    pub(super) purpose: Purpose,
    /// The right to probe one of its upstreams, when it is the probe.
    pub(super) probe: Option<Probe>,
    /// To be kept until its delivery has ended.
    pub(super) under_way: UnderWay,
}

/// What is to be done with a message whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// It is tried.
    Try,
    /// It is not tried: its sender is told that it waits on, or that it is given up.
    Tell,
}

/// Who gives out turns.
pub(super) struct Turns {
    board: Arc<Board>,
    routes: Arc<Routes>,
    news: watch::Receiver<()>,
    /// The next message that comes due.
    fresh: Option<Coming<Claim>>,
    /// Whether the next turn is a lane's: the one that came due had the last.
    lanes_next: bool,
    /// The route that is looked at first.
    first: usize,
    late: Option<Coming<LateLook>>,
    place: Option<DuePlace>,
    rounds: Rounds,
}

/// What deliveries under way share with whoever gives out turns.
#[derive(Debug)]
struct Board {
    lanes: Mutex<Lanes>,
    late: Mutex<usize>,
    concluding: Arc<Semaphore>,
    /// Rung when a delivery has ended.
    freed: Notify,
}

/// A delivery that counts against its routes, as long as it lives.
pub(super) struct UnderWay {
    board: Arc<Board>,
    counts: Counts,
}

/// Against what a delivery counts.
enum Counts {
    /// Those that have not brought their part.
    Routes(Mutex<Vec<Arc<str>>>),
    /// Nothing is tried: its sender is told of the delay or the end.
    Late,
}

/// What a look at the routes found.
#[derive(Default)]
struct Look {
    /// The lane of a route that is open, in which messages wait.
    lane: Option<Arc<str>>,
    /// Whether one is open.
    is_one_open: bool,
    /// Whether there is one that is not: a message that comes due may have to wait.
    is_one_shut: bool,
    /// How long until one may be probed.
    wait: Option<Duration>,
}

/// What can be done for a message now.
enum Way {
    Open(Option<Probe>),
    /// All its upstreams are left alone.
    LeftAlone,
    /// One works, and has enough to do.
    Full,
}

impl Turns {
    pub(super) fn new(house: &House) -> Self {
        let routes = Arc::clone(&house.snapshot().routes);
        let board = Arc::new(Board::default());
        board.lanes().follow(&routes);
        Self {
            board,
            routes,
            news: house.courier.news(),
            fresh: None,
            lanes_next: false,
            first: 0,
            late: None,
            place: None,
            rounds: Rounds::new(),
        }
    }

    /// Waits for the next message that something can be done for. Cancel-safe.
    pub(super) async fn next(&mut self, house: &House) -> Turn {
        loop {
            // From here on no news and no end of a delivery is missed, and only then are the routes looked at.
            let board = Arc::clone(&self.board);
            let freed = board.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            self.hear_news(house);
            let look = self.look(house);
            if !look.is_one_open {
                // What it claims nobody could be given.
                self.fresh = None;
            } else if !self.lanes_next
                && let Some(claim) = self.fresh(&look, house).now_or_never()
            {
                (self.fresh, self.lanes_next) = (None, look.lane.is_some());
                match self.sorted(claim, house) {
                    Some(turn) => return turn,
                    None => continue,
                }
            }
            self.lanes_next = false;
            if let Some(lane) = look.lane {
                let next = Self::from_lane(&self.board, &lane, house).await;
                match next.and_then(|claim| self.sorted(claim, house)) {
                    Some(turn) => return turn,
                    None => continue,
                }
            }
            let mut news = self.news.clone();
            let (is_one_open, tells_late) = (look.is_one_open, self.board.has_room_for_late());
            if is_one_open {
                self.fresh(&look, house);
            }
            if !tells_late {
                self.late = None;
            }
            tokio::select! {
                claim = Self::coming(&mut self.fresh), if is_one_open => {
                    self.fresh = None;
                    if let Some(turn) = self.sorted(claim, house) {
                        return turn;
                    }
                }
                (found, place) = Self::look_for_late(&mut self.late, &mut self.place, &mut self.rounds, house), if tells_late => {
                    (self.late, self.place) = (None, place);
                    if let Some(turn) = self.told_late(found, house) {
                        return turn;
                    }
                }
                _ = news.changed() => {}
                () = &mut freed => {}
                () = tokio::time::sleep(look.wait.unwrap_or(LATE_EVERY)) => {}
            }
        }
    }

    /// Whether a route is open may be another now; and so may the routes be.
    fn hear_news(&mut self, house: &House) {
        let has_news = self.news.has_changed().unwrap_or(false);
        self.news.mark_unchanged();
        let routes = Arc::clone(&house.snapshot().routes);
        let are_others = !Arc::ptr_eq(&routes, &self.routes) && *routes != *self.routes;
        self.routes = routes;
        if are_others {
            self.board.lanes().follow(&self.routes);
        }
        // Who was put off for a while, without being in a lane, need not wait for the end of it.
        if are_others || (has_news && self.board.lanes().is_empty()) {
            house.queue.recall();
        }
    }

    fn look(&mut self, house: &House) -> Look {
        let mut look = Look::default();
        let lanes = self.board.lanes();
        let count = self.routes.iter().count();
        let each = || self.routes.iter().enumerate();
        let all = each().skip(self.first).chain(each().take(self.first));
        for (place, route) in all {
            let has_waiting = lanes.has_waiting(&route.name);
            match house.courier.outlook(route.upstreams()) {
                Outlook::Clear | Outlook::Due if lanes.has_room(&route.name) => {
                    look.is_one_open = true;
                    if has_waiting && look.lane.is_none() {
                        self.first = place.saturating_add(1).checked_rem(count).unwrap_or(0);
                        look.lane = Some(Arc::clone(&route.name));
                    }
                }
                Outlook::Clear | Outlook::Due => look.is_one_shut = true,
                Outlook::LeftAlone(wait) => {
                    look.is_one_shut = true;
                    look.wait = Some(look.wait.map_or(wait, |least| least.min(wait)));
                }
            }
        }
        if look.lane.is_none() && lanes.has_waiting(NOWHERE) && lanes.has_room(NOWHERE) {
            look.lane = Some(NOWHERE.into());
        }
        look
    }

    fn fresh(&mut self, look: &Look, house: &House) -> &mut Coming<Claim> {
        let queue = house.queue.clone();
        let reading = if look.is_one_shut { Reading::RecordAlone } else { Reading::Whole };
        self.fresh.get_or_insert_with(|| Box::pin(async move { queue.claim_reading(reading).await }))
    }

    /// What comes of it; nothing when there is nothing to come.
    async fn coming<T>(coming: &mut Option<Coming<T>>) -> T {
        match coming {
            Some(coming) => coming.await,
            None => std::future::pending().await,
        }
    }

    /// The turn of a message that was claimed; none when it has to wait, in its lanes.
    fn sorted(&self, claim: Claim, house: &House) -> Option<Turn> {
        if is_over(&claim, house) {
            return Some(self.late_turn(claim, Purpose::Try));
        }
        let routes = self.routes_of(&claim);
        match self.way(&routes, house) {
            Way::Open(probe) => Some(self.turn(claim, probe, &routes)),
            Way::LeftAlone | Way::Full => {
                self.wait(claim, &routes);
                None
            }
        }
    }

    fn wait(&self, claim: Claim, routes: &[Arc<Route>]) {
        let record = claim.record();
        let priority = record.envelope.parameters().priority.unwrap_or(0);
        self.board.lanes().wait(&names(routes), &record.custodian.identity, priority, claim.id());
        claim.park(IN_LANE);
    }

    /// The routes on which something is left to do.
    fn routes_of(&self, claim: &Claim) -> Vec<Arc<Route>> {
        let record = claim.record();
        let routed = self.routes.part(&record.envelope, &record.custodian, &record.open_recipients());
        routed.groups.into_iter().map(|group| group.route).collect()
    }

    fn way(&self, routes: &[Arc<Route>], house: &House) -> Way {
        // Nobody can try it, and that is told by an attempt.
        if routes.is_empty() {
            return if self.board.lanes().has_room(NOWHERE) { Way::Open(None) } else { Way::Full };
        }
        let mut way = Way::LeftAlone;
        for route in routes {
            let outlook = house.courier.outlook(route.upstreams());
            if let Outlook::LeftAlone(_) = outlook {
                continue;
            }
            way = Way::Full;
            if !self.board.lanes().has_room(&route.name) {
                continue;
            }
            match house.courier.probe(route.upstreams()) {
                Some(probe) => return Way::Open(Some(probe)),
                None if outlook == Outlook::Clear => return Way::Open(None),
                // Somebody else probes by now.
                None => {}
            }
        }
        way
    }

    fn turn(&self, claim: Claim, probe: Option<Probe>, routes: &[Arc<Route>]) -> Turn {
        let names = names(routes);
        self.board.lanes().begin(&names);
        let under_way = UnderWay { board: Arc::clone(&self.board), counts: Counts::Routes(Mutex::new(names)) };
        Turn { claim, purpose: Purpose::Try, probe, under_way }
    }

    /// The next message of a lane that is still there.
    async fn from_lane(board: &Board, lane: &Arc<str>, house: &House) -> Option<Claim> {
        let id = board.lanes().next(lane)?;
        match house.queue.claim_one(id).await {
            // None: delivered by another of its routes, held or removed.
            Ok(claim) => claim,
            Err(fault) => {
                tracing::error!(%id, %fault, "a message that waits for its route can't be read; it is tried again");
                board.lanes().wait(&[Arc::clone(lane)], "", 0, id);
                tokio::time::sleep(AFTER_FAILURE).await;
                None
            }
        }
    }

    /// Waits for the next round, and looks for the next late message of it.
    async fn look_for_late(
        late: &mut Option<Coming<LateLook>>,
        place: &mut Option<DuePlace>,
        rounds: &mut Rounds,
        house: &House,
    ) -> LateLook {
        if late.is_none() {
            tokio::time::sleep(rounds.wait(house.now().mono)).await;
            let (queue, mut from) = (house.queue.clone(), place.take());
            let limits = rounds.late(&house.snapshot().schedule, house.now());
            *late = Some(Box::pin(async move {
                let found = queue.claim_late(limits, &mut from).await;
                (found, from)
            }));
        }
        Self::coming(late).await
    }

    /// Who is late is told of it, though nothing is tried but by the probe.
    fn told_late(&mut self, found: Result<Option<Claim>, QueueError>, house: &House) -> Option<Turn> {
        let claim = match found {
            Ok(Some(claim)) => claim,
            Ok(None) => {
                self.rounds.end(Ended::Whole, house.now().mono);
                return None;
            }
            Err(fault) => {
                tracing::error!(%fault, "late messages can't be looked for; it is tried again");
                self.rounds.end(Ended::Broken, house.now().mono);
                return None;
            }
        };
        if is_over(&claim, house) {
            return Some(self.late_turn(claim, Purpose::Try));
        }
        let routes = self.routes_of(&claim);
        match self.way(&routes, house) {
            Way::Open(Some(probe)) => Some(self.turn(claim, Some(probe), &routes)),
            // What it finds left alone, its attempt tells.
            Way::LeftAlone => Some(self.late_turn(claim, Purpose::Try)),
            Way::Open(None) | Way::Full if is_to_be_told(&claim, house) => Some(self.late_turn(claim, Purpose::Tell)),
            // In a lane it would not count what its identity has under way already.
            Way::Open(None) | Way::Full => {
                claim.give_back();
                None
            }
        }
    }

    fn late_turn(&self, claim: Claim, purpose: Purpose) -> Turn {
        let mut late = self.board.late.lock().unwrap_or_else(PoisonError::into_inner);
        *late = late.saturating_add(1);
        let under_way = UnderWay { board: Arc::clone(&self.board), counts: Counts::Late };
        Turn { claim, purpose, probe: None, under_way }
    }
}

/// Whether the sender of a message that waits in line hears something of it now.
fn is_to_be_told(claim: &Claim, house: &House) -> bool {
    let record = claim.record();
    let at = house.moment(record.waits_since());
    conclusion::plan_in_line(record, &house.snapshot().schedule, at).is_some()
}

/// Whether nobody may try it any more: then it must take no probe with it. Given back unused, that would be news, by which the message itself is recalled.
fn is_over(claim: &Claim, house: &House) -> bool {
    let record = claim.record();
    conclusion::is_too_late(record, house.moment(record.waits_since())).is_some()
}

/// The lanes of these routes; without one there is a lane as well.
fn names(routes: &[Arc<Route>]) -> Vec<Arc<str>> {
    if routes.is_empty() {
        return vec![NOWHERE.into()];
    }
    routes.iter().map(|route| Arc::clone(&route.name)).collect()
}

impl Default for Board {
    fn default() -> Self {
        let concluding = Arc::new(Semaphore::new(CONCLUDING_MAX));
        Self { lanes: Mutex::default(), late: Mutex::default(), concluding, freed: Notify::new() }
    }
}

impl UnderWay {
    /// One of several routes has brought its part: another hangs perhaps, and must not have it wait. Against the last it counts until all is [`Self::over`].
    pub(super) fn has_brought(&self, route: &Arc<str>) {
        let Counts::Routes(names) = &self.counts else { return };
        let mut names = names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() > 1
            && let Some(place) = names.iter().position(|name| name == route)
        {
            let brought = names.swap_remove(place);
            drop(names);
            self.board.lanes().end(&[brought]);
            self.board.freed.notify_waiters();
        }
    }

    /// The attempt is over, and counts against its routes no more; what came of it is recorded as long as this is kept.
    pub(super) async fn over(self) -> Option<OwnedSemaphorePermit> {
        // Never closed. Where many wait for the store already, nothing new is begun.
        Arc::clone(&self.board.concluding).acquire_owned().await.ok()
    }
}

impl Board {
    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_room_for_late(&self) -> bool {
        *self.late.lock().unwrap_or_else(PoisonError::into_inner) < LATE_MAX
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        match &mut self.counts {
            Counts::Routes(names) => {
                let names = names.get_mut().unwrap_or_else(PoisonError::into_inner);
                self.board.lanes().end(names);
            }
            Counts::Late => {
                let mut late = self.board.late.lock().unwrap_or_else(PoisonError::into_inner);
                *late = late.saturating_sub(1);
            }
        }
        self.board.freed.notify_waiters();
    }
}
