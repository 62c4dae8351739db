//! An HTTP server on loopback that says what the test puts there: CRLs, redirections, errors, silence. It counts what it is asked.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

use super::PATIENCE;

/// What is said to whoever asks for a path.
#[derive(Clone, Debug)]
pub enum Page {
    /// These octets, with this ETag; who has it already is told so.
    Octets(Vec<u8>, &'static str),
    /// It lies elsewhere.
    Moved(String),
    /// An error of the server.
    Broken,
    /// So many octets are promised, and fewer come.
    CutShort,
    /// Nothing is said, as long as the client stays.
    Silence,
}

/// One request: its path, and the ETag that it came with.
pub type Asked = (String, Option<String>);

#[derive(Default)]
struct Site {
    pages: Mutex<HashMap<String, Page>>,
    asked: Mutex<Vec<Asked>>,
    news: Condvar,
}

/// The server; it ends with the test.
pub struct Web {
    pub address: SocketAddr,
    site: Arc<Site>,
}

impl Web {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, site) = (listener.local_addr().unwrap(), Arc::new(Site::default()));
        let serving = Arc::clone(&site);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let site = Arc::clone(&serving);
                // A client that goes away is its own business.
                std::thread::spawn(move || site.serve(stream));
            }
        });
        Self { address, site }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Puts a page there, in the place of another.
    pub fn put(&self, path: &str, page: Page) {
        self.site.pages.lock().unwrap().insert(path.to_owned(), page);
    }

    /// What was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.site.asked.lock().unwrap().clone()
    }

    /// Waits for a request that is like this, from the given one on.
    pub fn wait_for(&self, from: usize, is_it: impl Fn(&Asked) -> bool) {
        let asked = self.site.asked.lock().unwrap();
        let missing = |asked: &mut Vec<Asked>| !asked.iter().skip(from).any(&is_it);
        let (asked, waited) = self.site.news.wait_timeout_while(asked, PATIENCE, missing).unwrap();
        assert!(!waited.timed_out(), "never asked: {asked:?}");
    }
}

impl Site {
    fn serve(&self, stream: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let (mut line, mut etag, mut length) = (String::new(), None, 0);
        reader.read_line(&mut line).ok()?;
        let path = line.split(' ').nth(1)?.to_owned();
        loop {
            let mut field = String::new();
            reader.read_line(&mut field).ok()?;
            match field.trim_end().split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("if-none-match") => etag = Some(value.to_owned()),
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.parse().ok()?,
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        // Before the answer: whoever has that may count.
        self.asked.lock().unwrap().push((path.clone(), etag.clone()));
        self.news.notify_all();
        let page = self.pages.lock().unwrap().get(&path).cloned();
        let (status, fields, octets) = match page {
            Some(Page::Silence) => {
                std::io::copy(&mut reader, &mut std::io::sink()).ok()?;
                return None;
            }
            None => ("404 Not Found", String::new(), Vec::new()),
            Some(Page::Broken) => ("503 Service Unavailable", String::new(), Vec::new()),
            Some(Page::Moved(to)) => ("302 Found", format!("Location: {to}\r\n"), Vec::new()),
            Some(Page::Octets(_, tag)) if etag.as_deref() == Some(tag) => {
                ("304 Not Modified", String::new(), Vec::new())
            }
            Some(Page::Octets(octets, tag)) => ("200 OK", format!("ETag: {tag}\r\n"), octets),
            Some(Page::CutShort) => ("200 OK", "X-Cut: short\r\n".to_owned(), b"-----BEGIN X509 CRL-----".to_vec()),
        };
        let promised = if fields.contains("X-Cut") { octets.len() + 1000 } else { octets.len() };
        let head = format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {promised}\r\nConnection: close\r\n\r\n");
        let mut stream = stream;
        stream.write_all(head.as_bytes()).ok()?;
        stream.write_all(&octets).ok()?;
        Some(())
    }
}
