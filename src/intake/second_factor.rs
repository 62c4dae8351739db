//! What AUTH asks for: passwords are hashed on a bounded pool, attempts are counted, wrong ones answered late.
//!
//! Memory and threads for hashing are taken before a hash begins and given back when it has ended, even when the client has gone meanwhile.
//! A late answer holds a timer, no thread. Never: logs a password; answers an attempt that was not counted.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use super::Peer;
use crate::attempts::{Attempts, Ticket, TooMany};
use crate::credentials::scram::ScramFault;
use crate::credentials::{self, Credential, Ground, Judged, Named, PasswordHash, Proof, Wrong};
use crate::house::House;
use crate::identity::Identity;
use crate::session::{Attempt, Attempted, Secret};
use crate::sys::Entropy;

/// KiB that all hashes at a time may take: 256 MiB.
const HASHING_KIB: u32 = 256 * 1024;
/// Hashes at a time.
const HASHING_THREADS: usize = 4;
/// How long an attempt waits for its turn before 454.
const TURN: Duration = Duration::from_secs(5);
/// Octets of our part of SCRAM's nonce.
const NONCE_OCTETS: usize = 18;

/// What all connections share for the second factor.
#[derive(Debug)]
pub struct Desk {
    attempts: Attempts,
    memory: Arc<Semaphore>,
    threads: Arc<Semaphore>,
    /// For salts of users who are nobody: made at start, known to nobody.
    fake: [u8; 32],
}

impl Desk {
    /// An empty desk.
    pub fn new(entropy: &dyn Entropy) -> Self {
        let mut fake = [0; 32];
        entropy.fill(&mut fake);
        Self {
            attempts: Attempts::default(),
            memory: Arc::new(Semaphore::new(usize::try_from(HASHING_KIB).unwrap_or(Semaphore::MAX_PERMITS))),
            threads: Arc::new(Semaphore::new(HASHING_THREADS)),
            fake,
        }
    }
}

/// A thread and memory for one hash; given back when dropped.
#[derive(Debug)]
struct Turn {
    _thread: OwnedSemaphorePermit,
    _memory: OwnedSemaphorePermit,
}

impl Desk {
    /// A turn for a hash of so many KiB; `None` when there was none in time. First come, first served.
    async fn turn(&self, kib: u32) -> Option<Turn> {
        let turn = async {
            let thread = Arc::clone(&self.threads).acquire_owned().await.ok()?;
            let memory = Arc::clone(&self.memory).acquire_many_owned(kib.min(HASHING_KIB)).await.ok()?;
            Some(Turn { _thread: thread, _memory: memory })
        };
        timeout(TURN, turn).await.ok().flatten()
    }
}

/// What a SCRAM exchange stands on, and our part of its nonce.
pub(super) fn ground(house: &House, identity: &Identity, named: Named, user: &str) -> (Ground, String) {
    let snapshot = house.snapshot();
    let ground = credentials::ground(snapshot.credentials.of(identity.name()), named, user, &house.desk.fake);
    let mut nonce = [0; NONCE_OCTETS];
    house.entropy.fill(&mut nonce);
    (ground, STANDARD_NO_PAD.encode(nonce))
}

/// Looks at what was shown. Wrong answers come late, and too many are not looked at.
pub(super) async fn attempt(house: &House, peer: &Peer, identity: &Identity, attempt: Attempt) -> Attempted {
    let key = identity.certificate().spki;
    let begun = house.desk.attempts.begin(identity.name(), key, peer.client.ip(), house.now().mono);
    let ticket = match begun {
        Ok(ticket) => ticket,
        Err(TooMany) => return Attempted::TooMany,
    };
    let (judged, user) = match attempt {
        Attempt::Scram { named, user, outcome } => {
            (Some(outcome.map_or_else(|fault| Judged::Wrong(of_scram(fault, named)), Judged::Right)), user)
        }
        Attempt::Password { named, user, password } => (judged(house, identity, named, password).await, user),
    };
    let Some(judged) = judged else {
        ticket.not_looked_at(house.now().mono);
        return Attempted::Busy;
    };
    match shown(house, &ticket, judged) {
        Ok(proof) => {
            ticket.right(house.now().mono);
            Attempted::Right(proof)
        }
        Err(wrong) => {
            sleep(ticket.wrong(house.now().mono)).await;
            Attempted::Wrong(wrong.of_whom(house.snapshot().credentials.of(&user).is_some()))
        }
    }
}

/// The proof fails for another user as for another password.
fn of_scram(fault: ScramFault, named: Named) -> Wrong {
    match (fault, named) {
        (ScramFault::Proof, Named::Another) => Wrong::User,
        (ScramFault::Proof, Named::Itself) => Wrong::Password,
        (fault, _) => Wrong::Scram(fault),
    }
}

/// What has been shown; a code that another certificate has used is none.
fn shown(house: &House, ticket: &Ticket, judged: Judged) -> Result<Proof, Wrong> {
    match judged {
        Judged::Right(proof) => Ok(proof),
        Judged::RightWith(proof, step) if ticket.takes_code(step, house.now().wall) => Ok(proof),
        Judged::RightWith(..) => Err(Wrong::UsedCode),
        Judged::Wrong(wrong) => Err(wrong),
    }
}

/// Hashes on the pool; `None` when there was no turn in time.
async fn judged(house: &House, identity: &Identity, named: Named, password: Secret) -> Option<Judged> {
    let snapshot = house.snapshot();
    let credential: Option<Credential> = snapshot.credentials.of(identity.name()).cloned();
    drop(snapshot);
    let factor = identity.grant().second_factor;
    let kib = credential.as_ref().map_or(PasswordHash::memory_kib_of_nobody(), Credential::memory_kib);
    let turn = house.desk.turn(kib).await?;
    // Taken when the hash begins: a code may have grown old while waiting.
    let now = house.now().wall;
    let hashing = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        credentials::judge(credential.as_ref(), factor, named, password.expose(), now)
    });
    hashing.await.ok()
}

#[cfg(test)]
mod tests;
