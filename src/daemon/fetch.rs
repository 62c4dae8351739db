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
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::tls::recipe::{CrlRecipe, DAY, Made, NOW, Recipe};
    use crate::tls::{CaRules, ClientCaSettings, RevocationMode};

    fn source(name: &str, folder: &Path, urls: &[String]) -> Arc<CrlSource> {
        let settings = ClientCaSettings {
            name: name.into(),
            certificates: vec![Recipe::ca("Root").self_signed().der],
            intermediates: Vec::new(),
            crls: Vec::new(),
            revocation: RevocationMode::Require,
            crl_grace: Duration::ZERO,
            rules: CaRules::default(),
        };
        Arc::new(CrlSource {
            ca: Arc::new(ClientCa::new(settings).unwrap().0),
            urls: urls.iter().map(|url| HttpUrl::parse(url).unwrap()).collect(),
            learns: false,
            folder: folder.to_owned(),
            refresh: Duration::from_secs(3600),
        })
    }

    #[tokio::test]
    async fn nothing_new_is_a_failure_where_there_is_nothing() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await.unwrap();
            stream.write_all(b"HTTP/1.1 304 Not Modified\r\n\r\n").await.unwrap();
        };
        let folder = tempfile::tempdir().unwrap();
        let source = source("staff", folder.path(), &[format!("http://127.0.0.1:{port}/ca.crl")]);
        let (wall, mono) = (WallTime::from_seconds(NOW), MonoTime::from_start(Duration::from_secs(100)));
        let mut book = Book::default();
        book.follow(&[source], mono).await;
        let (key, source) = book.take_due(mono).unwrap();
        let (fetched, ()) = tokio::join!(fetch(key, Whence::Configuration, source, wall), server);
        assert!(matches!(fetched.result, Err(FetchFault::NothingHeld)));
        assert!(!book.settle(fetched, wall, mono, 0));
        assert_eq!(book.next_due(mono), Some(RETRY_FIRST));
    }

    #[tokio::test]
    async fn nothing_new_is_a_failure_where_what_is_there_has_run_out() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = async {
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.read(&mut [0; 4096]).await.unwrap();
                stream.write_all(b"HTTP/1.1 304 Not Modified\r\n\r\n").await.unwrap();
            }
        };
        let folder = tempfile::tempdir().unwrap();
        let root = Recipe::ca("Root").self_signed();
        let settings = ClientCaSettings {
            name: "staff".into(),
            certificates: vec![root.der.clone()],
            intermediates: Vec::new(),
            crls: Vec::new(),
            revocation: RevocationMode::Require,
            crl_grace: Duration::ZERO,
            rules: CaRules::default(),
        };
        let ca = Arc::new(ClientCa::new(settings).unwrap().0);
        let source = Arc::new(CrlSource { ca, ..CrlSource::clone(&source("staff", folder.path(), &[])) });
        let url = HttpUrl::parse(&format!("http://127.0.0.1:{port}/ca.crl")).unwrap();
        let octets = root.crl(&CrlRecipe::listing(&[]).valid(NOW - DAY, NOW));
        let ends = WallTime::from_seconds(NOW);
        let early = WallTime::from_seconds(NOW - 1);
        let none = Held::default();
        let keep = |now| keep(&source.ca, folder.path(), &url, &octets, Default::default(), &none, now);
        assert!(matches!(keep(ends), Err(FetchFault::Stale(_))), "at the moment of its end it has run out");
        keep(early).unwrap();
        let key: Key = ("staff".into(), url.clone());
        let asking = async {
            let fetch = |now| fetch(key.clone(), Whence::Configuration, Arc::clone(&source), now);
            [fetch(early).await, fetch(ends).await]
        };
        let ([before, after], ()) = tokio::join!(asking, server);
        assert!(matches!(before.result, Ok(News::Same)));
        assert!(matches!(after.result, Err(FetchFault::Stale(_))));
    }

    #[tokio::test]
    async fn slow_servers_of_one_ca_do_not_keep_the_crls_of_another_from_being_fetched() {
        let folder = tempfile::tempdir().unwrap();
        let slow: Vec<String> = (0..=PARALLEL_MAX).map(|number| format!("http://{number}.example.com/x.crl")).collect();
        let staff = ["http://pki.example.com/staff.crl".to_owned()];
        let mut now = MonoTime::from_start(Duration::from_secs(100));
        let mut book = Book::default();
        book.follow(&[source("guests", folder.path(), &slow), source("staff", folder.path(), &staff)], now).await;
        // Each takes nearly all the time it may have, and is due again at once.
        let mut fetched = Vec::new();
        for _ in 0..2 {
            let running: Vec<Key> = (0..PARALLEL_MAX).filter_map(|_| book.take_due(now)).map(|(key, _)| key).collect();
            now = now.after(FETCH_TIME);
            for key in running {
                fetched.push(Arc::clone(&key.0));
                book.settle(Fetched { key, held: None, result: Ok(News::Same) }, WallTime::from_seconds(NOW), now, 0);
            }
            now = now.after(PAUSE_LEAST);
        }
        assert!(fetched.iter().any(|ca| &**ca == "staff"), "{fetched:?}");
    }

    #[tokio::test]
    async fn learned_points_take_no_room_from_configured_ones_and_useless_ones_go() {
        let folder = tempfile::tempdir().unwrap();
        let now = MonoTime::from_start(Duration::from_secs(100));
        let url = |number: usize| HttpUrl::parse(&format!("http://{number}.example.com/x.crl")).unwrap();
        let learning = |urls: &[String]| {
            let CrlSource { ca, urls, folder, refresh, .. } = CrlSource::clone(&source("staff", folder.path(), urls));
            Arc::new(CrlSource { ca, urls, learns: true, folder, refresh })
        };
        let mut book = Book::default();
        book.follow(&[learning(&[])], now).await;
        let learn = |book: &mut Book, number| book.learn(Named { ca: "staff".into(), url: url(number) }, now);
        (0..LEARNED_URLS_MAX + 1).for_each(|number| learn(&mut book, number));
        let has = |book: &Book, number| book.errands.contains_key(&("staff".into(), url(number)));
        assert!(book.errands.len() == LEARNED_URLS_MAX && !has(&book, LEARNED_URLS_MAX));
        // One has failed: it makes room. One has failed and gave a CRL before: it stays.
        for (number, good) in [(3, false), (4, true)] {
            let errand = book.errands.get_mut(&("staff".into(), url(number))).unwrap();
            (errand.failures, errand.good) = (1, good);
        }
        (20..22).for_each(|number| learn(&mut book, number));
        assert!(has(&book, 20) && !has(&book, 3) && has(&book, 4) && !has(&book, 21));
        // What is configured finds its place beside them.
        book.follow(&[learning(&["http://pki.example.com/staff.crl".to_owned()])], now).await;
        assert_eq!(book.errands.len(), LEARNED_URLS_MAX + 1);
    }

    #[tokio::test]
    async fn a_certificates_url_counts_as_the_operators_where_the_configuration_names_its_host() {
        let folder = tempfile::tempdir().unwrap();
        let now = MonoTime::from_start(Duration::from_secs(100));
        let told = "http://pki.example.com/staff.crl".to_owned();
        let source = CrlSource::clone(&source("staff", folder.path(), std::slice::from_ref(&told)));
        let mut book = Book::default();
        book.follow(&[Arc::new(CrlSource { learns: true, ..source })], now).await;
        for (url, whence) in [
            (&*told, Whence::Configuration),
            ("http://pki.example.com/other.crl", Whence::Configuration),
            ("http://pki.example.com:81/staff.crl", Whence::Certificate),
            ("http://other.example.com/staff.crl", Whence::Certificate),
        ] {
            let url = HttpUrl::parse(url).unwrap();
            book.learn(Named { ca: "staff".into(), url: url.clone() }, now);
            assert_eq!(book.whence(&("staff".into(), url.clone())), whence, "{url}");
        }
    }

    #[tokio::test]
    async fn who_has_room_for_a_learned_point_and_what_a_reload_keeps_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let now = MonoTime::from_start(Duration::from_secs(100));
        let learning = || {
            let CrlSource { ca, urls, folder, refresh, .. } = CrlSource::clone(&source("staff", folder.path(), &[]));
            Arc::new(CrlSource { ca, urls, learns: true, folder, refresh })
        };
        let key = |number: usize| -> Key {
            ("staff".into(), HttpUrl::parse(&format!("http://{number}.example.com/x.crl")).unwrap())
        };
        let mut book = Book::default();
        book.follow(&[learning()], now).await;
        let learn = |book: &mut Book, number| book.learn(Named { ca: "staff".into(), url: key(number).1 }, now);
        (0..LEARNED_URLS_MAX).for_each(|number| learn(&mut book, number));
        for (number, failures, busy, good) in [(1, 9, true, false), (2, 3, false, false), (3, 2, false, false)] {
            let errand = book.errands.get_mut(&key(number)).unwrap();
            (errand.failures, errand.busy, errand.good) = (failures, busy, good);
        }
        // What is under way stays, and of the others the one goes that failed most often.
        learn(&mut book, 30);
        assert!(book.errands.contains_key(&key(1)) && !book.errands.contains_key(&key(2)));
        assert!(book.errands.contains_key(&key(3)) && book.errands.contains_key(&key(30)));
        // That it once gave a CRL is known through reloads.
        book.errands.get_mut(&key(3)).unwrap().good = true;
        book.follow(&[learning()], now).await;
        assert_eq!((book.errands[&key(3)].good, book.errands[&key(3)].failures), (true, 2));
        learn(&mut book, 31);
        assert!(!book.errands.contains_key(&key(31)) && book.errands.contains_key(&key(3)));
    }

    #[tokio::test]
    async fn who_asks_while_a_fetch_is_under_way_has_it_fetched_once_more_and_failures_make_it_rare() {
        let folder = tempfile::tempdir().unwrap();
        let (wall, now) = (WallTime::from_seconds(NOW), MonoTime::from_start(Duration::from_secs(100)));
        let mut book = Book::default();
        book.follow(&[source("staff", folder.path(), &["http://pki.example.com/a.crl".to_owned()])], now).await;
        let fetch = |book: &mut Book, at: MonoTime, result, meanwhile: bool| {
            let (key, _) = book.take_due(at).unwrap();
            if meanwhile {
                book.hasten(at);
            }
            book.settle(Fetched { key, held: None, result }, wall, at, 0);
            book.next_due(at).unwrap()
        };
        assert_eq!(fetch(&mut book, now, Ok(News::Same), true), Duration::ZERO, "what came may be of before");
        assert_eq!(fetch(&mut book, now, Ok(News::Same), false), PAUSE_LEAST, "once more only");
        let mut at = now.after(PAUSE_LEAST);
        for wanted in [10, 20, 40, 80, 160, 320, 640, 1280, 1800, 1800] {
            let wait = fetch(&mut book, at, Err(FetchFault::Unread), false);
            assert_eq!(wait, Duration::from_secs(wanted));
            at = at.after(wait);
        }
    }

    #[test]
    fn a_crl_that_ends_at_once_is_not_fetched_each_second() {
        let folder = tempfile::tempdir().unwrap();
        let source = source("staff", folder.path(), &[]);
        let root = Recipe::ca("Root").self_signed();
        let settings = ClientCaSettings {
            name: "staff".into(),
            certificates: vec![root.der.clone()],
            intermediates: Vec::new(),
            crls: Vec::new(),
            revocation: RevocationMode::Require,
            crl_grace: Duration::ZERO,
            rules: CaRules::default(),
        };
        let ca = ClientCa::new(settings).unwrap().0;
        let now = MonoTime::from_start(Duration::ZERO);
        for (left, refresh, wanted) in [(1, 3600, 30), (600, 3600, 300), (90_000, 3600, 3600), (1, 5, 5)] {
            let held = ca.read_crl(&root.crl(&CrlRecipe::listing(&[]).valid(NOW - DAY, NOW + left))).unwrap();
            let source = Arc::new(CrlSource { refresh: Duration::from_secs(refresh), ..CrlSource::clone(&source) });
            let errand =
                Errand { source, due: now, failures: 0, busy: false, learned: false, good: true, asked: Asked::No };
            let paused = pause(&errand, Some(&held), WallTime::from_seconds(NOW));
            assert_eq!(paused, Duration::from_secs(wanted), "{left} s left");
        }
    }

    #[test]
    fn a_list_gives_way_to_a_newer_one_of_its_kind_and_is_shut_out_by_none_of_another() {
        let root = Recipe::ca("Root").self_signed();
        let issuing = Recipe::ca("Issuing").signed_by(&root);
        let settings = ClientCaSettings {
            name: "staff".into(),
            certificates: vec![root.der.clone()],
            intermediates: vec![issuing.der.clone()],
            crls: Vec::new(),
            revocation: RevocationMode::Require,
            crl_grace: Duration::ZERO,
            rules: CaRules::default(),
        };
        let ca = ClientCa::new(settings).unwrap().0;
        let folder = tempfile::tempdir().unwrap();
        let url = HttpUrl::parse("http://pki.example.com/issuing.crl").unwrap();
        let listed = [vec![7_u8]];
        let list = |by: &Made, number, revoked, from, to| {
            by.crl(&CrlRecipe { number, ..CrlRecipe::listing(revoked).valid(NOW + from * DAY, NOW + to * DAY) })
        };
        let old = list(&issuing, 1, &[], -3, 1);
        let new = list(&issuing, 2, &listed, -1, 7);
        let of_the_root = list(&root, 9, &[], -1, 90);
        let newest = list(&issuing, 3, &listed, 0, 8);
        let ahead = list(&issuing, 4, &[], 1, 9);
        // What is served, on which day, whether it is taken, and how many serials are at hand then of the issuing CA, and kinds in all.
        for (title, octets, day, taken, revoked, kinds) in [
            ("once, somebody on the way gives the root's", &of_the_root, 0, true, None, 1),
            ("which keeps the right one from nothing", &new, 0, true, Some(1), 2),
            ("an old one", &old, 0, false, Some(1), 2),
            ("the root's again", &of_the_root, 0, true, Some(1), 2),
            ("and by way of it no old one", &old, 0, false, Some(1), 2),
            ("one of a day to come, which would shut out all until then", &ahead, 0, false, Some(1), 2),
            ("the newest", &newest, 0, true, Some(1), 2),
        ] {
            let now = WallTime::from_seconds(NOW + day * DAY);
            let held = || Held::read(&ca, folder.path(), &url);
            let kept = keep(&ca, folder.path(), &url, octets, Default::default(), &held(), now);
            assert_eq!(kept.is_ok(), taken, "{title}");
            let issuing = ca.read_crl(&newest).unwrap();
            let of_issuing =
                held().kinds.iter().find(|(_, list)| list.stands_for(&issuing)).map(|(_, list)| list.revoked);
            assert_eq!((of_issuing, held().kinds.len()), (revoked, kinds), "{title}");
        }
        // Who gives only the root's from then on is told of before the other one ends, and not for ever.
        let held = Held::read(&ca, folder.path(), &url);
        let given = ca.read_crl(&of_the_root).unwrap();
        for (day, passed_over) in [(3, false), (4, true), (7, true), (8, false)] {
            let now = WallTime::from_seconds(NOW + day * DAY);
            assert_eq!(held.passed_over(&given, now).is_some(), passed_over, "day {day}");
        }
        let pressing = |day| held.pressing(WallTime::from_seconds(NOW + day * DAY)).map(|list| list.revoked);
        assert_eq!([0, 7, 8, 100].map(pressing), [Some(1), Some(1), Some(0), Some(0)]);
    }

    #[test]
    fn kinds_are_bounded_and_what_has_run_out_makes_room() {
        let root = Recipe::ca("Root").self_signed();
        let settings = ClientCaSettings {
            name: "staff".into(),
            certificates: vec![root.der.clone()],
            intermediates: Vec::new(),
            crls: Vec::new(),
            revocation: RevocationMode::Require,
            crl_grace: Duration::ZERO,
            rules: CaRules::default(),
        };
        let ca = ClientCa::new(settings).unwrap().0;
        let list = |to| ca.read_crl(&root.crl(&CrlRecipe::listing(&[]).valid(NOW - DAY, NOW + to))).unwrap();
        let kinds: Vec<_> = (0..cache::KINDS_MAX).filter(|&slot| slot != 2).map(|slot| (slot, list(DAY))).collect();
        let mut held = Held { kinds, last: None };
        let now = WallTime::from_seconds(NOW);
        assert_eq!(held.room(now), Some(2));
        held.kinds.push((2, list(DAY)));
        assert_eq!(held.room(now), None);
        held.kinds[5].1 = list(0);
        assert_eq!(held.room(now), Some(held.kinds[5].0));
    }

    #[test]
    fn no_list_of_another_key_brings_an_old_one_back_and_one_of_a_new_key_is_news() {
        let old_key = Recipe::ca("Root").self_signed();
        let new_key = Recipe::ca("Root").self_signed();
        let settings = ClientCaSettings {
            name: "staff".into(),
            certificates: vec![old_key.der.clone(), new_key.der.clone()],
            intermediates: Vec::new(),
            crls: Vec::new(),
            revocation: RevocationMode::Require,
            crl_grace: Duration::ZERO,
            rules: CaRules::default(),
        };
        let ca = ClientCa::new(settings).unwrap().0;
        let folder = tempfile::tempdir().unwrap();
        let url = HttpUrl::parse("http://pki.example.com/root.crl").unwrap();
        let listed = [vec![7_u8]];
        let list = |by: &Made, number, revoked, from, to| {
            by.crl(&CrlRecipe { number, ..CrlRecipe::listing(revoked).valid(NOW + from * DAY, NOW + to * DAY) })
        };
        let before = list(&old_key, 8, &[], -3, 4);
        let first = list(&new_key, 9, &[], -2, 5);
        let newest = list(&new_key, 10, &listed, -1, 6);
        for (title, octets, wanted) in [
            ("of the old key", &before, Some(true)),
            ("of the new key, which the running relay must learn of", &first, Some(true)),
            ("a newer one", &newest, Some(true)),
            ("the same", &newest, Some(false)),
            ("the old key's again", &before, None),
            ("and by way of it the new key's first", &first, None),
        ] {
            let held = Held::read(&ca, folder.path(), &url);
            let now = WallTime::from_seconds(NOW);
            let kept = keep(&ca, folder.path(), &url, octets, Default::default(), &held, now);
            let news = kept.ok().map(|(_, news)| matches!(news, News::New));
            assert_eq!(news, wanted, "{title}");
        }
    }
}
