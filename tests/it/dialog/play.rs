//! Plays a script on a stage.
//!
//! A stage is anything that talks SMTP under these settings: the pure machines in memory, or the daemon over TLS.

use super::sasl;
use super::script::{Act, Expected, Opening, Script, Store, Wait};

/// A reply as it came over the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The code.
    pub code: u16,
    /// The lines behind the code, status included.
    pub lines: Vec<String>,
}

/// A message in custody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptMessage {
    /// The reverse path, without brackets.
    pub from: String,
    /// The forward paths, without brackets.
    pub to: Vec<String>,
    /// The octets as the client meant them, without what we put on top.
    pub octets: Vec<u8>,
}

/// Where scripts are played. `Err` from any of these says why the stage can't do it.
pub trait Stage {
    /// A setting of the server, before the first connection.
    fn set(&mut self, key: &str, value: &str) -> Result<(), String>;
    /// The clock goes on (or back) by so many seconds.
    fn clock(&mut self, seconds: i64) -> Result<(), String>;
    /// A new TCP connection, with `early` sent before anything is read.
    fn connect(&mut self, early: &[u8]) -> Result<(), String>;
    /// The TLS handshake on the connection at hand, as this persona.
    fn handshake(&mut self, persona: &str) -> Result<(), String>;
    /// A new connection with TLS from the first octet, as this persona.
    fn connect_implicit(&mut self, persona: &str) -> Result<(), String>;
    /// A new connection by way of a load balancer that vouches for this persona.
    fn connect_vouched(&mut self, persona: &str) -> Result<(), String>;
    /// Octets to the server, in one write.
    fn send(&mut self, octets: &[u8]) -> Result<(), String>;
    /// The next reply; none when the server says nothing more by itself.
    fn hear(&mut self) -> Option<Heard>;
    /// This reply is to be heard once more.
    fn unhear(&mut self, heard: Heard);
    /// Whether the server has closed the connection.
    fn is_closed(&mut self) -> bool;
    /// The persona's certificate is on its CA's CRL from now on.
    fn revoke(&mut self, persona: &str) -> Result<(), String>;
    /// The persona's identity is no longer in the roster.
    fn forget(&mut self, persona: &str) -> Result<(), String>;
    /// Everybody's credential is replaced by one of the same password.
    fn rekey(&mut self) -> Result<(), String>;
    /// What tls-exporter gives for the connection at hand.
    fn exporter(&mut self) -> Result<[u8; 32], String>;
    /// The calendar, in seconds.
    fn wall(&mut self) -> i64;
    /// How the store is from now on.
    fn store(&mut self, store: Store) -> Result<(), String>;
    /// The daemon begins to shut down.
    fn drain(&mut self) -> Result<(), String>;
    /// This deadline passes.
    fn wait(&mut self, wait: Wait) -> Result<(), String>;
    /// All messages in custody since the script began.
    fn kept(&mut self) -> Vec<KeptMessage>;
    /// The last audit line.
    fn audit(&mut self) -> Result<String, String>;
}

/// Plays the script; the fault says on which line what was otherwise than written.
pub fn play(script: &Script, stage: &mut dyn Stage) -> Result<(), String> {
    let mut last = None;
    for (line, act) in &script.steps {
        perform(act, stage, &mut last).map_err(|fault| format!("{}:{line}: {fault}", script.name))?;
    }
    match stage.hear() {
        Some(heard) => Err(format!("{}: at the end the server said more: {heard:?}", script.name)),
        None => Ok(()),
    }
}

fn perform(act: &Act, stage: &mut dyn Stage, last: &mut Option<Heard>) -> Result<(), String> {
    match act {
        Act::Set(key, value) => stage.set(key, value),
        Act::Clock(seconds) => stage.clock(*seconds),
        Act::Connect { opening, persona, early } => connect(*opening, persona, early, stage, last),
        Act::Send(octets) => stage.send(octets),
        Act::Expect(expected) => {
            *last = stage.hear();
            agree(last.as_ref(), expected)
        }
        Act::Has(text) if lines(last).any(|line| line.contains(text)) => Ok(()),
        Act::Has(text) => Err(format!("no line of the reply has {text:?}: {last:?}")),
        Act::HasNot(text) if lines(last).any(|line| line.contains(text)) => {
            Err(format!("a line of the reply has {text:?}: {last:?}"))
        }
        Act::HasNot(_) => Ok(()),
        Act::Silent => silent(stage),
        Act::Closed => {
            silent(stage)?;
            if stage.is_closed() { Ok(()) } else { Err("the connection is still open".to_owned()) }
        }
        Act::Open => {
            silent(stage)?;
            if stage.is_closed() { Err("the connection is closed".to_owned()) } else { Ok(()) }
        }
        Act::Revoke(persona) => stage.revoke(persona),
        Act::Forget(persona) => stage.forget(persona),
        Act::Rekey => stage.rekey(),
        Act::Bound => stage.exporter().map(drop),
        Act::Scram { mechanism, user, password } => sasl::scram(stage, mechanism, user, password),
        Act::Code { user, password, off } => sasl::code(stage, user, password, *off),
        Act::Store(store) => stage.store(*store),
        Act::Drain => stage.drain(),
        Act::Wait(wait) => stage.wait(*wait),
        Act::Kept { count, from, to } => kept(&stage.kept(), *count, from.as_deref(), to),
        Act::Body(octets) => body(&stage.kept(), octets),
        Act::Audit(words) => audit(&stage.audit()?, words),
    }
}

fn connect(
    opening: Opening,
    persona: &str,
    early: &[u8],
    stage: &mut dyn Stage,
    last: &mut Option<Heard>,
) -> Result<(), String> {
    match opening {
        Opening::Plain => stage.connect(early),
        Opening::Implicit => stage.connect_implicit(persona),
        Opening::Vouched => stage.connect_vouched(persona),
        Opening::Handshake => up_to_handshake(persona, stage),
        Opening::Tls => {
            up_to_handshake(persona, stage)?;
            stage.send(b"EHLO client.example\r\n")?;
            *last = stage.hear();
            agree(last.as_ref(), &code(250))
        }
    }
}

fn up_to_handshake(persona: &str, stage: &mut dyn Stage) -> Result<(), String> {
    stage.connect(b"")?;
    agree(stage.hear().as_ref(), &code(220))?;
    stage.send(b"EHLO client.example\r\n")?;
    agree(stage.hear().as_ref(), &code(250))?;
    stage.send(b"STARTTLS\r\n")?;
    agree(stage.hear().as_ref(), &code(220))?;
    stage.handshake(persona)
}

fn code(code: u16) -> Expected {
    Expected { code, status: None, text: String::new() }
}

fn agree(heard: Option<&Heard>, expected: &Expected) -> Result<(), String> {
    let Some(heard) = heard else { return Err(format!("expected {expected}, heard nothing")) };
    let status = expected.status.as_deref().unwrap_or_default();
    let good = heard.code == expected.code
        && heard.lines.iter().all(|line| status.is_empty() || line.split(' ').next() == Some(status))
        && heard.lines.iter().any(|line| line.contains(&expected.text));
    if good { Ok(()) } else { Err(format!("expected {expected}, heard {heard:?}")) }
}

fn lines(heard: &Option<Heard>) -> impl Iterator<Item = &String> {
    heard.iter().flat_map(|heard| &heard.lines)
}

fn silent(stage: &mut dyn Stage) -> Result<(), String> {
    match stage.hear() {
        Some(heard) => Err(format!("nothing should have been said, heard {heard:?}")),
        None => Ok(()),
    }
}

fn kept(messages: &[KeptMessage], count: usize, from: Option<&str>, to: &[String]) -> Result<(), String> {
    let right = messages.len() == count
        && from.is_none_or(|from| messages.last().is_some_and(|last| last.from == from && last.to == to));
    if right { Ok(()) } else { Err(format!("expected {count} kept from {from:?} to {to:?}, found {messages:?}")) }
}

fn body(messages: &[KeptMessage], octets: &[u8]) -> Result<(), String> {
    match messages.last() {
        Some(last) if last.octets == octets => Ok(()),
        Some(last) => Err(format!("the message kept is \"{}\"", last.octets.escape_ascii())),
        None => Err("no message was kept".to_owned()),
    }
}

fn audit(line: &str, words: &[String]) -> Result<(), String> {
    match words.iter().find(|word| !line.contains(word.as_str())) {
        Some(word) => Err(format!("the audit line has no {word:?}: {line}")),
        None => Ok(()),
    }
}
