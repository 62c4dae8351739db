//! CRLs over HTTP (RFC 5280 §4.2.1.13), for the CAs that ask for it: fetched on a schedule, verified, kept on disk.
//!
//! What is fetched is verified by the same code as a file, then written to the cache, and the files are read again: the cache is read as any
//! CRL is. A CRL older than the one at hand of its kind (issuer, scope, whole or delta) is dropped: a mirror that lags, somebody who replays. One of another
//! kind is kept beside it: whoever answers once with some other genuine list neither pushes the one at hand out nor shuts the next one of its kind out. Each URL has its own schedule: half of what
//! is left of the CRL's life, at most `crl_refresh`; after a failure sooner, less often each time. From half of a CRL's life on a failure is an
//! alarm.
//!
//! Never: in the way of a handshake or a session; holds more than [`PARALLEL_MAX`] fetches at once; more than [`CRL_URLS_MAX`] known URLs for a CA and
//! [`LEARNED_URLS_MAX`] that clients' certificates named.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Notify, mpsc, watch};

use super::aside::aside;
use super::cache;
use crate::config::{CRL_URLS_MAX, CrlSource};
use crate::house::House;
use crate::sys::{MonoTime, WallTime};
use crate::tls::points::{HttpUrl, Named};
use crate::tls::{CRL_OCTETS_MAX, ClientCa, CrlAge, CrlCause, RevocationMode};
use crate::web::http::{self, Answer, Ask, HttpFault, Limits};
use crate::web::reach::Whence;

/// Fetches at once.
const PARALLEL_MAX: usize = 4;
/// A fetch may take so long, redirections included.
const FETCH_TIME: Duration = Duration::from_secs(60);
/// The shortest pause between two fetches of one URL, whatever a CRL says of its end; `crl_refresh` may be shorter.
const PAUSE_LEAST: Duration = Duration::from_secs(30);
/// URLs of one CA that are known from clients' certificates only.
const LEARNED_URLS_MAX: usize = 16;
/// So far ahead of our clock a CRL may be dated. One of a day to come, as of a CA whose clock was wrong once, would shut out all that are made until then.
const AHEAD_MOST: Duration = Duration::from_secs(3600);
/// After the first failure; each further one doubles it.
const RETRY_FIRST: Duration = Duration::from_secs(10);
/// The longest pause after failures.
const RETRY_MOST: Duration = Duration::from_secs(1800);
/// What is fetched: the CA's name and the URL.
type Key = (Arc<str>, HttpUrl);

/// One URL's standing.
#[derive(Clone, Debug)]
struct Errand {
    source: Arc<CrlSource>,
    due: MonoTime,
    failures: u32,
    busy: bool,
    /// Known from a client's certificate only.
    learned: bool,
    /// Whether a good CRL ever came from there.
    good: bool,
    /// Somebody asked for it. What is under way then may be of before, and is fetched once more.
    asked: Asked,
}

/// Whether an operator waits for a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    No,
    /// And it was not under way.
    Fresh,
    /// While it was under way.
    Meanwhile,
}

/// What a fetch came to.
struct Fetched {
    key: Key,
    /// The CRL at hand now, whatever came.
    held: Option<CrlAge>,
    result: Result<News, FetchFault>,
}

enum News {
    New,
    Same,
}

#[derive(Debug, thiserror::Error)]
enum FetchFault {
    #[error(transparent)]
    Http(#[from] HttpFault),
    #[error(transparent)]
    Crl(#[from] CrlCause),
    #[error("it is older (of {}) than the one at hand (of {})", .fetched.rfc3339(), .held.rfc3339())]
    Older { fetched: WallTime, held: WallTime },
    #[error("it is out of date since {}", .0.rfc3339())]
    Stale(WallTime),
    #[error("it is dated ahead (of {}); check the clock of the CA, and of this machine", .0.rfc3339())]
    Ahead(WallTime),
    #[error(
        "the server goes on giving another list (of another issuer or scope, or a delta) than before, and the one before ends at {}; if that is meant, remove its file from data_dir/crls",
        .0.rfc3339()
    )]
    Another(WallTime),
    #[error("lists of {} kinds are kept of this URL already, and all count still", cache::KINDS_MAX)]
    TooManyKinds,
    #[error("it can't be written: {0}")]
    Disk(std::io::Error),
    #[error("it was not looked at")]
    Unread,
    #[error("the server says that nothing has changed, and nothing of it is here")]
    NothingHeld,
}

/// Fetches what the newest sources name until the daemon ends; `changed` is told of each new CRL. `at_once` has all of them fetched now: somebody
/// asks who knows of a new one.
pub(super) async fn run(
    mut sources: watch::Receiver<Arc<[Arc<CrlSource>]>>,
    mut learned: mpsc::Receiver<Named>,
    changed: Arc<Notify>,
    at_once: Arc<Notify>,
    house: Arc<House>,
) {
    let mut drain = house.tasks.drain();
    let mut book = Book::default();
    let mut running: FuturesUnordered<BoxFuture<'static, Fetched>> = FuturesUnordered::new();
    let first = Arc::clone(&sources.borrow_and_update());
    book.follow(&first, house.now().mono).await;
    loop {
        let now = house.now();
        while running.len() < PARALLEL_MAX {
            let Some((key, source)) = book.take_due(now.mono) else { break };
            let whence = book.whence(&key);
            running.push(Box::pin(fetch(key, whence, source, now.wall)));
        }
        let wait = if running.len() < PARALLEL_MAX { book.next_due(now.mono) } else { None };
        tokio::select! {
            () = drain.wait() => return,
            Some(fetched) = running.next(), if !running.is_empty() => {
                let jitter = house.entropy.next_u64();
                if book.settle(fetched, house.now().wall, house.now().mono, jitter) {
                    changed.notify_one();
                }
            }
            Some(one) = learned.recv() => book.learn(one, house.now().mono),
            ordered = sources.changed() => {
                if ordered.is_err() {
                    return;
                }
                let newest = Arc::clone(&sources.borrow_and_update());
                book.follow(&newest, house.now().mono).await;
            }
            () = at_once.notified() => book.hasten(house.now().mono),
            () = sleep(wait) => {}
        }
    }
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

/// Which URL is due when.
#[derive(Debug, Default)]
struct Book {
    sources: Vec<Arc<CrlSource>>,
    errands: BTreeMap<Key, Errand>,
}

impl Book {
    /// Goes by these sources from now on; what was known before keeps its schedule.
    async fn follow(&mut self, sources: &[Arc<CrlSource>], now: MonoTime) {
        let mut old = std::mem::take(&mut self.errands);
        self.sources = sources.to_vec();
        for source in sources {
            let name = Arc::clone(source.ca.name());
            for url in source.urls.iter().take(CRL_URLS_MAX) {
                self.add(source, url.clone(), now, false);
            }
            if source.learns {
                let folder = source.folder.clone();
                let cached = aside("crl cache", move || cache::urls(&folder)).await.unwrap_or_default();
                let known = old.keys().filter(|(ca, _)| *ca == name).map(|(_, url)| url.clone());
                let known: Vec<HttpUrl> = known.collect();
                for url in cached.iter().cloned().chain(known) {
                    self.add(source, url, now, true);
                }
                for (_, errand) in self.errands.iter_mut().filter(|((ca, url), _)| *ca == name && cached.contains(url))
                {
                    errand.good = true;
                }
            }
        }
        for (key, errand) in &mut self.errands {
            if let Some(Errand { due, failures, busy, asked, good, .. }) = old.remove(key) {
                (errand.due, errand.failures, errand.busy, errand.asked) = (due, failures, busy, asked);
                errand.good = errand.good || good;
            }
        }
    }

    fn learn(&mut self, Named { ca, url }: Named, now: MonoTime) {
        let source = self.sources.iter().find(|source| source.learns && *source.ca.name() == ca).cloned();
        if let Some(source) = source {
            self.add(&source, url, now, true);
        }
    }

    fn add(&mut self, source: &Arc<CrlSource>, url: HttpUrl, now: MonoTime, learned: bool) {
        let key = (Arc::clone(source.ca.name()), url);
        if self.errands.contains_key(&key) || (learned && !self.has_room(&key.0)) {
            return;
        }
        let source = Arc::clone(source);
        self.errands
            .insert(key, Errand { source, due: now, failures: 0, busy: false, learned, good: false, asked: Asked::No });
    }

    /// Whether one more URL of this CA may be learned. Where there are many already, the one that failed most often and never gave a CRL goes.
    fn has_room(&mut self, name: &Arc<str>) -> bool {
        let learned = || self.errands.iter().filter(|((ca, _), errand)| ca == name && errand.learned);
        if learned().count() < LEARNED_URLS_MAX {
            return true;
        }
        let useless = learned().filter(|(_, errand)| !errand.good && !errand.busy && errand.failures > 0);
        let Some(key) = useless.max_by_key(|(_, errand)| errand.failures).map(|(key, _)| key.clone()) else {
            tracing::debug!(ca = %name, "not fetched: {LEARNED_URLS_MAX} distribution points of clients of this CA are known already");
            return false;
        };
        self.errands.remove(&key);
        true
    }

    /// All are due now.
    fn hasten(&mut self, now: MonoTime) {
        for errand in self.errands.values_mut() {
            errand.asked = if errand.busy { Asked::Meanwhile } else { Asked::Fresh };
            if !errand.busy {
                errand.due = now;
            }
        }
    }

    /// Whoever has waited longest, so that slow servers of one CA do not keep the CRLs of another from being fetched.
    fn take_due(&mut self, now: MonoTime) -> Option<(Key, Arc<CrlSource>)> {
        let due = self.errands.iter_mut().filter(|(_, errand)| !errand.busy && errand.due <= now);
        let (key, errand) = due.min_by_key(|(_, errand)| errand.due)?;
        errand.busy = true;
        Some((key.clone(), Arc::clone(&errand.source)))
    }

    /// Who says this URL. The host that the configuration names for a CA is the operator's, also in a certificate.
    fn whence(&self, key: &Key) -> Whence {
        let is_told = |errand: &Errand| {
            !errand.learned || errand.source.urls.iter().any(|url| url.authority() == key.1.authority())
        };
        if self.errands.get(key).is_some_and(is_told) { Whence::Configuration } else { Whence::Certificate }
    }

    fn next_due(&self, now: MonoTime) -> Option<Duration> {
        let waiting = self.errands.values().filter(|errand| !errand.busy);
        waiting.map(|errand| errand.due.since(now)).min()
    }

    /// Says what came of it and when it is fetched next; whether there is a new CRL.
    fn settle(&mut self, fetched: Fetched, wall: WallTime, mono: MonoTime, jitter: u64) -> bool {
        let Fetched { key, held, result } = fetched;
        let (ca, url) = &key;
        // Taken out of the configuration meanwhile: nothing to plan.
        let Some(errand) = self.errands.get_mut(&key) else { return false };
        errand.busy = false;
        errand.good = errand.good || held.is_some();
        errand.failures = if result.is_ok() { 0 } else { errand.failures.saturating_add(1) };
        let asked = std::mem::replace(&mut errand.asked, Asked::No);
        let wait = match asked {
            Asked::Meanwhile => Duration::ZERO,
            Asked::No | Asked::Fresh => jittered(pause(errand, held.as_ref(), wall), jitter),
        };
        if asked == Asked::Meanwhile {
            errand.asked = Asked::Fresh;
        }
        errand.due = mono.after(wait);
        let next = wall.after(wait).rfc3339();
        match &result {
            Ok(News::New) => {
                let until = held.as_ref().map(|facts| facts.next_update.rfc3339()).unwrap_or_default();
                let revoked = held.as_ref().map_or(0, |facts| facts.revoked);
                tracing::info!(%ca, %url, revoked, until, next, "a new CRL was fetched");
            }
            Ok(News::Same) if asked == Asked::No => tracing::debug!(%ca, %url, next, "the CRL is still the newest"),
            Ok(News::Same) => tracing::info!(%ca, %url, next, "the CRL at hand is still the newest that is published"),
            Err(fault) => tell_failure(&errand.source.ca, url, fault, held.as_ref(), wall, &next),
        }
        matches!(result, Ok(News::New))
    }
}

/// How long until the next fetch.
fn pause(errand: &Errand, held: Option<&CrlAge>, now: WallTime) -> Duration {
    let left = held.map_or(Duration::ZERO, |facts| facts.next_update.since(now));
    let regular = (left / 2).max(PAUSE_LEAST).min(errand.source.refresh);
    match errand.failures.checked_sub(1) {
        None => regular,
        Some(before) => {
            RETRY_FIRST.saturating_mul(1_u32.checked_shl(before.min(16)).unwrap_or(u32::MAX)).min(RETRY_MOST)
        }
    }
}

/// Up to a tenth shorter, so that many relays do not ask at one moment.
fn jittered(pause: Duration, random: u64) -> Duration {
    let share = u32::try_from(random % 100).unwrap_or(0);
    pause.saturating_sub((pause / 1000).saturating_mul(share))
}

/// From half of a CRL's life on, or without one, a failure needs somebody's eye.
fn tell_failure(of: &ClientCa, url: &HttpUrl, fault: &FetchFault, held: Option<&CrlAge>, now: WallTime, next: &str) {
    let ca = of.name();
    if matches!(fault, FetchFault::Http(HttpFault::NamedInside(_))) {
        // Whoever holds a certificate wrote it; the CA's own lists may be at hand by other ways.
        tracing::warn!(%ca, %url, %fault, next, "a CRL is not asked for");
        return;
    }
    match held {
        Some(facts) if now < facts.half_life() => {
            tracing::warn!(%ca, %url, %fault, next, "a CRL could not be fetched; it is tried again");
        }
        Some(facts) => {
            let until = facts.next_update.rfc3339();
            tracing::error!(%ca, %url, %fault, until, next, "a CRL could not be fetched, and over half of the old one's life is over; it is tried again");
        }
        None if of.revocation() == RevocationMode::Require => tracing::error!(
            %ca, %url, %fault, next,
            "a CRL could not be fetched, and there is no old one; it is tried again, and until then everybody of this CA who needs it hears 421 (revocation = \"require\")"
        ),
        None => tracing::error!(
            %ca, %url, %fault, next, "a CRL could not be fetched, and there is no old one; it is tried again"
        ),
    }
}

/// What is at hand of a URL: of each kind the list, by the place of its file; what does not verify any more (the CA was renewed) is as good as not there.
#[derive(Clone, Debug, Default)]
struct Held {
    kinds: Vec<(usize, CrlAge)>,
    /// The place of what came last, where that is known, and by what the server knows it.
    last: Option<(usize, http::Validators)>,
}

impl Held {
    fn read(ca: &ClientCa, folder: &Path, url: &HttpUrl) -> Self {
        let kind = |slot| Some((slot, ca.read_crl(&cache::read(folder, url, slot, CRL_OCTETS_MAX)?).ok()?));
        let kinds: Vec<_> = (0..cache::KINDS_MAX).filter_map(kind).collect();
        let is_held = |slot: usize| kinds.iter().any(|&(known, _)| known == slot);
        let last = cache::last(folder, url).filter(|about| is_held(about.slot));
        Self { last: last.map(|about| (about.slot, about.validators)), kinds }
    }

    /// What came last.
    fn last(&self) -> Option<&CrlAge> {
        let (slot, _) = self.last.as_ref()?;
        self.kinds.iter().find(|(known, _)| known == slot).map(|(_, list)| list)
    }

    /// The one that ends first of those that count still; else the one that ended last.
    fn pressing(&self, now: WallTime) -> Option<&CrlAge> {
        let lists = || self.kinds.iter().map(|(_, list)| list);
        let fresh = lists().filter(|list| now < list.next_update).min_by_key(|list| list.next_update);
        fresh.or_else(|| lists().max_by_key(|list| list.next_update))
    }

    /// A list of another kind than what was given, that is in the second half of its life and has no successor yet.
    fn passed_over(&self, given: &CrlAge, now: WallTime) -> Option<&CrlAge> {
        let others = self.kinds.iter().map(|(_, list)| list).filter(|list| !list.stands_for(given));
        others.filter(|list| list.half_life() <= now && now < list.next_update).min_by_key(|list| list.next_update)
    }

    /// The place for one more kind: one where nothing is, or what has run out longest.
    fn room(&self, now: WallTime) -> Option<usize> {
        let empty = (0..cache::KINDS_MAX).find(|slot| !self.kinds.iter().any(|(known, _)| known == slot));
        let over = self.kinds.iter().filter(|(_, list)| list.next_update <= now);
        empty.or_else(|| over.min_by_key(|(_, list)| list.next_update).map(|&(slot, _)| slot))
    }
}

/// One fetch, from the cache to the cache.
async fn fetch(key: Key, whence: Whence, source: Arc<CrlSource>, now: WallTime) -> Fetched {
    let (cached_in, url, ca) = (source.folder.clone(), key.1.clone(), Arc::clone(&source.ca));
    let held = aside("crl cache", move || Held::read(&ca, &cached_in, &url)).await.unwrap_or_default();
    let validators = held.last.clone().map(|(_, validators)| validators).unwrap_or_default();
    let limits = Limits { time: FETCH_TIME, octets: CRL_OCTETS_MAX };
    let given = match http::exchange(&key.0, &key.1, whence, &Ask::Get(validators), limits).await {
        Err(fault) => Err(fault.into()),
        Ok(Answer::NotModified) => match held.last() {
            Some(list) if list.next_update <= now => Err(FetchFault::Stale(list.next_update)),
            Some(list) => Ok((list.clone(), News::Same)),
            None => Err(FetchFault::NothingHeld),
        },
        Ok(Answer::Octets(octets, validators)) => {
            let (url, ca, before, folder) =
                (key.1.clone(), Arc::clone(&source.ca), held.clone(), source.folder.clone());
            let kept = aside("crl", move || keep(&ca, &folder, &url, &octets, validators, &before, now)).await;
            kept.unwrap_or(Err(FetchFault::Unread))
        }
    };
    match given {
        Ok((list, News::New)) => Fetched { key, held: Some(list), result: Ok(News::New) },
        Ok((list, News::Same)) => match held.passed_over(&list, now).cloned() {
            Some(other) => Fetched { key, result: Err(FetchFault::Another(other.next_update)), held: Some(other) },
            None => Fetched { key, held: Some(list), result: Ok(News::Same) },
        },
        Err(fault) => Fetched { key, held: held.pressing(now).cloned(), result: Err(fault) },
    }
}

/// Verifies what was fetched and keeps it, if it is newer than what is at hand of its kind.
fn keep(
    ca: &ClientCa,
    folder: &Path,
    url: &HttpUrl,
    octets: &[u8],
    validators: http::Validators,
    held: &Held,
    now: WallTime,
) -> Result<(CrlAge, News), FetchFault> {
    let fetched = ca.read_crl(octets)?;
    if fetched.next_update <= now {
        return Err(FetchFault::Stale(fetched.next_update));
    }
    if fetched.this_update > now.after(AHEAD_MOST) {
        return Err(FetchFault::Ahead(fetched.this_update));
    }
    let (slot, is_new) = match held.kinds.iter().find(|(_, known)| fetched.stands_for(known)) {
        // By its date also across keys: else, by way of the old key's list, an old one of the new key would come back.
        Some((_, known)) if known.is_newer_than(&fetched) || fetched.this_update < known.this_update => {
            return Err(FetchFault::Older { fetched: fetched.this_update, held: known.this_update });
        }
        // Of another key it is not newer, but news.
        Some((slot, known)) => (*slot, fetched != *known),
        None => (held.room(now).ok_or(FetchFault::TooManyKinds)?, true),
    };
    // Written even when it is the same CRL: the server's name for its version may be new.
    cache::write(folder, url, slot, octets, validators).map_err(FetchFault::Disk)?;
    Ok((fetched, if is_new { News::New } else { News::Same }))
}

#[cfg(test)]
mod tests;
