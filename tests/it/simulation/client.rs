//! Clients that submit, one message after another, and note what they were promised.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use sealpost::doors::Place;
use sealpost::house::House;
use sealpost::intake::{self, Peer};
use sealpost::tls::{Negotiated, PeerChain};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream};
use tokio::time::sleep;

use super::account::{Account, Submission};
use super::world::Dice;
use crate::dialog::cast::Cast;
use crate::dialog::tls::IMPLICIT;

/// Who submits: one has a limit, one waits for approval, one is not always known.
const PERSONAS: [&str; 6] = ["alice", "alice", "bob", "metered", "novice", "zoe"];

/// Submits as long as the life lasts.
pub(super) async fn submit_on(house: Arc<House>, dice: Arc<Dice>, account: Arc<Mutex<Account>>) {
    loop {
        sleep(dice.seconds(1500)).await;
        // How a visit ended is told by what was noted.
        let _ = visit(&house, &dice, &account).await;
    }
}

/// Why a visit ended early: the connection broke, or the relay had something to say.
#[derive(Debug)]
struct Over;

impl From<std::io::Error> for Over {
    fn from(_: std::io::Error) -> Self {
        Self
    }
}

async fn visit(house: &Arc<House>, dice: &Dice, account: &Mutex<Account>) -> Result<(), Over> {
    let persona = dice.pick(&PERSONAS);
    let mut wire = Wire::connect(house, persona);
    wire.expect("220").await?;
    wire.say("EHLO client.example\r\n").await?;
    wire.expect("250").await?;
    for _ in 0..=dice.draw(3) {
        let submission = account.lock().unwrap().draw(persona, dice);
        submit(&mut wire, dice, account, submission).await?;
    }
    wire.say("QUIT\r\n").await?;
    wire.expect("221").await?;
    Ok(())
}

async fn submit(wire: &mut Wire, dice: &Dice, account: &Mutex<Account>, submission: Submission) -> Result<(), Over> {
    let wishes = submission.wishes;
    let mut envelope = vec![format!("MAIL FROM:<{}>{}\r\n", submission.sender, wishes.of_mail())];
    let to = |recipient: &&str| format!("RCPT TO:<{recipient}>{}\r\n", wishes.of_recipient());
    envelope.extend(submission.recipients.iter().map(to));
    let by_chunks = dice.one_in(3);
    if !by_chunks {
        envelope.push("DATA\r\n".to_owned());
    }
    let pipelined = dice.one_in(2);
    if pipelined {
        wire.say(&envelope.concat()).await?;
    }
    let mut taken = submission.recipients.len();
    for command in &envelope {
        if !pipelined {
            wire.say(command).await?;
        }
        let reply = wire.reply().await?;
        // Only while the client waits does the upstream speak to it, and only of one who does not exist.
        if reply.starts_with("550 5.1.1 Upstream said") && command.contains("<never@") {
            account.lock().unwrap().refused(submission.number, "never@example.net");
            taken -= 1;
        } else if command == "DATA\r\n" && taken == 0 {
            assert!(reply.starts_with("554 5.5.1"), "{reply:?}");
            wire.say("RSET\r\n").await?;
            return wire.expect("250").await;
        } else {
            is_due(&reply, if command == "DATA\r\n" { "354" } else { "250" })?;
        }
    }
    if by_chunks && taken == 0 {
        wire.say("RSET\r\n").await?;
        return wire.expect("250").await;
    }
    let message = if by_chunks { last_chunk(wire, dice, submission.octets()).await? } else { submission.stuffed() };
    if dice.one_in(10) {
        let part = usize::try_from(dice.draw(message.len() as u64)).unwrap();
        wire.stream.get_mut().write_all(&message[..part]).await?;
        return Err(Over);
    }
    // From here on the relay may have it, whatever it says.
    account.lock().unwrap().ended(submission.number);
    wire.stream.get_mut().write_all(&message).await?;
    if dice.one_in(20) {
        return Err(Over);
    }
    let reply = wire.reply().await?;
    let promise = reply.strip_prefix("250 2.0.0 Accepted, ").or_else(|| reply.strip_prefix("250 2.0.0 Relayed, "));
    match promise.and_then(|rest| rest.split_once("id=")) {
        Some((_, id)) => {
            let id = id.split(';').next().unwrap();
            account.lock().unwrap().acknowledged(submission.number, id.trim_end());
        }
        None if reply.starts_with('4') => {}
        None => panic!("an honest message is answered {reply:?}"),
    }
    Ok(())
}

/// Sends all chunks of a message but the last, which is what is left to be written.
async fn last_chunk(wire: &mut Wire, dice: &Dice, message: Vec<u8>) -> Result<Vec<u8>, Over> {
    let mut rest = &message[..];
    for _ in 0..dice.draw(4) {
        let (chunk, behind) = rest.split_at(usize::try_from(dice.draw(rest.len() as u64 + 1)).unwrap());
        wire.say(&format!("BDAT {}\r\n", chunk.len())).await?;
        wire.stream.get_mut().write_all(chunk).await?;
        wire.expect("250").await?;
        rest = behind;
    }
    Ok([format!("BDAT {} LAST\r\n", rest.len()).as_bytes(), rest].concat())
}

struct Wire {
    stream: BufReader<DuplexStream>,
}

impl Wire {
    fn connect(house: &Arc<House>, persona: &str) -> Self {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let chain = Cast::get().chain(persona).unwrap().map(PeerChain);
        let tls = Negotiated { version: "TLSv1.3", cipher: "TLS_AES_256_GCM_SHA384".to_owned(), key_exchange: None };
        let client = SocketAddr::from(([192, 0, 2, 50], 40_000));
        let peer = Peer { client, tls, chain: chain.into(), exporter: None, door: IMPLICIT };
        let (serving, drain) = (Arc::clone(house), house.tasks.drain());
        house.tasks.spawn("connection", Box::pin(intake::converse(theirs, peer, serving, drain, Place::apart())));
        Self { stream: BufReader::new(ours) }
    }

    async fn say(&mut self, text: &str) -> Result<(), Over> {
        Ok(self.stream.get_mut().write_all(text.as_bytes()).await?)
    }

    /// The last line of a reply.
    async fn reply(&mut self) -> Result<String, Over> {
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line).await? == 0 {
                return Err(Over);
            }
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(line);
            }
        }
    }

    async fn expect(&mut self, code: &str) -> Result<(), Over> {
        is_due(&self.reply().await?, code)
    }
}

fn is_due(reply: &str, code: &str) -> Result<(), Over> {
    if reply.starts_with(code) {
        return Ok(());
    }
    assert!(reply.starts_with('4'), "{reply:?} where {code} was due");
    Err(Over)
}
