//! The next MTA of a measurement: takes every message as fast as it can, keeps none, and knows which came, how often, and when.
//!
//! `sink HOST:PORT [--delay MS]`. Messages are told apart by the Message-IDs of `load` (`<RUN.NUMBER@load.example>`), and every octet of a body is
//! compared with what its number makes it (`body.rs`). On its standard input it is asked, and answers with one JSON object each:
//!
//! - `wait RUN COUNT SECONDS`: what has come, as soon as so many different messages of the run have, or the time is over.
//! - `judge RUN FILE FROM UNTIL`: what has come, beside the numbers in FILE (one a line: those that were answered 250), and how many came between two
//!   moments of the wall clock.
//!
//! With a delay, what it hears counts only so much later: a round trip to an upstream far away. One thread, TCP without TLS.

#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::as_conversions,
    clippy::disallowed_methods,
    reason = "a program of the tests: what it meets unexpectedly must end it, and it has sockets and a clock of its own"
)]

mod body;

use std::cell::RefCell;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::io::BufRead as _;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use clap::Parser;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

/// A header longer than this is none of `load`, octets.
const HEAD_MAX: usize = 64 * 1024;
/// Octets taken from a socket at once.
const PIECE: usize = 64 * 1024;
/// Pieces of one connection that wait for the delay to pass.
const WAITING_MAX: usize = 64;
/// Lost messages that are told one by one.
const TOLD_MAX: usize = 20;

/// Takes every message as fast as it can.
#[derive(Clone, Parser)]
struct Arguments {
    /// Where to listen.
    listen: SocketAddr,
    /// How long what is heard takes to count, milliseconds: the round trip to an upstream far away.
    #[arg(long, default_value_t = 0)]
    delay: u64,
}

/// What came of one run.
#[derive(Default)]
struct Run {
    /// When each first came, seconds of the wall clock.
    numbers: HashMap<u64, f64>,
    duplicates: u64,
    /// Bodies that are not what their number makes them.
    changed: u64,
    octets: u64,
    last: Option<f64>,
}

#[derive(Default)]
struct Arrivals {
    runs: RefCell<HashMap<String, Run>>,
    /// Messages without a Message-ID of `load`: reports, for one.
    others: RefCell<u64>,
    news: Notify,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments = Arguments::parse();
    let listener = TcpListener::bind(arguments.listen).await.unwrap();
    println!("{{\"listening\": true}}");
    let arrivals = Rc::new(Arrivals::default());
    let (ask, mut questions) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            ask.send(line.unwrap()).unwrap();
        }
    });
    let local = tokio::task::LocalSet::new();
    local.spawn_local(accept(listener, Rc::clone(&arrivals), Duration::from_millis(arguments.delay)));
    local
        .run_until(async {
            while let Some(question) = questions.recv().await {
                println!("{}", answer(&question, &arrivals).await);
            }
        })
        .await;
}

async fn answer(question: &str, arrivals: &Arrivals) -> Value {
    let words: Vec<&str> = question.split_whitespace().collect();
    match words.as_slice() {
        ["wait", run, count, seconds] => {
            arrivals.wait(run, count.parse().unwrap(), Duration::from_secs_f64(seconds.parse().unwrap())).await;
            arrivals.tell(run, json!({}))
        }
        ["judge", run, file, from, until] => {
            let answered = std::fs::read_to_string(file).unwrap();
            let answered: HashSet<u64> = answered.lines().map(|line| line.parse().unwrap()).collect();
            let judged = arrivals.judge(run, &answered, from.parse().unwrap(), until.parse().unwrap());
            arrivals.tell(run, judged)
        }
        _ => panic!("wait RUN COUNT SECONDS or judge RUN FILE FROM UNTIL, not {question}"),
    }
}

impl Arrivals {
    fn unique(&self, run: &str) -> usize {
        self.runs.borrow().get(run).map_or(0, |run| run.numbers.len())
    }

    async fn wait(&self, run: &str, count: usize, time: Duration) {
        let deadline = Instant::now() + time;
        while self.unique(run) < count {
            let news = self.news.notified();
            if tokio::time::timeout_at(deadline, news).await.is_err() {
                break;
            }
        }
    }

    /// What is known of a run, with `more`.
    fn tell(&self, run: &str, mut more: Value) -> Value {
        let mut runs = self.runs.borrow_mut();
        let came = runs.entry(run.to_owned()).or_default();
        more["unique"] = json!(came.numbers.len());
        more["duplicates"] = json!(came.duplicates);
        more["changed"] = json!(came.changed);
        more["octets"] = json!(came.octets);
        more["last"] = json!(came.last);
        more["others"] = json!(*self.others.borrow());
        more
    }

    /// What was answered 250 and has not come, and the other way round (its answer was lost: no fault); what came between the two moments, and
    /// since the first of them.
    fn judge(&self, run: &str, answered: &HashSet<u64>, from: f64, until: f64) -> Value {
        let mut runs = self.runs.borrow_mut();
        let came = runs.entry(run.to_owned()).or_default();
        let lost: Vec<u64> = answered.iter().copied().filter(|number| !came.numbers.contains_key(number)).collect();
        json!({
            "lost": lost.len(),
            "lost_some": &lost[..lost.len().min(TOLD_MAX)],
            "unanswered": came.numbers.keys().filter(|number| !answered.contains(number)).count(),
            "before": came.numbers.values().filter(|at| **at < from).count(),
            "within": came.numbers.values().filter(|at| (from..until).contains(*at)).count(),
            "since": came.numbers.values().filter(|at| **at >= from).count(),
        })
    }

    fn came(&self, data: &Data) {
        match message_id(&data.head) {
            None => *self.others.borrow_mut() += 1,
            Some((name, number)) => {
                let mut runs = self.runs.borrow_mut();
                let run = runs.entry(name.clone()).or_default();
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
                match run.numbers.entry(number) {
                    Entry::Occupied(_) => run.duplicates += 1,
                    Entry::Vacant(place) => _ = place.insert(now),
                }
                run.changed += u64::from(!data.body.is_whole(&name, number));
                run.octets += data.octets;
                run.last = Some(now);
            }
        }
        self.news.notify_one();
    }
}

/// Run and number of a Message-ID that `load` made.
fn message_id(head: &[u8]) -> Option<(String, u64)> {
    let end = memchr::memmem::find(head, b"@load.example>")?;
    let start = memchr::memrchr(b'<', &head[..end])?;
    let (run, number) = std::str::from_utf8(&head[start + 1..end]).ok()?.rsplit_once('.')?;
    Some((run.to_owned(), number.parse().ok()?))
}

async fn accept(listener: TcpListener, arrivals: Rc<Arrivals>, delay: Duration) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let arrivals = Rc::clone(&arrivals);
        // A connection that breaks ends; what had not come whole does not count.
        tokio::task::spawn_local(async move {
            let _ = converse(stream, &arrivals, delay).await;
        });
    }
}

async fn converse(stream: TcpStream, arrivals: &Arrivals, delay: Duration) -> std::io::Result<()> {
    let (mut reading, mut writing) = stream.into_split();
    let mut dialogue = Dialogue::default();
    let mut replies = b"220 sink.test ESMTP\r\n".to_vec();
    if delay.is_zero() {
        let mut piece = vec![0; PIECE];
        loop {
            writing.write_all(&replies).await?;
            replies.clear();
            let count = reading.read(&mut piece).await?;
            if count == 0 || dialogue.hear(&piece[..count], arrivals, &mut replies) == Over::Yes {
                return writing.write_all(&replies).await;
            }
        }
    }
    let (hand, mut pieces) = mpsc::channel::<(Instant, Vec<u8>)>(WAITING_MAX);
    tokio::task::spawn_local(async move {
        let mut piece = vec![0; PIECE];
        while let Ok(count) = reading.read(&mut piece).await {
            if count == 0 || hand.send((Instant::now() + delay, piece[..count].to_vec())).await.is_err() {
                break;
            }
        }
    });
    writing.write_all(&replies).await?;
    while let Some((at, piece)) = pieces.recv().await {
        tokio::time::sleep_until(at).await;
        replies.clear();
        let over = dialogue.hear(&piece, arrivals, &mut replies);
        writing.write_all(&replies).await?;
        if over == Over::Yes {
            break;
        }
    }
    Ok(())
}

#[derive(PartialEq)]
enum Over {
    Yes,
    No,
}

/// The server's side of one connection.
#[derive(Default)]
struct Dialogue {
    /// What has come and is not understood yet.
    input: Vec<u8>,
    /// Recipients of the transaction.
    recipients: usize,
    data: Option<Data>,
}

/// A message that is being read.
#[derive(Default)]
struct Data {
    /// The header, its end among it once that has come.
    head: Vec<u8>,
    in_body: bool,
    body: body::Reader,
    octets: u64,
}

impl Data {
    fn take(&mut self, octets: &[u8]) {
        const END: &[u8] = b"\r\n\r\n";
        self.octets += octets.len() as u64;
        if self.in_body {
            return self.body.feed(octets);
        }
        let searched = self.head.len().saturating_sub(END.len() - 1);
        self.head.extend_from_slice(octets);
        if let Some(end) = memchr::memmem::find(&self.head[searched..], END) {
            let body = self.head.split_off(searched + end + END.len());
            self.body.feed(&body);
            self.in_body = true;
        }
        // Whatever comes now is of no message of ours.
        self.in_body |= self.head.len() > HEAD_MAX;
    }
}

impl Dialogue {
    fn hear(&mut self, piece: &[u8], arrivals: &Arrivals, replies: &mut Vec<u8>) -> Over {
        self.input.extend_from_slice(piece);
        loop {
            if self.data.is_some() {
                if !self.read_data(arrivals, replies) {
                    return Over::No;
                }
                continue;
            }
            let Some(end) = memchr::memmem::find(&self.input, b"\r\n") else { return Over::No };
            let line: Vec<u8> = self.input.drain(..end + 2).collect();
            let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
            let said: &[u8] = match verb.as_slice() {
                b"EHLO" => b"250-sink.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n250 SIZE 104857600\r\n",
                b"RCPT" => {
                    self.recipients += 1;
                    b"250 2.1.5 ok\r\n"
                }
                b"DATA" if self.recipients > 0 => {
                    self.data = Some(Data::default());
                    // The line before the first: a message may begin with the dot that ends it.
                    self.input.splice(..0, *b"\r\n");
                    b"354 go on\r\n"
                }
                b"DATA" => b"503 5.5.1 no recipients\r\n",
                b"QUIT" => {
                    replies.extend_from_slice(b"221 2.0.0 bye\r\n");
                    return Over::Yes;
                }
                _ => b"250 2.0.0 ok\r\n",
            };
            replies.extend_from_slice(said);
        }
    }

    /// Takes what has come of the message; whether that was its end.
    fn read_data(&mut self, arrivals: &Arrivals, replies: &mut Vec<u8>) -> bool {
        const END: &[u8] = b"\r\n.\r\n";
        let Some(data) = &mut self.data else { return false };
        let found = memchr::memmem::find(&self.input, END);
        // The beginning of an end stays for the next piece.
        let taken = found.map_or(self.input.len().saturating_sub(END.len() - 1), |end| end + 2);
        data.take(&self.input[..taken]);
        match found {
            None => {
                self.input.drain(..taken);
                false
            }
            Some(end) => {
                arrivals.came(data);
                self.input.drain(..end + END.len());
                self.data = None;
                self.recipients = 0;
                replies.extend_from_slice(b"250 2.0.0 taken\r\n");
                true
            }
        }
    }
}
