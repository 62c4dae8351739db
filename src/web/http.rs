//! One HTTP exchange, for CRLs and OCSP: plain HTTP/1.1 to the host that the URL names (RFC 9110, RFC 9112).
//!
//! Everything has a limit: time in all, octets of the body, redirections. Names are looked up by the system; no proxy is asked.
//! Never: sends anything but what it is given; follows a redirection to anything but http, nor of a question by POST; goes where who says the URL may
//! not lead (`reach`): else whoever writes one, or answers for it, could have this machine ask its neighbours.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, LazyLock};
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
use tokio::sync::Semaphore;

use super::reach::{Reach, Whence};
use super::shares::Shares;
use crate::tls::points::{HttpUrl, UrlFault};

/// Redirections that are followed.
const REDIRECTIONS_MAX: usize = 3;
/// The longest validator (ETag, Last-Modified) that is kept, octets.
const VALIDATOR_OCTETS_MAX: usize = 256;
/// Octets that hyper may hold of a response's head.
const HEAD_OCTETS_MAX: usize = 64 * 1024;
/// Name look-ups at once.
const LOOKUPS_MAX: usize = 64;
/// Of them those of one CA, so that one whose names are never answered for holds no other's up.
const LOOKUPS_OF_CA_MAX: usize = 4;

static LOOKUPS: LazyLock<LookUps> = LazyLock::new(|| LookUps::new(LOOKUPS_MAX, LOOKUPS_OF_CA_MAX));

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
    Connect(io::Error),
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
    #[error("a question is not asked again elsewhere, and the server answered {0}")]
    RedirectedQuestion(StatusCode),
    #[error("redirected to {0}, an address of a network that is nearer than who says so")]
    RedirectedInside(IpAddr),
    #[error(
        "a certificate's URL leads to {0}, an address of this machine or link; where that is meant, name its host in crl_urls or ocsp_url"
    )]
    NamedInside(IpAddr),
    #[error("redirected more than {REDIRECTIONS_MAX} times")]
    RedirectedTooOften,
}

/// Asks for a CA, within the limits, redirections included. `whence`: who says the URL.
pub(crate) async fn exchange(
    ca: &Arc<str>,
    url: &HttpUrl,
    whence: Whence,
    ask: &Ask,
    limits: Limits,
) -> Result<Answer, HttpFault> {
    match tokio::time::timeout(limits.time, follow(ca, url.clone(), whence, ask, limits)).await {
        Ok(answer) => answer,
        Err(_) => Err(HttpFault::TooSlow(limits.time)),
    }
}

async fn follow(
    ca: &Arc<str>,
    mut url: HttpUrl,
    mut whence: Whence,
    ask: &Ask,
    limits: Limits,
) -> Result<Answer, HttpFault> {
    for _ in 0..=REDIRECTIONS_MAX {
        let stream = connect(ca, &url, whence).await?;
        let reach = Reach::of(stream.peer_addr().map_err(HttpFault::Connect)?.ip());
        match once(stream, &url, ask, limits).await? {
            Turn::Answer(answer) => return Ok(answer),
            Turn::Elsewhere(location) => url = url.follow(&location).map_err(HttpFault::Redirected)?,
        }
        // The last one: by way of the Internet nothing leads back inside.
        whence = Whence::Redirection(reach);
    }
    Err(HttpFault::RedirectedTooOften)
}

/// What one exchange came to.
enum Turn {
    Answer(Answer),
    Elsewhere(String),
}

/// Connects to the first of the host's addresses that takes us. The address that was looked at is the
/// one connected to: a name is looked up once.
async fn connect(ca: &Arc<str>, url: &HttpUrl, whence: Whence) -> Result<TcpStream, HttpFault> {
    let addresses = look_up(ca, url).await.map_err(HttpFault::Connect)?;
    if let Some(address) = first_inside(&addresses, whence) {
        return Err(match whence {
            Whence::Redirection(_) => HttpFault::RedirectedInside(address),
            Whence::Certificate | Whence::Configuration => HttpFault::NamedInside(address),
        });
    }
    TcpStream::connect(addresses.as_slice()).await.map_err(HttpFault::Connect)
}

/// The first address to which the URL may not lead; one is enough, for the system may try all of a name's.
fn first_inside(addresses: &[SocketAddr], whence: Whence) -> Option<IpAddr> {
    addresses.iter().map(SocketAddr::ip).find(|&address| !whence.may_lead_to(Reach::of(address)))
}

async fn look_up(ca: &Arc<str>, url: &HttpUrl) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = url.host().parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, url.port())]);
    }
    let (host, port) = (url.host().to_owned(), url.port());
    LOOKUPS.run(ca, move || (host.as_str(), port).to_socket_addrs().map(Iterator::collect)).await
}

/// Look-ups under way. The system's own can't be ended: one that nobody waits for any more holds its places until it comes back.
struct LookUps {
    all: Arc<Semaphore>,
    shares: Shares,
}

impl LookUps {
    fn new(all: usize, of_ca: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), shares: Shares::new(of_ca) }
    }

    async fn run<T: Send + 'static>(
        &self,
        ca: &Arc<str>,
        looking: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let place = self.shares.of(ca).acquire_owned().await.map_err(io::Error::other)?;
        let one_of_all = Arc::clone(&self.all).acquire_owned().await.map_err(io::Error::other)?;
        let looked = tokio::task::spawn_blocking(move || {
            let _places = (place, one_of_all);
            looking()
        });
        looked.await.map_err(io::Error::other)?
    }
}

async fn once(stream: TcpStream, url: &HttpUrl, ask: &Ask, limits: Limits) -> Result<Turn, HttpFault> {
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(HEAD_OCTETS_MAX).handshake(TokioIo::new(stream)).await?;
    let request = request(url, ask)?;
    let speaking = async {
        match read(sender.send_request(request).await?, limits.octets).await? {
            (status, Turn::Elsewhere(_)) if matches!(ask, Ask::Post { .. }) => {
                Err(HttpFault::RedirectedQuestion(status))
            }
            (_, turn) => Ok(turn),
        }
    };
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

async fn read(response: Response<Incoming>, octets_max: usize) -> Result<(StatusCode, Turn), HttpFault> {
    let said = |name: HeaderName| {
        let value = response.headers().get(name)?.to_str().ok()?;
        (value.len() <= VALIDATOR_OCTETS_MAX).then(|| value.to_owned())
    };
    let status = response.status();
    if status == StatusCode::NOT_MODIFIED {
        return Ok((status, Turn::Answer(Answer::NotModified)));
    }
    if status.is_redirection() {
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let turn = location.map(|location| Turn::Elsewhere(location.to_owned())).ok_or(HttpFault::Status(status));
        return Ok((status, turn?));
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
    Ok((status, Turn::Answer(Answer::Octets(octets, validators))))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// A server on loopback that says one thing to whoever comes; how many came.
    async fn redirecting(location: &str, came: &AtomicUsize) -> (HttpUrl, impl Future<Output = ()>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = HttpUrl::parse(&format!("http://{}/x", listener.local_addr().unwrap())).unwrap();
        let head = format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
        let serving = async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                came.fetch_add(1, Ordering::Relaxed);
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(head.as_bytes()).await;
            }
        };
        (url, serving)
    }

    /// The fault, and how often the server was asked.
    async fn fault(location: &str, ask: Ask) -> (HttpFault, usize) {
        let came = AtomicUsize::new(0);
        let (url, serving) = redirecting(location, &came).await;
        let (ca, limits) = ("staff".into(), Limits { time: Duration::from_secs(20), octets: 1000 });
        let fault = tokio::select! {
            answer = exchange(&ca, &url, Whence::Configuration, &ask, limits) => answer.unwrap_err(),
            () = serving => unreachable!(),
        };
        (fault, came.load(Ordering::Relaxed))
    }

    #[tokio::test]
    async fn a_question_is_not_repeated_elsewhere_and_nothing_leads_to_other_near_networks() {
        let get = || Ask::Get(Validators::default());
        let post = Ask::Post { octets: vec![1], kind: "application/ocsp-request" };
        assert!(matches!(fault("/y", post).await, (HttpFault::RedirectedQuestion(StatusCode::FOUND), 1)));
        // Loopback may lead to loopback: whoever wrote the URL meant it.
        assert!(matches!(fault("/y", get()).await, (HttpFault::RedirectedTooOften, 4)));
        for near in ["http://169.254.169.254/latest/meta-data", "http://10.0.0.1/", "http://[fe80::1]/"] {
            assert!(matches!(fault(near, get()).await, (HttpFault::RedirectedInside(_), 1)), "{near}");
        }
    }

    #[tokio::test]
    async fn no_certificate_has_this_machine_ask_itself_or_its_link() {
        let came = AtomicUsize::new(0);
        let (here, serving) = redirecting("/y", &came).await;
        let limits = Limits { time: Duration::from_secs(20), octets: 1000 };
        let asking = async {
            for url in
                [here.to_string(), format!("http://localhost:{}/", here.port()), "http://169.254.169.254/".to_owned()]
            {
                let url = HttpUrl::parse(&url).unwrap();
                let fault =
                    exchange(&"staff".into(), &url, Whence::Certificate, &Ask::Get(Validators::default()), limits)
                        .await;
                assert!(matches!(fault, Err(HttpFault::NamedInside(_))), "{url}: {fault:?}");
            }
        };
        tokio::select! {
            () = asking => {}
            () = serving => unreachable!(),
        }
        assert_eq!(came.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn one_address_inside_is_enough_and_the_url_itself_may_lead_anywhere() {
        let addresses = ["198.41.0.4:80", "10.0.0.1:80", "127.0.0.1:80"].map(|text| text.parse().unwrap());
        for (from, inside) in [
            (Whence::Configuration, None),
            (Whence::Certificate, Some("127.0.0.1")),
            (Whence::Redirection(Reach::Public), Some("10.0.0.1")),
            (Whence::Redirection(Reach::Private), Some("127.0.0.1")),
            (Whence::Redirection(Reach::Loopback), Some("10.0.0.1")),
        ] {
            assert_eq!(
                first_inside(&addresses, from).map(|address| address.to_string()).as_deref(),
                inside,
                "{from:?}"
            );
        }
    }

    #[tokio::test]
    async fn names_of_one_ca_that_nobody_answers_for_hold_up_no_other_ca_and_keep_their_places() {
        let (guests, staff): (Arc<str>, Arc<str>) = ("guests".into(), "staff".into());
        let look_ups = LookUps::new(3, 2);
        let (answer, answers) = std::sync::mpsc::sync_channel::<()>(2);
        let (begin, begun) = tokio::sync::oneshot::channel::<()>();
        let (answers, begin) = (Arc::new(std::sync::Mutex::new(answers)), std::sync::Mutex::new(Some(begin)));
        let hanging = |begin: Option<tokio::sync::oneshot::Sender<()>>| {
            let answers = Arc::clone(&answers);
            look_ups.run(&guests, move || {
                drop(begin);
                answers.lock().unwrap().recv().map_err(io::Error::other)
            })
        };
        {
            let (mut first, mut second) = (Box::pin(hanging(begin.lock().unwrap().take())), Box::pin(hanging(None)));
            assert!(futures_util::poll!(&mut first).is_pending() && futures_util::poll!(&mut second).is_pending());
            assert!(begun.await.is_err());
        }
        // Nobody waits for the two any more, and they hold their places all the same.
        let mut third = Box::pin(look_ups.run(&guests, || Ok(3)));
        assert!(futures_util::poll!(&mut third).is_pending());
        let of_staff = tokio::time::timeout(Duration::from_secs(60), look_ups.run(&staff, || Ok(7))).await;
        assert_eq!(of_staff.unwrap().unwrap(), 7);
        assert!(futures_util::poll!(&mut third).is_pending());
        answer.send(()).unwrap();
        assert_eq!(third.await.unwrap(), 3);
        answer.send(()).unwrap();
    }
}
