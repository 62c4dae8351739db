//! OCSP responders: asked after the handshake, their answers kept (RFC 6960 appendix A).
//!
//! One question about one certificate is under way at a time; whoever else wants the answer waits for it. An answer is kept until it no longer
//! counts; that there was none, for a little while. Never: decides what an answer means (`tls::verify::judge` does); keeps one that did not
//! verify; waits longer than [`ASK_TIME`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::sync::{Mutex as Turn, Semaphore};

use super::http::{self, Answer, Ask, HttpFault, Limits, Validators};
use crate::identity::Digest256;
use crate::sys::{Clock, Entropy, WallTime};
use crate::tls::ocsp::{ANSWER_OCTETS_MAX, Known, NONCE_OCTETS, OcspFault, Query};
use crate::tls::points::HttpUrl;

/// For one certificate's answer, all its responders together.
const ASK_TIME: Duration = Duration::from_secs(5);
/// So long a responder that did not answer is not asked again about the same certificate.
const UNAVAILABLE: Duration = Duration::from_secs(30);
/// Answers that are kept.
const ANSWERS_MAX: usize = 10_000;
/// Questions under way at once.
const ASKING_MAX: usize = 64;
/// The longest URL of a question asked by GET (RFC 5019 §5).
const GET_OCTETS_MAX: usize = 255;

/// The answers at hand, and the way to new ones.
#[derive(Debug)]
pub struct Responders {
    answers: Mutex<HashMap<Digest256, Known>>,
    asking: Mutex<HashMap<Digest256, Arc<Turn<()>>>>,
    places: Semaphore,
}

impl Default for Responders {
    fn default() -> Self {
        Self { answers: Mutex::default(), asking: Mutex::default(), places: Semaphore::new(ASKING_MAX) }
    }
}

#[derive(Debug, thiserror::Error)]
enum AskFault {
    #[error(transparent)]
    Http(#[from] HttpFault),
    #[error(transparent)]
    Answer(#[from] OcspFault),
    #[error("no answer within {} s", ASK_TIME.as_secs())]
    TooSlow,
    #[error("no responder is named: not by the certificate, not by ocsp_url")]
    Nobody,
}

impl Responders {
    /// The answer at hand that counts now.
    pub fn known(&self, query: &Query, now: WallTime) -> Option<Known> {
        locked(&self.answers).get(&query.key()).copied().filter(|known| now < known.until())
    }

    /// Asks, unless somebody has just done so; what came of it is known then.
    pub async fn ask(&self, query: &Query, clock: &dyn Clock, entropy: &dyn Entropy) {
        let asking = Asking::begin(&self.asking, query.key());
        let _mine = asking.turn.lock().await;
        if self.known(query, clock.now().wall).is_some() {
            return;
        }
        let known = match tokio::time::timeout(ASK_TIME, self.answer(query, clock, entropy)).await {
            Ok(Ok(known)) => known,
            Ok(Err(fault)) => unavailable(query, &fault, clock),
            Err(_) => unavailable(query, &AskFault::TooSlow, clock),
        };
        self.keep(query.key(), known, clock.now().wall);
    }

    fn keep(&self, key: Digest256, known: Known, now: WallTime) {
        let mut answers = locked(&self.answers);
        if answers.len() >= ANSWERS_MAX {
            answers.retain(|_, known| now < known.until());
        }
        if answers.len() >= ANSWERS_MAX {
            // All of them count still: the one that ends first is asked for again.
            let first = answers.iter().min_by_key(|(_, known)| known.until()).map(|(key, _)| *key);
            if let Some(first) = first {
                answers.remove(&first);
            }
        }
        answers.insert(key, known);
    }

    async fn answer(&self, query: &Query, clock: &dyn Clock, entropy: &dyn Entropy) -> Result<Known, AskFault> {
        let _place = self.places.acquire().await;
        let mut last = AskFault::Nobody;
        for url in query.urls() {
            match one(&url, query, clock, entropy).await {
                Ok(known) => return Ok(known),
                Err(fault) => last = fault,
            }
        }
        Err(last)
    }
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
async fn one(url: &HttpUrl, query: &Query, clock: &dyn Clock, entropy: &dyn Entropy) -> Result<Known, AskFault> {
    let limits = Limits { time: ASK_TIME, octets: ANSWER_OCTETS_MAX };
    let mut nonce = [0; NONCE_OCTETS];
    entropy.fill(&mut nonce);
    let octets = query.request(Some(&nonce)).ok_or(OcspFault::Malformed)?;
    let post = Ask::Post { octets, kind: "application/ocsp-request" };
    match http::exchange(url, &post, limits).await {
        Err(HttpFault::Status(status)) if status.is_client_error() => {
            let octets = query.request(None).ok_or(OcspFault::Malformed)?;
            let Some(url) = in_url(url, &octets) else { return Err(HttpFault::Status(status).into()) };
            let answer = http::exchange(&url, &Ask::Get(Validators::default()), limits).await?;
            read(query, &answer, None, clock)
        }
        answer => read(query, &answer?, Some(&nonce), clock),
    }
}

fn read(
    query: &Query,
    answer: &Answer,
    nonce: Option<&[u8; NONCE_OCTETS]>,
    clock: &dyn Clock,
) -> Result<Known, AskFault> {
    let Answer::Octets(octets, _) = answer else { return Err(OcspFault::Malformed.into()) };
    let (status, until) = query.read(octets, nonce, clock.now().wall)?;
    tracing::debug!(%query, ?status, until = until.rfc3339(), "an OCSP responder answered");
    Ok(Known::Answer(status, until))
}

/// RFC 6960 A.1: base64 behind the URL, what has a meaning in URLs escaped.
fn in_url(url: &HttpUrl, request: &[u8]) -> Option<HttpUrl> {
    let text = STANDARD.encode(request).replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    let whole = format!("{}/{text}", url.to_string().trim_end_matches('/'));
    HttpUrl::parse(&whole).ok().filter(|_| whole.len() <= GET_OCTETS_MAX)
}

fn unavailable(query: &Query, fault: &AskFault, clock: &dyn Clock) -> Known {
    tracing::warn!(%query, %fault, "an OCSP responder gave no answer that counts");
    Known::Unavailable(clock.now().wall.after(UNAVAILABLE))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_fits_into_a_url_or_is_not_asked_so() {
        let url = HttpUrl::parse("http://ocsp.example.com/").unwrap();
        let asked = in_url(&url, &[0xfb, 0xff, 0xfe, 0x01]).unwrap();
        assert_eq!(asked.to_string(), "http://ocsp.example.com/%2B%2F%2F%2BAQ%3D%3D");
        assert_eq!(in_url(&url, &[0; 200]), None);
    }
}
