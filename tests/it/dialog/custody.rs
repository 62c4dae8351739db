//! The queue of the stage in memory: the real one, on a simulated disk, driven inline.

use std::sync::Arc;
use std::time::Duration;

use sealpost::mail::{Custody, Envelope};
use sealpost::queue::{Claim, Custodian, Deposit, Driving, Incoming, Queue, QueueSettings, TraceFacts};
use sealpost::session::{NoRoom, Session};
use sealpost::sys::disk::{Fault, SimulatedDisk};
use sealpost::sys::{ManualClock, SeededEntropy, WallTime};

use super::play::KeptMessage;
use super::script::Store;
use crate::recipe::NOW;

/// More operations than any script makes.
const FOR_EVER: u64 = 1 << 40;

/// See the module.
pub(crate) struct MemoryQueue {
    /// How it is, as the script says.
    pub(crate) state: Store,
    runtime: tokio::runtime::Runtime,
    queue: Queue,
    clock: Arc<ManualClock>,
    disk: SimulatedDisk,
    incoming: Option<(Incoming, Envelope)>,
    claims: Vec<Claim>,
    kept: Vec<KeptMessage>,
}

impl MemoryQueue {
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let disk = SimulatedDisk::new(1);
        let clock = Arc::new(ManualClock::at(WallTime::from_seconds(NOW)));
        let settings = QueueSettings { driving: Driving::Inline, ..QueueSettings::new("/queue") };
        let (queue, _) = {
            let (_inside, clock) = (runtime.enter(), Arc::clone(&clock));
            Queue::open(settings, Arc::new(disk.clone()), clock, Arc::new(SeededEntropy::new(1))).unwrap()
        };
        let (claims, kept) = (Vec::new(), Vec::new());
        Self { state: Store::Fine, runtime, queue, clock, disk, incoming: None, claims, kept }
    }

    /// Whatever was being received is nobody's any more.
    pub(crate) fn forget(&mut self) {
        self.incoming = None;
    }

    pub(crate) fn admit(&mut self, identity: &str, envelope: Envelope) -> Result<(), NoRoom> {
        if self.state == Store::Full {
            return Err(NoRoom::Full("the script says so".to_owned()));
        }
        if self.state == Store::Crowded {
            return Err(NoRoom::Share("the script says so".to_owned()));
        }
        // Each message a second later, so that they are due in the order in which they came.
        self.clock.advance(Duration::from_secs(1));
        let incoming = self.runtime.block_on(self.queue.admit(identity, envelope.parameters().size));
        self.incoming = Some((incoming.map_err(|fault| NoRoom::Full(fault.to_string()))?, envelope));
        Ok(())
    }

    pub(crate) fn write(&mut self, octets: &[u8]) -> Result<(), NoRoom> {
        let Some((incoming, _)) = &mut self.incoming else { return Err(NoRoom::Broken) };
        match self.state {
            Store::Failing => Err(NoRoom::Broken),
            Store::Fine | Store::Full | Store::Crowded | Store::Broken => {
                self.runtime.block_on(incoming.write(octets)).map_err(|_| NoRoom::Broken)
            }
        }
    }

    pub(crate) fn commit(&mut self, session: &Session, now: WallTime) -> Result<Custody, NoRoom> {
        let (incoming, envelope) = self.incoming.take().ok_or(NoRoom::Broken)?;
        if self.state == Store::Broken {
            self.disk.fail(1, FOR_EVER, Fault::Error);
        }
        let committed = self.runtime.block_on(incoming.commit(deposit(session, envelope, now)));
        self.disk.mend();
        committed.map_err(|_| NoRoom::Broken)
    }

    /// All messages so far.
    pub(crate) fn kept(&mut self) -> Vec<KeptMessage> {
        // The queue runs inline: a claim that is not there at once is not there.
        let next = || async { tokio::time::timeout(Duration::ZERO, self.queue.claim()).await };
        while let Ok(claim) = self.runtime.block_on(next()) {
            let octets = self.runtime.block_on(whole(&claim));
            let envelope = &claim.record().envelope;
            self.kept.push(KeptMessage {
                from: envelope.reverse_path().as_str().to_owned(),
                to: envelope.recipients().iter().map(|to| to.forward_path.as_str().to_owned()).collect(),
                octets,
            });
            self.claims.push(claim);
        }
        self.kept.clone()
    }
}

async fn whole(claim: &Claim) -> Vec<u8> {
    let mut body = claim.body();
    let mut octets = Vec::new();
    while let Some(piece) = body.next().await.unwrap() {
        octets.extend_from_slice(&piece);
    }
    octets
}

fn deposit(session: &Session, envelope: Envelope, now: WallTime) -> Deposit {
    let identity = session.identity();
    let certificate = identity.certificate();
    let trace = session.trace();
    Deposit {
        envelope,
        custodian: Custodian {
            identity: identity.name().to_owned(),
            ca: identity.ca().map(str::to_owned),
            fingerprint: certificate.fingerprint.to_string(),
            chain: certificate.chain.clone(),
        },
        trace: TraceFacts {
            client: "192.0.2.1:40000".to_owned(),
            helo: trace.helo.to_owned(),
            protocol: trace.protocol.to_string(),
            tls: "TLSv1.3".to_owned(),
            arrived: now,
            message_id: session.transaction().and_then(|transaction| transaction.message_id()).map(str::to_owned),
        },
    }
}
