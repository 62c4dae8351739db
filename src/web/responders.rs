//! OCSP responders: asked after the handshake, their answers kept (RFC 6960 appendix A).
//!
//! One question about one certificate is under way at a time; whoever else wants the answer waits for it. Each CA has its own places, so that
//! one whose responder hangs takes none from another. That there was no answer is kept for a little while, but only where the responder was
//! asked and had time: who had no place has learned nothing. What is kept of answers, and how long, `answers` says.
//!
//! A disk that hangs takes the few threads that `READS` and `WRITES` name, and nobody's place: who asks goes on without what lies there, and it is known once
//! it has been read; what is written meanwhile is told of as not kept.
//!
//! Never: decides what an answer means (`tls::verify::judge` does); keeps one that did not verify; waits beyond the round's end, but for the disk that a
//! late answer goes to.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::sync::{Mutex as Turn, Semaphore};

use super::answers::{Answers, Overtaken};
use super::http::{self, Answer, Ask, HttpFault, Limits, Validators};
use super::kept;
use super::reach::Whence;
use super::shares::Shares;
use crate::identity::Digest256;
use crate::sys::{Clock, Entropy, MonoTime, WallTime};
use crate::tls::ocsp::{ANSWER_OCTETS_MAX, CertificateStatus, Known, NONCE_OCTETS, OcspFault, Query, Reading};
use crate::tls::points::HttpUrl;

/// For all that one client's certificate has asked: each CA, each responder, the wait for turn and place.
const ASK_TIME: Duration = Duration::from_secs(5);
/// A responder that was asked for less is not said to be silent.
const FAIR_TIME: Duration = Duration::from_secs(2);
/// So long a responder that did not answer is not asked again about the same certificate.
const UNAVAILABLE: Duration = Duration::from_secs(30);
/// Questions of one CA under way at once.
const ASKING_MAX: usize = 64;
/// So long what was said before a restart is waited for: the responder is to be asked in what is left.
const RECALL_TIME: Duration = Duration::from_secs(1);
/// So long an answer has to come to the disk, also one that came when the round was all but over.
const KEEP_TIME: Duration = Duration::from_secs(1);
/// Files that are read at once.
const READS: usize = 8;
/// And written: one, so that of two answers about one certificate the later one stays.
const WRITES: usize = 1;
/// The longest URL of a question asked by GET (RFC 5019 §5).
const GET_OCTETS_MAX: usize = 255;

/// The answers at hand, and the way to new ones.
#[derive(Debug)]
pub struct Responders {
    answers: Arc<Mutex<Answers>>,
    asking: Mutex<HashMap<Digest256, Arc<Turn<()>>>>,
    places: Shares,
    /// Where answers lie that outlive a restart; nowhere where that is not wanted.
    folder: Option<PathBuf>,
    reads: Arc<Semaphore>,
    writes: Arc<Semaphore>,
    /// For what a responder counts that a certificate names; tests have theirs on this machine.
    named: Whence,
}

impl Default for Responders {
    fn default() -> Self {
        Self {
            answers: Arc::default(),
            asking: Mutex::default(),
            places: Shares::new(ASKING_MAX),
            folder: None,
            reads: Arc::new(Semaphore::new(READS)),
            writes: Arc::new(Semaphore::new(WRITES)),
            named: Whence::Certificate,
        }
    }
}

/// One client's questions: when all of them end.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    ends: MonoTime,
}

impl Round {
    /// Begins now.
    pub fn begin(clock: &dyn Clock) -> Self {
        Self { ends: clock.now().mono.after(ASK_TIME) }
    }

    fn left(self, clock: &dyn Clock) -> Duration {
        self.ends.since(clock.now().mono)
    }
}

#[derive(Debug, thiserror::Error)]
enum AskFault {
    #[error(transparent)]
    Http(#[from] HttpFault),
    #[error(transparent)]
    Answer(#[from] OcspFault),
    #[error(transparent)]
    Overtaken(#[from] Overtaken),
    #[error("no answer within {} s", .0.as_secs())]
    TooSlow(Duration),
    #[error("no responder is named: not by the certificate, not by ocsp_url")]
    Nobody,
}

impl Responders {
    /// Those that keep answers which say "revoked" in this folder.
    pub fn keeping_in(folder: PathBuf) -> Self {
        Self { folder: Some(folder), ..Self::default() }
    }

    /// The answer at hand that counts now.
    pub fn known(&self, query: &Query, now: WallTime) -> Option<Known> {
        locked(&self.answers).known(query.key(), now)
    }

    /// What is to be said when the round is over, whether there was an answer or not.
    pub fn last_word(&self, query: &Query, now: WallTime) -> Known {
        let answers = locked(&self.answers);
        answers.known(query.key(), now).unwrap_or_else(|| answers.without_answer(query.key(), now.after(UNAVAILABLE)))
    }

    fn whence(&self, query: &Query) -> Whence {
        if query.names_responders() { self.named } else { Whence::Configuration }
    }

    /// Asks, unless somebody has just done so; what came of it is known then. Nothing new is known where the round was over first.
    pub async fn ask(&self, query: &Query, round: Round, clock: &dyn Clock, entropy: &dyn Entropy) {
        let asking = Asking::begin(&self.asking, query.key());
        let recall = self.recall(query, clock.now().wall);
        let _ = tokio::time::timeout(round.left(clock).min(RECALL_TIME), recall).await;
        let places = self.places.of(query.ca());
        let waiting = async {
            let mine = asking.turn.lock().await;
            // Somebody else may have asked while we waited; then no place is needed.
            let place = if self.known(query, clock.now().wall).is_none() { places.acquire().await.ok() } else { None };
            (mine, place)
        };
        let Ok((mine, place)) = tokio::time::timeout(round.left(clock), waiting).await else {
            tracing::debug!(%query, "not asked in time: others' questions are under way");
            return;
        };
        if place.is_none() {
            return;
        }
        let left = round.left(clock);
        let answered = match tokio::time::timeout(left, answer(query, self.whence(query), clock, entropy)).await {
            Ok(answered) => answered,
            Err(_) if left < FAIR_TIME => return,
            Err(_) => Err(AskFault::TooSlow(left)),
        };
        let now = clock.now().wall;
        let Some((status, octets)) = self.settle(query, answered, now) else { return };
        // It is known by now: nobody else waits for our disk, only this.
        drop((mine, place));
        self.keep(query, status, octets, now, round.left(clock).max(KEEP_TIME)).await;
    }

    /// What was said before a restart, where nothing is remembered of now.
    async fn recall(&self, query: &Query, now: WallTime) {
        let Some(folder) = &self.folder else { return };
        if locked(&self.answers).remembers(query.key()) {
            return;
        }
        let (path, asked) = (kept::path(folder, query), query.clone());
        self.remember(query, now, move || asked.read_again(&kept::read(&path)?).ok()).await;
    }

    /// What has been read is remembered whenever that is, also where nobody waits for it any more.
    async fn remember(&self, query: &Query, now: WallTime, read: impl FnOnce() -> Option<Reading> + Send + 'static) {
        let Ok(permit) = Arc::clone(&self.reads).acquire_owned().await else { return };
        let (answers, query) = (Arc::clone(&self.answers), query.clone());
        let reading = tokio::task::spawn_blocking(move || {
            if let Some(reading) = read() {
                locked(&answers).recall(&query, reading, now);
            }
            drop(permit);
        });
        reading.await.ok();
    }

    /// Keeps on disk that a certificate is revoked, or forgets it there. What is not done by the end of the time is done later, once it has begun.
    async fn keep(&self, query: &Query, status: CertificateStatus, octets: Vec<u8>, now: WallTime, time: Duration) {
        let Some(folder) = &self.folder else { return };
        let (path, asked) = (kept::path(folder, query), query.clone());
        let keeping = async {
            let Ok(permit) = Arc::clone(&self.writes).acquire_owned().await else { return Ok(()) };
            let (done, end) = tokio::sync::oneshot::channel();
            tokio::task::spawn_blocking(move || {
                let kept = match status {
                    CertificateStatus::Revoked => kept::write(&path, &octets, now),
                    CertificateStatus::Good => kept::remove(&path),
                    CertificateStatus::Unknown => Ok(()),
                };
                drop(permit);
                match done.send(kept) {
                    Ok(()) => {}
                    // Nobody waits any more, and it was told of as not kept.
                    Err(Ok(())) => tracing::info!(query = %asked, "what an OCSP responder said is on disk now, late"),
                    Err(Err(fault)) => tell_not_kept(&asked, &fault),
                }
            });
            end.await.unwrap_or(Ok(()))
        };
        match tokio::time::timeout(time, keeping).await {
            Ok(Ok(())) => {}
            Ok(Err(fault)) => tell_not_kept(query, &fault),
            Err(_) => tell_not_kept(query, &std::io::Error::other("the disk was not done with it in time")),
        }
    }

    fn settle(
        &self,
        query: &Query,
        answered: Result<(Reading, Vec<u8>), AskFault>,
        now: WallTime,
    ) -> Option<(CertificateStatus, Vec<u8>)> {
        let mut answers = locked(&self.answers);
        let taken = answered.and_then(|(reading, octets)| {
            answers.take(query, reading, now)?;
            Ok((reading, octets))
        });
        match taken {
            Ok((Reading { status, until, .. }, octets)) => {
                tracing::debug!(%query, ?status, until = until.rfc3339(), "an OCSP responder answered");
                Some((status, octets))
            }
            Err(fault) => {
                tracing::warn!(%query, %fault, "an OCSP responder gave no answer that counts");
                let known = answers.without_answer(query.key(), now.after(UNAVAILABLE));
                answers.keep(query.key(), known, now);
                None
            }
        }
    }
}

fn tell_not_kept(query: &Query, fault: &std::io::Error) {
    tracing::error!(%query, %fault, "what an OCSP responder said could not be kept on disk; it counts until the next start");
}

async fn answer(
    query: &Query,
    whence: Whence,
    clock: &dyn Clock,
    entropy: &dyn Entropy,
) -> Result<(Reading, Vec<u8>), AskFault> {
    let mut last = AskFault::Nobody;
    for url in query.urls() {
        match one(&url, query, whence, clock, entropy).await {
            Ok(answered) => return Ok(answered),
            Err(fault) => last = fault,
        }
    }
    Err(last)
}

/// One who asks, or waits for one who does; the last to go, or to be dropped, leaves nothing behind.
struct Asking<'a> {
    all: &'a Mutex<HashMap<Digest256, Arc<Turn<()>>>>,
    key: Digest256,
    turn: Arc<Turn<()>>,
}

impl<'a> Asking<'a> {
    fn begin(all: &'a Mutex<HashMap<Digest256, Arc<Turn<()>>>>, key: Digest256) -> Self {
        let turn = Arc::clone(locked(all).entry(key).or_default());
        Self { all, key, turn }
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let mut all = locked(self.all);
        // The map's and ours: nobody else waits.
        if Arc::strong_count(&self.turn) <= 2 {
            all.remove(&self.key);
        }
    }
}

/// By POST with a nonce; a responder that takes no POST is asked by GET for what it has ready (RFC 5019 §5).
async fn one(
    url: &HttpUrl,
    query: &Query,
    whence: Whence,
    clock: &dyn Clock,
    entropy: &dyn Entropy,
) -> Result<(Reading, Vec<u8>), AskFault> {
    let limits = Limits { time: ASK_TIME, octets: ANSWER_OCTETS_MAX };
    let mut nonce = [0; NONCE_OCTETS];
    entropy.fill(&mut nonce);
    let octets = query.request(Some(&nonce)).ok_or(OcspFault::Malformed)?;
    let post = Ask::Post { octets, kind: "application/ocsp-request" };
    match http::exchange(query.ca(), url, whence, &post, limits).await {
        Err(HttpFault::Status(status)) if status.is_client_error() => {
            let octets = query.request(None).ok_or(OcspFault::Malformed)?;
            let Some(url) = in_url(url, &octets) else { return Err(HttpFault::Status(status).into()) };
            let answer = http::exchange(query.ca(), &url, whence, &Ask::Get(Validators::default()), limits).await?;
            read(query, answer, None, clock)
        }
        answer => read(query, answer?, Some(&nonce), clock),
    }
}

fn read(
    query: &Query,
    answer: Answer,
    nonce: Option<&[u8; NONCE_OCTETS]>,
    clock: &dyn Clock,
) -> Result<(Reading, Vec<u8>), AskFault> {
    let Answer::Octets(octets, _) = answer else { return Err(OcspFault::Malformed.into()) };
    Ok((query.read(&octets, nonce, clock.now().wall)?, octets))
}

/// RFC 6960 A.1: base64 behind the URL, what has a meaning in URLs escaped.
fn in_url(url: &HttpUrl, request: &[u8]) -> Option<HttpUrl> {
    let text = STANDARD.encode(request).replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    let whole = format!("{}/{text}", url.to_string().trim_end_matches('/'));
    HttpUrl::parse(&whole).ok().filter(|_| whole.len() <= GET_OCTETS_MAX)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "virtual time is read, and servers run beside the test")]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    use super::*;
    use crate::sys::{ManualClock, Now, SeededEntropy};
    use crate::tls::ocsp::CertificateStatus::{Good, Revoked};
    use crate::tls::recipe::{Made, NOW, OcspStatus, Recipe, der, ocsp_answer};
    use crate::tls::{
        Asks, CaRules, ClientCa, ClientCaSettings, OcspMode, PeerChain, Pins, RevocationMode, Trust, judge_asking,
    };

    /// Both clocks as tokio has them.
    #[derive(Debug)]
    struct TokioClock(Instant);

    impl Clock for TokioClock {
        fn now(&self) -> Now {
            let passed = self.0.elapsed();
            Now { wall: WallTime::from_seconds(NOW).after(passed), mono: MonoTime::from_start(passed) }
        }
    }

    /// A CA of this name, and what the judge wants to know of a client's certificate under it that names these responders.
    struct Asker {
        root: Made,
        ca: Arc<ClientCa>,
        clock: TokioClock,
        entropy: SeededEntropy,
    }

    impl Asker {
        fn new(name: &str) -> Self {
            let root = Recipe::ca(name).self_signed();
            let settings = ClientCaSettings {
                name: name.into(),
                certificates: vec![root.der.clone()],
                intermediates: Vec::new(),
                crls: Vec::new(),
                revocation: RevocationMode::Off,
                crl_grace: Duration::ZERO,
                rules: CaRules::default(),
            };
            let asks = Asks { ocsp: OcspMode::Require, ..Asks::default() };
            let ca = Arc::new(ClientCa::new(settings).unwrap().0.asking(asks));
            Self { root, ca, clock: TokioClock(Instant::now()), entropy: SeededEntropy::new(1) }
        }

        fn query(&self, responders: &[&str]) -> Query {
            self.about(&self.client(responders))
        }

        fn client(&self, responders: &[&str]) -> Made {
            let ocsp = [0x06, 8, 0x2b, 6, 1, 5, 5, 7, 0x30, 1];
            let access = |url: &&str| der(0x30, &[ocsp.to_vec(), der(0x86, url.as_bytes())].concat());
            let accesses: Vec<u8> = responders.iter().flat_map(access).collect();
            Recipe::client("Alice")
                .extension(&[1, 3, 6, 1, 5, 5, 7, 1, 1], false, der(0x30, &accesses))
                .signed_by(&self.root)
        }

        fn about(&self, leaf: &Made) -> Query {
            let trust = Trust::new(vec![Arc::clone(&self.ca)], Pins::default());
            let judged = judge_asking(&PeerChain(vec![leaf.der.clone()]), &trust, &|_| None, self.clock.now().wall);
            *judged.unwrap_err().query.unwrap()
        }

        /// Asks; how long it took, and what is known then.
        async fn ask(&self, responders: &Responders, query: &Query) -> (Duration, Option<Known>) {
            let began = Instant::now();
            responders.ask(query, Round::begin(&self.clock), &self.clock, &self.entropy).await;
            (began.elapsed(), responders.known(query, self.clock.now().wall))
        }
    }

    fn on_this_machine() -> Responders {
        Responders { named: Whence::Configuration, ..Responders::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_responder_that_a_certificate_names_on_this_machine_is_not_asked() {
        let (listener, url) = silent().await;
        let (asker, responders) = (Asker::new("staff"), Responders::default());
        let (took, known) = asker.ask(&responders, &asker.query(&[&url])).await;
        assert!(took < ASK_TIME && matches!(known, Some(Known::Unavailable(_))), "{took:?} {known:?}");
        let came = tokio::time::timeout(Duration::from_millis(1), listener.accept()).await;
        assert!(came.is_err(), "nobody came");
    }

    /// Connections are taken by the kernel, and nobody ever answers.
    async fn silent() -> (TcpListener, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        (listener, url)
    }

    /// Says to everybody that it can't now.
    async fn unwilling() -> String {
        let (listener, url) = silent().await;
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n").await;
            }
        });
        url
    }

    #[tokio::test(start_paused = true)]
    async fn however_many_responders_hang_a_round_ends_after_its_time() {
        let ((_first, one), (_second, two)) = (silent().await, silent().await);
        let (asker, responders) = (Asker::new("staff"), on_this_machine());
        let query = asker.query(&[&one, &two]);
        let (took, known) = asker.ask(&responders, &query).await;
        assert!((ASK_TIME..ASK_TIME * 3 / 2).contains(&took), "{took:?}");
        assert!(matches!(known, Some(Known::Unavailable(_))), "{known:?}");
        // That there was no answer is known for a while, and nobody is asked meanwhile.
        assert_eq!(asker.ask(&responders, &query).await, (Duration::ZERO, known));
        tokio::time::advance(UNAVAILABLE).await;
        assert!(asker.ask(&responders, &query).await.0 >= ASK_TIME);
    }

    #[tokio::test(start_paused = true)]
    async fn one_ca_whose_responder_hangs_takes_no_place_from_another() {
        let ((_listener, hangs), answers) = (silent().await, unwilling().await);
        let (guests, staff, responders) = (Asker::new("guests"), Asker::new("staff"), on_this_machine());
        let hanging: Vec<Query> = (0..=ASKING_MAX).map(|_| guests.query(&[&hangs])).collect();
        let others = async {
            tokio::task::yield_now().await;
            let (took, known) = staff.ask(&responders, &staff.query(&[&answers])).await;
            assert!(
                took < Duration::from_secs(1) && matches!(known, Some(Known::Unavailable(_))),
                "{took:?} {known:?}"
            );
        };
        let all = futures_util::future::join_all(hanging.iter().map(|query| guests.ask(&responders, query)));
        let (all, ()) = tokio::join!(all, others);
        let asked = all.iter().filter(|(_, known)| known.is_some()).count();
        // Who had no place has learned nothing, and waited no longer than the others.
        assert_eq!((asked, all.len()), (ASKING_MAX, ASKING_MAX + 1));
        assert!(all.iter().all(|(took, _)| *took < ASK_TIME * 3 / 2), "{all:?}");
    }

    /// A question under a CA of this name, for a responder at this URL.
    fn query(ca: &str, url: &str) -> Box<Query> {
        let root = Recipe::ca("Root").self_signed();
        let alice = Recipe::client("Alice").signed_by(&root);
        let settings = ClientCaSettings {
            name: ca.into(),
            certificates: vec![root.der.clone()],
            intermediates: Vec::new(),
            crls: Vec::new(),
            revocation: RevocationMode::Off,
            crl_grace: Duration::ZERO,
            rules: CaRules::default(),
        };
        let asks = Asks { ocsp: OcspMode::IfAvailable, ocsp_url: HttpUrl::parse(url).ok(), ..Asks::default() };
        let ca = Arc::new(ClientCa::new(settings).unwrap().0.asking(asks));
        let trust = Trust::new(vec![ca], Pins::default());
        let chain = PeerChain(vec![alice.der.clone()]);
        judge_asking(&chain, &trust, &|_| None, WallTime::from_seconds(NOW)).unwrap_err().query.unwrap()
    }

    fn at(seconds: i64) -> WallTime {
        WallTime::from_seconds(NOW + seconds)
    }

    #[test]
    fn what_came_of_a_question_is_known_for_its_time_and_revoked_for_longer() {
        let (responders, query) = (Responders::default(), query("staff", "http://127.0.0.1/"));
        let reading = |status, of| Reading { status, of: at(of), until: at(of + 60) };
        assert_eq!(responders.known(&query, at(0)), None);
        responders.settle(&query, Err(AskFault::Nobody), at(0));
        assert_eq!(responders.known(&query, at(29)), Some(Known::Unavailable(at(30))));
        assert_eq!(responders.known(&query, at(30)), None, "then it is asked again");
        responders.settle(&query, Ok((reading(Revoked, 40), Vec::new())), at(40));
        assert_eq!(responders.last_word(&query, at(50)), Known::Answer(Revoked, at(100)), "the answer at hand");
        // An older one that says otherwise is none; and nobody answers.
        for answered in [Ok((reading(Good, 30), Vec::new())), Err(AskFault::Nobody)] {
            responders.settle(&query, answered, at(110));
            assert_eq!(responders.known(&query, at(111)), Some(Known::Answer(Revoked, at(140))));
        }
        assert_eq!(responders.last_word(&query, at(150)), Known::Answer(Revoked, at(180)));
    }

    #[tokio::test(start_paused = true)]
    async fn who_had_no_place_or_too_little_time_has_learned_nothing_and_leaves_nothing() {
        // It takes connections, and never says a word.
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", silent.local_addr().unwrap());
        let (staff, guests) = (query("staff", &url), query("guests", &url));
        let (responders, entropy) = (Responders::default(), SeededEntropy::new(1));
        let clock = ManualClock::at(at(0));
        let round = Round::begin(&clock);
        clock.advance(ASK_TIME - FAIR_TIME + Duration::from_millis(1));
        responders.ask(&staff, round, &clock, &entropy).await;
        assert_eq!(responders.known(&staff, clock.now().wall), None, "asked for less than is fair");
        let asked = Instant::now();
        responders.ask(&staff, Round::begin(&clock), &clock, &entropy).await;
        assert!(asked.elapsed() >= ASK_TIME && asked.elapsed() < ASK_TIME + Duration::from_secs(1));
        assert!(matches!(responders.known(&staff, clock.now().wall), Some(Known::Unavailable(_))));
        // All places of one CA are taken: its own wait in vain, and another's do not wait.
        clock.advance(UNAVAILABLE);
        let places = responders.places.of(staff.ca());
        let _taken = places.acquire_many(u32::try_from(ASKING_MAX).unwrap()).await.unwrap();
        responders.ask(&staff, Round::begin(&clock), &clock, &entropy).await;
        assert_eq!(responders.known(&staff, clock.now().wall), None);
        responders.ask(&guests, Round::begin(&clock), &clock, &entropy).await;
        assert!(matches!(responders.known(&guests, clock.now().wall), Some(Known::Unavailable(_))));
        assert!(locked(&responders.asking).is_empty(), "nobody asks any more");
    }

    /// A file that nobody reads from: whoever opens it hangs, as on a disk that does not answer; until this is dropped.
    struct Hanging(PathBuf);

    impl Hanging {
        fn at(path: PathBuf) -> Self {
            let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR);
            rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, 0).unwrap();
            Self(path)
        }
    }

    impl Drop for Hanging {
        fn drop(&mut self) {
            // Both ends at once: who opens it, does, and finds its end.
            let _ = std::fs::OpenOptions::new().read(true).write(true).open(&self.0);
        }
    }

    fn keeping_in(folder: &std::path::Path) -> Responders {
        Responders { named: Whence::Configuration, ..Responders::keeping_in(folder.to_owned()) }
    }

    #[tokio::test]
    async fn a_disk_that_hangs_holds_nobody_beyond_the_round_and_takes_one_thread() {
        let (folder, query) = (tempfile::tempdir().unwrap(), query("staff", "http://127.0.0.1/"));
        let (responders, path) = (keeping_in(folder.path()), kept::path(folder.path(), &query));
        let hanging = Hanging::at(path.with_extension("new"));
        let moment = Duration::from_millis(50);
        for _ in 0..3 {
            let keeping = responders.keep(&query, Revoked, b"answer".to_vec(), at(0), moment);
            assert!(tokio::time::timeout(ASK_TIME, keeping).await.is_ok(), "it waits beyond its time");
            assert_eq!(responders.writes.available_permits(), 0, "one writes, and hangs");
        }
        drop(hanging);
        let all = Arc::clone(&responders.writes);
        let _free = tokio::time::timeout(ASK_TIME, all.acquire()).await.unwrap().unwrap();
    }

    /// Where the answer came in the last moment of its round, nothing was left for the disk, and it was told as one that hangs.
    #[tokio::test]
    async fn what_comes_when_the_round_is_all_but_over_is_on_disk_when_it_is_answered() {
        let folder = tempfile::tempdir().unwrap();
        let asker = Asker::new("staff");
        let (listener, url) = silent().await;
        let alice = asker.client(&[&url]);
        let (query, responders) = (asker.about(&alice), keeping_in(folder.path()));
        let clock = ManualClock::at(at(0));
        let round = Round::begin(&clock);
        let times = (NOW - 60, NOW + 3600);
        let octets = ocsp_answer(&asker.root.der, &asker.root.key, &alice.der, OcspStatus::Revoked, times);
        let path = kept::path(folder.path(), &query);
        let busy = Arc::clone(&responders.writes).acquire_owned().await.unwrap();
        let answering = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            clock.advance(ASK_TIME);
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/ocsp-response\r\n";
            let whole = [format!("{head}Content-Length: {}\r\n\r\n", octets.len()).as_bytes(), &octets].concat();
            stream.write_all(&whole).await.unwrap();
            // The disk is busy for a moment.
            tokio::time::sleep(Duration::from_millis(20)).await;
            drop(busy);
        };
        tokio::join!(responders.ask(&query, round, &clock, &asker.entropy), answering);
        assert!(path.exists());
    }

    /// It is remembered all the same, and counts from then on.
    #[tokio::test]
    async fn what_a_slow_disk_gives_when_nobody_waits_any_more_is_known_then() {
        let (responders, query) = (Responders::default(), query("staff", "http://127.0.0.1/"));
        let (give, given) = std::sync::mpsc::sync_channel(1);
        let reading = Reading { status: Revoked, of: at(0), until: at(60) };
        let recall = responders.remember(&query, at(0), move || given.recv().ok());
        assert!(tokio::time::timeout(Duration::from_millis(10), recall).await.is_err());
        responders.settle(&query, Err(AskFault::Nobody), at(0));
        assert_eq!(responders.known(&query, at(1)), Some(Known::Unavailable(at(30))));
        give.send(reading).unwrap();
        let _read = responders.reads.acquire_many(u32::try_from(READS).unwrap()).await.unwrap();
        assert_eq!(responders.known(&query, at(1)), Some(Known::Answer(Revoked, at(30))));
    }

    /// What lies on a disk that hangs is not waited for so long that the responder can't be asked.
    #[tokio::test]
    async fn a_disk_that_hangs_leaves_time_to_ask() {
        let (asker, folder) = (Asker::new("staff"), tempfile::tempdir().unwrap());
        let (query, responders) = (asker.query(&[&unwilling().await]), keeping_in(folder.path()));
        let _hanging = Hanging::at(kept::path(folder.path(), &query));
        let (took, known) = asker.ask(&responders, &query).await;
        assert!(took >= RECALL_TIME && took < ASK_TIME - FAIR_TIME, "{took:?}");
        assert!(matches!(known, Some(Known::Unavailable(_))), "it was asked: {known:?}");
        assert_eq!(responders.reads.available_permits(), READS - 1, "one reads, and hangs");
    }

    #[test]
    fn a_question_fits_into_a_url_or_is_not_asked_so() {
        let url = HttpUrl::parse("http://ocsp.example.com/").unwrap();
        let asked = in_url(&url, &[0xfb, 0xff, 0xfe, 0x01]).unwrap();
        assert_eq!(asked.to_string(), "http://ocsp.example.com/%2B%2F%2F%2BAQ%3D%3D");
        assert_eq!(in_url(&url, &[0; 200]), None);
    }
}
