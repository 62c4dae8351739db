//! One HTTP exchange, for CRLs and OCSP: plain HTTP/1.1 to the host that the URL names (RFC 9110, RFC 9112).
//!
//! Everything has a limit: time in all, octets of the body, redirections. Names are looked up by the system; no proxy is asked.
//! Never: sends anything but what it is given; follows a redirection to anything but http.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{
    CONTENT_TYPE, ETAG, HOST, HeaderName, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, LOCATION, USER_AGENT,
};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::tls::points::{HttpUrl, UrlFault};

/// Redirections that are followed.
const REDIRECTIONS_MAX: usize = 3;
/// The longest validator (ETag, Last-Modified) that is kept, octets.
const VALIDATOR_OCTETS_MAX: usize = 256;
/// Octets that hyper may hold of a response's head.
const HEAD_OCTETS_MAX: usize = 64 * 1024;

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    /// What is there, unless it is what these validators are of.
    Get(Validators),
    /// An answer to these octets of this media type.
    Post {
        /// The octets.
        octets: Vec<u8>,
        /// Their media type.
        kind: &'static str,
    },
}

/// By what a server knows the version of what it gave (RFC 9110 §8.8).
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Validators {
    pub(crate) etag: Option<String>,
    pub(crate) modified: Option<String>,
}

/// How much is waited for and read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) time: Duration,
    pub(crate) octets: usize,
}

/// What came back.
#[derive(Debug)]
pub(crate) enum Answer {
    Octets(Vec<u8>, Validators),
    /// RFC 9110 §15.4.5: it is what the validators are of.
    NotModified,
}

/// Why nothing came back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpFault {
    #[error("no connection: {0}")]
    Connect(std::io::Error),
    #[error("the server does not speak HTTP as it should: {0}")]
    Protocol(#[from] hyper::Error),
    #[error("the request can't be said in HTTP: {0}")]
    Request(#[from] hyper::http::Error),
    #[error("the server answered {0}")]
    Status(StatusCode),
    #[error("more than {0} octets")]
    TooLarge(usize),
    #[error("no whole answer within {} s", .0.as_secs())]
    TooSlow(Duration),
    #[error("redirected to what is not followed: {0}")]
    Redirected(UrlFault),
    #[error("redirected more than {REDIRECTIONS_MAX} times")]
    RedirectedTooOften,
}

/// Asks, within the limits, redirections included.
pub(crate) async fn exchange(url: &HttpUrl, ask: &Ask, limits: Limits) -> Result<Answer, HttpFault> {
    match tokio::time::timeout(limits.time, follow(url.clone(), ask, limits)).await {
        Ok(answer) => answer,
        Err(_) => Err(HttpFault::TooSlow(limits.time)),
    }
}

async fn follow(mut url: HttpUrl, ask: &Ask, limits: Limits) -> Result<Answer, HttpFault> {
    for _ in 0..=REDIRECTIONS_MAX {
        match once(&url, ask, limits).await? {
            Turn::Answer(answer) => return Ok(answer),
            Turn::Elsewhere(location) => url = url.follow(&location).map_err(HttpFault::Redirected)?,
        }
    }
    Err(HttpFault::RedirectedTooOften)
}

/// What one exchange came to.
enum Turn {
    Answer(Answer),
    Elsewhere(String),
}

async fn once(url: &HttpUrl, ask: &Ask, limits: Limits) -> Result<Turn, HttpFault> {
    let stream = TcpStream::connect((url.host(), url.port())).await.map_err(HttpFault::Connect)?;
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(HEAD_OCTETS_MAX).handshake(TokioIo::new(stream)).await?;
    let request = request(url, ask)?;
    let speaking = async { read(sender.send_request(request).await?, limits.octets).await };
    // The connection moves only while it is polled; its own fault shows in what is spoken over it.
    tokio::select! {
        turn = speaking => turn,
        never = async { let _ = connection.await; std::future::pending().await } => never,
    }
}

fn request(url: &HttpUrl, ask: &Ask) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
    let (method, body) = match ask {
        Ask::Get(_) => ("GET", Bytes::new()),
        Ask::Post { octets, .. } => ("POST", Bytes::copy_from_slice(octets)),
    };
    let mut request = Request::builder()
        .method(method)
        .uri(url.path())
        .header(HOST, url.authority())
        .header(USER_AGENT, concat!("sealpost/", env!("CARGO_PKG_VERSION")));
    match ask {
        Ask::Get(Validators { etag, modified }) => {
            for (name, value) in [(IF_NONE_MATCH, etag), (IF_MODIFIED_SINCE, modified)] {
                if let Some(value) = value {
                    request = request.header(name, value.as_str());
                }
            }
        }
        Ask::Post { kind, .. } => request = request.header(CONTENT_TYPE, *kind),
    }
    request.body(Full::new(body))
}

async fn read(response: Response<Incoming>, octets_max: usize) -> Result<Turn, HttpFault> {
    let said = |name: HeaderName| {
        let value = response.headers().get(name)?.to_str().ok()?;
        (value.len() <= VALIDATOR_OCTETS_MAX).then(|| value.to_owned())
    };
    let status = response.status();
    if status == StatusCode::NOT_MODIFIED {
        return Ok(Turn::Answer(Answer::NotModified));
    }
    if status.is_redirection() {
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        return location.map(|location| Turn::Elsewhere(location.to_owned())).ok_or(HttpFault::Status(status));
    }
    if status != StatusCode::OK {
        return Err(HttpFault::Status(status));
    }
    let validators = Validators { etag: said(ETAG), modified: said(LAST_MODIFIED) };
    let mut body = response.into_body();
    let mut octets = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            if octets.len().saturating_add(data.len()) > octets_max {
                return Err(HttpFault::TooLarge(octets_max));
            }
            octets.extend_from_slice(&data);
        }
    }
    Ok(Turn::Answer(Answer::Octets(octets, validators)))
}
