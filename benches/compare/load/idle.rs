//! Many sessions that say nothing.

use std::cell::Cell;
use std::io::Read as _;
use std::rc::Rc;

use crate::load::session::Door;
use crate::{OPENING, Target, clients};

/// Opens the sessions, prints a line, and holds them until the standard input ends; prints how many of them could say goodbye then, for memory of
/// sessions that the server has left is none of theirs.
pub async fn idle(target: Target, sessions: u64) {
    let clients = Rc::new(clients(&target));
    let (door, next) = (Rc::new(Door::new(&target)), Rc::new(Cell::new(0)));
    let opening: Vec<_> = (0..OPENING)
        .map(|_| {
            let (door, clients, next) = (Rc::clone(&door), Rc::clone(&clients), Rc::clone(&next));
            tokio::task::spawn_local(async move {
                let mut opened = Vec::new();
                loop {
                    let number: u64 = next.get();
                    if number >= sessions {
                        return opened;
                    }
                    next.set(number + 1);
                    let client = &clients[number as usize % clients.len()];
                    opened.push(door.open(&client.tls).await.unwrap());
                }
            })
        })
        .collect();
    let mut held = Vec::new();
    for opening in opening {
        held.extend(opening.await.unwrap());
    }
    println!("{{\"sessions\": {}}}", held.len());
    // The sessions are silent, so nothing waits for this thread.
    let _ = std::io::stdin().read(&mut [0]);
    let mut whole = 0;
    for session in held {
        whole += u64::from(session.quit().await.is_ok());
    }
    println!("{{\"whole\": {whole}}}");
}
