//! Many clients in the middle of a large message each: they send part of it, and then neither go on nor leave.

use std::cell::Cell;
use std::io::Read as _;
use std::rc::Rc;
use std::time::Duration;

use crate::load::session::Session;
use crate::{Client, Upload};

/// Octets written at once: whole lines of a body.
const PIECE: usize = 64 * 72;

/// Opens the sessions, sends each one's part, prints a line, and holds them until the standard input ends.
pub async fn upload(upload: Rc<Upload>, clients: Vec<Client>) {
    let clients = Rc::new(clients);
    let opening = crate::OPENING.min(upload.sessions);
    let mut sessions = Vec::new();
    let next = Rc::new(Cell::new(0));
    let opened: Vec<_> = (0..opening)
        .map(|_| tokio::task::spawn_local(open(Rc::clone(&upload), Rc::clone(&clients), Rc::clone(&next))))
        .collect();
    for opened in opened {
        sessions.extend(opened.await.unwrap());
    }
    // All of them at the same time.
    let sending: Vec<_> = sessions
        .into_iter()
        .map(|(mut session, sender)| {
            let upload = Rc::clone(&upload);
            tokio::task::spawn_local(async move {
                let line = b"0123456789012345678901234567890123456789012345678901234567890123456789\r\n";
                let piece = line.repeat(PIECE / line.len());
                let head = format!("From: <{sender}>\r\nDate: Tue, 24 Nov 2026 09:00:00 +0000\r\n\r\n");
                let sending = async {
                    session.begin(&sender).await?;
                    session.pour(head.as_bytes()).await?;
                    for _ in 0..upload.sent / PIECE as u64 {
                        session.pour(&piece).await?;
                    }
                    std::io::Result::Ok(())
                };
                if let Err(fault) = sending.await {
                    // Once is enough, and nobody else need go on.
                    eprintln!("{fault}");
                    std::process::exit(1);
                }
                session
            })
        })
        .collect();
    let mut held = Vec::new();
    for sending in sending {
        held.push(sending.await.unwrap());
    }
    println!("{{\"sessions\": {}}}", held.len());
    // The sessions are silent, so nothing waits for this thread.
    let _ = std::io::stdin().read(&mut [0]);
}

async fn open(upload: Rc<Upload>, clients: Rc<Vec<Client>>, next: Rc<Cell<u64>>) -> Vec<(Session, String)> {
    let mut opened = Vec::new();
    loop {
        let number = next.get();
        if number >= upload.sessions {
            return opened;
        }
        next.set(number + 1);
        let client = &clients[number as usize % clients.len()];
        let (target, patience) = (&upload.target, Duration::from_secs(upload.target.patience));
        let session = Session::open(target.server, target.mode, &client.tls, patience).await.unwrap();
        opened.push((session, client.address.clone()));
    }
}
