//! Many clients that send a large message each, all at the same time: to its middle, where they wait for each other, and then to its end.

use std::cell::{Cell, RefCell};
use std::io::Read as _;
use std::rc::Rc;
use std::time::Instant;

use crate::body;
use crate::load::session::{Door, Said, Session};
use crate::load::tally::Tally;
use crate::{Client, Upload, head};

/// Lines written at once.
const PIECE: u64 = 64;

struct Work {
    upload: Upload,
    clients: Vec<Client>,
    door: Door,
    next: Cell<u64>,
    tally: RefCell<Tally>,
}

/// A session with its message, half of which has been sent.
struct Begun {
    number: u64,
    session: Session,
    began: Instant,
}

/// Opens the sessions, sends half of each message, prints a line, waits until the standard input says go on or ends, sends the other half, and prints
/// what came of it.
pub async fn upload(upload: Upload, clients: Vec<Client>) {
    let door = Door::new(&upload.target);
    let work = Rc::new(Work { upload, clients, door, next: Cell::new(0), tally: RefCell::new(Tally::begin()) });
    let opening = (0..crate::OPENING).map(|_| open(Rc::clone(&work)));
    let opened: Vec<(u64, Session)> = all(opening).await.into_iter().flatten().collect();
    work.tally.borrow_mut().measure();
    let begun = all(opened.into_iter().map(|(number, session)| begin(Rc::clone(&work), number, session))).await;
    let begun: Vec<Begun> = begun.into_iter().flatten().collect();
    println!("{{\"event\": \"middle\", \"sessions\": {}}}", begun.len());
    // The sessions are silent, so nothing waits for this thread.
    let _ = std::io::stdin().read(&mut [0]);
    all(begun.into_iter().map(|begun| end(Rc::clone(&work), begun))).await;
    let tally = work.tally.borrow();
    if let Some(file) = &work.upload.answered {
        tally.write_answered(file);
    }
    println!("{}", tally.figures());
}

async fn all<T: 'static>(works: impl Iterator<Item = impl Future<Output = T> + 'static>) -> Vec<T> {
    let works: Vec<_> = works.map(tokio::task::spawn_local).collect();
    let mut done = Vec::new();
    for work in works {
        done.push(work.await.unwrap());
    }
    done
}

async fn open(work: Rc<Work>) -> Vec<(u64, Session)> {
    let mut opened = Vec::new();
    loop {
        let number = work.next.get();
        if number >= work.upload.sessions {
            return opened;
        }
        work.next.set(number + 1);
        match work.door.open(&work.client(number).tls).await {
            Ok(session) => opened.push((number, session)),
            Err(fault) => work.tally.borrow_mut().broke(Some(number), &fault),
        }
    }
}

async fn begin(work: Rc<Work>, number: u64, mut session: Session) -> Option<Begun> {
    let began = Instant::now();
    let sending = async {
        let sender = &work.client(number).address;
        session.begin(sender).await?;
        let mut head = head(&work.upload.run, sender, number);
        head.push_str(&body::marker(&work.upload.run, number, work.lines()));
        session.pour(head.as_bytes()).await?;
        pour(&mut session, number, 0..work.lines() / 2).await
    };
    match sending.await {
        Ok(()) => Some(Begun { number, session, began }),
        Err(fault) => {
            work.tally.borrow_mut().broke(Some(number), &fault);
            None
        }
    }
}

async fn end(work: Rc<Work>, begun: Begun) {
    let Begun { number, mut session, began } = begun;
    let sending = async {
        pour(&mut session, number, work.lines() / 2..work.lines()).await?;
        session.finish().await
    };
    let said: std::io::Result<Said> = sending.await;
    match said {
        Ok(said) => work.tally.borrow_mut().answered(number, &said, began.elapsed()),
        Err(fault) => return work.tally.borrow_mut().broke(Some(number), &fault),
    }
    if let Err(fault) = session.quit().await {
        work.tally.borrow_mut().broke(None, &fault);
    }
}

async fn pour(session: &mut Session, number: u64, lines: std::ops::Range<u64>) -> std::io::Result<()> {
    let mut next = lines.start;
    while next < lines.end {
        let end = lines.end.min(next + PIECE);
        let piece: Vec<u8> = (next..end).flat_map(|line| body::line(number, line)).collect();
        session.pour(&piece).await?;
        next = end;
    }
    Ok(())
}

impl Work {
    fn client(&self, number: u64) -> &Client {
        &self.clients[number as usize % self.clients.len()]
    }

    /// Lines of each body.
    fn lines(&self) -> u64 {
        self.upload.octets / body::LINE as u64
    }
}
